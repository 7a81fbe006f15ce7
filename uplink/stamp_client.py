"""One request to a time-stamping authority over HTTP (RFC 3161 section 3.4)."""

from __future__ import annotations

from typing import Final

from uplink import answers
from uplink.https_client import HttpsLink, expect

QUERY: Final = "application/timestamp-query"
REPLY: Final = "application/timestamp-reply"
REPLY_MAX_BYTES: Final = 65_536


class StampClient:
    """`link.base` is the full address of the authority."""

    def __init__(self, link: HttpsLink) -> None:
        self._link = link

    async def ask(self, query: bytes) -> bytes:
        """DER of the answer, not verified. Raises Unavailable, or Refused for an answer of 400, 413 or 422."""
        what = "time stamp"
        answer = await self._link.request(
            "POST",
            self._link.base,
            what,
            headers={"Content-Type": QUERY, "Accept": REPLY},
            content=query,
            body_max_bytes=REPLY_MAX_BYTES,
        )
        expect(answer, 200, what)
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != REPLY:
            raise answers.garbage(what, f"media type {media_type!r} where {REPLY} is expected")
        return answer.body
