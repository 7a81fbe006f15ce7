"""The judge service: follows the journal, runs the judges over it, and stores what they find, each event once.

One loop on the event loop that also acknowledges devices, so it yields after every slice of records, and the longer
work (a day judged again, an answer from the store) runs in a worker thread. It never holds up taking in: a judge
that lags reads from the store what has left the ring of new rows.

What is remembered (SourceMemory, source "rules"), so that a kill at any moment neither repeats nor loses a finding:

    cursor          seq to go on from, together with the memory of the judges (`memory:<judge>:<key>`)
    told            seq and time up to which findings were told; renewed in the commit of the findings themselves
    finding:<id>    what was told of an event (gateway.known)
    book            the rule book in force

After a start the records between `cursor` and `told` go through the judges again without a word: only from `told` on
are they asked, so that no passing state is told twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import msgspec

from gateway import log, metrics
from gateway.core import kinds
from gateway.core.alarms import TEXT_MAX, Alarms
from gateway.core.errors import StoreFull
from gateway.core.ports import Clock, Reader, Sink, SourceMemory
from gateway.core.record import Draft, StateChange, parse_leaf
from gateway.known import PREFIX, SOURCE, Known, KnownFindings
from gateway.recent import Recent
from gateway.rules.judging import Judge, Seen, Span
from gateway.seen import READ_RECORDS, TooMuch, history, of_kind, read, weight

CHUNK_RECORDS: Final = 512
"""Records taken at once from the ring or the store."""
SLICE_FIXES: Final = 48
"""Fixes judged between two looks at the event loop: a few milliseconds."""
ASK_RECORDS: Final = 4_000
"""The judges are asked at least after so many records, …"""
ASK_MIN_S: Final = 0.25
"""… at most so often while records come, …"""
ASK_IDLE_S: Final = 2.0
"""… and so often while none come: silence is judged too."""
KEEP_RECORDS: Final = 20_000
KEEP_NS: Final = 600 * 10**9
"""After so many records, or so much time of arrival, the memory of the judges is written."""
FINDINGS_PER_COMMIT: Final = 64
RETRY_S: Final = 5.0
"""Pause before findings that the full store refused are offered again."""
SHOWN_AT_START_MAX: Final = 500

MEMORY: Final = b"memory:"
CURSOR: Final = b"cursor"
TOLD: Final = b"told"
BOOK: Final = b"book"
SHOWN: Final = frozenset({kinds.POSITION, kinds.DEVICE_STATE})
BROKEN: Final = "rules.broken"
NO_HISTORY: Final = "rules.history"

Tick = Callable[[], None]


class Board(Protocol):
    """Where newest values are shown (implemented by gateway.live)."""

    def position(self, seen: Seen) -> None:
        """A `position` or `device.state` record went by."""

    def finding(self, seq: int, draft: Draft) -> None:
        """A finding was stored."""


class Rules(Protocol):
    """The rule folder as it is now (implemented by gateway.rule_files)."""

    error: str
    """Why the folder is not in force as it stands: `file:line: key: what`; empty where it is."""

    def refresh(self) -> bool:
        """Look again; whether another book is good now. Blocks on the disk."""

    def records(self) -> Sequence[Draft]:
        """The `rules.book` records of the last good book; none where there was no good one yet."""

    @property
    def sha256(self) -> str:
        """Of the last good book; "" where there is none."""


class _Told(msgspec.Struct):
    """How far findings were told."""

    cursor: int
    now_utc_ns: int


class _Book(msgspec.Struct):
    """The rule book in force."""

    sha256: str
    since: int
    """Its records lie at this seq or above it."""


@dataclass(slots=True)
class JudgeStatus:
    """How the judge is doing, for health and the API."""

    backlog_records: int = 0
    book_sha256: str = ""
    book_error: str = ""
    findings_open: int = 0
    findings_told: int = 0
    """Records of findings stored since the start."""
    records_left_out: int = 0
    """Records of devices beyond what a judge remembers, not judged; since the start."""


@dataclass(slots=True)
class _Turn:
    """What the judges said at one moment, ready to be stored."""

    drafts: list[Draft] = field(default_factory=list)
    changes: list[StateChange] = field(default_factory=list)
    """One for each draft, in the same order."""
    too_much: list[tuple[str, str]] = field(default_factory=list)
    """(device, why) of answers that did not fit into memory."""


@dataclass(frozen=True, slots=True)
class Around:
    """What the service works with."""

    sink: Sink
    reader: Reader
    memory: SourceMemory
    clock: Clock
    alarms: Alarms
    recent: Recent
    board: Board | None = None
    status: JudgeStatus = field(default_factory=JudgeStatus)
    privacy_of: Callable[[str], str] | None = None
    """Of a device class, by the devices files as they are now; None: as the judges say."""
    """Kept here, over restarts of the loop."""


class JudgeService:
    """Made once; `run` may be called again after an error and begins from what is on disk."""

    def __init__(
        self,
        judges: Mapping[str, Callable[[], Judge]],
        around: Around,
        rules: Rules | None = None,
        reload_s: float = 5.0,
    ) -> None:
        """`judges`: name -> maker, one for each family of devices; the name is part of what is remembered. Without
        `rules` nothing is judged and only the board is fed."""
        self._makers = judges if rules is not None else {}
        self._sink, self._reader, self._memory = around.sink, around.reader, around.memory
        self._clock, self._alarms, self._recent = around.clock, around.alarms, around.recent
        self._board = around.board
        self._privacy_of = around.privacy_of
        self._rules = rules
        self._reload_s = reload_s
        self._log = log.get("judge")
        self._tick: Tick = _no_tick
        self.status: Final = around.status

    async def run(self, tick: Tick) -> None:
        """Follow the journal for ever."""
        self._tick = tick
        await self.begin()
        while True:
            tick()
            if not await self.step():
                await self._recent.wait(self._cursor, ASK_MIN_S if self._unasked else ASK_IDLE_S)

    async def begin(self) -> None:
        """Load what is remembered. The very first start reads the log from its begin, as a replay does: nothing is
        judged before the first rule book, but when the gateway itself was down is known."""
        await asyncio.to_thread(self._begin)
        if self._makers and self._memory.get(SOURCE, CURSOR) is None:
            await self._keep()  # a crash before the first regular one goes on from here
        await self._show_open()

    async def step(self) -> bool:
        """One round: the rule book, the next records, what the judges say of them. Whether there were records."""
        await self._look_at_rules()
        moved = await self._follow()
        await self._ask(idle=not moved)
        return moved

    # ------------------------------------------------------------ beginning

    def _begin(self) -> None:
        """Load what is remembered. Blocks on the disk."""
        self._judges = {name: make() for name, make in self._makers.items()}
        cursor = self._memory.get(SOURCE, CURSOR)
        self._cursor = int(cursor or b"0") if self._makers else self._reader.next_seq()
        self._end = self._reader.next_seq()
        """One past the newest record of the journal, as far as this loop knows."""
        told, book = self._memory.get(SOURCE, TOLD), self._memory.get(SOURCE, BOOK)
        self._told = _Told(0, 0) if told is None else msgspec.json.decode(told, type=_Told)
        self._book = _Book("", 0) if book is None else msgspec.json.decode(book, type=_Book)
        if not self._reader.records(kind=kinds.RULES_BOOK, after=self._book.since - 1, limit=1):
            self._book = _Book("", 0)  # retention has taken its record: it is stored anew
        self._known = KnownFindings(self._memory.items(SOURCE, PREFIX), self._last_judgement)
        self._newest_utc_ns = 0
        self._floor_utc_ns = self._told.now_utc_ns
        self._fresh = False
        """Something was accepted since the judges were asked last, here or before the start."""
        self._unasked = 0
        self._unkept = 0
        self._kept_utc_ns = 0
        self._asked_s = self._looked_s = self._polled_s = float("-inf")
        for name, judge in self._judges.items():
            prefix = MEMORY + f"{name}:".encode()
            judge.restore([(key[len(prefix) :], value) for key, value in self._memory.items(SOURCE, prefix)])
        if self._judges:
            for seen in of_kind(self._reader, kinds.RULES_BOOK, 0, self._cursor):
                self._accept(seen)
        self.status.book_sha256 = self._book.sha256
        self.status.findings_open = len(self._known.open())

    def _last_judgement(self, name: str, known: Known) -> Mapping[str, Any]:
        """The judgement in the record of what was told last; what is remembered of it where that has expired."""
        found = self._record_of(name, known)
        if found is not None:
            return dict(found[1].data["judgement"])
        return {
            "rule": known.rule,
            "source": known.source,
            "device": known.device,
            "start_utc_s": known.start_utc_s,
        }

    def _record_of(self, name: str, known: Known) -> tuple[int, Draft] | None:
        after, wanted = known.since - 1, (name, known.revision)
        while rows := self._reader.records(kind=kinds.FINDING, device=known.device, after=after, limit=READ_RECORDS):
            for seq, leaf in rows:
                record = parse_leaf(leaf)
                if (record.data.get("id"), record.data.get("revision")) == wanted:
                    return seq, Draft(record.kind, record.source, record.device, record.data)
            after = rows[-1][0]
        return None

    async def _show_open(self) -> None:
        """Put the events that last on the board: it was empty at the start."""
        if self._board is None:
            return
        for name, known in list(self._known.open().items())[-SHOWN_AT_START_MAX:]:
            found = await asyncio.to_thread(self._record_of, name, known)
            if found is not None:
                self._board.finding(*found)

    # ------------------------------------------------------------ following

    async def _follow(self) -> bool:
        """Judge what has come since; whether anything had."""
        self._end = max(self._end, self._recent.end)
        found, following = self._recent.take(self._cursor, CHUNK_RECORDS)
        if following == self._cursor and (self._end > self._cursor or self._time_for_a_look()):
            # out of the ring, or stored for a caller that was cancelled: the store has it
            found, following = await asyncio.to_thread(self._read)
        work = 0
        for seen in found:
            self._accept(seen)
            self._show(seen)
            work += weight(seen)
            if work >= SLICE_FIXES:
                work = 0
                await asyncio.sleep(0)
        moved = following - self._cursor
        self._cursor = following
        self._end = max(self._end, self._cursor)
        self._unasked += moved
        self._unkept += moved
        self.status.backlog_records = self._end - self._cursor
        self.status.records_left_out = sum(judge.left_out for judge in self._judges.values())
        metrics.JUDGE_LEFT_OUT_RECORDS.set(self.status.records_left_out)
        metrics.JUDGE_BACKLOG_RECORDS.set(self.status.backlog_records)
        return moved > 0

    def _read(self) -> tuple[list[Seen], int]:
        self._end = self._reader.next_seq()
        return read(self._reader, self._cursor, CHUNK_RECORDS)

    def _time_for_a_look(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._polled_s < ASK_IDLE_S:
            return False
        self._polled_s = now_s
        return True

    def _accept(self, seen: Seen) -> None:
        self._newest_utc_ns = max(self._newest_utc_ns, seen.arrival_utc_ns)
        self._fresh = self._fresh or seen.seq >= self._told.cursor
        for judge in self._judges.values():
            judge.accept(seen)

    def _show(self, seen: Seen) -> None:
        if self._board is not None and seen.kind in SHOWN:
            self._board.position(seen)

    # ------------------------------------------------------------ asking and telling

    async def _ask(self, *, idle: bool) -> None:
        """Ask the judges where it is time, and store what they say."""
        if not self._judges or self._cursor < self._told.cursor:
            return
        now_s = asyncio.get_running_loop().time()
        pause_s = ASK_IDLE_S if self._unasked == 0 else ASK_MIN_S
        if self._unasked < ASK_RECORDS and now_s - self._asked_s < pause_s:
            return
        self._asked_s, self._unasked = now_s, 0
        now_utc_ns = self._now(idle=idle)
        turn = await asyncio.to_thread(self._judge, now_utc_ns)
        await self._tell(turn, now_utc_ns)
        for device, reason in turn.too_much:
            await self._raise(NO_HISTORY, reason, device)
        if self._unkept >= KEEP_RECORDS or self._newest_utc_ns - self._kept_utc_ns >= KEEP_NS:
            await self._keep()

    def _now(self, *, idle: bool) -> int:
        """The moment as of which judges are asked: the newest arrival, and while nothing comes the clock's, which may
        go back: silence that was judged is not taken back without a new record, over a restart neither."""
        now_utc_ns = max(self._newest_utc_ns, self._clock.now().utc_ns) if idle else self._newest_utc_ns
        self._floor_utc_ns = now_utc_ns if self._fresh else max(now_utc_ns, self._floor_utc_ns)
        self._fresh = False
        return self._floor_utc_ns

    def _judge(self, now_utc_ns: int) -> _Turn:
        """Ask every judge, answer what it wants to know. Runs in a worker thread, alone with the judges."""
        turn = _Turn()

        def tell(name: str, span: Span) -> None:
            if self._privacy_of is not None:
                span = replace(span, privacy=self._privacy_of(span.device_class))
            telling = self._known.tell(name, span, self._cursor)
            turn.drafts += telling.drafts
            turn.changes += telling.changes

        for name, judge in self._judges.items():
            said = judge.due(now_utc_ns)
            for span in said.spans:
                tell(name, span)
            for want in said.wants:
                try:
                    tell(name, judge.history(want, history(self._reader, want, self._cursor)))
                except TooMuch as error:
                    turn.too_much.append((want.device, str(error)))
        return turn

    async def _tell(self, turn: _Turn, now_utc_ns: int) -> None:
        """Store findings, each portion with the mark of how far they were told."""
        if not turn.drafts:
            return
        self._told = _Told(self._cursor, now_utc_ns)
        mark = StateChange(SOURCE, TOLD, msgspec.json.encode(self._told))
        for at in range(0, len(turn.drafts), FINDINGS_PER_COMMIT):
            drafts = turn.drafts[at : at + FINDINGS_PER_COMMIT]
            first = await self._store(drafts, [*turn.changes[at : at + FINDINGS_PER_COMMIT], mark])
            for seq, draft in enumerate(drafts, first):
                metrics.FINDINGS.labels(draft.data["state"]).inc()
                if self._board is not None:
                    self._board.finding(seq, draft)
        self.status.findings_told += len(turn.drafts)
        self.status.findings_open = len(self._known.open())

    async def _keep(self) -> None:
        """Write the memory of the judges with the cursor that it belongs to."""
        changes = await asyncio.to_thread(self._memory_changes)
        changes += self._known.forget(self._newest_utc_ns // 10**9)
        changes.append(StateChange(SOURCE, CURSOR, str(self._cursor).encode()))
        await self._store([], changes)
        self._unkept, self._kept_utc_ns = 0, self._newest_utc_ns

    def _memory_changes(self) -> list[StateChange]:
        return [
            StateChange(SOURCE, MEMORY + f"{name}:".encode() + key, value)
            for name, judge in self._judges.items()
            for key, value in judge.checkpoint()
        ]

    async def _store(self, drafts: Sequence[Draft], changes: Sequence[StateChange]) -> int:
        """Append; with a full store wait until there is room: nothing that was found is given up."""
        while True:
            try:
                return await self._sink.append(drafts, changes)
            except StoreFull as full:
                self._log.warning("findings_wait", key="full", findings=len(drafts), reason=str(full))
            self._tick()
            await asyncio.sleep(RETRY_S)

    # ------------------------------------------------------------ the rule book

    async def _look_at_rules(self) -> None:
        """Bring a changed rule book into force, and say where one is broken."""
        now_s = asyncio.get_running_loop().time()
        if self._rules is None or now_s - self._looked_s < self._reload_s:
            return
        self._looked_s = now_s
        await asyncio.to_thread(self._rules.refresh)
        digest, error = self._rules.sha256, self._rules.error
        if digest and digest != self._book.sha256:
            book = _Book(digest, self._cursor)
            change = StateChange(SOURCE, BOOK, msgspec.json.encode(book))
            await self._store(self._rules.records(), [change])
            self._book = book
            self._log.info("rule_book_in_force", sha256=digest)
        self.status.book_sha256, self.status.book_error = self._book.sha256, error
        told = next((alarm.text for alarm in self._alarms.open() if alarm.code == BROKEN), error[:TEXT_MAX])
        if told != error[:TEXT_MAX]:
            await self._clear(BROKEN, "broken in another way" if error else "the rule folder is good again")
        if error:
            await self._raise(BROKEN, error)

    async def _raise(self, code: str, text: str, subject: str = "") -> None:
        try:
            await self._alarms.raise_alarm(code, text, subject)
        except StoreFull as full:
            self._log.warning("alarm_waits", key=code, code=code, reason=str(full))

    async def _clear(self, code: str, text: str) -> None:
        try:
            await self._alarms.clear(code, text)
        except StoreFull as full:
            self._log.warning("alarm_waits", key=code, code=code, reason=str(full))


def _no_tick() -> None:
    return
