"""The demo's forty-five minutes of ten muck trucks: their rule book, their devices, their tours, what is planted.

Everything is made from one anchor near Pinghu (30.70 N, 121.02 E); streets, firms, plates and permits are invented.
Times are relative to a given "now", so that permits are valid and hours are right whenever the demo runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from drivers.fleet.hauls import EMPTY, EMPTY_KMH, LOADED, Plan, Planted, tours
from drivers.fleet.journeys import Drive, Path, Place, moved
from drivers.fleet.vehicles import DeviceClock, Trouble, Vehicle
from drivers.jt808.codec import Version
from drivers.jt808.simulated import EGS701, PLAIN, Model
from drivers.jt808.simulator import Habits, Terminal

ANCHOR: Final[Place] = (307_000_000, 1_210_200_000)
SPAN_S: Final = 2760
"""Device time of the whole: two tours."""
FOR_S: Final = 25.0
"""Real time that it takes by default."""
CLASS: Final = "muck-truck"
LOSS_PERCENT: Final = 2.0
DAMAGE_PERCENT: Final = 1.0

_ZONE: Final = timedelta(hours=8)
_LAW: Final = "Demonstration only; compare Ministry of Construction order 139 (2005), art. 14"
_WAY_1: Final = ((0, 0), (600, 0), (600, 500), (2100, 500), (2100, 1100), (3100, 1100))
_WAY_2: Final = ((200, 3000), (900, 3000), (900, 2400), (2400, 2400), (2400, 3000), (3300, 3000))
_WAY_3: Final = ((-300, -2500), (600, -2500), (600, -1600), (2200, -1600), (2200, -1000), (2600, -1000))
"""Metres (north, east) from the anchor."""
_YARD_M: Final = 90
_FORBIDDEN: Final = ((1150, -1300), (1150, -1050), (1650, -1050), (1650, -1300))
"""Beside way 3: whoever leaves that way to the right drives through it."""
_ZONE_60: Final = ((1500, 300), (1500, 1300), (2700, 1300), (2700, 300))


class Expected(NamedTuple):
    """One finding that must come."""

    rule: str
    device: str
    start_utc_s: int
    end_utc_s: int


class Crew(NamedTuple):
    """One truck of the demo."""

    way: int
    plants: tuple[str | None, ...]
    """Of its tours (`drivers.fleet.hauls.tours`)."""
    nuisances: tuple[str, ...] = ()
    permit: Literal["day", "night", "free", "expired"] = "day"
    """`night`: not for these hours; `free`: no route is set, and the detour leads through the forbidden quarter."""
    model: Model = EGS701


CREWS: Final = (
    Crew(1, (None, None), ("traffic-lights", "blind-zone")),
    Crew(2, (None, None), ("traffic-lights", "jump", "shuffled", "blind-zone")),
    Crew(1, ("off-route", "power-cut")),
    Crew(2, (None,), permit="night"),
    Crew(1, ("dumping", "uncovered")),
    Crew(2, ("speeding", "frozen-gnss")),
    Crew(1, ("dumping-lead", "offline"), model=PLAIN),
    Crew(3, ("off-route", "sensors-lost+duplicate-identity"), permit="free"),
    Crew(2, (None,), permit="expired"),
    Crew(1, ("antenna-cut+jammed", "mileage")),
)
"""The first two do nothing wrong; the second has a bad line."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it."""

    files: Mapping[str, bytes]
    """The folder of the rule book."""
    devices_toml: str
    vehicles: tuple[Vehicle, ...]
    """The trucks, and behind them further devices that use the identity of one of them."""
    models: tuple[Model, ...]
    planted: tuple[Expected, ...]
    start_utc_s: int
    now_utc_s: int
    for_s: float

    def terminals(self, begin_mono_s: float) -> list[Terminal]:
        """One terminal per vehicle, of all editions, on a clock that is fast until it has caught up."""
        clock = DeviceClock(begin_mono_s, self.now_utc_s, SPAN_S, SPAN_S / self.for_s)
        editions = (Version.V2013, Version.V2019, Version.V2011)
        return [
            Terminal(
                vehicle,
                clock,
                Habits(
                    version=editions[number % 3] if number < len(CREWS) else Version.V2013,
                    model=model,
                    reply_timeout_s=1,
                    loss_percent=LOSS_PERCENT if number == 1 else 0.0,
                    damage_percent=DAMAGE_PERCENT if number == 1 else 0.0,
                ),
            )
            for number, (vehicle, model) in enumerate(zip(self.vehicles, self.models, strict=True))
        ]


