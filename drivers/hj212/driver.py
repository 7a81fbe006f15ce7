"""The session of an HJ 212 source: all its connections, lines and monitors, as a pure function of events and time.

    commands = session.handle(event, now)        never raises for what monitors send
    session.deadline_ns()                        when TimerFired is due, on the axis of Instant.mono_ns

The order is the promise: everything that says "taken" to a monitor is the `ack` of an `Emit`, and the runner writes it
after the commit. What a connection may cost has a limit in `Limits`, and what happens beyond it stands in
drivers/README.md. One monitor never costs another one more than its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from drivers.hj212.acts import (
    Answer,
    BytesReceived,
    Close,
    Command,
    DevicesChanged,
    Event,
    KeysChanged,
    LineFailed,
    LinkDown,
    LinkUp,
    Out,
    Pause,
    Request,
    Resume,
    Send,
    Shutdown,
    StoreResumed,
    TimerFired,
)
from drivers.hj212.codec import FLAG_ANSWER, Frame, Malformed, Message, Variant, encode
from drivers.hj212.drafts import Drafts
from drivers.hj212.intake import Intake, beijing
from drivers.hj212.keys import KeyRing
from drivers.hj212.links import FLOOD_WINDOW_NS, Link
from drivers.hj212.monitors import PERIOD_PREFIX, Monitors
from drivers.hj212.parts import PREFIX as PARTS_PREFIX
from drivers.hj212.parts import stored
from drivers.hj212.requests import ANSWER_NS, OFFLINE, TOTAL_S, WAITING_MAX, Waiting, compose
from drivers.repeats import PREFIX as REPEATS_PREFIX
from drivers.repeats import Repeats
from drivers.tallies import Key, Tallies
from drivers.wishes import WishError
from gateway.core import kinds
from gateway.core.instant import Instant
from gateway.core.ports import Outcome
from gateway.devices import Devices

SECOND_NS: Final = 1_000_000_000
ROUNDS_MAX: Final = 4096
"""Commits whose messages are known after a restart: a monitor repeats one for 40 s."""
SWEEP_NS: Final = SECOND_NS
LOOK_AFTER_NS: Final = 3 * SECOND_NS
"""Bytes that wait for more so long are searched for a whole frame behind a false head."""
ST_USUAL: Final = "31"
"""ST of an order to a monitor that has not said its own: air pollution source."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration sets (Hj212Config)."""

    silent_s: float = 60.0
    idle_s: float = 900.0
    frames_per_s_max: int = 50
    unlisted_per_s_max: int = 5
    junk_max_bytes: int = 65_536
    """Bytes without a good frame between them, after which a connection is closed."""


