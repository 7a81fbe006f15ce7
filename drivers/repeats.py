"""Frames that come twice: a device that saw no answer sends the same bytes again. Pure.

The digest of every frame stored is kept, in memory and in the store, in the same transaction as its record: after a
kill between the commit and the answer the same frame is answered and not stored again. One value per commit holds the
digests of its frames; `rounds_max` of them lie in a ring. That is 8 bytes per frame and one row per commit, not one per
device.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import Final

from gateway.core.record import StateChange

DIGEST_SIZE: Final = 8
ROUNDS_MAX: Final = 1024
"""Commits remembered: at least 20 s, far above the way of an answer to a device."""
DIGESTS_MAX: Final = 65_536
PREFIX: Final = b"d"


class Repeats:
    """The frames of one source stored last."""

    def __init__(
        self, source: str, remembered: Iterable[tuple[bytes, bytes]] = (), rounds_max: int = ROUNDS_MAX
    ) -> None:
        """`remembered`: keys and values of `round`, as last committed; `rounds_max`: at most 65,536."""
        self._source = source
        self._rounds_max = rounds_max
        self._seen: set[bytes] = set()
        self._order: deque[bytes] = deque()
        self._round = 0
        for value in sorted(value for _, value in remembered if len(value) >= DIGEST_SIZE):
            self._round = int.from_bytes(value[:DIGEST_SIZE], "big")
            for at in range(DIGEST_SIZE, len(value), DIGEST_SIZE):
                self._add(value[at : at + DIGEST_SIZE])

    def mark(self, content: bytes) -> bytes | None:
        """The digest of something new; None where it was here already."""
        digest = hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest()
        if digest in self._seen:
            return None
        self._add(digest)
        return digest

    def forget(self, digest: bytes) -> None:
        """It was not stored after all."""
        self._seen.discard(digest)

    def _add(self, digest: bytes) -> None:
        self._seen.add(digest)
        self._order.append(digest)
        if len(self._order) > DIGESTS_MAX:
            self._seen.discard(self._order.popleft())

    def round(self, marks: bytes) -> StateChange:
        """What to store beside the records of one commit whose marks these are."""
        self._round += 1
        key = PREFIX + (self._round % self._rounds_max).to_bytes(2, "big")
        return StateChange(self._source, key, self._round.to_bytes(DIGEST_SIZE, "big") + marks)
