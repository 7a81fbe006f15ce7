"""Permits: which vehicle of which firm may drive which route at which hours, to which sites and grounds, until when."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, inspect

from gateway.rules.notes import Notes
from gateway.rules.tables import Id, Text
from gateway.rules.windows import DATE, DAY_S, ZONE, Hours, Weekday, hours_of, validity, zone_s
from gateway.toml_check import Check, shown
from gateway.toml_lines import Path

PERMITS_MAX: Final = 10_000
VEHICLES_MAX: Final = 5000
"""Of one permit."""


class PermitTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One [[permit]]."""

    number: Text
    firm: Text
    vehicles: list[Text]
    route: list[Id] = []
    width_m: Annotated[int, Meta(ge=1, le=1000)] | None = None
    hours: list[list[str]] = []
    weekdays: list[Weekday] = []
    sites: list[Id] = []
    grounds: list[Id] = []
    speed_kmh: Annotated[int, Meta(ge=1, le=200)] | None = None
    valid_from: Annotated[str, DATE]
    valid_to: Annotated[str, DATE]
    issued_by: str = ""
    source: str = ""


class PermitsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file of format permits/v1."""

    format: Literal["permits/v1"]
    title: str = ""
    zone: Annotated[str, ZONE] = "+08:00"
    permit: list[PermitTable] = []


PERMIT_SCHEMA: Final = inspect.type_info(PermitTable)
SCHEMA: Final = inspect.type_info(PermitsTable)


@dataclass(frozen=True, slots=True)
class Permit:
    """One permit, ready to ask."""

    number: str
    firm: str
    vehicles: tuple[str, ...]
    """Plates as `plate_key` writes them."""
    routes: tuple[str, ...]
    """Ids; the way is free where there is none."""
    width_m: int | None
    """To each side of the route."""
    hours: Hours
    """Without windows: at any hour, unless the rule set says otherwise."""
    sites: tuple[str, ...]
    grounds: tuple[str, ...]
    speed_kmh: int | None
    valid_from: str
    valid_to: str
    """Last day."""
    from_utc_s: int
    to_utc_s: int
    """End of the last day; a window that begins on it runs on to its own end."""
    issued_by: str
    source: str
    file: str

    def in_force(self, utc_s: int) -> bool:
        """From the first to the last day, and in a window that began on the last day."""
        if self.from_utc_s <= utc_s < self.to_utc_s:
            return True
        if not self.to_utc_s <= utc_s < self.to_utc_s + DAY_S:
            return False
        return self.hours.open_since((self.to_utc_s + self.hours.zone_s) // DAY_S - 1, utc_s)


def plate_key(plate: str) -> str:
    """A plate as it is looked up, without spaces, dots and hyphens, in narrow capitals: "浙f·12345" → "浙F12345"."""
    return re.sub(r"[\s·•.\-_]+", "", unicodedata.normalize("NFKC", plate)).upper()


_PLATE: Final = re.compile(r"[\u4e00-\u9fff][A-Z][A-HJ-NP-Z0-9]{4,6}[A-HJ-NP-Z0-9挂学警领港澳]")


def read(document: dict[str, Any], notes: Notes) -> list[tuple[Permit, Path]]:
    """The permits of a TOML document, each with where it stands. Mistakes go to `notes`."""
    check = Check(notes.file, notes.lines, SCHEMA)
    tables = document.get("permit", [])
    head = {**document, "permit": tables if not isinstance(tables, list) else []}
    zone = check.value(head, SCHEMA, ()).get("zone") or "+08:00"
    found: list[tuple[Permit, Path]] = []
    if not isinstance(tables, list) or len(tables) > PERMITS_MAX:
        if isinstance(tables, list):
            check.note(("permit",), f"more than {PERMITS_MAX} permits; divide the file")
        tables = []
    for index, table in enumerate(tables):
        path: Path = ("permit", index)
        before = len(check.problems)
        route = table.get("route") if isinstance(table, dict) else None
        values = check.value({**table, "route": [route]} if isinstance(route, str) else table, PERMIT_SCHEMA, path)
        if len(check.problems) == before:
            found.append((_permit(msgspec.convert(values, PermitTable), zone_s(zone), path, notes), path))
    notes.errors += check.problems
    return found


def _permit(table: PermitTable, offset_s: int, path: Path, notes: Notes) -> Permit:
    start, end, problem = validity(table.valid_from, table.valid_to, offset_s)
    if not table.valid_from or not table.valid_to:
        problem = 'a permit has a first and a last day, "YYYY-MM-DD"'
    if problem:
        notes.error((*path, "valid_to" if table.valid_from else "valid_from"), problem)
    hours, problems = hours_of(table.hours, table.weekdays, offset_s)
    for problem in problems:
        notes.error((*path, "hours"), problem)
    plates = tuple(plate_key(plate) for plate in table.vehicles)
    if not plates:
        notes.error((*path, "vehicles"), "names no vehicle")
    if len(plates) > VEHICLES_MAX:
        notes.error((*path, "vehicles"), f"more than {VEHICLES_MAX} vehicles")
    seen: set[str] = set()
    for index, plate in enumerate(plates):
        if plate in seen:
            notes.error((*path, "vehicles", index), f"{plate} stands twice in this permit")
        elif not _PLATE.fullmatch(plate):
            notes.warn((*path, "vehicles", index), f"{shown(plate)} does not look like a plate")
        seen.add(plate)
    if table.width_m is not None and not table.route:
        notes.warn((*path, "width_m"), "a width without a route; nothing is measured against it")
    return Permit(
        table.number, table.firm, plates, tuple(table.route), table.width_m, hours, tuple(table.sites),
        tuple(table.grounds), table.speed_kmh, table.valid_from, table.valid_to, start, end, table.issued_by,
        table.source, notes.file,
    )  # fmt: skip


class Permits:
    """All permits of a book by plate."""

    def __init__(self, permits: Iterable[Permit]) -> None:
        self.all = tuple(permits)
        self._by_plate: dict[str, list[Permit]] = {}
        for permit in self.all:
            for plate in permit.vehicles:
                self._by_plate.setdefault(plate, []).append(permit)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Permits) and self.all == other.all

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.all)

    def of(self, plate: str) -> tuple[Permit, ...]:
        """Every permit that names the vehicle, in the order of the files; `plate` as `plate_key` writes it."""
        return tuple(self._by_plate.get(plate, ()))

    def in_force(self, plate: str, utc_s: int) -> tuple[Permit, ...]:
        """Those of them in force at that second."""
        return tuple([permit for permit in self._by_plate.get(plate, ()) if permit.in_force(utc_s)])
