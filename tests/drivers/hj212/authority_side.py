"""A small platform for the simulator's tests, written against the standard: it takes every message and says so."""

from __future__ import annotations

from dataclasses import dataclass, field

from drivers.fleet.kitchens import Kitchen, Upset
from drivers.fleet.vehicles import DeviceClock
from drivers.hj212 import codec
from drivers.hj212.simulator import Habits, Monitor

T0 = 1_790_000_000
MN = "010000A8900016F000169DC0"


@dataclass
class Platform:
    """One link's other end."""

    silent: bool = False
    """Answers nothing."""
    messages: list[codec.Message] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    malformed: list[codec.Malformed] = field(default_factory=list)
    decoder: codec.Decoder = field(default_factory=codec.Decoder)

    def feed(self, chunks: list[bytes]) -> bytes:
        """Answers to what a monitor sent."""
        answers = b""
        for found in self.decoder.feed(b"".join(chunks)):
            if isinstance(found, codec.Malformed):
                self.malformed.append(found)
                continue
            message = codec.parse_frame(found)
            self.messages.append(message)
            self.frames.append(found.raw)
            if message.qn and message.wants_answer and not self.silent:
                cn = {"9021": "9022", "2011": "9014", "2051": "9014"}.get(message.cn, "9013")
                answers += self.say(message, cn)
        return answers

    def say(self, about: codec.Message, cn: str, cp: str = "", qn: str = "") -> bytes:
        """A frame to the monitor of a message."""
        return codec.encode(codec.Message(qn=qn or about.qn, st="91", cn=cn, pw=about.pw, mn=about.mn, flag=4, cp=cp))

    def of(self, cn: str) -> list[codec.Message]:
        """Messages of one command."""
        return [one for one in self.messages if one.cn == cn]


def monitor(habits: Habits | None = None, *upsets: Upset, for_s: int | None = None, interval_s: int = 60) -> Monitor:
    """A monitor on a clock of real pace that begins at 0 s."""
    end = None if for_s is None else T0 + for_s
    kitchen = Kitchen(MN, T0, end, ((T0 - 3600, T0 + 7200),), seed=7, interval_s=interval_s, upsets=upsets)
    return Monitor(kitchen, DeviceClock(0.0, T0), habits)


def run(one: Monitor, platform: Platform, until_s: float, begin_s: float = 0.0) -> None:
    """Let time pass, from one deadline to the next; links come and go as the monitor wants."""
    now_s, is_up = begin_s, False
    while now_s <= until_s:
        wants = one.wants_link(now_s) and not one.is_dead
        if is_up and not wants:
            one.link_down(now_s)
            platform.decoder = codec.Decoder()
            is_up = False
            one.is_dead = False
        if not is_up and one.wants_link(now_s):
            is_up = True
            talk(one, platform, one.link_up(now_s), now_s)
        talk(one, platform, one.due(now_s), now_s)
        now_s = max(one.deadline_s(now_s), now_s + 0.05)
    if is_up:
        one.link_down(until_s)
        platform.decoder = codec.Decoder()


def talk(one: Monitor, platform: Platform, out: list[bytes], now_s: float) -> None:
    """Until nobody has anything to say."""
    while out:
        answer = platform.feed(out)
        if not answer:
            return
        out = one.received(answer, now_s)
