"""What goes into the session of a JT/T 808 source and what comes out: events, commands, and the collector between them.

A `Peer` is where bytes go: the number of a TCP connection (the runner counts them), or the address of a UDP sender.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.core.ports import Outcome
from gateway.core.record import Draft, StateChange
from gateway.devices import Devices

Peer = int | tuple[str, int]

# ---------------------------------------------------------------- events


@dataclass(slots=True)
class LinkUp:
    """A TCP connection was accepted."""

    link: int
    host: str
    port: int


@dataclass(slots=True)
class BytesReceived:
    """Bytes of a TCP connection."""

    link: int
    content: bytes


@dataclass(slots=True)
class DatagramReceived:
    """One UDP datagram."""

    sender: tuple[str, int]
    content: bytes


@dataclass(slots=True)
class LinkDown:
    """A TCP connection is gone, whoever ended it."""

    link: int
    reason: str = "closed by peer"


@dataclass(slots=True)
class TimerFired:
    """`deadline_ns` has passed."""


@dataclass(slots=True)
class Request:
    """An operator's order that is on record. Its outcome comes back as `Answer` with the same ticket."""

    ticket: int
    identity: str
    action: str
    parameters: Mapping[str, Any]


@dataclass(slots=True)
class Kept:
    """A `Keep` is done: the artifact is in the spool, or why it is not."""

    ticket: int
    sha256: str = ""
    size_bytes: int = 0
    problem: str = ""


@dataclass(slots=True)
class DevicesChanged:
    """Another devices file is in force."""

    devices: Devices


@dataclass(slots=True)
class StoreResumed:
    """The store was full and nothing was read meanwhile: no silence of that time is a terminal's."""


@dataclass(slots=True)
class Shutdown:
    """The gateway ends."""


Event = (
    LinkUp
    | BytesReceived
    | DatagramReceived
    | LinkDown
    | TimerFired
    | Request
    | Kept
    | DevicesChanged
    | StoreResumed
    | Shutdown
)

# ---------------------------------------------------------------- commands


@dataclass(slots=True)
class Emit:
    """Store all of it in one transaction; only then write `ack` to `to`. Emits are carried out in their order."""

    to: Peer | None
    drafts: list[Draft]
    ack: bytes = b""
    state: list[StateChange] = field(default_factory=list)
    marks: bytes = b""
    """Digests of the frames stored (`Repeats`), to be stored with them."""


@dataclass(slots=True)
class Send:
    """Write at once: nothing of it says that something was stored."""

    to: Peer
    content: bytes


@dataclass(slots=True)
class Close:
    """End a TCP connection; `LinkDown` follows."""

    link: int


@dataclass(slots=True)
class Pause:
    """Read no more from a TCP connection until `Resume`."""

    link: int


@dataclass(slots=True)
class Resume:
    """Read on."""

    link: int


@dataclass(slots=True)
class Keep:
    """Put a photo or recording into the spool; `Kept` comes back."""

    ticket: int
    key: str
    identity: str
    content: bytes


@dataclass(slots=True)
class Answer:
    """What came of a `Request`."""

    ticket: int
    outcome: Outcome


Command = Emit | Send | Close | Pause | Resume | Keep | Answer


class Out:
    """What one event brings about."""

    __slots__ = ("ack", "commands", "drafts", "marks", "sent", "state", "to")

    def __init__(self, to: Peer | None) -> None:
        self.to = to
        self.drafts: list[Draft] = []
        self.state: list[StateChange] = []
        self.ack: list[bytes] = []
        self.marks: list[bytes] = []
        self.sent: list[bytes] = []
        self.commands: list[Command] = []

    def done(self) -> Sequence[Command]:
        """All of it: what may be sent at once first, then what must be stored, then the rest."""
        found: list[Command] = []
        if self.sent and self.to is not None:
            found.append(Send(self.to, b"".join(self.sent)))
        if self.drafts or self.ack or self.state:
            found.append(Emit(self.to, self.drafts, b"".join(self.ack), self.state, b"".join(self.marks)))
        return found + self.commands if self.commands else found
