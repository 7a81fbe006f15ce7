"""The session of one body-camera station: listings and results in, commands and records out. No I/O, no clock.

Life of a file: listed → the same size and version over `stable_s` and two listings (one where the station declares
its hash) → container closed, or quiet for the profile's `quiet_s` → Take → records and memory in one commit → known.

Memory (StateChange keys): `f` + digest of path, size and version → sha256, a file that was taken; `h` + sha256 →
path, content that was taken whole; `g` + digest of path and reason → a gap that has its record; `l` + digest of
a stem → members of a family; `m` + digest of the place → it was a mounted file system; `a` + code → a raised alarm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from drivers.bodycam import drafts
from drivers.bodycam.codec import FileName, NameCodec
from drivers.bodycam.drafts import Author, Content, Member
from drivers.bodycam.sidecars import SidecarContent
from drivers.bodycam.tracks import TrackContent
from drivers.files import Entry, Failure, ListingEnd, PeerClock, Refusal, Taken
from gateway.core.record import Draft, StateChange

CANDIDATES_MAX: Final = 4096
"""Files waiting at one time; more wait unlisted at the station until there is room here."""
GAPS_MAX: Final = 50_000
"""Gap records of one source; a hostile station must not fill the log. Beyond it: one alarm, and a counter."""
DRAFTS_PER_EMIT: Final = 200
FORGET_PER_EMIT: Final = 5000
FAMILY_MAX: Final = 16
RETRY_MIN_NS: Final = 5_000_000_000
RETRY_MAX_NS: Final = 600_000_000_000
FULL_RETRY_NS: Final = 30_000_000_000
FULL_STREAK: Final = 3
LINK_STREAK: Final = 5
"""So many copies may break off one after another at once; then the pauses between them grow."""
KNOWN_MAX: Final = 400_000
"""Files remembered as taken. Beyond it those that the station no longer holds are forgotten: docked again, they
would be copied again and found to be the same content."""
OFFSET_AGE_NS: Final = 3_600_000_000_000
OFFSET_MOVED_MS: Final = 2_000
WAKE_MIN_NS: Final = 1_000_000_000
NOT_FILES: Final = frozenset({"link", "fifo", "socket", "device"})
"""Refusals of a listing that leave no recording out."""
LISTING_SHARE: Final = 10
"""A listing takes at most a tenth of the time."""


# ------------------------------------------------------------------------------- events, commands


@dataclass(frozen=True, slots=True)
class ListPart:
    """Some of a listing."""

    entries: Sequence[Entry]
    refusals: Sequence[Refusal] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """The listing is through."""

    end: ListingEnd


@dataclass(frozen=True, slots=True)
class ListFailed:
    """The station could not be listed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Probed:
    """Whether the recorder has closed a file: closed, open, unknown."""

    path: bytes
    container: str


@dataclass(frozen=True, slots=True)
class TakeDone:
    """A file is in the spool; `content` of sidecars and tracks is read from there."""

    entry: Entry
    taken: Taken
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class TakeFailed:
    """A file is not in the spool."""

    entry: Entry
    failure: Failure


Event = ListPart | Listed | ListFailed | Probed | TakeDone | TakeFailed


@dataclass(frozen=True, slots=True)
class List:
    """Walk through the station."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Look whether the container is closed."""

    entry: Entry
    container: str


@dataclass(frozen=True, slots=True)
class Take:
    """Copy a file into the spool."""

    entry: Entry
    use: str


