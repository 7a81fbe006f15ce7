"""Plays the runner for the session: events in, commands obeyed on a dict; `now` is a number that the test moves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from drivers.bodycam.codec import NameCodec
from drivers.bodycam.drafts import Author
from drivers.bodycam.driver import (
    Command,
    Count,
    Emit,
    Event,
    Limits,
    List,
    Listed,
    ListPart,
    Probe,
    Probed,
    Session,
    SetState,
    Take,
    TakeDone,
    TakeFailed,
)
from drivers.bodycam.examples import read_content
from drivers.files import Entry, Failure, ListingEnd, Refusal, Taken
from firmware_profiles.loader import load
from gateway.core.instant import Instant
from gateway.core.record import Draft, ProfileRef, check_draft

S = 1_000_000_000
NOW = Instant("0" * 32, 1, 1, 1)
DSJ = b"DSJ_3301234_060001_20250221030623"


@dataclass
class Bench:
    """Plays the runner: commits every Emit to a dict, keeps what was said."""

    poll_s: float = 10.0
    stable_s: float = 5.0
    file_max_bytes: int = 10**9
    probe: bool = True
    profile: str = "gat947"
    memory: dict[bytes, bytes] = field(default_factory=dict)
    now: int = 1000 * S
    drafts: list[Draft] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    state: SetState | None = None

    def __post_init__(self) -> None:
        loaded = load(self.profile)
        self.codec = NameCodec(loaded.profile)
        self.session = self.start()

    def start(self) -> Session:
        """A fresh session over the same memory: what a restart is."""
        self.session = Session(
            Author("s1", "station one", ProfileRef(self.profile, "00" * 32)),
            self.codec,
            Limits(self.poll_s, self.stable_s, self.file_max_bytes, probe=self.probe),
            place="/media/station",
            recall=self.memory.get,
            remembered=[key for key in self.memory if key[:1] in {b"f", b"g"}],
        )
        return self.session

    def tell(self, event: Event) -> list[Draft]:
        """Handle one event; the drafts it caused."""
        before = len(self.drafts)
        for command in self.session.handle(event, self.now):
            self._obey(command)
        return self.drafts[before:]

    def _obey(self, command: Command) -> None:
        if isinstance(command, Emit):
            assert command.drafts or all(change.value is None for change in command.state), "only forgetting is silent"
            for draft in command.drafts:
                check_draft(draft, NOW)
            self.drafts += command.drafts
            for change in command.state:
                assert change.source == "s1"
                if change.value is None:
                    self.memory.pop(change.key, None)
                else:
                    self.memory[change.key] = change.value
        elif isinstance(command, Count):
            self.counts[command.name] = self.counts.get(command.name, 0) + command.by
        else:
            self.state = command

    def list(self, *entries: Entry, refusals: tuple[Refusal, ...] = (), **end: Any) -> list[Draft]:
        """One listing at the time it is due."""
        self.now = max(self.now, self.session.deadline_ns())
        assert self.session.next(self.now) == List()
        out = self.tell(ListPart(entries, refusals))
        return out + self.tell(Listed(ListingEnd(**{"complete": True, **end})))

    def settle(self, *entries: Entry) -> None:
        """List until the entries are stable."""
        self.list(*entries)
        self.list(*entries)

    def take(self, content: bytes = b"x", **taken: Any) -> list[Draft]:
        """Do the Take that is due now."""
        work = self.session.next(self.now)
        while isinstance(work, Probe):
            self.tell(Probed(work.entry.path, "closed"))
            work = self.session.next(self.now)
        assert isinstance(work, Take), work
        return self.tell(done(work.entry, content, self.codec, **taken))

    def kinds(self) -> list[str]:
        return [draft.kind for draft in self.drafts]


def entry(path: bytes = DSJ + b".MP4", size: int = 1, version: str = "v1", **more: Any) -> Entry:
    return Entry(path, size, version, **more)


def done(one: Entry, content: bytes, codec: NameCodec, **more: Any) -> TakeDone:
    taken = Taken(hashlib.sha256(content).hexdigest(), len(content), **{"already_there": False, **more})
    return TakeDone(one, taken, read_content(content, one.path, codec))


def fail(bench: Bench, failure: Failure) -> list[Draft]:
    work = bench.session.next(bench.now)
    while isinstance(work, Probe):
        bench.tell(Probed(work.entry.path, "closed"))
        work = bench.session.next(bench.now)
    assert isinstance(work, Take), work
    return bench.tell(TakeFailed(work.entry, failure))
