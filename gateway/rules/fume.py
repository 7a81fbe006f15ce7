"""The judge of kitchens: a fold over the journal that keeps, per monitor, only a window of recent readings.

Nothing is judged while records come in; `due` does the work for all monitors that something came for, in the manner of
gateway.rules.trucks: who sends what it had stored is judged when no more of it has come for a while, and a day that
late readings fall into behind the window is wanted from the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from gateway.core import kinds
from gateway.core.finding import Judgement
from gateway.rules.books import Books
from gateway.rules.fume_fold import Fold
from gateway.rules.fume_samples import FUTURE_S, MOMENT, Sample, link_of, sample_of
from gateway.rules.fume_set import MonitorOffline
from gateway.rules.fume_terms import FumeTerms, fume_judged, fume_terms
from gateway.rules.fume_window import PENDING_MAX, Event, Monitor, event_of
from gateway.rules.judging import Seen, Span, Turn, Want
from gateway.rules.outages import Outages
from gateway.rules.rule_set import Offline

WANT_QUIET_S: Final = 30
WANT_LONGEST_S: Final = 600
"""A day is wanted at the latest so long after the first reading that fell into it."""
LOOK_AGAIN_S: Final = 30
REST_S: Final = 36 * 3600
"""So long after its last day a monitor's window is let go."""
MONITORS_MAX: Final = 20_000
TERMS_MAX: Final = 50_000
_JUDGE: Final = b"judge"
_MONITOR: Final = b"monitor:"
Id = tuple[str, str]


class _Common(msgspec.Struct, array_like=True):
    """Memory that belongs to no monitor."""

    seq: int
    outages: Outages
    since_s: int | None


