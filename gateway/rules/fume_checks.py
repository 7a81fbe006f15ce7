"""Single values: out of range, always the same, or another order of magnitude; and the calibration of the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.rules.fume_samples import CONVERTED, FAN_CURRENT, FUME, NAMES, PURIFIER_CURRENT, Sample
from gateway.rules.fume_set import FlatLine, JumpValue, micro_grams, milli_amperes
from gateway.rules.fume_state import Before, Case, Level, fan_on
from gateway.rules.fume_terms import FumeTerms
from gateway.rules.windows import DAY_S

if TYPE_CHECKING:
    from gateway.rules.fume_fold import Fold

RANGE = "out-of-range"
FLAT = "flat-line"
JUMP = "value-jump"
CALIBRATION = "calibration"


def bounds(quantity: int, terms: FumeTerms) -> tuple[int, int] | None:
    """Lowest and highest value that can be; None where nothing is said of the quantity."""
    rule = terms.tables.range
    if rule is None:
        return None
    if quantity in (FUME, CONVERTED):
        return micro_grams(rule.fume_min_ug_m3), micro_grams(rule.fume_max_ug_m3)
    if quantity in (FAN_CURRENT, PURIFIER_CURRENT):
        return milli_amperes(rule.current_min_ma), milli_amperes(rule.current_max_ma)
    return None


def inside(quantity: int, value_e6: int, terms: FumeTerms) -> bool:
    """Whether a value can be."""
    ends = bounds(quantity, terms)
    return ends is None or ends[0] <= value_e6 <= ends[1]


def in_range(fold: Fold, quantity: int, channel: str, value_e6: int, terms: FumeTerms) -> bool:
    """The same; so many that cannot, in a row, are told of."""
    ends = bounds(quantity, terms)
    if ends is None:
        return True
    slot = f"{RANGE} {quantity} {channel}"
    if ends[0] <= value_e6 <= ends[1]:
        if slot in fold.state.cases:
            fold.end(slot)
        return True
    nearest = ends[0] if value_e6 < ends[0] else ends[1]
    name = channel if quantity == FUME else f"{NAMES[quantity]} {channel}".strip()
    case = fold.breaks(slot, RANGE, name, value_e6, nearest)
    case.more = {"quantity": NAMES[quantity]}
    if terms.tables.range is not None and case.count >= terms.tables.range.values_min:
        fold.certain(case)
    return False


def fume(fold: Fold, channel: str, value: Level, terms: FumeTerms) -> None:
    """A new concentration beside those before it."""
    if not value.good or value.value_e6 is None:
        return
    flat, jump = terms.tables.flat_line, terms.tables.jump_value
    if flat is None and jump is None:
        return
    before = fold.state.before.get(channel)
    if before is None:
        before = fold.state.before[channel] = Before()
    fan, _how = fan_on(fold.state, channel, value.time_s - terms.gap_s, terms.fan_on_e6)
    if flat is not None:
        _flat(fold, channel, value, before, fan, flat, terms)
    if jump is not None:
        _jump(fold, channel, value.value_e6, before, fan, jump)
    before.last_e6 = value.value_e6


def _flat(
    fold: Fold, channel: str, value: Level, before: Before, fan: bool | None, rule: FlatLine, terms: FumeTerms
) -> None:
    slot = f"{FLAT} {channel}"
    value_e6 = value.value_e6 or 0
    in_use = fan if fan is not None else value_e6 > micro_grams(rule.floor_ug_m3)
    kitchen = terms.kitchen
    if value_e6 == before.last_e6 and in_use and (kitchen is None or kitchen.hours.open(value.time_s)):
        case = fold.breaks(slot, FLAT, channel, value_e6)
        if case.count >= rule.values_min and case.last_s - case.start_s >= rule.persist_s:
            fold.certain(case)
    elif slot in fold.state.cases:
        fold.end(slot)


def _jump(fold: Fold, channel: str, value_e6: int, before: Before, fan: bool | None, rule: JumpValue) -> None:
    slot = f"{JUMP} {channel}"
    if fan is False or fan != before.fan:
        before.fan, before.values_e6, before.fresh_e6 = fan, [] if fan is False else [value_e6], []
        fold.state.cases.pop(slot, None)
        return
    values = before.values_e6
    if len(values) < rule.values_before:
        values.append(value_e6)
        return
    level_e6 = sorted(values)[len(values) // 2]
    low_e6, high_e6 = sorted((level_e6, value_e6))
    if low_e6 >= micro_grams(rule.floor_ug_m3) and high_e6 >= rule.factor * low_e6:
        case = fold.breaks(slot, JUMP, channel, value_e6, level_e6)
        before.fresh_e6.append(value_e6)
        if len(before.fresh_e6) >= rule.values_min:
            case.told = True
            fold.end(slot)
            before.values_e6, before.fresh_e6 = before.fresh_e6, []
        return
    fold.state.cases.pop(slot, None)
    before.fresh_e6 = []
    values.append(value_e6)
    del values[: -rule.values_before]


def calibration(fold: Fold, sample: Sample, terms: FumeTerms) -> None:
    """At the first reading of a day."""
    rule, kitchen, day_from_s = terms.tables.calibration, terms.kitchen, fold.state.day_from_s
    if rule is None or kitchen is None or kitchen.calibrated_until_utc_s is None:
        return
    over_s = day_from_s - kitchen.calibrated_until_utc_s
    if over_s < 0 or over_s // DAY_S % rule.repeat_days:
        return
    at = fold.state.lengths[sample.kind]
    case = Case(
        CALIBRATION, "", sample.kind, sample.book, sample.who, at, sample.time_s, at, sample.time_s, sample.time_s,
        sample.seq, 0, 0, told=True, more={"overdue_days": over_s // DAY_S + 1},
    )  # fmt: skip
    fold.point(case, sample.seq)
