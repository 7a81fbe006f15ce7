"""The nine sentences of positions and time: `parse` reads one. Never a guess, never an exception.

A field that decides on place or time and cannot be what its place says makes the whole sentence Malformed: a
checksum of eight bits lets one damaged sentence in 256 through. Fields of lesser weight become None, named in `odd`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from drivers.nmea import fields as f
from drivers.nmea.framing import Malformed, Sentence
from drivers.nmea.messages import Gga, Gll, Gns, Gsa, Gst, Gsv, Message, Rmc, Satellite, Unknown, Vtg, Zda

MODES: Final = "ADEFMNPRS"
_NAV: Final = "SCUV"
_HUNDRED: Final = (100, 1)
_THOUSAND: Final = (1000, 1)
SPEED_MAX_MM_S: Final = 1_000_000
ALT_MIN_MM: Final = -10_000_000
ALT_MAX_MM: Final = 100_000_000
GEOID_MAX_MM: Final = 200_000
DOP_MAX_E2: Final = 1_000_000
SIGMA_MAX_MM: Final = 100_000_000_000


class _Reader:
    """The fields of one sentence by number, from 1 as in the standard's tables; one that is not there is empty."""

    def __init__(self, sentence: Sentence) -> None:
        self.talker = sentence.talker
        self.texts = sentence.fields
        self._odd: list[str] = []

    def text(self, number: int) -> str:
        return self.texts[number - 1] if number <= len(self.texts) else ""

    def lesser_letter(self, name: str, number: int, letters: str) -> str | None:
        try:
            return f.letter(self.text(number), letters)
        except f.FieldError:
            self._odd.append(name)
            return None

    def lesser_number(self, name: str, text: str, scale: tuple[int, int], low: int, high: int) -> int | None:
        try:
            return f.scaled(text, scale, low, high)
        except f.FieldError:
            self._odd.append(name)
            return None

    def hexadecimal(self, name: str, number: int) -> int | None:
        """System and signal ids of NMEA 4.1: one digit. Before that some receivers put other things there."""
        text = self.text(number)
        if not text:
            return None
        if len(text) == 1 and text in "0123456789ABCDEFabcdef":
            return int(text, 16)
        self._odd.append(name)
        return None

    def odd(self, longest: int) -> tuple[str, ...]:
        """Closes the list; says so where there are more fields than the sentence has."""
        extra = ("extra",) if len(self.texts) > longest else ()
        return (*self._odd, *extra)

    def dop(self, number: int) -> int | None:
        return f.scaled(self.text(number), _HUNDRED, 0, DOP_MAX_E2)

    def place(self, number: int) -> tuple[int, int] | None:
        lat = f.latitude_e7(self.text(number), self.text(number + 1))
        lon = f.longitude_e7(self.text(number + 2), self.text(number + 3))
        return None if lat is None or lon is None else (lat, lon)

    def metres(self, number: int, unit: int) -> int | None:
        if self.text(unit) not in ("", "M"):
            raise f.FieldError(f"unit {self.text(unit)[:8]!r}, not M")
        return f.scaled(self.text(number), _THOUSAND, ALT_MIN_MM, ALT_MAX_MM)

    def course(self, number: int) -> int | None:
        value = f.scaled(self.text(number), _HUNDRED, 0, 36_000)
        return None if value is None else value % 36_000


def parse(sentence: Sentence) -> Message | Malformed:
    """What a sentence says. Malformed: `fields` (too few) or `field` (one is not what it should be)."""
    known = None if sentence.talker == "P" or sentence.raw[:1] == b"!" else _KINDS.get(sentence.kind)
    if known is None:
        return Unknown(talker=sentence.talker, kind=sentence.kind, fields=sentence.fields)
    least, read = known
    if len(sentence.fields) < least:
        return Malformed("fields", f"{sentence.kind}: {len(sentence.fields)} fields, not {least}", sentence.raw)
    try:
        return read(_Reader(sentence))
    except f.FieldError as error:
        return Malformed("field", f"{sentence.kind}: {error}", sentence.raw)


