"""`fieldgate findings` and `fieldgate rules replay`: what the rules found, and whether they find it again."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.commands.output import (
    NEGATIVE,
    colour,
    columns_of,
    config_argument,
    emit,
    json_option,
    progress,
    table,
)
from gateway.language import say

if TYPE_CHECKING:
    from gateway.core.ports import Reader
    from gateway.core.record import Draft
    from gateway.findings import Finding
    from gateway.replay import Comparison

LOCAL: Final = timezone(timedelta(hours=8))
"""Times without an offset are meant in GMT+8, and shown in it."""
STATES: Final = ("open", "closed", "withdrawn")
COLOURS: Final = {"open": "red", "closed": "yellow", "withdrawn": "white"}


def seconds_of(text: str, option: str) -> int:
    """UTC seconds of `2026-06-15`, `2026-06-15 20:00`, or RFC 3339."""
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo is not None else at.replace(tzinfo=LOCAL)).timestamp())
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f'expected a time such as "2026-06-15 20:00" (GMT+8) or 2026-06-15T12:00:00Z, found {text!r}',
            param_hint=option,
        ) from None


@click.command()
@config_argument
@click.option("--device", help="Only of this device.")
@click.option("--rule", help="Only of this rule, such as off-route.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state; without it all but withdrawn ones.")
@click.option("--from", "from_text", help='Only events that begin then or later: "2026-06-15 20:00" (GMT+8).')
@click.option("--to", "to_text", help="Only events that begin before.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many, the newest."
)
@json_option
def findings(
    config_file: Path,
    device: str | None,
    rule: str | None,
    state: str | None,
    from_text: str | None,
    to_text: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """What the rules found, newest last. Export one with: fieldgate export --finding SEQ."""
    from gateway import offline
    from gateway.findings import current

    from_s = None if from_text is None else seconds_of(from_text, "--from")
    to_s = None if to_text is None else seconds_of(to_text, "--to")
    with offline.open_store(config_file) as store:
        found = [
            one
            for one in current(store.reader, device=device)
            if (rule is None or one.rule == rule)
            and (one.state != "withdrawn" if state is None else one.state == state)
            and (from_s is None or one.start_utc_s >= from_s)
            and (to_s is None or one.start_utc_s < to_s)
        ]
    found.sort(key=lambda one: (one.start_utc_s, one.seq))
    left_out, found = max(0, len(found) - limit), found[-limit:]
    if as_json:
        emit({"findings": [one.summary() for one in found], "left_out": left_out})
        return
    if not found:
        click.echo(say("no findings", "没有发现"))
        return
    for line in listing(found, shutil.get_terminal_size((120, 24)).columns):
        click.echo(line)
    if left_out:
        click.echo(
            say(f"{left_out} earlier ones are not shown; see --limit", f"另有 {left_out} 条较早的未显示，见 --limit")
        )


def listing(found: list[Finding], width: int) -> list[str]:
    """The table, no line wider than `width`: the text at the end is cut."""
    head = [
        say(*pair)
        for pair in (
            ("record", "记录"),
            ("begin (GMT+8)", "开始（GMT+8）"),
            ("lasting", "时长"),
            ("state", "状态"),
            ("rule", "规则"),
            ("vehicle", "车辆"),
        )
    ]
    rows = [[str(one.seq), _local(one.start_utc_s), _lasting(one), one.state, one.rule, _vehicle(one)] for one in found]
    lines = table(head, rows, right=(0, 2))
    room = width - max(map(columns_of, lines)) - 2
    texts = ["", *(say(*_texts(one)) for one in found)]
    if room >= 20:
        lines = [
            f"{line}{' ' * (width - room - columns_of(line))}{cut(text, room)}".rstrip()
            for line, text in zip(lines, texts, strict=True)
        ]
    lines = [cut(line, width) for line in lines]
    for index, one in enumerate(found, 1):
        lines[index] = lines[index].replace(one.state, colour(one.state, COLOURS.get(one.state, "white")), 1)
    return lines


def _texts(one: Finding) -> tuple[str, str]:
    text = one.judgement.get("text", {})
    return str(text.get("en", "")), str(text.get("zh", ""))


def _vehicle(one: Finding) -> str:
    return str(one.judgement.get("plate") or one.device)


def _local(utc_s: int) -> str:
    return datetime.fromtimestamp(utc_s, UTC).astimezone(LOCAL).strftime("%Y-%m-%d %H:%M:%S")


def _lasting(one: Finding) -> str:
    if one.end_utc_s is None:
        return "…"
    seconds = one.end_utc_s - one.start_utc_s
    return f"{seconds} s" if seconds < 600 else f"{seconds // 60} min"


def cut(text: str, width: int) -> str:
    """At most so many columns; what is cut off shows as an ellipsis."""
    if columns_of(text) <= width:
        return text
    while text and columns_of(text) > width - 1:
        text = text[:-1]
    return text + "…"


# ---------------------------------------------------------------------------------------------- replay


@click.command()
@config_argument
@click.option("--from", "from_text", help="First record: its seq, or a time of arrival. Default: the whole log.")
@click.option("--to", "to_text", help="End, not included: a seq, or a time of arrival.")
@click.option("--device", help="Print and compare only this device.")
@click.option(
    "--book",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="What if: judge everything under this rule folder instead of the books in the log.",
)
@json_option
def replay(
    config_file: Path, from_text: str | None, to_text: str | None, device: str | None, book: Path | None, as_json: bool
) -> None:
    """Judge the stored records again, beside a running gateway: canonical JSON lines, compared with what was told.

    Exit 1 where a finding differs, is missing or is new. With --book the answer is a what-if: it changes nothing."""
    from gateway import offline
    from gateway.judges import judges
    from gateway.replay import Stretch, compare, lines
    from gateway.replay import replay as judge_again

    imagined = None if book is None else _drafts_of(book)
    with offline.open_store(config_file) as store:
        end = store.reader.next_seq() if to_text is None else _place(store.reader, to_text, "--to")
        first = 0 if from_text is None else _place(store.reader, from_text, "--from")
        stretch = Stretch.of(store.reader, first, min(end, store.reader.next_seq()))
        with progress(say("judging", "正在评判"), quiet=as_json, counted=True) as show:
            made = {name: make() for name, make in judges().items()}
            found = judge_again(made, store.reader, stretch, imagined, show)
        if device is not None:
            found = [one for one in found if one.device == device]
        compared = compare(store.reader, stretch, found, device, what_if=book is not None)
    if as_json:
        emit(
            {
                "first": stretch.first,
                "end": stretch.end,
                "what_if": None if book is None else str(book),
                "judgements": [one.to_json() for one in found],
                "compared": _compared(compared),
            }
        )
    else:
        for line in lines(found):
            click.echo(line.decode())
        for text in _summary(compared, book):
            click.echo(text, err=True)
    if not compared.agrees:
        click.get_current_context().exit(NEGATIVE)


def _place(reader: Reader, text: str, option: str) -> int:
    """seq of a record, named by itself or by a time of arrival."""
    from gateway.replay import moment

    if text.isascii() and text.isdecimal():
        return int(text)
    return moment(reader, seconds_of(text, option) * 10**9)


def _drafts_of(folder: Path) -> list[Draft]:
    """The records that this rule folder would make. Raises ConfigError."""
    from gateway import rule_files
    from gateway.rules.book import load_book, records_of

    files = rule_files.read_folder(folder)
    load_book(files)
    return records_of(files)


def _compared(compared: Comparison) -> dict[str, Any]:
    return {
        "same": len(compared.same),
        "differ": compared.differ,
        "missing": compared.missing,
        "extra": compared.extra,
    }


def _summary(compared: Comparison, book: Path | None) -> list[str]:
    texts = []
    if book is not None:
        texts.append(
            say(
                f"WHAT IF: judged under {book}, not under the books in the log; nothing was stored",
                f"假设评判：按 {book} 而非日志中的规则书；未存储任何内容",
            )
        )
    for words, names in (
        (("differs", "不同"), compared.differ),
        (("stored, not found again", "已存储，未再现"), compared.missing),
        (("found now, not stored", "新得出，未存储"), compared.extra),
    ):
        texts += [f"{name}  {say(*words)}" for name in names]
    texts.append(
        say(
            f"same {len(compared.same)}, differ {len(compared.differ)}, missing {len(compared.missing)}, "
            f"extra {len(compared.extra)}",
            f"相同 {len(compared.same)}，不同 {len(compared.differ)}，缺失 {len(compared.missing)}，"
            f"新增 {len(compared.extra)}",
        )
    )
    return texts
