"""`fieldgate simulate hj212` and `modbus` as a person runs them, against the real sources."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from drivers.hj212.simulator import ODDITIES
from drivers.modbus.simulator import FAULTS
from gateway.commands import simulate
from gateway.config_sources import Hj212Config
from gateway.rules.book import load_book
from gateway.scenario_kitchens import PLANTS
from tests.commands.test_simulate import call, closed_port, command
from tests.drivers.io.receiver_rig import Source, drive, free_port, running
from tests.drivers.io.test_monitor_fleet import modbus, readings


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", "en")


def test_choices_of_the_commands_are_those_of_the_simulators() -> None:
    assert tuple(plant for plant in PLANTS if plant != "calibration") == simulate.FUME_PLANTS
    assert simulate.ODDITIES == ODDITIES
    assert simulate.BUS_FAULTS == FAULTS


async def finished(source: Source, *words: str) -> dict[str, object]:
    process = await asyncio.create_subprocess_exec(*command(*words), stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, object] = json.loads(out)
    assert source.status.state == "ok"
    return found


def test_monitors_report_and_everything_is_acknowledged() -> None:
    async def scenario() -> None:
        config = Hj212Config(name="kitchens", listen=f"127.0.0.1:{(port := free_port())}", unlisted_per_s_max=1000)
        async with running(config) as source:
            await source.until(lambda: bool(source.status.addresses))
            words = ["hj212", "--to", f"127.0.0.1:{port}", "--monitors", "4", "--for", "2", "--speed-up", "600"]
            words += ["--odd", "no-crlf", "--odd", "no-qn", "--plant", "out-of-range", "--json"]
            result = await finished(source, *words)
            assert (result["monitors"], result["waiting"]) == (4, 0)
            assert result["forgotten"] == 20
            assert result["acknowledged"] == 60
            assert len({draft.device for draft in source.sink.of("reading")}) == 4
            assert len(source.sink.of("reading")) == result["measured"] == 80

    drive(scenario)


def test_a_bus_has_a_name_that_a_source_can_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        link = tmp_path / "bus"
        words = ["modbus", "--kitchens", "1", "--link", str(link), "--baud", "0", "--fault", "noise", "--json"]
        process = await asyncio.create_subprocess_exec(*command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr is not None
        assert (await process.stderr.readline()).decode().strip() == str(link)
        async with running(modbus(str(link), 1)) as source:
            await source.until(lambda: len(readings(source, 1)) > 2 and len(readings(source, 11)) > 2)
        process.terminate()
        out, _ = await process.communicate()
        assert process.returncode == 0
        result = json.loads(out)
        assert result["units"] == 2
        assert result["asked"]["1"] >= 3
        assert not link.is_symlink()

    drive(scenario)


def test_the_scenario_writes_a_good_rule_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "BOOK_S", 0)
    monkeypatch.setattr(simulate, "DRAIN_S", 0.5)
    result = call("hj212", "--to", f"127.0.0.1:{closed_port()}", "--scenario", str(tmp_path), "--for", "1")
    assert result.exit_code == 69
    assert "nothing answers there" in result.output
    files = {path.name: path.read_bytes() for path in (tmp_path / "rules").iterdir()}
    assert load_book(files).warnings == ()
    assert (tmp_path / "devices.toml").read_text().count("[[device]]") == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("hj212", "--to", "127.0.0.1"), "expected host:port"),
        (("modbus", "--purifier-off", "5"), "expected minutes FROM-TO such as 5-8, found '5'"),
        (("modbus", "--fault", "rust"), "is not one of"),
    ],
)
def test_mistakes_are_told(words: tuple[str, ...], told: str) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert told in result.output


def test_a_file_in_the_way_of_the_link_stays(tmp_path: Path) -> None:
    file = tmp_path / "bus"
    file.write_text("mine")
    result = call("modbus", "--link", str(file), "--for", "1")
    assert result.exit_code == 2
    assert "exists and is no link" in result.output
    assert file.read_text() == "mine"
