"""A whole folder source: docking, copies, restarts, full stores, unusable profiles. Real files, real spool."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from drivers.bodycam import driver
from drivers.bodycam.simulator import StationSimulator, mp4_pieces
from drivers.io import runner
from tests.drivers.stack import ListSink, drive, folder_config, running


@pytest.fixture
def station(tmp_path):
    folder = tmp_path / "station"
    folder.mkdir()
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ------------------------------------------------------------------------------ the whole source


def test_a_docking_station_loses_nothing(station, tmp_path):
    simulator = StationSimulator(station, seed=7, recorders=5)

    async def scenario():
        async with running(folder_config(station), tmp_path / "state") as run:
            for _ in range(60):
                simulator.step()
                await asyncio.sleep(0)
            simulator.finish()
            files = await run.files(len(simulator.truth))
            await run.listings()
            assert run.status.state == "ok"
            assert run.ticks
        stable = {item.sha256 for draft in files if not draft.data["unstable"] for item in draft.artifacts}
        assert stable == {file.sha256 for file in simulator.truth}
        assert len(files) == len(simulator.truth), "nothing twice"
        assert {name for name, _ in run.spool.files()} >= stable
        videos = [draft.data for draft in files if draft.data["use"] == "recording"]
        assert {data["container"] for data in videos} == {"closed"}
        assert run.sink.of("position")
        assert run.sink.data("station.clock_offset")[0]["offset_ms"] == 2000
        assert not run.sink.gaps()

    drive(scenario)


def test_the_simulator_writes_the_same_bytes_for_the_same_seed(tmp_path):
    truths = []
    for name in ("one", "two"):
        simulator = StationSimulator(tmp_path / name, seed=3)
        for _ in range(30):
            simulator.step()
        simulator.finish()
        truths.append(simulator.truth)
        for file in simulator.truth:
            assert sha256((tmp_path / name / file.path).read_bytes()) == file.sha256
    assert truths[0] == truths[1]


def test_an_open_video_waits(station, tmp_path):
    pieces = mp4_pieces(b"x" * 1000)
    path = station / "a.mp4"
    path.write_bytes(b"".join(pieces[:-1]))

    async def scenario():
        async with running(folder_config(station), tmp_path / "state") as run:
            await run.listings(5)
            assert not run.sink.of("station.file")
            with path.open("ab") as file:
                file.write(pieces[-1])
            (draft,) = await run.files(1)
            assert draft.data["container"] == "closed"

    drive(scenario)


def test_a_station_that_vanishes_and_comes_back(station, tmp_path):
    (station / "a.bin").write_bytes(b"a")

    async def scenario():
        async with running(folder_config(station), tmp_path / "state") as run:
            await run.files(1)
            station.rename(tmp_path / "away")
            await run.sink.until(lambda: len(run.sink.of("station.state")) == 2)
            assert run.status.state == "down"
            (tmp_path / "away" / "b.bin").write_bytes(b"b")
            (tmp_path / "away").rename(station)
            await run.files(2)
        assert [data["state"] for data in run.sink.data("station.state")] == ["up", "down", "up"]
        assert "is the station mounted" in run.sink.data("station.state")[1]["reason"]
        assert not run.sink.gaps()

    drive(scenario)


def test_copies_and_restarts_make_sightings_not_copies(station, tmp_path):
    (station / "a.bin").write_bytes(b"same")

    async def scenario():
        sink = ListSink()
        async with running(folder_config(station), tmp_path / "state", sink) as run:
            await run.files(1)
        (station / "again").mkdir()
        (station / "again" / "b.bin").write_bytes(b"same")
        async with running(folder_config(station), tmp_path / "state", sink) as run:
            await sink.until(lambda: bool(sink.of("station.sighting")))
            await run.listings()
        assert len(sink.of("station.file")) == len(sink.of("station.sighting")) == 1
        assert sink.data("station.sighting")[0]["path"] == "again/b.bin"
        assert sink.data("station.sighting")[0]["first_path"] == "a.bin"

    drive(scenario)


def test_inotify_wakes_a_slow_poll(station, tmp_path):
    """Polls are an hour apart: only hints can bring the file in."""

    async def scenario():
        (station / "deep").mkdir()
        async with running(folder_config(station, poll_s=3600.0), tmp_path / "state") as run:
            await run.listings(1)
            (station / "deep" / "a.bin").write_bytes(b"a")
            await run.files(1)

    drive(scenario)


def test_a_full_spool_takes_nothing_raises_one_alarm_and_goes_on_later(station, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "FULL_RETRY_NS", 50_000_000)
    for number in range(4):
        (station / f"{number}.bin").write_bytes(os.urandom(1000))

    async def scenario():
        async with running(folder_config(station), tmp_path / "state", quota_bytes=2500) as run:
            await run.files(2)
            await run.sink.until(lambda: bool(run.sink.of("alarm")))
            await run.listings()
            assert run.status.state == "degraded"
            assert len(run.sink.of("station.file")) == 2
            run.spool._quota_bytes = 100_000
            await run.files(4)
            await run.sink.until(lambda: len(run.sink.of("alarm")) == 2)
        assert [data["state"] for data in run.sink.data("alarm")] == ["raised", "cleared"]
        assert {data["code"] for data in run.sink.data("alarm")} == {"spool-full"}

    drive(scenario)


def test_a_full_store_holds_the_source_and_loses_nothing(station, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "STORE_RETRY_S", 0.02)
    (station / "a.bin").write_bytes(b"a")

    async def scenario():
        sink = ListSink(full=5)
        async with running(folder_config(station), tmp_path / "state", sink) as run:
            await run.files(1)
            await run.listings()
            assert run.status.state == "ok"
        assert [draft.kind for draft in sink.drafts] == ["station.state", "station.file"]

    drive(scenario)


def test_stop_while_the_store_is_full(station, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "STORE_RETRY_S", 60.0)

    async def scenario():
        sink = ListSink(full=10**9)
        async with running(folder_config(station), tmp_path / "state", sink) as run:
            async with asyncio.timeout(10):
                while run.status.state != "degraded":
                    await asyncio.sleep(0.01)
        assert not sink.drafts

    drive(scenario)


@pytest.mark.parametrize("profile", ["no-such-profile", "/nowhere/x.toml", "../../etc"])
def test_an_unusable_profile_disables_the_source_and_says_so(station, tmp_path, profile):
    async def scenario():
        async with running(folder_config(station, profile=profile), tmp_path / "state") as run:
            await run.sink.until(lambda: bool(run.sink.drafts))
            assert run.status.state == "disabled"
        (data,) = run.sink.data("station.state")
        assert data["state"] == "disabled"

    drive(scenario)
