"""The session of one JSON feed: messages and time in, records and answers out. No socket, no clock, no thread.

A message is answered (PUBACK, 200) when everything in it lies in the store; `Taken` says what to store first. What
comes again because its answer was lost is answered again and stored once:

- A reading is known by device, sequence and time, and by what it says. The same again: not stored.
- The same sequence with other values is stored, and marked `sequence-again`: a device that counts anew, or a forger.
- Without sequence and time two readings can be alike. Only a message that the broker marks as sent again (DUP) and that
  is the same byte by byte counts as the same.

What cannot be read is a device.gap, at once and then at most once a minute for each reason, and answered: it would
not become better by coming again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from drivers.jsonfeed import drafts
from drivers.jsonfeed.codec import Malformed, parse
from drivers.jsonfeed.decode import Feed, Item, shown
from drivers.jsonfeed.drafts import Author, Envelope
from drivers.jsonfeed.levels import PREFIX as LEVELS_PREFIX
from drivers.jsonfeed.levels import Levels
from drivers.jsonfeed.persons import Hidden, masked
from drivers.repeats import PREFIX as REPEATS_PREFIX
from drivers.repeats import Repeats
from drivers.tallies import RAW_MAX_BYTES, Key, Tallies
from gateway.core import kinds
from gateway.core.instant import Instant
from gateway.core.record import Draft, StateChange

SECRET_KEY: Final = b"secret"
SECRET_BYTES: Final = 32
Result = Literal["stored", "repeated", "refused", "unread"]
"""refused: no message; unread: a message in which the profile reads nothing."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message."""

    body: bytes
    topic: str = ""
    """Of MQTT."""
    device: str = ""
    """Who sent it, as the topic or the configuration says; what the message says comes first."""
    again: bool = False
    """The broker says that it sends it again, or that it had kept it."""
    retained: bool = False


@dataclass(slots=True)
class Taken:
    """What a message has become. It may be answered when all of this is on disk."""

    result: Result = "stored"
    detail: str = ""
    drafts: list[Draft] = field(default_factory=list)
    state: list[StateChange] = field(default_factory=list)
    marks: bytes = b""
    """For `Session.round`, in the commit of the drafts."""
    stored: int = 0
    repeated: int = 0


