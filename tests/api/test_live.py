"""The live channel over WebSockets, on the real server: the Unix socket and TLS with each role's token."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway import metrics
from gateway.api import connections, live
from gateway.config import ApiConfig
from gateway.live import Board
from tests.api.authority import Authority
from tests.api.box import Box, filled
from tests.api.serving import TOKEN, app_of, served, tls_config
from tests.api.test_roles import ORDER, Desk
from tests.gateway.test_live import finding, fix, privacy_of, seen

LIMIT_S = 20
VIEWER = "viewer-token-0123456789"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    made = filled(tmp_path_factory.mktemp("box"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAUSE_S", 0.01)


def filled_board() -> Board:
    board = Board(privacy_of)
    board.position(seen(1, "138", **fix(10)))
    board.position(seen(2, "7", **fix(10, **{"class": "officer"})))
    board.finding(3, finding("ab" * 16))
    return board


@asynccontextmanager
async def client(address: str, words: str = "", **more: Any) -> AsyncIterator[ClientConnection]:
    path = address.removeprefix("unix:")
    async with unix_connect(path, f"ws://gateway/v1/live{words}", proxy=None, **more) as found:
        yield found


async def message(found: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT_S):
        return dict(json.loads(await found.recv()))


async def drain(found: ClientConnection) -> None:
    while True:
        await message(found)


def keys(shape: dict[str, Any]) -> list[str]:
    return [f"{one['topic']} {one['key'][:10]}" for one in shape["items"]]


async def status_of(address: str, words: str = "", **more: Any) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with client(address, words, **more):
            pass
    return refused.value.response.status_code


def test_first_the_board_then_changes_and_on_from_where_a_client_was(box: Box) -> None:
    board = filled_board()

    async def scenario() -> None:
        async with served(box, app=app_of(box, board=board)) as (local,):
            async with client(local) as found:
                first = await message(found)
                assert keys(first) == ["position trucks/138", "position trucks/7", "finding ababababab"]
                assert first["more"] is False
                assert first["items"][0]["values"]["lat_e7"] == 300_000_010
                for number in range(100):
                    board.position(seen(10 + number, "138", **fix(20 + number)))
                changed = await message(found)
                assert [one["values"]["time_utc_s"] for one in changed["items"]] == [119]
            async with client(local, f"?after={first['at']}&topics=position,state") as found:
                assert [one["values"]["time_utc_s"] for one in (await message(found))["items"]] == [119]
            async with client(local, f"?after={changed['at']}") as found:
                assert (await message(found))["items"] == []
            async with client(local, "?after=0badcafe-99999&topics=finding") as found:
                assert keys(await message(found)) == ["finding ababababab"], "of another run: everything"
            for wrong in ("?topics=positions", "?after=7", "?after=x-y", "?since=1", "?topics="):
                assert await status_of(local, wrong) == 400

    asyncio.run(scenario())


def test_a_large_board_comes_in_several_messages(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ITEMS_AT_ONCE", 2)

    async def scenario() -> None:
        async with served(box, app=app_of(box, board=filled_board())) as (local,), client(local) as found:
            first, second = await message(found), await message(found)
            assert [(len(one["items"]), one["more"]) for one in (first, second)] == [(2, True), (1, False)]

    asyncio.run(scenario())


def test_silence_is_told_and_a_client_has_nothing_to_say(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)

    async def scenario() -> None:
        async with served(box) as (local,), client(local) as found:
            assert [(await message(found))["items"] for _ in range(3)] == [[], [], []]
            await found.send("hello")
            with pytest.raises(ConnectionClosed) as closed:
                await drain(found)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1003

    asyncio.run(scenario())


def test_a_client_that_does_not_read_is_cut(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STALL_S", 0.2)
    monkeypatch.setattr(connections, "FAREWELL_S", 0.1)
    board = Board(privacy_of)
    for number in range(20_000):
        board.position(seen(number, str(number), **fix(10, alarms="x" * 200)))
    before = metrics.LIVE_CLIENTS_CUT._value.get()

    async def scenario() -> None:
        async with served(box, app=app_of(box, board=board)) as (local,):
            with socket.socket(socket.AF_UNIX) as rude:
                rude.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(rude, local.removeprefix("unix:"))
                head = "GET /v1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                await loop.sock_sendall(rude, head.encode())
                async with asyncio.timeout(LIMIT_S):
                    while metrics.LIVE_CLIENTS_CUT._value.get() == before:
                        await asyncio.sleep(0.01)
                    with contextlib.suppress(ConnectionResetError):
                        while await loop.sock_recv(rude, 1 << 20):
                            pass
            assert metrics.LIVE_CLIENTS._value.get() == 0

    asyncio.run(scenario())


def test_clients_are_counted_and_limited(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLIENTS_MAX", 2)

    async def scenario() -> None:
        async with served(box) as (local,):
            async with client(local) as one, client(local) as two:
                await message(one)
                await message(two)
                assert metrics.LIVE_CLIENTS._value.get() == 2
                assert await status_of(local) == 429
            async with asyncio.timeout(LIMIT_S):
                while metrics.LIVE_CLIENTS._value.get():
                    await asyncio.sleep(0.01)
            async with client(local) as again:
                await message(again)

    asyncio.run(scenario())


def test_pages_of_other_sites_are_refused(box: Box) -> None:
    async def scenario() -> None:
        async with served(box) as (local,):
            assert await status_of(local, origin="https://evil.example") == 403
            async with client(local, origin="http://gateway") as found:
                await message(found)

    asyncio.run(scenario())


def roles(folder: Path, authority: Authority) -> ApiConfig:
    (folder / "viewer").write_text(VIEWER + "\n")
    config = tls_config(folder, authority, client_ca=authority)
    return msgspec.structs.replace(config, viewer_token_file=str(folder / "viewer"))


def test_tls_takes_tokens_and_shows_what_each_role_may_see(box: Box, tmp_path: Path) -> None:
    config = roles(tmp_path, box.authority)
    context = ssl.create_default_context(cafile=str(box.ca_file))
    context.load_cert_chain(*box.authority.tls_files(tmp_path, "wang", server=False))
    desk = Desk()
    app = app_of(box, board=filled_board(), orders=desk)

    async def scenario() -> None:
        async with served(box, config, app) as (_, remote):
            address = remote.replace("https", "wss") + "/v1/live"
            seen_by = {}
            for token in (TOKEN, VIEWER):
                headers = {"Authorization": f"Bearer {token}"}
                async with connect(address, ssl=context, additional_headers=headers, proxy=None) as found:
                    seen_by[token] = len((await message(found))["items"])
            assert seen_by == {TOKEN: 3, VIEWER: 2}
            with pytest.raises(InvalidStatus) as refused:
                async with connect(address, ssl=context, proxy=None):
                    pass
            assert refused.value.response.status_code == 401
            async with httpx.AsyncClient(verify=context, base_url=remote, trust_env=False) as http:
                path = "/v1/devices/trucks/138/orders"
                headers = {"authorization": f"Bearer {TOKEN}"}
                assert (await http.post(path, json=ORDER, headers=headers)).status_code == 200
                headers = {"authorization": f"Bearer {VIEWER}"}
                assert (await http.post(path, json=ORDER, headers=headers)).status_code == 403
        assert [order.actor for order in desk.given] == ["wang"], "the name in the client certificate"

    asyncio.run(scenario())


def test_on_the_unix_socket_the_user_is_who_gives_the_order(box: Box) -> None:
    desk = Desk()

    async def scenario() -> None:
        async with served(box, app=app_of(box, orders=desk)) as (local,):
            transport = httpx.AsyncHTTPTransport(uds=local.removeprefix("unix:"))
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
                assert (await http.post("/v1/devices/trucks/138/orders", json=ORDER)).status_code == 200

    asyncio.run(scenario())
    assert [(order.actor, order.claimed_by) for order in desk.given] == [(f"local:{getpass.getuser()}", "Wang")]
