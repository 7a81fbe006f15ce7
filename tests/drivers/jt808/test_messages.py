"""Messages: own frames, made by hand from the tables of the standard, and what they say."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from drivers.jt808.codec import (
    Address,
    Area,
    Attributes,
    Authentication,
    Driver,
    DriverReport,
    DriverText,
    EncodeError,
    Frame,
    Item,
    Location,
    LocationBatch,
    Media,
    MediaEvent,
    Message,
    Opaque,
    Parameter,
    ParameterAnswer,
    Point,
    Registration,
    ResendRequest,
    SetCircles,
    SetPolygon,
    SetRoute,
    SpeedRule,
    Text,
    Track,
    Version,
    Window,
    encode,
    parse,
    parse_body,
    read_datagram,
)
from drivers.jt808.items import read_items, write_items
from drivers.jt808.wire import NO_TEXT, digits, fixed, read_time, u8, u16, u32
from tests.conftest import ROOT

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (ROOT / "tests/vectors/jt808/frames.jsonl").read_text("utf-8").splitlines()
]
V11, V13, V19 = Version.V2011, Version.V2013, Version.V2019
FIX = bytes.fromhex("000000030048030301d27a800733f7c0000a01c2005a260301083000")


def frame_of(row: dict[str, Any]) -> Frame:
    (frame,) = read_datagram(bytes.fromhex(row["frame"]))
    assert isinstance(frame, Frame)
    return frame


def named(name: str) -> Any:
    (row,) = [row for row in ROWS if row["name"] == name]
    return parse(frame_of(row))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_own_frames_are_read_and_written_again(row: dict[str, Any]) -> None:
    frame = frame_of(row)
    assert frame.body.hex() == row["body"]
    message = parse(frame)
    assert type(message).__name__ == row["message"]
    assert encode(message, Address.of_frame(frame), frame.serial) == (frame.raw,)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_body_cut_anywhere_never_raises_and_is_written_again(row: dict[str, Any]) -> None:
    frame = frame_of(row)
    for size in range(len(frame.body)):
        for version in Version:
            message = parse_body(frame.msg_id, frame.body[:size], version)
            assert isinstance(message, Opaque) or frame.msg_id == message.MSG_ID


def test_a_location_says_what_its_bits_and_items_mean() -> None:
    location = named("location, loaded")
    assert (location.lat_e7, location.lon_e7, location.altitude_m) == (305711360, 1208462720, 10)
    assert location.status == {"acc_on", "fixed", "beidou_used", "moving"}
    assert location.alarms == {"sos", "overspeed"}
    assert location.load == "full"
    assert location.time == "2026-03-01T08:30:00+08:00"
    assert location.problems == ()
    assert location.is_position
    assert [(item.name, item.value, item.unit) for item in location.items] == [
        ("mileage", 1000, "0.1 km"),
        ("recorder_speed", 350, "0.1 km/h"),
        ("signal_strength", 24, ""),
        ("satellites", 9, ""),
        ("item_e1", None, ""),
    ]
    assert location.item(0x31) == Item(0x31, b"\x09")
    assert location.item(0x77) is None


def location(**changes: Any) -> Location:
    fields = {
        "alarm_bits": 0,
        "status_bits": 2,
        "lat_raw": 30_572_160,
        "lon_raw": 120_829_888,
        "altitude_raw": 0xFFFE,
        "speed_raw": 0,
        "course_raw": 0,
        "time_bcd": "260301083000",
    }
    return Location(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "problems", "is_position"),
    [
        ({}, (), True),
        ({"status_bits": 0}, ("not_fixed",), False),
        ({"status_bits": 0x22}, ("encrypted",), False),
        ({"lat_raw": 90_000_001}, ("out_of_range",), False),
        ({"lon_raw": 0xF81B0EE4}, ("out_of_range",), False),  # two's complement
        ({"lat_raw": 0, "lon_raw": 0}, ("zero",), False),
        ({"lat_raw": 0}, (), True),
        ({"course_raw": 360}, ("course",), True),
        ({"time_bcd": "000000000000"}, ("time",), True),
        ({"tail": b"\x01"}, ("items",), True),
    ],
)
def test_what_speaks_against_a_location_is_named(
    changes: dict[str, Any], problems: tuple[str, ...], is_position: bool
) -> None:
    one = location(**changes)
    assert one.problems == problems
    assert one.is_position is is_position
    assert Location.of_bytes(one.write(V13)) == one


def test_hemispheres_and_negative_altitude() -> None:
    one = location(status_bits=0b1110)
    assert (one.lat_e6, one.lon_e6, one.altitude_m) == (-30_572_160, -120_829_888, -2)


@pytest.mark.parametrize(
    ("digits12", "time"),
    [
        ("240229235959", "2024-02-29T23:59:59+08:00"),
        ("230229000000", None),
        ("000000000000", None),
        ("260431000000", None),
        ("261301000000", None),
        ("260101240000", None),
        ("260101006000", None),
        ("260101000060", None),
        ("26010100000a", None),
        ("2601", None),
    ],
)
def test_times(digits12: str, time: str | None) -> None:
    assert read_time(digits12) == time


@pytest.mark.parametrize(
    ("item_id", "raw", "value"),
    [
        (0x01, "000003e8", 1000),
        (0x01, "03e8", None),  # a vendor's length
        (0x05, "00" * 29 + "ff", (*([0] * 29), 255)),
        (0x06, "fffb", -5),
        (0x11, "00", {"kind": "none"}),
        (0x11, "0200000007", {"kind": "rectangle", "id": 7}),
        (0x11, "0000000007", None),
        (0x11, "02", None),
        (0x12, "040000000901", {"kind": "route", "id": 9, "direction": "out"}),
        (0x12, "090000000902", {"kind": "9", "id": 9, "direction": "2"}),
        (0x13, "00000009003c01", {"id": 9, "duration_s": 60, "result": "long"}),
        (0x14, "00000003", ("covered", "signal_lost")),
        (0x15, "80000001", (1, 32)),
        (0x18, "0003", {"kinds": "fatigue phone_call"}),
        (0x18, "000150", {"kinds": "fatigue", "fatigue_percent": 80}),
        (0x25, "00000011", ("brake", "low_beam")),
        (0x2A, "0001", ("deep_sleep",)),
        (0x2B, "00020001", {"ad0": 1, "ad1": 2}),
        (0x64, "00", None),
    ],
)
def test_items_by_the_standard(item_id: int, raw: str, value: object) -> None:
    assert Item(item_id, bytes.fromhex(raw)).value == value


def test_a_malformed_tail_keeps_the_items_before_it() -> None:
    items, tail = read_items(bytes.fromhex("300118" + "0104000003"))
    assert [item.id for item in items] == [0x30]
    assert tail == bytes.fromhex("0104000003")
    assert read_items(b"\x30") == ((), b"\x30")
    assert write_items(items) + tail == bytes.fromhex("3001180104000003")


def test_a_batch_whose_count_disagrees_keeps_everything() -> None:
    body = bytes.fromhex("0005" + "01" + "001c") + FIX + bytes.fromhex("0003aabbcc" + "0064ff")
    batch = parse_body(0x0704, body, V13)
    assert isinstance(batch, LocationBatch)
    assert batch.backfill
    assert batch.problems == ("count", "tail", "entry")
    assert [entry.raw for entry in batch.entries] == [FIX, b"\xaa\xbb\xcc"]
    assert batch.tail == bytes.fromhex("0064ff")
    assert batch.write(V13) == body
    made = LocationBatch.of(batch.locations, kind=1)
    assert (made.problems, made.locations) == ((), batch.locations)


def test_registrations_of_three_editions() -> None:
    for name, layout in (("2011", V11), ("2013", V13), ("2019", V19)):
        one = named(f"registration {name}")
        assert one.layout is layout
        assert (one.terminal_id.text, one.plate.text, one.plate_colour) == ("0000001", "浙FA12345", 2)
    vin = named("registration 2011 with VIN")
    assert (vin.layout, vin.plate.text) == (V11, "LSVAA4182E2184847")
    short = parse_body(0x0100, bytes(40), V19)
    assert isinstance(short, Registration)
    assert short.layout is V13


def test_authentication_of_2013_under_a_header_of_2019() -> None:
    assert parse_body(0x0102, b"code-1", V19) == Authentication(Text(b"code-1"))
    full = named("authentication 2019")
    assert (full.code.text, full.imei.text, full.software.text) == ("code-1", "860000000000001", "v1.0")
    assert Authentication(Text(b"c"), Text(b"1")).write(V19) == b"\x01c1" + bytes(14 + 20)


def test_drivers() -> None:
    driver = Driver(Text.of("张三"), Text(b"330100".ljust(20, b"\0")), Text.of("家普"), "20301231")
    assert named("driver 2013") == DriverReport(1, "260301080000", 0, driver)
    assert named("driver 2019").driver.id_number.text == "330400199001010011"
    assert named("driver leaves") == DriverReport(2, "260301170000", None, None)
    old = DriverReport(0, "", None, Driver(Text(b"A"), Text(b"L"), Text(b"I"), "", Text(b"N")))
    body = old.write(V11)
    assert len(body) == 2 + 20 + 40 + 2
    again = parse_body(0x0702, body, V11)
    assert isinstance(again, DriverReport)
    assert again.driver
    assert (again.driver.name.text, again.driver.licence.text, again.driver.id_number.text) == ("A", "L", "N")


def test_media_with_and_without_a_place() -> None:
    assert named("photo with place").location.time == "2026-03-01T08:30:00+08:00"
    assert named("photo with place").payload == bytes.fromhex("ffd8ffe0ffd9")
    assert named("photo of 2011").location is None
    body = MediaEvent(1, 0, 0, 0, 1).write(V11) + bytes(60)
    known = parse_body(0x0801, body, V11)
    assert isinstance(known, Media)
    assert (known.location, known.write(V11)) == (None, body)
    assert Media(known.event, location(items=(Item(1, b""),)), b"x").write(V13)[8 + 28 :] == b"x"


def test_parameters() -> None:
    answer = named("parameters")
    assert isinstance(answer, ParameterAnswer)
    assert [(one.name, one.value) for one in answer.parameters] == [
        ("interval_default_s", 10),
        ("plate", "浙FA1234"),
        ("parameter_f100", None),
    ]
    assert Parameter(0x29, b"\x01").value is None
    assert Parameter.of(0x29, 10) == answer.parameters[0]
    assert Parameter.of(0x83, "浙FA1234") == answer.parameters[1]
    assert Parameter.of(0xF100, b"\x7e") == answer.parameters[2]
    for parameter_id, value, why in ((0x84, 256, "does not fit u8"), (0x83, 1, "give text"), (0xF100, 1, "give bytes")):
        with pytest.raises(EncodeError, match=why):
            Parameter.of(parameter_id, value)
    broken = parse_body(0x0104, bytes.fromhex("0009" + "05" + "00000029" + "04" + "0000"), V13)
    assert isinstance(broken, ParameterAnswer)
    assert (broken.parameters, broken.count, broken.tail) == ((), 5, bytes.fromhex("00000029040000"))
    stated = parse_body(0x8103, bytes.fromhex("02" + "00000084" + "01" + "02"), V13)
    assert stated.write(V13).hex() == "02000000840102"


def test_lists_of_packets_in_either_width() -> None:
    assert named("ask for packets") == ResendRequest(0x10, (2, 3))
    narrow = parse_body(0x8003, bytes.fromhex("0010" + "02" + "00020003"), V19)
    assert narrow == named("ask for packets")
    assert isinstance(parse_body(0x8003, bytes.fromhex("0010050001"), V13), Opaque)


def test_text_that_is_no_gbk_keeps_its_bytes() -> None:
    text = Text(b"ok\xff\xfe\0")
    assert (text.text, text.exact, text.raw) == ("ok\ufffd\ufffd", False, b"ok\xff\xfe\0")
    assert Text.of("浙FA").exact
    with pytest.raises(EncodeError, match="has no GBK code"):
        Text.of("truck 🚚")


TIMED = Window("000000200000", "000000050000")
FAST = SpeedRule(60, 10, 40)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: SetCircles(0, (Area(9, 1, (1, 2, 3)),)).write(V13), "area 9: attribute bit 0"),
        (lambda: SetCircles(0, (Area(9, 0, (1, 2, 3), speed=FAST),)).write(V13), "area 9: attribute bit 1"),
        (lambda: SetCircles(0, (Area(9, 0, (1, 2)),)).write(V13), "2 numbers where its shape has 3"),
        (lambda: SetPolygon(9, 0, (), window=TIMED).write(V13), "polygon 9: attribute bit 0"),
        (lambda: SetRoute(9, 0, (Point(1, 1, 1, 1, 256),)).write(V13), "256 does not fit a BYTE"),
        (lambda: SetRoute(9, 0, (Point(1, 1, 1, 1, 50, 1),)).write(V13), "point 1: attribute bit 0"),
        (lambda: Track(5).write(V13), "needs a validity"),
        (lambda: DriverText(1, Text(bytes(1025))).write(V13), "1025 bytes where 1024"),
        (lambda: location(lat_raw=1 << 32).write(V13), "too large"),
        (lambda: location(time_bcd="26030108300").write(V13), "use 12 digits"),
        (lambda: location(items=(Item(1, bytes(256)),)).write(V13), "item 0x01 has 256 bytes"),
        (lambda: Item.of(0x31, 256, 1), "256 does not fit item 0x31"),
        (lambda: u8(-1), "does not fit a BYTE"),
        (lambda: u16(1 << 16), "does not fit a WORD"),
        (lambda: u32(-1), "does not fit a DWORD"),
        (lambda: digits("12 4", 2), "use 4 digits"),
        (lambda: fixed(Text(b"12345"), 4), "5 bytes where 4"),
    ],
)
def test_what_cannot_be_sent_says_why(make: Callable[[], object], why: str) -> None:
    with pytest.raises(EncodeError, match=why):
        make()


def test_what_the_simulator_sends_is_what_the_platform_reads() -> None:
    registration = Registration(33, 4, Text(b"MAKER"), Text(b"M1"), Text(b"0000001"), 2, Text.of("浙FA12345"))
    attributes = Attributes(3, Text(b"MAKER"), Text(b"M1"), Text(b"1"), "0" * 20, NO_TEXT, NO_TEXT, 3, 255)
    sent: tuple[Message, ...] = (registration, attributes, location(items=(Item.of(0x31, 9, 1),)))
    for message in sent:
        (raw,) = encode(message, Address.of("13800138000", V13), 1)
        (frame,) = read_datagram(raw)
        assert isinstance(frame, Frame)
        assert encode(parse(frame), Address.of_frame(frame, V13), 1) == (raw,)
