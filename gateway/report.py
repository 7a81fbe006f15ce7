"""One page about one finding: HTML with drawings, for people who decide and for the other side's lawyer.

Pure: equal facts give equal bytes. One file without scripts or anything from outside; prints on A4. The page is a
drawing of sealed records, and says so: the evidence is the bundle, and how to check that is on the page.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import pairwise
from typing import Any, Final

from gateway import report_fume
from gateway.drawing import ZONE_S, Mark, Point, chart_svg, gap_s, map_svg
from gateway.report_style import STYLE

ROWS_SHOWN: Final = 60
"""Cited records listed on the page; the bundle holds all."""
POINTS_DRAWN_MAX: Final = 4_000
SHORT_COLUMNS: Final = 22
"""Values up to this length are never broken into lines."""
PHOTO_BYTES_MAX: Final = 1_500_000
"""A photo up to this size is on the page itself."""
PHOTO_TYPES: Final = frozenset({"image/jpeg", "image/png"})


@dataclass(frozen=True, slots=True)
class Revision:
    """One record of the finding."""

    seq: int
    arrival_utc_ns: int
    number: int
    state: str


@dataclass(frozen=True, slots=True)
class Row:
    """One record that the case holds."""

    seq: int
    kind: str
    arrival_utc_ns: int
    device_time: str
    value: str
    cited: bool = True


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines of a file of the rule book, as they stand in the sealed `rules.book` record."""

    title: str
    file: str
    sha256: str
    first_line: int
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture that the device sent around the event."""

    seq: int
    sha256: str
    media_type: str
    size_bytes: int
    taken: str
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """The export that belongs to the page."""

    file: str
    sha256: str
    size_bytes: int
    records: int
    seals: Sequence[str]
    """One line each: range, time, stamped or not."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page shows. Times are UTC seconds; `judgement` as the finding record holds it."""

    gateway: str
    id: str
    rule: str
    state: str
    device_class: str
    judgement: Mapping[str, Any]
    revisions: Sequence[Revision]
    points: Sequence[Point]
    rows: Sequence[Row]
    expired: int = 0
    """Cited records that are not on this box any more."""
    excerpts: Sequence[Excerpt] = ()
    photos: Sequence[Photo] = ()
    clock: str = ""
    """What the box knew of its clock."""
    bundle: BundleFacts | None = None
    readings: str = ""
    """Figure of the readings (gateway.report_fume), for devices that have no positions."""
    not_sealed: Sequence[int] = field(default_factory=tuple)
    """Records that no seal covers yet."""


RULES: Final[Mapping[str, tuple[str, str]]] = {
    "off-route": ("偏离核准路线", "off the permitted route"),
    "hours": ("核准时间之外行驶", "moving outside the permitted hours"),
    "no-permit": ("无有效准运证行驶", "moving without a permit in force"),
    "speeding": ("超速行驶", "speeding"),
    "uncovered": ("载货未密闭行驶", "driving loaded and not covered"),
    "dumping": ("核准场地之外卸载", "dumping outside a permitted ground"),
    "dumping-lead": ("疑似核准场地之外卸载", "perhaps dumping outside a permitted ground"),
    "no-entry": ("驶入禁行区域", "in a no-entry area"),
    "offline": ("终端离线", "terminal silent"),
    "power-cut": ("终端断电", "terminal without power"),
    "antenna-cut": ("定位天线断开", "antenna cut or shorted"),
    "jammed": ("卫星定位丢失", "satellite positions lost"),
    "frozen-gnss": ("定位冻结", "position that stands still"),
    "sensors-lost": ("车载传感器失联", "sensors of the vehicle lost"),
    "mileage": ("里程与轨迹不符", "odometer against track"),
    "clock-back": ("终端时间倒退", "the device's clock went back"),
    "duplicate-identity": ("终端身份重复", "two links under one identity"),
    **report_fume.TITLES,
}
"""Titles; a rule that is not here shows its own name."""
STATES: Final[Mapping[str, tuple[str, str]]] = {
    "open": ("进行中", "in progress"),
    "closed": ("已结束", "ended"),
    "withdrawn": ("已撤回", "withdrawn"),
}
SEVERITIES: Final[Mapping[str, tuple[str, str]]] = {
    "violation": ("测量值违反规则", "the measurements break the rule"),
    "lead": ("线索，须人工核实", "a lead: someone must look"),
    "fault": ("设备或链路异常", "a device or link does not work"),
}


