"""What a platform answers, read defensively, and what each failure means for delivery. No I/O.

Everything from outside comes through here: any bytes give either a typed answer or one of the errors below, whose
text is one line for a person with foreign words quoted and cut.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import msgspec

from gateway.core.errors import UplinkRejected, UplinkUnavailable
from uplink.delivery import Failure

BODY_MAX_BYTES: Final = 1 << 20
RECEIPTS_MAX_BYTES: Final = 8 << 20
"""Answers to a committed item: the receipts of all batches that name one artifact, each with its list."""
PROBLEM_PREFIX: Final = "urn:fieldgate:problem:"
FOREIGN_TEXT_MAX: Final = 255
SIZE_MAX: Final = 2**53 - 1
RETRY_AFTER_MAX_S: Final = 86_400.0
WANTED_MAX: Final = 256
"""Artifacts taken from one list of requests; the rest is asked for again."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Unavailable(UplinkUnavailable):
    """Try again later. `failure` says what has to wait; `denied` that our credentials were refused."""

    def __init__(self, failure: Failure, *, denied: bool = False) -> None:
        self.failure = failure
        self.denied = denied
        super().__init__(failure.reason)


class UploadGone(Unavailable):
    """404 or 410 to an upload: begin a new one."""


class OffsetDiffers(Unavailable):
    """409 to a PATCH: the server has another offset than ours; ask for it."""


class TooLarge(Unavailable):
    """413 to a PATCH: perhaps a proxy's body limit; try a smaller chunk."""


class Refused(UplinkRejected):
    """The platform will refuse the same item again; `hash_differs` where it says that bytes changed on the way."""

    def __init__(self, reason: str, *, hash_differs: bool = False) -> None:
        self.hash_differs = hash_differs
        super().__init__(reason)


class Conflict(UplinkRejected):
    """409 to a batch: the platform holds another (size, root) than the batch continues; `fork` where it says so."""

    def __init__(self, size: int, root: bytes, reason: str, *, fork: bool) -> None:
        self.size = size
        self.root = root
        self.fork = fork
        super().__init__(reason)


def foreign(text: str) -> str:
    """Foreign text for a one-line message or a record: NFC, printable, cut."""
    flat = "".join(sign if sign.isprintable() else " " for sign in text[: 4 * FOREIGN_TEXT_MAX])
    return unicodedata.normalize("NFC", " ".join(flat.split()))[:FOREIGN_TEXT_MAX]


# ---------------------------------------------------------------- answers


class CheckpointBody(msgspec.Struct, frozen=True):
    """Body of GET checkpoint, and the part of a 409 problem that matters."""

    size: int
    root: str


class ReceiptBody(msgspec.Struct, frozen=True):
    """One receipt as JSON: texts, and the signature in base64."""

    receipt: str
    signature: str
    artifacts: str
    end: int = 0


class ArtifactBody(msgspec.Struct, frozen=True):
    """Answer to a committed artifact."""

    receipts: list[ReceiptBody]


class WantedBody(msgspec.Struct, frozen=True):
    """Artifacts that the platform asks for."""

    artifacts: list[str]


class ProblemBody(msgspec.Struct, frozen=True):
    """RFC 9457 problem document; every member may be missing."""

    type: str = ""
    title: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How much of our log the platform holds."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class ReceiptParts:
    """The three parts of a receipt as bytes, not verified yet; `end` is the tree size of the batch it is about."""

    end: int
    text: bytes
    p7s: bytes
    artifacts: bytes


Body = TypeVar("Body")


def _decode(body: bytes, kind: type[Body], what: str) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise garbage(what, str(error)) from None


def garbage(what: str, why: str) -> Unavailable:
    """An answer that does not follow the specification: the platform's fault, so the item is tried again."""
    return Unavailable(Failure("item", f"{what}: the platform's answer makes no sense: {foreign(why)}"))


def checkpoint_of(body: bytes) -> Checkpoint:
    """Answer to GET checkpoint."""
    parsed = _decode(body, CheckpointBody, "checkpoint")
    return Checkpoint(_size(parsed.size, "checkpoint"), _root(parsed.root, "checkpoint"))


