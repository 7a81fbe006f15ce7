"""Keep a store of the present schema version as a test vector: run once, when the schema gets a new version.

python -m tests.buffers.keep_version
"""

from __future__ import annotations

import asyncio
import gzip
import tempfile
from pathlib import Path

from buffers import migrations
from gateway.core.record import StateChange
from tests.buffers.chain import Box, artifact, draft, instant, open_box

KEPT = Path(__file__).resolve().parent.parent / "vectors" / "store"


async def fill(box: Box) -> None:
    """Two batches, the first with a receipt, and an unsealed tail that ends in an alarm."""
    item = artifact(b"video")
    rows = [(draft("station.file", artifacts=[item], n=0), instant())]
    rows += [(draft(device=f"d{n % 7}", n=n), instant()) for n in range(1, 200)]
    await box.journal.append(rows, [StateChange("trackers", b"cursor", b"\x00\x01")])
    first = await box.seal()
    await box.journal.append([(draft(n=n), instant()) for n in range(200, 309)])
    await box.seal(300)
    await box.receive(first)
    await box.outbox.store_stamp(1, b"token")
    for stamp in box.outbox.due(9, "stamp"):
        await box.outbox.done(stamp.id)
    await box.journal.append([(draft("alarm", n=309), instant())])


def main() -> None:
    """Write tests/vectors/store/v<version>.db.gz."""
    with tempfile.TemporaryDirectory() as folder:
        box = open_box(Path(folder))
        asyncio.run(fill(box))
        box.close()
        content = (Path(folder) / "store.db").read_bytes()
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"v{migrations.newest()}.db.gz").write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main()
