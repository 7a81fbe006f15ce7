"""Dumping: the box lifted, standing, away from every permitted ground; or, without a lift sensor, a stop that could be
one.

A lifted box with a load that was there before, or that is gone within `unload_s`, is a violation; with a load sensor
that said empty all the time it is a lead (a truck is also lifted to be washed or mended).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Case
from gateway.rules.places import Near
from gateway.rules.telling import Event, Told, assemble, clock, known, lasting
from gateway.rules.terms import Terms
from gateway.rules.track import EMPTY, LIFT_MASK, LIFTED, LOAD_MASK, LOADED, NONE_U16, Moment

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold, Step

SLOT: Final = "dumping"
_WAS_LOADED: Final = 1
_EMPTIED: Final = 2
_SAID_EMPTY: Final = 4
_LIFT_OVER: Final = 8
BACK_FIXES: Final = 2


def away(near: list[Near], sigma_m: int, terms: Terms) -> bool:
    """Outside every permitted ground for certain, and not in a depot."""
    rule = terms.rules.dumping
    if rule is None:
        return False
    margin_m = rule.margin_m + rule.sigma_factor * sigma_m
    for one in near:
        kind = one.place.kind
        if kind == "ground" and one.distance_m <= margin_m and terms.permitted_ground(one.place.id):
            return False
        if kind == "depot" and one.distance_m <= sigma_m:
            return False
    return True


def look(fold: Fold, step: Step, terms: Terms) -> None:
    """One step with a lift that says something, or with a case."""
    rule = terms.rules.dumping
    if rule is None:
        return
    state, this = fold.state, step.this
    case = state.cases.get(SLOT)
    load = this.bits & LOAD_MASK
    lifted = this.bits & LIFT_MASK == LIFTED
    slow = step.speed_e1 < rule.speed_kmh * 10
    gone = case is not None and case.told and load == EMPTY and case.flag & _WAS_LOADED
    if case is not None and gone and this.time_s - case.last_s <= rule.unload_s:
        case.flag |= _EMPTIED
    if lifted and slow and away(step.near, this.sigma_m, terms) and not (case and case.flag & _LIFT_OVER):
        before = step.prev.bits & LOAD_MASK if step.prev is not None and step.known else 0
        case = fold.breaks(SLOT, "dumping", case.last_s - case.start_s if case else 0)
        if load in LOADED or (case.fixes == 1 and before in LOADED):
            case.flag |= _WAS_LOADED
        if load == EMPTY:
            case.flag |= _EMPTIED if case.flag & _WAS_LOADED else _SAID_EMPTY
        if case.last_s - case.start_s >= rule.lift_s:
            fold.certain(case)
    elif case is not None:
        _down(fold, step, case, rule.unload_s, lifted=lifted)


def _down(fold: Fold, step: Step, case: Case, unload_s: int, *, lifted: bool) -> None:
    """The box is down: the case waits for the load sensor where that can still say something."""
    if not case.told:
        fold.end(SLOT)
        return
    if not lifted:
        case.back += 1
        if case.back >= BACK_FIXES:
            case.flag |= _LIFT_OVER
    waits = case.flag & _WAS_LOADED and not case.flag & _EMPTIED and step.this.time_s - case.last_s <= unload_s
    if case.flag & _LIFT_OVER and not waits:
        fold.end(SLOT)


def stopped(fold: Fold, start: Moment, end: Moment, load_before: int, step: Step, terms: Terms) -> None:
    """A stop is over: without a lift sensor one of the right length on a loaded leg is a lead."""
    rule = terms.rules.dumping
    state = fold.state
    if rule is None or state.said & LIFT_MASK or step.this.bits & LIFT_MASK:
        return
    stood_s = end.time_s - start.time_s
    if not rule.stop_min_s <= stood_s <= rule.stop_max_s:
        return
    load_after = step.this.bits & LOAD_MASK
    if load_before:
        if load_before not in LOADED:
            return
    elif not state.leg:
        return
    near = terms.places.near(start.lat_e7, start.lon_e7, start.time_s, 300) if terms.places_any else []
    at_home = any(one.place.kind in ("site", "depot") and one.distance_m <= start.sigma_m for one in near)
    if at_home or not away(near, start.sigma_m, terms):
        return
    emptied = load_before in LOADED and load_after == EMPTY
    begin, until = clock(terms, start.time_s), clock(terms, end.time_s)
    en, zh = lasting(stood_s)
    if emptied:
        since = ("the load was gone afterwards", "停车后载货变为空载")
    elif load_before:
        since = ("loaded, and the sensor says loaded afterwards too", "停车前后均显示载货")
    else:
        since = ("on the way from a site, load not known", "自工地驶出途中，载货状态未知")
    told_as = Told(
        rule,
        "lead",
        f"Lead: stood {en} ({begin} to {until}) away from every permitted ground, {since[0]}; there is no lift sensor",
        f"线索：{begin}至{until}在许可消纳场外停车{zh}，{since[1]}；无举升传感器",
        limits={"margin_m": rule.margin_m},
        permit=terms.permits[0].number if terms.permits else "",
    )
    measured = {
        "duration_s": stood_s, "load_emptied": emptied, "from_site": state.leg, **known(state, end.time_s)
    }  # fmt: skip
    inputs, left_out = fold.trail.read(state.anchor_at, step.at)
    event = Event(start.time_s, end.time_s, inputs, start, left_out)
    fold.told.append(assemble(fold, terms, "dumping-lead", told_as, event, measured))
    state.leg = ""


def told(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of a lifted box."""
    flag = case.flag
    was_loaded, emptied = bool(flag & _WAS_LOADED), bool(flag & _EMPTIED)
    lead = bool(flag & _SAID_EMPTY) and not was_loaded
    begin = clock(terms, case.start_s)
    en, zh = lasting(case.last_s - case.start_s)
    so_far = ("", "") if over else (" so far", "至今")
    load = (
        ("the load was gone within the time", "随后变为空载") if emptied
        else ("loaded before", "举升前载货") if was_loaded
        else ("the load sensor said empty", "载货传感器显示空载") if lead
        else ("load not known", "载货状态未知")
    )  # fmt: skip
    speed_e1 = case.worst.speed_e1
    return Told(
        terms.rules.dumping,
        "lead" if lead else "violation",
        f"{'Lead: box' if lead else 'Box'} lifted away from every permitted ground from {begin} for {en}{so_far[0]}; "
        f"{load[0]}",
        f"{'线索：' if lead else ''}{begin}起在许可消纳场外举升车厢，{so_far[1]}历时{zh}；{load[1]}",
        measured={"loaded_before": was_loaded, "load_emptied": emptied},
        peak={"lift": "lifted", **({"speed_kmh_e1": speed_e1} if speed_e1 != NONE_U16 else {})},
        permit=terms.permits[0].number if terms.permits else "",
    )
