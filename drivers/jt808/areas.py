"""Areas and routes that a terminal watches by itself (JT/T 808, chapter 8): 8600 to 8607.

Coordinates are magnitudes in 1e-6 degree, the hemisphere is in the attributes, as in a location report. 2019 adds the
speed limit at night and a name; for a polygon the standard puts the night limit behind the vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import ClassVar, Self

from drivers.jt808.wire import NO_TEXT, EncodeError, Reader, Text, Version, digits, text16, u8, u16, u32


class AreaBit(IntFlag):
    """Attributes of an area or route."""

    TIMED = 1 << 0
    SPEED = 1 << 1
    ENTER_TO_DRIVER = 1 << 2
    ENTER_TO_PLATFORM = 1 << 3
    LEAVE_TO_DRIVER = 1 << 4
    LEAVE_TO_PLATFORM = 1 << 5
    SOUTH = 1 << 6
    WEST = 1 << 7
    NO_DOOR_OPENING = 1 << 8
    MODEM_OFF = 1 << 14
    DETAILED_FIXES = 1 << 15


class SectionBit(IntFlag):
    """Attributes of a section of a route."""

    TIMED = 1 << 0
    SPEED = 1 << 1
    SOUTH = 1 << 2
    WEST = 1 << 3


@dataclass(frozen=True, slots=True)
class Window:
    """Start and end, BCD[6] YYMMDDhhmmss; zeros for year, month and day mean every day."""

    start_bcd: str
    end_bcd: str

    def write(self) -> bytes:
        """As on the wire."""
        return digits(self.start_bcd, 6) + digits(self.end_bcd, 6)


@dataclass(frozen=True, slots=True)
class SpeedRule:
    """Highest speed, and for how long it must be exceeded."""

    max_kmh: int
    duration_s: int
    night_kmh: int = 0
    """2019 only; 22:00 to 06:00."""


def _read_window(reader: Reader, attributes: int) -> Window | None:
    return Window(reader.digits(6), reader.digits(6)) if attributes & AreaBit.TIMED else None


def _read_speed(reader: Reader, wanted: int, version: Version) -> SpeedRule | None:
    if not wanted:
        return None
    return SpeedRule(reader.u16(), reader.u8(), reader.u16() if version is Version.V2019 else 0)


def _write_speed(speed: SpeedRule | None, version: Version) -> bytes:
    if speed is None:
        return b""
    night = u16(speed.night_kmh) if version is Version.V2019 else b""
    return u16(speed.max_kmh) + u8(speed.duration_s) + night


def _read_name(reader: Reader, version: Version) -> Text:
    return reader.text16() if version is Version.V2019 else NO_TEXT


def _write_name(name: Text, version: Version) -> bytes:
    return text16(name) if version is Version.V2019 else b""


def _agree(what: str, attributes: int, bit: int, value: object) -> None:
    """A part that an attribute announces must be there, and only then: the terminal would read everything behind it
    wrong."""
    if bool(attributes & bit) != (value is not None):
        raise EncodeError(f"{what}: attribute bit {bit.bit_length() - 1} and the part that it announces disagree")


@dataclass(frozen=True, slots=True)
class Area:
    """A circle or a rectangle."""

    id: int
    attributes: int
    shape: tuple[int, ...]
    """Circle: latitude, longitude, radius in m. Rectangle: latitude and longitude of the upper left, then of the lower
    right corner."""
    window: Window | None = None
    speed: SpeedRule | None = None
    name: Text = NO_TEXT

    @classmethod
    def read(cls, reader: Reader, numbers: int, version: Version) -> Self:
        """One item of a list."""
        area_id, attributes = reader.u32(), reader.u16()
        shape = tuple(reader.u32() for _ in range(numbers))
        window = _read_window(reader, attributes)
        speed = _read_speed(reader, attributes & AreaBit.SPEED, version)
        return cls(area_id, attributes, shape, window, speed, _read_name(reader, version))

    def write(self, numbers: int, version: Version) -> bytes:
        """As an item of a list."""
        if len(self.shape) != numbers:
            raise EncodeError(f"area {self.id}: {len(self.shape)} numbers where its shape has {numbers}")
        _agree(f"area {self.id}", self.attributes, AreaBit.TIMED, self.window)
        _agree(f"area {self.id}", self.attributes, AreaBit.SPEED, self.speed)
        window = self.window.write() if self.window else b""
        head = u32(self.id) + u16(self.attributes) + b"".join(map(u32, self.shape)) + window
        return head + _write_speed(self.speed, version) + _write_name(self.name, version)


@dataclass(frozen=True, slots=True)
class SetCircles:
    """8600."""

    MSG_ID: ClassVar[int] = 0x8600
    NUMBERS: ClassVar[int] = 3
    UPDATE: ClassVar[int] = 0
    APPEND: ClassVar[int] = 1
    MODIFY: ClassVar[int] = 2

    action: int
    areas: tuple[Area, ...]
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body."""
        action, count = reader.u8(), reader.u8()
        return cls(action, tuple(Area.read(reader, cls.NUMBERS, version) for _ in range(count)), reader.rest())

    def write(self, version: Version) -> bytes:
        """As a body."""
        areas = b"".join(area.write(self.NUMBERS, version) for area in self.areas)
        return u8(self.action) + u8(len(self.areas)) + areas + self.tail


