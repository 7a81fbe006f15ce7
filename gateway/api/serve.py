"""Serves the API: on a Unix socket for this box, and on TLS for the platform where the configuration says so.

Who may come in: the Unix socket by its file mode (0600); the TLS listener by client certificate (checked in the
handshake), bearer token, or both. One of the two is required.

The protocol is uvicorn over h11 also where httptools is installed: h11 bounds the size of a request head,
httptools does not, and bytes per second here are bounded by disk and TLS. The event loop (asyncio or uvloop) is
the caller's choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import uvicorn
from starlette.types import ASGIApp

from gateway.api.auth import TOKEN, BearerAuth
from gateway.api.connections import Http, Socket
from gateway.api.live import CLIENTS_MAX
from gateway.api.roles import Role
from gateway.config import ApiConfig
from gateway.core.errors import ConfigError, Problem, TransientError

SOCKET_NAME: Final = "api.sock"
CONNECTIONS_MAX: Final = 64 + CLIENTS_MAX
"""Per listener, clients of the live channel included; a request on a further connection is answered 503 and the
connection closed."""
LIVE_IN_MAX_BYTES: Final = 1024
"""A client of the live channel has nothing to say."""
LIVE_PING_S: Final = 20.0
"""A client of the live channel that does not answer a ping within this time is cut."""
HEAD_SIZE_MAX_BYTES: Final = 16_384
"""A request head that is not whole at this size is refused; one that comes whole in one read may be larger."""
HEAD_TIMEOUT_S: Final = 15
"""A connection that has not sent a whole request head within this time is cut."""
KEEP_ALIVE_S: Final = 5
STALL_TIMEOUT_S: Final = 60
"""A TLS client that takes no byte for this long is cut by the kernel (TCP_USER_TIMEOUT)."""
GRACE_S: Final = 5
"""At the end, downloads under way get this long."""
TICK_S: Final = 1
BACKLOG: Final = 128
UNIX_PATH_MAX_BYTES: Final = 107
_NOT_NOW: Final = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "this box has no such address now",
}

Ready = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket and what is served on it."""

    socket: socket.socket
    address: str
    """``unix:<path>`` or ``https://<address>:<port>``, the port as it was bound."""
    server: Server


class Server(uvicorn.Server):
    """uvicorn without signal handlers (the gateway has its own), with an end to half-sent request heads, and with one
    turn a second instead of ten: a small box has better things to do."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._end = asyncio.Event()
        self._waiting: WeakKeyDictionary[Any, tuple[object, float]] = WeakKeyDictionary()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield

    async def main_loop(self) -> None:
        """Keep the Date header right and late clients out, until `end`."""
        loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            self.cut_late(loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._end.wait()

    def end(self) -> None:
        """Take no further connection and let those under way finish."""
        self.should_exit = True
        self._end.set()

    def cut_late(self, now_s: float) -> None:
        """Cut connections that have been without a request for HEAD_TIMEOUT_S; `now_s` is the loop's time."""
        connections: list[Any] = list(self.server_state.connections)  # all are Http or Socket here
        for connection in connections:
            if isinstance(connection, Socket):
                continue  # it has pings
            cycle = connection.cycle
            if cycle is not None and not cycle.response_complete:
                self._waiting.pop(connection, None)
                continue
            seen_cycle, since_s = self._waiting.setdefault(connection, (cycle, now_s))
            if seen_cycle is not cycle:
                self._waiting[connection] = (cycle, now_s)
            elif now_s - since_s >= HEAD_TIMEOUT_S:
                connection.transport.abort()

    def cut_all(self) -> None:
        """Cut every connection; their requests end as if the client had gone."""
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            connection.transport.abort()

    def close_listening(self) -> None:
        """Close what a cancelled `serve` has left open."""
        for server in getattr(self, "servers", []):
            server.close()


async def run_local(
    state_dir: Path, app: ASGIApp, stop: asyncio.Event, tick: Callable[[], None], ready: Ready | None = None
) -> None:
    """Serve `app` on the Unix socket until `stop` is set; calls `tick` about once a second.

    `ready` is called once with the address (see Listener.address) when the socket is bound. Raises ConfigError.
    """
    try:
        await _run(open_local(state_dir, app), stop, tick, ready)
    finally:
        socket_path(state_dir).unlink(missing_ok=True)


async def run_network(
    config: ApiConfig, app: ASGIApp, stop: asyncio.Event, tick: Callable[[], None], ready: Ready | None = None
) -> None:
    """The same on TLS. Raises ConfigError where a certificate or token cannot be used, TransientError where the
    address is not to be had now."""
    await _run(open_network(config, app), stop, tick, ready)


async def _run(each: Listener, stop: asyncio.Event, tick: Callable[[], None], ready: Ready | None) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(each.server.serve(sockets=[each.socket]))
            if ready is not None:
                ready(each.address)
            while not stop.is_set():
                tick()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await stop.wait()
            each.server.end()
            await asyncio.wait({task}, timeout=GRACE_S)
            tick()
            each.server.cut_all()
    finally:
        each.server.close_listening()
        each.server.cut_all()
        each.socket.close()


