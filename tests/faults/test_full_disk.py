"""A full disk at every step, on a real small file system: every failure is StoreFull, nothing is lost, it goes on."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.errors import FieldgateError, StoreFull
from gateway.core.instant import Instant
from gateway.core.record import Draft, parse_leaf
from tests.buffers.chain import Box, draft, instant, open_box, put

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "fieldgate-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


class Ballast:
    """A file that takes the room away and gives it back."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ballast"

    def leave(self, free_bytes: int) -> None:
        """Fill the disk up to so many free bytes."""
        self.path.unlink(missing_ok=True)
        space = os.statvfs(self.path.parent)
        with self.path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - free_bytes))

    def go(self) -> None:
        """Room again."""
        self.path.unlink(missing_ok=True)


def big(number: int) -> list[tuple[Draft, Instant]]:
    """Thirty records of two kilobytes: some twenty pages."""
    return [(draft(n=number, text="x" * 2000), instant()) for _ in range(30)]


def check(box: Box, acknowledged: int) -> None:
    """Everything promised is there."""
    assert box.queries.next_seq() == acknowledged
    assert [parse_leaf(leaf).seq for leaf in box.queries.leaves(0, acknowledged)] == list(range(acknowledged))


def test_appends_at_every_amount_of_room(small_disk: Path) -> None:
    box = open_box(small_disk / "state")
    ballast = Ballast(small_disk)
    acknowledged, refused = 0, 0
    for pages in range(40):
        ballast.leave(pages * 4096)
        try:
            box.journal.append_blocking(big(pages))
        except StoreFull:
            refused += 1
        else:
            acknowledged += 30
        check(box, acknowledged)
        if pages % 8 == 7:
            ballast.go()
            box.journal.append_blocking(big(pages))
            acknowledged += 30
            asyncio.run(box.seal())
    assert refused >= 5
    assert acknowledged > 150
    box.close()
    ballast.go()
    box = open_box(small_disk / "state")
    check(box, acknowledged)
    box.close()


def test_start_and_stop_on_a_full_disk(small_disk: Path) -> None:
    ballast = Ballast(small_disk)
    state = small_disk / "state"
    acknowledged = 0
    for pages in (0, 1, 2, 3, 5, 10, 20, 40):
        ballast.leave(pages * 4096)
        try:
            box = open_box(state)
        except StoreFull:
            continue
        try:
            box.journal.append_blocking([(draft(n=pages), instant())])
            acknowledged += 1
        except StoreFull:
            pass
        finally:
            box.close()
    ballast.go()
    box = open_box(state)
    check(box, acknowledged)
    box.close()


def test_files_at_every_amount_of_room(small_disk: Path) -> None:
    box = open_box(small_disk / "state")
    spool = box.spool()
    ballast = Ballast(small_disk)
    content = os.urandom(100_000)
    refused = 0
    for pages in (*range(30), 60):
        ballast.leave(pages * 4096)
        try:
            item = put(spool, content + bytes([pages]), f"file {pages}")
            box.journal.append_blocking([(draft("station.file", artifacts=[item]), instant())])
        except StoreFull:
            refused += 1
        ballast.go()
        resumed = put(spool, content + bytes([pages]), f"file {pages}")
        box.journal.append_blocking([(draft("station.file", artifacts=[resumed]), instant())])
        assert spool.path(resumed.sha256).read_bytes() == content + bytes([pages])
        _forget(box, resumed.sha256)
    assert refused >= 20
    box.close()


def _forget(box: Box, sha256: str) -> None:
    """Make room for the next round, as retention would."""
    box.spool().remove(sha256, 100_001)
    box.database.call(lambda conn: conn.execute("UPDATE artifact SET state = 'expired'"))


def test_a_suspend_on_a_full_disk(small_disk: Path) -> None:
    box = open_box(small_disk / "state")
    spool = box.spool()
    ballast = Ballast(small_disk)
    writer = spool.open("a", "1", 100_000)  # no more than it writes: else blocks that were taken ahead come back
    writer.write(b"x" * 100_000)
    ballast.leave(0)
    with pytest.raises(FieldgateError) as caught:
        writer.suspend()
    assert isinstance(caught.value, StoreFull)
    ballast.go()
    writer = spool.open("a", "1", 200_000)
    assert writer.offset == 0
    writer.write(b"x" * 200_000)
    assert writer.finish()[1] == 200_000
    box.close()
