"""The writer thread: group commit, savepoints, error classes, the lock, versions."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from buffers import db as db_module
from buffers.connection import one, store_error
from buffers.db import Database, Space
from gateway.core.errors import (
    ConfigError,
    DiskError,
    ForkError,
    IntegrityError,
    ProtocolMisuse,
    StoreFull,
    TransientError,
)
from tests.buffers.chain import GATEWAY, draft, instant, open_box


def records_seen(database: Database) -> int:
    """Records that a reader sees."""
    with database.readers() as conn:
        return int(one(conn, "SELECT count(*) FROM record"))


def test_jobs_that_wait_share_one_transaction(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    seen: list[str] = []
    started, gate = threading.Event(), threading.Event()

    def hold(conn: sqlite3.Connection) -> None:
        conn.set_trace_callback(seen.append)
        started.set()
        gate.wait()

    async def run() -> None:
        held = asyncio.ensure_future(box.database.submit(hold))  # noqa: TID251  the test owns the loop
        await asyncio.to_thread(started.wait)
        waiting = [
            asyncio.ensure_future(box.journal.append([(draft(number=n), instant())]))  # noqa: TID251
            for n in range(50)
        ]
        await asyncio.sleep(0)
        gate.set()
        await held
        assert await asyncio.gather(*waiting) == list(range(50))

    asyncio.run(run())
    box.close()
    assert [text for text in seen if text.startswith(("BEGIN", "COMMIT"))] == ["COMMIT", "BEGIN IMMEDIATE", "COMMIT"]
    assert seen.count("SAVEPOINT job") == 50


def test_a_job_that_fails_undoes_itself_alone(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    def broken(conn: sqlite3.Connection) -> None:
        conn.execute("INSERT INTO name (text) VALUES ('half done')")
        raise ZeroDivisionError

    async def run() -> list[object]:
        return await asyncio.gather(
            box.journal.append([(draft(), instant())]),
            box.database.submit(broken),
            box.journal.append([(draft(), instant())]),
            return_exceptions=True,
        )

    first, error, second = asyncio.run(run())
    assert (first, second) == (0, 1)
    assert isinstance(error, ZeroDivisionError)
    with box.database.readers() as conn:
        assert one(conn, "SELECT count(*) FROM name WHERE text = 'half done'") == 0
    with pytest.raises(ZeroDivisionError):
        box.database.call(broken)
    assert box.journal.append_blocking([(draft(), instant())]) == 2
    box.close()


def test_names_of_a_failed_job_are_not_remembered(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    def broken(conn: sqlite3.Connection) -> None:
        box.journal._names.id_of(conn, "new device")
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        box.database.call(broken)
    box.journal.append_blocking([(draft(device="another"), instant()), (draft(device="new device"), instant())])
    assert [seq for seq, _ in box.queries.records(device="new device")] == [1]
    assert [seq for seq, _ in box.queries.records(device="another")] == [0]
    box.close()


def test_a_cancelled_caller_does_not_undo_its_record(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    async def run() -> None:
        task = asyncio.ensure_future(box.journal.append([(draft(), instant())]))  # noqa: TID251
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await box.journal.append([(draft(), instant())]) == 1

    asyncio.run(run())
    box.close()


def test_a_caller_whose_loop_has_gone_stops_nobody(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    gate = threading.Event()
    left: list[asyncio.Future[bool]] = []

    async def leave() -> None:
        left.append(asyncio.ensure_future(box.database.submit(lambda _: gate.wait())))  # noqa: TID251
        await asyncio.sleep(0)

    asyncio.run(leave())
    gate.set()
    assert box.journal.append_blocking([(draft(), instant())]) == 0
    box.close()


def test_a_reader_sees_one_commit_and_cannot_write(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    with box.database.readers() as conn:
        assert one(conn, "SELECT count(*) FROM record") == 0
        box.journal.append_blocking([(draft(), instant())])
        assert one(conn, "SELECT count(*) FROM record") == 0
    assert records_seen(box.database) == 1
    with pytest.raises(DiskError, match="readonly"), box.database.readers() as conn:
        conn.execute("DELETE FROM record")
    box.close()


def test_ordinary_rows_leave_the_reserve(tmp_path: Path) -> None:
    free = [0]
    box = open_box(tmp_path, reserve_bytes=1000, space=lambda _: Space(10_000, free[0]))

    async def run() -> None:
        with pytest.raises(StoreFull, match="reserve of 1000"):
            await box.journal.append([(draft(), instant())])
        assert await box.journal.append([(draft("alarm"), instant())], essential=True) == 0
        assert (await box.seal()).end == 1
        free[0] = 1000
        assert await box.journal.append([(draft(), instant())]) == 1

    asyncio.run(run())
    box.close()


def test_no_more_than_the_limit_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_module, "JOBS_MAX", 2)
    box = open_box(tmp_path)
    gate = threading.Event()
    started = threading.Event()

    def hold(_: object) -> None:
        started.set()
        gate.wait()

    async def run() -> None:
        held = asyncio.ensure_future(box.database.submit(hold))  # noqa: TID251
        await asyncio.to_thread(started.wait)
        waiting = [asyncio.ensure_future(box.database.submit(lambda _: 7)) for _ in range(2)]  # noqa: TID251
        await asyncio.sleep(0)
        with pytest.raises(StoreFull, match="more than 2 writes wait"):
            await box.database.submit(lambda _: 7)
        gate.set()
        await held
        assert await asyncio.gather(*waiting) == [7, 7]

    asyncio.run(run())
    box.close()


def test_after_close_nothing_is_written(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    box.close()
    box.close()
    with pytest.raises(ProtocolMisuse, match="closed"):
        box.journal.append_blocking([(draft(), instant())])


def test_a_second_daemon_is_refused_in_one_line(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    program = (
        "import sys; from buffers.db import Database; from gateway.core.errors import ConfigError\n"
        "try: Database.open(sys.argv[1], 'gw-1')\n"
        "except ConfigError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert answer.stdout.count("\n") == 1
    assert f"in use by process {os.getpid()};" in answer.stdout
    with pytest.raises(ConfigError, match=rf"storage\.state_dir: in use by process {os.getpid()};"):
        open_box(tmp_path)  # in one process too
    box.close()
    open_box(tmp_path).close()


def test_a_store_belongs_to_one_gateway(tmp_path: Path) -> None:
    open_box(tmp_path).close()
    with pytest.raises(ConfigError, match="holds the log of gateway 'gw-1', not of 'gw-2'"):
        Database.open(tmp_path, "gw-2")


def test_a_fork_refuses_every_later_start(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    asyncio.run(box.database.mark_fork("the platform holds another history"))
    box.close()
    for _ in range(2):
        with pytest.raises(ForkError, match="another history"):
            Database.open(tmp_path, GATEWAY)


def test_the_files_are_for_the_owner_only(tmp_path: Path) -> None:
    box = open_box(tmp_path / "state")
    box.journal.append_blocking([(draft(), instant())])
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir() if path.is_file()}
    assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "lock"), 0o600)
    box.close()


def test_durability_settings(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    def settings(conn: sqlite3.Connection) -> tuple[object, ...]:
        return tuple(one(conn, f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "page_size"))

    assert box.database.call(settings) == ("wal", 2, 2048)
    box.close()


def test_tools_read_beside_the_daemon_and_without_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no store here"):
        Database.open_readonly(tmp_path)
    box = open_box(tmp_path)
    box.journal.append_blocking([(draft(), instant())])
    for running in (True, False):
        with Database.open_readonly(tmp_path) as tools:
            assert records_seen(tools) == 1
            tables = tools.tables()
            assert tables["record"].count == 1
            tables.conn.close()
            with pytest.raises(ProtocolMisuse, match="read-only"):
                tools.call(lambda _: None)
        if running:
            box.close()


def test_an_unusable_folder_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"storage\.state_dir: cannot be used"):
        Database.open(tmp_path / "file", GATEWAY)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR_SHMSIZE, StoreFull),
        (sqlite3.SQLITE_IOERR_FSYNC, DiskError),
        (sqlite3.SQLITE_IOERR_WRITE, DiskError),
        (sqlite3.SQLITE_IOERR_READ, DiskError),
        (sqlite3.SQLITE_CANTOPEN, DiskError),
        (sqlite3.SQLITE_CORRUPT, IntegrityError),
        (sqlite3.SQLITE_NOTADB, IntegrityError),
        (sqlite3.SQLITE_BUSY, TransientError),
        (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, ProtocolMisuse),
    ],
)
def test_error_classes(code: int, expected: type[Exception]) -> None:
    error = sqlite3.OperationalError("what sqlite says")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_X"
    mapped = store_error(error)
    assert type(mapped) is expected
    assert "\n" not in str(mapped)


def failing(code: int) -> sqlite3.OperationalError:
    """An error that a disk would cause."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


