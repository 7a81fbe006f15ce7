"""The append-only log of leaves, and what the drivers remember beside it.

One append is one job of the writer: it takes the next seq, draws the salts, encodes the leaves, inserts them with
their artifacts, outbox items and state changes. All of it is durable, or none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

from buffers.blocks import index_full_blocks
from buffers.connection import Connection, Value, one
from buffers.db import Database
from buffers.rows import next_seq
from gateway.core import kinds
from gateway.core.errors import ProtocolMisuse
from gateway.core.instant import Instant
from gateway.core.record import LEAF_SIZE_MAX_BYTES, Artifact, Draft, StateChange, encode_leaf

SALT_SIZE_BYTES: Final = 16
NAMES_CACHED_MAX: Final = 65_536

Row = tuple[Draft, Instant]


class Names:
    """Ids of interned texts. Forgets everything when something is rolled back: an id may not exist then."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def id_of(self, conn: Connection, text: str) -> int:
        """The id of a text, new where there is none."""
        found = self._ids.get(text)
        if found is not None:
            return found
        conn.execute("INSERT OR IGNORE INTO name (text) VALUES (?)", (text,))
        made = int(one(conn, "SELECT id FROM name WHERE text = ?", (text,)))
        if len(self._ids) >= NAMES_CACHED_MAX:
            self._ids.clear()
        self._ids[text] = made
        return made

    def forget(self) -> None:
        """After a rollback."""
        self._ids.clear()


class Journal:
    """Port `Journal` over the store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names = Names()
        database.on_rollback.append(self._names.forget)

    async def append(self, rows: Sequence[Row], state: Sequence[StateChange] = (), *, essential: bool = False) -> int:
        """See ports.Journal. Drafts have been through `check_draft` (gateway.ingest does it)."""
        return await self._database.submit(
            lambda conn: append_rows(conn, self._names, rows, state), ordinary=not essential
        )

    def append_blocking(
        self, rows: Sequence[Row], state: Sequence[StateChange] = (), *, essential: bool = False
    ) -> int:
        """The same for a thread without an event loop."""
        return self._database.call(lambda conn: append_rows(conn, self._names, rows, state), ordinary=not essential)


class Memory:
    """Port `SourceMemory` over the store: what was last committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, source: str, key: bytes) -> bytes | None:
        """See ports.SourceMemory."""
        with self._database.readers() as conn:
            value: bytes | None = one(conn, "SELECT value FROM state WHERE source = ? AND key = ?", (source, key))
        return value

    def items(self, source: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See ports.SourceMemory."""
        end = _after(prefix)
        sql = "SELECT key, value FROM state WHERE source = ? AND key >= ?"
        parameters: list[Value] = [source, prefix]
        if end is not None:
            sql += " AND key < ?"
            parameters.append(end)
        with self._database.readers() as conn:
            rows = conn.execute(sql + " ORDER BY key", parameters).fetchall()
        yield from rows


def append_rows(conn: Connection, names: Names, rows: Sequence[Row], state: Sequence[StateChange]) -> int:
    """Insert rows and state inside the caller's transaction; return the first seq."""
    first = next_seq(conn)
    if rows:
        _insert(conn, names, rows, first)
        end = first + len(rows)
        index_full_blocks(conn, first, end)
    for change in state:
        if change.value is None:
            conn.execute("DELETE FROM state WHERE source = ? AND key = ?", (change.source, change.key))
        else:
            conn.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (change.source, change.key, change.value))
    return first


def _insert(conn: Connection, names: Names, rows: Sequence[Row], first: int) -> None:
    salts = os.urandom(SALT_SIZE_BYTES * len(rows))
    leaves: list[tuple[int, int, int, int, bytes]] = []
    bearing: list[int] = []
    at = 0
    for seq, (draft, instant) in enumerate(rows, first):
        leaf = encode_leaf(draft, instant, seq, salts[at : at + SALT_SIZE_BYTES])
        at += SALT_SIZE_BYTES
        if len(leaf) > LEAF_SIZE_MAX_BYTES:
            raise ProtocolMisuse(f"a leaf of {len(leaf)} bytes reached the journal; ingest refuses above 256 KiB")
        kind, device = names.id_of(conn, draft.kind), names.id_of(conn, draft.device)
        leaves.append((seq, kind, device, instant.utc_ns, leaf))
        if draft.artifacts or draft.kind == kinds.ALARM:
            bearing.append(seq - first)
    conn.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?)", leaves)
    for index in bearing:
        seq, _, _, utc_ns, leaf = leaves[index]
        draft = rows[index][0]
        for artifact in draft.artifacts:
            _name_artifact(conn, seq, artifact, utc_ns)
        if draft.kind == kinds.ALARM:
            queue(conn, "alarm", seq, str(seq), len(leaf), utc_ns)


def _name_artifact(conn: Connection, seq: int, artifact: Artifact, utc_ns: int) -> None:
    """A record names an artifact: make or revive its row, refer to it, queue it unless the platform holds it."""
    row = conn.execute(
        "SELECT id, size_bytes, state, held_n FROM artifact WHERE sha256 = ?", (artifact.sha256,)
    ).fetchone()
    if row is None:
        conn.execute(
            "INSERT INTO artifact (sha256, size_bytes, media_type, state, utc_ns) VALUES (?, ?, ?, 'present', ?)",
            (artifact.sha256, artifact.size_bytes, artifact.media_type, utc_ns),
        )
        number = int(one(conn, "SELECT id FROM artifact WHERE sha256 = ?", (artifact.sha256,)))
        queue(conn, "artifact", number, artifact.sha256, artifact.size_bytes, utc_ns)
    else:
        number, size_bytes, state, held_n = row
        if size_bytes != artifact.size_bytes:
            raise ProtocolMisuse(
                f"artifact {artifact.sha256} has {size_bytes} bytes, a record says {artifact.size_bytes}"
            )
        if state != "present":
            # the spool has taken a sound copy again: a record never names content that is not there
            conn.execute("UPDATE artifact SET state = 'present', utc_ns = ? WHERE id = ?", (utc_ns, number))
            if held_n is None:
                conn.execute("DELETE FROM quarantine WHERE kind = 'artifact' AND rank = ?", (number,))
                queue(conn, "artifact", number, artifact.sha256, size_bytes, utc_ns)
    conn.execute("INSERT OR IGNORE INTO artifact_ref VALUES (?, ?)", (seq, number))


def queue(conn: Connection, kind: str, rank: int, ref: str, size_bytes: int, utc_ns: int) -> None:
    """Queue an item for the platform; nothing where it is queued already."""
    conn.execute(
        "INSERT OR IGNORE INTO outbox (kind, rank, ref, size_bytes, utc_ns) VALUES (?, ?, ?, ?, ?)",
        (kind, rank, ref, size_bytes, utc_ns),
    )


def _after(prefix: bytes) -> bytes | None:
    """The smallest key behind all keys with this prefix; None where there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
