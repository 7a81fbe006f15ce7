"""A fleet of 237 trucks: two hours without network, all of it sent later, in pieces between live fixes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core import kinds
from gateway.core.finding import Judgement
from gateway.rules.judging import Seen
from gateway.rules.window import LATE_QUIET_S
from tests.rules.courses import CLASS, MIDNIGHT, PERMIT, RULES, H, Ledger, drive, files, without_seqs

NIGHT = 20 * H + 600
TRUCKS = 237
Row = tuple[int, int, dict[str, Any]]
"""Arrival, truck, data of the record."""


def plate(number: int) -> str:
    return f"浙F{10_000 + number}"


def course(number: int, lasts_s: int) -> list[dict[str, Any]]:
    """Back and forth along the route; every tenth truck once leaves it."""
    found: list[dict[str, Any]] = []
    time_s, there = NIGHT, True
    while time_s < NIGHT + lasts_s:
        ways = ((0, 0), (5000, 0)) if there else ((5000, 0), (0, 0))
        if number % 10 == 0 and NIGHT + 1200 < time_s < NIGHT + 2000:
            ways = (ways[0], (2500, 0), (2500, 700), (2600, 700), (2600, 0), ways[1])  # type: ignore[assignment]
        piece = drive(time_s + number % 10, *ways, kmh=27)
        found += piece
        time_s = piece[-1]["time_utc_s"] - MIDNIGHT - number % 10 + 10
        there = not there
    return [one for one in found if one["time_utc_s"] < MIDNIGHT + NIGHT + lasts_s]


def pieces(stored: list[dict[str, Any]], dice: random.Random) -> Iterator[list[dict[str, Any]]]:
    """Batches of 15 to 50, the oldest first."""
    place = 0
    while place < len(stored):
        size = dice.randrange(15, 51)
        yield stored[place : place + size]
        place += size


def judged(ledger: Ledger, rows: list[Row]) -> list[Judgement]:
    """As the service does: asked for every second in which something came, and when all is quiet."""
    for seq, (arrival_s, number, data) in enumerate(sorted(rows, key=lambda row: row[:2]), len(ledger.records)):
        if arrival_s != ledger.now_s:
            ledger.due()
        ledger.now_s = arrival_s
        ledger.judge.accept(Seen(seq, kinds.POSITION, "trackers", f"T{number}", arrival_s * 10**9, data))
    ledger.due()
    return ledger.findings(ledger.now_s - MIDNIGHT + LATE_QUIET_S)


def shape(one: Judgement) -> dict[str, Any]:
    """A finding but for its records: a batch is one record."""
    return {**without_seqs(one), "inputs": 0}


@pytest.mark.slow
def test_two_hours_that_237_trucks_send_later_are_judged_as_if_they_had_been_heard() -> None:
    dark = range(MIDNIGHT + NIGHT + 600, MIDNIGHT + NIGHT + 600 + 7200)
    book = files(RULES, *({**PERMIT, "number": f"P-{n}", "vehicles": [plate(n)]} for n in range(TRUCKS)))
    dice = random.Random(1)
    late: list[Row] = []
    heard: list[Row] = []
    stored_count = 0
    for number in range(TRUCKS):
        fixes = course(number, 600 + 7200 + 900)
        head = {"class": CLASS, "plate": plate(number)}
        stored = [one for one in fixes if one["time_utc_s"] in dark]
        stored_count += len(stored)
        late += [(one["time_utc_s"] + 1, number, {**head, **one}) for one in fixes if one["time_utc_s"] not in dark]
        for turn, some in enumerate(pieces(stored, dice)):
            late.append((dark.stop + 5 + 7 * turn, number, {**head, "fixes": some, "backfill": True}))
        if number % 10 == 0:
            heard += [(one["time_utc_s"] + 1, number, {**head, **one}) for one in fixes]
    assert stored_count > 170_000
    found = judged(Ledger(book), late)
    assert [(one.device, one.rule) for one in found] == sorted((f"T{n}", "off-route") for n in range(0, TRUCKS, 10))
    assert list(map(shape, found)) == list(map(shape, judged(Ledger(book), heard)))
