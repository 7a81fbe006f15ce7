"""Which seal to have time-stamped next: pure, with explicit time. The queue itself is the store.

Oldest first. While the authority is away nothing else is tried either; a seal whose token was refused waits for a
time of its own, so that one seal never holds up the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.core.ports import BatchRow
from uplink.pacing import Backoff, retry_budget

POLL_S: Final = 0.5
LOOK_AHEAD: Final = 4
HOLDS_MAX: Final = 64
"""Beyond so many refused seals the authority itself is at fault: everything waits."""


class Stamping:
    """State of time-stamping between two requests."""

    def __init__(self, retry_min_s: float, retry_max_s: float) -> None:
        self._retry_min_s = retry_min_s
        self._retry_max_s = retry_max_s
        self._authority = Backoff(retry_min_s, retry_max_s, retry_budget())
        self._refused: dict[int, Backoff] = {}
        self.refusals = 0
        """Tokens refused in a row."""

    @property
    def look_ahead(self) -> int:
        """How many unstamped seals to read before a decision."""
        return LOOK_AHEAD + len(self._refused)

    def next(self, now_s: float, unstamped: Sequence[BatchRow]) -> tuple[BatchRow | None, float]:
        """The seal to stamp now, or None and when to look again."""
        if now_s < self._authority.until_s:
            return None, self._authority.until_s
        for row in unstamped:
            hold = self._refused.get(row.n)
            if hold is None or now_s >= hold.until_s:
                return row, now_s
        return None, now_s + POLL_S

    def stamped(self, n: int) -> None:
        """The token of seal `n` is stored."""
        self._refused.pop(n, None)
        self._authority.worked()
        self.refusals = 0

    def unreachable(self, now_s: float, fraction: float, retry_after_s: float | None) -> None:
        """The authority did not answer, or not with a token."""
        self._authority.failed(now_s, fraction, retry_after_s)

    def refused(self, n: int, now_s: float, fraction: float) -> None:
        """The answer for seal `n` does not verify."""
        self.refusals += 1
        hold = self._refused.pop(n, None) or Backoff(self._retry_min_s, self._retry_max_s)
        hold.failed(now_s, fraction)
        self._refused[n] = hold
        if len(self._refused) > HOLDS_MAX:
            self._refused.pop(next(iter(self._refused)))
            self._authority.failed(now_s, fraction)
        else:
            self._authority.worked()
