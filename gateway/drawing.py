"""Drawings of an event as SVG: a map without tiles, and speed and states over time. Pure: equal inputs, equal bytes.

Lengths in metres around the middle of the drawing (gateway.rules.geometry), text and colours by classes of the page's
style sheet. Nothing that came from outside goes into the SVG unescaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any, Final

from gateway.rules.geometry import scale

ZONE_S: Final = 8 * 3600
"""Times are drawn in GMT+8, the time of the law that is applied."""
MAP_WIDTH, MAP_HEIGHT = 700, 470
CHART_WIDTH, CHART_HEIGHT = 700, 190
LEFT, RIGHT = 62, 12
STRIP_HEIGHT: Final = 16
GAP_S: Final = 90
"""Between fixes farther apart than this, and than three times the usual step, nothing is known: drawn as a gap."""
SEE_GEOMETRY_M: Final = 3_000
"""A route or place is brought into view where it is no farther from the track than this."""
VIEW_MIN_M: Final = 200
NAME_STEPS: Final = 12
"""Places along each edge that are tried for the name."""


@dataclass(frozen=True, slots=True)
class Point:
    """One fix to be drawn."""

    time_utc_s: int
    lat_e7: int | None
    lon_e7: int | None
    speed_kmh_e1: int | None = None
    recorder_kmh_e1: int | None = None
    in_event: bool = False
    """Cited by the finding; others are the minutes before and after."""
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """A named point of the map."""

    lat_e7: int
    lon_e7: int
    letter: str
    title: str


@dataclass(frozen=True, slots=True)
class _View:
    """From degrees to the sheet."""

    lat_e7: int
    lon_e7: int
    metres_per_px: float

    def at(self, lat_e7: float, lon_e7: float) -> tuple[float, float]:
        east, north = scale(self.lat_e7)
        x = MAP_WIDTH / 2 + (lon_e7 - self.lon_e7) * east / self.metres_per_px
        y = MAP_HEIGHT / 2 - (lat_e7 - self.lat_e7) * north / self.metres_per_px
        return max(-9e4, min(9e4, x)), max(-9e4, min(9e4, y))

    def path(self, line: Sequence[Sequence[int]]) -> str:
        """Of [lon_e7, lat_e7] points."""
        points = [self.at(lat, lon) for lon, lat, *_ in line]
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""


# ---------------------------------------------------------------------------------------------- map


def map_svg(points: Sequence[Point], geometry: Mapping[str, Any], marks: Sequence[Mark]) -> str:
    """Track, route or places, marks, scale bar, north arrow; "" where nothing has a place."""
    placed = [point for point in points if point.lat_e7 is not None and point.lon_e7 is not None]
    lines, rings = _shapes(geometry)
    view = _view(placed, marks, [*lines, *rings])
    if view is None:
        return ""
    parts = [
        f'<svg class="map" viewBox="0 0 {MAP_WIDTH} {MAP_HEIGHT}" role="img" aria-label="Track of the event">',
        f'<clipPath id="sheet"><rect width="{MAP_WIDTH}" height="{MAP_HEIGHT}"/></clipPath>',
        f'<rect class="sheet" width="{MAP_WIDTH}" height="{MAP_HEIGHT}"/>',
        '<g clip-path="url(#sheet)">',
        *_grid(view),
        *_drawn_shapes(view, lines, rings, geometry, marks),
        *_track(view, placed),
        "</g>",
        f'<rect class="frame" width="{MAP_WIDTH}" height="{MAP_HEIGHT}"/>',
        *_marks(view, marks),
        *_furniture(view),
        "</svg>",
    ]
    return "".join(parts)


def _shapes(geometry: Mapping[str, Any]) -> tuple[list[list[list[int]]], list[list[list[int]]]]:
    """(lines, rings) of a geometry as a finding holds it; what has another shape is left out."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates") or []
    match kind:
        case "Point":
            return [], []
        case "LineString":
            return [coordinates], []
        case "MultiLineString":
            return list(coordinates), []
        case "Polygon":
            return [], list(coordinates)
        case "MultiPolygon":
            return [], [ring for polygon in coordinates for ring in polygon]
        case "GeometryCollection":
            lines: list[list[list[int]]] = []
            rings: list[list[list[int]]] = []
            for item in geometry.get("geometries") or []:
                more_lines, more_rings = _shapes(item)
                lines += more_lines
                rings += more_rings
            return lines, rings
    return [], []


