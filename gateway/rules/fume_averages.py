"""Means against limits: windows that close, and the events that windows above the limit make.

Our own means count where they are valid, else what the device says of the same windows; an event rests on one
of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.rules.fume_checks import inside
from gateway.rules.fume_samples import FLOW, MOMENT, STATISTIC, Sample, Value
from gateway.rules.fume_set import FumeSustained
from gateway.rules.fume_state import CHANNELS_MAX, Averages, Case, Level, level
from gateway.rules.fume_terms import FumeTerms
from gateway.rules.kitchens import STOVE_FLOW_M3_H
from gateway.rules.means import Minute, Window, converted

if TYPE_CHECKING:
    from gateway.rules.fume_fold import Fold

LIMIT: Final = "fume-limit"
SUSTAINED: Final = "fume-sustained"
RULES: Final = frozenset({LIMIT, SUSTAINED})
NEVER_S: Final = 1 << 60


class Verdict(NamedTuple):
    """What a valid window says."""

    mean_e6: int
    """What is compared with the limit."""
    window: Window
    basis: str
    kind: int
    flow_m3_h_e6: int
    """It was converted with; 0: it was not."""
    flow_source: str


def moment(fold: Fold, sample: Sample, channel: str, value: Level, terms: FumeTerms) -> None:
    """A value of a moment goes into its minute."""
    averages = _of(fold, channel)
    if averages is None or value.value_e6 is None:
        return
    minute = averages.minute
    if minute is None:
        start_s = _start_s(fold, sample.time_s, terms.minute_s)
        minute = averages.minute = Minute(start_s, fold.at, fold.at, sample.time_s)
        _set_deadline(fold, terms)
    minute.seen += 1
    minute.last_at = fold.at
    if value.good:
        flow = level(fold.state, FLOW, channel, sample.time_s - terms.gap_s)
        minute.add(value.value_e6, sample.time_s, sample.seq, None if flow is None else flow.value_e6)


def statistic(fold: Fold, sample: Sample, value: Value, terms: FumeTerms) -> None:
    """What the device has averaged itself goes into windows of its own."""
    averages = _of(fold, value.channel)
    if averages is None:
        return
    from_s = sample.time_s - sample.period_s + 1
    for place, rule in enumerate(terms.windows):
        start_s = _start_s(fold, sample.time_s, rule.window_s)
        if rule.window_s % sample.period_s or from_s < start_s:
            continue
        window = averages.device.get(place)
        if window is None:
            window = averages.device[place] = Window(start_s, fold.at, fold.at, sample.time_s)
        if from_s <= window.until_s:
            continue  # sent twice
        window.until_s = sample.time_s
        window.last_at = fold.at
        good = value.good and value.value_e6 is not None and inside(value.quantity, value.value_e6, terms)
        if good and value.value_e6 is not None:
            window.add(value.value_e6, sample.period_s, from_s, sample.seq)
            window.values += 1
    _set_deadline(fold, terms)


def close(fold: Fold, time_s: int, terms: FumeTerms) -> None:
    """Judge every window that has ended by `time_s`."""
    state = fold.state
    for channel, averages in state.averages.items():
        minute = averages.minute
        if minute is not None and minute.start_s + terms.minute_s <= time_s:
            averages.minute = None
            for place, rule in enumerate(terms.windows):
                start_s = _start_s(fold, minute.start_s, rule.window_s)
                window = averages.own.get(place)
                if window is not None and window.start_s != start_s:
                    _judge(fold, place, channel, averages, terms)
                    window = None
                if window is None:
                    window = averages.own[place] = Window(start_s, minute.at, minute.last_at, minute.seen_s)
                if minute.valid(terms.expected, terms.valid_percent):
                    window.take(minute, terms.minute_s)
        for place, rule in enumerate(terms.windows):
            windows = (averages.own.get(place), averages.device.get(place))
            if any(one is not None and one.start_s + rule.window_s <= time_s for one in windows):
                _judge(fold, place, channel, averages, terms)
    for slot, case in list(state.cases.items()):
        if case.rule in RULES and time_s >= case.last_s + terms.windows[_place(case, terms)].window_s:
            fold.end(slot)
    _set_deadline(fold, terms)


def _judge(fold: Fold, place: int, channel: str, averages: Averages, terms: FumeTerms) -> None:
    """The window of a rule that has ended, by our means or the device's."""
    rule = terms.windows[place]
    limit_e6 = terms.limits[place][0]
    own, device = averages.own.pop(place, None), averages.device.pop(place, None)
    if own is not None and device is not None and own.start_s != device.start_s:
        later = max(own, device, key=lambda one: one.start_s)  # the earlier one is judged, the later one goes on
        if later is own:
            averages.own[place], own = own, None
        else:
            averages.device[place], device = device, None
    name = SUSTAINED if isinstance(rule, FumeSustained) else LIMIT
    slot = f"{name} {channel}"
    verdict = _verdict(fold, rule.window_s, own, device, terms)
    case = fold.state.cases.get(slot)
    if verdict is None or verdict.mean_e6 <= limit_e6:
        if case is not None:
            fold.end(slot)
        return
    if case is not None and (case.last_s != verdict.window.start_s or case.more["basis"] != verdict.basis):
        fold.end(slot)
        case = None
    if case is None:
        window = verdict.window
        case = fold.state.cases[slot] = Case(
            name, channel, verdict.kind, fold.state.book, fold.state.who, window.at, window.start_s, 0, 0, 0, 0, -1,
            limit_e6, count=0, seen_s=window.seen_s, more={"basis": verdict.basis},
        )  # fmt: skip
    _extend(case, verdict, rule.window_s)
    if case.count >= (rule.windows_min if isinstance(rule, FumeSustained) else 1):
        fold.certain(case)


