"""Parameters of the API, read strictly: nothing unknown, nothing twice, nothing out of range.

A parameter that is misspelt and ignored would silently return too much or too little evidence, so it is refused
with the nearest known name.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Final, TypeVar

from starlette.requests import HTTPConnection

from gateway.api.problem import ProblemError, printable

T = TypeVar("T")

INT64_MAX: Final = 2**63 - 1
NUMBER_MAX: Final = 2**53 - 1
"""Numbers of batches and records; the ledger holds no larger ones."""
LIMIT_MAX: Final = 1000
LIMIT_DEFAULT: Final = 100
SEQS_MAX: Final = 1000
TEXT_MAX: Final = 255

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_KIND: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Query:
    """The query string of one request. Each parameter is taken once; `finish` refuses what nobody took."""

    def __init__(self, request: HTTPConnection, *names: str) -> None:
        """Refuse every parameter that is not in `names` (raises ProblemError)."""
        self._values: Mapping[str, list[str]] = _collect(request, names)

    def one(self, name: str, read: Callable[[str, str], T], default: T) -> T:
        """The value of a parameter that may come once, read by `read(name, text)`."""
        texts = self._values.get(name)
        if texts is None:
            return default
        if len(texts) > 1:
            raise ProblemError("bad-parameter", f"{name} is given {len(texts)} times; give it once")
        return read(name, texts[0])

    def many(self, name: str, read: Callable[[str, str], T], limit: int) -> list[T]:
        """The values of a parameter that may be repeated up to `limit` times."""
        texts = self._values.get(name, [])
        if len(texts) > limit:
            raise ProblemError("bad-parameter", f"{name} is given {len(texts)} times; at most {limit} in one request")
        return [read(name, text) for text in texts]


def _collect(request: HTTPConnection, names: tuple[str, ...]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, text in request.query_params.multi_items():
        if name not in names:
            near = get_close_matches(name, names, 1)
            takes = f"did you mean {near[0]}?" if near else f"this path takes {', '.join(names) or 'none'}"
            raise ProblemError("bad-parameter", f"unknown parameter '{printable(name)[:64]}'; {takes}")
        values.setdefault(name, []).append(text)
    return values


def natural(name: str, text: str) -> int:
    """A decimal number 0 … 2^53-1 without sign or leading zeros."""
    if _DECIMAL.fullmatch(text) is None or int(text) > NUMBER_MAX:
        raise ProblemError("bad-parameter", f"{name} is '{printable(text)[:64]}'; expected a decimal number from 0")
    return int(text)


def limit(name: str, text: str) -> int:
    """A page length, 1 … LIMIT_MAX."""
    number = natural(name, text)
    if not 1 <= number <= LIMIT_MAX:
        raise ProblemError("bad-parameter", f"{name} is {number}; expected 1 to {LIMIT_MAX}")
    return number


def kind(name: str, text: str) -> str:
    """The name of a kind of record."""
    if _KIND.fullmatch(text) is None:
        raise ProblemError("bad-parameter", f"{name} is '{printable(text)[:64]}'; expected a kind such as station.file")
    return text


def device(name: str, text: str) -> str:
    """The identity of a device, as records carry it."""
    if len(text) > TEXT_MAX:
        raise ProblemError("bad-parameter", f"{name} has {len(text)} characters; at most {TEXT_MAX}")
    return text


def included(name: str, text: str) -> bool:
    """``include`` or ``omit``."""
    if text not in ("include", "omit"):
        raise ProblemError("bad-parameter", f"{name} is '{printable(text)[:64]}'; expected include or omit")
    return text == "include"


def moment(name: str, text: str) -> int:
    """Nanoseconds since 1970 from an RFC 3339 date-time (offset required) or from a decimal number of them. A time
    outside 1970 to 2262 counts as the nearer end: no record lies beyond."""
    if _DECIMAL.fullmatch(text) and int(text) <= INT64_MAX:
        return int(text)
    match = _RFC3339.fullmatch(text)
    wrong = ProblemError(
        "bad-parameter",
        f"{name} is '{printable(text)[:64]}'; expected 2026-11-21T08:00:00+08:00 (in a URL '+' is %2B), "
        "or nanoseconds since 1970",
    )
    if match is None:
        raise wrong
    date, clock, fraction, zone = match.groups()
    try:
        at = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        raise wrong from None
    try:
        seconds = timegm(at.utctimetuple())
    except OverflowError:  # the offset leads out of the years 1 to 9999
        return 0 if at.year == 1 else INT64_MAX
    return min(max(seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0")), 0), INT64_MAX)
