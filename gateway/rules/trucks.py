"""The judge of trucks: a fold over the journal that keeps, per vehicle, only a window of recent fixes.

Nothing is judged while records come in; `due` does the work for all vehicles that something came for. A vehicle that
sends what it had stored, or reports for the first time after a silence and may be about to, is judged when no more of
it has come for LATE_QUIET_S: neither half-filled gaps nor their corrections are told. A day that late fixes fall into
behind the window is wanted from the journal when no more of them have come for WANT_QUIET_S.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.core import kinds
from gateway.core.finding import Judgement
from gateway.rules.books import Books
from gateway.rules.detectors import silence
from gateway.rules.judging import Seen, Span, Turn, Want
from gateway.rules.outages import Outages
from gateway.rules.rule_set import Offline
from gateway.rules.terms import OFFLINE, Terms
from gateway.rules.track import DUPLICATE, LOGGED_OFF, Moment, moments_of, of_record
from gateway.rules.vehicle import Fold, driving
from gateway.rules.window import PENDING_MAX, Event, Vehicle, event_of

WANT_QUIET_S: Final = 30
WANT_LONGEST_S: Final = 600
"""A day is wanted at the latest so long after the first fix that fell into it."""
FUTURE_S: Final = 120
"""A device's clock may be so far ahead of the gateway's."""
LOOK_AGAIN_S: Final = 30
REST_S: Final = 36 * 3600
"""So long after its last day a vehicle's window is let go."""
VEHICLES_MAX: Final = 20_000
_JUDGE: Final = b"judge"
_VEHICLE: Final = b"vehicle:"
Id = tuple[str, str]


class _Common(msgspec.Struct, array_like=True):
    """Memory that belongs to no vehicle."""

    seq: int
    outages: Outages
    privacy: dict[str, str]


