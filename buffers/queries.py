"""The read-only view of the store: for the API, bundles, proofs and tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from buffers import blocks, rows
from buffers.connection import Connection, one
from buffers.db import Database
from gateway.core.errors import IntegrityError
from gateway.core.instant import Instant
from gateway.core.ports import ArtifactRow, BatchRow, Tail
from gateway.core.record import parse_leaf
from gateway.ledger.merkle import leaf_hash, node_hash

LIMIT_MAX: Final = 1000
"""Rows per answer, whatever is asked for."""
STORED_LEVELS: Final = 8
"""Perfect subtrees are stored at multiples of this level; what lies between is computed from those below."""


class Queries:
    """Port `Reader` over the store; works beside a running daemon (Database.open_readonly)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tail(self) -> Tail:
        """See ports.Reader."""
        with self._database.readers() as conn:
            return rows.read_tail(conn)

    def next_seq(self) -> int:
        """See ports.Reader."""
        with self._database.readers() as conn:
            return rows.next_seq(conn)

    def newest_instant(self) -> Instant | None:
        """The moment of the newest record: the next start begins a later epoch. None in an empty store."""
        with self._database.readers() as conn:
            leaf = one(conn, "SELECT leaf FROM record ORDER BY seq DESC LIMIT 1")
        if leaf is None:
            return None
        try:
            return parse_leaf(leaf).instant
        except ValueError as error:
            raise IntegrityError(f"the newest record cannot be read: {error}; restore the state folder") from error

    def batch(self, n: int) -> BatchRow | None:
        """See ports.Reader."""
        with self._database.readers() as conn:
            row = conn.execute(rows.BATCH_SQL + "WHERE b.n = ?", (n,)).fetchone()
        return None if row is None else rows.batch_row(row)

    def batch_of(self, seq: int) -> BatchRow | None:
        """See ports.Reader."""
        with self._database.readers() as conn:
            row = conn.execute(rows.BATCH_SQL + "WHERE end_seq > ? ORDER BY end_seq LIMIT 1", (seq,)).fetchone()
        found = None if row is None else rows.batch_row(row)
        return found if found is not None and found.first <= seq else None

    def batches(self, after: int, limit: int) -> list[BatchRow]:
        """See ports.Reader."""
        with self._database.readers() as conn:
            found = conn.execute(
                rows.BATCH_SQL + "WHERE b.n > ? ORDER BY b.n LIMIT ?", (after, _clamp(limit))
            ).fetchall()
        return [rows.batch_row(row) for row in found]

    def leaves(self, first: int, end: int) -> Iterator[bytes]:
        """See ports.Reader. Raises KeyError for records that have expired, IntegrityError at a hole."""
        return rows.iter_leaves_apart(self._database.readers, first, end)

    def leaf(self, seq: int) -> bytes | None:
        """See ports.Reader."""
        with self._database.readers() as conn:
            leaf: bytes | None = one(conn, "SELECT leaf FROM record WHERE seq = ?", (seq,))
        return leaf

    def artifacts_of(self, first: int, end: int) -> list[ArtifactRow]:
        """See ports.Reader."""
        with self._database.readers() as conn:
            return rows.artifacts_of(conn, first, end)

    def artifact(self, sha256: str) -> ArtifactRow | None:
        """See ports.Reader."""
        with self._database.readers() as conn:
            row = conn.execute(
                "SELECT sha256, size_bytes, media_type, state FROM artifact WHERE sha256 = ?", (sha256,)
            ).fetchone()
        return None if row is None else ArtifactRow(*row)

    def records(
        self,
        *,
        kind: str | None = None,
        device: str | None = None,
        from_utc_ns: int | None = None,
        to_utc_ns: int | None = None,
        after: int = -1,
        limit: int = 100,
    ) -> list[tuple[int, bytes]]:
        """See ports.Reader: from_utc_ns inclusive, to_utc_ns exclusive. Fewer than `limit` means that there are no
        more. Scans only blocks of the index that can hold an answer, at most about one per record returned."""
        with self._database.readers() as conn:
            kind_id = None if kind is None else _name_id(conn, kind)
            device_id = None if device is None else _name_id(conn, device)
            if (kind is not None and kind_id is None) or (device is not None and device_id is None):
                return []
            first = max(after + 1, rows.expired_below(conn))
            spans = blocks.ranges_holding(
                conn,
                kind=kind_id,
                device=device_id,
                from_utc_ns=from_utc_ns,
                to_utc_ns=to_utc_ns,
                first=first,
                end=rows.next_seq(conn),
            )
            conditions = {
                "kind = ?": kind_id,
                "device = ?": device_id,
                "utc_ns >= ?": from_utc_ns,
                "utc_ns < ?": to_utc_ns,
            }
            asked = {text: value for text, value in conditions.items() if value is not None}
            where = " AND ".join(("seq >= ?", "seq < ?", *asked))
            found: list[tuple[int, bytes]] = []
            for start, end in spans:
                found += conn.execute(
                    f"SELECT seq, leaf FROM record WHERE {where} ORDER BY seq LIMIT ?",  # noqa: S608  constants
                    (start, end, *asked.values(), _clamp(limit) - len(found)),
                ).fetchall()
                if len(found) >= _clamp(limit):
                    break
        return found

    def node(self, level: int, index: int) -> bytes:
        """See ports.Reader. Raises KeyError where the subtree is not sealed, not perfect, or has expired below."""
        with self._database.readers() as conn:
            if level < 0 or index < 0 or (index + 1) << level > rows.read_tail(conn).size:
                raise KeyError(f"no sealed subtree {index} at level {level}")
            return _node(conn, level, index)

    def bundle_signature(self, tagmanifest_sha256: str) -> bytes | None:
        """See ports.Reader."""
        with self._database.readers() as conn:
            p7s: bytes | None = one(
                conn, "SELECT p7s FROM bundle_signature WHERE tagmanifest_sha256 = ?", (tagmanifest_sha256,)
            )
        return p7s


def _clamp(limit: int) -> int:
    return max(0, min(limit, LIMIT_MAX))


def _name_id(conn: Connection, text: str) -> int | None:
    found: int | None = one(conn, "SELECT id FROM name WHERE text = ?", (text,))
    return found


def _node(conn: Connection, level: int, index: int) -> bytes:
    """Fold the nearest stored level below, or the leaves themselves."""
    base = level - level % STORED_LEVELS
    first, end = index << (level - base), (index + 1) << (level - base)
    if base:
        hashes = [
            row[0]
            for row in conn.execute(
                "SELECT hash FROM subtree WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx",
                (base, first, end),
            )
        ]
        if len(hashes) != end - first:
            raise IntegrityError(f"store.db: subtree hashes {first} to {end - 1} of level {base} are missing")
    else:
        hashes = [leaf_hash(leaf) for leaf in rows.read_leaves(conn, first, end)]
    while len(hashes) > 1:
        pairs = iter(hashes)
        hashes = [node_hash(left, right) for left, right in zip(pairs, pairs, strict=True)]
    return bytes(hashes[0])
