"""Hours of the day in which something is permitted, across midnight, and days of validity, in a zone of fixed offset.

A window belongs to the day on which it begins: ["20:00", "04:00"] on "sat" ends on Sunday at four. It is half open:
at 20:00:00 it is open, at 04:00:00 it is not. "00:00" to "24:00" is the whole day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal, get_args

from msgspec import Meta

DAY_S: Final = 86_400
WINDOWS_MAX: Final = 24
END_UTC_S: Final = 253_402_300_800
"""First second of the year 10000: the end of what has none."""

HOUR: Final = Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$", description='a time of day "HH:MM"')
DATE: Final = Meta(pattern=r"^$|^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description='a day "YYYY-MM-DD"')
ZONE: Final = Meta(
    pattern=r"^[+-](0[0-9]|1[0-4]):[0-5][0-9]$", description='an offset from UTC, "+08:00"; places have fixed offsets'
)
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[str, ...]] = get_args(Weekday)

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_EPOCH_WEEKDAY: Final = 3  # a Thursday


@dataclass(frozen=True, slots=True)
class Window:
    """One span of local time, in seconds after midnight of the day on which it begins."""

    from_s: int
    to_s: int
    """Greater than `from_s`; past 86,400 where it crosses midnight."""

    def __str__(self) -> str:
        return f"{clock_text(self.from_s)}-{clock_text(self.to_s)}"


@dataclass(frozen=True, slots=True)
class Hours:
    """Windows, on some or all days of the week. Without any window it is always open."""

    windows: tuple[Window, ...] = ()
    weekdays: tuple[bool, ...] = (True,) * 7
    """Monday first: days on which windows begin."""
    zone_s: int = 0

    @property
    def limited(self) -> bool:
        """Whether it is ever closed."""
        return bool(self.windows)

    def open(self, utc_s: int) -> bool:
        """Whether that second lies in a window."""
        if not self.windows:
            return True
        day = (utc_s + self.zone_s) // DAY_S
        return self.open_since(day, utc_s) or self.open_since(day - 1, utc_s)

    def open_since(self, day: int, utc_s: int) -> bool:
        """Whether that second lies in a window that begins on a local day (days since 1970)."""
        second = utc_s + self.zone_s - day * DAY_S
        return self.weekdays[(day + _EPOCH_WEEKDAY) % 7] and any(
            window.from_s <= second < window.to_s for window in self.windows
        )

    def open_on(self, day: int) -> bool:
        """Whether windows begin on a local day (days since 1970)."""
        return self.weekdays[(day + _EPOCH_WEEKDAY) % 7]

    def outside_s(self, utc_s: int) -> int:
        """Seconds to the nearest permitted second, before or after; 0 inside. END_UTC_S where no day has windows."""
        if self.open(utc_s):
            return 0
        local = utc_s + self.zone_s
        day = local // DAY_S
        best = END_UTC_S
        for other in range(day - 8, day + 9):
            if self.weekdays[(other + _EPOCH_WEEKDAY) % 7]:
                for window in self.windows:
                    start = other * DAY_S + window.from_s
                    last = other * DAY_S + window.to_s - 1
                    best = min(best, start - local if start > local else local - last)
        return best

    def __str__(self) -> str:
        if not self.windows:
            return ""
        text = " ".join(str(window) for window in self.windows)
        if all(self.weekdays):
            return text
        return f"{text} ({' '.join(name for name, on in zip(WEEKDAYS, self.weekdays, strict=True) if on)})"


def clock_text(second: int) -> str:
    """72000 -> "20:00"; past midnight it begins again, and the end of the day is "24:00"."""
    second = second if second <= DAY_S else second - DAY_S
    return f"{second // 3600:02d}:{second // 60 % 60:02d}"


def clock_s(text: str) -> int:
    """ "20:00" -> 72000. The text fits HOUR."""
    return int(text[:2]) * 3600 + int(text[3:]) * 60


def zone_s(text: str) -> int:
    """ "+08:00" -> 28800. The text fits ZONE."""
    return (1 if text[0] == "+" else -1) * clock_s(text[1:])


def hours_of(pairs: Sequence[Sequence[str]], weekdays: Sequence[str], offset_s: int) -> tuple[Hours, list[str]]:
    """(hours, what is wrong with them) from [["20:00", "04:00"]] and ["mon", …] (empty: every day)."""
    problems: list[str] = []
    windows: list[Window] = []
    for pair in pairs[:WINDOWS_MAX]:
        if len(pair) != 2:
            problems.append(f'a window is a pair, ["20:00", "04:00"], found {len(pair)} times')
        elif not all(isinstance(item, str) and re.search(str(HOUR.pattern), item) for item in pair):
            problems.append('times of a window are written "HH:MM", from "00:00" to "24:00"')
        else:
            start, end = clock_s(pair[0]), clock_s(pair[1])
            if start in {end, DAY_S}:
                problems.append(f'{pair[0]} to {pair[1]} is no span of time; the whole day is "00:00" to "24:00"')
            else:
                windows.append(Window(start, end if end > start else end + DAY_S))
    if len(pairs) > WINDOWS_MAX:
        problems.append(f"more than {WINDOWS_MAX} windows")
    if weekdays and not pairs:
        problems.append('weekdays without hours; for whole days write hours = [["00:00", "24:00"]]')
    on = tuple(name in weekdays for name in WEEKDAYS) if weekdays else (True,) * 7
    return Hours(tuple(sorted(windows, key=lambda item: (item.from_s, item.to_s))), on, offset_s), problems


def day_number(text: str) -> int | None:
    """Days since 1970 of "2026-06-15"; None where there is no such day."""
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None


def day_text(number: int) -> str:
    """The reverse of `day_number`."""
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def validity(valid_from: str, valid_to: str, offset_s: int) -> tuple[int, int, str]:
    """([from, to) in UTC seconds, what is wrong) of two local days, both included; "" is open."""
    first = day_number(valid_from) if valid_from else None
    last = day_number(valid_to) if valid_to else None
    if (valid_from and first is None) or (valid_to and last is None):
        return 0, END_UTC_S, f"{valid_from if first is None and valid_from else valid_to} is no day of the calendar"
    start = 0 if first is None else first * DAY_S - offset_s
    end = END_UTC_S if last is None else (last + 1) * DAY_S - offset_s
    if start >= end:
        return start, end, f"ends ({valid_to}) before it begins ({valid_from})"
    return start, end, ""
