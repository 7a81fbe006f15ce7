"""Track files (GPX, SRT, NMEA, CSV) to positions in integers: 1e-7 degrees WGS-84, centimetres, millimetres per second.

A line, cue or point that cannot be read is counted, never guessed: a void fix, a bad checksum, a latitude of 91.
Coordinates in GCJ-02 are converted (firmware_profiles.datum) and the values of the file are kept beside.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from drivers.bodycam.codec import Malformed, decode
from drivers.bodycam.sidecars import refuse, run_expat, xml_bytes
from drivers.times import ReadTime, read_time
from firmware_profiles.datum import wgs_e7_from_gcj_e7
from firmware_profiles.model import Track

TRACK_MAX_BYTES: Final = 16_777_216
POINTS_MAX: Final = 200_000
LINE_MAX: Final = 4096
_MM_S: Final = {"m/s": Decimal(1000), "km/h": Decimal(1000) / Decimal("3.6"), "kn": Decimal(1_852_000) / 3600}
_NUMBER = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{0,20})?")


@dataclass(frozen=True, slots=True)
class Position:
    """One fix. `lat_e7`, `lon_e7` are WGS-84; `raw_*` is what the file says, the same unless it is GCJ-02."""

    time: ReadTime | None
    time_text: str
    lat_e7: int
    lon_e7: int
    raw_lat_e7: int
    raw_lon_e7: int
    alt_cm: int | None
    speed_mm_s: int | None


@dataclass(frozen=True, slots=True)
class TrackContent:
    """All fixes of a file in its order."""

    datum: str
    """Datum of the file, as the profile declares it."""
    points: tuple[Position, ...]
    malformed: int
    """Points, lines or cues that could not be read."""
    void: int
    """Fixes that the receiver itself marked as not valid."""
    truncated: bool
    """There were more than POINTS_MAX."""


class _Builder:
    def __init__(self, rule: Track) -> None:
        self.rule = rule
        self.points: list[Position] = []
        self.malformed = self.void = 0
        self.truncated = False

    def add(self, lat: int | None, lon: int | None, time: ReadTime | None, text: str, **more: int | None) -> None:
        if lat is None or lon is None or abs(lat) > 900_000_000 or abs(lon) > 1_800_000_000:
            self.malformed += 1
        elif lat == 0 == lon:
            self.void += 1
        elif len(self.points) >= POINTS_MAX:
            self.truncated = True
        else:
            wgs = wgs_e7_from_gcj_e7(lat, lon) if self.rule.datum == "GCJ-02" else (lat, lon)
            self.points.append(Position(time, text, *wgs, lat, lon, more.get("alt_cm"), more.get("speed_mm_s")))


def read_track(raw: bytes, rule: Track, encodings: list[str]) -> TrackContent | Malformed:
    """Read a track by its rule; never raises."""
    if len(raw) > TRACK_MAX_BYTES:
        return Malformed(f"larger than {TRACK_MAX_BYTES} bytes")
    builder = _Builder(rule)
    if rule.format == "gpx":
        failure = _gpx(raw, builder)
    else:
        reader: Callable[[str, _Builder], Malformed | None] = {"srt": _srt, "nmea": _nmea, "csv": _csv}[rule.format]
        failure = reader(decode(raw.removeprefix(b"\xef\xbb\xbf"), encodings), builder)
    if failure is not None and not builder.points:
        return failure
    broken = builder.malformed + (failure is not None)
    return TrackContent(rule.datum, tuple(builder.points), broken, builder.void, builder.truncated)


def scaled(text: str | None, scale: int | Decimal) -> int | None:
    """A plain decimal number times `scale`, rounded half to even; None for anything else."""
    if text is None or not text.isascii() or not _NUMBER.fullmatch(text := text.strip()):
        return None
    try:
        return int((Decimal(text) * scale).to_integral_value())
    except InvalidOperation:
        return None


# -------------------------------------------------------------------------------------------- GPX


def _gpx(raw: bytes, builder: _Builder) -> Malformed | None:
    """GPX 1.0 and 1.1: `trkpt`, `rtept` and `wpt` with `ele`, `time`, and `speed` wherever it stands below."""
    decoded = xml_bytes(raw)
    if isinstance(decoded, Malformed):
        return decoded
    point: dict[str, str] = {}
    parts: list[str] = []
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > 32:
            raise refuse("nested deeper than 32")
        parts.clear()
        if name.rpartition(":")[2] in {"trkpt", "rtept", "wpt"}:
            point.clear()
            point.update(lat=attributes.get("lat", ""), lon=attributes.get("lon", ""))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        name = name.rpartition(":")[2]
        if name in {"ele", "time", "speed"} and point:
            point[name] = "".join(parts)
        elif name in {"trkpt", "rtept", "wpt"}:
            text = point.get("time", "").strip()[:64]
            builder.add(
                scaled(point.get("lat"), 10_000_000),
                scaled(point.get("lon"), 10_000_000),
                read_time(text, "iso", ""),
                text,
                alt_cm=scaled(point.get("ele"), 100),
                speed_mm_s=scaled(point.get("speed"), 1000),
            )
            point.clear()
        parts.clear()

    def characters(text: str) -> None:
        if point and len(parts) < 16:
            parts.append(text[:256])

    return run_expat(decoded, start, end, characters)


# ------------------------------------------------------------------------------------ SRT and CSV


def _srt(text: str, builder: _Builder) -> Malformed | None:
    pattern = re.compile(builder.rule.pattern)
    cues = 0
    for cue in re.split(r"\r?\n[ \t]*\r?\n", text):
        if "-->" not in cue:
            continue
        cues += 1
        found = pattern.search(cue[:LINE_MAX])
        if found is None:
            builder.malformed += 1
        else:
            _add_texts(found.groupdict(), builder)
    return None if cues else Malformed("no SRT cue in it")


def _csv(text: str, builder: _Builder) -> Malformed | None:
    rule = builder.rule
    rows = csv.reader(_lines(text), delimiter=rule.delimiter)
    columns: dict[str, int] = {}
    try:
        for row in rows:
            if not row:
                continue
            if not columns:
                columns = _csv_columns(row if rule.header else [], rule.columns)
                if not {"lat", "lon"} <= set(columns):
                    return Malformed("the CSV header has no column for lat or lon")
                if rule.header:
                    continue
            _add_texts({name: row[at] if at < len(row) else None for name, at in columns.items()}, builder)
    except csv.Error as error:
        return Malformed(f"not CSV: {error}")
    return None if columns else Malformed("an empty CSV file")


def _csv_columns(header: list[str], columns: Mapping[Any, str]) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    found: dict[str, int] = {}
    for meaning, column in columns.items():
        if column.strip().lower() in names:
            found[meaning] = names.index(column.strip().lower())
        elif column.isdecimal() and column.isascii() and 0 < int(column) <= 1000:
            found[meaning] = int(column) - 1
    return found


def _add_texts(values: dict[str, str | None], builder: _Builder) -> None:
    rule = builder.rule
    text = (values.get("time") or "").strip()[:64]
    builder.add(
        scaled(values.get("lat"), 10_000_000),
        scaled(values.get("lon"), 10_000_000),
        read_time(text, rule.time_format, rule.zone) if text else None,
        text,
        alt_cm=scaled(values.get("alt"), 100),
        speed_mm_s=scaled(values.get("speed"), _MM_S[rule.speed_unit]),
    )


def _lines(text: str) -> Iterator[str]:
    for line in re.split(r"\r\n|\n|\r", text):
        yield line.replace("\0", "")[:LINE_MAX]


# ------------------------------------------------------------------------------------------- NMEA


def _nmea(text: str, builder: _Builder) -> Malformed | None:
    """NMEA 0183: RMC gives date, time, place and speed; a GGA of the same second before it gives the altitude."""
    sentences = 0
    altitude: tuple[str, int | None] = ("", None)
    for line in _lines(text):
        body = nmea_body(line)
        if body is None:
            builder.malformed += "$" in line
            continue
        sentences += 1
        parts = body.split(",")
        if parts[0][2:] == "GGA" and len(parts) >= 11:
            altitude = (parts[1], scaled(parts[9], 100))
        elif parts[0][2:] == "RMC" and len(parts) >= 10:
            if parts[2] != "A":
                builder.void += 1
                continue
            written, time = _rmc_time(parts[9], parts[1])
            builder.add(
                _degrees(parts[3], parts[4], "NS"),
                _degrees(parts[5], parts[6], "EW"),
                time,
                written,
                alt_cm=altitude[1] if altitude[0] == parts[1] else None,
                speed_mm_s=scaled(parts[7], _MM_S["kn"]),
            )
    return None if sentences else Malformed("no NMEA sentence with a good checksum in it")


def nmea_body(line: str) -> str | None:
    """The part between `$` and `*` where the checksum is right; None otherwise."""
    found = re.search(r"\$([A-Z]{5}[^$*!\r\n]{0,120})\*([0-9A-Fa-f]{2})(?![0-9A-Fa-f])", line)
    if found is None or not found[1].isascii():
        return None
    check = 0
    for sign in found[1].encode():
        check ^= sign
    return found[1] if check == int(found[2], 16) else None


def _rmc_time(date: str, clock: str) -> tuple[str, ReadTime | None]:
    """`ddmmyy` and `hhmmss.sss`, UTC by the standard."""
    written = f"{date} {clock}"
    time = read_time(written, "%d%m%y %H%M%S.%f" if "." in clock else "%d%m%y %H%M%S", "Z")
    return written[:64], time


def _degrees(text: str, side: str, sides: str) -> int | None:
    """`ddmm.mmmm` and a side letter to 1e-7 degrees."""
    found = re.fullmatch(r"(\d{1,3})(\d{2}(?:\.\d{1,12})?)", text)
    if found is None or not text.isascii() or len(side) != 1 or side not in sides:
        return None
    minutes = Decimal(found[2])
    if minutes >= 60:
        return None
    value = int(((int(found[1]) + minutes / 60) * 10_000_000).to_integral_value())
    return -value if side == sides[1] else value
