"""Orders: what they become on the wire, and what is said to a person who writes a wrong one."""

import pytest

from drivers.jt808.codec import (
    Area,
    AreaBit,
    DeleteCircles,
    DeleteRoutes,
    DriverText,
    EncodeError,
    Opaque,
    Parameter,
    QueryListed,
    QueryLocation,
    QueryParameters,
    SectionBit,
    SetCircles,
    SetParameters,
    SetPolygon,
    SetRectangles,
    SetRoute,
    Shoot,
    SpeedRule,
    Text,
    Track,
    Version,
    Window,
)
from drivers.jt808.requests import ACTIONS, Desk, Waiting, compose
from drivers.wishes import WishError

CORNERS = [{"lat_e7": 1, "lon_e7": 2}, {"lat_e7": 30, "lon_e7": 40}, {"lat_e7": 500, "lon_e7": 60}]


@pytest.mark.parametrize(
    ("action", "parameters", "message"),
    [
        ("locate", {}, QueryLocation()),
        ("track", {"interval_s": 5, "validity_s": 600}, Track(5, 600)),
        ("track", {"interval_s": 0}, Track(0)),
        ("text", {"text": "绕行"}, DriverText(12, Text.of("绕行"), 1)),
        ("text", {"text": "x", "urgent": True, "display": False, "kind": "service"}, DriverText(9, Text(b"x"), 2)),
        ("shoot", {}, Shoot(1, resolution=2)),
        ("shoot", {"channel": 3, "video_s": 10}, Shoot(3, 0xFFFF, 10, resolution=2)),
        ("shoot", {"stop": True}, Shoot(1, 0, resolution=2)),
        ("set", {"parameters": {"interval_default_s": 10}}, SetParameters((Parameter.of(0x29, 10),))),
        ("set", {"parameters": {"0x0083": "浙F1", "0x0110": "00ff"}},
         SetParameters((Parameter.of(0x83, "浙F1"), Parameter(0x110, b"\0\xff")))),
        ("query", {}, QueryParameters()),
        ("query", {"parameters": ["plate", 41]}, QueryListed((0x83, 0x29))),
        ("query", {"attributes": True}, Opaque(0x8107, b"", "")),
        ("route", {"delete": [7]}, DeleteRoutes((7,))),
        ("area", {"shape": "circle", "action": "delete"}, DeleteCircles()),
    ],
)  # fmt: skip
def test_orders_as_messages(action, parameters, message):
    assert compose(action, parameters) == ([message], 15)


def test_areas():
    circle = {"id": 1, "lat_e7": -300_000_004, "lon_e7": 1_200_000_006, "radius_m": 50, "enter": "both",
              "max_kmh": 30, "night_kmh": 20, "from": "20:00:00", "to": "05:30:00", "name": "工地"}  # fmt: skip
    ((message,), _) = compose("area", {"shape": "circle", "areas": [circle]})
    bits = AreaBit.TIMED | AreaBit.SPEED | AreaBit.ENTER_TO_DRIVER | AreaBit.ENTER_TO_PLATFORM | AreaBit.SOUTH
    window = Window("000000200000", "000000053000")
    speed = SpeedRule(30, 10, 20)
    area = Area(1, bits, (30_000_000, 120_000_001, 50), window, speed, Text.of("工地"))
    assert message == SetCircles(SetCircles.APPEND, (area,))
    box = {"id": 2, "north_e7": 20, "west_e7": 10, "south_e7": 0, "east_e7": 30, "leave": "driver"}
    ((message,), _) = compose("area", {"shape": "rectangle", "action": "update", "areas": [box]})
    assert message == SetRectangles(SetRectangles.UPDATE, (Area(2, AreaBit.LEAVE_TO_DRIVER, (2, 1, 0, 3)),))
    ((message,), _) = compose("area", {"shape": "polygon", "areas": [{"id": 3, "points": CORNERS}]})
    assert message == SetPolygon(3, 0, ((0, 0), (3, 4), (50, 6)))
    for version in Version:
        assert message.write(version)


def test_routes():
    points = [{"lat_e7": 10, "lon_e7": 20, "width_m": 60, "max_kmh": 40}, {"lat_e7": 30, "lon_e7": -40, "long_s": 60,
              "short_s": 5}]  # fmt: skip
    ((message,), timeout_s) = compose("route", {"id": 9, "points": points, "timeout_s": 60})
    assert timeout_s == 60
    assert isinstance(message, SetRoute)
    first, second = message.points
    assert (first.lat_raw, first.lon_raw, first.width_m, first.attributes) == (1, 2, 60, SectionBit.SPEED)
    assert (second.lon_raw, second.times_s, second.attributes) == (4, (60, 5), SectionBit.TIMED | SectionBit.WEST)
    assert message.write(Version.V2019)


