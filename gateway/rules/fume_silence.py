"""Silence of a monitor in business hours. Time in which the gateway itself heard nothing is not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.rules.fume_samples import MOMENT, Sample
from gateway.rules.fume_state import Case
from gateway.rules.fume_telling import assemble, judgement_of_silence
from gateway.rules.fume_terms import FumeTerms
from gateway.rules.windows import DAY_S, Hours

if TYPE_CHECKING:
    from gateway.rules.fume_fold import Fold

OFFLINE: Final = "monitor-offline"


def first(fold: Fold, sample: Sample, terms: FumeTerms) -> None:
    """The first reading of a day: from the opening on there was none."""
    kitchen, day_from_s = terms.kitchen, fold.state.day_from_s
    if kitchen is None or not kitchen.hours.limited or not kitchen.in_force(day_from_s):
        return
    from_s = _opening_s(kitchen.hours, day_from_s, sample.time_s)
    if from_s is not None:
        _tell(fold, terms, from_s, sample.time_s, end_s=sample.time_s, seq=sample.seq, seqs=(sample.seq,))


def gap(fold: Fold, sample: Sample, terms: FumeTerms) -> None:
    """Nothing arrived of the time between two readings."""
    state = fold.state
    seqs = (state.last_seq, sample.seq)
    _tell(fold, terms, state.last_s, sample.time_s, end_s=sample.time_s, seq=max(seqs), seqs=seqs)


def ongoing(fold: Fold, quiet_s: int, terms: FumeTerms) -> None:
    """Nothing has arrived for so long, by the gateway's clock."""
    state = fold.state
    until_s = min(state.last_s + quiet_s, state.day_to_s)
    _tell(fold, terms, state.last_s, until_s, end_s=None, seq=None, seqs=(state.last_seq,))


def to_the_end(fold: Fold, terms: FumeTerms, seq: int | None) -> None:
    """Nothing arrived of the rest of the day."""
    state = fold.state
    if state.last_s:
        _tell(fold, terms, state.last_s, state.day_to_s, end_s=state.day_to_s, seq=seq, seqs=(state.last_seq,))


def _tell(
    fold: Fold, terms: FumeTerms, from_s: int, until_s: int, *, end_s: int | None, seq: int | None,
    seqs: tuple[int, ...],
) -> None:  # fmt: skip
    rule, kitchen = terms.tables.monitor_offline, terms.kitchen
    if rule is None or kitchen is None:
        return
    silent_s = open_s(kitchen.hours, from_s, until_s)
    if silent_s <= terms.silence_s:
        return
    explained_s = fold.around.explained_s(from_s, until_s, seq)
    if silent_s - explained_s <= terms.silence_s:
        return
    state = fold.state
    more: dict[str, int | str] = {"silent_in_hours_s": silent_s, "cause": "unknown"}
    if from_s <= state.link_s <= until_s:
        more["cause"] = state.link
        seqs = (*seqs, state.link_seq)
    if explained_s:
        more["not_heard_by_gateway_s"] = explained_s
    case = Case(
        OFFLINE, "", MOMENT, state.book, state.who, 0, from_s, 0, until_s, from_s, seqs[0], 0, 0, more=more
    )  # fmt: skip
    told = judgement_of_silence(terms, case, ended=end_s is not None)
    fold.told.append(assemble(fold, terms, case, end_s, (tuple(sorted(set(seqs))), 0), told))


def open_s(hours: Hours, from_s: int, to_s: int) -> int:
    """Seconds of [from, to) that lie in business hours."""
    if not hours.limited:
        return to_s - from_s
    covered_s, total_s = from_s, 0
    for start_s, end_s in _windows(hours, from_s, to_s):
        start_s, end_s = max(start_s, covered_s), min(end_s, to_s)  # noqa: PLW2901
        if end_s > start_s:
            total_s += end_s - start_s
            covered_s = end_s
    return total_s


def _opening_s(hours: Hours, from_s: int, to_s: int) -> int | None:
    """The first second of [from, to) in business hours."""
    return next(
        (max(start, from_s) for start, end in _windows(hours, from_s, to_s) if end > from_s and start < to_s), None
    )


def _windows(hours: Hours, from_s: int, to_s: int) -> list[tuple[int, int]]:
    """All spans that touch a time, by their begin."""
    found: list[tuple[int, int]] = []
    for day in range((from_s + hours.zone_s) // DAY_S - 1, (to_s + hours.zone_s) // DAY_S + 1):
        base_s = day * DAY_S - hours.zone_s
        if hours.open_on(day):
            found += [(base_s + window.from_s, base_s + window.to_s) for window in hours.windows]
    return sorted(found)
