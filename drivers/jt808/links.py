"""One connection: what has come over it, who is at the other end, and what it may still cost. Pure."""

from __future__ import annotations

from typing import Final

from drivers.jt808.acts import Peer
from drivers.jt808.codec import Decoder, PartLimits, Reassembler
from drivers.jt808.terminals import Terminal

FLOOD_WINDOW_NS: Final = 10_000_000_000
"""Over so long `frames_per_s_max` is an average."""
PARTS: Final = PartLimits(messages=16)
"""Of one terminal; a budget of the source is above it."""


class Link:
    """A TCP connection, or a terminal that sends datagrams. Small: thousands of them may say nothing."""

    __slots__ = (
        "closing", "decoder", "failures", "good_frames", "heard_ns", "host", "junk_bytes", "look_ns",
        "opened_ns",
        "parts", "parts_due", "paused", "phone_field", "port", "previous", "quota_ns", "serial", "terminal", "to",
    )  # fmt: skip

    def __init__(self, to: Peer, host: str, port: int, now_ns: int) -> None:
        self.to = to
        self.host = host
        self.port = port
        self.decoder = Decoder() if isinstance(to, int) else None
        self.terminal: Terminal | None = None
        self.phone_field = b""
        """As its terminal sends it: equal bytes spare the reading of every frame's identity."""
        self.opened_ns = now_ns
        self.look_ns = 0
        """When the timer looks at it."""
        self.heard_ns = now_ns
        self.good_frames = 0
        self.junk_bytes = 0
        """Since the last good frame."""
        self.failures = 0
        self.serial = 0
        """Of answers before there is a terminal."""
        self.quota_ns = 0
        """Frames against `frames_per_s_max`, as the time up to which they are paid for."""
        self.paused = False
        self.closing = ""
        """Why it is being closed; nothing more is taken of it."""
        self.parts: Reassembler | None = None
        self.parts_due = False
        """Whether the timer is set for its unfinished messages."""
        self.previous: tuple[str, int] | None = None
        """UDP: the address before this one."""

    @property
    def is_udp(self) -> bool:
        """Whether it is no connection."""
        return self.decoder is None

    @property
    def address(self) -> str:
        """For records."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def next_serial(self) -> int:
        """The serial number of an answer before there is a terminal."""
        serial = self.serial
        self.serial = (serial + 1) & 0xFFFF
        return serial

    def is_above(self, frames_per_s_max: int, now_ns: int) -> bool:
        """Count a frame; whether there were too many over the window."""
        step_ns = 1_000_000_000 // frames_per_s_max
        self.quota_ns = max(self.quota_ns, now_ns) + step_ns
        return self.quota_ns - now_ns > FLOOD_WINDOW_NS

    @property
    def held_bytes(self) -> int:
        """Of packets that wait for others."""
        return self.parts.held_bytes if self.parts else 0
