"""What goes wrong on a line (fume.md B3), each against three blocks of the same length: never a wrong value, and the
right ones as soon as it is over. `tests/drivers/io/test_bus_faults.py` has the same on real ptys."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.modbus.blocks import Block
from drivers.modbus.codec import Request, exception_pdu, rtu_frame
from drivers.modbus.events import Closed, Opened, Received
from tests.drivers.modbus.line import MS, Asked, Line, Slave, healthy, plan, replied

SAME = (Block(3, 0, 4), Block(3, 10, 4), Block(3, 20, 4))


def answer(asked: Asked) -> bytes:
    return rtu_frame(asked.unit, replied(asked.unit, asked.request))


def once(fault: Slave, unit: int = 1, number: int = 0) -> Slave:
    """The device is well but for one answer."""
    asked_before = count()

    def slave(asked: Asked) -> Sequence[tuple[int, bytes]]:
        if asked.unit != unit:
            return ()
        return fault(asked) if next(asked_before) == number else healthy(unit)(asked)

    return slave


def always(fault: Slave, unit: int = 1) -> Slave:
    return lambda asked: fault(asked) if asked.unit == unit else ()


def faulty(slave: Slave, seconds: float = 30, **more: object) -> Line:
    line = Line([plan(1, *SAME, **more), plan(2, Block(3, 0, 4))], [slave, healthy(2)])
    line.run(seconds)
    assert not line.wrong()
    assert len(line.readings("device-2")) >= 0.8 * seconds
    return line


def late(delay_ms: int) -> Slave:
    return lambda asked: [(delay_ms * MS, answer(asked))]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("delay_ms", [300, 349, 360, 620, 900, 1500, 4000])
def test_one_late_answer(delay_ms: int, number: int) -> None:
    """Later than the device may be: in the silence, in the next question, in another device's turn."""
    line = faulty(once(late(delay_ms), number=number))
    assert len(line.readings("device-1")) >= 22


def test_an_answer_within_the_longest_time_is_taken_after_the_timeout_and_counted() -> None:
    line = faulty(always(late(350)), timeout_ms=250, response_max_ms=500, interval_s=2)
    assert len(line.readings("device-1")) >= 13
    assert line.counts["late_answers"] == 3 * len(line.readings("device-1")) > 30


@pytest.mark.parametrize("delay_ms", [350, 500, 1200, 9000])
def test_every_answer_slower_than_the_device_may_be(delay_ms: int) -> None:
    line = faulty(always(late(delay_ms)), seconds=300)
    assert not line.readings("device-1")
    assert ("device-1", "offline") in line.told()
    gaps = [one.data["reason"] for one in line.of("device.gap", "device-1")]
    assert "late" in gaps or line.counts["late_dropped"] or "wrong-count" in gaps


def test_fewer_registers_than_asked_for() -> None:
    short: Slave = lambda asked: [(5 * MS, rtu_frame(1, replied(1, Request(3, asked.request.address, 3))))]  # noqa: E731
    line = faulty(once(short))
    assert line.of("device.gap", "device-1")[0].data["first_reason"] == "wrong-count"
    assert len(line.readings("device-1")) >= 25
    assert not faulty(always(short)).readings("device-1")


@pytest.mark.parametrize("noise", [b"\x00", b"\xff", b"\x00\xff\x00"])
def test_noise_before_and_behind(noise: bytes) -> None:
    line = faulty(always(lambda asked: [(5 * MS, noise + answer(asked) + noise)]))
    assert len(line.readings("device-1")) >= 29
    assert not line.of("device.gap", "device-1")


@pytest.mark.parametrize("apart_ms", [0, 2])
def test_an_echo(apart_ms: int) -> None:
    line = faulty(always(lambda asked: [(MS, asked.frame), ((4 + apart_ms) * MS, answer(asked))]))
    assert len(line.readings("device-1")) >= 29
    assert line.counts["echoes"] >= 80


def test_a_bad_crc_is_known_at_once_and_told_with_its_bytes() -> None:
    line = faulty(once(lambda asked: [(5 * MS, answer(asked)[:-1] + b"\x00")]))
    [gap] = line.of("device.gap", "device-1")
    assert (gap.data["reason"], gap.data["count"]) == ("bad-crc", 1)
    assert gap.raw == rtu_frame(1, replied(1, Request(3, 0, 4)))[:-1] + b"\x00"
    assert len(line.readings("device-1")) >= 27


def test_bad_crcs_for_hours_are_counted_and_cost_the_others_little() -> None:
    line = faulty(always(lambda asked: [(5 * MS, answer(asked)[:-1] + b"\x00")]), seconds=2 * 3600)
    gaps = line.of("device.gap", "device-1")
    assert len(gaps) <= 10
    assert sum(gap.data["count"] for gap in gaps) >= 0.5 * line.counts["bad_crc"] > 50
    assert line.told("device-1") == [("device-1", "offline")]
    assert "damaged (bad-crc): check baud and parity" in line.of("device.state", "device-1")[0].data["reason"]
    assert len(line.readings("device-2")) > 7150


def test_an_answer_of_another_unit() -> None:
    other: Slave = lambda asked: [(5 * MS, rtu_frame(2, replied(2, asked.request)))]  # noqa: E731
    line = faulty(once(other))
    gap = line.of("device.gap", "device-1")[0]
    assert gap.data["first_reason"] == "wrong-unit"
    assert "an answer of unit 2" in gap.data["detail"]
    always_other = faulty(always(other))
    assert not always_other.readings("device-1")
    assert "others answer in its place" in always_other.of("device.state", "device-1")[0].data["reason"]


