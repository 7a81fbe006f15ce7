"""`fieldgate simulate …` as a person runs it, against the real source and on a pseudo-tty."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drivers.fleet.hauls import PLANTS as HAUL_PLANTS
from drivers.nmea.framing import Decoder, Sentence
from gateway.cli import main
from gateway.commands import simulate
from tests.drivers.io.terminals import drive, running

ROUTE = {
    "type": "FeatureCollection",
    "datum": "WGS-84",
    "features": [
        {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "LineString", "coordinates": [[121.02, 30.70], [121.03, 30.70], [121.03, 30.73]]},
        }
    ],
}


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", "en")


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *words])


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from gateway.cli import main; main()", "simulate", *words]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def test_plants_of_the_command_are_those_of_the_tours() -> None:
    assert simulate.PLANTS == HAUL_PLANTS
    assert set(simulate.FAULTS) < set(HAUL_PLANTS)


def test_a_fleet_drives_given_routes_and_everything_is_acknowledged(tmp_path: Path) -> None:
    routes = tmp_path / "routes.geojson"
    routes.write_text(json.dumps(ROUTE))

    async def scenario() -> None:
        async with running(tmp_path / "state", listen_udp="127.0.0.1:0") as source:
            host, port = source.address("udp")
            words = ["jt808", "--to", f"{host}:{port}", "--trucks", "4", "--for", "2", "--speed-up", "100", "--json"]
            words += ["--routes", str(routes), "--plant", "off-route", "--blind-zone", "1-2", "--udp"]
            process = await asyncio.create_subprocess_exec(*command(*words), stdout=subprocess.PIPE)
            out, _ = await process.communicate()
            assert process.returncode == 0
            result = json.loads(out)
            assert result["terminals"] == 4
            assert result["acknowledged"] == result["measured"] > 50
            assert result["waiting"] == 0
            assert len({record.device for record in source.records("position")}) == 4

    drive(scenario)


def test_ctrl_c_ends_it_with_the_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "state") as source:
            host, port = source.address()
            words = command("jt808", "--to", f"{host}:{port}", "--trucks", "2", "--version", "2019")
            process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            await source.until(lambda: len({record.device for record in source.records("position")}) == 2)
            process.send_signal(signal.SIGINT)
            out, _ = await process.communicate()
            assert process.returncode == 0
            assert "of 2 online" in out.decode()

    drive(scenario)


def test_nobody_there_is_said_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "DRAIN_S", 0.1)
    result = call("jt808", "--to", f"127.0.0.1:{closed_port()}", "--trucks", "1", "--for", "1", "--json")
    assert result.exit_code == 69
    assert "nothing answers there" in result.stderr
    assert json.loads(result.stdout)["links_answered"] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["jt808", "--to", "nowhere"], "expected host:port"),
        (["jt808", "--to", "127.0.0.1:99999"], "expected host:port"),
        (["jt808", "--to", "127.0.0.1:1", "--blind-zone", "8-5"], "such as 5-8"),
        (["jt808", "--to", "127.0.0.1:1", "--blind-zone", "x"], "such as 5-8"),
        (["jt808", "--to", "127.0.0.1:1", "--identity", "12a"], "up to 12 digits"),
        (["jt808", "--to", "127.0.0.1:1", "--identity", "999999999999"], "up to 12 digits"),
        (["jt808", "--to", "127.0.0.1:1", "--plant", "rocket"], "rocket"),
        (["nmea"], "exactly one of"),
        (["nmea", "--pty", "--udp", "127.0.0.1:1"], "exactly one of"),
        (["nmea", "--talker", "XX", "--pty"], "XX"),
    ],
)
def test_a_wrong_word_is_named(words: list[str], says: str) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"datum": "BD-09"}, "BD-09"),
        ({"datum": None}, "datum"),
        ({"features": []}, "no LineString"),
        ({"type": "Topology"}, "FeatureCollection"),
    ],
)
def test_routes_that_cannot_be_driven_are_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    file = tmp_path / "routes.geojson"
    file.write_text(json.dumps({**ROUTE, **change}))
    result = call("jt808", "--to", "127.0.0.1:1", "--routes", str(file))
    assert result.exit_code == 78
    assert says in result.stderr


def test_a_scenario_leaves_its_rule_book_and_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "BOOK_S", 0)
    monkeypatch.setattr(simulate, "DRAIN_S", 0.1)
    folder = tmp_path / "book"
    result = call("jt808", "--to", f"127.0.0.1:{closed_port()}", "--scenario", str(folder), "--for", "1", "--json")
    assert result.exit_code == 69
    assert (folder / "devices.toml").read_text().startswith('format = "devices/v1"')
    checked = CliRunner().invoke(main, ["rules", "check", str(folder / "rules")])
    assert checked.exit_code == 0, checked.output


def sentences(data: bytes) -> list[str]:
    return [found.kind for found in Decoder().feed(data) if isinstance(found, Sentence)]


def test_a_receiver_on_a_pty_prints_its_path_and_speaks() -> None:
    with subprocess.Popen(command("nmea", "--pty", "--rate", "10", "--seed", "4"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        path = process.stdout.readline().decode().strip()
        port = os.open(path, os.O_RDONLY | os.O_NOCTTY)
        data = b""
        while len(sentences(data)) < 30 and select.select([port], [], [], 20)[0]:
            data += os.read(port, 4096)
        os.close(port)
        process.send_signal(signal.SIGTERM)
        out = process.stdout.read().decode()
    assert process.returncode == 0
    assert {"RMC", "GGA", "GSA", "GSV", "VTG", "ZDA", "GST"} <= set(sentences(data))
    assert "epochs sent" in out


def test_a_receiver_sends_datagrams_for_a_while_and_counts_epochs() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(20)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        result = call("nmea", "--udp", address, "--for", "1", "--speed-up", "20", "--talker", "BD", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["epochs"] >= 15
        assert listener.recv(4096).startswith(b"$BDRMC")
