"""What a sensor profile makes of registers: a checked profile in, values of gateway.core.readings out. Pure.

    sensor = compile(loaded.profile, loaded.ref)
    plan = DevicePlan(unit=1, device="…", profile=loaded.ref, **sensor.asked())
    decoded = plan.decode(answers)              never raises for what registers hold

Numbers are exact until value_e6: fractions, rounded once, half to even. A number that cannot be believed stays
beside the reason: quality and why; only sentinels and what is no number have no value.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec

from drivers.modbus.blocks import Answer, Block, Decoded, Identity, Writable
from firmware_profiles.sensor_model import (
    FLOATS,
    WORDS,
    BlockRule,
    SensorProfile,
    StatusRule,
    ValueRule,
    decimal_of,
    key_of,
    number_of,
    wire_address,
)
from gateway.core.canonical import MAX_SAFE_INTEGER
from gateway.core.readings import QUANTITIES, SCALE
from gateway.core.record import ProfileRef

READ_BITS: Final = frozenset({1, 2})
DECIMALS: Final = frozenset({"bcd16", "bcd32"})
DECIMALS_MAX: Final = 9
WORSE: Final = {"good": 0, "suspect": 1, "bad": 2}
_FORMATS: Final = {"f32": ">f", "f64": ">d"}


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast a device is, in milliseconds."""

    timeout_ms: int
    response_max_ms: int
    min_interval_ms: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a number stands in the answer to a block, and how its bits make it."""

    block: int
    at: int
    """First register or bit in the block."""
    type: str = "u16"
    low_word_first: bool = False
    low_byte_first: bool = False
    shift: int = 0
    mask: int | None = None
    digits: int = 0
    """packed: decimals of the low byte."""

    def number(self, answers: Sequence[Sequence[int]]) -> int | float | None:
        """As sent; None where the answer is too short or holds no such number."""
        words = answers[self.block][self.at : self.at + WORDS[self.type]] if self.block < len(answers) else ()
        if len(words) < WORDS[self.type]:
            return None
        if self.low_byte_first:
            words = [word >> 8 | (word & 0xFF) << 8 for word in words]
        if self.low_word_first:
            words = words[::-1]
        number = 0
        for word in words:
            number = number << 16 | word
        if self.type in FLOATS:
            found: float = struct.unpack(_FORMATS[self.type], number.to_bytes(2 * len(words), "big"))[0]
            return found if math.isfinite(found) else None
        if self.type in DECIMALS:
            digits = f"{number:x}"
            return int(digits) if digits.isdecimal() else None
        if self.type == "packed":
            whole, decimals = number >> 8, number & 0xFF
            return whole * 10**self.digits + decimals if decimals < 10**self.digits else None
        if self.mask is not None:
            number = number >> self.shift & self.mask
        width = 16 * len(words) if self.mask is None else self.mask.bit_length()
        return number - (1 << width) if self.type[0] == "s" and number >> width - 1 else number


@dataclass(frozen=True, slots=True)
class _Value:
    place: _Place
    key: str
    head: Mapping[str, Any]
    """quantity, channel, code."""
    statistic: str
    unit: str
    scale: Fraction
    offset: Fraction
    low: Fraction | None
    high: Fraction | None
    outside: str
    sentinels: Mapping[int, str]
    states: Mapping[int, str]
    decimals: _Place | None
    """Where the number of decimals stands."""

    def read(self, answers: Sequence[Sequence[int]]) -> dict[str, Any]:
        """The value, before status rules."""
        number = self.place.number(answers)
        found: dict[str, Any] = {**self.head, "statistic": "state" if self.states else self.statistic}
        if number is None:
            return found | {"text": self._words(answers), "quality": "bad", "why": "not-a-number"}
        found["text"] = _shown(number, self.place.digits)
        if isinstance(number, int) and number in self.sentinels:
            return found | {"quality": "bad", "why": self.sentinels[number]}
        if self.states:
            state = self.states.get(number) if isinstance(number, int) else None
            if state is None:
                return found | {"quality": "bad", "why": "unknown-state"}
            return found | {"state": state, "quality": "good"}
        digits = self.place.digits if self.decimals is None else self.decimals.number(answers)
        if not isinstance(digits, int) or digits > DECIMALS_MAX:
            return found | {"quality": "bad", "why": "decimals"}
        exact = Fraction(number) / 10**digits * self.scale + self.offset
        micro = round(exact * SCALE)
        if abs(micro) > MAX_SAFE_INTEGER:
            return found | {"quality": "bad", "why": "too-large"}
        found |= {"value_e6": micro, "unit": self.unit}
        inside = (self.low is None or exact >= self.low) and (self.high is None or exact <= self.high)
        return found | ({"quality": "good"} if inside else {"quality": self.outside, "why": "range"})

    def _words(self, answers: Sequence[Sequence[int]]) -> str:
        """The registers as hex, where they are no number."""
        words = answers[self.place.block] if self.place.block < len(answers) else ()
        return " ".join(f"{word:04x}" for word in words[self.place.at : self.place.at + WORDS[self.place.type]])


@dataclass(frozen=True, slots=True)
class _Status:
    place: _Place
    good: frozenset[int]
    quality: str
    words: Mapping[int, str]
    keys: frozenset[str]
    """quantity or quantity/channel; empty: all."""

    def verdict(self, answers: Sequence[Sequence[int]]) -> str:
        """Why its values are not to be trusted; "" where they are."""
        number = self.place.number(answers)
        if number in self.good:
            return ""
        return "no-status" if number is None else self.words.get(int(number), f"status-{number}")

    def speaks_of(self, value: _Value) -> bool:
        return not self.keys or value.key in self.keys or value.head["quantity"] in self.keys


@dataclass(frozen=True, slots=True)
class _Constant:
    """An identity register that is read with a block."""

    block: int
    at: int
    expected: int


@dataclass(frozen=True, slots=True)
class Sensor:
    """A profile, ready to run."""

    id: str
    ref: ProfileRef | None
    blocks: tuple[Block, ...]
    """What is asked, in this order."""
    timing: Timing
    identity: tuple[Identity, ...]
    """What it must say of itself. What lies in a block besides is compared in every round."""
    writes: Mapping[str, Writable]
    """Orders that an operator may give, by name."""
    fence: bool
    """False: it answers only to exactly these blocks."""
    _values: tuple[_Value, ...] = field(repr=False)
    _status: tuple[_Status, ...] = field(repr=False)
    _constants: tuple[_Constant, ...] = field(repr=False)

    def read(self, blocks: Mapping[Block, Sequence[int]]) -> list[dict[str, Any]]:
        """Values in the shape of gateway.core.readings, in the order of the profile; registers by block, bits as 0 and
        1. A block that is missing makes its values bad."""
        return self._read([blocks.get(block, ()) for block in self.blocks])

    def decode(self, answers: Sequence[Answer]) -> Decoded:
        """The same of the answers of a round, in the order of `blocks`. Port drivers.modbus.blocks.Decode."""
        return Decoded(
            tuple(
                self._read(
                    [
                        tuple(map(int, answer.bits)) if answer.block.function in READ_BITS else answer.registers
                        for answer in answers
                    ]
                )
            )
        )

    def asked(self) -> dict[str, Any]:
        """What a DevicePlan takes from the profile, by the names of its fields."""
        return {
            "blocks": self.blocks,
            "decode": self.decode,
            "profile": self.ref,
            "timeout_ms": self.timing.timeout_ms,
            "response_max_ms": self.timing.response_max_ms,
            "min_interval_ms": self.timing.min_interval_ms,
            "identity": self.identity,
            "fence": self.fence,
            "writable": self.writes,
        }

    def _read(self, answers: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        found = [value.read(answers) for value in self._values]
        for rule in self._status:
            why = rule.verdict(answers)
            if why:
                for value, values in zip(self._values, found, strict=True):
                    if rule.speaks_of(value):
                        _object(values, rule.quality, why)
        if any(not _holds(answers, one) for one in self._constants):
            for values in found:
                _object(values, "bad", "wrong-identity")
        return found


def compile(profile: SensorProfile, ref: ProfileRef | None = None, meters: str = "") -> Sensor:  # noqa: A001 - so it is
    """A checked profile (firmware_profiles.loader.load_sensor), ready to run. `meters`: what a meter is clamped on,
    `fan` or `purifier`: its current and power are then the quantities of that, such as purifier_current."""
    base = profile.address_base
    blocks = tuple(
        Block(rule.function, wire_address(base, rule.function, rule.address), rule.count) for rule in profile.block
    )
    values = tuple(
        _value(profile, blocks, rule, index, _metered(value, meters))
        for index, rule in enumerate(profile.block)
        for value in rule.value
    )
    identity = tuple(
        Identity(
            Block(rule.function, wire_address(base, rule.function, rule.address), len(rule.values)),
            tuple(None if value < 0 else value for value in rule.values),
        )
        for rule in profile.identity
    )
    writes = {
        rule.name: Writable(
            rule.name,
            rule.function,
            wire_address(base, rule.function, rule.address),
            rule.count,
            rule.minimum,
            rule.maximum,
        )
        for rule in profile.write
    }
    timing = profile.timing
    return Sensor(
        id=profile.id,
        ref=ref,
        blocks=blocks,
        timing=Timing(timing.timeout_ms, timing.response_max_ms, timing.min_interval_ms),
        identity=identity,
        writes=writes,
        fence=not any(rule.whole for rule in profile.block),
        _values=values,
        _status=tuple(_status(profile, blocks, rule) for rule in profile.status),
        _constants=tuple(_constants(blocks, identity)),
    )


def _value(profile: SensorProfile, blocks: Sequence[Block], block: BlockRule, index: int, rule: ValueRule) -> _Value:
    low, high = (decimal_of(end) for end in rule.range) if rule.range else (None, None)
    head: dict[str, Any] = {"quantity": rule.quantity}
    if rule.channel:
        head["channel"] = rule.channel
    return _Value(
        place=_place(profile, index, rule.address - block.address, rule),
        decimals=_decimals(profile, blocks, block, rule),
        key=key_of(rule.quantity, rule.channel),
        head=head | {"code": str(rule.address)},
        statistic=rule.statistic,
        unit=rule.unit or QUANTITIES.get(rule.quantity, ""),
        scale=decimal_of(rule.scale) or Fraction(1),
        offset=decimal_of(rule.offset) or Fraction(0),
        low=low,
        high=high,
        outside=rule.outside,
        sentinels=_by_number(rule.sentinels),
        states=_by_number(rule.states),
    )


def _metered(rule: ValueRule, meters: str) -> ValueRule:
    name = f"{meters}_{rule.quantity}"
    return msgspec.structs.replace(rule, quantity=name) if meters and name in QUANTITIES else rule


def _place(profile: SensorProfile, block: int, at: int, rule: ValueRule) -> _Place:
    shift, mask = _mask(rule.bits)
    return _Place(
        block=block,
        at=at,
        type=rule.type,
        low_word_first=(rule.word_order or profile.word_order) == "low-first",
        low_byte_first=rule.type != "bit" and (rule.byte_order or profile.byte_order) == "low-first",
        shift=shift,
        mask=mask,
        digits=rule.fraction_digits if rule.type == "packed" else 0,
    )


def _status(profile: SensorProfile, blocks: Sequence[Block], rule: StatusRule) -> _Status:
    place = _register(profile, blocks, rule.function, rule.address, rule.bits)
    return _Status(place, frozenset(rule.good), rule.quality, _by_number(rule.words), frozenset(rule.quantities))


def _decimals(profile: SensorProfile, blocks: Sequence[Block], block: BlockRule, rule: ValueRule) -> _Place | None:
    if rule.decimals_at < 0:
        return None
    return _register(profile, blocks, block.function, rule.decimals_at, rule.decimals_bits)


def _register(
    profile: SensorProfile, blocks: Sequence[Block], function: int, address: int, bits: Sequence[int]
) -> _Place:
    """A register that says something of others."""
    wire = wire_address(profile.address_base, function, address)
    index, at = find_register(blocks, function, wire) or (len(blocks), 0)
    shift, mask = _mask(bits)
    swapped = function not in READ_BITS and profile.byte_order == "low-first"
    return _Place(index, at, low_byte_first=swapped, shift=shift, mask=mask)


def find_register(blocks: Sequence[Block], function: int, address: int) -> tuple[int, int] | None:
    """(index of the block, place in it) of a register or bit by its address on the wire; None: no block reads it."""
    for index, block in enumerate(blocks):
        if block.function == function and block.address <= address < block.address + block.count:
            return index, address - block.address
    return None


def _constants(blocks: Sequence[Block], identity: Sequence[Identity]) -> list[_Constant]:
    found = []
    for one in identity:
        for number, expected in enumerate(one.expected):
            place = find_register(blocks, one.block.function, one.block.address + number)
            if place is not None and expected is not None:
                found.append(_Constant(*place, expected))
    return found


def _holds(answers: Sequence[Sequence[int]], one: _Constant) -> bool:
    words = answers[one.block] if one.block < len(answers) else ()
    return one.at < len(words) and words[one.at] == one.expected


def _mask(bits: Sequence[int]) -> tuple[int, int | None]:
    return (bits[0], (1 << bits[-1] - bits[0] + 1) - 1) if bits else (0, None)


def _by_number(words: Mapping[str, str]) -> dict[int, str]:
    return {number: word for text, word in words.items() if (number := number_of(text)) is not None}


def _object(values: dict[str, Any], quality: str, why: str) -> None:
    """Something speaks against a value; the worst counts, and every reason is named."""
    reasons = sorted({*filter(None, values.get("why", "").split(" ")), why})
    values["why"] = " ".join(reasons)
    if WORSE[quality] > WORSE[values["quality"]]:
        values["quality"] = quality


def _shown(number: float, digits: int) -> str:
    """As sent: whole numbers in full, packed ones with their decimals, floats in the shortest form of their value."""
    if isinstance(number, int):
        return f"{number // 10**digits}.{number % 10**digits:0{digits}}" if digits else str(number)
    return format(Decimal(repr(number)), "f") if 1e-9 < abs(number) < 1e15 or not number else repr(number)
