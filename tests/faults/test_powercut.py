"""Power cuts on a simulated disk: the real schema, the real journal, seal and outbox code, the real start.

Acknowledged records lost: 0, in hundreds of cuts with torn sectors and reordered writes. A disk that lies about fsync
loses records, and then either the start refuses, or the store is shorter than what the platform holds, which is
how the uplink finds it (FORK): never is something the platform knows of silently replaced.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from buffers import migrations, outbox, rows
from buffers.db import configure_writer
from buffers.journal import Names, append_rows
from buffers.seals import insert_batch
from gateway.core.errors import IntegrityError
from gateway.core.record import StateChange
from tests.buffers.chain import GATEWAY, Box, artifact, draft, instant, new_batch, open_box, receipt_of
from tests.faults.vfs import Disk, Op, SimulatedVFS, image_after_cut

STEPS = 45


@dataclass
class Trace:
    """One run of the gateway on the simulated disk: its log of writes, and the truth that it told."""

    disk: Disk
    before: dict[str, bytes]
    leaves: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Told:
    """What somebody outside was told: so many records are durable, so many are sealed, this is remembered."""

    records: int = 0
    sealed: int = 0
    cursor: bytes | None = None


@contextmanager
def connection(disk: Disk, synchronous: str) -> Iterator[apsw.Connection]:
    """The writer's connection, with its real settings, over the simulated disk. Checkpoints are made frequent."""
    vfs = SimulatedVFS("simulated", disk)
    conn = apsw.Connection("store.db", vfs="simulated")
    try:
        conn.execute("PRAGMA locking_mode = EXCLUSIVE")
        configure_writer(conn)
        conn.execute("PRAGMA wal_autocheckpoint = 12")
        if synchronous != "FULL":
            conn.execute(f"PRAGMA synchronous = {synchronous}")
        yield conn
    finally:
        conn.close()
        vfs.unregister()


def transact(conn: apsw.Connection, run: Callable[[Any], None]) -> None:
    """As the writer thread does."""
    conn.execute("BEGIN IMMEDIATE")
    run(conn)
    conn.execute("COMMIT")


def run_gateway(seed: int, before: dict[str, bytes] | None = None, synchronous: str = "FULL") -> Trace:
    """Appends of all sizes, state, artifacts, alarms, seals, receipts, deliveries; an acknowledgement after each."""
    rng = random.Random(seed)
    disk = Disk({name: bytearray(content) for name, content in (before or {}).items()})
    trace = Trace(disk, dict(before or {}))
    names = Names()
    cursor: bytes | None = None
    with connection(disk, synchronous) as conn:
        migrations.migrate(conn)
        conn.execute("INSERT OR IGNORE INTO meta VALUES ('gateway_id', ?)", (GATEWAY,))
        trace.leaves = [leaf for (leaf,) in conn.execute("SELECT leaf FROM record ORDER BY seq")]
        cursor = _cursor(conn)
        disk.log.insert(0, Op("ack", note=Told(len(trace.leaves), rows.read_tail(conn).size, cursor)))
        for step in range(STEPS):
            if rng.random() < 0.75:
                cursor = b"%d/%d" % (seed, step)
                some = _some_rows(rng, step)
                transact(conn, lambda c, some=some, cursor=cursor: _append(c, names, some, cursor))  # type: ignore[misc]
            else:
                transact(conn, lambda c: _seal_and_deliver(c, rng))
            end = rows.next_seq(conn)
            trace.leaves += rows.read_leaves(conn, len(trace.leaves), end)
            disk.acknowledge(Told(end, rows.read_tail(conn).size, cursor))
    return trace


def _cursor(conn: Any) -> bytes | None:
    row = conn.execute("SELECT value FROM state WHERE key = x'63'").fetchone()
    return None if row is None else row[0]


def _some_rows(rng: random.Random, step: int) -> list[Any]:
    found = []
    for n in range(rng.choice([1, 1, 2, 5, 40])):
        kind = rng.choice(["position", "position", "alarm", "station.file"])
        items = [artifact(b"%d %d" % (step, n))] if kind == "station.file" else []
        text = "x" * rng.choice([0, 50, 300, 6000])
        found.append((draft(kind, f"d{rng.randrange(9)}", items, n=n, text=text), instant()))
    return found


def _append(conn: Any, names: Names, some: list[Any], cursor: bytes) -> None:
    append_rows(conn, names, some, [StateChange("s", b"c", cursor)])


def _seal_and_deliver(conn: Any, rng: random.Random) -> None:
    if rows.next_seq(conn) > rows.read_tail(conn).size:
        insert_batch(conn, new_batch(conn))
    due = outbox.read_due(conn, 3)
    for item in due:
        if item.kind == "batch" and rng.random() < 0.5:
            batch = rows.batch_row(conn.execute(rows.BATCH_SQL + "WHERE b.n = ?", (int(item.ref),)).fetchone())
            ours = [(row.sha256, row.size_bytes) for row in rows.artifacts_of(conn, batch.first, batch.end)]
            outbox.keep_receipt(conn, batch.n, receipt_of(batch, ours), complete=True)
        elif rng.random() < 0.5:
            outbox.finish_item(conn, item.id)


