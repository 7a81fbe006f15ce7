"""Dialects: what profiles make of locations, blocks and messages; any bytes; what is held between messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jt808 import dialect
from drivers.jt808.codec import Item, Location
from drivers.jt808.dialect import Dialect, Held, Said, choose
from drivers.jt808.examples import read_flat
from drivers.jt808.wire import Version
from firmware_profiles import tracker_check
from firmware_profiles.loader import load_tracker, tracker_ids
from firmware_profiles.tracker_model import Carrier, FieldRule, Range, TrackerProfile
from gateway.core import canonical
from gateway.core.fixes import FLAGS

SECOND_NS = 1_000_000_000
ALL = {
    loaded.ref.id: dialect.compile(loaded.profile, loaded.ref)
    for loaded in map(load_tracker, tracker_ids())
    if loaded.profile.protocol == "jt808"
}


def compiled(*carriers: Carrier, **more) -> Dialect:
    profile = TrackerProfile(format="tracker/v1", id="x", title="x", source="x", carrier=list(carriers), **more)
    problems: list[str] = []
    tracker_check.check(profile, lambda key, text: problems.append(f"{key}: {text}"))
    assert [line for line in problems if not line.startswith("example")] == []
    return dialect.compile(profile)


def location(*items: tuple[int, str], status: int = 3, alarm: int = 0) -> Location:
    found = tuple(Item(item, bytes.fromhex(raw)) for item, raw in items)
    return Location(alarm, status, 30_676_123, 121_023_456, 12, 456, 92, "260302083000", found)


def item(*fields: FieldRule, item_id: int = 0xE1, **more) -> Carrier:
    return Carrier(kind="item", id=item_id, field=list(fields), **more)


@pytest.mark.parametrize(("bits", "load"), [(0, "empty"), (1, "half"), (2, None), (3, "full")])
def test_the_load_of_the_standard(bits, load):
    assert ALL["jt808"].read(location(status=bits << 8 | 3)).get("load") == load


def test_a_vehicle_without_a_sensor_says_no_load():
    assert ALL["works-vehicle"].read(location()) == {}


def test_bytes_are_read_by_offset_size_order_and_sign():
    rules = (
        FieldRule(key="mileage_hm", offset=1, size=3, endian="little"),
        FieldRule(key="alt_m", offset=4, size=2, type="signed"),
        FieldRule(key="satellites", offset=6, type="bcd"),
        FieldRule(key="hdop_e2", offset=7, size=2, unset=[0xFFFF]),
    )
    found = compiled(item(*rules)).read(location((0xE1, "ff010203fffe12ffff")))
    assert found == {"mileage_hm": 0x030201, "alt_m": -2, "satellites": 12}


def test_bits_of_a_number():
    rules = (
        FieldRule(key="load", size=2, bits=[12, 13], values={"0x2": "half"}),
        FieldRule(key="locked", size=2, bits=[0]),
        FieldRule(key="lift_limited", size=2, bits=[1]),
    )
    assert compiled(item(*rules)).read(location((0xE1, "2001"))) == {
        "load": "half",
        "locked": True,
        "lift_limited": False,
    }


@pytest.mark.parametrize(
    ("raw", "scale", "found"),
    [(1, "0.5", 1), (3, "0.5", 2), (4, "1/3", 1), (5, "1/3", 2), (9, "250/9", 250), (10, "250/9", 278)],
)
def test_scales_are_exact_and_round_half_up(raw, scale, found):
    rule = FieldRule(key="mileage_hm", scale=scale)
    assert compiled(item(rule)).read(location((0xE1, f"{raw:02x}"))) == {"mileage_hm": found}


def test_half_of_a_negative_number_is_rounded_up_too():
    rule = FieldRule(key="alt_m", type="signed", scale="0.5")
    assert compiled(item(rule)).read(location((0xE1, "fd"))) == {"alt_m": -1}


@pytest.mark.parametrize(
    ("raw", "word"), [(19, None), (20, "full"), (31, "full"), (32, "empty"), (44, "empty"), (45, None)]
)
def test_ends_of_ranges(raw, word):
    ranges = [Range(from_=2, to="3.2", value="full"), Range(from_="3.2", to="4.5", value="empty")]
    rule = FieldRule(key="load", scale="0.1", ranges=ranges)
    assert compiled(item(rule)).read(location((0xE1, f"{raw:02x}"))).get("load") == word


@given(st.integers(0, 65_535), st.fractions(0, 100, max_denominator=99), st.integers(1, 500), st.integers(1, 500))
def test_ranges_agree_with_fractions(raw, end, up, down):
    ranges = [Range(to=f"{end.numerator}/{end.denominator}", value="empty"), Range(from_=f"{end}", value="full")]
    rule = FieldRule(key="load", size=2, scale=f"{up}/{down}", ranges=ranges)
    read = dialect.compile(TrackerProfile(format="tracker/v1", id="x", title="", source="", carrier=[item(rule)])).read
    assert read(location((0xE1, f"{raw:04x}"))) == {"load": "empty" if raw * up / down < end else "full"} or (
        raw * up == end * down
    )


def test_what_lies_outside_its_limits_is_not_said():
    rules = (FieldRule(key="course_deg", size=2), FieldRule(key="satellites", offset=2))
    assert compiled(item(*rules)).read(location((0xE1, "016f07"))) == {"satellites": 7}
    assert compiled(item(FieldRule(key="course_deg", size=2))).read(location((0xE1, "0168"))) == {"course_deg": 0}


def test_the_first_rule_that_says_something_counts_in_the_order_of_the_file():
    first = item(FieldRule(key="cover", values={"1": "closed"}))
    second = Carrier(kind="status", field=[FieldRule(key="cover", bits=[25], values={"0": "open", "1": "closed"})])
    reader = compiled(first, second)
    assert reader.read(location((0xE1, "01")))["cover"] == "closed"
    assert reader.read(location((0xE1, "07")))["cover"] == "open"
    assert compiled(second, first).read(location((0xE1, "01")))["cover"] == "open"


def test_lengths_that_the_layout_does_not_know_are_left_unread():
    reader = compiled(item(FieldRule(key="locked"), sizes=[2]))
    assert reader.read(location((0xE1, "01"))) == {}
    assert reader.unread(location((0xE1, "01"))) == (("item e1", "01"),)
    assert reader.read(location((0xE1, "0100"))) == {"locked": True}
    assert reader.unread(location((0xE1, "0100"))) == (("item e1, byte 1", "00"),)


@pytest.mark.parametrize(
    ("widths", "raw"),
    [((1, 1), "0101 aa 05 01 01"), ((2, 1), "0001 01 aa 0005 01 01"), ((1, 2), "01 0001 aa 05 0001 01")],
)
def test_elements_inside_an_item(widths, raw):
    rule = FieldRule(key="locked")
    carrier = Carrier(kind="nested", id=0xEB, inner=5, id_bytes=widths[0], length_bytes=widths[1], field=[rule])
    reader = compiled(carrier)
    assert reader.read(location((0xEB, raw))) == {"locked": True}
    assert reader.unread(location((0xEB, raw + "ff"))) == (("item eb, 01", "aa"), ("item eb, rest", "ff"))


def test_names_of_own_bits_replace_those_of_the_standard():
    alarm = Carrier(kind="alarm", field=[FieldRule(key="alarms", names={"15": "cover_forced", "31": "lift_forced"})])
    status = Carrier(kind="status", field=[FieldRule(key="status", names={"26": "charging"})])
    reader = compiled(alarm, status)
    seen = location(status=1 << 26 | 1 << 27 | 3, alarm=1 << 15 | 1)
    assert reader.read(seen) == {"alarms": "cover_forced sos", "status": "acc_on bit27 charging fixed"}
    assert reader.unread(seen) == (("status bit 27", "1"),)
    # nothing set: the standard's name of bit 15 must not come back by itself
    assert reader.read(location())["alarms"] == ""


def test_names_from_an_item_join_those_of_the_standard():
    reader = compiled(item(FieldRule(key="alarms", names={"0": "zoo", "1": "ant"})))
    assert reader.read(location((0xE1, "03"), alarm=1 << 8)) == {"alarms": "ant main_power_lost zoo"}
    assert reader.read(location((0xE1, "00"))) == {}


def test_messages_of_the_makers_own():
    reader = compiled(
        Carrier(
            kind="message", id=0x0F01, starts="0102", name="state", sizes=[3], field=[FieldRule(key="locked", offset=2)]
        ),
        Carrier(kind="message", id=0x0F01, starts="0103", name="event"),
        Carrier(kind="block", id=0xF1, field=[FieldRule(key="lift", values={"2": "lifted"})]),
    )
    assert reader.messages == {0x0F01}
    assert reader.read_message(0x0F01, b"\1\2\1") == Said({"locked": True}, False, "state")
    assert reader.read_message(0x0F01, b"\1\3\1") == Said({}, False, "event", unread=(("message 0f01, byte 2", "01"),))
    assert reader.read_message(0x0F01, b"\1\4") is None
    assert reader.read_message(0x0F01, b"\1\2\1\1") is None
    assert reader.read_message(0x0F02, b"") is None
    assert reader.read_message(0x0900, b"\xf1\2") == Said({"lift": "lifted"}, False)
    assert reader.read_message(0x0900, b"\xf1\7") is None
    assert reader.read_message(0x0900, b"\xf2\2") is None
    assert reader.read_message(0x0900, b"") is None


def body(lat: int, lon: int, time: str = "260302083000", fixed: int = 1) -> bytes:
    return (
        lat.to_bytes(4, "big", signed=True)
        + lon.to_bytes(4, "big", signed=True)
        + bytes.fromhex(time)
        + bytes((fixed,))
    )


OWN_BODY = Carrier(
    kind="message",
    id=0x0200,
    field=[
        FieldRule(key="lat_e7", size=4, type="signed"),
        FieldRule(key="lon_e7", offset=4, size=4, type="signed"),
        FieldRule(key="time", offset=8, size=6, type="bcd-time"),
        FieldRule(key="fixed", offset=14),
    ],
)


@pytest.mark.parametrize(
    ("content", "flags", "placed"),
    [
        (body(306_761_230, 1_210_234_560), None, True),
        (body(-306_761_230, -1_210_234_560), None, True),
        (body(0, 0), "null-island", False),
        (body(900_000_001, 0), "out-of-range", False),
        (body(0, -1_800_000_001), "out-of-range", False),
        (body(306_761_230, 1_210_234_560, fixed=0), "void", False),
        (body(306_761_230, 1_210_234_560, "999999999999"), "no-time", True),
        (body(0, 0, "00000000000a", 0), "no-time null-island void", False),
    ],
)
def test_a_location_body_of_its_own(content, flags, placed):
    said = compiled(OWN_BODY).read_message(0x0200, content)
    assert said is not None
    assert said.is_location
    assert said.time_text == content[8:14].hex()
    assert said.values.get("flags") == flags
    assert set((flags or "").split()) <= FLAGS
    assert ("lat_e7" in said.values) == ("lon_e7" in said.values) == placed
    assert "fixed" not in said.values
    assert "time" not in said.values


def test_half_a_place_is_none():
    said = compiled(OWN_BODY).read_message(0x0200, body(1, 1)[:6])
    assert said is None
    rules = [*OWN_BODY.field[:2], FieldRule(key="satellites")]
    said = compiled(Carrier(kind="message", id=0x0F01, field=rules)).read_message(0x0F01, b"\7\0\0\0\0")
    assert said == Said({"satellites": 7}, False, unread=(("message 0f01, byte 4", "00"),))


def test_gcj02_is_converted_and_the_values_sent_stay_beside():
    reader = compiled(datum="GCJ-02")
    assert reader.datum_keys == {"datum": "WGS-84", "datum_input": "GCJ-02"}
    found = reader.place(306_738_910, 1_210_277_900)
    assert (found["raw_lat_e7"], found["raw_lon_e7"]) == (306_738_910, 1_210_277_900)
    assert 100 < abs(found["lon_e7"] - 1_210_277_900) < 100_000
    assert compiled().place(1, 2) == {"lat_e7": 1, "lon_e7": 2}
    assert compiled().datum_keys == {"datum": "WGS-84"}


@pytest.mark.parametrize(
    ("zone", "digits", "seconds"),
    [
        ("+08:00", "260302083000", 1_772_411_400),
        ("Z", "260302003000", 1_772_411_400),
        ("-03:30", "260301210000", 1_772_411_400),
        ("+08:00", "000000000000", None),
        ("+08:00", "260230083000", None),
        ("+08:00", "26030208300a", None),
        ("+08:00", "", None),
    ],
)
def test_times_in_the_zone_of_the_profile(zone, digits, seconds):
    assert compiled(zone=zone).time_utc_s(digits) == seconds


def test_what_is_held_between_messages():
    held = Held(300)
    held.take(Said({"cover": "open", "lift": "lifted", "speed_kmh_e1": 100}, False), 0)
    held.take(Said({"cover": "closed"}, False), 200 * SECOND_NS)
    assert held.at(300 * SECOND_NS) == {"cover": "closed", "lift": "lifted"}
    assert held.at(301 * SECOND_NS) == {"cover": "closed"}
    found = ALL["jt808"].read(location(), held.at(301 * SECOND_NS))
    assert found == {"load": "empty", "cover": "closed", "held": "cover"}
    assert ALL["jt808"].read(location(), {"load": "full"}) == {"load": "empty"}
    assert ALL["jt808"].read(location(), {}) == {"load": "empty"}
    nothing = Held(0)
    nothing.take(Said({"cover": "open"}, False), 0)
    assert nothing.at(0) == {}


def test_auto_goes_by_the_registration():
    assert choose(ALL, "auto", "FGSIM", "EGS701-MUCK").id == "muck-egs701"
    assert choose(ALL, "auto", "fgsim", "egs701").id == "muck-egs701"
    assert choose(ALL, "auto", "FGSIM", "X").id == "jt808"
    assert choose(ALL, "auto").id == "jt808"
    assert choose(ALL, "muck-hik", "FGSIM", "EGS701-MUCK").id == "muck-hik"


# ------------------------------------------------------------------------------------------- any bytes

MESSAGE_IDS = st.sampled_from([0x0200, 0x0201, 0x0704, 0x0900, 0x0F01, 0x0F02, 0x0F03]) | st.integers(0, 0xFFFF)
STARTS = st.sampled_from([b"", b"\1\2", b"\1\3", b"\xf1", b"\0" * 28])


@given(st.sampled_from(sorted(ALL)), MESSAGE_IDS, STARTS, st.binary(max_size=120))
def test_no_bytes_raise_and_every_value_fits_a_record(name, msg_id, start, rest):
    held = Held(300)
    for _ in range(2):
        found = read_flat(ALL[name], msg_id, start + rest, Version.V2013, held, 0)
        canonical.check(found)
        assert -900_000_000 <= found.get("lat_e7", 0) <= 900_000_000
        assert -1_800_000_000 <= found.get("lon_e7", 0) <= 1_800_000_000


@given(
    st.sampled_from(sorted(ALL)),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.lists(
        st.tuples(st.sampled_from([0x2B, 0xE1, 0xE5, 0xF0]) | st.integers(0, 255), st.binary(max_size=40)), max_size=5
    ),
)
def test_no_location_raises(name, status, alarm, items):
    seen = location(status=status, alarm=alarm)
    seen = Location(alarm, status, 1, 1, 0, 0, 0, "x", tuple(Item(item, raw) for item, raw in items), b"\1")
    canonical.check(ALL[name].read(seen))
    canonical.check(dict(ALL[name].unread(seen)))
    assert dict(ALL[name].unread(seen))["malformed tail"] == "01"


@given(st.binary(max_size=64))
def test_a_body_with_every_kind_of_field(data):
    fields = [
        FieldRule(key="lat_e7", size=8, type="signed", scale="999999999999"),
        FieldRule(key="lon_e7", offset=1, size=8, scale="999999999999"),
        FieldRule(key="time", offset=2, size=8, type="unix-s"),
        FieldRule(key="plate_said", offset=3, size=9, type="gbk"),
        FieldRule(key="mileage_hm", offset=4, size=4, type="bcd"),
        FieldRule(key="sensor_faults", offset=5, size=8, names={"63": "last", "0": "first"}),
        FieldRule(key="load", size=2, type="signed", values={"-1": "full"}),
    ]
    reader = compiled(Carrier(kind="message", id=1025, field=fields))
    said = reader.read_message(1025, data)
    if said is not None:
        canonical.check({key: value for key, value in said.values.items() if key != "time_utc_s"})
        assert abs(said.values.get("time_utc_s", 0)) < 2**53
