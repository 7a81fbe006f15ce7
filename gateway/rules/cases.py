"""An event in the making or in progress, and the state of a vehicle between two moments; all of it small and packable.

What is here decides everything that later moments can change: a vehicle's judgement can be taken up again from a
`State` alone (and the trail of seqs that its cases point into).
"""

from __future__ import annotations

import msgspec

from gateway.rules.track import Moment


class Case(msgspec.Struct, array_like=True):
    """One event of one rule. It is told when it is certain; until then it is only watched."""

    rule: str
    ref: str
    """What it is about: number of a permit, id of a place, a sensor, a cause; "" where it is the vehicle itself."""
    book: int
    who: int
    at: int
    """Place of its first input in the trail."""
    start_s: int
    last_at: int
    last_s: int
    """Place and time of the last input that breaks the rule."""
    worst: Moment
    worst_value: int
    worst_limit: int
    fixes: int = 1
    metres: float = 0.0
    """Travelled from its first to its last input."""
    told: bool = False
    back: int = 0
    """Fixes in a row that say that it is over."""
    back_s: int = 0
    """Time of the first of them."""
    total: int = 0
    """Sum of what was measured, for the mean."""
    flag: int = 0
    """Whatever one more number the rule needs."""
    addresses: tuple[str, ...] = ()
    """Of the links under one identity, the first of them in alphabetical order."""


class Journey(msgspec.Struct, array_like=True):
    """From one stop to the next."""

    start_s: int
    seq: int
    """Of its first fix."""
    lat_e7: int
    lon_e7: int
    site: str = ""
    """Id of the place that it began at; "" where none."""
    known_s: int = 0
    metres: float = 0.0
    """Known by fixes."""
    gap_m: float = 0.0
    """Straight lines over the gaps, or more where the odometer says so."""
    loaded: bool = False
    fixes: int = 1
    end_s: int = 0
    """When it stopped; 0 while it drives. A trip is remembered until the next one begins."""


class Stay(msgspec.Struct, array_like=True):
    """Being inside a place, or on the way in or out."""

    inside: bool
    at: int
    since_s: int
    """First fix inside; of one on the way in: the first that is certain."""
    last_s: int
    """Last fix inside."""
    turns: int = 0
    """Fixes in a row that say otherwise."""
    turn_s: int = 0
    turn_at: int = 0


class Odometer(msgspec.Struct, array_like=True):
    """Odometer and track, side by side since a fix."""

    mileage_hm: int
    at: int
    since_s: int
    metres: float = 0.0
    longest_s: int = 0


class State(msgspec.Struct, array_like=True):
    """A vehicle between two moments of one day."""

    day_from_s: int = 0
    day_to_s: int = 0
    book: int = 0
    who: int = 0
    now_s: int = 0
    """Terms are those of this book, this (class, plate) and this time: of the last moment."""
    any: Moment | None = None
    """The last fix or void fix: something arrived."""
    last: Moment | None = None
    """The last fix that counts as a place."""
    held: Moment | None = None
    """A fix that may be wild: the next one tells."""
    moved_s: int = 0
    """When it was last seen driving."""
    usual_s: int = 0
    """Its reporting interval; 0 where not known yet."""
    length: int = 0
    """Of the trail."""
    ahead: Moment | None = None
    """The live moment with the highest seq so far."""
    back: int = 0
    """How often a moment stood later than one that arrived after it, in the present course of it."""
    back_from: Moment | None = None
    back_s: int = 0
    back_run: int = 0
    logged_off: Moment | None = None
    power_s: int = 0
    """Last moment with a power alarm; 0 for none."""
    antenna_s: int = 0
    anchor: Moment | None = None
    """Where it may have stopped."""
    anchor_at: int = 0
    still: bool = False
    """It has stopped."""
    mark: tuple[int, float, float, int] = (0, 0.0, 0.0, 0)
    """known_s, metres, gap_m and fixes of the trip when it came to the anchor."""
    off: int = 0
    """Fixes in a row away from where it stopped, …"""
    left: Moment | None = None
    """… and the last one before them."""
    stop_load: int = 0
    """Load bits when it came to the anchor."""
    trip: Journey | None = None
    leg: str = ""
    """Site at which it stayed last, until it stays at a ground: it may be loaded."""
    stays: dict[str, Stay] = {}
    cases: dict[str, Case] = {}
    odometer: Odometer | None = None
    said: int = 0
    """Sensors that have spoken today, as bits of track.SENSOR_BITS."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def packed(state: State) -> bytes:
    """As bytes, a few hundred."""
    return _encoder.encode(state)


def unpacked(data: bytes) -> State:
    """Raises msgspec.DecodeError or ValidationError."""
    return _decoder.decode(data)
