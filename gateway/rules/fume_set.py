"""Rules for the monitors of kitchens: tables of a rule set (format rules/v1), beside those of trucks.

As there a rule is judged where its table stands, and all thresholds are whole numbers with their unit in the name; only
limits are written as people know them, in mg/m3. `severity` is what a finding of the rule is called.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.core.finding import Severity
from gateway.rules.kitchens import LimitMgM3, e6
from gateway.rules.notes import Notes
from gateway.rules.tables import Check, Rule, Table
from gateway.rules.windows import DAY_S

Basis = Literal["reference-flow", "measured", "device-converted"]
"""What is compared with the limit: the mean converted to the base air volume where stoves and flow are known, the mean
as measured, or the mean of what the device itself has converted."""

_Seconds = Annotated[int, Meta(ge=0, le=86_400)]
_Window = Annotated[int, Meta(ge=60, le=86_400)]
_Values = Annotated[int, Meta(ge=1, le=1000)]
_Percent = Annotated[int, Meta(ge=1, le=100)]
_Fume = Annotated[int, Meta(ge=-10_000, le=1_000_000)]
_Current = Annotated[int, Meta(ge=-1_000_000, le=10_000_000)]


class Readings(Table, frozen=True, kw_only=True):
    """What holds for all rules: how often a monitor reports, which data are valid, what counts as on."""

    interval_s: Annotated[int, Meta(ge=1, le=3600)] = 60
    """Reporting interval, where the kitchen does not say."""
    gap_intervals: Annotated[int, Meta(ge=1, le=1000)] = 5
    """A step of more intervals is a gap: nothing is known of the time between."""
    minute_s: Annotated[int, Meta(ge=10, le=3600)] = 60
    """Length of the shortest mean."""
    valid_percent: _Percent = 75
    """A mean is valid where so much of what it is made of is (HJ 212-2017)."""
    basis: Basis = "reference-flow"
    fan_on_ma: _Current = 500
    """From here on the fan runs, where it reports no state and the kitchen does not say."""
    purifier_on_ma: _Current = 200


class FumeLimit(Rule, frozen=True, kw_only=True):
    """The mean over one window is above the limit."""

    limit_mg_m3: LimitMgM3 = 2.0
    """Where neither the kitchen nor the file of kitchens names one."""
    window_s: _Window = 3600
    severity: Severity = "lead"


class FumeSustained(Rule, frozen=True, kw_only=True):
    """The means of so many windows in a row are above the limit."""

    limit_mg_m3: LimitMgM3 = 2.0
    window_s: _Window = 600
    windows_min: Annotated[int, Meta(ge=1, le=100)] = 3
    severity: Severity = "lead"


class PurifierOff(Rule, frozen=True, kw_only=True):
    """The fan runs and the purifier does not."""

    persist_s: _Seconds = 300
    clear_s: _Seconds = 60
    """So long in order, and it is over."""
    severity: Severity = "violation"


class PurifierCurrent(Check, frozen=True, kw_only=True):
    """The purifier runs with a current outside its band: the kitchen's, or one learnt from earlier days."""

    persist_s: _Seconds = 600
    clear_s: _Seconds = 60
    learn_days: Annotated[int, Meta(ge=0, le=7)] = 7
    """Days before that are learnt from; 0: none."""
    learn_days_min: Annotated[int, Meta(ge=1, le=7)] = 3
    """Of them at least so many must have readings, …"""
    learn_values_min: Annotated[int, Meta(ge=10, le=100_000)] = 300
    """… and so many in all."""
    low_permille: Annotated[int, Meta(ge=0, le=1000)] = 50
    high_permille: Annotated[int, Meta(ge=0, le=1000)] = 950
    """Medians over these days of these quantiles of each …"""
    margin_percent: Annotated[int, Meta(ge=0, le=99)] = 30
    """… and so much of each farther out: the learnt band."""
    severity: Severity = "lead"


class FanOff(Check, frozen=True, kw_only=True):
    """Much fume while the fan is off: the probe, the current sensor or a clock is wrong."""

    fume_ug_m3: _Fume = 1000
    persist_s: _Seconds = 600
    clear_s: _Seconds = 60
    severity: Severity = "lead"


class MonitorOffline(Check, frozen=True, kw_only=True):
    """No reading for more than max(intervals x reporting interval, silence_s) of business hours."""

    intervals: Annotated[int, Meta(ge=1, le=1000)] = 5
    silence_s: Annotated[int, Meta(ge=10, le=86_400)] = 900
    fleet_percent: _Percent = 80
    """So many of the monitors that reported silent at once: the gateway's own line."""
    fleet_min: Annotated[int, Meta(ge=2, le=10_000)] = 5
    fleet_s: _Seconds = 120
    severity: Severity = "fault"