def page(facts: Facts) -> bytes:
    """The page, UTF-8."""
    parts = [
        "<!doctype html>\n",
        '<html lang="zh-CN"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; ",
        'img-src data:">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{_text(_rule_name(facts)[0])} {_text(facts.judgement.get('plate') or facts.id[:8])}</title>",
        f"<style>{STYLE}</style></head><body>",
        *_head(facts),
        *_who_and_what(facts),
        *_drawings(facts),
        *_numbers(facts),
        *_known_part(facts),
        *_photos(facts),
        *_rule_text(facts),
        *_records(facts),
        *_verification(facts),
        "</body></html>\n",
    ]
    return "".join(parts).encode()


# ---------------------------------------------------------------------------------------------- parts


def _head(facts: Facts) -> Iterator[str]:
    zh, en = _rule_name(facts)
    state_zh, state_en = STATES.get(facts.state, (facts.state, facts.state))
    text = facts.judgement.get("text", {})
    yield f'<header><div class="state {_text(facts.state)}">{_text(state_zh)} <i>{_text(state_en)}</i></div>'
    yield f'<h1>{_text(zh)} <i lang="en">{_text(en)}</i></h1>'
    yield f'<p class="said">{_text(text.get("zh", ""))}<br><i lang="en">{_text(text.get("en", ""))}</i></p>'
    if facts.state == "withdrawn":
        yield (
            '<p class="warning">后到的数据表明该事件不成立，已撤回；以下为撤回前的内容。'
            '<br><i lang="en">Data that came later show that there was no such event. '
            "What follows is what had been told before.</i></p>"
        )
    yield "</header>"


def _who_and_what(facts: Facts) -> Iterator[str]:
    judgement = facts.judgement
    start_s, end_s = _integer(judgement.get("start_utc_s")), judgement.get("end_utc_s")
    severity = SEVERITIES.get(judgement.get("severity", ""), ("", ""))
    book = judgement.get("book", {})
    lasting = "" if not isinstance(end_s, int) else f"（{_duration(end_s - start_s)}）"
    end = "—" if not isinstance(end_s, int) else f"{moment(end_s)} {lasting}"
    rows = [
        ("车牌", "plate", judgement.get("plate") or "—"),
        ("企业", "firm", judgement.get("firm") or "—"),
        ("终端", "device", f"{judgement.get('device', '')}（{judgement.get('source', '')}，{facts.device_class}）"),
        ("性质", "kind", " ".join(severity)),
        ("开始", "begin", moment(start_s) if start_s else "—"),
        ("结束", "end", end),
        ("依据", "legal source", judgement.get("legal_source") or "—"),
        ("核准文号", "permit", judgement.get("permit") or "—"),
        ("规则集", "rule set", f"{book.get('rule_set', '')}（记录 record {book.get('seq', '')}）"),
        ("网关", "gateway", facts.gateway),
        ("编号", "id", facts.id),
        ("修订", "revisions", _revisions(facts.revisions)),
    ]
    yield '<dl class="facts">'
    for zh, en, value in rows:
        shown = f"<code>{_text(value)}</code>" if en == "id" else _text(value)
        yield f'<div><dt>{zh} <i lang="en">{en}</i></dt><dd>{shown}</dd></div>'
    yield "</dl>"


def _revisions(revisions: Sequence[Revision]) -> str:
    words = [f"{one.number} {STATES.get(one.state, (one.state, ''))[0]}（{one.seq}）" for one in revisions[-4:]]
    more = f"… {len(revisions) - 4} + " if len(revisions) > 4 else ""
    return more + " → ".join(words)


