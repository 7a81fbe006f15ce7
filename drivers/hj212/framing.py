"""Frames of HJ 212 in any stream of bytes: `##`, four digits of length, data segment, four hex digits of CRC, CR LF.

    decoder.feed(bytes) -> [Frame or Malformed]      the same for any way to cut the stream
    decoder.look_inside() -> the same                after a silence: a head that waits in vain hides no whole frame
    decoder.finish() -> the same                     at the end of the connection

A frame ends with its CRC: CR LF may be missing, so it never belongs to it. What is no frame after all is left one byte
at a time. The length counts bytes; up to 9999 is read, the standard allows 1024.

The CRC (HJ 212-2017 annex A; the same in 2005 and 2025) is no CRC-16: the register is shifted before the byte comes in,
so the old low byte is lost and only 256 values exist. The eight-bit step left over is linear and of order 8, so the
value is the exclusive or of eight columns: equal changes eight bytes apart cancel out. It finds noise; it proves
nothing. What proves that nothing was changed is the record that holds the bytes.
"""

from __future__ import annotations

import re
from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Variant = Literal["hj212", "modbus_low_byte_first"]
VARIANTS: Final[tuple[Variant, ...]] = ("hj212", "modbus_low_byte_first")

HEAD_BYTES: Final = 6
CRC_BYTES: Final = 4
SEGMENT_MAX_BYTES: Final = 9999
"""What four digits can say."""
HELD_MAX_BYTES: Final = HEAD_BYTES + SEGMENT_MAX_BYTES + CRC_BYTES
RAW_KEPT_BYTES: Final = 1024
"""First bytes of what is no frame."""
NOISE_PIECE_BYTES: Final = 4096
"""Noise is told in pieces of this size, or when a frame follows."""
WORK_FREE_BYTES: Final = 1 << 18
WORK_FACTOR: Final = 4
"""Bytes whose CRC is computed in vain, against bytes received: heads in heads would cost 1600 times as much."""
_HASH: Final = 0x23
_POLYNOMIAL: Final = 0xA001
_SEALED: Final = re.compile(rb"CP=&&\{0x[0-9A-Fa-f]{2}(?:, ?0x[0-9A-Fa-f]{2})*,?\}[^&]*&&", re.ASCII)


def _step(value: int) -> int:
    """Eight shifts of the register."""
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE: Final = tuple(_step(value) for value in range(256))
_HIGH: Final = bytes(value >> 8 for value in _TABLE)


def _powers() -> tuple[bytes, ...]:
    """[k]: the high byte after k steps without input. The eighth is the identity again."""
    found = [bytes(range(256))]
    while len(found) < 8:
        found.append(found[-1].translate(_HIGH))
    return tuple(found)


_STEPS: Final = _powers()


