"""Pulling bundles: over a socket and TLS, through cuts, lies, and full disks."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.errors import StoreFull, UplinkRejected, UplinkUnavailable
from tests.api.authority import Authority
from tests.api.box import NOW, Box, filled
from tests.api.serving import TOKEN, served, tls_config
from uplink import pull_client
from uplink.pull_client import Access, Pulled, fetch_status, post_receipt, pull


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that no test changes."""
    made = filled(tmp_path_factory.mktemp("box"))
    yield made
    made.close()


@pytest.fixture
def own_box(tmp_path: Path) -> Iterator[Box]:
    """A box for one test."""
    made = filled(tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_client, "RETRY_MIN_S", 0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def pull_all(address: str, out: Path, box: Box, **more: Any) -> list[Pulled]:
    return await pull(Access(address), out, now=NOW, **({"trust": box.trust} | more))


class Line:
    """A proxy between client and gateway that cuts every connection after `cut_bytes` of answers."""

    def __init__(self, target: str, cut_bytes: int) -> None:
        self.target = target.removeprefix("unix:")
        self.cut_bytes = cut_bytes
        self.connections = 0
        self.answered_bytes = 0
        self.before_cut: Callable[[], Awaitable[None]] | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        up_reader, up_writer = await asyncio.open_unix_connection(self.target)

        async def send() -> None:
            while part := await reader.read(65_536):
                up_writer.write(part)
            up_writer.write_eof()

        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send())
            left = self.cut_bytes
            while left and (part := await up_reader.read(min(16_384, left))):
                writer.write(part)
                await writer.drain()
                left -= len(part)
                self.answered_bytes += len(part)
            sending.cancel()
        if not left and self.before_cut is not None:
            await self.before_cut()
        for end in (up_writer, writer):
            end.close()


@asynccontextmanager
async def cut_line(box: Box, folder: Path, cut_bytes: int) -> AsyncIterator[tuple[str, Line]]:
    async with served(box) as (local,):
        line = Line(local, cut_bytes)
        path = folder / "line.sock"
        async with await asyncio.start_unix_server(line.handle, path):
            yield f"unix:{path}", line


# ---------------------------------------------------------------- the good way


