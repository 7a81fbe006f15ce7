"""A station into the real ingest, journal and memory: what is acknowledged is in the store, over restarts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.queries import Queries
from buffers.spool import Spool
from drivers.bodycam.simulator import StationSimulator
from drivers.registry import run_source
from gateway.clock import SystemClock
from gateway.core.ports import SourceStatus
from gateway.core.record import StateChange, parse_leaf
from gateway.ingest import Ingest
from tests.drivers.stack import drive, folder_config


async def run_once(folder: Path, state: Path, epoch: int, expected: int) -> list[str]:
    """Run until so many station.file records are stored; the kinds of all records."""
    with Database.open(state, "gw-1", reserve_bytes=0) as database:
        memory, queries, clock = Memory(database), Queries(database), SystemClock(epoch)
        spool = Spool(database, state / "spool", high_water_percent=100, reserve_bytes=0)
        status, stop = SourceStatus("station-1", "station-folder"), asyncio.Event()
        sink = Ingest(Journal(database), clock, memory)
        async with asyncio.TaskGroup() as group:
            group.create_task(
                run_source(
                    folder_config(folder),
                    sink=sink,
                    memory=memory,
                    spool=spool,
                    clock=clock,
                    profile_dirs=[],
                    status=status,
                    stop=stop,
                    tick=lambda: None,
                )
            )
            async with asyncio.timeout(30):
                while len(queries.records(kind="station.file", limit=1000)) < expected or status.state != "ok":
                    await asyncio.sleep(0.02)
            stop.set()
        await sink.append([], [StateChange("station-1", b"f" + bytes(16), None)])  # forgetting alone is allowed
        leaves = [parse_leaf(leaf) for _, leaf in queries.records(limit=1000)]
        for record in leaves:
            for artifact in record.artifacts:
                assert spool.path(artifact.sha256).stat().st_size == artifact.size_bytes
            assert len(json.dumps(record.data)) < 262_144
        return [record.kind for record in leaves]


def test_two_starts_over_one_store(tmp_path):
    simulator = StationSimulator(tmp_path / "station", seed=11, recorders=3)
    (tmp_path / "state").mkdir()

    async def scenario():
        for _ in range(20):
            simulator.step()
        simulator.finish()
        first = await run_once(tmp_path / "station", tmp_path / "state", 1, len(simulator.truth))
        assert first.count("station.file") == len(simulator.truth)
        for _ in range(20):
            simulator.step()
        simulator.finish()
        second = await run_once(tmp_path / "station", tmp_path / "state", 2, len(simulator.truth))
        assert second.count("station.file") == len(simulator.truth)
        assert not {"ingest.refused", "station.gap", "station.sighting"} & set(second)
        assert "position" in second

    drive(scenario)
