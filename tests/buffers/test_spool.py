"""The spool: one pass, content addresses, resume only from what is durable, quota, hostile leftovers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffers import spool as spool_module
from buffers.db import Space
from buffers.spool import Spool, Writer
from gateway.core.errors import ConfigError, DiskError, ProtocolMisuse, StoreFull
from tests.buffers.chain import Box, artifact, draft, instant, open_box, put

VIDEO = bytes(range(256)) * 4000


@pytest.fixture
def box(tmp_path: Path) -> Any:
    """An empty store."""
    opened = open_box(tmp_path)
    yield opened
    opened.close()


def test_a_file_lies_under_its_hash_and_cannot_be_changed(box: Box) -> None:
    spool = box.spool()
    writer = spool.open("station/a.mp4", "size 5", len(VIDEO))
    assert writer.offset == 0
    for start in range(0, len(VIDEO), 100_000):
        writer.write(memoryview(VIDEO)[start : start + 100_000])
    assert writer.finish() == (hashlib.sha256(VIDEO).hexdigest(), len(VIDEO), False)
    path = spool.path(hashlib.sha256(VIDEO).hexdigest())
    assert path.read_bytes() == VIDEO
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list((box.folder / "spool" / "tmp").iterdir()) == []
    assert spool.used_bytes == len(VIDEO)
    writer.suspend()
    writer.discard()
    assert path.exists()


def test_the_same_content_again_is_no_second_copy(box: Box) -> None:
    spool = box.spool()
    put(spool, VIDEO)
    writer = spool.open("another path", "1", len(VIDEO))
    writer.write(VIDEO)
    assert writer.finish() == (hashlib.sha256(VIDEO).hexdigest(), len(VIDEO), True)
    assert spool.used_bytes == len(VIDEO)
    assert [size for _, size in spool.files()] == [len(VIDEO)]


def test_empty_content_is_an_artifact(box: Box) -> None:
    spool = box.spool()
    writer = spool.open("empty", "1", 0)
    assert writer.finish() == (hashlib.sha256(b"").hexdigest(), 0, False)


def test_a_suspended_copy_goes_on_where_it_was(box: Box) -> None:
    writer = box.spool().open("a", "1", len(VIDEO))
    writer.write(VIDEO[:300_000])
    writer.suspend()
    spool = box.spool()
    assert spool.used_bytes == 300_000
    writer = spool.open("a", "1", len(VIDEO))
    assert writer.offset == 300_000
    writer.write(VIDEO[300_000:])
    assert writer.finish()[0] == hashlib.sha256(VIDEO).hexdigest()
    assert spool.used_bytes == len(VIDEO)


def test_another_version_starts_from_nothing(box: Box) -> None:
    spool = box.spool()
    writer = spool.open("a", "1", 10)
    writer.write(b"old")
    writer.suspend()
    writer = spool.open("a", "2", 10)
    assert writer.offset == 0
    writer.write(b"new")
    assert writer.finish()[0] == hashlib.sha256(b"new").hexdigest()
    assert spool.used_bytes == 3


def test_what_lies_behind_the_last_mark_is_never_trusted(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9: the part is longer than its mark; a power cut may have left rubbish there."""
    monkeypatch.setattr(spool_module, "MARK_INTERVAL_BYTES", 100_000)
    writer = box.spool().open("a", "1", len(VIDEO))
    for start in range(0, 250_000, 50_000):
        writer.write(VIDEO[start : start + 50_000])
        if writer._marking is not None:
            writer._marking.join()
    os.close(writer._fd)
    writer = box.spool().open("a", "1", len(VIDEO))
    assert writer.offset == 200_000
    writer.write(VIDEO[200_000:])
    assert writer.finish()[0] == hashlib.sha256(VIDEO).hexdigest()


