"""Feed profiles: built-in ones hold what they promise, every mistake is named with its line and what to do."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jsonfeed.examples import check_examples
from firmware_profiles.loader import BUILT_IN, ids, list_profiles, load_feed, load_sensor, parse
from gateway.core.errors import ProfileError

SOUND = """format = "feed/v1"
id = "mine"
title = "A bin"
source = "a field test"
device = "/id"
time = "/at"
zone = "+08:00"
event = "/type"
events = { in = "delivery" }

[[value]]
at = "/w"
quantity = "weight"

[[example]]
message = '{"id":"b","w":"1.50","type":"in","at":"2026-03-02 08:30:00"}'
[example.expect]
device = "b"
time = "1772411400"
event = "delivery"
weight = "1.5 kg"

[[example]]
message = '{"id":"b","w":"x"}'
[example.expect]
device = "b"
flags = "no-time"
weight = "none, bad: not-a-number"
"""
IDS = ids("feed")


def problems(text: str, name: str = "mine.toml") -> list[tuple[int, str, str]]:
    with pytest.raises(ProfileError) as caught:
        parse(text.encode(), Path(name))
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


def test_the_examples_are_there():
    assert set(IDS) == {path.stem for path in (BUILT_IN / "feeds").glob("*.toml")} == {"smart-bin", "fume-cloud"}
    assert not [row for row in list_profiles(kind="feed") if row.problems]


@pytest.mark.parametrize("name", IDS)
def test_a_built_in_profile_reads_what_its_examples_say(name):
    loaded = load_feed(name)
    results = check_examples(loaded.profile, loaded.path)
    assert len(results) >= 2
    assert [result.text for result in results if not result.ok] == []
    assert loaded.profile.confirmed is False


def test_a_sound_profile_and_its_kind(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    loaded = load_feed(str(path))
    assert [result.text for result in check_examples(loaded.profile, path) if not result.ok] == []
    with pytest.raises(ProfileError, match="is of a feed; a sensor's profile is needed"):
        load_sensor(str(path))


def test_an_example_that_does_not_hold_says_what_differs(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND.replace('"1.5 kg"', '"15 kg"').replace("""'{"id":"b","w":"x"}'""", "'{'"))
    first, second = check_examples(load_feed(str(path)).profile, path)
    assert first.text == "weight: reads '1.5 kg', expected '15 kg'"
    assert "no message: expected a text in quotes" in second.text


@pytest.mark.parametrize(
    ("change", "line", "key", "message"),
    [
        (('device = "/id"', 'devise = "/id"'), 5, "devise", "did you mean device?"),
        (('device = "/id"', 'device = "id"'), 5, "device", "is no JSON pointer; it begins with /"),
        (('device = "/id"', 'items = "/~3"'), 5, "items", "is no JSON pointer"),
        (('zone = "+08:00"', 'zone = "CST"'), 7, "zone", "such as +08:00"),
        (('zone = "+08:00"', 'time_format = "%H:%M"'), 7, "time_format", "expected iso, unix-s"),
        (('zone = "+08:00"', 'time_format = "%Y%m%d%j"'), 7, "time_format", "%j is not known"),
        (('zone = "+08:00"', "period_s = -1"), 7, "period_s", "0 to 86400"),
        (('events = { in = "delivery" }', ""), 8, "event", "give both"),
        (('{ in = "delivery" }', '{ in = "thrown" }'), 9, "events[...]", "invalid enum value"),
        (('zone = "+08:00"', 'always = "delivery"'), 7, "always", "give one of the two"),
        (('zone = "+08:00"', 'depositor = ["phone"]'), 7, "depositor[0]", "is no JSON pointer"),
        (('zone = "+08:00"', 'depositor = [""]'), 7, "depositor[0]", "name what holds the phone number"),
        (('zone = "+08:00"', 'depositor = ["/w"]'), 12, "value[0].at", "a person is no quantity"),
        (('zone = "+08:00"', "answer = '{'"), 7, "answer", "expected JSON"),
        (('at = "/w"', 'at = "w"'), 12, "value[0].at", "is no JSON pointer"),
        (
            ('quantity = "weight"', 'quantity = "weight"\nunit = "g"'),
            14,
            "value[0].unit",
            "let scale and offset give kg",
        ),
        (('quantity = "weight"', 'quantity = "Weight"'), 13, "value[0].quantity", "a-z, 0-9 and _"),
        (('quantity = "weight"', 'quantity = "fan_state"'), 11, "value[0].states", "missing; fan_state is a state"),
        (('quantity = "weight"', 'quantity = "weight"\nscale = "1,5"'), 14, "value[0].scale", "exact decimal"),
        (
            ('quantity = "weight"', 'quantity = "weight"\nchannel = "1"\nchannel_at = "/h"'),
            15,
            "value[0].channel_at",
            "give one of the two",
        ),
        (
            ('quantity = "weight"', 'quantity = "door"\nstates = { 1 = "open" }\nrises = true'),
            15,
            "value[0].rises",
            "a state does not rise",
        ),
        (
            ('quantity = "weight"', 'quantity = "weight"\n[[value]]\nat = "/v"\nquantity = "weight"'),
            16,
            "value[1].quantity",
            "tell them apart by channel",
        ),
        (
            ('quantity = "weight"', 'quantity = "weight"\n[[value]]\nat = "/v"\nquantity = "weight_before"'),
            13,
            "value[0].quantity",
            "add [weighing] with a step",
        ),
        (("[[value]]", '[weighing]\nstep = "-1"\n[[value]]'), 12, "weighing.step", "division of the scale"),
        (
            (
                '[[value]]\nat = "/w"\nquantity = "weight"',
                '[weighing]\nstep = "0.1"\n[[value]]\nat = "/w"\nquantity = "co2"',
            ),
            11,
            "weighing",
            "take it out",
        ),
        (('message = \'{"id":"b","w":"x"}\'', "item = 0\nmessage = '{}'"), 23, "example[1]", "an item from 1"),
    ],
)
def test_mistakes_are_named_with_their_line(change, line, key, message):
    text = SOUND.replace(*change, 1)
    assert text != SOUND
    found = problems(text)
    assert [one for one in found if one[0] == line and one[1] == key and message in one[2]], found


def test_without_values_or_examples():
    found = {key: message for _, key, message in problems(SOUND.partition("[[value]]")[0])}
    assert "missing; at least one [[value]]" in found["value"]
    assert "at least two worked examples" in found["example"]


@given(st.text(max_size=200))
def test_any_text_is_a_profile_or_a_list_of_problems(text):
    for content in (text, SOUND + text, SOUND.replace('"/w"', repr(text))):
        with contextlib.suppress(ProfileError):
            parse(content.encode("utf-8", "surrogatepass"), Path("mine.toml"))
