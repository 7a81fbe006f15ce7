"""Places as people draw them: every mistake with its line, datums, and what drawing programs write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.datum import gcj_from_wgs
from gateway.core.errors import ConfigError
from gateway.rules import geojson as reading
from gateway.rules.book import load_book
from gateway.rules.geometry import distance_m
from tests.rules.files import box, feature, geojson, problems, site


def wrong(content: bytes) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_book({"p.geojson": content})
    return problems(error)


def warnings(content: bytes) -> list[str]:
    return [str(item) for item in load_book({"p.geojson": content}).warnings]


def attempt(name: str, content: bytes) -> object:
    """A book, or what is wrong; None where nothing is said."""
    try:
        return load_book({name: content})
    except ConfigError as error:
        return error.problems or None


ROUTE = {"id": "r1", "kind": "route", "name": "线路"}
SITE = {"id": "s1", "kind": "site", "name": "工地"}

# ------------------------------------------------------------------------------------------ datum


@pytest.mark.parametrize(
    ("datum", "message"),
    [
        (None, 'missing; expected "WGS-84" or "GCJ-02": which one does the map use? (AMap and Tencent: GCJ-02)'),
        ("BD-09", "BD-09 (Baidu) is not taken, its inverse is not exact; export as WGS-84 or GCJ-02"),
        ("bd09ll", "BD-09 (Baidu) is not taken, its inverse is not exact; export as WGS-84 or GCJ-02"),
        ("CGCS2000", 'CGCS2000 agrees with WGS-84 within decimetres; write "WGS-84"'),
        ("Xian80", 'expected "WGS-84" or "GCJ-02", found \'Xian80\''),
        (84, 'expected "WGS-84" or "GCJ-02", found 84'),
    ],
)
def test_the_datum_must_be_said_and_known(datum, message):
    assert wrong(geojson(site(), datum=datum)) == [f"p.geojson:1: datum: {message}"]


def test_gcj_02_is_converted_once():
    lat, lon = gcj_from_wgs(30.7, 121.02)
    book = load_book({"p.geojson": geojson(feature(SITE, box(lon, lat)), datum="GCJ-02")})
    place = book.place("s1")
    assert place is not None
    assert place.datum == "GCJ-02"
    assert distance_m(*place.polygons[0][0][0], 307_000_000, 1_210_200_000) < 0.02
    as_wgs = load_book({"p.geojson": geojson(feature(SITE, box(lon, lat)))})
    assert 450 < distance_m(*as_wgs.place("s1").polygons[0][0][0], 307_000_000, 1_210_200_000) < 550


def test_long_edges_are_straight_in_the_datum_of_the_file():
    """Divided first, converted then: the middle of a 20 km edge is the middle of the map's line."""
    a, b = (121.0, 30.6), (121.2, 30.7)
    book = load_book({"p.geojson": geojson(feature(ROUTE, [a, b], "LineString"), datum="GCJ-02")})
    points = book.routes["r1"].parts[0]
    assert len(points) > 20
    for index, (lat, lon) in enumerate(points):
        share = index / (len(points) - 1)
        there = gcj_from_wgs(lat / 1e7, lon / 1e7)
        assert there == pytest.approx((a[1] + share * (b[1] - a[1]), a[0] + share * (b[0] - a[0])), abs=2e-7)


@pytest.mark.parametrize("name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:EPSG::4326", "EPSG:4490"])
def test_crs_of_qgis(name):
    assert load_book({"p.geojson": geojson(site(), crs={"type": "name", "properties": {"name": name}})}).places


@pytest.mark.parametrize("crs", [{"type": "name", "properties": {"name": "EPSG:3857"}}, "EPSG:3857", {"properties": 4}])
def test_metres_of_a_map_are_refused(crs):
    assert (
        "crs: expected longitude and latitude (CRS84, EPSG:4326 or 4490), found" in wrong(geojson(site(), crs=crs))[0]
    )


# ------------------------------------------------------------------------------------------ positions


