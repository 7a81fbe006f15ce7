"""The HTTP client against TLS servers with good and bad certificates, limits, and content that cannot be read."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.core.errors import UplinkRejected, UplinkUnavailable
from tests.api.authority import Authority
from tests.uplink import server as s
from tests.uplink.server import FakePlatform
from uplink.answers import TooLarge, UploadGone
from uplink.content import SpoolFile, digest_of
from uplink.https_client import HttpsLink, PlatformClient, tls_context
from uplink.pacing import TokenBucket

ID = "gw-0001.example"


def server_tls(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def ask(
    platform: FakePlatform,
    action: Callable[[PlatformClient], Awaitable[object]],
    *,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    token: str = "",
    timeout_s: float = 2.0,
    rate: float = 0,
) -> object:
    """One request to a listening platform."""

    async def main() -> object:
        async with platform.listen(server) as url:
            link = HttpsLink(url, client or tls_context(""), timeout_s=timeout_s, token=token)
            async with link:
                return await action(PlatformClient(link, ID, TokenBucket(rate)))

    return asyncio.run(main())


# ---------------------------------------------------------------- TLS


def test_a_pinned_authority_is_accepted_and_only_that_one(tmp_path: Path) -> None:
    authority, other = Authority(), Authority("Other CA")
    tls = server_tls(*authority.tls_files(tmp_path, "server", server=True))
    good = tls_context(str(write(tmp_path, "ca.pem", authority.pem)))
    ask(FakePlatform(), lambda c: c.checkpoint(), server=tls, client=good)
    bad = tls_context(str(write(tmp_path, "other.pem", other.pem)))
    with pytest.raises(UplinkUnavailable, match=r"server certificate refused: .*; check uplink.ca_file"):
        ask(FakePlatform(), lambda c: c.checkpoint(), server=tls, client=bad)


def odd_server(folder: Path, authority: Authority, *, start: datetime, end: datetime) -> ssl.SSLContext:
    """A server certificate with another validity."""
    certificate_file, key_file = authority.tls_files(folder, "odd", server=True)
    from cryptography import x509

    old = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), old.serial_number, start, end, list(old.extensions)
    )
    signed = builder.sign(authority.key, hashes.SHA256())
    certificate_file.write_bytes(signed.public_bytes(Encoding.PEM))
    return server_tls(certificate_file, key_file)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), "certificate has expired; its operator"),
        (datetime(2090, 1, 1, tzinfo=UTC), datetime(2091, 1, 1, tzinfo=UTC), "not yet valid; check this box's clock"),
    ],
    ids=["expired", "not yet valid"],
)
def test_an_expired_or_future_certificate_is_called_that(
    tmp_path: Path, start: datetime, end: datetime, words: str
) -> None:
    authority = Authority()
    tls = odd_server(tmp_path, authority, start=start, end=end)
    client = tls_context(str(write(tmp_path, "ca.pem", authority.pem)))
    with pytest.raises(UplinkUnavailable, match=words):
        ask(FakePlatform(), lambda c: c.checkpoint(), server=tls, client=client)


def test_a_certificate_for_another_host_is_called_that(tmp_path: Path) -> None:
    authority = Authority()
    client_only = authority.tls_files(tmp_path, "other.example", server=False)
    client = tls_context(str(write(tmp_path, "ca.pem", authority.pem)))
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with pytest.raises(UplinkUnavailable, match="server certificate refused"):
        ask(FakePlatform(), lambda c: c.checkpoint(), server=server_tls(*client_only), client=client)


def test_the_client_certificate_is_shown_and_missing_it_is_one_line(tmp_path: Path) -> None:
    authority = Authority()
    ca = write(tmp_path, "ca.pem", authority.pem)
    tls = server_tls(*authority.tls_files(tmp_path, "server", server=True), client_ca=ca)
    certificate, key = authority.tls_files(tmp_path, "gateway", server=False)
    ask(FakePlatform(), lambda c: c.checkpoint(), server=tls, client=tls_context(str(ca), str(certificate), str(key)))
    with pytest.raises(UplinkUnavailable) as caught:
        ask(FakePlatform(), lambda c: c.checkpoint(), server=tls, client=tls_context(str(ca)))
    assert "\n" not in str(caught.value)


def test_plain_http_where_tls_is_expected_is_one_line() -> None:
    async def main() -> None:
        async with FakePlatform().listen() as url:
            link = HttpsLink(url.replace("http:", "https:"), tls_context(""), timeout_s=1)
            async with link:
                await PlatformClient(link, ID, TokenBucket(0)).checkpoint()

    with pytest.raises(UplinkUnavailable, match="TLS failed"):
        asyncio.run(main())


def test_nobody_listens() -> None:
    async def main() -> None:
        link = HttpsLink("http://127.0.0.1:1", tls_context(""), timeout_s=1)
        async with link:
            await PlatformClient(link, ID, TokenBucket(0)).checkpoint()

    with pytest.raises(UplinkUnavailable, match=r"checkpoint: platform 127.0.0.1: cannot connect"):
        asyncio.run(main())


# ---------------------------------------------------------------- requests


def test_the_token_goes_along_and_redirects_are_not_followed() -> None:
    platform, seen = FakePlatform(), []

    async def elsewhere(x: s.Exchange) -> None:
        seen.append(x.headers["authorization"])
        await x.reply(307, location="http://127.0.0.1:1/steal")

    platform.script = [("GET", elsewhere)]
    with pytest.raises(UplinkUnavailable, match=r"redirects to 'http://127.0.0.1:1/steal'; set uplink.url"):
        ask(platform, lambda c: c.checkpoint(), token="secret")
    assert seen == ["Bearer secret"]
    assert len(platform.log) == 1


def test_an_endless_answer_is_cut_off() -> None:
    platform = FakePlatform()
    platform.script = [("GET", s.raw(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 3_000_000))]
    with pytest.raises(UplinkUnavailable, match="more than 1048576 bytes"):
        ask(platform, lambda c: c.checkpoint())


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/v1/uploads/0",
        "//elsewhere.example/u",
        "ftp://x/",
        "",
        "x" * 3000,
        "http://[",
        "https://127.0.0.1/u",
    ],
)
def test_an_upload_on_another_host_is_refused(location: str) -> None:
    platform = FakePlatform()
    platform.script = [("POST", s.answer(201, location=location))]
    with pytest.raises(UplinkUnavailable, match="makes no sense"):
        ask(platform, lambda c: c.create_upload("artifact", "ab" * 32, 5))


@pytest.mark.parametrize("offset", ["", "-1", "1.5", "²", "9" * 30, "0x1"])
def test_an_offset_that_is_no_number_is_refused(offset: str) -> None:
    platform = FakePlatform()
    if not offset.isascii():
        offset = "%"
    platform.script = [("HEAD", s.answer(200, upload_offset=offset))]
    with pytest.raises(UplinkUnavailable, match="makes no sense"):
        ask(platform, lambda c: c.find_offset("/v1/uploads/0"))


def test_an_upload_that_is_gone_or_lies_elsewhere_is_gone() -> None:
    with pytest.raises(UploadGone):
        ask(FakePlatform(), lambda c: c.find_offset("/v1/uploads/0"))
    with pytest.raises(UploadGone):
        ask(FakePlatform(), lambda c: c.find_offset("http://127.0.0.1:1/v1/uploads/0"))


class Bytes:
    """A ByteSource in memory that counts what was read."""

    def __init__(self, content: bytes, fail: bool = False) -> None:
        self.content, self.fail, self.read_bytes = content, fail, 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    @property
    def etag(self) -> str:
        return "x"

    def read(self, start: int, end: int):  # type: ignore[no-untyped-def]
        for at in range(start, end, 65_536):
            if self.fail and at > start:
                raise OSError(5, "Input/output error")
            piece = self.content[at : min(end, at + 65_536)]
            self.read_bytes += len(piece)
            yield piece


def patch(platform: FakePlatform, source: Bytes, size: int, **options: object) -> object:
    async def action(client: PlatformClient) -> int:
        url, offset = await client.create_upload("artifact", "ab" * 32, source.size_bytes)
        assert offset == 0
        return await client.send_chunk(url, source, 0, size, lambda *_: None)

    return ask(platform, action, **options)  # type: ignore[arg-type]


def test_a_chunk_arrives_byte_for_byte() -> None:
    platform, source = FakePlatform(), Bytes(bytes(range(256)) * 4000)
    assert patch(platform, source, 1_000_000) == 1_000_000
    assert platform.uploads["0"].content == source.content[:1_000_000]


def test_a_file_that_cannot_be_read_is_the_files_fault_not_the_platforms() -> None:
    with pytest.raises(UplinkRejected, match=r"cannot be read here: Input/output error"):
        patch(FakePlatform(), Bytes(b"x" * 200_000, fail=True), 200_000)


def test_413_to_a_chunk_is_not_413_to_the_file() -> None:
    platform = FakePlatform()
    platform.script = [("PATCH", s.answer(413))]
    with pytest.raises(TooLarge):
        patch(platform, Bytes(b"x" * 1000), 1000)


def test_the_bandwidth_cap_holds_and_its_waits_are_no_time_out() -> None:
    size_bytes = 950_000

    async def main() -> float:
        async with FakePlatform().listen() as url:
            link = HttpsLink(url, tls_context(""), timeout_s=0.4)
            async with link:
                client, loop = PlatformClient(link, ID, TokenBucket(500_000)), asyncio.get_running_loop()
                path, _ = await client.create_upload("artifact", "ab" * 32, size_bytes)
                start = loop.time()
                assert await client.send_chunk(path, Bytes(b"x" * size_bytes), 0, size_bytes, lambda *_: None)
                return loop.time() - start

    # A burst of one second, then a second per half million: more than the two time-outs that an exchange may take.
    assert asyncio.run(main()) >= 0.85


# ---------------------------------------------------------------- content


def test_a_spool_file_is_read_in_pieces_from_any_offset(tmp_path: Path) -> None:
    content = bytes(range(256)) * 3000
    source = SpoolFile(write(tmp_path, "a", content), "ab")
    assert source.size_bytes == len(content)
    assert b"".join(source.read(5, 700_000)) == content[5:700_000]
    assert max(map(len, source.read(0, len(content)))) <= 262_144
    assert len(digest_of(source)) == 64


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "a", b"12345")
    source = SpoolFile(path, "ab")
    path.write_bytes(b"12")
    with pytest.raises(OSError, match="ends before"):
        list(source.read(0, 5))


def test_unused_key_material_is_not_needed(tmp_path: Path) -> None:
    key = Authority().key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ssl.SSLError):
        tls_context("", str(write(tmp_path, "key", key)), str(write(tmp_path, "key2", key)))


def test_a_connection_reset_while_it_is_opened_is_the_links_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpcore sets options on the socket of a connection that may be gone already; a mistake of ours stays one."""

    async def main(failing: object) -> None:
        async with HttpsLink("https://192.0.2.1", tls_context(""), timeout_s=1) as link:

            def stream(*_: object, **__: object) -> object:
                return getattr(failing, "setsockopt")  # noqa: B009  what httpcore does

            monkeypatch.setattr(link._http, "stream", stream)
            await link.request("GET", link.url("/v1/checkpoint"), "checkpoint")

    with pytest.raises(UplinkUnavailable, match="broken while it was opened"):
        asyncio.run(main(None))
    with pytest.raises(AttributeError):
        asyncio.run(main(object()))
