"""The clock and what satellites say of it: when it is synchronised by them, mapped by them, and when not."""

from __future__ import annotations

import pytest

from gateway.clock import SystemClock
from gateway.core import kinds
from gateway.core.record import Record
from tests.gateway.doubles import SECOND, START_UTC_NS
from tests.gateway.test_clock import GOOD, YEAR_S, Box, stored


def told(box: Box, clock: SystemClock, ahead_s: float, count: int = 10, source: str = "gps-1") -> None:
    """A receiver tells the time once a second: true time is the box's clock plus `ahead_s`."""
    for _ in range(count):
        box.pass_s(1)
        clock.mark(source, box.utc_ns + int(ahead_s * SECOND), box.mono_ns, SECOND // 2)


def polled(box: Box, clock: SystemClock) -> dict[str, Record]:
    """What a poll tells, stored."""
    records = stored(clock.poll(), clock.now())
    clock.confirm()
    return {record.kind: record for record in records}


def test_satellites_that_agree_with_the_clock_make_it_synchronised() -> None:
    box = Box()
    clock = box.clock(7, unmapped=(4, 5))
    assert polled(box, clock)[kinds.CLOCK_STATE].data["gnss"] is None
    told(box, clock, 0.3)
    found = polled(box, clock)
    state = found[kinds.CLOCK_STATE].data
    assert (state["synchronised"], state["source"]) == (True, "gnss")
    assert state["gnss"] == {
        "source": "gps-1",
        "offset_ms": 300,
        "uncertainty_ms": 500,
        "marks": 10,
        "age_s": 0,
        "against": "",
    }
    assert clock.synchronised
    assert clock.source == "gnss"
    mapping = found[kinds.CLOCK_MAP].data
    assert (mapping["epochs"], mapping["source"]) == ([4, 5], "gnss")
    assert int(mapping["offset_ns"]) == box.utc_ns - box.mono_ns + 300_000_000
    assert mapping["uncertainty_ms"] == 555  # 500 ms, and 500 ppm of the 110 s since boot
    assert polled(box, clock) == {}


def test_satellites_that_show_the_clock_wrong_map_its_epoch_and_do_not_call_it_synchronised() -> None:
    box = Box(mono_ns=5 * SECOND, utc_ns=3 * SECOND)
    clock = box.clock(7, unmapped=(4,))
    box.pass_s(100)
    told(box, clock, START_UTC_NS / SECOND)
    found = polled(box, clock)
    state = found[kinds.CLOCK_STATE].data
    assert (state["synchronised"], state["source"]) == (False, "none")
    assert state["gnss"]["offset_ms"] == START_UTC_NS // 1_000_000
    assert not clock.synchronised
    mapping = found[kinds.CLOCK_MAP].data
    assert (mapping["epochs"], mapping["source"]) == ([4, 7], "gnss")
    true_utc_ns = box.utc_ns + START_UTC_NS
    assert box.mono_ns + int(mapping["offset_ns"]) == true_utc_ns
    assert polled(box, clock) == {}  # once

    box.set_s(START_UTC_NS / SECOND)  # then NTP sets the clock: its own map follows, it knows better
    box.discipline = GOOD
    clock.now()
    mapping = polled(box, clock)[kinds.CLOCK_MAP].data
    assert (mapping["epochs"], mapping["source"]) == ([4, 7], "ntp")
    assert abs(box.mono_ns + int(mapping["offset_ns"]) - true_utc_ns) <= SECOND // 2
    assert polled(box, clock) == {}


def test_who_keeps_the_clock_comes_before_satellites() -> None:
    box = Box(discipline=GOOD)
    clock = box.clock(7, unmapped=(4,))
    told(box, clock, -100)
    found = polled(box, clock)
    assert found[kinds.CLOCK_STATE].data["source"] == "ntp"
    assert found[kinds.CLOCK_STATE].data["gnss"]["offset_ms"] == -100_000
    assert found[kinds.CLOCK_MAP].data["source"] == "ntp"
    assert int(found[kinds.CLOCK_MAP].data["offset_ns"]) == box.utc_ns - box.mono_ns
    assert clock.gnss is not None
    assert clock.gnss.offset_ns == -100 * SECOND


@pytest.mark.parametrize(("ahead_s", "good"), [(1.4, True), (-1.4, True), (1.6, False), (-1.6, False)])
def test_how_near_is_right(ahead_s: float, good: bool) -> None:
    box = Box()
    clock = box.clock()
    told(box, clock, ahead_s)
    polled(box, clock)
    assert clock.synchronised is good


def test_a_step_asks_the_satellites_again() -> None:
    box = Box()
    clock = box.clock()
    told(box, clock, 0)
    polled(box, clock)
    assert clock.synchronised
    box.set_s(YEAR_S)
    clock.now()
    assert not clock.synchronised
    found = polled(box, clock)
    assert found[kinds.CLOCK_STATE].data["gnss"]["offset_ms"] == -YEAR_S * 1000
    assert found[kinds.CLOCK_MAP].data["epochs"] == [8]  # 7 was right
    box.set_s(-YEAR_S)
    clock.now()
    found = polled(box, clock)
    assert found[kinds.CLOCK_STATE].data["synchronised"] is True
    assert kinds.CLOCK_MAP not in found


def test_what_satellites_said_grows_old() -> None:
    box = Box()
    clock = box.clock()
    told(box, clock, 0)
    polled(box, clock)
    box.pass_s(119)
    polled(box, clock)
    assert clock.synchronised
    box.pass_s(2)
    assert polled(box, clock)[kinds.CLOCK_STATE].data["gnss"] is None
    assert not clock.synchronised
    assert clock.gnss is not None
    assert clock.gnss.age_s == 121
    box.pass_s(3600)
    assert clock.gnss is None


def test_a_map_that_was_not_stored_comes_again() -> None:
    box = Box(utc_ns=3 * SECOND)
    clock = box.clock()
    told(box, clock, START_UTC_NS / SECOND)
    assert [draft.kind for draft in clock.poll()] == [kinds.CLOCK_STATE, kinds.CLOCK_MAP]
    assert [draft.kind for draft in clock.poll()] == [kinds.CLOCK_STATE, kinds.CLOCK_MAP]
    clock.confirm()
    assert clock.poll() == []


def test_receivers_that_contradict_one_another_decide_nothing() -> None:
    box = Box()
    clock = box.clock()
    for _ in range(10):
        told(box, clock, 0, 1, "gps-1")
        told(box, clock, 50, 1, "gps-2")
    found = polled(box, clock)
    assert found[kinds.CLOCK_STATE].data["gnss"]["against"] == "gps-2"
    assert not clock.synchronised
    assert kinds.CLOCK_MAP not in found
