"""What no type can say of a monitor profile: every mistake is noted with its key, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Final

from firmware_profiles.monitor_model import (
    EXAMPLES_MAX,
    FACTORS_MAX,
    FIELDS,
    QUALITIES,
    STATES,
    FactorRule,
    MonitorProfile,
    decimal_of,
)
from gateway.core.readings import QUANTITIES

Note = Callable[[str, str], None]

_ZONE: Final = re.compile(r"Z|[+-](0[0-9]|1[0-4]):[0-5][0-9]")
_CODE: Final = re.compile(r"[0-9A-Za-z_]{1,32}", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_SHORT: Final = re.compile(r"[0-9A-Za-z_.:-]{1,32}", re.ASCII)
_COMMAND: Final = re.compile(r"[0-9]{4}", re.ASCII)
_MINUTES_S: Final = frozenset(60 * number for number in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30))
_TEXTS_MAX: Final = 32
_FRAME_MAX: Final = 10_009


def check(profile: MonitorProfile, note: Note) -> None:
    """Note every mistake."""
    if not _ZONE.fullmatch(profile.zone):
        note("zone", f"{profile.zone!r} is no zone; expected such as +08:00, or Z")
    if profile.minute_s not in _MINUTES_S:
        note("minute_s", "expected 60, 120, 180, 240, 300, 360, 600, 720, 900, 1200 or 1800 seconds (command 1064)")
    for mark, quality in profile.marks.items():
        if not 1 <= len(mark) <= 4 or quality not in QUALITIES:
            note("marks", f"{mark[:20]!r} = {quality[:20]!r}: expected such as N = {' or '.join(map(repr, QUALITIES))}")
    for command, answer in profile.answers.items():
        if not _COMMAND.fullmatch(command) or not _COMMAND.fullmatch(answer):
            note("answers", f'{command[:20]!r} = {answer[:20]!r}: expected two commands, such as 9021 = "9022"')
    if len(profile.factor) > FACTORS_MAX:
        note("factor", f"{len(profile.factor)} factors where {FACTORS_MAX} are allowed")
    seen: dict[tuple[str, str, str], int] = {}
    for index, rule in enumerate(profile.factor[:FACTORS_MAX]):
        key = f"factor[{index}]"
        _check_names(key, rule, note)
        _check_numbers(key, rule, note)
        for field in rule.fields or [""]:
            if (place := (rule.code, rule.id, field)) in seen:
                note(key, f"is the same code, ID and field as factor[{seen[place]}]; take one out")
                break
            seen[place] = index
    _check_examples(profile, note)


def _check_names(key: str, rule: FactorRule, note: Note) -> None:
    if not _CODE.fullmatch(rule.code):
        note(f"{key}.code", f"{rule.code[:40]!r} is no factor code; expected letters, digits and _")
    for name in ("id", "channel"):
        text = getattr(rule, name)
        if text and not _SHORT.fullmatch(text):
            note(f"{key}.{name}", f"{text[:40]!r}: expected at most 32 letters, digits and . : _ -")
    _check_quantity(key, rule, note)
    for name in rule.fields:
        if name not in FIELDS:
            note(f"{key}.fields", f"{name[:20]!r} is no field; expected of {', '.join(FIELDS)}")
    for text, state in rule.states.items():
        if state not in STATES or len(text) > _TEXTS_MAX:
            note(f"{key}.states", f"{text[:20]!r} = {state[:20]!r}: expected one of {', '.join(STATES)}")
    if len(rule.states) > _TEXTS_MAX or len(rule.unset) > _TEXTS_MAX:
        note(key, f"at most {_TEXTS_MAX} states and {_TEXTS_MAX} texts in unset")


def _check_quantity(key: str, rule: FactorRule, note: Note) -> None:
    if rule.quantity in QUANTITIES:
        if rule.unit not in ("", QUANTITIES[rule.quantity]):
            unit = QUANTITIES[rule.quantity] or "no unit"
            note(f"{key}.unit", f"{rule.quantity} is kept in {unit}; take unit out, and convert with scale and offset")
    elif not _NAME.fullmatch(rule.quantity):
        note(f"{key}.quantity", f"{rule.quantity[:40]!r} is no name; expected a-z, 0-9 and _, at most 40 characters")
    elif near := get_close_matches(rule.quantity, QUANTITIES, 1, 0.85):
        note(f"{key}.quantity", f"{rule.quantity!r} is not known; did you mean {near[0]}?")
    elif len(rule.unit) > _TEXTS_MAX:
        note(f"{key}.unit", f"expected at most {_TEXTS_MAX} characters")


def _check_numbers(key: str, rule: FactorRule, note: Note) -> None:
    scale, offset = decimal_of(rule.scale), decimal_of(rule.offset)
    if scale is None or scale == 0:
        note(f"{key}.scale", f'{str(rule.scale)[:40]!r} is no number other than 0; expected such as "0.001" or 1000')
    if offset is None:
        note(f"{key}.offset", f'{str(rule.offset)[:40]!r} is no number; expected such as "-273.15"')
    if rule.states and (rule.scale != 1 or rule.offset != 0 or rule.range):
        note(f"{key}.states", "states have no scale, offset or range; take them out")
    if not rule.range:
        return
    ends = [None if end == "" else decimal_of(end) for end in rule.range]
    if len(rule.range) != 2 or any(end is None and text != "" for end, text in zip(ends, rule.range, strict=True)):
        note(f"{key}.range", 'expected [lowest, highest], such as [0, "30.5"], or "" for an open end')
    elif ends[0] is not None and ends[1] is not None and ends[0] >= ends[1]:
        note(f"{key}.range", "ends before it begins; both ends belong to it")


def _check_examples(profile: MonitorProfile, note: Note) -> None:
    least = 2 if profile.factor else 1
    if len(profile.example) < least:
        found = "missing" if not profile.example else "only one"
        note("example", f"{found}; at least {least}: worked examples show that the profile does what it says")
    if len(profile.example) > EXAMPLES_MAX:
        note("example", f"{len(profile.example)} examples where {EXAMPLES_MAX} are allowed")
    for index, example in enumerate(profile.example[:EXAMPLES_MAX]):
        if bool(example.frame) == bool(example.cp):
            note(f"example[{index}]", "give exactly one of: frame, cp")
        if len(example.frame) > _FRAME_MAX or len(example.cp) > _FRAME_MAX:
            note(f"example[{index}]", f"longer than the {_FRAME_MAX} bytes that a frame can have")
        if not _COMMAND.fullmatch(example.message):
            note(f"example[{index}].message", "expected a command number, such as 2011")
