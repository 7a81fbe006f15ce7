"""A folder as a station: a mounted share, a disk, a card. Read only; nothing of it is followed, changed or trusted.

Everything goes through directory descriptors and name bytes: a component that is, or has become, a link ends the
walk there. Files are opened O_NOFOLLOW|O_NONBLOCK after lstat said "regular" (opening a device can act on it) and
checked again by fstat. The copy is one pass in a 256 KiB buffer; size, times and inode are compared before and after.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Final, Protocol

from asyncinotify import Inotify, Mask

from drivers.bodycam.containers import container_state
from drivers.bodycam.driver import Listed, ListPart
from drivers.files import Entry, Failure, FailureClass, ListingEnd, Refusal, Taken
from drivers.io.watched import InterruptedCall, StationCalls, Watch
from gateway.core.errors import LinkError, StoreFull
from gateway.core.ports import Spool, SpoolWriter

BUFFER_SIZE_BYTES: Final = 262_144
PART_MAX: Final = 1000
WATCHES_MAX: Final = 256
_DIR_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MASK: Final = Mask.CLOSE_WRITE | Mask.CREATE | Mask.MOVED_TO | Mask.ONLYDIR | Mask.DONT_FOLLOW
_REASONS: Final[dict[int, tuple[FailureClass, str]]] = {
    errno.ENOENT: ("transient", "vanished"),
    errno.ENOTDIR: ("transient", "link"),
    errno.ELOOP: ("transient", "link"),
    errno.EACCES: ("transient", "permission-denied"),
    errno.EPERM: ("transient", "permission-denied"),
    errno.ENAMETOOLONG: ("permanent", "name-too-long"),
    **dict.fromkeys(
        (
            errno.ENODEV,
            errno.ENXIO,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
            errno.ENETUNREACH,
            errno.ENETDOWN,
            errno.ETIMEDOUT,
            errno.ESTALE,
            errno.ENOTCONN,
            errno.ECONNRESET,
            errno.ECONNABORTED,
            errno.ESHUTDOWN,
        ),
        ("link", "unreachable"),
    ),
}


_HINTS: Final = {
    errno.EACCES: "let the gateway's user read it",
    errno.EPERM: "let the gateway's user read it",
    errno.ENOTDIR: "source.path must be a folder",
    errno.EIO: "the disk or card is failing, see the kernel log",
}


class _Rows(Protocol):
    """What os.scandir gives."""

    def __iter__(self) -> Iterator[os.DirEntry[str]]: ...
    def __next__(self) -> os.DirEntry[str]: ...
    def close(self) -> None: ...


def failure_of(error: OSError, what: str) -> Failure:
    """Class an operating system error of the station's side."""
    failure, reason = _REASONS.get(error.errno or 0, ("transient", "io-error"))
    return Failure(failure, reason, f"{what}: {error.strerror or error}")


