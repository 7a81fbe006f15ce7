"""Kitchens: which devices watch which place, what it has, when it is open, and which limit holds there from when on.

A file of format kitchens/v1 is of one town or street: its [[limit]] tables say which local limit holds there when; a
kitchen may have a limit of its own. Numbers of people (mg/m3, A) become integers times 10^6 when the file is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, inspect

from gateway.core.readings import SCALE, micro
from gateway.rules.notes import Notes
from gateway.rules.tables import Id, Table, Text
from gateway.rules.windows import DATE, ZONE, Hours, Weekday, hours_of, validity, zone_s
from gateway.toml_check import Check, shown
from gateway.toml_lines import Path

KITCHENS_MAX: Final = 10_000
DEVICES_MAX: Final = 16
"""Of one kitchen."""
LIMITS_MAX: Final = 100
"""Local limits of one file."""
STOVE_FLOW_M3_H: Final = 2000
"""Base air volume of one stove, GB 18483-2001 clause 6.6; it is the standard's number, not a threshold."""

LimitMgM3 = Annotated[float, Meta(ge=0.05, le=50)]
_Amperes = Annotated[float, Meta(ge=0, le=1000)]


class LimitTable(Table, frozen=True, kw_only=True):
    """One [[limit]]: the local limit of all kitchens of the file."""

    limit_mg_m3: LimitMgM3
    source: Text
    """The standard that sets it, as it is to stand in the finding."""
    valid_from: Annotated[str, DATE] = ""
    valid_to: Annotated[str, DATE] = ""


class KitchenTable(Table, frozen=True, kw_only=True):
    """One [[kitchen]]."""

    id: Id
    name: Text
    address: str = ""
    firm: str = ""
    devices: list[Text]
    stoves: Annotated[int, Meta(ge=1, le=100)] | None = None
    fan_flow_m3_h: Annotated[int, Meta(ge=100, le=1_000_000)] | None = None
    hours: list[list[str]] = msgspec.field(default_factory=list)
    weekdays: list[Weekday] = msgspec.field(default_factory=list)
    limit_mg_m3: LimitMgM3 | None = None
    limit_source: str = ""
    purifier_band_a: list[_Amperes] = msgspec.field(default_factory=list)
    fan_on_a: _Amperes | None = None
    purifier_on_a: _Amperes | None = None
    interval_s: Annotated[int, Meta(ge=1, le=3600)] | None = None
    calibrated_until: Annotated[str, DATE] = ""
    valid_from: Annotated[str, DATE] = ""
    valid_to: Annotated[str, DATE] = ""


class KitchensTable(Table, frozen=True, kw_only=True):
    """A whole file of format kitchens/v1."""

    format: Literal["kitchens/v1"]
    title: str = ""
    zone: Annotated[str, ZONE] = "+08:00"
    limit: list[LimitTable] = msgspec.field(default_factory=list)
    kitchen: list[KitchenTable] = msgspec.field(default_factory=list)


KITCHEN_SCHEMA: Final = inspect.type_info(KitchenTable)
SCHEMA: Final = inspect.type_info(KitchensTable)


@dataclass(frozen=True, slots=True)
class LocalLimit:
    """The limit of a place from when to when."""

    limit_e6: int
    """mg/m3 times 10^6."""
    source: str
    from_utc_s: int
    to_utc_s: int


@dataclass(frozen=True, slots=True)
class Kitchen:
    """One kitchen, ready to ask. Numbers that end in _e6 are times 10^6."""

    id: str
    name: str
    address: str
    firm: str
    devices: tuple[str, ...]
    """"source/device", or a device of whatever source."""
    stoves: int | None
    """Base stoves; None: nothing is converted to the base air volume."""
    fan_flow_m3_h: int | None
    """Air that the fan moves, where the monitor does not measure it."""
    hours: Hours
    """Business hours; without windows: always."""
    limit_e6: int | None
    """mg/m3; its own, before the file's and the rule set's."""
    limit_source: str
    limits: tuple[LocalLimit, ...]
    """Those of its file."""
    band_e6: tuple[int, int] | None
    """A; lowest and highest current of its purifier while it runs. None: learnt from earlier days."""
    fan_on_e6: int | None
    """A; from here on the fan runs. None: as the rule set says."""
    purifier_on_e6: int | None
    interval_s: int | None
    """Reporting interval of its devices. None: as the rule set says."""
    calibrated_until_utc_s: int | None
    """First second after the last day of the calibration."""
    from_utc_s: int
    to_utc_s: int
    file: str

    def in_force(self, utc_s: int) -> bool:
        """Whether it is listed at that second."""
        return self.from_utc_s <= utc_s < self.to_utc_s

    def limit(self, utc_s: int) -> tuple[int, str] | None:
        """(mg/m3 times 10^6, by which standard) by its own entry or its file's; None: neither says."""
        if self.limit_e6 is not None:
            return self.limit_e6, self.limit_source
        for one in self.limits:
            if one.from_utc_s <= utc_s < one.to_utc_s:
                return one.limit_e6, one.source
        return None


