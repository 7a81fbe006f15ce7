"""The lock files: complete, hashed, in agreement with pyproject.toml and each other, and free of addresses."""

import re
import tomllib

import pytest

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements-build.lock", "requirements.lock", "requirements-dev.lock")


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package of a lock file."""
    found: dict[str, tuple[str, int]] = {}
    package = ""
    for line in (ROOT / name).read_text().splitlines():
        if match := re.fullmatch(r"([a-z0-9-]+)==([\w.]+)( ; [^\\]+)? \\", line):
            package = match[1]
            found[package] = (match[2], 0)
        else:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), f"{name}: unexpected line {line!r}"
            found[package] = (found[package][0], found[package][1] + 1)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_lock_holds_pins_and_hashes_only(name: str) -> None:
    locked = pins(name)
    assert locked
    assert all(hashes for _, hashes in locked.values())


def test_locks_agree() -> None:
    """./dev installs the build lock first and the development lock over it; production uses the runtime lock."""
    everything = pins("requirements-dev.lock")
    for name in LOCKS:
        assert pins(name).items() <= everything.items()


def test_locks_hold_what_the_project_asks_for() -> None:
    runtime = PROJECT["project"]["dependencies"]
    asked = {
        "requirements.lock": runtime,
        "requirements-dev.lock": [*runtime, *PROJECT["dependency-groups"]["dev"]],
        "requirements-build.lock": PROJECT["dependency-groups"]["build"],
    }
    for name, requirements in asked.items():
        names = {re.split(r"[<>=;\s]", requirement)[0] for requirement in requirements}
        assert names <= set(pins(name)), f"{name}: make it again, CONTRIBUTING.md says how"