@pytest.mark.parametrize(
    ("action", "parameters", "text"),
    [
        ("fly", {}, "no action 'fly' for JT/T 808; there are locate, track"),
        ("locate", {"x": 1}, "x: not known here; known: timeout_s"),
        ("track", {}, "interval_s: missing; give a whole number from 0 to 65535"),
        ("track", {"interval_s": "5"}, "interval_s: '5' is not a whole number"),
        ("track", {"interval_s": 5}, "validity_s: missing"),
        ("text", {}, "text: missing; give a text"),
        ("text", {"text": "x", "urgent": 1}, "urgent: 1 is neither true nor false"),
        ("text", {"text": "x", "kind": "joke"}, "kind: 'joke' is not known; use notice, service"),
        ("text", {"text": "\U0001f600"}, "no GBK code"),
        ("shoot", {"channel": 0}, "channel: 0 is not a whole number from 1 to 255"),
        ("set", {}, "parameters: empty"),
        ("set", {"parameters": {"speed": 3}}, "no parameter 'speed'"),
        ("set", {"parameters": {"interval_default_s": -1}}, "does not fit"),
        ("set", {"parameters": {"interval_default_s": True}}, "give a number or a text"),
        ("set", {"parameters": {"0x0110": "zz"}}, "is not hexadecimal"),
        ("set", {"parameters": []}, "parameters: [] is no object"),
        ("query", {"parameters": ["plate"] * 256}, "is no list of at most 255"),
        ("query", {"parameters": [-1]}, "-1 is no id"),
        ("area", {}, "shape: missing; use circle, rectangle, polygon"),
        ("area", {"shape": "circle"}, "areas: missing"),
        ("area", {"shape": "circle", "areas": [3]}, "areas[0]: 3 is no object"),
        ("area", {"shape": "circle", "areas": [{"id": 1, "lat_e7": 0, "lon_e7": 0}]}, "areas[0].radius_m: missing"),
        ("area", {"shape": "polygon", "areas": [{"id": 1, "points": CORNERS[:2]}]}, "at least three points"),
        ("area", {"shape": "circle", "action": "delete", "ids": ["a"]}, "ids: 'a' is no id"),
        ("route", {"id": 1, "points": []}, "points: give at least two"),
        ("route", {"id": 1, "from": "25:00:00", "to": "05:00:00", "points": CORNERS}, "from: '25:00:00' is no time"),
        ("route", {"id": 1, "points": [{**CORNERS[0], "width_m": 300}, CORNERS[1]]}, "points[0].width_m: 300"),
    ],
)
def test_mistakes_are_told_in_one_line(action, parameters, text):
    with pytest.raises((WishError, EncodeError)) as caught:
        compose(action, parameters)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def waiting(action: str, *serials: int) -> Desk:
    desk = Desk()
    desk.wait(Waiting(7, "1", action, {serial: number for number, serial in enumerate(serials)}, 15))
    return desk


def test_an_order_is_done_when_its_answer_comes():
    desk = waiting("locate", 4)
    assert desk.answered("2", 0x0201, 4, 0, {}) == (False, None)
    assert desk.answered("1", 0x0201, 5, 0, {}) == (False, None)
    assert desk.answered("1", 0x0001, 4, 0, {}) == (True, None)  # heard; the position follows
    known, found = desk.answered("1", 0x0201, 4, 0, {"fix": 1})
    assert known
    assert found
    assert (found[0], found[1].state, found[1].result) == (7, "done", {"fix": 1})
    assert desk.answered("1", 0x0201, 4, 0, {}) == (False, None)


@pytest.mark.parametrize(("action", "msg_id", "text"), [("locate", 1, "not supported"), ("shoot", 0x0805, "3")])
def test_a_device_may_refuse(action, msg_id, text):
    _, found = waiting(action, 4).answered("1", msg_id, 4, 3, {})
    assert found
    assert (found[1].state, found[1].detail) == ("refused", f"the device answers: {text}")


def test_several_messages_are_done_together():
    desk = waiting("area", 4, 5)
    assert desk.answered("1", 0x0001, 5, 0, {}) == (True, None)
    _, found = desk.answered("1", 0x0001, 4, 0, {})
    assert found
    assert found[1].state == "done"


def test_waiting_ends():
    desk = waiting("locate", 4)
    assert desk.timed_out(7, 14) is None
    assert desk.timed_out(7, 15) is not None
    assert desk.count("1") == 0
    assert [one.ticket for one in waiting("set", 1).drop("1")] == [7]


def test_every_action_has_answers():
    assert all(answers for _, answers in ACTIONS.values())
