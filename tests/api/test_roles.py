"""Roles: what a viewer and an operator may see and do, path by path, over the application with real tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from gateway.api.auth import BearerAuth
from gateway.api.openapi import document
from gateway.core.errors import StoreFull
from gateway.core.ports import Order, Outcome
from gateway.live import Board
from tests.api.box import Box, draft
from tests.api.serving import NoOrders, app_of, ask
from tests.gateway.test_live import finding, fix, privacy_of, seen
from tests.gateway.truck_case import finding as finding_record
from tests.gateway.truck_case import judgement, truck_case

TOKENS = {"full": "full-token-0123456789", "operator": "operator-token-012345", "viewer": "viewer-token-01234567"}
LOOKERS = ("operator", "viewer")


@dataclass
class Desk(NoOrders):
    """Port `Orders`: keeps what it was handed."""

    given: list[Order] = field(default_factory=list)
    full: bool = False

    async def submit(self, order: Order) -> Outcome:
        if self.full:
            raise StoreFull("no room")
        self.given.append(order)
        return Outcome("done", "the device has done it", {"lat_e7": 5}, 7)


@dataclass
class Rig:
    box: Box
    app: ASGIApp
    desk: Desk
    officer: int
    """seq of a record of an officer's device."""
    case: str
    """id of a finding of a truck."""
    private_case: str


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    box = truck_case(tmp_path_factory.mktemp("box"))
    officer = box.record("position", "officer-1", **{"class": "officer", "lat_e7": 1})
    for kind, data in (
        ("position", {}),  # nobody said a class
        ("device.state", {"class": "gone", "state": "online"}),
        ("reading", {"class": "muck-truck"}),
        ("operator.action", {"action": "device.text", "parameters": {"text": "secret"}}),
        ("operator.action", {"action": "pin"}),
        ("ingest.refused", {"reason": "x"}),
    ):
        box.records(draft(kind, "d", **data))
    private = judgement(True, (officer,), start_utc_s=77)
    box.records(finding_record(private, 1))
    box.change("SELECT 1")
    board = Board(privacy_of)
    board.position(seen(1, "138", **fix(10)))
    board.position(seen(2, "7", **fix(10, **{"class": "officer"})))
    board.finding(3, finding("ab" * 16))
    desk = Desk()
    app = BearerAuth(app_of(box, board=board, orders=desk), TOKENS)  # type: ignore[arg-type]
    yield Rig(box, app, desk, officer, judgement(True, (12,)).id, private.id)
    box.close()


def get(rig: Rig, role: str, path: str) -> httpx.Response:
    return ask(rig.app, "GET", path, {"authorization": f"Bearer {TOKENS[role]}"})


def post(rig: Rig, role: str, path: str, **more: Any) -> httpx.Response:
    return ask(rig.app, "POST", path, {"authorization": f"Bearer {TOKENS[role]}"}, **more)


ORDER = {"action": "locate", "key": "k1", "parameters": {"timeout_s": 20}, "actor": "Wang"}


@pytest.mark.parametrize("role", LOOKERS)
def test_private_records_stand_in_lists_by_seq_and_kind_only(rig: Rig, role: str) -> None:
    path = f"/v1/records?after={rig.officer - 1}"
    shown = {one["seq"] - rig.officer: one for one in get(rig, role, path).json()["records"]}
    withheld = {at for at, one in shown.items() if one.get("withheld")}
    assert withheld == {0, 1, 2, 4, 6}
    assert shown[0] == {"kind": "position", "seq": rig.officer, "v": 1, "withheld": True}
    assert get(rig, role, "/v1/records?device=officer-1").json() == {"records": [], "next": None}
    assert len(get(rig, "full", "/v1/records?device=officer-1").json()["records"]) == 1
    assert not any("withheld" in one for one in get(rig, "full", path).json()["records"])


@pytest.mark.parametrize("role", LOOKERS)
def test_private_records_and_their_proofs_are_forbidden(rig: Rig, role: str) -> None:
    for path in (f"/v1/records/{rig.officer}", f"/v1/records/{rig.officer}/proof"):
        answer = get(rig, role, path)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:fieldgate:problem:forbidden")
    assert get(rig, "full", f"/v1/records/{rig.officer}").status_code == 200
    open_one = next(one for one in get(rig, role, "/v1/records?kind=position").json()["records"] if "data" in one)
    for path in (f"/v1/records/{open_one['seq']}", f"/v1/records/{open_one['seq']}/proof"):
        assert get(rig, role, path).status_code == 200


@pytest.mark.parametrize("role", LOOKERS)
def test_files_and_batches_are_forbidden_while_anything_is_private(rig: Rig, role: str) -> None:
    digest = rig.box.artifacts(1)[0].sha256
    paths = ("/v1/batches/1/bundle", "/v1/export?seq=1", f"/v1/artifacts/{digest}")
    for path in paths:
        assert get(rig, role, path).status_code == 403
        assert get(rig, "full", path).status_code == 200
    for path in ("/v1/batches", "/v1/batches/1", "/v1/checkpoint", "/v1/sources", "/v1/health", "/metrics"):
        assert get(rig, role, path).status_code == 200
    receipt = post(rig, role, "/v1/batches/1/receipt", json={"receipt": "", "signature": "", "artifacts": ""})
    assert receipt.status_code == 403


