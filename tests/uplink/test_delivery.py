"""The delivery queue: events and expected commands, and a model platform under random failures and restarts."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import ForkError, UplinkRejected
from gateway.core.ports import OutboxItem
from uplink import delivery as d
from uplink.delivery import BatchWork, Delivery, Failure, Work

PRIORITIES = {"alarm": 0, "batch": 1, "stamp": 1, "artifact": 2}


def item(kind: str, ref: object, size: int = 10, url: str | None = None) -> OutboxItem:
    return OutboxItem(hash((kind, str(ref))), kind, str(ref), PRIORITIES[kind], size, 0, url)  # type: ignore[arg-type]


def batch(n: int, *, stamped: bool = True, age_s: float = 0.0) -> BatchWork:
    return BatchWork(item("batch", n), n, (n - 1) * 10, n * 10, stamped, age_s)


def started(size: int = 0, now_s: float = 0.0, grace_s: float = 10) -> Delivery:
    it = Delivery(retry_min_s=1, retry_max_s=300, stamp_grace_s=grace_s)
    it.released(now_s)
    it.checkpoint_is(size, now_s)
    it.requests_read(now_s)
    return it


LINK, LANE, ITEM = Failure("link", "down"), Failure("lane", "no room"), Failure("item", "locked")
ALARM, STAMP, VIDEO = item("alarm", 1), item("stamp", 1), item("artifact", "aa", 100 << 20)
ALL = Work([ALARM], batch(1), [STAMP], [VIDEO])


def test_it_begins_by_releasing_quarantine_and_asking_for_the_checkpoint() -> None:
    it = Delivery(retry_min_s=1, retry_max_s=300, stamp_grace_s=10)
    assert it.next(0, ALL) == d.ReleaseQuarantined()
    it.released(0)
    assert it.next(0, ALL) == d.AskCheckpoint()
    it.checkpoint_is(0, 0)
    assert it.next(0, Work()) == d.AskRequests()


def test_alarms_before_batches_before_stamps_before_artifacts() -> None:
    it = started()
    assert it.next(1, ALL) == d.SendAlarm(ALARM)
    assert it.next(1, Work((), batch(1), [STAMP], [VIDEO])) == d.OpenContent(batch(1).item)
    assert it.next(1, Work((), None, [STAMP], [VIDEO])) == d.PutStamp(STAMP)
    assert it.next(1, Work((), None, (), [VIDEO])) == d.OpenContent(VIDEO)


def test_a_batch_goes_between_two_chunks_of_a_video_and_the_video_goes_on_where_it_was() -> None:
    it, only_video = started(), Work((), None, (), [VIDEO])
    it.opened(VIDEO, 100 << 20, "aa")
    assert it.next(1, only_video) == d.CreateUpload(VIDEO, 100 << 20, "aa")
    it.created(VIDEO, "v", 0)
    assert it.next(1, only_video) == d.SendChunk(VIDEO, "v", 0, 1 << 20)
    it.patched(VIDEO, 1 << 20, 1.0)
    both = Work((), batch(1), (), [VIDEO])
    assert it.next(1, both) == d.OpenContent(batch(1).item)
    it.opened(batch(1).item, 50, "bb")
    it.created(batch(1).item, "b", 0)
    assert it.next(1, both) == d.SendChunk(batch(1).item, "b", 0, 50)
    it.patched(batch(1).item, 50, 0.1)
    assert it.next(1, both) == d.Commit(batch(1).item, "b")
    it.acked(batch(1).item, 10)
    assert it.next(1, only_video) == d.SendChunk(VIDEO, "v", 1 << 20, 1 << 20)


def test_after_any_failure_of_a_chunk_the_offset_is_asked_for() -> None:
    for failure in (LINK, LANE, ITEM):
        it, work = started(), Work((), None, (), [VIDEO])
        it.opened(VIDEO, 100 << 20, "aa")
        it.created(VIDEO, "v", 0)
        it.failed(VIDEO, failure, 1.0, 1.0)
        it.checkpoint_is(0, 3.0)
        assert it.next(3.0, work) == d.FindOffset(VIDEO, "v")


def test_while_the_platform_checks_a_video_batches_go_on_and_no_other_video_begins() -> None:
    it, second = started(), item("artifact", "bb")
    it.opened(VIDEO, 5, "aa")
    it.created(VIDEO, "v", 5)
    assert it.next(1, Work((), None, (), [VIDEO])) == d.Commit(VIDEO, "v")
    it.committing(VIDEO)
    assert isinstance(it.next(1, Work((), None, (), [VIDEO, second])), d.Wait)
    assert it.next(1, Work((), batch(1), (), [VIDEO, second])) == d.OpenContent(batch(1).item)
    it.acked(VIDEO)
    assert it.next(1, Work((), None, (), [second])) == d.OpenContent(second)


def test_a_batch_waits_for_its_stamp_but_not_longer_than_the_grace() -> None:
    it = started()
    assert it.next(1, Work((), batch(1, stamped=False, age_s=4))) == d.Wait(2.0)
    assert it.next(1, Work((), batch(1, stamped=True, age_s=4))) == d.OpenContent(batch(1).item)
    assert it.next(1, Work((), batch(1, stamped=False, age_s=10))) == d.OpenContent(batch(1).item)


def test_a_clock_set_back_does_not_hold_a_batch_for_ever() -> None:
    it, work = started(), Work((), batch(1, stamped=False, age_s=-1e9))
    assert isinstance(it.next(1, work), d.Wait)
    assert isinstance(it.next(10.9, work), d.Wait)
    assert it.next(11.0, work) == d.OpenContent(batch(1).item)


def test_artifacts_go_while_a_batch_waits_for_its_stamp() -> None:
    work = Work((), batch(1, stamped=False), (), [VIDEO])
    assert started().next(1, work) == d.OpenContent(VIDEO)


def test_a_dead_link_holds_everything_then_the_checkpoint_is_asked_first() -> None:
    it = started()
    it.failed(ALARM, LINK, 5.0, 1.0)
    assert it.next(5.5, ALL) == d.Wait(6.0)
    assert it.next(6.0, ALL) == d.AskCheckpoint()
    it.failed(None, LINK, 6.0, 1.0)
    assert it.next(7.9, ALL) == d.Wait(8.0)


def test_a_failure_without_an_item_never_becomes_a_busy_loop() -> None:
    it = started()
    it.failed(None, ITEM, 5.0, 1.0)
    assert it.next(5.0, ALL) == d.Wait(6.0)


def test_an_item_that_breaks_the_link_does_not_hold_up_the_others() -> None:
    it, other = started(), item("artifact", "bb")
    now, tried = 1.0, []
    for _ in range(8):
        command = it.next(now, Work((), None, (), [VIDEO, other]))
        match command:
            case d.OpenContent(bad) if bad is VIDEO:
                tried.append(now)
                it.failed(VIDEO, LINK, now, 1.0)
            case d.AskCheckpoint():
                it.checkpoint_is(0, now)
            case d.Wait(until):
                now = until
            case d.OpenContent(good):
                assert good is other
                return
    pytest.fail(f"only the bad one was tried, at {tried}")


def test_no_room_for_artifacts_stops_artifacts_only() -> None:
    it, other = started(), item("artifact", "bb")
    it.failed(VIDEO, Failure("lane", "507", 30.0), 1.0, 0.5)
    assert it.next(2, Work((), batch(1), (), [VIDEO, other])) == d.OpenContent(batch(1).item)
    assert isinstance(it.next(2, Work((), None, (), [VIDEO, other])), d.Wait)
    assert it.next(31.0, Work((), None, (), [VIDEO, other])) == d.OpenContent(VIDEO)


def test_a_locked_item_lets_others_of_its_kind_pass() -> None:
    it, other = started(), item("artifact", "bb")
    it.failed(VIDEO, ITEM, 1.0, 1.0)
    assert it.next(1, Work((), None, (), [VIDEO, other])) == d.OpenContent(other)
    assert it.next(2, Work((), None, (), [VIDEO, other])) == d.OpenContent(VIDEO)


def test_no_batch_passes_a_batch_that_waits() -> None:
    it = started()
    it.failed(batch(1).item, ITEM, 1.0, 1.0)
    assert it.next(1, Work((), batch(1))) == d.Wait(2.0)


def test_a_refused_batch_stops_the_line_and_nothing_else() -> None:
    it = started()
    it.quarantined(batch(1).item)
    assert isinstance(it.next(1, Work((), batch(2))), d.Wait)
    assert it.next(1, Work([ALARM], batch(2))) == d.SendAlarm(ALARM)
    assert it.next(1, Work((), batch(2), [STAMP], [VIDEO])) == d.PutStamp(STAMP)
    assert it.next(1, Work((), batch(2), (), [VIDEO])) == d.OpenContent(VIDEO)


def test_a_released_batch_is_tried_and_when_accepted_the_line_goes_on() -> None:
    it = started()
    it.quarantined(batch(1).item)
    assert it.next(1, Work((), batch(1))) == d.OpenContent(batch(1).item)
    it.acked(batch(1).item, 10)
    assert it.next(1, Work((), batch(2))) == d.OpenContent(batch(2).item)


def test_quarantine_is_released_once_a_day() -> None:
    it = started()
    assert not isinstance(it.next(86_399, Work()), d.ReleaseQuarantined)
    assert it.next(86_400, Work()) == d.ReleaseQuarantined()


def test_a_platform_that_was_restored_gets_everything_again() -> None:
    it = started(size=10)
    assert it.next(1, Work((), batch(5))) == d.Rewind(10)
    it.rewound()
    assert it.next(1, Work((), batch(2))) == d.OpenContent(batch(2).item)


def test_a_platform_too_far_behind_stops_the_line_until_it_is_restored() -> None:
    it = started()
    it.checkpoint_is(0, 1.0, stuck=True)
    assert it.next(2, Work((), batch(5), (), [VIDEO])) == d.OpenContent(VIDEO)
    assert it.next(700, Work((), batch(5))) == d.AskCheckpoint()
    it.checkpoint_is(40, 700.0)
    it.requests_read(700)
    assert it.next(701, Work((), batch(5))) == d.OpenContent(batch(5).item)


def test_holds_are_bounded() -> None:
    it = started()
    for number in range(1000):
        it.failed(item("artifact", number), ITEM, 1.0, 1.0)
    assert it.hold_count == d.HOLDS_MAX


# ---------------------------------------------------------------- the checkpoint


def judge(size: int, root: bytes, our_size: int = 30, oldest: int = 0) -> None:
    boundaries = {0: b"0", 10: b"10", 20: b"20", 30: b"30"}
    d.judge_checkpoint(size, root, our_size, oldest, boundaries.get)


@pytest.mark.parametrize("size", [0, 10, 20, 30])
def test_our_own_boundaries_are_no_fork(size: int) -> None:
    judge(size, str(size).encode())


@pytest.mark.parametrize(
    ("size", "root"), [(31, b"30"), (40, b"40"), (10, b"other"), (0, b"other"), (15, b"15"), (30, b"20")]
)
def test_more_than_ours_another_root_or_an_unknown_size_is_a_fork(size: int, root: bytes) -> None:
    with pytest.raises(ForkError, match="FORK"):
        judge(size, root)


def test_a_store_that_is_an_older_copy_is_called_that() -> None:
    with pytest.raises(ForkError, match="the platform holds 31 records of this gateway, this store only 30"):
        judge(31, b"31")


def test_a_platform_behind_what_has_expired_is_no_fork() -> None:
    with pytest.raises(UplinkRejected, match="expired"):
        judge(0, b"0", oldest=10)
    judge(10, b"10", oldest=10)


# ---------------------------------------------------------------- a model platform


class ModelPlatform:
    """Idempotent, with tus uploads; accepts a batch only where its log ends."""

    def __init__(self) -> None:
        self.size = 0
        self.batches: list[int] = []
        self.artifacts: list[str] = []
        self.alarms: set[str] = set()
        self.stamps: set[str] = set()
        self.uploads: dict[str, list[int]] = {}
        self.created = 0


class ModelBox:
    """An outbox that survives restarts, and the runner's part as plain code."""

    def __init__(self, batches: int, videos: int, draw: Callable[[], str]) -> None:
        self.queue = [item("alarm", n) for n in range(2)]
        self.queue += [item("batch", n, 200) for n in range(1, batches + 1)]
        self.queue += [item("stamp", 1)]
        self.queue += [item("artifact", f"v{n}", 3 << 20) for n in range(videos)]
        self.done: list[tuple[str, str]] = []
        self.now = 0.0
        self.draw = draw
        self.platform = ModelPlatform()
        self.restart()

    def restart(self) -> None:
        self.delivery = Delivery(retry_min_s=1, retry_max_s=60, stamp_grace_s=0)

    def work(self) -> Work:
        of = {kind: [i for i in self.queue if i.kind == kind] for kind in PRIORITIES}
        head = batch(int(of["batch"][0].ref)) if of["batch"] else None
        if head is not None:
            head = BatchWork(of["batch"][0], head.n, head.first, head.end, True, 0.0)
        return Work(of["alarm"], head, of["stamp"], of["artifact"])

    def finish(self, it: OutboxItem, end: int | None = None) -> None:
        self.queue = [other for other in self.queue if other.id != it.id]
        self.done.append((it.kind, it.ref))
        self.delivery.acked(it, end)

    def remember(self, it: OutboxItem, url: str | None) -> None:
        self.queue = [item(i.kind, i.ref, i.size_bytes, url) if i.id == it.id else i for i in self.queue]

    def step(self) -> None:
        trouble = self.draw()
        if trouble == "restart":
            self.restart()
            return
        command = self.delivery.next(self.now, self.work())
        self.now += 0.01
        subject = getattr(command, "item", None)
        if trouble == "cut" and not isinstance(command, (d.Wait, d.ReleaseQuarantined, d.OpenContent)):
            self.delivery.failed(subject, LINK, self.now, 0.5)
            return
        if trouble in ("locked", "no room") and isinstance(command, (d.SendAlarm, d.PutStamp, d.CreateUpload)):
            self.delivery.failed(subject, LANE if trouble == "no room" else ITEM, self.now, 0.5)
            return
        lost = trouble == "answer lost"
        self.perform(command, lost)
        if lost and not isinstance(command, (d.Wait, d.ReleaseQuarantined, d.OpenContent)):
            self.delivery.failed(subject, LINK, self.now, 0.5)

    def perform(self, command: d.Command, lost: bool) -> None:
        """The platform does it; with `lost` the answer never arrives."""
        far, near = self.platform, self.delivery
        match command:
            case d.Wait(until):
                self.now = max(self.now, until)
            case d.ReleaseQuarantined():
                near.released(self.now)
            case d.AskCheckpoint():
                if not lost:
                    near.checkpoint_is(far.size, self.now)
            case d.AskRequests():
                if not lost:
                    near.requests_read(self.now)
            case d.SendAlarm(it) | d.PutStamp(it):
                (far.alarms if it.kind == "alarm" else far.stamps).add(it.ref)
                if not lost:
                    self.finish(it)
            case d.OpenContent(it):
                near.opened(it, it.size_bytes, sha256(it.ref.encode()).hexdigest())
            case _:
                self.upload(command, lost)

    def upload(self, command: d.Command, lost: bool) -> None:
        far, near = self.platform, self.delivery
        match command:
            case d.CreateUpload(it, size):
                url = f"u{far.created}"
                far.created += 1
                far.uploads[url] = [0, size]
                if not lost:
                    self.remember(it, url)
                    near.created(it, url, 0)
            case d.FindOffset(it, url):
                if not lost:
                    near.found(it, far.uploads[url][0], far.uploads[url][1], None)
            case d.SendChunk(it, url, offset, size):
                assert offset <= far.uploads[url][0], "a gap in an upload"
                if offset != far.uploads[url][0]:
                    near.lost_place(it)
                    return
                near.handed_out(it, offset, size)
                far.uploads[url][0] = offset + (size // 3 if lost else size)
                if not lost:
                    near.patched(it, far.uploads[url][0], 0.1)
            case d.Commit(it, url):
                assert far.uploads[url][0] == far.uploads[url][1], "an incomplete upload was committed"
                self.commit(it, lost)

    def commit(self, it: OutboxItem, lost: bool) -> None:
        far = self.platform
        if it.kind == "batch":
            n = int(it.ref)
            if n not in far.batches:
                assert far.size == (n - 1) * 10, "a batch out of order"
                far.batches.append(n)
                far.size = n * 10
            if not lost:
                self.finish(it, n * 10)
            return
        if it.ref not in far.artifacts:
            far.artifacts.append(it.ref)
        if not lost:
            self.finish(it)


TROUBLES = st.lists(st.sampled_from(["", "", "cut", "answer lost", "restart", "locked", "no room"]), max_size=120)


@settings(max_examples=120)
@given(TROUBLES, st.integers(0, 4), st.integers(0, 2))
def test_everything_arrives_once_and_in_order_whatever_happens(troubles: list[str], batches: int, videos: int) -> None:
    pending = iter(troubles)
    box = ModelBox(batches, videos, lambda: next(pending, ""))
    for _ in range(1500):
        if not box.queue:
            break
        box.step()
    assert box.queue == []
    assert box.platform.batches == list(range(1, batches + 1))
    assert sorted(box.platform.artifacts) == [f"v{n}" for n in range(videos)]
    assert box.platform.alarms == {"0", "1"}
    assert box.platform.stamps == {"1"}
    assert [ref for kind, ref in box.done if kind == "batch"] == [str(n) for n in range(1, batches + 1)]
    assert len(box.done) == len(set(box.done))
