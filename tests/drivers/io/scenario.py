"""A station source in a process of its own, so that strace can break its system calls.

    python -m tests.drivers.io.scenario FOLDER STATE HANG_S STOP_KIND COUNT

Runs until COUNT records of STOP_KIND are there, then prints each record as one JSON line. The memory of the source
is kept in STATE/memory.json, so that a second run is a restart.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from drivers.io import station
from tests.drivers.stack import ListSink, folder_config, running


async def scenario(folder: Path, state: Path, hang_s: float, kind: str, count: int) -> None:
    station.HANG_S = hang_s  # type: ignore[misc]
    sink = ListSink()
    kept = state.with_suffix(".json")
    if kept.exists():
        rows = json.loads(kept.read_text())
        sink.memory = {(source, bytes.fromhex(key)): bytes.fromhex(value) for source, key, value in rows}
    async with running(folder_config(folder, profile="generic"), state, sink):
        await sink.until(lambda: len(sink.of(kind)) >= count)
    rows = [(source, key.hex(), value.hex()) for (source, key), value in sink.memory.items()]
    kept.write_text(json.dumps(rows))
    for draft in sink.drafts:
        artifacts = [item.sha256 for item in draft.artifacts]
        row = json.dumps({"kind": draft.kind, "data": draft.data, "artifacts": artifacts})
        sys.stdout.write(row + "\n")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(scenario(Path(arguments[0]), Path(arguments[1]), float(arguments[2]), arguments[3], int(arguments[4])))
