"""Runs the worked examples of a sensor profile: registers in, exactly the values out that the example expects."""

from __future__ import annotations

from pathlib import Path

from drivers.modbus import decode
from drivers.modbus.blocks import Block
from drivers.modbus.decode import READ_BITS, Sensor
from firmware_profiles.sensor_check import hex_of
from firmware_profiles.sensor_model import SensorExample, SensorProfile
from firmware_profiles.worked import Result, compare
from gateway.core.readings import name_of, shown


def check_examples(profile: SensorProfile, path: Path) -> list[Result]:
    """Run every example of a profile; `path` names its file in the results."""
    sensor = decode.compile(profile)
    return [_run(path, number, one, sensor) for number, one in enumerate(profile.example, 1)]


def registers_of(block: Block, text: str) -> tuple[int, ...]:
    """Registers, or bits as 0 and 1, of the hex of an example."""
    content = bytes.fromhex(hex_of(text))
    if block.function in READ_BITS:
        return tuple(content[at // 8] >> at % 8 & 1 for at in range(block.count))
    return tuple(int.from_bytes(content[at : at + 2], "big") for at in range(0, len(content), 2))


def _run(path: Path, number: int, example: SensorExample, sensor: Sensor) -> Result:
    name = f"example {number}: {example.note or 'no note'}"
    answers = {block: registers_of(block, text) for block, text in zip(sensor.blocks, example.registers, strict=True)}
    found = {name_of(value): shown(value) for value in sensor.read(answers)}
    return compare(path, name, found, example.expect)
