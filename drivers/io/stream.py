"""TCP connections that devices open, thousands of them: accepted up to a limit, read by callback, written without
waiting.

Limits: connections in all and per address; bytes that wait to be written to one that does not read. Reading can be
held back for one connection and for all; the kernel then holds back the sender.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Final, cast

from gateway.core.errors import LinkError

WRITE_WAITING_MAX_BYTES: Final = 262_144
"""Written and not taken by the device; above it the connection is ended."""
BACKLOG: Final = 1024
"""Connections that the kernel holds until they are accepted: a fleet comes back at once."""

FILES_SPARED: Final = 256
"""File descriptors that are not for connections."""

Opened = Callable[[int, str, int], None]
Received = Callable[[int, bytes], None]
Closed = Callable[[int, str], None]


def room_for(connections: int) -> int:
    """Raise the limit of open files as far as it goes; how many connections that allows."""
    wanted = connections + FILES_SPARED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return min(connections, max(wanted - FILES_SPARED, 1))


class StreamServer:
    """Accepts on any number of addresses. Every connection has a number that is never used again."""

    def __init__(
        self, *, opened: Opened, received: Received, closed: Closed, connections_max: int, per_address_max: int
    ) -> None:
        self.connections_max = connections_max
        self.refused = 0
        """Connections beyond a limit."""
        self.not_reading = 0
        """Connections ended because the device took nothing."""
        self._opened = opened
        self._received = received
        self._closed = closed
        self._per_address_max = per_address_max
        self._connections: dict[int, _Connection] = {}
        self._addresses: dict[str, int] = {}
        self._next = 0
        self._is_paused = False
        self._servers: list[asyncio.Server] = []

    def __len__(self) -> int:
        return len(self._connections)

    async def listen(self, host: str, port: int) -> str:
        """Begin to accept; the address. Raises LinkError where that is not possible."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: _Connection(self), host, port, backlog=BACKLOG)
        except OSError as error:
            raise LinkError(
                f"cannot listen on TCP {host}:{port}: {error.strerror or error}; is the port taken?"
            ) from error
        self._servers.append(server)
        name = server.sockets[0].getsockname()
        return f"{name[0]}:{name[1]}"

    def stop_listening(self) -> None:
        """No new connections; those that are there stay."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def abort(self) -> None:
        """End everything at once."""
        self.stop_listening()
        for connection in list(self._connections.values()):
            connection.transport.abort()

    def write(self, link: int, content: bytes) -> None:
        """Send; nothing where the connection is gone. One that does not read is ended."""
        connection = self._connections.get(link)
        if connection is None or connection.transport.is_closing():
            return
        transport = connection.transport
        transport.write(content)
        if transport.get_write_buffer_size() > WRITE_WAITING_MAX_BYTES:
            self.not_reading += 1
            connection.reason = "does not read"
            transport.abort()

    def close(self, link: int) -> None:
        """End a connection once what was written is sent."""
        connection = self._connections.get(link)
        if connection is not None:
            connection.transport.close()

    def hold(self, link: int, *, is_held: bool) -> None:
        """Stop reading from one connection, or go on."""
        connection = self._connections.get(link)
        if connection is not None:
            connection.is_held = is_held
            self._apply(connection)

    def hold_all(self, *, is_held: bool) -> None:
        """Stop reading from all, or go on. One that comes meanwhile is held too; what it sends at once is read before
        (uvloop begins to read behind connection_made, whatever is said in it)."""
        if self._is_paused != is_held:
            self._is_paused = is_held
            for connection in self._connections.values():
                self._apply(connection)

    # ---------------------------------------------------------------- for its connections

    def _apply(self, connection: _Connection) -> None:
        transport = connection.transport
        if transport.is_closing():
            return
        if self._is_paused or connection.is_held:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def enter(self, connection: _Connection, host: str, port: int) -> bool:
        """Take a new connection, unless there are too many."""
        count = self._addresses.get(host, 0)
        if len(self._connections) >= self.connections_max or count >= self._per_address_max:
            self.refused += 1
            return False
        self._next += 1
        connection.link, connection.host = self._next, host
        self._connections[self._next] = connection
        self._addresses[host] = count + 1
        self._opened(self._next, host, port)
        if self._is_paused:
            asyncio.get_running_loop().call_soon(self._apply, connection)
        return True

    def leave(self, connection: _Connection, reason: str) -> None:
        """A connection is gone."""
        del self._connections[connection.link]
        left = self._addresses[connection.host] - 1
        if left:
            self._addresses[connection.host] = left
        else:
            del self._addresses[connection.host]
        self._closed(connection.link, connection.reason or reason)

    def take(self, connection: _Connection, content: bytes) -> None:
        """Bytes of a connection."""
        self._received(connection.link, content)


class _Connection(asyncio.Protocol):
    """One connection: a few words, for there may be thousands."""

    __slots__ = ("host", "is_held", "link", "reason", "server", "transport")

    def __init__(self, server: StreamServer) -> None:
        self.server = server
        self.link = 0
        self.host = ""
        self.reason = ""
        self.is_held = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses of it
        peer = transport.get_extra_info("peername") or ("?", 0)
        if not self.server.enter(self, str(peer[0]), int(peer[1])):
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.link:
            self.server.take(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.link:
            self.server.leave(self, "closed by peer" if exc is None else "link lost")
