"""Geometry against another formula, against looking at everything, and at its corners."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.rules import geometry
from gateway.rules.geometry import (
    Area,
    Cells,
    Line,
    Passage,
    bearing_deg,
    between,
    candidates,
    crossing_edges,
    densified,
    distance_m,
    inside,
    nearest_among,
    scale,
    segments_of,
)
from tests.rules.geodesy import vincenty_m

PINGHU = (307_000_000, 1_210_200_000)


def at(north_m: float, east_m: float, origin: tuple[int, int] = PINGHU) -> tuple[int, int]:
    """A place so far from the origin, near enough."""
    east, north = scale(origin[0])
    return origin[0] + round(north_m / north), origin[1] + round(east_m / east)


def ring(*corners: tuple[float, float]) -> list[tuple[int, int]]:
    points = [at(*corner) for corner in corners]
    return [*points, points[0]]


SQUARE = ring((0, 0), (0, 100), (100, 100), (100, 0))
SCALE_BITS = ["0x1.39ec7d4371852p-7", "0x1.6b47bc0ae8ef2p-7"]
LINE_BITS = ["0x1.8c548e640c6ccp+8", "0x1.a4dd0fa7e55f9p+10"]
places = st.tuples(st.integers(30_000_000, 540_000_000), st.integers(730_000_000, 1_360_000_000))


# ------------------------------------------------------------------------------------------ metres


@given(places, st.floats(0, 2000), st.floats(0, 2 * math.pi))
def test_distances_agree_with_geodesics(place, far_m, angle):
    other = at(far_m * math.sin(angle), far_m * math.cos(angle), place)
    assert distance_m(*place, *other) == pytest.approx(vincenty_m(*place, *other), abs=1e-4)


def test_distances_at_length():
    for far_m, error_m in ((5000, 1e-3), (20_000, 2e-2)):
        for step in range(24):
            other = at(far_m * math.sin(step), far_m * math.cos(step), (450_000_000, 1_100_000_000))
            assert (
                abs(distance_m(450_000_000, 1_100_000_000, *other) - vincenty_m(450_000_000, 1_100_000_000, *other))
                < error_m
            )


@pytest.mark.parametrize(
    ("lat_deg", "parallel_m", "meridian_m"),
    [(0, 111_319.491, 110_574.276), (30, 96_486.276, 110_852.425), (60, 55_799.980, 111_412.273)],
)
def test_scale_against_known_lengths_of_a_degree(lat_deg, parallel_m, meridian_m):
    east, north = scale(lat_deg * 10**7)
    assert east * 1e7 == pytest.approx(parallel_m, rel=2e-6)
    assert north * 1e7 == pytest.approx(meridian_m, rel=2e-6)


def test_scale_everywhere_and_at_the_poles():
    for lat in range(-900_000_000, 900_000_001, 9_000_000):
        phi = math.radians(lat / 1e7)
        w = 1 - geometry.E2 * math.sin(phi) ** 2
        east, north = scale(lat)
        assert east == pytest.approx(math.radians(1e-7) * geometry.A_M / math.sqrt(w) * math.cos(phi), abs=1e-14)
        assert north == pytest.approx(math.radians(1e-7) * geometry.A_M * (1 - geometry.E2) / w**1.5, rel=1e-12)
    assert scale(307_000_000) == scale(-307_000_000)


def test_scale_is_the_same_number_on_every_machine():
    """Only operations that IEEE 754 rounds in one way: these bits were computed on amd64."""
    assert [value.hex() for value in scale(307_000_000)] == SCALE_BITS
    line = Line([[at(0, 0), at(700, 300), at(900, 1200)]])
    assert [line.nearest(*at(400, 777)).distance_m.hex(), line.length_m.hex()] == LINE_BITS


def test_bearings():
    assert [bearing_deg(*PINGHU, *at(n, e)) for n, e in ((9, 0), (9, 9), (0, 9), (-9, 0), (0, -9), (9, -9))] == [
        0,
        45,
        90,
        180,
        270,
        315,
    ]
    assert bearing_deg(*PINGHU, *PINGHU) == 0
    assert bearing_deg(*PINGHU, *at(10_000, -1)) == 0  # 359.99 rounds to north, not to 360


def test_between_two_places():
    assert between((10, 20), (20, 0), 0.0) == (10, 20)
    assert between((10, 20), (20, 0), 1.0) == (20, 0)
    assert between((10, 20), (20, 0), 0.3) == (13, 14)


# ------------------------------------------------------------------------------------------ densifying


def test_long_edges_are_divided_and_short_ones_are_not():
    points = [at(0, 0), at(0, 999), at(5500, 999)]
    dense = densified(points)
    assert dense[:2] == points[:2]
    assert dense[-1] == points[-1]
    assert len(dense) == 2 + 6
    assert all(distance_m(*a, *b) <= 1000.01 for a, b in pairwise(dense))
    assert densified(dense) == dense
    assert densified([]) == []


@given(places, st.integers(-3_000_000, 3_000_000), st.integers(-3_000_000, 3_000_000))
@settings(max_examples=30)
def test_points_of_a_divided_edge_lie_on_it(a, d_lat, d_lon):
    b = (a[0] + d_lat, a[1] + d_lon)
    for lat, lon in densified([a, b]):
        # distance of the point from the straight line, in units of 1e-7 degrees
        cross = (b[0] - a[0]) * (lon - a[1]) - (b[1] - a[1]) * (lat - a[0])
        assert abs(cross) <= 0.75 * math.hypot(b[0] - a[0], b[1] - a[1]) + 1


def test_divided_the_same_in_both_directions_but_for_rounding():
    a, b = at(0, 0), at(3333, 7777)
    there, back = densified([a, b]), densified([b, a])[::-1]
    assert len(there) == len(back)
    assert all(abs(p[0] - q[0]) <= 1 and abs(p[1] - q[1]) <= 1 for p, q in zip(there, back, strict=True))


# ------------------------------------------------------------------------------------------ lines


def test_distance_along_and_segment():
    line = Line([[at(0, 0), at(0, 100), at(100, 100)]])
    on_first = line.nearest(*at(3, 40))
    assert (round(on_first.distance_m, 2), round(on_first.along_m, 2), on_first.segment) == (3.0, 40.0, 0)
    on_second = line.nearest(*at(60, 95))
    assert (round(on_second.distance_m, 2), round(on_second.along_m, 2), on_second.segment) == (5.0, 160.0, 1)
    assert round(line.nearest(*at(-30, -40)).distance_m, 1) == 50.0
    assert line.nearest(*at(-30, -40)).along_m == 0.0
    assert line.nearest(*at(130, 140)).along_m == line.length_m
    assert round(line.length_m, 1) == 200.0
    assert list(line.bearings_deg) == [90, 0]
    assert line.nearest(*at(0, 100)).distance_m == 0.0


def test_parts_and_repeated_points():
    line = Line([[at(0, 0), at(0, 0), at(0, 100)], [at(500, 0), at(500, 50)]])
    assert len(line.segments) == 2
    assert round(line.nearest(*at(501, 25)).along_m, 1) == 125.0
    with pytest.raises(ValueError, match="two different points"):
        Line([[at(0, 0), at(0, 0)]])


def test_the_first_of_equally_near_segments():
    there_and_back = [at(0, 0), at(0, 100), at(0, 0)]
    line = Line([there_and_back])
    assert line.nearest(*at(5, 50)).segment == 0


@given(places, st.floats(0, 3000), st.floats(0, 6.28), st.floats(0, 6.28), st.floats(1, 1000), st.floats(-300, 300))
@settings(max_examples=60)
def test_distance_to_a_segment_agrees_with_geodesics(origin, far_m, angle, course, length_m, aside_m):
    """A segment somewhere near; the nearest of many points on it, by geodesics."""
    a = at(far_m * math.sin(angle) / 10 + aside_m, far_m * math.cos(angle) / 10, origin)
    b = at(length_m * math.sin(course), length_m * math.cos(course), a)
    if a == b:
        return
    found = Line([[a, b]]).nearest(*origin).distance_m
    low, high = 0.0, 1.0
    for _ in range(60):  # the distance along a short segment has one minimum
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if _to(origin, a, b, left) < _to(origin, a, b, right):
            high = right
        else:
            low = left
    oracle = min(_to(origin, a, b, low), _to(origin, a, b, 0.0), _to(origin, a, b, 1.0))
    assert found == pytest.approx(oracle, abs=1e-3 + 1e-7 * oracle**2)


def _to(origin, a, b, share):
    return vincenty_m(*origin, a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)


def wandering(seed: int, count: int, step_m: float, turn: float = 0.5, origin=PINGHU) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    points, course = [origin], rng.uniform(0, 6)
    for _ in range(count):
        course += rng.uniform(-turn, turn)
        points.append(at(step_m * math.sin(course), step_m * math.cos(course), points[-1]))
    return points


@pytest.mark.parametrize("origin", [PINGHU, (0, 0), (-335_000_000, -700_000_000), (895_000_000, 100_000_000)])
@pytest.mark.parametrize(("count", "step_m", "turn"), [(200, 100, 0.5), (300, 20, 2.0), (40, 1000, 3.0)])
def test_the_index_changes_nothing(origin, count, step_m, turn):
    points = wandering(count, count, step_m, turn, origin)
    line = Line([points[:150], points[150:]] if count > 200 else [points])
    rng = random.Random(5)
    for _ in range(250):
        base = rng.choice(points)
        spread = rng.choice((3.0, 60.0, 1000.0, 50_000.0))
        place = at(rng.gauss(0, spread), rng.gauss(0, spread), base)
        if abs(place[0]) <= geometry.LAT_MAX_E7:
            assert line.nearest(*place) == line.nearest_of_all(*place)
    for place in points:
        assert line.nearest(*place) == line.nearest_of_all(*place)


@given(st.integers(0, 10_000), st.integers(-5_000_000, 5_000_000), st.integers(-5_000_000, 5_000_000))
@settings(max_examples=60)
def test_the_index_changes_nothing_anywhere(seed, d_lat, d_lon):
    line = Line([wandering(seed % 7, 60, 150)])
    place = (PINGHU[0] + d_lat, PINGHU[1] + d_lon)
    assert line.nearest(*place) == line.nearest_of_all(*place)


def test_the_index_changes_nothing_at_the_ends_of_the_world():
    line = Line([[at(0, 0), at(0, 900)]])
    for place in ((900_000_000, 1_800_000_000), (-900_000_000, -1_800_000_000), (0, 0), (899_999_999, 0)):
        assert line.nearest(*place) == line.nearest_of_all(*place)


def test_cells_are_bounded_together_and_forgetting_changes_nothing():
    cells = Cells(limit=40)
    lines = [Line([wandering(seed, 100, 100)], cells) for seed in (1, 2)]
    places = wandering(1, 100, 100) * 2
    first = [[line.nearest(*place) for place in places] for line in lines]
    assert cells.count <= 40
    assert first == [[line.nearest_of_all(*place) for place in places] for line in lines]


def test_candidates_bound_the_nearest():
    segments = segments_of([wandering(3, 120, 90)])
    rng = random.Random(1)
    for size in (14, 17, 20):
        for _ in range(20):
            place = at(rng.uniform(-9000, 9000), rng.uniform(-9000, 9000))
            kept, low, high = candidates(segments, *place, size)
            corner = (place[0] >> size << size, place[1] >> size << size)
            for _ in range(20):
                inner = (corner[0] + rng.randrange(1 << size), corner[1] + rng.randrange(1 << size))
                square, _share, index = nearest_among(segments, *inner, *scale(inner[0]))
                assert index in {segment[4] for segment in kept}
                assert low <= math.sqrt(square) <= high


# ------------------------------------------------------------------------------------------ areas


def test_inside_outside_and_how_far():
    area = Area([SQUARE])
    assert area.contains(*at(50, 50))
    assert not area.contains(*at(50, 101))
    assert round(area.distance_m(*at(50, 40)), 1) == -40.0
    assert round(area.distance_m(*at(50, 130)), 1) == 30.0
    assert round(area.distance_m(*at(-30, -40)), 1) == 50.0
    assert area.distance_m(*SQUARE[0]) == 0.0


def test_holes_and_several_polygons():
    hole = ring((40, 40), (40, 60), (60, 60), (60, 40))
    island = ring((0, 300), (0, 400), (100, 400), (100, 300))
    area = Area([SQUARE, hole, island])
    assert not area.contains(*at(50, 50))
    assert round(area.distance_m(*at(50, 50)), 1) == 10.0
    assert area.contains(*at(50, 30))
    assert area.contains(*at(50, 350))
    assert not area.contains(*at(50, 200))
    with pytest.raises(ValueError, match="at least one ring"):
        Area([])


def test_every_point_of_a_shared_edge_is_in_exactly_one_area():
    corners = [(0, 0), (0, 7), (3, 11), (10, 5), (8, 0), (4, 4)]
    left = segments_of([[*corners[:3], corners[5], corners[0]]])
    right = segments_of([[*corners[2:], corners[2]]])
    whole = segments_of([[*corners, corners[0]]])
    for lat in range(-2, 13):
        for lon in range(-2, 13):
            assert inside(left, lat, lon) + inside(right, lat, lon) == inside(whole, lat, lon)


points = st.tuples(st.integers(-30, 30), st.integers(-30, 30))


@given(st.lists(points, min_size=3, max_size=9), points)
def test_inside_is_the_winding_parity_in_exact_numbers(corners, place):
    closed = [*corners, corners[0]]
    lat, lon = place
    crossings = 0
    for (lat_a, lon_a), (lat_b, lon_b) in pairwise(closed):
        if (lat_a > lat) != (lat_b > lat):
            crossings += lon_a + Fraction((lat - lat_a) * (lon_b - lon_a), lat_b - lat_a) > lon
    assert inside(segments_of([closed]), lat, lon) == bool(crossings % 2)


def test_distances_do_not_depend_on_where_a_ring_begins():
    area = Area([SQUARE])
    turned = Area([[*SQUARE[2:-1], *SQUARE[:3]]])
    for place in (at(33, 44), at(-10, 50), at(500, 500)):
        assert area.distance_m(*place) == pytest.approx(turned.distance_m(*place), abs=1e-9)
        assert area.contains(*place) == turned.contains(*place)


# ------------------------------------------------------------------------------------------ crossing


def test_driven_through_between_two_fixes():
    area = Area([SQUARE])
    (passage,) = area.passages(at(50, -200), at(50, 300))
    assert passage.enter == pytest.approx(0.4, abs=1e-4)
    assert passage.leave == pytest.approx(0.6, abs=1e-4)
    assert area.passages(at(150, -200), at(150, 300)) == ()
    assert area.passages(at(50, -200), at(50, -100)) == ()


def test_into_out_of_and_within():
    area = Area([SQUARE])
    into = area.passages(at(50, -100), at(50, 50))
    assert len(into) == 1
    assert into[0].leave == 1.0
    assert into[0].enter == pytest.approx(2 / 3, abs=1e-4)
    assert area.passages(at(50, 50), at(50, -100))[0].enter == 0.0
    assert area.passages(at(20, 20), at(80, 80)) == (Passage(0.0, 1.0),)
    assert area.passages(at(50, 50), at(50, 50)) == (Passage(0.0, 1.0),)
    assert area.passages(at(50, 500), at(50, 500)) == ()


def test_twice_through_a_bay_and_through_a_hole():
    bay = Area([ring((0, 0), (0, 300), (100, 300), (100, 200), (20, 200), (20, 100), (100, 100), (100, 0))])
    assert len(bay.passages(at(50, -50), at(50, 350))) == 2
    assert len(bay.passages(at(10, -50), at(10, 350))) == 1
    holed = Area([SQUARE, ring((40, 40), (40, 60), (60, 60), (60, 40))])
    assert len(holed.passages(at(50, -50), at(50, 150))) == 2


def test_touching_a_corner_or_running_along_an_edge():
    area = Area([SQUARE])
    (south_west, south_east, north_east, _north_west, _again) = SQUARE
    outside = (south_west[0] - 500, south_west[1])
    assert area.passages(outside, (south_west[0] + 500, south_west[1] - 1000)) == ()
    along_south = area.passages((south_west[0], south_west[1] - 900), (south_east[0], south_east[1] + 900))
    along_north = area.passages((north_east[0], south_west[1] - 900), (north_east[0], south_east[1] + 900))
    assert len(along_south) + len(along_north) == 1  # half open: of two areas that share the edge exactly one


@given(st.lists(points, min_size=3, max_size=7), points, points)
@example([(0, 0), (1, 2), (0, 2), (1, 1)], (1, 1), (0, 2))  # along an edge that another one crosses
def test_passages_say_of_every_point_of_the_way_whether_it_is_inside(corners, a, b):
    closed = [*corners, corners[0]]
    edges = segments_of([closed])
    if not edges:
        return
    passages = Area([closed]).passages(a, b)
    ends = [share for passage in passages for share in passage]
    assert ends == sorted(ends)
    assert len(set(ends)) == len(ends)  # pieces that meet are one
    for step in range(1, 60):
        share = Fraction(step * 7919 % 10_007, 10_007)
        if any(abs(float(share) - end) < 1e-9 for end in ends):
            continue
        lat, lon = a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
        within = any(passage.enter < share < passage.leave for passage in passages)
        assert inside(edges, lat, lon) == within  # exact: lat and lon are fractions


# ------------------------------------------------------------------------------------------ crossing itself


def test_rings_that_cross_themselves():
    bow_tie = segments_of([[(0, 0), (10, 10), (10, 0), (0, 10), (0, 0)]])
    assert crossing_edges(bow_tie) == (0, 2)
    assert crossing_edges(segments_of([SQUARE])) is None
    touching = segments_of([[(0, 0), (0, 10), (5, 5), (10, 10), (10, 0), (5, 5), (0, 0)]])
    assert crossing_edges(touching) is not None


@given(st.lists(points, min_size=4, max_size=10, unique=True))
def test_crossings_are_found_as_by_looking_at_all_pairs(corners):
    edges = segments_of([[*corners, corners[0]]])
    pairs = [
        (i, j)
        for i in range(len(edges))
        for j in range(i + 2, len(edges))
        if not (i == 0 and j == len(edges) - 1) and geometry._meet(edges[i], edges[j])
    ]
    found = crossing_edges(edges)
    assert (found is None) == (not pairs)
    assert found is None or found in pairs
