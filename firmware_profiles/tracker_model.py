"""What a tracker profile may say: the shape of `trackers/*.toml`. PROFILE.md explains every key.

A profile states where a family of trackers puts what the standard has no place for: cover, lift, load, locks. It holds
no code, no regular expressions and no addresses. Unknown keys are errors.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, Literal

import msgspec

CHOICES: Final = {
    "load": ("empty", "half", "full"),
    "cover": ("closed", "open", "opening", "closing", "fault"),
    "lift": ("flat", "lifted", "fault"),
}
"""Keys of a fix (gateway.core.fixes) that are one word of a few."""
SWITCHES: Final = ("overload", "locked", "speed_limited", "lift_limited", "acc", "fixed")
"""Keys that are true or false; without `values` any bit that is set means true. `fixed` speaks of the position."""
NAMES: Final = ("sensor_faults", "alarms", "status")
"""Keys that collect names."""
NUMBERS: Final = {
    "lat_e7": (-900_000_000, 900_000_000),
    "lon_e7": (-1_800_000_000, 1_800_000_000),
    "alt_m": (-1000, 20_000),
    "course_deg": (0, 359),
    "speed_kmh_e1": (0, 5000),
    "recorder_kmh_e1": (0, 5000),
    "mileage_hm": (0, 0xFFFF_FFFF),
    "satellites": (0, 255),
    "hdop_e2": (0, 100_000),
}
"""Keys that are whole numbers, and between which limits; what lies outside is not said."""
TEXTS: Final = ("plate_said", "driver_said", "permit_said")
"""What a terminal says of its vehicle; never an identity."""
TIME: Final = "time"
PLACE: Final = ("lat_e7", "lon_e7")
HOLDABLE: Final = (*CHOICES, *(key for key in SWITCHES if key != "fixed"), "sensor_faults")
"""Keys that stand until they are said again, as far as `hold_s` allows: states, not measurements."""

Key = Literal[
    "load", "cover", "lift", "overload", "locked", "speed_limited", "lift_limited", "acc", "fixed", "sensor_faults",
    "alarms", "status", "lat_e7", "lon_e7", "alt_m", "course_deg", "speed_kmh_e1", "recorder_kmh_e1", "mileage_hm",
    "satellites", "hdop_e2", "time", "plate_said", "driver_said", "permit_said",
]  # fmt: skip

CARRIERS_MAX: Final = 64
FIELDS_MAX: Final = 64
VALUES_MAX: Final = 256
RANGES_MAX: Final = 32
EXAMPLES_MAX: Final = 200


_RATIONAL: Final = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,9}|/[1-9][0-9]{0,11})?")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables of a tracker profile: unknown keys are errors."""


class Range(Section, frozen=True, kw_only=True):
    """A stretch of an analogue value: from (included) to (left out)."""

    from_: int | str = msgspec.field(name="from", default="")
    """Lower end in the unit after `scale`, such as 32 or "3.2"; empty: no lower end."""
    to: int | str = ""
    """Upper end, likewise."""
    value: str
    """What it means: a word of the key, or a name."""


class FieldRule(Section, frozen=True, kw_only=True):
    """Where one key of the fix stands in its carrier, and what its numbers mean."""

    key: Key
    """Key of the fix; several rules may name the same one: the first that says something counts."""
    offset: int = 0
    """First byte, from 0; not for `status` and `alarm`, which are one number."""
    size: int = 1
    """Bytes, 1 to 8; of texts up to 64, of `bcd-time` 6."""
    type: Literal["number", "signed", "bcd", "bcd-time", "unix-s", "gbk"] = "number"
    """`bcd`: decimal digits, as a number; `bcd-time`: YYMMDDhhmmss in `zone`; `unix-s`: seconds; `gbk`: text."""
    endian: Literal["big", "little"] = "big"
    """Order of bytes."""
    bits: list[int] = []
    """Lowest and highest bit of the number, from 0; one number for one bit; empty: all."""
    scale: str = "1"
    """What the number is multiplied with, exactly: "250/9", "0.1". Results are rounded half up."""
    values: dict[str, str | bool] = {}
    """Number → word. Keys are numbers such as 0 or 0x1F; a number that is not here says nothing."""
    ranges: list[Range] = []
    """For analogue values: the first stretch that holds the number counts."""
    names: dict[str, str] = {}
    """For sensor_faults, alarms and status: bit of the number → name, where it is set."""
    unset: list[int] = []
    """Numbers that mean "not known", before `scale`."""