def socket_path(state_dir: Path) -> Path:
    """Where the Unix socket of a gateway is."""
    return state_dir / "run" / SOCKET_NAME


def open_local(state_dir: Path, app: ASGIApp) -> Listener:
    """Bind the Unix socket. Raises ConfigError, with nothing left open."""
    path = socket_path(state_dir)
    return Listener(_bind_unix(path), f"unix:{path}", _server(app, None))


def open_network(config: ApiConfig, app: ASGIApp) -> Listener:
    """Bind the TLS listener. Raises ConfigError, or TransientError where the address is taken or not (yet) of this
    box; nothing is left open."""
    context = tls_context(config)
    if tokens := read_tokens(config):
        app = BearerAuth(app, tokens)
    elif not config.client_ca_file:
        raise _wrong("api.listen", "set api.token_file or api.client_ca_file: nobody may read without either")
    remote = _bind_tcp(config.listen)
    host, port = remote.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return Listener(remote, f"https://{shown}:{port}", _server(app, context))


def tls_context(config: ApiConfig) -> ssl.SSLContext:
    """TLS 1.2 or later; with a client CA, every client must present a certificate of it. Raises ConfigError."""
    for key in ("certificate_file", "key_file"):
        if not getattr(config, key):
            raise _wrong(f"api.{key}", "required with api.listen")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.certificate_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        raise _wrong("api.certificate_file", f"cannot use this certificate and key: {_reason(error)}") from None
    if config.client_ca_file:
        try:
            context.load_verify_locations(config.client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _wrong("api.client_ca_file", f"cannot use this CA: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def read_tokens(config: ApiConfig) -> dict[Role, str]:
    """The token of each role that has one. Raises ConfigError."""
    files: dict[Role, str] = {
        "full": config.token_file,
        "operator": config.operator_token_file,
        "viewer": config.viewer_token_file,
    }
    if not config.token_file and any(files.values()):
        raise _wrong("api.token_file", "missing: beside tokens for viewers and operators the platform needs its own")
    keys = {role: "token_file" if role == "full" else f"{role}_token_file" for role in files}
    tokens = {role: read_token(path, f"api.{keys[role]}") for role, path in files.items() if path}
    if len(set(tokens.values())) < len(tokens):
        raise _wrong("api.token_file", "the same token for two roles; each needs its own")
    return tokens


def read_token(path: str, key: str = "api.token_file") -> str:
    """The bearer token in a file of one line. Raises ConfigError."""
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise _wrong(key, f"cannot read {path}: {_reason(error)}") from None
    if TOKEN.fullmatch(token) is None:
        raise _wrong(key, f"{path}: expected one line of 16 to 512 characters A-Z a-z 0-9 - . _ ~ + /")
    return token


def _server(app: ASGIApp, context: ssl.SSLContext | None) -> Server:
    config = uvicorn.Config(
        app,
        http=Http,
        ws=Socket,
        ws_max_size=LIVE_IN_MAX_BYTES,
        ws_ping_interval=LIVE_PING_S,
        ws_ping_timeout=LIVE_PING_S,
        ws_per_message_deflate=False,  # 64 compressors are memory that a small box does not have
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=None,
        h11_max_incomplete_event_size=HEAD_SIZE_MAX_BYTES,
    )
    config.load()
    config.ssl = context
    return Server(config)


def _bind_unix(path: Path) -> socket.socket:
    """Bind beside the path and rename over it, so that a stale socket is replaced and the mode is never wider."""
    if path.exists() and not path.is_socket():
        raise _wrong("storage.state_dir", f"{path} is in the way: not a socket; remove it")
    fresh = path.with_name(path.name + ".new")
    if len(os.fsencode(fresh)) > UNIX_PATH_MAX_BYTES:
        raise _wrong("storage.state_dir", f"{fresh}: longer than {UNIX_PATH_MAX_BYTES} bytes; use a shorter state_dir")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        bound.bind(os.fspath(fresh))
        fresh.chmod(0o600)
        bound.listen(BACKLOG)
        fresh.rename(path)
    except OSError as error:
        bound.close()
        raise _wrong("storage.state_dir", f"cannot make the socket {path}: {_reason(error)}") from None
    bound.setblocking(False)
    return bound


def _bind_tcp(listen: str) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise _wrong("api.listen", f"'{listen}': expected address:port, such as 0.0.0.0:8443 or [::]:8443")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.removeprefix("[").removesuffix("]") or None,
            int(port),
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST,
        )[0]
    except OSError as error:
        raise _wrong("api.listen", f"'{listen}': not an IP address and port: {_reason(error)}") from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # accepted sockets inherit it: a client that stops reading must not hold a connection for ever
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_TIMEOUT_S * 1000)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno in _NOT_NOW:
            # at boot an address may come late; taking evidence does not wait for it
            raise TransientError(f"api.listen: '{listen}': {_reason(error)}; {_NOT_NOW[error.errno]}") from None
        raise _wrong("api.listen", f"'{listen}': {_reason(error)}") from None
    bound.setblocking(False)
    return bound


def _wrong(key: str, message: str) -> ConfigError:
    return ConfigError([Problem("configuration", 0, key, message)])


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
