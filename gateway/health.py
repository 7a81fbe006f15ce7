"""How the box is doing, for a person: one word, and a list of problems each with what to do about it.

`judge` is pure: facts and open alarms in, findings out. A finding with an alarm becomes an `alarm` record when it
begins and another when it ends; thresholds have two edges, so that a value that wavers makes no storm of records.
Ages of things that wait are taken from this process's own watch as well as from utc, because the clock may step:
by a clock that is not synchronised an age counts only as far as it was watched.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from gateway import keys, log, metrics
from gateway.config import Config
from gateway.core.alarms import Alarm, Alarms
from gateway.core.errors import StoreFull
from gateway.core.instant import Instant
from gateway.core.marks import GNSS_FRESH_NS, GOOD_NS, Gnss
from gateway.core.ports import Backlog, Clock, LiveStatus, Outbox, SealStore, SourceStatus, UplinkStatus

POLL_S: Final = 15.0
REMIND_NS: Final = 3600 * 10**9
"""A problem that stays has a log line when it begins, one each hour, and one when it is over."""
UNSYNCHRONISED_S: Final = 300
BACKLOG_RAISE_S: Final = 24 * 3600
BACKLOG_CLEAR_S: Final = 3600
UNSTAMPED_RAISE_S: Final = 24 * 3600
UNSTAMPED_CLEAR_S: Final = 3600
UNSEALED_SLACK_S: Final = 120
"""A batch that is so much older than the configuration allows has not been sealed for a reason."""
CERTIFICATE_RAISE_S: Final = 30 * 86_400
HYSTERESIS_PERCENT: Final = 5

Level = Literal["info", "degraded", "failing"]


class HealthClock(Clock, Protocol):
    """A clock that says how good it is (gateway.clock.SystemClock)."""

    @property
    def synchronised(self) -> bool: ...
    @property
    def source(self) -> str: ...
    @property
    def gnss(self) -> Gnss | None: ...


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate whose end matters."""

    name: str
    not_after_ns: int


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of one of the gateway's folders."""

    name: Literal["state", "spool"]
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is judged, as it was at `now`."""

    now: Instant
    synchronised: bool
    unsynchronised_s: float
    """How long this process has seen the clock unsynchronised; 0 where it is synchronised."""
    clock_source: str
    disks: tuple[Disk, ...]
    """That of the state folder first."""
    spool_bytes: int
    unsealed_records: int
    unsealed_age_s: float
    """Age of the oldest evidence that is not sealed."""
    sealing_blocked: str | None
    backlog: Backlog | None
    """None where there is no uplink."""
    backlog_age_s: float
    unstamped_age_s: float
    certificates: tuple[Certificate, ...] = ()
    sources: tuple[SourceStatus, ...] = ()
    uplink: UplinkStatus | None = None
    live: LiveStatus | None = None
    loops: tuple[tuple[str, str], ...] = ()
    """(name, error) of supervised loops that are not running."""
    alarms: tuple[Alarm, ...] = ()
    """All that are open, whoever raised them."""
    changed: tuple[str, ...] = ()
    """Files that are read at start only and were changed since."""
    gnss: Gnss | None = None
    """What satellites say of the clock; None where they say nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know."""

    code: str
    subject: str
    """What it is about: a source, a certificate; "" for the whole gateway."""
    level: Level
    text: str
    to_do: str
    alarm: bool = True
    """Whether it is also written into the log."""


def judge(facts: Facts, config: Config, is_open: Callable[[str, str], bool]) -> list[Finding]:
    """The findings that hold now. `is_open(code, subject)` says whether one of them held before: it then ends at the
    lower edge of its threshold."""
    found = [
        *_judge_disk(facts, config, is_open),
        *_judge_sealing(facts, config),
        *_judge_delivery(facts, is_open),
        *_judge_certificates(facts),
        *_judge_clock(facts),
        *_judge_satellites(facts, is_open),
        *_judge_parts(facts),
        *_judge_uplink(facts),
        *_judge_live(facts),
    ]
    return [*found, *_judge_alarms(facts, found)]


IsOpen = Callable[[str, str], bool]


def _judge_disk(facts: Facts, config: Config, is_open: IsOpen) -> list[Finding]:
    limit = config.storage.high_water_percent
    quota_bytes = max(config.storage.spool_quota_bytes, 1)
    fills = [("spool quota", 100 * facts.spool_bytes / quota_bytes)]
    fills += [(f"{disk.name} disk", 100 - 100 * disk.free_bytes / max(disk.total_bytes, 1)) for disk in facts.disks]
    to_do = (
        "let the platform receipt what waits, lower retention.artifact_days_when_full, "
        "or give storage.spool_dir a larger disk"
    )
    found = []
    for subject, percent in fills:
        if percent >= limit - (HYSTERESIS_PERCENT if is_open("disk.high", subject) else 0):
            text = f"the {subject} is {percent:.0f} % full, the limit is {limit} %: no further files are taken"
            found.append(Finding("disk.high", subject, "degraded", text, to_do))
    reserve_bytes = config.storage.reserve_bytes
    for disk in facts.disks[:1]:
        if disk.free_bytes < reserve_bytes:
            free = f"{disk.free_bytes // 1_000_000} MB"
            text = f"{free} of disk are free, less than storage.reserve_bytes: no records are taken"
            to_do = "make room on the disk of storage.state_dir"
            found.append(Finding("disk.reserve", "", "failing", text, to_do))
    return found


def _judge_sealing(facts: Facts, config: Config) -> list[Finding]:
    if facts.sealing_blocked is not None:
        text = f"{facts.unsealed_records} records wait, nothing is sealed: {facts.sealing_blocked}"
        return [Finding("sealing.blocked", "", "failing", text, "see the reason; records go on being stored")]
    if facts.unsealed_age_s > config.seal.max_age_s + UNSEALED_SLACK_S:
        text = f"evidence has waited {_span(facts.unsealed_age_s)} for its seal"
        return [Finding("sealing.late", "", "failing", text, "look into the log for errors of the sealer")]
    return []


def _judge_delivery(facts: Facts, is_open: IsOpen) -> list[Finding]:
    found = []
    backlog = facts.backlog
    limit_s = BACKLOG_CLEAR_S if is_open("backlog.old", "") else BACKLOG_RAISE_S
    if backlog is not None and backlog.items and facts.backlog_age_s >= limit_s:
        text = f"{backlog.items} items wait for the platform, the oldest since {_span(facts.backlog_age_s)}"
        to_do = "check the link and the platform: fieldgate status shows the last error"
        found.append(Finding("backlog.old", "", "degraded", text, to_do))
    if backlog is not None and backlog.quarantined:
        text = f"the platform has refused {backlog.quarantined} items for good; they stay here"
        to_do = "read the uplink.quarantine records for the reasons"
        found.append(Finding("quarantine", "", "degraded", text, to_do, alarm=False))
    limit_s = UNSTAMPED_CLEAR_S if is_open("stamping.late", "") else UNSTAMPED_RAISE_S
    if backlog is not None and backlog.unstamped and facts.unstamped_age_s >= limit_s:
        text = f"{backlog.unstamped} seals have no time stamp, the oldest since {_span(facts.unstamped_age_s)}"
        to_do = "check time.tsa_url; the seals are valid without, but not bound in time"
        found.append(Finding("stamping.late", "", "degraded", text, to_do))
    return found


def _judge_certificates(facts: Facts) -> list[Finding]:
    found = []
    for certificate in facts.certificates:
        left_s = (certificate.not_after_ns - facts.now.utc_ns) / 1e9
        if not facts.synchronised and left_s < CERTIFICATE_RAISE_S:
            # no alarm record: nobody knows the time; but whoever looks must see it before the platform refuses seals
            when = f"expires in {_span(left_s)}" if left_s > 0 else f"has expired {_span(-left_s)} ago"
            text = f"by a clock that is not synchronised, the certificate {certificate.name} {when}"
            to_do = f"correct the clock, or {_RENEW}"
            found.append(Finding("certificate.expiring", certificate.name, "degraded", text, to_do, alarm=False))
        elif left_s <= 0:
            text = f"the certificate {certificate.name} has expired {_span(-left_s)} ago"
            found.append(Finding("certificate.expiring", certificate.name, "failing", text, _RENEW))
        elif left_s < CERTIFICATE_RAISE_S:
            text = f"the certificate {certificate.name} expires in {_span(left_s)}"
            found.append(Finding("certificate.expiring", certificate.name, "degraded", text, _RENEW))
    return found


_RENEW: Final = "renew it: fieldgate enrol for the gateway's own, else ask who issued it"


def _judge_clock(facts: Facts) -> list[Finding]:
    if facts.unsynchronised_s < UNSYNCHRONISED_S:
        return []
    text = f"the clock has not been synchronised for {_span(facts.unsynchronised_s)}"
    to_do = "connect a time source (NTP, GNSS); times are kept as they are and mapped once there is one"
    return [Finding("clock.unsynchronised", "", "info", text, to_do)]


CLEARED_NS: Final = GOOD_NS // 2
"""A disagreement that was raised is over below this."""


def _judge_satellites(facts: Facts, is_open: IsOpen) -> list[Finding]:
    """Two witnesses of the time that contradict each other: who keeps the clock and satellites, or two receivers. Once
    raised it stays while nobody can tell; the satellites' last word is kept for an hour."""
    gnss, was_open = facts.gnss, is_open("clock.disagrees", "")
    if gnss is None or (gnss.age_s * 10**9 > GNSS_FRESH_NS and not was_open):
        return []
    apart_ns = abs(gnss.offset_ns) - gnss.uncertainty_ns
    if gnss.against:
        text = f"the receivers {gnss.source} and {gnss.against} tell different times: neither is believed"
    elif facts.synchronised and apart_ns > (CLEARED_NS if was_open else GOOD_NS):
        which = "behind" if gnss.offset_ns > 0 else "ahead of"
        text = (
            f"the clock ({facts.clock_source}) is {_span(abs(gnss.offset_ns) / 1e9)} {which} the satellites of "
            f"{gnss.source}, give or take {gnss.uncertainty_ns / 1e9:.1f} s"
        )
    else:
        return []
    to_do = "one of them is wrong, or is being deceived: check the time servers and the receiver; no time is changed"
    return [Finding("clock.disagrees", "", "degraded", text, to_do)]