def read(document: dict[str, Any], notes: Notes) -> list[tuple[Kitchen, Path]]:
    """The kitchens of a TOML document, each with where it stands. Mistakes go to `notes`."""
    check = Check(notes.file, notes.lines, SCHEMA)
    tables = document.get("kitchen", [])
    head = check.value({**document, "kitchen": tables if not isinstance(tables, list) else []}, SCHEMA, ())
    offset_s = zone_s(head.get("zone") or "+08:00")
    if not isinstance(tables, list) or len(tables) > KITCHENS_MAX:
        if isinstance(tables, list):
            check.note(("kitchen",), f"more than {KITCHENS_MAX} kitchens; divide the file")
        tables = []
    limits = (
        ()
        if check.problems
        else _limits(msgspec.convert(head["limit"], list[LimitTable]), offset_s, notes)
        if head.get("limit")
        else ()
    )
    found: list[tuple[Kitchen, Path]] = []
    for index, table in enumerate(tables):
        path: Path = ("kitchen", index)
        before = len(check.problems)
        values = check.value(table, KITCHEN_SCHEMA, path)
        if len(check.problems) == before:
            found.append((_kitchen(msgspec.convert(values, KitchenTable), offset_s, limits, path, notes), path))
    notes.errors += check.problems
    return found


def _limits(tables: list[LimitTable], offset_s: int, notes: Notes) -> tuple[LocalLimit, ...]:
    if len(tables) > LIMITS_MAX:
        notes.error(("limit",), f"more than {LIMITS_MAX} limits")
    found: list[LocalLimit] = []
    for index, table in enumerate(tables[:LIMITS_MAX]):
        start, end, problem = validity(table.valid_from, table.valid_to, offset_s)
        if problem:
            notes.error(("limit", index, "valid_to" if table.valid_to else "valid_from"), problem)
        if any(start < one.to_utc_s and one.from_utc_s < end for one in found):
            notes.error(("limit", index), "overlaps an earlier limit of this file; end one before the other begins")
        found.append(LocalLimit(e6(table.limit_mg_m3), table.source, start, end))
    return tuple(found)


def _kitchen(table: KitchenTable, offset_s: int, limits: tuple[LocalLimit, ...], path: Path, notes: Notes) -> Kitchen:
    start, end, problem = validity(table.valid_from, table.valid_to, offset_s)
    if problem:
        notes.error((*path, "valid_to" if table.valid_to else "valid_from"), problem)
    _zero, until, problem = validity("", table.calibrated_until, offset_s)
    if problem:
        notes.error((*path, "calibrated_until"), problem)
    hours, problems = hours_of(table.hours, table.weekdays, offset_s)
    for problem in problems:
        notes.error((*path, "hours"), problem)
    if not 0 < len(table.devices) <= DEVICES_MAX:
        notes.error((*path, "devices"), f"expected 1 to {DEVICES_MAX} devices, found {len(table.devices)}")
    for name in sorted({item for item in table.devices if table.devices.count(item) > 1}):
        notes.error((*path, "devices"), f"names {shown(name)} twice")
    band = tuple(e6(value) for value in table.purifier_band_a)
    if band and (len(band) != 2 or band[0] >= band[1]):
        notes.error((*path, "purifier_band_a"), "expected the lowest and the highest current, [0.8, 2.5]")
        band = ()
    if table.limit_mg_m3 is not None and not table.limit_source:
        notes.error((*path, "limit_source"), "missing; a limit of its own says by which standard or order")
    if table.limit_mg_m3 is None and table.limit_source:
        notes.warn((*path, "limit_source"), "a source without limit_mg_m3; nothing rests on it")
    if table.fan_flow_m3_h is not None and table.stoves is None:
        notes.warn((*path, "fan_flow_m3_h"), "a flow without stoves; nothing is converted")
    return Kitchen(
        table.id, table.name, table.address, table.firm, tuple(table.devices), table.stoves, table.fan_flow_m3_h,
        hours, _maybe(table.limit_mg_m3), table.limit_source, limits, (band[0], band[1]) if band else None,
        _maybe(table.fan_on_a), _maybe(table.purifier_on_a), table.interval_s,
        until if table.calibrated_until else None, start, end, notes.file,
    )  # fmt: skip


def e6(value: float) -> int:
    """A number of a file times 10^6: exact for what people write, at most six decimals count."""
    found = micro(repr(value) if "e" not in repr(value) else f"{value:.12f}")
    return round(value * SCALE) if found is None else found


def _maybe(value: float | None) -> int | None:
    return None if value is None else e6(value)


class Kitchens:
    """All kitchens of a book by device."""

    def __init__(self, kitchens: Iterable[Kitchen]) -> None:
        self.all = tuple(kitchens)
        self._by_device: dict[str, list[Kitchen]] = {}
        for kitchen in self.all:
            for device in kitchen.devices:
                self._by_device.setdefault(device, []).append(kitchen)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kitchens) and self.all == other.all

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.all)

    def of(self, source: str, device: str) -> tuple[Kitchen, ...]:
        """Every entry that names the device, "source/device" before the device alone, in the order of the files."""
        return (*self._by_device.get(f"{source}/{device}", ()), *self._by_device.get(device, ()))

    def doubles(self) -> list[tuple[Kitchen, Kitchen, str]]:
        """Devices that two kitchens name for the same time."""
        found: list[tuple[Kitchen, Kitchen, str]] = []
        for device, kitchens in self._by_device.items():
            ordered = sorted(kitchens, key=lambda one: one.from_utc_s)
            found += [(a, b, device) for a, b in pairwise(ordered) if b.from_utc_s < a.to_utc_s]
        return found
