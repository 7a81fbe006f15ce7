"""Which classes are private: by the devices files, and in doubt."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.config import Config, GatewayConfig, KeysConfig, StorageConfig
from gateway.config_sources import (
    Hj212Config,
    Jt808Config,
    ModbusDevice,
    ModbusTcpConfig,
    NmeaTcpConfig,
    SourceConfig,
    StationFolderConfig,
)
from gateway.privacy import Privacies

FILE = 'format = "devices/v1"\n'


def classes(**privacies: str) -> str:
    return FILE + "".join(
        f'[[class]]\nid = "{name.replace("_", "-")}"\nprivacy = "{privacy}"\n' for name, privacy in privacies.items()
    )


def config(*sources: SourceConfig) -> Config:
    return Config(
        gateway=GatewayConfig(id="gw-0001"),
        storage=StorageConfig(state_dir="/nowhere"),
        keys=KeysConfig(key_file="/nowhere/key"),
        source=list(sources),
    )


def trucks(path: Path, name: str = "trucks") -> Jt808Config:
    return Jt808Config(name=name, devices_file=str(path))


def change(path: Path, content: str) -> None:
    path.with_suffix(".new").write_text(content)
    os.replace(path.with_suffix(".new"), path)  # noqa: PTH105


def test_classes_are_what_their_file_says_and_others_are_private(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(classes(muck_truck="open", officer="process"))
    found = Privacies(config(trucks(path), NmeaTcpConfig(name="gnss", address="192.0.2.7:1", device_class="boat")))
    assert [found.of(name) for name in ("muck-truck", "boat", "officer", "other", "")] == [
        "open", "open", "process", "process", "process",
    ]  # fmt: skip
    assert found.any_private


def test_of_two_files_the_stricter_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text(classes(muck_truck="open", shared="open"))
    two.write_text(classes(shared="process"))
    for order in ((one, two), (two, one)):
        found = Privacies(config(*(trucks(path, path.stem) for path in order)))
        assert (found.of("muck-truck"), found.of("shared")) == ("open", "process")


def test_a_change_of_the_file_counts_and_a_mistake_in_it_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(classes(muck_truck="open"))
    found = Privacies(config(trucks(path)))
    assert not found.any_private
    change(path, classes(muck_truck="process"))
    found.refresh()
    assert (found.of("muck-truck"), found.any_private) == ("process", True)
    change(path, "broken")
    found.refresh()
    assert found.of("muck-truck") == "process"


def test_a_file_that_cannot_be_read_makes_everything_private_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    found = Privacies(config(trucks(path)))
    assert (found.of("muck-truck"), found.any_private) == ("process", True)
    path.write_text(classes(muck_truck="open"))
    found.refresh()
    assert (found.of("muck-truck"), found.any_private) == ("open", False)


def test_recordings_of_officers_make_files_private(tmp_path: Path) -> None:
    assert Privacies(config(StationFolderConfig(name="station", path=str(tmp_path)))).any_private
    assert not Privacies(config()).any_private


def test_without_a_devices_file_the_class_unlisted_is_open() -> None:
    found = Privacies(config(Jt808Config(name="trucks")))
    assert (found.of("unlisted"), found.any_private) == ("open", False)


def test_monitors_and_sensors_are_open_also_those_in_quarantine(tmp_path: Path) -> None:
    path = tmp_path / "monitors.toml"
    path.write_text(FILE + '[[class]]\nid = "fume-monitor"\nprofile = "fume-d1"\n')
    bus = ModbusTcpConfig(name="bus", address="192.0.2.7:502", devices=[ModbusDevice(unit=1, profile="x")])
    found = Privacies(config(Hj212Config(name="fume", devices_file=str(path)), bus))
    assert [found.of(name) for name in ("fume-monitor", "unlisted", "sensor", "other")] == [
        "open", "open", "open", "process",
    ]  # fmt: skip
    assert not found.any_private
