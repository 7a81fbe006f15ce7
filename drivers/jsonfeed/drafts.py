"""The records of a JSON feed: what each kind's `data` holds. Pure functions over values.

reading       in the shape of gateway.core.readings, with `class`, `site` "" and beside those keys
                  sequence     what the device counts its readings by, as sent
                  event        delivery | cleared, at a bin
                  category     what was put in, as sent
                  depositor    keyed hash of the person who is named (drivers.jsonfeed.persons)
                  envelope     of the message that the reading came in:
                      sha256       of its bytes as they are stored
                      size_bytes   as received
                      part, parts  which reading of it, from 1; absent where it holds one
                      topic        of MQTT
                      retained     true: the broker had kept it; when it was sent is not known
                      hidden       in how many places of the stored bytes a hash took the place of a person, or of a
                                   text that named one; absent: the bytes are as received
              raw = the message, once: with the first of its readings that was stored
              deviations: unknown-event; sequence-again (the same sequence number with other values)
device.state  online, offline     of the broker (device ""): address, reason, count; at once, then at most once a minute
              refused             senders without the token: address of the first, count; likewise
              disabled            the profile is unusable
device.gap    reason, count, detail, size_bytes, topic; raw = the first bytes. Reasons: encoding, json, duplicate-key,
              depth, values, size; no-device (nothing names the device), nothing-read (no value and no event). Where
              the profile hides persons every digit of `raw` is a 0, and `masked` is true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from drivers.jsonfeed.decode import Item, shown
from drivers.jsonfeed.persons import Hidden
from drivers.tallies import Tally
from gateway.core import kinds
from gateway.core.record import DeviceTime, Draft, ProfileRef

TEXT_MAX: Final = 255
SECOND_NS: Final = 10**9
FUTURE_S: Final = 120
STALE_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes: the source, and how its devices are read."""

    source: str
    device_class: str
    profile: ProfileRef | None
    period_s: int
    has_time: bool
    """Whether the profile says where the time stands."""


@dataclass(slots=True)
class Envelope:
    """The message that readings came in."""

    size_bytes: int
    parts: int
    topic: str
    retained: bool
    hidden: Hidden
    raw: bytes
    """As stored."""
    is_stored: bool = False
    """One of its readings has it already."""

    def of_part(self, part: int) -> dict[str, Any]:
        """`envelope` of one reading."""
        found: dict[str, Any] = {"sha256": hashlib.sha256(self.raw).hexdigest(), "size_bytes": self.size_bytes}
        if self.parts > 1:
            found |= {"part": part, "parts": self.parts}
        if self.topic:
            found["topic"] = self.hidden.cleaned(shown_long(self.topic))
        if self.retained:
            found["retained"] = True
        if self.hidden.count:
            found["hidden"] = self.hidden.count
        return found


def reading_draft(author: Author, item: Item, part: int, envelope: Envelope, flags: set[str], utc_ns: int) -> Draft:
    """reading"""
    clean = envelope.hidden.cleaned
    values: dict[str, Any] = {"class": author.device_class, "site": ""}
    utc_s = None if item.time is None else taken_utc_s(item)
    if utc_s is not None:
        values["taken_utc_s"] = utc_s
        late_s = utc_ns // SECOND_NS - utc_s
        flags |= {"future"} if late_s < -FUTURE_S else {"stale"} if late_s > STALE_S else set()
    elif author.has_time:
        flags |= {"no-time"}
    if author.period_s:
        values["period_s"] = author.period_s
    if item.backfill:
        values["backfill"] = True
    values["values"] = [_clean(value, envelope.hidden) for value in item.values]
    said = {"sequence": clean(item.sequence), "event": item.event, "category": clean(item.category)}
    values |= {name: text for name, text in said.items() if text}
    if item.persons:
        values["depositor"] = envelope.hidden.name(item.persons[0])
    for name, words in (("flags", flags), ("deviations", item.deviations)):
        if words:
            values[name] = " ".join(sorted(words))
    values["envelope"] = envelope.of_part(part)
    raw, envelope.is_stored = (None if envelope.is_stored else envelope.raw), True
    time = None
    if item.time_text:
        time = DeviceTime(clean(item.time_text), item.time.zone if item.time else "", "message")
    return Draft(
        kinds.READING, author.source, clean(item.device), values, raw=raw, profile=author.profile, device_time=time
    )


def taken_utc_s(item: Item) -> int | None:
    """The device's time in seconds; None where it is no time, or nobody knows its zone."""
    utc_ns = None if item.time is None else item.time.utc_ns()
    return None if utc_ns is None or not 0 < utc_ns < 2**53 * 1000 else utc_ns // SECOND_NS


def _clean(value: Mapping[str, Any], hidden: Hidden) -> dict[str, Any]:
    found = dict(value)
    for name in ("text", "channel"):
        if found.get(name):
            found[name] = hidden.cleaned(found[name])
    return found


def disabled_draft(source: str, profile_id: str, reason: str) -> Draft:
    """device.state of a source whose profile is unusable"""
    values = {"state": "disabled", "reason": shown_long(reason), "address": ""}
    return Draft(kinds.DEVICE_STATE, source, "", values, profile=ProfileRef(profile_id[:64], ""))


def told_draft(author: Author, tally: Tally) -> Draft:
    """device.gap, or device.state"""
    said = "reason" if tally.key.kind == kinds.DEVICE_GAP else "state"
    values = {said: tally.key.reason, "count": tally.count, **tally.facts}
    return Draft(
        tally.key.kind, author.source, tally.key.subject, values, raw=tally.raw or None, profile=author.profile
    )


def shown_long(text: str) -> str:
    """Text for people on one line, of a length that a record may hold."""
    return "".join(shown(text[at : at + 32]) for at in range(0, min(len(text), TEXT_MAX), 32))[:TEXT_MAX]
