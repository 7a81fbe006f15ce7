"""Device times as texts: read by a declared format, shown in one form, never given a zone that nobody declared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_DIRECTIVES: Final = {
    "Y": r"(?P<Y>[12]\d{3})",
    "y": r"(?P<y>\d{2})",
    "m": r"(?P<m>\d{2})",
    "d": r"(?P<d>\d{2})",
    "H": r"(?P<H>\d{2})",
    "M": r"(?P<M>\d{2})",
    "S": r"(?P<S>\d{2})",
    "f": r"(?P<f>\d{1,6})",
    "%": "%",
}
_ISO = re.compile(
    r"(?P<Y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})[T ](?P<H>\d{2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
    r" ?(?P<zone>Z|[+-]\d{2}:?\d{2})?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ReadTime:
    """A device time: its very text, the same moment as `YYYY-MM-DDTHH:MM:SS[.f]`, and its zone ("" unknown)."""

    text: str
    local: str
    zone: str

    def utc_ns(self) -> int | None:
        """Nanoseconds since 1970 UTC; None where no zone is declared."""
        if not self.zone:
            return None
        offset_min = 0
        if self.zone != "Z":
            sign = -1 if self.zone[0] == "-" else 1
            offset_min = sign * (int(self.zone[1:3]) * 60 + int(self.zone[4:6]))
        return self.local_ns() - offset_min * 60_000_000_000

    def local_ns(self) -> int:
        """Nanoseconds since 1970 of the clock face, as if its zone were UTC."""
        whole, _, fraction = self.local.partition(".")
        since = datetime.fromisoformat(whole).replace(tzinfo=UTC) - _EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def read_time(text: str, time_format: str, zone: str) -> ReadTime | None:
    """Read `text` whole; None where it does not fit or is no real date. `zone` holds where the text names none."""
    text = text.strip()
    if len(text) > 64:
        return None
    if time_format in {"unix-s", "unix-ms"}:
        return _unix_time(text, 1000 if time_format == "unix-ms" else 1)
    found = (_ISO if time_format == "iso" else _compiled(time_format)).fullmatch(text)
    if found is None or not text.isascii():
        return None
    parts = found.groupdict()
    year = int(parts["Y"]) if parts.get("Y") else 2000 + int(parts["y"])
    fraction = (parts.get("f") or "").rstrip("0")
    try:
        moment = datetime(
            year,
            int(parts["m"]),
            int(parts["d"]),
            int(parts.get("H") or 0),
            int(parts.get("M") or 0),
            int(parts.get("S") or 0),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    named = parts.get("zone") or ""
    if named and named != "Z":
        named = named if ":" in named else f"{named[:3]}:{named[3:]}"
        if int(named[1:3]) > 14 or int(named[4:6]) > 59:
            return None
    return ReadTime(text, _face(moment, fraction), named or zone)


def _unix_time(text: str, per_second: int) -> ReadTime | None:
    if not re.fullmatch(r"[0-9]{1,14}(\.[0-9]{1,9})?", text):
        return None
    whole, _, fraction = text.partition(".")
    seconds, rest = divmod(int(whole), per_second)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    digits = (f"{rest:03d}" if per_second == 1000 else "") + fraction
    return ReadTime(text, _face(moment, digits[:9].rstrip("0")), "Z")


def _face(moment: datetime, fraction: str) -> str:
    text = moment.strftime("%m-%dT%H:%M:%S")
    return f"{moment.year:04d}-{text}" + (f".{fraction}" if fraction else "")


@lru_cache(maxsize=64)
def _compiled(time_format: str) -> re.Pattern[str]:
    pattern = ""
    for literal, directive in re.findall(r"([^%]+)|%(.)", time_format):
        pattern += re.escape(literal) if literal else _DIRECTIVES[directive]
    return re.compile(pattern)