def _rmc(reader: _Reader) -> Rmc:
    status = f.letter(reader.text(2), "AV")
    mode = f.letter(reader.text(12), MODES)
    time, date = f.time_ns(reader.text(1)), f.date_of(reader.text(9))
    nav = reader.lesser_letter("nav_status", 13, _NAV)
    place = reader.place(3) if status == "A" and mode != "N" else None
    if place is None:
        return Rmc(
            talker=reader.talker, time_ns=time, date=date, status=status, mode=mode, nav_status=nav, odd=reader.odd(13)
        )
    return Rmc(
        talker=reader.talker,
        time_ns=time,
        date=date,
        valid=True,
        status=status,
        lat_e7=place[0],
        lon_e7=place[1],
        speed_mm_s=f.scaled(reader.text(7), f.KNOT_MM_S, 0, SPEED_MAX_MM_S),
        course_cdeg=reader.course(8),
        mode=mode,
        nav_status=nav,
        odd=reader.odd(13),
    )


def _gga(reader: _Reader) -> Gga:
    time = f.time_ns(reader.text(1))
    quality = f.whole(reader.text(6), 0, 9)
    satellites, hdop = f.whole(reader.text(7), 0, 999), reader.dop(8)
    place = reader.place(2) if quality else None
    if place is None:
        return Gga(
            talker=reader.talker,
            time_ns=time,
            quality=quality,
            satellites=satellites,
            hdop_e2=hdop,
            odd=reader.odd(14),
        )
    return Gga(
        talker=reader.talker,
        time_ns=time,
        valid=True,
        quality=quality,
        lat_e7=place[0],
        lon_e7=place[1],
        satellites=satellites,
        hdop_e2=hdop,
        alt_mm=reader.metres(9, 10),
        geoid_mm=reader.lesser_number("geoid", reader.text(11), _THOUSAND, -GEOID_MAX_MM, GEOID_MAX_MM),
        odd=reader.odd(14),
    )


def _gns(reader: _Reader) -> Gns:
    time = f.time_ns(reader.text(1))
    modes = reader.text(6)
    if len(modes) > 8 or set(modes) - set(MODES):
        raise f.FieldError(f"modes {modes[:16]!r}")
    satellites, hdop = f.whole(reader.text(7), 0, 999), reader.dop(8)
    nav = reader.lesser_letter("nav_status", 13, _NAV)
    place = reader.place(2) if set(modes) - {"N"} else None
    if place is None:
        return Gns(
            talker=reader.talker,
            time_ns=time,
            modes=modes,
            satellites=satellites,
            hdop_e2=hdop,
            nav_status=nav,
            odd=reader.odd(13),
        )
    return Gns(
        talker=reader.talker,
        time_ns=time,
        valid=True,
        modes=modes,
        lat_e7=place[0],
        lon_e7=place[1],
        satellites=satellites,
        hdop_e2=hdop,
        alt_mm=f.scaled(reader.text(9), _THOUSAND, ALT_MIN_MM, ALT_MAX_MM),
        geoid_mm=reader.lesser_number("geoid", reader.text(10), _THOUSAND, -GEOID_MAX_MM, GEOID_MAX_MM),
        nav_status=nav,
        odd=reader.odd(13),
    )


def _gll(reader: _Reader) -> Gll:
    time = f.time_ns(reader.text(5))
    status, mode = f.letter(reader.text(6), "AV"), f.letter(reader.text(7), MODES)
    place = reader.place(1) if status == "A" and mode != "N" else None
    lat, lon = place or (None, None)
    return Gll(
        talker=reader.talker,
        time_ns=time,
        valid=place is not None,
        status=status,
        lat_e7=lat,
        lon_e7=lon,
        mode=mode,
        odd=reader.odd(7),
    )


