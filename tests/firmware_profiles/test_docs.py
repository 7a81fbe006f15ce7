"""PROFILE.md names every key of every table, and the defaults that it states are the real ones."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from firmware_profiles import model, tracker_model
from firmware_profiles.loader import list_profiles

TEXT = (Path(model.__file__).parent / "PROFILE.md").read_text("utf-8")
TABLES = {
    "": model.StationProfile,
    "[[name]]": model.NameGrammar,
    "[[media]]": model.Media,
    "[[sidecar]]": model.Sidecar,
    "[[track]]": model.Track,
    "[listing]": model.Listing,
    "[[example]]": model.Example,
    "trackers": tracker_model.TrackerProfile,
    "[[carrier]]": tracker_model.Carrier,
    "[[carrier.field]]": tracker_model.FieldRule,
    "ranges": tracker_model.Range,
    "[[example]] of a tracker": tracker_model.TrackerExample,
}


def section(table: str) -> str:
    """The part of PROFILE.md about one table."""
    heads = {
        "": "## The file",
        "trackers": "## The file of a tracker",
        "ranges": "## `ranges`",
        "[[example]] of a tracker": "## `[[example]]` of a tracker",
    }
    start = TEXT.index(heads.get(table, f"## `{table}`") + "\n")
    end = TEXT.find("\n## ", start + 3)
    return TEXT[start : end if end > 0 else None]


def test_every_table_of_the_model_is_tested_here():
    bases = (model.Section, tracker_model.Section)
    values = [*vars(model).values(), *vars(tracker_model).values()]
    structs = {value for value in values if isinstance(value, type) and issubclass(value, bases)} - set(bases)
    assert structs == set(TABLES.values())


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_key_has_a_line_with_its_default(table):
    keys = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section(table), re.MULTILINE))
    fields = msgspec.structs.fields(TABLES[table])
    assert set(keys) == {field.encode_name for field in fields}
    for field in fields:
        if field.required:
            assert "required" in keys[field.encode_name], field.name
        elif isinstance(field.default, str | int | float):
            shown = f'"{field.default}"' if isinstance(field.default, str) else str(field.default).lower()
            assert f"`{shown}`" in keys[field.encode_name], field.name


def test_every_field_word_and_profile_is_named():
    keys = tracker_model.Key.__args__  # type: ignore[attr-defined]
    words = [word for some in tracker_model.CHOICES.values() for word in some]
    for word in (*model.FIELDS, *keys, *words, *(row.id for row in list_profiles())):
        assert f"`{word}`" in TEXT, word


def test_the_worked_examples_in_the_document_are_sound_profiles(tmp_path):
    from drivers.bodycam.examples import check_profile

    station, tracker = re.findall(r"```toml\n(format.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "acme-b2.toml"
    path.write_text(station)
    results = check_profile(path)
    assert len(results) >= 2
    assert [result.text for result in results if not result.ok] == []

    from drivers.jt808.examples import check_examples
    from firmware_profiles.loader import load_tracker

    path = tmp_path / "acme-muck.toml"
    path.write_text(tracker)
    results = check_examples(load_tracker(str(path)).profile, path)
    assert len(results) >= 2
    assert [result.text for result in results if not result.ok] == []
