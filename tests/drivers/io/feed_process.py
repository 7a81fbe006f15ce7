"""A JSON source as a process that tests can kill: python -m tests.drivers.io.feed_process <state> <type> <rest…>.

json-mqtt <broker's port>, json-http <port> <token file>. With FEED_STALL=1 the store takes nothing: it is as if the
disk had stopped between receipt and commit.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.queries import Queries
from buffers.spool import Spool
from drivers.registry import run_source
from gateway.clock import SystemClock
from gateway.config_sources import JsonHttpConfig, JsonMqttConfig
from gateway.core import kinds
from gateway.core.ports import SourceStatus
from gateway.core.record import Draft, StateChange
from gateway.ingest import Ingest


class Stalled:
    """Port `Sink`: takes everything but readings; those it holds for ever."""

    def __init__(self, sink: Ingest, state: Path) -> None:
        self._sink, self._mark = sink, state / "stalled"

    async def append(self, drafts: Sequence[Draft], state: Sequence[StateChange] = ()) -> int:
        if any(draft.kind == kinds.READING for draft in drafts):
            self._mark.touch()
            await asyncio.Event().wait()
        return await self._sink.append(drafts, state)


async def main(state: Path, kind: str, *rest: str) -> None:
    config: JsonMqttConfig | JsonHttpConfig
    if kind == "json-mqtt":
        url = f"mqtt://127.0.0.1:{rest[0]}"
        config = JsonMqttConfig(name="bins", url=url, topics=["bins/+/report"], profile="smart-bin", inflight_max=10)
    else:
        config = JsonHttpConfig(name="bins", listen=f"127.0.0.1:{rest[0]}", profile="smart-bin", token_file=rest[1])
    with Database.open(state, "gw-1", reserve_bytes=0) as database:
        newest = Queries(database).newest_instant()
        clock = SystemClock(1 if newest is None else newest.epoch + 1)
        memory = Memory(database)
        ingest = Ingest(Journal(database), clock, memory)
        await run_source(
            config,
            sink=Stalled(ingest, state) if os.environ.get("FEED_STALL") else ingest,
            memory=memory,
            spool=Spool(database, state / "spool", high_water_percent=100, reserve_bytes=0),
            clock=clock,
            profile_dirs=[],
            status=SourceStatus("bins", kind),
            stop=asyncio.Event(),
            tick=lambda: None,
        )


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), *sys.argv[2:]))
