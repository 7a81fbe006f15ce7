"""A Modbus device through a profile, for a person: what it answers, what the profile makes of it, what is left unread.

The same code asks as in the gateway (drivers.io.bus), with a sink that shows instead of storing. Nothing is written to
the device.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from drivers.io import bus
from drivers.io.poll import Ready, Show, Sighting
from drivers.io.surroundings import Surroundings
from drivers.modbus import decode
from drivers.modbus.blocks import Block
from drivers.modbus.examples import registers_of
from firmware_profiles.loader import LoadedProfile
from firmware_profiles.sensor_model import WORDS, SensorProfile, wire_address
from gateway.clock import SYSTEM
from gateway.config_sources import ModbusDevice, ModbusSerialConfig, ModbusTcpConfig
from gateway.core import kinds
from gateway.core.instant import Instant
from gateway.core.ports import SourceStatus, Spool
from gateway.core.readings import name_of, shown
from gateway.core.record import Draft, StateChange

NAME: Final = "poll"
TCP_HEAD_BYTES: Final = 7
CRC_BYTES: Final = 2
SILENT_S: Final = 4.0
HINT: Final = "check power, unit id, speed and parity, and whether A and B are swapped"


def serial_config(loaded: LoadedProfile[SensorProfile], port: str, unit: int | None, **line: Any) -> ModbusSerialConfig:
    """The device on a serial port; what `line` (baud, parity, stop_bits) leaves out or None is the profile's."""
    rule = loaded.profile.line
    usual = {"baud": rule.baud, "parity": rule.parity, "stop_bits": rule.stop_bits}
    settings = usual | {name: value for name, value in line.items() if value is not None}
    return ModbusSerialConfig(name=NAME, port=port, devices=[_device(loaded, unit)], **settings)


def tcp_config(loaded: LoadedProfile[SensorProfile], address: str, unit: int | None, *, rtu: bool) -> ModbusTcpConfig:
    """The device behind host:port; `rtu`: of a serial server."""
    framing = "rtu" if rtu else "tcp"
    return ModbusTcpConfig(
        name=NAME,
        address=address,
        framing=framing,  # type: ignore[arg-type]
        baud=loaded.profile.line.baud,
        devices=[_device(loaded, unit)],
    )


def _device(loaded: LoadedProfile[SensorProfile], unit: int | None) -> ModbusDevice:
    number = loaded.profile.line.unit if unit is None else unit
    return ModbusDevice(unit=number, profile=str(loaded.path.absolute()), device=f"unit {number}", interval_s=1.0)


async def poll_sensor(
    loaded: LoadedProfile[SensorProfile], config: ModbusSerialConfig | ModbusTcpConfig, show: Show, ready: Ready
) -> None:
    """Ask the device once a second and show it until cancelled."""
    seen = _Shown(loaded.profile, show)
    around = Surroundings(
        sink=seen,
        memory=_Nothing(),
        spool=cast("Spool", None),  # a bus has no files
        clock=_Clock(),
        profile_dirs=(),
        status=SourceStatus(NAME, NAME),
        stop=asyncio.Event(),
        tick=lambda: None,
    )
    device = config.devices[0].device
    async with asyncio.TaskGroup() as group:
        group.create_task(seen.watch(device))
        if isinstance(config, ModbusSerialConfig):
            ready(f"{config.port}, {config.baud} 8{config.parity}{config.stop_bits}, {device}")
            await bus.run_serial(config, around, random.random)
        else:
            ready(f"{config.address}, {device}")
            await bus.run_tcp(config, around, random.random)


class _Clock:
    """Port `Clock`, without the epochs that only records need."""

    def now(self) -> Instant:
        return Instant("0" * 32, 0, SYSTEM.boottime_ns(), SYSTEM.realtime_ns())


class _Nothing:
    """Port `SourceMemory`."""

    def get(self, source: str, key: bytes) -> bytes | None:  # noqa: ARG002  a port's shape
        return None

    def items(self, source: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:  # noqa: ARG002
        return iter(())


class _Shown:
    """Port `Sink`: what would be stored is shown."""

    def __init__(self, profile: SensorProfile, show: Show) -> None:
        self._sensor = decode.compile(profile)
        self._read = _covered(profile)
        self._show = show
        self._is_silent = True

    async def watch(self, device: str) -> None:
        """Say so while nothing comes: the gateway would wait longer before it calls a device offline."""
        while True:
            self._is_silent = True
            await asyncio.sleep(SILENT_S)
            if self._is_silent:
                self._show(Sighting(device, "no answer", b"", note=HINT))

    async def append(self, drafts: Sequence[Draft], state: Sequence[StateChange] = ()) -> int:  # noqa: ARG002
        for draft in drafts:
            self._is_silent = False
            self._show(self._sighting(draft))
        return 0

    def _sighting(self, draft: Draft) -> Sighting:
        device, raw, data = draft.device or "bus", draft.raw or b"", draft.data
        if draft.kind == kinds.READING:
            values = {name_of(value): shown(value) for value in data["values"]}
            return Sighting(device, "reading", raw, values, "; ".join(self._unread(raw, data["round"])))
        if draft.kind == kinds.DEVICE_STATE:
            where = data.get("address", "")
            return Sighting(device, f"{data['state']}", raw, note=" ".join(filter(None, (where, data["reason"]))))
        note = f"{data['reason']} x {data['count']}" + (f": {data['detail']}" if data.get("detail") else "")
        return Sighting(device, "not read", raw, note=note)

    def _unread(self, raw: bytes, exchanges: Sequence[dict[str, Any]]) -> Iterator[str]:
        """Registers that hold something, and that no value or rule of the profile reads."""
        at = 0
        for exchange in exchanges:
            at += exchange["request_bytes"] + exchange["response_bytes"]
            if exchange.get("purpose"):
                continue
            size = exchange.get("frame_bytes", exchange["response_bytes"])
            function, first, count = exchange["function"], exchange["address"], exchange["count"]
            body = (count + 7) // 8 if function in decode.READ_BITS else 2 * count
            end = at - (0 if size == TCP_HEAD_BYTES + 2 + body else CRC_BYTES)
            block = Block(function, first, count)
            for number, word in enumerate(registers_of(block, raw[end - body : end].hex())):
                if word and (function, first + number) not in self._read:
                    yield f"{function}:{first + number} = {word}"


def _covered(profile: SensorProfile) -> set[tuple[int, int]]:
    """(function, address on the wire) of every register that the profile reads."""
    base = profile.address_base
    found: set[tuple[int, int]] = set()
    for block in profile.block:
        for value in block.value:
            first = wire_address(base, block.function, value.address)
            found |= {(block.function, first + number) for number in range(WORDS[value.type])}
            found.add((block.function, wire_address(base, block.function, value.decimals_at)))
    for rule in profile.status:
        found.add((rule.function, wire_address(base, rule.function, rule.address)))
    for one in profile.identity:
        first = wire_address(base, one.function, one.address)
        found |= {(one.function, first + number) for number in range(len(one.values))}
    return found
