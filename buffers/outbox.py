"""The delivery queue on disk: what the platform does not have yet, and what came back for it.

Order: alarms, then batches by n, then late stamps, then artifacts. While a batch is in quarantine the batches
behind it wait: their `prev` would not match what the platform holds. Alarms, stamps and artifacts go on. An artifact is
due only when a batch that names it was delivered: a platform refuses content that no batch names.
"""

from __future__ import annotations

from typing import Final, Literal

from buffers import rows
from buffers.connection import Connection, Value, one
from buffers.db import Database
from buffers.journal import queue
from gateway.core.errors import IntegrityError, ProtocolMisuse
from gateway.core.ports import Backlog, BatchRow, OutboxItem
from gateway.ledger.grammar import FormatError
from gateway.ledger.receipt import parse_artifacts

Kind = Literal["alarm", "batch", "stamp", "artifact"]
KINDS: Final[tuple[Kind, ...]] = ("alarm", "batch", "stamp", "artifact")
PRIORITY: Final = {"alarm": 0, "batch": 1, "stamp": 1, "artifact": 2}
ERROR_TEXT_MAX: Final = 255

_ITEM_SQL: Final = "SELECT id, kind, ref, size_bytes, attempts, upload_url FROM outbox "
_HELD_SQL: Final[dict[Kind, str]] = {
    "alarm": "SELECT r.seq, length(r.leaf), r.utc_ns FROM record r JOIN name k ON k.id = r.kind "
    "WHERE r.seq = ? AND k.text = 'alarm'",
    "batch": "SELECT n, records_bytes, sealed_utc_ns FROM batch WHERE n = ?",
    "stamp": "SELECT n, length(tsr), sealed_utc_ns FROM batch WHERE n = ? AND tsr IS NOT NULL",
    "artifact": "SELECT id, size_bytes, utc_ns FROM artifact WHERE sha256 = ? AND state = 'present'",
}
"""By kind: (rank, size_bytes, utc_ns) of what a ref names, where this gateway holds it."""
_NAMED_SQL: Final = (
    "SELECT EXISTS (SELECT 1 FROM artifact_ref r JOIN artifact a ON a.id = r.artifact WHERE a.sha256 = ? AND r.seq < ?)"
)


