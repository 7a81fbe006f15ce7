"""Pulls bundles from a gateway's API: the client behind ``fieldgate pull`` and of a platform that fetches.

A bundle is written to ``<out>/<gateway>-<end>.tar.part``, resumed there by Range and If-Range after any cut, verified,
fsynced and only then renamed to ``<gateway>-<end>.tar``. A file of that name is complete: it is not fetched again.
A bundle that fails verification is kept as ``….tar.refused`` for a person to look at, and fetched anew next time.
Names of files are made here from a checked gateway id and a number, never taken from the answer.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from gateway.core.errors import StoreFull, TransientError, UplinkRejected, UplinkUnavailable
from gateway.ledger.grammar import FormatError, origin_of
from gateway.ledger.trust import Trust
from gateway.ledger.verify import Report, verify

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""(file name, bytes here, bytes in all)"""

CONNECT_TIMEOUT_S: Final = 15
READ_TIMEOUT_S: Final = 60
ANSWER_MAX_BYTES: Final = 33_554_432
PAGE: Final = 100
DEVICES_PAGE: Final = 1000
ORDER_TIMEOUT_S: Final = 150.0
"""Longer than any order takes."""
ATTEMPTS_MAX: Final = 6
"""Attempts in a row that bring no byte before a download is given up."""
RETRY_MIN_S: Final = 0.5
RETRY_MAX_S: Final = 30
FREE_SPACE_MARGIN_BYTES: Final = 16_777_216

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_STRONG_TAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,200}"')


@dataclass(frozen=True, slots=True)
class Access:
    """Where a gateway is and how to prove who asks."""

    url: str
    """``https://host:port``, or ``unix:<path>`` of the socket on the box itself."""
    ca_file: str = ""
    """CA of the gateway's server certificate; empty: the CAs of the system."""
    token: str = ""
    certificate_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class Pulled:
    """One bundle on disk."""

    n: int
    path: Path
    size_bytes: int
    report: Report | None
    """None where no trust was given and nothing was verified."""


class _Checkpoint(msgspec.Struct):
    gateway: str
    size: int
    batch: int


class _Batch(msgspec.Struct):
    n: int
    end: int


class _DevicePage(msgspec.Struct):
    devices: list[dict[str, Any]]
    next: str | None


class _Page(msgspec.Struct):
    batches: list[_Batch]


async def pull(
    access: Access,
    out_dir: Path,
    *,
    now: datetime,
    after: int = 0,
    limit: int | None = None,
    artifacts: bool = True,
    trust: Trust | None = None,
    progress: Progress | None = None,
) -> list[Pulled]:
    """Fetch the bundles of the batches with n > `after`, at most `limit`, in order; verify them where `trust` is given.

    `now` (aware) is the time of verification. Raises UplinkUnavailable where the gateway cannot be reached or keeps
    breaking off, UplinkRejected where it refuses or answers what no gateway answers, StoreFull where the disk of
    `out_dir` has no room, OSError where it cannot be written. What was fetched before an error stays and is found
    by the next call.
    """
    await asyncio.to_thread(out_dir.mkdir, parents=True, exist_ok=True)
    pulled: list[Pulled] = []
    async with _session(access) as session:
        checkpoint = await _json(session, "/v1/checkpoint", _Checkpoint)
        gateway = _checked_gateway(checkpoint.gateway)
        while limit is None or len(pulled) < limit:
            page = await _json(session, f"/v1/batches?after={after}&limit={PAGE}", _Page)
            for batch in page.batches:
                if limit is not None and len(pulled) >= limit:
                    break
                if batch.n <= after or batch.end <= 0:
                    raise UplinkRejected(f"{access.url}: lists batch {batch.n} after {after}: not in order")
                path = out_dir / f"{gateway}-{batch.end}.tar"
                address = f"/v1/batches/{batch.n}/bundle" + ("" if artifacts else "?artifacts=omit")
                pulled.append(await _fetch(session, address, batch.n, path, trust, now, progress))
                after = batch.n
            if not page.batches or after >= checkpoint.batch:
                break
    return pulled


async def fetch_status(access: Access) -> dict[str, Any]:
    """``{"checkpoint", "health", "sources"}`` as the gateway's API answers them. Raises as `pull` does."""
    async with _session(access) as session:
        return {
            "checkpoint": await _json(session, "/v1/checkpoint", dict[str, Any]),
            "health": await _json(session, "/v1/health", dict[str, Any], also=503),
            "sources": (await _json(session, "/v1/sources", dict[str, Any])).get("sources", []),
        }


async def fetch_devices(access: Access) -> list[dict[str, Any]]:
    """The devices of the live board, all pages. Raises as `pull` does."""
    found: list[dict[str, Any]] = []
    path: str | None = f"/v1/devices?limit={DEVICES_PAGE}"
    async with _session(access) as session:
        while path is not None:
            page = await _json(session, path, _DevicePage)
            found += page.devices
            if page.next is not None and (not page.devices or not page.next.startswith("/v1/devices?")):
                raise UplinkRejected(f"{session.url}: not a gateway's answer: a page that leads nowhere")
            path = page.next
    return found


