"""`fieldgate status`: what the running gateway says of itself, as lines that a person reads at a glance."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.commands.output import age_text, colour, size_text, table
from gateway.core.errors import UplinkUnavailable
from gateway.language import say

if TYPE_CHECKING:
    from gateway.config import Config
    from uplink.pull_client import Access

T = TypeVar("T")

BAR_CELLS: Final = 20
COLOURS: Final = {
    "ok": "green",
    "info": "cyan",
    "starting": "cyan",
    "degraded": "yellow",
    "down": "red",
    "failing": "red",
    "disabled": "red",
}
COUNTERS: Final = {
    "files_taken": ("files", "个文件"),
    "bytes_taken": ("", ""),
    "readings": ("readings", "个读数"),
    "position_records": ("track records", "条轨迹"),
    "sightings": ("seen again", "次重复"),
    "gaps": ("gaps", "个缺口"),
    "take_failures": ("failed copies", "次复制失败"),
    "link_failures": ("times away", "次断开"),
}
"""What a person wants to see of a source, in this order."""


def snapshot(config_file: Path) -> dict[str, Any]:
    """Health, checkpoint and sources of the running gateway. Raises UplinkUnavailable where none runs."""
    from gateway import offline
    from gateway.app import config_sha256
    from uplink import pull_client

    config = offline.load_config(config_file)
    found = ask(config, config_file, pull_client.fetch_status)
    health = found["health"]
    if health["config_sha256"] != config_sha256(config):
        health["problems"].append(_other_config(config_file))
    return {
        "gateway": config.gateway.id,
        "name": config.gateway.name,
        **health,
        "checkpoint": found["checkpoint"],
    }


def ask(config: Config, config_file: Path, call: Callable[[Access], Coroutine[Any, Any, T]]) -> T:
    """What the running gateway of a configuration answers over its socket. Raises UplinkUnavailable where none runs."""
    from uplink import pull_client

    socket_path = Path(config.storage.state_dir) / "run" / "api.sock"
    try:
        return asyncio.run(call(pull_client.Access(f"unix:{socket_path}")))
    except UplinkUnavailable as error:
        if _listens(socket_path):
            raise UplinkUnavailable(
                say(
                    f"a gateway runs on {config.storage.state_dir} but cannot say how it is: {error}",
                    f"{config.storage.state_dir} 上的网关在运行，但无法报告状态：{error}",
                )
            ) from None
        raise UplinkUnavailable(
            say(
                f"no gateway runs on {config.storage.state_dir} ({error}); start it with: fieldgate run {config_file}",
                f"{config.storage.state_dir} 上没有运行中的网关（{error}）；启动：fieldgate run {config_file}",
            )
        ) from None


def _listens(socket_path: Path) -> bool:
    """Whether a process holds the socket; what a dead one left does not count."""
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.connect(str(socket_path))
        except OSError:
            return False
    return True


def _other_config(config_file: Path) -> dict[str, str]:
    return {
        "code": "restart.needed",
        "subject": str(config_file),
        "level": "info",
        "text": say(
            f"{config_file} was changed after the gateway started, or it runs with another file",
            f"网关启动后 {config_file} 已被修改，或网关使用的是另一个文件",
        ),
        "to_do": say("restart the gateway: systemctl restart fieldgate", "重启网关：systemctl restart fieldgate"),
    }


def lines(status: Mapping[str, Any]) -> list[str]:
    """The whole picture."""
    word = status["status"]
    verdict = say(word, {"ok": "正常", "degraded": "降级", "failing": "故障"}.get(word, word))
    title = f"{status['gateway']}  {status['name']}".rstrip()
    shown = [f"{colour('●', COLOURS.get(word, 'white'))} {title}  {colour(verdict, COLOURS.get(word, 'white'))}", ""]
    now_ns = int(status["now_utc_ns"])
    shown += _sources(status["sources"], now_ns)
    rows = [
        (say("evidence", "证据"), _evidence(status)),
        (say("delivery", "上传"), _delivery(status, now_ns)),
        *([(say("live", "实时"), _live(live))] if (live := status.get("live")) and live["state"] != "off" else []),
        *([(say("rules", "规则"), _rules(status["judge"]))] if status.get("judge") else []),
        (say("clock", "时钟"), _clock(status["clock"])),
        (say("disk", "磁盘"), _disk(status)),
    ]
    shown += table(("", ""), rows)[1:]
    if status["problems"]:
        shown.append("")
        for problem in status["problems"]:
            shown.append(f"{colour('!', COLOURS.get(problem['level'], 'white'))} {problem['text']}")
            shown.append(f"    → {problem['to_do']}")
    return shown


def _sources(sources: list[dict[str, Any]], now_ns: int) -> list[str]:
    if not sources:
        return [say("no sources configured", "未配置数据源"), ""]
    head = [
        say(*pair) for pair in (("source", "数据源"), ("state", "状态"), ("last seen", "最近通信"), ("counts", "计数"))
    ]
    rows = []
    for source in sources:
        seen = source["last_seen_utc_ns"]
        age = say("never", "从未") if seen is None else age_text((now_ns - int(seen)) / 1e9)
        counts = ", ".join(_count(name, source["counters"][name]) for name in COUNTERS if name in source["counters"])
        rows.append([source["name"], source["state"], age, counts])
    return [*table(head, rows), ""]


def _count(name: str, value: int) -> str:
    return size_text(value) if name == "bytes_taken" else f"{value:,} {say(*COUNTERS[name])}"


def _evidence(status: Mapping[str, Any]) -> str:
    at, sealing = status["checkpoint"], status["sealing"]
    text = say(
        f"{at['next_seq']:,} records, {at['size']:,} sealed in {at['batch']:,} batches",
        f"{at['next_seq']:,} 条记录，已封存 {at['size']:,} 条（{at['batch']:,} 批）",
    )
    if sealing["unsealed_records"]:
        text += say(
            f", {sealing['unsealed_records']} wait {age_text(sealing['unsealed_age_s'])}",
            f"，待封存 {sealing['unsealed_records']} 条",
        )
    return text


def _delivery(status: Mapping[str, Any], now_ns: int) -> str:
    uplink, backlog = status["uplink"], status["backlog"]
    if backlog is None or uplink is None:
        return say("the platform pulls", "由平台拉取")
    receipt = uplink["last_receipt_utc_ns"]
    parts = [uplink["state"]]
    if receipt is not None:
        age = age_text((now_ns - int(receipt)) / 1e9)
        parts.append(say(f"last receipt {age} ago", f"最近回执 {age}前"))
    if backlog["items"]:
        waiting = f"{backlog['items']} / {size_text(backlog['bytes'])} / {age_text(backlog['age_s'])}"
        parts.append(say(f"waiting {waiting}", f"待传 {waiting}"))
    else:
        parts.append(say("nothing waits", "无积压"))
    for key, english, chinese in (("unstamped", "not stamped", "未加时间戳"), ("quarantined", "refused", "被拒")):
        if backlog[key]:
            parts.append(f"{backlog[key]} " + say(english, chinese))
    return ", ".join(parts)


def _live(live: Mapping[str, Any]) -> str:
    parts = [str(live["state"]), say(f"{live['published']} published", f"已发布 {live['published']} 条")]
    if live["dropped"]:
        parts.append(say(f"{live['dropped']} findings dropped", f"丢弃发现 {live['dropped']} 个"))
    return ", ".join(parts)


def _rules(judge: Mapping[str, Any]) -> str:
    book = judge["book_sha256"]
    text = (
        say(f"book {book[:12]}", f"规则书 {book[:12]}") if book else colour(say("no rule book", "无规则书"), "yellow")
    )
    text += say(f", {judge['findings_open']} findings open", f"，进行中的发现 {judge['findings_open']} 个")
    if judge["backlog_records"]:
        text += say(f", {judge['backlog_records']:,} records behind", f"，待评判 {judge['backlog_records']:,} 条")
    return text


def _clock(clock: Mapping[str, Any]) -> str:
    good = (
        say("synchronised", "已同步") if clock["synchronised"] else colour(say("not synchronised", "未同步"), "yellow")
    )
    text = f"{good} ({clock['source']}), " + say(f"epoch {clock['epoch']}", f"时段 {clock['epoch']}")
    return text + _satellites(clock.get("gnss"))


def _satellites(gnss: Mapping[str, Any] | None) -> str:
    if gnss is None:
        return ""
    offset = f"{gnss['offset_ms'] / 1000:+.1f} s ± {gnss['uncertainty_ms'] / 1000:.1f} s"
    age = age_text(gnss["age_s"])
    return say(
        f", satellites ({gnss['source']}) minus clock {offset}, {age} ago",
        f"，卫星时间（{gnss['source']}）减时钟 {offset}，{age}前",
    )


def _disk(status: Mapping[str, Any]) -> str:
    parts = []
    for disk in status["disks"]:
        used = disk["total_bytes"] - disk["free_bytes"]
        parts.append(
            f"{disk['name']} {_bar(used, disk['total_bytes'])} " + say("free ", "剩余 ") + size_text(disk["free_bytes"])
        )
    spool = status["spool"]
    parts.append(say("spool ", "暂存 ") + f"{size_text(spool['bytes'])} / {size_text(spool['quota_bytes'])}")
    return "  ".join(parts)


def _bar(part: int, whole: int) -> str:
    cells = round(BAR_CELLS * part / max(whole, 1))
    return "█" * cells + "░" * (BAR_CELLS - cells)
