"""The unit and its files, judged by systemd's own tools without starting anything."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

UNITS = ROOT / "systemd"
EXPOSURE_MAX = 1.5
EXPOSURE_WITH_SERIAL_MAX = 1.7


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a systemd tool, both outputs as one text."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine: apt-get install systemd")
    command = [path, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as it ships, but for a program that exists here: verify insists on one."""
    text = (UNITS / "fieldgate.service").read_text()
    assert text.count("/opt/fieldgate/bin/fieldgate") == 1
    copy = tmp_path / "fieldgate.service"
    copy.write_text(text.replace("/opt/fieldgate/bin/fieldgate", "/usr/bin/true"))
    return copy


@pytest.fixture
def unit_with_serial(unit: Path) -> Path:
    """The unit of a box with serial adapters."""
    folder = unit.with_name("fieldgate.service.d")
    folder.mkdir()
    shutil.copy(UNITS / "fieldgate-serial.conf", folder / "serial.conf")
    return unit


def settings(name: str) -> dict[str, list[str]]:
    """All values of each key of a unit file, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def exposure(unit: Path) -> float:
    """The figure of `systemd-analyze security`: 0 is closed, 10 is open."""
    done = tool("systemd-analyze", "security", "--no-pager", "--offline=yes", unit)
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert match, done.stdout
    return float(match[1])


def test_unit_is_clean(unit: Path) -> None:
    done = tool("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stdout) == (0, "")


def test_unit_with_serial_is_clean(unit_with_serial: Path) -> None:
    done = tool("systemd-analyze", "verify", "--man=no", unit_with_serial)
    assert (done.returncode, done.stdout) == (0, "")


def test_verify_would_complain(unit: Path) -> None:
    """Unknown keys are warnings with status 0: the two tests above must look at the text, and do."""
    unit.write_text(unit.read_text() + "\n[Service]\nNoSuchKey=1\n")
    assert "NoSuchKey" in tool("systemd-analyze", "verify", "--man=no", unit).stdout


def test_exposure(unit: Path) -> None:
    assert exposure(unit) <= EXPOSURE_MAX


def test_exposure_with_serial(unit_with_serial: Path) -> None:
    assert exposure(unit_with_serial) <= EXPOSURE_WITH_SERIAL_MAX


def test_traps_are_handled() -> None:
    """Lines whose absence no tool reports and whose price is paid in the field (README.md says which)."""
    unit = settings("fieldgate.service")
    assert unit["ExecStart"] == ["/opt/fieldgate/bin/fieldgate run /etc/fieldgate/fieldgate.toml"]
    assert unit["Type"] == ["notify"]
    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"], "a box that failed five times would stay down for good"
    assert set(unit["RestartPreventExitStatus"][0].split()) == {"70", "78"}
    assert "ProtectClock" not in unit, "it forbids reading the clock's state"
    assert unit["SystemCallFilter"][-1] == "adjtimex clock_adjtime", "must come after ~@privileged"
    assert "ProcSubset" not in unit, "pid hides /proc/sys/kernel/random/boot_id"
    order = " ".join(unit["After"] + unit.get("Wants", []) + unit.get("Requires", []))
    assert "time" not in order, "waiting for a synchronised clock stops recording on an offline box"
    assert "network-online" not in order, "so does waiting for a network"
    assert not [name for name in unit["LoadCredential"] if "/" in name], "a path makes the file compulsory"


def test_serial_classes_have_early_drivers() -> None:
    modules = {
        line
        for line in (UNITS / "fieldgate.modules-load.conf").read_text().splitlines()
        if line and not line.startswith("#")
    }
    allowed = settings("fieldgate-serial.conf")["DeviceAllow"]
    driver_of = {"char-ttyUSB rw": "usbserial", "char-ttyACM rw": "cdc_acm"}  # the others are built in
    assert modules == {driver for line, driver in driver_of.items() if line in allowed}


def test_account_and_folders(tmp_path: Path) -> None:
    """sysusers and tmpfiles, carried out in a root of their own."""
    (tmp_path / "etc").mkdir()
    users = tool("systemd-sysusers", f"--root={tmp_path}", UNITS / "fieldgate.sysusers.conf")
    assert users.returncode == 0, users.stdout
    account = re.search(r"^fieldgate:x:(\d+):(\d+):.*:(\S+)$", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)
    assert account
    assert account[3].endswith("/nologin")

    folders = tool("systemd-tmpfiles", f"--root={tmp_path}", "--create", UNITS / "fieldgate.tmpfiles.conf")
    if os.geteuid() != 0:  # giving folders away is for root; a mistake in a line is still reported by line number
        assert "fieldgate.tmpfiles.conf:" not in folders.stdout
        return
    assert (folders.returncode, folders.stdout) == (0, "")
    configuration, secrets = (tmp_path / name for name in ("etc/fieldgate", "etc/credstore"))
    assert (configuration.stat().st_mode & 0o7777, configuration.stat().st_gid) == (0o750, int(account[2]))
    assert (secrets.stat().st_mode & 0o7777, secrets.stat().st_uid) == (0o700, 0)


UDEV_MATCH = r'(ACTION|KERNEL|SUBSYSTEM|ENV\{\w+\})(==|!=)"[^"]+"'
UDEV_ASSIGN = r'(GOTO|LABEL|ENV\{\w+\}|IMPORT\{builtin\})="\w+"|(SYMLINK|TAG)\+="[^"\s]+"'


def test_udev_rules() -> None:
    """udevadm can check rules from systemd 254 on; Debian 12 has 252, so the grammar we use is checked here too."""
    path = UNITS / "60-fieldgate.rules"
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    for line in lines:
        for part in line.split(", "):
            assert re.fullmatch(f"{UDEV_MATCH}|{UDEV_ASSIGN}", part), f"{part!r} in {line!r}"
    jumps = set(re.findall(r'GOTO="(\w+)"', "\n".join(lines)))
    assert jumps == set(re.findall(r'LABEL="(\w+)"', "\n".join(lines)))
    udevadm = shutil.which("udevadm")
    if udevadm and "verify" in tool("udevadm", "--help").stdout:
        done = tool("udevadm", "verify", "--no-summary", path)
        assert done.returncode == 0, done.stdout


def test_readme_names_every_file_and_setting() -> None:
    readme = (UNITS / "README.md").read_text()
    for path in UNITS.iterdir():
        assert path.name in readme
    for name in ("fieldgate.service", "fieldgate-serial.conf"):
        for key in settings(name):
            assert f"`{key}" in readme, f"{key} of {name} is not explained in systemd/README.md"
