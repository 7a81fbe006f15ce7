"""GeoJSON (RFC 7946) as people draw it: checked, in 1e-7 degrees of WGS-84, with the line of every mistake.

A file is a FeatureCollection with one member more, "datum", because a map of Chinese cities without it may be half a
kilometre off: "WGS-84" or "GCJ-02". Edges are straight in the file's own datum: long ones are divided, then every
point is converted.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Final

from gateway.core.datum import DATUMS, GCJ_02, WGS_84, wgs_e7_from_gcj_e7
from gateway.core.errors import ConfigError, Problem
from gateway.rules.geometry import (
    EDGE_MAX_M,
    LAT_MAX_E7,
    LON_MAX_E7,
    Area,
    Point,
    crossing_edges,
    densified,
    distance_m,
    inside,
    scale,
    segments_of,
)
from gateway.rules.notes import path_text
from gateway.toml_check import shown
from gateway.toml_lines import Path

FILE_MAX_BYTES: Final = 4_194_304
FEATURES_MAX: Final = 5000
POINTS_MAX: Final = 20_000
"""Of one feature."""
AREA_MIN_M2: Final = 20
SPAN_MAX_M: Final = 300_000
LEAP_M: Final = 5000
"""A longer edge of a route is asked about."""

_WEST, _EAST, _SOUTH, _NORTH = 73, 136, 3, 54  # China

Note = Callable[[Path, str], None]
Parts = list[list[Point]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Polygons, each a list of closed rings (its outline, then its holes), or the parts of a line."""

    type: str
    """Polygon | MultiPolygon | LineString | MultiLineString"""
    polygons: list[Parts]
    lines: Parts


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature; `shape` is None where it could not be used, and that has been noted."""

    path: Path
    properties: dict[str, Any]
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Collection:
    """A file of features."""

    datum: str
    members: dict[str, Any]
    """Members beside "features"."""
    features: list[Feature]


def parse(file: str, text: str) -> dict[str, Any]:
    """The document. Raises ConfigError where it is no JSON object, or says something twice."""
    doubled: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _value in pairs]
            doubled.append(next(name for name in names if names.count(name) > 1))
        return result

    try:
        document = json.loads(text, object_pairs_hook=members, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg}, column {error.colno}"
        raise ConfigError([Problem(file, error.lineno, "", problem)]) from None
    except RecursionError:
        raise ConfigError([Problem(file, 0, "", "nested too deeply")]) from None
    except ValueError as error:
        reason = "a number of too many digits" if "digits" in str(error) else str(error)
        raise ConfigError([Problem(file, 0, "", f"not JSON: {reason}")]) from None
    if doubled:
        places = _Scanner(text)
        places.walk()
        raise ConfigError(
            [Problem(file, line, path_text(path), "stands twice; remove one") for path, line in places.doubled]
        )
    if not isinstance(document, dict):
        raise ConfigError([Problem(file, 1, "", "expected an object of type FeatureCollection")])
    return document


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def collection(document: dict[str, Any], note: Note, warn: Note) -> Collection | None:
    """The features of a document; None where the whole cannot be read."""
    if document.get("type") != "FeatureCollection":
        note(("type",), f'expected "FeatureCollection", found {shown(document.get("type", "nothing"))}')
        return None
    datum = _datum(document, note)
    features = document.get("features")
    if not isinstance(features, list):
        note(("features",), "expected a list of features")
        return None
    if len(features) > FEATURES_MAX:
        note(("features",), f"more than {FEATURES_MAX} features; divide the file")
        return None
    read = [_feature(item, ("features", index), datum, note, warn) for index, item in enumerate(features)]
    members = {key: value for key, value in document.items() if key != "features"}
    return Collection(datum, members, [item for item in read if item is not None])


def _datum(document: dict[str, Any], note: Note) -> str:
    known = " or ".join(f'"{name}"' for name in DATUMS)
    datum = document.get("datum")
    _check_crs(document.get("crs"), note)
    if datum in DATUMS:
        return str(datum)
    if datum is None:
        note(("datum",), f"missing; expected {known}: which one does the map use? (AMap and Tencent: GCJ-02)")
    elif isinstance(datum, str) and re.fullmatch(r"bd-?0?9(ll|mc)?", datum, re.IGNORECASE):
        note(("datum",), "BD-09 (Baidu) is not taken, its inverse is not exact; export as WGS-84 or GCJ-02")
    elif isinstance(datum, str) and datum.upper().replace("-", "").replace(" ", "") in {"CGCS2000", "EPSG4490"}:
        note(("datum",), 'CGCS2000 agrees with WGS-84 within decimetres; write "WGS-84"')
    else:
        note(("datum",), f"expected {known}, found {shown(datum)}")
    return WGS_84


def _check_crs(crs: Any, note: Note) -> None:
    """The member "crs" of GeoJSON of 2008, which QGIS still writes."""
    if crs is None:
        return
    name = crs.get("properties", {}) if isinstance(crs, dict) else None
    name = name.get("name") if isinstance(name, dict) else None
    if not isinstance(name, str) or not re.search(r"CRS84|EPSG:+(4326|4490)$", name):
        note(("crs",), f"expected longitude and latitude (CRS84, EPSG:4326 or 4490), found {shown(name or crs)}")


def _feature(item: Any, path: Path, datum: str, note: Note, warn: Note) -> Feature | None:
    if not isinstance(item, dict) or item.get("type") != "Feature":
        note(path, 'expected an object of type "Feature"')
        return None
    properties = item.get("properties")
    if not isinstance(properties, dict):
        note((*path, "properties"), "expected an object with id, kind and name")
        return None
    properties = dict(properties)
    if properties.get("id") is None and item.get("id") is not None:
        properties["id"] = item["id"]
    return Feature(path, properties, _shape(item.get("geometry"), (*path, "geometry"), datum, note, warn))


def _shape(geometry: Any, path: Path, datum: str, note: Note, warn: Note) -> Shape | None:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    depth = {"LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}.get(str(kind))
    if depth is None:
        hint = "; draw the outline as a Polygon" if kind in {"Point", "MultiPoint"} else ""
        note(path, f"expected a Polygon or LineString (or Multi…), found {shown(kind or 'nothing')}{hint}")
        return None
    path = (*path, "coordinates")
    reading = _Reading(datum, note, warn, leaps="Line" in str(kind))
    lists = reading.lists(geometry.get("coordinates"), depth, path)
    if not reading.fine or lists is None:
        return None
    if "Line" in str(kind):
        lines = lists if depth == 2 else [lists]
        _check_lines(lines, path, reading)
        return Shape(str(kind), [], lines) if reading.fine else None
    polygons = lists if depth == 3 else [lists]
    _check_polygons(polygons, path, depth == 3, reading)
    return Shape(str(kind), polygons, []) if reading.fine else None


class _Reading:
    """Coordinates of one feature; after the first mistake of a kind it goes on without repeating it."""

    def __init__(self, datum: str, note: Note, warn: Note, leaps: bool) -> None:
        self.fine = True
        self._leaps = leaps
        self._datum = datum
        self._note = note
        self._warn = warn
        self._points = 0
        self._outside = False

    def wrong(self, path: Path, message: str) -> None:
        """Only the first: one slip of a drawing program makes a hundred."""
        if self.fine:
            self._note(path, message)
        self.fine = False

    def doubt(self, path: Path, message: str) -> None:
        """Usable, but perhaps not what was meant."""
        self._warn(path, message)

    def lists(self, value: Any, depth: int, path: Path) -> Any:
        """Lists of lists of points, `depth` deep; None where something is wrong."""
        if not isinstance(value, list) or not value:
            self.wrong(path, "expected a list of positions" if depth == 1 else "expected a list of lists of positions")
            return None
        if depth > 1:
            return [self.lists(item, depth - 1, (*path, index)) for index, item in enumerate(value)]
        self._points += len(value)
        if self._points > POINTS_MAX:
            self.wrong(path, f"more than {POINTS_MAX} positions in one feature; simplify it")
            return None
        points = [self._point(item, (*path, index)) for index, item in enumerate(value)]
        if self._leaps and self.fine:
            self._ask_about_leaps(points, path)
        return self._converted(points, path) if self.fine else None

    def _point(self, item: Any, path: Path) -> Point:
        if not (
            isinstance(item, list)
            and 2 <= len(item) <= 3
            and all(type(number) in {int, float} and abs(number) < 1e9 and isfinite(number) for number in item)
        ):
            self.wrong(path, f"expected [longitude, latitude], found {shown(item)}")
            return 0, 0
        lon, lat = item[0], item[1]
        if not (_WEST <= lon <= _EAST and _SOUTH <= lat <= _NORTH):
            if _WEST <= lat <= _EAST and _SOUTH <= lon <= _NORTH:
                self.wrong(path, f"latitude first: write [{lat}, {lon}], longitude first (RFC 7946 3.1.1)")
            elif abs(lat) > 90 or abs(lon) > 180:
                self.wrong(path, f"[{lon}, {lat}] is no place in degrees; are these metres of a map grid?")
            elif not self._outside:
                self._outside = True
                self.doubt(path, f"[{lon}, {lat}] is outside China")
        return round(lat * 1e7), round(lon * 1e7)

    def _ask_about_leaps(self, points: list[Point], path: Path) -> None:
        for index, (one, other) in enumerate(pairwise(points), 1):
            if (way := distance_m(*one, *other)) > LEAP_M:
                self.doubt((*path, index), f"{way / 1000:.1f} km from the position before; are some missing?")

    def _converted(self, points: list[Point], path: Path) -> list[Point]:
        if sum(distance_m(*one, *other) for one, other in pairwise(points)) > (POINTS_MAX - len(points)) * EDGE_MAX_M:
            self.wrong(path, f"more than {POINTS_MAX} positions after long edges were divided; simplify it")
            return points
        points = densified(points)
        if self._datum == GCJ_02:
            points = [wgs_e7_from_gcj_e7(lat, lon) for lat, lon in points]
        return [(min(max(lat, -LAT_MAX_E7), LAT_MAX_E7), min(max(lon, -LON_MAX_E7), LON_MAX_E7)) for lat, lon in points]


def _check_lines(lines: Parts, path: Path, reading: _Reading) -> None:
    for index, points in enumerate(lines):
        if not segments_of([points]):
            reading.wrong((*path, index) if len(lines) > 1 else path, "a line has at least two different positions")


def _check_polygons(polygons: list[Parts], path: Path, several: bool, reading: _Reading) -> None:
    for number, rings in enumerate(polygons):
        here = (*path, number) if several else path
        for index, ring in enumerate(rings):
            _check_ring(ring, (*here, index), reading)
        if not reading.fine:
            return
        outline = segments_of([rings[0]])
        for index, hole in enumerate(rings[1:], 1):
            if not any(inside(outline, lat, lon) for lat, lon in hole):
                reading.wrong((*here, index), "a hole outside its polygon; make it a polygon of a MultiPolygon")
    areas = [Area(rings) for rings in polygons]
    for number, one in enumerate(areas):
        for other, (outline_points, *_holes) in enumerate(polygons):
            if other != number and any(one.distance_m(lat, lon) < -0.5 for lat, lon in outline_points):
                reading.wrong((*path, other), f"overlaps polygon {number + 1} of the same feature; join them")


def _check_ring(ring: list[Point], path: Path, reading: _Reading) -> None:
    if len(ring) < 4:
        reading.wrong(path, f"a ring has at least 4 positions, found {len(ring)}")
    elif ring[0] != ring[-1]:
        reading.wrong(path, "not closed: repeat the first position at the end")
    elif _span_m(ring) > SPAN_MAX_M:
        reading.wrong(path, f"more than {SPAN_MAX_M // 1000} km across; is a position wrong?")
    elif area_m2(ring) < AREA_MIN_M2:
        reading.wrong(path, f"encloses {area_m2(ring):.1f} m2, no truck fits in; is it drawn in another unit?")
    elif (found := crossing_edges(segments_of([ring]))) is not None:
        lat, lon = ring[found[1]]
        reading.doubt(
            path, f"crosses itself near [{lon / 1e7:.6f}, {lat / 1e7:.6f}]: what is enclosed twice is outside"
        )


def _span_m(ring: Sequence[Point]) -> float:
    lats = [lat for lat, _lon in ring]
    lons = [lon for _lat, lon in ring]
    return max(distance_m(min(lats), lons[0], max(lats), lons[0]), distance_m(lats[0], min(lons), lats[0], max(lons)))


def area_m2(ring: Sequence[Point]) -> float:
    """What a closed ring encloses."""
    lat_0, lon_0 = ring[0]
    east, north = scale(lat_0)
    double = 0
    for (lat_a, lon_a), (lat_b, lon_b) in pairwise(ring):
        double += (lon_a - lon_0) * (lat_b - lat_0) - (lon_b - lon_0) * (lat_a - lat_0)
    return abs(double) / 2 * east * north


# ------------------------------------------------------------------------------------------------ lines


def json_lines(text: str) -> dict[Path, int]:
    """1-based line of every member and list element of a JSON text that json.loads accepts."""
    scanner = _Scanner(text)
    scanner.walk()
    return scanner.lines


_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class _Scanner:
    """One pass over the tokens."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self.doubled: list[tuple[Path, int]] = []
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def walk(self) -> None:
        """Fill `lines` and `doubled`."""
        stack: list[list[Any]] = []  # of each open container: its path, its next index (None: object), its member
        expects_key = False
        for match in _TOKEN.finditer(self._text):
            piece = match[0]
            if piece == ":":
                expects_key = False
            elif piece == ",":
                top = stack[-1]
                expects_key = top[1] is None
                if not expects_key:
                    top[1] += 1
            elif piece in "}]":
                stack.pop()
                expects_key = False
            elif expects_key:
                stack[-1][2] = json.loads(piece)
                self._mark((*stack[-1][0], stack[-1][2]), match.start())
            else:
                path: Path = ()
                if stack:
                    top = stack[-1]
                    path = (*top[0], top[2] if top[1] is None else top[1])
                    if top[1] is not None:
                        self._mark(path, match.start())
                if piece in "{[":
                    stack.append([path, None if piece == "{" else 0, ""])
                    expects_key = piece == "{"

    def _mark(self, path: Path, at: int) -> None:
        line = bisect_right(self._starts, at)
        if path in self.lines:
            self.doubled.append((path, line))
        self.lines[path] = line
