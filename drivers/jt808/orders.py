"""What the platform tells a terminal (JT/T 808, chapter 8): 8003, 8004, 8100, 8201, 8202, 8300; and
the terminal's own request for packets, 0005.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from drivers.jt808.terminal import Empty
from drivers.jt808.wire import NO_TEXT, BodyEnds, EncodeError, Reader, Text, Version, digits, u8, u16, u32

TEXT_MAX: Final = 1024
"""8300: "text, at most 1024 bytes"."""


@dataclass(frozen=True, slots=True)
class ResendRequest:
    """8003: packets of a message that did not arrive."""

    MSG_ID: ClassVar[int] = 0x8003

    first_serial: int
    """Serial number of the first packet of the message."""
    parts: tuple[int, ...]
    """Numbers of the missing packets, from 1."""
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body. The number of packets is a BYTE before 2019 and a WORD since; the width that fits the length
        counts, because senders mix them up."""
        serial, start, left = reader.u16(), reader.at, reader.left
        wide = version is Version.V2019
        for is_wide in (wide, not wide):
            reader.back_to(start)
            try:
                count = reader.u16() if is_wide else reader.u8()
                parts = tuple(reader.u16() for _ in range(count))
            except BodyEnds:
                continue
            if not reader.left:
                return cls(serial, parts)
        reader.back_to(start)
        raise BodyEnds(f"{left} bytes are no list of packets at offset {start}")

    def write(self, version: Version) -> bytes:
        """As a body."""
        count = u16(len(self.parts)) if version is Version.V2019 else u8(len(self.parts))
        return u16(self.first_serial) + count + b"".join(map(u16, self.parts)) + self.tail


class TerminalResendRequest(ResendRequest):
    """0005 (JT/T 808-2019, 8.7): the terminal misses packets of ours."""

    __slots__ = ()
    MSG_ID = 0x0005


@dataclass(frozen=True, slots=True)
class ServerTime:
    """8004 (2019): the answer to 0004. The standard says UTC here, as the only place: the caller decides."""

    MSG_ID: ClassVar[int] = 0x8004

    time_bcd: str
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(reader.digits(6), reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        return digits(self.time_bcd, 6) + self.tail


@dataclass(frozen=True, slots=True)
class RegistrationReply:
    """8100."""

    MSG_ID: ClassVar[int] = 0x8100
    ACCEPTED: ClassVar[int] = 0

    reply_serial: int
    result: int
    """0 accepted, 1 vehicle is registered, 2 no such vehicle, 3 terminal is registered, 4 no such terminal."""
    code: Text = NO_TEXT
    """Authentication code; sent only with result 0."""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(reader.u16(), reader.u8(), Text(reader.rest()))

    def write(self, _version: Version) -> bytes:
        """As a body."""
        return u16(self.reply_serial) + u8(self.result) + self.code.raw


class QueryLocation(Empty):
    """8201: answered with 0201."""

    __slots__ = ()
    MSG_ID = 0x8201


@dataclass(frozen=True, slots=True)
class Track:
    """8202: report every `interval_s` for `validity_s`; interval 0 stops it and then has no validity."""

    MSG_ID: ClassVar[int] = 0x8202

    interval_s: int
    validity_s: int | None = None
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(reader.u16(), reader.u32() if reader.left >= 4 else None, reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        if self.interval_s and self.validity_s is None:
            raise EncodeError("temporary tracking needs a validity in seconds unless its interval is 0")
        return u16(self.interval_s) + (b"" if self.validity_s is None else u32(self.validity_s)) + self.tail


@dataclass(frozen=True, slots=True)
class DriverText:
    """8300. Flag bits: 0 urgent, 2 display, 3 read aloud, 4 advertising screen, 5 fault code instead of navigation;
    2019 uses bits 0-1 as a class."""

    MSG_ID: ClassVar[int] = 0x8300
    URGENT: ClassVar[int] = 1
    DISPLAY: ClassVar[int] = 1 << 2
    READ_ALOUD: ClassVar[int] = 1 << 3
    SCREEN: ClassVar[int] = 1 << 4

    flags: int
    text: Text
    kind: int = 1
    """2019: 1 notice, 2 service. Not sent before."""

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body."""
        flags = reader.u8()
        kind = reader.u8() if version is Version.V2019 else 1
        return cls(flags, Text(reader.rest()), kind)

    def write(self, version: Version) -> bytes:
        """As a body."""
        if len(self.text.raw) > TEXT_MAX:
            raise EncodeError(f"text of {len(self.text.raw)} bytes where {TEXT_MAX} are allowed: shorten it")
        return u8(self.flags) + (u8(self.kind) if version is Version.V2019 else b"") + self.text.raw
