"""Health: what is judged a problem, with both edges of every threshold, and which become alarm records."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, GatewayConfig, KeysConfig, StorageConfig
from gateway.core.alarms import Alarms
from gateway.core.errors import StoreFull
from gateway.core.marks import Gnss
from gateway.core.ports import Backlog, BatchRow, SourceStatus, UplinkStatus
from gateway.health import Certificate, Disk, Facts, Finding, Health, Level, judge, overall
from gateway.ingest import Ingest
from tests.gateway.doubles import SECOND, MemoryJournal, MemorySeals, Moment, at
from tests.gateway.identities import issue

GB = 1_000_000_000
HOUR = 3600
DAY_NS = 86_400 * SECOND
CONFIG = Config(
    gateway=GatewayConfig(id="box-1"),
    storage=StorageConfig(state_dir="/state", spool_quota_bytes=100 * GB, reserve_bytes=GB),
    keys=KeysConfig(key_file="/k"),
)
BACKLOG = Backlog(items=5, size_bytes=100, oldest_utc_ns=1, quarantined=0, unstamped=3)
FINE = Facts(
    now=at(1000),
    synchronised=True,
    unsynchronised_s=0,
    clock_source="ntp",
    disks=(Disk("state", 50 * GB, 100 * GB),),
    spool_bytes=10 * GB,
    unsealed_records=5,
    unsealed_age_s=30,
    sealing_blocked=None,
    backlog=BACKLOG,
    backlog_age_s=60,
    unstamped_age_s=60,
    certificates=(Certificate("gateway", at().utc_ns + 100 * DAY_NS),),
    sources=(SourceStatus("station-1", "station-folder", "ok"),),
    uplink=UplinkStatus(state="ok"),
)


def source(state: Any) -> tuple[SourceStatus, ...]:
    return (SourceStatus("station-1", "station-folder", state, "unplugged"),)


@pytest.mark.parametrize(
    ("change", "code", "subject", "level"),
    [
        ({"disks": (Disk("state", 10 * GB, 100 * GB),)}, "disk.high", "state disk", "degraded"),
        ({"disks": (FINE.disks[0], Disk("spool", 1, 100 * GB))}, "disk.high", "spool disk", "degraded"),
        ({"spool_bytes": 90 * GB}, "disk.high", "spool quota", "degraded"),
        ({"disks": (Disk("state", GB - 1, 5 * GB),)}, "disk.reserve", "", "failing"),
        (
            {"certificates": (Certificate("gateway", 0),), "synchronised": False},
            "certificate.expiring",
            "gateway",
            "degraded",
        ),
        ({"sealing_blocked": "expired"}, "sealing.blocked", "", "failing"),
        ({"unsealed_age_s": 181}, "sealing.late", "", "failing"),
        ({"backlog_age_s": 24 * HOUR}, "backlog.old", "", "degraded"),
        ({"backlog": replace(BACKLOG, quarantined=1)}, "quarantine", "", "degraded"),
        ({"unstamped_age_s": 24 * HOUR}, "stamping.late", "", "degraded"),
        (
            {"certificates": (Certificate("gateway", at(1000).utc_ns + 29 * DAY_NS),)},
            "certificate.expiring",
            "gateway",
            "degraded",
        ),
        (
            {"certificates": (Certificate("gateway", at(1000).utc_ns),)},
            "certificate.expiring",
            "gateway",
            "failing",
        ),
        ({"unsynchronised_s": 300, "synchronised": False}, "clock.unsynchronised", "", "info"),
        ({"sources": source("down")}, "source.down", "station-1", "degraded"),
        ({"sources": source("degraded")}, "source.degraded", "station-1", "degraded"),
        ({"sources": source("disabled")}, "source.disabled", "station-1", "failing"),
        ({"loops": (("uplink", "OSError: odd"),)}, "part.failed", "uplink", "degraded"),
        ({"uplink": UplinkStatus(state="refused", reason="401")}, "uplink.refused", "", "degraded"),
        ({"uplink": UplinkStatus(state="unreachable")}, "uplink.unreachable", "", "info"),
    ],
)
def test_a_problem_is_found(change: dict[str, Any], code: str, subject: str, level: Level) -> None:
    findings = judge(replace(FINE, **change), CONFIG, lambda code, subject: False)
    found = next(finding for finding in findings if (finding.code, finding.subject) == (code, subject))
    assert found.level == level
    assert found.text
    assert found.to_do
    assert overall(findings) in {"degraded", "failing"} or level == "info"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"disks": (Disk("state", 11 * GB, 100 * GB),)},
        {"spool_bytes": 89 * GB},
        {"unsealed_age_s": 180},
        {"backlog_age_s": 24 * HOUR - 1},
        {"backlog_age_s": 99 * HOUR, "backlog": replace(BACKLOG, items=0)},
        {"unstamped_age_s": 99 * HOUR, "backlog": replace(BACKLOG, unstamped=0)},
        {"backlog": None, "backlog_age_s": 99 * HOUR, "unstamped_age_s": 99 * HOUR, "uplink": None},
        {"certificates": (Certificate("gateway", at(1000).utc_ns + 30 * DAY_NS),)},
        {"certificates": (Certificate("gateway", at(1000).utc_ns + 30 * DAY_NS),), "synchronised": False},
        {"unsynchronised_s": 299, "synchronised": False},
        {"sources": source("starting")},
        {"disks": (Disk("state", 1, 0),), "spool_bytes": 0, "now": at()},
    ],
)
def test_what_is_still_in_order(change: dict[str, Any]) -> None:
    findings = judge(replace(FINE, **change), CONFIG, lambda code, subject: False)
    expected = ["disk.reserve"] if "now" in change else []
    assert [finding.code for finding in findings if finding.code != "disk.high"] == expected


@pytest.mark.parametrize(
    ("code", "holds", "over"),
    [
        ("disk.high", {"spool_bytes": 85 * GB}, {"spool_bytes": 84 * GB}),
        ("disk.high", {"disks": (Disk("state", 15 * GB, 100 * GB),)}, {"disks": (Disk("state", 16 * GB, 100 * GB),)}),
        ("backlog.old", {"backlog_age_s": HOUR}, {"backlog_age_s": HOUR - 1}),
        ("stamping.late", {"unstamped_age_s": HOUR}, {"unstamped_age_s": HOUR - 1}),
    ],
)
def test_what_was_raised_ends_at_the_lower_edge(code: str, holds: dict[str, Any], over: dict[str, Any]) -> None:
    def is_open(asked: str, subject: str) -> bool:
        return asked == code

    assert [finding.code for finding in judge(replace(FINE, **holds), CONFIG, is_open)] == [code]
    assert judge(replace(FINE, **over), CONFIG, is_open) == []


def test_the_worst_level_counts() -> None:
    def finding(level: Level) -> Finding:
        return Finding("c", "", level, "t", "d")

    assert overall([]) == "ok"
    assert overall([finding("info")]) == "ok"
    assert overall([finding("info"), finding("degraded")]) == "degraded"
    assert overall([finding("failing"), finding("degraded")]) == "failing"


BATCH = BatchRow(1, 0, 1, b"", b"", (), "", 0, 0, 0, 0, 0, at(0).utc_ns, b"", b"", b"")


class Waiting:
    """Port `Outbox` as far as health asks it."""

    def __init__(self, oldest_utc_ns: int | None, unstamped: int = 0) -> None:
        self.oldest_utc_ns = oldest_utc_ns
        self._unstamped = unstamped

    def backlog(self) -> Backlog:
        return Backlog(0 if self.oldest_utc_ns is None else 2, 10, self.oldest_utc_ns, 0, self._unstamped)

    def unstamped(self, limit: int) -> list[BatchRow]:
        return [BATCH][:limit]


def health_of(journal: MemoryJournal, clock: Moment, **more: Any) -> Health:
    alarms = Alarms(Ingest(journal, clock), journal)
    parts: dict[str, Any] = {
        "spool_bytes": lambda: 0,
        "sealing_blocked": lambda: None,
        "disk": lambda folder: (50 * GB, 100 * GB),
        **more,
    }
    return Health(CONFIG, clock, alarms, MemorySeals(), **parts)


def test_an_alarm_is_raised_and_cleared_once() -> None:
    journal, clock = MemoryJournal(), Moment()
    spool = [95 * GB]
    health = health_of(journal, clock, spool_bytes=lambda: spool[0])
    for size_bytes in (95, 95, 86, 84, 84):
        spool[0] = size_bytes * GB
        asyncio.run(health.look())
    assert journal.alarms() == [("disk.high", "spool quota", "raised"), ("disk.high", "spool quota", "cleared")]


def test_alarms_of_others_are_left_alone() -> None:
    journal, clock = MemoryJournal(), Moment()
    health = health_of(journal, clock)
    asyncio.run(health.alarms.raise_alarm("uplink.denied", "401"))
    asyncio.run(health.look())
    assert health.alarms.is_open("uplink.denied")


def test_with_a_full_store_the_next_look_writes_it() -> None:
    journal, clock = MemoryJournal(full="everything"), Moment()
    health = health_of(journal, clock, sealing_blocked=lambda: "expired")
    with pytest.raises(StoreFull):
        asyncio.run(health.look())
    journal.full = "no"
    asyncio.run(health.look())
    assert journal.alarms() == [("sealing.blocked", "", "raised")]


def test_a_clock_that_jumps_makes_nothing_old() -> None:
    """Ages by an unsynchronised clock count only as far as this process has watched them."""
    journal, clock = MemoryJournal(), Moment(at(0), synchronised=False)
    health = health_of(journal, clock, outbox=Waiting(at(0).utc_ns))
    health.facts()
    clock.instant = at(60, 2, utc_jump_s=365 * 86_400)
    assert health.facts().backlog_age_s == 60
    clock.instant = at(60, 2, utc_jump_s=-365 * 86_400)
    assert health.facts().backlog_age_s == 60
    clock.synchronised = True
    clock.instant = at(60, 3, utc_jump_s=100)
    assert health.facts().backlog_age_s == 160


def test_a_clock_that_is_never_synchronised_is_told_after_a_while() -> None:
    journal, clock = MemoryJournal(), Moment(at(0), synchronised=False)
    health = health_of(journal, clock)
    for second in (0, 100, 299, 300, 400):
        clock.instant = at(second)
        asyncio.run(health.look())
    clock.synchronised = True
    asyncio.run(health.look())
    assert journal.alarms() == [
        ("clock.unsynchronised", "", "raised"),
        ("clock.unsynchronised", "", "cleared"),
    ]


def test_an_expiring_certificate_stays_open_while_nobody_knows_the_time() -> None:
    journal, clock = MemoryJournal(), Moment(at(0))
    _, pem = issue("box-1", valid_days=(-10, 5))
    health = health_of(journal, clock, certificates=lambda: {"gateway": pem})
    for synchronised in (True, False, True):
        clock.synchronised = synchronised
        asyncio.run(health.look())
    assert journal.alarms() == [("certificate.expiring", "gateway", "raised")]


def test_the_snapshot_is_json_and_names_every_problem() -> None:
    journal, clock = MemoryJournal(), Moment(at(10))
    _, pem = issue("box-1")
    health = health_of(
        journal,
        clock,
        outbox=Waiting(at(0).utc_ns),
        sources=lambda: source("down"),
        uplink=UplinkStatus(state="unreachable", reason="timeout", last_contact_utc_ns=at().utc_ns),
        certificates=lambda: {"gateway": pem},
        loops=lambda: [("uplink", "OSError: odd")],
    )
    shot = json.loads(json.dumps(health.snapshot()))
    assert shot["status"] == "degraded"
    assert [problem["code"] for problem in shot["problems"]] == [
        "source.down",
        "part.failed",
        "uplink.unreachable",
    ]
    assert all(problem["to_do"] for problem in shot["problems"])
    assert shot["backlog"]["age_s"] == 10
    assert shot["uplink"]["last_contact_utc_ns"] == str(at().utc_ns)
    assert shot["sources"][0]["name"] == "station-1"
    assert shot["clock"] == {"synchronised": True, "source": "ntp", "gnss": None, "epoch": 1, "boot": at().boot}


def test_alarms_of_other_parts_and_changed_files_are_told_once() -> None:
    journal, clock = MemoryJournal(), Moment(at(10))
    status = UplinkStatus(state="refused", reason="403: revoked", stamping_state="unreachable", stamping_reason="away")
    health = health_of(
        journal, clock, outbox=Waiting(at(0).utc_ns, 1), uplink=status, changed=lambda: ["/keys/gateway.pem"]
    )

    async def raise_both() -> None:
        await health.alarms.raise_alarm("uplink.denied", "upload: 403: revoked")
        await health.alarms.raise_alarm("uplink.stalled", "500: a defect", "batch")

    asyncio.run(raise_both())
    problems = health.snapshot()["problems"]
    assert [(problem["code"], problem["level"]) for problem in problems] == [
        ("restart.needed", "info"),
        ("uplink.refused", "degraded"),
        ("stamping.unreachable", "info"),
        ("uplink.stalled", "degraded"),
    ]
    assert "500: a defect" in problems[-1]["text"]


def test_a_problem_that_stays_has_one_line_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    clock, sources = Moment(at(0)), [source("down")]
    health = health_of(MemoryJournal(), clock, sources=lambda: sources[0])
    caplog.set_level("INFO")
    for seconds, state in ((0, "down"), (15, "down"), (3599, "down"), (3601, "down"), (3615, "ok"), (3630, "ok")):
        clock.instant, sources[0] = at(seconds), source(state)
        health._tell(judge(health.facts(), CONFIG, health.alarms.is_open))
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == ["WARNING", "WARNING", "INFO"]
    assert "problem_over" in lines[-1][1]


def test_two_disks_are_judged_apart() -> None:
    journal, clock = MemoryJournal(), Moment()
    free = {"/state": (50 * GB, 100 * GB), "/spool": (1 * GB, 100 * GB)}
    health = health_of(journal, clock, disk=lambda folder: free[str(folder)])
    storage = StorageConfig(state_dir="/state", spool_dir="/spool", reserve_bytes=GB)
    health.config = Config(gateway=CONFIG.gateway, storage=storage, keys=CONFIG.keys)
    assert [(disk.name, disk.free_bytes) for disk in health.facts().disks] == [("state", 50 * GB), ("spool", GB)]


def test_the_real_disk_is_asked(tmp_path: Path) -> None:
    health = health_of(MemoryJournal(), Moment())
    free, total = Health.__dataclass_fields__["disk"].default(tmp_path)
    assert 0 <= free <= total
    assert health.facts().disks


def test_the_loop_goes_on_when_the_store_is_full() -> None:
    journal, clock = MemoryJournal(full="everything"), Moment()
    health = health_of(journal, clock, sealing_blocked=lambda: "expired")

    async def run() -> None:
        ticks = 0
        enough = asyncio.Event()

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            journal.full = "no"
            if ticks == 2:
                enough.set()

        async with asyncio.TaskGroup() as group:
            loop = group.create_task(health.run(tick, poll_s=0.001))
            await enough.wait()
            loop.cancel()

    asyncio.run(run())
    assert journal.alarms() == [("sealing.blocked", "", "raised")]


def gnss(offset_s: float, age_s: int = 0, against: str = "") -> Gnss:
    return Gnss("gps-1", int(offset_s * SECOND), SECOND // 2, 10, age_s, against)


@pytest.mark.parametrize(
    ("change", "was_open", "disagrees"),
    [
        ({"gnss": None}, True, False),
        ({"gnss": gnss(2.4)}, False, False),
        ({"gnss": gnss(2.6)}, False, True),
        ({"gnss": gnss(-2.6)}, False, True),
        ({"gnss": gnss(1.6)}, True, True),
        ({"gnss": gnss(1.4)}, True, False),
        ({"gnss": gnss(2.6), "synchronised": False}, False, False),  # nobody keeps the clock: it is just wrong
        ({"gnss": gnss(100, age_s=600)}, False, False),
        ({"gnss": gnss(100, age_s=600)}, True, True),  # nobody can tell just now
        ({"gnss": gnss(0, against="gps-2")}, False, True),
        ({"gnss": gnss(0, against="gps-2"), "synchronised": False}, False, True),
    ],
)
def test_clock_and_satellites_that_disagree(change: dict[str, Any], was_open: bool, disagrees: bool) -> None:
    findings = judge(replace(FINE, **change), CONFIG, lambda code, subject: was_open and code == "clock.disagrees")
    assert ("clock.disagrees" in {finding.code for finding in findings}) is disagrees


def test_a_disagreement_is_an_alarm_that_ends() -> None:
    async def scenario() -> None:
        clock, journal = Moment(), MemoryJournal()
        health = Health(
            CONFIG,
            clock,
            Ingest(journal, clock).alarms,
            MemorySeals(),
            spool_bytes=lambda: 0,
            sealing_blocked=lambda: None,
            disk=lambda folder: (50 * GB, 100 * GB),
        )
        for offset_s in (0.0, 1000.0, 1000.0, 1.5, 0.1):
            clock.gnss = gnss(offset_s)
            await health.look()
        assert journal.alarms() == [("clock.disagrees", "", "raised"), ("clock.disagrees", "", "cleared")]
        assert "is 17 minutes behind the satellites of gps-1" in str(journal.rows[0][0].data["text"])
        assert health.snapshot()["clock"]["gnss"]["offset_ms"] == 100

    asyncio.run(scenario())
