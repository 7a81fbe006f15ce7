"""Runs the session of one station over one place: the loop between pure decisions and the outside world.

Order is the promise: an Emit is on disk before the next event is handled, and a file's record is written only after
the file itself is in the spool. One copy at a time per station; stations know nothing of each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from drivers.bodycam.drafts import Content
from drivers.bodycam.driver import (
    Command,
    Count,
    Emit,
    Event,
    List,
    Listed,
    ListFailed,
    ListPart,
    Probe,
    Probed,
    Session,
    SetState,
    Take,
    TakeDone,
    TakeFailed,
)
from drivers.bodycam.examples import read_content
from drivers.bodycam.tracks import TRACK_MAX_BYTES
from drivers.files import Entry, Failure, Taken
from drivers.io.surroundings import pause
from drivers.io.watched import InterruptedCall
from gateway import metrics
from gateway.core.errors import FieldgateError, LinkError, StoreFull
from gateway.core.ports import Clock, Sink, SourceStatus, Spool

METRICS: Final = {
    "files_taken": metrics.ARTIFACTS,
    "bytes_taken": metrics.ARTIFACT_BYTES,
    "sightings": metrics.SIGHTINGS,
    "gaps": metrics.GAPS,
}
"""Counters of a session that /metrics shows too."""
TICK_S: Final = 2.0
STORE_RETRY_S: Final = 5.0


class Place(Protocol):
    """Where the files are: drivers.io.folder, drivers.io.http."""

    def listing(self) -> AsyncIterator[ListPart | Listed]:
        """Raises LinkError, InterruptedCall."""

    async def probe(self, entry: Entry, container: str, /) -> str:
        """closed, open or unknown. Raises LinkError, InterruptedCall."""

    async def take(self, entry: Entry) -> Taken | Failure:
        """Raises LinkError, InterruptedCall."""

    async def hints(self, wake: Callable[[], None]) -> None:
        """Call `wake` when something may have changed, until cancelled; may return at once."""


class StationRunner:
    """One station until `stop`."""

    def __init__(
        self,
        session: Session,
        place: Place,
        *,
        sink: Sink,
        spool: Spool,
        clock: Clock,
        status: SourceStatus,
        stop: asyncio.Event,
        tick: Callable[[], None],
    ) -> None:
        self._session = session
        self._place = place
        self._sink = sink
        self._spool = spool
        self._clock = clock
        self._status = status
        self._stop = stop
        self._tick = tick
        self._nudge = asyncio.Event()

    async def run(self) -> None:
        """Returns after `stop`; raises what is not the station's fault."""
        fault: FieldgateError | None = None
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self._place.hints(self._woken)), group.create_task(self._stopper())]
            try:
                await asyncio.sleep(0)  # hints must listen before the first listing, else a change in between is missed
                await self._loop()
            except InterruptedCall:
                pass
            except FieldgateError as error:
                fault = error  # leaves as itself, not inside a group
            finally:
                for task in others:
                    task.cancel()
        if fault is not None:
            raise fault

    def _woken(self) -> None:
        self._session.wake(self._now_ns())
        self._nudge.set()

    async def _stopper(self) -> None:
        await self._stop.wait()
        self._nudge.set()

    async def _loop(self) -> None:
        while not self._stop.is_set():
            self._tick()
            match self._session.next(self._now_ns()):
                case List():
                    await self._list()
                case Probe(entry, container):
                    await self._probe(entry, container)
                case Take(entry, use):
                    await self._take(entry, use)
                case None:
                    await self._wait()

    async def _list(self) -> None:
        try:
            async for part in self._place.listing():
                if isinstance(part, Listed):
                    self._status.last_seen_utc_ns = self._clock.now().utc_ns
                self._tick()
                await self._tell(part)
        except LinkError as error:
            await self._tell(ListFailed(str(error)))

    async def _probe(self, entry: Entry, container: str) -> None:
        try:
            await self._tell(Probed(entry.path, await self._place.probe(entry, container)))
        except LinkError as error:
            await self._tell(ListFailed(str(error)))

    async def _take(self, entry: Entry, use: str) -> None:
        try:
            result = await self._place.take(entry)
        except LinkError as error:
            result = Failure("link", "unreachable", str(error))
        if isinstance(result, Failure):
            await self._tell(TakeFailed(entry, result))
            return
        content = None
        if use in {"sidecar", "track"}:
            content = await asyncio.to_thread(self._content, entry, result)
        await self._tell(TakeDone(entry, result, content))

    def _content(self, entry: Entry, taken: Taken) -> Content | None:
        with self._spool.path(taken.sha256).open("rb") as file:
            raw = file.read(TRACK_MAX_BYTES + 1)
        return read_content(raw, entry.path, self._session.codec)

    async def _tell(self, event: Event) -> None:
        for command in self._session.handle(event, self._now_ns()):
            await self._obey(command)

    async def _obey(self, command: Command) -> None:
        match command:
            case Emit():
                await self._commit(command)
            case Count(name, by):
                self._status.counters[name] = self._status.counters.get(name, 0) + by
                if name in METRICS:
                    METRICS[name].labels(self._status.name).inc(by)
            case SetState():
                self._set_state(command)

    async def _commit(self, emit: Emit) -> None:
        """On a full store nothing else happens here until it has room: no event is handled twice or skipped."""
        while True:
            try:
                await self._sink.append(emit.drafts, emit.state)
                return
            except StoreFull as error:
                self._set_state(SetState("degraded", f"the store is full, nothing is taken: {error}"))
            if await pause(self._stop, STORE_RETRY_S):
                raise InterruptedCall(given_up=False)
            self._tick()

    def _set_state(self, state: SetState) -> None:
        if (self._status.state, self._status.reason) != (state.state, state.reason):
            if self._status.state != state.state:
                self._status.since_utc_ns = self._clock.now().utc_ns
            self._status.state, self._status.reason = state.state, state.reason

    async def _wait(self) -> None:
        left_s = (self._session.deadline_ns() - self._now_ns()) / 1e9
        self._nudge.clear()
        if self._stop.is_set():
            return
        await pause(self._nudge, min(max(left_s, 0.001), TICK_S))

    def _now_ns(self) -> int:
        return int(asyncio.get_running_loop().time() * 1e9)
