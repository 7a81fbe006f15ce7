"""File names of body-camera stations: bytes in, fields and safe display text out.

Nothing here raises for any bytes. A name is evidence by itself: the raw bytes are kept as hex by the record, the
display text is for people only and is never used as a path.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from drivers.times import ReadTime, read_time
from firmware_profiles.model import FIELDS, Media, Sidecar, StationProfile, Track

NAME_MATCH_MAX: Final = 512
"""Longer texts are not tried against grammars: every file system stops at 255 bytes per name."""
DISPLAY_MAX: Final = 4096
FIELD_MAX: Final = 256

_ESCAPED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Malformed:
    """Input that is not what it should be. A value, not an exception: the bytes stay in the artifact."""

    reason: str


@dataclass(frozen=True, slots=True)
class FileName:
    """What a name says."""

    display: str
    """The whole relative path as safe text: NFC, nothing invisible, `\\` doubled."""
    text: str
    """Decoded last component, for matching."""
    use: str
    """`recording`, `photo`, `audio`, `log`, `sidecar`, `track`, `ignore` or `other`."""
    media_type: str
    container: str
    grammar: int | None
    """Index of the grammar that fitted."""
    fields: dict[str, str] = field(default_factory=dict)
    time: ReadTime | None = None
    time_text: str = ""
    """Text of the group `time`, also where it is no real date."""


class NameCodec:
    """Reads names by one profile."""

    def __init__(self, profile: StationProfile) -> None:
        self.profile = profile
        self._grammars = [(re.compile(grammar.pattern), grammar) for grammar in profile.name]
        self._unset: dict[str, list[re.Pattern[str]]] = {
            name: [re.compile(pattern) for pattern in patterns] for name, patterns in profile.unset.items()
        }
        self._media: dict[str, Media | Sidecar | Track] = {}
        for media in profile.media:
            self._media.update(dict.fromkeys(media.extensions, media))
        self._media.update({rule.extension: rule for rule in profile.sidecar})
        self._media.update({rule.extension: rule for rule in profile.track})

    def read(self, path: bytes) -> FileName:
        """Read a path below the station's folder, components joined by `/`."""
        text = decode(path, self.profile.encodings)
        name = text.rpartition("/")[2]
        use, media_type, container = self._use(name)
        index, fields, time, time_text = self._match(name, text)
        return FileName(safe_text(text, DISPLAY_MAX), name, use, media_type, container, index, fields, time, time_text)

    def rule(self, name: str) -> Sidecar | Track | None:
        """The sidecar or track rule for a decoded name."""
        found = self._media.get(extension(name))
        return None if isinstance(found, Media) else found

    def partners(self, path: bytes, use: str) -> list[bytes]:
        """Keys under which a file and its sidecars meet: the path without its ending(s), ASCII case folded.

        A recording answers to its stem and to its whole name; a sidecar to the one that its rule names.
        """
        folded = path.lower()
        stem = folded.rpartition(b"/")[0] + b"/" + folded.rpartition(b"/")[2].rpartition(b".")[0]
        if use in {"sidecar", "track"}:
            rule = self.rule(decode(path, self.profile.encodings).rpartition("/")[2])
            by_name = rule is not None and rule.pairing == "name"
            return [(b"n" if by_name else b"s") + stem]
        whole = folded.rpartition(b"/")[0] + b"/" + folded.rpartition(b"/")[2]
        return [b"s" + stem, b"n" + whole]

    def clean_fields(self, found: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Safe texts of fields, without those that the profile calls unset."""
        fields = {}
        for name, value in found:
            shown = safe_text(value.strip(), FIELD_MAX)
            if shown and not any(pattern.fullmatch(shown) for pattern in self._unset.get(name, [])):
                fields[name] = shown
        return fields

    def _use(self, name: str) -> tuple[str, str, str]:
        found = self._media.get(extension(name))
        if isinstance(found, Media):
            return found.use, found.type, found.container
        if found is not None:
            return ("sidecar" if isinstance(found, Sidecar) else "track"), found.type, ""
        return "other", "application/octet-stream", ""

    def _match(self, name: str, path: str) -> tuple[int | None, dict[str, str], ReadTime | None, str]:
        for index, (pattern, grammar) in enumerate(self._grammars):
            text = name if grammar.on == "name" else path
            found = pattern.fullmatch(text) if len(text) <= NAME_MATCH_MAX else None
            if found is None:
                continue
            groups = {key: value for key, value in found.groupdict().items() if value is not None}
            time_text = groups.pop("time", "")
            time = read_time(time_text, grammar.time_format, grammar.zone) if time_text else None
            fields = self.clean_fields((key, groups[key]) for key in FIELDS if key in groups)
            return index, fields, time, safe_text(time_text, FIELD_MAX)
        return None, {}, None, ""


def extension(name: str) -> str:
    """Ending in lower case without the dot; empty where there is none."""
    stem, dot, ending = name.rpartition(".")
    return ending.lower() if dot and stem else ""


def decode(raw: bytes, encodings: Iterable[str]) -> str:
    """Text of a name in NFC: the first encoding that fits, else UTF-8 with lone surrogates for what does not."""
    for encoding in encodings:
        try:
            return unicodedata.normalize("NFC", raw.decode(encoding))
        except (UnicodeDecodeError, LookupError):
            continue
    return unicodedata.normalize("NFC", raw.decode("utf-8", "surrogateescape"))


def safe_text(text: str, limit: int) -> str:
    """NFC text that shows everything: controls, bidi marks and other invisible signs as `\\u{…}`, bytes that no
    encoding fits as `\\x{…}`, a backslash doubled.

    At most `limit` characters; a longer one ends with `…`.
    """
    text = unicodedata.normalize("NFC", text[: limit + 1])
    if not (text.isascii() and text.isprintable() and "\\" not in text):
        text = "".join(map(_shown, text))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shown(sign: str) -> str:
    if sign == "\\":
        return "\\\\"
    if 0xDC80 <= ord(sign) <= 0xDCFF:
        return f"\\x{{{ord(sign) - 0xDC00:x}}}"
    if unicodedata.category(sign) in _ESCAPED_CATEGORIES:
        return f"\\u{{{ord(sign):x}}}"
    return sign
