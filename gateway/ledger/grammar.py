"""The words that all evidence texts are made of: numbers, digests, base64 hashes, times, origins.

Every text of the ledger is ASCII, one item per line, each line ended by one LF, nothing after the last line.
A parser accepts exactly what the encoder writes: ``parse(b).encode() == b`` for every accepted ``b``.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Final

from gateway.core.canonical import MAX_SAFE_INTEGER
from gateway.core.errors import RejectedError

HASH_SIZE_BYTES: Final = 32

NUMBER: Final = r"(?:0|[1-9][0-9]{0,15})"
HEX_SHA256: Final = r"[0-9a-f]{64}"
BASE64_SHA256: Final = r"[A-Za-z0-9+/]{43}="
UTC_TIME: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
NONCE: Final = r"[0-9a-f]{32}"
GATEWAY_ID: Final = r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?"
"""At most 63 characters: it is also the common name of the certificate (64 by X.520) and part of bundle names."""
ORIGIN: Final = GATEWAY_ID + r"/evidence"

_gateway_id = re.compile(GATEWAY_ID)
_hex_sha256 = re.compile(HEX_SHA256)


class EvidenceError(RejectedError, ValueError):
    """Evidence that is refused: wrongly formed (FormatError) or not vouched for (UntrustedError)."""


class FormatError(EvidenceError):
    """Bytes that are not what FORMAT.md allows; the text says where and what was expected."""


class UntrustedError(EvidenceError):
    """Well-formed, but a signature, certificate or token does not hold against what is trusted."""


def origin_of(gateway_id: str) -> str:
    """Origin line of a gateway's log. Raises FormatError for an id outside the grammar."""
    if ".." in gateway_id or not _gateway_id.fullmatch(gateway_id):
        raise FormatError(f"gateway id {gateway_id!r}: use a-z, 0-9, '.' and '-', at most 63 characters, no '..'")
    return f"{gateway_id}/evidence"


def gateway_id_of(origin: str) -> str:
    """The gateway id inside an origin line. Raises FormatError for anything else."""
    gateway_id, slash, rest = origin.partition("/")
    if not slash or rest != "evidence":
        raise FormatError(f"origin {origin[:80]!r}: expected '<gateway id>/evidence'")
    origin_of(gateway_id)
    return gateway_id


def text_of(content: bytes, what: str, limit_bytes: int) -> str:
    """ASCII text of bounded size. Raises FormatError naming `what`."""
    if len(content) > limit_bytes:
        raise FormatError(f"{what}: {len(content)} bytes, at most {limit_bytes} are allowed")
    if not content.isascii():
        raise FormatError(f"{what}: holds bytes outside ASCII")
    return content.decode("ascii")


def number(text: str) -> int:
    """A decimal within ±(2^53-1), already matched by NUMBER."""
    value = int(text)
    if value > MAX_SAFE_INTEGER:
        raise FormatError(f"number {text} is larger than 2^53-1")
    return value


def check_number(value: int, what: str) -> None:
    """Raise FormatError unless a count or position can be written."""
    if not 0 <= value <= MAX_SAFE_INTEGER:
        raise FormatError(f"{what}: {value} is outside 0..2^53-1")


def base64_of(digest: bytes) -> str:
    """A 32-byte hash as 44 characters of base64."""
    return base64.b64encode(digest).decode("ascii")


def hash_of(text: str) -> bytes:
    """The 32 bytes of a base64 hash; refuses non-zero spare bits, so that one hash has one text."""
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        raise FormatError(f"hash {text[:60]!r} is not base64") from None
    if len(digest) != HASH_SIZE_BYTES or base64_of(digest) != text:
        raise FormatError(f"hash {text[:60]!r} is not the base64 of 32 bytes")
    return digest


def check_hash(digest: bytes, what: str) -> None:
    """Raise FormatError unless `digest` has 32 bytes."""
    if len(digest) != HASH_SIZE_BYTES:
        raise FormatError(f"{what}: {len(digest)} bytes, expected {HASH_SIZE_BYTES}")


def check_sha256(text: str, what: str) -> None:
    """Raise FormatError unless `text` is a SHA-256 in lower-case hex."""
    if not _hex_sha256.fullmatch(text):
        raise FormatError(f"{what}: {text[:80]!r} is not a SHA-256 in lower-case hex")


def utc_text(moment: datetime) -> str:
    """RFC 3339 with Z and whole seconds; a fraction is cut off, never rounded up."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def utc_of(text: str) -> datetime:
    """The moment behind `utc_text`."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise FormatError(f"time {text[:40]!r} is not of the form 2026-11-21T22:28:10Z") from None
