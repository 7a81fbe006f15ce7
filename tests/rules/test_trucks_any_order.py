"""Whatever order and pieces records come in, and wherever a judge is restarted: the same bytes in the end."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core import kinds
from gateway.rules.judging import Seen
from gateway.rules.trucks import Trucks
from gateway.rules.window import Vehicle
from tests.rules.courses import (
    CLASS,
    MIDNIGHT,
    PERMIT,
    PLATE,
    RULES,
    H,
    Ledger,
    drive,
    files,
    fix,
    only,
    stand,
    without_seqs,
)

END_S = 40 * H
NIGHT = 21 * H


def eventful(seed: int, start_s: int = 21 * H, step_s: int = 10) -> list[dict[str, Any]]:
    """An hour of a truck, at which a little of everything happens; another one for every seed."""
    dice = random.Random(seed)
    found: list[dict[str, Any]] = []
    time_s, place = start_s, (0.0, 0.0)
    while time_s < start_s + 3000:
        kind = dice.randrange(8)
        state: dict[str, Any] = {
            "load": dice.choice(["full", "full", "empty", None]),
            "cover": dice.choice(["closed", "closed", "open", None]),
            "lift": dice.choice(["flat", "flat", "lifted", None]),
            "recorder_kmh_e1": dice.choice([None, 300]),
        }
        if kind < 5:
            goal = (dice.uniform(-500, 5500), dice.choice([0, 0, 30, 300, 1200, 3200]))
            piece = drive(time_s, place, goal, kmh=dice.choice([30, 55, 70, 95]), step_s=step_s, **state)[:40]
            place = goal if len(piece) < 40 else place
        elif kind == 5:
            piece = stand(time_s, dice.choice([60, 200, 400]), *place, step_s=step_s, **state)
        elif kind == 6:
            piece = [fix(time_s + n * step_s, *place, flags="void", recorder_kmh_e1=300) for n in range(12)]
            for one in piece:
                del one["lat_e7"], one["lon_e7"]
        else:
            piece = [fix(time_s, place[0] + 4000, place[1] + 3000, 50, **state)]
            time_s += dice.choice([0, 0, 300])
        found += piece
        time_s = max(one["time_utc_s"] for one in piece) - MIDNIGHT + step_s
    return found


def records(fixes: list[dict[str, Any]], device: str, first: int) -> list[Seen]:
    """Records with seqs of their own, in the order of the fixes."""
    return [
        Seen(
            first + n, kinds.POSITION, "trackers", device, (one["time_utc_s"] + 1) * 10**9,
            {"class": CLASS, "plate": PLATE, **one},
        )
        for n, one in enumerate(fixes)
    ]  # fmt: skip


def in_order(fixes: list[dict[str, Any]]) -> bytes:
    ledger = Ledger()
    ledger.live(fixes)
    return ledger.bytes(END_S)


@settings(max_examples=25)
@given(st.integers(0, 10**9))
def test_any_arrival_at_a_vehicle_gives_the_same(seed: int) -> None:
    """The moments of a vehicle in any order and any pieces, with looks in between, against the same in order."""
    dice = random.Random(seed)
    fixes = eventful(seed)[: dice.randrange(20, 220)]
    plain, shuffled = Ledger(), Ledger()
    moments = []
    plain.live(fixes)
    vehicle = plain.judge._vehicles["trackers", "T1"]
    moments = list(vehicle.pending)
    plain.due(END_S)
    other = Vehicle("trackers", "T1", shuffled.judge._terms, shuffled.judge)
    shuffled.judge._vehicles["trackers", "T1"] = other
    other.whos, other.seq, other.fold.heard_s = list(vehicle.whos), vehicle.seq, vehicle.fold.heard_s
    dice.shuffle(moments)
    while moments:
        some = [moments.pop() for _ in range(min(len(moments), dice.choice([1, 2, 15, 50])))]
        other.pending += some
        shuffled.judge._dirty.add(("trackers", "T1"))
        if dice.random() < 0.7:
            shuffled.due(0)
    shuffled.judge._dirty.add(("trackers", "T1"))
    assert shuffled.bytes(END_S) == plain.bytes(END_S)


@settings(max_examples=20)
@given(st.integers(0, 10**9))
def test_any_pieces_any_restart_give_the_same(seed: int) -> None:
    """The same journal, asked at any moments and restarted from checkpoints anywhere, against asked once."""
    dice = random.Random(seed)
    fixes = eventful(seed)
    late = [fixes.pop(dice.randrange(len(fixes))) for _ in range(len(fixes) // 5)] if dice.random() < 0.7 else []
    plain = Ledger()
    place = 0
    while place < len(fixes):
        step = dice.randrange(1, 40)
        plain.live(fixes[place : place + step])
        place += step
        if late and dice.random() < 0.5:
            some = [late.pop() for _ in range(min(len(late), dice.randrange(1, 30)))]
            plain.batch(some, max(plain.now_s - MIDNIGHT, max(one["time_utc_s"] for one in some) - MIDNIGHT + 1))
    if late:
        plain.batch(late, max(plain.now_s - MIDNIGHT, max(one["time_utc_s"] for one in late) - MIDNIGHT + 1))
    wanted = plain.bytes(END_S)
    pieces = Ledger({})  # without a book: those of the journal come below
    pieces.records, pieces.judge = [], Trucks()
    stored: dict[bytes, bytes] = {}
    for seen in plain.records:
        pieces.judge.accept(seen)
        pieces.records.append(seen)
        pieces.now_s = seen.arrival_utc_ns // 10**9
        if dice.random() < 0.15:
            pieces.due()
        if dice.random() < 0.05:
            for key, value in pieces.judge.checkpoint():
                if value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value
            pieces.judge = Trucks()
            pieces.judge.restore(list(stored.items()))
            for again in pieces.records:  # a service goes on from a little before
                if again.kind == kinds.RULES_BOOK or again.seq > seen.seq - 5:
                    pieces.judge.accept(again)
    assert pieces.bytes(END_S) == wanted


def test_two_vehicles_do_not_touch_each_other() -> None:
    one, two = eventful(1), eventful(2)
    alone = [in_order(one), in_order(two)]
    both = Ledger()
    for a, b in zip(one, two, strict=False):
        both.live([a], "T1")
        both.live([b], "T2")
    longer, device = (one, "T1") if len(one) > len(two) else (two, "T2")
    both.live(longer[min(len(one), len(two)) :], device)
    found = both.findings(END_S)
    for fixes, device, wanted in ((one, "T1", alone[0]), (two, "T2", alone[1])):
        ledger = Ledger()
        ledger.live(fixes, device)
        shapes = [without_seqs(item) for item in ledger.findings(END_S)]
        assert shapes == [without_seqs(item) for item in found if item.device == device]
        assert wanted.count(b'"rule":') == len(shapes)
    assert {item.device for item in found} == {"T1", "T2"}


def test_a_day_behind_the_window_is_wanted_and_the_answer_is_the_same() -> None:
    """Ten minutes come 3 h late, when the window has moved on: their day is judged from the journal, once."""
    fixes = drive(21 * H, (0, 0), (5000, 0)) + drive(21 * H + 600, (5000, 0), (0, 300), load="full")
    first, lost = fixes[:60], fixes[60:80]
    rest = fixes[80:] + [one for n in range(6) for one in drive(22 * H + 900 * n, (0, 0), (5000, 0), load="empty")]
    ledger = Ledger()
    ledger.live(first)
    ledger.due()
    ledger.live(rest)
    silent_from = first[-1]["time_utc_s"]
    assert silent_from in [one.start_utc_s for one in only("offline", ledger.findings())]
    ledger.batch(lost[:10], 24 * H + 100)
    assert not ledger.due().wants
    ledger.batch(lost[10:], 24 * H + 110)
    assert not ledger.due().wants
    turn = ledger.due(24 * H + 141)
    assert [(want.source, want.device, want.to_utc_s - want.from_utc_s) for want in turn.wants] == [
        ("trackers", "T1", 86_400)
    ]
    assert not ledger.due(24 * H + 400).wants
    whole = Ledger()
    for seen in ledger.records[1:]:
        whole.add(seen.kind, seen.source, seen.device, seen.data, seen.arrival_utc_ns // 10**9 - MIDNIGHT)
    assert ledger.bytes(END_S) == whole.bytes(END_S)
    assert silent_from not in [one.start_utc_s for one in only("offline", ledger.findings())]


def test_days_before_are_wanted_too_and_leave_the_window_alone() -> None:
    ledger = Ledger()
    ledger.live(drive(21 * H, (0, 0), (5000, 0)))
    ledger.live(drive(45 * H, (0, 0), (5000, 0)))
    for n in range(6):
        ledger.live(drive(46 * H + 900 * n, (0, 0), (5000, 0), load="empty"))
    ledger.due()
    ledger.batch(drive(22 * H, (1000, 0), (1000, 2000), (0, 2000)), 48 * H)
    wants = ledger.due(48 * H + 31).wants
    assert [want.from_utc_s for want in wants] == [MIDNIGHT + 12 * H]
    assert wants[0].from_arrival_utc_ns == (MIDNIGHT + 12 * H - 120) * 10**9
    assert "off-route" in ledger.rules(48 * H + 40)


def test_a_restarted_judge_withdraws_what_an_earlier_one_told() -> None:
    """An open silence was told, the gateway stopped, and the fixes came after it began again."""
    ledger = Ledger()
    fixes = drive(21 * H, (0, 0), (5000, 0))
    ledger.live(fixes[:20])
    pairs = [(key, value) for key, value in ledger.judge.checkpoint() if value is not None]
    assert ledger.rules(21 * H + 600) == ["offline"]
    ledger.judge = Trucks()
    ledger.judge.restore(pairs)
    for seen in ledger.records:
        ledger.judge.accept(seen)
    ledger.batch(fixes[20:], 21 * H + 700)
    assert ledger.rules(21 * H + 720) == []


def restarted_at_the_end(ledger: Ledger, after_s: int) -> Ledger:
    """What another judge, with the memory of this one and no record more, says."""
    pairs = [(key, value) for key, value in ledger.judge.checkpoint() if value is not None]
    other = Ledger({})
    other.judge = Trucks()
    other.judge.restore(pairs)
    other.judge.accept(ledger.records[0])
    other.due(after_s)
    return other


def test_a_silence_of_the_gateway_is_known_to_a_judge_restarted_right_after_it() -> None:
    ledger = Ledger()
    ledger.live(drive(NIGHT, (0, 0), (3000, 0)))
    ledger.add(kinds.GATEWAY_START, "gateway", "", {}, ledger.now_s - MIDNIGHT + 900)
    ledger.due()
    other = restarted_at_the_end(ledger, END_S)
    (one,) = only("offline", ledger.findings(END_S))
    assert one.measured["not_heard_by_gateway_s"] == 900 + 120
    assert other.bytes(END_S) == ledger.bytes(END_S)


def test_a_judge_restarted_while_all_are_silent_blames_nobody() -> None:
    ledger = Ledger(files(RULES.replace("[offline]", "[offline]\nfleet_min = 2")))
    for one in drive(NIGHT, (0, 0), (3000, 0)):
        for name in ("T1", "T2", "T3"):
            ledger.live([one], name)
    ledger.due()
    after_s = ledger.now_s - MIDNIGHT + 600
    other = restarted_at_the_end(ledger, after_s)
    assert only("offline", ledger.findings(after_s)) == []
    assert other.bytes(after_s) == ledger.bytes(after_s)


def test_unreadable_memory_is_passed_over() -> None:
    ledger = Ledger()
    ledger.live(eventful(3)[:50])
    ledger.due()
    pairs = [(key, value) for key, value in ledger.judge.checkpoint() if value is not None]
    for damage in (b"", b"\x00", pairs[1][1][:-3], b"x" * 100):
        judge = Trucks()
        judge.restore([(pairs[1][0], damage), (b"judge", damage), (b"odd", b"1")])
        for seen in ledger.records:
            judge.accept(seen)
        found = [one for span in judge.due(ledger.now_s * 10**9).spans for one in span.judgements]
        assert found == ledger.findings()


def test_memory_of_a_vehicle_is_small() -> None:
    ledger = Ledger()
    for part in range(4):
        ledger.live(eventful(part, 21 * H + 3100 * part))
        ledger.due()
    pairs = ledger.judge.checkpoint()
    assert len(pairs) == 2
    assert max(len(value or b"") for _key, value in pairs) < 24_000
    ledger.due()
    assert [key for key, _value in ledger.judge.checkpoint()] == [b"judge"]


@pytest.mark.parametrize("seed", range(4))
def test_a_repeated_record_changes_nothing(seed: int) -> None:
    ledger = Ledger()
    ledger.live(eventful(seed))
    wanted = ledger.bytes(END_S)
    for seen in ledger.records:
        ledger.judge.accept(seen)
    assert ledger.bytes(END_S) == wanted


def test_a_long_event_cites_its_beginning_and_its_end() -> None:
    """3,400 fixes off the route, every fifth of them late: the first and last 500 are cited, the others counted."""
    fixes = drive(NIGHT, (0, 400), (4900, 400), kmh=5.2, step_s=1) + drive(NIGHT + 3393, (4900, 0), (4950, 0), step_s=1)
    plain, late = Ledger(), Ledger()
    plain.live(fixes)
    (one,) = plain.findings()
    assert (len(one.inputs), one.inputs_left_out) == (1000, 3393 - 1000)
    assert one.to_json()["inputs_left_out"] == 2393
    assert (one.inputs[0], one.inputs[-1]) == (1, 3393)
    vehicle = plain.judge._vehicles["trackers", "T1"]
    assert len(vehicle.fold.trail.seqs) < 1000
    for seen in sorted(
        plain.records, key=lambda seen: seen.arrival_utc_ns // 10**9 + (200 if seen.seq % 5 == 3 else 0)
    ):
        if seen.kind == kinds.POSITION:
            late.add(seen.kind, seen.source, seen.device, seen.data, seen.arrival_utc_ns // 10**9 - MIDNIGHT)
        if seen.seq % 40 == 0:
            late.due(late.now_s - MIDNIGHT + 20)
    (other,) = late.findings(late.now_s - MIDNIGHT + 20)
    assert without_seqs(other) == without_seqs(one)


def test_the_rules_need_a_book() -> None:
    ledger = Ledger({})
    ledger.records.clear()
    ledger.judge = Trucks()
    ledger.live(eventful(1))
    assert ledger.findings() == []
    ledger.load(files(RULES.replace(CLASS, "other")))
    ledger.live(eventful(2, 30 * H))
    assert ledger.findings() == []


@settings(max_examples=15)
@given(st.integers(0, 10**9))
@example(150)  # restarted after the last record, with a silence of the gateway behind it
def test_books_and_links_between_change_nothing_about_it(seed: int) -> None:
    """Rule books, second links, log-offs and restarts of the gateway among the fixes of three trucks."""
    dice = random.Random(seed)
    plain = Ledger()
    trucks = {f"T{n}": eventful(seed + n)[:150] for n in range(3)}
    books = [
        files(),
        files(RULES, {**PERMIT, "width_m": 400}),
        files(RULES.replace("limit_kmh = 80", "limit_kmh = 50")),
    ]
    time_s = 21 * H
    while any(trucks.values()):
        time_s += dice.randrange(5, 60)
        device = dice.choice([name for name, left in trucks.items() if left])
        number = dice.randrange(1, 25)
        some, trucks[device] = trucks[device][:number], trucks[device][number:]
        if dice.random() < 0.5:
            plain.live(some, device, late_s=dice.choice([1, 40]))
        else:
            plain.batch(some, plain.now_s - MIDNIGHT, device)
        kind = dice.random()
        if kind < 0.1:
            plain.load(dice.choice(books), plain.now_s - MIDNIGHT)
        elif kind < 0.2:
            plain.state(plain.now_s - MIDNIGHT, "duplicate", device=device, address="a:1", other="b:2")
        elif kind < 0.25:
            plain.state(plain.now_s - MIDNIGHT, "offline", "logged-off", device=device)
        elif kind < 0.3:
            plain.add(kinds.GATEWAY_START, "gateway", "", {}, plain.now_s - MIDNIGHT + 100)
    wanted = plain.bytes(END_S)
    pieces = Ledger({})
    pieces.records, pieces.judge = [], Trucks()
    for seen in plain.records:
        pieces.judge.accept(seen)
        pieces.records.append(seen)
        pieces.now_s = seen.arrival_utc_ns // 10**9
        if dice.random() < 0.2:
            pieces.due()
        if dice.random() < 0.05:
            pairs = [(key, value) for key, value in pieces.judge.checkpoint() if value is not None]
            judge = Trucks()
            judge.restore([(key, value) for key, value in [*stored_before(pieces), *pairs]])
            for again in pieces.records:
                if again.kind == kinds.RULES_BOOK:
                    judge.accept(again)
            pieces.judge = judge
    assert pieces.bytes(END_S) == wanted


def stored_before(ledger: Ledger) -> list[tuple[bytes, bytes]]:
    """Everything that the judge has in memory, as if each vehicle had just been judged."""
    judge = ledger.judge
    return [(b"vehicle:" + "\n".join(name).encode(), one.stored()) for name, one in judge._vehicles.items()]
