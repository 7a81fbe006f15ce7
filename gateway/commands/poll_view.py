"""What `fieldgate profile poll` prints: JSON lines, plain blocks in a pipe, a live table on a terminal."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.commands.output import emit
from gateway.language import say

if TYPE_CHECKING:
    from rich.table import Table

    from drivers.io.poll import Sighting

ROWS_MAX: Final = 8
"""Messages on the screen; all of them are printed in a pipe."""


@contextmanager
def sightings(profile: str, *, as_json: bool) -> Iterator[Callable[[Sighting], None]]:
    """A function that shows one message of a device."""
    if as_json:
        yield lambda seen: emit({**asdict(seen), "raw": seen.raw.hex()})
    elif not sys.stdout.isatty():
        yield _print
    else:
        from rich.live import Live

        rows: deque[Sighting] = deque(maxlen=ROWS_MAX)
        with Live(_table(profile, rows), auto_refresh=False) as live:

            def show(seen: Sighting) -> None:
                rows.append(seen)
                live.update(_table(profile, rows), refresh=True)

            yield show


def values_text(values: dict[str, Any]) -> str:
    """`load=full cover=open …`; coordinates in degrees, so that they can be looked up on a map."""
    return "  ".join(f"{key}={_value(key, value)}" for key, value in values.items())


def _value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if key.endswith(("lat_e7", "lon_e7")) and isinstance(value, int):
        sign, whole = "-" if value < 0 else "", abs(value)
        return f"{sign}{whole // 10**7}.{whole % 10**7:07}"
    is_list = isinstance(value, str) and " " in value and not value.lstrip("-")[:1].isdigit()
    return f"[{value}]" if is_list else str(value)


def _print(seen: Sighting) -> None:
    click.echo(f"{seen.device}  {seen.what}{f'  ({seen.note})' if seen.note else ''}")
    if seen.values:
        click.echo(f"    {values_text(seen.values)}")
    if seen.unread:
        click.echo(f"    {say('unread', '未解析')}: {seen.unread}")
    if seen.raw:
        click.echo(f"    {say('raw', '原始数据')}: {seen.raw.hex()}")


def _table(profile: str, rows: Iterable[Sighting]) -> Table:
    from rich.table import Table
    from rich.text import Text

    title = say(
        f"profile {profile}; nothing is stored, and what is not acknowledged the device sends again to the gateway",
        f"配置 {profile}；不保存任何数据；未确认的报文设备会再次发送给网关",
    )
    table = Table(title=title, expand=True)
    table.add_column(say("device", "设备"), no_wrap=True)
    table.add_column(say("message", "消息"), max_width=28)
    table.add_column(say("what the profile reads", "解析结果"), ratio=3)
    table.add_column(say("unread, raw", "未解析、原始数据"), ratio=2, overflow="fold")
    for seen in rows:
        what = f"{seen.what}\n{seen.note}" if seen.note else seen.what
        left = f"{seen.unread}\n" if seen.unread else ""
        # Text: what a device sends is never markup
        read = Text(values_text(seen.values), style="bold" if "lat_e7" in seen.values else "")
        table.add_row(Text(_clean(seen.device)), Text(_clean(what)), read, Text(left + seen.raw.hex(), style="dim"))
    return table


def _clean(text: str) -> str:
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)
