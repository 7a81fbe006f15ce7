"""JSON over HTTP on real sockets: 200 after the commit, everything else bounded and said in one line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from buffers.db import Database
from buffers.queries import Queries
from drivers.io import feed_http, feeds
from gateway.config_sources import JsonHttpConfig
from gateway.core.record import Record, parse_leaf
from tests.conftest import ROOT
from tests.drivers.jsonfeed.talk import PHONE, body, delivery
from tests.drivers.stack import ListSink, Station, drive, running, until

TOKEN = "correct-horse-battery-staple"
AUTH = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(feeds, "STORE_RETRY_S", 0.2)
    monkeypatch.setattr(feeds, "FILES_RETRY_S", 0.1)


def config(folder: Path, **more: Any) -> JsonHttpConfig:
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0", "profile": "smart-bin", "token_file": str(token), "body_max_bytes": 4096,
    }  # fmt: skip
    return JsonHttpConfig(name="bins", **(values | more))


@asynccontextmanager
async def posting(
    folder: Path, sink: ListSink | None = None, headers: dict[str, str] | None = None, **more: Any
) -> AsyncIterator[tuple[Station, httpx.AsyncClient]]:
    async with running(config(folder, **more), folder / "state", sink) as source:
        await until(lambda: bool(source.status.addresses))
        found = AUTH if headers is None else headers
        async with httpx.AsyncClient(base_url=source.status.addresses[0], headers=found, timeout=20) as client:
            yield source, client


def test_what_is_posted_is_stored_and_answered(tmp_path):
    async def scenario() -> None:
        async with posting(tmp_path) as (source, client):
            answers = [
                await client.post("/anything", content=body(**delivery(number, weight=1))) for number in (1, 2, 1)
            ]
            assert [answer.status_code for answer in answers] == [200] * 3
            assert [answer.json() for answer in answers] == [{"code": 0, "msg": "ok"}] * 3  # the profile's answer
            assert (await client.put("/", content=b'{"machine_id": "B-1"}')).status_code == 200
            assert source.status.state == "ok"
            await until(lambda: source.status.counters.get("messages") == 4)
            assert source.status.counters["repeated"] == 1
        assert [draft.data["sequence"] for draft in source.sink.of("reading")] == ["1", "2"]
        assert [data["reason"] for data in source.sink.data("device.gap")] == ["nothing-read"]
        assert PHONE.encode() not in source.sink.of("reading")[0].raw

    drive(scenario)


def test_our_own_answer_counts(tmp_path):
    async def scenario() -> None:
        async with posting(tmp_path, profile="fume-cloud") as (_, client):
            row = {"mn": "F1", "id": 1, "dataTime": 1_772_411_400_000, "fume": {"avg": 1}}
            message = json.dumps({"data": [row, {**row, "mn": "F2"}]})
            assert (await client.post("/", content=message)).json() == {"stored": 2, "repeated": 0}
            assert (await client.post("/", content=message)).json() == {"stored": 0, "repeated": 2}
            assert (await client.post("/", content=b'{"data": []}')).json() == {"stored": 0, "repeated": 0, "unread": 1}

    drive(scenario)


def test_two_of_the_same_at_once_are_stored_once(tmp_path):
    async def scenario() -> None:
        async with posting(tmp_path) as (source, client):
            same = body(**delivery(1, weight=1))
            answers = await asyncio.gather(*(client.post("/", content=same) for _ in range(10)))
            assert {answer.status_code for answer in answers} == {200}
        assert len(source.sink.of("reading")) == 1

    drive(scenario)


@pytest.mark.parametrize(
    ("method", "headers", "content", "status", "text"),
    [
        ("POST", {}, b"{}", 401, "Authorization: Bearer"),
        ("POST", {"authorization": "Bearer wrong-horse-battery-staple"}, b"{}", 401, "Authorization: Bearer"),
        ("POST", {"authorization": f"Basic {TOKEN}"}, b"{}", 401, "Authorization: Bearer"),
        ("GET", AUTH, b"", 405, "post a JSON message"),
        ("POST", {**AUTH, "content-encoding": "gzip"}, b"x", 415, "without Content-Encoding"),
        ("POST", AUTH, b"x" * 5000, 413, "at most 4096 bytes"),
        ("POST", AUTH, b"[" * 4000, 400, "nested deeper than 32"),
        ("POST", AUTH, b'{"a":1,"a":2}', 400, "stands twice"),
        ("POST", AUTH, b'{"weight":NaN}', 400, "expected a value"),
        ("POST", AUTH, b'{"weight":' + b"9" * 4000 + b"}", 200, ""),
        ("POST", AUTH, "{}".encode("utf-16"), 400, "not UTF-8"),
        ("POST", AUTH, b"", 400, "expected a value at character 0"),
    ],
)
def test_what_is_not_taken_says_why(tmp_path, method, headers, content, status, text):
    async def scenario() -> None:
        async with posting(tmp_path, headers={}) as (source, client):
            answer = await client.request(method, "/", content=content, headers=headers)
            assert answer.status_code == status
            assert text in answer.text
            assert (await client.post("/", content=body(**delivery(1, weight=1)), headers=AUTH)).status_code == 200
        assert len(source.sink.of("reading")) == 1

    drive(scenario)


def test_strangers_are_counted_and_told(tmp_path):
    async def scenario() -> None:
        async with posting(tmp_path, headers={}) as (source, client):
            for _ in range(20):
                assert (await client.post("/", content=b"{}")).status_code == 401
            assert source.status.counters["unauthorized"] == 20
        first, rest = source.sink.data("device.state")
        assert (first["state"], first["address"], first["count"], rest["count"]) == ("refused", "127.0.0.1", 1, 19)

    drive(scenario)


def test_a_full_store_answers_503_and_nothing_is_lost(tmp_path):
    async def scenario() -> None:
        sink = ListSink()
        async with posting(tmp_path, sink) as (source, client):
            sink.full = 1
            async with asyncio.TaskGroup() as group:
                first = group.create_task(client.post("/", content=body(**delivery(1, weight=1))))
                await until(lambda: source.status.state == "degraded")
                answer = await client.post("/", content=body(**delivery(2, weight=1)))
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
            assert first.result().status_code == 200  # it waited
            assert (await client.post("/", content=body(**delivery(2, weight=1)))).status_code == 200
            await until(lambda: source.status.state == "ok")
        assert len(sink.of("reading")) == 2

    drive(scenario)


def test_who_hangs_up_before_the_answer_finds_it_stored(tmp_path):
    async def scenario() -> None:
        sink = ListSink()
        async with posting(tmp_path, sink) as (source, client):
            sink.full = 1
            with contextlib.suppress(httpx.ReadTimeout):
                await client.post("/", content=body(**delivery(1, weight=1)), timeout=0.1)
            await until(lambda: source.status.state == "ok")
            await client.post("/", content=body(**delivery(1, weight=1)))
        assert len(sink.of("reading")) == 1

    drive(scenario)


def test_slow_senders_and_silent_connections_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(feed_http, "HEAD_TIMEOUT_S", 0.1)
    monkeypatch.setattr(feed_http, "BODY_TIMEOUT_S", 0.2)
    monkeypatch.setattr(feed_http, "TICK_S", 0.05)

    async def scenario() -> None:
        async with posting(tmp_path) as (source, client):
            host, port = source.status.addresses[0].removeprefix("http://").split(":")
            _, silent = await asyncio.open_connection(host, port)
            reader, slow = await asyncio.open_connection(host, port)
            head = f"POST / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 100\r\n\r\n{{"
            slow.write(head.encode())
            assert b"408" in await reader.readline()
            drip_reader, drip = await asyncio.open_connection(host, port)
            drip.write(b"GET / HTTP/1.1\r\nhost:")
            assert await drip_reader.read() == b""
            for writer in (silent, slow, drip):
                writer.close()
            assert (await client.post("/", content=body(**delivery(1, weight=1)))).status_code == 200

    drive(scenario)


def test_heads_and_connections_are_bounded(tmp_path):
    async def scenario() -> None:
        async with posting(tmp_path, connections_max=3) as (source, client):
            host, port = source.status.addresses[0].removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\n")
            with contextlib.suppress(OSError):
                for _ in range(40):
                    writer.write(b"x-filler: " + b"y" * 1000 + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(0)
            with contextlib.suppress(ConnectionResetError):
                assert (await reader.read()).startswith(b"HTTP/1.1 400")
            writer.close()
            held = [await asyncio.open_connection(host, port) for _ in range(4)]
            answer = await client.post("/", content=body(**delivery(1, weight=1)))
            assert answer.status_code == 503
            for _, one in held:
                one.close()

    drive(scenario)


def certificate(folder: Path) -> tuple[Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", str(key), "-out", str(cert), "-days", "20000", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


def test_tls(tmp_path):
    key, cert = certificate(tmp_path)

    async def scenario() -> None:
        more = {"certificate_file": str(cert), "key_file": str(key)}
        async with running(config(tmp_path, **more), tmp_path / "state") as source:
            await until(lambda: bool(source.status.addresses))
            assert source.status.addresses[0].startswith("https://")
            context = ssl.create_default_context(cafile=str(cert))
            async with httpx.AsyncClient(base_url=source.status.addresses[0], headers=AUTH, verify=context) as client:
                assert (await client.post("/", content=body(**delivery(1, weight=1)))).status_code == 200

    drive(scenario)


def test_files_and_addresses_that_cannot_be_used_are_waited_for(tmp_path):
    async def scenario() -> None:
        short = tmp_path / "short"
        short.write_text("short")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            for more, reason in (
                ({"token_file": str(tmp_path / "none")}, "token_file: cannot be read: No such file"),
                ({"token_file": str(short)}, "expected one line of 16 to 512 characters"),
                ({"listen": address}, f"cannot listen on {address}: Address already in use; is the address another"),
                ({"certificate_file": str(short), "key_file": str(short)}, "cannot use this certificate and key"),
            ):
                async with running(config(tmp_path, **more), tmp_path / "state") as source:
                    await until(lambda: source.status.state == "down" and source.status.reason != "not connected yet")
                    assert reason in source.status.reason
        async with running(config(tmp_path, token_file=str(short)), tmp_path / "state") as source:
            await until(lambda: source.status.state == "down")
            short.write_text(TOKEN)
            await until(lambda: source.status.state == "ok")

    drive(scenario)


# ------------------------------------------------------------------------------------------- kill -9


def test_kill_9_between_receipt_and_commit(tmp_path):
    """No answer, so the poster comes again; what was answered is there, once."""
    state, token = tmp_path / "state", tmp_path / "token"
    state.mkdir()
    token.write_text(TOKEN)
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "tests.drivers.io.feed_process", str(state), "json-http", str(port), str(token)]
    answers: list[int] = []
    for stalled in (True, False):
        environment = {**os.environ, **({"FEED_STALL": "1"} if stalled else {})}
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        try:
            wait(lambda: connects(port))
            for number in (1, 2, 1):
                with contextlib.suppress(httpx.ReadTimeout):
                    content = body(**delivery(number, weight=1))
                    answer = httpx.post(
                        f"http://127.0.0.1:{port}", content=content, headers=AUTH, timeout=0.5 if stalled else 20
                    )
                    answers.append(answer.status_code)
            if stalled:
                wait((state / "stalled").exists)
                assert answers == []
        finally:
            process.kill()
            process.wait(10)
    assert answers == [200] * 3
    assert sorted(record.data["sequence"] for record in stored(state)) == ["1", "2"]


def connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait(happened: Any, limit_s: float = 30) -> None:
    end_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end_s
        threading.Event().wait(0.02)


def stored(state: Path) -> list[Record]:
    with Database.open_readonly(state) as database:
        return [parse_leaf(leaf) for _, leaf in Queries(database).records(kind="reading", limit=1000)]
