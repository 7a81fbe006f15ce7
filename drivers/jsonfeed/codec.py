"""JSON messages of devices: RFC 8259, strictly, with the place of every value in the text. Pure.

    document = parse(body)                      a Document, or Malformed with a reason; never raises for any bytes
    point(document.root, ("data", "0"))         a value by the steps of an RFC 6901 pointer
    document.replaced({leaf: "text"})           the same text with other values in some places

What another parser might read otherwise is refused: a key that stands twice, NaN, bytes that are not UTF-8. Numbers
stay texts, so nothing is rounded and no length of digits is too much. Depth and number of values have limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

BODY_MAX_BYTES: Final = 131_072
"""More does not fit into one record."""
DEPTH_MAX: Final = 32
VALUES_MAX: Final = 20_000

_SPACE = re.compile(r"[ \t\r\n]*+")
_STRING = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_WORD = re.compile(r"true|false|null")
_NEXT: Final = frozenset(",]} \t\r\n")


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are no message."""

    reason: Literal["encoding", "json", "duplicate-key", "depth", "values", "size"]
    detail: str
    """Where, and what stands there."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A text, number, true, false or null, and where it stands. Equal only to itself."""

    kind: Literal["text", "number", "word"]
    text: str
    """Decoded; a number as sent; true, false or null."""
    start: int
    end: int
    """In Document.text."""


Node = Leaf | dict[str, "Node"] | list["Node"]


@dataclass(frozen=True, slots=True)
class Document:
    """One message."""

    text: str
    root: Node
    keys: tuple[Leaf, ...] = field(repr=False, default=())
    """The names of all members, for whoever looks for a text anywhere."""

    def replaced(self, changes: Mapping[Leaf, str]) -> bytes:
        """The message with texts in place of some values or keys; every other byte stays."""
        pieces, at = [], 0
        for leaf in sorted(changes, key=lambda leaf: leaf.start):
            pieces += [self.text[at : leaf.start], json.dumps(changes[leaf])]
            at = leaf.end
        return "".join([*pieces, self.text[at:]]).encode()


def parse(body: bytes) -> Document | Malformed:
    """Read a message."""
    if len(body) > BODY_MAX_BYTES:
        return Malformed("size", f"{len(body)} bytes where {BODY_MAX_BYTES} are allowed")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        return Malformed("encoding", f"not UTF-8 at byte {error.start}; let the device send UTF-8")
    parser = _Parser(text)
    try:
        return parser.document()
    except _Unreadable as error:
        return error.malformed


def leaves(node: Node) -> Iterator[Leaf]:
    """All values below a node, in the order of the text."""
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, Leaf):
            yield one
        elif isinstance(one, dict):
            pending += reversed(one.values())
        else:
            pending += reversed(one)


def point(node: Node, steps: tuple[str, ...]) -> Node | None:
    """The value at the steps of a pointer; None where there is none."""
    for step in steps:
        if isinstance(node, dict):
            if step not in node:
                return None
            node = node[step]
        elif isinstance(node, list):
            if not (step.isascii() and step.isdecimal()) or len(step) > 6 or (step[0] == "0" and step != "0"):
                return None
            if int(step) >= len(node):
                return None
            node = node[int(step)]
        else:
            return None
    return node


class _Unreadable(Exception):
    def __init__(self, malformed: Malformed) -> None:
        super().__init__(malformed.reason)
        self.malformed = malformed


class _Parser:
    """One pass, left to right; as deep as DEPTH_MAX."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 1 if text.startswith("\ufeff") else 0
        self._values = 0
        self._keys: list[Leaf] = []

    def document(self) -> Document:
        root = self._value(0)
        self._skip()
        if self._at < len(self._text):
            raise self._wrong("the end")
        return Document(self._text, root, tuple(self._keys))

    def _value(self, depth: int) -> Node:
        self._skip()
        self._values += 1
        if self._values > VALUES_MAX:
            raise _Unreadable(Malformed("values", f"more than {VALUES_MAX} values"))
        if depth > DEPTH_MAX:
            raise _Unreadable(Malformed("depth", f"nested deeper than {DEPTH_MAX}"))
        sign = self._text[self._at : self._at + 1]
        if sign == "{":
            return self._object(depth)
        if sign == "[":
            return self._list(depth)
        if sign == '"':
            return self._string()
        start = self._at
        for kind, pattern in (("number", _NUMBER), ("word", _WORD)):
            found = pattern.match(self._text, start)
            if found is not None and (found.end() == len(self._text) or self._text[found.end()] in _NEXT):
                self._at = found.end()
                return Leaf("number" if kind == "number" else "word", found[0], start, found.end())
        raise self._wrong("a value")

    def _object(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self._at += 1
        if self._take("}"):
            return found
        while True:
            self._skip()
            key = self._string()
            self._keys.append(key)
            if key.text in found:
                raise _Unreadable(Malformed("duplicate-key", f"{key.text[:40]!r} stands twice in one object"))
            self._expect(":")
            found[key.text] = self._value(depth + 1)
            if self._take("}"):
                return found
            self._expect(",")

    def _list(self, depth: int) -> list[Node]:
        found: list[Node] = []
        self._at += 1
        if self._take("]"):
            return found
        while True:
            found.append(self._value(depth + 1))
            if self._take("]"):
                return found
            self._expect(",")

    def _string(self) -> Leaf:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise self._wrong("a text in quotes")
        self._at = found.end()
        return Leaf("text", json.loads(found[0]), found.start(), found.end())

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _take(self, sign: str) -> bool:
        self._skip()
        taken = self._text.startswith(sign, self._at)
        self._at += len(sign) if taken else 0
        return taken

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self._wrong(repr(sign))

    def _wrong(self, expected: str) -> _Unreadable:
        return _Unreadable(Malformed("json", f"expected {expected} at character {self._at}"))
