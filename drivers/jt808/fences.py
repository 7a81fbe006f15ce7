"""Orders `area` and `route`: what a terminal is to watch by itself, from the parameters of a person. Pure.

    area   {"action": "update"|"append"|"modify"|"delete", "shape": "circle"|"rectangle"|"polygon",
            "areas": [{"id", … , "name", "max_kmh", "duration_s", "night_kmh", "from", "to", "enter", "leave"}]}
               circle: lat_e7, lon_e7, radius_m; rectangle: north_e7, west_e7, south_e7, east_e7; polygon: points
            "ids": [1, 2] for delete; none deletes all of the shape
    route  {"id", "name", "from", "to", "points": [{"lat_e7", "lon_e7", "width_m", "max_kmh", "duration_s",
            "night_kmh", "long_s", "short_s"}]}, or {"delete": [ids]}; none deletes all

Coordinates are WGS-84 in 1e-7 degree and are sent in 1e-6. `from` and `to` are `hh:mm:ss`, for every day, or
`YYYY-MM-DDThh:mm:ss`. `enter` and `leave`: none, driver, platform or both are told.
"""

from __future__ import annotations

import re
from typing import Final

from drivers.jt808.codec import (
    Area,
    AreaBit,
    DeleteCircles,
    DeletePolygons,
    DeleteRectangles,
    DeleteRoutes,
    Message,
    Point,
    SectionBit,
    SetCircles,
    SetPolygon,
    SetRectangles,
    SetRoute,
    SpeedRule,
    Text,
    Window,
)
from drivers.jt808.wire import NO_TEXT, read_time
from drivers.wishes import WishError, Wishes

AREAS_MAX: Final = 100
POINTS_MAX: Final = 1000
WIDTH_MAX_M: Final = 255
_ID_MAX: Final = 0xFFFF_FFFF
_LAT_MAX_E7, _LON_MAX_E7 = 900_000_000, 1_800_000_000
_SHAPES: Final = ("circle", "rectangle", "polygon")
_DELETES: Final = {"circle": DeleteCircles, "rectangle": DeleteRectangles, "polygon": DeletePolygons}
_ACTIONS: Final = {"update": SetCircles.UPDATE, "append": SetCircles.APPEND, "modify": SetCircles.MODIFY}
_TOLD: Final = ("none", "driver", "platform", "both")
_MOMENT: Final = re.compile(r"(?:20(\d\d)-(\d\d)-(\d\d)T)?(\d\d):(\d\d):(\d\d)", re.ASCII)


def area(wishes: Wishes) -> list[Message]:
    """The messages of an order `area`. Raises WishError."""
    shape = wishes.word("shape", _SHAPES)
    action = wishes.word("action", (*_ACTIONS, "delete"), "append")
    if action == "delete":
        return [_DELETES[shape](_ids(wishes, "ids"))]
    given = wishes.inner("areas", AREAS_MAX)
    if not given:
        raise WishError("areas: missing; give at least one")
    if shape == "polygon":
        return [_polygon(one) for one in given]
    areas = tuple(_circle(one) if shape == "circle" else _rectangle(one) for one in given)
    kind = SetCircles if shape == "circle" else SetRectangles
    return [kind(_ACTIONS[action], areas)]


def route(wishes: Wishes) -> list[Message]:
    """The message of an order `route`. Raises WishError."""
    if wishes.has("delete"):
        return [DeleteRoutes(_ids(wishes, "delete"))]
    route_id = wishes.number("id", 0, _ID_MAX)
    given = wishes.inner("points", POINTS_MAX)
    if len(given) < 2:
        raise WishError("points: give at least two")
    window, bits = _window(wishes)
    points = tuple(_point(number, one) for number, one in enumerate(given, 1))
    return [SetRoute(route_id, bits, points, window, _name(wishes))]


def _ids(wishes: Wishes, key: str) -> tuple[int, ...]:
    given = wishes.sequence(key, 255)
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one <= _ID_MAX:
            raise WishError(f"{key}: {one!r} is no id from 0 to {_ID_MAX}")
    return tuple(given)


def _circle(one: Wishes) -> Area:
    lat, lon, bits = _place(one, "lat_e7", "lon_e7")
    return _area(one, (lat, lon, one.number("radius_m", 1, _ID_MAX)), bits)


