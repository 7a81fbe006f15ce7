"""Modbus frames, both directions: requests and replies (PDU), RTU with its CRC, TCP with its header.

After "MODBUS Application Protocol Specification V1.1b3", "MODBUS over Serial Line V1.02" and "MODBUS Messaging on
TCP/IP V1.0b". Function codes 1 to 6, 15, 16 and 23. Bytes from outside never raise; what does not fit is a reason.

An RTU frame does not say where it ends, and behind a USB adapter its silences cannot be seen. A client knows what it
asked, so it knows how long the answer is: `RtuReader` finds exactly that answer, after an echo of the request and at
most NOISE_MAX bytes 00 or FF that a line gives when its direction turns, and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

UNIT_MAX: Final = 255
REGISTERS_MAX: Final = 125
BITS_MAX: Final = 2000
WRITTEN_REGISTERS_MAX: Final = 123
WRITTEN_BITS_MAX: Final = 1968
WRITTEN_WITH_READ_MAX: Final = 121
FRAME_MAX_BYTES: Final = 256
"""Of RTU; a PDU has at most 253."""
PDU_MAX_BYTES: Final = 253
NOISE_MAX: Final = 4
HELD_MAX_BYTES: Final = 1024
"""Of a line: echo, noise and one frame are less than 520."""
ON: Final = 0xFF00
_COUNTED: Final = frozenset({1, 2, 3, 4, 23})
"""Functions whose reply says how many bytes follow."""
_ECHOING: Final = frozenset({5, 6})
"""Functions whose reply is the request once more."""
NOISE: Final = b"\x00\xff"
MBAP: Final = struct.Struct(">HHHB")
EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge: working on it",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}


def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1  # noqa: PLW2901
        found.append(value)
    return tuple(found)


_CRC: Final = _table()


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS: "123456789" → 0x4B37. On the line its low byte comes first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def is_sealed(frame: bytes) -> bool:
    """Whether the last two bytes are the CRC of those before."""
    return len(frame) >= 4 and crc16(frame[:-2]) == frame[-2] | frame[-1] << 8


# ------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Request:
    """A question or an order. `count` and `address` are of what is read, or where nothing is, of what is written."""

    function: int
    address: int
    count: int = 1
    values: tuple[int, ...] = ()
    """Written registers, or bits as 0 and 1; empty where nothing is written."""
    write_address: int = 0
    """Function 23 only."""

    @property
    def problem(self) -> str:
        """Why the protocol does not know such a request; "" where it does."""
        limits = {1: BITS_MAX, 2: BITS_MAX, 3: REGISTERS_MAX, 4: REGISTERS_MAX, 5: 1, 6: 1}
        limits |= {15: WRITTEN_BITS_MAX, 16: WRITTEN_REGISTERS_MAX, 23: REGISTERS_MAX}
        if self.function not in limits:
            return f"function {self.function} is not one of 1 to 6, 15, 16, 23"
        if not 1 <= self.count <= limits[self.function]:
            return f"function {self.function} takes a count of 1 to {limits[self.function]}, not {self.count}"
        if not 0 <= self.address <= 0x10000 - self.count:
            return f"address {self.address} and count {self.count} lie outside 0 to 65535"
        return self._value_problem()

    def _value_problem(self) -> str:
        written = {5: 1, 6: 1, 15: self.count, 16: self.count}.get(self.function, 0)
        if self.function == 23:
            if not 1 <= len(self.values) <= WRITTEN_WITH_READ_MAX:
                return f"function 23 writes 1 to {WRITTEN_WITH_READ_MAX} registers, not {len(self.values)}"
            if not 0 <= self.write_address <= 0x10000 - len(self.values):
                return f"write address {self.write_address} and {len(self.values)} registers lie outside 0 to 65535"
        elif len(self.values) != written:
            return f"function {self.function} with count {self.count} writes {written} values, not {len(self.values)}"
        top = 1 if self.function in {5, 15} else 0xFFFF
        return "" if all(0 <= value <= top for value in self.values) else f"values are 0 to {top}"

    def pdu(self) -> bytes:
        """As sent. Only for a request without a problem."""
        function, address = self.function, self.address
        match function:
            case 5:
                return struct.pack(">BHH", function, address, ON if self.values[0] else 0)
            case 6:
                return struct.pack(">BHH", function, address, self.values[0])
            case 15:
                packed = pack_bits(self.values)
                return struct.pack(">BHHB", function, address, self.count, len(packed)) + packed
            case 16:
                return struct.pack(">BHHB", function, address, self.count, 2 * self.count) + _words(self.values)
            case 23:
                written = len(self.values)
                head = (function, address, self.count, self.write_address, written, 2 * written)
                return struct.pack(">BHHHHB", *head) + _words(self.values)
        return struct.pack(">BHH", function, address, self.count)

    @property
    def reply_bytes(self) -> int:
        """Length of the PDU that answers it, unless it is an exception."""
        if self.function in {1, 2}:
            return 2 + (self.count + 7) // 8
        return 2 + 2 * self.count if self.function in {3, 4, 23} else 5


def parse_request(pdu: bytes) -> Request | None:
    """A request as a device receives it; None where it is none."""
    try:
        function = pdu[0]
        if function == 23:
            _, address, count, write_address, written, size = struct.unpack_from(">BHHHHB", pdu)
            fits = size == 2 * written == len(pdu) - 10
            request = Request(function, address, count, _numbers(pdu[10:]) if fits else (), write_address)
        elif function in {15, 16}:
            _, address, count, size = struct.unpack_from(">BHHB", pdu)
            rest = pdu[6:]
            fits = size == len(rest) == ((count + 7) // 8 if function == 15 else 2 * count)
            values = unpack_bits(rest, count) if function == 15 else _numbers(rest)
            request = Request(function, address, count, values if fits else ())
        else:
            _, address, number = struct.unpack(">BHH", pdu)
            if function == 5 and number not in {0, ON}:
                return None
            is_write = function in {5, 6}
            values = (int(number == ON),) if function == 5 else (number,)
            request = Request(function, address, 1 if is_write else number, values if is_write else ())
    except (IndexError, struct.error):
        return None
    return None if request.problem else request


def request_frame_bytes(head: bytes) -> int | None:
    """Length of the RTU request that begins with these bytes: 0 where no function of ours does, None: too few bytes."""
    if len(head) < 2:
        return None
    if head[1] in {1, 2, 3, 4, 5, 6}:
        return 8
    at = {15: 6, 16: 6, 23: 10}.get(head[1], 0)
    if not at:
        return 0
    return None if len(head) <= at else at + 3 + head[at]


# -------------------------------------------------------------------------------------------- replies


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request, checked against it."""

    registers: tuple[int, ...] = ()
    bits: tuple[bool, ...] = ()
    exception: int = 0
    """0: none. Else the device understood, and refuses."""


