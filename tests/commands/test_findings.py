"""What the rules found, at the terminal: the list, the export with its page, the replay."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.commands import findings as commands
from gateway.commands import status_view
from gateway.commands.output import columns_of
from gateway.findings import current
from tests.api.box import Box
from tests.commands.test_cli import SNAPSHOT, run
from tests.gateway.truck_case import FILES, START_S, configuration, finding, judgement, truck_case


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", "en")


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[Path, Box]]:
    folder = tmp_path / "box"
    folder.mkdir()
    box = truck_case(folder)
    yield configuration(box, tmp_path), box
    box.close()


def test_the_list_shows_each_finding_once_and_fits_the_terminal(
    stored: tuple[Path, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, box = stored
    box.records(finding(judgement(False, (5,), rule="speeding", start_utc_s=START_S + 4, end_utc_s=None), 1))
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("findings", config).stdout.splitlines()
    assert len(lines) == 3
    assert max(map(columns_of, lines)) <= 80
    assert [line.split()[0] for line in lines[1:]] == ["36", "34"], "by the begin of the event"
    monkeypatch.setenv("COLUMNS", "200")
    assert "off the route by <655> m" in run("findings", config).stdout
    assert len(run("findings", config, "--rule", "speeding").stdout.splitlines()) == 2
    assert run("findings", config, "--device", "nobody").stdout == "no findings\n"
    assert run("findings", config, "--state", "withdrawn").stdout == "no findings\n"
    assert "1 earlier" in run("findings", config, "--limit", "1").stdout


def test_the_list_as_json_takes_times_with_and_without_offset(stored: tuple[Path, Box]) -> None:
    config, _ = stored
    found = json.loads(run("findings", config, "--json").stdout)
    assert [one["seq"] for one in found["findings"]] == [34]
    assert found["findings"][0]["plate"] == "浙F12345"

    def count(*words: str) -> int:
        return len(json.loads(run("findings", config, "--json", *words).stdout)["findings"])

    assert count("--from", "2026-11-24 14:00:10") == 1
    assert count("--from", "2026-11-24T06:00:11Z") == 0
    assert count("--to", "2026-11-24 14:00:10") == 0
    assert count("--to", "2026-11-25") == 1
    wrong = run("findings", config, "--from", "yesterday")
    assert wrong.exit_code == 2
    assert "2026-06-15 20:00" in wrong.stderr


def test_a_narrow_terminal_loses_the_text_first(stored: tuple[Path, Box]) -> None:
    _, box = stored
    found = current(box.reader)
    for width in (20, 60, 100, 300):
        lines = commands.listing(found, width)
        assert max(map(columns_of, lines)) <= width
    assert commands.cut("偏离路线655米", 7) == "偏离路…"


def test_exporting_a_finding_writes_a_bundle_that_verifies_and_a_page_that_names_it(
    stored: tuple[Path, Box], tmp_path: Path
) -> None:
    config, box = stored
    out = tmp_path / "case.tar"
    result = json.loads(run("export", config, "--finding", "34", "--out", out, "--json").stdout)
    assert result["seqs"] == list(range(35))
    assert result["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    verified = run("verify", out, "--ca", box.ca_file)
    assert verified.exit_code == 0, verified.stdout
    with tarfile.open(out) as tar:
        names = [Path(name).name for name in tar.getnames()]
    assert {"record-0.json", "record-33.json", "record-34.json"} <= set(names)
    assert any(name.endswith(".jpg") for name in names)
    page = (tmp_path / "case.html").read_text()
    assert result["sha256"] in page
    assert result["page"] == str(tmp_path / "case.html")
    by_id = run("export", config, "--finding", result["finding"], "--out", tmp_path / "again.tar")
    assert by_id.exit_code == 0
    assert by_id.stdout.splitlines()[-1] == str(tmp_path / "again.html")


def test_an_export_says_what_is_wrong_in_one_line(stored: tuple[Path, Box], tmp_path: Path) -> None:
    config, box = stored
    out = tmp_path / "case.tar"
    unknown = run("export", config, "--finding", "f" * 32, "--out", out)
    assert unknown.exit_code == 1
    assert "fieldgate findings" in unknown.stderr
    box.records(finding(judgement(True, (12,)), 3))
    waiting = run("export", config, "--finding", "34", "--out", out)
    assert waiting.exit_code == 1
    assert "record 36 is not sealed yet" in waiting.stderr
    assert not out.exists()
    assert run("export", config, "--out", out).exit_code == 2
    assert run("export", config, "--seq", "1", "--finding", "34", "--out", out).exit_code == 2
    assert run("export", config, "--finding", "34", "--out", tmp_path / "case.html").exit_code == 2


def test_a_replay_compares_and_exits_1_where_the_log_says_otherwise(stored: tuple[Path, Box], tmp_path: Path) -> None:
    """The finding of this box was made by hand: no judge finds it."""
    config, box = stored
    result = run("rules", "replay", config)
    assert result.exit_code == 1
    assert "stored, not found again" in result.stderr
    assert result.stderr.splitlines()[-1] == "same 0, differ 0, missing 1, extra 0"
    assert run("rules", "replay", config, "--device", "nobody").exit_code == 0
    assert run("rules", "replay", config, "--to", "34").exit_code == 1, "its inputs lie before"
    assert run("rules", "replay", config, "--from", "23").exit_code == 0
    assert run("rules", "replay", config, "--from", "2026-12-01").exit_code == 0
    found = json.loads(run("rules", "replay", config, "--json").stdout)
    assert found["compared"]["missing"] == [current(box.reader)[0].id]
    assert found["what_if"] is None
    folder = tmp_path / "book"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "permits.toml").unlink()
    imagined = run("rules", "replay", config, "--book", folder)
    assert imagined.exit_code == 1
    assert imagined.stderr.startswith("WHAT IF")


def test_the_status_shows_how_the_judge_is_doing() -> None:
    judge = {
        "book_sha256": "ab" * 32,
        "book_error": "",
        "findings_open": 3,
        "backlog_records": 1200,
        "findings_told": 9,
    }
    text = "\n".join(status_view.lines({**SNAPSHOT, "judge": judge}))
    assert "book abababababab, 3 findings open, 1,200 records behind" in text
    assert "no rule book" in "\n".join(status_view.lines({**SNAPSHOT, "judge": {**judge, "book_sha256": ""}}))
    assert "book" not in "\n".join(status_view.lines({**SNAPSHOT, "judge": None}))
