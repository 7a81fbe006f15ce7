"""Drives simulated terminals and monitors over real sockets: TCP or UDP, reconnecting with a growing pause when the
gateway goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from drivers.fleet.vehicles import bits_of
from drivers.io.surroundings import pause

CONNECT_S: Final = 5.0
PAUSE_FIRST_S: Final = 0.25
PAUSE_LONGEST_S: Final = 10.0
WAIT_LONGEST_S: Final = 5.0
"""A terminal is asked again at least so often, however far its next deadline is."""
READ_BYTES: Final = 65_536
QUEUE_MAX: Final = 1000
LINGER_S: Final = 1.0
"""At the end: how long a link may take to close."""


class Counted(Protocol):
    """What went over the link."""

    @property
    def answers(self) -> int: ...


class Kept(Protocol):
    """What a device holds."""

    @property
    def unacknowledged(self) -> int: ...


class Terminal(Protocol):
    """A device that calls in: `drivers.jt808.simulator.Terminal`, `drivers.hj212.simulator.Monitor`."""

    @property
    def counts(self) -> Counted: ...
    @property
    def truth(self) -> Kept: ...
    @property
    def is_dead(self) -> bool: ...
    def wants_link(self, mono_s: float) -> bool: ...
    def is_finished(self, mono_s: float) -> bool: ...
    def link_up(self, mono_s: float) -> list[bytes]: ...
    def link_down(self, mono_s: float) -> None: ...
    def received(self, data: bytes, mono_s: float) -> list[bytes]: ...
    def due(self, mono_s: float) -> list[bytes]: ...
    def deadline_s(self, mono_s: float) -> float: ...


async def run_fleet(
    terminals: Sequence[Terminal],
    address: tuple[str, int],
    *,
    stop: asyncio.Event,
    udp: bool = False,
    pause_longest_s: float = PAUSE_LONGEST_S,
) -> None:
    """Run all of them until `stop`, or until the time of each is over and everything it stored is acknowledged.

    A gateway that is not there, goes or refuses is nothing exceptional: the terminals try again.
    """
    link = _over_udp if udp else _over_tcp
    async with asyncio.TaskGroup() as group:
        lives = [
            group.create_task(_live(terminal, number, address, stop, link, pause_longest_s))
            for number, terminal in enumerate(terminals)
        ]
        ending = group.create_task(_end(stop, lives))
        if lives:
            await asyncio.wait(lives)
        ending.cancel()


async def _end(stop: asyncio.Event, lives: Sequence[asyncio.Task[None]]) -> None:
    """At `stop` every link is cut where it is, as when a driver turns the key."""
    await stop.wait()
    for life in lives:
        life.cancel()


async def drained(terminals: Sequence[Terminal], stop: asyncio.Event, limit_s: float) -> bool:
    """Wait until no terminal holds an unacknowledged fix; whether that came in time. For fleets without an end."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + limit_s
    while any(terminal.truth.unacknowledged for terminal in terminals):
        if loop.time() > end_s or stop.is_set():
            return False
        await pause(stop, 0.05)
    return True


Link = Callable[[Terminal, tuple[str, int]], Awaitable[None]]


async def _live(
    terminal: Terminal, number: int, address: tuple[str, int], stop: asyncio.Event, link: Link, pause_longest_s: float
) -> None:
    """One terminal, link after link."""
    loop = asyncio.get_running_loop()
    failures = 0
    while not terminal.is_finished(loop.time()):
        if not terminal.wants_link(loop.time()):
            terminal.due(loop.time())
            await pause(stop, _until(terminal, loop.time()))
            continue
        was_answered = terminal.counts.answers
        with contextlib.suppress(OSError):
            await link(terminal, address)
        terminal.link_down(loop.time())
        failures = 0 if terminal.counts.answers > was_answered else failures + 1
        # Not all at the same moment: after a restart of the gateway the fleet would come back as one wave
        share = 0.5 + bits_of(number, 60, failures) % 1000 / 1000
        await pause(stop, min(PAUSE_FIRST_S * 2 ** min(failures, 20), pause_longest_s) * share)


async def _over_tcp(terminal: Terminal, address: tuple[str, int]) -> None:
    """One connection, until either side ends it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection(*address)
    try:
        out = terminal.link_up(loop.time())
        while not terminal.is_dead and terminal.wants_link(loop.time()):
            if out:
                writer.write(b"".join(out))
                await writer.drain()
            data = await _read(reader, _until(terminal, loop.time()))
            if data == b"":
                return
            out = terminal.received(data, loop.time()) if data else terminal.due(loop.time())
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, limit_s: float) -> bytes | None:
    """What comes; b"" where the other side has closed; None where nothing comes in time."""
    try:
        async with asyncio.timeout(limit_s):
            return await reader.read(READ_BYTES)
    except TimeoutError:
        return None


class _Datagrams(asyncio.DatagramProtocol):
    """Datagrams of one socket, at most `QUEUE_MAX`: the oldest give way."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.queue: deque[bytes] = deque(maxlen=QUEUE_MAX)

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        self.queue.append(data)
        self.came.set()


async def _over_udp(terminal: Terminal, address: tuple[str, int]) -> None:
    """One socket, until the other side answers nothing any more."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Datagrams, remote_addr=address)
    try:
        out = terminal.link_up(loop.time())
        while not terminal.is_dead and terminal.wants_link(loop.time()):
            for datagram in out:
                transport.sendto(datagram)
            await pause(protocol.came, _until(terminal, loop.time()))
            protocol.came.clear()
            out = []
            while protocol.queue:
                out += terminal.received(protocol.queue.popleft(), loop.time())
            out += terminal.due(loop.time())
    finally:
        transport.close()


def _until(terminal: Terminal, mono_s: float) -> float:
    return min(max(terminal.deadline_s(mono_s) - mono_s, 0.001), WAIT_LONGEST_S)
