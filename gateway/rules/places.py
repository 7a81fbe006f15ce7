"""Places and routes of a rule book: sites, dumping grounds, speed zones, no-entry areas, dead zones, depots; corridors.

`Places.near` and `Places.crossed` are asked for every fix, so they go by a grid; what they answer is what looking at
every place would give, to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import sqrt
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, inspect

from gateway.core.errors import ProtocolMisuse
from gateway.rules import geojson
from gateway.rules.geojson import Feature
from gateway.rules.geometry import (
    FINE,
    LEVELS,
    Area,
    Cells,
    Line,
    Passage,
    Point,
    Segment,
    candidates,
    cell_key,
    distance_m,
    inside,
    nearest_among,
    scale,
)
from gateway.rules.notes import Lines, Notes
from gateway.rules.tables import Id, Text
from gateway.rules.windows import DATE, ZONE, Hours, Weekday, hours_of, validity, zone_s
from gateway.toml_check import Check, decoded, every_key, shown
from gateway.toml_lines import Path

Kind = Literal["site", "ground", "zone", "no-entry", "dead-zone", "depot"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
NEAR_M: Final = 1000
"""The farthest that `Places.near` can be asked for."""

Ring = tuple[Point, ...]
Speed = Annotated[int, Meta(ge=1, le=200)]


class LimitTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A speed limit at some hours."""

    speed_kmh: Speed
    hours: list[list[str]] = []
    weekdays: list[Weekday] = []


class PlaceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Properties of a place."""

    id: Id
    kind: Kind
    name: Text
    speed_kmh: Speed | None = None
    limits: list[LimitTable] = []
    hours: list[list[str]] = []
    weekdays: list[Weekday] = []
    valid_from: Annotated[str, DATE] = ""
    valid_to: Annotated[str, DATE] = ""
    source: str = ""


class RouteTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Properties of a route."""

    id: Id
    kind: Literal["route"]
    name: Text
    speed_kmh: Speed | None = None
    width_m: Annotated[int, Meta(ge=1, le=1000)] | None = None
    valid_from: Annotated[str, DATE] = ""
    valid_to: Annotated[str, DATE] = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """An area with a meaning."""

    id: str
    kind: Kind
    name: str
    polygons: tuple[tuple[Ring, ...], ...]
    """Of each polygon its outline and its holes, closed, in WGS-84."""
    limits: tuple[tuple[int, Hours], ...]
    """km/h, and when; of a zone."""
    hours: Hours
    """When it means anything: a no-entry area may be closed by day only."""
    from_utc_s: int
    to_utc_s: int
    source: str
    file: str
    datum: str
    """Of the file; what is here has been converted."""
    area: Area = field(compare=False, repr=False)

    def valid(self, utc_s: int) -> bool:
        """Whether its dates hold; the hours are another question."""
        return self.from_utc_s <= utc_s < self.to_utc_s

    def speed_kmh(self, utc_s: int) -> int | None:
        """The lowest limit that holds at that second."""
        return min((limit for limit, hours in self.limits if hours.open(utc_s)), default=None)

    def geometry(self) -> dict[str, Any]:
        """As a finding holds it: [lon_e7, lat_e7]."""
        polygons = [[[[lon, lat] for lat, lon in ring] for ring in rings] for rings in self.polygons]
        if len(polygons) == 1:
            return {"type": "Polygon", "coordinates": polygons[0], "id": self.id, "name": self.name}
        return {"type": "MultiPolygon", "coordinates": polygons, "id": self.id, "name": self.name}


