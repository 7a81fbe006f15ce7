"""What a monitor profile makes of factors: values in the shape of gateway.core.readings. Pure; never raises.

    dialect = compile(profile, ref)              once per profile
    values = dialect.read(message.factors)       every field of every factor, in the order sent

A code that the profile does not know is kept, with its text and without a quantity.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final

from drivers.hj212.commands import CONVERTED, DATA_FLAGS, RUN_STATES, STATISTICS
from drivers.hj212.fields import Factor
from firmware_profiles.monitor_model import FactorRule, MonitorProfile, decimal_of
from firmware_profiles.tracker_model import zone_s
from gateway.core.readings import QUANTITIES, SCALE, micro
from gateway.core.record import ProfileRef

TEXT_MAX: Final = 128
"""Characters kept of a value; the frame has them all."""
FOUND_MAX: Final = 4096
DAYS_MAX: Final = 64
ABOUT: Final = frozenset({"Flag", "EFlag", "ID"})
"""Fields that say something of the others."""
_EPOCH: Final = date(1970, 1, 1).toordinal()
_DAY_S: Final = 86_400
_PLACES: Final = 6
_POWERS: Final[tuple[int, ...]] = tuple(10 ** (_PLACES - places) for places in range(_PLACES + 1))
_VALUE_MAX: Final = 10**16


def clean(text: str, limit: int = TEXT_MAX) -> str:
    """Text of a device as a record may hold it."""
    if text.isascii() and text.isprintable():
        return text[:limit]
    return unicodedata.normalize("NFC", "".join(sign for sign in text[:limit] if sign.isprintable()))


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule, ready to use."""

    quantity: str
    unit: str
    channel: str
    scale: Decimal
    offset: Decimal
    low_e6: int | None
    high_e6: int | None
    unset: frozenset[str]
    states: dict[str, str]
    is_any: bool
    """Of any ID, which then is the channel."""
    is_plain: bool
    """Neither scale nor offset."""


class Dialect:
    """One profile, compiled."""

    def __init__(self, profile: MonitorProfile, ref: ProfileRef | None) -> None:
        self.id: Final = profile.id
        self.ref: Final = ref
        self.zone: Final = profile.zone
        self.minute_s: Final = profile.minute_s
        self.answers: Final = dict(profile.answers)
        self._zone_s = zone_s(profile.zone)
        self._marks = DATA_FLAGS | profile.marks
        self._rules: dict[tuple[str, str, str], _Rule] = {}
        for one in profile.factor:
            for field in one.fields or [""]:
                self._rules[one.code, one.id, field] = _compiled(one)
        self._found: dict[tuple[str, str, str], _Rule | None] = {}
        """Rules found before: a monitor sends the same codes all day."""
        self._days: dict[str, int] = {}
        self._codes = {code for code, _, _ in self._rules}

    def read(self, factors: Iterable[Factor]) -> list[dict[str, Any]]:
        """Values of all factors."""
        found: list[dict[str, Any]] = []
        for code, fields in factors:
            quality, why = "good", ""
            mark, more = fields.get("Flag"), fields.get("EFlag")
            if mark is not None:
                quality = self._marks.get(mark, "suspect")
                mark = clean(mark, 8)
                if quality != "good":
                    why = f"mark-{mark}"
            channel = fields.get("ID", "")
            known = code in self._codes
            for field, text in fields.items():
                if field in ABOUT:
                    continue
                rule = self._rule(code, channel, field) if known else None
                value = _value(rule, code, field, text, channel, quality, why)
                if mark is not None:
                    value["mark"] = mark
                if more is not None:
                    value["mark_more"] = clean(more, 8)
                found.append(value)
        return found

    def _rule(self, code: str, channel: str, field: str) -> _Rule | None:
        place = code, channel, field
        if place in self._found:
            return self._found[place]
        if len(self._found) >= FOUND_MAX:
            self._found.clear()
        found = self._found[place] = self._search(code, channel, field)
        return found

    def _search(self, code: str, channel: str, field: str) -> _Rule | None:
        rules = self._rules
        for place in ((code, channel, field), (code, "", field)):
            if (found := rules.get(place)) is not None:
                return found
        if field == "RT" or (field not in STATISTICS and field not in CONVERTED):
            return None
        return rules.get((code, channel, "")) or rules.get((code, "", ""))

    def time_utc_s(self, text: str) -> int | None:
        """DataTime in seconds of UTC; digits after the second are milliseconds. None where it is no time."""
        if len(text) < 14 or len(text) > 17 or not (text.isascii() and text.isdigit()):
            return None
        hour, minute, second = int(text[8:10]), int(text[10:12]), int(text[12:14])
        if hour > 23 or minute > 59 or second > 59:
            return None
        day = text[:8]
        start_s = self._days.get(day)
        if start_s is None:
            try:
                start_s = (date(int(day[:4]), int(day[4:6]), int(day[6:])).toordinal() - _EPOCH) * _DAY_S - self._zone_s
            except ValueError:
                return None
            if len(self._days) >= DAYS_MAX:
                self._days.clear()
            self._days[day] = start_s
        return start_s + hour * 3600 + minute * 60 + second


