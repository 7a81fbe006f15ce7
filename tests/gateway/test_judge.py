"""The judge service over a real store: every event told once, whatever order, crash or restart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.queries import Queries
from gateway import findings, judge, known
from gateway.core import kinds
from gateway.core.errors import StoreFull
from gateway.core.finding import Judgement
from gateway.core.record import Draft, StateChange, parse_leaf
from gateway.ingest import Ingest
from gateway.judge import Around, JudgeService
from gateway.recent import Recent
from gateway.rules.judging import Seen, Span
from tests.gateway.doubles import SECOND, START_UTC_NS, Crash, Moment, at
from tests.gateway.tiny_judge import TinyJudge

START_S = START_UTC_NS // SECOND // 86_400 * 86_400 + 86_400
"""Midnight of a day, by the clock of the trucks."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judges are asked in every round, so that a test is a list of rounds."""
    monkeypatch.setattr(judge, "ASK_MIN_S", 0.0)
    monkeypatch.setattr(judge, "ASK_IDLE_S", 0.0)


@dataclass
class Folder:
    """Port `Rules`: a rule folder with one number in it."""

    limit: str = "800"
    error: str = ""
    parts: list[str] = field(default_factory=list)

    def refresh(self) -> bool:
        return True

    @property
    def sha256(self) -> str:
        return "" if not self.limit else f"{int(self.limit):064d}"

    def records(self) -> Sequence[Draft]:
        return [Draft(kinds.RULES_BOOK, "gateway", "", {"sha256": self.sha256}, raw=self.limit.encode())]


@dataclass
class Blackboard:
    """Port `Board`."""

    positions: list[int] = field(default_factory=list)
    findings: list[tuple[int, str]] = field(default_factory=list)

    def position(self, seen: Seen) -> None:
        self.positions.append(seen.seq)

    def finding(self, seq: int, draft: Draft) -> None:
        self.findings.append((seq, draft.data["state"]))


class Gate:
    """Port `Sink` over another: crashes or is full at chosen appends."""

    def __init__(self, sink: Ingest) -> None:
        self.sink = sink
        self.before: set[int] = set()
        self.after: set[int] = set()
        self.full = 0
        self.count = 0

    async def append(self, drafts: Sequence[Draft], state: Sequence[StateChange] = ()) -> int:
        self.count += 1
        if self.count in self.before:
            raise Crash
        if self.full:
            self.full -= 1
            raise StoreFull("no room")
        first = await self.sink.append(drafts, state)
        if self.count in self.after:
            raise Crash
        return first


class Site:
    """A store with an ingest, and a judge service that can be started again and again."""

    def __init__(self, folder: Path, rules: Folder | None = None, fixes_max: int = 8192) -> None:
        self.database = Database.open(folder, "gw-1", commit_window_ms=0, reserve_bytes=0)
        self.clock = Moment(at())
        self.recent = Recent(fixes_max)
        self.memory = Memory(self.database)
        self.ingest = Ingest(Journal(self.database), self.clock, self.memory, self.recent)
        self.reader = Queries(self.database)
        self.rules = rules or Folder()
        self.board = Blackboard()
        self.gate = Gate(self.ingest)
        self.tiny: list[TinyJudge] = []

    def service(self, rules: bool = True) -> JudgeService:
        def make() -> TinyJudge:
            self.tiny.append(TinyJudge())
            return self.tiny[-1]

        around = Around(self.gate, self.reader, self.memory, self.clock, self.ingest.alarms, self.recent, self.board)
        return JudgeService({"tiny": make}, around, self.rules if rules else None, reload_s=0)

    async def report(self, device: str, *speeds: int, from_s: int = 0, after_s: float = 1.0) -> int:
        """A truck sends one fix a second, the first at `from_s` of its day; they arrive one second apart."""
        first = self.reader.next_seq()
        for number, speed in enumerate(speeds):
            now = self.clock.instant
            self.clock.instant = now._replace(
                mono_ns=now.mono_ns + int(after_s * SECOND), utc_ns=now.utc_ns + int(after_s * SECOND)
            )
            fix = {"time_utc_s": START_S + from_s + number, "lat_e7": 1, "lon_e7": 1, "speed_kmh_e1": speed}
            await self.ingest.append([Draft(kinds.POSITION, "trucks", device, fix)])
        return first

    def told(self) -> list[tuple[str, str, int, str]]:
        """(device, rule, revision, state) of every finding record, in order."""
        return [(one.device, one.rule, one.revision, one.state) for one in findings.records(self.reader)]


