"""One connection or serial line: what has come over it, whose it is, and what it may still cost. Pure."""

from __future__ import annotations

from typing import Final

from drivers.hj212.framing import Decoder
from drivers.hj212.monitors import Monitor, Monitors

FLOOD_WINDOW_NS: Final = 10_000_000_000
"""Over so long `frames_per_s_max` is an average."""
_SECOND_NS: Final = 1_000_000_000


class Link:
    """Small: thousands of them may say nothing."""

    __slots__ = (
        "address", "bytes_ns", "closing", "decoder", "good_frames", "heard_ns", "is_line", "is_looked_into",
        "junk_bytes", "monitor", "monitors", "opened_ns", "paused", "quota_ns", "to",
    )  # fmt: skip

    def __init__(self, to: int, address: str, monitors: Monitors, now_ns: int, *, is_line: bool = False) -> None:
        self.to = to
        self.address = address
        self.is_line = is_line
        self.decoder = Decoder(monitors.crc_of)
        self.monitor: Monitor | None = None
        """Whose message came last."""
        self.monitors: dict[str, Monitor] = {}
        """All that are heard over it: a logger or a platform may pass on what many send."""
        self.opened_ns = now_ns
        self.heard_ns = now_ns
        """Of the last good frame."""
        self.bytes_ns = now_ns
        self.is_looked_into = False
        """Whether what waits in the decoder has been searched since the last bytes."""
        self.good_frames = 0
        self.junk_bytes = 0
        """Since the last good frame."""
        self.quota_ns = 0
        """Frames against `frames_per_s_max`, as the time up to which they are paid for."""
        self.paused = False
        self.closing = ""
        """Why it is being closed; nothing more is taken of it."""

    def is_above(self, frames_per_s_max: int, now_ns: int) -> bool:
        """Count a frame; whether there were too many over the window."""
        self.quota_ns = max(self.quota_ns, now_ns) + _SECOND_NS // frames_per_s_max
        return self.quota_ns - now_ns > FLOOD_WINDOW_NS
