"""Real system calls that fail, hang or kill, made by strace in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CONTENT = os.urandom(262_144 * 4 + 77)
SHA256 = hashlib.sha256(CONTENT).hexdigest()

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt install strace")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "station"
    folder.mkdir()
    (folder / "REC1.BIN").write_bytes(CONTENT)
    return folder


def run(
    folder: Path, inject: str, kind: str = "station.file", count: int = 1, hang_s: float = 60.0
) -> tuple[int, list[dict[str, Any]]]:
    """The scenario under strace; (exit code, records)."""
    command = [sys.executable, "-m", "tests.drivers.io.scenario", str(folder), str(folder.parent / "state")]
    command += [str(hang_s), kind, str(count)]
    if inject:
        trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=preadv,preadv2", "-e"]
        command = [*trace, f"inject=preadv,preadv2:{inject}", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records or done.returncode, done.stderr
    return done.returncode, records


def of(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == kind]


def test_an_io_error_is_a_gap_and_the_file_is_tried_again(folder):
    _, records = run(folder, "error=EIO:when=3", "station.gap")
    (gap,) = of(records, "station.gap")
    assert (gap["data"]["path"], gap["data"]["reason"], gap["data"]["retried"]) == ("REC1.BIN", "io-error", True)
    assert "524288" in gap["data"]["text"], "where it stopped"
    _, records = run(folder, "")
    (file,) = of(records, "station.file")
    assert (file["artifacts"], file["data"]["resumed_at_bytes"]) == ([SHA256], 524_288)
    assert not of(records, "station.gap"), "one record per entry and reason"


def test_a_station_that_vanishes_at_every_second_read_is_resumed_without_gap_or_duplicate(folder):
    """strace counts per thread, and each attempt is a thread: the link is cut after every 256 KiB."""
    _, records = run(folder, "error=EHOSTDOWN:when=2")
    (file,) = of(records, "station.file")
    assert (file["artifacts"], file["data"]["resumed_at_bytes"]) == ([SHA256], 4 * 262_144)
    states = [record["data"]["state"] for record in of(records, "station.state")]
    assert states == ["up", *["down", "up"] * 4]
    assert not of(records, "station.gap")


def test_killed_in_the_middle_of_a_copy(folder):
    code, records = run(folder, "signal=KILL:when=3")
    assert code in {-signal.SIGKILL, 128 + signal.SIGKILL}
    assert not records
    _, records = run(folder, "")
    (file,) = of(records, "station.file")
    assert file["artifacts"] == [SHA256]
    _, records = run(folder, "", "station.state")
    assert not of(records, "station.file"), "the next start finds nothing new"


def test_a_share_that_hangs_is_down_and_its_threads_touch_nothing_later(folder):
    _, records = run(folder, "delay_enter=1200000:when=2", hang_s=0.4)
    (file,) = of(records, "station.file")
    assert (file["artifacts"], file["data"]["resumed_at_bytes"]) == ([SHA256], 4 * 262_144)
    states = of(records, "station.state")
    assert [record["data"]["state"] for record in states][:3] == ["up", "down", "up"]
    assert "no answer for 0.4 s" in states[1]["data"]["reason"]
