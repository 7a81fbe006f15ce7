"""Beacons: the newest receipt's nonce, at most one per interval, and owed while the store is full."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.core.alarms import Alarms
from gateway.core.errors import StoreFull
from gateway.core.record import Draft, StateChange
from uplink.notices import BEACON_INTERVAL_S, Notices


class ListSink:
    """Port `Sink` over a list, full on command."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.full = False

    async def append(self, drafts: Sequence[Draft], state: Sequence[StateChange] = ()) -> int:
        if self.full:
            raise StoreFull("full")
        self.drafts += drafts
        return len(self.drafts) - len(drafts)

    @property
    def nonces(self) -> list[str]:
        return [draft.data["nonce"] for draft in self.drafts]


def test_beacons_are_spaced_and_only_the_newest_counts() -> None:
    sink = ListSink()
    notices = Notices(sink, Alarms(sink))

    async def run() -> None:
        for number in range(5):
            await notices.beacon(f"n{number}", "0" * 64, number, now_s=100.0 + number)
        assert sink.nonces == ["n0"]
        await notices.pay(100.0 + BEACON_INTERVAL_S - 0.1)
        assert sink.nonces == ["n0"]
        await notices.pay(100.0 + BEACON_INTERVAL_S)
        assert sink.nonces == ["n0", "n4"]
        await notices.pay(1000.0)
        assert sink.nonces == ["n0", "n4"]

    asyncio.run(run())


def test_a_full_store_owes_the_beacon() -> None:
    sink = ListSink()
    notices = Notices(sink, Alarms(sink))

    async def run() -> None:
        sink.full = True
        await notices.beacon("a", "0" * 64, 1, now_s=0.0)
        assert sink.nonces == []
        sink.full = False
        await notices.pay(0.0)
        assert sink.nonces == ["a"]

    asyncio.run(run())
