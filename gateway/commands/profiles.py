"""`fieldgate profile …`: device models are data; list them, run their examples, try one on a real folder or device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.commands.output import NEGATIVE, colour, dirs_option, emit, json_option, table
from gateway.commands.poll import poll
from gateway.core.errors import ProfileError
from gateway.language import say

if TYPE_CHECKING:
    from firmware_profiles.worked import Result


@click.group()
def profile() -> None:
    """Device profiles: one TOML file per model (PROFILE.md)."""


@profile.command("list")
@dirs_option
@json_option
def list_command(dirs: tuple[Path, ...], as_json: bool) -> None:
    """Every profile that a source or a devices file can name."""
    from firmware_profiles import loader

    rows = loader.list_profiles(dirs)
    if as_json:
        emit(
            {
                "profiles": [
                    {
                        "id": row.id,
                        "kind": row.kind,
                        "title": row.title,
                        "path": str(row.path),
                        "confirmed": row.confirmed,
                        "problems": [str(item) for item in row.problems],
                    }
                    for row in rows
                ]
            }
        )
        return
    head = [say("id", "编号"), say("kind", "类别"), say("title", "名称")]
    mark = say("  [unconfirmed: compare with the device]", "  [未经设备核实]")
    cells = [
        [row.id, row.kind, str(row.problems[0]) if row.problems else row.title + ("" if row.confirmed else mark)]
        for row in rows
    ]
    for line in table(head, cells):
        click.echo(line)


@profile.command()
@click.argument("files", metavar="FILE|ID...", nargs=-1, required=True)
@dirs_option
@json_option
def check(files: tuple[str, ...], dirs: tuple[Path, ...], as_json: bool) -> None:
    """Check profiles (files, or ids of known ones) and run the worked examples in them."""
    results = [result for name in files for result in _check_one(name, dirs)]
    bad = [result for result in results if not result.ok]
    if as_json:
        emit({"ok": not bad, "examples": [_json_result(result) for result in results]})
    else:
        for result in results:
            mark = colour("ok  ", "green") if result.ok else colour("FAIL", "red")
            text = "" if result.differences else result.text
            click.echo(f"{mark}  {result.path.name}  {result.name}  {text}".rstrip())
            if result.differences:
                head = [say("field", "字段"), say("expected", "期望"), say("got", "实际")]
                for line in table(head, [[one.key, one.expected, one.got] for one in result.differences]):
                    click.echo(f"      {line}")
    if bad:
        click.get_current_context().exit(NEGATIVE)


def _json_result(result: Result) -> dict[str, Any]:
    return {
        "path": str(result.path),
        "name": result.name,
        "ok": result.ok,
        "text": result.text,
        "differences": [{"field": one.key, "expected": one.expected, "got": one.got} for one in result.differences],
    }


def _check_one(name: str, dirs: tuple[Path, ...]) -> list[Result]:
    """The examples of one profile; a file that cannot be used gives its problems as results."""
    from drivers.bodycam import examples as stations
    from drivers.hj212 import examples as monitors
    from drivers.jsonfeed import examples as feeds
    from drivers.jt808 import examples as terminals
    from drivers.modbus import examples as sensors
    from drivers.nmea import examples as receivers
    from firmware_profiles import loader
    from firmware_profiles.feed_model import FeedProfile
    from firmware_profiles.model import StationProfile
    from firmware_profiles.monitor_model import MonitorProfile
    from firmware_profiles.sensor_model import SensorProfile
    from firmware_profiles.worked import Result

    # A bare name is an id, unless there is a file of that name and no such id
    path = Path(name).absolute()
    known = {row.id for row in loader.list_profiles(dirs)}
    try:
        loaded = loader.load(str(path) if name not in known and path.is_file() else name, dirs)
    except ProfileError as error:
        return [Result(path, problem.key or "file", False, str(problem)) for problem in error.problems]
    match loaded.profile:
        case StationProfile() as station:
            return stations.check_examples(station, loaded.path)
        case MonitorProfile() as monitor:
            return monitors.check_examples(monitor, loaded.path)
        case SensorProfile() as sensor:
            return sensors.check_examples(sensor, loaded.path)
        case FeedProfile() as feed:
            return feeds.check_examples(feed, loaded.path)
        case tracker:
            check = receivers.check_examples if tracker.protocol == "nmea" else terminals.check_examples
            return check(tracker, loaded.path)


profile.add_command(poll)
