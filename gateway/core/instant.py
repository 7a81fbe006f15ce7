"""A moment as the box could know it: which boot, which clock epoch, and two clock readings."""

from __future__ import annotations

from typing import Final, NamedTuple

NOT_BEFORE_NS: Final = 1_767_225_600 * 10**9
"""2026-01-01: this software is younger, so whatever says an earlier time is wrong."""


class Instant(NamedTuple):
    """One reading of the clocks. Never rewritten once it is in a record (EVIDENCE.md, Time)."""

    boot: str
    """Kernel boot id, 32 lower-case hex digits."""
    epoch: int
    """Counts boots, starts of the gateway and clock steps; within one epoch ``utc_ns`` never jumps."""
    mono_ns: int
    """CLOCK_BOOTTIME."""
    utc_ns: int
    """CLOCK_REALTIME since 1970, as the box believed it."""
