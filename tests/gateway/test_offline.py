"""`fieldgate check` reads what the configuration names: devices files, and profiles of the right kind."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigError
from gateway.offline import check_files, load_config

HEAD = """
[gateway]
id = "gw-1"
[storage]
state_dir = "state"
[keys]
key_file = "state/key.pem"
"""
DEVICES = 'format = "devices/v1"\n[[class]]\nid = "truck"\nprofile = "%s"\n'


def problems(folder, source: str) -> list[str]:
    path = folder / "fieldgate.toml"
    path.write_text(f"{HEAD}\n[[source]]\nname = 'one'\n{source}\n")
    with pytest.raises(ConfigError) as caught:
        check_files(load_config(path))
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("jt80", "devices.toml:4: class[0].profile: no tracker profile 'jt80'; did you mean jt808?"),
        ("nmea", "devices.toml:4: class[0].profile: 'nmea' is for nmea receivers; devices of this file speak JT/T 808"),
        ("dsj", "devices.toml:4: class[0].profile: no tracker profile 'dsj'"),
    ],
)
def test_a_devices_file_with_a_mistake(tmp_path, profile, expected):
    (tmp_path / "devices.toml").write_text(DEVICES % profile)
    (found,) = problems(tmp_path, 'type = "jt808"\ndevices_file = "devices.toml"')
    assert found.startswith(expected)


def test_a_devices_file_that_is_missing(tmp_path):
    (found,) = problems(tmp_path, 'type = "jt808"\ndevices_file = "devices.toml"')
    assert found.startswith("devices.toml: no such file")


def test_a_profile_that_the_devices_file_names_and_that_is_wrong(tmp_path):
    (tmp_path / "devices.toml").write_text(DEVICES % "mine")
    (tmp_path / "mine.toml").write_text('format = "tracker/v1"\nid = "mine"\ntitle = "x"\nsource = "x"\n')
    source = 'type = "jt808"\ndevices_file = "devices.toml"'
    path = tmp_path / "fieldgate.toml"
    path.write_text(f"profile_dirs = ['.']\n{HEAD}\n[[source]]\nname = 'one'\n{source}\n")
    with pytest.raises(ConfigError, match=r"mine\.toml: example: missing; at least 1"):
        check_files(load_config(path))


def test_profiles_of_the_wrong_kind(tmp_path):
    (station,) = problems(tmp_path, 'type = "station-folder"\npath = "/nowhere/dock"\nprofile = "jt808"')
    assert station.endswith("jt808.toml: format: is of a tracker; a station's profile is needed")
    (tracker,) = problems(tmp_path, 'type = "nmea-serial"\nport = "/dev/x"\nprofile = "dsj"')
    assert tracker.endswith("dsj.toml: format: is of a station; a tracker's profile is needed")
    (receiver,) = problems(tmp_path, 'type = "nmea-serial"\nport = "/dev/x"\nprofile = "jt808"')
    assert "the receiver one needs one with protocol" in receiver


def test_without_a_devices_file_all_is_well(tmp_path):
    path = tmp_path / "fieldgate.toml"
    path.write_text(f"{HEAD}\n[[source]]\nname = 'one'\ntype = 'jt808'\n")
    check_files(load_config(path))


@pytest.mark.parametrize("kind", ['type = "hj212"', 'type = "hj212-serial"\nport = "/dev/x"'])
def test_the_files_of_monitors(tmp_path, kind):
    (tmp_path / "devices.toml").write_text(DEVICES % "fume-d9")
    (tmp_path / "keys.toml").write_text('format = "hj212-keys/v1"\n[[key]]\nmn = "1"\nkey = "short"\n')
    found = problems(tmp_path, f'{kind}\ndevices_file = "devices.toml"\nkeys_file = "keys.toml"')
    assert found == [
        "devices.toml:4: class[0].profile: no monitor profile 'fume-d9'; did you mean fume-d4?",
        "keys.toml:4: key[0].key: is neither 16 characters nor 32 hex digits",
    ]


def test_a_keys_file_that_is_missing(tmp_path):
    (found,) = problems(tmp_path, 'type = "hj212"\nkeys_file = "keys.toml"')
    assert found.startswith("keys.toml: no such file")
