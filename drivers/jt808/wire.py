"""Primitives of JT/T 808 bodies (JT/T 808, 4.2 and 4.3): big-endian numbers, BCD digits, GBK texts.

Reading keeps what was sent: a text holds its bytes, a time its twelve digits. Whether they make sense is said beside
them and never by changing them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from drivers.bits import is_bcd

U8_MAX: Final = 0xFF
ZONE: Final = "+08:00"
"""JT/T 808, message 0200: times are GMT+8, as all times of the standard."""

_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_MONTH_DAYS: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Version(IntEnum):
    """Edition of the standard. A frame tells 2019 from the earlier two; a registration tells these apart."""

    V2011 = 2011
    V2013 = 2013
    V2019 = 2019


class EncodeError(ValueError):
    """A message that the wire cannot carry; one line that says which field and why."""


class BodyEnds(Exception):
    """A body is shorter than its fields; it never leaves the codec."""


@dataclass(frozen=True, slots=True)
class Text:
    """A STRING field: the bytes that were sent, padding and all, and what they read as in GBK."""

    raw: bytes

    @property
    def text(self) -> str:
        """Without padding; bytes that are no GBK become U+FFFD, `raw` still has them."""
        return self.raw.decode("gbk", "replace").strip("\0").rstrip(" ")

    @property
    def exact(self) -> bool:
        """Whether every byte is GBK."""
        try:
            self.raw.decode("gbk")
        except UnicodeDecodeError:
            return False
        return True

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, text: str) -> Self:
        """A text to send."""
        try:
            return cls(text.encode("gbk"))
        except UnicodeEncodeError as error:
            raise EncodeError(f"character {text[error.start]!r} has no GBK code: use another one") from None


NO_TEXT: Final = Text(b"")


class Reader:
    """A cursor over one body. Every read is checked; `BodyEnds` says where bytes are missing."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at(self) -> int:
        """Bytes read so far."""
        return self._at

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise BodyEnds(f"{size} bytes expected at offset {self._at}, {self.left} are there")
        found = self._data[self._at : end]
        self._at = end
        return found

    def back_to(self, at: int) -> None:
        """Read again from an offset that `at` gave."""
        self._at = at

    def u8(self) -> int:
        """BYTE."""
        return self.take(1)[0]

    def u16(self) -> int:
        """WORD."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """DWORD."""
        return int.from_bytes(self.take(4), "big")

    def digits(self, size: int) -> str:
        """BCD[size] as it is written in hexadecimal; digits above 9 stay visible."""
        return self.take(size).hex()

    def text(self, size: int) -> Text:
        """STRING of a known size."""
        return Text(self.take(size))

    def text8(self) -> Text:
        """STRING after its length in one BYTE."""
        return Text(self.take(self.u8()))

    def text16(self) -> Text:
        """STRING after its length in one WORD."""
        return Text(self.take(self.u16()))

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(self.left)


def u8(value: int) -> bytes:
    """BYTE."""
    if not 0 <= value <= U8_MAX:
        raise EncodeError(f"{value} does not fit a BYTE: use 0 to 255")
    return bytes((value,))


def u16(value: int) -> bytes:
    """WORD."""
    try:
        return _U16.pack(value)
    except struct.error:
        raise EncodeError(f"{value} does not fit a WORD: use 0 to 65535") from None


def u32(value: int) -> bytes:
    """DWORD."""
    try:
        return _U32.pack(value)
    except struct.error:
        raise EncodeError(f"{value} does not fit a DWORD: use 0 to 4294967295") from None


def digits(text: str, size: int) -> bytes:
    """BCD[size] of exactly as many hexadecimal digits; what was read with digits above 9 can be written again."""
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        packed = b""
    if len(packed) != size or not text.isalnum():
        raise EncodeError(f"{text!r} is not BCD[{size}]: use {2 * size} digits")
    return packed


def fixed(text: Text, size: int) -> bytes:
    """STRING of a fixed size, filled up with 0x00."""
    if len(text.raw) > size:
        raise EncodeError(f"text of {len(text.raw)} bytes where {size} are allowed: shorten it")
    return text.raw.ljust(size, b"\0")


def text8(text: Text) -> bytes:
    """STRING after its length in one BYTE."""
    return u8(len(text.raw)) + text.raw


def text16(text: Text) -> bytes:
    """STRING after its length in one WORD."""
    return u16(len(text.raw)) + text.raw


def read_time(digits12: str) -> str | None:
    """`YYMMDDhhmmss` in BCD as `20YY-MM-DDThh:mm:ss+08:00`; None where it is no time.

    Zeros mean "no time". A leap second (`:60`) does not occur in GMT+8 terminals and is refused like any other
    impossible digit: an invented time would be worse than none.
    """
    if not is_bcd(digits12) or len(digits12) != 12:
        return None
    year, month, day, hour, minute, second = (int(digits12[n : n + 2]) for n in range(0, 12, 2))
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month] or hour > 23 or minute > 59 or second > 59:
        return None
    if month == 2 and day == 29 and year % 4:
        return None
    return f"20{digits12[:2]}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{ZONE}"
