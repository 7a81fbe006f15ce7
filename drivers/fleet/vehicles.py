"""Simulated vehicles: what their receivers and sensors say at a given moment of device time.

Pure and seeded: the same vehicle says the same at the same second, however often and in which order it is asked.
What goes wrong with it is data: a list of `Trouble`, each of one kind over a span of seconds since the journey began.

Kinds that change what is measured
    frozen       the receiver repeats its place and speed of the beginning; the recorder's speed goes on
    jammed       no fix: not valid, no satellites
    antenna-cut  the same, and the terminal says why
    power-cut    main power lost; the terminal goes on from its battery
    sensors-lost load, cover and lift are unknown, and the terminal says so
    jump         one place beside the truth by `amount` metres, at every fix of the span
    odometer     the odometer counts only `amount` per cent
    state        load, cover, lift or acc is `word` (`cover=open`)
Kinds that change what is sent
    blind        no network: fixes are stored and sent later
    offline      the terminal is dead: nothing is measured
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

from drivers.fleet.journeys import Journey, Moment, Place, State, metres_per_degree

TroubleKind = Literal[
    "frozen", "jammed", "antenna-cut", "power-cut", "sensors-lost", "jump", "odometer", "state", "blind", "offline"
]
_MASK: Final = (1 << 64) - 1
_WANDER_S: Final = 40
"""The error of a receiver changes slowly: it is drawn anew at such intervals and goes smoothly from one to the next."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that goes wrong, in [from_s, to_s) seconds since the journey began."""

    kind: TroubleKind
    from_s: float
    to_s: float
    amount: float = 0
    word: str = ""


class Measurement(NamedTuple):
    """What a terminal knows at one moment."""

    time_utc_s: int
    fixed: bool
    lat_e7: int
    lon_e7: int
    """Without a fix the last place, as terminals do."""
    alt_m: int
    speed_kmh_e1: int
    recorder_kmh_e1: int
    course_deg: int
    mileage_hm: int
    satellites: int
    hdop_e2: int
    sigma_m: float
    state: State
    sensors_lost: bool
    antenna_cut: bool
    power_lost: bool


