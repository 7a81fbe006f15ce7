"""Findings: what the rules found, once per event, as values that are the same however often they are computed.

A `finding` record holds

    id          32 hex digits, from rule, source, device, start and subject: the same event has the same id in every
                replay
    rule        such as `off-route`, see gateway/rules/RULES.md
    state       open | closed | withdrawn
    revision    1 for the first record of this id; a later record replaces the earlier ones
    class       device class;   privacy  open | process
    judgement   the pure part (`Judgement.to_json`): `fieldgate rules replay` gives the same bytes

An event is told when it is certain (open), and again when it has ended or when late data changed it. `withdrawn`
means that data
which came later show that there was none; nothing is ever deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Severity = Literal["violation", "lead", "fault"]
"""violation: the rule is broken by the measurements; lead: someone must look; fault: a device or link does not work."""

INPUTS_MAX: Final = 4000
"""Inputs cited one by one; of longer events the first and last half of them, and `inputs_left_out` says how many are
not."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The pure part of a finding: a function of the inputs and the rule book alone."""

    rule: str
    severity: Severity
    source: str
    device: str
    plate: str
    firm: str
    start_utc_s: int
    """Time of the first input of the event, by the device."""
    end_utc_s: int | None
    """None while it lasts."""
    inputs: tuple[int, ...]
    """seq of every record that it rests on, ascending, without repeats."""
    book_sha256: str
    book_seq: int
    """The `rules.book` record in force."""
    rule_set: str
    """id of the rule set inside the book."""
    legal_source: str
    """The legal source that the rule set names for this rule."""
    permit: str = ""
    """Number of the permit judged against; "" where none."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """The thresholds that were applied, with units in their names."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Peak, mean, duration, distance, …: integers with units in their names."""
    peak: Mapping[str, Any] = field(default_factory=dict)
    """The worst moment: time_utc_s, lat_e7, lon_e7, seq and the measured value."""
    geometry: Mapping[str, Any] = field(default_factory=dict)
    """GeoJSON-like geometry used, in integers of 1e-7 degrees: {"type", "coordinates", "id", "name"}."""
    text: Mapping[str, str] = field(default_factory=dict)
    """{"en", "zh"}: one line each."""
    inputs_left_out: int = 0
    """Inputs of a long event that are not in `inputs`: from its middle."""
    subject: str = ""
    """What it is about, where one rule can find several events that begin in the same second: the id of a place."""

    @property
    def id(self) -> str:
        """Identity of the event."""
        text = f"{self.rule}\n{self.source}\n{self.device}\n{self.start_utc_s}"
        if self.subject:
            text += f"\n{self.subject}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        """As the record holds it: integers and texts only (core.canonical)."""
        inputs, left_out = self.inputs, self.inputs_left_out
        if len(inputs) > INPUTS_MAX:
            half = INPUTS_MAX // 2
            inputs, left_out = inputs[:half] + inputs[-half:], left_out + len(inputs) - INPUTS_MAX
        shape: dict[str, Any] = {
            "rule": self.rule,
            "severity": self.severity,
            "source": self.source,
            "device": self.device,
            "plate": self.plate,
            "firm": self.firm,
            "start_utc_s": self.start_utc_s,
            "end_utc_s": self.end_utc_s,
            "inputs": list(inputs),
            "inputs_left_out": left_out,
            "book": {"sha256": self.book_sha256, "seq": self.book_seq, "rule_set": self.rule_set},
            "legal_source": self.legal_source,
            "permit": self.permit,
            "limits": dict(self.limits),
            "measured": dict(self.measured),
            "peak": dict(self.peak),
            "geometry": dict(self.geometry),
            "text": dict(self.text),
        }
        if self.subject:
            shape["subject"] = self.subject
        return shape