_SOURCE_TO_DO: Final[Mapping[str, str]] = {
    "down": "check the device and its link; it is tried again by itself",
    "degraded": "see the reason; what is not taken stays at the station and is tried again",
    "disabled": "correct its configuration, then restart the gateway",
}


def _judge_parts(facts: Facts) -> list[Finding]:
    found = []
    for source in facts.sources:
        if source.state in {"down", "degraded", "disabled"}:
            level: Level = "failing" if source.state == "disabled" else "degraded"
            text = f"source {source.name} is {source.state}: {source.reason or 'no reason known'}"
            to_do = _SOURCE_TO_DO[source.state]
            if source.state == "degraded" and not source.type.startswith("station"):
                to_do = "see the reason; drivers/README.md says what to do"
            found.append(Finding("source." + source.state, source.name, level, text, to_do, alarm=False))
    for name, error in facts.loops:
        text = f"the part {name} has failed and is being started again: {error}"
        found.append(
            Finding(
                "part.failed", name, "degraded", text, "see the reason and the log; report it if it stays", alarm=False
            )
        )
    if facts.changed:
        text = f"changed after the gateway started, which goes on with what it has read: {', '.join(facts.changed)}"
        to_do = "restart the gateway: systemctl restart fieldgate"
        found.append(Finding("restart.needed", "", "info", text, to_do, alarm=False))
    return found


