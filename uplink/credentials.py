"""The files that the uplink needs: trusted CA, client certificate, bearer token; and the clock as a datetime."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.config import Config
from gateway.core.errors import ConfigError, Problem
from uplink.https_client import tls_context

TOKEN_MAX_BYTES: Final = 4096
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def tls_of(config: Config) -> ssl.SSLContext:
    """TLS towards the platform. Raises ConfigError for files that cannot be read or do not fit together."""
    uplink, keys = config.uplink, config.keys
    certificate_file = keys.certificate_file if uplink.client_certificate else ""
    try:
        return tls_context(uplink.ca_file, certificate_file, keys.key_file)
    except (OSError, ssl.SSLError) as error:
        files = " ".join(filter(None, [uplink.ca_file, certificate_file, certificate_file and keys.key_file]))
        message = f"not usable for TLS ({_words(error)}); expected PEM, and a certificate that fits the key"
        raise ConfigError([Problem(files or "uplink", 0, "", message)]) from None


def tls_of_authority(config: Config) -> ssl.SSLContext:
    """TLS towards a time-stamping authority: the system's authorities and the platform's own.

    A token proves itself by its signature and nonce, so TLS guards nothing but the conversation here.
    """
    context = tls_context("")
    try:
        if config.uplink.ca_file:
            context.load_verify_locations(config.uplink.ca_file)
    except (OSError, ssl.SSLError) as error:
        message = f"not usable for TLS ({_words(error)}); expected PEM"
        raise ConfigError([Problem(config.uplink.ca_file, 0, "uplink.ca_file", message)]) from None
    return context


class CredentialFiles:
    """The files behind `tls_of` and `read_token`, to notice that enrolment has replaced one."""

    def __init__(self, config: Config) -> None:
        uplink = config.uplink
        certificate_file = config.keys.certificate_file if uplink.client_certificate else ""
        self._files = [name for name in (uplink.ca_file, uplink.token_file, certificate_file) if name]
        self._seen = self._versions()

    def renewed(self) -> bool:
        """Whether a file is another than when this was made. One that is gone is not: what was read goes on."""
        return any(now is not None and now != seen for now, seen in zip(self._versions(), self._seen, strict=True))

    def _versions(self) -> list[tuple[int, int, int] | None]:
        return [_version(name) for name in self._files]


def _version(name: str) -> tuple[int, int, int] | None:
    try:
        status = Path(name).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_token(file: str, key: str) -> str:
    """The bearer token in `file`: one line of visible ASCII; "" where no file is configured. Raises ConfigError."""
    if not file:
        return ""
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(TOKEN_MAX_BYTES + 1).strip()
    except OSError as error:
        raise ConfigError([Problem(file, 0, key, f"cannot be read: {error.strerror}")]) from None
    if not 0 < len(text) <= TOKEN_MAX_BYTES or any(not 0x21 <= sign <= 0x7E for sign in text):
        raise ConfigError([Problem(file, 0, key, "expected one line with the token that the platform gave")])
    return text.decode("ascii")


def utc_of(utc_ns: int) -> datetime:
    """Nanoseconds since 1970 as an aware datetime, whatever the box's clock says."""
    return _EPOCH + timedelta(microseconds=utc_ns // 1000)


def _words(error: OSError) -> str:
    return error.strerror or str(error)
