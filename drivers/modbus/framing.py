"""How questions and answers travel: RTU (a serial line, also behind TCP) or Modbus TCP. Pure.

    frame = framing.ask(unit, request)
    framing.feed(data) -> Found | reason | None

On a line an answer is known only by its place behind the question. So after a question whose answer did not come, or
could not be read, the line must stay silent until nothing can come any more (`holds_its_tongue`). On TCP the
transaction number does that: what is late is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drivers.modbus.codec import NOISE_MAX, Found, Request, RtuReader, TcpReader, parse_reply, rtu_frame, tcp_frame

SECOND_NS: Final = 10**9
FAST_BAUD: Final = 19_200
FAST_GAP_NS: Final = 1_750_000
"""Above 19200 baud the silence between frames is 1.75 ms (MODBUS over Serial Line, 2.5.1.1)."""
LATENCY_NS: Final = 30_000_000
"""USB adapters hand bytes on after up to 16 ms; then the kernel and this process."""


@dataclass(frozen=True, slots=True)
class Wire:
    """What the speed of a line makes of bytes."""

    char_ns: int = 0
    gap_ns: int = 0
    """3.5 characters: the silence that ends a frame."""
    latency_ns: int = LATENCY_NS

    def time_ns(self, size_bytes: int) -> int:
        """How long so many bytes take."""
        return size_bytes * self.char_ns


def serial_wire(baud: int, parity: str = "N", stop_bits: int = 1) -> Wire:
    """Of a serial line with 8 data bits."""
    bits = 9 + (parity != "N") + stop_bits
    char_ns = -(-bits * SECOND_NS // baud)
    return Wire(char_ns, FAST_GAP_NS if baud > FAST_BAUD else 7 * char_ns // 2)


class Rtu:
    """A line: one question at a time, and silence where its answer is missing."""

    holds_its_tongue: Final = True

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.lost = ""
        self.late = 0
        self.echoes = False
        """The line gives back what is sent: seen in the answer to a read since it was opened."""
        self._reader: RtuReader | None = None
        self._is_read = False

    def opened(self) -> None:
        """A new link: nothing is known of it."""
        self.echoes, self._reader = False, None

    def give_up(self) -> None:
        """The question is not open any more."""
        self._reader = None

    def ask(self, unit: int, request: Request) -> bytes:
        """The frame to send. What comes from now on is its answer, or it is nothing."""
        self._reader = RtuReader(unit, request, echoes=self.echoes)
        self._is_read = not request.values
        return rtu_frame(unit, request.pdu())

    def feed(self, data: bytes) -> Found | str | None:
        """The answer, why it is none, or None: more is needed."""
        if self._reader is None:
            return None
        found = self._reader.feed(data)
        if isinstance(found, Found) and self._is_read:
            self.echoes = found.is_echoed
        return found

    @property
    def held(self) -> bytes:
        """What came since the question."""
        return bytes(self._reader.held) if self._reader else b""

    def reply_ns(self, request: Request) -> int:
        """How long the answer takes on the wire, with an echo and noise around it."""
        sent = len(request.pdu()) + 3
        return self.wire.time_ns(request.reply_bytes + 3 + 2 * NOISE_MAX + (sent if self.echoes else 0))


class Tcp:
    """Modbus TCP on one connection."""

    holds_its_tongue: Final = False
    echoes: Final = False

    def __init__(self) -> None:
        self.wire = Wire(latency_ns=0)
        self.late = 0
        """Answers to questions that were given up: dropped."""
        self._reader = TcpReader()
        self._transaction = 0
        self._asked: tuple[int, Request] | None = None
        self._held = b""

    @property
    def lost(self) -> str:
        """Why nothing more can be read on this connection."""
        return self._reader.lost

    def opened(self) -> None:
        """A new connection; transaction numbers go on."""
        self._reader, self._asked = TcpReader(), None

    def give_up(self) -> None:
        """The question is not open any more: its answer is late."""
        self._asked = None

    def ask(self, unit: int, request: Request) -> bytes:
        """The frame to send."""
        self._transaction = self._transaction + 1 & 0xFFFF
        self._asked, self._held = (unit, request), b""
        return tcp_frame(self._transaction, unit, request.pdu())

    def feed(self, data: bytes) -> Found | str | None:
        """The answer, why it is none, or None: more is needed."""
        found: Found | str | None = None
        for adu in self._reader.feed(data):
            if self._asked is None or adu.transaction != self._transaction:
                self.late += 1
                continue
            (unit, request), self._asked = self._asked, None
            self._held = adu.raw
            reply = parse_reply(request, adu.pdu) if adu.unit == unit else "wrong-unit"
            found = reply if isinstance(reply, str) else Found(reply, adu.raw, len(adu.raw), is_echoed=False)
        return found

    @property
    def held(self) -> bytes:
        """The message that was no answer."""
        return self._held

    def reply_ns(self, request: Request) -> int:  # noqa: ARG002  the network's speed is not known
        """Nothing that could be reckoned."""
        return 0


Framing = Rtu | Tcp
