"""The composition root: the only module that names the concrete classes of every package and joins them.

`Gateway.open` recovers and wires, `Gateway.run` starts the supervised loops. Order matters where it is commented.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.metadata
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.outbox import Outbox
from buffers.queries import Queries
from buffers.retention import Retention
from buffers.scrub import Scrub
from buffers.seals import Seals
from buffers.signatures import Signatures
from buffers.spool import Spool
from drivers import registry
from gateway import keys, log, metrics
from gateway.bundles import StoreBundles
from gateway.clock import SystemClock, read_boot_id, unmapped_epochs
from gateway.config import Config
from gateway.config_sources import SourceConfig
from gateway.core import kinds
from gateway.core.errors import ConfigError, ForkError, Problem, StoreFull, TransientError, UplinkRejected
from gateway.core.ports import LiveStatus, Signer, SourceStatus, UplinkStatus
from gateway.core.record import Draft, Record, StateChange, parse_leaf
from gateway.enrolment import FilesAtStart
from gateway.health import Health
from gateway.ingest import Ingest
from gateway.judge import Around, JudgeService, JudgeStatus
from gateway.judges import judges
from gateway.ledger.grammar import FormatError, origin_of
from gateway.ledger.trust import Trust, load_certificates, load_crls
from gateway.live import Board
from gateway.orders import Desk
from gateway.privacy import Privacies
from gateway.recent import Recent
from gateway.rule_files import Watched
from gateway.sealer import Sealer
from gateway.supervisor import Supervisor, Tick

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from uplink.loop import UplinkParts

SOURCE: Final = "gateway"
SCRUB_KEY: Final = b"scrub"
SWEEP_INTERVAL_S: Final = 600.0
UPKEEP_TICK_S: Final = 10.0
SLOW_LIMIT_S: Final = 600.0
"""Watchdog limit of loops that wait for foreign disks and networks; they have time-outs of their own."""
HOUR_NS: Final = 3600 * 10**9
CLOCK_RECORDS_MAX: Final = 1000


class NotEnrolled:
    """Port `Signer` before the platform has signed the CSR: nothing is sealed, so nothing is ever signed."""

    certificate_pem: bytes = b""
    certificate_sha256: str = ""

    def sign_cms(self, _content: bytes) -> bytes:
        """There is no certificate to sign with. Raises TransientError."""
        raise TransientError("this gateway has no certificate yet; run: fieldgate enrol")


@dataclass(slots=True)
class Gateway:
    """Everything that belongs to one running gateway. Made by `open`, ended by `close`."""

    config: Config
    database: Database
    clock: SystemClock
    signer: Signer | None
    trust: Trust
    ingest: Ingest
    memory: Memory
    spool: Spool
    seals: Seals
    outbox: Outbox
    reader: Queries
    bundles: StoreBundles
    sealer: Sealer
    recent: Recent
    privacies: Privacies
    board: Board
    desk: Desk
    uplink_status: UplinkStatus = field(default_factory=UplinkStatus)
    judge_status: JudgeStatus = field(default_factory=JudgeStatus)
    live_status: LiveStatus = field(default_factory=LiveStatus)
    sources: list[SourceStatus] = field(default_factory=list)
    files_at_start: FilesAtStart | None = None
    config_sha256: str = ""
    addresses: list[str] = field(default_factory=list)
    """Where the API listens, once it does."""

    @classmethod
    def open(cls, config: Config) -> Gateway:
        """Lock the state folder, recover, and wire. Raises ConfigError, IntegrityError, ForkError, StoreFull."""
        files_at_start, digest = FilesAtStart(config), config_sha256(config)
        signer = load_signer(config)
        config = with_credentials(config)
        trust = load_trust(config)
        storage = config.storage
        database = Database.open(
            storage.state_dir,
            config.gateway.id,
            commit_window_ms=storage.commit_window_ms,
            reserve_bytes=storage.reserve_bytes,
        )
        try:
            gateway = cls._wire(config, database, signer, trust)
            gateway.files_at_start, gateway.config_sha256 = files_at_start, digest
            return gateway
        except BaseException:
            database.close()
            raise

    @classmethod
    def _wire(cls, config: Config, database: Database, signer: Signer | None, trust: Trust) -> Gateway:
        storage = config.storage
        reader, memory, outbox, seals = Queries(database), Memory(database), Outbox(database), Seals(database)
        boot = read_boot_id()
        newest = reader.newest_instant()
        clock = SystemClock(
            1 if newest is None else newest.epoch + 1,
            unmapped=unmapped_epochs(clock_records(seals, reader, boot[0]), boot[0]),
            state_interval_s=config.time.state_interval_s,
            boot=boot,
        )
        recent, privacies = Recent(), Privacies(config)
        ingest = Ingest(Journal(database), clock, memory, recent)
        spool = Spool(
            database,
            storage.spool_dir,
            quota_bytes=storage.spool_quota_bytes,
            high_water_percent=storage.high_water_percent,
            reserve_bytes=storage.reserve_bytes,
        )
        bundles = StoreBundles(
            reader,
            signer or NotEnrolled(),
            Signatures(database),
            spool,
            Path(config.keys.ca_file),
            Path(config.time.tsa_ca_file) if config.time.tsa_ca_file else None,
            Path(config.keys.crl_file) if config.keys.crl_file else None,
        )
        sealer = Sealer(seals, signer, clock, config.seal, origin_of(config.gateway.id), lambda: clock.synchronised)
        return cls(
            config=config,
            database=database,
            clock=clock,
            signer=signer,
            trust=trust,
            ingest=ingest,
            memory=memory,
            spool=spool,
            seals=seals,
            outbox=outbox,
            reader=reader,
            bundles=bundles,
            sealer=sealer,
            recent=recent,
            privacies=privacies,
            board=Board(privacies.of),
            desk=Desk(ingest, memory, clock),
        )

    def close(self) -> None:
        """Finish queued writes and release the state folder."""
        self.database.close()

    # ------------------------------------------------------------ running

    async def run(self, supervisor: Supervisor) -> int:
        """Store that the gateway has started, run all loops until something stops them, return the exit code."""
        await self._record_start()
        stop = asyncio.Event()  # never set here: the supervisor ends loops by cancelling them
        add = supervisor.add
        add("clock", lambda tick: self.clock.run(self.ingest, tick))
        add("sealer", self.sealer.run)
        health = self._health(supervisor)
        add("health", health.run)
        add("retention", self._retain, limit_s=SLOW_LIMIT_S)
        add("scrub", self._scrub, limit_s=SLOW_LIMIT_S, essential=False)
        api = functools.cache(lambda: self._api(health))  # one for both: they share its limits
        add("api", lambda tick: self._serve_local(api(), stop, tick))
        if self.config.api.listen:
            add("api on the network", lambda tick: self._serve_network(api(), stop, tick), essential=False)
        if self.config.uplink.url and self.signer is not None:
            add("uplink", lambda tick: self._deliver(stop, tick), limit_s=SLOW_LIMIT_S, essential=False)
        if self.config.time.tsa_url and self.signer is not None:
            add("stamping", lambda tick: self._stamp(stop, tick), limit_s=SLOW_LIMIT_S, essential=False)
        add("judge", self._judge, limit_s=SLOW_LIMIT_S, essential=False)
        if self.config.live.url:
            add("live", self._publish, limit_s=SLOW_LIMIT_S, essential=False)
        add("privacy", self._watch_privacy, essential=False)
        for source in self.config.source:
            self._add_source(supervisor, source, stop)
        return await supervisor.run()

    def supervisor(self) -> Supervisor:
        """A supervisor whose clean stop stores and seals what is left."""
        return Supervisor(at_stop=self._record_stop)

    def _add_source(self, supervisor: Supervisor, source: SourceConfig, stop: asyncio.Event) -> None:
        status = SourceStatus(source.name, str(source.__struct_config__.tag), since_utc_ns=self.clock.now().utc_ns)
        self.sources.append(status)

        async def run(tick: Tick) -> None:
            await registry.run_source(
                source,
                sink=self.ingest,
                memory=self.memory,
                spool=self.spool,
                clock=self.clock,
                profile_dirs=self.config.profile_dirs,
                status=status,
                stop=stop,
                tick=tick,
                orders=self.desk,
                time_marks=self.clock,
            )

        supervisor.add(f"source {source.name}", run, limit_s=SLOW_LIMIT_S, essential=False)

    def _health(self, supervisor: Supervisor) -> Health:
        return Health(
            self.config,
            self.clock,
            self.ingest.alarms,
            self.seals,
            spool_bytes=lambda: self.spool.used_bytes,
            sealing_blocked=lambda: self.sealer.blocked,
            outbox=self.outbox if self.config.uplink.url else None,
            sources=lambda: self.sources,
            uplink=self.uplink_status,
            live=self.live_status,
            certificates=lambda: {} if self.signer is None else {"gateway": self.signer.certificate_pem},
            changed=self.files_at_start.changed if self.files_at_start is not None else tuple,
            config_sha256=self.config_sha256,
            loops=lambda: [(loop.name, loop.error) for loop in supervisor.loops if loop.state == "waiting"],
            judge=lambda: asdict(self.judge_status) if self.config.rules.path else None,
        )

    # ------------------------------------------------------------ loops

    # What only these loops need is imported by them: the first record is on disk before httpx and uvicorn load.

    def _uplink_parts(self) -> UplinkParts:
        from uplink.loop import UplinkParts

        return UplinkParts(
            self.outbox, self.reader, self.bundles, self.ingest, self.spool, self.clock, self.ingest.alarms
        )

    async def _deliver(self, stop: asyncio.Event, tick: Tick) -> None:
        from uplink.runner import run_uplink

        try:
            await run_uplink(
                self.config,
                self._uplink_parts(),
                self.trust,
                stop=stop,
                tick=tick,
                fraction=random.random,
                status=self.uplink_status,
            )
        except ForkError as error:
            # The mark is on disk before the process ends: without it a restart would go on sealing a fork.
            await self.database.mark_fork(str(error))
            raise

    async def _stamp(self, stop: asyncio.Event, tick: Tick) -> None:
        from uplink.runner import run_stamping

        await run_stamping(
            self.config,
            self._uplink_parts(),
            self.trust,
            stop=stop,
            tick=tick,
            fraction=random.random,
            status=self.uplink_status,
        )

    async def _publish(self, tick: Tick) -> None:
        from uplink.mqtt_client import run_live

        await run_live(self.config, self.board, self.clock, tick=tick, fraction=random.random, status=self.live_status)

    def _api(self, health: Health) -> ASGIApp:
        from gateway.api.app import Backend, make_app
        from gateway.api.roles import Rights

        backend = Backend(
            origin=origin_of(self.config.gateway.id),
            reader=self.reader,
            bundles=self.bundles,
            spool=self.spool,
            sources=lambda: self.sources,
            health=health.snapshot,
            accept_receipt=self._accept_receipt,
            live=self.board,
            orders=self.desk,
            rights=Rights(self.privacies.of, lambda: self.privacies.any_private),
        )
        return make_app(backend)

    async def _serve_local(self, api: ASGIApp, stop: asyncio.Event, tick: Tick) -> None:
        from gateway.api.serve import run_local

        await run_local(Path(self.config.storage.state_dir), api, stop, tick, self._listening)

    async def _serve_network(self, api: ASGIApp, stop: asyncio.Event, tick: Tick) -> None:
        from gateway.api.serve import run_network

        await run_network(self.config.api, api, stop, tick, self._listening)

    def _listening(self, address: str) -> None:
        if address not in self.addresses:
            self.addresses.append(address)
        log.get("api").info("listening", key=address, address=address)

    async def _accept_receipt(self, n: int, text: bytes, p7s: bytes, artifacts: bytes) -> None:
        """A platform that pulled posts its receipt. Raises UplinkRejected for one that proves nothing."""
        from uplink import receipts
        from uplink.answers import ReceiptParts
        from uplink.credentials import utc_of
        from uplink.notices import Notices

        row = self.reader.batch(n)
        if row is None:
            raise UplinkRejected(f"there is no batch {n}")
        parts = ReceiptParts(row.end, text, p7s, artifacts)
        verified = receipts.judge(
            parts,
            self.reader,
            origin=origin_of(self.config.gateway.id),
            trust=self.trust,
            now=utc_of(self.clock.now().utc_ns),
        )
        if verified.new:
            await self.outbox.store_receipt(n, text, p7s, artifacts, verified.complete)
            metrics.RECEIPTS.inc()
            await Notices(self.ingest, self.ingest.alarms).beacon(
                verified.receipt.nonce, verified.text_sha256, verified.batch.end, now_s=0.0
            )

    async def _judge(self, tick: Tick) -> None:
        """Rules over what the journal gains; without a rule folder only the live board is fed."""
        path = self.config.rules.path
        rules = await asyncio.to_thread(Watched, path) if path else None
        around = Around(
            self.ingest,
            self.reader,
            self.memory,
            self.clock,
            self.ingest.alarms,
            self.recent,
            self.board,
            self.judge_status,
            self.privacies.of,
        )
        service = JudgeService(judges() if path else {}, around, rules, self.config.rules.reload_s)
        await service.run(tick)

    async def _watch_privacy(self, tick: Tick) -> None:
        """Notice that a devices file has changed."""
        while True:
            await _pause(UPKEEP_TICK_S, tick)
            await asyncio.to_thread(self.privacies.refresh)

    async def _retain(self, tick: Tick) -> None:
        """Expire what may go; what a crash left half-done is finished first."""
        rules = self.config.retention
        retention = Retention(
            self.database,
            self.spool,
            self.ingest,
            artifact_days=rules.artifact_days,
            artifact_days_when_full=rules.artifact_days_when_full,
            record_days=rules.record_days,
        )
        await retention.finish()
        while True:
            try:
                await retention.sweep(self.clock.now().utc_ns)
            except StoreFull as full:
                log.get("retention").warning("sweep_waits", reason=str(full))
            await _pause(SWEEP_INTERVAL_S, tick)

    async def _scrub(self, tick: Tick) -> None:
        """Re-hash the spool once per interval, counted over restarts: a box that is cut daily is scrubbed too."""
        rules = self.config.retention
        scrub = Scrub(self.database, self.spool, self.ingest, bytes_per_s=rules.scrub_bytes_per_s)

        async def sleep(seconds: float) -> None:
            tick()
            await asyncio.sleep(seconds)

        while True:
            last = self.memory.get(SOURCE, SCRUB_KEY)
            age_ns = self.clock.now().utc_ns - (0 if last is None else int(last))
            if last is not None and 0 <= age_ns < rules.scrub_interval_h * HOUR_NS:
                await _pause(UPKEEP_TICK_S, tick)
                continue
            found = await scrub.run(sleep)
            log.get("scrub").info(
                "scrubbed", artifacts=found.artifacts, bytes=found.size_bytes, damaged=len(found.damaged)
            )
            done = StateChange(SOURCE, SCRUB_KEY, str(self.clock.now().utc_ns).encode())
            await self.ingest.append([], [done])

    # ------------------------------------------------------------ first and last record

    async def _record_start(self) -> None:
        data = {
            "version": importlib.metadata.version("fieldgate"),
            "config_sha256": self.config_sha256,
            "certificate_sha256": "" if self.signer is None else self.signer.certificate_sha256,
            "sealed_size": self.reader.tail().size,
        }
        seq = await self.ingest.append([Draft(kinds.GATEWAY_START, SOURCE, "", data)])
        log.get("app").info("started", seq=seq)

    async def _record_stop(self) -> None:
        await self.ingest.append(
            [Draft(kinds.GATEWAY_STOP, SOURCE, "", {"reason": "stopped by the operator or the system"})]
        )
        await self.sealer.seal(self.clock.now(), whatever_waits=True)


async def _pause(seconds: float, tick: Tick) -> None:
    """Wait, and tell the watchdog that waiting is what is meant."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    tick()
    while (left_s := end_s - loop.time()) > 0:
        await asyncio.sleep(min(UPKEEP_TICK_S, left_s))
        tick()


