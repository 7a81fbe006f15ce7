"""What a sensor profile may say: the shape of `sensors/*.toml`. PROFILE.md explains every key.

A profile states which registers of a Modbus device hold which quantity, and what its numbers mean. It holds no code and
no addresses of devices. Unknown keys are errors. Numbers are exact: scales and offsets are decimal texts, never floats.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

import msgspec

NumberType = Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "bcd16", "bcd32", "packed", "bit"]
WORDS: Final[dict[str, int]] = {
    "u16": 1, "s16": 1, "u32": 2, "s32": 2, "u64": 4, "s64": 4, "f32": 2, "f64": 4, "bcd16": 1, "bcd32": 2,
    "packed": 1, "bit": 1,
}  # fmt: skip
"""Type → registers that it takes; `bit` takes one coil or input."""
FLOATS: Final = frozenset({"f32", "f64"})
STATES: Final = ("on", "off", "calibration", "maintenance", "alarm", "blowback", "fault")
"""Words of gateway.core.readings for `state`."""
STATE_QUANTITIES: Final = ("fan_state", "purifier_state")
BLOCKS_MAX: Final = 16
VALUES_MAX: Final = 256
RULES_MAX: Final = 64
EXAMPLES_MAX: Final = 100
REGISTERS_MAX: Final = 125
BITS_MAX: Final = 2000

_DECIMAL: Final = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables of a sensor profile: unknown keys are errors."""


class LineRule(Section, frozen=True, kw_only=True):
    """How the device comes from the factory: what `profile poll` uses where no option says otherwise."""

    baud: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1
    unit: int = 1
    """Unit id."""


class TimingRule(Section, frozen=True, kw_only=True):
    """How fast the device is."""

    timeout_ms: int = 1000
    """A question without an answer for so long has failed."""
    response_max_ms: int = 1000
    """The longest that the device may take by its manual; so long the line stays silent after a failed question."""
    min_interval_ms: int = 0
    """Between an answer and the next question."""


class ValueRule(Section, frozen=True, kw_only=True):
    """One quantity: where it stands, and what its numbers mean."""

    quantity: str
    """Canonical name (gateway/core/readings.py), or a name of your own, which is kept and not judged."""
    channel: str = ""
    """Duct, phase or hatch, where there are several."""
    address: int
    """Of its first register or bit, as the manual counts (`address_base`)."""
    type: NumberType = "u16"
    """`bcd…`: four or eight decimal digits; `packed`: high byte whole, low byte decimals; `bit`: a coil or input."""
    word_order: Literal["", "high-first", "low-first"] = ""
    """Of numbers of several registers; empty: that of the profile."""
    byte_order: Literal["", "high-first", "low-first"] = ""
    """Inside each register; empty: that of the profile. Modbus says high-first."""
    bits: list[int] = []
    """Lowest and highest bit of the number, from 0; one number for one bit; empty: all."""
    fraction_digits: int = 1
    """packed: how many decimals the low byte holds; 9 is .9 with 1, .09 with 2."""
    decimals_at: int = -1
    """A register of the same block or another one of the same function, that says how many decimals the number has; -1:
    none does."""
    decimals_bits: list[int] = []
    """Lowest and highest bit of it; empty: all. More than 9 decimals are none."""
    scale: str = "1"
    """The number times this, as a decimal text …"""
    offset: str = "0"
    """… plus this, gives the value in `unit`."""
    unit: str = ""
    """Empty: that of the canonical quantity. For a canonical quantity no other one is taken."""
    statistic: Literal["rtd", "min", "avg", "max", "sum"] = "rtd"
    """`sum` for counters."""
    range: list[str] = []
    """[lowest, highest] value that the device can measure, in `unit`; what lies outside is kept, and is …"""
    outside: Literal["bad", "suspect"] = "bad"
    """… this."""
    sentinels: dict[str, str] = {}
    """Number as sent → what it means, such as { 0x7FFF = "probe-fault" }: no value, bad."""
    states: dict[str, str] = {}
    """Number → state, such as { 0 = "off", 1 = "on" }: a state, no measurement. Numbers that are not here are bad."""
    note: str = ""
    """For people: what the manual says beside."""


class BlockRule(Section, frozen=True, kw_only=True):
    """One question."""

    function: Literal[1, 2, 3, 4]
    """1 coils, 2 inputs, 3 holding registers, 4 input registers."""
    address: int
    """First register or bit, as the manual counts."""
    count: int
    """Registers or bits."""
    whole: bool = False
    """The device answers only to exactly this question."""
    value: list[ValueRule] = []
    """What is in it; registers that no value names are kept in `raw`."""


