"""`fieldgate simulate …`: devices that are not there, for trying a gateway out, for tests and for load."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.commands.output import NEGATIVE, emit, json_option
from gateway.core import errors
from gateway.language import say

if TYPE_CHECKING:
    from drivers.fleet.journeys import Path as Way
    from drivers.hj212.simulator import Monitor
    from drivers.io.fleet_runner import Terminal as Caller
    from drivers.jt808.simulator import Terminal
    from drivers.modbus.simulator import Bus
    from gateway.scenario import Scenario
    from gateway.scenario_kitchens import KitchenScenario

DRAIN_S: Final = 20.0
"""At the end of `--for`: how long stored fixes may take to be acknowledged."""
BOOK_S: Final = 12
"""So long a gateway may take to put a changed rule book into force (twice its `reload_s`, and a little)."""
TOLD_EVERY_S: Final = {True: 0.5, False: 10.0}
"""On a terminal, and in a pipe."""
PLANTS: Final = (
    "off-route", "dumping", "dumping-lead", "uncovered", "speeding", "frozen-gnss", "jammed", "antenna-cut",
    "power-cut", "offline", "sensors-lost", "mileage", "duplicate-identity",
)  # fmt: skip
FAULTS: Final = ("frozen-gnss", "jammed", "antenna-cut", "offline")
FUME_PLANTS: Final = (
    "purifier-off", "fume-sustained", "fume-limit", "fume-converted", "purifier-current",
    "fume-fan-off", "monitor-offline", "flat-line", "out-of-range", "value-jump",
)  # fmt: skip
ODDITIES: Final = ("no-crlf", "no-qn", "qn-13", "bad-crc-once", "sticky", "torn", "long", "doubled")
BUS_FAULTS: Final = ("slow", "late", "noise", "bad-crc", "short", "wrong-unit", "flood", "dead")

routes_option = click.option(
    "--routes",
    "routes_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="GeoJSON with LineStrings to drive and a datum (RULES.md); default: the streets of the demo.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same fleet."
)
for_option = click.option("--for", "for_s", type=click.FloatRange(min=1), help="Stop after so many seconds.")
speed_up_option = click.option(
    "--speed-up",
    type=click.FloatRange(1, 1000),
    default=1.0,
    show_default=True,
    help="Device time begins in the past and runs so many times faster until it has caught up.",
)


@click.group()
def simulate() -> None:
    """Simulated devices: trucks over JT/T 808, receivers over NMEA 0183, fume monitors over HJ 212 and Modbus."""


# ------------------------------------------------------------------------------------------ jt808


@simulate.command()
@click.option("--to", "address", required=True, metavar="HOST:PORT", help="Where the gateway listens.")
@click.option("--udp", is_flag=True, help="Datagrams instead of TCP.")
@click.option("--trucks", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many.")
@click.option(
    "--version",
    type=click.Choice(["2011", "2013", "2019", "mixed"]),
    default="mixed",
    show_default=True,
    help="Edition of the standard.",
)
@routes_option
@click.option("--interval", "interval_s", type=click.IntRange(1, 3600), default=10, show_default=True,
              help="Seconds between fixes.")  # fmt: skip
@speed_up_option
@click.option("--loss", type=click.FloatRange(0, 90), default=0.0, help="Per cent of frames that get lost.")
@click.option("--damage", type=click.FloatRange(0, 90), default=0.0, help="Per cent of frames that arrive damaged.")
@click.option(
    "--blind-zone", "blind_zones", multiple=True, metavar="FROM-TO",
    help="Minutes without network, such as 5-8: fixes are stored and sent later. May be repeated.",
)  # fmt: skip
@click.option(
    "--plant", "plants", type=click.Choice([*PLANTS, "all"]), multiple=True,
    help="What the next truck does wrong. May be repeated.",
)  # fmt: skip
@click.option("--identity", default="13905730001", show_default=True, help="Phone number of the first truck.")
@seed_option
@for_option
@click.option(
    "--scenario", "book", type=click.Path(file_okay=False, path_type=Path),
    help="Run the demo's ten trucks instead; rule book and devices.toml for them are written into this folder.",
)  # fmt: skip
@json_option
def jt808(
    address: str, udp: bool, trucks: int, version: str, routes_file: Path | None, interval_s: int, speed_up: float,
    loss: float, damage: float, blind_zones: tuple[str, ...], plants: tuple[str, ...], identity: str, seed: int,
    for_s: float | None, book: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Trucks that haul muck and report it: register, keep every fix until it is acknowledged, answer orders."""
    from drivers.io.surroundings import pause
    from drivers.jt808.codec import Version
    from gateway import scenario

    target = _address(address)
    blind = tuple(_minutes(text) for text in blind_zones)
    if not identity.isascii() or not identity.isdecimal() or len(str(int(identity) + trucks)) > 12:
        raise click.BadParameter("expected up to 12 digits", param_hint="--identity")
    editions = tuple(Version) if version == "mixed" else (Version(int(version)),)
    now_utc_s = _now_utc_s()
    if book is not None:
        told = scenario.scenario(now_utc_s + BOOK_S, for_s=for_s or scenario.FOR_S)
        _write_book(told, book)
        for_s = told.for_s
    wish = scenario.Wish(
        ways=_ways(routes_file), trucks=trucks, first_identity=int(identity), editions=editions,
        interval_s=interval_s, speed_up=speed_up, loss_percent=loss, damage_percent=damage, blind_zones_s=blind,
        plants=PLANTS if "all" in plants else plants, seed=seed, for_s=for_s,
    )  # fmt: skip

    async def work(stop: asyncio.Event) -> dict[str, Any]:
        if book is not None:
            await pause(stop, BOOK_S)
        begin_s = asyncio.get_running_loop().time()
        terminals = told.terminals(begin_s) if book is not None else scenario.fleet(wish, now_utc_s, begin_s)
        told_how = None if as_json else lambda: _summary(_result(terminals))
        await _haul(terminals, target, stop, for_s=for_s, told=told_how, udp=udp)
        return _result(terminals)

    result = _run(work)
    if as_json:
        emit(result)
    else:
        click.echo(_summary(result))
    if not result["links_answered"]:
        raise errors.TransientError(
            say(f"{address}: nothing answers there; is the gateway running?", f"{address} 无应答；网关是否在运行？")
        )
    if for_s is not None and result["waiting"]:
        click.get_current_context().exit(NEGATIVE)


