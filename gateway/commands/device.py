"""`fieldgate device …`: what devices are there, and orders to them, through the socket of the running gateway."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from gateway.commands.output import DEFAULT_CONFIG, NEGATIVE, UNAVAILABLE, age_text, colour, emit, json_option, table
from gateway.commands.status_view import ask
from gateway.core.errors import RejectedError
from gateway.language import say

if TYPE_CHECKING:
    from gateway.config import Config

COLOURS: Final = {"done": "green", "refused": "red", "offline": "yellow", "timeout": "yellow", "unknown": "red"}
WORDS: Final = {
    "done": ("done", "已完成"),
    "refused": ("refused", "被拒绝"),
    "offline": ("offline", "设备离线"),
    "timeout": ("no answer", "未应答"),
    "unknown": ("unknown device", "无此设备"),
}
EXIT_CODES: Final = {
    "done": 0,
    "refused": NEGATIVE,
    "unknown": NEGATIVE,
    "offline": UNAVAILABLE,
    "timeout": UNAVAILABLE,
}
TIMEOUT_MAX_S: Final = 120

_config = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_CONFIG,
    envvar="FIELDGATE_CONFIG",
    show_default=True,
    help="Configuration of the running gateway.",
)


@click.group()
def device() -> None:
    """The devices of the running gateway, and orders to them. Every order is a record before the device hears of it."""


@device.command("list")
@_config
@json_option
def list_devices(config_file: Path, as_json: bool) -> None:
    """Devices that have reported since the gateway started: state, last position, what speaks against it."""
    found = _devices(_load(config_file), config_file)
    if as_json:
        emit({"devices": found})
        return
    if not found:
        click.echo(say("no device has reported since the gateway started", "网关启动后尚无设备上报"))
        return
    head = [
        say(*pair)
        for pair in (
            ("device", "设备"), ("plate", "车牌"), ("class", "类别"), ("state", "状态"), ("seen", "最近"),
            ("position", "位置"), ("km/h", "km/h"), ("flags", "标记"),
        )
    ]  # fmt: skip
    from gateway.clock import SYSTEM

    now_s = SYSTEM.realtime_ns() / 1e9
    for line in table(head, [_row(one, now_s) for one in found]):
        click.echo(line)


def _row(one: Mapping[str, Any], now_s: float) -> list[str]:
    position, state = one["position"] or {}, one["state"] or {}
    seen_ns = max(int(part.get("arrival_utc_ns", 0)) for part in (position, state))
    place = f"{position['lat_e7'] / 1e7:.5f}, {position['lon_e7'] / 1e7:.5f}" if "lat_e7" in position else "-"
    speed = f"{position['speed_kmh_e1'] / 10:.0f}" if "speed_kmh_e1" in position else ""
    name = f"{one['source']}/{one['device']}"
    word = str(state.get("state", "-"))
    return [name, one["plate"], one["class"], word, age_text(now_s - seen_ns / 1e9), place, speed,
            position.get("flags", "")]  # fmt: skip


# ---------------------------------------------------------------------------------------------- orders


def _order(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every order takes."""
    for option in (
        json_option,
        click.option("--timeout", "timeout_s", type=click.IntRange(1, TIMEOUT_MAX_S), help="Seconds to wait; 15."),
        click.option("--key", help="The same key again does nothing and shows the first outcome."),
        click.option("--as", "actor", default="", help="Who gives the order, for the record; nobody checks it."),
        _config,
        click.argument("name", metavar="DEVICE"),
    ):
        command = option(command)
    return command


@device.command()
@_order
def locate(**common: Any) -> None:
    """Ask where it is now."""
    _submit("locate", {}, **common)


@device.command()
@click.option("--every", "interval_s", type=click.IntRange(1, 65_535), default=5, show_default=True, help="Seconds.")
@click.option("--for", "validity_s", type=click.IntRange(1), default=300, show_default=True, help="Seconds.")
@click.option("--stop", is_flag=True, help="End it.")
@_order
def track(interval_s: int, validity_s: int, stop: bool, **common: Any) -> None:
    """Let it report more often for a while."""
    wishes = {"interval_s": 0} if stop else {"interval_s": interval_s, "validity_s": validity_s}
    _submit("track", wishes, **common)


