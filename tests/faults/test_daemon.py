"""The daemon as a process, killed, cut off, cloned and restored; what was acknowledged is never lost or doubled."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import socket
from pathlib import Path

import pytest

from drivers.bodycam.simulator import StationSimulator
from tests.faults.bureau import Box, Line, Platform, bureau, fieldgate, folder_source, url_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def dock(folder: Path, number: int, size_bytes: int = 50_000) -> str:
    """Put one finished recording into a station's folder; its SHA-256."""
    content = random.Random(number).randbytes(size_bytes)
    folder.mkdir(exist_ok=True)
    part = folder / f".{number}.tmp"
    part.write_bytes(content)
    part.rename(folder / f"DSJ_0001234_001122_202611211422{number:02d}_{number:04d}.JPG")
    return hashlib.sha256(content).hexdigest()


def delivered(platform: Platform, gateway_id: str, wanted: set[str]) -> bool:
    return wanted <= platform.artifacts(gateway_id)


def kinds_at(platform: Platform, gateway_id: str) -> set[str]:
    return {json.loads(leaf)["kind"] for leaf in platform.records(gateway_id)}


def assert_each_once(platform: Platform, gateway_id: str, wanted: set[str]) -> None:
    """The platform's log is contiguous, and names every file in exactly one station.file record."""
    records = [json.loads(leaf) for leaf in platform.records(gateway_id)]
    assert [record["seq"] for record in records] == list(range(len(records)))
    taken = [record["artifacts"][0]["sha256"] for record in records if record["kind"] == "station.file"]
    assert sorted(taken) == sorted(wanted)


def test_kill_dash_nine_over_and_over_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with bureau(tmp_path) as (platform, line):
        station = tmp_path / "station"
        station.mkdir()
        box = Box(tmp_path / "box", "gw-kill", url_of(line), sources=folder_source(station))
        box.enrol(platform)
        chance = random.Random(7)
        wanted: set[str] = set()
        for number in range(6):
            box.start()
            wanted.add(dock(station, number, 3_000_000))
            held = len(platform.artifacts(box.gateway_id))
            # Each round dies at another place: at start, while copying, while sealing, while uploading.
            target = chance.choice(["at once", "taken", "sealed", "delivered"])
            if target == "taken":
                wait_until("a part file or an artifact", lambda: any((box.state / "spool").rglob("*")), 30)
            elif target == "sealed":
                wait_until("a bundle at the platform", lambda: bool(list((platform.folder / "uploads").iterdir())), 30)
            elif target == "delivered":
                wait_until("an artifact more", lambda held=held: len(platform.artifacts("gw-kill")) > held, 30)
            box.kill()
        box.start()
        wait_until("everything delivered", lambda: delivered(platform, box.gateway_id, wanted))
        box.stop()
        box.start()  # the clean stop sealed what was left: deliver that too
        wait_until("the stop is at the platform", lambda: "gateway.stop" in kinds_at(platform, box.gateway_id))
        box.stop()
        assert_each_once(platform, box.gateway_id, wanted)


def test_a_black_hole_and_a_cut_only_delay(tmp_path: Path) -> None:
    with bureau(tmp_path) as (platform, line):
        station = tmp_path / "station"
        station.mkdir()
        box = Box(tmp_path / "box", "gw-hole", url_of(line), sources=folder_source(station))
        box.enrol(platform)
        box.start()
        wanted = {dock(station, 1)}
        wait_until("the first file", lambda: delivered(platform, box.gateway_id, wanted))
        line.swallow()
        wanted |= {dock(station, number) for number in range(2, 6)}
        wait_until("files taken while the line is dead", lambda: len(list((box.state / "spool").rglob("?" * 64))) == 5)
        line.cut()
        line.restore()
        wait_until("everything delivered", lambda: delivered(platform, box.gateway_id, wanted))
        box.stop()
        assert_each_once(platform, box.gateway_id, wanted)


def test_a_platform_that_is_away_and_comes_back(tmp_path: Path) -> None:
    with bureau(tmp_path) as (platform, line):
        station = tmp_path / "station"
        station.mkdir()
        box = Box(tmp_path / "box", "gw-away", url_of(line), sources=folder_source(station))
        box.enrol(platform)
        port = platform.port
        platform.stop()
        box.start()
        wanted = {dock(station, number) for number in range(3)}
        wait_until("files taken", lambda: len(list((box.state / "spool").rglob("?" * 64))) == 3)
        platform.start(port)
        wait_until("everything delivered", lambda: delivered(platform, box.gateway_id, wanted))
        box.stop()
        assert_each_once(platform, box.gateway_id, wanted)


