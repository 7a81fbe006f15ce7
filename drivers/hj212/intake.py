"""From a frame to records and the answer that follows their commit. Pure.

An answer (9014 for data, 9013 for notices) carries the QN of what it answers, and goes out only where bit A of Flag
wants it. What cannot be taken is never answered: the monitor sends it again, and it is counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from drivers.hj212 import sm4
from drivers.hj212.acts import Answer, Out
from drivers.hj212.codec import Frame, Message, crc, encode, opened, parse, parse_frame
from drivers.hj212.commands import ANSWERS, HEARTBEAT, INTERACTION, READINGS, answer_to
from drivers.hj212.drafts import Drafts
from drivers.hj212.keys import KeyRing
from drivers.hj212.links import Link
from drivers.hj212.monitors import Monitor, Monitors
from drivers.hj212.parts import Parts, PartSet
from drivers.hj212.requests import MINUTES, Desk, Waiting
from drivers.hj212.states import States
from drivers.repeats import Repeats
from drivers.tallies import Key, Tallies
from gateway.core import kinds
from gateway.core.instant import Instant

SECOND_NS: Final = 1_000_000_000
UNLISTED_WINDOW_NS: Final = 60 * SECOND_NS
UNLISTED_PER_LINK_MAX: Final = 512
FROZEN_MIN: Final = 10
"""So many equal messages in a row are no retransmissions any more."""
_IDENTITY: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z:._-]{0,63}", re.ASCII)
_ECHO: Final = re.compile(r"[0-9A-Za-z_.:+-]{1,32}", re.ASCII)
"""What is repeated in an answer."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Intake:
    """What one source takes in."""

    def __init__(
        self,
        source: str,
        monitors: Monitors,
        keys: KeyRing,
        tallies: Tallies,
        drafts: Drafts,
        repeats: Repeats,
        unlisted_per_s_max: int,
    ) -> None:
        self.keys = keys
        self.desk: Final = Desk()
        self.parts: Final = Parts(source)
        self.repeats: Final = repeats
        self.states: Final = States(drafts, tallies)
        self._monitors = monitors
        self._tallies = tallies
        self._drafts = drafts
        self._unlisted_step_ns = SECOND_NS // unlisted_per_s_max
        self._unlisted_ns = 0
        names = (
            "readings", "messages", "heartbeats", "parts", "incomplete", "repeated", "unlisted", "undecrypted",
            "answers_unmatched", "gaps",
        )  # fmt: skip
        self.counters: Final = dict.fromkeys(names, 0)

    # ---------------------------------------------------------------- frames

    def take(self, link: Link, frame: Frame, now: Instant, out: Out) -> None:
        """One good frame."""
        message = parse_frame(frame)
        monitor = link.monitor
        if monitor is None or monitor.mn != message.mn or monitor.link != link.to:
            monitor = self._who(link, message, frame, now, out)
            if monitor is None:
                return
        monitor.heard_ns = now.mono_ns
        if monitor.quarantine and self._monitors.has_list and not self._may_stay(monitor, link, frame, now, out):
            return
        self._learn(monitor, message, frame)
        cn = message.cn
        if message.is_encrypted:
            plain = self._open(monitor, link, message, frame, now, out)
            if plain is None:
                return
            message = plain
        waiting = self.desk.find(message)
        if waiting is not None:
            self._answers_order(monitor, waiting, message, now, out)
        if cn == HEARTBEAT:
            self.counters["heartbeats"] += 1
            self._time(monitor, message, now, out)
            if message.wants_answer:
                out.sent += self._answer(monitor, message, frame)
        elif cn in ANSWERS and waiting is None:
            self.counters["answers_unmatched"] += 1
            self.gap(monitor.mn, "answer-unmatched", {"message": cn, "address": link.address}, frame.raw, now, out)
        else:
            self._store(monitor, link, message, frame, now, out, is_ours=waiting is not None)

    def _store(
        self, monitor: Monitor, link: Link, message: Message, frame: Frame, now: Instant, out: Out, *, is_ours: bool
    ) -> None:
        """What becomes a record, once."""
        if message.qn:
            mark = self.repeats.mark(frame.segment)
            if mark is None:
                self._repeated(monitor, link, message, frame, now, out)
                return
            out.marks.append(mark)
        monitor.repeated = 0
        if not is_ours:
            self._time(monitor, message, now, out)
        if message.is_part:
            self._part(monitor, link, message, frame, now, out)
        else:
            self._whole(monitor, [message], frame.raw, now, out, {})
        if message.cn not in ANSWERS and message.wants_answer:
            out.ack += self._answer(monitor, message, frame)

    def _whole(
        self, monitor: Monitor, messages: Sequence[Message], raw: bytes, now: Instant, out: Out, more: dict[str, Any]
    ) -> None:
        if messages[0].cn in READINGS:
            self.counters["readings"] += 1
            out.drafts += self._drafts.reading(monitor, messages, raw, now, more)
        else:
            self.counters["messages"] += 1
            out.drafts += self._drafts.message(monitor, messages, raw, more)

    def _repeated(self, monitor: Monitor, link: Link, message: Message, frame: Frame, now: Instant, out: Out) -> None:
        """It is here already: say so again. The answer stands behind the commit of the first one."""
        self.counters["repeated"] += 1
        monitor.repeated += 1
        if monitor.repeated >= FROZEN_MIN:
            facts = {"detail": "the same message over and over: QN and values stand still", "address": link.address}
            self.gap(monitor.mn, "frozen", facts, frame.raw, now, out)
        if message.cn not in ANSWERS and message.wants_answer:
            out.ack += self._answer(monitor, message, frame)

    def _answer(self, monitor: Monitor, message: Message, frame: Frame) -> list[bytes]:
        """9013 or 9014, with the QN of the message; nothing where it has none that could be repeated."""
        qn = message.qn
        if not _ECHO.fullmatch(qn):
            return []
        cn = monitor.dialect.answers.get(message.cn) or answer_to(message.cn)
        flag = (message.flag or 0) & ~3
        cp = f"QN={qn}" if flag == 0 else ""  # 2005: answers have it in the CP
        pw = message.pw if _ECHO.fullmatch(message.pw) else monitor.password
        reply = Message(qn, INTERACTION, cn, pw, monitor.mn, flag, cp=cp)
        return [encode(reply, frame.crc if frame.crc != "plain" else "hj212")]

    # ---------------------------------------------------------------- who

    def _who(self, link: Link, message: Message, frame: Frame, now: Instant, out: Out) -> Monitor | None:
        """Whose message it is, where the one before does not tell; None where nobody's."""
        mn = message.mn
        if not _IDENTITY.fullmatch(mn):
            detail = "no MN" if not mn else "the MN holds other signs than letters, digits and . : _ -"
            self.gap("", "mn", {"detail": detail, "address": link.address}, frame.raw, now, out)
            return None
        monitor = link.monitors.get(mn)
        if monitor is None:
            is_crowd = len(link.monitors) >= UNLISTED_PER_LINK_MAX
            monitor = self._monitors.get(mn) if is_crowd else self._monitors.meet(mn)
            if monitor is None or (is_crowd and not monitor.is_listed):
                facts = {"detail": f"{mn}: too many monitors that are on no list", "address": link.address}
                self.gap("", "too-many-monitors", facts, frame.raw, now, out)
                return None
            link.monitors[mn] = monitor
        link.monitor = monitor
        if monitor.link != link.to:
            self._joins(monitor, link, now.mono_ns, out)
        return monitor

    def _joins(self, monitor: Monitor, link: Link, now_ns: int, out: Out) -> None:
        """A monitor is heard on another link than before. Its way back to one that it had left is a second sender."""
        before = monitor.link
        if before is not None and monitor.previous == link.to:
            facts = {"state": "duplicate", "detail": "two connections send under one MN", "address": link.address}
            self.states.note(Key(kinds.DEVICE_STATE, "duplicate", monitor.mn), facts, b"", now_ns, out)
        monitor.previous, monitor.link = before, link.to
        if before is None and not (monitor.quarantine and self._monitors.has_list):
            self.states.change(monitor, "online", "heard", link.address, now_ns, out)

    def listed_anew(self, link: Link, now_ns: int, out: Out) -> None:
        """Another devices file is in force: who is known now, and who no longer."""
        for monitor in link.monitors.values():
            if monitor.link != link.to:
                continue
            is_known = not (monitor.quarantine and self._monitors.has_list)
            if is_known and monitor.state[0] != "online":
                self.states.change(monitor, "online", "listed now", link.address, now_ns, out)
            elif not is_known and monitor.state[0] == "online":
                self.states.change(monitor, "offline", "not listed any more", link.address, now_ns, out)

    def leaves(self, monitor: Monitor, link: Link, reason: str, now_ns: int, out: Out) -> None:
        """A link is gone, or has been silent about a monitor for too long."""
        if monitor.link != link.to:
            return
        monitor.link = None
        if not (monitor.quarantine and self._monitors.has_list):
            self.states.change(monitor, "offline", reason, link.address, now_ns, out)
        for waiting in self.desk.drop(monitor.mn):
            out.commands.append(Answer(waiting.ticket, waiting.outcome("offline", "the device went offline meanwhile")))

    def _may_stay(self, monitor: Monitor, link: Link, frame: Frame, now: Instant, out: Out) -> bool:
        """A monitor on no list is kept in quarantine, as many as the store can bear."""
        now_ns = now.mono_ns
        self.counters["unlisted"] += 1
        facts = {"state": "refused", "detail": "kept in quarantine: not on the list", "address": link.address}
        self.states.note(Key(kinds.DEVICE_STATE, "not listed", monitor.mn), facts, b"", now_ns, out)
        self._unlisted_ns = max(self._unlisted_ns, now_ns)
        if self._unlisted_ns - now_ns > UNLISTED_WINDOW_NS:
            detail = "more from monitors on no list than unlisted_per_s_max allows; neither stored nor answered"
            self.gap("", "unlisted-flood", {"detail": detail, "address": link.address}, frame.raw, now, out)
            return False
        self._unlisted_ns += self._unlisted_step_ns
        return True

    def _learn(self, monitor: Monitor, message: Message, frame: Frame) -> None:
        """What orders to this monitor must carry."""
        if frame.crc != "plain":
            monitor.crc = frame.crc
        if message.pw != monitor.pw and _ECHO.fullmatch(message.pw):
            monitor.pw = message.pw
        if message.st not in (monitor.st, INTERACTION) and _ECHO.fullmatch(message.st):
            monitor.st = message.st
        if message.flag is not None:
            monitor.version = message.flag >> 2

    def _time(self, monitor: Monitor, message: Message, now: Instant, out: Out) -> None:
        """What a fresh message tells of the device's clock: QN is the moment of sending."""
        if message.backfill:
            return
        text = message.qn
        if len(text) != 17:
            text = message.params.get("DataTime", "") if message.cn == "2011" else ""
        seconds = monitor.dialect.time_utc_s(text)
        if seconds is None:
            return
        clock = monitor.clock
        clock.note(seconds - now.utc_ns // SECOND_NS)
        offset_s = clock.news(now.mono_ns)
        if offset_s is not None:
            self.states.clock(monitor, offset_s, out)

    # ---------------------------------------------------------------- encrypted

    def _open(
        self, monitor: Monitor, link: Link, message: Message, frame: Frame, now: Instant, out: Out
    ) -> Message | None:
        """The plain message; None where it is dealt with: kept as it is, or refused."""
        written_s = monitor.dialect.time_utc_s(message.qn)
        problem = "no key for this monitor"
        try:
            for key in self.keys.tried(monitor.mn, now.utc_ns // SECOND_NS if written_s is None else written_s):
                found = opened(frame, message, key)
                problem = "no key fits"
                if found is None:
                    continue
                segment, is_right = found
                if not is_right:
                    facts = {"detail": "decrypted, but the CRC is that of another text", "address": link.address}
                    self.gap(monitor.mn, "crc", facts, frame.raw, now, out)
                    return None
                plain = parse(segment)
                plain.deviations |= message.deviations
                if crc(segment) != frame.crc_given:
                    plain.deviations.add("crc-of-cipher")
                return plain
        except sm4.CipherMissing as error:
            problem = str(error)
        self.counters["undecrypted"] += 1
        if message.qn and (mark := self.repeats.mark(frame.segment)) is None:
            self._repeated(monitor, link, message, frame, now, out)
            return None
        elif message.qn and mark is not None:
            out.marks.append(mark)
        more = {"problem": problem, "flags": ("undecrypted",)}
        out.drafts += self._drafts.reading(monitor, [message], frame.raw, now, more)
        if message.wants_answer:
            out.ack += self._answer(monitor, message, frame)
        return None

    # ---------------------------------------------------------------- parts

    def _part(self, monitor: Monitor, link: Link, message: Message, frame: Frame, now: Instant, out: Out) -> None:
        self.counters["parts"] += 1
        one, is_new = self.parts.add(frame, message, now.mono_ns)
        if not is_new:
            if one.parts[message.pno or 0][0].segment.partition(b"CP=")[2] != frame.segment.partition(b"CP=")[2]:
                facts = {"detail": f"part {message.pno} came again with another content", "address": link.address}
                self.gap(monitor.mn, "part-differs", facts, frame.raw, now, out)
            return
        if one.is_complete:
            self._close(monitor, one, now, out)
            return
        out.state.append(self.parts.kept(one.place, frame, message.pno or 0, now.utc_ns))
        while (excess := self.parts.excess(monitor.mn)) is not None:
            self._close(self._monitors.passing(excess.place[0]), excess, now, out)

    def _close(self, monitor: Monitor, one: PartSet, now: Instant, out: Out) -> None:
        """A set becomes a record, whole or not."""
        out.state += self.parts.take(one)
        pieces = one.in_order()
        more: dict[str, Any] = {"parts": one.place[3]}
        if not one.is_complete:
            self.counters["incomplete"] += 1
            more["parts_missing"] = " ".join(map(str, one.missing()))
            more["flags"] = ("incomplete",)
        raw = b"".join(frame.raw for frame, _ in pieces)
        self._whole(monitor, [message for _, message in pieces], raw, now, out, more)

    def parts_due(self, now: Instant, out: Out) -> None:
        """Sets that have waited for too long."""
        for one in self.parts.due(now.mono_ns):
            self._close(self._monitors.passing(one.place[0]), one, now, out)

    def restore(self, raw: bytes, now_ns: int) -> None:
        """A part that an earlier run has stored and acknowledged."""
        segment = raw[6:-4]
        frame = Frame(raw, segment, "hj212")
        message = parse_frame(frame)
        if message.is_encrypted:
            for key in self.keys.tried(message.mn, 0):
                found = opened(frame, message, key)
                if found is not None and found[1]:
                    message = parse(found[0])
                    break
        self.parts.add(frame, message, now_ns)

    # ---------------------------------------------------------------- orders

    def _answers_order(self, monitor: Monitor, one: Waiting, message: Message, now: Instant, out: Out) -> None:
        outcome = self.desk.answered(one, message, now.mono_ns)
        minutes = message.params.get("MinInterval", "") if message.cn == "1063" else ""
        if outcome is not None:
            out.commands.append(Answer(one.ticket, outcome))
            if outcome.state == "done" and one.wish.minutes:
                minutes = str(one.wish.minutes)
        if minutes.isdecimal() and len(minutes) <= 2 and int(minutes) in MINUTES:
            out.state.append(self._monitors.keep_period(monitor, 60 * int(minutes)))

    # ---------------------------------------------------------------- gaps

    def gap(self, subject: str, reason: str, facts: dict[str, Any], raw: bytes, now: Instant, out: Out) -> None:
        """Something could not be taken."""
        self.counters["gaps"] += 1
        tally = self._tallies.note(Key(kinds.DEVICE_GAP, reason, subject), facts, raw, now.mono_ns)
        if tally is not None:
            out.drafts.append(self._drafts.tally(tally))


def beijing(utc_ns: int) -> str:
    """Beijing time as 17 digits, as a QN."""
    at = _EPOCH + timedelta(milliseconds=utc_ns // 1_000_000, hours=8)
    return f"{at:%Y%m%d%H%M%S}{at.microsecond // 1000:03d}"
