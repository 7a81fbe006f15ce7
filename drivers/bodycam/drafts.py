"""The records of a body-camera station: what each kind's `data` holds. Pure functions over values.

station.file          path, path_hex, size_bytes, mtime_ns, version, inode, links, use, grammar, fields, device_origin,
                      container, unstable, changed, taken (number of the attempt at this path), resumed_at_bytes,
                      already_in_spool, sidecars or recordings (those known by now), content (of a sidecar or track),
                      declared (sha256, size of an HTTP listing and whether they hold), listing (its fields)
station.sighting      sha256, size_bytes, path, path_hex, first_path, first_path_hex, fields
station.gap           path, path_hex, reason, text, retried
station.state         station, state up|down|disabled, place, reason
station.clock_offset  offset_ms (device clock minus reference), uncertainty_ms or null, bound, how, reference, texts
position              track, datum, datum_input, columns, points, first, total: up to POINTS_PER_RECORD fixes each.
                      One record per fix would cost 300 bytes of envelope for 40 bytes of fact and 864,000 leaves a
                      day for 120 recorders; the track file itself is an artifact in any case.
alarm                 code, state raised|cleared, text
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from drivers.bodycam.codec import FileName, Malformed, safe_text
from drivers.bodycam.sidecars import SidecarContent
from drivers.bodycam.tracks import Position, TrackContent
from drivers.files import Entry, PeerClock, Taken
from drivers.times import ReadTime
from gateway.core import kinds
from gateway.core.record import Artifact, DeviceTime, Draft, ProfileRef

POINTS_PER_RECORD: Final = 500
TEXT_MAX: Final = 500

Content = SidecarContent | TrackContent | Malformed


@dataclass(frozen=True, slots=True)
class Member:
    """A file of one family (a recording and its sidecars), as the driver remembers it."""

    use: str
    path_hex: str
    display: str
    sha256: str
    device: str


@dataclass(frozen=True, slots=True)
class Author:
    """What all records of one station share."""

    source: str
    station: str
    profile: ProfileRef

    def draft(self, kind: str, device: str, data: Mapping[str, Any], **more: Any) -> Draft:
        return Draft(kind, self.source, device, {"station": self.station, **data}, profile=self.profile, **more)


def device_of(name: FileName, entry: Entry, content: Content | None, family: Sequence[Member]) -> tuple[str, str]:
    """(device, where it was read); the file itself is asked before its relatives."""
    if device := name.fields.get("device"):
        return device, "name"
    if device := entry.fields.get("device"):
        return device, "listing"
    if isinstance(content, SidecarContent) and (device := content.fields.get("device")):
        return device, "sidecar"
    for member in family:
        if member.device:
            return member.device, "sidecar" if member.use in {"sidecar", "track"} else "recording"
    return "", ""


def device_time_of(name: FileName, entry: Entry, content: Content | None) -> DeviceTime | None:
    """The device's own time for this file, as it wrote it."""
    if name.time_text:
        return DeviceTime(name.time_text, name.time.zone if name.time else "", "name")
    if isinstance(content, SidecarContent) and content.time is not None:
        return DeviceTime(content.time.text, content.time.zone, "sidecar")
    if entry.time_text:
        return DeviceTime(safe_text(entry.time_text, 64), entry.time_zone, "listing")
    return None


def artifact_of(name: FileName, entry: Entry, taken: Taken) -> Artifact:
    """The artifact of a taken file; its original name is the last component of the path."""
    last = entry.path.rpartition(b"/")[2]
    return Artifact(taken.sha256, taken.size_bytes, name.media_type, safe_text(name.text, 1024), last.hex())


