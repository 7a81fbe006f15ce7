"""The daily scrub: re-hash every file of the spool at a capped rate, and say what is no longer what it was.

Damage is recorded, never repaired and never hashed over. A damaged artifact without a receipt is a loss and raises an
alarm; its upload goes to quarantine. When the source delivers the content again, the spool takes the fresh copy.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from buffers.connection import Connection, one
from buffers.db import Database
from buffers.outbox import put_aside
from buffers.spool import CHUNK_SIZE_BYTES, Spool
from gateway.core import kinds
from gateway.core.ports import Sink
from gateway.core.record import Draft

ARTIFACTS_PER_READ: Final = 256
ORPHANS_LISTED_MAX: Final = 1000


@dataclass(slots=True)
class Scrubbed:
    """What one scrub found."""

    artifacts: int = 0
    size_bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    """Finished files that no record names: a crash came between rename and commit. Kept; the source delivers the
    content again and the record then finds the file."""


class Scrub:
    """One pass at a time; `sleep` is the caller's, so that the pace is its affair and tests need no clock."""

    def __init__(self, database: Database, spool: Spool, sink: Sink, *, bytes_per_s: int) -> None:
        self._database = database
        self._spool = spool
        self._sink = sink
        self._bytes_per_s = max(1, bytes_per_s)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Scrubbed:
        """Check every artifact that is here, in order of sha256. Raises StoreFull, DiskError."""
        result = Scrubbed()
        after = ""
        while rows := self._next(after):
            for sha256, size_bytes in rows:
                found = await self._hash(sha256, sleep)
                result.artifacts += 1
                result.size_bytes += size_bytes
                if found != sha256 and await self._record_damage(sha256, found):
                    result.damaged.append(sha256)
            after = rows[-1][0]
        result.orphans = await asyncio.to_thread(self._orphans)
        return result

    def _next(self, after: str) -> list[tuple[str, int]]:
        with self._database.readers() as conn:
            found: list[tuple[str, int]] = conn.execute(
                "SELECT sha256, size_bytes FROM artifact WHERE sha256 > ? AND state = 'present' "
                "ORDER BY sha256 LIMIT ?",
                (after, ARTIFACTS_PER_READ),
            ).fetchall()
        return found

    async def _hash(self, sha256: str, sleep: Callable[[float], Awaitable[None]]) -> str:
        """The digest of what the disk gives now, or the error that it gives instead."""
        digest = hashlib.sha256()
        try:
            with await asyncio.to_thread(self._spool.path(sha256).open, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_SIZE_BYTES):
                    digest.update(chunk)
                    await sleep(len(chunk) / self._bytes_per_s)
        except OSError as error:
            return f"error: {error.strerror}"
        return digest.hexdigest()

    async def _record_damage(self, sha256: str, found: str) -> bool:
        """First the records, then the state: a crash between finds the damage again. False where it expired
        meanwhile."""
        with self._database.readers() as conn:
            row = conn.execute("SELECT size_bytes, held_n, state FROM artifact WHERE sha256 = ?", (sha256,)).fetchone()
        size_bytes, held_n, state = row
        if state != "present":
            return False
        data: dict[str, Any] = {"sha256": sha256, "size_bytes": size_bytes, "receipted": held_n is not None}
        key = "error" if found.startswith("error: ") else "found_sha256"
        data[key] = found.removeprefix("error: ")
        drafts = [Draft(kinds.SCRUB_DAMAGE, "gateway", "", data)]
        if held_n is None:
            text = f"artifact {sha256} is damaged on disk and the platform does not hold it: dock its recorder again"
            alarm = {"code": "artifact-damaged", "state": "raised", "text": text}
            drafts.append(Draft(kinds.ALARM, "gateway", sha256, alarm))
        await self._sink.append(drafts)
        await self._database.submit(lambda conn: mark_damaged(conn, sha256))
        return True

    def _orphans(self) -> list[str]:
        orphans = []
        for name, _ in self._spool.files():
            with self._database.readers() as conn:
                known = one(conn, "SELECT 1 FROM artifact WHERE sha256 = ?", (name,))
            if known is None:
                orphans.append(name)
                if len(orphans) == ORPHANS_LISTED_MAX:
                    break
        return orphans


def mark_damaged(conn: Connection, sha256: str) -> None:
    """The artifact stays as it is; what cannot be delivered any more goes to quarantine."""
    conn.execute("UPDATE artifact SET state = 'damaged' WHERE sha256 = ? AND state = 'present'", (sha256,))
    item = one(conn, "SELECT id FROM outbox WHERE kind = 'artifact' AND ref = ?", (sha256,))
    if item is not None:
        put_aside(conn, item, "damaged on the disk of the gateway")
