"""What all commands share: exit codes by class of error, JSON or text, progress bars, plain tables."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import click

from gateway.core import errors
from gateway.language import say

OK: Final = 0
NEGATIVE: Final = 1
UNAVAILABLE: Final = 69
INTEGRITY: Final = 70
DISK: Final = 74
CONFIG: Final = 78

DEFAULT_CONFIG: Final = Path("/etc/fieldgate/fieldgate.toml")

config_argument = click.argument(
    "config_file",
    metavar="[FILE]",
    default=DEFAULT_CONFIG,
    envvar="FIELDGATE_CONFIG",
    type=click.Path(path_type=Path, readable=False),
)
dirs_option = click.option(
    "--dir", "dirs", type=click.Path(path_type=Path), multiple=True, help="Further folder with profiles."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


class Guarded(click.Group):
    """Turns each class of error into its exit code and one line on stderr; a bug still shows its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except errors.FieldgateError as error:
            for line in lines_of(error):
                click.echo(f"fieldgate: {line}", err=True)
            ctx.exit(exit_code(error))
        except BrokenPipeError:
            # The reader (head, less) has left: nothing more to say, and nothing at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(OK)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            click.echo(f"fieldgate: {error.strerror or error}{where}", err=True)
            ctx.exit(DISK)


def lines_of(error: errors.FieldgateError) -> list[str]:
    """One line per thing that is wrong."""
    if isinstance(error, (errors.ConfigError, errors.ProfileError)) and error.problems:
        return [str(problem) for problem in error.problems]
    return [" ".join(str(error).split())]


def exit_code(error: errors.FieldgateError) -> int:
    """The exit code of CLI.md for a class of error."""
    match error:
        case errors.ConfigError() | errors.ProfileError():
            return CONFIG
        case errors.IntegrityError():
            return INTEGRITY
        case errors.TransientError():
            return UNAVAILABLE
        case errors.StoreFull():
            return DISK
        case _:
            return NEGATIVE


def emit(value: object) -> None:
    """One JSON object on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, sort_keys=True))


class Progress(Protocol):
    """Called with bytes done and bytes in all."""

    def __call__(self, done_bytes: int, total_bytes: int, /) -> None: ...


@contextmanager
def progress(label: str, *, quiet: bool, counted: bool = False) -> Iterator[Progress]:
    """A progress bar on stderr where a person watches; nothing in a pipe or with --json. `counted`: what is done is a
    number of things, not of bytes."""
    if quiet or not sys.stderr.isatty():
        yield _no_progress
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    measures = (MofNCompleteColumn(),) if counted else (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *measures, TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def show(done_bytes: int, total_bytes: int, /) -> None:
            bar.update(task, completed=done_bytes, total=total_bytes)

        yield show


def _no_progress(_done_bytes: int, _total_bytes: int, /) -> None:
    return


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of a table that fits its content; CJK characters count as two columns. `right`: right-aligned columns."""
    widths = [max(columns_of(row[index]) for row in [head, *rows]) for index in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = []
        for index, cell in enumerate(row):
            pad = " " * (widths[index] - columns_of(cell))
            cells.append(pad + cell if index in right else cell + pad)
        lines.append("  ".join(cells).rstrip())
    return lines


def columns_of(text: str) -> int:
    """Terminal columns of a text."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def size_text(size_bytes: int) -> str:
    """1536 -> "1.5 kB": three digits are enough for a person."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def age_text(seconds: float) -> str:
    """How long ago, for a person."""
    if seconds < 0:
        return say("in the future", "在将来")
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} d"


def colour(text: str, name: str) -> str:
    """Coloured where the terminal shows it."""
    return click.style(text, fg=name) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text
