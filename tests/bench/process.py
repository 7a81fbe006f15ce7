"""The daemon as a process: how soon it is ready, how much memory it keeps.

An installer compiles what it installs, so the figures are those of compiled modules, kept in a folder of the bench:
a developer's environment may write no bytecode at all. What the first start without any costs is a line of its own.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure, at_most

RUNS = 5


def run() -> Iterator[Figure]:
    """Start-up and memory with one folder station, nothing enrolled."""
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        base = Path(name)
        words = [sys.executable, "-m", "gateway.cli"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(base / "bytecode")
        made = [*words, "init", "--id", "gw-bench", "--config", str(base / "fieldgate.toml"), "--dir", str(base / "s")]
        subprocess.run(
            made, check=True, stdout=subprocess.DEVNULL
        )  # in the developer's environment: leaves no bytecode
        (base / "station").mkdir()
        with (base / "fieldgate.toml").open("a") as file:
            file.write(f'\n[[source]]\ntype = "station-folder"\nname = "station"\npath = "{base / "station"}"\n')
        first = _once(words, base, environment)[0]
        runs = [(*_once(words, base, environment), _interpreter(environment)) for _ in range(RUNS)]
        started, ready, memory, bare = zip(*runs, strict=True)
        seconds = statistics.median(started)
        times = statistics.median(ours / theirs for ours, theirs in zip(started, bare, strict=True))
        detail = f"min {min(started):.2f}, max {max(started):.2f}, {RUNS} starts; {times:.0f} x a bare interpreter"
        yield at_most("exec -> first record durable", seconds, 0.6, "s", detail)
        yield Figure("exec -> first record durable, nothing compiled yet", first, "s", detail="one start")
        yield Figure("exec -> ready", statistics.median(ready), "s")
        yield at_most("resident memory, idle", statistics.median(memory), 80, "MB", "VmRSS of the daemon")


def _once(words: list[str], base: Path, environment: dict[str, str]) -> tuple[float, float, float]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        address = base / "notify"
        address.unlink(missing_ok=True)
        told.bind(str(address))
        told.settimeout(30)
        start = time.perf_counter()
        with subprocess.Popen(
            [*words, "run", str(base / "fieldgate.toml")],
            env={**environment, "NOTIFY_SOCKET": str(address)},
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stderr is not None
            while b'"started"' not in process.stderr.readline():
                continue
            started = time.perf_counter() - start
            while told.recv(4096) != b"READY=1":
                continue
            seconds = time.perf_counter() - start
            status = Path(f"/proc/{process.pid}/status").read_text()
            process.terminate()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return started, seconds, kilobytes / 1000


def _interpreter(environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True, env=environment)
    return time.perf_counter() - start
