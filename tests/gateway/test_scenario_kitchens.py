"""The kitchens of the demo and a street's twelve hours: files are a good rule book, the judge finds what is planted."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.fleet.kitchens import Fume as Measured
from drivers.fleet.kitchens import Kitchen
from drivers.hj212 import codec, dialect
from drivers.hj212.simulated import STS, DialectName, moment
from firmware_profiles.loader import load_monitor
from gateway import devices
from gateway.core import canonical, kinds
from gateway.core.finding import Judgement
from gateway.rules.book import load_book, records_of
from gateway.rules.fume import Fume
from gateway.rules.judging import Seen, Turn
from gateway.scenario import Expected
from gateway.scenario_kitchens import (
    BUS_CLASS,
    BUS_SOURCE,
    CLASS,
    COOKS,
    PLANTS,
    SOURCE,
    STREET_S,
    KitchenScenario,
    kitchens_scenario,
    street,
)

NOW = 1_795_318_000
NINE = 1_795_309_200
"""09:00 in Beijing."""
ROUND_THE_CLOCK = [NOW + hour * 3600 for hour in range(0, 24, 7)]
Found = dict[tuple[str, str, str, int], Judgement]


class Reader:
    """Frames of a monitor as the records hold them."""

    def __init__(self) -> None:
        names: tuple[DialectName, ...] = ("fume-d1", "fume-d2", "fume-d3")
        self._dialects = {}
        for name in names:
            loaded = load_monitor(name)
            self._dialects[name] = dialect.compile(loaded.profile, loaded.ref)

    def data(self, kitchen: Kitchen, seen: Measured, name: DialectName) -> dict[str, Any]:
        """`data` of the record of one 2011, by way of the bytes."""
        sent = codec.Message(
            qn="20260921221320000", st=STS[name], cn="2011", pw="123456", mn=kitchen.identity, flag=5,
            cp=moment(seen, name),
        )  # fmt: skip
        (frame,) = codec.Decoder().feed(codec.encode(sent))
        assert isinstance(frame, codec.Frame)
        message = codec.parse_frame(frame)
        taken = self._dialects[name].time_utc_s(message.params["DataTime"])
        values = self._dialects[name].read(message.factors)
        return {"class": CLASS, "site": kitchen.name, "message": "2011", "taken_utc_s": taken, "values": values}


def rows_of(told: KitchenScenario, *, live: bool) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """(arrival in UTC seconds, MN, data) in the order of arrival; what is late comes when there is a network again.
    `live`: at the pace of the clock, else compressed."""
    reader = Reader()
    clock = told.clock(0.0)
    pending: list[tuple[float, int, str, dict[str, Any]]] = []
    order = 0
    for kitchen, habits in zip(told.kitchens, told.habits, strict=True):
        end = kitchen.end_utc_s or told.now_utc_s
        for utc_s in range(kitchen.start_utc_s, end, kitchen.interval_s):
            if (seen := kitchen.measure(utc_s)) is None:
                continue
            late = kitchen.upset("late", utc_s)
            sent_s: float = late.to_utc_s if late else utc_s
            sent_s = sent_s + 1 if live else clock.mono_s(sent_s) + told.now_utc_s
            order += 1
            row = (sent_s, order, kitchen.identity, reader.data(kitchen, seen, habits.dialect))
            heapq.heappush(pending, row)
    while pending:
        sent_s, _, mn, data = heapq.heappop(pending)
        yield sent_s, mn, data


def bus_rows(told: KitchenScenario) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """What is read of the concentrators: no time of their own."""
    for step in range(2 * round(told.for_s)):
        at_s = told.now_utc_s + step / 2
        for kitchen in told.bus_kitchens:
            seen = kitchen.measure(int(at_s))
            assert seen is not None
            values = [
                {"quantity": "fume", "statistic": "rtd", "value_e6": seen.fume_e2 * 10_000, "quality": "good"},
                {"quantity": "fan_state", "statistic": "state", "state": "on" if seen.fan_on else "off"},
                {"quantity": "purifier_state", "statistic": "state", "state": "on" if seen.purifier_on else "off"},
            ]
            yield at_s, kitchen.identity, {"class": BUS_CLASS, "site": kitchen.name, "values": values}


def records(told: KitchenScenario, *, live: bool) -> list[Seen]:
    """What a gateway would store, in the order of arrival."""
    rows = [(at_s, SOURCE, mn, data) for at_s, mn, data in rows_of(told, live=live)]
    rows += [(at_s, BUS_SOURCE, name, data) for at_s, name, data in bus_rows(told)]
    rows.sort(key=lambda row: row[0])
    begin_ns = int(((told.start_utc_s if live else told.now_utc_s) - 10) * 1e9)
    books = [
        Seen(n, one.kind, one.source, one.device, begin_ns, one.data, one.raw)
        for n, one in enumerate(records_of(told.files))
    ]
    return books + [
        Seen(len(books) + n, kinds.READING, source, device, int(at_s * 1e9), data)
        for n, (at_s, source, device, data) in enumerate(rows)
    ]


def keep(found: Found, judge: Fume, turn: Turn, seen: list[Seen]) -> None:
    """As gateway.judge does: wanted days are judged from the journal; what a span lists no more is withdrawn."""
    spans = list(turn.spans)
    for want in turn.wants:
        own = [one for one in seen if (one.source, one.device) == (want.source, want.device)]
        spans.append(judge.history(want, [one for one in own if one.arrival_utc_ns >= want.from_arrival_utc_ns]))
    for span in spans:
        for key in [one for one in found if one[:2] == (span.source, span.device)]:
            if span.from_utc_s <= key[3] < span.to_utc_s:
                del found[key]
        found |= {(span.source, span.device, one.rule, one.start_utc_s): one for one in span.judgements}


def judged(told: KitchenScenario, every: int = 100, *, live: bool = False) -> Found:
    """All findings, a while after the end, with a look each `every` records."""
    found: Found = {}
    judge, seen = Fume(), records(told, live=live)
    for number, one in enumerate(seen):
        judge.accept(one)
        if number % every == every - 1:
            keep(found, judge, judge.due(one.arrival_utc_ns), seen[: number + 1])
    end_s = seen[-1].arrival_utc_ns / 1e9
    for after_s in (20, 60, 120):
        keep(found, judge, judge.due(int((end_s + after_s) * 1e9)), seen)
    return found


def compare(told: KitchenScenario, found: Found) -> tuple[list[Expected], list[tuple[str, str, str, int]]]:
    """(planted and not found, found and not planted)."""
    left, missing = dict(found), []
    for one in told.planted:
        match = next(
            (
                key
                for key, judgement in left.items()
                if key[1:3] == (one.device, one.rule)
                and judgement.start_utc_s <= one.end_utc_s + 120
                and (judgement.end_utc_s or judgement.start_utc_s) >= one.start_utc_s - 120
            ),
            None,
        )
        if match is None:
            missing.append(one)
        else:
            del left[match]
    return missing, list(left)


@pytest.mark.parametrize("now_utc_s", ROUND_THE_CLOCK)
def test_what_is_planted_in_the_demo_is_found_and_nothing_else(now_utc_s: int) -> None:
    told = kitchens_scenario(now_utc_s)
    found = judged(told)
    assert compare(told, found) == ([], [])
    assert all(one.end_utc_s is not None for one in found.values())


@pytest.mark.slow
def test_twelve_hours_of_a_street_give_what_is_planted_twice_byte_identically() -> None:
    told = street(NINE)
    first, second = judged(told, live=True), judged(told, every=777, live=True)
    assert compare(told, first) == ([], [])

    def bytes_of(found: Found) -> list[bytes]:
        return [canonical.encode(found[key].to_json()) for key in sorted(found)]

    assert bytes_of(first) == bytes_of(second)


def test_six_restaurants_and_some_do_nothing_wrong() -> None:
    told = kitchens_scenario(NOW)
    assert len(told.kitchens) == len(COOKS) == 4
    assert len(told.bus_kitchens) == 2
    wrong = {one.device for one in told.planted}
    assert {one.identity for one in (*told.kitchens, *told.bus_kitchens)} - wrong == {
        told.kitchens[3].identity,
        told.bus_kitchens[1].identity,
    }


def test_a_street_has_every_plant_and_each_fifth_kitchen_has_none() -> None:
    told = street(NINE)
    assert len({one.identity for one in told.kitchens}) == 20
    assert len({one.device for one in told.planted}) == 16
    rules = {one.rule for one in told.planted}
    assert rules == {plant for plant in PLANTS if plant != "fume-converted"}
    assert {habits.edition for habits in told.habits} == {2005, 2017, 2025}
    assert Counter(upset.kind for one in told.kitchens for upset in one.upsets)["late"] == 20
    assert told.now_utc_s - told.start_utc_s == STREET_S


@pytest.mark.parametrize("told", [kitchens_scenario(NOW), street(NINE)], ids=["demo", "street"])
def test_files_are_accepted_without_a_warning(told: KitchenScenario, tmp_path: Path) -> None:
    book = load_book(told.files)
    assert book.warnings == ()
    assert len(book.kitchens) == len(told.kitchens) + len(told.bus_kitchens)
    for kitchen in told.kitchens:
        assert book.kitchen_of(SOURCE, kitchen.identity, told.now_utc_s) is not None
    file = tmp_path / "devices.toml"
    file.write_text(told.devices_toml)
    listed = devices.load(file, protocol="hj212")
    assert set(listed.devices) == {kitchen.identity for kitchen in told.kitchens}


def test_the_same_now_gives_the_same_scenario() -> None:
    assert kitchens_scenario(NOW) == kitchens_scenario(NOW)
    assert street(NINE) == street(NINE)
