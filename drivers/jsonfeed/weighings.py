"""Weights that belong together: what a scale showed before and after, and what the device makes of it. Pure.

The weight of a delivery is after minus before; what the device works out stays beside as its text, and must agree
within the division of the scale. These are consumer scales: nothing here is legal metrology.
"""

from __future__ import annotations

from typing import Any, Final

from firmware_profiles.feed_model import WEIGHTS, Weighing
from firmware_profiles.sensor_model import decimal_of
from gateway.core.readings import SCALE

DERIVED: Final = "after-before"
"""`code` of a weight that the device did not send."""
WORSE: Final = {"good": 0, "suspect": 1, "bad": 2}


class Weighings:
    """The rule of one profile."""

    def __init__(self, rule: Weighing) -> None:
        self.step_e6 = round((decimal_of(rule.step) or 0) * SCALE)
        self._asks_stable = bool(rule.stable)
        self._stable = frozenset(rule.stable_words)

    def judge(self, values: list[dict[str, Any]], event: str, stable: str | None) -> None:
        """Compare the weights of one reading, channel by channel; a weight that was not sent is added."""
        channels: dict[str, dict[str, dict[str, Any]]] = {}
        for value in values:
            if value["quantity"] in WEIGHTS:
                channels.setdefault(value.get("channel", ""), {})[value["quantity"]] = value
        for channel, found in channels.items():
            self._compare(values, channel, found, event)
            if self._asks_stable and stable not in self._stable:
                for value in found.values():
                    object_to(value, "bad", "unstable")

    def _compare(
        self, values: list[dict[str, Any]], channel: str, found: dict[str, dict[str, Any]], event: str
    ) -> None:
        before, after = (found.get(name, {}).get("value_e6") for name in ("weight_before", "weight_after"))
        if before is None or after is None:
            return
        taken = after - before
        weight = found.get("weight")
        if weight is None:
            weight = {"quantity": "weight"} | ({"channel": channel} if channel else {})
            weight |= {"code": DERIVED, "statistic": "rtd", "text": "", "unit": "kg", "quality": "good"}
            values.append(weight)
            found["weight"] = weight
        elif (said := weight.get("value_e6")) is not None:
            # a bin that was emptied may say what was taken out, without a sign
            apart = min(abs(said - taken), abs(said + taken)) if event == "cleared" else abs(said - taken)
            if apart > self.step_e6:
                object_to(weight, "suspect", "weights-disagree")
        weight |= {"value_e6": taken, "unit": "kg"}
        if event == "delivery" and taken < -self.step_e6:
            object_to(weight, "suspect", "lighter-after")
        for name in ("weight_before", "weight_after"):
            if found[name]["quality"] != "good":
                object_to(weight, found[name]["quality"], found[name]["why"])


def object_to(value: dict[str, Any], quality: str, why: str) -> None:
    """Something speaks against a value; the worst counts, and every reason is named."""
    value["why"] = " ".join(sorted({*value.get("why", "").split(), *why.split()}))
    if WORSE[quality] > WORSE[value["quality"]]:
        value["quality"] = quality
