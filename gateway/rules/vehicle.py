"""The judgement of one vehicle: a fold over its moments in the order of device time, one day after the other.

`Fold.take` is given every moment once, in order. What a fix says about the vehicle (how far it came, whether it stands,
where it is) is worked out here and in gateway.rules.stops; each rule then looks at the step (gateway.rules.detectors).
Whatever was found goes to `told`, in the order in which it became certain; the last telling of an event counts.
`packed(state)`, `len(told)` and the trail are all that is needed to go on from any moment: see gateway.rules.window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.core.finding import Judgement
from gateway.rules import stops
from gateway.rules.cases import Case, State, Stay
from gateway.rules.detectors import cover, dumping, fences, hours, identity, route, sensors, silence, speed
from gateway.rules.places import Near
from gateway.rules.stops import Trip, Visit
from gateway.rules.telling import Teller, judgement
from gateway.rules.terms import Terms
from gateway.rules.track import (
    ACC_ON,
    ANTENNA,
    BACKFILL,
    COVER_MASK,
    DUPLICATE,
    LIFT_MASK,
    LIFTED,
    LOAD_MASK,
    LOADED,
    NONE_U16,
    NOT_COVERED,
    POWER,
    SAID,
    VOID,
    Moment,
    way_m,
)
from gateway.rules.trail import Trail

TELLERS: Final[dict[str, Teller]] = {
    "off-route": route.told,
    "hours": hours.told,
    "no-permit": hours.told_no_permit,
    "speeding": speed.told,
    "uncovered": cover.told,
    "no-entry": fences.told,
    "dumping": dumping.told,
    "frozen-gnss": sensors.told_frozen,
    "jammed": sensors.told_no_fix,
    "antenna-cut": sensors.told_no_fix,
    "sensors-lost": sensors.told_lost,
    "mileage": sensors.told_mileage,
    "duplicate-identity": identity.told,
}
"""Who tells of the cases of each rule."""
NEAR_M: Final = 300
"""Places farther away than this do not concern a fix: more than every margin and uncertainty together."""
EXPIRES_S: Final = 900
"""A case that no fix has spoken for so long ends with the last that did, whatever its rule waits for."""
USUAL_MAX_S: Final = 300
"""A longer step says nothing about the reporting interval."""
LASTING: Final = frozenset({identity.DUPLICATE, sensors.MILEAGE})
"""Cases that end by other means."""
ALARMING: Final = POWER | ANTENNA
DUPLICATE_SLOT: Final = identity.DUPLICATE
DRIVING_E1: Final = 50
"""0.1 km/h: what counts as driving where a rule does not say."""


class Surroundings(Protocol):
    """What the judge knows beside the vehicle's own records."""

    def explained_s(self, from_s: int, to_s: int, seq: int | None, /) -> int:
        """Seconds of [from, to), in its own time, in which the gateway itself heard nothing, as far as was known when
        it had record `seq`; None: as is known now."""

    def note(self, source: str, device: str, seq: int, /) -> tuple[str, ...]:
        """Texts of a record of a device that is no fix; () where there are none."""


class Step:
    """One fix that counts as a place, and how the vehicle came there. One object per vehicle, used again."""

    __slots__ = ("at", "dt_s", "known", "loaded", "metres", "near", "path_e1", "prev", "speed_e1", "this")

    this: Moment
    prev: Moment | None
    at: int
    """Place in the trail."""
    dt_s: int
    metres: float
    known: bool
    """The way from `prev` is known: there was no gap."""
    loaded: bool | None
    speed_e1: int
    path_e1: int
    """Speed by the way and the time, 0.1 km/h; -1 where not known."""
    near: list[Near]
    """Places within NEAR_M."""


