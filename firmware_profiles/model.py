"""What a station profile may say: the shape of `stations/*.toml`. PROFILE.md explains every key.

A profile states facts about one family of body-camera stations: how names are built, which files matter, what
sidecars, tracks and listings hold. It holds no code and no network addresses. Unknown keys are errors.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

FIELDS: Final = (
    "device",
    "person",
    "person_name",
    "unit",
    "unit_name",
    "model",
    "kind",
    "sequence",
    "note",
)
"""The fields that names, sidecars and listings may fill. All are texts as the device wrote them."""

Field = Literal["device", "person", "person_name", "unit", "unit_name", "model", "kind", "sequence", "note"]
Use = Literal["recording", "photo", "audio", "log", "sidecar", "track", "ignore"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables of a profile: unknown keys are errors."""


class NameGrammar(Section, frozen=True, kw_only=True):
    """One way in which names are built; the first grammar that fits the whole name wins."""

    pattern: str
    """Regular expression for the whole name. Named groups: the fields, and `time`."""
    on: Literal["name", "path"] = "name"
    """`name`: the last component; `path`: the path below the station's folder, joined with `/`."""
    time_format: str = ""
    """How to read the group `time`: %Y %y %m %d %H %M %S %f and literal text, or iso, unix-s, unix-ms."""
    zone: str = ""
    """Zone of that time, such as +08:00 or Z; empty: unknown. Never assumed."""


class Media(Section, frozen=True, kw_only=True):
    """What files with certain endings are."""

    extensions: list[str]
    """Lower case, without the dot."""
    use: Use
    """What the files are for; `ignore` leaves them at the station, with a record that says so."""
    type: str = "application/octet-stream"
    """Media type."""
    container: Literal["", "mp4", "riff"] = ""
    """Formats that tell whether the recorder has closed the file: such a file is taken only when closed."""


class Sidecar(Section, frozen=True, kw_only=True):
    """Files that describe a recording."""

    extension: str
    """Lower case, without the dot."""
    format: Literal["xml", "json"]
    """XML: paths such as `Root/Device/@id`. JSON: RFC 6901 pointers."""
    pairing: Literal["stem", "name"] = "stem"
    """`stem`: REC.XML goes with REC.MP4; `name`: REC.MP4.XML goes with REC.MP4."""
    type: str = "application/octet-stream"
    """Media type."""
    fields: dict[Field, str] = {}
    """Field → path."""
    time: str = ""
    """Path of the recording's start by the device's clock."""
    time_format: str = "iso"
    """How to read all times of the file, as in `name`."""
    zone: str = ""
    """Zone of these times where the text names none; empty: unknown."""
    clock_offset: str = ""
    """Path of the device clock minus the station clock at docking."""
    clock_offset_unit: Literal["s", "ms"] = "s"
    """Unit of `clock_offset`."""
    sync_device_time: str = ""
    """Path of the device clock as the station read it at docking."""
    sync_station_time: str = ""
    """Path of the station clock at that moment."""
    key_file: str = ""
    """Path of the key-file mark (重点文件) that the officer set."""
    key_file_true: list[str] = msgspec.field(default_factory=lambda: ["1", "true", "Y"])
    """Texts that mean yes."""


class Track(Section, frozen=True, kw_only=True):
    """Files that hold positions."""

    extension: str
    """Lower case, without the dot."""
    format: Literal["gpx", "srt", "nmea", "csv"]
    """How positions are written; `nmea`: RMC and GGA sentences, one per line, any text before the `$`."""
    datum: Literal["WGS-84", "GCJ-02"]
    """Datum of the coordinates in the file; GCJ-02 is converted, the raw values stay."""
    pairing: Literal["stem", "name"] = "stem"
    """As for sidecars."""
    type: str = "application/octet-stream"
    """Media type."""
    time_format: str = "iso"
    """srt and csv: how to read times. GPX is ISO 8601 and NMEA is UTC by their own rules."""
    zone: str = ""
    """srt and csv: zone of times where the text names none; empty: unknown."""
    pattern: str = ""
    """srt: regular expression searched in each cue, with the named groups lat, lon, time, alt, speed."""
    columns: dict[Literal["time", "lat", "lon", "alt", "speed"], str] = {}
    """csv: meaning → name in the header line, or the 1-based number of the column."""
    header: bool = True
    """csv: the first line names the columns."""
    delimiter: str = ","
    """csv: one character."""
    speed_unit: Literal["m/s", "km/h", "kn"] = "m/s"
    """srt and csv: unit of speed."""


class Listing(Section, frozen=True, kw_only=True):
    """Where an HTTP listing keeps what. All values are RFC 6901 pointers unless said otherwise."""

    path: str = ""
    """Added to the configured address; not a pointer."""
    items: str = ""
    """The array of files in a page; empty: the page itself is the array."""
    name: str
    """The file's name, or its path at the station. From here on pointers start at one item."""
    url: str
    """Where to download it, absolute or relative to the page; only the configured host is asked."""
    size: str = ""
    """Size in bytes."""
    mtime: str = ""
    """Anything that changes when the file changes: time, version, ETag."""
    sha256: str = ""
    """Hash that the station declares: compared, never trusted."""
    time: str = ""
    """Start of the recording by the device's clock."""
    time_format: str = "iso"
    """How to read it, as in `name`."""
    zone: str = ""
    """Its zone where the text names none; empty: unknown."""
    fields: dict[Field, str] = {}
    """Field → pointer."""
    next: str = ""
    """Pointer from the page to the address of the next page; null or absent at the last one."""
    page_parameter: str = ""
    """Query parameter that counts pages; not a pointer. Used where `next` is empty."""
    page_first: int = 1
    """Number of the first page."""
    page_size_parameter: str = ""
    """Query parameter for the number of items per page; not a pointer."""
    page_size: int = 50
    """Items per page; a shorter page is the last one."""


class Example(Section, frozen=True, kw_only=True):
    """A worked example that `fieldgate profile check` runs: input, and everything that must come out."""

    name: str = ""
    """File name."""
    name_hex: str = ""
    """The name's bytes as hex, where it is not UTF-8."""
    content: str = ""
    """Text of a sidecar or track of that name; without a name: one page of the listing."""
    expect: dict[str, str]
    """Exactly what the profile reads, as texts: nothing more, nothing less."""


class StationProfile(Section, frozen=True, kw_only=True):
    """One file of `stations/`."""

    format: Literal["station/v1"]
    """Version of this shape."""
    id: str
    """The file's name without `.toml`: lower-case letters, digits and `-`."""
    title: str
    """One line for people."""
    source: str
    """Where the facts come from: a public document, or the device and date of a field test."""
    encodings: list[str] = msgspec.field(default_factory=lambda: ["utf-8", "gb18030"])
    """Tried in order to show names as text; the raw bytes are always kept."""
    quiet_s: float = 300.0
    """A container that the recorder never closed is taken after this time without a change, and marked."""
    unset: dict[Field, list[str]] = {}
    """Regular expressions for values that mean "never set", such as zeros: the field is then absent."""
    name: list[NameGrammar] = []
    """Grammars, in order. A name that none fits is still evidence, with empty fields."""
    media: list[Media] = []
    """Kinds of files by ending; other endings are taken as `other`."""
    sidecar: list[Sidecar] = []
    """Sidecar rules."""
    track: list[Track] = []
    """Track rules."""
    listing: Listing | None = None
    """Needed by stations of type station-http."""
    example: list[Example] = []
    """At least one."""
