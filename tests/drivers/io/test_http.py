"""HTTP stations: the simulated one on a real uvicorn, and hostile ones on a bare socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from drivers.bodycam.simulator import StationSimulator, listing_app
from gateway.config_sources import StationHttpConfig
from tests.drivers.stack import ListSink, drive, running

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def http_config(url: str, **more: Any) -> StationHttpConfig:
    values: dict[str, Any] = {"profile": "generic-http", "poll_s": 0.1, "stable_s": 0.05, "timeout_s": 5.0, **more}
    return StationHttpConfig(name="station-1", url=url, **values)


# ----------------------------------------------------------------------------- a station as made


@asynccontextmanager
async def serving(folder: Path, page_size: int) -> AsyncIterator[str]:
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(listing_app(folder, page_size), log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[sock]))
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True


def test_all_pages_of_a_station_are_taken(tmp_path):
    simulator = StationSimulator(tmp_path / "station", seed=5, recorders=4)
    while len(simulator.truth) < 60:
        simulator.step()
    simulator.finish()

    async def scenario():
        async with (
            serving(tmp_path / "station", 50) as url,
            running(http_config(url, profile="jingyi"), tmp_path / "state") as run,
        ):
            files = await run.files(len(simulator.truth))
            await run.listings()
        assert {draft.artifacts[0].sha256 for draft in files} == {file.sha256 for file in simulator.truth}
        assert len(files) == len(simulator.truth)
        assert not run.sink.gaps()
        (offset,) = run.sink.data("station.clock_offset")[:1]
        assert offset["how"] == "http-date"
        assert files[0].data["listing"]["fields"]["unit"] == "330100000000"

    drive(scenario)


# --------------------------------------------------------------------------------- hostile ones

Answer = Callable[[str, dict[str, str], asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A bare server: `answer(target, headers, writer)` writes what it likes; one request per connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
            await answer(head[0].split(" ")[1], headers, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def reply(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", **headers: Any) -> None:
    lines = {"Content-Length": len(body), "Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()}}
    head = "".join(f"{key}: {value}\r\n" for key, value in lines.items() if value is not None)
    writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)


def items(*rows: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"items": rows, **more}).encode()


FILE = {"name": "a.bin", "url": "/file", "size": len(CONTENT), "mtime": "1"}


async def run_until(tmp_path: Path, answer: Answer, happened: Callable[[ListSink], bool], **config: Any) -> ListSink:
    sink = ListSink()
    async with answering(answer) as url, running(http_config(url + "/list", **config), tmp_path / "state", sink):
        await sink.until(lambda: happened(sink))
    return sink


def has(kind: str, count: int = 1) -> Callable[[ListSink], bool]:
    return lambda sink: len(sink.of(kind)) >= count


@pytest.mark.parametrize("validator", [{"ETag": '"v1"'}, {"Last_Modified": "Mon, 02 Mar 2026 08:00:00 GMT"}])
def test_a_server_that_closes_in_the_middle_is_resumed_by_range(tmp_path, validator):
    asked: list[str] = []

    async def answer(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if target == "/list":
            return reply(writer, items(FILE))
        start = int(headers.get("range", "bytes=0-")[6:-1])
        asked.append(headers.get("if-range", ""))
        if start:
            body, status = CONTENT[start:], "206 Partial Content"
            extra = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        else:
            body, status, extra = CONTENT, "200 OK", {}
        return reply(writer, body[:1_200_000], status, **{**extra, **validator, "Content_Length": len(body)})

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.file"))
        (file,) = sink.of("station.file")
        assert file.artifacts[0].sha256 == SHA256
        assert file.data["resumed_at_bytes"] > 2_000_000
        states = [data["state"] for data in sink.data("station.state")]
        assert states == ["up", "down", "up", "down", "up"]
        value = next(iter(validator.values()))
        assert set(asked) == {"", value.lower()}
        assert not sink.gaps()

    drive(scenario)


def test_without_a_validator_a_broken_download_starts_again(tmp_path):
    turns: list[int] = []

    async def answer(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if target == "/list":
            return reply(writer, items(FILE))
        assert "range" not in headers
        turns.append(1)
        return reply(writer, CONTENT if len(turns) > 2 else CONTENT[:999_999], Content_Length=len(CONTENT))

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.file"))
        (file,) = sink.of("station.file")
        assert (file.artifacts[0].sha256, file.data["resumed_at_bytes"]) == (SHA256, 0)

    drive(scenario)


def test_another_version_behind_the_same_name_is_never_mixed(tmp_path):
    """The first half comes from version 1; the server has version 2 when the rest is asked for."""
    second = os.urandom(len(CONTENT))
    turns: list[int] = []

    async def answer(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if target == "/list":
            return reply(writer, items(FILE))
        turns.append(1)
        if len(turns) == 1:
            return reply(writer, CONTENT[:1_500_000], Content_Length=len(CONTENT), ETag='"v1"')
        return reply(writer, second, ETag='"v2"')

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.file"))
        (file,) = sink.of("station.file")
        assert file.artifacts[0].sha256 == hashlib.sha256(second).hexdigest()

    drive(scenario)


def test_a_server_that_ignores_if_range_at_resume(tmp_path):
    """200 to a range request, or the wrong range: begun again from nothing."""
    turns: list[int] = []

    async def answer(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if target == "/list":
            return reply(writer, items(FILE))
        turns.append(1)
        if len(turns) == 1:
            return reply(writer, CONTENT[:1_500_000], Content_Length=len(CONTENT), ETag='"v1"')
        if "range" in headers:
            wrong = f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"
            return reply(writer, CONTENT, "206 Partial Content", Content_Range=wrong, ETag='"v1"')
        return reply(writer, CONTENT, ETag='"v1"')

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.file"))
        assert sink.of("station.file")[0].artifacts[0].sha256 == SHA256

    drive(scenario)


def test_a_declared_hash_that_does_not_hold_is_recorded(tmp_path):
    async def answer(target: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if target == "/list":
            return reply(writer, items({**FILE, "sha256": "ab" * 32, "size": 7}))
        return reply(writer, CONTENT)

    async def scenario():
        sink = await run_until(tmp_path, answer, lambda sink: len(sink.gaps()) == 2)
        (file,) = sink.of("station.file")
        assert file.artifacts[0].sha256 == SHA256
        assert file.data["declared"]["sha256_holds"] is False
        assert {reason for _, reason in sink.gaps()} == {"sha256-mismatch", "size-mismatch"}

    drive(scenario)


def test_items_that_lead_elsewhere_are_not_asked_for(tmp_path):
    rows = [
        {**FILE, "name": "other.bin", "url": "http://127.0.0.2:1/x"},
        {**FILE, "name": "scheme.bin", "url": "file:///etc/passwd"},
        {**FILE, "name": "login.bin", "url": "http://user:pass@127.0.0.1/x"},
        {**FILE, "name": "nul\x00.bin", "url": "/file"},
        {**FILE, "name": "../up.bin", "url": "/file2"},
        {**FILE, "name": "../up.bin", "url": "/file3"},
        {**FILE, "name": "x" * 2000},
    ]

    async def answer(target: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if target == "/list":
            return reply(writer, items(*rows))
        assert target in {"/file", "/file2"}
        return reply(writer, target.encode())

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.file", 2))
        assert {data["path"] for data in sink.data("station.file")} == {"nul\\u{0}.bin", "../up.bin"}
        assert {(path[:10], reason) for path, reason in sink.gaps()} >= {
            ("other.bin", "other-host"),
            ("scheme.bin", "other-host"),
            ("login.bin", "other-host"),
            ("../up.bin", "duplicate-name"),
            ("x" * 10, "name-too-long"),
        }

    drive(scenario)


def test_redirects_stay_on_the_host(tmp_path):
    async def answer(target: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if target == "/list":
            return reply(writer, b"", "302 Found", Location="/real")
        if target == "/real":
            return reply(writer, items(FILE))
        if target == "/file":
            return reply(writer, b"", "307 Temporary Redirect", Location="/file?signed=1")
        return reply(writer, CONTENT)

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.file"))
        assert sink.of("station.file")[0].artifacts[0].sha256 == SHA256

    drive(scenario)


LISTING_FAULTS: dict[str, tuple[bytes, str, dict[str, Any], str]] = {
    "not JSON": (b"<html>", "200 OK", {}, "not what the profile says"),
    "error object": (b'{"code": 401}', "200 OK", {}, "no array"),
    "login": (b"", "401 Unauthorized", {}, "check token_file"),
    "gone": (b"", "404 Not Found", {}, "check url"),
    "broken": (b"", "500 Internal Server Error", {}, "HTTP 500"),
    "cut": (b"{", "200 OK", {"Content_Length": 99}, "RemoteProtocolError"),
    "loop": (b"", "302 Found", {"Location": "/list"}, "more than 5 redirects"),
    "away": (b"", "302 Found", {"Location": "http://127.0.0.2/"}, "another host"),
    "huge": (b" " * 4_200_000, "200 OK", {}, "larger than"),
    "gzip bomb": (b"not gzip", "200 OK", {"Content_Encoding": "gzip"}, "DecodingError"),
    "page loop": (items(next="/list"), "200 OK", {}, "a page twice"),
    "next elsewhere": (items(next="http://127.0.0.2/"), "200 OK", {}, "another host"),
}


@pytest.mark.parametrize("fault", sorted(LISTING_FAULTS))
def test_listings_that_fail_are_one_record_with_a_reason(tmp_path, fault):
    body, status, headers, reason = LISTING_FAULTS[fault]

    async def answer(_target: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        return reply(writer, body, status, **headers)

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.state"))
        (data,) = sink.data("station.state")
        assert data["state"] == "down"
        assert reason in data["reason"]

    drive(scenario)


DOWNLOAD_FAULTS: dict[str, tuple[bytes, str, dict[str, Any], str]] = {
    "refused": (b"", "403 Forbidden", {}, "permission-denied"),
    "gone": (b"", "404 Not Found", {}, "vanished"),
    "broken": (b"", "503 Service Unavailable", {}, "http-status"),
    "encoded": (b"x", "200 OK", {"Content_Encoding": "gzip"}, "encoded"),
    "promises too much": (b"x", "200 OK", {"Content_Length": 10**9}, "too-big"),
    "sends too much": (b"x" * 5_000_000, "200 OK", {"Content_Length": None}, "too-big"),
}


@pytest.mark.parametrize("fault", sorted(DOWNLOAD_FAULTS))
def test_downloads_that_fail_are_gaps(tmp_path, fault):
    body, status, headers, reason = DOWNLOAD_FAULTS[fault]

    async def answer(target: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if target == "/list":
            return reply(writer, items({**FILE, "size": None}))
        return reply(writer, body, status, **headers)

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.gap"), file_max_bytes=4_000_000)
        assert sink.gaps() == {("a.bin", reason)}
        assert not sink.of("station.file")

    drive(scenario)


def test_pages_have_a_limit(tmp_path):
    async def answer(target: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        number = int(target.partition("=")[2] or 0)
        return reply(writer, items(next=f"/list?n={number + 1}"))

    async def scenario():
        sink = await run_until(tmp_path, answer, has("station.gap"), pages_max=5)
        assert sink.gaps() == {("", "pages-limit")}

    drive(scenario)


def test_the_token_is_sent_and_a_missing_listing_disables(tmp_path):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    seen: list[str] = []

    async def answer(_target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        seen.append(headers.get("authorization", ""))
        return reply(writer, items())

    async def scenario():
        await run_until(tmp_path, answer, has("station.state"), token_file=str(token))
        assert seen[0] == "bearer s3cret"
        sink = await run_until(tmp_path, answer, has("station.state"), profile="dsj")
        assert sink.data("station.state")[0]["state"] == "disabled"

    drive(scenario)


def test_nobody_listens(tmp_path):
    async def scenario():
        sink = ListSink()
        with socket.socket() as taken:  # bound and not listening: nobody else can come to listen there meanwhile
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            async with running(http_config(url), tmp_path / "state", sink) as run:
                await sink.until(lambda: bool(sink.of("station.state")))
                assert run.status.state == "down"

    drive(scenario)


def test_tls_is_checked_against_the_given_ca(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=station"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    async def answer(_target: str, _headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        return reply(writer, items())

    async def first_state(ca_file: str) -> dict[str, Any]:
        sink = ListSink()
        async with answering(answer, tls) as url, running(http_config(url, ca_file=ca_file), tmp_path / "state", sink):
            await sink.until(lambda: bool(sink.of("station.state")))
        return sink.data("station.state")[0]  # type: ignore[no-any-return]

    async def scenario():
        assert (await first_state(str(certificate)))["state"] == "up"
        refused = await first_state("")
        assert refused["state"] == "down"
        assert "CERTIFICATE_VERIFY_FAILED" in refused["reason"]

    drive(scenario)
