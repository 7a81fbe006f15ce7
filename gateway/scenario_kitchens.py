"""The demo's four hours of six restaurants, and the twelve hours of a street of twenty: kitchens, rule book, what is
planted.

Streets, firms and numbers are invented; times are relative to a given "now", so that business hours are right whenever
it runs. Monitors of HJ 212 keep DataTime: their hours are compressed into seconds. Devices on a Modbus bus have no
time of their own, what they say happens when it is read: their planted event takes real seconds, and a rule set of
their class has thresholds of seconds. In the field it would have those of the monitors. A monitor that is silent cannot
be planted into the demo: of hours in which the gateway itself did not run it says nothing. The street has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from drivers.fleet.kitchens import Kitchen, Upset, UpsetKind, shifts_of
from drivers.fleet.vehicles import DeviceClock
from drivers.hj212.simulated import DialectName, Edition
from drivers.hj212.simulator import Habits, Monitor
from drivers.modbus.simulator import Bus, Fault, Unit, concentrator, meter
from gateway.scenario import Expected

SPAN_S: Final = 4 * 3600
"""Device time of the demo."""
FOR_S: Final = 25.0
"""Real time that it takes by default."""
CLASS: Final = "fume-monitor"
BUS_CLASS: Final = "fume-bus"
SOURCE: Final = "kitchens"
BUS_SOURCE: Final = "kitchen-bus"
HOUR_S: Final = 3600
STREET_S: Final = 12 * 3600
STREET_KITCHENS: Final = 20
DAY_BEFORE_S: Final = 10 * HOUR_S
ALIGN_S: Final = 600
"""Windows of means begin at whole multiples of it; what is planted too, so that no window is half of it."""
BUS_INTERVAL_S: Final = 0.5
REPLY_S: Final = 1.0
WINDOW: Final = 16
"""Compressed time: a monitor with the usual window of 4 could not send a minute in a tenth of a second."""

_ZONE: Final = timedelta(hours=8)
_LAW: Final = "Demonstration only; compare GB 18483-2001 and Air Pollution Prevention Law art. 81, 118"
_LIMIT: Final = "GB 18483-2001 (demonstration)"
CONVERTED: Final = "fume-converted"
"""Below the limit as measured, above it once converted to the base air volume."""
_DIALECTS: Final[tuple[DialectName, ...]] = ("fume-d3", "fume-d1", "fume-d2")
_EDITIONS: Final[tuple[Edition, ...]] = (2017, 2025, 2005)


class _Event(NamedTuple):
    """How something is planted."""

    upset: UpsetKind | None
    amount: int
    for_s: int
    rules: tuple[str, ...]
    """Under the names of RULES.md; `value-jump` is found twice, up and down."""


_EVENTS: Final[Mapping[str, _Event]] = {
    "purifier-off": _Event("purifier-off", 150, 1200, ("purifier-off",)),
    "fume-sustained": _Event("exceedance", 250, 2400, ("fume-sustained",)),
    "fume-limit": _Event("exceedance", 340, 3600, ("fume-sustained", "fume-limit")),
    "fume-converted": _Event("exceedance", 130, 1800, ("fume-sustained",)),
    "purifier-current": _Event("purifier-weak", 30, 1800, ("purifier-current",)),
    "fume-fan-off": _Event("fan-off", 150, 1200, ("fume-fan-off",)),
    "monitor-offline": _Event("offline", 0, 1800, ("monitor-offline",)),
    "flat-line": _Event("flat", 0, 4800, ("flat-line",)),
    "out-of-range": _Event("negative", 30, 900, ("out-of-range",)),
    "value-jump": _Event("jump", 14, 600, ("value-jump",)),
    "calibration": _Event(None, 0, 0, ("calibration",)),
}
PLANTS: Final = tuple(_EVENTS)
NUISANCES: Final[Mapping[str, tuple[UpsetKind, int, int]]] = {
    "spike": ("spike", 12, 60),
    "lost": ("lost", 0, 60),
    "late": ("late", 0, 720),
}
"""What looks odd and is nothing: kind, amount, length in seconds."""


class Cook(NamedTuple):
    """One restaurant of a scenario."""

    plants: tuple[tuple[str, int], ...] = ()
    """What, and how many minutes after the begin."""
    nuisances: tuple[tuple[str, int], ...] = ()
    habits: Habits = Habits()
    break_min: tuple[int, int] | None = None
    """Minutes after the begin in which nobody cooks."""


COOKS: Final = (
    Cook((("purifier-off", 40), ("fume-sustained", 90)), habits=Habits("fume-d3")),
    Cook(
        (("flat-line", 40), ("out-of-range", 150), ("value-jump", 190), ("calibration", 0)),
        habits=Habits("fume-d1", 2005, frozenset({"no-crlf", "bad-crc-once"})),
    ),
    Cook(
        (("purifier-current", 30), ("fume-fan-off", 80), (CONVERTED, 120)),
        habits=Habits("fume-d3", 2025, frozenset({"torn", "doubled"})),
    ),
    Cook(
        (),
        (("spike", 37), ("lost", 52), ("late", 170), ("spike", 211)),
        Habits("fume-d2", 2017, frozenset({"sticky", "long"}), minutes=10),
        (80, 130),
    ),
)
"""Those with HJ 212. The last one does nothing wrong and has a bad line. Two more are on the bus."""


@dataclass(frozen=True, slots=True)
class KitchenScenario:
    """All of it."""

    files: Mapping[str, bytes]
    """For the folder of the rule book."""
    devices_toml: str
    """The MNs."""
    kitchens: tuple[Kitchen, ...]
    habits: tuple[Habits, ...]
    """Of the monitors of the kitchens, in the same order."""
    bus_kitchens: tuple[Kitchen, ...]
    planted: tuple[Expected, ...]
    start_utc_s: int
    now_utc_s: int
    span_s: int
    for_s: float

    def clock(self, begin_mono_s: float) -> DeviceClock:
        """Fast until it has caught up."""
        return DeviceClock(begin_mono_s, self.now_utc_s, self.span_s, self.span_s / self.for_s)

    def monitors(self, begin_mono_s: float) -> list[Monitor]:
        """One monitor for each kitchen with HJ 212."""
        clock = self.clock(begin_mono_s)
        return [
            Monitor(kitchen, clock, replace(habits, reply_timeout_s=REPLY_S, window=WINDOW))
            for kitchen, habits in zip(self.kitchens, self.habits, strict=True)
        ]

    def bus(self, begin_mono_s: float, baud: int = 9600) -> Bus:
        """The devices of the other kitchens on one line, by the real clock."""
        units = []
        for number, kitchen in enumerate(self.bus_kitchens):
            faults = (Fault("noise", every=5), Fault("bad-crc", every=17)) if number else ()
            units.append(Unit(number + 1, concentrator(kitchen), faults=faults, seed=kitchen.seed))
            slow = (Fault("slow", 40), Fault("late", 1200, every=13)) if number else ()
            units.append(Unit(number + 11, meter(kitchen, "purifier"), faults=slow, seed=kitchen.seed))
        return Bus(units, DeviceClock(begin_mono_s, self.now_utc_s), baud)

    def config(self, listen: str, devices_file: str, bus_port: str) -> str:
        """`[[source]]` tables of a gateway's configuration."""
        rows = [
            "[[source]]", 'type = "hj212"', f'name = "{SOURCE}"', f"listen = {json.dumps(listen)}",
            f"devices_file = {json.dumps(devices_file)}", "frames_per_s_max = 1000",
        ]  # fmt: skip
        if self.bus_kitchens:
            rows += ["[[source]]", 'type = "modbus-serial"', f'name = "{BUS_SOURCE}"', f"port = {json.dumps(bus_port)}"]
        for number, kitchen in enumerate(self.bus_kitchens):
            for unit, profile, name in (
                (number + 1, "fume-concentrator", kitchen.identity),
                (number + 11, "pzem-004t", f"{kitchen.identity}-purifier"),
            ):
                rows += [
                    "[[source.devices]]", f"unit = {unit}", f'profile = "{profile}"', f'device = "{name}"',
                    f'class = "{BUS_CLASS}"', f"interval_s = {BUS_INTERVAL_S}",
                ]  # fmt: skip
        return "\n".join(rows) + "\n"


