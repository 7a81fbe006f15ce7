"""Hours across midnight, days of the week, validity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.windows import (
    DAY_S,
    END_UTC_S,
    WEEKDAYS,
    Hours,
    Window,
    clock_text,
    day_number,
    day_text,
    hours_of,
    validity,
    zone_s,
)

EAST_8 = timezone(timedelta(hours=8))


def utc_s(text: str) -> int:
    """Seconds of a local time in China."""
    return int(datetime.fromisoformat(text).replace(tzinfo=EAST_8).timestamp())


def hours(*pairs: tuple[str, str], days: tuple[str, ...] = ()) -> Hours:
    found, problems = hours_of([list(pair) for pair in pairs], days, 28_800)
    assert problems == []
    return found


NIGHT = hours(("20:00", "04:00"))


@pytest.mark.parametrize(
    ("time", "is_open", "outside_s"),
    [
        ("2026-06-15 20:00:00", True, 0),
        ("2026-06-15 19:59:59", False, 1),
        ("2026-06-15 19:55:00", False, 300),
        ("2026-06-16 00:00:00", True, 0),
        ("2026-06-16 03:59:59", True, 0),
        ("2026-06-16 04:00:00", False, 1),
        ("2026-06-16 04:05:00", False, 301),
        ("2026-06-16 12:00:00", False, 28_800),
    ],
)
def test_a_window_across_midnight_is_half_open(time, is_open, outside_s):
    assert NIGHT.open(utc_s(time)) is is_open
    assert NIGHT.outside_s(utc_s(time)) == outside_s


def test_the_day_on_which_an_open_window_began():
    days = [day_number(f"2026-06-{day}") for day in (14, 15, 16)]
    assert [NIGHT.open_since(day, utc_s("2026-06-15 23:00")) for day in days] == [False, True, False]
    assert [NIGHT.open_since(day, utc_s("2026-06-16 03:00")) for day in days] == [False, True, False]
    assert [NIGHT.open_since(day, utc_s("2026-06-16 05:00")) for day in days] == [False, False, False]
    assert not Hours().open_since(0, 0)


def test_days_of_the_week_are_those_on_which_a_window_begins():
    saturday = hours(("20:00", "04:00"), days=("sat",))
    assert saturday.open(utc_s("2026-06-20 21:00"))  # a Saturday
    assert saturday.open(utc_s("2026-06-21 03:00"))
    assert not saturday.open(utc_s("2026-06-20 03:00"))
    assert not saturday.open(utc_s("2026-06-21 21:00"))
    assert saturday.outside_s(utc_s("2026-06-21 21:00")) == 17 * 3600 + 1
    assert saturday.outside_s(utc_s("2026-06-24 20:00")) == 3 * DAY_S
    assert str(saturday) == "20:00-04:00 (sat)"


def test_no_windows_is_always_open_and_the_whole_day_too():
    assert Hours().open(0)
    assert Hours().outside_s(12345) == 0
    assert not Hours().limited
    assert str(Hours()) == ""
    day = hours(("00:00", "24:00"))
    assert day.limited
    assert all(day.open(utc_s(f"2026-06-15 {clock}")) for clock in ("00:00:00", "23:59:59", "12:00:00"))
    assert str(day) == "00:00-24:00"


def test_several_windows():
    split = hours(("15:00", "17:00"), ("07:00", "08:30"), ("22:00", "02:00"))
    assert str(split) == "07:00-08:30 15:00-17:00 22:00-02:00"
    assert [split.open(utc_s(f"2026-06-15 {clock}")) for clock in ("07:00", "08:30", "16:00", "23:30", "01:00")] == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert split.outside_s(utc_s("2026-06-15 08:40")) == 601


@pytest.mark.parametrize(
    ("pairs", "days", "message"),
    [
        ([["20:00"]], (), 'a window is a pair, ["20:00", "04:00"], found 1 times'),
        ([["8:00", "09:00"]], (), 'times of a window are written "HH:MM", from "00:00" to "24:00"'),
        ([["08:00", "24:30"]], (), 'times of a window are written "HH:MM", from "00:00" to "24:00"'),
        ([["08:00", "08:00"]], (), '08:00 to 08:00 is no span of time; the whole day is "00:00" to "24:00"'),
        ([["24:00", "08:00"]], (), '24:00 to 08:00 is no span of time; the whole day is "00:00" to "24:00"'),
        ([], ("sat",), 'weekdays without hours; for whole days write hours = [["00:00", "24:00"]]'),
        ([["08:00", "09:00"]] * 25, (), "more than 24 windows"),
    ],
)
def test_what_is_no_window(pairs, days, message):
    assert hours_of(pairs, days, 0)[1] == [message]


windows = st.lists(st.tuples(st.integers(0, 1439), st.integers(1, 1440)), min_size=1, max_size=3)


@given(
    windows,
    st.sets(st.sampled_from(WEEKDAYS), min_size=1),
    st.integers(0, 20 * DAY_S),
    st.sampled_from((0, 28_800, -16_200)),
)
def test_open_and_outside_against_a_walk_by_the_minute(pairs, days, second, offset):
    """The oracle writes out every window of every day, in minutes of UTC."""
    second = second // 60 * 60
    made = Hours(
        tuple(Window(start * 60, (start + length) * 60) for start, length in pairs),
        tuple(name in days for name in WEEKDAYS),
        offset,
    )
    spans = []
    for day in range(-10, 32):
        if WEEKDAYS[datetime.fromtimestamp(day * DAY_S, UTC).weekday()] in days:
            spans += [(day * DAY_S + s * 60 - offset, day * DAY_S + (s + n) * 60 - offset) for s, n in pairs]
    opened = any(start <= second < end for start, end in spans)
    assert made.open(second) == opened
    nearest = min(start - second if start > second else second - (end - 1) for start, end in spans)
    assert made.outside_s(second) == max(0, nearest)


def test_validity_in_local_days():
    start, end, problem = validity("2026-06-15", "2026-06-15", 28_800)
    assert problem == ""
    assert (start, end) == (utc_s("2026-06-15 00:00"), utc_s("2026-06-16 00:00"))
    assert validity("", "", 28_800) == (0, END_UTC_S, "")
    assert validity("2026-06-16", "2026-06-15", 0)[2] == "ends (2026-06-15) before it begins (2026-06-16)"
    assert validity("2026-02-30", "", 0)[2] == "2026-02-30 is no day of the calendar"
    assert validity("2026-02-20", "2026-13-01", 0)[2] == "2026-13-01 is no day of the calendar"


def test_texts():
    assert [clock_text(second) for second in (0, 72_000, DAY_S, DAY_S + 4 * 3600)] == [
        "00:00",
        "20:00",
        "24:00",
        "04:00",
    ]
    assert [zone_s(text) for text in ("+08:00", "-03:30", "+00:00")] == [28_800, -12_600, 0]
    assert day_text(day_number("2026-06-15")) == "2026-06-15"
    assert day_number("1970-01-01") == 0
