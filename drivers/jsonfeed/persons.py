"""What names a person leaves the message here: a keyed hash takes its place, also in the raw bytes. Pure.

The key belongs to one source of one gateway: who has the records cannot try all phone numbers, and the same person has
the same hash as long as the source keeps its key. The number is looked for in the whole message, in keys and inside
longer texts too, however it is written.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from drivers.jsonfeed.codec import Document, Leaf, leaves

HASH_DIGITS: Final = 32
SEARCHED_MIN: Final = 6
SEARCHED_MAX: Final = 40
"""A shorter or longer name of a person is replaced where the profile says that it stands, not looked for elsewhere."""
_SEPARATORS: Final = re.compile(r"[\s().+-]")
_COUNTRY: Final = re.compile(r"(?:00)?86(1[0-9]{10})")
_DIGITS: Final = re.compile(rb"[0-9]")


def plain(text: str) -> str:
    """A phone number in its one form: digits of any script, without separators and country code; other names as they
    are."""
    bare = _SEPARATORS.sub("", unicodedata.normalize("NFKC", text))
    found = _COUNTRY.fullmatch(bare)
    return found[1] if found else bare


def pseudonym(key: bytes, text: str) -> str:
    """The hash of who is named."""
    return hmac.new(key, b"person\0" + plain(text).encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:HASH_DIGITS]


class Hidden:
    """Who is named in one message, and what takes their place."""

    def __init__(self, document: Document, named: Sequence[Leaf], key: bytes) -> None:
        self._document = document
        self._changes: dict[Leaf, str] = {leaf: pseudonym(key, leaf.text) for leaf in named}
        found = {plain(leaf.text): name for leaf, name in self._changes.items()}
        self._searched = {text: name for text, name in found.items() if SEARCHED_MIN <= len(text) <= SEARCHED_MAX}
        self._lengths = sorted({len(text) for text in self._searched}, reverse=True)
        if self._searched:
            for leaf in (*leaves(document.root), *document.keys):
                if leaf not in self._changes and (text := self.cleaned(leaf.text)) != leaf.text:
                    self._changes[leaf] = text

    def cleaned(self, text: str) -> str:
        """The same text without the persons of this message."""
        while (found := self._find(text)) is not None:
            text = text.replace(found, self._searched[found])
        bare = plain(text)
        if bare != text and (found := self._find(bare)) is not None:
            return self._searched[found]  # written in another way: nothing of it can stay
        return text

    def _find(self, text: str) -> str | None:
        """A person in a text, by windows of each length: as many steps as signs, however many persons there are."""
        for length in self._lengths:
            for start in range(len(text) - length + 1):
                if text[start : start + length] in self._searched:
                    return text[start : start + length]
        return None

    @property
    def count(self) -> int:
        """Places that were changed."""
        return len(self._changes)

    @property
    def raw(self) -> bytes:
        """The message with hashes in place of persons; as it came where there are none."""
        return self._document.replaced(self._changes) if self._changes else self._document.text.encode()

    def name(self, leaf: Leaf) -> str:
        """The hash that stands for a named leaf."""
        return self._changes[leaf]


def masked(body: bytes) -> bytes:
    """Bytes that could not be read, fit to be kept where persons may be named: every digit is a 0."""
    return _DIGITS.sub(b"0", body)
