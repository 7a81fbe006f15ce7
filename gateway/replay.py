"""Judging a stored stretch of the log again, read-only, beside a running daemon or years later from a copy.

The judges are pure: the same records give the same judgements, byte for byte. What comes out is compared with the
newest revision of every stored finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core import canonical, kinds
from gateway.core.errors import ConfigError, IntegrityError
from gateway.core.finding import Judgement
from gateway.core.ports import Reader
from gateway.core.record import Draft, parse_leaf
from gateway.findings import current
from gateway.known import digest_of, state_of
from gateway.rules.book import Joining
from gateway.rules.judging import Judge, Seen, Span, Turn
from gateway.seen import history, of_kind, read

ASK_RECORDS: Final = 4_000
CHUNK_RECORDS: Final = 2_000
DAY_NS: Final = 86_400 * 10**9
WARM_UP_NS: Final = 2 * DAY_NS
"""Arrival before the stretch that is judged too, so that the first day of it is whole."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is judged again: first <= seq < end. Events that rest on records before `first` alone are left out."""

    first: int
    end: int
    warm: int
    """Reading begins here."""

    @classmethod
    def of(cls, reader: Reader, first: int, end: int) -> Stretch:
        """With a warm-up before `first`: two days, and as many more as rules learn from."""
        warm, leaf = first, reader.leaf(first)
        if leaf is not None and first > 0:
            since_ns = parse_leaf(leaf).instant.utc_ns - WARM_UP_NS - _learnt_ns(reader)
            rows = reader.records(from_utc_ns=since_ns, limit=1)
            warm = min(first, rows[0][0]) if rows else first
        return cls(first, end, warm)

    def holds(self, inputs: Sequence[int]) -> bool:
        """Whether an event with these inputs is judged here as a whole."""
        return not inputs or (self.warm <= inputs[0] and self.first <= inputs[-1] < self.end)


def _learnt_ns(reader: Reader) -> int:
    """Time of arrival that rules of the log learn from (gateway.rules.fume_set, `learn_days`)."""
    books, joining = [], Joining()
    for seen in of_kind(reader, kinds.RULES_BOOK, 0, reader.next_seq()):
        try:
            books.append(joining.accept(seen.seq, seen.data, seen.raw))
        except (ConfigError, IntegrityError):
            continue  # nothing can be learnt by it; the judges say what is wrong with it
    learning = [
        rules.fume.purifier_current.learn_days
        for _seq, book in filter(None, books)
        for rules in book.rule_sets
        if rules.fume.purifier_current is not None
    ]
    return max(learning, default=0) * DAY_NS


