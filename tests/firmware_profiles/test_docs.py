"""PROFILE.md names every key of every table, and the defaults that it states are the real ones."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from firmware_profiles import model
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
}


def section(table: str) -> str:
    """The part of PROFILE.md about one table."""
    start = TEXT.index(f"## `{table}`") if table else TEXT.index("## The file")
    end = TEXT.find("\n## ", start + 3)
    return TEXT[start : end if end > 0 else None]


def test_every_table_of_the_model_is_tested_here():
    structs = {
        value
        for value in vars(model).values()
        if isinstance(value, type) and issubclass(value, model.Section) and value is not model.Section
    }
    assert structs == set(TABLES.values())


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_key_has_a_line_with_its_default(table):
    keys = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section(table), re.MULTILINE))
    fields = msgspec.structs.fields(TABLES[table])
    assert set(keys) == {field.name for field in fields}
    for field in fields:
        if field.required:
            assert "required" in keys[field.name], field.name
        elif isinstance(field.default, str | int | float):
            shown = f'"{field.default}"' if isinstance(field.default, str) else str(field.default).lower()
            assert f"`{shown}`" in keys[field.name], field.name


def test_every_field_word_and_profile_is_named():
    for word in (*model.FIELDS, *(row.id for row in list_profiles())):
        assert f"`{word}`" in TEXT, word


def test_the_worked_example_in_the_document_is_a_sound_profile(tmp_path):
    from drivers.bodycam.examples import check_profile

    (block,) = re.findall(r"```toml\n(format.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "acme-b2.toml"
    path.write_text(block)
    results = check_profile(path)
    assert len(results) >= 2
    assert [result.text for result in results if not result.ok] == []
