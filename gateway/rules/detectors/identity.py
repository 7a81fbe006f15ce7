"""Who speaks, and by which clock: log-off, two links under one identity, a device clock that goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.cases import Case
from gateway.rules.telling import Event, Told, assemble, lasting
from gateway.rules.terms import Terms
from gateway.rules.track import Moment

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold

DUPLICATE: Final = "duplicate-identity"
IN_TIME_S: Final = 60
"""A moment that arrived so soon after its own time was not stored on the way."""
BACK_TURNS: Final = 3
"""So often the two courses of time must take turns: a truck that sends what it had stored does so once."""
BACK_RUN: Final = 10
"""And so many of the clock that was put back follow one another then."""
BACK_WITHIN_S: Final = 600
ADDRESSES_MAX: Final = 8
"""In a finding."""


def logged_off(fold: Fold, moment: Moment) -> None:
    """The device said that it goes."""
    fold.state.logged_off = moment


def duplicate(fold: Fold, moment: Moment, terms: Terms) -> None:
    """Another link under the same identity: one finding for as long as they take turns."""
    if terms.rules.duplicate is None:
        return
    fold.put(moment)
    fold.step.metres = 0.0
    case = fold.breaks(DUPLICATE, DUPLICATE, 0)
    addresses = filter(None, fold.around.note(fold.source, fold.device, moment.seq))
    case.addresses = tuple(sorted({*case.addresses, *addresses})[:ADDRESSES_MAX])
    fold.certain(case)


def twins_over(case: Case, now_s: int, terms: Terms) -> bool:
    """Whether the two links have left each other alone long enough."""
    rule = terms.rules.duplicate
    return rule is None or now_s - case.last_s > rule.within_s


def told(fold: Fold, case: Case, terms: Terms, over: bool) -> Told:
    """The finding of a second link."""
    between = " / ".join(case.addresses) or "-"
    en, zh = lasting(case.last_s - case.start_s)
    times = f"{case.fixes} times in {en}" if over and case.fixes > 1 else "seen"
    times_zh = f"{zh}内{case.fixes}次" if over and case.fixes > 1 else "发现"
    return Told(
        terms.rules.duplicate,
        "lead",
        f"Lead: two links under the identity {fold.device}, {times}: {between}; one of them is not this device",
        f"线索：终端标识{fold.device}{times_zh}同时存在两个连接：{between}；其中一个不是本终端",
        measured={"turns": case.fixes, "addresses": list(case.addresses)},
    )


def clock(fold: Fold, moment: Moment, terms: Terms) -> None:
    """Device times that were used before are used again: fixes that arrived in time stand after some that came later,
    again and again, and then only such come that are late by the same.

    What a truck stored, or sends twice, as if it were new takes turns too; but then fixes in time go on between.
    """
    state = fold.state
    ahead = state.ahead
    own_s = moment.arrival_s - moment.time_s
    if ahead is None or moment.seq > ahead.seq:
        state.ahead = moment
        if state.back:
            _goes_on(fold, moment, own_s, terms)
        return
    rule = terms.rules.offline
    if rule is None or abs(own_s) > IN_TIME_S or (ahead.arrival_s - ahead.time_s) - own_s < rule.clock_back_s:
        return
    if not state.back or moment.time_s - state.back_s > BACK_WITHIN_S:
        state.back, state.back_from = 0, ahead
    state.back += 1
    state.back_run = 0
    state.back_s = moment.time_s


def _goes_on(fold: Fold, moment: Moment, own_s: int, terms: Terms) -> None:
    """A moment in the order of arrival: of the clock that was put back, or in time after all."""
    state, rule, start = fold.state, terms.rules.offline, fold.state.back_from
    if rule is None or start is None or own_s < rule.clock_back_s:
        state.back = 0
        return
    state.back_run += 1
    if state.back < BACK_TURNS or state.back_run != BACK_RUN:
        return
    en, zh = lasting(own_s)
    told_as = Told(
        rule,
        "fault",
        f"The device clock was put back by about {en}: times that had been reported already were reported again",
        f"终端时钟被回拨约{zh}：已上报过的时间再次上报",
    )
    event = Event(start.time_s, moment.time_s, tuple(sorted({start.seq, moment.seq})), moment)
    measured = {"back_s": own_s, "duration_s": moment.time_s - start.time_s}
    fold.told.append(assemble(fold, terms, "clock-back", told_as, event, measured))
