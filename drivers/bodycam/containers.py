"""Has the recorder closed the file? MP4 gets its `moov` box, RIFF its length, when recording ends.

Only headers are read, through a function that the caller gives; at most `BOXES_MAX` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

Closed = Literal["closed", "open", "unknown"]
ReadAt = Callable[[int, int], bytes]
"""(offset, size) → up to `size` bytes."""

BOXES_MAX: Final = 4096
_FIRST_BOXES: Final = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"wide", b"skip", b"pnot"})


def container_state(container: str, size_bytes: int, read_at: ReadAt) -> Closed:
    """`container` is the profile's word; "" and strange bytes give `unknown`. Errors of `read_at` pass through."""
    if container == "mp4":
        return _mp4(size_bytes, read_at)
    if container == "riff":
        return _riff(size_bytes, read_at)
    return "unknown"


def _mp4(size_bytes: int, read_at: ReadAt) -> Closed:
    """ISO/IEC 14496-12 section 4.2: size and type of each top-level box; `moov` anywhere, nothing cut off."""
    offset, moov = 0, False
    for _ in range(BOXES_MAX):
        head = read_at(offset, 16) if offset < size_bytes else b""
        if len(head) < 8:
            return "closed" if moov else "open"
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if offset == 0 and kind not in _FIRST_BOXES:
            return "unknown" if any(head) else "open"  # zeros: room that was set aside, nothing written yet
        if length == 1:
            length = int.from_bytes(head[8:16], "big") if len(head) == 16 else 0
            least = 16
        elif length == 0:
            length, least = size_bytes - offset, 8
        else:
            least = 8
        if length < least or offset + length > size_bytes:
            return "closed" if moov and kind == b"\0\0\0\0" else "open"
        moov = moov or kind == b"moov"
        offset += length
    return "unknown"


def _riff(size_bytes: int, read_at: ReadAt) -> Closed:
    """RIFF: the length in the header is written last; recorders leave 0 or 2^32 - 1 until then."""
    head = read_at(0, 12)
    if len(head) < 12 or head[:4] not in {b"RIFF", b"RF64"}:
        return "unknown" if len(head) == 12 else "open"
    length = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RF64":
        return "closed" if length == 0xFFFFFFFF else "unknown"
    return "closed" if 4 < length <= size_bytes - 8 else "open"
