"""The session of one Modbus bus: bytes and time in, commands out. No socket, no clock, no thread.

One question at a time. Whose turn it is says the rota (drivers.modbus.plan), what a device is asked its own round
(drivers.modbus.polled), how it travels the framing (drivers.modbus.framing). An answer counts only if unit, function,
length and check fit the question that is open; everything else is counted, told at a falling rate, and dropped:

- Nothing came: on a line the device had all of `response_max_ms`, during which nobody else was asked.
- Something else came: the line stays silent until that time is over, and what comes is dropped.
- Either way the device owes an answer: it is left alone for a while, and its next question is a fence
  (drivers.modbus.polled).
- The line was opened: it stays silent for the longest of all times; an earlier process may have asked.

What comes within `response_max_ms` answers the only question that was open, so it is taken even after `timeout_ms`,
and counted as late. On TCP the transaction number decides; nothing needs to stay silent.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from drivers.modbus import drafts, orders
from drivers.modbus.blocks import Answer, DevicePlan
from drivers.modbus.codec import EXCEPTIONS, Found, stray
from drivers.modbus.drafts import Exchange
from drivers.modbus.events import (
    Cancel,
    Close,
    Closed,
    Command,
    Count,
    Done,
    Emit,
    Ended,
    Event,
    Hold,
    Opened,
    Received,
    Send,
    Sent,
    SetState,
    Timer,
    Wish,
)
from drivers.modbus.framing import Framing
from drivers.modbus.plan import Rota, Turn
from drivers.modbus.polled import Polled, Question
from drivers.modbus.telling import SECOND_NS, Gaps, Told
from gateway.core.instant import Instant
from gateway.core.ports import Outcome
from gateway.core.record import Draft

MS: Final = 1_000_000
OFFLINE_AFTER: Final = 3
"""Failures in a row."""
EXCEPTION_AFTER: Final = 2
ORDERS_MAX: Final = 8
BABBLE_BYTES: Final = 8192
"""Between two questions: whoever sends so much is no device of this bus."""
BABBLE_NS: Final = 5 * SECOND_NS
"""So long somebody is due, and the line is never silent."""
SILENT_MAX: Final = 3
"""Questions on TCP in a row after which not one byte came: the connection may be half open."""
OWED_PAUSES: Final = 4
"""Longest times for which a device that owes an answer is left alone; the others are asked meanwhile, and an answer of
its unit is none of theirs."""
HELD_MAX_BYTES: Final = 1024
NAMES_MAX: Final = 4

Phase = Literal["closed", "idle", "sending", "waiting", "draining"]
"""closed: also from a Close on, until the line has ended."""


@dataclass(slots=True)
class _Open:
    """The question that is open."""

    index: int
    question: Question
    frame: bytes
    began_ns: int
    sent_ns: int = 0
    late_ns: int = 0
    deadline_ns: int = 0
    reason: str = ""
    """Why what came is no answer; "" so far nothing speaks against it."""


class Session:
    """One bus. `handle` gives commands in the order in which they are to be obeyed."""

    def __init__(self, source: str, plans: Sequence[DevicePlan], framing: Framing) -> None:
        """`plans` have different units and devices."""
        self.source = source
        self.worked = False
        """The link has brought an answer since it was opened last."""
        self._framing = framing
        self._devices = [Polled(source, plan) for plan in plans]
        self._rota = Rota([Turn(plan.weight, max(int(plan.interval_s * 1e9), MS)) for plan in plans])
        self._phase: Phase = "closed"
        self._address = ""
        self._open: _Open | None = None
        self._orders: deque[orders.Wanted] = deque()
        self._is_held = False
        # the line
        self._rest_ns = 0
        """Nothing is sent before."""
        self._waited_ns: int | None = None
        """Since when a question waits for silence."""
        self._useless_bytes = 0
        self._silent = 0
        self._unasked = bytearray()
        self._drained = bytearray()
        # what is told
        self._told = Told()
        self._gaps = Gaps(self._bus_gap)
        self._state: SetState | None = None
        self._counts: Counter[str] = Counter()
        self._drafts: list[Draft] = []
        self._out: list[Command] = []

    # ------------------------------------------------------------------------------------------ seam

    def handle(self, event: Event, now: Instant) -> list[Command]:
        """What follows from an event. Never raises for what a line brings."""
        now_ns = now.mono_ns
        match event:
            case Received(data):
                self._received(data, now_ns)
            case Sent():
                self._sent(now_ns)
            case Timer():
                self._timer(now_ns)
            case Opened(address):
                self._opened(address, now_ns)
            case Closed(reason, address):
                self._closed(reason, address or self._address)
            case Hold(is_held):
                self._is_held = is_held
            case Wish():
                self._wish(event)
            case Cancel(ticket):
                self._cancel(ticket)
            case Ended():
                self._ended()
        if self._phase != "closed":
            self._ask(now_ns)
        self._tell(now_ns, at_once=isinstance(event, Ended))
        return self._taken()

    def deadline_ns(self) -> int | None:
        """When a Timer is wanted, on the axis of Instant.mono_ns; None: never."""
        due = [self._gaps.due_ns, self._told.due_ns]
        for device in self._devices:
            due += [device.gaps.due_ns, device.told.due_ns]
        if self._open is not None and self._phase in {"waiting", "draining"}:
            due.append(self._open.deadline_ns)
        elif self._phase == "idle" and self._unasked:
            due.append(self._rest_ns)
        elif self._phase == "idle" and not self._is_held:
            at_ns = 0 if self._orders else self._rota.next_ns()
            due.append(None if at_ns is None else max(at_ns, self._rest_ns))
        return min((at for at in due if at is not None), default=None)

    @property
    def is_sending(self) -> bool:
        """Whether the frame of the last Send is still to be sent."""
        return self._phase == "sending"

    def _taken(self) -> list[Command]:
        found = self._out
        if self._drafts:
            found = [Emit(tuple(self._drafts)), *found]
        if self._counts:
            found = [*found, Count(dict(self._counts))]
        self._out, self._drafts, self._counts = [], [], Counter()
        return found

    # ------------------------------------------------------------------------------------------ link

    def _opened(self, address: str, now_ns: int) -> None:
        self._phase, self._address, self.worked = "idle", address, False
        self._framing.opened()
        self._rota.all_due(now_ns)
        self._rest_ns = now_ns
        if self._framing.holds_its_tongue:
            longest_ms = max((_patience_ms(device.plan) for device in self._devices), default=0)
            self._rest_ns += longest_ms * MS + self._framing.wire.latency_ns
        self._waited_ns, self._useless_bytes, self._silent = None, 0, 0
        self._counts["links"] += 1
        self._told.see("online", lambda: drafts.bus_draft(self.source, "online", "the line is open", address))
        self._show()

    def _closed(self, reason: str, address: str) -> None:
        if self._address:
            self._counts["link_failures"] += 1
        self._let_go()
        self._drop_orders(Outcome("offline", reason))
        self._address = ""
        self._unasked.clear()
        self._drained.clear()
        self._told.see("offline", lambda: drafts.bus_draft(self.source, "offline", reason, address))
        for device in self._devices:
            device.lost()
            if device.told.value or device.is_online:
                self._device_state(device, "offline", "offline", f"the bus is down: {reason}")
        self._set_state("down", reason)

    def _let_go(self) -> None:
        """Nothing more is sent or read on this line; what was asked may still be answered on the next."""
        asked = self._open
        if asked is not None and self._phase != "sending":
            self._devices[asked.index].unsettled = True
            if asked.question.ticket:
                self._out.append(Done(asked.question.ticket, orders.UNANSWERED))
        self._phase, self._open = "closed", None

    def _drop_orders(self, outcome: Outcome) -> None:
        self._out += [Done(wanted.ticket, outcome) for wanted in self._orders]
        self._orders.clear()

    def _ended(self) -> None:
        self._let_go()
        self._drop_orders(Outcome("offline", "the gateway ends"))
        self._blame_unasked()

    # --------------------------------------------------------------------------------------- sending

    def _ask(self, now_ns: int) -> None:
        """The next question, if it is time for one."""
        if self._phase != "idle" or now_ns < self._rest_ns:
            return
        self._blame_unasked()
        if self._is_held:
            return
        question, index = self._next(now_ns)
        if question is None:
            return
        device = self._devices[index]
        if question.purpose != "order":
            self._rota.turns[index].in_round = True
        frame = self._framing.ask(device.plan.unit, question.request)
        self._open = _Open(index, question, frame, now_ns)
        self._phase = "sending"
        self._waited_ns = None
        self._out.append(Send(frame))

    def _next(self, now_ns: int) -> tuple[Question | None, int]:
        fenced = self._framing.holds_its_tongue
        while self._orders:
            wanted = self._orders.popleft()
            device = self._devices[wanted.index]
            if device.is_online and not (fenced and device.unsettled):
                return wanted.question, wanted.index
            self._out.append(Done(wanted.ticket, orders.AWAY))
        index = self._rota.pick(now_ns)
        if index is None:
            return None, -1
        return self._devices[index].next_question(now_ns, fenced=fenced), index

    def _sent(self, now_ns: int) -> None:
        asked = self._open
        if asked is None or self._phase != "sending":
            return
        self._devices[asked.index].asked_ns = now_ns
        plan, wire = self._devices[asked.index].plan, self._framing.wire
        reply_ns = self._framing.reply_ns(asked.question.request)
        on_wire_ns = wire.time_ns(len(asked.frame)) + reply_ns + wire.latency_ns
        asked.sent_ns = now_ns
        asked.late_ns = now_ns + on_wire_ns + plan.timeout_ms * MS
        asked.deadline_ns = now_ns + on_wire_ns + _patience_ms(plan) * MS
        self._phase = "waiting"
        self._useless_bytes = 0
        self._counts["questions"] += 1

    # -------------------------------------------------------------------------------------- receiving

    def _received(self, data: bytes, now_ns: int) -> None:
        if self._phase == "closed":
            return
        self._counts["bytes"] += len(data)
        self._useless_bytes += len(data)
        self._silent = 0
        framing = self._framing
        self._rest_ns = max(self._rest_ns, now_ns + framing.wire.gap_ns)
        late = framing.late
        if self._phase == "waiting" or not framing.holds_its_tongue:
            found = framing.feed(data)
            if self._phase == "waiting":
                self._read(found, now_ns)
        elif self._phase == "draining":
            self._drained += data[: HELD_MAX_BYTES - len(self._drained)]
        else:
            self._not_asked(data, now_ns)
        if framing.late > late:
            self._counts["late_dropped"] += framing.late - late
        if framing.lost:
            self._close(f"{self._address}: {framing.lost}; check address and framing")
        elif self._useless_bytes > BABBLE_BYTES:
            self._close(f"{self._address}: {self._useless_bytes} bytes that nobody asked for: {_CHECK_LINE}")

    def _read(self, found: Found | str | None, now_ns: int) -> None:
        asked = self._open
        if asked is None or found is None:
            return
        if isinstance(found, Found):
            self._useless_bytes = 0
            self._answered(asked, found, now_ns)
            return
        asked.reason = found
        if self._framing.holds_its_tongue:
            self._phase = "draining"
            self._drained.clear()
        else:
            self._spoiled(asked, now_ns)

    def _not_asked(self, data: bytes, now_ns: int) -> None:
        """Bytes on a line on which no question is open. A frame that was to be sent is taken back: what lay unread
        would have been its answer."""
        self._counts["unasked_bytes"] += len(data)
        self._unasked += data[: HELD_MAX_BYTES - len(self._unasked)]
        if self._phase == "sending":
            self._phase, self._open = "idle", None
            self._counts["questions_taken_back"] += 1
        at_ns = self._rota.next_ns()
        if not self._orders and (at_ns is None or at_ns > now_ns):
            self._waited_ns = None
        elif self._waited_ns is None:
            self._waited_ns = now_ns
        elif now_ns - self._waited_ns > BABBLE_NS:
            self._close(f"{self._address}: bytes that nobody asked for, and no silence: {_CHECK_LINE}")

    def _close(self, reason: str) -> None:
        if self._phase != "closed":
            self._let_go()
            self._out.append(Close(reason))

    def _timer(self, now_ns: int) -> None:
        asked = self._open
        if asked is None or now_ns < asked.deadline_ns:
            return
        if self._phase == "waiting":
            held = self._framing.held if self._framing.holds_its_tongue else b""
            asked.reason = "short" if held else "no-answer"
            self._spoiled(asked, now_ns)
        elif self._phase == "draining":
            self._spoiled(asked, now_ns)

    # --------------------------------------------------------------------------------------- answers

    def _answered(self, asked: _Open, found: Found, now_ns: int) -> None:
        question, device = asked.question, self._devices[asked.index]
        self._over(asked, now_ns)
        self.worked = True
        self._counts["answers"] += 1
        if now_ns > asked.late_ns:
            self._counts["late_answers"] += 1
        if found.frame_bytes < len(found.response):
            self._counts["echoes" if found.is_echoed else "noisy_answers"] += 1
        device.answered(question.purpose)
        reply = found.reply
        if question.purpose == "fence":
            if reply.exception:  # which has no length of its own: should it be late itself, the right one follows now
                self._leave_alone(asked, now_ns)
            return
        answer = Answer(
            question.block, asked.frame, found.response, found.frame_bytes, reply.registers, reply.bits,
            asked.sent_ns, now_ns,
        )  # fmt: skip
        if question.purpose == "order":
            if question.ticket:
                self._out.append(Done(question.ticket, orders.outcome(question, answer, reply.exception)))
            return
        if reply.exception:
            self._refused(asked, answer, reply.exception, now_ns)
            return
        is_last = device.take(Exchange(answer, "identity" if question.purpose else ""), now_ns)
        if stranger := device.stranger():
            self._counts["wrong_identity"] += 1
            self._device_state(device, "wrong-identity", stranger, f"another device answers: {stranger}", answer)
            self._fail(asked, now_ns)
        elif is_last:
            self._complete(asked.index, now_ns)

    def _over(self, asked: _Open, now_ns: int) -> None:
        """The question is answered or given up: the line is free."""
        self._phase, self._open = "idle", None
        self._framing.give_up()
        plan = self._devices[asked.index].plan
        self._rota.charge(asked.index, now_ns - asked.began_ns)
        self._rota.turns[asked.index].ready_ns = now_ns + plan.min_interval_ms * MS

    def _complete(self, index: int, now_ns: int) -> None:
        device = self._devices[index]
        decoded = device.plan.decode(device.answers())
        self._drafts.append(drafts.reading_draft(self.source, device.plan, device.exchanges, decoded))
        self._counts["readings"] += 1
        device.forget_round()
        if skipped := self._rota.done(index, now_ns):
            self._counts["rounds_skipped"] += skipped
        self._device_state(device, "online", "online", "it answers")

    def _refused(self, asked: _Open, answer: Answer, code: int, now_ns: int) -> None:
        """An exception: the device is there, and says no."""
        self._counts["exceptions"] += 1
        device, block = self._devices[asked.index], answer.block
        self._fail(asked, now_ns)
        if self._rota.turns[asked.index].failures >= EXCEPTION_AFTER:
            said = f"{EXCEPTIONS.get(code, 'exception')} ({code})"
            where = f"function {block.function} address {block.address} count {block.count}"
            if code in {10, 11}:
                self._device_state(device, "offline", "offline", f"the gateway in between says: {said}", answer)
            else:
                text = f"{said} for {where}; check profile and unit"
                self._device_state(device, "exception", f"{code} {where}", text, answer)

    def _spoiled(self, asked: _Open, now_ns: int) -> None:
        """No answer, or none that can be taken, and nothing more can come."""
        device, reason = self._devices[asked.index], asked.reason
        held = self._framing.held + bytes(self._drained)
        self._drained.clear()
        self._over(asked, now_ns)
        self._counts[reason.replace("-", "_")] += 1
        if self._framing.holds_its_tongue and not device.unanswered(asked.question.purpose, is_silent=not held):
            return
        if held:
            device.gaps.add(reason, self._blame(held, device), held)
        if asked.question.purpose == "order":
            if asked.question.ticket:
                self._out.append(Done(asked.question.ticket, orders.UNANSWERED))
        else:
            self._fail(asked, now_ns)
            if self._rota.turns[asked.index].failures >= OFFLINE_AFTER:
                self._device_state(device, "offline", "offline", _why(device.plan, reason))
        device.lost()
        if self._framing.holds_its_tongue and reason != "bad-crc":
            self._leave_alone(asked, now_ns)
        if reason == "no-answer" and not self._framing.holds_its_tongue:
            self._silent += 1
            if self._silent >= SILENT_MAX:
                self._close(f"{self._address} is connected and does not answer; connecting anew")

    def _fail(self, asked: _Open, now_ns: int) -> None:
        """The round has failed."""
        self._devices[asked.index].lost()
        self._rota.failed(asked.index, now_ns, now_ns - asked.began_ns)

    def _leave_alone(self, asked: _Open, now_ns: int) -> None:
        """The device may still answer: it is not asked meanwhile."""
        patience_ns = _patience_ms(self._devices[asked.index].plan) * MS
        turn = self._rota.turns[asked.index]
        turn.ready_ns = max(turn.ready_ns, now_ns + OWED_PAUSES * patience_ns)

    # --------------------------------------------------------------------------------------- telling

    def _blame(self, held: bytes, asked: Polled) -> str:
        """Who may have sent what is no answer of this device."""
        found = stray(held) if self._framing.holds_its_tongue else None
        if found is None:
            return ""
        text = f"an answer of unit {found.unit} to function {found.function & 0x7F}"
        owner = self._owner(found.unit)
        if owner is asked:
            return f"{text}, not the one that was asked for"
        if owner is not None and owner.unsettled:
            owner.fences_unanswered = 0  # it answers, only too late for every question
            self._counts["late_dropped"] += 1
        return f"{text}: {owner.plan.device}, late" if owner else f"{text}: not in the configuration"

    def _blame_unasked(self) -> None:
        """Bytes that came while no question was open: told as its owner's, where one can be named."""
        if not self._unasked:
            return
        held = bytes(self._unasked)
        self._unasked.clear()
        found = stray(held)
        owner = self._owner(found.unit) if found else None
        if found is None or owner is None:
            unit = f"a frame of unit {found.unit}: another client asks on this bus" if found else ""
            self._gaps.add("unasked", unit, held)
        elif owner.unsettled:
            owner.fences_unanswered = 0  # it answers, only too late for every question
            owner.gaps.add("late", f"after more than the {_patience_ms(owner.plan)} ms of its profile", held)
            self._counts["late_dropped"] += 1
        else:
            owner.unsettled = True
            owner.gaps.add("twice", f"two devices with unit {found.unit}, or another client on this bus", held)

    def _owner(self, unit: int) -> Polled | None:
        return next((one for one in self._devices if one.plan.unit == unit), None)

    def _bus_gap(self, reason: str, count: int, values: dict[str, Any], held: bytes) -> Draft:
        return drafts.gap_draft(self.source, None, reason, count, values, held)

    def _device_state(self, device: Polled, state: str, key: str, reason: str, answer: Answer | None = None) -> None:
        raw = None if answer is None else answer.request + answer.response
        device.is_online = state == "online"
        key = state if state == key else f"{state} {key}"
        device.told.see(key, lambda: drafts.state_draft(self.source, device.plan, state, reason, raw))
        self._show()

    def _show(self) -> None:
        if self._phase == "closed":
            return
        names = [one.plan.device for one in self._devices if not one.is_online and one.is_told]
        total = len(self._devices)
        if names:
            more = ", …" if len(names) > NAMES_MAX else ""
            text = f"{len(names)} of {total} devices give no readings: {', '.join(names[:NAMES_MAX])}{more}"
            self._set_state("degraded", text)
        else:
            online = sum(one.is_online for one in self._devices)
            self._set_state("ok", f"{self._address}: {online} of {total} devices online")

    def _set_state(self, state: Literal["ok", "degraded", "down"], reason: str) -> None:
        wanted = SetState(state, reason)
        if wanted != self._state:
            self._state = wanted
            self._out.append(wanted)

    def _tell(self, now_ns: int, *, at_once: bool = False) -> None:
        """The records that are due."""
        found = [self._told.take(now_ns), self._gaps.take(now_ns, at_once=at_once)]
        for device in self._devices:
            found += [device.told.take(now_ns), device.gaps.take(now_ns, at_once=at_once)]
        self._drafts += [draft for draft in found if draft is not None]

    # ---------------------------------------------------------------------------------------- orders

    def _wish(self, wish: Wish) -> None:
        index = next((at for at, one in enumerate(self._devices) if one.plan.device == wish.device), None)
        found: orders.Wanted | Outcome
        if index is None:
            found = Outcome("unknown", f"no device {wish.device!r} on this bus")
        elif len(self._orders) >= ORDERS_MAX:
            found = Outcome("refused", f"{ORDERS_MAX} orders wait already; try again in a moment")
        else:
            found = orders.wanted(self._devices[index].plan, index, wish.ticket, wish.action, wish.parameters)
        if isinstance(found, Outcome):
            self._out.append(Done(wish.ticket, found))
        elif self._phase == "closed" or not self._devices[found.index].is_online:
            self._out.append(Done(wish.ticket, orders.AWAY))
        else:
            self._orders.append(found)

    def _cancel(self, ticket: int) -> None:
        self._orders = deque(wanted for wanted in self._orders if wanted.ticket != ticket)
        if self._open is not None and self._open.question.ticket == ticket:
            self._open.question = replace(self._open.question, ticket=0)


_CHECK_LINE: Final = "check baud and parity, termination, and whether another client asks on this bus"


def _patience_ms(plan: DevicePlan) -> int:
    """How long a device may take."""
    return max(plan.timeout_ms, plan.response_max_ms)


def _why(plan: DevicePlan, reason: str) -> str:
    match reason:
        case "no-answer":
            return f"no answer within {_patience_ms(plan)} ms: check power, wiring, unit {plan.unit} and speed"
        case "wrong-unit":
            return f"others answer in its place: is unit {plan.unit} right, and no unit given twice?"
        case "wrong-count" | "wrong-function" | "wrong-echo":
            return f"it answers something else than it was asked ({reason}): check its profile"
    return f"its answers are damaged ({reason}): check baud and parity, termination and cable"
