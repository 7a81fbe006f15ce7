"""The demo's scenario: its files are a good rule book, and the judge finds what is planted and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drivers.fleet.vehicles import DeviceClock
from drivers.io.fleet_runner import run_fleet
from drivers.jt808 import dialect
from drivers.jt808.codec import Version
from drivers.jt808.reports import FixReader
from drivers.jt808.simulated import location_of
from firmware_profiles import loader
from gateway import devices
from gateway.clock import SYSTEM
from gateway.core import kinds
from gateway.core.finding import Judgement
from gateway.rules.book import load_book, records_of
from gateway.rules.judging import Seen, Span
from gateway.rules.trucks import Trucks
from gateway.scenario import CREWS, SPAN_S, Scenario, Wish, fleet, one_vehicle, scenario, way
from tests.drivers.io.terminals import drive, running

NOW = 1_795_318_000
ROUND_THE_CLOCK = [NOW + hour * 3600 for hour in range(0, 24, 5)] + [1_795_320_000]
"""Among them 04:00 UTC, local noon, where days of judging are cut by default."""
Found = dict[tuple[str, int, str], Judgement]


def keep(found: Found, spans: tuple[Span, ...] | Any) -> None:
    """As gateway.judge does: what a span does not list any more is withdrawn."""
    for span in spans:
        gone = [key for key in found if key[0] == span.device and span.from_utc_s <= key[1] < span.to_utc_s]
        for key in gone:
            del found[key]
        found |= {(span.device, one.start_utc_s, one.rule): one for one in span.judgements}


def records(told: Scenario) -> list[Seen]:
    """What a gateway would store, in the order of arrival."""
    readers = {}
    for name in ("muck-egs701", "jt808"):
        loaded = loader.load_tracker(name)
        readers[name] = FixReader(dialect.compile(loaded.profile, loaded.ref), loaded.profile)
    clock = DeviceClock(0.0, told.now_utc_s, SPAN_S, SPAN_S / told.for_s)
    rows: list[tuple[float, str, str, dict[str, Any]]] = []
    for number, (vehicle, model) in enumerate(zip(told.vehicles, told.models, strict=True)):
        head = {"class": "muck-truck", "plate": vehicle.plate}
        if number >= len(CREWS):
            twin = {**head, "state": "duplicate", "address": "192.0.2.1:5", "other": "192.0.2.2:6"}
            rows.append((clock.mono_s(vehicle.start_utc_s), kinds.DEVICE_STATE, vehicle.identity, twin))
        for utc_s in range(vehicle.start_utc_s, told.start_utc_s + SPAN_S, vehicle.interval_s):
            if (seen := vehicle.measure(utc_s)) is None:
                continue
            blind = vehicle.trouble("blind", utc_s)
            sent_s = clock.mono_s(vehicle.start_utc_s + blind.to_s) + 0.1 if blind else clock.mono_s(utc_s)
            reader = readers["muck-egs701" if model.dialect else "jt808"]
            fix = reader.of_location(location_of(seen, model, Version.V2013), int(told.now_utc_s + sent_s))
            backfill = {"backfill": True} if blind else {}
            rows.append((sent_s, kinds.POSITION, vehicle.identity, {**head, **fix, **backfill}))
    rows.sort(key=lambda row: row[0])
    books = [
        Seen(n, one.kind, one.source, one.device, 0, one.data, one.raw) for n, one in enumerate(records_of(told.files))
    ]
    return books + [
        Seen(len(books) + n, kind, "trucks", device, int((told.now_utc_s + sent_s) * 1e9), data)
        for n, (sent_s, kind, device, data) in enumerate(rows)
    ]


def judged(told: Scenario) -> Found:
    """All findings, some seconds after the end."""
    judge, found = Trucks(), Found()
    for number, seen in enumerate(records(told)):
        judge.accept(seen)
        if number % 100 == 99:
            keep(found, judge.due(seen.arrival_utc_ns).spans)
    keep(found, judge.due(int((told.now_utc_s + told.for_s + 15) * 1e9)).spans)
    return found


@pytest.mark.parametrize("now_utc_s", ROUND_THE_CLOCK)
def test_what_is_planted_is_found_and_nothing_else(now_utc_s: int) -> None:
    told = scenario(now_utc_s)
    found = judged(told)
    assert Counter((rule, device) for device, _, rule in found) == Counter(
        (one.rule, one.device) for one in told.planted
    )
    for one in told.planted:
        ((_, start_utc_s, _),) = [key for key in found if (key[0], key[2]) == (one.device, one.rule)]
        assert one.start_utc_s - 60 <= start_utc_s <= one.end_utc_s + 60


def test_ten_trucks_and_some_of_them_do_nothing_wrong() -> None:
    told = scenario(NOW)
    assert len(CREWS) == 10
    assert len({vehicle.identity for vehicle in told.vehicles}) == 10
    wrong = {one.device for one in told.planted}
    assert {vehicle.identity for vehicle in told.vehicles} - wrong == {
        vehicle.identity for vehicle in told.vehicles[:2]
    }
    assert {one.rule for one in told.planted} == {
        "off-route", "hours", "no-permit", "dumping", "dumping-lead", "uncovered", "speeding", "no-entry", "offline",
        "power-cut", "antenna-cut", "jammed", "frozen-gnss", "sensors-lost", "mileage", "duplicate-identity",
    }  # fmt: skip


def test_its_files_are_accepted_without_a_warning(tmp_path: Path) -> None:
    told = scenario(NOW)
    book = load_book(told.files)
    assert book.warnings == ()
    assert len(book.permits_all) == 10
    file = tmp_path / "devices.toml"
    file.write_text(told.devices_toml)
    listed = devices.load(file)
    assert {listed.devices[vehicle.identity].plate for vehicle in told.vehicles} == {v.plate for v in told.vehicles}


def test_the_same_moment_gives_the_same_scenario() -> None:
    assert scenario(NOW).files == scenario(NOW).files
    assert scenario(NOW).planted == scenario(NOW).planted
    assert scenario(NOW).files != scenario(NOW + 86_400).files


def test_device_time_is_never_in_the_future() -> None:
    told = scenario(NOW, for_s=20)
    clock = told.terminals(100.0)[0].clock
    assert clock.utc_s(120.0) == pytest.approx(NOW + 20, abs=1)
    assert told.vehicles[0].end_utc_s is not None
    assert told.vehicles[0].end_utc_s <= NOW + 20
    assert clock.start_utc_s >= told.start_utc_s


@pytest.mark.slow
def test_the_real_source_takes_the_whole_scenario(tmp_path: Path) -> None:
    async def work() -> None:
        told = scenario(SYSTEM.realtime_ns() // 10**9, for_s=4.0)
        file = tmp_path / "devices.toml"
        file.write_text(told.devices_toml)
        async with running(tmp_path / "state", devices_file=str(file)) as source:
            terminals = told.terminals(asyncio.get_running_loop().time())
            async with asyncio.timeout(40):
                await run_fleet(terminals, source.address(), stop=asyncio.Event(), pause_longest_s=0.3)
            assert sum(one.truth.unacknowledged for one in terminals) == 0
            assert sum(len(one.truth.measured) for one in terminals) > 2000
            states = {record.data["state"] for record in source.records("device.state")}
            assert "duplicate" in states
            said = {key for record in source.records("position") for key in record.data}
            assert {"load", "cover", "lift", "mileage_hm", "recorder_kmh_e1", "satellites"} <= said

    drive(work)


# ---------------------------------------------------------------- other fleets


def test_a_wish_makes_as_many_trucks_each_with_its_plant() -> None:
    wish = Wish(
        ways=[way(1), way(2)],
        trucks=4,
        plants=("off-route", "duplicate-identity", "dumping-lead"),
        speed_up=10,
        for_s=60,
    )
    terminals = fleet(wish, NOW, 5.0)
    assert len(terminals) == 5
    assert len({one.vehicle.identity for one in terminals}) == 4
    assert [one.habits.model.dialect for one in terminals] == [True, True, True, False, True]
    assert {one.vehicle.end_utc_s for one in terminals if one.vehicle.journey.repeats} == {NOW + 60}


def test_trucks_without_a_plant_are_spread_over_their_tours() -> None:
    terminals = fleet(Wish(ways=[way(1)], trucks=20), NOW, 5.0)
    assert len({one.vehicle.start_utc_s for one in terminals}) == 20
    assert all(one.vehicle.start_utc_s <= NOW for one in terminals)


def test_blind_zones_count_from_the_beginning_whatever_the_truck_did_before() -> None:
    for one in fleet(Wish(ways=[way(1)], trucks=5, blind_zones_s=[(60, 120)]), NOW, 5.0):
        assert [one.vehicle.reaches(NOW + s) for s in (59, 61, 119, 121)] == [True, False, False, True]


def test_one_vehicle_has_all_faults_one_after_the_other() -> None:
    clock, vehicle = one_vehicle(Wish(ways=[way(1)], plants=("jammed", "antenna-cut"), interval_s=1), NOW, 5.0)
    assert clock.utc_s(5.0) == NOW
    assert [trouble.kind for trouble in vehicle.troubles] == ["jammed", "antenna-cut"]
