"""What a feed profile may say: the shape of `feeds/*.toml`. PROFILE.md explains every key.

A profile states where a JSON message holds which value, by RFC 6901 pointers. It holds no code, no addresses and no
secrets. Unknown keys are errors. Numbers are exact: scales and offsets are decimal texts, never floats.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

EVENTS: Final = ("delivery", "cleared")
"""What happened at a bin: something was put in; it was emptied."""
WEIGHTS: Final = ("weight_before", "weight_after", "weight")
VALUES_MAX: Final = 128
WORDS_MAX: Final = 256
POINTERS_MAX: Final = 16
EXAMPLES_MAX: Final = 100
POINTER_MAX: Final = 256

_STEP: Final = re.compile(r"(?:[^~]|~[01])*")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables of a feed profile: unknown keys are errors."""


class FeedValue(Section, frozen=True, kw_only=True):
    """One quantity: where it stands, and what its numbers mean."""

    at: str
    """Pointer to a number, a text that is a number, or for states a text, number, true or false."""
    quantity: str
    """Canonical name (gateway/core/readings.py), or a name of your own, which is kept and not judged."""
    channel: str = ""
    """Duct, phase or hatch, where there are several."""
    channel_at: str = ""
    """Pointer to it, instead."""
    scale: str = "1"
    """The number times this, as a decimal text …"""
    offset: str = "0"
    """… plus this, gives the value in `unit`."""
    unit: str = ""
    """Empty: that of the canonical quantity. For a canonical quantity no other one is taken."""
    statistic: Literal["rtd", "min", "avg", "max", "sum"] = "rtd"
    """`sum` for counters."""
    range: list[str] = []
    """[lowest, highest] value that can be, in `unit`; what lies outside is kept, and is …"""
    outside: Literal["bad", "suspect"] = "bad"
    """… this."""
    sentinels: dict[str, str] = {}
    """Text or number as sent → what it means, such as { "-999" = "probe-fault" }: no value, bad."""
    states: dict[str, str] = {}
    """Text, number, "true" or "false" as sent → state: a state, not a measurement. Others are bad."""
    rises: bool = False
    """A counter that only rises: a fall without `cleared` in between makes it suspect."""


class Weighing(Section, frozen=True, kw_only=True):
    """How weight_before, weight_after and weight of one channel go together."""

    step: str
    """Division of the scale in kg, such as "0.01": so far after - before and weight may differ."""
    stable: str = ""
    """Pointer to what says that the scale stood still; empty: nothing says so."""
    stable_words: list[str] = msgspec.field(default_factory=lambda: ["1", "true"])
    """Texts or numbers that mean yes; at any other one weights are bad."""


class FeedExample(Section, frozen=True, kw_only=True):
    """A worked example: messages one after the other, and exactly what is read of the last one."""

    message: str
    """JSON."""
    before: list[str] = []
    """Messages that came before it."""
    item: int = 1
    """Which item of the message, from 1."""
    note: str = ""
    """Where it comes from: a capture, a document, or worked out by hand."""
    expect: dict[str, str]
    """`quantity` or `quantity/channel` → value, unit and what speaks against it; beside them device, time, period_s,
    sequence, event, category, depositor ("hidden"), backfill, flags and deviations."""


class FeedProfile(Section, frozen=True, kw_only=True):
    """One kind of JSON messages, file `<id>.toml` in `feeds/`."""

    format: Literal["feed/v1"]
    """Version of this shape."""
    id: str
    """The file's name without `.toml`: lower-case letters, digits and `-`."""
    title: str
    """One line for people."""
    source: str
    """Where the facts come from, and which of them are assumptions."""
    revision: str = ""
    """Edition, date or commit of that document; empty: it names none."""
    contradicts: str = ""
    """Where the document contradicts itself, and what was chosen."""
    confirmed: bool = False
    """Whether somebody has compared it with a device; else lists say "unconfirmed"."""
    items: str = ""
    """Pointer to the list of readings in a message; empty: the message is one. All other pointers start at one reading;
    what is not there is looked for in the message around it."""
    device: str = ""
    """Pointer to the identity of the device; empty: the source's configuration names it."""
    time: str = ""
    """Pointer to the device's time of acquisition, or the start of the period."""
    time_format: str = "iso"
    """How to read it: %Y %y %m %d %H %M %S %f and literal text, or iso, unix-s, unix-ms."""
    zone: str = ""
    """Its zone where the text names none, such as +08:00 or Z; empty: unknown, and then it is no time."""
    period_s: int = 0
    """Length of the period that the values are statistics of; 0: values of a moment."""
    sequence: str = ""
    """Pointer to a number that names this reading of this device: what comes again under it is stored once."""
    backfill: str = ""
    """Pointer to what says that the device had stored it."""
    backfill_words: list[str] = msgspec.field(default_factory=lambda: ["1", "true"])
    """Texts or numbers that mean yes."""
    event: str = ""
    """Pointer to what happened."""
    events: dict[str, Literal["delivery", "cleared"]] = {}
    """Text or number as sent → delivery or cleared; others are no event."""
    always: Literal["", "delivery", "cleared"] = ""
    """Instead of `event`: every message is this."""
    category: str = ""
    """Pointer to what was put in; a text, as sent."""
    depositor: list[str] = []
    """Pointers to what names a person, such as a phone number: only a keyed hash is stored, also in the raw bytes."""
    answer: str = ""
    """json-http: the JSON that is answered when all is stored, such as '{"code":0}'; empty: ours."""
    weighing: Weighing | None = None
    value: list[FeedValue] = []
    """At least one."""
    example: list[FeedExample] = []
    """At least two."""


def steps_of(pointer: str) -> tuple[str, ...] | None:
    """The steps of an RFC 6901 pointer; None where it is none. "" is the whole."""
    if not pointer:
        return ()
    parts = pointer.split("/")
    if parts[0] or len(pointer) > POINTER_MAX or not all(_STEP.fullmatch(part) for part in parts):
        return None
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts[1:])
