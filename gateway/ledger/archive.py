"""Reading a bundle defensively: a folder, or a tar in the one form of `ustar`.

Nothing is unpacked and no name from outside becomes a path before it has been matched against the profile. Links,
special files, unknown names, duplicates, padding that is not zero and bytes after the end are refused.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from gateway.ledger import profile, ustar
from gateway.ledger.grammar import FormatError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

READ_BYTES: Final = 262_144
_SWAPPED: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR})
"""What opening says where a file was there a moment ago: gone, or now a link, folder or socket."""
_COMPRESSED: Final = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!")


class Bag(ABC):
    """An opened bundle. Names are all inside the profile; nothing else has been checked yet."""

    sizes: dict[str, int]
    """Size by name, in the fixed order of members."""
    top: str | None
    """Name of the top folder inside a tar; None for a folder, whose own name says nothing."""
    mtime_s: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """All file names, in the fixed order."""
        return tuple(self.sizes)

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    def size(self, name: str) -> int:
        """Size of a file. KeyError for a name that is not in the bundle."""
        return self.sizes[name]

    def read(self, name: str, limit_bytes: int = profile.TAG_SIZE_MAX_BYTES) -> bytes:
        """A whole small file. Raises FormatError above the limit."""
        if self.sizes[name] > limit_bytes:
            raise FormatError(f"{name}: {self.sizes[name]} bytes, at most {limit_bytes} are allowed")
        with self.open(name) as source:
            return source.read()

    @abstractmethod
    def open(self, name: str) -> io.RawIOBase:
        """The file's bytes, unbuffered. KeyError for a name that is not in the bundle."""

    @abstractmethod
    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_bag(path: Path) -> Bag:
    """Open a folder or a tar. Raises FormatError for a hostile or damaged one, OSError where it cannot be read."""
    return _Folder(path) if path.is_dir() else _Tar(path)


class _Folder(Bag):
    def __init__(self, path: Path) -> None:
        self._path = path
        found: dict[str, int] = {}
        _scan(path, "", found)
        self.sizes = {name: found[name] for name in sorted(found, key=profile.member_order)}
        self.top = None
        self.mtime_s = None

    def open(self, name: str) -> io.RawIOBase:
        size_bytes = self.sizes[name]
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(self._path / name, flags)
        except OSError as error:
            if error.errno in _SWAPPED:
                raise FormatError(f"{name}: changed while the bundle was being read") from None
            raise
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size_bytes:
            os.close(handle)
            raise FormatError(f"{name}: changed while the bundle was being read")
        return io.FileIO(handle, "rb")

    def close(self) -> None:
        self.sizes = {}


def _scan(folder: Path, prefix: str, found: dict[str, int]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False) and name in profile.FOLDERS:
                _scan(folder / entry.name, name + "/", found)
            elif not entry.is_file(follow_symlinks=False):
                raise FormatError(f"{name!r}: links, special files and other folders are not allowed in a bundle")
            elif not profile.is_known_name(name):
                raise FormatError(f"{name!r}: is no file of a bundle: renamed, or put in")
            else:
                found[name] = _size_of(entry)
                if len(found) > profile.MEMBERS_MAX:
                    raise FormatError(f"more than {profile.MEMBERS_MAX} files")


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        raise FormatError(f"{entry.name!r}: went away while the bundle was being read") from None


class _Tar(Bag):
    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(self._handle)
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(f"{path.name}: is neither a folder nor a regular file")
            self._offsets: dict[str, int] = {}
            self.sizes = {}
            self.top = self.mtime_s = None
            self._index(status.st_size)
        except BaseException:
            os.close(self._handle)
            raise

    def _index(self, file_bytes: int) -> None:
        start = os.pread(self._handle, ustar.BLOCK, 0)
        if not start:
            raise FormatError("the file is empty; ask for it again")
        if start.startswith(_COMPRESSED):
            raise FormatError("the file is compressed; unpack it first, a bundle is a plain tar or a folder")
        sizes: dict[str, int] = {}
        position = 0
        tops: set[tuple[str, int]] = set()
        while (block := os.pread(self._handle, ustar.BLOCK, position)) != ustar.TRAILER[: ustar.BLOCK]:
            header = ustar.parse(block)
            self._check(header, sizes)
            sizes[header.name] = header.size_bytes
            tops.add((header.prefix, header.mtime_s))
            position += ustar.BLOCK
            self._offsets[header.name] = position
            position += header.size_bytes
            gap = ustar.padding(header.size_bytes)
            if os.pread(self._handle, gap, position) != bytes(gap):
                raise FormatError(f"tar: the padding after {header.name} is cut or is not zero")
            position += gap
        if os.pread(self._handle, len(ustar.TRAILER) + 1, position) != ustar.TRAILER:
            raise FormatError("tar: does not end with exactly two zero blocks")
        if position + len(ustar.TRAILER) != file_bytes or len(tops) != 1:
            raise FormatError("tar: members are not all in one folder, or are not all of one time")
        self.sizes = sizes
        self.top, self.mtime_s = tops.pop()

    def _check(self, header: ustar.Header, sizes: dict[str, int]) -> None:
        if not profile.is_known_name(header.name):
            raise FormatError(f"tar: {header.name!r} is no file of a bundle")
        if header.name in sizes:
            raise FormatError(f"tar: {header.name} occurs twice")
        if sizes and profile.member_order(header.name) < profile.member_order(next(reversed(sizes))):
            raise FormatError(f"tar: {header.name} is not in its place of the fixed order")
        if len(sizes) >= profile.MEMBERS_MAX:
            raise FormatError(f"tar: more than {profile.MEMBERS_MAX} files")

    def open(self, name: str) -> io.RawIOBase:
        return _Region(self._handle, self._offsets[name], self.sizes[name])

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class _Region(io.RawIOBase):
    """A part of a file, read without moving the file's position."""

    def __init__(self, handle: int, start: int, size_bytes: int) -> None:
        self._handle = handle
        self._position = start
        self._end = start + size_bytes

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self._end - self._position]
        if not view:
            return 0
        count = os.preadv(self._handle, [view], self._position)
        if count == 0:
            raise FormatError("tar: was cut while it was being read")
        self._position += count
        return count
