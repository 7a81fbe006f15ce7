"""Taking in: order, refusals in their place, steps of the clock before what follows them, a full store."""

import asyncio
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import kinds
from gateway.core.errors import StoreFull
from gateway.core.record import (
    LEAF_SIZE_MAX_BYTES,
    Artifact,
    Draft,
    StateChange,
    check_draft,
    encode_leaf,
)
from gateway.ingest import REFUSED_ALARM_COUNT, REFUSED_RAW_MAX_BYTES, Ingest
from tests.gateway.doubles import MemoryJournal, Moment, at

GOOD = Draft("station.file", "station-1", "cam", {"size": 1})
BAD = Draft("station.file", "station-1", "cam", {"speed": 1.5})


def step(epoch: int) -> tuple[Draft, Any]:
    return Draft(kinds.CLOCK_STEP, "gateway", "", {"n": epoch}), at(1, epoch)


def test_drafts_are_stored_in_order_with_the_time_of_their_arrival() -> None:
    journal, clock = MemoryJournal(), Moment(at(5))
    ingest = Ingest(journal, clock)
    assert asyncio.run(ingest.append([GOOD, GOOD], [StateChange("station-1", b"k", b"v")])) == 0
    clock.instant = at(6)
    assert asyncio.run(ingest.append([GOOD])) == 2
    assert [instant for _, instant in journal.rows] == [at(5), at(5), at(6)]
    assert journal.get("station-1", b"k") == b"v"


def test_state_alone_is_stored() -> None:
    journal = MemoryJournal()
    asyncio.run(Ingest(journal, Moment()).append([], [StateChange("station-1", b"k", b"v")]))
    assert journal.get("station-1", b"k") == b"v"


@pytest.mark.parametrize(
    ("kind", "essential"),
    [
        ("station.file", False),
        ("position", False),
        (kinds.INGEST_REFUSED, False),
        (kinds.ALARM, True),
        (kinds.CLOCK_STATE, True),
        (kinds.BEACON, True),
        (kinds.GATEWAY_START, True),
        (kinds.UPLINK_FORK, True),
        (kinds.RETENTION_EXPIRE, True),
    ],
)
def test_only_the_gateways_own_records_may_use_the_reserve(kind: str, essential: bool) -> None:
    journal = MemoryJournal()
    asyncio.run(Ingest(journal, Moment()).append([Draft(kind, "gateway", "", {})]))
    assert journal.essential == [essential]


def test_a_mixed_call_is_ordinary() -> None:
    journal = MemoryJournal()
    asyncio.run(Ingest(journal, Moment()).append([Draft(kinds.ALARM, "gateway", "", {}), GOOD]))
    assert journal.essential == [False, False]


# ---------------------------------------------------------------- steps of the clock


def test_steps_are_stored_before_the_records_of_their_epoch() -> None:
    journal, clock = MemoryJournal(), Moment(at(1, 9))
    clock.steps = [step(8), step(9)]
    asyncio.run(Ingest(journal, clock).append([GOOD]))
    assert journal.kinds() == [kinds.CLOCK_STEP, kinds.CLOCK_STEP, "station.file"]
    assert [instant.epoch for _, instant in journal.rows] == [8, 9, 9]
    assert journal.essential == [True, True, False]


def test_steps_that_cannot_be_stored_come_first_next_time() -> None:
    journal, clock = MemoryJournal(full="everything"), Moment(at(1, 8))
    clock.steps = [step(8)]
    ingest = Ingest(journal, clock)
    with pytest.raises(StoreFull):
        asyncio.run(ingest.append([GOOD]))
    assert journal.rows == []
    journal.full = "no"
    asyncio.run(ingest.append([GOOD]))
    assert journal.kinds() == [kinds.CLOCK_STEP, "station.file"]


def test_order_holds_when_many_append_while_the_clock_steps() -> None:
    """No record of a new epoch lies before its step, whoever awaits what."""

    class SlowJournal(MemoryJournal):
        async def append(self, rows: Any, state: Any = (), *, essential: bool = False) -> int:
            first = await super().append(rows, state, essential=essential)  # the place is given at the call
            await asyncio.sleep(0)
            return first

    journal, clock = SlowJournal(), Moment(at(0, 1))
    ingest = Ingest(journal, clock)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                if number % 10 == 5:
                    epoch = clock.instant.epoch + 1
                    clock.instant = at(number, epoch)
                    clock.steps.append(step(epoch))
                group.create_task(ingest.append([GOOD]))
                await asyncio.sleep(0)

    asyncio.run(run())
    epoch = 1
    for draft, instant in journal.rows:
        epoch += draft.kind == kinds.CLOCK_STEP
        assert instant.epoch == epoch
    assert epoch == 6


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        (BAD, "float is not allowed"),
        (Draft("station.file", "station-1", "e\u0301", {}), "normal form C"),
        (Draft("station.file", "station-1", "\ud800", {}), "normal form C|lone surrogate"),
        (Draft("station.file", "station-1", "", {"n": 2**53}), "decimal string"),
        (Draft("station.file", "station-1", "", {"ключ": 1}), "ASCII"),
        (Draft("station.file", "station-1", "", {"b": b"x"}), "bytes is not allowed"),
        (Draft("frame", "station-1", "", {}, raw=b"x" * 250_000), "bytes as a leaf"),
        (Draft("frame", "station-1", "", {"t": "x" * 300_000}), "bytes as a leaf"),
    ],
)
def test_what_cannot_be_a_leaf_is_stored_as_a_refusal_in_its_place(draft: Draft, reason: str) -> None:
    journal = MemoryJournal()
    asyncio.run(Ingest(journal, Moment()).append([GOOD, draft, GOOD], [StateChange("s", b"k", b"v")]))
    assert journal.kinds() == ["station.file", kinds.INGEST_REFUSED, "station.file"]
    stored = journal.rows[1][0]
    check_draft(stored, at())
    assert len(encode_leaf(stored, at(), 2**53 - 1, b"\xff" * 16)) <= LEAF_SIZE_MAX_BYTES
    assert stored.data["kind"] == draft.kind
    assert stored.source == "station-1"
    assert any(word in stored.data["reason"] for word in reason.split("|"))