def scenario(now_utc_s: int, *, for_s: float = FOR_S) -> Scenario:
    """The demo as it looks if it is started now and takes `for_s`."""
    clock = DeviceClock(0.0, now_utc_s, SPAN_S, SPAN_S / for_s)
    start_utc_s = int(clock.start_utc_s)
    vehicles: list[Vehicle] = []
    models: list[Model] = []
    expected: list[Expected] = []
    ghosts: list[Vehicle] = []
    for number, crew in enumerate(CREWS):
        plan = tours(way(crew.way), crew.plants, crew.nuisances)
        vehicle = Vehicle(
            identity=str(13_805_730_001 + number),
            plate=_plate(number),
            journey=plan.journey(),
            start_utc_s=start_utc_s,
            seed=1000 + number,
            troubles=tuple(plan.troubles),
            firm=_firm(number),
            end_utc_s=start_utc_s + SPAN_S,
            shuffled="shuffled" in crew.nuisances,
        )
        vehicles.append(vehicle)
        models.append(crew.model)
        for one in _expected(crew, plan):
            begin, end = (start_utc_s + round(at_s) for at_s in (one.from_s, one.to_s))
            if one.kind == "duplicate-identity":
                ghosts.append(_ghost(vehicle, begin, end))
                # links have no device time: the second one is seen when it comes
                begin, end = (round(now_utc_s + clock.mono_s(at)) for at in (begin, end))
            expected.append(Expected(one.kind, vehicle.identity, begin, end))
    files = {
        "demo-rules.toml": _rules(start_utc_s).encode(),
        "demo-permits.toml": _permits(start_utc_s).encode(),
        "demo-places.geojson": _places(),
        "demo-routes.geojson": _routes(),
    }
    return Scenario(
        files=files,
        devices_toml=_devices(vehicles),
        vehicles=(*vehicles, *ghosts),
        models=(*models, *(EGS701 for _ in ghosts)),
        planted=tuple(sorted(expected)),
        start_utc_s=start_utc_s,
        now_utc_s=now_utc_s,
        for_s=for_s,
    )


def way(number: int) -> Path:
    """One of the ways, from the middle of its site to the middle of its ground."""
    return Path([moved(ANCHOR, *corner) for corner in (_WAY_1, _WAY_2, _WAY_3)[number - 1]])


# ------------------------------------------------------------------------------------------ any fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What `fieldgate simulate` is asked for."""

    ways: Sequence[Path]
    trucks: int = 10
    first_identity: int = 13_905_730_001
    editions: Sequence[Version] = (Version.V2013,)
    interval_s: int = 10
    speed_up: float = 1.0
    loss_percent: float = 0.0
    damage_percent: float = 0.0
    blind_zones_s: Sequence[tuple[float, float]] = ()
    """Seconds since the beginning, of every truck."""
    plants: Sequence[str] = ()
    """The first truck does the first, the second the second, …"""
    seed: int = 1
    for_s: float | None = None


def fleet(wish: Wish, now_utc_s: int, begin_mono_s: float) -> list[Terminal]:
    """Terminals for a wish; trucks without a plant are spread over their tours."""
    clock = _clock(wish, now_utc_s, begin_mono_s)
    terminals: list[Terminal] = []
    for number in range(wish.trucks):
        vehicle, ghost = _vehicle(wish, number, clock)
        model = PLAIN if number < len(wish.plants) and wish.plants[number] == "dumping-lead" else EGS701
        habits = Habits(
            version=wish.editions[number % len(wish.editions)],
            model=model,
            loss_percent=wish.loss_percent,
            damage_percent=wish.damage_percent,
        )
        terminals += [Terminal(one, clock, habits) for one in (vehicle, ghost) if one is not None]
    return terminals


def one_vehicle(wish: Wish, now_utc_s: int, begin_mono_s: float) -> tuple[DeviceClock, Vehicle]:
    """The clock and one vehicle with all that is planted, one thing in each of its tours."""
    clock = _clock(wish, now_utc_s, begin_mono_s)
    plan = tours(wish.ways[0], wish.plants or (None,))
    return clock, _of_plan(wish, 0, clock, plan, int(clock.start_utc_s))


