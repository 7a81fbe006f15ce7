"""The folder of the rule book on disk: read with limits, watched while the gateway runs.

Only regular files `*.toml` and `*.geojson` in the folder itself are read, never through a link. A folder that has
changed is read at the second look in a row that finds it the same: an editor or a copy that is at work half-way is
never in force. What is wrong in it changes nothing but `error`; the last good book stays.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.core.errors import ConfigError, Problem
from gateway.core.record import Draft
from gateway.rules import geojson
from gateway.rules.book import FILES_MAX, TOTAL_MAX_BYTES, Book, is_name, load_book, records_of

ENTRIES_MAX: Final = 10_000
"""Of the folder, whatever they are; a folder with more is the wrong one."""

_ENDS: Final = (".toml", ".geojson")
_DIR_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_Mark = tuple[tuple[str, int, int, int, int], ...]


def read_folder(path: Path | str) -> dict[str, bytes]:
    """The files of a rule book, by name. Raises ConfigError with every file that cannot be taken. Blocks."""
    return _read(path)[0]


def _read(path: Path | str) -> tuple[dict[str, bytes], _Mark]:
    """(files, what they looked like just before they were read)."""
    try:
        folder = os.open(path, _DIR_FLAGS)
    except OSError as error:
        problem = Problem(str(path), 0, "", f"the folder of the rule book cannot be read: {error.strerror}")
        raise ConfigError([problem]) from None
    try:
        names = _names(folder, path)
        mark = _mark(folder, names)
        problems: list[Problem] = []
        files: dict[str, bytes] = {}
        for name in names:
            if sum(map(len, files.values())) > TOTAL_MAX_BYTES:
                problems.append(Problem(str(path), 0, "", f"more than {TOTAL_MAX_BYTES} bytes in all"))
                break
            try:
                files[name] = _content(folder, name)
            except OSError as error:
                reason = "it is a link; put the file itself here" if _is_link(folder, name) else error.strerror
                problems.append(Problem(shown_name(name), 0, "", f"cannot be read: {reason}"))
        if problems:
            raise ConfigError(problems)
        return files, mark
    finally:
        os.close(folder)


def _names(folder: int, path: Path | str) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count == ENTRIES_MAX:
                    raise ConfigError([Problem(str(path), 0, "", f"more than {ENTRIES_MAX} entries; a wrong folder?")])
                if entry.name.endswith(_ENDS) and not entry.name.startswith("."):
                    names.append(entry.name)
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, "", f"cannot be listed: {error.strerror}")]) from None
    names.sort()
    problems = [Problem(shown_name(name), 0, "", "rename it: letters that print, no / or \\, at most 90")
                for name in names if not is_name(name)]  # fmt: skip
    if len(names) > FILES_MAX:
        problems.append(Problem(str(path), 0, "", f"more than {FILES_MAX} files"))
    if problems:
        raise ConfigError(problems)
    return names


def _content(folder: int, name: str) -> bytes:
    descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(geojson.FILE_MAX_BYTES + 1)  # one more than allowed: load_book says so
    finally:
        os.close(descriptor)


def _mark(folder: int, names: Sequence[str]) -> _Mark:
    found = []
    for name in names:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue
        found.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return tuple(found)


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def shown_name(name: str) -> str:
    """A file name for a message: what does not print is escaped."""
    return name if name.isprintable() else ascii(name)


class Watched:
    """The rule folder while the gateway runs (port `Rules` of gateway.judge)."""

    def __init__(self, path: Path | str) -> None:
        """Read it at once; what is wrong is in `error`. Blocks."""
        self._path = Path(path)
        self.error = ""
        """Why the folder as it is now is not in force: one line for each problem is too many for an alarm, so the first
        and how many more. Empty where it is."""
        self.problems: tuple[Problem, ...] = ()
        """All of them."""
        self.book: Book | None = None
        """The last good book."""
        self._files: dict[str, bytes] = {}
        self._taken: _Mark | None = None
        self._seen: _Mark | None = None
        self._load()

    @property
    def sha256(self) -> str:
        """Of the last good book; "" where there is none."""
        return "" if self.book is None else self.book.sha256

    def records(self) -> Sequence[Draft]:
        """The `rules.book` records of the last good book; none where there was no good one yet."""
        return [] if self.book is None else records_of(self._files)

    def refresh(self) -> bool:
        """Look again; whether another book is good now. Blocks."""
        mark = self._look()
        if mark == self._taken:
            self._seen = mark
            return False
        still, self._seen = mark == self._seen, mark
        return self._load() if still else False

    def _load(self) -> bool:
        before = self.sha256
        self._taken = self._seen = self._look()
        try:
            files, mark = _read(self._path)
            book = load_book(files)
        except ConfigError as error:
            self.problems = tuple(error.problems)
            more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
            self.error = f"{error.problems[0]}{more}"
            return False
        if mark != self._look():  # changed under our hands: the next looks will tell
            self._taken = None
            return False
        self.error, self.problems = "", ()
        self._taken = mark
        self._files, self.book = files, book
        return self.sha256 != before

    def _look(self) -> _Mark | None:
        try:
            folder = os.open(self._path, _DIR_FLAGS)
        except OSError:
            return None
        try:
            return _mark(folder, _names(folder, self._path))
        except ConfigError:
            return None
        finally:
            os.close(folder)
