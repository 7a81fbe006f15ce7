"""`fieldgate profile …`: device models are data; list them, run their examples, try one on a real folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

from gateway.commands.output import NEGATIVE, colour, emit, json_option, table
from gateway.language import say

dirs_option = click.option(
    "--dir", "dirs", type=click.Path(path_type=Path), multiple=True, help="Further folder with profiles."
)


@click.group()
def profile() -> None:
    """Device profiles: one TOML file per model (PROFILE.md)."""


@profile.command("list")
@dirs_option
@json_option
def list_command(dirs: tuple[Path, ...], as_json: bool) -> None:
    """Every profile that a source can name."""
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
                        "problems": [str(item) for item in row.problems],
                    }
                    for row in rows
                ]
            }
        )
        return
    head = [say("id", "编号"), say("kind", "类别"), say("title", "名称")]
    for line in table(head, [[row.id, row.kind, str(row.problems[0]) if row.problems else row.title] for row in rows]):
        click.echo(line)


@profile.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@json_option
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Check profile files and run the worked examples in them."""
    from drivers.bodycam import examples

    results = [result for path in files for result in examples.check_profile(path)]
    bad = [result for result in results if not result.ok]
    if as_json:
        emit(
            {
                "ok": not bad,
                "examples": [
                    {"path": str(result.path), "name": result.name, "ok": result.ok, "text": result.text}
                    for result in results
                ],
            }
        )
    else:
        for result in results:
            mark = colour("ok  ", "green") if result.ok else colour("FAIL", "red")
            click.echo(f"{mark}  {result.path.name}  {result.name}  {result.text}".rstrip())
    if bad:
        click.get_current_context().exit(NEGATIVE)


@profile.command()
@click.argument("profile_name", metavar="PROFILE")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Files to show.")
@dirs_option
@json_option
def poll(profile_name: str, folder: Path, limit: int, dirs: tuple[Path, ...], as_json: bool) -> None:
    """Read a station's folder through a profile (an id or a TOML file) and show what it makes of each name."""
    from drivers.bodycam.codec import NameCodec
    from firmware_profiles import loader

    codec = NameCodec(loader.load(profile_name, dirs).profile)
    read = [codec.read(name) for name in islice(_names(folder), limit)]
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
        emit({"profile": profile_name, "files": rows})
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
