"""Resumable uploads: tus 1.0.0 core, creation, termination, expiration (WIRE.md section 4).

One upload is two files in the folder `uploads`: ``<id>.json`` says what it is, ``<id>`` holds the bytes, and its size
is the offset: nothing else remembers how far an upload is, so a crash cannot make the two disagree. The id is derived
from gateway, kind, hash and length: creating the same upload again finds it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec

from gateway.core.errors import IntegrityError
from uplink.platform import durable
from uplink.platform.config import PlatformConfig
from uplink.platform.problems import Refusal

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,termination,expiration"
WRITE_BYTES: Final = 1_048_576
"""Bytes collected from the socket before they go to the disk."""
METADATA_MAX_CHARS: Final = 1024
LOCK_RETRY_AFTER_S: Final = 1
ROOM_RETRY_AFTER_S: Final = 300

Kind = Literal["bundle", "artifact"]


class Upload(msgspec.Struct, frozen=True):
    """One upload: whose, what, how long."""

    id: str
    gateway: str
    kind: Kind
    sha256: str
    size_bytes: int


def upload_id(gateway_id: str, kind: str, sha256: str, size_bytes: int) -> str:
    """The id of an upload: 32 hex digits."""
    return hashlib.sha256(f"{gateway_id} {kind} {sha256} {size_bytes}".encode()).hexdigest()[:32]


def parse_metadata(header: str) -> dict[str, str]:
    """``Upload-Metadata``: comma-separated ``key base64`` pairs. Raises Refusal."""
    if len(header) > METADATA_MAX_CHARS:
        raise Refusal("malformed", f"Upload-Metadata is longer than {METADATA_MAX_CHARS} characters")
    pairs: dict[str, str] = {}
    for item in header.split(","):
        key, _, encoded = item.strip().partition(" ")
        try:
            value = base64.b64decode(encoded, validate=True).decode("ascii")
        except ValueError:
            raise Refusal("malformed", f"Upload-Metadata: the value of {key!r} is not base64 of ASCII text") from None
        if not key or key in pairs:
            raise Refusal("malformed", "Upload-Metadata: an empty or repeated key")
        pairs[key] = value
    return pairs


def metadata_of(upload: Upload) -> str:
    """The same as `parse_metadata` reads, for HEAD."""
    pairs = (("gateway", upload.gateway), ("kind", upload.kind), ("sha256", upload.sha256))
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs)


def parse_size(text: str | None, name: str) -> int:
    """A header that holds a count of bytes. Raises Refusal."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Refusal("malformed", f"{name}: expected a decimal number of bytes")
    return int(text)


