"""The rule book: rule sets, permits, places and routes of one folder, as one value with one hash.

Files come as bytes and are what counts: the same bytes give an equal book anywhere. `pack` puts them into one piece
that a `rules.book` record holds, so that a replay and an exported bundle need nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final
from weakref import WeakValueDictionary

from gateway.core.datum import CONVERTER
from gateway.core.errors import ConfigError, IntegrityError, Problem, ProtocolMisuse
from gateway.core.kinds import RULES_BOOK
from gateway.core.record import Draft
from gateway.rules import kitchens as kitchens_files
from gateway.rules import permits as permits_files
from gateway.rules import places as places_files
from gateway.rules import rule_set as rule_files
from gateway.rules.geometry import Cells
from gateway.rules.kitchens import Kitchen, Kitchens
from gateway.rules.notes import Lines, Notes
from gateway.rules.permits import Permit, Permits, plate_key
from gateway.rules.places import Place, Places, Route
from gateway.rules.rule_set import RuleSet
from gateway.toml_check import decoded, shown
from gateway.toml_check import document as toml_document
from gateway.toml_lines import Path, key_lines

FILES_MAX: Final = 200
TOTAL_MAX_BYTES: Final = 8_388_608
PACK_PART_BYTES: Final = 180_000
"""Of a packed book in one record."""
NAME: Final = re.compile(r"[^/\\.][^/\\]{0,80}\.(toml|geojson)")


@dataclass(frozen=True, slots=True)
class BookFile:
    """One file of a book."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Book:
    """Everything that judges are given to judge by. Two books of the same files are equal."""

    sha256: str
    files: tuple[BookFile, ...]
    rule_sets: tuple[RuleSet, ...]
    permits_all: Permits
    kitchens: Kitchens
    places: Places
    routes: Mapping[str, Route]
    warnings: tuple[Problem, ...]
    """Usable, but perhaps not what was meant."""
    _by_class: Mapping[str, Sequence[RuleSet]] = field(compare=False, repr=False)

    def rule_set(self, device_class: str, utc_s: int) -> RuleSet | None:
        """The set in force for a class of devices at that second."""
        for rules in self._by_class.get(device_class, ()):
            if rules.from_utc_s <= utc_s < rules.to_utc_s:
                return rules
        return None

    def permits(self, plate: str, utc_s: int) -> tuple[Permit, ...]:
        """Permits in force for a vehicle at that second, in the order of the files."""
        return self.permits_all.in_force(plate_key(plate), utc_s)

    def kitchen_of(self, source: str, device: str, utc_s: int | None = None) -> Kitchen | None:
        """The kitchen that a device watches at that second; without it the first that names the device."""
        for kitchen in self.kitchens.of(source, device):
            if utc_s is None or kitchen.in_force(utc_s):
                return kitchen
        return None

    def place(self, place_id: str) -> Place | None:
        """By id."""
        return self.places.by_id.get(place_id)

    def route(self, route_id: str) -> Route | None:
        """By id."""
        return self.routes.get(route_id)


def is_name(name: str) -> bool:
    """Whether a file of a rule book may be called so."""
    return NAME.fullmatch(name) is not None and name.isprintable()