def test_the_second_daemon_on_one_state_folder_refuses(tmp_path: Path) -> None:
    with bureau(tmp_path) as (platform, line):
        box = Box(tmp_path / "box", "gw-two", url_of(line))
        box.enrol(platform)
        first = box.start()
        wait_until("the first is up", (box.state / "run" / "api.sock").exists)
        box.start()
        assert box.ended() == 78
        last = box.log_text().strip().splitlines()[-1]
        assert last.startswith("fieldgate: ")
        assert str(box.state) in last
        box.process = first
        box.stop()


def restored_from_yesterday(tmp_path: Path, platform: Platform, line: Line) -> Box:
    station = tmp_path / "station"
    station.mkdir()
    box = Box(tmp_path / "box", "gw-back", url_of(line), sources=folder_source(station))
    box.enrol(platform)
    box.start()
    wanted = {dock(station, 1)}
    wait_until("the first file", lambda: delivered(platform, box.gateway_id, wanted))
    box.stop()
    shutil.copytree(box.state, tmp_path / "yesterday")
    box.start()
    wanted.add(dock(station, 2))
    wait_until("the second file", lambda: delivered(platform, box.gateway_id, wanted))
    box.stop()
    shutil.rmtree(box.state)
    (tmp_path / "yesterday").rename(box.state)
    return box


def test_yesterdays_snapshot_stops_with_fork_and_never_overwrites(tmp_path: Path) -> None:
    with bureau(tmp_path) as (platform, line):
        box = restored_from_yesterday(tmp_path, platform, line)
        before = platform.records(box.gateway_id)
        box.start()
        assert box.ended() == 70, box.log_text()
        assert "FORK" in box.log_text() or "fork" in box.log_text()
        assert platform.records(box.gateway_id) == before
        box.start()  # and it stays stopped, with one line that says why
        assert box.ended() == 70
        assert box.log_text().strip().splitlines()[-1].startswith("fieldgate: ")


def test_a_cloned_box_is_found_out(tmp_path: Path) -> None:
    with bureau(tmp_path) as (platform, line):
        station, other = tmp_path / "station", tmp_path / "other"
        station.mkdir()
        other.mkdir()
        box = Box(tmp_path / "box", "gw-twin", url_of(line), sources=folder_source(station))
        box.enrol(platform)
        shutil.copytree(box.folder, tmp_path / "twin")
        twin = object.__new__(Box)
        twin.folder, twin.gateway_id = tmp_path / "twin", box.gateway_id
        twin.state, twin.config_file = twin.folder / "state", twin.folder / "fieldgate.toml"
        twin.config_file.write_text(
            twin.config_file.read_text().replace(str(box.folder), str(twin.folder)).replace(str(station), str(other))
        )
        box.start()
        wanted = {dock(station, 1)}
        wait_until("the real box's file", lambda: delivered(platform, box.gateway_id, wanted))
        dock(other, 2)
        twin.start()
        assert twin.ended() == 70, twin.log_text()
        wanted.add(dock(station, 3))
        wait_until("the real box goes on", lambda: delivered(platform, box.gateway_id, wanted))
        box.stop()
        assert_each_once(platform, box.gateway_id, wanted)


def test_cut_and_kill_together_at_a_thousand_records_a_second(tmp_path: Path) -> None:
    """ThingsBoard's gateway, measured the same way, loses 232 to 600 of 15,000."""
    with bureau(tmp_path) as (platform, line):
        box = Box(tmp_path / "box", "gw-feed", url_of(line))
        box.enrol(platform)
        acked = tmp_path / "acked"

        def acked_count() -> int:
            return sum(end - first for _, first, end in acked_ranges(acked))

        for run in range(3):
            begun = acked_count()
            box.start_feeder(run, acked)
            wait_until("records acknowledged", lambda begun=begun: acked_count() >= begun + 1500)
            line.cut()
            wait_until("more while cut", lambda begun=begun: acked_count() >= begun + 3000)
            box.kill()
            line.restore()
        box.start()
        wanted = [(run, n) for run, first, end in acked_ranges(acked) for n in range(first, end)]

        def fed() -> list[tuple[int, int]]:
            records = [json.loads(leaf) for leaf in platform.records(box.gateway_id)]
            assert [record["seq"] for record in records] == list(range(len(records)))
            return [(r["data"]["run"], r["data"]["number"]) for r in records if r["kind"] == "position"]

        wait_until("the last acknowledged record is at the platform", lambda: wanted[-1] in set(fed()))
        box.stop()
        held = fed()
        assert held == sorted(set(held))  # in order, none twice
        assert set(wanted) <= set(held)


