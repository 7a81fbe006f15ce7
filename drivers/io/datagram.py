"""UDP: datagrams in by callback, datagrams out without waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from gateway.core.errors import LinkError

RECEIVE_BUFFER_BYTES: Final = 1_048_576
"""Asked of the kernel: a fleet may report in the same moment."""

Sender = tuple[str, int]
Received = Callable[[Sender, bytes], None]


class DatagramServer(asyncio.DatagramProtocol):
    """One address."""

    def __init__(self, received: Received) -> None:
        self.dropped = 0
        """Datagrams that came while nothing could be taken; their senders get no answer and send again."""
        self.is_held = False
        self._received = received
        self._transport: asyncio.DatagramTransport | None = None

    async def listen(self, host: str, port: int) -> str:
        """Begin to receive; the address. Raises LinkError where that is not possible."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        except OSError as error:
            raise LinkError(
                f"cannot listen on UDP {host}:{port}: {error.strerror or error}; is the port taken?"
            ) from error
        self._transport = transport
        found = transport.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        name = transport.get_extra_info("sockname")
        return f"{name[0]}:{name[1]}"

    def datagram_received(self, data: bytes, addr: tuple[str | bytes, int]) -> None:
        """From the event loop."""
        if self.is_held:
            self.dropped += 1
        else:
            self._received((str(addr[0]), int(addr[1])), data)

    def error_received(self, exc: Exception) -> None:
        """An answer could not be delivered: its terminal sends again."""

    def write(self, to: Sender, content: bytes) -> None:
        """Send one datagram."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(content, to)

    def abort(self) -> None:
        """End."""
        if self._transport is not None:
            self._transport.abort()
