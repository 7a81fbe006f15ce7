"""What the uplink writes into the log about itself: beacons, quarantine records and alarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.core import kinds
from gateway.core.alarms import Alarms
from gateway.core.errors import StoreFull
from gateway.core.ports import Sink
from gateway.core.record import Draft
from uplink.answers import foreign

SOURCE: Final = "gateway"
BEACON_INTERVAL_S: Final = 10.0
"""The lower time bounds that beacons give need not be closer together."""

ALARM_REFUSED: Final = "uplink.refused"
"""Subject: kind of item. Something was refused for good; a refused batch holds up its successors."""
ALARM_DENIED: Final = "uplink.denied"
"""401 or 403: the platform does not accept our credentials."""
ALARM_NO_ROOM: Final = "uplink.no-room"
"""507: the platform's disk or quota is full."""
ALARM_STALLED: Final = "uplink.stalled"
"""Subject: kind of item. The same kind failed several times in a row though the link works."""
ALARM_RECEIPT: Final = "uplink.receipt"
"""Receipts that do not verify, several in a row."""
ALARM_BEHIND: Final = "uplink.behind"
"""The platform needs batches that have expired here."""
ALARM_STAMP: Final = "stamping.refused"
"""Tokens that do not verify, or refusals by the time-stamping authority, several in a row."""


class Notices:
    """Writes through the sink. A full store never stops delivery: it is delivery that makes room."""

    def __init__(self, sink: Sink, alarms: Alarms) -> None:
        self._sink = sink
        self._alarms = alarms
        self._owed_beacon: Draft | None = None
        self._next_beacon_s = 0.0

    async def raise_alarm(self, code: str, text: str, subject: str = "") -> None:
        """Write that an alarm stands, unless it stood already. With a full store the next occasion writes it."""
        try:
            await self._alarms.raise_alarm(code, foreign(text), subject)
        except StoreFull:
            return

    async def clear_alarm(self, code: str, text: str, subject: str = "") -> None:
        """Write that an alarm is over, if it stood. With a full store the next occasion writes it."""
        try:
            await self._alarms.clear(code, foreign(text), subject)
        except StoreFull:
            return

    async def beacon(self, nonce: str, receipt_sha256: str, size: int, now_s: float) -> None:
        """Put a receipt's nonce into the log, or owe it: with a full store, and while the last one is younger than
        BEACON_INTERVAL_S (each artifact brings a receipt of its own). Only the newest one matters."""
        self._owed_beacon = _draft(kinds.BEACON, {"nonce": nonce, "receipt_sha256": receipt_sha256, "size": size})
        await self.pay(now_s)

    async def pay(self, now_s: float) -> None:
        """Write the beacon that is owed, if any and if it is time. `now_s` is of the event loop's clock."""
        beacon = self._owed_beacon
        if beacon is None or now_s < self._next_beacon_s:
            return
        self._owed_beacon = None
        try:
            await self._sink.append([beacon])
            self._next_beacon_s = now_s + BEACON_INTERVAL_S
        except StoreFull:
            self._owed_beacon = self._owed_beacon or beacon

    async def quarantine(self, item: str, ref: str, reason: str) -> None:
        """Record that an item is refused for good. Raises StoreFull: then the item must stay in the queue."""
        data = {"item": item, "ref": ref, "reason": foreign(reason)}
        await self._sink.append([_draft(kinds.UPLINK_QUARANTINE, data)])

    async def fork(self, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
        """Record that the platform holds another history, as far as there is room: the caller stops anyway."""
        try:
            await self._sink.append([_draft(kinds.UPLINK_FORK, {"ours": dict(ours), "theirs": dict(theirs)})])
        except StoreFull:
            return


def _draft(kind: str, data: Mapping[str, Any]) -> Draft:
    return Draft(kind=kind, source=SOURCE, device="", data=data)
