"""Trips and visits of one vehicle, for reports: the same stops as the judge has them, from a list of fixes."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.fixes import Fix
from gateway.rules import stops
from gateway.rules.book import Book
from gateway.rules.stops import Trip, Visit
from gateway.rules.terms import terms_at
from gateway.rules.track import of_fix
from gateway.rules.vehicle import Fold


class _Nothing:
    """What a judge knows beside the records of the vehicle: here nothing."""

    def explained_s(self, _from_s: int, _to_s: int, _seq: int | None) -> int:
        """No outage is known."""
        return 0

    def note(self, _source: str, _device: str, _seq: int) -> tuple[str, ...]:
        """No text is known."""
        return ()


def movements(fixes: Iterable[Fix], book: Book, *, device_class: str, plate: str = "") -> list[Trip | Visit]:
    """Trips and visits in the order in which they end, under one book. The fixes may come in any order."""
    found: list[Trip | Visit] = []
    fold = Fold(
        "", "", lambda _book, _who, time_s: terms_at(book, 0, book.places, device_class, plate, time_s), _Nothing()
    )
    fold.report = found.append
    moments = {
        of_fix(fix.state, fix.seq, fix.index, fix.arrival_utc_ns // 1_000_000_000, 0, 0, fix.backfill) for fix in fixes
    }
    for moment in sorted(moments):
        fold.take(moment)
    if fold.state.day_to_s:
        stops.end_day(fold)
    return found


def trips(fixes: Iterable[Fix], book: Book, *, device_class: str, plate: str = "") -> list[Trip]:
    """The trips alone, by start."""
    found = movements(fixes, book, device_class=device_class, plate=plate)
    return sorted((one for one in found if isinstance(one, Trip)), key=lambda one: one.start_utc_s)
