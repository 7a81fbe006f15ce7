"""From a case to the finding: limits, measurements, and one line of text in two languages.

An online value is a lead and says so: GB 18483-2001 is decided by manual sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway.core.finding import Judgement, Severity
from gateway.rules.fume_set import (
    FumeSustained,
    PurifierCurrent,
    PurifierOff,
    Range,
    thresholds,
)
from gateway.rules.fume_state import Case
from gateway.rules.fume_terms import FumeTerms
from gateway.rules.kitchens import STOVE_FLOW_M3_H
from gateway.rules.windows import DAY_S

if TYPE_CHECKING:
    from gateway.rules.fume_fold import Fold

Rule = Any
"""A table of gateway.rules.fume_set."""
Inputs = tuple[tuple[int, ...], int]

BASES: Final = {
    "as-measured": ("as measured, not converted to the base air volume", "实测值，未折算基准风量"),
    "reference-flow": ("converted to the base air volume", "已折算基准风量"),
    "device-converted": ("converted by the device", "设备折算值"),
}
SAMPLING: Final = (
    "manual sampling (5 x 10 min) decides, not this value",
    "是否超标以现场采样（5×10分钟）为准，本数据不作判定依据",
)
STATES_EN: Final = {"unknown": "cause not known", "offline": "its link was lost"}
STATES_ZH: Final = {"unknown": "原因不明", "offline": "链路中断"}


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule says of a case."""

    rule: Rule
    en: str
    zh: str
    measured: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    """Beside those of the rule's table."""
    peak: dict[str, Any] = field(default_factory=dict)


def judgement(fold: Fold, case: Case, end_s: int | None, inputs: Inputs | None = None) -> Judgement:
    """The finding of a case: as it stands when it becomes certain (end None), or when it is over."""
    terms = fold.terms_of(case.book, case.who, case.seen_s or case.start_s)
    assert terms is not None  # noqa: S101 - a case began under terms
    told = TELLERS[case.rule](fold, case, terms)
    return assemble(fold, terms, case, end_s, fold.inputs(case) if inputs is None else inputs, told)


def assemble(fold: Fold, terms: FumeTerms, case: Case, end_s: int | None, inputs: Inputs, told: Told) -> Judgement:
    """A finding from its parts."""
    kitchen = terms.kitchen
    measured: dict[str, Any] = {"readings": case.count, **told.measured}
    if end_s is not None or case.rule != "monitor-offline":
        measured["duration_s"] = case.last_s - case.start_s
    if kitchen is not None:
        measured |= {"kitchen": kitchen.id, "kitchen_name": kitchen.name}
    if case.offset_s:
        measured["clock_corrected_by_s"] = -case.offset_s
    severity: Severity = told.rule.severity
    lead = ("Lead: ", "线索：") if severity == "lead" else ("", "")
    return Judgement(
        rule=case.rule,
        severity=severity,
        source=fold.source,
        device=fold.device,
        plate="",
        firm=terms.firm,
        start_utc_s=case.start_s,
        end_utc_s=end_s,
        inputs=inputs[0],
        book_sha256=terms.book_sha256,
        book_seq=terms.book_seq,
        rule_set=terms.rules.id,
        legal_source=str(told.rule.source),
        limits={**thresholds(told.rule), **told.limits},
        measured=measured,
        peak={"time_utc_s": case.worst_s, "seq": case.worst_seq, **told.peak},
        text={"en": lead[0] + told.en, "zh": lead[1] + told.zh},
        inputs_left_out=inputs[1],
        subject=case.channel,
    )


# ------------------------------------------------------------ each rule


def _means(_fold: Fold, case: Case, terms: FumeTerms) -> Told:
    sustained = case.rule == "fume-sustained"
    place = next(n for n, one in enumerate(terms.windows) if isinstance(one, FumeSustained) == sustained)
    rule, (limit_e6, limit_source) = terms.windows[place], terms.limits[place]
    basis = str(case.more["basis"])
    en, zh = BASES[basis.removeprefix("device-mean, ")]
    if basis.startswith("device-mean, "):
        en, zh = f"mean by the device, {en}", f"设备上报均值，{zh}"
    minutes = rule.window_s // 60
    value, limit = decimal(case.worst_e6), decimal(limit_e6)
    if sustained:
        at = clock(terms, case.start_s)
        says = (
            f"from {at} {case.count} means over {minutes} min in a row above {limit} mg/m3, highest {value} mg/m3",
            f"自{at}起连续{case.count}个{minutes}分钟均值超过{limit} mg/m³，最高{value} mg/m³",
        )
    else:
        at = clock(terms, int(case.more["window_utc_s"]))
        says = (
            f"mean of fume over {minutes} min from {at} is {value} mg/m3, limit {limit} mg/m3",
            f"{at}起{minutes}分钟油烟均值{value} mg/m³，限值{limit} mg/m³",
        )
    measured: dict[str, Any] = {
        "basis": basis,
        "windows": case.count,
        "mean_max_mg_m3_e6": case.worst_e6,
        "window_of_max_utc_s": case.more["window_utc_s"],
        "as_measured_mg_m3_e6": case.more["as_measured_e6"],
        "minute_max_mg_m3_e6": case.more["highest_in_window_e6"],
        "valid_min_permille": case.more["valid_permille_min"],
        "readings": case.more["values"],
    }
    limits: dict[str, Any] = {
        "limit_mg_m3_e6": limit_e6,
        "limit_source": limit_source,
        "basis": terms.basis,
        "minute_s": terms.minute_s,
        "interval_s": terms.interval_s,
        "valid_percent": terms.valid_percent,
    }
    if case.more["flow_m3_h"] and terms.kitchen is not None:
        measured |= {"flow_m3_h": case.more["flow_m3_h"], "flow_source": case.more["flow_source"]}
        limits |= {"stoves": terms.kitchen.stoves, "stove_flow_m3_h": STOVE_FLOW_M3_H}
    by = (f"limit by {limit_source}; {en}", f"限值依据{limit_source}；{zh}")
    return Told(
        rule, f"{says[0]}; {by[0]}; {SAMPLING[0]}", f"{says[1]}；{by[1]}；{SAMPLING[1]}", measured, limits,
        {"mean_mg_m3_e6": case.worst_e6},
    )  # fmt: skip


