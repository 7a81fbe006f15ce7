"""What a place that holds files tells its driver: the words between `drivers/io` and a file-taking protocol.

Names are bytes; a path is components joined by `/`, relative to the place, and never used to leave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FailureClass = Literal["transient", "permanent", "full", "link"]
"""Try the file again later; never again in this version; the spool is full; the whole place is unreachable."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file as a listing shows it."""

    path: bytes
    size_bytes: int | None
    """None where the listing does not say."""
    version: str
    """Changes when the file changes: modification time, or what an HTTP listing gives."""
    mtime_ns: int | None = None
    inode: int | None = None
    links: int | None = None
    """Hard links; more than one is recorded."""
    url: str = ""
    sha256: str = ""
    """As declared by an HTTP listing; "" where it is not."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of an HTTP listing."""
    time_text: str = ""
    time_local: str = ""
    time_zone: str = ""
    """Device time of an HTTP listing, as in drivers.times."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something in a listing that cannot be taken."""

    path: bytes
    reason: str
    """Short fixed word: link, fifo, socket, device, permission-denied, io-error, depth-limit, …"""
    text: str = ""
    """For people."""


@dataclass(frozen=True, slots=True)
class PeerClock:
    """The other side's clock in an answer of its own, and ours around it."""

    text: str
    utc_ns: int
    sent_utc_ns: int
    received_utc_ns: int


@dataclass(frozen=True, slots=True)
class ListingEnd:
    """End of one walk through the place."""

    complete: bool
    """Nothing was left out: no unreadable folder, no limit."""
    mounted: bool = False
    """The place is the root of a mounted file system."""
    peer_clock: PeerClock | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A file is in the spool."""

    sha256: str
    size_bytes: int
    already_there: bool
    """The spool held these bytes before."""
    changed: str = ""
    """Not empty: the file changed while it was copied, and what changed."""
    resumed_at_bytes: int = 0
    """The copy continued an earlier attempt from here."""
    etag: str = ""
    size_expected_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file could not be taken."""

    failure: FailureClass
    reason: str
    """Short fixed word, as in Refusal."""
    text: str
    """For people: what was wrong."""
