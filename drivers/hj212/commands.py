"""The commands of HJ 212 by number: what each is, what answers it, over what period its values are. Pure.

Factor codes are no matter of this table: they are read by profiles (dialect.py).
"""

from __future__ import annotations

from typing import Final

FLAG_ANSWER: Final = 1
"""Bit A: an answer is wanted."""
FLAG_PARTS: Final = 2
"""Bit D: packet numbers are there."""
INTERACTION: Final = "91"
"""ST of answers."""

ACCEPTED, RESULT, NOTICE_TAKEN, DATA_TAKEN, HEARTBEAT, LOG_IN = "9011", "9012", "9013", "9014", "9015", "9021"
ANSWERS: Final = frozenset({ACCEPTED, RESULT, NOTICE_TAKEN, DATA_TAKEN})
"""They answer something and are not answered."""

READINGS: Final[dict[str, int]] = {
    "2011": 0,
    "2021": 0,
    "2031": 86_400,
    "2041": 86_400,
    "2051": -1,
    "2052": -1,
    "2061": 3600,
}
"""Commands that carry values → length of their period in seconds; 0: of the moment; -1: as set in the device."""
MINUTES: Final = frozenset({"2051", "2052"})

NAMES: Final[dict[str, str]] = {
    "1000": "timeouts",
    "1011": "time",
    "1012": "set-time",
    "1013": "time-wanted",
    "1061": "realtime-interval",
    "1062": "set-realtime-interval",
    "1063": "minute-interval",
    "1064": "set-minute-interval",
    "1072": "set-password",
    "2011": "realtime",
    "2012": "stop-realtime",
    "2021": "run-state",
    "2022": "stop-run-state",
    "2031": "day",
    "2041": "run-time",
    "2051": "minute",
    "2052": "minute-noise",
    "2061": "hour",
    "2062": "self-check",
    "2081": "started",
    "2111": "furnace-temperature",
    "3011": "zero-span",
    "3012": "sample",
    "3013": "clean",
    "3014": "compare",
    "3015": "keep-sample",
    "3016": "set-sampling-cycle",
    "3017": "sampling-cycle",
    "3018": "sample-delay",
    "3019": "identity",
    "3020": "device-values",
    "3021": "set-device-values",
    "9011": "accepted",
    "9012": "result",
    "9013": "notice-taken",
    "9014": "data-taken",
    "9015": "heartbeat",
    "9021": "log-in",
}
"""For people and records; a number that is not here has no name."""

QN_RETURNS: Final[dict[str, str]] = {
    "1": "ready",
    "2": "refused",
    "3": "PW wrong",
    "4": "MN wrong",
    "5": "ST wrong",
    "6": "Flag wrong",
    "7": "QN wrong",
    "8": "CN wrong",
    "9": "CRC wrong",
    "100": "unknown error",
}
EXE_RETURNS: Final[dict[str, str]] = {
    "1": "done",
    "2": "failed, reason unknown",
    "3": "failed, condition wrong",
    "4": "failed, timeout",
    "5": "failed, device busy",
    "6": "failed, device broken",
    "100": "no data",
}

DATA_FLAGS: Final[dict[str, str]] = {
    "N": "good",
    "F": "bad",
    "M": "bad",
    "S": "bad",
    "D": "bad",
    "C": "bad",
    "T": "suspect",
    "B": "bad",
}
"""xxxxxx-Flag → quality: normal, stopped, maintenance, set by hand, fault, calibration, above range, no connection."""
RUN_STATES: Final[dict[str, str]] = {
    "0": "off",
    "1": "on",
    "2": "calibration",
    "3": "maintenance",
    "4": "alarm",
    "5": "blowback",
}
"""SBx-RS → state of gateway.core.readings."""
STATISTICS: Final[dict[str, str]] = {
    "Rtd": "rtd",
    "Data": "rtd",
    "Min": "min",
    "Avg": "avg",
    "Max": "max",
    "Cou": "sum",
    "RT": "sum",
    "RS": "state",
}
"""Field → statistic of gateway.core.readings."""
CONVERTED: Final[dict[str, str]] = {"ZsRtd": "rtd", "ZsMin": "min", "ZsAvg": "avg", "ZsMax": "max"}
"""Fields of values that the device has converted to reference conditions: a quantity of their own."""


def answer_to(cn: str) -> str:
    """What says that a message was taken: data are 2xxx and 3xxx, all else is a notice."""
    return DATA_TAKEN if cn[:1] in ("2", "3") else NOTICE_TAKEN
