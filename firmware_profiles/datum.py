"""Datums of devices, as keys of a fix. The formulas are in gateway.core.datum."""

from __future__ import annotations

from gateway.core.datum import (
    DATUMS,
    GCJ_02,
    WGS_84,
    gcj_from_wgs,
    is_shifted,
    wgs_e7_from_gcj_e7,
    wgs_from_gcj,
)

__all__ = [
    "DATUMS",
    "GCJ_02",
    "WGS_84",
    "datum_keys",
    "gcj_from_wgs",
    "is_shifted",
    "place",
    "wgs_e7_from_gcj_e7",
    "wgs_from_gcj",
]


def place(datum: str, lat_e7: int, lon_e7: int) -> dict[str, int]:
    """Keys of a fix (gateway.core.fixes) for a place as sent: WGS-84, and the values of the input where its datum is
    GCJ-02. The caller has checked that it is a place on earth."""
    if datum == WGS_84:
        return {"lat_e7": lat_e7, "lon_e7": lon_e7}
    lat, lon = wgs_e7_from_gcj_e7(lat_e7, lon_e7)
    return {"lat_e7": lat, "lon_e7": lon, "raw_lat_e7": lat_e7, "raw_lon_e7": lon_e7}


def datum_keys(datum: str) -> dict[str, str]:
    """Keys that stand beside the fixes of a record: `datum`, and `datum_input` where that was another one."""
    return {"datum": WGS_84} if datum == WGS_84 else {"datum": WGS_84, "datum_input": datum}
