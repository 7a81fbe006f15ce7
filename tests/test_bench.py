"""./dev bench without its work: every bench can be found and started, and a wrong name is one line."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace

import pytest

from tests.bench import __main__ as bench
from tests.bench.figure import at_least, at_most
from tests.conftest import ROOT


def test_every_bench_is_listed_and_can_be_started() -> None:
    measuring = {
        path.stem
        for path in (ROOT / "tests/bench").glob("*.py")
        if "\ndef run() -> " in path.read_text(encoding="utf-8")
    }
    assert measuring == set(bench.BENCHES)
    for name in bench.BENCHES:
        assert callable(importlib.import_module(f"tests.bench.{name}").run)


def test_an_unknown_bench_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["copy", "copi"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"bench: no bench named copi; there are {', '.join(bench.BENCHES)}\n"


@pytest.mark.parametrize(("limit", "code"), [(2.0, 0), (1.0, 1)])
def test_a_missed_goal_is_shown_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: float, code: int
) -> None:
    figures = [at_most("ours over theirs", 1.5, limit), at_least("records", 70_000, 50_000, "records/s")]
    monkeypatch.setattr(importlib, "import_module", lambda _: SimpleNamespace(run=lambda: iter(figures)))
    assert bench.main(["copy"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines] == ["MISS" if code else "met ", "met "]
    assert bench.main(["copy", "--json"]) == code
    assert [row["met"] for row in json.loads(capsys.readouterr().out)] == [not code, True]
