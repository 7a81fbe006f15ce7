"""One receiver between its link and the store: bytes wait in a bounded backlog, the session decides, records are on
disk before the next bytes are looked at. Used by drivers.io.receivers for each of its links.

A link that can be held back (TCP) is: it is not read while the backlog is full. One that cannot (serial, UDP) is read
on, the oldest bytes go, and a `device.gap` record says how many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

from drivers.io.surroundings import Surroundings
from drivers.nmea.driver import Close, Count, Dropped, Emit, Ended, Event, Mark, Received, Session, SetState, Timer
from gateway.core.errors import LinkError, StoreFull
from gateway.core.instant import Instant
from gateway.core.record import Draft

TICK_S: Final = 2.0
STORE_RETRY_S: Final = 2.0
BACKLOG_MAX_BYTES: Final = 1 << 20
"""About 20 minutes of a receiver at 9600 baud."""
BACKLOG_MAX_CHUNKS: Final = 20_000
"""Bytes that come one by one cost more than they weigh."""
SENDERS_MAX: Final = 1000
"""Whose dropped bytes are counted one by one; those of more senders are counted together, under ""."""
BACK_OFF_MIN_S: Final = 1.0
BACK_OFF_MAX_S: Final = 30.0
FLUSH_NETWORK_S: Final = 0.9
"""An epoch that comes over a network comes in pieces; only the last one before a silence waits for it."""

Tell = Callable[[SetState], None]


class BackOff:
    """Pauses between attempts: twice as long each time, and never the same for two that fail together."""

    def __init__(self, fraction: Callable[[], float], max_s: float = BACK_OFF_MAX_S) -> None:
        """`fraction` gives numbers in [0, 1), such as random.random."""
        self._fraction = fraction
        self._max_s = max_s
        self._next_s = BACK_OFF_MIN_S

    def next_s(self) -> float:
        """Seconds to wait now: half to all of the step."""
        step_s = self._next_s
        self._next_s = min(2 * step_s, self._max_s)
        return step_s * (1 + self._fraction()) / 2

    def reset(self) -> None:
        """The link has worked."""
        self._next_s = BACK_OFF_MIN_S


async def pause(around: Surroundings, seconds: float) -> None:
    """Wait, alive for the watchdog."""
    left_s = seconds
    while left_s > 0:
        around.tick()
        await asyncio.sleep(min(left_s, TICK_S))
        left_s -= TICK_S
    around.tick()


class Backlog:
    """Bytes in the order in which they came, each chunk with its sender and its moment."""

    def __init__(self, size_max: int = BACKLOG_MAX_BYTES) -> None:
        self._size_max = size_max
        self._chunks: deque[tuple[str, bytes, Instant]] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.dropped: dict[str, int] = {}
        """Sender → bytes that had to go and were not told yet."""
        self.ended: LinkError | None = None

    def put(self, sender: str, chunk: bytes, now: Instant) -> None:
        """Add; the oldest go where there is no room."""
        self._chunks.append((sender, chunk, now))
        self._size += len(chunk)
        while self._full() and len(self._chunks) > 1:
            oldest, gone, _ = self._chunks.popleft()
            self._size -= len(gone)
            if oldest not in self.dropped and len(self.dropped) >= SENDERS_MAX:
                oldest = ""
            self.dropped[oldest] = self.dropped.get(oldest, 0) + len(gone)
        self._changed.set()

    def end(self, reason: LinkError) -> None:
        """Nothing comes any more."""
        self.ended = self.ended or reason
        self._changed.set()

    async def room(self) -> None:
        """Until less than half of it is taken."""
        if 2 * self._size >= self._size_max or 2 * len(self._chunks) >= BACKLOG_MAX_CHUNKS:
            self._room.clear()
            await self._room.wait()

    async def get(self, at_most_s: float) -> tuple[str, bytes, Instant] | None:
        """The oldest chunk; None where none came in time, or `ended` and all are taken."""
        if not self._chunks and self.ended is None:
            self._changed.clear()
            try:
                async with asyncio.timeout(at_most_s):
                    await self._changed.wait()
            except TimeoutError:
                return None
        if not self._chunks:
            return None
        found = self._chunks.popleft()
        self._size -= len(found[1])
        if 2 * self._size < self._size_max and 2 * len(self._chunks) < BACKLOG_MAX_CHUNKS:
            self._room.set()
        return found

    def _full(self) -> bool:
        return self._size > self._size_max or len(self._chunks) > BACKLOG_MAX_CHUNKS


class Desk:
    """Carries out what a session wants."""

    def __init__(self, session: Session, around: Surroundings, tell: Tell) -> None:
        """`tell` takes how the receiver is: for the status of its source."""
        self.session = session
        self._around = around
        self._tell = tell
        self._lock = asyncio.Lock()

    async def handle(self, event: Event, now: Instant | None = None) -> str | None:
        """Give the session an event and obey. The reason, where it wants its link closed."""
        closing = None
        async with self._lock:
            for command in self.session.handle(event, now or self._around.clock.now()):
                match command:
                    case Emit(drafts):
                        await commit(self._around, drafts, self._tell)
                    case Count(counts):
                        for name, by in counts.items():
                            count(self._around, name, by)
                    case SetState():
                        self._tell(command)
                    case Mark(utc_ns, mono_ns, uncertainty_ns):
                        if self._around.time_marks is not None:
                            source = self.session.author.source
                            self._around.time_marks.mark(source, utc_ns, mono_ns, uncertainty_ns)
                    case Close(reason):
                        closing = reason
        return closing

    async def finish(self) -> None:
        """The gateway stops: what is unfinished is stored, where the store takes it at once."""
        drafts: list[Draft] = []
        for command in self.session.handle(Ended(), self._around.clock.now()):
            if isinstance(command, Emit):
                drafts += command.drafts
        if drafts:
            try:
                await self._around.sink.append(drafts)
            except StoreFull:
                count(self._around, "records_lost_at_stop", len(drafts))

    def due_s(self) -> float:
        """Seconds until its timer, at most TICK_S."""
        deadline_ns = self.session.deadline_ns()
        if deadline_ns is None:
            return TICK_S
        return min(max((deadline_ns - self._around.clock.now().mono_ns) / 1e9, 0.001), TICK_S)

    async def timer(self) -> str | None:
        """What is due, where something is."""
        deadline_ns, now = self.session.deadline_ns(), self._around.clock.now()
        if deadline_ns is None or now.mono_ns < deadline_ns:
            return None
        return await self.handle(Timer(), now)


async def commit(around: Surroundings, drafts: Sequence[Draft], tell: Tell) -> None:
    """Store. On a full store nothing else happens here until it has room: no event is handled twice or skipped."""
    while True:
        try:
            await around.sink.append(drafts)
            return
        except StoreFull as full:
            tell(SetState("degraded", f"the store is full, nothing is taken: {full}"))
        await pause(around, STORE_RETRY_S)


def count(around: Surroundings, name: str, by: int = 1) -> None:
    """Add to a counter of the source."""
    around.status.counters[name] = around.status.counters.get(name, 0) + by


def show(around: Surroundings, state: Literal["ok", "degraded", "down", "disabled"], reason: str) -> None:
    """Set the state of the source."""
    status = around.status
    if status.state != state:
        status.since_utc_ns = around.clock.now().utc_ns
    status.state, status.reason = state, reason


async def pump(
    desk: Desk, read: Callable[[], Awaitable[bytes]], around: Surroundings, backlog: Backlog, *, waits: bool
) -> str:
    """Carry what `read` gives to the session until the link ends or is to be closed; why it ended. `waits`: the link
    can be held back."""
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(_fill(read, around, backlog, waits=waits))
        try:
            return await _drain(desk, around, backlog)
        finally:
            reader.cancel()


async def _fill(read: Callable[[], Awaitable[bytes]], around: Surroundings, backlog: Backlog, *, waits: bool) -> None:
    try:
        while True:
            chunk = await read()
            backlog.put("", chunk, around.clock.now())
            if waits:
                await backlog.room()
    except LinkError as error:
        backlog.end(error)


async def _drain(desk: Desk, around: Surroundings, backlog: Backlog) -> str:
    while True:
        around.tick()
        found = await backlog.get(desk.due_s())
        if found is not None:
            closing = await take(desk, around, backlog, found)
        elif backlog.ended is not None:
            return str(backlog.ended)
        else:
            closing = await desk.timer()
        if closing is not None:
            return closing


async def take(desk: Desk, around: Surroundings, backlog: Backlog, found: tuple[str, bytes, Instant]) -> str | None:
    """Give one chunk to its session, after what was dropped before it."""
    sender, chunk, now = found
    if sender in backlog.dropped:
        await desk.handle(Dropped(backlog.dropped.pop(sender)), now)
    around.status.last_seen_utc_ns = now.utc_ns
    return await desk.handle(Received(chunk), now)
