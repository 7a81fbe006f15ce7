"""Files that are on disk when the call returns: write, fsync, rename, fsync of the folder. In this order, always."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 262_144


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Create one folder, and its parents, durably; an existing one is left as it is."""
    if folder.is_dir():
        return
    make_folder(folder.parent, mode)
    folder.mkdir(mode=mode, exist_ok=True)
    fsync_folder(folder.parent)


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Create a file; FileExistsError where the name is taken. The folder is not synced: the caller does it once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - from a descriptor
        _write_all(file.fileno(), content)
        os.fsync(file.fileno())


def write_atomic(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file as a whole: readers and crashes see the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        write_new(temporary, content, mode)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def append(path: Path, line: bytes) -> None:
    """Append to a file, durably; a part that was written before an error is cut off again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        size_bytes = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, line)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size_bytes)
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def fsync_file(path: Path) -> None:
    """Make the content of an existing file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_from_disk(path: Path) -> tuple[str, int]:
    """(sha256, size in bytes) of what the disk holds: the page cache of the file is dropped first.

    The file must have been synced. Where the kernel keeps pages all the same (tmpfs), the cache is hashed.
    """
    digest, size_bytes = hashlib.sha256(), 0
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as file:  # noqa: PTH123 - from a descriptor
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while count := file.readinto(buffer):
            digest.update(view[:count])
            size_bytes += count
    return digest.hexdigest(), size_bytes


def read_range(path: Path, start: int, end: int) -> Iterator[bytes]:
    """Chunks of [start, end) of a file; OSError where the file is shorter."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        left = end - start
        while left:
            chunk = file.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError(f"{path} is shorter than it was: {left} bytes are missing")
            left -= len(chunk)
            yield chunk


def free_bytes(folder: Path) -> int:
    """Free space of the disk that holds the folder, for an ordinary user."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