@pytest.mark.parametrize("role", LOOKERS)
def test_devices_of_a_private_class_are_not_there(rig: Rig, role: str) -> None:
    assert [one["device"] for one in get(rig, role, "/v1/devices").json()["devices"]] == ["138"]
    everything = get(rig, "full", "/v1/devices").json()["devices"]
    assert [(one["device"], one["class"]) for one in everything] == [("138", "muck-truck"), ("7", "officer")]
    assert everything[0]["position"]["time_utc_s"] == 10
    assert everything[0]["state"] is None
    page = get(rig, "full", "/v1/devices?limit=1").json()
    assert [one["device"] for one in get(rig, "full", page["next"]).json()["devices"]] == ["7"]


@pytest.mark.parametrize("role", LOOKERS)
def test_findings_follow_their_class(rig: Rig, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(rig, role, f"/v1/findings/{rig.case}").status_code == 200
    assert get(rig, role, f"/v1/findings/{rig.case}/export").status_code == 200
    monkeypatch.setattr("tests.api.serving.OPEN", ("receiver",))
    for path in ("", "/export", "/report.html"):
        assert get(rig, role, f"/v1/findings/{rig.case}{path}").status_code == 403
    assert get(rig, role, "/v1/findings").json()["findings"] == []
    assert get(rig, "full", "/v1/findings").json()["findings"]


def test_orders_take_a_role_and_an_open_class(rig: Rig) -> None:
    rig.desk.given.clear()
    path, private = "/v1/devices/trucks/138/orders", "/v1/devices/trucks/7/orders"
    assert post(rig, "viewer", path, json=ORDER).status_code == 403
    assert post(rig, "operator", private, json=ORDER).status_code == 403
    assert post(rig, "operator", "/v1/devices/trucks/unknown/orders", json=ORDER).status_code == 403
    assert rig.desk.given == []
    answer = post(rig, "operator", path, json=ORDER)
    assert (answer.status_code, answer.json()) == (
        200,
        {"outcome": "done", "detail": "the device has done it", "result": {"lat_e7": 5}, "seq": 7},
    )
    assert post(rig, "full", private, json=ORDER).status_code == 200
    assert rig.desk.given == [
        Order("trucks", "138", "locate", {"timeout_s": 20}, "operator", "k1", "Wang"),
        Order("trucks", "7", "locate", {"timeout_s": 20}, "full", "k1", "Wang"),
    ]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({**ORDER, "parameters": {"speed": 1.5}}, 422, "float"),
        ({**ORDER, "parameters": {"a": [{"b": 2.0}]}}, 422, "parameters.a[0].b"),
        ({**ORDER, "parameters": {"n": 2**60}}, 422, "2^53"),
        ({**ORDER, "action": "Locate!"}, 422, "action"),
        ({**ORDER, "key": "a b"}, 422, "key"),
        ({**ORDER, "actor": "x" * 200}, 422, "actor"),
        ({**ORDER, "acton": 1}, 400, "acton"),
        ({"action": "locate"}, 400, "key"),
        ({**ORDER, "parameters": {"text": "x" * 70_000}}, 413, "65536"),
    ],
)
def test_an_order_that_cannot_be_recorded_is_refused(rig: Rig, body: Any, status: int, text: str) -> None:
    rig.desk.given.clear()
    answer = post(rig, "full", "/v1/devices/trucks/138/orders", json=body)
    assert answer.status_code == status
    assert text in answer.json()["detail"]
    assert rig.desk.given == []


def test_hostile_bodies_and_a_full_store(rig: Rig) -> None:
    path = "/v1/devices/trucks/138/orders"
    json_type = {"content-type": "application/json"}
    deep = b'{"action":"a","key":"k","parameters":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}"
    for content in (deep, b"", b"[]", b"\xff", b'{"action":"a","key":"k","parameters":{"a":NaN}}'):
        answer = ask(rig.app, "POST", path, {"authorization": f"Bearer {TOKENS['full']}", **json_type}, content=content)
        assert answer.status_code in (400, 422), content[:20]
    assert post(rig, "full", path, content=b"{}").status_code == 415, "a form of another site cannot order"
    assert post(rig, "full", "/v1/devices/Trucks/138/orders", json=ORDER).status_code == 404
    rig.desk.full = True
    answer = post(rig, "full", path, json=ORDER)
    rig.desk.full = False
    assert (answer.status_code, answer.headers["retry-after"]) == (507, "60")


def test_a_viewer_finds_no_path_that_forgets_the_question(rig: Rig) -> None:
    """Every path of the document, as a viewer, on what belongs to an officer: no answer holds the officer's place."""
    filled = {"{seq}": str(rig.officer), "{id}": str(rig.officer), "{n}": "1", "{sha256}": "0" * 64,
              "{source}": "trucks", "{device}": "7"}  # fmt: skip
    for path in document()["paths"]:
        for name, value in filled.items():
            path = path.replace(name, value)  # noqa: PLW2901
        answer = get(rig, "viewer", path)
        assert b"officer-1" not in answer.content, path
        assert b'"trucks/7"' not in answer.content, path
