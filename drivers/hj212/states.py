"""What is told of monitors that come and go: at once, then at a falling rate, never without the newest. Pure."""

from __future__ import annotations

from typing import Any

from drivers.hj212.acts import Out
from drivers.hj212.drafts import Drafts
from drivers.hj212.monitors import CLOCK_OFF_S, Monitor
from drivers.tallies import Key, Tallies


class States:
    """States of the monitors of one source."""

    def __init__(self, drafts: Drafts, tallies: Tallies) -> None:
        self._drafts = drafts
        self._tallies = tallies
        self._untold: dict[str, Monitor] = {}

    def __len__(self) -> int:
        """Monitors whose state is not told yet."""
        return len(self._untold)

    def change(self, monitor: Monitor, state: str, reason: str, address: str, now_ns: int, out: Out) -> None:
        """A monitor is online or offline now."""
        monitor.state = (state, reason, address)
        if monitor.may_tell(now_ns):
            self._tell(monitor, monitor.left_out, out)
        else:
            monitor.left_out += 1
            self._untold[monitor.mn] = monitor

    def tell_later(self, now_ns: int, out: Out, *, all_of_them: bool = False) -> None:
        """States that were left out, where there is a place for them now: the newest, and how many were not told."""
        for monitor in list(self._untold.values()):
            if all_of_them or monitor.may_tell(now_ns):
                is_news = monitor.state[0] != monitor.told[0]
                self._tell(monitor, monitor.left_out - is_news, out)

    def _tell(self, monitor: Monitor, left_out: int, out: Out) -> None:
        state, reason, address = monitor.told = monitor.state
        data: dict[str, Any] = {**monitor.head, "state": state, "reason": reason, "address": address}
        if monitor.quarantine:
            data["flags"] = monitor.quarantine
        if left_out:
            data["left_out"] = left_out
        monitor.left_out = 0
        self._untold.pop(monitor.mn, None)
        out.drafts.append(self._drafts.state(monitor.mn, data))

    def clock(self, monitor: Monitor, offset_s: int, out: Out) -> None:
        """The clock of a monitor is wrong, by how much; or right again."""
        way = "right" if abs(offset_s) <= CLOCK_OFF_S else f"{abs(offset_s)} s {'ahead' if offset_s > 0 else 'behind'}"
        data = {**monitor.head, "state": "clock", "reason": f"the device's clock is {way}", "offset_s": offset_s}
        out.drafts.append(self._drafts.state(monitor.mn, data))

    def note(self, key: Key, facts: dict[str, Any], raw: bytes, now_ns: int, out: Out) -> None:
        """Something that repeats: the first time, then its count."""
        tally = self._tallies.note(key, facts, raw, now_ns)
        if tally is not None:
            out.drafts.append(self._drafts.tally(tally))