def told_at(trace: Trace, cut: int) -> Told:
    """The last acknowledgement before the cut."""
    told = next(op.note for op in reversed(trace.disk.log[: max(1, cut)]) if op.kind == "ack")
    assert isinstance(told, Told)
    return told


def start(folder: Path, image: dict[str, bytes]) -> Box:
    """The real start, on real files, of what the cut left."""
    for old in folder.glob("store.db*"):
        old.unlink()
    for name, content in image.items():
        (folder / name).write_bytes(content)
    return open_box(folder)


def check(box: Box, trace: Trace, told: Told) -> None:
    """Nothing acknowledged is lost, order is kept, no transaction is half there, and work goes on."""
    end, sealed = box.queries.next_seq(), box.queries.tail().size
    assert end >= told.records, f"{told.records - end} acknowledged records lost"
    assert sealed >= told.sealed
    assert list(box.queries.leaves(0, end)) == trace.leaves[:end]
    boundaries = {op.note.records: op.note for op in trace.disk.log if op.kind == "ack"}
    if end != told.records:
        assert end in boundaries, "a transaction came back in part"
        assert box.memory.get("s", b"c") == boundaries[end].cursor
    for row in box.queries.batches(0, 1000):
        assert box.queries.batch_of(row.first) == row
    assert box.journal.append_blocking([(draft("position"), instant())]) == end
    asyncio.run(box.seal())


def cut_points(trace: Trace, count: int, rng: random.Random) -> list[int]:
    """Where the power goes: anywhere, with weight on the writes right before an acknowledgement."""
    acks = [index for index, op in enumerate(trace.disk.log) if op.kind == "ack"]
    near = [max(0, rng.choice(acks) + rng.randrange(-3, 2)) for _ in range(count // 2)]
    return near + [rng.randrange(len(trace.disk.log)) for _ in range(count - len(near))]


def cut_many(folder: Path, seeds: range, cuts_per_trace: int) -> int:
    """Run, cut, start, check; then run on from what one cut left and cut again. How many cuts."""
    done = 0
    for seed in seeds:
        rng = random.Random(seed)
        trace = run_gateway(seed)
        image: dict[str, bytes] = {}
        for round_ in range(2):
            for cut in cut_points(trace, cuts_per_trace // 2, rng):
                image = image_after_cut(trace.disk.log[:cut], rng, before=trace.before)
                box = start(folder, image)
                check(box, trace, told_at(trace, cut))
                box.close()
                done += 1
            if round_ == 0:
                trace = run_gateway(seed + 1000, image)
    return done


def test_nothing_acknowledged_is_lost_in_60_cuts(tmp_path: Path) -> None:
    assert cut_many(tmp_path, range(3), 20) == 60


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_in_400_cuts(tmp_path: Path) -> None:
    assert cut_many(tmp_path, range(100, 120), 20) == 400


def test_the_simulated_disk_is_hostile_enough(tmp_path: Path) -> None:
    """With synchronous = NORMAL the same cuts do lose acknowledged records: this test can tell."""
    lost = 0
    for seed in range(4):
        trace = run_gateway(seed, synchronous="NORMAL")
        rng = random.Random(seed)
        for cut in cut_points(trace, 25, rng):
            box = start(tmp_path, image_after_cut(trace.disk.log[:cut], rng))
            lost += box.queries.next_seq() < told_at(trace, cut).records
            box.close()
    assert lost >= 5


def test_a_disk_that_ignores_fsync_is_found_out(tmp_path: Path) -> None:
    """Whatever it loses of what the platform holds: the start refuses, or the store is shorter than the platform's
    checkpoint. What the platform does not hold yet can be lost unseen, for at most one seal interval; then the
    station still has it (STORE.md, "Threats")."""
    outcomes: Counter[str] = Counter()
    for seed in range(4):
        trace = run_gateway(seed)
        rng = random.Random(seed)
        for cut in cut_points(trace, 20, rng):
            told = told_at(trace, cut)
            image = image_after_cut(trace.disk.log[:cut], rng, ignore_sync=True)
            outcomes[_outcome(tmp_path, image, trace, told)] += 1
    assert set(outcomes) <= {"whole", "refused at start", "shorter than the platform", "unsealed tail lost"}
    assert outcomes["refused at start"] > 0
    assert outcomes["shorter than the platform"] > 0


def _outcome(folder: Path, image: dict[str, bytes], trace: Trace, told: Told) -> str:
    try:
        box = start(folder, image)
    except IntegrityError:
        return "refused at start"
    try:
        end, sealed = box.queries.next_seq(), box.queries.tail().size
        if sealed < told.sealed:
            return "shorter than the platform"
        same = list(box.queries.leaves(0, min(end, told.records))) == trace.leaves[: min(end, told.records)]
        assert same, "records that the platform holds were replaced"
        return "whole" if end >= told.records else "unsealed tail lost"
    except IntegrityError:
        return "refused at start"
    finally:
        box.close()
