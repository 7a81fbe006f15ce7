"""The seqs of a vehicle's judged moments in the order of judging: all its events share this one list of inputs.

An event knows the place of its first and its last input. The list is cut off behind while no event needs what is
there; of an event that lasts longer, the first HALF inputs are kept aside and those between are counted only.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

HALF: Final = 500
"""Inputs cited from the beginning and from the end of an event."""


class Trail:
    """Append-only but for `back`, which undoes."""

    __slots__ = ("base", "heads", "seqs")

    def __init__(self) -> None:
        self.base = 0
        """Place of the first seq that is still here."""
        self.seqs = array("Q")
        self.heads: dict[int, array[int]] = {}
        """By place of the first input: the first HALF seqs of an event that began before `base`."""

    def __len__(self) -> int:
        return self.base + len(self.seqs)

    def back(self, length: int) -> None:
        """Forget what was added after there were `length`: never more than the margin of the last `trim`."""
        del self.seqs[max(length - self.base, 0) :]

    def trim(self, events: Iterable[tuple[int, int]], margin: int) -> None:
        """Cut off what neither `events` (first and last input) nor those within the last `margin` inputs need."""
        floor = len(self) - margin
        firsts = set()
        for first, last in events:
            firsts.add(first)
            floor = min(floor, max(first + HALF, last + 1 - HALF))
        floor = max(floor, self.base)
        for first in [first for first in self.heads if first not in firsts]:
            del self.heads[first]
        for first in firsts:
            if first < floor:
                head = self.heads.setdefault(first, array("Q"))
                head.extend(self.seqs[first + len(head) - self.base : min(first + HALF, floor) - self.base])
        del self.seqs[: floor - self.base]
        self.base = floor

    def read(self, first: int, last: int) -> tuple[tuple[int, ...], int]:
        """(seqs ascending without repeats, how many inputs are left out) of the inputs `first` to `last` inclusive."""
        head = self.heads.get(first) or self.seqs[:0]
        rest = first + len(head)
        inputs = set(head[: last + 1 - first])
        if rest <= last:
            inputs.update(self.seqs[max(rest - self.base, 0) : max(min(first + HALF, last + 1) - self.base, 0)])
        begin = max(first + HALF, last + 1 - HALF)
        if begin <= last:
            inputs.update(self.seqs[begin - self.base : last + 1 - self.base])
        return tuple(sorted(inputs)), max(begin - first - HALF, 0)
