"""Whose turn it is on a bus: beats, pauses after failures, shares."""

from __future__ import annotations

import pytest

from drivers.modbus.plan import BACK_OFF_MAX_NS, FAILING_SHARE, Rota, Turn

SECOND = 10**9


def rota(*weights: int, interval_s: int = 10) -> Rota:
    return Rota([Turn(weight, interval_s * SECOND) for weight in weights])


def test_the_beat_is_kept_and_what_was_missed_is_left_out() -> None:
    one = rota(1)
    one.all_due(0)
    assert one.pick(0) == 0
    assert one.done(0, 3 * SECOND) == 0
    assert one.next_ns() == 10 * SECOND
    assert one.pick(9 * SECOND) is None
    assert one.done(0, 47 * SECOND) == 2
    assert one.next_ns() == 40 * SECOND


def test_failures_are_tried_again_at_once_and_then_ever_later() -> None:
    one = rota(1, interval_s=1)
    pauses, now_ns = [], 0
    for _ in range(9):
        one.failed(0, now_ns, 0)
        pauses.append(((one.next_ns() or 0) - now_ns) // SECOND)
        now_ns = one.next_ns() or 0
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert one.turns[0].due_ns - now_ns <= BACK_OFF_MAX_NS
    one.done(0, now_ns)
    one.failed(0, now_ns, 0)
    assert one.next_ns() == now_ns


@pytest.mark.parametrize("failing", [1, 3, 50])
def test_all_who_fail_together_get_a_fixed_part_of_the_bus(failing: int) -> None:
    one = rota(*[1] * failing, interval_s=1)
    cost_ns = 2 * SECOND
    for _ in range(5):
        for index in range(failing):
            one.failed(index, 0, cost_ns)
    share = sum(cost_ns / turn.due_ns for turn in one.turns)
    assert share <= 1 / FAILING_SHARE + 1e-9


def test_a_round_that_has_begun_goes_on_first_unless_its_device_rests() -> None:
    one = rota(1, 1)
    one.all_due(0)
    one.turns[1].in_round = True
    assert one.pick(0) == 1
    one.turns[1].ready_ns = 100
    assert one.pick(0) == 0
    assert one.pick(100) == 1


def test_who_was_not_due_has_saved_little() -> None:
    one = rota(1, 1)
    one.turns[1].due_ns = 3600 * SECOND
    for _ in range(100):
        one.charge(0, SECOND)
        one.pick(0)
    served = 0
    while one.pick(3600 * SECOND) == 1:
        one.charge(1, SECOND)
        served += 1
    assert served <= 3


def test_nobody_is_no_turn() -> None:
    assert Rota([]).pick(0) is None
    assert Rota([]).next_ns() is None
