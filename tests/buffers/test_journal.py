"""Appending: order, salts, artifacts, state, outbox items."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from buffers import journal
from buffers.connection import one
from gateway.core.errors import ProtocolMisuse
from gateway.core.record import LEAF_SIZE_MAX_BYTES, StateChange, check_draft, parse_leaf
from tests.buffers.chain import artifact, draft, instant, open_box, put


def test_leaves_lie_in_order_with_their_seq_and_a_fresh_salt(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    rows = [(draft(number=n), instant(epoch=n)) for n in range(5)]
    assert box.journal.append_blocking(rows[:3]) == 0
    assert box.journal.append_blocking(rows[3:]) == 3
    records = [parse_leaf(leaf) for leaf in box.queries.leaves(0, 5)]
    assert [record.seq for record in records] == list(range(5))
    assert [record.data["number"] for record in records] == list(range(5))
    assert [record.instant.epoch for record in records] == list(range(5))
    assert len({record.salt for record in records}) == 5
    assert all(len(record.salt) == 32 for record in records)
    box.close()
    box = open_box(tmp_path)
    assert box.journal.append_blocking(rows[:1]) == 5
    box.close()


def test_appends_of_one_task_keep_their_order(tmp_path: Path) -> None:
    box = open_box(tmp_path)

    async def run() -> list[int]:
        return await asyncio.gather(*(box.journal.append([(draft(number=n), instant())]) for n in range(300)))

    assert asyncio.run(run()) == list(range(300))
    assert [json.loads(leaf)["data"]["number"] for leaf in box.queries.leaves(0, 300)] == list(range(300))
    box.close()


def test_state_is_committed_with_the_records(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    changes = [StateChange("a", b"k1", b"v1"), StateChange("a", b"k2", b""), StateChange("b", b"k1", b"other")]
    assert box.journal.append_blocking([(draft(), instant())], changes) == 0
    assert box.journal.append_blocking([], [StateChange("a", b"k2", None), StateChange("a", b"k1", b"v2")]) == 1
    box.close()
    box = open_box(tmp_path)
    assert box.memory.get("a", b"k1") == b"v2"
    assert box.memory.get("a", b"k2") is None
    assert dict(box.memory.items("b")) == {b"k1": b"other"}
    box.close()


def test_memory_by_prefix(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    keys = [b"a", b"a\x00", b"ab", b"a\xff", b"a\xff\xffz", b"b", b"\xff", b"\xff\xff"]
    box.journal.append_blocking([], [StateChange("s", key, key) for key in keys])
    assert [key for key, _ in box.memory.items("s")] == sorted(keys)
    for prefix in (b"a", b"a\xff", b"\xff", b"ab", b"none"):
        assert [key for key, _ in box.memory.items("s", prefix)] == sorted(k for k in keys if k.startswith(prefix))
    box.close()


def test_a_new_artifact_is_queued_once_and_referred_to_twice(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    item = put(box.spool(), b"video")
    box.journal.append_blocking([(draft("station.file", artifacts=[item]), instant())])
    box.journal.append_blocking([(draft("station.sighting", artifacts=[item, item]), instant())])
    assert (box.outbox.backlog().items, box.outbox.backlog().size_bytes) == (1, 5)
    assert [row.sha256 for row in box.queries.artifacts_of(0, 1)] == [item.sha256]
    assert [row.sha256 for row in box.queries.artifacts_of(1, 2)] == [item.sha256]
    found = box.queries.artifact(item.sha256)
    assert found is not None
    assert (found.size_bytes, found.media_type, found.state) == (5, "video/mp4", "present")
    box.close()


def test_an_artifact_of_two_sizes_is_our_own_bug(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    item = artifact(b"video")
    lying = type(item)(item.sha256, 6, item.media_type, item.name, item.name_hex)
    box.journal.append_blocking([(draft(artifacts=[item]), instant())])
    with pytest.raises(ProtocolMisuse, match="has 5 bytes, a record says 6"):
        box.journal.append_blocking([(draft(artifacts=[lying]), instant())])
    assert box.queries.next_seq() == 1
    box.close()


def test_an_alarm_goes_first(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    item = put(box.spool(), b"video")
    box.journal.append_blocking([(draft(artifacts=[item]), instant()), (draft("alarm"), instant())])
    asyncio.run(box.seal())
    assert [(due.kind, due.ref, due.priority) for due in box.outbox.due(9)] == [("alarm", "1", 0), ("batch", "1", 1)]
    asyncio.run(box.outbox.done(box.outbox.due(9)[1].id))
    assert [(due.kind, due.ref, due.priority) for due in box.outbox.due(9)] == [
        ("alarm", "1", 0),
        ("artifact", item.sha256, 2),
    ]
    box.close()


def test_a_leaf_above_the_limit_is_our_own_bug(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    fits = draft(text="x" * (LEAF_SIZE_MAX_BYTES - 400))
    check_draft(fits, instant())
    assert box.journal.append_blocking([(fits, instant())]) == 0
    with pytest.raises(ProtocolMisuse, match="a leaf of"):
        box.journal.append_blocking([(draft(), instant()), (draft(text="x" * LEAF_SIZE_MAX_BYTES), instant())])
    assert box.queries.next_seq() == 1
    box.close()


def test_the_cache_of_names_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "NAMES_CACHED_MAX", 4)
    box = open_box(tmp_path)
    box.journal.append_blocking([(draft(device=f"d{n}"), instant()) for n in range(20)])
    box.journal.append_blocking([(draft(device=f"d{n}"), instant()) for n in range(20)])
    assert len(box.journal._names._ids) <= 4
    assert [seq for seq, _ in box.queries.records(device="d7")] == [7, 27]
    with box.database.readers() as conn:
        assert one(conn, "SELECT count(*) FROM name") == 21
    box.close()


def test_a_kind_and_a_device_of_one_text_do_not_mix(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    box.journal.append_blocking([(draft(kind="x", device="y"), instant()), (draft(kind="y", device="x"), instant())])
    assert [seq for seq, _ in box.queries.records(kind="x")] == [0]
    assert [seq for seq, _ in box.queries.records(device="x")] == [1]
    box.close()