def test_all_bundles_are_pulled_and_verified(box: Box, out: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    async def scenario() -> list[Pulled]:
        async with served(box) as (local,):
            return await pull_all(local, out, box, progress=lambda *step: seen.append(step))

    pulled = asyncio.run(scenario())
    assert [item.n for item in pulled] == [1, 2]
    assert names(out) == ["gw-0001.example-12.tar", "gw-0001.example-21.tar"]
    for item in pulled:
        assert item.report is not None
        assert item.report.ok
        assert item.path.stat().st_size == item.size_bytes
    assert seen[-1] == ("gw-0001.example-21.tar", pulled[1].size_bytes, pulled[1].size_bytes)


def test_pulling_again_fetches_only_what_is_new(box: Box, out: Path) -> None:
    async def scenario() -> tuple[int, list[Pulled]]:
        async with cut_line(box, box.folder, 10**9) as (address, line):
            await pull_all(address, out, box)
            before = line.answered_bytes
            again = await pull_all(address, out, box)
            return line.answered_bytes - before, again

    resent, again = asyncio.run(scenario())
    assert resent < 5_000
    assert [item.report is not None and item.report.ok for item in again] == [True, True]


def test_after_limit_and_light_bundles(box: Box, out: Path) -> None:
    async def scenario() -> None:
        async with served(box) as (local,):
            assert [item.n for item in await pull_all(local, out, box, limit=1)] == [1]
            assert [item.n for item in await pull_all(local, out, box, after=1)] == [2]
            assert await pull_all(local, out, box, after=2) == []
            assert await pull_all(local, out, box, limit=0) == []
            light = await pull_all(local, out / "light", box, artifacts=False)
            assert max(item.size_bytes for item in light) < 40_000
            unchecked = await pull_all(local, out / "unchecked", box, trust=None)
            assert [item.report for item in unchecked] == [None, None]

    asyncio.run(scenario())


def test_pages_are_followed(box: Box, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_client, "PAGE", 1)

    async def scenario() -> None:
        async with served(box) as (local,):
            assert [item.n for item in await pull_all(local, out, box)] == [1, 2]

    asyncio.run(scenario())


def test_over_tls_with_token_and_certificate(box: Box, out: Path, tmp_path: Path) -> None:
    clients = Authority("Clients")
    certificate_file, key_file = clients.tls_files(tmp_path, "client", server=False)

    async def scenario() -> None:
        async with served(box, tls_config(tmp_path, box.authority, client_ca=clients)) as (_, remote):
            good = Access(remote, str(box.ca_file), TOKEN, str(certificate_file), str(key_file))
            assert len(await pull(good, out, now=NOW, trust=box.trust)) == 2
            wrong_token = Access(remote, str(box.ca_file), "wrong", str(certificate_file), str(key_file))
            with pytest.raises(UplinkRejected, match="401"):
                await pull(wrong_token, out, now=NOW)
            with pytest.raises(UplinkUnavailable):
                await pull(Access(remote, str(box.ca_file), TOKEN), out, now=NOW)
            with pytest.raises(UplinkUnavailable, match="not trusted here"):
                await pull(Access(remote, "", TOKEN), out, now=NOW)

    asyncio.run(scenario())


def test_status(box: Box) -> None:
    async def scenario() -> dict[str, Any]:
        async with served(box) as (local,):
            return await fetch_status(Access(local))

    status = asyncio.run(scenario())
    assert (status["checkpoint"]["size"], status["health"]["status"]) == (21, "ok")
    assert status["sources"][0]["name"] == "station-1"


def test_a_receipt_is_handed_in(own_box: Box) -> None:
    async def scenario() -> None:
        async with served(own_box) as (local,):
            for _ in range(2):
                await post_receipt(Access(local), 1, *own_box.receipt(1))
            with pytest.raises(UplinkRejected, match=r"422: batch 1: .*another seal"):
                await post_receipt(Access(local), 1, *own_box.receipt(2))

    asyncio.run(scenario())
    assert own_box.row(1).complete


# ---------------------------------------------------------------- cuts


def test_a_cut_costs_no_byte_twice(box: Box, out: Path) -> None:
    async def scenario() -> tuple[list[Pulled], Line]:
        async with cut_line(box, box.folder, 100_000) as (address, line):
            return await pull_all(address, out, box, limit=1), line

    (item,), line = asyncio.run(scenario())
    assert item.report is not None
    assert item.report.ok
    assert line.connections >= 7
    assert line.answered_bytes < item.size_bytes + 1_000 * line.connections + 4_000
    assert names(out) == ["gw-0001.example-12.tar"]


def test_a_receipt_between_two_ranges_starts_the_bundle_again(own_box: Box, out: Path) -> None:
    async def scenario() -> list[Pulled]:
        async with cut_line(own_box, own_box.folder, 400_000) as (address, line):

            async def receipt() -> None:
                line.cut_bytes, line.before_cut = 10**9, None
                parts = own_box.receipt(1)
                await own_box.outbox.store_receipt(1, *parts, True)

            line.before_cut = receipt
            return await pull_all(address, out, own_box, limit=1)

    (item,) = asyncio.run(scenario())
    assert item.report is not None
    assert item.report.ok
    assert b"evidence-receipt/v1" in item.path.read_bytes()


def test_a_dead_line_is_given_up_and_goes_on_later(box: Box, out: Path) -> None:
    async def scenario() -> None:
        async with cut_line(box, box.folder, 1_500) as (address, line):  # head of a bundle answer: about 600 bytes
            with pytest.raises(UplinkUnavailable):
                await pull_all(address, out, box, limit=1)
            line.cut_bytes = 300_000
            (item,) = await pull_all(address, out, box, limit=1)
            assert item.report is not None
            assert item.report.ok

    asyncio.run(scenario())


def part_of(out: Path) -> tuple[Path, Path]:
    return out / "gw-0001.example-12.tar.part", out / "gw-0001.example-12.tar.part.etag"


def test_a_killed_pull_goes_on_where_it_was(box: Box, out: Path) -> None:
    async def scenario() -> None:
        async with cut_line(box, box.folder, 10**9) as (address, line):
            (item,) = await pull_all(address, out, box, limit=1)
            whole = item.path.read_bytes()
            source = await box.bundles.batch(1, artifacts=True)
            part, tag = part_of(out)
            for kept in (1, 512, 400_000, len(whole)):
                item.path.unlink()
                part.write_bytes(whole[:kept])
                tag.write_text(f'"{source.etag}"\n')
                before = line.answered_bytes
                (item,) = await pull_all(address, out, box, limit=1)
                assert item.path.read_bytes() == whole
                assert line.answered_bytes - before < len(whole) - kept + 5_000
                assert names(out) == [item.path.name]

    asyncio.run(scenario())


@pytest.mark.parametrize("tag", [None, b"", b'"another"\n', b"W/weak\n", b"\xff" * 500])
def test_a_part_of_unknown_content_is_thrown_away(box: Box, out: Path, tag: bytes | None) -> None:
    out.mkdir()
    part, tag_path = part_of(out)
    part.write_bytes(b"junk" * 1000)
    if tag is not None:
        tag_path.write_bytes(tag)

    async def scenario() -> list[Pulled]:
        async with served(box) as (local,):
            return await pull_all(local, out, box, limit=1)

    (item,) = asyncio.run(scenario())
    assert item.report is not None
    assert item.report.ok


def test_a_part_longer_than_the_bundle_is_thrown_away(box: Box, out: Path) -> None:
    out.mkdir()

    async def scenario() -> list[Pulled]:
        async with served(box) as (local,):
            source = await box.bundles.batch(1, artifacts=True)
            part, tag = part_of(out)
            part.write_bytes(bytes(source.size_bytes + 1))
            tag.write_text(f'"{source.etag}"')
            return await pull_all(local, out, box, limit=1)

    (item,) = asyncio.run(scenario())
    assert item.report is not None
    assert item.report.ok


def test_a_bundle_that_does_not_verify_is_set_aside_and_fetched_anew(box: Box, out: Path) -> None:
    out.mkdir()

    async def scenario() -> tuple[Pulled, Pulled]:
        async with served(box) as (local,):
            source = await box.bundles.batch(1, artifacts=True)
            part, tag = part_of(out)
            part.write_bytes(b"\0" * 1000)  # a disk that lost what was written
            tag.write_text(f'"{source.etag}"')
            (bad,) = await pull_all(local, out, box, limit=1)
            (good,) = await pull_all(local, out, box, limit=1)
            return bad, good

    bad, good = asyncio.run(scenario())
    assert (bad.report is not None, good.report is not None) == (True, True)
    assert bad.report is not None
    assert not bad.report.ok
    assert good.report is not None
    assert good.report.ok
    assert names(out) == ["gw-0001.example-12.tar", "gw-0001.example-12.tar.refused"]


# ---------------------------------------------------------------- who else may answer


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_noticed_before(box: Box, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 100))

    async def scenario() -> None:
        async with served(box) as (local,):
            await pull_all(local, out, box)

    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(scenario())
    assert caught.group_contains(StoreFull, match="make room", depth=1)


