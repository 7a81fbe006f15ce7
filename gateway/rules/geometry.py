"""Plane geometry in metres around the tested point, on the ellipsoid of WGS-84; places are integers of 1e-7 degrees.

With the tested point as origin, x = dLon N(phi) cos(phi) and y = dLat M(phi): the error grows with the square of the
distance, in China < 1 mm at 100 m, < 5 cm at 1 km, about 1 m at 5 km. An edge is the straight line in longitude and
latitude that RFC 7946 3.1.1 says it is.

Only + - * / and square roots are used on the way to a distance, which IEEE 754 rounds in one way only: the same
inputs give the same floats on every machine. Whether a point is inside, and whether lines cross, is decided in exact
integers. The index changes no result: it leaves out segments that cannot be the nearest, by a bound with a margin.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import atan2, degrees, sqrt
from typing import Any, Final, NamedTuple

A_M: Final = 6_378_137.0
E2: Final = 0.00669437999014
LAT_MAX_E7: Final = 900_000_000
LON_MAX_E7: Final = 1_800_000_000
EDGE_MAX_M: Final = 1000
"""Longer edges are divided at import."""
CELLS_MAX: Final = 40_000
"""Cells remembered for all lines and places of a book together (about 10 MB)."""

FINE: Final = 14
"""A cell is 2**14 units, about 180 m by 160 m, …"""
LEVELS: Final = (20, 17, FINE)
"""… in cells eight times as wide, and again."""
_ROW: Final = 1 << 20
_RADIANS_PER_E7: Final = 3.141592653589793 / 1.8e9

Point = tuple[int, int]
"""lat_e7, lon_e7."""
Segment = tuple[int, int, int, int, int]
"""lon_e7 and lat_e7 of its beginning, what leads to its end, and its place in the list."""


class Nearest(NamedTuple):
    """The point of a line that is nearest to a tested point."""

    distance_m: float
    along_m: float
    """Way from the beginning of the line; gaps between the parts of a line count nothing."""
    segment: int
    """Its place in `Line.segments`; of several at the same distance the first."""


class Passage(NamedTuple):
    """A piece of the straight way between two fixes that runs inside an area, as shares of it, 0 to 1."""

    enter: float
    leave: float


@lru_cache(maxsize=4096)
def scale(lat_e7: int) -> tuple[float, float]:
    """Metres per 1e-7 degrees (eastwards, northwards) at a latitude."""
    phi = lat_e7 * _RADIANS_PER_E7
    square = phi * phi
    cosine, term = 1.0, 1.0
    for step in (2.0, 12.0, 30.0, 56.0, 90.0, 132.0, 182.0, 240.0, 306.0, 380.0, 462.0):
        term = -term * square / step
        cosine += term
    w = 1.0 - E2 * (1.0 - cosine * cosine)
    root = sqrt(w)
    return A_M / root * cosine * _RADIANS_PER_E7, A_M * (1.0 - E2) / (w * root) * _RADIANS_PER_E7


def distance_m(lat_a_e7: int, lon_a_e7: int, lat_b_e7: int, lon_b_e7: int) -> float:
    """Between two places; measured at the latitude half way: good to 0.1 mm over 2 km, 2 cm over 20 km."""
    east, north = scale((lat_a_e7 + lat_b_e7) // 2)
    x = (lon_b_e7 - lon_a_e7) * east
    y = (lat_b_e7 - lat_a_e7) * north
    return sqrt(x * x + y * y)


def bearing_deg(lat_a_e7: int, lon_a_e7: int, lat_b_e7: int, lon_b_e7: int) -> int:
    """Direction from a to b in whole degrees clockwise from north, 0 to 359; 0 where they are one place."""
    east, north = scale((lat_a_e7 + lat_b_e7) // 2)
    return round(degrees(atan2((lon_b_e7 - lon_a_e7) * east, (lat_b_e7 - lat_a_e7) * north))) % 360


def between(a: Point, b: Point, share: float) -> Point:
    """The place at that share (0 to 1) of the straight way from a to b."""
    return a[0] + round((b[0] - a[0]) * share), a[1] + round((b[1] - a[1]) * share)


def densified(points: Sequence[Point]) -> list[Point]:
    """The same line with every edge at most EDGE_MAX_M long."""
    result = list(points[:1])
    for (lat_a, lon_a), (lat_b, lon_b) in pairwise(points):
        pieces = 1 + int(distance_m(lat_a, lon_a, lat_b, lon_b) // EDGE_MAX_M)
        for piece in range(1, pieces + 1):
            # rounded half up, in integers
            lat = lat_a + (2 * (lat_b - lat_a) * piece + pieces) // (2 * pieces)
            lon = lon_a + (2 * (lon_b - lon_a) * piece + pieces) // (2 * pieces)
            result.append((lat, lon))
    return result


def segments_of(parts: Iterable[Sequence[Point]]) -> tuple[Segment, ...]:
    """Segments of lines or closed rings, one after the other; pieces without length are left out."""
    segments: list[Segment] = []
    for points in parts:
        for (lat_a, lon_a), (lat_b, lon_b) in pairwise(points):
            if lat_a != lat_b or lon_a != lon_b:
                segments.append((lon_a, lat_a, lon_b - lon_a, lat_b - lat_a, len(segments)))
    return tuple(segments)


def nearest_among(
    segments: Iterable[Segment], lat_e7: int, lon_e7: int, east: float, north: float
) -> tuple[float, float, int]:
    """(square of the distance in m2, share of the segment, its place) of the nearest segment; `east`, `north` as of
    `scale`. Of equally near ones the first."""
    best, best_share, best_index = 1e300, 0.0, -1
    for lon, lat, d_lon, d_lat, index in segments:
        x = (lon - lon_e7) * east
        y = (lat - lat_e7) * north
        dx = d_lon * east
        dy = d_lat * north
        share = -(x * dx + y * dy)
        if share > 0.0:
            square = dx * dx + dy * dy
            if share >= square:
                share = 1.0
                x += dx
                y += dy
            else:
                share /= square
                x += share * dx
                y += share * dy
        else:
            share = 0.0
        distance = x * x + y * y
        if distance < best:
            best, best_share, best_index = distance, share, index
    return best, best_share, best_index


def inside(edges: Iterable[Segment], lat_e7: int, lon_e7: int) -> bool:
    """Even-odd rule, half open: a point on an edge that two areas share is in exactly one of them. Exact.

    Edges whose span of latitude does not hold the point, or that lie west of it, may be left out.
    """
    odd = False
    for lon, lat, d_lon, d_lat, _index in edges:
        if (lat > lat_e7) != (lat + d_lat > lat_e7):
            cross = (lon - lon_e7) * d_lat + d_lon * (lat_e7 - lat)
            if cross and (cross > 0) == (d_lat > 0):
                odd = not odd
    return odd


def _inside_on_the_way(edges: Iterable[Segment], a: Point, b: Point, share: float) -> bool:
    """Whether the point at that share of the way from a to b is inside; exact, in units that are a power of two
    smaller: a way that runs along an edge has all its points on one side of it."""
    part, whole = share.as_integer_ratio()
    shift = whole.bit_length() - 1
    lat_s, lon_s = (a[0] << shift) + (b[0] - a[0]) * part, (a[1] << shift) + (b[1] - a[1]) * part
    small = (
        (lon << shift, lat << shift, d_lon << shift, d_lat << shift, index) for lon, lat, d_lon, d_lat, index in edges
    )
    return inside(small, lat_s, lon_s)


# --------------------------------------------------------------------------------------------- the index


class Cells:
    """Tables of what is near each cell, made when first asked for, and forgotten together when there are too many."""

    def __init__(self, limit: int = CELLS_MAX) -> None:
        self.limit = limit
        self.count = 0
        self._tables: list[dict[int, Any]] = []

    def table(self) -> dict[int, Any]:
        """A new table; whoever puts something in calls `room` first."""
        table: dict[int, Any] = {}
        self._tables.append(table)
        return table

    def room(self) -> None:
        """Count one cell more."""
        self.count += 1
        if self.count > self.limit:
            for table in self._tables:
                table.clear()
            self.count = 1


def cell_key(lat_e7: int, lon_e7: int, size: int) -> int:
    """Number of the cell of 2**size units that holds a place."""
    return (lat_e7 >> size) * _ROW + (lon_e7 >> size)


def candidates(
    segments: Sequence[Segment], lat_e7: int, lon_e7: int, size: int
) -> tuple[tuple[Segment, ...], float, float]:
    """Segments that may be the nearest to a point of the cell of 2**size units around a place, and two distances in
    metres: none of them comes closer to any point of the cell than the first; the nearest is never farther than the
    second.

    The scales at the cell's corners bound those at every point in it, and half its diagonal the way to its centre.
    """
    south, west, half = lat_e7 >> size << size, lon_e7 >> size << size, 1 << size - 1
    low_lat, high_lat = max(-LAT_MAX_E7, south), min(LAT_MAX_E7, south + 2 * half)
    scales = [scale(low_lat), scale(high_lat)]
    if low_lat < 0 < high_lat:
        scales.append(scale(0))
    east, north = min(item[0] for item in scales), min(item[1] for item in scales)
    stretch = max(max(item[0] for item in scales) / max(east, 1e-9), max(item[1] for item in scales) / north)
    away = half * sqrt(east * east + north * north)
    distances = _distances(segments, south + half, west + half, east, north)
    low = min(distances) - away
    high = (min(distances) + away) * stretch
    margin = high * 1e-9 + 1e-3  # far more than the rounding of all the above
    limit = high + away + margin
    kept = tuple([segment for segment, distance in zip(segments, distances, strict=True) if distance <= limit])
    return kept, low - margin, high + margin


def _distances(segments: Iterable[Segment], lat_e7: int, lon_e7: int, east: float, north: float) -> list[float]:
    """Of each segment, as `nearest_among` has it."""
    distances = []
    for lon, lat, d_lon, d_lat, _index in segments:
        x = (lon - lon_e7) * east
        y = (lat - lat_e7) * north
        dx = d_lon * east
        dy = d_lat * north
        share = -(x * dx + y * dy)
        if share > 0.0:
            square = dx * dx + dy * dy
            if share < square:
                dx *= share / square
                dy *= share / square
            x += dx
            y += dy
        distances.append(sqrt(x * x + y * y))
    return distances


class Line:
    """A line of one or several parts, asked for the distance of points."""

    def __init__(self, parts: Iterable[Sequence[Point]], cells: Cells | None = None) -> None:
        self.segments = segments_of(parts)
        if not self.segments:
            raise ValueError("a line has at least two different points")
        self.bearings_deg = array("H")
        self._starts_m = array("d")
        self._lengths_m = array("d")
        way = 0.0
        for lon, lat, d_lon, d_lat, _index in self.segments:
            length = distance_m(lat, lon, lat + d_lat, lon + d_lon)
            self._starts_m.append(way)
            self._lengths_m.append(length)
            self.bearings_deg.append(bearing_deg(lat, lon, lat + d_lat, lon + d_lon))
            way += length
        self.length_m = way
        self._cells = cells or Cells()
        self._levels = tuple((size, self._cells.table()) for size in LEVELS)
        self._fine = self._levels[-1][1]

    def nearest(self, lat_e7: int, lon_e7: int) -> Nearest:
        """The nearest point of the line; the same as `nearest_of_all`, and faster."""
        found = self._fine.get((lat_e7 >> FINE) * _ROW + (lon_e7 >> FINE))
        if found is None:
            found = self._look_around(lat_e7, lon_e7)
        return self._nearest(found, lat_e7, lon_e7)

    def within(self, lat_e7: int, lon_e7: int, metres: float) -> bool:
        """Whether the line comes closer than that to the point (to the rounding of a square root): `nearest` for those
        who need to know no more, faster where it is true."""
        found = self._fine.get((lat_e7 >> FINE) * _ROW + (lon_e7 >> FINE))
        if found is None:
            found = self._look_around(lat_e7, lon_e7)
        east, north = scale(lat_e7)
        limit = metres * metres
        for lon, lat, d_lon, d_lat, _index in found:
            x = (lon - lon_e7) * east
            y = (lat - lat_e7) * north
            dx = d_lon * east
            dy = d_lat * north
            share = -(x * dx + y * dy)
            if share > 0.0:
                square = dx * dx + dy * dy
                share = share / square if share < square else 1.0
                x += share * dx
                y += share * dy
            if x * x + y * y < limit:
                return True
        return False

    def nearest_of_all(self, lat_e7: int, lon_e7: int) -> Nearest:
        """The nearest point of the line, by looking at every segment."""
        return self._nearest(self.segments, lat_e7, lon_e7)

    def _nearest(self, segments: Iterable[Segment], lat_e7: int, lon_e7: int) -> Nearest:
        east, north = scale(lat_e7)
        square, share, index = nearest_among(segments, lat_e7, lon_e7, east, north)
        return Nearest(sqrt(square), self._starts_m[index] + share * self._lengths_m[index], index)

    def _look_around(self, lat_e7: int, lon_e7: int) -> tuple[Segment, ...]:
        near = self.segments
        for size, table in self._levels:
            key = cell_key(lat_e7, lon_e7, size)
            found = table.get(key)
            if found is None:
                found = candidates(near, lat_e7, lon_e7, size)[0]
                self._cells.room()
                table[key] = found
            near = found
        return near


class Area:
    """One or several polygons with holes, as closed rings; inside by the even-odd rule over all rings."""

    def __init__(self, rings: Iterable[Sequence[Point]]) -> None:
        self.edges = segments_of(rings)
        if not self.edges:
            raise ValueError("an area has at least one ring")
        lats = [lat for _lon, lat, _d_lon, _d_lat, _index in self.edges]
        lons = [lon for lon, _lat, _d_lon, _d_lat, _index in self.edges]
        self.south, self.north, self.west, self.east = min(lats), max(lats), min(lons), max(lons)

    def contains(self, lat_e7: int, lon_e7: int) -> bool:
        """Whether it is inside; exact."""
        if not (self.south <= lat_e7 <= self.north and self.west <= lon_e7 <= self.east):
            return False
        return inside(self.edges, lat_e7, lon_e7)

    def distance_m(self, lat_e7: int, lon_e7: int) -> float:
        """Distance to the boundary, negative inside."""
        east, north = scale(lat_e7)
        distance = sqrt(nearest_among(self.edges, lat_e7, lon_e7, east, north)[0])
        return -distance if self.contains(lat_e7, lon_e7) else distance

    def passages(self, a: Point, b: Point) -> tuple[Passage, ...]:
        """The pieces of the straight way from a to b that run inside, in order; () where it stays outside.

        Pieces that meet are one; a way that only touches a corner gives none.
        """
        if max(a[0], b[0]) < self.south or min(a[0], b[0]) > self.north:
            return ()
        if max(a[1], b[1]) < self.west or min(a[1], b[1]) > self.east:
            return ()
        shares = _crossings(self.edges, a, b)
        shares = sorted({0.0, 1.0, *shares})
        found: list[Passage] = []
        for start, end in pairwise(shares):
            if _inside_on_the_way(self.edges, a, b, (start + end) / 2):
                if found and found[-1].leave == start:
                    start = found.pop().enter  # noqa: PLW2901
                found.append(Passage(start, end))
        return tuple(found)


def _crossings(edges: Iterable[Segment], a: Point, b: Point) -> list[float]:
    """Shares of the way from a to b at which it meets an edge; decided in integers. Where an edge lies in the way
    itself, its neighbours tell where it begins and ends."""
    lat_a, lon_a = a
    w_lat, w_lon = b[0] - lat_a, b[1] - lon_a
    shares: list[float] = []
    for lon, lat, d_lon, d_lat, _index in edges:
        begin = w_lon * (lat - lat_a) - w_lat * (lon - lon_a)
        end = begin + w_lon * d_lat - w_lat * d_lon
        if (begin > 0 and end > 0) or (begin < 0 and end < 0):
            continue
        upper = (lon - lon_a) * d_lat - (lat - lat_a) * d_lon
        lower = w_lon * d_lat - w_lat * d_lon
        if lower < 0:
            upper, lower = -upper, -lower
        if 0 < upper < lower:
            shares.append(upper / lower)
    return shares


def crossing_edges(segments: Sequence[Segment], closed: bool = True) -> tuple[int, int] | None:
    """Places of the first two segments found that cross or touch although they are not neighbours; None where there
    are none. `closed`: the last is a neighbour of the first."""
    order = sorted(segments, key=lambda item: min(item[0], item[0] + item[2]))
    for place, one in enumerate(order):
        east = max(one[0], one[0] + one[2])
        for other in order[place + 1 :]:
            if min(other[0], other[0] + other[2]) > east:
                break
            gap = abs(one[4] - other[4])
            if gap == 1 or (closed and gap == len(segments) - 1):
                continue
            if _meet(one, other):
                return min(one[4], other[4]), max(one[4], other[4])
    return None


def _meet(one: Segment, other: Segment) -> bool:
    def side(of: Segment, lat: int, lon: int) -> int:
        cross = of[2] * (lat - of[1]) - of[3] * (lon - of[0])
        return (cross > 0) - (cross < 0)

    def spans(a: int, d_a: int, b: int, d_b: int) -> bool:
        return min(a, a + d_a) <= max(b, b + d_b) and min(b, b + d_b) <= max(a, a + d_a)

    if not (spans(one[0], one[2], other[0], other[2]) and spans(one[1], one[3], other[1], other[3])):
        return False
    return (
        side(one, other[1], other[0]) * side(one, other[1] + other[3], other[0] + other[2]) <= 0
        and side(other, one[1], one[0]) * side(other, one[1] + one[3], one[0] + one[2]) <= 0
    )
