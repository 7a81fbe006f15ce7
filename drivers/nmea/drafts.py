"""The records of an NMEA receiver: what each kind's `data` holds. Pure functions over values.

position      one fix in the shape of gateway.core.fixes, with `class`, `plate` and `datum`. Beside its keys:
                  method     how the place was found: autonomous, differential, rtk-fixed, estimated, simulator, …
                  status     remarks of the reader: conflict, date-carried, date-conflict, repeated-time,
                             time-backwards, leap-second, truncated (drivers.nmea.epochs)
              raw = the sentences of the epoch, each with CR LF. A void epoch has no position record.
device.state  state, class, reason and
                  online, offline    address
                  fix, no-fix        in_view (satellites in view), snr_max_db: of the last GSV, absent where not said
                  antenna            antenna: ok | open | short | …, before; raw = the sentence that says so
                  disabled           address: the profile is unusable
device.gap    reason (that of most of the items), count, reasons (count by reason), size_bytes, first_reason, detail;
              raw = the first bytes. Beside what could not be read:
                  flood              fixes above the limit that were not stored
                  overflow           size_bytes that came while the store was full and were dropped
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, Final

from drivers.nmea.epochs import Fix
from drivers.nmea.fields import SECOND_NS, divide
from firmware_profiles import datum
from gateway.core import fixes, kinds
from gateway.core.record import DeviceTime, Draft, ProfileRef

TEXT_MAX: Final = 255
RAW_MAX_BYTES: Final = 256
"""Of what could not be read."""
SATELLITES_MIN: Final = 4
UTC: Final = "+00:00"
_ANTENNA: Final = re.compile(r"ANT(?:ENNA|STATUS)?[ _=:]{1,3}([A-Z]{2,12})")
_OWN_FLAGS: Final = frozenset({"null-island", "week-rollover"})


@dataclass(frozen=True, slots=True)
class Author:
    """What all records of one receiver share."""

    source: str
    device: str
    device_class: str
    datum: str = datum.WGS_84
    """Of the coordinates as sent: WGS-84 or GCJ-02."""
    profile: ProfileRef | None = None

    def draft(self, kind: str, values: Mapping[str, Any], **more: Any) -> Draft:
        return Draft(
            kind, self.source, self.device, {"class": self.device_class, **values}, profile=self.profile, **more
        )


def fix_keys(fix: Fix, datum_input: str, arrival_utc_ns: int | None) -> dict[str, Any]:
    """The keys of gateway.core.fixes for a fix. `arrival_utc_ns` None: its age is not judged."""
    keys: dict[str, Any] = {}
    flags = set(_OWN_FLAGS.intersection(fix.flags))
    time_utc_s = None if fix.utc_ns is None or "week-rollover" in fix.flags else fix.utc_ns // SECOND_NS
    if time_utc_s is None:
        flags.add("no-time")
    else:
        keys["time_utc_s"] = time_utc_s
        if arrival_utc_ns is not None:
            flags |= _age(time_utc_s, arrival_utc_ns // SECOND_NS)
    if fix.lat_e7 is None or fix.lon_e7 is None:
        flags.add("void")
    else:
        keys |= datum.place(datum_input, fix.lat_e7, fix.lon_e7)
        keys |= _movement(fix)
        keys |= _quality(fix, flags)
    remarks = sorted(set(fix.flags) - _OWN_FLAGS)
    if remarks:
        keys["status"] = " ".join(remarks)
    if flags:
        keys["flags"] = " ".join(sorted(flags))
    return keys


def _age(time_utc_s: int, arrival_utc_s: int) -> set[str]:
    if time_utc_s - arrival_utc_s > fixes.FUTURE_MAX_S:
        return {"future"}
    return {"stale"} if arrival_utc_s - time_utc_s > fixes.STALE_MAX_S else set()


def _movement(fix: Fix) -> dict[str, int]:
    keys: dict[str, int] = {}
    if fix.alt_mm is not None:
        keys["alt_m"] = divide(fix.alt_mm, 1000)
    if fix.speed_mm_s is not None:
        keys["speed_kmh_e1"] = divide(fix.speed_mm_s * 36, 1000)
    if fix.course_cdeg is not None:
        keys["course_deg"] = divide(fix.course_cdeg, 100) % 360
    return keys


def _quality(fix: Fix, flags: set[str]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if fix.satellites is not None:
        keys["satellites"] = fix.satellites
    if fix.hdop_e2 is not None:
        keys["hdop_e2"] = fix.hdop_e2
    sigma_m = fixes.sigma_m(fix.satellites, fix.hdop_e2, _horizontal_mm(fix))
    if sigma_m is not None:
        keys["sigma_m"] = sigma_m
    if fix.method is not None:
        keys["method"] = fix.method
    few = fix.satellites is not None and fix.satellites < SATELLITES_MIN
    if few or not fix.usable or "conflict" in fix.flags:
        flags.add("poor")
    return keys


def _horizontal_mm(fix: Fix) -> int | None:
    """Of GST: both axes together, rounded up."""
    if fix.sigma_lat_mm is None or fix.sigma_lon_mm is None:
        return None
    square = fix.sigma_lat_mm**2 + fix.sigma_lon_mm**2
    return isqrt(square - 1) + 1 if square else 0


def position_draft(author: Author, fix: Fix, arrival_utc_ns: int) -> Draft:
    """position"""
    values = {"plate": "", **datum.datum_keys(author.datum), **fix_keys(fix, author.datum, arrival_utc_ns)}
    return author.draft(kinds.POSITION, values, raw=raw_of(fix), device_time=device_time_of(fix))


def raw_of(fix: Fix) -> bytes:
    """The sentences of the epoch as they came."""
    return b"".join(sentence + b"\r\n" for sentence in fix.raw)


def device_time_of(fix: Fix) -> DeviceTime:
    """Date and time as the sentences write them: `ddmmyy hhmmss.ss` (RMC), `dd.mm.yyyy hhmmss.ss` (ZDA), or the time
    alone."""
    said: dict[str, str] = {}
    for sentence in fix.raw:
        address, *texts = sentence.partition(b"*")[0].decode("ascii", "replace").split(",")
        kind = address[-3:]
        if kind == "RMC" and len(texts) > 8:
            said.setdefault("RMC", f"{texts[8]} {texts[0]}".strip())
        elif kind == "ZDA" and len(texts) > 3:
            said.setdefault("ZDA", f"{'.'.join(texts[1:4])} {texts[0]}".strip())
        elif kind == "GLL" and len(texts) > 4:
            said.setdefault("time", texts[4])
        elif kind in {"GGA", "GNS", "GST"}:
            said.setdefault("time", texts[0])
    text = next((said[kind] for kind in ("RMC", "ZDA", "time") if kind in said), "")
    return DeviceTime(text[:TEXT_MAX], UTC, "frame")


def state_draft(author: Author, state: str, reason: str, values: Mapping[str, Any], raw: bytes | None = None) -> Draft:
    """device.state"""
    return author.draft(kinds.DEVICE_STATE, {"state": state, "reason": reason[:TEXT_MAX], **values}, raw=raw)


def gap_draft(author: Author, reason: str, count: int, values: Mapping[str, Any], raw: bytes | None = None) -> Draft:
    """device.gap"""
    first = None if raw is None else raw[:RAW_MAX_BYTES]
    return author.draft(kinds.DEVICE_GAP, {"reason": reason, "count": count, **values}, raw=first)


def antenna_of(text: str) -> str | None:
    """What a TXT sentence says of the antenna: `ANTSTATUS=OPEN` of u-blox, `ANTENNA OPEN` of receivers of CASIC; in
    lower case. None: nothing, or that the receiver does not know (yet)."""
    found = _ANTENNA.search(text.upper())
    if found is None or found[1] in {"INIT", "DONTKNOW", "UNKNOWN"}:
        return None
    return found[1].lower()
