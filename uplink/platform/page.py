"""One page for a person: what the platform holds, in Chinese and English, without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from gateway.core.record import parse_leaf
from gateway.ledger import grammar
from uplink.platform.enrol import EnrolledGateway
from uplink.platform.index import BatchEntry
from uplink.platform.platform import Platform

BATCHES_SHOWN: Final = 20
ALARMS_SHOWN: Final = 5
STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2733;--soft:#5b6876;--line:#dde3ea;--paper:#f6f8fa;--card:#fff;--good:#1f7a4d;
--warn:#8a5a00;--bad:#a8321f;--link:#1c5fa8}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9ef;--soft:#9aa7b5;--line:#2e3843;--paper:#14191f;--card:#1b222a;
--good:#5cc08d;--warn:#e0b04c;--bad:#ef8a78;--link:#7fb4ee}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,"Noto Sans CJK SC","Noto Sans SC",sans-serif}
main{max-width:68rem;margin:0 auto;padding:2rem 1.25rem 3rem}
h1{font-size:1.5rem;font-weight:600;margin:0}
h2{font-size:1.125rem;font-weight:600;margin:0}
p{margin:.25rem 0 0}
small,.soft{color:var(--soft);font-size:.875rem}
dl{display:flex;flex-wrap:wrap;gap:.75rem 2.5rem;margin:1.25rem 0 0;padding:0}
dt{color:var(--soft);font-size:.875rem}
dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums}
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1.25rem;margin-top:1.5rem}
.scroll{overflow-x:auto;margin-top:1rem}
table{border-collapse:collapse;width:100%;min-width:44rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.5rem 1rem .5rem 0;border-top:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500;font-size:.875rem;border-top:0}
td.number,th.number{text-align:right}
code{font:.875rem/1.4 ui-monospace,monospace}
a{color:var(--link)}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.alarm{margin-top:.75rem}
.notice{border-left:.25rem solid var(--bad);padding-left:.75rem;margin-top:1rem}
footer{margin-top:1.5rem}
"""
STYLE_SHA256: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{STYLE_SHA256}'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def render(platform: Platform) -> str:
    """The page. Every text from outside is escaped."""
    summary = platform.summary()
    name = escape(platform.config.name)
    gateways = [_gateway(platform, item) for item in platform.enrolment.gateways()]
    empty = "<section><p>还没有网关注册。<br><small>No gateway is enrolled yet.</small></p></section>"
    authority = (
        "<p class=warn>本平台的时间戳来自<strong>测试</strong>机构，不作证据用。<br>"
        "<small class=warn>Time stamps of this platform are by a TEST authority, not for evidence.</small></p>"
        if platform.tsa is not None
        else ""
    )
    figures = [
        ("网关 gateways", f"{summary.gateways:,}"),
        ("批次 batches", f"{summary.batches:,}"),
        ("记录 records", f"{summary.records:,}"),
        ("文件 artifacts", f"{summary.artifacts:,}"),
        ("存储 storage", size_text(summary.bytes)),
        ("回执 receipts", f"{summary.receipts:,}"),
    ]
    return f"""<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title><style>{STYLE}</style></head><body><main>
<header><h1>{name}</h1>
<p class=soft>执法证据接收平台，显示截至 {_utc(grammar.utc_text(platform.now()))} UTC<br>
<small>Receives and keeps enforcement evidence; as of the time above. Reload for the present state.</small></p>
{authority}{_figures(figures)}</header>
{"".join(gateways) or empty}
<footer class=soft>{_links(platform)}</footer>
</main></body></html>
"""


