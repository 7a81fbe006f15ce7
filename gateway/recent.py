"""The rows that were committed last: who follows the journal need not read back what is still in memory.

Gateway.ingest puts rows in after each commit, gateway.judge takes them out. What has left this ring, or never came
into it (a caller that was cancelled while its rows were being stored), is read from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.core.instant import Instant
from gateway.core.record import Draft
from gateway.rules.judging import Seen
from gateway.seen import of_draft, weight

FIXES_MAX: Final = 8_192
"""Fixes held for a follower that lags, about 10 MB; a record without fixes counts as one."""


class Recent:
    """A bounded ring with one reader. Used on the event loop only."""

    def __init__(self, fixes_max: int = FIXES_MAX) -> None:
        self._fixes_max = fixes_max
        self._rows: dict[int, Seen | None] = {}
        self._weight = 0
        self._news = asyncio.Event()
        self.end = 0
        """One past the newest row that was put in, 0 where there was none."""

    def put(self, first: int, rows: Sequence[tuple[Draft, Instant]]) -> None:
        """Rows that were just committed as `first`, `first` + 1, …; the oldest make room."""
        for seq, (draft, instant) in enumerate(rows, first):
            seen = of_draft(seq, draft, instant)
            self._rows[seq] = seen
            self._weight += weight(seen)
        self.end = max(self.end, first + len(rows))
        while self._weight > self._fixes_max and self._rows:
            self._drop(next(iter(self._rows)))
        self._news.set()

    def take(self, first: int, limit: int) -> tuple[list[Seen], int]:
        """(what judges look at, next seq) of at most `limit` rows that lie here without a gap from `first` on."""
        found: list[Seen] = []
        seq = first
        while seq < first + limit and seq in self._rows:
            seen = self._drop(seq)
            if seen is not None:
                found.append(seen)
            seq += 1
        return found, seq

    async def wait(self, first: int, timeout_s: float) -> None:
        """Until a row at or above `first` has come, at most so long."""
        self._news.clear()
        if self.end > first:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return

    def _drop(self, seq: int) -> Seen | None:
        seen = self._rows.pop(seq)
        self._weight -= weight(seen)
        return seen
