"""The desk of orders on the real store: recorded before it is done, done once, whatever is repeated or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.queries import Queries
from gateway import metrics, orders
from gateway.core.errors import StoreFull
from gateway.core.ports import Order, Outcome
from gateway.core.record import Draft, Record, StateChange, parse_leaf
from gateway.ingest import Ingest
from gateway.orders import Desk
from tests.gateway.doubles import Moment, at

ORDER = Order("trucks", "13800000017", "locate", {"timeout_s": 20}, "local:wang", "k1", "Wang")


@dataclass
class Taker:
    """Port `OrderTaker`: answers what a test says, once it may."""

    outcome: Outcome = field(default_factory=lambda: Outcome("done", "the device has done it", {"lat_e7": 5}))
    free: asyncio.Event = field(default_factory=asyncio.Event)
    taken: list[tuple[Order, int]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, order: Order, order_seq: int) -> Outcome:
        self.taken.append((order, order_seq))
        self.begun.set()
        await self.free.wait()
        return self.outcome


class Rig:
    """A desk on a store; it can be opened again, and filled."""

    def __init__(self, folder: Path) -> None:
        self.database = Database.open(folder, "gw-0001.example", commit_window_ms=0, reserve_bytes=0)
        self.moment = Moment()
        self.memory = Memory(self.database)
        self.full = False
        self.ingest = Ingest(Journal(self.database), self.moment, self.memory)
        self.desk = self.again()
        self.taker = Taker()
        self.desk.serve("trucks", self.taker)

    def again(self) -> Desk:
        return Desk(self, self.memory, self.moment)

    async def append(self, drafts: list[Draft], state: list[StateChange] = []) -> int:  # noqa: B006
        if self.full:
            raise StoreFull("no room in the test's store")
        return await self.ingest.append(drafts, state)

    def records(self) -> list[Record]:
        return [parse_leaf(leaf) for _, leaf in Queries(self.database).records(limit=1000)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.database.close()


def submit(rig: Rig, order: Order = ORDER, desk: Desk | None = None) -> Outcome:
    async def one() -> Outcome:
        rig.taker.free.set()
        return await (desk or rig.desk).submit(order)

    return asyncio.run(one())


def test_an_order_is_a_record_before_the_device_hears_of_it_and_so_is_its_outcome(rig: Rig) -> None:
    async def scenario() -> Outcome:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(rig.desk.submit(ORDER))
            await rig.taker.begun.wait()
            (record,) = rig.records()
            assert (record.kind, record.source, record.device) == ("operator.action", "trucks", "13800000017")
            assert record.data == {
                "action": "device.locate", "actor": "local:wang", "claimed_by": "Wang", "key": "k1",
                "parameters": {"timeout_s": 20}, "target": "trucks/13800000017",
            }  # fmt: skip
            assert rig.taker.taken == [(ORDER, record.seq)]
            rig.taker.free.set()
        return task.result()

    outcome = asyncio.run(scenario())
    assert outcome == Outcome("done", "the device has done it", {"lat_e7": 5}, 0)
    assert rig.records()[1].data == {
        "action": "locate", "order": 0, "outcome": "done", "detail": "the device has done it", "result": {"lat_e7": 5},
    }  # fmt: skip


def test_the_same_key_again_does_nothing_also_after_a_restart(rig: Rig) -> None:
    first = submit(rig)
    assert submit(rig) == first
    assert submit(rig, desk=rig.again()) == first
    assert len(rig.taker.taken) == 1
    assert len(rig.records()) == 2


@pytest.mark.parametrize(
    "changes", [{"device": "2"}, {"source": "other"}, {"action": "track"}, {"parameters": {"timeout_s": 21}}]
)
def test_a_key_of_another_order_is_refused(rig: Rig, changes: dict[str, Any]) -> None:
    submit(rig)
    outcome = submit(rig, replace(ORDER, **changes))
    assert (outcome.state, outcome.seq) == ("refused", 0)
    assert "another order" in outcome.detail
    assert len(rig.records()) == 2


def test_the_same_key_twice_at_once_is_one_order(rig: Rig) -> None:
    async def scenario() -> tuple[Outcome, Outcome]:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(rig.desk.submit(ORDER))
            await asyncio.sleep(0)
            second = await rig.desk.submit(ORDER)
            rig.taker.free.set()
        return first.result(), second

    first, second = asyncio.run(scenario())
    assert first.state == "done"
    assert (second.state, "under way" in second.detail) == ("refused", True)
    assert len(rig.taker.taken) == 1


def test_an_order_that_a_crash_cut_off_is_not_repeated(rig: Rig) -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(rig.desk.submit(ORDER))
            await rig.taker.begun.wait()
            task.cancel()

    asyncio.run(scenario())
    for desk, seq in ((rig.desk, 0), (rig.again(), None)):  # the commit of a record cannot hold its own seq
        outcome = submit(rig, desk=desk)
        assert (outcome.state, outcome.seq) == ("timeout", seq)
        assert "nobody knows" in outcome.detail
    assert len(rig.taker.taken) == 1


def test_a_full_store_does_nothing_and_the_key_stays_free(rig: Rig) -> None:
    rig.full = True
    with pytest.raises(StoreFull):
        submit(rig)
    assert rig.taker.taken == []
    rig.full = False
    assert submit(rig).state == "done"


def test_a_store_that_fills_up_meanwhile_costs_the_record_not_the_answer(rig: Rig) -> None:
    before = metrics.ORDERS_UNRECORDED._value.get()

    async def scenario() -> Outcome:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(rig.desk.submit(ORDER))
            await rig.taker.begun.wait()
            rig.full = True
            rig.taker.free.set()
        return task.result()

    outcome = asyncio.run(scenario())
    assert (outcome.state, outcome.seq) == ("done", 0)
    assert "not recorded" in outcome.detail
    assert metrics.ORDERS_UNRECORDED._value.get() == before + 1
    assert submit(rig).state == "done"
    assert len(rig.taker.taken) == 1


def test_a_source_that_takes_no_orders_is_unknown_and_that_is_recorded(rig: Rig) -> None:
    rig.desk.serve("trucks", None)
    outcome = submit(rig)
    assert outcome.state == "unknown"
    assert "'trucks'" in outcome.detail
    assert [record.kind for record in rig.records()] == ["operator.action", "device.reply"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"parameters": {"speed": 1.5}}, "float"),
        ({"parameters": {"text": "e\u0301"}}, "normal form C"),
        ({"parameters": {"größe": 1}}, "ASCII"),
        ({"key": ""}, "key is empty"),
        ({"key": "k" * 300}, "300 characters"),
        ({"actor": ""}, "actor is empty"),
        ({"device": "\ud800"}, "device"),
    ],
)
def test_what_cannot_be_recorded_is_not_done(rig: Rig, changes: dict[str, Any], text: str) -> None:
    outcome = submit(rig, replace(ORDER, **changes))
    assert outcome.state == "refused"
    assert text in outcome.detail
    assert (rig.records(), rig.taker.taken) == ([], [])


def test_a_crowd_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "AT_ONCE_MAX", 1)

    async def scenario() -> Outcome:
        async with asyncio.TaskGroup() as group:
            group.create_task(rig.desk.submit(ORDER))
            await rig.taker.begun.wait()
            outcome = await rig.desk.submit(replace(ORDER, key="k2"))
            rig.taker.free.set()
        return outcome

    outcome = asyncio.run(scenario())
    assert (outcome.state, "1 orders are under way" in outcome.detail) == ("refused", True)


def test_keys_are_forgotten_after_a_day_or_when_there_are_too_many(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> list[str]:
        return [key.decode() for key, _ in rig.memory.items("orders")]

    for number in range(3):
        submit(rig, replace(ORDER, key=f"k{number}"))
    rig.moment.instant = at(24 * 3600)
    submit(rig, replace(ORDER, key="late"))
    assert keys() == ["late"]
    monkeypatch.setattr(orders, "KEYS_MAX", 2)
    for number in range(4):
        submit(rig, replace(ORDER, key=f"n{number}"))
    assert keys() == ["n2", "n3"]


def test_a_large_result_is_in_the_record_and_not_in_the_memory(rig: Rig) -> None:
    rig.taker.outcome = Outcome("done", "ok", {"text": "x" * 5000})
    assert len(submit(rig).result["text"]) == 5000
    assert len(rig.records()[1].data["result"]["text"]) == 5000
    assert submit(rig, desk=rig.again()).result == {}