class Fume:
    """gateway.rules.judging.Judge."""

    def __init__(self) -> None:
        self._seq = -1
        self._now_s = 0
        self._books = Books()
        self._book_seq = -1
        self._monitors: dict[Id, Monitor] = {}
        self._outages = Outages()
        self._since_s: int | None = None
        """When the gateway began to hear anything at all."""
        self._dirty: set[Id] = set()
        self._unsaved: set[Id] = set()
        self._deadline_s = 0
        self._offline_of: Offline | None = None
        self._heard = 0
        """Records since the last look ahead."""
        self._ahead = Outages()
        """Silences as they are known at the moment of asking (see gateway.rules.trucks)."""
        self._ahead_sign: tuple[int, ...] = ()
        self._terms: dict[tuple[int, str, str, str], list[FumeTerms]] = {}
        self._judged: dict[tuple[int, str], bool] = {}
        self.left_out = 0
        """Records of monitors that there was no room for."""

    # ------------------------------------------------------------ records

    def accept(self, seen: Seen) -> None:
        """The next record."""
        if seen.kind == kinds.RULES_BOOK:
            self._book(seen)
        if seen.seq <= self._seq:
            return
        self._seq = seen.seq
        arrival_s = seen.arrival_utc_ns // 1_000_000_000
        if self._since_s is None and seen.kind != kinds.RULES_BOOK:
            self._since_s = arrival_s
        if seen.kind in (kinds.READING, kinds.DEVICE_STATE):
            self._device(seen, arrival_s)
        elif seen.kind == kinds.GATEWAY_START:
            self._heard += 1
            self._outages.began(arrival_s, seen.seq, self._offline)

    def _book(self, seen: Seen) -> None:
        book_seq = self._books.accept(seen.seq, seen.data, seen.raw)
        if book_seq is not None and book_seq > self._book_seq:
            self._book_seq = book_seq
            self._offline_of = None

    @property
    def _offline(self) -> Offline:
        """For silences that concern all, by the first rule set of the book in force that has a table for it."""
        if self._offline_of is None:
            found = self._books.book(self._book_seq)
            tables = [] if found is None else [rules.fume.monitor_offline for rules in found[0].rule_sets]
            rule = next((one for one in tables if one is not None), MonitorOffline())
            self._offline_of = Offline(
                source="-", silence_s=rule.silence_s, fleet_percent=rule.fleet_percent, fleet_min=rule.fleet_min,
                fleet_s=rule.fleet_s,
            )  # fmt: skip
        return self._offline_of

    def _is_judged(self, book_seq: int, device_class: str) -> bool:
        key = (book_seq, device_class)
        known = self._judged.get(key)
        if known is None:
            found = self._books.book(book_seq)
            known = self._judged[key] = found is not None and fume_judged(found[0], device_class)
        return known

    def _device(self, seen: Seen, arrival_s: int) -> None:
        name = (seen.source, seen.device)
        monitor = self._monitors.get(name)
        if monitor is None:
            device_class = seen.data.get("class", "")
            wanted = seen.kind == kinds.READING and self._is_judged(self._book_seq, device_class)
            if not wanted or not self._room():
                return
            monitor = self._monitors[name] = Monitor(*name, self._terms_of, self)
        if seen.seq <= monitor.seq:
            return
        monitor.seq = seen.seq
        sample = self._sample(monitor, seen, self._book_seq)
        if sample is None:
            return
        monitor.now_who = sample.who
        monitor.pending.append(sample)
        self._dirty.add(name)
        if seen.kind == kinds.READING:
            self._hear(monitor, sample, arrival_s, backfill=bool(seen.data.get("backfill")))
        if len(monitor.pending) >= PENDING_MAX:
            monitor.settle()

    def _hear(self, monitor: Monitor, sample: Sample, arrival_s: int, *, backfill: bool) -> None:
        """A reading came."""
        self._heard += 1
        self._outages.heard(monitor.label, arrival_s, sample.seq, self._offline, awake=None if backfill else True)
        before_s = monitor.fold.heard_s
        behind = monitor.last is not None and sample[:2] < monitor.last and sample.kind == MOMENT
        if backfill or behind or 0 < before_s < arrival_s - self._offline.silence_s:
            monitor.late(arrival_s)
        monitor.fold.heard_s = arrival_s

    def _room(self) -> bool:
        """Whether one monitor more may be remembered; of those that rest the one heard longest ago goes."""
        if len(self._monitors) < MONITORS_MAX:
            return True
        resting = [(one.fold.heard_s, name) for name, one in self._monitors.items() if not one.blocks]
        if not resting:
            self.left_out += 1
            return False
        gone = min(resting)[1]
        del self._monitors[gone]
        self._dirty.discard(gone)
        self._unsaved.add(gone)
        return True

    @staticmethod
    def _sample(monitor: Monitor, seen: Seen, book_seq: int) -> Sample | None:
        device_class = seen.data.get("class", "")
        who = monitor.who(device_class) if device_class or not monitor.classes else len(monitor.classes) - 1
        if seen.kind == kinds.READING:
            return sample_of(seen.seq, seen.arrival_utc_ns, seen.data, book_seq, who)
        return link_of(seen.seq, seen.arrival_utc_ns, seen.data, book_seq, who)

    # ------------------------------------------------------------ what a fold asks

    def _terms_of(self, monitor: Monitor, book_seq: int, who: int, time_s: int) -> FumeTerms | None:
        device_class = monitor.classes[who]
        key = (book_seq, device_class, monitor.fold.source, monitor.fold.device)
        for one in self._terms.get(key, ()):
            if one.from_s <= time_s < one.to_s:
                return one
        if not self._is_judged(book_seq, device_class):
            return None
        found = self._books.book(book_seq)
        terms = None if found is None else fume_terms(found[0], book_seq, *key[1:], time_s)
        if terms is not None:
            if len(self._terms) >= TERMS_MAX:
                self._terms.clear()
            self._terms.setdefault(key, []).append(terms)
        return terms

    def explained_s(self, from_s: int, to_s: int, seq: int | None) -> int:
        """See fume_fold.Surroundings."""
        since_s = from_s if self._since_s is None else min(max(self._since_s, from_s), to_s)
        return since_s - from_s + (self._ahead if seq is None else self._outages).explained_s(since_s, to_s, seq)

    # ------------------------------------------------------------ turns

    def due(self, now_utc_ns: int) -> Turn:
        """What has changed."""
        return self._turn(now_utc_ns // 1_000_000_000, waiting=True)

    def at_end(self, now_utc_ns: int) -> Turn:
        """What has changed, with all that came late."""
        return self._turn(now_utc_ns // 1_000_000_000, waiting=False)

    def _turn(self, now_s: int, *, waiting: bool) -> Turn:
        if now_s < self._now_s:  # the gateway's clock went back: what waits for a time waits no longer
            for monitor in self._monitors.values():
                monitor.deadline_s = 0
            self._deadline_s = 0
        self._now_s = now_s
        names = set(self._dirty)
        if self._look_ahead(now_s):
            names.update(name for name, one in self._monitors.items() if now_s > one.fold.heard_s + LOOK_AGAIN_S)
        if now_s >= self._deadline_s:
            names.update(name for name, one in self._monitors.items() if now_s >= one.deadline_s)
        if not waiting:
            names.update(name for name, one in self._monitors.items() if one.late_last_s or one.wanted)
        spans: list[Span] = []
        wants: list[Want] = []
        for name in sorted(names):
            monitor = self._monitors[name]
            if waiting and now_s < monitor.waits_s:
                monitor.deadline_s = monitor.waits_s
                self._deadline_s = min(self._deadline_s, monitor.deadline_s)
                self._unsaved.add(name)
                continue
            monitor.late_first_s = monitor.late_last_s = 0
            monitor.settle()
            spans += [self._span(monitor, *change) for change in monitor.changes(now_s)]
            wants += self._wants(monitor, now_s, waiting=waiting)
            if monitor.blocks and now_s > monitor.fold.state.day_to_s + REST_S > REST_S and not monitor.wanted:
                monitor.rest()
            monitor.deadline_s = self._next_s(monitor, now_s)
            self._deadline_s = min(self._deadline_s, monitor.deadline_s)
            self._unsaved.add(name)
        self._dirty = set()
        if now_s >= self._deadline_s:
            self._deadline_s = min((one.deadline_s for one in self._monitors.values()), default=now_s + 60)
        return Turn(spans, wants)

    def _look_ahead(self, now_s: int) -> bool:
        """Silences as of now; whether what they explain has changed."""
        if self._heard or now_s < self._ahead.looked_s:
            self._ahead, self._heard = self._outages.copy(), 0
        self._ahead.advance(now_s, self._seq + 1, self._offline)
        sign, self._ahead_sign = self._ahead_sign, self._ahead.sign()
        return sign != self._ahead_sign

    def _next_s(self, monitor: Monitor, now_s: int) -> int:
        """When time alone may change something."""
        fold = monitor.fold
        times = [now_s + 86_400, fold.state.day_to_s]
        terms = fold.terms()
        if terms is not None and now_s < fold.state.day_to_s + terms.gap_s:
            quiet_from_s = fold.heard_s + terms.gap_s + 1
            times.append(quiet_from_s if quiet_from_s > now_s else now_s + LOOK_AGAIN_S)
            times.append(fold.heard_s + terms.silence_s + 1)
        waiting = [wanted for wanted in monitor.wanted.values() if not wanted.asked]
        times += [min(wanted.last_s + WANT_QUIET_S, wanted.first_s + WANT_LONGEST_S) for wanted in waiting]
        return min(time_s for time_s in times if time_s > now_s)

    @staticmethod
    def _wants(monitor: Monitor, now_s: int, *, waiting: bool) -> Iterator[Want]:
        fold = monitor.fold
        for from_s, wanted in sorted(monitor.wanted.items()):
            ripe = now_s >= min(wanted.last_s + WANT_QUIET_S, wanted.first_s + WANT_LONGEST_S)
            if (ripe or not waiting) and not wanted.asked:
                wanted.asked = True
                arrival_ns = (from_s - FUTURE_S) * 1_000_000_000
                yield Want(fold.source, fold.device, arrival_ns, from_s, wanted.to_s)

    @staticmethod
    def _span(monitor: Monitor, from_s: int, to_s: int, judgements: tuple[Judgement, ...]) -> Span:
        device_class = monitor.classes[monitor.now_who] if monitor.classes else ""
        return Span(monitor.fold.source, monitor.fold.device, device_class, "open", from_s, to_s, judgements)

    # ------------------------------------------------------------ days from the journal

    def history(self, want: Want, records: Sequence[Seen]) -> Span:
        """A day judged from its records; the monitor goes on from there where its window lies in it."""
        name = (want.source, want.device)
        monitor = self._monitors.get(name)
        if monitor is None:
            monitor = self._monitors[name] = Monitor(*name, self._terms_of, self)
        monitor.settle()
        samples = self._samples(monitor, want, records)
        monitor.wanted.pop(want.from_utc_s, None)
        if monitor.evicted is not None and want.from_utc_s <= monitor.evicted[0] < want.to_utc_s:
            monitor.rebuild(samples, want.from_utc_s)
            found = monitor.found(self._now_s)
            kept = {event: one for event, one in monitor.out.items() if event[0] >= want.to_utc_s}
            monitor.out = {**kept, **{event: one for event, one in found.items() if event[0] < want.to_utc_s}}
            self._dirty.add(name)
            told = _latest(found.values(), want)
        else:
            told = self._day(monitor, samples, want)
        self._unsaved.add(name)
        return self._span(monitor, want.from_utc_s, want.to_utc_s, tuple(told))

    def _samples(self, monitor: Monitor, want: Want, records: Sequence[Seen]) -> list[Sample]:
        """Those of the wanted day."""
        found: set[Sample] = set()
        for seen in records:
            if seen.seq <= self._seq and seen.kind in (kinds.READING, kinds.DEVICE_STATE):
                sample = self._sample(monitor, seen, self._books.at(seen.seq))
                if sample is not None and want.from_utc_s <= sample.time_s < want.to_utc_s:
                    found.add(sample)
        return sorted(found)

    def _day(self, monitor: Monitor, samples: Sequence[Sample], want: Want) -> list[Judgement]:
        fold = Fold(
            want.source, want.device, lambda book, who, time_s: self._terms_of(monitor, book, who, time_s), self
        )
        fold.days = dict(monitor.fold.days)
        for sample in samples:
            fold.take(sample)
        fold.heard_s = monitor.fold.heard_s
        tail: list[Judgement] = []
        if monitor.fold.state.day_from_s >= want.to_utc_s:
            fold.finish()  # its next day has begun
        else:
            tail = fold.tail(max(self._now_s, 0))
        currents = fold.state.currents or None
        monitor.learnt_anew(want.from_utc_s, currents, self._now_s)
        return _latest([*fold.told, *tail], want)

    # ------------------------------------------------------------ memory

    def checkpoint(self) -> list[tuple[bytes, bytes | None]]:
        """What has changed: one value for each monitor that was judged, and one for all."""
        common = _Common(self._seq, self._outages, self._since_s)
        pairs: list[tuple[bytes, bytes | None]] = [(_JUDGE, msgspec.msgpack.encode(common))]
        for name in sorted(self._unsaved | self._dirty):
            monitor = self._monitors.get(name)
            pairs.append((_MONITOR + "\n".join(name).encode(), monitor.stored() if monitor is not None else None))
        self._unsaved = set()
        return pairs

    def restore(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin from an earlier run. Books come from the journal."""
        for key, value in pairs:
            if key == _JUDGE:
                self._restore_common(value)
            elif key.startswith(_MONITOR):
                source, _, device = key[len(_MONITOR) :].decode(errors="replace").partition("\n")
                monitor = Monitor(source, device, self._terms_of, self)
                try:
                    monitor.load(value)
                except ValueError:
                    monitor.lost = True
                self._monitors[source, device] = monitor
                self._dirty.add((source, device))

    def _restore_common(self, value: bytes) -> None:
        try:
            common = msgspec.msgpack.decode(value, type=_Common)
        except (msgspec.DecodeError, msgspec.ValidationError):
            return
        self._seq, self._outages, self._since_s = common.seq, common.outages, common.since_s
        self._ahead = self._outages.copy()  # silence is explained before the next record is heard, too


def _latest(told: Iterable[Judgement], want: Want) -> list[Judgement]:
    """The last telling of each event that starts in the day."""
    events: dict[Event, Judgement] = {}
    for judgement in told:
        if want.from_utc_s <= judgement.start_utc_s < want.to_utc_s:
            events[event_of(judgement)] = judgement
    return [events[event] for event in sorted(events)]
