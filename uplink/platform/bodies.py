"""Reading requests within limits: bodies, paths, paging. Everything wrong becomes a Refusal."""

from __future__ import annotations

import asyncio
import re
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request

from gateway.core.canonical import MAX_SAFE_INTEGER
from uplink.platform.problems import Refusal

JSON_MAX_BYTES: Final = 65_536
BODY_TIMEOUT_S: Final = 30
PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000

_number = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_sha256 = re.compile(r"[0-9a-f]{64}", re.ASCII)

S = TypeVar("S", bound=msgspec.Struct)


class EnrolRequest(msgspec.Struct, frozen=True):
    """Body of POST /v1/enrol."""

    gateway: str
    csr: str
    token: str


class CertificateRequest(msgspec.Struct, frozen=True):
    """Body of POST …/certificate."""

    csr: str


class UploadRef(msgspec.Struct, frozen=True):
    """Body of POST …/batches and POST …/artifacts/{sha256}."""

    upload: str | None = None


class Wanted(msgspec.Struct, frozen=True):
    """Body of POST …/requests."""

    artifacts: list[str]


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body. Refusal above the limit (413) and where it comes too slowly (408)."""
    declared = request.headers.get("content-length", "0")
    too_large = Refusal("too-large", f"at most {limit_bytes} bytes are read here", members={"limit": limit_bytes})
    if declared.isascii() and declared.isdigit() and int(declared) > limit_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_large
    except TimeoutError:
        raise Refusal("body-timeout", f"the body did not come within {BODY_TIMEOUT_S} s") from None
    return bytes(body)


async def read_json(request: Request, shape: type[S]) -> S:
    """A JSON body of one shape. The media type is insisted on: a browser cannot send it across sites unasked."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal("media-type", "expected application/json")
    body = await read_body(request, JSON_MAX_BYTES)
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("malformed", f"the body is not what WIRE.md says: {error}") from None


def path_number(request: Request, name: str) -> int:
    """A number in the path; Refusal (404) for anything that is none: no such thing exists."""
    text = request.path_params[name]
    if not _number.fullmatch(text) or int(text) > MAX_SAFE_INTEGER:
        raise Refusal("not-found", f"{text[:40]!r} is not a tree size")
    return int(text)


def path_sha256(request: Request) -> str:
    """A hash in the path; Refusal (404) for anything that is none."""
    text: str = request.path_params["sha256"]
    if not _sha256.fullmatch(text):
        raise Refusal("not-found", f"{text[:80]!r} is not a SHA-256 in lower-case hex")
    return text


def page_limits(request: Request) -> tuple[int, int]:
    """(after, limit) of the query. Refusal (400) for anything else than numbers in range."""
    after = request.query_params.get("after", "0")
    limit = request.query_params.get("limit", str(PAGE_DEFAULT))
    if not _number.fullmatch(after) or not _number.fullmatch(limit) or not 1 <= int(limit) <= PAGE_MAX:
        raise Refusal("malformed", f"after: a number from 0; limit: 1 to {PAGE_MAX}")
    return int(after), int(limit)
