"""A small platform for the simulator's tests, written against the standard: it registers, acknowledges, keeps."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from drivers.fleet.journeys import Drive, Journey, Path, Stand, State, moved
from drivers.fleet.vehicles import DeviceClock, Trouble, Vehicle
from drivers.jt808 import codec
from drivers.jt808.simulator import Habits, Terminal

T0 = 1_790_000_000
WAY = Path([(307_000_000, 1_210_200_000), moved((307_000_000, 1_210_200_000), 3000, 4000)])
JOURNEY = Journey([Stand(100), Drive(WAY, 45, State(load="full")), Stand(200)])


@dataclass
class Platform:
    """One link's other end."""

    code: bytes = b"code-1"
    registers: int = 0
    """Result of 8100."""
    accepts: bool = True
    """0102 is answered with 0."""
    silent: bool = False
    """Answers nothing to reports."""
    result: int = 0
    """Of 8001 to reports."""
    frames: list[codec.Frame] = field(default_factory=list)
    malformed: int = 0
    fixes: dict[str, codec.Location] = field(default_factory=dict)
    messages: list[codec.Message] = field(default_factory=list)
    serial: int = 0
    decoder: codec.Decoder = field(default_factory=codec.Decoder)
    parts: codec.Reassembler = field(default_factory=codec.Reassembler)

    def feed(self, frames: list[bytes]) -> list[bytes]:
        """Answers to what a terminal sent."""
        answers: list[bytes] = []
        for found in self.decoder.feed(b"".join(frames)):
            if isinstance(found, codec.Malformed):
                self.malformed += 1
                continue
            self.frames.append(found)
            if found.total:
                for whole in self.parts.add(found, 0):
                    if isinstance(whole, codec.Assembled):
                        message = codec.parse_body(whole.msg_id, whole.body, found.version)
                        answers += self.message(message, whole.frames[-1])
            else:
                answers += self.message(codec.parse(found), found)
        return answers

    def message(self, message: codec.Message, frame: codec.Frame) -> list[bytes]:
        """One whole message."""
        self.messages.append(message)
        match message:
            case codec.Registration():
                return self.say(codec.RegistrationReply(frame.serial, self.registers, codec.Text(self.code)), frame)
            case codec.Authentication():
                good = self.accepts and message.code.raw == self.code
                return self.say(codec.GeneralReply(frame.serial, frame.msg_id, 0 if good else 1), frame)
            case codec.Location() | codec.LocationBatch():
                if self.silent:
                    return []
                if not self.result:
                    rows = (message,) if isinstance(message, codec.Location) else message.locations
                    self.fixes |= {row.time_bcd: row for row in rows}
                return self.say(codec.GeneralReply(frame.serial, frame.msg_id, self.result), frame)
            case codec.Heartbeat():
                return self.say(codec.GeneralReply(frame.serial, frame.msg_id), frame)
            case codec.Media():
                return self.say(codec.MediaReply(message.event.media_id), frame)
            case codec.TimeQuery():
                return self.say(codec.ServerTime("260921141320"), frame)
        return []

    def say(self, message: codec.Message, frame: codec.Frame, part_bytes: int = 1000) -> list[bytes]:
        """As frames to the sender of a frame."""
        frames = codec.encode(message, codec.Address.of_frame(frame), self.serial, part_bytes=part_bytes)
        self.serial += len(frames)
        return list(frames)

    def of(self, kind: type[codec.Message]) -> list[codec.Message]:
        """Messages of one kind that came."""
        return [message for message in self.messages if isinstance(message, kind)]


def terminal(habits: Habits | None = None, *troubles: Trouble, seed: int = 3, **more: object) -> Terminal:
    """One that begins to drive at monotonic second 0."""
    vehicle = Vehicle("13800000001", "浙F00001", JOURNEY, T0, seed=seed, troubles=troubles, **more)  # type: ignore[arg-type]
    return Terminal(vehicle, DeviceClock(0.0, float(T0)), habits)


def run(one: Terminal, platform: Platform, until_s: float, *, from_s: float = 0.0, step_s: float = 0.5) -> None:
    """Let time pass: links come and go as the terminal wants them, every answer comes within the step."""
    steps = round((until_s - from_s) / step_s)
    for n in range(steps + 1):
        now_s = from_s + n * step_s
        if one.state == "down":
            if not one.wants_link(now_s):
                one.due(now_s)
                continue
            out = one.link_up(now_s)
        else:
            out = one.due(now_s)
        for _ in range(20):
            answers = platform.feed(out)
            if not answers:
                break
            out = one.received(b"".join(answers), now_s)
        if one.is_dead or not one.wants_link(now_s):
            one.link_down(now_s)


def remembered(frames: list[codec.Frame]) -> OrderedDict[bytes, int]:
    """How often each frame came."""
    counts: OrderedDict[bytes, int] = OrderedDict()
    for frame in frames:
        counts[frame.raw] = counts.get(frame.raw, 0) + 1
    return counts
