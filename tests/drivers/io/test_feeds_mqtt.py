"""JSON over MQTT with a real mosquitto: acknowledged after the commit, nothing lost and nothing twice over kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from buffers.db import Database
from buffers.queries import Queries
from drivers.io import feeds
from drivers.io.feed_mqtt import Client
from gateway.config_sources import JsonMqttConfig
from gateway.core.record import Record, parse_leaf
from tests.conftest import ROOT
from tests.drivers.jsonfeed.talk import PHONE, body, delivery
from tests.drivers.stack import ListSink, drive, running, until
from tests.uplink.broker import Broker, broker


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(feeds, "STORE_RETRY_S", 0.2)


class Bins:
    """An independent publisher: paho in its own thread."""

    def __init__(self, port: int) -> None:
        self.client = Paho(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def say(self, content: bytes, topic: str = "bins/B-1/report", qos: int = 1, *, retain: bool = False) -> None:
        self.client.publish(topic, content, qos, retain).wait_for_publish(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    with broker(tmp_path, "max_queued_messages 0") as made:
        yield made


@pytest.fixture
def bins(mosquitto: Broker) -> Iterator[Bins]:
    made = Bins(mosquitto.port)
    yield made
    made.close()


def config(mosquitto: Broker, **more: object) -> JsonMqttConfig:
    values: dict[str, object] = {"topics": ["bins/+/report"], "profile": "smart-bin", "device_level": 2, **more}
    return JsonMqttConfig(name="bins", url=f"mqtt://127.0.0.1:{mosquitto.port}", **values)  # type: ignore[arg-type]


def acknowledgements(mosquitto: Broker) -> int:
    return Path(mosquitto.log.name).read_text().count("Received PUBACK from fieldgate-")


async def subscribed(mosquitto: Broker, times: int = 1) -> None:
    await until(lambda: Path(mosquitto.log.name).read_text().count("Sending SUBACK to fieldgate-") >= times)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_become_readings_and_are_acknowledged(tmp_path, mosquitto, bins, protocol):
    async def scenario() -> None:
        async with running(config(mosquitto, protocol=protocol), tmp_path / "state") as source:
            await subscribed(mosquitto)
            for number in range(30):
                bins.say(body(**delivery(number, weight=number)))
            bins.say(b"no json")
            bins.say(body(**delivery(99, machine_id=None, weight=1)), topic="bins/B-7/report")
            await source.sink.until(lambda: len(source.sink.of("reading")) == 31)
            await until(lambda: acknowledgements(mosquitto) == 32)
            assert source.status.state == "ok"
        readings = source.sink.of("reading")
        assert [draft.data["sequence"] for draft in readings] == [str(number) for number in range(30)] + ["99"]
        assert readings[-1].device == "B-7"
        assert readings[-1].data["envelope"]["topic"] == "bins/B-7/report"
        assert [data["state"] for data in source.sink.data("device.state")] == ["online"]
        assert [data["reason"] for data in source.sink.data("device.gap")] == ["json"]
        assert not any(PHONE.encode() in (draft.raw or b"") for draft in source.sink.drafts)

    drive(scenario)


def test_nothing_is_acknowledged_while_the_store_is_full(tmp_path, mosquitto, bins):
    async def scenario() -> None:
        sink = ListSink()
        async with running(config(mosquitto), tmp_path / "state", sink) as source:
            await subscribed(mosquitto)
            await sink.until(lambda: len(sink.of("device.state")) == 1)
            sink.full = 1
            bins.say(body(**delivery(1, weight=1)))
            await until(lambda: source.status.state == "degraded")
            assert "the store is full" in source.status.reason
            assert acknowledgements(mosquitto) == 0
            await sink.until(lambda: len(sink.of("reading")) == 1)
            await until(lambda: acknowledgements(mosquitto) == 1 and source.status.state == "ok")

    drive(scenario)


def test_a_broker_that_goes_and_comes_back(tmp_path, mosquitto, bins):
    async def scenario() -> None:
        async with running(config(mosquitto), tmp_path / "state") as source:
            await subscribed(mosquitto)
            mosquitto.kill()
            await until(lambda: source.status.state == "down")
            assert "mqtt://127.0.0.1" in source.status.reason
            await asyncio.to_thread(mosquitto.start)
            await subscribed(mosquitto, 2)
            await until(lambda: source.status.state == "ok")
            await until(bins.client.is_connected)
            bins.say(body(**delivery(1, weight=1)))
            await source.sink.until(lambda: len(source.sink.of("reading")) == 1)
        assert [data["state"] for data in source.sink.data("device.state")][:2] == ["online", "offline"]

    drive(scenario)


def test_what_the_broker_had_kept_comes_once_and_says_so(tmp_path, mosquitto, bins):
    async def scenario() -> None:
        bins.say(body(**delivery(1, weight=1)), retain=True)
        sink = ListSink()
        for round_number in (1, 2):
            async with running(config(mosquitto), tmp_path / "state", sink) as source:
                await subscribed(mosquitto, round_number)
                bins.say(body(**delivery(round_number + 10, weight=1)))
                await sink.until(lambda wanted=round_number + 1: len(source.sink.of("reading")) == wanted)
        assert [draft.data["envelope"].get("retained") for draft in sink.of("reading")] == [True, None, None]

    drive(scenario)


def test_what_comes_while_we_are_away_is_kept_by_the_broker(tmp_path, mosquitto, bins):
    async def scenario() -> None:
        sink = ListSink()
        async with running(config(mosquitto), tmp_path / "state", sink):
            await subscribed(mosquitto)
        for number in range(25):
            bins.say(body(**delivery(number, weight=number)))
        async with running(config(mosquitto), tmp_path / "state", sink):
            await sink.until(lambda: len(sink.of("reading")) == 25)

    drive(scenario)


@pytest.mark.parametrize(
    ("more", "state", "reason"),
    [
        ({"url": "mqtt://127.0.0.1:1"}, "down", "refused"),
        ({"password_file": "/nowhere", "username": "x"}, "down", "/nowhere: password_file: cannot be read"),
        ({"url": "mqtts://127.0.0.1:1", "ca_file": "/nowhere"}, "down", "not usable for TLS"),
        ({"profile": "smart-bim"}, "disabled", "did you mean smart-bin?"),
        ({"profile": "jt808"}, "disabled", "is of a tracker; a feed's profile is needed"),
    ],
)
def test_what_cannot_work_says_why(tmp_path, more, state, reason):
    async def scenario() -> None:
        values = {"url": "mqtt://127.0.0.1:1", "topics": ["x"], "profile": "smart-bin", **more}
        async with running(JsonMqttConfig(name="bins", **values), tmp_path / "state") as source:
            await until(lambda: source.status.state == state and reason in source.status.reason)
            if state == "disabled":
                await source.sink.until(lambda: source.sink.data("device.state")[0]["state"] == "disabled")

    drive(scenario)


def test_a_topic_that_the_broker_refuses(tmp_path):
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """MQTT 5: CONNACK, then SUBACK with 135, not authorised."""
        await reader.read(1000)
        writer.write(bytes.fromhex("2003000000"))
        subscribe = await reader.read(1000)
        writer.write(bytes.fromhex("9004") + subscribe[2:4] + b"\x00\x87")
        await reader.read(1000)
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = JsonMqttConfig(name="bins", url=f"mqtt://127.0.0.1:{port}", topics=["a/#"], profile="smart-bin")
        async with running(found, tmp_path / "state") as source:
            await until(lambda: source.status.state == "down")
            assert "refuses the topic a/#: Not authorized; check the rights" in source.status.reason
        server.close()

    drive(scenario)


def test_a_broker_that_sends_more_than_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(feeds, "WAITING_MAX", 4)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """MQTT 5: twenty messages at once, whatever receive maximum says."""
        await reader.read(1000)
        writer.write(bytes.fromhex("2003000000"))
        subscribe = await reader.read(1000)
        writer.write(bytes.fromhex("9004") + subscribe[2:4] + b"\x00\x01")
        for number in range(1, 21):
            content = body(**delivery(number, weight=1))
            rest = b"\x00\x01b" + number.to_bytes(2, "big") + b"\x00" + content
            writer.write(b"\x32" + bytes([len(rest) % 128 | 128, len(rest) // 128]) + rest)
        while await reader.read(1000):
            pass
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(flood, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = JsonMqttConfig(name="bins", url=f"mqtt://127.0.0.1:{port}", topics=["b"], profile="smart-bin")
        known = {("bins", b"secret"): b"s" * 32, ("bins", b"client"): b"c" * 6}
        sink = ListSink(memory=known, full=1)  # of the first append, so that everything waits
        async with running(found, tmp_path / "state", sink) as source:
            await until(
                lambda: [data["state"] for data in source.sink.data("device.state")][:2] == ["online", "offline"]
            )
            assert "what was not taken comes again" in source.sink.data("device.state")[1]["reason"]
            await until(lambda: source.status.counters.get("not_taken", 0) >= 1)
        server.close()

    drive(scenario)


def test_a_cancellation_that_comes_with_the_result_is_not_lost():
    """asyncio.wait_for of Python 3.11 loses it, and a source that stops would wait for ever."""

    async def scenario() -> None:
        client = Client(lambda message: None, "127.0.0.1")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(client._wait_for(answer, 5))
            await asyncio.sleep(0)
            answer.set_result(1)
            waiting.cancel()
        assert waiting.cancelled()

    drive(scenario)


@pytest.mark.parametrize("says", [b"", b"\x20"])
def test_a_broker_that_never_answers_holds_nobody_up(tmp_path, says):
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        writer.write(says)
        await reader.read()
        writer.close()

    called = asyncio.Event()

    async def scenario() -> None:
        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = JsonMqttConfig(name="bins", url=f"mqtt://127.0.0.1:{port}", topics=["b"], profile="smart-bin")
        async with asyncio.timeout(5), running(found, tmp_path / "state"):
            await called.wait()
        server.close()

    drive(scenario)


# ------------------------------------------------------------------------------------------- kill -9


def start(state: Path, mosquitto: Broker, *, stalled: bool = False) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.drivers.io.feed_process", str(state), "json-mqtt", str(mosquitto.port)]
    environment = {**os.environ, **({"FEED_STALL": "1"} if stalled else {})}
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def wait(happened: object, limit_s: float = 30) -> None:
    end_s = time.monotonic() + limit_s
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end_s
        threading.Event().wait(0.02)


def stored(state: Path) -> list[Record]:
    """Also beside the running process."""
    with Database.open_readonly(state) as database:
        return [parse_leaf(leaf) for _, leaf in Queries(database).records(kind="reading", limit=10_000)]


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


def test_kill_9_between_receipt_and_commit(tmp_path, mosquitto, bins):
    """The broker has sent it, the gateway has read it, the disk has not: it comes again."""
    state = tmp_path / "state"
    state.mkdir()
    process = start(state, mosquitto, stalled=True)
    try:
        wait(lambda: "Sending SUBACK to fieldgate-" in Path(mosquitto.log.name).read_text())
        bins.say(body(**delivery(1, weight=1.5)))
        wait((state / "stalled").exists)
    finally:
        kill(process)
    assert acknowledgements(mosquitto) == 0
    assert stored(state) == []
    process = start(state, mosquitto)
    try:
        wait(lambda: acknowledgements(mosquitto) == 1)
    finally:
        kill(process)
    (record,) = stored(state)
    assert record.data["sequence"] == "1"
    assert json.loads(record.raw or b"")["phone_num"] == record.data["depositor"]


@pytest.mark.slow
def test_kill_9_under_load_loses_nothing_and_stores_nothing_twice(tmp_path, mosquitto, bins):
    state = tmp_path / "state"
    state.mkdir()
    process = start(state, mosquitto)
    try:
        wait(lambda: "Sending SUBACK to fieldgate-" in Path(mosquitto.log.name).read_text())
        for number in range(400):
            bins.client.publish("bins/B-1/report", body(**delivery(number, weight=number)), 1)
            if number % 100 == 50:
                wait(lambda target=number // 2: acknowledgements(mosquitto) >= target)
                kill(process)
                process = start(state, mosquitto)
        wait(lambda: sorted(int(record.data["sequence"]) for record in stored(state)) == list(range(400)))
    finally:
        kill(process)
    sequences = [int(record.data["sequence"]) for record in stored(state)]
    assert sorted(sequences) == list(range(400))
