"""Silence and its causes, receivers and sensors that fail, identities and clocks; days, books, outages."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core import kinds
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


def rules_of(fixes: list[dict[str, Any]]) -> list[str]:
    return [one.rule for one in found(fixes, files(RULES, FREE))]


def void(time_s: int, **more: Any) -> dict[str, Any]:
    one = fix(time_s, 0, 0, 0, flags="void", **more)
    return {key: value for key, value in one.items() if key not in ("lat_e7", "lon_e7")}


# ---------------------------------------------------------------------------------------------- silence


@pytest.mark.parametrize(("silent_s", "expected"), [(170, []), (180, []), (190, ["offline"]), (4000, ["offline"])])
def test_silence_while_driving(silent_s: int, expected: list[str]) -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0))
    findings = found(fixes + drive(NIGHT + 100 + silent_s, (1500, 0), (2000, 0)), files(RULES, FREE))
    assert [one.rule for one in findings] == expected
    for one in findings:
        assert (one.start_utc_s, one.end_utc_s) == (MIDNIGHT + NIGHT + 100, MIDNIGHT + NIGHT + 100 + silent_s)
        assert (one.severity, one.measured["cause"], one.measured["interval_s"]) == ("fault", "unknown", 10)
        assert len(one.inputs) == 2


def test_silence_of_slow_reporters_is_three_intervals() -> None:
    fixes = drive(NIGHT, (0, 0), (10_000, 0), step_s=100)
    assert rules_of([*fixes, fix(NIGHT + 1000 + 290, 12_000)]) == []
    assert rules_of([*fixes, fix(NIGHT + 1000 + 310, 12_000)]) == ["offline"]


@pytest.mark.parametrize(
    ("last", "rule", "cause", "severity"),
    [
        ({"alarms": "main_power_lost"}, "power-cut", "power", "lead"),
        ({"alarms": "main_power_lost", "acc": False}, "power-cut", "power", "lead"),
        ({"alarms": "antenna_cut overspeed"}, "antenna-cut", "antenna", "lead"),
        ({}, "offline", "unknown", "fault"),
    ],
)
def test_the_cause_of_silence(last: dict[str, Any], rule: str, cause: str, severity: str) -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0))
    fixes[-1] |= last
    (one,) = found([*fixes, fix(NIGHT + 700, 3000)], files(RULES, FREE))
    assert (one.rule, one.measured["cause"], one.severity) == (rule, cause, severity)


def test_a_dead_zone_explains_silence() -> None:
    fixes = [*drive(NIGHT, (60, 0), (1460, 0)), fix(NIGHT + 700, 2000)]
    (one,) = found(fixes, files(RULES, FREE))
    assert (one.measured["cause"], one.geometry["id"], one.severity) == ("dead-zone", "tunnel", "fault")


def test_a_log_off_explains_silence_and_is_cited() -> None:
    ledger = Ledger(files(RULES, FREE))
    ledger.live(drive(NIGHT, (0, 0), (1000, 0)))
    seq = ledger.state(NIGHT + 105, "offline", "logged-off")
    (one,) = ledger.findings(NIGHT + 400)
    assert (one.rule, one.measured["cause"], one.severity, one.end_utc_s) == ("offline", "logged-off", "lead", None)
    assert seq in one.inputs


@pytest.mark.parametrize("acc", [False, None])
def test_parked_and_switched_off_is_not_offline(acc: bool | None) -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0)) + stand(NIGHT + 110, 300, 1000)
    fixes += [fix(NIGHT + 410 + n, 1000, 0, 0, acc=acc) for n in (0, 10, 20)]
    later = drive(NIGHT + 8 * H, (1000, 0), (1500, 0))
    assert rules_of(fixes + later) == []
    ledger = Ledger(files(RULES, FREE))
    ledger.live(fixes)
    assert ledger.rules(NIGHT + 5 * H) == []
    moved = drive(NIGHT + 8 * H, (4000, 0), (4500, 0))
    assert [one.measured["cause"] for one in found(fixes + moved, files(RULES, FREE))] == ["moved"]


def test_reports_every_quarter_of_an_hour_while_parked() -> None:
    fixes = stand(NIGHT, 400, 1000, acc=False, load="empty")
    fixes += [fix(NIGHT + 400 + 900 * n, 1000 + n % 2, 0, 0, acc=False, load="empty") for n in range(20)]
    assert rules_of(fixes) == []


def test_silence_becomes_certain_with_time_and_is_withdrawn_by_what_was_stored() -> None:
    ledger = Ledger(files(RULES, FREE))
    fixes = drive(NIGHT, (0, 0), (8000, 0))
    ledger.live(fixes[:20])
    assert ledger.rules(NIGHT + 190 + 181) == []
    assert ledger.rules(NIGHT + 190 + 182) == ["offline"]
    assert [one.end_utc_s for one in ledger.findings(NIGHT + 700)] == [None]
    ledger.live(fixes[72:74])
    ledger.batch(fixes[20:50], NIGHT + 735)
    ledger.batch(fixes[50:72], NIGHT + 738)
    before = dict(ledger.known)
    assert not ledger.due().spans  # more may come
    assert ledger.known == before
    assert ledger.rules(NIGHT + 760) == []


def test_a_gap_that_is_half_filled_is_smaller() -> None:
    ledger = Ledger(files(RULES, FREE))
    fixes = drive(NIGHT, (0, 0), (8000, 0))
    ledger.live(fixes[:20])
    ledger.live(fixes[72:])
    ledger.batch(fixes[20:40], NIGHT + 900)
    (one,) = ledger.findings(NIGHT + 960)
    assert (one.start_utc_s, one.end_utc_s) == (fixes[39]["time_utc_s"], fixes[72]["time_utc_s"])


def test_void_fixes_are_reports() -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0)) + [void(NIGHT + 110 + 20 * n) for n in range(30)]
    assert rules_of([*fixes, fix(NIGHT + 720, 1200)]) == []


# ---------------------------------------------------------------------------------------------- the gateway itself


def fleet(ledger: Ledger, time_s: int, trucks: range) -> None:
    for number in trucks:
        ledger.live([fix(time_s, 100 + time_s - NIGHT, 100 * number)], f"T{number}")


def test_all_silent_at_once_is_the_gateway() -> None:
    ledger = Ledger(files(RULES, FREE))
    for n in range(12):
        fleet(ledger, NIGHT + 10 * n, range(6))
    assert ledger.rules(NIGHT + 500) == []
    for n in range(12):
        fleet(ledger, NIGHT + 1000 + 10 * n, range(6))
        ledger.due()
    assert ledger.rules() == []


def test_one_of_many_that_is_silent_is_not() -> None:
    ledger = Ledger(files(RULES, FREE))
    for n in range(12):
        fleet(ledger, NIGHT + 10 * n, range(6))
    for n in range(12, 60):
        fleet(ledger, NIGHT + 10 * n, range(5))
        ledger.due()
    assert [(one.device, one.rule) for one in ledger.findings()] == [("T5", "offline")]


def test_who_stays_away_after_the_gateway_is_back_is_offline() -> None:
    ledger = Ledger(files(RULES, FREE))
    for n in range(12):
        fleet(ledger, NIGHT + 10 * n, range(6))
    for n in range(80):
        fleet(ledger, NIGHT + 1000 + 10 * n, range(5))
        ledger.due()
    assert [(one.device, one.rule) for one in ledger.findings()] == [("T5", "offline")]


def test_a_gateway_that_was_down_blames_nobody() -> None:
    ledger = Ledger(files(RULES, FREE))
    ledger.live(drive(NIGHT, (0, 0), (1000, 0)))
    ledger.add(kinds.GATEWAY_START, "gateway", "", {"version": "1"}, NIGHT + 1000)
    ledger.live(drive(NIGHT + 1030, (3000, 0), (4000, 0)))
    assert ledger.rules() == []
    ledger.add(kinds.GATEWAY_START, "gateway", "", {"version": "1"}, NIGHT + 1200)
    assert ledger.rules(NIGHT + 1290) == []
    assert ledger.rules(NIGHT + 1700) == ["offline"]


# ---------------------------------------------------------------------------------------------- receivers, sensors


@pytest.mark.parametrize(
    ("more", "number", "expected"),
    [
        ({"recorder_kmh_e1": 360}, 6, []),
        ({"recorder_kmh_e1": 360}, 7, ["jammed"]),
        ({"recorder_kmh_e1": 0}, 15, []),  # standing under a roof
        ({}, 15, []),
        ({"alarms": "antenna_cut", "recorder_kmh_e1": 360}, 7, ["antenna-cut"]),
        ({"alarms": "antenna_short"}, 7, ["antenna-cut"]),
    ],
)
def test_no_place_while_driving(more: dict[str, Any], number: int, expected: list[str]) -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0)) + [void(NIGHT + 110 + 10 * n, **more) for n in range(number)]
    fixes += drive(NIGHT + 110 + 10 * number, (1000 + 100 * number, 0), (1500 + 100 * number, 0))
    findings = found(fixes, files(RULES, FREE))
    assert [one.rule for one in findings] == expected
    for one in findings:
        assert (one.start_utc_s, one.end_utc_s) == (
            MIDNIGHT + NIGHT + 110, MIDNIGHT + NIGHT + 100 + 10 * number,
        )  # fmt: skip
        assert one.peak["lat_e7"]  # the last known place


def test_no_place_while_the_odometer_counts() -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0), mileage_hm=500)
    fixes += [void(NIGHT + 110 + 10 * n, mileage_hm=502 + n) for n in range(10)]
    assert rules_of(fixes) == ["jammed"]


@pytest.mark.parametrize(
    ("number", "more", "expected"),
    [
        (7, {"recorder_kmh_e1": 360}, ["frozen-gnss"]),
        (6, {"recorder_kmh_e1": 360}, ["frozen-gnss"]),
        (5, {"recorder_kmh_e1": 360}, []),
        (20, {"recorder_kmh_e1": 40}, []),
        (20, {}, []),
    ],
)
def test_frozen_coordinates(number: int, more: dict[str, Any], expected: list[str]) -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0))
    fixes += [fix(NIGHT + 100 + 10 * (n + 1), 1000, 0, 0, **more) for n in range(number)]
    assert rules_of(fixes) == expected


def test_frozen_by_the_odometer() -> None:
    fixes = drive(NIGHT, (0, 0), (1000, 0), mileage_hm=100)
    fixes += [fix(NIGHT + 110 + 10 * n, 1000, 0, 0, mileage_hm=101 + n) for n in range(10)]
    fixes.append(fix(NIGHT + 210, 1150, 0, 0, mileage_hm=112))
    (one,) = only("frozen-gnss", found(fixes, files(RULES, FREE)))
    assert one.start_utc_s == MIDNIGHT + NIGHT + 100
    assert len(one.inputs) == one.measured["fixes"] == 11


@pytest.mark.parametrize(
    ("state", "number", "expected"),
    [
        ({"load": None}, 7, ["sensors-lost"]),
        ({"load": None}, 6, []),
        ({"cover": None, "lift": None}, 7, ["sensors-lost"]),
        ({"sensor_faults": "weigher"}, 7, ["sensors-lost"]),
        ({}, 7, []),
    ],
)
def test_sensors_that_fall_silent(state: dict[str, Any], number: int, expected: list[str]) -> None:
    fixes = drive(NIGHT, (0, 0), (500, 0))
    fixes += [fix(NIGHT + 60 + 10 * n, 600 + 100 * n, 0, 36, **state) for n in range(number)]
    fixes += drive(NIGHT + 60 + 10 * number, (600 + 100 * number, 0), (1200 + 100 * number, 0))
    assert rules_of(fixes) == expected


def test_a_truck_without_sensors_has_lost_none() -> None:
    assert rules_of(drive(NIGHT, (0, 0), (3000, 0), load=None, cover=None, lift=None)) == []


@pytest.mark.parametrize(
    ("per_step", "expected"), [(1.0, []), (0.85, []), (1.2, []), (0.7, ["mileage"]), (1.5, ["mileage"])]
)
def test_odometer_and_track(per_step: float, expected: list[str]) -> None:
    fixes = drive(NIGHT, (0, 0), (13_000, 0))
    for n, one in enumerate(fixes):
        one["mileage_hm"] = int(1000 + n * per_step)
    assert rules_of(fixes) == expected


def test_the_odometer_is_not_compared_over_gaps() -> None:
    fixes = drive(NIGHT, (0, 0), (4000, 0), mileage_hm=100) + drive(NIGHT + 700, (6000, 0), (10_000, 0), mileage_hm=900)
    assert "mileage" not in rules_of(fixes)


# ---------------------------------------------------------------------------------------------- wild fixes


def test_wild_fixes_are_dropped_and_their_successors_are_not() -> None:
    fixes = drive(NIGHT, (0, 1200), (4500, 1200), load="empty")
    plain = found(fixes, files(RULES, FREE))
    assert [one.rule for one in plain] == ["no-entry", "no-entry"] or [one.rule for one in plain] == ["no-entry"]
    fixes.insert(22, fix(NIGHT + 215, 2200, 60_000, 36, load="empty"))
    wild = found(fixes, files(RULES, FREE))
    assert [one.rule for one in wild] == [one.rule for one in plain]
    assert all(23 not in one.inputs for one in wild)


def test_a_first_fix_that_is_wild_is_left_behind() -> None:
    fixes = [fix(NIGHT - 10, 0, 90_000), *drive(NIGHT, (0, 400), (3000, 400))]
    (one,) = found(fixes)
    assert one.rule == "off-route"
    assert one.start_utc_s == MIDNIGHT + NIGHT
    assert one.measured["distance_max_m"] < 450


def test_packet_loss_and_repeats_change_no_verdict() -> None:
    fixes = drive(NIGHT, (0, 400), (4000, 400))
    (whole,) = found(fixes)
    (thin,) = found([one for n, one in enumerate(fixes) if n % 3 != 1])
    (double,) = found([one for one in fixes for _ in (0, 1)])
    assert (whole.rule, whole.start_utc_s) == (thin.rule, thin.start_utc_s) == (double.rule, double.start_utc_s)
    assert whole.measured["fixes"] == double.measured["fixes"]


@pytest.mark.parametrize("flags", ["void", "future", "stale", "no-time", "null-island", "poor", "poor void"])
def test_unusable_fixes_are_no_places(flags: str) -> None:
    fixes = drive(NIGHT, (0, 0), (3000, 0))
    wild = [fix(NIGHT + 5 + 10 * n, 1000, 3000, 100, flags=flags, load="full") for n in range(25)]
    assert rules_of(sorted(fixes + wild, key=lambda one: one["time_utc_s"])) == []


# ---------------------------------------------------------------------------------------------- identities, clocks


def test_two_links_are_one_finding_for_as_long_as_they_take_turns() -> None:
    ledger = Ledger(files(RULES, FREE))
    ledger.live(drive(NIGHT, (0, 0), (500, 0)))
    seqs = [
        ledger.state(NIGHT + 60 + 100 * n, "duplicate", address=f"10.0.0.{n % 2}:1", other=f"10.0.0.{1 - n % 2}:1")
        for n in range(4)
    ]
    (one,) = only("duplicate-identity", ledger.findings())
    assert (one.end_utc_s, one.severity) == (None, "lead")
    assert "10.0.0.0:1 / 10.0.0.1:1" in one.text["en"]
    (one,) = only("duplicate-identity", ledger.findings(NIGHT + 360 + 302))
    assert (one.start_utc_s, one.end_utc_s) == (MIDNIGHT + NIGHT + 60, MIDNIGHT + NIGHT + 360)
    assert set(seqs) == set(one.inputs)
    assert one.measured["turns"] == 4
    ledger.state(NIGHT + 2000, "duplicate", address="10.0.0.9:1", other="10.0.0.1:1")
    assert len(only("duplicate-identity", ledger.findings(NIGHT + 2016))) == 2


def test_a_clock_that_goes_back() -> None:
    ledger = Ledger(files(RULES, FREE))
    ledger.live(drive(NIGHT, (0, 0), (5000, 0)))
    wrong = drive(NIGHT + 105, (5100, 0), (12_000, 0))
    for one in wrong:
        data = {"class": CLASS, "plate": PLATE, **one}
        ledger.add(kinds.POSITION, "trackers", "T1", data, one["time_utc_s"] - MIDNIGHT + 400)
    (back,) = only("clock-back", ledger.findings(NIGHT + 1300))
    assert back.measured["back_s"] == 400
    assert back.severity == "fault"


def test_stored_fixes_sent_as_new_ones_are_no_clock_that_goes_back() -> None:
    ledger = Ledger(files(RULES, FREE))
    fixes = drive(NIGHT, (0, 0), (5000, 0))
    ledger.live(fixes[:20])
    ledger.live(fixes[40:44])
    for one in fixes[20:40]:
        ledger.add(kinds.POSITION, "trackers", "T1", {"class": CLASS, "plate": PLATE, **one}, NIGHT + 440)
    ledger.live(fixes[44:])
    assert ledger.rules(NIGHT + 540) == []


# ---------------------------------------------------------------------------------------------- days and books


def test_noon_cuts_events_and_state() -> None:
    fixes = drive(12 * H - 200, (0, 400), (4000, 400))
    before, after = only("off-route", found(fixes, files(RULES, {**PERMIT, "hours": [["00:00", "24:00"]]})))
    noon = MIDNIGHT + 12 * H
    assert (before.end_utc_s, after.start_utc_s) == (noon - 10, noon)
    assert after.measured["trip_start_utc_s"] == noon


def test_a_day_ends_without_another_report() -> None:
    ledger = Ledger(files(RULES, {**PERMIT, "hours": [["00:00", "24:00"]]}))
    ledger.live(drive(11 * H + 3300, (0, 400), (1500, 400)))
    assert [one.end_utc_s for one in only("off-route", ledger.findings())] == [None]
    assert [one.end_utc_s for one in only("off-route", ledger.findings(12 * H + 5))] == [None]  # stored fixes may come
    findings = ledger.findings(12 * H + 35)
    assert [one.end_utc_s for one in only("off-route", findings)] == [MIDNIGHT + 11 * H + 3450]
    assert ledger.rules(12 * H + 200) == ["off-route"]


def test_silence_to_the_end_of_the_day_ends_with_it() -> None:
    ledger = Ledger(files(RULES, FREE))
    ledger.live(drive(10 * H, (0, 0), (1000, 0), load="empty"))
    assert [(one.rule, one.end_utc_s) for one in ledger.findings(11 * H)] == [("offline", None)]
    wanted = [("offline", MIDNIGHT + 12 * H)]
    assert [(one.rule, one.end_utc_s) for one in ledger.findings(12 * H + 1)] == wanted
    ledger.live(drive(13 * H, (0, 0), (1000, 0), load="empty"))
    assert [(one.rule, one.end_utc_s) for one in ledger.findings(13 * H + 130)] == wanted


def test_each_fix_is_judged_by_the_book_in_force_at_its_seq() -> None:
    wide = {**PERMIT, "width_m": 500}
    fixes = drive(NIGHT, (0, 400), (5000, 400))
    ledger = Ledger(files(RULES, wide))
    ledger.live(fixes[:20])
    ledger.load(files(RULES, PERMIT))
    ledger.live(fixes[20:40])
    ledger.load(files(RULES, wide))
    ledger.live(fixes[40:])
    (one,) = ledger.findings()
    assert (one.start_utc_s, one.end_utc_s) == (fixes[20]["time_utc_s"], fixes[39]["time_utc_s"])
    assert one.book_seq == 21
    assert one.book_sha256 == ledger.records[21].data["sha256"]


def test_a_book_that_changes_nothing_for_a_truck_cuts_nothing() -> None:
    other = {**PERMIT, "number": "P-9", "vehicles": ["浙F99999"]}
    fixes = drive(NIGHT, (0, 400), (4000, 400))
    ledger = Ledger(files(RULES, PERMIT))
    ledger.live(fixes[:20])
    ledger.load(files(RULES, other, PERMIT))
    ledger.live(fixes[20:])
    ledger.live(drive(NIGHT + 410, (4100, 0), (4400, 0)))
    (one,) = ledger.findings()
    assert one.book_seq == 0
    assert len(one.inputs) == len(fixes)


def test_a_permit_that_ends_while_driving() -> None:
    short = {**PERMIT, "valid_to": "2026-06-15", "hours": [["00:00", "24:00"]]}
    fixes = drive(24 * H - 200, (0, 0), (2900, 0))
    (one,) = found(fixes, files(RULES, short))
    assert (one.rule, one.start_utc_s) == ("no-permit", MIDNIGHT + 24 * H)


def test_classes_without_rules_are_not_judged() -> None:
    ledger = Ledger()
    for one in drive(NIGHT, (0, 400), (5000, 400)):
        ledger.add(kinds.POSITION, "trackers", "T1", {"class": "recorder", "plate": "", **one}, NIGHT + 600)
    assert ledger.findings() == []


def test_spans_carry_the_class_and_what_may_be_shown() -> None:
    ledger = Ledger()
    ledger.state(NIGHT - 60, "online", "authenticated", privacy="process")
    ledger.live(drive(NIGHT, (0, 400), (5000, 400)))
    spans = ledger.due().spans
    assert {(span.device_class, span.privacy) for span in spans} == {(CLASS, "process")}
