"""./dev as a person meets it: real processes in a small stand-in project, without a network.

Most tests give it a stand-in for uv that makes a bare environment at once; one goes the whole way with pip and
local wheels.
"""

import ast
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# Obeys two files in its own folder, "fail" (a message) and "hold" (waits until it is gone), and writes "calls".
STAND_IN_UV = """\
#!{python}
import pathlib, subprocess, sys, time
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with open(here / "calls", "a") as calls:
    calls.write(" ".join(words) + "\\n")
if words[0] == "venv":
    (here / "started").touch()
    while (here / "hold").exists():
        time.sleep(0.01)
    sys.exit(subprocess.call([sys.executable, "-m", "venv", "--without-pip", words[-1]]))
if (here / "fail").exists():
    sys.exit((here / "fail").read_text())
if words[-2:] == ["-e", "."]:
    script = pathlib.Path(words[words.index("--python") + 1]).with_name("fieldgate")
    script.write_text("import sys; print('fieldgate', sys.argv[1:]); sys.exit(len(sys.argv) - 2)")
"""

# A build backend of one function: what hatchling does for the real project.
STAND_IN_BACKEND = """\
import os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "fieldgate-0.1.0-py3-none-any.whl"
    info = "fieldgate-0.1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("fieldgate.pth", os.getcwd())
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: fieldgate\\nVersion: 0.1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\nfieldgate = gateway:main\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


class Project:
    """A folder with ./dev and just enough around it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tools = root / "tools"
        self.tools.mkdir(parents=True)
        shutil.copy(ROOT / "dev", root / "dev")
        for name in ("requirements-build.lock", "requirements-dev.lock", "requirements.lock"):
            (root / name).touch()
        (root / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "backend"\n')
        # Found before installed ones, because ./dev starts tools in the project's folder
        for module in ("pytest", "ruff", "mypy"):
            (root / f"{module}.py").write_text(f"import sys; print('{module}', sys.argv[1:])")
        (root / "gateway.py").write_text("import sys, dependency\ndef main(): print(dependency.NAME, sys.argv[1:])\n")

    def use_stand_in_uv(self) -> None:
        uv = self.tools / "uv"
        uv.write_text(STAND_IN_UV.format(python=sys.executable))
        uv.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of the caller's settings, and no uv but the one in `tools`."""
        return {"PATH": str(self.tools), "HOME": str(self.root), "LANG": "C.UTF-8", **more}

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "dev"), *words],
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **more: str) -> tuple[int, str, str]:
        process = self.start(*words, **more)
        out, err = process.communicate(timeout=50)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def environments(self) -> list[Path]:
        return sorted(path for path in (self.root / ".venv").glob(f"{VERSION}-*"))

    def calls(self) -> list[str]:
        return (self.tools / "calls").read_text().splitlines()

    def wait_for(self, path: Path) -> None:
        """Until another process has made it; the test's own time limit is the only one."""
        while not path.exists():
            time.sleep(0.01)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project with a space")
    made.use_stand_in_uv()
    return made


def test_first_start_sets_up_and_the_next_is_silent(project: Project) -> None:
    status, out, err = project.run("status", "--json")
    assert (status, out) == (1, "fieldgate ['status', '--json']\n")  # the command's own status and output
    assert re.search(r"^dev: setting up Python .*\n( +\w[\w ]+ +\d+\.\d s\n){4}$", err), err
    assert project.run("status", "--json") == (1, out, "")
    (env,) = project.environments()
    assert (project.root / ".venv" / VERSION).resolve() == env
    create, build, packages, editable = project.calls()
    assert create.startswith("venv ")
    for call, lock in ((build, "requirements-build.lock"), (packages, "requirements-dev.lock")):
        assert call.endswith(f"--no-build-isolation --require-hashes -r {lock}")
    assert editable.endswith("--no-build-isolation --no-deps -e .")


def test_words(project: Project) -> None:
    (project.root / "tests/bench").mkdir(parents=True)
    (project.root / "tests/bench/__main__.py").write_text("import sys; print('bench', sys.argv[1:])")
    assert project.run("test", "-k", "name")[:2] == (0, "pytest ['-k', 'name']\n")
    assert project.run("bench", "copy")[:2] == (0, "bench ['copy']\n")
    assert project.run("demo")[:2] == (0, "fieldgate ['demo']\n")


