"""From a case to what is told of it: limits, measurements, place, and one line of text in two languages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.core.finding import Judgement, Severity
from gateway.rules.cases import Case, State
from gateway.rules.places import Place
from gateway.rules.rule_set import limits
from gateway.rules.tables import Table
from gateway.rules.terms import Corridor, Terms
from gateway.rules.track import Moment
from gateway.rules.windows import DAY_S

if TYPE_CHECKING:
    from gateway.rules.vehicle import Fold

POINTS_MAX: Final = 256
"""Of the geometry in a finding."""
AROUND_SEGMENTS: Final = 60
"""Segments of a route before and after the worst place that a finding shows."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule says of a case."""

    rule: Table | None
    severity: Severity
    en: str
    zh: str
    measured: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Beside those of the rule's table."""
    peak: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] = field(default_factory=dict)
    permit: str = ""
    subject: str = ""
    """See core.finding.Judgement."""


class Event(NamedTuple):
    """When something was, and by which records."""

    start_s: int
    end_s: int | None
    """None while it lasts."""
    inputs: tuple[int, ...]
    worst: Moment | None
    left_out: int = 0


Teller = Callable[["Fold", Case, Terms, bool], Told]
"""(fold, case, its terms, whether it is over)."""


def judgement(fold: Fold, case: Case, end_s: int | None, teller: Teller) -> Judgement:
    """The finding of a case: as it stands when it becomes certain (end None), or when it is over."""
    terms = fold.terms_of(case.book, case.who, case.start_s)
    assert terms is not None  # noqa: S101 - a case began under terms
    told = teller(fold, case, terms, end_s is not None)
    inputs, left_out = fold.inputs(case)
    measured: dict[str, Any] = {
        "duration_s": case.last_s - case.start_s, "fixes": case.fixes, "distance_m": round(case.metres),
        **known(fold.state, case.last_s), **told.measured,
    }  # fmt: skip
    return assemble(fold, terms, case.rule, told, Event(case.start_s, end_s, inputs, case.worst, left_out), measured)


def assemble(fold: Fold, terms: Terms, name: str, told: Told, event: Event, measured: Mapping[str, Any]) -> Judgement:
    """A finding from its parts."""
    worst = event.worst
    peak: dict[str, Any] = dict(told.peak)
    if worst is not None:
        peak |= {"time_utc_s": worst.time_s, "seq": worst.seq}
        if worst.lat_e7 or worst.lon_e7:
            peak |= {"lat_e7": worst.lat_e7, "lon_e7": worst.lon_e7, "sigma_m": worst.sigma_m}
    return Judgement(
        rule=name,
        severity=told.severity,
        source=fold.source,
        device=fold.device,
        plate=terms.plate,
        firm=terms.firm,
        start_utc_s=event.start_s,
        end_utc_s=event.end_s,
        inputs=event.inputs,
        book_sha256=terms.book_sha256,
        book_seq=terms.book_seq,
        rule_set=terms.rules.id,
        legal_source=str(getattr(told.rule, "source", "")),
        permit=told.permit,
        limits={**(limits(told.rule) if told.rule is not None else {}), **told.limits},
        measured=measured,
        peak=peak,
        geometry=told.geometry,
        text={"en": told.en, "zh": told.zh},
        inputs_left_out=event.left_out,
        subject=told.subject,
    )


def known(state: State, until_s: int) -> dict[str, int]:
    """How much of the trip, up to now, fixes tell of: of its time and of its distance, in thousandths."""
    trip = state.trip
    if trip is None:
        return {}
    span_s = (trip.end_s or max(until_s, state.now_s)) - trip.start_s
    whole_m = trip.metres + trip.gap_m
    return {
        "trip_start_utc_s": trip.start_s,
        "trip_known_time_permille": min(1000, trip.known_s * 1000 // span_s) if span_s > 0 else 1000,
        "trip_known_distance_permille": int(1000 * (trip.metres / whole_m)) if whole_m >= 1 else 1000,
    }


def clock(terms: Terms, utc_s: int) -> str:
    """Local time of day, HH:MM:SS."""
    second = (utc_s + terms.rules.zone_s) % DAY_S
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def kmh(speed_e1: int) -> str:
    """423 -> "42.3"."""
    return f"{speed_e1 // 10}.{speed_e1 % 10}"


def lasting(seconds: int) -> tuple[str, str]:
    """A duration in English and Chinese: 75 -> ("75 s", "75秒"), 7200 -> ("120 min", "120分钟")."""
    if seconds < 180:
        return f"{seconds} s", f"{seconds}秒"
    return f"{seconds // 60} min", f"{seconds // 60}分钟"


def place_shape(place: Place) -> dict[str, Any]:
    """The outline of a place; of a very long one every n-th corner, and `left_out` says how many are not there."""
    shape = place.geometry()
    polygons = [shape["coordinates"]] if shape["type"] == "Polygon" else shape["coordinates"]
    points = sum(len(ring) for rings in polygons for ring in rings)
    if points <= POINTS_MAX:
        return shape
    every = -(-points // POINTS_MAX)
    thinned = [[[*ring[:-1:every], ring[0]] for ring in rings] for rings in polygons]
    kept = sum(len(ring) for rings in thinned for ring in rings)
    shape["coordinates"] = thinned[0] if shape["type"] == "Polygon" else thinned
    return {**shape, "left_out": points - kept}


def corridor_shape(corridor: Corridor, lat_e7: int, lon_e7: int) -> dict[str, Any]:
    """The piece of a route around a place, [lon_e7, lat_e7], with its width to each side."""
    line = corridor.route.line
    nearest = line.nearest(lat_e7, lon_e7).segment
    first, end = max(nearest - AROUND_SEGMENTS, 0), nearest + AROUND_SEGMENTS + 1
    pieces: list[list[list[int]]] = []
    for lon, lat, d_lon, d_lat, _index in line.segments[first:end]:
        if pieces and pieces[-1][-1] == [lon, lat]:
            pieces[-1].append([lon + d_lon, lat + d_lat])
        else:
            pieces.append([[lon, lat], [lon + d_lon, lat + d_lat]])
    named = {"id": corridor.route.id, "name": corridor.route.name, "width_m": corridor.width_m}
    if len(pieces) == 1:
        return {"type": "LineString", "coordinates": pieces[0], **named}
    return {"type": "MultiLineString", "coordinates": pieces, **named}
