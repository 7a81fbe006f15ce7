"""Terminals that only load: many connections of one process, frames made beforehand. `python -m tests.bench.load PORT`

Prints one JSON object: frames acknowledged, seconds, and the quantiles of the time from frame to reply. What replies
does not matter (a gateway, or an echo of the same frames): every whole frame that comes back is one reply.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from drivers.jt808.codec import Address, Authentication, Item, Location, Text, Version, encode

PHONE_FIRST = 13_900_000_000
FLAG = b"\x7e"
STATUS = 0x0003 | 3 << 8
"""Ignition on, fixed, full."""


def phone(n: int) -> str:
    """Identity of the n-th terminal."""
    return str(PHONE_FIRST + n)


def place_e6(n: int, step: int) -> tuple[int, int]:
    """Where the n-th truck is at a step: back and forth along its own street of about 4 km, 15 m a step."""
    at = abs((step * 157 + n * 31) % 80_000 - 40_000)
    return 30_700_000 + n % 50 * 2_000, 121_000_000 + at


def frames_of(n: int, count: int, start_utc_s: int, interval_s: int = 1) -> list[bytes]:
    """So many location reports of one terminal, authentication first."""
    address = Address.of(phone(n), Version.V2013)
    out = list(encode(Authentication(Text.of("*")), address, 0))
    for step in range(count):
        lat, lon = place_e6(n, step)
        local = time.gmtime(start_utc_s + step * interval_s + 8 * 3600)
        stamp = time.strftime("%y%m%d%H%M%S", local)
        items = (Item.of(0x01, 120_000 + step, 4), Item.of(0x31, 12, 1), Item.of(0x03, 480, 2))
        report = Location(0, STATUS, lat, lon, 6, 480 + step % 20, 90, stamp, items)
        out += encode(report, address, (step + 1) % 65_536)
    return out


@dataclass(slots=True)
class Terminal(asyncio.Protocol):
    """One connection: `window` frames unanswered at most, or one every `period_s`."""

    frames: Sequence[bytes]
    window: int
    done: asyncio.Event
    latencies_s: list[float]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport | None = None
    next: int = 0
    flags: int = 0
    answered: int = 0
    sent_s: deque[float] = field(default_factory=deque)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Authenticate at once."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self.send(1)

    def send(self, count: int) -> None:
        """The next frames in one write."""
        assert self.transport is not None
        some = self.frames[self.next : self.next + count]
        now_s = self.loop.time()
        self.sent_s.extend([now_s] * len(some))
        self.next += len(some)
        self.transport.write(b"".join(some))

    def data_received(self, data: bytes) -> None:
        """Count replies; go on."""
        self.flags += data.count(FLAG)
        new = self.flags // 2 - self.answered
        self.answered += new
        now_s = self.loop.time()
        self.latencies_s.extend(now_s - self.sent_s.popleft() for _ in range(min(new, len(self.sent_s))))
        if self.answered >= len(self.frames):
            self.done.set()
        elif self.window and self.answered:
            room = self.window - (self.next - self.answered)
            if room > 0 and self.next < len(self.frames):
                self.send(room)

    def connection_lost(self, error: Exception | None) -> None:
        """The server must not close a connection of a bench."""
        self.done.set()


async def main(arguments: argparse.Namespace) -> None:
    """Connect all, run, print."""
    loop = asyncio.get_running_loop()
    latencies_s: list[float] = []
    start_utc_s = int(time.time()) - arguments.frames * arguments.interval - 5
    terminals = []
    for n in range(arguments.connections):
        frames = frames_of(n, arguments.frames, start_utc_s, arguments.interval)
        terminal = Terminal(frames, 0, asyncio.Event(), latencies_s, loop)
        await loop.create_connection(lambda terminal=terminal: terminal, "127.0.0.1", arguments.port)
        terminals.append(terminal)
    while any(not one.answered and not one.done.is_set() for one in terminals):
        await asyncio.sleep(0.01)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if arguments.hold:
        await asyncio.sleep(arguments.hold)
        return
    latencies_s.clear()
    began_s = loop.time()
    if arguments.period:
        await _paced(terminals, arguments.period, loop)
    else:
        for terminal in terminals:
            terminal.window = arguments.window
            terminal.send(arguments.window)
    await asyncio.gather(*(one.done.wait() for one in terminals))
    seconds = loop.time() - began_s
    points = statistics.quantiles(latencies_s, n=100) if len(latencies_s) > 1 else [0.0] * 99
    answered = sum(one.answered - 1 for one in terminals)
    result = {"frames": answered, "seconds": seconds, "p50_s": points[49], "p99_s": points[98]}
    sys.stdout.write(json.dumps(result) + "\n")


async def _paced(terminals: list[Terminal], period_s: float, loop: asyncio.AbstractEventLoop) -> None:
    """Every terminal one frame per period, spread evenly."""
    began_s = loop.time()
    for step in range(len(terminals[0].frames) - 1):
        for n, terminal in enumerate(terminals):
            due_s = began_s + (step + n / len(terminals)) * period_s
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            terminal.send(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--interval", type=int, default=1)
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--period", type=float, default=0.0)
    parser.add_argument("--hold", type=float, default=0.0)
    import uvloop

    uvloop.run(main(parser.parse_args()))
