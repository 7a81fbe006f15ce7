"""Sentences for tests, and what comes out of bytes."""

from __future__ import annotations

from drivers.nmea.codec import parse
from drivers.nmea.framing import Decoder, Malformed, Sentence, encode
from drivers.nmea.messages import Message


def line(text: str) -> bytes:
    """`GPRMC,…` with `$`, checksum and CR LF."""
    address, *fields = text.split(",")
    return encode(address, tuple(fields))


def decoded(raw: bytes) -> list[Sentence | Malformed]:
    """All items of a finished stream."""
    decoder = Decoder()
    return decoder.feed(raw) + decoder.close()


def said(raw: bytes) -> list[tuple[Sentence, Message]]:
    """All sentences of a finished stream that can be read, with what they say."""
    read = [(item, parse(item)) for item in decoded(raw) if isinstance(item, Sentence)]
    return [(sentence, message) for sentence, message in read if not isinstance(message, Malformed)]
