"""Where each key of a TOML text stands: tomllib gives values without lines, and a message to a person needs a line.

The scanner runs after tomllib has accepted the text, so it only has to know where tokens end. It is exact: what it
finds is checked against the parsed document as a whole, and at any disagreement there are no lines at all (line 0).
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import Any, Final

Path = tuple[str | int, ...]
"""Keys and list positions from the root: ("source", 0, "path")."""

DEPTH_MAX: Final = 100

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]+")
_STRINGS: Final = (
    re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'{1,2}(?!'))*+'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*+"'),
    re.compile(r"'[^'\n]*+'"),
)
"""Longest opening quotes first."""


def key_lines(text: str) -> dict[Path, int]:
    """1-based line of every key and list element of a TOML document; {} where the text is not TOML."""
    try:
        document = tomllib.loads(text)
        scanner = _Scanner(text)
        scanner.document()
    except (tomllib.TOMLDecodeError, RecursionError, _LostError):
        return {}
    return scanner.lines if set(scanner.lines) == set(_paths(document, ())) else {}


def _paths(value: Any, path: Path) -> list[Path]:
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found: list[Path] = []
    for key, item in items:
        found.append((*path, key))
        found += _paths(item, (*path, key))
    return found


class _LostError(Exception):
    """Something else stands where a token was expected."""


class _Scanner:
    """One pass over the text, left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._elements: dict[Path, int] = {}
        """How many [[…]] headers each array of tables has had."""

    def document(self) -> None:
        """Fill `lines`. Raises _LostError."""
        prefix: Path = ()
        while self._skip(_BLANK) < len(self.text):
            line = self._line()
            if self._take("[["):
                array = self._resolve((), self._key(), line)
                self._expect("]]")
                position = self._elements.get(array, 0)
                self._elements[array] = position + 1
                prefix = (*array, position)
                self.lines[prefix] = line
            elif self._take("["):
                prefix = self._resolve((), self._key(), line)
                self._expect("]")
            else:
                self._pair(prefix, 0)

    def _pair(self, prefix: Path, depth: int) -> None:
        line = self._line()
        path = self._resolve(prefix, self._key(), line)
        self._expect("=")
        self._value(path, depth)

    def _resolve(self, path: Path, keys: list[str], line: int) -> Path:
        """The path of a dotted key; a step through an array of tables means its newest element."""
        for key in keys:
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
            path = (*path, key)
            if len(path) > DEPTH_MAX:  # a path is copied at every step: long ones cost their square
                raise _LostError
            self.lines.setdefault(path, line)
        return path

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            token = self._string() if self._peek() in ("'", '"') else self._match(_BARE)
            keys.append(str(tomllib.loads(f"key = {token}")["key"]) if token[0] in "'\"" else token)
            self._skip(_SPACE)
            if not self._take("."):
                return keys

    def _value(self, path: Path, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise _LostError
        self._skip(_SPACE)
        first = self._peek()
        if first in ("'", '"'):
            self._string()
        elif first == "[":
            self._array(path, depth)
        elif first == "{":
            self._inline_table(path, depth)
        else:
            self._match(_SCALAR)

    def _array(self, path: Path, depth: int) -> None:
        self._expect("[")
        position = 0
        while self._skip(_BLANK) >= 0 and not self._take("]"):
            self.lines[*path, position] = self._line()
            self._value((*path, position), depth + 1)
            position += 1
            self._skip(_BLANK)
            if not self._take(",") and self._peek() != "]":
                raise _LostError

    def _inline_table(self, path: Path, depth: int) -> None:
        self._expect("{")
        while self._skip(_BLANK) >= 0 and not self._take("}"):
            self._pair(path, depth + 1)
            self._skip(_BLANK)
            if not self._take(",") and self._peek() != "}":
                raise _LostError

    def _string(self) -> str:
        for pattern in _STRINGS:
            if pattern.match(self.text, self.at):
                return self._match(pattern)
        raise _LostError

    def _line(self) -> int:
        return bisect_right(self._starts, self.at)

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, token: str) -> bool:
        taken = self.text.startswith(token, self.at)
        self.at += len(token) if taken else 0
        return taken

    def _expect(self, token: str) -> None:
        self._skip(_SPACE)
        if not self._take(token):
            raise _LostError

    def _skip(self, pattern: re.Pattern[str]) -> int:
        self.at = self._end(pattern)
        return self.at

    def _match(self, pattern: re.Pattern[str]) -> str:
        end = self._end(pattern)
        token = self.text[self.at : end]
        if not token:
            raise _LostError
        self.at = end
        return token

    def _end(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.at)
        return self.at if match is None else match.end()