class Outbox:
    """Port `Outbox` over the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, limit: int, kind: Kind | None = None) -> list[OutboxItem]:
        """See ports.Outbox."""
        with self._database.readers() as conn:
            return read_due(conn, limit, kind)

    async def set_upload(self, item_id: int, url: str | None) -> None:
        """Remember where the upload of an item goes on; None forgets it."""
        await self._run("UPDATE outbox SET upload_url = ? WHERE id = ?", (url, item_id))

    async def count_attempt(self, item_id: int, error: str) -> None:
        """An attempt failed for now."""
        await self._run(
            "UPDATE outbox SET attempts = attempts + 1, error = ? WHERE id = ?",
            (error[:ERROR_TEXT_MAX], item_id),
        )

    async def done(self, item_id: int) -> None:
        """The platform has it. Harmless for an item that is gone."""
        await self._database.submit(lambda conn: finish_item(conn, item_id))

    async def quarantine(self, item_id: int, reason: str) -> None:
        """The platform refuses it for good: out of the queue, kept with the reason."""
        await self._database.submit(lambda conn: put_aside(conn, item_id, reason))

    async def requeue(self, kind: Kind, ref: str) -> OutboxItem | None:
        """See ports.Outbox. A damaged or expired artifact is not held any more."""
        return await self._database.submit(lambda conn: put_back(conn, kind, ref))

    async def release_quarantined(self) -> int:
        """See ports.Outbox. Damaged artifacts stay: what is on the disk is not what was promised."""
        return await self._database.submit(release_all)

    async def store_receipt(self, n: int, text: bytes, p7s: bytes, artifacts: bytes, complete: bool) -> None:
        """See ports.Outbox. Also takes the batch and the artifacts that it names out of the queue: the platform has
        them, whichever way they went."""
        await self._database.submit(lambda conn: keep_receipt(conn, n, (text, p7s, artifacts), complete=complete))

    def unstamped(self, limit: int) -> list[BatchRow]:
        """See ports.Outbox."""
        with self._database.readers() as conn:
            found = conn.execute(rows.BATCH_SQL + "WHERE tsr IS NULL ORDER BY b.n LIMIT ?", (limit,)).fetchall()
        return [rows.batch_row(row) for row in found]

    async def store_stamp(self, n: int, tsr: bytes) -> None:
        """See ports.Outbox. A batch whose upload has begun counts as delivered: it may have gone without the token."""
        await self._database.submit(lambda conn: keep_stamp(conn, n, tsr))

    def backlog(self) -> Backlog:
        """See ports.Outbox."""
        with self._database.readers() as conn:
            items, size_bytes = conn.execute("SELECT count(*), coalesce(sum(size_bytes), 0) FROM outbox").fetchone()
            return Backlog(
                items,
                size_bytes,
                one(conn, "SELECT utc_ns FROM outbox ORDER BY id LIMIT 1"),
                one(conn, "SELECT count(*) FROM quarantine"),
                one(conn, "SELECT count(*) FROM batch WHERE tsr IS NULL"),
            )

    async def _run(self, sql: str, parameters: tuple[Value, ...]) -> None:
        def run(conn: Connection) -> None:
            conn.execute(sql, parameters)

        await self._database.submit(run)


def read_due(conn: Connection, limit: int, only: Kind | None = None) -> list[OutboxItem]:
    """The next items: one index range per kind, at most `limit` rows each."""
    blocked = one(conn, "SELECT min(rank) FROM quarantine WHERE kind = 'batch'")
    items: list[OutboxItem] = []
    for kind in KINDS if only is None else (only,):
        bound = blocked if kind == "batch" and blocked is not None else 1 << 62
        found = conn.execute(
            _ITEM_SQL + "WHERE kind = ? AND rank < ? ORDER BY rank LIMIT ?", (kind, bound, max(0, limit - len(items)))
        ).fetchall()
        if kind == "artifact":
            size = delivered_size(conn)
            # ids of artifacts grow with the records that first name them: behind one that is not due none is
            found = [row for row in found if one(conn, _NAMED_SQL, (row[2], size))]
        items += [_item(row) for row in found]
    return items


def delivered_size(conn: Connection) -> int:
    """Tree size that the platform holds as far as we know: where the first batch that it lacks begins."""
    lacking = one(
        conn,
        "SELECT min(first_seq) FROM batch WHERE n IN ((SELECT min(rank) FROM outbox WHERE kind = 'batch'), "
        "(SELECT min(rank) FROM quarantine WHERE kind = 'batch'))",
    )
    size: int = one(conn, "SELECT size FROM checkpoint") if lacking is None else lacking
    return size


def _item(row: tuple[int, Kind, str, int, int, str | None]) -> OutboxItem:
    number, kind, ref, size_bytes, attempts, url = row
    return OutboxItem(number, kind, ref, PRIORITY[kind], size_bytes, attempts, url)


def finish_item(conn: Connection, item_id: int) -> None:
    """Take an item out of the queue; a batch is delivered then."""
    row = conn.execute("SELECT kind, rank FROM outbox WHERE id = ?", (item_id,)).fetchone()
    if row is None:
        return
    conn.execute("DELETE FROM outbox WHERE id = ?", (item_id,))
    if row[0] == "batch":
        conn.execute("UPDATE batch SET delivered = 1 WHERE n = ?", (row[1],))


def put_aside(conn: Connection, item_id: int, reason: str) -> None:
    """Move an item to quarantine."""
    conn.execute(
        "INSERT OR REPLACE INTO quarantine (kind, rank, ref, size_bytes, utc_ns, attempts, reason) "
        "SELECT kind, rank, ref, size_bytes, utc_ns, attempts, ? FROM outbox WHERE id = ?",
        (reason[:ERROR_TEXT_MAX], item_id),
    )
    conn.execute("DELETE FROM outbox WHERE id = ?", (item_id,))


def put_back(conn: Connection, kind: Kind, ref: str) -> OutboxItem | None:
    """Queue what this gateway holds, whatever became of it; None for what it does not hold."""
    row = conn.execute(_HELD_SQL[kind], (ref if kind == "artifact" else int(ref),)).fetchone()
    if row is None:
        return None
    rank, size_bytes, utc_ns = row
    conn.execute("DELETE FROM quarantine WHERE kind = ? AND rank = ?", (kind, rank))
    if kind == "batch":
        conn.execute("UPDATE batch SET delivered = 0 WHERE n = ?", (rank,))
    queue(conn, kind, rank, ref, size_bytes, utc_ns)
    found = conn.execute(_ITEM_SQL + "WHERE kind = ? AND rank = ?", (kind, rank)).fetchone()
    return _item(found)


def release_all(conn: Connection) -> int:
    """Every quarantined item that this gateway still holds goes back into the queue."""
    waiting = conn.execute("SELECT kind, ref FROM quarantine ORDER BY kind, rank").fetchall()
    return sum(put_back(conn, kind, ref) is not None for kind, ref in waiting)


def keep_receipt(conn: Connection, n: int, receipt: tuple[bytes, bytes, bytes], *, complete: bool) -> None:
    """Store a verified receipt unless the stored one names something that it does not name."""
    row = conn.execute("SELECT first_seq, end_seq, receipt_artifacts FROM batch WHERE n = ?", (n,)).fetchone()
    if row is None:
        raise IntegrityError(f"a receipt for batch {n}, which this store never sealed; the platform holds another log")
    first, end, stored = row
    try:
        named = parse_artifacts(receipt[2])
    except FormatError as error:
        raise ProtocolMisuse(f"receipt of batch {n}: {error}; only verified receipts may be stored") from error
    if stored is not None and not parse_artifacts(stored).items() <= named.items():
        return
    conn.execute(
        "UPDATE batch SET receipt_txt = ?, receipt_p7s = ?, receipt_artifacts = ?, complete = ?, delivered = 1 "
        "WHERE n = ?",
        (*receipt, int(complete), n),
    )
    conn.execute("DELETE FROM outbox WHERE kind = 'batch' AND rank = ?", (n,))
    conn.execute("DELETE FROM quarantine WHERE kind = 'batch' AND rank = ?", (n,))
    ours = conn.execute(
        "SELECT DISTINCT a.id, a.sha256, a.size_bytes FROM artifact_ref r JOIN artifact a ON a.id = r.artifact "
        "WHERE r.seq >= ? AND r.seq < ?",
        (first, end),
    ).fetchall()
    for number, sha256, size_bytes in ours:
        if named.get(sha256) == size_bytes:
            conn.execute("UPDATE artifact SET held_n = ? WHERE id = ? AND held_n IS NULL", (n, number))
            conn.execute("DELETE FROM outbox WHERE kind = 'artifact' AND rank = ?", (number,))
            conn.execute("DELETE FROM quarantine WHERE kind = 'artifact' AND rank = ?", (number,))


def keep_stamp(conn: Connection, n: int, tsr: bytes) -> None:
    """Store a token; queue it where the batch may have gone without."""
    row = conn.execute("SELECT delivered, sealed_utc_ns FROM batch WHERE n = ? AND tsr IS NULL", (n,)).fetchone()
    if row is None:
        return
    conn.execute("UPDATE batch SET tsr = ? WHERE n = ?", (tsr, n))
    begun = one(conn, "SELECT 1 FROM outbox WHERE kind = 'batch' AND rank = ? AND upload_url IS NOT NULL", (n,))
    if row[0] or begun:
        queue(conn, "stamp", n, str(n), len(tsr), row[1])
