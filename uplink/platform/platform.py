"""The reference platform put together: keys, folders, index, intake; what an operator may do; start and recovery."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives import hashes

from gateway.clock import SYSTEM
from gateway.core.errors import ConfigError, IntegrityError, Problem
from gateway.ledger import grammar
from gateway.ledger.trust import Trust
from uplink.platform import ca, durable
from uplink.platform.ca import Authority
from uplink.platform.config import PlatformConfig
from uplink.platform.enrol import Enrolment, new_token
from uplink.platform.evidence import Evidence, StoredReceipt
from uplink.platform.index import Index
from uplink.platform.intake import Intake
from uplink.platform.receipt_log import ReceiptLog
from uplink.platform.receipts import Receipts
from uplink.platform.serve import Shelf
from uplink.platform.tsa import TestAuthority
from uplink.platform.tus import Uploads

VERSION_FILE: Final = "VERSION"
VERSION: Final = b"fieldgate-platform/1\n"
NOT_INITIALISED: Final = "is no platform yet; run the platform's init first"
INTAKES_AT_ONCE: Final = 2
"""Bundles and artifacts verified at the same time, over all gateways."""


def utc_now() -> datetime:
    """The platform's clock, which is part of what its receipts state: keep it right."""
    return datetime.fromtimestamp(SYSTEM.realtime_ns() / 1e9, UTC)


def is_initialised(config: PlatformConfig) -> bool:
    """Whether the folder has its keys."""
    return (config.folder / "pki").exists()


def init_platform(config: PlatformConfig) -> None:
    """Make folder, keys (0600) and certificates. Raises ConfigError where they exist: nothing is ever overwritten."""
    _checked(config)
    durable.make_folder(config.folder)
    if not is_initialised(config):
        durable.write_atomic(config.folder / VERSION_FILE, VERSION)
    ca.create(config.folder / "pki", config.name, utc_now())


def enrolment_token(config: PlatformConfig, gateway_id: str) -> str:
    """A one-time token for one gateway, also while a platform serves the folder: tokens are files of their own.

    Raises ConfigError where the folder is no platform, FormatError for a bad id.
    """
    if not is_initialised(config):
        raise ConfigError([Problem(config.data_dir, 0, "", NOT_INITIALISED)])
    durable.make_folder(config.folder / "enrolment")
    return new_token(config.folder, gateway_id, utc_now(), config.enrolment_token_hours)


def _checked(config: PlatformConfig) -> None:
    try:
        config.check()
    except ValueError as error:
        raise ConfigError([Problem(config.data_dir, 0, "", str(error))]) from None


@dataclass(frozen=True, slots=True)
class Summary:
    """What the platform holds, all gateways together."""

    gateways: int
    batches: int
    records: int
    artifacts: int
    bytes: int
    receipts: int
    stamped: int
    alarms: int
    forks: int


