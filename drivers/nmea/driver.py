"""The session of one NMEA receiver: bytes and time in, commands out. No socket, no clock, no thread.

It reads sentences, joins them to epochs, and decides what becomes a record: fixes thinned to `interval_s`, changes of
state (heard or not, fix or not, antenna) and, at a falling rate, what could not be read. One session per receiver;
events and `now` (a reading of the gateway's clock) come from drivers.io.receivers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from drivers.nmea import drafts
from drivers.nmea.codec import parse
from drivers.nmea.drafts import Author
from drivers.nmea.epochs import Epochs, Fix, Skies, weeks_1024_off
from drivers.nmea.fields import DAY_NS, SECOND_NS
from drivers.nmea.framing import Decoder, Malformed, Sentence
from drivers.nmea.messages import Gsv, Unknown
from gateway.core.instant import NOT_BEFORE_NS, Instant
from gateway.core.record import Draft

STATE_REST_NS: Final = 5 * SECOND_NS
STATE_BURST: Final = 6
"""A state that wavers is told six times at once, then at most so often; the last one is always told."""
GAP_MIN_NS: Final = 60 * SECOND_NS
GAP_MAX_NS: Final = 3600 * SECOND_NS
"""What cannot be read is told at once, then after 60 s, then at double the time each, up to an hour."""
UNREADABLE_NS: Final = 5 * SECOND_NS
UNREADABLE_BYTES: Final = 200
"""So long and so much without one sentence: this is no NMEA, or the speed of the line is wrong."""
NO_FIX_NS: Final = 120 * SECOND_NS
"""A receiver that starts cold needs a minute; after two a person should know."""
STOOD_STILL_NS: Final = SECOND_NS
"""A receiver whose clock stands still is not thinned away for ever."""
FIXES_PER_S: Final = 20
FIXES_BURST: Final = 1200
"""Stored fixes on average, and at once after a silence: a minute's backlog of the fastest receivers."""
HEARD_MAX: Final = 8
SKIES_MAX: Final = 32
JITTER_NS: Final = 100_000_000
"""Of the receivers' own times of day, where they are thinned."""
SKY_NS: Final = 10 * SECOND_NS
BAUDS: Final = "4800, 9600, 38400, 115200"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration says, and what the kind of link does."""

    interval_s: float = 1.0
    silent_s: float = 30.0
    flush_s: float = 0.3
    """An epoch ends when nothing came for so long; networks deliver it in pieces and need more."""
    datagrams: bool = False
    """A sentence ends with its datagram."""
    listens: bool = False
    """The other side comes by itself: its absence at the start is no news, and where it cannot be read it goes."""
    hint: str = "the other side speaks something else"
    """What to check where bytes come and no sentence."""
    mark_uncertainty_ns: int | None = None
    """None: no source of time. How late what comes by this link may be."""


# --------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Opened:
    """The link is there: a port, a connection, the first datagram."""

    address: str


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes as they came."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many bytes came and were dropped before this session saw them: the store was full."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The link has ended, or could not be opened."""

    reason: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Timer:
    """`deadline_ns` is reached."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The gateway stops: what is unfinished comes out, and no state changes."""


Event = Opened | Received | Dropped | Closed | Timer | Ended


