"""One measured figure against its goal: always a ratio or a rate of this run, on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """`met` is None where a figure is printed without a goal."""

    name: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None
    detail: str = ""


def at_most(name: str, value: float, limit: float, unit: str = "x", detail: str = "") -> Figure:
    """A figure whose goal is an upper limit."""
    return Figure(name, value, unit, f"<= {limit:g}", value <= limit, detail)


def at_least(name: str, value: float, limit: float, unit: str = "x", detail: str = "") -> Figure:
    """A figure whose goal is a lower limit."""
    return Figure(name, value, unit, f">= {limit:g}", value >= limit, detail)


def median_seconds(action: Callable[[], object], runs: int = 5) -> float:
    """Median wall time of `action`."""
    times: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def median_ratio(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    runs: int = 5,
    before: Callable[[], object] = lambda: None,
) -> tuple[float, str]:
    """Median of ours/theirs over alternating pairs: the machine's mood cancels out. Second value: the spread.

    `before` runs before either side and is not timed.
    """
    ratios: list[float] = []
    for _ in range(runs):
        before()
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        before()
        again = time.perf_counter()
        theirs()
        ratios.append((middle - start) / (time.perf_counter() - again))
    return statistics.median(ratios), f"min {min(ratios):.2f}, max {max(ratios):.2f}, {runs} pairs"
