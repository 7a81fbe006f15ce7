"""The faults of fume.md B3 on real ptys: three blocks of the same length, a scripted device, never a wrong value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from drivers.modbus.codec import Request, exception_pdu, rtu_frame
from tests.drivers.io.bus_rig import Script, bus, healthy, profile, serial_config, sound, wrong
from tests.drivers.io.receiver_rig import Source, drive, running
from tests.drivers.modbus.line import Asked, replied

LONGEST_S = 0.1
"""What the profile says that the device may take; with the line's allowance 0.15 s pass before the next question."""


def late(after_s: float) -> Script:
    return lambda asked: [(after_s, sound(asked))]


def short(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [
        (0.0, rtu_frame(asked.unit, replied(asked.unit, Request(3, asked.request.address, asked.request.count - 1))))
    ]


def noisy(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [(0.0, b"\x00" + sound(asked) + b"\x00")]


def turned(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [(0.0, b"\xff"), (0.01, sound(asked))]


def echoed(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [(0.0, asked.frame), (0.005, sound(asked))]


def damaged(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [(0.0, sound(asked)[:-1] + b"\x00")]


def stranger(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [(0.0, rtu_frame(9, replied(9, asked.request)))]


def bytewise(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [(0.005 * n, bytes([byte])) for n, byte in enumerate(sound(asked))]


def refusing(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [(0.0, rtu_frame(asked.unit, exception_pdu(asked.request.function, 2)))]


def dead(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return []


def once(fault: Script, number: int) -> Script:
    numbers = iter(range(1_000_000))

    def script(asked: Asked) -> Sequence[tuple[float, bytes]]:
        return fault(asked) if next(numbers) == number else healthy(asked)

    return script


async def read(source: Source, count: int) -> None:
    """So many more readings, and none of all is wrong."""
    before = len(source.sink.of("reading"))
    await source.until(lambda: len(source.sink.of("reading")) >= before + count)
    assert not wrong(source.sink.of("reading"))


def run(folder: Path, script: Script, then: Callable[[Source], object], interval_s: float = 0.05) -> None:
    async def scenario() -> None:
        async with bus(folder, script) as line:
            path = profile(folder, timeout_ms=100, response_max_ms=int(LONGEST_S * 1000))
            config = serial_config(line.path, path, baud=115_200, interval_s=interval_s)
            async with running(config) as source:
                await then(source)  # type: ignore[misc]
                assert not wrong(source.sink.of("reading"))

    drive(scenario)


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        (late(LONGEST_S + 0.06), "no_answer"),
        (late(LONGEST_S + 0.3), "no_answer"),
        (short, "wrong_count"),
        (damaged, "bad_crc"),
        (stranger, "wrong_unit"),
        (refusing, "exceptions"),
        (dead, "no_answer"),
    ],
    ids=["late", "very late", "short", "bad crc", "wrong unit", "exception", "dead"],
)
def test_one_bad_answer_costs_one_round(tmp_path: Path, fault: Script, counted: str) -> None:
    """To the second question of a round."""

    async def then(source: Source) -> None:
        await source.counted(counted)
        await read(source, 3)

    run(tmp_path, once(fault, 1), then)


@pytest.mark.parametrize("fault", [noisy, turned, echoed, bytewise], ids=["00 around", "FF before", "echo", "bytewise"])
def test_what_a_line_does_to_good_answers_is_survived(tmp_path: Path, fault: Script) -> None:
    async def then(source: Source) -> None:
        await read(source, 3)
        assert source.status.state == "ok"
        assert not source.sink.of("device.gap")

    run(tmp_path, fault, then)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [late(LONGEST_S + 0.1), short, damaged, stranger], ids=["late", "short", "crc", "unit"]
)
def test_a_device_that_is_always_wrong_is_never_read_and_told(tmp_path: Path, fault: Script) -> None:
    async def then(source: Source) -> None:
        await source.state("degraded", "1 of 1 devices give no readings: device-1")
        assert not source.sink.of("reading")
        await source.until(lambda: source.states() == ["online", "offline"])

    run(tmp_path, fault, then)


def test_a_slow_answer_within_the_longest_time_is_its_own(tmp_path: Path) -> None:
    async def then(source: Source) -> None:
        await read(source, 2)

    run(tmp_path, late(0.08), then)


@pytest.mark.slow
def test_the_others_go_on_beside_a_dead_a_late_and_a_noisy_device(tmp_path: Path) -> None:
    async def scenario() -> None:
        def each(asked: Asked) -> Sequence[tuple[float, bytes]]:
            scripts = {1: healthy, 2: dead, 3: late(LONGEST_S + 0.06), 4: damaged}
            return scripts[asked.unit](asked)

        async with bus(tmp_path, each) as line:
            path = profile(tmp_path, timeout_ms=100, response_max_ms=100)
            async with running(serial_config(line.path, path, 1, 2, 3, 4, interval_s=0.05)) as source:
                await read(source, 30)
                assert {draft.device for draft in source.sink.of("reading")} == {"device-1"}

    drive(scenario)
