"""Reads profiles from the built-in folder, further folders or a path, and reports every mistake with its line.

A profile is named by its id (`dsj`), found as `<id>.toml` in a folder or in one of its kind (`stations`, `trackers`, …)
below it, or by a path (it then holds a `/` or ends with `.toml`). A profile in a further folder hides a built-in one of
the same id. Its `format` says of which kind it is.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from firmware_profiles import feed_check, monitor_check, sensor_check, tracker_check
from firmware_profiles.feed_model import FeedProfile
from firmware_profiles.model import FIELDS, StationProfile
from firmware_profiles.monitor_model import MonitorProfile
from firmware_profiles.sensor_model import SensorProfile
from firmware_profiles.tracker_model import TrackerProfile
from gateway.core.errors import Problem, ProfileError
from gateway.core.record import ProfileRef
from gateway.toml_lines import key_lines

BUILT_IN: Final = Path(__file__).parent
PROFILE_MAX_BYTES: Final = 262_144
PROBLEMS_MAX: Final = 50
AnyProfile = StationProfile | TrackerProfile | MonitorProfile | SensorProfile | FeedProfile
KINDS: Final[Mapping[str, type[AnyProfile]]] = {
    "station": StationProfile,
    "tracker": TrackerProfile,
    "monitor": MonitorProfile,
    "sensor": SensorProfile,
    "feed": FeedProfile,
}
"""Kind, as `format` begins and its folder is called, with an s."""

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_ZONE = re.compile(r"Z|[+-](0\d|1[0-4]):[0-5]\d|")
_GROUPS: Final = {"name": {*FIELDS, "time"}, "srt": {"lat", "lon", "time", "alt", "speed"}}
_REPEATED_GROUP = re.compile(r"\)(\*|\+|\{(?!0?,?1\}))")
_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")
_TIME_DIRECTIVE = re.compile(r"%(.?)")

P_co = TypeVar("P_co", bound=AnyProfile, covariant=True)


@dataclass(frozen=True, slots=True)
class LoadedProfile(Generic[P_co]):
    """A profile that passed every check, and the reference that records carry."""

    profile: P_co
    ref: ProfileRef
    path: Path


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One line of `fieldgate profile list`."""

    id: str
    kind: str
    title: str
    path: Path
    problems: tuple[Problem, ...]
    """Empty: usable."""
    confirmed: bool = True
    """All but stations: whether somebody has compared it with a device or its document."""


def load(id_or_path: str, dirs: Sequence[Path | str] = ()) -> LoadedProfile[AnyProfile]:
    """Load one profile of any kind. Raises ProfileError with every problem found."""
    path = _find(id_or_path, [Path(folder) for folder in dirs])
    try:
        with path.open("rb") as file:
            text = file.read(PROFILE_MAX_BYTES + 1)
    except OSError as error:
        raise ProfileError([Problem(str(path), 0, "", f"cannot be read: {error.strerror}")]) from None
    return LoadedProfile(parse(text, path), ProfileRef(path.stem, hashlib.sha256(text).hexdigest()), path)


def load_station(id_or_path: str, dirs: Sequence[Path | str] = ()) -> LoadedProfile[StationProfile]:
    """`load`, for stations only."""
    loaded = load(id_or_path, dirs)
    if not isinstance(loaded.profile, StationProfile):
        raise _other_kind(loaded, "station")
    return cast("LoadedProfile[StationProfile]", loaded)


def load_tracker(id_or_path: str, dirs: Sequence[Path | str] = ()) -> LoadedProfile[TrackerProfile]:
    """`load`, for trackers and receivers only."""
    loaded = load(id_or_path, dirs)
    if not isinstance(loaded.profile, TrackerProfile):
        raise _other_kind(loaded, "tracker")
    return cast("LoadedProfile[TrackerProfile]", loaded)


def load_monitor(id_or_path: str, dirs: Sequence[Path | str] = ()) -> LoadedProfile[MonitorProfile]:
    """`load`, for HJ 212 monitors only."""
    loaded = load(id_or_path, dirs)
    if not isinstance(loaded.profile, MonitorProfile):
        raise _other_kind(loaded, "monitor")
    return cast("LoadedProfile[MonitorProfile]", loaded)