@pytest.mark.parametrize(("slow", "rest"), [(0, 0), (1, 0), (0, 1), (5, 2)])
def test_all_tests_run_in_two_halves_and_each_can_fail(project: Project, slow: int, rest: int) -> None:
    (project.root / "pytest.py").write_text(
        f"import sys; print('pytest', sys.argv[1:]); sys.exit({slow} if sys.argv[-1] == 'slow' else {rest})"
    )
    status, out, _ = project.run("test")
    assert status == (rest or slow)
    assert out == "pytest ['-m', 'not slow']\npytest ['-m', 'slow']\n"


def test_usage_needs_no_environment(project: Project) -> None:
    for words, expected in (((), 2), (("--help",), 0)):
        status, out, err = project.run(*words)
        assert (status, err) == (expected, "")
        assert out.startswith("usage: ./dev demo")
    assert not (project.root / ".venv").exists()


def test_check_runs_every_step_and_sums_up(project: Project) -> None:
    (project.root / "ruff.py").write_text("import sys; sys.exit('bad format' if 'format' in sys.argv else 0)")
    status, out, _ = project.run("check")
    assert status == 1
    verdicts = re.findall(r"^(\w+) +(ok|FAILED) +\d+\.\d s$", out, re.MULTILINE)
    # the contracts' tool is not in a bare environment: a step that cannot start has failed
    expected = {"format": "FAILED", "lint": "ok", "types": "ok", "contracts": "FAILED", "documents": "ok"}
    assert dict(verdicts) == expected
    assert "bad format" in out
    assert re.search(r"^check: failed: format, contracts, Python \d", out, re.MULTILINE)

    script = project.environments()[0] / "bin/lint-imports"
    script.touch()
    (project.root / "ruff.py").write_text("")
    status, out, _ = project.run("check")
    assert status == 0
    assert out.splitlines()[-1].startswith("check: all 5 ok")


def test_changed_lock_makes_a_new_environment(project: Project) -> None:
    project.run("demo")
    (old,) = project.environments()
    (project.root / "requirements-dev.lock").write_text("# changed\n")
    project.run("demo")
    (new,) = project.environments()
    assert new != old
    assert (project.root / ".venv" / VERSION).resolve() == new


def test_settings_of_linters_make_no_new_environment(project: Project) -> None:
    project.run("demo")
    before = project.environments()
    with (project.root / "pyproject.toml").open("a") as file:
        file.write("[tool.ruff]\nline-length = 100\n")
    assert project.run("demo")[2] == ""
    with (project.root / "pyproject.toml").open("a") as file:
        file.write("[project]\nversion = '2'\n")
    project.run("demo")
    assert project.environments() != before


def test_broken_pyproject_gets_one_line(project: Project) -> None:
    (project.root / "pyproject.toml").write_text("[project\n")
    status, out, err = project.run("demo")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"dev: pyproject\.toml is no TOML: .*line 1.*\n", err)


def test_environment_in_use_is_not_deleted(project: Project) -> None:
    (project.root / "pytest.py").write_text("import pathlib, time; pathlib.Path('runs').touch(); time.sleep(60)")
    running = project.start("test", "-x")
    project.wait_for(project.root / "runs")
    (old,) = project.environments()
    (project.root / "requirements-dev.lock").write_text("# changed\n")
    project.run("demo")
    assert old in project.environments()
    running.kill()
    running.communicate()
    (project.root / "requirements-dev.lock").write_text("# changed again\n")
    project.run("demo")
    assert old not in project.environments()
    assert len(project.environments()) == 1


def test_failed_set_up_says_why_and_leaves_nothing(project: Project) -> None:
    (project.tools / "fail").write_text("no such package: nowhere==1.0")
    status, out, err = project.run("demo")
    assert (status, out) == (1, "")
    assert "dev: step 'build tools' ended with status 1" in err
    assert "no such package: nowhere==1.0" in err
    assert not project.environments()
    (project.tools / "fail").unlink()
    assert project.run("demo")[0] == 0