def test_one_byte_at_a_time() -> None:
    def slowly(asked: Asked) -> Sequence[tuple[int, bytes]]:
        return [((5 + 5 * n) * MS, bytes([byte])) for n, byte in enumerate(answer(asked))]

    assert len(faulty(always(slowly)).readings("device-1")) >= 29


def test_a_device_that_stops_in_the_middle() -> None:
    line = faulty(once(lambda asked: [(5 * MS, answer(asked)[:7])]))
    assert line.of("device.gap", "device-1")[0].data["first_reason"] == "short"
    assert len(line.readings("device-1")) >= 27


def test_a_device_that_knows_whole_blocks_only_is_asked_plainly_in_the_end() -> None:
    def whole(asked: Asked) -> Sequence[tuple[int, bytes]]:
        return healthy(1)(asked) if asked.request.count == 4 else ()

    line = Line([plan(1, *SAME)], [])
    line.run(10)
    line.slaves = [whole]
    line.run(80)
    assert line.readings()
    line.drafts.clear()
    for _ in range(5):  # it is known now: an answer that is lost costs a pause, and no fences
        line.slaves = []
        line.run(1.5)
        line.slaves = [whole]
        line.run(5)
        assert len(line.readings()) >= 3
        line.drafts.clear()
    assert not line.wrong()


@pytest.mark.parametrize("delay_ms", [320, 500, 900])
def test_a_late_refusal_is_not_taken_for_that_of_a_fence(delay_ms: int) -> None:
    """The device refuses fences, and once, late, a block: without a pause every later answer would be one behind."""
    free_ns = 0
    number = count()

    def slave(asked: Asked) -> Sequence[tuple[int, bytes]]:
        nonlocal free_ns
        is_late = asked.request.count == 4 and next(number) % 7 == 3
        free_ns = max(free_ns, asked.at_ns) + (delay_ms if is_late else 5) * MS
        refused = is_late or asked.request.count != 4
        said = rtu_frame(1, exception_pdu(3, 6)) if refused else answer(asked)
        return [(free_ns - asked.at_ns, said)]

    line = Line([plan(1, *SAME)], [slave])
    line.run(120)
    assert not line.wrong()
    assert len(line.readings()) > 20


@pytest.mark.parametrize("delay_ms", [200, 260, 700])
def test_what_was_asked_before_the_line_broke_is_not_taken_after(delay_ms: int) -> None:
    line = Line([plan(1, *SAME)], [always(late(delay_ms))])
    for _ in range(20):
        line.run(0.3)
        line.handle(Closed("unplugged"))
        line.handle(Opened("/dev/bus"))
    line.slaves = [healthy(1)]
    line.run(30)
    assert line.readings()
    assert not line.wrong()


def test_bytes_that_lie_unread_take_the_question_back() -> None:
    """As the runner does it: Received between Send and Sent."""
    line = Line([plan(1, *SAME)], [])
    send = line._send
    stale = rtu_frame(1, replied(1, Request(3, 20, 4)))

    def with_stale(frame: bytes) -> None:
        if line.counts["questions_taken_back"] < 3:
            line.handle(Received(stale))
        send(frame)

    line._send = with_stale  # type: ignore[method-assign]
    line.slaves = [healthy(1)]
    line.run(5)
    assert line.counts["questions_taken_back"] == 3
    assert len(line.readings()) == 5
    assert not line.wrong()


# --------------------------------------------------------------------------------------- at random


def in_order(dice: random.Random, delay_ms: Callable[[], float], unit: int, single: float = 0.0) -> Slave:
    """A device that answers one question after the other, each in its own time; `single`: how often it forgets a
    question that came while it worked at another."""
    free_ns = 0

    def slave(asked: Asked) -> Sequence[tuple[int, bytes]]:
        nonlocal free_ns
        if asked.unit != unit or (asked.at_ns < free_ns and dice.random() < single):
            return ()
        free_ns = max(free_ns, asked.at_ns) + int(delay_ms() * MS)
        return [(free_ns - asked.at_ns, answer(asked))]

    return slave


@pytest.mark.parametrize("seed", range(9))
def test_late_at_random_never_gives_a_wrong_value(seed: int) -> None:
    dice = random.Random(seed)
    longest = dice.choice([300, 600, 2500, 8000])
    slaves = [
        in_order(dice, lambda: dice.choice([5, 5, 5, dice.uniform(5, longest)]), unit, seed % 3 / 2) for unit in (1, 2)
    ]
    line = Line([plan(1, *SAME), plan(2, *SAME)], slaves)
    line.run(1200)
    assert not line.wrong()
    assert len(line.readings()) > 40


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=40)), max_size=30), st.integers(0, 3))
def test_any_bytes_at_any_time_never_raise_and_never_stop_the_bus(noise: list[tuple[int, bytes]], kind: int) -> None:
    line = Line([plan(1, *SAME), plan(2)], [healthy(1), healthy(2)])
    for delay_ms, data in noise:
        sound = [data, rtu_frame(1, data[:60] or b"\x03"), rtu_frame(2, b"\x83\x02"), b"\x01\x03\x08" + data][kind]
        line.say(delay_ms * MS, sound)
    line.run(20)
    assert len(line.readings("device-2")) > 5