def _judge_uplink(facts: Facts) -> list[Finding]:
    found = []
    uplink = facts.uplink
    if uplink is not None and uplink.state in {"refused", "waiting", "unreachable"}:
        text = f"uplink {uplink.state}: {uplink.reason or 'no reason known'}"
        level: Level = "info" if uplink.state == "unreachable" else "degraded"
        to_do = (
            "see the reason, check the link and the platform; what waits is sent once they work"
            if uplink.state == "unreachable"
            else "ask the operator of the platform"
        )
        found.append(Finding("uplink." + uplink.state, "", level, text, to_do, alarm=False))
    waiting = facts.backlog is not None and facts.backlog.unstamped
    if uplink is not None and waiting and uplink.stamping_state in {"refused", "unreachable"}:
        text = f"seals wait for their time stamp: {uplink.stamping_reason or 'no reason known'}"
        to_do = "check time.tsa_url and time.tsa_ca_file; the seals are valid without, but not bound in time"
        found.append(Finding("stamping." + uplink.stamping_state, "", "info", text, to_do, alarm=False))
    return found


def _judge_live(facts: Facts) -> list[Finding]:
    live = facts.live
    if live is None or live.state not in {"refused", "unreachable"}:
        return []
    text = f"live channel {live.state}: {live.reason or 'no reason known'}"
    to_do = "check the broker and the keys of [live]; nothing is lost: the records are in the log"
    level: Level = "degraded" if live.state == "refused" else "info"
    return [Finding("live." + live.state, "", level, text, to_do, alarm=False)]