class Platform:
    """One platform on one folder; a second one on the same folder is refused. Close it after use.

    Opening is recovering: folders that are not indexed are indexed, expired uploads go. Raises ConfigError where the
    folder is not initialised or in use, IntegrityError where what it holds disagrees with itself.
    """

    def __init__(self, config: PlatformConfig, now: Callable[[], datetime] = utc_now) -> None:
        _checked(config)
        self.config = config
        self.now = now
        self._lock = _lock_folder(config.folder)
        self.index: Index | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        config, now = self.config, self.now
        self.authority = Authority.load(config.folder / "pki")
        self.evidence = Evidence(config.folder)
        self.evidence.prepare()
        self._tsa_cas = _read_tsa_cas(config)
        if config.tsa:
            self._tsa_cas.append(self.authority.tsa_ca_pem.encode())
        self.tsa = TestAuthority(config.folder / "pki") if config.tsa else None
        if self.tsa is not None:
            self.tsa.prepare()
        self.enrolment = Enrolment(config.folder, self.authority, config.gateway_certificate_days, config.tsa)
        self.uploads = Uploads(config.folder / "uploads", config)
        self.uploads.sweep(now())
        self.index = index = Index(config.folder / "index.sqlite3")
        self.receipts = Receipts(self.authority, config.retain_days)
        self.receipt_log = ReceiptLog(config.folder / "log" / "receipts.jsonl")
        self.shelf = Shelf(self.evidence, index, self.receipts, b"".join(self._tsa_cas))
        self.intake = Intake(
            evidence=self.evidence,
            index=index,
            receipts=self.receipts,
            receipt_log=self.receipt_log,
            trust=self.trust,
            now=now,
            quota_bytes=config.gateway_quota_bytes,
            reserve_bytes=config.reserve_bytes,
        )
        self.intake.recover()
        self._gateway_locks: dict[str, asyncio.Lock] = {}
        self.intakes = asyncio.Semaphore(INTAKES_AT_ONCE)

    def close(self) -> None:
        """Release the folder."""
        if self.index is not None:
            self.index.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def trust(self) -> Trust:
        """What incoming evidence is judged by: our CA with its present CRL, the known time-stamping authorities."""
        return Trust(
            ca_pems=[self.authority.ca_pem.encode()],
            tsa_ca_pems=self._tsa_cas,
            crl_pems=[self.authority.crl_pem(self.now()).encode()],
        )

    def gateway_lock(self, gateway_id: str) -> asyncio.Lock:
        """Held while anything of one gateway is changed."""
        return self._gateway_locks.setdefault(gateway_id, asyncio.Lock())

    # ------------------------------------------------------------- operator

    def new_enrolment_token(self, gateway_id: str) -> str:
        """A one-time token for one gateway. It is shown once and known here by its hash only."""
        return new_token(self.config.folder, gateway_id, self.now(), self.config.enrolment_token_hours)

    def revoke(self, gateway_id: str) -> None:
        """Refuse a gateway from now on. Raises KeyError for one that is not enrolled."""
        self.enrolment.revoke(gateway_id, self.now())

    def take_bundle(self, gateway_id: str, path: Path) -> StoredReceipt:
        """Receive a bundle from a file: pulled, or carried here on a disk. Raises Refusal.

        Synchronous; while the listener runs, hold `gateway_lock` of the gateway around it.
        """
        return self.intake.take_bundle(gateway_id, path)

    def gateway_list(self) -> list[dict[str, object]]:
        """Every enrolled gateway with its counts."""
        index, found = self.intake.index, []
        for gateway in self.enrolment.gateways():
            held = index.held(gateway.gateway)
            found.append(
                {
                    "id": gateway.gateway,
                    "enrolled_utc": grammar.utc_text(gateway.enrolled_utc),
                    "revoked": gateway.revoked_utc is not None,
                    "size": held.size,
                    "root": grammar.base64_of(held.root),
                    **index.totals(gateway.gateway),
                    "forks": len(self.evidence.forks(gateway.gateway)),
                }
            )
        return found

    def signed_log_checkpoint(self, size: int, root: bytes) -> tuple[str, str]:
        """(three lines, base64 of our signature over them) for the log of receipts."""
        origin = f"{self.authority.certificate.fingerprint(hashes.SHA256()).hex()[:32]}/receipts"
        text = f"{origin}\n{size}\n{grammar.base64_of(root)}\n"
        return text, base64.b64encode(self.receipts.sign_bytes(text.encode())).decode()

    def summary(self) -> Summary:
        """Counts over all gateways."""
        index = self.intake.index
        names = self.evidence.gateways()
        totals = [index.totals(name) for name in names]

        def add(key: str) -> int:
            return sum(item[key] for item in totals)

        return Summary(
            gateways=len(names),
            batches=add("batches"),
            records=add("records"),
            artifacts=add("artifacts"),
            bytes=add("bytes"),
            receipts=add("receipts"),
            stamped=add("stamped"),
            alarms=add("alarms"),
            forks=sum(len(self.evidence.forks(name)) for name in names),
        )


def _lock_folder(folder: Path) -> int:
    """Take the folder for this process. Raises ConfigError."""
    if not (folder / "pki").is_dir():
        raise ConfigError([Problem(str(folder), 0, "", NOT_INITIALISED)])
    version = (folder / VERSION_FILE).read_bytes() if (folder / VERSION_FILE).exists() else b""
    if version != VERSION:
        raise IntegrityError(
            f"{folder / VERSION_FILE}: holds {version[:40]!r}, expected {VERSION!r}; use a fitting platform"
        )
    descriptor = os.open(folder / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError([Problem(str(folder), 0, "", "another platform process is using this folder")]) from None
    return descriptor


def _read_tsa_cas(config: PlatformConfig) -> list[bytes]:
    try:
        return [Path(name).read_bytes() for name in config.tsa_ca_files]
    except OSError as error:
        raise ConfigError([Problem(str(error.filename), 0, "", f"cannot be read: {error.strerror}")]) from None
