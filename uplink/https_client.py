"""The platform's HTTP interface (WIRE.md) over httpx: one method per request, one error for every failure.

Every httpx, TLS and time-out error is mapped once, in `HttpsLink.request`, to `answers.Unavailable`; every answer
that is not the expected one goes through `answers.error_of`. Nothing is followed anywhere else: no redirects, no
proxies from the environment, no upload addresses on another host.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

import httpx
import msgspec

from gateway.core.ports import ByteSource
from uplink import answers
from uplink.answers import Checkpoint, OffsetDiffers, ReceiptParts, TooLarge, Unavailable, UploadGone
from uplink.delivery import Failure
from uplink.pacing import TokenBucket

TUS: Final = {"Tus-Resumable": "1.0.0"}
URL_MAX_CHARS: Final = 2048
PIECE_BYTES: Final = 64 << 10
"""On a slow or capped line pieces are small, so that a time-out means a dead line and the cap is smooth."""
SMOOTH_BELOW_BYTES: Final = 4 << 20
UNSENT_MAX_BYTES: Final = 128 << 10
"""Bytes that the kernel may hold unsent: with its usual megabytes a slow line would look fast while a chunk is
written and dead while it drains, and everything in the buffer would be sent twice after a break."""
TCP_NOTSENT_LOWAT: Final = 25  # linux/tcp.h; named in the socket module from Python 3.12 on
CHECK_BYTES_PER_S: Final = 10_000_000
"""A platform reads an artifact from its own disk before it answers: allow it a slow disk."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (case-insensitive) and the whole body of an answer."""

    status: int
    headers: httpx.Headers
    body: bytes