def kitchens_scenario(now_utc_s: int, for_s: float = FOR_S) -> KitchenScenario:
    """The demo as it looks if it is started now and takes `for_s`."""
    start_utc_s = _aligned(now_utc_s - SPAN_S)
    span_s = now_utc_s - start_utc_s
    kitchens: list[Kitchen] = []
    planted: list[Expected] = []
    for number, cook in enumerate(COOKS):
        begin, end = start_utc_s + 900, now_utc_s + 3600
        shifts: tuple[tuple[int, int], ...] = ((begin, end),)
        if cook.break_min is not None:
            first, last = (start_utc_s + 60 * minute for minute in cook.break_min)
            shifts = ((begin, first), (last, end))
        kitchen = Kitchen(_mn(number, cook.habits), start_utc_s, now_utc_s, shifts, seed=2000 + number, fume_e2=50)
        kitchen, found = _upset(kitchen, cook, start_utc_s)
        kitchens.append(replace(kitchen, name=_name(number), firm=_firm(number)))
        planted += found
    bus: list[Kitchen] = []
    for number in (len(COOKS), len(COOKS) + 1):
        identity = f"kitchen-{number + 1}"
        upsets: tuple[Upset, ...] = ()
        if number == len(COOKS):
            begin, end = now_utc_s + round(0.3 * for_s), now_utc_s + round(0.3 * for_s) + max(4, round(0.35 * for_s))
            upsets = (Upset("purifier-off", begin, end, 150),)
            planted.append(Expected("purifier-off", identity, begin, end))
        shift = (now_utc_s - 3600, now_utc_s + 4 * 3600)
        bus.append(
            Kitchen(
                identity, now_utc_s - 60, None, (shift,), seed=2000 + number, upsets=upsets, name=_name(number),
                firm=_firm(number), interval_s=1,
            )
        )  # fmt: skip
    hours = [[_hour(start_utc_s, -1), _hour(now_utc_s, 2)]]
    return KitchenScenario(
        files={
            "demo-kitchens.toml": _kitchens([*kitchens, *bus], COOKS, hours, start_utc_s).encode(),
            "demo-fume.toml": _rules("demo-fume", start_utc_s).encode(),
            "demo-bus.toml": _bus_rules(start_utc_s).encode(),
        },
        devices_toml=_devices(kitchens, COOKS),
        kitchens=tuple(kitchens),
        habits=tuple(cook.habits for cook in COOKS),
        bus_kitchens=tuple(bus),
        planted=tuple(sorted(planted)),
        start_utc_s=start_utc_s,
        now_utc_s=now_utc_s,
        span_s=span_s,
        for_s=for_s,
    )


