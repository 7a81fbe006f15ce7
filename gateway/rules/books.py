"""The rule books of a journal, by seq: kept packed, read when something is judged by them."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

from gateway.core.errors import ConfigError
from gateway.rules.book import Book, Joining
from gateway.rules.places import Places
from gateway.rules.rule_set import Offline
from gateway.rules.terms import Terms, judged, terms_at

BOOKS_MAX: Final = 64
"""Newest books that can be judged by; fixes that arrived under an older one are not judged any more."""
OPEN_MAX: Final = 4
"""Books that are read at the same time."""
TERMS_MAX: Final = 20_000


class _Packed:
    """One book as its records hold it."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, dict[str, Any], bytes]] = []

    @property
    def last_seq(self) -> int:
        """In force for records behind it."""
        return self.parts[-1][0]

    def read(self) -> Book:
        """Raises ConfigError where this version cannot read it, IntegrityError where it is not what was written."""
        joining = Joining()
        found = None
        for seq, data, raw in self.parts:
            found = joining.accept(seq, data, zlib.decompress(raw))
        assert found is not None  # noqa: S101 - only whole books are kept
        return found[1]


class Books:
    """Books and the terms that follow from them."""

    def __init__(self) -> None:
        self._packed: dict[int, _Packed] = {}
        self._order: list[tuple[int, int]] = []
        """(seq of the last record, seq of the first) of each book, ascending."""
        self._open: dict[int, tuple[Book, Places]] = {}
        self._coming = _Packed()
        self.unreadable: dict[int, str] = {}
        """Books that this version cannot read, and why: nothing is judged by them."""
        self._terms: dict[tuple[int, str, str], list[Terms]] = {}
        self._judged: dict[tuple[int, str], bool] = {}

    def accept(self, seq: int, data: Mapping[str, Any], raw: bytes | None) -> int | None:
        """A `rules.book` record; the seq that names the book once its last part is there."""
        if data.get("part", 1) == 1:
            self._coming = _Packed()
        self._coming.parts.append((seq, dict(data), zlib.compress(raw or b"", 6)))
        if data.get("part", 1) != data.get("parts", 1):
            return None
        book_seq = self._coming.parts[0][0]
        if book_seq not in self._packed:
            self._packed[book_seq] = self._coming
            self._order.append((seq, book_seq))
            while len(self._order) > BOOKS_MAX:
                gone = self._order.pop(0)[1]
                del self._packed[gone]
                self._open.pop(gone, None)
                self.unreadable.pop(gone, None)
            self._terms.clear()
            self._judged.clear()
        return book_seq

    def at(self, seq: int) -> int:
        """The book in force at a record; -1 where there is none."""
        place = bisect_left(self._order, (seq, -1))
        return self._order[place - 1][1] if place else -1

    def book(self, book_seq: int) -> tuple[Book, Places] | None:
        """The book and its places; the places of equal books are one object."""
        if book_seq not in self._packed or book_seq in self.unreadable:
            return None
        found = self._open.pop(book_seq, None)
        if found is None:
            try:
                book = self._packed[book_seq].read()
            except ConfigError as error:
                self.unreadable[book_seq] = str(error)
                return None
            places = next((other for _book, other in self._open.values() if other == book.places), book.places)
            found = (book, places)
            while len(self._open) >= OPEN_MAX:
                del self._open[next(iter(self._open))]
        self._open[book_seq] = found
        return found

    def judged(self, book_seq: int, device_class: str) -> bool:
        """Whether a book has rules for a class."""
        key = (book_seq, device_class)
        known = self._judged.get(key)
        if known is None:
            found = self.book(book_seq)
            known = self._judged[key] = found is not None and judged(found[0], device_class)
        return known

    def offline(self, book_seq: int) -> Offline | None:
        """The table of the first rule set that has one."""
        found = self.book(book_seq)
        if found is None:
            return None
        return next((rules.offline for rules in found[0].rule_sets if rules.offline is not None), None)

    def terms(self, book_seq: int, device_class: str, plate: str, utc_s: int) -> Terms | None:
        """What a book wants of a vehicle at a time; None where it is not judged."""
        key = (book_seq, device_class, plate)
        for one in self._terms.get(key, ()):
            if one.from_s <= utc_s < one.to_s:
                return one
        found = self.book(book_seq)
        if found is None or not self.judged(book_seq, device_class):
            return None
        terms = terms_at(found[0], book_seq, found[1], device_class, plate, utc_s)
        if terms is not None:
            if len(self._terms) >= TERMS_MAX:
                self._terms.clear()
            self._terms.setdefault(key, []).append(terms)
        return terms