def load_sensor(id_or_path: str, dirs: Sequence[Path | str] = ()) -> LoadedProfile[SensorProfile]:
    """`load`, for Modbus sensors only."""
    loaded = load(id_or_path, dirs)
    if not isinstance(loaded.profile, SensorProfile):
        raise _other_kind(loaded, "sensor")
    return cast("LoadedProfile[SensorProfile]", loaded)


def load_feed(id_or_path: str, dirs: Sequence[Path | str] = ()) -> LoadedProfile[FeedProfile]:
    """`load`, for JSON feeds only."""
    loaded = load(id_or_path, dirs)
    if not isinstance(loaded.profile, FeedProfile):
        raise _other_kind(loaded, "feed")
    return cast("LoadedProfile[FeedProfile]", loaded)


def _other_kind(loaded: LoadedProfile[AnyProfile], wanted: str) -> ProfileError:
    text = f"is of a {_kind(loaded.profile)}; a {wanted}'s profile is needed"
    return ProfileError([Problem(str(loaded.path), 0, "format", text)])


def _kind(profile: AnyProfile) -> str:
    return profile.format.partition("/")[0]


def list_profiles(dirs: Sequence[Path | str] = (), kind: str = "") -> list[ProfileRow]:
    """Every profile that `load` would find by id, by id, of one kind or of all; unusable ones with their problems."""
    rows: dict[str, ProfileRow] = {}
    for folder in _folders([Path(folder) for folder in dirs]):
        for path in sorted(folder.glob("*.toml")):
            if path.stem not in rows:
                rows[path.stem] = _row(path)
    return [rows[key] for key in sorted(rows) if kind in ("", rows[key].kind)]


def ids(kind: str, dirs: Sequence[Path | str] = ()) -> list[str]:
    """Ids of all profiles of a kind that can be loaded by id, sound or not; a glance at each file, no check."""
    found: dict[str, bool] = {}
    for folder in _folders([Path(folder) for folder in dirs]):
        for path in folder.glob("*.toml"):
            if path.stem not in found:
                found[path.stem] = _is_of(kind, path)
    return sorted(name for name, fits in found.items() if fits)


def tracker_ids(dirs: Sequence[Path | str] = ()) -> list[str]:
    """`ids` of trackers."""
    return ids("tracker", dirs)


def _is_of(kind: str, path: Path) -> bool:
    if path.parent.name == f"{kind}s":
        return True
    try:
        with path.open("rb") as file:
            return f'"{kind}/v'.encode() in file.read(PROFILE_MAX_BYTES)
    except OSError:
        return False


def _row(path: Path) -> ProfileRow:
    try:
        profile = load(str(path)).profile
    except ProfileError as error:
        return ProfileRow(path.stem, _kind_of({}, path), "", path, tuple(error.problems), confirmed=False)
    confirmed = isinstance(profile, StationProfile) or profile.confirmed
    return ProfileRow(path.stem, _kind(profile), profile.title, path, (), confirmed)


def parse(text: bytes, path: Path) -> AnyProfile:
    """Check the bytes of a profile file; `path` names it in messages. Raises ProfileError."""
    file = str(path)
    if len(text) > PROFILE_MAX_BYTES:
        raise ProfileError([Problem(file, 0, "", f"larger than {PROFILE_MAX_BYTES} bytes; is it a profile?")])
    try:
        source = text.decode()
        table = tomllib.loads(source)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ProfileError([Problem(file, line, "", "not UTF-8; save the file as UTF-8")]) from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        found = re.search(r"\(at line (\d+)", str(error))
        line = int(found[1]) if found else 0
        raise ProfileError([Problem(file, line, "", f"not TOML: {error}")]) from None
    lines = key_lines(source)
    problems: list[Problem] = []

    def note(key: str, message: str) -> None:
        problems.append(Problem(file, _line_of(lines, key), key, message))

    shape = KINDS[_kind_of(table, path)]
    profile = _convert(table, shape, note)
    if profile is not None:
        _check_head(profile, path.stem, note)
        _check(profile, note)
    if problems or profile is None:
        raise ProfileError(sorted(problems, key=lambda problem: problem.line)[:PROBLEMS_MAX])
    return profile


