"""Messages to sentences, for the simulator: what `write` makes, `parse` reads back to the same values.

A void message is written as receivers do, with empty fields. `decimals` of the minutes is 7 for exact 1e-7 degrees;
most receivers send 4 or 5.
"""

from __future__ import annotations

from typing import Final

from drivers.nmea import fields as f
from drivers.nmea.framing import encode
from drivers.nmea.messages import Gga, Gll, Gns, Gsa, Gst, Gsv, Message, Rmc, Unknown, Vtg, Zda

_HUNDRED: Final = (100, 1)
_THOUSAND: Final = (1000, 1)


def write(message: Message, decimals: int = 7) -> bytes:
    """The sentence with checksum and CR LF. ValueError for text that no sentence can carry."""
    kind = message.kind if isinstance(message, Unknown) else type(message).__name__.upper()
    return encode(message.talker + kind, _fields(message, decimals))


def _fields(message: Message, decimals: int) -> tuple[str, ...]:
    match message:
        case Rmc():
            return _rmc(message, decimals)
        case Gga():
            return _gga(message, decimals)
        case Gns():
            return _gns(message, decimals)
        case Gll():
            return _gll(message, decimals)
        case Gsa():
            return _gsa(message)
        case Gsv():
            return _gsv(message)
        case Vtg():
            return _vtg(message)
        case Zda():
            return _zda(message)
        case Gst():
            return _gst(message)
        case _:
            return message.fields


def _place(message: Rmc | Gga | Gns | Gll, decimals: int) -> tuple[str, str, str, str]:
    lat = f.write_coordinate(message.lat_e7, "NS", decimals)
    return (*lat, *f.write_coordinate(message.lon_e7, "EW", decimals))


def _hundredths(value: int | None) -> str:
    return f.write_scaled(value, _HUNDRED, 2)


def _metres(value: int | None) -> str:
    return f.write_scaled(value, _THOUSAND, 3)


def _hexadecimal(value: int | None) -> tuple[str, ...]:
    return () if value is None else (f"{value:X}",)


def _rmc(message: Rmc, decimals: int) -> tuple[str, ...]:
    return (
        f.write_time(message.time_ns),
        message.status or "",
        *_place(message, decimals),
        f.write_scaled(message.speed_mm_s, f.KNOT_MM_S, 3),
        _hundredths(message.course_cdeg),
        f.write_date(message.date),
        "",
        "",
        message.mode or "",
        *((message.nav_status,) if message.nav_status else ()),
    )


def _gga(message: Gga, decimals: int) -> tuple[str, ...]:
    return (
        f.write_time(message.time_ns),
        *_place(message, decimals),
        f.write_whole(message.quality),
        f.write_whole(message.satellites, 2),
        _hundredths(message.hdop_e2),
        _metres(message.alt_mm),
        "M",
        _metres(message.geoid_mm),
        "M",
        "",
        "",
    )


def _gns(message: Gns, decimals: int) -> tuple[str, ...]:
    return (
        f.write_time(message.time_ns),
        *_place(message, decimals),
        message.modes,
        f.write_whole(message.satellites, 2),
        _hundredths(message.hdop_e2),
        _metres(message.alt_mm),
        _metres(message.geoid_mm),
        "",
        "",
        *((message.nav_status,) if message.nav_status else ()),
    )


def _gll(message: Gll, decimals: int) -> tuple[str, ...]:
    return (*_place(message, decimals), f.write_time(message.time_ns), message.status or "", message.mode or "")


def _gsa(message: Gsa) -> tuple[str, ...]:
    numbers = [f.write_whole(number, 2) for number in message.satellites]
    return (
        message.selection or "",
        f.write_whole(message.dimension),
        *(numbers + [""] * 12)[:12],
        _hundredths(message.pdop_e2),
        _hundredths(message.hdop_e2),
        _hundredths(message.vdop_e2),
        *_hexadecimal(message.system),
    )


def _gsv(message: Gsv) -> tuple[str, ...]:
    satellites: list[str] = []
    for one in message.satellites:
        satellites += (f.write_whole(one.number, 2), f.write_whole(one.elevation_deg, 2))
        satellites += (f.write_whole(one.azimuth_deg, 3), f.write_whole(one.snr_db, 2))
    head = (str(message.total), str(message.number), f.write_whole(message.in_view, 2))
    return (*head, *satellites, *_hexadecimal(message.signal))


def _vtg(message: Vtg) -> tuple[str, ...]:
    knots = f.write_scaled(message.speed_mm_s, f.KNOT_MM_S, 3)
    metric = f.write_scaled(message.speed_mm_s, f.KMH_MM_S, 3)
    return (_hundredths(message.course_cdeg), "T", "", "M", knots, "N", metric, "K", message.mode or "")


def _zda(message: Zda) -> tuple[str, ...]:
    day = ("", "", "") if message.date is None else tuple(f"{message.date:%d,%m,%Y}".split(","))
    return (f.write_time(message.time_ns), *day, "00", "00")


def _gst(message: Gst) -> tuple[str, ...]:
    ellipse = (message.rms_mm, message.major_mm, message.minor_mm)
    return (
        f.write_time(message.time_ns),
        *map(_metres, ellipse),
        _hundredths(message.orientation_cdeg),
        *map(_metres, (message.lat_mm, message.lon_mm, message.alt_mm)),
    )
