"""What receivers say the time is, and what of it can be believed: no clock, no I/O.

A mark is "at this moment of the monotonic axis it was this utc, give or take". One mark proves nothing: it may be late
in a buffer, or a lie. The last ten of a receiver must lie together; their median counts, and how far they lie apart
is added to the uncertainty. Receivers that contradict one another are believed neither.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from gateway.core.instant import NOT_BEFORE_NS, Instant

SECOND_NS: Final = 1_000_000_000
MARKS_KEPT: Final = 10
MARKS_MIN: Final = 5
SOURCES_MAX: Final = 16
TOGETHER_NS: Final = 120 * SECOND_NS
"""Marks older than this before the newest do not count."""
SPREAD_MAX_NS: Final = SECOND_NS
"""Of the marks without the earliest and the latest of them: one late answer spoils nothing."""
GOOD_NS: Final = 2 * SECOND_NS
"""Nearer than this, uncertainty included, satellites show a clock to be right. Farther off, uncertainty aside, they
contradict it."""
GNSS_FRESH_NS: Final = 120 * SECOND_NS
GNSS_SHOWN_NS: Final = 3600 * SECOND_NS
"""What satellites said is used while it is fresh, and shown, with its age, for an hour."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """The time of the satellites."""

    source: str
    ahead_ns: int
    """True utc minus mono_ns."""
    uncertainty_ns: int
    marks: int
    mono_ns: int
    """Of the newest mark."""
    against: str = ""
    """A receiver that says otherwise: then neither is believed."""


@dataclass(frozen=True, slots=True)
class Gnss:
    """What receivers of satellites say of the box's clock."""

    source: str
    offset_ns: int
    """The satellites' time minus the clock."""
    uncertainty_ns: int
    marks: int
    age_s: int
    against: str = ""
    """A receiver that contradicts: then none is believed."""

    @property
    def good(self) -> bool:
        """Whether they show the clock to be right."""
        return self.believed and abs(self.offset_ns) + self.uncertainty_ns <= GOOD_NS

    @property
    def believed(self) -> bool:
        """Fresh, and not contradicted."""
        return not self.against and self.age_s * 10**9 <= GNSS_FRESH_NS

    def shown(self) -> dict[str, str | int]:
        """As records and the API show it."""
        return {
            "source": self.source,
            "offset_ms": round(self.offset_ns / 1e6),
            "uncertainty_ms": -(-self.uncertainty_ns // 1_000_000),
            "marks": self.marks,
            "age_s": self.age_s,
            "against": self.against,
        }


class Marks:
    """The newest marks of every receiver."""

    def __init__(self) -> None:
        self._of: dict[str, deque[tuple[int, int, int]]] = {}
        self.refused = 0
        """Marks of a time that cannot be, or of more receivers than SOURCES_MAX."""

    def mark(self, source: str, utc_ns: int, mono_ns: int, uncertainty_ns: int) -> None:
        """See gateway.core.ports.TimeMarks."""
        known = source in self._of or len(self._of) < SOURCES_MAX
        if utc_ns < NOT_BEFORE_NS or uncertainty_ns < 0 or not known:
            self.refused += 1
            return
        kept = self._of.setdefault(source, deque(maxlen=MARKS_KEPT))
        kept.append((mono_ns, utc_ns - mono_ns, uncertainty_ns))

    def agreed(self, mono_ns: int, age_max_ns: int) -> Agreed | None:
        """What the receivers agree on whose newest mark is at most so old; None: nothing."""
        each = [_median(source, kept) for source, kept in self._of.items()]
        found = [one for one in each if one is not None and mono_ns - one.mono_ns <= age_max_ns]
        if not found:
            return None
        best, *others = sorted(found, key=lambda one: (one.uncertainty_ns, one.source))
        for other in others:
            apart_ns = abs(other.ahead_ns - best.ahead_ns)
            if apart_ns > other.uncertainty_ns + best.uncertainty_ns:
                return Agreed(
                    best.source, best.ahead_ns, best.uncertainty_ns, best.marks, best.mono_ns, against=other.source
                )
        return best

    def against_clock(self, now: Instant, age_max_ns: int) -> Gnss | None:
        """The same as the error of the clock that gave `now`."""
        agreed = self.agreed(now.mono_ns, age_max_ns)
        if agreed is None:
            return None
        offset_ns = agreed.ahead_ns - (now.utc_ns - now.mono_ns)
        age_s = max(now.mono_ns - agreed.mono_ns, 0) // SECOND_NS
        return Gnss(agreed.source, offset_ns, agreed.uncertainty_ns, agreed.marks, age_s, agreed.against)


def _median(source: str, kept: deque[tuple[int, int, int]]) -> Agreed | None:
    newest_ns = max(mono_ns for mono_ns, _, _ in kept)
    together = [mark for mark in kept if newest_ns - mark[0] <= TOGETHER_NS]
    if len(together) < MARKS_MIN:
        return None
    ahead = sorted(ahead_ns for _, ahead_ns, _ in together)
    spread_ns = ahead[-2] - ahead[1]
    if spread_ns > SPREAD_MAX_NS:
        return None
    uncertainty_ns = max(uncertainty_ns for _, _, uncertainty_ns in together) + spread_ns
    return Agreed(source, median_low(ahead), uncertainty_ns, len(together), newest_ns)
