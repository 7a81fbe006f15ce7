"""Which alarms are open, de-duplicated, so that a condition is one `raised` and one `cleared` record however often
it is found. The open ones are remembered in the store with the record itself: a restart neither repeats nor forgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.core import kinds
from gateway.core.errors import FieldgateError
from gateway.core.ports import Sink, SourceMemory
from gateway.core.record import Draft, StateChange

SOURCE: Final = "gateway"
PREFIX: Final = b"alarm:"
TEXT_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Alarm:
    """An open alarm: `code` is a fixed word, `subject` what it is about ("" for the whole gateway)."""

    code: str
    subject: str
    text: str


class Alarms:
    """The open alarms of this gateway. `memory` is read once."""

    def __init__(self, sink: Sink, memory: SourceMemory | None = None) -> None:
        self._sink = sink
        self._open: dict[tuple[str, str], Alarm] = {}
        for key, value in memory.items(SOURCE, PREFIX) if memory else ():
            code, _, subject = key[len(PREFIX) :].decode("utf-8", "replace").partition(":")
            self._open[code, subject] = Alarm(code, subject, value.decode("utf-8", "replace"))

    def open(self) -> list[Alarm]:
        """All open alarms, oldest first."""
        return list(self._open.values())

    def is_open(self, code: str, subject: str = "") -> bool:
        """Whether this alarm is raised and not cleared."""
        return (code, subject) in self._open

    async def raise_alarm(self, code: str, text: str, subject: str = "") -> None:
        """Store an `alarm` record unless it is open already. Raises StoreFull, then it counts as not raised."""
        if (code, subject) in self._open:
            return
        self._open[code, subject] = Alarm(code, subject, text[:TEXT_MAX])
        try:
            await self._write(code, subject, "raised", text[:TEXT_MAX])
        except FieldgateError:
            self._open.pop((code, subject), None)
            raise

    async def clear(self, code: str, text: str, subject: str = "") -> None:
        """Store that an open alarm is over; nothing where it is not open. Raises StoreFull, then it stays open."""
        alarm = self._open.pop((code, subject), None)
        if alarm is None:
            return
        try:
            await self._write(code, subject, "cleared", text[:TEXT_MAX])
        except FieldgateError:
            self._open[code, subject] = alarm
            raise

    async def _write(self, code: str, subject: str, state: str, text: str) -> None:
        draft = Draft(kinds.ALARM, SOURCE, subject, {"code": code, "state": state, "text": text})
        key = PREFIX + f"{code}:{subject}".encode()
        change = StateChange(SOURCE, key, text.encode() if state == "raised" else None)
        await self._sink.append([draft], [change])
