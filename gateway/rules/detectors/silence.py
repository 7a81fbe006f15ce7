"""Silence of a vehicle that should report, with its cause as far as the records show it.

A vehicle that was switched off where it stands is not offline. Neither is one that the gateway could not hear: what
lies in a silence of the gateway itself, or of nearly all vehicles at once, is not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.core.finding import Judgement, Severity
from gateway.rules.telling import Event, Told, assemble, clock, known, lasting, place_shape
from gateway.rules.terms import Terms
from gateway.rules.track import (
    ACC_MASK,
    ACC_OFF,
    BACKFILL,
    FIX,
    Moment,
    alarms_of,
    way_m,
)

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold

MOVED_S: Final = 120
"""Seen driving so recently: it was not parked when it fell silent."""
DEAD_ZONE_M: Final = 50
"""So near to a dead zone is next to it."""
LONG_S: Final = 10**9

_CAUSES: Final = {
    "power": ("after a power alarm", "此前有主电源报警"),
    "antenna": ("after an antenna alarm", "此前有天线报警"),
    "logged-off": ("after the terminal had logged off", "终端此前主动注销"),
    "moved": ("it was moved meanwhile although switched off", "熄火静默期间车辆位置改变"),
    "dead-zone": ("next to a known dead zone", "位于已知信号盲区旁"),
    "unknown": ("cause not known", "原因不明"),
}
_RULES: Final = {"power": "power-cut", "antenna": "antenna-cut"}
_SEVERITIES: Final[dict[str, Severity]] = {
    "power": "lead", "antenna": "lead", "logged-off": "lead", "moved": "lead", "dead-zone": "fault", "unknown": "fault",
}  # fmt: skip


def gap(fold: Fold, last: Moment, this: Moment, terms: Terms) -> None:
    """Nothing arrived of the time between two moments."""
    found = _judged(fold, last, this, this.time_s, terms, this.time_s, max(last.seq, this.seq))
    if found is not None:
        fold.told.append(found)


def ongoing(fold: Fold, quiet_s: int, terms: Terms) -> list[Judgement]:
    """Nothing has arrived for so long, by the gateway's clock."""
    last = fold.state.any
    if last is None:
        return []
    found = _judged(fold, last, None, last.time_s + quiet_s, terms, None, None)
    return [] if found is None else [found]


def to_the_end(fold: Fold, terms: Terms, seq: int | None) -> list[Judgement]:
    """Nothing arrived of the rest of the day. `seq`: of the first moment of a later day; None: there is none yet."""
    last, end_s = fold.state.any, fold.state.day_to_s
    if last is None:
        return []
    known_seq = None if seq is None else max(last.seq, seq)
    found = _judged(fold, last, None, end_s, terms, end_s, known_seq)
    return [] if found is None else [found]


def deadline_s(fold: Fold, terms: Terms) -> int:
    """Gateway time from which on the silence may be certain."""
    state = fold.state
    if state.any is None or terms.rules.offline is None:
        return LONG_S * 10
    return fold.heard_s + terms.gap_s(state.usual_s) + 1


def _judged(
    fold: Fold, last: Moment, this: Moment | None, until_s: int, terms: Terms, end_s: int | None, seq: int | None
) -> Judgement | None:
    rule = terms.rules.offline
    if rule is None:
        return None
    state = fold.state
    silent_s = until_s - last.time_s
    limit_s = terms.gap_s(state.usual_s)
    if silent_s <= limit_s:
        return None
    place = state.last
    moved_m = 0
    if place is not None and this is not None and this.kind == FIX:
        moved_m = round(way_m(place, this))
    parked = _parked(fold, last)
    if parked and moved_m < rule.moved_m:
        return None
    cause = "moved" if parked else _cause(fold, last, until_s, terms)
    from_s = last.time_s if last.bits & BACKFILL else last.arrival_s
    explained_s = fold.around.explained_s(from_s, from_s + silent_s, seq)
    if silent_s - explained_s <= limit_s:
        return None
    return _told(fold, terms, cause, _Silence(last, this, end_s, silent_s, explained_s, moved_m))


