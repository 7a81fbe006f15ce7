"""The SQLite index over the evidence folders: what is held, found fast. It can be deleted: it is made again at start.

One connection, used under one lock from any thread. Alarm notices live only here: they are advisory copies.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.core.errors import IntegrityError
from gateway.ledger import merkle

ALARMS_MAX: Final = 1000
"""Alarm notices kept per gateway."""
SCHEMA_VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE batches (
    gateway TEXT NOT NULL, end INTEGER NOT NULL, first INTEGER NOT NULL, n INTEGER NOT NULL,
    prev_root BLOB NOT NULL, root BLOB NOT NULL, seal_sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, artifact_count INTEGER NOT NULL, artifact_bytes INTEGER NOT NULL,
    received_utc TEXT NOT NULL, stamped INTEGER NOT NULL,
    PRIMARY KEY (gateway, end)
) WITHOUT ROWID;
CREATE TABLE artifacts (
    gateway TEXT NOT NULL, sha256 TEXT NOT NULL, size_bytes INTEGER NOT NULL, extension TEXT NOT NULL,
    held INTEGER NOT NULL, requested INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (gateway, sha256)
) WITHOUT ROWID;
CREATE INDEX artifacts_requested ON artifacts (gateway, requested) WHERE requested > 0;
CREATE TABLE named (
    gateway TEXT NOT NULL, sha256 TEXT NOT NULL, end INTEGER NOT NULL,
    PRIMARY KEY (gateway, sha256, end)
) WITHOUT ROWID;
CREATE INDEX named_by_batch ON named (gateway, end);
CREATE TABLE receipts (
    gateway TEXT NOT NULL, end INTEGER NOT NULL, number INTEGER NOT NULL, sha256 TEXT NOT NULL,
    artifacts_held INTEGER NOT NULL, log_place INTEGER,
    PRIMARY KEY (gateway, end, number)
) WITHOUT ROWID;
CREATE INDEX receipts_unlogged ON receipts (gateway, end, number) WHERE log_place IS NULL;
CREATE TABLE finished (
    upload TEXT PRIMARY KEY, gateway TEXT NOT NULL, ref TEXT NOT NULL, size_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE alarms (
    gateway TEXT NOT NULL, seq INTEGER NOT NULL, leaf BLOB NOT NULL, received_utc TEXT NOT NULL,
    PRIMARY KEY (gateway, seq)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of one gateway's log."""

    size: int
    root: bytes
    batches: int


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One received batch."""

    gateway: str
    end: int
    first: int
    n: int
    """1 for the first batch of the gateway."""
    prev_root: bytes
    root: bytes
    seal_sha256: str
    size_bytes: int
    """Records and proofs, without artifacts."""
    artifact_count: int
    artifact_bytes: int
    received_utc: str
    stamped: bool


@dataclass(frozen=True, slots=True)
class ArtifactEntry:
    """One artifact that a received batch names."""

    sha256: str
    size_bytes: int
    extension: str
    held: bool
    requested: bool


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """One receipt; the highest number of a batch is the newest."""

    number: int
    sha256: str
    artifacts_held: int


@dataclass(frozen=True, slots=True)
class FinishedUpload:
    """What became of an upload."""

    ref: str
    size_bytes: int

    @property
    def end(self) -> int | None:
        """End of the batch; None for an artifact."""
        return None if len(self.ref) == 64 else int(self.ref)


class Index:
    """See the module. Raises sqlite3.OperationalError where the disk is full: the caller maps it."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                with self.transaction():
                    for statement in SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise IntegrityError(
                f"{path}: {error}; move index.sqlite3* away and start again: it is made anew from the evidence folders"
            ) from None
        if version not in {0, SCHEMA_VERSION}:
            self._db.close()
            raise IntegrityError(f"{path}: version {version} is of a newer platform; use that, or move the file away")

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _run(self, sql: str, *values: Any) -> None:
        with self._lock:
            self._db.execute(sql, values)

    # ---------------------------------------------------------------- batches

    def held(self, gateway: str) -> Held:
        """Size, root and number of batches; the empty tree where nothing is held."""
        rows = self._rows("SELECT end, root, n FROM batches WHERE gateway=? ORDER BY end DESC LIMIT 1", gateway)
        return Held(*rows[0]) if rows else Held(0, merkle.EMPTY_ROOT, 0)

    def batch(self, gateway: str, end: int) -> BatchEntry | None:
        """One batch."""
        found = self.batches(gateway, end - 1, 1)
        return found[0] if found and found[0].end == end else None

    def batches(self, gateway: str, after: int, limit: int) -> list[BatchEntry]:
        """Batches with end > after, by end."""
        rows = self._rows(
            "SELECT gateway, end, first, n, prev_root, root, seal_sha256, size_bytes, artifact_count, artifact_bytes,"
            " received_utc, stamped FROM batches WHERE gateway=? AND end>? ORDER BY end LIMIT ?",
            gateway,
            after,
            limit,
        )
        return [BatchEntry(*(*row[:11], bool(row[11]))) for row in rows]

    def newest_batches(self, gateway: str, limit: int) -> list[BatchEntry]:
        """The last batches, newest first."""
        rows = self._rows("SELECT end FROM batches WHERE gateway=? ORDER BY end DESC LIMIT ?", gateway, limit)
        return self.batches(gateway, rows[-1][0] - 1, limit)[::-1] if rows else []

    def open_ends(self, gateway: str) -> list[int]:
        """Batches whose folder may still change: unstamped, or with artifacts to come."""
        rows = self._rows(
            "SELECT b.end FROM batches b WHERE b.gateway=? AND (b.stamped=0 OR b.artifact_count >"
            " (SELECT coalesce(max(r.artifacts_held), -1) FROM receipts r WHERE r.gateway=b.gateway AND r.end=b.end))"
            " ORDER BY b.end",
            gateway,
        )
        return [end for (end,) in rows]

    def ends(self, gateway: str) -> set[int]:
        """The ends of all batches."""
        return {end for (end,) in self._rows("SELECT end FROM batches WHERE gateway=?", gateway)}

    def add_batch(self, entry: BatchEntry, artifacts: Sequence[tuple[str, int, str]]) -> None:
        """Add a batch and what it names: (sha256, size_bytes, extension). Inside a transaction of the caller."""
        self._run(
            "INSERT OR REPLACE INTO batches VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            *(getattr(entry, name) for name in BatchEntry.__dataclass_fields__),
        )
        for sha256, size_bytes, extension in artifacts:
            self._run(
                "INSERT OR IGNORE INTO artifacts (gateway, sha256, size_bytes, extension, held) VALUES (?,?,?,?,0)",
                entry.gateway,
                sha256,
                size_bytes,
                extension,
            )
            self._run("INSERT OR IGNORE INTO named VALUES (?,?,?)", entry.gateway, sha256, entry.end)

    def set_stamped(self, gateway: str, end: int) -> None:
        """A token of the batch is held."""
        self._run("UPDATE batches SET stamped=1 WHERE gateway=? AND end=?", gateway, end)

    # -------------------------------------------------------------- artifacts

    def artifact(self, gateway: str, sha256: str) -> ArtifactEntry | None:
        """An artifact that a received batch names."""
        rows = self._rows(
            "SELECT sha256, size_bytes, extension, held, requested FROM artifacts WHERE gateway=? AND sha256=?",
            gateway,
            sha256,
        )
        return ArtifactEntry(*(*rows[0][:3], bool(rows[0][3]), bool(rows[0][4]))) if rows else None

    def artifacts_of(self, gateway: str, end: int) -> list[ArtifactEntry]:
        """Artifacts that one batch names, by sha256."""
        rows = self._rows(
            "SELECT a.sha256, a.size_bytes, a.extension, a.held, a.requested FROM named n"
            " JOIN artifacts a ON a.gateway=n.gateway AND a.sha256=n.sha256"
            " WHERE n.gateway=? AND n.end=? ORDER BY a.sha256",
            gateway,
            end,
        )
        return [ArtifactEntry(*(*row[:3], bool(row[3]), bool(row[4]))) for row in rows]

    def naming(self, gateway: str, sha256: str) -> list[int]:
        """Ends of the batches that name an artifact."""
        rows = self._rows("SELECT end FROM named WHERE gateway=? AND sha256=? ORDER BY end", gateway, sha256)
        return [end for (end,) in rows]

    def set_held(self, gateway: str, sha256: str, held: bool) -> None:
        """The artifact has arrived (which answers a request for it), or was found damaged."""
        self._run("UPDATE artifacts SET held=?, requested=0 WHERE gateway=? AND sha256=?", held, gateway, sha256)

    def request(self, gateway: str, sha256: str) -> None:
        """Ask the gateway for an artifact; what is held already is not asked for."""
        self._run(
            "UPDATE artifacts SET requested=(SELECT max(requested)+1 FROM artifacts WHERE gateway=?)"
            " WHERE gateway=? AND sha256=? AND held=0 AND requested=0",
            gateway,
            gateway,
            sha256,
        )

    def requested(self, gateway: str) -> list[str]:
        """Artifacts asked for, oldest request first."""
        rows = self._rows("SELECT sha256 FROM artifacts WHERE gateway=? AND requested>0 ORDER BY requested", gateway)
        return [sha256 for (sha256,) in rows]

    # --------------------------------------------------------------- receipts

    def add_receipt(self, gateway: str, end: int, entry: ReceiptEntry) -> None:
        """A receipt is on disk."""
        self._run(
            "INSERT OR IGNORE INTO receipts VALUES (?,?,?,?,?,NULL)",
            gateway,
            end,
            entry.number,
            entry.sha256,
            entry.artifacts_held,
        )

    def newest_receipt(self, gateway: str, end: int) -> ReceiptEntry | None:
        """The newest receipt of a batch."""
        rows = self._rows(
            "SELECT number, sha256, artifacts_held FROM receipts WHERE gateway=? AND end=?"
            " ORDER BY number DESC LIMIT 1",
            gateway,
            end,
        )
        return ReceiptEntry(*rows[0]) if rows else None

    def unlogged(self) -> list[tuple[str, int, int, str]]:
        """(gateway, end, number, sha256) of receipts that are not in the platform's log yet."""
        rows = self._rows(
            "SELECT gateway, end, number, sha256 FROM receipts WHERE log_place IS NULL ORDER BY gateway, end, number"
        )
        return [(gateway, end, number, sha256) for gateway, end, number, sha256 in rows]

    def set_logged(self, gateway: str, end: int, number: int, place: int) -> None:
        """The receipt is leaf `place` of the platform's log."""
        self._run("UPDATE receipts SET log_place=? WHERE gateway=? AND end=? AND number=?", place, gateway, end, number)

    def logged(self) -> int:
        """One past the highest place in the log that a receipt here is known to have."""
        ((place,),) = self._rows("SELECT coalesce(max(log_place)+1, 0) FROM receipts")
        return int(place)

    # ---------------------------------------------------------------- uploads

    def finish(self, upload: str, gateway: str, ref: str, size_bytes: int) -> None:
        """Remember what an upload became: the end of a batch, or the sha256 of an artifact."""
        self._run("INSERT OR REPLACE INTO finished VALUES (?,?,?,?)", upload, gateway, ref, size_bytes)

    def finished(self, upload: str, gateway: str) -> FinishedUpload | None:
        """What an upload became; None also where the artifact is not held any more."""
        rows = self._rows("SELECT ref, size_bytes FROM finished WHERE upload=? AND gateway=?", upload, gateway)
        if not rows:
            return None
        found = FinishedUpload(*rows[0])
        if found.end is None:
            entry = self.artifact(gateway, found.ref)
            return found if entry is not None and entry.held else None
        return found

    # ----------------------------------------------------------------- alarms

    def add_alarm(self, gateway: str, seq: int, leaf: bytes, received_utc: str) -> None:
        """Keep a notice; the oldest above `ALARMS_MAX` go."""
        with self.transaction():
            self._run("INSERT OR IGNORE INTO alarms VALUES (?,?,?,?)", gateway, seq, leaf, received_utc)
            self._run(
                "DELETE FROM alarms WHERE gateway=? AND seq <= (SELECT seq FROM alarms WHERE gateway=?"
                " ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                gateway,
                gateway,
                ALARMS_MAX,
            )

    def alarms(self, gateway: str, limit: int) -> list[tuple[int, bytes, str]]:
        """(seq, leaf, received time) of the newest notices, newest first."""
        rows = self._rows(
            "SELECT seq, leaf, received_utc FROM alarms WHERE gateway=? ORDER BY seq DESC LIMIT ?", gateway, limit
        )
        return [(seq, leaf, received) for seq, leaf, received in rows]

    # ------------------------------------------------------------------- sums

    def totals(self, gateway: str) -> dict[str, int]:
        """Counts of one gateway: batches, records, artifacts named and held, bytes held, receipts, alarms."""
        ((batches, records, size_bytes, stamped),) = self._rows(
            "SELECT count(*), coalesce(max(end), 0), coalesce(sum(size_bytes), 0), coalesce(sum(stamped), 0)"
            " FROM batches WHERE gateway=?",
            gateway,
        )
        ((named, held, held_bytes),) = self._rows(
            "SELECT count(*), coalesce(sum(held), 0), coalesce(sum(held * size_bytes), 0)"
            " FROM artifacts WHERE gateway=?",
            gateway,
        )
        ((receipts,),) = self._rows("SELECT count(*) FROM receipts WHERE gateway=?", gateway)
        ((alarms,),) = self._rows("SELECT count(*) FROM alarms WHERE gateway=?", gateway)
        return {
            "batches": batches,
            "records": records,
            "stamped": stamped,
            "artifacts_named": named,
            "artifacts": held,
            "bytes": size_bytes + held_bytes,
            "receipts": receipts,
            "alarms": alarms,
        }
