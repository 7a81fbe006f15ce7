"""The board of newest values over HTTP: one page of it, and a WebSocket that goes on (API.md). Never evidence.

A client is sent what has changed since it was last sent something: one that reads slowly skips what was replaced
meanwhile, one that does not read at all is cut. Nothing is kept for a client but a number.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway import metrics
from gateway.api import problem, query
from gateway.api.problem import ProblemError
from gateway.api.query import Query
from gateway.api.roles import Caller, Rights, caller_of, forbidden
from gateway.api.streams import whole
from gateway.core.ports import Live, LiveItem

CLIENTS_MAX: Final = 64
ITEMS_AT_ONCE: Final = 500
"""Items in one message."""
PAUSE_S: Final = 0.25
"""Between two messages: what changes several times within it is sent once."""
HEARTBEAT_S: Final = 15.0
"""A message without items after so long without news."""
STALL_S: Final = 30.0
"""A client that takes no message for this long is cut."""
BOARD_MAX: Final = 1_000_000
TOPICS: Final = ("position", "state", "finding")
NO_STORE: Final = "no-store"
UNSUPPORTED: Final = 1003
"""Close code (RFC 6455, 7.4.1): the client sent something."""


class Shown(Protocol):
    """What is read (gateway.api.app.Backend)."""

    @property
    def live(self) -> Live: ...
    @property
    def rights(self) -> Rights: ...


def routes(shown: Shown) -> list[Route | WebSocketRoute]:
    """/v1/devices and /v1/live."""
    api = Channel(shown)
    return [Route("/v1/devices", api.devices), WebSocketRoute("/v1/live", api.connect)]


class Channel:
    """The endpoints. Each docstring names what it answers."""

    def __init__(self, shown: Shown) -> None:
        self._live, self._rights = shown.live, shown.rights
        self._board = os.urandom(4).hex()
        """Versions of another run of the gateway mean nothing here."""
        self._clients = 0

    async def devices(self, request: Request) -> Response:
        """GET /v1/devices: what the board shows of each device, in the order of source and device."""
        asked = Query(request, "after", "limit")
        after, limit = asked.one("after", query.device, ""), asked.one("limit", query.limit, query.LIMIT_DEFAULT)
        caller = caller_of(request)
        found: dict[str, dict[str, Any]] = {}
        for item in self._live.changes(0, BOARD_MAX):
            if item.topic == "finding" or item.key <= after or not self._rights.sees_item(caller, item):
                continue
            values = item.values
            device = found.setdefault(
                item.key,
                {
                    "source": values["source"],
                    "device": values["device"],
                    "class": item.device_class,
                    "plate": "",
                    "position": None,
                    "state": None,
                },
            )
            device["class"], device["plate"] = item.device_class, values.get("plate") or device["plate"]
            device[item.topic] = values
        keys = sorted(found)
        following = None
        if len(keys) > limit:
            following = "/v1/devices?" + urlencode({"after": keys[limit - 1], "limit": limit})
        shape = {"devices": [found[key] for key in keys[:limit]], "next": following}
        return whole(request, msgspec.json.encode(shape), NO_STORE)

    async def connect(self, socket: WebSocket) -> None:
        """GET /v1/live as a WebSocket: messages ``{"at", "more", "items"}`` until one side has enough."""
        try:
            topics, after = self._wishes(socket)
            if self._clients >= CLIENTS_MAX:
                raise ProblemError("busy", f"{CLIENTS_MAX} clients are connected already", {"retry-after": "10"})
        except ProblemError as refused:
            answer = problem.response(refused.kind, refused.detail, refused.headers)
            await socket.send_denial_response(answer)
            return
        self._clients += 1
        metrics.LIVE_CLIENTS.set(self._clients)
        try:
            await socket.accept()
            await self._serve(socket, topics, after)
        except* (WebSocketDisconnect, TimeoutError):
            pass  # the client has gone, or does not read
        finally:
            self._clients -= 1
            metrics.LIVE_CLIENTS.set(self._clients)

    def _wishes(self, socket: WebSocket) -> tuple[frozenset[str], int]:
        _check_origin(socket)
        asked = Query(socket, "topics", "after")
        topics = asked.one("topics", _topics, frozenset(TOPICS))
        return topics, asked.one("after", self._version, 0)

    def _version(self, name: str, text: str) -> int:
        """The version that an `at` stands for; 0, the whole board, where it is of another run."""
        board, dash, version = text.partition("-")
        if not dash:
            raise ProblemError("bad-parameter", f"{name} is not the 'at' of a message of this channel")
        number = query.natural(name, version)
        return number if board == self._board else 0

    async def _serve(self, socket: WebSocket, topics: frozenset[str], after: int) -> None:
        async with asyncio.TaskGroup() as group:
            pushing = group.create_task(self._push(socket, caller_of(socket), topics, after))
            try:
                message = await socket.receive()
                if message["type"] == "websocket.receive":
                    await _close(socket, UNSUPPORTED, "this channel only sends")
            finally:
                pushing.cancel()

    async def _push(self, socket: WebSocket, caller: Caller, topics: frozenset[str], after: int) -> None:
        loop = asyncio.get_running_loop()
        sent_s = float("-inf")  # the first message is sent at once, also with nothing in it
        while True:
            found = self._live.changes(after, ITEMS_AT_ONCE)
            after = found[-1].version if found else after
            items = [one for one in found if one.topic in topics and self._rights.sees_item(caller, one)]
            more = len(found) == ITEMS_AT_ONCE
            if items or loop.time() - sent_s >= HEARTBEAT_S:
                sent_s = loop.time()
                await _send(socket, {"at": f"{self._board}-{after}", "more": more, "items": [*map(_shape, items)]})
            if more:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(max(0.0, sent_s + HEARTBEAT_S - loop.time())):
                    await self._live.wait(after)
            except TimeoutError:
                continue
            await asyncio.sleep(PAUSE_S)


def _shape(item: LiveItem) -> dict[str, Any]:
    return {"topic": item.topic, "key": item.key, "values": item.values}


async def _send(socket: WebSocket, shape: Mapping[str, Any]) -> None:
    try:
        async with asyncio.timeout(STALL_S):
            await socket.send_text(msgspec.json.encode(shape).decode())
    except TimeoutError:
        metrics.LIVE_CLIENTS_CUT.inc()
        raise


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    async with asyncio.timeout(STALL_S):
        await socket.close(code, reason)


def _check_origin(connection: HTTPConnection) -> None:
    """A browser sends a client certificate by itself, so a page of another site must not connect with it."""
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != connection.headers.get("host"):
        raise forbidden("a page of another site may not connect here")


def _topics(name: str, text: str) -> frozenset[str]:
    found = frozenset(text.split(","))
    if not found <= frozenset(TOPICS):
        raise ProblemError("bad-parameter", f"{name} is not a list of {', '.join(TOPICS)}, such as position,finding")
    return found
