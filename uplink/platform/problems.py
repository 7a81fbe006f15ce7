"""Refusals as RFC 9457 problem documents. The table of WIRE.md section 6, as code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:fieldgate:problem:"
DETAIL_MAX_CHARS: Final = 400

TITLES: Final[Mapping[str, tuple[int, str]]] = {
    "malformed": (400, "The request is malformed"),
    "unauthorized": (401, "No valid credential"),
    "not-yours": (403, "Another gateway's path"),
    "revoked": (403, "The gateway is revoked"),
    "enrolment-refused": (403, "The enrolment token is not good for this gateway"),
    "operator-only": (403, "Only the operator may do this"),
    "not-found": (404, "There is no such thing here"),
    "method-not-allowed": (405, "The path does not support this method"),
    "body-timeout": (408, "The request body did not arrive in time"),
    "wrong-offset": (409, "The upload continues at another offset"),
    "gap": (409, "Batches are missing in between"),
    "fork": (409, "Another history of this gateway is held"),
    "incomplete": (409, "The upload is not complete"),
    "not-named": (409, "No received batch names this artifact"),
    "other-key": (409, "The gateway is enrolled with another key"),
    "upload-expired": (410, "The upload has expired"),
    "tus-version": (412, "Only tus 1.0.0 is spoken here"),
    "too-large": (413, "Too large"),
    "media-type": (415, "The body has the wrong media type"),
    "range-not-satisfiable": (416, "The range lies outside the content"),
    "bundle-refused": (422, "The bundle is wrong"),
    "hash-differs": (422, "The bytes are not those that were named"),
    "stamp-refused": (422, "The time stamp is not valid for this seal"),
    "leaf-refused": (422, "Not an alarm record"),
    "locked": (423, "Another request is using the upload"),
    "busy": (429, "Too many at once"),
    "defect": (500, "A defect of the platform"),
    "integrity": (500, "Stored evidence disagrees with itself"),
    "no-room": (507, "No room just now"),
}
"""code → (status, title)."""


class Refusal(Exception):
    """Ends a request with a problem document. `members` are added to the document, `headers` to the answer."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.status, self.title = TITLES[code]
        self.detail = printable(detail)
        self.members = dict(members or {})
        self.headers = dict(headers or {})
        super().__init__(self.detail)

    def response(self) -> Response:
        """The document as an answer that no cache keeps."""
        body = {"type": TYPE_PREFIX + self.code, "title": self.title, "status": self.status, "detail": self.detail}
        return Response(
            msgspec.json.encode({**body, **self.members}),
            self.status,
            headers={"cache-control": "no-store", **self.headers},
            media_type=MEDIA_TYPE,
        )


def printable(text: str) -> str:
    """One printable line of at most `DETAIL_MAX_CHARS` characters."""
    return "".join(char if char.isprintable() else "?" for char in text)[:DETAIL_MAX_CHARS]