def load_signer(config: Config) -> Signer | None:
    """The gateway's key and certificate; None before enrolment. Raises ConfigError for files that will not do."""
    certificate_file = config.keys.certificate_file
    if not certificate_file or not Path(certificate_file).exists():
        keys.read_key(Path(config.keys.key_file))
        return None
    return keys.load_signer(Path(config.keys.key_file), Path(certificate_file), config.gateway.id)


def with_credentials(config: Config) -> Config:
    """The configuration with every secret file replaced by the systemd credential of its name, where there is one."""

    def found(name: str) -> str:
        return str(keys.credential_or(Path(name))) if name else ""

    replace = msgspec.structs.replace
    return replace(
        config,
        keys=replace(config.keys, key_file=found(config.keys.key_file)),
        uplink=replace(config.uplink, token_file=found(config.uplink.token_file)),
        api=replace(
            config.api,
            key_file=found(config.api.key_file),
            token_file=found(config.api.token_file),
            viewer_token_file=found(config.api.viewer_token_file),
            operator_token_file=found(config.api.operator_token_file),
        ),
        live=replace(config.live, key_file=found(config.live.key_file), password_file=found(config.live.password_file)),
    )


def load_trust(config: Config) -> Trust:
    """The authorities of receipts and time stamps. Files that enrolment has yet to bring may be missing."""
    keys_config, time_config = config.keys, config.time

    problems: list[Problem] = []

    def read(name: str, load: Callable[[bytes], object]) -> list[bytes]:
        try:
            pems = [Path(name).read_bytes()] if name and Path(name).exists() else []
            for pem in pems:
                load(pem)
        except FormatError as error:
            problems.append(Problem(name, 0, "", f"{error}; put the right file there, or enrol again"))
        except OSError as error:
            problems.append(Problem(name, 0, "", f"cannot be read: {error.strerror}"))
        else:
            return pems
        return []

    ca_pems = read(config.uplink.receipt_ca_file or keys_config.ca_file, load_certificates)
    tsa_ca_pems = read(time_config.tsa_ca_file, load_certificates)
    crl_pems = read(keys_config.crl_file, load_crls)
    if problems:
        raise ConfigError(problems)
    return Trust(ca_pems=ca_pems, tsa_ca_pems=tsa_ca_pems, crl_pems=crl_pems)


