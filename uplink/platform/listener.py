"""The TLS listener: uvicorn in this process, with the client's certificate in the ASGI scope.

uvicorn offers no way to the peer certificate, but copies ``app_state`` of the connection into ``scope["state"]`` of
each of its requests: the protocol is subclassed to put ``peer_certificate_der`` there. The protocol is h11 also where
httptools is installed: h11 bounds the size of a request head, httptools does not, and it is no bottleneck here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_MAX_BYTES: Final = 16_384
HEAD_TIMEOUT_S: Final = 30.0
"""A new connection that has not brought a whole request head by then is closed."""
KEEP_ALIVE_S: Final = 75
SHUTDOWN_S: Final = 5
BACKLOG: Final = 256


def peer_certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """DER of the client's certificate as the TLS layer verified it; None where there is none."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return None if tls is None else tls.getpeercert(binary_form=True)


class TlsH11Protocol(H11Protocol):
    """uvicorn's HTTP over h11, with the peer certificate and an end to connections that never ask anything."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember who is at the other end; start the clock for the first request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer_certificate_der": peer_certificate(transport)}
        self.loop.call_later(HEAD_TIMEOUT_S, _close_if_idle, self, transport)


def _close_if_idle(protocol: Any, transport: asyncio.Transport) -> None:
    if protocol.cycle is None and not transport.is_closing():
        transport.close()


class Listener(uvicorn.Server):
    """uvicorn without signal handlers of its own; `ready` gets the port once the socket listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[int], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process that runs us."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._ready(self.servers[0].sockets[0].getsockname()[1])


def tls_context(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """TLS 1.2 or later; a client certificate is asked for, not required, and must be of `client_ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def make_listener(app: ASGIApp, tls: ssl.SSLContext, connections_max: int, ready: Callable[[int], None]) -> Listener:
    """A server for `app`: started with ``await serve(sockets=[bound])``, ended with ``should_exit = True``."""
    config = uvicorn.Config(
        app,
        http=TlsH11Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=connections_max,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        h11_max_incomplete_event_size=HEAD_MAX_BYTES,
        ssl_context_factory=lambda _config, _default: tls,
    )
    return Listener(config, ready)
