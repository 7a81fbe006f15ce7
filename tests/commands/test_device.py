"""`fieldgate device` against the API on a real Unix socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from gateway.commands import output
from gateway.core.ports import Outcome
from gateway.live import Board
from tests.api.box import filled
from tests.api.serving import app_of, served
from tests.api.test_roles import Desk
from tests.commands.test_cli import run
from tests.gateway.test_live import fix, privacy_of, seen
from tests.gateway.truck_case import configuration

SOURCE = '\n[[source]]\ntype = "jt808"\nname = "trucks"\n'


class Rig:
    """A served box, its configuration, and the desk that takes the orders."""

    def __init__(self, config: Path, desk: Desk) -> None:
        self.config, self.desk = config, desk

    def device(self, *words: str) -> Result:
        return run("device", *words, "--config", self.config)


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDGATE_LANG", "en")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("b")
    box = filled(folder)
    config = configuration(box, folder)
    config.write_text(config.read_text() + SOURCE)
    board = Board(privacy_of)
    board.position(seen(1, "13800000017", **fix(10, plate="浙F12345", speed_kmh_e1=423)))
    board.position(seen(2, "7", **fix(10, plate="浙F00007")))
    board.position(seen(3, "8", flags="void", plate="浙F00007"))
    desk = Desk()
    ready, end = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with served(box, app=app_of(box, board=board, orders=desk)):
            ready.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    yield Rig(config, desk)
    loop.call_soon_threadsafe(end.set)
    thread.join(20)
    loop.close()
    box.close()


@pytest.fixture(autouse=True)
def fresh(rig: Rig) -> None:
    rig.desk.given.clear()


def test_the_list_shows_where_devices_are(rig: Rig) -> None:
    lines = rig.device("list").stdout.splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:3] == ["trucks/13800000017", "浙F12345", "muck-truck"]
    assert "30.00000, 121.00000" in lines[1]
    assert "void" in lines[3]
    assert len(json.loads(rig.device("list", "--json").stdout)["devices"]) == 3


@pytest.mark.parametrize(
    ("words", "action", "parameters"),
    [
        (["locate"], "locate", {}),
        (["locate", "--timeout", "9"], "locate", {"timeout_s": 9}),
        (["track", "--every", "2", "--for", "60"], "track", {"interval_s": 2, "validity_s": 60}),
        (["track", "--stop"], "track", {"interval_s": 0}),
        (
            ["text", "请盖好顶盖", "--urgent"], "text",
            {"text": "请盖好顶盖", "urgent": True, "screen": False, "read_aloud": True},
        ),
        (
            ["shoot", "--photos", "3", "--every", "2"], "shoot",
            {"channel": 1, "save": False, "resolution": 2, "quality": 5, "photos": 3, "interval_s": 2},
        ),
        (
            ["shoot", "--video", "0"], "shoot",
            {"channel": 1, "save": False, "resolution": 2, "quality": 5, "video_s": 0},
        ),
        (
            ["set", "interval_default_s=10", 'apn="10"', "0x0029=-1"], "set",
            {"parameters": {"interval_default_s": 10, "apn": "10", "0x0029": -1}},
        ),
        (["query"], "query", {"parameters": []}),
        (["query", "apn"], "query", {"parameters": ["apn"]}),
        (["query", "--attributes"], "query", {"attributes": True}),
    ],
)  # fmt: skip
def test_orders_say_what_the_driver_understands(
    rig: Rig, words: list[str], action: str, parameters: dict[str, object]
) -> None:
    from drivers.jt808.requests import compose

    result = rig.device(words[0], "浙F12345", *words[1:], "--as", "Wang", "--key", "k")
    assert (result.exit_code, result.stderr) == (0, "")
    (order,) = rig.desk.given
    assert (order.source, order.device, order.action) == ("trucks", "13800000017", action)
    assert (order.key, order.claimed_by, order.actor[:6]) == ("k", "Wang", "local:")
    assert order.parameters == parameters
    if action != "set":
        assert compose(action, order.parameters)[0]


def test_any_order_may_be_given_by_its_name(rig: Rig) -> None:
    from drivers.hj212.requests import compose

    words = ("history", "message=2051", "begin=20261118080000", "end=20261118090000")
    assert rig.device("order", "trucks/13800000017", *words).exit_code == 0
    (order,) = rig.desk.given
    assert order.action == "history"
    wish = compose(order.action, order.parameters, "20261118120000")
    assert (wish.cn, wish.cp) == ("2051", "BeginTime=20261118080000;EndTime=20261118090000")
    assert rig.device("order", "trucks/13800000017", "time", "now").exit_code == 2


@pytest.mark.parametrize("action", ["area", "route"])
def test_areas_and_routes_come_from_a_file(rig: Rig, tmp_path: Path, action: str) -> None:
    path = tmp_path / "wishes.json"
    path.write_text('{"delete": [1]}')
    assert rig.device(action, "13800000017", str(path)).exit_code == 0
    assert rig.desk.given[0].parameters == {"delete": [1]}
    for wrong in ("[]", "{", ""):
        path.write_text(wrong)
        assert rig.device(action, "13800000017", str(path)).exit_code == 2


@pytest.mark.parametrize(
    ("state", "code", "text"),
    [
        ("done", 0, "done (record 7)"),
        ("refused", output.NEGATIVE, "refused (record 7) why"),
        ("unknown", output.NEGATIVE, "unknown device"),
        ("offline", output.UNAVAILABLE, "offline"),
        ("timeout", output.UNAVAILABLE, "no answer"),
    ],
)
def test_the_outcome_is_one_line_and_an_exit_code(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, state: str, code: int, text: str
) -> None:
    async def submit(_order: object) -> Outcome:
        return Outcome(state, "why", {}, 7)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.desk, "submit", submit)
    result = rig.device("locate", "trucks/13800000017")
    assert (result.exit_code, result.stdout.count("\n")) == (code, 1)
    assert text in result.stdout
    shown = json.loads(rig.device("locate", "trucks/13800000017", "--json").stdout)
    assert (shown["outcome"], shown["device"], len(shown["key"])) == (state, "13800000017", 32)
    monkeypatch.setenv("FIELDGATE_LANG", "zh")
    assert "trucks/13800000017 locate: " in rig.device("locate", "trucks/13800000017").stdout


def test_devices_are_found_by_name_plate_or_the_only_source(rig: Rig) -> None:
    assert rig.device("locate", "浙F00007").exit_code == output.NEGATIVE, "two devices have this plate"
    assert rig.device("locate", "13911111111").exit_code == 0
    assert [(order.source, order.device) for order in rig.desk.given] == [("trucks", "13911111111")]
    assert rig.device("set", "7", "no-equals").exit_code == 2


def test_without_a_gateway_there_is_nobody_to_ask(tmp_path: Path, rig: Rig) -> None:
    config = tmp_path / "other.toml"
    config.write_text(rig.config.read_text().replace('state_dir = "', f'state_dir = "{tmp_path}/none'))
    result = run("device", "list", "--config", config)
    assert result.exit_code == output.UNAVAILABLE
    assert "fieldgate run" in result.stderr
