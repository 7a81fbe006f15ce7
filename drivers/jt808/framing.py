"""Frames of JT/T 808: delimiters, escapes, check byte, both header layouts.

JT/T 808, 4.4.1: a frame is `7e | header | body | check | 7e`. 4.4.2: after the check byte is known, 7e is sent as
7d 02 and 7d as 7d 01. 4.4.4: the check byte is the XOR of everything from the header to the byte before it.

The stream is split at every 7e and every piece is tried. So one 7e may close a frame and open the next, and a damaged
frame costs itself only: a reader that pairs delimiters loses the good frame behind it as well.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from drivers.bits import is_bcd
from drivers.checksum import xor8
from drivers.jt808.wire import EncodeError, Version

FLAG: Final = b"\x7e"
BODY_MAX: Final = 1023
"""4.4.3, properties: bits 0-9 hold the length of the body."""
SEGMENT_SHORTEST: Final = 13
"""The header of 2011 and 2013, no body, the check byte."""
SEGMENT_LONGEST: Final = 2 * (21 + BODY_MAX + 1)
"""The longest header, the longest body, the check byte, and every byte of them escaped."""

_HEAD: Final = struct.Struct(">HH")
_PARTS: Final = struct.Struct(">HH")
_LENGTH_MASK: Final = 0x03FF
_PART_BIT: Final = 1 << 13
_VERSION_BIT: Final = 1 << 14
_RESERVED_BIT: Final = 1 << 15
_PHONE_SIZE: Final = {Version.V2011: 6, Version.V2013: 6, Version.V2019: 10}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost."""

    segment_bytes: int = 4096
    """Bytes held while no delimiter comes. A piece this long is no frame; it is given out in blocks of this size."""

    def __post_init__(self) -> None:
        if self.segment_bytes <= SEGMENT_LONGEST:
            raise ValueError(
                f"segment_bytes must exceed {SEGMENT_LONGEST}, the longest frame, not {self.segment_bytes}"
            )


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes between delimiters that are no frame. A value, not an exception."""

    reason: str
    """`short`, `escape`, `check`, `length`, `overlong` or `unfinished`."""
    detail: str
    raw: bytes
    """As received, without delimiters."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose check byte and length are right. Its body is not looked at yet."""

    raw: bytes
    """As received, escaped, with one delimiter on each side (a delimiter shared by two frames is given to both)."""
    msg_id: int
    version: Version
    """V2019 if bit 14 of the properties is set, else V2013: the header cannot tell 2011 from 2013."""
    protocol: int
    """Protocol version of the 2019 header, 1 for the first issue; 0 before 2019."""
    phone_field: bytes
    """BCD[6] or BCD[10] as sent; a reply carries the same bytes."""
    serial: int
    total: int
    """Number of packets of the message; 0 for a message in one frame."""
    index: int
    """Number of this packet from 1; 0 for a message in one frame."""
    encryption: int
    """Bits 10-12 of the properties: 0 none, 1 RSA, the rest reserved."""
    reserved: bool
    """Bit 15 of the properties, which the standard reserves."""
    body: bytes

    @property
    def phone(self) -> str:
        """All digits of the phone field, leading zeros too; hexadecimal where it is not BCD."""
        return self.phone_field.hex()

    @property
    def phone_is_bcd(self) -> bool:
        """Some trackers put the first 14 digits of an IMEI into the field as a 48-bit number."""
        return is_bcd(self.phone)

    @property
    def identity(self) -> str:
        """Who sends: the same text for the same phone in all editions (`identity_of`)."""
        return identity_of(self.phone_field)


def identity_of(phone_field: bytes) -> str:
    """The digits without the zeros that only fill the field; an IMEI with its check digit where the field holds one in
    binary; `hex:` and the field where it is neither."""
    text = phone_field.hex()
    if is_bcd(text):
        return text.lstrip("0") or "0"
    number = str(int.from_bytes(phone_field, "big"))
    if len(phone_field) == 6 and len(number) == 14:
        return number + luhn(number)
    return f"hex:{text}"


