"""Upload: how much is sent twice over a line that keeps breaking, and how fast a whole line is used.

Both go to the reference platform in a process of its own, over TLS on loopback. The breaking line is a relay that
resets the connection after every so many bytes towards the platform; what lies in its buffers is lost. The other
side of the rate is `curl -T` over TLS to the plainest server that keeps a file: uvicorn, stream to disk, one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.ports import OutboxItem
from tests.bench.figure import Figure, at_least, at_most
from uplink.answers import OffsetDiffers, Unavailable
from uplink.content import SpoolFile
from uplink.delivery import (
    AskCheckpoint,
    AskRequests,
    Command,
    Commit,
    CreateUpload,
    Delivery,
    FindOffset,
    OpenContent,
    ReleaseQuarantined,
    SendChunk,
    Wait,
    Work,
)
from uplink.enrol_client import enrol
from uplink.https_client import HttpsLink, PlatformClient, tls_context
from uplink.pacing import TokenBucket
from uplink.platform.config import PlatformConfig
from uplink.platform.platform import Platform, init_platform
from uplink.platform.server import run_platform

ID = "bench.example"
RESENT_BYTES = 32_000_000
CUT_EVERY_BYTES = 1_000_000
RATE_BYTES = 240_000_000
"""Below the reference platform's limit for bundles: an artifact is taken only when a batch names it."""
ROUNDS = 5


@dataclass(frozen=True)
class Peer:
    """A server process on loopback."""

    port: int
    ca_file: Path
    token: str

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


def run() -> list[Figure]:
    """All figures of the uplink."""
    share, cuts = resent_share(RESENT_BYTES, CUT_EVERY_BYTES)
    ratio, detail = upload_ratio(RATE_BYTES)
    return [
        at_most("resent bytes, link cut every 1 MB", 100 * share, 10, "%", f"{RESENT_BYTES / 1e6:.0f} MB, {cuts} cuts"),
        at_least("upload to the platform / curl -T to a plain server", ratio, 0.7, "x", detail),
    ]


def resent_share(size_bytes: int, cut_every_bytes: int) -> tuple[float, int]:
    """(bytes sent more than once as a share of the file, number of cuts)."""
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        path = Path(name, "content")
        path.write_bytes(secrets.token_bytes(size_bytes))
        with server("platform", Path(name)) as peer:
            return asyncio.run(_resent(peer, path, size_bytes, cut_every_bytes))


async def _resent(peer: Peer, path: Path, size_bytes: int, cut_every_bytes: int) -> tuple[float, int]:
    async with relay(peer.port, cut_every_bytes) as (port, line):
        await FileUpload(path).send(Peer(port, peer.ca_file, peer.token))
        return line.passed_bytes / size_bytes - 1, line.cuts