def _judge_alarms(facts: Facts, others: Sequence[Finding]) -> list[Finding]:
    """What other parts have raised and not cleared, unless a finding says the same already."""
    told = {*OWN_CODES, *(("uplink.denied",) if any(one.code == "uplink.refused" for one in others) else ())}
    found = []
    for alarm in facts.alarms:
        if alarm.code not in told and not any(alarm.text in finding.text for finding in others):
            about = f" {alarm.subject}" if alarm.subject else ""
            text = f"{alarm.code}{about}: {alarm.text}"
            to_do = "see the reason; the alarm ends by itself when it no longer holds"
            found.append(Finding(alarm.code, alarm.subject, "degraded", text, to_do, alarm=False))
    return found


def _span(seconds: float) -> str:
    """A length of time that a person reads at a glance."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def overall(findings: Sequence[Finding]) -> Literal["ok", "degraded", "failing"]:
    """The worst level; things that are merely worth knowing leave it ok."""
    levels = {finding.level for finding in findings}
    return "failing" if "failing" in levels else "degraded" if "degraded" in levels else "ok"


def _disk(folder: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total


@dataclass(slots=True)
class _Watched:
    """Since when this process has seen the same oldest thing wait."""

    token: int | None = None
    since_mono_ns: int = 0

    def age_s(self, oldest_utc_ns: int | None, now: Instant, *, synchronised: bool) -> float:
        """Age of what waits longest; 0 where nothing waits."""
        if oldest_utc_ns is None:
            self.token = None
            return 0.0
        if oldest_utc_ns != self.token:
            self.token, self.since_mono_ns = oldest_utc_ns, now.mono_ns
        watched_ns = now.mono_ns - self.since_mono_ns
        return max(watched_ns, now.utc_ns - oldest_utc_ns if synchronised else 0) / 1e9


@dataclass(slots=True)
class Health:
    """Collects the facts from the parts. Every callable is quick and safe to call from any thread."""

    config: Config
    clock: HealthClock
    alarms: Alarms
    seals: SealStore
    spool_bytes: Callable[[], int]
    sealing_blocked: Callable[[], str | None]
    outbox: Outbox | None = None
    sources: Callable[[], Sequence[SourceStatus]] = tuple
    uplink: UplinkStatus | None = None
    live: LiveStatus | None = None
    certificates: Callable[[], Mapping[str, bytes]] = dict
    """Name -> PEM of the certificates whose end matters."""
    loops: Callable[[], Sequence[tuple[str, str]]] = tuple
    changed: Callable[[], Sequence[str]] = tuple
    config_sha256: str = ""
    judge: Callable[[], Mapping[str, Any] | None] = lambda: None
    """How the judge is doing (gateway.judge.JudgeStatus); None where no rules are configured."""
    disk: Callable[[Path], tuple[int, int]] = _disk
    """(free, total) bytes of the disk of a folder."""
    _unsealed: _Watched = field(default_factory=_Watched)
    _undelivered: _Watched = field(default_factory=_Watched)
    _unstamped: _Watched = field(default_factory=_Watched)
    _unsynchronised: _Watched = field(default_factory=_Watched)
    _told: dict[tuple[str, str], int] = field(default_factory=dict)
    """When a problem was last logged, by this process's own watch."""

    def facts(self) -> Facts:
        """Ask every part."""
        now, synchronised = self.clock.now(), self.clock.synchronised
        tail, pending = self.seals.tail(), self.seals.pending()
        backlog = None if self.outbox is None else self.outbox.backlog()
        unstamped = self.outbox.unstamped(1) if self.outbox is not None and backlog and backlog.unstamped else []
        unstamped_ns = unstamped[0].sealed_utc_ns if unstamped else None

        def age_s(watched: _Watched, oldest_utc_ns: int | None) -> float:
            return watched.age_s(oldest_utc_ns, now, synchronised=synchronised)

        return Facts(
            now=now,
            synchronised=synchronised,
            unsynchronised_s=self._unsynchronised.age_s(None if synchronised else 0, now, synchronised=synchronised),
            clock_source=self.clock.source,
            disks=self._disks(),
            spool_bytes=self.spool_bytes(),
            unsealed_records=pending.next_seq - tail.size,
            unsealed_age_s=age_s(self._unsealed, pending.oldest_evidence_utc_ns),
            sealing_blocked=self.sealing_blocked(),
            backlog=backlog,
            backlog_age_s=age_s(self._undelivered, None if backlog is None else backlog.oldest_utc_ns),
            unstamped_age_s=age_s(self._unstamped, unstamped_ns),
            certificates=tuple(
                Certificate(name, keys.validity_ns(pem)[1]) for name, pem in self.certificates().items()
            ),
            sources=tuple(self.sources()),
            uplink=self.uplink,
            live=self.live,
            loops=tuple(self.loops()),
            alarms=tuple(self.alarms.open()),
            changed=tuple(self.changed()),
            gnss=self.clock.gnss,
        )

    def _disks(self) -> tuple[Disk, ...]:
        storage = self.config.storage
        state = Disk("state", *self.disk(Path(storage.state_dir)))
        spool = Disk("spool", *self.disk(Path(storage.spool_dir or storage.state_dir)))
        same = (state.free_bytes, state.total_bytes) == (spool.free_bytes, spool.total_bytes)
        return (state,) if same else (state, spool)

    def snapshot(self) -> dict[str, Any]:
        """What the API and `fieldgate status` show. Times are decimal nanoseconds since 1970, as text."""
        facts = self.facts()
        findings = judge(facts, self.config, self.alarms.is_open)
        uplink, backlog, now = facts.uplink, facts.backlog, facts.now
        return {
            "status": overall(findings),
            "problems": [_problem(finding) for finding in findings],
            "now_utc_ns": str(now.utc_ns),
            "clock": {
                "synchronised": facts.synchronised,
                "source": facts.clock_source,
                "gnss": None if facts.gnss is None else facts.gnss.shown(),
                "epoch": now.epoch,
                "boot": now.boot,
            },
            "disks": [asdict(disk) for disk in facts.disks],
            "spool": {"bytes": facts.spool_bytes, "quota_bytes": self.config.storage.spool_quota_bytes},
            "sealing": {
                "unsealed_records": facts.unsealed_records,
                "unsealed_age_s": int(facts.unsealed_age_s),
                "blocked": facts.sealing_blocked,
            },
            "backlog": None
            if backlog is None
            else {
                "items": backlog.items,
                "bytes": backlog.size_bytes,
                "age_s": int(facts.backlog_age_s),
                "quarantined": backlog.quarantined,
                "unstamped": backlog.unstamped,
            },
            "uplink": None if uplink is None else _shown(asdict(uplink)),
            "live": None if facts.live is None else _shown(asdict(facts.live)),
            "sources": [_shown(asdict(source)) for source in facts.sources],
            "certificates": [
                {"name": item.name, "not_after_utc_ns": str(item.not_after_ns)} for item in facts.certificates
            ],
            "alarms": [asdict(alarm) for alarm in self.alarms.open()],
            "config_sha256": self.config_sha256,
            "judge": self.judge(),
            "parts_failed": [{"name": name, "error": error} for name, error in facts.loops],
        }

    async def look(self) -> list[Finding]:
        """Judge once, and write what has begun or ended into the log. Raises StoreFull."""
        facts = await asyncio.to_thread(self.facts)
        _measure(facts, len(self.alarms.open()))
        findings = judge(facts, self.config, self.alarms.is_open)
        holding = {(finding.code, finding.subject): finding for finding in findings if finding.alarm}
        for (code, subject), finding in holding.items():
            await self.alarms.raise_alarm(code, finding.text, subject)
        for alarm in self.alarms.open():
            if alarm.code == "certificate.expiring" and not facts.synchronised:
                continue  # nobody can tell just now
            if alarm.code in OWN_CODES and (alarm.code, alarm.subject) not in holding:
                await self.alarms.clear(alarm.code, "over", alarm.subject)
        return findings

    async def run(self, tick: Callable[[], None], poll_s: float = POLL_S) -> None:
        """Look for ever. With a full store the next look writes what this one could not."""
        own_log = log.get("health")
        while True:
            try:
                self._tell(await self.look())
            except StoreFull as full:
                own_log.warning("alarms_not_stored", reason=str(full))
            tick()
            await asyncio.sleep(poll_s)

    def _tell(self, findings: Sequence[Finding]) -> None:
        """Log what has begun and what is over, and remind of what stays."""
        own_log, mono_ns = log.get("health"), self.clock.now().mono_ns
        holding = {(finding.code, finding.subject): finding for finding in findings}
        for (code, subject), finding in holding.items():
            told_ns = self._told.get((code, subject))
            if told_ns is None or mono_ns - told_ns >= REMIND_NS:
                self._told[code, subject] = mono_ns
                say = {"info": own_log.info, "degraded": own_log.warning, "failing": own_log.error}[finding.level]
                say("problem", key=code + subject, code=code, subject=subject, text=finding.text, to_do=finding.to_do)
        for code, subject in self._told.keys() - holding.keys():
            del self._told[code, subject]
            own_log.info("problem_over", key=code + subject, code=code, subject=subject)


