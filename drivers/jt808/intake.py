"""What a terminal that was let in says: each message becomes its records, its answer, or both. Pure.

What stands in `Out.ack` says that something was taken: it is written after the commit. A message that comes again is
answered again and not stored again (`Repeats`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from drivers.jt808.acts import Answer, Keep, Kept, Out
from drivers.jt808.codec import (
    Attributes,
    Frame,
    Heartbeat,
    LocationAnswer,
    LocationBatch,
    Media,
    MediaReply,
    Message,
    Opaque,
    ParameterAnswer,
    ServerTime,
    TerminalReply,
    TerminalResendRequest,
    TimeQuery,
    Transparent,
    parse_body,
)
from drivers.jt808.dialect import Said
from drivers.jt808.drafts import Drafts, artifact, plain
from drivers.jt808.requests import Desk
from drivers.jt808.terminals import Terminal
from drivers.repeats import Repeats
from drivers.tallies import Key, Tallies
from gateway.core import kinds
from gateway.core.instant import Instant

QUIET_NS: Final = 300_000_000_000
"""A heartbeat is a record where nothing else of its terminal was one for so long."""
MEDIA_WAITING_MAX_BYTES: Final = 16 * 1024 * 1024
"""Photos on their way into the spool; what comes above it is not taken and not answered: the terminal keeps it."""
DONE, WRONG, UNKNOWN = 0, 2, 3
REPLY, HEARTBEAT, TIME_QUERY, RESEND, MEDIA, CAMERA_REPLY = 0x0001, 0x0002, 0x0004, 0x0005, 0x0801, 0x0805
_NO_ANSWER: Final = frozenset({REPLY, 0x0104, 0x0107, 0x0201, CAMERA_REPLY})
"""Answers of the terminal: the standard has no answer to an answer."""
_NOT_STORED: Final = frozenset({REPLY, HEARTBEAT, TIME_QUERY, RESEND})
"""They may come again with the very same bytes."""


@dataclass(slots=True)
class Whole:
    """One message: its frame, or all of its packets."""

    frames: tuple[Frame, ...]
    body: bytes
    consecutive: bool = True

    @property
    def msg_id(self) -> int:
        """Of all packets."""
        return self.frames[0].msg_id

    @property
    def is_encrypted(self) -> bool:
        """Whether its body cannot be read."""
        return self.frames[0].encryption != 0

    @property
    def raw(self) -> bytes:
        """As received."""
        return self.frames[0].raw if len(self.frames) == 1 else b"".join(frame.raw for frame in self.frames)


@dataclass(slots=True)
class _Photo:
    terminal: Terminal
    media: Media
    raw: bytes
    body: bytes
    note: str


class Intake:
    """Of one source."""

    def __init__(self, source: str, drafts: Drafts, repeats: Repeats, desk: Desk, tallies: Tallies) -> None:
        self._source = source
        self._drafts = drafts
        self._repeats = repeats
        self._desk = desk
        self._tallies = tallies
        self._photos: dict[int, _Photo] = {}
        self._photo_bytes = 0
        self._tickets = 0
        names = ("positions", "batches", "messages", "heartbeats", "media", "repeated", "replies_unmatched", "gaps")
        self.counters = dict.fromkeys(names, 0)

    def location(self, terminal: Terminal, frame: Frame, now: Instant, out: Out) -> bool:
        """The way of nearly every frame: a 0200 in one piece. False where it must go the long way."""
        mark = self._repeats.mark(frame.raw)
        if mark is None:
            self.counters["repeated"] += 1
        else:
            held = terminal.held.at(now.mono_ns) if terminal.held is not None else None
            body = frame.body
            fix = terminal.reader.of_body(body, now.utc_ns // 1_000_000_000, held)
            if fix is None:
                self._repeats.forget(mark)
                return False
            out.drafts.append(self._drafts.position(terminal, fix, frame.raw, body[22:28].hex()))
            out.marks.append(mark)
            terminal.recorded_ns = now.mono_ns
            self.counters["positions"] += 1
        out.ack.append(terminal.answer(frame.serial, 0x0200, DONE))
        return True

    def take(self, terminal: Terminal, whole: Whole, now: Instant, out: Out) -> None:
        """Any message, in one piece or joined."""
        msg_id = whole.msg_id
        if msg_id not in _NOT_STORED and msg_id != MEDIA:
            mark = self._repeats.mark(whole.raw)
            if mark is None:
                self.counters["repeated"] += 1
                self._answer(terminal, whole, DONE, out)
                return
            out.marks.append(mark)
        said = self._said_by_dialect(terminal, whole)
        if said is not None and said.is_location:
            fix = terminal.reader.of_said(said, now.utc_ns // 1_000_000_000)
            self._stored(terminal, [self._drafts.position(terminal, fix, whole.raw, said.time_text)], now, out)
            self.counters["positions"] += 1
            self._answer(terminal, whole, DONE, out)
            return
        if said is not None:
            terminal.hold(said, now.mono_ns)
        if whole.is_encrypted:
            message: Message = Opaque(msg_id, whole.body, "encrypted", "")
        else:
            version = terminal.address.version if terminal.address else whole.frames[0].version
            message = parse_body(msg_id, whole.body, version)
        self._take_message(terminal, message, whole, said, now, out)

    def _take_message(
        self, terminal: Terminal, message: Message, whole: Whole, said: Said | None, now: Instant, out: Out
    ) -> None:
        match message:
            case TerminalReply():
                self._reply(terminal, message, whole, now, out)
            case TerminalResendRequest():
                out.sent.append(terminal.again(message.first_serial, message.parts))
            case LocationAnswer():
                self._located(terminal, message, whole, now, out)
            case LocationBatch():
                self._batch(terminal, message, whole, now, out)
            case Media():
                self._keep(terminal, message, whole, now, out)
            case Heartbeat():
                self._heartbeat(terminal, message, whole, now, out)
            case TimeQuery():
                out.sent.append(terminal.write(server_time(now))[1])
            case _:
                self._message(terminal, message, whole, said, now, out)

    def gap(self, subject: str, reason: str, facts: dict[str, Any], raw: bytes, now_ns: int, out: Out) -> None:
        """Something that could not be read, joined or taken: told now, or counted and told later."""
        self.counters["gaps"] += 1
        tally = self._tallies.note(Key(kinds.DEVICE_GAP, reason, subject), facts, raw, now_ns)
        if tally is not None:
            out.drafts.append(self._drafts.tally(tally))

    # ---------------------------------------------------------------- messages

    def _said_by_dialect(self, terminal: Terminal, whole: Whole) -> Said | None:
        dialect = terminal.reader.dialect
        if whole.is_encrypted or (whole.msg_id not in dialect.messages and whole.msg_id != Transparent.MSG_ID):
            return None
        return dialect.read_message(whole.msg_id, whole.body)

    def _message(
        self, terminal: Terminal, message: Message, whole: Whole, said: Said | None, now: Instant, out: Out
    ) -> None:
        values: Mapping[str, Any] | None = said.values if said is not None else None
        self._stored(terminal, self._drafts.message(terminal, message, whole.raw, values), now, out)
        self.counters["messages"] += 1
        result = DONE
        match message:
            case ParameterAnswer():
                facts = {"parameters": plain(message.parameters)}
                self._answered(terminal, message.MSG_ID, message.reply_serial, DONE, facts, out)
            case Attributes():
                self._answered(terminal, message.MSG_ID, None, DONE, plain(message), out)
            case Opaque() if message.MSG_ID == CAMERA_REPLY and len(message.body) >= 3:
                body = message.body
                media = [int.from_bytes(body[at : at + 4], "big") for at in range(5, len(body) - 3, 4)]
                serial = int.from_bytes(body[:2], "big")
                self._answered(terminal, CAMERA_REPLY, serial, body[2], {"media_ids": media}, out)
            case Opaque() if said is None:
                result = WRONG if message.reason == "malformed" else UNKNOWN
            case _:
                pass
        self._answer(terminal, whole, result, out)

    def _reply(self, terminal: Terminal, message: TerminalReply, whole: Whole, now: Instant, out: Out) -> None:
        """0001: a record where it answers an order; what else it confirms is counted."""
        if self._answered(terminal, REPLY, message.reply_serial, message.result, {}, out):
            self._stored(terminal, self._drafts.message(terminal, message, whole.raw, None), now, out)
        else:
            self.counters["replies_unmatched"] += 1

    def _answered(
        self, terminal: Terminal, msg_id: int, serial: int | None, result: int, facts: Mapping[str, Any], out: Out
    ) -> bool:
        is_known, found = self._desk.answered(terminal.identity, msg_id, serial, result, facts)
        if found is not None:
            out.commands.append(Answer(*found))
        return is_known

    def _heartbeat(self, terminal: Terminal, message: Message, whole: Whole, now: Instant, out: Out) -> None:
        self.counters["heartbeats"] += 1
        if now.mono_ns - terminal.recorded_ns < QUIET_NS:
            frame = whole.frames[0]
            out.sent.append(terminal.answer(frame.serial, frame.msg_id, DONE))
            return
        self._stored(terminal, self._drafts.message(terminal, message, whole.raw, None), now, out)
        self._answer(terminal, whole, DONE, out)

    def _located(self, terminal: Terminal, message: LocationAnswer, whole: Whole, now: Instant, out: Out) -> None:
        held = terminal.held.at(now.mono_ns) if terminal.held is not None else None
        fix = terminal.reader.of_location(message.location, now.utc_ns // 1_000_000_000, held)
        draft = self._drafts.position(terminal, fix, whole.raw, message.location.time_bcd)
        self._stored(terminal, [draft], now, out)
        self.counters["positions"] += 1
        self._answered(terminal, message.MSG_ID, message.reply_serial, DONE, {"fix": fix}, out)

    def _batch(self, terminal: Terminal, message: LocationBatch, whole: Whole, now: Instant, out: Out) -> None:
        now_utc_s = now.utc_ns // 1_000_000_000
        read = terminal.reader.of_body
        fixes = [fix for entry in message.entries if (fix := read(entry.raw, now_utc_s)) is not None]
        data: dict[str, Any] = {"backfill": True} if message.backfill else {}
        if message.problems:
            data["problems"] = " ".join(sorted(message.problems))
            data["stated"] = message.count
        self._stored(terminal, self._drafts.positions(terminal, data, fixes, whole.raw), now, out)
        self.counters["positions"] += len(fixes)
        self.counters["batches"] += 1
        self._answer(terminal, whole, DONE, out)

    def _stored(self, terminal: Terminal, drafts: list[Any], now: Instant, out: Out) -> None:
        out.drafts += drafts
        terminal.recorded_ns = now.mono_ns

    def _answer(self, terminal: Terminal, whole: Whole, result: int, out: Out) -> None:
        """8001 for every packet of it: which one a terminal waits for is not said in the standard."""
        if whole.msg_id not in _NO_ANSWER and whole.msg_id != MEDIA:
            out.ack += [terminal.answer(frame.serial, frame.msg_id, result) for frame in whole.frames]

    # ---------------------------------------------------------------- photos

    def _keep(self, terminal: Terminal, media: Media, whole: Whole, now: Instant, out: Out) -> None:
        body = whole.body
        if self._photo_bytes + len(body) > MEDIA_WAITING_MAX_BYTES:
            facts = {"detail": f"more than {MEDIA_WAITING_MAX_BYTES} bytes wait for the disk; it is to be sent again"}
            self.gap(terminal.identity, "media-waits", facts, whole.frames[0].raw, now.mono_ns, out)
            return
        self._tickets += 1
        note = "" if whole.consecutive else "packets joined by their order"
        head = body[: len(body) - len(media.payload)]
        self._photos[self._tickets] = _Photo(terminal, media, head, body, note)
        self._photo_bytes += len(body)
        key = f"{self._source}/{terminal.identity}/{media.event.media_id}"
        out.commands.append(Keep(self._tickets, key, str(len(media.payload)), media.payload))

    def kept(self, event: Kept, now: Instant) -> Out:
        """A photo is in the spool: its record, and then 8800. Or it is not: no answer, the terminal keeps it."""
        photo = self._photos.pop(event.ticket)
        terminal, media = photo.terminal, photo.media
        self._photo_bytes -= len(photo.body)
        out = Out(terminal.link.to if terminal.link is not None else None)
        if not event.sha256:
            facts = {"detail": event.problem, "media_id": media.event.media_id}
            self.gap(terminal.identity, "media-not-kept", facts, photo.raw, now.mono_ns, out)
            return out
        mark = self._repeats.mark(terminal.identity.encode() + b"\0" + photo.body)
        if mark is None:
            self.counters["repeated"] += 1
        else:
            out.marks.append(mark)
            fix = None
            if media.location is not None:
                fix = terminal.reader.of_location(media.location, now.utc_ns // 1_000_000_000)
            file = artifact(terminal, media, event.sha256, event.size_bytes)
            draft = self._drafts.media(terminal, media, fix, photo.note, file, photo.raw)
            self._stored(terminal, [draft], now, out)
            self.counters["media"] += 1
        out.ack.append(terminal.write(MediaReply(media.event.media_id))[1])
        return out


def server_time(now: Instant) -> ServerTime:
    """8004: UTC, the only time of the standard that is."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now.utc_ns // 1_000_000_000)
    return ServerTime(f"{at:%y%m%d%H%M%S}")