def _drawings(facts: Facts) -> Iterator[str]:
    judgement = facts.judgement
    points = facts.points[:POINTS_DRAWN_MAX]
    inside = [point for point in points if point.in_event]
    peak = judgement.get("peak", {})
    marks = []
    placed = [point for point in inside if point.lat_e7 is not None and point.lon_e7 is not None]
    ends = [("S", "开始 begin", placed[0]), ("E", "结束 end", placed[-1])] if len(placed) > 1 else []
    for letter, title, point in ends:
        marks.append(Mark(point.lat_e7 or 0, point.lon_e7 or 0, letter, f"{title} {moment(point.time_utc_s)}"))
    if isinstance(peak.get("lat_e7"), int) and isinstance(peak.get("lon_e7"), int):
        marks.append(Mark(peak["lat_e7"], peak["lon_e7"], "P", "最严重处 worst moment"))
    drawn = map_svg(points, judgement.get("geometry", {}), marks)
    start_s = _integer(judgement.get("start_utc_s"))
    end_s = judgement.get("end_utc_s")
    last_s = end_s if isinstance(end_s, int) else inside[-1].time_utc_s if inside else start_s
    peak_s = peak.get("time_utc_s") if isinstance(peak.get("time_utc_s"), int) else None
    if facts.readings:
        yield facts.readings
        return
    chart = chart_svg(points, _limit_lines(judgement.get("limits", {})), (start_s, last_s), peak_s)
    if drawn:
        yield f"<figure>{drawn}<figcaption>{_map_legend(judgement)}</figcaption></figure>"
    else:
        yield '<p class="note">没有可绘制的位置。<i lang="en">No position that could be drawn.</i></p>'
    if chart:
        yield (
            f'<figure>{chart}<figcaption><b class="key speed"></b>卫星速度 <i lang="en">speed by satellites</i> '
            '<b class="key recorder"></b>行驶记录仪速度 <i lang="en">by the vehicle\'s recorder</i> '
            '<b class="key limit"></b>限值 <i lang="en">limit</i> '
            '<b class="key during"></b>事件期间 <i lang="en">during the event</i> '
            '<b class="key gap"></b>无数据 <i lang="en">no data</i>; GMT+8</figcaption></figure>'
        )


def _map_legend(judgement: Mapping[str, Any]) -> str:
    width = judgement.get("geometry", {}).get("width_m")
    band = (
        f'<b class="key band"></b>核准走廊，每侧 {_text(width)} m <i lang="en">permitted corridor, to each side</i> '
        if isinstance(width, int)
        else ""
    )
    return (
        '<b class="key event"></b>事件期间轨迹 <i lang="en">track of the event</i> '
        '<b class="key other"></b>前后轨迹 <i lang="en">before and after</i> '
        '<b class="key dashed"></b>无数据的直线 <i lang="en">straight line over a gap</i> '
        f"{band}"
        'S 开始 <i lang="en">begin</i> E 结束 <i lang="en">end</i> P 最严重处 <i lang="en">worst</i>. '
        "WGS-84，与国内公开地图（GCJ-02）相差数百米 "
        '<i lang="en">WGS-84: public Chinese maps (GCJ-02) lie some hundred metres beside it.</i>'
    )


def _numbers(facts: Facts) -> Iterator[str]:
    """What was measured beside what was allowed."""
    groups = (("测得", "measured", "measured"), ("最严重时刻", "worst moment", "peak"), ("限值", "limits", "limits"))
    yield '<div class="columns">'
    for zh, en, key in groups:
        values = facts.judgement.get(key) or {}
        rows = [(name, value) for name, value in values.items() if name not in {"lat_e7", "lon_e7"}]
        if isinstance(values.get("lat_e7"), int) and isinstance(values.get("lon_e7"), int):
            rows.append(("lat, lon", f"{values['lat_e7'] / 1e7:.6f}, {values['lon_e7'] / 1e7:.6f}"))
        cells = "".join(
            _number_row(name, value) for name, value in rows if not (key == "limits" and _no_limit(name, value))
        )
        if cells:
            yield f'<section><h2>{zh} <i lang="en">{en}</i></h2><table class="numbers">{cells}</table></section>'
    yield "</div>"


def _number_row(name: str, value: object) -> str:
    text = quantity(name, value)
    short = ' class="short"' if len(text) <= SHORT_COLUMNS else ""
    return f"<tr><td>{_text(_name(name))}</td><td{short}>{_text(text)}</td></tr>"


def _no_limit(name: str, value: object) -> bool:
    """0 stands for: no such limit."""
    return value == 0 and "limit" in name


