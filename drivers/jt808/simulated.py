"""What a simulated terminal says about its vehicle: measurements as locations, its names, its photo. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drivers.fleet.vehicles import Measurement, Vehicle, bits_of
from drivers.jt808.codec import (
    Attributes,
    Authentication,
    Item,
    Location,
    Media,
    MediaEvent,
    Parameter,
    Registration,
    Text,
    Version,
)
from drivers.jt808.picture import jpeg

MAKER: Final = "FGSIM"
HEARTBEAT_S: Final = 0x0001
REPLY_TIMEOUT_S: Final = 0x0002
RETRIES: Final = 0x0003
INTERVAL_S: Final = 0x0029

_GMT8_S: Final = 8 * 3600
_ACC: Final = 1 << 0
_FIXED: Final = 1 << 1
_SOUTH: Final = 1 << 2
_WEST: Final = 1 << 3
_LOADS: Final = {"empty": 0, "half": 1 << 8, "full": 3 << 8}
_GPS: Final = 1 << 18
_BEIDOU: Final = 1 << 19
_MOVING: Final = 1 << 22
_GNSS_FAULT: Final = 1 << 4
_ANTENNA_CUT: Final = 1 << 5
_POWER_LOST: Final = 1 << 8
_COVER_OPEN: Final = 1 << 9
_LIFTED: Final = 1 << 10
_SENSORS_BROKEN: Final = 1 << 25 | 1 << 29 | 1 << 30
"""Of the load, the cover and the lift."""


def bcd_time(utc_s: int) -> str:
    """YYMMDDhhmmss in GMT+8."""
    days, rest = divmod(utc_s + _GMT8_S, 86_400)
    # Days to a date without a clock or a time zone of this machine (the proleptic Gregorian calendar, in eras)
    days += 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    return f"{year % 100:02}{month:02}{day:02}{rest // 3600:02}{rest // 60 % 60:02}{rest % 60:02}"


@dataclass(frozen=True, slots=True)
class Model:
    """A make of terminal: its name, and how it says what the standard has no place for."""

    name: str
    dialect: bool
    """Whether it has sensors of cover and lift and sends them in the item of the EGS701 firmware."""


EGS701: Final = Model("EGS701-MUCK", dialect=True)
PLAIN: Final = Model("PLAIN-808", dialect=False)


def location_of(seen: Measurement, model: Model, version: Version) -> Location:
    """A report of one measurement."""
    status = (0 if seen.sensors_lost else _LOADS[seen.state.load]) | (_ACC if seen.state.acc else 0)
    status |= (_FIXED | _GPS | _BEIDOU) if seen.fixed else 0
    status |= (_SOUTH if seen.lat_e7 < 0 else 0) | (_WEST if seen.lon_e7 < 0 else 0)
    if version is Version.V2019 and seen.recorder_kmh_e1 > 10:
        status |= _MOVING
    alarms = _ANTENNA_CUT if seen.antenna_cut else 0 if seen.fixed else _GNSS_FAULT
    alarms |= _POWER_LOST if seen.power_lost else 0
    items = [
        Item.of(0x01, seen.mileage_hm, 4),
        Item.of(0x03, seen.recorder_kmh_e1, 2),
        Item.of(0x30, 21 + seen.time_utc_s % 7, 1),
        Item.of(0x31, seen.satellites, 1),
    ]
    if model.dialect:
        items += body_items(seen)
    return Location(
        alarm_bits=alarms,
        status_bits=status,
        lat_raw=_e6(seen.lat_e7),
        lon_raw=_e6(seen.lon_e7),
        altitude_raw=seen.alt_m & 0xFFFF,
        speed_raw=seen.speed_kmh_e1,
        course_raw=seen.course_deg,
        time_bcd=bcd_time(seen.time_utc_s),
        items=tuple(items),
    )


def _e6(value_e7: int) -> int:
    return (abs(value_e7) + 5) // 10


def body_items(seen: Measurement) -> list[Item]:
    """Cover and lift as the EGS701 firmware sends them: item F0, in it element E1 (a DWORD), and the sum of all."""
    bits = (_COVER_OPEN if seen.state.cover == "open" else 0) | (_LIFTED if seen.state.lift == "lifted" else 0)
    if seen.sensors_lost:
        bits = _SENSORS_BROKEN
    element = b"\xe1\x04" + bits.to_bytes(4, "big")
    return [Item(0xF0, element + bytes([sum(element) & 0xFF]))]


def registration_of(vehicle: Vehicle, model: Model, version: Version) -> Registration:
    """0100."""
    return Registration(
        province=33,
        city=482,
        maker=Text.of(MAKER),
        model=Text.of(model.name if version is not Version.V2011 else model.name[:8]),
        terminal_id=Text.of(vehicle.identity[-7:]),
        plate_colour=2,
        plate=Text.of(vehicle.plate),
        layout=version,
    )


def authentication_of(code: Text, vehicle: Vehicle, version: Version) -> Authentication:
    """0102."""
    if version is not Version.V2019:
        return Authentication(code)
    return Authentication(code, imei=Text.of(vehicle.identity.zfill(15)[-15:]), software=Text.of("sim-1.0"))


def attributes_of(vehicle: Vehicle, model: Model) -> Attributes:
    """0107."""
    return Attributes(
        kind_bits=0b0000_0110,
        maker=Text.of(MAKER),
        model=Text.of(model.name),
        terminal_id=Text.of(vehicle.identity[-7:]),
        iccid=vehicle.identity.zfill(20)[-20:],
        hardware=Text.of("hw-1"),
        firmware=Text.of("sim-1.0"),
        gnss_bits=0b11,
        communication_bits=0b1,
    )


def parameters_of(vehicle: Vehicle, heartbeat_s: int, reply_timeout_s: int, retries: int) -> dict[int, bytes]:
    """The parameters that a new terminal has."""
    values: dict[int, int | str] = {
        HEARTBEAT_S: heartbeat_s,
        REPLY_TIMEOUT_S: reply_timeout_s,
        RETRIES: retries,
        0x0013: "127.0.0.1",
        0x0018: 6808,
        0x0020: 0,
        INTERVAL_S: vehicle.interval_s,
        0x0055: 60,
        0x0056: 10,
        0x005A: 1800,
        0x0080: vehicle.odometer_hm,
        0x0081: 33,
        0x0082: 482,
        0x0083: vehicle.plate,
        0x0084: 2,
    }
    return {one: Parameter.of(one, value).raw for one, value in values.items()}


def photo_of(media_id: int, channel: int, event: int, location: Location, seed: int) -> Media:
    """0801: a yard under a grey sky, another grain in every photo."""

    def shade(column: int, row: int) -> int:
        grain = bits_of(seed, media_id, row * 80 + column) & 15
        if row < 24:
            return 220 - 3 * row + grain // 4
        return 150 - (row - 24) + grain if 20 < column < 60 and row < 44 else 70 + row + grain

    return Media(MediaEvent(media_id, 0, 0, event, channel), location, jpeg(shade))
