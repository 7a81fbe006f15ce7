"""An HJ 212 source on the real store, and monitors on real sockets that say what a test tells them to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.queries import Queries
from buffers.spool import Spool
from drivers.hj212.codec import Decoder, Frame, Message, encode, parse_frame
from drivers.hj212.intake import beijing
from drivers.registry import run_source
from gateway.clock import SystemClock
from gateway.config_sources import Hj212Config, Hj212SerialConfig
from gateway.core.ports import Orders, SourceStatus
from gateway.ingest import Ingest
from gateway.orders import Desk as RealDesk
from tests.drivers.hj212.talk import MN
from tests.drivers.io.terminals import CONNECTED, LIMIT_S, Desk, Gate, Source, disconnect


@asynccontextmanager
async def running(state: Path, port: str = "", epoch: int = 1, **more: Any) -> AsyncIterator[Source]:
    """A source while the block runs; ended by its stop event. `port`: on that serial port."""
    config: Hj212Config | Hj212SerialConfig
    if port:
        config = Hj212SerialConfig(name="fume", port=port, **more)
    else:
        config = Hj212Config(name="fume", **{"listen": "127.0.0.1:0", "connections_per_address_max": 2000, **more})
    state.mkdir(exist_ok=True)
    with Database.open(state, "gw-1", reserve_bytes=0, commit_window_ms=1) as database:
        clock = SystemClock(epoch)
        gate = Gate(Ingest(Journal(database), clock, Memory(database)))
        gate.open.set()
        desk = RealDesk(gate, Memory(database), clock)
        source = Source(
            SourceStatus("fume", "hj212"),
            gate,
            Queries(database),
            Spool(database, state / "spool", high_water_percent=100, reserve_bytes=0),
            Desk(),
            asyncio.Event(),
        )
        orders: Orders = desk
        source.desk = desk  # type: ignore[assignment]
        async with asyncio.TaskGroup() as group:
            group.create_task(
                run_source(
                    config,
                    sink=gate,
                    memory=Memory(database),
                    spool=source.spool,
                    clock=clock,
                    profile_dirs=[],
                    status=source.status,
                    stop=source.stop,
                    tick=lambda: None,
                    orders=orders,
                )
            )
            try:
                await source.until(lambda: bool(source.status.addresses) or source.status.state in ("ok", "down"))
                yield source
            finally:
                source.stop.set()
        await disconnect()


class Device:
    """A monitor on a socket."""

    def __init__(self, mn: str = MN, flag: int = 5) -> None:
        self.mn = mn
        self.flag = flag
        self.decoder = Decoder()
        self.inbox: list[Message] = []
        self.count = 0
        self.utc_ns = SystemClock(1).now().utc_ns

    async def connect(self, address: tuple[str, int]) -> Device:
        self.reader, self.writer = await asyncio.open_connection(*address)
        CONNECTED.append(self.writer)
        return self

    def frame(self, cn: str, cp: str, qn: str = "", **more: Any) -> bytes:
        self.count += 1
        qn = qn or beijing(self.utc_ns + self.count * 1_000_000)
        values: dict[str, Any] = {"st": "31", "pw": "123456", "flag": self.flag, **more}
        return encode(Message(qn, cn=cn, mn=self.mn, cp=cp, **values))

    def fume(self, value: str) -> bytes:
        time = beijing(self.utc_ns)[:14]
        return self.frame("2011", f"DataTime={time};a34041-Rtd={value},a34041-Flag=N;SB7-RS=1;SB8-RS=1")

    def write(self, content: bytes) -> None:
        self.writer.write(content)

    async def message(self) -> Message:
        """The next one from the gateway."""
        async with asyncio.timeout(LIMIT_S):
            while not self.inbox:
                content = await self.reader.read(65_536)
                if not content:
                    raise ConnectionError("closed")
                self.inbox += [parse_frame(one) for one in self.decoder.feed(content) if isinstance(one, Frame)]
        return self.inbox.pop(0)

    async def answered(self, frame: bytes) -> Message:
        """Send, and wait for the answer."""
        self.write(frame)
        found = await self.message()
        assert found.qn == frame[9:26].decode()
        return found

    async def closed(self) -> None:
        """Wait for the end of the connection."""
        async with asyncio.timeout(LIMIT_S):
            try:
                while await self.reader.read(65_536):
                    continue
            except ConnectionError:
                return

    def close(self) -> None:
        self.writer.close()