@pytest.mark.parametrize("damage", ["flip", "shorten", "torn sidecar", "no sidecar", "sidecar of a list"])
def test_a_damaged_part_starts_from_nothing(box: Box, damage: str) -> None:
    writer = box.spool().open("a", "1", len(VIDEO))
    writer.write(VIDEO[:100_000])
    writer.suspend()
    part = next((box.folder / "spool" / "tmp").glob("*.part"))
    sidecar = part.with_suffix(".json")
    if damage == "flip":
        with part.open("r+b") as file:
            file.write(b"\xff")
    elif damage == "shorten":
        os.truncate(part, 99_999)
    elif damage == "torn sidecar":
        sidecar.write_bytes(sidecar.read_bytes()[:20])
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        sidecar.write_text("[1, 2]")
    spool = box.spool()
    writer = spool.open("a", "1", len(VIDEO))
    assert writer.offset == 0
    writer.write(VIDEO)
    assert writer.finish()[0] == hashlib.sha256(VIDEO).hexdigest()
    assert spool.used_bytes == len(VIDEO)


def test_a_discarded_copy_leaves_nothing(box: Box) -> None:
    spool = box.spool()
    writer = spool.open("a", "1", 100)
    writer.write(b"x" * 100)
    writer.discard()
    writer.discard()
    assert list((box.folder / "spool" / "tmp").iterdir()) == []
    assert spool.used_bytes == 0
    with pytest.raises(ProtocolMisuse, match="finished, suspended or discarded"):
        writer.write(b"more")


def test_one_writer_per_source_file(box: Box) -> None:
    spool = box.spool()
    writer = spool.open("a", "1", 10)
    with pytest.raises(ProtocolMisuse, match="being copied already"):
        spool.open("a", "2", 10)
    writer.suspend()
    spool.open("a", "1", 10).discard()


def test_useless_leftovers_go_at_start_and_the_newest_parts_stay(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "PARTS_MAX", 2)
    spool = box.spool()
    tmp = box.folder / "spool" / "tmp"
    for number in range(4):
        writer = spool.open(f"file {number}", "1", 10)
        writer.write(b"x" * (number + 1))
        writer.suspend()
        os.utime(writer._sidecar, ns=(number, number))
    (tmp / ("0" * 32 + ".part")).write_bytes(b"no sidecar")
    (tmp / ("1" * 32 + ".json")).write_bytes(b"no part")
    (tmp / ("2" * 32 + ".json.new")).write_bytes(b"torn")
    spool = box.spool()
    assert len(list(tmp.iterdir())) == 4
    assert spool.used_bytes == 3 + 4
    assert spool.open("file 3", "1", 10).offset == 4
    assert spool.open("file 0", "1", 10).offset == 0


def test_a_read_only_part_of_a_killed_finish_is_taken_up_again(box: Box) -> None:
    writer = box.spool().open("a", "1", 10)
    writer.write(b"content")
    writer.suspend()
    next((box.folder / "spool" / "tmp").glob("*.part")).chmod(0o400)
    assert box.spool().open("a", "1", 10).offset == 7


def test_the_quota_has_a_high_water_mark(box: Box) -> None:
    spool = box.spool(quota_bytes=1000, high_water_percent=90)
    with pytest.raises(StoreFull, match="90 % of the quota of 1000"):
        spool.open("a", "1", 901)
    first = spool.open("a", "1", 500)
    with pytest.raises(StoreFull, match="500 bytes used or promised"):
        spool.open("b", "1", 401)
    first.discard()
    put(spool, b"x" * 400, "b")
    assert spool.above_high_water(500) is None
    assert spool.above_high_water(501) is not None
    again = spool.open("c", "1", 500)
    again.write(b"y" * 300)
    again.suspend()
    assert spool.above_high_water(201) is not None
    again = spool.open("c", "1", 500)
    assert again.offset == 300, "what is here already is not asked for twice"
    again.discard()


