"""An HTTP listing as a station: JSON pages of files, and downloads that resume.

Only the configured host is asked; redirects to it are followed by hand, at most five. Everything that the station
sends has a limit: pages, bytes per page, items, bytes per file. Its own clock (Date) is noted. A download resumes
with Range and If-Range, only where the station gave a strong ETag or Last-Modified for the very version.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from drivers.bodycam.codec import Malformed, NameCodec
from drivers.bodycam.driver import Listed, ListPart
from drivers.bodycam.listings import Item, Page, read_page
from drivers.files import Entry, Failure, ListingEnd, PeerClock, Refusal, Taken
from drivers.io.folder import spool_key, suspend
from drivers.io.surroundings import Surroundings
from drivers.io.watched import InterruptedCall
from firmware_profiles.model import Listing
from gateway.config_sources import StationHttpConfig
from gateway.core.errors import LinkError, StoreFull
from gateway.core.ports import SpoolWriter

PAGE_MAX_BYTES: Final = 4_194_304
ENTRIES_MAX: Final = 200_000
REDIRECTS_MAX: Final = 5
WRITE_SIZE_BYTES: Final = 1_048_576
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Listings:
    """One HTTP station; one call at a time."""

    def __init__(
        self,
        config: StationHttpConfig,
        codec: NameCodec,
        listing: Listing,
        client: httpx.AsyncClient,
        around: Surroundings,
    ) -> None:
        url = httpx.URL(config.url)
        if listing.path:
            url = url.copy_with(path=url.path.rstrip("/") + "/" + listing.path.lstrip("/"))
        self.url = url
        self._config = config
        self._codec = codec
        self._listing = listing
        self._client = client
        self._around = around

    async def hints(self, wake: Callable[[], None]) -> None:
        """A listing tells nothing between polls."""

    async def probe(self, *_: object) -> str:
        """Not looked into: the station decides when a file is listed."""
        return "unknown"

    # ----------------------------------------------------------------------------------- listing

    async def listing(self) -> AsyncIterator[ListPart | Listed]:
        """All pages. Raises LinkError where the station cannot be asked, or answers nonsense."""
        names: set[bytes] = set()
        asked: set[str] = set()
        url, number, clock = self._page_url(self._listing.page_first), self._listing.page_first, None
        for _ in range(self._config.pages_max):
            asked.add(str(url))
            page, clock = await self._page(url)
            yield self._part(page, url, names)
            if len(names) > ENTRIES_MAX:
                yield ListPart((), (Refusal(b"", "entries-limit", f"more than {ENTRIES_MAX} files are listed"),))
                yield Listed(ListingEnd(complete=False, peer_clock=clock))
                return
            number += 1
            following = self._following(page, url, number)
            if following is None:
                yield Listed(ListingEnd(complete=True, peer_clock=clock))
                return
            if str(following) in asked or not self._same_host(following):
                why = "names a page twice" if str(following) in asked else "leads to another host"
                raise LinkError(f"{self.url}: the listing {why}: {str(following)[:200]}")
            url = following
        limit = Refusal(b"", "pages-limit", f"more than {self._config.pages_max} pages; raise pages_max")
        yield ListPart((), (limit,))
        yield Listed(ListingEnd(complete=False, peer_clock=clock))

    def _page_url(self, number: int) -> httpx.URL:
        url, listing = self.url, self._listing
        if listing.page_parameter:
            url = url.copy_set_param(listing.page_parameter, number)
        if listing.page_size_parameter:
            url = url.copy_set_param(listing.page_size_parameter, listing.page_size)
        return url

    def _following(self, page: Page, url: httpx.URL, number: int) -> httpx.URL | None:
        if page.next_url:
            return _joined(url, page.next_url)
        return self._page_url(number) if self._listing.page_parameter and page.full else None

    def _part(self, page: Page, url: httpx.URL, names: set[bytes]) -> ListPart:
        entries: list[Entry] = []
        refusals = [Refusal(path, reason, "the listing's item cannot be used") for path, reason in page.refused]
        for item in page.items:
            target = _joined(url, item.url)
            if item.path in names:
                refusals.append(Refusal(item.path, "duplicate-name", "the listing names it twice"))
            elif target is None or not self._same_host(target):
                refusals.append(Refusal(item.path, "other-host", f"would be downloaded from {item.url[:200]}"))
            else:
                entries.append(_entry(item, str(target)))
            names.add(item.path)
        return ListPart(entries, refusals)

    async def _page(self, url: httpx.URL) -> tuple[Page, PeerClock | None]:
        body = bytearray()
        sent = self._around.clock.now().utc_ns
        async with self._get(url, {}) as answer:
            received = self._around.clock.now().utc_ns
            if answer.status_code != 200:
                raise LinkError(f"{self.url}: {_status_text(answer.status_code)}")
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > PAGE_MAX_BYTES:
                    raise LinkError(f"{self.url}: a page of the listing is larger than {PAGE_MAX_BYTES} bytes")
            date = answer.headers.get("date", "")
        self._around.tick()
        page = await asyncio.to_thread(read_page, bytes(body), self._listing, self._codec)
        if isinstance(page, Malformed):
            raise LinkError(f"{self.url}: the listing is not what the profile says: {page.reason}")
        return page, _peer_clock(date, sent, received)

    def _same_host(self, url: httpx.URL | None) -> bool:
        if url is None or url.userinfo:
            return False
        ours = self.url
        return (url.scheme, url.host, _port(url)) == (ours.scheme, ours.host, _port(ours))

    @asynccontextmanager
    async def _get(self, url: httpx.URL, headers: dict[str, str]) -> AsyncGenerator[httpx.Response]:
        """One answer, redirects within the host followed. Raises LinkError for everything that goes wrong."""
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            for _ in range(REDIRECTS_MAX + 1):
                async with self._client.stream("GET", url, headers=headers) as answer:
                    if answer.status_code not in _REDIRECTS:
                        yield answer
                        return
                    target = _joined(url, answer.headers.get("location", ""))
                if target is None or not self._same_host(target):
                    raise LinkError(f"{self.url}: redirects to another host: {str(target)[:200]}")
                url = target
            raise LinkError(f"{self.url}: more than {REDIRECTS_MAX} redirects")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError) as error:
            raise LinkError(f"{self.url}: {type(error).__name__}: {str(error) or 'no answer'}") from error

    # ------------------------------------------------------------------------------------ taking

    async def take(self, entry: Entry) -> Taken | Failure:
        """Download one file into the spool. Raises LinkError, and InterruptedCall when the gateway stops."""
        url = httpx.URL(entry.url)
        async with self._get(url, {}) as answer:
            if (failure := self._refusal(answer)) is not None:
                return failure
            etag, validator = answer.headers.get("etag", ""), _validator(answer)
            identity = f"{entry.size_bytes} {entry.version} {validator or 'no validator'}"
            expected = _length(answer)
            try:
                writer = await asyncio.to_thread(
                    self._around.spool.open,
                    spool_key(self._config.name, entry.path),
                    identity,
                    expected or entry.size_bytes or 0,
                )
            except StoreFull as error:
                return Failure("full", "spool-full", str(error))
            at = writer.offset
            if not at or expected == at:
                return await self._received(entry, answer, writer, at, expected, etag)
        if not validator:
            await asyncio.to_thread(writer.discard)
            return Failure("transient", "changed", "cannot be resumed: the station gives no ETag or Last-Modified")
        return await self._resume(entry, url, writer, validator, expected, etag)

    async def _resume(
        self, entry: Entry, url: httpx.URL, writer: SpoolWriter, validator: str, total: int | None, etag: str
    ) -> Taken | Failure:
        at = writer.offset
        try:
            async with self._get(url, {"Range": f"bytes={at}-", "If-Range": validator}) as answer:
                if answer.status_code == 206 and _range_start(answer) == at and _range_total(answer) in {total, None}:
                    return await self._received(entry, answer, writer, at, total, etag)
        except LinkError:
            await asyncio.to_thread(suspend, writer)
            raise
        await asyncio.to_thread(writer.discard)
        return Failure("transient", "changed", "the station does not continue the version that was begun")

    async def _received(
        self,
        entry: Entry,
        answer: httpx.Response,
        writer: SpoolWriter,
        at: int,
        total: int | None,
        etag: str,
    ) -> Taken | Failure:
        """Write what comes; `at` bytes are here already, `total` are promised."""
        kept = False
        try:
            if total is None or at < total:
                await self._pump(answer, writer)
            if total is not None and writer.offset != total:
                raise LinkError(f"{self.url}: sent {writer.offset} of {total} bytes")
            sha256, size_bytes, there = await asyncio.to_thread(writer.finish)
            kept = True
        except StoreFull as error:
            return Failure("full", "spool-full", str(error))
        except _TooBigError:
            await asyncio.to_thread(writer.discard)
            return Failure("permanent", "too-big", f"more than {self._config.file_max_bytes} bytes came")
        finally:
            if not kept:
                await asyncio.to_thread(suspend, writer)
        return Taken(sha256, size_bytes, there, "", at, etag[:256], entry.size_bytes)

    async def _pump(self, answer: httpx.Response, writer: SpoolWriter) -> None:
        pending = bytearray()
        try:
            async for chunk in answer.aiter_raw():
                self._around.tick()
                if self._around.stop.is_set():
                    raise InterruptedCall(given_up=False)
                pending += chunk
                if writer.offset + len(pending) > self._config.file_max_bytes:
                    raise _TooBigError
                if len(pending) >= WRITE_SIZE_BYTES:
                    full, pending = pending, bytearray()
                    await asyncio.to_thread(writer.write, bytes(full))
        finally:
            if pending:
                await asyncio.to_thread(writer.write, bytes(pending))

    def _refusal(self, answer: httpx.Response) -> Failure | None:
        status = answer.status_code
        if status in {401, 403}:
            return Failure("transient", "permission-denied", f"download: {_status_text(status)}")
        if status in {404, 410}:
            return Failure("transient", "vanished", f"download: {_status_text(status)}")
        if status != 200:
            return Failure("transient", "http-status", f"download: {_status_text(status)}")
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            return Failure("permanent", "encoded", "the station sends an encoded body although asked not to")
        length = _length(answer)
        if length is not None and length > self._config.file_max_bytes:
            return Failure("permanent", "too-big", f"{length} bytes; file_max_bytes is {self._config.file_max_bytes}")
        return None


class _TooBigError(Exception):
    pass


def _entry(item: Item, url: str) -> Entry:
    time = item.time
    return Entry(
        item.path,
        item.size_bytes,
        item.version,
        url=url,
        sha256=item.sha256,
        fields=item.fields,
        time_text=time.text if time else "",
        time_local=time.local if time else "",
        time_zone=time.zone if time else "",
    )


def _joined(base: httpx.URL, target: str) -> httpx.URL | None:
    try:
        url = base.join(target)
    except (httpx.InvalidURL, ValueError):
        return None
    return url if url.scheme in {"http", "https"} and url.host else None


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _length(answer: httpx.Response) -> int | None:
    text = answer.headers.get("content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def _validator(answer: httpx.Response) -> str:
    """RFC 9110 section 13.1.5: a strong ETag, else a Last-Modified."""
    etag: str = answer.headers.get("etag", "")
    if etag.startswith('"') and len(etag) <= 200:
        return etag
    modified: str = answer.headers.get("last-modified", "")
    return modified if len(modified) <= 64 else ""


def _range_start(answer: httpx.Response) -> int | None:
    found = re.fullmatch(r"bytes ([0-9]{1,15})-[0-9]{1,15}/.*", answer.headers.get("content-range", ""))
    return int(found[1]) if found else None


def _range_total(answer: httpx.Response) -> int | None:
    found = re.fullmatch(r"bytes .*/([0-9]{1,15})", answer.headers.get("content-range", ""))
    return int(found[1]) if found else None


def _peer_clock(date: str, sent_utc_ns: int, received_utc_ns: int) -> PeerClock | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = moment.timestamp()
    if not 0 <= seconds < 2**33:
        return None
    return PeerClock(date[:64], int(seconds) * 1_000_000_000, sent_utc_ns, received_utc_ns)


def _status_text(status: int) -> str:
    hints = {
        401: "the station wants a login; check token_file",
        403: "the station refuses us; check token_file",
        404: "the address is not there; check url",
    }
    return f"HTTP {status}" + (f": {hints[status]}" if status in hints else "")
