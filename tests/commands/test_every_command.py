"""What holds for every command, found by walking them: help, --json, one line per error, a documented exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.commands import output
from tests.conftest import ROOT
from tests.test_docs import commands

COMMANDS = {path: command for path, command in commands(main, "fieldgate") if not isinstance(command, click.Group)}
CA = ROOT / "tests" / "vectors" / "ledger" / "ca.pem"

FAILURES: dict[str, tuple[str, int]] = {
    "fieldgate init": ("--id gw-1 --config {file}/fieldgate.toml --dir {file}/state", output.CONFIG),
    "fieldgate check": ("{none}", output.CONFIG),
    "fieldgate enrol": ("{none} --token once", output.CONFIG),
    "fieldgate run": ("{none}", output.CONFIG),
    "fieldgate status": ("{none}", output.CONFIG),
    "fieldgate device list": ("--config {none}", output.CONFIG),
    "fieldgate device locate": ("--config {none} 138", output.CONFIG),
    "fieldgate device track": ("--config {none} 138", output.CONFIG),
    "fieldgate device text": ("--config {none} 138 hello", output.CONFIG),
    "fieldgate device shoot": ("--config {none} 138", output.CONFIG),
    "fieldgate device set": ("--config {none} 138 apn=x", output.CONFIG),
    "fieldgate device query": ("--config {none} 138", output.CONFIG),
    "fieldgate device area": ("--config {none} 138 {ca}", 2),
    "fieldgate device route": ("--config {none} 138 {ca}", 2),
    "fieldgate device order": ("--config {none} 138 time", output.CONFIG),
    "fieldgate demo": ("--for 1 --station {none}", 2),
    "fieldgate verify": ("{file} --ca {ca}", output.NEGATIVE),
    "fieldgate bundles": ("{none}", output.CONFIG),
    "fieldgate export": ("{none} --seq 1 --out {folder}/case.tar", output.CONFIG),
    "fieldgate findings": ("{none}", output.CONFIG),
    "fieldgate rules check": ("{none}", output.CONFIG),
    "fieldgate rules show": ("{none}", output.CONFIG),
    "fieldgate rules replay": ("{none}", output.CONFIG),
    "fieldgate pull": ("unix:{none} --out {folder}/pulled", output.UNAVAILABLE),
    "fieldgate profile list": ("--dir", 2),
    "fieldgate profile check": ("{none}", output.NEGATIVE),
    "fieldgate profile poll": ("no-such-profile {folder}", output.CONFIG),
    "fieldgate simulate jt808": ("--to 127.0.0.1:9 --routes {file}", output.CONFIG),
    "fieldgate simulate nmea": ("--pty --routes {file}", output.CONFIG),
    "fieldgate simulate hj212": ("--to 127.0.0.1:9 --odd rust", 2),
    "fieldgate simulate modbus": ("--fault rust", 2),
    "fieldgate platform init": ("--dir {file}/platform", output.DISK),
    "fieldgate platform token": ("--dir {none} gw-1", output.CONFIG),
    "fieldgate platform run": ("--dir {none} --listen 127.0.0.1:0", output.CONFIG),
    "fieldgate platform revoke": ("--dir {none} gw-1", output.CONFIG),
    "fieldgate platform pull": ("--dir {none} gw-1 https://127.0.0.1:1", output.CONFIG),
}
"""Words that make each command fail, and the exit code."""


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", "en")


def test_every_command_is_made_to_fail_here() -> None:
    assert FAILURES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("path", COMMANDS)
def test_help_says_what_it_does_and_explains_every_option(path: str) -> None:
    result = CliRunner().invoke(main, [*path.split()[1:], "--help"])
    assert result.exit_code == 0
    assert COMMANDS[path].help
    assert result.stdout.startswith("Usage: ")
    options = [option for option in COMMANDS[path].params if isinstance(option, click.Option)]
    assert "--json" in [name for option in options for name in option.opts]
    assert not [option.name for option in options if not option.help]


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
@pytest.mark.parametrize("path", FAILURES)
def test_a_failure_is_one_line_or_one_json_object_with_its_exit_code(path: str, as_json: bool, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"neither a folder nor a bundle")
    before = sorted(tmp_path.rglob("*"))
    words, code = FAILURES[path]
    arguments = words.format(file=file, none=tmp_path / "none", folder=tmp_path, ca=CA).split()
    result = CliRunner().invoke(main, [*path.split()[1:], *(["--json"] if as_json else []), *arguments])
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    if as_json and result.stdout:
        assert isinstance(json.loads(result.stdout), dict)
        assert result.stdout.count("\n") == 1
        assert lines == []
    elif code == 2:
        assert re.match(r"Error: (Invalid value for|Option) '(--\w+|JSON)'", lines[-1])
    elif not result.stdout:
        assert len(lines) == 1
        assert re.match(r"(fieldgate: )?\S.*: \S", lines[0]), "says where and what"
        assert str(tmp_path) in lines[0] or "no-such-profile" in lines[0]
    created = [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.name != "pulled"]
    assert created == [], "a command that fails leaves nothing"
