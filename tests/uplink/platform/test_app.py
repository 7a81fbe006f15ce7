"""The way over TLS sockets: batches, artifacts, reading back, and every odd request."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.errors import RejectedError
from gateway.ledger import grammar, merkle, stamp
from gateway.ledger.accept import check_receipt
from gateway.ledger.receipt import Receipt
from gateway.ledger.verify import verify
from tests.uplink.platform.fieldbox import FieldBox, video
from tests.uplink.platform.wire import Wire, client_for, enrolled, opened, over_wire, serving
from uplink.platform.platform import Platform

VIDEO = b"a moving picture" * 5000


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, checked for its shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"urn:fieldgate:problem:{code}", status)
    assert body["title"]
    assert body["detail"].isprintable()
    return body


def test_from_upload_to_verified_bundle(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        start = (await wire.client.get(f"{wire.base}/checkpoint")).json()
        assert start == {"size": 0, "root": grammar.base64_of(merkle.EMPTY_ROOT), "batch": 0}
        batch = box.seal(3, [video(VIDEO)])
        answer = await wire.batch(box.tar(batch))
        assert answer.status_code == 200, answer.text
        assert answer.json()["end"] == 3
        head = (await wire.client.get(f"{wire.base}/checkpoint")).json()
        assert head == {"size": 3, "root": grammar.base64_of(batch.seal.root), "batch": 1}
        handed = await wire.artifact(VIDEO)
        assert handed.status_code == 200, handed.text
        (newest,) = handed.json()["receipts"]
        assert newest == (await wire.client.get(f"{wire.base}/batches/3/receipt")).json()
        assert newest["artifacts"] == f"{video(VIDEO).sha256}  {len(VIDEO)}\n"
        for query in ("", "?artifacts=omit"):
            got = await wire.client.get(f"{wire.base}/batches/3/bundle{query}")
            path = tmp_path / "served.tar"
            path.write_bytes(got.content)
            report = verify(path, platform.trust(), now=platform.now())
            assert report.ok, report.checks
            assert (len(got.content) > len(VIDEO)) == (query == "")

    over_wire(tmp_path, scenario)


def test_receipt_is_what_the_gateway_accepts(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        batch = box.seal(3, [video(VIDEO)])
        body = (await wire.batch(box.tar(batch))).json()
        receipt = Receipt.parse(body["receipt"].encode())
        receipt.check_seal(batch.seal, batch.seal_txt)
        assert callable(check_receipt)
        assert receipt.check_artifacts(body["artifacts"].encode()) == {}
        assert base64.b64decode(body["signature"], validate=True)[:1] == b"\x30"

    over_wire(tmp_path, scenario)


def test_lost_answers_cost_no_second_upload(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        tar = box.tar(box.seal(2, [video(VIDEO)]))
        location = await wire.upload("bundle", tar)
        post = {"json": {"upload": str(wire.client.base_url) + location}}
        first = await wire.client.post(f"{wire.base}/batches", **post)
        again = await wire.client.post(f"{wire.base}/batches", **post)
        assert (first.status_code, again.json()) == (200, first.json())
        created = await wire.create("bundle", tar)
        assert created.headers["upload-offset"] == str(len(tar))
        state = await wire.client.head(location, headers={"tus-resumable": "1.0.0"})
        assert (state.status_code, state.headers["upload-offset"]) == (200, str(len(tar)))
        first = await wire.artifact(VIDEO)
        again = await wire.artifact(VIDEO)
        assert (first.status_code, again.json()) == (200, first.json())
        held = await wire.client.post(f"{wire.base}/artifacts/{video(VIDEO).sha256}", json={})
        assert held.json() == first.json()
        assert list((platform.config.folder / "uploads").iterdir()) == []

    over_wire(tmp_path, scenario)


def test_refused_bundles(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        tar = box.tar(box.seal(2))
        body = problem(await wire.batch(tar + b"x"), 422, "bundle-refused")
        assert body["reason"]
        location = await wire.upload("bundle", tar, sha256="0" * 64)
        problem(await wire.client.post(f"{wire.base}/batches", json={"upload": location}), 422, "hash-differs")
        problem(await wire.client.post(f"{wire.base}/batches", json={"upload": location}), 404, "not-found")
        created = await wire.create("bundle", tar)
        await wire.patch(created.headers["location"], 0, tar[:100])
        body = problem(
            await wire.client.post(f"{wire.base}/batches", json={"upload": created.headers["location"]}),
            409,
            "incomplete",
        )
        assert body["offset"] == 100
        box.seal(1)
        body = problem(await wire.batch(box.tar(box.seal(1))), 409, "gap")
        assert body["size"] == 0
        twin = box.clone()
        assert (await wire.batch(tar)).status_code == 200
        twin.batches.clear()
        other = FieldBox("gw-1", box.key, box.certificate_pem, box.ca_pem, box.crl_pem)
        body = problem(await wire.batch(other.tar(other.seal(2, note="another past"))), 409, "fork")
        assert (body["size"], body["root"]) == (2, grammar.base64_of(box.batches[0].seal.root))

    over_wire(tmp_path, scenario)


def test_artifact_uploads_are_checked_before_a_byte_is_sent(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        problem(await wire.create("artifact", VIDEO), 409, "not-named")
        await wire.batch(box.tar(box.seal(1, [video(VIDEO)])))
        problem(await wire.create("artifact", VIDEO + b"x", video(VIDEO).sha256), 422, "hash-differs")
        path = f"{wire.base}/artifacts/{video(VIDEO).sha256}"
        problem(await wire.client.post(path, json={}), 404, "not-found")
        problem(await wire.client.post(f"{wire.base}/artifacts/{'0' * 64}", json={}), 409, "not-named")
        wrong = VIDEO[:-1] + b"!"
        location = await wire.upload("artifact", wrong, video(VIDEO).sha256)
        problem(await wire.client.post(path, json={"upload": location}), 422, "hash-differs")
        problem(await wire.client.get(path), 404, "not-found")
        bundle = await wire.upload("bundle", box.tar(box.seal(1)))
        problem(await wire.client.post(path, json={"upload": bundle}), 400, "malformed")

    over_wire(tmp_path, scenario)


def test_ranges_and_validators(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        await wire.batch(box.tar(box.seal(1, [video(VIDEO)])))
        await wire.artifact(VIDEO)
        for path in (f"{wire.base}/artifacts/{video(VIDEO).sha256}", f"{wire.base}/batches/1/bundle"):
            whole = await wire.client.get(path)
            tag, size = whole.headers["etag"], len(whole.content)
            head = await wire.client.head(path)
            assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")
            for value, start, end in (
                ("bytes=0-0", 0, 1),
                ("bytes=10-19", 10, 20),
                (f"bytes={size - 5}-", size - 5, size),
                ("bytes=-7", size - 7, size),
                (f"bytes=5-{size * 2}", 5, size),
            ):
                part = await wire.client.get(path, headers={"range": value, "if-range": tag})
                assert part.status_code == 206
                assert part.content == whole.content[start:end]
                assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
            for headers in (
                {"range": "bytes=1-2", "if-range": '"other"'},
                {"range": "lines=1-2"},
                {"range": "bytes=-"},
            ):
                assert (await wire.client.get(path, headers=headers)).content == whole.content
            assert (await wire.client.get(path, headers={"if-none-match": tag})).status_code == 304
            beyond = await wire.client.get(path, headers={"range": f"bytes={size}-"})
            problem(beyond, 416, "range-not-satisfiable")
            assert beyond.headers["content-range"] == f"bytes */{size}"

    over_wire(tmp_path, scenario)


def test_lists_and_paging(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        for _ in range(5):
            await wire.batch(box.tar(box.seal(2)))
        seen, after = [], 0
        while after is not None:
            body = (await wire.client.get(f"{wire.base}/batches?after={after}&limit=2")).json()
            seen += [item["end"] for item in body["batches"]]
            after = body["next"]
        assert seen == [2, 4, 6, 8, 10]
        one = (await wire.client.get(f"{wire.base}/batches/4")).json()
        assert (one["first"], one["end"], one["n"], one["artifacts"]) == (2, 4, 2, [])
        for query in ("after=x", "limit=0", "limit=1001", "after=-1", "limit=٣", "after=99999999999999999999"):
            problem(await wire.client.get(f"{wire.base}/batches?{query}"), 400, "malformed")
        for path in (
            "/batches/3",
            "/batches/3/receipt",
            "/batches/3/bundle",
            "/batches/x",
            "/batches/03",
            "/artifacts/x",
        ):
            problem(await wire.client.get(wire.base + path), 404, "not-found")

    over_wire(tmp_path, scenario)


def test_requests_for_artifacts(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        contents = [VIDEO, VIDEO + b"2"]
        await wire.batch(box.tar(box.seal(1, [video(item) for item in contents])))
        digests = [video(item).sha256 for item in contents]
        path = f"{wire.base}/requests"
        problem(await wire.client.post(path, json={"artifacts": digests}), 403, "operator-only")
        async with client_for(platform, str(wire.client.base_url), platform.authority.operator_token) as operator:
            assert (await operator.post(path, json={"artifacts": digests[::-1]})).json() == {"artifacts": digests[::-1]}
            problem(await operator.post(path, json={"artifacts": ["0" * 64]}), 404, "not-found")
            problem(await operator.post(path, content=b"[]", headers={"content-type": "text/plain"}), 415, "media-type")
        assert (await wire.client.get(path)).json() == {"artifacts": digests[::-1]}
        await wire.artifact(VIDEO)
        assert (await wire.client.get(path)).json() == {"artifacts": [digests[1]]}

    over_wire(tmp_path, scenario)


def test_stamps_and_alarms_over_the_wire(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        batch = box.seal(1)
        await wire.batch(box.tar(batch))
        query, nonce = stamp.request(batch.seal_p7s)
        kind = {"content-type": "application/timestamp-query"}
        answer = await wire.client.post("/tsa", content=query, headers=kind)
        assert answer.headers["content-type"] == "application/timestamp-reply"
        stamp.accept(answer.content, batch.seal_p7s, nonce, platform.trust())
        path = f"{wire.base}/batches/1/stamp"
        assert (await wire.client.put(path, content=answer.content)).status_code == 204
        assert (await wire.client.put(path, content=answer.content)).status_code == 204
        problem(await wire.client.put(path, content=b"nonsense"), 422, "stamp-refused")
        problem(await wire.client.put(path, content=bytes(70_000)), 413, "too-large")
        assert (await wire.client.get(f"{wire.base}/batches/1")).json()["stamped"] is True
        assert (await wire.client.post(f"{wire.base}/alarms", content=box.leaf(3, kind="alarm"))).status_code == 202
        problem(await wire.client.post(f"{wire.base}/alarms", content=b"{}"), 422, "leaf-refused")
        rejected = await wire.client.post("/tsa", content=b"nonsense", headers=kind)
        with pytest.raises(RejectedError, match="refused"):  # RFC 3161: a rejection is a response too
            stamp.accept(rejected.content, batch.seal_p7s, nonce, platform.trust())
        problem(await wire.client.post("/tsa", content=query), 415, "media-type")

    over_wire(tmp_path, scenario, tsa=True)


def test_bodies_that_are_not_what_the_page_says(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        json_type = {"content-type": "application/json"}
        path = f"{wire.base}/batches"
        for body in (b"", b"{", b"[]", b'{"upload":7}', b"\xff\xfe", b"[" * 60_000, b'{"upload":"\\ud800"}'):
            problem(await wire.client.post(path, content=body, headers=json_type), 400, "malformed")
        problem(await wire.client.post(path, json={}), 400, "malformed")
        problem(await wire.client.post(path, content=b" " * 70_000, headers=json_type), 413, "too-large")
        problem(await wire.client.post(path, content=b"{}", headers={"content-type": "text/plain"}), 415, "media-type")
        for name in ("../../LOCK", "0" * 32, "", "x" * 5000, "..%2f", "\x00"):
            problem(await wire.client.post(path, json={"upload": name}), 404, "not-found")
        problem(await wire.client.get("/nothing/here"), 404, "not-found")
        problem(await wire.client.delete("/v1/ca"), 405, "method-not-allowed")
        problem(await wire.client.get("/v1/tsa-ca"), 404, "not-found")

    over_wire(tmp_path, scenario)


def test_disk_errors_are_507_and_not_500(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        location = await wire.upload("bundle", box.tar(box.seal(1)))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("uplink.platform.durable.write_new", full)
            answer = await wire.client.post(f"{wire.base}/batches", json={"upload": location})
            problem(answer, 507, "no-room")
            assert int(answer.headers["retry-after"]) > 0
        assert platform.summary().batches == 0
        assert (await wire.client.post(f"{wire.base}/batches", json={"upload": location})).status_code == 200

    over_wire(tmp_path, scenario)


def test_log_of_receipts_is_public_and_signed(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        await wire.batch(box.tar(box.seal(1)))
        body = (await wire.client.get("/v1/log/checkpoint", headers={"authorization": ""})).json()
        assert body["size"] == 1
        (tmp_path / "checkpoint").write_text(body["checkpoint"])
        (tmp_path / "checkpoint.p7s").write_bytes(base64.b64decode(body["signature"]))
        ca = (await wire.client.get("/v1/ca")).content
        (tmp_path / "ca.pem").write_bytes(ca)
        process = await asyncio.create_subprocess_exec(
            "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(tmp_path / "checkpoint.p7s"),
            "-content", str(tmp_path / "checkpoint"), "-CAfile", str(tmp_path / "ca.pem"), "-out", "/dev/null",
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() == 0
        async with client_for(platform, str(wire.client.base_url), platform.authority.operator_token) as operator:
            entries = (await operator.get("/v1/log/entries")).json()["entries"]
        frontier = merkle.Frontier()
        frontier.extend(merkle.leaf_hash(line.encode()) for line in entries)
        assert grammar.base64_of(frontier.root()) == body["root"]

    over_wire(tmp_path, scenario)


def test_two_gateways_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        with opened(tmp_path) as platform:
            boxes = [enrolled(platform, name) for name in ("gw-1", "gw-2")]

            async def send(box: FieldBox, address: str) -> None:
                async with client_for(platform, address, platform.enrolment.bearer(box.gateway)) as client:
                    wire = Wire(client, box.gateway)
                    for _ in range(4):
                        answer = await wire.batch(box.tar(box.seal(3, [video(VIDEO)])))
                        assert answer.status_code == 200, answer.text
                    assert (await wire.artifact(VIDEO)).status_code == 200

            async with serving(platform) as address, asyncio.TaskGroup() as group:
                for box in boxes:
                    group.create_task(send(box, address))
            found = platform.summary()
            assert (found.gateways, found.batches, found.records, found.artifacts) == (2, 8, 24, 2)
            assert found.receipts == 16

    asyncio.run(run())
