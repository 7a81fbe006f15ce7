"""Small made-up tracks for the rules: places in metres around an anchor near Pinghu, times after a midnight (GMT+8)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from gateway.core import canonical, kinds
from gateway.core.finding import Judgement
from gateway.rules.book import load_book, records_of
from gateway.rules.geometry import scale
from gateway.rules.judging import Seen, Span, Turn
from gateway.rules.trucks import Trucks
from gateway.rules.window import LATE_QUIET_S

LAT, LON = 307_000_000, 1_210_200_000
MIDNIGHT = 1_781_452_800
"""2026-06-15 00:00 GMT+8, a Monday."""
CLASS = "muck-truck"
PLATE = "浙F12345"
LAW = "测试条例第1条"
H = 3600

NIGHT_LIMIT = {"speed_kmh": 30, "hours": [["22:00", "06:00"]]}
PLACES: tuple[tuple[str, str, tuple[float, float, float, float], dict[str, Any]], ...] = (
    ("site", "site", (-200, -100, 0, 100), {}),
    ("ground", "ground", (5000, -100, 5200, 100), {}),
    ("other", "ground", (8000, -100, 8200, 100), {}),
    ("depot", "depot", (-1000, 2000, -800, 2200), {}),
    ("closed", "no-entry", (2000, 1000, 2400, 1400), {}),
    ("narrow", "no-entry", (3000, 1000, 3060, 1400), {}),
    ("by-day", "no-entry", (2000, 3000, 2400, 3400), {"hours": [["07:00", "19:00"]]}),
    ("slow", "zone", (3000, -300, 3500, 300), {"limits": [NIGHT_LIMIT, {"speed_kmh": 50}]}),
    ("tunnel", "dead-zone", (1500, -60, 1900, 60), {}),
)  # fmt: skip
"""id, kind, (west, south, east, north) in metres, more."""

RULES = f"""
format = "rules/v1"
id = "test"
title = "测试规则"
valid_from = "2026-01-01"
classes = ["{CLASS}"]
[off_route]
source = "{LAW}"
[hours]
source = "{LAW}"
[speeding]
source = "{LAW}"
limit_kmh = 80
uncovered_limit_kmh = 40
[fence]
source = "{LAW}"
[stop]
[dumping]
source = "{LAW}"
[uncovered]
source = "{LAW}"
[offline]
source = "{LAW}"
[frozen_gnss]
[mileage]
[jump]
[duplicate]
"""

PERMIT: dict[str, Any] = {
    "number": "P-1", "firm": "测试公司", "vehicles": [PLATE], "route": ["way"], "width_m": 50,
    "hours": [["20:00", "05:00"]], "sites": ["site"], "grounds": ["ground"], "speed_kmh": 60,
    "valid_from": "2026-06-01", "valid_to": "2026-06-30",
}  # fmt: skip


def at(east_m: float, north_m: float) -> tuple[int, int]:
    """lat_e7, lon_e7 of a place in metres from the anchor."""
    east, north = scale(LAT)
    return LAT + round(north_m / north), LON + round(east_m / east)


def ring(box: tuple[float, float, float, float]) -> list[list[float]]:
    west, south, east, north = box
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return [[lon / 1e7, lat / 1e7] for lat, lon in (at(*corner) for corner in corners)]


def geojson(places: Iterable[tuple[str, str, tuple[float, float, float, float], dict[str, Any]]] = PLACES) -> bytes:
    features = [
        {
            "type": "Feature",
            "properties": {"id": name, "kind": kind, "name": f"{name} 地", **more},
            "geometry": {"type": "Polygon", "coordinates": [ring(box)]},
        }
        for name, kind, box, more in places
    ]
    way = [[lon / 1e7, lat / 1e7] for lat, lon in (at(east, 0) for east in range(-100, 5101, 400))]
    features.append(
        {
            "type": "Feature",
            "properties": {"id": "way", "kind": "route", "name": "测试线"},
            "geometry": {"type": "LineString", "coordinates": way},
        }
    )
    return json.dumps({"type": "FeatureCollection", "datum": "WGS-84", "features": features}).encode()


def permits(*tables: Mapping[str, Any]) -> bytes:
    text = 'format = "permits/v1"\n'
    for table in tables:
        text += "[[permit]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    return text.encode()


def files(rules: str = RULES, *tables: Mapping[str, Any]) -> dict[str, bytes]:
    """A rule book; without `tables` it holds PERMIT."""
    found = {"rules.toml": rules.encode(), "permits.toml": permits(*(tables or (PERMIT,))), "places.geojson": geojson()}
    load_book(found)
    return found


def fix(time_s: int, east_m: float, north_m: float = 0, kmh: float | None = 40, **more: Any) -> dict[str, Any]:
    """One fix, `time_s` after midnight; keys that are None are left out."""
    lat, lon = at(east_m, north_m)
    values = {
        "time_utc_s": MIDNIGHT + time_s, "lat_e7": lat, "lon_e7": lon, "sigma_m": 5, "acc": True, "load": "full",
        "cover": "closed", "lift": "flat", "speed_kmh_e1": None if kmh is None else round(kmh * 10), **more,
    }  # fmt: skip
    return {key: value for key, value in values.items() if value is not None}


def drive(
    start_s: int, *corners: tuple[float, float], kmh: float = 36, step_s: int = 10, **more: Any
) -> list[dict[str, Any]]:
    """Fixes along a way of corners (east, north) in metres, at a steady speed, every `step_s`."""
    way_m = [0.0]
    for (east_a, north_a), (east_b, north_b) in pairwise(corners):
        way_m.append(way_m[-1] + ((east_b - east_a) ** 2 + (north_b - north_a) ** 2) ** 0.5)
    found: list[dict[str, Any]] = []
    number, metres = 0, 0.0
    while metres <= way_m[-1] + 1e-6:
        leg = max(n for n in range(len(corners) - 1) if way_m[n] <= metres + 1e-9)
        share = (metres - way_m[leg]) / (way_m[leg + 1] - way_m[leg])
        east = corners[leg][0] + share * (corners[leg + 1][0] - corners[leg][0])
        north = corners[leg][1] + share * (corners[leg + 1][1] - corners[leg][1])
        found.append(fix(start_s + number * step_s, east, north, kmh, **more))
        number += 1
        metres += kmh / 3.6 * step_s
    return found


def stand(start_s: int, for_s: int, east_m: float, north_m: float = 0, step_s: int = 10, **more: Any) -> list[Any]:
    """Fixes at one place, scattered by a metre or two."""
    return [
        fix(time_s, east_m + (time_s // step_s) % 3 - 1, north_m + (time_s // step_s) % 2, 0, **more)
        for time_s in range(start_s, start_s + for_s, step_s)
    ]


class Ledger:
    """A journal and what the judge says of it, as the service would store it."""

    def __init__(self, book: Mapping[str, bytes] | None = None, judge: Trucks | None = None) -> None:
        self.judge = judge or Trucks()
        self.records: list[Seen] = []
        self.known: dict[tuple[str, str, int, str, str], Judgement] = {}
        self.now_s = MIDNIGHT - 30 * 86_400
        self.load(files() if book is None else book)

    def load(self, book: Mapping[str, bytes], arrival_s: int | None = None) -> None:
        """A rule book comes into force."""
        for draft in records_of(book):
            self.add(draft.kind, draft.source, draft.device, draft.data, arrival_s, draft.raw)

    def add(
        self, kind: str, source: str, device: str, data: Mapping[str, Any], arrival_s: int | None = None,
        raw: bytes | None = None,
    ) -> int:  # fmt: skip
        """A record; its seq."""
        self.now_s = max(self.now_s, MIDNIGHT - 30 * 86_400 if arrival_s is None else MIDNIGHT + arrival_s)
        seen = Seen(len(self.records), kind, source, device, self.now_s * 10**9, data, raw)
        self.records.append(seen)
        self.judge.accept(seen)
        return seen.seq

    def live(self, fixes: Iterable[Mapping[str, Any]], device: str = "T1", plate: str = PLATE, late_s: int = 1) -> None:
        """Fixes as they come, one record each."""
        for one in fixes:
            arrival_s = one["time_utc_s"] - MIDNIGHT + late_s if "time_utc_s" in one else None
            self.add(kinds.POSITION, "trackers", device, {"class": CLASS, "plate": plate, **one}, arrival_s)

    def batch(self, fixes: Sequence[Mapping[str, Any]], arrival_s: int, device: str = "T1", plate: str = PLATE) -> None:
        """Fixes that were stored, in one record."""
        data = {"class": CLASS, "plate": plate, "fixes": list(fixes), "backfill": True}
        self.add(kinds.POSITION, "trackers", device, data, arrival_s)

    def state(self, arrival_s: int, state: str, reason: str = "", device: str = "T1", **more: Any) -> int:
        """What became of the terminal."""
        data = {"class": CLASS, "plate": PLATE, "state": state, "reason": reason, **more}
        return self.add(kinds.DEVICE_STATE, "trackers", device, data, arrival_s)

    def due(self, after_s: int | None = None) -> Turn:
        """Ask the judge, as of the newest record or of a time after midnight, and keep what it says."""
        now_s = self.now_s if after_s is None else MIDNIGHT + after_s
        return self.take(self.judge.due(now_s * 10**9))

    def end(self) -> None:
        """The journal ends here, as of the newest record: nothing is waited for."""
        for _ in range(2):
            self.take(self.judge.at_end(self.now_s * 10**9))

    def take(self, turn: Turn) -> Turn:
        """Keep what the judge says, and answer what it wants to know."""
        for span in turn.spans:
            self.keep(span)
        for want in turn.wants:
            found = [
                seen
                for seen in self.records
                if (seen.source, seen.device) == (want.source, want.device)
                and seen.arrival_utc_ns >= want.from_arrival_utc_ns
            ]
            self.keep(self.judge.history(want, found))
        return turn

    def keep(self, span: Span) -> None:
        """As a service does: what is not listed any more is withdrawn."""
        for key in [key for key in self.known if key[:2] == (span.source, span.device)]:
            if span.from_utc_s <= key[2] < span.to_utc_s:
                del self.known[key]
        for one in span.judgements:
            assert span.from_utc_s <= one.start_utc_s < span.to_utc_s
            canonical.encode(one.to_json())
            self.known[span.source, span.device, one.start_utc_s, one.rule, one.subject] = one

    def findings(self, after_s: int | None = None) -> list[Judgement]:
        """Everything that stands, by device, time and rule."""
        self.due(after_s)
        return [self.known[key] for key in sorted(self.known)]

    def rules(self, after_s: int | None = None) -> list[str]:
        """Names of the rules of all findings."""
        return [one.rule for one in self.findings(after_s)]

    def bytes(self, after_s: int | None = None) -> bytes:
        """Canonical bytes of all findings."""
        return canonical.encode([one.to_json() for one in self.findings(after_s)])


def found(
    fixes: Iterable[Mapping[str, Any]], book: Mapping[str, bytes] | None = None, plate: str = PLATE
) -> list[Judgement]:
    """What is found in fixes that come in order, when nothing that was stored can still come."""
    ledger = Ledger(book)
    ledger.live(fixes, plate=plate)
    return ledger.findings(ledger.now_s - MIDNIGHT + LATE_QUIET_S)


def only(rule: str, findings: Iterable[Judgement]) -> list[Judgement]:
    """Those of one rule."""
    return [one for one in findings if one.rule == rule]


def without_seqs(item: Judgement) -> dict[str, Any]:
    """A finding as it is, wherever its records lie."""
    shape = item.to_json()
    shape["inputs"] = len(shape["inputs"])
    shape["peak"].pop("seq", None)
    return shape
