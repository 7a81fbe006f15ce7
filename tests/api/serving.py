"""The API of a box: over the application itself, and over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from gateway.api.app import Backend, make_app
from gateway.api.roles import Privacy, Rights
from gateway.api.serve import run_local, run_network
from gateway.config import ApiConfig
from gateway.core.ports import Order, Orders, OrderTaker, Outcome
from gateway.ledger.accept import check_receipt
from gateway.live import Board
from tests.api.authority import Authority
from tests.api.box import NOW, Box

TOKEN = "test-token-0123456789"


@dataclass
class Health:
    """What /v1/health answers."""

    report: dict[str, Any] = field(default_factory=lambda: {"status": "ok", "checks": []})

    def __call__(self) -> Mapping[str, Any]:
        return self.report


OPEN = ("muck-truck", "receiver")
"""Classes that everybody may see; all others are private, and so are files and batches."""


class NoOrders:
    """Port `Orders`: nothing takes any."""

    async def submit(self, order: Order) -> Outcome:
        return Outcome("unknown", f"no source {order.source!r} takes orders")

    def serve(self, source: str, taker: OrderTaker | None) -> None:
        raise NotImplementedError


def app_of(box: Box, health: Health | None = None, board: Board | None = None, orders: Orders | None = None) -> ASGIApp:
    """The application over a box; receipts are checked and stored as in the gateway."""

    def privacy_of(device_class: str) -> Privacy:
        return "open" if device_class in OPEN else "process"

    async def accept(n: int, text: bytes, p7s: bytes, artifacts: bytes) -> None:
        sizes = {item.sha256: item.size_bytes for item in box.artifacts(n)}
        receipt = check_receipt(
            text, p7s, artifacts, origin=box.origin, batch=box.row(n), sizes=sizes, trust=box.trust, now=NOW
        )
        complete = receipt.artifacts_held == receipt.artifacts_total
        await box.outbox.store_receipt(n, text, p7s, artifacts, complete)

    return make_app(
        Backend(
            origin=box.origin,
            reader=box.reader,
            bundles=box.bundles,
            spool=box.spool,
            sources=lambda: [box.source],
            health=health or Health(),
            accept_receipt=accept,
            live=board or Board(privacy_of),
            orders=orders or NoOrders(),
            rights=Rights(privacy_of, lambda: True),
        )
    )


def ask(app: ASGIApp, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
    """One request to the application, without sockets."""

    async def one() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, headers=headers, **more)

    return asyncio.run(one())


@asynccontextmanager
async def served(box: Box, config: ApiConfig | None = None, app: ASGIApp | None = None) -> AsyncIterator[list[str]]:
    """The API on real sockets; yields the addresses. Ends gracefully."""
    stop, ready = asyncio.Event(), asyncio.Event()
    config, app = config or ApiConfig(), app or app_of(box)
    addresses: list[str] = []

    def note(address: str) -> None:
        addresses.append(address)
        addresses.sort(reverse=True)  # unix before https
        if len(addresses) == 1 + bool(config.listen):
            ready.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(run_local(box.state_dir, app, stop, lambda: None, note))
        if config.listen:
            group.create_task(run_network(config, app, stop, lambda: None, note))
        await ready.wait()
        try:
            yield addresses
        finally:
            stop.set()


def tls_config(
    folder: Path, authority: Authority, *, token: bool = True, client_ca: Authority | None = None
) -> ApiConfig:
    """A TLS listener on a free port of 127.0.0.1."""
    certificate_file, key_file = authority.tls_files(folder, "server", server=True)
    token_file, client_ca_file = folder / "token", folder / "client-ca.pem"
    token_file.write_text(TOKEN + "\n")
    if client_ca is not None:
        client_ca_file.write_bytes(client_ca.pem)
    return ApiConfig(
        listen="127.0.0.1:0",
        certificate_file=str(certificate_file),
        key_file=str(key_file),
        token_file=str(token_file) if token else "",
        client_ca_file=str(client_ca_file) if client_ca else "",
    )
