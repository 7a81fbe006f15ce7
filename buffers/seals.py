"""What the sealer needs: the end of the sealed log, what lies behind it, and the commit of a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from buffers import blocks, rows
from buffers.connection import Connection, one
from buffers.db import Database
from buffers.journal import queue
from gateway.core import kinds
from gateway.core.errors import IntegrityError
from gateway.core.ports import ArtifactRow, NewBatch, Pending, Tail

COUNTED_MAX: Final = 10_000
"""So many unsealed records are weighed; without a certificate there may be millions, and a batch is due long before."""


class Seals:
    """Port `SealStore` over the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tail(self) -> Tail:
        """See ports.SealStore."""
        with self._database.readers() as conn:
            return rows.read_tail(conn)

    def pending(self) -> Pending:
        """See ports.SealStore. Bounded: counts at most COUNTED_MAX records, else looks at the index."""
        with self._database.readers() as conn:
            return read_pending(conn)

    def next_batch(self) -> int:
        """See ports.SealStore."""
        with self._database.readers() as conn:
            return next_batch(conn)

    def leaves(self, first: int, end: int) -> Iterator[bytes]:
        """See ports.SealStore."""
        return rows.iter_leaves_apart(self._database.readers, first, end)

    def artifacts_of(self, first: int, end: int) -> list[ArtifactRow]:
        """See ports.SealStore."""
        with self._database.readers() as conn:
            return rows.artifacts_of(conn, first, end)

    def newest(self, kind: str, below: int) -> int | None:
        """See ports.SealStore."""
        with self._database.readers() as conn:
            return blocks.newest(conn, kind, below)

    async def commit_seal(self, batch: NewBatch) -> None:
        """See ports.SealStore."""
        await self._database.submit(lambda conn: insert_batch(conn, batch))


def read_pending(conn: Connection) -> Pending:
    """What lies behind the tail."""
    size = rows.read_tail(conn).size
    end = rows.next_seq(conn)
    if end == size:
        return Pending(end, None, None, urgent=False)
    evidence = one(
        conn,
        "SELECT utc_ns FROM record WHERE seq >= ? AND kind NOT IN "
        "(SELECT id FROM name WHERE text IN (SELECT value FROM json_each(?))) "
        "ORDER BY seq LIMIT 1",
        (size, json.dumps(sorted(kinds.HOUSEKEEPING))),
    )
    oldest = one(conn, "SELECT utc_ns FROM record WHERE seq = ?", (size,))
    size_bytes = one(
        conn, "SELECT coalesce(sum(length(leaf)), 0) FROM record WHERE seq >= ? AND seq < ?", (size, size + COUNTED_MAX)
    )
    return Pending(end, evidence, oldest, blocks.any_since(conn, kinds.URGENT, size), size_bytes)


def next_batch(conn: Connection) -> int:
    """n of the next batch."""
    return int(one(conn, "SELECT coalesce(max(n), 0) + 1 FROM batch"))


def insert_batch(conn: Connection, batch: NewBatch) -> None:
    """Compare-and-swap the tail and store the batch, inside the caller's transaction."""
    row, before, after = batch.row, batch.tail_before, batch.tail_after
    stored = rows.read_tail(conn)
    if stored != before:
        raise IntegrityError(
            f"the sealed log ends at {stored.size} ({stored.root.hex()}), the sealer began at {before.size} "
            f"({before.root.hex()}): two sealers on one store; stop one"
        )
    expected = (next_batch(conn), before.size, after.size, before.root, after.root, before.frontier)
    if (row.n, row.first, row.end, row.prev_root, row.root, row.prev_frontier) != expected:
        raise IntegrityError(f"batch {row.n} [{row.first}, {row.end}) does not continue the log at {before.size}")
    if not row.first < row.end <= rows.next_seq(conn):
        raise IntegrityError(f"batch {row.n} ends at {row.end}, the journal at {rows.next_seq(conn)}")
    conn.execute("INSERT OR IGNORE INTO certificate (pem) VALUES (?)", (row.certificate_pem,))
    certificate = one(conn, "SELECT id FROM certificate WHERE pem = ?", (row.certificate_pem,))
    conn.execute(
        "INSERT INTO batch (n, first_seq, end_seq, prev_root, root, prev_frontier, records_sha256, records_bytes, "
        "artifact_count, artifact_bytes, utc_min_ns, utc_max_ns, sealed_utc_ns, certificate, seal_txt, seal_p7s, tsr) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(row.n, row.first, row.end, row.prev_root, row.root, b"".join(row.prev_frontier)),
            *(row.records_sha256, row.records_bytes, row.artifact_count, row.artifact_bytes),
            *(
                row.utc_min_ns,
                row.utc_max_ns,
                row.sealed_utc_ns,
                certificate,
                row.seal_txt,
                row.seal_p7s,
                row.tsr,
            ),
        ),
    )
    conn.executemany("INSERT INTO subtree VALUES (?, ?, ?)", batch.subtrees)
    conn.execute(
        "UPDATE checkpoint SET size = ?, root = ?, frontier = ?",
        (after.size, after.root, b"".join(after.frontier)),
    )
    queue(conn, "batch", row.n, str(row.n), row.records_bytes, row.sealed_utc_ns)
