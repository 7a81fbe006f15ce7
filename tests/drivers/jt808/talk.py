"""Talks with a session as terminals do: events in, commands out, time by hand."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from drivers.jt808.acts import (
    Answer,
    BytesReceived,
    Close,
    Command,
    DatagramReceived,
    Emit,
    Event,
    Keep,
    LinkDown,
    LinkUp,
    Peer,
    Send,
    TimerFired,
)
from drivers.jt808.codec import (
    Address,
    Authentication,
    Decoder,
    Frame,
    GeneralReply,
    Item,
    Location,
    Media,
    MediaEvent,
    Message,
    Registration,
    Text,
    Version,
    encode,
    parse,
)
from drivers.jt808.driver import Limits, Session
from gateway.core.instant import Instant
from gateway.core.record import Draft, check_draft, encode_leaf
from gateway.devices import load
from tests.gateway.doubles import START_UTC_NS

SECOND = 1_000_000_000
PHONE = "13800000001"
DEVICES = """
format = "devices/v1"
[[class]]
id = "muck"
title = "Muck trucks"
[[class]]
id = "works"
enrolment = "open"
open_to = ["WORKS/*"]
[[device]]
id = "13800000001"
class = "muck"
plate = "浙F00001"
firm = "Haulage"
[[device]]
id = "13800000002"
class = "muck"
code = "fixed-code"
[[device]]
id = "13800000003"
class = "muck"
code = "*"
"""


def location(second: int = 0, **more: Any) -> Location:
    """A fix at 12:00 and so many seconds of 2026-11-18, as the doubles' clock begins (START_UTC_NS)."""
    values: dict[str, Any] = {
        "alarm_bits": 0,
        "status_bits": 0x000C0003,
        "lat_raw": 30_624_298,
        "lon_raw": 120_824_258,
        "altitude_raw": 12,
        "speed_raw": 256,
        "course_raw": 70,
        "time_bcd": bcd(second),
        "items": (Item.of(0x01, 4140, 4), Item.of(0x03, 250, 2), Item.of(0x30, 25, 1), Item.of(0x31, 9, 1)),
    }
    return Location(**(values | more))


