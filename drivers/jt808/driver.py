"""The session of a JT/T 808 source: all its connections and terminals, as a pure function of events and time.

    commands = session.handle(event, now)        never raises for what terminals send
    session.deadline_ns()                        when TimerFired is due, on the axis of Instant.mono_ns

The order is the promise: everything that says "taken" to a terminal is the `ack` of an `Emit`, and the runner writes
it after the commit. What a connection may cost has a limit in `Limits`, and what happens beyond it stands in
drivers/README.md. One terminal never costs another one more than its share.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from drivers.jt808.acts import (
    Answer,
    BytesReceived,
    Command,
    DatagramReceived,
    DevicesChanged,
    Event,
    Kept,
    LinkDown,
    LinkUp,
    Out,
    Pause,
    Request,
    Resume,
    Shutdown,
    StoreResumed,
    TimerFired,
)
from drivers.jt808.admission import Admission
from drivers.jt808.codec import (
    Abandoned,
    Address,
    Assembled,
    EncodeError,
    Frame,
    Malformed,
    Missing,
    Reassembler,
    ResendRequest,
    encode,
    read_datagram,
)
from drivers.jt808.drafts import Drafts
from drivers.jt808.intake import Intake, Whole, server_time
from drivers.jt808.links import FLOOD_WINDOW_NS, PARTS, Link
from drivers.jt808.requests import OFFLINE, WAITING_MAX, Desk, Waiting, compose
from drivers.jt808.terminals import Terminal, Terminals
from drivers.repeats import Repeats
from drivers.tallies import Tallies
from drivers.wishes import WishError
from gateway.core.instant import Instant
from gateway.core.ports import Outcome
from gateway.devices import Devices

SECOND_NS: Final = 1_000_000_000
PARTS_BUDGET_BYTES: Final = 32 * 1024 * 1024
"""Packets that wait for others, of all terminals of a source; above it the one that holds most loses them."""
RESEND_PARTS_MAX: Final = 200
"""Packets asked for in one 8003."""
PEERS_MAX: Final = 50_000
"""Terminals that are online over UDP."""
LOOK_NS: Final = 60 * SECOND_NS
REGISTER, AUTHENTICATE, LOG_OFF, TIME_QUERY, LOCATION = 0x0100, 0x0102, 0x0003, 0x0004, 0x0200


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration sets (gateway.config_sources.Jt808Config)."""

    silent_s: float = 60.0
    idle_s: float = 900.0
    frames_per_s_max: int = 100
    junk_max_bytes: int = 65_536
    """Bytes without a good frame between them, after which a connection is closed."""


