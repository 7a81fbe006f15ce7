"""Every endpoint: what it answers, how it refuses, what it never does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from gateway.api import streams
from gateway.api.problem import KINDS, MEDIA_TYPE
from gateway.core.errors import DiskError, FieldgateError, IntegrityError, StoreFull, UplinkUnavailable
from gateway.ledger import merkle, proof
from gateway.ledger.verify import verify
from tests.api.box import NOW, Box, draft, filled
from tests.api.serving import Health, app_of, ask


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that no test changes."""
    made = filled(tmp_path_factory.mktemp("box"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(shared: Box) -> ASGIApp:
    return app_of(shared)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = filled(tmp_path)
    yield made
    made.close()


def assert_problem(answer: httpx.Response, kind: str, text: str = "") -> None:
    status, title = KINDS[kind]
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    document = answer.json()
    assert document["type"] == f"urn:fieldgate:problem:{kind}"
    assert (answer.status_code, document["status"], document["title"]) == (status, status, title)
    assert text in document["detail"]
    assert answer.headers["cache-control"] == "no-store"


# ---------------------------------------------------------------- checkpoint and batches


def test_checkpoint(app: ASGIApp, shared: Box) -> None:
    shown = ask(app, "GET", "/v1/checkpoint").json()
    root = shared.reader.tail().root
    assert shown == {
        "gateway": "gw-0001.example",
        "origin": "gw-0001.example/evidence",
        "size": 21,
        "root": base64.b64encode(root).decode(),
        "batch": 2,
        "next_seq": 23,
    }


def test_an_empty_gateway_answers_too(tmp_path: Path) -> None:
    box = Box(tmp_path)
    app = app_of(box)
    shown = ask(app, "GET", "/v1/checkpoint").json()
    assert (shown["size"], shown["batch"], shown["next_seq"]) == (0, 0, 0)
    assert base64.b64decode(shown["root"]) == hashlib.sha256().digest()
    assert ask(app, "GET", "/v1/batches").json() == {"batches": [], "next": None}
    assert ask(app, "GET", "/v1/records").json() == {"records": [], "next": None}
    assert_problem(ask(app, "GET", "/v1/batches/1"), "not-found")
    box.close()


def test_batches_are_paged(app: ASGIApp) -> None:
    first = ask(app, "GET", "/v1/batches?limit=1").json()
    assert [(row["n"], row["first"], row["end"]) for row in first["batches"]] == [(1, 0, 12)]
    second = ask(app, "GET", first["next"]).json()
    assert [row["n"] for row in second["batches"]] == [2]
    assert second["next"] is None
    assert [row["n"] for row in ask(app, "GET", "/v1/batches?limit=1000").json()["batches"]] == [1, 2]


def test_a_batch_shows_its_proofs(box: Box) -> None:
    box.keep_receipt(1, *box.receipt(1))
    shown = ask(app_of(box), "GET", "/v1/batches/1").json()
    row = box.row(1)
    assert shown["seal"].encode() == row.seal_txt
    assert base64.b64decode(shown["signature"]) == row.seal_p7s
    assert shown["receipt"]["receipt"].encode() == row.receipt_txt
    assert (shown["stamped"], shown["stamp"], shown["receipted"], shown["complete"]) == (False, None, True, True)
    assert shown["sealed_utc"] == "2026-11-24T06:00:12.000000000Z"
    assert [item["state"] for item in shown["artifacts"]] == ["present", "present"]


@pytest.mark.parametrize("n", ["0", "3", "-1", "01", "x", "9" * 30, "1.0", "%00", "٣"])
def test_other_batches_are_not_found(app: ASGIApp, n: str) -> None:
    for path in (f"/v1/batches/{n}", f"/v1/batches/{n}/bundle"):
        assert_problem(ask(app, "GET", path), "not-found")


# ---------------------------------------------------------------- bundles, ranges


def test_a_served_bundle_verifies(app: ASGIApp, shared: Box, tmp_path: Path) -> None:
    answer = ask(app, "GET", "/v1/batches/1/bundle")
    assert answer.headers["content-type"] == "application/x-tar"
    assert answer.headers["content-disposition"] == 'attachment; filename="gw-0001.example-12.tar"'
    assert int(answer.headers["content-length"]) == len(answer.content)
    (tmp_path / "b.tar").write_bytes(answer.content)
    assert verify(tmp_path / "b.tar", shared.trust, now=NOW).ok
    light = ask(app, "GET", "/v1/batches/1/bundle?artifacts=omit")
    assert len(light.content) < 40_000
    assert light.headers["etag"] != answer.headers["etag"]


def test_head_tells_size_and_tag_without_a_body(app: ASGIApp) -> None:
    for path in ("/v1/batches/1/bundle", "/v1/checkpoint", "/v1/openapi.json"):
        whole, head = ask(app, "GET", path), ask(app, "HEAD", path)
        assert head.status_code == 200
        assert int(head.headers["content-length"]) == len(whole.content)
        assert head.headers["etag"] == whole.headers["etag"]


@pytest.fixture(scope="module")
def whole_tar(app: ASGIApp) -> bytes:
    return ask(app, "GET", "/v1/batches/1/bundle").content


@settings(max_examples=60)
@given(st.data())
def test_any_range_equals_the_slice_of_the_whole(app: ASGIApp, whole_tar: bytes, data: st.DataObject) -> None:
    boundary = st.integers(0, len(whole_tar) // 512).map(lambda block: block * 512)
    edge = boundary | st.integers(0, len(whole_tar) - 1)
    first, second = data.draw(edge), data.draw(edge)
    start, last = sorted((min(first, len(whole_tar) - 1), min(second, len(whole_tar) - 1)))
    answer = ask(app, "GET", "/v1/batches/1/bundle", {"range": f"bytes={start}-{last}"})
    assert answer.status_code == 206
    assert answer.content == whole_tar[start : last + 1]
    assert answer.headers["content-range"] == f"bytes {start}-{last}/{len(whole_tar)}"


def test_every_block_boundary_of_the_first_members(shared: Box, whole_tar: bytes) -> None:
    source = asyncio.run(shared.bundles.batch(1, artifacts=True))
    for start in range(0, 20_480, 512):
        for left, right in ((start - 1, start + 1), (start, start + 512), (start, start)):
            if left >= 0:
                assert b"".join(source.read(left, right)) == whole_tar[left:right]
    assert max(len(chunk) for chunk in source.read(0, source.size_bytes)) <= 262_144


def test_conditional_requests(app: ASGIApp, whole_tar: bytes) -> None:
    path = "/v1/batches/1/bundle"
    etag = ask(app, "HEAD", path).headers["etag"]
    unchanged = ask(app, "GET", path, {"if-none-match": etag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    assert_problem(ask(app, "GET", path, {"if-match": '"other"'}), "precondition-failed")
    assert ask(app, "GET", path, {"range": "bytes=5-6", "if-range": '"other"'}).status_code == 200
    beyond = ask(app, "GET", path, {"range": f"bytes={len(whole_tar)}-"})
    assert_problem(beyond, "range-not-satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(whole_tar)}"
    small = ask(app, "GET", "/v1/checkpoint").headers["etag"]
    assert ask(app, "GET", "/v1/checkpoint", {"if-none-match": small}).status_code == 304
    assert_problem(ask(app, "GET", "/v1/checkpoint", {"if-match": '"x"'}), "precondition-failed")


def test_a_receipt_between_two_ranges_changes_the_tag(box: Box) -> None:
    app, path = app_of(box), "/v1/batches/1/bundle"
    begun = ask(app, "GET", path, {"range": "bytes=0-1023"})
    box.keep_receipt(1, *box.receipt(1))
    goes_on = {"range": "bytes=1024-", "if-range": begun.headers["etag"]}
    again = ask(app, "GET", path, goes_on)
    assert again.status_code == 200
    assert len(again.content) == int(again.headers["content-length"])
    assert again.headers["etag"] != begun.headers["etag"]
    assert_problem(ask(app, "GET", path, {"if-match": begun.headers["etag"]}), "precondition-failed")


def test_too_many_downloads_at_once_are_asked_to_wait(box: Box) -> None:
    slots = streams.Slots(2)
    first, second = slots.take(), slots.take()
    with pytest.raises(streams.ProblemError) as caught:
        slots.take()
    assert (caught.value.kind, caught.value.headers) == ("busy", {"retry-after": "2"})
    first()
    first()
    slots.take()
    with pytest.raises(streams.ProblemError):
        slots.take()
    second()


def test_slots_come_back_after_every_kind_of_answer(box: Box) -> None:
    app, path = app_of(box), "/v1/batches/1/bundle"
    etag = ask(app, "HEAD", path).headers["etag"]
    for _ in range(streams.BUNDLES_MAX + 1):
        assert ask(app, "GET", path, {"range": "bytes=0-0"}).status_code == 206
        assert ask(app, "HEAD", path).status_code == 200
        assert ask(app, "GET", path, {"if-none-match": etag}).status_code == 304
        assert ask(app, "GET", path, {"if-match": '"x"'}).status_code == 412
        assert ask(app, "GET", path, {"range": "bytes=99999999-"}).status_code == 416
    box.expire_records(12)
    for _ in range(streams.BUNDLES_MAX + 1):
        assert_problem(ask(app, "GET", path), "gone")


# ---------------------------------------------------------------- artifacts


def test_an_artifact_whole_and_in_part(app: ASGIApp, shared: Box) -> None:
    item = shared.artifacts(1)[0]
    path = f"/v1/artifacts/{item.sha256}"
    whole = ask(app, "GET", path)
    assert hashlib.sha256(whole.content).hexdigest() == item.sha256
    assert (whole.headers["content-type"], whole.headers["etag"]) == ("video/mp4", f'"{item.sha256}"')
    digest = base64.b64encode(bytes.fromhex(item.sha256)).decode()
    assert whole.headers["repr-digest"] == f"sha-256=:{digest}:"
    part = ask(app, "GET", path, {"range": "bytes=300000-300009", "if-range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole.content[300_000:300_010])


def test_an_artifact_is_never_shown_as_a_page(app: ASGIApp, shared: Box) -> None:
    page = next(item for item in shared.artifacts(2) if item.media_type == "text/html")
    answer = ask(app, "GET", f"/v1/artifacts/{page.sha256}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_strange_media_type_becomes_octets(box: Box) -> None:
    box.record("station.file", "rec-1", box.put(b"x", "x", "text/html\r\nset-cookie: a=b"))
    answer = ask(app_of(box), "GET", f"/v1/artifacts/{hashlib.sha256(b'x').hexdigest()}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("digest", ["0" * 64, "0" * 63, "G" * 64, "A" * 64, "..%2f..%2fstore.db", "%00"])
def test_unknown_artifacts_are_not_found(app: ASGIApp, digest: str) -> None:
    assert_problem(ask(app, "GET", f"/v1/artifacts/{digest}"), "not-found")


def test_expired_damaged_and_missing_artifacts_are_not_served(box: Box) -> None:
    app = app_of(box)
    first, second = box.artifacts(1)
    box.change("UPDATE artifact SET state = 'expired' WHERE sha256 = ?", first.sha256)
    assert_problem(ask(app, "GET", f"/v1/artifacts/{first.sha256}"), "gone")
    os.truncate(box.spool.path(second.sha256), 5)
    assert_problem(ask(app, "GET", f"/v1/artifacts/{second.sha256}"), "damaged")
    box.spool.path(second.sha256).unlink()
    assert_problem(ask(app, "GET", f"/v1/artifacts/{second.sha256}"), "damaged")
    box.change("UPDATE artifact SET state = 'damaged' WHERE sha256 = ?", first.sha256)
    assert_problem(ask(app, "GET", f"/v1/artifacts/{first.sha256}"), "damaged")


# ---------------------------------------------------------------- records, proofs, exports


def test_records_are_the_stored_bytes(app: ASGIApp, shared: Box) -> None:
    answer = ask(app, "GET", "/v1/records?limit=3")
    raw = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])
    leaves = [bytes(leaf) for leaf in msgspec.json.decode(raw["records"], type=list[msgspec.Raw])]
    assert leaves == list(shared.reader.leaves(0, 3))
    one = ask(app, "GET", "/v1/records/2")
    assert one.content == shared.reader.leaf(2)


def seqs(app: ASGIApp, path: str) -> list[int]:
    """All seqs behind a query, following `next`."""
    found: list[int] = []
    following: str | None = path
    while following is not None:
        page = ask(app, "GET", following).json()
        found += [record["seq"] for record in page["records"]]
        following = page["next"]
    return found


@pytest.mark.parametrize("limit", [1, 2, 22, 23, 24, 1000])
def test_records_are_paged_without_gap_or_repeat(app: ASGIApp, limit: int) -> None:
    assert seqs(app, f"/v1/records?limit={limit}") == list(range(23))


def test_records_are_filtered(app: ASGIApp) -> None:
    assert seqs(app, "/v1/records?kind=clock.state&limit=2") == [2, 4, 6, 8, 10]
    assert seqs(app, "/v1/records?kind=station.file&device=rec-9") == [13]
    assert seqs(app, "/v1/records?device=no-such") == []
    assert seqs(app, "/v1/records?from=2026-11-24T14:00:05%2B08:00&to=2026-11-24T06:00:07Z&limit=1") == [5, 6]
    assert seqs(app, "/v1/records?from=1795500020000000000&after=20") == [21, 22]
    assert seqs(app, "/v1/records?after=9007199254740991&from=9223372036854775807") == []


def test_a_page_of_large_records_ends_early(box: Box) -> None:
    box.records(*(draft("position", "big", text="x" * 200_000) for _ in range(40)))
    app = app_of(box)
    page = ask(app, "GET", "/v1/records?device=big&limit=1000")
    assert len(page.content) < 4_300_000
    assert page.json()["next"] is not None
    assert seqs(app, "/v1/records?device=big&limit=1000") == list(range(23, 63))


def test_every_sealed_record_has_a_valid_proof(app: ASGIApp, shared: Box) -> None:
    for seq in range(21):
        found = proof.parse(ask(app, "GET", f"/v1/records/{seq}/proof").content)
        row = shared.reader.batch_of(seq)
        leaf = shared.reader.leaf(seq)
        assert row is not None
        assert leaf is not None
        assert (found[0], found.checkpoint.size, found.checkpoint.root) == (seq, row.end, row.root)
        assert merkle.verify_inclusion(merkle.leaf_hash(leaf), seq, row.end, found.path, row.root)


def test_records_that_cannot_be_proved(box: Box) -> None:
    app = app_of(box)
    assert_problem(ask(app, "GET", "/v1/records/21/proof"), "not-sealed")
    assert_problem(ask(app, "GET", "/v1/records/23/proof"), "not-found")
    assert_problem(ask(app, "GET", "/v1/records/x"), "not-found")
    assert_problem(ask(app, "GET", "/v1/export?seq=1&seq=22"), "not-sealed")
    assert_problem(ask(app, "GET", "/v1/export?seq=1&seq=999"), "not-found")
    assert_problem(ask(app, "GET", "/v1/export"), "bad-parameter", "seq is missing")
    box.expire_records(12)
    for path in (
        "/v1/records/3",
        "/v1/records/3/proof",
        "/v1/records/13/proof",
        "/v1/export?seq=3",
        "/v1/export?seq=13",
    ):
        assert_problem(ask(app, "GET", path), "gone")


def test_an_export_verifies(app: ASGIApp, shared: Box, tmp_path: Path) -> None:
    answer = ask(app, "GET", "/v1/export?seq=1&seq=13&seq=1&artifacts=omit")
    (tmp_path / "e.tar").write_bytes(answer.content)
    report = verify(tmp_path / "e.tar", shared.trust, now=NOW)
    assert report.ok, [check for check in report.checks if not check.ok]


# ---------------------------------------------------------------- receipts


def posted(parts: tuple[bytes, bytes, bytes]) -> dict[str, Any]:
    text, p7s, artifacts = parts
    signature = base64.b64encode(p7s).decode()
    return {"receipt": text.decode(), "signature": signature, "artifacts": artifacts.decode()}


def test_a_receipt_is_kept_and_may_come_again(box: Box) -> None:
    app, body = app_of(box), posted(box.receipt(1))
    for _ in range(2):
        answer = ask(app, "POST", "/v1/batches/1/receipt", json=body)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["receipted"], answer.json()["complete"]) == (True, True)
    assert box.row(1).receipt_txt == box.receipt(1)[0]


def test_a_receipt_for_another_batch_is_refused(box: Box) -> None:
    answer = ask(app_of(box), "POST", "/v1/batches/1/receipt", json=posted(box.receipt(2)))
    assert_problem(answer, "receipt-refused", "another seal")
    assert box.row(1).receipt_txt is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"receipt":"","signature":""}',
        b'{"receipt":"","signature":"","artifacts":"","more":1}',
        b'{"receipt":1,"signature":"","artifacts":""}',
        b'{"receipt":"","signature":"*","artifacts":""}',
        b'{"receipt":"","signature":"YQ","artifacts":""}',
        b'{"receipt":"\\u00e9","signature":"","artifacts":""}',
        b'{"receipt":"","signature":"\\ud800","artifacts":""}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_body_is_a_problem(app: ASGIApp, body: bytes) -> None:
    answer = ask(app, "POST", "/v1/batches/1/receipt", {"content-type": "application/json"}, content=body)
    assert_problem(answer, "bad-body")


def test_other_bodies_are_refused(app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/v1/batches/1/receipt"
    assert_problem(ask(app, "POST", path, {"content-type": "text/plain"}, content=b"{}"), "media-type")
    assert_problem(ask(app, "POST", path, content=b"{}"), "media-type")
    assert_problem(ask(app, "POST", "/v1/batches/7/receipt", json={}), "not-found")
    monkeypatch.setattr("gateway.api.app.RECEIPT_BODY_MAX_BYTES", 100)
    large = ask(app, "POST", path, {"content-type": "application/json"}, content=b" " * 101)
    assert_problem(large, "too-large")
    assert large.headers["connection"] == "close"


# ---------------------------------------------------------------- sources, health, metrics, everything else


def test_sources_health_and_metrics(box: Box) -> None:
    health = Health()
    app = app_of(box, health)
    assert ask(app, "GET", "/v1/sources").json()["sources"][0]["counters"] == {"files": 3}
    assert ask(app, "GET", "/v1/health").json() == {"status": "ok", "checks": []}
    health.report["status"] = "failing"
    assert ask(app, "GET", "/v1/health").status_code == 503
    metrics = ask(app, "GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert b'gateway_api_requests_total{method="GET",status="503"}' in metrics.content


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/health/", "/v2/health", "/v1/batches//bundle", "/%2e%2e/etc/passwd"]
)
def test_unknown_paths_are_problems(app: ASGIApp, path: str) -> None:
    assert_problem(ask(app, "GET", path), "not-found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_problems_with_allow(app: ASGIApp, method: str) -> None:
    answer = ask(app, method, "/v1/health")
    assert_problem(answer, "method-not-allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert ask(app, "GET", "/v1/batches/1/receipt").headers["allow"] == "POST"


def test_every_path_refuses_unknown_parameters(app: ASGIApp, shared: Box) -> None:
    digest = shared.artifacts(1)[0].sha256
    for path in json.loads(ask(app, "GET", "/v1/openapi.json").content)["paths"]:
        filled_in = path.replace("{n}", "1").replace("{seq}", "1").replace("{sha256}", digest)
        method = "POST" if path.endswith(("/receipt", "/orders")) else "GET"
        assert_problem(
            ask(app, method, filled_in + "?artefacts=omit"), "bad-parameter", "unknown parameter 'artefacts'"
        )


def test_every_answer_says_how_it_may_be_cached(app: ASGIApp, shared: Box) -> None:
    digest = shared.artifacts(1)[0].sha256
    for path in json.loads(ask(app, "GET", "/v1/openapi.json").content)["paths"]:
        filled_in = path.replace("{n}", "1").replace("{seq}", "1").replace("{sha256}", digest)
        answer = ask(app, "GET", filled_in)
        assert {"cache-control", "content-type", "x-content-type-options"} <= set(answer.headers), path


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lambda: StoreFull("no room"), "store-full"),
        (lambda: UplinkUnavailable("later"), "unavailable"),
        (lambda: IntegrityError("hole at 7"), "integrity"),
        (lambda: DiskError("bad sector"), "disk"),
        (lambda: FieldgateError("?"), "defect"),
        (ZeroDivisionError, "defect"),
    ],
)
def test_errors_of_the_store_are_problems(
    box: Box, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], kind: str
) -> None:
    def fail(n: int) -> None:
        raise error()

    monkeypatch.setattr(box.reader, "batch", fail)
    assert_problem(ask(app_of(box), "GET", "/v1/batches/1"), kind)
