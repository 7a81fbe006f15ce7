"""Runs the worked examples of a feed profile: messages in, exactly the reading out that the example expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from drivers.jsonfeed import decode
from drivers.jsonfeed.decode import Feed
from drivers.jsonfeed.drafts import Author
from drivers.jsonfeed.driver import Arrived, Session
from firmware_profiles.feed_model import FeedExample, FeedProfile
from firmware_profiles.worked import Result, compare
from gateway.core import kinds, readings
from gateway.core.instant import NOT_BEFORE_NS, Instant
from gateway.core.record import Draft

NOW_NS: Final = NOT_BEFORE_NS
"""Examples arrive at a fixed moment; flags that hang on it are not compared."""
_OF_ARRIVAL: Final = frozenset({"future", "stale"})


def check_examples(profile: FeedProfile, path: Path) -> list[Result]:
    """Run every example of a profile; `path` names its file in the results."""
    feed = decode.compile(profile)
    return [_run(path, number, one, feed) for number, one in enumerate(profile.example, 1)]


def look(feed: Feed, body: bytes) -> Iterator[tuple[str, dict[str, str], bytes, str]]:
    """For people: device, what is read, the bytes as they would be stored, and what is wrong, of each reading."""
    session = Session(Author("look", "sensor", None, feed.period_s, bool(feed.profile.time)), feed, b"look")
    taken = session.take(Arrived(body, device="?"), Instant("0" * 32, 0, 0, NOW_NS))
    readings_read = [draft for draft in taken.drafts if draft.kind == kinds.READING]
    for draft in readings_read:
        said = flat(draft)
        yield said.pop("device"), said, draft.raw or b"", ""
    if not readings_read:
        yield "?", {}, taken.drafts[0].raw or b"" if taken.drafts else b"", f"{taken.result}: {taken.detail}"


def flat(draft: Draft) -> dict[str, str]:
    """A reading as texts, in the words of an example."""
    found = {readings.name_of(value): readings.shown(value) for value in draft.data["values"]}
    data: Mapping[str, Any] = draft.data
    found |= {name: str(data[name]) for name in ("sequence", "event", "category", "period_s") if name in data}
    if "taken_utc_s" in data:
        found["time"] = str(data["taken_utc_s"])
    if "depositor" in data:
        found["depositor"] = "hidden"
    if data.get("backfill"):
        found["backfill"] = "true"
    flags = " ".join(word for word in data.get("flags", "").split() if word not in _OF_ARRIVAL)
    found |= {name: text for name, text in (("flags", flags), ("deviations", data.get("deviations", ""))) if text}
    return found | {"device": draft.device}


def _run(path: Path, number: int, example: FeedExample, feed: Feed) -> Result:
    name = f"example {number}: {example.note or 'no note'}"
    session = Session(Author("example", "sensor", None, feed.period_s, bool(feed.profile.time)), feed, b"example")
    drafts: list[Draft] = []
    for message in (*example.before, example.message):
        taken = session.take(Arrived(message.encode(), device="example"), Instant("0" * 32, 0, 0, NOW_NS))
        if taken.result == "refused":
            return Result(path, name, False, f"no message: {taken.detail}")
        drafts = [draft for draft in taken.drafts if draft.kind == kinds.READING]
    if len(drafts) < example.item:
        return Result(path, name, False, f"{len(drafts)} readings in the message, and item = {example.item}")
    return compare(path, name, flat(drafts[example.item - 1]), example.expect)
