"""JT/T 808 (2011, 2013, 2019): bytes to messages and back. Pure: no I/O, no clock.

    decoder = Decoder()                          one per TCP connection; `read_datagram` for UDP
    for found in decoder.feed(data):             Frame or Malformed; never raises
        message = parse(found)                   a dataclass, or Opaque with the reason
    frames = encode(message, Address.of_frame(frame), serial)

What a frame says is in three steps, so that each can be recorded by itself: `Frame` (check byte, length and header are
right), `Opaque` or a message (the body fits its table), `Location.problems` and the like (the content makes sense).
Packets of one message go through `Reassembler` first; then `parse_body` reads the joined body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, Self

from drivers.jt808.areas import (
    Area,
    AreaBit,
    DeleteCircles,
    DeletePolygons,
    DeleteRectangles,
    DeleteRoutes,
    Point,
    SectionBit,
    SetCircles,
    SetPolygon,
    SetRectangles,
    SetRoute,
    SpeedRule,
    Window,
)
from drivers.jt808.framing import (
    BODY_MAX,
    Address,
    Decoder,
    Frame,
    Limits,
    Malformed,
    identity_of,
    read_datagram,
    write_frame,
    write_packets,
)
from drivers.jt808.items import Item
from drivers.jt808.location import BatchEntry, Location, LocationAnswer, LocationBatch
from drivers.jt808.media import Media, MediaEvent, MediaReply, Shoot
from drivers.jt808.orders import (
    DriverText,
    QueryLocation,
    RegistrationReply,
    ResendRequest,
    ServerTime,
    TerminalResendRequest,
    Track,
)
from drivers.jt808.parts import Abandoned, Assembled, Missing, PartLimits, Reassembler
from drivers.jt808.settings import Parameter, ParameterAnswer, QueryListed, QueryParameters, SetParameters
from drivers.jt808.terminal import (
    Attributes,
    Authentication,
    Driver,
    DriverReport,
    GeneralReply,
    Heartbeat,
    LogOff,
    Registration,
    TerminalReply,
    TimeQuery,
    Transparent,
)
from drivers.jt808.wire import BodyEnds, EncodeError, Reader, Text, Version

__all__ = [
    "Abandoned", "Address", "Area", "AreaBit", "Assembled", "Attributes", "Authentication", "BatchEntry", "Decoder",
    "DeleteCircles", "DeletePolygons", "DeleteRectangles", "DeleteRoutes", "Driver", "DriverReport", "DriverText",
    "EncodeError", "Frame", "GeneralReply", "Heartbeat", "Item", "Limits", "Location", "LocationAnswer",
    "LocationBatch", "LogOff", "Malformed", "Media", "MediaEvent", "MediaReply", "Message", "Missing", "Opaque",
    "Parameter", "ParameterAnswer", "PartLimits", "Point", "QueryListed", "QueryLocation", "QueryParameters",
    "Reassembler", "Registration", "RegistrationReply", "ResendRequest", "SectionBit", "ServerTime", "SetCircles",
    "SetParameters", "SetPolygon", "SetRectangles", "SetRoute", "Shoot", "SpeedRule", "TerminalReply",
    "TerminalResendRequest", "Text", "TimeQuery", "Track", "Transparent", "Version", "Window", "encode", "identity_of",
    "parse", "parse_body", "read_datagram", "write_frame",
]  # fmt: skip


class Message(Protocol):
    """What all message classes have in common."""

    @property
    def MSG_ID(self) -> int:  # noqa: N802 - a constant of each class
        """Message id (annex B)."""

    def write(self, version: Version, /) -> bytes:
        """The body in one edition; `EncodeError` where it cannot be said."""


class _Readable(Message, Protocol):
    @classmethod
    def read(cls, reader: Reader, version: Version, /) -> Self:
        """From a body; `BodyEnds` where it is too short."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A body that is kept as bytes."""

    MSG_ID: int
    body: bytes
    reason: str
    """`unknown` id, `encrypted`, `packet` of a longer message, or `malformed`."""
    detail: str = ""

    def write(self, _version: Version) -> bytes:
        """The same bytes."""
        return self.body


_MESSAGES: Final[dict[int, type[_Readable]]] = {
    kind.MSG_ID: kind
    for kind in (
        *(TerminalReply, Heartbeat, LogOff, TimeQuery, TerminalResendRequest, Registration, Authentication),
        *(ParameterAnswer, Attributes, Location, LocationAnswer, LocationBatch, DriverReport, MediaEvent, Media),
        *(Transparent, GeneralReply, ResendRequest, ServerTime, RegistrationReply, SetParameters, QueryParameters),
        *(QueryListed, QueryLocation, Track, DriverText, SetCircles, DeleteCircles, SetRectangles, DeleteRectangles),
        *(SetPolygon, DeletePolygons, SetRoute, DeleteRoutes, MediaReply, Shoot),
    )
}


def parse(frame: Frame, version: Version | None = None) -> Message:
    """What a frame says. `version` is the edition that the session has learnt (2011 from the registration); without it
    the frame's own counts. Never raises."""
    if frame.encryption:
        return Opaque(frame.msg_id, frame.body, "encrypted", f"encryption {frame.encryption} of the properties")
    if frame.total:
        return Opaque(frame.msg_id, frame.body, "packet", f"packet {frame.index} of {frame.total}")
    return parse_body(frame.msg_id, frame.body, version or frame.version)


def parse_body(msg_id: int, body: bytes, version: Version) -> Message:
    """What a whole body says. Never raises."""
    kind = _MESSAGES.get(msg_id)
    if kind is None:
        return Opaque(msg_id, body, "unknown")
    try:
        return kind.read(Reader(body), version)
    except BodyEnds as ends:
        return Opaque(msg_id, body, "malformed", str(ends))


def encode(message: Message, address: Address, serial: int, *, part_bytes: int = BODY_MAX) -> tuple[bytes, ...]:
    """The frames that carry a message: one, or packets with serial numbers from `serial` on. The next serial number to
    use is `serial` plus the number of frames. `EncodeError` says what cannot be sent."""
    return write_packets(message.MSG_ID, message.write(address.version), address, serial, part_bytes=part_bytes)
