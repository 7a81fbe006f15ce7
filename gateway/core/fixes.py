"""Fixes of trackers as the records hold them: one flat shape, whatever protocol they came by.

A `position` record of a tracker holds one fix as flat keys of `data`, or several as a list under `fixes` (a batch).
Beside them stand `class` (device class), `plate` ("" where unknown), `datum` ("WGS-84", always), and, where the input
had another
one, `datum_input`; and `backfill` true where the device sent what it had stored. Keys of a fix; absent means "not
said":

    time_utc_s                      the device's own time; absent where it is no time (device_time keeps the text)
    lat_e7, lon_e7                  WGS-84; absent where there is no position: a void fix is no fix
    raw_lat_e7, raw_lon_e7          as sent, where the datum was converted
    alt_m, course_deg               whole metres above the sea, degrees clockwise from north
    speed_kmh_e1, recorder_kmh_e1   0.1 km/h: of the satellites, and of the vehicle's own recorder
    mileage_hm                      odometer in 0.1 km
    satellites, hdop_e2, sigma_m    quality; sigma_m is the one-sigma horizontal error by the rule of `sigma_m`
    acc                             ignition, true or false
    load                            empty | half | full
    cover                           closed | open | opening | closing | fault
    lift                            flat | lifted | fault
    locked, speed_limited, lift_limited, overload      true or false
    held                            which of these keys an earlier message said, not this one (tracker profile, hold_s)
    plate_said, driver_said, permit_said    what the terminal claims; never an identity
    sensor_faults, alarms, status   names in alphabetical order, separated by spaces
    flags                           what speaks against the fix, likewise; see FLAGS
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

FLAGS: Final = frozenset(
    {
        "void",  # the device says itself that it has no fix
        "encrypted",  # coordinates of the secrecy plug-in
        "out-of-range",  # no place on earth
        "null-island",  # 0, 0
        "no-time",  # the time is no time
        "week-rollover",  # the receiver's date is 1024 weeks off; with no-time
        "future",  # device time more than 120 s after arrival
        "stale",  # device time more than 30 days before arrival
        "poor",  # fewer than 4 satellites, or a fix that no satellites measured
        "items",  # the tail of additional items is malformed
    }
)
UNUSABLE: Final = frozenset({"void", "encrypted", "out-of-range", "null-island", "no-time", "future", "stale", "poor"})
"""Flags of fixes that are kept, shown, and never judged as a place and time."""
FUTURE_MAX_S: Final = 120
STALE_MAX_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Fix:
    """One fix as the rules see it. `state` holds the keys of the vehicle (load, cover, lift, acc, alarms, …)."""

    seq: int
    """Record that holds it."""
    index: int
    """Place in the record's list; 0 for a record of one fix."""
    arrival_utc_ns: int
    time_utc_s: int | None
    lat_e7: int | None
    lon_e7: int | None
    speed_kmh_e1: int | None
    recorder_kmh_e1: int | None
    course_deg: int | None
    mileage_hm: int | None
    sigma_m: int
    backfill: bool
    flags: str
    state: Mapping[str, Any]

    @property
    def usable(self) -> bool:
        """Whether it may be judged as a place at a time."""
        return self.lat_e7 is not None and self.time_utc_s is not None and UNUSABLE.isdisjoint(self.flags.split())


SIGMA_UNKNOWN_M: Final = 10


def sigma_m(satellites: int | None = None, hdop_e2: int | None = None, gst_mm: int | None = None) -> int | None:
    """One-sigma horizontal error in metres: GST where it is given; else max(3, HDOP x 5 m); else by satellites: 8 and
    more 5 m, 6 and 7 10 m, 4 and 5 20 m, fewer None (unusable). SIGMA_UNKNOWN_M where nothing is said."""
    if gst_mm is not None:
        return max(1, -(-gst_mm // 1000))
    if hdop_e2 is not None:
        return max(3, -(-hdop_e2 * 5 // 100))
    if satellites is None:
        return SIGMA_UNKNOWN_M
    return 5 if satellites >= 8 else 10 if satellites >= 6 else 20 if satellites >= 4 else None


_OWN: Final = frozenset(
    {
        "time_utc_s",
        "lat_e7",
        "lon_e7",
        "speed_kmh_e1",
        "recorder_kmh_e1",
        "course_deg",
        "mileage_hm",
        "sigma_m",
        "flags",
    }
)


def fixes_of(seq: int, arrival_utc_ns: int, data: Mapping[str, Any]) -> Iterator[Fix]:
    """The fixes of a tracker's `position` record, in the order sent; nothing for the track of a file."""
    if "columns" in data:
        return
    backfill = bool(data.get("backfill"))
    for index, fix in enumerate(data.get("fixes", (data,))):
        get = fix.get
        yield Fix(
            seq, index, arrival_utc_ns, get("time_utc_s"), get("lat_e7"), get("lon_e7"), get("speed_kmh_e1"),
            get("recorder_kmh_e1"), get("course_deg"), get("mileage_hm"), get("sigma_m", SIGMA_UNKNOWN_M), backfill,
            get("flags", ""), fix,
        )  # fmt: skip
