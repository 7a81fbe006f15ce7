"""What no type can say of a tracker profile: every mistake is noted with its key, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Final

from firmware_profiles.datum import DATUMS
from firmware_profiles.tracker_model import (
    CARRIERS_MAX,
    CHOICES,
    EXAMPLES_MAX,
    FIELDS_MAX,
    NAMES,
    NUMBERS,
    PLACE,
    RANGES_MAX,
    SWITCHES,
    TEXTS,
    TIME,
    VALUES_MAX,
    Carrier,
    FieldRule,
    TrackerProfile,
    scale_of,
)

Note = Callable[[str, str], None]

_ZONE = re.compile(r"Z|[+-](0[0-9]|1[0-4]):[0-5][0-9]")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_NUMBER = re.compile(r"0x[0-9A-Fa-f]{1,16}|0|[1-9][0-9]{0,19}|-[1-9][0-9]{0,18}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_WORD_BITS: Final = 32
_ITEM_MAX: Final = 0xFF
_OFFSET_MAX: Final = 60_000
_TEXT_MAX: Final = 64
_NUMBER_MAX: Final = 8
_HEX_MAX: Final = 65_536
_HOLD_MAX_S: Final = 86_400
_NOT_OURS: Final = frozenset({0x0001, 0x0002, 0x0003, 0x0100, 0x0102, 0x0704, 0x0801, 0x0900})
"""Messages that the session itself needs; a profile cannot take them over."""
_SPACES: Final = str.maketrans("", "", " \n\t\r")


def hex_of(text: str) -> str:
    """Hex digits without the spaces and line ends that make them readable."""
    return text.translate(_SPACES)


def check(profile: TrackerProfile, note: Note) -> None:
    """Note every mistake."""
    _check_datum(profile.datum, note)
    if not _ZONE.fullmatch(profile.zone):
        note("zone", f"{profile.zone!r} is no zone; expected such as +08:00, or Z")
    if not 0 <= profile.hold_s <= _HOLD_MAX_S:
        note("hold_s", f"expected 0 to {_HOLD_MAX_S} seconds")
    for index, pattern in enumerate(profile.match):
        if pattern.count("/") != 1 or len(pattern) > _TEXT_MAX or not pattern.isprintable():
            note(f"match[{index}]", f"expected maker/model with * and ?, at most {_TEXT_MAX} characters")
    if profile.protocol == "nmea" and profile.carrier:
        note("carrier", "NMEA sentences have no carriers of the maker; take them out")
    if len(profile.carrier) > CARRIERS_MAX:
        note("carrier", f"{len(profile.carrier)} carriers where {CARRIERS_MAX} are allowed")
    seen: dict[tuple[object, ...], int] = {}
    for index, carrier in enumerate(profile.carrier[:CARRIERS_MAX]):
        key = f"carrier[{index}]"
        _check_id(key, carrier, note)
        _check_extras(key, carrier, note)
        _check_place(key, carrier, note)
        for number, rule in enumerate(carrier.field[:FIELDS_MAX]):
            _check_field(f"{key}.field[{number}]", rule, carrier, note)
        for place in _places(carrier):
            if place in seen:
                note(key, f"is the same as carrier[{seen[place]}]; put the fields together")
                break
            seen[place] = index
    _check_examples(profile, note)


def _check_datum(datum: str, note: Note) -> None:
    if datum in DATUMS:
        return
    if re.sub(r"[-_ ]", "", datum.upper()).startswith("BD09"):
        text = "BD-09 (Baidu) is not supported: set the device, or the platform before it, to WGS-84 or GCJ-02"
    else:
        text = f"{datum[:40]!r} is not a known datum; expected {' or '.join(DATUMS)}"
    note("datum", text)


def _places(carrier: Carrier) -> Iterator[tuple[object, ...]]:
    head = (carrier.kind, carrier.id, carrier.inner, hex_of(carrier.starts).lower())
    for size in carrier.sizes or [0]:
        yield (*head, size)


def _check_id(key: str, carrier: Carrier, note: Note) -> None:
    kind = carrier.kind
    if kind in ("status", "alarm"):
        if carrier.id or carrier.sizes:
            note(f"{key}.{'id' if carrier.id else 'sizes'}", f"{kind} is one number of 32 bits; take it out")
    elif kind == "message":
        if not 0 < carrier.id < 0x8000:
            note(f"{key}.id", "expected the id of a message from a terminal, such as 0x0F01")
        elif carrier.id in _NOT_OURS:
            note(f"{key}.id", f"message {carrier.id:#06x} belongs to the standard; use status, item, block or 0x0200")
    elif not 0 <= carrier.id <= _ITEM_MAX:
        note(f"{key}.id", "expected a byte, such as 0xE1")


def _check_extras(key: str, carrier: Carrier, note: Note) -> None:
    kind, own = carrier.kind, carrier.kind in ("message", "block")
    if kind == "nested" and not 0 <= carrier.inner < 1 << 8 * carrier.id_bytes:
        note(f"{key}.inner", f"does not fit id_bytes = {carrier.id_bytes}")
    if kind != "nested" and (carrier.inner or carrier.id_bytes != 1 or carrier.length_bytes != 1):
        note(f"{key}.inner", 'only for kind = "nested"; take inner, id_bytes and length_bytes out')
    if any(not 1 <= size <= _OFFSET_MAX for size in carrier.sizes) or len(carrier.sizes) > FIELDS_MAX:
        note(f"{key}.sizes", f"expected at most {FIELDS_MAX} lengths from 1 to {_OFFSET_MAX} bytes")
    if carrier.starts and (not own or len(carrier.starts) > _TEXT_MAX or not _HEX.fullmatch(hex_of(carrier.starts))):
        note(f"{key}.starts", f"expected hex digits, at most {_TEXT_MAX // 2} bytes, in a message or block")
    if carrier.name and (not own or not _NAME.fullmatch(carrier.name)):
        note(f"{key}.name", "expected a-z, 0-9 and _, at most 40 characters, for a message or block")
    if len(carrier.field) > FIELDS_MAX or not (carrier.field or carrier.name):
        note(f"{key}.field", f"expected 1 to {FIELDS_MAX} fields, or a name for a message whose layout is not known")


def _check_place(key: str, carrier: Carrier, note: Note) -> None:
    keys = {rule.key for rule in carrier.field}
    whole = carrier.kind == "message" and keys >= set(PLACE)
    if not whole and keys & {*PLACE, "fixed", TIME}:
        found = ", ".join(sorted(keys & {*PLACE, "fixed", TIME}))
        note(f"{key}.field", f'{found}: a place needs both lat_e7 and lon_e7, in a carrier of kind "message"')


def _check_field(key: str, rule: FieldRule, carrier: Carrier, note: Note) -> None:
    of_bits = carrier.kind in ("status", "alarm")
    if of_bits:
        if rule.offset or rule.size != 1 or rule.type != "number":
            note(f"{key}.offset", f"{carrier.kind} has no bytes; give bits, and take offset, size and type out")
    elif not _check_bytes(key, rule, carrier, note):
        return
    width = _WORD_BITS if of_bits else 8 * rule.size
    if rule.bits and (len(rule.bits) > 2 or not 0 <= rule.bits[0] <= rule.bits[-1] < width):
        note(f"{key}.bits", f"expected [lowest, highest] from 0 to {width - 1}")
        return
    if rule.bits and rule.type not in ("number", "bcd"):
        note(f"{key}.bits", f"bits of {rule.type} mean nothing; take one of the two out")
    _check_meaning(key, rule, rule.bits[-1] - rule.bits[0] + 1 if rule.bits else width, note)


def _check_bytes(key: str, rule: FieldRule, carrier: Carrier, note: Note) -> bool:
    """Whether the place can be a place at all, so that the rest is worth looking at."""
    size_max = _TEXT_MAX if rule.type == "gbk" else _NUMBER_MAX
    if not 0 <= rule.offset <= _OFFSET_MAX:
        note(f"{key}.offset", f"expected 0 to {_OFFSET_MAX}")
    if not 1 <= rule.size <= size_max:
        note(f"{key}.size", f"expected 1 to {size_max} bytes for {rule.type}")
    elif rule.type == "bcd-time" and rule.size != 6:
        note(f"{key}.size", "YYMMDDhhmmss has 6 bytes")
    end = rule.offset + rule.size
    short = [size for size in carrier.sizes if size < end]
    if short:
        note(f"{key}.offset", f"ends at byte {end}, but the carrier may have {min(short)}")
    elif carrier.kind == "item" and end > _ITEM_MAX:
        note(f"{key}.offset", f"ends at byte {end}; an item has at most {_ITEM_MAX}")
    return 1 <= rule.size <= size_max


def _check_meaning(key: str, rule: FieldRule, width: int, note: Note) -> None:
    """That the way in which a number of `width` bits is read gives what the key may hold."""
    ways = [name for name in ("values", "ranges", "names") if getattr(rule, name)]
    if len(ways) > 1:
        note(f"{key}.{ways[1]}", f"values, ranges and names exclude each other; {ways[0]} is given too")
        return
    _check_way(key, rule, ways[0] if ways else "", note)
    scale = scale_of(rule.scale)
    if scale is None or scale <= 0:
        note(f"{key}.scale", f'{rule.scale[:40]!r} is no number above 0; expected such as "250/9", "0.1" or "10"')
    elif scale != 1 and rule.key not in NUMBERS and not rule.ranges:
        note(f"{key}.scale", "only numbers and ranges are scaled; take it out")
    if len(rule.values) > VALUES_MAX or len(rule.unset) > VALUES_MAX or len(rule.ranges) > RANGES_MAX:
        note(key, f"at most {VALUES_MAX} values and {RANGES_MAX} ranges")
        return
    _check_words(key, rule, width, note)
    if scale is not None and scale > 0:
        _check_ranges(key, rule, note)


def _check_way(key: str, rule: FieldRule, way: str, note: Note) -> None:
    target = rule.key
    if target in TEXTS or rule.type == "gbk":
        if target not in TEXTS or rule.type != "gbk" or way:
            note(f"{key}.type", f'texts go into {", ".join(TEXTS)}, with type = "gbk" and nothing else')
    elif target == TIME or rule.type in ("bcd-time", "unix-s"):
        if target != TIME or rule.type not in ("bcd-time", "unix-s") or way:
            note(f"{key}.type", 'time needs type = "bcd-time" or "unix-s", and nothing else')
    elif target in CHOICES and way not in ("values", "ranges"):
        note(f"{key}.values", f"missing; say which numbers mean {', '.join(CHOICES[target])}")
    elif target in NAMES and not way:
        note(f"{key}.names", 'missing; say which bit has which name, such as { 25 = "load_sensor" }')
    elif target in NUMBERS and way:
        note(f"{key}.{way}", f"{target} is a number; take {way} out")
    elif target in SWITCHES and way == "names":
        note(f"{key}.names", f"{target} is true or false; use values")


def _check_words(key: str, rule: FieldRule, width: int, note: Note) -> None:
    seen: set[int] = set()
    for number, word in rule.values.items():
        if not _NUMBER.fullmatch(number):
            note(f"{key}.values", f"{number[:40]!r} is no number; expected such as 0, 5 or 0x1F")
            continue
        value = int(number, 0)
        if value in seen or not -(1 << width) < value < 1 << width:
            note(f"{key}.values", f"{number} {'stands twice' if value in seen else f'does not fit {width} bits'}")
        seen.add(value)
        _check_word(f"{key}.values", rule.key, word, note)
    for bit, name in rule.names.items():
        if not _NUMBER.fullmatch(bit) or not 0 <= int(bit, 0) < width:
            note(f"{key}.names", f"{bit[:40]!r} is no bit of it; expected 0 to {width - 1}")
        _check_word(f"{key}.names", rule.key, name, note)
    for one in rule.ranges:
        _check_word(f"{key}.ranges", rule.key, one.value, note)


def _check_word(key: str, target: str, word: str | bool, note: Note) -> None:
    if target in CHOICES and word not in CHOICES[target]:
        note(key, f"{word!r} is no {target}; expected {', '.join(CHOICES[target])}")
    elif target in SWITCHES and not isinstance(word, bool):
        note(key, f"{word!r} is not true or false; {target} is one of the two")
    elif target in NAMES and not (isinstance(word, str) and _NAME.fullmatch(word)):
        note(key, f"{word!r} is no name; expected a-z, 0-9 and _, at most 40 characters")


def _check_ranges(key: str, rule: FieldRule, note: Note) -> None:
    if rule.ranges and rule.key in SWITCHES:
        note(f"{key}.ranges", f"{rule.key} is true or false; use values")
    before: Fraction | None = None
    for index, one in enumerate(rule.ranges):
        low, high = (None if end == "" else scale_of(end) for end in (one.from_, one.to))
        if (low is None and one.from_ != "") or (high is None and one.to != ""):
            note(f"{key}.ranges[{index}]", 'an end is no number; expected such as 32 or "3.2"')
        elif low is not None and high is not None and low >= high:
            note(f"{key}.ranges[{index}]", "ends before it begins; from is included, to is left out")
        elif index and (before is None or low is None or low < before):
            note(f"{key}.ranges[{index}]", "overlaps the one before; write them in order, from low to high")
        before = high


def _check_examples(profile: TrackerProfile, note: Note) -> None:
    least = 2 if profile.carrier else 1
    if len(profile.example) < least:
        text = "worked examples show that the profile does what it says" if least > 1 else "show one that is read right"
        note("example", f"{'missing' if not profile.example else 'only one'}; at least {least}: {text}")
    if len(profile.example) > EXAMPLES_MAX:
        note("example", f"{len(profile.example)} examples where {EXAMPLES_MAX} are allowed")
    wanted = ("sentence",) if profile.protocol == "nmea" else ("frame", "body")
    for index, example in enumerate(profile.example[:EXAMPLES_MAX]):
        key = f"example[{index}]"
        given = [name for name in ("frame", "body", "sentence") if getattr(example, name)]
        if len(given) != 1 or given[0] not in wanted:
            note(key, f"give exactly one of: {', '.join(wanted)}")
        for name in ("frame", "body"):
            digits = hex_of(getattr(example, name))
            if digits and (len(digits) > _HEX_MAX or not _HEX.fullmatch(digits)):
                note(f"{key}.{name}", "expected hex digits, two per byte; spaces and line ends may stand between")
        if not 0 < example.message < 0x10000:
            note(f"{key}.message", "expected a message id, such as 0x0200")