# ------------------------------------------------------------------------------------------ a street


_MEALS: Final = ((3600, 5 * 3600), (6 * 3600 + 1800, 11 * 3600 + 1800))
"""Seconds after the begin: lunch and dinner."""
_DINNER_MIN: Final = 410


def street(day_utc_s: int, *, seed: int = 1, count: int = STREET_KITCHENS, for_s: float = 60.0) -> KitchenScenario:
    """Twelve hours of a street from `day_utc_s` on (09:00, say): every kitchen has a small nuisance in its lunch, four
    of five something wrong in its dinner."""
    start_utc_s = _aligned(day_utc_s)
    cooks = tuple(_street_cook(number, seed) for number in range(count))
    kitchens: list[Kitchen] = []
    planted: list[Expected] = []
    for number, cook in enumerate(cooks):
        kitchen = Kitchen(
            _mn(number, cook.habits), start_utc_s, start_utc_s + STREET_S,
            shifts_of(start_utc_s, seed * 1000 + number, _MEALS), seed=seed * 1000 + number,
            fume_e2=35 + number % 5 * 5, purifier_ma=1100 + 40 * (number % 7),
        )  # fmt: skip
        kitchen, found = _upset(kitchen, cook, start_utc_s)
        kitchens.append(replace(kitchen, name=_name(number), firm=_firm(number)))
        planted += found
    hours = [[_hour(start_utc_s, 0.5), _hour(start_utc_s + STREET_S, 0)]]
    return KitchenScenario(
        files={
            "street-kitchens.toml": _kitchens(kitchens, cooks, hours, start_utc_s).encode(),
            "street-fume.toml": _rules("street-fume", start_utc_s, hourly=True).encode(),
        },
        devices_toml=_devices(kitchens, cooks),
        kitchens=tuple(kitchens),
        habits=tuple(cook.habits for cook in cooks),
        bus_kitchens=(),
        planted=tuple(sorted(planted)),
        start_utc_s=start_utc_s,
        now_utc_s=start_utc_s + STREET_S,
        span_s=STREET_S,
        for_s=for_s,
    )


