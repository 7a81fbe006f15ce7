"""Which bytes a request asks for: conditional and range requests of RFC 9110 (sections 13 and 14), pure.

One range per request is served; a list of ranges, another unit or a malformed header is ignored, as section 14.2
allows, and answered with the whole. The validator is always a strong entity tag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_ONE_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII | re.IGNORECASE)
_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,[ \t]*|$)')


@dataclass(frozen=True, slots=True)
class Selection:
    """What to answer: a status and the half-open byte range [start, end) of the content."""

    status: int
    """200 whole, 206 part, 304 not modified, 412 precondition failed, 416 range not satisfiable."""
    start: int
    end: int
    content_range: str | None = None
    """Value of the Content-Range header with 206 and 416."""


def select(method: str, headers: Mapping[str, str], etag: str, size_bytes: int) -> Selection:
    """Evaluate If-Match, If-None-Match, Range and If-Range in the order of RFC 9110 section 13.2.2.

    `method` is GET or HEAD; `headers` has lower-case names; `etag` comes without quotes. Never raises.
    """
    if_match = headers.get("if-match")
    if if_match is not None and not _matches(if_match, etag, weak=False):
        return Selection(412, 0, 0)
    if_none_match = headers.get("if-none-match")
    if if_none_match is not None and _matches(if_none_match, etag, weak=True):
        return Selection(304, 0, 0)
    whole = Selection(200, 0, size_bytes)
    wanted = headers.get("range")
    if wanted is None or method != "GET":  # section 14.2: Range is defined for GET only
        return whole
    if_range = headers.get("if-range")
    if if_range is not None and if_range.strip() != f'"{etag}"':  # a date never matches: there is no Last-Modified
        return whole
    return _part(wanted, size_bytes) or whole


def _part(wanted: str, size_bytes: int) -> Selection | None:
    """The part that one byte range names; None where the header is to be ignored."""
    match = _ONE_RANGE.fullmatch(wanted)
    if match is None or match.group(1) == match.group(2) == "":
        return None
    if match.group(1) == "":  # the last n bytes
        start, end = max(0, size_bytes - int(match.group(2))), size_bytes
    else:
        start = int(match.group(1))
        end = min(int(match.group(2)) + 1, size_bytes) if match.group(2) else size_bytes
        if match.group(2) and int(match.group(2)) < start:
            return None
    if start >= end:
        return Selection(416, 0, 0, f"bytes */{size_bytes}")
    return Selection(206, start, end, f"bytes {start}-{end - 1}/{size_bytes}")


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags names ours: weak or strong comparison (RFC 9110 section 8.8.3.2)."""
    if header.strip() == "*":
        return True
    position, text = 0, header.strip()
    while position < len(text):
        match = _TAG.match(text, position)
        if match is None:
            return False
        if match.group(2) == etag and (weak or match.group(1) is None):
            return True
        position = match.end()
    return False
