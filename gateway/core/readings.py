"""Readings of sensors as the records hold them: one shape, whatever protocol they came by.

A `reading` record holds what one device said about one moment or period. Keys of `data`; absent means "not said":

    class, site         device class; site that the device stands at ("" where unknown)
    taken_utc_s         the device's own time of acquisition, or the start of the period (device_time keeps the text)
    period_s            length of the period that the values are statistics of; absent for the value of a moment
    backfill            true where the device sent what it had stored
    values              list of values, in the order sent
    flags               what speaks against the whole, names in alphabetical order separated by spaces; see FLAGS
    deviations          where the message left its standard, likewise; each protocol lists its own
    sequence            what the device counts its readings by, as sent
    event               what happened, where something did: delivery | cleared (bins)
    category            of what was delivered, as sent
    depositor           keyed hash of a person who was named; nothing else of the person is kept
    unit, round         Modbus: unit id; what was asked, and when it was on the wire (drivers.modbus.drafts)
    message             HJ 212: number of the command, such as 2011
    parts, parts_missing    HJ 212: how many parts the message was divided into; which are missing, such as "2 5"
    part_of             of several records of one long message: which one, such as "1/3"
    clock_offset_s      with clock-off: the device's clock minus ours
    problem             why there are no values: what could not be decrypted, and why

Keys of a value:

    quantity            canonical name, see QUANTITIES; "" where the profile does not know the code
    channel             duct, phase or hatch, where there are several: text; absent where there is one
    code                factor code or register as the device names it
    statistic           rtd (the moment), min, avg, max, sum, state
    text                the number or state as sent
    value_e6            the number times 10^6 in `unit`, rounded half to even; absent where there is no number
    unit                of value_e6
    state               on | off | calibration | maintenance | alarm | blowback | fault, for states
    mark                the device's own data flag (HJ 212: N F M S D C T B …)
    quality             good | suspect | bad: by mark, range, sentinel and profile; `why` names what speaks against it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final

FLAGS: Final = frozenset(
    {
        "no-time",  # the device's time is no time
        "future",  # more than 120 s after arrival
        "stale",  # more than 30 days before arrival
        "clock-off",  # the device's clock is off by a known offset (device.state `clock` has it)
        "incomplete",  # parts of a divided message are missing
        "unlisted",  # the device is on no list: kept in quarantine, never judged
        "undecrypted",  # its content could not be decrypted: kept in quarantine, never judged
    }
)
QUANTITIES: Final[Mapping[str, str]] = {
    "fume": "mg/m3",
    "pm": "mg/m3",
    "nmhc": "mg/m3",
    "fan_current": "A",
    "purifier_current": "A",
    "fan_state": "",
    "purifier_state": "",
    "fan_power": "W",
    "purifier_power": "W",
    "current": "A",
    "voltage": "V",
    "power": "W",
    "energy": "Wh",
    "frequency": "Hz",
    "power_factor": "1",
    "temperature": "Cel",
    "humidity": "%",
    "pressure": "Pa",
    "flow": "m3/s",
    "velocity": "m/s",
    "pm1": "ug/m3",
    "pm2_5": "ug/m3",
    "pm10": "ug/m3",
    "co2": "ppm",
    "noise": "dB",
    "weight": "kg",
    "weight_before": "kg",
    "weight_after": "kg",
    "count": "1",
    "level": "%",
}
"""Canonical name → unit in which value_e6 counts. A profile may name others; they are kept and not judged."""
SCALE: Final = 1_000_000
DIGITS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Reading:
    """One value as the rules see it."""

    seq: int
    arrival_utc_ns: int
    taken_utc_s: int | None
    period_s: int
    """0 for the value of a moment."""
    quantity: str
    channel: str
    statistic: str
    value_e6: int | None
    state: str
    good: bool
    flags: str


def readings_of(seq: int, arrival_utc_ns: int, data: Mapping[str, Any]) -> Iterator[Reading]:
    """The values of a `reading` record that have a quantity, in the order sent."""
    taken, period, flags = data.get("taken_utc_s"), data.get("period_s", 0), data.get("flags", "")
    for value in data["values"]:
        get = value.get
        if quantity := get("quantity"):
            yield Reading(
                seq, arrival_utc_ns, taken, period, quantity, get("channel", ""), get("statistic", "rtd"),
                get("value_e6"), get("state", ""), get("quality", "good") == "good", flags,
            )  # fmt: skip


def name_of(value: Mapping[str, Any]) -> str:
    """How people see which value it is: quantity, or quantity/channel, with min, avg and max."""
    name = f"{value['quantity']}/{value['channel']}" if value.get("channel") else str(value["quantity"])
    return f"{name} {value['statistic']}" if value["statistic"] in {"min", "avg", "max"} else name


def shown(value: Mapping[str, Any]) -> str:
    """A value on one line: `1.98 mg/m3`, `on`, `31 mg/m3, bad: range`, `none, bad: probe-fault`."""
    if "state" in value:
        text = str(value["state"])
    elif "value_e6" in value:
        unit = value["unit"] if value["unit"] != "1" else ""
        text = f"{number_text(value['value_e6'])} {unit}".rstrip()
    else:
        text = "none"
    return text if value.get("quality", "good") == "good" else f"{text}, {value['quality']}: {value['why']}"


def number_text(value_e6: int) -> str:
    """A number times 10^6 as decimal text without trailing zeros."""
    whole, micros = divmod(abs(value_e6), SCALE)
    text = f"{whole}.{micros:06}".rstrip("0").rstrip(".")
    return f"-{text}" if value_e6 < 0 else text


def micro(text: str) -> int | None:
    """A decimal number as text times 10^6, rounded half to even; None where it is no number of sensible length."""
    if len(text) > DIGITS_MAX:
        return None
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() > 9:
        return None
    return int((number * SCALE).quantize(Decimal(1), ROUND_HALF_EVEN))
