"""What muck trucks do, as journeys: load at a site, drive to a dumping ground, lift, drive back. Pure.

What may be planted into a tour so that the rules have something to find is here too. Violations change the journey or
the sensors; faults are troubles of the terminal (`drivers.fleet.vehicles`). Every plan says when, in seconds since the
journey began, so that a test can compare what was found with what was planted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from drivers.fleet.journeys import Drive, Journey, Path, Stand, State
from drivers.fleet.vehicles import Trouble, TroubleKind

LOADED: Final = State(load="full")
LOADED_LIFTED: Final = State(load="full", lift="lifted")
EMPTY: Final = State()
EMPTY_LIFTED: Final = State(lift="lifted")

LOADED_KMH: Final = 42.0
EMPTY_KMH: Final = 48.0
SPEEDING_KMH: Final = 88.0
ASIDE_M: Final = 420.0
LOADING: Final = (Stand(110, EMPTY), Stand(110, LOADED))
UNLOADING: Final = (Stand(100, LOADED), Stand(25, LOADED_LIFTED), Stand(20, EMPTY_LIFTED), Stand(85, EMPTY))
TIPPING: Final = (Stand(40, LOADED), Stand(25, LOADED_LIFTED), Stand(20, EMPTY_LIFTED), Stand(60, EMPTY))
LEAD: Final = (Stand(400, LOADED),)

PLANTS: Final = (
    "off-route",
    "dumping",
    "dumping-lead",
    "uncovered",
    "speeding",
    "frozen-gnss",
    "jammed",
    "antenna-cut",
    "power-cut",
    "offline",
    "sensors-lost",
    "mileage",
    "duplicate-identity",
)
"""Kinds of violations and faults. `duplicate-identity` needs a second terminal: whoever makes the fleet adds it."""
NUISANCES: Final = ("traffic-lights", "blind-zone", "jump", "shuffled")
"""What looks odd and is nothing: no rule may find it."""

_FAULTS: Final[dict[str, TroubleKind]] = {
    "frozen-gnss": "frozen",
    "jammed": "jammed",
    "antenna-cut": "antenna-cut",
    "power-cut": "power-cut",
    "offline": "offline",
    "sensors-lost": "sensors-lost",
    "mileage": "odometer",
}
_FROM, _TO = 0.3, 0.75
"""Part of the loaded way in which something is planted."""


class Planted(NamedTuple):
    """One thing to be found."""

    kind: str
    from_s: float
    to_s: float


@dataclass(slots=True)
class Plan:
    """A journey of several tours, and what is planted into it."""

    steps: list[Drive | Stand] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)

    def journey(self, *, repeats: bool = False) -> Journey:
        """Ready to drive."""
        return Journey(self.steps, repeats=repeats)


def tours(way: Path, plants: Sequence[str | None], nuisances: Sequence[str] = ()) -> Plan:
    """One tour for each entry of `plants`: what is planted into its loaded way, or None for a tour without fault;
    `a+b` plants the fault b into the way back. `nuisances` come into every loaded way."""
    plan = Plan()
    for plant in plants:
        _tour(plan, way, plant, nuisances)
    return plan


def _tour(plan: Plan, way: Path, plant: str | None, nuisances: Sequence[str]) -> None:
    plan.steps += LOADING
    plant, _, back = (plant or "").partition("+")
    first = len(plan.steps)
    stops = ((0.45 * way.length_m, 45.0), (0.7 * way.length_m, 30.0)) if "traffic-lights" in nuisances else ()
    from_m, to_m = _FROM * way.length_m, _TO * way.length_m
    match plant:
        case "dumping" | "dumping-lead":
            interlude = TIPPING if plant == "dumping" else LEAD
            after = EMPTY if plant == "dumping" else LOADED
            plan.steps += [Drive(way.piece(0, from_m), LOADED_KMH, LOADED), *interlude]
            plan.steps += [Drive(way.piece(from_m, way.length_m), LOADED_KMH, after)]
            plan.steps += UNLOADING if after is LOADED else [Stand(sum(step.for_s for step in UNLOADING), EMPTY)]
            begins = [plan.journey().begins_s(first + 1), plan.journey().begins_s(first + 1 + len(interlude))]
            plan.planted.append(Planted(plant, *begins))
        case "off-route":
            from_m, to_m = way.longest
            plan.steps += [Drive(way.detour(from_m, to_m, ASIDE_M), LOADED_KMH, LOADED, stops), *UNLOADING]
            journey = plan.journey()
            plan.planted.append(
                Planted(plant, journey.when_s(first, from_m), journey.when_s(first, to_m + 2 * ASIDE_M))
            )
        case "speeding":
            paces = ((from_m, to_m, SPEEDING_KMH),)
            plan.steps += [Drive(way, LOADED_KMH, LOADED, paces=paces), *UNLOADING]
            journey = plan.journey()
            plan.planted.append(Planted(plant, journey.when_s(first, from_m), journey.when_s(first, to_m)))
        case _:
            plan.steps += [Drive(way, LOADED_KMH, LOADED, stops), *UNLOADING]
            journey = plan.journey()
            if plant:
                _fault(plan, plant, journey.when_s(first, from_m), journey.when_s(first, to_m))
    _disturb(plan, nuisances, first, way)
    plan.steps.append(Drive(way.reversed(), EMPTY_KMH, EMPTY))
    if back:
        journey, last = plan.journey(), len(plan.steps) - 1
        _fault(plan, back, journey.when_s(last, from_m), journey.when_s(last, to_m))


def _fault(plan: Plan, plant: str, from_s: float, to_s: float) -> None:
    """Something of the vehicle or its terminal, while it drives on."""
    if plant == "uncovered":
        plan.troubles.append(Trouble("state", from_s, to_s, word="cover=open"))
    elif plant == "power-cut":
        plan.troubles += [Trouble("power-cut", from_s, to_s), Trouble("offline", from_s + 40, from_s + 460)]
        to_s = from_s + 460
    elif plant == "offline":
        to_s = from_s + 420
        plan.troubles.append(Trouble("offline", from_s, to_s))
    elif plant in _FAULTS:
        plan.troubles.append(Trouble(_FAULTS[plant], from_s, to_s, amount=40 if plant == "mileage" else 0))
    elif plant != "duplicate-identity":
        raise ValueError(f"no plant {plant!r}; known: {', '.join(PLANTS)}")
    plan.planted.append(Planted(plant, from_s, to_s))


def _disturb(plan: Plan, nuisances: Sequence[str], first: int, way: Path) -> None:
    journey = plan.journey()
    begin_s = journey.begins_s(first)
    if "blind-zone" in nuisances:
        plan.troubles.append(Trouble("blind", begin_s + 60, begin_s + 200))
    if "jump" in nuisances:
        at_s = journey.when_s(first, 0.5 * way.length_m)
        plan.troubles.append(Trouble("jump", at_s, at_s + 10, amount=900))
