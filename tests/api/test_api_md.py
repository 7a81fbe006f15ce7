"""API.md says what the API does: paths, parameters and kinds of problems."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.api.openapi import document
from gateway.api.problem import KINDS

PAGE = (Path(__file__).parents[2] / "gateway" / "api" / "API.md").read_text()


def test_every_path_has_a_row_with_its_parameters() -> None:
    for path, item in document()["paths"].items():
        for method in item.keys() & {"get", "post"}:
            (row,) = re.findall(rf"^\| `{method.upper()} {re.escape(path)}` \|.*$", PAGE, re.MULTILINE)
            for parameter in item[method]["parameters"]:
                if parameter["in"] == "query":
                    assert f"`{parameter['name']}`" in row


def test_every_error_of_a_path_is_in_its_row() -> None:
    everywhere = {"400", "401", "403", "412", "503"}
    for path, item in document()["paths"].items():
        for method in item.keys() & {"get", "post"}:
            (row,) = re.findall(rf"^\| `{method.upper()} {re.escape(path)}` \|.*$", PAGE, re.MULTILINE)
            listed = set(re.findall(r"\b[45]\d\d\b", row.rsplit("|", 2)[1]))
            documented = {status for status in item[method]["responses"] if status >= "400"}
            assert listed == documented - everywhere, path


def test_every_kind_of_problem_has_a_row() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", PAGE, re.MULTILINE)
    assert [(kind, int(status)) for kind, status in rows] == [(kind, status) for kind, (status, _) in KINDS.items()]