class Session:
    """One source."""

    def __init__(
        self,
        source: str,
        limits: Limits,
        devices: Devices,
        secret: bytes,
        remembered: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """`secret`: 32 bytes that stay the same over restarts; `remembered`: the pairs that StateChanges left."""
        pairs = list(remembered)
        self._limits = limits
        self.terminals: Final = Terminals(devices, secret, [pair for pair in pairs if pair[0][:1] == b"t"])
        self.repeats: Final = Repeats(source, [pair for pair in pairs if pair[0][:1] == b"d"])
        self._tallies = Tallies()
        self._desk = Desk()
        drafts = self._drafts = Drafts(source)
        self._admission = Admission(source, self.terminals, drafts, self._tallies, self._schedule)
        self._intake = Intake(source, drafts, self.repeats, self._desk, self._tallies)
        self._links: dict[int, Link] = {}
        self._peers: dict[str, Link] = {}
        self._timers: list[tuple[int, int, Link | Terminal | int]] = []
        self._timer_count = 0
        self._grace_ns = 0
        self._parts_bytes = 0
        self._frames = self._malformed = self._closed = 0

    def deadline_ns(self) -> int | None:
        """When TimerFired is due."""
        first = self._timers[0][0] if self._timers else None
        tallies = self._tallies.deadline_ns
        return tallies if first is None else first if tallies is None else min(first, tallies)

    def counters(self) -> dict[str, int]:
        """What has been counted since the start, and how many are there now."""
        return {
            "frames": self._frames,
            "malformed": self._malformed,
            "links_closed": self._closed,
            "links": len(self._links),
            "online": sum(1 for terminal in self.terminals if terminal.link is not None),
            **self._admission.counters,
            **self._intake.counters,
        }

    def handle(self, event: Event, now: Instant) -> Sequence[Command]:
        """What one event brings about."""
        match event:
            case BytesReceived():
                link = self._links.get(event.link)
                return self._bytes(link, event.content, now) if link is not None and not link.closing else ()
            case DatagramReceived():
                return self._datagram(event, now)
            case LinkUp():
                self._links[event.link] = link = Link(event.link, event.host, event.port, now.mono_ns)
                self._look_again(link, now.mono_ns)
                return ()
            case LinkDown():
                return self._down(event, now)
            case TimerFired():
                return self._fired(now)
            case Request():
                return self._request(event, now)
            case Kept():
                return self._intake.kept(event, now).done()
            case DevicesChanged():
                return self._devices_changed(event.devices, now)
            case StoreResumed():
                self._grace_ns = now.mono_ns
                return ()
            case Shutdown():
                return self._shutdown(now)

    # ---------------------------------------------------------------- bytes

    def _bytes(self, link: Link, content: bytes, now: Instant) -> Sequence[Command]:
        assert link.decoder is not None  # noqa: S101  a TCP link
        out = Out(link.to)
        for found in link.decoder.feed(content):
            if link.closing:
                break
            if type(found) is Frame:
                self._frame(link, found, now, out)
            elif isinstance(found, Malformed):
                self._junk(link, found, now.mono_ns, out)
        return out.done()

    def _datagram(self, event: DatagramReceived, now: Instant) -> Sequence[Command]:
        commands: list[Command] = []
        for found in read_datagram(event.content):
            out = Out(event.sender)
            if isinstance(found, Malformed):
                self._junk(Link(event.sender, *event.sender, now.mono_ns), found, now.mono_ns, out)
            else:
                self._peer_frame(found, event.sender, now, out)
            commands += out.done()
        return commands

    def _peer_frame(self, frame: Frame, sender: tuple[str, int], now: Instant, out: Out) -> None:
        """UDP: the terminal's own link, wherever it sends from; a passing one for those that are not let in."""
        identity = frame.identity
        link = self._peers.get(identity)
        if link is None or link.terminal is None:
            link = Link(sender, *sender, now.mono_ns)
        elif link.to != sender:
            self._moved(link, link.terminal, sender, now.mono_ns, out)
        self._frame(link, frame, now, out)
        if link.terminal is not None and self._peers.get(identity) is not link:
            if len(self._peers) >= PEERS_MAX:
                self._admission.leave(link, "too many terminals", now.mono_ns, out)
                return
            self._peers[identity] = link
            self._look_again(link, now.mono_ns)

    def _moved(self, link: Link, terminal: Terminal, sender: tuple[str, int], now_ns: int, out: Out) -> None:
        """Mobile networks change a sender's address; an address that comes back is a second sender."""
        old, before = (link.host, link.port), link.address
        link.to, (link.host, link.port) = sender, sender
        if link.previous == sender:
            self._admission.duplicate(terminal, link.address, before, now_ns - link.heard_ns, now_ns, out)
        link.previous = old

    def _frame(self, link: Link, frame: Frame, now: Instant, out: Out) -> None:
        """One good frame."""
        self._frames += 1
        now_ns = now.mono_ns
        link.good_frames += 1
        link.junk_bytes = 0
        link.heard_ns = now_ns
        terminal = link.terminal
        msg_id = frame.msg_id
        if link.is_above(self._limits.frames_per_s_max, now_ns) and self._flood(link, frame, now_ns, out):
            return
        if terminal is None or frame.phone_field != link.phone_field:
            terminal = self._who(link, frame, now, out)
            if terminal is None:
                return
        if msg_id == LOCATION and not frame.total and not frame.encryption and LOCATION not in terminal.messages:
            if self._intake.location(terminal, frame, now, out):
                return
        elif msg_id == REGISTER:
            self._admission.register(link, frame, now_ns, out)
            return
        elif msg_id == AUTHENTICATE:
            self._admission.authenticate(link, frame, now_ns, out)
            return
        elif msg_id == LOG_OFF:
            self._admission.log_off(link, terminal, frame, now_ns, out)
            return
        if frame.total and not frame.encryption:
            self._part(link, terminal, frame, now, out)
        else:
            self._intake.take(terminal, Whole((frame,), frame.body), now, out)

    def _who(self, link: Link, frame: Frame, now: Instant, out: Out) -> Terminal | None:
        """Whose frame it is, where the frame before does not tell; None where it is dealt with, or not taken."""
        identity, msg_id, now_ns = frame.identity, frame.msg_id, now.mono_ns
        terminal = link.terminal
        if terminal is not None:
            if terminal.identity == identity:
                terminal.meet(frame)
                link.phone_field = frame.phone_field
                return terminal
            facts = {"detail": f"a frame of {identity} on the connection of another terminal", "address": link.address}
            self._intake.gap(terminal.identity, "identity", facts, frame.raw, now_ns, out)
            return None
        if msg_id == REGISTER:
            self._admission.register(link, frame, now_ns, out)
        elif msg_id == AUTHENTICATE:
            self._admission.authenticate(link, frame, now_ns, out)
        elif msg_id == TIME_QUERY:
            out.sent += encode(server_time(now), Address.of_frame(frame), link.next_serial())
        elif not self.terminals.needs_code(identity) and (welcome := self.terminals.let_in(identity)) is not None:
            self._admission.join(link, welcome, frame, "needs no code", now_ns, out)
            return welcome
        else:
            listed = self.terminals.takes(identity)
            self._admission.refuse(link, frame, "not authenticated" if listed else "not listed", now_ns, out)
        return None

    def _flood(self, link: Link, frame: Frame, now_ns: int, out: Out) -> bool:
        """More frames than one terminal may send: TCP is read more slowly, of UDP the frame is not taken."""
        facts = {"detail": f"more than {self._limits.frames_per_s_max} frames per second", "address": link.address}
        subject = link.terminal.identity if link.terminal is not None else ""
        if isinstance(link.to, int):
            if not link.paused:
                self._intake.gap(subject, "flood", facts, b"", now_ns, out)
                link.paused = True
                out.commands.append(Pause(link.to))
                self._schedule(link.quota_ns - FLOOD_WINDOW_NS, link)
            return False
        link.quota_ns -= SECOND_NS // self._limits.frames_per_s_max
        self._intake.gap(subject, "flood", facts, frame.raw, now_ns, out)
        return True

    def _junk(self, link: Link, found: Malformed, now_ns: int, out: Out) -> None:
        """Bytes that are no frame."""
        self._malformed += 1
        link.junk_bytes += len(found.raw)
        subject = link.terminal.identity if link.terminal is not None else ""
        facts = {"detail": found.detail, "address": link.address}
        self._intake.gap(subject, found.reason, facts, found.raw, now_ns, out)
        if link.junk_bytes > self._limits.junk_max_bytes:
            self._admission.close(link, "no frames", out)

    # ---------------------------------------------------------------- packets

    def _part(self, link: Link, terminal: Terminal, frame: Frame, now: Instant, out: Out) -> None:
        if link.parts is None:
            link.parts = Reassembler(PARTS)
        before = link.parts.held_bytes
        self._joined(link, terminal, link.parts.add(frame, now.mono_ns), now, out)
        self._parts_bytes += link.parts.held_bytes - before
        if self._parts_bytes > PARTS_BUDGET_BYTES:
            self._shed(now, out)
        self._watch_parts(link)

    def _joined(
        self, link: Link, terminal: Terminal, found: Iterable[Assembled | Missing | Abandoned], now: Instant, out: Out
    ) -> None:
        for one in found:
            match one:
                case Assembled():
                    self._intake.take(terminal, Whole(one.frames, one.body, one.consecutive), now, out)
                case Missing():
                    for at in range(0, len(one.parts), RESEND_PARTS_MAX):
                        some = one.parts[at : at + RESEND_PARTS_MAX]
                        out.sent.append(terminal.write(ResendRequest(one.first_serial, some))[1])
                case Abandoned():
                    first = one.frames[0]
                    detail = f"message {first.msg_id:04x}: {len(one.frames)} of {first.total} packets"
                    facts = {"detail": detail, "address": link.address}
                    self._intake.gap(terminal.identity, f"packets-{one.reason}", facts, first.raw, now.mono_ns, out)

    def _watch_parts(self, link: Link) -> None:
        deadline_ns = link.parts.deadline_ns if link.parts else None
        if deadline_ns is not None and not link.parts_due:
            link.parts_due = True
            self._schedule(deadline_ns, link)

    def _shed(self, now: Instant, out: Out) -> None:
        """The terminal that holds most gives up what it holds."""
        most = max(self._all_links(), key=lambda link: link.held_bytes)
        self._drop_parts(most, "limit", now, out)

    def _drop_parts(self, link: Link, reason: str, now: Instant, out: Out) -> None:
        if link.parts is None:
            return
        self._parts_bytes -= link.parts.held_bytes
        subject = link.terminal.identity if link.terminal is not None else ""
        for one in link.parts.close():
            first = one.frames[0]
            detail = f"message {first.msg_id:04x}: {len(one.frames)} of {first.total} packets"
            facts = {"detail": detail, "address": link.address}
            self._intake.gap(subject, f"packets-{reason}", facts, first.raw, now.mono_ns, out)
        link.parts = None

    # ---------------------------------------------------------------- ends and times

    def _down(self, event: LinkDown, now: Instant) -> Sequence[Command]:
        link = self._links.pop(event.link, None)
        if link is None:
            return ()
        out = Out(None)
        for found in link.decoder.finish() if link.decoder is not None else ():
            if not link.closing:
                self._junk(link, found, now.mono_ns, out)
        self._gone(link, link.closing or event.reason, now, out)
        link.closing = link.closing or event.reason
        return out.done()

    def _gone(self, link: Link, reason: str, now: Instant, out: Out) -> None:
        self._closed += 1
        self._drop_parts(link, "link", now, out)
        terminal = self._admission.leave(link, reason, now.mono_ns, out)
        if terminal is not None:
            for waiting in self._desk.drop(terminal.identity):
                out.commands.append(Answer(waiting.ticket, Outcome("offline", "the device went offline meanwhile")))

    def _schedule(self, at_ns: int, what: Link | Terminal | int) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (at_ns, self._timer_count, what))

    def _fired(self, now: Instant) -> Sequence[Command]:
        commands: list[Command] = []
        while self._timers and self._timers[0][0] <= now.mono_ns:
            what = heapq.heappop(self._timers)[2]
            match what:
                case Link():
                    out = Out(what.to)
                    self._look_at(what, now, out)
                case Terminal():
                    out = Out(None)
                    self._admission.tell_later(what, now.mono_ns, out)
                case _:
                    out = Out(None)
                    waiting = self._desk.timed_out(what, now.mono_ns)
                    if waiting is not None:
                        text = "the device has not answered in time; it may have done it all the same"
                        out.commands.append(Answer(waiting.ticket, Outcome("timeout", text)))
            commands += out.done()
        out = Out(None)
        out.drafts += [self._drafts.tally(tally) for tally in self._tallies.due(now.mono_ns)]
        return [*commands, *out.done()]

    def _look_at(self, link: Link, now: Instant, out: Out) -> None:
        """A timer of a link: packets that wait, reading that goes on, silence that ends it."""
        now_ns = now.mono_ns
        if link.closing or (isinstance(link.to, int) and link.to not in self._links):
            if link.is_udp:
                self._forget_peer(link)
            return
        if link.paused and isinstance(link.to, int):
            self._read_on(link, link.to, now_ns, out)
        terminal = link.terminal
        if link.parts_due:
            link.parts_due = False
            if link.parts is not None and terminal is not None:
                before = link.parts.held_bytes
                self._joined(link, terminal, link.parts.due(now_ns), now, out)
                self._parts_bytes += link.parts.held_bytes - before
            self._watch_parts(link)
        if self._ends_ns(link) > now_ns:
            if link.look_ns <= now_ns:
                self._look_again(link, now_ns)
            return
        reason = "idle" if terminal is not None else "not authenticated" if link.good_frames else "silent"
        if isinstance(link.to, int):
            self._admission.close(link, reason, out)
        else:
            self._gone(link, reason, now, out)
            link.closing = reason
            self._forget_peer(link)

    def _read_on(self, link: Link, number: int, now_ns: int, out: Out) -> None:
        """Whether a flood has been paid for."""
        paid_ns = link.quota_ns - FLOOD_WINDOW_NS
        if paid_ns <= now_ns:
            link.paused = False
            out.commands.append(Resume(number))
        else:
            self._schedule(paid_ns, link)

    def _look_again(self, link: Link, now_ns: int) -> None:
        """One timer per link looks whether it has ended, so that hearing it moves none; and not too late, because the
        timer keeps the link in memory when it is gone."""
        link.look_ns = min(self._ends_ns(link), now_ns + LOOK_NS)
        self._schedule(link.look_ns, link)

    def _forget_peer(self, link: Link) -> None:
        for identity in [key for key, peer in self._peers.items() if peer is link]:
            del self._peers[identity]

    def _ends_ns(self, link: Link) -> int:
        """When a link has been silent for too long."""
        if link.terminal is not None:
            return max(link.heard_ns, self._grace_ns) + round(self._limits.idle_s * SECOND_NS)
        wait_s = self._limits.idle_s if link.good_frames else self._limits.silent_s
        return max(link.opened_ns, self._grace_ns) + round(wait_s * SECOND_NS)

    def _all_links(self) -> Iterator[Link]:
        yield from self._links.values()
        yield from self._peers.values()

    # ---------------------------------------------------------------- from our side

    def _request(self, event: Request, now: Instant) -> Sequence[Command]:
        terminal = self.terminals.get(event.identity)
        if terminal is None or terminal.link is None:
            known = terminal is not None or self.terminals.takes(event.identity)
            text = OFFLINE if known else f"no device {event.identity[:64]!r} at this source"
            return [Answer(event.ticket, Outcome("offline" if known else "unknown", text))]
        if self._desk.count(event.identity) >= WAITING_MAX:
            text = f"{WAITING_MAX} orders wait for this device already; try again when they are through"
            return [Answer(event.ticket, Outcome("refused", text))]
        out = Out(terminal.link.to)
        serials: dict[int, int] = {}
        try:
            messages, timeout_s = compose(event.action, event.parameters)
            for number, message in enumerate(messages):
                used, frames = terminal.write(message)
                serials |= {serial & 0xFFFF: number for serial in used}
                out.sent.append(frames)
        except (WishError, EncodeError) as error:
            return [Answer(event.ticket, Outcome("refused", str(error)))]
        deadline_ns = now.mono_ns + timeout_s * SECOND_NS
        self._desk.wait(Waiting(event.ticket, event.identity, event.action, serials, deadline_ns))
        self._schedule(deadline_ns, event.ticket)
        return out.done()

    def _devices_changed(self, devices: Devices, now: Instant) -> Sequence[Command]:
        out = Out(None)
        for terminal in self.terminals.use(devices):
            link = terminal.link
            if link is not None:
                self._admission.leave(link, "not listed any more", now.mono_ns, out)
                self._peers.pop(terminal.identity, None)
                self._admission.close(link, "not listed any more", out)
        return out.done()

    def _shutdown(self, now: Instant) -> Sequence[Command]:
        out = Out(None)
        for link in list(self._all_links()):
            self._gone(link, "shutdown", now, out)
        for terminal in self.terminals:
            self._admission.tell_later(terminal, now.mono_ns, out)
        out.drafts += [self._drafts.tally(tally) for tally in self._tallies.close()]
        self._links.clear()
        self._peers.clear()
        return out.done()
