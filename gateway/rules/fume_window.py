"""One monitor's memory: its newest samples in blocks, and before each block the state that the block began with.

A sample that comes late is put where its time belongs, and the judgement is taken up again from the block before it.
What is older than the window is final for the stream; a sample that falls there makes its whole day wanted from the
journal, and where bands are learnt, the days after it too. Whatever order samples come in, what is told in the end is
the same.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec

from gateway.core.finding import Judgement
from gateway.rules.fume_fold import LEARN_DAYS_MAX, Currents, Fold, Surroundings
from gateway.rules.fume_samples import STATISTIC, Sample, pack, unpack
from gateway.rules.fume_state import State, packed, unpacked
from gateway.rules.fume_terms import FumeTerms
from gateway.rules.trail import Trail
from gateway.rules.windows import DAY_S

BLOCK: Final = 32
"""Samples judged again at most without need."""
BLOCKS: Final = 12
PENDING_MAX: Final = 512
CLASSES_MAX: Final = 64
LATE_QUIET_S: Final = 15
LATE_LONGEST_S: Final = 300
Key = tuple[int, int]
Event = tuple[int, str, str]
"""Start, rule and channel: of one monitor they name an event."""


class Block(msgspec.Struct, array_like=True):
    """Up to BLOCK samples."""

    start: bytes
    """State before the first of them."""
    told_at: int
    """Tellings before the first of them, since ever."""
    first: Key
    samples: list[bytes] = []


class Wanted(msgspec.Struct, array_like=True):
    """A day that late samples fell into."""

    to_s: int
    first_s: int
    """When the first and the last of them arrived."""
    last_s: int
    asked: bool = False


class Memory(msgspec.Struct, array_like=True):
    """All of a monitor as it is stored."""

    version: Literal[1]
    source: str
    device: str
    classes: list[str]
    now_who: int
    evicted: Key | None
    last: Key | None
    blocks: list[Block]
    state: bytes
    told: list[Judgement]
    told_base: int
    carried: list[Judgement]
    trail_bases: list[int]
    trails: list[bytes]
    heads: list[dict[int, bytes]]
    pending: list[bytes]
    wanted: dict[int, Wanted]
    days: dict[int, Currents]
    heard_s: int
    sure_s: int | None
    seq: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Memory).decode


class Monitor:
    """Window, fold, and what was told of one monitor."""

    __slots__ = (
        "blocks", "carried", "classes", "deadline_s", "evicted", "fold", "fresh", "label", "last", "late_first_s",
        "late_last_s", "lost", "now_who", "out", "pending", "seq", "sure_s", "told_base", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        source: str,
        device: str,
        terms_of: Callable[[Monitor, int, int, int], FumeTerms | None],
        around: Surroundings,
    ) -> None:
        self.fold = Fold(source, device, lambda book, who, time_s: terms_of(self, book, who, time_s), around)
        self.label = f"{source}\n{device}"
        self.blocks: list[Block] = []
        self.pending: list[Sample] = []
        self.evicted: Key | None = None
        """Of the newest sample that has left the window."""
        self.last: Key | None = None
        self.told_base = 0
        """Tellings that are final and forgotten."""
        self.carried: dict[Event, Judgement] = {}
        """Tellings from before the window of events that are not over."""
        self.out: dict[Event, Judgement] = {}
        """What was given out last."""
        self.fresh = True
        """Nothing is known of what was given out: everything from `sure_s` on is given once more."""
        self.sure_s: int | None = None
        """Every event that starts here or later, and was not final when something was given out last, is in memory."""
        self.wanted: dict[int, Wanted] = {}
        self.classes: list[str] = []
        self.now_who = 0
        """Of its newest record."""
        self.seq = -1
        """Records up to here are in."""
        self.lost = False
        """Its memory could not be read: the day that it goes on with is wanted from the journal."""
        self.deadline_s = 0
        self.late_first_s = 0
        self.late_last_s = 0
        """While it sends what it had stored: when that began, and when something of it arrived last; else 0."""

    def who(self, device_class: str) -> int:
        """Place of a class in the list; the last place stands for all that are too many."""
        if device_class in self.classes:
            return self.classes.index(device_class)
        if len(self.classes) < CLASSES_MAX:
            self.classes.append(device_class)
            return len(self.classes) - 1
        return CLASSES_MAX - 1

    def late(self, arrival_s: int) -> None:
        """It sends what it had stored, or may be about to."""
        self.late_first_s = self.late_first_s or arrival_s
        self.late_last_s = arrival_s

    @property
    def waits_s(self) -> int:
        """Until when it is better not to judge it: what is stored comes in many pieces."""
        if not self.late_last_s:
            return 0
        return min(self.late_last_s + LATE_QUIET_S, self.late_first_s + LATE_LONGEST_S)

    # ------------------------------------------------------------ judging

    def settle(self) -> None:
        """Judge what has come."""
        if not self.pending:
            return
        fresh, self.pending = sorted(set(self.pending)), []
        if self.lost:
            self.lost = False
            self.evicted = (fresh[0].time_s - 1, 0)
            self._want(fresh[0])
        if self.fresh and self.evicted is None:
            first_s = self._day_from_s(fresh[0])
            self.sure_s = first_s if self.sure_s is None else min(first_s, self.sure_s)
        if self.last is None or fresh[0][:2] > self.last:
            for sample in fresh:
                self._append(sample)
            return
        if self.evicted is not None and fresh[0][:2] <= self.evicted:
            place = bisect_left(fresh, (self.evicted[0], self.evicted[1] + 1))
            for sample in fresh[:place]:
                self._want(sample)
            fresh = fresh[place:]
            if not fresh:
                return
        self._again(fresh)

    def _again(self, late: list[Sample]) -> None:
        """Go back to the block before the first late sample, and judge from there."""
        first = late[0][:2]
        place = len(self.blocks)
        while place and self.blocks[place - 1].first > first:
            place -= 1
        place = max(place - 1, 0)
        blocks, self.blocks = self.blocks[place:], self.blocks[:place]
        samples = late
        if blocks:
            samples = sorted({*late, *(sample for block in blocks for sample in map(unpack, block.samples))})
            del self.fold.told[blocks[0].told_at - self.told_base :]
            self.fold.resume(unpacked(blocks[0].start))
        for sample in samples:
            self._append(sample)

    def _append(self, sample: Sample) -> None:
        fold, blocks = self.fold, self.blocks
        block = blocks[-1] if blocks else None
        if block is None or len(block.samples) >= BLOCK:
            block = Block(packed(fold.state), self.told_base + len(fold.told), sample[:2])
            blocks.append(block)
            if len(blocks) > BLOCKS:
                self.evicted = unpack(blocks.pop(0).samples[-1])[:2]
            self._trim()
        fold.take(sample)
        block.samples.append(pack(sample))
        self.last = sample[:2]

    def _trim(self) -> None:
        base, state = unpacked(self.blocks[0].start), self.fold.state
        for kind, trail in enumerate(self.fold.trails):
            needs = [*_needs(base, kind, len(trail)), *_needs(state, kind, len(trail))]
            trail.trim(needs, BLOCK * BLOCKS + BLOCK)

    def rebuild(self, samples: Iterable[Sample], from_s: int) -> None:
        """Go on from a whole day that begins at `from_s`: `samples` and those of the window, from the beginning."""
        every = set(samples)
        for block in self.blocks:
            every.update(map(unpack, block.samples))
        fold = self.fold
        fold.trails = (Trail(), Trail())
        fold.told = []
        fold.resume(State())
        self.blocks, self.carried, self.told_base, self.last = [], {}, 0, None
        self.evicted = (from_s - 1, 0)
        for sample in sorted(every):
            self._append(sample)

    def rest(self) -> None:
        """Nothing of it can change any more: remember only up to where it was judged, and what is learnt from."""
        fold = self.fold
        fold.finish()
        self.evicted = self.last
        fold.trails = (Trail(), Trail())
        fold.told = []
        fold.resume(State())
        self.blocks, self.carried, self.out, self.told_base = [], {}, {}, 0

    def _want(self, sample: Sample) -> None:
        """It falls before the window: its day is to be judged from the journal."""
        terms = self.fold.terms_of(sample.book, sample.who, sample.time_s)
        if terms is not None:
            from_s, to_s = terms.rules.day(sample.time_s)
            self.want_day(from_s, to_s, self.fold.heard_s)

    def _day_from_s(self, sample: Sample) -> int:
        """Begin of its day: windows begin before their first value."""
        terms = self.fold.terms_of(sample.book, sample.who, sample.time_s)
        return sample.time_s if terms is None else terms.rules.day(sample.time_s)[0]

    def want_day(self, from_s: int, to_s: int, now_s: int) -> None:
        """A day is to be judged from the journal."""
        wanted = self.wanted.setdefault(from_s, Wanted(to_s, now_s, now_s))
        wanted.last_s = max(wanted.last_s, now_s)
        wanted.asked = False

    def learnt_anew(self, day_from_s: int, currents: Currents | None, now_s: int) -> None:
        """What a day says of currents is another than before: the days after it are judged again."""
        days = self.fold.days
        if days.get(day_from_s) == currents:
            return
        days.pop(day_from_s, None)
        if currents is not None:
            days[day_from_s] = currents
        newest_s = self.fold.state.day_from_s
        for later in sorted({*days, newest_s}):
            if day_from_s < later <= min(newest_s, day_from_s + LEARN_DAYS_MAX * DAY_S):
                self.want_day(later, later + DAY_S, now_s)

    # ------------------------------------------------------------ telling

    def found(self, now_s: int) -> dict[Event, Judgement]:
        """All events that are still in memory, as they stand now."""
        found = dict(self.carried)
        for judgement in (*self.fold.told, *self.fold.tail(now_s)):
            found[event_of(judgement)] = judgement
        return found

    def changes(self, now_s: int) -> list[tuple[int, int, tuple[Judgement, ...]]]:
        """(from, to, all that starts there) for every stretch in which something has changed since the last call."""
        found = self.found(now_s)
        spans: list[tuple[int, int, tuple[Judgement, ...]]] = []
        if self.fresh and self.blocks:
            base_s = self.blocks[0].first[0] if self.sure_s is None else self.sure_s
            end_s = max(self.fold.state.day_to_s, base_s + 1)
            spans.append((base_s, end_s, _of(found, base_s, end_s)))
            starts = sorted({event[0] for event in found if event[0] < base_s})
        elif found == self.out:
            starts = []
        else:
            events = {event for event in {*found, *self.out} if found.get(event) != self.out.get(event)}
            starts = sorted({event[0] for event in events})
        spans += [(start, start + 1, _of(found, start, start + 1)) for start in starts]
        self._forget(found)
        if self.blocks:
            self.fresh = False
            self.sure_s = self.blocks[0].first[0] if self.evicted is None else self.evicted[0] + 1
        return spans

    def _forget(self, found: dict[Event, Judgement]) -> None:
        """Tellings of before the window that cannot change any more."""
        self.out = found
        if not self.blocks:
            return
        gone = self.blocks[0].told_at - self.told_base
        if gone <= 0:
            return
        cases = unpacked(self.blocks[0].start).cases.values()
        starts = {case.start_s for case in cases}
        for judgement in self.fold.told[:gone]:
            self.carried[event_of(judgement)] = judgement
        lasting = {(case.start_s, case.rule, case.channel) for case in cases if case.told}
        kept = {event_of(one) for one in self.fold.told[gone:]}
        for event in list(self.carried):
            if event not in lasting and event[0] not in starts:
                del self.carried[event]
                if event not in kept:
                    self.out.pop(event, None)
        del self.fold.told[:gone]
        self.told_base += gone

    # ------------------------------------------------------------ keeping

    def stored(self) -> bytes:
        """Everything, as bytes."""
        fold = self.fold
        memory = Memory(
            1, fold.source, fold.device, self.classes, self.now_who, self.evicted, self.last, self.blocks,
            packed(fold.state), fold.told, self.told_base, list(self.carried.values()),
            [trail.base for trail in fold.trails], [trail.seqs.tobytes() for trail in fold.trails],
            [{place: seqs.tobytes() for place, seqs in trail.heads.items()} for trail in fold.trails],
            [pack(sample) for sample in self.pending], self.wanted, fold.days, fold.heard_s, self.sure_s, self.seq,
        )  # fmt: skip
        return zlib.compress(_encode(memory), 1)

    def load(self, data: bytes) -> None:
        """The reverse. Raises ValueError for anything unreadable."""
        try:
            memory = _decode(zlib.decompress(data))
            state = unpacked(memory.state)
            pending = [unpack(sample) for sample in memory.pending]
            trails = []
            for base, seqs, heads in zip(memory.trail_bases, memory.trails, memory.heads, strict=True):
                trail = Trail()
                trail.base, trail.seqs = base, array("Q", seqs)
                trail.heads = {place: array("Q", head) for place, head in heads.items()}
                trails.append(trail)
            both = (trails[0], trails[1])
        except (msgspec.MsgspecError, zlib.error, ValueError, TypeError, IndexError) as error:
            raise ValueError(str(error)) from None
        fold = self.fold
        self.classes, self.evicted, self.last, self.blocks = memory.classes, memory.evicted, memory.last, memory.blocks
        self.told_base, self.wanted, self.seq = memory.told_base, memory.wanted, memory.seq
        self.carried = {event_of(one): one for one in memory.carried}
        self.pending, self.sure_s, self.now_who = pending, memory.sure_s, memory.now_who
        fold.told, fold.heard_s, fold.days, fold.trails = memory.told, memory.heard_s, memory.days, both
        fold.resume(state)


def event_of(judgement: Judgement) -> Event:
    """What names it among those of one monitor."""
    return judgement.start_utc_s, judgement.rule, judgement.subject


def _needs(state: State, kind: int, length: int) -> list[tuple[int, int]]:
    """Inputs that a later telling may cite: (first, last)."""
    needs = [(case.at, case.last_at) for case in state.cases.values() if case.kind == kind]
    for averages in state.averages.values():
        if kind == STATISTIC:
            needs += [(window.at, length - 1) for window in averages.device.values()]
        else:
            needs += [(window.at, length - 1) for window in averages.own.values()]
            if averages.minute is not None:
                needs.append((averages.minute.at, length - 1))
    return needs


def _of(found: dict[Event, Judgement], from_s: int, to_s: int) -> tuple[Judgement, ...]:
    return tuple(found[event] for event in sorted(found) if from_s <= event[0] < to_s)