def parse_reply(request: Request, pdu: bytes) -> Reply | str:
    """The answer, if these bytes answer exactly this request; else why not: `wrong-function`, `wrong-count`,
    `wrong-echo` (a write that confirms something else), `short`."""
    if len(pdu) < 2:
        return "short"
    if pdu[0] == request.function | 0x80:
        return Reply(exception=pdu[1]) if len(pdu) == 2 and pdu[1] else "wrong-count"
    if pdu[0] != request.function:
        return "wrong-function"
    if request.function in _COUNTED:
        if len(pdu) != request.reply_bytes or pdu[1] != len(pdu) - 2:
            return "wrong-count"
        if request.function in {1, 2}:
            return Reply(bits=tuple(map(bool, unpack_bits(pdu[2:], request.count))))
        return Reply(registers=_numbers(pdu[2:]))
    return Reply() if pdu == request.pdu()[:5] else "wrong-echo"


def reply_pdu(request: Request, values: tuple[int, ...] = ()) -> bytes:
    """What a device answers: `values` are the registers, or the bits as 0 and 1, that were asked for."""
    if request.function in {1, 2}:
        packed = pack_bits(values)
        return bytes([request.function, len(packed)]) + packed
    if request.function in {3, 4, 23}:
        return bytes([request.function, 2 * len(values)]) + _words(values)
    return request.pdu()[:5]


def exception_pdu(function: int, code: int) -> bytes:
    """What a device answers that refuses."""
    return bytes([function & 0x7F | 0x80, code])


