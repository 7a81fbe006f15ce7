"""What goes into the session of an HJ 212 source and what comes out, and the collector between the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivers.hj212.keys import KeyRing
from gateway.core.ports import Outcome
from gateway.core.record import Draft, StateChange
from gateway.devices import Devices

# ---------------------------------------------------------------- events


@dataclass(slots=True)
class LinkUp:
    """A connection was accepted, or a serial port opened."""

    link: int
    address: str
    """For records: address and port, or the name of the serial port."""
    is_line: bool = False
    """A serial line: nobody calls in, and it is never closed for silence."""


@dataclass(slots=True)
class BytesReceived:
    """Bytes of a connection."""

    link: int
    content: bytes


@dataclass(slots=True)
class LinkDown:
    """A connection is gone, whoever ended it."""

    link: int
    reason: str = "closed by peer"


@dataclass(slots=True)
class LineFailed:
    """A serial port cannot be opened, for another reason than before."""

    reason: str


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
class DevicesChanged:
    """Another devices file is in force."""

    devices: Devices


@dataclass(slots=True)
class KeysChanged:
    """Other keys are in force."""

    keys: KeyRing


@dataclass(slots=True)
class StoreResumed:
    """The store was full and nothing was read meanwhile: no silence of that time is a monitor's."""


@dataclass(slots=True)
class Shutdown:
    """The gateway ends."""


Event = (
    LinkUp
    | BytesReceived
    | LinkDown
    | LineFailed
    | TimerFired
    | Request
    | DevicesChanged
    | KeysChanged
    | StoreResumed
    | Shutdown
)

# ---------------------------------------------------------------- commands


@dataclass(slots=True)
class Emit:
    """Store all of it in one transaction; only then write `ack` to `to`. Emits are carried out in their order."""

    to: int | None
    drafts: list[Draft]
    ack: bytes = b""
    state: list[StateChange] = field(default_factory=list)
    marks: bytes = b""
    """Digests of the segments stored (`Repeats`), to be stored with them."""


@dataclass(slots=True)
class Send:
    """Write at once: nothing of it says that something was stored."""

    to: int
    content: bytes


@dataclass(slots=True)
class Close:
    """End a connection; `LinkDown` follows."""

    link: int


@dataclass(slots=True)
class Pause:
    """Read no more from a connection until `Resume`."""

    link: int


@dataclass(slots=True)
class Resume:
    """Read on."""

    link: int


@dataclass(slots=True)
class Answer:
    """What came of a `Request`."""

    ticket: int
    outcome: Outcome


Command = Emit | Send | Close | Pause | Resume | Answer


class Out:
    """What one event brings about on one link."""

    __slots__ = ("ack", "commands", "drafts", "marks", "sent", "state", "to")

    def __init__(self, to: int | None) -> None:
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
