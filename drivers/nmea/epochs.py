"""Sentences of one moment to one Fix, satellites in view from their parts. Nothing here waits: time is in the data.

GGA and GNS give place and altitude, RMC date, speed and course, GST the error; GSA and VTG have no time and belong to
the epoch that is open. A Fix comes out when the next one begins, or at `flush`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from drivers.nmea.fields import DAY_NS, SECOND_NS
from drivers.nmea.framing import Sentence
from drivers.nmea.messages import Gga, Gll, Gns, Gsa, Gst, Gsv, Message, Rmc, Satellite, Unknown, Vtg, Zda

WEEKS_1024_NS: Final = 1024 * 7 * DAY_NS
SENTENCES_MAX: Final = 64
"""Of one epoch; what comes after is not part of it, and the Fix says `truncated`."""
WAITING_MAX: Final = 8
"""ZDA, GST and GLL that came before the epoch of their time."""
CONFLICT_E7: Final = 1000
"""About 11 m; RMC and GGA of one moment differ by their rounding only, 1.9 m at three decimals."""
GROUPS_MAX: Final = 32
"""Unfinished GSV groups; the oldest gives way, so that one with a part missing blocks nothing."""

_QUALITIES: Final = {
    1: "autonomous",
    2: "differential",
    3: "pps",
    4: "rtk-fixed",
    5: "rtk-float",
    6: "estimated",
    7: "manual",
    8: "simulator",
}
_MODES: Final = {
    "A": "autonomous",
    "D": "differential",
    "P": "precise",
    "R": "rtk-fixed",
    "F": "rtk-float",
    "E": "estimated",
    "M": "manual",
    "S": "simulator",
}
_WEAKEST_FIRST: Final = "SMEADPFR"
NO_PLACE: Final = frozenset({"estimated", "manual", "simulator", "unknown"})
"""Methods that are no evidence of place alone: no satellites measured it."""

_Positioned = Rmc | Gga | Gns | Gll


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One moment of one receiver. Not valid: the receiver had no fix; then there is no position, speed or altitude."""

    time_ns: int
    """Since midnight UTC; 86400 s and more is the leap second."""
    date: date | None
    utc_ns: int | None
    """Since 1970; a leap second has the number of the midnight after it."""
    valid: bool
    method: str | None = None
    lat_e7: int | None = None
    lon_e7: int | None = None
    alt_mm: int | None = None
    geoid_mm: int | None = None
    speed_mm_s: int | None = None
    course_cdeg: int | None = None
    dimension: int | None = None
    satellites: int | None = None
    hdop_e2: int | None = None
    pdop_e2: int | None = None
    vdop_e2: int | None = None
    sigma_lat_mm: int | None = None
    sigma_lon_mm: int | None = None
    sigma_alt_mm: int | None = None
    systems: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()
    """`conflict` (sentences disagree on place or validity), `date-carried`, `date-conflict`, `leap-second`,
    `null-island`, `repeated-time`, `time-backwards`, `truncated`, `week-rollover`."""
    raw: tuple[bytes, ...] = ()

    @property
    def usable(self) -> bool:
        """Satellites measured this place."""
        return self.valid and self.method not in NO_PLACE


def weeks_1024_off(utc_ns: int, reference_ns: int, tolerance_ns: int = 400 * DAY_NS) -> int:
    """How many times 1024 weeks the instant is ahead of (above 0) or behind the reference; 0 is none.

    A receiver whose week counter rolled over is 19.6 years off, within what the reference itself may be wrong.
    """
    periods = round((utc_ns - reference_ns) / WEEKS_1024_NS)
    return periods if abs(utc_ns - reference_ns - periods * WEEKS_1024_NS) <= tolerance_ns else 0


