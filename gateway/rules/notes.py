"""What is wrong in a file of the rule book, or looks wrong, each with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gateway.core.errors import Problem
from gateway.toml_lines import Path


class Lines(Mapping[Path, int]):
    """Lines of the keys of a text, looked for when the first is asked for: most files have nothing wrong."""

    def __init__(self, find: Callable[[str], dict[Path, int]], text: str) -> None:
        self._find = find
        self._text = text
        self._found: dict[Path, int] | None = None

    def _all(self) -> dict[Path, int]:
        if self._found is None:
            self._found = self._find(self._text)
        return self._found

    def __getitem__(self, path: Path) -> int:
        return self._all()[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


class Notes:
    """Errors and warnings of one file, in the order found."""

    def __init__(self, file: str, lines: Mapping[Path, int]) -> None:
        self.file = file
        self.lines = lines
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def error(self, path: Path, message: str) -> None:
        """The file cannot be used."""
        self.errors.append(self._problem(path, message))

    def warn(self, path: Path, message: str) -> None:
        """It can, but perhaps this was not meant."""
        self.warnings.append(self._problem(path, message))

    def line(self, path: Path) -> int:
        """Line of a key, or of the nearest thing around it that has one; 0 where none has."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 0)

    def _problem(self, path: Path, message: str) -> Problem:
        return Problem(self.file, self.line(path), path_text(path), message)


def path_text(path: Path) -> str:
    """("features", 3, "id") -> "features[3].id"."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
