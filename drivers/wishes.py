"""The parameters of an order, read key by key: each is asked for once, what is left over is a mistake. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any


class WishError(ValueError):
    """Parameters that cannot be carried out: one line that says which, and what to give instead."""


class Wishes:
    """A JSON object from a person. `path` names it in messages."""

    def __init__(self, given: Mapping[str, Any], path: str = "") -> None:
        self._given = given
        self._path = path
        self._asked: list[str] = []

    def _take(self, key: str) -> Any:
        self._asked.append(key)
        return self._given.get(key)

    def _wrong(self, key: str, text: str) -> WishError:
        return WishError(f"{self._path}{key}: {text}")

    def has(self, key: str) -> bool:
        """Whether it is given."""
        return key in self._given

    def number(self, key: str, low: int, high: int, otherwise: int | None = None) -> int:
        """A whole number from `low` to `high`."""
        value = self._take(key)
        if value is None and otherwise is not None:
            return otherwise
        if value is None:
            raise self._wrong(key, f"missing; give a whole number from {low} to {high}")
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, f"{_shown(value)} is not a whole number from {low} to {high}")
        return value

    def switch(self, key: str, otherwise: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is None:
            return otherwise
        if not isinstance(value, bool):
            raise self._wrong(key, f"{_shown(value)} is neither true nor false")
        return value

    def word(self, key: str, words: Collection[str], otherwise: str = "") -> str:
        """One of a few words."""
        value = self._take(key)
        if value is None and otherwise:
            return otherwise
        if not isinstance(value, str) or value not in words:
            given = "missing" if value is None else f"{_shown(value)} is not known"
            raise self._wrong(key, f"{given}; use {', '.join(words)}")
        return value

    def text(self, key: str, otherwise: str | None = None) -> str:
        """A text."""
        value = self._take(key)
        if value is None and otherwise is not None:
            return otherwise
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "missing; give a text" if value is None else f"{_shown(value)} is no text")
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        """An object; empty where it is not given."""
        value = self._take(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong(key, f"{_shown(value)} is no object")
        return value

    def sequence(self, key: str, longest: int) -> Sequence[Any]:
        """A list; empty where it is not given."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list | tuple) or len(value) > longest:
            raise self._wrong(key, f"{_shown(value)} is no list of at most {longest}")
        return value

    def inner(self, key: str, longest: int) -> list[Wishes]:
        """A list of objects."""
        found = []
        for index, one in enumerate(self.sequence(key, longest)):
            path = f"{self._path}{key}[{index}]"
            if not isinstance(one, Mapping):
                raise WishError(f"{path}: {_shown(one)} is no object")
            found.append(Wishes(one, path + "."))
        return found

    def finish(self) -> None:
        """Everything was asked for: what is left is a mistake of the writer."""
        left = sorted(str(key) for key in self._given if key not in self._asked)
        if left:
            known = ", ".join(dict.fromkeys(self._asked)) or "nothing"
            raise self._wrong(left[0][:40], f"not known here; known: {known}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
