"""kill -9 at every step of an append, of a checkpoint and of a finished file: strace kills at the nth system call.

One state folder lives through all of the kills, so each start also recovers from all that came before it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.core.record import parse_leaf
from tests.buffers.chain import open_box
from tests.faults import child

STRACE = shutil.which("strace")

APPEND_STEPS = [
    *(("pwrite64", n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17)),
    *(("fdatasync", n) for n in (1, 2, 3, 5)),
    ("ftruncate", 1),
    ("ftruncate", 2),
    ("unlink", 1),
    ("unlink", 2),
]
SPOOL_STEPS = [
    *(("write", n) for n in (2, 3, 5)),
    *(("fsync", n) for n in (1, 2, 3, 4, 5)),
    *(("fchmod", n) for n in (1, 2)),
    *(("rename", n) for n in (1, 2)),
    *(("unlink", n) for n in (1, 2, 3)),
    *(("pwrite64", n) for n in (2, 4, 6)),
    ("fdatasync", 1),
]


def run(mode: str, state: Path, count: int, step: tuple[str, int] | None) -> tuple[int, list[str]]:
    """Run the child, killed at a step; its exit code and what it promised."""
    command = [sys.executable, "-m", "tests.faults.child", mode, str(state), str(count)]
    if step is not None:
        if STRACE is None:
            pytest.skip("strace is not installed")
        call, number = step
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        command = [
            STRACE,
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            inject,
            *command,
        ]
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert "Error" not in answer.stderr, answer.stderr
    return answer.returncode, answer.stdout.splitlines()


def check_records(state: Path, promised: set[int]) -> None:
    """The start works, every promised record is there, in order, and seals and index agree (Database.open checks)."""
    box = open_box(state)
    end = box.queries.next_seq()
    assert promised <= set(range(end))
    assert [parse_leaf(leaf).seq for leaf in box.queries.leaves(0, end)] == list(range(end))
    box.close()


def check_files(state: Path, promised: dict[str, int]) -> None:
    """Every promised file is there, whole, and named by its record; the spool starts and its books balance."""
    box = open_box(state)
    spool = box.spool()
    for sha256, seq in promised.items():
        leaf = box.queries.leaf(seq)
        assert leaf is not None
        assert [item.sha256 for item in parse_leaf(leaf).artifacts] == [sha256]
    for row in box.queries.artifacts_of(0, box.queries.next_seq()):
        content = spool.path(row.sha256).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row.sha256
    box.close()


def kill_appends(state: Path, steps: list[tuple[str, int]]) -> int:
    """How many of the children were killed."""
    promised = {int(line) for line in run("append", state, 12, None)[1] if line.isdigit()}
    killed = 0
    for step in steps:
        code, lines = run("append", state, 12, step)
        killed += code != 0
        promised |= {int(line) for line in lines if line.isdigit()}
        check_records(state, promised)
    assert len(promised) > len(steps)
    return killed


def kill_spools(state: Path, steps: list[tuple[str, int]]) -> int:
    """How many of the children were killed."""
    promised: dict[str, int] = {}
    killed = 0
    run("spool", state, 1, None)
    for step in steps:
        code, lines = run("spool", state, 2, step)
        killed += code != 0
        promised |= {line.split()[0]: int(line.split()[1]) for line in lines if " " in line}
        check_files(state, promised)
    code, lines = run("spool", state, 2, None)
    assert (code, lines[-1]) == (0, "closed")
    return killed


def test_kill_at_some_steps(tmp_path: Path) -> None:
    steps = [("pwrite64", 2), ("pwrite64", 5), ("fdatasync", 1), ("ftruncate", 1)]
    assert kill_appends(tmp_path / "a", steps) >= 3
    assert kill_spools(tmp_path / "s", [("fsync", 3), ("rename", 1), ("pwrite64", 2)]) >= 2


@pytest.mark.slow
def test_kill_at_every_step_of_an_append(tmp_path: Path) -> None:
    assert kill_appends(tmp_path, APPEND_STEPS) >= len(APPEND_STEPS) - 3


@pytest.mark.slow
def test_kill_at_every_step_of_a_file(tmp_path: Path) -> None:
    assert kill_spools(tmp_path, SPOOL_STEPS) >= len(SPOOL_STEPS) - 5


@pytest.mark.slow
def test_kill_while_the_store_is_made(tmp_path: Path) -> None:
    """Every one of these leaves an empty folder, a half-made store that is made anew, or a store."""
    for number in (1, 3, 10, 30, 60):
        state = tmp_path / str(number)
        run("append", state, 1, ("pwrite64", number))
        check_records(state, set())
    for number in (1, 2):
        state = tmp_path / f"sync {number}"
        run("append", state, 1, ("fdatasync", number))
        check_records(state, set())


def test_content_of_the_child() -> None:
    assert len(child.content(3)) == 320_000
