"""What the page about a finding shows of fume monitors: concentration and currents over time, limits, states, titles.

Pure: equal records give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, Final, NamedTuple

from gateway.core.readings import Reading, readings_of
from gateway.drawing import CHART_WIDTH, LEFT, RIGHT, STRIP_HEIGHT, TIME_STEPS_S, clock_text

TITLES: Final[Mapping[str, tuple[str, str]]] = {
    "fume-limit": ("油烟均值超过限值", "mean of fume above the limit"),
    "fume-sustained": ("油烟连续超过限值", "fume above the limit in a row"),
    "purifier-off": ("风机运行而净化器未运行", "fan on, purifier off"),
    "purifier-current": ("净化器电流异常", "purifier current outside its band"),
    "fume-fan-off": ("风机未运行而浓度偏高", "much fume while the fan is off"),
    "monitor-offline": ("监测设备离线", "monitor silent"),
    "flat-line": ("监测数据长时间不变", "readings that do not change"),
    "out-of-range": ("监测数据超出可能范围", "readings that cannot be"),
    "value-jump": ("监测数据量级突变", "readings of another order of magnitude"),
    "calibration": ("监测设备校准过期", "calibration overdue"),
}
TABLES: Final[Mapping[str, str]] = {"fume-fan-off": "fan_off", "out-of-range": "range", "value-jump": "jump_value"}
"""Table of a rule set that a rule rests on, where it has another name."""
UNITS: Final = (
    ("_mg_m3_e6", 1_000_000, "mg/m³"),
    ("_a_e6", 1_000_000, "A"),
    ("_ug_m3", 1, "µg/m³"),
    ("_m3_h", 1, "m³/h"),
    ("_ma", 1, "mA"),
)
"""Endings of names in findings."""
PANEL_HEIGHT: Final = 150
GAP_MIN_S: Final = 300
VALUES_SHOWN: Final = 12
POINTS_MAX: Final = 4_000
STATES: Final = {"on": ("运行 on", "closed"), "off": ("停止 off", "open")}
"""State → (words, shade of the strip)."""
NAMES: Final = {
    "fume": "油烟 fume",
    "fume_converted": "折算油烟 fume, converted",
    "fan_current": "风机电流 fan current",
    "purifier_current": "净化器电流 purifier current",
    "fan_state": "风机 fan",
    "purifier_state": "净化器 purifier",
}
PANELS: Final = (
    ("mg/m³", (("fume", "speed"), ("fume_converted", "recorder"))),
    ("A", (("purifier_current", "speed"), ("fan_current", "recorder"))),
)
"""Unit of a panel; its quantities and the classes of their lines."""


class _Frame(NamedTuple):
    """Where times and values lie in a panel."""

    first_s: int
    last_s: int
    top_e6: int
    y0: int
    """Upper edge."""

    def x(self, time_s: int) -> float:
        return LEFT + (time_s - self.first_s) * (CHART_WIDTH - LEFT - RIGHT) / (self.last_s - self.first_s)

    def y(self, value_e6: int) -> float:
        return self.y0 + PANEL_HEIGHT - max(value_e6, 0) * (PANEL_HEIGHT - 10) / self.top_e6


def chart(records: Sequence[tuple[int, int, Mapping[str, Any]]], judgement: Mapping[str, Any]) -> str:
    """A figure from (seq, arrival_utc_ns, data) of `reading` records; "" where there is nothing to draw."""
    values = [one for seq, arrival, data in records[:POINTS_MAX] for one in readings_of(seq, arrival, data)]
    subject = judgement.get("subject", "")
    channel = subject if any(one.channel == subject for one in values) else ""
    values = [one for one in values if one.channel in (channel, "") and one.quantity in NAMES]
    times = [_time_s(one) for one in values]
    if len(set(times)) < 2:
        return ""
    first_s, last_s = min(times), max(times)
    parts: list[str] = []
    legend: list[str] = []
    y0 = 0
    for unit, quantities in PANELS:
        lines = {name: _line(values, name) for name, _shade in quantities}
        if not any(len(line) > 1 for line in lines.values()):
            continue
        limits = _limits(judgement.get("limits", {}), unit)
        top_e6 = max([200_000, *(value for line in lines.values() for _, value in line), *(e6 for _, e6 in limits)])
        frame = _Frame(first_s, last_s, top_e6 * 11 // 10, y0)
        parts += _panel(frame, unit, judgement, limits)
        for name, shade in quantities:
            if len(lines[name]) > 1:
                parts.append(_path(frame, lines[name], shade))
                legend.append(f'<b class="key {shade}"></b>{NAMES[name]} ({unit})')
        y0 += PANEL_HEIGHT + 34
    frame = _Frame(first_s, last_s, 1, y0)
    for name in ("fan_state", "purifier_state"):
        strip = list(_strip(frame, values, name))
        if strip:
            parts += [f'<text class="strip-name" x="{LEFT - 6}" y="{frame.y0 + 12}">{NAMES[name]}</text>', *strip]
            frame = frame._replace(y0=frame.y0 + STRIP_HEIGHT + 5)
    if not parts:
        return ""
    svg = f'<svg class="chart" viewBox="0 0 {CHART_WIDTH} {frame.y0 + 8}" role="img" aria-label="Readings over time">'
    legend.append('<b class="key limit"></b>限值 <i lang="en">limit</i> GMT+8')
    return f"<figure>{svg}{''.join(parts)}</svg><figcaption>{' '.join(legend)}</figcaption></figure>"


def row_text(seq: int, arrival_utc_ns: int, data: Mapping[str, Any]) -> str:
    """A record in one line."""
    words = []
    for one in list(readings_of(seq, arrival_utc_ns, data))[:VALUES_SHOWN]:
        value = one.state or ("—" if one.value_e6 is None else f"{one.value_e6 / 1e6:g}")
        duct = f"[{one.channel}]" if one.channel else ""
        kind = "" if one.statistic in ("rtd", "state") else f" {one.statistic}"
        words.append(f"{one.quantity}{duct}{kind} {value}{'' if one.good else ' (!)'}")
    period_s = data.get("period_s")
    words += [f"/ {period_s} s"] if period_s else []
    words += ["补传 back-filled"] if data.get("backfill") else []
    words += [f"[{data['flags']}]"] if data.get("flags") else []
    return " · ".join(words)


def _time_s(one: Reading) -> int:
    return one.arrival_utc_ns // 10**9 if one.taken_utc_s is None else one.taken_utc_s


def _line(values: Sequence[Reading], name: str) -> list[tuple[int, int]]:
    found = {
        _time_s(one): one.value_e6
        for one in values
        if one.quantity == name and one.good and one.value_e6 is not None and one.statistic in ("rtd", "avg")
    }
    return sorted(found.items())


def _limits(limits: Mapping[str, Any], unit: str) -> list[tuple[str, int]]:
    """(name, value) of what was compared with."""
    found = [("限值 limit", "limit_mg_m3_e6")] if unit != "A" else []
    if unit == "A":
        found = [("下限 low", "band_low_a_e6"), ("上限 high", "band_high_a_e6"), ("运行 on", "purifier_on_a_e6")]
        found = found[:2] if "band_low_a_e6" in limits else found[2:]
    rows = [(name, limits[key]) for name, key in found if isinstance(limits.get(key), int)]
    if unit != "A" and isinstance(limits.get("fume_ug_m3"), int):
        rows.append(("阈值 threshold", limits["fume_ug_m3"] * 1000))
    return rows


def _panel(frame: _Frame, unit: str, judgement: Mapping[str, Any], limits: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Sheet, time of the event, axes, limit lines."""
    base, width = frame.y0 + PANEL_HEIGHT, CHART_WIDTH - LEFT - RIGHT
    yield f'<rect class="sheet" x="{LEFT}" y="{frame.y0 + 10}" width="{width}" height="{PANEL_HEIGHT - 10}"/>'
    start_s, end_s = judgement.get("start_utc_s"), judgement.get("end_utc_s")
    if isinstance(start_s, int):
        from_s = max(start_s, frame.first_s)
        to_s = min(end_s if isinstance(end_s, int) else frame.last_s, frame.last_s)
        shown = max(2.0, frame.x(to_s) - frame.x(from_s))
        yield (
            f'<rect class="during" x="{frame.x(from_s):.1f}" y="{frame.y0 + 10}" width="{shown:.1f}" '
            f'height="{PANEL_HEIGHT - 10}"/>'
        )
    yield f'<text class="tick" x="2" y="{frame.y0 + 9}">{unit}</text>'
    for step in range(5):
        value_e6 = frame.top_e6 * step // 4
        y = frame.y(value_e6)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{CHART_WIDTH - RIGHT}"/>'
        yield f'<text class="tick right" x="{LEFT - 6}" y="{y + 4:.1f}">{value_e6 / 1e6:.2g}</text>'
    length_s = frame.last_s - frame.first_s
    step_s = next((one for one in TIME_STEPS_S if length_s / one <= 7), length_s)
    for at_s in range(-(-frame.first_s // step_s) * step_s, frame.last_s + 1, step_s):
        yield f'<path class="grid" d="M{frame.x(at_s):.1f} {frame.y0 + 10}V{base}"/>'
        yield f'<text class="tick middle" x="{frame.x(at_s):.1f}" y="{base + 15}">{clock_text(at_s)}</text>'
    for name, value_e6 in limits:
        y = frame.y(value_e6)
        yield f'<path class="limit" d="M{LEFT} {y:.1f}H{CHART_WIDTH - RIGHT}"/>'
        text = f"{escape(name)} {value_e6 / 1e6:g}"
        yield f'<text class="limit-text" x="{CHART_WIDTH - RIGHT - 4}" y="{y - 4:.1f}">{text}</text>'


def _path(frame: _Frame, line: Sequence[tuple[int, int]], shade: str) -> str:
    """The line, broken where nothing came."""
    steps = sorted(b[0] - a[0] for a, b in pairwise(line))
    limit_s = max(GAP_MIN_S, 3 * steps[len(steps) // 2])
    path, before_s = "", None
    for time_s, value_e6 in line:
        joined = before_s is not None and time_s - before_s <= limit_s
        path += f"{'L' if joined else 'M'}{frame.x(time_s):.1f} {frame.y(value_e6):.1f}"
        before_s = time_s
    return f'<path class="{shade}" d="{path}"/>'


def _strip(frame: _Frame, values: Sequence[Reading], name: str) -> Iterator[str]:
    """A state over time, each piece up to the next."""
    said = sorted({_time_s(one): one.state for one in values if one.quantity == name and one.good}.items())
    at = 0
    while at < len(said):
        until = at
        while until + 1 < len(said) and said[until + 1][1] == said[at][1]:
            until += 1
        end_s = said[min(until + 1, len(said) - 1)][0]
        x, width = frame.x(said[at][0]), max(1.0, frame.x(end_s) - frame.x(said[at][0]))
        words, shade = STATES.get(said[at][1], (said[at][1], "unknown-value"))
        yield f'<rect class="strip {shade}" x="{x:.1f}" y="{frame.y0}" width="{width:.1f}" height="{STRIP_HEIGHT}"/>'
        if width > 60:
            yield f'<text class="strip-text" x="{x + width / 2:.1f}" y="{frame.y0 + 12}">{escape(words)}</text>'
        at = until + 1
