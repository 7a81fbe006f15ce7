"""What is told once and not for ever: states that waver, and what could not be read, at a falling rate. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core.record import Draft

SECOND_NS: Final = 10**9
STATE_REST_NS: Final = 30 * SECOND_NS
STATE_BURST: Final = 6
"""A state that wavers is told six times at once, then at most so often; the last one is always told."""
GAP_MIN_NS: Final = 60 * SECOND_NS
GAP_MAX_NS: Final = 3600 * SECOND_NS
"""What cannot be read is told at once, then after 60 s, then at double the time each, up to an hour."""
REASONS_MAX: Final = 16

MakeGap = Callable[[str, int, dict[str, Any], bytes], Draft]
"""(the most frequent reason, count, further values, first bytes) → device.gap."""


@dataclass(slots=True)
class Told:
    """A state as it was last told. A new one is told at once, as long as it does not waver."""

    value: str = ""
    rested_ns: int = 0
    """When all that was told will have been rested for."""
    waiting: tuple[str, Draft] | None = None

    def see(self, value: str, draft: Callable[[], Draft]) -> None:
        """It is so now; `draft` says it."""
        if value == self.value:
            self.waiting = None
        elif self.waiting is None or self.waiting[0] != value:
            self.waiting = (value, draft())

    @property
    def due_ns(self) -> int | None:
        """When to tell; None where there is nothing new."""
        return None if self.waiting is None else self.rested_ns - (STATE_BURST - 1) * STATE_REST_NS

    def take(self, now_ns: int) -> Draft | None:
        """The record, if it is time."""
        due_ns = self.due_ns
        if self.waiting is None or due_ns is None or now_ns < due_ns:
            return None
        self.value, draft = self.waiting
        self.rested_ns, self.waiting = max(self.rested_ns, now_ns) + STATE_REST_NS, None
        return draft


@dataclass(slots=True)
class Gaps:
    """What could not be read since it was last told."""

    make: MakeGap
    reasons: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    first: tuple[str, str, bytes] | None = None
    pause_ns: int = GAP_MIN_NS
    told_ns: int | None = None

    def add(self, reason: str, detail: str, held: bytes) -> None:
        """One more."""
        self.first = self.first or (reason, detail, held)
        self.reasons[reason if reason in self.reasons or len(self.reasons) < REASONS_MAX else "others"] += 1
        self.size_bytes += len(held)

    @property
    def due_ns(self) -> int | None:
        """When to tell; None where there is nothing to tell."""
        if self.first is None:
            return None
        return 0 if self.told_ns is None else self.told_ns + self.pause_ns

    def take(self, now_ns: int, *, at_once: bool = False) -> Draft | None:
        """The record of everything so far, if it is time."""
        due_ns, first = self.due_ns, self.first
        if first is None or due_ns is None or (now_ns < due_ns and not at_once):
            return None
        calm = self.told_ns is None or now_ns - self.told_ns > 2 * self.pause_ns
        self.pause_ns = GAP_MIN_NS if calm else min(2 * self.pause_ns, GAP_MAX_NS)
        self.told_ns = now_ns
        reasons = dict(sorted(self.reasons.items()))
        most = max(reasons, key=lambda reason: reasons[reason])
        values = {
            "reasons": reasons,
            "size_bytes": self.size_bytes,
            "first_reason": first[0],
            "detail": first[1],
        }
        self.reasons.clear()
        self.size_bytes, self.first = 0, None
        return self.make(most, sum(reasons.values()), values, first[2])
