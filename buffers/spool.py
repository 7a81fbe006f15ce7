"""Artifacts: files named by the SHA-256 of what is in them, each written once, in one pass.

    <spool>/id                       which store this spool belongs to: an unmounted disk is noticed
    <spool>/<2 hex>/<sha256>         finished, mode 0400
    <spool>/damaged/<sha256>-<8 hex> a damaged file whose place a fresh copy has taken; a person decides
    <spool>/tmp/<32 hex>.part        on its way; named by a digest of the key: one part per source file
    <spool>/tmp/<32 hex>.json        its sidecar: key, identity, and the mark up to which it is durable

Order of `finish`: fsync the file, rename, fsync the folder; only then may a record name it. Copying resumes only
from a mark, and only when the bytes up to it still give its digest: what a power cut left behind the last fsync
is never trusted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from buffers.connection import Connection, file_error, one
from buffers.db import Database, Space, disk_space
from gateway.core.errors import ConfigError, DiskError, FieldgateError, Problem, ProtocolMisuse, StoreFull

CHUNK_SIZE_BYTES: Final = 262_144
MARK_INTERVAL_BYTES: Final = 32 * 1024 * 1024
"""A copy that is killed resumes about so far back. Marks are made by a thread behind the copy: the disk then writes
while the next bytes are hashed, which is also faster than one long fsync at the end (measured: 1.9 against 3.3 times
bare hashing). What is marked leaves the page cache: a long recording pushes nothing else out of a small memory."""
SPACE_INTERVAL_BYTES: Final = 16 * 1024 * 1024
"""The file system is asked for its room every so many bytes written."""
PARTS_MAX: Final = 1000
"""Unfinished copies kept for a resume; the oldest go first at the next start."""
SIDECAR_SIZE_MAX_BYTES: Final = 65_536
_FOLDERS: Final = tuple(f"{number:02x}" for number in range(256))
_FALLOCATE: Final = getattr(ctypes.CDLL(None), "fallocate64", None)
_FALLOC_FL_KEEP_SIZE: Final = 1


@dataclass(frozen=True, slots=True)
class _Mark:
    """Up to `offset` the part is on disk, and its bytes give `sha256`."""

    key: str
    identity: str
    offset: int
    sha256: str


class Spool:
    """Port `Spool` over a folder. One process writes to it: the one that holds the lock of the store."""

    def __init__(
        self,
        database: Database,
        folder: Path | str,
        *,
        quota_bytes: int = 20_000_000_000,
        high_water_percent: int = 90,
        reserve_bytes: int = 268_435_456,
        space: Callable[[Path], Space] = disk_space,
    ) -> None:
        """Raises ConfigError where the folder is not the spool of this store (a disk that is not mounted)."""
        self._folder = Path(folder)
        self._database = database
        self._quota_bytes = quota_bytes
        self._high_water_percent = high_water_percent
        self._reserve_bytes = reserve_bytes
        self._space = space
        self._lock = threading.Lock()
        self._claims: dict[str, int] = {}
        self._tmp = self._folder / "tmp"
        self._damaged = self._folder / "damaged"
        self._prepare()
        sql = "SELECT coalesce(sum(size_bytes), 0) FROM artifact WHERE state <> 'expired'"
        with database.readers() as conn:
            self._used_bytes: int = one(conn, sql)
        self._used_bytes += self._tidy()

    @property
    def folder(self) -> Path:
        """The root of the spool."""
        return self._folder

    @property
    def used_bytes(self) -> int:
        """What finished artifacts and parts take of the quota."""
        return self._used_bytes

    @property
    def limit_bytes(self) -> int:
        """The high-water mark of the quota."""
        return self._quota_bytes * self._high_water_percent // 100

    def above_high_water(self, expected_bytes: int = 0) -> str | None:
        """Why no artifact of this size can be taken; None where it can."""
        claimed = self._claimed_bytes()
        if claimed + expected_bytes > self.limit_bytes:
            return (
                f"{self._folder}: {claimed} bytes used or promised and {expected_bytes} more would pass "
                f"{self._high_water_percent} % of the quota of {self._quota_bytes}"
            )
        space = self._space(self._folder)
        if space.free_bytes - expected_bytes < self._keep_bytes(space):
            return (
                f"{self._folder}: {space.free_bytes} bytes free on the disk; {expected_bytes} more would leave "
                f"less than {self._keep_bytes(space)}"
            )
        return None

    def surplus_bytes(self) -> int:
        """How much must go to come down to the high-water marks of quota and disk; 0 or less below them."""
        space = self._space(self._folder)
        return max(self._claimed_bytes() - self.limit_bytes, self._keep_bytes(space) - space.free_bytes)

    def _claimed_bytes(self) -> int:
        return self._used_bytes + sum(tuple(self._claims.values()))

    def _keep_bytes(self, space: Space) -> int:
        return max(space.total_bytes * (100 - self._high_water_percent) // 100, self._reserve_bytes)

    def path(self, sha256: str) -> Path:
        """See ports.Spool. Raises ProtocolMisuse for anything but 64 lower-case hex digits."""
        if len(sha256) != 64 or sha256.strip("0123456789abcdef"):
            raise ProtocolMisuse(f"{sha256!r} is no sha256; nothing else may become a path")
        return self._folder / sha256[:2] / sha256

    def open(self, key: str, identity: str, expected_bytes: int) -> Writer:
        """See ports.Spool. Raises ProtocolMisuse while another writer of the same key is open."""
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        with self._lock:
            if name in self._claims:
                raise ProtocolMisuse(f"{key!r} is being copied already")
            have = _size(self._tmp / f"{name}.part")
            reason = self.above_high_water(max(0, expected_bytes - have))
            if reason is not None:
                raise StoreFull(reason)
            self._claims[name] = max(0, expected_bytes - have)
        try:
            return Writer(self, name, key, identity, expected_bytes)
        except BaseException:
            self.released(name)
            raise

    # ------------------------------------------------------------------------------ for its writers and retention

    def count(self, name: str, delta_bytes: int) -> None:
        """A part grew or shrank by `delta_bytes`; what it grew was claimed when it was opened."""
        with self._lock:
            self._used_bytes += delta_bytes
            if name in self._claims:
                self._claims[name] = max(0, self._claims[name] - max(0, delta_bytes))

    def released(self, name: str) -> None:
        """A writer is finished with its part."""
        with self._lock:
            self._claims.pop(name, None)

    def check_quota(self, name: str, more_bytes: int) -> None:
        """Raise StoreFull where a part that outgrew its claim would pass the quota."""
        with self._lock:
            others = sum(claim for other, claim in self._claims.items() if other != name)
            if self._used_bytes + others + more_bytes > self._quota_bytes:
                raise StoreFull(f"{self._folder}: the quota of {self._quota_bytes} bytes is used up")

    def check_disk(self, more_bytes: int) -> None:
        """Raise StoreFull where the disk would be down to its reserve."""
        free = self._space(self._folder).free_bytes
        if free - more_bytes < self._reserve_bytes:
            raise StoreFull(f"{self._folder}: {free} bytes free, the reserve is {self._reserve_bytes}")

    def place(self, part: Path, sha256: str, size_bytes: int) -> bool:
        """Move a durable part to its address; True where a sound file was there already.

        A file of another size, or one that the scrub found damaged, is set aside and the fresh copy takes its place.
        """
        final = self.path(sha256)
        with self._lock:
            try:
                if final.exists():
                    if final.stat().st_size == size_bytes and not self._is_damaged(sha256):
                        part.unlink()
                        return True
                    final.rename(self._damaged / f"{sha256}-{secrets.token_hex(4)}")
                part.rename(final)
                sync_folder(final.parent)
            except OSError as error:
                raise file_error(error, final) from error
        return False

    def remove(self, sha256: str, size_bytes: int) -> None:
        """Unlink an artifact that has expired. Harmless where it is gone. Only buffers.retention calls this."""
        final = self.path(sha256)
        try:
            final.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise file_error(error, final) from error
        with self._lock:
            self._used_bytes = max(0, self._used_bytes - size_bytes)

    def files(self) -> Iterator[tuple[str, int]]:
        """Every finished file: (name, size_bytes), in order of name."""
        for folder in _FOLDERS:
            try:
                with os.scandir(self._folder / folder) as entries:
                    found = sorted((entry.name, entry.stat().st_size) for entry in entries)
            except OSError as error:
                raise file_error(error, self._folder / folder) from error
            yield from found

    def _is_damaged(self, sha256: str) -> bool:
        with self._database.readers() as conn:
            return bool(one(conn, "SELECT 1 FROM artifact WHERE sha256 = ? AND state = 'damaged'", (sha256,)))

    # ------------------------------------------------------------------------------ starting

    def _prepare(self) -> None:
        """Make the folders once, durably; know the spool again by its id."""
        with self._database.readers() as conn:
            known = one(conn, "SELECT value FROM meta WHERE key = 'spool_id'")
        marker = self._folder / "id"
        try:
            if known is None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                for name in (*_FOLDERS, "tmp", "damaged"):
                    (self._folder / name).mkdir(mode=0o700, exist_ok=True)
                known = _read_text(marker) or secrets.token_hex(16)
                _write_durably(marker, known.encode())
                sync_folder(self._folder)
                sync_folder(self._folder.parent)
            elif _read_text(marker) != known:
                text = f"is not the spool of this store (id {known} expected); is its disk mounted?"
                raise ConfigError([Problem(str(self._folder), 0, "storage.spool_dir", text)])
        except OSError as error:
            raise file_error(error, self._folder) from error
        self._database.call(_remember_spool(known))

    def _tidy(self) -> int:
        """Remove what can never be resumed; return the bytes that other parts and damaged files take."""
        sidecars: list[tuple[int, Path]] = []
        try:
            for entry in list(self._tmp.iterdir()):
                if entry.suffix == ".part":
                    useless = _read_mark(entry.with_suffix(".json")) is None
                else:
                    useless = not entry.with_suffix(".part").exists()
                if useless:
                    entry.unlink()
                elif entry.suffix == ".json":
                    sidecars.append((entry.stat().st_mtime_ns, entry))
            sidecars.sort(reverse=True)
            for _, entry in sidecars[PARTS_MAX:]:
                entry.with_suffix(".part").unlink(missing_ok=True)
                entry.unlink()
            parts = sum(_give_back(entry.with_suffix(".part")) for _, entry in sidecars[:PARTS_MAX])
            return parts + sum(entry.stat().st_size for entry in self._damaged.iterdir())
        except OSError as error:
            raise file_error(error, self._tmp) from error


class Writer:
    """Port `SpoolWriter`: one artifact on its way. Used by one thread; any error of `write` or `finish` leaves the
    part as it is, for `suspend` or `discard`."""

    def __init__(self, spool: Spool, name: str, key: str, identity: str, expected_bytes: int) -> None:
        self._spool = spool
        self._name = name
        self._key = key
        self._identity = identity
        self._expected_bytes = expected_bytes
        self._part = spool.folder / "tmp" / f"{name}.part"
        self._sidecar = self._part.with_suffix(".json")
        self._hash = hashlib.sha256()
        self._offset = 0
        self._fd = -1
        self._marking: threading.Thread | None = None
        self._mark_error: FieldgateError | None = None
        try:
            if self._part.exists():
                self._part.chmod(0o600)  # a cut between fchmod and rename leaves it read-only
            self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            self._resume()
            self._take_room()
        except OSError as error:
            self._close()
            raise file_error(error, self._part) from error
        self._marked = self._offset
        self._asked = self._offset - SPACE_INTERVAL_BYTES

    @property
    def offset(self) -> int:
        """See ports.SpoolWriter."""
        return self._offset

    def write(self, chunk: memoryview | bytes) -> None:
        """See ports.SpoolWriter. What was written before an error counts: `offset` tells."""
        self._check_open()
        view = memoryview(chunk).cast("B")
        self._spool.check_quota(self._name, len(view))
        if self._offset + len(view) - self._asked > SPACE_INTERVAL_BYTES:
            self._spool.check_disk(len(view))
            self._asked = self._offset + len(view)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError as error:
                raise file_error(error, self._part) from error
            self._hash.update(view[:written])
            self._offset += written
            self._spool.count(self._name, written)
            view = view[written:]
        if self._offset - self._marked >= MARK_INTERVAL_BYTES:
            self._mark_behind()

    def finish(self) -> tuple[str, int, bool]:
        """See ports.SpoolWriter."""
        self._check_open()
        self._wait_for_mark()
        sha256 = self._hash.hexdigest()
        try:
            self._give_back_room()
            os.fchmod(self._fd, 0o400)
            os.fsync(self._fd)
        except OSError as error:
            self._forsake()
            raise file_error(error, self._part) from error
        there = self._spool.place(self._part, sha256, self._offset)
        self._close()
        if there:
            self._spool.count(self._name, -self._offset)
        self._remove(self._sidecar)
        self._spool.released(self._name)
        return sha256, self._offset, there

    def suspend(self) -> None:
        """See ports.SpoolWriter. Harmless after `finish`."""
        if self._fd < 0:
            return
        try:
            self._wait_for_mark()
            self._give_back_room()
            self._mark(self._offset, self._hash.hexdigest())
        except DiskError:
            self._forsake()
            raise
        finally:
            self._close()
            self._spool.released(self._name)

    def discard(self) -> None:
        """See ports.SpoolWriter. Harmless after `finish`."""
        if self._fd < 0:
            return
        self._close()
        self._spool.count(self._name, -self._offset)
        self._spool.released(self._name)
        self._remove(self._part)
        self._remove(self._sidecar)

    def _resume(self) -> None:
        """Continue from the mark if it is of this identity and its bytes are sound; else from nothing."""
        before = os.fstat(self._fd).st_size
        mark = _read_mark(self._sidecar)
        if mark is not None and (mark.key, mark.identity) == (self._key, self._identity):
            buffer = memoryview(bytearray(CHUNK_SIZE_BYTES))
            left = mark.offset
            while left and (count := os.readv(self._fd, [buffer[: min(left, len(buffer))]])):
                self._hash.update(buffer[:count])
                left -= count
            if not left and self._hash.hexdigest() == mark.sha256:
                self._offset = mark.offset
            else:
                self._hash = hashlib.sha256()
        os.ftruncate(self._fd, self._offset)
        os.lseek(self._fd, self._offset, os.SEEK_SET)
        self._spool.count(self._name, self._offset - before)

    def _take_room(self) -> None:
        """Take the blocks of all that was announced, without changing the file's size: a tenth less time
        per copy (measured), fewer pieces on the disk. Only a favour: where it fails, the writes themselves will say so.

        Not os.posix_fallocate: it moves the end of the file, and where the file system cannot, it writes every block.
        """
        left = self._expected_bytes - self._offset
        if left > 0 and _FALLOCATE is not None:
            start, size = ctypes.c_int64(self._offset), ctypes.c_int64(left)
            if _FALLOCATE(self._fd, _FALLOC_FL_KEEP_SIZE, start, size) != 0:
                self._give_back_room()

    def _give_back_room(self) -> None:
        """Give back blocks that were taken and not written, of a file that ends early or waits."""
        if self._offset < self._expected_bytes:
            with contextlib.suppress(OSError):  # a disk that fails will say so at the fsync that follows
                os.ftruncate(self._fd, self._offset)

    def _mark_behind(self) -> None:
        """Begin a mark while the copy goes on; none while the last one is still being made."""
        if self._marking is not None and self._marking.is_alive():
            return
        self._wait_for_mark()
        self._marked = self._offset
        self._marking = threading.Thread(
            target=self._mark_apart, args=(self._offset, self._hash.hexdigest()), name="spool-mark", daemon=True
        )
        self._marking.start()

    def _mark_apart(self, offset: int, sha256: str) -> None:
        try:
            self._mark(offset, sha256)
        except FieldgateError as error:
            self._mark_error = error

    def _wait_for_mark(self) -> None:
        """Raise what went wrong behind the copy: a failed fsync is told only once, to whoever asked."""
        if self._marking is not None:
            self._marking.join()
            self._marking = None
        if self._mark_error is not None:
            error, self._mark_error = self._mark_error, None
            if isinstance(error, DiskError):
                self._forsake()
            raise error

    def _mark(self, offset: int, sha256: str) -> None:
        """Make the part durable, then say so beside it."""
        mark = {"key": self._key, "identity": self._identity, "offset": offset, "sha256": sha256}
        try:
            os.fdatasync(self._fd)
            os.posix_fadvise(self._fd, 0, offset, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise file_error(error, self._part) from error
        try:
            _write_durably(self._sidecar, json.dumps(mark).encode())
        except OSError as error:
            raise file_error(error, self._sidecar) from error

    def _forsake(self) -> None:
        """An fsync failed: nobody knows what the disk holds, and a second fsync that succeeds proves nothing."""
        with contextlib.suppress(FieldgateError):
            self.discard()

    def _check_open(self) -> None:
        if self._fd < 0:
            raise ProtocolMisuse("this artifact is finished, suspended or discarded already")

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise file_error(error, path) from error

    def _close(self) -> None:
        if self._marking is not None:
            self._marking.join()
            self._marking = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_durably(path: Path, content: bytes) -> None:
    """Replace a small file: it holds the old or the new content after any cut. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.write(fd, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(path)


def _read_text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(SIDECAR_SIZE_MAX_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None


def _read_mark(sidecar: Path) -> _Mark | None:
    """None for a sidecar that is missing or was torn by a cut."""
    try:
        with sidecar.open("rb") as file:
            fields: Any = json.loads(file.read(SIDECAR_SIZE_MAX_BYTES))
        mark = _Mark(fields["key"], fields["identity"], fields["offset"], fields["sha256"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return mark if type(mark.offset) is int and mark.offset >= 0 else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _give_back(part: Path) -> int:
    """The size of a part that a killed copy left, without the blocks that were taken for the rest. Raises OSError."""
    size_bytes = _size(part)
    with contextlib.suppress(FileNotFoundError):
        part.chmod(0o600)  # a cut between fchmod and rename leaves it read-only
        os.truncate(part, size_bytes)
    return size_bytes


def _remember_spool(known: str) -> Callable[[Connection], None]:
    def remember(conn: Connection) -> None:
        conn.execute("INSERT OR IGNORE INTO meta VALUES ('spool_id', ?)", (known,))

    return remember
