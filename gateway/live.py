"""The board of newest values: what a map shows now. Fed by the judge as records pass, read by MQTT and WebSockets.

Never evidence: the journal is. A board forgets everything when the process ends and fills again as records pass. Each
key holds one item, so whoever reads slowly skips what was replaced meanwhile; nothing here can grow or wait.

    position   `<source>/<device>`   the newest usable fix; a later one that is not usable changes only its flags
    state      `<source>/<device>`   online, offline, duplicate, …: the newest device.state record; `refused` only
                                     of a device that was let in before and is not there now
    finding    id of the event       the newest revision
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from gateway.core import kinds
from gateway.core.fixes import UNUSABLE
from gateway.core.ports import LiveItem
from gateway.core.record import Draft
from gateway.rules.judging import Seen

DEVICES_MAX: Final = 20_000
FINDINGS_MAX: Final = 2_000
Privacy = Literal["open", "process"]
Topic = Literal["position", "state", "finding"]

_FIX: Final = (
    "time_utc_s", "lat_e7", "lon_e7", "alt_m", "speed_kmh_e1", "course_deg", "satellites", "sigma_m", "acc", "load",
    "cover", "lift", "locked", "speed_limited", "lift_limited", "overload", "sensor_faults", "alarms", "flags",
)  # fmt: skip
_VERDICT: Final = (
    "rule",
    "severity",
    "plate",
    "firm",
    "start_utc_s",
    "end_utc_s",
    "permit",
    "measured",
    "peak",
    "text",
)


class Board:
    """Port `Live` for readers, and `gateway.judge.Board` for the one who feeds it. One event loop only."""

    def __init__(
        self,
        privacy_of: Callable[[str], Privacy],
        *,
        devices_max: int = DEVICES_MAX,
        findings_max: int = FINDINGS_MAX,
    ) -> None:
        """`privacy_of` tells the privacy of a device class; a class that it does not know is `process`."""
        self._privacy_of = privacy_of
        self._limits: dict[Topic, int] = {"position": devices_max, "state": devices_max, "finding": findings_max}
        self._items: dict[Topic, OrderedDict[str, LiveItem]] = {topic: OrderedDict() for topic in self._limits}
        """In the order of their versions."""
        self._version = 0
        self._dropped = 0
        self._news = asyncio.Event()

    # ------------------------------------------------------------------------------------- feeding

    def position(self, seen: Seen) -> None:
        """A `position` or `device.state` record went by."""
        data = seen.data
        if "columns" in data:
            return  # the track of a file: the past
        key = f"{seen.source}/{seen.device}"
        device_class = data.get("class") or self.class_of(seen.source, seen.device)
        base = {"source": seen.source, "device": seen.device, "class": device_class, "plate": data.get("plate", "")}
        base |= {"seq": seen.seq, "arrival_utc_ns": str(seen.arrival_utc_ns)}
        if seen.kind == kinds.DEVICE_STATE:
            if data.get("state") == "refused" and not self._is_absent(key):
                return
            said = {name: data[name] for name in ("state", "reason", "address") if name in data}
            self._put("state", key, device_class, base | said)
            return
        fix = self._newest(key, data)
        if fix is not None:
            self._put("position", key, device_class, base | {name: fix[name] for name in _FIX if name in fix})

    def finding(self, seq: int, draft: Draft) -> None:
        """A finding was stored."""
        data = draft.data
        judgement: Mapping[str, Any] = data["judgement"]
        values = {name: data[name] for name in ("id", "state", "revision", "class") if name in data}
        values |= {name: judgement[name] for name in _VERDICT if name in judgement}
        values |= {"source": judgement["source"], "device": judgement["device"], "seq": seq}
        self._put("finding", str(data["id"]), str(data.get("class", "")), values, str(data.get("privacy", "open")))

    def _is_absent(self, key: str) -> bool:
        """Whether a device that was let in before is not there now. Only then is it news that it was refused: anybody
        can send identities, and they may neither push devices off the board nor hide that one is online."""
        state = self._items["state"].get(key)
        return state.values.get("state") != "online" if state is not None else key in self._items["position"]

    def _newest(self, key: str, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The fix to show, or None where the board shows a later one: back-filled fixes are the past."""
        fixes: Sequence[Mapping[str, Any]] = data.get("fixes", (data,))
        item = self._items["position"].get(key)
        shown: Mapping[str, Any] = {} if item is None else item.values
        usable = [fix for fix in fixes if "lat_e7" in fix and UNUSABLE.isdisjoint(str(fix.get("flags", "")).split())]
        if usable:
            newest = max(usable, key=_time)
            return None if "lat_e7" in shown and _time(shown) > _time(newest) else newest
        if not fixes or data.get("backfill"):
            return None
        return {**shown, "flags": fixes[-1].get("flags", "")}

    def _put(self, topic: Topic, key: str, device_class: str, values: Mapping[str, Any], told: str = "open") -> None:
        """`told`: what the record itself says of its privacy; the stricter counts."""
        self._version += 1
        items = self._items[topic]
        if key in items:
            del items[key]  # the order of the items is the order of their versions
        elif len(items) >= self._limits[topic]:
            items.popitem(last=False)
            self._dropped += topic == "finding"
        privacy: Privacy = "process" if told == "process" else self._privacy_of(device_class)
        items[key] = LiveItem(topic, key, self._version, device_class, privacy, values)
        if not self._news.is_set():
            self._news.set()

    # ------------------------------------------------------------------------------------- reading

    @property
    def version(self) -> int:
        """Of the newest item; 0 while nothing is on the board."""
        return self._version

    def changes(self, after: int, limit: int) -> list[LiveItem]:
        """See ports.Live."""
        found: list[LiveItem] = []
        for items in self._items.values():
            for item in reversed(items.values()):
                if item.version <= after:
                    break
                found.append(item)
        found.sort(key=_version)
        return found[:limit]

    def class_of(self, source: str, device: str) -> str:
        """See ports.Live."""
        key = f"{source}/{device}"
        item = self._items["position"].get(key) or self._items["state"].get(key)
        return "" if item is None else item.device_class

    def dropped(self) -> int:
        """See ports.Live."""
        return self._dropped

    async def wait(self, after: int) -> None:
        """See ports.Live."""
        while self._version <= after:
            self._news.clear()
            await self._news.wait()


def _time(fix: Mapping[str, Any]) -> int:
    return int(fix.get("time_utc_s", 0))


def _version(item: LiveItem) -> int:
    return item.version
