"""Runs the worked examples of a station profile: what it reads must be exactly what the example expects."""

from __future__ import annotations

from pathlib import Path

from drivers.bodycam.codec import Malformed, NameCodec
from drivers.bodycam.drafts import Content
from drivers.bodycam.listings import Page, read_page
from drivers.bodycam.sidecars import read_sidecar
from drivers.bodycam.tracks import Position, TrackContent, read_track
from firmware_profiles.loader import load_station
from firmware_profiles.model import Example, Sidecar, StationProfile
from firmware_profiles.worked import Result, compare
from gateway.core.errors import ProfileError


def check_profile(path: Path) -> list[Result]:
    """Load a profile file and run every example in it. A file that cannot be used gives its problems as results."""
    try:
        profile = load_station(str(path.absolute())).profile
    except ProfileError as error:
        return [Result(path, problem.key or "file", False, str(problem)) for problem in error.problems]
    return check_examples(profile, path)


def check_examples(profile: StationProfile, path: Path) -> list[Result]:
    """Run every example of a profile; `path` names its file in the results."""
    codec = NameCodec(profile)
    return [_run(path, number, example, codec) for number, example in enumerate(profile.example, 1)]


def read_content(raw: bytes, path: bytes, codec: NameCodec) -> Content | None:
    """Read the content of a sidecar or track by the profile; None where no rule covers the file."""
    rule = codec.rule(codec.read(path).text)
    if rule is None:
        return None
    if isinstance(rule, Sidecar):
        return read_sidecar(raw, rule, codec)
    return read_track(raw, rule, codec.profile.encodings)


def _run(path: Path, number: int, example: Example, codec: NameCodec) -> Result:
    name, raw = bytes.fromhex(example.name_hex) or example.name.encode(), example.content.encode()
    listing = codec.profile.listing
    if not name and listing is not None:
        subject, found = "a listing page", _flat_page(read_page(raw, listing, codec))
    else:
        subject, found = codec.read(name).display, _flat_name(name, codec)
        if raw:
            content = read_content(raw, name, codec)
            found = _flat_content(content) if content is not None else {"malformed": "no rule for this ending"}
    return compare(path, f"example {number}: {subject}", found, example.expect)


def _flat_name(path: bytes, codec: NameCodec) -> dict[str, str]:
    name = codec.read(path)
    flat = {"use": name.use, "type": name.media_type, **name.fields}
    if name.grammar is not None:
        flat["grammar"] = str(name.grammar + 1)
    if name.time is not None:
        flat |= {"time": name.time.local, "zone": name.time.zone}
    elif name.time_text:
        flat["time_text"] = name.time_text
    return flat


def _flat_content(content: Content) -> dict[str, str]:
    if isinstance(content, Malformed):
        return {"malformed": content.reason}
    if isinstance(content, TrackContent):
        flat = {
            "points": str(len(content.points)),
            "malformed": str(content.malformed),
            "void": str(content.void),
        }
        ends = [("first", content.points[0])] if content.points else []
        ends += [("last", content.points[-1])] if len(content.points) > 1 else []
        for prefix, fix in ends:
            flat |= {f"{prefix}_{key}": value for key, value in _flat_fix(fix).items()}
        return flat
    flat = dict(content.fields)
    if content.time is not None:
        flat |= {"time": content.time.local, "zone": content.time.zone}
    if content.key_file is not None:
        flat["key_file"] = "true" if content.key_file else "false"
    if content.clock_offset_ms is not None:
        flat |= {"clock_offset_ms": str(content.clock_offset_ms), "offset_from": content.offset_from}
    return flat


def _flat_fix(fix: Position) -> dict[str, str]:
    flat = {"lat_e7": str(fix.lat_e7), "lon_e7": str(fix.lon_e7)}
    if (fix.raw_lat_e7, fix.raw_lon_e7) != (fix.lat_e7, fix.lon_e7):
        flat |= {"raw_lat_e7": str(fix.raw_lat_e7), "raw_lon_e7": str(fix.raw_lon_e7)}
    if fix.time is not None:
        flat |= {"time": fix.time.local, "zone": fix.time.zone}
    if fix.alt_cm is not None:
        flat["alt_cm"] = str(fix.alt_cm)
    if fix.speed_mm_s is not None:
        flat["speed_mm_s"] = str(fix.speed_mm_s)
    return flat


def _flat_page(page: Page | Malformed) -> dict[str, str]:
    if isinstance(page, Malformed):
        return {"malformed": page.reason}
    flat = {"items": str(len(page.items)), "refused": str(len(page.refused))}
    if page.next_url:
        flat["next"] = page.next_url
    if page.items:
        item = page.items[0]
        flat |= {"name": item.path.decode("utf-8", "backslashreplace"), "url": item.url, **item.fields}
        flat |= {"version": item.version} if item.version else {}
        flat |= {"size": str(item.size_bytes)} if item.size_bytes is not None else {}
        flat |= {"sha256": item.sha256} if item.sha256 else {}
        flat |= {"time": item.time.local, "zone": item.time.zone} if item.time else {}
    return flat
