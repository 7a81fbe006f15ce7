"""Kitchens: the same at every asking, what is planted can be measured, and what is nothing looks like nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest

from drivers.fleet.kitchens import AFTER_S, EARLY_S, Kitchen, Upset, UpsetKind, shifts_of, with_upsets

T0 = 1_790_000_000
SHIFT = (T0 + 3600, T0 + 3 * 3600)
KITCHEN = Kitchen("k1", T0, T0 + 5 * 3600, (SHIFT,), seed=3)
COOKING = range(SHIFT[0] + 600, SHIFT[1] - 600, 60)


def spoilt(kind: UpsetKind, amount: int = 0, from_s: int = 1200, to_s: int = 2400) -> Kitchen:
    return with_upsets(KITCHEN, [Upset(kind, SHIFT[0] + from_s, SHIFT[0] + to_s, amount)])


def test_it_says_the_same_whenever_it_is_asked() -> None:
    forwards = [KITCHEN.measure(utc_s) for utc_s in range(T0, T0 + 5 * 3600, 60)]
    backwards = [KITCHEN.measure(utc_s) for utc_s in reversed(range(T0, T0 + 5 * 3600, 60))]
    assert forwards == backwards[::-1]
    other = Kitchen("k1", T0, T0 + 5 * 3600, (SHIFT,), seed=4)
    assert [other.measure(utc_s) for utc_s in COOKING] != [KITCHEN.measure(utc_s) for utc_s in COOKING]


def test_a_good_day() -> None:
    for utc_s in COOKING:
        seen = KITCHEN.measure(utc_s)
        assert seen is not None
        assert 35 < seen.fume_e2 < 90
        assert seen.fan_on
        assert seen.purifier_on
        assert 4100 < seen.fan_ma < 4500
        assert 1230 < seen.purifier_ma < 1370
        assert seen.pm_e2 > seen.fume_e2
    cold = KITCHEN.measure(T0 + 60)
    assert cold is not None
    assert (cold.fan_on, cold.fan_ma, cold.purifier_on, cold.purifier_ma) == (False, 0, False, 0)
    assert 0 <= cold.fume_e2 < 12
    for edge, on in ((SHIFT[0] - EARLY_S, True), (SHIFT[0] - EARLY_S - 1, False), (SHIFT[1] + AFTER_S, False)):
        seen = KITCHEN.measure(edge)
        assert seen is not None
        assert seen.fan_on is on
    assert KITCHEN.measure(T0 - 1) is None
    assert KITCHEN.measure(T0 + 5 * 3600) is None


def test_cooking_is_never_flat() -> None:
    values = [seen.fume_e2 for utc_s in COOKING if (seen := KITCHEN.measure(utc_s))]
    longest = run = 1
    for before, after in pairwise(values):
        run = run + 1 if before == after else 1
        longest = max(longest, run)
    assert longest <= 4


@pytest.mark.parametrize(
    ("kind", "amount", "low", "high", "fan", "purifier"),
    [
        ("purifier-off", 150, 130, 170, True, False),
        ("exceedance", 340, 300, 380, True, True),
        ("fan-off", 250, 220, 280, False, False),
        ("negative", 30, -40, -20, True, True),
        ("jump", 10, 350, 900, True, True),
        ("spike", 10, 350, 900, True, True),
    ],
)
def test_what_is_planted_can_be_measured_and_ends(
    kind: UpsetKind, amount: int, low: int, high: int, fan: bool, purifier: bool
) -> None:
    kitchen = spoilt(kind, amount)
    for utc_s in range(SHIFT[0] + 1200, SHIFT[0] + 2400, 60):
        seen = kitchen.measure(utc_s)
        assert seen is not None
        assert low <= seen.fume_e2 <= high
        assert (seen.fan_on, seen.purifier_on) == (fan, purifier)
        assert (seen.fan_ma > 0, seen.purifier_ma > 0) == (fan, purifier)
    for utc_s in (SHIFT[0] + 1199, SHIFT[0] + 2400):
        assert kitchen.measure(utc_s) == KITCHEN.measure(utc_s)


def test_a_flat_line_a_weak_purifier_a_dead_and_a_late_monitor() -> None:
    inside = range(SHIFT[0] + 1200, SHIFT[0] + 2400, 60)
    flat = [seen.fume_e2 for utc_s in inside if (seen := spoilt("flat").measure(utc_s))]
    assert len(set(flat)) == 1
    weak = [seen.purifier_ma for utc_s in inside if (seen := spoilt("purifier-weak", 30).measure(utc_s))]
    assert max(weak) < 430
    assert min(weak) > 340
    dead, late = spoilt("offline"), spoilt("late")
    assert [dead.measure(utc_s) for utc_s in inside] == [None] * len(inside)
    assert [late.measure(utc_s) for utc_s in inside] == [KITCHEN.measure(utc_s) for utc_s in inside]
    assert [one.reaches(inside[0]) for one in (dead, late, KITCHEN)] == [False, False, True]
    assert dead.turns_s() == [SHIFT[0] + 1200, SHIFT[0] + 2400]


def test_meals_differ_from_kitchen_to_kitchen() -> None:
    meals = ((3600, 7200), (20_000, 30_000))
    found = {shifts_of(T0, seed, meals) for seed in range(20)}
    assert len(found) == 20
    for shifts in found:
        for (begin, end), (meal, over) in zip(shifts, meals, strict=True):
            assert abs(begin - T0 - meal) <= 300
            assert abs(end - T0 - over) <= 300
