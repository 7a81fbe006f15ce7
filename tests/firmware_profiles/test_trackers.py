"""Tracker profiles: built-in ones hold what they promise, mistakes are named with their lines, nothing runs long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jt808 import examples as terminals
from drivers.nmea import examples as receivers
from firmware_profiles.loader import BUILT_IN, list_profiles, load, load_station, load_tracker, parse, tracker_ids
from firmware_profiles.tracker_model import TrackerProfile, fits, scale_of, zone_s
from gateway.core.errors import ProfileError

SOUND = """format = "tracker/v1"
id = "mine"
title = "A tracker"
source = "a field test"
datum = "WGS-84"

[[carrier]]
kind = "item"
id = 0xE1
sizes = [2]
[[carrier.field]]
key = "cover"
bits = [0, 1]
values = { 1 = "closed", 2 = "open" }

[[example]]
body = "000000000000000301d4149b0736abe0000c01c8005c260302083000 e1020100"
[example.expect]
lat_e7 = 306761230
lon_e7 = 1210234560
time_utc_s = 1772411400
cover = "closed"
unread = "item e1, byte 1: 00"

[[example]]
body = "00"
expect = {}
"""
IDS = tracker_ids()
DIALECTS = {"jt808", "muck-egs701", "muck-adc", "muck-cmsv6", "muck-zhtkj", "muck-0f01", "muck-hik"}


def check(path: Path):
    profile = load_tracker(str(path)).profile
    return (receivers if profile.protocol == "nmea" else terminals).check_examples(profile, path)


def problems(text: str, name: str = "mine.toml") -> list[tuple[int, str, str]]:
    with pytest.raises(ProfileError) as caught:
        parse(text.encode(), Path(name))
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


def test_the_dialects_of_the_reference_are_there():
    assert set(IDS) >= DIALECTS | {"jt808-gcj02", "nmea", "intercom", "works-vehicle"}
    assert set(IDS) == {row.id for row in list_profiles(kind="tracker")}


@pytest.mark.parametrize("name", IDS)
def test_a_built_in_profile_is_sound_and_its_examples_hold(name):
    loaded = load_tracker(name)
    results = check(loaded.path)
    assert [result.text for result in results if not result.ok] == []
    assert len(results) >= (2 if name in DIALECTS else 1)


@pytest.mark.parametrize("name", IDS)
def test_what_nobody_has_confirmed_says_so(name):
    profile = load_tracker(name).profile
    assert profile.confirmed != name.startswith("muck-")
    if not profile.confirmed:
        assert "single public code base" in profile.source
        assert "onfirm with the device documents" in profile.source or "compare with a meter" in profile.source


def test_the_folder_holds_nothing_else():
    assert {path.stem for path in (BUILT_IN / "trackers").iterdir()} == set(IDS)


def test_stations_and_trackers_are_not_mixed_up():
    assert isinstance(load("jt808").profile, TrackerProfile)
    with pytest.raises(ProfileError, match=r"jt808\.toml: format: is of a tracker"):
        load_station("jt808")
    with pytest.raises(ProfileError, match=r"dsj\.toml: format: is of a station"):
        load_tracker("dsj")


def test_found_by_path_by_further_folder_and_hiding_a_built_in_one(tmp_path):
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "mine.toml").write_text(SOUND)
    (tmp_path / "jt808.toml").write_text(SOUND.replace('"mine"', '"jt808"'))
    assert load_tracker("mine", [tmp_path]).ref.id == "mine"
    assert load_tracker("jt808", [tmp_path]).profile.title == "A tracker"
    assert {"mine", "jt808"} <= set(tracker_ids([tmp_path]))


def test_examples_of_the_sound_profile(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    assert [result.text for result in check(path)] == ["", ""]


def test_a_difference_names_field_expected_and_got(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND.replace('cover = "closed"', 'cover = "open"\nlocked = true').replace("1210234560", '"x"'))
    first, _ = check(path)
    assert [(one.key, one.expected, one.got) for one in first.differences] == [
        ("cover", "'open'", "'closed'"),
        ("locked", "true", "nothing"),
        ("lon_e7", "'x'", "1210234560"),
    ]


def test_true_is_not_one(tmp_path):
    text = SOUND.replace('key = "cover"', 'key = "locked"').replace('values = { 1 = "closed", 2 = "open" }', "")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('cover = "closed"', "locked = 1"))
    assert check(path)[0].text == "locked: reads true, expected 1"


def test_an_example_that_is_no_frame_or_sentence(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND.replace('body = "00"', 'frame = "7e00017e"'))
    assert "not a frame: short" in check(path)[1].text
    nmea = SOUND.partition("[[carrier]]")[0] + 'protocol = "nmea"\n[[example]]\nsentence = "%s"\nexpect = {}\n'
    path.write_text(nmea % "$GPGGA,1*00")
    assert "not a sentence: checksum" in check(path)[0].text
    path.write_text(nmea % "$GPTXT,01*1C")
    assert "0 fixes" in check(path)[0].text or "not a sentence" in check(path)[0].text


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "message"),
    [
        ('"tracker/v1"', '"tracker/v2"', 1, "format", "invalid enum value"),
        ('title = "A tracker"', "title = 7", 3, "title", "expected `str`, got `int`"),
        ("datum =", "datun =", 5, "datun", "unknown key; did you mean datum?"),
        ('"WGS-84"', '"BD-09"', 5, "datum", "BD-09 (Baidu) is not supported: set the device"),
        ('"WGS-84"', '"bd09ll"', 5, "datum", "BD-09 (Baidu) is not supported"),
        ('"WGS-84"', '"ED50"', 5, "datum", "expected WGS-84 or GCJ-02"),
        ('"WGS-84"', '"WGS-84"\nzone = "CST"', 6, "zone", "expected such as +08:00"),
        ('"WGS-84"', '"WGS-84"\nzone = ""', 6, "zone", "expected such as +08:00"),
        ('"WGS-84"', '"WGS-84"\nhold_s = -1', 6, "hold_s", "0 to 86400"),
        ('"WGS-84"', '"WGS-84"\nmatch = ["EGS701"]', 6, "match[0]", "expected maker/model"),
        ('"WGS-84"', '"WGS-84"\nprotocol = "nmea"', 8, "carrier", "take them out"),
        ('kind = "item"', 'kind = "itm"', 8, "carrier[0].kind", "invalid enum value"),
        ("id = 0xE1", "id = 0x1E1", 9, "carrier[0].id", "expected a byte"),
        ('kind = "item"', 'kind = "status"', 9, "carrier[0].id", "one number of 32 bits"),
        ('kind = "item"', 'kind = "message"\nname = "A"', 9, "carrier[0].name", "a-z, 0-9 and _"),
        ('kind = "item"\nid = 0xE1', 'kind = "message"\nid = 0x0704', 9, "carrier[0].id", "belongs to the standard"),
        ('kind = "item"\nid = 0xE1', 'kind = "message"\nid = 0x8F01', 9, "carrier[0].id", "from a terminal"),
        ("sizes = [2]", "sizes = [0]", 10, "carrier[0].sizes", "from 1 to"),
        ("sizes = [2]", "inner = 3", 10, "carrier[0].inner", "only for kind"),
        ("sizes = [2]", 'starts = "01"', 10, "carrier[0].starts", "in a message or block"),
        ('key = "cover"', 'key = "kover"', 12, "carrier[0].field[0].key", "invalid enum value"),
        ('key = "cover"', 'key = "lat_e7"', 11, "carrier[0].field", "a place needs both lat_e7 and lon_e7"),
        ('key = "cover"', 'key = "cover"\nsize = 9', 13, "carrier[0].field[0].size", "1 to 8 bytes"),
        ('key = "cover"', 'key = "cover"\noffset = 2', 13, "carrier[0].field[0].offset", "ends at byte 3, but the"),
        ('key = "cover"', 'key = "cover"\nscale = "2"', 13, "carrier[0].field[0].scale", "only numbers and ranges"),
        ('key = "cover"', 'key = "cover"\nscale = "1e99"', 13, "carrier[0].field[0].scale", "no number above 0"),
        ('key = "cover"', 'key = "cover"\ntype = "gbk"', 13, "carrier[0].field[0].type", "texts go into"),
        ('key = "cover"', 'key = "cover"\ntype = "unix-s"', 13, "carrier[0].field[0].type", "time needs"),
        ("bits = [0, 1]", "bits = [0, 8]", 13, "carrier[0].field[0].bits", "from 0 to 7"),
        ("bits = [0, 1]", "bits = [1, 0]", 13, "carrier[0].field[0].bits", "[lowest, highest]"),
        ("bits = [0, 1]", "bits = [0, 1, 2]", 13, "carrier[0].field[0].bits", "[lowest, highest]"),
        ('2 = "open"', '2 = "opn"', 14, "carrier[0].field[0].values", "'opn' is no cover; expected closed, open"),
        ('2 = "open"', "2 = true", 14, "carrier[0].field[0].values", "True is no cover"),
        ('2 = "open"', '4 = "open"', 14, "carrier[0].field[0].values", "does not fit 2 bits"),
        ('2 = "open"', '0x1 = "open"', 14, "carrier[0].field[0].values", "stands twice"),
        ('2 = "open"', 'two = "open"', 14, "carrier[0].field[0].values", "is no number"),
        ('values = { 1 = "closed", 2 = "open" }', "", 11, "carrier[0].field[0].values", "missing; say which"),
        ("values = {", 'names = { 0 = "x" }\nvalues = {', 14, "carrier[0].field[0].names", "exclude each other"),
        ('body = "00"', 'body = "0"', 26, "example[1].body", "two per byte"),
        ('body = "00"', 'body = "00"\nframe = "00"', 25, "example[1]", "exactly one of: frame, body"),
        ('body = "00"', "", 25, "example[1]", "exactly one of: frame, body"),
        ('body = "00"', 'body = "00"\nmessage = 70000', 27, "example[1].message", "expected a message id"),
    ],
)
def test_a_mistake_is_named_with_its_line(old, new, line, key, message):
    assert old in SOUND
    found = problems(SOUND.replace(old, new, 1))
    assert [one for one in found if one[0] == line and one[1].startswith(key) and message in one[2]], found


@pytest.mark.parametrize(
    ("ranges", "key", "message"),
    [
        ('[{ from = 3, to = 2, value = "open" }]', "ranges[0]", "ends before it begins"),
        ('[{ from = 0, to = 2, value = "open" }, { from = 1, value = "closed" }]', "ranges[1]", "overlaps"),
        ('[{ to = 2, value = "open" }, { to = 3, value = "closed" }]', "ranges[1]", "overlaps"),
        ('[{ from = "3,2", value = "open" }]', "ranges[0]", "an end is no number"),
        ('[{ from = 3.2, value = "open" }]', "ranges[0]", "expected `int | str`"),
        ('[{ from = 3, value = "opn" }]', "ranges", "is no cover"),
    ],
)
def test_mistakes_of_ranges(ranges, key, message):
    found = problems(SOUND.replace('values = { 1 = "closed", 2 = "open" }', f"ranges = {ranges}"))
    assert [one for one in found if one[0] == 14 and key in one[1] and message in one[2]], found


def test_every_mistake_at_once_in_the_order_of_the_file():
    text = SOUND.replace("A tracker", " ").replace("WGS-84", "X").replace("[0, 1]", "[9]").replace('"00"', '"zz"')
    assert [one[0] for one in problems(text)] == [3, 5, 13, 26]


def test_the_same_carrier_twice_is_a_mistake():
    carrier = SOUND[SOUND.index("[[carrier]]") : SOUND.index("[[example]]")]
    assert "is the same as carrier[0]" in problems(SOUND.replace(carrier, carrier * 2))[0][2]


@pytest.mark.parametrize(("left", "message"), [(1, "only one; at least 2"), (0, "missing; at least 2")])
def test_two_examples_are_the_least_where_there_are_carriers(left, message):
    parts = SOUND.split("[[example]]")
    found = problems("[[example]]".join(parts[: left + 1]))
    assert [one for one in found if one[1] == "example" and message in one[2]]


@pytest.mark.parametrize(
    "hostile",
    [
        "x = " + "[" * 5000,
        "x = " + "9" * 5000,
        "[[carrier]]\n" * 20_000,
        'match = ["' + "*a" * 30 + '/*"]\n',
        'match = ["' + "*" * 100_000 + '/*"]\n',
        "[x" + ".x" * 10_000 + "]",
        'scale = "1e999999999"',
        "#" * 300_000,
    ],
)
def test_hostile_files_end_soon(hostile):
    started = time.process_time()
    with pytest.raises(ProfileError):
        parse((SOUND.partition("[[carrier]]")[0] + hostile).encode(), Path("mine.toml"))
    assert time.process_time() - started < 5


def test_a_scale_cannot_be_a_bomb():
    assert scale_of("1e999999999") is None
    assert scale_of("9" * 13) is None
    assert scale_of("1/0") is None
    assert scale_of("-3.25") == -3.25
    assert scale_of(7) == 7


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("*/EGS701*", True),
        ("fgsim/egs701-muck", True),
        ("FGSIM/*", True),
        ("FGSI?/*MUCK", True),
        ("*", True),
        ("FGSIM/EGS701", False),
        ("FGSIM/?", False),
        ("", False),
        ("*x*/*", False),
    ],
)
def test_patterns_of_maker_and_model(pattern, fitting):
    assert fits([pattern], "FGSIM", "EGS701-MUCK") is fitting


def test_a_pattern_cannot_be_a_bomb():
    started = time.process_time()
    assert not fits(["*a" * 30 + "b/*"], "a" * 200, "a" * 200)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(("zone", "seconds"), [("+08:00", 28_800), ("-03:30", -12_600), ("Z", 0)])
def test_zones(zone, seconds):
    assert zone_s(zone) == seconds


@given(st.integers(0, len(SOUND) - 1), st.characters(max_codepoint=0x7F))
def test_any_change_of_one_sign(at, sign):
    text = SOUND[:at] + sign + SOUND[at + 1 :]
    try:
        profile = parse(text.encode(), Path("mine.toml"))
    except ProfileError:
        return  # the only error that a text may cause
    assert profile.id == "mine"
    assert isinstance(profile, TrackerProfile)
    terminals.check_examples(profile, Path("mine.toml"))


VALUES = st.none() | st.sampled_from(["0", '""', "[]", "{}", "-1", "99999999999999999999", "true", '"x"', "[1]", "1.5"])
KEYS = ["key", "offset", "size", "type", "endian", "bits", "scale", "values", "ranges", "names", "unset"]


@given(st.sampled_from(KEYS), VALUES.filter(bool), st.sampled_from(["item", "status", "message", "block", "nested"]))
def test_any_value_at_any_key_of_a_field(key, value, kind):
    text = SOUND.replace("bits = [0, 1]\n", f"{key} = {value}\n").replace('kind = "item"', f'kind = "{kind}"')
    try:
        profile = parse(text.encode(), Path("mine.toml"))
    except ProfileError:
        return
    assert isinstance(profile, TrackerProfile)
    terminals.check_examples(profile, Path("mine.toml"))
