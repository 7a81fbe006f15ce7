"""Compares a TOML file with msgspec structs and reports every mistake at once, each with its line.

msgspec's own conversion stops at the first one. Ranges and patterns come from `msgspec.Meta`; its `description` says
what a pattern means. Units are read from the ends of key names.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from msgspec import inspect

from gateway import toml_lines
from gateway.core.errors import ConfigError, Problem, ProtocolMisuse

FILE_SIZE_MAX_BYTES: Final = 1_048_576

_UNITS: Final = {
    "_per_s": "bytes per second",
    "_bytes": "bytes",
    "_percent": "percent",
    "_days": "days",
    "_days_when_full": "days",
    "_ms": "milliseconds",
    "_s": "seconds",
    "_h": "hours",
}


def read(path: Path, schema: inspect.Type, remedy: str = "") -> tuple[Any, Check]:
    """(values that msgspec.convert takes, the problems so far). Raises ConfigError where there is no document to
    check: missing, unreadable or not TOML; `remedy` is added where the file does not exist."""
    return check_text(str(path), text_of(path, remedy), schema)


def check_text(file: str, text: str, schema: inspect.Type) -> tuple[Any, Check]:
    """The same of a text that has been read; `file` names it in messages."""
    values = document(file, text)
    check = Check(file, toml_lines.key_lines(text), schema)
    return check.value(values, schema, ()), check


def document(file: str, text: str) -> dict[str, Any]:
    """The document as it stands, where a date of TOML counts as its text. Raises ConfigError where it is not TOML."""
    try:
        return {key: _with_dates_as_text(value) for key, value in tomllib.loads(text).items()}
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(file, text, error)]) from None
    except RecursionError:
        raise ConfigError([Problem(file, 0, "", "nested too deeply")]) from None
    except ValueError:  # Python reads no number of more than 4300 digits
        raise ConfigError([Problem(file, 0, "", "not TOML: a number is longer than any number can be")]) from None


def text_of(path: Path, remedy: str = "") -> str:
    """The text of a file of at most FILE_SIZE_MAX_BYTES in UTF-8. Raises ConfigError."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_SIZE_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([Problem(file, 0, "", f"no such file{remedy}")]) from None
    except OSError as error:
        raise ConfigError([Problem(file, 0, "", f"cannot be read: {error.strerror}")]) from None
    return decoded(file, content)


def decoded(file: str, content: bytes, limit_bytes: int = FILE_SIZE_MAX_BYTES) -> str:
    """The same of bytes that have been read; `file` names them in messages. Raises ConfigError."""
    if len(content) > limit_bytes:
        problem = f"larger than {limit_bytes} bytes; is it the right file?"
        raise ConfigError([Problem(file, 0, "", problem)])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(file, line, "", "not UTF-8; save the file as UTF-8")]) from None


def _with_dates_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_dates_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_dates_as_text(item) for item in value]
    return value.isoformat() if type(value) is date else value


