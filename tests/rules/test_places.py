"""Places and routes: what their properties mean, and that the index gives what looking at each gives."""

from __future__ import annotations

import random
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import ConfigError, ProtocolMisuse
from gateway.rules.book import load_book
from gateway.rules.geometry import Cells, nearest_among, scale
from gateway.rules.places import NEAR_M, Crossed, Near, Place, Places
from tests.rules.files import box, feature, geojson, problems, site
from tests.rules.test_geometry import PINGHU, at, wandering
from tests.rules.test_windows import utc_s

NOW_S = utc_s("2026-06-15 12:00")


def wrong(*features):
    with pytest.raises(ConfigError) as error:
        load_book({"p.geojson": geojson(*features)})
    return problems(error)


def zone(**properties):
    return feature({"id": "z1", "kind": "zone", "name": "学校", **properties}, box(121.0, 30.7))


def route(**properties):
    return feature(
        {"id": "r1", "kind": "route", "name": "线路", **properties}, [[121.0, 30.7], [121.01, 30.71]], "LineString"
    )


def place_of(item) -> Place:
    (found,) = load_book({"p.geojson": geojson(item)}).places.by_id.values()
    return found


# ------------------------------------------------------------------------------------------ properties


def test_a_place_with_everything():
    found = place_of(site(valid_from="2026-06-01", valid_to="2026-06-30", source="核准 12 号", colour="red", fid=None))
    assert (found.id, found.kind, found.name, found.source, found.file) == (
        "s1",
        "site",
        "工地",
        "核准 12 号",
        "p.geojson",
    )
    assert [
        found.valid(utc_s(day)) for day in ("2026-05-31 23:59:59", "2026-06-01", "2026-06-30 23:59:59", "2026-07-01")
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert found.geometry() == {
        "type": "Polygon",
        "coordinates": [[[lon, lat] for lat, lon in found.polygons[0][0]]],
        "id": "s1",
        "name": "工地",
    }


def test_speed_limits_by_the_hour():
    school = place_of(
        zone(limits=[{"speed_kmh": 20, "hours": [["07:00", "08:30"]], "weekdays": ["mon"]}, {"speed_kmh": 40}])
    )
    assert school.speed_kmh(utc_s("2026-06-15 07:30")) == 20  # a Monday
    assert school.speed_kmh(utc_s("2026-06-15 09:00")) == 40
    assert school.speed_kmh(utc_s("2026-06-16 07:30")) == 40
    assert place_of(zone(speed_kmh=30)).speed_kmh(0) == 30
    only_then = place_of(zone(limits=[{"speed_kmh": 20, "hours": [["07:00", "08:30"]]}]))
    assert only_then.speed_kmh(utc_s("2026-06-15 09:00")) is None


def test_hours_of_a_place():
    closed = feature({"id": "n", "kind": "no-entry", "name": "老城", "hours": [["06:00", "22:00"]]}, box(121.0, 30.7))
    assert place_of(closed).hours.open(utc_s("2026-06-15 12:00"))
    assert not place_of(closed).hours.open(utc_s("2026-06-15 23:00"))


def test_a_route():
    book = load_book({"p.geojson": geojson(route(speed_kmh=60.0, width_m=80))})
    found = book.routes["r1"]
    assert (found.speed_kmh, found.width_m) == (60, 80)
    assert found.line.length_m == pytest.approx(1465, abs=1)
    assert found.geometry()["type"] == "LineString"
    several = feature(
        {"id": 7, "kind": "route", "name": "两段"},
        [[[121.0, 30.7], [121.01, 30.7]], [[121.02, 30.7], [121.03, 30.7]]],
        "MultiLineString",
    )
    found = load_book({"p.geojson": geojson(several)}).routes["7"]
    assert len(found.parts) == 2
    assert found.geometry()["type"] == "MultiLineString"
    assert len(found.geometry()["coordinates"]) == 2


def test_the_id_of_the_feature_serves():
    item = {**feature({"kind": "site", "name": "x"}, box(121.0, 30.7)), "id": "outer"}
    assert place_of(item).id == "outer"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (site(kind="sight"),
         "kind: expected one of route, site, ground, zone, no-entry, dead-zone, depot; found 'sight'"),
        (site(kind=["site"]),
         "kind: expected one of route, site, ground, zone, no-entry, dead-zone, depot; found a list"),
        (site(name="  "), "name: expected text on one line, not empty, found '  '"),
        (site(place_id="有"), "id: expected an id of letters, digits, . _ -, found '有'"),
        (site(valid_form="2026-01-01"), "valid_form: unknown key; did you mean valid_from?"),
        (site(valid_to="30.6.2026"), 'valid_to: expected a day "YYYY-MM-DD", found \'30.6.2026\''),
        (site(valid_from="2026-02-30"), "valid_from: 2026-02-30 is no day of the calendar"),
        (site(valid_from="2026-03-01", valid_to="2026-02-01"),
         "valid_to: ends (2026-02-01) before it begins (2026-03-01)"),
        (site(hours=[["07:00"]]), 'hours: a window is a pair, ["20:00", "04:00"], found 1 times'),
        (site(weekdays=["mon"]), 'hours: weekdays without hours; for whole days write hours = [["00:00", "24:00"]]'),
        (site(weekdays=["Monday"], hours=[["07:00", "08:00"]]),
         'weekdays[0]: expected "fri" or "mon" or "sat" or "sun" or "thu" or "tue" or "wed", found \'Monday\''),
        (site(speed_kmh=30), "kind: a site has no speed limit; draw a zone over it"),
        (zone(), "kind: a zone without a limit; add speed_kmh or limits"),
        (zone(speed_kmh=0), "speed_kmh: expected a whole number from 1 to 200, found 0"),
        (zone(speed_kmh=30.5), "speed_kmh: expected a whole number from 1 to 200, found 30.5"),
        (zone(limits=[{"hours": [["07:00", "08:00"]]}]),
         "limits[0].speed_kmh: missing; expected a whole number from 1 to 200"),
        (zone(limits=[{"speed_kmh": 20, "hours": [["07:00", "07:00"]]}]),
         'limits[0].hours: 07:00 to 07:00 is no span of time; the whole day is "00:00" to "24:00"'),
        (zone(limits={"speed_kmh": 20}), "limits: expected tables [[limits]], found a table"),
        (route(width_m=5000), "width_m: expected a whole number from 1 to 1000, found 5000"),
    ],
)  # fmt: skip
def test_properties_that_are_wrong(item, message):
    assert wrong(item) == [f"p.geojson:2: features[0].properties.{message}"]


