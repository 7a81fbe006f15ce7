"""Configuration of the reference platform.

The folder `data_dir` holds everything: keys, evidence, index. Nothing outside it is written.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec


class PlatformConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that the platform can be told. Sizes in bytes, times in the unit that the name ends with."""

    data_dir: str
    listen: str = "127.0.0.1:8443"
    """``address:port``; port 0 takes a free one. IPv6 in brackets."""
    name: str = "Fieldgate reference platform"
    """Organisation in the certificates and heading of the page."""
    public_names: list[str] = []
    """Further names and addresses for the server certificate."""
    certificate_file: str = ""
    """TLS certificate (chain) of the listener; empty: one is issued by the platform's own CA."""
    key_file: str = ""
    open_reading: bool = False
    """Whoever reaches the listener may read everything, without the operator token. Only on a loopback address."""
    enrolment_token_hours: int = 72
    gateway_certificate_days: int = 1096
    retain_days: int = 1096
    """Retain-until in receipts: received + this."""
    reserve_bytes: int = 268_435_456
    """Free space of the disk below which nothing is taken any more (507)."""
    gateway_quota_bytes: int = 0
    """Evidence of one gateway; 0: no quota."""
    upload_quota_bytes: int = 64_000_000_000
    """Unfinished uploads of one gateway."""
    uploads_max: int = 32
    """Unfinished uploads of one gateway, number."""
    upload_expiry_hours: int = 168
    upload_idle_s: int = 60
    """A PATCH that brings no byte for so long is ended; what came is kept."""
    bundle_max_bytes: int = 268_435_456
    artifact_max_bytes: int = 64_000_000_000
    connections_max: int = 512
    tsa: bool = False
    """Offer POST /tsa: a TEST time-stamping authority, worth nothing in court."""
    tsa_ca_files: list[str] = []
    """Roots of the recognised time-stamping authorities that the gateways use."""

    def listen_address(self) -> tuple[str, int]:
        """(host, port) of `listen`. Raises ValueError with a line for a person."""
        host, colon, port = self.listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"platform listen {self.listen!r}: expected address:port, such as 127.0.0.1:8443")
        return host, int(port)

    def check(self) -> None:
        """Raise ValueError with a line for a person where the settings cannot work together."""
        host, _ = self.listen_address()
        if self.open_reading and not _loopback(host):
            raise ValueError(
                f"platform open_reading: only on a loopback address, not on {host}; give people the operator token"
            )
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("platform certificate_file and key_file: give both or none")

    @property
    def folder(self) -> Path:
        """`data_dir` as a path."""
        return Path(self.data_dir)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
