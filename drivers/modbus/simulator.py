"""The devices' side of Modbus RTU: several units on one bus as a pure session, for tests, benches and the demo.

Time is an argument (monotonic seconds); what is measured comes from a `Bank`: device time in, registers out. A bus that
has received a request says what goes onto the line, and when: `Answer.at_s`. What real devices do is a list of `Fault`:

    slow           answers `amount` ms later than the others
    late           each n-th answer comes `amount` ms late: after the client has given up
    noise          00 before each n-th answer, as when a line turns its direction
    bad-crc        a wrong CRC, each n-th answer
    short          one register fewer than asked, each n-th answer, with a right CRC
    wrong-unit     each n-th answer says that it is of unit `amount`
    flood          `amount` bytes of noise instead of each n-th answer
    dead           no answer, each n-th time

It is written against the standard; of our client it uses the codec only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from drivers.fleet.kitchens import Kitchen
from drivers.fleet.vehicles import DeviceClock, bits_of
from drivers.modbus import codec

FaultKind = Literal["slow", "late", "noise", "bad-crc", "short", "wrong-unit", "flood", "dead"]
FAULTS: Final[tuple[FaultKind, ...]] = ("slow", "late", "noise", "bad-crc", "short", "wrong-unit", "flood", "dead")
HELD_MAX_BYTES: Final = 512
SILENCE_S: Final = 0.1
"""A request that is not whole after so long without a byte is given up."""
TRUTH_MAX: Final = 100_000
FLOOD_MAX_BYTES: Final = 4096
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS = 1, 2

Span = tuple[int, tuple[int, ...]]
"""First register on the wire, and the registers from there on."""
Bank = Callable[[int], Mapping[int, Span] | None]
"""Second of device time → function code → registers; None while the device has no power."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that a device does to each `every`-th request."""

    kind: FaultKind
    amount: int = 0
    every: int = 1


@dataclass(slots=True)
class Unit:
    """One device."""

    unit: int
    bank: Bank
    turnaround_s: float = 0.015
    """Between the end of a request and the begin of its answer."""
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    asked: int = 0
    answered: int = 0
    _kinds: dict[str, Fault] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._kinds = {one.kind: one for one in self.faults}

    def befall(self, fault: Fault) -> None:
        """One fault more."""
        self.faults = (*self.faults, fault)
        self._kinds[fault.kind] = fault

    def fault(self, kind: FaultKind) -> Fault | None:
        """What of one kind befalls the request that was counted last."""
        one = self._kinds.get(kind)
        return one if one is not None and self.asked % one.every == 0 else None


class Answer(NamedTuple):
    """What goes onto the line, and when."""

    at_s: float
    content: bytes


class Told(NamedTuple):
    """What a device has really said: `registers` are its own, whatever became of them on the line."""

    at_s: float
    utc_s: int
    unit: int
    function: int
    address: int
    registers: tuple[int, ...]
    is_sound: bool
    """Whether a client that waited would have got exactly this."""


