"""`fieldgate profile poll`: a station's folder, a live device or JSON messages, seen through a profile. Nothing is
stored."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from gateway.commands.output import dirs_option, emit, json_option, table
from gateway.language import say

if TYPE_CHECKING:
    from drivers.io.poll import Ready, Show
    from firmware_profiles.feed_model import FeedProfile
    from firmware_profiles.loader import LoadedProfile
    from firmware_profiles.model import StationProfile
    from firmware_profiles.sensor_model import SensorProfile
    from firmware_profiles.tracker_model import TrackerProfile

    Watch = Callable[[Show, Ready], Coroutine[Any, Any, None]]

BAUD: Final = 9600


@click.command()
@click.argument("profile_name", metavar="PROFILE")
@click.argument("path", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Files to show.")
@click.option("--listen", default="", help="Trackers: address:port to wait on (TCP), such as 0.0.0.0:6808.")
@click.option("--listen-udp", default="", help="Trackers and receivers: address:port to wait on (UDP).")
@click.option("--port", default="", help="Receivers and sensors: serial port, such as /dev/ttyUSB0.")
@click.option("--baud", type=click.IntRange(300, 4_000_000), help="Of the port; else that of the profile, or 9600.")
@click.option("--parity", type=click.Choice(["N", "E", "O"]), help="Sensors: of the port; else that of the profile.")
@click.option("--stop-bits", type=click.IntRange(1, 2), help="Sensors: of the port; else those of the profile.")
@click.option("--unit", type=click.IntRange(1, 255), help="Sensors: unit id; else that of the profile.")
@click.option("--connect", default="", help="Receivers and sensors: host:port, such as 192.0.2.7:502.")
@click.option("--rtu", is_flag=True, help="Sensors: --connect leads to a serial server, not to Modbus TCP.")
@click.option("--for", "seconds", type=click.FloatRange(min=0.1), help="Seconds to watch; else until Ctrl-C.")
@dirs_option
@json_option
def poll(
    profile_name: str,
    path: Path | None,
    limit: int,
    listen: str,
    listen_udp: str,
    port: str,
    baud: int | None,
    parity: str | None,
    stop_bits: int | None,
    unit: int | None,
    connect: str,
    rtu: bool,
    seconds: float | None,
    dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show a station's folder, a live device, or a file of JSON messages through a profile (an id or a TOML file).
    Nothing is stored."""
    from firmware_profiles import loader
    from firmware_profiles.feed_model import FeedProfile
    from firmware_profiles.model import StationProfile
    from firmware_profiles.monitor_model import MonitorProfile
    from firmware_profiles.sensor_model import SensorProfile

    found = loader.load(profile_name, dirs)
    given = {"--listen": listen, "--listen-udp": listen_udp, "--port": port, "--connect": connect}
    options = [option for option, value in given.items() if value]
    match found.profile:
        case StationProfile() as station:
            if path is None or not path.is_dir() or options:
                raise click.UsageError(f"{profile_name} is for stations: name the FOLDER to read, and no link")
            _folder(profile_name, station, path, limit, as_json=as_json)
            return
        case FeedProfile() as feed:
            if path is None or not path.is_file() or options:
                text = "name a FILE with one message per line, and no link"
                raise click.UsageError(f"{profile_name} is for JSON messages: {text}")
            _messages(feed, path, limit, as_json=as_json)
            return
        case MonitorProfile():
            text = "run the gateway with a source of type hj212, and look at: fieldgate status"
            raise click.UsageError(f"{profile_name} is for monitors of HJ 212: {text}")
    if path is not None:
        raise click.UsageError(f"{profile_name} is for live devices: leave the folder out and give a link")
    if isinstance(found.profile, SensorProfile):
        if options not in (["--port"], ["--connect"]):
            raise click.UsageError(f"{profile_name} is for Modbus sensors: give --port or --connect")
        sensor = cast("LoadedProfile[SensorProfile]", found)
        watch = _sensor(sensor, port, connect, unit, rtu=rtu, baud=baud, parity=parity, stop_bits=stop_bits)
        _watch(found.profile, watch, seconds, as_json=as_json)
        return
    tracker = found.profile
    allowed = ("--port", "--connect", "--listen-udp") if tracker.protocol == "nmea" else ("--listen", "--listen-udp")
    several = tracker.protocol == "jt808"
    if not options or not set(options) <= set(allowed) or (len(options) > 1 and not several):
        raise click.UsageError(f"{profile_name} speaks {tracker.protocol}: give {' or '.join(allowed)}")
    if tracker.protocol == "jt808":
        watch = _terminals(tracker, listen, listen_udp)
    else:
        watch = _receiver(tracker, port, baud or BAUD, connect, listen_udp)
    _watch(tracker, watch, seconds, as_json=as_json)


