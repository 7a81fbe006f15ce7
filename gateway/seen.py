"""Records of the journal as judges see them: from drafts just committed, and from stored leaves.

Only what judges look at is decoded; a reader of ten million other records pays a few microseconds for each.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gateway.core import kinds
from gateway.core.errors import IntegrityError
from gateway.core.instant import Instant
from gateway.core.ports import Reader
from gateway.core.record import Draft
from gateway.rules.judging import Seen, Want
from gateway.rules.track import TIMELESS

WATCHED: Final = frozenset(
    {
        kinds.POSITION,
        kinds.READING,
        kinds.DEVICE_STATE,
        kinds.RULES_BOOK,
        kinds.GATEWAY_START,
    }
)
"""Kinds that are shown to judges; all others only move the cursor."""
READ_RECORDS: Final = 64
"""Records asked of the store at once: with leaves of 256 KiB that is 16 MiB."""
READING_PERIOD_MAX_S: Final = 3600
"""A statistic stands at the end of its period; longer ones are not judged."""
HISTORY_MAX: Final = 200_000
"""Records of one device in the answer to one want; beyond it there is none."""


class _Leaf(msgspec.Struct):
    seq: int
    kind: str
    source: str
    device: str
    utc_ns: str
    data: msgspec.Raw
    raw: msgspec.Raw


_leaf: Final = msgspec.json.Decoder(_Leaf)
_data: Final = msgspec.json.Decoder(dict[str, Any])
_text: Final = msgspec.json.Decoder(str | None)


class TooMuch(Exception):
    """The answer to a want would not fit into memory."""


def of_draft(seq: int, draft: Draft, instant: Instant) -> Seen | None:
    """A row that was just committed; None for kinds that nobody judges."""
    if draft.kind not in WATCHED:
        return None
    raw = draft.raw if draft.kind == kinds.RULES_BOOK else None
    return Seen(seq, draft.kind, draft.source, draft.device, instant.utc_ns, draft.data, raw)


def of_leaf(leaf: bytes) -> Seen | None:
    """A stored leaf; None for kinds that nobody judges. Raises IntegrityError for bytes that are no record."""
    try:
        head = _leaf.decode(leaf)
        if head.kind not in WATCHED:
            return None
        raw = None
        if head.kind == kinds.RULES_BOOK:
            text = _text.decode(head.raw)
            raw = None if text is None else base64.b64decode(text, validate=True)
        return Seen(head.seq, head.kind, head.source, head.device, int(head.utc_ns), _data.decode(head.data), raw)
    except ValueError as error:  # msgspec's and base64's errors among them
        raise IntegrityError(f"a stored record cannot be read: {error}; restore the state folder") from None


def weight(seen: Seen | None) -> int:
    """How much work a record is: one for each fix in it."""
    if seen is None:
        return 1
    fixes = seen.data.get("fixes") or seen.data.get("columns") or ()
    return 1 + len(fixes)


def read(reader: Reader, first: int, limit: int) -> tuple[list[Seen], int]:
    """(what judges look at, next seq to read) of at most `limit` records from seq `first` on. Blocks on the disk."""
    found: list[Seen] = []
    while limit > 0:
        rows = reader.records(after=first - 1, limit=min(READ_RECORDS, limit))
        if not rows:
            break
        found += [seen for _, leaf in rows if (seen := of_leaf(leaf)) is not None]
        first = rows[-1][0] + 1
        limit -= len(rows)
    return found, first


def of_kind(reader: Reader, kind: str, first: int, end: int, device: str | None = None) -> Iterator[Seen]:
    """The watched records of one kind with first <= seq < end, by seq."""
    after = first - 1
    while rows := reader.records(kind=kind, device=device, after=after, limit=READ_RECORDS):
        for seq, leaf in rows:
            if seq >= end:
                return
            if (seen := of_leaf(leaf)) is not None:
                yield seen
        after = rows[-1][0]


def history(reader: Reader, want: Want, end: int) -> list[Seen]:
    """The answer to a want: records of the device below seq `end`, by seq. Positions that hold no fix of the wanted day
    are left out: they cannot change it. Raises TooMuch beyond HISTORY_MAX records."""
    found: list[Seen] = []
    after = -1
    while rows := reader.records(
        device=want.device, from_utc_ns=want.from_arrival_utc_ns, after=after, limit=READ_RECORDS
    ):
        for seq, leaf in rows:
            if seq >= end:
                return found
            seen = of_leaf(leaf)
            if seen is not None and seen.source == want.source and _concerns(seen, want):
                found.append(seen)
        if len(found) > HISTORY_MAX:
            raise TooMuch(f"{want.device}: more than {HISTORY_MAX} records since {want.from_arrival_utc_ns}")
        after = rows[-1][0]
    return found


def _concerns(seen: Seen, want: Want) -> bool:
    if seen.kind == kinds.READING:
        taken_s = seen.data.get("taken_utc_s")
        if taken_s is None or "flags" in seen.data:
            return True  # it stands at its arrival, or its clock is corrected
        return bool(want.from_utc_s - READING_PERIOD_MAX_S <= taken_s < want.to_utc_s)
    if seen.kind != kinds.POSITION:
        return True
    for fix in seen.data.get("fixes", (seen.data,)):
        time_utc_s = fix.get("time_utc_s")
        if time_utc_s is None or want.from_utc_s <= time_utc_s < want.to_utc_s:
            return True
        if not TIMELESS.isdisjoint(fix.get("flags", "").split()):
            return True  # it stands at its arrival
    return False
