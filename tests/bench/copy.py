"""Taking a recording into the spool, against bare hashing and against what a person would type."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from buffers.db import Database
from buffers.spool import Spool
from drivers.files import Entry, Taken
from drivers.io.folder import Folder
from drivers.io.watched import StationCalls
from tests.bench.figure import Figure, at_most, median_ratio

SIZE_BYTES = 1_000_000_000
RUNS = 5


def run() -> Iterator[Figure]:
    """All ratios over the same 1 GB file."""
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        base = Path(name)
        station = base / "station"
        station.mkdir()
        source = station / "DSJ_0001234_001122_20261121142231_0003.MP4"
        block = os.urandom(1 << 20)
        with source.open("wb") as file:
            for _ in range(SIZE_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        database = Database.open(base / "state", "gw-bench")
        try:
            spool = Spool(database, base / "spool", reserve_bytes=0)

            def take() -> None:
                taken = asyncio.run(_take(station, source, spool))
                spool.remove(taken.sha256, taken.size_bytes)

            copy, detail = base / "copy", f"{SIZE_BYTES // 10**6} MB, file in the page cache"
            ratio, spread = median_ratio(take, lambda: _bare(source), RUNS, before=os.sync)
            yield at_most("copy + hash + fsync / bare hashlib SHA-256", ratio, 1.8, detail=f"{spread}; {detail}")
            ratio, spread = median_ratio(take, lambda: _by_hand(source, copy, sync=False), RUNS, before=os.sync)
            yield at_most("copy + hash + fsync / cp && sha256sum", ratio, 1.0, detail=f"{spread}; cp without fsync")
            ratio, spread = median_ratio(take, lambda: _by_hand(source, copy, sync=True), RUNS, before=os.sync)
            yield Figure("copy + hash + fsync / cp && sync && sha256sum", ratio, "x", detail=f"{spread}; the same work")
        finally:
            database.close()


async def _take(station: Path, source: Path, spool: Spool) -> Taken:
    calls = StationCalls(str(station), hang_s=60.0, stop=asyncio.Event(), tick=lambda: None)
    folder = Folder(str(station), calls, spool, source="bench", depth_max=4, entries_max=10)
    status = source.stat()
    entry = Entry(os.fsencode(source.name), status.st_size, str(status.st_mtime_ns), mtime_ns=status.st_mtime_ns)
    taken = await folder.take(entry)
    assert isinstance(taken, Taken), taken
    return taken


def _bare(source: Path) -> None:
    with source.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def _by_hand(source: Path, copy: Path, *, sync: bool) -> None:
    subprocess.run(["cp", source, copy], check=True)
    if sync:
        subprocess.run(["sync", copy], check=True)
    subprocess.run(["sha256sum", copy], check=True, stdout=subprocess.DEVNULL)
    copy.unlink()
