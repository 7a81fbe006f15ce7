"""Location reports as the keys of a fix (gateway.core.fixes), by the standard and by the dialect of a terminal.

Two ways that say the same: `FixReader.of_location` from a `Location` of the codec, the reference, and `of_body` from
the bytes, which does without its objects and is five times as fast: nearly every frame of a fleet is a 0200. A
property test holds them together.

Beside the keys of `gateway.core.fixes` a fix has `item_<name>` for every other item that the standard can read, and
`item_<id>` with the bytes in hexadecimal for those that it cannot, as far as ITEM_BYTES_MAX goes; the frame has all.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from drivers.bits import named_bits, signed
from drivers.jt808.codec import Item, Location
from drivers.jt808.dialect import Dialect, Said
from drivers.jt808.location import COURSE_MAX, FIX_SIZE, LAT_MAX_E6, LON_MAX_E6
from drivers.jt808.names import ALARMS, LOAD_MASK, STATUS
from drivers.jt808.wire import ZONE
from firmware_profiles.datum import WGS_84
from firmware_profiles.tracker_model import TrackerProfile
from gateway.core.fixes import FUTURE_MAX_S, STALE_MAX_S, sigma_m

ITEM_BYTES_MAX: Final = 1023
"""Bytes of items that a fix repeats in hexadecimal: what one frame can hold."""
CACHED_MAX: Final = 4096
"""Distinct words of bits, days and dialect readings that are kept."""
_ZONE_S: Final = 8 * 3600
_DAY_S: Final = 86_400
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FIX: Final = struct.Struct(">IIIIHHH6s")
_BCD: Final = tuple((byte >> 4) * 10 + (byte & 15) if byte >> 4 < 10 and byte & 15 < 10 else 255 for byte in range(256))
_FIXED, _SOUTH, _WEST, _ENCRYPTED = 1 << 1, 1 << 2, 1 << 3, 1 << 5
_KEYS: Final = {0x01: ("mileage_hm", 4), 0x03: ("recorder_kmh_e1", 2), 0x31: ("satellites", 1)}
_NUMBERS: Final = {0x02: ("item_fuel", 2), 0x30: ("item_signal_strength", 1), **_KEYS}
"""Items that are one number, and which length they then have."""
_FLAGS: Final = {
    "not_fixed": "void",
    "encrypted": "encrypted",
    "out_of_range": "out-of-range",
    "zero": "null-island",
    "items": "items",
}
"""Problems that the codec names → flags of a fix."""

_alarm_texts: dict[int, str] = {}
_status_texts: dict[int, str] = {}
_days: dict[bytes, int | None] = {}


class FixReader:
    """Reads the locations of all terminals of one dialect."""

    def __init__(self, dialect: Dialect, profile: TrackerProfile) -> None:
        self.dialect: Final = dialect
        self._items = frozenset(one.id for one in profile.carrier if one.kind in ("item", "nested"))
        self._is_plain = dialect.datum == WGS_84 and dialect.zone == ZONE
        self._read: dict[bytes, dict[str, Any]] = {}

    def of_location(self, location: Location, now_utc_s: int, held: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The fix that a location of the codec is. `now_utc_s` is its arrival; `held` see `Dialect.read`."""
        problems = set(location.problems)
        fix: dict[str, Any] = {
            "acc": "acc_on" in location.status,
            "alarms": " ".join(sorted(location.alarms)),
            "status": " ".join(sorted(location.status)),
            "alt_m": location.altitude_m,
            "speed_kmh_e1": location.speed_raw,
        }
        utc_s = self.dialect.time_utc_s(location.time_bcd)
        if utc_s is not None:
            fix["time_utc_s"] = utc_s
        if location.is_position:
            fix |= self.dialect.place(location.lat_e7, location.lon_e7)
        if "course" not in problems:
            fix["course_deg"] = location.course_raw
        left = ITEM_BYTES_MAX
        for item in location.items:
            known = _KEYS.get(item.id)
            if known and len(item.raw) == known[1]:
                fix.setdefault(known[0], item.value)
            else:
                left = _add_item(fix, item, left)
        fix |= self.dialect.read(location, held)
        return finished(fix, {flag for problem, flag in _FLAGS.items() if problem in problems}, now_utc_s)

    def of_body(self, body: bytes, now_utc_s: int, held: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The same from the body of a 0200; None where it is too short for a fix."""
        if len(body) < FIX_SIZE:
            return None
        alarm_bits, status_bits, lat, lon, altitude, speed, course, time = _FIX.unpack_from(body)
        alarms, status = _alarm_texts.get(alarm_bits), _status_texts.get(status_bits)
        fix: dict[str, Any] = {
            "acc": bool(status_bits & 1),
            "alarms": _text(_alarm_texts, alarm_bits, ALARMS, 0) if alarms is None else alarms,
            "status": _text(_status_texts, status_bits, STATUS, LOAD_MASK) if status is None else status,
            "alt_m": signed(altitude, 16) if altitude >> 15 else altitude,
            "speed_kmh_e1": speed,
        }
        flags: set[str] = set()
        utc_s = utc_s_of(time) if self._is_plain else self.dialect.time_utc_s(time.hex())
        if utc_s is not None:
            fix["time_utc_s"] = utc_s
        if status_bits & (_FIXED | _ENCRYPTED) == _FIXED and lat <= LAT_MAX_E6 and lon <= LON_MAX_E6 and (lat or lon):
            fix["lat_e7"] = lat * -10 if status_bits & _SOUTH else lat * 10
            fix["lon_e7"] = lon * -10 if status_bits & _WEST else lon * 10
            if not self._is_plain:
                fix |= self.dialect.place(fix["lat_e7"], fix["lon_e7"])
        else:
            _flag_place(flags, status_bits, lat, lon)
        if course <= COURSE_MAX:
            fix["course_deg"] = course
        key = body[:8]
        if len(body) > FIX_SIZE:
            key += self._read_items(fix, flags, body)
        said = None if held else self._read.get(key)
        if said is None:
            said = self.dialect.read(Location.of_bytes(body), held)
            if not held:
                if len(self._read) >= CACHED_MAX:
                    self._read.clear()
                self._read[key] = said
        fix.update(said)
        return finished(fix, flags, now_utc_s)

    def of_said(self, said: Said, now_utc_s: int) -> dict[str, Any]:
        """The fix that a message of the maker's own is."""
        fix = dict(said.values)
        return finished(fix, set(fix.pop("flags", "").split()), now_utc_s)

    def _read_items(self, fix: dict[str, Any], flags: set[str], body: bytes) -> bytes:
        """The items as keys of the fix. Back come those that the dialect reads, as they are: what it says of a report
        depends on them and on the bits alone, so it need not read the same ones twice."""
        at, end, left = FIX_SIZE, len(body), ITEM_BYTES_MAX
        own = b""
        while at + 2 <= end:
            item_id = body[at]
            after = at + 2 + body[at + 1]
            if after > end:
                break
            number = _NUMBERS.get(item_id)
            if number and number[1] == after - at - 2:
                if number[0] not in fix:
                    fix[number[0]] = int.from_bytes(body[at + 2 : after], "big")
            else:
                left = _add_item(fix, Item(item_id, body[at + 2 : after]), left)
            if item_id in self._items:
                own += body[at:after]
            at = after
        if at < end:
            flags.add("items")
        return own


def finished(fix: dict[str, Any], flags: set[str], now_utc_s: int) -> dict[str, Any]:
    """The fix with what follows from its time, its satellites and its flags."""
    utc_s = fix.get("time_utc_s")
    if utc_s is None:
        flags.add("no-time")
    elif utc_s > now_utc_s + FUTURE_MAX_S:
        flags.add("future")
    elif utc_s < now_utc_s - STALE_MAX_S:
        flags.add("stale")
    satellites = fix.get("satellites")
    if satellites is not None:
        sigma = sigma_m(satellites)
        if sigma is None:
            flags.add("poor")
        else:
            fix["sigma_m"] = sigma
    if not fix.pop("fixed", True):
        flags.add("void")
        for key in ("lat_e7", "lon_e7", "raw_lat_e7", "raw_lon_e7"):
            fix.pop(key, None)
    if flags:
        fix["flags"] = " ".join(sorted(flags))
    return fix


def _add_item(fix: dict[str, Any], item: Item, left: int) -> int:
    """An item that is not of a fix: read, or as bytes while so many are left."""
    value = item.value
    if value is None:
        left -= len(item.raw)
        if left >= 0:
            fix.setdefault(f"item_{item.id:02x}", item.raw.hex())
    else:
        fix.setdefault("item_" + item.name, _plain(value))
    return left


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return " ".join(str(one) for one in value)
    return dict(value) if isinstance(value, Mapping) else value


def _flag_place(flags: set[str], status_bits: int, lat: int, lon: int) -> None:
    if not status_bits & _FIXED:
        flags.add("void")
    if status_bits & _ENCRYPTED:
        flags.add("encrypted")
    if lat > LAT_MAX_E6 or lon > LON_MAX_E6:
        flags.add("out-of-range")
    elif not lat and not lon:
        flags.add("null-island")


def _text(cache: dict[int, str], bits: int, names: Mapping[int, str], mask: int) -> str:
    if len(cache) >= CACHED_MAX:
        cache.clear()
    text = cache[bits] = " ".join(sorted(named_bits(bits & ~mask, names)))
    return text


def utc_s_of(time: bytes) -> int | None:
    """Seconds since 1970 of BCD[6] YYMMDDhhmmss in GMT+8; None where it is no time."""
    day = time[:3]
    try:
        midnight = _days[day]
    except KeyError:
        midnight = _midnight(day)
    hour, minute, second = _BCD[time[3]], _BCD[time[4]], _BCD[time[5]]
    if midnight is None or hour > 23 or minute > 59 or second > 59:
        return None
    return midnight + hour * 3600 + minute * 60 + second


def _midnight(day: bytes) -> int | None:
    if len(_days) >= CACHED_MAX:
        _days.clear()
    year, month, number = _BCD[day[0]], _BCD[day[1]], _BCD[day[2]]
    try:
        found = None if year > 99 else (date(2000 + year, month, number).toordinal() - _EPOCH_DAY) * _DAY_S - _ZONE_S
    except ValueError:
        found = None
    _days[day] = found
    return found
