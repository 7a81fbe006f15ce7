"""Starting is recovering: what disagrees is named, nothing is changed, nothing is repaired."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from buffers import recovery
from buffers.db import PAGE_SIZE_BYTES, Database
from gateway.core.errors import IntegrityError
from tests.buffers.chain import GATEWAY, draft, instant, open_box, put


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store: two batches, an unsealed tail, a full block of the index."""
    folder = tmp_path_factory.mktemp("sound")
    box = open_box(folder)
    item = put(box.spool(), b"video")
    box.journal.append_blocking([(draft(n=n), instant()) for n in range(600)])
    asyncio.run(box.seal())
    box.journal.append_blocking([(draft("alarm", artifacts=[item], n=n), instant()) for n in range(600)])
    asyncio.run(box.seal(1100))
    box.close()
    return folder


def damaged(sound: Path, folder: Path, *statements: str) -> Path:
    """A copy of the store with something changed behind its back."""
    shutil.copy(sound / "store.db", folder / "store.db")
    conn = sqlite3.connect(folder / "store.db")
    for statement in statements:
        conn.execute(statement)
    conn.commit()
    conn.close()
    return folder


def digest(folder: Path) -> str:
    """Of the database file: a refused start leaves it as it is."""
    return hashlib.sha256((folder / "store.db").read_bytes()).hexdigest()


def test_a_sound_store_starts_any_number_of_times(sound: Path, tmp_path: Path) -> None:
    folder = damaged(sound, tmp_path)
    before = digest(folder)
    for _ in range(3):
        Database.open(folder, GATEWAY).close()
        assert digest(folder) == before


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE record SET leaf = CAST(leaf || ' ' AS BLOB) WHERE seq = 700", "batch 2: records 600 to 1099"),
        ("DELETE FROM record WHERE seq = 700", "of records 600 to 1099 only 499"),
        ("DELETE FROM record WHERE seq = 1150", "of the 100 records after the last seal, from 1100, only 99"),
        ("DELETE FROM record WHERE seq >= 1100 AND seq < 1110", "after the last seal"),
        ("DELETE FROM record WHERE seq >= 1099", "of records 600 to 1099 only 499"),
        ("UPDATE checkpoint SET size = 1101", "frontier of 4 hashes does not belong to a tree of 1101"),
        ("UPDATE checkpoint SET size = 600, frontier = (SELECT prev_frontier FROM batch WHERE n = 2)", "root"),
        ("UPDATE checkpoint SET root = randomblob(32)", "its frontier gives root"),
        ("UPDATE checkpoint SET frontier = zeroblob(length(frontier))", "its frontier gives root"),
        ("DELETE FROM checkpoint", "lost its checkpoint"),
        ("DELETE FROM batch WHERE n = 2", "batch 1 ends at 600"),
        ("DELETE FROM batch WHERE n = 1", "not all from 1 to 2"),
        ("DELETE FROM batch", "there is no batch"),
        ("UPDATE batch SET root = randomblob(32) WHERE n = 2", "batch 2 ends at 1100"),
        ("UPDATE batch SET prev_root = randomblob(32) WHERE n = 2", "does not give its prev root"),
        ("UPDATE batch SET prev_frontier = x'00' WHERE n = 2", "batch 2: frontier of"),
        ("UPDATE batch SET records_sha256 = 'x' WHERE n = 2", "records-sha256 differs"),
        ("INSERT INTO meta VALUES ('records_expired_below', '768')", "batch 2: its records from 600 count as expired"),
        ("DELETE FROM block", "the index has 0 blocks for 1200 records, 1 are due"),
    ],
)
def test_what_disagrees_stops_the_start(sound: Path, tmp_path: Path, statement: str, named: str) -> None:
    folder = damaged(sound, tmp_path, statement)
    before = digest(folder)
    for _ in range(2):
        with pytest.raises(IntegrityError, match=named) as caught:
            Database.open(folder, GATEWAY)
        assert "\n" not in str(caught.value)
    assert digest(folder) == before


def test_a_sealed_root_is_checked_apart_from_the_flat_hash(sound: Path, tmp_path: Path) -> None:
    """records-sha256 changed together with the leaf: the root still tells."""
    folder = damaged(sound, tmp_path, "UPDATE record SET leaf = CAST('x' AS BLOB) WHERE seq = 700")
    conn = sqlite3.connect(folder / "store.db")
    flat = hashlib.sha256()
    for (leaf,) in conn.execute("SELECT leaf FROM record WHERE seq >= 600 AND seq < 1100 ORDER BY seq"):
        flat.update(leaf + b"\n")
    conn.execute("UPDATE batch SET records_sha256 = ? WHERE n = 2", (flat.hexdigest(),))
    conn.commit()
    conn.close()
    with pytest.raises(IntegrityError, match="do not give the sealed root"):
        Database.open(folder, GATEWAY)


def test_only_so_many_unsealed_records_are_counted(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "UNSEALED_CHECKED_MAX", 50)
    Database.open(damaged(sound, tmp_path, "DELETE FROM record WHERE seq = 1160"), GATEWAY).close()
    folder = damaged(sound, tmp_path, "DELETE FROM record WHERE seq = 1120")
    with pytest.raises(IntegrityError, match="of the 50 records after the last seal, from 1100, only 49"):
        Database.open(folder, GATEWAY)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(IntegrityError, match=r"store\.db is damaged"):
        Database.open(tmp_path, GATEWAY)


@pytest.mark.parametrize("table", [*recovery.SMALL_TABLES, "record", "batch", "block"])
def test_a_damaged_page_stops_the_start(sound: Path, tmp_path: Path, table: str) -> None:
    """Rubbish in the first page of any table that every start reads is met at once."""
    shutil.copy(sound / "store.db", tmp_path / "store.db")
    conn = sqlite3.connect(tmp_path / "store.db")
    (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    conn.close()
    with (tmp_path / "store.db").open("r+b") as file:
        file.seek((page - 1) * PAGE_SIZE_BYTES)
        file.write(b"\xa5" * PAGE_SIZE_BYTES)
    with pytest.raises(IntegrityError):
        Database.open(tmp_path, GATEWAY)


def test_a_page_whose_books_do_not_balance_stops_the_start(sound: Path, tmp_path: Path) -> None:
    """Every row can still be read; only the check of the page itself tells."""
    shutil.copy(sound / "store.db", tmp_path / "store.db")
    conn = sqlite3.connect(tmp_path / "store.db")
    (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'name'").fetchone()
    conn.close()
    with (tmp_path / "store.db").open("r+b") as file:
        file.seek((page - 1) * PAGE_SIZE_BYTES + 7)  # the count of fragmented free bytes
        file.write(b"\x37")
    with pytest.raises(IntegrityError, match="table name: .*free space corruption") as caught:
        Database.open(tmp_path, GATEWAY)
    assert "\n" not in str(caught.value)


def test_a_truncated_file(sound: Path, tmp_path: Path) -> None:
    content = (sound / "store.db").read_bytes()
    (tmp_path / "store.db").write_bytes(content[: len(content) // 2])
    with pytest.raises(IntegrityError):
        Database.open(tmp_path, GATEWAY)
