"""Simulated restaurants: what their fume monitors say at a given moment of device time.

Pure and seeded: the same kitchen says the same at the same second, however often and in which order it is asked. A day
is a list of shifts in which it cooks; fan and purifier run a little longer. What goes wrong is data: a list of `Upset`.

Kinds that change what is measured
    purifier-off   the purifier is off while the fan runs; fume becomes `amount` hundredths of mg/m³
    exceedance     fume becomes `amount` hundredths of mg/m³, both motors run
    purifier-weak  the purifier takes only `amount` per cent of its current
    fan-off        the fan is off and so is the purifier; fume becomes `amount` hundredths of mg/m³
    flat           fume stays what it was at the beginning, to the last digit
    negative       fume is `amount` hundredths of mg/m³ below zero
    jump           fume becomes `amount` times what it was
    spike          the same, for things that nobody should find
Kinds that change what is sent
    offline        the monitor is dead: nothing is measured
    lost           the same, for a minute that nobody should find
    late           no network: what is measured is sent later
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

from drivers.fleet.vehicles import bits_of, gauss, wander

UpsetKind = Literal[
    "purifier-off", "exceedance", "purifier-weak", "fan-off", "flat", "negative", "jump", "spike", "offline", "lost",
    "late",
]  # fmt: skip
EARLY_S: Final = 300
"""Fan and purifier run so long before the first pan is on the fire …"""
AFTER_S: Final = 600
"""… and so long after the last."""
RISE_S: Final = 240
"""Fume needs so long to come and to go."""
IDLE_E2: Final = 5
"""Fume of a cold kitchen: what a probe shows of clean air."""
_VALUE_MAX_E2: Final = 10_000


@dataclass(frozen=True, slots=True)
class Upset:
    """Something that goes wrong, in [from_utc_s, to_utc_s) of device time."""

    kind: UpsetKind
    from_utc_s: int
    to_utc_s: int
    amount: int = 0


class Fume(NamedTuple):
    """What a monitor knows at one moment."""

    time_utc_s: int
    fume_e2: int
    """Hundredths of mg/m³, as are the next two."""
    pm_e2: int
    nmhc_e2: int
    fan_on: bool
    fan_ma: int
    purifier_on: bool
    purifier_ma: int
    temperature_e1: int
    humidity_e1: int


@dataclass(frozen=True, slots=True)
class Kitchen:
    """One restaurant with one monitor."""

    identity: str
    """MN, or the name of the device in the configuration."""
    start_utc_s: int
    end_utc_s: int | None
    """Nothing is measured at or after it."""
    shifts: tuple[tuple[int, int], ...]
    """[from, to) of device time in which it cooks, ascending."""
    seed: int = 0
    interval_s: int = 60
    fume_e2: int = 60
    """While it cooks and all is well."""
    fan_ma: int = 4300
    purifier_ma: int = 1300
    upsets: tuple[Upset, ...] = ()
    name: str = ""
    firm: str = ""
    _kinds: frozenset[str] = field(init=False, default=frozenset(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kinds", frozenset(one.kind for one in self.upsets))

    def upset(self, kind: UpsetKind, utc_s: float) -> Upset | None:
        """What of one kind goes on at a moment."""
        if kind not in self._kinds:
            return None
        return next((one for one in self.upsets if one.kind == kind and one.from_utc_s <= utc_s < one.to_utc_s), None)

    def reaches(self, utc_s: float) -> bool:
        """Whether there is a network, and the monitor alive."""
        return not any(self.upset(kind, utc_s) for kind in ("late", "offline", "lost"))

    def turns_s(self) -> list[int]:
        """Moments at which something begins or ends, ascending."""
        return sorted({at for one in self.upsets for at in (one.from_utc_s, one.to_utc_s)})

    def cooks(self, utc_s: float) -> bool:
        """Whether a pan is on the fire."""
        return any(begin <= utc_s < end for begin, end in self.shifts)

    def runs(self, utc_s: float) -> bool:
        """Whether the fan should run."""
        return any(begin - EARLY_S <= utc_s < end + AFTER_S for begin, end in self.shifts)

    def measure(self, utc_s: int) -> Fume | None:
        """What the monitor knows at a second; None while it is dead, before it begins and after its end."""
        if utc_s < self.start_utc_s or (self.end_utc_s is not None and utc_s >= self.end_utc_s):
            return None
        if self.upset("offline", utc_s) or self.upset("lost", utc_s):
            return None
        fan_off = self.upset("fan-off", utc_s) is not None
        fan_on = self.runs(utc_s) and not fan_off
        purifier_on = fan_on and not self.upset("purifier-off", utc_s)
        fume_e2 = self._shown_e2(utc_s)
        weak = self.upset("purifier-weak", utc_s)
        share = weak.amount / 100 if weak else 1.0
        return Fume(
            time_utc_s=utc_s,
            fume_e2=fume_e2,
            pm_e2=max(round(fume_e2 * 1.3), 0) + 4,
            nmhc_e2=max(round(fume_e2 * 2.1 + 20 * wander(self.seed, 12, utc_s)), 0) + 60,
            fan_on=fan_on,
            fan_ma=self._current(self.fan_ma, 13, utc_s) if fan_on else 0,
            purifier_on=purifier_on,
            purifier_ma=round(self._current(self.purifier_ma, 14, utc_s) * share) if purifier_on else 0,
            temperature_e1=220 + round(180 * self._heat(utc_s) + 6 * wander(self.seed, 15, utc_s)),
            humidity_e1=580 + round(40 * wander(self.seed, 16, utc_s)),
        )

    def _shown_e2(self, utc_s: int) -> int:
        """Fume as the probe shows it."""
        if flat := self.upset("flat", utc_s):
            utc_s = flat.from_utc_s
        if negative := self.upset("negative", utc_s):
            return -negative.amount + round(2 * gauss(self.seed, 17, utc_s))
        value = self._fume_e2(utc_s)
        for kind in ("jump", "spike"):
            if more := self.upset(kind, utc_s):
                value *= more.amount
        return min(max(round(value), 0), _VALUE_MAX_E2)

    def _fume_e2(self, utc_s: int) -> float:
        for kind in ("purifier-off", "exceedance", "fan-off"):
            if more := self.upset(kind, utc_s):
                return more.amount * (1 + 0.03 * gauss(self.seed, 11, utc_s))
        # a pan more, a pan less: it wavers, and never by more than a third
        wavering = 1 + 0.06 * wander(self.seed, 10, utc_s) + 0.03 * gauss(self.seed, 11, utc_s)
        idle = IDLE_E2 + 1.5 * wander(self.seed, 18, utc_s)
        return idle + (self.fume_e2 - IDLE_E2) * self._heat(utc_s) * wavering

    def _heat(self, utc_s: float) -> float:
        """0 for cold, 1 for at work, smooth between."""
        most = 0.0
        for begin, end in self.shifts:
            inside = min(utc_s - begin, end + RISE_S - utc_s) / RISE_S
            most = max(most, min(max(inside, 0.0), 1.0))
        return (1 - math.cos(math.pi * most)) / 2

    def _current(self, usual_ma: int, channel: int, utc_s: int) -> int:
        return round(usual_ma * (1 + 0.012 * gauss(self.seed, channel, utc_s)))


def with_upsets(kitchen: Kitchen, upsets: Sequence[Upset]) -> Kitchen:
    """The same kitchen with more trouble."""
    return replace(kitchen, upsets=(*kitchen.upsets, *upsets))


def shifts_of(day_utc_s: int, seed: int, meals: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Shifts of one day: meals as seconds since `day_utc_s`, each up to ten minutes earlier or later by the seed."""
    found = []
    for number, (begin, end) in enumerate(meals):
        bits = bits_of(seed, 20, number)
        found.append((day_utc_s + begin + bits % 600 - 300, day_utc_s + end + (bits >> 16) % 600 - 300))
    return tuple(found)