class Carrier(Section, frozen=True, kw_only=True):
    """Where a group of values travels."""

    kind: Literal["status", "alarm", "item", "nested", "block", "message"]
    """`status`, `alarm`: bits of the location; `item`: additional item of the location; `nested`: element inside such
    an item; `block`: transparent block 0900; `message`: a message of its own."""
    id: int = 0
    """Item id, kind of the block, or message id; not for status and alarm."""
    inner: int = 0
    """nested: id of the element."""
    id_bytes: Literal[1, 2] = 1
    """nested: width of element ids."""
    length_bytes: Literal[1, 2] = 1
    """nested: width of element lengths."""
    starts: str = ""
    """message and block: hex that its content begins with; others are left unread."""
    name: str = ""
    """message and block: what the maker calls it; with a name it may have no fields, and is then kept as bytes."""
    sizes: list[int] = []
    """Lengths at which the layout is known, in bytes; other lengths are left unread. Empty: any that holds a field."""
    field: list[FieldRule] = []
    """What is in it."""


class TrackerExample(Section, frozen=True, kw_only=True):
    """One worked example: a frame, or a body, and exactly what it says."""

    frame: str = ""
    """A whole frame as hex, with its delimiters."""
    message: int = 0x0200
    """Message id of `body`."""
    body: str = ""
    """A body as hex; one of the two is needed (for NMEA: `sentence`)."""
    sentence: str = ""
    """NMEA: sentences, one per line."""
    note: str = ""
    """Shown beside the result."""
    expect: dict[str, int | str | bool]
    """Every key that the profile reads, and its value: nothing more, nothing less. Beside them `name` of the message,
    `time_text`, and `unread`: what neither the standard nor the profile reads."""


class TrackerProfile(Section, frozen=True, kw_only=True):
    """One family of trackers, file `<id>.toml` in `trackers/`."""

    format: Literal["tracker/v1"]
    """Version of this shape."""
    id: str
    """The file's name without `.toml`: lower-case letters, digits and `-`."""
    title: str
    """One line for people."""
    source: str
    """Where the facts come from: a document, a code base, or the device and date of a field test."""
    confirmed: bool = False
    """Whether somebody has compared it with the maker's document or with a device; else lists say "unconfirmed"."""
    protocol: Literal["jt808", "nmea"] = "jt808"
    """What the devices speak."""
    datum: str = "WGS-84"
    """Datum of the coordinates: WGS-84 or GCJ-02, which is converted; the raw values stay."""
    zone: str = "+08:00"
    """Zone of the device's times; the standard says +08:00."""
    match: list[str] = []
    """maker/model as registrations write them, with * and ?; a profile "auto" is chosen by it."""
    hold_s: int = 300
    """How long what a message of its own said counts for later fixes; 0: not at all."""
    carrier: list[Carrier] = []
    """Where values travel. None: only what the standard says by itself, without load, cover and lift."""
    example: list[TrackerExample] = []
    """At least one; at least two where there are carriers."""


def scale_of(text: int | str) -> Fraction | None:
    """The exact number of a `scale` or the end of a range; None where it is none."""
    return Fraction(text) if isinstance(text, int) or _RATIONAL.fullmatch(text) else None


def zone_s(zone: str) -> int:
    """Seconds east of Greenwich of `+08:00` or `Z`."""
    if zone in {"", "Z"}:
        return 0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)


def fits(patterns: list[str] | tuple[str, ...], maker: str, model: str) -> bool:
    """Whether `maker/model` of a registration is one of the patterns; * any text, ? one character, case ignored."""
    name = f"{maker}/{model}".casefold()
    return any(_glob(pattern.casefold(), name) for pattern in patterns)


def _glob(pattern: str, text: str) -> bool:
    """Greedy matching with one point of return: at most len(pattern) x len(text) steps."""
    at = mark = 0
    star = -1
    seen = 0
    while seen < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark, at = at, seen, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[seen]):
            at, seen = at + 1, seen + 1
        elif star >= 0:
            mark += 1
            at, seen = star + 1, mark
        else:
            return False
    return all(sign == "*" for sign in pattern[at:])
