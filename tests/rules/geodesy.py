"""Distances on the ellipsoid by another way than gateway.rules.geometry: Vincenty's inverse formula."""

from __future__ import annotations

from math import atan, atan2, cos, radians, sin, sqrt, tan

A_M = 6_378_137.0
F = 1 / 298.257223563
B_M = A_M * (1 - F)


def vincenty_m(lat_a_e7: float, lon_a_e7: float, lat_b_e7: float, lon_b_e7: float) -> float:
    """Good to 0.1 mm, but for points nearly opposite to each other."""
    u1 = atan((1 - F) * tan(radians(lat_a_e7 / 1e7)))
    u2 = atan((1 - F) * tan(radians(lat_b_e7 / 1e7)))
    far = radians((lon_b_e7 - lon_a_e7) / 1e7)
    lam = far
    for _ in range(100):
        sin_sigma = sqrt((cos(u2) * sin(lam)) ** 2 + (cos(u1) * sin(u2) - sin(u1) * cos(u2) * cos(lam)) ** 2)
        if sin_sigma < 1e-16:
            return 0.0
        cos_sigma = sin(u1) * sin(u2) + cos(u1) * cos(u2) * cos(lam)
        sigma = atan2(sin_sigma, cos_sigma)
        sin_alpha = cos(u1) * cos(u2) * sin(lam) / sin_sigma
        square = 1 - sin_alpha**2
        cos_2m = cos_sigma - 2 * sin(u1) * sin(u2) / square if square else 0.0
        c = F / 16 * square * (4 + F * (4 - 3 * square))
        before = lam
        lam = far + (1 - c) * F * sin_alpha * (sigma + c * sin_sigma * (cos_2m + c * cos_sigma * (2 * cos_2m**2 - 1)))
        if abs(lam - before) < 1e-14:
            break
    u = square * (A_M**2 - B_M**2) / B_M**2
    a = 1 + u / 16384 * (4096 + u * (-768 + u * (320 - 175 * u)))
    b = u / 1024 * (256 + u * (-128 + u * (74 - 47 * u)))
    inner = cos_sigma * (2 * cos_2m**2 - 1) - b / 6 * cos_2m * (4 * sin_sigma**2 - 3) * (4 * cos_2m**2 - 3)
    return B_M * a * (sigma - b * sin_sigma * (cos_2m + b / 4 * inner))
