"""The style sheet of the page about a finding: one column on a screen, A4 on paper, readable in grey."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
@page{size:A4;margin:11mm 12mm}
*{box-sizing:border-box}
html{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{font:13px/1.45 "Noto Sans CJK SC","Microsoft YaHei","PingFang SC","Source Han Sans SC",system-ui,sans-serif;
 color:#1b1f24;background:#fff;max-width:186mm;margin:0 auto;padding:6mm 0}
i{font-style:normal;color:#5c6670;font-size:.88em}
h1{font-size:22px;line-height:1.25;margin:0 0 2px}
h1 i{font-size:15px;font-weight:400}
h2{font-size:14px;margin:12px 0 4px;border-bottom:1px solid #c9d0d6;padding-bottom:2px;break-after:avoid}
h2 i{font-weight:400}
p{margin:4px 0}
code{font:11px "DejaVu Sans Mono",Consolas,monospace;overflow-wrap:anywhere}
header{border-bottom:3px solid #b3261e;padding-bottom:6px;margin-bottom:8px}
.said{font-size:14px}
.state{float:right;border:1.5px solid #b3261e;color:#8c1d18;padding:1px 9px;border-radius:3px;font-weight:600}
.state i{color:inherit;font-weight:400}
.state.closed{border-color:#3c4650;color:#2a333b}
.state.withdrawn{background:#2a333b;border-color:#2a333b;color:#fff}
.warning{border-left:4px solid #b3261e;background:#fbeceb;padding:4px 8px}
.facts{display:grid;grid-template-columns:1fr 1fr;gap:0 14px;margin:0 0 8px}
.facts div{display:flex;border-bottom:1px solid #e3e7ea;padding:2px 0}
.facts dt{flex:0 0 33%;color:#3c4650}
.facts dd{margin:0;flex:1;overflow-wrap:anywhere}
figure{margin:6px 0;break-inside:avoid}
figcaption{font-size:11px;color:#3c4650;line-height:1.4}
figcaption i{margin-right:7px}
svg{display:block;width:100%;height:auto}
svg text{font:11px "Noto Sans CJK SC","Microsoft YaHei","PingFang SC",system-ui,sans-serif;fill:#3c4650}
.sheet{fill:#f7f8f6;stroke:#9aa5ae}
.frame{fill:none;stroke:#9aa5ae}
.grid{stroke:#dde2e4;fill:none}
svg .tick{font-size:10px;fill:#6b7680}
.tick.right{text-anchor:end}
.tick.middle{text-anchor:middle}
.band{fill:none;stroke:#2e7d4f;stroke-opacity:.2;stroke-linejoin:round;stroke-linecap:round}
.route{fill:none;stroke:#2e7d4f;stroke-width:1.4;stroke-dasharray:7 3}
.place{fill:#2f6fb2;fill-opacity:.14;stroke:#2f6fb2;stroke-width:1.4;fill-rule:evenodd}
svg .name{font-size:12px;fill:#1f5c3a;paint-order:stroke;stroke:#fff;stroke-width:3px}
.way{fill:none;stroke-width:2.6;stroke-linecap:round}
.way.other{stroke:#6b7680;stroke-width:2}
.way.event{stroke:#c2281f}
.way.unknown{stroke-dasharray:3 5;stroke-width:1.4}
.fix.other{fill:#6b7680}
.fix.event{fill:#7a120d}
.mark path{stroke:#1b1f24;fill:none}
.mark circle{fill:#fff;stroke:#1b1f24;stroke-width:1.5}
.mark .spot{fill:#1b1f24}
svg .mark text{text-anchor:middle;font-weight:700;font-size:12px;fill:#1b1f24}
.plate{fill:#fff;fill-opacity:.85}
.bar{fill:none;stroke:#1b1f24;stroke-width:1.6}
svg .bar-text{text-anchor:middle;fill:#1b1f24}
.north{fill:#1b1f24}
.speed{fill:none;stroke:#1d4e89;stroke-width:1.6;stroke-linejoin:round}
.recorder{fill:none;stroke:#d98b1f;stroke-width:1.2}
.limit{stroke:#c2281f;stroke-width:1.3;stroke-dasharray:6 3;fill:none}
svg .limit-text{text-anchor:end;fill:#a11a12;paint-order:stroke;stroke:#f7f8f6;stroke-width:3px}
.during{fill:#c2281f;fill-opacity:.09}
.gap{fill:#9aa5ae;fill-opacity:.3}
svg .gap-text{text-anchor:middle}
.peak{stroke:#1b1f24;stroke-dasharray:2 3}
svg .peak-text{font-weight:700;fill:#1b1f24}
svg .strip-name{text-anchor:end}
svg .strip-text{text-anchor:middle;font-size:10px;fill:#1b1f24}
.strip{stroke:#fff;stroke-width:.5;fill:#cfd6da}
.strip.full,.strip.open,.strip.lifted{fill:#e5988f}
.strip.half,.strip.opening,.strip.closing{fill:#f0cf9a}
.strip.empty,.strip.closed,.strip.flat{fill:#b7d9c3}
.key{display:inline-block;width:18px;height:9px;vertical-align:middle;margin:0 4px 1px 2px}
.key.event{height:3px;background:#c2281f}
.key.other{height:3px;background:#6b7680}
.key.dashed{height:0;border-top:2px dashed #6b7680}
.key.band{background:#c9e0d2;border:1px solid #2e7d4f}
.key.speed{height:3px;background:#1d4e89}
.key.recorder{height:3px;background:#d98b1f}
.key.limit{height:0;border-top:2px dashed #c2281f}
.key.during{background:#f6dedc}
.key.gap{background:#d9dee1}
.columns{display:flex;gap:14px;align-items:flex-start}
.columns section{flex:1;min-width:0}
table{border-collapse:collapse;width:100%;font-size:11.5px}
td,th{text-align:left;vertical-align:top;padding:1.5px 6px 1.5px 0;border-bottom:1px solid #e3e7ea}
.numbers td:last-child{text-align:right;padding-right:0;overflow-wrap:anywhere}
.numbers td.short{white-space:nowrap}
.records{font-size:11px}
.records td:nth-child(-n+3),.records th:nth-child(-n+3){white-space:nowrap;font-variant-numeric:tabular-nums}
.records td{padding:.5px 8px .5px 0}
.records td:last-child{font-size:10.5px}
.records tr{break-inside:avoid}
.cut td{text-align:center;color:#6b7680}
thead{display:table-header-group}
.note{font-size:11.5px}
.excerpt{break-inside:avoid}
.excerpt p{font-size:11.5px;margin:6px 0 2px}
pre{font:11px/1.4 "DejaVu Sans Mono","Noto Sans Mono CJK SC",Consolas,monospace;background:#f3f5f4;margin:2px 0;
 padding:5px 8px;white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid #9aa5ae}
.photos{display:grid;grid-template-columns:1fr 1fr;gap:8px}
.photos img{max-width:100%;max-height:70mm;display:block}
.verify{break-inside:avoid;border-top:3px solid #3c4650;margin-top:12px}
.verify h2{border:0}
.bundle td:first-child{width:24%}
"""