async def settle(service: JudgeService) -> None:
    """Until everything stored is judged."""
    while await service.step():
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.database.close()


# ---------------------------------------------------------------- telling


def test_an_event_is_told_when_it_begins_and_when_it_ends_and_not_in_between(site: Site) -> None:
    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", 500, 900)
        await settle(service)
        assert site.told() == [("A", "speeding", 1, "open")]
        await settle(service)
        await settle(service)
        assert len(site.told()) == 1
        await site.report("A", 500, from_s=2)
        await settle(service)
        assert site.told() == [("A", "speeding", 1, "open"), ("A", "speeding", 2, "closed")]
        assert service.status.findings_open == 0
        assert service.status.backlog_records == 0

    asyncio.run(run())
    (first, second) = findings.records(site.reader)
    assert first.id == second.id == Judgement(**_fields(first.judgement)).id
    assert list(second.inputs) == [2, 4]  # 0 is the book, 1 a slow fix, 3 the first finding
    assert [seq for seq, _ in site.board.findings] == [first.seq, second.seq]


def _fields(judgement: Any) -> dict[str, Any]:
    names = ("rule", "severity", "source", "device", "plate", "firm", "start_utc_s", "end_utc_s", "inputs")
    return {
        **{name: judgement[name] for name in names},
        "book_sha256": judgement["book"]["sha256"],
        "book_seq": judgement["book"]["seq"],
        "rule_set": judgement["book"]["rule_set"],
        "legal_source": judgement["legal_source"],
    }


def test_a_late_fix_revises_and_withdraws(site: Site) -> None:
    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", 900, 900, 500, from_s=10)
        await settle(service)
        await site.report("A", 950, from_s=8)
        await settle(service)
        assert site.told() == [
            ("A", "speeding", 1, "closed"),
            ("A", "speeding", 1, "closed"),  # the event begins earlier: another id …
            ("A", "speeding", 2, "withdrawn"),  # … and the first one never was
        ]

    asyncio.run(run())
    withdrawn = list(findings.records(site.reader))[-1]
    assert withdrawn.start_utc_s == START_S + 10
    assert withdrawn.judgement["measured"] == {"peak_kmh_e1": 900}, "a withdrawal repeats what is withdrawn"


def test_a_day_that_was_let_go_is_judged_from_the_store(site: Site) -> None:
    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", 900, 500)
        await site.report("A", 500, from_s=86_400)
        await settle(service)
        await site.report("A", 990, from_s=5)
        await site.report("B", 990, from_s=5)
        await settle(service)

    asyncio.run(run())
    assert site.told() == [
        ("A", "speeding", 1, "closed"),
        ("B", "speeding", 1, "open"),
        ("A", "speeding", 1, "open"),
    ]


def test_silence_is_judged_by_the_clock(site: Site) -> None:
    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", 500)
        await settle(service)
        assert site.told() == []
        site.clock.instant = at(400)
        await service.step()
        assert site.told() == [("A", "offline", 1, "open")]

    asyncio.run(run())


def test_silence_that_was_told_is_not_taken_back_by_a_clock_that_went_back(site: Site) -> None:
    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", 500)
        await settle(service)
        site.clock.instant = at(400)
        await service.step()
        site.clock.instant = at(5)
        again = site.service()
        await again.begin()
        await settle(again)
        await again.step()

    asyncio.run(run())
    assert site.told() == [("A", "offline", 1, "open")]


# ---------------------------------------------------------------- crashes


