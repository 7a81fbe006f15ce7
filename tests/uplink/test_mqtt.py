"""The live channel against a real broker: birth and will, breaks, refusals, black holes, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config import Config, GatewayConfig, KeysConfig, LiveConfig, StorageConfig
from gateway.core.errors import ConfigError
from gateway.core.ports import LiveStatus
from gateway.live import Board
from tests.api.authority import Authority
from tests.gateway.doubles import Moment
from tests.gateway.test_live import finding, fix, privacy_of, seen
from tests.uplink.broker import LIMIT_S, Broker, Subscriber, broker
from uplink import mqtt_client
from uplink.mqtt_client import run_live

ROOT = "fieldgate/v1/gw-0001"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("RETRY_MIN_S", 0.05), ("RETRY_MAX_S", 0.2), ("PAUSE_S", 0.02), ("TICK_S", 0.1)):
        monkeypatch.setattr(mqtt_client, name, seconds)


def configuration(url: str, **live: Any) -> Config:
    return Config(
        gateway=GatewayConfig(id="gw-0001"),
        storage=StorageConfig(state_dir="/nowhere"),
        keys=KeysConfig(key_file="/nowhere/key"),
        live=LiveConfig(url=url, **live),
    )


class Running:
    """A live channel under way."""

    def __init__(self) -> None:
        self.board = Board(privacy_of)
        self.status = LiveStatus()
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until something holds that the channel itself keeps."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def channel(config: Config) -> AsyncIterator[Running]:
    running = Running()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            run_live(config, running.board, Moment(), tick=running.tick, fraction=lambda: 0.0, status=running.status)
        )
        try:
            yield running
        finally:
            task.cancel()


def url_of(found: Broker) -> str:
    return f"mqtt://127.0.0.1:{found.port}"


def test_birth_values_and_a_clean_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        with broker(tmp_path) as server, Subscriber(server.port) as reader:
            async with channel(configuration(url_of(server))) as running:
                await reader.wait(lambda: reader.on(f"{ROOT}/status") == [{"state": "online"}])
                running.board.position(seen(1, "138", **fix(10)))
                running.board.finding(2, finding("ab" * 16))
                await reader.wait(lambda: reader.on(f"{ROOT}/finding/{'ab' * 16}"))
                await reader.wait(lambda: reader.on(f"{ROOT}/position/trucks/138"))
                assert running.status.state == "ok"
                await running.until(lambda: running.status.published == 2)
                qos = {topic.split("/")[3]: qos for topic, _, _, qos in reader.messages}
                assert qos == {"status": 1, "finding": 1, "position": 0}
            await reader.wait(lambda: reader.on(f"{ROOT}/status")[-1] == {"state": "offline"})
            with Subscriber(server.port) as late:
                await late.wait(lambda: len(late.messages) == 2)
                retained = {topic: is_retained for topic, _, is_retained, _ in late.messages}
                assert retained == {f"{ROOT}/status": True, f"{ROOT}/position/trucks/138": True}

    asyncio.run(scenario())


def test_a_cancellation_that_comes_with_an_acknowledgement_is_not_lost() -> None:
    async def scenario() -> None:
        client, acknowledged = mqtt_client.Client("127.0.0.1"), asyncio.Event()

        async def wait() -> None:
            await client._wait_for(acknowledged.wait(), None)

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait())
            for _ in range(5):
                await asyncio.sleep(0)
            acknowledged.set()
            waiting.cancel()
        assert waiting.cancelled()

    asyncio.run(scenario())


def test_the_will_tells_of_a_gateway_that_is_cut_off(tmp_path: Path) -> None:
    """The broker itself cuts it off: somebody else comes with the same client identifier."""

    def intrude(port: int) -> None:
        client = Client(CallbackAPIVersion.VERSION2, client_id="fieldgate-gw-0001", protocol=MQTTv5)
        client.connect("127.0.0.1", port)
        client.loop(1.0)
        client.disconnect()
        client.loop(0.1)

    async def scenario() -> None:
        with broker(tmp_path) as server, Subscriber(server.port, f"{ROOT}/status") as reader:
            async with channel(configuration(url_of(server))) as running:
                await reader.wait(lambda: reader.on(f"{ROOT}/status") == [{"state": "online"}])
                await asyncio.to_thread(intrude, server.port)
                said = [{"state": "online"}, {"state": "offline"}, {"state": "online"}]
                await reader.wait(lambda: reader.on(f"{ROOT}/status") == said)
                await running.until(lambda: running.status.state == "ok")
                assert running.status.reason == f"{url_of(server)}: the connection was lost"

    asyncio.run(scenario())


def test_every_finding_arrives_over_a_killed_broker_and_positions_are_conflated(tmp_path: Path) -> None:
    names = [f"{number:032x}" for number in range(60)]

    async def scenario() -> None:
        with broker(tmp_path) as server, Subscriber(server.port) as reader:
            async with channel(configuration(url_of(server))) as running:
                board = running.board

                def found() -> set[str]:
                    return {topic.rpartition("/")[2] for topic in server.received() if "/finding/" in topic}

                for seq, name in enumerate(names[:20]):
                    board.finding(seq, finding(name))
                    board.position(seen(seq, "138", **fix(seq)))
                await running.until(lambda: len(found()) > 3)
                server.kill()
                await running.until(lambda: running.status.state == "unreachable")
                for seq, name in enumerate(names[20:], 20):
                    board.finding(seq, finding(name))
                for seq in range(1000):
                    board.position(seen(seq, "138", **fix(1000 + seq)))
                before = running.status.published
                server.start()
                await running.until(lambda: found() == set(names))
                topic = f"{ROOT}/position/trucks/138"
                await reader.wait(lambda: reader.on(topic) and reader.on(topic)[-1]["time_utc_s"] == 1999)
                assert running.status.published - before < 40 + 20 + 20, "a thousand positions became few"
                assert running.status.dropped == 0
                assert running.ticks > 3

    asyncio.run(scenario())


def test_findings_beyond_the_queue_are_dropped_and_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        with broker(tmp_path) as server:
            server.kill()
            async with channel(configuration(url_of(server), queue_max=5)) as running:
                await running.until(lambda: running.status.state == "unreachable")
                assert "refused" in running.status.reason
                for seq in range(8):
                    running.board.finding(seq, finding(f"{seq:032x}"))
                await running.until(lambda: running.status.dropped == 3)

    asyncio.run(scenario())


def passwords(folder: Path) -> Path:
    path = folder / "passwords"
    command = ["mosquitto_passwd", "-b", "-c", str(path), "gateway", "right"]
    subprocess.run(command, check=True, capture_output=True)
    path.chmod(0o644)
    return path


def test_a_wrong_password_is_refused_told_once_and_not_hammered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_client, "RETRY_MIN_S", 60.0)
    monkeypatch.setattr(mqtt_client, "RETRY_MAX_S", 60.0)
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")

    async def scenario() -> None:
        with broker(tmp_path, f"password_file {passwords(tmp_path)}") as server:
            config = configuration(url_of(server), username="gateway", password_file=str(secret))
            async with channel(config) as running:
                await running.until(lambda: running.status.state == "refused")
                ticks, tried = running.ticks, server.connections()
                await running.until(lambda: running.ticks > ticks + 5)
                assert server.connections() == tried
                assert running.status.reason.count("\n") == 0
                assert "check user name, password" in running.status.reason
            secret.write_text("right\n")
            async with channel(config) as running:
                await running.until(lambda: running.status.state == "ok")

    asyncio.run(scenario())


def test_a_finding_that_the_broker_does_not_take_stays_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No right to the topic: MQTT 5 acknowledges it all the same, with a reason code."""
    monkeypatch.setattr(mqtt_client, "RETRY_MIN_S", 60.0)
    monkeypatch.setattr(mqtt_client, "RETRY_MAX_S", 60.0)
    rights = tmp_path / "rights"
    rights.write_text("topic write fieldgate/v1/+/status\ntopic read #\n")
    rights.chmod(0o600)
    topic = f"{ROOT}/finding/{'ab' * 16}"

    async def scenario() -> None:
        with broker(tmp_path, f"acl_file {rights}") as server, Subscriber(server.port) as reader:
            async with channel(configuration(url_of(server))) as running:
                running.board.finding(2, finding("ab" * 16))
                await running.until(lambda: running.status.state == "refused")
                await reader.wait(lambda: reader.on(f"{ROOT}/status")[-1:] == [{"state": "offline"}])
                assert f"does not take {topic}: Not authorized" in running.status.reason
                assert (running.status.published, running.status.dropped) == (0, 0)
                ticks, tried = running.ticks, server.connections()
                await running.until(lambda: running.ticks > ticks + 5)
                assert server.connections() == tried

    asyncio.run(scenario())


