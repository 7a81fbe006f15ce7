"""HJ 212 of 2005, 2017 and 2025: bytes to messages and back. Pure; the parts are framing, fields, commands and sm4.

decoder = Decoder(); decoder.feed(bytes) -> [Frame or Malformed]
message = parse_frame(frame)
frame = encode(Message(...))
"""

from __future__ import annotations

from drivers.hj212 import sm4
from drivers.hj212.commands import FLAG_ANSWER, FLAG_PARTS
from drivers.hj212.fields import DEVIATIONS, Factor, Message, parse, parse_frame
from drivers.hj212.framing import (
    CRCS,
    VARIANTS,
    Decoder,
    Frame,
    Malformed,
    Variant,
    crc,
    crc_modbus_low_first,
    written,
)

__all__ = [
    "CRCS", "DEVIATIONS", "FLAG_ANSWER", "FLAG_PARTS", "VARIANTS", "Decoder", "Factor", "Frame", "Malformed",
    "Message", "Variant", "crc", "crc_modbus_low_first", "encode", "opened", "parse", "parse_frame", "segment_of",
    "written",
]  # fmt: skip


def segment_of(message: Message) -> bytes:
    """The data segment of a message, from its header fields and `cp`, in the order of the standard."""
    flag = "" if message.flag is None else f"Flag={message.flag};"
    pnum = "" if message.pnum is None else f"PNUM={message.pnum};"
    pno = "" if message.pno is None else f"PNO={message.pno};"
    rf = "RF=1;" if message.backfill else ""
    head = f"{_named('QN', message.qn)}{_named('ST', message.st)}{_named('CN', message.cn)}{_named('PW', message.pw)}"
    return f"{head}{_named('MN', message.mn)}{flag}{pnum}{pno}{rf}CP=&&{message.cp}&&".encode()


def _named(name: str, value: str) -> str:
    return f"{name}={value};" if value else ""


def encode(message: Message, variant: Variant = "hj212", key: bytes | None = None) -> bytes:
    """A frame with CR LF; with a key its CP is encrypted as of 2025. Raises ValueError where it is too long, and
    sm4.CipherMissing."""
    segment = segment_of(message)
    if key is None:
        return written(segment, variant)
    head, mark, tail = segment.partition(b"CP=&&")
    sealed = head + mark + sm4.encrypt(tail[:-2], key) + tail[-2:]
    if len(sealed) > 9999:
        raise ValueError(f"{len(sealed)} bytes once encrypted; divide it")
    return b"##%04d%b%04X\r\n" % (len(sealed), sealed, CRCS[variant](segment))


def opened(frame: Frame, message: Message, key: bytes) -> tuple[bytes, bool] | None:
    """The plain segment of an encrypted one, and whether the CRC is right: that of the plain text, or, as some may do,
    of the written one. None where it cannot be text under this key. Raises sm4.CipherMissing."""
    plain = sm4.decrypt(message.cp, key)
    if plain is None:
        return None
    head, mark, _ = frame.segment.partition(b"CP=&&")
    segment = head + mark + plain + b"&&"
    if crc(segment) == frame.crc_given:
        return segment, True
    if not _is_text(plain):
        return None
    return segment, frame.crc == "hj212"


def _is_text(plain: bytes) -> bool:
    try:
        return plain.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False