@dataclass(frozen=True, slots=True)
class Vehicle:
    """One vehicle with one terminal."""

    identity: str
    """Digits of its phone number."""
    plate: str
    journey: Journey
    start_utc_s: int
    """Device time at which the journey begins."""
    seed: int = 0
    interval_s: int = 10
    sigma_m: float = 4.0
    """One sigma of the horizontal error."""
    odometer_hm: int = 1_234_560
    troubles: tuple[Trouble, ...] = ()
    firm: str = ""
    end_utc_s: int | None = None
    """Nothing is measured at or after it."""
    shuffled: bool = False
    """Sends what it has stored in no order."""
    _kinds: frozenset[str] = field(init=False, default=frozenset(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kinds", frozenset(trouble.kind for trouble in self.troubles))

    def trouble(self, kind: TroubleKind, utc_s: float) -> Trouble | None:
        """What of one kind goes on at a moment."""
        if kind not in self._kinds:
            return None
        since_s = utc_s - self.start_utc_s
        return next((one for one in self.troubles if one.kind == kind and one.from_s <= since_s < one.to_s), None)

    def reaches(self, utc_s: float) -> bool:
        """Whether there is a network."""
        return not self.trouble("blind", utc_s) and not self.trouble("offline", utc_s)

    def turns_s(self) -> list[float]:
        """Moments at which something begins or ends, ascending."""
        return sorted({self.start_utc_s + at for one in self.troubles for at in (one.from_s, one.to_s)})

    def truth(self, utc_s: float) -> Moment:
        """Where it really is."""
        return self.journey.at(utc_s - self.start_utc_s)

    def measure(self, utc_s: int) -> Measurement | None:
        """What the terminal knows at a second; None while it is dead or before it begins."""
        if utc_s < self.start_utc_s or (self.end_utc_s is not None and utc_s >= self.end_utc_s):
            return None
        if self.trouble("offline", utc_s):
            return None
        truth = self.truth(utc_s)
        frozen = self.trouble("frozen", utc_s)
        void = self.trouble("jammed", utc_s) or self.trouble("antenna-cut", utc_s)
        held = frozen or void
        seen_utc_s = utc_s if held is None else self.start_utc_s + math.floor(held.from_s)
        seen = truth if held is None else self.truth(seen_utc_s)
        place = self._place(seen, seen_utc_s)
        noise_kmh = gauss(self.seed, 3, seen_utc_s) * 0.3
        speed_kmh = max(seen.speed_kmh + noise_kmh, 0.0) if seen.speed_kmh > 1 else 0.0
        satellites = 0 if void else 11 + round(2 * wander(self.seed, 4, seen_utc_s))
        return Measurement(
            time_utc_s=utc_s,
            fixed=void is None,
            lat_e7=place[0],
            lon_e7=place[1],
            alt_m=6 + round(2 * wander(self.seed, 5, seen_utc_s)),
            speed_kmh_e1=0 if void else round(speed_kmh * 10),
            recorder_kmh_e1=round(truth.speed_kmh * 10),
            course_deg=round(seen.course_deg) % 360,
            mileage_hm=self.odometer_hm + math.floor(self._counted_m(utc_s, truth) / 100),
            satellites=max(satellites, 0 if void else 8),
            hdop_e2=9999 if void else 80 + 5 * max(0, 12 - satellites),
            sigma_m=self.sigma_m,
            state=self._state(truth.state, utc_s),
            sensors_lost=self.trouble("sensors-lost", utc_s) is not None,
            antenna_cut=self.trouble("antenna-cut", utc_s) is not None,
            power_lost=self.trouble("power-cut", utc_s) is not None,
        )

    def _place(self, seen: Moment, utc_s: int) -> Place:
        north_m = self.sigma_m * (0.95 * wander(self.seed, 1, utc_s) + 0.2 * gauss(self.seed, 6, utc_s))
        east_m = self.sigma_m * (0.95 * wander(self.seed, 2, utc_s) + 0.2 * gauss(self.seed, 7, utc_s))
        if jump := self.trouble("jump", utc_s):
            north_m += jump.amount * math.sin(self.seed + 1)
            east_m += jump.amount * math.cos(self.seed + 1)
        north, east = metres_per_degree(seen.lat_e7)
        return round(seen.lat_e7 + north_m / north * 1e7), round(seen.lon_e7 + east_m / east * 1e7)

    def _counted_m(self, utc_s: int, truth: Moment) -> float:
        """What the odometer has counted since the beginning."""
        counted_m = truth.travelled_m
        for trouble in self.troubles:
            since_s = utc_s - self.start_utc_s
            if trouble.kind == "odometer" and since_s > trouble.from_s:
                at_m = (self.journey.at(min(since_s, end_s)).travelled_m for end_s in (trouble.from_s, trouble.to_s))
                begin_m, end_m = at_m
                counted_m -= (end_m - begin_m) * (1 - trouble.amount / 100)
        return counted_m

    def _state(self, state: State, utc_s: int) -> State:
        since_s = utc_s - self.start_utc_s
        for trouble in self.troubles:
            if trouble.kind == "state" and trouble.from_s <= since_s < trouble.to_s:
                name, _, word = trouble.word.partition("=")
                state = replace(state, acc=word == "on") if name == "acc" else replace(state, **{name: word})  # type: ignore[arg-type]
        return state


def with_troubles(vehicle: Vehicle, troubles: Sequence[Trouble]) -> Vehicle:
    """The same vehicle with more trouble."""
    return replace(vehicle, troubles=(*vehicle.troubles, *troubles))


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """Device time from a monotonic clock: begins in the past, runs `speed_up` times faster until it has caught up with
    the real time, and then at its pace. It is never ahead of it."""

    begin_mono_s: float
    begin_utc_s: float
    """Real time at that moment."""
    span_s: float = 0.0
    """Device time that passes until it has caught up."""
    speed_up: float = 1.0

    @property
    def start_utc_s(self) -> float:
        """Device time at the beginning."""
        return self.begin_utc_s - self.span_s * (1 - 1 / self.speed_up)

    def utc_s(self, mono_s: float) -> float:
        """Device time at a moment."""
        since_s = mono_s - self.begin_mono_s
        return min(self.start_utc_s + since_s * self.speed_up, self.begin_utc_s + since_s)

    def mono_s(self, utc_s: float) -> float:
        """When device time gets there."""
        fast_s = (utc_s - self.start_utc_s) / self.speed_up
        return self.begin_mono_s + max(fast_s, utc_s - self.begin_utc_s)


# ------------------------------------------------------------------------------------------ noise


def bits_of(seed: int, channel: int, number: int) -> int:
    """64 evenly spread bits (splitmix64), the same for the same arguments on every machine."""
    z = (seed * 0x9E3779B97F4A7C15 + channel * 0xD1B54A32D192ED03 + number * 0x2545F4914F6CDD1D) & _MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return z ^ z >> 31


def gauss(seed: int, channel: int, number: int) -> float:
    """Nearly normal, mean 0 and deviation 1, never beyond 3.5: the sum of four even numbers."""
    bits = bits_of(seed, channel, number)
    total = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48)
    return (total / 65_536 - 2) * math.sqrt(3)


def wander(seed: int, channel: int, utc_s: int) -> float:
    """A number like `gauss` that changes smoothly with time and keeps its deviation."""
    knot, rest = divmod(utc_s, _WANDER_S)
    angle = math.pi / 2 * rest / _WANDER_S
    return math.cos(angle) * gauss(seed, channel, knot) + math.sin(angle) * gauss(seed, channel, knot + 1)
