"""In which order and in how many pieces readings arrive, and where the gateway is restarted, changes no byte."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import kinds
from gateway.core.finding import Judgement
from gateway.rules.fume import Fume
from gateway.rules.fume_window import BLOCK, BLOCKS
from tests.rules.fume_days import (
    CLASS,
    DAY,
    KITCHEN,
    MIDNIGHT,
    Data,
    H,
    Ledger,
    files,
    mean,
    number,
    reading,
    readings,
    rules,
    wobble,
)  # fmt: skip

SHORT = {
    "purifier_off": "persist_s = 60",
    "purifier_current": "persist_s = 60\nlearn_days_min = 1\nlearn_values_min = 30",
    "flat_line": "persist_s = 300\nvalues_min = 5",
    "fume_sustained": "windows_min = 2",
    "fan_off": "persist_s = 60",
}
END_S = 3 * DAY


def eventful(seed: int, from_s: int = 10 * H, count: int = 250, step_s: int = 30) -> list[Data]:
    """Readings in which a bit of everything happens."""
    dice = random.Random(seed)
    found: list[Data] = []
    fume, fan, purifier, current, time_s, steady = 0.5, "on", "on", 1.0, from_s, False
    for _ in range(count):
        time_s += step_s
        if dice.random() < 0.03:
            time_s += dice.choice([90, 400, 1200])
        if dice.random() < 0.05:
            fume = dice.choice([0.1, 0.5, 2.5, 7.0, 35.0, -3.0])
        if dice.random() < 0.04:
            fan = dice.choice(["on", "on", "off"])
        if dice.random() < 0.05:
            purifier = dice.choice(["on", "on", "off", "fault"])
        if dice.random() < 0.05:
            current = dice.choice([1.0, 1.0, 0.3, 4.0])
        if dice.random() < 0.04:
            steady = not steady
        value = fume if steady else wobble(time_s, fume)
        one = reading(time_s, value, fan, purifier, current)
        if dice.random() < 0.05:
            one["values"][0]["quality"] = "suspect"
        found.append(one)
    found += [
        mean(start_s, dice.choice([0.5, 2.5]), 600, "2051")
        for start_s in range(from_s, time_s - 600, 600)
        if dice.random() < 0.7
    ]
    return found


def book(seed: int = 0) -> dict[str, bytes]:
    return files(rules(**SHORT), KITCHEN + ("" if seed % 2 else "stoves = 1\nfan_flow_m3_h = 3000\n"))


def as_one(found: list[Judgement], times: dict[int, Any]) -> list[dict[str, Any]]:
    """Findings with what their inputs were instead of where they lay."""
    shapes = []
    for one in found:
        shape = one.to_json()
        shape["inputs"] = sorted(times[seq] for seq in one.inputs)
        shape["peak"] = {**shape["peak"], "seq": times[shape["peak"]["seq"]]}
        shapes.append(shape)
    return shapes


def contents(ledger: Ledger) -> dict[int, Any]:
    return {
        seen.seq: (seen.data["taken_utc_s"], seen.data.get("period_s", 0))
        for seen in ledger.records
        if seen.kind == kinds.READING
    }


def again(plain: Ledger, dice: random.Random) -> Ledger:
    """The same records, asked and restarted anywhere."""
    pieces = Ledger()
    stored: dict[bytes, bytes] = {}
    for seen in plain.records:
        pieces.judge.accept(seen)
        pieces.records.append(seen)
        pieces.now_s = seen.arrival_utc_ns // 10**9
        if dice.random() < 0.15:
            pieces.due()
        if dice.random() < 0.04:
            for key, value in pieces.judge.checkpoint():
                if value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value
            pieces.judge = Fume()
            pieces.judge.restore(list(stored.items()))
            for old in pieces.records:  # a service goes on from a little before
                if old.kind == kinds.RULES_BOOK or old.seq > seen.seq - 5:
                    pieces.judge.accept(old)
    return pieces


@settings(max_examples=40)
@given(st.integers(0, 10**9))
def test_pieces_and_restarts(seed: int) -> None:
    dice = random.Random(seed)
    items = eventful(seed)
    late = [items.pop(dice.randrange(len(items))) for _ in range(len(items) // 5)] if dice.random() < 0.7 else []
    plain = Ledger(book(seed))
    plain.live(items)
    if late:
        plain.late(late, plain.now_s - MIDNIGHT + 10)
    wanted = plain.bytes(END_S)
    plain.end()
    assert plain.bytes(END_S) == wanted
    assert again(plain, dice).bytes(END_S) == wanted


@settings(max_examples=40)
@given(st.integers(0, 10**9))
def test_shuffled_arrival(seed: int) -> None:
    """All of two days stored by the device and sent in any order: the same events with the same inputs."""
    dice = random.Random(seed)
    items = eventful(seed) + eventful(seed + 1, DAY + 10 * H)
    items.sort(key=lambda one: one["taken_utc_s"] + one.get("period_s", 0))
    plain, shuffled = Ledger(book(seed)), Ledger(book(seed))
    plain.late(items, 2 * DAY)
    plain.end()
    mixed = list(items)
    dice.shuffle(mixed)
    for place in range(0, len(mixed), 37):
        shuffled.late(mixed[place : place + 37], 2 * DAY + place)
        if dice.random() < 0.5:
            shuffled.due()
    shuffled.end()
    shuffled.due(END_S + DAY)
    plain.due(END_S + DAY)
    found = as_one([plain.known[key] for key in sorted(plain.known)], contents(plain))
    assert found
    assert as_one([shuffled.known[key] for key in sorted(shuffled.known)], contents(shuffled)) == found


def test_the_eventful_days_hold_every_rule() -> None:
    found: set[str] = set()
    for seed in range(30):
        ledger = Ledger(book(seed))
        ledger.live(eventful(seed) + eventful(seed + 100, DAY + 10 * H))
        found |= {one.rule for one in ledger.findings(END_S)}
    assert found == {
        "fume-limit", "fume-sustained", "purifier-off", "purifier-current", "fume-fan-off", "monitor-offline",
        "flat-line", "out-of-range", "value-jump",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_retransmissions_change_nothing(seed: int) -> None:
    """The same reading as another record, right after it or later."""
    dice = random.Random(seed)
    items = eventful(seed)
    plain, twice = Ledger(book(seed)), Ledger(book(seed))
    plain.live(items)
    for one in sorted(items, key=lambda item: item["taken_utc_s"] + item.get("period_s", 0)):
        twice.live([one])
        if dice.random() < 0.3:
            twice.live([one], late_s=2)
        if dice.random() < 0.3:
            twice.due()

    def shape(one: Judgement) -> dict[str, Any]:
        return {**one.to_json(), "inputs": 0, "peak": {**one.peak, "seq": 0}}

    assert [shape(one) for one in twice.findings(END_S)] == [shape(one) for one in plain.findings(END_S)]


def test_a_record_that_was_seen_is_passed_over() -> None:
    ledger = Ledger(book())
    ledger.live(eventful(3))
    wanted = ledger.bytes(END_S)
    for seen in ledger.records:
        ledger.judge.accept(seen)
    assert ledger.bytes(END_S) == wanted


def test_readings_behind_the_window_make_the_day_wanted_once() -> None:
    items = readings(10 * H, 20 * H, 30, lambda t: wobble(t, 2.5 if 11 * H <= t < 12 * H else 0.5))
    hole = [one for one in items if 11 * H + 600 <= one["taken_utc_s"] - MIDNIGHT < 11 * H + 3000]
    assert len(items) > BLOCK * BLOCKS * 2
    plain, late = Ledger(book(1)), Ledger(book(1))
    plain.live(items)
    late.live([one for one in items if one not in hole])
    late.due()
    late.late(hole, 20 * H + 10)
    assert not late.due(20 * H + 30).wants
    turn = late.due(20 * H + 41)
    assert [(want.source, want.device, want.from_utc_s, want.to_utc_s) for want in turn.wants] == [
        ("hj", "M1", MIDNIGHT + 4 * H, MIDNIGHT + 28 * H)
    ]
    assert not late.due(21 * H).wants
    found = as_one(late.findings(END_S), contents(late))
    assert found == as_one(plain.findings(END_S), contents(plain))
    assert "fume-limit" in [one["rule"] for one in found]


def test_unreadable_memory_is_passed_over() -> None:
    ledger = Ledger(book())
    ledger.live(eventful(3)[:50])
    ledger.due()
    pairs = [(key, value) for key, value in ledger.judge.checkpoint() if value is not None]
    for damage in (b"", b"\x00", pairs[1][1][:-3], b"x" * 100):
        judge = Fume()
        judge.restore([(pairs[1][0], damage), (b"judge", damage), (b"odd", b"1")])
        for seen in ledger.records:
            judge.accept(seen)
        found = [one for span in judge.due(ledger.now_s * 10**9).spans for one in span.judgements]
        assert found == ledger.findings()


def test_memory_of_a_monitor_is_small() -> None:
    ledger = Ledger(book())
    ledger.live(eventful(7, count=1200))
    ledger.due()
    pairs = ledger.judge.checkpoint()
    assert len(pairs) == 2
    assert max(len(value or b"") for _key, value in pairs) < 40_000
    ledger.due()
    assert [key for key, _value in ledger.judge.checkpoint()] == [b"judge"]


def test_monitors_do_not_touch_each_other() -> None:
    alone = []
    for seed in range(3):
        ledger = Ledger(book(1))
        ledger.live(eventful(seed))
        alone += as_one(ledger.findings(END_S), contents(ledger))
    both = Ledger(files(rules(**SHORT), KITCHEN.replace('"hj/M1"', '"hj/M0", "hj/M1", "hj/M2"')))
    rows = [(one["taken_utc_s"] + one.get("period_s", 0), seed, one) for seed in range(3) for one in eventful(seed)]
    for _time_s, seed, one in sorted(rows, key=lambda row: row[:2]):
        both.live([one], f"M{seed}")
    found = as_one(both.findings(END_S), contents(both))

    def bare(shape: dict[str, Any]) -> str:
        return str({key: value for key, value in shape.items() if key not in ("device", "book")})

    assert sorted(map(bare, found)) == sorted(map(bare, alone))


def test_hostile_records_do_no_harm() -> None:
    """Whatever a record may hold by its shape."""
    ledger = Ledger(book())
    odd: list[Data] = [
        {"class": CLASS, "values": []},
        {"class": CLASS, "taken_utc_s": -(10**12), "values": [number("fume", 1)]},
        {"class": CLASS, "taken_utc_s": 10**12, "values": [number("fume", 1)]},
        {"class": CLASS, "taken_utc_s": MIDNIGHT, "flags": "clock-off", "values": [number("fume", 1)]},
        mean(5 * H, 1, 7),
        {"class": CLASS, "taken_utc_s": MIDNIGHT + 5 * H, "values": [number("fume", 10**9), number("fume", -(10**9))]},
        {"class": CLASS, "taken_utc_s": MIDNIGHT + 5 * H, "values": [{"quantity": "fume"}, {"quantity": "fan_state"}]},
        {
            "class": CLASS, "taken_utc_s": MIDNIGHT + 5 * H + 1,
            "values": [number("purifier_current", n, channel=str(n)) for n in range(500)],
        },
        {"class": "", "values": [number("fume", 1)]},
    ]  # fmt: skip
    for n, one in enumerate(odd * 3):
        ledger.add(kinds.READING, "hj", "M1", one, 6 * H + n)
        ledger.add(kinds.DEVICE_STATE, "hj", "M1", {"class": CLASS, "state": "x" * 500}, 6 * H + n)
        ledger.due()
    ledger.end()
    assert len(ledger.judge._monitors["hj", "M1"].fold.state.ducts) <= 16
    assert {one.rule for one in ledger.findings(END_S)} <= {"out-of-range", "monitor-offline"}


@pytest.mark.slow
def test_five_hundred_monitors_give_what_each_gives_alone() -> None:
    """Four hours of a town, some with an hour that came later."""
    kitchens = "".join(KITCHEN.replace("k1", f"k{n}").replace("hj/M1", f"hj/M{n}") for n in range(500))
    town = Ledger(files(rules(), kitchens))
    rows: list[tuple[int, int, Data]] = []
    for n in range(500):
        for time_s in range(10 * H, 14 * H, 60):
            off = n % 10 == 0 and 11 * H <= time_s < 11 * H + 600
            one = reading(time_s + n % 60, wobble(time_s, 0.6), purifier="off" if off else "on", current=1.2)
            late = n % 7 == 0 and 12 * H <= time_s < 13 * H
            rows.append((13 * H + 20 if late else time_s + n % 60, n, {**one, "backfill": True} if late else one))
    asked_s = 0
    for arrival_s, n, one in sorted(rows, key=lambda row: row[:2]):
        town.add(kinds.READING, "hj", f"M{n}", one, arrival_s)
        if arrival_s - asked_s >= 30:
            asked_s = arrival_s
            town.due()
    assert [(one.rule, one.device) for one in town.findings(14 * H + 60)] == sorted(
        [("purifier-off", f"M{n}") for n in range(0, 500, 10)], key=lambda pair: pair[1]
    )
