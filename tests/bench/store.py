"""The store: durable appends, the cost with ten million records in it, bytes written per record."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from buffers import blocks, migrations
from buffers.db import configure_writer
from gateway.core import kinds
from gateway.core.instant import Instant
from gateway.core.record import Draft, check_draft
from gateway.ledger.merkle import Frontier, leaf_hash, node_hash
from tests.bench.figure import Figure, at_least, at_most
from tests.buffers.chain import CERTIFICATE, GATEWAY, START_NS, Box, draft, instant, open_box

RECORDS: Final = 10_000_000
PER_COMMIT: Final = 100
PER_BATCH: Final = 5000
DEVICES: Final = 100
LEAF_BYTES: Final = 300


def run() -> Iterator[Figure]:
    """All figures of the store."""
    with tempfile.TemporaryDirectory() as folder:
        yield append_rate(Path(folder) / "rate")
        yield from written_per_record(Path(folder))
        yield from with_ten_million(Path(folder))


def _rows(count: int, begin: int = 0) -> list[tuple[Draft, Instant]]:
    return [
        (draft("position", f"{13812340000 + (begin + n) % DEVICES}", n=begin + n), instant(START_NS + begin + n))
        for n in range(count)
    ]


async def _append(box: Box, commits: int, per_commit: int) -> None:
    for number in range(commits):
        rows = _rows(per_commit, number * per_commit)
        for one_draft, at in rows:
            check_draft(one_draft, at)
        await box.journal.append(rows)


def append_rate(folder: Path) -> Figure:
    """Records per second, 100 per commit, one caller: check, salt, encode, insert, fdatasync. Best of 5 runs."""
    box = open_box(folder)
    rows = _rows(PER_COMMIT)

    async def many() -> None:
        for _ in range(200):
            for one_draft, at in rows:
                check_draft(one_draft, at)
            await box.journal.append(rows)

    rates, cpu_s = [], time.process_time()
    for _ in range(5):
        begun = time.perf_counter()
        asyncio.run(many())
        rates.append(200 * PER_COMMIT / (time.perf_counter() - begun))
    cpu_us = (time.process_time() - cpu_s) / (len(rates) * 200 * PER_COMMIT) * 1e6
    size = len(next(box.queries.leaves(0, 1)))
    box.close()
    return at_least(
        "durable append, 100 per commit",
        max(rates),
        50_000,
        "records/s",
        f"leaf {size} B, median {statistics.median(rates):,.0f}, min {min(rates):,.0f}; {cpu_us:.1f} µs of CPU each",
    )


def written_per_record(folder: Path) -> Iterator[Figure]:
    """Bytes that reach the block layer per record of 300 bytes, 100 devices taking turns, checkpoints included."""
    for per_commit in (2, 10, 100):
        box = open_box(folder / f"wear {per_commit}")
        asyncio.run(_append(box, 10, per_commit))
        commits = max(40_000 // (per_commit + 10), 300)
        before = _written_bytes()
        asyncio.run(_append(box, commits, per_commit))
        box.close()
        value = (_written_bytes() - before) / (commits * per_commit)
        name = f"bytes written per record, {per_commit} per commit"
        detail = f"100 records/s with a commit each {per_commit * 10} ms"
        yield (
            at_most(name, value, 1000, "bytes", detail)
            if per_commit == 100
            else Figure(name, value, "bytes", detail=detail)
        )


def _written_bytes() -> int:
    os.sync()
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    raise RuntimeError("no write_bytes in /proc/self/io")


def with_ten_million(folder: Path) -> Iterator[Figure]:
    """Ratios of a full store to an empty one, in turns, so that the mood of the machine cancels out."""
    begun = time.perf_counter()
    make_full(folder / "full", RECORDS)
    made_s = time.perf_counter() - begun
    os.sync()
    begun = time.perf_counter()
    full = open_box(folder / "full")
    open_s = time.perf_counter() - begun
    empty = open_box(folder / "empty")
    appends: dict[str, list[float]] = {"full": [], "empty": []}
    batches: dict[str, list[float]] = {"full": [], "empty": []}
    for turn in range(300):
        pair = (("full", full), ("empty", empty)) if turn % 2 else (("empty", empty), ("full", full))
        rows = _rows(PER_COMMIT)
        for name, box in pair:
            appends[name].append(_timed(partial(box.journal.append_blocking, rows)))
        if turn % 20 == 19:
            for name, box in pair:
                batches[name].append(_timed(partial(_next_batch, box)))
    full.close()
    empty.close()
    detail = f"store of {(folder / 'full' / 'store.db').stat().st_size / 1e9:.1f} GB made in {made_s:.0f} s"
    yield at_most("append with 10,000,000 records / empty", _ratio(appends), 1.15, detail=detail)
    yield at_most("next batch with 10,000,000 records / empty", _ratio(batches), 1.15)
    yield Figure("start with 10,000,000 records", open_s * 1000, "ms")


def _ratio(times: dict[str, list[float]]) -> float:
    """Median of the ratios of pairs that ran side by side."""
    return statistics.median(full / empty for full, empty in zip(times["full"], times["empty"], strict=True))


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _next_batch(box: Box) -> None:
    """What the sealer and the delivery ask of the store for one batch."""
    box.seals.pending()
    row = asyncio.run(box.seal())
    for kind in (kinds.BEACON, kinds.CLOCK_STATE):
        box.seals.newest(kind, row.end)
    box.queries.batch_of(row.first)
    for item in box.outbox.due(1, "batch"):
        asyncio.run(box.outbox.done(item.id))
    box.outbox.due(10)


def make_full(folder: Path, records: int) -> None:
    """A sealed store of so many equal leaves, by plain SQL: its hashes follow from one leaf by doubling."""
    folder.mkdir()
    conn = sqlite3.connect(folder / "store.db", isolation_level=None)
    configure_writer(conn)
    conn.execute("PRAGMA journal_mode = OFF")
    conn.execute("PRAGMA synchronous = OFF")
    migrations.migrate(conn)
    leaf = bytes(LEAF_BYTES)
    conn.execute("BEGIN")
    conn.execute("INSERT INTO name (id, text) VALUES (1, 'position'), (2, 'beacon')")
    conn.executemany("INSERT INTO name (id, text) VALUES (?, ?)", ((n + 10, f"device {n}") for n in range(DEVICES)))
    conn.execute(
        "WITH RECURSIVE seq(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM seq WHERE n + 1 < ?) "
        "INSERT INTO record SELECT n, 1, 10 + n % ?, ? + n * 1000000, ? FROM seq",
        (records, DEVICES, START_NS, leaf),
    )
    names = ",k1," + ",".join(f"d{n + 10}" for n in range(DEVICES)) + ","
    conn.executemany(
        "INSERT INTO block VALUES (?, ?, ?, ?)",
        ((n, START_NS, START_NS + 10**9, names) for n in range(records >> blocks.BLOCK_BITS)),
    )
    levels = [leaf_hash(leaf)]
    while len(levels) < 40:
        levels.append(node_hash(levels[-1], levels[-1]))
    for level in (8, 16, 24):
        conn.executemany(
            "INSERT INTO subtree VALUES (?, ?, ?)", ((level, n, levels[level]) for n in range(records >> level))
        )
    flat = hashlib.sha256((leaf + b"\n") * PER_BATCH).hexdigest()
    conn.execute("INSERT INTO certificate VALUES (1, ?)", (CERTIFICATE,))
    conn.executemany(
        f"INSERT INTO batch VALUES ({', '.join('?' * 22)})",
        (_batch(levels, n, flat) for n in range(records // PER_BATCH)),
    )
    conn.execute(
        "UPDATE checkpoint SET size = ?, root = ?, frontier = ?",
        (records, _root(levels, records), b"".join(_frontier(levels, records))),
    )
    conn.execute("INSERT INTO meta VALUES ('gateway_id', ?)", (GATEWAY,))
    conn.execute("COMMIT")
    conn.close()


def _batch(levels: list[bytes], n: int, flat: str) -> tuple[object, ...]:
    """Row n + 1 of the table of batches: delivered, complete, stamped."""
    first, end = n * PER_BATCH, (n + 1) * PER_BATCH
    return (
        *(n + 1, first, end, _root(levels, first), _root(levels, end), b"".join(_frontier(levels, first))),
        *(flat, PER_BATCH * (LEAF_BYTES + 1), 0, 0, START_NS, START_NS, START_NS),
        *(1, 1, 1, bytes(700), bytes(800), bytes(1000), None, None, None),
    )


def _frontier(levels: list[bytes], size: int) -> list[bytes]:
    return [levels[bit] for bit in range(size.bit_length() - 1, -1, -1) if size >> bit & 1]


def _root(levels: list[bytes], size: int) -> bytes:
    return Frontier(size, _frontier(levels, size)).root()
