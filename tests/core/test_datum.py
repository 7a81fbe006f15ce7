"""GCJ-02: published points, and the inverse at any place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.datum import gcj_from_wgs, is_shifted, wgs_e7_from_gcj_e7, wgs_from_gcj

# WGS-84 and GCJ-02 pairs as public converters list them in their own tests
PAIRS = [
    (31.1774276, 121.5272106, 31.17530398364597, 121.531541859215),
    (22.543847, 113.912316, 22.540796131694766, 113.9171764808363),
    (39.911954, 116.377817, 39.91334545536069, 116.38404722455657),
]


@pytest.mark.parametrize(("lat", "lon", "gcj_lat", "gcj_lon"), PAIRS)
def test_published_points(lat, lon, gcj_lat, gcj_lon):
    assert gcj_from_wgs(lat, lon) == pytest.approx((gcj_lat, gcj_lon), abs=1e-7)
    assert wgs_from_gcj(gcj_lat, gcj_lon) == pytest.approx((lat, lon), abs=1e-7)


@given(st.floats(1.0, 55.8), st.floats(72.1, 137.8))
def test_the_inverse_inside(lat, lon):
    there = gcj_from_wgs(*wgs_from_gcj(lat, lon))
    assert abs(there[0] - lat) <= 1e-7
    assert abs(there[1] - lon) <= 1e-7


@pytest.mark.parametrize(("lat", "lon"), [(0.5, 100.0), (56.0, 100.0), (30.0, 71.9), (30.0, 138.0), (-33.9, 151.2)])
def test_outside_nothing_is_touched(lat, lon):
    assert not is_shifted(lat, lon)
    assert gcj_from_wgs(lat, lon) == wgs_from_gcj(lat, lon) == (lat, lon)


@given(st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000))
def test_integers_everywhere(lat_e7, lon_e7):
    lat, lon = wgs_e7_from_gcj_e7(lat_e7, lon_e7)
    assert abs(lat - lat_e7) < 200_000
    assert abs(lon - lon_e7) < 300_000
