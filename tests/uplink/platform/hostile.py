"""Archives that a bundle must never be: made from a good one by tarfile and by raw bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator

BLOCK = 512


def _members(good: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        return [(item, archive.extractfile(item).read()) for item in archive.getmembers()]  # type: ignore[union-attr]


def _rebuilt(
    good: bytes, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None], form: int = tarfile.USTAR_FORMAT
) -> bytes:
    members = _members(good)
    change(members)
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=form) as archive:
        for item, content in members:
            archive.addfile(item, io.BytesIO(content) if item.isreg() else None)
    return output.getvalue()


def _extra(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"x"
) -> tuple[tarfile.TarInfo, bytes]:
    item = tarfile.TarInfo(name)
    item.type, item.linkname = kind, link
    item.size = len(content) if kind in {tarfile.REGTYPE, tarfile.CONTTYPE} else 0
    return item, content


def _header(good: bytes, start: int, end: int, value: bytes) -> bytes:
    """The first header with a field replaced and its checksum made right again."""
    block = bytearray(good[:BLOCK])
    block[start:end] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + good[BLOCK:]


def corpus(good: bytes) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, archive) for every kind of hostility we know."""
    yield from _members_that_must_not_be(good)
    yield from _other_forms(good)
    yield from _damage(good)


def _members_that_must_not_be(good: bytes) -> Iterator[tuple[str, bytes]]:
    top = _members(good)[0][0].name.partition("/")[0]

    def with_member(item: tuple[tarfile.TarInfo, bytes]) -> bytes:
        return _rebuilt(good, lambda members: members.append(item))

    yield "symlink", with_member(_extra(f"{top}/proof/crl.pem", tarfile.SYMTYPE, "/etc/passwd"))
    yield "hard link", with_member(_extra(f"{top}/proof/crl.pem", tarfile.LNKTYPE, f"{top}/bagit.txt"))
    yield "hard link outside", with_member(_extra(f"{top}/proof/crl.pem", tarfile.LNKTYPE, "../../etc/passwd"))
    yield "character device", with_member(_extra(f"{top}/proof/crl.pem", tarfile.CHRTYPE))
    yield "block device", with_member(_extra(f"{top}/proof/crl.pem", tarfile.BLKTYPE))
    yield "fifo", with_member(_extra(f"{top}/proof/crl.pem", tarfile.FIFOTYPE))
    yield "folder", with_member(_extra(f"{top}/data", tarfile.DIRTYPE))
    yield "contiguous file", with_member(_extra(f"{top}/proof/crl.pem", tarfile.CONTTYPE))
    yield "unknown type", with_member(_extra(f"{top}/proof/crl.pem", b"Z"))
    yield "absolute name", with_member(_extra("/etc/cron.d/evil"))
    yield "parent name", with_member(_extra(f"{top}/../../evil"))
    yield "parent name in data", with_member(_extra(f"{top}/data/artifacts/../../../evil"))
    yield "percent name", with_member(_extra(f"{top}/data/%2e%2e"))
    yield "newline name", with_member(_extra(f"{top}/data/a\nb"))
    yield "non-ascii name", with_member(_extra(f"{top}/data/证据.mp4"))
    yield "upper-case name", with_member(_extra(f"{top}/DATA/RECORDS.JSONL"))
    yield "stray file", with_member(_extra(f"{top}/notes.txt"))
    yield "fetch.txt", with_member(_extra(f"{top}/fetch.txt"))
    yield "second top folder", with_member(_extra("other/proof/crl.pem"))
    yield "no top folder", with_member(_extra("bagit.txt"))


def _other_forms(good: bytes) -> Iterator[tuple[str, bytes]]:
    yield "duplicate member", _rebuilt(good, lambda members: members.append(members[0]))
    yield "member missing", _rebuilt(good, lambda members: members.pop(0) and None)
    yield "other order", _rebuilt(good, lambda members: members.reverse())
    yield "gnu format", _rebuilt(good, lambda members: None, tarfile.GNU_FORMAT)
    yield "gnu long name", _rebuilt(good, lambda members: members.append(_extra("n" * 300)), tarfile.GNU_FORMAT)
    yield "pax long name", _rebuilt(good, lambda members: members.append(_extra("n" * 300)), tarfile.PAX_FORMAT)

    def pax_size(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[0][0].pax_headers = {"size": "1", "path": "../evil"}

    yield "pax overrides", _rebuilt(good, pax_size, tarfile.PAX_FORMAT)
    yield "gnu sparse", _header(good, 156, 157, b"S")
    yield "huge size", _header(good, 124, 136, b"77777777777\0")
    yield "base-256 size of 2^62", _header(good, 124, 136, b"\x80" + (1 << 62).to_bytes(11, "big"))
    yield "negative size", _header(good, 124, 136, b"\xff" * 12)
    yield "size of letters", _header(good, 124, 136, b"abcdefghijk\0")


def _damage(good: bytes) -> Iterator[tuple[str, bytes]]:
    yield "mode 4755", _header(good, 100, 108, b"0004755\0")
    yield "owner 1000", _header(good, 108, 116, b"0001750\0")
    yield "old v7 magic", _header(good, 257, 265, bytes(8))
    yield "wrong checksum", good[:148] + b"000000\0 " + good[156:]
    yield "cut in a header", good[:300]
    yield "cut in a file", good[: len(good) // 2]
    yield "cut before the end blocks", good[:-1024]
    yield "one end block", good[:-512]
    yield "trailing byte", good + b"x"
    yield "trailing zeros", good + bytes(10240)
    yield "second archive behind", good + good
    yield "padding not zero", good[: BLOCK + 100] + b"x" + good[BLOCK + 101 :]
    yield "empty tar", bytes(1024)
    yield "one byte", b"x"
    yield "gzip", gzip.compress(good)
    yield "bzip2", bz2.compress(good)
    yield "xz", lzma.compress(good)
    yield "gzip bomb", gzip.compress(bytes(1 << 22))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("../../evil.txt", "x")
    yield "zip", zipped.getvalue()
    yield "text", b"<html>not a bundle</html>" * 100
    middle = len(good) // 2
    yield "bit flip", good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
