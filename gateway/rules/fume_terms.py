"""What one rule book wants of one monitor, for a stretch of time in which that does not change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.rules.book import Book
from gateway.rules.fume_set import Basis, FumeLimit, FumeSustained, limit_e6, milli_amperes
from gateway.rules.kitchens import Kitchen
from gateway.rules.rule_set import RuleSet
from gateway.rules.windows import END_UTC_S

MINUTES_S: Final = (60, 120, 180, 240, 300, 600, 900, 1200, 1800, 3600)
"""Lengths of the shortest mean for devices that report less often than once a minute."""


class FumeTerms:
    """Of [from_s, to_s)."""

    __slots__ = (
        "basis", "book_seq", "book_sha256", "expected", "fan_on_e6", "firm", "from_s", "gap_s", "interval_s",
        "kitchen", "limits", "minute_s", "purifier_on_e6", "rules", "silence_s", "tables", "to_s", "valid_percent",
        "windows",
    )  # fmt: skip

    def __init__(
        self, book: Book, book_seq: int, rules: RuleSet, kitchen: Kitchen | None, from_s: int, to_s: int
    ) -> None:
        self.from_s, self.to_s = from_s, to_s
        self.book_sha256, self.book_seq = book.sha256, book_seq
        self.rules = rules
        self.tables = tables = rules.fume
        self.kitchen = kitchen
        self.firm = "" if kitchen is None else kitchen.firm or kitchen.name
        readings = tables.readings
        own = None if kitchen is None else kitchen.interval_s
        self.interval_s = own or readings.interval_s
        self.gap_s = readings.gap_intervals * self.interval_s
        """A step that takes longer is a gap."""
        self.valid_percent = readings.valid_percent
        windows: list[FumeLimit | FumeSustained] = []
        if tables.fume_limit is not None:
            windows.append(tables.fume_limit)
        if tables.fume_sustained is not None:
            windows.append(tables.fume_sustained)
        self.windows = tuple(windows)
        self.minute_s = _minute_s(readings.minute_s, self.interval_s, [rule.window_s for rule in windows])
        self.expected = max(1, self.minute_s // self.interval_s)
        """Values in a minute."""
        local = None if kitchen is None else kitchen.limit(from_s)
        self.limits = tuple(local or (limit_e6(rule), rule.source) for rule in windows)
        """(mg/m3 times 10^6, by which standard) of each window."""
        self.basis: Basis = readings.basis
        fan = None if kitchen is None else kitchen.fan_on_e6
        purifier = None if kitchen is None else kitchen.purifier_on_e6
        self.fan_on_e6 = milli_amperes(readings.fan_on_ma) if fan is None else fan
        self.purifier_on_e6 = milli_amperes(readings.purifier_on_ma) if purifier is None else purifier
        offline = tables.monitor_offline
        self.silence_s = 0 if offline is None else max(offline.intervals * self.interval_s, offline.silence_s)

    def same(self, other: FumeTerms) -> bool:
        """Whether both want the same of the monitor, whatever the book is called."""
        return self is other or (
            self.tables == other.tables
            and self.limits == other.limits
            and self.rules.id == other.rules.id
            and (self.rules.zone_s, self.rules.day_starts_s) == (other.rules.zone_s, other.rules.day_starts_s)
            and _kitchen(self.kitchen) == _kitchen(other.kitchen)
        )


def _kitchen(kitchen: Kitchen | None) -> tuple[object, ...]:
    if kitchen is None:
        return ()
    return tuple(getattr(kitchen, name) for name in Kitchen.__slots__ if name not in ("file", "limits"))


def _minute_s(minute_s: int, interval_s: int, windows_s: list[int]) -> int:
    """The shortest mean that a device of this interval can fill, and that divides the windows."""
    if interval_s <= minute_s:
        return minute_s
    fitting = [one for one in MINUTES_S if one >= interval_s and all(window % one == 0 for window in windows_s)]
    return fitting[0] if fitting else minute_s


def fume_terms(book: Book, book_seq: int, device_class: str, source: str, device: str, utc_s: int) -> FumeTerms | None:
    """The terms of a monitor at a time; None where no rule set for kitchens is in force for its class."""
    rules = book.rule_set(device_class, utc_s)
    if rules is None or not rules.fume.any:
        return None
    edges = set(_edges(book, device_class, source, device))
    before = max((edge for edge in edges if edge <= utc_s), default=0)
    after = min((edge for edge in edges if edge > utc_s), default=END_UTC_S)
    return FumeTerms(book, book_seq, rules, book.kitchen_of(source, device, utc_s), before, after)


def fume_judged(book: Book, device_class: str) -> bool:
    """Whether a rule set of the book has rules for kitchens for the class."""
    return any(device_class in rules.classes and rules.fume.any for rules in book.rule_sets)


def _edges(book: Book, device_class: str, source: str, device: str) -> Iterator[int]:
    """Seconds at which the terms may change."""
    for rules in book.rule_sets:
        if device_class in rules.classes:
            yield from (rules.from_utc_s, rules.to_utc_s)
    for kitchen in book.kitchens.of(source, device):
        yield from (kitchen.from_utc_s, kitchen.to_utc_s)
        for limit in kitchen.limits:
            yield from (limit.from_utc_s, limit.to_utc_s)
