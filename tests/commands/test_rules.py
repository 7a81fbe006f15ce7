"""`fieldgate rules check` and `show`, as a person and as a script use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.commands.output import columns_of
from gateway.rules.book import load_book
from tests.rules.files import of_rules_md

FILES = of_rules_md()
SHA256 = load_book(FILES).sha256


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", "en")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["rules", *map(str, arguments)])


def test_check_counts_and_names_the_book(folder):
    result = run("check", folder)
    assert result.exit_code == 0
    lines = dict(line.rsplit("  ", 1) for line in result.stdout.splitlines()[:-1])
    assert {key.strip(): value for key, value in lines.items()} == {
        "files": "5", "rule sets": "2", "kitchens": "1", "permits": "1", "vehicles": "2", "firms": "1", "routes": "1",
        "sites": "1",
        "dumping grounds": "1", "speed zones": "1", "no-entry areas": "0", "dead zones": "0", "depots": "0",
    }  # fmt: skip
    assert result.stdout.splitlines()[-1] == f"ok: {folder}, {SHA256}"


def test_check_as_json(folder):
    result = json.loads(run("check", folder, "--json").stdout)
    assert (result["ok"], result["sha256"], result["warnings"]) == (True, SHA256, [])
    assert (result["counts"]["permits"], result["counts"]["vehicles"], result["counts"]["no-entry"]) == (1, 2, 0)


def test_check_tells_doubts(folder):
    (folder / "permits.toml").write_bytes(FILES["permits.toml"].replace(b"F12345", b"F1"))
    result = run("check", folder)
    assert result.exit_code == 0
    assert "note  permits.toml:7: permit[0].vehicles[0]: '浙F1' does not look like a plate" in result.stdout


def test_check_tells_every_mistake(folder):
    (folder / "permits.toml").write_bytes(FILES["permits.toml"].replace(b'"ground-2"', b'"ground-3"'))
    (folder / "more.toml").write_text("format")
    result = run("check", folder)
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "more.toml:1: not TOML: Expected '=' after a key in a key/value pair, at the end",
        "permits.toml:12: permit[0].grounds[0]: no ground has the id ground-3; did you mean ground-2?",
    ]
    as_json = run("check", folder, "--json")
    assert as_json.exit_code == 78
    assert json.loads(as_json.stdout)["problems"][1]["line"] == 12


def test_show_a_vehicle(folder):
    result = run("show", folder, "--plate", "浙f 12345", "--at", "2026-04-01 21:00")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "浙F12345  2026-04-01 21:00:00 (+08:00)",
        "",
        "permit     平渣准2026-0117",
        "firm       平湖市宏达渣土运输有限公司",
        "valid      2026-03-01 - 2026-06-30",
        "hours      20:00-04:00 (open now)",
        "route      route-5  当湖—新仓  6.4 km  ± 60 m",
        "site       site-17  当湖街道3号地块",
        "ground     ground-2  新仓消纳场",
        "limit      50 km/h",
        "issued by  平湖市综合行政执法局",
    ]


def test_show_a_vehicle_in_chinese_by_day(folder, monkeypatch):
    monkeypatch.setenv("FIELDGATE_LANG", "zh")
    lines = run("show", folder, "--plate", "浙F12345", "--at", "2026-04-01T12:00:00").stdout.splitlines()
    assert "时段    20:00-04:00 (当前不允许)" in lines
    assert "线路    route-5  当湖—新仓  6.4 km  ± 60 m" in lines


def test_show_a_free_permit(folder):
    free = FILES["permits.toml"].replace(b'route = "route-5"\n', b"").replace(b'hours = [["20:00", "04:00"]]\n', b"")
    (folder / "permits.toml").write_bytes(free)
    lines = run("show", folder, "--plate", "浙F12345", "--at", "2026-04-01T12:00:00").stdout.splitlines()
    assert "hours      not limited" in lines
    assert "route      free" in lines


def test_show_a_vehicle_without_permit(folder):
    late = run("show", folder, "--plate", "浙F12345", "--at", "2026-08-01")
    assert late.stdout.splitlines()[1:] == ["no permit is in force", "  平渣准2026-0117  2026-03-01 - 2026-06-30"]
    unknown = run("show", folder, "--plate", "浙F12346", "--at", "2026-04-01")
    assert unknown.stdout.splitlines()[1:] == [
        "no permit is in force",
        "  no permit names this vehicle; did you mean 浙F12345?",
    ]
    assert unknown.exit_code == 0


def test_show_what_is_in_force(folder):
    result = run("show", folder, "--at", "2026-04-01 21:00")
    assert "pinghu-2026       muck-truck    2026-01-01  -" in result.stdout
    assert "平渣准2026-0117  平湖市宏达渣土运输有限公司  2         20:00-04:00  2026-06-30" in result.stdout
    nothing = run("show", folder, "--at", "2025-04-01").stdout
    assert "no rule set is in force" in nothing
    assert "no permit is in force" in nothing


def test_show_fits_a_terminal(folder):
    long = FILES["permits.toml"].replace("平湖市宏达渣土运输有限公司".encode(), ("很长的名称" * 20).encode())
    (folder / "permits.toml").write_bytes(long)
    lines = run("show", folder, "--at", "2026-04-01 21:00").stdout.splitlines()
    assert max(map(columns_of, lines)) <= 100
    assert any("…" in line for line in lines)


def test_show_as_json(folder):
    one = json.loads(run("show", folder, "--plate", "浙F12345", "--at", "2026-04-01 21:00", "--json").stdout)
    (permit,) = one["permits"]
    assert one["at_utc_s"] == 1_775_048_400
    assert permit["routes"] == [{"id": "route-5", "name": "当湖—新仓", "length_m": 6380, "width_m": 60}]
    assert (permit["open"], permit["sites"], permit["grounds"]) == (True, ["site-17"], ["ground-2"])
    every = json.loads(run("show", folder, "--at", "2026-04-01T13:00:00+00:00", "--json").stdout)
    assert every["at_utc_s"] == 1_775_048_400
    assert (every["sha256"], len(every["permits"]), every["rule_sets"][0]["id"]) == (SHA256, 1, "pinghu-2026")


def test_show_now(folder):
    assert run("show", folder).exit_code == 0


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "99999-01-01"])
def test_times_that_are_none(folder, text):
    result = run("show", folder, "--at", text)
    assert result.exit_code == 2
    assert f'expected "2026-06-15 20:00", found {text!r}' in result.stderr


def test_show_of_a_broken_folder(folder):
    (folder / "rules.toml").write_text("format")
    result = run("show", folder)
    assert result.exit_code == 78
    assert result.stderr.startswith("fieldgate: rules.toml:1: not TOML")