def _gsa(reader: _Reader) -> Gsa:
    numbers = (f.whole(text, 0, 9999) for text in reader.texts[2:14])
    return Gsa(
        talker=reader.talker,
        selection=f.letter(reader.text(1), "MA"),
        dimension=f.whole(reader.text(2), 1, 3),
        satellites=tuple(number for number in numbers if number),
        pdop_e2=reader.dop(15),
        hdop_e2=reader.dop(16),
        vdop_e2=reader.dop(17),
        system=reader.hexadecimal("system", 18),
        odd=reader.odd(18),
    )


def _gsv(reader: _Reader) -> Gsv:
    total, number = f.whole(reader.text(1), 1, 99), f.whole(reader.text(2), 1, 99)
    if total is None or number is None or number > total:
        raise f.FieldError("the part and the number of parts")
    rest = reader.texts[3:]
    left = len(rest) % 4
    if left == 2:
        raise f.FieldError(f"{len(rest)} fields of satellites")
    satellites = []
    # Old receivers leave the signal strength of the last satellite out with its comma: three fields are left.
    for at in range(0, len(rest) - (left == 1), 4):
        satellite = f.whole(rest[at], 0, 9999)
        others = (*rest[at + 1 : at + 4], "")
        read = (f.whole(others[0], -90, 90), f.whole(others[1], 0, 360), f.whole(others[2], 0, 99))
        if satellite:
            satellites.append(Satellite(satellite, *read))
    return Gsv(
        talker=reader.talker,
        total=total,
        number=number,
        in_view=f.whole(reader.text(3), 0, 999),
        satellites=tuple(satellites),
        signal=reader.hexadecimal("signal", len(reader.texts)) if left == 1 else None,
        odd=reader.odd(20),
    )


def _vtg(reader: _Reader) -> Vtg:
    if reader.text(2) not in ("", "T") or reader.text(6) not in ("", "N") or reader.text(8) not in ("", "K"):
        raise f.FieldError("units are not T, N and K")
    mode = f.letter(reader.text(9), MODES)
    if mode == "N":
        return Vtg(talker=reader.talker, mode=mode, odd=reader.odd(9))
    speed = f.scaled(reader.text(5), f.KNOT_MM_S, 0, SPEED_MAX_MM_S)
    metric = f.scaled(reader.text(7), f.KMH_MM_S, 0, SPEED_MAX_MM_S)
    if speed is None:
        speed = metric
    return Vtg(
        talker=reader.talker,
        valid=speed is not None,
        course_cdeg=reader.course(1),
        speed_mm_s=speed,
        mode=mode,
        odd=reader.odd(9),
    )


def _zda(reader: _Reader) -> Zda:
    day, month, year = (
        f.whole(reader.text(2), 1, 31),
        f.whole(reader.text(3), 1, 12),
        f.whole(reader.text(4), 1980, 9999),
    )
    given = None if day is None or month is None or year is None else f.calendar_date(year, month, day)
    return Zda(
        talker=reader.talker,
        time_ns=f.time_ns(reader.text(1)),
        date=given,
        odd=reader.odd(6),
    )


def _gst(reader: _Reader) -> Gst:
    sigma = [f.scaled(reader.text(number), _THOUSAND, 0, SIGMA_MAX_MM) for number in (2, 3, 4, 6, 7, 8)]
    return Gst(
        talker=reader.talker,
        time_ns=f.time_ns(reader.text(1)),
        rms_mm=sigma[0],
        major_mm=sigma[1],
        minor_mm=sigma[2],
        orientation_cdeg=f.scaled(reader.text(5), _HUNDRED, -36_000, 36_000),
        lat_mm=sigma[3],
        lon_mm=sigma[4],
        alt_mm=sigma[5],
        odd=reader.odd(8),
    )


_KINDS: Final[dict[str, tuple[int, Callable[[_Reader], Message]]]] = {
    "RMC": (11, _rmc),
    "GGA": (14, _gga),
    "GNS": (12, _gns),
    "GLL": (6, _gll),
    "GSA": (17, _gsa),
    "GSV": (3, _gsv),
    "VTG": (8, _vtg),
    "ZDA": (6, _zda),
    "GST": (8, _gst),
}
"""Fewest fields and reader of each; RMC of NMEA 2.0 has no mode, GSA before 4.1 no system."""
