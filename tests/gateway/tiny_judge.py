"""A judge of few lines for tests of what runs judges: speeding above the limit of the book, and silence.

It keeps the newest day of each device and asks for older ones, as real judges do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gateway.core import kinds
from gateway.core.finding import Judgement
from gateway.core.fixes import fixes_of
from gateway.rules.judging import Seen, Span, Turn, Want

DAY_S = 86_400
SILENT_S = 180
Fixes = dict[tuple[int, int], int]
"""(time, seq) -> speed in 0.1 km/h"""


class TinyJudge:
    """Port `Judge`."""

    def __init__(self) -> None:
        self.days: dict[str, tuple[int, Fixes]] = {}
        self.heard: dict[str, int] = {}
        """Arrival of the newest record of a device."""
        self.seqs: dict[str, int] = {}
        self.limits: list[tuple[int, int]] = []
        """(seq, limit in 0.1 km/h) of the books."""
        self.dirty: set[str] = set()
        self.unkept: set[str] = set()
        self.wants: dict[tuple[str, int], Want] = {}
        self.past: list[tuple[str, int, Fixes]] = []
        """Days that were let go since the last question."""
        self.asked = 0
        self.left_out = 0

    def accept(self, seen: Seen) -> None:
        if seen.kind == kinds.RULES_BOOK and seen.raw is not None:
            self.limits.append((seen.seq, int(seen.raw)))
        if seen.kind != kinds.POSITION or seen.seq <= self.seqs.get(seen.device, -1):
            return
        self.seqs[seen.device] = seen.seq
        self.heard[seen.device] = max(self.heard.get(seen.device, 0), seen.arrival_utc_ns)
        self.unkept.add(seen.device)
        for fix in fixes_of(seen.seq, seen.arrival_utc_ns, seen.data):
            assert fix.time_utc_s is not None
            day = fix.time_utc_s // DAY_S
            newest, fixes = self.days.get(seen.device, (day, {}))
            if day < newest:
                self.wants[seen.device, day] = Want(seen.source, seen.device, 0, day * DAY_S, (day + 1) * DAY_S)
                continue
            if day > newest:
                self.past.append((seen.device, newest, fixes))
                newest, fixes = day, {}
            fixes[fix.time_utc_s, fix.seq] = fix.speed_kmh_e1 or 0
            self.days[seen.device] = newest, fixes
            self.dirty.add(seen.device)

    def due(self, now_utc_ns: int) -> Turn:
        self.asked += 1
        spans = [self._span(device, day, fixes, False) for device, day, fixes in self.past]
        self.past.clear()
        for device in sorted(self.days):
            silent = now_utc_ns - self.heard[device] > SILENT_S * 10**9
            if device in self.dirty or silent:
                day, fixes = self.days[device]
                spans.append(self._span(device, day, fixes, silent))
        self.dirty.clear()
        wants = [self.wants.pop(key) for key in sorted(self.wants)]
        return Turn(spans, wants)

    def at_end(self, now_utc_ns: int) -> Turn:
        return self.due(now_utc_ns)

    def history(self, want: Want, records: Sequence[Seen]) -> Span:
        fixes: Fixes = {}
        for seen in records:
            for fix in fixes_of(seen.seq, seen.arrival_utc_ns, seen.data):
                if fix.time_utc_s is not None and want.from_utc_s <= fix.time_utc_s < want.to_utc_s:
                    fixes[fix.time_utc_s, fix.seq] = fix.speed_kmh_e1 or 0
        return self._span(want.device, want.from_utc_s // DAY_S, fixes, False)

    def checkpoint(self) -> list[tuple[bytes, bytes | None]]:
        pairs: list[tuple[bytes, bytes | None]] = []
        for device in sorted(self.unkept):
            day, fixes = self.days.get(device, (0, {}))
            value = {
                "day": day,
                "fixes": [[*key, speed] for key, speed in fixes.items()],
                "heard": self.heard[device],
                "seq": self.seqs[device],
            }
            pairs.append((device.encode(), json.dumps(value).encode()))
        self.unkept.clear()
        return pairs

    def restore(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        for key, text in pairs:
            value: dict[str, Any] = json.loads(text)
            device = key.decode()
            self.days[device] = value["day"], {(time, seq): speed for time, seq, speed in value["fixes"]}
            self.heard[device], self.seqs[device] = value["heard"], value["seq"]

    def _span(self, device: str, day: int, fixes: Fixes, silent: bool) -> Span:
        judgements, event = [], list[tuple[int, int, int]]()
        ordered = sorted((*key, speed) for key, speed in fixes.items())
        for time_utc_s, seq, speed in ordered:
            limit = max([0, *(limit for at, limit in self.limits if at < seq)][-1:])
            if limit and speed > limit:
                event.append((time_utc_s, seq, speed))
            elif event:
                judgements.append(_judgement("speeding", device, event, time_utc_s, seq))
                event = []
        if event:
            judgements.append(_judgement("speeding", device, event, None, None))
        if silent and ordered:
            judgements.append(_judgement("offline", device, [ordered[-1]], None, None))
        return Span("trucks", device, "truck", "open", day * DAY_S, (day + 1) * DAY_S, tuple(judgements))


def _judgement(
    rule: str, device: str, event: Sequence[tuple[int, int, int]], end_utc_s: int | None, end_seq: int | None
) -> Judgement:
    inputs = sorted({seq for _, seq, _ in event} | ({end_seq} if end_seq is not None else set()))
    return Judgement(
        rule=rule,
        severity="violation",
        source="trucks",
        device=device,
        plate="",
        firm="",
        start_utc_s=event[0][0],
        end_utc_s=end_utc_s,
        inputs=tuple(inputs),
        book_sha256="0" * 64,
        book_seq=0,
        rule_set="tiny",
        legal_source="none",
        measured={"peak_kmh_e1": max(speed for _, _, speed in event)},
    )
