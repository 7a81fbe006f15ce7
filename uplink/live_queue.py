"""What goes over the live channel next: sans-IO, bounded, conflated.

Findings go first, in order, each until the broker has acknowledged it; a newer revision of the same finding takes the
place of the one that waits. Positions and states wait one per device, the newest. Nothing here is evidence: what is
dropped is counted, and the journal has it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from gateway.core.ports import LiveItem

NEWEST_MAX: Final = 40_000
"""Positions and states that wait: as many as a board holds. More only come while devices leave the board again (made-up
identities); the oldest makes room, a connection brings what the board shows."""
WINDOW: Final = 10
"""Findings unacknowledged at the same time; aiomqtt warns of more."""


class LiveQueue:
    """One queue for one broker; it outlives connections."""

    def __init__(self, *, findings_max: int, include_process: bool) -> None:
        self._findings_max = findings_max
        self._include_process = include_process
        self._findings: OrderedDict[str, LiveItem] = OrderedDict()
        self._newest: OrderedDict[tuple[str, str], LiveItem] = OrderedDict()
        self._in_flight: dict[str, int] = {}
        self._version = 0
        self.dropped = 0

    @property
    def version(self) -> int:
        """Up to where the board was offered."""
        return self._version

    def __len__(self) -> int:
        return len(self._findings) + len(self._newest)

    def offer(self, items: Iterable[LiveItem]) -> None:
        """What the board has gained, by version."""
        for item in items:
            self._version = max(self._version, item.version)
            if item.topic != "finding":
                self._take_newest(item)
                continue
            if self._is_withheld(item):
                continue
            if item.key not in self._findings and len(self._findings) >= self._findings_max:
                self._findings.popitem(last=False)
                self.dropped += 1
            self._findings[item.key] = item

    def _is_withheld(self, item: LiveItem) -> bool:
        return item.privacy == "process" and not self._include_process

    def _take_newest(self, item: LiveItem) -> None:
        if not self._is_withheld(item):
            self._newest.pop((item.topic, item.key), None)
            self._newest[item.topic, item.key] = item
            if len(self._newest) > NEWEST_MAX:
                self._newest.popitem(last=False)

    def connected(self, board: Iterable[LiveItem]) -> None:
        """A broker is there, perhaps another or an emptied one: it gets the newest of every device again. What was in
        flight counts as not arrived."""
        self._in_flight.clear()
        for item in board:
            if item.topic != "finding":
                self._take_newest(item)

    def findings(self) -> list[LiveItem]:
        """Findings to publish now with QoS 1; they count as in flight."""
        free = WINDOW - len(self._in_flight)
        found = [item for item in self._findings.values() if item.key not in self._in_flight][: max(0, free)]
        self._in_flight |= {item.key: item.version for item in found}
        return found

    def acknowledged(self, item: LiveItem) -> None:
        """The broker has this revision; a newer one that has come meanwhile stays."""
        self._in_flight.pop(item.key, None)
        waiting = self._findings.get(item.key)
        if waiting is not None and waiting.version <= item.version:
            del self._findings[item.key]

    def newest(self, limit: int) -> list[LiveItem]:
        """The positions and states that have waited longest, taken out: with QoS 0 nobody says that they arrived."""
        return [self._newest.popitem(last=False)[1] for _ in range(min(limit, len(self._newest)))]
