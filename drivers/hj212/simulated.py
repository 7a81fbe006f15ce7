"""What a simulated monitor says about its kitchen: measurements as factors, in the dialects that are met. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Final, Literal

from drivers.fleet.kitchens import Fume

DialectName = Literal["fume-d1", "fume-d2", "fume-d3"]
Edition = Literal[2005, 2017, 2025]
STS: Final[dict[DialectName, str]] = {"fume-d1": "31", "fume-d2": "51", "fume-d3": "99"}
VERSIONS: Final[dict[Edition, int]] = {2005: 0, 2017: 1, 2025: 2}
_ZONE: Final = timedelta(hours=8)


def digits(utc_s: float) -> str:
    """YYYYMMDDhhmmss in Beijing time."""
    return f"{datetime.fromtimestamp(int(utc_s), UTC) + _ZONE:%Y%m%d%H%M%S}"


def utc_of(text: str) -> int | None:
    """UTC seconds of 14 digits in Beijing time; None where they are no time."""
    if len(text) != 14 or not (text.isascii() and text.isdigit()):
        return None
    try:
        found = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int((found - _ZONE).timestamp())


def moment(seen: Fume, dialect: DialectName) -> str:
    """CP of a 2011."""
    time = digits(seen.time_utc_s)
    fan, purifier = int(seen.fan_on), int(seen.purifier_on)
    match dialect:
        case "fume-d1":
            return f"DataTime={time};a34041-Rtd={_e2(seen.fume_e2)},a34041-Flag=N;SB7-RS={fan};SB8-RS={purifier}"
        case "fume-d2":
            return (
                f"DataTime={time}000;ga2101-Rtd={purifier};ga0701-Rtd={fan};a34041-Rtd={_e2(seen.fume_e2)};"
                f"a34000-Rtd={_e2(seen.pm_e2)};a24088-Rtd={_e2(seen.nmhc_e2)};"
            )
        case "fume-d3":
            return (
                f"DataTime={time};006-Rtd={_e2(seen.fume_e2)},006-ID=1;a34004-Rtd={_e2(seen.pm_e2)};"
                f"011-Rtd={fan},011-ID=1;012-Rtd={_e3(seen.fan_ma)},012-ID=1;"
                f"011-Rtd={purifier},011-ID=2;012-Rtd={_e3(seen.purifier_ma)},012-ID=2"
            )


def period(seen: Sequence[Fume], begin_utc_s: int, dialect: DialectName) -> str:
    """CP of a 2051: smallest, mean and largest fume of a period that begins at `begin_utc_s`."""
    values = [one.fume_e2 for one in seen]
    code, tail = ("006", ",006-ID=1") if dialect == "fume-d3" else ("a34041", ",a34041-Flag=N")
    low, mean, high = _e2(min(values)), _e2(round(fmean(values))), _e2(max(values))
    return f"DataTime={digits(begin_utc_s)};{code}-Min={low},{code}-Avg={mean},{code}-Max={high}{tail}"


def _e2(value: int) -> str:
    return f"{'-' if value < 0 else ''}{abs(value) // 100}.{abs(value) % 100:02}"


def _e3(value: int) -> str:
    return f"{value // 1000}.{value % 1000:03}"