def _known_part(facts: Facts) -> Iterator[str]:
    """How much of the time the records tell of."""
    points = facts.points
    if len(points) < 2:
        return
    limit_s = gap_s(points)
    gaps = [b.time_utc_s - a.time_utc_s for a, b in pairwise(points) if b.time_utc_s - a.time_utc_s > limit_s]
    span_s = points[-1].time_utc_s - points[0].time_utc_s
    steps = sorted(b.time_utc_s - a.time_utc_s for a, b in pairwise(points))
    known = 100 * (span_s - sum(gaps)) / span_s if span_s else 100.0
    yield (
        f'<p class="note"><b>数据完整性</b> <i lang="en">coverage</i>: {len(points)} 个定位，间隔中位数 '
        f"{steps[len(steps) // 2]} s；缺口 {len(gaps)} 处，最长 {_duration(max(gaps, default=0))}；"
        f"所示时段有数据 {known:.1f} %。"
        f' <i lang="en">{len(points)} fixes, median step {steps[len(steps) // 2]} s, {len(gaps)} gaps, the longest '
        f"{_duration(max(gaps, default=0))}; {known:.1f} % of the time shown is known.</i>"
    )
    left_out = _integer(facts.judgement.get("inputs_left_out"))
    if left_out:
        yield (
            f" 另有 {left_out} 条输入记录未逐条引用（事件中段）。"
            f'<i lang="en">{left_out} more inputs from the middle of the event are not cited one by one.</i>'
        )
    if facts.expired:
        yield (
            f" {facts.expired} 条引用记录已按保存期限移出本机，可向平台索取。"
            f'<i lang="en">{facts.expired} cited records have expired on this box; the platform holds them.</i>'
        )
    if facts.clock:
        yield f' <b>网关时钟</b> <i lang="en">clock of the gateway</i>: {_text(facts.clock)}.'
    yield "</p>"


def _photos(facts: Facts) -> Iterator[str]:
    if not facts.photos:
        return
    yield '<h2>照片 <i lang="en">photos of the device within five minutes</i></h2><div class="photos">'
    for photo in facts.photos:
        picture = ""
        if photo.content is not None and photo.media_type in PHOTO_TYPES and len(photo.content) <= PHOTO_BYTES_MAX:
            coded = base64.b64encode(photo.content).decode()
            picture = f'<img alt="" src="data:{photo.media_type};base64,{coded}">'
        yield (
            f"<figure>{picture}<figcaption>{_text(photo.taken)} 记录 record {photo.seq}, "
            f"{photo.size_bytes} B<br><code>{_text(photo.sha256)}</code></figcaption></figure>"
        )
    yield "</div>"


def _rule_text(facts: Facts) -> Iterator[str]:
    if not facts.excerpts:
        return
    book = facts.judgement.get("book", {})
    yield (
        '<h2>适用的规则与核准 <i lang="en">rules and permit in force</i></h2>'
        f'<p class="note">规则书 <i lang="en">rule book</i> SHA-256 <code>{_text(book.get("sha256", ""))}</code>, '
        f'记录 <i lang="en">record</i> {_text(book.get("seq", ""))}. 以下为其中原文 '
        '<i lang="en">verbatim from it:</i></p>'
    )
    for excerpt in facts.excerpts:
        numbered = "\n".join(f"{number:5d}  {line}" for number, line in enumerate(excerpt.lines, excerpt.first_line))
        yield (
            f'<div class="excerpt"><p>{_text(excerpt.title)} <b>{_text(excerpt.file)}</b> '
            f"SHA-256 <code>{_text(excerpt.sha256)}</code></p><pre>{_text(numbered, 20_000)}</pre></div>"
        )


