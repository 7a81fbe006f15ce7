"""Small made-up days of fume monitors: readings by the second after a midnight (GMT+8); a journal with its judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.core import canonical, kinds
from gateway.core.finding import Judgement
from gateway.rules.book import load_book, records_of
from gateway.rules.fume import Fume
from gateway.rules.fume_window import LATE_QUIET_S
from gateway.rules.judging import Seen, Span, Turn

MIDNIGHT = 1_781_452_800
"""2026-06-15 00:00 GMT+8, a Monday."""
H, M = 3600, 60
DAY = 86_400
NOON = 12 * H
CLASS = "fume-monitor"
LAW = "《中华人民共和国大气污染防治法》第八十一条"
GB = "GB 18483-2001"

HEAD = f"""
format = "rules/v1"
id = "fume-test"
title = "油烟测试规则"
valid_from = 2026-01-01
classes = ["{CLASS}"]
day_starts = "04:00"
"""
TABLES: dict[str, str] = {
    "fume_limit": f'source = "{GB}"',
    "fume_sustained": f'source = "{GB}"',
    "purifier_off": f'source = "{LAW}"',
    "purifier_current": "",
    "fan_off": "",
    "monitor_offline": "",
    "flat_line": "",
    "range": "",
    "jump_value": "",
    "calibration": "",
}
KITCHEN = """
[[kitchen]]
id = "k1"
name = "测试饭店"
devices = ["hj/M1"]
hours = [["10:00", "14:00"], ["16:30", "21:30"]]
"""
Data = dict[str, Any]


def rules(*names: str, head: str = HEAD, **changed: str) -> str:
    """A rule set with some tables (all without names); `changed` adds lines to a table."""
    found = head
    for name in names or TABLES:
        found += f"[{name}]\n{TABLES.get(name, '')}\n{changed.get(name, '')}\n"
    for name in changed.keys() - set(names or TABLES):
        found += f"[{name}]\n{changed[name]}\n"
    return found


def files(rule_set: str, kitchens: str = KITCHEN) -> dict[str, bytes]:
    found = {"rules.toml": rule_set.encode(), "kitchens.toml": f'format = "kitchens/v1"\n{kitchens}'.encode()}
    load_book(found)
    return found


def number(quantity: str, value: float, **more: Any) -> Data:
    return {"quantity": quantity, "statistic": "rtd", "value_e6": round(value * 1e6), "quality": "good", **more}


def state(quantity: str, value: str, **more: Any) -> Data:
    return {"quantity": quantity, "statistic": "state", "state": value, "quality": "good", **more}


def reading(
    time_s: int, fume: float | None = 0.3, fan: str | None = "on", purifier: str | None = "on",
    current: float | None = None, **more: Any,
) -> Data:  # fmt: skip
    """One record of a moment, `time_s` after midnight; what is None is left out."""
    values = []
    if fume is not None:
        values.append(number("fume", fume))
    if fan is not None:
        values.append(state("fan_state", fan))
    if purifier is not None:
        values.append(state("purifier_state", purifier))
    if current is not None:
        values.append(number("purifier_current", current))
    return {"class": CLASS, "taken_utc_s": MIDNIGHT + time_s, "values": values, **more}


def wobble(time_s: int, around: float = 0.3) -> float:
    """A concentration that is never twice the same in a row."""
    return round(around * (1 + ((time_s // 10) % 7 - 3) / 50), 4)


def readings(
    from_s: int, to_s: int, step_s: int = 60, fume: float | Callable[[int], float | None] = 0.3, **more: Any
) -> list[Data]:
    """Readings of [from, to); a number is wobbled around."""
    found = []
    for time_s in range(from_s, to_s, step_s):
        value = fume(time_s) if callable(fume) else wobble(time_s, fume)
        found.append(reading(time_s, value, **more))
    return found


def mean(from_s: int, value: float, period_s: int = 3600, message: str = "2061", **more: Any) -> Data:
    """What a device says of a period."""
    values = [{**number("fume", value), "statistic": "avg", **more}]
    return {
        "class": CLASS, "taken_utc_s": MIDNIGHT + from_s, "period_s": period_s, "message": message, "values": values,
    }  # fmt: skip


class Ledger:
    """A journal and what the judge says of it, as the service would store it."""

    def __init__(self, book: Mapping[str, bytes] | None = None) -> None:
        self.judge = Fume()
        self.records: list[Seen] = []
        self.known: dict[tuple[str, str, int, str, str], Judgement] = {}
        self.now_s = MIDNIGHT - 30 * DAY
        if book is not None:
            self.load(book)
            self.add(kinds.GATEWAY_START, "gateway", "", {})

    def load(self, book: Mapping[str, bytes], arrival_s: int | None = None) -> None:
        """A rule book comes into force."""
        for draft in records_of(book):
            self.add(draft.kind, draft.source, draft.device, draft.data, arrival_s, draft.raw)

    def add(
        self, kind: str, source: str, device: str, data: Mapping[str, Any], arrival_s: int | None = None,
        raw: bytes | None = None,
    ) -> int:  # fmt: skip
        """A record; its seq."""
        self.now_s = max(self.now_s, 0 if arrival_s is None else MIDNIGHT + arrival_s)
        seen = Seen(len(self.records), kind, source, device, self.now_s * 10**9, data, raw)
        self.records.append(seen)
        self.judge.accept(seen)
        return seen.seq

    def live(self, items: Iterable[Data], device: str = "M1", late_s: int = 1, source: str = "hj") -> None:
        """Readings as they come; a statistic comes when its period is over."""
        for one in sorted(items, key=lambda item: item["taken_utc_s"] + item.get("period_s", 0)):
            arrival_s = one["taken_utc_s"] + one.get("period_s", 0) - MIDNIGHT + late_s
            self.add(kinds.READING, source, device, one, arrival_s)

    def late(self, items: Sequence[Data], arrival_s: int, device: str = "M1") -> None:
        """Readings that the device had stored."""
        for one in items:
            self.add(kinds.READING, "hj", device, {**one, "backfill": True}, arrival_s)

    def due(self, after_s: int | None = None) -> Turn:
        """Ask the judge, as of the newest record or of a time after midnight, and keep what it says."""
        now_s = self.now_s if after_s is None else MIDNIGHT + after_s
        return self.take(self.judge.due(now_s * 10**9))

    def end(self) -> None:
        """The journal ends here, as of the newest record: nothing is waited for."""
        for _ in range(2):
            self.take(self.judge.at_end(self.now_s * 10**9))

    def take(self, turn: Turn) -> Turn:
        """Keep what the judge says, and answer what it wants to know."""
        for span in turn.spans:
            self.keep(span)
        for want in turn.wants:
            found = [
                seen
                for seen in self.records
                if (seen.source, seen.device) == (want.source, want.device)
                and seen.arrival_utc_ns >= want.from_arrival_utc_ns
            ]
            self.keep(self.judge.history(want, found))
        return turn

    def keep(self, span: Span) -> None:
        """As a service does: what is not listed any more is withdrawn."""
        for key in [key for key in self.known if key[:2] == (span.source, span.device)]:
            if span.from_utc_s <= key[2] < span.to_utc_s:
                del self.known[key]
        for one in span.judgements:
            assert span.from_utc_s <= one.start_utc_s < span.to_utc_s
            canonical.encode_checked(one.to_json())
            self.known[span.source, span.device, one.start_utc_s, one.rule, one.subject] = one

    def findings(self, after_s: int | None = None) -> list[Judgement]:
        """Everything that stands, by device, time and rule."""
        self.due(after_s)
        return [self.known[key] for key in sorted(self.known)]

    def rules(self, after_s: int | None = None) -> list[str]:
        """Names of the rules of all findings."""
        return [one.rule for one in self.findings(after_s)]

    def bytes(self, after_s: int | None = None) -> bytes:
        """Canonical bytes of all findings."""
        return canonical.encode([one.to_json() for one in self.findings(after_s)])


def judged(
    items: Iterable[Data], rule_set: str, kitchens: str = KITCHEN, until_s: int | None = None
) -> list[Judgement]:
    """What is found in readings that come in order, as of a time after midnight: else when all has been waited for."""
    ledger = Ledger(files(rule_set, kitchens))
    ledger.live(items)
    return ledger.findings(ledger.now_s - MIDNIGHT + LATE_QUIET_S if until_s is None else until_s)


def names(items: Iterable[Data], rule_set: str, kitchens: str = KITCHEN, until_s: int | None = None) -> list[str]:
    return [one.rule for one in judged(items, rule_set, kitchens, until_s)]