@device.command()
@_order
@click.argument("words", metavar="TEXT")
@click.option("--urgent", is_flag=True, help="Marked as urgent.")
@click.option("--screen", is_flag=True, help="Also on the advertising screen.")
@click.option("--silent", is_flag=True, help="Shown, not read aloud.")
@click.option("--service", is_flag=True, help="A service message, not a notice.")
def text(words: str, urgent: bool, screen: bool, silent: bool, service: bool, **common: Any) -> None:
    """Show TEXT to the driver and read it aloud."""
    wishes: dict[str, Any] = {"text": words, "urgent": urgent, "screen": screen, "read_aloud": not silent}
    _submit("text", wishes | ({"kind": "service"} if service else {}), **common)


@device.command()
@click.option("--channel", type=click.IntRange(1, 255), default=1, show_default=True, help="Camera.")
@click.option("--photos", type=click.IntRange(1, 100), default=1, show_default=True, help="How many.")
@click.option("--every", "interval_s", type=click.IntRange(0, 65_535), default=0, help="Seconds between photos.")
@click.option("--video", "video_s", type=click.IntRange(0, 65_535), help="A video of so many seconds; 0: until --stop.")
@click.option("--stop", is_flag=True, help="End a video.")
@click.option("--save", is_flag=True, help="The device keeps it and does not send it.")
@click.option("--resolution", type=click.IntRange(1, 8), default=2, show_default=True, help="1 320x240 to 8 D1.")
@click.option("--quality", type=click.IntRange(1, 10), default=5, show_default=True, help="1 best, 10 smallest.")
@_order
def shoot(
    channel: int, photos: int, interval_s: int, video_s: int | None, stop: bool, save: bool, resolution: int,
    quality: int, **common: Any,
) -> None:  # fmt: skip
    """Take photos or a video; they arrive as device.media records."""
    wishes: dict[str, Any] = {"channel": channel, "save": save, "resolution": resolution, "quality": quality}
    if stop:
        wishes["stop"] = True
    elif video_s is not None:
        wishes["video_s"] = video_s
    else:
        wishes |= {"photos": photos, "interval_s": interval_s}
    _submit("shoot", wishes, **common)


@device.command("set")
@_order
@click.argument("pairs", metavar="NAME=VALUE...", nargs=-1, required=True)
def set_parameters(pairs: tuple[str, ...], **common: Any) -> None:
    """Set parameters: names as in `device query`, or numbers such as 0x0029. A VALUE of digits is a number, one in
    quotes a text."""
    _submit("set", {"parameters": _pairs(pairs)}, **common)


def _pairs(pairs: tuple[str, ...]) -> dict[str, Any]:
    wishes: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"expected NAME=VALUE, found {pair!r}", param_hint="NAME=VALUE")
        wishes[key] = _value(value)
    return wishes


def _value(text: str) -> int | str:
    if text.isascii() and text.removeprefix("-").isdecimal():
        return int(text)
    is_quoted = len(text) >= 2 and text[0] == text[-1] == '"'
    return text[1:-1] if is_quoted else text


@device.command()
@_order
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--attributes", is_flag=True, help="Maker, model, firmware instead.")
def query(names: tuple[str, ...], attributes: bool, **common: Any) -> None:
    """Read parameters; without NAME all of them."""
    wishes: dict[str, Any] = {"attributes": True} if attributes else {"parameters": list(names)}
    _submit("query", wishes, **common)


@device.command()
@_order
@click.argument("action", metavar="ACTION")
@click.argument("pairs", metavar="[NAME=VALUE...]", nargs=-1)
def order(action: str, pairs: tuple[str, ...], **common: Any) -> None:
    """Any order that the protocol of the device knows, such as `time`, or `history message=2051 …` of a monitor."""
    _submit(action, _pairs(pairs), **common)


