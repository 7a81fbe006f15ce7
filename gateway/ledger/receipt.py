"""The platform's receipt for one batch, and the list of artifacts that it holds (FORMAT.md, "Receipt")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from typing import Final, Self

from gateway.ledger import grammar
from gateway.ledger.grammar import FormatError
from gateway.ledger.seal import Seal

RECEIPT_SIZE_MAX_BYTES: Final = 2048
ARTIFACTS_SIZE_MAX_BYTES: Final = 16_777_216

_TEXT = re.compile(
    rf"evidence-receipt/v1\n"
    rf"origin ({grammar.ORIGIN})\n"
    rf"range ({grammar.NUMBER}) ({grammar.NUMBER})\n"
    rf"prev ({grammar.NUMBER}) ({grammar.BASE64_SHA256})\n"
    rf"root ({grammar.NUMBER}) ({grammar.BASE64_SHA256})\n"
    rf"seal-sha256 ({grammar.HEX_SHA256})\n"
    rf"artifacts ({grammar.NUMBER}) ({grammar.NUMBER})\n"
    rf"artifacts-sha256 ({grammar.HEX_SHA256})\n"
    rf"received-utc ({grammar.UTC_TIME})\n"
    rf"retain-until ({grammar.UTC_TIME})\n"
    rf"nonce ({grammar.NONCE})\n"
)
_ARTIFACT_LINES = re.compile(rf"(?:{grammar.HEX_SHA256}  {grammar.NUMBER}\n)*")
_nonce = re.compile(grammar.NONCE)

EMPTY_ARTIFACTS_SHA256: Final = sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the platform holds of one batch. Raises FormatError on bad values."""

    origin: str
    first: int
    end: int
    prev_root: bytes
    root: bytes
    seal_sha256: str
    """SHA-256 of seal.txt."""
    artifacts_held: int
    """How many artifacts of the batch the platform re-hashed from its own disk: lines of the artifacts text."""
    artifacts_total: int
    """How many artifacts the batch names."""
    artifacts_sha256: str
    """SHA-256 of the artifacts text."""
    received_utc: datetime
    """Aware; written with whole seconds, a fraction is cut off."""
    retain_until: datetime
    nonce: str
    """32 hex digits, fresh for every receipt: the next beacon of the gateway."""

    def __post_init__(self) -> None:
        grammar.gateway_id_of(self.origin)
        for value in (self.first, self.end, self.artifacts_held, self.artifacts_total):
            grammar.check_number(value, "receipt")
        if self.first >= self.end:
            raise FormatError(f"receipt: range {self.first} {self.end} is empty or runs backwards")
        if self.artifacts_held > self.artifacts_total:
            raise FormatError(f"receipt: holds {self.artifacts_held} of only {self.artifacts_total} artifacts")
        grammar.check_hash(self.prev_root, "receipt: prev root")
        grammar.check_hash(self.root, "receipt: root")
        grammar.check_sha256(self.seal_sha256, "receipt: seal-sha256")
        grammar.check_sha256(self.artifacts_sha256, "receipt: artifacts-sha256")
        if not _nonce.fullmatch(self.nonce):
            raise FormatError(f"receipt: nonce {self.nonce[:40]!r} is not 32 lower-case hex digits")

    def encode(self) -> bytes:
        """The bytes of receipt.txt."""
        return (
            f"evidence-receipt/v1\n"
            f"origin {self.origin}\n"
            f"range {self.first} {self.end}\n"
            f"prev {self.first} {grammar.base64_of(self.prev_root)}\n"
            f"root {self.end} {grammar.base64_of(self.root)}\n"
            f"seal-sha256 {self.seal_sha256}\n"
            f"artifacts {self.artifacts_held} {self.artifacts_total}\n"
            f"artifacts-sha256 {self.artifacts_sha256}\n"
            f"received-utc {grammar.utc_text(self.received_utc)}\n"
            f"retain-until {grammar.utc_text(self.retain_until)}\n"
            f"nonce {self.nonce}\n"
        ).encode("ascii")

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read receipt.txt; accepts exactly what `encode` writes. Raises FormatError for anything else."""
        match = _TEXT.fullmatch(grammar.text_of(content, "receipt", RECEIPT_SIZE_MAX_BYTES))
        if match is None:
            raise FormatError("receipt: not an evidence-receipt/v1 text; see FORMAT.md, Receipt")
        (
            origin, first, end, prev_size, prev_root, size, root, seal_sha256,
            held, total, artifacts_sha256, received, retain, nonce,
        ) = match.groups()  # fmt: skip
        if (prev_size, size) != (first, end):
            raise FormatError(f"receipt: range {first} {end} disagrees with prev {prev_size} and root {size}")
        return cls(
            origin=origin,
            first=grammar.number(first),
            end=grammar.number(end),
            prev_root=grammar.hash_of(prev_root),
            root=grammar.hash_of(root),
            seal_sha256=seal_sha256,
            artifacts_held=grammar.number(held),
            artifacts_total=grammar.number(total),
            artifacts_sha256=artifacts_sha256,
            received_utc=grammar.utc_of(received),
            retain_until=grammar.utc_of(retain),
            nonce=nonce,
        )

    def check_seal(self, seal: Seal, seal_txt: bytes) -> None:
        """Raise FormatError unless this receipt is for exactly this seal."""
        if self.seal_sha256 != sha256(seal_txt).hexdigest():
            raise FormatError(f"receipt: is for another seal ({self.seal_sha256})")
        ours = (seal.origin, seal.first, seal.end, seal.prev_root, seal.root, seal.artifact_count)
        if ours != (self.origin, self.first, self.end, self.prev_root, self.root, self.artifacts_total):
            raise FormatError("receipt: names the seal but repeats its range, roots or artifact count wrongly")

    def check_artifacts(self, text: bytes) -> dict[str, int]:
        """Sizes by sha256 of the artifacts that the receipt names. Raises FormatError for another list."""
        if sha256(text).hexdigest() != self.artifacts_sha256:
            raise FormatError("receipt: the list of artifacts is not the one that was signed")
        held = parse_artifacts(text)
        if len(held) != self.artifacts_held:
            raise FormatError(f"receipt: lists {len(held)} artifacts but says {self.artifacts_held}")
        return held


def encode_artifacts(items: Iterable[tuple[str, int]]) -> bytes:
    """The artifacts text: ``<sha256>  <size_bytes>`` per line, sorted, without duplicates."""
    lines = []
    for digest, size_bytes in sorted(dict(items).items()):
        grammar.check_sha256(digest, "artifacts")
        grammar.check_number(size_bytes, "artifacts: size")
        lines.append(f"{digest}  {size_bytes}\n")
    return "".join(lines).encode("ascii")


def parse_artifacts(content: bytes) -> dict[str, int]:
    """Sizes by sha256; accepts exactly what `encode_artifacts` writes. Raises FormatError for anything else."""
    text = grammar.text_of(content, "artifacts", ARTIFACTS_SIZE_MAX_BYTES)
    if not _ARTIFACT_LINES.fullmatch(text):
        raise FormatError("artifacts: expected lines of '<sha256>  <size_bytes>'")
    rows = [line.split("  ") for line in text.splitlines()]
    digests = [row[0] for row in rows]
    if any(one >= two for one, two in pairwise(digests)):
        raise FormatError("artifacts: not sorted by sha256, or one is named twice")
    return {digest: grammar.number(size) for digest, size in rows}