def _gateway(platform: Platform, gateway: EnrolledGateway) -> str:
    index, gateway_id = platform.intake.index, gateway.gateway
    totals = index.totals(gateway_id)
    waiting = totals["artifacts_named"] - totals["artifacts"]
    figures = [
        ("批次 batches", f"{totals['batches']:,}"),
        ("记录 records", f"{totals['records']:,}"),
        ("文件 artifacts", f"{totals['artifacts']:,}" + (f" (+{waiting:,} 待传 to come)" if waiting else "")),
        ("存储 storage", size_text(totals["bytes"])),
        ("回执 receipts", f"{totals['receipts']:,}"),
    ]
    notices = []
    if gateway.revoked_utc is not None:
        notices.append("证书已吊销，不再接收。 <small>Revoked: nothing is taken any more.</small>")
    if forks := platform.evidence.forks(gateway_id):
        notices.append(
            f"发现分叉：{len(forks)} 个批次与已存历史不符，已留存为证。"
            f" <small>Fork: {len(forks)} refused bundle(s) of another history are kept as proof.</small>"
        )
    notes = "".join(f"<p class='notice bad'>{text}</p>" for text in notices)
    batches = index.newest_batches(gateway_id, BATCHES_SHOWN)
    return (
        f"<section><h2>{escape(gateway_id)}</h2>"
        f"<small>注册于 enrolled {_utc(grammar.utc_text(gateway.enrolled_utc))}</small>{notes}"
        f"{_figures(figures)}{_alarms(platform, gateway_id)}{_table(platform, batches)}</section>"
    )


def _alarms(platform: Platform, gateway_id: str) -> str:
    rows = []
    for seq, leaf, received in platform.intake.index.alarms(gateway_id, ALARMS_SHOWN):
        data = parse_leaf(leaf).data
        text = " ".join(str(data[key]) for key in ("code", "state", "text") if data.get(key))
        shown = f"#{seq} {escape(text[:200])} <small>{_utc(received)}</small>"
        rows.append(f"<p class=alarm><span class=warn>告警 alarm</span> {shown}</p>")
    return "".join(rows)


def _table(platform: Platform, batches: Sequence[BatchEntry]) -> str:
    if not batches:
        return "<p class=soft>还没有收到批次。 <small>No batch has come yet.</small></p>"
    head = (
        "<tr><th>收到 received (UTC)<th class=number>记录 records<th class=number>文件 artifacts"
        "<th>时间戳 stamp<th>根 root<th>回执 receipt<th>证据包 bundle</tr>"
    )
    rows = "".join(_row(platform, entry) for entry in batches)
    shown = f"<small>最近 {len(batches)} 个批次 newest {len(batches)} batches</small>"
    return f"<div class=scroll><table>{head}{rows}</table></div>{shown}"


def _row(platform: Platform, entry: BatchEntry) -> str:
    newest = platform.intake.index.newest_receipt(entry.gateway, entry.end)
    held = newest.artifacts_held if newest is not None else 0
    path = f"/v1/gateways/{escape(entry.gateway)}/batches/{entry.end}"
    artifacts = f"{held:,} / {entry.artifact_count:,}" if entry.artifact_count else "-"
    state = "soft" if not entry.artifact_count else "good" if held == entry.artifact_count else "warn"
    stamp = "<span class=good>有 yes</span>" if entry.stamped else "<span class=soft>无 none</span>"
    root = grammar.base64_of(entry.root)
    return (
        f"<tr><td>{_utc(entry.received_utc)}<td class=number>{entry.first:,}–{entry.end - 1:,}"
        f"<td class='number {state}'>{artifacts}<td>{stamp}"
        f"<td><code title='{root}'>{root[:12]}…</code>"
        f"<td><a href='{path}/receipt'>回执 receipt {newest.number if newest else ''}</a>"
        f"<td><a href='{path}/bundle'>下载 tar</a> <a href='{path}/bundle?artifacts=omit'>不含文件 light</a></tr>"
    )


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<div><dt>{name}<dd>{value}</div>" for name, value in figures) + "</dl>"


def _links(platform: Platform) -> str:
    links = [
        ("/v1/ca", "CA 证书 certificate"),
        ("/v1/crl", "吊销列表 CRL"),
        ("/v1/log/checkpoint", "回执日志 log of receipts"),
    ]
    if platform.tsa is not None:
        links.append(("/v1/tsa-ca", "测试时间戳根 test TSA root"))
    listed = " · ".join(f"<a href='{path}'>{text}</a>" for path, text in links)
    check = (
        "下载的证据包可离线核验：<code>fieldgate verify 证据包.tar --ca ca.pem</code>"
        "<br><small>A bundle can be checked offline, also with openssl alone.</small>"
    )
    return f"<p>{listed}</p><p>{check}</p>"


def _utc(text: str) -> str:
    """A time of ours as a person reads it."""
    return escape(text.replace("T", " ").removesuffix("Z"))


def size_text(size_bytes: int) -> str:
    """Bytes with a decimal unit."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
