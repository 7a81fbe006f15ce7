"""The records of a Modbus bus: what each kind's `data` holds. Pure functions over values.

reading       in the shape of gateway.core.readings, with `class`, `site` and `values`; no `taken_utc_s`: the device has
              no clock, its arrival is its time. Beside those keys
                  unit       unit id on the bus
                  round      list, one for each question in the order asked:
                      function, address, count
                      purpose            absent for a block of values; `identity`: registers that say what the device is
                      request_bytes, response_bytes
                      frame_bytes        where an echo or noise came before the answer: the answer is the last so many
                                         bytes of the response
                      sent_mono_ns       when the request had been given to the line, decimal text, on the same axis as
                                         the leaf's mono_ns
                      received_mono_ns   when the last byte of the answer had been read
              raw = request, response, request, response …: every byte as it was on the wire, in that order
device.state  state, class, unit, reason and
                  online, offline, exception, wrong-identity    of a device; raw = request and response that say so
                  online, offline    of the bus (device ""): address
                  disabled           a profile is unusable
device.gap    reason (that of most of the items), count, reasons (count by reason), size_bytes, first_reason, detail and
              unit (absent for bytes that nobody asked for: device ""); raw = the first bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from drivers.modbus.blocks import Answer, Decoded, DevicePlan
from gateway.core import kinds
from gateway.core.record import Draft

TEXT_MAX: Final = 255
RAW_MAX_BYTES: Final = 256
"""Of what could not be read."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer, and what it was asked for."""

    answer: Answer
    purpose: str = ""


def reading_draft(source: str, plan: DevicePlan, exchanges: Sequence[Exchange], decoded: Decoded) -> Draft:
    """reading"""
    values: dict[str, Any] = {
        "class": plan.device_class,
        "site": plan.site,
        "unit": plan.unit,
        "values": [dict(value) for value in decoded.values],
        "round": [_round(one) for one in exchanges],
    }
    if decoded.flags:
        values["flags"] = decoded.flags
    if decoded.deviations:
        values["deviations"] = decoded.deviations
    raw = b"".join(one.answer.request + one.answer.response for one in exchanges)
    return Draft(kinds.READING, source, plan.device, values, raw=raw, profile=plan.profile)


def _round(exchange: Exchange) -> dict[str, Any]:
    answer, block = exchange.answer, exchange.answer.block
    found: dict[str, Any] = {"function": block.function, "address": block.address, "count": block.count}
    if exchange.purpose:
        found["purpose"] = exchange.purpose
    found |= {"request_bytes": len(answer.request), "response_bytes": len(answer.response)}
    if answer.frame_bytes != len(answer.response):
        found["frame_bytes"] = answer.frame_bytes
    return found | {"sent_mono_ns": str(answer.sent_ns), "received_mono_ns": str(answer.received_ns)}


def state_draft(source: str, plan: DevicePlan, state: str, reason: str, raw: bytes | None = None) -> Draft:
    """device.state of a device"""
    values = {"state": state, "class": plan.device_class, "unit": plan.unit, "reason": reason[:TEXT_MAX]}
    return Draft(kinds.DEVICE_STATE, source, plan.device, values, raw=raw, profile=plan.profile)


def bus_draft(source: str, state: str, reason: str, address: str) -> Draft:
    """device.state of the bus"""
    values = {"state": state, "reason": reason[:TEXT_MAX], "address": address[:TEXT_MAX]}
    return Draft(kinds.DEVICE_STATE, source, "", values)


def gap_draft(
    source: str, plan: DevicePlan | None, reason: str, count: int, values: Mapping[str, Any], held: bytes
) -> Draft:
    """device.gap of a device, or with `plan` None of the bus"""
    unit = {} if plan is None else {"class": plan.device_class, "unit": plan.unit}
    detail = str(values.get("detail", ""))[:TEXT_MAX]
    found = {**unit, "reason": reason, "count": count, **values, "detail": detail}
    device = "" if plan is None else plan.device
    raw = held[:RAW_MAX_BYTES] or None
    return Draft(kinds.DEVICE_GAP, source, device, found, raw=raw, profile=plan.profile if plan else None)