def test_a_file_that_outgrows_its_promise_meets_the_quota(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SPACE_INTERVAL_BYTES", 100)
    spool = box.spool(quota_bytes=1000)
    writer = spool.open("a", "1", 10)
    for _ in range(11):
        writer.write(b"x" * 90)
    with pytest.raises(StoreFull, match="quota of 1000 bytes is used up"):
        writer.write(b"x" * 90)
    assert writer.offset == 990
    offset = writer.offset
    writer.suspend()
    assert spool.open("a", "1", 10).offset == offset


def test_the_disk_has_a_high_water_mark_and_a_reserve(box: Box) -> None:
    space = [Space(10_000, 2000)]
    spool = box.spool(high_water_percent=90, reserve_bytes=100, space=lambda _: space[0])
    writer = spool.open("a", "1", 1000)
    with pytest.raises(StoreFull, match="would leave less than 1000"):
        spool.open("b", "1", 1001)
    space[0] = Space(10_000, 120)
    writer._asked = -(1 << 40)
    with pytest.raises(StoreFull, match="the reserve is 100"):
        writer.write(b"x" * 50)
    space[0] = Space(10_000, 2000)
    writer.write(b"x" * 50)
    assert writer.finish()[1] == 50


def test_no_room_on_the_disk_keeps_what_was_written(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = box.spool()
    writer = spool.open("a", "1", 100)
    real = os.write

    def half(fd: int, content: Any) -> int:
        if fd == writer._fd:
            if writer.offset >= 50:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, content[:50])
        return real(fd, content)

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(StoreFull, match="No space left"):
        writer.write(b"x" * 50 + b"y" * 50)
    assert writer.offset == 50
    monkeypatch.setattr(os, "write", real)
    writer.write(b"y" * 50)
    assert writer.finish()[0] == hashlib.sha256(b"x" * 50 + b"y" * 50).hexdigest()


@pytest.mark.parametrize("call", ["write", "fsync", "fdatasync"])
def test_a_failing_disk_is_told_apart(box: Box, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    spool = box.spool()
    writer = spool.open("a", "1", 100)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    steps = {"write": lambda: writer.write(b"x" * 100), "fsync": writer.finish, "fdatasync": writer.suspend}
    writer.write(b"x" * 100)
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(DiskError, match="Input/output error"):
            steps[call]()
    if call != "write":
        with pytest.raises(ProtocolMisuse):
            writer.finish()
        assert list((box.folder / "spool" / "tmp").iterdir()) == [], "what the disk holds is unknown"
        assert spool.used_bytes == 0
    writer.discard()
    assert [*spool.files()] == []


@pytest.mark.parametrize(("code", "expected"), [(errno.EIO, DiskError), (errno.ENOSPC, StoreFull)])
def test_what_goes_wrong_behind_the_copy_is_told(
    box: Box, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    monkeypatch.setattr(spool_module, "MARK_INTERVAL_BYTES", 1000)
    spool = box.spool()
    writer = spool.open("a", "1", 10_000)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        writer.write(b"x" * 1000)
        assert writer._marking is not None
        writer._marking.join()
    with pytest.raises(expected):
        writer.write(b"x" * 1000)
    if expected is DiskError:
        with pytest.raises(ProtocolMisuse):
            writer.finish()
        assert spool.used_bytes == 0
    else:
        assert writer.finish()[1] == 2000


@pytest.mark.parametrize(("code", "expected"), [(errno.EIO, DiskError), (errno.ENOSPC, StoreFull)])
@pytest.mark.parametrize("call", ["open", "ftruncate"])
def test_a_copy_that_cannot_begin_claims_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch, call: str, code: int, expected: type[Exception]
) -> None:
    spool = box.spool(quota_bytes=1000)

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(expected):
            spool.open("a", "1", 900)
    spool.open("a", "1", 900).discard()
    assert spool.used_bytes == 0


def test_a_disk_that_fails_at_the_last_step_of_a_copy(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = box.spool()
    writer = spool.open("a", "1", 3)
    writer.write(b"abc")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail)
        with pytest.raises(DiskError, match="Input/output error"):
            writer.finish()
    writer.discard()
    assert [*spool.files()] == []


def test_a_disk_that_fails_while_something_is_taken_away(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = box.spool()
    item = put(spool, b"abc")
    writer = spool.open("b", "1", 3)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fail)
        with pytest.raises(DiskError, match="Input/output error"):
            spool.remove(item.sha256, 3)
        with pytest.raises(DiskError, match="Input/output error"):
            writer.discard()
    assert spool.path(item.sha256).read_bytes() == b"abc"
    spool.remove(item.sha256, 3)
    spool.remove(item.sha256, 3)
    assert spool.used_bytes == 0


def test_a_spool_that_loses_a_folder_says_so(box: Box) -> None:
    spool = box.spool()
    folder = box.folder / "spool"
    (folder / "00").rename(folder / "elsewhere")
    with pytest.raises(DiskError, match="No such file or directory"):
        list(spool.files())
    (folder / "damaged").rmdir()
    (folder / "damaged").write_text("in the way")
    with pytest.raises(DiskError, match="Not a directory"):
        box.spool()


def test_one_mark_is_made_at_a_time_and_an_end_waits_for_it(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MARK_INTERVAL_BYTES", 1000)
    spool, real = box.spool(), os.fdatasync
    writer = spool.open("a", "1", 10_000)
    begun, gate, marks = threading.Event(), threading.Event(), 0

    def slow(fd: int) -> None:
        nonlocal marks
        marks += 1
        begun.set()
        gate.wait()
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    writer.write(b"x" * 1000)
    begun.wait()
    writer.write(b"x" * 1000)  # the copy does not wait for the disk
    assert marks == 1
    gate.set()
    writer.discard()
    assert [*(box.folder / "spool" / "tmp").iterdir()] == []
    assert spool.used_bytes == 0


def test_the_blocks_of_what_was_announced_are_taken_at_once_and_given_back(box: Box) -> None:
    """Needs a file system that can take blocks ahead, as ext4, xfs, btrfs and tmpfs can."""
    spool, size_bytes = box.spool(), 8_000_000

    def part() -> os.stat_result:
        return next((box.folder / "spool" / "tmp").glob("*.part")).stat()

    writer = spool.open("a", "1", size_bytes)
    assert (part().st_size, part().st_blocks * 512 >= size_bytes) == (0, True)
    writer.write(b"x" * 1000)
    assert spool.used_bytes == 1000
    writer.suspend()
    assert (part().st_size, part().st_blocks * 512 < 100_000) == (1000, True), "what waits holds no room"
    killed = spool.open("a", "1", size_bytes)
    assert (killed.offset, part().st_blocks * 512 >= size_bytes) == (1000, True)
    os.close(killed._fd)
    spool = box.spool()
    assert (spool.used_bytes, part().st_blocks * 512 < 100_000) == (1000, True), "nor what was killed"
    sha256 = finish_early(spool.open("a", "1", size_bytes))
    assert (spool.path(sha256).stat().st_size, spool.path(sha256).stat().st_blocks * 512 < 100_000) == (2000, True)
    assert sha256 == hashlib.sha256(b"x" * 2000).hexdigest()


def finish_early(writer: Writer) -> str:
    """The file has become shorter than it was announced."""
    writer.write(b"x" * 1000)
    return writer.finish()[0]


def test_what_is_marked_leaves_the_page_cache(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is durable: dropping it earlier would make the disk wait for nothing."""
    monkeypatch.setattr(spool_module, "MARK_INTERVAL_BYTES", 100_000)
    steps: list[tuple[str, int]] = []
    real_sync, real_advise = os.fdatasync, os.posix_fadvise

    def sync(fd: int) -> None:
        real_sync(fd)
        steps.append(("durable", os.fstat(fd).st_size))

    def advise(fd: int, start: int, size_bytes: int, advice: int) -> None:
        real_advise(fd, start, size_bytes, advice)
        steps.append(("dropped" if advice == os.POSIX_FADV_DONTNEED else "?", start + size_bytes))

    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    writer = box.spool().open("a", "1", len(VIDEO))
    writer.write(VIDEO[:150_000])
    assert writer._marking is not None
    writer._marking.join()
    assert steps == [("durable", 150_000), ("dropped", 150_000)]
    writer.write(VIDEO[150_000:])
    assert writer.finish()[0] == hashlib.sha256(VIDEO).hexdigest()


@pytest.mark.parametrize("answer", ["cannot", "no such call"])
def test_a_file_system_that_takes_no_blocks_ahead_is_written_all_the_same(
    box: Box, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(spool_module, "_FALLOCATE", None if answer == "no such call" else lambda *_: -1)
    spool = box.spool()
    assert put(spool, VIDEO).sha256 == hashlib.sha256(VIDEO).hexdigest()
    assert spool.used_bytes == len(VIDEO)


def test_a_sidecar_cut_short_by_a_full_disk_is_not_put_in_place(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = box.spool().open("a", "1", 100)
    writer.write(b"x" * 10)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda _fd, content: len(content) // 2)
        with pytest.raises(StoreFull):
            writer.suspend()
    assert not writer._sidecar.exists()


def test_a_spool_whose_disk_is_not_mounted_is_noticed(box: Box, tmp_path: Path) -> None:
    box.spool()
    (box.folder / "spool").rename(box.folder / "unmounted")
    for _ in range(2):
        with pytest.raises(ConfigError, match="is its disk mounted"):
            box.spool()
    other = open_box(tmp_path / "other")
    with pytest.raises(ConfigError, match="is not the spool of this store"):
        Spool(other.database, _of_another(other, tmp_path))
    other.close()


def _of_another(box: Box, folder: Path) -> Path:
    """A spool folder with the id of another store, after this store has got its own."""
    box.spool()
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "id").write_text("f" * 32)
    return folder / "elsewhere"


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 65, "0" * 63 + "/", "é" * 64])
def test_only_a_sha256_becomes_a_path(box: Box, hostile: str) -> None:
    with pytest.raises(ProtocolMisuse, match="is no sha256"):
        box.spool().path(hostile)


@given(key=st.text(max_size=300), identity=st.text(max_size=50))
def test_any_key_is_only_a_name(tmp_path_factory: pytest.TempPathFactory, key: str, identity: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in key):
        return
    spool = _shared(tmp_path_factory)
    writer = spool.open(key, identity, 1)
    assert writer._part.parent == spool.folder / "tmp"
    assert len(writer._part.name) == 37
    writer.suspend()
    assert json.loads(writer._sidecar.read_bytes())["key"] == key
    spool.open(key, identity, 1).discard()


_SPOOLS: list[tuple[Box, Spool]] = []


def _shared(factory: pytest.TempPathFactory) -> Spool:
    if not _SPOOLS:
        opened = open_box(factory.mktemp("keys"))
        _SPOOLS.append((opened, opened.spool()))
    return _SPOOLS[0][1]


@pytest.fixture(scope="module", autouse=True)
def _close_shared() -> Any:
    yield
    while _SPOOLS:
        _SPOOLS.pop()[0].close()


def test_key_bytes_of_a_foreign_file_system(box: Box) -> None:
    key = b"\xd6\xb4\xb7\xa8.mp4".decode("utf-8", "surrogateescape")
    writer = box.spool().open(key, "1", 3)
    writer.write(b"abc")
    writer.suspend()
    assert box.spool().open(key, "1", 3).offset == 3


def test_a_damaged_file_is_set_aside_for_a_fresh_copy(box: Box) -> None:
    spool = box.spool()
    item = put(spool, VIDEO)
    box.journal.append_blocking([(draft(artifacts=[item]), instant())])
    path = spool.path(item.sha256)
    path.chmod(0o600)
    path.write_bytes(b"shorter")
    path.chmod(0o400)
    put(spool, VIDEO)
    assert path.read_bytes() == VIDEO
    assert len(list((box.folder / "spool" / "damaged").iterdir())) == 1
    assert box.spool().used_bytes == len(VIDEO) + len(b"shorter")
    path.chmod(0o600)
    path.write_bytes(b"\xff" + VIDEO[1:])
    put(spool, VIDEO)
    assert path.read_bytes() != VIDEO, "of the right size and not known to be damaged: the scrub finds out"
    box.database.call(lambda conn: conn.execute("UPDATE artifact SET state = 'damaged'"))
    put(spool, VIDEO)
    assert path.read_bytes() == VIDEO
    box.journal.append_blocking([(draft(artifacts=[item]), instant())])
    row = box.queries.artifact(item.sha256)
    assert row is not None
    assert row.state == "present"


def test_used_bytes_after_a_restart_are_those_of_the_records(box: Box) -> None:
    spool = box.spool()
    kept, orphan = put(spool, b"kept"), put(spool, b"orphan")
    box.journal.append_blocking([(draft(artifacts=[kept]), instant())])
    assert box.spool().used_bytes == 4
    assert {name for name, _ in spool.files()} == {kept.sha256, orphan.sha256}
    assert artifact(b"kept").sha256 == kept.sha256