async def _haul(
    terminals: Sequence[Caller], target: tuple[str, int], stop: asyncio.Event, *, for_s: float | None,
    told: Callable[[], str] | None, udp: bool = False,
) -> None:  # fmt: skip
    """Run the fleet, tell how it goes, and end it when its time and the time for the rest are over."""
    from drivers.io.fleet_runner import run_fleet
    from drivers.io.surroundings import pause

    over = asyncio.Event()

    async def tell() -> None:
        on_terminal = sys.stderr.isatty()
        while not await pause(over, TOLD_EVERY_S[on_terminal]):
            line = told() if told is not None else ""
            click.echo(f"\r{line}\x1b[K" if on_terminal else line, err=True, nl=not on_terminal)
        if on_terminal:
            click.echo(err=True)

    async def limit(seconds: float) -> None:
        await pause(over, seconds)
        stop.set()

    async with asyncio.TaskGroup() as group:
        if told is not None:
            group.create_task(tell())
        if for_s is not None:
            group.create_task(limit(for_s + DRAIN_S))
        await run_fleet(terminals, target, stop=stop, udp=udp)
        over.set()


def _result(terminals: Sequence[Terminal]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for terminal in terminals:
        for name, value in asdict(terminal.counts).items():
            counts[name] = counts.get(name, 0) + value
    return {
        "terminals": len(terminals),
        "online": sum(terminal.state == "online" for terminal in terminals),
        "measured": sum(len(terminal.truth.measured) for terminal in terminals),
        "acknowledged": sum(len(terminal.truth.acknowledged) for terminal in terminals),
        "waiting": sum(terminal.truth.unacknowledged for terminal in terminals),
        "photos": sum(len(terminal.truth.photos_acknowledged) for terminal in terminals),
        "links_answered": sum(terminal.counts.answers > 0 for terminal in terminals),
        "counts": counts,
    }


def _summary(result: dict[str, Any]) -> str:
    values = {**result["counts"], **result}
    return say(
        "{online} of {terminals} online, {measured} fixes: {acknowledged} acknowledged, {waiting} waiting; "
        "{frames} frames sent, {resent} again, {lost} lost, {damaged} damaged; {orders} orders, {refused} refused",
        "{terminals} 台在线 {online} 台，定位 {measured} 条：已应答 {acknowledged}，待应答 {waiting}；"
        "发送 {frames} 帧，重发 {resent}，丢失 {lost}，损坏 {damaged}；指令 {orders} 条，被拒 {refused} 次",
    ).format(**values)


def _write_book(told: Scenario | KitchenScenario, folder: Path) -> None:
    """The folder may be the `[rules] path` of a running gateway; devices.toml lies beside it."""
    rules = folder / "rules"
    rules.mkdir(parents=True, exist_ok=True)
    for name, content in told.files.items():
        (rules / name).write_bytes(content)
    (folder / "devices.toml").write_text(told.devices_toml)
    lines = (
        say("rule book", "规则册") + f"  {rules}",
        say("devices", "设备") + f"    {folder / 'devices.toml'}",
        say(f"{BOOK_S} s for the gateway to take them", f"等待 {BOOK_S} 秒，供网关载入"),
    )
    click.echo("\n".join(lines), err=True)


# ------------------------------------------------------------------------------------------ nmea


@simulate.command()
@click.option("--to", metavar="HOST:PORT", help="Connect to a gateway's TCP listener.")
@click.option("--udp", metavar="HOST:PORT", help="Send datagrams there.")
@click.option("--listen", metavar="HOST:PORT", help="Be a serial server: everybody who connects gets the stream.")
@click.option("--pty", is_flag=True, help="Make a pseudo-tty and print its path: a serial port for a gateway.")
@routes_option
@click.option(
    "--talker", type=click.Choice(["GN", "GP", "BD", "GB", "GA", "GL"]), default="GN", show_default=True,
    help="Talker of the sentences: GN for several systems, BD or GB for BeiDou.",
)  # fmt: skip
@click.option("--rate", "rate_hz", type=click.IntRange(1, 20), default=1, show_default=True, help="Epochs per second.")
@click.option("--damage", type=click.FloatRange(0, 90), default=0.0, help="Per cent of sentences that are damaged.")
@click.option("--plant", "plants", type=click.Choice(FAULTS), multiple=True, help="A fault. May be repeated.")
@speed_up_option
@seed_option
@for_option
@json_option
def nmea(
    to: str | None, udp: str | None, listen: str | None, pty: bool, routes_file: Path | None, talker: str,
    rate_hz: int, damage: float, plants: tuple[str, ...], speed_up: float, seed: int, for_s: float | None,
    as_json: bool,
) -> None:  # fmt: skip
    """A receiver on a moving vehicle: RMC GGA GSA GSV VTG ZDA GST."""
    from drivers.io import receiver_runner as out
    from drivers.nmea.simulator import Receiver
    from gateway import scenario

    if sum((to is not None, udp is not None, listen is not None, pty)) != 1:
        raise click.UsageError("say where to: exactly one of --to, --udp, --listen, --pty")
    wish = scenario.Wish(ways=_ways(routes_file), trucks=1, speed_up=speed_up, plants=plants, seed=seed, for_s=for_s,
                         interval_s=1)  # fmt: skip
    now_utc_s = _now_utc_s()

    def bound(where: object) -> None:
        text = f"{where[0]}:{where[1]}" if isinstance(where, tuple) else str(where)
        click.echo(text, err=as_json)
        sys.stdout.flush()

    async def work(stop: asyncio.Event) -> dict[str, Any]:
        clock, vehicle = scenario.one_vehicle(wish, now_utc_s, asyncio.get_running_loop().time())
        receiver = Receiver(vehicle, talker, rate_hz, damage_percent=damage)
        if pty:
            with out.to_pty(bound) as write:
                return {"epochs": await out.run_receiver(receiver, clock, write, stop)}
        if listen is not None:
            opened = out.to_clients(_address(listen), bound)
        elif udp is not None:
            opened = out.to_datagrams(_address(udp))
        else:
            opened = out.to_server(_address(str(to)), stop)
        async with opened as write:
            return {"epochs": await out.run_receiver(receiver, clock, write, stop)}

    result = _run(work)
    if as_json:
        emit(result)
    else:
        click.echo(say(f"{result['epochs']} epochs sent", f"已发送 {result['epochs']} 个历元"))


# ------------------------------------------------------------------------------------------ hj212


@simulate.command()
@click.option("--to", "address", required=True, metavar="HOST:PORT", help="Where the gateway listens.")
@click.option("--monitors", type=click.IntRange(1, 10_000), default=4, show_default=True, help="How many.")
@click.option(
    "--dialect", type=click.Choice(["fume-d1", "fume-d2", "fume-d3", "mixed"]), default="mixed", show_default=True,
    help="Codes of the factors: the monitor profile to choose in the gateway.",
)  # fmt: skip
@click.option("--edition", type=click.Choice(["2005", "2017", "2025", "mixed"]), default="mixed", show_default=True,
              help="Edition of the standard.")  # fmt: skip
@click.option(
    "--odd", "oddities", type=click.Choice([*ODDITIES, "all"]), multiple=True,
    help="How the next monitor leaves the standard. May be repeated; all: one after the other.",
)  # fmt: skip
@click.option("--interval", "interval_s", type=click.IntRange(1, 3600), default=60, show_default=True,
              help="Seconds between measurements.")  # fmt: skip
@click.option("--minutes", type=click.IntRange(0, 30), default=0, help="Also 2051, of periods of so many minutes.")
@speed_up_option
@click.option(
    "--plant", "plants", type=click.Choice([*FUME_PLANTS, "all"]), multiple=True,
    help="What goes wrong in the next kitchen. May be repeated.",
)  # fmt: skip
@seed_option
@for_option
@click.option(
    "--scenario", "book", type=click.Path(file_okay=False, path_type=Path),
    help="Run the demo's four monitors instead; rule book and devices.toml for them are written into this folder.",
)  # fmt: skip
@json_option
def hj212(
    address: str, monitors: int, dialect: str, edition: str, oddities: tuple[str, ...], interval_s: int, minutes: int,
    speed_up: float, plants: tuple[str, ...], seed: int, for_s: float | None, book: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Fume monitors of restaurants: keep every measurement until 9014 has come, answer orders, have bad habits."""
    from drivers.io.surroundings import pause
    from gateway import scenario_kitchens as street

    target = _address(address)
    now_utc_s = _now_utc_s()
    if book is not None:
        told = street.kitchens_scenario(now_utc_s + BOOK_S, for_s=for_s or street.FOR_S)
        _write_book(told, book)
        for_s = told.for_s
    wish = street.Wish(
        monitors=monitors, dialect=dialect, edition=edition, minutes=minutes, interval_s=interval_s,
        oddities=ODDITIES if "all" in oddities else oddities, speed_up=speed_up,
        plants=FUME_PLANTS if "all" in plants else plants, seed=seed, for_s=for_s,
    )  # fmt: skip

    async def work(stop: asyncio.Event) -> dict[str, Any]:
        if book is not None:
            await pause(stop, BOOK_S)
        begin_s = asyncio.get_running_loop().time()
        callers = told.monitors(begin_s) if book is not None else street.monitors(wish, now_utc_s, begin_s)
        told_how = None if as_json else lambda: _monitors_summary(_monitors_result(callers))
        await _haul(callers, target, stop, for_s=for_s, told=told_how)
        return _monitors_result(callers)

    result = _run(work)
    if as_json:
        emit(result)
    else:
        click.echo(_monitors_summary(result))
    if not result["links_answered"] and not result["forgotten"]:
        raise errors.TransientError(
            say(f"{address}: nothing answers there; is the gateway running?", f"{address} 无应答；网关是否在运行？")
        )
    if for_s is not None and result["waiting"]:
        click.get_current_context().exit(NEGATIVE)


def _monitors_result(monitors: Sequence[Monitor]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for monitor in monitors:
        for name, value in asdict(monitor.counts).items():
            counts[name] = counts.get(name, 0) + value
    return {
        "monitors": len(monitors),
        "measured": sum(len(one.truth.measured) for one in monitors),
        "acknowledged": sum(len(one.truth.acknowledged) for one in monitors),
        "forgotten": sum(len(one.truth.forgotten) for one in monitors),
        "waiting": sum(one.truth.unacknowledged for one in monitors),
        "links_answered": sum(one.counts.answers > 0 for one in monitors),
        "counts": counts,
    }


def _monitors_summary(result: dict[str, Any]) -> str:
    values = {**result["counts"], **result}
    return say(
        "{monitors} monitors, {measured} measurements: {acknowledged} acknowledged, {forgotten} sent without QN, "
        "{waiting} waiting; {frames} frames sent, {resent} again, {damaged} damaged; {orders} orders",
        "{monitors} 台监测仪，测量 {measured} 条：已应答 {acknowledged}，无 QN 已发 {forgotten}，待应答 {waiting}；"
        "发送 {frames} 帧，重发 {resent}，损坏 {damaged}；指令 {orders} 条",
    ).format(**values)


# ------------------------------------------------------------------------------------------ modbus


@simulate.command()
@click.option("--kitchens", type=click.IntRange(1, 10), default=2, show_default=True,
              help="Each has a fume concentrator (units 1 to 10) and a meter for its purifier (11 to 20).")  # fmt: skip
@click.option("--link", type=click.Path(path_type=Path), help="A stable name for the port: a link to the pseudo-tty.")
@click.option("--baud", type=click.IntRange(0, 4_000_000), default=9600, show_default=True,
              help="Bytes take as long as on such a line; 0: no time.")  # fmt: skip
@click.option(
    "--fault", "faults", type=click.Choice([*BUS_FAULTS, "all"]), multiple=True,
    help="What the next device does. May be repeated; all: one device after the other.",
)  # fmt: skip
@click.option("--every", type=click.IntRange(1, 10_000), default=5, show_default=True,
              help="Faults befall each so many-th request; slow ones all.")  # fmt: skip
@click.option("--purifier-off", "off", metavar="FROM-TO", help="Minutes in which the first kitchen cooks without it.")
@seed_option
@for_option
@json_option
def modbus(
    kitchens: int, link: Path | None, baud: int, faults: tuple[str, ...], every: int, off: str | None, seed: int,
    for_s: float | None, as_json: bool,
) -> None:  # fmt: skip
    """A Modbus RTU bus on a pseudo-tty: fume concentrators and meters that answer slowly, late, with noise or never."""
    from drivers.io.bus_simulator import run_bus
    from drivers.io.surroundings import pause
    from gateway import scenario_kitchens as street

    minutes = None if off is None else _minutes(off, "--purifier-off")
    chosen = BUS_FAULTS if "all" in faults else faults
    if link is not None and link.exists() and not link.is_symlink():
        raise click.BadParameter(f"{str(link)!r} exists and is no link", param_hint="--link")
    now_utc_s = _now_utc_s()

    def bound(path: str) -> None:
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(path)
        click.echo(str(link or path), err=as_json)
        sys.stdout.flush()

    async def work(stop: asyncio.Event) -> dict[str, Any]:
        begin_s = asyncio.get_running_loop().time()
        bus = street.bus(kitchens, chosen, every, minutes, seed, now_utc_s, begin_s, baud)
        async with asyncio.TaskGroup() as group:
            group.create_task(run_bus(bus, bound, stop))
            if for_s is not None:
                await pause(stop, for_s)
                stop.set()
        return _bus_result(bus)

    try:
        result = _run(work)
    finally:
        if link is not None and link.is_symlink():
            link.unlink()
    if as_json:
        emit(result)
    else:
        text = "{requests} requests, {answers} answers of {units} devices; {malformed} bytes were no request"
        click.echo(
            say(text, "请求 {requests} 次，{units} 台设备应答 {answers} 次；非请求字节 {malformed}").format(**result)
        )


def _bus_result(bus: Bus) -> dict[str, Any]:
    return {
        "units": len(bus.units),
        "requests": bus.requests,
        "answers": sum(one.answered for one in bus.units),
        "malformed": bus.malformed,
        "asked": {str(one.unit): one.asked for one in bus.units},
    }


# ------------------------------------------------------------------------------------------ all


def _run(work: Callable[[asyncio.Event], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    """Until it is done, or Ctrl-C or SIGTERM."""

    async def guarded() -> dict[str, Any]:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await work(stop)

    return asyncio.run(guarded())


def _now_utc_s() -> int:
    from gateway.clock import SYSTEM

    return SYSTEM.realtime_ns() // 1_000_000_000


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter(f"expected host:port, found {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _minutes(text: str, option: str = "--blind-zone") -> tuple[float, float]:
    begin, dash, end = text.partition("-")
    with suppress(ValueError):
        if dash and 0 <= float(begin) < float(end):
            return float(begin) * 60, float(end) * 60
    raise click.BadParameter(f"expected minutes FROM-TO such as 5-8, found {text!r}", param_hint=option)


def _ways(routes_file: Path | None) -> tuple[Way, ...]:
    """The lines of a GeoJSON file in WGS-84, or those of the demo."""
    from drivers.fleet.journeys import Path as Way
    from gateway import scenario
    from gateway.rules import geojson
    from gateway.toml_check import decoded

    if routes_file is None:
        return tuple(scenario.way(number) for number in (1, 2, 3))
    problems: list[errors.Problem] = []
    name = str(routes_file)

    def note(path: tuple[str | int, ...], text: str) -> None:
        problems.append(errors.Problem(name, 0, ".".join(map(str, path)), text))

    drawn = geojson.collection(geojson.parse(name, decoded(name, routes_file.read_bytes())), note, lambda *_: None)
    if problems:
        raise errors.ConfigError(problems)
    features = drawn.features if drawn is not None else []
    lines = [line for feature in features if feature.shape is not None for line in feature.shape.lines]
    if not lines:
        raise errors.ConfigError([errors.Problem(name, 0, "features", "holds no LineString to drive along")])
    return tuple(Way(line) for line in lines)
