"""NMEA 0183 sentences out of a byte stream: mixed with binary, cut anywhere, with or without line ends.

What comes out depends on the bytes alone, never on how they were chunked, and every byte but a line end comes out: in a
sentence with the right checksum, or in a Malformed that says why not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Final

_START: Final = re.compile(rb"[$!]")
_LINE_ENDS: Final = re.compile(rb"[\r\n]*")
# `$` is reserved and always starts a sentence; `!` is met in free text, so it only does so after a checksum.
_END: Final = re.compile(rb"(?<=\*[0-9A-Fa-f]{2})!|[^\x20-\x23\x25-\x7e]")
_WHOLE: Final = re.compile(rb"[$!]([^*]*)\*([0-9A-Fa-f]{2}) *")
_ADDRESS: Final = re.compile(r"[A-Z][A-Z0-9]{2,31}")


@dataclass(frozen=True, slots=True)
class Limits:
    """The standard stops at 82 characters; receivers with many digits and makers' own sentences go beyond."""

    sentence_max: int = 256
    noise_max: int = 1024
    """Bytes of one Malformed for what is no sentence; a longer run gives several."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are no evidence of anything but of what was received."""

    reason: str
    """`noise`, `cut`, `too-long`, `byte`, `no-checksum`, `checksum`, `address`; of a sentence: `fields`, `field`."""
    detail: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence whose checksum is right."""

    talker: str
    """`GP`, `GN`, `BD`, …; `P` for a maker's own sentence."""
    kind: str
    """`RMC`, `GGA`, …; for a maker's own sentence all after the `P`."""
    fields: tuple[str, ...]
    raw: bytes
    """From `$` or `!` to the checksum, without the line end."""


def checksum(body: bytes) -> int:
    """XOR of the bytes between `$` and `*`."""
    return reduce(xor, body, 0)


def encode(address: str, fields: tuple[str, ...]) -> bytes:
    """A sentence with its checksum and CR LF. ValueError for what no sentence can carry: the caller's mistake."""
    text = ",".join((address, *fields))
    if not _ADDRESS.fullmatch(address) or not re.fullmatch(r"[\x20-\x7e]*", text) or set(text) & set("$*!"):
        raise ValueError(f"not a sentence: {text[:80]!r}; printable ASCII without $ * ! and an address like GPRMC")
    body = text.encode("ascii")
    return b"$%b*%02X\r\n" % (body, checksum(body))


class Decoder:
    """Feed it bytes; it gives sentences and what was no sentence, in order."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for more; never above the larger of the limits."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Sentence | Malformed]:
        """Everything that is complete after these bytes."""
        self._buffer += data
        return self._take(final=False)

    def close(self) -> list[Sentence | Malformed]:
        """What is left at the end of a connection, a file or a datagram; the decoder is empty afterwards."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> list[Sentence | Malformed]:
        data = bytes(self._buffer)
        found: list[Sentence | Malformed] = []
        at = 0
        while (at := _after_line_ends(data, at)) < len(data):
            end = self._end(data, at, final=final)
            if end is None:
                break
            found.append(
                _read(data, at, end) if data[at] in b"$!" else Malformed("noise", _noise(end - at), data[at:end])
            )
            at = end
        self._buffer = bytearray(data[at:])
        return found

    def _end(self, data: bytes, at: int, *, final: bool) -> int | None:
        """Where the item ends that begins at `at`; None while that is not known."""
        sentence = data[at] in b"$!"
        longest = at + (self.limits.sentence_max if sentence else self.limits.noise_max)
        found = (_END if sentence else _START).search(data, at + 1, longest + 1)
        if found is not None:
            return found.start()
        if len(data) > longest:
            return longest
        return len(data) if final else None


def _after_line_ends(data: bytes, at: int) -> int:
    found = _LINE_ENDS.match(data, at)
    return at if found is None else found.end()


def _noise(size: int) -> str:
    return f"{size} bytes outside any sentence"


def _read(data: bytes, at: int, end: int) -> Sentence | Malformed:
    raw, follower = data[at:end], data[end : end + 1]
    whole = _WHOLE.fullmatch(raw)
    if whole is None or (follower not in b"$!" and 0x20 <= follower[0] <= 0x7E):
        return _incomplete(raw, follower)
    stated, counted = int(whole[2], 16), checksum(whole[1])
    if stated != counted:
        return Malformed("checksum", f"the sentence says {stated:02X}, its bytes give {counted:02X}", raw)
    address, *fields = whole[1].decode("ascii").split(",")
    if not _ADDRESS.fullmatch(address):
        return Malformed("address", f"{address[:16]!r} is no talker and sentence", raw)
    size = 1 if address[0] == "P" else 2
    return Sentence(address[:size], address[size:], tuple(fields), raw)


def _incomplete(raw: bytes, follower: bytes) -> Malformed:
    if b"*" in raw and follower in (b"\r", b"\n"):
        return Malformed("checksum", "no two hexadecimal digits between * and the end", raw)
    if follower in (b"\r", b"\n"):
        return Malformed("no-checksum", "the line ends without a checksum", raw)
    if follower in (b"$", b""):
        return Malformed("cut", "the next sentence begins" if follower else "the data ends", raw)
    if 0x20 <= follower[0] <= 0x7E:
        return Malformed("too-long", f"no end after {len(raw)} bytes", raw)
    return Malformed("byte", f"byte 0x{follower[0]:02X} inside", raw)