def luhn(number: str) -> str:
    """The check digit of an IMEI (3GPP TS 23.003, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def escape(data: bytes) -> bytes:
    """4.4.2: 7d becomes 7d 01, 7e becomes 7d 02."""
    return data.replace(b"\x7d", b"\x7d\x01").replace(b"\x7e", b"\x7d\x02")


def unescape(data: bytes) -> bytes | None:
    """The reverse of `escape`; None where 7d is followed by anything but 01 and 02."""
    if b"\x7d" not in data:
        return data
    first, *others = data.split(b"\x7d")
    found = [first]
    for other in others:
        if other[:1] == b"\x01":
            found.append(b"\x7d")
        elif other[:1] == b"\x02":
            found.append(b"\x7e")
        else:
            return None
        found.append(other[1:])
    return b"".join(found)


def read_segment(segment: bytes) -> Frame | Malformed:
    """What stands between two delimiters."""
    content = unescape(segment)
    if content is None:
        return Malformed("escape", "7d is followed by neither 01 nor 02", segment)
    if len(content) < SEGMENT_SHORTEST:
        return Malformed("short", f"{len(content)} bytes, the shortest frame has {SEGMENT_SHORTEST}", segment)
    if (wrong := xor8(content)) != 0:
        return Malformed("check", f"check byte is {content[-1]:02x}, expected {content[-1] ^ wrong:02x}", segment)
    msg_id, properties = _HEAD.unpack_from(content)
    at = 4
    version, protocol = Version.V2013, 0
    if properties & _VERSION_BIT:
        version, protocol, at = Version.V2019, content[4], 5
    phone_end = at + _PHONE_SIZE[version]
    start = phone_end + 2 + (4 if properties & _PART_BIT else 0)
    stated, found = properties & _LENGTH_MASK, len(content) - start - 1
    if stated != found:
        return Malformed("length", f"header says {stated} bytes of body, {found} are there", segment)
    total, index = _PARTS.unpack_from(content, phone_end + 2) if properties & _PART_BIT else (0, 0)
    return Frame(
        raw=FLAG + segment + FLAG,
        msg_id=msg_id,
        version=version,
        protocol=protocol,
        phone_field=content[at:phone_end],
        serial=content[phone_end] << 8 | content[phone_end + 1],
        total=total,
        index=index,
        encryption=properties >> 10 & 7,
        reserved=bool(properties & _RESERVED_BIT),
        body=content[start:-1],
    )


class Decoder:
    """Bytes of one TCP connection in, frames out. Never raises, holds at most `Limits.segment_bytes`, and gives the
    same result however the bytes are cut into chunks."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limit = (limits or Limits()).segment_bytes
        self._held = bytearray()
        self._overlong = False

    @property
    def held_bytes(self) -> int:
        """Bytes that wait for a delimiter."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Frame | Malformed]:
        """What the next bytes complete, in their order."""
        found: list[Frame | Malformed] = []
        first, *others = data.split(FLAG)
        self._hold(first, found)
        for other in others:
            self._end(found)
            self._hold(other, found)
        return found

    def finish(self) -> list[Malformed]:
        """The connection is gone: what is held is half a frame. The decoder is empty afterwards."""
        held, self._held, self._overlong = bytes(self._held), bytearray(), False
        return [Malformed("unfinished", f"the link ended after {len(held)} bytes of a frame", held)] if held else []

    def _hold(self, piece: bytes, found: list[Frame | Malformed]) -> None:
        self._held += piece
        while len(self._held) >= self._limit:
            found.append(self._junk(bytes(self._held[: self._limit])))
            del self._held[: self._limit]
            self._overlong = True

    def _end(self, found: list[Frame | Malformed]) -> None:
        if self._held:
            segment = bytes(self._held)
            found.append(self._junk(segment) if self._overlong else read_segment(segment))
            self._held.clear()
        self._overlong = False

    @staticmethod
    def _junk(block: bytes) -> Malformed:
        return Malformed("overlong", "more bytes without a delimiter than the longest frame has", block)


def read_datagram(data: bytes, limits: Limits | None = None) -> list[Frame | Malformed]:
    """One UDP datagram: whole frames only, nothing is carried over to the next one."""
    decoder = Decoder(limits)
    return [*decoder.feed(data), *decoder.finish()]


@dataclass(frozen=True, slots=True)
class Address:
    """Whom a frame is for (or from, in the simulator), and in which edition: the variable part of a header."""

    version: Version
    phone_field: bytes
    protocol: int = 1

    def __post_init__(self) -> None:
        size = _PHONE_SIZE[self.version]
        if len(self.phone_field) != size:
            raise EncodeError(f"phone field has {len(self.phone_field)} bytes, edition {self.version} has {size}")

    @classmethod
    def of(cls, phone: str, version: Version) -> Self:
        """An address from the digits of a phone number; zeros are put before it."""
        width = 2 * _PHONE_SIZE[version]
        if not phone.isascii() or not phone.isdecimal() or len(phone) > width:
            raise EncodeError(f"phone {phone!r}: use up to {width} digits")
        return cls(version, bytes.fromhex(phone.zfill(width)))

    @classmethod
    def of_frame(cls, frame: Frame, version: Version | None = None) -> Self:
        """The address that answers a frame; `version` is what the session knows better (2011)."""
        return cls(version or frame.version, frame.phone_field, frame.protocol)


def write_frame(
    msg_id: int, body: bytes, address: Address, serial: int, *, part: tuple[int, int] = (0, 0), encryption: int = 0
) -> bytes:
    """One frame, ready to send. `part` is (total, index) of a message in several packets."""
    if len(body) > BODY_MAX:
        raise EncodeError(f"body of {len(body)} bytes where {BODY_MAX} are allowed: send it in packets")
    properties = len(body) | encryption << 10
    content = b""
    if address.version is Version.V2019:
        properties |= _VERSION_BIT
        content = bytes((address.protocol,))
    content += address.phone_field + serial.to_bytes(2, "big")
    if part[0]:
        properties |= _PART_BIT
        content += _PARTS.pack(*part)
    content = _HEAD.pack(msg_id, properties) + content + body
    return FLAG + escape(content + bytes((xor8(content),))) + FLAG


def write_packets(
    msg_id: int, body: bytes, address: Address, serial: int, *, part_bytes: int = BODY_MAX
) -> tuple[bytes, ...]:
    """A message as one frame, or as packets with serial numbers from `serial` on (4.4.3: those of one message are
    consecutive). The caller's next serial number is `serial` plus the number of frames."""
    if len(body) <= part_bytes:
        return (write_frame(msg_id, body, address, serial),)
    pieces = [body[at : at + part_bytes] for at in range(0, len(body), part_bytes)]
    if len(pieces) > 0xFFFF:
        raise EncodeError(f"{len(pieces)} packets where 65535 are allowed: send less at once")
    return tuple(
        write_frame(msg_id, piece, address, (serial + number) & 0xFFFF, part=(len(pieces), number + 1))
        for number, piece in enumerate(pieces)
    )
