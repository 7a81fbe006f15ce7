"""A Modbus source on real links: a pty whose other end is scripted, two ptys with a wire between them, TCP."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from drivers.modbus.codec import is_sealed, parse_request, request_frame_bytes, rtu_frame
from gateway.config_sources import ModbusDevice, ModbusSerialConfig, ModbusTcpConfig
from gateway.core.record import Draft
from tests.drivers.io.receiver_rig import Plug
from tests.drivers.modbus.line import Asked, replied, truth

STARTS = (0, 10, 20)
"""Three blocks of four registers each: of the same length, so that one could be taken for the other."""
Script = Callable[[Asked], Sequence[tuple[float, bytes]]]
"""What a device sends: (seconds after the request, bytes)."""


def profile(folder: Path, timeout_ms: int = 250, response_max_ms: int = 250, more: str = "") -> str:
    """A sensor profile of a device whose registers are known (tests.drivers.modbus.line.truth)."""
    blocks = ""
    for start in STARTS:
        blocks += f"[[block]]\nfunction = 3\naddress = {start}\ncount = 4\n"
        for address in range(start, start + 4):
            blocks += f'[[block.value]]\nquantity = "register_{address}"\naddress = {address}\nunit = "1"\n'
    expect = "\n".join(f'"register_{at}" = "1 1"' for start in STARTS for at in range(start, start + 4))
    example = f"[[example]]\nregisters = ['{'0001' * 4}', '{'0001' * 4}', '{'0001' * 4}']\n[example.expect]\n{expect}\n"
    text = (
        'format = "sensor/v1"\nid = "tested"\ntitle = "A device whose registers are known"\nsource = "tests"\n'
        f"[timing]\ntimeout_ms = {timeout_ms}\nresponse_max_ms = {response_max_ms}\n{more}{blocks}{example * 2}"
    )
    path = folder / "tested.toml"
    path.write_text(text)
    return str(path)


def devices(profile_path: str, *units: int, interval_s: float = 0.1) -> list[ModbusDevice]:
    return [
        ModbusDevice(unit=unit, profile=profile_path, device=f"device-{unit}", interval_s=interval_s) for unit in units
    ]


def serial_config(path: object, profile_path: str, *units: int, baud: int = 115_200, **more: Any) -> ModbusSerialConfig:
    found = devices(profile_path, *(units or (1,)), **more)
    return ModbusSerialConfig(name="bus-1", port=str(path), baud=baud, devices=found)


def tcp_config(address: str, profile_path: str, *units: int, framing: Any = "tcp", **more: Any) -> ModbusTcpConfig:
    found = devices(profile_path, *(units or (1,)), **more)
    return ModbusTcpConfig(name="bus-2", address=address, framing=framing, baud=115_200, devices=found)


def wrong(drafts: Sequence[Draft]) -> list[str]:
    """Values that are not what their register holds."""
    found = []
    for draft in drafts:
        assert len(draft.data["values"]) == 4 * len(STARTS)
        for value in draft.data["values"]:
            want = truth(draft.data["unit"], int(value["code"]))
            if value["text"] != str(want):
                found.append(f"{draft.device} {value['code']} is {value['text']}, not {want}")
    return found


def sound(asked: Asked) -> bytes:
    return rtu_frame(asked.unit, replied(asked.unit, asked.request))


def healthy(asked: Asked) -> Sequence[tuple[float, bytes]]:
    return [(0.0, sound(asked))]


class Bus:
    """A pty behind a lasting name; what is plugged in answers as `script` says, one question after the other."""

    def __init__(self, folder: Path, script: Script = healthy) -> None:
        self.plug = Plug(folder)
        self.script = script
        self.asked: list[Asked] = []
        self._held = b""
        self._free_s = 0.0

    @property
    def path(self) -> Path:
        return self.plug.path

    def connect(self) -> None:
        self.plug.plug()
        assert self.plug.master is not None
        asyncio.get_running_loop().add_reader(self.plug.master, self._read)

    def disconnect(self) -> None:
        if self.plug.master is not None:
            asyncio.get_running_loop().remove_reader(self.plug.master)
        self.plug.unplug()

    def say(self, data: bytes) -> None:
        if self.plug.master is not None:
            with suppress(BlockingIOError):
                os.write(self.plug.master, data)

    def _read(self) -> None:
        assert self.plug.master is not None
        try:
            self._held += os.read(self.plug.master, 4096)
        except OSError:  # nobody has the other end open
            asyncio.get_running_loop().remove_reader(self.plug.master)
            asyncio.get_running_loop().call_later(0.01, self._again)
            return
        while (size := request_frame_bytes(self._held)) and len(self._held) >= size:
            frame, self._held = self._held[:size], self._held[size:]
            request = parse_request(frame[1:-2])
            assert is_sealed(frame)
            assert request is not None
            self._ask(Asked(frame[0], request, 0, frame))

    def _again(self) -> None:
        if self.plug.master is not None:
            asyncio.get_running_loop().add_reader(self.plug.master, self._read)

    def _ask(self, asked: Asked) -> None:
        loop = asyncio.get_running_loop()
        self.asked.append(asked)
        began_s = max(loop.time(), self._free_s)
        for after_s, data in self.script(asked):
            self._free_s = began_s + after_s
            loop.call_at(self._free_s, self.say, data)


@asynccontextmanager
async def bus(folder: Path, script: Script = healthy) -> AsyncIterator[Bus]:
    """A line with a device on it."""
    found = Bus(folder, script)
    found.connect()
    try:
        yield found
    finally:
        found.disconnect()


@contextmanager
def wire() -> Iterator[tuple[str, str]]:
    """Two serial ports with a wire between them."""
    ends = [os.openpty() for _ in range(2)]
    loop = asyncio.get_running_loop()

    def carry(source: int, target: int) -> None:
        with suppress(OSError):
            os.write(target, os.read(source, 4096))

    try:
        for _, slave in ends:
            tty.setraw(slave)
        masters = [master for master, _ in ends]
        loop.add_reader(masters[0], carry, masters[0], masters[1])
        loop.add_reader(masters[1], carry, masters[1], masters[0])
        yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    finally:
        for master, slave in ends:
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)
