"""A jt808 source on the real store, and terminals on real sockets that say what a test tells them to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.queries import Queries
from buffers.spool import Spool
from drivers.io.trackers import TrackerRunner
from drivers.jt808.codec import (
    Address,
    Authentication,
    Decoder,
    Frame,
    GeneralReply,
    Message,
    Registration,
    RegistrationReply,
    Text,
    Version,
    encode,
    parse,
)
from drivers.registry import run_source
from gateway.clock import SystemClock
from gateway.config_sources import Jt808Config
from gateway.core.errors import StoreFull
from gateway.core.ports import Orders, OrderTaker, SourceStatus
from gateway.core.record import Draft, Record, StateChange, parse_leaf
from gateway.ingest import Ingest

LIMIT_S = 20
CONNECTED: list[asyncio.StreamWriter] = []
"""Of this test; ended with its source."""


@dataclass
class Gate:
    """Port `Sink` before the real one: a test can hold appends back, or fill the store."""

    sink: Ingest
    open: asyncio.Event = field(default_factory=asyncio.Event)
    full: bool = False
    refused: int = 0
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, drafts: Sequence[Draft], state: Sequence[StateChange] = ()) -> int:
        self.waiting.set()
        await self.open.wait()
        if self.full:
            self.refused += 1
            raise StoreFull("no room in the test's store")
        return await self.sink.append(drafts, state)


class Desk:
    """Port `Orders`: knows who takes them."""

    def __init__(self) -> None:
        self.takers: dict[str, OrderTaker | None] = {}

    def serve(self, source: str, taker: OrderTaker | None) -> None:
        self.takers[source] = taker


@dataclass
class Source:
    """A running source."""

    status: SourceStatus
    gate: Gate
    queries: Queries
    spool: Spool
    desk: Desk
    stop: asyncio.Event

    def address(self, kind: str = "tcp") -> tuple[str, int]:
        text = next(one for one in self.status.addresses if one.startswith(kind)).split()[1]
        host, _, port = text.rpartition(":")
        return host, int(port)

    def records(self, kind: str) -> list[Record]:
        found: list[Record] = []
        while page := self.queries.records(kind=kind, limit=500, after=found[-1].seq if found else -1):
            found += [parse_leaf(leaf) for _, leaf in page]
        return found

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not happened():
                await asyncio.sleep(0.01)

    @property
    def runner(self) -> TrackerRunner:
        taker = self.desk.takers["trucks"]
        assert isinstance(taker, TrackerRunner)
        return taker


@asynccontextmanager
async def running(state: Path, epoch: int = 1, **more: Any) -> AsyncIterator[Source]:
    """A source while the block runs; ended by its stop event."""
    values: dict[str, Any] = {"listen": "127.0.0.1:0", "connections_per_address_max": 10_000, **more}
    config = Jt808Config(name="trucks", **values)
    state.mkdir(exist_ok=True)
    with Database.open(state, "gw-1", reserve_bytes=0, commit_window_ms=1) as database:
        clock = SystemClock(epoch)
        gate = Gate(Ingest(Journal(database), clock, Memory(database)))
        gate.open.set()
        source = Source(
            SourceStatus("trucks", "jt808"),
            gate,
            Queries(database),
            Spool(database, state / "spool", high_water_percent=100, reserve_bytes=0),
            Desk(),
            asyncio.Event(),
        )
        orders: Orders = source.desk  # type: ignore[assignment]
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
                await source.until(lambda: bool(source.status.addresses) or source.status.state == "down")
                yield source
            finally:
                source.stop.set()
        await disconnect()


async def disconnect() -> None:
    """End the connections of a test, and let the loop see it."""
    while CONNECTED:
        CONNECTED.pop().transport.abort()
    await asyncio.sleep(0)


class Device:
    """A terminal on a socket."""

    def __init__(self, phone: str, version: Version = Version.V2013) -> None:
        self.address = Address.of(phone, version)
        self.serial = 0
        self.decoder = Decoder()
        self.inbox: list[Frame] = []

    async def connect(self, address: tuple[str, int]) -> Device:
        self.reader, self.writer = await asyncio.open_connection(*address)
        CONNECTED.append(self.writer)
        return self

    def write(self, *messages: Message, **more: Any) -> list[int]:
        """Send; the serial numbers used."""
        serials = []
        for message in messages:
            frames = encode(message, self.address, self.serial, **more)
            serials += [(self.serial + n) & 0xFFFF for n in range(len(frames))]
            self.serial = (self.serial + len(frames)) & 0xFFFF
            self.writer.write(b"".join(frames))
        return serials

    async def frame(self) -> Frame:
        """The next frame from the platform."""
        async with asyncio.timeout(LIMIT_S):
            while not self.inbox:
                content = await self.reader.read(65_536)
                if not content:
                    raise ConnectionError("closed")
                self.inbox += [one for one in self.decoder.feed(content) if isinstance(one, Frame)]
        return self.inbox.pop(0)

    async def message(self) -> Message:
        return parse(await self.frame())

    async def results(self, count: int) -> list[tuple[int, int]]:
        """(serial, result) of the next 8001."""
        found = []
        for _ in range(count):
            message = await self.message()
            assert isinstance(message, GeneralReply)
            found.append((message.reply_serial, message.result))
        return found

    async def login(self, code: str | None = None) -> Device:
        if code is None:
            self.write(Registration(33, 402, Text(b"FG"), Text(b"M1"), Text(b"T1"), 2, Text(b"plate"),
                                    self.address.version))  # fmt: skip
            accepted = await self.message()
            assert isinstance(accepted, RegistrationReply)
            code = accepted.code.text
        self.code = code
        (serial,) = self.write(Authentication(Text(code.encode()), Text(b"1" * 15), Text(b"1")))
        assert await self.results(1) == [(serial, 0)]
        return self

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


def drive(scenario: Callable[[], Awaitable[None]], loop: str = "asyncio") -> None:
    """Run one asynchronous test on asyncio's own loop, or on the one that the daemon uses."""
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario())  # type: ignore[arg-type]


def udp_socket() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind(("127.0.0.1", 0))
    found.setblocking(False)
    return found