def _clock(wish: Wish, now_utc_s: int, begin_mono_s: float) -> DeviceClock:
    span_s = 3600.0 if wish.for_s is None else wish.for_s * wish.speed_up
    return DeviceClock(begin_mono_s, now_utc_s, span_s, wish.speed_up)


def _vehicle(wish: Wish, number: int, clock: DeviceClock) -> tuple[Vehicle, Vehicle | None]:
    plant = wish.plants[number] if number < len(wish.plants) else None
    plan = tours(wish.ways[number % len(wish.ways)], (plant, None))
    start_utc_s = int(clock.start_utc_s)
    early_s = 0 if plant else int(number * 137 % plan.journey().for_s) // wish.interval_s * wish.interval_s
    vehicle = _of_plan(wish, number, clock, plan, start_utc_s - early_s)
    if plant != "duplicate-identity":
        return vehicle, None
    begin, end = (start_utc_s + round(at_s) for at_s in plan.planted[0][1:])
    return vehicle, _ghost(vehicle, begin, end)


def _of_plan(wish: Wish, number: int, clock: DeviceClock, plan: Plan, start_utc_s: int) -> Vehicle:
    early_s = clock.start_utc_s - start_utc_s
    blind = (Trouble("blind", begin + early_s, end + early_s) for begin, end in wish.blind_zones_s)
    end_utc_s = None
    if wish.for_s is not None:
        end_utc_s = int(clock.utc_s(clock.begin_mono_s + wish.for_s))
    return Vehicle(
        identity=str(wish.first_identity + number),
        plate=f"浙F{90_001 + number}",
        journey=plan.journey(repeats=True),
        start_utc_s=start_utc_s,
        seed=wish.seed * 10_007 + number,
        interval_s=wish.interval_s,
        troubles=(*plan.troubles, *blind),
        end_utc_s=end_utc_s,
        firm=_firm(number),
    )


# ------------------------------------------------------------------------------------------ trucks


def _expected(crew: Crew, plan: Plan) -> list[Planted]:
    """What the rules have to find, under the names of RULES.md."""
    free = crew.permit == "free"
    found = [one._replace(kind="no-entry") if free and one.kind == "off-route" else one for one in plan.planted]
    rule = {"night": "hours", "expired": "no-permit"}.get(crew.permit)
    journey = plan.journey()
    for number, step in enumerate(plan.steps):
        if rule and isinstance(step, Drive) and step.state == LOADED:
            found.append(Planted(rule, journey.begins_s(number), journey.when_s(number, step.path.length_m)))
    return found


def _ghost(vehicle: Vehicle, begin_utc_s: int, end_utc_s: int) -> Vehicle:
    """Another device far away that says it is this vehicle."""
    elsewhere = Path([moved(ANCHOR, *corner) for corner in ((5000, -6000), (6500, -6000))])
    plan = Plan([Drive(elsewhere, EMPTY_KMH, EMPTY)])
    return Vehicle(
        identity=vehicle.identity,
        plate=vehicle.plate,
        journey=plan.journey(),
        start_utc_s=begin_utc_s,
        seed=vehicle.seed + 500,
        end_utc_s=end_utc_s,
        firm=vehicle.firm,
    )


def _plate(number: int) -> str:
    return f"浙F{80_101 + number}"


def _firm(number: int) -> str:
    return f"演示渣土运输{'一二三'[number % 3]}队"


# ------------------------------------------------------------------------------------------ files


def _local(utc_s: int) -> datetime:
    return datetime.fromtimestamp(utc_s, UTC) + _ZONE


def _day(utc_s: int, days: int) -> str:
    return (_local(utc_s) + timedelta(days=days)).strftime("%Y-%m-%d")


def _hour(utc_s: int, hours: float) -> str:
    return (_local(utc_s) + timedelta(hours=hours)).strftime("%H:%M")


