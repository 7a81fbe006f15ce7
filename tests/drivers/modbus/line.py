"""A session on a simulated line: a clock that a test moves, devices that answer as it says, all that is wanted."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivers.modbus.blocks import Answer, Block, Decoded, DevicePlan
from drivers.modbus.codec import Request, exception_pdu, parse_request, reply_pdu, rtu_frame, tcp_frame
from drivers.modbus.driver import Session
from drivers.modbus.events import Close, Closed, Count, Done, Emit, Event, Opened, Received, Send, Sent, SetState, Timer
from drivers.modbus.framing import Framing, Rtu, serial_wire
from gateway.core.instant import Instant
from gateway.core.ports import Outcome
from gateway.core.record import Draft, check_draft

MS = 1_000_000
SECOND = 10**9
BOOT = "0123456789abcdef0123456789abcdef"
START_UTC_NS = 1_790_000_000 * SECOND


def shown(answers: Sequence[Answer]) -> Decoded:
    """Every register as a value of its own, named by its address: a wrong one stands out."""
    found = []
    for answer in answers:
        numbers = answer.registers or tuple(map(int, answer.bits))
        for offset, number in enumerate(numbers):
            code = f"{answer.block.function}:{answer.block.address + offset}"
            found.append({"quantity": "count", "code": code, "statistic": "rtd", "text": str(number)})
    return Decoded(tuple(found))


def plan(unit: int, *blocks: Block, **more: Any) -> DevicePlan:
    values: dict[str, Any] = {"interval_s": 1.0, "timeout_ms": 250, "response_max_ms": 250, **more}
    return DevicePlan(unit, f"device-{unit}", blocks or (Block(3, 0, 4),), shown, **values)


def truth(unit: int, address: int) -> int:
    """What a register of a device holds."""
    return (unit * 4099 + address * 257) & 0xFFFF


def replied(unit: int, request: Request) -> bytes:
    """The PDU of a healthy device."""
    top = 1 if request.function in {1, 2} else 0xFFFF
    values = tuple(truth(unit, request.address + n) & top for n in range(request.count))
    return reply_pdu(request, values)


@dataclass
class Asked:
    """A request as it came over the line."""

    unit: int
    request: Request
    at_ns: int
    frame: bytes


Slave = Callable[[Asked], Sequence[tuple[int, bytes]]]
"""What a device sends: (nanoseconds after the request, bytes)."""


def healthy(unit: int, delay_ms: int = 5) -> Slave:
    def answer(asked: Asked) -> Sequence[tuple[int, bytes]]:
        if asked.unit != unit:
            return ()
        return [(delay_ms * MS, rtu_frame(unit, replied(unit, asked.request)))]

    return answer


def refusing(unit: int, code: int) -> Slave:
    def answer(asked: Asked) -> Sequence[tuple[int, bytes]]:
        return [(5 * MS, rtu_frame(unit, exception_pdu(asked.request.function, code)))] if asked.unit == unit else ()

    return answer


@dataclass
class Line:
    """`run` moves the clock through everything that is due: timers of the session and bytes of the devices."""

    plans: Sequence[DevicePlan]
    slaves: list[Slave] = field(default_factory=list)
    framing: Framing | None = None
    now_ns: int = 1000 * SECOND
    opened: bool = True

    def __post_init__(self) -> None:
        self.session = Session("bus-1", self.plans, self.framing or Rtu(serial_wire(9600)))
        self.drafts: list[Draft] = []
        self.counts: Counter[str] = Counter()
        self.states: list[SetState] = []
        self.closes: list[str] = []
        self.outcomes: dict[int, Outcome] = {}
        self.asked: list[Asked] = []
        self._bytes: list[tuple[int, int, bytes]] = []
        self._order = 0
        if self.opened:
            self.handle(Opened("/dev/bus"))

    @property
    def now(self) -> Instant:
        return Instant(BOOT, 1, self.now_ns, START_UTC_NS + self.now_ns)

    def handle(self, event: Event) -> None:
        for command in self.session.handle(event, self.now):
            match command:
                case Emit(drafts):
                    for draft in drafts:
                        check_draft(draft, self.now)
                    self.drafts += drafts
                case Count(counts):
                    self.counts.update(counts)
                case SetState():
                    self.states.append(command)
                case Close(reason):
                    self.closes.append(reason)
                case Done(ticket, outcome):
                    assert ticket not in self.outcomes
                    self.outcomes[ticket] = outcome
                case Send(frame):
                    self._send(frame)

    def _send(self, frame: bytes) -> None:
        if not self.session.is_sending:
            return
        self.handle(Sent())
        request = parse_request(frame[1:-2])
        assert request is not None
        asked = Asked(frame[0], request, self.now_ns, frame)
        self.asked.append(asked)
        for slave in self.slaves:
            for delay_ns, data in slave(asked):
                self.say(delay_ns, data)

    def say(self, delay_ns: int, data: bytes) -> None:
        """Bytes that come so much later."""
        self._order += 1
        heapq.heappush(self._bytes, (self.now_ns + delay_ns, self._order, data))

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + int(seconds * SECOND)
        while True:
            timer_ns = self.session.deadline_ns()
            bytes_ns = self._bytes[0][0] if self._bytes else None
            due = [at for at in (timer_ns, bytes_ns) if at is not None]
            if not due or min(due) > end_ns:
                break
            self.now_ns = max(self.now_ns, min(due))
            if bytes_ns is not None and bytes_ns <= self.now_ns:
                self.handle(Received(heapq.heappop(self._bytes)[2]))
            else:
                self.handle(Timer())
        self.now_ns = end_ns

    def cut(self, reason: str = "unplugged") -> None:
        self.handle(Closed(reason))
        self._bytes.clear()

    def of(self, kind: str, device: str | None = None) -> list[Draft]:
        return [one for one in self.drafts if one.kind == kind and device in (None, one.device)]

    def readings(self, device: str | None = None) -> list[Draft]:
        return self.of("reading", device)

    def told(self, device: str | None = None) -> list[tuple[str, str]]:
        """(device, state) of the device.state records."""
        return [(one.device, one.data["state"]) for one in self.of("device.state", device)]

    def wrong(self) -> list[str]:
        """Values that are not what their register holds."""
        found = []
        units = {one.device: one.unit for one in self.plans}
        for draft in self.readings():
            for value in draft.data["values"]:
                function, _, address = value["code"].partition(":")
                want = truth(units[draft.device], int(address)) & (1 if function in "12" else 0xFFFF)
                if int(value["text"]) != want:
                    found.append(f"{draft.device} {value['code']} is {value['text']}, not {want}")
        return found


def tcp(transaction: int, unit: int, pdu: bytes) -> bytes:
    return tcp_frame(transaction, unit, pdu)
