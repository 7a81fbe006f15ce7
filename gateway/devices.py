"""Who may report, and as what: classes of devices and the devices themselves, one TOML file (DEVICES.md).

    devices = load(path, profile_dirs)           every mistake at once, with file and line
    device = devices.find(frame.identity)        None: not listed
    kind = devices.class_of(device.device_class) if device else devices.open_class(maker, model)

`Watched` reads the file again when it changes; a file with a mistake in it changes nothing.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import msgspec
from msgspec import Meta, inspect

from firmware_profiles import loader
from firmware_profiles.loader import LoadedProfile
from firmware_profiles.monitor_model import MonitorProfile
from firmware_profiles.tracker_model import TrackerProfile, fits
from gateway import toml_check
from gateway.core.errors import ConfigError, Problem, ProfileError

UNLISTED: Final = "unlisted"
PLAIN: Final = "jt808"
Protocol = Literal["jt808", "hj212"]
"""Of the source that the file belongs to; the id of the plain profile of each is its name."""
AUTO: Final = "auto"
INTERVAL_S: Final = 10
NAMES_SHOWN_MAX: Final = 8

ClassId = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z",
        description="1 to 32 of a-z, 0-9 and '-', beginning with a letter or digit",
    ),
]
Identity = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Za-z][0-9A-Za-z:._-]{0,63}\Z",
        description="an identity in quotes, such as the digits of the phone number without leading zeros, or an IMEI",
    ),
]
Short = Annotated[str, Meta(pattern=r"^.{0,64}\Z", description="text of at most 64 characters on one line")]
ProfileId = Annotated[
    str, Meta(pattern=r"^[a-z0-9-]{0,64}\Z", description='the id of a tracker profile, such as "jt808", or "auto"')
]


class _Class(msgspec.Struct, frozen=True, kw_only=True):
    id: ClassId
    title: Short = ""
    enrolment: Literal["listed", "open"] = "listed"
    privacy: Literal["open", "process"] = "open"
    profile: ProfileId = ""
    judged: bool = True
    open_to: list[Short] = []


class _Device(msgspec.Struct, frozen=True, kw_only=True):
    id: Identity
    device_class: ClassId = msgspec.field(name="class")
    plate: Short = ""
    firm: Short = ""
    profile: ProfileId = ""
    code: Short = ""
    interval_s: Annotated[int, Meta(ge=1, le=86_400)] = INTERVAL_S
    site: Short = ""
    crc: Literal["", "hj212", "modbus_low_byte_first"] = ""


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal["devices/v1"]
    classes: list[_Class] = msgspec.field(name="class", default_factory=list)
    device: list[_Device] = []


SCHEMA: Final = inspect.type_info(_File)
AnyOfDevices = LoadedProfile[TrackerProfile] | LoadedProfile[MonitorProfile]
_KINDS: Final[Mapping[Protocol, str]] = {"jt808": "tracker", "hj212": "monitor"}


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """A kind of devices that are treated alike."""

    id: str
    title: str = ""
    enrolment: Literal["listed", "open"] = "open"
    """open: devices that the file does not list are taken into this class when they register."""
    privacy: Literal["open", "process"] = "open"
    """process: the track is evidence of an officer's process, shown only to roles that may see it."""
    profile: str = PLAIN
    """Tracker profile, or `auto`."""
    judged: bool = True
    """Whether the rules look at it."""
    open_to: tuple[str, ...] = ()
    """maker/model patterns of the terminals that an open class takes; empty: any."""


@dataclass(frozen=True, slots=True)
class Device:
    """One listed device."""

    id: str
    """`Frame.identity`."""
    device_class: str
    """Id of its class."""
    plate: str = ""
    firm: str = ""
    profile: str = ""
    """Overrides that of the class where it is not empty."""
    code: str = field(default="", repr=False)
    """Fixed authentication code; empty: one is made at registration."""
    interval_s: int = INTERVAL_S
    """How often it reports when all is well: silence is judged by it."""
    site: str = ""
    """Where it stands, as the records name it."""
    crc: str = ""
    """HJ 212: which CRC beside the standard's it may send; empty: as the source says."""