@dataclass(slots=True)
class Comparison:
    """Ids of findings; `differ`, `missing` and `extra` are empty where the log and the replay agree."""

    same: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Stored, not found again."""
    extra: list[str] = field(default_factory=list)
    """Found now, not stored."""

    @property
    def agrees(self) -> bool:
        """Nothing differs."""
        return not (self.differ or self.missing or self.extra)


def moment(reader: Reader, utc_ns: int) -> int:
    """seq of the first record that arrived at or after a time; one past the newest where there is none."""
    rows = reader.records(from_utc_ns=utc_ns, limit=1)
    return rows[0][0] if rows else reader.next_seq()


def replay(
    judges: Mapping[str, Judge],
    reader: Reader,
    stretch: Stretch,
    book: Sequence[Draft] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> list[Judgement]:
    """Every judgement about the stretch, by start, rule and device. `book`: the records of a rule book to judge under
    instead of those in the log, from the first record on."""
    court = _Court(judges, reader)
    stored = book is None
    for seen in of_kind(reader, kinds.RULES_BOOK, 0, stretch.warm) if book is None else _imagined(book, stretch.warm):
        court.accept(seen)
    cursor, unasked = stretch.warm, 0
    while cursor < stretch.end:
        records, following = read(reader, cursor, min(CHUNK_RECORDS, stretch.end - cursor))
        if following == cursor:
            break
        for seen in records:
            if seen.seq < stretch.end and (stored or seen.kind != kinds.RULES_BOOK):
                court.accept(seen)
        unasked += following - cursor
        cursor = min(following, stretch.end)
        if unasked >= ASK_RECORDS and records:
            court.ask(records[-1].arrival_utc_ns, cursor)
            unasked = 0
        progress(cursor - stretch.warm, stretch.end - stretch.warm)
    last = reader.leaf(cursor - 1) if cursor else None
    if last is not None:
        court.end(parse_leaf(last).instant.utc_ns, cursor)
    return sorted(
        (judgement for judgement in court.judgements() if stretch.holds(judgement.inputs)),
        key=lambda one: (one.start_utc_s, one.rule, one.source, one.device, one.id),
    )


def _imagined(book: Sequence[Draft], below: int) -> Iterator[Seen]:
    """Records of a book that is not in the log, as if they lay before record `below`."""
    for number, draft in enumerate(book):
        seq = max(0, below - len(book) + number)
        yield Seen(seq, draft.kind, draft.source, draft.device, 0, draft.data, draft.raw)


class _Court:
    """The judges, and what they have said so far."""

    def __init__(self, judges: Mapping[str, Judge], reader: Reader) -> None:
        self._judges = judges
        self._reader = reader
        self._found: dict[tuple[str, str, str], dict[str, Judgement]] = {}

    def accept(self, seen: Seen) -> None:
        for judge in self._judges.values():
            judge.accept(seen)

    def ask(self, now_utc_ns: int, cursor: int) -> None:
        for name, judge in self._judges.items():
            self._turn(name, judge.due(now_utc_ns), cursor)

    def end(self, now_utc_ns: int, cursor: int) -> None:
        """The log is over: nothing is waited for any more, and an answer may change what follows it."""
        for name, judge in self._judges.items():
            for _ in range(2):
                self._turn(name, judge.at_end(now_utc_ns), cursor)

    def _turn(self, name: str, turn: Turn, cursor: int) -> None:
        for span in turn.spans:
            self._put(name, span)
        for want in turn.wants:
            self._put(name, self._judges[name].history(want, history(self._reader, want, cursor)))

    def judgements(self) -> Iterator[Judgement]:
        for group in self._found.values():
            yield from group.values()

    def _put(self, name: str, span: Span) -> None:
        group = self._found.setdefault((name, span.source, span.device), {})
        for key in [key for key, old in group.items() if span.from_utc_s <= old.start_utc_s < span.to_utc_s]:
            del group[key]
        group.update({judgement.id: judgement for judgement in span.judgements})


def lines(judgements: Sequence[Judgement]) -> list[bytes]:
    """Canonical JSON, one line for each."""
    return [canonical.encode(judgement.to_json()) for judgement in judgements]


def compare(
    reader: Reader,
    stretch: Stretch,
    judgements: Sequence[Judgement],
    device: str | None = None,
    *,
    what_if: bool = False,
) -> Comparison:
    """Against the newest revision of every stored finding that the stretch holds; withdrawn ones do not exist. With
    `what_if` it does not count that another book was judged by."""
    result = Comparison()
    again = {one.id: (_digest(one.to_json(), what_if), state_of(one)) for one in judgements}
    stored: set[str] = set()
    for finding in current(reader, device=device):
        if finding.state == "withdrawn" or not stretch.holds(finding.inputs):
            continue
        stored.add(finding.id)
        if finding.id not in again:
            result.missing.append(finding.id)
        elif again[finding.id] == (_digest(finding.judgement, what_if), finding.state):
            result.same.append(finding.id)
        else:
            result.differ.append(finding.id)
    result.extra = sorted(again.keys() - stored)
    return result


def _digest(shape: Mapping[str, Any], what_if: bool) -> str:
    return digest_of({key: value for key, value in shape.items() if key != "book"} if what_if else shape)
