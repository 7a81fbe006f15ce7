"""Places, dumping, stops and trips: thresholds, and what looks odd but is nothing."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.fixes import fixes_of
from gateway.rules.book import load_book
from gateway.rules.trips import trips
from tests.rules.courses import (
    CLASS,
    MIDNIGHT,
    PERMIT,
    PLATE,
    RULES,
    H,
    Ledger,
    drive,
    files,
    fix,
    found,
    only,
    stand,
)

NIGHT = 21 * H
FREE = {**PERMIT, "route": []}


def rules_of(fixes: list[dict[str, Any]], rules: str = RULES) -> list[str]:
    return sorted(one.rule for one in found(fixes, files(rules, FREE)))


# ---------------------------------------------------------------------------------------------- no entry


def test_inside_a_no_entry_area() -> None:
    fixes = drive(NIGHT, (1500, 1200), (3000, 1200), load="empty")
    (one,) = found(fixes, files(RULES, FREE))
    assert (one.rule, one.severity) == ("no-entry", "violation")
    assert (one.start_utc_s, one.end_utc_s) == (MIDNIGHT + NIGHT + 60, MIDNIGHT + NIGHT + 80)
    assert one.geometry["id"] == "closed"
    assert one.measured["fixes_inside"] == 3
    assert 195 <= one.measured["depth_max_m"] <= 200


@pytest.mark.parametrize(
    ("north", "inside", "expected"),
    [
        ([990, 990, 990], 0, []),
        ([1004, 1004, 1004, 1004], 0, []),  # inside, but not for certain: sigma is 5
        ([1006, 1006], 2, ["no-entry"]),
        ([1006, 990, 1006, 990, 1006], 0, []),  # scatter at the fence
        ([1200], 0, []),  # one wild fix
    ],
)
def test_the_fence_has_hysteresis(north: list[int], inside: int, expected: list[str]) -> None:
    fixes = drive(NIGHT, (2100, 900), (2150, 940), kmh=10, load="empty")
    start = fixes[-1]["time_utc_s"] - MIDNIGHT
    fixes += [fix(start + 10 * (n + 1), 2160 + 10 * n, metres, 4, load="empty") for n, metres in enumerate(north)]
    fixes += [fix(start + 100 + 10 * n, 2200, 940 - 20 * n, 8, load="empty") for n in range(4)]
    findings = found(fixes, files(RULES, FREE))
    assert [one.rule for one in findings] == expected
    assert [one.measured["fixes_inside"] for one in findings] == ([inside] if inside else [])


def test_an_area_smaller_than_a_step_is_not_jumped_over() -> None:
    """60 m wide, fixes 30 s and 500 m apart: no fix inside, so it is a lead."""
    fixes = drive(NIGHT, (2780, 1200), (4780, 1200), kmh=60, step_s=30, load="empty")
    (one,) = found(fixes, files(RULES, FREE))
    assert (one.rule, one.severity, one.geometry["id"]) == ("no-entry", "lead", "narrow")
    assert 55 <= one.measured["inside_m"] <= 65
    assert len(one.inputs) == 2
    assert one.text["en"].startswith("Lead")
    assert one.text["zh"].startswith("线索")
    gap = [fixes[0], *(item for item in fixes[2:])]
    gap[1:] = [{**item, "time_utc_s": item["time_utc_s"] + 300} for item in gap[1:]]
    assert "no-entry" not in rules_of(gap)


def test_an_area_that_is_closed_by_day_only() -> None:
    way = ((1900, 3200), (2700, 3200))
    assert rules_of(drive(20 * H, *way, load="empty")) == []
    assert rules_of(drive(10 * H, *way, load="empty")) == ["no-entry"]
    assert rules_of(drive(19 * H - 20, *way, load="empty")) == []
    assert rules_of(drive(19 * H - 40, *way, load="empty")) == ["no-entry"]


# ---------------------------------------------------------------------------------------------- dumping


def tip(
    east: float, lifted_s: int, *, north: float = 600, before: str | None = "full", after: str | None = "empty",
    kmh: float = 0, step_s: int = 5,
) -> list[dict[str, Any]]:  # fmt: skip
    """Comes, stands a minute, lifts the box, goes."""
    fixes = drive(NIGHT, (east - 300, north), (east, north), load=before)
    start = fixes[-1]["time_utc_s"] - MIDNIGHT + 10
    fixes += stand(start, 60, east, north, load=before)
    start += 60
    fixes += [fix(start + n, east, north, kmh, lift="lifted", load=before) for n in range(0, lifted_s + 1, step_s)]
    start += lifted_s + step_s
    fixes += stand(start, 40, east, north, load=after)
    return fixes + drive(start + 40, (east, north), (east, north + 400), load=after)


@pytest.mark.parametrize(
    ("fixes", "expected"),
    [
        (tip(1000, 10), ["dumping"]),
        (tip(1000, 5), []),
        (tip(1000, 60, kmh=6), []),  # it moves: the sensor is wrong, or the box shakes
        (tip(5100, 60, north=0), []),  # at the permitted ground
        (tip(5100, 60, north=155), []),  # beside it: 55 m, and twice sigma
        (tip(5100, 60, north=165), ["dumping"]),
        (tip(8100, 60, north=0), ["dumping"]),  # at another ground
        (tip(-900, 60, north=2100), []),  # in the depot
        (tip(-100, 60, north=0), ["dumping"]),  # at the site
    ],
)
def test_dumping_by_the_lift(fixes: list[dict[str, Any]], expected: list[str]) -> None:
    assert rules_of(fixes) == expected


@pytest.mark.parametrize(
    ("before", "after", "severity", "emptied"),
    [
        ("full", "empty", "violation", True),
        ("full", "full", "violation", False),
        ("empty", "empty", "lead", False),
        (None, None, "violation", False),
    ],
)
def test_dumping_is_stronger_with_the_load(before: str | None, after: str | None, severity: str, emptied: bool) -> None:
    ledger = Ledger(files(RULES, FREE))
    ledger.live(tip(1000, 30, before=before, after=after))
    ledger.live(drive(NIGHT + 400, (1000, 1000), (1000, 8000), load=after))
    (one,) = only("dumping", ledger.findings())
    assert (one.severity, one.measured["load_emptied"]) == (severity, emptied)
    assert one.end_utc_s is not None
    assert one.measured["duration_s"] == 30


def test_a_load_that_goes_too_late_is_not_the_lift() -> None:
    fixes = tip(1000, 30, after="full") + drive(NIGHT + 300, (1000, 1000), (1000, 8000), load="full")
    fixes += drive(NIGHT + 300 + 710, (1000, 8000), (1000, 9000), load="empty")
    (one,) = only("dumping", found(fixes, files(RULES, FREE)))
    assert one.measured["load_emptied"] is False


@pytest.mark.parametrize(
    ("for_s", "load", "north", "expected"),
    [
        (170, "full", 600, []),
        (190, "full", 600, ["dumping-lead"]),
        (1190, "full", 600, ["dumping-lead"]),
        (1230, "full", 600, []),  # so long is parking
        (600, "empty", 600, []),
        (600, "full", 0, []),  # at the ground
    ],
)
def test_a_stop_without_lift_sensor_is_a_lead(for_s: int, load: str, north: float, expected: list[str]) -> None:
    none: dict[str, Any] = {"lift": None, "cover": None, "load": load}
    fixes = drive(NIGHT, (4600, north), (5100, north), **none)
    start = fixes[-1]["time_utc_s"] - MIDNIGHT + 10
    fixes += stand(start, for_s - 10, 5100, north, **none)
    fixes += drive(start + for_s - 10, (5300, north), (5800, north), **none)
    findings = found(fixes, files(RULES, FREE))
    assert [(one.rule, one.severity) for one in findings] == [(rule, "lead") for rule in expected]


def test_without_load_sensor_a_leg_from_a_site_counts_as_loaded() -> None:
    none: dict[str, Any] = {"lift": None, "cover": None, "load": None}
    site = stand(NIGHT, 400, -100, 0, **none) + drive(NIGHT + 400, (0, 0), (1500, 0), **none)
    away = drive(NIGHT + 600, (1500, 100), (1500, 600), **none) + stand(NIGHT + 660, 400, 1500, 600, **none)
    home = drive(NIGHT + 1060, (1500, 700), (1500, 1500), **none)
    (one,) = found(site + away + home, files(RULES, FREE))
    assert (one.rule, one.measured["from_site"]) == ("dumping-lead", "site")
    ground = stand(NIGHT, 400, 5100, 0, **none) + drive(NIGHT + 400, (5000, 0), (1500, 0), **none)
    later = [{**item, "time_utc_s": item["time_utc_s"] + 200} for item in away + home]
    assert rules_of(ground + later) == []


def test_a_traffic_light_is_no_stop() -> None:
    none: dict[str, Any] = {"lift": None, "load": "full"}
    fixes = drive(NIGHT, (500, 600), (1500, 600), **none) + stand(NIGHT + 110, 120, 1500, 600, **none)
    assert rules_of(fixes + drive(NIGHT + 230, (1600, 600), (2500, 600), **none)) == []


# ---------------------------------------------------------------------------------------------- trips


def test_trips_between_stops_with_places_and_shares() -> None:
    fixes = stand(NIGHT, 300, -100) + drive(NIGHT + 300, (0, 0), (5000, 0)) + stand(NIGHT + 810, 300, 5100)
    back = drive(NIGHT + 1110, (5000, 0), (0, 0), load="empty")
    lost = [item for item in back if not 100 <= item["time_utc_s"] - MIDNIGHT - NIGHT - 1110 < 350]
    fixes += lost + stand(NIGHT + 1620, 300, -100, load="empty")
    book = load_book(files())
    records = [one for n, item in enumerate(fixes) for one in fixes_of(n, 0, item)]
    there, home = trips(records, book, device_class=CLASS, plate=PLATE)
    assert (there.from_place, there.to_place, there.loaded) == ("site", "ground", True)
    assert (home.from_place, home.to_place, home.loaded) == ("ground", "site", False)
    assert (there.start_utc_s, there.end_utc_s) == (MIDNIGHT + NIGHT + 290, MIDNIGHT + NIGHT + 810)
    assert (there.known_time_permille, there.known_distance_permille) == (1000, 1000)
    assert 5190 < there.known_m < 5220
    assert 480 <= home.known_time_permille <= 520
    assert 480 <= home.known_distance_permille <= 530


def test_the_odometer_tells_how_long_a_gap_was() -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0), mileage_hm=100) + drive(NIGHT + 700, (1000, 0), (2000, 0), mileage_hm=180)
    (trip,) = trips(
        [one for n, item in enumerate(fixes) for one in fixes_of(n, 0, item)],
        load_book(files()),
        device_class=CLASS,
        plate=PLATE,
    )
    assert 195 <= trip.known_distance_permille <= 205
    assert trip.known_time_permille == 250


def test_a_long_gap_ends_a_trip_and_noon_does_too() -> None:
    book = load_book(files())

    def count(fixes: list[dict[str, Any]]) -> int:
        records = [one for n, item in enumerate(fixes) for one in fixes_of(n, 0, item)]
        return len(trips(records, book, device_class=CLASS, plate=PLATE))

    first = drive(NIGHT, (0, 0), (1000, 0))
    assert count(first + drive(NIGHT + 3500, (1000, 0), (2000, 0))) == 1
    assert count(first + drive(NIGHT + 3800, (1000, 0), (2000, 0))) == 2
    assert count(drive(12 * H - 50, (0, 0), (1000, 0))) == 2


def test_shares_of_the_trip_stand_in_findings() -> None:
    fixes = drive(NIGHT, (500, 0), (1500, 0)) + drive(NIGHT + 400, (1600, 0), (2600, 0), cover="open")
    fixes += drive(NIGHT + 510, (2700, 0), (3000, 0))
    (one,) = only("uncovered", found(fixes, files(RULES, FREE)))
    assert one.measured["trip_known_time_permille"] == 423  # 220 of 520 s
    assert one.measured["trip_start_utc_s"] == MIDNIGHT + NIGHT
