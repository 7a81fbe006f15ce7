"""How often the same thing is told: at once, then at most once in a while with a count. Pure.

A device that misbehaves does so thousands of times. The first time is a record; what follows is counted and told with
its count when the pause is over. Nothing is left out in silence, and no device can fill the store.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

PAUSE_NS: Final = 60_000_000_000
SUBJECTS_MAX: Final = 4096
"""Subjects kept apart; what comes beyond them is told under the subject "" of its reason."""
RAW_MAX_BYTES: Final = 1024
"""First bytes of what is told."""


class Key(NamedTuple):
    """What is counted together."""

    kind: str
    """Record kind."""
    reason: str
    subject: str
    """Identity of the device; "" for all that have none."""


@dataclass(slots=True)
class Tally:
    """What is to be told."""

    key: Key
    count: int
    facts: dict[str, Any]
    """Of the first time."""
    raw: bytes


class Tallies:
    """The tallies of one source."""

    def __init__(self, pause_ns: int = PAUSE_NS, subjects_max: int = SUBJECTS_MAX) -> None:
        self._pause_ns = pause_ns
        self._subjects_max = subjects_max
        self._open: OrderedDict[Key, tuple[int, Tally]] = OrderedDict()

    @property
    def deadline_ns(self) -> int | None:
        """When `due` has something to say, or to forget."""
        return next(iter(self._open.values()))[0] if self._open else None

    def note(self, key: Key, facts: dict[str, Any], raw: bytes, now_ns: int) -> Tally | None:
        """Something happened: the tally to tell now, or None where it is counted for later."""
        found = self._open.get(key)
        if found is None and len(self._open) >= self._subjects_max and key.subject:
            key = Key(key.kind, key.reason, "")
            found = self._open.get(key)
        if found is None:
            self._open[key] = (now_ns + self._pause_ns, Tally(key, 0, {}, b""))
            return Tally(key, 1, facts, raw[:RAW_MAX_BYTES])
        tally = found[1]
        if not tally.count:
            tally.facts, tally.raw = facts, raw[:RAW_MAX_BYTES]
        tally.count += 1
        return None

    def due(self, now_ns: int) -> list[Tally]:
        """What was counted during pauses that are over."""
        told = []
        while self._open and (key := next(iter(self._open))) and self._open[key][0] <= now_ns:
            _, tally = self._open.pop(key)
            if tally.count:
                told.append(tally)
                self._open[key] = (now_ns + self._pause_ns, Tally(key, 0, {}, b""))
        return told

    def close(self) -> list[Tally]:
        """The end: everything counted and not told yet."""
        told = [tally for _, tally in self._open.values() if tally.count]
        self._open.clear()
        return told
