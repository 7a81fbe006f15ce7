"""What no type can say of a sensor profile: every mistake is noted with its key, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from firmware_profiles import quantity_check
from firmware_profiles.quantity_check import NAME
from firmware_profiles.sensor_model import (
    BITS_MAX,
    BLOCKS_MAX,
    EXAMPLES_MAX,
    FLOATS,
    REGISTERS_MAX,
    RULES_MAX,
    VALUES_MAX,
    WORDS,
    BlockRule,
    SensorProfile,
    ValueRule,
    WriteRule,
    first_of,
    key_of,
    number_of,
    wire_address,
)

Note = Callable[[str, str], None]

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_SPACES: Final = str.maketrans("", "", " \n\t\r")
_WRITE_MAX: Final = {5: 1, 6: 1, 15: 1968, 16: 123}
_TIMES: Final = {"timeout_ms": (10, 60_000), "response_max_ms": (10, 60_000), "min_interval_ms": (0, 3_600_000)}


def hex_of(text: str) -> str:
    """Hex digits without the spaces and line ends that make them readable."""
    return text.translate(_SPACES)


def check(profile: SensorProfile, note: Note) -> None:
    """Note every mistake."""
    _check_line(profile, note)
    if not 1 <= profile.registers_max <= REGISTERS_MAX:
        note("registers_max", f"expected 1 to {REGISTERS_MAX}, the most that Modbus allows")
    if not profile.block:
        note("block", "missing; at least one [[block]] says what is asked: function, address, count")
    if len(profile.block) > BLOCKS_MAX:
        note("block", f"{len(profile.block)} blocks where {BLOCKS_MAX} are allowed; read neighbours in one")
    values = sum(len(block.value) for block in profile.block)
    if profile.block and not values:
        note("block", "no [[block.value]]; nothing would be read")
    if values > VALUES_MAX:
        note("block", f"{values} values where {VALUES_MAX} are allowed")
    seen: dict[str, str] = {}
    for index, block in enumerate(profile.block[:BLOCKS_MAX]):
        _check_block(f"block[{index}]", profile, block, note)
        for number, value in enumerate(block.value[:VALUES_MAX]):
            key = f"block[{index}].value[{number}]"
            _check_place(key, block, value, note)
            _check_decimals(key, profile, block, value, note)
            _check_meaning(key, value, note)
            name = key_of(value.quantity, value.channel) + " " + value.statistic
            if name in seen:
                note(f"{key}.quantity", f"is the same as {seen[name]}; tell them apart by channel")
            seen.setdefault(name, key)
    _check_status(profile, {name.partition(" ")[0] for name in seen}, note)
    _check_identity(profile, note)
    _check_writes(profile, note)
    _check_examples(profile, note)


def _check_line(profile: SensorProfile, note: Note) -> None:
    if not 300 <= profile.line.baud <= 4_000_000:
        note("line.baud", "expected 300 to 4000000")
    if not 0 < profile.line.unit <= 255:
        note("line.unit", "expected 1 to 247, or up to 255 for devices that answer to a number of their own")
    for name, (low, high) in _TIMES.items():
        if not low <= getattr(profile.timing, name) <= high:
            note(f"timing.{name}", f"expected {low} to {high} milliseconds")
    if profile.timing.response_max_ms < profile.timing.timeout_ms:
        text = (
            f"below timeout_ms, {profile.timing.timeout_ms}; it is the longest that the device may take by its manual"
        )
        note("timing.response_max_ms", text)


def _address_problem(profile: SensorProfile, function: int, address: int, count: int) -> str:
    base = profile.address_base
    wire = wire_address(base, function, address)
    if 0 <= wire <= 0x10000 - max(count, 1):
        return ""
    first = first_of(base, function)
    return (
        f"{address} is {wire} on the wire, and 0 to {0x10000 - max(count, 1)} can be asked there; with address_base = "
        f"{base} function {function} begins at {first}"
    )


def _check_block(key: str, profile: SensorProfile, block: BlockRule, note: Note) -> None:
    of_bits = block.function in {1, 2}
    most = BITS_MAX if of_bits else profile.registers_max
    if not 1 <= block.count <= most:
        text = (
            "the device gives no more at once; split the block"
            if most < REGISTERS_MAX
            else "that is what Modbus allows"
        )
        note(f"{key}.count", f"expected 1 to {most}: {text}")
    elif problem := _address_problem(profile, block.function, block.address, block.count):
        note(f"{key}.address", problem)


def _check_place(key: str, block: BlockRule, value: ValueRule, note: Note) -> None:
    of_bits = block.function in {1, 2}
    if of_bits != (value.type == "bit"):
        text = 'coils and inputs are type = "bit"' if of_bits else 'registers hold numbers; use type = "u16" with bits'
        note(f"{key}.type", f"{value.type} in a block of function {block.function}; {text}")
        return
    words = WORDS[value.type]
    if not block.address <= value.address <= block.address + block.count - words:
        last = block.address + block.count - 1
        text = f"{value.type} at {value.address} takes {words}, and the block holds {block.address} to {last}"
        note(f"{key}.address", f"{text}; correct it, or make the block longer")
    width = 1 if of_bits else 16 * words
    whole = value.type in FLOATS or value.type in {"packed", "bit", "bcd16", "bcd32"}
    if value.bits and (whole or not _sound_bits(value.bits, width)):
        text = f"{value.type} has none; take them out" if whole else f"expected [lowest, highest] from 0 to {width - 1}"
        note(f"{key}.bits", text)
    if value.word_order and (words == 1 or of_bits):
        note(f"{key}.word_order", f"{value.type} is one register; take it out")
    if value.byte_order and of_bits:
        note(f"{key}.byte_order", "a bit has none; take it out")
    if not 1 <= value.fraction_digits <= 2 or (value.fraction_digits != 1 and value.type != "packed"):
        note(f"{key}.fraction_digits", "expected 1 or 2, for packed numbers only")


def _check_decimals(key: str, profile: SensorProfile, block: BlockRule, value: ValueRule, note: Note) -> None:
    if value.decimals_at < 0:
        if value.decimals_bits:
            note(f"{key}.decimals_bits", "decimals_at is missing; name the register, or take the bits out")
        return
    if value.states or value.type in FLOATS or value.type in {"packed", "bit"}:
        note(f"{key}.decimals_at", f"{'a state' if value.states else value.type} has its decimals already; take it out")
    if not any(_reads(one, block.function, value.decimals_at) for one in profile.block):
        text = f"no block of function {block.function} reads {value.decimals_at}; put it into a block"
        note(f"{key}.decimals_at", text)
    if value.decimals_bits and not _sound_bits(value.decimals_bits, 16):
        note(f"{key}.decimals_bits", "expected [lowest, highest] from 0 to 15")


def _sound_bits(bits: Sequence[int], width: int) -> bool:
    return len(bits) <= 2 and 0 <= bits[0] <= bits[-1] < width


def _check_meaning(key: str, value: ValueRule, note: Note) -> None:
    quantity_check.check(key, value, note)
    of_fractions = value.type in FLOATS or value.type == "packed"
    if value.states and of_fractions:
        note(f"{key}.type", f"{value.type} is no number of a state; use a whole number")
    if value.sentinels and of_fractions:
        text = f"{value.type} is compared with range, not with sentinels; NaN and infinity are never taken"
        note(f"{key}.sentinels", text)
    _check_numbers(f"{key}.states", value, list(value.states), note)
    _check_numbers(f"{key}.sentinels", value, list(value.sentinels), note)
    for number in {number_of(text) for text in value.sentinels} & {number_of(text) for text in value.states} - {None}:
        note(f"{key}.sentinels", f"{number} is a state already; a number means one thing")


def _check_numbers(key: str, value: ValueRule, texts: Sequence[str], note: Note) -> None:
    width = 16 * WORDS[value.type] if value.type != "bit" else 1
    if value.bits and _sound_bits(value.bits, width):
        width = value.bits[-1] - value.bits[0] + 1
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if value.type[0] == "s" else (0, (1 << width) - 1)
    if value.type.startswith("bcd"):
        high = 10 ** (width // 4) - 1
    _check_keys(key, texts, low, high, note)


def _check_keys(key: str, texts: Sequence[str], low: int, high: int, note: Note) -> None:
    seen: set[int] = set()
    if len(texts) > VALUES_MAX:
        note(key, f"{len(texts)} numbers where {VALUES_MAX} are allowed")
    for text in texts[:VALUES_MAX]:
        number = number_of(text)
        if number is None:
            note(key, f"{text[:40]!r} is no number; expected such as 0, 32767 or 0x7FFF")
        elif not low <= number <= high:
            note(key, f"{text} never comes: the number is {low} to {high}")
        elif number in seen:
            note(key, f"{text} stands twice")
        else:
            seen.add(number)


def _check_status(profile: SensorProfile, names: set[str], note: Note) -> None:
    if len(profile.status) > RULES_MAX:
        note("status", f"{len(profile.status)} rules where {RULES_MAX} are allowed")
    known = names | {name.partition("/")[0] for name in names}
    for index, rule in enumerate(profile.status[:RULES_MAX]):
        key = f"status[{index}]"
        width = 1 if rule.function in {1, 2} else 16
        if not any(_reads(block, rule.function, rule.address) for block in profile.block):
            text = (
                f"no block of function {rule.function} reads {rule.address}; put it into a block, or take the rule out"
            )
            note(f"{key}.address", text)
        if rule.bits and (width == 1 or not _sound_bits(rule.bits, width)):
            note(f"{key}.bits", f"expected [lowest, highest] from 0 to {width - 1}, of a register")
        elif rule.bits:
            width = rule.bits[-1] - rule.bits[0] + 1
        if not rule.good or not all(0 <= number < 1 << width for number in rule.good):
            note(f"{key}.good", f"expected the numbers at which all is well, 0 to {(1 << width) - 1}")
        _check_keys(f"{key}.words", list(rule.words), 0, (1 << width) - 1, note)
        quantity_check.check_words(f"{key}.words", rule.words.values(), note)
        for name in rule.quantities:
            if name not in known:
                note(f"{key}.quantities", f"no value {name[:60]!r} in this profile; known: {', '.join(sorted(names))}")


def _reads(block: BlockRule, function: int, address: int) -> bool:
    return block.function == function and block.address <= address < block.address + block.count


def _check_identity(profile: SensorProfile, note: Note) -> None:
    if len(profile.identity) > BLOCKS_MAX:
        note("identity", f"{len(profile.identity)} where {BLOCKS_MAX} are allowed")
    for index, rule in enumerate(profile.identity[:BLOCKS_MAX]):
        key = f"identity[{index}]"
        if not 1 <= len(rule.values) <= profile.registers_max or all(value < 0 for value in rule.values):
            note(f"{key}.values", "expected what the registers hold, one number each, -1 for any, not only -1")
        elif any(not -1 <= value <= 0xFFFF for value in rule.values):
            note(f"{key}.values", "a register holds 0 to 65535; -1 means any")
        if problem := _address_problem(profile, rule.function, rule.address, len(rule.values)):
            note(f"{key}.address", problem)


def _check_writes(profile: SensorProfile, note: Note) -> None:
    if len(profile.write) > RULES_MAX:
        note("write", f"{len(profile.write)} orders where {RULES_MAX} are allowed")
    seen: set[str] = set()
    for index, rule in enumerate(profile.write[:RULES_MAX]):
        key = f"write[{index}]"
        if not NAME.fullmatch(rule.name) or rule.name in seen:
            note(f"{key}.name", "expected a name of its own of a-z, 0-9 and _, at most 40 characters")
        seen.add(rule.name)
        _check_write(key, profile, rule, note)


def _check_write(key: str, profile: SensorProfile, rule: WriteRule, note: Note) -> None:
    if not 1 <= rule.count <= _WRITE_MAX[rule.function]:
        note(f"{key}.count", f"expected 1 to {_WRITE_MAX[rule.function]} with function {rule.function}")
    elif problem := _address_problem(profile, rule.function, rule.address, rule.count):
        note(f"{key}.address", problem)
    if rule.function in {6, 16} and not 0 <= rule.minimum <= rule.maximum <= 0xFFFF:
        note(f"{key}.minimum", "expected 0 <= minimum <= maximum <= 65535")
    if rule.function in {5, 15} and (rule.minimum, rule.maximum) != (0, 0xFFFF):
        note(f"{key}.minimum", "coils are 0 or 1; take minimum and maximum out")


def _check_examples(profile: SensorProfile, note: Note) -> None:
    if len(profile.example) < 2:
        found = "only one" if profile.example else "missing"
        note(
            "example",
            f"{found}; at least two worked examples show that scale, sign and order are what the profile says",
        )
    if len(profile.example) > EXAMPLES_MAX:
        note("example", f"{len(profile.example)} examples where {EXAMPLES_MAX} are allowed")
    for index, example in enumerate(profile.example[:EXAMPLES_MAX]):
        key = f"example[{index}].registers"
        if len(example.registers) != len(profile.block):
            note(
                key,
                f"{len(example.registers)} texts for {len(profile.block)} blocks; give one for each, in their order",
            )
            continue
        for number, (text, block) in enumerate(zip(example.registers, profile.block, strict=True)):
            size = (block.count + 7) // 8 if block.function in {1, 2} else 2 * block.count
            digits = hex_of(text)
            if not _HEX.fullmatch(digits) or len(digits) != 2 * size:
                note(f"{key}[{number}]", f"expected {size} bytes as hex digits, found {len(digits)} signs")
