"""Whether a receipt frees a batch: the one check that the uplink and the gateway's API share.

A receipt counts only if it is about this very seal: same origin, range, both roots and seal hash, signed with a
receipt certificate of the trusted CA, and its artifact list names nothing that the batch does not hold. Nothing
local may expire on anything less (EVIDENCE.md, promise 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from gateway.core.errors import IntegrityError, UplinkRejected
from gateway.core.ports import BatchRow
from gateway.ledger import cms
from gateway.ledger.grammar import FormatError, UntrustedError
from gateway.ledger.receipt import Receipt
from gateway.ledger.seal import Seal
from gateway.ledger.trust import Role, Trust


def check_receipt(
    text: bytes,
    p7s: bytes,
    artifacts: bytes,
    *,
    origin: str,
    batch: BatchRow,
    sizes: Mapping[str, int],
    trust: Trust,
    now: datetime,
) -> Receipt:
    """Return the receipt if it is valid for `batch` of the log `origin`; raise UplinkRejected saying why it is not.

    `text`, `p7s` and `artifacts` are receipt.txt, its detached CMS signature and the artifact list, as they came;
    `sizes` maps the sha256 of every artifact of the batch to its size in bytes; `trust` holds the CA of receipt
    certificates. The batch is complete when ``receipt.artifacts_held == receipt.artifacts_total``.

    The certificate is judged at the receipt's own received-utc, because the box's clock may be years off; a
    certificate revoked by `now` (aware) is refused even so, because a thief writes any time. Raises IntegrityError
    where the stored seal of the batch is not readable or belongs to another log.
    """
    seal = _stored_seal(batch, origin)
    try:
        receipt = Receipt.parse(text)
        receipt.check_seal(seal, batch.seal_txt)
        held = receipt.check_artifacts(artifacts)
        signer = cms.verify_detached(p7s, text)
        issuer = trust.check_signer(signer, Role.RECEIPT, receipt.received_utc)
        trust.check_revocation(signer, issuer, max(now, receipt.received_utc))
    except (FormatError, UntrustedError) as error:
        raise UplinkRejected(f"batch {batch.n}: {error}") from None
    for digest, size_bytes in held.items():
        if sizes.get(digest) != size_bytes:
            raise UplinkRejected(
                f"batch {batch.n}: receipt: names artifact {digest} of {size_bytes} bytes, not one of this batch"
            )
    return receipt


def _stored_seal(batch: BatchRow, origin: str) -> Seal:
    try:
        seal = Seal.parse(batch.seal_txt)
    except FormatError as error:
        raise IntegrityError(f"batch {batch.n}: the stored seal is damaged: {error}") from None
    if (seal.origin, seal.first, seal.end) != (origin, batch.first, batch.end):
        raise IntegrityError(f"batch {batch.n}: the stored seal is of {seal.origin} {seal.first} {seal.end}")
    return seal
