"""What a judge is: a pure fold over the journal. Records go in by seq, spans of judgements come out.

The judgement of a device is a function of its records alone: of all fixes in the order of *device* time (then seq),
each under the rule
book in force at its seq. In which order and in how many pieces the records arrived changes nothing: late fixes make a
judge go over
the span again that they fall into. Days are cut at `day_starts` of the rule set (trucks work at night, so noon by
default): state
never crosses that cut, so a day can be judged from the store alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.core.finding import Judgement


@dataclass(frozen=True, slots=True)
class Seen:
    """One record of the journal, as far as judges look at it."""

    seq: int
    kind: str
    source: str
    device: str
    arrival_utc_ns: int
    data: Mapping[str, Any]
    raw: bytes | None = None
    """Only of `rules.book` records: the files."""


@dataclass(frozen=True, slots=True)
class Span:
    """All that is to be found for one device among events that start in [from_utc_s, to_utc_s).

    What was found earlier in this span and is not listed any more is withdrawn.
    """

    source: str
    device: str
    device_class: str
    privacy: str
    from_utc_s: int
    to_utc_s: int
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True)
class Want:
    """A judge needs what the journal holds of one device: late fixes fall into a day that it has let go."""

    source: str
    device: str
    from_arrival_utc_ns: int
    from_utc_s: int
    to_utc_s: int
    """The day, by device time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a judge has to say at one moment."""

    spans: Sequence[Span] = ()
    wants: Sequence[Want] = ()


class Judge(Protocol):
    """Pure; one for each family of devices (gateway.rules.trucks, …). gateway.judge runs them.

    How often `due` is asked decides when something is told, never what is told in the end: when everything has arrived
    and what the judge waits for has passed, the same records have given the same judgements.
    """

    left_out: int
    """Records of devices that there was no room for."""

    def accept(self, seen: Seen) -> None:
        """The next record, in order of seq. Kinds and devices that are not its own are passed over. A record with a
        seq that a restored memory already holds is passed over too."""

    def due(self, now_utc_ns: int) -> Turn:
        """What has changed, as of `now` (the arrival time of the newest record, or later: silence is judged too).
        Equal inputs give equal turns; `now` only decides what has become certain by silence."""

    def at_end(self, now_utc_ns: int) -> Turn:
        """As `due`, of a log that ends here: whatever would be waited for is not."""

    def history(self, want: Want, records: Sequence[Seen]) -> Span:
        """The answer to a want: all records of that device from `from_arrival_utc_ns` on, by seq."""

    def checkpoint(self) -> list[tuple[bytes, bytes | None]]:
        """What has changed in memory since the last call: key, value (None: forget). Together with everything given
        before it restores the judge to where it is."""

    def restore(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin from what `checkpoint` gave in an earlier run; an unreadable value is passed over."""
