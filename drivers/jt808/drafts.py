"""Layout of the records of a JT/T 808 source. Pure: values in, `Draft` out.

    position        keys of a fix (gateway.core.fixes; drivers.jt808.reports) beside class, plate, datum; 0704: `fixes`
    device.state    state, reason, address, link; what else the state says; left_out: states not told before this one
    device.message  message (four hex digits), name, fields; problem where the body is not what the standard says
    device.media    media_id, type, format, event, channel, fix; the file is the artifact
    device.gap      reason, count, detail, address; raw: the first bytes of the first

`raw` is the frame as received, packets one after another; more than RAW_PART_BYTES are spread over records that count
`part` of `parts`. Texts are in Unicode normal form C and without control characters: the frame has the very bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

from drivers.jt808.codec import Item, Media, Message, Opaque, Parameter, Text
from drivers.jt808.media import EVENTS, FORMATS, KINDS
from drivers.jt808.terminals import Terminal
from drivers.jt808.wire import ZONE
from drivers.tallies import Tally
from gateway.core import kinds
from gateway.core.record import Artifact, DeviceTime, Draft

RAW_PART_BYTES: Final = 98_304
FIXES_PART_MAX: Final = 100
TEXT_MAX: Final = 1024
LIST_MAX: Final = 512
DEPTH_MAX: Final = 6
MEDIA_TYPES: Final = {0: "image/jpeg", 1: "image/tiff", 2: "audio/mpeg", 3: "audio/wav", 4: "video/x-ms-wmv"}


def clean(text: str, limit: int = TEXT_MAX) -> str:
    """Text of a device as a record may hold it."""
    shown = "".join(sign for sign in text[:limit] if sign.isprintable())
    return unicodedata.normalize("NFC", shown)


def plain(value: object, depth: int = 0) -> Any:
    """A message of the codec as values of a record: names of fields, texts, numbers; bytes in hexadecimal."""
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or isinstance(value, bool) else int(value)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bytes):
        return value[:TEXT_MAX].hex()
    if depth >= DEPTH_MAX:
        return clean(repr(value), 100)
    if isinstance(value, Text):
        return clean(value.text)
    if isinstance(value, Parameter | Item):
        read = plain(value.value, depth + 1)
        return {"id": f"{value.id:04x}", "name": value.name, "value": value.raw.hex() if read is None else read}
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item, depth + 1) for item in value[:LIST_MAX]]
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name), depth + 1) for one in fields(value)}
    return clean(str(value), 100)


def name_of(message: Message) -> str:
    """`LocationBatch` → `location-batch`; "" for what the codec does not know."""
    if isinstance(message, Opaque):
        return ""
    text = type(message).__name__
    return "".join(f"-{sign.lower()}" if sign.isupper() and at else sign.lower() for at, sign in enumerate(text))


class Drafts:
    """Records of one source."""

    def __init__(self, source: str) -> None:
        self._source = source

    def position(self, terminal: Terminal, fix: Mapping[str, Any], raw: bytes, time_text: str) -> Draft:
        """One fix in one frame."""
        at = DeviceTime(time_text, ZONE, "frame") if time_text else None
        return Draft(
            kinds.POSITION, self._source, terminal.identity, {**terminal.head, **fix}, raw, (), terminal.ref, at
        )

    def positions(self, terminal: Terminal, data: Mapping[str, Any], fixes: Sequence[Any], raw: bytes) -> list[Draft]:
        """A batch: as many records as its fixes and its frames need. Never none: an empty batch was sent, too."""
        parts = max(1, -(-len(fixes) // FIXES_PART_MAX), -(-len(raw) // RAW_PART_BYTES))
        share = -(-len(fixes) // parts)
        found = []
        for part, (count, piece) in enumerate(_pieces(raw, parts)):
            some = list(fixes[part * share : (part + 1) * share])
            body = {**terminal.head, **data, **count, "fixes": some}
            found.append(Draft(kinds.POSITION, self._source, terminal.identity, body, piece, profile=terminal.ref))
        return found

    def message(self, terminal: Terminal, message: Message, raw: bytes, said: Mapping[str, Any] | None) -> list[Draft]:
        """Anything else that a terminal said. `said`: what the dialect reads in it."""
        data: dict[str, Any] = {
            "class": terminal.device_class.id,
            "plate": terminal.plate,
            "message": f"{message.MSG_ID:04x}",
            "name": name_of(message),
        }
        if isinstance(message, Opaque):
            if message.reason != "unknown":
                data["problem"] = message.reason
                data["detail"] = message.detail
        else:
            data["fields"] = plain(message)
        if said:
            data["said"] = dict(said)
        parts = max(1, -(-len(raw) // RAW_PART_BYTES))
        return [
            Draft(kinds.DEVICE_MESSAGE, self._source, terminal.identity, {**data, **count}, piece, profile=terminal.ref)
            for count, piece in _pieces(raw, parts)
        ]

    def media(
        self, terminal: Terminal, media: Media, fix: Mapping[str, Any] | None, note: str, file: Artifact, raw: bytes
    ) -> Draft:
        """A photo or recording that is in the spool. `note`: what is a conclusion about it; `raw`: the
        fields before its bytes."""
        event = media.event
        data: dict[str, Any] = {
            "class": terminal.device_class.id,
            "plate": terminal.plate,
            "media_id": event.media_id,
            "type": KINDS.get(event.kind, str(event.kind)),
            "format": FORMATS.get(event.format, str(event.format)),
            "event": EVENTS.get(event.event, str(event.event)),
            "channel": event.channel,
            "datum": "WGS-84",
        }
        if fix is not None:
            data["fix"] = dict(fix)
        if note:
            data["note"] = note
        at = DeviceTime(media.location.time_bcd, ZONE, "frame") if media.location else None
        return Draft(kinds.DEVICE_MEDIA, self._source, terminal.identity, data, raw, (file,), terminal.ref, at)

    def state(self, identity: str, data: Mapping[str, Any], raw: bytes | None = None) -> Draft:
        """What became of a terminal."""
        return Draft(kinds.DEVICE_STATE, self._source, identity, data, raw)

    def tally(self, tally: Tally) -> Draft:
        """What was counted: a gap, or a state that repeats."""
        key = tally.key
        data = {**tally.facts, "reason": key.reason, "count": tally.count}
        return Draft(key.kind, self._source, key.subject, data, tally.raw or None)


def artifact(terminal: Terminal, media: Media, sha256: str, size_bytes: int) -> Artifact:
    """The file of a photo or recording."""
    name = f"{terminal.identity.replace(':', '-')}-{media.event.media_id}.{FORMATS.get(media.event.format, 'bin')}"
    media_type = MEDIA_TYPES.get(media.event.format, "application/octet-stream")
    return Artifact(sha256, size_bytes, media_type, name, "")


def _pieces(raw: bytes, parts: int) -> Iterator[tuple[dict[str, int], bytes]]:
    """Frames spread over records: put together they are the frames again."""
    size = -(-len(raw) // parts)
    for part in range(parts):
        count = {"part": part + 1, "parts": parts} if parts > 1 else {}
        yield count, raw[part * size : (part + 1) * size]
