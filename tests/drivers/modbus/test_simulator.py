"""The simulated bus: its devices say what their kitchens measure, and each fault is the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.fleet.kitchens import Kitchen, Upset
from drivers.fleet.vehicles import DeviceClock
from drivers.modbus import codec
from drivers.modbus.simulator import FAULTS, Bus, Fault, FaultKind, Span, Unit, concentrator, meter

T0 = 1_790_000_000
KITCHEN = Kitchen("k1", T0, None, ((T0 - 3600, T0 + 3600),), seed=5)
CLOCK = DeviceClock(100.0, T0)
READ = codec.Request(3, 0, 20)


def numbers(utc_s: int) -> Mapping[int, Span]:
    return {3: (10, tuple(range(utc_s - T0, utc_s - T0 + 8)))}


def ask(unit: int, request: codec.Request) -> bytes:
    return codec.rtu_frame(unit, request.pdu())


def said(bus: Bus, unit: int, request: codec.Request, at_s: float = 100.0) -> tuple[int, ...] | str:
    """Registers of the answer, or what is wrong with it."""
    answers = bus.received(ask(unit, request), at_s)
    found = codec.RtuReader(unit, request).feed(b"".join(one.content for one in answers))
    if isinstance(found, codec.Found):
        return found.reply.registers or f"exception {found.reply.exception}"
    return found or "nothing"


def test_a_concentrator_says_what_its_kitchen_measures() -> None:
    bus = Bus([Unit(1, concentrator(KITCHEN))], CLOCK)
    registers = said(bus, 1, READ, 105.0)
    assert isinstance(registers, tuple)
    seen = KITCHEN.measure(T0 + 5)
    assert seen is not None
    values = [registers[2 * n] << 16 | registers[2 * n + 1] for n in range(10)]
    assert values[:3] == [seen.fume_e2, seen.pm_e2, seen.nmhc_e2]
    assert values[6:] == [round(seen.fan_ma / 10), 100, round(seen.purifier_ma / 10), 100]
    assert bus.truth[-1].registers == registers
    assert bus.truth[-1].is_sound


def test_negative_fume_is_twos_complement() -> None:
    sick = Kitchen("k1", T0, None, KITCHEN.shifts, upsets=(Upset("negative", T0, T0 + 100, 30),))
    registers = said(Bus([Unit(1, concentrator(sick))], CLOCK), 1, READ)
    assert isinstance(registers, tuple)
    assert registers[0] == 0xFFFF
    assert -40 < registers[1] - 0x10000 < -20


def test_a_meter_has_its_low_word_first() -> None:
    bus = Bus([Unit(2, meter(KITCHEN, "fan")), Unit(3, meter(KITCHEN, "purifier"))], CLOCK)
    seen = KITCHEN.measure(T0)
    assert seen is not None
    for unit, milliamperes in ((2, seen.fan_ma), (3, seen.purifier_ma)):
        registers = said(bus, unit, codec.Request(4, 0, 10))
        assert isinstance(registers, tuple)
        assert registers[1] | registers[2] << 16 == milliamperes
        assert registers[3] == round(2305 * milliamperes * 92 / 100_000)
        assert registers[7:] == (500, 92, 0)


def test_what_a_device_does_not_have_is_an_exception() -> None:
    bus = Bus([Unit(1, numbers)], CLOCK)
    assert said(bus, 1, codec.Request(3, 10, 8)) == tuple(range(8))
    assert said(bus, 1, codec.Request(3, 12, 2)) == (2, 3)
    assert said(bus, 1, codec.Request(3, 9, 2)) == "exception 2"
    assert said(bus, 1, codec.Request(3, 17, 2)) == "exception 2"
    assert said(bus, 1, codec.Request(4, 10, 2)) == "exception 1"
    assert said(bus, 1, codec.Request(6, 10, 1, (7,))) == "exception 1"
    assert said(bus, 9, codec.Request(3, 10, 2)) == "nothing"


def test_a_device_without_power_says_nothing() -> None:
    dead = Kitchen("k1", T0, None, KITCHEN.shifts, upsets=(Upset("offline", T0 + 10, T0 + 20),))
    bus = Bus([Unit(1, concentrator(dead)), Unit(2, meter(dead, "fan"))], CLOCK)
    assert said(bus, 1, READ, 111.0) == "nothing"
    assert said(bus, 2, codec.Request(4, 0, 10), 111.0) == "nothing"
    assert isinstance(said(bus, 1, READ, 121.0), tuple)


@pytest.mark.parametrize(
    ("kind", "amount", "outcome"),
    [
        ("bad-crc", 0, "bad-crc"),
        ("short", 0, "wrong-count"),
        ("wrong-unit", 7, "wrong-unit"),
        ("flood", 1500, "flood"),
        ("dead", 0, "nothing"),
        ("noise", 0, (0, 1)),
        ("slow", 500, (0, 1)),
        ("late", 500, (0, 1)),
    ],
)
def test_each_fault_is_what_it_says_each_third_time(
    kind: FaultKind, amount: int, outcome: str | tuple[int, ...]
) -> None:
    bus = Bus([Unit(1, numbers, faults=(Fault(kind, amount, every=3),)), Unit(2, numbers)], CLOCK)
    request = codec.Request(3, 10, 2)
    seen = [said(bus, 1, request) for _ in range(6)]
    assert seen == [(0, 1), (0, 1), outcome, (0, 1), (0, 1), outcome]
    assert said(bus, 2, request) == (0, 1)
    sound = [told.is_sound for told in bus.truth if told.unit == 1]
    assert sound.count(False) == (0 if kind in ("noise", "slow", "dead") else 2)


def test_every_fault_has_a_test() -> None:
    assert len(FAULTS) == 8


def test_slow_and_late_answers_come_when_they_say() -> None:
    units = [Unit(1, numbers, faults=(Fault("slow", 40),)), Unit(2, numbers, faults=(Fault("late", 900, every=2),))]
    bus = Bus(units, CLOCK)
    request = codec.Request(3, 10, 2)
    assert bus.received(ask(1, request), 100.0)[0].at_s == pytest.approx(100.055)
    assert [bus.received(ask(2, request), 100.0)[0].at_s for _ in range(2)] == pytest.approx([100.015, 100.915])


def test_bytes_take_as_long_as_on_a_line_of_that_speed() -> None:
    bus = Bus([Unit(1, numbers)], CLOCK, baud=9600)
    (answer,) = bus.received(ask(1, codec.Request(3, 10, 2)), 100.0)
    assert answer.at_s == pytest.approx(100.0 + 0.015 + (8 + 9) * 10 / 9600)


def test_requests_come_in_any_pieces_and_noise_between_them_is_passed_over() -> None:
    bus = Bus([Unit(1, numbers)], CLOCK)
    frame = ask(1, codec.Request(3, 10, 2))
    found = [answer for byte in b"\x00" + frame for answer in bus.received(bytes([byte]), 100.0)]
    assert len(found) == 1
    assert bus.malformed == 1
    assert bus.received(frame[:5], 101.0) == []
    assert len(bus.received(frame, 102.0)) == 1
    assert bus.malformed == 6


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_bytes_never_raise_and_are_not_kept(pieces: list[bytes]) -> None:
    bus = Bus([Unit(1, numbers)], CLOCK)
    for piece in pieces:
        bus.received(piece, 100.0)
    assert len(said(bus, 1, codec.Request(3, 10, 2), 200.0)) > 0
