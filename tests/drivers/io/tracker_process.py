"""A jt808 source as a process that tests can kill: python -m tests.drivers.io.tracker_process <state> <port>."""

import asyncio
import sys
from pathlib import Path

import uvloop

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.queries import Queries
from buffers.spool import Spool
from drivers.registry import run_source
from gateway.clock import SystemClock
from gateway.config_sources import Jt808Config
from gateway.core.ports import SourceStatus
from gateway.ingest import Ingest


async def main(state: Path, port: str) -> None:
    config = Jt808Config(name="trucks", listen=f"127.0.0.1:{port}", frames_per_s_max=10_000)
    with Database.open(state, "gw-1", reserve_bytes=0) as database:
        newest = Queries(database).newest_instant()
        clock = SystemClock(1 if newest is None else newest.epoch + 1)
        memory = Memory(database)
        await run_source(
            config,
            sink=Ingest(Journal(database), clock, memory),
            memory=memory,
            spool=Spool(database, state / "spool", high_water_percent=100, reserve_bytes=0),
            clock=clock,
            profile_dirs=[],
            status=SourceStatus("trucks", "jt808"),
            stop=asyncio.Event(),
            tick=lambda: None,
        )


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2]))