def _check(profile: AnyProfile, note: Callable[[str, str], None]) -> None:
    match profile:
        case StationProfile():
            _check_station(profile, note)
        case TrackerProfile():
            tracker_check.check(profile, note)
        case MonitorProfile():
            monitor_check.check(profile, note)
        case SensorProfile():
            sensor_check.check(profile, note)
        case FeedProfile():
            feed_check.check(profile, note)


def _kind_of(table: Mapping[str, Any], path: Path) -> str:
    """By `format`; a file that says nothing of the kind is taken for what its folder holds."""
    said = str(table.get("format", "")).partition("/")[0]
    folder = path.parent.name.removesuffix("s")
    return said if said in KINDS else folder if folder in KINDS else "station"


def _find(id_or_path: str, dirs: list[Path]) -> Path:
    if "/" in id_or_path or id_or_path.endswith(".toml"):
        return Path(id_or_path)
    if not _ID.fullmatch(id_or_path):
        text = "not a profile id; ids hold lower-case letters, digits and -"
        raise ProfileError([Problem(repr(id_or_path), 0, "", text)])
    for folder in _folders(dirs):
        path = folder / f"{id_or_path}.toml"
        if path.is_file():
            return path
    known = sorted(path.stem for folder in _folders(dirs) for path in folder.glob("*.toml"))
    near = get_close_matches(id_or_path, known, 1)
    hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(known)
    raise ProfileError([Problem(id_or_path, 0, "", f"no such profile; {hint}")])


def _folders(dirs: list[Path]) -> list[Path]:
    return [folder for base in [*dirs, BUILT_IN] for folder in (base, *(base / f"{kind}s" for kind in KINDS))]


# ------------------------------------------------------------------------------------------ shape


def _convert(table: dict[str, Any], shape: type[AnyProfile], note: Callable[[str, str], None]) -> AnyProfile | None:
    """Collect every shape mistake: take the offending value out and try again."""
    removed: set[str] = set()
    clean = True
    for _ in range(PROBLEMS_MAX):
        try:
            profile = msgspec.convert(table, shape)
            return profile if clean else None
        except msgspec.ValidationError as error:
            clean = False
            message = str(error).partition(" - at ")[0]
            found = re.search(r"`\$\.?([^`]*)`$", str(error))  # at `$.a[0]`, or at `key` in `$.a`
            path = found[1] if found else ""
            if missing := re.search(r"missing required field `(.+)`", message):
                key = _join(path, missing[1])
                if key not in removed:
                    note(key, "missing")
                if not _remove(table, path):
                    return None
                removed.add(path)
            elif unknown := re.search(r"unknown field `(.+)`", message):
                near = get_close_matches(unknown[1], _all_keys(shape), 1)
                note(_join(path, unknown[1]), "unknown key" + (f"; did you mean {near[0]}?" if near else ""))
                _remove(table, _join(path, unknown[1]))
            else:
                note(path, message[:1].lower() + message[1:])
                if not _remove(table, path):
                    return None
                removed.add(path)
    return None


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _remove(table: Any, path: str) -> bool:
    """Take the value at `name[2].zone` out; a key of a free table is written `fields[...]` by msgspec."""
    steps = re.findall(r"[^.\[\]]+|\[(?:\d+|\.\.\.)\]", path)
    if not steps:
        return False
    for step in steps[:-1]:
        if step == "[...]":
            break
        table = table[int(step[1:-1])] if step[0] == "[" else table[step]
    else:
        last = steps[-1]
        if last == "[...]":
            table.clear()
        else:
            del table[int(last[1:-1]) if last[0] == "[" else last]
        return True
    table.clear()
    return True


