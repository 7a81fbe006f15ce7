"""The store: one writer thread with the only connection that writes and checkpoints, and read-only readers.

Group commit: all jobs that wait share one transaction, each inside its own savepoint; a future resolves only after
COMMIT has returned, and COMMIT (WAL, synchronous=FULL) returns after fdatasync. After each commit the writer
rests for the commit window, so that an idle store answers at once and a busy one commits at most 1/window times a
second. STORE.md states the order of writes and what each crash point leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from buffers import migrations, recovery
from buffers.connection import Connection, file_error, one, store_error
from gateway import metrics
from gateway.core.errors import (
    ConfigError,
    DiskError,
    FieldgateError,
    ForkError,
    IntegrityError,
    Problem,
    ProtocolMisuse,
    StoreFull,
)

if TYPE_CHECKING:
    import sqlite_utils

T = TypeVar("T")

FILE_NAME: Final = "store.db"
LOCK_NAME: Final = "lock"
PAGE_SIZE_BYTES: Final = 2048
"""A commit of two records writes 20 % less than with 4096, bulk the same (measured); records up to 2 kB lie whole."""
WRITER_CACHE_KIB: Final = 4096
READER_CACHE_KIB: Final = 512
READERS_MAX: Final = 8
"""Read-only connections kept open; more may exist for a moment."""
CHECKPOINT_PAGES: Final = 2000
WAL_MAX_BYTES: Final = 64 * 1024 * 1024
"""A log larger than this means that checkpoints do not get through: one is forced, and its error is not hidden."""
JOBS_MAX: Final = 10_000
"""Jobs that may wait; the next caller is told that the store is full."""
BUSY_TIMEOUT_S: Final = 10.0


class Space(NamedTuple):
    """Room on a file system, for an ordinary user."""

    total_bytes: int
    free_bytes: int


def disk_space(path: Path) -> Space:
    """Ask the file system. Raises DiskError."""
    try:
        answer = os.statvfs(path)
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror}; is the disk mounted?") from error
    return Space(answer.f_blocks * answer.f_frsize, answer.f_bavail * answer.f_frsize)


@dataclass(slots=True)
class _Job:
    run: Callable[[sqlite3.Connection], Any]
    ordinary: bool
    loop: asyncio.AbstractEventLoop | None
    future: asyncio.Future[Any] | queue.SimpleQueue[tuple[Any, BaseException | None]]
    value: Any = None
    error: BaseException | None = None


class Database:
    """`<state_dir>/store.db`. Open with `open` (the daemon) or `open_readonly` (tools beside it)."""

    def __init__(
        self,
        path: Path,
        writer: sqlite3.Connection | None,
        lock_fd: int | None,
        *,
        commit_window_ms: int,
        reserve_bytes: int,
        space: Callable[[Path], Space],
    ) -> None:
        self.path: Final = path
        self.on_rollback: Final[list[Callable[[], None]]] = []
        """Called in the writer thread when anything was rolled back: caches of uncommitted rows forget them."""
        self._writer = writer
        self._lock_fd = lock_fd
        self._window_s = commit_window_ms / 1000
        self._reserve_bytes = reserve_bytes
        self._space = space
        self._wal_path = f"{path}-wal"
        self._failed: FieldgateError | None = None
        self._queue: queue.Queue[_Job | None] = queue.Queue(JOBS_MAX)
        self._closing = threading.Event()
        self._pool: deque[sqlite3.Connection] = deque()
        self._thread: threading.Thread | None = None
        if writer is not None:
            self._thread = threading.Thread(target=self._run, args=(writer,), name="store-writer", daemon=True)
            self._thread.start()

    # ------------------------------------------------------------------------------ opening, closing

    @classmethod
    def open(
        cls,
        state_dir: Path | str,
        gateway_id: str,
        *,
        commit_window_ms: int = 20,
        reserve_bytes: int = 268_435_456,
        space: Callable[[Path], Space] = disk_space,
    ) -> Database:
        """Lock the state folder, bring the schema up to date, check that the log agrees with itself, start the writer.

        Raises ConfigError (folder in use, or of another gateway), ForkError (an earlier run found a fork),
        IntegrityError (the log disagrees with itself), DiskError, StoreFull.
        """
        folder = Path(state_dir)
        lock_fd = _lock(folder)
        writer: sqlite3.Connection | None = None
        try:
            writer = _connect_writer(folder / FILE_NAME)
            migrations.migrate(writer)
            _check_owner(writer, folder, gateway_id)
            recovery.check(writer)
            _make_durable(folder)
        except BaseException as error:
            if writer is not None:
                writer.close()
            os.close(lock_fd)
            if isinstance(error, sqlite3.Error):
                raise store_error(error) from error
            raise
        return cls(
            folder / FILE_NAME,
            writer,
            lock_fd,
            commit_window_ms=commit_window_ms,
            reserve_bytes=reserve_bytes,
            space=space,
        )

    @classmethod
    def open_readonly(cls, state_dir: Path | str) -> Database:
        """For tools, beside a running daemon or without one: takes no lock, writes nothing.

        Raises ConfigError where there is no store, IntegrityError for a store of another program or version.
        """
        path = Path(state_dir) / FILE_NAME
        if not path.is_file():
            raise ConfigError([Problem(str(path), 0, "", "no store here; is this the state_dir of a gateway?")])
        database = cls(path, None, None, commit_window_ms=0, reserve_bytes=0, space=disk_space)
        try:
            with database.readers() as conn:
                version = migrations.check_identity(conn)
            if version != migrations.newest():
                raise IntegrityError(
                    f"{path}: schema version {version}, these tools know {migrations.newest()}; "
                    "start the daemon of this version once"
                )
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Finish the waiting jobs, checkpoint, release the lock. Harmless twice."""
        if self._thread is not None:
            self._closing.set()
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        while self._pool:
            self._pool.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------ reading

    @contextmanager
    def readers(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection inside one read transaction: all its statements see the same commit.

        Keep it for one short question: an open reader holds checkpoints back.
        """
        try:
            conn = self._pool.pop()
        except IndexError:
            conn = self._connect_reader()
        keep = False
        try:
            conn.execute("BEGIN")
            yield conn
            conn.execute("COMMIT")
            keep = len(self._pool) < READERS_MAX
        except sqlite3.Error as error:
            raise store_error(error) from error
        finally:
            if keep:
                self._pool.append(conn)
            else:
                conn.close()

    def tables(self) -> sqlite_utils.Database:
        """For tools that look around: the store through sqlite-utils, read-only. The caller closes it.

        Imported here: it costs 15 MB and 0.1 s, and the daemon never needs it.
        """
        import sqlite_utils

        return sqlite_utils.Database(self._connect_reader())

    def _connect_reader(self) -> sqlite3.Connection:
        try:
            conn = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=BUSY_TIMEOUT_S,
            )
            conn.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
            conn.execute("PRAGMA query_only = 1")
        except sqlite3.Error as error:
            raise store_error(error) from error
        return conn

    # ------------------------------------------------------------------------------ writing

    async def submit(self, run: Callable[[sqlite3.Connection], T], *, ordinary: bool = False) -> T:
        """Run `run(conn)` in the writer thread; return its value once it is on disk.

        The job is queued before the first suspension: jobs of one task keep their order. `ordinary` jobs are refused
        with StoreFull while the disk is down to its reserve. A cancelled caller does not stop a queued job.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(_Job(run, ordinary, loop, future))
        return await future

    def call(self, run: Callable[[sqlite3.Connection], T], *, ordinary: bool = False) -> T:
        """`submit` for threads without an event loop: blocks until the job is on disk."""
        answer: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._enqueue(_Job(run, ordinary, None, answer))
        value, error = answer.get()
        if error is not None:
            raise error
        result: T = value
        return result

    async def mark_fork(self, text: str) -> None:
        """The platform holds another history: refuse every later start with this reason."""

        def mark(conn: sqlite3.Connection) -> None:
            conn.execute("INSERT OR IGNORE INTO meta VALUES ('fork', ?)", (text,))

        await self.submit(mark)

    def _enqueue(self, job: _Job) -> None:
        if self._thread is None or self._closing.is_set():
            raise ProtocolMisuse("the store is closed or open read-only; nothing can be written")
        if self._failed is not None:
            raise _again(self._failed)
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise StoreFull(f"more than {JOBS_MAX} writes wait for the disk; it is too slow") from None

    def _run(self, conn: sqlite3.Connection) -> None:
        """The writer thread."""
        stopping = False
        while not stopping:
            jobs: list[_Job] = []
            job = self._queue.get()
            try:
                while job is not None:
                    jobs.append(job)
                    job = self._queue.get_nowait()
                stopping = True
            except queue.Empty:
                pass
            if jobs:
                self._transact(conn, jobs)
                _settle(jobs)
                self._bound_wal(conn)
                if self._window_s:
                    self._closing.wait(self._window_s)

    def _transact(self, conn: sqlite3.Connection, jobs: list[_Job]) -> None:
        """One transaction for all jobs. When it fails, all of them failed."""
        failure: FieldgateError | None = self._failed
        if failure is None:
            try:
                conn.execute("BEGIN IMMEDIATE")
                has_room: bool | None = None
                for job in jobs:
                    if job.ordinary:
                        if has_room is None:
                            has_room = self._space(self.path.parent).free_bytes >= self._reserve_bytes
                        if not has_room:
                            job.error = StoreFull(
                                f"{self.path.parent}: less than the reserve of {self._reserve_bytes} bytes is free; "
                                "only seals, receipts and alarms are stored"
                            )
                            continue
                    self._attempt(conn, job, alone=len(jobs) == 1)
                conn.execute("COMMIT")
            except sqlite3.Error as error:
                failure = store_error(error)
            except FieldgateError as error:
                failure = error
        if failure is None:
            metrics.COMMITS.inc()
            return
        self._roll_back(conn)
        if isinstance(failure, DiskError | IntegrityError):
            self._failed = failure
        for job in jobs:
            if job.error is None or job.error is failure:
                job.error = _again(failure)

    def _attempt(self, conn: sqlite3.Connection, job: _Job, *, alone: bool) -> None:
        """Run one job; undo it alone when it fails. Raises where the transaction as a whole is lost."""
        if not alone:
            conn.execute("SAVEPOINT job")
        try:
            job.value = job.run(conn)
        except sqlite3.Error as error:
            mapped = store_error(error)
            job.error = mapped
            if isinstance(mapped, DiskError | IntegrityError) or not conn.in_transaction:
                raise
        except Exception as error:  # noqa: BLE001  whatever it is belongs to the caller who sent the job
            job.error = error
        if job.error is not None:
            for forget in self.on_rollback:
                forget()
            if alone:
                conn.execute("ROLLBACK")
                conn.execute("BEGIN IMMEDIATE")
            else:
                conn.execute("ROLLBACK TO job")
        if not alone:
            conn.execute("RELEASE job")

    def _roll_back(self, conn: sqlite3.Connection) -> None:
        for forget in self.on_rollback:
            forget()
        if conn.in_transaction:
            try:
                conn.execute("ROLLBACK")
            except sqlite3.Error as error:
                self._failed = DiskError(f"the disk of the store failed while undoing a write: {error}")

    def _bound_wal(self, conn: sqlite3.Connection) -> None:
        """Automatic checkpoints hide their errors; once the log is too long, see the error."""
        try:
            if os.stat(self._wal_path).st_size > WAL_MAX_BYTES:  # noqa: PTH116  hot path, no Path object
                conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            mapped = store_error(error)
            if isinstance(mapped, DiskError | IntegrityError):
                self._failed = mapped
        except OSError as error:
            self._failed = file_error(error, Path(self._wal_path))


def _settle(jobs: list[_Job]) -> None:
    """Tell the callers, one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        if job.loop is not None:
            by_loop.setdefault(job.loop, []).append(job)
        elif isinstance(job.future, queue.SimpleQueue):
            job.future.put((job.value, job.error))
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, group)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            continue


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        if isinstance(job.future, asyncio.Future) and not job.future.done():
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.value)


def _again(error: FieldgateError) -> FieldgateError:
    """A fresh instance: each caller gets its own traceback."""
    return type(error)(*error.args)


def _lock(folder: Path) -> int:
    """Take `<state_dir>/lock` for the life of the process. Raises ConfigError where another process has it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        mapped = file_error(error, folder)
        if isinstance(mapped, StoreFull):
            raise mapped from error
        text = f"cannot be used ({error.strerror}); make it writable for this user or choose another"
        raise ConfigError([Problem(str(folder), 0, "storage.state_dir", text)]) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "?"
        os.close(fd)
        text = f"in use by process {holder}; stop it first, two gateways on one store would fork its log"
        raise ConfigError([Problem(str(folder), 0, "storage.state_dir", text)]) from None
    with contextlib.suppress(OSError):  # who holds the lock is a courtesy, and the disk may be full
        os.pwrite(fd, f"{os.getpid():<19}\n".encode(), 0)
    return fd


def _connect_writer(path: Path) -> sqlite3.Connection:
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise file_error(error, path) from error
    conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
    try:
        configure_writer(conn)
    except BaseException:
        conn.close()
        raise
    return conn


def configure_writer(conn: Connection) -> None:
    """The settings that durability and wear depend on."""
    conn.execute(f"PRAGMA page_size = {PAGE_SIZE_BYTES}")
    if one(conn, "PRAGMA journal_mode = WAL") != "wal":
        raise DiskError("the file system of state_dir does not support WAL (shared memory); use a local disk")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    conn.execute(f"PRAGMA journal_size_limit = {WAL_MAX_BYTES}")
    conn.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    conn.execute("PRAGMA temp_store = MEMORY")


def _check_owner(conn: sqlite3.Connection, folder: Path, gateway_id: str) -> None:
    """One store, one gateway; and none after a fork."""
    conn.execute("INSERT OR IGNORE INTO meta VALUES ('gateway_id', ?)", (gateway_id,))
    owner = one(conn, "SELECT value FROM meta WHERE key = 'gateway_id'")
    if owner != gateway_id:
        text = f"holds the log of gateway {owner!r}, not of {gateway_id!r}; use its own state_dir for each gateway"
        raise ConfigError([Problem(str(folder), 0, "gateway.id", text)])
    fork = one(conn, "SELECT value FROM meta WHERE key = 'fork'")
    if fork is not None:
        raise ForkError(f"{folder}: {fork}")


def _make_durable(folder: Path) -> None:
    """The folder's entries themselves: a new store.db must not vanish with the folder's cached pages."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise file_error(error, folder) from error
    finally:
        os.close(fd)
