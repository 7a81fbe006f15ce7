"""What one rule book wants of one vehicle, for a stretch of time in which that does not change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.rules.book import Book
from gateway.rules.permits import Permit, plate_key
from gateway.rules.places import Places, Route
from gateway.rules.rule_set import Dumping, Fence, Offline, RuleSet, Stop
from gateway.rules.windows import DAY_S, END_UTC_S

WIDTH_DEFAULT_M: Final = 50
STOP: Final = Stop()
"""Trips are told apart even where the rule set has no table for them."""
OFFLINE: Final = Offline(source="-")
FENCE: Final = Fence(source="-")
DUMPING: Final = Dumping(source="-")


@dataclass(frozen=True, slots=True)
class Corridor:
    """A route that a permit allows."""

    route: Route
    width_m: int
    permit: Permit


class Terms:
    """Of [from_s, to_s)."""

    __slots__ = (
        "book_seq", "book_sha256", "corridors", "fence", "firm", "from_s", "grounds", "hours", "least_limit_e1",
        "offline", "open_minute", "permits", "permits_any", "places", "places_any", "plate", "rules", "silence_s",
        "sites", "slow_e1", "stop", "to_s",
    )  # fmt: skip

    def __init__(
        self, book: Book, book_seq: int, places: Places, rules: RuleSet, plate: str, from_s: int, to_s: int
    ) -> None:
        self.from_s, self.to_s = from_s, to_s
        self.book_sha256, self.book_seq = book.sha256, book_seq
        self.rules = rules
        self.plate = plate
        self.places = places
        self.places_any = bool(len(places))
        self.permits: tuple[Permit, ...] = book.permits(plate, from_s) if plate else ()
        self.permits_any = bool(len(book.permits_all))
        of_plate = book.permits_all.of(plate_key(plate)) if plate else ()
        named = self.permits or of_plate
        self.firm = named[0].firm if named else ""
        self.stop = rules.stop or STOP
        self.fence = rules.fence or FENCE
        self.offline = rules.offline or OFFLINE
        self.silence_s = self.offline.silence_s
        corridors: list[Corridor] = []
        default_m = rules.off_route.width_default_m if rules.off_route else WIDTH_DEFAULT_M
        for permit in self.permits:
            for name in permit.routes:
                route = book.route(name)
                if route is not None and route.valid(from_s):
                    corridors.append(Corridor(route, permit.width_m or route.width_m or default_m, permit))
        self.corridors = tuple(corridors)
        self.grounds = frozenset(name for permit in self.permits for name in permit.grounds)
        """Ids of permitted grounds; empty: every ground is one."""
        self.sites = frozenset(name for permit in self.permits for name in permit.sites)

        self.hours = tuple(item.hours if item.hours.limited else rules.allowed for item in self.permits) or (
            rules.allowed,
        )
        """Of each permit in force its own hours, or those of the rule set where it names none."""
        self.open_minute = -1
        """Minutes since 1970: one that is known to lie in the permitted hours."""
        slow = [rule.speed_kmh * 10 for rule in (rules.hours, rules.uncovered, self.stop) if rule is not None]
        self.slow_e1 = min(50, *slow)
        """0.1 km/h: up to here nothing that needs driving can begin."""
        self.least_limit_e1 = _least_limit_e1(self)
        """0.1 km/h: up to here nothing is speeding."""

    def gap_s(self, usual_s: int) -> int:
        """A step that takes longer is a gap: nothing is known of the way between."""
        return max(self.offline.intervals * usual_s, self.silence_s)

    def permitted_ground(self, place_id: str) -> bool:
        """Whether this vehicle may unload there."""
        return not self.grounds or place_id in self.grounds

    def same(self, other: Terms) -> bool:
        """Whether both want the same of the vehicle, whatever the book is called."""
        if self is other:
            return True
        return (
            self.plate == other.plate
            and self.places is other.places
            and (self.rules is other.rules or _rules(self.rules) == _rules(other.rules))
            and [_permit(item) for item in self.permits] == [_permit(item) for item in other.permits]
            and [_corridor(item) for item in self.corridors] == [_corridor(item) for item in other.corridors]
        )


def _rules(rules: RuleSet) -> tuple[object, ...]:
    return tuple(getattr(rules, name) for name in RuleSet.__slots__ if name not in ("file", "title"))


def _permit(permit: Permit) -> tuple[object, ...]:
    return tuple(getattr(permit, name) for name in Permit.__slots__ if name not in ("file", "line", "vehicles"))


def _corridor(corridor: Corridor) -> tuple[object, ...]:
    return corridor.route.id, corridor.width_m, corridor.route.parts, corridor.route.speed_kmh


def _least_limit_e1(terms: Terms) -> int:
    rule = terms.rules.speeding
    if rule is None:
        return 1 << 20
    limits = [rule.limit_kmh, rule.loaded_limit_kmh, rule.uncovered_limit_kmh]
    limits += [permit.speed_kmh or 0 for permit in terms.permits]
    limits += [corridor.route.speed_kmh or 0 for corridor in terms.corridors]
    limits += [limit for place in terms.places.by_id.values() for limit, _hours in place.limits]
    return min((limit for limit in limits if limit), default=1 << 17) * 10


def terms_at(book: Book, book_seq: int, places: Places, device_class: str, plate: str, utc_s: int) -> Terms | None:
    """The terms of a vehicle at a time; None where no rule set is in force for its class."""
    rules = book.rule_set(device_class, utc_s)
    if rules is None:
        return None
    before = max((edge for edge in _edges(book, device_class, plate) if edge <= utc_s), default=0)
    after = min((edge for edge in _edges(book, device_class, plate) if edge > utc_s), default=END_UTC_S)
    return Terms(book, book_seq, places, rules, plate, before, after)


def judged(book: Book, device_class: str) -> bool:
    """Whether any rule set of the book names the class."""
    return any(device_class in rules.classes for rules in book.rule_sets)


def _edges(book: Book, device_class: str, plate: str) -> Iterator[int]:
    """Seconds at which the terms of a vehicle may change."""
    for rules in book.rule_sets:
        if device_class in rules.classes:
            yield rules.from_utc_s
            yield rules.to_utc_s
    for permit in book.permits_all.of(plate_key(plate)) if plate else ():
        yield permit.from_utc_s
        yield permit.to_utc_s
        for window in permit.hours.windows:  # of the last day, past its end
            if window.to_s > DAY_S:
                yield permit.to_utc_s + window.to_s - DAY_S
        for name in permit.routes:
            route = book.route(name)
            if route is not None:
                yield route.from_utc_s
                yield route.to_utc_s