def _on_limits(terms: FumeTerms) -> dict[str, Any]:
    return {"fan_on_a_e6": terms.fan_on_e6, "purifier_on_a_e6": terms.purifier_on_e6, "gap_s": terms.gap_s}


def _purifier_off(_fold: Fold, case: Case, terms: FumeTerms) -> Told:
    rule = terms.tables.purifier_off or PurifierOff(source="-")
    lasted = lasting(case.last_s - case.start_s)
    at = clock(terms, case.start_s)
    return Told(
        rule,
        f"from {at} the fan ran and the purifier did not, for {lasted[0]}",
        f"自{at}起风机运行而净化器未运行，持续{lasted[1]}",
        {"known_by": case.more["known_by"], "fume_max_mg_m3_e6": case.worst_e6},
        _on_limits(terms),
        {"fume_mg_m3_e6": case.worst_e6},
    )


def _purifier_current(fold: Fold, case: Case, terms: FumeTerms) -> Told:
    rule = terms.tables.purifier_current or PurifierCurrent()
    kitchen = terms.kitchen
    own = None if kitchen is None else kitchen.band_e6
    band = fold.state.bands.get(case.channel)
    limits: dict[str, Any] = _on_limits(terms)
    low_e6, high_e6 = own or ((band.low_e6, band.high_e6) if band is not None else (case.worst_limit_e6,) * 2)
    limits |= {"band_low_a_e6": low_e6, "band_high_a_e6": high_e6, "band": "configured" if own else "learnt"}
    if own is None and band is not None:
        limits |= {
            "learnt_days": band.days,
            "learnt_values": band.values,
            "learnt_low_a_e6": band.low_quantile_e6,
            "learnt_high_a_e6": band.high_quantile_e6,
        }
    below = case.worst_e6 < case.worst_limit_e6
    lasted, at = lasting(case.last_s - case.start_s), clock(terms, case.start_s)
    how = ("configured", "设定") if own else ("learnt", "自学习")
    side = ("below", "低于") if below else ("above", "高于")
    value, bound = decimal(case.worst_e6), decimal(case.worst_limit_e6)
    return Told(
        rule,
        f"from {at} the purifier drew {value} A, {side[0]} its {how[0]} band ({bound} A), for {lasted[0]}; "
        "it may be dirty or bypassed",
        f"自{at}起净化器电流{value} A，{side[1]}{how[1]}区间（{bound} A），持续{lasted[1]}；可能积油或被旁路",
        {"current_worst_a_e6": case.worst_e6},
        limits,
        {"current_a_e6": case.worst_e6},
    )


def _fan_off(_fold: Fold, case: Case, terms: FumeTerms) -> Told:
    lasted, at, value = lasting(case.last_s - case.start_s), clock(terms, case.start_s), decimal(case.worst_e6)
    return Told(
        terms.tables.fan_off,
        f"from {at} up to {value} mg/m3 while the fan was off, for {lasted[0]}; probe, sensor or clock is wrong",
        f"自{at}起风机未运行而浓度达{value} mg/m³，持续{lasted[1]}；探头、电流采集或时钟可能异常",
        {"fume_max_mg_m3_e6": case.worst_e6, "known_by": case.more["known_by"]},
        _on_limits(terms),
        {"fume_mg_m3_e6": case.worst_e6},
    )


def _flat(_fold: Fold, case: Case, terms: FumeTerms) -> Told:
    lasted, at, value = lasting(case.last_s - case.start_s), clock(terms, case.start_s), decimal(case.worst_e6)
    return Told(
        terms.tables.flat_line,
        f"from {at} the concentration stood at {value} mg/m3 without any change for {lasted[0]}",
        f"自{at}起浓度持续为{value} mg/m³、无任何变化，已{lasted[1]}",
        {"fume_mg_m3_e6": case.worst_e6},
        {},
        {"fume_mg_m3_e6": case.worst_e6},
    )


