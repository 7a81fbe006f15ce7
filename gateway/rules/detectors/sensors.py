"""What a terminal can no longer measure, or measures against itself: no place, a frozen place, sensors that fell
silent, an odometer that disagrees with the track.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Case, Odometer
from gateway.rules.telling import Told, kmh, known, lasting
from gateway.rules.terms import Terms
from gateway.rules.track import ANTENNA, FAULTS, NONE_U16, NONE_U32, POWER, SENSOR_BITS, SENSORS, Moment, alarms_of

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold, Step

NO_FIX: Final = "no-fix"
FROZEN: Final = "frozen-gnss"
LOST: Final = "sensors-lost"
MILEAGE: Final = "mileage"
DRIVING_E1: Final = 50
BACK_FIXES: Final = 2
_ZH: Final = {"load": "载货", "cover": "顶盖", "lift": "举升", "other": "其他"}


def alarms(fold: Fold, moment: Moment) -> None:
    """Remember when the supply or the antenna gave alarm."""
    bits = moment.bits
    if bits & (POWER | ANTENNA):
        if bits & POWER:
            fold.state.power_s = moment.time_s
        if bits & ANTENNA:
            fold.state.antenna_s = moment.time_s


def void(fold: Fold, moment: Moment, terms: Terms) -> None:
    """A report without a place: by itself nothing, but of a vehicle that drives it is jamming or a cut antenna."""
    rule = terms.rules.offline
    if rule is None:
        return
    state, step = fold.state, fold.step
    last = state.last
    driving = DRIVING_E1 < moment.recorder_e1 < NONE_U16
    if last is not None and NONE_U32 not in (moment.mileage_hm, last.mileage_hm):
        driving = driving or moment.mileage_hm > last.mileage_hm + 1
    antenna = bool(moment.bits & ANTENNA)
    if driving and moment.recorder_e1 != 0:
        state.moved_s = moment.time_s
    if not (driving or antenna or NO_FIX in state.cases):
        return
    fold.put(moment)
    step.metres = 0.0
    recorder_e1 = moment.recorder_e1 if moment.recorder_e1 != NONE_U16 else 0
    case = fold.breaks(NO_FIX, "antenna-cut" if antenna else "jammed", recorder_e1)
    if antenna and not case.told:
        case.rule = "antenna-cut"
    case.flag += driving
    enough = case.flag >= rule.lost_fixes or (antenna and case.fixes >= rule.lost_fixes)
    if enough and case.last_s - case.start_s >= rule.lost_s:
        fold.certain(case)


def look(fold: Fold, step: Step, terms: Terms) -> None:
    """One step with a place."""
    cases = fold.state.cases
    if NO_FIX in cases:
        fold.back(NO_FIX, BACK_FIXES)
    if FROZEN in cases or (not step.metres and step.known):
        _frozen(fold, step, terms)
    said, bits = fold.state.said, step.this.bits
    if LOST in cases or bits & FAULTS or (said & ~bits and missing(said, bits)):
        _lost(fold, step, terms)
    if terms.rules.mileage is not None:
        _mileage(fold, step, terms)


def _frozen(fold: Fold, step: Step, terms: Terms) -> None:
    rule = terms.rules.frozen_gnss
    case = fold.state.cases.get(FROZEN)
    prev, this = step.prev, step.this
    same = step.known and not step.metres and prev is not None and step.dt_s > 0
    if same and rule is not None and prev is not None:
        recorder_e1 = this.recorder_e1 if this.recorder_e1 != NONE_U16 else 0
        counted = NONE_U32 not in (prev.mileage_hm, this.mileage_hm) and this.mileage_hm > prev.mileage_hm
        if recorder_e1 > rule.speed_kmh * 10 or counted:
            if case is None:
                case = fold.breaks(FROZEN, FROZEN, recorder_e1)
                case.at, case.start_s, case.fixes = max(step.at - 1, 0), prev.time_s, 2
                case.flag = prev.mileage_hm if prev.mileage_hm != NONE_U32 else -1
            else:
                case = fold.breaks(FROZEN, FROZEN, recorder_e1)
            if case.fixes >= rule.fixes_min and case.last_s - case.start_s >= rule.persist_s:
                fold.certain(case)
            return
    if case is not None and not same:
        fold.end(FROZEN)


def _lost(fold: Fold, step: Step, terms: Terms) -> None:
    """Sensors that spoke today and are silent, or that are said to be faulty, while driving."""
    rule = terms.rules.offline
    state, bits = fold.state, step.this.bits
    lost = missing(state.said, bits)
    case = state.cases.get(LOST)
    if rule is None:
        return
    if lost:
        if step.speed_e1 > DRIVING_E1:
            case = fold.breaks(LOST, LOST, step.speed_e1)
            case.flag |= lost
            if case.fixes >= rule.lost_fixes and case.last_s - case.start_s >= rule.lost_s:
                fold.certain(case)
    elif case is not None:
        fold.back(LOST, BACK_FIXES)


def missing(said: int, bits: int) -> int:
    """One bit for each of SENSORS that is missing or faulty, and one for any other fault."""
    faults = (bits & FAULTS) >> 14
    for number, mask in enumerate(SENSOR_BITS):
        if said & mask and not bits & mask:
            faults |= 1 << number
    return faults


def _mileage(fold: Fold, step: Step, terms: Terms) -> None:
    rule = terms.rules.mileage
    state, this = fold.state, step.this
    meter = state.odometer
    if state.still and MILEAGE in state.cases:
        fold.end(MILEAGE)
    frozen = step.known and not step.metres and step.speed_e1 > DRIVING_E1
    if rule is None or this.mileage_hm == NONE_U32 or meter is None or not step.known or frozen:
        fresh = this.mileage_hm != NONE_U32
        state.odometer = Odometer(this.mileage_hm, step.at, this.time_s) if fresh else None
        return
    if step.speed_e1 > DRIVING_E1 or step.metres > 3 * this.sigma_m:
        meter.metres += step.metres
    driven_m = (this.mileage_hm - meter.mileage_hm) * 100
    whole_m = max(meter.metres, driven_m)
    if driven_m >= 0 and whole_m < rule.distance_m:
        return
    state.odometer = Odometer(this.mileage_hm, step.at, this.time_s)
    if abs(driven_m - meter.metres) * 100 <= rule.percent * whole_m:
        if MILEAGE in state.cases:
            fold.end(MILEAGE)
        return
    case = state.cases.get(MILEAGE)
    if case is None:
        case = fold.breaks(MILEAGE, MILEAGE, 0)
        case.at, case.start_s, case.metres = meter.at, meter.since_s, 0.0
    case.last_at, case.last_s = step.at, this.time_s
    case.metres += meter.metres
    case.total += driven_m
    fold.certain(case)


def told_no_fix(fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of reports without a place."""
    antenna = case.rule == "antenna-cut"
    en, zh = lasting(case.last_s - case.start_s)
    so_far = ("", "") if over else (" so far", "至今")
    place = fold.state.last
    before = {"lat_e7": place.lat_e7, "lon_e7": place.lon_e7, "sigma_m": place.sigma_m} if place is not None else {}
    what = ("the terminal reports a cut or shorted antenna", "终端报告天线断开或短路") if antenna else (
        "perhaps jammed or shielded", "可能被干扰或遮挡"
    )  # fmt: skip
    peak = kmh(case.worst_value)
    moving = ("", "")
    if case.worst_value:
        moving = (f", while driving (recorder up to {peak} km/h)", f"，期间车辆行驶（记录仪最高{peak}公里/小时）")
    return Told(
        terms.rules.offline,
        "lead",
        f"Lead: no satellite position for {en}{so_far[0]}{moving[0]}; {what[0]}",
        f"线索：{so_far[1]}{zh}没有卫星定位{moving[1]}；{what[1]}",
        measured={
            "cause": "antenna" if antenna else "no-fix", "driving_reports": case.flag,
            "recorder_max_kmh_e1": case.worst_value, "alarms": alarms_of(case.worst.bits),
        },
        peak=before,
    )  # fmt: skip


