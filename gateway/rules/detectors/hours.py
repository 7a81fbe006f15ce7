"""Driving outside the permitted hours, and driving loaded without any permit in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Case
from gateway.rules.detectors.route import AT_HOME
from gateway.rules.rule_set import HoursRule
from gateway.rules.telling import Told, clock, kmh, lasting
from gateway.rules.terms import Terms

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold, Step

HOURS: Final = "hours"
NO_PERMIT: Final = "no-permit"


def look(fold: Fold, step: Step, terms: Terms) -> None:
    """One step."""
    rule = terms.rules.hours
    if rule is None:
        return
    cases = fold.state.cases
    loaded = step.loaded
    applies = rule.applies == "any" or loaded or (loaded is None and rule.applies == "loaded-or-unknown")
    if applies and step.speed_e1 > rule.speed_kmh * 10:
        away = not any(near.distance_m < 0 and near.place.kind in AT_HOME for near in step.near)
        if loaded and terms.permits_any and terms.plate and not terms.permits and away:
            _moving(fold, step, NO_PERMIT, rule)
        elif NO_PERMIT in cases:
            fold.end(NO_PERMIT)
        if away and outside_s(terms, step.this.time_s, rule) > rule.grace_s:
            _moving(fold, step, HOURS, rule)
        elif HOURS in cases:
            fold.end(HOURS)
        return
    for slot in (HOURS, NO_PERMIT):
        if slot in cases:
            _standing(fold, step, slot, terms, applies=bool(applies))


def outside_s(terms: Terms, utc_s: int, rule: HoursRule) -> int:
    """How far a moment lies outside what is permitted; 0 inside, and where no hours are set."""
    minute = utc_s // 60
    if minute == terms.open_minute:
        return 0
    least = -1
    for hours in terms.hours:
        if not hours.limited:
            return 0
        if hours.open(utc_s):
            terms.open_minute = minute  # windows and zones are of whole minutes
            return 0
        away_s = hours.outside_s(utc_s)
        if away_s <= rule.grace_s:
            return 0
        least = away_s if least < 0 else min(least, away_s)
    return max(least, 0)


def _moving(fold: Fold, step: Step, slot: str, rule: HoursRule) -> None:
    before = fold.state.cases.get(slot)
    case = fold.breaks(slot, slot, step.speed_e1)
    if before is not None and step.known:
        case.flag += step.dt_s  # seconds in motion
    if case.flag >= rule.persist_s:
        fold.certain(case)


def _standing(fold: Fold, step: Step, slot: str, terms: Terms, *, applies: bool) -> None:
    """At a light it goes on; a stop ends it, and so does what is no longer to be judged."""
    case = fold.state.cases[slot]
    wait_s = terms.stop.persist_s
    if not applies or fold.state.still or step.this.time_s - case.last_s >= wait_s:
        fold.end(slot)


def told(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of driving outside the hours."""
    rule = terms.rules.hours
    permit = terms.permits[0] if terms.permits else None
    windows = " / ".join(dict.fromkeys(str(hours) for hours in terms.hours if hours.limited))
    begin, end = clock(terms, case.start_s), clock(terms, case.last_s)
    away_s = outside_s(terms, case.start_s, rule) if rule is not None else 0
    loaded = case.worst.bits & 3
    en, zh = lasting(case.last_s - case.start_s)
    so_far = ("", "") if over else (" so far", "至今")
    what = ("loaded", "载货") if loaded else ("load not known", "载货状态未知")
    return Told(
        rule,
        "violation" if loaded else "lead",
        f"{'Driving' if loaded else 'Lead: driving'} outside the permitted hours {windows}: {begin} to {end} "
        f"({en}{so_far[0]}), {what[0]}",
        f"{'' if loaded else '线索：'}在许可时段{windows}之外行驶：{begin}至{end}（{so_far[1]}{zh}），{what[1]}",
        measured={"moving_s": case.flag, "outside_at_start_s": away_s, "speed_max_kmh_e1": case.worst_value},
        limits={"hours": windows},
        peak={"speed_kmh_e1": case.worst_value},
        permit=permit.number if permit else "",
    )


def told_no_permit(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of hauling without a permit."""
    begin, end = clock(terms, case.start_s), clock(terms, case.last_s)
    en, zh = lasting(case.last_s - case.start_s)
    so_far = ("", "") if over else (" so far", "至今")
    return Told(
        terms.rules.hours,
        "violation",
        f"Driving loaded while no permit is in force for {terms.plate}: {begin} to {end} ({en}{so_far[0]}), "
        f"up to {kmh(case.worst_value)} km/h",
        f"{terms.plate}无有效许可载货行驶：{begin}至{end}（{so_far[1]}{zh}），最高{kmh(case.worst_value)}公里/小时",
        measured={"moving_s": case.flag, "speed_max_kmh_e1": case.worst_value},
        peak={"speed_kmh_e1": case.worst_value},
    )
