"""A receiver source on real links: ptys, sockets, the real clock; records into a list or into the real store."""

from __future__ import annotations

import asyncio
import os
import socket
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from drivers.registry import run_source
from gateway.clock import SystemClock
from gateway.config_sources import NmeaListenConfig, NmeaSerialConfig, NmeaTcpConfig, SourceConfig
from gateway.core.ports import SourceStatus
from gateway.core.record import Draft
from tests.drivers.nmea.lines import line
from tests.drivers.stack import ListSink

PLACE = "3042.1250,N,12059.4375,E"


def rmc(second: int, status: str = "A") -> bytes:
    """One sentence of so many seconds after noon; the next one ends its epoch."""
    at = f"{12 + second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
    return line(f"GNRMC,{at},{status},{PLACE if status == 'A' else ',,,'},10.0,90.0,150326,,,A")


class Plug:
    """A pty behind a lasting name, as udev makes it: `plug` and `unplug` as often as wanted."""

    def __init__(self, folder: Path, name: str = "usb-Prolific_GPS-if00-port0") -> None:
        self.folder = folder / "by-id"
        self.path = self.folder / name
        self.master: int | None = None

    def plug(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        name = os.ttyname(slave)
        os.close(slave)
        self.folder.mkdir(exist_ok=True)
        self.path.symlink_to(name)

    def unplug(self) -> None:
        """As udev does it: with the last port its folder goes too."""
        if self.master is not None:
            os.close(self.master)
            self.master = None
            self.path.unlink()
            with suppress(OSError):
                self.folder.rmdir()

    def send(self, *chunks: bytes) -> None:
        assert self.master is not None
        for chunk in chunks:
            assert os.write(self.master, chunk) == len(chunk)

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()


@dataclass
class Marked:
    """Port `TimeMarks`."""

    marks: list[tuple[str, int, int, int]] = field(default_factory=list)

    def mark(self, source: str, utc_ns: int, mono_ns: int, uncertainty_ns: int) -> None:
        self.marks.append((source, utc_ns, mono_ns, uncertainty_ns))


@dataclass
class Source:
    """A running source."""

    sink: ListSink
    status: SourceStatus
    marked: Marked
    ticks: int = 0

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait for a condition; the limit is far above what it takes."""
        async with asyncio.timeout(20):
            while not happened():
                await asyncio.sleep(0.005)

    async def positions(self, count: int) -> list[Draft]:
        await self.until(lambda: len(self.sink.of("position")) >= count)
        return self.sink.of("position")

    async def counted(self, name: str, count: int = 1) -> None:
        await self.until(lambda: self.status.counters.get(name, 0) >= count)

    async def state(self, state: str, reason: str = "") -> None:
        await self.until(lambda: self.status.state == state and reason in self.status.reason)

    def states(self) -> list[str]:
        return [data["state"] for data in self.sink.data("device.state")]

    def seconds(self) -> list[int]:
        """Seconds after noon of the positions."""
        return [data["time_utc_s"] - 1_773_576_000 for data in self.sink.data("position")]


@asynccontextmanager
async def running(config: SourceConfig, sink: ListSink | None = None, **more: Any) -> AsyncIterator[Source]:
    """Run a source while the block runs; end it by its stop event."""
    source = Source(sink or ListSink(), SourceStatus(config.name, "nmea"), Marked())
    stop = asyncio.Event()

    def tick() -> None:
        source.ticks += 1

    ports = {"sink": source.sink, "memory": source.sink, "clock": SystemClock(1), "time_marks": source.marked, **more}
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_source(config, spool=None, profile_dirs=[], status=source.status, stop=stop, tick=tick, **ports)  # type: ignore[arg-type]
        )
        try:
            yield source
        finally:
            stop.set()


def serial_config(path: Path | str, **more: Any) -> NmeaSerialConfig:
    return NmeaSerialConfig(name="gps-1", port=str(path), device="receiver-1", **{"interval_s": 0, **more})


def tcp_config(address: str, **more: Any) -> NmeaTcpConfig:
    return NmeaTcpConfig(name="gps-2", address=address, device="receiver-2", **{"interval_s": 0, **more})


def listen_config(**more: Any) -> NmeaListenConfig:
    return NmeaListenConfig(name="gps-3", **{"interval_s": 0, **more})


def drive(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run one asynchronous test."""
    asyncio.run(scenario())  # type: ignore[arg-type]


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port
