"""Reading findings back out of the log: lists of the newest revisions, and one finding with its history."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.core import kinds
from gateway.core.errors import RejectedError
from gateway.core.ports import Reader

READ_RECORDS: Final = 64
CURRENT_MAX: Final = 20_000
"""Findings in one answer; ask for a device or a shorter time."""
ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


class _Data(msgspec.Struct):
    id: str
    rule: str
    state: str
    revision: int
    judgement: dict[str, Any]
    privacy: str = "open"
    device_class: str = msgspec.field(default="", name="class")


class _Leaf(msgspec.Struct):
    seq: int
    source: str
    device: str
    utc_ns: str
    data: _Data


_decoder: Final = msgspec.json.Decoder(_Leaf)


@dataclass(frozen=True, slots=True)
class Finding:
    """One record of a finding: one revision of one event."""

    seq: int
    arrival_utc_ns: int
    source: str
    device: str
    id: str
    rule: str
    state: str
    revision: int
    device_class: str
    privacy: str
    judgement: Mapping[str, Any]

    @property
    def start_utc_s(self) -> int:
        """Begin of the event, by the device."""
        return int(self.judgement.get("start_utc_s", 0))

    @property
    def end_utc_s(self) -> int | None:
        """None while it lasts."""
        end = self.judgement.get("end_utc_s")
        return None if end is None else int(end)

    @property
    def inputs(self) -> Sequence[int]:
        """seq of the records that it cites, ascending."""
        inputs: Sequence[int] = self.judgement.get("inputs", ())
        return inputs

    def summary(self) -> dict[str, Any]:
        """One line of a list, as JSON values."""
        get = self.judgement.get
        return {
            "id": self.id,
            "seq": self.seq,
            "revision": self.revision,
            "state": self.state,
            "rule": self.rule,
            "severity": get("severity", ""),
            "source": self.source,
            "device": self.device,
            "class": self.device_class,
            "privacy": self.privacy,
            "plate": get("plate", ""),
            "firm": get("firm", ""),
            "start_utc_s": self.start_utc_s,
            "end_utc_s": self.end_utc_s,
            "text": dict(get("text", {})),
        }


def of_leaf(leaf: bytes) -> Finding | None:
    """A stored finding; None for a record of another shape."""
    try:
        read = _decoder.decode(leaf)
    except ValueError:
        return None
    data = read.data
    return Finding(
        read.seq, int(read.utc_ns), read.source, read.device, data.id, data.rule, data.state, data.revision,
        data.device_class, data.privacy, data.judgement,
    )  # fmt: skip


def records(
    reader: Reader, *, device: str | None = None, from_utc_ns: int | None = None, after: int = -1
) -> Iterator[Finding]:
    """Every record of a finding, by seq. Blocks on the disk."""
    while rows := reader.records(
        kind=kinds.FINDING, device=device, from_utc_ns=from_utc_ns, after=after, limit=READ_RECORDS
    ):
        for _, leaf in rows:
            if (found := of_leaf(leaf)) is not None:
                yield found
        after = rows[-1][0]


def current(
    reader: Reader, *, device: str | None = None, from_utc_ns: int | None = None, after: int = -1
) -> list[Finding]:
    """The newest revision of every finding with a record above `after`, by seq. Raises RejectedError for too many."""
    newest: dict[str, Finding] = {}
    for finding in records(reader, device=device, from_utc_ns=from_utc_ns, after=after):
        newest.pop(finding.id, None)  # so that the dictionary stays in the order of the newest records
        newest[finding.id] = finding
        if len(newest) > CURRENT_MAX:
            raise RejectedError(f"more than {CURRENT_MAX} findings; ask for one device or for a later time")
    return list(newest.values())


def revisions(reader: Reader, name: str) -> list[Finding]:
    """All records of one finding, oldest first; `name` is its id or the seq of one of its records. Raises
    RejectedError where there is none."""
    if ID.fullmatch(name):
        needle = f'"id":"{name}"'.encode()
        found = _first_with(reader, needle)
    else:
        leaf = reader.leaf(int(name)) if name.isascii() and name.isdecimal() and len(name) < 17 else None
        found = None if leaf is None else of_leaf(leaf)
    if found is None:
        raise RejectedError(f"there is no finding {name}; list them with: fieldgate findings")
    same = records(reader, device=found.device, after=-1 if not ID.fullmatch(name) else found.seq - 1)
    return [one for one in same if one.id == found.id]


def _first_with(reader: Reader, needle: bytes) -> Finding | None:
    after = -1
    while rows := reader.records(kind=kinds.FINDING, after=after, limit=READ_RECORDS):
        for _, leaf in rows:
            if needle in leaf and (found := of_leaf(leaf)) is not None:
                return found
        after = rows[-1][0]
    return None
