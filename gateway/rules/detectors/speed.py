"""Speeding: faster than the lowest limit that holds for the vehicle, the road, the place, the hour and its state.

The speed that the receiver measures must be plausible: the way from the fix before, or the vehicle's own recorder, has
to agree with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Case
from gateway.rules.rule_set import Speeding
from gateway.rules.telling import Told, corridor_shape, kmh, lasting, place_shape
from gateway.rules.terms import Terms
from gateway.rules.track import COVER_MASK, NONE_U16, NOT_COVERED

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold, Step

SLOT: Final = "speeding"
BACK_FIXES: Final = 2


def look(fold: Fold, step: Step, terms: Terms) -> None:
    """One step."""
    rule = terms.rules.speeding
    if rule is None:
        return
    case = fold.state.cases.get(SLOT)
    speed_e1 = step.speed_e1
    if case is None and speed_e1 <= rule.margin_kmh * 10:
        return
    limit_e1, ref = _limit(step, terms, rule)
    too_fast = limit_e1 > 0 and speed_e1 > threshold_e1(rule, limit_e1)
    if too_fast and _plausible(step, rule, threshold_e1(rule, limit_e1)):
        case = fold.breaks(SLOT, "speeding", speed_e1, limit_e1, ref)
        if case.worst is step.this:
            case.ref = ref
        if case.fixes >= rule.fixes_min and case.last_s - case.start_s >= rule.persist_s:
            fold.certain(case)
    elif case is not None:
        fold.back(SLOT, BACK_FIXES)


def threshold_e1(rule: Speeding, limit_e1: int) -> int:
    """Limit and margin, in 0.1 km/h: above it is speeding."""
    return limit_e1 + max(rule.margin_kmh * 10, limit_e1 * rule.margin_percent // 100)


def _limit(step: Step, terms: Terms, rule: Speeding) -> tuple[int, str]:
    """(lowest limit in 0.1 km/h, 0: none; where it comes from)."""
    this = step.this
    found: list[tuple[int, str]] = []
    if rule.limit_kmh:
        found.append((rule.limit_kmh, "vehicle"))
    if rule.loaded_limit_kmh and step.loaded:
        found.append((rule.loaded_limit_kmh, "loaded"))
    if rule.uncovered_limit_kmh and this.bits & COVER_MASK in NOT_COVERED:
        found.append((rule.uncovered_limit_kmh, "uncovered"))
    found += [(one.speed_kmh, f"permit:{one.number}") for one in terms.permits if one.speed_kmh is not None]
    for near in step.near:
        if near.place.kind == "zone" and near.distance_m < -this.sigma_m:
            limit = near.place.speed_kmh(this.time_s)
            if limit is not None:
                found.append((limit, f"zone:{near.place.id}"))
    lowest = min(found, default=(0, ""))
    for corridor in terms.corridors:
        limit = corridor.route.speed_kmh
        if limit is not None and (limit < lowest[0] or not lowest[0]):
            distance_m = corridor.route.line.nearest(this.lat_e7, this.lon_e7).distance_m
            if distance_m + this.sigma_m < corridor.width_m:
                lowest = (limit, f"route:{corridor.route.id}")
    return lowest[0] * 10, lowest[1]


def _plausible(step: Step, rule: Speeding, above_e1: int) -> bool:
    """Whether the way driven, or the recorder, agrees."""
    if step.path_e1 >= 0 and step.dt_s and abs(step.path_e1 - step.speed_e1) <= rule.disagree_kmh * 10:
        return True
    recorder_e1 = step.this.recorder_e1
    return (
        recorder_e1 != NONE_U16
        and recorder_e1 > above_e1
        and abs(recorder_e1 - step.speed_e1) <= rule.disagree_kmh * 10
    )


_WHERE: Final = {"vehicle": ("for this class", "车型限速"), "loaded": ("while loaded", "重载限速"),
                 "uncovered": ("while not covered", "未密闭限速")}  # fmt: skip


def told(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding."""
    rule = terms.rules.speeding
    kind, _, name = case.ref.partition(":")
    geometry = {}
    permit = ""
    if kind in _WHERE:
        where = _WHERE[kind]
    elif kind == "permit":
        where, permit = (f"of permit {name}", f"许可证{name}限速"), name
    elif kind == "zone":
        place = terms.places.by_id[name]
        geometry = place_shape(place)
        where = (f"of zone {place.name}", f"{place.name}限速")
    else:
        corridor = next(one for one in terms.corridors if one.route.id == name)
        geometry = corridor_shape(corridor, case.worst.lat_e7, case.worst.lon_e7)
        where, permit = (f"of route {corridor.route.name}", f"路线{corridor.route.name}限速"), corridor.permit.number
    peak_e1, limit_e1 = case.worst_value, case.worst_limit
    seconds = case.last_s - case.start_s
    en, zh = lasting(seconds)
    so_far = ("", "") if over else (" so far", "至今")
    return Told(
        rule,
        "violation",
        f"Speeding: {kmh(peak_e1)} km/h at most, limit {limit_e1 // 10} km/h {where[0]}, for {en}{so_far[0]}",
        f"超速：最高{kmh(peak_e1)}公里/小时，{where[1]}{limit_e1 // 10}公里/小时，{so_far[1]}持续{zh}",
        measured={"speed_max_kmh_e1": peak_e1, "speed_mean_kmh_e1": case.total // case.fixes},
        limits={
            "limit_at_peak_kmh": limit_e1 // 10,
            "limit_from": case.ref,
            **({"above_kmh_e1": threshold_e1(rule, limit_e1)} if rule is not None else {}),
        },
        peak={"speed_kmh_e1": peak_e1},
        geometry=geometry,
        permit=permit,
    )
