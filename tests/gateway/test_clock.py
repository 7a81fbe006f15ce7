"""The clock, by lists of readings: steps, slews, suspend, boxes without RTC and without /proc."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock as module
from gateway.clock import (
    PENDING_STEPS_MAX,
    Chrony,
    Discipline,
    Readers,
    SystemClock,
    Timex,
    parse_chrony,
    read_boot_id,
    read_chrony,
    read_discipline,
    read_timex,
    unmapped_epochs,
)
from gateway.core import kinds
from gateway.core.errors import StoreFull
from gateway.core.instant import Instant
from gateway.core.record import Draft, Record, StateChange, check_draft, encode_leaf, parse_leaf
from tests.gateway.doubles import BOOT, SECOND, START_UTC_NS

YEAR_S = 365 * 86_400
GOOD = Discipline(timex=Timex(0, 0x2001, 5_000, 100, 0, 37), timesyncd=True)
BAD = Discipline(timex=Timex(5, 0x40, 16_000_000, 16_000_000, 0, 0))


@dataclass
class Box:
    """The readings of a box that a test moves."""

    mono_ns: int = 100 * SECOND
    utc_ns: int = START_UTC_NS
    slept_ns: int = 0
    discipline: Discipline = field(default_factory=lambda: BAD)

    def pass_s(self, seconds: float, ppm: float = 0.0) -> None:
        passed_ns = int(seconds * SECOND)
        self.mono_ns += passed_ns
        self.utc_ns += passed_ns + int(passed_ns * ppm / 1e6)

    def set_s(self, seconds: float) -> None:
        self.utc_ns += int(seconds * SECOND)

    def suspend_s(self, seconds: float) -> None:
        self.slept_ns += int(seconds * SECOND)
        self.pass_s(seconds)

    def readers(self) -> Readers:
        return Readers(
            boottime_ns=lambda: self.mono_ns,
            monotonic_ns=lambda: self.mono_ns - self.slept_ns,
            realtime_ns=lambda: self.utc_ns,
            boot_id=lambda: (BOOT, "kernel"),
            discipline=lambda: self.discipline,
        )

    def clock(self, first_epoch: int = 7, unmapped: tuple[int, ...] = ()) -> SystemClock:
        return SystemClock(first_epoch, unmapped=unmapped, readers=self.readers())


def stored(drafts: list[Draft], instant: Instant) -> list[Record]:
    """What the drafts become, which also shows that they are inside the canonical profile."""
    for draft in drafts:
        check_draft(draft, instant)
    return [parse_leaf(encode_leaf(draft, instant, seq, b"\0" * 16)) for seq, draft in enumerate(drafts)]


# ---------------------------------------------------------------- readings and steps


def test_a_reading_holds_boot_epoch_and_both_clocks() -> None:
    box = Box()
    assert box.clock(7).now() == Instant(BOOT, 7, 100 * SECOND, START_UTC_NS)


def test_the_narrowest_window_is_kept() -> None:
    box = Box()
    windows = iter([0, 900_000, 1_000_000, 1_700_000, 2_000_000, 2_050_000])
    readers = Readers(lambda: next(windows), lambda: 0, lambda: box.utc_ns, lambda: (BOOT, "kernel"), lambda: BAD)
    assert SystemClock(1, readers=readers)._last.mono_ns == 2_025_000


@pytest.mark.parametrize(
    ("elapsed_s", "jump_s", "stepped"),
    [
        (1, 0, False),
        (1, 0.050, False),  # 50 ms + 600 us are allowed after a second
        (1, 0.0506, False),
        (1, 0.0507, True),
        (1, -0.0507, True),
        (0, 0.051, True),
        (600, 0.40, False),
        (600, 0.42, True),
        (1, YEAR_S, True),
        (1, -YEAR_S, True),
    ],
)
def test_what_is_a_step(elapsed_s: float, jump_s: float, stepped: bool) -> None:
    box = Box()
    clock = box.clock(7)
    box.pass_s(elapsed_s)
    box.set_s(jump_s)
    assert clock.now().epoch == (8 if stepped else 7)
    assert len(clock.take_steps()) == stepped


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
def test_a_step_is_told_once_with_both_sides(jump_s: float) -> None:
    box = Box()
    clock = box.clock(7)
    before = clock.now()
    box.pass_s(2)
    box.set_s(jump_s)
    after = clock.now()
    ((draft, instant),) = clock.take_steps()
    assert instant == after == Instant(BOOT, 8, before.mono_ns + 2 * SECOND, box.utc_ns)
    assert draft.kind == kinds.CLOCK_STEP
    assert draft.data == {
        "before": {"epoch": 7, "mono_ns": str(before.mono_ns), "utc_ns": str(before.utc_ns)},
        "after": {"epoch": 8, "mono_ns": str(after.mono_ns), "utc_ns": str(after.utc_ns)},
        "delta_ns": str(int(jump_s * SECOND)),
        "cause": "set",
        "merged": 0,
    }
    assert stored([draft], instant)[0].instant == after
    assert clock.now().epoch == 8
    assert clock.take_steps() == []


def test_there_and_back_are_two_steps() -> None:
    box = Box()
    clock = box.clock(7)
    for jump_s in (YEAR_S, -YEAR_S):
        box.pass_s(1)
        box.set_s(jump_s)
        clock.now()
    assert [draft.data["delta_ns"][0] for draft, _ in clock.take_steps()] == ["3", "-"]
    assert clock.now().epoch == 9


@pytest.mark.parametrize(("ppm", "epochs"), [(500, 0), (-500, 0), (83_333, 10)])
def test_slewing(ppm: float, epochs: int) -> None:
    """The kernel's 500 ppm are no step in a day; the fastest slew of chrony is one now and then, and named so."""
    box = Box()
    clock = box.clock(7)
    for _ in range(100 if epochs else 86_400):
        box.pass_s(0.1 if epochs else 1, ppm)
        clock.now()
    steps = clock.take_steps()
    assert clock.now().epoch == 7 + len(steps)
    assert len(steps) >= epochs
    assert {draft.data["cause"] for draft, _ in steps} <= {"slew"}


