"""Running the platform: TLS listener, sweeping of expired uploads, orderly end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway import log
from gateway.core.errors import ConfigError, Problem
from uplink.platform.app import make_app
from uplink.platform.config import PlatformConfig
from uplink.platform.listener import make_listener, tls_context
from uplink.platform.platform import Platform

SWEEP_INTERVAL_S: Final = 3600
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised here, not bound to

_log = log.get("platform")


async def run_platform(
    config: PlatformConfig,
    stop: asyncio.Event,
    ready: Callable[[str], None],
    *,
    platform: Platform | None = None,
) -> None:
    """Serve until `stop` is set; `ready` gets the base address once the socket listens.

    `platform`: one that is open already on the same folder and stays open; otherwise one is opened and closed here.
    Raises ConfigError where folder, certificate or address cannot be used, IntegrityError as `Platform`.
    """
    if platform is None:
        with Platform(config) as opened:
            await _serve(opened, stop, ready)
    else:
        await _serve(platform, stop, ready)


async def _serve(platform: Platform, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    host, port = platform.config.listen_address()
    tls = _server_tls(platform, host)

    def listening(bound: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        _log.info("platform_listening", address=f"https://{shown}:{bound}")
        ready(f"https://{shown}:{bound}")

    with _bind(host, port) as listening_socket:
        listener = make_listener(make_app(platform), tls, platform.config.connections_max, listening)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(listener.serve(sockets=[listening_socket]))
            sweeping = group.create_task(_sweep(platform))
            waiting = group.create_task(stop.wait())
            await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
            listener.should_exit = True
            sweeping.cancel()
            waiting.cancel()


async def _sweep(platform: Platform) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_INTERVAL_S)
        began = loop.time()
        gone = platform.uploads.sweep(platform.now())
        if gone:
            _log.info("uploads_expired", count=gone, took_s=round(loop.time() - began, 3))


def _bind(host: str, port: int) -> socket.socket:
    """A listening address. Raises ConfigError with what is wrong about it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError([Problem("", 0, "listen", f"{host}:{port} cannot be used: {error.strerror}")]) from None
    bound.setblocking(False)
    return bound


def _server_tls(platform: Platform, host: str) -> ssl.SSLContext:
    config, pki = platform.config, platform.config.folder / "pki"
    if config.certificate_file:
        certificate, key = Path(config.certificate_file), Path(config.key_file)
    else:
        names = [*config.public_names, *(["localhost", "127.0.0.1", "::1"] if host in WILDCARDS else [host])]
        certificate, key = platform.authority.issue_server(names, platform.now())
    try:
        return tls_context(certificate, key, pki / "ca.pem")
    except (OSError, ssl.SSLError) as error:
        message = f"certificate or key cannot be used: {error.strerror or error}"
        raise ConfigError([Problem(str(certificate), 0, "", message)]) from None
