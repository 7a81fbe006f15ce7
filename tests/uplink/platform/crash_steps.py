"""Run as a program: fail the taking in of evidence at every single step, then do it again and compare.

    python -m tests.uplink.platform.crash_steps kill|full FOLDER

`FOLDER/template` is a platform that holds one batch; `batch.tar`, `video`, `late.tsr` are what comes next. For each n
a child process works on a copy and is killed (SIGKILL) before its n-th step, or finds the disk full from there on.
A step is a change to the file system, an fsync or an SQL statement. Then a platform is opened on the copy, does the
same work, and must end in the one right state. Prints the number of steps. Single-threaded, so that fork is safe.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway import log
from tests.uplink.platform.wire import config_in
from uplink.platform.index import Index
from uplink.platform.platform import Platform
from uplink.platform.problems import Refusal

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
GROWING = {"open", "os.mkdir", "os.rename", "write", "fsync", "sql"}
"""Steps that a full disk makes fail."""


class Fault:
    """Counts steps and strikes at the n-th."""

    def __init__(self, mode: str, strike_at: int) -> None:
        self.mode, self.strike_at, self.count, self.armed, self.struck = mode, strike_at, 0, False, False

    def step(self, what: str) -> None:
        """One step is about to happen."""
        if not self.armed:
            return
        self.count += 1
        if self.count < self.strike_at:
            return
        self.struck = True
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "sql":
            raise sqlite3.OperationalError("database or disk is full")
        elif what in GROWING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """File operations of the interpreter."""
        if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITE_FLAGS):
            self.step(event)

    def install(self) -> None:
        """Watch this process."""
        sys.addaudithook(self.audit)

        def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                self.step(name)
                return original(*args)

            return call

        os.fsync = watched("fsync", os.fsync)
        os.write = watched("write", os.write)
        Index._run = watched("sql", Index._run)  # type: ignore[method-assign]


def upload(platform: Platform, kind: Any, content: bytes) -> Any:
    """A complete upload, as the wire would make it."""
    found = platform.uploads.create("gw-1", kind, hashlib.sha256(content).hexdigest(), len(content))
    with platform.uploads.path(found).open("ab") as file:
        file.write(content[platform.uploads.offset(found) :])
    return found


def work(platform: Platform, folder: Path) -> None:
    """Batch, artifact, late stamp: each the way a gateway repeats it after a lost answer."""
    tar, video = (folder / "batch.tar").read_bytes(), (folder / "video").read_bytes()
    found = upload(platform, "bundle", tar)
    stored = platform.intake.take_bundle("gw-1", platform.uploads.path(found), found)
    platform.uploads.remove(found)
    sha256 = hashlib.sha256(video).hexdigest()
    entry = platform.intake.index.artifact("gw-1", sha256)
    if entry is not None and not entry.held:
        found = upload(platform, "artifact", video)
        platform.intake.take_artifact("gw-1", sha256, platform.uploads.path(found))
        platform.uploads.remove(found)
    platform.intake.refresh_receipts("gw-1", sha256)
    platform.intake.take_stamp("gw-1", stored.end, (folder / "late.tsr").read_bytes())


def state(platform: Platform) -> tuple[Any, ...]:
    """What is held, without what is random."""
    index = platform.intake.index
    log = [line.partition('"receipt_sha256"')[0] for line in platform.receipt_log.entries(0, 100)]
    receipts = [
        (
            entry.end,
            platform.evidence.receipt_numbers("gw-1", entry.end),
            platform.shelf.newest_receipt("gw-1", entry.end).artifacts,
        )
        for entry in index.batches("gw-1", 0, 100)
    ]
    staged = sorted(str(path) for path in (platform.config.folder / "staging").iterdir())
    summary = replace(platform.summary(), bytes=0)  # signatures differ in length
    return summary, index.held("gw-1"), receipts, len(log), index.unlogged(), staged


def strike(mode: str, copy: Path, folder: Path, n: int) -> int:
    """Work on the copy with a fault at step n; exit code 0 where the work ended before step n."""
    fault = Fault(mode, n)
    fault.install()
    with Platform(config_in(copy, tsa=True)) as platform:
        before = state(platform)
        fault.armed = True
        try:
            work(platform, folder)
        except (OSError, sqlite3.OperationalError, Refusal) as error:
            if mode != "full" or (isinstance(error, Refusal) and error.status != 507):
                raise
        fault.armed = False
        if not fault.struck:
            return 0
        batches = {path.name for path in (platform.config.folder / "gateways/gw-1/batches").iterdir()}
        assert len(batches) in {1, 2}
        assert state(platform)[5] == before[5], "a half-made folder stayed in staging"
        work(platform, folder)  # room was made: the same process goes on
        return 3


def main() -> None:
    """See the module."""
    mode, folder = sys.argv[1], Path(sys.argv[2])
    log.configure(lambda: 0.0, level="CRITICAL")
    expected: Any = None
    n = 0
    while True:
        copy = folder / "copy"
        shutil.copytree(folder / "template", copy)
        child = os.fork()
        if child == 0:
            code = 9
            try:
                code = strike(mode, copy, folder, n or sys.maxsize)
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                sys.stderr.flush()
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        ended = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        struck = os.WTERMSIG(status) == signal.SIGKILL if mode == "kill" else os.WEXITSTATUS(status) == 3
        assert ended or struck, f"step {n}: status {status}"
        with Platform(config_in(copy, tsa=True)) as platform:
            work(platform, folder)
            found = state(platform)
        with Platform(config_in(copy, tsa=True)) as platform:
            assert state(platform) == found, f"step {n}: another state after one more start"
        expected = expected or found
        assert found == expected, f"step {n}:\n{found}\n{expected}"
        shutil.rmtree(copy)
        if n and ended:
            break
        n += 1
    sys.stdout.write(f"{n - 1}\n")


if __name__ == "__main__":
    main()
