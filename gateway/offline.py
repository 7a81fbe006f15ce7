"""The store for tools that run beside a daemon or without one: read-only, no lock, nothing changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buffers.db import Database
from buffers.queries import Queries
from drivers.hj212 import keys
from firmware_profiles import loader
from firmware_profiles.tracker_model import TrackerProfile
from gateway import case, devices, report
from gateway import config as configuration
from gateway.app import NotEnrolled, load_signer, load_trust
from gateway.bundles import StoreBundles
from gateway.config import Config
from gateway.config_sources import (
    Hj212Config,
    Hj212SerialConfig,
    JsonHttpConfig,
    JsonMqttConfig,
    Jt808Config,
    ModbusSerialConfig,
    ModbusTcpConfig,
    NmeaListenConfig,
    NmeaSerialConfig,
    NmeaTcpConfig,
    SourceConfig,
    StationFolderConfig,
    StationHttpConfig,
)
from gateway.core.errors import ConfigError, Problem, ProfileError, ProtocolMisuse, RejectedError
from gateway.core.ports import BatchRow, ByteSource, SpoolWriter


def load_config(config_file: Path) -> Config:
    """Read a configuration, with the ids of all profiles known. Raises ConfigError with every problem."""
    return configuration.load(config_file, lambda dirs: {row.id for row in loader.list_profiles(dirs)})


def check_files(config: Config) -> None:
    """Read what the configuration names as the daemon would: keys, certificates, tokens, profiles. What is missing or
    not for our eyes is left out (config.file_warnings tells of it). Raises ConfigError with every problem."""
    from gateway.api import serve
    from uplink import credentials

    keys, uplink, api = config.keys, config.uplink, config.api
    tls = (uplink.ca_file, *((keys.certificate_file, keys.key_file) if uplink.client_certificate else ()))
    checks: list[tuple[tuple[str, ...], Callable[[], object]]] = [
        ((keys.key_file,), lambda: load_signer(config)),
        ((), lambda: load_trust(config)),
        (tls, lambda: uplink.url and credentials.tls_of(config)),
        ((uplink.token_file,), lambda: credentials.read_token(uplink.token_file, "uplink.token_file")),
        ((api.certificate_file, api.key_file, api.client_ca_file), lambda: api.listen and serve.tls_context(api)),
        ((api.token_file, api.viewer_token_file, api.operator_token_file), lambda: serve.read_tokens(api)),
    ]
    problems: list[Problem] = []
    for files, check in checks:
        if not all(os.access(name, os.R_OK) for name in files if name):
            continue
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    for source in config.source:
        problems += _profile_problems(source, config.profile_dirs)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _profile_problems(source: SourceConfig, folders: Sequence[str]) -> list[Problem]:
    if isinstance(source, Jt808Config):
        return _devices_problems(source.devices_file, folders, "jt808")
    if isinstance(source, Hj212Config | Hj212SerialConfig):
        return _devices_problems(source.devices_file, folders, "hj212") + _keys_problems(source.keys_file)
    try:
        if isinstance(source, StationFolderConfig | StationHttpConfig):
            loaded = loader.load_station(source.profile, folders)
        elif isinstance(source, NmeaSerialConfig | NmeaTcpConfig | NmeaListenConfig):
            return _receiver_problems(source.name, loader.load_tracker(source.profile, folders))
        elif isinstance(source, JsonMqttConfig | JsonHttpConfig):
            loader.load_feed(source.profile, folders)
            return []
        else:
            return _sensor_problems(source, folders)
    except ProfileError as error:
        return error.problems
    if isinstance(source, StationHttpConfig) and loaded.profile.listing is None:
        return [Problem(str(loaded.path), 0, "listing", f"missing; the station-http source {source.name} needs it")]
    return []


def _sensor_problems(bus: ModbusSerialConfig | ModbusTcpConfig, folders: Sequence[str]) -> list[Problem]:
    found: list[Problem] = []
    for name in dict.fromkeys(device.profile for device in bus.devices):
        try:
            loader.load_sensor(name, folders)
        except ProfileError as error:
            found += error.problems
    return found


def _receiver_problems(source: str, loaded: loader.LoadedProfile[TrackerProfile]) -> list[Problem]:
    protocol = loaded.profile.protocol
    if protocol == "nmea":
        return []
    text = f'is for {protocol} trackers; the receiver {source} needs one with protocol = "nmea", such as nmea'
    return [Problem(str(loaded.path), 0, "protocol", text)]


def _devices_problems(path: str, folders: Sequence[str], protocol: devices.Protocol) -> list[Problem]:
    """What is wrong in a devices file and in the profiles that it names."""
    try:
        devices.load(path, folders, protocol)
    except ConfigError as error:
        return error.problems
    return []


def _keys_problems(path: str) -> list[Problem]:
    """What is wrong in a file of SM4 keys."""
    if Path(path).exists() and not os.access(path, os.R_OK):
        return []  # a secret that whoever checks may not read
    try:
        keys.load(path)
    except ConfigError as error:
        return error.problems
    return []


class _NoCache:
    """Port `SignatureCache` for a read-only store: a bundle written by hand is signed anew."""

    async def keep_bundle_signature(self, tagmanifest_sha256: str, p7s: bytes) -> None:
        """Forget it."""


class _Paths:
    """The part of port `Spool` that reading needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where an artifact is, as buffers.spool lays it out."""
        return self._folder / sha256[:2] / sha256

    def open(self, key: str, identity: str, expected_bytes: int) -> SpoolWriter:
        """Tools take nothing in. Raises ProtocolMisuse."""
        raise ProtocolMisuse(f"a read-only spool cannot take {key}, {expected_bytes} bytes, version {identity}")


@dataclass(frozen=True, slots=True)
class Store:
    """What tools may ask."""

    config: Config
    reader: Queries
    bundles: StoreBundles
    spool: _Paths

    def newest_batches(self, after: int, limit: int) -> list[BatchRow]:
        """At most `limit` batches with n > after, the newest ones, by n."""
        tail = self.reader.tail()
        newest = self.reader.batch_of(tail.size - 1) if tail.size else None
        last = 0 if newest is None else newest.n
        return self.reader.batches(max(after, last - limit), limit)

    async def write_batch(self, n: int, out: Path) -> int:
        """Write the bundle of a batch; its size. Raises RejectedError for an unknown one."""
        try:
            source = await self.bundles.batch(n, artifacts=True)
        except KeyError:
            raise RejectedError(f"there is no batch {n}; list them with: fieldgate bundles") from None
        return await asyncio.to_thread(write_whole, source, out)

    async def write_export(self, seqs: Sequence[int], out: Path, *, artifacts: bool) -> int:
        """Write an export of single records; its size. Raises RejectedError for unknown or unsealed ones."""
        try:
            source = await self.bundles.export(seqs, artifacts=artifacts)
        except KeyError as error:
            raise RejectedError(f"record {error.args[0]} does not exist, is not sealed yet, or has expired") from None
        return await asyncio.to_thread(write_whole, source, out)

    async def write_case(self, name: str, out: Path, *, artifacts: bool) -> CaseFiles:
        """Write the bundle of a finding (id or seq) to `out` and its page beside it, `.html`. Raises RejectedError for
        an unknown finding, and while a record that it needs is not sealed."""
        found = await asyncio.to_thread(case.gather, self.reader, name)
        size = self.reader.tail().size
        if waiting := found.unsealed(size):
            raise RejectedError(f"finding {name}: record {waiting[0]} is not sealed yet; try again after the next seal")
        seqs = found.sealed(size)
        size_bytes = await self.write_export(seqs, out, artifacts=artifacts)
        digest = await asyncio.to_thread(_sha256_of, out)
        bundle = case.bundle_facts(self.reader, seqs, out.name, digest, size_bytes)
        shown = report.page(case.facts(found, self.config.gateway.id, self.spool.path, bundle, size))
        page = out.with_suffix(".html")
        _write_bytes(shown, page)
        return CaseFiles(found.newest.id, seqs, size_bytes, digest, page)


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """What `write_case` has written."""

    id: str
    seqs: Sequence[int]
    size_bytes: int
    sha256: str
    """Of the bundle."""
    page: Path


@contextmanager
def open_store(config_file: Path) -> Iterator[Store]:
    """The store of a configuration. Raises ConfigError, IntegrityError."""
    config = load_config(config_file)
    database = Database.open_readonly(config.storage.state_dir)
    try:
        reader = Queries(database)
        spool = _Paths(Path(config.storage.spool_dir))
        bundles = StoreBundles(
            reader,
            load_signer(config) or NotEnrolled(),
            _NoCache(),
            spool,
            Path(config.keys.ca_file),
            Path(config.time.tsa_ca_file) if config.time.tsa_ca_file else None,
            Path(config.keys.crl_file) if config.keys.crl_file else None,
        )
        yield Store(config, reader, bundles, spool)
    finally:
        database.close()


def write_whole(source: ByteSource, out: Path) -> int:
    """Write a byte source under another name, fsync, then rename: `out` is whole or absent."""
    part = out.with_name(out.name + ".part")
    with part.open("wb") as file:
        for chunk in source.read(0, source.size_bytes):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    part.replace(out)
    return source.size_bytes


def _write_bytes(content: bytes, out: Path) -> None:
    """The same for bytes at hand."""
    part = out.with_name(out.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(out)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def batch_summary(row: BatchRow) -> dict[str, Any]:
    """One batch for a person or a program."""
    sealed = datetime.fromtimestamp(row.sealed_utc_ns // 10**9, UTC)
    receipt = "complete" if row.complete else "partial" if row.receipt_txt is not None else "none"
    return {
        "n": row.n,
        "first": row.first,
        "end": row.end,
        "records": row.end - row.first,
        "artifacts": row.artifact_count,
        "bytes": row.artifact_bytes + row.records_bytes,
        "sealed_utc": sealed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stamped": row.tsr is not None,
        "receipt": receipt,
    }
