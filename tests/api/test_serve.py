"""Listeners: Unix socket, TLS, who may come in, what slow or rude clients cost, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from gateway.api import serve
from gateway.api.auth import BearerAuth
from gateway.api.problem import MEDIA_TYPE
from gateway.api.streams import BUNDLES_MAX
from gateway.config import ApiConfig
from gateway.core.errors import ConfigError, TransientError
from tests.api.authority import Authority
from tests.api.box import Box, filled
from tests.api.serving import TOKEN, served, tls_config

BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that no test changes."""
    made = filled(tmp_path_factory.mktemp("box"))
    yield made
    made.close()


@pytest.fixture
def own_box(tmp_path: Path) -> Iterator[Box]:
    """A box for one test."""
    made = filled(tmp_path)
    yield made
    made.close()


def unix_client(address: str) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=address.removeprefix("unix:"))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


def tls_client(box: Box, address: str, pair: tuple[Path, Path] | None = None) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=str(box.ca_file))
    if pair is not None:
        context.load_cert_chain(*pair)
    return httpx.AsyncClient(verify=context, base_url=address, trust_env=False)


# ---------------------------------------------------------------- Unix socket


LOOPS = [asyncio.new_event_loop] + ([import_module("uvloop").new_event_loop] if find_spec("uvloop") else [])


@pytest.mark.parametrize("new_loop", LOOPS)
def test_the_unix_socket_needs_no_token_and_is_private(
    box: Box, tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def scenario() -> None:
        async with served(box, tls_config(tmp_path, box.authority)) as (local, _remote):
            assert stat.S_IMODE(os.stat(local.removeprefix("unix:")).st_mode) == 0o600  # noqa: PTH116
            async with unix_client(local) as client:
                assert (await client.get("/v1/checkpoint")).json()["size"] == 21
                bundle = await client.get("/v1/batches/1/bundle")
                assert len(bundle.content) == int(bundle.headers["content-length"])

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())
    assert not serve.socket_path(box.state_dir).exists()


def test_a_stale_socket_is_replaced_and_a_file_is_not(own_box: Box) -> None:
    path = serve.socket_path(own_box.state_dir)
    path.parent.mkdir()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()

    async def scenario() -> None:
        async with served(own_box) as (local,), unix_client(local) as client:
            assert (await client.get("/v1/health")).status_code == 200

    asyncio.run(scenario())
    path.write_text("mine")
    with pytest.raises(ConfigError, match="not a socket"):
        serve.open_local(own_box.state_dir, BearerAuth(None, ""))  # type: ignore[arg-type]
    assert path.read_text() == "mine"


def test_a_state_folder_with_a_long_path_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shorter state_dir"):
        serve.open_local(tmp_path / ("x" * 100), BearerAuth(None, ""))  # type: ignore[arg-type]


# ---------------------------------------------------------------- TLS, tokens, certificates


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong-token-0123456789"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")],
    ],
)
def test_a_wrong_token_is_401(box: Box, tmp_path: Path, headers: Any) -> None:
    async def scenario() -> None:
        async with served(box, tls_config(tmp_path, box.authority)) as (_, remote), tls_client(box, remote) as client:
            for path in ("/v1/checkpoint", "/metrics", "/nowhere"):
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, answer.headers["content-type"]) == (401, MEDIA_TYPE)
                assert answer.headers["www-authenticate"] == 'Bearer realm="fieldgate"'
            assert (await client.get("/v1/checkpoint", headers=BEARER)).status_code == 200

    asyncio.run(scenario())


def test_a_client_certificate_of_the_ca_is_demanded(box: Box, tmp_path: Path) -> None:
    clients, strangers = Authority("Clients"), Authority("Strangers")
    good = clients.tls_files(tmp_path, "good", server=False)
    bad = strangers.tls_files(tmp_path, "bad", server=False)
    server_role = clients.tls_files(tmp_path, "wrong-role", server=True)

    async def scenario() -> None:
        async with served(box, tls_config(tmp_path, box.authority, token=False, client_ca=clients)) as (_, remote):
            async with tls_client(box, remote, good) as client:
                assert (await client.get("/v1/checkpoint")).status_code == 200
            for pair in (None, bad, server_role):
                async with tls_client(box, remote, pair) as client:
                    with pytest.raises(httpx.TransportError):
                        await client.get("/v1/checkpoint")

    asyncio.run(scenario())


