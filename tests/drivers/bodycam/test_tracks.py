"""Tracks: positions in integers, what is counted, what is converted."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bodycam import tracks
from drivers.bodycam.codec import Malformed
from drivers.bodycam.tracks import TrackContent, nmea_body, read_track, scaled
from firmware_profiles.datum import gcj_from_wgs
from firmware_profiles.loader import load
from firmware_profiles.model import Track

ENCODINGS = ["utf-8", "gb18030"]
RULES = {rule.format: rule for rule in load("intercom-gps").profile.track}
GPX = Track(extension="gpx", format="gpx", datum="WGS-84")


def read(raw: str | bytes, rule: Track) -> TrackContent:
    content = read_track(raw.encode() if isinstance(raw, str) else raw, rule, ENCODINGS)
    assert isinstance(content, TrackContent), content
    return content


def sentence(body: str) -> str:
    check = 0
    for sign in body.encode():
        check ^= sign
    return f"${body}*{check:02X}"


def gpx(points: str) -> str:
    return f'<?xml version="1.0"?><gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{points}</trkseg></trk></gpx>'


def test_gpx_with_every_part():
    content = read(
        gpx(
            '<trkpt lat="30.12345678" lon="-120.5"><ele>12.345</ele><time>2026-03-02T00:30:04Z</time>'
            "<extensions><x:speed xmlns:x='u'>1.5</x:speed></extensions></trkpt>"
            '<trkpt lat="91" lon="0"/><trkpt lon="1"/><trkpt lat="0" lon="0"/><trkpt lat="1e5" lon="2"/>'
        ),
        GPX,
    )
    assert (len(content.points), content.malformed, content.void) == (1, 3, 1)
    fix = content.points[0]
    assert (fix.lat_e7, fix.lon_e7, fix.alt_cm, fix.speed_mm_s) == (301_234_568, -1_205_000_000, 1234, 1500)
    assert fix.time is not None
    assert fix.time.utc_ns() == 1_772_411_404 * 10**9


def test_a_gpx_that_was_cut_off_keeps_its_points():
    whole = gpx('<trkpt lat="1" lon="2"/>' * 3)
    content = read(whole[:-40], GPX)
    assert (len(content.points), content.malformed) == (2, 1)


def test_gpx_takes_no_entities():
    content = read_track(b'<!DOCTYPE x [<!ENTITY a "1">]>' + gpx("").encode()[21:], GPX, ENCODINGS)
    assert isinstance(content, Malformed)


def test_gcj_is_converted_and_kept():
    lat, lon = gcj_from_wgs(31.2, 121.5)
    rule = msgspec.structs.replace(GPX, datum="GCJ-02")
    fix = read(gpx(f'<trkpt lat="{lat:.7f}" lon="{lon:.7f}"/>'), rule).points[0]
    assert (fix.lat_e7, fix.lon_e7) == (312_000_000, 1_215_000_000)
    assert (fix.raw_lat_e7, fix.raw_lon_e7) == (round(lat * 1e7), round(lon * 1e7))
    assert abs(fix.raw_lat_e7 - fix.lat_e7) > 10_000


def test_srt():
    cue = "1\r\n00:00:00,000 --> 00:00:01,000\r\n2026-03-02 08:30:04 N30.26,E120.19 7.2km/h\r\n\r\n"
    content = read("\ufeff" + cue * 2 + "3\n00:00:02,000 --> 00:00:03,000\nno fix\n", RULES["srt"])
    assert (len(content.points), content.malformed) == (2, 1)
    assert content.points[0].speed_mm_s == 2000
    assert isinstance(read_track(b"hello", RULES["srt"], ENCODINGS), Malformed)


def test_csv_by_header_and_by_number():
    rule = RULES["csv"]
    text = "Latitude;LONGITUDE;time;speed\n40.0;-100.0;2026-03-02 08:30:04;36\n;;;\n\n"
    content = read(text, msgspec.structs.replace(rule, delimiter=";"))
    assert (len(content.points), content.malformed) == (1, 1)
    assert (content.points[0].lat_e7, content.points[0].speed_mm_s) == (400_000_000, 10_000)
    by_number = msgspec.structs.replace(rule, header=False, columns={"lat": "2", "lon": "1"})
    assert read("-100,40\n", by_number).points[0].lat_e7 == 400_000_000
    assert isinstance(read_track(b"a,b\n1,2\n", rule, ENCODINGS), Malformed)
    assert isinstance(read_track(b"", rule, ENCODINGS), Malformed)


def test_nmea():
    lines = [
        "rubbish",
        "0.123 " + sentence("GPGGA,003004.00,3015.0000,N,12010.0000,E,1,08,0.9,12.3,M,0,M,,"),
        sentence("GPRMC,003004.00,A,3015.0000,N,12010.0000,E,010.0,084.4,020326,,,A"),
        sentence("BDRMC,003005,A,3015.0000,S,12010.0000,W,,,020326,,"),
        sentence("GPRMC,003006,V,3015.0000,N,12010.0000,E,,,020326,,"),
        sentence("GPRMC,003007,A,3075.0000,N,12010.0000,E,,,020326,,"),
        sentence("GPRMC,003007,A,3015.0000,N,12010.0000,E,,,020326,,")[:-2] + "00",
    ]
    content = read("\r\n".join(lines), RULES["nmea"])
    assert (len(content.points), content.malformed, content.void) == (2, 2, 1)
    first, second = content.points
    assert (first.lat_e7, first.lon_e7, first.alt_cm, first.speed_mm_s) == (302_500_000, 1_201_666_667, 1230, 5144)
    assert first.time is not None
    assert first.time.local == "2026-03-02T00:30:04"
    assert (second.lat_e7, second.lon_e7, second.alt_cm) == (-302_500_000, -1_201_666_667, None)
    assert isinstance(read_track(b"$GPRMC,no", RULES["nmea"], ENCODINGS), Malformed)


def test_nmea_of_real_receivers(vectors):
    """Logs of real receivers: every fix that gpsd reports with a mode of 2 or 3 lies where we read one."""
    rule = RULES["nmea"]
    compared = 0
    for log in sorted((vectors / "nmea").glob("*.log"))[:12]:
        content = read_track(log.read_bytes(), rule, ENCODINGS)
        if not isinstance(content, TrackContent):
            continue
        ours = {(fix.lat_e7 // 1000, fix.lon_e7 // 1000) for fix in content.points}
        near = {(lat + dy, lon + dx) for lat, lon in ours for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
        theirs = [json.loads(line) for line in log.with_suffix(".log.chk").read_text().splitlines() if '"TPV"' in line]
        theirs = [fix for fix in theirs if fix.get("mode", 0) >= 2 and "lat" in fix and "lon" in fix]
        places = {(int(fix["lat"] * 1e4 // 1), int(fix["lon"] * 1e4 // 1)) for fix in theirs}
        if ours and places:
            compared += 1
            assert len(places & near) >= len(places) * 0.9, log.name
    assert compared >= 5


def test_limits(monkeypatch):
    assert isinstance(read_track(b" " * (tracks.TRACK_MAX_BYTES + 1), GPX, ENCODINGS), Malformed)
    monkeypatch.setattr(tracks, "POINTS_MAX", 2)
    content = read(gpx('<trkpt lat="1" lon="2"/>' * 3), GPX)
    assert (len(content.points), content.truncated) == (2, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5", 15), ("-0.25", -2), ("+3.", 30), (" 1 ", 10), ("1e3", None), ("", None), (None, None), ("９", None)],
)
def test_scaled(text, value):
    assert scaled(text, 10) == value


def test_nmea_body_wants_an_exact_checksum():
    good = sentence("GPGLL,1")
    assert nmea_body("x" + good) == "GPGLL,1"
    assert nmea_body(good + "0") is None
    assert nmea_body(good.replace("1*", "2*")) is None


@given(st.sampled_from(sorted(RULES)), st.binary(max_size=400))
def test_nothing_raises(name, raw):
    read_track(raw, RULES[name], ENCODINGS)
    read_track(gpx("").encode()[:-12] + raw, GPX, ENCODINGS)
    read_track(b"1\n0 --> 1\n" + raw, RULES["srt"], ENCODINGS)
    read_track(b"latitude,longitude\n" + raw, RULES["csv"], ENCODINGS)
