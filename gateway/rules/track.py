"""What the rules keep of a vehicle's records: one tuple per fix, 54 bytes when it waits in a window.

A moment is a fix, or another record of the device that has only a time of arrival. Moments are ordered by `key`:
device time, then seq, then place in the record. A fix without a time that can be used stands at its arrival.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from math import sqrt
from typing import Any, Final, NamedTuple

from gateway.core.fixes import SIGMA_UNKNOWN_M, UNUSABLE
from gateway.rules.geometry import scale

NONE_U16: Final = 0xFFFF
NONE_U32: Final = 0xFFFF_FFFF

FIX: Final = 0
VOID: Final = 1
"""A fix that is no place at a time: it says that something arrived, and what the vehicle's state was."""
LOGGED_OFF: Final = 2
DUPLICATE: Final = 3
"""Another link with the same identity."""

LOADS: Final = ("", "empty", "half", "full")
COVERS: Final = ("", "closed", "open", "opening", "closing", "fault")
LIFTS: Final = ("", "flat", "lifted", "fault")
ALARMS: Final = ("main_power_low", "main_power_lost", "antenna_cut", "antenna_short", "gnss_fault")
"""Alarms that the rules look at."""
SENSORS: Final = ("load", "cover", "lift")

_LOAD: Final = {name: number for number, name in enumerate(LOADS) if name}
_COVER: Final = {name: number << 2 for number, name in enumerate(COVERS) if name}
_LIFT: Final = {name: number << 5 for number, name in enumerate(LIFTS) if name}
_ACC: Final = {False: 1 << 7, True: 2 << 7}
_ALARM: Final = {name: 1 << 9 + number for number, name in enumerate(ALARMS)}
_FAULT: Final = {name: 1 << 14 + number for number, name in enumerate((*SENSORS, "other"))}
BACKFILL: Final = 1 << 18
POWER: Final = _ALARM["main_power_low"] | _ALARM["main_power_lost"]
ANTENNA: Final = _ALARM["antenna_cut"] | _ALARM["antenna_short"]
GNSS_FAULT: Final = _ALARM["gnss_fault"]
FAULTS: Final = sum(_FAULT.values())
SENSOR_BITS: Final = (3, 7 << 2, 3 << 5)
"""Masks of load, cover and lift: zero means that nothing was said."""
SAID: Final = 3 | 7 << 2 | 3 << 5

LOADED: Final = frozenset({_LOAD["half"], _LOAD["full"]})
EMPTY: Final = _LOAD["empty"]
LIFTED: Final = _LIFT["lifted"]
ACC_OFF: Final = _ACC[False]
ACC_ON: Final = _ACC[True]
ACC_MASK: Final = 3 << 7
LOAD_MASK: Final = SENSOR_BITS[0]
COVER_MASK: Final = SENSOR_BITS[1]
LIFT_MASK: Final = SENSOR_BITS[2]
NOT_COVERED: Final = frozenset({_COVER["open"], _COVER["opening"], _COVER["closing"]})

_PACKED: Final = struct.Struct("<IQHQBBBIiiHHIIH")
MOMENT_SIZE: Final = _PACKED.size


class Moment(NamedTuple):
    """One moment of a vehicle, integers only."""

    time_s: int
    seq: int
    place: int
    """Of the fix in its record."""
    book: int
    """seq of the rule book in force at its seq."""
    who: int
    """Place of (class, plate) in the vehicle's list."""
    kind: int
    sigma_m: int
    arrival_s: int
    lat_e7: int
    lon_e7: int
    speed_e1: int
    """0.1 km/h; NONE_U16 where not said."""
    recorder_e1: int
    mileage_hm: int
    """NONE_U32 where not said."""
    bits: int
    """Load, cover, lift, ignition, alarms, faults: the constants above."""
    course_deg: int

    @property
    def key(self) -> tuple[int, int, int]:
        """Order in a vehicle's day."""
        return self[:3]


def pack(moment: Moment) -> bytes:
    """MOMENT_SIZE bytes."""
    return _PACKED.pack(*moment)


def unpack(packed: bytes | bytearray | memoryview) -> Iterator[Moment]:
    """Raises struct.error unless the length is a multiple of MOMENT_SIZE."""
    return map(Moment._make, _PACKED.iter_unpack(packed))


