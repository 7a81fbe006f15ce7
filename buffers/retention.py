"""Expiry: what may go, when, and in which order. Nothing without a stored receipt that names it is ever deleted.

Order for artifacts: (1) commit the `retention.expire` record together with the memory of what is to be unlinked,
(2) unlink, (3) commit state = expired and forget the memory. Records go the same way, oldest first, whole batches whose
receipts are complete and whose artifacts have expired, up to a multiple of 256 leaves, so that the stored subtree
hashes still prove every record that is left. `finish` completes what a crash left between the steps; run it at start,
before any source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from buffers.blocks import BLOCK_BITS
from buffers.connection import Connection, one
from buffers.db import Database
from buffers.journal import Memory
from buffers.rows import expired_below
from buffers.spool import Spool
from gateway.core import kinds
from gateway.core.errors import IntegrityError
from gateway.core.ports import Sink
from gateway.core.record import Draft, StateChange
from gateway.ledger.grammar import FormatError
from gateway.ledger.receipt import Receipt, parse_artifacts

SOURCE: Final = "retention"
RECORDS_KEY: Final = b"records"
ARTIFACT_PREFIX: Final = b"artifact:"
ARTIFACTS_PER_RECORD: Final = 500
RECORDS_PER_COMMIT: Final = 5000
SUBTREE_LEAVES: Final = 256
DAY_NS: Final = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep let go."""

    artifacts: int = 0
    artifact_bytes: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class _Artifact:
    sha256: str
    size_bytes: int
    nonce: str