def _all_keys(shape: type[msgspec.Struct]) -> list[str]:
    pending: list[type[msgspec.Struct]] = [shape]
    names: set[str] = set()
    while pending:
        for item in msgspec.structs.fields(pending.pop()):
            names.add(item.encode_name)
            parts = (item.type, *getattr(item.type, "__args__", ()))
            pending += [part for part in parts if isinstance(part, type) and issubclass(part, msgspec.Struct)]
    return sorted(names)


def _line_of(lines: Mapping[tuple[str | int, ...], int], key: str) -> int:
    """The line of the key, or of the nearest table around it."""
    path = tuple(int(step[1:-1]) if step[0] == "[" else step for step in _STEP.findall(key))
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


# ---------------------------------------------------------------------------------------- meaning


def _check_head(profile: AnyProfile, stem: str, note: Callable[[str, str], None]) -> None:
    if profile.id != stem:
        note("id", f"is {profile.id!r}, but the file is called {stem}.toml; make them the same")
    if not _ID.fullmatch(profile.id):
        note("id", "holds other signs than lower-case letters, digits and -")
    for key, text in (("title", profile.title), ("source", profile.source)):
        if not text.strip():
            note(key, "is empty")


def _check_station(profile: StationProfile, note: Callable[[str, str], None]) -> None:
    if not 0 <= profile.quiet_s <= 86_400:
        note("quiet_s", "expected 0 to 86400 seconds")
    for index, encoding in enumerate(profile.encodings):
        try:
            codecs.lookup(encoding)
        except LookupError:
            note(f"encodings[{index}]", f"{encoding!r} is not a known text encoding")
    for field, patterns in profile.unset.items():
        for pattern in patterns:
            _check_pattern(f"unset.{field}", pattern, set(), note)
    _check_names(profile, note)
    _check_files(profile, note)
    _check_listing(profile, note)
    _check_examples(profile, note)


def _check_names(profile: StationProfile, note: Callable[[str, str], None]) -> None:
    for index, grammar in enumerate(profile.name):
        key = f"name[{index}]"
        groups = _check_pattern(f"{key}.pattern", grammar.pattern, _GROUPS["name"], note)
        _check_time(key, grammar.time_format, grammar.zone, note)
        if ("time" in groups) != bool(grammar.time_format):
            note(f"{key}.time_format", "the group `time` and time_format go together; give both or none")


def _check_files(profile: StationProfile, note: Callable[[str, str], None]) -> None:
    seen: set[str] = set()
    rules: list[tuple[str, str]] = [
        (f"media[{index}].extensions", extension)
        for index, media in enumerate(profile.media)
        for extension in media.extensions
    ]
    rules += [(f"sidecar[{index}].extension", rule.extension) for index, rule in enumerate(profile.sidecar)]
    rules += [(f"track[{index}].extension", rule.extension) for index, rule in enumerate(profile.track)]
    for key, extension in rules:
        if not re.fullmatch(r"[a-z0-9]{1,16}", extension):
            note(key, f"{extension!r} is not an ending in lower case without the dot")
        if extension in seen:
            note(key, f"{extension!r} has a rule already; one ending has one meaning")
        seen.add(extension)
    _check_sidecars(profile, note)
    _check_tracks(profile, note)


def _check_sidecars(profile: StationProfile, note: Callable[[str, str], None]) -> None:
    for index, sidecar in enumerate(profile.sidecar):
        key = f"sidecar[{index}]"
        _check_time(key, sidecar.time_format, sidecar.zone, note)
        if bool(sidecar.sync_device_time) != bool(sidecar.sync_station_time):
            note(f"{key}.sync_station_time", "both clocks are needed for an offset; give both or none")
        if sidecar.format == "json":
            for name in ("time", "clock_offset", "sync_device_time", "sync_station_time", "key_file"):
                _check_pointer(f"{key}.{name}", getattr(sidecar, name), note)
            for field, pointer in sidecar.fields.items():
                _check_pointer(f"{key}.fields.{field}", pointer, note)


