"""What has been told of each event: turns spans of judgements into `finding` records, each once.

A span says all that is to be found for one device in a stretch of time. Against what was told before, an event is
new (revision 1), changed (the next revision), the same (nothing), or gone (withdrawn). What was told is remembered
through StateChange in the commit of the records themselves, so that a crash neither repeats nor forgets one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from gateway.core import canonical, kinds
from gateway.core.finding import Judgement
from gateway.core.record import Draft, StateChange
from gateway.rules.judging import Span

SOURCE: Final = "rules"
"""Owner of the memory of judges and of findings."""
PREFIX: Final = b"finding:"
KEEP_S: Final = 40 * 86_400
"""Events that began earlier are forgotten: no fix that is judged is older than fixes.STALE_MAX_S (30 days)."""
FORGET_MAX: Final = 500
"""Events forgotten in one commit."""

State = Literal["open", "closed", "withdrawn"]


class Known(msgspec.Struct):
    """What was told last of one event."""

    judge: str
    rule: str
    source: str
    device: str
    start_utc_s: int
    revision: int
    state: State
    sha256: str
    """Of the canonical bytes of the judgement."""
    since: int
    """The record is at this seq or above it."""


@dataclass(frozen=True, slots=True)
class Telling:
    """Records to be stored, and the memory that goes with each, in one commit."""

    drafts: Sequence[Draft]
    changes: Sequence[StateChange]


LastJudgement = Callable[[str, Known], Mapping[str, Any]]
"""(id, what was told) -> the judgement as its record holds it, for a withdrawal that repeats it."""


class KnownFindings:
    """All events told of in the last 40 days."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]], last_judgement: LastJudgement) -> None:
        """`pairs` as StateChange left them: every key with PREFIX. Raises ValueError for an unreadable one."""
        self._by_device: dict[tuple[str, str, str], dict[str, Known]] = {}
        self._last_judgement = last_judgement
        for key, value in pairs:
            known = msgspec.json.decode(value, type=Known)
            self._of(known.judge, known.source, known.device)[key[len(PREFIX) :].decode()] = known

    def open(self) -> dict[str, Known]:
        """Events that last, by id."""
        return {
            name: known for group in self._by_device.values() for name, known in group.items() if known.state == "open"
        }

    def tell(self, judge: str, span: Span, since: int) -> Telling:
        """Records for what is new, changed or gone. `since`: no record made from now on has a lower seq."""
        told = self._of(judge, span.source, span.device)
        found = {judgement.id: judgement for judgement in span.judgements}
        drafts: list[Draft] = []
        changes: list[StateChange] = []

        def note(name: str, known: Known, judgement: Mapping[str, Any]) -> None:
            drafts.append(_record(span, name, known, judgement))
            changes.append(StateChange(SOURCE, PREFIX + name.encode(), msgspec.json.encode(known)))
            told[name] = known

        for name, judgement in found.items():
            shape = judgement.to_json()
            digest = digest_of(shape)
            state = state_of(judgement)
            before = told.get(name)
            if before is not None and (before.sha256, before.state) == (digest, state):
                continue
            revision = 1 if before is None else before.revision + 1
            known = Known(
                judge, judgement.rule, span.source, span.device, judgement.start_utc_s, revision, state, digest, since
            )
            note(name, known, shape)
        for name, before in list(told.items()):
            gone = name not in found and before.state != "withdrawn"
            if gone and span.from_utc_s <= before.start_utc_s < span.to_utc_s:
                shape_before = self._last_judgement(name, before)
                known = msgspec.structs.replace(
                    before, revision=before.revision + 1, state="withdrawn", sha256=digest_of(shape_before), since=since
                )
                note(name, known, shape_before)
        return Telling(drafts, changes)

    def forget(self, now_utc_s: int) -> list[StateChange]:
        """Memory that may go: events that began more than 40 days before `now`."""
        changes: list[StateChange] = []
        for device, group in list(self._by_device.items()):
            for name in [name for name, known in group.items() if known.start_utc_s < now_utc_s - KEEP_S]:
                if len(changes) == FORGET_MAX:
                    return changes
                del group[name]
                changes.append(StateChange(SOURCE, PREFIX + name.encode(), None))
            if not group:
                del self._by_device[device]
        return changes

    def _of(self, judge: str, source: str, device: str) -> dict[str, Known]:
        return self._by_device.setdefault((judge, source, device), {})


def state_of(judgement: Judgement) -> State:
    """open while the event lasts, closed once it has an end."""
    return "open" if judgement.end_utc_s is None else "closed"


def digest_of(shape: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical bytes of a judgement."""
    return hashlib.sha256(canonical.encode_checked(shape)).hexdigest()


def _record(span: Span, name: str, known: Known, judgement: Mapping[str, Any]) -> Draft:
    values = {
        "id": name,
        "rule": known.rule,
        "state": known.state,
        "revision": known.revision,
        "class": span.device_class,
        "privacy": span.privacy,
        "judgement": dict(judgement),
    }
    return Draft(kinds.FINDING, span.source, span.device, values)
