"""Layout of the records of an HJ 212 source. Pure: messages in, `Draft` out.

reading         gateway.core.readings; raw: the frame from ## to the CRC, parts one behind the other
device.message  message (number), name, params, factors, deviations; what is no reading: 1013, 2081, 3020, …
device.state    state, reason, address; `clock` with offset_s; left_out: states not told before this one
device.gap      reason, count, detail, address; raw: the first bytes of the first
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from drivers.hj212.commands import MINUTES, NAMES, READINGS
from drivers.hj212.dialect import clean
from drivers.hj212.fields import Factor, Message
from drivers.hj212.monitors import Monitor
from drivers.tallies import Tally
from gateway.core import kinds
from gateway.core.instant import Instant
from gateway.core.record import DeviceTime, Draft

FUTURE_MAX_S: Final = 120
STALE_MAX_S: Final = 30 * 86_400
VALUES_PART_MAX: Final = 400
RAW_PART_BYTES: Final = 65_536
NAMED_MAX: Final = 200
"""Parameters and factors of a device.message."""
TEXT_MAX: Final = 1024
_SECOND_NS: Final = 1_000_000_000


class Drafts:
    """Records of one source."""

    def __init__(self, source: str) -> None:
        self._source = source

    def reading(
        self,
        monitor: Monitor,
        messages: Sequence[Message],
        raw: bytes,
        now: Instant,
        more: Mapping[str, Any] | None = None,
    ) -> list[Draft]:
        """What one message says, or the parts of one: one record, more where it is very long. `more`: flags, parts,
        problem."""
        first = messages[0]
        cn = first.cn
        data: dict[str, Any] = {**monitor.head, "message": clean(cn, 16)}
        is_whole = len(messages) == 1
        text = first.params.get("DataTime", "")
        if not text and not is_whole:
            text = next((one.params["DataTime"] for one in messages if "DataTime" in one.params), "")
        flags = [monitor.quarantine] if monitor.quarantine else []
        taken = monitor.dialect.time_utc_s(text)
        if taken is None:
            flags.append("no-time")
        else:
            data["taken_utc_s"] = taken
            ahead_s = taken - now.utc_ns // _SECOND_NS
            if ahead_s > FUTURE_MAX_S:
                flags.append("future")
            elif ahead_s < -STALE_MAX_S:
                flags.append("stale")
        if monitor.clock.is_off:
            flags.append("clock-off")
            data["clock_offset_s"] = monitor.clock.offset_s
        period_s = monitor.period_s if cn in MINUTES else READINGS.get(cn, 0)
        if period_s:
            data["period_s"] = period_s
        if first.backfill or (not is_whole and any(one.backfill for one in messages)):
            data["backfill"] = True
        if more:
            flags += more.get("flags", ())
            data.update((key, value) for key, value in more.items() if key != "flags")
        if flags:
            data["flags"] = " ".join(sorted(flags))
        deviations = first.deviations if is_whole else set().union(*(one.deviations for one in messages))
        if deviations:
            data["deviations"] = " ".join(sorted(deviations))
        values = monitor.dialect.read(first.factors)
        for one in messages[1:]:
            values += monitor.dialect.read(one.factors)
        at = DeviceTime(clean(text, 32), monitor.dialect.zone, "frame") if text else None
        return list(self._spread(kinds.READING, monitor, data, values, raw, at))

    def _spread(
        self,
        kind: str,
        monitor: Monitor,
        data: dict[str, Any],
        values: list[Any] | None,
        raw: bytes,
        at: DeviceTime | None,
    ) -> Iterator[Draft]:
        """One record, or as many as its values and its frames need."""
        ref = monitor.dialect.ref
        several = values or ()
        if len(several) <= VALUES_PART_MAX and len(raw) <= RAW_PART_BYTES:
            body = data if values is None else {**data, "values": values}
            yield Draft(kind, self._source, monitor.mn, body, raw, (), ref, at)
            return
        count = max(-(-len(several) // VALUES_PART_MAX), -(-len(raw) // RAW_PART_BYTES))
        share, size = -(-len(several) // count), -(-len(raw) // count)
        for number in range(count):
            body = {**data, "part_of": f"{number + 1}/{count}"}
            if values is not None:
                body["values"] = values[number * share : (number + 1) * share]
            yield Draft(kind, self._source, monitor.mn, body, raw[number * size : (number + 1) * size], (), ref, at)

    def message(
        self, monitor: Monitor, messages: Sequence[Message], raw: bytes, more: Mapping[str, Any] | None = None
    ) -> list[Draft]:
        """Anything else that a monitor said."""
        first = messages[0]
        data: dict[str, Any] = {**monitor.head, "message": clean(first.cn, 16)}
        if first.cn in NAMES:
            data["name"] = NAMES[first.cn]
        flags = [monitor.quarantine] if monitor.quarantine else []
        if more:
            flags += more.get("flags", ())
            data.update((key, value) for key, value in more.items() if key != "flags")
        if flags:
            data["flags"] = " ".join(sorted(flags))
        params: dict[str, str] = {}
        for one in messages:
            params = _named(one.others) | _named(one.params) | params
        data["params"] = _pairs(params)
        data["factors"] = _factors([factor for one in messages for factor in one.factors])
        deviations = set().union(*(one.deviations for one in messages))
        if deviations:
            data["deviations"] = " ".join(sorted(deviations))
        text = params.get("DataTime", "")
        at = DeviceTime(text[:32], monitor.dialect.zone, "frame") if text else None
        return list(self._spread(kinds.DEVICE_MESSAGE, monitor, data, None, raw, at))

    def state(self, identity: str, data: Mapping[str, Any]) -> Draft:
        """What became of a monitor."""
        return Draft(kinds.DEVICE_STATE, self._source, identity, data)

    def tally(self, tally: Tally) -> Draft:
        """What was counted: a gap, or a state that repeats."""
        key = tally.key
        data = {**tally.facts, "reason": key.reason, "count": tally.count}
        return Draft(key.kind, self._source, key.subject, data, tally.raw or None)


def _named(given: Mapping[str, str]) -> dict[str, str]:
    return {clean(name, 64): clean(value, TEXT_MAX) for name, value in given.items()}


def _pairs(given: Mapping[str, str]) -> list[dict[str, str]]:
    """Names come from a device, and keys of records are ours: so pairs, and no table."""
    return [{"name": name, "text": text} for name, text in list(given.items())[:NAMED_MAX]]


def _factors(factors: Sequence[Factor]) -> list[dict[str, Any]]:
    return [{"code": clean(code, 64), "fields": _pairs(_named(fields))} for code, fields in factors[:NAMED_MAX]]