# ------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Emit:
    """Store these before the next event."""

    drafts: tuple[Draft, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """Counters of the source."""

    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class SetState:
    """How the receiver is, for people."""

    state: Literal["ok", "degraded", "down"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """The satellites' time: at `mono_ns` it was `utc_ns`, give or take."""

    utc_ns: int
    mono_ns: int
    uncertainty_ns: int


@dataclass(frozen=True, slots=True)
class Close:
    """Open the link anew: it is half dead."""

    reason: str


Command = Emit | Count | SetState | Mark | Close


@dataclass(slots=True)
class _Told:
    """A state as it was last told. A new one is told at once, as long as it does not waver."""

    value: str = ""
    rested_ns: int = 0
    """When all that was told will have been rested for."""
    waiting: tuple[str, Draft] | None = None

    def see(self, value: str, draft: Callable[[], Draft]) -> None:
        """It is so now; `draft` says it."""
        self.waiting = None if value == self.value else (value, draft())

    @property
    def due_ns(self) -> int | None:
        """When to tell; None where there is nothing new."""
        return None if self.waiting is None else self.rested_ns - (STATE_BURST - 1) * STATE_REST_NS

    def take(self, now_ns: int) -> Draft | None:
        """The record, if it is time."""
        due_ns = self.due_ns
        if self.waiting is None or due_ns is None or now_ns < due_ns:
            return None
        self.value, draft = self.waiting
        self.rested_ns, self.waiting = max(self.rested_ns, now_ns) + STATE_REST_NS, None
        return draft


@dataclass(slots=True)
class _Gaps:
    """What could not be read since it was last told."""

    reasons: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    first: Malformed | None = None
    pause_ns: int = GAP_MIN_NS
    told_ns: int | None = None

    def add(self, item: Malformed) -> None:
        self.first = self.first or item
        self.reasons[item.reason] += 1
        self.size_bytes += len(item.raw)

    @property
    def due_ns(self) -> int | None:
        """When to tell; None where there is nothing to tell."""
        if self.first is None:
            return None
        return 0 if self.told_ns is None else self.told_ns + self.pause_ns

    def take(self, author: Author, now_ns: int) -> Draft | None:
        """The record of everything so far."""
        first = self.first
        if first is None:
            return None
        calm = self.told_ns is None or now_ns - self.told_ns > 2 * self.pause_ns
        self.pause_ns = GAP_MIN_NS if calm else min(2 * self.pause_ns, GAP_MAX_NS)
        self.told_ns = now_ns
        reasons = dict(sorted(self.reasons.items()))
        most = max(reasons, key=lambda reason: reasons[reason])
        values: dict[str, Any] = {
            "reasons": reasons,
            "size_bytes": self.size_bytes,
            "first_reason": first.reason,
            "detail": first.detail[: drafts.TEXT_MAX],
        }
        count = sum(reasons.values())
        self.reasons.clear()
        self.size_bytes, self.first = 0, None
        return drafts.gap_draft(author, most, count, values, first.raw)


class Session:
    """One receiver. `handle` gives commands in the order in which they are to be obeyed."""

    def __init__(self, author: Author, limits: Limits) -> None:
        self.author = author
        self.limits = limits
        self.heard = False
        """Whether sentences come."""
        self.is_open = False
        self.worked = False
        """The link has brought a sentence since it was opened last."""
        self._interval_ns = int(limits.interval_s * 1e9)
        self._silent_ns = int(limits.silent_s * 1e9)
        self._flush_ns = int(limits.flush_s * 1e9)
        self._out: list[Command] = []
        self._drafts: list[Draft] = []
        self._counts: Counter[str] = Counter()
        # the link
        self._address = ""
        self._joining = False
        self._decoder = Decoder()
        self._epochs = Epochs()
        self._skies = Skies()
        self._sky: dict[tuple[str, int | None], tuple[int, int, int]] = {}
        self._times: dict[int, int] = {}
        """Time of day of an epoch → when its first sentence came."""
        self._bytes_ns = self._sentence_ns = self._epoch_ns = 0
        self._unread_bytes = 0
        self._flush_waits = False
        # what is told
        self._gaps = _Gaps()
        self._link, self._fix, self._antenna = _Told(), _Told(), _Told()
        self._antenna_worked = False
        """A passive antenna is "open" from the beginning, and works."""
        self._void_since_ns: int | None = None
        # the last stored fix
        self._stored: tuple[int, int] | None = None
        self._store_next = False
        self._tokens = float(FIXES_BURST)
        self._tokens_ns = 0

    # ------------------------------------------------------------------------------------------ seam

    def handle(self, event: Event, now: Instant) -> list[Command]:
        """What follows from an event. Never raises for what a receiver sends."""
        match event:
            case Opened(address):
                self._opened(address, now)
            case Received(data):
                self._received(data, now)
            case Dropped(size_bytes):
                self._dropped(size_bytes)
            case Closed(reason, address):
                self._closed(reason, address or self._address, now)
            case Timer():
                self._timer(now)
            case Ended():
                self._finish(now)
                self._tell_gaps(now)
        return self._taken()

    def deadline_ns(self) -> int | None:
        """When a Timer is wanted, on the axis of Instant.mono_ns; None: never."""
        due = [self._gaps.due_ns, *(told.due_ns for told in self._tellable())]
        if self.is_open:
            due.append(self._bytes_ns + self._silent_ns)
            if self.heard or self.limits.listens:
                due.append(self._sentence_ns + self._silent_ns)
            if self._flush_waits:
                due.append(self._bytes_ns + self._flush_ns)
        return min((at for at in due if at is not None), default=None)

    @property
    def known(self) -> bool:
        """Whether a record says that it was online."""
        return bool(self._link.value)

    def quiet_ns(self, mono_ns: int) -> int:
        """How long nothing has come."""
        return mono_ns - self._bytes_ns

    def _taken(self) -> list[Command]:
        found = self._out
        if self._drafts:
            found = [Emit(tuple(self._drafts)), *found]
        if self._counts:
            found = [*found, Count(dict(self._counts))]
        self._out, self._drafts, self._counts = [], [], Counter()
        return found

    # ------------------------------------------------------------------------------------------ link

    def _opened(self, address: str, now: Instant) -> None:
        self.is_open, self._address, self._joining = True, address, True
        self._decoder, self._epochs, self._skies = Decoder(), Epochs(), Skies()
        self._times.clear()
        self._bytes_ns = self._sentence_ns = self._epoch_ns = now.mono_ns
        self._unread_bytes = 0
        self.worked = False
        self._counts["links"] += 1

    def _closed(self, reason: str, address: str, now: Instant) -> None:
        self._finish(now)
        if self.is_open:
            self._counts["link_failures"] += 1
        self.is_open = False
        self._offline(reason, address)
        self._tell_due(now)

    def _offline(self, reason: str, address: str) -> None:
        """A record when it goes, and where it is awaited also when it is not there at the start."""
        if self._link.value or self.heard or not self.limits.listens:
            draft = drafts.state_draft(self.author, "offline", reason, {"address": address})
            self._link.see("offline", lambda: draft)
        self.heard = False
        self._fix.value, self._fix.waiting = "", None
        self._void_since_ns = None
        self._out.append(SetState("down", reason))

    def _finish(self, now: Instant) -> None:
        for item in self._decoder.close():
            self._item(item, now)
        self._flush(now)

    def _dropped(self, size_bytes: int) -> None:
        """What follows does not continue what came before: the decoder begins anew."""
        self._drafts.append(drafts.gap_draft(self.author, "overflow", 1, {"size_bytes": size_bytes}))
        self._counts["gaps"] += 1
        self._counts["bytes_dropped"] += size_bytes
        self._decoder, self._joining = Decoder(), True

    # ----------------------------------------------------------------------------------------- bytes

    def _received(self, data: bytes, now: Instant) -> None:
        self._bytes_ns = now.mono_ns
        self._counts["bytes"] += len(data)
        self._unread_bytes += len(data)
        for item in self._decoder.feed(data):
            self._item(item, now)
        if self.limits.datagrams:
            for item in self._decoder.close():
                self._item(item, now)
        self._flush_waits = True
        self._tell_due(now)
        self._judge_state(now)

    def _item(self, item: Sentence | Malformed, now: Instant) -> None:
        if isinstance(item, Malformed):
            self._malformed(item)
            return
        message = parse(item)
        if isinstance(message, Malformed):
            self._malformed(message)
            return
        self._joining, self.worked = False, True
        self._counts["sentences"] += 1
        self._sentence_ns, self._unread_bytes = now.mono_ns, 0
        if not self.heard:
            self._online(now)
        if isinstance(message, Gsv):
            self._look_up(message, now)
        elif isinstance(message, Unknown):
            self._read_text(item, message)
            self._tell_due(now)
        fix = self._epochs.push(item, message, _about(now))
        if fix is not None:
            self._ended(fix, now)
        time_ns = getattr(message, "time_ns", None)
        if time_ns is not None and time_ns not in self._times:
            if len(self._times) >= HEARD_MAX:
                del self._times[next(iter(self._times))]
            self._times[time_ns] = now.mono_ns

    def _online(self, now: Instant) -> None:
        self.heard = True
        self._epoch_ns = now.mono_ns
        values = {"address": self._address}
        self._link.see("online", lambda: drafts.state_draft(self.author, "online", "sentences come", values))
        self._tell_due(now)

    def _malformed(self, item: Malformed) -> None:
        self._counts["malformed"] += 1
        joining, self._joining = self._joining, False
        if joining and item.reason == "noise" and len(item.raw) <= self._decoder.limits.sentence_max:
            return  # the rest of the sentence in whose middle the link began: counted only
        self._gaps.add(item)

    def _look_up(self, part: Gsv, now: Instant) -> None:
        sky = self._skies.push(part)
        if sky is not None and ((sky.talker, sky.signal) in self._sky or len(self._sky) < SKIES_MAX):
            snr_db = max((one.snr_db or 0 for one in sky.satellites), default=0)
            self._sky[sky.talker, sky.signal] = (now.mono_ns, len(sky.satellites), snr_db)

    def _in_view(self, now: Instant) -> dict[str, int]:
        """Satellites in view, of each system the most over its signals, and the strongest."""
        most: dict[str, int] = {}
        strongest_db = 0
        for (talker, _), (at_ns, count, snr_db) in self._sky.items():
            if now.mono_ns - at_ns <= SKY_NS:
                most[talker] = max(most.get(talker, 0), count)
                strongest_db = max(strongest_db, snr_db)
        return {"in_view": sum(most.values()), "snr_max_db": strongest_db} if most else {}

    def _read_text(self, sentence: Sentence, message: Unknown) -> None:
        antenna = drafts.antenna_of(message.fields[-1]) if message.kind == "TXT" and message.fields else None
        if antenna is None:
            return
        values = {"antenna": antenna, "before": self._antenna.value}
        text = f"the receiver says of its antenna: {antenna}"
        self._antenna_worked = self._antenna_worked or antenna == "ok"
        self._antenna.see(
            antenna, lambda: drafts.state_draft(self.author, "antenna", text, values, sentence.raw + b"\r\n")
        )

    # ----------------------------------------------------------------------------------------- fixes

    def _flush(self, now: Instant) -> None:
        self._flush_waits = False
        fix = self._epochs.flush(_about(now))
        if fix is not None:
            self._ended(fix, now)

    def _ended(self, fix: Fix, now: Instant) -> None:
        """An epoch is complete."""
        self._counts["epochs"] += 1
        self._epoch_ns = now.mono_ns
        self._mark(fix, now)
        state, reason = ("fix", "the receiver has a fix") if fix.valid else ("no-fix", "the receiver has no fix")
        self._fix.see(
            state, lambda: drafts.state_draft(self.author, state, reason, self._in_view(now), drafts.raw_of(fix))
        )
        self._tell_due(now)
        if fix.valid:
            self._void_since_ns = None
            self._store(fix, now)
        else:
            self._counts["void_epochs"] += 1
            self._void_since_ns = now.mono_ns if self._void_since_ns is None else self._void_since_ns

    def _store(self, fix: Fix, now: Instant) -> None:
        """Thinned by the receiver's own time of day: a backlog that comes at once is thinned as it was measured."""
        if not self._store_next and self._stored is not None:
            time_ns, mono_ns = self._stored
            since_ns = (fix.time_ns - time_ns) % DAY_NS + min(self._interval_ns // 10, JITTER_NS)
            if since_ns < self._interval_ns and now.mono_ns - mono_ns < self._interval_ns + STOOD_STILL_NS:
                self._counts["fixes_thinned"] += 1
                return
        if not self._may_store(now):
            self._counts["fixes_refused"] += 1
            self._gaps.add(Malformed("flood", f"more than {FIXES_PER_S} fixes per second", drafts.raw_of(fix)))
            return
        self._store_next = False
        self._stored = (fix.time_ns, now.mono_ns)
        self._drafts.append(drafts.position_draft(self.author, fix, now.utc_ns))
        self._counts["position_records"] += 1

    def _may_store(self, now: Instant) -> bool:
        """Whether the average allows one more record."""
        passed_s = max(now.mono_ns - self._tokens_ns, 0) / 1e9
        self._tokens = min(self._tokens + passed_s * FIXES_PER_S, float(FIXES_BURST))
        self._tokens_ns = now.mono_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _mark(self, fix: Fix, now: Instant) -> None:
        """Only of a fix that satellites measured, dated by its own sentences, and at a date that can be."""
        mono_ns = self._times.pop(fix.time_ns, None)
        uncertainty_ns = self.limits.mark_uncertainty_ns
        if mono_ns is None or uncertainty_ns is None or fix.utc_ns is None or not fix.usable or fix.flags:
            return
        if weeks_1024_off(fix.utc_ns, _about(now)) or fix.utc_ns < NOT_BEFORE_NS:
            self._counts["marks_refused"] += 1
            return
        self._counts["marks"] += 1
        self._out.append(Mark(fix.utc_ns, mono_ns, uncertainty_ns))

    # ----------------------------------------------------------------------------------- what is told

    def _timer(self, now: Instant) -> None:
        if self._flush_waits and now.mono_ns >= self._bytes_ns + self._flush_ns:
            self._flush(now)
        if self.is_open:
            self._watch(now)
        self._tell_due(now)
        self._judge_state(now)

    def _watch(self, now: Instant) -> None:
        """A line that is silent does not hang up, and a half-open connection does not either."""
        silent = now.mono_ns >= self._bytes_ns + self._silent_ns
        unread = now.mono_ns >= self._sentence_ns + self._silent_ns
        if not silent and not (unread and (self.heard or self.limits.listens)):
            return
        reason = f"{'nothing' if silent else 'no readable sentence'} received for {self.limits.silent_s:g} s"
        self._finish(now)
        self._offline(reason, self._address)
        self._counts["silences"] += 1
        self._sentence_ns = now.mono_ns
        if silent or self.limits.listens:
            self._bytes_ns = now.mono_ns
            self._out.append(Close(reason))

    def _judge_state(self, now: Instant) -> None:
        if not self.is_open:
            return
        if not self.heard:
            if self._unread_bytes >= UNREADABLE_BYTES and now.mono_ns - self._sentence_ns >= UNREADABLE_NS:
                text = f"no readable sentence in {self._unread_bytes} bytes: {self.limits.hint}"
                self._out.append(SetState("degraded", text))
            return
        problem = ""
        if self._antenna.value in {"open", "short"} and (self._antenna_worked or self._fix.value == "no-fix"):
            problem = f"the antenna is {self._antenna.value}: check its cable and plug"
        elif self._void_since_ns is not None and now.mono_ns - self._void_since_ns >= NO_FIX_NS:
            problem = "no fix: check the antenna and its view of the sky"
        elif now.mono_ns - self._epoch_ns >= self._silent_ns:
            problem = "sentences come, but none with a position: switch RMC and GGA on in the receiver"
        self._out.append(SetState("degraded" if problem else "ok", problem))

    def _tell_due(self, now: Instant) -> None:
        for told in self._tellable():
            draft = told.take(now.mono_ns)
            if draft is not None:
                self._drafts.append(draft)
                self._counts["states"] += 1
                self._store_next = self._store_next or told is self._fix
        due_ns = self._gaps.due_ns
        if due_ns is not None and now.mono_ns >= due_ns:
            self._tell_gaps(now)

    def _tellable(self) -> list[_Told]:
        """The fix of a receiver that is told to be offline would say the contrary."""
        return [self._link, *([self._fix] if self._link.value == "online" else []), self._antenna]

    def _tell_gaps(self, now: Instant) -> None:
        draft = self._gaps.take(self.author, now.mono_ns)
        if draft is not None:
            self._drafts.append(draft)
            self._counts["gaps"] += 1


def _about(now: Instant) -> int:
    """About now, also on a box that believes in 1970: against it rolled over weeks are found."""
    return max(now.utc_ns, NOT_BEFORE_NS)
