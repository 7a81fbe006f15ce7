"""Alarms: one record when a condition begins, one when it ends, remembered over a restart."""

import asyncio

import pytest

from gateway.core.alarms import Alarm, Alarms
from gateway.core.errors import StoreFull
from gateway.ingest import Ingest
from tests.gateway.doubles import MemoryJournal, Moment


def test_a_condition_is_one_raised_and_one_cleared_record() -> None:
    journal = MemoryJournal()
    alarms = Alarms(Ingest(journal, Moment()))

    async def run() -> None:
        for _ in range(3):
            await alarms.raise_alarm("disk.high", "91 %", "spool")
        await alarms.raise_alarm("disk.high", "92 %", "disk")
        for _ in range(3):
            await alarms.clear("disk.high", "80 %", "spool")
        await alarms.clear("never.raised", "")

    asyncio.run(run())
    assert journal.alarms() == [
        ("disk.high", "spool", "raised"),
        ("disk.high", "disk", "raised"),
        ("disk.high", "spool", "cleared"),
    ]
    assert alarms.open() == [Alarm("disk.high", "disk", "92 %")]
    assert alarms.is_open("disk.high", "disk")
    assert not alarms.is_open("disk.high", "spool")


def test_a_new_start_knows_what_is_open() -> None:
    journal = MemoryJournal()
    asyncio.run(Alarms(Ingest(journal, Moment())).raise_alarm("a.b", "text: with colon", "c:d"))
    assert Alarms(Ingest(journal, Moment()), journal).open() == [Alarm("a.b", "c:d", "text: with colon")]


def test_with_a_full_store_nothing_changes() -> None:
    journal = MemoryJournal()
    alarms = Alarms(Ingest(journal, Moment()))
    asyncio.run(alarms.raise_alarm("a", "1"))
    journal.full = "everything"
    with pytest.raises(StoreFull):
        asyncio.run(alarms.raise_alarm("b", "2"))
    with pytest.raises(StoreFull):
        asyncio.run(alarms.clear("a", "3"))
    assert [alarm.code for alarm in alarms.open()] == ["a"]
    journal.full = "no"
    asyncio.run(alarms.raise_alarm("b", "2"))
    assert journal.alarms() == [("a", "", "raised"), ("b", "", "raised")]


def test_two_callers_at_once_make_one_record() -> None:
    journal = MemoryJournal()
    alarms = Alarms(Ingest(journal, Moment()))

    async def both() -> None:
        await asyncio.gather(alarms.raise_alarm("a", "1"), alarms.raise_alarm("a", "1"))

    asyncio.run(both())
    assert journal.alarms() == [("a", "", "raised")]
