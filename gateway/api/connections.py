"""Connections of uvicorn that know who is at the other end: the user of a Unix socket, the name in a certificate.

uvicorn passes neither into the scope, so both protocols wrap the application of each connection.
"""

from __future__ import annotations

import asyncio
import pwd
import socket
import ssl
import struct
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from gateway.api.problem import printable
from gateway.api.roles import SCOPE_KEY, Caller

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred of Linux
NAME_MAX: Final = 128
FAREWELL_S: Final = 10.0


class Http(H11Protocol):
    """HTTP/1.1."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        self.app: Any = Named(self.app, name_of(transport))


class Socket(WebSocketsSansIOProtocol):
    """WebSocket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when an HTTP connection becomes a WebSocket."""
        super().connection_made(transport)
        self.app: Any = Named(self.app, name_of(transport))

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has nothing more to say: what the other side does not take by then is not kept for it."""
        super().on_task_complete(task)
        self.loop.call_later(FAREWELL_S, self.transport.abort)


class Named:
    """ASGI wrapper: who calls, with all rights. A token may narrow them (gateway.api.auth)."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._caller = Caller("full", name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, SCOPE_KEY: self._caller}, receive, send)


def name_of(transport: asyncio.BaseTransport) -> str:
    """`local:<user>` of a Unix socket's peer, the common name of a client certificate, else `full`."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is not None:
        return _common_name(tls) or "full"
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return "local"
    try:
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    except (OSError, struct.error):
        return "local"
    try:
        return f"local:{printable(pwd.getpwuid(uid).pw_name)}"
    except KeyError:
        return f"local:{uid}"


def _common_name(tls: ssl.SSLObject) -> str:
    subject: Any = (tls.getpeercert() or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return printable(str(names[0]))[:NAME_MAX] if names else ""