def test_what_was_not_taken_goes_again_once_the_right_is_there(tmp_path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic write fieldgate/v1/+/status\ntopic read #\n")
    rights.chmod(0o600)

    async def scenario() -> None:
        with broker(tmp_path, f"acl_file {rights}") as server:
            async with channel(configuration(url_of(server))) as running:
                running.board.finding(2, finding("ab" * 16))
                await running.until(lambda: running.status.state == "refused")
                rights.write_text("topic readwrite #\n")
                server.kill()
                server.start()
                await running.until(lambda: running.status.state == "ok" and running.status.published == 1)
            assert f"{ROOT}/finding/{'ab' * 16}" in server.received()

    asyncio.run(scenario())


def test_a_broker_that_hangs_up_again_and_again_is_asked_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_client, "RETRY_MIN_S", 0.05)
    monkeypatch.setattr(mqtt_client, "RETRY_MAX_S", 60.0)
    monkeypatch.setattr(mqtt_client, "KEEPALIVE_S", 2)  # paho may miss a hang-up in the middle of its hand-shake
    gaps: list[float] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gaps.append(asyncio.get_running_loop().time())
        writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"offline")  # the will stands in CONNECT
            await reader.readuntil(b"online")
            writer.write(b"\x40\x02\x00\x01")  # PUBACK
            await writer.drain()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with channel(configuration(f"mqtt://127.0.0.1:{port}")) as running:
                await running.until(lambda: len(gaps) >= 5)

    asyncio.run(scenario())
    assert gaps[4] - gaps[3] >= 0.2, "at least half of 0.05 s doubled three times"