@dataclass(frozen=True, slots=True)
class Devices:
    """A whole file, checked."""

    classes: Mapping[str, DeviceClass]
    """By id, in the order of the file."""
    devices: Mapping[str, Device]
    """By identity."""
    profiles: Mapping[str, LoadedProfile[TrackerProfile]] = field(default_factory=dict)
    """Every tracker profile that a device may need, by id; all of them where a class is `auto`."""
    sha256: str = ""
    """Of the file; empty where there is none."""
    _open: tuple[DeviceClass, ...] = field(default=(), repr=False)
    monitors: Mapping[str, LoadedProfile[MonitorProfile]] = field(default_factory=dict)
    """Every monitor profile that a device may need, by id: of a file of HJ 212."""

    def find(self, identity: str) -> Device | None:
        """The listed device of an identity."""
        return self.devices.get(identity)

    def class_of(self, class_id: str) -> DeviceClass:
        """A class by its id, such as `Device.device_class`. Raises KeyError."""
        return self.classes[class_id]

    def open_class(self, maker: str, model: str) -> DeviceClass | None:
        """The first open class that takes an unlisted terminal of this maker and model; None: it is refused."""
        return next((one for one in self._open if not one.open_to or fits(one.open_to, maker, model)), None)

    def profile_of(self, device: Device | None, device_class: DeviceClass) -> str:
        """Profile id (or `auto`) that counts for a device of a class."""
        return (device.profile if device else "") or device_class.profile


def load(path: Path | str, profile_dirs: Sequence[Path | str] = (), protocol: Protocol = "jt808") -> Devices:
    """Read and check a devices file and the profiles that it names; an empty path gives one open class `unlisted`.

    Raises ConfigError with every problem: file, line, key, what was expected.
    """
    if not str(path):
        problems: list[Problem] = []
        profiles = _profiles({protocol}, profile_dirs, protocol, problems)
        if problems:
            raise ConfigError(problems)
        return _devices([DeviceClass(UNLISTED, profile=protocol)], {}, profiles, "")
    path = Path(path)
    text = toml_check.text_of(path, "; DEVICES.md says what stands in it")
    values, check = toml_check.check_text(str(path), text, SCHEMA)
    content = msgspec.convert(values, _File)
    _check_classes(content.classes, check)
    _check_devices(content, protocol, check)
    known = loader.ids(_KINDS[protocol], profile_dirs)
    named = {one.profile or protocol for one in content.classes}
    named |= {one.profile for one in content.device if one.profile}
    wanted = set(known) if AUTO in named and protocol == PLAIN else named & set(known) | {protocol}
    problems = []
    profiles = _profiles(wanted, profile_dirs, protocol, problems)
    _check_profiles(content, known, profiles, protocol, check)
    problems += sorted(check.problems, key=lambda problem: problem.line)
    if problems:
        raise ConfigError(problems)
    profiles = {name: one for name, one in profiles.items() if one.profile.protocol == protocol}
    classes = [
        DeviceClass(
            one.id, _nfc(one.title), one.enrolment, one.privacy, one.profile or protocol, one.judged, tuple(one.open_to)
        )
        for one in content.classes
    ]
    devices = {
        one.id: Device(
            one.id, one.device_class, _nfc(one.plate), _nfc(one.firm), one.profile, one.code, one.interval_s,
            _nfc(one.site), one.crc,
        )
        for one in content.device
    }  # fmt: skip
    return _devices(classes, devices, profiles, hashlib.sha256(text.encode()).hexdigest())


