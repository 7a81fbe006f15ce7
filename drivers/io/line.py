"""A serial line by callback, as drivers.io.stream is for connections: opened whenever it is there, read, written.

Each opening of the port is a link with a number of its own. What is written waits, up to WRITE_WAITING_MAX_BYTES; more
is dropped and counted: the device asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from drivers.io.serial import Line, SerialPort, nearby
from gateway.core.errors import LinkError

RETRY_S: Final = 10.0
"""A port that another program gives back tells nobody."""
PAUSE_S: Final = 1.0
"""Between two openings of a port that goes at once."""
WRITE_WAITING_MAX_BYTES: Final = 65_536

Opened = Callable[[int], None]
Received = Callable[[int, bytes], None]
Closed = Callable[[int, str], None]
Failed = Callable[[str], None]


class SerialLine:
    """One port. `failed` is told why it cannot be opened, each time."""

    def __init__(
        self, path: str, line: Line, *, opened: Opened, received: Received, closed: Closed, failed: Failed
    ) -> None:
        self._path = path
        self._line = line
        self._opened = opened
        self._received = received
        self._closed = closed
        self._failed = failed
        self._link = 0
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._end = asyncio.Event()
        self.dropped_bytes = 0
        """Not written because the line was not quick enough, or gone."""

    async def run(self) -> None:
        """For ever."""
        while True:
            with nearby(self._path) as near:
                try:
                    port = await SerialPort.open(self._path, self._line)
                except LinkError as error:
                    self._failed(str(error))
                    await near.change(RETRY_S)
                    continue
            with port:
                self._link += 1
                self._opened(self._link)
                reason = await self._serve(port)
            self._closed(self._link, reason)
            self._link += 1  # what is still written to the old one goes nowhere
            await asyncio.sleep(PAUSE_S)

    def write(self, link: int, content: bytes) -> None:
        """Send; nothing where that opening of the port is over."""
        if link != self._link or self._queued_bytes + len(content) > WRITE_WAITING_MAX_BYTES:
            self.dropped_bytes += len(content)
            return
        self._queue.append(content)
        self._queued_bytes += len(content)
        self._wake.set()

    def close(self, link: int) -> None:
        """Open the port anew."""
        if link == self._link:
            self._end.set()

    def hold(self, *, is_held: bool) -> None:
        """Stop reading, or go on; the kernel keeps 4 kB, then bytes are lost."""
        if is_held:
            self._may_read.clear()
        else:
            self._may_read.set()

    async def _serve(self, port: SerialPort) -> str:
        """Until the port is gone, or closed; why."""
        self._end.clear()
        self._queue.clear()
        self._queued_bytes = 0
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (self._read(port), self._write(port), self._wait())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            return done.pop().result()

    async def _read(self, port: SerialPort) -> str:
        try:
            while True:
                await self._may_read.wait()
                self._received(self._link, await port.read())
        except LinkError as error:
            return str(error)

    async def _write(self, port: SerialPort) -> str:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    content = self._queue.pop(0)
                    self._queued_bytes -= len(content)
                    await port.write(content)
        except LinkError as error:
            return str(error)

    async def _wait(self) -> str:
        await self._end.wait()
        return "closed by the gateway"
