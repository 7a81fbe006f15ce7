"""Messages that were divided: parts that wait for the others, in memory and in the store. Pure.

A part is acknowledged when it is on disk, long before the last one has come: it is kept as a StateChange, in the same
transaction after which its answer goes out, and a restart finds it there. A set that is complete becomes one record;
one that stays incomplete for WAIT_NS becomes a record too, with the flag `incomplete`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from drivers.hj212.codec import Frame, Message
from gateway.core.record import StateChange

PREFIX: Final = b"p"
WAIT_NS: Final = 120_000_000_000
"""Since the last part: a device repeats one for 40 s at most."""
SETS_MAX: Final = 8
"""Of one monitor."""
PARTS_MAX: Final = 64
"""Of one set; more come in records of their own."""
SET_MAX_BYTES: Final = 131_072
HELD_MAX_BYTES: Final = 8_388_608
"""Of all monitors."""
_STAMP_BYTES: Final = 8

Place = tuple[str, str, str, int]
"""MN, CN, DataTime, PNUM."""


@dataclass(slots=True)
class PartSet:
    """Parts of one message."""

    place: Place
    parts: dict[int, tuple[Frame, Message]] = field(default_factory=dict)
    """By PNO."""
    due_ns: int = 0
    size_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return len(self.parts) == self.place[3]

    def missing(self) -> list[int]:
        """Numbers of the parts that have not come, at most PARTS_MAX."""
        absent = (number for number in range(1, self.place[3] + 1) if number not in self.parts)
        return [number for number, _ in zip(absent, range(PARTS_MAX), strict=False)]

    def in_order(self) -> list[tuple[Frame, Message]]:
        """Its parts by their numbers."""
        return [self.parts[number] for number in sorted(self.parts)]


class Parts:
    """All sets of one source."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sets: dict[Place, PartSet] = {}
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._sets)

    @property
    def deadline_ns(self) -> int | None:
        """When the first set is given up."""
        return min((one.due_ns for one in self._sets.values()), default=None)

    def place_of(self, message: Message) -> Place:
        """Where a part belongs: by its DataTime, or, where it names none, with the set that lacks its number."""
        mn, cn, time, pnum = message.mn, message.cn, message.params.get("DataTime", ""), message.pnum or 0
        if not time:
            for place, one in self._sets.items():
                if place[0] == mn and place[1] == cn and place[3] == pnum and (message.pno or 0) not in one.parts:
                    return place
        return mn, cn, time, pnum

    def add(self, frame: Frame, message: Message, now_ns: int) -> tuple[PartSet, bool]:
        """Keep a part; its set, and whether the part is new there."""
        place = self.place_of(message)
        one = self._sets.get(place)
        if one is None:
            one = self._sets[place] = PartSet(place)
        one.due_ns = now_ns + WAIT_NS
        number = message.pno or 0
        if number in one.parts:
            return one, False
        one.parts[number] = frame, message
        one.size_bytes += len(frame.raw)
        self.held_bytes += len(frame.raw)
        return one, True

    def kept(self, place: Place, frame: Frame, number: int, utc_ns: int) -> StateChange:
        """What to store of a part before it is acknowledged."""
        return StateChange(self._source, _key(place, number), utc_ns.to_bytes(_STAMP_BYTES, "big") + frame.raw)

    def take(self, one: PartSet) -> list[StateChange]:
        """A set leaves: what to forget in the transaction that stores its record."""
        if self._sets.pop(one.place, None) is None:
            return []
        self.held_bytes -= one.size_bytes
        return [StateChange(self._source, _key(one.place, number), None) for number in one.parts]

    def due(self, now_ns: int) -> list[PartSet]:
        """Sets that have waited for too long."""
        return [one for one in self._sets.values() if one.due_ns <= now_ns]

    def excess(self, mn: str) -> PartSet | None:
        """A set that has to go now: one monitor has begun too many, one set is too large, or all hold too much."""
        own = [one for one in self._sets.values() if one.place[0] == mn]
        too_large = (one for one in own if one.size_bytes > SET_MAX_BYTES or len(one.parts) > PARTS_MAX)
        found = next(too_large, None)
        if found is None and len(own) > SETS_MAX:
            found = min(own, key=lambda one: one.due_ns)
        if found is None and self.held_bytes > HELD_MAX_BYTES:
            found = max(self._sets.values(), key=lambda one: one.size_bytes)
        return found


def stored(pairs: list[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The frames of parts that an earlier run has stored, in the order of their arrival."""
    for _, value in sorted((value[:_STAMP_BYTES], value[_STAMP_BYTES:]) for key, value in pairs if key[:1] == PREFIX):
        yield value


def _key(place: Place, number: int) -> bytes:
    digest = hashlib.blake2b("\0".join(map(str, place)).encode(), digest_size=16).digest()
    return PREFIX + digest + number.to_bytes(2, "big")