class SetRectangles(SetCircles):
    """8602."""

    __slots__ = ()
    MSG_ID = 0x8602
    NUMBERS = 4


@dataclass(frozen=True, slots=True)
class SetPolygon:
    """8604: one polygon."""

    MSG_ID: ClassVar[int] = 0x8604

    id: int
    attributes: int
    vertices: tuple[tuple[int, int], ...]
    """Latitude and longitude of each."""
    window: Window | None = None
    speed: SpeedRule | None = None
    name: Text = NO_TEXT
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body."""
        area_id, attributes = reader.u32(), reader.u16()
        window = _read_window(reader, attributes)
        speed = _read_speed(reader, attributes & AreaBit.SPEED, Version.V2013)
        vertices = tuple((reader.u32(), reader.u32()) for _ in range(reader.u16()))
        if speed and version is Version.V2019:
            speed = SpeedRule(speed.max_kmh, speed.duration_s, reader.u16())
        return cls(area_id, attributes, vertices, window, speed, _read_name(reader, version), reader.rest())

    def write(self, version: Version) -> bytes:
        """As a body."""
        _agree(f"polygon {self.id}", self.attributes, AreaBit.TIMED, self.window)
        _agree(f"polygon {self.id}", self.attributes, AreaBit.SPEED, self.speed)
        window = self.window.write() if self.window else b""
        head = u32(self.id) + u16(self.attributes) + window + _write_speed(self.speed, Version.V2013)
        vertices = b"".join(u32(lat) + u32(lon) for lat, lon in self.vertices)
        night = u16(self.speed.night_kmh) if self.speed and version is Version.V2019 else b""
        return head + u16(len(self.vertices)) + vertices + night + _write_name(self.name, version) + self.tail


@dataclass(frozen=True, slots=True)
class Point:
    """A turning point; its section leads to the next one."""

    id: int
    section_id: int
    lat_raw: int
    lon_raw: int
    width_m: int
    """One BYTE: a corridor of a terminal is at most 255 m wide."""
    attributes: int = 0
    times_s: tuple[int, int] | None = None
    """Too long above the first, too short below the second."""
    speed: SpeedRule | None = None

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """One item of a route."""
        point_id, section_id, lat, lon = reader.u32(), reader.u32(), reader.u32(), reader.u32()
        width, attributes = reader.u8(), reader.u8()
        times = (reader.u16(), reader.u16()) if attributes & SectionBit.TIMED else None
        speed = _read_speed(reader, attributes & SectionBit.SPEED, version)
        return cls(point_id, section_id, lat, lon, width, attributes, times, speed)

    def write(self, version: Version) -> bytes:
        """As an item of a route."""
        _agree(f"point {self.id}", self.attributes, SectionBit.TIMED, self.times_s)
        _agree(f"point {self.id}", self.attributes, SectionBit.SPEED, self.speed)
        place = u32(self.id) + u32(self.section_id) + u32(self.lat_raw) + u32(self.lon_raw)
        times = b"".join(map(u16, self.times_s)) if self.times_s else b""
        return place + u8(self.width_m) + u8(self.attributes) + times + _write_speed(self.speed, version)


@dataclass(frozen=True, slots=True)
class SetRoute:
    """8606: one route."""

    MSG_ID: ClassVar[int] = 0x8606

    id: int
    attributes: int
    points: tuple[Point, ...]
    window: Window | None = None
    name: Text = NO_TEXT
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body."""
        route_id, attributes = reader.u32(), reader.u16()
        window = _read_window(reader, attributes)
        points = tuple(Point.read(reader, version) for _ in range(reader.u16()))
        return cls(route_id, attributes, points, window, _read_name(reader, version), reader.rest())

    def write(self, version: Version) -> bytes:
        """As a body."""
        _agree(f"route {self.id}", self.attributes, AreaBit.TIMED, self.window)
        head = u32(self.id) + u16(self.attributes) + (self.window.write() if self.window else b"")
        points = b"".join(point.write(version) for point in self.points)
        return head + u16(len(self.points)) + points + _write_name(self.name, version) + self.tail


@dataclass(frozen=True, slots=True)
class DeleteCircles:
    """8601. No id deletes all."""

    MSG_ID: ClassVar[int] = 0x8601

    ids: tuple[int, ...] = ()
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(tuple(reader.u32() for _ in range(reader.u8())), reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        return u8(len(self.ids)) + b"".join(map(u32, self.ids)) + self.tail


class DeleteRectangles(DeleteCircles):
    """8603."""

    __slots__ = ()
    MSG_ID = 0x8603


class DeletePolygons(DeleteCircles):
    """8605."""

    __slots__ = ()
    MSG_ID = 0x8605


class DeleteRoutes(DeleteCircles):
    """8607."""

    __slots__ = ()
    MSG_ID = 0x8607
