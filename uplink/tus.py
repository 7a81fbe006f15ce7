"""One resumable upload as a state machine (tus 1.0: core protocol and creation), without any I/O.

Rules: HEAD after every failure; the server's offset is the truth, whether larger or smaller than ours; 404 and
410 mean a new upload; 423 means wait and HEAD again; one PATCH at a time. An upload found by its address is
continued only if its length and, where the server repeats it, its metadata are those of this very content.
"""

from __future__ import annotations

from dataclasses import dataclass

from uplink.pacing import ChunkSize


@dataclass(frozen=True, slots=True)
class Create:
    """POST to the creation address."""


@dataclass(frozen=True, slots=True)
class Head:
    """Ask how much the server has."""

    url: str


@dataclass(frozen=True, slots=True)
class Patch:
    """Send [offset, offset + size_bytes)."""

    url: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The server has every byte."""

    url: str


class TusUpload:
    """Where one upload stands. Every result of a step goes in through one of the methods below `next`."""

    def __init__(self, size_bytes: int, sha256: str, url: str | None, chunk: ChunkSize) -> None:
        self.size_bytes = size_bytes
        self.sha256 = sha256
        self.url = url
        self._chunk = chunk
        self._offset: int | None = None
        """What the server has, as far as known; None: ask."""
        self._reached = 0
        """End of the furthest byte handed to the network."""
        self._confirmed = 0

    def next(self) -> Create | Head | Patch | Finished:
        """The one step to do now."""
        if self.url is None:
            return Create()
        if self._offset is None:
            return Head(self.url)
        if self._offset >= self.size_bytes:
            return Finished(self.url)
        size_bytes = min(self._chunk.size_bytes, self.size_bytes - self._offset)
        return Patch(self.url, self._offset, size_bytes)

    def created(self, url: str, offset: int) -> None:
        """The upload is at `url` and holds `offset` bytes: more than none where the server knew the content."""
        self.url = url
        self.found(offset, None, None)

    def found(self, offset: int, length: int | None, sha256: str | None) -> bool:
        """Answer to Head. True if more is there than was confirmed before: the last attempt was not fruitless.

        An upload of other content (length or digest differs, or an offset beyond the end) is given up for a new one.
        """
        if (length is not None and length != self.size_bytes) or (sha256 is not None and sha256 != self.sha256):
            self.gone()
            return False
        if not 0 <= offset <= self.size_bytes:
            self.gone()
            return False
        self._offset = offset
        progressed = offset > self._confirmed
        self._confirmed = max(self._confirmed, offset)
        self._reached = max(self._reached, offset)
        return progressed

    def patched(self, offset: int, seconds: float) -> bool:
        """Answer 204 to Patch: the server has `offset` bytes now, after `seconds`."""
        sent_bytes = offset - (self._offset or 0)
        progressed = self.found(offset, None, None)
        if progressed:
            self._chunk.took(sent_bytes, seconds)
        return progressed

    def handed_out(self, offset: int, size_bytes: int) -> int:
        """[offset, offset + size_bytes) went to the network, whatever became of it; how much of it went before."""
        end = offset + size_bytes
        again_bytes = max(0, min(end, self._reached) - offset)
        self._reached = max(self._reached, end)
        return again_bytes

    def broke_off(self) -> None:
        """A step failed: ask before anything else. A complete upload stays so: its check is asked for again."""
        if self._offset is None or self.url is None or self._offset >= self.size_bytes:
            return
        self._chunk.failed()
        self._offset = None

    def lost_place(self) -> None:
        """409 or 423: ask for the offset; the chunk size is not to blame."""
        self._offset = None

    def too_large(self) -> bool:
        """413 to a PATCH: try smaller chunks. False when they cannot get smaller."""
        self._offset = None
        return self._chunk.too_large()

    def gone(self) -> None:
        """The server does not know the upload any more, or it is of other content: begin anew."""
        self.url = None
        self._offset = None
        self._confirmed = 0
