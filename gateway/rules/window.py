"""One vehicle's memory: its newest moments in blocks, and before each block the state that the block began with.

A moment that comes late is put where its device time belongs, and the judgement is taken up again from the block before
it. What is older than the window is final for the stream; a moment that falls there makes its whole day wanted from
the journal. Whatever order moments come in, what is told in the end is the same.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from gateway.core.finding import Judgement
from gateway.rules.cases import State, packed, unpacked
from gateway.rules.terms import Terms
from gateway.rules.track import Moment, pack, unpack
from gateway.rules.trail import Trail
from gateway.rules.vehicle import Fold, Surroundings

BLOCK = 32
"""Moments judged again at most without need."""
BLOCKS = 8
PENDING_MAX = 512
WHOS_MAX = 255
LATE_QUIET_S = 15
LATE_LONGEST_S = 300
Key = tuple[int, int, int]
Event = tuple[int, str, str]
"""Start, rule and subject: of one vehicle they name an event."""


class Block(msgspec.Struct, array_like=True):
    """Up to BLOCK moments."""

    start: bytes
    """State before the first of them."""
    told_at: int
    """Tellings before the first of them, since ever."""
    first: Key
    count: int = 0
    data: bytearray = msgspec.field(default_factory=bytearray)


class Wanted(msgspec.Struct, array_like=True):
    """A day that late moments fell into."""

    to_s: int
    first_s: int
    """When the first and the last of them arrived."""
    last_s: int
    asked: bool = False


class Memory(msgspec.Struct, array_like=True):
    """All of a vehicle as it is stored."""

    version: Literal[1]
    source: str
    device: str
    whos: list[tuple[str, str]]
    now_who: int
    evicted: Key | None
    last: Key | None
    blocks: list[Block]
    state: bytes
    told: list[Judgement]
    told_base: int
    carried: list[Judgement]
    trail_base: int
    trail: bytes
    heads: dict[int, bytes]
    pending: bytes
    wanted: dict[int, Wanted]
    notes: dict[int, list[str]]
    heard_s: int
    sure_s: int | None
    seq: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Memory).decode


class Vehicle:
    """Window, fold, and what was told of one vehicle."""

    __slots__ = (
        "blocks",
        "carried",
        "deadline_s",
        "evicted",
        "fold",
        "fresh",
        "label",
        "last",
        "late_first_s",
        "late_last_s",
        "lost",
        "notes",
        "now_who",
        "out",
        "pending",
        "seq",
        "sure_s",
        "told_base",
        "wanted",
        "whos",
    )  # fmt: skip

    def __init__(
        self, source: str, device: str, terms_of: Callable[[Vehicle, int, int, int], Terms | None], around: Surroundings
    ) -> None:
        self.fold = Fold(source, device, lambda book, who, time_s: terms_of(self, book, who, time_s), around)
        self.label = f"{source}\n{device}"
        self.blocks: list[Block] = []
        self.pending: list[Moment] = []
        self.evicted: Key | None = None
        """Key of the newest moment that has left the window."""
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
        self.whos: list[tuple[str, str]] = []
        self.now_who = 0
        """Of its newest record."""
        self.notes: dict[int, list[str]] = {}
        self.seq = -1
        """Records up to here are in."""
        self.lost = False
        """Its memory could not be read: the day that it goes on with is wanted from the journal."""
        self.deadline_s = 0
        self.late_first_s = 0
        self.late_last_s = 0
        """While it sends what it had stored: when that began, and when something of it arrived last; else 0."""

    def who(self, device_class: str, plate: str) -> int:
        """Place of (class, plate) in the list; the last place stands for all that are too many."""
        pair = (device_class, plate)
        if pair in self.whos:
            return self.whos.index(pair)
        if len(self.whos) < WHOS_MAX:
            self.whos.append(pair)
            return len(self.whos) - 1
        return WHOS_MAX - 1

    def note(self, seq: int, texts: Iterable[str]) -> None:
        """Texts of a record that is no fix; they are kept as long as its moment waits or lies in the window."""
        self.notes[seq] = list(texts)

    def forget_notes(self) -> None:
        """Of records of which no moment is left here."""
        here = {moment.seq for block in self.blocks for moment in unpack(block.data)}
        here.update(moment.seq for moment in self.pending)
        self.notes = {seq: texts for seq, texts in self.notes.items() if seq in here}

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
            self.evicted = (fresh[0].time_s - 1, 0, 0)
            self._want(fresh[0])
        if self.fresh and self.evicted is None:
            self.sure_s = min(fresh[0].time_s, fresh[0].time_s if self.sure_s is None else self.sure_s)
        if self.last is None or fresh[0][:3] > self.last:
            for moment in fresh:
                self._append(moment)
            return
        if self.evicted is not None and fresh[0][:3] <= self.evicted:
            place = bisect_left(fresh, (self.evicted[0], self.evicted[1], self.evicted[2] + 1))
            for moment in fresh[:place]:
                self._want(moment)
            fresh = fresh[place:]
            if not fresh:
                return
        self._again(fresh)

    def _again(self, late: list[Moment]) -> None:
        """Go back to the block before the first late moment, and judge from there."""
        first = late[0][:3]
        place = len(self.blocks)
        while place and self.blocks[place - 1].first > first:
            place -= 1
        place = max(place - 1, 0)
        blocks, self.blocks = self.blocks[place:], self.blocks[:place]
        moments = late
        if blocks:
            for block in blocks:
                moments = moments + list(unpack(block.data))
            moments = sorted(set(moments))
            del self.fold.told[blocks[0].told_at - self.told_base :]
            self.fold.resume(unpacked(blocks[0].start))
        for moment in moments:
            self._append(moment)

    def _append(self, moment: Moment) -> None:
        fold, blocks = self.fold, self.blocks
        block = blocks[-1] if blocks else None
        if block is None or block.count >= BLOCK:
            block = Block(packed(fold.state), self.told_base + len(fold.told), moment[:3])
            blocks.append(block)
            if len(blocks) > BLOCKS:
                gone = list(unpack(blocks.pop(0).data))
                self.evicted = gone[-1][:3]
                if self.notes:
                    for one in gone:
                        self.notes.pop(one.seq, None)
            self._trim()
        fold.take(moment)
        block.data += pack(moment)
        block.count += 1
        self.last = moment[:3]

    def _trim(self) -> None:
        base = unpacked(self.blocks[0].start)
        state = self.fold.state
        length = len(self.fold.trail)
        self.fold.trail.trim([*_needs(base, length), *_needs(state, length)], BLOCK * BLOCKS + BLOCK)

    def rebuild(self, moments: Iterable[Moment], from_s: int) -> None:
        """Go on from a whole day that begins at `from_s`: `moments` and those of the window, from the beginning."""
        every = set(moments)
        for block in self.blocks:
            every.update(unpack(block.data))
        fold = self.fold
        fold.trail = Trail()
        fold.told = []
        fold.resume(State())
        self.blocks, self.carried, self.told_base, self.last = [], {}, 0, None
        self.evicted = (from_s - 1, 0, 0)
        for moment in sorted(every):
            self._append(moment)

    def rest(self) -> None:
        """Nothing of it can change any more: remember only up to where it was judged."""
        fold = self.fold
        self.evicted = self.last
        fold.trail = Trail()
        fold.told = []
        fold.resume(State())
        self.blocks, self.carried, self.out, self.told_base, self.notes = [], {}, {}, 0, {}

    def _want(self, moment: Moment) -> None:
        """It falls before the window: its day is to be judged from the journal."""
        terms = self.fold.terms_of(moment.book, moment.who, moment.time_s)
        if terms is None:
            return
        from_s, to_s = terms.rules.day(moment.time_s)
        wanted = self.wanted.setdefault(from_s, Wanted(to_s, moment.arrival_s, moment.arrival_s))
        wanted.last_s = max(wanted.last_s, moment.arrival_s)
        wanted.asked = False

    # ------------------------------------------------------------ telling

    def found(self, now_s: int) -> dict[Event, Judgement]:
        """All events that are still in memory, as they stand now."""
        found = dict(self.carried)
        for judgement in self.fold.told:
            found[event_of(judgement)] = judgement
        for judgement in self.fold.tail(now_s):
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
        lasting = {(case.start_s, case.rule) for case in cases if case.told}
        for event in list(self.carried):
            if event[:2] not in lasting and event[0] not in starts:
                del self.carried[event]
                if not any(event_of(one) == event for one in self.fold.told[gone:]):
                    self.out.pop(event, None)
        del self.fold.told[:gone]
        self.told_base += gone

    # ------------------------------------------------------------ keeping

    def stored(self) -> bytes:
        """Everything, as bytes."""
        fold = self.fold
        memory = Memory(
            1, fold.source, fold.device, self.whos, self.now_who, self.evicted, self.last, self.blocks,
            packed(fold.state), fold.told, self.told_base, list(self.carried.values()), fold.trail.base,
            fold.trail.seqs.tobytes(), {place: seqs.tobytes() for place, seqs in fold.trail.heads.items()},
            b"".join(map(pack, self.pending)), self.wanted, self.notes, fold.heard_s, self.sure_s, self.seq,
        )  # fmt: skip
        return zlib.compress(_encode(memory), 1)

    def load(self, data: bytes) -> None:
        """The reverse. Raises ValueError for anything unreadable."""
        try:
            memory = _decode(zlib.decompress(data))
            state = unpacked(memory.state)
            pending = list(unpack(memory.pending))
            trail, heads = array("Q", memory.trail), {place: array("Q", seqs) for place, seqs in memory.heads.items()}
        except (msgspec.MsgspecError, zlib.error, struct.error, ValueError, TypeError) as error:
            raise ValueError(str(error)) from None
        fold = self.fold
        self.whos, self.evicted, self.last, self.blocks = memory.whos, memory.evicted, memory.last, memory.blocks
        self.told_base, self.wanted, self.notes, self.seq = memory.told_base, memory.wanted, memory.notes, memory.seq
        self.carried = {event_of(one): one for one in memory.carried}
        self.pending, self.sure_s, self.now_who = pending, memory.sure_s, memory.now_who
        fold.told, fold.heard_s = memory.told, memory.heard_s
        fold.trail.base, fold.trail.seqs, fold.trail.heads = memory.trail_base, trail, heads
        fold.resume(state)


def event_of(judgement: Judgement) -> Event:
    """What names it among those of its vehicle."""
    return judgement.start_utc_s, judgement.rule, judgement.subject


def _needs(state: State, length: int) -> list[tuple[int, int]]:
    """Inputs that a later telling may cite: (first, last)."""
    needs = [(case.at, case.last_at) for case in state.cases.values()]
    if state.anchor is not None:
        needs.append((state.anchor_at, length - 1))
    if state.odometer is not None:
        needs.append((state.odometer.at, length - 1))
    return needs


def _of(found: dict[Event, Judgement], from_s: int, to_s: int) -> tuple[Judgement, ...]:
    return tuple(found[event] for event in sorted(found) if from_s <= event[0] < to_s)