class Session:
    """One source."""

    def __init__(
        self,
        source: str,
        limits: Limits,
        devices: Devices,
        keys: KeyRing | None = None,
        crc: Variant = "hj212",
        remembered: Iterable[tuple[bytes, bytes]] = (),
        now_ns: int = 0,
    ) -> None:
        """`crc`: for monitors of which the devices file says nothing; `remembered`: the pairs that StateChanges
        left; `now_ns`: the time of the start, for parts among them."""
        pairs = list(remembered)
        self._limits = limits
        self._tallies = Tallies()
        drafts = self._drafts = Drafts(source)
        periods = [pair for pair in pairs if pair[0][:1] == PERIOD_PREFIX]
        self.monitors: Final = Monitors(source, devices, crc, periods)
        self.repeats: Final = Repeats(source, [pair for pair in pairs if pair[0][:1] == REPEATS_PREFIX], ROUNDS_MAX)
        self._intake = Intake(
            source, self.monitors, keys or KeyRing(), self._tallies, drafts, self.repeats, limits.unlisted_per_s_max
        )
        for raw in stored([pair for pair in pairs if pair[0][:1] == PARTS_PREFIX]):
            self._intake.restore(raw, now_ns)
        self._links: dict[int, Link] = {}
        self._sweep_ns: int | None = None
        self._grace_ns = 0
        self._last_qn = ""
        self._frames = self._malformed = self._closed = 0

    def deadline_ns(self) -> int | None:
        """When TimerFired is due."""
        intake = self._intake
        times = (self._sweep_ns, self._tallies.deadline_ns, intake.desk.deadline_ns, intake.parts.deadline_ns)
        return min((at for at in times if at is not None), default=None)

    def counters(self) -> dict[str, int]:
        """What has been counted since the start, and how many are there now."""
        return {
            "frames": self._frames,
            "malformed": self._malformed,
            "links_closed": self._closed,
            "links": len(self._links),
            "online": sum(1 for monitor in self.monitors if monitor.link is not None),
            "waiting_sets": len(self._intake.parts),
            **self._intake.counters,
        }

    def handle(self, event: Event, now: Instant) -> Sequence[Command]:
        """What one event brings about."""
        match event:
            case BytesReceived():
                link = self._links.get(event.link)
                return self._bytes(link, event.content, now) if link is not None and not link.closing else ()
            case LinkUp():
                self._links[event.link] = Link(
                    event.link, event.address, self.monitors, now.mono_ns, is_line=event.is_line
                )
                if self._sweep_ns is None:
                    self._sweep_ns = now.mono_ns + SWEEP_NS
                return ()
            case LinkDown():
                return self._down(event, now)
            case LineFailed():
                out = Out(None)
                facts = {"state": "offline", "detail": event.reason}
                self._intake.states.note(Key(kinds.DEVICE_STATE, "line", ""), facts, b"", now.mono_ns, out)
                return out.done()
            case TimerFired():
                return self._fired(now)
            case Request():
                return self._request(event, now)
            case DevicesChanged():
                return self._devices_changed(event.devices, now)
            case KeysChanged():
                self._intake.keys = event.keys
                return ()
            case StoreResumed():
                self._grace_ns = now.mono_ns
                return ()
            case Shutdown():
                return self._shutdown(now)

    # ---------------------------------------------------------------- bytes

    def _bytes(self, link: Link, content: bytes, now: Instant) -> Sequence[Command]:
        link.bytes_ns = now.mono_ns
        link.is_looked_into = False
        out = Out(link.to)
        self._found(link, link.decoder.feed(content), now, out)
        return out.done()

    def _found(self, link: Link, found: Iterable[Frame | Malformed], now: Instant, out: Out) -> None:
        for one in found:
            if link.closing:
                break
            if type(one) is Frame:
                self._frame(link, one, now, out)
            elif isinstance(one, Malformed):
                self._junk(link, one, now, out)

    def _frame(self, link: Link, frame: Frame, now: Instant, out: Out) -> None:
        self._frames += 1
        now_ns = now.mono_ns
        link.good_frames += 1
        link.junk_bytes = 0
        link.heard_ns = now_ns
        if link.is_above(self._limits.frames_per_s_max, now_ns) and not link.paused:
            subject = link.monitor.mn if link.monitor is not None else ""
            detail = f"more than {self._limits.frames_per_s_max} frames per second; read more slowly"
            self._intake.gap(subject, "flood", {"detail": detail, "address": link.address}, b"", now, out)
            link.paused = True
            out.commands.append(Pause(link.to))
        self._intake.take(link, frame, now, out)

    def _junk(self, link: Link, found: Malformed, now: Instant, out: Out) -> None:
        """Bytes that are no frame."""
        self._malformed += 1
        link.junk_bytes += found.size_bytes
        subject = link.monitor.mn if link.monitor is not None else ""
        facts = {"detail": found.detail, "address": link.address}
        self._intake.gap(subject, found.reason, facts, found.raw, now, out)
        if link.junk_bytes > self._limits.junk_max_bytes and not link.is_line:
            self._close(link, "no frames", out)

    def _close(self, link: Link, reason: str, out: Out) -> None:
        link.closing = reason
        out.commands.append(Close(link.to))

    # ---------------------------------------------------------------- ends and times

    def _down(self, event: LinkDown, now: Instant) -> Sequence[Command]:
        link = self._links.pop(event.link, None)
        if link is None:
            return ()
        out = Out(None)
        if not link.closing:
            self._found(link, link.decoder.finish(), now, out)
        self._gone(link, link.closing or event.reason, now, out)
        return out.done()

    def _gone(self, link: Link, reason: str, now: Instant, out: Out) -> None:
        self._closed += 1
        link.closing = link.closing or reason
        for monitor in link.monitors.values():
            self._intake.leaves(monitor, link, reason, now.mono_ns, out)

    def _fired(self, now: Instant) -> Sequence[Command]:
        commands: list[Command] = []
        now_ns = now.mono_ns
        if self._sweep_ns is not None and self._sweep_ns <= now_ns:
            for link in list(self._links.values()):
                out = Out(link.to)
                self._look_at(link, now, out)
                commands += out.done()
            rest = Out(None)
            self._intake.states.tell_later(now_ns, rest)
            commands += rest.done()
            self._sweep_ns = now_ns + SWEEP_NS if self._links or len(self._intake.states) else None
        out = Out(None)
        self._intake.parts_due(now, out)
        self._orders_due(now_ns, out)
        out.drafts += [self._drafts.tally(tally) for tally in self._tallies.due(now_ns)]
        return [*commands, *out.done()]

    def _look_at(self, link: Link, now: Instant, out: Out) -> None:
        """Once per second: reading that goes on, bytes that wait in vain, silence that ends it."""
        now_ns = now.mono_ns
        if link.closing:
            return
        if link.paused and link.quota_ns - FLOOD_WINDOW_NS <= now_ns:
            link.paused = False
            out.commands.append(Resume(link.to))
        if link.decoder.held_bytes and not link.is_looked_into and now_ns - link.bytes_ns >= LOOK_AFTER_NS:
            link.is_looked_into = True
            self._found(link, link.decoder.look_inside(), now, out)
        idle_ns = round(self._limits.idle_s * SECOND_NS)
        since_ns = max(link.heard_ns, self._grace_ns)
        if link.is_line or len(link.monitors) > 1:
            for monitor in list(link.monitors.values()):
                if now_ns - max(monitor.heard_ns, self._grace_ns) >= idle_ns:
                    self._intake.leaves(monitor, link, "silent", now_ns, out)
                    del link.monitors[monitor.mn]
                    link.monitor = None
        if link.is_line or link.paused:
            return
        silent_ns = round(self._limits.silent_s * SECOND_NS)
        if link.good_frames == 0 and now_ns - max(link.opened_ns, self._grace_ns) >= silent_ns:
            self._close(link, "silent", out)
        elif now_ns - since_ns >= idle_ns:
            self._close(link, "idle", out)

    # ---------------------------------------------------------------- from our side

    def _devices_changed(self, devices: Devices, now: Instant) -> Sequence[Command]:
        self.monitors.use(devices)
        out = Out(None)
        for link in self._links.values():
            self._intake.listed_anew(link, now.mono_ns, out)
        return out.done()

    def _request(self, event: Request, now: Instant) -> Sequence[Command]:
        monitor = self.monitors.get(event.identity)
        if monitor is None or monitor.link is None:
            text = OFFLINE if monitor is not None else f"no device {event.identity[:64]!r} at this source"
            return [Answer(event.ticket, Outcome("offline" if monitor is not None else "unknown", text))]
        if self._intake.desk.count(monitor.mn) >= WAITING_MAX:
            text = f"{WAITING_MAX} orders wait for this device already; try again when they are through"
            return [Answer(event.ticket, Outcome("refused", text))]
        qn = beijing(now.utc_ns)
        if qn <= self._last_qn:  # two orders in one millisecond, or a clock that was set back
            qn = str(int(self._last_qn) + 1)
        self._last_qn = qn
        try:
            wish = compose(event.action, event.parameters, beijing(now.utc_ns)[:14])
        except WishError as error:
            return [Answer(event.ticket, Outcome("refused", str(error)))]
        flag = (monitor.version << 2) & 0xFC | FLAG_ANSWER
        st = monitor.st or ST_USUAL
        frame = encode(Message(qn, st, wish.cn, monitor.password, monitor.mn, flag, cp=wish.cp), monitor.crc)
        end_ns = now.mono_ns + TOTAL_S * SECOND_NS
        waiting = Waiting(event.ticket, monitor.mn, qn, wish, frame, now.mono_ns + ANSWER_NS, end_ns)
        self._intake.desk.wait(waiting)
        return [Send(monitor.link, frame)]

    def _orders_due(self, now_ns: int, out: Out) -> None:
        again, over = self._intake.desk.due(now_ns)
        for one in again:
            monitor = self.monitors.get(one.mn)
            if monitor is not None and monitor.link is not None:
                out.commands.append(Send(monitor.link, one.frame))
        out.commands += [Answer(one.ticket, outcome) for one, outcome in over]

    def _shutdown(self, now: Instant) -> Sequence[Command]:
        out = Out(None)
        for link in list(self._links.values()):
            self._gone(link, "shutdown", now, out)
        self._intake.states.tell_later(now.mono_ns, out, all_of_them=True)
        out.drafts += [self._drafts.tally(tally) for tally in self._tallies.close()]
        self._links.clear()
        return out.done()