async def _drive(site: Site, seed: int, crashes: str = "") -> None:
    """A fixed story of three trucks, with a service that dies before or after every third commit."""
    chance = random.Random(seed)
    service, started = site.service(), True
    await service.begin()
    await settle(service)
    site.gate.count = 0
    if crashes:
        setattr(site.gate, crashes, set(range(2, 500, 3)))
    for step in range(60):
        device = chance.choice("ABC")
        late = chance.random() < 0.2
        day_s = 86_400 * (step // 30)
        from_s = day_s + (chance.randrange(max(1, step)) if late else step)
        await site.report(device, chance.choice((500, 850, 950)), from_s=from_s)
        if chance.random() < 0.3:
            try:
                if not started:
                    await service.begin()
                    started = True
                await settle(service)
            except Crash:
                service, started = site.service(), False
    while True:
        try:
            if not started:
                await service.begin()
                started = True
            await settle(service)
            return
        except Crash:
            service, started = site.service(), False


def _newest(site: Site) -> dict[str, tuple[str, str]]:
    """id -> state and digest of what was told last, of events that are."""
    return {
        one.id: (one.state, known.digest_of(one.judgement))
        for one in findings.current(site.reader)
        if one.state != "withdrawn"
    }


def _check_revisions(site: Site) -> None:
    """Each revision once, counted from 1, and none that says the same as the one before."""
    last: dict[str, tuple[int, str, str]] = {}
    for one in findings.records(site.reader):
        revision, state, digest = last.get(one.id, (0, "", ""))
        assert one.revision == revision + 1
        assert (one.state, known.digest_of(one.judgement)) != (state, digest)
        last[one.id] = one.revision, one.state, known.digest_of(one.judgement)


@pytest.mark.parametrize("seed", range(4))
def test_over_crashes_at_every_commit_nothing_is_told_twice_or_lost(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "KEEP_RECORDS", 7)
    (tmp_path / "whole").mkdir()
    whole = Site(tmp_path / "whole")
    asyncio.run(_drive(whole, seed))
    _check_revisions(whole)
    expected = {key: value[0] for key, value in _newest(whole).items()}
    assert len(expected) > 5
    for kind in ("before", "after"):
        folder = tmp_path / kind
        folder.mkdir()
        broken = Site(folder)
        asyncio.run(_drive(broken, seed, kind))
        _check_revisions(broken)
        assert {key: value[0] for key, value in _newest(broken).items()} == expected
        broken.database.close()
    whole.database.close()


def test_a_restart_says_nothing_about_what_was_told(site: Site) -> None:
    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", 900, 900, 500, 900)
        await settle(service)
        count = len(site.told())
        for _ in range(3):
            again = site.service()
            await again.begin()
            await settle(again)
            await again.step()
        assert len(site.told()) == count
        assert site.tiny[-1].asked > 0

    asyncio.run(run())
    assert site.board.findings[-1][1] == "open", "after a start the board shows what lasts"


def test_a_full_store_holds_findings_back_and_loses_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "RETRY_S", 0.0)

    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", 900)
        site.gate.full = 3
        await settle(service)

    asyncio.run(run())
    assert site.told() == [("A", "speeding", 1, "open")]


# ---------------------------------------------------------------- following


def test_what_left_the_ring_is_read_from_the_store(tmp_path: Path) -> None:
    site = Site(tmp_path, fixes_max=10)

    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", *([900, 500] * 600))
        assert service.status.backlog_records == 0
        await service.step()
        assert service.status.backlog_records > 500
        await settle(service)
        assert service.status.backlog_records == 0

    asyncio.run(run())
    assert len(site.told()) == 600
    assert len(site.board.positions) == 1200
    assert site.board.positions == sorted(site.board.positions)
    site.database.close()


def test_rows_of_a_cancelled_caller_are_judged(site: Site) -> None:
    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        hidden, site.ingest._recent = site.ingest._recent, None
        await site.report("A", 900)
        site.ingest._recent = hidden
        await settle(service)

    asyncio.run(run())
    assert site.told() == [("A", "speeding", 1, "open")]


def test_without_rules_the_board_is_fed_and_nothing_is_judged(site: Site) -> None:
    async def run() -> None:
        service = site.service(rules=False)
        await service.begin()
        await settle(service)
        await site.report("A", 900, 900)
        await settle(service)

    asyncio.run(run())
    assert site.board.positions == [0, 1]
    assert site.told() == []
    assert list(site.memory.items("rules")) == []


def test_a_ring_gives_rows_once_and_without_gaps() -> None:
    ring = Recent(4)
    rows = [(Draft(kinds.POSITION, "s", "A", {"n": n}), at(n)) for n in range(6)]
    ring.put(10, rows[:2])
    ring.put(13, rows[3:4])
    assert ([seen.seq for seen in ring.take(10, 10)[0]], ring.end) == ([10, 11], 14)
    assert ring.take(12, 10) == ([], 12)
    ring.put(12, [(Draft("station.file", "s", "A", {}), at())])
    assert [seen.seq for seen in ring.take(12, 10)[0]] == [13], "kinds that nobody judges only move the cursor"
    ring.put(20, [(Draft(kinds.POSITION, "s", "A", {"fixes": [{}] * 9}), at())])
    assert ring.take(20, 1) == ([], 20), "more than the ring holds"


