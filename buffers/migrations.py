"""The schema: numbered SQL files, each applied in one transaction, never edited once released."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from buffers.connection import Connection, one
from gateway.core.errors import IntegrityError

APPLICATION_ID: Final = 0x46475354
"""'FGST' in the header of store.db."""
SCHEMA_FOLDER: Final = Path(__file__).with_name("schema")


def files() -> list[Path]:
    """0001.sql, 0002.sql, … in order."""
    return sorted(SCHEMA_FOLDER.glob("[0-9][0-9][0-9][0-9].sql"))


def newest() -> int:
    """The schema version that this program writes."""
    return int(files()[-1].stem)


def check_identity(conn: Connection) -> int:
    """The version of an existing store; 0 for an empty file. Raises IntegrityError for anything else."""
    application_id = one(conn, "PRAGMA application_id")
    version = int(one(conn, "PRAGMA user_version"))
    if application_id != APPLICATION_ID and (
        application_id or version or one(conn, "SELECT count(*) FROM sqlite_master")
    ):
        raise IntegrityError("store.db belongs to another program; move it away or set another storage.state_dir")
    if version > newest():
        raise IntegrityError(
            f"store.db has schema version {version}, this Fieldgate knows {newest()}; use a newer Fieldgate"
        )
    return version


def migrate(conn: Connection) -> None:
    """Bring the store to the newest version, one transaction per step. A cut leaves the version before or after."""
    version = check_identity(conn)
    for file in files():
        number = int(file.stem)
        if number <= version:
            continue
        conn.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements(file.read_text("utf-8")):
                conn.execute(statement)
            conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            conn.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            conn.execute("ROLLBACK")
            raise
        conn.execute("COMMIT")


def statements(script: str) -> Iterator[str]:
    """The single statements of a script."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
