"""A platform on a raw socket for tests of the client: answers by WIRE.md, and misbehaves on command.

`script` holds what the next matching requests do instead: ``("PATCH", fault)``. A fault is a coroutine
``(exchange) -> None`` that has the socket to itself; the connection is closed when it returns.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import ssl
import tarfile
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from gateway.ledger.merkle import EMPTY_ROOT
from gateway.ledger.seal import Seal
from tests.api.box import Box

PROBLEM = "urn:fieldgate:problem:"


@dataclass
class Exchange:
    """One request: the head is read, the body is not."""

    method: str
    path: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: FakePlatform

    async def body(self) -> bytes:
        return await self.reader.readexactly(int(self.headers.get("content-length", "0")))

    async def raw(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        content = b"" if self.method == "HEAD" else body
        await self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + content)

    async def json(self, status: int, value: Any) -> None:
        await self.reply(status, json.dumps(value).encode(), content_type="application/json")

    async def problem(self, status: int, code: str, **members: Any) -> None:
        await self.json(status, {"type": PROBLEM + code, "title": code, "detail": code, **members})

    def abort(self) -> None:
        """A reset: what is in flight is lost."""
        self.writer.transport.abort()


Fault = Callable[[Exchange], Awaitable[None]]


@dataclass
class Upload:
    kind: str
    sha256: str
    length: int
    content: bytearray = field(default_factory=bytearray)


class FakePlatform:
    """Holds what it is sent; signs receipts with the key of `box.platform`."""

    def __init__(self, box: Box | None = None) -> None:
        self.box = box
        self.script: list[tuple[str, Fault]] = []
        self.always: list[tuple[str, Fault]] = []
        self.uploads: dict[str, Upload] = {}
        self.batches: list[int] = []
        self.size, self.root = 0, EMPTY_ROOT
        self.artifacts: dict[str, bytes] = {}
        self.alarms: list[bytes] = []
        self.stamps: dict[int, bytes] = {}
        self.wanted: list[str] = []
        self.log: list[tuple[str, str]] = []
        self.receipts = 0
        self.cut_every_bytes = 0
        self.body_bytes = 0
        self.port = 0
        self.changes: dict[str, Any] = {}
        """Fields that every receipt gets wrong."""

    @asynccontextmanager
    async def listen(self, tls: ssl.SSLContext | None = None):  # type: ignore[no-untyped-def]
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls, limit=1 << 16)
        self.port = server.sockets[0].getsockname()[1]
        self._open: set[asyncio.StreamWriter] = set()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        finally:
            server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await asyncio.sleep(0)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        exchange = Exchange(method, path, headers, reader, writer, self)
        self.log.append((method, path))
        fault = self._fault(f"{method} {path}")
        if fault is not None:
            await fault(exchange)
            return False
        await self._answer(exchange)
        return True

    def _fault(self, line: str) -> Fault | None:
        for number, (prefix, fault) in enumerate(self.script):
            if line.startswith(prefix) or prefix in line:
                del self.script[number]
                return fault
        return next((fault for prefix, fault in self.always if prefix in line), None)

    async def _answer(self, x: Exchange) -> None:
        parts = x.path.strip("/").split("/")
        match [x.method, *parts[1:]]:
            case ["GET", "gateways", _, "checkpoint"]:
                root = base64.b64encode(self.root).decode()
                await x.json(200, {"size": self.size, "root": root, "batch": len(self.batches)})
            case ["GET", "gateways", _, "requests"]:
                await x.json(200, {"artifacts": [w for w in self.wanted if w not in self.artifacts]})
            case ["POST", "uploads"]:
                await self._create(x)
            case ["HEAD", "uploads", name] if name in self.uploads:
                up = self.uploads[name]
                await x.reply(200, upload_offset=str(len(up.content)), upload_length=str(up.length))
            case ["PATCH", "uploads", name] if name in self.uploads:
                await self._patch(x, self.uploads[name])
            case ["POST", "gateways", _, "batches"]:
                await self._commit_batch(x)
            case ["POST", "gateways", _, "artifacts", digest]:
                await self._commit_artifact(x, digest)
            case ["PUT", "gateways", _, "batches", end, "stamp"]:
                self.stamps[int(end)] = await x.body()
                await x.reply(204)
            case ["POST", "gateways", _, "alarms"]:
                self.alarms.append(await x.body())
                await x.reply(202)
            case _:
                await x.body()
                await x.problem(404, "not-found")

    async def _create(self, x: Exchange) -> None:
        pairs = dict(pair.split(" ") for pair in x.headers["upload-metadata"].split(","))
        kind, digest = (base64.b64decode(pairs[key]).decode() for key in ("kind", "sha256"))
        if kind == "artifact" and self.box is not None and not self._names(digest):
            await x.problem(409, "not-named")
            return
        name = f"{len(self.uploads)}"
        self.uploads[name] = up = Upload(kind, digest, int(x.headers["upload-length"]))
        if digest in self.artifacts:
            up.content += self.artifacts[digest]
        await x.reply(201, location=f"/v1/uploads/{name}", upload_offset=str(len(up.content)))

    async def _patch(self, x: Exchange, up: Upload) -> None:
        left = int(x.headers["content-length"])
        if int(x.headers["upload-offset"]) != len(up.content):
            await x.reader.readexactly(left)
            await x.problem(409, "wrong-offset")
            return
        while left:
            room = self.cut_every_bytes - self.body_bytes % self.cut_every_bytes if self.cut_every_bytes else left
            piece = await x.reader.read(min(left, room, 1 << 16))
            if not piece:
                raise ConnectionResetError
            up.content += piece
            left -= len(piece)
            self.body_bytes += len(piece)
            if self.cut_every_bytes and self.body_bytes % self.cut_every_bytes == 0 and left:
                x.abort()
                raise ConnectionResetError
        await x.reply(204, upload_offset=str(len(up.content)))

    def _upload_of(self, body: bytes) -> Upload:
        return self.uploads[json.loads(body)["upload"].rsplit("/", 1)[1]]

    def _names(self, digest: str) -> list[int]:
        assert self.box is not None
        return [n for n in self.batches if digest in [item.sha256 for item in self.box.artifacts(n)]]

    def receipt(self, n: int) -> dict[str, Any]:
        """A receipt of batch `n` as it stands now, with a nonce of its own."""
        assert self.box is not None
        self.receipts += 1
        held = [item for item in self.box.artifacts(n) if item.sha256 in self.artifacts]
        changes = {"nonce": f"{self.receipts:032x}", **self.changes}
        text, p7s, artifacts = self.box.receipt(n, held=held, **changes)
        signature = base64.b64encode(p7s).decode()
        row = self.box.row(n)
        return {"end": row.end, "receipt": text.decode(), "signature": signature, "artifacts": artifacts.decode()}

    async def _commit_batch(self, x: Exchange) -> None:
        assert self.box is not None
        up = self._upload_of(await x.body())
        assert sha256(up.content).hexdigest() == up.sha256
        with tarfile.open(fileobj=io.BytesIO(bytes(up.content))) as tar:
            name = next(name for name in tar.getnames() if name.endswith("proof/seal.txt"))
            member = tar.extractfile(name)
            assert member is not None
            seal = Seal.parse(member.read())
        row = self.box.reader.batch_of(seal.first)
        assert row is not None
        if row.n not in self.batches:
            if (seal.first, seal.prev_root) != (self.size, self.root):
                code = "gap" if seal.first > self.size else "fork"
                await x.problem(409, code, size=self.size, root=base64.b64encode(self.root).decode())
                return
            self.batches.append(row.n)
            self.size, self.root = seal.end, seal.root
        await x.json(200, self.receipt(row.n))

    async def _commit_artifact(self, x: Exchange, digest: str) -> None:
        up = self._upload_of(await x.body())
        if sha256(up.content).hexdigest() != digest:
            await x.problem(422, "hash-differs")
            return
        self.artifacts[digest] = bytes(up.content)
        await x.json(200, {"receipts": [self.receipt(n) for n in self._names(digest)]})


# ---------------------------------------------------------------- faults


def answer(status: int, body: bytes = b"", **headers: str) -> Fault:
    """A whole answer of this status."""

    async def fault(x: Exchange) -> None:
        await x.body()
        await x.reply(status, body, connection="close", **headers)

    return fault


def raw(text: bytes) -> Fault:
    """These bytes, then the connection ends."""

    async def fault(x: Exchange) -> None:
        await x.body()
        await x.raw(text)

    return fault


async def cut(x: Exchange) -> None:
    """The connection breaks before an answer."""
    x.abort()


async def black_hole(x: Exchange) -> None:
    """Accepts everything and never answers."""
    await x.body()
    await x.reader.read()


async def deaf(x: Exchange) -> None:
    """Does not even read the body."""
    x.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def drip(x: Exchange) -> None:
    """One byte of an answer at a time, for ever, each well within the time-out of one read."""
    await x.body()
    await x.raw(b"HTTP/1.1 200 OK\r\nx-drip: ")
    while True:
        await x.raw(b"a")
        await asyncio.sleep(0.02)


def answer_lost(x_prefix: str = "") -> Fault:
    """The platform does it, but its answer never arrives."""

    async def fault(x: Exchange) -> None:
        silent = Exchange(x.method, x.path, x.headers, x.reader, _Sink(), x.server)  # type: ignore[arg-type]
        await x.server._answer(silent)
        x.abort()

    return fault


class _Sink:
    """Where a lost answer goes."""

    def write(self, _: bytes) -> None:
        return

    async def drain(self) -> None:
        return
