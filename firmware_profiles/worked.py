"""What the worked examples of all kinds of profiles share: a result, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is read in another way than the example says."""

    key: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.key}: reads {self.got}, expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Result:
    """One example of a profile file, or one mistake in the file itself."""

    path: Path
    name: str
    """Which example: its number from 1 and its subject; or the key that is wrong."""
    ok: bool
    text: str
    """Empty where all is well; else what differs."""
    differences: tuple[Difference, ...] = ()


def compare(path: Path, name: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> Result:
    """The result of one example: equal, key by key, in value and in type."""
    differences = tuple(
        Difference(key, _shown(expected, key), _shown(found, key))
        for key in sorted({*found, *expected})
        if _typed(found, key) != _typed(expected, key)
    )
    return Result(path, name, not differences, "; ".join(map(str, differences)), differences)


def _typed(values: Mapping[str, Any], key: str) -> tuple[str, Any]:
    return (type(values[key]).__name__, values[key]) if key in values else ("", None)


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "nothing"
    value = values[key]
    return str(value).lower() if isinstance(value, bool) else repr(value)
