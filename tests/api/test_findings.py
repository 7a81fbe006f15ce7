"""Findings over HTTP: filters, pages, history, bundle and page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.roles import SCOPE_KEY, Caller, Role
from gateway.ledger import verify
from gateway.ledger.trust import Trust
from tests.api.box import NOW, Box
from tests.api.serving import app_of, ask
from tests.gateway.truck_case import START_S, finding, judgement, truck_case


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = truck_case(tmp_path)
    yield made
    made.close()


@pytest.fixture
def app(box: Box) -> ASGIApp:
    return app_of(box)


def listed(app: ASGIApp, words: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(app, "GET", f"/v1/findings{words}").json()["findings"]
    return found


def test_a_list_holds_the_newest_revisions_and_takes_filters(box: Box, app: ASGIApp) -> None:
    other = judgement(False, (5,), rule="speeding", start_utc_s=START_S + 4, end_utc_s=None)
    box.records(finding(other, 1))
    assert [(one["seq"], one["state"]) for one in listed(app)] == [(34, "closed"), (36, "open")]
    assert [one["seq"] for one in listed(app, "?rule=speeding")] == [36]
    assert [one["seq"] for one in listed(app, "?state=closed")] == [34]
    assert [one["seq"] for one in listed(app, "?device=13800000017")] == [34, 36]
    assert listed(app, "?device=nobody") == []
    assert [one["seq"] for one in listed(app, "?from=2026-11-24T14:00:05%2B08:00")] == [34]
    assert [one["seq"] for one in listed(app, "?to=2026-11-24T14:00:05%2B08:00")] == [36]
    assert listed(app)[0]["plate"] == "浙F12345"
    assert "judgement" not in listed(app)[0]


def test_pages_lead_on(box: Box, app: ASGIApp) -> None:
    box.records(*(finding(judgement(True, (5,), start_utc_s=START_S + n), 1) for n in range(5)))
    path, seqs = "/v1/findings?limit=2&state=closed", []
    while path:
        answer = ask(app, "GET", path).json()
        seqs += [one["seq"] for one in answer["findings"]]
        path = answer["next"]
    assert seqs == [34, 36, 37, 38, 39, 40]


def test_one_finding_has_its_judgement_and_its_history(box: Box, app: ASGIApp) -> None:
    name = judgement(True, (12,)).id
    found = ask(app, "GET", f"/v1/findings/{name}").json()
    assert found == ask(app, "GET", "/v1/findings/33").json()
    assert found["judgement"]["inputs"] == list(range(12, 23))
    assert [(one["seq"], one["revision"], one["state"]) for one in found["revisions"]] == [
        (33, 1, "open"),
        (34, 2, "closed"),
    ]
    for wrong in ("3", "99", "f" * 32, "x", "%F0", "0" * 99):
        answer = ask(app, "GET", f"/v1/findings/{wrong}")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:fieldgate:problem:not-found")


@pytest.mark.parametrize("words", ["?state=gone", "?rule=No+Rule", "?from=yesterday", "?rules=x", "?limit=0"])
def test_a_wrong_parameter_is_refused(app: ASGIApp, words: str) -> None:
    assert ask(app, "GET", f"/v1/findings{words}").status_code == 400


def test_the_export_verifies_and_the_page_names_it(box: Box, app: ASGIApp, tmp_path: Path) -> None:
    answer = ask(app, "GET", "/v1/findings/34/export")
    assert answer.status_code == 200
    out = tmp_path / "case.tar"
    out.write_bytes(answer.content)
    report = verify.verify(out, Trust([box.authority.pem]), now=NOW)
    assert report.ok, report.checks
    assert ask(app, "GET", "/v1/findings/34/export").headers["etag"] == answer.headers["etag"]
    part = ask(app, "GET", "/v1/findings/34/export", {"range": "bytes=0-99"})
    assert (part.status_code, part.content) == (206, answer.content[:100])
    page = ask(app, "GET", "/v1/findings/34/report.html")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert hashlib.sha256(answer.content).hexdigest() in page.text
    assert answer.headers["content-disposition"].split('"')[1] in page.text
    again = ask(app, "GET", "/v1/findings/34/report.html", {"if-none-match": page.headers["etag"]})
    assert again.status_code == 304


def test_before_the_seal_there_is_a_page_and_no_export(box: Box, app: ASGIApp) -> None:
    box.records(finding(judgement(True, (12,)), 3))
    answer = ask(app, "GET", "/v1/findings/34/export")
    assert answer.status_code == 409
    assert answer.headers["retry-after"] == "10"
    page = ask(app, "GET", "/v1/findings/34/report.html")
    assert page.status_code == 200
    assert "尚未封存" in page.text


def test_slots_are_given_back_whatever_happens(box: Box, app: ASGIApp) -> None:
    for _ in range(4):
        assert ask(app, "GET", "/v1/findings/99/export").status_code == 404
        assert ask(app, "GET", "/v1/findings/99/report.html").status_code == 404
        assert ask(app, "HEAD", "/v1/findings/34/export").status_code == 200
    assert ask(app, "GET", "/v1/findings/34/export").status_code == 200


def test_findings_about_officers_are_for_the_platform_alone(tmp_path: Path) -> None:
    box = truck_case(tmp_path, privacy="process")
    app = app_of(box)

    def asked(path: str, role: Role) -> httpx.Response:
        async def called(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, SCOPE_KEY: Caller(role, role)}, receive, send)

        return ask(called, "GET", path)

    roles: tuple[Role, ...] = ("viewer", "operator")
    for role in roles:
        assert asked("/v1/findings", role).json()["findings"] == []
        for path in ("/v1/findings/34", "/v1/findings/33/export", "/v1/findings/34/report.html"):
            assert asked(path, role).status_code == 403
    assert len(asked("/v1/findings", "full").json()["findings"]) == 1
    assert asked("/v1/findings/34/report.html", "full").status_code == 200
    box.close()


def test_findings_about_trucks_are_for_viewers_too(app: ASGIApp) -> None:
    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, SCOPE_KEY: Caller("viewer", "viewer")}, receive, send)

    assert len(listed(called)) == 1
    assert ask(called, "GET", "/v1/findings/34/export").status_code == 200