def tls_context(ca_file: str, certificate_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """TLS 1.2 or later that trusts `ca_file` only ("": the system's authorities); raises OSError or ssl.SSLError."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate_file:
        context.load_cert_chain(certificate_file, key_file or None)
    return context


class HttpsLink:
    """Requests to one server under one base address, with limits on time and size."""

    def __init__(
        self, base_url: str, tls: ssl.SSLContext, *, timeout_s: float, token: str = "", peer: str = "platform"
    ) -> None:
        self.base = httpx.URL(base_url)
        self.timeout_s = timeout_s
        self._peer = peer
        headers = {"User-Agent": "fieldgate", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                verify=tls,
                limits=httpx.Limits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=4.0),
                trust_env=False,
                socket_options=[(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_MAX_BYTES)],
            ),
            headers=headers,
            timeout=httpx.Timeout(timeout_s),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def url(self, path: str) -> httpx.URL:
        """An absolute address under the base address."""
        return self.base.copy_with(raw_path=self.base.raw_path.rstrip(b"/") + path.encode("ascii"))

    async def request(
        self,
        method: str,
        url: httpx.URL,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        total_s: float = 0.0,
        deadline: asyncio.Timeout | None = None,
        body_max_bytes: int = answers.BODY_MAX_BYTES,
    ) -> Answer:
        """The answer, whatever its status. Raises Unavailable for everything that is no whole answer in time.

        A whole exchange may take `total_s` (default: twice the time-out of one network operation, and each wait for
        bytes no more than one); who passes `deadline` moves it along while an upload makes progress.
        """
        limit_s = total_s or 2 * self.timeout_s
        patience = httpx.Timeout(self.timeout_s, read=max(total_s, self.timeout_s))
        timer = deadline if deadline is not None else asyncio.timeout(None)
        try:
            async with timer:
                timer.reschedule(asyncio.get_running_loop().time() + limit_s)
                async with self._http.stream(
                    method, url, headers=headers, content=content, timeout=patience
                ) as response:
                    body = await self._body(response, what, body_max_bytes)
                    return Answer(response.status_code, response.headers, body)
        except TimeoutError:
            reason = f"no whole answer within {limit_s:g} s"
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError) as error:
            reason = self._reason(error)
        except AttributeError as error:
            # httpcore takes the socket of a connection that the other side has reset already: None
            if error.obj is not None:
                raise
            reason = "connection broken while it was opened"
        raise Unavailable(Failure("link", f"{what}: {self._peer} {self.base.host}: {reason}"))

    async def _body(self, response: httpx.Response, what: str, body_max_bytes: int) -> bytes:
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > body_max_bytes:
                raise answers.garbage(what, f"more than {body_max_bytes} bytes")
        return bytes(body)

    def _reason(self, error: Exception) -> str:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return _certificate_reason(cause)
            if isinstance(cause, ssl.SSLError):
                return f"TLS failed: {answers.foreign(cause.reason or str(cause))}"
            cause = cause.__cause__ or cause.__context__
        match error:
            case httpx.ConnectTimeout() | httpx.PoolTimeout():
                return f"no connection within {self.timeout_s:g} s"
            case httpx.ReadTimeout():
                return f"no answer for {self.timeout_s:g} s"
            case httpx.WriteTimeout():
                return f"takes no bytes for {self.timeout_s:g} s"
            case _:
                words = answers.foreign(str(error))
                return f"{_KINDS.get(type(error), 'connection failed')}{': ' if words else ''}{words}"


_KINDS: Final[Mapping[type[Exception], str]] = {
    httpx.ConnectError: "cannot connect",
    httpx.ReadError: "connection broken while reading",
    httpx.WriteError: "connection broken while sending",
    httpx.RemoteProtocolError: "answer broken off or not HTTP",
}


def _certificate_reason(error: ssl.SSLCertVerificationError) -> str:
    message = answers.foreign(error.verify_message or str(error))
    hint = "check uplink.ca_file"
    if "expired" in message:
        hint = "its operator must renew it; check also this box's clock"
    elif "not yet valid" in message:
        hint = "check this box's clock"
    elif "mismatch" in message or "doesn't match" in message:
        hint = "check the host name in uplink.url"
    return f"server certificate refused: {message}; {hint}"


def expect(answer: Answer, status: int, what: str) -> Answer:
    """The answer if it has the one expected status; otherwise the error that it stands for."""
    if answer.status == status:
        return answer
    if 200 <= answer.status < 300:
        raise answers.garbage(what, f"status {answer.status} where {status} is expected")
    raise answers.error_of(answer.status, answer.headers, answer.body, what)


@dataclass(frozen=True, slots=True)
class UploadState:
    """Answer to HEAD of an upload."""

    offset: int
    length: int | None
    sha256: str | None


class PlatformClient:
    """The requests of WIRE.md that a gateway makes. Errors: those of `answers`."""

    def __init__(self, link: HttpsLink, gateway_id: str, bucket: TokenBucket) -> None:
        self._link = link
        self._id = gateway_id
        self._bucket = bucket

    def _own(self, path: str) -> httpx.URL:
        return self._link.url(f"/v1/gateways/{self._id}{path}")

    async def checkpoint(self) -> Checkpoint:
        """How much of our log the platform holds."""
        answer = await self._link.request("GET", self._own("/checkpoint"), "checkpoint")
        return answers.checkpoint_of(expect(answer, 200, "checkpoint").body)

    async def requests(self) -> list[str]:
        """SHA-256 of the artifacts that the platform wants, oldest request first."""
        answer = await self._link.request("GET", self._own("/requests"), "requests")
        return answers.wanted_of(expect(answer, 200, "requests").body)

    async def send_alarm(self, leaf: bytes) -> None:
        """An advisory copy of an alarm's leaf."""
        headers = {"Content-Type": "application/json"}
        answer = await self._link.request("POST", self._own("/alarms"), "alarm", headers=headers, content=leaf)
        expect(answer, 202, "alarm")

    async def put_stamp(self, end: int, tsr: bytes) -> None:
        """The late token of the batch that ends at `end`."""
        what, url = f"stamp of batch {end}", self._own(f"/batches/{end}/stamp")
        headers = {"Content-Type": "application/timestamp-reply"}
        expect(await self._link.request("PUT", url, what, headers=headers, content=tsr), 204, what)

    # ------------------------------------------------------------ uploads

    async def create_upload(self, kind: str, sha256: str, size_bytes: int) -> tuple[str, int]:
        """Address of an upload for this content, and how many bytes of it the platform holds already.

        The address is a path: it stays good when the platform moves to another host name or port.
        """
        pairs = {"gateway": self._id, "kind": kind, "sha256": sha256}
        metadata = ",".join(f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in pairs.items())
        headers = {**TUS, "Upload-Length": str(size_bytes), "Upload-Metadata": metadata}
        what = f"new upload of {kind} {sha256[:12]}"
        answer = await self._link.request("POST", self._link.url("/v1/uploads"), what, headers=headers)
        expect(answer, 201, what)
        url = self._upload_url(answer.headers.get("location", ""), what)
        offset = answer.headers.get("upload-offset")
        return url.raw_path.decode("ascii"), 0 if offset is None else _offset(offset, what)

    async def find_offset(self, url: str) -> UploadState:
        """HEAD of an upload. Raises UploadGone for one that the platform does not know any more."""
        what = "state of an upload"
        try:
            target = self._upload_url(url, what)
        except Unavailable as error:
            raise UploadGone(error.failure) from None
        answer = await self._link.request("HEAD", target, what, headers=TUS)
        if answer.status in (404, 410):
            raise UploadGone(Failure("item", f"{what}: the platform answers {answer.status}"))
        if answer.status not in (200, 204):
            raise answers.error_of(answer.status, answer.headers, answer.body, what)
        length = answer.headers.get("upload-length")
        return UploadState(
            _offset(answer.headers.get("upload-offset", ""), what),
            None if length is None else _offset(length, what),
            _sha256_of(answer.headers.get("upload-metadata", "")),
        )

    async def send_chunk(
        self, url: str, source: ByteSource, offset: int, size_bytes: int, handed_out: Callable[[int, int], None]
    ) -> int:
        """PATCH of [offset, offset + size_bytes) of `source`; the offset that the platform has now.

        `handed_out(offset, size_bytes)` is called for every piece before it goes out. Raises OffsetDiffers,
        TooLarge, UploadGone, and Refused where `source` cannot be read.
        """
        what = "upload"
        target = self._upload_url(url, what)
        headers = {
            **TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
            "Content-Length": str(size_bytes),
        }
        deadline = asyncio.timeout(None)
        pieces = self._pieces(source, offset, size_bytes, deadline, handed_out)
        answer = await self._link.request("PATCH", target, what, headers=headers, content=pieces, deadline=deadline)
        told = f"{what}: the platform answers {answer.status}"
        if answer.status == 409:
            raise OffsetDiffers(Failure("item", told))
        if answer.status in (404, 410):
            raise UploadGone(Failure("item", told))
        if answer.status == 413:
            raise TooLarge(Failure("item", told, answers.retry_after_s(answer.headers)))
        if answer.status not in (200, 204):
            raise answers.error_of(answer.status, answer.headers, answer.body, what)
        return _offset(answer.headers.get("upload-offset", ""), what)

    async def _pieces(
        self,
        source: ByteSource,
        offset: int,
        size_bytes: int,
        deadline: asyncio.Timeout,
        handed_out: Callable[[int, int], None],
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        slow = self._bucket.rate_per_s > 0 or size_bytes < SMOOTH_BELOW_BYTES
        chunks = source.read(offset, offset + size_bytes)
        at = offset
        while True:
            try:
                chunk = await asyncio.to_thread(next, chunks, None)
            except OSError as error:
                reason = f"cannot be read here: {error.strerror or error}; run the scrub and check the disk"
                raise answers.Refused(reason) from None
            if chunk is None:
                return
            step = PIECE_BYTES if slow else len(chunk)
            for start in range(0, len(chunk), step):
                piece = chunk[start : start + step]
                wait_s = self._bucket.take(len(piece), loop.time())
                deadline.reschedule(loop.time() + wait_s + 2 * self._link.timeout_s)
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                handed_out(at, len(piece))
                at += len(piece)
                yield piece

    # ------------------------------------------------------------ commits

    async def commit_batch(self, end: int, url: str) -> ReceiptParts:
        """Have the platform check an uploaded bundle. Raises Conflict where it does not continue its log."""
        what = f"batch up to {end}"
        answer = await self._commit(self._own("/batches"), url, what, 0)
        return answers.receipt_of(answer.body, end)

    async def commit_artifact(self, sha256: str, size_bytes: int, url: str) -> list[ReceiptParts]:
        """Have the platform check an uploaded artifact: the newest receipts of the batches that name it."""
        what = f"artifact {sha256[:12]}"
        answer = await self._commit(self._own(f"/artifacts/{sha256}"), url, what, size_bytes)
        return answers.receipts_of(answer.body)

    async def _commit(self, target: httpx.URL, upload: str, what: str, size_bytes: int) -> Answer:
        answer = await self._link.request(
            "POST",
            target,
            what,
            headers={"Content-Type": "application/json"},
            content=msgspec.json.encode({"upload": self._upload_url(upload, what).path}),
            total_s=4 * self._link.timeout_s + size_bytes / CHECK_BYTES_PER_S,
            body_max_bytes=answers.RECEIPTS_MAX_BYTES,
        )
        if answer.status in (404, 410):
            raise UploadGone(Failure("item", f"{what}: the platform answers {answer.status}"))
        return expect(answer, 200, what)

    def _upload_url(self, location: str, what: str) -> httpx.URL:
        """`location` as an absolute address on the platform's own host."""
        if not 0 < len(location) <= URL_MAX_CHARS:
            raise answers.garbage(what, "no Location")
        try:
            url = self._link.base.join(location)
        except httpx.InvalidURL as error:
            raise answers.garbage(what, f"Location: {error}") from None
        base = self._link.base
        if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
            raise answers.garbage(what, f"Location points to another host: {location}")
        return url


def _offset(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise answers.garbage(what, f"Upload-Offset or Upload-Length {text!r}")
    return int(text)


def _sha256_of(metadata: str) -> str | None:
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "sha256":
            try:
                return base64.b64decode(value, validate=True).decode("ascii")
            except ValueError:
                return None
    return None