def receipt_of(body: bytes, end: int) -> ReceiptParts:
    """Answer to a committed batch that ends at `end`."""
    return _parts(_decode(body, ReceiptBody, "receipt"), end)


def receipts_of(body: bytes) -> list[ReceiptParts]:
    """Answer to a committed artifact."""
    parsed = _decode(body, ArtifactBody, "receipts")
    return [_parts(item, _size(item.end, "receipts")) for item in parsed.receipts]


def wanted_of(body: bytes) -> list[str]:
    """Answer to GET requests: SHA-256 of artifacts, lower-case hex, without duplicates, at most WANTED_MAX."""
    parsed = _decode(body, WantedBody, "requests")
    wanted = list(dict.fromkeys(parsed.artifacts))[:WANTED_MAX]
    for sha256 in wanted:
        if not _SHA256.fullmatch(sha256):
            raise garbage("requests", f"{sha256!r} is no SHA-256")
    return wanted


def _parts(body: ReceiptBody, end: int) -> ReceiptParts:
    try:
        p7s = base64.b64decode(body.signature, validate=True)
        return ReceiptParts(end, body.receipt.encode(), p7s, body.artifacts.encode())
    except (binascii.Error, ValueError):
        raise garbage("receipt", "the signature is no base64 or a text holds a lone surrogate") from None


def _size(value: int, what: str) -> int:
    if not 0 <= value <= SIZE_MAX:
        raise garbage(what, f"tree size {value}")
    return value


def _root(value: str, what: str) -> bytes:
    try:
        root = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        root = b""
    if len(root) != 32:
        raise garbage(what, "the root is no 32 bytes in base64")
    return root


# ---------------------------------------------------------------- refusals


def error_of(status: int, headers: Mapping[str, str], body: bytes, what: str) -> Unavailable | Refused | Conflict:
    """The error for an answer that is not the expected one. `headers` is case-insensitive or lower-case."""
    reason = f"{what}: {_told(status, body)}"
    wait_s = retry_after_s(headers)
    if status in (401, 403):
        text = f"{reason}; check the gateway's certificate and token, and that it is enrolled"
        return Unavailable(Failure("link", text, wait_s), denied=True)
    if 300 <= status < 400:
        text = f"{what}: the platform redirects to {foreign(headers.get('location', ''))!r}; set uplink.url to it"
        return Unavailable(Failure("link", text))
    if status in (408, 429, 502, 503, 504):
        return Unavailable(Failure("link", reason, wait_s))
    if status == 507:
        return Unavailable(Failure("lane", reason, wait_s))
    if status == 409:
        return _conflict(body, reason)
    if status in (400, 422) or (status == 413 and wait_s is None):
        return Refused(reason, hash_differs=problem_of(body).type == PROBLEM_PREFIX + "hash-differs")
    return Unavailable(Failure("item", reason, wait_s))


def _conflict(body: bytes, reason: str) -> Unavailable | Conflict:
    if problem_of(body).type == PROBLEM_PREFIX + "incomplete":
        return OffsetDiffers(Failure("item", reason))
    try:
        theirs = checkpoint_of(body)
    except Unavailable:
        return Unavailable(Failure("item", reason))
    fork = problem_of(body).type == PROBLEM_PREFIX + "fork"
    return Conflict(theirs.size, theirs.root, reason, fork=fork)


def problem_of(body: bytes) -> ProblemBody:
    """The problem document of an answer; empty where there is none."""
    try:
        return msgspec.json.decode(body, type=ProblemBody)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ProblemBody()


def _told(status: int, body: bytes) -> str:
    problem = problem_of(body)
    words = foreign(problem.detail or problem.title or problem.type)
    return f"the platform answers {status}: {words}" if words else f"the platform answers {status}"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds (a date is measured against the answer's own Date); None where there is none."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_MAX_S)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
        return min(max(wait.total_seconds(), 0.0), RETRY_AFTER_MAX_S)
    except (TypeError, ValueError, OverflowError):
        return None
