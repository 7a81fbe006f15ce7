"""Talks with a session as monitors do: events in, commands out, time by hand."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.hj212.acts import (
    Answer,
    BytesReceived,
    Close,
    Command,
    DevicesChanged,
    Emit,
    Event,
    LinkDown,
    LinkUp,
    Request,
    Send,
    TimerFired,
)
from drivers.hj212.codec import Decoder, Frame, Message, encode, parse_frame
from drivers.hj212.driver import Limits, Session
from drivers.hj212.intake import beijing
from drivers.hj212.keys import KeyRing
from gateway.core.instant import Instant
from gateway.core.ports import Outcome
from gateway.core.record import Draft, check_draft, encode_leaf
from gateway.devices import load
from tests.gateway.doubles import START_UTC_NS

SECOND = 1_000_000_000
MN = "0A10000000000000FD010001"
OTHER = "0A10000000000000FD010002"
STRANGER = "88888880000001"
DEVICES = f"""
format = "devices/v1"
[[class]]
id = "fume-monitor"
title = "Fume monitors"
profile = "fume-d1"
[[device]]
id = "{MN}"
class = "fume-monitor"
site = "kitchen-1"
[[device]]
id = "{OTHER}"
class = "fume-monitor"
profile = "fume-d3"
crc = "modbus_low_byte_first"
code = "654321"
"""


def devices_file(folder: Path, text: str = DEVICES, name: str = "devices.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@dataclass
class Talk:
    """A session and everything that it said."""

    devices: str = ""
    limits: Limits = field(default_factory=Limits)
    keys: KeyRing | None = None
    crc: Any = "hj212"
    remembered: Iterable[tuple[bytes, bytes]] = ()
    mono_s: float = 1000.0
    said: list[Command] = field(default_factory=list)
    memory: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.session = Session(
            "fume", self.limits, load(self.devices, (), "hj212"), self.keys, self.crc, self.remembered,
            round(self.mono_s * SECOND),
        )  # fmt: skip

    @property
    def now(self) -> Instant:
        passed_ns = round(self.mono_s * SECOND)
        return Instant("0" * 32, 1, passed_ns, START_UTC_NS + passed_ns - 1000 * SECOND)

    def tell(self, event: Event) -> list[Command]:
        """One event; every draft is checked as ingest does, every change of state is remembered."""
        commands = list(self.session.handle(event, self.now))
        for command in commands:
            if not isinstance(command, Emit):
                continue
            for draft in command.drafts:
                check_draft(draft, self.now)
                assert len(encode_leaf(draft, self.now, 1, bytes(16))) < 262_144
            changes = [*command.state]
            if command.marks:
                changes.append(self.session.repeats.round(command.marks))
            for change in changes:
                if change.value is None:
                    self.memory.pop(change.key, None)
                else:
                    self.memory[change.key] = change.value
        self.said += commands
        return commands

    def wait(self, seconds: float) -> list[Command]:
        """Let time pass, timers firing on the way."""
        end_s = self.mono_s + seconds
        found: list[Command] = []
        while (at := self.session.deadline_ns()) is not None and at <= end_s * SECOND:
            self.mono_s = max(self.mono_s, at / SECOND)
            found += self.tell(TimerFired())
        self.mono_s = end_s
        return found

    def again(self) -> "Talk":
        """The same after a kill: what was committed is there, and nothing else."""
        return Talk(self.devices, self.limits, self.keys, self.crc, list(self.memory.items()), self.mono_s)

    def monitor(self, link: int = 1, mn: str = MN, **more: Any) -> "Monitor":
        """A monitor on a new connection."""
        self.tell(LinkUp(link, f"10.0.0.9:{40_000 + link}"))
        return Monitor(self, link, mn, **more)

    def use(self, devices: str) -> list[Command]:
        return self.tell(DevicesChanged(load(devices, (), "hj212")))

    def order(self, action: str, mn: str = MN, ticket: int = 7, **parameters: Any) -> list[Command]:
        return self.tell(Request(ticket, mn, action, parameters))

    # ---------------------------------------------------------------- what was said

    def drafts(self, kind: str = "") -> list[Draft]:
        found = [draft for one in self.said if isinstance(one, Emit) for draft in one.drafts]
        return [draft for draft in found if not kind or draft.kind == kind]

    def data(self, kind: str = "reading") -> list[Any]:
        return [draft.data for draft in self.drafts(kind)]

    def states(self) -> list[tuple[str, str]]:
        return [(data["state"], data["reason"]) for data in self.data("device.state")]

    def gaps(self) -> list[tuple[str, int]]:
        return [(data["reason"], data["count"]) for data in self.data("device.gap")]

    def closed(self) -> list[int]:
        return [one.link for one in self.said if isinstance(one, Close)]

    def outcomes(self) -> list[Outcome]:
        return [one.outcome for one in self.said if isinstance(one, Answer)]

    def counter(self, name: str) -> int:
        return self.session.counters()[name]


def messages_of(commands: Iterable[Command], *, acks: bool = True, sent: bool = True) -> list[Message]:
    """What went, or will go after the commit, to monitors."""
    found: list[Message] = []
    for one in commands:
        content = one.ack if isinstance(one, Emit) and acks else one.content if isinstance(one, Send) and sent else b""
        decoder = Decoder(lambda _: "modbus_low_byte_first")
        found += [parse_frame(frame) for frame in decoder.feed(content) if isinstance(frame, Frame)]
    return found


@dataclass
class Monitor:
    """The monitor's side, without a will of its own."""

    talk: Talk
    link: int
    mn: str = MN
    st: str = "31"
    flag: int | None = 5
    variant: Any = "hj212"
    key: bytes | None = None
    offset_s: int = 0
    """Of its clock."""
    count: int = 0

    def qn(self) -> str:
        self.count += 1
        return beijing(self.talk.now.utc_ns + self.offset_s * SECOND + self.count * 1_000_000)

    def time(self) -> str:
        return beijing(self.talk.now.utc_ns + self.offset_s * SECOND)[:14]

    def message(self, cn: str, cp: str, **more: Any) -> Message:
        values: dict[str, Any] = {
            "qn": more["qn"] if "qn" in more else self.qn(), "st": self.st, "pw": "123456", "mn": self.mn,
            "flag": self.flag,
        }  # fmt: skip
        return Message(cn=cn, cp=cp, **(values | more))

    def frame(self, cn: str, cp: str, **more: Any) -> bytes:
        return encode(self.message(cn, cp, **more), self.variant, self.key)

    def raw(self, content: bytes) -> list[Command]:
        return self.talk.tell(BytesReceived(self.link, content))

    def send(self, cn: str, cp: str, **more: Any) -> list[Command]:
        return self.raw(self.frame(cn, cp, **more))

    def fume(self, value: str = "0.77", **more: Any) -> list[Command]:
        """2011 of now, by its own clock."""
        return self.send("2011", f"DataTime={self.time()};a34041-Rtd={value},a34041-Flag=N;SB7-RS=1;SB8-RS=1", **more)

    def down(self, reason: str = "closed by peer") -> list[Command]:
        return self.talk.tell(LinkDown(self.link, reason))