class Bus:
    """All devices of one line. `received` is to be called with whatever the client has sent."""

    def __init__(self, units: Sequence[Unit], clock: DeviceClock, baud: int = 0) -> None:
        """`baud`: bytes take as long as on a line of this speed; 0: no time."""
        self._units = {one.unit: one for one in units}
        self._clock = clock
        self._char_s = 10 / baud if baud else 0.0
        self._held = bytearray()
        self._held_s = 0.0
        self._draws = 0
        self.units: tuple[Unit, ...] = tuple(units)
        self.truth: deque[Told] = deque(maxlen=TRUTH_MAX)
        self.requests = 0
        self.malformed = 0
        """Bytes that were no request."""

    def received(self, data: bytes, mono_s: float) -> list[Answer]:
        """Bytes of the client came; what goes onto the line for them, ascending in time."""
        if self._held and mono_s - self._held_s > SILENCE_S:
            self.malformed += len(self._held)
            self._held.clear()
        self._held_s = mono_s
        self._held += data[:HELD_MAX_BYTES]
        found: list[Answer] = []
        while self._held:
            size = codec.request_frame_bytes(bytes(self._held))
            if size is None or size > len(self._held):
                break
            frame = bytes(self._held[:size])
            if not size or not codec.is_sealed(frame):
                self.malformed += 1
                del self._held[0]
                continue
            del self._held[:size]
            found += self._request(frame, mono_s)
        if len(self._held) >= HELD_MAX_BYTES:
            self.malformed += len(self._held)
            self._held.clear()
        return sorted(found)

    def _request(self, frame: bytes, mono_s: float) -> list[Answer]:
        self.requests += 1
        unit = self._units.get(frame[0])
        if unit is None:
            return []
        unit.asked += 1
        utc_s = int(self._clock.utc_s(mono_s))
        bank = unit.bank(utc_s)
        if bank is None or unit.fault("dead"):
            return []
        request = codec.parse_request(frame[1:-2])
        registers: tuple[int, ...] = ()
        if request is None or request.values or request.function not in bank:
            pdu = codec.exception_pdu(frame[1], ILLEGAL_FUNCTION)
        elif (found := _cut(bank[request.function], request)) is None:
            pdu = codec.exception_pdu(frame[1], ILLEGAL_ADDRESS)
        else:
            registers = found
            pdu = codec.reply_pdu(request, registers[:-1] if unit.fault("short") else registers)
        content, is_sound = self._onto_the_line(unit, pdu)
        late = unit.fault("late")
        wait_s = sum(one.amount for one in (unit.fault("slow"), late) if one) / 1000
        at_s = mono_s + (len(frame) + len(content)) * self._char_s + unit.turnaround_s + wait_s
        unit.answered += 1
        if request is not None and registers:
            is_sound = is_sound and late is None and not unit.fault("short")
            told = Told(at_s, utc_s, unit.unit, request.function, request.address, registers, is_sound)
            self.truth.append(told)
        return [Answer(at_s, content)]

    def _onto_the_line(self, unit: Unit, pdu: bytes) -> tuple[bytes, bool]:
        """The frame, and whether it arrives as it should."""
        self._draws += 1
        if flood := unit.fault("flood"):
            size = min(flood.amount, FLOOD_MAX_BYTES)
            return bytes(bits_of(unit.seed, 70, self._draws * FLOOD_MAX_BYTES + n) & 0xFF for n in range(size)), False
        stranger = unit.fault("wrong-unit")
        frame = codec.rtu_frame(stranger.amount & 0xFF if stranger else unit.unit, pdu)
        if unit.fault("bad-crc"):
            return frame[:-1] + bytes([frame[-1] ^ 0x5A]), False
        if unit.fault("noise"):
            return b"\x00" + frame, True
        return frame, stranger is None


def _cut(span: Span, request: codec.Request) -> tuple[int, ...] | None:
    """The registers that were asked for; None where the device has not all of them."""
    first, registers = span
    begin = request.address - first
    if begin < 0 or begin + request.count > len(registers):
        return None
    return registers[begin : begin + request.count]


# ------------------------------------------------------------------------------------------- devices


def concentrator(kitchen: Kitchen) -> Bank:
    """A catering fume concentrator (profile `fume-concentrator`): function 3, registers 0 to 19, ten s32 in hundredths,
    high word first: fume, particulates, TVOC, temperature, humidity, pressure in hPa, fan current and state, purifier
    current and state."""

    def bank(utc_s: int) -> Mapping[int, Span] | None:
        seen = kitchen.measure(utc_s)
        if seen is None:
            return None
        values = (
            seen.fume_e2, seen.pm_e2, seen.nmhc_e2, seen.temperature_e1 * 10, seen.humidity_e1 * 10, 101_300,
            round(seen.fan_ma / 10), 100 * seen.fan_on, round(seen.purifier_ma / 10), 100 * seen.purifier_on,
        )  # fmt: skip
        return {3: (0, tuple(half for value in values for half in (value >> 16 & 0xFFFF, value & 0xFFFF)))}

    return bank


def meter(kitchen: Kitchen, motor: Literal["fan", "purifier"], volts_e1: int = 2305) -> Bank:
    """A PZEM meter on the cable of a motor: function 4, registers 0 to 9: voltage in 0.1 V, current in mA, power in
    0.1 W and energy in Wh (low word first), frequency in 0.1 Hz, power factor in hundredths, alarm."""

    def bank(utc_s: int) -> Mapping[int, Span] | None:
        seen = kitchen.measure(utc_s)
        if seen is None:
            return None
        milliamperes = seen.fan_ma if motor == "fan" else seen.purifier_ma
        factor_e2 = 92 if milliamperes else 0
        watts_e1 = round(volts_e1 * milliamperes * factor_e2 / 100_000)
        energy_wh = max(utc_s - kitchen.start_utc_s, 0) // 60
        registers = (volts_e1, *_low_first(milliamperes), *_low_first(watts_e1), *_low_first(energy_wh))
        return {4: (0, (*registers, 500, factor_e2, 0))}

    return bank


def _low_first(value: int) -> tuple[int, int]:
    return value & 0xFFFF, value >> 16 & 0xFFFF
