"""`fieldgate rules …`: the rule book as files; check a folder, look up what holds for a truck."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.commands.findings import replay
from gateway.commands.output import CONFIG, colour, columns_of, emit, json_option, lines_of, table
from gateway.core import errors
from gateway.language import say

if TYPE_CHECKING:
    from gateway.rules.book import Book
    from gateway.rules.permits import Permit

folder_argument = click.argument("folder", type=click.Path(path_type=Path))

CELL_COLUMNS: Final = 28
"""Longer cells of a table are cut."""


@click.group()
def rules() -> None:
    """The rule book: rule sets, permits, places and routes (gateway/rules/RULES.md)."""


rules.add_command(replay)


@rules.command()
@folder_argument
@json_option
def check(folder: Path, as_json: bool) -> None:
    """Check a rule folder: every mistake with file and line, then what it holds."""
    from gateway import rule_files
    from gateway.rules.book import load_book

    try:
        book = load_book(rule_files.read_folder(folder))
    except errors.ConfigError as error:
        if as_json:
            emit({"ok": False, "problems": [_problem_json(item) for item in error.problems]})
        else:
            for line in lines_of(error):
                click.echo(line, err=True)
        click.get_current_context().exit(CONFIG)
    counts = _counts(book)
    if as_json:
        warnings = [_problem_json(item) for item in book.warnings]
        emit({"ok": True, "sha256": book.sha256, "counts": counts, "warnings": warnings})
        return
    for item in book.warnings:
        click.echo(colour(say("note", "提示"), "yellow") + f"  {item}")
    for line in _listing([(_names()[key], str(count)) for key, count in counts.items()]):
        click.echo(line)
    click.echo(say(f"ok: {folder}, {book.sha256}", f"正确：{folder}，{book.sha256}"))


def _problem_json(problem: errors.Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "key": problem.key, "message": problem.message}


def _counts(book: Book) -> dict[str, int]:
    kinds = Counter(place.kind for place in book.places.by_id.values())
    permits = book.permits_all.all
    counts = {
        "files": len(book.files),
        "rule_sets": len(book.rule_sets),
        "permits": len(permits),
        "vehicles": len({plate for permit in permits for plate in permit.vehicles}),
        "firms": len({permit.firm for permit in permits}),
        "routes": len(book.routes),
        "kitchens": len(book.kitchens),
    }
    return counts | {kind: kinds[kind] for kind in ("site", "ground", "zone", "no-entry", "dead-zone", "depot")}


def _names() -> dict[str, str]:
    return {
        "files": say("files", "文件"),
        "rule_sets": say("rule sets", "规则集"),
        "permits": say("permits", "准运证"),
        "vehicles": say("vehicles", "车辆"),
        "firms": say("firms", "运输企业"),
        "routes": say("routes", "线路"),
        "kitchens": say("kitchens", "餐饮单位"),
        "site": say("sites", "工地"),
        "ground": say("dumping grounds", "消纳场"),
        "zone": say("speed zones", "限速区"),
        "no-entry": say("no-entry areas", "禁行区"),
        "dead-zone": say("dead zones", "无信号区"),
        "depot": say("depots", "停车场"),
    }


# ------------------------------------------------------------------------------------------------- show


@rules.command()
@folder_argument
@click.option("--plate", default="", help="One vehicle: its permits with routes, hours, sites and grounds.")
@click.option("--at", "at_text", default="", help='Local time, "2026-06-15 20:00"; default: now.')
@json_option
def show(folder: Path, plate: str, at_text: str, as_json: bool) -> None:
    """What is in force at a time: rule sets and permits, or all that holds for one vehicle."""
    from gateway import rule_files
    from gateway.rules.book import load_book

    book = load_book(rule_files.read_folder(folder))
    zone = timezone(timedelta(seconds=book.rule_sets[0].zone_s if book.rule_sets else 28_800))
    at = _time(at_text, zone)
    at_s = int(at.timestamp())
    if plate:
        permits = book.permits(plate, at_s)
        if as_json:
            emit({"at_utc_s": at_s, "plate": plate, "permits": [_permit_json(book, item, at_s) for item in permits]})
        else:
            _show_vehicle(book, plate, at)
        return
    sets = [item for item in book.rule_sets if item.in_force(at_s)]
    permits = tuple(item for item in book.permits_all.all if item.in_force(at_s))
    if as_json:
        emit(
            {
                "at_utc_s": at_s,
                "sha256": book.sha256,
                "rule_sets": [{"id": item.id, "title": item.title, "classes": list(item.classes)} for item in sets],
                "permits": [_permit_json(book, item, at_s) for item in permits],
            }
        )
        return
    click.echo(_time_text(at))
    click.echo()
    if sets:
        head = [say("rule set", "规则集"), say("classes", "设备类别"), say("from", "自"), say("to", "至")]
        rows = [[item.id, " ".join(item.classes), item.valid_from, item.valid_to or "-"] for item in sets]
        _echo_table(head, rows)
    else:
        click.echo(say("no rule set is in force", "无生效规则集"))
    click.echo()
    if not permits:
        click.echo(say("no permit is in force", "无有效准运证"))
        return
    head = [
        say("permit", "准运证"),
        say("firm", "企业"),
        say("vehicles", "车辆"),
        say("hours", "时段"),
        say("to", "至"),
    ]
    rows = [
        [item.number, item.firm, str(len(item.vehicles)), str(item.hours) or "-", item.valid_to] for item in permits
    ]
    _echo_table(head, rows)


def _time(text: str, zone: timezone) -> datetime:
    if not text:
        from gateway.clock import SYSTEM

        return datetime.fromtimestamp(SYSTEM.realtime_ns() // 10**9, UTC).astimezone(zone)
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=zone) if found.tzinfo is None else found.astimezone(zone)
    except (ValueError, OverflowError):
        raise click.BadParameter(f'expected "2026-06-15 20:00", found {text!r}', param_hint="--at") from None


def _time_text(at: datetime) -> str:
    offset = at.strftime("%z")
    return f"{at:%Y-%m-%d %H:%M:%S} ({offset[:3]}:{offset[3:]})"


def _show_vehicle(book: Book, plate: str, at: datetime) -> None:
    from gateway.rules.permits import plate_key

    at_s = int(at.timestamp())
    click.echo(f"{plate_key(plate)}  {_time_text(at)}")
    permits = book.permits(plate, at_s)
    for permit in permits:
        click.echo()
        for line in _listing(_permit_rows(book, permit, at_s)):
            click.echo(line)
    if permits:
        return
    known = book.permits_all.of(plate_key(plate))
    click.echo(say("no permit is in force", "无有效准运证"))
    for permit in known:
        click.echo(f"  {permit.number}  {permit.valid_from} - {permit.valid_to}")
    if not known:
        from difflib import get_close_matches

        plates = {item for permit in book.permits_all.all for item in permit.vehicles}
        near = get_close_matches(plate_key(plate), sorted(plates), 1)
        hint = say(f"; did you mean {near[0]}?", f"；是否为 {near[0]}？") if near else ""
        click.echo("  " + say("no permit names this vehicle", "没有准运证包含该车") + hint)


def _permit_rows(book: Book, permit: Permit, at_s: int) -> list[tuple[str, str]]:
    opened = say("open now", "当前允许") if permit.hours.open(at_s) else say("closed now", "当前不允许")
    rows = [
        (say("permit", "准运证"), permit.number),
        (say("firm", "企业"), permit.firm),
        (say("valid", "有效期"), f"{permit.valid_from} - {permit.valid_to}"),
        (say("hours", "时段"), f"{permit.hours} ({opened})" if permit.hours.limited else say("not limited", "不限")),
    ]
    for route_id in permit.routes:
        route = book.routes[route_id]
        width_m = permit.width_m or route.width_m
        width = f"± {width_m} m" if width_m else say("width by the rule set", "宽度按规则集")
        rows.append((say("route", "线路"), f"{route_id}  {route.name}  {route.line.length_m / 1000:.1f} km  {width}"))
    if not permit.routes:
        rows.append((say("route", "线路"), say("free", "不限")))
    for key, ids in ((say("site", "工地"), permit.sites), (say("ground", "消纳场"), permit.grounds)):
        rows += [(key, f"{item}  {book.places.by_id[item].name}") for item in ids]
    if permit.speed_kmh is not None:
        rows.append((say("limit", "限速"), f"{permit.speed_kmh} km/h"))
    if permit.issued_by:
        rows.append((say("issued by", "签发"), permit.issued_by))
    return rows


def _permit_json(book: Book, permit: Permit, at_s: int) -> dict[str, Any]:
    return {
        "number": permit.number,
        "firm": permit.firm,
        "vehicles": list(permit.vehicles),
        "hours": str(permit.hours),
        "open": permit.hours.open(at_s),
        "routes": [
            {
                "id": item,
                "name": book.routes[item].name,
                "length_m": round(book.routes[item].line.length_m),
                "width_m": permit.width_m or book.routes[item].width_m,
            }
            for item in permit.routes
        ],
        "sites": list(permit.sites),
        "grounds": list(permit.grounds),
        "speed_kmh": permit.speed_kmh,
        "valid_from": permit.valid_from,
        "valid_to": permit.valid_to,
        "file": permit.file,
    }


def _listing(rows: list[tuple[str, str]]) -> list[str]:
    width = max((columns_of(key) for key, _value in rows), default=0)
    return [f"{key}{' ' * (width - columns_of(key))}  {value}" for key, value in rows]


def _echo_table(head: list[str], rows: list[list[str]]) -> None:
    for line in table(head, [[_cut(cell) for cell in row] for row in rows]):
        click.echo(line)


def _cut(text: str) -> str:
    if columns_of(text) <= CELL_COLUMNS:
        return text
    while columns_of(text) > CELL_COLUMNS - 1:
        text = text[:-1]
    return text + "…"
