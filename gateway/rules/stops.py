"""Stops, the trips between them, and how much of a trip is known.

A vehicle stops when it stays within `radius_m` of one fix, slower than `speed_kmh`, for `persist_s`; a traffic light is
too short. A trip runs from the last fix of a stop to the first fix of the next. What lies in a gap (a step longer than
max(intervals x reporting interval, silence_s)) is not known; the shares that are known stand in every finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Journey, State
from gateway.rules.terms import Terms
from gateway.rules.track import LOAD_MASK, NONE_U32, Moment, way_m

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold, Step

OFF_FIXES: Final = 2
"""So many fixes in a row away from the place of a stop end it."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A stay at a site, a dumping ground or a depot, by the fixes that lay inside."""

    place_id: str
    enter_utc_s: int
    leave_utc_s: int


@dataclass(frozen=True, slots=True)
class Trip:
    """From one stop, or the first fix of the day, to the next, or the last."""

    start_utc_s: int
    end_utc_s: int
    start_seq: int
    end_seq: int
    from_place: str
    """Id of the site, ground or depot where it began; "" elsewhere."""
    to_place: str
    start_lat_e7: int
    start_lon_e7: int
    end_lat_e7: int
    end_lon_e7: int
    loaded: bool
    """The load sensor said so at some fix."""
    fixes: int
    known_m: int
    """Length of the track, without gaps."""
    known_time_permille: int
    """Share of its time that fixes tell of."""
    known_distance_permille: int
    """Share of its distance; that of gaps by straight lines, or by the odometer where it says more."""


Stopped = Callable[["Fold", Moment, Moment, int, "Step", Terms], None]
"""(fold, first and last moment of a stop, load bits before it, the step that ends it, terms)."""


def look(fold: Fold, step: Step, terms: Terms, stopped: Stopped) -> None:
    """One step. `stopped` is told of every stop when it is over, before the next trip begins."""
    state, this = fold.state, step.this
    rule = terms.stop
    anchor, trip = state.anchor, state.trip
    if anchor is None or trip is None:
        state.trip = _begun(state, this)
        _anchor(state, step)
        return
    slow = step.speed_e1 < rule.speed_kmh * 10
    if state.still:
        if slow and way_m(anchor, this) <= rule.radius_m + 2 * this.sigma_m:
            state.off = 0
            return
        if not state.off:
            state.left = step.prev
        state.off += 1
        if state.off >= OFF_FIXES or not step.known:
            _depart(fold, step, terms, stopped)
        return
    if not step.known and step.dt_s > rule.trip_gap_s and step.prev is not None:
        _end(fold, step.prev, trip)
        state.trip = _begun(state, this)
        _anchor(state, step)
        return
    _drive(trip, step)
    if not slow or way_m(anchor, this) > rule.radius_m:
        _anchor(state, step)
    elif this.time_s - anchor.time_s >= rule.persist_s:
        state.still = True
        trip.known_s, trip.metres, trip.gap_m, trip.fixes = state.mark
        _end(fold, anchor, trip)


def _begun(state: State, this: Moment) -> Journey:
    return Journey(this.time_s, this.seq, this.lat_e7, this.lon_e7, _place(state))


def _place(state: State) -> str:
    return min((name for name, stay in state.stays.items() if stay.inside), default="")


def _anchor(state: State, step: Step) -> None:
    state.anchor, state.anchor_at, state.off = step.this, step.at, 0
    state.stop_load = step.this.bits & LOAD_MASK
    if state.trip is not None:
        state.mark = (state.trip.known_s, state.trip.metres, state.trip.gap_m, state.trip.fixes)


def _drive(trip: Journey, step: Step) -> None:
    trip.fixes += 1
    trip.loaded = trip.loaded or bool(step.loaded)
    if step.known:
        trip.known_s += step.dt_s
        trip.metres += step.metres
        return
    driven_m = 0
    prev, this = step.prev, step.this
    if prev is not None and NONE_U32 not in (this.mileage_hm, prev.mileage_hm):
        driven_m = (this.mileage_hm - prev.mileage_hm) * 100
    trip.gap_m += max(step.metres, driven_m)


def _depart(fold: Fold, step: Step, terms: Terms, stopped: Stopped) -> None:
    state = fold.state
    anchor, left = state.anchor, state.left or step.prev
    if anchor is None or left is None:
        return
    stopped(fold, anchor, left, state.stop_load, step, terms)
    state.still = False
    trip = state.trip = _begun(state, left)
    trip.fixes = state.off + 1
    trip.loaded = bool(step.loaded)
    metres = way_m(left, step.this)
    if step.known:
        trip.known_s = step.this.time_s - left.time_s
        trip.metres = metres
    else:
        trip.gap_m = metres
    _anchor(state, step)


def _end(fold: Fold, at: Moment, trip: Journey) -> None:
    trip.end_s = max(at.time_s, trip.start_s)
    if fold.report is None or trip.end_s == trip.start_s:
        return
    span_s = trip.end_s - trip.start_s
    whole_m = trip.metres + trip.gap_m
    fold.report(
        Trip(
            trip.start_s,
            trip.end_s,
            trip.seq,
            at.seq,
            trip.site,
            _place(fold.state),
            trip.lat_e7,
            trip.lon_e7,
            at.lat_e7,
            at.lon_e7,
            trip.loaded,
            trip.fixes,
            round(trip.metres),
            min(1000, trip.known_s * 1000 // span_s),
            int(1000 * (trip.metres / whole_m)) if whole_m >= 1 else 1000,
        )
    )


def end_day(fold: Fold) -> None:
    """The day is cut: what is under way ends with its last fix."""
    state = fold.state
    if state.trip is not None and not state.trip.end_s and state.last is not None:
        _end(fold, state.last, state.trip)
    for place_id, stay in state.stays.items():
        if stay.inside:
            fold.visited(place_id, stay)