def _rules(start_utc_s: int) -> str:
    """The rule set. Days of judging are cut twelve hours from the demo."""
    law = json.dumps(_LAW)
    return f"""\
# Made for the demo. Streets, firms, plates and permits are invented; the sources are named for show.
format = "rules/v1"
id = "demo"
title = "演示规则"
valid_from = {_day(start_utc_s, -30)}
classes = [{json.dumps(CLASS)}]
day_starts = "{_hour(start_utc_s, 12)}"

[off_route]
source = {law}
[hours]
source = {law}
[speeding]
source = {law}
[fence]
source = {law}
[stop]
[dumping]
source = {law}
[uncovered]
source = {law}
[offline]
source = {law}
[frozen_gnss]
[mileage]
distance_m = 2000
[jump]
[duplicate]
"""


def _permits(start_utc_s: int) -> str:
    day = f'[["{_hour(start_utc_s, -2)}", "{_hour(start_utc_s, 4)}"]]'
    night = f'[["{_hour(start_utc_s, 6)}", "{_hour(start_utc_s, 12)}"]]'
    tables = ["# Made for the demo.\n" + 'format = "permits/v1"\n']
    for number, crew in enumerate(CREWS):
        last = _day(start_utc_s, -3 if crew.permit == "expired" else 20)
        valid = f"valid_from = {_day(start_utc_s, -30)}\nvalid_to = {last}\n"
        route = "" if crew.permit == "free" else f'route = "way-{crew.way}"\nwidth_m = 60\n'
        tables.append(
            f'[[permit]]\nnumber = "演示-{number + 1:04}"\nfirm = "{_firm(number)}"\nvehicles = ["{_plate(number)}"]\n'
            f"{route}hours = {night if crew.permit == 'night' else day}\n"
            f'sites = ["site-{crew.way}"]\ngrounds = ["ground-{crew.way}"]\nspeed_kmh = 60\n{valid}'
        )
    return "\n".join(tables)


def _places() -> bytes:
    features = []
    for number in (1, 2, 3):
        points = way(number).points
        for kind, name, middle in (("site", "号工地", points[0]), ("ground", "号消纳场", points[-1])):
            square = [(-_YARD_M, -_YARD_M), (-_YARD_M, _YARD_M), (_YARD_M, _YARD_M), (_YARD_M, -_YARD_M)]
            ring = [moved(middle, *corner) for corner in square]
            features.append(_area(f"{kind}-{number}", kind, f"演示{number}{name}", ring))
    features.append(_area("quarter", "no-entry", "演示禁行区", [moved(ANCHOR, *corner) for corner in _FORBIDDEN]))
    slow = _area("zone-60", "zone", "演示限速区", [moved(ANCHOR, *corner) for corner in _ZONE_60])
    slow["properties"]["speed_kmh"] = 60
    return _collection([*features, slow])


def _routes() -> bytes:
    return _collection(
        [
            {
                "type": "Feature",
                "properties": {"id": f"way-{number}", "kind": "route", "name": f"演示{number}号线", "width_m": 60},
                "geometry": {"type": "LineString", "coordinates": _positions(way(number).points)},
            }
            for number in (1, 2, 3)
        ]
    )


def _area(place_id: str, kind: str, name: str, ring: Sequence[Place]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "properties": {"id": place_id, "kind": kind, "name": name, "source": "demo"},
        "geometry": {"type": "Polygon", "coordinates": [_positions([*ring, ring[0]])]},
    }


def _positions(points: Sequence[Place]) -> list[list[float]]:
    return [[lon / 1e7, lat / 1e7] for lat, lon in points]


def _collection(features: Sequence[Mapping[str, Any]]) -> bytes:
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features)
    head = '"type": "FeatureCollection", "datum": "WGS-84", "note": "made for the demo, streets invented"'
    return f'{{{head}, "features": [\n{lines}\n]}}\n'.encode()


def _devices(vehicles: Sequence[Vehicle]) -> str:
    tables = [
        f"""\
format = "devices/v1"

[[class]]
id = "{CLASS}"
title = "渣土车"
enrolment = "listed"
privacy = "open"
profile = "muck-egs701"
judged = true
"""
    ]
    for vehicle, crew in zip(vehicles, CREWS, strict=True):
        profile = "" if crew.model.dialect else 'profile = "jt808"\n'
        tables.append(
            f'[[device]]\nid = "{vehicle.identity}"\nclass = "{CLASS}"\nplate = "{vehicle.plate}"\n'
            f'firm = "{vehicle.firm}"\n{profile}interval_s = {vehicle.interval_s}\n'
        )
    return "\n".join(tables)
