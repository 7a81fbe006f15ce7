"""The writer's rule for leaves: a narrow profile of RFC 8785 (JSON Canonicalization Scheme).

Profile: objects, arrays, strings, integers, booleans, null; ASCII keys; NFC strings without lone surrogates;
no floats; integers within ±(2^53 - 1). Within it any encoder with sorted keys, no spaces and the short escapes is
byte-identical to RFC 8785 (a property test pins ours against an independent library and against ``json.dumps``).
Verifiers never re-serialise: they hash the stored bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final

import msgspec

MAX_SAFE_INTEGER: Final = 2**53 - 1  # RFC 8785 section 3.2.2.3: integers that an IEEE 754 double holds exactly
MAX_DEPTH: Final = 16
SMALL_TEXT: Final = 128
SOUND_MAX: Final = 65_536


class CanonicalError(ValueError):
    """The value is outside the profile; the text names the offending place."""


_encode = msgspec.json.Encoder(order="sorted").encode  # a tenth of the time of json.dumps
_sound: Final[set[str]] = set()
"""Short texts beyond ASCII that were found to be in order: plates and names come again and again."""


def is_flat(values: Mapping[str, object]) -> bool:
    """Whether a look at each value is enough to know that `check` accepts them and that they are small: short texts,
    safe integers, true, false and null under ASCII keys. The common case of the hot path; False says nothing."""
    for key, item in values.items():
        kind = item.__class__
        if kind is int:
            if not -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER:  # type: ignore[operator]
                return False
        elif kind is str:
            if len(item) > SMALL_TEXT or not (item.isascii() or item in _sound):  # type: ignore[arg-type,attr-defined]
                return False
        elif kind is not bool and item is not None:
            return False
        if key.__class__ is not str or len(key) > SMALL_TEXT or not key.isascii():
            return False
    return True


def check(value: object, path: str = "", depth: int = 0) -> None:
    """Raise CanonicalError unless `value` is inside the profile."""
    if value is None or value is True or value is False:
        return
    kind = type(value)
    if kind is str:
        _check_text(value, path)  # type: ignore[arg-type]
    elif kind is int:
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:  # type: ignore[operator]
            raise CanonicalError(f"{path or '.'}: integer outside ±(2^53-1); write it as a decimal string")
    elif depth >= MAX_DEPTH:
        raise CanonicalError(f"{path}: nested deeper than {MAX_DEPTH}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise CanonicalError(f"{path}.{key!r}: keys must be ASCII strings")
            check(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check(item, f"{path}[{index}]", depth + 1)
    else:
        raise CanonicalError(f"{path or '.'}: {kind.__name__} is not allowed; use scaled integers or strings")


def _check_text(text: str, path: str) -> None:
    if text.isascii() or text in _sound:
        return
    if not unicodedata.is_normalized("NFC", text):
        raise CanonicalError(f"{path or '.'}: text is not in Unicode normal form C")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CanonicalError(f"{path or '.'}: text holds a lone surrogate") from None
    if len(text) <= SMALL_TEXT:
        if len(_sound) >= SOUND_MAX:
            _sound.clear()
        _sound.add(text)


def encode(value: object) -> bytes:
    """Bytes of a value that `check` accepts. Raises CanonicalError for anything else."""
    check(value)
    return encode_checked(value)


def encode_checked(value: object) -> bytes:
    """Bytes of a value that has been through `check` already: the journal's hot path."""
    return _encode(value)
