"""Who is let in: registration, authentication, log-off, and what is told of terminals coming and going. Pure.

8001 and 8100 that refuse are sent at once; those that accept are sent after the commit of what they accept. A terminal
that is not let in is heard and counted, and nothing it says is taken: it gets no answer that would make it forget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from drivers.jt808.acts import Close, Out
from drivers.jt808.codec import (
    Address,
    Authentication,
    Frame,
    GeneralReply,
    Message,
    Opaque,
    Registration,
    RegistrationReply,
    Text,
    Version,
    encode,
    parse,
)
from drivers.jt808.drafts import Drafts, clean
from drivers.jt808.links import Link
from drivers.jt808.terminals import Enrolment, Terminal, Terminals
from drivers.tallies import Key, Tallies
from gateway.core import kinds
from gateway.core.record import StateChange

FAILURES_MAX: Final = 3
"""Wrong codes, or registrations without a place, before a connection is closed."""
STATES_BURST: Final = 10
STATE_EVERY_NS: Final = 60_000_000_000
"""States of one terminal: so many at once, then one per minute; the newest is never left out for good."""
RECONNECT_NS: Final = 60_000_000_000
"""A connection that has said nothing for so long is dead: another one of the same terminal is its return."""
DONE, FAILED, WRONG = 0, 1, 2
TERMINAL_IS_REGISTERED: Final = 3
NO_SUCH_TERMINAL: Final = 4

Schedule = Callable[[int, Terminal], None]


class Admission:
    """Of one source."""

    def __init__(self, source: str, terminals: Terminals, drafts: Drafts, tallies: Tallies, schedule: Schedule) -> None:
        """`schedule(at_ns, terminal)` brings `tell_later` at that time."""
        self._source = source
        self._terminals = terminals
        self._drafts = drafts
        self._tallies = tallies
        self._schedule = schedule
        self.counters = dict.fromkeys(("registered", "authenticated", "refused", "duplicates"), 0)

    # ---------------------------------------------------------------- coming

    def register(self, link: Link, frame: Frame, now_ns: int, out: Out) -> None:
        """0100."""
        message = parse(frame)
        identity = frame.identity
        if isinstance(message, Opaque):
            self.refuse(link, frame, f"registration: {message.reason} {message.detail}".rstrip(), now_ns, out)
            return
        assert isinstance(message, Registration)  # noqa: S101  the id says so
        enrolment = Enrolment(
            clean(message.maker.text, 64),
            clean(message.model.text, 64),
            clean(message.terminal_id.text, 64),
            clean(message.plate.text, 64),
            int(message.layout),
        )
        address = Address.of_frame(frame, message.layout if message.layout is Version.V2011 else None)
        if not self._terminals.takes(identity, enrolment):
            self._reply(link, address, RegistrationReply(frame.serial, NO_SUCH_TERMINAL), out, at_once=True)
            said = {"maker": enrolment.maker, "model": enrolment.model, "plate_said": enrolment.plate}
            self.refuse(link, frame, "not listed", now_ns, out, said)
            self._fail(link, out)
            return
        change = self._terminals.enrol(identity, enrolment)
        if change is not None:
            out.state.append(StateChange(self._source, *change))
        self.counters["registered"] += 1
        facts: dict[str, Any] = {
            "address": link.address,
            "link": "udp" if link.is_udp else "tcp",
            "edition": int(message.layout),
            "maker": enrolment.maker,
            "model": enrolment.model,
            "terminal_id": enrolment.terminal_id,
            "plate_said": enrolment.plate,
            "plate_colour": message.plate_colour,
            "province": message.province,
            "city": message.city,
        }
        self._tell(Key(kinds.DEVICE_STATE, "registered", identity), facts, frame.raw, now_ns, out)
        if self._terminals.has_fixed_code(identity):
            self._reply(link, address, RegistrationReply(frame.serial, TERMINAL_IS_REGISTERED), out)
            return
        code = Text(self._terminals.code_of(identity).encode("gbk", "replace"))
        self._reply(link, address, RegistrationReply(frame.serial, DONE, code), out)

    def authenticate(self, link: Link, frame: Frame, now_ns: int, out: Out) -> None:
        """0102."""
        message = parse(frame)
        identity = frame.identity
        address = Address.of_frame(frame)
        said = message.code.text if isinstance(message, Authentication) else ""
        reason = ""
        if not isinstance(message, Authentication):
            reason = "authentication cannot be read"
        elif not self._terminals.takes(identity):
            reason = "not listed"
        elif not self._terminals.is_code(identity, said):
            reason = "wrong code"
        terminal = None if reason else self._terminals.let_in(identity)
        if terminal is None:
            self._reply(link, address, GeneralReply(frame.serial, frame.msg_id, FAILED), out, at_once=True)
            self.refuse(link, frame, reason or "not listed", now_ns, out)
            self._fail(link, out)
            return
        self.counters["authenticated"] += 1
        facts: dict[str, Any] = {}
        if isinstance(message, Authentication) and message.imei is not None:
            facts["imei"] = clean(message.imei.text, 32)
            facts["software"] = clean(message.software.text if message.software else "", 32)
        self.join(link, terminal, frame, "authenticated", now_ns, out, facts)
        out.ack.append(terminal.answer(frame.serial, frame.msg_id, DONE))

    def join(
        self, link: Link, terminal: Terminal, frame: Frame, reason: str, now_ns: int, out: Out,
        facts: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """The terminal is on this link from now on; on an older one it is no longer."""
        other = terminal.link
        terminal.meet(frame)
        link.terminal, link.phone_field, terminal.link = terminal, frame.phone_field, link
        if other is link:
            return
        if other is not None:
            quiet_ns = now_ns - other.heard_ns
            if quiet_ns < RECONNECT_NS:
                self.duplicate(terminal, link.address, other.address, quiet_ns, now_ns, out)
            reason = "replaced"
            other.terminal = None
            self.close(other, "replaced", out)
        facts = facts or {}
        facts |= {
            "address": link.address,
            "link": "udp" if link.is_udp else "tcp",
            "edition": int(terminal.address.version) if terminal.address else 0,
            "privacy": terminal.device_class.privacy,
        }
        self._state(terminal, "online", reason, facts, now_ns, out)

    def duplicate(self, terminal: Terminal, address: str, other: str, quiet_ns: int, now_ns: int, out: Out) -> None:
        """Two senders with one identity."""
        self.counters["duplicates"] += 1
        facts = {
            "class": terminal.device_class.id,
            "plate": terminal.plate,
            "address": address,
            "other": other,
            "quiet_s": quiet_ns // 1_000_000_000,
        }
        self._tell(Key(kinds.DEVICE_STATE, "duplicate", terminal.identity), facts, b"", now_ns, out)

    def refuse(
        self, link: Link, frame: Frame, reason: str, now_ns: int, out: Out, facts: dict[str, Any] | None = None
    ) -> None:
        """Something of a terminal that is not let in: counted, told now and then, not taken."""
        self.counters["refused"] += 1
        told = {
            "state": "refused",
            "address": link.address,
            "link": "udp" if link.is_udp else "tcp",
            "message": f"{frame.msg_id:04x}",
            **(facts or {}),
        }
        self._tell(Key(kinds.DEVICE_STATE, reason, frame.identity), told, frame.raw, now_ns, out)

    # ---------------------------------------------------------------- going

    def log_off(self, link: Link, terminal: Terminal, frame: Frame, now_ns: int, out: Out) -> None:
        """0003: it goes by itself and is to authenticate before it says anything again."""
        out.ack.append(terminal.answer(frame.serial, frame.msg_id, DONE))
        self.leave(link, "logged-off", now_ns, out)

    def leave(self, link: Link, reason: str, now_ns: int, out: Out) -> Terminal | None:
        """The link has no terminal any more; the one that it had is offline unless it is on another."""
        terminal, link.terminal = link.terminal, None
        if terminal is None or terminal.link is not link:
            return None
        terminal.link = None
        facts = {"address": link.address, "link": "udp" if link.is_udp else "tcp"}
        self._state(terminal, "offline", reason, facts, now_ns, out)
        return terminal

    def close(self, link: Link, reason: str, out: Out) -> None:
        """End a connection of ours; over UDP there is none."""
        link.closing = link.closing or reason
        if isinstance(link.to, int):
            out.commands.append(Close(link.to))

    # ---------------------------------------------------------------- telling

    def _state(self, terminal: Terminal, state: str, reason: str, facts: dict[str, Any], now_ns: int, out: Out) -> None:
        data = {
            "state": state,
            "reason": reason,
            "class": terminal.device_class.id,
            "plate": terminal.plate,
            **facts,
        }
        if terminal.untold is None and terminal.free_at_ns - now_ns <= (STATES_BURST - 1) * STATE_EVERY_NS:
            self._tell_state(terminal, data, now_ns, out)
            return
        if terminal.untold is None:
            self._schedule(terminal.free_at_ns - (STATES_BURST - 1) * STATE_EVERY_NS, terminal)
        else:
            terminal.left_out += 1
        terminal.untold = data

    def tell_later(self, terminal: Terminal, now_ns: int, out: Out) -> None:
        """The newest of the states that were too many."""
        data, terminal.untold = terminal.untold, None
        if data is not None:
            self._tell_state(terminal, data, now_ns, out)

    def _tell_state(self, terminal: Terminal, data: dict[str, Any], now_ns: int, out: Out) -> None:
        terminal.free_at_ns = max(terminal.free_at_ns, now_ns) + STATE_EVERY_NS
        if terminal.left_out:
            data = {**data, "left_out": terminal.left_out}
            terminal.left_out = 0
        out.drafts.append(self._drafts.state(terminal.identity, data))

    def _tell(self, key: Key, facts: dict[str, Any], raw: bytes, now_ns: int, out: Out) -> None:
        state = {"state": key.reason, **facts} if "state" not in facts else facts
        tally = self._tallies.note(key, state, raw, now_ns)
        if tally is not None:
            out.drafts.append(self._drafts.tally(tally))

    def _fail(self, link: Link, out: Out) -> None:
        link.failures += 1
        if link.failures >= FAILURES_MAX:
            self.close(link, "refused", out)

    def _reply(self, link: Link, address: Address, message: Message, out: Out, *, at_once: bool = False) -> None:
        """An answer before there is a terminal, or while nobody knows whether this is it."""
        terminal = link.terminal
        if terminal is not None:
            serial = terminal.serial
            terminal.serial = (serial + 1) & 0xFFFF
        else:
            serial = link.next_serial()
        (out.sent if at_once else out.ack).extend(encode(message, address, serial))
