"""Messages in several packets (JT/T 808, 4.4.3, message 8003): collected in any order, asked for again, given up.

Pure: the time comes with every call. Packets of one message have consecutive serial numbers (4.4.3), so the serial
number of packet 1 (this one's minus its place) names the message, and two photos sent at once are not mixed. Terminals
that number otherwise exist: when packets have been waiting and no more come, those of one kind that are complete
together and rise in order are joined, and the result says that this is a conclusion.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from drivers.jt808.framing import Address, Frame

_SERIALS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What unfinished messages may cost and how long they are waited for."""

    messages: int = 64
    """A message whose packets are not numbered consecutively counts once for every gap in its numbers."""
    total_bytes: int = 4 * 1024 * 1024
    """Raw bytes of all packets held."""
    wait_ns: int = 10_000_000_000
    """Without a new packet of a message, its missing ones are asked for."""
    requests: int = 3
    """The n-th wait is n + 1 times as long as the one before it (the rule of the standard for
    replies: T(n+1) = T(n) x (n+1)); then it is given up."""
    remembered: int = 128
    """Finished messages whose late duplicates are recognised."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """All packets are there."""

    frames: tuple[Frame, ...]
    """In the order of their numbers."""
    body: bytes
    consecutive: bool
    """Whether the serial numbers are those that the standard wants. If not, that the packets belong together is a
    conclusion from their order."""

    @property
    def msg_id(self) -> int:
        """Of every packet."""
        return self.frames[0].msg_id


@dataclass(frozen=True, slots=True)
class Missing:
    """Time to send 8003 (or, as a terminal, 0005)."""

    address: Address
    msg_id: int
    first_serial: int
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Packets that will not become a message; what there is of it."""

    reason: str
    """`numbering`, `timeout`, `limit`, `conflict` or `link`."""
    frames: tuple[Frame, ...]


class _Key(NamedTuple):
    phone: bytes
    msg_id: int
    total: int
    first_serial: int


@dataclass(slots=True)
class _Message:
    key: _Key
    wait_ns: int
    quiet_since_ns: int = 0
    deadline_ns: int = 0
    requests: int = 0
    frames: dict[int, Frame] = field(default_factory=dict)

    @property
    def in_order(self) -> tuple[Frame, ...]:
        return tuple(frame for _, frame in sorted(self.frames.items()))

    @property
    def size_bytes(self) -> int:
        return sum(len(frame.raw) for frame in self.frames.values())


class Reassembler:
    """The unfinished messages of one connection, or of one terminal over UDP."""

    def __init__(self, limits: PartLimits | None = None) -> None:
        self._limits = limits or PartLimits()
        self._open: OrderedDict[_Key, _Message] = OrderedDict()
        self._done: OrderedDict[_Key, None] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Raw bytes of the packets held."""
        return self._held_bytes

    @property
    def deadline_ns(self) -> int | None:
        """When `due` has something to say; None while nothing is unfinished."""
        return min((message.deadline_ns for message in self._open.values()), default=None)

    def add(self, frame: Frame, now_ns: int) -> list[Assembled | Abandoned]:
        """One packet (`frame.total` is not 0). A duplicate changes nothing and gives nothing."""
        if not 1 <= frame.index <= frame.total:
            return [Abandoned("numbering", (frame,))]
        key = _Key(frame.phone_field, frame.msg_id, frame.total, (frame.serial - frame.index + 1) % _SERIALS)
        if key in self._done:
            return []
        found: list[Assembled | Abandoned] = []
        message = self._open.get(key)
        if message and (held := message.frames.get(frame.index)):
            if held.body == frame.body:
                return []
            found.append(self._abandon(message, "conflict"))
            message = None
        if message is None:
            message = self._open[key] = _Message(key, self._limits.wait_ns)
        message.frames[frame.index] = frame
        message.quiet_since_ns = now_ns
        message.deadline_ns = now_ns + message.wait_ns
        self._held_bytes += len(frame.raw)
        if len(message.frames) == frame.total:
            found.append(self._finish([message]))
        return found + self._shed()

    def due(self, now_ns: int) -> list[Assembled | Missing | Abandoned]:
        """What has waited long enough: a message joined, a request for what is missing, or the end of waiting."""
        found: list[Assembled | Missing | Abandoned] = []
        for message in [one for one in self._open.values() if one.deadline_ns <= now_ns]:
            if message.key not in self._open:
                continue  # joined with one before it
            if together := self._together(message, now_ns):
                found.append(self._finish(together))
                continue
            if message.requests == self._limits.requests:
                found.append(self._abandon(message, "timeout"))
                continue
            message.requests += 1
            message.wait_ns *= message.requests + 1
            message.deadline_ns = now_ns + message.wait_ns
            some = message.in_order[0]
            first = some.serial if some.index == 1 else message.key.first_serial
            parts = tuple(number for number in range(1, message.key.total + 1) if number not in message.frames)
            found.append(Missing(Address.of_frame(some), message.key.msg_id, first, parts))
        return found

    def close(self) -> list[Abandoned]:
        """The link is gone: half a message is never joined to packets of another link."""
        return [self._abandon(message, "link") for message in list(self._open.values())]

    def _together(self, message: _Message, now_ns: int) -> list[_Message]:
        """All that waits of this kind, if it is exactly one message, in rising order, and nothing more has come."""
        same = [one for key, one in self._open.items() if key[:3] == message.key[:3]]
        frames = sorted((frame for one in same for frame in one.frames.values()), key=lambda frame: frame.index)
        if [frame.index for frame in frames] != list(range(1, message.key.total + 1)):
            return []
        rises = [(after.serial - before.serial) % _SERIALS for before, after in pairwise(frames)]
        is_quiet = all(one.quiet_since_ns + self._limits.wait_ns // 2 <= now_ns for one in same)
        return same if is_quiet and all(0 < rise < _SERIALS // 2 for rise in rises) else []

    def _finish(self, messages: list[_Message]) -> Assembled:
        for message in messages:
            self._forget(message)
            self._done[message.key] = None
        while len(self._done) > self._limits.remembered:
            self._done.popitem(last=False)
        frames = tuple(sorted((one for each in messages for one in each.in_order), key=lambda frame: frame.index))
        return Assembled(frames, b"".join(frame.body for frame in frames), len(messages) == 1)

    def _shed(self) -> list[Assembled | Abandoned]:
        found: list[Assembled | Abandoned] = []
        while len(self._open) > self._limits.messages or self._held_bytes > self._limits.total_bytes:
            found.append(self._abandon(next(iter(self._open.values())), "limit"))
        return found

    def _abandon(self, message: _Message, reason: str) -> Abandoned:
        self._forget(message)
        return Abandoned(reason, message.in_order)

    def _forget(self, message: _Message) -> None:
        del self._open[message.key]
        self._held_bytes -= message.size_bytes
