"""Monitor profiles: every mistake is named, and PROFILE.md names every key with its default."""

import re
from pathlib import Path

import msgspec
import pytest

from drivers.hj212.examples import check_examples
from firmware_profiles import monitor_model
from firmware_profiles.loader import ids, load_monitor, load_station, load_tracker, parse
from gateway.core.errors import ProfileError

TEXT = (Path(monitor_model.__file__).parent / "PROFILE.md").read_text("utf-8")
TABLES = {
    "## The file of a monitor": monitor_model.MonitorProfile,
    "## `[[factor]]`": monitor_model.FactorRule,
    "## `[[example]]` of a monitor": monitor_model.MonitorExample,
}
SOUND = """
format = "monitor/v1"
id = "mine"
title = "A family"
source = "A device on a desk"
{head}
[[factor]]
code = "a34041"
quantity = "fume"
{factor}
[[example]]
cp = "DataTime=20260302183000;a34041-Rtd=1"
expect = {{ taken_utc_s = 1772447400, fume = 1_000_000 }}
[[example]]
cp = "a34041-Rtd=2"
expect = {{ fume = 2_000_000 }}
{example}
"""


def problems(head: str = "", factor: str = "", example: str = "") -> list[str]:
    text = SOUND.format(head=head, factor=factor, example=example)
    try:
        profile = parse(text.encode(), Path("mine.toml"))
    except ProfileError as error:
        return [f"{problem.key}: {problem.message}" for problem in error.problems]
    assert isinstance(profile, monitor_model.MonitorProfile)
    return []


def test_a_sound_profile():
    assert problems() == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"head": 'zone = "Peking"'}, "zone: 'Peking' is no zone; expected such as +08:00, or Z"),
        ({"head": "minute_s = 61"}, "minute_s: expected 60, 120"),
        ({"head": 'marks = { N = "fine" }'}, "marks: 'N' = 'fine': expected such as N = 'good'"),
        ({"head": 'answers = { 902 = "9022" }'}, "answers: '902' = '9022': expected two commands"),
        ({"head": 'match = ["*"]'}, "match: unknown key"),
        ({"factor": 'unit = "ug/m3"'}, "factor[0].unit: fume is kept in mg/m3; take unit out, and convert with scale"),
        ({"factor": 'scale = "x"'}, "factor[0].scale: 'x' is no number other than 0"),
        ({"factor": "scale = 0"}, "factor[0].scale: '0' is no number other than 0"),
        ({"factor": 'offset = "1e3"'}, "factor[0].offset: '1e3' is no number"),
        ({"factor": "range = [1]"}, "factor[0].range: expected [lowest, highest]"),
        ({"factor": "range = [2, 1]"}, "factor[0].range: ends before it begins"),
        ({"factor": 'range = ["low", 1]'}, "factor[0].range: expected [lowest, highest]"),
        ({"factor": 'fields = ["Flag"]'}, "factor[0].fields: 'Flag' is no field; expected of Rtd"),
        ({"factor": 'states = { 1 = "running" }'}, "factor[0].states: '1' = 'running': expected one of on, off"),
        ({"factor": 'states = { 1 = "on" }\nscale = 2'}, "factor[0].states: states have no scale"),
        ({"factor": 'id = "a b"'}, "factor[0].id: 'a b': expected at most 32 letters"),
        ({"factor": '[[factor]]\ncode = "a34041"\nquantity = "pm"'}, "factor[1]: is the same code, ID and field"),
        ({"factor": '[[factor]]\ncode = "a 1"\nquantity = "pm"'}, "factor[1].code: 'a 1' is no factor code"),
        ({"factor": '[[factor]]\ncode = "a1"\nquantity = "PM"'}, "factor[1].quantity: 'PM' is no name"),
        (
            {"factor": '[[factor]]\ncode = "a1"\nquantity = "purifier_curent"'},
            "factor[1].quantity: 'purifier_curent' is ",
        ),
        ({"example": '[[example]]\nframe = "##"\ncp = "x=1"\nexpect = {}'}, "example[2]: give exactly one of"),
        ({"example": '[[example]]\ncp = "x=1"\nmessage = "x"\nexpect = {}'}, "example[2].message: expected a command"),
    ],
)
def test_every_mistake_is_named(given, said):
    found = problems(**given)
    assert any(one.startswith(said) for one in found), found


def test_examples_are_demanded():
    text = SOUND.format(head="", factor="", example="").partition("[[example]]")[0]
    with pytest.raises(ProfileError, match="example: missing; at least 2"):
        parse(text.encode(), Path("mine.toml"))


def test_an_example_that_does_not_hold_says_what_differs(tmp_path):
    path = tmp_path / "mine.toml"
    bad = '[[example]]\nframe = "##0003abcFFFF"\nexpect = {}\n[[example]]\ncp = "a34041-Rtd=3"\nexpect = { fume = 4 }\n'
    path.write_text(SOUND.format(head="", factor="", example=bad))
    results = check_examples(load_monitor(str(path)).profile, path)
    assert [result.ok for result in results] == [True, True, False, False]
    assert "not a frame: CRC FFFF" in results[2].text
    assert results[3].text == "fume: reads 3000000, expected 4"


def test_kinds_are_told_apart():
    assert "fume-d1" in ids("monitor")
    assert "fume-d1" not in ids("tracker")
    with pytest.raises(ProfileError, match=r"jt808\.toml: format: is of a tracker; a monitor's profile is needed"):
        load_monitor("jt808")
    with pytest.raises(ProfileError, match=r"fume-d1\.toml: format: is of a monitor; a station's profile is needed"):
        load_station("fume-d1")
    with pytest.raises(ProfileError, match=r"fume-d1\.toml: format: is of a monitor; a tracker's profile is needed"):
        load_tracker("fume-d1")


def section(heading: str) -> str:
    start = TEXT.index(heading + "\n")
    end = TEXT.find("\n## ", start + 3)
    return TEXT[start : end if end > 0 else None]


@pytest.mark.parametrize("heading", sorted(TABLES))
def test_every_key_has_a_line_with_its_default(heading):
    keys = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section(heading), re.MULTILINE))
    fields = msgspec.structs.fields(TABLES[heading])
    assert set(keys) == {field.encode_name for field in fields}
    for field in fields:
        if field.required:
            assert "required" in keys[field.encode_name], field.name
        elif isinstance(field.default, str | int):
            shown = f'"{field.default}"' if isinstance(field.default, str) else str(field.default).lower()
            assert f"`{shown}`" in keys[field.encode_name], field.name


def test_the_example_in_the_document_is_sound(tmp_path):
    (text,) = re.findall(r"```toml\n# acme-fume\.toml\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "acme-fume.toml"
    path.write_text(text)
    results = check_examples(load_monitor(str(path)).profile, path)
    assert [result.text for result in results if not result.ok] == []
    assert len(results) == 2
