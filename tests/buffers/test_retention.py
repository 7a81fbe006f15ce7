"""Expiry: only what a stored receipt names, in an order that a crash cannot turn into a loss."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buffers.connection import one
from buffers.db import Space
from buffers.retention import Retention, Swept
from buffers.spool import Spool
from gateway.core.errors import IntegrityError
from gateway.core.ports import BatchRow
from gateway.core.record import Artifact, parse_leaf
from gateway.ledger.merkle import inclusion_path, leaf_hash, verify_inclusion
from tests.buffers.chain import Box, artifact, draft, instant, open_box, put


class CutError(Exception):
    """The process dies here."""


def retention_of(box: Box, spool: Spool, **days: int) -> Retention:
    """Artifacts after 30 days (1 under pressure), records after 365, unless told otherwise."""
    return Retention(box.database, spool, box, **days)


def state_of(box: Box, sha256: str) -> str:
    """The state of an artifact."""
    row = box.queries.artifact(sha256)
    assert row is not None
    return row.state


def with_file(box: Box, spool: Spool, content: bytes) -> tuple[BatchRow, Artifact]:
    """One sealed record with one artifact."""
    item = put(spool, content)
    box.journal.append_blocking([(draft(artifacts=[item]), instant(box.utc_ns))])
    return asyncio.run(box.seal()), item


def test_a_receipted_artifact_goes_when_it_is_old_enough(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    spool = box.spool()
    retention = retention_of(box, spool)
    row, item = with_file(box, spool, b"video")
    box.days(400)
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept()
    asyncio.run(box.receive(row, []))
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept()
    asyncio.run(box.receive(row))
    box.utc_ns -= 371 * 86_400 * 10**9
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept()
    box.days(2)
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept(1, 5)
    assert not spool.path(item.sha256).exists()
    assert state_of(box, item.sha256) == "expired"
    assert spool.used_bytes == 0
    record = parse_leaf(next(box.queries.leaves(1, 2)))
    assert record.kind == "retention.expire"
    assert record.data == {"artifacts": [item.sha256], "nonces": ["a" * 32]}
    assert list(box.memory.items("retention")) == []
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept()
    box.close()


def test_under_pressure_the_oldest_go_early_and_no_more_than_needed(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    spool = box.spool(quota_bytes=100, high_water_percent=80)
    retention = retention_of(box, spool)
    rows = []
    for n in range(4):
        box.utc_ns += 10**9
        rows.append(with_file(box, spool, b"%d" % n * 20))
    box.days(2)
    for row, _ in rows[1:]:
        asyncio.run(box.receive(row))
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept()
    spool._quota_bytes = 90
    assert asyncio.run(retention.sweep(box.utc_ns)).artifacts == 1
    assert [state_of(box, item.sha256) for _, item in rows] == ["present", "expired", "present", "present"]
    spool._quota_bytes = 1
    assert asyncio.run(retention.sweep(box.utc_ns)).artifacts == 2
    assert [state_of(box, item.sha256) for _, item in rows] == ["present", "expired", "expired", "expired"]
    box.close()


def test_pressure_of_the_disk_counts_like_that_of_the_quota(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    space = [Space(1000, 500)]
    spool = box.spool(high_water_percent=90, space=lambda _: space[0])
    for n in range(4):
        box.utc_ns += 10**9
        asyncio.run(box.receive(with_file(box, spool, b"%d" % n * 20)[0]))
    box.days(2)
    space[0] = Space(1000, 70)
    assert spool.surplus_bytes() == 30
    assert len(retention_of(box, spool)._due_artifacts(box.utc_ns)) == 2
    space[0] = Space(1000, 100)
    assert retention_of(box, spool)._due_artifacts(box.utc_ns) == []
    box.close()


def test_a_damaged_artifact_that_the_platform_holds_expires_too(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    spool = box.spool()
    row, item = with_file(box, spool, b"video")
    asyncio.run(box.receive(row))
    box.database.call(lambda conn: conn.execute("UPDATE artifact SET state = 'damaged'"))
    box.days(31)
    assert asyncio.run(retention_of(box, spool).sweep(box.utc_ns)).artifacts == 1
    assert state_of(box, item.sha256) == "expired"
    box.close()


def test_an_expired_artifact_that_comes_again_is_here_again(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    spool = box.spool()
    row, item = with_file(box, spool, b"video")
    asyncio.run(box.receive(row))
    box.days(31)
    asyncio.run(retention_of(box, spool).sweep(box.utc_ns))
    again, _ = with_file(box, spool, b"video")
    assert state_of(box, item.sha256) == "present"
    assert spool.path(item.sha256).read_bytes() == b"video"
    assert again.artifact_count == 1
    assert [due.kind for due in box.outbox.due(9)] == ["batch"], "the platform holds it already"
    assert asyncio.run(retention_of(box, spool).sweep(box.utc_ns)) == Swept(), "its age counts anew"
    box.close()


@pytest.mark.parametrize("step", ["before unlink", "between unlinks", "before the state"])
def test_a_crash_between_the_steps_is_finished_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    box = open_box(tmp_path)
    spool = box.spool()
    items = []
    for n in range(3):
        row, item = with_file(box, spool, b"video %d" % n)
        asyncio.run(box.receive(row))
        items.append(item)
    box.days(31)
    left = {"before unlink": 0, "between unlinks": 1, "before the state": 3}[step]
    real = spool.remove

    def cut(sha256: str, size_bytes: int) -> None:
        nonlocal left
        if left == 0:
            raise CutError
        left -= 1
        real(sha256, size_bytes)

    async def cut_submit(*_: Any, **__: Any) -> None:
        raise CutError

    retention = retention_of(box, spool)
    with monkeypatch.context() as patched:
        patched.setattr(spool, "remove", cut)
        if step == "before the state":
            patched.setattr(retention._database, "submit", cut_submit)
            patched.setattr(box, "append", _blocking_append(box))
        with pytest.raises(CutError):
            asyncio.run(retention.sweep(box.utc_ns))
    assert box.queries.next_seq() == 4, "the record of the expiry is there"
    utc_ns = box.utc_ns
    box.close()
    box = open_box(tmp_path)
    spool = box.spool()
    assert asyncio.run(retention_of(box, spool).finish()) == Swept(3, 21)
    assert [state_of(box, item.sha256) for item in items] == ["expired"] * 3
    assert list(spool.files()) == []
    assert asyncio.run(retention_of(box, spool).finish()) == Swept()
    assert asyncio.run(retention_of(box, spool).sweep(utc_ns)) == Swept()
    assert box.queries.next_seq() == 4, "and only once"
    assert box.spool().used_bytes == 0
    box.close()


def _blocking_append(box: Box) -> Any:
    async def append(drafts: Any, state: Any = ()) -> int:
        return box.journal.append_blocking([(item, instant(box.utc_ns)) for item in drafts], list(state))

    return append


def test_a_receipt_that_does_not_name_it_stops_everything(tmp_path: Path) -> None:
    """held_n changed behind our back: the stored receipt itself is read before anything goes."""
    box = open_box(tmp_path)
    spool = box.spool()
    row, item = with_file(box, spool, b"video")
    asyncio.run(box.receive(row, []))
    box.database.call(lambda conn: conn.execute("UPDATE artifact SET held_n = 1"))
    box.days(31)
    with pytest.raises(IntegrityError, match="the receipt of batch 1 does not name it"):
        asyncio.run(retention_of(box, spool).sweep(box.utc_ns))
    box.database.call(lambda conn: conn.execute("UPDATE batch SET receipt_txt = NULL"))
    with pytest.raises(IntegrityError, match="there is no receipt"):
        asyncio.run(retention_of(box, spool).sweep(box.utc_ns))
    box.database.call(lambda conn: conn.execute("UPDATE batch SET receipt_txt = x'00'"))
    with pytest.raises(IntegrityError, match="stored receipt of batch 1"):
        asyncio.run(retention_of(box, spool).sweep(box.utc_ns))
    assert spool.path(item.sha256).exists()
    box.close()


def with_records(box: Box, *sizes: int) -> list[BatchRow]:
    """Sealed batches of so many records."""
    found = []
    for size in sizes:
        box.journal.append_blocking([(draft(n=n), instant(box.utc_ns)) for n in range(size)])
        found.append(asyncio.run(box.seal()))
    return found


def provable(box: Box, seq: int) -> bool:
    """Whether the record is proved against the tail."""
    tail = box.queries.tail()
    leaf = box.queries.leaf(seq)
    assert leaf is not None
    path = inclusion_path(seq, tail.size, box.queries.node)
    return verify_inclusion(leaf_hash(leaf), seq, tail.size, path, tail.root)


def test_old_records_go_in_whole_subtrees_and_the_rest_stays_provable(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    retention = retention_of(box, box.spool())
    rows = with_records(box, 1000, 1500, 700)
    box.days(366)
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept()
    asyncio.run(box.receive(rows[1]))
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept(), "not before the older one"
    asyncio.run(box.receive(rows[0]))
    assert asyncio.run(retention.sweep(box.utc_ns)) == Swept(records=2500 // 256 * 256)
    bound = 2304
    assert box.queries.leaf(bound - 1) is None
    assert all(provable(box, seq) for seq in (bound, bound + 1, 2499, 2500, 3199))
    for first, end in ((0, 10), (2000, 2400), (bound - 1, bound)):
        with pytest.raises(KeyError, match="records below 2304 have expired"):
            list(box.queries.leaves(first, end))
    with pytest.raises(KeyError, match="have expired"):
        box.queries.node(0, 5)
    assert len(list(box.queries.leaves(bound, 3200))) == 3200 - bound
    assert box.queries.records(limit=1)[0][0] == bound
    record = parse_leaf(box.queries.leaf(3200) or b"")
    assert record.data == {"first": 0, "end": bound, "nonce": "a" * 32}
    box.close()
    box = open_box(tmp_path)
    assert asyncio.run(box.seal()).n == 4
    with_records(box, 2000)
    assert provable(box, bound)
    box.close()
    open_box(tmp_path).close()


def test_records_go_only_up_to_the_first_batch_that_is_not_receipted(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    rows = with_records(box, 600, 300, 300, 10)
    for row in (rows[0], rows[2]):
        asyncio.run(box.receive(row))
    box.days(400)
    assert asyncio.run(retention_of(box, box.spool()).sweep(box.utc_ns)) == Swept(records=512)
    assert box.queries.leaf(512) is not None
    box.close()


def test_two_artifacts_of_one_batch_go_together(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    spool = box.spool()
    items = [put(spool, content) for content in (b"one", b"three")]
    box.journal.append_blocking([(draft(artifacts=items), instant(box.utc_ns))])
    asyncio.run(box.receive(asyncio.run(box.seal())))
    box.days(40)
    assert asyncio.run(retention_of(box, spool).sweep(box.utc_ns)) == Swept(2, 8)
    assert [*spool.files()] == []
    box.close()


def test_the_newest_batch_never_goes(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    rows = with_records(box, 1000)
    asyncio.run(box.receive(rows[0]))
    box.days(400)
    assert asyncio.run(retention_of(box, box.spool()).sweep(box.utc_ns)) == Swept()
    box.close()


def test_records_stay_while_an_artifact_of_theirs_is_here(tmp_path: Path) -> None:
    box = open_box(tmp_path)
    spool = box.spool()
    rows = with_records(box, 300)
    row, item = with_file(box, spool, b"video")
    rows += [row, *with_records(box, 600, 10)]
    for sealed in rows:
        asyncio.run(box.receive(sealed))
    box.days(400)
    keep = retention_of(box, spool, artifact_days=1000, artifact_days_when_full=1000)
    assert asyncio.run(keep.sweep(box.utc_ns)) == Swept(records=256)
    assert asyncio.run(retention_of(box, spool).sweep(box.utc_ns)) == Swept(1, 5, 768 - 256)
    assert [row.sha256 for row in box.queries.artifacts_of(0, 10**6)] == []
    assert state_of(box, item.sha256) == "expired"
    box.close()


def test_a_crash_while_records_go_is_finished_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffers.retention.RECORDS_PER_COMMIT", 100)
    box = open_box(tmp_path)
    rows = with_records(box, 1100, 10)
    asyncio.run(box.receive(rows[0]))
    box.days(366)
    retention = retention_of(box, box.spool())
    real, left = box.database.submit, 5

    async def cut(run: Any, **options: Any) -> Any:
        nonlocal left
        if left == 0:
            raise CutError
        left -= 1
        return await real(run, **options)

    with monkeypatch.context() as patched:
        patched.setattr(box.database, "submit", cut)
        with pytest.raises(CutError):
            asyncio.run(retention.sweep(box.utc_ns))
    box.close()
    box = open_box(tmp_path)
    with pytest.raises(KeyError, match="below 1024"):
        list(box.queries.leaves(0, 10))
    swept = asyncio.run(retention_of(box, box.spool()).finish())
    assert 0 < swept.records < 1024
    with box.database.readers() as conn:
        assert one(conn, "SELECT min(seq) FROM record") == 1024
    assert provable(box, 1024)
    box.close()


class Store(RuleBasedStateMachine):
    """Whatever happens in whatever order: what no stored receipt names is here, whole, after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.contents: dict[str, bytes] = {}
        self.named: set[str] = set()
        self.leaves: list[bytes] = []
        self.complete: list[BatchRow] = []
        self.rows: list[BatchRow] = []
        self.open()

    def open(self, utc_ns: int | None = None) -> None:
        """Start: the same code every time."""
        self.box = open_box(self.folder)
        if utc_ns is not None:
            self.box.utc_ns = utc_ns
        self.spool = self.box.spool(quota_bytes=60, high_water_percent=80)
        self.retention = retention_of(self.box, self.spool, record_days=40)
        asyncio.run(self.retention.finish())
        self.learn()

    def learn(self) -> None:
        """Leaves that are new."""
        end = self.box.queries.next_seq()
        assert end >= len(self.leaves), "an acknowledged record is gone"
        self.leaves += list(self.box.queries.leaves(len(self.leaves), end))

    @initialize()
    def begin(self) -> None:
        """Some history, so that subtrees exist."""
        with_records(self.box, 300)
        self.learn()
        self.rows = self.box.queries.batches(0, 1000)

    @rule(numbers=st.lists(st.integers(0, 12), max_size=3), records=st.integers(1, 200))
    def append(self, numbers: list[int], records: int) -> None:
        """Files arrive, new and known ones, with or without room."""
        items = []
        for number in numbers:
            content = b"%d" % number * 7
            if self.spool.above_high_water(len(content)) is None:
                items.append(put(self.spool, content))
                self.contents[items[-1].sha256] = content
        drafts = [draft("station.file", artifacts=items), *(draft(n=n) for n in range(records))]
        self.box.journal.append_blocking([(item, instant(self.box.utc_ns)) for item in drafts])
        self.learn()

    @rule()
    def seal(self) -> None:
        """A batch closes."""
        if self.box.seals.pending().next_seq > self.box.seals.tail().size:
            self.rows.append(asyncio.run(self.box.seal()))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        """A receipt for some batch, naming some or all of its artifacts."""
        row = data.draw(st.sampled_from(self.rows))
        ours = [(item.sha256, item.size_bytes) for item in self.box.seals.artifacts_of(row.first, row.end)]
        held = ours if data.draw(st.booleans()) else [item for item in ours if data.draw(st.booleans())]
        try:
            asyncio.run(self.box.receive(row, held))
        finally:
            stored = self.box.queries.batch(row.n)
            assert stored is not None
            self.named |= {line.split()[0].decode() for line in (stored.receipt_artifacts or b"").splitlines()}
            if stored.complete:
                self.complete.append(row)

    @rule(days=st.sampled_from([1, 20, 45]), after_unlinks=st.sampled_from([None, 0, 1, 2]))
    def sweep(self, days: int, after_unlinks: int | None) -> None:
        """Time passes, retention runs; sometimes the process dies in the middle and starts again."""
        self.box.days(days)
        spool, left = self.spool, after_unlinks
        real = spool.remove

        def cut(sha256: str, size_bytes: int) -> None:
            nonlocal left
            if left == 0:
                raise CutError
            left = None if left is None else left - 1
            real(sha256, size_bytes)

        spool.remove = cut  # type: ignore[method-assign]
        try:
            asyncio.run(self.retention.sweep(self.box.utc_ns))
        except CutError:
            self.restart()
        spool.remove = real  # type: ignore[method-assign]
        self.learn()

    @rule()
    def restart(self) -> None:
        """Stop and start."""
        self.box.close()
        self.open(self.box.utc_ns)

    @invariant()
    def what_nobody_holds_is_here(self) -> None:
        """Artifacts without a receipt, whole; expired ones are named by one; the books balance."""
        for sha256, content in self.contents.items():
            state = state_of(self.box, sha256)
            if state == "expired":
                assert sha256 in self.named
                assert not self.spool.path(sha256).exists()
            else:
                assert self.spool.path(sha256).read_bytes() == content
                assert hashlib.sha256(content).hexdigest() == sha256
        assert self.spool.used_bytes == sum(size for _, size in self.spool.files())

    @invariant()
    def records_are_here_or_receipted(self) -> None:
        """Every leaf is what it was, or lies below the bound and in batches with complete receipts."""
        with self.box.database.readers() as conn:
            bound = int(one(conn, "SELECT value FROM meta WHERE key = 'records_expired_below'") or 0)
        assert list(self.box.queries.leaves(bound, len(self.leaves))) == self.leaves[bound:]
        covered = 0
        for row in sorted(self.complete, key=lambda row: row.n):
            covered = row.end if row.first <= covered else covered
        assert bound <= covered
        assert bound % 256 == 0
        size = self.box.queries.tail().size
        if bound < size:
            assert provable(self.box, bound)
            assert provable(self.box, size - 1)

    def teardown(self) -> None:
        """Close and clean."""
        self.box.close()
        shutil.rmtree(self.folder)


Store.TestCase.settings = settings(max_examples=12, stateful_step_count=18)
TestStore = Store.TestCase


def test_artifact_of_the_builder() -> None:
    assert artifact(b"video").sha256 == hashlib.sha256(b"video").hexdigest()
