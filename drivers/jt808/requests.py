"""Operators' orders as messages of JT/T 808, and what terminals answer to them. Pure.

    locate   {}                                              8201 → 0201
    track    {interval_s, validity_s}; interval_s 0 stops    8202 → 0001
    text     {text, urgent, display, read_aloud, screen, kind: notice|service}      8300 → 0001
    shoot    {channel, photos | video_s | stop, interval_s, save, resolution, quality}   8801 → 0805 or 0001
    set      {parameters: {name or id: number or text}}      8103 → 0001
    query    {parameters: [name or id, …]}; none: all        8104, 8106 → 0104
             {attributes: true}                              8107 → 0107
    area     see drivers.jt808.fences                        8600 to 8605 → 0001
    route    see drivers.jt808.fences                        8606, 8607 → 0001

`timeout_s` (1 to 120, else 15) may be given with each. Parameters are a JSON object; what is wrong with it is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from drivers.jt808 import fences
from drivers.jt808.codec import (
    DriverText,
    EncodeError,
    Message,
    Opaque,
    Parameter,
    QueryListed,
    QueryLocation,
    QueryParameters,
    SetParameters,
    Shoot,
    Text,
    Track,
)
from drivers.jt808.settings import PARAMETERS
from drivers.wishes import WishError, Wishes
from gateway.core.ports import Outcome

TIMEOUT_S: Final = 15
TIMEOUT_MAX_S: Final = 120
WAITING_MAX: Final = 8
"""Orders of one terminal that wait for its answer."""
QUERY_ATTRIBUTES: Final = 0x8107
PHOTOS_MAX: Final = 100
RESULTS: Final = {0: "done", 1: "failed", 2: "message wrong", 3: "not supported"}
"""0001, result."""
SHOT_RESULTS: Final = {0: "done", 1: "failed", 2: "channel not supported"}
"""0805, result."""

_NAMES: Final = {name: number for number, (name, _) in PARAMETERS.items()}


def _locate(_wishes: Wishes) -> list[Message]:
    return [QueryLocation()]


def _track(wishes: Wishes) -> list[Message]:
    interval_s = wishes.number("interval_s", 0, 65_535)
    if not interval_s:
        return [Track(0)]
    return [Track(interval_s, wishes.number("validity_s", 1, 0xFFFF_FFFF))]


def _text(wishes: Wishes) -> list[Message]:
    flags = 0
    for key, bit, given in (
        ("urgent", DriverText.URGENT, False),
        ("display", DriverText.DISPLAY, True),
        ("read_aloud", DriverText.READ_ALOUD, True),
        ("screen", DriverText.SCREEN, False),
    ):
        flags |= bit if wishes.switch(key, given) else 0
    kind = 2 if wishes.word("kind", ("notice", "service"), "notice") == "service" else 1
    return [DriverText(flags, Text.of(wishes.text("text")), kind)]


def _shoot(wishes: Wishes) -> list[Message]:
    video_s, is_stop = wishes.number("video_s", 0, 65_535, -1), wishes.switch("stop", False)
    photos = wishes.number("photos", 1, PHOTOS_MAX, 1)
    interval_s = wishes.number("interval_s", 0, 65_535, 0)
    command = Shoot.STOP if is_stop else Shoot.VIDEO if video_s >= 0 else photos
    return [
        Shoot(
            channel=wishes.number("channel", 1, 255, 1),
            command=command,
            interval_s=max(video_s, 0) if command == Shoot.VIDEO else interval_s,
            save=int(wishes.switch("save", False)),
            resolution=wishes.number("resolution", 1, 8, 2),
            quality=wishes.number("quality", 1, 10, 5),
        )
    ]


def _set(wishes: Wishes) -> list[Message]:
    given = wishes.table("parameters")
    if not given:
        raise WishError('parameters: empty; give such as {"interval_default_s": 10}')
    return [SetParameters(tuple(Parameter.of(_parameter(key), _value(key, value)) for key, value in given.items()))]


def _value(key: str, value: object) -> int | str | bytes:
    kind = PARAMETERS.get(_parameter(key), ("", "raw"))[1]
    if kind == "raw" and isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise WishError(f"parameters.{key}: {value!r} is not hexadecimal; its bytes are written as hex") from None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise WishError(f"parameters.{key}: give a number or a text, not {value!r}")
    return value


def _parameter(key: object) -> int:
    """Id of a parameter by its name, or as it is: 41, "0x0029"."""
    if isinstance(key, int) and not isinstance(key, bool):
        number = key
    elif isinstance(key, str) and key in _NAMES:
        return _NAMES[key]
    else:
        try:
            number = int(str(key), 0)
        except ValueError:
            raise WishError(
                f"parameters: no parameter {str(key)[:40]!r}; use such as {', '.join(list(_NAMES)[:3])}, 0x0029"
            ) from None
    if not 0 <= number <= 0xFFFF_FFFF:
        raise WishError(f"parameters: {number} is no id of a parameter")
    return number


def _query(wishes: Wishes) -> list[Message]:
    if wishes.switch("attributes", False):
        return [Opaque(QUERY_ATTRIBUTES, b"", "")]
    listed = wishes.sequence("parameters", 255)
    return [QueryListed(tuple(_parameter(one) for one in listed))] if listed else [QueryParameters()]


ACTIONS: Final[Mapping[str, tuple[Callable[[Wishes], list[Message]], frozenset[int]]]] = {
    "locate": (_locate, frozenset({0x0201})),
    "track": (_track, frozenset({0x0001})),
    "text": (_text, frozenset({0x0001})),
    "shoot": (_shoot, frozenset({0x0805, 0x0001})),
    "set": (_set, frozenset({0x0001})),
    "query": (_query, frozenset({0x0104, 0x0107})),
    "area": (fences.area, frozenset({0x0001})),
    "route": (fences.route, frozenset({0x0001})),
}
"""Action → its messages, and which ones answer it. 0001 with a result other than 0 answers every one."""


def compose(action: str, parameters: Mapping[str, Any]) -> tuple[list[Message], int]:
    """The messages of an order, and how many seconds to wait. Raises WishError and EncodeError with one line."""
    found = ACTIONS.get(action)
    if found is None:
        raise WishError(f"no action {action[:40]!r} for JT/T 808; there are {', '.join(ACTIONS)}")
    wishes = Wishes(parameters)
    timeout_s = wishes.number("timeout_s", 1, TIMEOUT_MAX_S, TIMEOUT_S)
    messages = found[0](wishes)
    wishes.finish()
    return messages, timeout_s


@dataclass(slots=True)
class Waiting:
    """An order on its way."""

    ticket: int
    identity: str
    action: str
    serials: dict[int, int]
    """Of the frames that still want an answer, with the number of the message each is a packet of."""
    deadline_ns: int


class Desk:
    """The orders of one source that wait for answers."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}

    def count(self, identity: str) -> int:
        """How many orders of a terminal wait."""
        return sum(1 for one in self._waiting.values() if one.identity == identity)

    def wait(self, one: Waiting) -> None:
        """An order was sent."""
        self._waiting[one.ticket] = one

    def timed_out(self, ticket: int, now_ns: int) -> Waiting | None:
        """The order, if it still waits and its time is over; it is forgotten."""
        one = self._waiting.get(ticket)
        return self._waiting.pop(ticket) if one is not None and one.deadline_ns <= now_ns else None

    def drop(self, identity: str) -> list[Waiting]:
        """The terminal is gone: its orders, forgotten."""
        gone = [one for one in self._waiting.values() if one.identity == identity]
        for one in gone:
            del self._waiting[one.ticket]
        return gone

    def answered(
        self, identity: str, msg_id: int, serial: int | None, result: int, facts: Mapping[str, Any]
    ) -> tuple[bool, tuple[int, Outcome] | None]:
        """A terminal answered the frame with this serial number (None: the answer names none). Whether an order waits
        for it, and ticket and outcome once all of its messages are answered."""
        for one in self._waiting.values():
            if one.identity == identity and (
                msg_id in ACTIONS[one.action][1] if serial is None else serial in one.serials
            ):
                break
        else:
            return False, None
        if msg_id not in ACTIONS[one.action][1] and not result:
            return True, None  # 0001 says that it was heard; the answer itself follows
        number = None if serial is None else one.serials[serial]
        one.serials = {key: value for key, value in one.serials.items() if number is not None and value != number}
        if one.serials and not result:
            return True, None
        del self._waiting[one.ticket]
        if result:
            words = SHOT_RESULTS if msg_id == 0x0805 else RESULTS
            text = f"the device answers: {words.get(result, str(result))}"
            return True, (one.ticket, Outcome("refused", text, {"result": result, **facts}))
        return True, (one.ticket, Outcome("done", "the device has done it", dict(facts)))


OFFLINE: Final = "the device has no link now; try again when it reports"


def refused(state: Literal["refused", "offline", "unknown"], detail: str) -> Outcome:
    """An order that was not sent."""
    return Outcome(state, detail)


def refusal_of(error: WishError | EncodeError) -> Outcome:
    """An order that cannot be said in the protocol."""
    return Outcome("refused", str(error))
