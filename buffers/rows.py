"""Reading rows of the store as the values of core.ports: shared by sealer, reader, outbox and recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

from buffers.connection import Connection, one
from gateway.core.errors import IntegrityError
from gateway.core.ports import ArtifactRow, BatchRow, Tail

LEAVES_PER_READ: Final = 500
"""Records fetched at a time, so that no reader holds a snapshot while its consumer works."""

BATCH_SQL: Final = (
    "SELECT b.n, first_seq, end_seq, prev_root, root, prev_frontier, records_sha256, records_bytes, artifact_count, "
    "artifact_bytes, utc_min_ns, utc_max_ns, sealed_utc_ns, seal_txt, seal_p7s, c.pem, tsr, receipt_txt, receipt_p7s, "
    "receipt_artifacts, complete, q.reason FROM batch b JOIN certificate c ON c.id = b.certificate "
    "LEFT JOIN quarantine q ON q.kind = 'batch' AND q.rank = b.n "
)


def batch_row(row: Any) -> BatchRow:
    """A row of BATCH_SQL."""
    values = list(row)
    values[5] = split_hashes(values[5])
    values[20] = bool(values[20])
    return BatchRow(*values)


def split_hashes(joined: bytes) -> tuple[bytes, ...]:
    """The 32-byte hashes of a stored frontier."""
    return tuple(joined[at : at + 32] for at in range(0, len(joined), 32))


def read_tail(conn: Connection) -> Tail:
    """The checkpoint. Raises IntegrityError where its row is missing."""
    row = conn.execute("SELECT size, root, frontier FROM checkpoint").fetchone()
    if row is None:
        raise IntegrityError("store.db has lost its checkpoint; restore the state folder or enrol the gateway anew")
    return Tail(row[0], row[1], split_hashes(row[2]))


def next_seq(conn: Connection) -> int:
    """One past the newest durable leaf; never below the sealed size, though records may have expired."""
    return int(one(conn, "SELECT max((SELECT coalesce(max(seq) + 1, 0) FROM record), (SELECT size FROM checkpoint))"))


def expired_below(conn: Connection) -> int:
    """Records below this seq have expired; a multiple of 256."""
    return int(one(conn, "SELECT value FROM meta WHERE key = 'records_expired_below'") or 0)


def read_leaves(conn: Connection, first: int, end: int) -> list[bytes]:
    """Leaves of [first, end). Raises KeyError below what has expired, IntegrityError at a hole."""
    leaves = [
        row[0] for row in conn.execute("SELECT leaf FROM record WHERE seq >= ? AND seq < ? ORDER BY seq", (first, end))
    ]
    if len(leaves) != max(0, end - first):
        if first < expired_below(conn):
            raise KeyError(f"records below {expired_below(conn)} have expired after their receipt")
        raise IntegrityError(
            f"store.db: of records {first} to {end - 1} only {len(leaves)} are there; stop, keep a copy of the state "
            "folder, and restore it or enrol the gateway anew"
        )
    return leaves


def iter_leaves(conn: Connection, first: int, end: int) -> Iterator[bytes]:
    """`read_leaves` in portions, on one connection."""
    for start in range(first, end, LEAVES_PER_READ):
        yield from read_leaves(conn, start, min(end, start + LEAVES_PER_READ))


def iter_leaves_apart(
    readers: Callable[[], AbstractContextManager[Connection]], first: int, end: int
) -> Iterator[bytes]:
    """`read_leaves` in portions, a short read transaction each: leaves never change, so portions fit together."""
    for start in range(first, end, LEAVES_PER_READ):
        with readers() as conn:
            portion = read_leaves(conn, start, min(end, start + LEAVES_PER_READ))
        yield from portion


def artifacts_of(conn: Connection, first: int, end: int) -> list[ArtifactRow]:
    """Distinct artifacts that records of [first, end) name, sorted by sha256."""
    rows = conn.execute(
        "SELECT DISTINCT a.sha256, a.size_bytes, a.media_type, a.state FROM artifact_ref r "
        "JOIN artifact a ON a.id = r.artifact WHERE r.seq >= ? AND r.seq < ? ORDER BY a.sha256",
        (first, end),
    )
    return [ArtifactRow(*row) for row in rows]
