"""Fan and purifier, currents, silence, flat lines, ranges, jumps, calibration: just below and above, and nuisances."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core import kinds
from gateway.rules.fume_silence import open_s
from gateway.rules.windows import hours_of
from tests.rules.fume_days import (
    CLASS,
    DAY,
    KITCHEN,
    MIDNIGHT,
    H,
    Ledger,
    M,
    files,
    judged,
    names,
    number,
    reading,
    readings,
    rules,
    state,
    wobble,
)  # fmt: skip

FROM = 11 * H
OFF = rules("purifier_off")
CURRENT = rules("purifier_current")
FAN_OFF = rules("fan_off")
OFFLINE = rules("monitor_offline")
FLAT = rules("flat_line")
RANGE = rules("range")
JUMP = rules("jump_value")
CALIBRATION = rules("calibration")
EVERYTHING = rules()
BAND = KITCHEN + "purifier_band_a = [0.8, 2.0]\n"


def cooking(for_s: int, step_s: int = 10, **while_: Any) -> list[dict[str, Any]]:
    """An hour in order, then something else for a while, then in order again."""
    return [
        *readings(FROM - H, FROM, step_s),
        *readings(FROM, FROM + for_s, step_s, **while_),
        *readings(FROM + for_s, FROM + for_s + H, step_s),
    ]


# ------------------------------------------------------------ purifier off


@pytest.mark.parametrize(("for_s", "found"), [(300, []), (310, ["purifier-off"])])
def test_fan_on_while_the_purifier_is_off(for_s: int, found: list[str]) -> None:
    """From the first to the last such reading 290 s, and 300."""
    said = judged(cooking(for_s, purifier="off"), OFF)
    assert [one.rule for one in said] == found
    for one in said:
        assert one.severity == "violation"
        assert (one.start_utc_s, one.end_utc_s) == (MIDNIGHT + FROM, MIDNIGHT + FROM + 300)
        assert one.measured["known_by"] == "state, state"
        assert one.limits["persist_s"] == 300
        assert len(one.inputs) == 31
        assert one.legal_source.endswith("第八十一条")
        assert one.measured["kitchen"] == "k1"
        assert one.firm == "测试饭店"
        assert one.geometry == {}


def test_the_rule_set_says_what_it_is() -> None:
    (one,) = judged(cooking(400, purifier="off"), rules("purifier_off", purifier_off='severity = "lead"'))
    assert one.severity == "lead"
    assert one.text["zh"].startswith("线索：")


@pytest.mark.parametrize(
    ("fan", "purifier", "found"),
    [(0.5, 0.199999, ["purifier-off"]), (0.499999, 0.0, []), (0.5, 0.2, []), (3.0, 0.0, ["purifier-off"])],
)
def test_by_currents_where_there_are_no_states(fan: float, purifier: float, found: list[str]) -> None:
    items = readings(FROM, FROM + 400, 10, fan=None, purifier=None)
    for one in items:
        one["values"] += [number("fan_current", fan), number("purifier_current", purifier)]
    said = judged([*items, reading(FROM + 400)], OFF)
    assert [one.rule for one in said] == found
    assert all(one.measured["known_by"] == "current, current" for one in said)


def test_thresholds_of_the_kitchen() -> None:
    items = readings(FROM, FROM + 400, 10, fan="on", purifier=None, current=0.5)
    assert names(items, OFF) == []
    assert names(items, OFF, KITCHEN + "purifier_on_a = 0.6") == ["purifier-off"]


@pytest.mark.parametrize(
    "while_",
    [
        {"fan": "off", "purifier": "off"},  # closed
        {"fan": None, "purifier": "off"},  # not known whether the fan runs
        {"fan": "on", "purifier": None},
        {"fan": "on", "purifier": "fault"},  # neither on nor off
        {"fan": "maintenance", "purifier": "off"},
    ],
)
def test_what_is_not_known_is_not_said(while_: dict[str, Any]) -> None:
    items = readings(FROM, FROM + H, 10, **while_)
    assert names(items, OFF) == []


def test_lunch_break_and_night_are_in_order() -> None:
    items = [
        *readings(10 * H, 14 * H, 60, lambda t: wobble(t, 0.9), current=1.2),
        *readings(14 * H, 17 * H, 60, lambda _t: 0.01, fan="off", purifier="off", current=0.0),
        *readings(17 * H, 21 * H, 60, lambda t: wobble(t, 0.9), current=1.2),
        *readings(21 * H, 28 * H, 60, lambda _t: 0.0, fan="off", purifier="off", current=0.0),
    ]
    assert names(items, EVERYTHING, BAND, until_s=28 * H + 400) == []


def test_a_moment_of_purifier_ends_what_is_not_certain_and_does_not_divide_what_is() -> None:
    short = cooking(580, purifier="off")
    short[360 + 29]["values"][-1]["state"] = "on"
    assert names(short, OFF) == []
    long = cooking(1200, purifier="off")
    long[360 + 60]["values"][-1]["state"] = "on"
    assert names(long, OFF) == ["purifier-off"]
    for n in range(60, 68):
        long[360 + n]["values"][-1]["state"] = "on"
    assert names(long, OFF) == ["purifier-off", "purifier-off"]


def test_a_gap_proves_nothing() -> None:
    """Two readings that show it, ten minutes apart: nothing is known of the time between."""
    items = [reading(FROM, purifier="off"), reading(FROM + 600, purifier="off"), reading(FROM + 700)]
    assert names(items, OFF) == []


def test_states_and_values_may_come_apart() -> None:
    items = []
    for time_s in range(FROM, FROM + 400, 10):
        items.append({**reading(time_s, None), "values": [state("fan_state", "on")]})
        items.append({**reading(time_s + 1, None), "values": [state("purifier_state", "off")]})
    assert names(items, OFF) == ["purifier-off"]


def test_ducts_are_told_apart() -> None:
    items = readings(FROM, FROM + 400, 10, fan=None, purifier=None)
    for one in items:
        one["values"] += [
            state("fan_state", "on", channel="1"), state("purifier_state", "off", channel="1"),
            state("fan_state", "off", channel="2"), state("purifier_state", "off", channel="2"),
            state("fan_state", "on", channel="3"), state("purifier_state", "off", channel="3"),
        ]  # fmt: skip
    found = judged(items, OFF)
    assert [(one.rule, one.subject) for one in found] == [("purifier-off", "1"), ("purifier-off", "3")]


# ------------------------------------------------------------ currents


@pytest.mark.parametrize(
    ("current", "found"),
    [
        (0.8, []),
        (2.0, []),
        (0.799999, ["purifier-current"]),
        (2.000001, ["purifier-current"]),
        (0.1, ["purifier-current"]),
    ],
)
def test_a_configured_band(current: float, found: list[str]) -> None:
    said = judged(readings(FROM, FROM + 620, 10, current=current), CURRENT, BAND)
    assert [one.rule for one in said] == found
    for one in said:
        assert one.severity == "lead"
        assert (one.limits["band_low_a_e6"], one.limits["band_high_a_e6"]) == (800_000, 2_000_000)
        assert one.limits["band"] == "configured"
        assert one.peak["current_a_e6"] == round(current * 1e6)


@pytest.mark.parametrize(("for_s", "found"), [(600, []), (610, ["purifier-current"])])
def test_outside_the_band_for_so_long(for_s: int, found: list[str]) -> None:
    items = [*readings(FROM, FROM + for_s, 10, current=0.3), *readings(FROM + for_s, FROM + H, 10, current=1.0)]
    assert names(items, CURRENT, BAND) == found


def test_a_purifier_at_rest_has_no_band() -> None:
    assert names(readings(FROM, FROM + H, 10, purifier="off", current=0.0), CURRENT, BAND) == []
    assert names(readings(FROM, FROM + H, 10, fan="off", current=0.1), CURRENT, BAND) == []


def days_of(currents: list[float], step_s: int = 60) -> list[dict[str, Any]]:
    """From noon to 16:00 of day after day, with a current that scatters by 4 %."""
    found = []
    for day, current in enumerate(currents):
        for time_s in range(day * DAY + 12 * H, day * DAY + 16 * H, step_s):
            scattered = current * (1 + (time_s // step_s % 9 - 4) / 100)
            found.append(reading(time_s, wobble(time_s), current=round(scattered, 3)))
    return found


@pytest.mark.parametrize(
    ("currents", "found"),
    [
        ([1.0, 1.0, 1.0, 0.5], 1),
        ([1.0, 1.0, 0.5], 0),  # two days are too few
        ([1.0, 1.0, 1.0, 0.8], 0),
        ([1.0, 1.0, 1.0, 1.5], 1),
    ],
)
def test_a_learnt_band(currents: list[float], found: int) -> None:
    said = judged(days_of(currents), CURRENT)
    assert [one.rule for one in said] == ["purifier-current"] * found
    for one in said:
        assert one.start_utc_s == MIDNIGHT + 3 * DAY + 12 * H
        assert one.limits["band"] == "learnt"
        assert (one.limits["learnt_days"], one.limits["learnt_values"]) == (3, 720)
        assert (one.limits["learnt_low_a_e6"], one.limits["learnt_high_a_e6"]) == (960_000, 1_050_000)
        assert (one.limits["band_low_a_e6"], one.limits["band_high_a_e6"]) == (672_000, 1_365_000)


def test_what_comes_late_teaches_too() -> None:
    """A day that arrives when the next ones are over: they are judged again, to the same as if it had come in time."""
    items = days_of([1.0, 1.0, 1.0, 0.5, 0.5])
    plain, late = Ledger(files(CURRENT)), Ledger(files(CURRENT))
    plain.live(items)
    plain.end()
    day = [one for one in items if DAY <= one["taken_utc_s"] - MIDNIGHT < 2 * DAY]
    late.live([one for one in items if one not in day])
    late.due()
    assert [one.start_utc_s for one in late.findings()] == [MIDNIGHT + 4 * DAY + 12 * H]
    late.late(day, 4 * DAY + 17 * H)
    late.end()
    late.due()
    assert [one.rule for one in plain.findings()] == ["purifier-current"] * 2
    assert [(one.id, one.limits, one.measured) for one in late.findings()] == [
        (one.id, one.limits, one.measured) for one in plain.findings()
    ]


# ------------------------------------------------------------ much fume, fan off


@pytest.mark.parametrize(
    ("value", "for_s", "found"), [(1.0, 900, []), (1.001, 610, ["fume-fan-off"]), (1.001, 600, [])]
)
def test_fume_while_the_fan_is_off(value: float, for_s: int, found: list[str]) -> None:
    items = readings(FROM, FROM + for_s, 10, lambda _t: value, fan="off", purifier="off")
    said = judged([*items, reading(FROM + for_s, 0.1)], FAN_OFF)
    assert [one.rule for one in said] == found
    assert all(one.severity == "lead" for one in said)


# ------------------------------------------------------------ silence


@pytest.mark.parametrize(("silent_s", "found"), [(900, []), (901, ["monitor-offline"])])
def test_silence_in_business_hours(silent_s: int, found: list[str]) -> None:
    items = [*readings(10 * H, FROM + 1, 60), *readings(FROM + silent_s, 14 * H, 60)]
    said = judged(items, OFFLINE)
    assert [one.rule for one in said] == found
    for one in said:
        assert (one.start_utc_s, one.end_utc_s) == (MIDNIGHT + FROM, MIDNIGHT + FROM + silent_s)
        assert one.severity == "fault"
        assert len(one.inputs) == 2
        assert one.measured["silent_in_hours_s"] == silent_s


def test_silence_while_closed_is_none() -> None:
    assert names([*readings(10 * H, 14 * H), *readings(16 * H + 30 * M, 22 * H)], OFFLINE) == []


@pytest.mark.parametrize(("opens_s", "found"), [(10 * H + 900, []), (10 * H + 901, ["monitor-offline"])])
def test_silence_from_the_opening_on(opens_s: int, found: list[str]) -> None:
    items = readings(-DAY + 10 * H, -DAY + 21 * H + 30 * M) + readings(opens_s, 14 * H)
    said = judged(items, OFFLINE)
    assert [one.rule for one in said] == found
    assert all(one.start_utc_s == MIDNIGHT + 10 * H for one in said)


def test_silence_that_lasts_is_open_and_ends_with_the_day() -> None:
    ledger = Ledger(files(OFFLINE))
    ledger.live(readings(10 * H, 12 * H))
    assert ledger.rules(12 * H - M + 901) == []
    assert ledger.rules(12 * H - M + 902) == ["monitor-offline"]
    (one,) = ledger.findings(13 * H)
    assert one.end_utc_s is None
    assert one.measured.get("silent_in_hours_s") is None
    (one,) = ledger.findings(DAY + 4 * H + 10)
    assert one.end_utc_s == MIDNIGHT + DAY + 4 * H


def test_what_was_stored_fills_the_silence() -> None:
    ledger = Ledger(files(OFFLINE))
    items = readings(10 * H, 14 * H)
    ledger.live(items[:60])
    assert ledger.rules(12 * H) == ["monitor-offline"]
    ledger.live(items[150:155])
    ledger.late(items[60:150], 12 * H + 35 * M)
    ledger.live(items[155:])
    assert ledger.rules() == []


def test_the_link_says_why() -> None:
    ledger = Ledger(files(OFFLINE))
    ledger.live(readings(10 * H, 11 * H))
    ledger.add(kinds.DEVICE_STATE, "hj", "M1", {"class": CLASS, "state": "offline", "reason": "reset"}, 11 * H)
    (one,) = ledger.findings(12 * H)
    assert one.measured["cause"] == "offline"
    assert len(one.inputs) == 2
    assert "链路中断" in one.text["zh"]


def test_while_the_gateway_was_down_nobody_was_silent() -> None:
    ledger = Ledger(files(OFFLINE))
    ledger.live(readings(10 * H, 11 * H))
    ledger.add(kinds.GATEWAY_START, "gateway", "", {}, 12 * H)
    ledger.live(readings(12 * H + M, 14 * H))
    assert ledger.rules(14 * H) == []


def test_before_the_gateway_ever_ran_nobody_was_silent() -> None:
    ledger = Ledger()
    ledger.load(files(OFFLINE), 12 * H)
    ledger.add(kinds.GATEWAY_START, "gateway", "", {}, 12 * H)
    ledger.live(readings(12 * H + M, 14 * H))
    assert ledger.rules(14 * H) == []


def test_a_monitor_of_no_kitchen_has_no_hours() -> None:
    assert (
        names(
            [*readings(10 * H, 11 * H), *readings(13 * H, 14 * H)],
            OFFLINE,
            '[[kitchen]]\nid = "k"\nname = "n"\ndevices = ["x"]',
        )
        == []
    )


def test_business_seconds() -> None:
    hours, _problems = hours_of([["22:00", "02:00"], ["23:00", "03:00"]], ["mon"], 8 * H)
    assert open_s(hours, MIDNIGHT, MIDNIGHT + 2 * DAY) == 5 * H
    assert open_s(hours, MIDNIGHT + DAY + H, MIDNIGHT + DAY + 2 * H) == H
    assert open_s(hours, MIDNIGHT + DAY + 3 * H, MIDNIGHT + DAY + 9 * H) == 0


# ------------------------------------------------------------ flat line


@pytest.mark.parametrize(("for_s", "found"), [(3660, []), (3720, ["flat-line"])])
def test_a_flat_line_in_business_hours(for_s: int, found: list[str]) -> None:
    """The first value of a row shows nothing yet, so the row begins with the second."""
    items = [
        *readings(10 * H, 10 * H + for_s, 60, lambda _t: 0.35),
        *readings(10 * H + for_s, 14 * H, 60),
    ]
    said = judged(items, FLAT)
    assert [one.rule for one in said] == found
    assert all(one.peak["fume_mg_m3_e6"] == 350_000 for one in said)


@pytest.mark.parametrize(
    ("value", "fan", "found"),
    [(0.0, "on", ["flat-line"]), (0.3, "off", []), (0.02, None, []), (0.021, None, ["flat-line"])],
)
def test_flat_means_something_while_the_fan_runs(value: float, fan: str | None, found: list[str]) -> None:
    assert names(readings(10 * H, 13 * H, 60, lambda _t: value, fan=fan), FLAT) == found


def test_flat_while_closed_is_nothing() -> None:
    assert names(readings(14 * H, 16 * H + 30 * M, 60, lambda _t: 0.35), FLAT) == []


# ------------------------------------------------------------ range


@pytest.mark.parametrize(
    ("value", "count", "found"),
    [(-0.1, 9, []), (-0.100001, 3, ["out-of-range"]), (-0.5, 2, []), (30.0, 9, []), (30.000001, 3, ["out-of-range"])],
)
def test_values_that_cannot_be(value: float, count: int, found: list[str]) -> None:
    items = readings(FROM, FROM + H, 60, lambda t: value if FROM + 600 <= t < FROM + 600 + count * 60 else wobble(t))
    said = judged(items, RANGE)
    assert [one.rule for one in said] == found
    assert all(one.severity == "fault" and one.subject == "" for one in said)


def test_currents_have_a_range_and_are_told_beside() -> None:
    items = readings(FROM, FROM + 600, 60, lambda _t: -9.0, current=-3.0)
    found = judged(items, RANGE)
    assert [(one.rule, one.subject) for one in found] == [("out-of-range", ""), ("out-of-range", "purifier_current")]


def test_what_cannot_be_is_never_valid() -> None:
    items = [*readings(FROM, FROM + H, 60, lambda _t: 31.0), reading(FROM + H)]
    assert names(items, rules("fume_limit")) == ["fume-limit"]
    assert names(items, rules("fume_limit", "range")) == ["out-of-range"]


# ------------------------------------------------------------ jump


@pytest.mark.parametrize(
    ("before", "after", "count", "found"),
    [
        (0.2, 2.2, 3, ["value-jump"]),
        (0.2, 2.2, 2, []),  # a spike of two values
        (0.2, 1.8, 30, []),  # less than ten times
        (0.08, 2.0, 30, []),  # from below the floor: cooking begins
        (3.0, 0.2, 3, ["value-jump"]),
    ],
)
def test_an_order_of_magnitude(before: float, after: float, count: int, found: list[str]) -> None:
    items = readings(FROM, FROM + 900, 10, lambda t: wobble(t, after if 300 <= t - FROM < 300 + 10 * count else before))
    said = [one.rule for one in judged(items, JUMP)]
    assert said[:1] == found


def test_a_jump_when_the_fan_is_switched_is_none() -> None:
    items = [
        *readings(FROM, FROM + 300, 10, lambda t: wobble(t, 0.2), fan="off"),
        *readings(FROM + 300, FROM + 900, 10, lambda t: wobble(t, 4.0), fan="on"),
    ]
    assert names(items, JUMP) == []


def test_a_jump_is_one_event() -> None:
    items = readings(FROM, FROM + 1200, 10, lambda t: wobble(t, 0.2 if t < FROM + 600 else 5.0))
    (one,) = judged(items, JUMP)
    assert (one.start_utc_s, one.end_utc_s) == (MIDNIGHT + FROM + 600, MIDNIGHT + FROM + 620)
    assert len(one.inputs) == 3


# ------------------------------------------------------------ calibration


@pytest.mark.parametrize(
    ("until", "found"), [("2026-06-15", []), ("2026-06-14", [1]), ("2026-06-13", []), ("2026-06-07", [8])]
)
def test_calibration_that_has_run_out(until: str, found: list[int]) -> None:
    """Told on the first day, and every seventh after it."""
    said = judged(readings(10 * H, 11 * H), CALIBRATION, KITCHEN + f"calibrated_until = {until}\n")
    assert [one.measured["overdue_days"] for one in said] == found
    assert all((one.rule, one.end_utc_s, one.inputs) == ("calibration", MIDNIGHT + 10 * H, (2,)) for one in said)


# ------------------------------------------------------------ what is judged at all, and when


@pytest.mark.parametrize("flag", ["unlisted", "undecrypted", "incomplete", "no-time", "future", "stale"])
def test_quarantine_and_doubtful_records_are_never_judged(flag: str) -> None:
    items = readings(FROM, FROM + 900, 10, 9.0, purifier="off", flags=flag)
    assert names(items, rules("purifier_off", "fume_sustained", "jump_value", "range")) == []


def test_quality_that_is_not_good_counts_for_nothing() -> None:
    items = readings(FROM, FROM + 900, 10, purifier="off")
    for one in items:
        one["values"][-1]["quality"] = "suspect"
    assert names(items, OFF) == []


def test_a_clock_that_is_off_by_a_known_offset_is_corrected() -> None:
    """A year ahead: judged by arrival less nothing but the offset, and the finding says so."""
    items = cooking(400, purifier="off")
    wrong = [
        {**one, "taken_utc_s": one["taken_utc_s"] + 365 * DAY, "flags": "clock-off future", "clock_offset_s": 365 * DAY}
        for one in items
    ]
    ledger = Ledger(files(OFF))
    for one, plain in zip(wrong, items, strict=True):
        ledger.add(kinds.READING, "hj", "M1", one, plain["taken_utc_s"] - MIDNIGHT + 1)
    (found,) = ledger.findings(FROM + 2 * H)
    assert found.start_utc_s == MIDNIGHT + FROM
    assert found.measured["clock_corrected_by_s"] == -365 * DAY


def test_a_device_without_a_clock_stands_at_its_arrival() -> None:
    ledger = Ledger(files(OFF, KITCHEN.replace("hj/M1", "M1")))
    for one in cooking(400, purifier="off"):
        taken_s = one.pop("taken_utc_s")
        ledger.add(kinds.READING, "bus", "M1", one, taken_s - MIDNIGHT)
    (found,) = ledger.findings(FROM + 2 * H)
    assert (found.start_utc_s, found.source) == (MIDNIGHT + FROM, "bus")


def test_other_classes_and_books_without_rules_for_kitchens_are_left_alone() -> None:
    items = [{**one, "class": "scale"} for one in cooking(900, purifier="off")]
    assert names(items, OFF) == []
    bare = 'format = "rules/v1"\nid = "a"\ntitle = "b"\nvalid_from = 2026-01-01\nclasses = ["fume-monitor"]\n[stop]\n'
    assert names(cooking(900, purifier="off"), bare) == []
