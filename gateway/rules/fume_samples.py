"""Readings as the judge of kitchens takes them: one sample for each record, at the time that counts.

The time that counts is the device's own. Where the device has no clock (Modbus) it is the arrival. A clock that is off
by a known offset (`clock-off` with `clock_offset_s`) is corrected by it; where a time is none, lies in the future or
far in the past and the offset is not known, the record stands at its arrival as a sign of life and none of its values
counts. A statistic of a period stands at the last second of its period, where it can be known at the earliest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from gateway.core.readings import Reading, readings_of

FUME: Final = 0
CONVERTED: Final = 1
FAN_CURRENT: Final = 2
PURIFIER_CURRENT: Final = 3
FAN_STATE: Final = 4
PURIFIER_STATE: Final = 5
FLOW: Final = 6
QUANTITIES: Final = {
    "fume": FUME,
    "fume_converted": CONVERTED,
    "fan_current": FAN_CURRENT,
    "purifier_current": PURIFIER_CURRENT,
    "fan_state": FAN_STATE,
    "purifier_state": PURIFIER_STATE,
    "flow": FLOW,
}
NAMES: Final = tuple(QUANTITIES)

STATISTIC: Final = 0
MOMENT: Final = 1
LINK: Final = 2
"""What became of the device's link."""
FUTURE_S: Final = 120
"""A device's clock may be so far ahead of the gateway's."""
STALE_S: Final = 30 * 86_400
PERIOD_MAX_S: Final = 3600
"""Statistics of longer periods are not judged."""
NEVER: Final = frozenset({"unlisted", "undecrypted"})
TIMELESS: Final = frozenset({"no-time", "future", "stale"})
VALUES_MAX: Final = 64
"""Of one record."""


class Value(NamedTuple):
    """One number or state."""

    quantity: int
    channel: str
    value_e6: int | None
    state: str
    good: bool


class Sample(NamedTuple):
    """One record. Samples are in order of (time_s, seq)."""

    time_s: int
    seq: int
    book: int
    who: int
    kind: int
    period_s: int
    offset_s: int
    """Of the device's clock, where it was corrected."""
    values: tuple[Value, ...]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Sample).decode


def pack(sample: Sample) -> bytes:
    """As bytes: a tenth of the memory."""
    return _encode(sample)


def unpack(packed: bytes) -> Sample:
    """The reverse; raises msgspec.MsgspecError."""
    return _decode(packed)


def sample_of(seq: int, arrival_utc_ns: int, data: Mapping[str, Any], book: int, who: int) -> Sample | None:
    """The sample of a `reading` record; None where it is never judged."""
    flags = frozenset(data.get("flags", "").split())
    if flags & NEVER:
        return None
    arrival_s = arrival_utc_ns // 1_000_000_000
    taken_s, period_s = data.get("taken_utc_s"), data.get("period_s", 0)
    offset_s = data.get("clock_offset_s", 0) if "clock-off" in flags else 0
    if "clock-off" in flags and "clock_offset_s" not in data:
        taken_s = None if period_s else arrival_s
    sound = "incomplete" not in flags
    if taken_s is None:
        time_s = arrival_s
        sound = sound and "no-time" not in flags and not period_s
    else:
        time_s = taken_s - offset_s
        if (flags & TIMELESS and not offset_s) or not arrival_s - STALE_S <= time_s <= arrival_s + FUTURE_S:
            time_s, sound = arrival_s, False
        elif period_s:
            time_s += period_s - 1
    if period_s > PERIOD_MAX_S:
        return None
    values: tuple[Value, ...] = ()
    if sound:
        wanted = [_value(one, period_s) for one in readings_of(seq, arrival_utc_ns, data)]
        values = tuple([one for one in wanted if one is not None][:VALUES_MAX])
    return Sample(time_s, seq, book, who, STATISTIC if period_s else MOMENT, period_s, offset_s, values)


def _value(one: Reading, period_s: int) -> Value | None:
    quantity = QUANTITIES.get(one.quantity)
    if quantity is None:
        return None
    if period_s:
        if one.statistic != "avg" or quantity not in (FUME, CONVERTED):
            return None
    elif one.statistic not in ("rtd", "state"):
        return None
    return Value(quantity, one.channel, one.value_e6, one.state, one.good)


def link_of(seq: int, arrival_utc_ns: int, data: Mapping[str, Any], book: int, who: int) -> Sample | None:
    """What a `device.state` record says of the link, at its arrival; None where it says that all is well."""
    state = str(data.get("state", ""))[:32]
    if state in ("", "online", "registered", "clock"):
        return None
    told = Value(-1, "", None, state, good=True)
    return Sample(arrival_utc_ns // 1_000_000_000, seq, book, who, LINK, 0, 0, (told,))
