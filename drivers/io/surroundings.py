"""What the gateway gives to every source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.core.ports import Clock, Orders, Sink, SourceMemory, SourceStatus, Spool, TimeMarks


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Ports and signals of one source."""

    sink: Sink
    memory: SourceMemory
    spool: Spool
    clock: Clock
    profile_dirs: Sequence[str]
    status: SourceStatus
    stop: asyncio.Event
    tick: Callable[[], None]
    """To be called at least every 5 s, for the watchdog."""
    orders: Orders | None = None
    """Where a source that takes operators' orders says so; None where nobody gives any."""
    time_marks: TimeMarks | None = None
    """Where a receiver tells the time of its satellites; None where nobody asks."""


async def pause(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long; whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
