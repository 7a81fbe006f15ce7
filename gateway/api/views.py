"""The JSON shapes of the API, as API.md and the served OpenAPI document describe them.

Nanoseconds since 1970 exceed what JSON readers hold exactly, so they are decimal strings, as in records; hashes of
the Merkle log are base64, as in the seal; hashes of files are lower-case hex.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.core.ports import ArtifactRow, BatchRow, SourceStatus, Tail


def checkpoint(origin: str, tail: Tail, batch: int, next_seq: int) -> dict[str, Any]:
    """Where the sealed log ends; `batch` is the newest batch or 0, `next_seq` one past the newest record."""
    return {
        "gateway": origin.removesuffix("/evidence"),
        "origin": origin,
        "size": tail.size,
        "root": _base64(tail.root),
        "batch": batch,
        "next_seq": next_seq,
    }


def batch_summary(row: BatchRow) -> dict[str, Any]:
    """One line of the list of batches."""
    return {
        "n": row.n,
        "first": row.first,
        "end": row.end,
        "prev_root": _base64(row.prev_root),
        "root": _base64(row.root),
        "records_sha256": row.records_sha256,
        "records_bytes": row.records_bytes,
        "artifact_count": row.artifact_count,
        "artifact_bytes": row.artifact_bytes,
        "utc_min_ns": str(row.utc_min_ns),
        "utc_max_ns": str(row.utc_max_ns),
        "sealed_utc_ns": str(row.sealed_utc_ns),
        "sealed_utc": rfc3339(row.sealed_utc_ns),
        "stamped": row.tsr is not None,
        "receipted": row.receipt_txt is not None,
        "complete": row.complete,
        "quarantined": row.quarantined,
    }


def batch_detail(row: BatchRow, artifacts: Sequence[ArtifactRow]) -> dict[str, Any]:
    """A batch with its proofs and the artifacts that its records name."""
    receipt = None
    if row.receipt_txt is not None:
        receipt = {
            "receipt": row.receipt_txt.decode(),
            "signature": _base64(row.receipt_p7s or b""),
            "artifacts": (row.receipt_artifacts or b"").decode(),
        }
    return {
        **batch_summary(row),
        "seal": row.seal_txt.decode(),
        "signature": _base64(row.seal_p7s),
        "stamp": None if row.tsr is None else _base64(row.tsr),
        "receipt": receipt,
        "artifacts": [
            {
                "sha256": item.sha256,
                "size_bytes": item.size_bytes,
                "media_type": item.media_type,
                "state": item.state,
            }
            for item in artifacts
        ],
    }


def source(status: SourceStatus) -> dict[str, Any]:
    """One configured source."""
    return {
        "name": status.name,
        "type": status.type,
        "state": status.state,
        "reason": status.reason,
        "since_utc_ns": str(status.since_utc_ns),
        "last_seen_utc_ns": None if status.last_seen_utc_ns is None else str(status.last_seen_utc_ns),
        "counters": _counters(status.counters),
    }


def rfc3339(utc_ns: int) -> str:
    """UTC with nanoseconds and Z; years outside 1 … 9999 cannot occur in 63 bits of nanoseconds."""
    seconds, fraction = divmod(utc_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _counters(counters: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counters.items()))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
