"""Drafts, batches and receipts for the tests of the store: real hashes and texts, signatures that nobody checks."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from buffers import rows
from buffers.connection import Connection
from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.outbox import Outbox
from buffers.queries import Queries
from buffers.retention import DAY_NS
from buffers.seals import Seals, next_batch
from buffers.spool import Spool
from gateway.core.errors import FieldgateError
from gateway.core.instant import Instant
from gateway.core.ports import BatchRow, NewBatch, Tail
from gateway.core.record import Artifact, Draft, StateChange
from gateway.ledger.merkle import Frontier, leaf_hash
from gateway.ledger.receipt import Receipt, encode_artifacts
from gateway.ledger.seal import Seal

GATEWAY = "gw-1"
START_NS = 1_790_000_000 * 10**9
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nnot checked here\n-----END CERTIFICATE-----\n"


def draft(
    kind: str = "position", device: str = "013812345678", artifacts: Iterable[Artifact] = (), **data: Any
) -> Draft:
    """A record of some source."""
    return Draft(kind, "trackers", device, data, artifacts=tuple(artifacts))


def instant(utc_ns: int = START_NS, epoch: int = 1) -> Instant:
    """A moment."""
    return Instant("0" * 32, epoch, utc_ns - START_NS + 10**12, utc_ns)


def artifact(content: bytes) -> Artifact:
    """The artifact that a file with this content becomes."""
    return Artifact(hashlib.sha256(content).hexdigest(), len(content), "video/mp4", "a.mp4", "612e6d7034")


def new_batch(conn: Connection, *, end: int | None = None, sealed_utc_ns: int = START_NS) -> NewBatch:
    """What a sealer would commit now: everything durable, or up to `end`."""
    tail = rows.read_tail(conn)
    end = rows.next_seq(conn) if end is None else end
    subtrees: list[tuple[int, int, bytes]] = []
    frontier = Frontier(tail.size, tail.frontier, lambda *node: subtrees.append(node))
    flat = hashlib.sha256()
    records_bytes = 0
    for leaf in rows.iter_leaves(conn, tail.size, end):
        frontier.append(leaf_hash(leaf))
        flat.update(leaf + b"\n")
        records_bytes += len(leaf) + 1
    artifacts = rows.artifacts_of(conn, tail.size, end)
    artifact_bytes = sum(item.size_bytes for item in artifacts)
    seal = Seal(
        f"{GATEWAY}/evidence",
        tail.size,
        end,
        tail.root,
        frontier.root(),
        flat.hexdigest(),
        len(artifacts),
        artifact_bytes,
        None,
        None,
        "0" * 64,
    ).encode()
    row = BatchRow(
        n=next_batch(conn),
        first=tail.size,
        end=end,
        prev_root=tail.root,
        root=frontier.root(),
        prev_frontier=tail.frontier,
        records_sha256=flat.hexdigest(),
        records_bytes=records_bytes,
        artifact_count=len(artifacts),
        artifact_bytes=artifact_bytes,
        utc_min_ns=START_NS,
        utc_max_ns=sealed_utc_ns,
        sealed_utc_ns=sealed_utc_ns,
        seal_txt=seal,
        seal_p7s=b"signature of " + seal[-16:],
        certificate_pem=CERTIFICATE,
    )
    return NewBatch(row, tail, Tail(end, frontier.root(), frontier.hashes), tuple(subtrees))


def receipt_of(row: BatchRow, held: Iterable[tuple[str, int]], nonce: str = "a" * 32) -> tuple[bytes, bytes, bytes]:
    """(receipt.txt, its signature, artifacts.txt) of a platform that holds these artifacts of the batch."""
    listed = encode_artifacts(held)
    received = datetime.fromtimestamp(row.sealed_utc_ns // 10**9, UTC)
    text = Receipt(
        f"{GATEWAY}/evidence",
        row.first,
        row.end,
        row.prev_root,
        row.root,
        hashlib.sha256(row.seal_txt).hexdigest(),
        listed.count(b"\n"),
        row.artifact_count,
        hashlib.sha256(listed).hexdigest(),
        received,
        received + timedelta(days=3650),
        nonce,
    ).encode()
    return text, b"signature of the platform", listed


@dataclass
class Box:
    """A store with everything on it. Also a Sink whose time the test sets."""

    folder: Path
    database: Database
    utc_ns: int = START_NS

    def __post_init__(self) -> None:
        self.journal = Journal(self.database)
        self.memory = Memory(self.database)
        self.seals = Seals(self.database)
        self.outbox = Outbox(self.database)
        self.queries = Queries(self.database)

    def spool(self, **settings: Any) -> Spool:
        """The spool beside the store."""
        return Spool(self.database, self.folder / "spool", **{"reserve_bytes": 0, "high_water_percent": 100} | settings)

    async def append(self, drafts: Iterable[Draft], state: Iterable[StateChange] = ()) -> int:
        """Port Sink."""
        return await self.journal.append([(item, instant(self.utc_ns)) for item in drafts], list(state), essential=True)

    async def seal(self, end: int | None = None) -> BatchRow:
        """Seal everything, or up to `end`."""
        with self.database.readers() as conn:
            batch = new_batch(conn, end=end, sealed_utc_ns=self.utc_ns)
        await self.seals.commit_seal(batch)
        return batch.row

    async def receive(self, row: BatchRow, held: Iterable[tuple[str, int]] | None = None) -> None:
        """A receipt arrives: by default it names every artifact."""
        ours = [(item.sha256, item.size_bytes) for item in self.seals.artifacts_of(row.first, row.end)]
        named = ours if held is None else list(held)
        await self.outbox.store_receipt(row.n, *receipt_of(row, named), len(named) == len(ours))

    def days(self, count: int) -> None:
        """Time passes."""
        self.utc_ns += count * DAY_NS

    def close(self) -> None:
        """A clean stop."""
        self.database.close()


def open_box(folder: Path, *, commit_window_ms: int = 0, reserve_bytes: int = 0, **settings: Any) -> Box:
    """Open (or reopen) the store in `folder`."""
    database = Database.open(
        folder, GATEWAY, commit_window_ms=commit_window_ms, reserve_bytes=reserve_bytes, **settings
    )
    return Box(folder, database)


def put(spool: Spool, content: bytes, key: str = "a.mp4") -> Artifact:
    """Copy content into the spool, as a driver does."""
    writer = spool.open(key, "1", len(content))
    try:
        writer.write(content[writer.offset :])
        sha256, size_bytes, _ = writer.finish()
    except FieldgateError:
        with contextlib.suppress(FieldgateError):
            writer.suspend()
        raise
    return replace(artifact(content), sha256=sha256, size_bytes=size_bytes)