def told_frozen(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of a place that does not change."""
    en, zh = lasting(case.last_s - case.start_s)
    so_far = ("", "") if over else (" so far", "至今")
    return Told(
        terms.rules.frozen_gnss,
        "lead",
        f"Lead: the same coordinates in {case.fixes} fixes over {en}{so_far[0]} while the vehicle's own recorder or "
        f"odometer went on (up to {kmh(case.worst_value)} km/h)",
        f"线索：{so_far[1]}{zh}内{case.fixes}个定位点坐标完全相同，而行车记录仪或里程仍在变化（最高{kmh(case.worst_value)}公里/小时）",
        measured={"recorder_max_kmh_e1": case.worst_value},
    )


def told_lost(_fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of sensors that fell silent."""
    names = [name for number, name in enumerate((*SENSORS, "other")) if case.flag & 1 << number]
    en, zh = lasting(case.last_s - case.start_s)
    so_far = ("", "") if over else (" so far", "至今")
    return Told(
        terms.rules.offline,
        "lead",
        f"Lead: sensors silent or faulty while driving ({', '.join(names)}), {en}{so_far[0]}",
        f"线索：行驶中传感器无数据或故障（{'、'.join(_ZH[name] for name in names)}），{so_far[1]}{zh}",
        measured={"sensors": " ".join(names)},
    )


def told_mileage(fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of an odometer that disagrees with the track."""
    track_m = round(case.metres)
    so_far = ("", "") if over else (" so far", "至今")
    return Told(
        terms.rules.mileage,
        "fault",
        f"Odometer and track disagree: {case.total} m against {track_m} m{so_far[0]}",
        f"里程表与轨迹不符：里程表{case.total}米，轨迹{track_m}米{so_far[1]}",
        measured={"odometer_m": case.total, "track_m": track_m, **known(fold.state, case.last_s)},
    )
