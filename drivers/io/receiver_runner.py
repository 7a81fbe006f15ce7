"""Sends what a simulated NMEA receiver says: to a TCP server, to whoever connects, as datagrams, or on a pseudo-tty."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from drivers.fleet.vehicles import DeviceClock
from drivers.io.surroundings import pause
from drivers.nmea.simulator import Receiver

Address = tuple[str, int]
Write = Callable[[bytes], None]
"""Sends, or loses what nobody takes, as a serial line does."""

CONNECT_S: Final = 5.0
AGAIN_S: Final = 1.0
WAITING_BYTES_MAX: Final = 262_144
"""Of one TCP peer that does not read: then epochs are left out for it."""
LATE_EPOCHS_MAX: Final = 100
"""Epochs sent at once after this process was held up; more are left out."""


async def run_receiver(receiver: Receiver, clock: DeviceClock, write: Write, stop: asyncio.Event) -> int:
    """One epoch after another at their device times until `stop`, or the end of the vehicle's time; how many."""
    loop = asyncio.get_running_loop()
    rate, sent = receiver.rate_hz, 0
    number = int(clock.utc_s(loop.time()) * rate) + 1
    end_utc_s = receiver.vehicle.end_utc_s
    while not stop.is_set() and (end_utc_s is None or number < end_utc_s * rate):
        await pause(stop, max(clock.mono_s(number / rate) - loop.time(), 0))
        now = int(clock.utc_s(loop.time()) * rate)
        number = max(number, now - LATE_EPOCHS_MAX)
        while number <= now and (end_utc_s is None or number < end_utc_s * rate):
            if receiver.vehicle.reaches(number / rate):
                write(receiver.epoch(number))
                sent += 1
            number += 1
    return sent


@contextlib.asynccontextmanager
async def to_server(address: Address, stop: asyncio.Event) -> AsyncIterator[Write]:
    """A TCP client that connects again whenever the other side goes."""
    peers: set[asyncio.StreamWriter] = set()

    async def keep() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                async with asyncio.timeout(CONNECT_S):
                    reader, writer = await asyncio.open_connection(*address)
                await _attend(reader, writer, peers)
            await pause(stop, AGAIN_S)

    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(keep())
        try:
            yield lambda data: _to_all(peers, data)
        finally:
            keeping.cancel()


@contextlib.asynccontextmanager
async def to_clients(address: Address, bound: Callable[[Address], None]) -> AsyncIterator[Write]:
    """A TCP server as serial servers are one: everybody who connects gets the stream. `bound` is told where."""
    peers: set[asyncio.StreamWriter] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await _attend(reader, writer, peers)

    server = await asyncio.start_server(attend, *address)
    bound(server.sockets[0].getsockname()[:2])
    try:
        yield lambda data: _to_all(peers, data)
    finally:
        server.close()
        for peer in list(peers):
            peer.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def to_datagrams(address: Address) -> AsyncIterator[Write]:
    """UDP: one datagram for each sentence."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)

    def write(data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            transport.sendto(line)

    try:
        yield write
    finally:
        transport.close()


@contextlib.contextmanager
def to_pty(bound: Callable[[str], None]) -> Iterator[Write]:
    """A pseudo-tty in raw mode; `bound` is told the path that a gateway opens as its serial port. What is not read is
    lost once the kernel's few kilobytes are full, as on a real line."""
    master, slave = pty.openpty()
    try:
        tty.setraw(slave)
        os.set_blocking(master, False)
        bound(os.ttyname(slave))

        def write(data: bytes) -> None:
            with contextlib.suppress(BlockingIOError):
                os.write(master, data)

        yield write
    finally:
        os.close(master)
        os.close(slave)


async def _attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peers: set[asyncio.StreamWriter]) -> None:
    """Until the peer leaves; what it says is read and not looked at."""
    peers.add(writer)
    try:
        while await reader.read(4096):
            continue
    finally:
        peers.discard(writer)
        writer.close()


def _to_all(peers: set[asyncio.StreamWriter], data: bytes) -> None:
    for peer in peers:
        if not peer.is_closing() and peer.transport.get_write_buffer_size() < WAITING_BYTES_MAX:
            peer.write(data)
