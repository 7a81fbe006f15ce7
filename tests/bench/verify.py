"""Verifying a bundle, against reading and hashing its bytes once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.ledger.verify import verify
from gateway.offline import write_whole
from tests.api.box import NOW, Box
from tests.bench.figure import Figure, at_most, median_ratio

VIDEO_BYTES = 100_000_000
VIDEOS = 3
RECORDS = 2000


def run() -> Iterator[Figure]:
    """A batch of 2,000 records and 300 MB of video."""
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        base = Path(name)
        (base / "box").mkdir()
        box = Box(base / "box")
        try:
            for number in range(VIDEOS):
                video = box.put(os.urandom(1 << 20) * (VIDEO_BYTES >> 20), f"REC_{number:04d}.MP4")
                box.record("station.file", "rec-7", video)
            for number in range(RECORDS):
                box.record("position", "rec-7", number=number)
            row = box.seal()
            path = base / "bundle.tar"
            write_whole(asyncio.run(box.bundles.batch(row.n, artifacts=True)), path)
            report = verify(path, box.trust, now=NOW)
            assert report.ok, report.lines()
            ratio, spread = median_ratio(lambda: verify(path, box.trust, now=NOW), lambda: _bare(path), 5)
            yield at_most("verify a bundle / hashing its bytes", ratio, 1.3, detail=f"{spread}; 300 MB")
        finally:
            box.close()


def _bare(path: Path) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