def test_a_broker_that_swallows_everything_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_client, "TIMEOUT_S", 0.3)
    connections = 0

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK, and then nothing more
        with contextlib.suppress(OSError):
            while await reader.read(65_536):
                pass
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with channel(configuration(f"mqtt://127.0.0.1:{port}")) as running:
                await running.until(lambda: connections >= 2)
                assert running.status.state == "unreachable"
                assert running.status.published == 0

    asyncio.run(scenario())


def tls_lines(folder: Path, authority: Authority) -> list[str]:
    certificate, key = authority.tls_files(folder, "broker", server=True)
    (folder / "ca.pem").write_bytes(authority.pem)
    for path in (certificate, key, folder / "ca.pem"):
        path.chmod(0o644)
    return [f"certfile {certificate}", f"keyfile {key}", f"cafile {folder / 'ca.pem'}", "require_certificate true"]


# paho leaves the socket of a failed handshake to the garbage collector, which says so
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_with_certificates_of_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_client, "TIMEOUT_S", 1.0)
    authority = Authority()
    lines = tls_lines(tmp_path, authority)
    certificate, key = authority.tls_files(tmp_path, "client", server=False)
    strangers = tmp_path / "strangers.pem"
    strangers.write_bytes(Authority("Strangers").pem)

    async def scenario() -> None:
        with broker(tmp_path, *lines) as server:
            config = configuration(
                f"mqtts://127.0.0.1:{server.port}",
                ca_file=str(tmp_path / "ca.pem"),
                certificate_file=str(certificate),
                key_file=str(key),
            )
            async with channel(config) as running:
                await running.until(lambda: running.status.state == "ok")
            for wrong in ({"ca_file": str(strangers)}, {"certificate_file": "", "key_file": ""}):
                changed = msgspec.structs.replace(config, live=msgspec.structs.replace(config.live, **wrong))
                async with channel(changed) as running:
                    await running.until(lambda: running.status.state == "unreachable")
                    assert running.status.published == 0

    asyncio.run(scenario())
    gc.collect()


@pytest.mark.parametrize(
    ("scheme", "key", "text"),
    [("mqtts", "ca_file", "PEM"), ("mqtt", "password_file", "UTF-8"), ("mqtt", "password_file", "No such file")],
)
def test_files_that_will_not_do_are_named(tmp_path: Path, scheme: str, key: str, text: str) -> None:
    path = tmp_path / "given"
    if "No such" not in text:
        path.write_bytes(b"\xff junk")
    config = configuration(f"{scheme}://127.0.0.1:1", **{key: str(path)}, username="x")

    async def scenario() -> None:
        await run_live(
            config, Board(privacy_of), Moment(), tick=lambda: None, fraction=lambda: 0.0, status=LiveStatus()
        )

    with pytest.raises(ConfigError, match=text):
        asyncio.run(scenario())