def test_a_clock_walked_away_in_small_steps_is_noticed() -> None:
    box = Box()
    clock = box.clock(7)
    for _ in range(10):
        box.pass_s(1)
        box.set_s(0.049)
        clock.now()
    assert len(clock.take_steps()) >= 4


def test_suspend_alone_is_no_step_and_a_step_after_it_is_named() -> None:
    box = Box()
    clock = box.clock(7)
    box.suspend_s(3600)
    assert clock.now().epoch == 7
    clock.poll()
    box.suspend_s(3600)
    box.set_s(-3600)  # an RTC that stood still
    assert clock.now().epoch == 8
    box.pass_s(10)
    box.set_s(5)
    clock.now()
    assert [draft.data["cause"] for draft, _ in clock.take_steps()] == ["suspend", "set"]


def test_steps_that_could_not_be_stored_come_again_in_order() -> None:
    box = Box()
    clock = box.clock(7)
    for _ in range(2):
        box.set_s(10)
        clock.now()
    taken = clock.take_steps()
    box.set_s(10)
    clock.now()
    clock.put_back_steps(taken)
    assert [instant.epoch for _, instant in clock.take_steps()] == [8, 9, 10]


def test_steps_beyond_the_bound_are_merged_not_lost() -> None:
    box = Box()
    clock = box.clock(7)
    for _ in range(PENDING_STEPS_MAX + 5):
        box.set_s(10)
        clock.now()
    steps = clock.take_steps()
    assert len(steps) == PENDING_STEPS_MAX
    last = steps[-1][0].data
    assert (last["merged"], last["before"]["epoch"]) == (5, 7 + PENDING_STEPS_MAX - 1)
    assert (last["after"]["epoch"], last["delta_ns"]) == (7 + PENDING_STEPS_MAX + 5, str(60 * SECOND))


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(-(10**17), 10**17)), max_size=30))
def test_no_reading_breaks_it_and_within_an_epoch_utc_never_jumps(moves: list[tuple[int, int]]) -> None:
    box = Box()
    clock = box.clock(0)
    readings = [clock.now()]
    for passed_ns, set_ns in moves:
        box.mono_ns += passed_ns
        box.utc_ns = max(0, box.utc_ns + passed_ns + set_ns)
        readings.append(clock.now())
    epochs = [reading.epoch for reading in readings]
    assert epochs == sorted(epochs)
    assert epochs[-1] == len(clock.take_steps())
    for one, other in pairwise(readings):
        moved_ns = (other.utc_ns - other.mono_ns) - (one.utc_ns - one.mono_ns)
        if one.epoch == other.epoch:
            assert abs(moved_ns) <= 50_000_000 + (other.mono_ns - one.mono_ns) * 600 // 1_000_000


# ---------------------------------------------------------------- what is told


def test_state_at_start_then_at_changes_then_every_interval() -> None:
    box = Box()
    clock = box.clock(7)

    def polled(seconds: float, discipline: Discipline) -> list[str]:
        box.pass_s(seconds)
        box.discipline = discipline
        drafts = clock.poll()
        clock.confirm()
        return [draft.kind for draft in drafts]

    assert polled(0, BAD) == [kinds.CLOCK_STATE]
    assert polled(10, BAD) == []
    assert polled(589, BAD) == []
    assert polled(1, BAD) == [kinds.CLOCK_STATE]  # 600 s
    assert polled(10, GOOD) == [kinds.CLOCK_STATE]
    assert clock.synchronised
    assert polled(10, GOOD) == []
    assert polled(10, Discipline(timex=GOOD.timex, timesyncd=True, rtc=True)) == [kinds.CLOCK_STATE]