def test_a_platform_that_lost_everything_gets_everything_again_without_a_restart_here(tmp_path: Path) -> None:
    with bureau(tmp_path) as (platform, line):
        station = tmp_path / "station"
        station.mkdir()
        box = Box(tmp_path / "box", "gw-lost", url_of(line), sources=folder_source(station))
        box.enrol(platform)
        box.start()
        wanted = {dock(station, number) for number in range(3)}
        wait_until("the first files", lambda: delivered(platform, box.gateway_id, wanted))
        port = platform.port
        platform.stop()
        for path in platform.folder.iterdir():  # all but its authority is lost
            if path.name in {"gateways", "enrolment", "uploads", "staging", "log"}:
                shutil.rmtree(path)
            elif path.name.startswith("index."):
                path.unlink()
        platform.start(port)
        wanted.add(dock(station, 3))
        wait_until("refused, and said so", lambda: "uplink.denied" in fieldgate("status", box.config_file, "--json"))
        fieldgate("enrol", box.config_file, "--token", platform.token(box.gateway_id))
        wait_until("everything again", lambda: delivered(platform, box.gateway_id, wanted))
        assert "restart" in fieldgate("status", box.config_file)
        box.stop()
        assert_each_once(platform, box.gateway_id, wanted)


def test_an_address_that_is_taken_stops_nothing_but_the_listener(tmp_path: Path) -> None:
    with bureau(tmp_path) as (platform, line), socket.create_server(("127.0.0.1", 0)) as taken:
        station, address = tmp_path / "station", f"127.0.0.1:{taken.getsockname()[1]}"
        station.mkdir()
        box = Box(tmp_path / "box", "gw-port", url_of(line), sources=folder_source(station))
        box.enrol(platform)
        pki, token = platform.folder / "pki", box.folder / "api.token"
        token.write_text("token-of-the-api-of-this-box\n")
        listener = {"listen": address, "certificate_file": pki / "server.pem", "key_file": pki / "server.key"}
        rows = [f'{key} = "{value}"' for key, value in {**listener, "token_file": token}.items()]
        box.config_file.write_text("\n".join([box.config_file.read_text(), "[api]", *rows, ""]))
        box.start()
        wanted = {dock(station, 1)}
        wait_until("evidence goes its way", lambda: delivered(platform, box.gateway_id, wanted))
        assert "another program listens there" in fieldgate("status", box.config_file)
        taken.close()
        wait_until("it listens", lambda: f'"https://{address}", "event": "listening"' in box.log_text())
        box.stop()


def acked_ranges(path: Path) -> list[tuple[int, int, int]]:
    """(run, first, end) of what was acknowledged; the kill may have torn the last line."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in lines if line.endswith("\n"))]


def test_a_station_that_docks_while_everything_restarts(tmp_path: Path) -> None:
    """A whole simulated station, growing files among them, against a gateway that is killed between its steps."""
    with bureau(tmp_path) as (platform, line):
        station = tmp_path / "station"
        station.mkdir()
        simulator = StationSimulator(station, seed=3)
        box = Box(tmp_path / "box", "gw-sim", url_of(line), sources=folder_source(station))
        box.enrol(platform)
        for round_number in range(3):
            box.start()
            for _ in range(12):
                simulator.step()
            wait_until("the gateway is up", (box.state / "run" / "api.sock").exists)
            if round_number < 2:
                box.kill()
        simulator.finish()
        wanted = {item.sha256 for item in simulator.truth}
        wait_until("everything delivered", lambda: delivered(platform, box.gateway_id, wanted))
        box.stop()