GOOD_CHECKPOINT = {"gateway": "gw-1", "size": 5, "batch": 1}
GOOD_PAGE = {"batches": [{"n": 1, "end": 5}]}


def liar(checkpoint: Any = GOOD_CHECKPOINT, page: Any = GOOD_PAGE, bundle: Response | None = None) -> Starlette:
    def body(content: Any) -> Response:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return Response(raw, media_type="application/json")

    async def answer_checkpoint(_request: Request) -> Response:
        return body(checkpoint)

    async def answer_page(_request: Request) -> Response:
        return body(page)

    async def answer_bundle(_request: Request) -> Response:
        return bundle or Response(b"tar", headers={"etag": '"x"'})

    return Starlette(
        routes=[
            Route("/v1/checkpoint", answer_checkpoint),
            Route("/v1/batches", answer_page),
            Route("/v1/batches/{n}/bundle", answer_bundle),
        ]
    )


LIARS = [
    liar(checkpoint=b"<html>"),
    liar(checkpoint=b"\xff\xfe"),
    liar(checkpoint=[]),
    liar(checkpoint={}),
    liar(checkpoint={**GOOD_CHECKPOINT, "gateway": "../../etc"}),
    liar(checkpoint={**GOOD_CHECKPOINT, "gateway": "/etc/cron.d/x"}),
    liar(checkpoint={**GOOD_CHECKPOINT, "gateway": ".."}),
    liar(checkpoint={**GOOD_CHECKPOINT, "gateway": "a\x00b"}),
    liar(page={"batches": [{"n": 1, "end": "../x"}]}),
    liar(page={"batches": [{"n": 0, "end": 5}]}),
    liar(page={"batches": [{"n": 1, "end": -5}]}),
    liar(page=b"[" * 10_000),
    liar(bundle=Response(b"x", 302, headers={"location": "/v1/checkpoint"})),
    liar(bundle=Response(b"x", 403)),
    liar(bundle=Response(b"x", 206, headers={"content-range": "bytes 5-5/6"})),
    liar(bundle=Response(b"x", 206, headers={"content-range": "bytes 0-0/6"})),
    liar(bundle=Response(b"x", 206)),
    liar(bundle=Response(b"x", 200, headers={"content-length": "x"})),
]


