"""What sentences say, in integers: 1e-7 degrees, millimetres, millimetres per second, hundredths of degrees.

None is "the receiver did not say". A void sentence has no position, altitude, speed or course, whatever it carries.
`odd` names fields of lesser weight that could not be read and are None therefore.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class Rmc:
    """Recommended minimum: time, date, place, speed."""

    talker: str
    time_ns: int | None = None
    date: date | None = None
    valid: bool = False
    """Status A, mode not N, and a position."""
    status: str | None = None
    lat_e7: int | None = None
    lon_e7: int | None = None
    speed_mm_s: int | None = None
    course_cdeg: int | None = None
    mode: str | None = None
    """A, D, E, F, M, N, P, R, S; None before NMEA 2.3."""
    nav_status: str | None = None
    """S, C, U, V of NMEA 4.1; V here is "not provided", no void fix."""
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gga:
    """Fix data. No date."""

    talker: str
    time_ns: int | None = None
    valid: bool = False
    """Quality above 0, and a position."""
    quality: int | None = None
    lat_e7: int | None = None
    lon_e7: int | None = None
    satellites: int | None = None
    hdop_e2: int | None = None
    alt_mm: int | None = None
    """Above mean sea level."""
    geoid_mm: int | None = None
    """Geoid above the ellipsoid."""
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gns:
    """Fix data of several systems, one mode letter for each."""

    talker: str
    time_ns: int | None = None
    valid: bool = False
    modes: str = ""
    lat_e7: int | None = None
    lon_e7: int | None = None
    satellites: int | None = None
    hdop_e2: int | None = None
    alt_mm: int | None = None
    geoid_mm: int | None = None
    nav_status: str | None = None
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gll:
    """Place and time."""

    talker: str
    time_ns: int | None = None
    valid: bool = False
    status: str | None = None
    lat_e7: int | None = None
    lon_e7: int | None = None
    mode: str | None = None
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gsa:
    """Satellites in use and dilution of precision; one per system. No time."""

    talker: str
    selection: str | None = None
    """M or A: 2D/3D chosen by hand or by the receiver."""
    dimension: int | None = None
    """1 no fix, 2, 3."""
    satellites: tuple[int, ...] = ()
    pdop_e2: int | None = None
    hdop_e2: int | None = None
    vdop_e2: int | None = None
    system: int | None = None
    """1 GPS, 2 GLONASS, 3 Galileo, 4 BeiDou, 5 QZSS, 6 NavIC; NMEA 4.1."""
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Satellite:
    """One satellite in view."""

    number: int
    elevation_deg: int | None
    azimuth_deg: int | None
    snr_db: int | None
    """None: not tracked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gsv:
    """A part of the satellites in view."""

    talker: str
    total: int
    number: int
    in_view: int | None = None
    satellites: tuple[Satellite, ...] = ()
    signal: int | None = None
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vtg:
    """Course and speed over ground. No time."""

    talker: str
    valid: bool = False
    course_cdeg: int | None = None
    speed_mm_s: int | None = None
    mode: str | None = None
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Zda:
    """Time and date, the year in four digits."""

    talker: str
    time_ns: int | None = None
    date: date | None = None
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gst:
    """Standard deviations of the fix: the receiver's own word on its error."""

    talker: str
    time_ns: int | None = None
    rms_mm: int | None = None
    major_mm: int | None = None
    minor_mm: int | None = None
    orientation_cdeg: int | None = None
    """Of the ellipse from true north; some receivers count from -90 to 90 degrees."""
    lat_mm: int | None = None
    lon_mm: int | None = None
    alt_mm: int | None = None
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Any other sentence: TXT, makers' own, AIS."""

    talker: str
    kind: str
    fields: tuple[str, ...]


Message = Rmc | Gga | Gns | Gll | Gsa | Gsv | Vtg | Zda | Gst | Unknown
