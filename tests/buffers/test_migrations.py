"""Schema versions: each one kept as a file, opened twice; newer ones refused; a step is whole or absent."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
from pathlib import Path

import pytest

from buffers import migrations
from buffers.connection import one
from buffers.db import Database
from buffers.queries import Queries
from gateway.core.errors import IntegrityError
from gateway.core.record import parse_leaf
from tests.buffers.chain import GATEWAY, artifact, draft, instant, open_box

KEPT = Path(__file__).resolve().parent.parent / "vectors" / "store"


def schema(path: Path) -> list[tuple[str, ...]]:
    """Everything that the schema says."""
    conn = sqlite3.connect(path)
    rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    conn.close()
    return rows


def test_every_version_is_kept() -> None:
    assert sorted(path.name for path in KEPT.glob("v*.db.gz")) == [f"v{int(f.stem)}.db.gz" for f in migrations.files()]


@pytest.mark.parametrize("version", [int(file.stem) for file in migrations.files()])
def test_an_old_store_opens_and_opens_again(tmp_path: Path, version: int) -> None:
    (tmp_path / "store.db").write_bytes(gzip.decompress((KEPT / f"v{version}.db.gz").read_bytes()))
    for opening in range(2):
        box = open_box(tmp_path)
        with box.database.readers() as conn:
            assert one(conn, "PRAGMA user_version") == migrations.newest()
        assert [row.n for row in box.queries.batches(0, 9)] == [1, 2]
        assert box.queries.tail().size == 300
        assert box.queries.next_seq() == 310 + opening
        assert [parse_leaf(leaf).data["n"] for leaf in box.queries.leaves(0, 310)] == list(range(310))
        assert box.memory.get("trackers", b"cursor") == b"\x00\x01"
        row = box.queries.artifact(artifact(b"video").sha256)
        assert row is not None
        assert row.state == "present"
        assert [(item.kind, item.ref) for item in box.outbox.due(9)] == [("alarm", "309"), ("batch", "2")]
        assert box.journal.append_blocking([(draft(), instant())]) == 310 + opening
        box.close()
    fresh = tmp_path / "fresh"
    open_box(fresh).close()
    assert schema(tmp_path / "store.db") == schema(fresh / "store.db")
    asyncio.run(_seal_on(tmp_path))


async def _seal_on(folder: Path) -> None:
    box = open_box(folder)
    assert (await box.seal()).n == 3
    box.close()


def test_a_newer_store_is_refused_in_one_line(tmp_path: Path) -> None:
    open_box(tmp_path).close()
    conn = sqlite3.connect(tmp_path / "store.db")
    conn.execute("PRAGMA user_version = 99")
    conn.close()
    for opening in (lambda: Database.open(tmp_path, GATEWAY), lambda: Database.open_readonly(tmp_path)):
        with pytest.raises(IntegrityError, match="schema version 99, this Fieldgate knows 1; use a newer") as caught:
            opening()
        assert "\n" not in str(caught.value)


def test_tools_wait_for_the_daemon_to_migrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_box(tmp_path).close()
    monkeypatch.setattr(migrations, "newest", lambda: 2)
    with pytest.raises(IntegrityError, match="start the daemon of this version once"):
        Database.open_readonly(tmp_path)


@pytest.mark.parametrize(
    "statement", ["PRAGMA application_id = 7", "CREATE TABLE theirs (x)", "PRAGMA user_version = 1"]
)
def test_the_database_of_another_program_is_left_alone(tmp_path: Path, statement: str) -> None:
    conn = sqlite3.connect(tmp_path / "store.db")
    conn.execute(statement)
    conn.close()
    with pytest.raises(IntegrityError, match="belongs to another program"):
        Database.open(tmp_path, GATEWAY)


def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "schema"
    folder.mkdir()
    (folder / "0001.sql").write_text((migrations.SCHEMA_FOLDER / "0001.sql").read_text())
    (folder / "0002.sql").write_text("CREATE TABLE more (x);\nCREATE TABLE more (x);\n")
    open_box(tmp_path).close()
    before = schema(tmp_path / "store.db")
    monkeypatch.setattr(migrations, "SCHEMA_FOLDER", folder)
    with pytest.raises(Exception, match="already exists"):
        Database.open(tmp_path, GATEWAY)
    assert schema(tmp_path / "store.db") == before
    (folder / "0002.sql").write_text("-- a remark; with a semicolon\nCREATE TABLE more (x);\n")
    database = Database.open(tmp_path, GATEWAY)
    assert Queries(database).next_seq() == 0
    database.close()
    assert len(schema(tmp_path / "store.db")) == len(before) + 1