def _rectangle(one: Wishes) -> Area:
    north, west, bits = _place(one, "north_e7", "west_e7")
    south, east, others = _place(one, "south_e7", "east_e7")
    if bits != others:
        raise WishError("areas: a rectangle across the equator or Greenwich cannot be said in JT/T 808")
    return _area(one, (north, west, south, east), bits)


def _area(one: Wishes, shape: tuple[int, ...], bits: int) -> Area:
    window, timed = _window(one)
    speed, fast = _speed(one)
    found = Area(one.number("id", 0, _ID_MAX), bits | timed | fast | _told(one), shape, window, speed, _name(one))
    one.finish()
    return found


def _polygon(one: Wishes) -> SetPolygon:
    places = [_place(point, "lat_e7", "lon_e7") for point in one.inner("points", POINTS_MAX)]
    if len(places) < 3:
        raise WishError("areas: a polygon has at least three points")
    if len({bits for _, _, bits in places}) > 1:
        raise WishError("areas: a polygon across the equator or Greenwich cannot be said in JT/T 808")
    window, timed = _window(one)
    speed, fast = _speed(one)
    bits = places[0][2] | timed | fast | _told(one)
    vertices = tuple((lat, lon) for lat, lon, _ in places)
    found = SetPolygon(one.number("id", 0, _ID_MAX), bits, vertices, window, speed, _name(one))
    one.finish()
    return found


def _point(number: int, one: Wishes) -> Point:
    lat, lon, place = _place(one, "lat_e7", "lon_e7")
    bits = (SectionBit.SOUTH if place & AreaBit.SOUTH else 0) | (SectionBit.WEST if place & AreaBit.WEST else 0)
    speed, fast = _speed(one)
    times = None
    if one.has("long_s") or one.has("short_s"):
        times = (one.number("long_s", 0, 65_535), one.number("short_s", 0, 65_535))
    bits |= (SectionBit.SPEED if fast else 0) | (SectionBit.TIMED if times else 0)
    found = Point(number, number, lat, lon, one.number("width_m", 1, WIDTH_MAX_M, 50), bits, times, speed)
    one.finish()
    return found


def _place(one: Wishes, lat_key: str, lon_key: str) -> tuple[int, int, int]:
    """Magnitudes in 1e-6 degree, and the attributes that name the hemispheres."""
    lat, lon = one.number(lat_key, -_LAT_MAX_E7, _LAT_MAX_E7), one.number(lon_key, -_LON_MAX_E7, _LON_MAX_E7)
    bits = (AreaBit.SOUTH if lat < 0 else 0) | (AreaBit.WEST if lon < 0 else 0)
    return (abs(lat) + 5) // 10, (abs(lon) + 5) // 10, int(bits)


def _speed(one: Wishes) -> tuple[SpeedRule | None, int]:
    if not one.has("max_kmh"):
        return None, 0
    rule = SpeedRule(
        one.number("max_kmh", 1, 65_535), one.number("duration_s", 0, 255, 10), one.number("night_kmh", 0, 65_535, 0)
    )
    return rule, int(AreaBit.SPEED)


def _window(one: Wishes) -> tuple[Window | None, int]:
    if not one.has("from") and not one.has("to"):
        return None, 0
    return Window(_moment(one, "from"), _moment(one, "to")), int(AreaBit.TIMED)


def _moment(one: Wishes, key: str) -> str:
    text = one.text(key)
    found = _MOMENT.fullmatch(text)
    digits = "".join(part or "00" for part in found.groups()) if found else ""
    daily = found is not None and found[1] is None
    if not found or read_time(f"240101{digits[6:]}" if daily else digits) is None:
        raise WishError(f"{key}: {text[:40]!r} is no time; use hh:mm:ss, or YYYY-MM-DDThh:mm:ss")
    return digits


def _told(one: Wishes) -> int:
    bits = 0
    enter, leave = one.word("enter", _TOLD, "none"), one.word("leave", _TOLD, "none")
    bits |= AreaBit.ENTER_TO_DRIVER if enter in ("driver", "both") else 0
    bits |= AreaBit.ENTER_TO_PLATFORM if enter in ("platform", "both") else 0
    bits |= AreaBit.LEAVE_TO_DRIVER if leave in ("driver", "both") else 0
    return int(bits | (AreaBit.LEAVE_TO_PLATFORM if leave in ("platform", "both") else 0))


def _name(one: Wishes) -> Text:
    name = one.text("name", "")
    return Text.of(name) if name else NO_TEXT