def _check_tracks(profile: StationProfile, note: Callable[[str, str], None]) -> None:
    for index, track in enumerate(profile.track):
        key = f"track[{index}]"
        _check_time(key, track.time_format, track.zone, note)
        if track.format == "srt":
            groups = _check_pattern(f"{key}.pattern", track.pattern, _GROUPS["srt"], note)
            if not {"lat", "lon"} <= groups:
                note(f"{key}.pattern", "srt needs the named groups lat and lon")
        if track.format == "csv" and not {"lat", "lon"} <= set(track.columns):
            note(f"{key}.columns", "csv needs the columns lat and lon")
        if not track.header and not all(value.isdecimal() for value in track.columns.values()):
            note(f"{key}.columns", "without a header line columns are numbers, written as texts from 1")
        if len(track.delimiter) != 1:
            note(f"{key}.delimiter", "expected one character")


def _check_listing(profile: StationProfile, note: Callable[[str, str], None]) -> None:
    listing = profile.listing
    if listing is None:
        return
    _check_time("listing", listing.time_format, listing.zone, note)
    for name in ("items", "name", "url", "size", "mtime", "sha256", "time", "next"):
        _check_pointer(f"listing.{name}", getattr(listing, name), note)
    for field, pointer in listing.fields.items():
        _check_pointer(f"listing.fields.{field}", pointer, note)
    if listing.next and listing.page_parameter:
        note("listing.page_parameter", "next already leads from page to page; give one of the two")
    if not 1 <= listing.page_size <= 10_000:
        note("listing.page_size", "expected 1 to 10000 items")


def _check_examples(profile: StationProfile, note: Callable[[str, str], None]) -> None:
    if not profile.example:
        note("example", "missing; at least one worked example shows that the profile does what it says")
    for index, example in enumerate(profile.example):
        if not (example.name or example.name_hex or example.content):
            note(f"example[{index}]", "empty; give name, name_hex or content")
        if not re.fullmatch(r"([0-9a-f]{2})*", example.name_hex):
            note(f"example[{index}].name_hex", "expected lower-case hex digits, two per byte")
        if not (example.name or example.name_hex or profile.listing):
            note(f"example[{index}].name", "content without a name is a listing page; there is no listing")


def _check_pattern(key: str, pattern: str, groups: set[str], note: Callable[[str, str], None]) -> set[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # such as [a--b]: its meaning may change
            found = set(re.compile(pattern).groupindex)
    except (re.error, FutureWarning, RecursionError, OverflowError) as error:
        note(key, f"not a regular expression: {error}")
        return set()
    if not pattern:
        note(key, "is empty")
    if _REPEATED_GROUP.search(re.sub(r"\\.|\[(?:\\.|[^\]])*\]", "x", pattern)):
        note(key, "repeats a group; a hostile name could make it run for ever: repeat single classes only")
    for unknown in sorted(found - groups):
        note(key, f"named group {unknown!r} is not known here; known: {', '.join(sorted(groups)) or 'none'}")
    return found


def _check_time(key: str, time_format: str, zone: str, note: Callable[[str, str], None]) -> None:
    if not _ZONE.fullmatch(zone):
        note(f"{key}.zone", f"{zone!r} is no zone; expected such as +08:00, Z, or empty for unknown")
    if time_format in {"", "iso", "unix-s", "unix-ms"}:
        return
    directives = _TIME_DIRECTIVE.findall(time_format)
    if not {"d", "m"} <= set(directives) or not {"Y", "y"} & set(directives):
        note(f"{key}.time_format", "expected iso, unix-s, unix-ms, or a format with %Y (or %y), %m and %d")
    for directive in directives:
        if directive not in set("YymdHMSf%"):
            note(f"{key}.time_format", f"%{directive} is not known; known: %Y %y %m %d %H %M %S %f %%")
    if len(set(directives)) != len(directives):
        note(f"{key}.time_format", "a part stands twice")


def _check_pointer(key: str, pointer: str, note: Callable[[str, str], None]) -> None:
    if pointer and (not pointer.startswith("/") or re.search(r"~(?![01])", pointer)):
        note(key, f"{pointer!r} is no JSON pointer; it begins with / (RFC 6901)")
