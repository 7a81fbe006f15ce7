"""A session with a clock that a test moves, and everything that it wants, in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from drivers.nmea.drafts import Author
from drivers.nmea.driver import (
    Close,
    Count,
    Emit,
    Ended,
    Event,
    Limits,
    Mark,
    Opened,
    Received,
    Session,
    SetState,
    Timer,
)
from drivers.nmea.fields import SECOND_NS
from gateway.core.instant import Instant
from gateway.core.record import Draft, check_draft
from tests.drivers.nmea.lines import line

BOOT = "0123456789abcdef0123456789abcdef"
DAY = "150326"
NOON_NS = 1_773_576_000 * SECOND_NS
"""2026-03-15, 12:00 UTC."""
PLACE = "3042.1250,N,12059.4375,E"


def at_noon(second: float) -> str:
    """hhmmss.ss of so many seconds after noon."""
    whole, hundredths = divmod(round(second * 100), 100)
    return f"{12 + whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{hundredths:02d}"


def rmc(second: float, status: str = "A", place: str = PLACE, day: str = DAY, mode: str = "A") -> bytes:
    return line(f"GNRMC,{at_noon(second)},{status},{place if status == 'A' else ',,,'},10.0,90.0,{day},,,{mode}")


def gga(second: float, quality: int = 1, satellites: str = "09", hdop: str = "0.9") -> bytes:
    return line(f"GNGGA,{at_noon(second)},{PLACE if quality else ',,,'},{quality},{satellites},{hdop},12.5,M,8.0,M,,")


def gst(second: float, lat: str = "3.0", lon: str = "4.0") -> bytes:
    return line(f"GNGST,{at_noon(second)},,,,,{lat},{lon},5.0")


def txt(text: str) -> bytes:
    return line(f"GNTXT,01,01,02,{text}")


@dataclass
class Rig:
    """`send` and `wait` move the clock and run the timers that are due on the way."""

    limits: Limits = field(default_factory=Limits)
    author: Author = field(default_factory=lambda: Author("gps-1", "receiver-1", "receiver"))
    clock_s: float = 0.0
    """The gateway's clock minus true time."""

    def __post_init__(self) -> None:
        self.session = Session(self.author, self.limits)
        self.mono_ns = 1000 * SECOND_NS
        self.drafts: list[Draft] = []
        self.counts: Counter[str] = Counter()
        self.marks: list[Mark] = []
        self.closes: list[str] = []
        self.state: SetState | None = None
        self.emits = 0

    @property
    def now(self) -> Instant:
        utc_ns = NOON_NS + self.mono_ns - 1000 * SECOND_NS + int(self.clock_s * 1e9)
        return Instant(BOOT, 1, self.mono_ns, utc_ns)

    @property
    def elapsed_s(self) -> float:
        return (self.mono_ns - 1000 * SECOND_NS) / 1e9

    def handle(self, event: Event) -> None:
        for command in self.session.handle(event, self.now):
            match command:
                case Emit(drafts):
                    self.emits += 1
                    for draft in drafts:
                        check_draft(draft, self.now)
                    self.drafts += drafts
                case Count(counts):
                    self.counts.update(counts)
                case SetState():
                    self.state = command
                case Mark():
                    self.marks.append(command)
                case Close(reason):
                    self.closes.append(reason)

    def opened(self, address: str = "/dev/ttyUSB0") -> Rig:
        self.handle(Opened(address))
        return self

    def wait(self, seconds: float) -> None:
        """Let time pass; timers fire when they are due."""
        until_ns = self.mono_ns + int(seconds * 1e9)
        for _ in range(100_000):
            due_ns = self.session.deadline_ns()
            if due_ns is None or due_ns > until_ns:
                break
            self.mono_ns = max(due_ns, self.mono_ns)
            self.handle(Timer())
        else:
            raise AssertionError("the session asks for its timer for ever")
        self.mono_ns = until_ns

    def send(self, *sentences: bytes, after_s: float = 1.0) -> None:
        """Bytes, after so many seconds."""
        self.wait(after_s)
        self.handle(Received(b"".join(sentences)))

    def second(self, *makers: Any, **more: Any) -> None:
        """One second later the sentences of that second; `more` is for the first of them."""
        self.wait(1.0)
        first, *others = makers
        said = [first(self.elapsed_s, **more), *(maker(self.elapsed_s) for maker in others)]
        self.handle(Received(b"".join(said)))

    def end(self) -> None:
        self.handle(Ended())

    def of(self, kind: str) -> list[Draft]:
        return [draft for draft in self.drafts if draft.kind == kind]

    def states(self) -> list[str]:
        return [draft.data["state"] for draft in self.of("device.state")]

    def positions(self) -> list[dict[str, Any]]:
        return [dict(draft.data) for draft in self.of("position")]

    def gaps(self) -> list[dict[str, Any]]:
        return [dict(draft.data) for draft in self.of("device.gap")]