class Trucks:
    """gateway.rules.judging.Judge."""

    def __init__(self) -> None:
        self._seq = -1
        self._now_s = 0
        self._books = Books()
        self._book_seq = -1
        self._vehicles: dict[Id, Vehicle] = {}
        self._outages = Outages()
        self._privacy: dict[str, str] = {}
        """Of device classes, as records say it."""
        self._dirty: set[Id] = set()
        self._unsaved: set[Id] = set()
        self._deadline_s = 0
        self._offline_of: Offline | None = None
        self._heard = 0
        """Records since the last look ahead."""
        self._ahead = Outages()
        """Silences as they are known at the moment of asking; nothing is ever judged from it that a later look at the
        same records would not find."""
        self._ahead_sign: tuple[int, ...] = ()
        self.left_out = 0
        """Records of vehicles that there was no room for."""

    # ------------------------------------------------------------ records

    def accept(self, seen: Seen) -> None:
        """The next record."""
        if seen.kind == kinds.RULES_BOOK:
            self._book(seen)
        if seen.seq <= self._seq:
            return
        self._seq = seen.seq
        arrival_s = seen.arrival_utc_ns // 1_000_000_000
        if seen.kind in (kinds.POSITION, kinds.DEVICE_STATE):
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
        """The table of the book in force, for silences that concern all."""
        if self._offline_of is None:
            self._offline_of = self._books.offline(self._book_seq) or OFFLINE
        return self._offline_of

    def _device(self, seen: Seen, arrival_s: int) -> None:
        data = seen.data
        device_class = data.get("class", "")
        if "privacy" in data and device_class:
            self._privacy[device_class] = data["privacy"]
        name = (seen.source, seen.device)
        vehicle = self._vehicles.get(name)
        if vehicle is None:
            if not self._books.judged(self._book_seq, device_class) or not self._room():
                return
            vehicle = self._vehicles[name] = Vehicle(*name, self._terms, self)
        if seen.seq <= vehicle.seq:
            return
        vehicle.seq = seen.seq
        who = vehicle.now_who = self._who(vehicle, data)
        awake: bool | None = None
        if seen.kind == kinds.POSITION:
            moments = moments_of(seen.seq, arrival_s, data, self._book_seq, who)
            if moments and not data.get("backfill"):
                awake = driving(moments[-1])
        else:
            moments = list(self._of_state(seen, vehicle, who))
            if not moments:
                return
        vehicle.pending += moments
        self._heard += 1
        self._outages.heard(vehicle.label, arrival_s, seen.seq, self._offline, awake=awake)
        backfill = bool(data.get("backfill"))
        behind = vehicle.last is not None and bool(moments) and min(moments)[:3] < vehicle.last
        if backfill or behind or 0 < vehicle.fold.heard_s < arrival_s - self._offline.silence_s:
            vehicle.late(arrival_s)
        vehicle.fold.heard_s = arrival_s
        self._dirty.add(name)
        if len(vehicle.pending) >= PENDING_MAX:
            vehicle.settle()

    def _room(self) -> bool:
        """Whether one vehicle more may be remembered; of those that rest the one that was heard longest ago goes."""
        if len(self._vehicles) < VEHICLES_MAX:
            return True
        resting = [(one.fold.heard_s, name) for name, one in self._vehicles.items() if not one.blocks]
        if not resting:
            self.left_out += 1
            return False
        gone = min(resting)[1]
        del self._vehicles[gone]
        self._dirty.discard(gone)
        self._unsaved.add(gone)
        return True

    @staticmethod
    def _who(vehicle: Vehicle, data: Mapping[str, Any]) -> int:
        device_class = data.get("class", "")
        if not device_class and vehicle.whos:
            return len(vehicle.whos) - 1
        return vehicle.who(device_class, data.get("plate", ""))

    def _of_state(self, seen: Seen, vehicle: Vehicle, who: int) -> Iterator[Moment]:
        state, reason = seen.data.get("state"), seen.data.get("reason")
        if state == "duplicate":
            vehicle.note(seen.seq, [str(seen.data.get(key, ""))[:100] for key in ("address", "other")])
            yield of_record(DUPLICATE, seen.seq, seen.arrival_utc_ns, self._book_seq, who)
        elif "logged-off" in (state, reason):
            yield of_record(LOGGED_OFF, seen.seq, seen.arrival_utc_ns, self._book_seq, who)

    # ------------------------------------------------------------ what a fold asks

    def _terms(self, vehicle: Vehicle, book: int, who: int, time_s: int) -> Terms | None:
        return self._books.terms(book, *vehicle.whos[who], time_s)

    def explained_s(self, from_s: int, to_s: int, seq: int | None) -> int:
        """See vehicle.Surroundings."""
        return (self._ahead if seq is None else self._outages).explained_s(from_s, to_s, seq)

    def note(self, source: str, device: str, seq: int) -> tuple[str, ...]:
        """See vehicle.Surroundings."""
        vehicle = self._vehicles.get((source, device))
        return tuple(vehicle.notes.get(seq, ())) if vehicle is not None else ()

    # ------------------------------------------------------------ turns

    def due(self, now_utc_ns: int) -> Turn:
        """What has changed."""
        return self._turn(now_utc_ns // 1_000_000_000, waiting=True)

    def at_end(self, now_utc_ns: int) -> Turn:
        """What has changed, with all that came late."""
        return self._turn(now_utc_ns // 1_000_000_000, waiting=False)

    def _turn(self, now_s: int, *, waiting: bool) -> Turn:
        if now_s < self._now_s:  # the gateway's clock went back: what waits for a time waits no longer
            for vehicle in self._vehicles.values():
                vehicle.deadline_s = 0
            self._deadline_s = 0
        self._now_s = now_s
        names = set(self._dirty)
        if self._look_ahead(now_s):
            names.update(name for name, one in self._vehicles.items() if now_s > one.fold.heard_s + LOOK_AGAIN_S)
        if now_s >= self._deadline_s:
            names.update(name for name, one in self._vehicles.items() if now_s >= one.deadline_s)
        if not waiting:
            names.update(name for name, one in self._vehicles.items() if one.late_last_s or one.wanted)
        spans: list[Span] = []
        wants: list[Want] = []
        for name in sorted(names):
            vehicle = self._vehicles[name]
            if waiting and now_s < vehicle.waits_s:
                vehicle.deadline_s = vehicle.waits_s
                self._deadline_s = min(self._deadline_s, vehicle.deadline_s)
                self._unsaved.add(name)
                continue
            vehicle.late_first_s = vehicle.late_last_s = 0
            vehicle.settle()
            changed = vehicle.changes(now_s)
            spans += [self._span(vehicle, *change) for change in changed]
            wants += self._wants(vehicle, now_s, waiting=waiting)
            if vehicle.blocks and now_s > vehicle.fold.state.day_to_s + REST_S > REST_S and not vehicle.wanted:
                vehicle.rest()
            vehicle.deadline_s = self._next_s(vehicle, now_s)
            self._deadline_s = min(self._deadline_s, vehicle.deadline_s)
            self._unsaved.add(name)
        self._dirty = set()
        if now_s >= self._deadline_s:
            self._deadline_s = min((one.deadline_s for one in self._vehicles.values()), default=now_s + 60)
        return Turn(spans, wants)

    def _look_ahead(self, now_s: int) -> bool:
        """Silences as of now; whether what they explain has changed."""
        if self._heard or now_s < self._ahead.looked_s:
            self._ahead, self._heard = self._outages.copy(), 0
        self._ahead.advance(now_s, self._seq + 1, self._offline)
        sign, self._ahead_sign = self._ahead_sign, self._ahead.sign()
        return sign != self._ahead_sign

    def _next_s(self, vehicle: Vehicle, now_s: int) -> int:
        """When time alone may change something."""
        fold, state = vehicle.fold, vehicle.fold.state
        times = [now_s + 86_400]
        if state.day_to_s > now_s:
            times.append(state.day_to_s)
        terms = fold.current
        if terms is not None:
            silent_s = silence.deadline_s(fold, terms)
            waits = silent_s <= now_s and self._ahead.explained_s(fold.heard_s, now_s, None) > 0
            times.append(now_s + LOOK_AGAIN_S if waits and now_s < state.day_to_s else silent_s)
            if terms.rules.duplicate is not None:
                times += [case.last_s + terms.rules.duplicate.within_s + 1 for case in state.cases.values()]
        for wanted in vehicle.wanted.values():
            if not wanted.asked:
                times.append(min(wanted.last_s + WANT_QUIET_S, wanted.first_s + WANT_LONGEST_S))
        return min(time_s for time_s in times if time_s > now_s)

    @staticmethod
    def _wants(vehicle: Vehicle, now_s: int, *, waiting: bool) -> Iterator[Want]:
        fold = vehicle.fold
        for from_s, wanted in sorted(vehicle.wanted.items()):
            ripe = now_s >= min(wanted.last_s + WANT_QUIET_S, wanted.first_s + WANT_LONGEST_S)
            if (ripe or not waiting) and not wanted.asked:
                wanted.asked = True
                arrival_ns = (from_s - FUTURE_S) * 1_000_000_000
                yield Want(fold.source, fold.device, arrival_ns, from_s, wanted.to_s)

    def _span(self, vehicle: Vehicle, from_s: int, to_s: int, judgements: tuple[Judgement, ...]) -> Span:
        device_class = vehicle.whos[vehicle.now_who][0] if vehicle.whos else ""
        return Span(
            vehicle.fold.source, vehicle.fold.device, device_class, self._privacy.get(device_class, "open"),
            from_s, to_s, judgements,
        )  # fmt: skip

    # ------------------------------------------------------------ days from the journal

    def history(self, want: Want, records: Sequence[Seen]) -> Span:
        """A day judged from its records; the vehicle goes on from there where its window lies in it."""
        name = (want.source, want.device)
        vehicle = self._vehicles.get(name)
        if vehicle is None:
            vehicle = self._vehicles[name] = Vehicle(*name, self._terms, self)
        vehicle.settle()
        moments = self._moments(vehicle, want, records)
        if vehicle.evicted is not None and want.from_utc_s <= vehicle.evicted[0] < want.to_utc_s:
            vehicle.rebuild(moments, want.from_utc_s)
            found = vehicle.found(self._now_s)
            kept = {event: one for event, one in vehicle.out.items() if event[0] >= want.to_utc_s}
            vehicle.out = {**kept, **{event: one for event, one in found.items() if event[0] < want.to_utc_s}}
            self._dirty.add(name)
            told = self._latest(found.values(), want)
        else:
            told = self._day(vehicle, moments, want)
        vehicle.forget_notes()
        vehicle.wanted.pop(want.from_utc_s, None)
        self._unsaved.add(name)
        return self._span(vehicle, want.from_utc_s, want.to_utc_s, tuple(told))

    def _moments(self, vehicle: Vehicle, want: Want, records: Sequence[Seen]) -> list[Moment]:
        """Moments of the wanted day."""
        found: list[Moment] = []
        for seen in records:
            if seen.seq > self._seq:
                continue
            book = self._books.at(seen.seq)
            who = self._who(vehicle, seen.data)
            if seen.kind == kinds.POSITION:
                found += moments_of(seen.seq, seen.arrival_utc_ns // 1_000_000_000, seen.data, book, who)
            elif seen.kind == kinds.DEVICE_STATE:
                kept, self._book_seq = self._book_seq, book
                found += list(self._of_state(seen, vehicle, who))
                self._book_seq = kept
        return sorted({one for one in found if want.from_utc_s <= one.time_s < want.to_utc_s})

    def _day(self, vehicle: Vehicle, moments: Sequence[Moment], want: Want) -> list[Judgement]:
        fold = Fold(want.source, want.device, lambda book, who, time_s: self._terms(vehicle, book, who, time_s), self)
        for moment in moments:
            fold.take(moment)
        if vehicle.last is not None and vehicle.last[0] >= want.to_utc_s:
            return self._latest([*fold.told, *fold.at_end(None)], want)
        fold.heard_s = vehicle.fold.heard_s
        return self._latest([*fold.told, *fold.tail(max(self._now_s, 0))], want)

    @staticmethod
    def _latest(told: Iterable[Judgement], want: Want) -> list[Judgement]:
        """The last telling of each event that starts in the day."""
        events: dict[Event, Judgement] = {}
        for judgement in told:
            if want.from_utc_s <= judgement.start_utc_s < want.to_utc_s:
                events[event_of(judgement)] = judgement
        return [events[event] for event in sorted(events)]

    # ------------------------------------------------------------ memory

    def checkpoint(self) -> list[tuple[bytes, bytes | None]]:
        """What has changed: one value for each vehicle that was judged, and one for all."""
        common = _Common(self._seq, self._outages, self._privacy)
        pairs: list[tuple[bytes, bytes | None]] = [(_JUDGE, msgspec.msgpack.encode(common))]
        for name in sorted(self._unsaved | self._dirty):
            vehicle = self._vehicles.get(name)
            pairs.append((_VEHICLE + "\n".join(name).encode(), vehicle.stored() if vehicle is not None else None))
        self._unsaved = set()
        return pairs

    def restore(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin from an earlier run. Books come from the journal."""
        for key, value in pairs:
            if key == _JUDGE:
                self._restore_common(value)
            elif key.startswith(_VEHICLE):
                source, _, device = key[len(_VEHICLE) :].decode(errors="replace").partition("\n")
                vehicle = Vehicle(source, device, self._terms, self)
                try:
                    vehicle.load(value)
                except ValueError:
                    vehicle.lost = True
                self._vehicles[source, device] = vehicle
                self._dirty.add((source, device))

    def _restore_common(self, value: bytes) -> None:
        try:
            common = msgspec.msgpack.decode(value, type=_Common)
        except (msgspec.DecodeError, msgspec.ValidationError):
            return
        self._seq, self._outages, self._privacy = common.seq, common.outages, common.privacy
        self._ahead = self._outages.copy()  # before any record is heard, what is explained is so already
