"""Rule sets: which rules hold for which class of device, from when to when, with thresholds and legal source.

A rule is judged where its table stands in the file, and nowhere else. Every threshold is a whole number with its unit
in its name; the defaults are those of RULES.md. All of them go into the `limits` of a finding as they stand here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, inspect

from gateway.rules import fume_set
from gateway.rules.fume_set import FumeRules, FumeTables
from gateway.rules.notes import Notes
from gateway.rules.tables import Check, Id, Rule, Table, Text
from gateway.rules.windows import DATE, DAY_S, HOUR, ZONE, Hours, clock_s, hours_of, validity, zone_s
from gateway.toml_check import Check as TomlCheck

Applies = Literal["loaded", "loaded-or-unknown", "any"]
"""To which trucks: only those whose sensor says so; those without a load sensor too; all."""

_Fixes = Annotated[int, Meta(ge=1, le=100)]
_Seconds = Annotated[int, Meta(ge=0, le=86_400)]
_Metres = Annotated[int, Meta(ge=0, le=500)]
_Kmh = Annotated[int, Meta(ge=0, le=200)]
_Percent = Annotated[int, Meta(ge=0, le=1000)]


class OffRoute(Rule, frozen=True, kw_only=True):
    """Off the permitted route: distance > width + sigma_factor x sigma, for all three of fixes, time and distance."""

    applies: Applies = "loaded-or-unknown"
    width_default_m: Annotated[int, Meta(ge=1, le=1000)] = 50
    """To each side of the route, where neither permit nor route says."""
    sigma_factor: Annotated[int, Meta(ge=0, le=10)] = 2
    fixes_min: _Fixes = 3
    persist_s: _Seconds = 60
    distance_m: Annotated[int, Meta(ge=0, le=100_000)] = 200
    """Travelled while off."""
    return_percent: Annotated[int, Meta(ge=1, le=100)] = 70
    """Back on the route: closer than this share of the width, …"""
    return_fixes: _Fixes = 2


class HoursRule(Rule, frozen=True, kw_only=True):
    """Moving outside the permitted hours."""

    applies: Applies = "loaded-or-unknown"
    allowed: list[list[Annotated[str, HOUR]]] = msgspec.field(default_factory=list)
    """Windows for permits that name none, and for trucks without permit; empty: these are not judged by the hour."""
    grace_s: _Seconds = 300
    """So far outside a window is still inside."""
    speed_kmh: _Kmh = 5
    persist_s: _Seconds = 60


class Speeding(Rule, frozen=True, kw_only=True):
    """Faster than the lowest limit of vehicle, state, permit, route and zone, plus the larger of the margins."""

    limit_kmh: _Kmh = 0
    """For every vehicle of these classes, everywhere; 0: only what permits, routes and zones say."""
    loaded_limit_kmh: _Kmh = 0
    """While loaded; 0: none."""
    uncovered_limit_kmh: _Kmh = 0
    """While the cover is not closed; 0: none."""
    margin_kmh: _Kmh = 3
    margin_percent: Annotated[int, Meta(ge=0, le=100)] = 5
    persist_s: _Seconds = 10
    fixes_min: _Fixes = 2
    disagree_kmh: _Kmh = 15
    """So far may the speed from the track differ; beyond it the recorder must agree, or it is none."""


class Fence(Rule, frozen=True, kw_only=True):
    """Entering, leaving and staying at places; entering a no-entry area is a violation."""

    sigma_factor: Annotated[int, Meta(ge=0, le=10)] = 1
    """Inside or outside for certain: so many sigma beyond the boundary, …"""
    fixes_min: _Fixes = 2
    """… for so many fixes, or …"""
    persist_s: _Seconds = 30
    """… so long."""
    dwell_s: _Seconds = 180
    """A stay at a site or dumping ground counts from here on."""


class Stop(Check, frozen=True, kw_only=True):
    """Stops, and the trips between them."""

    radius_m: _Metres = 50
    speed_kmh: _Kmh = 5
    persist_s: _Seconds = 180
    trip_gap_s: Annotated[int, Meta(ge=60, le=86_400)] = 3600


class Dumping(Rule, frozen=True, kw_only=True):
    """The box lifted, or a load lost, away from every permitted ground."""

    lift_s: _Seconds = 10
    speed_kmh: _Kmh = 5
    margin_m: _Metres = 50
    """Outside for certain: so far beyond the ground's boundary, plus sigma_factor x sigma."""
    sigma_factor: Annotated[int, Meta(ge=0, le=10)] = 2
    unload_s: _Seconds = 600
    """From full to empty within this time makes it stronger."""
    stop_min_s: _Seconds = 180
    """Without lift sensor: a stop this long …"""
    stop_max_s: _Seconds = 1200
    """… and no longer, on a loaded leg, is a lead."""


