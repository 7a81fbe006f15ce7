"""Answers that stream a ByteSource: conditional, by range, with back-pressure, and a bound on how many at once."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.api.problem import ProblemError
from gateway.api.ranges import select
from gateway.core.errors import FieldgateError
from gateway.core.ports import ByteSource

BUNDLES_MAX: Final = 4
"""Bundles streamed at once; each holds the records of one batch in memory. A further one is answered 429."""
ARTIFACTS_MAX: Final = 16
"""Artifacts streamed at once."""
CHUNK_SIZE_BYTES: Final = 262_144


class Slots:
    """Counts the downloads under way."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def take(self) -> Callable[[], None]:
        """Take one; the returned function gives it back, however often it is called. Raises ProblemError (429)."""
        if self._free == 0:
            raise ProblemError("busy", "too many downloads at once; try again later", {"retry-after": "2"})
        self._free -= 1
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._free += 1

        return give_back


class SourceResponse(StreamingResponse):
    """Streams one range of a source, reading in a thread, one chunk ahead of the client at most.

    Bytes that can no longer be read after the head has gone (an artifact expired meanwhile, a disk error) leave
    only one honest end: the connection is cut short of its Content-Length, and the client asks again.
    """

    def __init__(
        self,
        source: ByteSource,
        span: tuple[int, int],
        status: int,
        headers: Mapping[str, str],
        release: Callable[[], None],
    ) -> None:
        super().__init__(source.read(*span), status, headers)
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except (OSError, FieldgateError):
            return  # returning without the last body message makes the server close the connection


def answer(request: Request, source: ByteSource, headers: Mapping[str, str], release: Callable[[], None]) -> Response:
    """The response to a GET or HEAD of `source`. `headers` must hold content-type and cache-control."""
    chosen = select(request.method, request.headers, source.etag, source.size_bytes)
    common = {**headers, "etag": f'"{source.etag}"', "accept-ranges": "bytes"}
    if chosen.status == 412:
        raise ProblemError("precondition-failed", "the content has another entity tag now; ask again without If-Match")
    if chosen.status == 416:
        raise ProblemError(
            "range-not-satisfiable",
            f"the content has {source.size_bytes} bytes",
            {"content-range": chosen.content_range or "", "etag": common["etag"]},
        )
    if chosen.status == 304:
        release()
        return Response(status_code=304, headers=common)
    common["content-length"] = str(chosen.end - chosen.start)
    if chosen.content_range is not None:
        common["content-range"] = chosen.content_range
    if request.method == "HEAD":
        release()
        return Response(status_code=chosen.status, headers=common)
    return SourceResponse(source, (chosen.start, chosen.end), chosen.status, common, release)


def whole(request: Request, body: bytes, cache: str, media_type: str = "application/json") -> Response:
    """A small body with an entity tag, so that an unchanged one costs no transfer."""
    etag = hashlib.sha256(body).hexdigest()
    headers = {"etag": f'"{etag}"', "cache-control": cache, "content-type": media_type}
    chosen = select("HEAD", request.headers, etag, len(body))  # never by range
    if chosen.status == 304:
        return Response(status_code=304, headers=headers)
    if chosen.status == 412:
        raise ProblemError("precondition-failed", "the content has another entity tag now; ask again without If-Match")
    return Response(body, headers=headers)


class FileSource:
    """A file whose name is its SHA-256, as a ByteSource."""

    def __init__(self, path: Path, sha256: str, size_bytes: int) -> None:
        self._path = path
        self.etag = sha256
        self.size_bytes = size_bytes

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Chunks of [start, end). Raises OSError where the file is gone or shorter than its record says."""
        with self._path.open("rb", buffering=0) as file:
            file.seek(start)
            while start < end:
                chunk = file.read(min(CHUNK_SIZE_BYTES, end - start))
                if not chunk:
                    raise OSError(errno.EIO, "shorter than its record says", str(self._path))
                start += len(chunk)
                yield chunk
