"""The seal: the statement that the gateway signs about one batch (FORMAT.md, "Seal")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from gateway.ledger import grammar
from gateway.ledger.grammar import FormatError

SEAL_SIZE_MAX_BYTES: Final = 2048

_TEXT = re.compile(
    rf"evidence-seal/v1\n"
    rf"origin ({grammar.ORIGIN})\n"
    rf"range ({grammar.NUMBER}) ({grammar.NUMBER})\n"
    rf"prev ({grammar.NUMBER}) ({grammar.BASE64_SHA256})\n"
    rf"root ({grammar.NUMBER}) ({grammar.BASE64_SHA256})\n"
    rf"records-sha256 ({grammar.HEX_SHA256})\n"
    rf"artifacts ({grammar.NUMBER}) ({grammar.NUMBER})\n"
    rf"beacon ({grammar.NUMBER}|none)\n"
    rf"clock ({grammar.NUMBER}|none)\n"
    rf"gateway-cert-sha256 ({grammar.HEX_SHA256})\n"
)


@dataclass(frozen=True, slots=True)
class Seal:
    """What is sealed: the half-open leaf range [first, end) of one log. Raises FormatError on bad values."""

    origin: str
    """``<gateway id>/evidence``."""
    first: int
    end: int
    prev_root: bytes
    """Root of the tree of `first` leaves; merkle.EMPTY_ROOT for the first batch."""
    root: bytes
    """Root of the tree of `end` leaves."""
    records_sha256: str
    """SHA-256 of records.jsonl: every leaf followed by LF."""
    artifact_count: int
    """Distinct artifacts that the records of the range name."""
    artifact_bytes: int
    beacon: int | None
    """seq of the newest beacon record below `end`; None where there is none yet."""
    clock: int | None
    """seq of the newest clock.state record below `end`."""
    gateway_cert_sha256: str
    """SHA-256 of the DER of the certificate that signs."""

    def __post_init__(self) -> None:
        grammar.gateway_id_of(self.origin)
        for value in (self.first, self.end, self.artifact_count, self.artifact_bytes):
            grammar.check_number(value, "seal")
        if self.first >= self.end:
            raise FormatError(f"seal: range {self.first} {self.end} is empty or runs backwards")
        for pointer, name in ((self.beacon, "beacon"), (self.clock, "clock")):
            if pointer is not None and not 0 <= pointer < self.end:
                raise FormatError(f"seal: {name} {pointer} is not below the end of the range, {self.end}")
        grammar.check_hash(self.prev_root, "seal: prev root")
        grammar.check_hash(self.root, "seal: root")
        grammar.check_sha256(self.records_sha256, "seal: records-sha256")
        grammar.check_sha256(self.gateway_cert_sha256, "seal: gateway-cert-sha256")

    def encode(self) -> bytes:
        """The bytes of seal.txt."""
        return (
            f"evidence-seal/v1\n"
            f"origin {self.origin}\n"
            f"range {self.first} {self.end}\n"
            f"prev {self.first} {grammar.base64_of(self.prev_root)}\n"
            f"root {self.end} {grammar.base64_of(self.root)}\n"
            f"records-sha256 {self.records_sha256}\n"
            f"artifacts {self.artifact_count} {self.artifact_bytes}\n"
            f"beacon {'none' if self.beacon is None else self.beacon}\n"
            f"clock {'none' if self.clock is None else self.clock}\n"
            f"gateway-cert-sha256 {self.gateway_cert_sha256}\n"
        ).encode("ascii")

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read seal.txt; accepts exactly what `encode` writes. Raises FormatError for anything else."""
        match = _TEXT.fullmatch(grammar.text_of(content, "seal", SEAL_SIZE_MAX_BYTES))
        if match is None:
            raise FormatError("seal: not an evidence-seal/v1 text; see FORMAT.md, Seal")
        (
            origin, first, end, prev_size, prev_root, size, root, records_sha256,
            artifact_count, artifact_bytes, beacon, clock, certificate,
        ) = match.groups()  # fmt: skip
        if (prev_size, size) != (first, end):
            raise FormatError(f"seal: range {first} {end} disagrees with prev {prev_size} and root {size}")
        return cls(
            origin=origin,
            first=grammar.number(first),
            end=grammar.number(end),
            prev_root=grammar.hash_of(prev_root),
            root=grammar.hash_of(root),
            records_sha256=records_sha256,
            artifact_count=grammar.number(artifact_count),
            artifact_bytes=grammar.number(artifact_bytes),
            beacon=None if beacon == "none" else grammar.number(beacon),
            clock=None if clock == "none" else grammar.number(clock),
            gateway_cert_sha256=certificate,
        )