@dataclass(slots=True)
class Uploads:
    """The folder of uploads. Locks are per process: one process serves one folder."""

    folder: Path
    config: PlatformConfig
    _locked: set[str] = field(default_factory=set)

    def path(self, upload: Upload) -> Path:
        """Where the bytes are."""
        return self.folder / upload.id

    def find(self, identity: str) -> Upload | None:
        """An unfinished upload by its id; None for anything else, however it is spelled."""
        if len(identity) != 32 or not set(identity) <= set("0123456789abcdef"):
            return None
        try:
            return msgspec.json.decode((self.folder / f"{identity}.json").read_bytes(), type=Upload)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise IntegrityError(f"uploads/{identity}.json cannot be read ({error}); delete it") from None

    def offset(self, upload: Upload) -> int:
        """How many bytes are here."""
        return self.path(upload).stat().st_size

    def expires(self, upload: Upload) -> datetime:
        """When the upload is thrown away if no byte comes."""
        touched = datetime.fromtimestamp(self.path(upload).stat().st_mtime, UTC)
        return touched + timedelta(hours=self.config.upload_expiry_hours)

    def create(self, gateway_id: str, kind: Kind, sha256: str, size_bytes: int) -> Upload:
        """A new upload, or the same one that is there already. Raises Refusal at a limit."""
        upload = Upload(upload_id(gateway_id, kind, sha256, size_bytes), gateway_id, kind, sha256, size_bytes)
        if self.find(upload.id) is not None:
            return upload
        others = [other for other in self.all() if other.gateway == gateway_id]
        if len(others) >= self.config.uploads_max:
            detail = f"{len(others)} unfinished uploads; finish or delete some, or wait for their expiry"
            raise Refusal("busy", detail, headers={"retry-after": str(ROOM_RETRY_AFTER_S)})
        self.check_room(size_bytes)
        if sum(other.size_bytes for other in others) + size_bytes > self.config.upload_quota_bytes:
            raise no_room("the quota of unfinished uploads of this gateway is used up")
        durable.write_atomic(self.path(upload), b"")  # the bytes' file first: the .json makes the upload exist
        durable.write_atomic(self.folder / f"{upload.id}.json", msgspec.json.encode(upload))
        return upload

    def check_room(self, size_bytes: int) -> None:
        """Raise Refusal (507) unless so many bytes fit above the reserve."""
        if durable.free_bytes(self.folder) < size_bytes + self.config.reserve_bytes:
            raise no_room(f"the platform's disk has no room for {size_bytes} bytes above its reserve")

    @contextlib.contextmanager
    def lock(self, upload: Upload) -> Iterator[None]:
        """Hold an upload; Refusal (423) where another request holds it."""
        if upload.id in self._locked:
            detail = "another request is using this upload; wait, then HEAD"
            raise Refusal("locked", detail, headers={"retry-after": str(LOCK_RETRY_AFTER_S)})
        self._locked.add(upload.id)
        try:
            yield
        finally:
            self._locked.discard(upload.id)

    async def append(self, upload: Upload, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Write what comes at `offset`, fsync, return the new offset. The caller holds the lock.

        What arrived before a broken connection, a time-out or a full disk is kept and synced. Raises Refusal.
        """
        path = self.path(upload)
        present = path.stat().st_size
        if offset != present:
            detail = f"the upload holds {present} bytes, the request begins at {offset}"
            headers = {"upload-offset": str(present), "tus-resumable": VERSION}
            raise Refusal("wrong-offset", detail, members={"offset": present}, headers=headers)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            return await self._write(upload, descriptor, present, chunks)
        finally:
            try:
                await asyncio.to_thread(os.fsync, descriptor)
            finally:
                os.close(descriptor)

    async def _write(self, upload: Upload, descriptor: int, offset: int, chunks: AsyncIterator[bytes]) -> int:
        buffer = bytearray()
        try:
            async for chunk in _timely(chunks, self.config.upload_idle_s):
                room = upload.size_bytes - offset - len(buffer)
                if len(chunk) > room:
                    detail = f"more bytes than the Upload-Length of {upload.size_bytes}"
                    raise Refusal("too-large", detail, members={"limit": upload.size_bytes})
                buffer += chunk
                if len(buffer) >= WRITE_BYTES:
                    full, buffer = buffer, bytearray()
                    offset += await asyncio.to_thread(_write_all, descriptor, full)
        finally:
            if buffer:
                offset += await asyncio.to_thread(_write_all, descriptor, buffer)
        return offset

    def remove(self, upload: Upload) -> None:
        """Forget an upload. The .json goes last: a crash between leaves an upload of zero bytes, no nameless file."""
        self.path(upload).unlink(missing_ok=True)
        (self.folder / f"{upload.id}.json").unlink(missing_ok=True)
        durable.fsync_folder(self.folder)

    def all(self) -> Iterator[Upload]:
        """All unfinished uploads."""
        for path in sorted(self.folder.glob("*.json")):
            upload = self.find(path.stem)
            if upload is not None:
                yield upload

    def sweep(self, now: datetime) -> int:
        """Throw away what has expired and what a crash left half made; return how many have expired."""
        gone = 0
        for path in sorted(self.folder.iterdir()):
            if path.suffix != ".json" and not path.with_suffix(".json").exists() and path.stem not in self._locked:
                path.unlink(missing_ok=True)
        for upload in list(self.all()):
            if not self.path(upload).exists():
                durable.write_atomic(self.path(upload), b"")
            if upload.id not in self._locked and self.expires(upload) < now:
                self.remove(upload)
                gone += 1
        return gone


def no_room(detail: str) -> Refusal:
    """507: nothing was stored, come back much later."""
    return Refusal("no-room", detail, headers={"retry-after": str(ROOM_RETRY_AFTER_S)})


def _write_all(descriptor: int, content: bytearray) -> int:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(content)


async def _timely(chunks: AsyncIterator[bytes], idle_s: float) -> AsyncIterator[bytes]:
    """The chunks; Refusal (408) where the next one takes too long."""
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refusal("body-timeout", f"no byte for {idle_s} s; HEAD and go on") from None
        if chunk:
            yield chunk
