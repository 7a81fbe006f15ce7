"""Fields of sentences to integers and back, exactly: no float, one rounding (half to even) at the very end.

An empty field is None, never 0. A field that cannot be what it should be raises FieldError inside this package only.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS
LAT_E7_MAX: Final = 900_000_000
LON_E7_MAX: Final = 1_800_000_000
KNOT_MM_S: Final = (4630, 9)
"""1 knot = 1852 m/h = 4630/9 mm/s."""
KMH_MM_S: Final = (2500, 9)

_DECIMAL: Final = re.compile(r"(-?)([0-9]{0,9})(?:\.([0-9]{0,12}))?")
_TIME: Final = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})(?:\.([0-9]{0,9}))?")
_SIX: Final = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})")


class FieldError(Exception):
    """A field is not what its place says. Caught by `parse`."""


def divide(numerator: int, denominator: int) -> int:
    """Nearest integer, halves to even; `denominator` above 0."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def scaled(text: str, scale: tuple[int, int], low: int, high: int) -> int | None:
    """A plain decimal number times `scale`, between `low` and `high`."""
    if not text:
        return None
    found = _DECIMAL.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        raise FieldError(f"{text[:24]!r} is no number")
    fraction = found[3] or ""
    digits = int(found[2] + fraction) * (-1 if found[1] else 1)
    value = divide(digits * scale[0], scale[1] * 10 ** len(fraction))
    if not low <= value <= high:
        raise FieldError(f"{text[:24]!r} is out of range")
    return value


def whole(text: str, low: int, high: int) -> int | None:
    """A plain integer, between `low` and `high`."""
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,6}", text) or not low <= int(text) <= high:
        raise FieldError(f"{text[:24]!r} is no whole number from {low} to {high}")
    return int(text)


def letter(text: str, letters: str) -> str | None:
    """One of `letters`."""
    if not text:
        return None
    if len(text) != 1 or text not in letters:
        raise FieldError(f"{text[:24]!r} is none of {letters}")
    return text


def time_ns(text: str) -> int | None:
    """`hhmmss.sss` to nanoseconds since midnight. 23:59:60, the leap second, is 86400 s: no other time is."""
    if not text:
        return None
    found = _TIME.fullmatch(text)
    if found is None:
        raise FieldError(f"{text[:24]!r} is no time")
    hour, minute, second = int(found[1]), int(found[2]), int(found[3])
    leap = (hour, minute, second) == (23, 59, 60)
    if hour > 23 or minute > 59 or (second > 59 and not leap):
        raise FieldError(f"{text[:24]!r} is no time of a day")
    return (hour * 3600 + minute * 60 + second) * SECOND_NS + int((found[4] or "").ljust(9, "0"))


def date_of(text: str) -> date | None:
    """`ddmmyy`. Two digits of a year mean 1980 to 2079: GPS began in 1980."""
    if not text:
        return None
    found = _SIX.fullmatch(text)
    if found is None:
        raise FieldError(f"{text[:24]!r} is no date")
    year = int(found[3])
    return calendar_date(year + (1900 if year >= 80 else 2000), int(found[2]), int(found[1]))


def calendar_date(year: int, month: int, day: int) -> date:
    """A day that exists."""
    try:
        return date(year, month, day)
    except ValueError:
        raise FieldError(f"{year:04d}-{month:02d}-{day:02d} is no day") from None


def latitude_e7(text: str, side: str) -> int | None:
    """`ddmm.mmmm` and N or S."""
    return _coordinate(text, side, "NS", 2, LAT_E7_MAX)


def longitude_e7(text: str, side: str) -> int | None:
    """`dddmm.mmmm` and E or W."""
    return _coordinate(text, side, "EW", 3, LON_E7_MAX)


def _coordinate(text: str, side: str, sides: str, degree_digits: int, limit: int) -> int | None:
    if not text and not side:
        return None
    found = re.fullmatch(rf"([0-9]{{{degree_digits}}})([0-9]{{2}})(?:\.([0-9]{{0,12}}))?", text)
    if found is None or len(side) != 1 or side not in sides:
        raise FieldError(f"{text[:24]!r} {side[:4]!r} is no coordinate")
    fraction = found[3] or ""
    one = 10 ** len(fraction)
    minutes = int(found[2] + fraction)
    if minutes >= 60 * one:
        raise FieldError(f"{text[:24]!r} has 60 minutes or more")
    units = (int(found[1]) * 60 * one + minutes) * 10_000_000
    if units > limit * 60 * one:
        raise FieldError(f"{text[:24]!r} is beyond the pole or the date line")
    value = divide(units, 60 * one)
    return -value if side == sides[1] else value


# ---------------------------------------------------------------------------------------- writing


def write_scaled(value: int | None, scale: tuple[int, int], decimals: int) -> str:
    """The number of which `scaled` makes `value`, with that many decimals; empty for None."""
    if value is None:
        return ""
    units = divide(abs(value) * scale[1] * 10**decimals, scale[0])
    sign = "-" if value < 0 and units else ""
    if not decimals:
        return f"{sign}{units}"
    return f"{sign}{units // 10**decimals}.{units % 10**decimals:0{decimals}d}"


def write_whole(value: int | None, digits: int = 1) -> str:
    """An integer with leading zeros; empty for None."""
    return "" if value is None else f"{value:0{digits}d}"


def write_time(value: int | None, decimals: int = 3) -> str:
    """`hhmmss.sss`, cut and not rounded: a clock never shows a time that has not come."""
    if value is None:
        return ""
    seconds, fraction = divmod(value, SECOND_NS)
    hour, rest = (23, 3600 + seconds - 86_400) if seconds >= 86_400 else divmod(seconds, 3600)
    text = f"{hour:02d}{min(rest // 60, 59):02d}{rest - 60 * min(rest // 60, 59):02d}"
    return f"{text}.{fraction:09d}"[: 7 + decimals] if decimals else text


def write_date(value: date | None) -> str:
    """`ddmmyy`."""
    return "" if value is None else f"{value:%d%m%y}"


def write_coordinate(value: int | None, sides: str, decimals: int) -> tuple[str, str]:
    """`ddmm.mmmm` or `dddmm.mmmm` and the side. Seven decimals say 1e-7 degrees exactly."""
    if value is None:
        return "", ""
    one = 10**decimals
    degrees, units = divmod(divide(abs(value) * 60 * one, 10_000_000), 60 * one)
    width = 2 if sides == "NS" else 3
    fraction = f".{units % one:0{decimals}d}" if decimals else ""
    return f"{degrees:0{width}d}{units // one:02d}{fraction}", sides[value < 0]
