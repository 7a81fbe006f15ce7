"""Errors as problem documents (RFC 9457): one shape for every refusal of the API.

``type`` is ``urn:fieldgate:problem:<kind>``; the kinds are listed in API.md and are what a program should look at.
``title`` is the same for every problem of a kind, ``detail`` says what is wrong with this request and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
PREFIX: Final = "urn:fieldgate:problem:"

KINDS: Final[Mapping[str, tuple[int, str]]] = {
    "bad-parameter": (400, "A parameter is unknown, repeated or malformed"),
    "bad-body": (400, "The request body is malformed"),
    "unauthorized": (401, "No valid bearer token"),
    "forbidden": (403, "Not for this role"),
    "not-found": (404, "There is no such thing here"),
    "method-not-allowed": (405, "The path does not support this method"),
    "body-timeout": (408, "The request body did not arrive in time"),
    "not-sealed": (409, "The record is not sealed yet"),
    "gone": (410, "The content is no longer held here"),
    "damaged": (410, "The content is damaged and not served"),
    "precondition-failed": (412, "The content has changed"),
    "too-large": (413, "The request body is too large"),
    "media-type": (415, "The request body has the wrong media type"),
    "range-not-satisfiable": (416, "The range lies outside the content"),
    "receipt-refused": (422, "The receipt is not valid for this batch"),
    "bad-order": (422, "The order cannot be recorded or carried out"),
    "busy": (429, "Too many requests at once"),
    "defect": (500, "A defect of the gateway"),
    "disk": (500, "The disk of the gateway failed"),
    "integrity": (500, "Stored evidence disagrees with itself"),
    "unavailable": (503, "The gateway cannot answer just now"),
    "store-full": (507, "The gateway has no room"),
}
"""kind → (status, title). Statuses are those of RFC 9110; 429 is RFC 6585, 507 RFC 4918."""


class ProblemError(Exception):
    """Ends the handling of a request with a problem document; raised inside gateway.api only."""

    def __init__(self, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        super().__init__(detail)


def response(kind: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The problem document of one kind as a response that no cache keeps."""
    status, title = KINDS[kind]
    body = msgspec.json.encode({"type": PREFIX + kind, "title": title, "status": status, "detail": printable(detail)})
    return Response(body, status, headers={"cache-control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE)


def printable(text: str) -> str:
    """Foreign text on one line, printable characters only, at most 255 characters."""
    return "".join(char if char.isprintable() else "?" for char in text)[:255]
