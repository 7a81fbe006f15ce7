"""Journeys: how a simulated vehicle moves along lines on the map, as a pure function of the time since it began.

A journey is a list of steps, `Drive` and `Stand`. A drive follows a path with a speed, slower or faster pieces and
stops; it gains and loses speed as a loaded truck does. Nothing here reads a clock, draws a random number or knows a
protocol. Places are (latitude, longitude) in 1e-7 degree, WGS-84.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

Place = tuple[int, int]

GAIN_M_S2: Final = 0.7
"""A loaded truck gains about 2.5 km/h in a second."""
LOSE_M_S2: Final = 1.2
KMH: Final = 3.6
_A_M: Final = 6_378_137.0
_E2: Final = 0.006_694_379_990_14


def metres_per_degree(lat_e7: float) -> tuple[float, float]:
    """Length of one degree to the north and one to the east on the WGS-84 ellipsoid."""
    phi = math.radians(lat_e7 / 1e7)
    w = 1 - _E2 * math.sin(phi) ** 2
    north, east = _A_M * (1 - _E2) / w**1.5, _A_M / math.sqrt(w) * math.cos(phi)
    return math.radians(north), math.radians(east)


def moved(place: Place, north_m: float, east_m: float) -> Place:
    """A place so many metres away."""
    north, east = metres_per_degree(place[0])
    return place[0] + round(north_m / north * 1e7), place[1] + round(east_m / east * 1e7)


def vector_m(start: Place, end: Place) -> tuple[float, float]:
    """Metres to the north and to the east; exact to centimetres over a few kilometres."""
    north, east = metres_per_degree((start[0] + end[0]) / 2)
    return (end[0] - start[0]) / 1e7 * north, (end[1] - start[1]) / 1e7 * east


class Path:
    """A line on the map, by the distance from its beginning."""

    def __init__(self, points: Sequence[Place]) -> None:
        self.points = tuple(point for n, point in enumerate(points) if n == 0 or point != points[n - 1])
        if len(self.points) < 2:
            raise ValueError("a path needs two different points")
        self._at_m = [0.0]
        for start, end in pairwise(self.points):
            self._at_m.append(self._at_m[-1] + math.hypot(*vector_m(start, end)))

    @property
    def length_m(self) -> float:
        """From end to end."""
        return self._at_m[-1]

    def reversed(self) -> Path:
        """The way back."""
        return Path(self.points[::-1])

    @property
    def longest(self) -> tuple[float, float]:
        """Where the longest straight piece begins and ends."""
        return max(pairwise(self._at_m), key=lambda ends: ends[1] - ends[0])

    def piece(self, from_m: float, to_m: float) -> Path:
        """A part of it."""
        return Path(self._between(from_m, to_m))

    def _between(self, from_m: float, to_m: float) -> list[Place]:
        ends = [(round(lat), round(lon)) for lat, lon, _ in (self.at(from_m), self.at(to_m))]
        between = [point for point, at_m in zip(self.points, self._at_m, strict=True) if from_m < at_m < to_m]
        return [ends[0], *between, ends[1]]

    def detour(self, from_m: float, to_m: float, aside_m: float) -> Path:
        """The same way, but between two places of it along a parallel so far to the right (left where negative)."""
        corners = []
        for at_m, inside_m in ((from_m, from_m + 0.01), (to_m, to_m - 0.01)):
            lat, lon, _ = self.at(at_m)
            right = math.radians(self.at(inside_m)[2] + 90)
            place = (round(lat), round(lon))
            corners.append(moved(place, aside_m * math.cos(right), aside_m * math.sin(right)))
        return Path([*self._between(0, from_m), *corners, *self._between(to_m, self.length_m)])

    def at(self, distance_m: float) -> tuple[float, float, float]:
        """Latitude and longitude in 1e-7 degree, and the direction of the line there in degrees from north."""
        segment = min(max(bisect_right(self._at_m, distance_m) - 1, 0), len(self.points) - 2)
        start, end = self.points[segment], self.points[segment + 1]
        share = (distance_m - self._at_m[segment]) / (self._at_m[segment + 1] - self._at_m[segment])
        share = min(max(share, 0.0), 1.0)
        north, east = vector_m(start, end)
        course = math.degrees(math.atan2(east, north)) % 360
        return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]), course


@dataclass(frozen=True, slots=True)
class State:
    """What the sensors of the body say, in the words of gateway.core.fixes."""

    acc: bool = True
    load: str = "empty"
    cover: str = "closed"
    lift: str = "flat"


@dataclass(frozen=True, slots=True)
class Drive:
    """Along a path from its beginning to its end."""

    path: Path
    kmh: float = 40.0
    state: State = State()
    stops: tuple[tuple[float, float], ...] = ()
    """(metres from the beginning, seconds): traffic lights and the like."""
    paces: tuple[tuple[float, float, float], ...] = ()
    """(from metres, to metres, km/h): pieces driven at another speed."""


@dataclass(frozen=True, slots=True)
class Stand:
    """In one place: where the step before ended."""

    for_s: float
    state: State = State()


class Moment(NamedTuple):
    """Where a vehicle is."""

    lat_e7: float
    lon_e7: float
    course_deg: float
    speed_kmh: float
    travelled_m: float
    """Since the journey began."""
    state: State


class _Phase(NamedTuple):
    """Motion with one acceleration."""

    step: int
    path: Path
    begin_s: float
    for_s: float
    begin_m: float
    """On the path."""
    speed_m_s: float
    gain_m_s2: float
    before_m: float
    """Travelled before this phase, less `begin_m`: travelled = before + place on the path."""
    state: State

    @property
    def end_m(self) -> float:
        """On the path."""
        return self.begin_m + self.speed_m_s * self.for_s + self.gain_m_s2 * self.for_s**2 / 2


@dataclass(slots=True)
class Journey:
    """The steps one after another; `repeats` starts again at the end, where the last step should end at the first's
    beginning. Without it the vehicle stands at the end for ever."""

    steps: Sequence[Drive | Stand]
    repeats: bool = False
    _phases: list[_Phase] = field(init=False, default_factory=list)
    _begins_s: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        first = next((step.path for step in self.steps if isinstance(step, Drive)), None)
        if first is None:
            raise ValueError("a journey needs a drive: only a path says where it is")
        path, at_m, travelled_m = first, 0.0, 0.0
        for number, step in enumerate(self.steps):
            if isinstance(step, Stand):
                self._add(_Phase(number, path, self.for_s, step.for_s, at_m, 0, 0, travelled_m - at_m, step.state))
                continue
            path, at_m = step.path, step.path.length_m
            for begin_m, speed, gain, for_s in _motion(step):
                self._add(_Phase(number, path, self.for_s, for_s, begin_m, speed, gain, travelled_m, step.state))
            travelled_m += path.length_m

    def _add(self, phase: _Phase) -> None:
        self._phases.append(phase)
        self._begins_s.append(phase.begin_s)

    @property
    def for_s(self) -> float:
        """How long all steps take."""
        return self._phases[-1].begin_s + self._phases[-1].for_s if self._phases else 0.0

    @property
    def length_m(self) -> float:
        """How far all steps lead."""
        return sum(step.path.length_m for step in self.steps if isinstance(step, Drive))

    def at(self, since_s: float) -> Moment:
        """The vehicle so many seconds after its journey began; before that it waits at the beginning."""
        laps, rest = divmod(since_s, self.for_s) if self.repeats and since_s > 0 else (0.0, since_s)
        phase = self._phases[max(bisect_right(self._begins_s, rest) - 1, 0)]
        t = min(max(rest - phase.begin_s, 0.0), phase.for_s)
        at_m = phase.begin_m + phase.speed_m_s * t + phase.gain_m_s2 * t * t / 2
        speed = max(phase.speed_m_s + phase.gain_m_s2 * t, 0.0) if rest < self.for_s else 0.0
        lat, lon, course = phase.path.at(at_m)
        return Moment(lat, lon, course, speed * KMH, laps * self.length_m + phase.before_m + at_m, phase.state)

    def begins_s(self, step: int) -> float:
        """When a step begins."""
        return next(phase.begin_s for phase in self._phases if phase.step == step)

    def when_s(self, step: int, at_m: float) -> float:
        """When a drive comes to a place of its path."""
        phases = [one for one in self._phases if one.step == step]
        phase = next((one for one in phases if at_m <= one.end_m), phases[-1])
        left_m = max(at_m - phase.begin_m, 0.0)
        root = math.sqrt(max(phase.speed_m_s**2 + 2 * phase.gain_m_s2 * left_m, 0.0))
        t = 2 * left_m / (phase.speed_m_s + root) if phase.speed_m_s + root else 0.0
        return phase.begin_s + min(t, phase.for_s)


def _motion(drive: Drive) -> list[tuple[float, float, float, float]]:
    """(begin on the path in m, speed in m/s, gain in m/s², seconds) of each phase of a drive."""
    stops = {min(max(at_m, 0.0), drive.path.length_m): for_s for at_m, for_s in drive.stops}
    edges = sorted({0.0, drive.path.length_m, *stops, *(m for pace in drive.paces for m in pace[:2])})
    edges = [edge for edge in edges if 0 <= edge <= drive.path.length_m]
    tops = [_pace(drive, (start + end) / 2) / KMH for start, end in pairwise(edges)]
    speeds = [0.0, *(0.0 if edge in stops else min(tops[n], tops[n + 1]) for n, edge in enumerate(edges[1:-1])), 0.0]
    lengths = [end - start for start, end in pairwise(edges)]
    for n, length in enumerate(lengths):  # no faster than the truck can have become, then than it can brake
        speeds[n + 1] = min(speeds[n + 1], math.sqrt(speeds[n] ** 2 + 2 * GAIN_M_S2 * length))
    for n in range(len(lengths) - 1, -1, -1):
        speeds[n] = min(speeds[n], math.sqrt(speeds[n + 1] ** 2 + 2 * LOSE_M_S2 * lengths[n]))
    phases: list[tuple[float, float, float, float]] = []
    for n, length in enumerate(lengths):
        if edges[n] in stops:
            phases.append((edges[n], 0.0, 0.0, stops[edges[n]]))
        phases += _piece(edges[n], length, tops[n], speeds[n], speeds[n + 1])
    if edges[-1] in stops:
        phases.append((edges[-1], 0.0, 0.0, stops[edges[-1]]))
    return phases


def _pace(drive: Drive, at_m: float) -> float:
    return next((kmh for start, end, kmh in drive.paces if start <= at_m <= end), drive.kmh)


def _piece(
    begin_m: float, length_m: float, top: float, enter: float, leave: float
) -> list[tuple[float, float, float, float]]:
    """Gain, cruise, lose."""
    reachable = 2 * GAIN_M_S2 * LOSE_M_S2 * length_m + LOSE_M_S2 * enter**2 + GAIN_M_S2 * leave**2
    peak = max(min(top, math.sqrt(reachable / (GAIN_M_S2 + LOSE_M_S2))), enter, leave)
    gaining_m, losing_m = (peak**2 - enter**2) / (2 * GAIN_M_S2), (peak**2 - leave**2) / (2 * LOSE_M_S2)
    cruising_m = max(length_m - gaining_m - losing_m, 0.0)
    phases = [
        (begin_m, enter, GAIN_M_S2, (peak - enter) / GAIN_M_S2),
        (begin_m + gaining_m, peak, 0.0, cruising_m / peak),
        (begin_m + gaining_m + cruising_m, peak, -LOSE_M_S2, (peak - leave) / LOSE_M_S2),
    ]
    return [phase for phase in phases if phase[3] > 0]
