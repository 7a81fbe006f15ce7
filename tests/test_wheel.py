"""The wheel that a box installs: everything of the five packages, schema, profiles and specifications included."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_docs import PACKAGES, committed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from the sources without a network: hatchling is in the development lock."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    names = {path.relative_to(ROOT) for path in committed()}
    expected = {str(name) for name in names if name.parts[0] in PACKAGES}
    inside = {name for name in wheel.namelist() if not Path(name).parts[0].endswith(".dist-info")}
    assert inside == expected


def test_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "fieldgate = gateway.cli:main" in wheel.read(name).decode()