def file_draft(
    author: Author,
    name: FileName,
    entry: Entry,
    taken: Taken,
    *,
    content: Content | None,
    family: Sequence[Member],
    container: str,
    attempt: int,
) -> Draft:
    """station.file"""
    device, origin = device_of(name, entry, content, family)
    data: dict[str, Any] = {
        **_place(name.display, entry.path),
        "size_bytes": taken.size_bytes,
        "mtime_ns": None if entry.mtime_ns is None else str(entry.mtime_ns),
        "version": safe_text(entry.version, 256),
        "inode": None if entry.inode is None else str(entry.inode),
        "links": entry.links,
        "use": name.use,
        "grammar": name.grammar,
        "fields": dict(name.fields),
        "time": name.time.local if name.time else None,
        "device_origin": origin,
        "container": container,
        "unstable": bool(taken.changed),
        "changed": taken.changed,
        "taken": attempt,
        "resumed_at_bytes": taken.resumed_at_bytes,
        "already_in_spool": taken.already_there,
    }
    sidecar = name.use in {"sidecar", "track"}
    data["recordings" if sidecar else "sidecars"] = [
        {"path": member.display, "path_hex": member.path_hex, "sha256": member.sha256, "use": member.use}
        for member in family
        if (member.use in {"sidecar", "track"}) != sidecar
    ]
    if content is not None:
        data["content"] = _content(content)
    if entry.url:
        data["declared"] = {
            "sha256": entry.sha256,
            "size_bytes": entry.size_bytes,
            "sha256_holds": taken.sha256 == entry.sha256 if entry.sha256 else None,
            "size_holds": None if entry.size_bytes is None else taken.size_bytes == entry.size_bytes,
        }
        data["listing"] = {
            "fields": dict(entry.fields),
            "time": entry.time_local or None,
            "etag": safe_text(taken.etag, 256),
        }
    return author.draft(
        kinds.STATION_FILE,
        device,
        data,
        artifacts=(artifact_of(name, entry, taken),),
        device_time=device_time_of(name, entry, content),
    )


def _content(content: Content) -> dict[str, Any]:
    if isinstance(content, Malformed):
        return {"malformed": safe_text(content.reason, TEXT_MAX)}
    if isinstance(content, SidecarContent):
        return {
            "fields": dict(content.fields),
            "time": content.time.local if content.time else None,
            "time_zone": content.time.zone if content.time else None,
            "key_file": content.key_file,
            "clock_offset_ms": content.clock_offset_ms,
        }
    return {
        "datum": content.datum,
        "points": len(content.points),
        "malformed_points": content.malformed,
        "void_points": content.void,
        "truncated": content.truncated,
    }


def sighting_draft(author: Author, name: FileName, entry: Entry, taken: Taken, first_path: bytes) -> Draft:
    """station.sighting. The artifact is named again only where its bytes had left the spool and are back."""
    data = {
        "sha256": taken.sha256,
        "size_bytes": taken.size_bytes,
        **_place(name.display, entry.path),
        "first_path": safe_text(first_path.decode("utf-8", "surrogateescape"), TEXT_MAX),
        "first_path_hex": first_path.hex(),
        "mtime_ns": None if entry.mtime_ns is None else str(entry.mtime_ns),
        "use": name.use,
        "fields": dict(name.fields),
    }
    again = () if taken.already_there else (artifact_of(name, entry, taken),)
    device, _ = device_of(name, entry, None, ())
    return author.draft(
        kinds.STATION_SIGHTING,
        device,
        data,
        artifacts=again,
        device_time=device_time_of(name, entry, None),
    )


def gap_draft(author: Author, display: str, path: bytes, reason: str, text: str, *, retried: bool) -> Draft:
    """station.gap"""
    data = {
        **_place(display, path),
        "reason": reason,
        "text": safe_text(text, TEXT_MAX),
        "retried": retried,
    }
    return author.draft(kinds.STATION_GAP, "", data)


def state_draft(author: Author, state: str, place: str, reason: str) -> Draft:
    """station.state"""
    data = {"state": state, "place": safe_text(place, TEXT_MAX), "reason": safe_text(reason, TEXT_MAX)}
    return author.draft(kinds.STATION_STATE, author.station, data)


def alarm_draft(author: Author, code: str, state: str, text: str) -> Draft:
    """alarm"""
    return author.draft(kinds.ALARM, author.station, {"code": code, "state": state, "text": safe_text(text, TEXT_MAX)})


