"""Sensor profiles: built-in ones hold what they promise, every mistake is named with its line and what to do."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.examples import check_examples
from firmware_profiles.loader import BUILT_IN, ids, list_profiles, load_sensor, load_tracker, parse
from firmware_profiles.sensor_model import decimal_of, number_of, wire_address
from gateway.core.errors import ProfileError
from gateway.core.readings import QUANTITIES

SOUND = """format = "sensor/v1"
id = "mine"
title = "A probe"
source = "a field test"

[[block]]
function = 3
address = 0
count = 4

[[block.value]]
quantity = "fume"
address = 0
scale = "0.01"
range = ["0", "20"]

[[block.value]]
quantity = "fan_state"
address = 1
states = { 0 = "off", 1 = "on" }

[[block.value]]
quantity = "energy"
address = 2
type = "u32"
statistic = "sum"

[[status]]
function = 3
address = 1
good = [0, 1]

[[example]]
registers = ["00c6 0001 00000000"]
[example.expect]
fume = "1.98 mg/m3"
fan_state = "on"
energy = "0 Wh"

[[example]]
registers = ["ffff 0000 00010000"]
[example.expect]
fume = "655.35 mg/m3, bad: range"
fan_state = "off"
energy = "65536 Wh"
"""
ENERGY = 'quantity = "energy"\naddress = 2\ntype = "u32"\nstatistic = "sum"\n'
IDS = ids("sensor")
OF_THE_REFERENCE = {
    "fume-concentrator", "pzem-004t", "ri-d175-c", "nmhc-tcp", "sen0662", "qm6375l", "senseair-se0119", "sf6-o2",
    "rs485-sht3x", "ld2051", "metsens300", "weighing-transmitter",
}  # fmt: skip


def problems(text: str, name: str = "mine.toml") -> list[tuple[int, str, str]]:
    with pytest.raises(ProfileError) as caught:
        parse(text.encode(), Path(name))
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


def test_the_public_maps_are_there():
    assert set(IDS) == {path.stem for path in (BUILT_IN / "sensors").glob("*.toml")} == OF_THE_REFERENCE
    assert not [row for row in list_profiles(kind="sensor") if row.problems]


@pytest.mark.parametrize("name", IDS)
def test_a_built_in_profile_reads_what_its_examples_say(name):
    loaded = load_sensor(name)
    results = check_examples(loaded.profile, loaded.path)
    assert len(results) >= 2
    assert [result.text for result in results if not result.ok] == []
    assert loaded.profile.source
    assert loaded.profile.confirmed is False  # nobody here has compared one with a device


def test_ppm_is_never_called_milligrams():
    for name in IDS:
        for block in load_sensor(name).profile.block:
            for value in block.value:
                if value.unit == "ppm":
                    assert QUANTITIES.get(value.quantity, "ppm") == "ppm", (name, value.quantity)


def test_a_sound_profile_and_its_kind(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    loaded = load_sensor(str(path))
    assert all(result.ok for result in check_examples(loaded.profile, path))
    with pytest.raises(ProfileError, match="is of a sensor; a tracker's profile is needed"):
        load_tracker(str(path))


def test_an_example_that_does_not_hold_says_what_differs(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND.replace('"1.98 mg/m3"', '"19.8 mg/m3"'))
    first, _ = check_examples(load_sensor(str(path)).profile, path)
    assert not first.ok
    assert first.text == "fume: reads '1.98 mg/m3', expected '19.8 mg/m3'"


@pytest.mark.parametrize(
    ("change", "line", "key", "message"),
    [
        (('title = "A probe"', 'titel = "A probe"'), 3, "titel", "did you mean title?"),
        (('id = "mine"', 'id = "other"'), 2, "id", "the file is called mine.toml"),
        (('source = "a field test"', 'source = " "'), 4, "source", "is empty"),
        (("function = 3\naddress = 0", "function = 6\naddress = 0"), 7, "block[0].function", "invalid enum value"),
        (("count = 4", "count = 200"), 9, "block[0].count", "1 to 125"),
        (("count = 4", "count = 3"), 24, "block[0].value[2].address", "u32 at 2 takes 2, and the block holds 0 to 2"),
        (('source = "a field test"', 'source = "x"\nregisters_max = 2'), 10, "block[0].count", "split the block"),
        (('source = "a field test"', 'source = "x"\naddress_base = 1'), 9, "block[0].address", "0 is -1 on the wire"),
        (('source = "a field test"', 'source = "x"\naddress_base = 40001'), 9, "block[0].address", "begins at 40001"),
        (('source = "a field test"', 'source = "x"\naddress_base = 7'), 5, "address_base", "invalid enum value"),
        (('quantity = "fume"', 'quantity = "Fume!"'), 12, "block[0].value[0].quantity", "a-z, 0-9 and _"),
        (('scale = "0.01"', "scale = 0.01"), 14, "block[0].value[0].scale", "expected `str`, got `float`"),
        (('scale = "0.01"', 'scale = "1e-2"'), 14, "block[0].value[0].scale", "exact decimal that is not 0"),
        (('scale = "0.01"', 'scale = "0"'), 14, "block[0].value[0].scale", "exact decimal that is not 0"),
        (('scale = "0.01"', 'offset = "x"'), 14, "block[0].value[0].offset", 'such as "-100"'),
        (('range = ["0", "20"]', 'range = ["20", "0"]'), 15, "block[0].value[0].range", '["lowest", "highest"]'),
        (('range = ["0", "20"]', 'range = ["0"]'), 15, "block[0].value[0].range", '["lowest", "highest"]'),
        (
            ('scale = "0.01"', 'unit = "ppm"'),
            14,
            "block[0].value[0].unit",
            'name the quantity otherwise, such as "fume_',
        ),
        (('scale = "0.01"', 'unit = "g/m3"'), 14, "block[0].value[0].unit", "let scale and offset give mg/m3"),
        (('scale = "0.01"', 'type = "f32"\nbits = [0, 3]'), 15, "block[0].value[0].bits", "f32 has none"),
        (('scale = "0.01"', "bits = [3, 0]"), 14, "block[0].value[0].bits", "from 0 to 15"),
        (('scale = "0.01"', 'word_order = "low-first"'), 14, "block[0].value[0].word_order", "is one register"),
        (('scale = "0.01"', 'type = "bit"'), 14, "block[0].value[0].type", "registers hold numbers"),
        (('scale = "0.01"', "fraction_digits = 2"), 14, "block[0].value[0].fraction_digits", "for packed numbers only"),
        (('scale = "0.01"', "decimals_at = 9"), 14, "block[0].value[0].decimals_at", "no block of function 3 reads 9"),
        (('scale = "0.01"', "decimals_bits = [0, 2]"), 14, "block[0].value[0].decimals_bits", "decimals_at is missing"),
        (('scale = "0.01"', 'sentinels = { 70000 = "x" }'), 14, "block[0].value[0].sentinels", "never comes"),
        (('scale = "0.01"', 'sentinels = { "-1" = "x" }'), 14, "block[0].value[0].sentinels", "never comes"),
        (('scale = "0.01"', 'sentinels = { 1 = "A b" }'), 14, "block[0].value[0].sentinels", "is no reason"),
        (('scale = "0.01"', 'sentinels = { x = "a" }'), 14, "block[0].value[0].sentinels", "is no number"),
        (('states = { 0 = "off", 1 = "on" }', ""), 17, "block[0].value[1].states", "missing; fan_state is a state"),
        (('1 = "on" }', '1 = "running" }'), 20, "block[0].value[1].states", "no state of fan_state; expected on, off"),
        (('1 = "on" }', '0x0 = "on" }'), 20, "block[0].value[1].states", "stands twice"),
        (('1 = "on" }', '1 = "on" }\nunit = "A"'), 21, "block[0].value[1].unit", "a state has no unit"),
        (
            (ENERGY, ENERGY.replace("energy", "fume").partition("statistic")[0]),
            23,
            "block[0].value[2].quantity",
            "tell them apart by channel",
        ),
        (("address = 1\ngood", "address = 7\ngood"), 30, "status[0].address", "no block of function 3 reads 7"),
        (("good = [0, 1]", "good = []"), 31, "status[0].good", "0 to 65535"),
        (("good = [0, 1]", 'good = [0]\nquantities = ["pm"]'), 32, "status[0].quantities", "known: energy"),
        (('["00c6 0001 00000000"]', '["00c6"]'), 34, "example[0].registers[0]", "expected 8 bytes as hex"),
        (('["00c6 0001 00000000"]', '["zz"]'), 34, "example[0].registers[0]", "expected 8 bytes as hex"),
        (('["00c6 0001 00000000"]', "[]"), 34, "example[0].registers", "0 texts for 1 blocks"),
        (("[[status]]", "[timing]\ntimeout_ms = 0\n[[status]]"), 29, "timing.timeout_ms", "10 to 60000"),
        (
            ("[[status]]", "[timing]\ntimeout_ms = 900\nresponse_max_ms = 100\n[[status]]"),
            30,
            "timing.response_max_ms",
            "the longest that the device may take",
        ),
        (("[[status]]", "[line]\nunit = 0\n[[status]]"), 29, "line.unit", "1 to 247"),
        (("[[status]]", "[line]\nbaud = 5\n[[status]]"), 29, "line.baud", "300 to 4000000"),
        (
            ("[[status]]", "[[identity]]\nfunction = 4\naddress = 0\nvalues = [-1]\n[[status]]"),
            31,
            "identity[0].values",
            "not only -1",
        ),
        (
            ("[[status]]", "[[identity]]\nfunction = 4\naddress = 0\nvalues = [70000]\n[[status]]"),
            31,
            "identity[0].values",
            "0 to 65535",
        ),
        (
            ("[[status]]", '[[write]]\nname = "zero"\nfunction = 6\naddress = 1\ncount = 2\n[[status]]'),
            32,
            "write[0].count",
            "expected 1 to 1",
        ),
        (
            ("[[status]]", '[[write]]\nname = "Zero it"\nfunction = 6\naddress = 1\n[[status]]'),
            29,
            "write[0].name",
            "a name of its own",
        ),
    ],
)
def test_mistakes_are_named_with_their_line(change, line, key, message):
    text = SOUND.replace(*change, 1)
    assert text != SOUND
    found = problems(text)
    assert [one for one in found if one[0] == line and one[1] == key and message in one[2]], found


def test_without_blocks_or_examples():
    head = SOUND.partition("[[block]]")[0]
    found = {key: message for _, key, message in problems(head)}
    assert "missing; at least one [[block]]" in found["block"]
    assert "at least two worked examples" in found["example"]
    assert "only one" in problems(SOUND.rpartition("[[example]]")[0])[0][2]


def test_every_mistake_is_reported_at_once():
    text = SOUND.replace('"0.01"', '"x"').replace("good = [0, 1]", "good = []").replace("count = 4", "count = 0")
    assert len(problems(text)) >= 3


@pytest.mark.parametrize(
    ("base", "function", "address", "wire"),
    [
        (0, 3, 5, 5), (1, 3, 5, 4), (40001, 3, 40001, 0), (40001, 4, 30004, 3), (40001, 2, 10001, 0), (40001, 1, 1, 0),
        (400001, 3, 465536, 65535), (400001, 4, 300010, 9), (40001, 6, 40003, 2), (40001, 15, 8, 7), (1, 1, 1, 0),
    ],
)  # fmt: skip
def test_how_manuals_count(base, function, address, wire):
    assert wire_address(base, function, address) == wire


def test_decimals_and_numbers_are_exact_or_none():
    assert decimal_of("0.1") * 10 == 1
    assert decimal_of("-273.15") * 20 == -5463
    assert [decimal_of(text) for text in ("", "1e3", "1/3", "٣", "0x1", " 1", "1.")] == [None] * 7
    assert (number_of("0x7FFF"), number_of("-1"), number_of("65535")) == (32767, -1, 65535)
    assert [number_of(text) for text in ("", "1.5", "0b1", "٣", "+1", "007")] == [None] * 6


@given(st.text(max_size=200))
def test_any_text_is_a_profile_or_a_list_of_problems(text):
    for content in (text, SOUND + text, SOUND.replace('"0.01"', repr(text))):
        with contextlib.suppress(ProfileError):
            parse(content.encode("utf-8", "surrogatepass"), Path("mine.toml"))
