"""Records: what a source hands in (`Draft`), and the stored bytes that become one leaf of the log.

Layout of a leaf (EVIDENCE.md, Record = leaf), all keys always present:

    v            1
    seq          index of the leaf in the gateway's log
    kind         see core.kinds
    source       name of the configured source, or "gateway"
    device       identity of the device as the source knows it, "" where there is none
    salt         32 hex digits, 128 random bits
    boot, epoch, mono_ns, utc_ns    the moment of arrival; both *_ns as decimal strings, they exceed 2^53
    device_time  null, or {"text", "zone", "origin"}: the device's own time, never merged with ours
    profile      null, or {"id", "sha256"} of the device profile that gave `data`
    data         what was read, in the profile of core.canonical
    raw          null, or the bytes as received, base64
    artifacts    [{"sha256", "size_bytes", "media_type", "name", "name_hex"}]
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core import canonical
from gateway.core.instant import Instant

RECORD_VERSION: Final = 1
LEAF_SIZE_MAX_BYTES: Final = 262_144
"""A leaf larger than this is refused at ingest (the refusal is a record); files belong into artifacts."""


_LEAF: Final = (
    b'{"artifacts":%b,"boot":%b,"data":%b,"device":%b,"device_time":%b,"epoch":%d,"kind":%b,"mono_ns":"%d",'
    b'"profile":%b,"raw":%b,"salt":"%b","seq":%d,"source":%b,"utc_ns":"%d","v":%d}'
)
"""The keys in canonical order: half the time of encoding one object with 15 keys (a property test pins the bytes)."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file in the spool, named by its content."""

    sha256: str
    size_bytes: int
    media_type: str
    name: str
    """Original name as display text: NFC, printable; never used as a path."""
    name_hex: str
    """Original name, the very bytes, as lower-case hex; "" where there is none."""


@dataclass(frozen=True, slots=True)
class ProfileRef:
    """Which device profile was used: its id and the SHA-256 of its file."""

    id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """The device's own time as it wrote it."""

    text: str
    zone: str
    """Zone that the profile declares, such as "+08:00"; "" where nothing declares one. Never guessed."""
    origin: str
    """Where the text was read: "name", "frame", "sidecar", "mtime", "listing", …"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before the journal gives it its place, salt and time."""

    kind: str
    source: str
    device: str
    data: Mapping[str, Any]
    raw: bytes | None = None
    artifacts: tuple[Artifact, ...] = ()
    profile: ProfileRef | None = None
    device_time: DeviceTime | None = None


@dataclass(frozen=True, slots=True)
class StateChange:
    """A driver's memory, committed in the same transaction as the records that it goes with."""

    source: str
    key: bytes
    value: bytes | None
    """None deletes."""


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed leaf, for readers. Verification never goes through this: it hashes the stored bytes."""

    seq: int
    kind: str
    source: str
    device: str
    salt: str
    instant: Instant
    data: Mapping[str, Any]
    raw: bytes | None
    artifacts: tuple[Artifact, ...]
    profile: ProfileRef | None
    device_time: DeviceTime | None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys of a later version, kept."""


def encode_leaf(draft: Draft, instant: Instant, seq: int, salt: bytes) -> bytes:
    """The leaf's bytes. `draft` must have been through `check_draft`; `salt` is 16 random bytes."""
    text = canonical.encode_checked
    return _LEAF % (
        text(_artifacts(draft)) if draft.artifacts else b"[]",
        text(instant.boot),
        text(draft.data),
        text(draft.device),
        text(_device_time(draft.device_time)) if draft.device_time else b"null",
        instant.epoch,
        text(draft.kind),
        instant.mono_ns,
        text(_profile(draft.profile)) if draft.profile else b"null",
        b"null" if draft.raw is None else b'"%b"' % base64.b64encode(draft.raw),
        salt.hex().encode(),
        seq,
        text(draft.source),
        instant.utc_ns,
        RECORD_VERSION,
    )


def check_draft(draft: Draft, instant: Instant, *, but_data: bool = False) -> None:
    """Raise CanonicalError unless every text and number of the draft is inside the canonical profile. `but_data`: its
    data have been looked at already (canonical.is_flat)."""
    if but_data and not draft.artifacts and _is_ascii(draft, instant):
        return  # the common case of the hot path
    given: dict[str, Any] = {"kind": draft.kind, "source": draft.source, "device": draft.device, "boot": instant.boot}
    if not but_data:
        given["data"] = draft.data
    if draft.device_time:
        given["device_time"] = _device_time(draft.device_time)
    if draft.profile:
        given["profile"] = _profile(draft.profile)
    if draft.artifacts:
        given["artifacts"] = _artifacts(draft)
    canonical.check(given)


def _is_ascii(draft: Draft, instant: Instant) -> bool:
    at, profile = draft.device_time, draft.profile
    return (
        draft.device.isascii()
        and draft.kind.isascii()
        and draft.source.isascii()
        and instant.boot.isascii()
        and (at is None or (at.text.isascii() and at.zone.isascii() and at.origin.isascii()))
        and (profile is None or (profile.id.isascii() and profile.sha256.isascii()))
    )


def _device_time(at: DeviceTime) -> dict[str, Any]:
    return {"text": at.text, "zone": at.zone, "origin": at.origin}


def _profile(profile: ProfileRef) -> dict[str, Any]:
    return {"id": profile.id, "sha256": profile.sha256}


def _artifacts(draft: Draft) -> list[dict[str, Any]]:
    return [
        {
            "sha256": item.sha256,
            "size_bytes": item.size_bytes,
            "media_type": item.media_type,
            "name": item.name,
            "name_hex": item.name_hex,
        }
        for item in draft.artifacts
    ]


def parse_leaf(leaf: bytes) -> Record:
    """Read a leaf. Raises ValueError, and nothing else, for bytes that are no record of version 1."""
    try:
        obj = json.loads(leaf)
        version = obj.pop("v")
        if version != RECORD_VERSION:
            raise ValueError(f"record version {version!r} is not known here; use a newer Fieldgate")
        raw, profile, at = obj.pop("raw"), obj.pop("profile"), obj.pop("device_time")
        return Record(
            seq=_integer(obj.pop("seq")),
            kind=_text(obj.pop("kind")),
            source=_text(obj.pop("source")),
            device=_text(obj.pop("device")),
            salt=_text(obj.pop("salt")),
            instant=Instant(
                _text(obj.pop("boot")),
                _integer(obj.pop("epoch")),
                int(_text(obj.pop("mono_ns"))),
                int(_text(obj.pop("utc_ns"))),
            ),
            data=dict(obj.pop("data")),
            raw=None if raw is None else base64.b64decode(raw, validate=True),
            artifacts=tuple(Artifact(**item) for item in obj.pop("artifacts")),
            profile=None if profile is None else ProfileRef(**profile),
            device_time=None if at is None else DeviceTime(**at),
            extra=obj,
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a record: {type(error).__name__} {error}") from None


def _integer(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"not a record: {value!r} where an integer belongs")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError(f"not a record: {value!r} where text belongs")
    return value