@dataclass(frozen=True, slots=True)
class Route:
    """The way that a permit allows; `line.nearest` tells how far from it a fix is."""

    id: str
    name: str
    parts: tuple[Ring, ...]
    speed_kmh: int | None
    width_m: int | None
    """To each side, where the permit does not say."""
    from_utc_s: int
    to_utc_s: int
    source: str
    file: str
    datum: str
    line: Line = field(compare=False, repr=False)

    def valid(self, utc_s: int) -> bool:
        """Whether its dates hold."""
        return self.from_utc_s <= utc_s < self.to_utc_s

    def geometry(self) -> dict[str, Any]:
        """As a finding holds it: [lon_e7, lat_e7]."""
        parts = [[[lon, lat] for lat, lon in part] for part in self.parts]
        if len(parts) == 1:
            return {"type": "LineString", "coordinates": parts[0], "id": self.id, "name": self.name}
        return {"type": "MultiLineString", "coordinates": parts, "id": self.id, "name": self.name}


class Near(NamedTuple):
    """A place at or around a point."""

    place: Place
    distance_m: float
    """To its boundary, negative inside; never below -within_m."""


class Crossed(NamedTuple):
    """A place that the straight way between two fixes runs through."""

    place: Place
    passages: tuple[Passage, ...]

    @property
    def through(self) -> bool:
        """Whether it was entered and left between the two fixes: neither of them is inside."""
        return self.passages[0].enter > 0.0 and self.passages[-1].leave < 1.0


_WHOLE: Final = (Passage(0.0, 1.0),)
_Entry = tuple[float, bool | None, Place, tuple[Segment, ...], tuple[Segment, ...]]
"""Of a cell: a distance that no point of it comes closer than, whether all of it is inside (None: it depends), the
place, edges that may be the nearest, edges that decide about inside."""


class Places:
    """All places of a book, by id and by where they are."""

    def __init__(self, places: Iterable[Place], cells: Cells | None = None) -> None:
        self.by_id: Mapping[str, Place] = {place.id: place for place in places}
        self._cells = cells or Cells()
        self._fine: dict[int, tuple[_Entry, ...]] = self._cells.table()
        self._levels = [(size, self._cells.table()) for size in LEVELS[:-1]]
        self._all = tuple((place, place.area.edges) for place in self.by_id.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places) and list(self.by_id.items()) == list(other.by_id.items())

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.by_id)

    def near(self, lat_e7: int, lon_e7: int, utc_s: int, within_m: float) -> list[Near]:
        """Places valid at that time whose boundary is at most `within_m` (up to NEAR_M) away or that hold the point, in
        the order of the files. Deeper inside than `within_m` the distance is -within_m."""
        if within_m > NEAR_M:
            raise ProtocolMisuse(f"places are looked for within {NEAR_M} m, asked for {within_m}")
        entries = self._entries(lat_e7, lon_e7)
        found: list[Near] = []
        east, north = scale(lat_e7) if entries else (0.0, 0.0)
        for low, whole, place, segments, edges in entries:
            if low > within_m:
                if whole and place.from_utc_s <= utc_s < place.to_utc_s:
                    found.append(Near(place, -within_m))
                continue
            if not place.from_utc_s <= utc_s < place.to_utc_s:
                continue
            distance = sqrt(nearest_among(segments, lat_e7, lon_e7, east, north)[0])
            within = inside(edges, lat_e7, lon_e7) if whole is None else whole
            if within:
                found.append(Near(place, -min(distance, within_m)))
            elif distance <= within_m:
                found.append(Near(place, distance))
        return found

    def crossed(self, a: Point, b: Point, utc_s: int) -> list[Crossed]:
        """Places valid at that time that the straight way from a to b runs through, in the order of the files."""
        way_m = distance_m(a[0], a[1], b[0], b[1])
        if way_m >= NEAR_M:
            valid = [place for place in self.by_id.values() if place.from_utc_s <= utc_s < place.to_utc_s]
            return [Crossed(place, passages) for place in valid if (passages := place.area.passages(a, b))]
        found: list[Crossed] = []
        clear_m = way_m * 1.05  # the bound is in metres of the cell, the way in metres of its middle
        for low, whole, place, _segments, _edges in self._entries(a[0], a[1]):
            if not place.from_utc_s <= utc_s < place.to_utc_s:
                continue
            if low <= clear_m:
                if passages := place.area.passages(a, b):
                    found.append(Crossed(place, passages))
            elif whole:  # too far from the boundary to meet it
                found.append(Crossed(place, _WHOLE))
        return found

    def _entries(self, lat_e7: int, lon_e7: int) -> tuple[_Entry, ...]:
        key = cell_key(lat_e7, lon_e7, FINE)
        found = self._fine.get(key)
        if found is None:
            found = self._look_around(lat_e7, lon_e7)
            self._cells.room()
            self._fine[key] = found
        return found

    def _look_around(self, lat_e7: int, lon_e7: int) -> tuple[_Entry, ...]:
        near = self._all
        for size, table in self._levels:
            key = cell_key(lat_e7, lon_e7, size)
            found = table.get(key)
            if found is None:
                found = tuple((entry[2], entry[3]) for entry in _entries_of(near, lat_e7, lon_e7, size))
                self._cells.room()
                table[key] = found
            near = found
        return tuple(_entries_of(near, lat_e7, lon_e7, FINE))