def test_token_and_certificate_together(box: Box, tmp_path: Path) -> None:
    clients = Authority("Clients")
    pair = clients.tls_files(tmp_path, "good", server=False)

    async def scenario() -> None:
        async with served(box, tls_config(tmp_path, box.authority, client_ca=clients)) as (_, remote):
            async with tls_client(box, remote, pair) as client:
                assert (await client.get("/v1/checkpoint")).status_code == 401
                assert (await client.get("/v1/checkpoint", headers=BEARER)).status_code == 200
            plain = remote.replace("https:", "http:")
            async with httpx.AsyncClient(trust_env=False) as client:
                with pytest.raises(httpx.TransportError):
                    await client.get(f"{plain}/v1/checkpoint", headers=BEARER)

    asyncio.run(scenario())


def make(folder: Path, **changes: str) -> ApiConfig:
    config = tls_config(folder, Authority())
    values = {name: getattr(config, name) for name in config.__struct_fields__}
    return ApiConfig(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"certificate_file": ""}, "api.certificate_file: required"),
        ({"key_file": ""}, "api.key_file: required"),
        ({"certificate_file": "/nowhere.pem"}, "No such file"),
        ({"client_ca_file": "/nowhere.pem"}, "api.client_ca_file"),
        ({"token_file": "/nowhere"}, "api.token_file: cannot read"),
        ({"token_file": ""}, "nobody may read without either"),
        ({"listen": "127.0.0.1"}, "expected address:port"),
        ({"listen": "127.0.0.1:99999"}, "expected address:port"),
        ({"listen": "gateway.example:8443"}, "not an IP address"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        serve.open_network(make(tmp_path, **changes), BearerAuth(None, ""))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content", ["", "short", "has a space in it 0123", "x" * 600, "ключ-ключ-ключ-ключ", "a\nb" * 20]
)
def test_tokens_have_a_grammar(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(ConfigError, match=r"api\.token_file"):
        serve.read_token(str(tmp_path / "token"))


def test_junk_as_certificate_and_a_port_in_use(box: Box, tmp_path: Path) -> None:
    config = make(tmp_path)
    (tmp_path / "junk.pem").write_text("junk")
    for name in ("certificate_file", "client_ca_file"):
        with pytest.raises(ConfigError, match=f"api.{name}"):
            serve.tls_context(make(tmp_path, **{name: str(tmp_path / "junk.pem")}))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TransientError, match="another program listens there"):
            serve.open_network(make(tmp_path, listen=listen), BearerAuth(None, ""))  # type: ignore[arg-type]
    with pytest.raises(TransientError, match="no such address now"):
        serve.open_network(make(tmp_path, listen="192.0.2.1:0"), BearerAuth(None, ""))  # type: ignore[arg-type]
    assert config.listen == "127.0.0.1:0"


# ---------------------------------------------------------------- slow and rude clients


