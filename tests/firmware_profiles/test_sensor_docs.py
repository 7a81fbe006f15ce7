"""SENSORS.md and FEEDS.md name every key of every table, and the defaults that they state are the real ones."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from drivers.jsonfeed import examples as feeds
from drivers.modbus import examples as sensors
from firmware_profiles import feed_model, sensor_model
from firmware_profiles.loader import ids, load_feed, load_sensor

FOLDER = Path(sensor_model.__file__).parent
SENSORS, FEEDS = ((FOLDER / name).read_text("utf-8") for name in ("SENSORS.md", "FEEDS.md"))
TABLES = {
    (SENSORS, "## The file of a sensor"): sensor_model.SensorProfile,
    (SENSORS, "## `[line]`"): sensor_model.LineRule,
    (SENSORS, "## `[timing]`"): sensor_model.TimingRule,
    (SENSORS, "## `[[identity]]`"): sensor_model.IdentityRule,
    (SENSORS, "## `[[block]]`"): sensor_model.BlockRule,
    (SENSORS, "## `[[block.value]]`"): sensor_model.ValueRule,
    (SENSORS, "## `[[status]]`"): sensor_model.StatusRule,
    (SENSORS, "## `[[write]]`"): sensor_model.WriteRule,
    (SENSORS, "## `[[example]]` of a sensor"): sensor_model.SensorExample,
    (FEEDS, "## The file of a feed"): feed_model.FeedProfile,
    (FEEDS, "## `[weighing]`"): feed_model.Weighing,
    (FEEDS, "## `[[value]]`"): feed_model.FeedValue,
    (FEEDS, "## `[[example]]` of a feed"): feed_model.FeedExample,
}


def test_every_table_of_the_models_is_tested_here():
    bases = {sensor_model.Section, feed_model.Section}
    values = [*vars(sensor_model).values(), *vars(feed_model).values()]
    structs = {value for value in values if isinstance(value, type) and issubclass(value, tuple(bases))} - bases
    assert structs == set(TABLES.values())


@pytest.mark.parametrize(("page", "head"), TABLES, ids=[head for _, head in TABLES])
def test_every_key_has_a_line_with_its_default(page, head):
    start = page.index(head + "\n")
    end = page.find("\n## ", start + 3)
    keys = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page[start : end if end > 0 else None], re.MULTILINE))
    fields = msgspec.structs.fields(TABLES[page, head])
    assert set(keys) == {field.encode_name for field in fields}
    for field in fields:
        if field.required:
            assert "required" in keys[field.encode_name], field.name
        elif isinstance(field.default, str | int | float):
            shown = f'"{field.default}"' if isinstance(field.default, str) else str(field.default).lower()
            assert f"`{shown}`" in keys[field.encode_name], field.name


def test_every_built_in_profile_and_type_is_named():
    assert not [name for name in ids("sensor") if f"| `{name}` |" not in SENSORS]
    assert not [name for name in ids("feed") if f"| `{name}` |" not in FEEDS]
    assert not [name for name in sensor_model.WORDS if not re.search(rf"[ `]{name}[ `]", SENSORS)]


def test_the_worked_examples_in_the_documents_are_sound_profiles(tmp_path):
    (sensor,) = re.findall(r"```toml\n(.*?)```", SENSORS, re.DOTALL)
    (feed,) = re.findall(r"```toml\n(.*?)```", FEEDS, re.DOTALL)
    paths = tmp_path / "acme-fume.toml", tmp_path / "acme-bin.toml"
    for path, text in zip(paths, (sensor, feed), strict=True):
        path.write_text(text)
    results = sensors.check_examples(load_sensor(str(paths[0])).profile, paths[0])
    results += feeds.check_examples(load_feed(str(paths[1])).profile, paths[1])
    assert len(results) == 4
    assert [result.text for result in results if not result.ok] == []
