"""Runs the worked examples of a monitor profile: what it reads must be exactly what the example expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivers.hj212 import dialect
from drivers.hj212.codec import Decoder, Frame, Message, parse, parse_frame
from drivers.hj212.commands import MINUTES, READINGS
from drivers.hj212.dialect import Dialect
from firmware_profiles.monitor_model import MonitorExample, MonitorProfile
from firmware_profiles.worked import Result, compare


def check_examples(profile: MonitorProfile, path: Path) -> list[Result]:
    """Run every example of a profile; `path` names its file in the results."""
    reader = dialect.compile(profile)
    return [_run(path, number, one, reader) for number, one in enumerate(profile.example, 1)]


def read_flat(reader: Dialect, message: Message) -> dict[str, Any]:
    """What a profile makes of one message, as one flat table: `taken_utc_s`, `period_s`, `backfill`, the values
    (dialect.flat), and `unread`: codes without a quantity."""
    found: dict[str, Any] = {}
    taken = reader.time_utc_s(message.params.get("DataTime", ""))
    if taken is not None:
        found["taken_utc_s"] = taken
    period_s = reader.minute_s if message.cn in MINUTES else READINGS.get(message.cn, 0)
    if period_s:
        found["period_s"] = period_s
    if message.backfill:
        found["backfill"] = True
    values = reader.read(message.factors)
    found.update(dialect.flat(values))
    unread = list(dict.fromkeys(value["code"] for value in values if not value["quantity"]))
    if unread:
        found["unread"] = " ".join(unread)
    return found


def _run(path: Path, number: int, example: MonitorExample, reader: Dialect) -> Result:
    name = f"example {number}: {example.note or 'no note'}"
    if example.cp:
        message = parse(f"CN={example.message};CP=&&{example.cp}&&".encode())
        return compare(path, name, read_flat(reader, message), example.expect)
    decoder = Decoder()
    pieces = [*decoder.feed(example.frame.strip().encode()), *decoder.finish()]
    frames = [piece for piece in pieces if isinstance(piece, Frame)]
    if len(frames) != 1 or len(pieces) != 1:
        text = next((piece.detail for piece in pieces if not isinstance(piece, Frame)), "no frame, or several")
        return Result(path, name, False, f"not a frame: {text}")
    return compare(path, name, read_flat(reader, parse_frame(frames[0])), example.expect)