def _syntax_problem(file: str, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    message = str(error)
    if found := re.search(r" \(at line (\d+), column (\d+)\)$", message):
        return Problem(file, int(found[1]), "", f"not TOML: {message[: found.start()]}, column {found[2]}")
    last = len(text.splitlines())
    return Problem(file, last, "", f"not TOML: {message.removesuffix(' (at end of document)')}, at the end")


class Check:
    """Compares a parsed document with the schema, and collects problems instead of stopping at the first."""

    def __init__(self, file: str, lines: Mapping[toml_lines.Path, int], schema: inspect.Type) -> None:
        self._keys = list(every_key(schema))
        self.problems: list[Problem] = []
        self._file = file
        self._lines = lines
        self._wrong: set[toml_lines.Path] = set()

    def note(self, path: toml_lines.Path, message: str) -> None:
        """One problem per key; the line is that of the key, or of the nearest table around it."""
        if any(path[:end] in self._wrong for end in range(1, len(path) + 1)):
            return
        self._wrong.add(path)
        line = next((self._lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._lines), 0)
        self.problems.append(Problem(self._file, line, _key_text(path), message))

    def value(self, value: Any, kind: inspect.Type, path: toml_lines.Path) -> Any:
        """The value where it fits, else something that does, so that the checks of meaning can still run."""
        if isinstance(kind, inspect.StructType):
            return self._table(value, kind, path)
        if isinstance(kind, inspect.UnionType):
            there = [item for item in kind.types if not isinstance(item, inspect.NoneType)]
            if len(there) == 1 and len(there) < len(kind.types):  # what may be left out
                return self.value(value, there[0], path)
            return self._variant(value, kind, path)
        if isinstance(kind, inspect.ListType):
            if not isinstance(value, list):
                tables = isinstance(kind.item_type, inspect.StructType | inspect.UnionType)
                self.note(path, f"expected {f'tables [[{path[-1]}]]' if tables else 'a list'}, found {shown(value)}")
                return []
            items = [self.value(item, kind.item_type, (*path, index)) for index, item in enumerate(value)]
            return ["" if item is None else item for item in items]
        if isinstance(kind, inspect.DictType):
            if not isinstance(value, dict):
                self.note(path, f"expected a table, found {shown(value)}")
                return {}
            read = {key: self.value(item, kind.value_type, (*path, key)) for key, item in value.items()}
            return {key: item for key, item in read.items() if item is not None}
        expected, fits = _expectation(value, kind, str(path[-1]))
        if not fits:
            self.note(path, f"expected {expected}, found {shown(value)}")
            return None
        return value

    def _table(self, value: Any, kind: inspect.StructType, path: toml_lines.Path) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.note(path, f"expected a table [{_key_text(path)}], found {shown(value)}")
            value = {}
        fields = {field.encode_name: field for field in kind.fields}
        for key in value:
            if key not in fields and key != kind.tag_field:
                self.note((*path, key), _unknown_key(key, list(fields), self._keys))
        result: dict[str, Any] = {} if kind.tag_field is None else {kind.tag_field: kind.tag}
        for key, field in fields.items():
            found = self.value(value[key], field.type, (*path, key)) if key in value else None
            if key not in value and field.required:
                if isinstance(field.type, inspect.StructType):
                    found = self._table({}, field.type, (*path, key))
                else:
                    self.note((*path, key), f"missing; expected {_expectation(None, field.type, key)[0]}")
            if found is None and field.required:
                found = _stand_in(field.type)
            if found is not None:
                result[key] = found
        return result

    def _variant(self, value: Any, kind: inspect.UnionType, path: toml_lines.Path) -> dict[str, Any]:
        variants = {str(item.tag): item for item in kind.types if isinstance(item, inspect.StructType)}
        if not isinstance(value, dict):
            self.note(path, f"expected a table, found {shown(value)}")
            value = {}
        tag = value.get("type")
        if isinstance(tag, str) and tag in variants:
            return self._table(value, variants[tag], path)
        known = " or ".join(variants)
        near = get_close_matches(tag, variants, 1) if isinstance(tag, str) else []
        found = f", found {shown(tag)}" if "type" in value else ""
        hint = f"; did you mean {near[0]}?" if near else ""
        self.note((*path, "type"), f"{'' if found else 'missing; '}expected {known}{found}{hint}")
        self._wrong.add(path)  # nothing else can be said about it, but the others keep their positions
        return self._table({}, next(iter(variants.values())), path)


def _stand_in(kind: inspect.Type) -> Any:
    """A value in place of a required one that is missing or wrong, so that the rest can be converted and checked."""
    if isinstance(kind, inspect.ListType):
        return []
    if isinstance(kind, inspect.IntType):
        return kind.ge or 0
    return kind.values[0] if isinstance(kind, inspect.LiteralType) else "placeholder"


def _expectation(value: Any, kind: inspect.Type, key: str) -> tuple[str, bool]:
    """(what is expected there, whether the value is it)."""
    described = ""
    if isinstance(kind, inspect.Metadata):
        described = str((kind.extra_json_schema or {}).get("description", ""))
        kind = kind.type
    unit = next((f" of {text}" for end, text in _UNITS.items() if key.endswith(end)), "")
    if isinstance(kind, inspect.BoolType):
        return "true or false", type(value) is bool
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f'"{item}"' for item in kind.values), value in kind.values
    if isinstance(kind, inspect.IntType):
        fits = type(value) is int and _within(value, kind.ge, kind.le)
        return f"a whole number{unit} from {kind.ge} to {kind.le}", fits
    if isinstance(kind, inspect.FloatType):
        fits = type(value) in {int, float} and math.isfinite(value) and _within(value, kind.ge, kind.le)
        return f"a number{unit} from {kind.ge} to {kind.le}", fits
    if isinstance(kind, inspect.StrType):
        fits = isinstance(value, str) and value.isprintable()
        if kind.pattern is not None:
            fits = fits and re.search(kind.pattern, value) is not None
        return described or _text_named(key), fits
    if isinstance(kind, inspect.ListType):
        return "a list", isinstance(value, list)
    raise ProtocolMisuse(f"no rule for a key of type {kind}")


def _text_named(key: str) -> str:
    if is_path(key):
        return "a path"
    return "an address" if key == "url" or key.endswith("_url") else "text on one line"


def is_path(key: str) -> bool:
    """Whether a key names a file or folder."""
    return key == "path" or key.endswith(("_file", "_dir"))


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def shown(value: Any) -> str:
    """A value as the person wrote it, near enough, and short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _key_text(path: toml_lines.Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _unknown_key(key: str, here: list[str], everywhere: list[tuple[str, str]]) -> str:
    if near := get_close_matches(key, here, 1):
        return f"unknown key; did you mean {near[0]}?"
    elsewhere = [table for table, name in everywhere if name == key and table]
    if elsewhere:
        return f"unknown key here; it belongs in [{elsewhere[0]}]"
    return f"unknown key; known here: {', '.join(here)}"


def every_key(schema: inspect.Type) -> Iterator[tuple[str, str]]:
    """(table, key) of the whole schema; the top level is the table "", a source is named by its type."""

    def walk(kind: inspect.Type, table: str) -> Iterator[tuple[str, str]]:
        if isinstance(kind, inspect.StructType):
            here = str(kind.tag) if kind.tag is not None else table
            for field in kind.fields:
                yield here, field.encode_name
                yield from walk(field.type, field.encode_name)
        elif isinstance(kind, inspect.ListType):
            yield from walk(kind.item_type, table)
        elif isinstance(kind, inspect.UnionType):
            for variant in kind.types:
                yield from walk(variant, table)

    yield from walk(schema, "")