class Folder:
    """One folder; one call at a time."""

    def __init__(
        self,
        path: Path | str,
        calls: StationCalls,
        spool: Spool,
        *,
        source: str,
        depth_max: int,
        entries_max: int,
    ) -> None:
        self.path = Path(path)
        self._calls = calls
        self._spool = spool
        self._source = source
        self._depth_max = depth_max
        self._entries_max = entries_max
        self._inotify: Inotify | None = None
        self._watched: set[tuple[int, int]] = set()

    # ----------------------------------------------------------------------------------- listing

    async def listing(self) -> AsyncIterator[ListPart | Listed]:
        """Every regular file below the folder, in parts. Raises LinkError where the folder cannot be read."""
        walk = _Walk(self.path, self._depth_max, self._entries_max, self._watch_folder)
        given_up = False
        try:
            while True:
                part = await self._calls.run(walk.more)
                yield part
                if isinstance(part, Listed):
                    return
        except OSError as error:
            self._watched.clear()
            hint = _HINTS.get(error.errno or 0, "is the station mounted?")
            raise LinkError(f"{self.path}: {error.strerror or error}; {hint}") from error
        except LinkError:
            self._watched.clear()
            given_up = True  # the thread still runs the walk and closes it when it returns
            raise
        finally:
            if not given_up:
                walk.close()

    async def hints(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the kernel tells of a change here. Only a hint: shares tell nothing of the other side."""
        try:
            inotify = Inotify()
        except OSError:
            return  # the system's limit of instances is used up: polling alone does it
        with inotify:
            self._inotify = inotify
            try:
                async for _ in inotify:
                    wake()
            finally:
                self._inotify = None

    def _watch_folder(self, fd: int, path: bytes) -> None:
        """Called in the walking thread."""
        inotify = self._inotify
        if inotify is None or len(self._watched) >= WATCHES_MAX:
            return
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) not in self._watched:
            self._watched.add((status.st_dev, status.st_ino))
            with contextlib.suppress(OSError):  # a hint less
                inotify.add_watch(os.path.join(os.fsencode(self.path), path), _MASK)  # noqa: PTH118  bytes

    # ------------------------------------------------------------------------------------ taking

    async def probe(self, entry: Entry, container: str) -> str:
        """Whether the recorder has closed the container: closed, open or unknown."""

        def look(watch: Watch) -> str:
            with watch.outside():
                fd = _open_beneath(self.path, entry.path)
            try:

                def read_at(offset: int, size: int) -> bytes:
                    with watch.outside():
                        return os.pread(fd, size, offset)

                return container_state(container, os.fstat(fd).st_size, read_at)
            finally:
                os.close(fd)

        try:
            return await self._calls.run(look)
        except OSError:
            return "unknown"  # taking it will meet the same error and say so

    async def take(self, entry: Entry) -> Taken | Failure:
        """Copy one file into the spool. Raises InterruptedCall when the gateway stops; LinkError on a hang."""
        copy = _Copy(self.path, entry, self._spool, spool_key(self._source, entry.path))
        try:
            return await self._calls.run(copy.run)
        except LinkError:
            # the thread was given up: it will not touch the writer again
            if copy.writer is not None:
                await asyncio.to_thread(suspend, copy.writer)
            raise


def suspend(writer: SpoolWriter) -> None:
    """Keep what is here; on a full disk even the mark finds no room, and the next attempt starts from an older one."""
    with contextlib.suppress(StoreFull):
        writer.suspend()


def spool_key(source: str, path: bytes) -> str:
    return f"{source}/{hashlib.sha256(path).hexdigest()}"


# ------------------------------------------------------------------------------------------- walk


class _Walk:
    """Depth-first over descriptors; `more` gives the next part and runs in a watched thread."""

    def __init__(self, root: Path, depth_max: int, entries_max: int, seen_folder: Callable[[int, bytes], None]) -> None:
        self._root = root
        self._depth_max = depth_max
        self._entries_max = entries_max
        self._seen_folder = seen_folder
        self._steps: Generator[Entry | Refusal, None, None] | None = None
        self._mounted = False
        self._complete = True

    def more(self, watch: Watch) -> ListPart | Listed:
        """Raises OSError only for the root itself."""
        if self._steps is None:
            with watch.outside():
                fd = os.open(self._root, (_DIR_FLAGS & ~os.O_NOFOLLOW))
                try:
                    self._mounted = os.fstat(fd).st_dev != os.stat("..", dir_fd=fd).st_dev
                    self._steps = self._walk(fd, os.scandir(fd), watch)
                except OSError:
                    os.close(fd)
                    raise
        entries: list[Entry] = []
        refusals: list[Refusal] = []
        with watch.outside():
            for found in self._steps:
                if isinstance(found, Entry):
                    entries.append(found)
                else:
                    refusals.append(found)
                if len(entries) + len(refusals) >= PART_MAX:
                    return ListPart(entries, refusals)
        if entries or refusals:
            return ListPart(entries, refusals)
        return Listed(ListingEnd(self._complete, self._mounted))

    def close(self) -> None:
        """Let go of the descriptors of a walk that was not finished."""
        if self._steps is not None:
            self._steps.close()

    def _walk(self, root_fd: int, root_rows: _Rows, watch: Watch) -> Generator[Entry | Refusal, None, None]:
        stack: list[tuple[int, _Rows, bytes]] = [(root_fd, root_rows, b"")]
        count = 0
        try:
            self._seen_folder(root_fd, b"")
            while stack:
                fd, rows, prefix = stack[-1]
                watch.step()
                try:
                    row = next(rows, None)
                except OSError as error:
                    if len(stack) == 1:
                        raise
                    yield self._refuse(prefix.rstrip(b"/"), failure_of(error, "folder"))
                    row = None
                if row is None:
                    stack.pop()
                    rows.close()
                    os.close(fd)
                    continue
                count += 1
                path = prefix + os.fsencode(row.name)
                if count > self._entries_max:
                    self._complete = False
                    yield Refusal(path, "entries-limit", f"more than {self._entries_max} entries; raise entries_max")
                    return
                found = self._look(row, fd, path, len(stack))
                if isinstance(found, (Entry, Refusal)):
                    yield found
                else:
                    stack.append((*found, path + b"/"))
        finally:
            for fd, rows, _ in stack:
                rows.close()
                os.close(fd)

    def _look(self, row: os.DirEntry[str], fd: int, path: bytes, depth: int) -> Entry | Refusal | tuple[int, _Rows]:
        try:
            status = row.stat(follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                return _entry(path, status)
            if depth > self._depth_max:
                self._complete = False
                return Refusal(path, "depth-limit", f"deeper than {self._depth_max} folders; raise depth_max")
            child = os.open(os.fsencode(row.name), _DIR_FLAGS, dir_fd=fd)
            try:
                rows = os.scandir(child)
            except OSError:
                os.close(child)
                raise
            self._seen_folder(child, path)
            return child, rows
        except OSError as error:
            return self._refuse(path, failure_of(error, "listing"))

    def _refuse(self, path: bytes, failure: Failure) -> Refusal:
        self._complete = False
        return Refusal(path, failure.reason, failure.text)


def _entry(path: bytes, status: os.stat_result) -> Entry | Refusal:
    kind = _kind(status.st_mode)
    if kind:
        return Refusal(path, kind, f"not a regular file but a {kind}; it is not opened")
    return Entry(
        path,
        status.st_size,
        str(status.st_mtime_ns),
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        links=status.st_nlink,
    )


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "folder" if stat.S_ISDIR(mode) else "device"


# ------------------------------------------------------------------------------------------- copy


def _open_beneath(root: Path, path: bytes) -> int:
    """A descriptor of a regular file, no component of it a link. Raises OSError."""
    parts = path.split(b"/")
    if not all(parts) or {b".", b".."} & set(parts) or b"\0" in path:
        raise OSError(errno.EINVAL, "not a path below the folder")
    fd = os.open(root, _DIR_FLAGS & ~os.O_NOFOLLOW)
    try:
        for part in parts[:-1]:
            child = os.open(part, _DIR_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = child
        kind = _kind(os.stat(parts[-1], dir_fd=fd, follow_symlinks=False).st_mode)
        if kind:
            raise OSError(errno.ELOOP, f"has become a {kind}")
        file_fd = os.open(parts[-1], _FILE_FLAGS, dir_fd=fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(os.fstat(file_fd).st_mode):
        os.close(file_fd)
        raise OSError(errno.ELOOP, "is no regular file any more")
    return file_fd


class _Copy:
    """One pass over one file. `writer` is for the loop once the thread has been given up."""

    def __init__(self, root: Path, entry: Entry, spool: Spool, key: str) -> None:
        self._root = root
        self._entry = entry
        self._spool = spool
        self._key = key
        self.writer: SpoolWriter | None = None

    def run(self, watch: Watch) -> Taken | Failure:
        """In the watched thread."""
        try:
            with watch.outside():
                fd = _open_beneath(self._root, self._entry.path)
        except OSError as error:
            return failure_of(error, "open")
        try:
            return self._copy(fd, watch)
        except InterruptedCall as interrupted:
            if self.writer is not None and not interrupted.given_up:
                suspend(self.writer)
            raise
        finally:
            os.close(fd)

    def _copy(self, fd: int, watch: Watch) -> Taken | Failure:
        with watch.outside():
            before = os.fstat(fd)
        if (before.st_size, str(before.st_mtime_ns)) != (self._entry.size_bytes, self._entry.version):
            return Failure("transient", "changed", "changed between listing and copying")
        # the inode is left out on purpose: FAT and some shares number files anew at every mount
        identity = f"{before.st_size} {before.st_mtime_ns} {before.st_ctime_ns}"
        try:
            with watch.inside():
                self.writer = writer = self._spool.open(self._key, identity, before.st_size)
        except StoreFull as error:
            return Failure("full", "spool-full", str(error))
        resumed_at_bytes = writer.offset
        try:
            self._pump(fd, before.st_size, writer, watch)
            with watch.outside():
                after = os.fstat(fd)
        except OSError as error:
            with watch.inside():
                suspend(writer)
            return failure_of(error, f"read at {writer.offset}")
        except StoreFull as error:
            with watch.inside():
                suspend(writer)
            return Failure("full", "spool-full", str(error))
        changed = _changes(before, after)
        if not changed and writer.offset != before.st_size:
            changed = f"ended at {writer.offset} of {before.st_size} bytes"
        with watch.inside():
            sha256, size_bytes, there = writer.finish()
        return Taken(sha256, size_bytes, there, changed, resumed_at_bytes, size_expected_bytes=before.st_size)

    def _pump(self, fd: int, size_bytes: int, writer: SpoolWriter, watch: Watch) -> None:
        """Up to the size that the file had when it was opened, never more."""
        buffer = memoryview(bytearray(BUFFER_SIZE_BYTES))
        os.posix_fadvise(fd, writer.offset, 0, os.POSIX_FADV_SEQUENTIAL)
        offset = writer.offset
        while offset < size_bytes:
            with watch.outside():
                count = os.preadv(fd, [buffer[: min(BUFFER_SIZE_BYTES, size_bytes - offset)]], offset)
            if not count:
                return
            with watch.inside():
                writer.write(buffer[:count])
            offset += count


def _changes(before: os.stat_result, after: os.stat_result) -> str:
    """What of size, times and inode is different."""
    names = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
    found = [
        f"{name.removeprefix('st_')} {getattr(before, name)} to {getattr(after, name)}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    ]
    return ", ".join(found)