def test_every_mistake_is_told():
    assert [
        item.split(": ")[0]
        for item in wrong(site("a", valid_to="x"), site("b", kind="x"), site("c", lat=121, lon=30.7))
    ] == [
        "p.geojson:2",
        "p.geojson:3",
        "p.geojson:4",
    ]


# ------------------------------------------------------------------------------------------ near


def book_of(seed: int, count: int) -> Places:
    """Fences of all sizes around a place, some in one another, some expired."""
    rng = random.Random(seed)
    features = []
    for number in range(count):
        lat, lon = (value / 1e7 for value in at(rng.gauss(0, 1500), rng.gauss(0, 1500)))
        size = rng.choice((0.0005, 0.002, 0.01, 0.05))
        shape = box(round(lon, 7), round(lat, 7), size)
        if number % 4 == 1:
            shape = [
                [(lon, lat), (lon + size, lat + size), (lon, lat + 2 * size), (lon - size, lat + size), (lon, lat)]
            ]
        elif number % 3 == 0:
            hole = box(round(lon + size / 4, 7), round(lat + size / 4, 7), size / 2)
            shape = [*shape, *hole]
        properties = {"id": f"p{number}", "kind": "site", "name": "x"}
        if number % 7 == 6:
            properties["valid_to"] = "2026-06-14"
        features.append(feature(properties, shape))
    return load_book({"p.geojson": geojson(*features)}).places


def by_looking_at_each(places: Places, lat: int, lon: int, utc_s: int, within_m: float) -> list[Near]:
    found = []
    for place in places.by_id.values():
        if place.valid(utc_s):
            distance = sqrt(nearest_among(place.area.edges, lat, lon, *scale(lat))[0])
            if place.area.contains(lat, lon):
                found.append(Near(place, -min(distance, within_m)))
            elif distance <= within_m:
                found.append(Near(place, distance))
    return found