def utc_ns_of(day: date, time_ns: int) -> int:
    """The instant since 1970."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND_NS + time_ns


@dataclass(slots=True)
class _Epoch:
    time_ns: int
    messages: list[Message] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)

    def add(self, sentence: Sentence, message: Message) -> None:
        if len(self.raw) >= SENTENCES_MAX:
            self.flags.add("truncated")
        else:
            self.messages.append(message)
            self.raw.append(sentence.raw)


class Epochs:
    """Push sentences with what they say; it gives at most one Fix per push. One receiver per object."""

    def __init__(self) -> None:
        self._open: _Epoch | None = None
        self._waiting: list[tuple[Sentence, Zda | Gst | Gll]] = []
        self._gll_only = True
        self._last_time_ns: int | None = None
        self._known: tuple[date, int] | None = None

    def push(self, sentence: Sentence, message: Message, reference_ns: int | None = None) -> Fix | None:
        """The Fix that this sentence ends. `reference_ns`: about now, to find rolled over weeks."""
        if isinstance(message, Gsa | Vtg):
            if self._open is not None:
                self._open.add(sentence, message)
            return None
        if isinstance(message, Gsv | Unknown):
            return None
        if isinstance(message, Zda | Gst) or (isinstance(message, Gll) and not self._gll_only):
            self._follow(sentence, message)
            return None
        self._gll_only = isinstance(message, Gll)
        time_ns = message.time_ns
        ended = None
        if self._open is None or self._open.time_ns != time_ns or _repeats(self._open, message):
            ended = self.flush(reference_ns)
            self._begin(time_ns)
        if self._open is not None:
            self._open.add(sentence, message)
        return ended

    def flush(self, reference_ns: int | None = None) -> Fix | None:
        """The open epoch as it is: the receiver is silent, or its connection has ended."""
        epoch, self._open = self._open, None
        return None if epoch is None else self._finish(epoch, reference_ns)

    def _begin(self, time_ns: int | None) -> None:
        if time_ns is None:
            return
        self._open = epoch = _Epoch(time_ns)
        for sentence, message in self._waiting:
            if message.time_ns == time_ns:
                epoch.add(sentence, message)
        self._waiting.clear()
        if self._last_time_ns is not None:
            ahead = (time_ns - self._last_time_ns + DAY_NS // 2) % DAY_NS - DAY_NS // 2
            if time_ns == self._last_time_ns:
                epoch.flags.add("repeated-time")
            elif ahead < 0:
                epoch.flags.add("time-backwards")
        self._last_time_ns = time_ns

    def _follow(self, sentence: Sentence, message: Zda | Gst | Gll) -> None:
        if self._open is not None and message.time_ns == self._open.time_ns:
            self._open.add(sentence, message)
        else:
            self._waiting = [*self._waiting[1 - WAITING_MAX :], (sentence, message)]

    def _finish(self, epoch: _Epoch, reference_ns: int | None) -> Fix:
        placed = _placed(epoch.messages)
        valid = _valid(epoch.messages, epoch.flags) and placed is not None
        day = self._date(epoch)
        utc_ns = None if day is None else utc_ns_of(day, epoch.time_ns)
        if epoch.time_ns >= DAY_NS:
            epoch.flags.add("leap-second")
        if utc_ns is not None and reference_ns is not None and weeks_1024_off(utc_ns, reference_ns):
            epoch.flags.add("week-rollover")
        if day is not None and valid:
            self._known = day, epoch.time_ns
        values: dict[str, int | None] = {}
        method = None
        if placed is not None and valid:
            method = _method(epoch.messages)
            values = _movement(epoch.messages) | _place(placed, epoch.messages)
            values |= _errors([one for one in epoch.messages if isinstance(one, Gst)])
            if values["lat_e7"] == 0 == values["lon_e7"]:
                epoch.flags.add("null-island")
        return Fix(
            time_ns=epoch.time_ns,
            date=day,
            utc_ns=utc_ns,
            valid=valid,
            method=method,
            systems=tuple(sorted({one.system for one in epoch.messages if isinstance(one, Gsa) and one.system})),
            flags=tuple(sorted(epoch.flags)),
            raw=tuple(epoch.raw),
            **_precision(epoch.messages),
            **values,
        )

    def _date(self, epoch: _Epoch) -> date | None:
        """From a valid RMC, else ZDA, else a void RMC, else counted on from the last valid fix over midnight."""
        rmc = [one for one in epoch.messages if isinstance(one, Rmc)]
        zda = [one.date for one in epoch.messages if isinstance(one, Zda)]
        said = [*(one.date for one in rmc if one.valid), *zda, *(one.date for one in rmc if not one.valid)]
        given = [day for day in said if day is not None]
        if len(set(given)) > 1:
            epoch.flags.add("date-conflict")
        if given or self._known is None:
            return given[0] if given else None
        day, time_ns = self._known
        epoch.flags.add("date-carried")
        days = round((time_ns - epoch.time_ns) / DAY_NS)
        try:
            return day + timedelta(days=days)
        except OverflowError:
            return None


def _repeats(epoch: _Epoch, message: Message) -> bool:
    """The same sentence again at the same time: the receiver's clock stands still, or it sends twice."""
    talker = message.talker
    return any(type(one) is type(message) and one.talker == talker for one in epoch.messages)


