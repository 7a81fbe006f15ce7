"""What the session of a bus (drivers.modbus.driver) is told, and what it wants done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.core.ports import Outcome
from gateway.core.record import Draft

# --------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Opened:
    """The line is there."""

    address: str


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes as they came."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """The frame of the last Send has been given to the line."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The line has ended, or could not be opened."""

    reason: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Timer:
    """`deadline_ns` is reached."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The store has no room (True), or has it again: nothing new is asked in between."""

    is_held: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """An operator's order whose record is on disk; `Done` with the same ticket answers it."""

    ticket: int
    device: str
    action: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this order any more. If it is on the line already, its answer is still awaited and dropped."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The gateway stops: what is still to be told is told."""


Event = Opened | Received | Sent | Closed | Timer | Hold | Wish | Cancel | Ended

# ------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Send:
    """Give this to the line, then say Sent. If bytes lie there unread, hand in those first: where `is_sending` is
    false afterwards, the frame must not be sent."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Emit:
    """Store these, in order."""

    drafts: tuple[Draft, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """Counters of the source."""

    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class SetState:
    """How the bus is, for people."""

    state: Literal["ok", "degraded", "down"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Close:
    """Open the line anew."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an order."""

    ticket: int
    outcome: Outcome


Command = Send | Emit | Count | SetState | Close | Done
