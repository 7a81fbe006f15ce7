"""What a monitor profile may say: the shape of `monitors/*.toml`. PROFILE.md explains every key.

A profile states what the factor codes of a family of HJ 212 monitors mean. The same code means different quantities
in different families, so a code alone is none. It holds no code, no regular expressions and no addresses.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, Literal

import msgspec

FACTORS_MAX: Final = 256
EXAMPLES_MAX: Final = 200
STATES: Final = ("on", "off", "calibration", "maintenance", "alarm", "blowback", "fault")
"""States of gateway.core.readings."""
QUALITIES: Final = ("good", "suspect", "bad")
FIELDS: Final = (
    "Rtd", "Min", "Avg", "Max", "ZsRtd", "ZsMin", "ZsAvg", "ZsMax", "Cou", "RS", "RT", "Data", "Info",
)  # fmt: skip
"""Fields of a factor that a rule may be limited to."""

_DECIMAL: Final = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables: unknown keys are errors."""


class FactorRule(Section, frozen=True, kw_only=True):
    """What one factor code means."""

    code: str
    """The code as it stands before the dash, letter by letter."""
    id: str = ""
    """Only where the item's `-ID` is this text, which then tells no channel; empty: any, and the ID is the channel."""
    fields: list[str] = []
    """Only these fields of it, such as ["RT"]; empty: all but RT."""
    quantity: str
    """A quantity of gateway.core.readings, or a name of your own: kept, and not judged."""
    unit: str = ""
    """Of a quantity of your own: the unit after scale and offset. The others have theirs."""
    channel: str = ""
    """Duct, phase or hatch, where the code itself stands for one."""
    scale: str | int = 1
    """What the number is multiplied with, exactly: "0.001", 1000."""
    offset: str | int = 0
    """What is added after that."""
    range: list[str | int] = []
    """[lowest, highest] in the unit of the quantity; what lies outside is kept and suspect. "" for an open end."""
    unset: list[str] = []
    """Texts that mean "no value", such as "-9999": kept, and bad."""
    states: dict[str, str] = {}
    """Text → state, for codes that say on and off in another way than -RS."""


class MonitorExample(Section, frozen=True, kw_only=True):
    """One worked example: a frame, or a CP, and exactly what it says."""

    frame: str = ""
    """A whole frame, from ## to the CRC."""
    message: str = "2011"
    """Command number of `cp`."""
    cp: str = ""
    """What stands between CP=&& and &&; one of the two is needed."""
    note: str = ""
    """Shown beside the result."""
    expect: dict[str, int | str | bool]
    """Everything that is read: nothing more, nothing less. See PROFILE.md for the keys."""


class MonitorProfile(Section, frozen=True, kw_only=True):
    """One family of monitors, file `<id>.toml` in `monitors/`."""

    format: Literal["monitor/v1"]
    """Version of this shape."""
    id: str
    """The file's name without `.toml`: lower-case letters, digits and `-`."""
    title: str
    """One line for people."""
    source: str
    """Where the facts come from, and which of them are assumptions."""
    confirmed: bool = False
    """Whether somebody has compared it with the maker's document or with a device."""
    protocol: Literal["hj212"] = "hj212"
    """What the devices speak."""
    zone: str = "+08:00"
    """Zone of the device's times; the standard means Beijing time."""
    minute_s: int = 600
    """Length of the period of minute data (2051) in seconds, until an order has read or set it (1063, 1064)."""
    marks: dict[str, str] = {}
    """Data flag → good, suspect or bad, where the family differs from the standard."""
    answers: dict[str, str] = {}
    """Command of the device → command that answers it, where it is not 9013 or 9014: { 9021 = "9022" }."""
    factor: list[FactorRule] = []
    """What codes mean. A code that is not here is kept, without a quantity."""
    example: list[MonitorExample] = []
    """At least one; at least two where there are factors."""


def decimal_of(text: str | int) -> Decimal | None:
    """The exact number of a `scale`, an `offset` or the end of a range; None where it is none."""
    if isinstance(text, int):
        return Decimal(text) if abs(text) < 10**12 else None
    return Decimal(text) if _DECIMAL.fullmatch(text) else None