def _parked(fold: Fold, last: Moment) -> bool:
    """Whether it stood and was switched off when it fell silent; where the ignition says nothing, whether it stood."""
    state = fold.state
    if state.moved_s and last.time_s - state.moved_s <= MOVED_S and state.power_s:
        return False  # a cut supply looks like an ignition switched off
    acc = last.bits & ACC_MASK
    if acc == ACC_OFF:
        return not state.moved_s or state.still or last.time_s > state.moved_s
    return not acc and state.still


def _cause(fold: Fold, last: Moment, until_s: int, terms: Terms) -> str:
    rule = terms.rules.offline
    state = fold.state
    alarm_s = rule.alarm_s if rule is not None else 0
    if state.power_s and last.time_s - state.power_s <= alarm_s:
        return "power"
    if state.antenna_s and last.time_s - state.antenna_s <= alarm_s:
        return "antenna"
    gone = state.logged_off
    if gone is not None and last.arrival_s <= gone.arrival_s and gone.time_s <= max(until_s, last.arrival_s + alarm_s):
        return "logged-off"
    if _dead_zone(fold, terms) is not None:
        return "dead-zone"
    return "unknown"


def _dead_zone(fold: Fold, terms: Terms) -> Any:
    place = fold.state.last
    if place is None or not terms.places_any:
        return None
    within_m = DEAD_ZONE_M + 2 * place.sigma_m
    near = terms.places.near(place.lat_e7, place.lon_e7, place.time_s, within_m)
    return next((one.place for one in near if one.place.kind == "dead-zone"), None)


class _Silence(NamedTuple):
    last: Moment
    this: Moment | None
    end_s: int | None
    silent_s: int
    explained_s: int
    moved_m: int


def _told(fold: Fold, terms: Terms, cause: str, silence: _Silence) -> Judgement:
    rule = terms.rules.offline
    state = fold.state
    last, this, end_s, silent_s, explained_s, moved_m = silence
    zone = _dead_zone(fold, terms) if cause == "dead-zone" else None
    usual_s = state.usual_s
    begin = clock(terms, last.time_s)
    en, zh = _CAUSES[cause]
    if end_s is None:
        span = (f"since {begin}", f"自{begin}起")
    else:
        lasted = lasting(silent_s)
        span = (f"from {begin} for {lasted[0]}", f"自{begin}起{lasted[1]}")
    severity = _SEVERITIES[cause]
    lead = ("Lead: n", "线索：") if severity == "lead" else ("N", "")
    measured: dict[str, Any] = {"cause": cause, "interval_s": usual_s, **known(state, last.time_s)}
    if end_s is not None:
        measured |= {"duration_s": end_s - last.time_s, "moved_m": moved_m}
        if explained_s:
            measured["not_heard_by_gateway_s"] = explained_s
    if last.bits & ACC_MASK:
        measured["acc"] = last.bits & ACC_MASK != ACC_OFF
    alarms = alarms_of(last.bits)
    if alarms:
        measured["alarms"] = alarms
    gone = state.logged_off if cause == "logged-off" else None
    seqs = {last.seq} | ({this.seq} if this is not None else set()) | ({gone.seq} if gone is not None else set())
    told_as = Told(
        rule,
        severity,
        f"{lead[0]}o reports {span[0]}, {en}; they are not filled in later",
        f"{lead[1]}{span[1]}没有上报，{zh}；事后也未补传",
        measured=measured,
        limits={"silence_applied_s": terms.gap_s(usual_s)},
        geometry=place_shape(zone) if zone is not None else {},
    )
    event = Event(last.time_s, end_s, tuple(sorted(seqs)), state.last)
    return assemble(fold, terms, _RULES.get(cause, "offline"), told_as, event, measured)
