"""The TLS listener: heads, versions, start and end."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from gateway.core.errors import ConfigError
from tests.uplink.platform.fieldbox import FieldBox
from tests.uplink.platform.wire import Wire, client_for, config_in, opened, over_wire, serving
from uplink.platform.platform import Platform
from uplink.platform.server import run_platform


async def raw(platform: Platform, wire: Wire, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """What the listener answers to these bytes before it closes or we have a status line."""
    context = tls or ssl.create_default_context(cadata=platform.authority.ca_pem)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.client.base_url.port, ssl=context)
    writer.write(request)
    try:
        return await reader.readline()
    finally:
        writer.transport.abort()


def test_huge_and_broken_heads(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        filler = b"x" * 1_000_000
        for request in (
            b"GET /v1/ca HTTP/1.1\r\nhost: x\r\na: " + filler + b"\r\n\r\n",
            b"GET /" + filler + b" HTTP/1.1\r\nhost: x\r\n\r\n",
            b"\x16\x03\x01\r\n\r\n",
            b"GET /\r\n\r\n",
            b"POST /v1/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
            b"POST /v1/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        ):
            assert (await raw(platform, wire, request))[9:12] in {b"400", b"431", b"505"}
        for host in (b"[", b"a b", b"\xff", b"x:99999999"):
            request = b"POST /v1/uploads HTTP/1.1\r\nhost: " + host + b"\r\ncontent-length: 0\r\n\r\n"
            assert (await raw(platform, wire, request))[9:12] in {b"400", b"412"}
        assert (await wire.client.get("/v1/ca")).status_code == 200

    over_wire(tmp_path, scenario)


def test_old_tls_and_no_tls_are_refused(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.client.base_url.port)
        writer.write(b"GET /v1/ca HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in await reader.read()
        writer.close()
        await writer.wait_closed()

    over_wire(tmp_path, scenario)


def test_server_certificate_is_for_the_listening_address(tmp_path: Path) -> None:
    async def run() -> None:
        with opened(tmp_path, public_names=["platform.example"]) as platform:
            async with serving(platform) as address, client_for(platform, address) as client:
                assert (await client.get("/v1/ca")).text == platform.authority.ca_pem
                extensions = {"sni_hostname": "platform.example"}
                assert (await client.get("/v1/ca", extensions=extensions)).status_code == 200

    asyncio.run(run())


def test_address_that_is_taken_or_no_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            opened(tmp_path, listen=f"127.0.0.1:{port}") as platform,
            pytest.raises(ConfigError, match="cannot be used"),
        ):
            asyncio.run(run_platform(platform.config, asyncio.Event(), print, platform=platform))
    for listen in ("127.0.0.1", "127.0.0.1:x", ":80", "127.0.0.1:70000"):
        with pytest.raises(ConfigError, match="expected address:port"):
            Platform(config_in(tmp_path, listen=listen))


def test_foreign_certificate_files(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    with (
        opened(tmp_path, certificate_file=missing, key_file=missing) as platform,
        pytest.raises(ConfigError, match="cannot be used"),
    ):
        asyncio.run(run_platform(platform.config, asyncio.Event(), print, platform=platform))
    with pytest.raises(ConfigError, match="both or none"):
        Platform(config_in(tmp_path, certificate_file=missing))


def test_runs_on_its_own_folder_and_stops(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        config = platform.config

    async def run() -> None:
        stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_platform(config, stop, address.set_result))
            assert (await address).startswith("https://127.0.0.1:")
            stop.set()

    asyncio.run(run())
    Platform(config).close()