def _street_cook(number: int, seed: int) -> Cook:
    """Dialects and editions by turns; each fifth kitchen does nothing wrong."""
    plant = PLANTS[(number - number // 5 + seed) % len(PLANTS)]
    only = plant == "purifier-current"  # one dialect alone has currents
    habits = Habits(_DIALECTS[0 if only else number % 3], _EDITIONS[number // 3 % 3])
    minute = _DINNER_MIN + 10 * (number * 7 % 5)
    plants = () if number % 5 == 4 else ((plant, 0 if plant == "calibration" else minute),)
    nuisances = [("spike", 95 + number), ("lost", 130 + number), ("late", 180 + number)]
    return Cook(plants, tuple(nuisances), habits)


# ------------------------------------------------------------------------------------------ any street


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What `fieldgate simulate hj212` is asked for."""

    monitors: int = 4
    dialect: str = "mixed"
    edition: str = "mixed"
    oddities: Sequence[str] = ()
    """The first monitor has the first, the second the second, …"""
    plants: Sequence[str] = ()
    """Likewise."""
    minutes: int = 0
    interval_s: int = 60
    speed_up: float = 1.0
    seed: int = 1
    for_s: float | None = None


def monitors(wish: Wish, now_utc_s: int, begin_mono_s: float) -> list[Monitor]:
    """Monitors for a wish: all cook all the time; what is planted begins 20 minutes after their beginning."""
    span_s = 3600.0 if wish.for_s is None else wish.for_s * wish.speed_up
    clock = DeviceClock(begin_mono_s, now_utc_s, span_s, wish.speed_up)
    start_utc_s = int(clock.start_utc_s)
    end_utc_s = None if wish.for_s is None else int(clock.utc_s(begin_mono_s + wish.for_s))
    found = []
    for number in range(wish.monitors):
        dialect = _DIALECTS[number % 3] if wish.dialect == "mixed" else wish.dialect
        edition = _EDITIONS[number // 3 % 3] if wish.edition == "mixed" else int(wish.edition)
        odd = frozenset(wish.oddities[number : number + 1])
        habits = Habits(dialect, edition, odd, minutes=wish.minutes)  # type: ignore[arg-type]
        plant = wish.plants[number] if number < len(wish.plants) else ""
        cook = Cook(((plant, 0),) if plant else ())
        kitchen = Kitchen(
            _mn(number, habits), start_utc_s, end_utc_s, ((start_utc_s - 3600, start_utc_s + 365 * 86_400),),
            seed=wish.seed * 10_007 + number, interval_s=wish.interval_s, fume_e2=50,
        )  # fmt: skip
        found.append(Monitor(_upset(kitchen, cook, _aligned(start_utc_s + 1200))[0], clock, habits))
    return found


def bus(
    kitchens: int, faults: Sequence[str], every: int, off_min: tuple[float, float] | None, seed: int, now_utc_s: int,
    begin_mono_s: float, baud: int,
) -> Bus:  # fmt: skip
    """A bus for `fieldgate simulate modbus`: kitchens that cook all the time, the n-th fault on the n-th device."""
    units: list[Unit] = []
    for number in range(kitchens):
        upsets: tuple[Upset, ...] = ()
        if off_min is not None and number == 0:
            begin, end = (now_utc_s + round(60 * minute) for minute in off_min)
            upsets = (Upset("purifier-off", begin, end, 150),)
        shift = (now_utc_s - 3600, now_utc_s + 365 * 86_400)
        kitchen = Kitchen(
            f"kitchen-{number + 1}", now_utc_s - 60, None, (shift,), seed=seed * 100 + number, upsets=upsets
        )
        units += [Unit(number + 1, concentrator(kitchen)), Unit(number + 11, meter(kitchen, "purifier"))]
    for unit, name in zip(units, faults, strict=False):
        amount = {"slow": 100, "late": 1500, "wrong-unit": unit.unit + 1, "flood": 300}.get(name, 0)
        unit.befall(Fault(name, amount, 1 if name == "slow" else every))  # type: ignore[arg-type]
    return Bus(units, DeviceClock(begin_mono_s, now_utc_s), baud)


# ------------------------------------------------------------------------------------------ kitchens


def _upset(kitchen: Kitchen, cook: Cook, start_utc_s: int) -> tuple[Kitchen, list[Expected]]:
    """What is planted into a kitchen, and what is to be found for it."""
    upsets: list[Upset] = []
    found: list[Expected] = []
    for name, minute in cook.plants:
        event = _EVENTS[name]
        begin = start_utc_s + 60 * minute
        if "fume-limit" in event.rules:
            begin = -(-begin // HOUR_S) * HOUR_S
        end = begin + event.for_s
        if event.upset is not None:
            upsets.append(Upset(event.upset, begin, end, event.amount))
        if name == "value-jump":
            found += [Expected(name, kitchen.identity, at, at + 180) for at in (begin, end)]
        else:
            found += [Expected(rule, kitchen.identity, begin, end) for rule in event.rules]
    for name, minute in cook.nuisances:
        kind, amount, for_s = NUISANCES[name]
        begin = start_utc_s + 60 * minute
        upsets.append(Upset(kind, begin, begin + for_s, amount))
    return replace(kitchen, upsets=tuple(upsets)), found


def _aligned(utc_s: int) -> int:
    return utc_s // ALIGN_S * ALIGN_S


def _mn(number: int, habits: Habits) -> str:
    """24 digits, as the standard says; the second dialect has 14."""
    return f"3304820000{number + 1:04}" if habits.dialect == "fume-d2" else f"330482A8900016F0000{number + 1:05}"


def _name(number: int) -> str:
    return f"演示餐馆{number + 1}号"


def _firm(number: int) -> str:
    return f"演示餐饮{'甲乙丙'[number % 3]}店"


# ------------------------------------------------------------------------------------------ files


def _local(utc_s: int) -> datetime:
    return datetime.fromtimestamp(utc_s, UTC) + _ZONE


def _day(utc_s: int, days: int) -> str:
    return (_local(utc_s) + timedelta(days=days)).strftime("%Y-%m-%d")


def _hour(utc_s: int, hours: float) -> str:
    return (_local(utc_s) + timedelta(hours=hours)).strftime("%H:%M")


def _day_starts(start_utc_s: int) -> str:
    """Days of judging are cut at a full hour about ten hours before the begin."""
    return _local(start_utc_s - DAY_BEFORE_S).strftime("%H:00")


def _rules(rule_set: str, start_utc_s: int, *, hourly: bool = False) -> str:
    law = json.dumps(_LAW)
    limit = f"[fume_limit]\nsource = {law}\n" if hourly else ""
    return f"""\
# Made for the demo. Streets, firms and numbers are invented; the sources are named for show.
format = "rules/v1"
id = "{rule_set}"
title = "演示油烟规则"
valid_from = {_day(start_utc_s, -30)}
classes = [{json.dumps(CLASS)}]
day_starts = "{_day_starts(start_utc_s)}"

[readings]
interval_s = 60
{limit}[fume_sustained]
source = {law}
[purifier_off]
source = {law}
[purifier_current]
[fan_off]
[monitor_offline]
[flat_line]
[range]
[jump_value]
[calibration]
"""


def _bus_rules(start_utc_s: int) -> str:
    return f"""\
# Made for the demo: its Modbus devices tell no time, so a planted event takes real seconds, and so do the thresholds.
format = "rules/v1"
id = "demo-bus"
title = "演示油烟规则（总线）"
valid_from = {_day(start_utc_s, -30)}
classes = [{json.dumps(BUS_CLASS)}]
day_starts = "{_day_starts(start_utc_s)}"

[readings]
interval_s = 1
gap_intervals = 20
[purifier_off]
source = {json.dumps(_LAW)}
persist_s = 2
clear_s = 1
"""


def _kitchens(kitchens: Sequence[Kitchen], cooks: Sequence[Cook], hours: list[list[str]], start_utc_s: int) -> str:
    tables = [
        f"""\
# Made for the demo: restaurants, firms and addresses are invented.
format = "kitchens/v1"
title = "演示街"

[[limit]]
limit_mg_m3 = 2.0
source = {json.dumps(_LIMIT, ensure_ascii=False)}
"""
    ]
    for number, kitchen in enumerate(kitchens):
        plants = [name for name, _ in cooks[number].plants] if number < len(cooks) else []
        # its last day was over within the day before the day of judging began: told today for the first time
        until = _day(start_utc_s - DAY_BEFORE_S, -1 if "calibration" in plants else 200)
        flow = 8000 if CONVERTED in plants else 4000
        low, high = (round(kitchen.purifier_ma * share / 1000, 2) for share in (0.7, 1.4))
        source = SOURCE if number < len(cooks) else BUS_SOURCE
        tables.append(
            f'[[kitchen]]\nid = "demo-{number + 1:02}"\nname = "{kitchen.name}"\nfirm = "{kitchen.firm}"\n'
            f'address = "演示街{2 * number + 1}号"\ndevices = ["{source}/{kitchen.identity}"]\n'
            f"hours = {json.dumps(hours)}\nstoves = 2\nfan_flow_m3_h = {flow}\npurifier_band_a = [{low}, {high}]\n"
            f"interval_s = {kitchen.interval_s}\ncalibrated_until = {until}\n"
        )
    return "\n".join(tables)


def _devices(kitchens: Sequence[Kitchen], cooks: Sequence[Cook]) -> str:
    tables = [
        f"""\
format = "devices/v1"

[[class]]
id = "{CLASS}"
title = "餐饮油烟监测"
enrolment = "listed"
privacy = "open"
profile = "fume-d3"
judged = true
"""
    ]
    for kitchen, cook in zip(kitchens, cooks, strict=True):
        tables.append(
            f'[[device]]\nid = "{kitchen.identity}"\nclass = "{CLASS}"\nfirm = "{kitchen.firm}"\n'
            f'site = "{kitchen.name}"\nprofile = "{cook.habits.dialect}"\ninterval_s = {kitchen.interval_s}\n'
        )
    return "\n".join(tables)