class StatusRule(Section, frozen=True, kw_only=True):
    """A register that says whether other values can be trusted."""

    function: Literal[1, 2, 3, 4]
    address: int
    """A register or bit inside one of the blocks."""
    bits: list[int] = []
    """As in values."""
    good: list[int]
    """Numbers at which all is well; any other one …"""
    quality: Literal["bad", "suspect"] = "bad"
    """… makes its values this."""
    words: dict[str, str] = {}
    """Number → reason for `why`; others are written `status-N`."""
    quantities: list[str] = []
    """Which values, as `quantity` or `quantity/channel`; empty: all."""


class IdentityRule(Section, frozen=True, kw_only=True):
    """Registers that say what the device is. Another answer: a wrong device, nothing of it is taken."""

    function: Literal[3, 4]
    address: int
    values: list[int]
    """One per register; -1: any."""


class WriteRule(Section, frozen=True, kw_only=True):
    """What an operator's order may write. Polling never writes."""

    name: str
    function: Literal[5, 6, 15, 16]
    address: int
    count: int = 1
    """Registers or bits."""
    minimum: int = 0
    """Of each register."""
    maximum: int = 0xFFFF
    """Of each register."""


class SensorExample(Section, frozen=True, kw_only=True):
    """A worked example: what the device answers, and exactly what is read."""

    registers: list[str]
    """One text per block: its registers (or bytes of bits) as hex, in the order of the wire."""
    note: str = ""
    """Where the numbers come from: the manual, a capture, or worked out by hand."""
    expect: dict[str, str]
    """`quantity` or `quantity/channel` → value, unit and what speaks against it, such as "1.98 mg/m3", "on",
    "none, bad: probe-fault", "31 mg/m3, bad: range"."""


class SensorProfile(Section, frozen=True, kw_only=True):
    """One model of a Modbus device, file `<id>.toml` in `sensors/`."""

    format: Literal["sensor/v1"]
    """Version of this shape."""
    id: str
    """The file's name without `.toml`: lower-case letters, digits and `-`."""
    title: str
    """One line for people."""
    source: str
    """Where the map comes from, and which of its facts are assumptions."""
    revision: str = ""
    """Edition, date or commit of that document; empty: it names none."""
    contradicts: str = ""
    """Where the document contradicts itself, and what was chosen; shown wherever the profile is."""
    confirmed: bool = False
    """Whether somebody has compared it with a device; else lists say "unconfirmed"."""
    address_base: Literal[0, 1, 40001, 400001] = 0
    """How the manual counts: from 0 as on the wire, from 1, or 40001 / 400001 style with a digit for the kind."""
    word_order: Literal["high-first", "low-first"] = "high-first"
    byte_order: Literal["high-first", "low-first"] = "high-first"
    registers_max: int = REGISTERS_MAX
    """The most registers that the device gives in one answer."""
    line: LineRule = LineRule()
    timing: TimingRule = TimingRule()
    identity: list[IdentityRule] = []
    block: list[BlockRule] = []
    """At least one."""
    status: list[StatusRule] = []
    write: list[WriteRule] = []
    example: list[SensorExample] = []
    """At least two."""


_FIRST: Final = {
    40001: {1: 1, 2: 10001, 4: 30001, 3: 40001},
    400001: {1: 1, 2: 100001, 4: 300001, 3: 400001},
}
_READ_LIKE: Final = {5: 1, 15: 1, 6: 3, 16: 3}
"""Writing function → the reading function of the same table."""


def first_of(base: int, function: int) -> int:
    """The manual's number of what is 0 on the wire."""
    return _FIRST[base][_READ_LIKE.get(function, function)] if base in _FIRST else base


def wire_address(base: int, function: int, address: int) -> int:
    """An address as on the wire; below 0 or above 65535 where the manual's number does not fit."""
    return address - first_of(base, function)


def decimal_of(text: str) -> Fraction | None:
    """The exact number of a decimal text; None where it is none."""
    return Fraction(Decimal(text)) if _DECIMAL.fullmatch(text) else None


def number_of(text: str) -> int | None:
    """The whole number of a key such as 0x7FFF or -1; None where it is none."""
    found = re.fullmatch(r"0x[0-9A-Fa-f]{1,16}|-?(?:0|[1-9][0-9]{0,19})", text)
    return int(text, 0) if found else None


def key_of(quantity: str, channel: str) -> str:
    """How status rules and examples name a value."""
    return f"{quantity}/{channel}" if channel else quantity