def crc(segment: bytes) -> int:
    """The CRC of HJ 212: "123456789" gives 0x2F80, nothing gives 0xFFFF."""
    size = len(segment) - 1
    if size < 0:
        return 0xFFFF
    bits = (size + 7) // 8 * 64
    columns = int.from_bytes(segment[:size], "big")
    while bits > 64:  # the exclusive or of all groups of eight bytes, counted from the last
        half = (bits // 64 + 1) // 2 * 64
        columns = (columns >> half) ^ (columns & ((1 << half) - 1))
        bits = half
    high = _STEPS[size & 7][0xFF]
    s1, s2, s3, s4, s5, s6, s7 = _STEPS[1:]
    high ^= (
        columns >> 56  # eight steps back: as it was
        ^ s7[columns >> 48 & 0xFF]
        ^ s6[columns >> 40 & 0xFF]
        ^ s5[columns >> 32 & 0xFF]
        ^ s4[columns >> 24 & 0xFF]
        ^ s3[columns >> 16 & 0xFF]
        ^ s2[columns >> 8 & 0xFF]
        ^ s1[columns & 0xFF]
    )
    return _TABLE[high ^ segment[size]]


def crc_modbus_low_first(segment: bytes) -> int:
    """CRC-16/MODBUS as some devices print it, low byte first: "123456789" gives 0x374B."""
    register = 0xFFFF
    for byte in segment:
        register = (register >> 8) ^ _TABLE[(register ^ byte) & 0xFF]
    return (register & 0xFF) << 8 | register >> 8


CRCS: Final[dict[Variant, Callable[[bytes], int]]] = {"hj212": crc, "modbus_low_byte_first": crc_modbus_low_first}


@dataclass(slots=True)
class Frame:
    """One frame."""

    raw: bytes
    """As received, from ## to the last digit of the CRC."""
    segment: bytes
    """What length and CRC count."""
    crc: Literal["hj212", "modbus_low_byte_first", "plain"]
    """Which CRC was right; `plain`: its CP is encrypted, and the CRC is that of the plain text (2025)."""

    @property
    def crc_given(self) -> int:
        """The CRC that it carries."""
        return int(self.raw[-CRC_BYTES:], 16)


@dataclass(slots=True)
class Malformed:
    """Bytes that are no frame."""

    reason: Literal["noise", "crc", "crc-variant"]
    """`crc`: all but the CRC is a frame; `crc-variant`: the CRC is another one that is not set for its device."""
    detail: str
    raw: bytes
    """The first RAW_KEPT_BYTES."""
    size_bytes: int


def _standard(_segment: bytes) -> Variant:
    return "hj212"


class Decoder:
    """Finds frames. `variant_of` says which further CRC a segment may have, by its MN; the standard's always counts."""

    __slots__ = (
        "_bad_left", "_base", "_detail", "_fresh", "_noise", "_noise_bytes", "_reason", "_rest", "_variant_of", "_work",
    )  # fmt: skip

    def __init__(self, variant_of: Callable[[bytes], Variant] = _standard) -> None:
        self._variant_of = variant_of
        self._rest = b""
        self._base = 0
        """Bytes of the stream before `_rest`."""
        self._noise = bytearray()
        self._noise_bytes = 0
        self._fresh = True
        """Nothing but CR and LF since the last frame."""
        self._bad_left = 0
        """Bytes left of a frame with a wrong CRC that is being passed over."""
        self._reason: Literal["crc", "crc-variant"] = "crc"
        self._detail = ""
        self._work = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that wait for more."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[Frame | Malformed]:
        """What the stream holds up to here."""
        found: list[Frame | Malformed] = []
        self._scan(self._rest + chunk if self._rest else chunk, found)
        return found

    def look_inside(self) -> list[Frame | Malformed]:
        """Whether a whole frame lies behind a head that waits for bytes that do not come; nothing is given up
        otherwise."""
        found: list[Frame | Malformed] = []
        buffer = self._rest
        start = buffer.find(b"##", 1)
        while start >= 0:
            stop = _stop(buffer, start)
            if 0 < stop <= len(buffer) and self._frame(buffer, start, stop, note=False) is not None:
                self._skip(buffer[:start], found)
                self._base += start
                self._scan(buffer[start:], found)
                break
            start = buffer.find(b"##", start + 1)
        return found

    def finish(self) -> list[Frame | Malformed]:
        """What is left at the end of the stream. The decoder can be used for another one."""
        found: list[Frame | Malformed] = []
        self._scan(self._rest, found, final=True)
        self._flush(found)
        self._fresh = True
        return found

    def _scan(self, buffer: bytes, found: list[Frame | Malformed], *, final: bool = False) -> None:
        at, end = 0, len(buffer)
        while True:
            start = buffer.find(b"##", at)
            if start < 0:
                start = end - 1 if not final and at < end and buffer[-1] == _HASH else end
                self._skip(buffer[at:start], found)
                at = start
                break
            if start > at:
                self._skip(buffer[at:start], found)
                at = start
            stop = _stop(buffer, at)
            if stop > end or stop == 0:
                if not final:
                    break
                stop = -1
            frame = self._frame(buffer, at, stop, found=found) if stop > 0 else None
            if frame is None:
                self._skip(buffer[at : at + 1], found)
                at += 1
            else:
                self._flush(found)
                self._fresh = True
                found.append(frame)
                at = stop
        self._rest = buffer[at:]
        self._base += at

    def _frame(
        self,
        buffer: bytes,
        at: int,
        stop: int,
        *,
        note: bool = True,
        found: list[Frame | Malformed] | None = None,
    ) -> Frame | None:
        """The frame in buffer[at:stop], if it is one. `note`: what only has a wrong CRC is remembered as such."""
        try:
            given = int.from_bytes(unhexlify(buffer[stop - CRC_BYTES : stop]), "big")
        except HexError:
            return None
        if self._work > WORK_FREE_BYTES + WORK_FACTOR * (self._base + stop):
            return None
        segment = buffer[at + HEAD_BYTES : stop - CRC_BYTES]
        right = crc(segment)
        if right == given:
            return Frame(buffer[at:stop], segment, "hj212")
        self._work += len(segment)
        is_modbus = crc_modbus_low_first(segment) == given
        if is_modbus and self._variant_of(segment) == "modbus_low_byte_first":
            return Frame(buffer[at:stop], segment, "modbus_low_byte_first")
        if b"CP=&&{0x" in segment and _SEALED.fullmatch(segment, segment.index(b"CP=&&{0x")):
            return Frame(buffer[at:stop], segment, "plain")
        if note and found is not None and not self._bad_left:
            self._flush(found)
            self._bad_left = stop - at
            self._reason = "crc-variant" if is_modbus else "crc"
            self._detail = (
                f"CRC {given:04X} is CRC-16/MODBUS with the low byte first, which is not set for this device"
                if is_modbus
                else f"CRC {given:04X}, right were {right:04X}"
            )
        return None

    # ---------------------------------------------------------------- what is no frame

    def _skip(self, piece: bytes, found: list[Frame | Malformed]) -> None:
        while piece := piece.lstrip(b"\r\n") if self._fresh else piece:
            room = self._bad_left or NOISE_PIECE_BYTES - self._noise_bytes
            part, piece = piece[:room], piece[room:]
            self._noise_bytes += len(part)
            if len(self._noise) < RAW_KEPT_BYTES:
                self._noise += part[: RAW_KEPT_BYTES - len(self._noise)]
            self._fresh = len(part) == room and bool(self._bad_left)
            if len(part) == room:
                self._flush(found)
            elif self._bad_left:
                self._bad_left -= len(part)

    def _flush(self, found: list[Frame | Malformed]) -> None:
        if not self._noise_bytes:
            return
        raw, size = bytes(self._noise), self._noise_bytes
        if self._bad_left:
            found.append(Malformed(self._reason, self._detail, raw, size))
        else:
            found.append(Malformed("noise", f"{size} bytes that are no frame", raw, size))
        self._noise.clear()
        self._noise_bytes = self._bad_left = 0


def _stop(buffer: bytes, at: int) -> int:
    """Where the frame would end whose ## is at `at`; 0: more bytes must tell; -1: it is none."""
    digits = buffer[at + 2 : at + HEAD_BYTES]
    if len(digits) < 4:
        return 0 if not digits or digits.isdigit() else -1
    return at + HEAD_BYTES + CRC_BYTES + int(digits) if digits.isdigit() else -1


def written(segment: bytes, variant: Variant = "hj212") -> bytes:
    """A frame with CR LF. Raises ValueError for a segment of more than SEGMENT_MAX_BYTES."""
    if len(segment) > SEGMENT_MAX_BYTES:
        raise ValueError(f"{len(segment)} bytes; four digits of length say at most {SEGMENT_MAX_BYTES}")
    return b"##%04d%b%04X\r\n" % (len(segment), segment, CRCS[variant](segment))