def position_drafts(author: Author, name: FileName, taken: Taken, track: TrackContent, device: str) -> Iterator[Draft]:
    """position, POINTS_PER_RECORD fixes each."""
    columns = ["time", "time_zone", "lat_e7", "lon_e7", "alt_cm", "speed_mm_s"]
    if track.datum != "WGS-84":
        columns += ["raw_lat_e7", "raw_lon_e7"]
    for first in range(0, len(track.points), POINTS_PER_RECORD):
        batch = track.points[first : first + POINTS_PER_RECORD]
        start = next((fix.time for fix in batch if fix.time is not None), None)
        yield author.draft(
            kinds.POSITION,
            device,
            {
                "track": {"path": name.display, "sha256": taken.sha256},
                "datum": "WGS-84",
                "datum_input": track.datum,
                "columns": columns,
                "points": [_row(fix, track.datum) for fix in batch],
                "first": first,
                "total": len(track.points),
            },
            device_time=None if start is None else DeviceTime(start.text, start.zone, "track"),
        )


def _row(fix: Position, datum: str) -> list[Any]:
    time = fix.time.local if fix.time else (safe_text(fix.time_text, 64) or None)
    row: list[Any] = [time, fix.time.zone if fix.time else "", fix.lat_e7, fix.lon_e7, fix.alt_cm, fix.speed_mm_s]
    return row if datum == "WGS-84" else [*row, fix.raw_lat_e7, fix.raw_lon_e7]


# --------------------------------------------------------------------------------- clock offsets


def sidecar_offset(author: Author, device: str, content: SidecarContent, path: str) -> Draft | None:
    """Device minus station at docking, as the station wrote it down."""
    if content.clock_offset_ms is None:
        return None
    return _offset(
        author,
        device,
        offset_ms=content.clock_offset_ms,
        how=content.offset_from,
        reference="station",
        uncertainty_ms=1000 if content.offset_from == "sidecar-sync" else None,
        path=path,
    )


def track_offset(author: Author, device: str, name: ReadTime, track: TrackContent, path: str) -> Draft | None:
    """Time in the name minus the first fix. A fix comes late, never early: the true offset is this or more."""
    fix = next((fix.time for fix in track.points if fix.time is not None and fix.time.zone), None)
    named_ns, fix_ns = name.utc_ns(), fix.utc_ns() if fix else None
    if fix is None or named_ns is None or fix_ns is None:
        return None
    return _offset(
        author,
        device,
        offset_ms=(named_ns - fix_ns) // 1_000_000,
        how="gps-track",
        reference="gnss",
        uncertainty_ms=None,
        bound="lower",
        path=path,
        device_text=name.text,
        reference_text=fix.text,
    )


def peer_offset_ms(peer: PeerClock) -> tuple[int, int]:
    """(offset, uncertainty) of an HTTP Date against our clock: whole seconds, read somewhere in the round trip."""
    middle_ns = (peer.sent_utc_ns + peer.received_utc_ns) // 2
    offset_ns = peer.utc_ns + 500_000_000 - middle_ns
    trip_ns = abs(peer.received_utc_ns - peer.sent_utc_ns)
    return offset_ns // 1_000_000, 500 + trip_ns // 2_000_000 + 1


def peer_offset(author: Author, peer: PeerClock) -> Draft:
    """The station's own clock against ours."""
    offset_ms, uncertainty_ms = peer_offset_ms(peer)
    return _offset(
        author,
        author.station,
        offset_ms=offset_ms,
        how="http-date",
        reference="gateway",
        uncertainty_ms=uncertainty_ms,
        device_text=safe_text(peer.text, 64),
        reference_text=str(peer.received_utc_ns),
    )


def _offset(author: Author, device: str, *, offset_ms: int, **more: Any) -> Draft:
    data = {
        "offset_ms": offset_ms,
        "uncertainty_ms": None,
        "bound": "",
        "path": "",
        "device_text": "",
        "reference_text": "",
        **more,
    }
    return author.draft(kinds.STATION_OFFSET, device, data)


def _place(display: str, path: bytes) -> dict[str, str]:
    return {"path": display, "path_hex": path.hex()}
