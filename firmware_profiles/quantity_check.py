"""What sensor and feed profiles say alike of a quantity: name, unit, scale, range and words. Every mistake is noted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from firmware_profiles.sensor_model import STATE_QUANTITIES, STATES, decimal_of
from gateway.core.readings import QUANTITIES

Note = Callable[[str, str], None]

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
WORD: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_CHANNEL = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}|")
_UNIT = re.compile(r"[!-~]{0,16}")
_OF_GASES: Final = frozenset({"ppm", "ppb", "mg/m3", "ug/m3"})


class Quantity(Protocol):
    """What ValueRule and FeedValue share."""

    @property
    def quantity(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def scale(self) -> str: ...
    @property
    def offset(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def statistic(self) -> str: ...
    @property
    def range(self) -> list[str]: ...
    @property
    def sentinels(self) -> dict[str, str]: ...
    @property
    def states(self) -> dict[str, str]: ...


def check(key: str, value: Quantity, note: Note) -> None:
    """Note every mistake that needs no look at where the number stands."""
    if not NAME.fullmatch(value.quantity):
        note(f"{key}.quantity", "expected a-z, 0-9 and _, at most 40 characters, such as fume")
    if not _CHANNEL.fullmatch(value.channel):
        note(f"{key}.channel", "expected letters, digits, . _ and -, at most 32 characters")
    _check_unit(key, value, note)
    if not decimal_of(value.scale):
        note(f"{key}.scale", 'expected an exact decimal that is not 0, as a text such as "0.01"')
    if decimal_of(value.offset) is None:
        note(f"{key}.offset", 'expected an exact decimal, as a text such as "-100"')
    _check_range(key, value, note)
    if value.states:
        _check_states(key, value, note)
    elif value.quantity in STATE_QUANTITIES:
        note(f"{key}.states", f'missing; {value.quantity} is a state: say such as {{ 0 = "off", 1 = "on" }}')
    check_words(f"{key}.sentinels", value.sentinels.values(), note)


def check_words(key: str, words: Iterable[str], note: Note) -> None:
    """Reasons that become `why`."""
    for word in words:
        if not WORD.fullmatch(word):
            note(key, f"{word[:40]!r} is no reason; expected a-z, 0-9 and -, at most 40 characters")


def _check_unit(key: str, value: Quantity, note: Note) -> None:
    canonical = QUANTITIES.get(value.quantity)
    if not _UNIT.fullmatch(value.unit):
        note(f"{key}.unit", "expected printable ASCII without spaces, at most 16 characters, such as mg/m3")
    elif value.states and value.unit:
        note(f"{key}.unit", "a state has no unit; take it out")
    elif canonical is not None and value.unit not in {"", canonical}:
        if {value.unit, canonical} <= _OF_GASES and value.unit[:2] != canonical[:2] and "p" in value.unit + canonical:
            remedy = "the conversion depends on gas, temperature and pressure: name the quantity otherwise, such as "
            remedy += f'"{value.quantity}_{value.unit.partition("/")[0]}", it is then kept and not judged'
        else:
            remedy = f"let scale and offset give {canonical or 'a number without unit'}, or name the quantity otherwise"
        note(f"{key}.unit", f"{value.quantity} counts in {canonical or 'no unit'}, not in {value.unit}; {remedy}")


def _check_range(key: str, value: Quantity, note: Note) -> None:
    ends = [None if end == "" else decimal_of(end) for end in value.range]
    unread = any(found is None and end != "" for found, end in zip(ends, value.range, strict=True))
    crossed = len(ends) == 2 and ends[0] is not None and ends[1] is not None and ends[0] >= ends[1]
    if value.range and (len(ends) != 2 or unread or crossed or not any(value.range)):
        note(f"{key}.range", 'expected ["lowest", "highest"] in the unit of the value, such as ["0", "20"]')


def _check_states(key: str, value: Quantity, note: Note) -> None:
    if value.quantity in QUANTITIES and value.quantity not in STATE_QUANTITIES:
        text = f"{value.quantity} is a number, not a state; take states out or name the quantity otherwise"
        note(f"{key}.states", text)
    _check_state_words(key, value.quantity, value.states, note)
    if (value.scale, value.offset, value.range, value.statistic) != ("1", "0", [], "rtd"):
        note(f"{key}.states", "a state has no scale, offset, range or statistic; take them out")


def _check_state_words(key: str, quantity: str, states: Mapping[str, str], note: Note) -> None:
    for word in states.values():
        if quantity in STATE_QUANTITIES and word not in STATES:
            note(f"{key}.states", f"{word[:40]!r} is no state of {quantity}; expected {', '.join(STATES)}")
        elif not WORD.fullmatch(word):
            note(f"{key}.states", f"{word[:40]!r} is no state; expected a-z, 0-9 and -, at most 40 characters")
