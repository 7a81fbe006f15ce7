"""Resumable uploads: offsets, limits, locks, expiry, over real sockets."""

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import httpx
from hypothesis import given
from hypothesis import strategies as st

from tests.uplink.platform.fieldbox import FieldBox
from tests.uplink.platform.test_app import problem
from tests.uplink.platform.wire import PATCH, TUS, Wire, client_for, enrolled, opened, over_wire, serving
from uplink.platform.platform import Platform
from uplink.platform.problems import Refusal
from uplink.platform.tus import metadata_of, parse_metadata, parse_size

CONTENT = bytes(range(256)) * 100


def head_of(location: str, bearer: str) -> bytes:
    """The head of a PATCH, for a client that does not keep its promise."""
    return (
        f"PATCH {location} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n"
        f"tus-resumable: 1.0.0\r\ncontent-type: application/offset+octet-stream\r\n"
        f"upload-offset: 0\r\ncontent-length: {len(CONTENT)}\r\n\r\n"
    ).encode()


def test_options_say_what_is_spoken(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        answer = await wire.client.options("/v1/uploads")
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == "1.0.0"
        assert answer.headers["tus-extension"] == "creation,termination,expiration"
        assert int(answer.headers["tus-max-size"]) == platform.config.artifact_max_bytes

    over_wire(tmp_path, scenario)


def test_resume_at_the_offset_of_the_platform(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        created = await wire.create("bundle", CONTENT)
        location = created.headers["location"]
        assert (created.headers["upload-offset"], created.headers["tus-resumable"]) == ("0", "1.0.0")
        assert (await wire.patch(location, 0, CONTENT[:1000])).headers["upload-offset"] == "1000"
        for offset in (0, 999, 1001, len(CONTENT)):
            answer = await wire.patch(location, offset, b"x" if offset < len(CONTENT) else b"")
            assert problem(answer, 409, "wrong-offset")["offset"] == 1000
            assert answer.headers["upload-offset"] == "1000"
        again = await wire.create("bundle", CONTENT)
        assert (again.headers["location"], again.headers["upload-offset"]) == (location, "1000")
        assert (await wire.patch(location, 1000, CONTENT[1000:])).status_code == 204
        head = await wire.client.head(location, headers=TUS)
        assert head.headers["upload-offset"] == head.headers["upload-length"] == str(len(CONTENT))
        assert head.headers["cache-control"] == "no-store"
        digest = hashlib.sha256(CONTENT).hexdigest()
        assert parse_metadata(head.headers["upload-metadata"])["sha256"] == digest
        problem(await wire.patch(location, len(CONTENT), b"x"), 413, "too-large")
        assert (await wire.client.delete(location, headers=TUS)).status_code == 204
        assert (await wire.client.head(location, headers=TUS)).status_code == 404

    over_wire(tmp_path, scenario)


def test_a_surplus_is_never_kept(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        location = (await wire.create("bundle", CONTENT)).headers["location"]

        async def chunked() -> AsyncIterator[bytes]:
            yield CONTENT
            yield b"more"

        answer = await wire.patch(location, 0, chunked())
        problem(answer, 413, "too-large")
        held = (platform.config.folder / "uploads" / location.rpartition("/")[2]).read_bytes()
        assert held == CONTENT[: len(held)]

    over_wire(tmp_path, scenario)


def test_headers_of_uploads(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        location = (await wire.create("bundle", CONTENT)).headers["location"]
        answer = await wire.client.patch(location, headers={"upload-offset": "0"}, content=b"x")
        problem(answer, 412, "tus-version")
        assert answer.headers["tus-version"] == "1.0.0"
        problem(
            await wire.client.patch(location, headers={**TUS, "upload-offset": "0"}, content=b"x"), 415, "media-type"
        )
        for offset in ("-1", "x", "1e3", "٣", "9" * 30):
            headers = [(key.encode(), value.encode()) for key, value in {**PATCH, "upload-offset": offset}.items()]
            problem(await wire.client.patch(location, headers=headers, content=b"x"), 400, "malformed")
        problem(await wire.client.patch(location, headers=PATCH, content=b"x"), 400, "malformed")
        for length in ("", "-5", "x", "0x10"):
            headers = {**TUS, "upload-length": length, "upload-metadata": "gateway Z3ctMQ=="}
            problem(await wire.client.post("/v1/uploads", headers=headers), 400, "malformed")
        for metadata in ("", "gateway", "gateway !!!", "gateway Z3ctMQ==,gateway Z3ctMQ==", "gateway /w==", "x" * 2000):
            headers = {**TUS, "upload-length": "5", "upload-metadata": metadata}
            assert (await wire.client.post("/v1/uploads", headers=headers)).status_code in {400, 403}
        for name in ("0" * 32, "..%2f..%2fLOCK", "%00", "A" * 32, "x" * 3000):
            problem(await wire.client.patch(f"/v1/uploads/{name}", headers=PATCH, content=b""), 404, "not-found")

    over_wire(tmp_path, scenario)


def test_limits_of_one_gateway(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        problem(await wire.create("bundle", bytes(2001)), 413, "too-large")
        for number in range(3):
            assert (await wire.create("bundle", bytes(1000 + number))).status_code == 201
        problem(await wire.create("bundle", bytes(1999)), 507, "no-room")
        assert (await wire.create("bundle", bytes(10))).status_code == 201
        answer = await wire.create("bundle", bytes(11))
        problem(answer, 429, "busy")
        assert int(answer.headers["retry-after"]) > 0

    over_wire(tmp_path, scenario, bundle_max_bytes=2000, uploads_max=4, upload_quota_bytes=4000)


def test_no_room_on_the_disk(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        problem(await wire.create("bundle", CONTENT), 507, "no-room")

    over_wire(tmp_path, scenario, reserve_bytes=1 << 60)


def test_two_patches_at_once_second_is_locked_out(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        location = (await wire.create("bundle", CONTENT)).headers["location"]
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield CONTENT[:100]
            begun.set()
            await go_on.wait()
            yield CONTENT[100:]

        async with asyncio.TaskGroup() as group:
            first = group.create_task(wire.patch(location, 0, slow()))
            await begun.wait()
            while not platform.uploads._locked:
                await asyncio.sleep(0)
            second = await wire.patch(location, 0, CONTENT)
            problem(second, 423, "locked")
            assert second.headers["retry-after"] == "1"
            answer = await wire.client.head(location, headers=TUS)
            assert answer.status_code == 423
            problem(await wire.client.post(f"{wire.base}/batches", json={"upload": location}), 409, "incomplete")
            go_on.set()
        assert first.result().headers["upload-offset"] == str(len(CONTENT))

    over_wire(tmp_path, scenario)


def test_what_came_before_a_cut_is_kept(tmp_path: Path) -> None:
    async def run() -> None:
        with opened(tmp_path) as platform:
            enrolled(platform)
            bearer = platform.enrolment.bearer("gw-1")
            async with serving(platform) as address, client_for(platform, address, bearer) as client:
                wire = Wire(client, "gw-1")
                location = (await wire.create("bundle", CONTENT)).headers["location"]
                tls = ssl.create_default_context(cadata=platform.authority.ca_pem)
                port = httpx.URL(address).port
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
                writer.write(head_of(location, bearer) + CONTENT[:5000])
                await writer.drain()
                while not platform.uploads._locked:
                    await asyncio.sleep(0)
                writer.close()
                while platform.uploads._locked:
                    await asyncio.sleep(0)
                await writer.wait_closed()
                assert await reader.read() == b""
                head_answer = await client.head(location, headers=TUS)
                offset = int(head_answer.headers["upload-offset"])
                assert 0 <= offset <= 5000
                assert (await wire.patch(location, offset, CONTENT[offset:])).status_code == 204

    asyncio.run(run())


def test_a_client_that_stalls_is_answered_408(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        location = (await wire.create("bundle", CONTENT)).headers["location"]
        tls = ssl.create_default_context(cadata=platform.authority.ca_pem)
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.client.base_url.port, ssl=tls)
        writer.write(head_of(location, platform.enrolment.bearer("gw-1")) + CONTENT[:100])
        assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    over_wire(tmp_path, scenario, upload_idle_s=0)


def test_expired_uploads_go(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        location = (await wire.create("bundle", CONTENT)).headers["location"]
        await wire.patch(location, 0, CONTENT[:10])
        upload = platform.uploads.find(location.rpartition("/")[2])
        assert upload is not None
        old = (platform.now() - timedelta(days=8)).timestamp()
        os.utime(platform.uploads.path(upload), (old, old))
        problem(await wire.patch(location, 10, b"x"), 410, "upload-expired")
        problem(await wire.patch(location, 10, b"x"), 404, "not-found")
        location = (await wire.create("bundle", CONTENT)).headers["location"]
        os.utime(platform.uploads.path(upload), (old, old))
        (platform.config.folder / "uploads" / ("e" * 32)).write_bytes(b"left by a crash")
        assert platform.uploads.sweep(platform.now()) == 1
        assert list((platform.config.folder / "uploads").iterdir()) == []

    over_wire(tmp_path, scenario)


def test_uploads_survive_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        enrolled(platform)
        upload = platform.uploads.create("gw-1", "bundle", "a" * 64, 100)
        with platform.uploads.path(upload).open("ab") as file:
            file.write(b"x" * 40)
    with opened(tmp_path) as platform:
        found = platform.uploads.find(upload.id)
        assert found == upload
        assert platform.uploads.offset(upload) == 40
        assert parse_metadata(metadata_of(upload)) == {"gateway": "gw-1", "kind": "bundle", "sha256": "a" * 64}


def status_of(parse: Callable[[], object]) -> int:
    """200, or the status of the refusal; any other exception fails the test."""
    try:
        parse()
    except Refusal as refusal:
        return refusal.status
    return 200


@given(st.one_of(st.text(max_size=300), st.from_regex(r"[a-z]{0,5} [A-Za-z0-9+/=]{0,20}(,[a-z]* [A-Za-z=]*)?")))
def test_metadata_parser_refuses_or_reads(text: str) -> None:
    assert status_of(lambda: parse_metadata(text)) in {200, 400}


@given(st.one_of(st.none(), st.text(max_size=40)))
def test_sizes_are_plain_decimals(text: str | None) -> None:
    plain = text is not None and text.isascii() and text.isdigit() and len(text) <= 15
    assert status_of(lambda: parse_size(text, "Upload-Length")) == (200 if plain else 400)
