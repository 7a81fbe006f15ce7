"""Topics and payloads of the live channel against the schemas that WIRE.md hands out, fed by real records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import kinds
from gateway.core.ports import LiveItem
from gateway.core.record import Draft
from gateway.live import Board
from gateway.rules.judging import Seen
from tests.conftest import ROOT
from tests.gateway.truck_case import judgement, position
from uplink import topics

FOLDER = ROOT / "uplink" / "schemas"
SCHEMAS: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def check(name: str, payload: bytes) -> None:
    jsonschema_rs.validator_for(SCHEMAS[name]).validate(json.loads(payload))


def item(topic: Any, key: str, **values: Any) -> LiveItem:
    return LiveItem(topic, key, 1, "muck-truck", "open", values)


def test_topics_name_gateway_source_and_device() -> None:
    assert topics.status_topic("fieldgate/v1", "gw-0001") == "fieldgate/v1/gw-0001/status"
    assert topics.topic_of("p", "gw", item("position", "trucks/138")) == "p/gw/position/trucks/138"
    assert topics.topic_of("p", "gw", item("state", "trucks/a/b+#%")) == "p/gw/state/trucks/a%2Fb%2B%23%25"
    assert topics.topic_of("p", "gw", item("finding", "ab" * 16)) == f"p/gw/finding/{'ab' * 16}"
    assert topics.topic_of("p", "gw", item("state", "trucks/")) == "p/gw/state/trucks/-"
    assert topics.level("设备 1") == "%E8%AE%BE%E5%A4%87 1"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_level_is_one_level_without_wildcards(text: str) -> None:
    found = topics.level(text)
    assert found
    assert not set(found) & set("+#/\0")
    assert found.isprintable()
    assert topics.level(text + "x") != found, "two devices never share a topic"


def test_payloads_are_canonical_json_of_whole_numbers() -> None:
    assert topics.payload_of(item("position", "a/b", b=1, a="浙")) == '{"a":"浙","b":1}'.encode()


@pytest.mark.parametrize(
    "data",
    [
        position(3, acc=True, alarms="overspeed", course_deg=359, alt_m=-3, satellites=9, lift="flat", locked=False),
        position(3, mileage_hm=17, driver_said="x", raw_lat_e7=1, status="s", held="load", hdop_e2=90),
        {"class": "muck-truck", "plate": "", "datum": "WGS-84", "flags": "void"},
        {"datum": "WGS-84", "fixes": [{"time_utc_s": 5, "lat_e7": 1, "lon_e7": 2, "sigma_m": 5}], "backfill": True},
    ],
)
def test_positions_fit_their_schema(data: dict[str, Any]) -> None:
    board = Board(lambda _: "open")
    board.position(Seen(17, kinds.POSITION, "trucks", "13800000017", 1_795_500_000_000_000_000, data))
    (shown,) = board.changes(0, 10)
    check("position", topics.payload_of(shown))


def test_states_and_findings_fit_their_schemas() -> None:
    board = Board(lambda _: "open")
    data = {"class": "muck-truck", "plate": "浙F12345", "state": "online", "reason": "authenticated", "link": 4}
    board.position(Seen(17, kinds.DEVICE_STATE, "trucks", "138", 5, data))
    for revision, state in ((1, "open"), (2, "withdrawn")):
        shape = {"id": "ab" * 16, "rule": "off-route", "state": state, "revision": revision, "class": "muck-truck"}
        body = judgement(False, (5,), end_utc_s=None).to_json()
        board.finding(18, Draft(kinds.FINDING, "gateway", "138", {**shape, "privacy": "open", "judgement": body}))
    for shown in board.changes(0, 10):
        check(shown.topic, topics.payload_of(shown))
    check("status", topics.ONLINE)
    check("status", topics.OFFLINE)


def test_schemas_refuse_what_is_not_in_them() -> None:
    for name, schema in SCHEMAS.items():
        assert schema["title"] == name
        assert not jsonschema_rs.validator_for(schema).is_valid({"surprise": 1})


def test_wire_md_names_every_topic_and_schema() -> None:
    page = (Path(ROOT) / "uplink" / "WIRE.md").read_text()
    assert not [name for name in SCHEMAS if f"schemas/{name}.json" not in page]