@pytest.mark.parametrize(
    ("coordinates", "message"),
    [
        ([[[30.7, 121.0], [30.7, 121.1], [30.8, 121.1], [30.7, 121.0]]],
         "latitude first: write [121.0, 30.7], longitude first (RFC 7946 3.1.1)"),
        ([[[40.0, 80.0], [40.1, 80.0], [40.1, 80.1], [40.0, 80.0]]],
         "latitude first: write [80.0, 40.0], longitude first (RFC 7946 3.1.1)"),
        ([[[13471000, 3590000], [1, 2], [2, 3], [3, 4]]],
         "[13471000, 3590000] is no place in degrees; are these metres of a map grid?"),
        ([[[121.0], [1, 2], [2, 3], [3, 4]]], "expected [longitude, latitude], found a list"),
        ([[["121", "30"], [1, 2], [2, 3], [3, 4]]], "expected [longitude, latitude], found a list"),
        ([[[True, False], [1, 2], [2, 3], [3, 4]]], "expected [longitude, latitude], found a list"),
        ([[7, [1, 2], [2, 3], [3, 4]]], "expected [longitude, latitude], found 7"),
        ([[]], "expected a list of positions"),
        ([], "expected a list of lists of positions"),
        (None, "expected a list of lists of positions"),
        ([[[121.0, 30.7], [121.001, 30.7], [121.0, 30.7]]], "a ring has at least 4 positions, found 3"),
        ([box(121.0, 30.7)[0][:-1]], "not closed: repeat the first position at the end"),
        (box(121.0, 30.7, 0.00001), "encloses 1.1 m2, no truck fits in; is it drawn in another unit?"),
        (box(121.0, 30.7, 4.0), "more than 300 km across; is a position wrong?"),
        ([*box(121.0, 30.7), *box(121.5, 30.7, 0.0005)],
         "a hole outside its polygon; make it a polygon of a MultiPolygon"),
    ],
)  # fmt: skip
def test_polygons_that_are_none(coordinates, message):
    (found,) = wrong(geojson(feature(SITE, coordinates)))
    assert found.startswith("p.geojson:2: features[0].geometry.coordinates")
    assert found.endswith(f": {message}")


def test_one_slip_of_a_drawing_program_is_told_once():
    swapped = [[position[::-1] for position in box(121.0, 30.7)[0]]]
    assert len(wrong(geojson(feature(SITE, swapped)))) == 1


def test_the_line_of_a_position():
    ring = [[[121.0, 30.7], [121.1, 30.7], [30.7, 121.1], [121.0, 30.7]]]
    pretty = json.dumps(json.loads(geojson(feature(SITE, ring))), indent=1)
    (found,) = wrong(pretty.encode())
    place, line = found.split(": ")[1], int(found.split(":")[1])
    assert place == "features[0].geometry.coordinates[0][2]"
    assert pretty.splitlines()[line - 1 : line + 2] == ["      [", "       30.7,", "       121.1"]


def test_numbers_beyond_numbers():
    content = geojson(site()).replace(b"[121.0, 30.7]", b"[1e400, 30.7]", 1)
    assert wrong(content) == [
        "p.geojson:2: features[0].geometry.coordinates[0][0]: expected [longitude, latitude], found a list"
    ]


def test_parts_that_overlap():
    several = [box(121.0, 30.7), box(121.001, 30.701)]
    assert wrong(geojson(feature(SITE, several, "MultiPolygon"))) == [
        "p.geojson:2: features[0].geometry.coordinates[1]: overlaps polygon 1 of the same feature; join them",
    ]
    beside = [box(121.0, 30.7), box(121.002, 30.7)]
    assert load_book({"p.geojson": geojson(feature(SITE, beside, "MultiPolygon"))}).place("s1") is not None


def test_other_shapes():
    (point,) = wrong(geojson(feature(SITE, [121.0, 30.7], "Point")))
    assert point.endswith(
        "geometry: expected a Polygon or LineString (or Multi…), found 'Point'; draw the outline as a Polygon"
    )
    assert wrong(geojson({**site(), "geometry": None})) == [
        "p.geojson:2: features[0].geometry: expected a Polygon or LineString (or Multi…), found 'nothing'"
    ]
    assert wrong(geojson(feature(ROUTE, box(121.0, 30.7)))) == [
        "p.geojson:2: features[0].geometry: a route is a LineString, found a Polygon"
    ]
    assert wrong(geojson(feature(SITE, [[121.0, 30.7], [121.1, 30.7]], "LineString"))) == [
        "p.geojson:2: features[0].geometry: a site is a Polygon, found a LineString"
    ]
    assert wrong(geojson(feature(ROUTE, [[121.0, 30.7], [121.0, 30.7]], "LineString"))) == [
        "p.geojson:2: features[0].geometry.coordinates: a line has at least two different positions"
    ]


