"""Means over fixed windows of device time, each with the share of it that valid data cover. Integers only.

Values go into minutes; a minute counts where enough of its values are good, measured against what should have come.
Valid minutes go into windows, weighted by their length. What a device has averaged itself goes into windows of its own
and is never mixed with ours. Windows begin at whole multiples of their length after the day's begin.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


def rounded(numerator: int, denominator: int) -> int:
    """The quotient, rounded half to even."""
    whole, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return whole + (twice > denominator or (twice == denominator and whole % 2 == 1))


class Minute(msgspec.Struct, array_like=True):
    """Values of one minute of one channel."""

    start_s: int
    at: int
    last_at: int
    """Places of its first and last value in the trail."""
    seen_s: int
    """Time of its first value."""
    seen: int = 0
    good: int = 0
    total_e6: int = 0
    """Sum of the good ones."""
    peak_e6: int = 0
    peak_s: int = 0
    peak_seq: int = 0
    flows: int = 0
    flow_e6: int = 0
    """Number and sum of measured flows, m3/s."""

    def add(self, value_e6: int, time_s: int, seq: int, flow_e6: int | None) -> None:
        """A good value."""
        if not self.good or value_e6 > self.peak_e6:
            self.peak_e6, self.peak_s, self.peak_seq = value_e6, time_s, seq
        self.good += 1
        self.total_e6 += value_e6
        if flow_e6 is not None:
            self.flows += 1
            self.flow_e6 += flow_e6

    def valid(self, expected: int, valid_percent: int) -> bool:
        """Whether enough of what came, and of what should have come, is good."""
        return self.good > 0 and self.good * 100 >= valid_percent * max(self.seen, expected)


class Window(msgspec.Struct, array_like=True):
    """Means of one window of one channel."""

    start_s: int
    at: int
    last_at: int
    seen_s: int
    """Time of the first reading in it."""
    valid_s: int = 0
    weighted: int = 0
    """Sum of value times seconds."""
    values: int = 0
    peak_e6: int = 0
    """The highest mean in it."""
    peak_s: int = 0
    peak_seq: int = 0
    flow_s: int = 0
    flow_weighted: int = 0
    until_s: int = 0
    """Last second of what a device has said of it."""

    def add(self, mean_e6: int, seconds: int, time_s: int, seq: int) -> None:
        """A valid minute, or what a device says of a period."""
        if not self.valid_s or mean_e6 > self.peak_e6:
            self.peak_e6, self.peak_s, self.peak_seq = mean_e6, time_s, seq
        self.valid_s += seconds
        self.weighted += mean_e6 * seconds

    def take(self, minute: Minute, minute_s: int) -> None:
        """A valid minute of ours."""
        mean_e6 = rounded(minute.total_e6, minute.good)
        self.add(mean_e6, minute_s, minute.peak_s, minute.peak_seq)
        self.values += minute.good
        self.last_at = minute.last_at
        if minute.flows:
            self.flow_s += minute_s
            self.flow_weighted += rounded(minute.flow_e6, minute.flows) * minute_s

    @property
    def mean_e6(self) -> int:
        """Of the valid time."""
        return rounded(self.weighted, self.valid_s)

    def valid_permille(self, window_s: int) -> int:
        """Share of the window that valid data cover."""
        return min(1000, self.valid_s * 1000 // window_s)

    def flow_m3_h_e6(self, window_s: int, valid_percent: int) -> int | None:
        """Mean of the measured flow; None where too little of the window has one."""
        if self.flow_s * 100 < valid_percent * window_s or not self.flow_s:
            return None
        return rounded(self.flow_weighted * 3600, self.flow_s)


def converted(mean_e6: int, flow_m3_h_e6: int, stoves: int, stove_flow_m3_h: int) -> int:
    """C_base = C_meas x Q_meas / (q_base x n), GB 18483-2001 clause 6.6; all times 10^6."""
    return rounded(mean_e6 * flow_m3_h_e6, stove_flow_m3_h * stoves * 1_000_000)


def quantile(counts: Mapping[int, int], permille: int) -> int:
    """The smallest key at or below which so much of all counts lies; keys are classes of values."""
    total, sofar = sum(counts.values()), 0
    for key in sorted(counts):
        sofar += counts[key]
        if sofar * 1000 >= permille * total:
            return key
    return max(counts)