async def post_order(access: Access, source: str, device: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Order something of a device: `order` is the body, the answer what came of it. Raises as `pull` does."""
    path = f"/v1/devices/{quote(source, safe='')}/{quote(device, safe='')}/orders"
    async with _session(access) as session, _mapped(session.url):
        answer = await session.client.post(path, json=order, timeout=ORDER_TIMEOUT_S)
        if answer.status_code != 200:
            raise _refusal(session.url + path, answer.status_code, answer.content)
        try:
            return msgspec.json.decode(answer.content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UplinkRejected(f"{session.url}{path}: not a gateway's answer: {error}") from None


async def post_receipt(access: Access, n: int, text: bytes, p7s: bytes, artifacts: bytes) -> None:
    """Hand in the receipt of a pulled batch; may be repeated. Raises as `pull` does."""
    body = {
        "receipt": text.decode("ascii"),
        "signature": base64.b64encode(p7s).decode(),
        "artifacts": artifacts.decode("ascii"),
    }
    async with _session(access) as session, _mapped(session.url):
        answer = await session.client.post(f"/v1/batches/{n}/receipt", json=body)
        if answer.status_code != 200:
            raise _refusal(session.url, answer.status_code, answer.content)


@dataclass(frozen=True, slots=True)
class _Session:
    """A client for one gateway, and the address that people know it by."""

    client: httpx.AsyncClient
    url: str


@asynccontextmanager
async def _session(access: Access) -> AsyncIterator[_Session]:
    """A client for one gateway: no proxy, no redirects, no content coding."""
    headers = {"accept-encoding": "identity"}
    if access.token:
        headers["authorization"] = f"Bearer {access.token}"
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    if access.url.startswith("unix:"):
        transport = httpx.AsyncHTTPTransport(uds=access.url.removeprefix("unix:"))
        base = "http://gateway"
    else:
        if not access.url.startswith("https://"):
            raise UplinkRejected(f"{access.url}: expected https://host:port or unix:<path>")
        transport = httpx.AsyncHTTPTransport(verify=_tls(access))
        base = access.url
    try:
        client = httpx.AsyncClient(
            base_url=base, transport=transport, headers=headers, timeout=timeout, trust_env=False
        )
    except httpx.InvalidURL as error:
        raise UplinkRejected(f"{access.url}: not an address: {error}") from None
    async with client:
        yield _Session(client, access.url.rstrip("/"))


def _tls(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca_file or None)
        if access.certificate_file:
            context.load_cert_chain(access.certificate_file, access.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise UplinkRejected(f"cannot use the CA, certificate or key file: {error}") from None
    return context


@asynccontextmanager
async def _mapped(url: str) -> AsyncIterator[None]:
    """httpx's errors as ours."""
    try:
        yield
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            reason = "its certificate is not trusted here; give the CA that issued it"
        raise UplinkUnavailable(f"{url}: {reason}") from None
    except (httpx.DecodingError, httpx.InvalidURL) as error:
        raise UplinkRejected(f"{url}: not a gateway's answer: {error}") from None


async def _json(session: _Session, path: str, shape: type[T], also: int = 200) -> T:
    """GET a JSON answer of bounded size."""
    url = session.url
    content = bytearray()
    async with _mapped(url), session.client.stream("GET", path) as answer:
        async for part in answer.aiter_raw():
            content += part
            if len(content) > ANSWER_MAX_BYTES:
                raise UplinkRejected(f"{url}{path}: answers more than {ANSWER_MAX_BYTES} bytes")
        if answer.status_code not in (200, also):
            raise _refusal(url + path, answer.status_code, bytes(content))
    try:
        return msgspec.json.decode(bytes(content), type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if answer.status_code != 200:
            raise _refusal(url + path, answer.status_code, b"") from None
        raise UplinkRejected(f"{url}{path}: not a gateway's answer: {error}") from None


def _refusal(where: str, status: int, content: bytes) -> TransientError | UplinkRejected:
    """The error that a status other than success stands for."""
    try:
        detail = str(msgspec.json.decode(content).get("detail", ""))
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError):
        detail = ""
    shown = "".join(char if char.isprintable() else "?" for char in detail)[:255]
    text = f"{where}: answers {status}" + (f": {shown}" if shown else "")
    return UplinkUnavailable(text) if status in (408, 425, 429) or status >= 500 else UplinkRejected(text)


def _checked_gateway(text: str) -> str:
    try:
        origin_of(text)
    except FormatError as error:
        raise UplinkRejected(f"not a gateway's answer: {error}") from None
    return text


async def _fetch(
    session: _Session,
    address: str,
    n: int,
    path: Path,
    trust: Trust | None,
    now: datetime,
    progress: Progress | None,
) -> Pulled:
    """One bundle: what is here already, what is missing, verification, the final name."""
    part = _Part(path)
    if not part.is_finished():
        await _download(session, address, part, progress)
        report = await _verified(part.path, trust, now)
        final = path if report is None or report.ok else path.with_name(path.name + ".refused")
        return Pulled(n, final, await asyncio.to_thread(part.finish, final), report)
    report = await _verified(path, trust, now)
    return Pulled(n, path, part.final_size_bytes(), report)


async def _verified(path: Path, trust: Trust | None, now: datetime) -> Report | None:
    return None if trust is None else await asyncio.to_thread(verify, path, trust, now=now)


async def _download(session: _Session, address: str, part: _Part, progress: Progress | None) -> None:
    """Bring the part to its full length, going on after every cut until ATTEMPTS_MAX in a row bring nothing."""
    attempts = 0
    while True:
        before = part.size_bytes()
        try:
            async with _mapped(session.url):
                await _download_once(session, address, part, progress)
            return
        except UplinkUnavailable:
            attempts = 1 if part.size_bytes() > before else attempts + 1
            if attempts >= ATTEMPTS_MAX:
                raise
        await asyncio.sleep(min(RETRY_MAX_S, RETRY_MIN_S * 2 ** (attempts - 1)))


async def _download_once(session: _Session, address: str, part: _Part, progress: Progress | None) -> None:
    """One request: the rest of the part, or the whole where the gateway's content has changed meanwhile."""
    where = session.url + address
    etag, offset = part.resume_point()
    headers = {"range": f"bytes={offset}-", "if-range": etag} if etag and offset else {}
    async with session.client.stream("GET", address, headers=headers) as answer:
        if answer.status_code == 416:
            if headers and answer.headers.get("content-range") == f"bytes */{offset}":
                return  # all of it was here already
            part.restart("")
            raise UplinkUnavailable(f"{where}: the part here is longer than the bundle; starting again")
        if answer.status_code not in (200, 206):
            content = (await answer.aread())[:65_536]
            raise _refusal(where, answer.status_code, content)
        start, total = _extent(answer, where)
        if start != (offset if headers and answer.status_code == 206 else 0):
            raise UplinkRejected(f"{where}: answers another range than the one asked for")
        if start == 0:
            tag = answer.headers.get("etag", "")
            part.restart(tag if _STRONG_TAG.fullmatch(tag) else "")
        part.check_room(total - start)
        with part.open() as file:
            done = start
            async for chunk in answer.aiter_raw():
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(part.name, done, total)
        if done != total:
            raise UplinkUnavailable(f"{where}: the answer ended after {done} of {total} bytes")


def _extent(answer: httpx.Response, where: str) -> tuple[int, int]:
    """(first byte, total bytes) of an answer, which must state both."""
    if answer.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if match and int(match.group(1)) <= int(match.group(2)) == int(match.group(3)) - 1:
            return int(match.group(1)), int(match.group(3))
    elif re.fullmatch(r"\d{1,18}", answer.headers.get("content-length", ""), re.ASCII):
        return 0, int(answer.headers["content-length"])
    raise UplinkRejected(f"{where}: the answer does not state its length; this is no gateway")


class _Part:
    """A bundle on its way in: the bytes so far, and beside them the entity tag that they belong to."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._final = path
        self.path = path.with_name(path.name + ".part")
        self._tag_path = path.with_name(path.name + ".part.etag")

    def is_finished(self) -> bool:
        """Whether the bundle is here under its final name."""
        return self._final.exists()

    def final_size_bytes(self) -> int:
        """Size of the finished bundle."""
        return self._final.stat().st_size

    def size_bytes(self) -> int:
        """Bytes of the part here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def resume_point(self) -> tuple[str, int]:
        """(entity tag, bytes here); ("", 0) where nothing can be resumed."""
        if not self._tag_path.is_file() or not self.path.is_file():
            return "", 0
        tag = self._tag_path.read_bytes()[:256].decode("latin-1").strip()
        return (tag, self.size_bytes()) if _STRONG_TAG.fullmatch(tag) else ("", 0)

    def restart(self, tag: str) -> None:
        """Begin again with the content that `tag` names; without a tag nothing can be resumed later."""
        self._tag_path.unlink(missing_ok=True)  # before the truncation: bytes never stand under a foreign tag
        self.path.write_bytes(b"")
        if tag:
            self._tag_path.write_text(tag + "\n", encoding="ascii")

    def check_room(self, size_bytes: int) -> None:
        """Raise StoreFull unless the disk has room for that many more bytes."""
        free = shutil.disk_usage(self.path.parent).free
        if size_bytes + FREE_SPACE_MARGIN_BYTES > free:
            raise StoreFull(
                f"{self.path.parent}: {free} bytes free, the bundle {self.name} needs {size_bytes} more; make room"
            )

    def open(self) -> BinaryIO:
        """For appending, unbuffered: every chunk is in the file at once."""
        return self.path.open("ab", buffering=0)

    def finish(self, final: Path) -> int:
        """fsync, rename, fsync the folder; return the size in bytes."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
            size_bytes = os.fstat(file.fileno()).st_size
        self.path.rename(final)
        self._tag_path.unlink(missing_ok=True)
        folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size_bytes