@dataclass(frozen=True, slots=True)
class Emit:
    """Commit records and memory together, before anything else happens."""

    drafts: tuple[Draft, ...]
    state: tuple[StateChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """Add to a counter of the source."""

    name: str
    by: int = 1


@dataclass(frozen=True, slots=True)
class SetState:
    """State of the source for people."""

    state: Literal["starting", "ok", "degraded", "down", "disabled"]
    reason: str = ""


Work = List | Probe | Take
Command = Emit | Count | SetState


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of one station."""

    poll_s: float
    stable_s: float
    file_max_bytes: int
    probe: bool = True
    """Containers can be looked into before taking."""


@dataclass(slots=True)
class _Candidate:
    entry: Entry
    name: FileName
    first_ns: int
    """When this version was first seen."""
    stable_ns: int
    """How long it must stay the same."""
    polls: int = 1
    seen_in: int = 0
    not_before_ns: int = 0
    failures: int = 0
    is_full: bool = False
    """The spool had no room for it at the last attempt."""
    problem: str = ""
    takes: int = 0
    container: str = ""
    last_sha256: str = ""


class Session:
    """One station. `handle` takes events; `next` says what to do; `deadline_ns` until when to wait."""

    def __init__(
        self,
        author: Author,
        codec: NameCodec,
        limits: Limits,
        *,
        place: str,
        recall: Callable[[bytes], bytes | None],
        remembered: Iterable[bytes] = (),
    ) -> None:
        """`recall` reads committed memory; `remembered` are all keys of it that begin with `f` or `g`."""
        self.author = author
        self.codec = codec
        self.limits = limits
        self.place = place
        self._recall = recall
        self._known: set[bytes] = set()
        self._gaps: set[bytes] = set()
        for key in remembered:
            (self._known if key[:1] == b"f" else self._gaps).add(key)
        self._candidates: dict[bytes, _Candidate] = {}
        self._state: Literal["starting", "up", "down"] = "starting"
        self._poll_at_ns = 0
        self._pass_started_ns = 0
        self._wake_from_ns = 0
        self._soon_ns = 1 << 62  # list again for files that were seen once, as soon as nothing is ready to be taken
        self._pass = 0
        self._overflow = 0
        self._link_failures = 0
        self._hold_until_ns = 0
        self._full_streak = 0
        self._link_streak = 0
        self._unlisted = self._full_text = ""
        self._alarms = {code for code in ("spool-full", "gap-limit") if recall(b"a" + code.encode())}
        self._offset_at_ns: int | None = None
        self._offset_ms = 0
        self._seen: set[bytes] | None = None
        """Known files of the running listing, kept only when there are too many to remember."""
        self._mount_key = b"m" + _digest(place.encode())

    # -------------------------------------------------------------------------------- what to do

    def next(self, now_ns: int) -> Work | None:
        """The next piece of work, or None: wait until `deadline_ns`."""
        if now_ns >= self._poll_at_ns:
            self._pass += 1
            self._overflow = 0
            self._unlisted = ""
            self._pass_started_ns = now_ns
            self._seen = set() if len(self._known) > KNOWN_MAX else None
            return List()
        if self._state == "up" and now_ns >= self._hold_until_ns:
            for candidate in self._candidates.values():
                if (work := self._work(candidate, now_ns)) is not None:
                    return work
        self._poll_at_ns = min(self._poll_at_ns, self._soon_ns)
        return None

    def deadline_ns(self) -> int:
        """When `next` may have something new without an event: the next listing comes before any retry ends."""
        return self._poll_at_ns

    def wake(self, now_ns: int) -> None:
        """Something may have changed at the station: list soon."""
        if self._state == "up":
            self._poll_at_ns = min(self._poll_at_ns, max(now_ns, self._wake_from_ns))

    def _work(self, candidate: _Candidate, now_ns: int) -> Work | None:
        if now_ns < candidate.not_before_ns:
            return None
        polls = 1 if candidate.entry.sha256 else 2
        if candidate.polls < polls or now_ns - candidate.first_ns < candidate.stable_ns:
            return None
        if candidate.name.container and self.limits.probe:
            if not candidate.container:
                return Probe(candidate.entry, candidate.name.container)
            if candidate.container == "open":
                quiet_ns = int(self.codec.profile.quiet_s * 1e9)
                if now_ns - candidate.first_ns < quiet_ns:
                    return None
        return Take(candidate.entry, candidate.name.use)

    # ------------------------------------------------------------------------------------ events

    def handle(self, event: Event, now_ns: int) -> list[Command]:
        """What an event causes. The caller commits every Emit before it goes on."""
        match event:
            case ListPart():
                return self._list_part(event, now_ns)
            case Listed():
                return self._listed(event.end, now_ns)
            case ListFailed():
                return self._down(event.reason, now_ns)
            case Probed():
                candidate = self._candidates.get(event.path)
                if candidate is not None:
                    candidate.container = event.container
                return []
            case TakeDone():
                return self._take_done(event, now_ns)
            case TakeFailed():
                return self._take_failed(event.entry, event.failure, now_ns)

    def _list_part(self, part: ListPart, now_ns: int) -> list[Command]:
        gaps: list[tuple[bytes, str, str, bool]] = [
            (refusal.path, refusal.reason, refusal.text, True) for refusal in part.refusals
        ]
        for refusal in part.refusals:
            if refusal.reason not in NOT_FILES:
                self._unlisted = self._unlisted or f"{self.codec.read(refusal.path).display}: {refusal.text}"
        for entry in part.entries:
            key = _known_key(entry)
            if key in self._known:
                if self._seen is not None:
                    self._seen.add(key)
                if entry.path in self._candidates:
                    del self._candidates[entry.path]
                continue
            if entry.size_bytes is not None and entry.size_bytes > self.limits.file_max_bytes:
                text = f"{entry.size_bytes} bytes; file_max_bytes is {self.limits.file_max_bytes}"
                gaps.append((entry.path, "too-big", text, False))
                continue
            candidate = self._candidates.get(entry.path)
            if candidate is not None:
                self._seen_again(candidate, entry, now_ns)
                continue
            name = self.codec.read(entry.path)
            if name.use == "ignore":
                gaps.append((entry.path, "ignored", "the profile leaves such files at the station", False))
            elif len(self._candidates) >= CANDIDATES_MAX:
                self._overflow += 1
            else:
                stable_ns = 0 if entry.sha256 else int(self.limits.stable_s * 1e9)
                self._candidates[entry.path] = _Candidate(entry, name, now_ns, stable_ns, seen_in=self._pass)
        return self._gap_commands(gaps)

    def _seen_again(self, candidate: _Candidate, entry: Entry, now_ns: int) -> None:
        before = candidate.entry
        candidate.entry = entry
        candidate.seen_in = self._pass
        if (before.size_bytes, before.version) == (entry.size_bytes, entry.version):
            candidate.polls += 1
            return
        candidate.first_ns, candidate.polls, candidate.container = now_ns, 1, ""
        candidate.failures = candidate.not_before_ns = 0

    def _listed(self, end: ListingEnd, now_ns: int) -> list[Command]:
        if not end.mounted and self._recall(self._mount_key):
            reason = "no file system is mounted there any more; mount the station again"
            return self._down(f"{self.place}: {reason}", now_ns)
        commands: list[Command] = []
        self._unlisted = "" if end.complete else self._unlisted
        spent_ns = now_ns - self._pass_started_ns
        self._wake_from_ns = now_ns + max(WAKE_MIN_NS, LISTING_SHARE * spent_ns)
        self._poll_at_ns = now_ns + max(int(self.limits.poll_s * 1e9), LISTING_SHARE * spent_ns)
        waiting = [one.stable_ns for one in self._candidates.values() if one.polls < 2 and not one.entry.sha256]
        soon_ns = now_ns + max(min(waiting, default=1 << 62), 50_000_000, spent_ns)
        self._soon_ns = min(self._poll_at_ns, soon_ns)
        if not any(self._work(one, now_ns) for one in self._candidates.values()):
            self._poll_at_ns = self._soon_ns
        if self._state != "up":
            first = self._state == "starting"
            reason = "listed for the first time since the gateway started" if first else "listed again"
            self._state = "up"
            self._link_failures = 0
            mark = (self._remember(self._mount_key, b"1"),) if end.mounted else ()
            commands.append(Emit((drafts.state_draft(self.author, "up", self.place, reason),), mark))
        if end.complete and not self._overflow:
            commands += self._vanished()
            if self._seen is not None:
                commands += self._forget(self._seen)
                self._seen = None
        if end.peer_clock is not None:
            commands += self._peer_clock(end.peer_clock, now_ns)
        if len(self._candidates) >= CANDIDATES_MAX:
            commands.append(Count("listing_overflows"))
        return [*commands, Count("listings"), self._status(now_ns)]

    def _status(self, now_ns: int) -> SetState:
        if any(one.is_full for one in self._candidates.values()):
            return SetState("degraded", f"files stay at the station until there is room: {self._full_text}")
        if now_ns < self._hold_until_ns:
            return SetState("degraded", "copies break off again and again; the next attempt waits")
        failing = [one for one in self._candidates.values() if one.failures]
        if failing:
            one = f"{failing[0].name.display}: {failing[0].problem}"
            return SetState("degraded", f"files that cannot be taken yet: {len(failing)}, such as {one}")
        if self._unlisted:
            return SetState("degraded", f"some of the station cannot be listed, such as {self._unlisted}")
        return SetState("ok")

    def _forget(self, seen: set[bytes]) -> list[Command]:
        gone = [StateChange(self.author.source, key, None) for key in self._known - seen]
        self._known &= seen
        return [Emit((), tuple(gone[at : at + FORGET_PER_EMIT])) for at in range(0, len(gone), FORGET_PER_EMIT)]

    def _vanished(self) -> list[Command]:
        """Files that were listed and are gone before they could be taken, unless they were only renamed."""
        gone = [one for one in self._candidates.values() if one.seen_in != self._pass]
        inodes = {one.entry.inode for one in self._candidates.values() if one.seen_in == self._pass}
        gaps = []
        for candidate in gone:
            del self._candidates[candidate.entry.path]
            if candidate.entry.inode is None or candidate.entry.inode not in inodes:
                text = "listed, but gone from the station before it was stable and taken"
                gaps.append((candidate.entry.path, "vanished", text, True))
        return self._gap_commands(gaps)

    def _down(self, reason: str, now_ns: int) -> list[Command]:
        self._link_failures += 1
        pause_ns = int(self.limits.poll_s * 1e9) << min(self._link_failures - 1, 5)
        self._poll_at_ns = now_ns + min(pause_ns, max(RETRY_MAX_NS // 10, int(self.limits.poll_s * 1e9)))
        commands: list[Command] = [Count("link_failures"), SetState("down", reason)]
        if self._state != "down":
            self._state = "down"
            commands.append(Emit((drafts.state_draft(self.author, "down", self.place, reason),)))
        return commands

    def _peer_clock(self, peer: PeerClock, now_ns: int) -> list[Command]:
        offset_ms, uncertainty_ms = drafts.peer_offset_ms(peer)
        if self._offset_at_ns is not None:
            moved = abs(offset_ms - self._offset_ms) > OFFSET_MOVED_MS + uncertainty_ms
            age_ns = now_ns - self._offset_at_ns
            if age_ns < OFFSET_AGE_NS // 60 or (age_ns < OFFSET_AGE_NS and not moved):
                return []
        self._offset_at_ns, self._offset_ms = now_ns, offset_ms
        return [Emit((drafts.peer_offset(self.author, peer),))]

    # ------------------------------------------------------------------------------ taken, or not

    def _take_done(self, event: TakeDone, now_ns: int) -> list[Command]:
        entry, taken = event.entry, event.taken
        candidate = self._candidates.get(entry.path)
        name = candidate.name if candidate else self.codec.read(entry.path)
        self._hold_until_ns = self._full_streak = self._link_streak = 0
        if candidate is not None:
            candidate.is_full = False
        commands = self._room_again()
        settled = not taken.changed or bool(candidate and candidate.last_sha256 == taken.sha256)
        first_path = self._recall(b"h" + bytes.fromhex(taken.sha256))
        known = self._remember(_known_key(entry), bytes.fromhex(taken.sha256))
        if settled and first_path is not None:
            draft = drafts.sighting_draft(self.author, name, entry, taken, first_path)
            commands += [Emit((draft,), (known,)), Count("sightings")]
        else:
            commands += self._file_commands(event, candidate, name, known if settled else None)
            commands += [Count("files_taken"), Count("bytes_taken", taken.size_bytes)]
        commands += self._declared_gap(entry, taken)
        if settled:
            self._known.add(known.key)
            self._candidates.pop(entry.path, None)
        elif candidate is not None:
            candidate.takes += 1
            candidate.last_sha256 = taken.sha256
            candidate.first_ns, candidate.polls, candidate.container = now_ns, 0, ""
            quiet_ns = int(max(self.codec.profile.quiet_s, self.limits.stable_s) * 1e9)
            candidate.stable_ns = min(2 * candidate.stable_ns + 1, quiet_ns)
            self._poll_at_ns = min(self._poll_at_ns, now_ns + candidate.stable_ns)
            commands.append(Count("files_changed_while_copied"))
        return [*commands, self._status(now_ns)]

    def _file_commands(
        self, event: TakeDone, candidate: _Candidate | None, name: FileName, known: StateChange | None
    ) -> list[Command]:
        entry, taken, content = event.entry, event.taken, event.content
        has_partners = self.codec.profile.sidecar or self.codec.profile.track
        keys = [b"l" + _digest(key) for key in self.codec.partners(entry.path, name.use)] if has_partners else []
        families = {key: _members(self._recall(key)) for key in keys}
        family = [member for members in families.values() for member in members]
        device, _ = drafts.device_of(name, entry, content, family)
        container = candidate.container if candidate else ""
        attempt = candidate.takes + 1 if candidate else 1
        out = [
            drafts.file_draft(
                self.author,
                name,
                entry,
                taken,
                content=content,
                family=family,
                container=container,
                attempt=attempt,
            )
        ]
        state: list[StateChange] = []
        if known is not None:
            state += [known, self._remember(b"h" + bytes.fromhex(taken.sha256), entry.path[:1024])]
            member = Member(name.use, entry.path.hex(), name.display[:512], taken.sha256, device)
            state += [self._remember(key, _joined(families[key], member)) for key in keys]
            out += self._content_drafts(name, taken, content, device)
        counts = sum(draft.kind == "position" for draft in out)
        return [Emit(tuple(out), tuple(state)), *([Count("position_records", counts)] if counts else [])]

    def _content_drafts(self, name: FileName, taken: Taken, content: Content | None, device: str) -> Iterator[Draft]:
        offset: Draft | None = None
        if isinstance(content, SidecarContent):
            offset = drafts.sidecar_offset(self.author, device, content, name.display)
        elif isinstance(content, TrackContent):
            yield from drafts.position_drafts(self.author, name, taken, content, device)
            if name.time is not None:
                offset = drafts.track_offset(self.author, device, name.time, content, name.display)
        if offset is not None:
            yield offset

    def _declared_gap(self, entry: Entry, taken: Taken) -> list[Command]:
        gaps = []
        if entry.sha256 and entry.sha256 != taken.sha256:
            text = f"the station declares {entry.sha256}, the bytes it sent have {taken.sha256}"
            gaps.append((entry.path, "sha256-mismatch", text, False))
        if entry.url and entry.size_bytes is not None and entry.size_bytes != taken.size_bytes:
            text = f"the station declares {entry.size_bytes} bytes and sent {taken.size_bytes}"
            gaps.append((entry.path, "size-mismatch", text, False))
        return self._gap_commands(gaps)

    def _take_failed(self, entry: Entry, failure: Failure, now_ns: int) -> list[Command]:
        if failure.failure == "link":
            self._link_streak += 1
            if (beyond := self._link_streak - LINK_STREAK) > 0:
                self._hold_until_ns = now_ns + min(RETRY_MIN_NS << min(beyond - 1, 10), RETRY_MAX_NS)
            return [Count("take_failures"), *self._down(failure.text, now_ns)]
        candidate = self._candidates.get(entry.path)
        if failure.reason == "changed":
            if candidate is not None:
                candidate.first_ns, candidate.polls, candidate.container = now_ns, 0, ""
            return [Count("files_changed_before_copy")]
        commands: list[Command] = [Count("take_failures")]
        retried = failure.failure != "permanent"
        if failure.failure == "full":
            commands += self._no_room(candidate, failure.text, now_ns)
        if candidate is not None and retried:
            candidate.problem = failure.text
            candidate.failures += 1
            least_ns = FULL_RETRY_NS if failure.failure == "full" else RETRY_MIN_NS
            candidate.not_before_ns = now_ns + min(least_ns << min(candidate.failures - 1, 10), RETRY_MAX_NS)
        elif candidate is not None:
            self._known.add(_known_key(entry))  # not remembered: the next start tries again
            del self._candidates[entry.path]
        gaps = [(entry.path, failure.reason, failure.text, retried)]
        return [*commands, *self._gap_commands(gaps), self._status(now_ns)]

    def _no_room(self, candidate: _Candidate | None, text: str, now_ns: int) -> list[Command]:
        """Smaller files get their turn first; after FULL_STREAK refusals in a row the whole station waits."""
        if candidate is not None:
            candidate.is_full = True
            self._candidates[candidate.entry.path] = self._candidates.pop(candidate.entry.path)
        self._full_streak += 1
        self._full_text = text
        if self._full_streak >= FULL_STREAK:
            self._hold_until_ns = now_ns + FULL_RETRY_NS
        return self._alarm("spool-full", f"files stay at {self.author.station} until there is room: {text}")

    # ---------------------------------------------------------------------------- gaps and alarms

    def _gap_commands(self, gaps: Sequence[tuple[bytes, str, str, bool]]) -> list[Command]:
        out: list[Draft] = []
        state: list[StateChange] = []
        commands: list[Command] = []
        for path, reason, text, retried in gaps:
            key = b"g" + _digest(path, reason.encode())
            if key in self._gaps:
                continue
            if len(self._gaps) >= GAPS_MAX:
                full = f"{self.place}: more than {GAPS_MAX} entries were refused; further ones are only counted"
                commands += [*self._alarm("gap-limit", full), Count("gaps_beyond_limit")]
                continue
            self._gaps.add(key)
            display = self.codec.read(path).display
            out.append(drafts.gap_draft(self.author, display, path, reason, text, retried=retried))
            state.append(self._remember(key, b"1"))
        for first in range(0, len(out), DRAFTS_PER_EMIT):
            last = first + DRAFTS_PER_EMIT
            commands.append(Emit(tuple(out[first:last]), tuple(state[first:last])))
        return [*commands, *([Count("gaps", len(out))] if out else [])]

    def _alarm(self, code: str, text: str) -> list[Command]:
        if code in self._alarms:
            return []
        self._alarms.add(code)
        mark = self._remember(b"a" + code.encode(), b"1")
        return [Emit((drafts.alarm_draft(self.author, code, "raised", text),), (mark,))]

    def _room_again(self) -> list[Command]:
        """Clear the alarm when no file waits for room any more."""
        if "spool-full" not in self._alarms or any(one.is_full for one in self._candidates.values()):
            return []
        self._alarms.discard("spool-full")
        draft = drafts.alarm_draft(self.author, "spool-full", "cleared", f"{self.author.station}: there is room")
        return [Emit((draft,), (StateChange(self.author.source, b"aspool-full", None),))]

    def _remember(self, key: bytes, value: bytes) -> StateChange:
        return StateChange(self.author.source, key, value)


def _known_key(entry: Entry) -> bytes:
    return b"f" + _digest(entry.path, str(entry.size_bytes).encode(), entry.version.encode())


def _digest(*parts: bytes) -> bytes:
    """128 bits over parts that cannot run into one another."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


def _members(value: bytes | None) -> list[Member]:
    return [Member(*row) for row in json.loads(value)] if value else []


def _joined(members: list[Member], new: Member) -> bytes:
    kept = [one for one in members if one.path_hex != new.path_hex][-(FAMILY_MAX - 1) :]
    rows = [(one.use, one.path_hex, one.display, one.sha256, one.device) for one in [*kept, new]]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
