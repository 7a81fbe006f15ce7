"""A running platform and a plain client of WIRE.md, over real TLS sockets. Knows nothing of the platform's code."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.uplink.platform.fieldbox import FieldBox, key_and_csr
from uplink.platform.config import PlatformConfig
from uplink.platform.platform import Platform, init_platform, is_initialised
from uplink.platform.server import run_platform

TUS = {"tus-resumable": "1.0.0"}
PATCH = {**TUS, "content-type": "application/offset+octet-stream"}


def config_in(folder: Path, **settings: Any) -> PlatformConfig:
    """A small platform on a free port."""
    values = {"data_dir": str(folder / "platform"), "listen": "127.0.0.1:0", "reserve_bytes": 0} | settings
    return PlatformConfig(**values)


def opened(folder: Path, **settings: Any) -> Platform:
    """An open platform that does not listen; made where there is none yet."""
    config = config_in(folder, **settings)
    if not is_initialised(config):
        init_platform(config)
    return Platform(config)


def enrolled(platform: Platform, gateway: str = "gw-1") -> FieldBox:
    """A box that the platform knows."""
    key, csr = key_and_csr()
    token = platform.new_enrolment_token(gateway)
    answer = platform.enrolment.enrol(gateway, csr, token, platform.now())
    return FieldBox(gateway, key, answer.certificate.encode(), answer.ca.encode(), answer.crl.encode())


class Wire:
    """One gateway's or person's connection."""

    def __init__(self, client: httpx.AsyncClient, gateway: str) -> None:
        self.client = client
        self.gateway = gateway
        self.base = f"/v1/gateways/{gateway}"

    async def create(self, kind: str, content: bytes, sha256: str | None = None) -> httpx.Response:
        """POST /v1/uploads."""
        values = {"gateway": self.gateway, "kind": kind, "sha256": sha256 or hashlib.sha256(content).hexdigest()}
        metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())
        headers = {**TUS, "upload-length": str(len(content)), "upload-metadata": metadata}
        return await self.client.post("/v1/uploads", headers=headers)

    async def patch(self, location: str, offset: int, content: Any) -> httpx.Response:
        """PATCH of one upload."""
        headers = {**PATCH, "upload-offset": str(offset)}
        return await self.client.patch(location, headers=headers, content=content)

    async def upload(self, kind: str, content: bytes, sha256: str | None = None) -> str:
        """A complete upload; its location."""
        created = await self.create(kind, content, sha256)
        assert created.status_code == 201, created.text
        location, offset = created.headers["location"], int(created.headers["upload-offset"])
        if offset < len(content):
            sent = await self.patch(location, offset, content[offset:])
            assert sent.status_code == 204, sent.text
        return location

    async def batch(self, tar: bytes) -> httpx.Response:
        """Upload a bundle and hand it in."""
        location = await self.upload("bundle", tar)
        return await self.client.post(f"{self.base}/batches", json={"upload": location})

    async def artifact(self, content: bytes) -> httpx.Response:
        """Upload an artifact and hand it in."""
        location = await self.upload("artifact", content)
        sha256 = hashlib.sha256(content).hexdigest()
        return await self.client.post(f"{self.base}/artifacts/{sha256}", json={"upload": location})


@asynccontextmanager
async def serving(platform: Platform) -> AsyncIterator[str]:
    """The base address of a platform that listens."""
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_platform(platform.config, stop, address.set_result, platform=platform))
        await asyncio.wait({running, address}, return_when=asyncio.FIRST_COMPLETED)
        try:
            yield address.result()
        finally:
            stop.set()


def client_for(
    platform: Platform, address: str, token: str = "", certificate: tuple[Path, Path] | None = None
) -> httpx.AsyncClient:
    """A client that trusts the platform's CA and nothing else."""
    context = ssl.create_default_context(cadata=platform.authority.ca_pem)
    if certificate is not None:
        context.load_cert_chain(*certificate)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=address, verify=context, headers=headers, timeout=20, trust_env=False)


def over_wire(folder: Path, scenario: Callable[[Platform, Wire, FieldBox], Awaitable[None]], **settings: Any) -> None:
    """Run a scenario of one enrolled gateway, with its bearer token, against a listening platform."""

    async def run() -> None:
        with opened(folder, **settings) as platform:
            box = enrolled(platform)
            bearer = platform.enrolment.bearer("gw-1")
            async with serving(platform) as address, client_for(platform, address, bearer) as client:
                await scenario(platform, Wire(client, "gw-1"), box)

    asyncio.run(run())
