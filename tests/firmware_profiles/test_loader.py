"""Loading profiles: built-in ones are sound, mistakes are named with their lines."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bodycam.examples import check_profile
from firmware_profiles.loader import BUILT_IN, KINDS, PROFILE_MAX_BYTES, list_profiles, load, parse
from gateway.core.errors import ProfileError

SOUND = """format = "station/v1"
id = "mine"
title = "A model"
source = "a field test"

[[name]]
pattern = 'X(?P<device>[0-9]+)_(?P<time>[0-9]{8})\\.mp4'
time_format = "%Y%m%d"

[[example]]
name = "X7_20260302.mp4"
[example.expect]
use = "other"
"""
IDS = [row.id for row in list_profiles(kind="station")]


def problems(text: str, name: str = "mine.toml") -> list[tuple[int, str, str]]:
    with pytest.raises(ProfileError) as caught:
        parse(text.encode(), Path(name))
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


def test_the_families_of_the_reference_are_there():
    assert set(IDS) >= {"generic", "generic-http", "dsj", "gat947", "intercom-gps", "jingyi"}


@pytest.mark.parametrize("name", IDS)
def test_a_built_in_profile_is_sound_and_its_examples_hold(name):
    loaded = load(name)
    assert loaded.ref.sha256 == hashlib.sha256(loaded.path.read_bytes()).hexdigest()
    results = check_profile(loaded.path)
    assert results
    assert [result.text for result in results if not result.ok] == []


def test_every_file_of_the_folder_is_listed_without_problems():
    files = {path.stem for path in (BUILT_IN / "stations").glob("*.toml")}
    assert files == set(IDS)
    assert not [row for row in list_profiles() if row.problems]
    assert {row.kind for row in list_profiles()} == set(KINDS)


def test_a_sound_profile():
    assert parse(SOUND.encode(), Path("mine.toml")).name[0].time_format == "%Y%m%d"


def test_found_by_path_by_further_folder_and_hiding_a_built_in_one(tmp_path):
    (tmp_path / "stations").mkdir()
    mine = tmp_path / "stations" / "mine.toml"
    mine.write_text(SOUND)
    assert load(str(mine)).ref.id == load("mine", [tmp_path]).ref.id == load("mine", [str(mine.parent)]).ref.id
    (tmp_path / "dsj.toml").write_text(SOUND.replace('"mine"', '"dsj"'))
    assert load("dsj", [tmp_path]).profile.title == "A model"
    rows = {row.id: row for row in list_profiles([tmp_path])}
    assert rows["dsj"].path == tmp_path / "dsj.toml"
    assert rows["mine"].title == "A model"


@pytest.mark.parametrize(
    ("name", "message"),
    [("dsi", "did you mean dsj"), ("zzzzzz", "known: "), ("../x", "cannot be read"), ("A B", "not a profile id")],
)
def test_unknown_profiles(name, message):
    with pytest.raises(ProfileError, match=message):
        load(name)


def test_an_unusable_profile_is_listed_with_its_problem(tmp_path):
    (tmp_path / "bad.toml").write_text("id = = 1")
    row = {row.id: row for row in list_profiles([tmp_path])}["bad"]
    assert row.problems
    (result,) = check_profile(tmp_path / "bad.toml")
    assert not result.ok
    assert "bad.toml:1" in result.text


def test_an_example_that_does_not_hold_says_what_differs(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SOUND)
    (result,) = check_profile(path)
    assert not result.ok
    assert "device: reads '7', expected nothing" in result.text
    assert "time: reads '2026-03-02T00:00:00', expected nothing" in result.text


@pytest.mark.parametrize(
    ("change", "line", "key", "message"),
    [
        (('title = "A model"', 'titel = "A model"'), 3, "titel", "did you mean title?"),
        (('title = "A model"', "title = 7"), 3, "title", "expected `str`, got `int`"),
        (('id = "mine"', 'id = "other"'), 2, "id", "the file is called mine.toml"),
        (("time_format", "time_fromat"), 8, "name[0].time_fromat", "did you mean time_format?"),
        (("'X(?P<device>[0-9]+)", "'X(?P<devise>[0-9]+)"), 7, "name[0].pattern", "'devise' is not known"),
        (("'X(?P<device>[0-9]+)", "'X(?P<device>[0-9]+"), 7, "name[0].pattern", "not a regular expression"),
        (("'X(?P<device>[0-9]+)", "'X(?P<device>([0-9])+)"), 7, "name[0].pattern", "repeats a group"),
        (("'X(?P<device>[0-9]+)", "'X(?P<device>(a|b){2,9})"), 7, "name[0].pattern", "repeats a group"),
        (('"%Y%m%d"', '"%Y%j"'), 8, "name[0].time_format", "%j is not known"),
        (('"%Y%m%d"', '"%H%M"'), 8, "name[0].time_format", "expected iso"),
        (('"%Y%m%d"', '"%Y%m%d%Y"'), 8, "name[0].time_format", "stands twice"),
        (('"%Y%m%d"', '""'), 8, "name[0].time_format", "go together"),
        (('"%Y%m%d"', '"%Y%m%d"\nzone = "CST"'), 9, "name[0].zone", "expected such as +08:00"),
        (('"%Y%m%d"', '"%Y%m%d"\non = "both"'), 9, "name[0].on", "invalid enum value"),
        (("[example.expect]", "[example.expekt]"), 12, "example[0].expekt", "did you mean expect?"),
        (('source = "a field test"', 'source = " "'), 4, "source", "is empty"),
        (('source = "a field test"', 'source = "x"\nencodings = ["klingon"]'), 5, "encodings[0]", "not a known text"),
        (('source = "a field test"', 'source = "x"\nquiet_s = -1'), 5, "quiet_s", "0 to 86400"),
        (('source = "a field test"', 'source = "x"\nunset = {device = ["("]}'), 5, "unset.device", "not a regular"),
        (('source = "a field test"', 'source = "x"\nunset = {divice = ["0"]}'), 5, "unset", "invalid enum value"),
        (('format = "station/v1"', 'format = "station/v9"'), 1, "format", "invalid enum value"),
    ],
)
def test_a_mistake_is_named_with_its_line(change, line, key, message):
    old, new = change
    assert old in SOUND
    found = problems(SOUND.replace(old, new, 1))
    assert [one for one in found if one[0] == line and one[1].startswith(key) and message in one[2]], found


@pytest.mark.parametrize(
    ("more", "key", "message"),
    [
        ('[[media]]\nextensions = ["MP4"]\nuse = "photo"', "media[0].extensions", "lower case"),
        ('[[media]]\nextensions = ["a", "a"]\nuse = "photo"', "media[0].extensions", "has a rule already"),
        ('[[media]]\nextensions = ["a"]\nuse = "movie"', "media[0].use", "invalid enum value"),
        ('[[sidecar]]\nextension = "a"\nformat = "json"\ntime = "x"', "sidecar[0].time", "RFC 6901"),
        ('[[sidecar]]\nextension = "a"\nformat = "xml"\nsync_device_time = "x"', "sidecar[0]", "both clocks"),
        ('[[track]]\nextension = "a"\nformat = "srt"\ndatum = "WGS-84"', "track[0].pattern", "lat and lon"),
        ('[[track]]\nextension = "a"\nformat = "csv"\ndatum = "WGS-84"', "track[0].columns", "lat and lon"),
        ('[[track]]\nextension = "a"\nformat = "gpx"', "track[0].datum", "missing"),
        (
            '[[track]]\nextension = "a"\nformat = "csv"\ndatum = "WGS-84"\nheader = false\ncolumns={lat="x",lon="2"}',
            "track[0].columns",
            "numbers",
        ),
        ('[listing]\nname = "name"\nurl = "/u"', "listing.name", "RFC 6901"),
        ('[listing]\nname = "/n"\nurl = "/u"\nnext = "/x"\npage_parameter = "p"', "listing.page_parameter", "one of"),
        ('[listing]\nname = "/n"\nurl = "/u"\npage_size = 0', "listing.page_size", "1 to 10000"),
        ("[[example]]\nexpect = {}", "example[1]", "empty"),
        ('[[example]]\nname_hex = "XY"\nexpect = {}', "example[1].name_hex", "hex digits"),
    ],
)
def test_mistakes_of_tables(more, key, message):
    found = problems(f"{SOUND}\n{more}\n")
    assert [one for one in found if one[0] > 13 and one[1].startswith(key) and message in one[2]], found


def test_every_mistake_at_once():
    text = SOUND.replace('title = "A model"', "title = 7\nwrong = 1").replace("time_format", "time_fromat")
    found = problems(text)
    assert [one[:2] for one in found] == [(3, "title"), (4, "wrong"), (9, "name[0].time_fromat")]


def test_no_example_is_a_mistake():
    assert "at least one" in problems(SOUND.partition("[[example]]")[0])[0][2]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff", "not UTF-8"),
        (b"a = = 1", "not TOML"),
        (b"", "missing"),
        (b"#" * (PROFILE_MAX_BYTES + 1), "larger than"),
        (b"name = 3", "expected `array`"),
        (b"a = " + b"[" * 5000, "not TOML"),
    ],
)
def test_what_is_no_profile(raw, message):
    with pytest.raises(ProfileError, match=message):
        parse(raw, Path("x.toml"))


@given(st.text(alphabet='abid=[]".{}\n 1-#', max_size=120))
def test_any_text_is_a_profile_or_a_profile_error(text):
    with pytest.raises(ProfileError):
        parse(text.encode(), Path("x.toml"))


@given(st.integers(0, len(SOUND) - 1), st.characters(max_codepoint=0x7F))
def test_any_change_of_one_sign(at, sign):
    text = SOUND[:at] + sign + SOUND[at + 1 :]
    try:
        profile = parse(text.encode(), Path("mine.toml"))
    except ProfileError:
        return  # the only error that a text may cause
    assert profile.id == "mine"
