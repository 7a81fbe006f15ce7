"""Sealing: what is pending, compare-and-swap, subtree hashes for proofs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from buffers import seals
from gateway.core import kinds
from gateway.core.errors import IntegrityError
from gateway.core.ports import Pending, Tail
from gateway.core.record import parse_leaf
from gateway.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    inclusion_path,
    leaf_hash,
    verify_inclusion,
)
from tests.buffers.chain import START_NS, Box, draft, instant, new_batch, open_box, put

SECOND_NS = 10**9


def test_an_empty_log(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    assert box.seals.tail() == Tail(0, EMPTY_ROOT, ())
    assert box.seals.pending() == Pending(0, None, None, urgent=False)
    assert box.seals.next_batch() == 1
    assert list(box.seals.leaves(0, 0)) == []
    assert box.seals.newest(kinds.BEACON, 0) is None
    box.close()


def append(box: Box, kind: str, at_s: int, count: int = 1) -> None:
    """Records of a kind, a second apart."""
    box.journal.append_blocking([(draft(kind), instant(START_NS + (at_s + n) * SECOND_NS)) for n in range(count)])


def test_what_is_pending(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    append(box, kinds.CLOCK_STATE, 0)
    append(box, kinds.BEACON, 1)
    pending = box.seals.pending()
    assert (pending.next_seq, pending.oldest_evidence_utc_ns, pending.oldest_utc_ns) == (2, None, START_NS)
    append(box, "position", 2)
    append(box, "position", 3)
    pending = box.seals.pending()
    assert pending.oldest_evidence_utc_ns == START_NS + 2 * SECOND_NS
    assert pending.size_bytes == sum(len(leaf) for leaf in box.queries.leaves(0, 4))
    assert not pending.urgent
    append(box, kinds.ALARM, 4)
    assert box.seals.pending().urgent
    asyncio.run(box.seal(4))
    assert box.seals.pending().urgent
    asyncio.run(box.seal())
    assert box.seals.pending() == Pending(5, None, None, urgent=False)
    append(box, "position", 5)
    assert box.seals.pending().oldest_utc_ns == START_NS + 5 * SECOND_NS
    box.close()


@pytest.mark.parametrize("place", [0, 1, 1023, 1024, 1500, 2047, 2048, 2499])
def test_urgency_is_seen_wherever_the_record_lies(tmp_path: Path, place: int) -> None:
    box = open_box(tmp_path)
    rows = [(draft(kinds.ALARM if n == place else "position"), instant()) for n in range(2500)]
    box.journal.append_blocking(rows)
    assert box.seals.pending().urgent
    asyncio.run(box.seal(place)) if place else None
    assert box.seals.pending().urgent
    asyncio.run(box.seal(place + 1))
    assert not box.seals.pending().urgent
    box.close()


def test_only_so_many_records_are_weighed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "COUNTED_MAX", 3)
    box = open_box(tmp_path)
    append(box, "position", 0, 10)
    assert box.seals.pending().size_bytes == sum(len(leaf) for leaf in box.queries.leaves(0, 3))
    box.close()


def test_the_newest_record_of_a_kind(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    at = {0, 700, 1023, 1024, 3000, 3100, 5000}
    box.journal.append_blocking([(draft("beacon" if n in at else "position"), instant()) for n in range(5100)])
    for below in (0, 1, 2, 700, 701, 1023, 1024, 1025, 1026, 2999, 3001, 3101, 5000, 5001, 5100, 10**9):
        assert box.seals.newest("beacon", below) == max((seq for seq in at if seq < below), default=None)
    assert box.seals.newest("clock.state", 5100) is None
    box.journal.append_blocking([(draft("clock.state"), instant())])
    assert box.seals.newest("clock.state", 5101) == 5100
    assert box.seals.newest("clock.state", 5100) is None, "the only one is above, in a block that is not complete"
    box.close()


def test_a_batch_is_stored_whole_and_queued(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    item = put(box.spool(), b"video")
    box.journal.append_blocking([(draft(artifacts=[item]), instant()), (draft(), instant())])
    with box.database.readers() as conn:
        batch = new_batch(conn)
    asyncio.run(box.seals.commit_seal(batch))
    assert box.queries.batch(1) == batch.row
    assert box.seals.tail() == batch.tail_after
    assert box.seals.next_batch() == 2
    assert [(due.kind, due.ref, due.size_bytes) for due in box.outbox.due(1)] == [
        ("batch", "1", batch.row.records_bytes)
    ]
    box.close()
    box = open_box(tmp_path)
    assert box.queries.batch(1) == batch.row
    box.close()


def test_only_one_sealer_wins(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    append(box, "position", 0, 2)
    with box.database.readers() as conn:
        batch = new_batch(conn)
    asyncio.run(box.seals.commit_seal(batch))
    append(box, "position", 2)
    with pytest.raises(IntegrityError, match="two sealers"):
        asyncio.run(box.seals.commit_seal(batch))
    assert box.seals.tail() == batch.tail_after
    box.close()


def test_a_batch_must_continue_the_log(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    append(box, "position", 0, 2)
    with box.database.readers() as conn:
        batch = new_batch(conn)
    for change in ({"n": 2}, {"first": 1}, {"prev_root": b"x" * 32}, {"root": b"x" * 32}, {"prev_frontier": (b"",)}):
        with pytest.raises(IntegrityError, match="does not continue"):
            asyncio.run(box.seals.commit_seal(replace(batch, row=replace(batch.row, **change))))
    too_far = replace(batch, row=replace(batch.row, end=3), tail_after=replace(batch.tail_after, size=3))
    with pytest.raises(IntegrityError, match="ends at 3, the journal at 2"):
        asyncio.run(box.seals.commit_seal(too_far))
    assert box.outbox.due(9) == []
    box.close()


@pytest.mark.parametrize("ends", [[1], [255, 256, 257], [600, 1300], [65_536 + 300]])
def test_stored_subtrees_prove_every_record(tmp_path: Path, ends: list[int]) -> None:
    box = open_box(tmp_path)
    box.journal.append_blocking([(draft(n=n), instant()) for n in range(ends[-1])])
    for end in ends:
        asyncio.run(box.seal(end))
    tail = box.seals.tail()
    for seq in sorted({0, 1, 254, 255, 256, 511, 512, ends[-1] // 2, ends[-1] - 1} & set(range(ends[-1]))):
        leaf = box.queries.leaf(seq)
        assert leaf is not None
        assert parse_leaf(leaf).seq == seq
        path = inclusion_path(seq, tail.size, box.queries.node)
        assert verify_inclusion(leaf_hash(leaf), seq, tail.size, path, tail.root)
    box.close()


def test_nodes_outside_the_sealed_log_are_unknown(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    append(box, "position", 0, 5)
    asyncio.run(box.seal(4))
    expected = Frontier()
    for leaf in box.queries.leaves(0, 4):
        expected.append(leaf_hash(leaf))
    assert box.queries.node(2, 0) == expected.root()
    for level, index in ((0, 4), (1, 2), (3, 0), (-1, 0), (0, -1)):
        with pytest.raises(KeyError, match="no sealed subtree"):
            box.queries.node(level, index)
    box.close()


def test_a_lost_subtree_is_named(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    append(box, "position", 0, 512)
    asyncio.run(box.seal())
    box.database.call(lambda conn: conn.execute("DELETE FROM subtree WHERE idx = 1"))
    with pytest.raises(IntegrityError, match="subtree hashes 0 to 1 of level 8"):
        box.queries.node(9, 0)
    box.close()


def test_a_hole_is_met_before_it_is_signed(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    append(box, "position", 0, 10)
    box.database.call(lambda conn: conn.execute("DELETE FROM record WHERE seq = 4"))
    with pytest.raises(IntegrityError, match="of records 0 to 9 only 9"):
        list(box.seals.leaves(0, 10))
    box.close()