class Uncovered(Rule, frozen=True, kw_only=True):
    """Driving loaded with the cover not closed."""

    speed_kmh: _Kmh = 10
    persist_s: _Seconds = 30


class Offline(Rule, frozen=True, kw_only=True):
    """Silence longer than max(intervals x reporting interval, silence_s), with a typed cause."""

    intervals: Annotated[int, Meta(ge=1, le=1000)] = 3
    silence_s: Annotated[int, Meta(ge=10, le=86_400)] = 180
    alarm_s: _Seconds = 300
    """A power or antenna alarm this long before the silence explains it."""
    fleet_percent: Annotated[int, Meta(ge=1, le=100)] = 80
    """So many of the trucks that reported silent at once: the gateway's own line."""
    fleet_min: Annotated[int, Meta(ge=2, le=10_000)] = 5
    """Of at least so many trucks."""
    fleet_s: _Seconds = 120
    """Their silences began within this time."""
    lost_fixes: _Fixes = 3
    """A place, or a sensor that spoke before, missing in so many reports …"""
    lost_s: _Seconds = 60
    """… and so long, while driving."""
    moved_m: Annotated[int, Meta(ge=100, le=1_000_000)] = 1000
    """So far from the place where it was switched off is moved while silent."""
    clock_back_s: Annotated[int, Meta(ge=1, le=86_400)] = 60
    """By so much at least a clock must go back."""


class FrozenGnss(Check, frozen=True, kw_only=True):
    """The same coordinates again and again while the vehicle's own recorder says that it moves."""

    speed_kmh: _Kmh = 5
    fixes_min: _Fixes = 3
    persist_s: _Seconds = 60


class Mileage(Check, frozen=True, kw_only=True):
    """The odometer and the track disagree."""

    percent: Annotated[int, Meta(ge=1, le=1000)] = 20
    distance_m: Annotated[int, Meta(ge=100, le=1_000_000)] = 5000
    """Compared over at least this far."""


class Jump(Check, frozen=True, kw_only=True):
    """Two fixes that no truck can have driven."""

    speed_kmh: Annotated[int, Meta(ge=50, le=1000)] = 150
    distance_m: Annotated[int, Meta(ge=10, le=100_000)] = 500
    """Shorter jumps are scatter."""


class Duplicate(Check, frozen=True, kw_only=True):
    """Two connections under one identity."""

    within_s: _Seconds = 300
    """Connections that take turns within this time are at once."""


class RuleSetTable(FumeTables, frozen=True, kw_only=True):
    """A whole file of format rules/v1."""

    format: Literal["rules/v1"]
    id: Id
    title: Text
    valid_from: Annotated[str, DATE]
    valid_to: Annotated[str, DATE] = ""
    zone: Annotated[str, ZONE] = "+08:00"
    day_starts: Annotated[str, HOUR] = "12:00"
    classes: list[Text]
    off_route: OffRoute | None = None
    hours: HoursRule | None = None
    speeding: Speeding | None = None
    fence: Fence | None = None
    stop: Stop | None = None
    dumping: Dumping | None = None
    uncovered: Uncovered | None = None
    offline: Offline | None = None
    frozen_gnss: FrozenGnss | None = None
    mileage: Mileage | None = None
    jump: Jump | None = None
    duplicate: Duplicate | None = None


