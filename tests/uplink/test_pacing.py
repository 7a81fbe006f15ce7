"""Back-off, token bucket and chunk size: pure, so every case is a number."""

from hypothesis import given
from hypothesis import strategies as st

from uplink.pacing import (
    CHUNK_MAX_BYTES,
    CHUNK_MIN_BYTES,
    Backoff,
    ChunkSize,
    TokenBucket,
    retry_budget,
)


def test_a_bucket_without_a_rate_never_waits() -> None:
    bucket = TokenBucket(0)
    assert bucket.take(10**12, 0.0) == 0.0


def test_a_bucket_lets_its_rate_through_over_time() -> None:
    bucket, now, sent = TokenBucket(1000), 0.0, 0
    while now < 100:
        now += bucket.take(64, now)
        sent += 64
    assert 100_000 <= sent <= 102_000  # the rate, and one second of burst


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 3)), max_size=50))
def test_a_bucket_never_exceeds_rate_and_burst(steps: list[tuple[int, float]]) -> None:
    bucket, now, free_at, sent = TokenBucket(1000), 0.0, 0.0, 0
    for amount, pause in steps:
        now = max(now + pause, free_at)
        free_at = now + bucket.take(amount, now)
        sent += amount
        assert sent <= 1000 * free_at + 1000 + 1e-3


def test_backoff_doubles_up_to_its_maximum() -> None:
    backoff = Backoff(1, 300)
    assert [backoff.failed(0.0, 1.0) for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_jitter_takes_at_most_half() -> None:
    assert Backoff(10, 300).failed(100.0, 0.0) == 105.0
    assert Backoff(10, 300).failed(100.0, 0.999) < 110.0


def test_retry_after_lengthens_the_wait_up_to_the_maximum() -> None:
    assert Backoff(1, 300).failed(0.0, 0.5, 42.0) == 42.0
    assert Backoff(1, 300).failed(0.0, 0.5, 99_999.0) == 300.0
    assert Backoff(100, 300).failed(0.0, 1.0, 1.0) == 100.0


def test_success_starts_again_from_the_shortest_wait() -> None:
    backoff = Backoff(1, 300)
    for _ in range(9):
        backoff.failed(0.0, 0.5)
    backoff.worked()
    assert backoff.until_s == 0.0
    assert backoff.failed(0.0, 1.0) == 1.0


def test_a_thousand_years_of_failures_do_not_overflow() -> None:
    backoff = Backoff(1, 300)
    backoff.failures = 10**9
    assert backoff.failed(0.0, 1.0) == 300.0


def test_fruitless_attempts_use_up_the_budget_and_progress_gives_it_back() -> None:
    fruitless = Backoff(1, 300, retry_budget())
    waits = []
    for _ in range(61):
        waits.append(fruitless.failed(0.0, 1.0))
        fruitless.worked()
    assert waits[:60] == [1.0] * 60
    assert waits[60] == 300.0
    fruitful = Backoff(1, 300, retry_budget())
    for _ in range(500):
        assert fruitful.failed(0.0, 1.0) == 1.0
        fruitful.progressed()


def test_chunks_grow_while_they_are_quick() -> None:
    chunk = ChunkSize(1 << 20)
    for _ in range(20):
        chunk.took(chunk.size_bytes, 0.01)
    assert chunk.size_bytes == CHUNK_MAX_BYTES


def test_a_short_last_chunk_says_nothing() -> None:
    chunk = ChunkSize(1 << 20)
    chunk.took(10, 0.0)
    assert chunk.size_bytes == 1 << 20


def test_chunks_shrink_when_slow_or_broken_but_not_to_nothing() -> None:
    chunk = ChunkSize(1 << 20)
    chunk.took(1 << 20, 5.0)
    assert chunk.size_bytes == 1 << 19
    for _ in range(20):
        chunk.failed()
    assert chunk.size_bytes == CHUNK_MIN_BYTES


def test_a_body_limit_on_the_way_is_remembered() -> None:
    chunk = ChunkSize(4 << 20)
    assert chunk.too_large()
    chunk.took(2 << 20, 0.0)
    assert chunk.size_bytes == 2 << 20
    while chunk.too_large():
        pass
    assert chunk.size_bytes == CHUNK_MIN_BYTES
