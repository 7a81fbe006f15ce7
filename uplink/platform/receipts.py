"""Signing receipts: the statement that lets a gateway expire what it names."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.ledger import cms
from gateway.ledger.receipt import Receipt, encode_artifacts
from gateway.ledger.seal import Seal
from uplink.platform.ca import Authority
from uplink.platform.evidence import StoredReceipt


@dataclass(frozen=True, slots=True)
class Receipts:
    """The signer of receipts."""

    authority: Authority
    retain_days: int

    def sign(self, seal_txt: bytes, received: datetime, held: Sequence[tuple[str, int]]) -> StoredReceipt:
        """A receipt for a sealed batch that names `held`: (sha256, size) of files re-hashed from our own disk.

        `received` is when the batch came, in every receipt of it; the nonce is new each time. Retain-until is
        counted from there.
        """
        seal = Seal.parse(seal_txt)
        artifacts = encode_artifacts(held)
        text = Receipt(
            origin=seal.origin,
            first=seal.first,
            end=seal.end,
            prev_root=seal.prev_root,
            root=seal.root,
            seal_sha256=hashlib.sha256(seal_txt).hexdigest(),
            artifacts_held=len(held),
            artifacts_total=seal.artifact_count,
            artifacts_sha256=hashlib.sha256(artifacts).hexdigest(),
            received_utc=received,
            retain_until=received + timedelta(days=self.retain_days),
            nonce=secrets.token_hex(16),
        ).encode()
        return StoredReceipt(
            end=seal.end,
            receipt=text.decode("ascii"),
            signature=base64.b64encode(self.sign_bytes(text)).decode("ascii"),
            artifacts=artifacts.decode("ascii"),
        )

    def sign_bytes(self, content: bytes) -> bytes:
        """Detached CMS by the receipt key, DER."""
        return cms.sign_detached(content, self.authority.receipt_certificate, self.authority.receipt_key)


def receipt_sha256(stored: StoredReceipt) -> str:
    """SHA-256 of receipt.txt: what the platform's log names it by."""
    return hashlib.sha256(stored.receipt.encode()).hexdigest()
