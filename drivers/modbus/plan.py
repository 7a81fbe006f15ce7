"""Who is asked next on a bus: weighted round robin by the time that each device has used, not by its questions.

A device that holds the line (slow, dead, noisy) uses up its share and waits; the others go on. Whoever fails is asked
again after a pause that doubles, and so seldom that all who fail together use at most 1/FAILING_SHARE of the bus.
Pure: every time is an argument, in nanoseconds of one monotonic axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECOND_NS: Final = 10**9
CREDIT_NS: Final = 2 * SECOND_NS
"""What a device that was not due has saved up at most."""
RETRIES_AT_ONCE: Final = 1
BACK_OFF_MIN_NS: Final = SECOND_NS
BACK_OFF_MAX_NS: Final = 60 * SECOND_NS
FAILING_SHARE: Final = 5


@dataclass(slots=True)
class Turn:
    """One device's place in the rota."""

    weight: int
    interval_ns: int
    due_ns: int = 0
    """When its next round begins."""
    ready_ns: int = 0
    """It may not be asked before: its own minimum interval."""
    in_round: bool = False
    """A round has begun: its values belong together, so it goes on first."""
    used_ns: int = 0
    """Time on the bus, by weight."""
    failures: int = 0
    """Rounds that failed in a row."""

    @property
    def at_ns(self) -> int:
        """When it may be asked."""
        return self.ready_ns if self.in_round else max(self.due_ns, self.ready_ns)

    @property
    def retries(self) -> bool:
        """The last round failed, and is tried again at once."""
        return 0 < self.failures <= RETRIES_AT_ONCE


class Rota:
    """The turns of one bus, by the index of the device."""

    def __init__(self, turns: list[Turn]) -> None:
        self.turns = turns
        self._floor_ns = 0

    def pick(self, now_ns: int) -> int | None:
        """Who is asked now; None: nobody is due."""
        best: tuple[bool, int, int] | None = None
        for index, turn in enumerate(self.turns):
            if turn.at_ns > now_ns:
                continue
            turn.used_ns = max(turn.used_ns, self._floor_ns - CREDIT_NS)
            rank = (not turn.in_round, turn.used_ns, index)
            if best is None or rank < best:
                best = rank
        if best is None:
            return None
        self._floor_ns = max(self._floor_ns, self.turns[best[2]].used_ns)
        return best[2]

    def next_ns(self) -> int | None:
        """When the next one is due; None without devices."""
        return min((turn.at_ns for turn in self.turns), default=None)

    def charge(self, index: int, used_ns: int) -> None:
        """A device has held the bus for so long."""
        turn = self.turns[index]
        turn.used_ns += used_ns // turn.weight

    def done(self, index: int, now_ns: int) -> int:
        """A round has succeeded; the next one keeps the beat. How many are left out because the bus had no time."""
        turn = self.turns[index]
        turn.in_round, turn.failures = False, 0
        turn.due_ns += turn.interval_ns
        missed = max((now_ns - turn.due_ns) // turn.interval_ns, 0)
        turn.due_ns += missed * turn.interval_ns
        return missed

    def failed(self, index: int, now_ns: int, cost_ns: int) -> None:
        """A round has failed and held the bus for `cost_ns`: once at once, then later and later."""
        turn = self.turns[index]
        turn.in_round = False
        turn.failures += 1
        if turn.retries:
            turn.due_ns = now_ns
            return
        doubled = BACK_OFF_MIN_NS << min(turn.failures - RETRIES_AT_ONCE - 1, 16)
        failing = sum(one.failures > RETRIES_AT_ONCE for one in self.turns)
        pause_ns = max(min(doubled, BACK_OFF_MAX_NS), turn.interval_ns, cost_ns * FAILING_SHARE * failing)
        turn.due_ns = now_ns + pause_ns

    def all_due(self, now_ns: int) -> None:
        """The line is there (again): every device begins a round."""
        for turn in self.turns:
            turn.in_round, turn.failures, turn.due_ns, turn.ready_ns = False, 0, now_ns, now_ns
