"""The queue: order, attempts, quarantine, receipts, stamps."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import IntegrityError, ProtocolMisuse
from gateway.core.ports import Backlog
from tests.buffers.chain import START_NS, Box, artifact, draft, instant, open_box, put, receipt_of


def do(work: Coroutine[Any, Any, Any]) -> Any:
    """Run one call of the store."""
    return asyncio.run(work)


def refs(box: Box, limit: int = 99) -> list[tuple[str, str]]:
    """What is due."""
    return [(item.kind, item.ref) for item in box.outbox.due(limit)]


def item_id(box: Box, kind: str, ref: str) -> int:
    """The id of a waiting item."""
    return next(item.id for item in box.outbox.due(99) if (item.kind, item.ref) == (kind, ref))


def filled(folder: Path, batches: int = 3) -> Box:
    """Batches of two records, one artifact each."""
    box = open_box(folder)
    spool = box.spool()
    for n in range(batches):
        item = put(spool, b"video %d" % n)
        box.journal.append_blocking([(draft(artifacts=[item]), instant()), (draft(), instant())])
        do(box.seal())
    return box


def sha(n: int) -> str:
    """The artifact of batch n + 1."""
    return artifact(b"video %d" % n).sha256


def test_order_and_limit(tmp_path: Path) -> None:
    box = filled(tmp_path)
    box.journal.append_blocking([(draft("alarm"), instant())])
    assert refs(box) == [
        ("alarm", "6"),
        *(("batch", str(n)) for n in (1, 2, 3)),
    ]
    assert refs(box, 2) == [("alarm", "6"), ("batch", "1")]
    assert refs(box, 0) == []
    for number in (1, 2):
        do(box.outbox.done(item_id(box, "batch", str(number))))
    assert [item.ref for item in box.outbox.due(2, "artifact")] == [sha(0), sha(1)]
    assert [item.priority for item in box.outbox.due(5)] == [0, 1, 2, 2]
    box.close()


def test_an_artifact_waits_until_a_batch_that_names_it_was_delivered(tmp_path: Path) -> None:
    box = filled(tmp_path, 2)
    box.journal.append_blocking([(draft(artifacts=[put(box.spool(), b"not sealed")]), instant())])
    delivered: list[str] = []
    for number in (1, 2):
        assert [item.ref for item in box.outbox.due(9, "artifact")] == delivered
        do(box.outbox.done(item_id(box, "batch", str(number))))
        delivered.append(sha(number - 1))
    assert [item.ref for item in box.outbox.due(9, "artifact")] == delivered
    do(box.seal())
    assert [item.ref for item in box.outbox.due(9, "artifact")] == delivered
    do(box.outbox.done(item_id(box, "batch", "3")))
    assert len(box.outbox.due(9, "artifact")) == 3
    do(box.outbox.requeue("batch", "1"))  # the platform was restored from a backup and lacks everything
    assert box.outbox.due(9, "artifact") == []
    box.close()


def test_attempts_and_uploads_survive_a_restart(tmp_path: Path) -> None:
    box = filled(tmp_path, 1)
    number = item_id(box, "batch", "1")
    do(box.outbox.set_upload(number, "https://platform/v1/uploads/7"))
    do(box.outbox.count_attempt(number, "x" * 1000))
    do(box.outbox.count_attempt(number, "connection reset"))
    box.close()
    box = open_box(tmp_path)
    item = box.outbox.due(1)[0]
    assert (item.attempts, item.upload_url) == (2, "https://platform/v1/uploads/7")
    do(box.outbox.set_upload(number, None))
    assert box.outbox.due(1)[0].upload_url is None
    box.close()


def test_done_is_idempotent_and_ids_are_never_used_again(tmp_path: Path) -> None:
    box = filled(tmp_path, 2)
    number = item_id(box, "batch", "1")
    do(box.outbox.done(number))
    do(box.outbox.done(number))
    assert ("batch", "1") not in refs(box)
    last = item_id(box, "batch", "2")
    do(box.outbox.done(last))
    box.journal.append_blocking([(draft("alarm"), instant())])
    assert box.outbox.due(1)[0].id > last
    box.close()


def test_behind_a_refused_batch_the_batches_wait_and_nothing_else(tmp_path: Path) -> None:
    box = filled(tmp_path)
    do(box.outbox.quarantine(item_id(box, "batch", "2"), "422: records do not match"))
    assert refs(box) == [("batch", "1")]
    do(box.outbox.done(item_id(box, "batch", "1")))
    assert refs(box) == [("artifact", sha(0))]
    do(box.outbox.requeue("batch", "1"))
    assert box.outbox.due(9, "batch")[0].ref == "1"
    row = box.queries.batch(2)
    assert row is not None
    assert row.quarantined == "422: records do not match"
    assert box.outbox.backlog().quarantined == 1
    assert do(box.outbox.release_quarantined()) == 1
    assert [item.ref for item in box.outbox.due(9, "batch")] == ["1", "2", "3"]
    assert box.outbox.backlog().quarantined == 0
    box.close()


def test_a_requeued_batch_takes_its_old_place(tmp_path: Path) -> None:
    box = filled(tmp_path)
    for n in (1, 2):
        do(box.outbox.done(item_id(box, "batch", str(n))))
    again = do(box.outbox.requeue("batch", "1"))
    assert (again.kind, again.ref, again.attempts) == ("batch", "1", 0)
    assert do(box.outbox.requeue("batch", "1")).id == again.id
    assert [item.ref for item in box.outbox.due(9, "batch")] == ["1", "3"]
    box.close()


def test_requeue_of_each_kind(tmp_path: Path) -> None:
    box = filled(tmp_path, 1)
    box.journal.append_blocking([(draft("alarm"), instant())])
    do(box.outbox.done(item_id(box, "alarm", "2")))
    do(box.outbox.done(item_id(box, "batch", "1")))
    do(box.outbox.done(item_id(box, "artifact", sha(0))))
    assert do(box.outbox.requeue("alarm", "2")).priority == 0
    assert do(box.outbox.requeue("artifact", sha(0))).size_bytes == 7
    assert do(box.outbox.requeue("stamp", "1")) is None
    do(box.outbox.store_stamp(1, b"token"))
    assert do(box.outbox.requeue("stamp", "1")).size_bytes == 5
    for kind, ref in (("alarm", "0"), ("alarm", "77"), ("batch", "9"), ("artifact", "0" * 64)):
        assert do(box.outbox.requeue(kind, ref)) is None
    box.close()


def test_a_receipt_ends_the_waiting_of_what_it_names(tmp_path: Path) -> None:
    box = filled(tmp_path, 2)
    row = box.queries.batch(1)
    assert row is not None
    do(box.receive(row))
    assert refs(box) == [("batch", "2")]
    stored = box.queries.batch(1)
    assert stored is not None
    assert stored.complete
    assert stored.receipt_artifacts == receipt_of(row, [(sha(0), 7)])[2]
    box.close()


def test_a_receipt_never_shrinks(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    spool = box.spool()
    box.journal.append_blocking([(draft(artifacts=[put(spool, b"1"), put(spool, b"2")]), instant())])
    row = do(box.seal())
    one, two = artifact(b"1").sha256, artifact(b"2").sha256

    def held() -> bytes | None:
        stored = box.queries.batch(1)
        assert stored is not None
        return stored.receipt_artifacts

    do(box.receive(row, [(one, 1)]))
    first = held()
    do(box.receive(row, []))
    assert held() == first
    do(box.receive(row, [(two, 1)]))
    assert held() == first, "another list of the same length does not contain the stored one"
    assert refs(box) == [("artifact", two)]
    do(box.receive(row))
    assert refs(box) == []
    stored = box.queries.batch(1)
    assert stored is not None
    assert stored.complete
    do(box.receive(row, [(one, 1)]))
    again = box.queries.batch(1)
    assert again is not None
    assert again.complete
    box.close()


def test_a_receipt_frees_only_what_the_batch_names_with_its_size(tmp_path: Path) -> None:
    box = filled(tmp_path, 2)
    row = box.queries.batch(1)
    assert row is not None
    do(box.receive(row, [(sha(0), 8), (sha(1), 7)][:1]))
    assert ("artifact", sha(0)) in refs(box)
    do(box.outbox.store_receipt(2, *receipt_of(row, [(sha(0), 7)]), False))
    assert ("artifact", sha(0)) in refs(box)
    box.close()


def test_wrong_receipts(tmp_path: Path) -> None:
    box = filled(tmp_path, 1)
    with pytest.raises(IntegrityError, match="never sealed"):
        do(box.outbox.store_receipt(9, b"", b"", b"", True))
    with pytest.raises(ProtocolMisuse, match="only verified receipts"):
        do(box.outbox.store_receipt(1, b"", b"", b"rubbish", True))
    box.close()


def test_a_receipt_takes_a_refused_batch_out_of_quarantine(tmp_path: Path) -> None:
    box = filled(tmp_path, 2)
    row = box.queries.batch(1)
    assert row is not None
    do(box.outbox.quarantine(item_id(box, "batch", "1"), "refused"))
    do(box.receive(row))
    assert box.outbox.due(1)[0].ref == "2"
    box.close()


def test_stamps(tmp_path: Path) -> None:
    box = filled(tmp_path)
    assert [row.n for row in box.outbox.unstamped(2)] == [1, 2]
    do(box.outbox.store_stamp(1, b"token 1"))
    assert ("stamp", "1") not in refs(box), "the batch has not gone yet, the token goes with it"
    do(box.outbox.done(item_id(box, "batch", "2")))
    do(box.outbox.store_stamp(2, b"token 2"))
    assert refs(box)[:3] == [("batch", "1"), ("batch", "3"), ("stamp", "2")]
    do(box.outbox.set_upload(item_id(box, "batch", "3"), "https://platform/v1/uploads/7"))
    do(box.outbox.store_stamp(3, b"token 3"))
    assert ("stamp", "3") in refs(box), "the upload may have begun without the token"
    do(box.outbox.store_stamp(3, b"another"))
    row = box.queries.batch(3)
    assert row is not None
    assert row.tsr == b"token 3"
    assert box.outbox.unstamped(9) == []
    box.close()


def test_backlog(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    assert box.outbox.backlog() == Backlog(0, 0, None, 0, 0)
    box.close()
    box = filled(tmp_path, 2)
    size_bytes = 14 + sum(row.records_bytes for row in box.queries.batches(0, 9))
    assert box.outbox.backlog() == Backlog(4, size_bytes, START_NS, 0, 2)
    box.close()
