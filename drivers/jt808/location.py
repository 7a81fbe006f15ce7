"""Location reports (JT/T 808, chapter 8; the fix is table 23 of 2019): 0200, 0201, 0704.

The 28 bytes of the fix stand by themselves: whatever is wrong behind them, they are kept. Every field holds the number
that was sent; properties read it. Nothing is corrected: what cannot be a position or a time is named in `problems`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from drivers.bits import named_bits, signed
from drivers.jt808.items import Item, read_items, write_items
from drivers.jt808.names import ALARMS, LOAD_MASK, LOAD_SHIFT, LOADS, STATUS
from drivers.jt808.wire import BodyEnds, EncodeError, Reader, Version, digits, read_time, u8, u16

FIX_SIZE: Final = 28
LAT_MAX_E6: Final = 90_000_000
LON_MAX_E6: Final = 180_000_000
COURSE_MAX: Final = 359

_FIX: Final = struct.Struct(">IIIIHHH6s")
_FIXED: Final = 1 << 1
_SOUTH: Final = 1 << 2
_WEST: Final = 1 << 3
_ENCRYPTED: Final = 1 << 5


@dataclass(frozen=True, slots=True)
class Location:
    """0200: table 23, then the additional items."""

    MSG_ID: ClassVar[int] = 0x0200

    alarm_bits: int
    status_bits: int
    lat_raw: int
    """Magnitude in 1e-6 degree; the hemisphere is in the status."""
    lon_raw: int
    altitude_raw: int
    speed_raw: int
    """0.1 km/h."""
    course_raw: int
    """Degrees clockwise from north, 0 to 359."""
    time_bcd: str
    """Twelve digits, YYMMDDhhmmss in GMT+8; as sent, even if it is no time."""
    items: tuple[Item, ...] = ()
    tail: bytes = b""
    """What is left where the items are malformed."""

    @property
    def lat_e6(self) -> int:
        """Latitude in 1e-6 degree, south negative. Meaningless where `problems` says so."""
        return -self.lat_raw if self.status_bits & _SOUTH else self.lat_raw

    @property
    def lon_e6(self) -> int:
        """Longitude in 1e-6 degree, west negative."""
        return -self.lon_raw if self.status_bits & _WEST else self.lon_raw

    @property
    def lat_e7(self) -> int:
        """Latitude in 1e-7 degree, exactly ten times what was sent."""
        return self.lat_e6 * 10

    @property
    def lon_e7(self) -> int:
        """Longitude in 1e-7 degree."""
        return self.lon_e6 * 10

    @property
    def altitude_m(self) -> int:
        """The WORD read as signed: ground below the sea is reported so."""
        return signed(self.altitude_raw, 16)

    @property
    def time(self) -> str | None:
        """RFC 3339 with +08:00; None where the digits are no time."""
        return read_time(self.time_bcd)

    @property
    def fixed(self) -> bool:
        """Status bit 1."""
        return bool(self.status_bits & _FIXED)

    @property
    def load(self) -> str:
        """Status bits 8-9: `empty`, `half`, `reserved`, `full`. Set by hand or by a sensor; `empty` is also what a
        terminal without one sends."""
        return LOADS[(self.status_bits & LOAD_MASK) >> LOAD_SHIFT]

    @property
    def status(self) -> frozenset[str]:
        """Names of the status bits that are set, without the load."""
        return named_bits(self.status_bits & ~LOAD_MASK, STATUS)

    @property
    def alarms(self) -> frozenset[str]:
        """Names of the alarm bits that are set."""
        return named_bits(self.alarm_bits, ALARMS)

    @property
    def problems(self) -> tuple[str, ...]:
        """What speaks against the report, by the standard alone: `not_fixed`, `encrypted`, `out_of_range`, `zero`,
        `course`, `time`, `items`. The first four mean that it is no position."""
        found = []
        if not self.status_bits & _FIXED:
            found.append("not_fixed")
        if self.status_bits & _ENCRYPTED:
            found.append("encrypted")
        if self.lat_raw > LAT_MAX_E6 or self.lon_raw > LON_MAX_E6:
            found.append("out_of_range")
        elif not self.lat_raw and not self.lon_raw:
            found.append("zero")
        if self.course_raw > COURSE_MAX:
            found.append("course")
        if self.time is None:
            found.append("time")
        if self.tail:
            found.append("items")
        return tuple(found)

    @property
    def is_position(self) -> bool:
        """Whether the coordinates may be used as a place."""
        void = not self.status_bits & _FIXED or self.status_bits & _ENCRYPTED
        return (
            not void
            and self.lat_raw <= LAT_MAX_E6
            and self.lon_raw <= LON_MAX_E6
            and (self.lat_raw or self.lon_raw) > 0
        )

    def item(self, item_id: int) -> Item | None:
        """The first item with an id."""
        return next((item for item in self.items if item.id == item_id), None)

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """A report from its bytes; `BodyEnds` where not even the fix is whole."""
        if len(data) < FIX_SIZE:
            raise BodyEnds(f"{FIX_SIZE} bytes expected for a fix, {len(data)} are there")
        alarm, status, lat, lon, altitude, speed, course, time = _FIX.unpack_from(data)
        items, tail = read_items(data[FIX_SIZE:])
        return cls(alarm, status, lat, lon, altitude, speed, course, time.hex(), items, tail)

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls.of_bytes(reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        try:
            fix = _FIX.pack(
                self.alarm_bits,
                self.status_bits,
                self.lat_raw,
                self.lon_raw,
                self.altitude_raw,
                self.speed_raw,
                self.course_raw,
                digits(self.time_bcd, 6),
            )
        except struct.error as error:
            raise EncodeError(f"a number of the fix is too large: {error}") from None
        return fix + write_items(self.items) + self.tail


@dataclass(frozen=True, slots=True)
class LocationAnswer:
    """0201: the answer to 8201."""

    MSG_ID: ClassVar[int] = 0x0201

    reply_serial: int
    location: Location

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body."""
        return cls(reader.u16(), Location.read(reader, version))

    def write(self, version: Version) -> bytes:
        """As a body."""
        return u16(self.reply_serial) + self.location.write(version)


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One report of a batch: its bytes, and the location unless they are too few for a fix."""

    raw: bytes
    location: Location | None

    @classmethod
    def of_bytes(cls, raw: bytes) -> Self:
        """An entry as received."""
        try:
            return cls(raw, Location.of_bytes(raw))
        except BodyEnds:
            return cls(raw, None)


@dataclass(frozen=True, slots=True)
class LocationBatch:
    """0704: reports of one moment (0) or, after a blind zone, of the past (1)."""

    MSG_ID: ClassVar[int] = 0x0704
    BACKFILL: ClassVar[int] = 1

    count: int
    """As stated; `len(entries)` is what is there."""
    kind: int
    entries: tuple[BatchEntry, ...]
    tail: bytes = b""
    """What is left where a length points beyond the end, or behind the stated number."""

    @property
    def backfill(self) -> bool:
        """Whether the reports were stored while there was no network."""
        return self.kind == self.BACKFILL

    @property
    def locations(self) -> tuple[Location, ...]:
        """Those that can be read, in the order sent."""
        return tuple(entry.location for entry in self.entries if entry.location)

    @property
    def problems(self) -> tuple[str, ...]:
        """`count`, `tail`, `entry`."""
        wrong_count = ("count",) if self.count != len(self.entries) else ()
        tail = ("tail",) if self.tail else ()
        return wrong_count + tail + (("entry",) if len(self.locations) != len(self.entries) else ())

    @classmethod
    def of(cls, locations: Iterable[Location], kind: int = 0) -> Self:
        """A batch to send."""
        entries = tuple(BatchEntry(location.write(Version.V2013), location) for location in locations)
        return cls(len(entries), kind, entries)

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body. Reports beyond the stated number are read too: they were sent."""
        count, kind = reader.u16(), reader.u8()
        entries = []
        while reader.left >= 2:
            at = reader.at
            size = reader.u16()
            if size > reader.left or size == 0:
                reader.back_to(at)
                break
            entries.append(BatchEntry.of_bytes(reader.take(size)))
        return cls(count, kind, tuple(entries), reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        entries = b"".join(u16(len(entry.raw)) + entry.raw for entry in self.entries)
        return u16(self.count) + u8(self.kind) + entries + self.tail