def config_sha256(config: Config) -> str:
    """Hash of the effective configuration: a change of it shows in the next `gateway.start` record, and in
    `fieldgate status` while the gateway runs on the old one."""
    return hashlib.sha256(msgspec.json.encode(config, order="deterministic")).hexdigest()


def clock_records(seals: Seals, reader: Queries, boot: str) -> list[Record]:
    """The clock records of this boot, newest first, for mapping its epochs."""
    found: list[Record] = []
    for kind in (kinds.CLOCK_STATE, kinds.CLOCK_MAP):
        below = reader.next_seq()
        for _ in range(CLOCK_RECORDS_MAX):
            seq = seals.newest(kind, below)
            leaf = None if seq is None else reader.leaf(seq)
            if seq is None or leaf is None:
                break
            record = parse_leaf(leaf)
            if record.instant.boot != boot:
                break
            found.append(record)
            below = seq
    return found


def run_gateway(config: Config, ready: Callable[[Gateway], None] | None = None) -> int:
    """Open, run and close a gateway in this process; return the exit code."""
    gateway = Gateway.open(config)
    try:
        if ready is not None:
            ready(gateway)
        return _loop_runner()(gateway.run(gateway.supervisor()))
    finally:
        gateway.close()


def _loop_runner() -> Callable[..., int]:
    """uvloop where there is a wheel for this board, asyncio's own loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


__all__: Sequence[str] = ("Gateway", "run_gateway")
