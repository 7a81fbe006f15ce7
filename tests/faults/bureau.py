"""A bureau made of real processes: the reference platform, gateways on their own state folders, a line between them.

Everything goes through the command line that people use; the line is a TCP proxy that can be cut, restored, or made
a black hole.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 60.0
FIELDGATE = [sys.executable, "-m", "gateway.cli"]


def fieldgate(*words: str | Path, code: int = 0) -> str:
    """Run one command to its end; its output."""
    done = subprocess.run([*FIELDGATE, *map(str, words)], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(what: str, condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Poll a condition of another process; a time-out is a failure, never a pass."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {limit_s} s: {what}"
        threading.Event().wait(0.05)


class Line:
    """A TCP proxy on loopback between gateways and the platform."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = True
        self._hole = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._open = False
        for pair in self._pairs:
            for end in pair:
                with_reset(end)
        self._pairs.clear()

    def restore(self) -> None:
        """Let connections through again."""
        self._open = True
        self._hole.clear()

    def swallow(self) -> None:
        """From now on take every byte and pass on none: a black hole."""
        self._hole.set()

    def close(self) -> None:
        """End of the test."""
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if not self._open:
                with_reset(near)
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                with_reset(near)
                continue
            self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65_536):
                if not self._hole.is_set():
                    sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


def with_reset(end: socket.socket) -> None:
    """Close with RST, as a dying link does."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    except OSError:
        return
    end.close()


class Platform:
    """The reference platform as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        fieldgate("platform", "init", "--dir", folder)
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self, port: int = 0) -> None:
        """Serve; on the same port again after a stop."""
        words = ["platform", "run", "--dir", str(self.folder), "--listen", f"127.0.0.1:{port}", "--test-tsa", "--json"]
        with (self.folder / "test.log").open("a") as log:
            self._process = subprocess.Popen([*FIELDGATE, *words], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self.folder / "test.log").read_text()
        self.port = int(json.loads(line)["url"].rpartition(":")[2])

    def stop(self) -> None:
        """A clean stop."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(LIMIT_S) == 0
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def token(self, gateway_id: str) -> str:
        """A one-time enrolment token."""
        return fieldgate("platform", "token", "--dir", self.folder, gateway_id).strip()

    def artifacts(self, gateway_id: str) -> set[str]:
        """What the platform holds of a gateway's files, by content."""
        folder = self.folder / "gateways" / gateway_id / "artifacts"
        return {path.name for path in folder.rglob("*") if path.is_file() and len(path.name) == 64}

    def records(self, gateway_id: str) -> list[bytes]:
        """Every leaf that the platform holds, in order of the log."""
        folder = self.folder / "gateways" / gateway_id / "batches"
        ends = sorted((int(path.name), path) for path in folder.iterdir() if path.name.isdigit())
        return [leaf for _, path in ends for leaf in (path / "records.jsonl").read_bytes().splitlines()]


_STARTED: list[subprocess.Popen[bytes]] = []
"""Every gateway that a test has started."""


class Box:
    """One gateway on its own state folder."""

    def __init__(self, folder: Path, gateway_id: str, url: str, *, sources: str = "", extra: str = "") -> None:
        self.folder, self.gateway_id = folder, gateway_id
        self.state, self.config_file = folder / "state", folder / "fieldgate.toml"
        folder.mkdir(parents=True)
        fieldgate("init", "--id", gateway_id, "--config", folder / "made.toml", "--dir", self.state)
        keys = self.state / "keys"
        self.config_file.write_text(
            f"""
[gateway]
id = "{gateway_id}"
[storage]
state_dir = "{self.state}"
reserve_bytes = 16777216
[keys]
key_file = "{keys}/fieldgate.gateway.key"
certificate_file = "{keys}/gateway.pem"
ca_file = "{keys}/ca.pem"
crl_file = "{keys}/crl.pem"
[time]
tsa_url = "{url}/tsa"
tsa_ca_file = "{keys}/tsa-ca.pem"
[seal]
max_age_s = 1
[uplink]
url = "{url}"
ca_file = "{keys}/ca.pem"
token_file = "{keys}/platform.token"
stamp_grace_s = 1
timeout_s = 3
retry_max_s = 2
{extra}
{sources}
"""
        )
        self.process: subprocess.Popen[bytes] | None = None

    def enrol(self, platform: Platform) -> None:
        """Get the certificate."""
        (self.state / "keys" / "ca.pem").write_bytes((platform.folder / "pki" / "ca.pem").read_bytes())
        fieldgate("enrol", self.config_file, "--token", platform.token(self.gateway_id))

    def start(self) -> subprocess.Popen[bytes]:
        """Start the daemon."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*FIELDGATE, "run", str(self.config_file)], stdout=log, stderr=log)
        _STARTED.append(self.process)
        return self.process

    def start_feeder(self, run: int, acked: Path) -> None:
        """Start the daemon with a synthetic source of 1,000 records a second (tests.faults.feeder)."""
        words = [sys.executable, "-m", "tests.faults.feeder", str(self.config_file), str(run), str(acked)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment())
        _STARTED.append(self.process)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(LIMIT_S)
            self.process = None

    def stop(self) -> None:
        """A clean stop: exit 0."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(LIMIT_S) == 0, self.log_text()
        self.process = None

    def ended(self) -> int:
        """Wait for the daemon to end by itself; its exit code."""
        assert self.process is not None
        code = self.process.wait(LIMIT_S)
        self.process = None
        return code

    def log_text(self) -> str:
        """What it logged."""
        return (self.folder / "log").read_text(errors="replace")


def folder_source(path: Path, name: str = "station-1") -> str:
    """Configuration of a folder station that is read at once."""
    rows = {"type": "station-folder", "name": name, "path": str(path), "profile": "dsj"}
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in rows.items())
    return f"[[source]]\n{text}\npoll_s = 0.2\nstable_s = 0.2\n"


@contextmanager
def bureau(folder: Path) -> Iterator[tuple[Platform, Line]]:
    """A running platform and the line to it. At the end nothing runs any more, also where the test has failed."""
    platform = Platform(folder / "platform")
    platform.start()
    line = Line(("127.0.0.1", platform.port))
    try:
        yield platform, line
    finally:
        for process in _STARTED:
            process.kill()
            process.wait()
        _STARTED.clear()
        line.close()
        platform.stop()


def url_of(line: Line) -> str:
    """The platform as gateways see it, through the line."""
    return f"https://127.0.0.1:{line.port}"


def environment() -> dict[str, str]:
    """For child processes that import the tree."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