SCHEMA: Final = inspect.type_info(RuleSetTable)
RULES: Final = (
    "off_route",
    "hours",
    "speeding",
    "fence",
    "stop",
    "dumping",
    "uncovered",
    "offline",
    "frozen_gnss",
    "mileage",
    "jump",
    "duplicate",
)
"""Tables of a rule set, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One dated set. A rule that is None is not judged."""

    id: str
    title: str
    file: str
    classes: tuple[str, ...]
    valid_from: str
    valid_to: str
    """Last day; "" where open."""
    from_utc_s: int
    to_utc_s: int
    """First second after it; END_UTC_S where open."""
    zone: str
    zone_s: int
    """Added to UTC it gives local time."""
    day_starts_s: int
    """Local time of day at which a day of judging begins."""
    allowed: Hours
    """`hours.allowed`, ready to ask."""
    off_route: OffRoute | None = None
    hours: HoursRule | None = None
    speeding: Speeding | None = None
    fence: Fence | None = None
    stop: Stop | None = None
    dumping: Dumping | None = None
    uncovered: Uncovered | None = None
    offline: Offline | None = None
    frozen_gnss: FrozenGnss | None = None
    mileage: Mileage | None = None
    jump: Jump | None = None
    duplicate: Duplicate | None = None
    fume: FumeRules = field(default_factory=FumeRules)
    """For the monitors of kitchens."""

    def in_force(self, utc_s: int) -> bool:
        """Whether it holds at that second."""
        return self.from_utc_s <= utc_s < self.to_utc_s

    def day(self, utc_s: int) -> tuple[int, int]:
        """[from, to) in UTC seconds of the day of judging that holds this second."""
        shift_s = self.zone_s - self.day_starts_s
        start = (utc_s + shift_s) // DAY_S * DAY_S - shift_s
        return start, start + DAY_S


def read(document: dict[str, Any], notes: Notes) -> RuleSet | None:
    """The set of a TOML document; None where it cannot be used at all. Mistakes go to `notes`."""
    check = TomlCheck(notes.file, notes.lines, SCHEMA)
    values = check.value(document, SCHEMA, ())
    notes.errors += check.problems
    return None if check.problems else _compiled(msgspec.convert(values, RuleSetTable), notes)


def _compiled(table: RuleSetTable, notes: Notes) -> RuleSet:
    offset_s = zone_s(table.zone)
    start, end, problem = validity(table.valid_from, table.valid_to, offset_s)
    if problem:
        notes.error(("valid_to" if table.valid_to else "valid_from",), problem)
    if not table.valid_from:
        notes.error(("valid_from",), 'expected a day "YYYY-MM-DD": rules have a first day')
    if not table.classes:
        notes.error(("classes",), "names no device class; nothing would be judged")
    if table.day_starts == "24:00":
        notes.error(("day_starts",), 'write "00:00"')
    for name in sorted({item for item in table.classes if table.classes.count(item) > 1}):
        notes.error(("classes",), f"names {name} twice")
    rules = {name: getattr(table, name) for name in RULES}
    fume = fume_set.compiled(table, notes)
    if not any(rules.values()) and not fume.any:
        notes.warn((), "holds no rule; a rule is judged where its table stands in the file")
    allowed = Hours(zone_s=offset_s)
    if table.hours is not None:
        allowed, problems = hours_of(table.hours.allowed, (), offset_s)
        for problem in problems:
            notes.error(("hours", "allowed"), problem)
    if table.dumping is not None and table.dumping.stop_min_s >= table.dumping.stop_max_s:
        notes.error(("dumping", "stop_max_s"), f"not above stop_min_s ({table.dumping.stop_min_s})")
    return RuleSet(
        id=table.id,
        title=table.title,
        file=notes.file,
        classes=tuple(table.classes),
        valid_from=table.valid_from,
        valid_to=table.valid_to,
        from_utc_s=start,
        to_utc_s=end,
        zone=table.zone,
        zone_s=offset_s,
        day_starts_s=clock_s(table.day_starts),
        allowed=allowed,
        fume=fume,
        **rules,
    )


def limits(rule: Table) -> dict[str, Any]:
    """The thresholds of a rule as a finding holds them: all but its legal source."""
    return {key: value for key, value in msgspec.to_builtins(rule).items() if key != "source"}
