"""Operators' orders as commands of HJ 212, and what monitors answer to them. Pure.

    time {}                                     1011   what the device's clock says
    set-time {}                                 1012   to the gateway's time
    timeouts {overtime_s, retries}              1000
    realtime-interval {}                        1061   set-realtime-interval {interval_s: 30 to 3600}   1062
    minute-interval {}                          1063   set-minute-interval {minutes: 1, 2, … 30}        1064
    realtime {}, stop-realtime {}               2011, 2012
    run-state {}, stop-run-state {}             2021, 2022
    history {message: 2031 | 2041 | 2051 | 2061, begin, end}    of the times "YYYYMMDDhhmmss"
    sample, zero-span, clean, compare, identity {factor}        3012, 3011, 3013, 3014, 3019
    device-values {factor, id, begin, end}      3020   set-device-values {factor, id, value}            3021

`timeout_s` (1 to 80, else 60) may be given with each: how long the device may take once it has said that it is ready.
An order is sent with bit A of Flag; without an answer it is sent again after 10 s, three times (HJ 212-2017, 1000).
After TOTAL_S it is over in any case; values that come later are records like all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from drivers.hj212.commands import ACCEPTED, DATA_TAKEN, EXE_RETURNS, NOTICE_TAKEN, QN_RETURNS, RESULT
from drivers.hj212.dialect import clean
from drivers.hj212.fields import Message
from drivers.wishes import WishError, Wishes
from gateway.core.ports import Outcome

ANSWER_NS: Final = 10_000_000_000
RETRIES: Final = 3
TIMEOUT_S: Final = 60
TIMEOUT_MAX_S: Final = 80
TOTAL_S: Final = 120
SETTLE_NS: Final = 10_000_000_000
"""After the values that were asked for: so long for the 9012 that some devices leave out."""
WAITING_MAX: Final = 4
"""Orders of one monitor that are under way: most carry out one at a time."""
ANSWERS_MAX: Final = 64
"""Parameters of answers that an outcome holds; the records have all."""
TEXTS: Final = frozenset({"message", "begin", "end", "factor", "id", "value"})
"""Parameters that are digits often enough to be given as numbers."""
MINUTES: Final = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
_SECOND_NS: Final = 1_000_000_000
_TIME: Final = re.compile(r"[0-9]{14}", re.ASCII)
_PLAIN: Final = re.compile(r"[0-9A-Za-z_.:+-]{1,64}", re.ASCII)

Clock = str
"""Beijing time as 14 digits."""


def _nothing(_wishes: Wishes, _now: Clock) -> str:
    return ""


def _factor(wishes: Wishes, _now: Clock) -> str:
    return f"PolId={_word(wishes, 'factor')}"


def _set_time(wishes: Wishes, now: Clock) -> str:
    return (f"PolId={_word(wishes, 'factor')};" if wishes.has("factor") else "") + f"SystemTime={now}"


def _timeouts(wishes: Wishes, _now: Clock) -> str:
    return f"OverTime={wishes.number('overtime_s', 1, 3600)};ReCount={wishes.number('retries', 0, 99)}"


def _interval(wishes: Wishes, _now: Clock) -> str:
    return f"RtdInterval={wishes.number('interval_s', 30, 3600)}"


def _minutes(wishes: Wishes, _now: Clock) -> str:
    minutes = wishes.number("minutes", 1, 30)
    if minutes not in MINUTES:
        raise WishError(f"minutes: {minutes} is not one of {', '.join(map(str, MINUTES))}")
    return f"MinInterval={minutes}"


def _history(wishes: Wishes, _now: Clock) -> str:
    wishes.word("message", ("2031", "2041", "2051", "2061"))
    return f"BeginTime={_time(wishes, 'begin')};EndTime={_time(wishes, 'end')}"


def _device_values(wishes: Wishes, _now: Clock) -> str:
    asked = f"PolId={_word(wishes, 'factor')};InfoId={_word(wishes, 'id')}"
    if not wishes.has("begin") and not wishes.has("end"):
        return asked
    return f"{asked};BeginTime={_time(wishes, 'begin')};EndTime={_time(wishes, 'end')}"


def _set_device_values(wishes: Wishes, _now: Clock) -> str:
    name = _word(wishes, "id")
    return f"PolId={_word(wishes, 'factor')};InfoId={name};{name}-Info={_word(wishes, 'value')}"


def _word(wishes: Wishes, key: str) -> str:
    text = wishes.text(key)
    if not _PLAIN.fullmatch(text):
        raise WishError(f"{key}: {text[:40]!r}: give at most 64 letters, digits and . _ : + -")
    return text


def _time(wishes: Wishes, key: str) -> str:
    text = wishes.text(key)
    if not _TIME.fullmatch(text):
        raise WishError(f"{key}: {text[:40]!r} is no time; give 14 digits such as 20260302080000")
    return text


ACTIONS: Final[Mapping[str, tuple[str, Callable[[Wishes, Clock], str]]]] = {
    "time": ("1011", _nothing),
    "set-time": ("1012", _set_time),
    "timeouts": ("1000", _timeouts),
    "realtime-interval": ("1061", _nothing),
    "set-realtime-interval": ("1062", _interval),
    "minute-interval": ("1063", _nothing),
    "set-minute-interval": ("1064", _minutes),
    "realtime": ("2011", _nothing),
    "stop-realtime": ("2012", _nothing),
    "run-state": ("2021", _nothing),
    "stop-run-state": ("2022", _nothing),
    "history": ("", _history),
    "zero-span": ("3011", _factor),
    "sample": ("3012", _factor),
    "clean": ("3013", _factor),
    "compare": ("3014", _factor),
    "identity": ("3019", _factor),
    "device-values": ("3020", _device_values),
    "set-device-values": ("3021", _set_device_values),
}
"""Action → its command, and what makes its CP."""


@dataclass(frozen=True, slots=True)
class Wish:
    """An order, ready to be sent."""

    cn: str
    cp: str
    timeout_s: int
    minutes: int
    """set-minute-interval: the new length; else 0."""


def compose(action: str, parameters: Mapping[str, Any], now: Clock) -> Wish:
    """The command of an order. Raises WishError with one line."""
    found = ACTIONS.get(action)
    if found is None:
        raise WishError(f"no action {action[:40]!r} for HJ 212; there are {', '.join(ACTIONS)}")
    given = {key: str(value) if key in TEXTS and type(value) is int else value for key, value in parameters.items()}
    wishes = Wishes(given)
    timeout_s = wishes.number("timeout_s", 1, TIMEOUT_MAX_S, TIMEOUT_S)
    cn, write = found
    cp = write(wishes, now)
    wishes.finish()
    minutes = parameters["minutes"] if action == "set-minute-interval" else 0
    return Wish(cn or str(given["message"]), cp, timeout_s, minutes)


@dataclass(slots=True)
class Waiting:
    """An order under way."""

    ticket: int
    mn: str
    qn: str
    wish: Wish
    frame: bytes
    due_ns: int
    end_ns: int
    tries_left: int = RETRIES
    is_ready: bool = False
    """9011 has come."""
    answers: list[dict[str, str]] = field(default_factory=list)
    messages: int = 0
    """That answered it, beside 9011 and 9012."""

    def outcome(self, state: Literal["done", "refused", "timeout", "offline"], detail: str, **more: str) -> Outcome:
        """What came of it."""
        result: dict[str, Any] = {"qn": self.qn, "messages": self.messages, **more}
        if self.answers:
            result["answer"] = list(self.answers)
        return Outcome(state, detail, result)


class Desk:
    """The orders of one source that wait for answers."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def deadline_ns(self) -> int | None:
        """When `due` has something to do."""
        return min((one.due_ns for one in self._waiting.values()), default=None)

    def count(self, mn: str) -> int:
        """How many orders of a monitor wait."""
        return sum(1 for one in self._waiting.values() if one.mn == mn)

    def wait(self, one: Waiting) -> None:
        """An order was sent."""
        self._waiting[one.mn, one.qn] = one

    def due(self, now_ns: int) -> tuple[list[Waiting], list[tuple[Waiting, Outcome]]]:
        """Orders to be sent again, and those that are over."""
        again: list[Waiting] = []
        over: list[tuple[Waiting, Outcome]] = []
        for one in [one for one in self._waiting.values() if one.due_ns <= now_ns]:
            if not one.is_ready and not one.messages and one.tries_left:
                one.tries_left -= 1
                one.due_ns = min(now_ns + ANSWER_NS, one.end_ns)
                again.append(one)
                continue
            del self._waiting[one.mn, one.qn]
            over.append((one, _expired(one)))
        return again, over

    def drop(self, mn: str) -> list[Waiting]:
        """The monitor is gone: its orders, forgotten."""
        gone = [one for one in self._waiting.values() if one.mn == mn]
        for one in gone:
            del self._waiting[one.mn, one.qn]
        return gone

    def find(self, message: Message) -> Waiting | None:
        """The order that a message answers: the same QN; in 2005 it stands in the CP."""
        if not self._waiting:
            return None
        qn = message.qn or message.params.get("QN", "")
        return self._waiting.get((message.mn, qn)) or self._waiting.get((message.mn, message.params.get("QN", "")))

    def answered(self, one: Waiting, message: Message, now_ns: int) -> Outcome | None:
        """A message answers an order; the outcome, once there is nothing more to wait for."""
        outcome = self._judge(one, message, now_ns)
        if outcome is not None:
            self._waiting.pop((one.mn, one.qn), None)
        return outcome

    def _judge(self, one: Waiting, message: Message, now_ns: int) -> Outcome | None:
        said, params = message.cn, message.params
        if said == ACCEPTED:
            value = params.get("QnRtn", "")
            if value != "1":
                text = f"the device answers: {QN_RETURNS.get(value, 'QnRtn ' + clean(value, 16))}"
                return one.outcome("refused", text, qn_return=clean(value, 16))
            one.is_ready = True
            one.due_ns = min(now_ns + one.wish.timeout_s * _SECOND_NS, one.end_ns)
            return None
        if said == RESULT:
            value = params.get("ExeRtn", "")
            if value == "1":
                return one.outcome("done", "the device has done it", exe_return=value)
            text = f"the device answers: {EXE_RETURNS.get(value, 'ExeRtn ' + clean(value, 16))}"
            return one.outcome("refused", text, exe_return=clean(value, 16))
        if said in (NOTICE_TAKEN, DATA_TAKEN):
            return one.outcome("done", "the device has taken notice")
        one.messages += 1
        one.is_ready = True
        wait_ns = max(SETTLE_NS, one.wish.timeout_s * _SECOND_NS if one.wish.cn[0] == "2" else 0)
        one.due_ns = min(now_ns + wait_ns, one.end_ns)
        for name, text in params.items():
            if len(one.answers) < ANSWERS_MAX:
                one.answers.append({"name": clean(name, 64), "text": clean(text)})
        return None


def _expired(one: Waiting) -> Outcome:
    if one.messages:
        return one.outcome("done", "the device sent what was asked for, but no result (9012)")
    if one.is_ready:
        return one.outcome(
            "timeout", "the device was ready, but sent no result in time; it may have done it all the same"
        )
    return one.outcome("timeout", f"no answer to {1 + RETRIES} attempts; the device may have done it all the same")


OFFLINE: Final = "the device has no link now; try again when it reports"
