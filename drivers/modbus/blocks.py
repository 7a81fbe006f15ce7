"""What is asked of a Modbus device, and what it answered: the words between profiles (drivers.modbus.decode), the
session (drivers.modbus.driver) and the records (drivers.modbus.drafts). Values only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core.record import ProfileRef

BLOCKS_MAX: Final = 16
"""Questions of one reading."""
READ_BITS: Final = frozenset({1, 2})
READ_REGISTERS: Final = frozenset({3, 4})
READS: Final = READ_BITS | READ_REGISTERS
WRITES: Final = frozenset({5, 6, 15, 16, 23})


@dataclass(frozen=True, slots=True)
class Block:
    """One question: so many bits (function 1, 2) or registers (3, 4) from an address."""

    function: int
    address: int
    """As on the wire, from 0."""
    count: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Registers that say what the device is. Other values than `expected`: another device, nothing of it is taken."""

    block: Block
    expected: tuple[int | None, ...]
    """One per register or bit of the block; None: any."""


@dataclass(frozen=True, slots=True)
class Writable:
    """What an operator's order may write. Polling never writes."""

    name: str
    function: int
    """5, 6, 15, 16 or 23."""
    address: int
    count: int = 1
    """Registers or bits written; the order must give exactly so many."""
    minimum: int = 0
    maximum: int = 0xFFFF
    """Of each register; bits are 0 or 1."""
    read: Block | None = None
    """Function 23: what is read in the same exchange (function 3)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One question and its answer as they were on the wire."""

    block: Block
    request: bytes
    """As sent: RTU with CRC, TCP with its header."""
    response: bytes
    """Everything received since, up to the end of the answer: an echo and noise, where there were any, come first."""
    frame_bytes: int
    """Length of the answer's own frame: the end of `response`."""
    registers: tuple[int, ...] = ()
    bits: tuple[bool, ...] = ()
    sent_ns: int = 0
    """On the axis of Instant.mono_ns: when the last byte was given to the line's driver or socket."""
    received_ns: int = 0
    """When its last byte was read."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a profile makes of the answers of one round (drivers.modbus.decode)."""

    values: tuple[Mapping[str, Any], ...]
    """Each in the shape of gateway.core.readings."""
    flags: str = ""
    deviations: str = ""


Decode = Callable[[Sequence[Answer]], Decoded]
"""Answers of all blocks of a plan, in their order. Pure; never raises for what registers hold."""


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """A device on a bus: what is asked of it, how often, and how long it may take."""

    unit: int
    """1 to 247 on serial lines; TCP and special devices up to 255."""
    device: str
    """Identity in records."""
    blocks: tuple[Block, ...]
    decode: Decode
    site: str = ""
    device_class: str = "sensor"
    profile: ProfileRef | None = None
    interval_s: float = 10.0
    weight: int = 1
    """Share of a busy bus: time on it is counted by weight."""
    timeout_ms: int = 1000
    """From the end of the request to the beginning of the answer; later the question has failed."""
    response_max_ms: int = 1000
    """The longest that the device may take by its manual: so long the line stays silent after a question without a
    (good) answer. At least timeout_ms counts."""
    min_interval_ms: int = 0
    """Between the end of an answer and the next question to the same device."""
    identity: tuple[Identity, ...] = ()
    fence: bool = True
    """Whether a device that did not answer may first be asked for a number of registers that no block of it has: an
    answer of that length cannot be a late one. False for devices that know whole blocks only."""
    writable: Mapping[str, Writable] = field(default_factory=dict)
    """By name."""
