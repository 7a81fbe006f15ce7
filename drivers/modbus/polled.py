"""One device of a bus between two rounds: what it is asked next, and what is known of it. Pure.

A late answer can be told from the right one by nothing but its length. So a device that left a question without an
answer is first asked for a number of registers that none of its blocks has (`fence`): devices answer in the order in
which they were asked, so an answer of that length says that nothing older is still on its way. Where fences are not
answered either, the device is away, or it knows whole blocks only: after PLAIN_AFTER_NS of silence it is asked plainly.
If it answers that, one fence more shows which; who does not answer it gets none in future, only the pause.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from drivers.modbus import drafts
from drivers.modbus.blocks import READ_BITS, Answer, Block, DevicePlan, Identity
from drivers.modbus.codec import BITS_MAX, REGISTERS_MAX, Request
from drivers.modbus.drafts import Exchange
from drivers.modbus.telling import SECOND_NS, Gaps, Told
from gateway.core.record import Draft

FENCES_MAX: Final = 2
PLAIN_AFTER_NS: Final = 30 * SECOND_NS
"""No answer is so late. Pauses after failures become longer than this."""
RECOGNISED_NS: Final = 3600 * SECOND_NS
"""Identity registers outside the blocks are read again after so long, and whenever the device was not there."""

Purpose = Literal["", "identity", "fence", "order"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what for."""

    request: Request
    purpose: Purpose = ""
    ticket: int = 0
    """Of an order; 0: none, or whoever gave it has gone."""
    name: str = ""
    """Of what an order writes."""

    @property
    def block(self) -> Block:
        """What is read, or written."""
        return Block(self.request.function, self.request.address, self.request.count)


@dataclass(slots=True)
class Polled:
    """A device and its round."""

    source: str
    plan: DevicePlan
    told: Told = field(default_factory=Told)
    exchanges: list[Exchange] = field(default_factory=list)
    """Of the round that is under way."""
    is_online: bool = False
    unsettled: bool = False
    """A question of ours may still be answered."""
    asked_ns: int = 0
    """When it was asked last."""
    fences_unanswered: int = 0
    answers_fences: bool | None = None
    """None: not known yet."""
    recognised_ns: int | None = None
    gaps: Gaps = field(init=False)
    _fence: Block | None = field(init=False)
    _apart: tuple[Identity, ...] = field(init=False)
    """Identity registers that are not within a block."""

    def __post_init__(self) -> None:
        self.gaps = Gaps(self._gap)
        self._fence = fence_of(self.plan)
        self._apart = tuple(
            one for one in self.plan.identity if not any(within(one.block, b) for b in self.plan.blocks)
        )

    def _gap(self, reason: str, count: int, values: dict[str, Any], held: bytes) -> Draft:
        return drafts.gap_draft(self.source, self.plan, reason, count, values, held)

    @property
    def is_told(self) -> bool:
        """Whether a record says, or is about to say, how it is."""
        return bool(self.told.value) or self.told.waiting is not None

    def next_question(self, now_ns: int, *, fenced: bool) -> Question:
        """What the round still lacks. `fenced`: late answers are possible on this link."""
        if fenced and self._fence is not None and self._wants_fence(now_ns):
            return Question(read(self._fence), "fence")
        if not self.exchanges and self.recognised_ns is not None and now_ns - self.recognised_ns > RECOGNISED_NS:
            self.recognised_ns = None
        done = len(self.exchanges)
        apart = self._apart if self.recognised_ns is None else ()
        if done < len(apart):
            return Question(read(apart[done].block), "identity")
        return Question(read(self.plan.blocks[self._blocks_read()]))

    def _wants_fence(self, now_ns: int) -> bool:
        if self.answers_fences is False:
            return False
        if self.unsettled:
            return self.fences_unanswered < FENCES_MAX or now_ns - self.asked_ns < PLAIN_AFTER_NS
        return self.fences_unanswered > 0 and not self.exchanges  # it answers now: does it answer fences?

    def answered(self, purpose: Purpose) -> None:
        """It has answered; nothing is owed."""
        if purpose == "fence":
            self.answers_fences = True
        if self.answers_fences:
            self.fences_unanswered = 0
        self.unsettled = False

    def unanswered(self, purpose: Purpose, *, is_silent: bool) -> bool:
        """It has not answered, or what cannot be read. Whether that is a failure: not where it was only to be seen
        whether it answers fences."""
        is_trial = purpose == "fence" and not self.unsettled
        if is_trial and is_silent:
            self.answers_fences, self.fences_unanswered = False, 0
            return False
        if purpose != "fence":
            self.unsettled = True
        elif is_silent:
            self.fences_unanswered += 1
        return True

    def _blocks_read(self) -> int:
        return sum(not one.purpose for one in self.exchanges)

    def take(self, exchange: Exchange, now_ns: int) -> bool:
        """One more answer of the round; whether it is the last."""
        self.exchanges.append(exchange)
        if exchange.purpose and len(self.exchanges) == len(self._apart):
            self.recognised_ns = now_ns
        return self._blocks_read() == len(self.plan.blocks)

    def stranger(self) -> str:
        """What says that this is another device than the profile's; "" where nothing does. Of what was read so far."""
        for identity in self.plan.identity:
            for exchange in self.exchanges:
                answer = exchange.answer
                if within(identity.block, answer.block):
                    found = _part(answer, identity.block)
                    if any(
                        want is not None and want != got for want, got in zip(identity.expected, found, strict=True)
                    ):
                        return f"{_named(identity.block)} is {_shown(found)}, expected {_shown(identity.expected)}"
        return ""

    def answers(self) -> list[Answer]:
        """Those of the plan's blocks, in order."""
        return [one.answer for one in self.exchanges if not one.purpose]

    def forget_round(self) -> None:
        """It has ended, or failed."""
        self.exchanges.clear()

    def lost(self) -> None:
        """It does not answer, or the link is new: it may be another one when it does."""
        self.recognised_ns = None
        self.forget_round()


def read(block: Block) -> Request:
    """The question for a block."""
    return Request(block.function, block.address, block.count)


def fence_of(plan: DevicePlan) -> Block | None:
    """The shortest question whose answer has another length than that of any block; None: not for this device."""
    if not plan.fence:
        return None
    blocks = [*plan.blocks, *(one.block for one in plan.identity)]
    lengths = {(one.function, read(one).reply_bytes) for one in blocks}
    first = plan.blocks[0]
    top = BITS_MAX if first.function in READ_BITS else REGISTERS_MAX
    for count in range(1, min(top, 0x10000 - first.address) + 1):
        block = Block(first.function, first.address, count)
        if (block.function, read(block).reply_bytes) not in lengths:
            return block
    return None


def within(inner: Block, outer: Block) -> bool:
    """Whether a block lies in another."""
    start = inner.address - outer.address
    return inner.function == outer.function and start >= 0 and start + inner.count <= outer.count


def _part(answer: Answer, block: Block) -> tuple[int, ...]:
    start = block.address - answer.block.address
    values = answer.registers or answer.bits
    return tuple(map(int, values[start : start + block.count]))


def _named(block: Block) -> str:
    return f"function {block.function} address {block.address}"


def _shown(values: tuple[int | None, ...]) -> str:
    return " ".join("any" if value is None else f"0x{value:04X}" for value in values)
