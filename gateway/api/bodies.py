"""Request bodies: JSON within limits of size and time."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request

from gateway.api.problem import ProblemError

BODY_TIMEOUT_S: Final = 30


def demand_json(request: Request, what: str) -> None:
    """Raises ProblemError for another media type. Pages of other sites cannot send this one unasked."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ProblemError("media-type", f"send the {what} as application/json", {"connection": "close"})


async def body_of(request: Request, max_bytes: int) -> bytes:
    """The request body within its limits of size and time. Raises ProblemError."""
    parts: list[bytes] = []
    size_bytes = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size_bytes += len(part)
                if size_bytes > max_bytes:
                    raise ProblemError("too-large", f"at most {max_bytes} bytes", {"connection": "close"})
                parts.append(part)
    except TimeoutError:
        raise ProblemError(
            "body-timeout", f"the body did not arrive within {BODY_TIMEOUT_S} s", {"connection": "close"}
        ) from None
    except ClientDisconnect:
        raise ProblemError("bad-body", "the body ended early") from None
    return b"".join(parts)