class Retention:
    """Applies RetentionConfig. One sweep at a time."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        sink: Sink,
        *,
        artifact_days: int = 30,
        artifact_days_when_full: int = 1,
        record_days: int = 365,
    ) -> None:
        self._database = database
        self._spool = spool
        self._sink = sink
        self._memory = Memory(database)
        self._artifact_ns = artifact_days * DAY_NS
        self._artifact_full_ns = artifact_days_when_full * DAY_NS
        self._record_ns = record_days * DAY_NS

    async def finish(self) -> Swept:
        """Complete what an earlier run had committed to and did not finish."""
        begun = [
            (key[len(ARTIFACT_PREFIX) :].decode("ascii"), int(value))
            for key, value in self._memory.items(SOURCE, ARTIFACT_PREFIX)
        ]
        await self._unlink(begun)
        bound = self._memory.get(SOURCE, RECORDS_KEY)
        records = 0 if bound is None else await self._delete_records(int(bound))
        return Swept(len(begun), sum(size for _, size in begun), records)

    async def sweep(self, now_utc_ns: int) -> Swept:
        """Let go what is old enough: first artifacts, then records. Raises StoreFull, DiskError."""
        await self.finish()
        swept = Swept()
        while portion := self._due_artifacts(now_utc_ns):
            await self._expire_artifacts(portion)
            swept = Swept(
                swept.artifacts + len(portion),
                swept.artifact_bytes + sum(item.size_bytes for item in portion),
            )
        return Swept(swept.artifacts, swept.artifact_bytes, await self._expire_records(now_utc_ns))

    # ------------------------------------------------------------------------------ artifacts

    def _due_artifacts(self, now_utc_ns: int) -> list[_Artifact]:
        """Receipted artifacts past their age; under pressure the younger age, and no more than the pressure asks."""
        with self._database.readers() as conn:
            old = freeable(conn, now_utc_ns - self._artifact_ns, ARTIFACTS_PER_RECORD)
            surplus = self._spool.surplus_bytes()
            if old or surplus <= 0:
                return old
            found: list[_Artifact] = []
            for item in freeable(conn, now_utc_ns - self._artifact_full_ns, ARTIFACTS_PER_RECORD):
                found.append(item)
                surplus -= item.size_bytes
                if surplus <= 0:
                    break
        return found

    async def _expire_artifacts(self, items: list[_Artifact]) -> None:
        draft = Draft(
            kinds.RETENTION_EXPIRE,
            "gateway",
            "",
            {"artifacts": [item.sha256 for item in items], "nonces": sorted({item.nonce for item in items})},
        )
        memory = [
            StateChange(SOURCE, ARTIFACT_PREFIX + item.sha256.encode(), str(item.size_bytes).encode()) for item in items
        ]
        await self._sink.append([draft], memory)
        await self._unlink([(item.sha256, item.size_bytes) for item in items])

    async def _unlink(self, items: list[tuple[str, int]]) -> None:
        """Steps 2 and 3 for artifacts whose record is committed."""
        if not items:
            return
        for sha256, size_bytes in items:
            await asyncio.to_thread(self._spool.remove, sha256, size_bytes)

        def mark(conn: Connection) -> None:
            conn.executemany("UPDATE artifact SET state = 'expired' WHERE sha256 = ?", ((sha,) for sha, _ in items))
            conn.executemany(
                "DELETE FROM state WHERE source = ? AND key = ?",
                ((SOURCE, ARTIFACT_PREFIX + sha.encode()) for sha, _ in items),
            )
            conn.executemany("DELETE FROM outbox WHERE kind = 'artifact' AND ref = ?", ((sha,) for sha, _ in items))

        await self._database.submit(mark)

    # ------------------------------------------------------------------------------ records

    async def _expire_records(self, now_utc_ns: int) -> int:
        with self._database.readers() as conn:
            first = expired_below(conn)
            bound, nonce = records_bound(conn, now_utc_ns - self._record_ns)
        if bound <= first:
            return 0
        draft = Draft(kinds.RETENTION_EXPIRE, "gateway", "", {"first": first, "end": bound, "nonce": nonce})
        await self._sink.append([draft], [StateChange(SOURCE, RECORDS_KEY, str(bound).encode())])
        return await self._delete_records(bound)

    async def _delete_records(self, bound: int) -> int:
        """Delete the records below `bound` in portions; the first portion makes the bound known to readers."""
        deleted = 0
        while True:
            count = await self._database.submit(_portion(bound))
            deleted += count
            if count == 0:
                return deleted


def freeable(conn: Connection, before_utc_ns: int, limit: int) -> list[_Artifact]:
    """Artifacts older than `before_utc_ns` that a stored receipt names, oldest first; the receipt is read again."""
    rows = conn.execute(
        "SELECT a.sha256, a.size_bytes, b.n, b.receipt_txt, b.receipt_artifacts FROM artifact a "
        "JOIN batch b ON b.n = a.held_n WHERE a.held_n IS NOT NULL AND a.state <> 'expired' AND a.utc_ns < ? "
        "ORDER BY a.utc_ns LIMIT ?",
        (before_utc_ns, limit),
    ).fetchall()
    receipts: dict[int, tuple[dict[str, int], str]] = {}
    found = []
    for sha256, size_bytes, n, text, artifacts in rows:
        if n not in receipts:
            receipts[n] = _read_receipt(n, text, artifacts)
        named, nonce = receipts[n]
        if named.get(sha256) != size_bytes:
            raise IntegrityError(f"artifact {sha256} counts as receipted, the receipt of batch {n} does not name it")
        found.append(_Artifact(sha256, size_bytes, nonce))
    return found


def records_bound(conn: Connection, before_utc_ns: int) -> tuple[int, str]:
    """Up to where records may go, a multiple of 256, and the nonce of the last receipt that allows it.

    Batches from the oldest on, while each is sealed before `before_utc_ns`, has a complete receipt and no artifact
    left here, and is not the newest: every start checks that one.
    """
    bound, nonce = 0, ""
    rows = conn.execute(
        "SELECT b.n, b.first_seq, b.end_seq, b.receipt_txt, b.receipt_artifacts, b.artifact_count FROM batch b "
        "WHERE b.end_seq > ? AND b.n < (SELECT max(n) FROM batch) AND b.complete = 1 AND b.sealed_utc_ns < ? "
        "AND b.receipt_txt IS NOT NULL ORDER BY b.n",
        (expired_below(conn), before_utc_ns),
    )
    due: int | None = None
    for n, first, end, text, artifacts, artifact_count in rows:
        if due is not None and n != due:
            break
        if due is None and first > expired_below(conn):
            break
        here = one(
            conn,
            "SELECT 1 FROM artifact_ref r JOIN artifact a ON a.id = r.artifact "
            "WHERE r.seq >= ? AND r.seq < ? AND a.state <> 'expired' LIMIT 1",
            (first, end),
        )
        named, this_nonce = _read_receipt(n, text, artifacts)
        if here is not None or len(named) != artifact_count:
            break
        bound, nonce, due = end // SUBTREE_LEAVES * SUBTREE_LEAVES, this_nonce, n + 1
    return bound, nonce


def _read_receipt(n: int, text: bytes | None, artifacts: bytes | None) -> tuple[dict[str, int], str]:
    if text is None or artifacts is None:
        raise IntegrityError(f"batch {n} counts as receipted, there is no receipt; restore the state folder")
    try:
        return parse_artifacts(artifacts), Receipt.parse(text).nonce
    except FormatError as error:
        raise IntegrityError(f"stored receipt of batch {n}: {error}; restore the state folder") from error


def _portion(bound: int) -> Callable[[Connection], int]:
    def delete(conn: Connection) -> int:
        conn.execute(
            "INSERT OR REPLACE INTO meta VALUES ('records_expired_below', ?)",
            (str(max(bound, expired_below(conn))),),
        )
        oldest = one(conn, "SELECT min(seq) FROM record")
        if oldest is None or oldest >= bound:
            conn.execute("DELETE FROM artifact_ref WHERE seq < ?", (bound,))
            conn.execute("DELETE FROM state WHERE source = ? AND key = ?", (SOURCE, RECORDS_KEY))
            return 0
        end = min(bound, oldest + RECORDS_PER_COMMIT)
        conn.execute("DELETE FROM record WHERE seq < ?", (end,))
        conn.execute("DELETE FROM block WHERE n < ? AND n < (SELECT max(n) FROM block)", (end >> BLOCK_BITS,))
        return int(end - oldest)

    return delete
