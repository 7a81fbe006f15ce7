"""How often a judge is asked decides when something is told, never what is told in the end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import canonical, kinds
from gateway.rules.judging import Seen
from gateway.rules.trucks import Trucks
from tests.rules.courses import CLASS, MIDNIGHT, PLACES, PLATE, RULES, H, Ledger, drive, files, geojson, only, stand

NEVER = 10**9
END_S = 80 * H


def asked(records: Sequence[Seen], every: int) -> Ledger:
    """The same journal, judged by one who asks after every so many records."""
    ledger = Ledger({})
    ledger.records, ledger.judge = [], Trucks()
    for number, seen in enumerate(records, 1):
        ledger.judge.accept(seen)
        ledger.records.append(seen)
        ledger.now_s = seen.arrival_utc_ns // 10**9
        if number % every == 0:
            ledger.due()
    return ledger


def at_the_end(records: Sequence[Seen], every: int) -> bytes:
    """Everything that stands where the journal ends, without waiting."""
    ledger = asked(records, every)
    ledger.end()
    return canonical.encode([ledger.known[key].to_json() for key in sorted(ledger.known)])


def after_the_quiet(records: Sequence[Seen], every: int) -> bytes:
    """Everything that stands when it was quiet for long."""
    ledger = asked(records, every)
    for after_s in (15, 60, 400, 700):
        ledger.due(ledger.now_s - MIDNIGHT + after_s)
    return ledger.bytes(END_S)


def course(dice: random.Random, start_s: int, *, behind_s: int) -> Ledger:
    """Three trucks for an hour: late fixes, second links, silences of one, of all, and of the gateway."""
    made = Ledger(files(RULES.replace("[offline]", "[offline]\nfleet_min = 2")))
    trucks = {f"T{n}": fixes(dice, start_s, n) for n in range(3)}
    held: dict[str, list[dict[str, Any]]] = {name: [] for name in trucks}
    time_s = start_s
    while any(trucks.values()):
        time_s += dice.choice([10, 10, 10, 20, 40])
        if dice.random() < 0.01:
            time_s += dice.choice([200, 400])
        for name, left in trucks.items():
            some = [one for one in left if one["time_utc_s"] - MIDNIGHT <= time_s - behind_s]
            del left[: len(some)]
            if some:
                send(made, dice, name, some, held[name], time_s)
        if dice.random() < 0.01:
            time_s += 100
            made.add(kinds.GATEWAY_START, "gateway", "", {}, time_s)
    for name, left in held.items():
        if left:
            made.batch(left, time_s + dice.choice([0, 5, 3000]), name)
    return made


def send(
    made: Ledger, dice: random.Random, name: str, some: list[dict[str, Any]], held: list[dict[str, Any]], time_s: int
) -> None:
    """Now, later together with what comes then, or never."""
    kind = dice.random()
    if kind < 0.1:
        made.state(time_s, "duplicate", device=name, address=f"a:{dice.randrange(30)}", other="b:2")
    if kind < 0.25:
        held += some
    elif kind < 0.4 and held:
        made.batch([*some, *held], time_s, name)
        held.clear()
    elif kind < 0.95:
        for one in some:
            made.add(kinds.POSITION, "trackers", name, {"class": CLASS, "plate": PLATE, **one}, time_s)


def fixes(dice: random.Random, start_s: int, number: int) -> list[dict[str, Any]]:
    """One truck."""
    found: list[dict[str, Any]] = []
    time_s, place = start_s, (100.0 * number, 0.0)
    while time_s < start_s + 3000:
        state: dict[str, Any] = {
            "load": dice.choice(["full", "full", "empty"]),
            "cover": dice.choice(["closed", "open"]),
        }
        if dice.random() < 0.7:
            goal = (dice.uniform(0, 5000), dice.choice([0, 0, 300, 1200]))
            piece = drive(time_s, place, goal, kmh=dice.choice([30, 60, 95]), **state)[:30]
            place = goal if len(piece) < 30 else place
        else:
            piece = stand(time_s, dice.choice([60, 300]), *place, **state)
        found += piece
        time_s = piece[-1]["time_utc_s"] - MIDNIGHT + 10
    return found


@settings(max_examples=12)
@given(st.integers(0, 10**9), st.sampled_from([0, 0, 30, 600]), st.sampled_from([21 * H, 11 * H + 1800]))
def test_late_fixes_second_links_and_silences_give_the_same_however_often_it_is_asked(
    seed: int, behind_s: int, start_s: int
) -> None:
    records = course(random.Random(seed), start_s, behind_s=behind_s).records
    cut = records[: random.Random(seed).randrange(len(records) // 2, len(records) + 1)]
    assert at_the_end(cut, 1) == at_the_end(cut, 7) == at_the_end(cut, NEVER)
    assert after_the_quiet(records, 1) == after_the_quiet(records, 7) == after_the_quiet(records, NEVER)


# ---------------------------------------------------------------- one by one


def test_what_waits_for_more_at_the_end_of_the_journal_is_found_by_who_asks_once() -> None:
    """A truck whose clock lies behind, so that its second link stands later than all that comes after it."""
    made = Ledger()
    made.live(drive(21 * H, (0, 0), (3000, 0)), late_s=1000)
    made.state(made.now_s - MIDNIGHT, "duplicate", address="a:1", other="b:2")
    made.live(drive(21 * H + 310, (3000, 0), (5000, 0)), late_s=1000)
    often = asked(made.records, 1)
    assert often.judge._vehicles["trackers", "T1"].waits_s > often.now_s
    often.end()
    (item,) = only("duplicate-identity", [often.known[key] for key in sorted(often.known)])
    assert item.measured["trip_known_time_permille"] > 0
    assert at_the_end(made.records, 1) == at_the_end(made.records, NEVER)


def test_addresses_of_many_second_links_are_all_looked_at() -> None:
    made = Ledger()
    for n in range(150):
        made.live(drive(21 * H + 20 * n, (20.0 * n, 0), (20.0 * n + 10, 0), kmh=3.6))
        made.state(21 * H + 20 * n + 11, "duplicate", address=f"a:{n:03d}", other="b:2")
    for every in (1, 7, NEVER):
        (item,) = only("duplicate-identity", asked(made.records, every).findings(40 * H))
        assert item.measured["turns"] == 150
        assert item.measured["addresses"] == [f"a:{n:03d}" for n in range(8)]
        vehicle = asked(made.records, every).judge._vehicles["trackers", "T1"]
        assert len(vehicle.notes) <= 150
    assert after_the_quiet(made.records, 1) == after_the_quiet(made.records, NEVER)


def test_texts_of_second_links_go_with_the_window() -> None:
    made = Ledger()
    for n in range(1000):
        made.state(21 * H + n, "duplicate", address=f"a:{n:03d}", other="b:2")
    made.due()
    assert len(made.judge._vehicles["trackers", "T1"].notes) <= 8 * 32


def test_a_silence_of_one_is_taken_back_when_it_turns_out_to_be_one_of_all() -> None:
    """Some fall silent within a minute: the first is told alone before the others count as silent."""
    made = Ledger(files(RULES.replace("[offline]", "[offline]\nfleet_min = 2\nfleet_s = 60")))
    for n in range(4):
        way = drive(21 * H, (0, 0), (2000, 0))
        made.live([one for one in way if one["time_utc_s"] - MIDNIGHT <= 21 * H + 140 + 15 * n], f"T{n}")
    records = sorted(made.records, key=lambda seen: seen.arrival_utc_ns)
    records = [Seen(n, *_rest(seen)) for n, seen in enumerate(records)]
    often, once = asked(records, 1), asked(records, NEVER)
    for after_s in range(10, 600, 10):
        often.due(21 * H + 190 + after_s)
    assert often.findings(21 * H + 800) == once.findings(21 * H + 800)
    assert not often.findings(21 * H + 800)


def _rest(seen: Seen) -> tuple[Any, ...]:
    return seen.kind, seen.source, seen.device, seen.arrival_utc_ns, seen.data, seen.raw


@pytest.mark.parametrize("every", [1, 7, NEVER])
def test_a_past_day_judged_from_the_journal_ends_as_it_did(every: int) -> None:
    """Off the route, then silent to the end of the day; one fix of that day comes when it is busy on the next."""
    before = drive(11 * H, (0, 400), (4900, 400), kmh=10)[:100]
    late = [before.pop(40)]
    after = [one for n in range(6) for one in drive(13 * H + 900 * n, (0, 0), (5000, 0), load="empty")]
    more = drive(16 * H + 10, (0, 0), (5000, 0), load="empty")
    made, plain = Ledger(), Ledger()
    made.live([*before, *after])
    made.batch(late, 16 * H)
    made.live(more)
    plain.live(sorted([*before, *late], key=lambda one: one["time_utc_s"]) + after + more)
    end_s = made.now_s - MIDNIGHT + 20
    found = asked(made.records, every).findings(end_s)
    ends = {one.rule: one.end_utc_s for one in found if one.start_utc_s < MIDNIGHT + 12 * H}
    assert ends["offline"] == MIDNIGHT + 12 * H
    assert ends["off-route"] == before[-1]["time_utc_s"]
    shapes = [(one.rule, one.start_utc_s, one.end_utc_s, one.measured) for one in found]
    assert shapes == [(one.rule, one.start_utc_s, one.end_utc_s, one.measured) for one in plain.findings(end_s)]


@pytest.mark.parametrize("pause_s", [0, 20, 300])
def test_a_long_silence_of_all_explains_the_same_whether_anybody_asked_in_it_or_not(pause_s: int) -> None:
    """Nobody is awake any more when the first of them is heard again."""
    made = Ledger(files(RULES.replace("[offline]", "[offline]\nfleet_min = 2")))
    for part in (21 * H, 24 * H):
        for n, one in enumerate(drive(part, (0, 0), (2000, 0))):
            made.live([one], f"T{n % 3}")
    last_s = 21 * H + 201
    ledger = Ledger({})
    ledger.records, ledger.judge = [], Trucks()
    for seen in made.records:
        if pause_s and last_s + MIDNIGHT < seen.arrival_utc_ns // 10**9 == 24 * H + MIDNIGHT + 1:
            for after_s in range(pause_s, 2 * H, pause_s):
                ledger.due(last_s + after_s)
        ledger.judge.accept(seen)
    assert [one.rule for one in ledger.findings(24 * H + 220)] == []


def test_two_areas_entered_in_the_same_second_are_two_events() -> None:
    twice: list[tuple[str, str, tuple[float, float, float, float], dict[str, Any]]] = [
        ("closed", "no-entry", (2000, 1000, 2400, 1400), {}),
        ("also", "no-entry", (1990, 990, 2410, 1410), {}),
    ]
    places = [place for place in PLACES if place[0] != "closed"] + twice
    made = Ledger({**files(), "places.geojson": geojson(places)})
    made.live(drive(21 * H, (2200, 700), (2200, 1700), kmh=72, load="empty"))
    for every in (1, 7, NEVER):
        found = only("no-entry", asked(made.records, every).findings(30 * H))
        assert sorted(one.subject for one in found) == ["also", "closed"]
        assert len({one.id for one in found}) == 2
        assert {one.to_json()["subject"] for one in found} == {"also", "closed"}
        assert len({one.start_utc_s for one in found}) == 1, "the same second: only the place tells them apart"


def test_records_of_vehicles_without_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.rules.trucks.VEHICLES_MAX", 1)
    made = Ledger()
    made.live(drive(21 * H, (0, 0), (300, 0)), "T1")
    made.due()
    made.live(drive(21 * H, (0, 0), (300, 0)), "T2")
    assert made.judge.left_out == 4
