"""Off route, hours, speed, cover: just below and just above each threshold, and what looks odd but is nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rules.courses import (
    LAW,
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


def rules_of(fixes: list[dict[str, Any]], *tables: dict[str, Any], rules: str = RULES) -> list[str]:
    return sorted({one.rule for one in found(fixes, files(rules, *tables))})


# ---------------------------------------------------------------------------------------------- off route


def aside(metres: float, fixes: int, *, step_s: int = 20, kmh: float = 36, **more: Any) -> list[dict[str, Any]]:
    """Along the route, then `fixes` fixes so far beside it, then back."""
    length = kmh / 3.6 * step_s
    begin = drive(NIGHT, (200, 0), (1000, 0), kmh=kmh, step_s=step_s, **more)
    start = begin[-1]["time_utc_s"] - MIDNIGHT + step_s
    off = [fix(start + n * step_s, 1000 + n * length, metres, kmh, **more) for n in range(fixes)]
    after = start + fixes * step_s
    end = [fix(after + n * step_s, 1000 + (fixes + n) * length, 0, kmh, **more) for n in range(4)]
    return begin + off + end


@pytest.mark.parametrize(
    ("metres", "fixes", "step_s", "expected"),
    [
        (62, 6, 20, True),  # width 50 and twice sigma 5 are 60
        (59, 15, 20, False),
        (100, 4, 20, True),  # 60 s from the first to the last
        (100, 3, 20, False),
        (100, 3, 40, True),
        (100, 2, 100, False),  # two fixes are too few
        (500, 1, 20, False),  # one wild fix, or a bridge
    ],
)
def test_off_route_needs_distance_fixes_and_time(metres: float, fixes: int, step_s: int, expected: bool) -> None:
    assert (rules_of(aside(metres, fixes, step_s=step_s)) == ["off-route"]) is expected


def test_off_route_needs_a_way_of_200_m() -> None:
    assert rules_of(aside(150, 10, step_s=10, kmh=8)) == []
    assert rules_of(aside(150, 14, step_s=10, kmh=8)) == ["off-route"]


def test_off_route_tells_start_end_peak_and_what_it_rests_on() -> None:
    fixes = aside(100, 8)
    fixes[12]["lat_e7"] += 3000  # the farthest, 133 m
    (one,) = found(fixes)
    off = [n for n, item in enumerate(fixes) if item["lat_e7"] > 307_000_000 + 5000]
    assert (one.start_utc_s, one.end_utc_s) == (fixes[off[0]]["time_utc_s"], fixes[off[-1]]["time_utc_s"])
    assert one.inputs == tuple(n + 1 for n in off)
    assert one.peak["seq"] == 13
    assert 132 <= one.peak["distance_m"] <= 134
    assert one.measured["distance_max_m"] == one.peak["distance_m"]
    assert one.limits["width_m"] == 50
    assert (one.severity, one.permit, one.legal_source, one.firm, one.plate) == (
        "violation",
        "P-1",
        LAW,
        "测试公司",
        PLATE,
    )
    assert (one.geometry["type"], one.geometry["id"], one.geometry["width_m"]) == ("LineString", "way", 50)
    assert one.book_seq == 0
    assert one.measured["trip_known_time_permille"] == 1000
    assert "133 m" in one.text["en"]
    assert "133米" in one.text["zh"]


def test_off_route_has_hysteresis() -> None:
    """Between 70 % of the width and the outer edge it goes on, closer for one fix too; it is one event."""
    fixes = aside(100, 6)[:10]
    start = fixes[-1]["time_utc_s"] - MIDNIGHT
    offsets = [45, 55, 20, 100, 45, 100, 100, 0, 0, 0, 0]
    fixes += [fix(start + 20 * (n + 1), 2300 + 200 * n, metres, 36) for n, metres in enumerate(offsets)]
    (one,) = found(fixes)
    assert one.end_utc_s == fixes[-5]["time_utc_s"]


def test_off_route_is_open_while_it_lasts_and_told_once() -> None:
    ledger = Ledger()
    fixes = aside(100, 12)
    tellings = 0
    for one in fixes[:-4]:
        ledger.live([one])
        tellings += sum(len(span.judgements) for span in ledger.due().spans)
    assert tellings == 1
    assert [one.end_utc_s for one in ledger.findings()] == [None]
    ledger.live(fixes[-4:])
    assert [one.end_utc_s for one in ledger.findings()] == [fixes[-5]["time_utc_s"]]


@pytest.mark.parametrize(
    ("load", "table", "expected"),
    [
        ("full", PERMIT, True),
        ("half", PERMIT, True),
        ("empty", PERMIT, False),
        (None, PERMIT, True),  # no load sensor, and a permit is open
        (None, {**PERMIT, "hours": [["05:00", "20:00"]]}, False),
        ("full", {**PERMIT, "route": []}, False),
        ("full", {**PERMIT, "width_m": 120}, False),
    ],
)
def test_off_route_is_for_loaded_trucks_with_a_route(load: str | None, table: dict[str, Any], expected: bool) -> None:
    assert ("off-route" in rules_of(aside(100, 10, load=load), table)) is expected


def test_a_stop_beside_the_route_and_a_site_are_not_off_route() -> None:
    assert rules_of(stand(NIGHT, 3000, 1000, 400, load="full", lift=None)) == []
    yard = [fix(NIGHT + 10 * n, -150 + 20 * (n % 7), 90, 12) for n in range(60)]
    assert rules_of(yard) == []


def test_two_permits_allow_both_routes() -> None:
    other = {**PERMIT, "number": "P-2", "route": [], "hours": [["20:00", "05:00"]]}
    assert rules_of(aside(100, 10), PERMIT, other) == ["off-route"]


def test_a_gap_does_not_count_as_time_off_the_route() -> None:
    fixes = [*drive(NIGHT, (200, 0), (1000, 0)), fix(NIGHT + 100, 1100, 200), fix(NIGHT + 110, 1200, 200)]
    fixes += [fix(NIGHT + 900, 1300, 200), fix(NIGHT + 910, 1400, 0), *drive(NIGHT + 920, (1500, 0), (2000, 0))]
    assert "off-route" not in rules_of(fixes)


# ---------------------------------------------------------------------------------------------- hours


@pytest.mark.parametrize(
    ("start_s", "expected"),
    [
        (20 * H, []),
        (20 * H - 300, []),  # grace
        (20 * H - 420, ["hours"]),
        (28 * H, []),  # 04:00, the window crosses midnight
        (29 * H - 60, []),
        (29 * H + 290, ["hours"]),
        (12 * H, ["hours"]),
    ],
)
def test_hours_cross_midnight_and_have_grace(start_s: int, expected: list[str]) -> None:
    assert rules_of(drive(start_s, (0, 0), (1000, 0))) == expected


@pytest.mark.parametrize(("fixes", "expected"), [(6, []), (7, ["hours"]), (8, ["hours"])])
def test_hours_needs_a_minute_of_driving(fixes: int, expected: list[str]) -> None:
    assert rules_of([fix(14 * H + 10 * n, 1000 + 100 * n, 0, 36) for n in range(fixes)]) == expected


def test_hours_goes_on_at_a_red_light_and_ends_at_a_stop() -> None:
    light = drive(14 * H, (0, 0), (1000, 0)) + stand(14 * H + 110, 80, 1000) + drive(14 * H + 190, (1000, 0), (2000, 0))
    (one,) = found(light)
    assert (one.start_utc_s, one.end_utc_s) == (MIDNIGHT + 14 * H, None)
    assert one.measured["outside_at_start_s"] == 21_600
    assert "20:00-05:00" in one.text["zh"]
    stop = drive(14 * H, (0, 0), (1000, 0)) + stand(14 * H + 110, 300, 1000) + drive(14 * H + 410, (1000, 0), (2000, 0))
    assert [one.rule for one in found(stop)] == ["hours", "hours"]


def test_hours_of_a_truck_whose_load_is_not_known_is_a_lead() -> None:
    (one,) = found(drive(14 * H, (0, 0), (1000, 0), load=None))
    assert (one.rule, one.severity) == ("hours", "lead")
    assert one.text["en"].startswith("Lead")
    assert one.text["zh"].startswith("线索")
    assert found(drive(14 * H, (0, 0), (1000, 0), load="empty")) == []


def test_hours_of_the_rule_set_hold_where_the_permit_names_none() -> None:
    rules = RULES.replace("[hours]", '[hours]\nallowed = [["22:00", "23:00"]]')
    free = {key: value for key, value in PERMIT.items() if key != "hours"}
    assert rules_of(drive(21 * H, (0, 0), (1000, 0)), free, rules=rules) == ["hours"]
    assert rules_of(drive(21 * H, (0, 0), (1000, 0)), free) == []


def test_without_any_permit_in_force() -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0))
    past = {**PERMIT, "valid_from": "2026-05-01", "valid_to": "2026-05-31"}
    (one,) = found(fixes, files(RULES, past))
    assert (one.rule, one.severity, one.firm) == ("no-permit", "violation", "测试公司")
    assert rules_of(drive(NIGHT, (0, 0), (1000, 0), load=None), past) == []
    assert rules_of(drive(NIGHT, (0, 0), (1000, 0), load="empty"), past) == []
    other = {**PERMIT, "vehicles": ["浙F99999"]}
    assert rules_of(fixes, other) == ["no-permit"]
    last = {**PERMIT, "valid_to": "2026-06-15"}
    assert rules_of(drive(27 * H, (0, 0), (1000, 0)), last) == []  # the window of the last day runs on to 05:00
    assert rules_of(drive(29 * H + 600, (0, 0), (1000, 0)), last) == ["no-permit"]


# ---------------------------------------------------------------------------------------------- speed


@pytest.mark.parametrize(
    ("kmh", "expected"),
    [(62.9, []), (63.0, []), (63.1, ["speeding"]), (85.0, ["speeding"])],
)
def test_speeding_is_beyond_limit_and_margin(kmh: float, expected: list[str]) -> None:
    assert rules_of(drive(NIGHT, (0, 0), (2500, 0), kmh=kmh)) == expected


@pytest.mark.parametrize(
    ("where", "hour", "kmh", "expected"),
    [
        ((3020, 3480), 13, 51, "zone:slow"),  # 50 by day
        ((3020, 3480), 23, 33.1, "zone:slow"),  # 30 by night
        ((3020, 3480), 23, 32.9, ""),
        ((3600, 4800), 23, 50, ""),
    ],
)
def test_speeding_in_a_zone_by_time(where: tuple[int, int], hour: int, kmh: float, expected: str) -> None:
    fast = 55 if expected and hour == 13 else kmh
    fixes = drive(hour * H, (where[0], 0), (where[1], 0), kmh=fast, load="empty", step_s=5)
    speeding = only("speeding", found(fixes))
    assert [one.limits["limit_from"] for one in speeding] == ([expected] if expected else [])
    assert [one.geometry["id"] for one in speeding] == (["slow"] if expected else [])


def test_speeding_by_state_and_class() -> None:
    free = {key: value for key, value in PERMIT.items() if key != "speed_kmh"}
    loaded = RULES.replace("limit_kmh = 80", "limit_kmh = 80\nloaded_limit_kmh = 50", 1)
    course = {"kmh": 55, "step_s": 10}
    assert rules_of(drive(NIGHT, (0, 0), (2000, 0), **course), free, rules=loaded) == ["speeding"]
    assert rules_of(drive(NIGHT, (0, 0), (2000, 0), load="empty", **course), free, rules=loaded) == []
    (one,) = found(drive(NIGHT, (0, 0), (2000, 0), load="empty", cover="open", **course), files(RULES, free))
    assert (one.limits["limit_from"], one.limits["limit_at_peak_kmh"]) == ("uncovered", 40)


def test_speeding_must_be_plausible() -> None:
    """The receiver says 90, the way says 40: noise, unless the recorder agrees."""
    slow = drive(NIGHT, (0, 0), (2000, 0), kmh=40)
    for one in slow:
        one["speed_kmh_e1"] = 900
    assert rules_of(slow) == []
    for one in slow:
        one["recorder_kmh_e1"] = 880
    assert rules_of(slow) == ["speeding"]


def test_one_fast_fix_is_no_speeding_and_one_slow_one_no_end() -> None:
    fixes = drive(NIGHT, (0, 0), (2900, 0), kmh=70)
    one_fast = drive(NIGHT, (0, 0), (2000, 0), kmh=55)
    one_fast[5]["speed_kmh_e1"] = 690
    assert rules_of(one_fast) == []
    fixes[7]["speed_kmh_e1"] = 580
    (one,) = found(fixes)
    assert one.measured["speed_max_kmh_e1"] == 700
    assert one.measured["speed_mean_kmh_e1"] == 700
    assert one.limits["limit_at_peak_kmh"] == 60
    assert one.limits["above_kmh_e1"] == 630


# ---------------------------------------------------------------------------------------------- cover


@pytest.mark.parametrize(
    ("state", "kmh", "for_s", "expected"),
    [
        ({"cover": "open"}, 36, 60, ["uncovered"]),
        ({"cover": "opening"}, 36, 60, ["uncovered"]),
        ({"cover": "closing"}, 36, 60, ["uncovered"]),
        ({"cover": "open"}, 36, 20, []),
        ({"cover": "open"}, 36, 30, ["uncovered"]),
        ({"cover": "open"}, 10, 120, []),
        ({"cover": "closed"}, 36, 60, []),
        ({"cover": "fault"}, 36, 60, []),
        ({"cover": None}, 36, 60, []),
        ({"cover": "open", "load": "empty"}, 36, 60, []),
        ({"cover": "open", "load": None}, 36, 60, []),
        ({"cover": "open", "load": "half"}, 36, 60, ["uncovered"]),
    ],
)
def test_uncovered(state: dict[str, Any], kmh: float, for_s: int, expected: list[str]) -> None:
    start = drive(NIGHT, (0, 0), (300, 0))
    fixes = [fix(NIGHT + 40 + n, 400 + kmh / 3.6 * n, 0, kmh, **state) for n in range(0, for_s + 1, 10)]
    last = 400 + kmh / 3.6 * for_s
    after = drive(NIGHT + 50 + for_s, (last + 100, 0), (last + 600, 0))
    assert [one.rule for one in only("uncovered", found(start + fixes + after))] == expected


def test_uncovered_through_a_traffic_jam_is_one_event() -> None:
    fixes = drive(NIGHT, (0, 0), (800, 0), cover="open")
    fixes += [fix(NIGHT + 90 + 10 * n, 810 + 10 * n, 0, 4, cover="open") for n in range(8)]
    fixes += drive(NIGHT + 170, (900, 0), (1500, 0), cover="open") + drive(NIGHT + 240, (1600, 0), (2000, 0))
    (one,) = found(fixes)
    assert one.end_utc_s == MIDNIGHT + NIGHT + 230
    assert one.peak["cover"] == "open"


def test_rules_that_are_not_in_the_set_are_not_judged() -> None:
    bare = RULES.split("[off_route]", maxsplit=1)[0] + f'[speeding]\nsource = "{LAW}"\n'
    fixes = aside(400, 20, cover="open", kmh=36) + drive(14 * H, (0, 0), (2000, 0), kmh=70)
    assert rules_of(fixes, rules=bare) == ["speeding"]
