"""A station source on real parts: the real spool and store below, a sink that keeps records in a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buffers.db import Database
from buffers.spool import Spool
from drivers.registry import run_source
from gateway.config_sources import SourceConfig, StationFolderConfig
from gateway.core.errors import StoreFull
from gateway.core.instant import Instant
from gateway.core.ports import SourceStatus
from gateway.core.record import Draft, StateChange, check_draft

NOW = Instant("0" * 32, 1, 10**12, 1_790_000_000 * 10**9)
GATEWAY = "gw-1"


class FixedClock:
    """Stands still."""

    def now(self) -> Instant:
        return NOW


@dataclass
class ListSink:
    """Port `Sink` and `SourceMemory`: atomic like the journal, in memory; refuses drafts that no leaf could hold."""

    drafts: list[Draft] = field(default_factory=list)
    memory: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    full: int = 0
    """So many appends fail with StoreFull."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, drafts: Sequence[Draft], state: Sequence[StateChange] = ()) -> int:
        if self.full:
            self.full -= 1
            raise StoreFull("no room in the test's store")
        for draft in drafts:
            check_draft(draft, NOW)
        first = len(self.drafts)
        self.drafts += drafts
        for change in state:
            if change.value is None:
                self.memory.pop((change.source, change.key), None)
            else:
                self.memory[change.source, change.key] = change.value
        self.changed.set()
        return first

    def get(self, source: str, key: bytes) -> bytes | None:
        return self.memory.get((source, key))

    def items(self, source: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for (owner, key), value in sorted(self.memory.items()):
            if owner == source and key.startswith(prefix):
                yield key, value

    def of(self, kind: str) -> list[Draft]:
        return [draft for draft in self.drafts if draft.kind == kind]

    def data(self, kind: str) -> list[Any]:
        return [draft.data for draft in self.of(kind)]

    def gaps(self) -> set[tuple[str, str]]:
        return {(data["path"], data["reason"]) for data in self.data("station.gap")}

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait for a condition on what was appended; the test's time-out is the limit."""
        async with asyncio.timeout(30):
            while not happened():
                self.changed.clear()
                await self.changed.wait()


@dataclass
class Station:
    """A running source."""

    sink: ListSink
    spool: Spool
    status: SourceStatus
    stop: asyncio.Event
    ticks: list[int]

    async def files(self, count: int) -> list[Draft]:
        """Wait for so many station.file records."""
        await self.sink.until(lambda: len(self.sink.of("station.file")) >= count)
        return self.sink.of("station.file")

    async def listings(self, more: int = 2) -> None:
        """Wait for so many further listings, by the counters of the source."""
        target = self.status.counters.get("listings", 0) + more
        async with asyncio.timeout(30):
            while self.status.counters.get("listings", 0) < target:
                await asyncio.sleep(0.01)


def folder_config(path: Path, **more: Any) -> StationFolderConfig:
    """A folder source that polls fast."""
    values: dict[str, Any] = {"poll_s": 0.1, "stable_s": 0.05, "profile": "gat947", **more}
    return StationFolderConfig(name="station-1", path=str(path), **values)


@asynccontextmanager
async def running(
    config: SourceConfig, state: Path, sink: ListSink | None = None, **spool_limits: Any
) -> AsyncIterator[Station]:
    """Run a source while the block runs; end it by its stop event."""
    sink = sink or ListSink()
    limits: dict[str, Any] = {"quota_bytes": 1 << 30, "high_water_percent": 100, "reserve_bytes": 0, **spool_limits}
    state.mkdir(exist_ok=True)
    with Database.open(state, GATEWAY, reserve_bytes=0) as database:
        spool = Spool(database, state / "spool", **limits)
        station = Station(sink, spool, SourceStatus(config.name, "station"), asyncio.Event(), [])
        async with asyncio.TaskGroup() as group:
            group.create_task(
                run_source(
                    config,
                    sink=sink,
                    memory=sink,
                    spool=spool,
                    clock=FixedClock(),
                    profile_dirs=[],
                    status=station.status,
                    stop=station.stop,
                    tick=lambda: station.ticks.append(1),
                )
            )
            try:
                yield station
            finally:
                station.stop.set()


async def until(happened: Callable[[], bool]) -> None:
    """Look again and again; the limit is far above what it takes."""
    async with asyncio.timeout(30):
        while not happened():
            await asyncio.sleep(0.01)


def drive(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run one asynchronous test."""
    asyncio.run(scenario())  # type: ignore[arg-type]
