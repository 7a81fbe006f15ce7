"""A simulated Modbus bus on a pseudo-tty: a serial port for a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import pty
import tty
from collections.abc import Callable
from typing import Final

from drivers.modbus.simulator import Answer, Bus

READ_MAX_BYTES: Final = 4096
WAITING_MAX: Final = 1000
"""Answers that wait for their time; more are lost."""


async def run_bus(bus: Bus, bound: Callable[[str], None], stop: asyncio.Event) -> None:
    """Answer on a new pseudo-tty until `stop`; `bound` is told the path that a gateway opens as its serial port. What
    is not read is lost once the kernel's few kilobytes are full, as on a real line."""
    loop = asyncio.get_running_loop()
    master, slave = pty.openpty()
    waiting: list[Answer] = []
    news = asyncio.Event()

    def came() -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            for answer in bus.received(os.read(master, READ_MAX_BYTES), loop.time()):
                if len(waiting) < WAITING_MAX:
                    heapq.heappush(waiting, answer)
            news.set()

    try:
        tty.setraw(slave)
        os.set_blocking(master, False)
        loop.add_reader(master, came)
        bound(os.ttyname(slave))
        while not stop.is_set():
            while waiting and waiting[0].at_s <= loop.time():
                with contextlib.suppress(BlockingIOError):
                    os.write(master, heapq.heappop(waiting).content)
            news.clear()
            await _either(stop, news, waiting[0].at_s - loop.time() if waiting else None)
    finally:
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)


async def _either(stop: asyncio.Event, news: asyncio.Event, limit_s: float | None) -> None:
    """Until something comes, the time is over, or it is to stop."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(stop.wait()), group.create_task(news.wait())]
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