def _records(facts: Facts) -> Iterator[str]:
    cited = [row for row in facts.rows if row.cited]
    shown, hidden = _shown(cited, facts.judgement)
    yield '<h2>引用的记录 <i lang="en">records that the finding cites</i></h2>'
    if hidden:
        yield (
            f'<p class="note">共 {len(cited)} 条，列出 {len(shown)} 条（开头、最严重处附近、结尾）；证据包内齐全。'
            f'<i lang="en">{len(shown)} of {len(cited)} are listed: the first, those around the worst moment, the '
            "last. The bundle holds all.</i></p>"
        )
    yield (
        '<table class="records"><thead><tr><th>seq</th><th>终端时间<br><i lang="en">device time, GMT+8</i></th>'
        '<th>到达<br><i lang="en">arrival</i></th>'
        '<th>内容<br><i lang="en">content; speed by satellites (by recorder)</i></th>'
        "</tr></thead><tbody>"
    )
    before: Row | None = None
    for row in shown:
        if before is not None and row.seq in hidden:
            yield '<tr class="cut"><td colspan="4">⋯</td></tr>'
        before = row
        yield (
            f"<tr><td>{row.seq}</td><td>{_text(row.device_time)}</td><td>{_text(_arrival(row.arrival_utc_ns))}</td>"
            f"<td>{'' if row.kind == 'position' else _text(row.kind) + ': '}{_text(row.value)}</td></tr>"
        )
    yield "</tbody></table>"