class Endless:
    """An application whose one answer never ends until the client has gone."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        chunk = bytes(65_536)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch(receive))
            while not watch.done():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self.sent_bytes += len(chunk)
                await asyncio.sleep(0)
        self.ended.set()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


def connect(address: str) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(address.removeprefix("unix:"))
    peer.setblocking(False)
    return peer


def test_a_client_that_stops_reading_stops_the_sender(box: Box) -> None:
    app = Endless()

    async def scenario() -> None:
        async with served(box, app=app) as (local,):
            peer = connect(local)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(peer, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await loop.sock_recv(peer, 100)
            before = -1
            while before != app.sent_bytes:  # until the buffers between the two are full
                before = app.sent_bytes
                await asyncio.sleep(0.05)
            assert app.sent_bytes < 2_000_000
            peer.close()
            async with asyncio.timeout(10):
                await app.ended.wait()

    asyncio.run(scenario())


def test_a_half_sent_head_is_cut(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "HEAD_TIMEOUT_S", 0)
    monkeypatch.setattr(serve, "TICK_S", 0.02)

    async def scenario() -> None:
        async with served(box) as (local,):
            peer = connect(local)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(peer, b"GET /v1/health HTTP/1.1\r\nhost:")
            async with asyncio.timeout(10):
                assert await loop.sock_recv(peer, 100) == b""
            peer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 600_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 600_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"BREW\r\n\r\n",
        b"GET \xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\r\n\r\n\r\n\0\0\0",
    ],
)
def test_malformed_heads_are_400_and_the_end(box: Box, request_bytes: bytes) -> None:
    async def scenario() -> None:
        async with served(box) as (local,):
            peer = connect(local)
            loop = asyncio.get_running_loop()
            answer = b""
            with contextlib.closing(peer):
                async with asyncio.timeout(10):
                    with contextlib.suppress(ConnectionError):  # it does not read to the end of a flood
                        await loop.sock_sendall(peer, request_bytes)
                    with contextlib.suppress(ConnectionError):
                        while part := await loop.sock_recv(peer, 65_536):
                            answer += part
            assert answer.startswith(b"HTTP/1.1 400 ")
            async with unix_client(local) as client:
                assert (await client.get("/v1/health")).status_code == 200

    asyncio.run(scenario())


def test_a_download_is_given_up_when_the_client_goes(box: Box) -> None:
    async def begin(local: str) -> tuple[socket.socket, bytes]:
        peer = connect(local)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(peer, b"GET /v1/batches/1/bundle HTTP/1.1\r\nhost: x\r\n\r\n")
        return peer, await loop.sock_recv(peer, 12)

    async def scenario() -> None:
        async with served(box) as (local,):
            begun = [await begin(local) for _ in range(BUNDLES_MAX + 1)]
            assert [status for _, status in begun] == [b"HTTP/1.1 200"] * BUNDLES_MAX + [b"HTTP/1.1 429"]
            for peer, _ in begun:
                peer.close()
            async with asyncio.timeout(10):
                status = b""
                while status != b"HTTP/1.1 200":
                    peer, status = await begin(local)
                    peer.close()

    asyncio.run(scenario())


def test_an_artifact_that_vanishes_cuts_the_connection(own_box: Box) -> None:
    row = own_box.artifacts(1)[0]

    async def scenario() -> None:
        async with served(own_box) as (local,), unix_client(local) as client:
            async with client.stream("GET", "/v1/batches/1/bundle") as answer:
                os.truncate(own_box.spool.path(row.sha256), 1000)
                with pytest.raises(httpx.RemoteProtocolError):
                    await answer.aread()
            assert (await client.get("/v1/batches/1/bundle")).status_code == 200

    asyncio.run(scenario())


# ---------------------------------------------------------------- concurrency, signals, the end


def test_many_pulls_at_once_are_whole(box: Box) -> None:
    async def scenario() -> None:
        async with served(box) as (local,), unix_client(local) as client:

            async def whole() -> bytes | None:
                answer = await client.get("/v1/batches/1/bundle")
                return answer.content if answer.status_code == 200 else None

            contents = await asyncio.gather(*(whole() for _ in range(12)))
            assert len({item for item in contents if item is not None}) == 1

    asyncio.run(scenario())


def test_signals_are_left_alone(box: Box) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    async def scenario() -> None:
        async with served(box) as (local,), unix_client(local) as client:
            await client.get("/v1/health")
            assert signal.getsignal(signal.SIGTERM) is before[0]

    asyncio.run(scenario())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_stopping_cuts_a_download_after_its_grace(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "GRACE_S", 0.1)
    app = Endless()

    async def scenario() -> None:
        async with served(box, app=app) as (local,):
            peer = connect(local)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(peer, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await loop.sock_recv(peer, 100)
        assert app.ended.is_set()
        peer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("settle", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(0.05)])
def test_cancelling_leaves_nothing_open(box: Box, settle: Callable[[], Any]) -> None:
    async def scenario() -> None:
        stop, ticks = asyncio.Event(), []
        async with asyncio.TaskGroup() as group:
            task = group.create_task(serve.run_local(box.state_dir, Endless(), stop, lambda: ticks.append(1)))
            await settle()
            task.cancel()
        assert not serve.socket_path(box.state_dir).exists()

    asyncio.run(scenario())
