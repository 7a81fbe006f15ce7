"""The device's side of HJ 212: one monitor as a pure session, for tests, benches and the demo.

Time is an argument (monotonic seconds); what is measured comes from `drivers.fleet.kitchens`. A monitor keeps every
message until 9014 with its QN has come, sends the same bytes again after T, three times, then gives the link up and
begins over the next one. `Truth` knows what was measured and what was acknowledged. What real ones do against the
standard are `oddities`:

    no-crlf        nothing behind the CRC
    no-qn          no QN and no Flag (2005): nothing can be acknowledged, so it sends once and forgets
    qn-13          QN of 13 digits, as a number of milliseconds
    bad-crc-once   each tenth message goes out with a wrong CRC at first
    sticky         sends when three messages are together, or after a while
    torn           each eighth time that it sends, the last third comes half a second late
    long           an item of 1,100 characters more: longer than the standard allows
    doubled        each fifth message goes out twice

QN is the time of sending: right even while DataTime is of the past, as with a monitor that sends what it has stored.

It is written against the codec and the standard alone, not against our driver.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, Literal

from drivers.fleet.kitchens import Fume, Kitchen
from drivers.fleet.vehicles import DeviceClock
from drivers.hj212 import codec
from drivers.hj212.simulated import STS, VERSIONS, DialectName, Edition, digits, moment, period, utc_of

Oddity = Literal["no-crlf", "no-qn", "qn-13", "bad-crc-once", "sticky", "torn", "long", "doubled"]
ODDITIES: Final[tuple[Oddity, ...]] = (
    "no-crlf", "no-qn", "qn-13", "bad-crc-once", "sticky", "torn", "long", "doubled",
)  # fmt: skip
LOG_IN, LOGGED_IN, HEARTBEAT = "9021", "9022", "9015"
QUIET_S: Final = 5.0
"""After a link that answers nothing."""
TOGETHER: Final = 3
TOGETHER_S: Final = 3.0
TEAR_S: Final = 0.5
TEAR_EVERY: Final = 8
WAITING_MAX: Final = 1000
"""Messages made from one look at the time; more are made at the next."""
LONG_ITEM: Final = "x99999-Info=" + "7" * 1100
SLIP_EVERY: Final = 10
DOUBLE_EVERY: Final = 5
_READY, _UNKNOWN, _DONE = "1", "8", "1"
_MINUTES: Final = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)


@dataclass(frozen=True, slots=True)
class Habits:
    """How a monitor behaves."""

    dialect: DialectName = "fume-d1"
    edition: Edition = 2017
    oddities: frozenset[Oddity] = frozenset()
    pw: str = "123456"
    reply_timeout_s: float = 5.0
    retries: int = 3
    window: int = 4
    """Messages that wait for their answer at the same time."""
    minutes: int = 0
    """Length of the periods of 2051; 0: none are sent."""
    heartbeat_s: float = 60.0
    """9015, where nothing else is sent; 2025 only, the others have none."""
    key: bytes = b""
    """SM4 key; empty: nothing is encrypted. 2025 only."""
    stored_max: int = 50_000


@dataclass(slots=True)
class Truth:
    """What really happened to the measurements of one monitor, by their device time. Keeps the newest `kept_max`."""

    kept_max: int = 200_000
    measured: OrderedDict[int, Fume] = field(default_factory=OrderedDict)
    acknowledged: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    """Gone from the full memory of the monitor before any acknowledgement."""
    forgotten: set[int] = field(default_factory=set)
    """Sent by a monitor that wants no answer."""

    def add(self, seen: Fume) -> None:
        """A new measurement."""
        self.measured[seen.time_utc_s] = seen
        if len(self.measured) > self.kept_max:
            oldest, _ = self.measured.popitem(last=False)
            for kept in (self.acknowledged, self.dropped, self.forgotten):
                kept.discard(oldest)

    @property
    def unacknowledged(self) -> int:
        """Measurements that the monitor still holds."""
        return len(self.measured) - len(self.acknowledged | self.dropped | self.forgotten)


@dataclass(slots=True)
class Counts:
    """What went over the link."""

    frames: int = 0
    resent: int = 0
    damaged: int = 0
    links: int = 0
    answers: int = 0
    """Good frames that came from the platform."""
    orders: int = 0
    malformed: int = 0


@dataclass(slots=True)
class _Sent:
    """A message that waits for its 9014."""

    segment: codec.Message
    utc_s: int | None
    """Of the measurement; None for what is none."""
    deadline_s: float
    tries: int = 1


class Monitor:
    """One monitor. The caller opens a link when `wants_link`, hands over what comes, sends what is returned, and calls
    `due` at `deadline_s`: the life of `drivers.io.fleet_runner`."""

    def __init__(self, kitchen: Kitchen, clock: DeviceClock, habits: Habits | None = None) -> None:
        self.kitchen = kitchen
        self.clock = clock
        self.habits = habits or Habits()
        self.truth = Truth()
        self.counts = Counts()
        self.is_dead = False
        """The link answers nothing any more: the caller closes it."""
        self.interval_s = kitchen.interval_s
        self.minutes = self.habits.minutes
        self.clock_set_utc_s: int | None = None
        """What the newest 1012 said."""
        self.is_logged_in = False
        self._is_up = False
        self._next_utc_s = max(kitchen.start_utc_s, int(clock.start_utc_s))
        self._stored: OrderedDict[int, Fume] = OrderedDict()
        self._queue: deque[int] = deque()
        self._periods: deque[tuple[int, str]] = deque(maxlen=self.habits.stored_max)
        self._period: list[Fume] = []
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
        self._unanswered: list[_Sent] = []
        self._last_qn_ms = 0
        self._messages = 0
        self._sendings = 0
        self._quiet_until_s = 0.0
        self._last_sent_s = 0.0
        self._tail: tuple[bytes, float] | None = None
        """The second half of a torn frame, and when it goes out."""
        self._decoder = codec.Decoder()

    # ------------------------------------------------------------------------------------- the link

    def wants_link(self, mono_s: float) -> bool:
        """Whether it would open, or keep, a link now."""
        utc_s = self.clock.utc_s(mono_s)
        if utc_s < self.kitchen.start_utc_s or mono_s < self._quiet_until_s or not self.kitchen.reaches(utc_s):
            return False
        return not self.is_finished(mono_s)

    def is_finished(self, mono_s: float) -> bool:
        """Whether nothing will ever be sent again: its time is over, and everything is acknowledged."""
        end_utc_s = self.kitchen.end_utc_s
        if end_utc_s is None or self.clock.utc_s(mono_s) < end_utc_s:
            return False
        self._measure(mono_s)
        return not (self._stored or self._periods or self._sent or self._unanswered or self._tail)

    def link_up(self, mono_s: float) -> list[bytes]:
        """A link is open."""
        self.counts.links += 1
        self.is_dead, self._is_up, self._tail = False, True, None
        self._decoder = codec.Decoder()
        self._last_sent_s = mono_s
        self.is_logged_in = self.habits.dialect != "fume-d2"
        return [] if self.is_logged_in else self._send(self._message(LOG_IN, "", mono_s), mono_s)

    def link_down(self, mono_s: float) -> None:
        """The link is gone. What was not acknowledged is sent again over the next one, the same bytes."""
        self._measure(mono_s)
        self._is_up, self._tail = False, None
        self._unanswered += [one for one in self._sent.values() if one.segment.cn[:1] == "2"]
        self._sent.clear()

    def received(self, data: bytes, mono_s: float) -> list[bytes]:
        """Bytes came; what to send now."""
        out: list[bytes] = []
        for found in self._decoder.feed(data):
            if isinstance(found, codec.Malformed):
                self.counts.malformed += 1
                continue
            message = codec.parse_frame(found)
            if message.mn not in ("", self.kitchen.identity):
                self.counts.malformed += 1
                continue
            self.counts.answers += 1
            out += self._answered(message, mono_s)
        if self._tail is not None:  # nothing may come between the halves of a frame
            self._tail = (self._tail[0] + b"".join(out), self._tail[1])
            out = []
        return out + self.due(mono_s)

    def due(self, mono_s: float) -> list[bytes]:
        """What time has brought: new measurements, second attempts, a heartbeat."""
        self._measure(mono_s)
        if not self._is_up:
            return []
        tail = self._tail_of(mono_s)
        if self._tail is not None:
            return []
        out = self._again(mono_s)
        if self.is_logged_in:
            out += self._once_more(mono_s) + self._pump(mono_s)
        if not out and self.habits.edition == 2025 and mono_s - self._last_sent_s >= self.habits.heartbeat_s:
            out += self._send(self._message(HEARTBEAT, "", mono_s), mono_s)
        return tail + self._torn(out, mono_s)

    def deadline_s(self, mono_s: float) -> float:
        """When to call `due` next, or to look at `wants_link` again."""
        times = [one.deadline_s for one in self._sent.values()]
        times.append(self.clock.mono_s(self._next_utc_s))
        if self._tail is not None:
            times.append(self._tail[1])
        if self._queue and "sticky" in self.habits.oddities:
            times.append(self._last_sent_s + TOGETHER_S)
        if self.habits.edition == 2025:
            times.append(self._last_sent_s + self.habits.heartbeat_s)
        if self._quiet_until_s > mono_s:
            times.append(self._quiet_until_s)
        utc_s = self.clock.utc_s(mono_s)
        if (turn := next((one for one in self.kitchen.turns_s() if one > utc_s), None)) is not None:
            times.append(self.clock.mono_s(turn))
        if self.kitchen.end_utc_s is not None and utc_s < self.kitchen.end_utc_s:
            times.append(self.clock.mono_s(self.kitchen.end_utc_s))
        return max(min(times), mono_s)

    # ------------------------------------------------------------------------------------- measuring

    def _measure(self, mono_s: float) -> None:
        """Take every measurement that is due."""
        now_utc_s = int(self.clock.utc_s(mono_s))
        if self.kitchen.end_utc_s is not None:
            now_utc_s = min(now_utc_s, self.kitchen.end_utc_s - 1)
        while self._next_utc_s <= now_utc_s:
            utc_s, self._next_utc_s = self._next_utc_s, self._next_utc_s + self.interval_s
            seen = self.kitchen.measure(utc_s)
            if seen is None:
                continue
            self._close_period(seen)
            self.truth.add(seen)
            self._stored[utc_s] = seen
            self._queue.append(utc_s)
            if len(self._stored) > self.habits.stored_max:
                oldest, _ = self._stored.popitem(last=False)
                self.truth.dropped.add(oldest)

    def _close_period(self, seen: Fume) -> None:
        """A period of 2051 ends with the first measurement behind it."""
        if not self.minutes:
            return
        length_s = 60 * self.minutes
        if self._period and seen.time_utc_s // length_s != self._period[0].time_utc_s // length_s:
            begin = self._period[0].time_utc_s // length_s * length_s
            self._periods.append((begin, period(self._period, begin, self.habits.dialect)))
            self._period = []
        self._period.append(seen)

    # ------------------------------------------------------------------------------------- sending

    @property
    def _wants_answers(self) -> bool:
        return "no-qn" not in self.habits.oddities

    def _qn(self, mono_s: float) -> str:
        """The time of sending in milliseconds, never twice the same."""
        now_ms = int((self.clock.begin_utc_s + mono_s - self.clock.begin_mono_s) * 1000)
        self._last_qn_ms = max(now_ms, self._last_qn_ms + 1)
        seconds, rest = divmod(self._last_qn_ms, 1000)
        return str(self._last_qn_ms) if "qn-13" in self.habits.oddities else f"{digits(seconds)}{rest:03}"

    def _message(self, cn: str, cp: str, mono_s: float, *, backfill: bool = False) -> codec.Message:
        habits = self.habits
        odd = not self._wants_answers
        return codec.Message(
            qn="" if odd else self._qn(mono_s),
            st=STS[habits.dialect],
            cn=cn,
            pw=habits.pw,
            mn=self.kitchen.identity,
            flag=None if odd else VERSIONS[habits.edition] << 2 | codec.FLAG_ANSWER,
            backfill=backfill and habits.edition == 2025,
            cp=f"{cp};{LONG_ITEM}" if "long" in habits.oddities and cn == "2011" else cp,
        )

    def _send(self, message: codec.Message, mono_s: float, utc_s: int | None = None) -> list[bytes]:
        self._messages += 1
        if self._wants_answers:
            self._sent[message.qn] = _Sent(message, utc_s, mono_s + self.habits.reply_timeout_s)
        elif utc_s is not None:
            self._stored.pop(utc_s, None)
            self.truth.forgotten.add(utc_s)
        frame = self._frame(message)
        odd = self.habits.oddities
        if "bad-crc-once" in odd and self._messages % SLIP_EVERY == 3 and message.cn == "2011":
            self.counts.damaged += 1
            end = frame.rindex(b"&&") + 2
            frame = frame[:end] + b"%04X" % (int(frame[end : end + 4], 16) ^ 0x0100) + frame[end + 4 :]
        elif "doubled" in odd and self._messages % DOUBLE_EVERY == 2 and message.cn == "2011":
            self.counts.resent += 1
            return self._over_the_air([frame, frame], mono_s)
        return self._over_the_air([frame], mono_s)

    def _frame(self, message: codec.Message) -> bytes:
        is_secret = self.habits.key and (message.cn[:1] == "2" or message.cn in ("1014", "3020"))
        frame = codec.encode(message, key=self.habits.key if is_secret else None)
        return frame[:-2] if "no-crlf" in self.habits.oddities else frame

    def _over_the_air(self, frames: list[bytes], mono_s: float) -> list[bytes]:
        self._last_sent_s = mono_s
        self.counts.frames += len(frames)
        return frames

    def _torn(self, frames: list[bytes], mono_s: float) -> list[bytes]:
        if "torn" not in self.habits.oddities or not frames:
            return frames
        self._sendings += 1
        if self._sendings % TEAR_EVERY != 1:
            return frames
        whole = b"".join(frames)
        cut = len(whole) * 2 // 3
        self._tail = (whole[cut:], mono_s + TEAR_S)
        return [whole[:cut]]

    def _tail_of(self, mono_s: float) -> list[bytes]:
        if self._tail is None or self._tail[1] > mono_s:
            return []
        tail, _ = self._tail
        self._tail = None
        return [tail]

    def _again(self, mono_s: float) -> list[bytes]:
        """Second and later attempts, the same bytes; when they are used up the link is dead."""
        out: list[bytes] = []
        for one in [sent for sent in self._sent.values() if sent.deadline_s <= mono_s]:
            if one.tries > self.habits.retries:
                self.is_dead = True
                self._quiet_until_s = mono_s + QUIET_S
                return out
            one.tries += 1
            one.deadline_s = mono_s + self.habits.reply_timeout_s
            self.counts.resent += 1
            out += self._over_the_air([self._frame(one.segment)], mono_s)
        return out

    def _once_more(self, mono_s: float) -> list[bytes]:
        """What earlier links left without an answer."""
        out: list[bytes] = []
        for one in self._unanswered:
            one.tries, one.deadline_s = 1, mono_s + self.habits.reply_timeout_s
            self._sent[one.segment.qn] = one
            self.counts.resent += 1
            out += self._over_the_air([self._frame(one.segment)], mono_s)
        self._unanswered.clear()
        return out

    def _pump(self, mono_s: float) -> list[bytes]:
        """Send what waits, as far as the window allows."""
        if "sticky" in self.habits.oddities and len(self._queue) < TOGETHER:
            is_over = self.kitchen.end_utc_s is not None and self.clock.utc_s(mono_s) >= self.kitchen.end_utc_s
            if not is_over and mono_s - self._last_sent_s < TOGETHER_S:
                return []
        out: list[bytes] = []
        room = self.habits.window if self._wants_answers else WAITING_MAX
        while len(self._sent) < room and len(out) < WAITING_MAX:
            if self._queue:
                utc_s = self._queue.popleft()
                if (seen := self._stored.get(utc_s)) is None:
                    continue  # pushed out of the full memory
                late = self.kitchen.upset("late", utc_s) is not None
                message = self._message("2011", moment(seen, self.habits.dialect), mono_s, backfill=late)
                out += self._send(message, mono_s, utc_s)
            elif self._periods:
                _, cp = self._periods.popleft()
                out += self._send(self._message("2051", cp, mono_s), mono_s)
            else:
                break
        return out

    # ------------------------------------------------------------------------------------- receiving

    def _answered(self, message: codec.Message, mono_s: float) -> list[bytes]:
        if message.cn not in ("9013", "9014", LOGGED_IN):
            return [] if message.cn[:1] == "9" else self._order(message, mono_s)
        sent = self._sent.get(message.qn)
        if sent is None or (message.cn == "9014") is not (sent.segment.cn[:1] == "2"):
            return []
        del self._sent[message.qn]
        if sent.segment.cn == LOG_IN:
            self.is_logged_in = True
        if sent.utc_s is not None:
            self._stored.pop(sent.utc_s, None)
            self.truth.acknowledged.add(sent.utc_s)
        return []

    # ------------------------------------------------------------------------------------- orders

    def _order(self, message: codec.Message, mono_s: float) -> list[bytes]:
        """9011, then what was asked for, then 9012 (HJ 212-2017, 6.3)."""
        self.counts.orders += 1
        asked = self._carry_out(message, mono_s)
        if asked is None:
            return self._reply(message, "9011", f"QnRtn={_UNKNOWN}", mono_s)
        out = self._reply(message, "9011", f"QnRtn={_READY}", mono_s)
        if asked:
            out += self._reply(message, message.cn, asked, mono_s)
        return out + self._reply(message, "9012", f"ExeRtn={_DONE}", mono_s)

    def _carry_out(self, message: codec.Message, mono_s: float) -> str | None:
        """What is answered beside "done"; None for what it cannot do."""
        params = message.params
        match message.cn:
            case "1011":
                return f"SystemTime={digits(self.clock.begin_utc_s + mono_s - self.clock.begin_mono_s)}"
            case "1012":
                self.clock_set_utc_s = utc_of(params.get("SystemTime", ""))
                return "" if self.clock_set_utc_s is not None else None
            case "1061":
                return f"RtdInterval={self.interval_s}"
            case "1062":
                seconds = _number(params.get("RtdInterval", ""))
                if seconds is None or not 30 <= seconds <= 3600:
                    return None
                self.interval_s = seconds
                return ""
            case "1063":
                return f"MinInterval={self.minutes or 10}"
            case "1064":
                minutes = _number(params.get("MinInterval", ""))
                if minutes not in _MINUTES:
                    return None
                self.minutes, self._period = minutes, []
                return ""
            case "1000" | "2011" | "2012" | "2021" | "2022":
                return ""
        return None

    def _reply(self, order: codec.Message, cn: str, cp: str, mono_s: float) -> list[bytes]:
        answer = codec.Message(
            qn=order.qn,
            st="91" if cn[:1] == "9" else STS[self.habits.dialect],
            cn=cn,
            pw=self.habits.pw,
            mn=self.kitchen.identity,
            flag=VERSIONS[self.habits.edition] << 2,
            cp=cp,
        )
        return self._over_the_air([self._frame(answer)], mono_s)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
