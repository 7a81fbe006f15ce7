"""When to try again and how fast to send: pure objects over a monotonic time in seconds.

Nothing here reads a clock or draws a random number: the caller passes `now_s` and `fraction` (0 <= fraction < 1).
"""

from __future__ import annotations

from typing import Final

RETRIES_PER_HOUR: Final = 240
"""Budget of fruitless attempts: once it is used up, every further wait is the longest one."""
DOUBLINGS_MAX: Final = 30

CHUNK_START_BYTES: Final = 1 << 20
CHUNK_MIN_BYTES: Final = 64 << 10
CHUNK_MAX_BYTES: Final = 32 << 20
CHUNK_FAST_S: Final = 0.5
CHUNK_SLOW_S: Final = 2.0


class TokenBucket:
    """A rate with a burst of one second. A rate of 0 means no limit."""

    def __init__(self, rate_per_s: float, burst: float | None = None) -> None:
        self.rate_per_s = rate_per_s
        self._burst = rate_per_s if burst is None else burst
        self._level = self._burst
        self._at_s: float | None = None

    def take(self, amount: float, now_s: float) -> float:
        """Take `amount` now, going into debt if need be; return how many seconds to wait before sending it."""
        if self.rate_per_s <= 0:
            return 0.0
        self._fill(now_s)
        self._level -= amount
        return max(0.0, -self._level / self.rate_per_s)

    def spend(self, amount: float, now_s: float) -> bool:
        """Take `amount` if it is there; False, and nothing taken, if it is not."""
        self._fill(now_s)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def refund(self, amount: float) -> None:
        """Give back what `spend` took for nothing."""
        self._level = min(self._burst, self._level + amount)

    def _fill(self, now_s: float) -> None:
        if self._at_s is not None:
            gained = max(0.0, now_s - self._at_s) * self.rate_per_s
            self._level = min(self._burst, self._level + gained)
        self._at_s = now_s


class Backoff:
    """Exponential back-off with jitter: wait i is between half and all of min * 2^i, at most max."""

    def __init__(self, min_s: float, max_s: float, budget: TokenBucket | None = None) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._budget = budget
        self.failures = 0
        self.until_s = 0.0

    def failed(self, now_s: float, fraction: float, retry_after_s: float | None = None) -> float:
        """Count a failure; return the time before which nothing may be tried.

        `retry_after_s` is what the other side asked for: it lengthens the wait, up to the maximum.
        """
        wait_s = min(self._max_s, self._min_s * 2.0 ** min(self.failures, DOUBLINGS_MAX))
        if self._budget is not None and not self._budget.spend(1, now_s):
            wait_s = self._max_s
        self.failures += 1
        wait_s *= 0.5 + 0.5 * fraction
        if retry_after_s is not None:
            wait_s = max(wait_s, min(self._max_s, retry_after_s))
        self.until_s = now_s + wait_s
        return self.until_s

    def progressed(self) -> None:
        """The last attempt moved something before it failed: it does not count against the budget."""
        self.worked()
        if self._budget is not None:
            self._budget.refund(1)

    def worked(self) -> None:
        """Start again from the shortest wait."""
        self.failures = 0
        self.until_s = 0.0


def retry_budget() -> TokenBucket:
    """The budget of fruitless attempts of one link."""
    return TokenBucket(RETRIES_PER_HOUR / 3600.0, RETRIES_PER_HOUR / 4)


class ChunkSize:
    """How much one PATCH carries: grows while a chunk is quick, shrinks when it is slow, fails or is too large.

    The aim is a chunk of about a second, because a waiting alarm or batch waits for one chunk at most.
    """

    def __init__(self, start_bytes: int = CHUNK_START_BYTES) -> None:
        self.size_bytes = start_bytes
        self._ceiling_bytes = CHUNK_MAX_BYTES

    def took(self, sent_bytes: int, seconds: float) -> None:
        """A chunk arrived whole. A chunk shorter than the present size says nothing about growth."""
        if seconds > CHUNK_SLOW_S:
            self._shrink()
        elif seconds < CHUNK_FAST_S and sent_bytes >= self.size_bytes:
            self.size_bytes = min(self._ceiling_bytes, self.size_bytes * 2)

    def failed(self) -> None:
        """A chunk broke off: the next is half as large."""
        self._shrink()

    def too_large(self) -> bool:
        """The other side answered 413 to a PATCH (a proxy's body limit). False when it cannot get smaller."""
        if self.size_bytes <= CHUNK_MIN_BYTES:
            return False
        self._shrink()
        self._ceiling_bytes = self.size_bytes
        return True

    def _shrink(self) -> None:
        self.size_bytes = max(CHUNK_MIN_BYTES, self.size_bytes // 2)
