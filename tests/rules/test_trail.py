"""The shared list of inputs, against a plain list that forgets nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rules.trail import HALF, Trail


def plain(seqs: list[int], first: int, last: int) -> tuple[tuple[int, ...], int]:
    inputs = seqs[first : last + 1]
    if len(inputs) <= 2 * HALF:
        return tuple(sorted(inputs)), 0
    return tuple(sorted({*inputs[:HALF], *inputs[-HALF:]})), len(inputs) - 2 * HALF


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 700)), max_size=40))
def test_trimming_and_going_back_lose_nothing_that_is_needed(steps: list[tuple[int, int]]) -> None:
    trail, seqs = Trail(), list[int]()
    events: list[list[int]] = []
    margin = 300
    safe = 0
    """Nobody goes back before this place: what is older than the margin at a trim is final."""
    for kind, number in steps:
        if kind <= 2:  # more comes; every lasting event takes it in, or does not
            for n in range(number):
                trail.seqs.append(1000 + 3 * len(seqs))
                seqs.append(1000 + 3 * len(seqs))
                for event in events:
                    if kind or n < 5:
                        event[1] = len(seqs) - 1
        elif kind == 3 and seqs:
            events.append([len(seqs) - 1, len(seqs) - 1])
        elif kind == 4 and events:
            events.pop(number % len(events))
        elif kind == 5 and len(seqs) - number > safe:
            length = len(seqs) - number
            trail.back(length)
            del seqs[length:]
            events = [[first, min(last, length - 1)] for first, last in events if first < length]
        if len(seqs) - safe > margin and number % 2:
            # as a window does: of the events as they are, and as they were where it begins
            begin = max(safe, len(seqs) - margin)
            trail.trim([*map(tuple, events), *((first, min(last, begin)) for first, last in events)], margin)  # type: ignore[list-item]
            safe = begin
        assert len(trail) == len(seqs)
        for first, last in events:
            assert trail.read(first, last) == plain(seqs, first, last)


def test_an_event_cut_a_little_behind_its_first_half_cites_no_more_than_both_halves() -> None:
    trail = Trail()
    trail.seqs.extend(range(1300))
    trail.trim([(0, 1064), (0, 1000)], 300)
    assert trail.base == 501
    assert trail.read(0, 1064) == plain(list(range(1300)), 0, 1064)


def test_a_parked_vehicle_keeps_a_short_trail() -> None:
    trail = Trail()
    for n in range(100_000):
        trail.seqs.append(n)
        if n % 32 == 0:
            trail.trim([(10, n)], 288)
    assert len(trail.seqs) < HALF + 400
    assert len(trail.read(10, 99_999)[0]) == 2 * HALF
