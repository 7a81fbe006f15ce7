"""When the gateway itself heard nothing, or nearly all vehicles fell silent at once: no vehicle is blamed for that.

Everything goes by the gateway's own clock and by seq, so what was known at a record is the same in every replay.
"""

from __future__ import annotations

import msgspec

from gateway.rules.rule_set import Offline

OUTAGES_MAX = 256
LOOK_EVERY_S = 30
AWAKE_S = 3600
"""Who has said nothing for so long does not count as silent: it is gone."""


class Outage(msgspec.Struct, array_like=True):
    """[start_s, end_s), and since which record each of the two is known."""

    start_s: int
    opened_seq: int
    end_s: int = 0
    ended_seq: int = -1
    """-1 while it lasts."""


class Outages(msgspec.Struct, array_like=True):
    """What is known of them."""

    all: list[Outage] = []
    awake: dict[str, int] = {}
    """Of vehicles that were in use when they reported last: when that was."""
    newest_s: int = 0
    """When anything arrived last."""
    looked_s: int = 0

    def copy(self) -> Outages:
        """One that may go on by itself."""
        all_ = [*self.all[:-1], *(msgspec.structs.replace(one) for one in self.all[-1:])]
        return Outages(all_, dict(self.awake), self.newest_s, self.looked_s)

    def sign(self) -> tuple[int, ...]:
        """Another one whenever more or less is explained."""
        return () if not self.all else (len(self.all), *msgspec.structs.astuple(self.all[-1]))

    def advance(self, now_s: int, seq: int, rule: Offline) -> None:
        """Look as often as is due until `now`: what is found hangs on what was heard, not on who asked when."""
        if now_s < self.looked_s or not self.looked_s:
            self.look(now_s, seq, rule)  # the first time, or the clock went back
            return
        until_s = min(now_s, max(self.newest_s, self.looked_s) + AWAKE_S + LOOK_EVERY_S)  # then nobody is awake
        for time_s in range(self.looked_s + LOOK_EVERY_S, until_s + 1, LOOK_EVERY_S):
            self.look(time_s, seq, rule)
        if now_s - self.looked_s >= LOOK_EVERY_S:
            self.looked_s = now_s - (now_s - self.looked_s) % LOOK_EVERY_S

    def heard(self, who: str, arrival_s: int, seq: int, rule: Offline, *, awake: bool | None) -> None:
        """A record of a vehicle arrived. `awake`: whether it is in use; None: it does not say."""
        before = self.awake.get(who)
        self.advance(arrival_s, seq, rule)
        if before is not None and arrival_s - before > rule.silence_s:
            self.look(arrival_s, seq, rule)
        if self.all and before is not None:
            last = self.all[-1]
            if last.ended_seq < 0 and before <= last.start_s + 2 * rule.fleet_s:
                last.end_s, last.ended_seq = arrival_s + rule.fleet_s, seq
        if awake:
            self.awake[who] = arrival_s
        elif awake is not None:
            self.awake.pop(who, None)
        elif before is not None:
            self.awake[who] = arrival_s
        self.newest_s = arrival_s

    def began(self, arrival_s: int, seq: int, rule: Offline) -> None:
        """The gateway began to run: until now nothing could be heard."""
        if self.newest_s:
            self._add(Outage(self.newest_s, seq, arrival_s + rule.fleet_s, seq))
        self.newest_s = arrival_s

    def look(self, now_s: int, seq: int, rule: Offline) -> None:
        """Whether nearly all are silent now."""
        self.looked_s = now_s
        if self.all and (self.all[-1].ended_seq < 0 or now_s < self.all[-1].end_s):
            return
        self.awake = {who: time_s for who, time_s in self.awake.items() if time_s > now_s - AWAKE_S}
        silent = sorted(time_s for time_s in self.awake.values() if now_s - time_s > rule.silence_s)
        first, most, start_s = 0, 0, 0
        for last, time_s in enumerate(silent):  # the most that fell silent within fleet_s, the newest of these
            while time_s - silent[first] > rule.fleet_s:
                first += 1
            if last - first + 1 >= most:
                most, start_s = last - first + 1, silent[first]
        if most >= rule.fleet_min:
            there = sum(1 for time_s in self.awake.values() if time_s >= start_s)
            if most * 100 >= rule.fleet_percent * there:
                self._add(Outage(start_s, seq))

    def explained_s(self, from_s: int, to_s: int, seq: int | None) -> int:
        """Seconds of [from, to) that lie in outages known at `seq` (None: now)."""
        total_s, covered_s = 0, from_s
        spans = sorted(
            (one.start_s, one.end_s if one.ended_seq >= 0 and (seq is None or one.ended_seq <= seq) else to_s)
            for one in self.all
            if seq is None or one.opened_seq <= seq
        )
        for start_s, end_s in spans:
            start_s, end_s = max(start_s, covered_s), min(end_s, to_s)  # noqa: PLW2901
            if end_s > start_s:
                total_s += end_s - start_s
                covered_s = end_s
        return total_s

    def _add(self, outage: Outage) -> None:
        self.all.append(outage)
        del self.all[:-OUTAGES_MAX]
