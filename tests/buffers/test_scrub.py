"""The scrub: finds every damaged file, records it once, repairs nothing, keeps its pace."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from buffers import scrub as scrub_module
from buffers.scrub import Scrub, Scrubbed
from buffers.spool import CHUNK_SIZE_BYTES, Spool
from gateway.core.ports import BatchRow
from gateway.core.record import Artifact
from tests.buffers.chain import Box, draft, instant, open_box, put


def scrub(box: Box, spool: Spool, slept: list[float] | None = None) -> Scrubbed:
    """One pass at 1 MiB/s of a sleep that only counts."""
    asked = [] if slept is None else slept

    async def sleep(delay_s: float) -> None:
        asked.append(delay_s)

    return asyncio.run(Scrub(box.database, spool, box, bytes_per_s=1_048_576).run(sleep))


def filled(folder: Path, count: int = 3) -> tuple[Box, Spool, list[Artifact], list[BatchRow]]:
    """A store with artifacts, a batch each."""
    box = open_box(folder)
    spool = box.spool()
    items, rows = [], []
    for n in range(count):
        items.append(put(spool, bytes([n]) * 300_000))
        box.journal.append_blocking([(draft(artifacts=[items[-1]]), instant())])
        rows.append(asyncio.run(box.seal()))
    return box, spool, items, rows


def spoil(spool: Spool, item: Artifact) -> None:
    """One flipped bit."""
    path = spool.path(item.sha256)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(150_000)
        byte = file.read(1)
        file.seek(150_000)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(0o400)


def test_a_sound_spool_at_a_capped_rate(tmp_path: Path) -> None:
    box, spool, _, _ = filled(tmp_path)
    slept: list[float] = []
    assert scrub(box, spool, slept) == Scrubbed(3, 900_000)
    assert sum(slept) == pytest.approx(900_000 / 1_048_576)
    assert max(slept) == CHUNK_SIZE_BYTES / 1_048_576
    assert box.queries.next_seq() == 3
    box.close()


def test_damage_without_a_receipt_is_an_alarm(tmp_path: Path) -> None:
    box, spool, items, _ = filled(tmp_path)
    spoil(spool, items[1])
    content = spool.path(items[1].sha256).read_bytes()
    assert scrub(box, spool).damaged == [items[1].sha256]
    records = [json.loads(leaf) for leaf in box.queries.leaves(3, 5)]
    assert [record["kind"] for record in records] == ["scrub.damage", "alarm"]
    assert records[0]["data"]["sha256"] == items[1].sha256
    assert len(records[0]["data"]["found_sha256"]) == 64
    assert records[0]["data"]["receipted"] is False
    assert "dock its recorder again" in records[1]["data"]["text"]
    row = box.queries.artifact(items[1].sha256)
    assert row is not None
    assert row.state == "damaged"
    assert spool.path(items[1].sha256).read_bytes() == content, "never written over"
    assert items[1].sha256 not in [item.ref for item in box.outbox.due(99, "artifact")]
    assert box.outbox.backlog().quarantined == 1
    assert asyncio.run(box.outbox.release_quarantined()) == 0
    assert scrub(box, spool).damaged == [], "recorded once"
    waiting = box.outbox.backlog().items
    put(spool, bytes([1]) * 300_000)
    box.journal.append_blocking([(draft(artifacts=[items[1]]), instant())])
    assert box.outbox.backlog().items == waiting + 1
    assert box.outbox.backlog().quarantined == 0
    assert scrub(box, spool) == Scrubbed(3, 900_000)
    box.close()


def test_damage_that_the_platform_can_make_good_is_no_alarm(tmp_path: Path) -> None:
    box, spool, items, rows = filled(tmp_path)
    asyncio.run(box.receive(rows[0]))
    spool.path(items[0].sha256).unlink()
    assert scrub(box, spool).damaged == [items[0].sha256]
    records = [json.loads(leaf) for leaf in box.queries.leaves(3, box.queries.next_seq())]
    assert [record["kind"] for record in records] == ["scrub.damage"]
    assert records[0]["data"]["receipted"] is True
    assert records[0]["data"]["error"] == "No such file or directory"
    box.close()


def test_orphans_are_listed_and_kept(tmp_path: Path) -> None:
    box, spool, _, _ = filled(tmp_path)
    orphan = put(spool, b"renamed, never committed")
    result = scrub(box, spool)
    assert result.orphans == [orphan.sha256]
    assert spool.path(orphan.sha256).exists()
    box.journal.append_blocking([(draft(artifacts=[orphan]), instant())])
    assert scrub(box, spool).orphans == []
    box.close()


def test_the_list_of_orphans_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub_module, "ORPHANS_LISTED_MAX", 2)
    box, spool, _, _ = filled(tmp_path, 1)
    orphans = sorted(put(spool, b"%d" % n).sha256 for n in range(5))
    assert scrub(box, spool).orphans == orphans[:2]
    box.close()


def test_what_expires_meanwhile_is_no_damage(tmp_path: Path) -> None:
    box, spool, items, _ = filled(tmp_path, 1)

    async def sleep(_: float) -> None:
        """Retention runs while the scrub reads."""
        spool.path(items[0].sha256).unlink(missing_ok=True)
        await box.database.submit(lambda conn: conn.execute("UPDATE artifact SET state = 'expired'"))

    spoil(spool, items[0])
    found = asyncio.run(Scrub(box.database, spool, box, bytes_per_s=1).run(sleep))
    assert found.damaged == []
    assert box.queries.next_seq() == 1
    box.close()
