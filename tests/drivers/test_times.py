"""Device times: read as declared, never given a zone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.times import read_time


@pytest.mark.parametrize(
    ("text", "time_format", "zone", "local", "read_zone"),
    [
        ("20250221030623", "%Y%m%d%H%M%S", "", "2025-02-21T03:06:23", ""),
        ("20250221", "%Y%m%d", "+08:00", "2025-02-21T00:00:00", "+08:00"),
        ("210225 030623.50", "%d%m%y %H%M%S.%f", "Z", "2025-02-21T03:06:23.5", "Z"),
        ("100% 20250221", "100%% %Y%m%d", "", "2025-02-21T00:00:00", ""),
        ("2025-02-21T03:06:23Z", "iso", "", "2025-02-21T03:06:23", "Z"),
        ("2025-02-21 03:06:23+0800", "iso", "", "2025-02-21T03:06:23", "+08:00"),
        ("2025-02-21 03:06", "iso", "+08:00", "2025-02-21T03:06:00", "+08:00"),
        ("2025-02-21T03:06:23.120-05:30", "iso", "", "2025-02-21T03:06:23.12", "-05:30"),
        ("1740106823", "unix-s", "", "2025-02-21T03:00:23", "Z"),
        ("1740106823045", "unix-ms", "", "2025-02-21T03:00:23.045", "Z"),
        ("1740106823.5", "unix-s", "", "2025-02-21T03:00:23.5", "Z"),
    ],
)
def test_read(text, time_format, zone, local, read_zone):
    time = read_time(text, time_format, zone)
    assert time is not None
    assert (time.text, time.local, time.zone) == (text, local, read_zone)


@pytest.mark.parametrize(
    ("text", "time_format"),
    [
        ("20250230000000", "%Y%m%d%H%M%S"),
        ("20250221240000", "%Y%m%d%H%M%S"),
        ("2025022103062", "%Y%m%d%H%M%S"),
        ("202502210306233", "%Y%m%d%H%M%S"),
        ("２０２５0221030623", "%Y%m%d%H%M%S"),
        ("00000000000000", "%Y%m%d%H%M%S"),
        ("2025-02-21", "iso"),
        ("2025-02-21T03:06:23+99:00", "iso"),
        ("99999999999999", "unix-s"),
        ("-1", "unix-s"),
        ("", "iso"),
        ("2" * 65, "unix-s"),
    ],
)
def test_what_is_no_time(text, time_format):
    assert read_time(text, time_format, "") is None


def test_utc_needs_a_zone():
    local = read_time("2025-02-21 03:06:23.5", "iso", "")
    assert local is not None
    assert local.utc_ns() is None
    east = read_time("2025-02-21 03:06:23.5", "iso", "+08:00")
    west = read_time("2025-02-20T13:36:23.5-05:30", "iso", "")
    assert east is not None
    assert west is not None
    assert east.utc_ns() == west.utc_ns() == 1_740_078_383_500_000_000


@given(st.text(max_size=70), st.sampled_from(["iso", "unix-s", "unix-ms", "%Y%m%d%H%M%S", "%y%m%d"]))
def test_nothing_raises(text, time_format):
    time = read_time(text, time_format, "+08:00")
    assert time is None or time.utc_ns() is not None


@given(st.datetimes())
def test_every_moment_comes_back(moment):
    if moment.year < 1000 or moment.year > 2999:
        return
    time = read_time(moment.strftime("%Y-%m-%d %H:%M:%S.%f"), "iso", "Z")
    assert time is not None
    assert time.local.startswith(moment.strftime("%Y-%m-%dT%H:%M:%S"))