def test_near_is_what_looking_at_each_place_gives():
    places = book_of(1, 40)
    rng = random.Random(2)
    for _ in range(400):
        lat, lon = at(rng.gauss(0, 2500), rng.gauss(0, 2500))
        within_m = rng.choice((0.0, 20.0, 100.0, float(NEAR_M)))
        assert places.near(lat, lon, NOW_S, within_m) == by_looking_at_each(places, lat, lon, NOW_S, within_m)


PLACES = book_of(3, 25)


@given(st.integers(-400_000, 400_000), st.integers(-400_000, 400_000), st.floats(0, NEAR_M))
@settings(max_examples=100)
def test_near_anywhere(d_lat, d_lon, within_m):
    lat, lon = PINGHU[0] + d_lat, PINGHU[1] + d_lon
    assert PLACES.near(lat, lon, NOW_S, within_m) == by_looking_at_each(PLACES, lat, lon, NOW_S, within_m)


def test_near_on_every_corner():
    for place in PLACES.by_id.values():
        for lat, lon in place.polygons[0][0]:
            assert PLACES.near(lat, lon, NOW_S, 100.0) == by_looking_at_each(PLACES, lat, lon, NOW_S, 100.0)


def test_near_all_along_the_boundaries():
    """Where a boundary only cuts off the corner of a cell."""
    rng = random.Random(9)
    for place in PLACES.by_id.values():
        for lon, lat, d_lon, d_lat, _index in place.area.edges:
            for _ in range(12):
                share = rng.random()
                there = (
                    lat + round(d_lat * share) + rng.randint(-500, 500),
                    lon + round(d_lon * share) + rng.randint(-500, 500),
                )
                assert PLACES.near(*there, NOW_S, 100.0) == by_looking_at_each(PLACES, *there, NOW_S, 100.0)


def test_near_far_away_and_with_nothing_there():
    assert PLACES.near(0, 0, NOW_S, NEAR_M) == []
    assert Places(()).near(*PINGHU, NOW_S, NEAR_M) == []
    assert Places(()).crossed(PINGHU, at(50, 50), NOW_S) == []
    with pytest.raises(ProtocolMisuse, match="within 1000 m, asked for 1001"):
        PLACES.near(*PINGHU, NOW_S, 1001)


def test_a_small_memory_changes_nothing():
    small = Places(PLACES.by_id.values(), Cells(limit=10))
    for lat, lon in wandering(4, 80, 120):
        assert small.near(lat, lon, NOW_S, 150.0) == PLACES.near(lat, lon, NOW_S, 150.0)


# ------------------------------------------------------------------------------------------ crossed


def test_crossed_is_what_looking_at_each_place_gives():
    rng = random.Random(6)
    seen = 0
    for _ in range(300):
        a = at(rng.gauss(0, 2000), rng.gauss(0, 2000))
        reach_m = rng.choice((20.0, 300.0, 900.0, 4000.0))
        b = at(rng.gauss(0, reach_m), rng.gauss(0, reach_m), a)
        expected = [
            Crossed(place, passages)
            for place in PLACES.by_id.values()
            if place.valid(NOW_S) and (passages := place.area.passages(a, b))
        ]
        assert PLACES.crossed(a, b, NOW_S) == expected
        seen += len(expected)
    assert seen > 100


def test_a_fence_that_no_fix_lies_in():
    small = Places([place_of(site("tiny", lon=121.02, lat=30.7))])
    south, north = at(-300, 100, (307_000_000, 1_210_200_000)), at(500, 100, (307_000_000, 1_210_200_000))
    assert small.near(*south, NOW_S, 50.0) == small.near(*north, NOW_S, 50.0) == []
    (crossed,) = small.crossed(south, north, NOW_S)
    assert crossed.through
    assert crossed.passages[0].enter == pytest.approx(0.375, abs=0.001)
    (into,) = small.crossed(south, at(100, 100, (307_000_000, 1_210_200_000)), NOW_S)
    assert not into.through


def test_equality():
    assert book_of(3, 25) == PLACES
    assert book_of(3, 24) != PLACES
    assert PLACES != 5
    assert len(PLACES) == 25
