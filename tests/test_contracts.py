"""The import contracts of pyproject.toml: nothing escapes them, and each one can break."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
PACKAGES: list[str] = SETTINGS["root_packages"]
LAYERS: list[str] = SETTINGS["contracts"][0]["layers"]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def placed() -> set[str]:
    """Every module that the first contract gives a layer to."""
    return {name for line in LAYERS for name in re.findall(r"[\w.]+", line)}


def test_every_module_has_a_layer() -> None:
    names = {f"gateway.{path.stem}" for path in (ROOT / "gateway").iterdir() if path.suffix == ".py"}
    names |= {f"gateway.{path.parent.name}" for path in (ROOT / "gateway").glob("*/__init__.py")}
    names |= set(PACKAGES) - {"gateway"}
    without = names - placed() - {"gateway.__init__"}
    assert not without, f"no layer in [tool.importlinter] of pyproject.toml for {sorted(without)}"


def test_every_package_is_checked_and_shipped() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["packages"]
    assert found == set(PACKAGES) == set(shipped)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources in which a contract may be broken."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("gateway/core/record.py", "import gateway.config", 0),
        ("buffers/intruder.py", "import uplink.delivery", 0),
        ("drivers/modbus/__init__.py", "import drivers.bodycam", 1),
        ("drivers/unlisted/__init__.py", "", 1),
        ("gateway/ledger/merkle.py", "import time", 2),
        ("drivers/bodycam/driver.py", "import asyncio", 2),
        ("uplink/delivery.py", "from uplink import intruder", 2),  # which imports socket
        ("gateway/api/intruder.py", "import buffers", 3),
        ("gateway/__init__.py", "import gateway.config", 4),
    ],
)
def test_contract_can_break(tree: Path, module: str, line: str, contract: int) -> None:
    (tree / "uplink/intruder.py").write_text("import socket\n")
    path = tree / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{line}\n")
    done = subprocess.run(
        [sys.executable, LINT_IMPORTS, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.search(re.escape(SETTINGS["contracts"][contract]["name"]) + " BROKEN", done.stdout), done.stdout