def _extend(case: Case, verdict: Verdict, window_s: int) -> None:
    window, more = verdict.window, case.more
    case.count += 1
    case.last_at, case.last_s = window.last_at, window.start_s + window_s
    valid = window.valid_permille(window_s)
    more["valid_permille_min"] = min(int(more.get("valid_permille_min", 1000)), valid)
    more["values"] = int(more.get("values", 0)) + window.values
    if verdict.mean_e6 <= case.worst_e6:
        return
    case.worst_e6, case.worst_s, case.worst_seq = verdict.mean_e6, window.peak_s, window.peak_seq
    more["window_utc_s"] = window.start_s
    more["as_measured_e6"] = window.mean_e6
    more["highest_in_window_e6"] = window.peak_e6
    more["flow_m3_h"] = verdict.flow_m3_h_e6 // 1_000_000
    more["flow_source"] = verdict.flow_source


def _verdict(fold: Fold, window_s: int, own: Window | None, device: Window | None, terms: FumeTerms) -> Verdict | None:
    """The mean of a window, ours where it is valid, else the device's; None where neither is."""
    for window, kind in ((own, MOMENT), (device, STATISTIC)):
        if window is None or window.valid_s * 100 < terms.valid_percent * window_s or not window.valid_s:
            continue
        said = "" if kind == MOMENT else "device-mean, "
        if terms.basis == "device-converted":
            return Verdict(window.mean_e6, window, f"{said}device-converted", kind, 0, "")
        kitchen = terms.kitchen
        if terms.basis == "reference-flow" and kitchen is not None and kitchen.stoves and len(fold.state.fumes) <= 1:
            flow, source = window.flow_m3_h_e6(window_s, terms.valid_percent), "measured"
            if flow is None and kitchen.fan_flow_m3_h is not None:
                flow, source = kitchen.fan_flow_m3_h * 1_000_000, "configured"
            if flow is not None:
                mean_e6 = converted(window.mean_e6, flow, kitchen.stoves, STOVE_FLOW_M3_H)
                return Verdict(mean_e6, window, f"{said}reference-flow", kind, flow, source)
        return Verdict(window.mean_e6, window, f"{said}as-measured", kind, 0, "")
    return None


def _place(case: Case, terms: FumeTerms) -> int:
    wanted = case.rule == SUSTAINED
    return next(place for place, rule in enumerate(terms.windows) if isinstance(rule, FumeSustained) == wanted)


def _of(fold: Fold, channel: str) -> Averages | None:
    averages = fold.state.averages.get(channel)
    if averages is None and len(fold.state.averages) < CHANNELS_MAX:
        averages = fold.state.averages[channel] = Averages()
    return averages


def _start_s(fold: Fold, time_s: int, length_s: int) -> int:
    day_from_s = fold.state.day_from_s
    return day_from_s + (time_s - day_from_s) // length_s * length_s


def _set_deadline(fold: Fold, terms: FumeTerms) -> None:
    """When the next minute or window ends."""
    state = fold.state
    ends = [NEVER_S]
    for averages in state.averages.values():
        if averages.minute is not None:
            ends.append(averages.minute.start_s + terms.minute_s)
        for place, rule in enumerate(terms.windows):
            here = (averages.own.get(place), averages.device.get(place))
            ends += [window.start_s + rule.window_s for window in here if window is not None]
    lasting = [case for case in state.cases.values() if case.rule in RULES]
    ends += [case.last_s + terms.windows[_place(case, terms)].window_s for case in lasting]
    state.close_s = min(ends)
