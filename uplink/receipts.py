"""Judging what the platform signed before anything of it is stored (EVIDENCE.md, Receipt).

A receipt that does not verify is the platform's fault, not the item's: it is never stored, never frees anything and
never puts the item into quarantine; the item is sent again later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from gateway.core.errors import UplinkRejected
from gateway.core.ports import BatchRow, Reader
from gateway.ledger.accept import check_receipt
from gateway.ledger.receipt import Receipt, parse_artifacts
from gateway.ledger.trust import Trust
from uplink.answers import ReceiptParts, Unavailable, foreign
from uplink.delivery import Failure

REFUSED: Final = "receipt refused: "


class BadReceipt(Unavailable):
    """A receipt that proves nothing: wrong batch, wrong signer, garbage, or not about the item that was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(Failure("item", REFUSED + foreign(reason)))


@dataclass(frozen=True, slots=True)
class Verified:
    """A receipt that is valid for a batch of ours."""

    batch: BatchRow
    receipt: Receipt
    parts: ReceiptParts

    @property
    def new(self) -> bool:
        """Keep it: it is not the one that is stored, and names every artifact that the stored one names.

        One that names fewer is a replay, or of a platform restored from a backup, which will issue a newer one.
        """
        stored = self.batch
        if stored.receipt_txt is None:
            return True
        if Receipt.parse(stored.receipt_txt).nonce == self.receipt.nonce:
            return False
        return not self.lost

    @property
    def lost(self) -> list[str]:
        """Artifacts that the stored receipt names and this one does not: the platform may not have them any more."""
        stored = self.batch.receipt_artifacts
        if stored is None:
            return []
        return sorted(parse_artifacts(stored).keys() - parse_artifacts(self.parts.artifacts).keys())

    @property
    def complete(self) -> bool:
        """It names every artifact of the batch."""
        return self.receipt.artifacts_held == self.receipt.artifacts_total

    @property
    def text_sha256(self) -> str:
        """SHA-256 of receipt.txt."""
        return sha256(self.parts.text).hexdigest()


def judge(
    parts: ReceiptParts,
    reader: Reader,
    *,
    origin: str,
    trust: Trust,
    now: datetime,
    must_name: str | None = None,
) -> Verified:
    """Verify a receipt against the batch that we hold; `must_name` is an artifact that it has to name.

    Raises BadReceipt.
    """
    batch = reader.batch_of(parts.end - 1) if parts.end > 0 else None
    if batch is None or batch.end != parts.end:
        raise BadReceipt(f"it is about a batch up to {parts.end}, which this gateway never sealed")
    sizes = {row.sha256: row.size_bytes for row in reader.artifacts_of(batch.first, batch.end)}
    try:
        receipt = check_receipt(
            parts.text,
            parts.p7s,
            parts.artifacts,
            origin=origin,
            batch=batch,
            sizes=sizes,
            trust=trust,
            now=now,
        )
    except UplinkRejected as error:
        raise BadReceipt(str(error)) from None
    if must_name is not None and must_name not in parse_artifacts(parts.artifacts):
        raise BadReceipt(f"it does not name the artifact {must_name[:12]} that was just delivered")
    return Verified(batch, receipt, parts)
