"""Silences of the gateway itself, as far as they were known at a record."""

from __future__ import annotations

import pytest

from gateway.rules.outages import OUTAGES_MAX, Outages
from gateway.rules.rule_set import Offline

RULE = Offline(source="-")


def heard(outages: Outages, times: dict[str, list[int]]) -> None:
    rows = sorted((time_s, name) for name, some in times.items() for time_s in some)
    for seq, (time_s, name) in enumerate(rows):
        outages.heard(name, time_s, seq, RULE, awake=True)


@pytest.mark.parametrize(
    ("trucks", "silent", "spread_s", "expected"),
    [(6, 6, 0, True), (6, 5, 0, True), (10, 8, 0, True), (10, 7, 0, False), (4, 4, 0, False), (8, 8, 60, False)],
)
def test_nearly_all_at_once(trucks: int, silent: int, spread_s: int, expected: bool) -> None:
    outages = Outages()
    times = {
        f"T{n}": [*range(1000, 1500 - spread_s * n, 10), *([] if n < silent else range(1500, 2500, 10))]
        for n in range(trucks)
    }
    heard(outages, times)
    outages.look(2500, 10_000, RULE)
    assert bool(outages.all) is expected


def test_what_was_not_known_at_a_record_does_not_count() -> None:
    outages = Outages()
    heard(outages, {f"T{n}": [*range(1000, 1500, 10), *range(3000, 3100, 10)] for n in range(6)})
    (outage,) = outages.all
    assert outage.start_s == 1490
    assert outages.explained_s(1490, 3000, outage.opened_seq - 1) == 0
    assert outages.explained_s(1490, 3000, outage.opened_seq) == 1510
    assert outages.explained_s(1490, 3500, None) == 3000 + RULE.fleet_s - 1490
    assert outages.explained_s(2000, 2600, None) == 600
    assert outages.explained_s(100, 900, None) == 0


def test_those_that_are_parked_are_not_asked() -> None:
    outages = Outages()
    for seq in range(60):
        for n in range(6):
            outages.heard(f"T{n}", 1000 + 10 * seq, seq, RULE, awake=n > 3)
    outages.look(3000, 100, RULE)
    assert outages.all == []


def test_overlapping_outages_count_once_and_there_is_a_limit() -> None:
    outages = Outages()
    for n in range(OUTAGES_MAX + 10):
        outages.newest_s = 1000 + n
        outages.began(2000 + n, n, RULE)
    assert len(outages.all) == OUTAGES_MAX
    assert outages.explained_s(0, 10_000, None) == outages.all[-1].end_s - outages.all[0].start_s


def test_a_clock_that_goes_back_does_not_stop_looking() -> None:
    outages = Outages()
    for n in range(6):
        outages.heard(f"T{n}", 2_000_000_000, n, RULE, awake=True)
    heard(outages, {f"T{n}": [*range(1000, 1500, 10), *range(3000, 3100, 10)] for n in range(6)})
    assert [one.start_s for one in outages.all] == [1490]
