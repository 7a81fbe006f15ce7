"""Operators' orders to Modbus devices: only what the device's profile names may be written, and only to a device that
answers. Pure.

    write    name: of the profile; values: list of numbers, or value: one number
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from drivers.modbus.blocks import Answer, DevicePlan, Writable
from drivers.modbus.codec import EXCEPTIONS, Request
from drivers.modbus.polled import Question
from gateway.core.ports import Outcome

AWAY: Final = Outcome("offline", "the device does not answer just now; nothing was written")
UNANSWERED: Final = Outcome("timeout", "the device has not answered; it may have done it all the same")
BITS: Final = frozenset({5, 15})


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order that may be carried out."""

    ticket: int
    index: int
    question: Question


def wanted(plan: DevicePlan, index: int, ticket: int, action: str, parameters: Mapping[str, Any]) -> Wanted | Outcome:
    """The question that carries out an order, or why it is not carried out."""
    if action != "write":
        return Outcome("unknown", f"Modbus devices know the action write, not {action!r}")
    known = ", ".join(sorted(plan.writable)) or "nothing"
    name = parameters.get("name")
    place = plan.writable.get(name) if isinstance(name, str) else None
    if place is None:
        return Outcome("refused", f"the profile lets {known} be written, not {name!r}")
    if extra := sorted(set(parameters) - {"name", "value", "values"}):
        return Outcome("refused", f"unknown parameters: {', '.join(extra)}")
    values = parameters.get("values", [parameters["value"]] if "value" in parameters else None)
    if not isinstance(values, list | tuple) or len(values) != place.count:
        return Outcome("refused", f"{place.name} takes {place.count} number(s) in values")
    low, high = (0, 1) if place.function in BITS else (place.minimum, place.maximum)
    if not all(type(value) is int and low <= value <= high for value in values):
        return Outcome("refused", f"{place.name} takes whole numbers from {low} to {high}")
    request = _request(place, tuple(values))
    if request.problem:
        return Outcome("refused", request.problem)
    return Wanted(ticket, index, Question(request, "order", ticket, place.name))


def _request(place: Writable, values: tuple[int, ...]) -> Request:
    if place.function == 23:
        read = place.read
        if read is None:
            return Request(23, place.address, len(values), values, place.address)
        return Request(23, read.address, read.count, values, place.address)
    return Request(place.function, place.address, place.count, values)


def outcome(question: Question, answer: Answer, exception: int) -> Outcome:
    """What the device answered to an order."""
    result: dict[str, Any] = {
        "name": question.name,
        "request_hex": answer.request.hex(),
        "response_hex": answer.response.hex(),
        "sent_mono_ns": str(answer.sent_ns),
        "received_mono_ns": str(answer.received_ns),
    }
    if exception:
        said = EXCEPTIONS.get(exception, "exception")
        return Outcome("refused", f"the device refuses: {said} ({exception})", result)
    if answer.registers:
        result["registers"] = list(answer.registers)
    return Outcome("done", f"{question.name} is written", result)
