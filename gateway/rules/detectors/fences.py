"""Places: entering, staying, leaving; and areas that may not be entered.

Inside and outside are certain only beyond the uncertainty of the fix, for so many fixes or so long: a truck at the
fence enters once, however its fixes scatter. The way between two fixes counts too: an area smaller than a step is not
jumped over, but a straight line between two fixes is no proof, so that is a lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Case, Stay
from gateway.rules.places import Crossed, Near, Place
from gateway.rules.telling import Event, Told, assemble, clock, known, lasting, place_shape
from gateway.rules.terms import Terms

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold, Step

STAYED_AT: Final = frozenset({"site", "ground", "depot"})
PREFIX: Final = "no-entry:"
CROSSING_MAX_S: Final = 120
"""A longer step says too little about the way between."""


def look(fold: Fold, step: Step, terms: Terms) -> None:
    """One step."""
    state, this = fold.state, step.this
    margin_m = terms.fence.sigma_factor * this.sigma_m
    outside = set(state.stays)
    forbidden = False
    for near in step.near:
        kind = near.place.kind
        if kind in STAYED_AT:
            if near.distance_m <= margin_m:
                outside.discard(near.place.id)
                if near.distance_m < -margin_m:
                    _inside(fold, step, terms, near.place)
        elif kind == "no-entry" and terms.rules.fence is not None:
            forbidden = True
            _no_entry(fold, step, terms, near, margin_m)
    for place_id in sorted(outside):
        _outside(fold, step, terms, place_id)
    if state.cases:
        ids = {PREFIX + near.place.id for near in step.near}
        for slot in [slot for slot in state.cases if slot.startswith(PREFIX) and slot not in ids]:
            fold.back(slot, terms.fence.fixes_min, terms.fence.persist_s)
    if forbidden and step.known and step.prev is not None and 0 < step.dt_s <= CROSSING_MAX_S:
        _crossing(fold, step, terms, margin_m)


def _inside(fold: Fold, step: Step, terms: Terms, place: Place) -> None:
    state, time_s = fold.state, step.this.time_s
    stay = state.stays.get(place.id)
    if stay is None:
        state.stays[place.id] = Stay(terms.fence.fixes_min <= 1, step.at, time_s, time_s, 1, time_s, step.at)
        return
    stay.last_s = time_s
    if stay.inside:
        stay.turns = 0
    else:
        stay.turns += 1
        stay.inside = stay.turns >= terms.fence.fixes_min or time_s - stay.since_s >= terms.fence.persist_s
        if stay.inside:
            stay.turns = 0
    if stay.inside and time_s - stay.since_s >= terms.fence.dwell_s:
        if place.kind == "site":
            state.leg = place.id
        elif place.kind == "ground":
            state.leg = ""


def _outside(fold: Fold, step: Step, terms: Terms, place_id: str) -> None:
    stays, time_s = fold.state.stays, step.this.time_s
    stay = stays[place_id]
    if not stay.inside:
        del stays[place_id]
        return
    if not stay.turns:
        stay.turn_s, stay.turn_at = time_s, step.at
    stay.turns += 1
    if stay.turns >= terms.fence.fixes_min or time_s - stay.turn_s >= terms.fence.persist_s:
        fold.visited(place_id, stay)
        del stays[place_id]


def _no_entry(fold: Fold, step: Step, terms: Terms, near: Near, margin_m: int) -> None:
    place, slot = near.place, PREFIX + near.place.id
    case = fold.state.cases.get(slot)
    if near.distance_m < -margin_m and place.hours.open(step.this.time_s):
        case = fold.breaks(slot, "no-entry", int(-near.distance_m), 0, place.id)
        if case.fixes >= terms.fence.fixes_min or case.last_s - case.start_s >= terms.fence.persist_s:
            fold.certain(case)
    elif case is not None:
        if near.distance_m > margin_m or not place.hours.open(step.this.time_s):
            fold.back(slot, terms.fence.fixes_min, terms.fence.persist_s)
        else:
            case.back = 0


def _crossing(fold: Fold, step: Step, terms: Terms, margin_m: int) -> None:
    """Areas that the straight way from the fix before runs through, though neither end is inside."""
    prev, this = step.prev, step.this
    if prev is None or step.metres <= 2 * margin_m:
        return
    a, b = (prev.lat_e7, prev.lon_e7), (this.lat_e7, this.lon_e7)
    for crossed in terms.places.crossed(a, b, this.time_s):
        place = crossed.place
        if place.kind != "no-entry" or not crossed.through or not place.hours.open(this.time_s):
            continue
        inside_m = sum(passage.leave - passage.enter for passage in crossed.passages) * step.metres
        ends_m = (place.area.distance_m(*a), place.area.distance_m(*b))
        if inside_m > 2 * margin_m and min(ends_m) > margin_m and PREFIX + place.id not in fold.state.cases:
            _tell_crossing(fold, step, terms, crossed, int(inside_m))


def _tell_crossing(fold: Fold, step: Step, terms: Terms, crossed: Crossed, inside_m: int) -> None:
    prev, this, place = step.prev, step.this, crossed.place
    if prev is None:
        return
    told_as = Told(
        terms.rules.fence,
        "lead",
        f"Lead: the straight way between two fixes ({step.dt_s} s apart) runs {inside_m} m through the no-entry area "
        f"{place.name}; no fix lies inside",
        f"线索：相隔{step.dt_s}秒的两个定位点之间的直线穿过禁行区{place.name}{inside_m}米；区内没有定位点",
        geometry=place_shape(place),
        subject=place.id,
    )
    measured = {
        "duration_s": step.dt_s, "fixes": 2, "distance_m": round(step.metres), "inside_m": inside_m,
        "fixes_inside": 0, **known(fold.state, this.time_s),
    }  # fmt: skip
    event = Event(prev.time_s, this.time_s, tuple(sorted({prev.seq, this.seq})), this)
    fold.told.append(assemble(fold, terms, "no-entry", told_as, event, measured))


def told(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of having been inside."""
    place = terms.places.by_id[case.ref]
    begin, end = clock(terms, case.start_s), clock(terms, case.last_s)
    en, zh = lasting(case.last_s - case.start_s)
    so_far = ("", "") if over else (" so far", "至今")
    hours = str(place.hours)
    return Told(
        terms.rules.fence,
        "violation",
        f"Inside the no-entry area {place.name}{f' ({hours})' if hours else ''}: {begin} to {end} ({en}{so_far[0]})",
        f"驶入禁行区{place.name}{f'（{hours}）' if hours else ''}：{begin}至{end}（{so_far[1]}{zh}）",
        measured={"depth_max_m": case.worst_value, "fixes_inside": case.fixes},
        limits={"hours": hours} if hours else {},
        geometry=place_shape(place),
        subject=place.id,
    )