def _range(_fold: Fold, case: Case, terms: FumeTerms) -> Told:
    quantity, at = str(case.more["quantity"]), clock(terms, case.start_s)
    name_zh = NAMES_ZH.get(quantity, quantity)
    unit = "A" if quantity.endswith("current") else "mg/m3"
    name = f"{quantity}_{'a' if unit == 'A' else 'mg_m3'}_e6"
    value, bound = decimal(case.worst_e6), decimal(case.worst_limit_e6)
    return Told(
        terms.tables.range or Range(),
        f"from {at} {case.count} values of {quantity} that cannot be, the worst {value} {unit} (bound {bound} {unit})",
        f"自{at}起{case.count}个{name_zh}数值超出可能范围，最甚{value} {unit}（界限{bound} {unit}）",
        {"quantity": quantity, name: case.worst_e6},
        {"bound_e6": case.worst_limit_e6},
        {name: case.worst_e6},
    )


NAMES_ZH: Final = {
    "fume": "油烟浓度",
    "fume_converted": "油烟折算浓度",
    "fan_current": "风机电流",
    "purifier_current": "净化器电流",
}


def _jump(_fold: Fold, case: Case, terms: FumeTerms) -> Told:
    at, value, before = clock(terms, case.start_s), decimal(case.worst_e6), decimal(case.worst_limit_e6)
    return Told(
        terms.tables.jump_value,
        f"at {at} the concentration went from {before} to {value} mg/m3 and stayed there",
        f"{at}浓度由{before}突变至{value} mg/m³并保持",
        {"before_mg_m3_e6": case.worst_limit_e6, "fume_mg_m3_e6": case.worst_e6},
        {},
        {"fume_mg_m3_e6": case.worst_e6},
    )


def _calibration(_fold: Fold, case: Case, terms: FumeTerms) -> Told:
    days = case.more["overdue_days"]
    until_s = 0 if terms.kitchen is None else terms.kitchen.calibrated_until_utc_s or 0
    return Told(
        terms.tables.calibration,
        f"the monitor's calibration ran out {days} days ago",
        f"监测设备校准已过期{days}天",
        {"overdue_days": days},
        {"calibrated_until_utc_s": until_s},
    )


def judgement_of_silence(terms: FumeTerms, case: Case, *, ended: bool) -> Told:
    """Of gateway.rules.fume_silence."""
    cause, at = str(case.more["cause"]), clock(terms, case.start_s)
    en, zh = STATES_EN.get(cause, f"last state: {cause}"), STATES_ZH.get(cause, f"末次状态：{cause}")
    lasted = lasting(int(case.more["silent_in_hours_s"]))
    span = (f"from {at}, {lasted[0]} of business hours", f"自{at}起营业时间内{lasted[1]}")
    if not ended:
        span = (f"since {at}, in business hours", f"自{at}起营业时间内")
    measured = dict(case.more)
    if not ended:
        for name in ("silent_in_hours_s", "not_heard_by_gateway_s"):
            measured.pop(name, None)
    return Told(
        terms.tables.monitor_offline,
        f"no reading {span[0]}; {en}; not filled in later",
        f"{span[1]}无监测数据；{zh}；事后也未补传",
        {**measured, "interval_s": terms.interval_s, "readings": 0},
        {"silence_applied_s": terms.silence_s},
    )


TELLERS: Final[dict[str, Callable[[Fold, Case, FumeTerms], Told]]] = {
    "fume-limit": _means,
    "fume-sustained": _means,
    "purifier-off": _purifier_off,
    "purifier-current": _purifier_current,
    "fume-fan-off": _fan_off,
    "flat-line": _flat,
    "out-of-range": _range,
    "value-jump": _jump,
    "calibration": _calibration,
}


def clock(terms: FumeTerms, utc_s: int) -> str:
    """Local time of day, HH:MM."""
    second = (utc_s + terms.rules.zone_s) % DAY_S
    return f"{second // 3600:02d}:{second // 60 % 60:02d}"


def decimal(value_e6: int) -> str:
    """1250000 -> "1.25"; three decimals at most, rounded to the nearest, and further ones where it would be 0."""
    sign, size = ("-" if value_e6 < 0 else ""), abs(value_e6)
    if size >= 1000 or not size:
        size = (size + 500) // 1000 * 1000
    whole, rest = divmod(size, 1_000_000)
    digits = f"{rest:06d}".rstrip("0")
    return f"{sign}{whole}.{digits or '0'}"


def lasting(seconds: int) -> tuple[str, str]:
    """A duration in English and Chinese: 75 -> ("75 s", "75秒"), 7200 -> ("120 min", "120分钟")."""
    if seconds < 180:
        return f"{seconds} s", f"{seconds}秒"
    return f"{seconds // 60} min", f"{seconds // 60}分钟"