def pack_bits(values: tuple[int, ...]) -> bytes:
    """Eight to a byte, the first in the lowest bit."""
    packed = bytearray((len(values) + 7) // 8)
    for index, value in enumerate(values):
        packed[index // 8] |= (value & 1) << index % 8
    return bytes(packed)


def unpack_bits(packed: bytes, count: int) -> tuple[int, ...]:
    """The first `count` bits; fewer where there are not so many."""
    return tuple(packed[index // 8] >> index % 8 & 1 for index in range(min(count, 8 * len(packed))))


def _words(values: tuple[int, ...]) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def _numbers(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2])


# ------------------------------------------------------------------------------------------------ RTU


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """With unit and CRC."""
    body = bytes([unit]) + pdu
    return body + crc16(body).to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Found:
    """An answer on a serial line."""

    reply: Reply
    response: bytes
    """Everything since the request, up to the end of the answer."""
    frame_bytes: int
    """Length of the answer itself."""
    is_echoed: bool


class RtuReader:
    """Waits for the answer to one request. After `feed` has given an answer or a reason it is used up."""

    def __init__(self, unit: int, request: Request, *, echoes: bool = False) -> None:
        """`echoes`: the line gives back what is sent. Known from earlier answers, it keeps the echo of a write, which
        is the same as its answer, from being taken for one; reads need no such knowledge."""
        self._unit = unit
        self._request = request
        self._sent = rtu_frame(unit, request.pdu())
        self._echoes = echoes
        self.held = bytearray()
        """What has come so far."""

    def feed(self, data: bytes) -> Found | str | None:
        """The answer; or why what came can no longer become one; or None, more is needed."""
        self.held += data[: HELD_MAX_BYTES - len(self.held)]
        if len(self.held) >= HELD_MAX_BYTES:
            return "flood"
        waits, reason = False, ""
        for start, is_echoed in self._starts():
            found = self._at(start, is_echoed)
            if isinstance(found, Found):
                return found
            waits |= found is None
            reason = reason or found or ""
        return None if waits else reason

    def _starts(self) -> list[tuple[int, bool]]:
        """Where the answer may begin: behind up to NOISE_MAX bytes 00 or FF, an echo, and again as many. What is so far
        the beginning of an echo is waited for, not read."""
        found: list[tuple[int, bool]] = []
        for start in _behind_noise(self.held, 0):
            piece = self.held[start : start + len(self._sent)]
            if not self._echoes and self._request.function in _ECHOING:
                found.append((start, False))
            elif piece == self._sent:
                return [(one, True) for one in _behind_noise(self.held, start + len(piece))]
            elif self._sent.startswith(piece):
                found.append((len(self.held), True))
            else:
                found.append((start, False))
        return found

    def _at(self, start: int, is_echoed: bool) -> Found | str | None:
        held, function = self.held, self._request.function
        if self._echoes and function in _ECHOING and not is_echoed:
            return "no-echo"
        if len(held) < start + 1:
            return None
        if held[start] != self._unit:
            return "wrong-unit"
        if len(held) < start + 2:
            return None
        if held[start + 1] == function | 0x80:
            end = start + 5
        elif held[start + 1] == function:
            end = start + 3 + self._request.reply_bytes
            if function in _COUNTED and len(held) > start + 2 and held[start + 2] != self._request.reply_bytes - 2:
                return "wrong-count"
        else:
            return "wrong-function"
        if len(held) < end:
            return None
        frame = bytes(held[start:end])
        if not is_sealed(frame):
            return "bad-crc"
        reply = parse_reply(self._request, frame[1:-2])
        if isinstance(reply, str):
            return reply
        behind = held[end:]
        if len(behind) > NOISE_MAX or behind.strip(NOISE):
            return "more-than-asked"
        return Found(reply, bytes(held[:end]), len(frame), is_echoed)


def _behind_noise(held: bytearray, start: int) -> range:
    """Offsets from `start` on before which there is only noise; also behind the last byte."""
    end = start
    while end < len(held) and end - start < NOISE_MAX and held[end] in NOISE:
        end += 1
    return range(start, end + 1)


@dataclass(frozen=True, slots=True)
class Stray:
    """A sound frame in what came without being asked for, or instead of the answer."""

    unit: int
    function: int
    frame: bytes


def stray(held: bytes | bytearray) -> Stray | None:
    """The first sound reply anywhere in these bytes: says who speaks out of turn. None: there is none."""
    for start in range(min(len(held), FRAME_MAX_BYTES) - 4):
        function = held[start + 1]
        if function & 0x80:
            end = start + 5
        elif function in _COUNTED:
            end = start + 5 + held[start + 2]
        elif function in {5, 6, 15, 16}:
            end = start + 8
        else:
            continue
        frame = bytes(held[start:end])
        if end <= len(held) and is_sealed(frame):
            return Stray(held[start], function, frame)
    return None


# ------------------------------------------------------------------------------------------------ TCP


@dataclass(frozen=True, slots=True)
class Adu:
    """One message on TCP."""

    transaction: int
    unit: int
    pdu: bytes
    raw: bytes


def tcp_frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    """With its header."""
    return MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu


class TcpReader:
    """Messages of one connection. A header that cannot be one ends it: `lost` says so, and nothing more comes."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.lost = ""

    @property
    def held_bytes(self) -> int:
        """Less than one message."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Adu]:
        """The messages that these bytes complete."""
        found: list[Adu] = []
        if self.lost:
            return found
        self._held += data
        at = 0
        while len(self._held) - at >= MBAP.size:
            transaction, protocol, size, unit = MBAP.unpack_from(self._held, at)
            if protocol or not 3 <= size <= PDU_MAX_BYTES + 1:
                self.lost = f"the header {bytes(self._held[at : at + MBAP.size]).hex()} is not of Modbus TCP"
                at = len(self._held)
                break
            end = at + 6 + size
            if end > len(self._held):
                break
            raw = bytes(self._held[at:end])
            found.append(Adu(transaction, unit, raw[MBAP.size :], raw))
            at = end
        del self._held[:at]
        return found