def _view(placed: Sequence[Point], marks: Sequence[Mark], shapes: Sequence[Sequence[Sequence[int]]]) -> _View | None:
    """All of the track, and of routes and places what is near it."""
    places = [(point.lat_e7 or 0, point.lon_e7 or 0) for point in placed]
    places += [(mark.lat_e7, mark.lon_e7) for mark in marks]
    corners = [(lat, lon) for shape in shapes for lon, lat, *_ in shape]
    if not places:
        places = corners
    if not places:
        return None

    for lat, lon in [(mark.lat_e7, mark.lon_e7) for mark in marks] or places[:: max(1, len(places) // 10)]:
        nearest = min(
            (_nearest(lat, lon, a, b) for shape in shapes for a, b in pairwise(shape)),
            key=lambda found: found[0],
            default=None,
        )
        if nearest is not None and nearest[0] <= SEE_GEOMETRY_M:
            places.append(nearest[1])
    south, north = min(lat for lat, _ in places), max(lat for lat, _ in places)
    west, east = min(lon for _, lon in places), max(lon for _, lon in places)
    lat_e7, lon_e7 = (south + north) // 2, (west + east) // 2
    east_m, north_m = scale(lat_e7)
    width_m = max(VIEW_MIN_M, (east - west) * east_m * 1.25)
    height_m = max(VIEW_MIN_M, (north - south) * north_m * 1.3)
    return _View(lat_e7, lon_e7, max(width_m / MAP_WIDTH, height_m / MAP_HEIGHT))


def _nearest(lat_e7: int, lon_e7: int, a: Sequence[int], b: Sequence[int]) -> tuple[float, tuple[int, int]]:
    """(distance in metres, place) of the nearest point of an edge, its ends as [lon_e7, lat_e7]."""
    east, north = scale(lat_e7)
    ax, ay, bx, by = (a[0] - lon_e7) * east, (a[1] - lat_e7) * north, (b[0] - a[0]) * east, (b[1] - a[1]) * north
    square = bx * bx + by * by
    share = 0.0 if square == 0 else min(1.0, max(0.0, -(ax * bx + ay * by) / square))
    x, y = ax + share * bx, ay + share * by
    return (x * x + y * y) ** 0.5, (round(lat_e7 + y / north), round(lon_e7 + x / east))


def _grid(view: _View) -> Iterator[str]:
    """Lines of latitude and longitude with their degrees at the edge."""
    east, north = scale(view.lat_e7)
    width_e7, height_e7 = MAP_WIDTH * view.metres_per_px / east, MAP_HEIGHT * view.metres_per_px / north
    step = _round_step(width_e7 / 4)
    low = view.lon_e7 - width_e7 / 2
    for index in range(int(low // step) + 1, int((low + width_e7) // step) + 1):
        x, _ = view.at(view.lat_e7, index * step)
        yield f'<path class="grid" d="M{x:.1f} 0V{MAP_HEIGHT}"/>'
        if 40 < x < MAP_WIDTH - 240:
            yield f'<text class="tick" x="{x + 3:.1f}" y="{MAP_HEIGHT - 5}">{_degrees(index * step, "EW")}</text>'
    low = view.lat_e7 - height_e7 / 2
    for index in range(int(low // step) + 1, int((low + height_e7) // step) + 1):
        _, y = view.at(index * step, view.lon_e7)
        yield f'<path class="grid" d="M0 {y:.1f}H{MAP_WIDTH}"/>'
        if 40 < y < MAP_HEIGHT - 30:
            yield f'<text class="tick" x="4" y="{y - 3:.1f}">{_degrees(index * step, "NS")}</text>'


def _drawn_shapes(
    view: _View, lines: Sequence[Any], rings: Sequence[Any], geometry: Mapping[str, Any], marks: Sequence[Mark]
) -> Iterator[str]:
    width_m = geometry.get("width_m")
    for line in lines:
        path = view.path(line)
        if isinstance(width_m, int) and width_m > 0:
            px = max(2.0, 2 * width_m / view.metres_per_px)
            yield f'<path class="band" style="stroke-width:{px:.1f}px" d="{path}"/>'
        yield f'<path class="route" d="{path}"/>'
    if rings:
        yield f'<path class="place" d="{"".join(view.path(ring) + "Z" for ring in rings)}"/>'
    name = " ".join(str(geometry.get(key) or "") for key in ("name", "id")).strip()
    beside = _place_for_name(view, [*lines, *rings], marks) if name else None
    if beside is not None:
        x, y = beside
        yield f'<text class="name" x="{x:.1f}" y="{y:.1f}">{escape(name[:40])}</text>'


def _place_for_name(view: _View, shapes: Sequence[Any], marks: Sequence[Mark]) -> tuple[float, float] | None:
    """Beside a line in view, as far from all marks as can be."""
    there = [view.at(mark.lat_e7, mark.lon_e7) for mark in marks]
    best, best_square = None, -1.0
    for shape in shapes:
        for a, b in pairwise(shape):
            for step in range(NAME_STEPS):
                lon, lat = (start + (end - start) * step / NAME_STEPS for start, end in zip(a[:2], b[:2], strict=True))
                x, y = view.at(lat, lon)
                if 70 < x < MAP_WIDTH - 180 and 30 < y < MAP_HEIGHT - 60:
                    square = min(((x - at_x) ** 2 + (y - at_y) ** 2 for at_x, at_y in there), default=1.0)
                    if square > best_square:
                        best, best_square = (x + 10, y + 16), square
    return best


def _track(view: _View, placed: Sequence[Point]) -> Iterator[str]:
    """The way, event in the colour of the event, gaps dashed; then the fixes themselves."""
    limit_s = gap_s(placed)
    for before, after in pairwise(placed):
        kind = "event" if before.in_event and after.in_event else "other"
        if after.time_utc_s - before.time_utc_s > limit_s:
            kind += " unknown"
        (x1, y1), (x2, y2) = (view.at(one.lat_e7 or 0, one.lon_e7 or 0) for one in (before, after))
        yield f'<path class="way {kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
    for point in placed:
        x, y = view.at(point.lat_e7 or 0, point.lon_e7 or 0)
        yield f'<circle class="fix {"event" if point.in_event else "other"}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'


def _marks(view: _View, marks: Sequence[Mark]) -> Iterator[str]:
    """Flags beside their points, moved apart where they would lie upon one another."""
    taken: list[tuple[float, float]] = []
    for mark in marks:
        x, y = view.at(mark.lat_e7, mark.lon_e7)
        label_x, label_y = min(max(x + 16, 16), MAP_WIDTH - 16), min(max(y - 16, 46), MAP_HEIGHT - 16)
        while any(abs(label_x - there_x) < 21 and abs(label_y - there_y) < 21 for there_x, there_y in taken):
            label_y += 22 if label_y < MAP_HEIGHT - 60 else -44
        taken.append((label_x, label_y))
        yield (
            f'<g class="mark"><title>{escape(mark.title)}</title>'
            f'<path d="M{x:.1f} {y:.1f}L{label_x:.1f} {label_y:.1f}"/>'
            f'<circle class="spot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
            f'<circle cx="{label_x:.1f}" cy="{label_y:.1f}" r="10"/>'
            f'<text x="{label_x:.1f}" y="{label_y + 4:.1f}">{escape(mark.letter)}</text></g>'
        )


def _furniture(view: _View) -> Iterator[str]:
    """Scale bar and north arrow."""
    length_m = _round_step(MAP_WIDTH * view.metres_per_px / 4)
    px = length_m / view.metres_per_px
    x, y = MAP_WIDTH - 16 - px, MAP_HEIGHT - 14
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    yield f'<rect class="plate" x="{x - 8:.1f}" y="{y - 20}" width="{px + 16:.1f}" height="28"/>'
    yield f'<path class="bar" d="M{x:.1f} {y - 5}V{y}H{x + px:.1f}V{y - 5}"/>'
    yield f'<text class="bar-text" x="{x + px / 2:.1f}" y="{y - 6}">{text}</text>'
    x = MAP_WIDTH - 24
    yield f'<rect class="plate" x="{x - 14}" y="6" width="28" height="44"/>'
    yield f'<path class="north" d="M{x} 10L{x + 8} 34L{x} 28L{x - 8} 34Z"/>'
    yield f'<text class="bar-text" x="{x}" y="46">N 北</text>'


# ---------------------------------------------------------------------------------------------- chart

STRIPS: Final[tuple[tuple[str, str, str], ...]] = (
    ("load", "载重", "load"),
    ("cover", "顶盖", "cover"),
    ("lift", "举升", "lift"),
)
VALUES_ZH: Final[Mapping[str, str]] = {
    "empty": "空载",
    "half": "半载",
    "full": "满载",
    "closed": "关闭",
    "open": "打开",
    "opening": "开启中",
    "closing": "关闭中",
    "flat": "放平",
    "lifted": "举升",
    "fault": "故障",
}


def chart_svg(
    points: Sequence[Point], limits: Sequence[tuple[str, int]], event: tuple[int, int], peak_s: int | None
) -> str:
    """Speed over time with limit lines (name, 0.1 km/h), and strips of load, cover and lift; "" where there are fewer
    than two fixes. `event`: begin and end, UTC seconds."""
    if len(points) < 2 or points[0].time_utc_s == points[-1].time_utc_s:
        return ""
    axis = _Axis(min(points[0].time_utc_s, event[0]), max(points[-1].time_utc_s, event[1]), points, limits)
    strips = [(zh, en, spans) for key, zh, en in STRIPS if (spans := _spans(points, key))]
    height = CHART_HEIGHT + 26 + len(strips) * (STRIP_HEIGHT + 5)
    parts = [
        f'<svg class="chart" viewBox="0 0 {CHART_WIDTH} {height}" role="img" aria-label="Speed and states over time">',
        f'<rect class="sheet" x="{LEFT}" y="10" width="{CHART_WIDTH - LEFT - RIGHT}" height="{CHART_HEIGHT - 10}"/>',
        *_event_band(axis, event, height),
        *_gaps(axis, points, height),
        *_axes(axis),
        *_speed_lines(axis, points, limits),
    ]
    if peak_s is not None and axis.first_s <= peak_s <= axis.last_s:
        parts.append(f'<path class="peak" d="M{axis.x(peak_s):.1f} 10V{CHART_HEIGHT}"/>')
        parts.append(f'<text class="peak-text" x="{axis.x(peak_s) + 3:.1f}" y="21">P</text>')
    for row, (zh, en, spans) in enumerate(strips):
        y = CHART_HEIGHT + 24 + row * (STRIP_HEIGHT + 5)
        parts.append(f'<text class="strip-name" x="{LEFT - 6}" y="{y + 12}">{zh} {en}</text>')
        for value, start_s, end_s in spans:
            x, width = axis.x(start_s), max(1.0, axis.x(end_s) - axis.x(start_s))
            shade = value if value in VALUES_ZH else "unknown-value"
            parts.append(
                f'<rect class="strip {shade}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{STRIP_HEIGHT}"/>'
            )
            text = f"{VALUES_ZH.get(value, '')} {value}".strip()
            if width > 14 * len(text) * 0.55:
                parts.append(f'<text class="strip-text" x="{x + width / 2:.1f}" y="{y + 12}">{escape(text)}</text>')
    return "".join([*parts, "</svg>"])


class _Axis:
    """From seconds and speeds to the sheet."""

    def __init__(self, first_s: int, last_s: int, points: Sequence[Point], limits: Sequence[tuple[str, int]]) -> None:
        self.first_s, self.last_s = first_s, last_s
        speeds = [
            speed for point in points for speed in (point.speed_kmh_e1, point.recorder_kmh_e1) if speed is not None
        ]
        top_e1 = max([200, *speeds, *(limit for _, limit in limits)]) * 1.1
        self.step_e1 = _round_step(top_e1 / 4)
        self.top_e1 = self.step_e1 * -(-top_e1 // self.step_e1)

    def x(self, time_utc_s: float) -> float:
        width = CHART_WIDTH - LEFT - RIGHT
        return LEFT + (time_utc_s - self.first_s) * width / (self.last_s - self.first_s)

    def y(self, speed_e1: float) -> float:
        return CHART_HEIGHT - speed_e1 * (CHART_HEIGHT - 10) / self.top_e1


def _event_band(axis: _Axis, event: tuple[int, int], height: int) -> Iterator[str]:
    x, width = axis.x(event[0]), max(2.0, axis.x(event[1]) - axis.x(event[0]))
    yield f'<rect class="during" x="{x:.1f}" y="10" width="{width:.1f}" height="{height - 12}"/>'


def _gaps(axis: _Axis, points: Sequence[Point], height: int) -> Iterator[str]:
    limit_s = gap_s(points)
    for before, after in pairwise(points):
        if after.time_utc_s - before.time_utc_s > limit_s:
            x, end = axis.x(before.time_utc_s), axis.x(after.time_utc_s)
            yield f'<rect class="gap" x="{x:.1f}" y="10" width="{end - x:.1f}" height="{height - 12}"/>'
            if end - x > 60:
                yield f'<text class="gap-text" x="{(x + end) / 2:.1f}" y="{CHART_HEIGHT / 2:.0f}">无数据 no data</text>'


def _axes(axis: _Axis) -> Iterator[str]:
    speed = 0.0
    while speed <= axis.top_e1:
        y = axis.y(speed)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{CHART_WIDTH - RIGHT}"/>'
        yield f'<text class="tick right" x="{LEFT - 6}" y="{y + 4:.1f}">{speed / 10:g}</text>'
        speed += axis.step_e1
    yield '<text class="tick" x="2" y="9">km/h</text>'
    length_s = axis.last_s - axis.first_s
    step_s = next((step for step in TIME_STEPS_S if length_s / step <= 7), 86_400 * -(-length_s // (7 * 86_400)))
    start_s = -(-(axis.first_s + ZONE_S) // step_s) * step_s - ZONE_S
    for at_s in range(start_s, axis.last_s + 1, step_s):
        x = axis.x(at_s)
        yield f'<path class="grid" d="M{x:.1f} 10V{CHART_HEIGHT}"/>'
        if x < CHART_WIDTH - 30:
            yield f'<text class="tick middle" x="{x:.1f}" y="{CHART_HEIGHT + 15}">{clock_text(at_s)}</text>'


TIME_STEPS_S: Final = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)


def _speed_lines(axis: _Axis, points: Sequence[Point], limits: Sequence[tuple[str, int]]) -> Iterator[str]:
    limit_s = gap_s(points)
    for name, key in (("recorder", "recorder_kmh_e1"), ("speed", "speed_kmh_e1")):
        path, last_s = "", None
        for point in points:
            speed = getattr(point, key)
            if speed is not None:
                joined = last_s is not None and point.time_utc_s - last_s <= limit_s
                path += f"{'L' if joined else 'M'}{axis.x(point.time_utc_s):.1f} {axis.y(speed):.1f}"
                last_s = point.time_utc_s
        if path:
            yield f'<path class="{name}" d="{path}"/>'
    for index, (name, limit_e1) in enumerate(limits):
        y = axis.y(limit_e1)
        yield f'<path class="limit" d="M{LEFT} {y:.1f}H{CHART_WIDTH - RIGHT}"/>'
        text = f"{escape(name)} {limit_e1 / 10:g}"
        label_y = y - 4 if index == len(limits) - 1 else y + 12
        yield f'<text class="limit-text" x="{CHART_WIDTH - RIGHT - 4}" y="{label_y:.1f}">{text}</text>'


def _spans(points: Sequence[Point], key: str) -> list[tuple[str, int, int]]:
    """(value, from, to) of a state, each lasting until the next fix, and over no gap."""
    limit_s = gap_s(points)
    found: list[tuple[str, int, int]] = []
    for index, point in enumerate(points):
        value = point.state.get(key)
        if not isinstance(value, str):
            continue
        following_s = points[index + 1].time_utc_s if index + 1 < len(points) else point.time_utc_s
        end_s = following_s if following_s - point.time_utc_s <= limit_s else point.time_utc_s + 1
        if found and found[-1][0] == value and found[-1][2] == point.time_utc_s:
            found[-1] = (value, found[-1][1], end_s)
        else:
            found.append((value, point.time_utc_s, end_s))
    return found


# ---------------------------------------------------------------------------------------------- both


def gap_s(points: Sequence[Point]) -> int:
    """A step longer than this is a gap."""
    steps = sorted(after.time_utc_s - before.time_utc_s for before, after in pairwise(points))
    usual_s = steps[len(steps) // 2] if steps else 0
    return max(GAP_S, 3 * usual_s)


def clock_text(time_utc_s: int) -> str:
    """Time of day in GMT+8, HH:MM:SS."""
    second = (time_utc_s + ZONE_S) % 86_400
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def _round_step(wanted: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `wanted`."""
    power = 1.0
    while power * 10 <= wanted:
        power *= 10
    while power > wanted:
        power /= 10
    return max(factor * power for factor in (1, 2, 5) if factor * power <= wanted)


def _degrees(value_e7: float, letters: str) -> str:
    return f"{abs(value_e7) / 1e7:.4f}°{letters[value_e7 < 0]}"
