"""Off the permitted route: farther from every route of the permits in force than width and uncertainty, for so many
fixes, so long and so far. It ends where the vehicle is back on a route, has stopped, or has nothing left to be judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Case
from gateway.rules.rule_set import OffRoute
from gateway.rules.telling import Told, corridor_shape, lasting
from gateway.rules.terms import Corridor, Terms

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold, Step

SLOT: Final = "off-route"
AT_HOME: Final = frozenset({"site", "ground", "depot"})
"""Kinds of places that are as large as they are: inside them nobody is on a route."""


def look(fold: Fold, step: Step, terms: Terms) -> None:
    """One step."""
    rule = terms.rules.off_route
    case = fold.state.cases.get(SLOT)
    if rule is None or not _applies(fold, step, terms):
        if case is not None:
            fold.end(SLOT)
        return
    if case is None and _on_a_route(step, terms, rule):
        return
    _measure(fold, step, terms, rule)


def _on_a_route(step: Step, terms: Terms, rule: OffRoute) -> bool:
    """The usual case, without measuring how far exactly."""
    this = step.this
    for one in terms.corridors:
        if one.route.line.within(this.lat_e7, this.lon_e7, one.width_m * rule.return_percent / 100):
            return True
    return False


def _measure(fold: Fold, step: Step, terms: Terms, rule: OffRoute) -> None:
    this = step.this
    case = fold.state.cases.get(SLOT)
    beyond_m, corridor, back = 1e300, terms.corridors[0], False
    for one in terms.corridors:
        distance_m = one.route.line.nearest(this.lat_e7, this.lon_e7).distance_m
        back = back or distance_m * 100 < one.width_m * rule.return_percent
        if distance_m - one.width_m < beyond_m:
            beyond_m, corridor = distance_m - one.width_m, one
    at_home = _at_home(step)
    if beyond_m > rule.sigma_factor * this.sigma_m and not at_home:
        case = fold.breaks(
            SLOT, "off-route", int(beyond_m) + corridor.width_m, corridor.width_m, corridor.permit.number
        )
        lasted = case.fixes >= rule.fixes_min and case.last_s - case.start_s >= rule.persist_s
        if lasted and case.metres >= rule.distance_m:
            fold.certain(case)
    elif case is not None:
        if back or not case.told or at_home:
            fold.back(SLOT, rule.return_fixes)
        else:
            case.back = 0


def _applies(fold: Fold, step: Step, terms: Terms) -> bool:
    rule = terms.rules.off_route
    if rule is None or not terms.corridors or fold.state.still:
        return False
    if rule.applies == "any" or step.loaded:
        return True
    if step.loaded is False or rule.applies == "loaded":
        return False
    # without a load sensor: while a permit with a route is open
    return any(corridor.permit.hours.open(step.this.time_s) for corridor in terms.corridors)


def _at_home(step: Step) -> bool:
    return any(near.distance_m < 0 and near.place.kind in AT_HOME for near in step.near)


def told(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding."""
    worst = case.worst
    corridor = _corridor(terms, case)
    distance_m = int(corridor.route.line.nearest(worst.lat_e7, worst.lon_e7).distance_m)
    en, zh = lasting(case.last_s - case.start_s)
    length_m = round(case.metres)
    so_far = ("", "") if over else (" so far", "至今")
    name = f"{corridor.route.name} ({corridor.permit.number})"
    return Told(
        terms.rules.off_route,
        "violation",
        f"Off the permitted route {name}: up to {distance_m} m away (permitted {corridor.width_m} m), "
        f"{length_m} m driven in {en}{so_far[0]}",
        f"偏离许可路线{name}：最远{distance_m}米（许可{corridor.width_m}米），{so_far[1]}偏离行驶{length_m}米，历时{zh}",
        measured={"distance_max_m": distance_m},
        limits={"width_m": corridor.width_m},
        peak={"distance_m": distance_m},
        geometry=corridor_shape(corridor, worst.lat_e7, worst.lon_e7),
        permit=corridor.permit.number,
    )


def _corridor(terms: Terms, case: Case) -> Corridor:
    worst = case.worst
    return min(
        terms.corridors, key=lambda one: one.route.line.nearest(worst.lat_e7, worst.lon_e7).distance_m - one.width_m
    )
