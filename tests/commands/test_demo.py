"""The embedded main job, as a person runs it, and what a clerk then does with the bundle that it pulled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bagit
import pytest

from tests.conftest import ROOT

FIELDGATE = [sys.executable, "-m", "gateway.cli"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def run(*words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "FIELDGATE_LANG": "en"}
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=cwd, env=env, check=False)


@pytest.mark.parametrize("source", ["simulated", "folder"])
def test_the_demo_loses_nothing_and_its_bundle_passes_every_checker(tmp_path: Path, source: str) -> None:
    more: list[str | Path] = []
    if source == "folder":
        station = tmp_path / "station"
        (station / "DCIM").mkdir(parents=True)
        (station / "DCIM" / "DSJ_0001234_001122_20261121142231.JPG").write_bytes(b"\xff\xd8photo\xff\xd9")
        (station / "holiday.txt").write_bytes(b"no grammar fits this name")
        more = ["--station", station]
    done = run(*FIELDGATE, "demo", "--for", "4", "--json", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["lost"] == 0
    assert result["alarms"] == []
    assert result["verified"] is True
    assert result["artifacts"] >= 2
    assert result["seals"] == result["stamped"] == result["receipts"] > 0
    if source == "folder":
        assert result["artifacts"] == 2
        assert sorted(path.name for path in station.rglob("*.*")) == [
            "DSJ_0001234_001122_20261121142231.JPG",
            "holiday.txt",
        ]
    bundle, authority = Path(result["bundle"]), Path(result["ca"])
    try:
        check_with_every_tool(bundle, authority, tmp_path)
    finally:
        shutil.rmtree(bundle.parent)


def check_with_every_tool(bundle: Path, authority: Path, folder: Path) -> None:
    """`fieldgate verify`, bagit.py, and the recipe with sha256sum and openssl."""
    assert run(*FIELDGATE, "verify", bundle, "--ca", authority).returncode == 0
    shutil.unpack_archive(bundle, folder / "unpacked", format="tar", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    assert run(*FIELDGATE, "verify", unpacked, "--ca", authority).returncode == 0
    bagit.Bag(str(unpacked)).validate()
    (folder / "recipe.sh").write_text(run(*FIELDGATE, "verify", "--recipe").stdout)
    checked = run("sh", folder / "recipe.sh", unpacked, authority)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.splitlines()[-1].startswith("all checks passed")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """pytest's own folders are too long for a Unix socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_ctrl_c_ends_the_demo_cleanly(short_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "FIELDGATE_LANG": "en", "TMPDIR": str(short_path)}
    words = [*FIELDGATE, "demo"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if "sealed" in line)
        process.send_signal(signal.SIGINT)
        rest = "".join(lines)
        assert process.wait() == 0, process.stderr.read() if process.stderr else ""
    assert rest.splitlines()[-1] == "stopped"
    assert list(short_path.iterdir()) == []