class Switch:
    """One of several applications at a time, on one server."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def test_what_no_gateway_answers_is_refused(box: Box, out: Path) -> None:
    switch = Switch()

    async def scenario() -> None:
        async with served(box, app=switch) as (local,):
            for number, app in enumerate(LIARS):
                switch.app = app
                folder = out / str(number)
                with pytest.raises((UplinkRejected, UplinkUnavailable)):
                    await pull(Access(local), folder, now=NOW)
                assert set(names(folder)) <= {"gw-1-5.tar.part", "gw-1-5.tar.part.etag"}, number

    asyncio.run(scenario())


def test_a_list_out_of_order_is_refused(box: Box, out: Path) -> None:
    page = {"batches": [{"n": 1, "end": 5}, {"n": 1, "end": 5}]}

    async def scenario() -> None:
        async with served(box, app=liar(page=page)) as (local,):
            with pytest.raises(UplinkRejected, match="batch 1 after 1: not in order"):
                await pull(Access(local), out, now=NOW)

    asyncio.run(scenario())


def test_failing_gateways_are_asked_again_and_then_reported(box: Box, out: Path) -> None:
    asked: list[int] = []
    status = 0

    async def bundle(_request: Request) -> Response:
        asked.append(status)
        return Response(b'{"detail":"later \\u0007"}', status)

    app = liar()
    app.router.routes[-1] = Route("/v1/batches/{n}/bundle", bundle)

    async def scenario() -> None:
        nonlocal status
        async with served(box, app=app) as (local,):
            for status in (500, 502, 503, 429):
                with pytest.raises(UplinkUnavailable, match=rf"answers {status}: later \?"):
                    await pull(Access(local), out, now=NOW)

    asyncio.run(scenario())
    assert asked == [one for one in (500, 502, 503, 429) for _ in range(pull_client.ATTEMPTS_MAX)]


def test_nobody_there(tmp_path: Path, out: Path) -> None:
    for url in (f"unix:{tmp_path}/nothing.sock", "https://127.0.0.1:1"):
        with pytest.raises(UplinkUnavailable, match=r"^(unix|https):[^ ]+: .+"):
            asyncio.run(pull(Access(url), out, now=NOW))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://x", "", "https://x:port"])
def test_other_addresses_are_refused(out: Path, url: str) -> None:
    with pytest.raises(UplinkRejected):
        asyncio.run(pull(Access(url), out, now=NOW))


def test_unusable_tls_files_are_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    for access in (
        Access("https://127.0.0.1:1", ca_file=str(tmp_path / "junk")),
        Access("https://127.0.0.1:1", ca_file=str(tmp_path / "nothing")),
        Access("https://127.0.0.1:1", certificate_file=str(tmp_path / "junk")),
    ):
        with pytest.raises(UplinkRejected, match="cannot use the CA"):
            asyncio.run(pull(access, out, now=NOW))


def test_an_endless_list_is_bounded(box: Box, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_client, "ANSWER_MAX_BYTES", 10_000)

    async def scenario() -> None:
        async with served(box, app=liar(page=b" " * 20_000)) as (local,):
            with pytest.raises(UplinkRejected, match="more than 10000 bytes"):
                await pull(Access(local), out, now=NOW)

    asyncio.run(scenario())


def test_a_folder_in_the_way_is_an_error_of_the_disk(box: Box, out: Path) -> None:
    part, tag = part_of(out)
    part.mkdir(parents=True)

    async def scenario() -> None:
        async with served(box) as (local,):
            with pytest.raises(OSError, match="directory"):
                await pull_all(local, out, box, limit=1)

    asyncio.run(scenario())
    assert not tag.exists()