def state_bits(get: Callable[..., Any]) -> int:
    """What the vehicle says of itself, in one number; `get` of its fix."""
    bits = _LOAD.get(get("load", ""), 0) | _COVER.get(get("cover", ""), 0) | _LIFT.get(get("lift", ""), 0)
    acc = get("acc")
    if acc is not None:
        bits |= ACC_ON if acc else ACC_OFF
    alarms = get("alarms")
    if alarms:
        for name in alarms.split():
            bits |= _ALARM.get(name, 0)
    faults = get("sensor_faults")
    if faults:
        for name in faults.split():
            known = next((sensor for sensor in SENSORS if name.startswith(sensor)), "other")
            bits |= _FAULT[known]
    return bits


TIMELESS: Final = frozenset({"no-time", "future", "stale"})
"""Flags of fixes whose time is none: they stand at their arrival."""


def of_fix(fix: Mapping[str, Any], seq: int, place: int, arrival_s: int, book: int, who: int, backfill: bool) -> Moment:
    """A fix (its keys: gateway.core.fixes) as the rules keep it. Numbers that cannot be are as if not said."""
    get = fix.get
    lat, lon, time_s, kind = get("lat_e7"), get("lon_e7"), get("time_utc_s"), FIX
    flags = get("flags")
    if lat is None or lon is None or abs(lat) > 900_000_000 or abs(lon) > 1_800_000_000:
        lat, lon, kind = 0, 0, VOID
    if flags:
        names = flags.split()
        if not UNUSABLE.isdisjoint(names):
            lat, lon, kind = 0, 0, VOID
            if not TIMELESS.isdisjoint(names):
                time_s = None
    if time_s is None or not 0 <= time_s < NONE_U32:
        lat, lon, time_s, kind = 0, 0, arrival_s, VOID
    speed, recorder, mileage = get("speed_kmh_e1"), get("recorder_kmh_e1"), get("mileage_hm")
    course = get("course_deg")
    bits = state_bits(get)
    return Moment(
        time_s, seq, min(NONE_U16, place), book, who, kind,
        min(max(get("sigma_m", SIGMA_UNKNOWN_M), 1), 255), arrival_s, lat, lon,
        speed if speed is not None and 0 <= speed < NONE_U16 else NONE_U16,
        recorder if recorder is not None and 0 <= recorder < NONE_U16 else NONE_U16,
        mileage if mileage is not None and 0 <= mileage < NONE_U32 else NONE_U32,
        bits | BACKFILL if backfill else bits,
        course if course is not None and 0 <= course < NONE_U16 else NONE_U16,
    )  # fmt: skip


def moments_of(seq: int, arrival_s: int, data: Mapping[str, Any], book: int, who: int) -> list[Moment]:
    """The fixes of a tracker's `position` record; nothing for the track of a file."""
    if "columns" in data:
        return []
    arrival_s = min(max(arrival_s, 0), NONE_U32)
    backfill = bool(data.get("backfill"))
    fixes = data.get("fixes")
    if fixes is None:
        return [of_fix(data, seq, 0, arrival_s, book, who, backfill)]
    return [of_fix(fix, seq, place, arrival_s, book, who, backfill) for place, fix in enumerate(fixes)]


def way_m(a: Moment, b: Moment) -> float:
    """Metres between two fixes. The scale is that of a latitude within 45 m of the first: good to a centimetre per
    kilometre, and nearly always at hand."""
    east, north = scale(a.lat_e7 >> 12 << 12)
    x = (b.lon_e7 - a.lon_e7) * east
    y = (b.lat_e7 - a.lat_e7) * north
    return sqrt(x * x + y * y)


def of_record(kind: int, seq: int, arrival_utc_ns: int, book: int, who: int = 0) -> Moment:
    """A moment that is no fix."""
    arrival_s = min(max(arrival_utc_ns // 1_000_000_000, 0), NONE_U32)
    return Moment(arrival_s, seq, 0, book, who, kind, 1, arrival_s, 0, 0, NONE_U16, NONE_U16, NONE_U32, 0, NONE_U16)


def load_of(bits: int) -> str:
    """ "" where not said."""
    return LOADS[bits & LOAD_MASK]


def cover_of(bits: int) -> str:
    """ "" where not said."""
    number = (bits & COVER_MASK) >> 2
    return COVERS[number] if number < len(COVERS) else ""


def alarms_of(bits: int) -> str:
    """Names of the alarms that are set, separated by spaces."""
    return " ".join(sorted(name for name, bit in _ALARM.items() if bits & bit))