OWN_CODES: Final = frozenset(
    {
        "disk.high",
        "disk.reserve",
        "sealing.blocked",
        "sealing.late",
        "backlog.old",
        "stamping.late",
        "certificate.expiring",
        "clock.unsynchronised",
        "clock.disagrees",
    }
)
"""Alarms that end here when they no longer hold; others belong to the parts that raised them."""


def _problem(finding: Finding) -> dict[str, str]:
    return {
        "code": finding.code,
        "subject": finding.subject,
        "level": finding.level,
        "text": finding.text,
        "to_do": finding.to_do,
    }


def _shown(fields: dict[str, Any]) -> dict[str, Any]:
    """Nanoseconds as text: they exceed what JSON readers hold exactly."""
    return {key: str(value) if key.endswith("_ns") and value is not None else value for key, value in fields.items()}


def _measure(facts: Facts, alarms_open: int) -> None:
    metrics.DISK_FREE_BYTES.set(facts.disks[0].free_bytes)
    metrics.SPOOL_BYTES.set(facts.spool_bytes)
    metrics.ALARMS_OPEN.set(alarms_open)
    if facts.backlog is not None:
        metrics.BACKLOG_ITEMS.set(facts.backlog.items)
        metrics.BACKLOG_BYTES.set(facts.backlog.size_bytes)
        metrics.BACKLOG_AGE_SECONDS.set(facts.backlog_age_s)