# ---------------------------------------------------------------- the rule book


def test_a_changed_book_is_a_record_and_an_unchanged_one_is_not(site: Site) -> None:
    def books() -> list[bytes | None]:
        return [parse_leaf(leaf).raw for _, leaf in site.reader.records(kind=kinds.RULES_BOOK)]

    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        await site.report("A", 850)
        site.rules.limit = "900"
        await settle(service)
        again = site.service()
        await again.begin()
        await settle(again)
        await site.report("A", 850, from_s=1)
        await settle(again)

    asyncio.run(run())
    assert books() == [b"800", b"900"]
    assert site.told() == [("A", "speeding", 1, "open"), ("A", "speeding", 2, "closed")]


def test_a_broken_folder_raises_one_alarm_and_the_last_good_book_stays(site: Site) -> None:
    async def run() -> None:
        service = site.service()
        await service.begin()
        await settle(service)
        site.rules.error = "permits.toml:7: width_m: expected a number"
        await settle(service)
        await settle(service)
        assert [(alarm.code, alarm.text) for alarm in site.ingest.alarms.open()] == [
            ("rules.broken", "permits.toml:7: width_m: expected a number")
        ]
        assert service.status.book_error.startswith("permits.toml:7")
        await site.report("A", 900)
        await settle(service)
        assert len(site.told()) == 1
        # at a start with a broken folder the book of the log is in force
        site.rules.limit = ""
        again = site.service()
        await again.begin()
        await site.report("B", 900)
        await settle(again)
        assert site.told()[-1] == ("B", "speeding", 1, "open")
        site.rules.error, site.rules.limit = "", "800"
        await settle(again)
        assert site.ingest.alarms.open() == []

    asyncio.run(run())
    assert len(site.reader.records(kind=kinds.RULES_BOOK)) == 1
    assert len(site.reader.records(kind=kinds.ALARM)) == 2


# ---------------------------------------------------------------- memory of what was told


def _judgement(start_utc_s: int, end_utc_s: int | None = None) -> Judgement:
    return Judgement("r", "lead", "s", "A", "", "", start_utc_s, end_utc_s, (1,), "", 0, "", "")


def test_events_of_long_ago_are_forgotten_and_of_another_judge_are_left_alone() -> None:
    memory = known.KnownFindings([], lambda _name, _known: {})
    span = Span("s", "A", "truck", "open", 0, 10**9, (_judgement(100), _judgement(5_000_000)))
    assert len(memory.tell("one", span, 7).drafts) == 2
    empty = Span("s", "A", "truck", "open", 0, 10**9, ())
    assert memory.tell("two", empty, 8).drafts == []
    assert len(memory.open()) == 2
    (forgotten,) = memory.forget(known.KEEP_S + 101)
    assert forgotten == StateChange("rules", b"finding:" + _judgement(100).id.encode(), None)
    assert list(memory.open()) == [_judgement(5_000_000).id]


def test_only_events_that_begin_in_the_span_are_withdrawn() -> None:
    memory = known.KnownFindings([], lambda _name, _known: {"rule": "r"})
    memory.tell("one", Span("s", "A", "truck", "open", 0, 200, (_judgement(100), _judgement(150))), 0)
    assert memory.tell("one", Span("s", "A", "truck", "open", 120, 150, ()), 1).drafts == []
    (draft,) = memory.tell("one", Span("s", "A", "truck", "open", 150, 200, ()), 2).drafts
    assert (draft.data["id"], draft.data["state"], draft.data["revision"]) == (_judgement(150).id, "withdrawn", 2)
    assert memory.tell("one", Span("s", "A", "truck", "open", 150, 200, ()), 3).drafts == []
    (again,) = memory.tell("one", Span("s", "A", "truck", "open", 150, 200, (_judgement(150, 160),)), 4).drafts
    assert (again.data["state"], again.data["revision"]) == ("closed", 3)


def test_a_book_whose_record_has_expired_is_stored_anew(site: Site) -> None:
    async def run() -> None:
        for _ in range(2):
            service = site.service()
            await service.begin()
            await settle(service)
            await site.report("A", 500)
            site.database.call(lambda conn: conn.execute("DELETE FROM record WHERE seq = 0").fetchall())
        await site.report("A", 900, from_s=9)
        await settle(service)

    asyncio.run(run())
    assert len(site.reader.records(kind=kinds.RULES_BOOK)) == 1
    assert site.told() == [("A", "speeding", 1, "open")]
