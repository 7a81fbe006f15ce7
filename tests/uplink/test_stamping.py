"""Which seal is stamped next, over days without an authority: events and expected choices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from uplink.stamping import HOLDS_MAX, POLL_S, Stamping


def rows(*numbers: int) -> Any:
    return [SimpleNamespace(n=n) for n in numbers]


def test_oldest_first() -> None:
    row, _ = Stamping(1, 3600).next(0.0, rows(3, 4))
    assert row is not None
    assert row.n == 3


def test_nothing_to_do_is_looked_at_again_soon() -> None:
    assert Stamping(1, 3600).next(7.0, []) == (None, 7.0 + POLL_S)


def test_an_authority_that_is_away_for_three_days_costs_few_requests_and_no_memory() -> None:
    stamping, now, requests = Stamping(1, 3600), 0.0, 0
    while now < 3 * 86_400:
        row, wake = stamping.next(now, rows(1, 2, 3, 4))
        if row is None:
            now = wake
            continue
        assert row.n == 1
        requests += 1
        stamping.unreachable(now, 0.5, None)
    assert 72 <= requests <= 120
    assert stamping.look_ahead == 4
    stamping.stamped(1)
    row, _ = stamping.next(now, rows(2, 3, 4))
    assert row is not None
    assert row.n == 2


def test_retry_after_of_the_authority_is_kept() -> None:
    stamping = Stamping(1, 3600)
    stamping.unreachable(0.0, 0.5, 100.0)
    assert stamping.next(99.0, rows(1)) == (None, 100.0)


def test_one_seal_whose_token_is_refused_does_not_hold_up_the_others() -> None:
    stamping = Stamping(1, 3600)
    stamping.refused(1, 0.0, 1.0)
    row, _ = stamping.next(0.5, rows(1, 2))
    assert row is not None
    assert row.n == 2
    stamping.stamped(2)
    row, _ = stamping.next(1.0, rows(1))
    assert row is not None
    assert row.n == 1


def test_refusals_in_a_row_are_counted_and_success_ends_the_row() -> None:
    stamping = Stamping(1, 3600)
    for n in range(5):
        stamping.refused(n, 0.0, 0.5)
    assert stamping.refusals == 5
    stamping.stamped(0)
    assert stamping.refusals == 0


def test_an_authority_that_refuses_everything_is_left_alone_and_memory_is_bounded() -> None:
    stamping = Stamping(1, 3600)
    for n in range(1000):
        stamping.refused(n, 0.0, 1.0)
    assert stamping.look_ahead == 4 + HOLDS_MAX
    assert stamping.next(0.0, rows(2000))[0] is None