def _placed(messages: list[Message]) -> _Positioned | None:
    """The valid sentence that says most: GGA, then GNS, RMC, GLL; of the same kind the first."""
    for kind in (Gga, Gns, Rmc, Gll):
        for one in messages:
            if isinstance(one, kind) and one.valid:
                return one
    return None


def _valid(messages: list[Message], flags: set[str]) -> bool:
    """RMC and GGA must both have a fix where both speak; several GGA of single systems need one that has."""
    rmc = [one.valid for one in messages if isinstance(one, Rmc)]
    gga = [one.valid for one in messages if isinstance(one, Gga | Gns)]
    gll = [one.valid for one in messages if isinstance(one, Gll)]
    if rmc and gga and all(rmc) != any(gga):
        flags.add("conflict")
    places = [(one.lat_e7, one.lon_e7) for one in messages if isinstance(one, _Positioned) and one.valid]
    for values in zip(*places, strict=True):
        known = [value for value in values if value is not None]
        if max(known) - min(known) > CONFLICT_E7:
            flags.add("conflict")
    return all(rmc) and (any(gga) or not gga) and (bool(rmc or gga) or all(gll))


def _method(messages: list[Message]) -> str:
    """GGA's quality; a letter for what no satellites measured outweighs it. Else the weakest letter said."""
    letters = ""
    for one in messages:
        if isinstance(one, Gns) and one.valid:
            letters += one.modes
        elif isinstance(one, Rmc | Gll) and one.valid:
            letters += one.mode or ""
    said = [letter for letter in _WEAKEST_FIRST if letter in letters]
    if not said or said[0] not in "SME":
        for one in messages:
            if isinstance(one, Gga) and one.valid and one.quality is not None:
                return _QUALITIES.get(one.quality, "unknown")
    return _MODES[said[0]] if said else "autonomous"


def _place(placed: _Positioned, messages: list[Message]) -> dict[str, int | None]:
    values: dict[str, int | None] = {"lat_e7": placed.lat_e7, "lon_e7": placed.lon_e7}
    for one in messages:
        if isinstance(one, Gga | Gns) and one.valid and one.alt_mm is not None:
            return values | {"alt_mm": one.alt_mm, "geoid_mm": one.geoid_mm}
    return values


def _movement(messages: list[Message]) -> dict[str, int | None]:
    for one in sorted(messages, key=lambda one: isinstance(one, Vtg)):
        if isinstance(one, Rmc | Vtg) and one.valid and one.speed_mm_s is not None:
            return {"speed_mm_s": one.speed_mm_s, "course_cdeg": one.course_cdeg}
    return {}


def _precision(messages: list[Message]) -> dict[str, int | None]:
    values: dict[str, int | None] = {}
    for one in messages:
        if isinstance(one, Gga | Gns | Gsa):
            for name in ("hdop_e2", "pdop_e2", "vdop_e2", "dimension"):
                if values.get(name) is None:
                    values[name] = getattr(one, name, None)
            if not isinstance(one, Gsa) and one.satellites is not None:
                # Before NMEA 4 each system sent its own sentence with its own count, at most 12 in one
                values["satellites"] = max(values.get("satellites") or 0, one.satellites)
    return values


def _errors(messages: list[Gst]) -> dict[str, int | None]:
    if not messages:
        return {}
    return {"sigma_lat_mm": messages[0].lat_mm, "sigma_lon_mm": messages[0].lon_mm, "sigma_alt_mm": messages[0].alt_mm}


# ------------------------------------------------------------------------------- satellites in view


@dataclass(frozen=True, slots=True)
class Sky:
    """A complete group of GSV: the satellites of one system and signal."""

    talker: str
    signal: int | None
    satellites: tuple[Satellite, ...]


class Skies:
    """Joins the parts of GSV groups; a group with a part missing or out of order is left out."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int | None], tuple[int, int, tuple[Satellite, ...]]] = {}

    def push(self, part: Gsv) -> Sky | None:
        """The group that this part completes."""
        key = (part.talker, part.signal)
        total, number, satellites = self._parts.pop(key, (part.total, 0, ()))
        if part.number == 1:
            total, number, satellites = part.total, 0, ()
        if part.total != total or part.number != number + 1:
            return None
        satellites += part.satellites
        if part.number == total:
            return Sky(part.talker, part.signal, satellites)
        if len(self._parts) >= GROUPS_MAX:
            del self._parts[next(iter(self._parts))]
        self._parts[key] = (total, part.number, satellites)
        return None
