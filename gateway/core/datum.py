"""GCJ-02 to WGS-84: the shifted coordinates of Chinese maps and devices back to those of the satellites.

The forward formula is public knowledge; it has no closed inverse, so the inverse is iterated until the forward
formula gives the input again. Inside the box 72.004..137.8347 E, 0.8293..55.8271 N coordinates are shifted by
50 to 700 m; outside it both datums are the same. The box is cruder than the border: a device or map near
it that has WGS-84 must be declared so.
"""

from __future__ import annotations

from math import cos, pi, sin, sqrt
from typing import Final

WGS_84: Final = "WGS-84"
GCJ_02: Final = "GCJ-02"
DATUMS: Final = (WGS_84, GCJ_02)
CONVERTER: Final = "gcj02-iterated/1"
"""Version of the inverse, for records of what was converted: another number would mean other coordinates."""

_A: Final = 6_378_245.0  # Krasovsky 1940, semi-major axis in metres
_EE: Final = 0.00669342162296594323
_WEST, _EAST, _SOUTH, _NORTH = 72.004, 137.8347, 0.8293, 55.8271
_ROUNDS_MAX: Final = 30
_GOAL_DEG: Final = 1e-9


def is_shifted(lat: float, lon: float) -> bool:
    """Whether GCJ-02 differs from WGS-84 at this place, in degrees."""
    return _SOUTH <= lat <= _NORTH and _WEST <= lon <= _EAST


def gcj_from_wgs(lat: float, lon: float) -> tuple[float, float]:
    """Degrees WGS-84 → degrees GCJ-02."""
    if not is_shifted(lat, lon):
        return lat, lon
    shift_lat, shift_lon = _shift(lat, lon)
    return lat + shift_lat, lon + shift_lon


def wgs_from_gcj(lat: float, lon: float) -> tuple[float, float]:
    """Degrees GCJ-02 → degrees WGS-84; putting the result through the forward formula misses by < 1e-7 degrees."""
    if not is_shifted(lat, lon):
        return lat, lon
    guess_lat, guess_lon = lat, lon
    for _ in range(_ROUNDS_MAX):
        shift_lat, shift_lon = _shift(guess_lat, guess_lon)
        miss_lat, miss_lon = guess_lat + shift_lat - lat, guess_lon + shift_lon - lon
        guess_lat, guess_lon = guess_lat - miss_lat, guess_lon - miss_lon
        if abs(miss_lat) < _GOAL_DEG and abs(miss_lon) < _GOAL_DEG:
            break
    return guess_lat, guess_lon


def wgs_e7_from_gcj_e7(lat_e7: int, lon_e7: int) -> tuple[int, int]:
    """The same on integers of 1e-7 degrees."""
    lat, lon = wgs_from_gcj(lat_e7 / 1e7, lon_e7 / 1e7)
    return round(lat * 1e7), round(lon * 1e7)


def _shift(lat: float, lon: float) -> tuple[float, float]:
    x, y = lon - 105.0, lat - 35.0
    ripple = (20.0 * sin(6.0 * x * pi) + 20.0 * sin(2.0 * x * pi)) * 2.0 / 3.0
    root = sqrt(abs(x))
    d_lat = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + ripple
    d_lat += (20.0 * sin(y * pi) + 40.0 * sin(y / 3.0 * pi)) * 2.0 / 3.0
    d_lat += (160.0 * sin(y / 12.0 * pi) + 320.0 * sin(y * pi / 30.0)) * 2.0 / 3.0
    d_lon = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + ripple
    d_lon += (20.0 * sin(x * pi) + 40.0 * sin(x / 3.0 * pi)) * 2.0 / 3.0
    d_lon += (150.0 * sin(x / 12.0 * pi) + 300.0 * sin(x / 30.0 * pi)) * 2.0 / 3.0
    radians = lat / 180.0 * pi
    magic = 1.0 - _EE * sin(radians) ** 2
    meridian = (_A * (1.0 - _EE)) / (magic * sqrt(magic))
    parallel = _A / sqrt(magic) * cos(radians)
    return d_lat * 180.0 / (meridian * pi), d_lon * 180.0 / (parallel * pi)