def _sensor(
    found: LoadedProfile[SensorProfile], port: str, connect: str, unit: int | None, *, rtu: bool, **line: Any
) -> Watch:
    from drivers.io import poll_bus

    if port:
        config: Any = poll_bus.serial_config(found, port, unit, **line)
    else:
        _server_address(connect)
        config = poll_bus.tcp_config(found, connect, unit, rtu=rtu)
    return lambda show, ready: poll_bus.poll_sensor(found, config, show, ready)


def _terminals(profile: TrackerProfile, tcp: str, udp: str) -> Watch:
    from drivers.io.poll import poll_terminals

    stream = _address("--listen", tcp) if tcp else None
    datagrams = _address("--listen-udp", udp) if udp else None
    return partial(poll_terminals, profile, tcp=stream, udp=datagrams)


def _receiver(profile: TrackerProfile, port: str, baud: int, connect: str, udp: str) -> Watch:
    from drivers.io.poll import poll_datagrams, poll_serial, poll_server

    if port:
        return lambda show, ready: poll_serial(profile, show, ready, port, baud)
    if connect:
        host, number = _server_address(connect)
        return lambda show, ready: poll_server(profile, show, ready, host, number)
    address = _address("--listen-udp", udp)
    return lambda show, ready: poll_datagrams(profile, show, ready, address)


def _server_address(connect: str) -> tuple[str, int]:
    host, _, number = connect.rpartition(":")
    if not host or not number.isascii() or not number.isdecimal() or not 0 < int(number) < 65_536:
        raise click.BadParameter("expected host:port, such as 192.0.2.7:4001", param_hint="--connect")
    return host.strip("[]"), int(number)


def _address(option: str, text: str) -> tuple[str, int]:
    from gateway.config import listen_address

    try:
        return listen_address(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _watch(profile: TrackerProfile | SensorProfile, watch: Watch, seconds: float | None, *, as_json: bool) -> None:
    from firmware_profiles.sensor_model import SensorProfile
    from gateway.commands.poll_view import sightings

    is_terminal = not isinstance(profile, SensorProfile) and profile.protocol == "jt808"

    def ready(where: str) -> None:
        text = say(
            f"watching {where}; nothing is stored; Ctrl-C ends", f"正在查看 {where}；不保存任何数据；按 Ctrl-C 结束"
        )
        if is_terminal:
            text += say("; locations are not acknowledged", "；不确认位置报文")
        click.echo(text, err=True)

    async def run() -> None:
        with sightings(profile.id, as_json=as_json) as show:
            try:
                async with asyncio.timeout(seconds):
                    await watch(show, ready)
            except TimeoutError:
                return

    if not profile.confirmed:
        text = say(
            "this profile is unconfirmed: compare what it reads with the device",
            "此配置未经设备核实：请与设备实际状态比对",
        )
        click.echo(text, err=True)
    if isinstance(profile, SensorProfile) and profile.contradicts:
        said = say("its document contradicts itself", "其说明文件自相矛盾")
        click.echo(f"{said}: {profile.contradicts}", err=True)
    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        return


def _messages(profile: FeedProfile, path: Path, limit: int, *, as_json: bool) -> None:
    """One JSON message per line; persons are hashed here as in the gateway."""
    from drivers.io.poll import Sighting
    from drivers.jsonfeed import decode
    from drivers.jsonfeed.examples import look
    from gateway.commands.poll_view import sightings

    feed = decode.compile(profile)
    with path.open("rb") as lines, sightings(profile.id, as_json=as_json) as show:
        for number, line in enumerate(islice(lines, limit), 1):
            for device, values, raw, note in look(feed, line.strip()):
                show(Sighting(device, f"line {number}", raw, values, note=note))


def _folder(name: str, profile: StationProfile, folder: Path, limit: int, *, as_json: bool) -> None:
    from drivers.bodycam.codec import NameCodec

    codec = NameCodec(profile)
    read = [codec.read(path) for path in islice(_names(folder), limit)]
    if as_json:
        rows = [
            {
                "name": item.display,
                "use": item.use,
                "media_type": item.media_type,
                "grammar": None if item.grammar is None else item.grammar + 1,
                "fields": item.fields,
                "time": None if item.time is None else {"local": item.time.local, "zone": item.time.zone},
            }
            for item in read
        ]
        emit({"profile": name, "files": rows})
        return
    head = [say("file", "文件"), say("use", "用途"), say("time", "时间"), say("fields", "字段")]
    unread = say("(no grammar fits; still evidence)", "（无匹配规则，仍作为证据）")
    cells = []
    for item in read:
        time = "" if item.time is None else f"{item.time.local} {item.time.zone or '?'}"
        fields = ", ".join(f"{key}={value}" for key, value in item.fields.items())
        cells.append([item.display, item.use, time, fields if item.grammar is not None else unread])
    for line in table(head, cells):
        click.echo(line)


def _names(folder: Path) -> Iterator[bytes]:
    """Paths of regular files below a folder, as bytes, never following a link."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base, name)
            if path.is_file() and not path.is_symlink():
                yield os.fsencode(path.relative_to(folder))
