"""The SM4 keys of monitors of HJ 212-2025: one TOML file, read again when it changes.

    format = "hj212-keys/v1"
    [[key]]
    mn = "010000A8900016F000169DC0"
    key = "msbE74gsiSHSEh5e"            # 16 characters, or 32 hex digits
    from = "2026-01-01"                 # first day, Beijing time; empty: always
    to = "2026-04-01"                   # first day on which it counts no more; empty: for ever

Keys are rotated every 90 days and what was written under an old one may come late, so one that is not in force is tried
after those that are. Keys stand in no record, log or message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, inspect

from gateway import toml_check
from gateway.core.errors import ConfigError

TRIED_MAX: Final = 4
"""Keys of one monitor that are tried on one frame."""
_DAY_S: Final = 86_400
_BEIJING_S: Final = 8 * 3600
_EPOCH: Final = date(1970, 1, 1).toordinal()
_HEX: Final = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)

Mn = Annotated[str, Meta(pattern=r"^[!-~]{1,64}\Z", description="the MN of a monitor as it sends it")]
Day = Annotated[str, Meta(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?\Z", description='a day such as "2026-01-01"')]


class _Key(msgspec.Struct, frozen=True, kw_only=True):
    mn: Mn
    key: str
    from_: Day = msgspec.field(name="from", default="")
    to: Day = ""


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal["hj212-keys/v1"]
    key: list[_Key] = []


SCHEMA: Final = inspect.type_info(_File)


@dataclass(frozen=True, slots=True)
class Key:
    """One key, in force in [from_utc_s, to_utc_s)."""

    secret: bytes = field(repr=False)
    from_utc_s: int
    to_utc_s: int


class KeyRing:
    """The keys of all monitors."""

    def __init__(self, keys: Sequence[tuple[str, Key]] = ()) -> None:
        self._keys: dict[str, list[Key]] = {}
        for mn, key in keys:
            self._keys.setdefault(mn, []).append(key)

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._keys.values())

    def has(self, mn: str) -> bool:
        """Whether there is any for this monitor."""
        return mn in self._keys

    def tried(self, mn: str, utc_s: int) -> list[bytes]:
        """Keys for what was written at that time: those in force, then the nearest ones before and after."""
        keys = self._keys.get(mn, ())
        ordered = sorted(keys, key=lambda one: max(one.from_utc_s - utc_s, utc_s - one.to_utc_s + 1, 0))
        return [one.secret for one in ordered[:TRIED_MAX]]


def load(path: Path | str) -> KeyRing:
    """Read and check a file; an empty path gives no keys. Raises ConfigError with every problem, and no key in it."""
    if not str(path):
        return KeyRing()
    values, check = toml_check.read(Path(path), SCHEMA, "; drivers/README.md says what stands in it")
    found: list[tuple[str, Key]] = []
    for index, one in enumerate(msgspec.convert(values, _File).key):
        secret = bytes.fromhex(one.key) if _HEX.fullmatch(one.key) else one.key.encode()
        if len(secret) != 16:
            check.note(("key", index, "key"), "is neither 16 characters nor 32 hex digits")
        first, last = _start(one.from_, 0), _start(one.to, 2**62)
        if first is None or last is None:
            check.note(("key", index, "from" if first is None else "to"), "is no day of the calendar")
        elif first >= last:
            check.note(("key", index, "to"), "is not after from; the key would never be in force")
        else:
            found.append((one.mn, Key(secret, first, last)))
    if check.problems:
        raise ConfigError(check.problems)
    return KeyRing(found)


def _start(day: str, otherwise: int) -> int | None:
    """UTC seconds of the begin of a day in Beijing; None where there is no such day."""
    if not day:
        return otherwise
    try:
        return (date.fromisoformat(day).toordinal() - _EPOCH) * _DAY_S - _BEIJING_S
    except ValueError:
        return None


class WatchedKeys:
    """A keys file that may change while the gateway runs: keys are rotated without a restart."""

    def __init__(self, path: Path | str) -> None:
        """Read it. Raises ConfigError: at the start there is no good set to stay with."""
        self._path = Path(path) if str(path) else None
        self._mark = self._look()
        self.current: KeyRing = load(path)
        """The last good set."""
        self.error: str = ""
        """Why the file as it is now is not in force; empty where it is."""

    def refresh(self) -> bool:
        """Read the file again if it has changed; whether another set is in force now. A mistake in it changes
        nothing: `error` says it."""
        mark = self._look()
        if self._path is None or mark == self._mark:
            return False
        self._mark = mark
        try:
            self.current = load(self._path)
        except ConfigError as error:
            self.error = str(error)
            return False
        self.error = ""
        return True

    def _look(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
