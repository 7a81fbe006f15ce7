"""Journeys: on the line, without leaps, at the pace that was asked for."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.fleet.journeys import GAIN_M_S2, KMH, LOSE_M_S2, Drive, Journey, Path, Place, Stand, State, moved

START: Place = (307_000_000, 1_210_200_000)
CORNERS = (START, moved(START, 700, 0), moved(START, 700, 900), moved(START, 2300, 900))


def sphere_m(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Distance on a sphere, by another formula than the one under test; 0.5 % off at most."""
    lat1, lon1, lat2, lon2 = (math.radians(value / 1e7) for value in (*one, *other))
    half = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6_371_000 * math.asin(math.sqrt(half))


def test_length_agrees_with_another_formula() -> None:
    path = Path(CORNERS)
    total = sum(sphere_m(a, b) for a, b in pairwise(CORNERS))
    assert path.length_m == pytest.approx(total, rel=0.005)
    assert path.length_m == pytest.approx(700 + 900 + 1600, abs=0.5)


def test_places_along_a_path_have_the_distances_and_directions_of_its_pieces() -> None:
    path = Path(CORNERS)
    lat, lon, course = path.at(350)
    assert sphere_m((lat, lon), START) == pytest.approx(350, rel=0.005)
    assert course == pytest.approx(0, abs=0.01)
    assert path.at(1000)[2] == pytest.approx(90, abs=0.1)
    assert path.at(-5)[:2] == CORNERS[0]
    assert path.at(99_999)[:2] == CORNERS[-1]
    assert path.reversed().at(0)[:2] == CORNERS[-1]


def test_a_detour_runs_beside_the_piece_that_it_replaces() -> None:
    path = Path(CORNERS)
    begin, end = path.longest
    assert (begin, end) == (pytest.approx(1600, abs=0.5), pytest.approx(3200, abs=0.5))
    detour = path.detour(begin, end, 420)
    middle = next(
        detour.at(s) for s in range(int(detour.length_m)) if abs(detour.at(s)[0] - moved(START, 1500, 0)[0]) < 60
    )
    assert sphere_m(middle[:2], moved(START, 1500, 900)) == pytest.approx(420, rel=0.02)
    assert detour.points[0] == path.points[0]
    assert detour.points[-1] == path.points[-1]


def test_a_path_of_one_place_is_refused() -> None:
    with pytest.raises(ValueError, match="two different points"):
        Path([START, START])
    with pytest.raises(ValueError, match="needs a drive"):
        Journey([Stand(5)])


@given(
    kmh=st.floats(8, 90),
    stops=st.lists(st.tuples(st.floats(0, 3200), st.floats(1, 120)), max_size=4),
    paces=st.lists(st.tuples(st.floats(0, 1500), st.floats(1600, 3200), st.floats(5, 100)), max_size=2),
)
def test_speed_is_the_change_of_place_and_never_leaps(
    kmh: float, stops: list[tuple[float, float]], paces: list[tuple[float, float, float]]
) -> None:
    drive = Drive(Path(CORNERS), kmh, stops=tuple(stops), paces=tuple(paces))
    journey = Journey([Stand(7), drive, Stand(11)])
    top = max([kmh, *(pace[2] for pace in paces)])
    before = journey.at(0)
    assert before.travelled_m == 0
    step_s = 0.5
    for n in range(1, int(journey.for_s / step_s) + 4):
        now = journey.at(n * step_s)
        moved_m = now.travelled_m - before.travelled_m
        fastest = max(now.speed_kmh, before.speed_kmh) / KMH * step_s + GAIN_M_S2 * step_s**2
        assert -1e-6 <= moved_m <= fastest + 1e-6
        assert now.speed_kmh <= top + 1e-6
        assert -LOSE_M_S2 * step_s * KMH - 1e-6 <= now.speed_kmh - before.speed_kmh <= GAIN_M_S2 * step_s * KMH + 1e-6
        before = now
    assert before.travelled_m == pytest.approx(3200, abs=1)
    assert before.speed_kmh == 0


def test_stops_and_paces_are_where_they_were_asked_for() -> None:
    drive = Drive(Path(CORNERS), 36, stops=((1000, 60),), paces=((2000, 2600, 72),))
    journey = Journey([Stand(10), drive])
    arrives = journey.when_s(1, 1000)
    assert all(journey.at(arrives + s).travelled_m == pytest.approx(1000, abs=0.5) for s in (1, 30, 59))
    assert journey.at(arrives + 30).speed_kmh == 0
    assert journey.at(journey.when_s(1, 2300)).speed_kmh == pytest.approx(72, abs=1)
    assert journey.at(journey.when_s(1, 1500)).speed_kmh == pytest.approx(36)
    assert journey.begins_s(1) == 10


def test_a_journey_that_repeats_goes_on_counting_its_way() -> None:
    path = Path(CORNERS)
    journey = Journey([Drive(path, 40), Drive(path.reversed(), 40)], repeats=True)
    lap = journey.for_s
    assert journey.at(lap + 100)[:2] == pytest.approx(journey.at(100)[:2])
    assert journey.at(lap + 100).travelled_m == pytest.approx(journey.at(100).travelled_m + journey.length_m)


def test_states_are_those_of_their_steps_and_the_end_lasts() -> None:
    full, lifted = State(load="full"), State(load="full", lift="lifted")
    journey = Journey([Stand(5), Drive(Path(CORNERS), 40, full), Stand(20, lifted)])
    assert journey.at(-10).state == State()
    assert journey.at(30).state == full
    assert journey.at(journey.for_s - 1).state == lifted
    assert journey.at(journey.for_s + 10_000).state == lifted
    assert journey.at(journey.for_s + 10_000)[:2] == CORNERS[-1]
