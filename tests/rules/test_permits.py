"""Permits: reading, looking up, being in force."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigError
from gateway.rules.book import Book, load_book
from gateway.rules.permits import plate_key
from tests.rules.files import feature, geojson, problems, site
from tests.rules.test_windows import utc_s

PLACES = geojson(
    site("s1"),
    feature({"id": "g1", "kind": "ground", "name": "消纳场"}, site()["geometry"]["coordinates"]),
    feature({"id": "r1", "kind": "route", "name": "线路"}, [[121.0, 30.7], [121.01, 30.71]], "LineString"),
)
PERMIT = """
number = "0117"
firm = "宏达"
vehicles = ["浙F12345"]
route = "r1"
sites = ["s1"]
grounds = ["g1"]
valid_from = 2026-06-01
valid_to = "2026-06-30"
"""


def text(*permits: str, head: str = "") -> bytes:
    return f'format = "permits/v1"\n{head}\n'.encode() + "".join(f"\n[[permit]]{item}" for item in permits).encode()


def book(*permits: str, head: str = "") -> Book:
    return load_book({"p.geojson": PLACES, "permits.toml": text(*permits, head=head)})


def wrong(*permits: str, head: str = "") -> list[str]:
    with pytest.raises(ConfigError) as error:
        book(*permits, head=head)
    return problems(error)


def with_line(line: str, without: str = "") -> str:
    kept = [item for item in PERMIT.splitlines() if not without or not item.startswith(without)]
    return "\n".join([*kept, line]) + "\n"


def test_a_permit():
    (permit,) = book(PERMIT).permits("浙F12345", utc_s("2026-06-15 12:00"))
    assert (permit.number, permit.firm, permit.routes, permit.sites, permit.grounds) == (
        "0117",
        "宏达",
        ("r1",),
        ("s1",),
        ("g1",),
    )
    assert (permit.valid_from, permit.valid_to, permit.width_m, permit.speed_kmh) == (
        "2026-06-01",
        "2026-06-30",
        None,
        None,
    )
    assert not permit.hours.limited
    assert permit.file == "permits.toml"


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("浙F·12345", "浙F12345"),
        ("浙f 12-345", "浙F12345"),
        ("浙Ｆ１２３４５", "浙F12345"),
        ("浙F.D12345", "浙FD12345"),
        (" 浙F12345 ", "浙F12345"),
        ("", ""),
    ],
)
def test_plates_however_they_are_written(written, key):
    assert plate_key(written) == key
    if key == "浙F12345":
        assert book(PERMIT).permits(written, utc_s("2026-06-15 12:00"))
        assert book(PERMIT.replace("浙F12345", written)).permits(key, utc_s("2026-06-15 12:00"))


def test_in_force_by_days():
    permits = book(PERMIT).permits
    assert [
        len(permits("浙F12345", utc_s(time)))
        for time in ("2026-05-31 23:59:59", "2026-06-01", "2026-06-30 23:59:59", "2026-07-01")
    ] == [0, 1, 1, 0]
    assert permits("浙F99999", utc_s("2026-06-15")) == ()


def test_a_window_that_begins_on_the_last_day_runs_to_its_end():
    permits = book(with_line('hours = [["20:00", "04:00"]]')).permits
    in_force = {
        "2026-05-31 23:00": 0,
        "2026-06-01 03:00": 1,  # by the date; the window of the evening before is open too
        "2026-06-30 23:00": 1,
        "2026-07-01 03:59:59": 1,
        "2026-07-01 04:00": 0,
        "2026-07-01 21:00": 0,
    }
    assert {time: len(permits("浙F12345", utc_s(time))) for time in in_force} == in_force


def test_a_window_that_does_not_begin_on_the_last_day_does_not():
    friday_nights = book(with_line('hours = [["20:00", "04:00"]]\nweekdays = ["fri"]')).permits  # 30 June: a Tuesday
    assert not friday_nights("浙F12345", utc_s("2026-07-01 03:00"))
    assert friday_nights("浙F12345", utc_s("2026-06-30 03:00"))


def test_a_window_that_begins_the_day_after_does_not_prolong_it():
    two = book(with_line('hours = [["20:00", "02:00"], ["01:00", "03:00"]]')).permits
    assert two("浙F12345", utc_s("2026-07-01 01:30"))  # in the window of the evening before
    assert not two("浙F12345", utc_s("2026-07-01 02:30"))  # in one of July only


def test_another_zone():
    permits = book(PERMIT, head='zone = "+06:00"').permits
    assert permits("浙F12345", utc_s("2026-07-01 01:59:59"))
    assert not permits("浙F12345", utc_s("2026-07-01 02:00"))


def test_several_routes_and_permits():
    second = with_line('number = "0118"', "number")
    both = book(PERMIT, second.replace('route = "r1"', 'route = ["r1"]')).permits("浙F12345", utc_s("2026-06-15"))
    assert [permit.number for permit in both] == ["0117", "0118"]
    assert both[0].routes == both[1].routes == ("r1",)
    free = book(with_line("", "route"))
    assert free.permits("浙F12345", utc_s("2026-06-15"))[0].routes == ()


@pytest.mark.parametrize(
    ("permit", "message"),
    [
        (with_line("", "number"), "permit[0].number: missing; expected text on one line, not empty"),
        (with_line("vehicles = []", "vehicles"), "permit[0].vehicles: names no vehicle"),
        (with_line('vehicles = "浙F12345"', "vehicles"),
         "permit[0].vehicles: expected a list, found '浙F12345'"),
        (with_line('vehicles = ["浙F12345", "浙F·12345"]', "vehicles"),
         "permit[0].vehicles[1]: 浙F12345 stands twice in this permit"),
        (with_line("valid_to = 2026-05-30", "valid_to"),
         "permit[0].valid_to: ends (2026-05-30) before it begins (2026-06-01)"),
        (with_line('valid_to = ""', "valid_to"),
         'permit[0].valid_to: a permit has a first and a last day, "YYYY-MM-DD"'),
        (with_line("valid_to = 2026-06-30T12:00:00", "valid_to"),
         'permit[0].valid_to: expected a day "YYYY-MM-DD", found 2026-06-30 12:00:00'),
        (with_line('hours = ["20:00-04:00"]'), "permit[0].hours[0]: expected a list, found '20:00-04:00'"),
        (with_line('hours = [["20:00", "25:00"]]'),
         'permit[0].hours: times of a window are written "HH:MM", from "00:00" to "24:00"'),
        (with_line("width_m = 0"), "permit[0].width_m: expected a whole number from 1 to 1000, found 0"),
        (with_line('vehicle = "x"'), "permit[0].vehicle: unknown key; did you mean vehicles?"),
        (with_line('sites = ["s2"]', "sites"), "permit[0].sites[0]: no site has the id s2; did you mean s1?"),
        (with_line('sites = ["g1"]', "sites"),
         "permit[0].sites[0]: expected a site; g1 in p.geojson is a ground"),
        (with_line('route = "zz"', "route"), "permit[0].route[0]: no route has the id zz"),
    ],
)  # fmt: skip
def test_permits_that_are_wrong(permit, message):
    (found,) = wrong(permit)
    assert found.split(": ", 1)[1] == message
    line = int(found.split(": ")[0].split(":")[1])
    key = message.split(":")[0].split(".")[1].split("[")[0]
    lines = text(permit).decode().splitlines()
    assert lines[line - 1].startswith(key) or lines[line - 1] == "[[permit]]"


def test_every_mistake_of_every_permit():
    found = wrong(with_line("width_m = 0"), PERMIT.replace("0117", "2"), with_line("valid_to = 2026-05-30", "valid_to"))
    assert [item.split(": ")[1] for item in found] == ["permit[0].width_m", "permit[2].valid_to"]


def test_numbers_that_stand_twice_even_in_another_file():
    assert wrong(PERMIT, PERMIT) == ["permits.toml:15: permit[1].number: permit 0117 stands already in permits.toml:5"]
    with pytest.raises(ConfigError) as error:
        load_book({"p.geojson": PLACES, "a.toml": text(PERMIT), "b.toml": text(PERMIT)})
    assert problems(error) == ["b.toml:5: permit[0].number: permit 0117 stands already in a.toml:5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('zone = "8"', "zone: expected an offset from UTC, \"+08:00\"; places have fixed offsets, found '8'"),
        ("permit = 5", "permit: expected tables [[permit]], found 5"),
        ("permit = [5]", "permit[0]: expected a table [permit[0]], found 5"),
        ("permits = []", "permits: unknown key; did you mean permit?"),
    ],
)
def test_heads_that_are_wrong(content, message):
    assert message in [item.split(": ", 1)[1] for item in wrong(head=content)]


def test_doubts():
    odd = book(with_line('vehicles = ["TRUCK 7"]\nwidth_m = 20', "vehicles").replace('route = "r1"', ""))
    assert [str(item) for item in odd.warnings] == [
        "permits.toml:12: permit[0].vehicles[0]: 'TRUCK7' does not look like a plate",
        "permits.toml:13: permit[0].width_m: a width without a route; nothing is measured against it",
    ]
    expired = geojson(site("s1", valid_to="2026-05-31"))
    found = load_book(
        {"p.geojson": expired, "permits.toml": text(with_line("grounds = []", "grounds").replace('route = "r1"', ""))}
    )
    assert [item.message for item in found.warnings] == ["s1 (p.geojson) is never valid while this permit is"]


@pytest.mark.parametrize("plate", ["浙F12345", "浙FD12345", "沪A12345D", "浙F1234挂", "粤Z1234港"])
def test_real_plates_raise_no_doubt(plate):
    assert book(with_line(f'vehicles = ["{plate}"]', "vehicles")).warnings == ()
