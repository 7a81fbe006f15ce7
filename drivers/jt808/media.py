"""Photos, sound and video of a terminal (JT/T 808, chapter 8): 0800, 0801, 8800, 8801."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from drivers.jt808.location import FIX_SIZE, Location
from drivers.jt808.wire import Reader, Version, u8, u16, u32

KINDS: Final = {0: "image", 1: "audio", 2: "video"}
FORMATS: Final = {0: "jpeg", 1: "tif", 2: "mp3", 3: "wav", 4: "wmv"}
EVENTS: Final = {
    0: "command",
    1: "timer",
    2: "robbery",
    3: "collision_rollover",
    4: "door_opened",
    5: "door_closed",
    6: "door_to_moving",
    7: "distance",
}

_JPEG: Final = b"\xff\xd8"


@dataclass(frozen=True, slots=True)
class MediaEvent:
    """0800: something was recorded; the data may follow in 0801."""

    MSG_ID: ClassVar[int] = 0x0800

    media_id: int
    kind: int
    format: int
    event: int
    channel: int
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(reader.u32(), reader.u8(), reader.u8(), reader.u8(), reader.u8(), reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        return u32(self.media_id) + b"".join(map(u8, (self.kind, self.format, self.event, self.channel))) + self.tail


@dataclass(frozen=True, slots=True)
class Media:
    """0801: the data, almost always in packets."""

    MSG_ID: ClassVar[int] = 0x0801

    event: MediaEvent
    location: Location | None
    """Where it was recorded: 28 bytes without items; absent in 2011."""
    payload: bytes

    @classmethod
    def read(cls, reader: Reader, version: Version) -> Self:
        """From a body. A session rarely knows that a terminal is of 2011, so an image that begins at once, or data too
        short for a fix, is taken as a body without a location."""
        event = MediaEvent(reader.u32(), reader.u8(), reader.u8(), reader.u8(), reader.u8())
        rest = reader.rest()
        if version is Version.V2011 or len(rest) < FIX_SIZE or rest.startswith(_JPEG):
            return cls(event, None, rest)
        return cls(event, Location.of_bytes(rest[:FIX_SIZE]), rest[FIX_SIZE:])

    def write(self, version: Version) -> bytes:
        """As a body."""
        fix = self.location.write(version)[:FIX_SIZE] if self.location and version is not Version.V2011 else b""
        return self.event.write(version) + fix + self.payload


@dataclass(frozen=True, slots=True)
class MediaReply:
    """8800: the data have arrived, but for the listed packets."""

    MSG_ID: ClassVar[int] = 0x8800

    media_id: int
    parts: tuple[int, ...] | None = None
    """Missing packets; None where no list is sent, which means that nothing is missing."""
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        media_id = reader.u32()
        parts = tuple(reader.u16() for _ in range(reader.u8())) if reader.left else None
        return cls(media_id, parts, reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        parts = b"" if self.parts is None else u8(len(self.parts)) + b"".join(map(u16, self.parts))
        return u32(self.media_id) + parts + self.tail


@dataclass(frozen=True, slots=True)
class Shoot:
    """8801: take photos or a video."""

    MSG_ID: ClassVar[int] = 0x8801
    STOP: ClassVar[int] = 0
    VIDEO: ClassVar[int] = 0xFFFF

    channel: int
    command: int = 1
    """0 stop, 0xFFFF video, else the number of photos."""
    interval_s: int = 0
    """Between photos, or length of the video; 0 for the shortest interval, or video without end."""
    save: int = 0
    """1 keep in the terminal, 0 send at once."""
    resolution: int = 1
    """1 320x240, 2 640x480, 3 800x600, 4 1024x768, 5 to 8 QCIF, CIF, HD1, D1."""
    quality: int = 5
    """1 best to 10 smallest."""
    brightness: int = 128
    contrast: int = 64
    saturation: int = 64
    chroma: int = 128
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        channel, command, interval = reader.u8(), reader.u16(), reader.u16()
        save, resolution, quality = reader.u8(), reader.u8(), reader.u8()
        picture = (reader.u8(), reader.u8(), reader.u8(), reader.u8())
        return cls(channel, command, interval, save, resolution, quality, *picture, reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        picture = (
            self.save,
            self.resolution,
            self.quality,
            self.brightness,
            self.contrast,
            self.saturation,
            self.chroma,
        )
        return u8(self.channel) + u16(self.command) + u16(self.interval_s) + b"".join(map(u8, picture)) + self.tail
