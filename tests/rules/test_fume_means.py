"""Means against limits: validity, conversion, whose means, which limit; just below and just above."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.means import converted, quantile, rounded
from tests.rules.fume_days import (
    DAY,
    KITCHEN,
    MIDNIGHT,
    Data,
    H,
    Ledger,
    M,
    files,
    judged,
    mean,
    names,
    number,
    reading,
    readings,
    rules,
    wobble,
)  # fmt: skip

HOUR = rules("fume_limit")
ROW = rules("fume_sustained")
FROM = 11 * H
STOVES = KITCHEN + "stoves = 2\nfan_flow_m3_h = 6000\n"


def hour(value: float, step_s: int = 60) -> list[Data]:
    """An hour of one and the same concentration, and a reading behind it."""
    return [*readings(FROM, FROM + H, step_s, lambda _t: value), reading(FROM + H)]


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**9))
def test_rounding_is_half_to_even(numerator: int, denominator: int) -> None:
    assert (
        rounded(numerator, denominator) == round(Decimal(numerator) / Decimal(denominator)) or abs(numerator) > 10**15
    )
    assert rounded(5, 2) == 2
    assert rounded(7, 2) == 4
    assert rounded(-5, 2) == -2


def test_conversion_to_the_base_air_volume() -> None:
    assert converted(2_000_000, 6000 * 10**6, 2, 2000) == 3_000_000
    assert converted(1_333_333, 6000 * 10**6, 2, 2000) == 2_000_000  # 1999999.5, to even


def test_quantiles_are_of_whole_classes() -> None:
    counts = {3: 10, 5: 80, 9: 10}
    assert [quantile(counts, permille) for permille in (0, 50, 100, 101, 900, 950, 1000)] == [3, 3, 3, 5, 5, 9, 9]


@pytest.mark.parametrize(("value", "found"), [(2.0, []), (2.000001, ["fume-limit"]), (1.999999, [])])
def test_an_hour_at_the_limit(value: float, found: list[str]) -> None:
    assert names(hour(value), HOUR) == found


@pytest.mark.parametrize(
    ("minutes", "found"),
    [(30, ["fume-sustained"]), (29, []), (20, []), (40, ["fume-sustained"])],
)
def test_so_many_windows_in_a_row(minutes: int, found: list[str]) -> None:
    """The 29th minute leaves a third window whose mean is 2.1 x 9 / 10 and a little: below the limit."""
    items = readings(FROM, FROM + H, 60, lambda t: 2.1 if t < FROM + minutes * M else 0.1)
    assert names(items, ROW) == found


def test_windows_in_a_row_are_one_event_with_begin_end_and_peak() -> None:
    items = readings(10 * H, 14 * H, 60, lambda t: 2.4 if FROM <= t < FROM + 40 * M else 0.5)
    items[FROM // 60 - 600 + 17]["values"][0]["value_e6"] = 9_000_000
    (one,) = judged(items, ROW)
    assert (one.start_utc_s, one.end_utc_s) == (MIDNIGHT + FROM, MIDNIGHT + FROM + 40 * M)
    assert one.severity == "lead"
    assert one.measured["windows"] == 4
    assert one.measured["mean_max_mg_m3_e6"] == round((9 * 2.4 + 9) / 10 * 1e6)
    assert one.peak["time_utc_s"] == MIDNIGHT + FROM + 17 * M
    assert one.limits["limit_mg_m3_e6"] == 2_000_000
    assert len(one.inputs) == 40
    assert (one.text["en"][:6], one.text["zh"][:3]) == ("Lead: ", "线索：")
    assert "manual sampling" in one.text["en"]
    assert "现场采样" in one.text["zh"]


@pytest.mark.parametrize(("missing", "found"), [(15, ["fume-limit"]), (16, [])])
def test_three_quarters_of_the_minutes_must_be_there(missing: int, found: list[str]) -> None:
    items = [one for n, one in enumerate(hour(3.0)) if not (n % 3 == 1 and n < 3 * missing)]
    assert names(items, HOUR) == found


@pytest.mark.parametrize(("bad", "found"), [(15, ["fume-limit"]), (16, [])])
def test_three_quarters_of_the_minutes_must_be_good(bad: int, found: list[str]) -> None:
    items = hour(3.0)
    for one in items[:bad]:
        one["values"][0] |= {"quality": "suspect", "why": "mark-M", "mark": "M"}
    assert names(items, HOUR) == found


@pytest.mark.parametrize(("share", "found"), [(4, []), (5, ["fume-limit"])])
def test_a_minute_of_six_values_wants_five_good_ones(share: int, found: list[str]) -> None:
    items = hour(3.0, 10)
    for n, one in enumerate(items):
        if n % 6 >= share:
            one["values"][0]["quality"] = "bad"
    assert names(items, HOUR, KITCHEN + "interval_s = 10") == found


def test_values_that_were_to_come_and_did_not_are_missing() -> None:
    items = [one for n, one in enumerate(hour(3.0, 10)) if n % 6 < 4]
    assert names(items, HOUR) == ["fume-limit"]
    assert names(items, HOUR, KITCHEN + "interval_s = 10") == []


def test_one_spike_is_no_exceedance() -> None:
    items = readings(10 * H, 14 * H, 10, lambda t: 15.0 if t == NOON_ISH else 0.4)
    assert names(items, rules("fume_limit", "fume_sustained")) == []


NOON_ISH = 12 * H + 10


def test_slow_monitors_have_longer_minutes() -> None:
    items = readings(FROM, FROM + H + 1, 300, lambda _t: 2.2)
    assert names(items, HOUR) == []
    assert names(items, HOUR, KITCHEN + "interval_s = 300") == ["fume-limit"]


def test_the_limit_of_the_place_by_its_date() -> None:
    local = """
    [[limit]]
    limit_mg_m3 = 1.5
    source = "DB-1"
    valid_to = 2026-06-14
    [[limit]]
    limit_mg_m3 = 1.0
    source = "DB-2"
    valid_from = 2026-06-15
    """
    (one,) = judged(hour(1.2), HOUR, local + KITCHEN)
    assert (one.limits["limit_mg_m3_e6"], one.limits["limit_source"]) == (1_000_000, "DB-2")
    day_before = [{**one, "taken_utc_s": one["taken_utc_s"] - DAY} for one in hour(1.2)]
    assert names(day_before, HOUR, local + KITCHEN) == []
    assert names(hour(1.2), HOUR, local + KITCHEN + 'limit_mg_m3 = 1.3\nlimit_source = "令1号"') == []
    assert names(hour(1.2), HOUR) == []
    assert names(hour(1.2), rules("fume_limit", fume_limit="limit_mg_m3 = 1.1")) == ["fume-limit"]


@pytest.mark.parametrize(("value", "found"), [(1.333333, []), (1.333334, ["fume-limit"])])
def test_converted_where_stoves_and_flow_are_known(value: float, found: list[str]) -> None:
    """6000 m3/h over two stoves: 1.5 times the measured value."""
    said = judged(hour(value), HOUR, STOVES)
    assert [one.rule for one in said] == found
    for one in said:
        assert one.measured["basis"] == "reference-flow"
        assert one.measured["as_measured_mg_m3_e6"] == 1_333_334
        assert one.measured["mean_max_mg_m3_e6"] == 2_000_001
        assert (one.measured["flow_m3_h"], one.measured["flow_source"]) == (6000, "configured")
        assert (one.limits["stoves"], one.limits["stove_flow_m3_h"]) == (2, 2000)
        assert "已折算基准风量" in one.text["zh"]


def test_a_measured_flow_comes_before_the_configured_one() -> None:
    items = hour(1.5)
    for one in items:
        one["values"].append(number("flow", 1.25))
    (found,) = judged(items, rules("fume_limit", fume_limit="limit_mg_m3 = 1.0"), STOVES)
    assert (found.measured["flow_m3_h"], found.measured["flow_source"]) == (4500, "measured")
    assert found.measured["mean_max_mg_m3_e6"] == 1_687_500


def test_the_rule_set_can_say_that_nothing_is_converted() -> None:
    measured = rules("fume_limit", readings='basis = "measured"')
    assert names(hour(1.9), HOUR, STOVES) == ["fume-limit"]
    assert names(hour(1.9), measured, STOVES) == []


def test_what_the_device_has_converted_is_another_number() -> None:
    items = hour(2.5)
    for one in items:
        one["values"].append(number("fume_converted", 1.4))
    by_device = rules("fume_limit", readings='basis = "device-converted"')
    assert names(items, HOUR) == ["fume-limit"]
    assert names(items, by_device) == []
    for one in items:
        one["values"][-1]["value_e6"] = 2_100_000
    (found,) = judged(items, by_device)
    assert found.measured["basis"] == "device-converted"


def test_two_ducts_are_two_events_and_not_converted() -> None:
    items = hour(2.5)
    for one in items:
        one["values"] = [number("fume", 2.5, channel="1"), number("fume", 2.6, channel="2")]
    found = judged(items, HOUR, STOVES)
    assert [(one.rule, one.subject, one.measured["basis"]) for one in found] == [
        ("fume-limit", "1", "as-measured"),
        ("fume-limit", "2", "as-measured"),
    ]
    assert len({one.id for one in found}) == 2


@pytest.mark.parametrize(("value", "found"), [(2.0, []), (2.01, ["fume-limit"])])
def test_means_by_the_device_are_used_as_they_are(value: float, found: list[str]) -> None:
    items = [mean(FROM, value), reading(FROM + H + 30, None)]
    said = judged(items, HOUR)
    assert [one.rule for one in said] == found
    for one in said:
        assert one.measured["basis"] == "device-mean, as-measured"
        assert len(one.inputs) == 1


def test_ours_come_before_the_devices_and_are_never_mixed() -> None:
    items = [*hour(0.5), mean(FROM, 5.0)]
    assert names(items, HOUR) == []
    few = [one for n, one in enumerate(hour(0.5)) if n % 2]
    (one,) = judged([*few, mean(FROM, 5.0), reading(FROM + H)], HOUR)
    assert one.measured["mean_max_mg_m3_e6"] == 5_000_000
    assert one.measured["basis"] == "device-mean, as-measured"
    ten = [mean(FROM + n * 600, 2.5, 600, "2051") for n in range(2)]
    ours = readings(FROM + 1200, FROM + 1800, 60, lambda _t: 2.5)
    assert names([*ten, *ours, reading(FROM + 2400)], ROW) == []
    assert names([*ten, mean(FROM + 1200, 2.5, 600, "2051"), reading(FROM + 2400)], ROW) == ["fume-sustained"]


@pytest.mark.parametrize(("minutes", "found"), [(44, []), (45, ["fume-limit"])])
def test_minute_values_of_the_device_make_an_hour(minutes: int, found: list[str]) -> None:
    items = [mean(FROM + n * 60, 2.5, 60, "2051") for n in range(minutes)]
    assert names([*items, items[3], reading(FROM + H)], HOUR) == found


def test_a_device_mean_that_is_not_good_counts_for_nothing() -> None:
    assert names([mean(FROM, 5.0, quality="suspect"), reading(FROM + H + 1)], HOUR) == []


def test_a_daily_mean_is_not_judged() -> None:
    assert names([mean(4 * H, 5.0, DAY, "2031"), reading(DAY + 4 * H)], HOUR, until_s=DAY + 4 * H + 100) == []


def test_the_last_window_is_judged_though_the_monitor_falls_silent() -> None:
    items = readings(FROM, FROM + H, 60, lambda _t: 2.5)
    ledger = Ledger(files(HOUR))
    ledger.live(items)
    assert ledger.rules(FROM + H + 100) == []
    assert ledger.rules(FROM + H + 301) == ["fume-limit"]
    (one,) = ledger.findings(FROM + H + 301)
    assert one.end_utc_s is None


def test_open_and_closed() -> None:
    ledger = Ledger(files(HOUR))
    ledger.live(readings(FROM, FROM + H + M, 60, lambda _t: 2.5))
    (one,) = ledger.findings()
    assert one.end_utc_s is None
    ledger.live(readings(FROM + H + M, FROM + 2 * H + M, 60, lambda _t: 0.5))
    (two,) = ledger.findings()
    assert (two.id, two.end_utc_s) == (one.id, MIDNIGHT + FROM + H)


def test_the_day_is_cut() -> None:
    """Cooking through four in the morning gives two events, one for each day."""
    items = readings(DAY + 2 * H, DAY + 6 * H, 60, lambda t: wobble(t, 3.0))
    found = judged([*items, reading(DAY + 6 * H, 0.1)], HOUR)
    since = [(one.start_utc_s - MIDNIGHT - DAY, (one.end_utc_s or MIDNIGHT) - MIDNIGHT - DAY) for one in found]
    assert since == [(2 * H, 4 * H), (4 * H, -DAY)]


def test_a_rule_change_in_the_middle() -> None:
    """The hour in which the limit changes is not judged; the same rules in another book change nothing."""
    strict = rules("fume_limit", fume_limit="limit_mg_m3 = 1.0")
    items = readings(10 * H, 14 * H, 60, lambda t: wobble(t, 1.5))
    ledger = Ledger(files(HOUR))
    ledger.live(items[:90])
    ledger.load(files(strict), 11 * H + 30 * M)
    ledger.live([*items[90:], reading(14 * H)])
    found = ledger.findings()
    assert [(one.start_utc_s - MIDNIGHT, (one.end_utc_s or MIDNIGHT) - MIDNIGHT) for one in found] == [(12 * H, 0)]
    assert found[0].limits["limit_mg_m3_e6"] == 1_000_000
    same = Ledger(files(strict))
    same.live(items[:90])
    same.load({**files(strict), "more.toml": b'format = "permits/v1"\n'}, 11 * H + 30 * M)
    same.live([*items[90:], reading(14 * H)])
    (one,) = same.findings()
    assert one.start_utc_s == MIDNIGHT + 10 * H
    assert one.book_seq == 0
