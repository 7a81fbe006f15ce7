"""The platform's own append-only log of the receipts that it gave.

The platform issues the certificates and witnesses the logs, so it could rewrite both together. Each receipt is
therefore a leaf of one Merkle log of the platform, whose signed checkpoint anyone may fetch (WIRE.md section 7):
who keeps checkpoints elsewhere (a neighbouring bureau, a court chain) will see a rewritten past.
File ``log/receipts.jsonl``: one leaf per line.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.core import canonical
from gateway.core.errors import IntegrityError
from gateway.ledger import grammar, merkle
from uplink.platform import durable

ORIGIN_SUFFIX: Final = "receipts"
LINE_MAX_BYTES: Final = 1024


@dataclass(slots=True)
class ReceiptLog:
    """The log at work. Thread-safe; one process."""

    path: Path
    _frontier: merkle.Frontier = field(default_factory=merkle.Frontier)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Read the log. A last line without its end was never promised to anyone and is cut off."""
        if not self.path.exists():
            durable.write_atomic(self.path, b"")
        good_bytes = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if len(line) > LINE_MAX_BYTES:
                    raise IntegrityError(f"{self.path}: a line of {len(line)} bytes is not ours; restore the file")
                good_bytes += len(line)
                self._frontier.append(merkle.leaf_hash(line[:-1]))
        if good_bytes < self.path.stat().st_size:
            with self.path.open("rb+") as file:
                file.truncate(good_bytes)
            durable.fsync_file(self.path)

    def append(self, gateway_id: str, end: int, number: int, receipt_sha256: str, issued: datetime) -> int:
        """Add one receipt; return its place once it is on disk. Raises OSError with nothing added."""
        with self._lock:
            place = self._frontier.size
            leaf = canonical.encode(
                {
                    "v": 1,
                    "seq": place,
                    "gateway": gateway_id,
                    "end": end,
                    "number": number,
                    "receipt_sha256": receipt_sha256,
                    "issued_utc": grammar.utc_text(issued),
                }
            )
            durable.append(self.path, leaf + b"\n")
            self._frontier.append(merkle.leaf_hash(leaf))
            return place

    def checkpoint(self) -> tuple[int, bytes]:
        """(size, root) of what is on disk."""
        with self._lock:
            return self._frontier.size, self._frontier.root()

    def entries(self, after: int, limit: int) -> Iterator[str]:
        """Leaves [after, after + limit) that a checkpoint may already count."""
        size = self.checkpoint()[0]
        with self.path.open("rb") as file:
            for line in islice(file, after, min(after + limit, size)):
                yield line[:-1].decode()
