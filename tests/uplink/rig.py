"""A real gateway store joined to the uplink's loop, with short waits."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from buffers.journal import Memory
from gateway.config import Config, GatewayConfig, KeysConfig, StorageConfig, TimeConfig, UplinkConfig
from gateway.core.instant import Instant
from gateway.core.ports import UplinkStatus
from gateway.core.record import Draft, parse_leaf
from gateway.ingest import Ingest
from tests.api.box import Box
from uplink.delivery import Delivery
from uplink.https_client import HttpsLink, PlatformClient
from uplink.loop import Uplink, UplinkParts
from uplink.pacing import TokenBucket

TIMEOUT_S = 2.0


class BoxClock:
    """The box's own clock, without steps."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def now(self) -> Instant:
        return self._box.now()

    def take_steps(self) -> list[tuple[Draft, Instant]]:
        return []

    def put_back_steps(self, steps: list[tuple[Draft, Instant]]) -> None:
        return


class Rig:
    """One process of the gateway as far as the uplink is concerned; make another one for a restart."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.clock = BoxClock(box)
        self.sink = Ingest(box.journal, self.clock, Memory(box.database))
        self.parts = UplinkParts(
            box.outbox, box.reader, box.bundles, self.sink, box.spool, self.clock, self.sink.alarms
        )
        self.status = UplinkStatus()
        self.delivery = Delivery(retry_min_s=0.01, retry_max_s=0.1, stamp_grace_s=0)

    def config(self, url: str = "", **uplink: Any) -> Config:
        return Config(
            gateway=GatewayConfig(id=self.box.gateway),
            storage=StorageConfig(state_dir=str(self.box.state_dir)),
            keys=KeysConfig(key_file=str(self.box.folder / "gateway.key")),
            time=TimeConfig(),
            uplink=UplinkConfig(url=url, **uplink),
        )

    async def run(
        self,
        url: str,
        until: Callable[[], bool],
        *,
        artifacts: str = "push",
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        rate: float = 0.0,
        limit_s: float = 20.0,
    ) -> None:
        """Deliver until the condition holds. Errors of the loop propagate."""
        stop = asyncio.Event()

        def tick() -> None:
            if until():
                stop.set()

        link = HttpsLink(url, tls or ssl.create_default_context(), timeout_s=timeout_s)
        async with link, asyncio.timeout(limit_s):
            client = PlatformClient(link, self.box.gateway, TokenBucket(rate))
            uplink = Uplink(
                self.config(url, artifacts=artifacts),
                self.parts,
                self.box.trust,
                client,
                self.delivery,
                lambda: 0.5,
                self.status,
            )
            await uplink.run(stop, tick)

    def empty(self) -> bool:
        """Nothing waits."""
        return not self.box.outbox.due(1)

    def records(self, kind: str) -> list[dict[str, Any]]:
        """`data` of all records of a kind."""
        return [dict(parse_leaf(leaf).data) for _, leaf in self.box.reader.records(kind=kind, limit=1000)]

    def alarms(self) -> list[tuple[str, str]]:
        """(code, state) of the uplink's alarms, oldest first."""
        return [(data["code"], data["state"]) for data in self.records("alarm") if "state" in data]


def go(work: Awaitable[None]) -> None:
    """Run one scenario."""

    async def main() -> None:
        await work

    asyncio.run(main())


def folder_of(path: Path, name: str) -> Path:
    """A new folder."""
    folder = path / name
    folder.mkdir()
    return folder
