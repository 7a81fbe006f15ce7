"""What the SQL of this package needs of a database connection, and how its errors become ours.

The statements run on a `sqlite3` connection in the daemon and on an `apsw` connection over a simulated disk in the
power-cut tests, so they use nothing but `execute` and `executemany`.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.core.errors import (
    DiskError,
    FieldgateError,
    IntegrityError,
    ProtocolMisuse,
    StoreFull,
    TransientError,
)

Value = int | str | bytes | None


class Rows(Protocol):
    """The answer to a statement."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """The part of a connection that `sqlite3` and `apsw` share."""

    def execute(self, sql: str, parameters: Sequence[Value] = ..., /) -> Rows: ...
    def executemany(self, sql: str, parameters: Iterable[Sequence[Value]], /) -> object: ...


_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def store_error(error: sqlite3.Error) -> FieldgateError:
    """Map an SQLite error to its class by what must be done.

    No room (SQLITE_FULL, or no room for the shared index) is back-pressure: nothing was written. Every other I/O
    error stops the process: after a failed fsync the kernel may have dropped the very pages, so a second try that
    succeeds proves nothing. A malformed database stops it too, and is never repaired.
    """
    code = getattr(error, "sqlite_errorcode", 0)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull("no room on the disk of storage.state_dir; free some, or let receipted artifacts expire")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return IntegrityError(
            f"store.db is damaged ({error}); stop, keep a copy of the state folder, and restore it or enrol the "
            "gateway anew: it is never repaired in place"
        )
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return DiskError(f"the disk of the store failed ({name}: {error}); see the kernel log, replace the disk")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TransientError("another program holds store.db locked; close it")
    return ProtocolMisuse(f"store.db: {name}: {error}")


def file_error(error: OSError, path: Path) -> FieldgateError:
    """Map an OSError of a file of ours: no room is back-pressure, everything else stops."""
    if error.errno in _NO_ROOM:
        return StoreFull(f"{path}: {error.strerror}; free some room, or let receipted artifacts expire")
    return DiskError(f"{path}: {error.strerror}; see the kernel log, replace the disk")


def one(conn: Connection, sql: str, parameters: Sequence[Value] = ()) -> Any:
    """The single value of a single-row answer; None where there is no row."""
    row = conn.execute(sql, parameters).fetchone()
    return None if row is None else row[0]