def bcd(second: int = 0) -> str:
    """Twelve digits in GMT+8, so many seconds after START_UTC_NS."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=START_UTC_NS // SECOND + second + 8 * 3600)
    return f"{at:%y%m%d%H%M%S}"


@dataclass
class Talk:
    """A session and everything that it said."""

    devices: str = ""
    limits: Limits = field(default_factory=Limits)
    remembered: Iterable[tuple[bytes, bytes]] = ()
    secret: bytes = b"s" * 32
    mono_s: float = 1000.0
    said: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = Session("trucks", self.limits, load(self.devices), self.secret, self.remembered)
        self._decoders: dict[Peer, Decoder] = {}

    @property
    def now(self) -> Instant:
        passed_ns = round(self.mono_s * SECOND)
        return Instant("0" * 32, 1, passed_ns, START_UTC_NS + passed_ns - 1000 * SECOND)

    def tell(self, event: Event) -> list[Command]:
        """One event; every draft is checked as ingest does."""
        commands = list(self.session.handle(event, self.now))
        for command in commands:
            for draft in command.drafts if isinstance(command, Emit) else ():
                check_draft(draft, self.now)
                assert len(encode_leaf(draft, self.now, 1, bytes(16))) < 262_144
        self.said += commands
        return commands

    def bytes(self, link: int, *frames: bytes) -> list[Command]:
        return self.tell(BytesReceived(link, b"".join(frames)))

    def wait(self, seconds: float) -> list[Command]:
        """Let time pass, timers firing on the way."""
        end_s = self.mono_s + seconds
        found: list[Command] = []
        while (at := self.session.deadline_ns()) is not None and at <= end_s * SECOND:
            self.mono_s = max(self.mono_s, at / SECOND)
            found += self.tell(TimerFired())
        self.mono_s = end_s
        return found

    def terminal(self, link: int, phone: str = PHONE, version: Version = Version.V2013) -> "Client":
        """A terminal on a new connection."""
        self.tell(LinkUp(link, "10.0.0.9", 40_000 + link))
        return Client(self, link, Address.of(phone, version))

    # ---------------------------------------------------------------- what was said

    def drafts(self, kind: str = "") -> list[Draft]:
        found = [draft for one in self.said if isinstance(one, Emit) for draft in one.drafts]
        return [draft for draft in found if not kind or draft.kind == kind]

    def data(self, kind: str) -> list[Any]:
        return [draft.data for draft in self.drafts(kind)]

    def states(self) -> list[tuple[str, str]]:
        return [(data["state"], data["reason"]) for data in self.data("device.state")]

    def reasons(self) -> list[tuple[str, int]]:
        return [(data["reason"], data["count"]) for data in self.data("device.gap")]

    def closed(self) -> list[int]:
        return [one.link for one in self.said if isinstance(one, Close)]

    def answers(self) -> list[Answer]:
        return [one for one in self.said if isinstance(one, Answer)]

    def kept(self) -> list[Keep]:
        return [one for one in self.said if isinstance(one, Keep)]


def frames_of(commands: Iterable[Command], *, acks: bool = True, sent: bool = True) -> list[Frame]:
    """The frames that went, or will go after the commit, to terminals."""
    found: list[Frame] = []
    for one in commands:
        content = one.ack if isinstance(one, Emit) and acks else one.content if isinstance(one, Send) and sent else b""
        found += [frame for frame in Decoder().feed(content) if isinstance(frame, Frame)]
    return found


def messages_of(commands: Iterable[Command], **which: bool) -> list[Message]:
    """What they say."""
    return [parse(frame) for frame in frames_of(commands, **which)]


@dataclass
class Client:
    """The terminal's side, without a will of its own."""

    talk: Talk
    link: int
    address: Address
    serial: int = 0
    sender: tuple[str, int] | None = None
    """Set: over UDP."""

    def frames(self, message: Message, **more: Any) -> tuple[bytes, ...]:
        found = encode(message, self.address, self.serial, **more)
        self.serial = (self.serial + len(found)) & 0xFFFF
        return found

    def send(self, *messages: Message, **more: Any) -> list[Command]:
        return self.raw(b"".join(b"".join(self.frames(message, **more)) for message in messages))

    def raw(self, content: bytes) -> list[Command]:
        if self.sender is not None:
            return self.talk.tell(DatagramReceived(self.sender, content))
        return self.talk.tell(BytesReceived(self.link, content))

    def register(self, **more: Any) -> list[Command]:
        layout = self.address.version
        texts = {"maker": b"FG", "model": b"M1", "terminal_id": b"T1", "plate": "浙F00001".encode("gbk")} | more
        parts = {key: Text(value) for key, value in texts.items()}
        return self.send(Registration(33, 402, plate_colour=2, layout=layout, **parts))

    def authenticate(self, code: str | None = None) -> list[Command]:
        if code is None:
            code = self.talk.session.terminals.code_of(self.identity)
        imei = Text(b"123456789012345") if self.address.version is Version.V2019 else None
        return self.send(Authentication(Text(code.encode()), imei, Text(b"1.0")))

    @property
    def identity(self) -> str:
        return self.address.phone_field.hex().lstrip("0")

    def online(self) -> "Client":
        """Registered and authenticated."""
        self.register()
        self.authenticate()
        terminal = self.talk.session.terminals.get(self.identity)
        assert terminal is not None
        assert terminal.link is not None
        return self

    def down(self, reason: str = "closed by peer") -> list[Command]:
        return self.talk.tell(LinkDown(self.link, reason))


def devices_file(folder: Path, text: str = DEVICES) -> str:
    path = folder / "devices.toml"
    path.write_text(text)
    return str(path)


PHOTO = b"\xff\xd8" + bytes(range(256)) * 20 + b"\xff\xd9"


def media(media_id: int = 7) -> Media:
    """A photo with the place where it was taken."""
    return Media(MediaEvent(media_id, 0, 0, 1, 2), location(-9, items=()), PHOTO)


def replies(commands: Iterable[Command], **which: bool) -> list[tuple[int, int, int]]:
    """(serial, id, result) of the 8001 among them."""
    found = [message for message in messages_of(commands, **which) if isinstance(message, GeneralReply)]
    return [(one.reply_serial, one.reply_id, one.result) for one in found]
