"""Reads per second on a bus at 9600 baud against the wire's own limit and against pymodbus, and how many readings are
wrong with a device that is sometimes late."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drivers.modbus.blocks import Block
from drivers.modbus.codec import rtu_frame
from drivers.modbus.framing import serial_wire
from tests.bench.figure import Figure, at_least, at_most
from tests.drivers.io.bus_rig import STARTS, profile, serial_config, wrong
from tests.drivers.io.receiver_rig import running
from tests.drivers.modbus.line import MS, Asked, Line, plan, replied, truth

BAUD = 9600
COUNT = 20
"""Registers per read."""
SECONDS = 6.0
TIMEOUT_S = 0.1
LATE_S = 0.15
"""Above the timeout, and above the longest time that the profile allows."""
EVERY = 7
"""Every so-manieth answer is late."""
READS = 70
LATE_SECONDS = 15.0
READINGS = 10_000
SAME = tuple(Block(3, start, 4) for start in STARTS)


def run() -> Iterator[Figure]:
    """All figures."""
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    limit, ours, theirs = _limit(), _ours(), _pymodbus()
    detail = f"{ours:.2f} of {limit:.2f} reads/s of {COUNT} registers at {BAUD} baud"
    yield at_least("modbus: reads on a 9600-baud bus, of the wire's limit", ours / limit, 0.9, detail=detail)
    detail = f"pymodbus {theirs:.2f} reads/s; it leaves out the 3.5 characters of silence"
    yield Figure("modbus: reads on a 9600-baud bus, of pymodbus's", ours / theirs, "x", detail=detail)
    yield _simulated()
    yield _late_ours()
    yield _late("pymodbus", _late_pymodbus())
    if importlib.util.find_spec("minimalmodbus"):
        yield _late("minimalmodbus", _late_minimalmodbus())


# ------------------------------------------------------------------------------------------- speed


def _limit() -> float:
    """Reads per second if nobody lost any time: question, silence, answer, silence."""
    wire = serial_wire(BAUD)
    return 1e9 / (wire.time_ns(8 + 5 + 2 * COUNT) + 2 * wire.gap_ns)


@contextmanager
def _device(late_s: float = 0.0, every: int = 0, baud: int = BAUD) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.modbus_device", str(baud), str(late_s), str(every)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def _ours() -> float:
    async def measure(port: str, folder: Path) -> float:
        value = '[[block.value]]\nquantity = "register_0"\naddress = 0\nunit = "1"\n'
        example = f"[[example]]\nregisters = ['{'0001' * COUNT}']\nexpect = {{ register_0 = \"1 1\" }}\n"
        path = folder / "read.toml"
        path.write_text(
            'format = "sensor/v1"\nid = "read"\ntitle = "One block"\nsource = "bench"\n'
            f"[[block]]\nfunction = 3\naddress = 0\ncount = {COUNT}\n{value}{example}{example}"
        )
        config = serial_config(port, str(path), baud=BAUD, interval_s=0.001)
        async with running(config) as source:
            await source.counted("answers", 3)
            before, began_s = source.status.counters["answers"], time.perf_counter()
            await asyncio.sleep(SECONDS)
            return (source.status.counters["answers"] - before) / (time.perf_counter() - began_s)

    with _device() as port, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(port, Path(folder)))


def _pymodbus() -> float:
    from pymodbus.client import AsyncModbusSerialClient

    async def measure(port: str) -> float:
        client = AsyncModbusSerialClient(port, baudrate=BAUD, timeout=1, retries=0)
        await client.connect()
        for _ in range(3):
            await client.read_holding_registers(0, count=COUNT, device_id=1)
        reads, began_s = 0, time.perf_counter()
        while time.perf_counter() - began_s < SECONDS:
            await client.read_holding_registers(0, count=COUNT, device_id=1)
            reads += 1
        seconds = time.perf_counter() - began_s
        client.close()
        return reads / seconds

    with _device() as port:
        return asyncio.run(measure(port))


# -------------------------------------------------------------------------------------- late answers


def _simulated() -> Figure:
    """A session in simulated time: one answer in ten comes up to 40 times later than the device may take."""
    dice = random.Random(4)
    free_ns = 0

    def slave(asked: Asked) -> Sequence[tuple[int, bytes]]:
        nonlocal free_ns
        late_ms = dice.uniform(5, dice.choice([400, 1000, 4000])) if dice.random() < 0.1 else 5
        free_ns = max(free_ns, asked.at_ns) + int(late_ms * MS)
        return [(free_ns - asked.at_ns, rtu_frame(asked.unit, replied(asked.unit, asked.request)))]

    line = Line([plan(1, *SAME, timeout_ms=100, response_max_ms=100, interval_s=0.01)], [slave])
    bad, readings, late, seconds = 0, 0, 0, 0
    while readings < READINGS:
        line.run(600)
        seconds += 600
        readings += len(line.readings())
        bad += len(line.wrong())
        late = line.counts["no_answer"]
        line.drafts.clear()
        line.asked.clear()
    detail = f"{readings} readings of 3 blocks in {seconds / 3600:.1f} simulated hours, {late} unanswered questions"
    return at_most("modbus: wrong values with a late device, simulated", bad, 0, "values", detail)


def _late_ours() -> Figure:
    async def measure(port: str, folder: Path) -> tuple[int, int]:
        path = profile(folder, timeout_ms=int(TIMEOUT_S * 1000), response_max_ms=int(TIMEOUT_S * 1000))
        async with running(serial_config(port, path, baud=115_200, interval_s=0.02)) as source:
            await asyncio.sleep(LATE_SECONDS)
            found = source.sink.of("reading")
            return len(wrong(found)), len(found)

    with _device(LATE_S, EVERY, 115_200) as port, tempfile.TemporaryDirectory() as folder:
        bad, readings = asyncio.run(measure(port, Path(folder)))
    detail = (
        f"a real pty, every {EVERY}th answer {LATE_S * 1000:.0f} ms late: {readings} readings in {LATE_SECONDS:g} s"
    )
    return at_most("modbus: wrong values with a late device, ours", bad, 0, "values", detail)


def _late(name: str, found: list[str]) -> Figure:
    bad = found.count("wrong")
    detail = (
        f"{len(found)} reads: {found.count('right')} right, {found.count('error')} errors, {bad} another register's"
    )
    return Figure(f"modbus: wrong reads with a late device, {name}", bad, "reads", detail=detail)


def _judge(start: int, registers: Sequence[int]) -> str:
    return "right" if list(registers) == [truth(1, start + at) for at in range(4)] else "wrong"


def _late_pymodbus() -> list[str]:
    from pymodbus.client import AsyncModbusSerialClient
    from pymodbus.exceptions import ModbusException

    async def measure(port: str) -> list[str]:
        client = AsyncModbusSerialClient(port, baudrate=115_200, timeout=TIMEOUT_S, retries=0)
        await client.connect()
        found = []
        for number in range(READS):
            start = STARTS[number % 3]
            try:
                answer: Any = await client.read_holding_registers(start, count=4, device_id=1)
                found.append(_judge(start, answer.registers))
            except ModbusException:
                found.append("error")
        client.close()
        return found

    with _device(LATE_S, EVERY, 115_200) as port:
        return asyncio.run(measure(port))


def _late_minimalmodbus() -> list[str]:
    import minimalmodbus

    with _device(LATE_S, EVERY, 115_200) as port:
        client = minimalmodbus.Instrument(port, 1)
        client.serial.baudrate, client.serial.timeout = 115_200, TIMEOUT_S
        found = []
        for number in range(READS):
            start = STARTS[number % 3]
            try:
                found.append(_judge(start, client.read_registers(start, 4)))
            except (minimalmodbus.ModbusException, OSError):
                found.append("error")
        client.serial.close()
        return found