def _shown(cited: Sequence[Row], judgement: Mapping[str, Any]) -> tuple[list[Row], set[int]]:
    """(rows for the page, seq of those before which rows are left out)."""
    if len(cited) <= ROWS_SHOWN:
        return list(cited), set()
    third = ROWS_SHOWN // 3
    peak_seq = judgement.get("peak", {}).get("seq")
    worst = next((index for index, row in enumerate(cited) if row.seq == peak_seq), len(cited) // 2)
    wanted = sorted(
        {*range(third), *range(len(cited) - third, len(cited))}
        | set(range(max(0, worst - third // 2), min(len(cited), worst + third // 2)))
    )
    cuts = {cited[after].seq for before, after in pairwise(wanted) if after != before + 1}
    return [cited[index] for index in wanted], cuts


def _verification(facts: Facts) -> Iterator[str]:
    yield '<section class="verify"><h2>校验 <i lang="en">how to check this</i></h2>'
    yield (
        "<p>本页是封存记录的图示，<b>本身不是证据</b>；证据是下列证据包。校验通过，说明记录<b>自封存以来未被改动</b>；"
        "并不说明终端所报属实、终端时钟准确或定位无误。"
        '<br><i lang="en">This page is a drawing of sealed records and <b>not itself evidence</b>; the evidence is the '
        "bundle named here. A check that passes shows that the records were <b>not altered since they were sealed</b>. "
        "It does not show that what a device reported was so, that its clock was right, or its position exact.</i></p>"
    )
    bundle = facts.bundle
    if bundle is None:
        waiting = ", ".join(str(seq) for seq in facts.not_sealed[:8])
        yield (
            f'<p class="warning">尚无证据包：记录 {_text(waiting or "—")} 尚未封存，或本页未附证据包。'
            '<br><i lang="en">No bundle belongs to this page yet: these records are not sealed, or it was made '
            "without one.</i></p></section>"
        )
        return
    yield (
        f'<table class="bundle"><tr><td>证据包 <i lang="en">bundle</i></td><td><b>{_text(bundle.file)}</b>, '
        f'{bundle.size_bytes} B, {bundle.records} 条记录 <i lang="en">records</i></td></tr>'
        f"<tr><td>SHA-256</td><td><code>{_text(bundle.sha256)}</code></td></tr>"
    )
    for line in bundle.seals:
        yield f'<tr><td>封存 <i lang="en">seal</i></td><td>{_text(line)}</td></tr>'
    yield "</table>"
    yield (
        f"<pre>sha256sum {_text(bundle.file)}\n"
        f"fieldgate verify {_text(bundle.file)} --ca ca.pem\n"
        "fieldgate verify --recipe          # sh, sha256sum, openssl, xxd</pre>"
        '<p class="note">ca.pem 须自独立渠道取得（证据包不能为自己作保）。原始报文在记录的 raw 字段（base64）。'
        '<i lang="en">Get ca.pem by another way: a bundle cannot vouch for itself. The raw frames stand in the field '
        "`raw` of each record (base64), for your own decoder.</i></p></section>"
    )


# ---------------------------------------------------------------------------------------------- words


def moment(utc_s: int) -> str:
    """Date and time in GMT+8."""
    try:
        at = datetime.fromtimestamp(utc_s, UTC) + timedelta(seconds=ZONE_S)
    except (OverflowError, OSError, ValueError):
        return str(utc_s)
    return f"{at:%Y-%m-%d %H:%M:%S}"


def quantity(name: str, value: object) -> str:
    """A number with the unit that its name ends in."""
    if isinstance(value, bool) or not isinstance(value, int):
        return _compact(value)
    for ending, divisor, unit in UNITS:
        if name.endswith(ending):
            places = ".1f" if divisor < 1000 else "g"
            text = str(value) if divisor == 1 else f"{value / divisor:{places}}"
            return f"{text} {unit}"
    if name.endswith("utc_s"):
        return moment(value)
    return _duration(value) if name.endswith("_s") else str(value)


UNITS: Final = (
    *report_fume.UNITS,
    ("_kmh_e1", 10, "km/h"),
    ("_kmh", 1, "km/h"),
    ("_hm", 10, "km"),
    ("_m", 1, "m"),
    ("_permille", 10, "%"),
    ("_percent", 1, "%"),
    ("_deg", 1, "°"),
)


def _name(name: str) -> str:
    """A key without its unit, as words, after its Chinese name where it has one."""
    bare = next((name[: -len(ending)] for ending in _ENDINGS if name.endswith(ending)), name) or name
    return f"{NAMES_ZH.get(bare, '')} {bare.replace('_', ' ')}".strip()


_ENDINGS: Final = (*(ending for ending, _, _ in UNITS), "_utc_s", "_s")
NAMES_ZH: Final[Mapping[str, str]] = {
    "above": "判定值",
    "cause": "原因",
    "depth_max": "最深",
    "distance": "距离",
    "distance_max": "最远",
    "duration": "时长",
    "fixes": "定位数",
    "fixes_min": "最少定位数",
    "grace": "宽限",
    "hours": "时段",
    "interval": "上报间隔",
    "lat, lon": "纬度，经度",
    "limit": "限速",
    "limit_at_peak": "当处限速",
    "loaded_limit": "载货限速",
    "margin": "裕量",
    "moved": "位移",
    "moving": "行驶时长",
    "odometer": "里程表",
    "outside_at_start": "超出时段",
    "persist": "最短持续",
    "seq": "记录",
    "sigma": "定位误差（1σ）",
    "sigma_factor": "误差倍数",
    "speed": "速度",
    "speed_max": "最高速度",
    "speed_mean": "平均速度",
    "time": "时间",
    "track": "轨迹长度",
    "trip_known_distance": "行程已知里程",
    "trip_known_time": "行程已知时间",
    "trip_start": "行程开始",
    "width": "走廊每侧宽度",
}


def _compact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_compact(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join("–".join(map(str, item)) if isinstance(item, (list, tuple)) else str(item) for item in value)
    return (
        {True: "是 yes", False: "否 no", None: "—"}.get(value, str(value))
        if value in (True, False, None)
        else str(value)
    )


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"


def _limit_lines(limits: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(name, 0.1 km/h) of what was compared with the speed: the limit that held at the peak, else all limits, else the
    speed from which the rule counts."""
    found: dict[str, int] = {}
    for name, value in limits.items():
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            if name.endswith("_kmh_e1"):
                found[name.removesuffix("_kmh_e1")] = value
            elif name.endswith("_kmh"):
                found[name.removesuffix("_kmh")] = value * 10
    if "limit_at_peak" in found:
        lines = [("限值 limit", found["limit_at_peak"])]
        return lines + ([("判定 applied", found["above"])] if found.get("above", 0) > found["limit_at_peak"] else [])
    named = [(name.replace("_", " "), value) for name, value in found.items() if "limit" in name]
    return named or ([("阈值 threshold", found["speed"])] if "speed" in found else [])


def _arrival(utc_ns: int) -> str:
    return f"{moment(utc_ns // 10**9)[5:]}.{utc_ns // 10**6 % 1000:03d}"


def _rule_name(facts: Facts) -> tuple[str, str]:
    return RULES.get(facts.rule, (facts.rule, ""))


def _integer(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(value: object, limit: int = 600) -> str:
    """Foreign text for HTML: escaped, printable, bounded."""
    text = str(value)
    kept = "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text[:limit])
    return escape(kept + ("…" if len(text) > limit else ""))