def test_a_failed_disk_stops_the_writer_for_good(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    def broken(_: object) -> None:
        raise failing(sqlite3.SQLITE_IOERR_FSYNC)

    async def run() -> list[object]:
        return await asyncio.gather(
            box.journal.append([(draft(), instant())]), box.database.submit(broken), return_exceptions=True
        )

    assert [type(answer) for answer in asyncio.run(run())] == [DiskError, DiskError]
    with pytest.raises(DiskError):
        box.journal.append_blocking([(draft(), instant())])
    box.close()
    box = open_box(tmp_path)
    assert box.queries.next_seq() == 0
    box.close()


def test_a_full_disk_fails_one_job_and_the_next_goes_on(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    def full(_: object) -> None:
        raise failing(sqlite3.SQLITE_FULL)

    with pytest.raises(StoreFull):
        box.database.call(full)
    assert box.journal.append_blocking([(draft(), instant())]) == 0
    box.close()


def test_the_log_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_module, "WAL_MAX_BYTES", 100_000)
    box = open_box(tmp_path)
    for _ in range(20):
        box.journal.append_blocking([(draft(text="x" * 1000), instant())] * 50)
    assert (tmp_path / "store.db-wal").stat().st_size < 400_000
    box.close()


def test_when_commit_fails_all_of_its_jobs_failed(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    def refuse_commit(conn: sqlite3.Connection) -> None:
        def rule(action: int, argument: str | None, *_: object) -> int:
            commit = action == sqlite3.SQLITE_TRANSACTION and argument == "COMMIT"
            return sqlite3.SQLITE_DENY if commit else sqlite3.SQLITE_OK

        conn.set_authorizer(rule)

    async def run() -> list[object]:
        return await asyncio.gather(
            box.journal.append([(draft(device="new"), instant())]),
            box.database.submit(refuse_commit),
            return_exceptions=True,
        )

    assert [type(answer) for answer in asyncio.run(run())] == [ProtocolMisuse, ProtocolMisuse]
    assert box.queries.next_seq() == 0

    box.database._writer.set_authorizer(None)  # type: ignore[union-attr]
    assert box.journal.append_blocking([(draft(device="new"), instant())]) == 0
    assert [seq for seq, _ in box.queries.records(device="new")] == [0]
    box.close()


def test_a_write_that_cannot_be_undone_stops_the_writer(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    def refuse_every_end(conn: sqlite3.Connection) -> None:
        def rule(action: int, argument: str | None, *_: object) -> int:
            end = action == sqlite3.SQLITE_TRANSACTION and argument in {"COMMIT", "ROLLBACK"}
            return sqlite3.SQLITE_DENY if end else sqlite3.SQLITE_OK

        conn.set_authorizer(rule)

    with pytest.raises(ProtocolMisuse):
        box.database.call(refuse_every_end)
    with pytest.raises(DiskError, match="while undoing a write"):
        box.journal.append_blocking([(draft(), instant())])
    box.close()
    box = open_box(tmp_path)
    assert box.queries.next_seq() == 0
    box.close()


def test_a_disk_that_goes_while_it_is_asked_for_room_fails_what_waits(tmp_path: Path) -> None:
    gone = DiskError("the disk is gone")

    def space(_: Path) -> Space:
        raise gone

    box = open_box(tmp_path, reserve_bytes=1, space=space)
    with pytest.raises(DiskError, match="the disk is gone"):
        box.journal.append_blocking([(draft(), instant())])
    box.close()


def test_a_long_log_that_cannot_be_shortened_stops_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_module, "WAL_MAX_BYTES", 0)

    class Broken:
        """A connection on a disk that fails, or that another reader holds."""

        def __init__(self, code: int) -> None:
            self.code = code

        def execute(self, _: str) -> None:
            raise failing(self.code)

    box = open_box(tmp_path)
    box.journal.append_blocking([(draft(), instant())])
    box.database._bound_wal(Broken(sqlite3.SQLITE_BUSY))  # type: ignore[arg-type]
    box.journal.append_blocking([(draft(), instant())])
    box.database._bound_wal(Broken(sqlite3.SQLITE_IOERR_FSYNC))  # type: ignore[arg-type]
    with pytest.raises(DiskError):
        box.journal.append_blocking([(draft(), instant())])
    box.close()


def test_a_log_that_vanishes_stops_the_writer(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    box.journal.append_blocking([(draft(), instant())])
    (tmp_path / "store.db-wal").rename(tmp_path / "elsewhere")

    def twice() -> None:
        """The writer looks after it has answered: the first of these may still be told that all is well."""
        for _ in range(2):
            box.journal.append_blocking([(draft(), instant())])

    with pytest.raises(DiskError, match="store.db-wal"):
        twice()
    box.close()


def test_a_job_that_waited_behind_a_failed_disk_fails_too(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    started, gate = threading.Event(), threading.Event()

    def broken(_: object) -> None:
        started.set()
        gate.wait()
        raise failing(sqlite3.SQLITE_IOERR_WRITE)

    async def run() -> None:
        first = asyncio.ensure_future(box.database.submit(broken))  # noqa: TID251
        await asyncio.to_thread(started.wait)
        second = asyncio.ensure_future(box.journal.append([(draft(), instant())]))  # noqa: TID251
        await asyncio.sleep(0)
        gate.set()
        assert [type(answer) for answer in await asyncio.gather(first, second, return_exceptions=True)] == [
            DiskError,
            DiskError,
        ]

    asyncio.run(run())
    box.close()


def test_a_disk_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="is the disk mounted"):
        db_module.disk_space(tmp_path / "gone")
    box = open_box(tmp_path)
    box.close()
    (tmp_path / "store.db").unlink()
    with pytest.raises(DiskError, match="unable to open"), box.database.readers():
        raise AssertionError


def test_a_file_system_without_a_log_beside_the_file_is_refused() -> None:
    with closing(sqlite3.connect(":memory:")) as conn, pytest.raises(DiskError, match="use a local disk"):
        db_module.configure_writer(conn)


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.EIO, DiskError), (errno.ENOSPC, StoreFull), (errno.EROFS, DiskError)]
)
def test_a_store_that_cannot_be_made_durable_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(expected):
            open_box(tmp_path)
    open_box(tmp_path).close()