class Fold:
    """State, trail and tellings of one vehicle."""

    __slots__ = (
        "around", "current", "device", "heard_s", "report", "source", "state", "step", "terms_of", "told", "trail",
    )  # fmt: skip

    def __init__(
        self, source: str, device: str, terms_of: Callable[[int, int, int], Terms | None], around: Surroundings
    ) -> None:
        """`terms_of(book, who, time)`: what the rules want of this vehicle at that time; None: it is not judged."""
        self.source = source
        self.device = device
        self.terms_of = terms_of
        self.around = around
        self.state = State()
        self.trail = Trail()
        self.told: list[Judgement] = []
        self.heard_s = 0
        """When anything of the vehicle arrived last, by the gateway's clock."""
        self.report: Callable[[Trip | Visit], None] | None = None
        """Told of every trip and every visit when it is over."""
        self.current: Terms | None = None
        self.step = Step()

    # ------------------------------------------------------------ time

    def resume(self, state: State) -> None:
        """Go on from a state that `told` and the trail have been cut back to."""
        self.state = state
        self.trail.back(state.length)
        self.current = None

    def take(self, moment: Moment) -> None:
        """The next moment."""
        state = self.state
        time_s = moment.time_s
        terms = self.current
        if (
            terms is None
            or moment.book != state.book
            or moment.who != state.who
            or not terms.from_s <= time_s < terms.to_s
            or not state.day_from_s <= time_s < state.day_to_s
        ):
            terms = self._turn(moment)
            if terms is None:
                return
            state = self.state
        if DUPLICATE_SLOT in state.cases and identity.twins_over(state.cases[DUPLICATE_SLOT], time_s, terms):
            self.end(DUPLICATE_SLOT)  # as it stood before this moment: `tail` may have told it already
        state.book, state.who, state.now_s = moment.book, moment.who, time_s
        if moment.kind > VOID:
            if moment.kind == DUPLICATE:
                identity.duplicate(self, moment, terms)
            else:
                identity.logged_off(self, moment)
            return
        last = state.any
        if last is not None and time_s - last.time_s > terms.silence_s:
            silence.gap(self, last, moment, terms)
        if not moment.bits & BACKFILL:
            identity.clock(self, moment, terms)
        state.any = moment
        if moment.bits & ALARMING:
            sensors.alarms(self, moment)
        if moment.kind == VOID:
            sensors.void(self, moment, terms)
            return
        self._filter(moment, terms)

    def _turn(self, moment: Moment) -> Terms | None:
        """Other terms, or another day: what has to end before this moment ends."""
        before = self.terms()
        terms = self.terms_of(moment.book, moment.who, moment.time_s)
        if terms is None:
            return None
        if not self.state.day_from_s <= moment.time_s < self.state.day_to_s:
            self._new_day(terms, moment)
        elif before is not None and not terms.same(before):
            self.cut()
        self.current = terms
        return terms

    def terms(self) -> Terms | None:
        """Those of the last moment; None before the first of the day."""
        if self.current is None and self.state.day_to_s:
            self.current = self.terms_of(self.state.book, self.state.who, self.state.now_s)
        return self.current

    def _new_day(self, terms: Terms, moment: Moment) -> None:
        state = self.state
        if self.terms() is not None:
            self.told += self.at_end(moment.seq)
            stops.end_day(self)
        day_from_s, day_to_s = terms.rules.day(moment.time_s)
        self.state = State(day_from_s, day_to_s, length=state.length)

    def cut(self, *, gap: bool = False) -> None:
        """Nothing that began before now lasts: the rules changed, or (`gap`) nothing is known of the time between."""
        for slot in list(self.state.cases):
            if not (gap and slot == DUPLICATE_SLOT):
                self.end(slot)

    def tail(self, now_s: int) -> list[Judgement]:
        """What is certain at `now_s` by the gateway's clock, though the vehicle says nothing more; changes nothing."""
        state, terms = self.state, self.terms()
        found: list[Judgement] = []
        if terms is None:
            return found
        quiet_s = now_s - self.heard_s
        if quiet_s > terms.gap_s(state.usual_s):
            if now_s >= state.day_to_s:
                return self.at_end(None)
            found += silence.ongoing(self, quiet_s, terms)
        for slot, case in state.cases.items():
            if slot == DUPLICATE_SLOT and identity.twins_over(case, now_s, terms):
                found.append(self.finding(case, case.last_s))
        return found

    def at_end(self, seq: int | None) -> list[Judgement]:
        """What is certain when the day is over; `seq`: of the first moment of a later day, None where that is not
        known."""
        terms = self.terms()
        if terms is None:
            return []
        found = [self.finding(case, case.last_s) for case in self.state.cases.values() if case.told]
        return found + silence.to_the_end(self, terms, seq)

    # ------------------------------------------------------------ places

    def _filter(self, moment: Moment, terms: Terms) -> None:
        """Hold back a fix that no truck can have driven to, until the next one tells which of the two is wild."""
        state = self.state
        last, held = state.last, state.held
        if held is not None:
            state.held = None
            if last is not None and not _jumped(last, moment, terms):
                pass
            elif not _jumped(held, moment, terms):
                self._place(held, terms, broken=True)
            else:
                state.held = moment
                return
        elif last is not None and _jumped(last, moment, terms):
            state.held = moment
            return
        self._place(moment, terms, broken=False)

    def _place(self, this: Moment, terms: Terms, *, broken: bool) -> None:
        state = self.state
        prev = state.last
        step = self.step
        if prev is None:
            dt_s, metres, known = 0, 0.0, False
        else:
            dt_s = this.time_s - prev.time_s
            if this.lat_e7 == prev.lat_e7 and this.lon_e7 == prev.lon_e7:
                if dt_s == 0 and this.bits & SAID == prev.bits & SAID:
                    return  # sent twice
                metres = 0.0
            else:
                metres = way_m(prev, this)
            known = dt_s <= terms.gap_s(state.usual_s) and not broken
        state.last = this
        self.put(this)
        step.path_e1 = int(metres * 36 / dt_s) if known and dt_s else -1
        speed_e1 = this.speed_e1 if this.speed_e1 != NONE_U16 else this.recorder_e1
        if speed_e1 == NONE_U16:
            speed_e1 = max(step.path_e1, 0)
        elif not metres and speed_e1 < this.recorder_e1 < NONE_U16:
            speed_e1 = this.recorder_e1  # a place that is frozen, perhaps with its speed
        if (
            known
            and not metres
            and not speed_e1
            and state.still
            and not state.cases
            and prev is not None
            and this.bits == prev.bits
            and this.mileage_hm == prev.mileage_hm
            and not state.off
        ):
            for stay in state.stays.values():
                stay.last_s = this.time_s
            return  # parked: nothing else can have changed
        step.prev, step.dt_s, step.metres, step.known, step.speed_e1 = prev, dt_s, metres, known, speed_e1
        load = this.bits & LOAD_MASK
        step.loaded = None if not load else load in LOADED
        if speed_e1 > DRIVING_E1:
            state.moved_s = this.time_s
            if known and 0 < dt_s <= USUAL_MAX_S:
                state.usual_s = dt_s if not state.usual_s else (3 * state.usual_s + dt_s + 2) // 4
        self._look(terms)

    def _look(self, terms: Terms) -> None:
        """All rules, at one step."""
        state, step = self.state, self.step
        this = step.this
        if not step.known and state.cases:
            self.cut(gap=True)
        step.near = terms.places.near(this.lat_e7, this.lon_e7, this.time_s, NEAR_M) if terms.places_any else []
        if step.near or state.stays:
            fences.look(self, step, terms)
        stops.look(self, step, terms, dumping.stopped)
        cases, bits = state.cases, this.bits
        if terms.corridors or cases:
            route.look(self, step, terms)
        if step.speed_e1 > terms.slow_e1 or cases:
            hours.look(self, step, terms)
            if step.speed_e1 > terms.least_limit_e1 or cases:
                speed.look(self, step, terms)
            if bits & COVER_MASK in NOT_COVERED or cases:
                cover.look(self, step, terms)
        if bits & LIFT_MASK == LIFTED or cases:
            dumping.look(self, step, terms)
            self._expire(this.time_s)
        sensors.look(self, step, terms)
        state.said |= bits & SAID

    def _expire(self, time_s: int) -> None:
        """What nothing has spoken for so long is over."""
        cases = self.state.cases
        for slot in [slot for slot, case in cases.items() if time_s - case.last_s > EXPIRES_S]:
            if slot not in LASTING:
                self.end(slot)

    def put(self, moment: Moment) -> None:
        """A moment without a place becomes the step that cases look at, and an input."""
        step, state = self.step, self.state
        step.this = moment
        step.at = state.length
        state.length += 1
        self.trail.seqs.append(moment.seq)

    # ------------------------------------------------------------ cases

    def breaks(self, slot: str, rule: str, value: int, limit: int = 0, ref: str = "") -> Case:
        """This step breaks a rule: a new case, or one more input of the one that is there."""
        state, step = self.state, self.step
        this = step.this
        case = state.cases.get(slot)
        if case is None:
            case = state.cases[slot] = Case(
                rule, ref, this.book, state.who, step.at, this.time_s, step.at, this.time_s, this, value, limit,
                total=value,
            )  # fmt: skip
            return case
        case.fixes += 1
        case.metres += step.metres
        case.last_at, case.last_s = step.at, this.time_s
        case.back = 0
        case.total += value
        if value - limit > case.worst_value - case.worst_limit:
            case.worst, case.worst_value, case.worst_limit = this, value, limit
        return case

    def certain(self, case: Case) -> None:
        """Tell it, once."""
        if not case.told:
            case.told = True
            self.told.append(self.finding(case, None))

    def back(self, slot: str, fixes: int, seconds: int = 0) -> None:
        """This step is in order again: drop the case, or end it after so many such fixes in a row, or so long."""
        case = self.state.cases[slot]
        time_s = self.step.this.time_s
        if not case.back:
            case.back_s = time_s
        case.back += 1
        if not case.told or case.back >= fixes or (seconds and time_s - case.back_s >= seconds):
            self.end(slot)

    def end(self, slot: str) -> None:
        """It is over; what was not certain never was."""
        case = self.state.cases.pop(slot)
        if case.told:
            self.told.append(self.finding(case, case.last_s))

    def finding(self, case: Case, end_s: int | None) -> Judgement:
        """What is told of a case: when it becomes certain (None), and when it is over."""
        return judgement(self, case, end_s, TELLERS[case.rule])

    def visited(self, place_id: str, stay: Stay) -> None:
        """It has left a place for certain."""
        if self.report is not None:
            self.report(Visit(place_id, stay.since_s, stay.last_s))

    def inputs(self, case: Case) -> tuple[tuple[int, ...], int]:
        """(seqs, how many left out)."""
        return self.trail.read(case.at, case.last_at)


def _jumped(a: Moment, b: Moment, terms: Terms) -> bool:
    rule = terms.rules.jump
    if rule is None:
        return False
    dt_s = b.time_s - a.time_s
    # one degree of either is at most 111.7 km: far cheaper than the distance, and enough for nearly all steps
    if (abs(b.lat_e7 - a.lat_e7) + abs(b.lon_e7 - a.lon_e7)) * 0.01117 < rule.distance_m:
        return False
    metres = way_m(a, b) - 2 * (a.sigma_m + b.sigma_m)
    return metres > rule.distance_m and metres * 3.6 > rule.speed_kmh * max(dt_s, 1)


def driving(moment: Moment) -> bool:
    """Whether a moment by itself says that the vehicle is in use."""
    return bool(moment.bits & ACC_ON) or DRIVING_E1 < moment.speed_e1 < NONE_U16