def compile(profile: MonitorProfile, ref: ProfileRef | None = None) -> Dialect:  # noqa: A001  as of trackers
    """A profile that passed its checks, ready to use."""
    return Dialect(profile, ref)


def _compiled(rule: FactorRule) -> _Rule:
    scale, offset = decimal_of(rule.scale) or Decimal(1), decimal_of(rule.offset) or Decimal(0)
    ends = [None if end == "" else micro(str(end)) for end in rule.range] or [None, None]
    return _Rule(
        rule.quantity, QUANTITIES.get(rule.quantity, rule.unit), rule.channel, scale, offset, ends[0], ends[1],
        frozenset(rule.unset), dict(rule.states), not rule.id, scale == 1 and offset == 0,
    )  # fmt: skip


def _value(
    rule: _Rule | None, code: str, field: str, text: str, channel: str, quality: str, why: str
) -> dict[str, Any]:
    """One field of a factor."""
    shown = text if len(text) <= TEXT_MAX and text.isascii() and text.isprintable() else clean(text)
    statistic = STATISTICS.get(field) or CONVERTED.get(field)
    if rule is None:
        value: dict[str, Any] = {"quantity": "", "code": clean(code if statistic else f"{code}-{field}"), "text": shown}
        if statistic is not None:
            value["statistic"] = statistic
            if field == "RS":
                _state(value, RUN_STATES, text)
            elif (number := micro(text)) is not None:
                value["value_e6"] = number
        if channel:
            value["channel"] = clean(channel, 32)
        value["quality"] = quality
        if why:
            value["why"] = why
        return value
    quantity = rule.quantity if field not in CONVERTED else f"{rule.quantity}_converted"
    value = {"quantity": quantity, "code": code, "statistic": statistic or "rtd", "text": shown}
    if rule.channel or (channel and rule.is_any):
        value["channel"] = rule.channel or clean(channel, 32)
    if rule.states or field == "RS":
        value["statistic"] = "state"
        reason = "unset" if text in rule.unset else _state(value, rule.states or RUN_STATES, text)
    else:
        reason = _number(value, rule, text)
    if reason:
        why = f"{why} {reason}" if why else reason
        quality = "bad" if reason in ("unset", "no-number", "empty") or quality == "bad" else "suspect"
    value["quality"] = quality
    if why:
        value["why"] = why
    return value


def _state(value: dict[str, Any], states: dict[str, str], text: str) -> str:
    state = states.get(text)
    if state is None:
        return "no-state"
    value["state"] = state
    return ""


def _number(value: dict[str, Any], rule: _Rule, text: str) -> str:
    """The number in its unit; what speaks against it."""
    if text in rule.unset:
        return "unset"
    number = _micro(text) if rule.is_plain else _scaled(rule, text)
    if number is None:
        return "no-number" if text else "empty"
    value["value_e6"] = number
    if rule.unit:
        value["unit"] = rule.unit
    outside = (rule.low_e6 is not None and number < rule.low_e6) or (rule.high_e6 is not None and number > rule.high_e6)
    return "range" if outside else ""


def _micro(text: str) -> int | None:
    """readings.micro, quickly for what nearly all numbers look like: 12.345."""
    whole, _, part = text.partition(".")
    if len(whole) > 9 or len(part) > 6 or not text.isascii() or not whole.isdigit() or not (part or "0").isdigit():
        return micro(text)
    return int(whole + part) * _POWERS[len(part)]


def _scaled(rule: _Rule, text: str) -> int | None:
    if micro(text) is None:
        return None
    try:
        exact = (Decimal(text.strip()) * rule.scale + rule.offset) * SCALE
        number = int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))
    except InvalidOperation:
        return None
    return number if abs(number) < _VALUE_MAX else None


def flat(values: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int | str]]:
    """Values as (key, value) pairs for examples and people: `fume@1.max` 770000, `fan_state` "on"."""
    for value in values:
        if not value["quantity"]:
            continue
        name = value["quantity"] + (f"@{value['channel']}" if "channel" in value else "")
        statistic = value["statistic"]
        if statistic not in ("rtd", "state"):
            name += f".{statistic}"
        yield name, value.get("state", value.get("value_e6", value["text"]))
        if value["quality"] != "good":
            yield f"{name} is", f"{value['quality']}: {value.get('why', '')}"
