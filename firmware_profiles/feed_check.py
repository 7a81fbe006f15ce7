"""What no type can say of a feed profile: every mistake is noted with its key, and what to do about it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Final

from firmware_profiles import quantity_check
from firmware_profiles.feed_model import (
    EXAMPLES_MAX,
    POINTERS_MAX,
    VALUES_MAX,
    WEIGHTS,
    WORDS_MAX,
    FeedProfile,
    FeedValue,
    steps_of,
)
from firmware_profiles.sensor_model import decimal_of, key_of

Note = Callable[[str, str], None]

_ZONE = re.compile(r"Z|[+-](0\d|1[0-4]):[0-5]\d|", re.ASCII)
_DIRECTIVE = re.compile(r"%(.?)")
_PERIOD_MAX_S: Final = 86_400
_ANSWER_MAX: Final = 1000
_WORD_MAX: Final = 64
_MESSAGE_MAX: Final = 65_536


def check(profile: FeedProfile, note: Note) -> None:
    """Note every mistake."""
    for name in ("items", "device", "time", "sequence", "backfill", "event", "category"):
        _check_pointer(name, getattr(profile, name), note)
    for index, pointer in enumerate(profile.depositor):
        _check_pointer(f"depositor[{index}]", pointer, note)
        if not pointer:
            note(f"depositor[{index}]", "is empty; name what holds the phone number, such as /phone_num")
    if len(profile.depositor) > POINTERS_MAX:
        note("depositor", f"{len(profile.depositor)} pointers where {POINTERS_MAX} are allowed")
    _check_time(profile, note)
    _check_events(profile, note)
    _check_values(profile, note)
    _check_weighing(profile, note)
    _check_answer(profile.answer, note)
    _check_examples(profile, note)


def _check_pointer(key: str, pointer: str, note: Note) -> None:
    if steps_of(pointer) is None:
        note(key, f"{pointer[:60]!r} is no JSON pointer; it begins with / (RFC 6901), ~1 is a slash, ~0 a tilde")


def _check_time(profile: FeedProfile, note: Note) -> None:
    if not _ZONE.fullmatch(profile.zone):
        note("zone", f"{profile.zone[:40]!r} is no zone; expected such as +08:00, Z, or empty for unknown")
    if not 0 <= profile.period_s <= _PERIOD_MAX_S:
        note("period_s", f"expected 0 to {_PERIOD_MAX_S} seconds")
    if profile.time_format in {"iso", "unix-s", "unix-ms"}:
        return
    directives = _DIRECTIVE.findall(profile.time_format)
    if not {"d", "m"} <= set(directives) or not {"Y", "y"} & set(directives):
        note("time_format", "expected iso, unix-s, unix-ms, or a format with %Y (or %y), %m and %d")
    for directive in directives:
        if directive not in set("YymdHMSf%"):
            note("time_format", f"%{directive} is not known; known: %Y %y %m %d %H %M %S %f %%")
    if len(set(directives)) != len(directives):
        note("time_format", "a part stands twice")


def _check_events(profile: FeedProfile, note: Note) -> None:
    if bool(profile.event) != bool(profile.events):
        note(
            "event" if profile.event else "events",
            'event says where it stands and events what it means, such as { "1" = "delivery" }; give both',
        )
    if profile.always and profile.event:
        note("always", "event says it already; give one of the two")
    for key, words in (
        ("events", profile.events),
        ("backfill_words", profile.backfill_words),
        ("weighing.stable_words", profile.weighing.stable_words if profile.weighing else []),
    ):
        _check_sent(key, words, note)


def _check_sent(key: str, words: Iterable[str], note: Note) -> None:
    given = list(words)
    if len(given) > WORDS_MAX or any(len(word) > _WORD_MAX for word in given):
        note(key, f"at most {WORDS_MAX} words of at most {_WORD_MAX} characters")


def _check_values(profile: FeedProfile, note: Note) -> None:
    if not profile.value:
        note("value", "missing; at least one [[value]] says what is read: at, quantity")
    if len(profile.value) > VALUES_MAX:
        note("value", f"{len(profile.value)} values where {VALUES_MAX} are allowed")
    seen: dict[str, int] = {}
    for index, value in enumerate(profile.value[:VALUES_MAX]):
        key = f"value[{index}]"
        _check_value(key, profile, value, note)
        name = f"{key_of(value.quantity, value.channel or value.channel_at)} {value.statistic}"
        if name in seen:
            note(f"{key}.quantity", f"is the same as value[{seen[name]}]; tell them apart by channel")
        seen.setdefault(name, index)


def _check_value(key: str, profile: FeedProfile, value: FeedValue, note: Note) -> None:
    _check_pointer(f"{key}.at", value.at, note)
    _check_pointer(f"{key}.channel_at", value.channel_at, note)
    if value.channel and value.channel_at:
        note(f"{key}.channel_at", "channel says it already; give one of the two")
    if value.at in profile.depositor:
        note(f"{key}.at", "is hidden as depositor; a person is no quantity")
    quantity_check.check(key, value, note)
    _check_sent(f"{key}.states", value.states, note)
    _check_sent(f"{key}.sentinels", value.sentinels, note)
    for word in sorted(set(value.states) & set(value.sentinels)):
        note(f"{key}.sentinels", f"{word[:40]!r} is a state already; a word means one thing")
    if value.rises and value.states:
        note(f"{key}.rises", "a state does not rise; take it out")


def _check_weighing(profile: FeedProfile, note: Note) -> None:
    weights = {value.quantity for value in profile.value} & set(WEIGHTS)
    weighing = profile.weighing
    if weighing is None:
        if len(weights) > 1:
            text = "belongs together with another weight: add [weighing] with a step, so far they may differ"
            index = next(at for at, value in enumerate(profile.value) if value.quantity in WEIGHTS)
            note(f"value[{index}].quantity", text)
        return
    _check_pointer("weighing.stable", weighing.stable, note)
    step = decimal_of(weighing.step)
    if step is None or step <= 0:
        note("weighing.step", 'expected the division of the scale in kg, as a text such as "0.01"')
    if not weights:
        note("weighing", f"no value is {', '.join(WEIGHTS)}; take it out")


def _check_answer(answer: str, note: Note) -> None:
    if not answer:
        return
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        note("answer", """expected JSON, such as '{"code":0}'""")
    if len(answer) > _ANSWER_MAX:
        note("answer", f"at most {_ANSWER_MAX} characters")


def _check_examples(profile: FeedProfile, note: Note) -> None:
    if len(profile.example) < 2:
        found = "only one" if profile.example else "missing"
        note("example", f"{found}; at least two worked examples show that the profile does what it says")
    if len(profile.example) > EXAMPLES_MAX:
        note("example", f"{len(profile.example)} examples where {EXAMPLES_MAX} are allowed")
    for index, example in enumerate(profile.example[:EXAMPLES_MAX]):
        if len(example.message) > _MESSAGE_MAX or example.item < 1:
            note(f"example[{index}]", f"expected a message of at most {_MESSAGE_MAX} characters, and an item from 1")