def upload_ratio(size_bytes: int) -> tuple[float, str]:
    """Rate of our upload over the rate of curl, median of alternating rounds, each to its own server."""
    curl = shutil.which("curl")
    if curl is None:
        raise RuntimeError("bench uplink: curl is not installed; apt-get install curl")
    with tempfile.TemporaryDirectory(prefix="fieldgate-bench-") as name:
        folder, path, ratios, ours_s = Path(name), Path(name, "content"), [], []
        with server("platform", folder) as platform, server("plain", folder, platform.ca_file) as plain:
            for _ in range(ROUNDS):
                path.write_bytes(secrets.token_bytes(size_bytes))  # a platform knows content that it had before
                start = time.perf_counter()
                asyncio.run(FileUpload(path).send(platform))
                middle = time.perf_counter()
                command = [curl, "-sSf", "--cacert", str(plain.ca_file), "-T", str(path), f"{plain.url}/file"]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                ours_s.append(middle - start)
                ratios.append((time.perf_counter() - middle) / (middle - start))
    ratios.sort()
    rate = size_bytes / 1e6 / sorted(ours_s)[ROUNDS // 2]
    return ratios[ROUNDS // 2], f"{rate:.0f} MB/s; min {ratios[0]:.2f}, max {ratios[-1]:.2f}, {ROUNDS} pairs"


# ---------------------------------------------------------------- the client's side


class FileUpload:
    """One file through the real delivery and client, up to the point where the platform has every byte."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.source = SpoolFile(path, digest)
        self.item = OutboxItem(1, "artifact", digest, 2, self.source.size_bytes, 0, None)
        self.delivery = Delivery(retry_min_s=0.001, retry_max_s=0.01, stamp_grace_s=0)

    async def send(self, peer: Peer) -> None:
        """Send until it is there."""
        loop, work = asyncio.get_running_loop(), Work(artifacts=[self.item])
        async with HttpsLink(peer.url, tls_context(str(peer.ca_file)), timeout_s=10, token=peer.token) as link:
            client = PlatformClient(link, ID, TokenBucket(0))
            while not isinstance(command := self.delivery.next(loop.time(), work), Commit):
                try:
                    await self._do(command, client, loop.time())
                except OffsetDiffers:
                    self.delivery.lost_place(self.item)
                except Unavailable as error:
                    self.delivery.failed(self.item, error.failure, loop.time(), 0.5)

    async def _do(self, command: Command, client: PlatformClient, now_s: float) -> None:
        delivery, item, source = self.delivery, self.item, self.source
        match command:
            case ReleaseQuarantined():
                delivery.released(now_s)
            case AskCheckpoint():
                delivery.checkpoint_is((await client.checkpoint()).size, now_s)
            case AskRequests():
                delivery.requests_read(now_s)
            case Wait(until_s):
                await asyncio.sleep(max(0.0, until_s - now_s))
            case OpenContent():
                delivery.opened(item, source.size_bytes, source.etag)
            case CreateUpload():
                url, offset = await client.create_upload("bundle", source.etag, source.size_bytes)
                delivery.created(item, url, offset)
            case FindOffset(_, url):
                state = await client.find_offset(url)
                delivery.found(item, state.offset, state.length, state.sha256)
            case SendChunk(_, url, offset, size_bytes):
                offset = await client.send_chunk(url, source, offset, size_bytes, self._handed_out)
                delivery.patched(item, offset, asyncio.get_running_loop().time() - now_s)

    def _handed_out(self, offset: int, size_bytes: int) -> None:
        self.delivery.handed_out(self.item, offset, size_bytes)


@dataclass
class Line:
    """What went over the breaking line towards the platform, TLS and HTTP included."""

    passed_bytes: int = 0
    cuts: int = 0


@asynccontextmanager
async def relay(port: int, cut_every_bytes: int) -> AsyncIterator[tuple[int, Line]]:
    """A port that leads to `port` and resets after every `cut_every_bytes` towards it (0: never)."""
    line = Line()
    open_ends: dict[asyncio.Task[None] | None, list[asyncio.StreamWriter]] = {}

    async def there(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = cut_every_bytes or sys.maxsize
        with contextlib.suppress(ConnectionError):
            while left and (piece := await reader.read(min(1 << 16, left))):
                line.passed_bytes += len(piece)
                left -= len(piece)
                writer.write(piece)
                await writer.drain()
        line.cuts += not left

    async def back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        mine = asyncio.current_task()
        open_ends[mine] = [writer, far_writer]
        async with asyncio.TaskGroup() as group:
            answers = group.create_task(back(far_reader, writer))
            await there(reader, far_writer)
            answers.cancel()
            for end in open_ends.pop(mine):
                end.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], line
    finally:
        listening.close()
        waiting = [task for task in open_ends if task is not None]
        for end in [end for ends in open_ends.values() for end in ends]:
            end.transport.abort()
        await asyncio.gather(*waiting)


# ---------------------------------------------------------------- the servers' side


@contextmanager
def server(kind: str, folder: Path, ca_file: Path | None = None) -> Iterator[Peer]:
    """A server in a process of its own; it ends when its standard input does."""
    command = [sys.executable, "-m", "tests.bench.uplink", kind, str(folder), str(ca_file or "")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("READY "):
                _, port, ca, token = line.split()
                yield Peer(int(port), Path(ca), token)
                return
        raise RuntimeError(f"bench uplink: the {kind} server ended before it was ready")
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()


async def serve_platform(folder: Path, stop: asyncio.Event) -> None:
    """The reference platform, with one enrolled gateway."""
    config = PlatformConfig(data_dir=str(folder / "platform"), listen="127.0.0.1:0", reserve_bytes=0)
    init_platform(config)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with Platform(config) as platform:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_platform(config, stop, ready.set_result, platform=platform))
            url = await ready
            request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
            signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
            csr = signed.public_bytes(Encoding.PEM)
            ca_file = folder / "platform" / "pki" / "ca.pem"
            given = await enrol(url, ID, csr, platform.new_enrolment_token(ID), str(ca_file))
            print(f"READY {url.rsplit(':', 1)[1]} {ca_file} {given.token}", flush=True)


async def serve_plain(folder: Path, ca_file: Path, stop: asyncio.Event) -> None:
    """PUT /file: the body goes to a file, fsync, 201. The platform's own server certificate."""

    async def put(request: Request) -> Response:
        with (folder / "plain").open("wb", buffering=0) as file:
            async for piece in request.stream():
                file.write(piece)
            os.fsync(file.fileno())
        return Response(status_code=201)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pki = ca_file.parent
    tls.load_cert_chain(pki / "server.pem", pki / "server.key")
    sock = socket.create_server(("127.0.0.1", 0))
    options: dict[str, Any] = {"log_config": None, "lifespan": "off", "ssl_context_factory": lambda *_: tls}
    listener = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/file", put, methods=["PUT"])]), **options))
    async with asyncio.TaskGroup() as group:
        group.create_task(listener.serve(sockets=[sock]))
        print(f"READY {sock.getsockname()[1]} {ca_file} -", flush=True)
        await stop.wait()
        listener.should_exit = True


async def _serve(kind: str, folder: Path, ca_file: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    await (serve_platform(folder, stop) if kind == "platform" else serve_plain(folder, ca_file, stop))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
