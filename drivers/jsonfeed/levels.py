"""What only rises, and what must be found as it was left: the last counts and weights of every device. Pure.

A counter that falls, or a bin that is lighter than it was left, without `cleared` in between, is no mistake of the sums
but a thing to look at: the value becomes suspect. Late and back-filled readings are compared with nothing.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from drivers.jsonfeed.decode import Item
from drivers.jsonfeed.weighings import object_to
from gateway.core.record import StateChange

PREFIX: Final = b"l"
DEVICES_MAX: Final = 10_000
"""Devices that are remembered; the one not heard for longest is forgotten."""
CHANNELS_MAX: Final = 64
"""Of one device."""


class Levels:
    """The devices of one source."""

    def __init__(self, source: str, rising: frozenset[str], step_e6: int, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """`pairs`: what `judge` gave, as last committed."""
        self._source, self._rising, self._step_e6 = source, rising, step_e6
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()
        for key, value in pairs:
            try:
                self._known[key[len(PREFIX) :].decode()] = dict(json.loads(value))
            except (ValueError, TypeError):
                continue  # of another version: the device begins anew

    def judge(self, item: Item, order: int | None) -> list[StateChange]:
        """Compare a reading with what is known of its device, and remember it. `order`: its device time or sequence;
        None: as it arrived."""
        last = self._known.get(item.device, {})
        levels: dict[str, int] = dict(last.get("levels", {}))
        if order is not None and isinstance(last.get("order"), int) and order < last["order"]:
            return []
        if item.event == "cleared":
            channels = {value.get("channel", "") for value in item.values}
            levels = {key: level for key, level in levels.items() if key.partition("/")[2] not in channels}
        fresh: dict[str, int] = {}
        for value in item.values:
            quantity, micro = value["quantity"], value.get("value_e6")
            if micro is None or value["quality"] == "bad":
                continue
            channel = value.get("channel", "")
            if quantity in self._rising:
                before = levels.get(f"{quantity}/{channel}")
                if before is not None and micro < before:
                    object_to(value, "suspect", f"{quantity.replace('_', '-')}-fell")
                fresh[f"{quantity}/{channel}"] = micro
            elif quantity == "weight_before":
                left = levels.get(f"weight_after/{channel}")
                if left is not None and micro < left - self._step_e6:
                    object_to(value, "suspect", "weight-fell")
            elif quantity == "weight_after":
                fresh[f"weight_after/{channel}"] = micro
        if not fresh and levels == last.get("levels", {}):
            return []
        return self._remember(item.device, dict(list((levels | fresh).items())[-2 * CHANNELS_MAX :]), order)

    def _remember(self, device: str, levels: dict[str, int], order: int | None) -> list[StateChange]:
        found: dict[str, Any] = {"levels": levels} | ({} if order is None else {"order": order})
        self._known[device] = found
        self._known.move_to_end(device)
        changes = [StateChange(self._source, PREFIX + device.encode(), json.dumps(found).encode())]
        if len(self._known) > DEVICES_MAX:
            oldest, _ = self._known.popitem(last=False)
            changes.append(StateChange(self._source, PREFIX + oldest.encode(), None))
        return changes
