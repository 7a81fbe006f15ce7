"""A folder as a station, with everything in it that a hostile or broken one may hold. Real files, real spool."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from buffers.spool import Spool
from drivers.bodycam.driver import Listed, ListPart
from drivers.files import Entry, Failure
from drivers.io.folder import Folder
from drivers.io.watched import StationCalls
from gateway.core.ports import SpoolWriter
from tests.drivers.stack import ListSink, Station, drive, folder_config, running


@pytest.fixture
def station(tmp_path):
    folder = tmp_path / "station"
    folder.mkdir()
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def place(folder: Path, spool: Any = None, depth_max: int = 16, entries_max: int = 1000) -> Folder:
    calls = StationCalls(str(folder), hang_s=60, stop=asyncio.Event(), tick=lambda: None)
    return Folder(folder, calls, spool, source="s", depth_max=depth_max, entries_max=entries_max)


async def listing(folder: Path, **limits: int) -> tuple[dict[bytes, Entry], dict[bytes, str], Listed]:
    entries: dict[bytes, Entry] = {}
    refusals: dict[bytes, str] = {}
    end: Listed | None = None
    async for part in place(folder, **limits).listing():
        if isinstance(part, ListPart):
            entries |= {entry.path: entry for entry in part.entries}
            refusals |= {one.path: one.reason for one in part.refusals}
        else:
            end = part
    assert end is not None
    return entries, refusals, end


class HookedSpool:
    """The real spool; calls `hook` once, between the first write of a copy and the next read."""

    def __init__(self, spool: Spool, hook: Callable[[], None]) -> None:
        self._spool = spool
        self._hook = [hook]

    def path(self, name: str) -> Path:
        return self._spool.path(name)

    def open(self, key: str, identity: str, expected_bytes: int) -> SpoolWriter:
        writer = self._spool.open(key, identity, expected_bytes)
        write = writer.write

        def hooked(chunk: memoryview | bytes) -> None:
            write(chunk)
            if self._hook:
                self._hook.pop()()

        writer.write = hooked  # type: ignore[method-assign]
        return writer


# --------------------------------------------------------------------------------- what is there


def test_only_regular_files_are_taken_and_everything_else_is_named(station, tmp_path):
    outside = tmp_path / "secret.mp4"
    outside.write_bytes(b"secret")
    (station / "good.bin").write_bytes(b"good")
    (station / "out.bin").symlink_to(outside)
    (station / "abs.bin").symlink_to("/etc/passwd")
    (station / "dangling.bin").symlink_to("nowhere")
    (station / "folder").symlink_to(tmp_path, target_is_directory=True)
    (station / "loop").symlink_to("loop")
    os.mkfifo(station / "fifo.mp4")
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(station)
        sock.bind("socket.mp4")

    async def scenario():
        async with running(folder_config(station), tmp_path / "state") as run:
            await run.files(1)
            await run.listings()
        sink = run.sink
        assert [draft.data["path"] for draft in sink.of("station.file")] == ["good.bin"]
        assert sink.gaps() == {
            ("out.bin", "link"),
            ("abs.bin", "link"),
            ("dangling.bin", "link"),
            ("folder", "link"),
            ("loop", "link"),
            ("fifo.mp4", "fifo"),
            ("socket.mp4", "socket"),
        }
        assert len(sink.data("station.gap")) == 7, "once each, however often it is listed"
        assert list(run.spool.files()) == [(sha256(b"good"), 4)]

    drive(scenario)


def test_device_nodes_are_not_opened():
    async def scenario():
        entries, refusals, _ = await listing(Path("/dev"), depth_max=0)
        assert refusals[b"null"] == refusals[b"zero"] == "device"
        assert b"null" not in entries

    drive(scenario)


def test_a_mounted_folder_is_known_as_such(station):
    async def scenario():
        _, _, end = await listing(Path("/dev"), depth_max=0)
        assert end.end.mounted
        _, _, end = await listing(station)
        assert not end.end.mounted

    drive(scenario)


ODD_NAMES = [
    b"two\nlines.mp4",
    "gnp.\u202e4pm".encode(),
    "会议记录.mp4".encode("gbk"),
    "会议记录.mp4".encode(),
    b"\xff\xfe\x80.mp4",
    b"a" * 251 + b".mp4",
    "执".encode() * 83 + b".mp4",
    b"...",
    b".. ",
    b"..mp4",
    b"%2e%2e%2fetc",
    b"back\\slash.mp4",
    b" ",
    b"-rf",
    b"CON.mp4",
    b"\x01\x1b[2J.mp4",
    "cafe\u0301.mp4".encode(),
    "caf\u00e9.mp4".encode(),
]


def test_odd_names_are_taken_with_their_very_bytes(station, tmp_path):
    for number, name in enumerate(ODD_NAMES):
        (station / os.fsdecode(name)).write_bytes(b"content %d" % number)

    async def scenario():
        async with running(folder_config(station, profile="generic"), tmp_path / "state") as run:
            # the videos among them are no MP4 at all, so their container is unknown and nothing waits for it
            files = await run.files(len(ODD_NAMES))
        found = {bytes.fromhex(draft.artifacts[0].name_hex): draft.artifacts[0].sha256 for draft in files}
        assert found == {name: sha256(b"content %d" % number) for number, name in enumerate(ODD_NAMES)}
        assert not run.sink.gaps()

    drive(scenario)


def test_depth_and_entries_have_limits(station):
    deep = station
    for _ in range(5):
        deep = deep / "d"
        deep.mkdir()
        (deep / "f").write_bytes(b"")
    for number in range(20):
        (station / f"{number}").write_bytes(b"")

    async def scenario():
        entries, refusals, end = await listing(station, depth_max=3)
        assert refusals == {b"d/d/d/d": "depth-limit"}
        assert b"d/d/d/f" in entries
        assert not end.end.complete
        entries, refusals, end = await listing(station, entries_max=10)
        assert len(entries) <= 10
        assert list(refusals.values()) == ["entries-limit"]
        assert not end.end.complete
        entries, refusals, end = await listing(station)
        assert len(entries) == 25
        assert (refusals, end.end.complete) == ({}, True)

    drive(scenario)


def test_a_sparse_file_of_1_tb_is_refused_before_anything_is_read(station, tmp_path):
    for name in ("a.bin", "b.bin"):
        (station / name).touch()
    os.truncate(station / "a.bin", 2**40)
    os.truncate(station / "b.bin", 10**12)
    (station / "small.bin").write_bytes(b"small")

    async def scenario():
        async with running(folder_config(station), tmp_path / "state") as run:
            await run.files(1)
            await run.sink.until(lambda: len(run.sink.gaps()) == 2)
            assert run.status.state == "degraded"
        assert run.sink.gaps() == {("a.bin", "too-big"), ("b.bin", "spool-full")}
        assert [data["state"] for data in run.sink.data("alarm")] == ["raised"]
        assert list(run.spool.files()) == [(sha256(b"small"), 5)]
        assert run.spool.used_bytes == 5

    drive(scenario)


# ------------------------------------------------------------------------------ changing files


def take_with(station: Path, tmp_path: Path, hook: Callable[[], None], then: Callable[[Station], Any]) -> ListSink:
    """Run the source with a hook in the middle of the first copy."""
    sink = ListSink()

    async def scenario():
        from drivers.io import station as composed

        original = composed.Folder

        def hooked(*args: Any, **kwargs: Any) -> Folder:
            path, calls, spool = args
            return original(path, calls, HookedSpool(spool, hook), **kwargs)  # type: ignore[arg-type]

        composed.Folder = hooked  # type: ignore[misc,assignment]
        try:
            async with running(folder_config(station, profile="generic"), tmp_path / "state", sink) as run:
                await then(run)
        finally:
            composed.Folder = original  # type: ignore[misc]

    drive(scenario)
    return sink


def test_a_file_that_grows_while_it_is_copied(station, tmp_path):
    path, before, after = station / "a.bin", os.urandom(600_000), os.urandom(100_000)
    path.write_bytes(before)

    def grow() -> None:
        with path.open("ab") as file:
            file.write(after)

    sink = take_with(station, tmp_path, grow, lambda run: run.files(2))
    first, second = sink.of("station.file")
    assert first.data["unstable"] is True
    assert "size 600000 to 700000" in first.data["changed"]
    assert first.artifacts[0].sha256 == sha256(before), "exactly the bytes that were read"
    assert second.data["unstable"] is False
    assert second.artifacts[0].sha256 == sha256(before + after)


def test_a_file_that_is_cut_short_while_it_is_copied(station, tmp_path):
    path, content = station / "a.bin", os.urandom(600_000)
    path.write_bytes(content)
    sink = take_with(station, tmp_path, lambda: os.truncate(path, 300_000), lambda run: run.files(2))
    first, second = sink.of("station.file")
    assert (first.data["unstable"], first.data["size_bytes"]) == (True, 300_000)
    assert first.artifacts[0].sha256 == sha256(content[:300_000])
    assert (second.data["unstable"], second.data["taken"]) == (False, 2)


def test_a_file_that_is_rewritten_with_its_old_time(station, tmp_path):
    path = station / "a.bin"
    path.write_bytes(b"a" * 600_000)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)

    def forge() -> None:
        path.write_bytes(b"b" * 600_000)
        os.utime(path, ns=times)

    sink = take_with(station, tmp_path, forge, lambda run: run.files(2))
    first, second = sink.of("station.file")
    assert "ctime_ns" in first.data["changed"]
    assert second.artifacts[0].sha256 == sha256(b"b" * 600_000)


def test_a_file_that_is_deleted_or_replaced_while_it_is_copied(station, tmp_path):
    path, content = station / "a.bin", os.urandom(600_000)
    path.write_bytes(content)

    def replace() -> None:
        path.rename(tmp_path / "gone")
        path.symlink_to("/etc/passwd")

    sink = take_with(station, tmp_path, replace, lambda run: run.files(1))
    assert sink.of("station.file")[0].artifacts[0].sha256 == sha256(content), "the open file is what was listed"


def test_stop_in_the_middle_suspends_and_the_next_start_resumes(station, tmp_path):
    content = os.urandom(2_000_000)
    (station / "a.bin").write_bytes(content)
    sink = ListSink()
    stopping, asked = threading.Event(), threading.Event()

    def hook() -> None:
        stopping.set()
        assert asked.wait(30)

    async def stop(run: Station) -> None:
        await asyncio.to_thread(stopping.wait, 30)
        run.stop.set()
        async with asyncio.timeout(30):
            before = len(run.ticks)
            while len(run.ticks) < before + 2:  # a tick after the first: the copying thread has been asked to end
                await asyncio.sleep(0.01)
        asked.set()

    take_with(station, tmp_path, hook, stop)

    async def again():
        async with running(folder_config(station, profile="generic"), tmp_path / "state", sink) as run:
            (draft,) = await run.files(1)
            assert draft.artifacts[0].sha256 == sha256(content)
            assert draft.data["resumed_at_bytes"] > 0

    drive(again)


# --------------------------------------------------------------------------------------- races


def test_a_folder_that_becomes_a_link_between_listing_and_copying(station, tmp_path):
    (station / "d").mkdir()
    (station / "d" / "f").write_bytes(b"inside")
    outside = tmp_path / "outside"
    shutil.copytree(station / "d", outside, copy_function=shutil.copy2)

    async def scenario():
        entries, _, _ = await listing(station)
        shutil.rmtree(station / "d")
        (station / "d").symlink_to(outside, target_is_directory=True)
        result = await place(station).take(entries[b"d/f"])
        assert isinstance(result, Failure)
        assert (result.failure, result.reason) == ("transient", "link")
        (station / "d").unlink()
        (station / "d").mkdir()
        (station / "d" / "f").symlink_to(outside / "f")
        result = await place(station).take(entries[b"d/f"])
        assert isinstance(result, Failure)
        assert result.reason == "link"

    drive(scenario)


def test_a_folder_that_flips_to_a_link_all_the_time_never_leads_outside(station, tmp_path):
    inside, outside = station / "d", tmp_path / "outside"
    inside.mkdir()
    (inside / "good").write_bytes(b"")
    outside.mkdir()
    (outside / "secret").write_bytes(b"")
    (station / "link").symlink_to(outside, target_is_directory=True)
    ending = threading.Event()

    def flip() -> None:
        while not ending.is_set():
            for one, two in (("d", "x"), ("link", "d"), ("d", "link"), ("x", "d")):
                (station / one).rename(station / two)

    thread = threading.Thread(target=flip)
    thread.start()

    async def scenario():
        for _ in range(150):
            entries, _, _ = await listing(station)
            assert not [path for path in entries if b"secret" in path]

    try:
        drive(scenario)
    finally:
        ending.set()
        thread.join()


@pytest.mark.parametrize("path", [b"", b".", b"..", b"../x", b"a/../b", b"/etc/passwd", b"a//b", b"a\0b", b"a/"])
def test_paths_that_lead_elsewhere_are_not_opened(station, path):
    async def scenario():
        result = await place(station).take(Entry(path, 0, "0"))
        assert isinstance(result, Failure)

    drive(scenario)


# --------------------------------------------------------------------------------- permissions


@contextmanager
def nobody() -> Iterator[Path]:
    """A folder that is readable for all, and this process without the powers of root."""
    folder = Path(tempfile.mkdtemp(prefix="fieldgate-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_permission_denied_is_a_gap_for_files_and_folders():
    with nobody() as folder:
        (folder / "locked.bin").write_bytes(b"1")
        (folder / "locked.bin").chmod(0)
        (folder / "closed").mkdir()
        (folder / "closed" / "x").write_bytes(b"1")
        (folder / "closed").chmod(0)

        async def scenario():
            if os.getuid() == 0:
                os.seteuid(65_534)
            entries, refusals, end = await listing(folder)
            assert refusals == {b"closed": "permission-denied"}
            assert not end.end.complete
            result = await place(folder).take(entries[b"locked.bin"])
            assert isinstance(result, Failure)
            assert (result.failure, result.reason) == ("transient", "permission-denied")

        drive(scenario)
