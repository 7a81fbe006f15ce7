"""Kill -9 and a full disk at every step of the intake lead to the same final state after a retry."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger import stamp
from tests.conftest import ROOT
from tests.uplink.platform.fieldbox import video
from tests.uplink.platform.wire import enrolled, opened


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: 200 copies of a platform need no real disk to show their order."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["kill", "full"])
def test_fault_at_every_step(memory_folder: Path, mode: str) -> None:
    tmp_path = memory_folder
    content = b"a moving picture" * 20
    with opened(tmp_path / "template", tsa=True) as platform:
        assert platform.tsa is not None
        box = enrolled(platform)
        path = tmp_path / "batch.tar"
        path.write_bytes(box.tar(box.seal(2)))
        platform.take_bundle("gw-1", path)
        batch = box.seal(2, [video(content)])
        path.write_bytes(box.tar(batch))
        (tmp_path / "video").write_bytes(content)
        (tmp_path / "late.tsr").write_bytes(platform.tsa.answer(stamp.request(batch.seal_p7s)[0]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.uplink.platform.crash_steps", mode, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.splitlines()[-1]) > 60
