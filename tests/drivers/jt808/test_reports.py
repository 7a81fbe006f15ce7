"""Locations as keys of a fix: the fast way and the codec's say the same, for any bytes and every dialect."""

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jt808 import dialect
from drivers.jt808.codec import Decoder, Frame, Item, Location, Version
from drivers.jt808.reports import ITEM_BYTES_MAX, FixReader, utc_s_of
from drivers.jt808.wire import read_time
from firmware_profiles import loader
from gateway.core.canonical import check
from gateway.core.fixes import fixes_of
from tests.drivers.jt808.talk import SECOND, START_UTC_NS, location

YEARS = (datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2099-12-31"))
NOW_S = START_UTC_NS // SECOND
BOOK = {}
for name in loader.tracker_ids([]):
    loaded = loader.load_tracker(name, [])
    if loaded.profile.protocol == "jt808":
        BOOK[name] = FixReader(dialect.compile(loaded.profile, loaded.ref), loaded.profile)
PLAIN = BOOK["jt808"]

DIGITS = st.one_of(st.just(location().time_bcd), st.binary(min_size=6, max_size=6).map(bytes.hex))
ITEM_IDS = st.sampled_from([0x01, 0x02, 0x03, 0x11, 0x14, 0x25, 0x30, 0x31, 0xE1, 0xEB, 0xF3]) | st.integers(0, 255)
ITEMS = st.lists(st.builds(Item, ITEM_IDS, st.binary(max_size=40)), max_size=6).map(tuple)
WORD = st.integers(0, 0xFFFF)
COORDINATE = st.one_of(st.integers(0, 180_000_000), st.integers(0, 0xFFFF_FFFF), st.just(0))
LOCATIONS = st.builds(
    Location,
    alarm_bits=st.integers(0, 0xFFFF_FFFF),
    status_bits=st.integers(0, 0xFFFF_FFFF) | st.just(3),
    lat_raw=COORDINATE,
    lon_raw=COORDINATE,
    altitude_raw=WORD,
    speed_raw=WORD,
    course_raw=WORD | st.integers(0, 360),
    time_bcd=DIGITS,
    items=ITEMS,
    tail=st.sampled_from([b"", b"\x01", b"\x01\x04\x00"]),
)


@pytest.mark.parametrize("name", BOOK)
@given(LOCATIONS, st.sampled_from([None, {"load": "full"}]))
def test_both_ways_say_the_same(name, one, held):
    body = one.write(Version.V2013)
    reference = BOOK[name].of_location(Location.of_bytes(body), NOW_S, held)
    assert BOOK[name].of_body(body, NOW_S, held) == reference
    assert BOOK[name].of_body(body, NOW_S, held) == reference  # and again, from what is kept
    check(reference)


@given(st.binary(min_size=28, max_size=300))
def test_any_bytes_are_a_fix_or_none(body):
    reference = PLAIN.of_location(Location.of_bytes(body), NOW_S)
    assert PLAIN.of_body(body, NOW_S) == reference
    assert PLAIN.of_body(body[:27], NOW_S) is None


def test_every_location_of_the_vectors(vectors):
    bodies = []
    for line in (vectors / "jt808.jsonl").read_text().splitlines():
        vector = json.loads(line)
        content = bytes.fromhex(vector.get("hex", ""))
        if (vector.get("kind"), vector.get("msg_id")) == ("body", "0x0200"):
            bodies.append(content)
        found = [frame for frame in Decoder().feed(content) if isinstance(frame, Frame)]
        bodies += [frame.body for frame in found if frame.msg_id == 0x0200 and not frame.total]
    whole = [body for body in bodies if len(body) >= 28]
    assert len(whole) > 50
    for body in whole:
        assert PLAIN.of_body(body, NOW_S) == PLAIN.of_location(Location.of_bytes(body), NOW_S)


def test_an_ordinary_fix():
    fix = PLAIN.of_body(location(-5).write(Version.V2013), NOW_S)
    assert fix == {
        "time_utc_s": NOW_S - 5,
        "lat_e7": 306_242_980,
        "lon_e7": 1_208_242_580,
        "alt_m": 12,
        "course_deg": 70,
        "speed_kmh_e1": 256,
        "recorder_kmh_e1": 250,
        "mileage_hm": 4140,
        "satellites": 9,
        "sigma_m": 5,
        "acc": True,
        "load": "empty",
        "alarms": "",
        "status": "acc_on beidou_used fixed gps_used",
        "item_signal_strength": 25,
    }
    assert next(fixes_of(7, START_UTC_NS, fix)).usable


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        ({"status_bits": 1}, "void"),
        ({"status_bits": 3 | 1 << 5}, "encrypted"),
        ({"lat_raw": 90_000_001}, "out-of-range"),
        ({"lat_raw": 0, "lon_raw": 0}, "null-island"),
        ({"time_bcd": "000000000000"}, "no-time"),
        ({"time_bcd": "261345000000"}, "no-time"),
        ({"time_bcd": "991231235959"}, "future"),
        ({"time_bcd": "200101000000"}, "stale"),
        ({"items": (Item.of(0x31, 3, 1),)}, "poor"),
        ({"tail": b"\x01\x09\x00"}, "items"),
        ({"status_bits": 0, "lat_raw": 0, "lon_raw": 0, "time_bcd": "000000000000"}, "no-time null-island void"),
    ],
)
def test_flags(change, flags):
    fix = PLAIN.of_body(location(**change).write(Version.V2013), NOW_S)
    assert fix["flags"] == flags
    assert ("lat_e7" in fix) == (not {"void", "encrypted", "out-of-range", "null-island"} & set(flags.split()))
    assert next(fixes_of(0, START_UTC_NS, fix)).usable == (flags == "items")


def test_hemispheres_and_ground_below_the_sea():
    fix = PLAIN.of_body(location(status_bits=3 | 1 << 2 | 1 << 3, altitude_raw=0xFFF6).write(Version.V2013), NOW_S)
    assert (fix["lat_e7"], fix["lon_e7"], fix["alt_m"]) == (-306_242_980, -1_208_242_580, -10)


def test_items_of_a_vendor_are_kept_as_bytes_up_to_a_limit():
    items = (Item(0xE5, b"\x01\x02"), Item(0x25, bytes(4)), *(Item(0xF0 + n, bytes(255)) for n in range(6)))
    fix = PLAIN.of_body(location(items=items).write(Version.V2013), NOW_S)
    assert fix["item_e5"] == "0102"
    assert fix["item_vehicle_signals"] == ""
    assert sum(len(value) // 2 for key, value in fix.items() if key.startswith("item_f")) <= ITEM_BYTES_MAX


def test_coordinates_of_chinese_maps_are_converted_and_kept():
    fix = BOOK["jt808-gcj02"].of_body(location().write(Version.V2013), NOW_S)
    assert (fix["raw_lat_e7"], fix["raw_lon_e7"]) == (306_242_980, 1_208_242_580)
    assert 10_000 < abs(fix["lat_e7"] - fix["raw_lat_e7"]) + abs(fix["lon_e7"] - fix["raw_lon_e7"]) < 100_000


@given(st.binary(min_size=6, max_size=6) | st.datetimes(*YEARS))
def test_times_are_read_as_the_codec_reads_them(time):
    digits = time.hex() if isinstance(time, bytes) else f"{time:%y%m%d%H%M%S}"
    text = read_time(digits)
    assert utc_s_of(bytes.fromhex(digits)) == (None if text is None else int(datetime.fromisoformat(text).timestamp()))
