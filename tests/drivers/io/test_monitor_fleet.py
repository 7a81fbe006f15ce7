"""Simulated monitors and buses on real sockets and ptys, against the real sources: nothing lost, doubled or wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.fleet.kitchens import Upset
from drivers.hj212.simulator import Monitor
from drivers.io.bus_simulator import run_bus
from drivers.io.fleet_runner import run_fleet
from drivers.modbus.simulator import FAULTS, Bus, Fault
from gateway.clock import SYSTEM
from gateway.config_sources import Hj212Config, ModbusDevice, ModbusSerialConfig
from gateway.scenario_kitchens import Wish, bus, kitchens_scenario, monitors
from tests.drivers.io.receiver_rig import Source, drive, free_port, running

MILLION = 1_000_000


def now() -> int:
    return SYSTEM.realtime_ns() // 10**9


def stored(source: Source) -> Counter[tuple[str, int]]:
    """How often each (MN, device time) of a moment is in the store, in whatever parts."""
    found: Counter[tuple[str, int]] = Counter()
    for draft in source.sink.of("reading"):
        if draft.data["message"] == "2011" and draft.data.get("part_of", "1/").startswith("1/"):
            found[draft.device, draft.data["taken_utc_s"]] += 1
    return found


def measured(fleet: Sequence[Monitor]) -> Counter[tuple[str, int]]:
    return Counter((one.kitchen.identity, utc_s) for one in fleet for utc_s in one.truth.measured)


def hj212(port: int, devices_file: str = "") -> Hj212Config:
    return Hj212Config(
        name="kitchens", listen=f"127.0.0.1:{port}", devices_file=devices_file, frames_per_s_max=5000,
        unlisted_per_s_max=1000,
    )  # fmt: skip


def test_a_street_with_every_oddity_is_stored_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        told = kitchens_scenario(now(), for_s=3.0)
        file = tmp_path / "devices.toml"
        file.write_text(told.devices_toml)
        port = free_port()
        async with running(hj212(port, str(file))) as source:
            await source.until(lambda: bool(source.status.addresses))
            fleet = told.monitors(asyncio.get_running_loop().time())
            await run_fleet(fleet, ("127.0.0.1", port), stop=asyncio.Event())
            assert sum(one.truth.unacknowledged for one in fleet) == 0
            assert stored(source) == measured(fleet)
            assert sum(stored(source).values()) > 900
            assert {draft.data["class"] for draft in source.sink.of("reading")} == {"fume-monitor"}
            assert sum(draft.data["message"] == "2051" for draft in source.sink.of("reading")) >= 20

    drive(scenario)


@pytest.mark.parametrize("name", ["no-crlf", "no-qn", "qn-13", "bad-crc-once", "sticky", "torn", "long", "doubled"])
def test_one_oddity_alone(name: str) -> None:
    async def scenario() -> None:
        port = free_port()
        async with running(hj212(port)) as source:
            await source.until(lambda: bool(source.status.addresses))
            begin_s = asyncio.get_running_loop().time()
            wish = Wish(monitors=1, dialect="fume-d3", edition="2017", oddities=(name,), speed_up=1200, for_s=1)
            (one,) = monitors(wish, now(), begin_s)
            one.habits = replace(one.habits, reply_timeout_s=0.5, window=32)
            await run_fleet([one], ("127.0.0.1", port), stop=asyncio.Event())
            await source.until(lambda: stored(source) == measured([one]))
            assert len(one.truth.measured) == 20

    drive(scenario)


# ---------------------------------------------------------------- modbus


def modbus(port: str, kitchens: int, interval_s: float = 0.1) -> ModbusSerialConfig:
    devices = []
    for number in range(kitchens):
        for unit, profile in ((number + 1, "fume-concentrator"), (number + 11, "pzem-004t")):
            devices.append(ModbusDevice(unit=unit, profile=profile, device=f"unit-{unit}", interval_s=interval_s))
    return ModbusSerialConfig(name="bus", port=port, baud=115_200, devices=devices)


async def on_the_bus(simulated: Bus, tmp_path: Path, kitchens: int, want: Any) -> Source:
    """Run a source on a simulated bus until `want(source)`."""
    stop, port = asyncio.Event(), tmp_path / "port"
    async with asyncio.TaskGroup() as group:
        group.create_task(run_bus(simulated, port.symlink_to, stop))
        await asyncio.sleep(0)
        async with running(modbus(str(port), kitchens)) as source:
            await source.until(lambda: want(source))
        stop.set()
    return source


def told_of(simulated: Bus) -> dict[int, set[tuple[int, ...]]]:
    """Registers that each unit has really held."""
    found: dict[int, set[tuple[int, ...]]] = {}
    for told in simulated.truth:
        found.setdefault(told.unit, set()).add(told.registers)
    return found


def registers_of(draft: Any) -> tuple[int, ...]:
    """Of the only block, out of the answer in `raw`."""
    (asked,) = draft.data["round"]
    begin = asked["request_bytes"] + asked["response_bytes"] - asked.get("frame_bytes", asked["response_bytes"])
    frame = draft.raw[begin : asked["request_bytes"] + asked["response_bytes"]]
    return tuple(int.from_bytes(frame[3 + 2 * n : 5 + 2 * n], "big") for n in range(asked["count"]))


def readings(source: Source, unit: int) -> list[Any]:
    return [draft for draft in source.sink.of("reading") if draft.device == f"unit-{unit}"]


def test_a_bus_is_read_and_the_values_are_those_of_the_kitchens(tmp_path: Path) -> None:
    async def scenario() -> None:
        simulated = bus(2, (), 1, None, 4, now(), asyncio.get_running_loop().time(), 0)
        units = (1, 2, 11, 12)
        source = await on_the_bus(
            simulated, tmp_path, 2, lambda one: all(len(readings(one, unit)) >= 3 for unit in units)
        )
        held = told_of(simulated)
        for draft in source.sink.of("reading"):
            unit = draft.data["unit"]
            registers = registers_of(draft)
            assert registers in held[unit]
            values = {value["quantity"]: value for value in draft.data["values"]}
            assert {value["quality"] for value in values.values()} == {"good"}
            if unit < 11:
                assert values["fume"]["value_e6"] == (registers[0] << 16 | registers[1]) * MILLION // 100
                assert (values["fan_state"]["state"], values["purifier_state"]["state"]) == ("on", "on")
            else:
                assert 1_000_000 < values["current"]["value_e6"] < 1_600_000

    drive(scenario)


@pytest.mark.slow
def test_a_bus_with_every_fault_gives_no_wrong_reading_and_all_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        simulated = bus(4, FAULTS, 3, None, 4, now(), asyncio.get_running_loop().time(), 0)
        sound = [unit.unit for unit in simulated.units if not {one.kind for one in unit.faults} & {"late", "flood"}]
        source = await on_the_bus(
            simulated, tmp_path, 4, lambda one: all(len(readings(one, unit)) >= 2 for unit in sound)
        )
        held = told_of(simulated)
        for draft in source.sink.of("reading"):
            assert registers_of(draft) in held[draft.data["unit"]]
        assert source.sink.of("device.gap")

    drive(scenario)


def test_a_purifier_that_is_off_is_read_as_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        simulated = bus(1, (), 1, (0, 10), 4, now(), asyncio.get_running_loop().time(), 0)
        source = await on_the_bus(simulated, tmp_path, 1, lambda one: len(readings(one, 1)) >= 2)
        for draft in readings(source, 1):
            values = {value["quantity"]: value for value in draft.data["values"]}
            assert (values["fan_state"]["state"], values["purifier_state"]["state"]) == ("on", "off")
            assert values["purifier_current"]["value_e6"] == 0

    drive(scenario)


def test_upsets_and_faults_are_what_was_asked_for() -> None:
    simulated = bus(2, ("slow", "wrong-unit"), 7, (1, 2), 4, 1_790_000_000, 0.0, 9600)
    assert [unit.unit for unit in simulated.units] == [1, 11, 2, 12]
    assert [unit.faults for unit in simulated.units] == [(Fault("slow", 100),), (Fault("wrong-unit", 12, 7),), (), ()]
    (one,) = monitors(Wish(monitors=1, plants=("out-of-range",)), 1_790_000_000, 0.0)
    (upset,) = one.kitchen.upsets
    assert upset == Upset("negative", upset.from_utc_s, upset.from_utc_s + 900, 30)
    assert upset.from_utc_s % 600 == 0
