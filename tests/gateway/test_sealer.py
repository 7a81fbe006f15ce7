"""The sealer: when a batch is due, what a seal says, and that no crash, hole or wrong clock breaks the chain."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import SealConfig
from gateway.core import kinds
from gateway.core.errors import IntegrityError
from gateway.core.instant import Instant
from gateway.core.ports import Pending, Tail
from gateway.ledger.merkle import EMPTY_ROOT
from gateway.ledger.seal import Seal
from gateway.sealer import BLOCK_LEAVES, Sealer, due
from tests.gateway.doubles import BOOT, SECOND, START_UTC_NS, Crash, Fault, MemorySeals, Moment, PlainSigner, at
from tests.gateway.identities import issue

CONFIG = SealConfig(max_records=100, max_bytes=1_000_000, max_age_s=60, idle_age_s=3600)
YEAR_S = 365 * 86_400
ORIGIN = "box-1/evidence"


def sealer_of(store: MemorySeals, config: SealConfig = CONFIG, **more: Any) -> Sealer:
    return Sealer(store, PlainSigner(), Moment(), config, ORIGIN, lambda: False, **more)


def seal_all(sealer: Sealer, now: Instant) -> None:
    while asyncio.run(sealer.seal(now)) is not None:
        pass


@pytest.mark.parametrize(
    ("count", "evidence_age_s", "age_s", "urgent", "size_bytes", "expected"),
    [
        (0, None, None, False, 0, None),
        (1, 0, 0, False, 100, None),
        (1, 59.9, 59.9, False, 100, None),
        (1, 60, 60, False, 100, 1001),
        (1, None, 60, False, 100, None),  # housekeeping alone does not close by age
        (1, None, 3599, False, 100, None),
        (1, None, 3600, False, 100, 1001),
        (5, 1, 3600, False, 100, 1005),  # … but by idle age
        (99, 1, 1, False, 100, None),
        (100, 1, 1, False, 100, 1100),
        (250, 1, 1, False, 100, 1100),
        (1, 0, 0, True, 100, 1001),
        (250, 0, 0, True, 100, 1100),
        (2, 0, 0, False, 1_000_000, 1002),
        (2, 0, 0, False, 999_999, None),
        (1, -0.001, -0.001, False, 100, 1001),  # the clock went back: nobody knows how long it has waited
        (1, -YEAR_S, -YEAR_S, False, 100, 1001),
        (1, None, -YEAR_S, False, 100, 1001),
        (1, YEAR_S, YEAR_S, False, 100, 1001),
    ],
)
def test_due(
    count: int,
    evidence_age_s: float | None,
    age_s: float | None,
    urgent: bool,
    size_bytes: int,
    expected: int | None,
) -> None:
    now = at(100_000)

    def since(age: float | None) -> int | None:
        return None if age is None else now.utc_ns - int(age * SECOND)

    pending = Pending(1000 + count, since(evidence_age_s), since(age_s), urgent, size_bytes)
    assert due(pending, Tail(1000, b"", ()), now, CONFIG) == expected


def test_a_seal_says_what_was_sealed() -> None:
    store = MemorySeals()
    store.add(1, at(0), kinds.CLOCK_STATE)
    store.add(3, at(1))
    store.add(1, at(2), kinds.BEACON)
    row = asyncio.run(sealer_of(store).seal(at(62)))
    assert row is not None
    seal = Seal.parse(row.seal_txt)
    assert (seal.origin, seal.first, seal.end, seal.prev_root) == (ORIGIN, 0, 5, EMPTY_ROOT)
    assert (seal.beacon, seal.clock) == (4, 0)
    assert (seal.artifact_count, seal.artifact_bytes) == (1, 7)
    assert seal.gateway_cert_sha256 == PlainSigner().certificate_sha256
    assert (row.sealed_utc_ns, row.utc_min_ns, row.utc_max_ns) == (
        at(62).utc_ns,
        START_UTC_NS,
        START_UTC_NS + 2 * SECOND,
    )
    store.check()


@settings(max_examples=15)
@given(
    additions=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    max_records=st.sampled_from([100, 255, 256, 257, 512, 1000]),
)
def test_any_sizes_give_one_unbroken_chain(additions: list[int], max_records: int) -> None:
    store = MemorySeals()
    sealer = sealer_of(store, SealConfig(max_records=max_records))
    for step, count in enumerate(additions):
        store.add(count, at(100 * step))
        seal_all(sealer, at(100 * step + 60))
    assert store.end.size == sum(additions)
    store.check()


def test_a_batch_ends_at_its_bytes_and_is_read_in_bounded_blocks() -> None:
    store = MemorySeals()
    store.add(40, at(0), text="x" * 100_000)
    seal_all(sealer_of(store, SealConfig(max_records=5000, max_bytes=1_000_000)), at(60))
    assert [row.end - row.first for row in store.batches] == [10, 10, 10, 10]
    assert all(row.records_bytes < 1_000_000 + 262_144 for row in store.batches)
    store.check()


def test_a_single_leaf_above_the_limit_is_a_batch() -> None:
    store = MemorySeals()
    store.add(3, at(0), text="x" * 200_000)
    seal_all(sealer_of(store, SealConfig(max_bytes=65_536)), at(60))
    assert [row.end for row in store.batches] == [1, 2, 3]
    store.check()


@pytest.mark.parametrize("faults", list(itertools.product(("none", "before", "after"), repeat=3)))
def test_a_crash_at_any_commit_loses_nothing(faults: tuple[Fault, ...]) -> None:
    store = MemorySeals(faults=faults)
    for round_number in range(6):
        store.add(150, at(100 * round_number))
        for _ in range(2):
            try:
                seal_all(sealer_of(store), at(100 * round_number + 60))  # a new sealer, as after a restart
            except Crash:
                store.check()
    assert store.end.size == len(store.log) == 900
    assert not store.faults
    store.check()


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
def test_a_clock_that_jumps_in_mid_batch_neither_stalls_nor_storms(jump_s: float) -> None:
    store = MemorySeals()
    sealer = sealer_of(store)
    for second in range(600):
        jumped = second >= 30
        now = at(second, 2 if jumped else 1, jump_s if jumped else 0)
        store.add(1, now)
        asyncio.run(sealer.seal(now))
    store.check()
    ends = [row.end for row in store.batches]
    assert ends[0] == 31  # what was pending at the jump, at once
    assert 8 <= len(ends) <= 12  # then one a minute
    assert len(store.log) - store.end.size <= 61


def test_whatever_waits_is_sealed_at_a_clean_stop() -> None:
    store = MemorySeals()
    store.add(5, at(0))
    sealer = sealer_of(store)
    assert asyncio.run(sealer.seal(at(1))) is None
    row = asyncio.run(sealer.seal(at(1), whatever_waits=True))
    assert row is not None
    assert row.end == 5
    assert asyncio.run(sealer.seal(at(1), whatever_waits=True)) is None


def test_two_calls_at_once_make_two_batches_in_order() -> None:
    store = MemorySeals()
    store.add(3 * BLOCK_LEAVES, at(0))
    sealer = sealer_of(store, SealConfig(max_records=2 * BLOCK_LEAVES))

    async def both() -> None:
        await asyncio.gather(sealer.seal(at(60)), sealer.seal(at(60)))

    asyncio.run(both())
    assert [row.end for row in store.batches] == [2 * BLOCK_LEAVES, 3 * BLOCK_LEAVES]
    store.check()


@pytest.mark.parametrize(
    "tail",
    [
        Tail(0, b"\1" * 32, ()),
        Tail(3, EMPTY_ROOT, (b"\1" * 32, b"\2" * 32)),
        Tail(3, EMPTY_ROOT, (b"\1" * 32,)),
        Tail(1, b"\1" * 32, (b"\2" * 32,)),
    ],
)
def test_a_checkpoint_that_disagrees_with_itself_stops(tail: Tail) -> None:
    store = MemorySeals()
    store.add(200, at(0))
    store.end = tail
    with pytest.raises(IntegrityError, match="checkpoint"):
        asyncio.run(sealer_of(store).seal(at(60)))
    assert not store.batches


def test_a_log_shorter_than_its_checkpoint_stops() -> None:
    store = MemorySeals()
    store.add(20, at(0))
    seal_all(sealer_of(store), at(60))
    del store.log[10:]
    with pytest.raises(IntegrityError, match="holds 10 records but 20 were sealed"):
        asyncio.run(sealer_of(store).seal(at(120)))


@pytest.mark.parametrize("hole", [0, 1, 99, 511, 512, 699])
def test_a_hole_stops_and_nothing_is_signed(hole: int) -> None:
    store = MemorySeals()
    store.add(700, at(0))
    store.hole = hole
    with pytest.raises(IntegrityError, match="missing"):
        asyncio.run(sealer_of(store, SealConfig(max_records=700)).seal(at(60)))
    assert not store.batches


@pytest.mark.parametrize(
    "utc_ns",
    [
        [0, 5, 3],  # 1970, no RTC
        [999_999_999 * SECOND, 1_000_000_000 * SECOND],  # 18 and 19 digits
        [START_UTC_NS + n for n in (5, 1, 9, 3)],
        [9_999_999_999 * SECOND, 10_000_000_000 * SECOND],  # 2286
        [10**20 - 1],
    ],
)
def test_the_span_of_times_of_any_clock(utc_ns: list[int]) -> None:
    store = MemorySeals()
    for value in utc_ns:
        store.add(1, Instant(BOOT, 1, 1, value))
    row = asyncio.run(sealer_of(store).seal(at(0), whatever_waits=True))
    assert row is not None
    assert (row.utc_min_ns, row.utc_max_ns) == (min(utc_ns), max(utc_ns))


def test_bytes_that_are_no_record_stop() -> None:
    store = MemorySeals()
    store.add(10, at(0))
    sealer = sealer_of(store)
    store.log[4] = b'{"v":1}'
    pending = Pending(10, at(0).utc_ns, at(0).utc_ns, urgent=False)
    store.pending = lambda: pending  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="damaged"):
        asyncio.run(sealer.seal(at(60)))


@pytest.mark.parametrize(
    ("valid_days", "synchronised", "reason"),
    [
        ((-10, 10), True, None),
        ((-10, -1), True, "expired"),
        ((1, 10), True, "not valid before"),
        ((-10, -1), False, None),  # a clock that may be wrong stops nothing
        ((1, 10), False, None),
    ],
)
def test_an_expired_certificate_stops_sealing_but_not_storing(
    valid_days: tuple[int, int], synchronised: bool, reason: str | None
) -> None:
    store = MemorySeals()
    store.add(5, at(0))
    _, certificate = issue("box-1", at(0).utc_ns, valid_days)
    sealer = Sealer(store, PlainSigner(certificate), Moment(), CONFIG, ORIGIN, lambda: synchronised)
    row = asyncio.run(sealer.seal(at(60)))
    if reason is None:
        assert row is not None
        assert sealer.blocked is None
    else:
        assert row is None
        assert sealer.blocked is not None
        assert reason in sealer.blocked
        store.add(1, at(61))


def test_without_a_certificate_records_wait() -> None:
    store = MemorySeals()
    store.add(5, at(0))
    sealer = Sealer(store, None, Moment(), CONFIG, ORIGIN)
    assert asyncio.run(sealer.seal(at(60))) is None
    assert sealer.blocked is not None
    assert "enrol" in sealer.blocked


def test_the_loop_seals_what_comes_and_ticks() -> None:
    store = MemorySeals()
    store.add(250, at(0))
    clock = Moment(at(60))
    sealer = Sealer(store, PlainSigner(), clock, CONFIG, ORIGIN, lambda: False)
    ticks = 0

    async def until_idle() -> None:
        idle = asyncio.Event()

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            if ticks == 4:
                idle.set()

        async with asyncio.TaskGroup() as group:
            loop = group.create_task(sealer.run(tick, poll_s=0.001))
            await idle.wait()
            loop.cancel()

    asyncio.run(until_idle())
    assert [row.end for row in store.batches] == [100, 200, 250]