def _entries_of(
    near: Iterable[tuple[Place, tuple[Segment, ...]]], lat_e7: int, lon_e7: int, size: int
) -> Iterable[_Entry]:
    south, west = lat_e7 >> size << size, lon_e7 >> size << size
    north = south + (1 << size)
    for place, segments in near:
        kept, low, _high = candidates(segments, lat_e7, lon_e7, size)
        if low > 0:  # no edge runs through the cell: one answer for all of it
            whole = place.area.contains(lat_e7, lon_e7)
            if whole or low <= NEAR_M:
                yield low, whole, place, kept, ()
            continue
        edges = tuple(
            edge
            for edge in place.area.edges
            if max(edge[1], edge[1] + edge[3]) >= south
            and min(edge[1], edge[1] + edge[3]) <= north
            and max(edge[0], edge[0] + edge[2]) >= west
        )
        yield low, None, place, kept, edges


# ---------------------------------------------------------------------------------------------- reading

PLACE_SCHEMA: Final = inspect.type_info(PlaceTable)
ROUTE_SCHEMA: Final = inspect.type_info(RouteTable)
_SCHEMAS: Final[dict[str, inspect.Type]] = {"route": ROUTE_SCHEMA, **dict.fromkeys(KINDS, PLACE_SCHEMA)}


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a GeoJSON file holds, each thing with where it stands in the file."""

    places: list[tuple[Place, Path]]
    routes: list[tuple[Route, Path]]
    notes: Notes


def read(file: str, content: bytes, cells: Cells) -> Drawn:
    """The places and routes of a file; mistakes are in `notes`. Raises ConfigError where there is no document."""
    text = decoded(file, content, geojson.FILE_MAX_BYTES)
    document = geojson.parse(file, text)
    return _Reading(Notes(file, Lines(geojson.json_lines, text)), cells).read(document)


class _Reading:
    """Features to places."""

    def __init__(self, notes: Notes, cells: Cells) -> None:
        self._notes = notes
        self._checks = {kind: Check(notes.file, notes.lines, schema) for kind, schema in _SCHEMAS.items()}
        self._cells = cells
        self._zone_s = 0
        self._datum = ""

    def read(self, document: dict[str, Any]) -> Drawn:
        """The whole file."""
        notes = self._notes
        zone = document.get("zone", "+08:00")
        if not isinstance(zone, str) or not re.search(str(ZONE.pattern), zone):
            notes.error(("zone",), f"expected {ZONE.description}, found {shown(zone)}")
            zone = "+08:00"
        self._zone_s = zone_s(zone)
        drawn = Drawn([], [], notes)
        collection = geojson.collection(document, notes.error, notes.warn)
        if collection is None:
            return drawn
        self._datum = collection.datum
        for feature in collection.features:
            found = self._feature(feature)
            path = (*feature.path, "properties", "id")
            if isinstance(found, Place):
                drawn.places.append((found, path))
            elif found is not None:
                drawn.routes.append((found, path))
        return drawn

    def _feature(self, feature: Feature) -> Place | Route | None:
        kind = feature.properties.get("kind")
        path = (*feature.path, "properties")
        if not isinstance(kind, str) or kind not in _SCHEMAS:
            known = ", ".join(_SCHEMAS)
            self._notes.error((*path, "kind"), f"expected one of {known}; found {shown(kind or 'nothing')}")
            return None
        check = self._checks[kind]
        schema = _SCHEMAS[kind]
        before = len(check.problems)
        values = check.value(_known(feature.properties, schema), schema, path)
        if len(check.problems) > before:
            self._notes.errors += check.problems[before:]
            return None
        if feature.shape is None:
            return None
        if (kind == "route") != bool(feature.shape.lines):
            expected = "a LineString" if kind == "route" else "a Polygon"
            self._notes.error((*feature.path, "geometry"), f"a {kind} is {expected}, found a {feature.shape.type}")
            return None
        if kind == "route":
            return self._route(msgspec.convert(values, RouteTable), feature.shape.lines, feature.path)
        return self._place(msgspec.convert(values, PlaceTable), feature.shape.polygons, path)

    def _validity(self, table: PlaceTable | RouteTable, path: Path) -> tuple[int, int]:
        start, end, problem = validity(table.valid_from, table.valid_to, self._zone_s)
        if problem:
            self._notes.error((*path, "valid_to" if table.valid_to else "valid_from"), problem)
        return start, end

    def _route(self, table: RouteTable, parts: list[list[Point]], path: Path) -> Route:
        start, end = self._validity(table, (*path, "properties"))
        line = Line(parts, self._cells)
        return Route(
            table.id, table.name, tuple(tuple(part) for part in parts), table.speed_kmh, table.width_m, start, end,
            table.source, self._notes.file, self._datum, line,
        )  # fmt: skip

    def _place(self, table: PlaceTable, polygons: list[list[list[Point]]], path: Path) -> Place:
        start, end = self._validity(table, path)
        hours = self._hours(table.hours, table.weekdays, path)
        limits: list[tuple[int, Hours]] = []
        if table.speed_kmh is not None:
            limits.append((table.speed_kmh, Hours(zone_s=self._zone_s)))
        for index, limit in enumerate(table.limits):
            limits.append((limit.speed_kmh, self._hours(limit.hours, limit.weekdays, (*path, "limits", index))))
        if table.kind == "zone" and not limits:
            self._notes.error((*path, "kind"), "a zone without a limit; add speed_kmh or limits")
        if table.kind != "zone" and limits:
            self._notes.error((*path, "kind"), f"a {table.kind} has no speed limit; draw a zone over it")
        frozen = tuple(tuple(tuple(ring) for ring in rings) for rings in polygons)
        area = Area(ring for rings in polygons for ring in rings)
        return Place(
            table.id, table.kind, table.name, frozen, tuple(limits), hours, start, end, table.source,
            self._notes.file, self._datum, area,
        )  # fmt: skip

    def _hours(self, pairs: list[list[str]], weekdays: Sequence[str], path: Path) -> Hours:
        hours, problems = hours_of(pairs, weekdays, self._zone_s)
        for problem in problems:
            self._notes.error((*path, "hours"), problem)
        return hours


def _known(properties: dict[str, Any], schema: inspect.Type) -> dict[str, Any]:
    """Without what a drawing program adds for itself; what only looks like a slip of a known name stays, to be told."""
    names = [name for _table, name in every_key(schema)]
    kept: dict[str, Any] = {}
    for key, value in properties.items():
        if value is None or (key not in names and not get_close_matches(key, names, 1, 0.75)):
            continue
        if key == "id" and type(value) is int:
            kept[key] = str(value)
        else:
            kept[key] = int(value) if type(value) is float and value.is_integer() else value
    return kept
