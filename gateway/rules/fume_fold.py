"""The judgement of one monitor: a fold over its samples in the order of the time that counts, one day after the other.

`Fold.take` is given every sample once, in order. `packed(state)`, `len(told)`, the trails and the currents of earlier
days are all that is needed to go on from any sample: see gateway.rules.fume_window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.core.finding import Judgement
from gateway.rules import fume_averages, fume_checks, fume_links, fume_silence
from gateway.rules.fume_samples import CONVERTED, FUME, LINK, MOMENT, PURIFIER_CURRENT, PURIFIER_STATE, Sample
from gateway.rules.fume_state import CHANNELS_MAX, Case, Level, State, packed, unpacked
from gateway.rules.fume_telling import judgement
from gateway.rules.fume_terms import FumeTerms
from gateway.rules.trail import Trail
from gateway.rules.windows import DAY_S

LEARN_DAYS_MAX: Final = 7
"""What fume_set allows."""
Currents = dict[str, dict[int, int]]


class Surroundings(Protocol):
    """What the judge knows beside the monitor's own records."""

    def explained_s(self, from_s: int, to_s: int, seq: int | None, /) -> int:
        """Seconds of [from, to) in which the gateway itself heard nothing, as far as was known when it had record
        `seq`; None: as is known now."""


class Fold:
    """State, trails and tellings of one monitor."""

    __slots__ = (
        "around", "at", "current", "days", "device", "heard_s", "sample", "source", "state", "terms_of", "told",
        "trails",
    )  # fmt: skip

    def __init__(
        self,
        source: str,
        device: str,
        terms_of: Callable[[int, int, int], FumeTerms | None],
        around: Surroundings,
    ) -> None:
        """`terms_of(book, who, time)`: what the rules want of this monitor at that time; None: it is not judged."""
        self.source = source
        self.device = device
        self.terms_of = terms_of
        self.around = around
        self.state = State()
        self.trails = (Trail(), Trail())
        """Seqs of statistics, and of all other readings."""
        self.told: list[Judgement] = []
        self.days: dict[int, Currents] = {}
        """By begin of the day: how often running purifiers drew which current."""
        self.heard_s = 0
        """When anything of it arrived last, by the gateway's clock."""
        self.current: FumeTerms | None = None
        self.sample: Sample | None = None
        self.at = 0

    # ------------------------------------------------------------ time

    def resume(self, state: State) -> None:
        """Go on from a state that `told` has been cut back to."""
        self.state = state
        for trail, length in zip(self.trails, state.lengths, strict=True):
            trail.back(length)
        self.current = None

    def take(self, sample: Sample) -> None:
        """The next sample."""
        state, terms = self.state, self.current
        time_s = sample.time_s
        if (
            terms is None
            or sample.book != state.book
            or sample.who != state.who
            or not terms.from_s <= time_s < terms.to_s
            or not state.day_from_s <= time_s < state.day_to_s
        ):
            terms = self._turn(sample)
            if terms is None:
                return
            state = self.state
        state.book, state.who = sample.book, sample.who
        if sample.kind == LINK:
            state.link_s, state.link_seq, state.link = time_s, sample.seq, sample.values[0].state
            return
        self.sample = sample
        if state.last_s == 0:
            fume_silence.first(self, sample, terms)
            fume_checks.calibration(self, sample, terms)
        else:
            if time_s - state.last_s > terms.silence_s:
                fume_silence.gap(self, sample, terms)
            if time_s - state.last_s > terms.gap_s:
                self._gap()
        if state.averages and time_s >= state.close_s:
            fume_averages.close(self, time_s, terms)
        self.at = state.lengths[sample.kind]
        state.lengths[sample.kind] += 1
        self.trails[sample.kind].seqs.append(sample.seq)
        if sample.kind == MOMENT:
            self._moment(sample, terms)
        else:
            for value in sample.values:
                if value.quantity == _judged(terms):
                    fume_averages.statistic(self, sample, value, terms)
        state.now_s = state.last_s = time_s
        state.last_seq = sample.seq

    def _turn(self, sample: Sample) -> FumeTerms | None:
        """Other terms, or another day: what has to end before this sample ends."""
        before = self.terms()
        terms = self.terms_of(sample.book, sample.who, sample.time_s)
        if terms is None:
            return None
        if not self.state.day_from_s <= sample.time_s < self.state.day_to_s:
            self._new_day(terms, sample.time_s, sample.seq)
        elif before is not None and not terms.same(before):
            self.cut()
            self.state.averages.clear()
            self._learn(terms)
        self.current = terms
        return terms

    def terms(self) -> FumeTerms | None:
        """Those of the last sample; None before the first of the day."""
        if self.current is None and self.state.day_to_s:
            time_s = self.state.now_s or self.state.day_from_s
            self.current = self.terms_of(self.state.book, self.state.who, time_s)
        return self.current

    def _new_day(self, terms: FumeTerms, time_s: int, seq: int) -> None:
        self.finish(seq)
        day_from_s, day_to_s = terms.rules.day(time_s)
        self.state = State(day_from_s, day_to_s, lengths=self.state.lengths)
        self._learn(terms)

    def _learn(self, terms: FumeTerms) -> None:
        self.state.bands = fume_links.learnt(self.days, self.state.day_from_s, terms)

    def finish(self, seq: int | None = None) -> None:
        """The day is over: all windows close, what lasts ends. `seq`: of the record that shows it."""
        state, terms = self.state, self.terms()
        if terms is None:
            return
        fume_averages.close(self, state.day_to_s, terms)
        self.cut()
        fume_silence.to_the_end(self, terms, seq)
        self.days.pop(state.day_from_s, None)
        if state.currents:
            self.days[state.day_from_s] = state.currents
        for day in [day for day in self.days if day < state.day_from_s - (LEARN_DAYS_MAX + 1) * DAY_S]:
            del self.days[day]

    def _gap(self) -> None:
        """Nothing is known of the time between: what rests on single values ends; windows judge their own validity."""
        self.cut(keep=fume_averages.RULES)
        self.state.levels.clear()
        self.state.before.clear()

    def cut(self, keep: frozenset[str] = frozenset()) -> None:
        """Nothing that began before now lasts."""
        for slot in [slot for slot, case in self.state.cases.items() if case.rule not in keep]:
            self.end(slot)

    def tail(self, now_s: int) -> list[Judgement]:
        """What is certain at `now_s` by the gateway's clock, though nothing more came; changes nothing."""
        terms = self.terms()
        quiet_s = now_s - self.heard_s
        if terms is None or self.state.last_s == 0 or quiet_s <= terms.gap_s:
            return []
        later = Fold(self.source, self.device, self.terms_of, self.around)
        later.state, later.trails, later.days = unpacked(packed(self.state)), self.trails, dict(self.days)
        later.heard_s = self.heard_s
        if now_s >= self.state.day_to_s and self.state.last_s + quiet_s >= self.state.day_to_s:
            later.finish()
        else:
            fume_averages.close(later, min(self.state.last_s + quiet_s, self.state.day_to_s), terms)
            fume_silence.ongoing(later, quiet_s, terms)
        return later.told

    # ------------------------------------------------------------ moments

    def _moment(self, sample: Sample, terms: FumeTerms) -> None:
        """Values of one moment: levels first, then every rule that looks at one of them."""
        state = self.state
        judged = _judged(terms)
        fresh: list[tuple[int, str]] = []
        for quantity, channel, value_e6, said, good in sample.values:
            slot = f"{quantity}{channel}"
            level = state.levels.get(slot)
            if level is None:
                if len(state.levels) >= 8 * CHANNELS_MAX:
                    continue
                level = state.levels[slot] = Level(0, None, "", good=False)
                _notice(state, quantity, channel)
            elif level.time_s == sample.time_s:
                continue  # sent twice
            if value_e6 is not None and terms.tables.range is not None:
                good = fume_checks.in_range(self, quantity, channel, value_e6, terms) and good  # noqa: PLW2901
            level.time_s, level.value_e6, level.state, level.good = sample.time_s, value_e6, said, good
            fresh.append((quantity, channel))
        for quantity, channel in fresh:
            if quantity == judged and terms.windows:
                fume_averages.moment(self, sample, channel, state.levels[f"{quantity}{channel}"], terms)
            if quantity == FUME:
                fume_checks.fume(self, channel, state.levels[f"{quantity}{channel}"], terms)
        if state.ducts or state.fumes:
            fume_links.look(self, sample, fresh, terms)

    # ------------------------------------------------------------ cases

    def breaks(self, slot: str, rule: str, channel: str, value_e6: int, limit_e6: int = 0) -> Case:
        """This sample breaks a rule: a new case, or one more input of the one that is there."""
        state, sample = self.state, self.sample
        assert sample is not None  # noqa: S101 - rules look at samples
        case = state.cases.get(slot)
        if case is None:
            case = state.cases[slot] = Case(
                rule, channel, MOMENT, state.book, state.who, self.at, sample.time_s, self.at, sample.time_s,
                sample.time_s, sample.seq, value_e6, limit_e6, offset_s=sample.offset_s,
            )  # fmt: skip
            return case
        case.count += 1
        case.last_at, case.last_s, case.back_s = self.at, sample.time_s, 0
        if abs(value_e6 - limit_e6) > abs(case.worst_e6 - case.worst_limit_e6):
            case.worst_e6, case.worst_limit_e6 = value_e6, limit_e6
            case.worst_s, case.worst_seq = sample.time_s, sample.seq
        return case

    def certain(self, case: Case) -> None:
        """Tell it, once."""
        if not case.told:
            case.told = True
            self.told.append(judgement(self, case, None))

    def back(self, slot: str, clear_s: int) -> None:
        """This sample is in order again: drop the case, or end it after so long."""
        case = self.state.cases.get(slot)
        if case is None:
            return
        time_s = self.sample.time_s if self.sample is not None else 0
        case.back_s = case.back_s or time_s
        if not case.told or time_s - case.back_s >= clear_s:
            self.end(slot)

    def end(self, slot: str) -> None:
        """It is over; what was not certain never was."""
        case = self.state.cases.pop(slot, None)
        if case is not None and case.told:
            self.told.append(judgement(self, case, case.last_s))

    def point(self, case: Case, seq: int) -> None:
        """What one record says, told at once."""
        self.told.append(judgement(self, case, case.last_s, ((seq,), 0)))

    def inputs(self, case: Case) -> tuple[tuple[int, ...], int]:
        """(seqs, how many left out)."""
        return self.trails[case.kind].read(case.at, case.last_at)


def _judged(terms: FumeTerms) -> int:
    """The quantity that is compared with limits."""
    return CONVERTED if terms.basis == "device-converted" else FUME


def _notice(state: State, quantity: int, channel: str) -> None:
    if quantity in (PURIFIER_CURRENT, PURIFIER_STATE):
        if channel not in state.ducts and len(state.ducts) < CHANNELS_MAX:
            state.ducts.append(channel)
    elif quantity == FUME and channel not in state.fumes and len(state.fumes) < CHANNELS_MAX:
        state.fumes.append(channel)