class Session:
    """One source."""

    def __init__(
        self,
        author: Author,
        feed: Feed,
        secret: bytes,
        listed: Iterable[str] = (),
        remembered: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """`secret`: what persons are hashed with. `listed`: the devices that are expected; others are marked, none:
        any. `remembered`: what earlier commits held of this source."""
        pairs = list(remembered)
        self._author, self._feed, self._secret = author, feed, secret
        self._listed = frozenset(listed)
        step_e6 = feed.weighings.step_e6 if feed.weighings else 0
        levels = [pair for pair in pairs if pair[0].startswith(LEVELS_PREFIX)]
        self._levels = Levels(author.source, feed.rising, step_e6, levels)
        self._repeats = Repeats(author.source, [pair for pair in pairs if pair[0].startswith(REPEATS_PREFIX)])
        self._tallies = Tallies()
        self.counts: Counter[str] = Counter()
        """messages, readings, repeated, refused, unread."""

    def take(self, arrived: Arrived, now: Instant) -> Taken:
        """Read a message."""
        self.counts["messages"] += 1
        document = parse(arrived.body)
        items = document if isinstance(document, Malformed) else self._feed.read(document)
        if isinstance(document, Malformed) or isinstance(items, Malformed):
            wrong = document if isinstance(document, Malformed) else items
            assert isinstance(wrong, Malformed)  # noqa: S101  what mypy cannot see
            return self._refuse(arrived, "refused", wrong.reason, wrong.detail, now)
        hidden = Hidden(document, self._feed.persons(document, items), self._secret)
        envelope = Envelope(len(arrived.body), len(items), arrived.topic, arrived.retained, hidden, hidden.raw)
        taken = Taken()
        body_mark = self._repeats.mark(b"b" + envelope.raw)
        if body_mark is not None:
            taken.marks += body_mark
        for part, item in enumerate(items, 1):
            item.device = hidden.cleaned(item.device or shown(arrived.device))
            self._item(item, part, envelope, taken, now, known=body_mark is None and arrived.again)
        unread = [item for item in items if not self._is_read(item)]
        if unread and len(unread) < len(items):  # the message is kept with the others, so nothing is lost
            reason, detail = self._why_unread(unread)
            taken.drafts += self._tell(arrived, reason, f"{len(unread)} of {len(items)} readings: {detail}", now)
        self.counts["readings"] += taken.stored
        self.counts["repeated"] += taken.repeated
        if not taken.stored:
            taken.result = "repeated" if taken.repeated else "unread"
        if taken.result == "unread":
            reason, detail = self._why_unread(items)
            return self._refuse(arrived, "unread", reason, detail, now)
        return taken

    def _item(self, item: Item, part: int, envelope: Envelope, taken: Taken, now: Instant, *, known: bool) -> None:
        if not self._is_read(item):
            return
        if known or not self._is_new(item, taken):
            taken.repeated += 1
            return
        taken.state += self._levels.judge(item, _order(item))
        flags = {"unlisted"} if self._listed and item.device not in self._listed else set()
        taken.drafts.append(drafts.reading_draft(self._author, item, part, envelope, flags, now.utc_ns))
        taken.stored += 1

    @staticmethod
    def _is_read(item: Item) -> bool:
        return bool(item.device and (item.values or item.event))

    def _is_new(self, item: Item, taken: Taken) -> bool:
        """Whether it has not been here; a sequence number that comes again with other values is a deviation."""
        if not (item.sequence or item.time_text):
            return True
        says = [[value.get(name) for name in ("quantity", "channel", "text", "state")] for value in item.values]
        name = json.dumps([item.device, item.sequence, item.time_text])
        mark = self._repeats.mark(b"r" + json.dumps([name, item.event, item.category, says]).encode())
        if mark is None:
            return False
        taken.marks += mark
        if item.sequence:
            mark = self._repeats.mark(b"s" + json.dumps([item.device, item.sequence]).encode())
            if mark is None:
                item.deviations.add("sequence-again")
            else:
                taken.marks += mark
        return True

    def _why_unread(self, items: list[Item]) -> tuple[str, str]:
        if not items:
            return "nothing-read", "the list of readings is empty"
        if not any(item.device for item in items):
            return "no-device", "nothing names the device; correct `device` in the profile or the configuration"
        return "nothing-read", "no value of the profile is in it; compare with: fieldgate profile poll"

    def _refuse(self, arrived: Arrived, result: Result, reason: str, detail: str, now: Instant) -> Taken:
        self.counts[result] += 1
        return Taken(result, detail, self._tell(arrived, reason, detail, now))

    def _tell(self, arrived: Arrived, reason: str, detail: str, now: Instant) -> list[Draft]:
        """device.gap, or nothing where it is counted for later."""
        head, hides = arrived.body[:RAW_MAX_BYTES], self._feed.hides
        facts: dict[str, Any] = {"detail": drafts.shown_long(detail), "size_bytes": len(arrived.body)}
        if arrived.topic:
            facts["topic"] = drafts.shown_long(arrived.topic)
        if hides:
            head = masked(head)
            facts |= {name: masked(text.encode()).decode() for name, text in facts.items() if isinstance(text, str)}
            facts["masked"] = True
        tally = self._tallies.note(Key(kinds.DEVICE_GAP, reason, ""), facts, head, now.mono_ns)
        return [] if tally is None else [drafts.told_draft(self._author, tally)]

    def state(self, state: str, reason: str, address: str, now: Instant) -> list[Draft]:
        """device.state of the broker (online, offline) or of a sender (refused)."""
        facts = {"reason": drafts.shown_long(reason), "address": drafts.shown_long(address)}
        tally = self._tallies.note(Key(kinds.DEVICE_STATE, state, ""), facts, b"", now.mono_ns)
        return [] if tally is None else [drafts.told_draft(self._author, tally)]

    def round(self, marks: bytes) -> StateChange:
        """What to store beside the drafts of one commit whose marks these are."""
        return self._repeats.round(marks)

    def due(self, now_ns: int) -> list[Draft]:
        """What was counted in silence and is to be told now. At most once a second is enough."""
        return [drafts.told_draft(self._author, tally) for tally in self._tallies.due(now_ns)]

    def close(self) -> list[Draft]:
        """The end: everything counted and not told yet."""
        return [drafts.told_draft(self._author, tally) for tally in self._tallies.close()]


def _order(item: Item) -> int | None:
    """By what readings of a device follow one another: its time, else its sequence."""
    if item.time is not None:
        return item.time.local_ns()
    return int(item.sequence) if item.sequence.isascii() and item.sequence.isdecimal() else None