class Watched:
    """A devices file that may change while the gateway runs."""

    def __init__(self, path: Path | str, profile_dirs: Sequence[Path | str] = (), protocol: Protocol = "jt808") -> None:
        """Read it. Raises ConfigError: at the start there is no good set to stay with."""
        self._path = Path(path) if str(path) else None
        self._profile_dirs = tuple(profile_dirs)
        self._protocol: Protocol = protocol
        self._mark = self._look()
        self.current: Devices = load(path, profile_dirs, protocol)
        """The last good set."""
        self.error: str = ""
        """Why the file as it is now is not in force; empty where it is."""

    def refresh(self) -> bool:
        """Read the file again if it has changed (time, size or inode); whether another set is in force now. Raises
        nothing for what stands in the file: `error` says it, and the last good set stays."""
        mark = self._look()
        if self._path is None or mark == self._mark:
            return False
        self._mark = mark
        try:
            found = load(self._path, self._profile_dirs, self._protocol)
        except ConfigError as error:
            self.error = str(error)
            return False
        self.error = ""
        changed = found != self.current
        self.current = found
        return changed

    def _look(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _devices(
    classes: Sequence[DeviceClass],
    devices: Mapping[str, Device],
    profiles: Mapping[str, AnyOfDevices],
    sha256: str,
) -> Devices:
    opened = tuple(one for one in classes if one.enrolment == "open")
    trackers = {name: cast("LoadedProfile[TrackerProfile]", one) for name, one in profiles.items() if _is_tracker(one)}
    monitors = {
        name: cast("LoadedProfile[MonitorProfile]", one) for name, one in profiles.items() if not _is_tracker(one)
    }
    return Devices({one.id: one for one in classes}, devices, trackers, sha256, opened, monitors)


def _is_tracker(loaded: AnyOfDevices) -> bool:
    return isinstance(loaded.profile, TrackerProfile)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# --------------------------------------------------------------------------------------------- checks


def _check_classes(classes: list[_Class], check: toml_check.Check) -> None:
    if not classes:
        check.note(("class",), "missing; at least one [[class]] says what its devices are")
    seen: dict[str, int] = {}
    everything: str | None = None
    for index, one in enumerate(classes):
        if one.id in seen:
            check.note(("class", index, "id"), f"{one.id!r} is already the id of class[{seen[one.id]}]; rename one")
        seen.setdefault(one.id, index)
        if one.open_to and one.enrolment != "open":
            check.note(("class", index, "open_to"), 'has no effect; add enrolment = "open", or take it out')
        for number, pattern in enumerate(one.open_to):
            if "/" not in pattern:
                text = f"{toml_check.shown(pattern)} is not maker/model; write such as {pattern + '/*'!r}"
                check.note(("class", index, "open_to", number), text)
        if one.enrolment == "open":
            if everything is not None:
                text = (
                    f"is never reached: class {everything!r} above takes every terminal; move it below, or add open_to"
                )
                check.note(("class", index), text)
            if not one.open_to:
                everything = one.id


def _check_devices(content: _File, protocol: Protocol, check: toml_check.Check) -> None:
    classes = {one.id for one in content.classes}
    seen: dict[str, int] = {}
    for index, one in enumerate(content.device):
        if one.id in seen and one.id != "placeholder":
            check.note(("device", index, "id"), f"{one.id!r} is already listed as device[{seen[one.id]}]; keep one")
        seen.setdefault(one.id, index)
        if protocol == PLAIN and one.id[:1] == "0" and one.id.isdecimal() and one.id != "0":
            text = f"leading zeros only fill the phone field; write {one.id.lstrip('0') or '0'!r}"
            check.note(("device", index, "id"), text)
        if protocol == PLAIN and one.crc:
            check.note(("device", index, "crc"), "is for monitors of HJ 212; take it out")
        if one.device_class not in classes:
            text = f"no class {one.device_class!r} in this file; {_near(one.device_class, classes)}"
            check.note(("device", index, "class"), text)


def _check_profiles(
    content: _File,
    known: Sequence[str],
    profiles: Mapping[str, AnyOfDevices],
    protocol: Protocol,
    check: toml_check.Check,
) -> None:
    entries: list[tuple[str, int, str]] = [("class", index, one.profile) for index, one in enumerate(content.classes)]
    entries += [("device", index, one.profile) for index, one in enumerate(content.device)]
    for table, index, name in entries:
        if name == "" or (name == AUTO and protocol == PLAIN):
            continue
        if name not in known:
            check.note((table, index, "profile"), f"no {_KINDS[protocol]} profile {name!r}; {_near(name, known)}")
        elif name in profiles and profiles[name].profile.protocol != protocol:
            text = f"{name!r} is for {profiles[name].profile.protocol} receivers; devices of this file speak JT/T 808"
            check.note((table, index, "profile"), text)


def _near(word: str, known: set[str] | Sequence[str]) -> str:
    near = get_close_matches(word, known, 1)
    if near:
        return f"did you mean {near[0]}?"
    shown = sorted(known)
    more = ", …" if len(shown) > NAMES_SHOWN_MAX else ""
    return f"known: {', '.join(shown[:NAMES_SHOWN_MAX])}{more}" if shown else "there is none"


def _profiles(
    wanted: set[str], dirs: Sequence[Path | str], protocol: Protocol, problems: list[Problem]
) -> dict[str, AnyOfDevices]:
    """Loaded profiles by id; mistakes in them go to `problems`."""
    found: dict[str, AnyOfDevices] = {}
    for name in sorted(wanted):
        try:
            found[name] = loader.load_tracker(name, dirs) if protocol == PLAIN else loader.load_monitor(name, dirs)
        except ProfileError as error:
            problems += error.problems
    return found