def test_half_made_environment_is_made_again(project: Project) -> None:
    """What a power cut leaves has no READY file."""
    project.run("demo")
    (env,) = project.environments()
    (env / "READY").unlink()
    (env / "bin/python").unlink()
    assert project.run("demo")[:2] == (0, "fieldgate ['demo']\n")


def test_two_at_once(project: Project) -> None:
    (project.tools / "hold").touch()
    first = project.start("demo")
    project.wait_for(project.tools / "started")
    second = project.start("demo")
    assert second.stderr is not None
    assert second.stderr.readline() == "dev: waiting for another ./dev that is setting up\n"
    (project.tools / "hold").unlink()
    outputs = [process.communicate(timeout=50) for process in (first, second)]
    assert [out for out, _ in outputs] == ["fieldgate ['demo']\n"] * 2
    assert outputs[1][1] == ""
    assert len([call for call in project.calls() if call.startswith("venv")]) == 1


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_set_up(project: Project, number: signal.Signals, expected: int) -> None:
    (project.tools / "hold").touch()
    process = project.start("demo")
    project.wait_for(project.tools / "started")
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=50)
    assert (process.returncode, out) == (expected, "")
    assert "Traceback" not in err
    assert not project.environments()
    (project.tools / "hold").unlink()
    assert project.run("demo")[0] == 0


def test_missing_venv_gets_the_apt_line(project: Project, tmp_path: Path) -> None:
    """Debian without python3-venv: the module that brings pip is not there."""
    (project.tools / "uv").unlink()
    hole = tmp_path / "hole"
    hole.mkdir()
    (hole / "ensurepip.py").write_text("raise ModuleNotFoundError(\"No module named 'ensurepip'\", name='ensurepip')")
    status, out, err = project.run("demo", PYTHONPATH=str(hole))
    assert (status, out) == (1, "")
    last = f"dev: Python {VERSION} has no ensurepip module: run  apt-get install python3-venv  and start again"
    assert err.splitlines()[-1] == last
    assert not project.environments()


def test_chosen_python(project: Project, tmp_path: Path) -> None:
    wrapper = tmp_path / "python-wrapper"
    wrapper.write_text(f'#!/bin/sh\necho used >>"{tmp_path}/log"\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    assert project.run("demo", FIELDGATE_PYTHON=str(wrapper))[0] == 0
    assert (tmp_path / "log").read_text() == "used\n"  # once, not for ever


def test_chosen_python_that_is_not_there(project: Project) -> None:
    status, out, err = project.run("demo", FIELDGATE_PYTHON="/no/such/python3")
    assert (status, out) == (1, "")
    assert err == "dev: FIELDGATE_PYTHON=/no/such/python3 cannot be run: No such file or directory\n"


def test_old_python_gets_one_line() -> None:
    source = (ROOT / "dev").read_text()
    ast.parse(source, feature_version=(3, 7))  # or the line would be a syntax error
    program = f"import sys; sys.version_info = (3, 9, 2); exec(compile({source!r}, 'dev', 'exec'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env={})
    assert done.returncode == 1
    assert done.stderr.startswith("dev: Python 3.9 is too old, 3.11 or newer is needed")
    assert done.stderr.count("\n") == 1


def test_folder_that_cannot_be_written(project: Project) -> None:
    (project.root / ".venv").write_text("in the way")
    status, _, err = project.run("demo")
    assert status == 1
    assert re.fullmatch(r"dev: (File exists|Not a directory): .*\.venv.*\n", err)


def wheel(folder: Path, name: str, source: str) -> str:
    """A wheel of one module; its line for a lock file."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.mark.slow
def test_the_whole_way_with_pip(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (project.root / "requirements-build.lock").write_text(wheel(wheels, "backend", STAND_IN_BACKEND))
    good = wheel(wheels, "dependency", "NAME = 'from the lock'")
    lock = project.root / "requirements-dev.lock"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}

    lock.write_text(re.sub("sha256:....", "sha256:0000", good))
    status, out, err = project.run("status", **offline)
    assert (status, out) == (1, "")
    assert "dev: step 'packages' ended with status 1" in err
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in (project.root / f".venv/{VERSION}.log").read_text()
    assert not project.environments()

    lock.write_text(good)
    assert project.run("status", **offline)[:2] == (0, "from the lock ['status']\n")
    assert project.run("status") == (0, "from the lock ['status']\n", "")