def test_a_refusal_keeps_the_first_64_kib_and_the_hash_of_all() -> None:
    raw = bytes(range(256)) * 1000
    journal = MemoryJournal()
    asyncio.run(Ingest(journal, Moment()).append([Draft("frame", "s", "", {}, raw=raw)]))
    stored = journal.rows[0][0]
    assert stored.raw == raw[:REFUSED_RAW_MAX_BYTES]
    assert stored.data["raw_of"] == "raw"
    assert stored.data["raw_size_bytes"] == len(raw)
    assert stored.data["raw_sha256"] == hashlib.sha256(raw).hexdigest()


def test_a_refusal_without_raw_bytes_keeps_its_data_and_its_artifacts() -> None:
    item = Artifact("ab" * 32, 5, "video/mp4", "e\u0301.mp4", "65cc812e6d7034")
    journal = MemoryJournal()
    asyncio.run(Ingest(journal, Moment()).append([Draft("station.file", "s", "", {"speed": 1.5}, artifacts=(item,))]))
    stored = journal.rows[0][0]
    assert (stored.raw, stored.data["raw_of"]) == (b"{'speed': 1.5}", "data")
    assert stored.artifacts == (Artifact("ab" * 32, 5, "video/mp4", "é.mp4", item.name_hex),)


@given(
    text=st.text(max_size=400),
    data=st.dictionaries(
        st.text(max_size=5),
        st.one_of(st.integers(), st.floats(), st.text(max_size=50), st.binary(max_size=9), st.none()),
        max_size=5,
    ),
)
def test_anything_is_stored_as_it_is_or_as_a_refusal(text: str, data: dict[str, Any]) -> None:
    journal = MemoryJournal()
    asyncio.run(Ingest(journal, Moment()).append([Draft("frame", "s", text, data)]))
    (row,) = journal.rows
    check_draft(row[0], row[1])
    assert row[0].kind in {"frame", kinds.INGEST_REFUSED}


def test_refusals_in_a_row_raise_one_alarm_which_a_good_record_clears() -> None:
    journal = MemoryJournal()
    ingest = Ingest(journal, Moment())
    for _ in range(REFUSED_ALARM_COUNT - 1):
        asyncio.run(ingest.append([BAD]))
    assert journal.alarms() == []
    for _ in range(5):
        asyncio.run(ingest.append([BAD]))
    assert journal.alarms() == [("ingest.refused", "station-1", "raised")]
    asyncio.run(ingest.append([Draft("station.file", "station-2", "", {})]))
    assert len(journal.alarms()) == 1
    asyncio.run(ingest.append([GOOD]))
    assert journal.alarms()[1:] == [("ingest.refused", "station-1", "cleared")]


# ---------------------------------------------------------------- a full store


def test_a_full_store_writes_nothing_but_one_alarm_and_says_when_it_is_over() -> None:
    journal = MemoryJournal(full="ordinary")
    ingest = Ingest(journal, Moment())
    for _ in range(3):
        with pytest.raises(StoreFull):
            asyncio.run(ingest.append([GOOD], [StateChange("s", b"k", b"v")]))
    assert journal.alarms() == [("store.full", "", "raised")]
    assert journal.get("s", b"k") is None
    asyncio.run(ingest.append([Draft(kinds.CLOCK_STATE, "gateway", "", {})]))  # from the reserve: still full
    assert len(journal.alarms()) == 1
    journal.full = "no"
    asyncio.run(ingest.append([GOOD]))
    assert journal.alarms() == [("store.full", "", "raised"), ("store.full", "", "cleared")]


def test_without_even_the_reserve_the_alarm_waits() -> None:
    journal = MemoryJournal(full="everything")
    ingest = Ingest(journal, Moment())
    for _ in range(2):
        with pytest.raises(StoreFull):
            asyncio.run(ingest.append([GOOD]))
    assert journal.rows == []
    journal.full = "ordinary"
    with pytest.raises(StoreFull):
        asyncio.run(ingest.append([GOOD]))
    assert journal.alarms() == [("store.full", "", "raised")]


def test_a_restart_remembers_the_open_alarms() -> None:
    journal = MemoryJournal(full="ordinary")
    with pytest.raises(StoreFull):
        asyncio.run(Ingest(journal, Moment()).append([GOOD]))
    again = Ingest(journal, Moment(), journal)
    assert [(alarm.code, alarm.text) for alarm in again.alarms.open()] == [("store.full", "the disk is full")]
    with pytest.raises(StoreFull):
        asyncio.run(again.append([GOOD]))
    assert len(journal.alarms()) == 1
    journal.full = "no"
    asyncio.run(again.append([GOOD]))
    assert journal.alarms()[-1] == ("store.full", "", "cleared")
    assert Ingest(journal, Moment(), journal).alarms.open() == []