def test_what_was_not_stored_is_told_again() -> None:
    box = Box()
    clock = box.clock(7)
    assert [draft.kind for draft in clock.poll()] == [kinds.CLOCK_STATE]
    assert [draft.kind for draft in clock.poll()] == [kinds.CLOCK_STATE]
    clock.confirm()
    assert clock.poll() == []


def test_the_state_says_everything_that_is_known() -> None:
    chrony = Chrony("CB00710A", "203.0.113.10", 2, "0.000001", "0.1", "0.02", "0.001", "Normal")
    box = Box(discipline=Discipline(timex=GOOD.timex, chrony=chrony, rtc=True))
    clock = box.clock(7)
    (record,) = stored(clock.poll(), clock.now())
    assert record.data["synchronised"] is True
    assert record.data["source"] == "ntp"
    assert record.data["kernel"]["maxerror_us"] == 5000
    assert record.data["chrony"]["refname"] == "203.0.113.10"
    assert record.data["last_good"] == {"epoch": 7, "mono_ns": str(box.mono_ns), "utc_ns": str(box.utc_ns)}


def test_a_box_that_starts_in_1970_is_mapped_once_it_knows_the_time() -> None:
    box = Box(mono_ns=5 * SECOND, utc_ns=3 * SECOND)
    clock = box.clock(7, unmapped=(4, 5))
    assert clock.now().utc_ns == 3 * SECOND
    assert [draft.kind for draft in clock.poll()] == [kinds.CLOCK_STATE]
    clock.confirm()
    box.pass_s(1000)
    box.set_s(START_UTC_NS / SECOND)
    box.discipline = GOOD
    assert clock.now().epoch == 8
    state, mapping = stored(clock.poll(), clock.now())
    assert (state.kind, mapping.kind) == (kinds.CLOCK_STATE, kinds.CLOCK_MAP)
    assert mapping.data["epochs"] == [4, 5, 7]
    assert mapping.data["mapped_boot"] == BOOT
    offset_ns = int(mapping.data["offset_ns"])
    assert 5 * SECOND + offset_ns == box.utc_ns - 1000 * SECOND
    assert mapping.data["uncertainty_ms"] == 508  # 5 ms now, 500 ppm of 1005 s since boot, rounded up
    assert [draft.kind for draft in clock.poll()] == [kinds.CLOCK_STATE, kinds.CLOCK_MAP]  # not confirmed yet
    clock.confirm()
    assert clock.poll() == []
    box.set_s(100)
    clock.now()
    box.pass_s(1)
    assert [draft.kind for draft in clock.poll()] == [kinds.CLOCK_STATE]  # epoch 8 was good: nothing to map


def test_an_epoch_that_becomes_synchronised_needs_no_map() -> None:
    box = Box()
    clock = box.clock(7)
    clock.poll()
    clock.confirm()
    box.discipline = GOOD
    assert [draft.kind for draft in clock.poll()] == [kinds.CLOCK_STATE]


def test_a_step_makes_the_synchronisation_unknown() -> None:
    box = Box(discipline=GOOD)
    clock = box.clock(7)
    clock.poll()
    assert clock.synchronised
    box.set_s(YEAR_S)
    clock.now()
    assert not clock.synchronised
    assert clock.source == "none"


def test_unmapped_epochs_are_found_in_the_records_of_this_boot() -> None:
    def state(epoch: int, synchronised: bool, boot: str = BOOT) -> Record:
        draft = Draft(kinds.CLOCK_STATE, "gateway", "", {"synchronised": synchronised})
        return stored([draft], Instant(boot, epoch, 1, 1))[0]

    mapping = stored([Draft(kinds.CLOCK_MAP, "gateway", "", {"epochs": [3]})], Instant(BOOT, 6, 1, 1))[0]
    records = [
        state(1, False, "f" * 32),
        state(2, False),
        state(3, False),
        state(4, False),
        state(4, True),
        state(5, False),
        mapping,
    ]
    assert unmapped_epochs(records, BOOT) == [2, 5]


def test_the_loop_stores_and_survives_a_full_store() -> None:
    box = Box()
    clock = box.clock(7)
    seen: list[list[str]] = []

    class Sink:
        async def append(self, drafts: list[Draft], state: list[StateChange] | tuple[()] = ()) -> int:
            seen.append([draft.kind for draft in drafts])
            if len(seen) == 1:
                raise StoreFull("full")
            return 0

    async def run() -> None:
        enough = asyncio.Event()
        ticks = 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            if ticks == 3:
                enough.set()

        async with asyncio.TaskGroup() as group:
            loop = group.create_task(clock.run(Sink(), tick, poll_s=0.001))  # type: ignore[arg-type]
            await enough.wait()
            loop.cancel()

    asyncio.run(run())
    assert seen == [[kinds.CLOCK_STATE], [kinds.CLOCK_STATE]]