def book_sha256(files: Mapping[str, bytes]) -> str:
    """SHA-256 of the sorted lines "sha256  name": `sha256sum * | LC_ALL=C sort | sha256sum` in the folder."""
    lines = sorted(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


_in_use: Final[WeakValueDictionary[str, Book]] = WeakValueDictionary()
"""Books that somebody holds, by hash: who watches the folder and who judges share one, and it is read once."""


def load_book(files: Mapping[str, bytes]) -> Book:
    """Read a book. Raises ConfigError with every problem: file, line, key, what was expected."""
    try:
        sha256 = book_sha256(files)
    except UnicodeEncodeError:
        return _load(files, "")  # it says which name is none
    book = _in_use.get(sha256)
    if book is None:
        _in_use[sha256] = book = _load(files, sha256)
    return book


def _load(files: Mapping[str, bytes], sha256: str) -> Book:
    reading = _Reading()
    reading.names(files)
    for name in sorted(files):
        try:
            reading.file(name, files[name])
        except ConfigError as error:
            reading.errors += error.problems
    reading.compare()
    if reading.errors:
        raise ConfigError(sorted(reading.errors, key=lambda problem: (problem.file, problem.line)))
    by_class: dict[str, list[RuleSet]] = {}
    for rules, _notes in reading.rule_sets:
        for device_class in rules.classes:
            by_class.setdefault(device_class, []).append(rules)
    return Book(
        sha256=sha256,
        files=tuple(
            BookFile(name, len(files[name]), hashlib.sha256(files[name]).hexdigest()) for name in sorted(files)
        ),
        rule_sets=tuple(rules for rules, _notes in reading.rule_sets),
        permits_all=Permits(permit for permit, _notes, _path in reading.permits),
        kitchens=Kitchens(kitchen for kitchen, _notes, _path in reading.kitchens),
        places=Places((place for place, _notes, _path in reading.places), reading.cells),
        routes={route.id: route for route, _notes, _path in reading.routes},
        warnings=tuple(problem for notes in reading.notes for problem in notes.warnings),
        _by_class=by_class,
    )


class _Reading:
    """Files to their contents, with all that is wrong."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.cells = Cells()
        self.rule_sets: list[tuple[RuleSet, Notes]] = []
        self.permits: list[tuple[Permit, Notes, Path]] = []
        self.kitchens: list[tuple[Kitchen, Notes, Path]] = []
        self.places: list[tuple[Place, Notes, Path]] = []
        self.routes: list[tuple[Route, Notes, Path]] = []
        self.notes: list[Notes] = []
        self._drawn_whole = True

    def names(self, files: Mapping[str, bytes]) -> None:
        """Before anything is read: names, number and size."""
        for name in sorted(files):
            if not is_name(name):
                self.errors.append(Problem(ascii(name), 0, "", "expected a name that ends in .toml or .geojson"))
        if len(files) > FILES_MAX:
            self.errors.append(Problem("the rule book", 0, "", f"more than {FILES_MAX} files"))
        if sum(map(len, files.values())) > TOTAL_MAX_BYTES:
            self.errors.append(Problem("the rule book", 0, "", f"more than {TOTAL_MAX_BYTES} bytes in all"))

    def file(self, name: str, content: bytes) -> None:
        """One file, by the end of its name. Raises ConfigError where there is nothing to read."""
        if name.endswith(".geojson"):
            whole, self._drawn_whole = self._drawn_whole, False
            drawn = places_files.read(name, content, self.cells)
            self._drawn_whole = whole and not drawn.notes.errors
            self.notes.append(drawn.notes)
            self.places += [(place, drawn.notes, path) for place, path in drawn.places]
            self.routes += [(route, drawn.notes, path) for route, path in drawn.routes]
            return
        text = decoded(name, content)
        document = toml_document(name, text)
        notes = Notes(name, Lines(key_lines, text))
        self.notes.append(notes)
        kind = document.get("format")
        if kind == "rules/v1":
            rules = rule_files.read(document, notes)
            self.rule_sets += [] if rules is None else [(rules, notes)]
        elif kind == "permits/v1":
            self.permits += [(permit, notes, path) for permit, path in permits_files.read(document, notes)]
        elif kind == "kitchens/v1":
            self.kitchens += [(kitchen, notes, path) for kitchen, path in kitchens_files.read(document, notes)]
        else:
            found = "nothing" if kind is None else shown(kind)
            notes.error(("format",), f'expected "rules/v1", "permits/v1" or "kitchens/v1", found {found}')

    def compare(self) -> None:
        """What no file shows alone: ids that stand twice, or nowhere, and rule sets that contradict each other."""
        self._unique(
            [
                *((item.id, notes, path) for item, notes, path in self.places),
                *((item.id, notes, path) for item, notes, path in self.routes),
            ],
            "id",
        )
        self._unique([(item.number, notes, (*path, "number")) for item, notes, path in self.permits], "permit")
        self._unique([(item.id, notes, ("id",)) for item, notes in self.rule_sets], "rule set")
        for place, (later, notes) in enumerate(self.rule_sets):
            for earlier, _notes in self.rule_sets[:place]:
                shared = sorted(set(earlier.classes) & set(later.classes))
                if shared and earlier.from_utc_s < later.to_utc_s and later.from_utc_s < earlier.to_utc_s:
                    notes.error(
                        ("valid_from",),
                        f"overlaps {earlier.file} ({earlier.id}, {_span(earlier)}) for class {shared[0]}; "
                        "end one before the other begins",
                    )
        self._kitchens()
        if self._drawn_whole:
            self._references()
        for notes in self.notes:
            self.errors += notes.errors

    def _unique(self, items: Sequence[tuple[str, Notes, Path]], what: str) -> None:
        first: dict[str, tuple[Notes, Path]] = {}
        for name, notes, path in items:
            if name in first:
                there, there_path = first[name]
                notes.error(path, f"{what} {name} stands already in {there.file}:{there.line(there_path)}")
            else:
                first[name] = (notes, path)

    def _kitchens(self) -> None:
        """One device belongs to one kitchen at a time, and one id to one entry."""
        places = {id(kitchen): (notes, path) for kitchen, notes, path in self.kitchens}
        for earlier, later, device in Kitchens(kitchen for kitchen, _notes, _path in self.kitchens).doubles():
            notes, path = places[id(later)]
            if earlier.id != later.id:
                notes.error((*path, "devices"), f"{device} belongs to {earlier.id} ({earlier.file}) at the same time")
        of_id: dict[str, list[Kitchen]] = {}
        for kitchen, notes, path in self.kitchens:
            for other in of_id.setdefault(kitchen.id, []):
                if kitchen.from_utc_s < other.to_utc_s and other.from_utc_s < kitchen.to_utc_s:
                    there, there_path = places[id(other)]
                    line = there.line((*there_path, "id"))
                    notes.error((*path, "id"), f"{kitchen.id} stands already in {there.file}:{line} for the same time")
                    break
            of_id[kitchen.id].append(kitchen)

    def _references(self) -> None:
        routes = {route.id: route for route, _notes, _path in self.routes}
        places = {place.id: place for place, _notes, _path in self.places}
        for permit, notes, path in self.permits:
            wanted: list[tuple[str, str, tuple[str, ...]]] = [
                ("route", "route", permit.routes),
                ("sites", "site", permit.sites),
                ("grounds", "ground", permit.grounds),
            ]
            for key, kind, ids in wanted:
                for index, item in enumerate(ids):
                    there = routes.get(item) if kind == "route" else places.get(item)
                    where = (*path, key, index)
                    if there is None or (isinstance(there, Place) and there.kind != kind):
                        known = routes if kind == "route" else [id_ for id_, at in places.items() if at.kind == kind]
                        notes.error(where, _unknown(item, kind, there, known))
                    elif there.from_utc_s >= permit.to_utc_s or there.to_utc_s <= permit.from_utc_s:
                        notes.warn(where, f"{item} ({there.file}) is never valid while this permit is")


def _unknown(item: str, kind: str, there: Place | Route | None, known: Iterable[str]) -> str:
    if isinstance(there, Place):
        return f"expected a {kind}; {item} in {there.file} is a {there.kind}"
    near = get_close_matches(item, list(known), 1, 0.5)
    return f"no {kind} has the id {item}" + (f"; did you mean {near[0]}?" if near else "")


def _span(rules: RuleSet) -> str:
    return f"{rules.valid_from} to {rules.valid_to or 'open'}"


# ---------------------------------------------------------------------------------------------- packing

_MAGIC: Final = b"fieldgate rule book 1\n"


def pack(files: Mapping[str, bytes]) -> bytes:
    """All files as one piece: a line that says what it is, a line "sha256  size  name" for each file by name, an empty
    line, and the files one after the other."""
    head = bytearray(_MAGIC)
    for name in sorted(files):
        if not is_name(name):
            raise ProtocolMisuse(f"{name!r} is no name of a file of a rule book")
        head += f"{hashlib.sha256(files[name]).hexdigest()}  {len(files[name])}  {name}\n".encode()
    return bytes(head) + b"\n" + b"".join(files[name] for name in sorted(files))


def unpack(packed: bytes) -> dict[str, bytes]:
    """The files again. Raises IntegrityError for anything that `pack` did not make."""
    if len(packed) > TOTAL_MAX_BYTES + FILES_MAX * 200 or not packed.startswith(_MAGIC):
        raise IntegrityError("not a packed rule book")
    end = packed.find(b"\n\n", len(_MAGIC) - 1)
    if end < 0:
        raise IntegrityError("a packed rule book whose list of files does not end")
    at = end + 2
    files: dict[str, bytes] = {}
    for line in packed[len(_MAGIC) : end].split(b"\n") if end >= len(_MAGIC) else []:
        found = re.fullmatch(rb"([0-9a-f]{64})  (0|[1-9][0-9]{0,8})  (.+)", line)
        try:
            name = found[3].decode() if found else ""
        except UnicodeDecodeError:
            name = ""
        if found is None or not is_name(name) or len(files) == FILES_MAX or (files and name <= max(files)):
            raise IntegrityError(f"a packed rule book with an odd line: {line[:100]!r}")
        content = packed[at : at + int(found[2])]
        at += int(found[2])
        if len(content) != int(found[2]) or hashlib.sha256(content).hexdigest().encode() != found[1]:
            raise IntegrityError(f"{name} in a packed rule book is not what its line says")
        files[name] = content
    if at != len(packed):
        raise IntegrityError("a packed rule book with bytes behind its last file")
    return files


def records_of(files: Mapping[str, bytes]) -> list[Draft]:
    """The `rules.book` records of a book: in each a part of what `pack` gives, at most PACK_PART_BYTES. They lie one
    after the other; the first one's seq names the book. `converter` is the version by which GCJ-02 was read."""
    packed = pack(files)
    parts = [packed[at : at + PACK_PART_BYTES] for at in range(0, len(packed), PACK_PART_BYTES)]
    digest = book_sha256(files)
    return [
        Draft(
            RULES_BOOK,
            "gateway",
            "",
            {"sha256": digest, "files": len(files), "part": number, "parts": len(parts), "converter": CONVERTER},
            raw=part,
        )
        for number, part in enumerate(parts, 1)
    ]


class Joining:
    """Books from their records, as a journal gives them one after the other."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._sha256 = ""
        self._seq = 0

    def accept(self, seq: int, data: Mapping[str, Any], raw: bytes | None) -> tuple[int, Book] | None:
        """(seq of its first record, the book) once its last part is there; None before. Raises IntegrityError where
        the records are not what `records_of` made, and ConfigError where this version cannot read the files."""
        part, parts, digest = data.get("part"), data.get("parts"), data.get("sha256")
        if part == 1:
            self._parts, self._sha256, self._seq = [], str(digest), seq
        if raw is None or digest != self._sha256 or part != len(self._parts) + 1 or len(raw) > PACK_PART_BYTES:
            raise IntegrityError(f"record {seq} is no next part of a rule book; restore the state folder")
        self._parts.append(raw)
        if part != parts:
            return None
        files = unpack(b"".join(self._parts))
        self._parts = []
        book = load_book(files)
        if book.sha256 != digest:
            raise IntegrityError(f"the rule book of record {self._seq} is not the one that it names")
        return self._seq, book