_wishes = click.argument("file", metavar="JSON", type=click.File("rb"))


@device.command()
@_order
@_wishes
def area(file: IO[bytes], **common: Any) -> None:
    """Areas that the device is to watch by itself. JSON: a file with the parameters, or -."""
    _submit("area", _json(file), **common)


@device.command()
@_order
@_wishes
def route(file: IO[bytes], **common: Any) -> None:
    """A route that the device is to watch by itself. JSON: a file with the parameters, or -."""
    _submit("route", _json(file), **common)


def _json(file: IO[bytes]) -> dict[str, Any]:
    try:
        found = json.load(file)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="'JSON'") from None
    if not isinstance(found, dict):
        raise click.BadParameter("expected an object {…}", param_hint="'JSON'")
    return found


def _submit(
    action: str,
    wishes: Mapping[str, Any],
    *,
    name: str,
    config_file: Path,
    actor: str,
    key: str | None,
    timeout_s: int | None,
    as_json: bool,
) -> None:
    """Hand in an order, show what came of it, end with its exit code."""
    from uplink import pull_client

    config = _load(config_file)
    source, identity = _resolve(config, config_file, name)
    parameters = dict(wishes) | ({} if timeout_s is None else {"timeout_s": timeout_s})
    body = {"action": action, "key": key or secrets.token_hex(16), "parameters": parameters, "actor": actor}
    post = partial(pull_client.post_order, source=source, device=identity, order=body)
    outcome = ask(config, config_file, post)
    if as_json:
        emit({"source": source, "device": identity, "action": action, "key": body["key"], **outcome})
    else:
        click.echo(_line(f"{source}/{identity}", action, outcome))
    sys.exit(EXIT_CODES.get(outcome["outcome"], NEGATIVE))


def _line(name: str, action: str, outcome: Mapping[str, Any]) -> str:
    word = outcome["outcome"]
    shown = colour(say(*WORDS.get(word, (word, word))), COLOURS.get(word, "white"))
    seq = "" if outcome["seq"] is None else say(f" (record {outcome['seq']})", f"（记录 {outcome['seq']}）")
    result = json.dumps(outcome["result"], ensure_ascii=False, sort_keys=True) if outcome["result"] else ""
    detail = "" if word == "done" else outcome["detail"]
    return " ".join(filter(None, [f"{name} {action}: {shown}{seq}", " ".join(detail.split()), result]))


def _resolve(config: Config, config_file: Path, name: str) -> tuple[str, str]:
    """Source and identity: `source/identity`, or the one device with this identity or plate. Raises RejectedError."""
    sources = [source.name for source in config.source]
    head, slash, rest = name.partition("/")
    if slash and head in sources and rest:
        return head, rest
    found = {
        (one["source"], one["device"]) for one in _devices(config, config_file) if name in (one["device"], one["plate"])
    }
    if len(found) == 1:
        return found.pop()
    kinds = ("jt808", "hj212", "hj212-serial")
    takers = [source.name for source in config.source if str(source.__struct_config__.tag) in kinds]
    if not found and len(takers) == 1:
        return takers[0], name
    if not found:
        example = f"{(takers or ['trucks'])[0]}/{name}"
        raise RejectedError(
            say(
                f"no device {name!r} has reported; name it as source/device, such as {example}",
                f"没有设备 {name!r} 上报过；请写成 数据源/设备，例如 {example}",
            )
        )
    several = ", ".join(sorted("/".join(pair) for pair in found))
    raise RejectedError(say(f"{name!r} is several devices: {several}", f"{name!r} 对应多个设备：{several}"))


def _devices(config: Config, config_file: Path) -> list[dict[str, Any]]:
    from uplink import pull_client

    return ask(config, config_file, pull_client.fetch_devices)


def _load(config_file: Path) -> Config:
    from gateway import offline

    return offline.load_config(config_file)
