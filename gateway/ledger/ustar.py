"""The one form of tar that a bundle may have: plain ustar headers, fixed in every byte but name, size and time.

Each member is a header block, the content, zero bytes up to a multiple of 512; two zero blocks end the file. The
top folder is in the prefix field. Sizes from 8 GiB on use the base-256 form that GNU tar, bsdtar and Python read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.ledger.grammar import FormatError

BLOCK: Final = 512
TRAILER: Final = bytes(2 * BLOCK)
SIZE_MAX_BYTES: Final = 2**53 - 1
_OCTAL_LIMIT: Final = 8**11
NAME_MAX: Final = 100
PREFIX_MAX: Final = 155


class Header(NamedTuple):
    """What differs from member to member."""

    prefix: str
    name: str
    size_bytes: int
    mtime_s: int


def padding(size_bytes: int) -> int:
    """Zero bytes after a content of this size."""
    return -size_bytes % BLOCK


def encode(header: Header) -> bytes:
    """The 512 bytes. Raises FormatError for values that do not fit."""
    prefix, name = header.prefix.encode("ascii"), header.name.encode("ascii")
    if not 1 <= len(name) <= NAME_MAX or not 1 <= len(prefix) <= PREFIX_MAX:
        raise FormatError(f"tar: name {header.prefix}/{header.name} is too long")
    if not 0 <= header.size_bytes <= SIZE_MAX_BYTES or not 0 <= header.mtime_s < _OCTAL_LIMIT:
        raise FormatError(f"tar: size or time of {header.name} is out of range")
    if header.size_bytes < _OCTAL_LIMIT:
        size = b"%011o\0" % header.size_bytes
    else:
        size = b"\x80" + header.size_bytes.to_bytes(11, "big")
    block = bytearray(
        name.ljust(100, b"\0")
        + b"0000644\0"
        + b"0000000\0" * 2
        + size
        + b"%011o\0" % header.mtime_s
        + b" " * 8
        + b"0"
        + bytes(100)
        + b"ustar\x0000"
        + bytes(64)
        + b"0000000\0" * 2
        + prefix.ljust(155, b"\0")
        + bytes(12)
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def parse(block: bytes) -> Header:
    """Accepts exactly what `encode` writes. Raises FormatError for anything else."""
    try:
        name = block[:100].rstrip(b"\0").decode("ascii")
        prefix = block[345:500].rstrip(b"\0").decode("ascii")
        size = int.from_bytes(block[125:136], "big") if block[124:125] == b"\x80" else int(block[124:135], 8)
        header = Header(prefix, name, size, int(block[136:147], 8))
    except ValueError:
        raise FormatError("tar: a member's header is not plain ustar") from None
    if encode(header) != block:
        raise FormatError(f"tar: the header of {name[:100]!r} is not in the fixed form")
    return header
