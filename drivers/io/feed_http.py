"""Messages that are posted: an HTTP listener that answers 200 when everything is on disk.

Who posts must carry the token of the source. Bodies have a limit of size and time, heads too; h11 bounds them where
httptools does not. A body in which the profile reads nothing is answered 200 all the same: it would not become better
by coming again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from drivers.io.feeds import Desk
from drivers.io.surroundings import Surroundings
from drivers.jsonfeed.driver import Arrived, Taken
from firmware_profiles.loader import load_feed
from gateway.config import listen_address
from gateway.config_sources import JsonHttpConfig
from gateway.core.errors import ConfigError, Problem

BODY_TIMEOUT_S: Final = 30.0
HEAD_SIZE_MAX_BYTES: Final = 16_384
HEAD_TIMEOUT_S: Final = 15.0
"""A connection that has not sent a whole request head within this time is cut."""
KEEP_ALIVE_S: Final = 5
GRACE_S: Final = 2.0
BACKLOG: Final = 64
RETRY_AFTER_S: Final = 10
TICK_S: Final = 1.0
TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*", re.ASCII)


class Server(uvicorn.Server):
    """uvicorn without signal handlers, and with an end to connections that never ask."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._waiting: WeakKeyDictionary[Any, tuple[object, float]] = WeakKeyDictionary()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield

    async def main_loop(self) -> None:
        """Keep late clients out, until `should_exit`."""
        loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            self._cut_late(loop.time())
            await asyncio.sleep(TICK_S)

    def _cut_late(self, now_s: float) -> None:
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            cycle = connection.cycle
            if cycle is not None and not cycle.response_complete:
                self._waiting.pop(connection, None)
                continue
            seen, since_s = self._waiting.setdefault(connection, (cycle, now_s))
            if seen is not cycle:
                self._waiting[connection] = (cycle, now_s)
            elif now_s - since_s >= HEAD_TIMEOUT_S:
                connection.transport.abort()

    def cut_all(self) -> None:
        """Cut every connection."""
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            connection.transport.abort()
        for server in getattr(self, "servers", []):
            server.close()


class Listener:
    """One source. An ASGI application, and the server around it."""

    def __init__(self, config: JsonHttpConfig, around: Surroundings, desk: Desk) -> None:
        self._config, self._around, self._desk = config, around, desk
        self._answer = load_feed(config.profile, around.profile_dirs).profile.answer
        self._token = b""

    async def run(self) -> None:
        """Until cancelled. Raises ConfigError where a file or the address cannot be used."""
        self._token = _token(self._config.token_file)
        context = _tls(self._config)
        bound = _bind(self._config.listen)
        scheme = "http" if context is None else "https"
        host, port = bound.getsockname()[:2]
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        server = _server(self, self._config.connections_max, context)
        try:
            self._around.status.addresses[:] = [address]
            self._desk.show("ok", "")
            await server.serve(sockets=[bound])
        finally:
            self._around.status.addresses.clear()
            server.cut_all()
            bound.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            response = await self._respond(Request(scope, receive))
            if response is not None:
                await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response | None:
        if not self._is_known(request):
            counters = self._around.status.counters
            counters["unauthorized"] = counters.get("unauthorized", 0) + 1
            sender = request.client.host if request.client else ""
            self._desk.state("refused", "without the token of this source", sender)
            text = "send the header 'Authorization: Bearer <token>' with the token of this source"
            return _refusal(401, text, {"www-authenticate": 'Bearer realm="fieldgate"'})
        if request.method not in {"POST", "PUT"}:
            return _refusal(405, "post a JSON message", {"allow": "POST, PUT"})
        if request.headers.get("content-encoding", "identity") != "identity":
            return _refusal(415, "send the body without Content-Encoding")
        if not self._desk.has_room:
            return _refusal(503, "the store is full; send it again later", {"retry-after": str(RETRY_AFTER_S)})
        body = await self._body(request)
        if not isinstance(body, bytes):
            return body
        done = self._desk.take(Arrived(body, device=self._config.device))
        if done is None:
            return _refusal(503, "too many messages wait; send it again later", {"retry-after": str(RETRY_AFTER_S)})
        return self._answered(await asyncio.shield(done))

    def _is_known(self, request: Request) -> bool:
        """Exactly one bearer token, compared in constant time."""
        values = request.headers.getlist("authorization")
        scheme, _, given = (values[0] if len(values) == 1 else "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        return same and scheme.lower() == "bearer"

    async def _body(self, request: Request) -> bytes | Response | None:
        """The body within its limits, or the refusal; None: whoever sent it is gone."""
        parts: list[bytes] = []
        size_bytes, most = 0, self._config.body_max_bytes
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for part in request.stream():
                    size_bytes += len(part)
                    if size_bytes > most:
                        return _refusal(413, f"at most {most} bytes")
                    parts.append(part)
        except TimeoutError:
            return _refusal(408, f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s")
        except ClientDisconnect:
            return None
        return b"".join(parts)

    def _answered(self, taken: Taken) -> Response:
        if taken.result == "refused":
            return _refusal(400, taken.detail)
        if self._answer:
            return Response(self._answer, media_type="application/json")
        found = {"stored": taken.stored, "repeated": taken.repeated}
        if taken.result == "unread":
            found["unread"] = 1
        return Response(json.dumps(found), media_type="application/json")


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """A problem (RFC 9457); whoever sends what is not taken is not listened to any longer."""
    content = json.dumps({"status": status, "detail": text})
    found = {**(headers or {}), "connection": "close"}
    return Response(content, status, found, media_type="application/problem+json")


def _server(app: Listener, connections_max: int, context: ssl.SSLContext | None) -> Server:
    config = uvicorn.Config(
        app,
        http=H11Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=connections_max,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(GRACE_S),
        h11_max_incomplete_event_size=HEAD_SIZE_MAX_BYTES,
    )
    config.load()
    config.ssl = context
    return Server(config)


def _bind(listen: str) -> socket.socket:
    host, port = listen_address(listen)
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        text = f"cannot listen on {listen}: {error.strerror or error}; is the address another program's?"
        raise ConfigError([Problem("configuration", 0, "listen", text)]) from None
    bound.setblocking(False)
    return bound


def _tls(config: JsonHttpConfig) -> ssl.SSLContext | None:
    if not config.certificate_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.certificate_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        text = f"cannot use this certificate and key: {getattr(error, 'strerror', None) or error}"
        raise ConfigError([Problem(config.certificate_file, 0, "certificate_file", text)]) from None
    return context


def _token(path: str) -> bytes:
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        text = f"cannot be read: {getattr(error, 'strerror', None) or 'not ASCII'}"
        raise ConfigError([Problem(path, 0, "token_file", text)]) from None
    if TOKEN.fullmatch(token) is None:
        text = "expected one line of 16 to 512 characters A-Z a-z 0-9 - . _ ~ + /"
        raise ConfigError([Problem(path, 0, "token_file", text)])
    return token.encode()