# ---------------------------------------------------------------- who keeps the clock


@pytest.mark.parametrize(
    ("discipline", "synchronised", "source"),
    [
        (Discipline(), False, "none"),
        (BAD, False, "none"),
        (GOOD, True, "ntp"),
        (Discipline(timex=Timex(0, 0x40, 10, 10, 0, 0)), False, "none"),  # STA_UNSYNC
        (Discipline(timex=Timex(0, 0, 16_000_000, 10, 0, 0)), False, "none"),
        (Discipline(timesyncd=True), True, "ntp"),  # adjtimex refused by a sandbox
        (Discipline(chrony=Chrony("", "", 0, "0", "0", "0", "0", "Not synchronised")), False, "none"),
        (Discipline(chrony=Chrony("50505300", "PPS", 1, "0", "0", "0", "0", "Normal")), True, "gnss"),
        (Discipline(chrony=Chrony("7F7F0101", "", 10, "0", "0", "0", "0", "Normal")), True, "manual"),
        (Discipline(timex=BAD.timex, timesyncd=True), False, "none"),
    ],
)
def test_who_keeps_the_clock(discipline: Discipline, synchronised: bool, source: str) -> None:
    assert (discipline.synchronised, discipline.source) == (synchronised, source)


TRACKING = b"CB00710A,203.0.113.10,3,1700000000.1,0.00001,-0.000012,0.00003,-1.2,0.01,0.05,0.021,0.003,64.2,Normal\n"


@pytest.mark.parametrize(
    ("answer", "refname"),
    [
        (TRACKING, "203.0.113.10"),
        (b"", None),
        (b"506 Cannot talk to daemon\n", None),
        (TRACKING[:-20], None),
        (TRACKING.replace(b",3,", b",x,"), None),
        (TRACKING.replace(b"203.0.113.10", b"\x1b[31m"), None),
        (b"\xff\xfe" * 5000, None),
    ],
)
def test_answers_of_chrony(answer: bytes, refname: str | None) -> None:
    chrony = parse_chrony(answer)
    assert (chrony.refname if chrony else None) == refname


@given(st.binary(max_size=300))
def test_no_answer_of_chrony_raises(answer: bytes) -> None:
    parse_chrony(answer)


@pytest.mark.parametrize(
    ("script", "refname"),
    [
        (b"#!/bin/sh\nprintf '%s' '" + TRACKING + b"'\n", "203.0.113.10"),
        (b"#!/bin/sh\necho '506 Cannot talk to daemon'; exit 1\n", None),
        (b"not a program", None),
        (b"#!/bin/sh\nexec sleep 30\n", None),
        (None, None),
    ],
)
def test_asking_chrony(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: bytes | None, refname: str | None
) -> None:
    if script is not None:
        (tmp_path / "chronyc").write_bytes(script)
        (tmp_path / "chronyc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if script else str(tmp_path))
    monkeypatch.setattr(module, "CHRONYC_TIMEOUT_S", 0.5)
    chrony = read_chrony()
    assert (chrony.refname if chrony else None) == refname


def test_the_kernel_answers_or_refuses_but_never_raises() -> None:
    timex = read_timex()
    assert timex is None or 0 <= timex.state <= 5
    assert read_discipline().timex == timex


@pytest.mark.parametrize(
    ("file", "variable", "expected"),
    [
        ("01234567-89ab-cdef-0123-456789abcdef\n", "", (BOOT, "kernel")),
        (None, BOOT, (BOOT, "unit")),
        ("rubbish", BOOT.upper(), (BOOT, "unit")),
    ],
)
def test_the_boot_id(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str | None,
    variable: str,
    expected: tuple[str, str],
) -> None:
    path = tmp_path / "boot_id"
    if file is not None:
        path.write_text(file)
    monkeypatch.setattr(module, "BOOT_ID_FILE", path)
    monkeypatch.setenv(module.BOOT_ID_VARIABLE, variable)
    assert read_boot_id() == expected


def test_without_proc_every_start_is_a_boot_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOT_ID_FILE", tmp_path / "none")
    monkeypatch.delenv(module.BOOT_ID_VARIABLE, raising=False)
    (one, origin), (other, _) = read_boot_id(), read_boot_id()
    assert origin == "process"
    assert len(one) == 32
    assert one != other


def test_the_real_clock_moves_forward() -> None:
    read: Callable[[], Instant] = SystemClock(3).now
    one, other = read(), read()
    assert one.boot == other.boot
    assert one.mono_ns <= other.mono_ns
    assert one.epoch == other.epoch == 3
