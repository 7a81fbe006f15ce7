"""Runs the worked examples of a tracker profile of JT/T 808: what it reads must be exactly what the example expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drivers.jt808 import dialect
from drivers.jt808.codec import BatchEntry, Frame, Location, LocationAnswer, LocationBatch, parse_body, read_datagram
from drivers.jt808.dialect import Dialect, Held, Said
from drivers.jt808.wire import Version
from firmware_profiles.tracker_check import hex_of
from firmware_profiles.tracker_model import TrackerExample, TrackerProfile
from firmware_profiles.worked import Result, compare


def check_examples(profile: TrackerProfile, path: Path) -> list[Result]:
    """Run every example of a profile; `path` names its file in the results."""
    reader = dialect.compile(profile)
    return [_run(path, number, one, reader) for number, one in enumerate(profile.example, 1)]


def read_flat(reader: Dialect, msg_id: int, body: bytes, version: Version, held: Held, now_ns: int) -> dict[str, Any]:
    """What a profile makes of one message, as one flat table: keys of a fix, `name`, `time_text`, `unread`. Empty for a
    message that is no business of a profile. Of a batch: its last report, without what is held. Never raises."""
    said = reader.read_message(msg_id, body)
    if said is not None:
        if not said.is_location:
            held.take(said, now_ns)
        return _flat_said(said)
    message = parse_body(msg_id, body, version)
    if isinstance(message, Location):
        return flat_location(reader, message, held, now_ns)
    if isinstance(message, LocationAnswer):
        return flat_location(reader, message.location, held, now_ns)
    if isinstance(message, LocationBatch) and message.entries:
        return _flat_entry(reader, message.entries[-1])
    return {}


def flat_location(reader: Dialect, location: Location, held: Held, now_ns: int) -> dict[str, Any]:
    """The same of a location."""
    flat: dict[str, Any] = {}
    if location.is_position:
        flat |= reader.place(location.lat_e7, location.lon_e7)
    seconds = reader.time_utc_s(location.time_bcd)
    if seconds is not None:
        flat["time_utc_s"] = seconds
    flat |= reader.read(location, held.at(now_ns))
    return flat | _unread(reader.unread(location))


def _flat_entry(reader: Dialect, entry: BatchEntry) -> dict[str, Any]:
    said = reader.read_message(Location.MSG_ID, entry.raw)
    if said is not None:
        return _flat_said(said)
    return flat_location(reader, entry.location, Held(0), 0) if entry.location else {}


def _flat_said(said: Said) -> dict[str, Any]:
    flat = dict(said.values) | _unread(said.unread)
    if said.name:
        flat["name"] = said.name
    if said.time_text:
        flat["time_text"] = said.time_text
    return flat


def _unread(left: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {"unread": as_text(left)} if left else {}


def as_text(left: Sequence[tuple[str, str]]) -> str:
    """What is left unread, on one line."""
    return "; ".join(f"{where}: {raw}" for where, raw in left)


def _run(path: Path, number: int, example: TrackerExample, reader: Dialect) -> Result:
    name = f"example {number}: {example.note or 'no note'}"
    held = Held(reader.hold_s)
    if example.body:
        body = bytes.fromhex(hex_of(example.body))
        found = read_flat(reader, example.message, body, Version.V2013, held, 0)
        return compare(path, name, found, example.expect)
    found = {}
    for piece in read_datagram(bytes.fromhex(hex_of(example.frame))):
        if not isinstance(piece, Frame):
            text = f"not a frame: {piece.reason}, {piece.detail}"
            return Result(path, name, False, text)
        found = read_flat(reader, piece.msg_id, piece.body, piece.version, held, 0)
    return compare(path, name, found, example.expect)
