"""Fan, purifier and concentration beside each other: what runs while the other does not, and currents out of band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.rules.fume_samples import FUME, PURIFIER_CURRENT, Sample
from gateway.rules.fume_set import PurifierCurrent, micro_grams
from gateway.rules.fume_state import BIN_E6, BINS_MAX, Band, fan_on, level, purifier_on
from gateway.rules.fume_terms import FumeTerms
from gateway.rules.means import quantile
from gateway.rules.windows import DAY_S

if TYPE_CHECKING:
    from gateway.rules.fume_fold import Fold

OFF = "purifier-off"
CURRENT = "purifier-current"
FAN_OFF = "fume-fan-off"


def look(fold: Fold, sample: Sample, fresh: list[tuple[int, str]], terms: FumeTerms) -> None:
    """All ducts, after the levels of a sample were noted."""
    state = fold.state
    since_s = sample.time_s - terms.gap_s
    tables = terms.tables
    if fresh and (tables.purifier_off is not None or tables.purifier_current is not None):
        for duct in state.ducts:
            fan, fan_by = fan_on(state, duct, since_s, terms.fan_on_e6)
            runs, runs_by = purifier_on(state, duct, since_s, terms.purifier_on_e6)
            if tables.purifier_off is not None:
                _off(fold, duct, fan, runs, f"{fan_by}, {runs_by}", terms)
            if tables.purifier_current is not None:
                read = (PURIFIER_CURRENT, duct) in fresh
                _current(fold, duct, in_use=runs is True and fan is not False, read=read, terms=terms)
    rule = tables.fan_off
    if rule is not None:
        for channel in state.fumes:
            if (FUME, channel) in fresh:
                fan, fan_by = fan_on(state, channel, since_s, terms.fan_on_e6)
                _fan_off(fold, channel, fan, fan_by, terms)


def _off(fold: Fold, duct: str, fan: bool | None, runs: bool | None, known_by: str, terms: FumeTerms) -> None:
    """Fan on, purifier off. Where either is not known nothing is said."""
    rule = terms.tables.purifier_off
    assert rule is not None  # noqa: S101 - asked by look
    assert fold.sample is not None  # noqa: S101 - asked by look
    slot = f"{OFF} {duct}"
    case = fold.state.cases.get(slot)
    if fan and runs is False:
        if case is not None and case.more["known_by"] != known_by:
            fold.end(slot)
        cooked = level(fold.state, FUME, duct, fold.sample.time_s - terms.gap_s)
        case = fold.breaks(slot, OFF, duct, 0 if cooked is None else cooked.value_e6 or 0)
        case.more = {"known_by": known_by}
        if case.last_s - case.start_s >= rule.persist_s:
            fold.certain(case)
    elif fan is False or runs:
        fold.back(slot, rule.clear_s)


def _current(fold: Fold, duct: str, *, in_use: bool, read: bool, terms: FumeTerms) -> None:
    """The current of a purifier in use against its band; where none is configured it is also noted for later days."""
    rule = terms.tables.purifier_current
    assert rule is not None  # noqa: S101 - asked by look
    state, slot = fold.state, f"{CURRENT} {duct}"
    if not in_use:
        if slot in state.cases:
            fold.end(slot)
        return
    drawn = state.levels.get(f"{PURIFIER_CURRENT}{duct}")
    if not read or drawn is None or not drawn.good or drawn.value_e6 is None:
        return
    band = band_of(fold, duct, terms)
    if terms.kitchen is None or terms.kitchen.band_e6 is None:
        counts = state.currents.setdefault(duct, {})
        step = drawn.value_e6 // BIN_E6
        if step in counts or len(counts) < BINS_MAX:
            counts[step] = counts.get(step, 0) + 1
    if band is None:
        return
    low_e6, high_e6 = band
    if low_e6 <= drawn.value_e6 <= high_e6:
        fold.back(slot, rule.clear_s)
        return
    case = fold.breaks(slot, CURRENT, duct, drawn.value_e6, low_e6 if drawn.value_e6 < low_e6 else high_e6)
    if case.last_s - case.start_s >= rule.persist_s:
        fold.certain(case)


def band_of(fold: Fold, duct: str, terms: FumeTerms) -> tuple[int, int] | None:
    """The band of a purifier, A times 10^6: the kitchen's, else the learnt one."""
    if terms.kitchen is not None and terms.kitchen.band_e6 is not None:
        return terms.kitchen.band_e6
    learnt_band = fold.state.bands.get(duct)
    return None if learnt_band is None else (learnt_band.low_e6, learnt_band.high_e6)


def _fan_off(fold: Fold, channel: str, fan: bool | None, known_by: str, terms: FumeTerms) -> None:
    rule = terms.tables.fan_off
    assert rule is not None  # noqa: S101 - asked by look
    slot = f"{FAN_OFF} {channel}"
    found = fold.state.levels[f"{FUME}{channel}"]
    if not found.good or found.value_e6 is None:
        return
    limit_e6 = micro_grams(rule.fume_ug_m3)
    if fan is False and found.value_e6 > limit_e6:
        case = fold.breaks(slot, FAN_OFF, channel, found.value_e6, limit_e6)
        case.more = {"known_by": known_by}
        if case.last_s - case.start_s >= rule.persist_s:
            fold.certain(case)
    elif fan or found.value_e6 <= limit_e6:
        fold.back(slot, rule.clear_s)


def learnt(days: Mapping[int, Mapping[str, Mapping[int, int]]], day_from_s: int, terms: FumeTerms) -> dict[str, Band]:
    """Bands of all ducts for a day, from the days before it."""
    rule = terms.tables.purifier_current
    if rule is None or not rule.learn_days:
        return {}
    since_s = day_from_s - rule.learn_days * DAY_S
    before = [counts for day, counts in sorted(days.items()) if since_s <= day < day_from_s]
    found: dict[str, Band] = {}
    for duct in sorted({duct for counts in before for duct in counts}):
        band = _band([counts[duct] for counts in before if duct in counts], rule)
        if band is not None:
            found[duct] = band
    return found


def _band(days: list[Mapping[int, int]], rule: PurifierCurrent) -> Band | None:
    """The median of the days' quantiles, and the margin: some days that were out of order do not shift it."""
    values = sum(sum(day.values()) for day in days)
    if len(days) < rule.learn_days_min or values < rule.learn_values_min:
        return None
    lows = sorted(quantile(day, rule.low_permille) for day in days)
    highs = sorted(quantile(day, rule.high_permille) for day in days)
    low_e6 = lows[(len(days) - 1) // 2] * BIN_E6
    high_e6 = (highs[len(days) // 2] + 1) * BIN_E6
    return Band(
        low_e6 * (100 - rule.margin_percent) // 100, high_e6 * (100 + rule.margin_percent) // 100, values, len(days),
        low_e6, high_e6,
    )  # fmt: skip
