"""What init makes, that it never overwrites, and that its configuration is a good one."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from gateway import config, keys, setup, toml_check
from gateway.core.errors import ConfigError


def files(folder: Path) -> dict[str, tuple[bytes, float]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_it_makes_everything_once(tmp_path: Path) -> None:
    target = tmp_path / "etc" / "fieldgate.toml"
    first = setup.init(target, "box-1")
    assert [step.made for step in first] == [True] * 6
    made = files(tmp_path)
    assert sorted(made) == [
        "etc/fieldgate.toml",
        "etc/state/keys/fieldgate.gateway.key",
        "etc/state/keys/gateway.csr",
    ]
    state = tmp_path / "etc" / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "keys" / setup.KEY_NAME).stat().st_mode) == 0o600
    again = setup.init(target, "box-1")
    assert [step.made for step in again] == [False] * 6
    assert files(tmp_path) == made
    loaded = config.load(target)
    assert (loaded.gateway.id, loaded.storage.state_dir) == ("box-1", str(state))
    (warning,) = config.file_warnings(loaded)
    assert "fieldgate enrol" in str(warning)
    csr = str(state / "keys" / "gateway.csr")
    command = ["openssl", "req", "-in", csr, "-noout", "-subject", "-nameopt", "RFC2253"]
    assert b"CN=box-1" in subprocess.check_output(command)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask_where_it_matters(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        setup.init(tmp_path / "fieldgate.toml", "box-1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state" / "keys" / setup.KEY_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("missing", ["fieldgate.toml", "state/keys/gateway.csr", "state/keys/" + setup.KEY_NAME])
def test_an_interrupted_init_is_completed(tmp_path: Path, missing: str) -> None:
    target = tmp_path / "fieldgate.toml"
    setup.init(target, "box-1")
    kept = files(tmp_path)
    (tmp_path / missing).unlink()
    part = tmp_path / missing
    part.with_name(f".{part.name}.0123.part").write_bytes(b"half a file")
    steps = setup.init(target, "box-1")
    assert [step.path.name for step in steps if step.made] == [Path(missing).name]
    now = files(tmp_path)
    assert sorted(now) == sorted(kept)
    assert {name: now[name] for name in kept if name != missing} == {
        name: kept[name] for name in kept if name != missing
    }


def test_an_existing_configuration_says_where_things_are(tmp_path: Path) -> None:
    target = tmp_path / "fieldgate.toml"
    target.write_text('gateway.id = "box-1"\nstorage.state_dir = "data"\nkeys.key_file = "secret/k.pem"\n')
    setup.init(target, "box-1", tmp_path / "ignored")
    assert keys.read_key(tmp_path / "secret" / "k.pem")
    assert (tmp_path / "data").is_dir()
    assert not (tmp_path / "ignored").exists()


def test_another_gateways_configuration_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "fieldgate.toml"
    setup.init(target, "box-1")
    made = files(tmp_path)
    with pytest.raises(ConfigError, match="belongs to the gateway 'box-1'"):
        setup.init(target, "box-2")
    assert files(tmp_path) == made


@pytest.mark.parametrize("gateway_id", ["", "Box", "a..b", "-a", "a-", "ab\n", "x" * 64, "盒子", 'a"b'])
def test_ids_that_are_refused_make_nothing(tmp_path: Path, gateway_id: str) -> None:
    with pytest.raises(ConfigError, match="no gateway id"):
        setup.init(tmp_path / "x" / "fieldgate.toml", gateway_id)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made: ") as error:
        setup.init(tmp_path / "file" / "fieldgate.toml", "box-1")
    assert "\n" not in str(error.value)


def test_a_state_folder_open_to_others_is_left_and_noted(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state").chmod(0o755)
    steps = setup.init(tmp_path / "fieldgate.toml", "box-1")
    assert "chmod 700" in next(step.note for step in steps if step.what == "state folder")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["plain", "with space", 'quote"backslash\\', "车载网关", "new'quote"])
def test_the_template_is_loaded_as_it_is_and_its_examples_too(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    setup.init(folder / "fieldgate.toml", "box-1")
    text = (folder / "fieldgate.toml").read_text()
    plain = config.load(folder / "fieldgate.toml")
    assert plain.storage.state_dir == str(folder / "state")
    every_line = re.sub(r"^# (\w+ = |\[\[)", r"\1", text, flags=re.MULTILINE)
    (folder / "all.toml").write_text(every_line)
    everything = config.load(folder / "all.toml")
    for section in ("gateway", "storage", "seal", "retention"):
        assert getattr(everything, section) == getattr(plain, section)
    keys_shown = set(re.findall(r"^(?:# )?(\w+) = ", text, re.MULTILINE))
    keys_known = {key for table, key in toml_check.every_key(config.SCHEMA) if table}
    assert keys_known - keys_shown == set()
