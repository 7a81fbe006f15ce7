"""The device's side of JT/T 808: one terminal as a pure session, for tests, benches and the demo.

Time is an argument (monotonic seconds); what the vehicle measures comes from `drivers.fleet`. A terminal behaves as
real ones do: it registers, keeps its code, sends nothing else before its authentication has been answered, stores every
fix until 8001/0 has come for it, asks again with T(n+1) = T(n) x (n+1), and sends what could not be sent as a back-fill
(0704, type 1) over the next link. `Truth` knows what was measured and what was acknowledged.

It is written against the codec and the standard alone, not against our driver.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from drivers.fleet.vehicles import DeviceClock, Vehicle, bits_of
from drivers.jt808 import codec
from drivers.jt808.simulated import (
    EGS701,
    HEARTBEAT_S,
    INTERVAL_S,
    REPLY_TIMEOUT_S,
    RETRIES,
    Model,
    attributes_of,
    authentication_of,
    location_of,
    parameters_of,
    photo_of,
    registration_of,
)

PACKET_BYTES: Final = 900
"""Body of one packet of a photo."""
PHOTOS_MAX: Final = 32
"""Photos that wait for a link; more push the oldest out."""
PACKETED_MAX: Final = 16
"""Messages in packets that can be sent again in parts."""
ASK_AGAIN_S: Final = 5.0
"""After a refusal, or a link that answers nothing."""
FAILED, WRONG, UNSUPPORTED = 1, 2, 3
CODE_MAX: Final = 255
"""Bytes of an authentication code that 0102 of 2019 can carry."""
PARAMETERS_MAX: Final = 200
"""More than the standard has, and fewer than a BYTE can count; further ones are refused."""
SECONDS_MAX: Final = 86_400
_NOWHERE: Final = codec.Location(0, 0, 0, 0, 0, 0, 0, "0" * 12)
_SERIALS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Habits:
    """How a terminal behaves."""

    version: codec.Version = codec.Version.V2013
    model: Model = EGS701
    heartbeat_s: int = 30
    reply_timeout_s: int = 5
    retries: int = 3
    window: int = 8
    """Messages that wait for their answer at the same time."""
    batch: int = 15
    """Fixes in one 0704."""
    live_max: int = 5
    """With more fixes than this waiting on a good link, they go as one 0704 of type 0."""
    stored_max: int = 50_000
    loss_percent: float = 0.0
    damage_percent: float = 0.0
    over_udp: bool = False
    """Answers get lost too."""


@dataclass(slots=True)
class Truth:
    """What really happened to the fixes of one terminal, by their device time. Keeps the newest `kept_max`."""

    kept_max: int = 200_000
    measured: OrderedDict[int, codec.Location] = field(default_factory=OrderedDict)
    acknowledged: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    """Measured, but gone from the full memory of the terminal before any acknowledgement."""
    photos: dict[int, str] = field(default_factory=dict)
    """Media id → SHA-256 of the file."""
    photos_acknowledged: set[int] = field(default_factory=set)

    def add(self, utc_s: int, location: codec.Location) -> None:
        """A new fix."""
        self.measured[utc_s] = location
        if len(self.measured) > self.kept_max:
            oldest, _ = self.measured.popitem(last=False)
            self.acknowledged.discard(oldest)
            self.dropped.discard(oldest)

    def has_been_acknowledged(self, utc_s: int) -> None:
        """8001/0 has come for a fix, whether or not the terminal still held it."""
        if utc_s in self.measured:
            self.acknowledged.add(utc_s)
            self.dropped.discard(utc_s)

    @property
    def unacknowledged(self) -> int:
        """Fixes that the terminal still holds."""
        return len(self.measured) - len(self.acknowledged) - len(self.dropped)


@dataclass(slots=True)
class Counts:
    """What went over the link."""

    frames: int = 0
    lost: int = 0
    damaged: int = 0
    resent: int = 0
    links: int = 0
    answers: int = 0
    """Good frames that came from the platform."""
    refused: int = 0
    orders: int = 0
    malformed: int = 0


@dataclass(slots=True)
class _Sent:
    """A message that waits for its answer."""

    msg_id: int
    first_serial: int
    frames: tuple[bytes, ...]
    fixes: tuple[int, ...]
    deadline_s: float
    wait_s: float
    tries: int = 1
    media_id: int | None = None

    def is_answered_by(self, serial: int) -> bool:
        """One answer for all packets carries the number of the last one (or of the only one)."""
        return serial == (self.first_serial + len(self.frames) - 1) % _SERIALS


class Terminal:
    """One terminal. The caller opens a link when `wants_link`, hands over what comes, sends what is returned (each item
    is one frame, and one datagram over UDP), and calls `due` at `deadline_s`."""

    def __init__(self, vehicle: Vehicle, clock: DeviceClock, habits: Habits | None = None, code: str = "") -> None:
        self.vehicle = vehicle
        self.clock = clock
        self.habits = habits or Habits()
        self.address = codec.Address.of(vehicle.identity, self.habits.version)
        self.truth = Truth()
        self.counts = Counts()
        self.code = codec.Text.of(code)
        self.state: Literal["down", "registering", "authenticating", "online"] = "down"
        self.is_dead = False
        """The link answers nothing any more: the caller closes it."""
        self.parameters = parameters_of(
            vehicle, self.habits.heartbeat_s, self.habits.reply_timeout_s, self.habits.retries
        )
        self.texts: deque[str] = deque(maxlen=100)
        self.areas: dict[int, codec.Message] = {}
        """Message id → the newest areas or routes that were set."""
        self.downlink_serials: deque[int] = deque(maxlen=1000)
        self.answered: deque[tuple[int, int]] = deque(maxlen=1000)
        """Orders: (message id, serial number)."""
        self.server_time = ""
        self._serial = bits_of(vehicle.seed, 50, 0) & 0x3FF
        self._draws = 0
        self._next_utc_s = self._aligned(max(vehicle.start_utc_s, int(clock.start_utc_s)))
        self._stored: dict[int, codec.Location] = {}
        self._live: deque[int] = deque()
        self._backlog: deque[int] = deque()
        self._photos: OrderedDict[int, codec.Media] = OrderedDict()
        self._sent: dict[int, _Sent] = {}
        self._unanswered: list[_Sent] = []
        """From earlier links; no more than the window."""
        self._packeted: OrderedDict[int, tuple[bytes, ...]] = OrderedDict()
        self._quiet_until_s = 0.0
        self._last_sent_s = 0.0
        self._tracking: tuple[int, float] | None = None
        self._decoder = codec.Decoder()
        self._parts = codec.Reassembler()

    # ------------------------------------------------------------------------------------- the link

    def wants_link(self, mono_s: float) -> bool:
        """Whether it would open, or keep, a link now."""
        utc_s = self.clock.utc_s(mono_s)
        if utc_s < self.vehicle.start_utc_s or mono_s < self._quiet_until_s or not self.vehicle.reaches(utc_s):
            return False
        return not self.is_finished(mono_s)

    def is_finished(self, mono_s: float) -> bool:
        """Whether nothing will ever be sent again: its time is over, and everything is acknowledged."""
        end_utc_s = self.vehicle.end_utc_s
        if end_utc_s is None or self.clock.utc_s(mono_s) < end_utc_s:
            return False
        self._measure(mono_s)
        return not self._stored and not self._photos

    def link_up(self, mono_s: float) -> list[bytes]:
        """A link is open."""
        self.counts.links += 1
        self.is_dead = False
        self._decoder, self._parts = codec.Decoder(), codec.Reassembler()
        self._last_sent_s = mono_s
        return self._register(mono_s) if not self.code.raw else self._authenticate(mono_s)

    def link_down(self, mono_s: float) -> None:
        """The link is gone. What was sent and not acknowledged is sent again over the next one, the same bytes; what
        was not sent yet goes to the back-fill."""
        self._measure(mono_s)
        self.state = "down"
        self._parts.close()
        self._backlog = deque(sorted({*self._live, *self._backlog}))
        self._live.clear()
        self._unanswered += [one for one in self._sent.values() if one.fixes or one.media_id]
        self._sent.clear()

    def received(self, data: bytes, mono_s: float) -> list[bytes]:
        """Bytes came; what to send now."""
        out: list[bytes] = []
        for found in self._decoder.feed(data):
            if isinstance(found, codec.Malformed) or found.phone_field != self.address.phone_field:
                self.counts.malformed += 1
            elif not (self.habits.over_udp and self._draw(self.habits.loss_percent)):
                out += self._frame(found, mono_s)
        return out + self.due(mono_s)

    def due(self, mono_s: float) -> list[bytes]:
        """What time has brought: new fixes, second attempts, a heartbeat."""
        self._measure(mono_s)
        out = self._again(mono_s)
        if self.state == "online":
            out += self._pump(mono_s)
            out += self._missing_parts(mono_s)
            if not out and mono_s - self._last_sent_s >= self._number(HEARTBEAT_S):
                out += self._send(codec.Heartbeat(), mono_s, wants_answer=True)
        return out

    def deadline_s(self, mono_s: float) -> float:
        """When to call `due` next, or to look at `wants_link` again."""
        times = [one.deadline_s for one in self._sent.values()]
        times.append(self.clock.mono_s(self._next_utc_s))
        times.append(self._last_sent_s + self._number(HEARTBEAT_S))
        if self._quiet_until_s > mono_s:
            times.append(self._quiet_until_s)
        if (parts_ns := self._parts.deadline_ns) is not None:
            times.append(parts_ns / 1e9)
        utc_s = self.clock.utc_s(mono_s)
        if (turn := next((one for one in self.vehicle.turns_s() if one > utc_s), None)) is not None:
            times.append(self.clock.mono_s(turn))
        if self.vehicle.end_utc_s is not None and utc_s < self.vehicle.end_utc_s:
            times.append(self.clock.mono_s(self.vehicle.end_utc_s))
        return max(min(times), mono_s)

    # ------------------------------------------------------------------------------------- measuring

    def _aligned(self, utc_s: int) -> int:
        since_s, every_s = utc_s - self.vehicle.start_utc_s, self.vehicle.interval_s
        return self.vehicle.start_utc_s + -(-since_s // every_s) * every_s

    def _interval_s(self, mono_s: float) -> int:
        if self._tracking and mono_s < self._tracking[1]:
            return self._tracking[0]
        return self._number(INTERVAL_S)

    def _measure(self, mono_s: float) -> None:
        """Take every fix that is due; what is taken on a good link goes at once, the rest later."""
        now_utc_s = int(self.clock.utc_s(mono_s))
        if self.vehicle.end_utc_s is not None:
            now_utc_s = min(now_utc_s, self.vehicle.end_utc_s - 1)
        while self._next_utc_s <= now_utc_s:
            utc_s, self._next_utc_s = self._next_utc_s, self._next_utc_s + self._interval_s(mono_s)
            seen = self.vehicle.measure(utc_s)
            if seen is None:
                continue
            location = location_of(seen, self.habits.model, self.habits.version)
            self.truth.add(utc_s, location)
            self._stored[utc_s] = location
            is_live = self.state != "down" and self.vehicle.reaches(utc_s)
            (self._live if is_live else self._backlog).append(utc_s)
            if len(self._stored) > self.habits.stored_max:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._stored))
        del self._stored[oldest]
        self.truth.dropped.add(oldest)
        for queue in (self._backlog, self._live):
            if oldest in queue:
                queue.remove(oldest)

    def shoot(self, mono_s: float, channel: int = 1, event: int = 0) -> int:
        """Take a photo; it is sent over the next good link. Its media id."""
        media_id = (bits_of(self.vehicle.seed, 51, 0) & 0xFFFF) << 12 | len(self.truth.photos) + 1
        photo = photo_of(media_id, channel, event, self._here(mono_s), self.vehicle.seed)
        self.truth.photos[media_id] = hashlib.sha256(photo.payload).hexdigest()
        self._photos[media_id] = photo
        while len(self._photos) > PHOTOS_MAX:
            self._photos.popitem(last=False)
        return media_id

    def _here(self, mono_s: float) -> codec.Location:
        """Where it is now; a dead terminal answers nothing, so the last fix stands in."""
        utc_s = int(self.clock.utc_s(mono_s))
        seen = self.vehicle.measure(utc_s)
        if seen is not None:
            return location_of(seen, self.habits.model, self.habits.version)
        return next(reversed(self.truth.measured.values()), _NOWHERE)

    # ------------------------------------------------------------------------------------- sending

    def _number(self, parameter_id: int) -> int:
        """A parameter that is a number of seconds or tries, whatever was set."""
        return min(max(int.from_bytes(self.parameters[parameter_id], "big"), 1), SECONDS_MAX)

    def _register(self, mono_s: float) -> list[bytes]:
        self.state = "registering"
        message = registration_of(self.vehicle, self.habits.model, self.habits.version)
        return self._send(message, mono_s, wants_answer=True)

    def _authenticate(self, mono_s: float) -> list[bytes]:
        self.state = "authenticating"
        return self._send(authentication_of(self.code, self.vehicle, self.habits.version), mono_s, wants_answer=True)

    def _send(
        self, message: codec.Message, mono_s: float, *, wants_answer: bool = False, fixes: tuple[int, ...] = ()
    ) -> list[bytes]:
        first, frames = self._serial, codec.encode(message, self.address, self._serial, part_bytes=PACKET_BYTES)
        self._serial = (self._serial + len(frames)) % _SERIALS
        if len(frames) > 1:
            self._packeted[first] = frames
            while len(self._packeted) > PACKETED_MAX:
                self._packeted.popitem(last=False)
        if wants_answer:
            wait_s = float(self._number(REPLY_TIMEOUT_S))
            media_id = message.event.media_id if isinstance(message, codec.Media) else None
            self._sent[first] = _Sent(message.MSG_ID, first, frames, fixes, mono_s + wait_s, wait_s, media_id=media_id)
        return self._over_the_air(frames, mono_s)

    def _over_the_air(self, frames: Iterable[bytes], mono_s: float) -> list[bytes]:
        """What arrives of them."""
        self._last_sent_s = mono_s
        out = []
        for frame in frames:
            self.counts.frames += 1
            if self._draw(self.habits.loss_percent):
                self.counts.lost += 1
            elif self._draw(self.habits.damage_percent):
                self.counts.damaged += 1
                out.append(damaged(frame, self.vehicle.seed + self._draws))
            else:
                out.append(frame)
        return out

    def _draw(self, percent: float) -> bool:
        self._draws += 1
        return percent > 0 and bits_of(self.vehicle.seed, 52, self._draws) % 100_000 < percent * 1000

    def _again(self, mono_s: float) -> list[bytes]:
        """Second and later attempts, the same bytes; when they are used up the link is dead."""
        out: list[bytes] = []
        for one in [sent for sent in self._sent.values() if sent.deadline_s <= mono_s]:
            if one.tries > self._number(RETRIES):
                self.is_dead = True
                self._quiet_until_s = mono_s + ASK_AGAIN_S
                return out
            one.tries += 1
            one.wait_s *= one.tries
            one.deadline_s = mono_s + one.wait_s
            self.counts.resent += len(one.frames)
            out += self._over_the_air(one.frames, mono_s)
        return out

    def _once_more(self, mono_s: float) -> list[bytes]:
        """What earlier links left without an answer."""
        out: list[bytes] = []
        for one in self._unanswered:
            one.tries, one.wait_s = 1, float(self._number(REPLY_TIMEOUT_S))
            one.deadline_s = mono_s + one.wait_s
            self._sent[one.first_serial] = one
            self.counts.resent += len(one.frames)
            out += self._over_the_air(one.frames, mono_s)
        self._unanswered.clear()
        return out

    def _pump(self, mono_s: float) -> list[bytes]:
        """Send what waits, as far as the window allows."""
        out: list[bytes] = []
        while len(self._sent) < self.habits.window:
            if len(self._live) > self.habits.live_max:
                out += self._send_batch(self._take(self._live), 0, mono_s)
            elif self._live:
                utc_s = self._live.popleft()
                out += self._send(self._stored[utc_s], mono_s, wants_answer=True, fixes=(utc_s,))
            elif self._backlog:
                out += self._send_batch(self._take(self._backlog), codec.LocationBatch.BACKFILL, mono_s)
            elif self._photos and not any(one.media_id for one in self._sent.values()):
                out += self._send(next(iter(self._photos.values())), mono_s, wants_answer=True)
            else:
                break
        return out

    def _take(self, queue: deque[int]) -> tuple[int, ...]:
        """The next fixes of a queue; a terminal that keeps no order takes them anywhere."""
        if not self.vehicle.shuffled or queue is self._live:
            return tuple(queue.popleft() for _ in range(min(self.habits.batch, len(queue))))
        mixed = sorted(queue, key=lambda utc_s: bits_of(self.vehicle.seed, 53, utc_s))
        taken = tuple(mixed[: self.habits.batch])
        for utc_s in taken:
            queue.remove(utc_s)
        return taken

    def _send_batch(self, fixes: tuple[int, ...], kind: int, mono_s: float) -> list[bytes]:
        batch = codec.LocationBatch.of((self._stored[utc_s] for utc_s in fixes), kind)
        return self._send(batch, mono_s, wants_answer=True, fixes=fixes)

    # ------------------------------------------------------------------------------------- receiving

    def _frame(self, frame: codec.Frame, mono_s: float) -> list[bytes]:
        self.counts.answers += 1
        self.downlink_serials.append(frame.serial)
        if not frame.total:
            return self._message(codec.parse(frame, self.habits.version), frame.serial, mono_s)
        out: list[bytes] = []
        for found in self._parts.add(frame, int(mono_s * 1e9)):
            if isinstance(found, codec.Assembled):
                message = codec.parse_body(found.msg_id, found.body, self.habits.version)
                out += self._message(message, found.frames[-1].serial, mono_s)
        return out

    def _missing_parts(self, mono_s: float) -> list[bytes]:
        out: list[bytes] = []
        for found in self._parts.due(int(mono_s * 1e9)):
            if isinstance(found, codec.Missing) and self.habits.version is codec.Version.V2019:
                out += self._send(codec.TerminalResendRequest(found.first_serial, found.parts), mono_s)
        return out

    def _message(self, message: codec.Message, serial: int, mono_s: float) -> list[bytes]:
        match message:
            case codec.TerminalReply() | codec.TerminalResendRequest():
                return []
            case codec.RegistrationReply():
                return self._registered(message, mono_s)
            case codec.GeneralReply():
                return self._acknowledged(message, mono_s)
            case codec.ResendRequest():
                return self._resend(message.first_serial, message.parts, mono_s)
            case codec.MediaReply():
                return self._media_reply(message, mono_s)
            case codec.ServerTime():
                self.server_time = message.time_bcd
                return []
        if self.state != "online":
            return []
        self.counts.orders += 1
        self.answered.append((message.MSG_ID, serial))
        return self._order(message, serial, mono_s)

    def _registered(self, reply: codec.RegistrationReply, mono_s: float) -> list[bytes]:
        if self.state != "registering" or self._sent.pop(reply.reply_serial, None) is None:
            return []
        if reply.result != codec.RegistrationReply.ACCEPTED or len(reply.code.raw) > CODE_MAX:
            return self._refused(mono_s)
        self.code = codec.Text(reply.code.raw)
        return self._authenticate(mono_s)

    def _refused(self, mono_s: float) -> list[bytes]:
        self.counts.refused += 1
        self.is_dead = True
        self._quiet_until_s = mono_s + ASK_AGAIN_S
        return []

    def _acknowledged(self, reply: codec.GeneralReply, mono_s: float) -> list[bytes]:
        sent = next((one for one in self._sent.values() if one.is_answered_by(reply.reply_serial)), None)
        if sent is None or sent.msg_id != reply.reply_id:
            return []
        if sent.msg_id == codec.Authentication.MSG_ID:
            del self._sent[sent.first_serial]
            if reply.result:
                self.code = codec.Text(b"")
                return self._refused(mono_s)
            self.state = "online"
            is_new = self.habits.version is codec.Version.V2019
            out = self._send(codec.TimeQuery(), mono_s) if is_new and not self.server_time else []
            return out + self._once_more(mono_s)
        if reply.result not in (0, 4) or sent.media_id is not None:
            return []  # asked again when its time is over; a photo is finished by 8800 alone
        del self._sent[sent.first_serial]
        for utc_s in sent.fixes:
            self._stored.pop(utc_s, None)
            self.truth.has_been_acknowledged(utc_s)
        return []

    def _resend(self, first_serial: int, parts: Sequence[int], mono_s: float) -> list[bytes]:
        """8003, 8800: exactly the original packets."""
        frames = self._packeted.get(first_serial, ())
        wanted = [frames[part - 1] for part in parts if 1 <= part <= len(frames)]
        self.counts.resent += len(wanted)
        if sent := self._sent.get(first_serial):
            sent.deadline_s = mono_s + sent.wait_s
        return self._over_the_air(wanted, mono_s)

    def _media_reply(self, reply: codec.MediaReply, mono_s: float) -> list[bytes]:
        sent = next((one for one in self._sent.values() if one.media_id == reply.media_id), None)
        if sent is None:
            return []
        if reply.parts:
            return self._resend(sent.first_serial, reply.parts, mono_s)
        del self._sent[sent.first_serial]
        self._photos.pop(reply.media_id, None)
        self.truth.photos_acknowledged.add(reply.media_id)
        return []

    # ------------------------------------------------------------------------------------- orders

    def _order(self, message: codec.Message, serial: int, mono_s: float) -> list[bytes]:
        """What the platform wants, and the answer that the standard names for it."""
        match message:
            case codec.QueryLocation():
                return self._send(codec.LocationAnswer(serial, self._here(mono_s)), mono_s)
            case codec.QueryParameters():
                return self._tell_parameters(serial, self.parameters, mono_s)
            case codec.QueryListed():
                return self._tell_parameters(serial, message.ids, mono_s)
            case codec.Shoot():
                return self._shoot(message, serial, mono_s)
            case codec.Opaque(MSG_ID=0x8107):
                return self._send(attributes_of(self.vehicle, self.habits.model), mono_s)
            case codec.SetParameters():
                return self._send(codec.TerminalReply(serial, message.MSG_ID, self._set(message)), mono_s)
            case codec.Track():
                valid_s = mono_s + (message.validity_s or 0)
                self._tracking = (message.interval_s, valid_s) if message.interval_s else None
                self._next_utc_s = min(self._next_utc_s, int(self.clock.utc_s(mono_s)) + self._interval_s(mono_s))
            case codec.DriverText():
                self.texts.append(message.text.text)
            case codec.SetCircles() | codec.SetRectangles() | codec.SetPolygon() | codec.SetRoute():
                self.areas[message.MSG_ID] = message
            case codec.DeleteCircles() | codec.DeleteRectangles() | codec.DeletePolygons() | codec.DeleteRoutes():
                self.areas.pop(message.MSG_ID - 1, None)
            case codec.Opaque(MSG_ID=(0x8105 | 0x8203 | 0x8204)):
                pass
            case _:
                result = WRONG if isinstance(message, codec.Opaque) and message.reason == "malformed" else UNSUPPORTED
                return self._send(codec.TerminalReply(serial, message.MSG_ID, result), mono_s)
        return self._send(codec.TerminalReply(serial, message.MSG_ID), mono_s)

    def _set(self, message: codec.SetParameters) -> int:
        wanted = self.parameters | {one.id: one.raw for one in message.parameters}
        if len(wanted) > PARAMETERS_MAX:
            return FAILED
        self.parameters = wanted
        return 0

    def _tell_parameters(self, serial: int, ids: Iterable[int], mono_s: float) -> list[bytes]:
        known = tuple(codec.Parameter(one, self.parameters[one]) for one in ids if one in self.parameters)
        return self._send(codec.ParameterAnswer(serial, known), mono_s)

    def _shoot(self, order: codec.Shoot, serial: int, mono_s: float) -> list[bytes]:
        """0805 (not in 2011), then the photos. No video, and at most ten photos."""
        count = 0 if order.command in (order.STOP, order.VIDEO) else min(order.command, 10)
        ids = [self.shoot(mono_s, order.channel) for _ in range(count)]
        if self.habits.version is codec.Version.V2011:
            result = UNSUPPORTED if order.command == order.VIDEO else 0
            return self._send(codec.TerminalReply(serial, order.MSG_ID, result), mono_s)
        result = 2 if order.command == order.VIDEO else 0
        body = serial.to_bytes(2, "big") + bytes([result]) + len(ids).to_bytes(2, "big")
        body += b"".join(one.to_bytes(4, "big") for one in ids)
        return self._send(codec.Opaque(0x0805, body, "unknown"), mono_s)


def damaged(frame: bytes, seed: int) -> bytes:
    """A frame with errors of a bad line: changed bytes, a cut, noise; whatever is left, it is no frame any more."""
    for attempt in range(100):
        bits = bits_of(seed, 54, attempt)
        at, kind = 1 + (bits >> 8) % (len(frame) - 2), bits & 3
        if kind == 0:
            broken = frame[: max(at, 2)]
        elif kind == 1:
            broken = frame[:at] + bytes([0x7D, bits >> 40 & 0xFF]) + frame[at + 1 :]
        else:
            broken = frame[:at] + bytes([frame[at] ^ (1 << (bits >> 40 & 7))]) + frame[at + 1 :]
        if not any(isinstance(found, codec.Frame) for found in codec.read_datagram(broken)):
            return broken
    return frame[:2]