def test_doubts_are_warnings():
    tie = [[[121.0, 30.7], [121.001, 30.701], [121.001, 30.7], [121.0, 30.7006], [121.0, 30.7]]]
    (crossed,) = warnings(geojson(feature(SITE, tie)))
    assert crossed.startswith("p.geojson:2: features[0].geometry.coordinates[0]: crosses itself near [121.00")
    assert warnings(geojson(site(lon=2.3, lat=48.8))) == [
        "p.geojson:2: features[0].geometry.coordinates[0][0]: [2.3, 48.8] is outside China"
    ]
    assert warnings(geojson(feature(ROUTE, [[121.0, 30.7], [121.1, 30.7]], "LineString"))) == [
        "p.geojson:2: features[0].geometry.coordinates[1]: 9.6 km from the position before; are some missing?"
    ]
    assert warnings(geojson(site())) == []


def test_a_height_is_passed_over():
    high = [[[*position, 12.5] for position in box(121.0, 30.7)[0]]]
    assert load_book({"p.geojson": geojson(feature(SITE, high))}).place("s1") is not None


# ------------------------------------------------------------------------------------------ the document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"type": ', "p.geojson:1: not JSON: Expecting value, column 10"),
        (b'{"a": 1,\n "b": NaN}', "p.geojson: not JSON: NaN is no number of JSON"),
        (b"[" * 100_000, "p.geojson: nested too deeply"),
        (b"[1]", "p.geojson:1: expected an object of type FeatureCollection"),
        (b"\xff\xfe", "p.geojson:1: not UTF-8; save the file as UTF-8"),
        (b'{"type": "Feature"}', "p.geojson:1: type: expected \"FeatureCollection\", found 'Feature'"),
        (b'{"type": "FeatureCollection", "datum": "WGS-84"}', "p.geojson: features: expected a list of features"),
        (b'{"type": "FeatureCollection", "datum": "WGS-84", "zone": 8, "features": []}',
         'p.geojson:1: zone: expected an offset from UTC, "+08:00"; places have fixed offsets, found 8'),
        (b'{"type": "FeatureCollection",\n "datum": "WGS-84", "features": [5]}',
         'p.geojson:2: features[0]: expected an object of type "Feature"'),
        (b'{"type": "FeatureCollection",\n "datum": "WGS-84", "features": [{"type": "Feature"}]}',
         "p.geojson:2: features[0].properties: expected an object with id, kind and name"),
        (b'{"type": "FeatureCollection",\n "datum": "WGS-84",\n "datum": "GCJ-02", "features": []}',
         "p.geojson:3: datum: stands twice; remove one"),
        (b'{"a": ' + b"1" * 5000 + b"}",
         "p.geojson: not JSON: a number of too many digits"),
    ],
)  # fmt: skip
def test_documents_that_are_none(content, message):
    assert wrong(content) == [message]


def test_too_many_features_and_positions():
    many = geojson(*({"type": "Feature"} for _ in range(5001)))
    assert wrong(many) == ["p.geojson:1: features: more than 5000 features; divide the file"]
    ring = [[121 + step / 1e6, 30.7] for step in range(20_001)]
    assert wrong(geojson(feature(SITE, [ring]))) == [
        "p.geojson:2: features[0].geometry.coordinates[0]: more than 20000 positions in one feature; simplify it"
    ]
    far = [[121.0 + 0.5 * (step % 2), 30.7] for step in range(1000)]
    assert wrong(geojson(feature(ROUTE, far, "LineString")))[0].endswith(
        "more than 20000 positions after long edges were divided; simplify it"
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=25,
)


def paths(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


@given(json_values, st.sampled_from((None, 1)))
def test_lines_of_any_json(value, indent):
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    lines = reading.json_lines(text)
    assert set(lines) == set(paths(value))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@given(json_values)
@settings(max_examples=60)
def test_any_document_gives_a_book_or_problems(value):
    for content in (value, {"type": "FeatureCollection", "datum": "WGS-84", "features": [value]}):
        assert attempt("p.geojson", json.dumps(content).encode()) is not None


@given(st.binary(max_size=200))
def test_any_bytes_give_a_book_or_problems(content):
    for name in ("p.geojson", "p.toml"):
        assert attempt(name, content) is not None