class FlatLine(Check, frozen=True, kw_only=True):
    """The very same concentration all the time, in business hours and while the fan runs."""

    persist_s: _Seconds = 3600
    values_min: _Values = 30
    floor_ug_m3: _Fume = 20
    """Where it is not known whether the fan runs, only what is above this counts."""
    severity: Severity = "lead"


class Range(Check, frozen=True, kw_only=True):
    """Values that cannot be, whatever the device says of them; they are never valid."""

    fume_min_ug_m3: _Fume = -100
    fume_max_ug_m3: _Fume = 30_000
    current_min_ma: _Current = -100
    current_max_ma: _Current = 100_000
    values_min: _Values = 3
    """In a row."""
    severity: Severity = "fault"


class JumpValue(Check, frozen=True, kw_only=True):
    """From one value to the next an order of magnitude, up or down, and it stays there; the fan did not change."""

    factor: Annotated[int, Meta(ge=2, le=1000)] = 10
    floor_ug_m3: _Fume = 100
    """Both levels lie above it."""
    values_before: _Values = 5
    """Their median is the level before."""
    values_min: _Values = 3
    """So many values at the new level."""
    severity: Severity = "lead"


class Calibration(Check, frozen=True, kw_only=True):
    """The calibration of the kitchen's monitor has run out; told on the first day and every `repeat_days` after it."""

    repeat_days: Annotated[int, Meta(ge=1, le=366)] = 7
    severity: Severity = "lead"


class FumeTables(Table, frozen=True, kw_only=True):
    """Part of a file of format rules/v1."""

    readings: Readings | None = None
    fume_limit: FumeLimit | None = None
    fume_sustained: FumeSustained | None = None
    purifier_off: PurifierOff | None = None
    purifier_current: PurifierCurrent | None = None
    fan_off: FanOff | None = None
    monitor_offline: MonitorOffline | None = None
    flat_line: FlatLine | None = None
    range: Range | None = None
    jump_value: JumpValue | None = None
    calibration: Calibration | None = None


FUME_RULES: Final = (
    "fume_limit",
    "fume_sustained",
    "purifier_off",
    "purifier_current",
    "fan_off",
    "monitor_offline",
    "flat_line",
    "range",
    "jump_value",
    "calibration",
)
"""Tables that are judged, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class FumeRules:
    """Those of one rule set. One that is None is not judged."""

    readings: Readings = field(default_factory=Readings)
    fume_limit: FumeLimit | None = None
    fume_sustained: FumeSustained | None = None
    purifier_off: PurifierOff | None = None
    purifier_current: PurifierCurrent | None = None
    fan_off: FanOff | None = None
    monitor_offline: MonitorOffline | None = None
    flat_line: FlatLine | None = None
    range: Range | None = None
    jump_value: JumpValue | None = None
    calibration: Calibration | None = None

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return any(getattr(self, name) is not None for name in FUME_RULES)


def compiled(table: FumeTables, notes: Notes) -> FumeRules:
    """The rules of a rule set. What does not fit together goes to `notes`."""
    readings = table.readings or Readings()
    for name in ("fume_limit", "fume_sustained"):
        rule = getattr(table, name)
        if rule is not None and (DAY_S % rule.window_s or rule.window_s % readings.minute_s):
            text = f"a day is no whole number of it, or it is none of minute_s ({readings.minute_s})"
            notes.error((name, "window_s"), text)
    band = table.purifier_current
    if band is not None and band.low_permille >= band.high_permille:
        notes.error(("purifier_current", "high_permille"), f"not above low_permille ({band.low_permille})")
    if band is not None and 0 < band.learn_days < band.learn_days_min:
        notes.error(("purifier_current", "learn_days_min"), f"more than learn_days ({band.learn_days})")
    outside = table.range
    if outside is not None and outside.fume_min_ug_m3 >= outside.fume_max_ug_m3:
        notes.error(("range", "fume_max_ug_m3"), f"not above fume_min_ug_m3 ({outside.fume_min_ug_m3})")
    if outside is not None and outside.current_min_ma >= outside.current_max_ma:
        notes.error(("range", "current_max_ma"), f"not above current_min_ma ({outside.current_min_ma})")
    return FumeRules(readings, **{name: getattr(table, name) for name in FUME_RULES})


def thresholds(rule: Table) -> dict[str, Any]:
    """Those of a rule as a finding holds them: integers and texts; not what the finding says elsewhere."""
    found = {key: value for key, value in msgspec.to_builtins(rule).items() if key not in ("source", "severity")}
    found.pop("limit_mg_m3", None)  # the limit that was applied stands in its place
    return found


def micro_grams(value_ug_m3: int) -> int:
    """ug/m3 as mg/m3 times 10^6."""
    return value_ug_m3 * 1000


def milli_amperes(value_ma: int) -> int:
    """mA as A times 10^6."""
    return value_ma * 1000


def limit_e6(rule: FumeLimit | FumeSustained) -> int:
    """Its own limit, mg/m3 times 10^6."""
    return e6(rule.limit_mg_m3)
