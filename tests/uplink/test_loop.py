"""The uplink's loop over real sockets, a real store and real signatures, against a platform that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.core.errors import ForkError
from gateway.ledger.receipt import Receipt
from tests.api.box import Box, filled
from tests.uplink import server as s
from tests.uplink.rig import Rig, go
from tests.uplink.server import FakePlatform

ZERO = b"\0" * 32


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = filled(tmp_path)
    yield box
    box.close()


def deliver(
    box: Box,
    platform: FakePlatform,
    *,
    until: Callable[[], bool] | None = None,
    rig: Rig | None = None,
    artifacts: str = "push",
    timeout_s: float = 2.0,
) -> Rig:
    """Run the loop until nothing waits (or `until` holds)."""
    rig = rig or Rig(box)

    async def main() -> None:
        async with platform.listen() as url:
            await rig.run(url, until or rig.empty, artifacts=artifacts, timeout_s=timeout_s)

    go(main())
    return rig


def all_there(box: Box, platform: FakePlatform) -> None:
    """Every batch, every artifact, and receipts that name them."""
    assert platform.batches == [row.n for row in box.reader.batches(0, 100)][: len(platform.batches)]
    for n in (1, 2):
        row = box.row(n)
        assert row.complete
        assert row.receipt_txt is not None
        assert {item.sha256 for item in box.artifacts(n)} <= platform.artifacts.keys()
        for item in box.artifacts(n):
            assert platform.artifacts[item.sha256] == box.spool.path(item.sha256).read_bytes()


def test_everything_is_delivered_with_receipts_and_beacons(box: Box) -> None:
    platform = FakePlatform(box)
    rig = deliver(box, platform)
    all_there(box, platform)
    assert len(platform.alarms) == 1
    nonces = [data["nonce"] for data in rig.records("beacon")]
    assert len(nonces) == 1  # the first receipt at once, later ones are spaced (test_notices)
    assert nonces == [f"{1:032x}"]
    newest = box.row(2).receipt_txt
    assert newest is not None
    assert Receipt.parse(newest).nonce not in nonces
    assert rig.status.last_receipt_utc_ns is not None
    assert rig.status.sent_bytes > 600_000
    assert rig.status.resent_bytes == 0
    assert rig.alarms() == []


def test_order_alarms_then_batches_then_artifacts(box: Box) -> None:
    platform = FakePlatform(box)
    deliver(box, platform)
    posts = [path.split("/")[4] for method, path in platform.log if method == "POST" and "gateways" in path]
    assert posts == ["alarms", "batches", "batches", "artifacts", "artifacts", "artifacts"]


@pytest.mark.parametrize(
    "fault",
    [
        s.cut,
        s.answer(500),
        s.answer(503, retry_after="1"),
        s.answer(429, retry_after="0"),
        s.answer(507),
        s.answer(423, retry_after="0"),
        s.answer(404),
        s.answer(302, location="https://elsewhere.example/"),
        s.answer(200, b"{}"),
        s.answer(200, b"\xff" * 100),
        s.answer(204),
        s.raw(b""),
        s.raw(b"garbage\r\n\r\n"),
        s.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"),
        s.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b" " * 9_999_999),
        s.answer_lost(),
    ],
    ids=[
        "cut", "500", "503", "429", "507", "423", "404", "302", "empty object", "not text", "204", "no answer",
        "not http", "truncated", "too long", "answer lost",
    ],
)  # fmt: skip
def test_one_fault_at_every_step_loses_nothing(box: Box, fault: s.Fault) -> None:
    platform = FakePlatform(box)
    steps = ["/checkpoint", "/requests", "POST /v1/uploads", "PATCH", "/batches", "/artifacts/", "/alarms"]
    platform.script = [(step, fault) for step in steps]
    rig = deliver(box, platform)
    assert platform.script == [], "the fault never happened"
    all_there(box, platform)
    assert platform.batches == [1, 2]
    assert rig.records("uplink.quarantine") == []


@pytest.mark.parametrize("fault", [s.black_hole, s.drip, s.deaf], ids=["black hole", "slow loris", "deaf"])
@pytest.mark.parametrize("step", ["/checkpoint", "PATCH", "/batches"])
def test_a_platform_that_hangs_is_noticed_and_tried_again(box: Box, step: str, fault: s.Fault) -> None:
    platform = FakePlatform(box)
    platform.script = [(step, fault)]
    rig = deliver(box, platform, timeout_s=0.15)
    all_there(box, platform)
    assert rig.status.counters["failed_link"] >= 1


def test_a_refused_batch_stops_the_line_but_not_the_rest_and_goes_on_after_a_restart(box: Box) -> None:
    platform = FakePlatform(box)
    platform.script = [("/batches", s.answer(422, b'{"type":"urn:fieldgate:problem:bundle-refused"}'))]
    rig = Rig(box)
    deliver(box, platform, rig=rig, until=lambda: bool(rig.records("uplink.quarantine")) and bool(platform.alarms))
    assert platform.batches == []
    assert box.row(1).quarantined is not None
    assert rig.delivery.blocked == 1
    [quarantine] = rig.records("uplink.quarantine")
    assert (quarantine["item"], quarantine["ref"]) == ("batch", "1")
    assert ("uplink.refused", "raised") in rig.alarms()
    again = deliver(box, platform)
    all_there(box, platform)
    assert ("uplink.refused", "cleared") in again.alarms()


def test_a_refused_alarm_notice_makes_no_further_alarm(box: Box) -> None:
    platform = FakePlatform(box)
    platform.always = [("/alarms", s.answer(422))]
    rig = deliver(box, platform)
    assert len(rig.records("uplink.quarantine")) == 1
    assert rig.alarms() == []
    all_there(box, platform)


def test_an_artifact_that_is_not_in_the_spool_is_quarantined_and_the_others_go(box: Box) -> None:
    gone = box.artifacts(1)[0]
    box.spool.path(gone.sha256).unlink()
    platform = FakePlatform(box)
    rig = deliver(box, platform)
    assert [data["ref"] for data in rig.records("uplink.quarantine")] == [gone.sha256]
    assert gone.sha256 not in platform.artifacts
    assert len(platform.artifacts) == 2


def test_an_artifact_damaged_in_the_spool_is_not_sent_again_and_again(box: Box) -> None:
    damaged = box.artifacts(1)[0]
    path = box.spool.path(damaged.sha256)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(bytes(content))
    platform = FakePlatform(box)
    rig = deliver(box, platform)
    assert [data["ref"] for data in rig.records("uplink.quarantine")] == [damaged.sha256]
    assert sum(f"/artifacts/{damaged.sha256}" in path for _, path in platform.log) == 1


def test_bytes_changed_on_the_way_are_sent_again(box: Box) -> None:
    platform = FakePlatform(box)
    differs = s.answer(422, b'{"type":"urn:fieldgate:problem:hash-differs"}')
    platform.script = [("/artifacts/", differs), ("/artifacts/", differs)]
    rig = deliver(box, platform)
    all_there(box, platform)
    assert rig.records("uplink.quarantine") == []


# ---------------------------------------------------------------- receipts


@pytest.mark.parametrize(
    "changes",
    [
        {"seal_sha256": "ab" * 32},
        {"root": ZERO},
        {"prev_root": ZERO},
        {"origin": "gw-0002.example/evidence"},
        {"artifacts_sha256": "ab" * 32},
        {"artifacts_total": 7},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_wrong_receipt_is_never_stored_and_raises_an_alarm(box: Box, changes: dict[str, object]) -> None:
    platform, rig = FakePlatform(box), Rig(box)
    platform.changes = changes
    deliver(box, platform, rig=rig, until=lambda: ("uplink.receipt", "raised") in rig.alarms())
    assert box.row(1).receipt_txt is None
    assert rig.records("beacon") == []
    assert rig.records("uplink.quarantine") == []
    platform.changes = {}
    deliver(box, platform, rig=Rig(box))
    all_there(box, platform)
    assert ("uplink.receipt", "cleared") in rig.alarms()


def test_a_receipt_signed_by_a_gateway_key_is_refused(box: Box) -> None:
    platform, rig, honest = FakePlatform(box), Rig(box), box.platform
    box.platform = box.authority.issue(box.gateway, "Fieldgate gateway")
    deliver(box, platform, rig=rig, until=lambda: ("uplink.receipt", "raised") in rig.alarms())
    assert box.row(1).receipt_txt is None
    box.platform = honest
    deliver(box, platform)
    all_there(box, platform)


def test_the_receipt_of_another_batch_is_refused(box: Box) -> None:
    platform, rig = FakePlatform(box), Rig(box)

    async def other(x: s.Exchange) -> None:
        await x.body()
        await x.json(200, {**platform.receipt(2), "end": box.row(1).end})

    platform.script = [("/batches", other)]
    deliver(box, platform, rig=rig)
    all_there(box, platform)
    assert rig.status.counters["failed_item"] >= 1


def test_a_replayed_receipt_does_not_free_an_artifact(box: Box) -> None:
    platform, rig = FakePlatform(box), Rig(box)
    early: list[dict[str, object]] = []

    async def replay(x: s.Exchange) -> None:
        await x.body()
        await x.json(200, {"receipts": early})

    deliver(box, platform, rig=rig, until=lambda: len(platform.batches) == 2 and box.row(2).receipt_txt is not None)
    early.append(platform.receipt(1))
    stored, waits = box.row(1).receipt_txt, len(box.outbox.due(9, "artifact"))
    assert platform.artifacts == {}
    platform.script = [("/artifacts/", replay)]
    waiting = Rig(box)
    deliver(box, platform, rig=waiting, until=lambda: waiting.status.counters.get("failed_item", 0) >= 1)
    assert box.row(1).receipt_txt == stored
    assert len(box.outbox.due(9, "artifact")) == waits
    deliver(box, platform)
    all_there(box, platform)


# ---------------------------------------------------------------- the line


def test_a_platform_restored_from_its_backup_gets_everything_again(box: Box) -> None:
    platform = FakePlatform(box)
    deliver(box, platform)
    restored = FakePlatform(box)
    restored.receipts = 1000
    box.record("alarm", "", code="disk", number=2)
    box.seal()
    rig = deliver(box, restored)
    assert restored.batches == [1, 2, 3]
    assert {item.sha256 for n in (1, 2) for item in box.artifacts(n)} == set(restored.artifacts)
    assert rig.status.counters["batches_resent"] == 2
    all_there(box, restored)


@pytest.mark.parametrize("case", ["larger", "other root", "no boundary"])
def test_a_fork_at_the_start_stops_with_a_record(box: Box, case: str) -> None:
    platform, rig = FakePlatform(box), Rig(box)
    platform.size, platform.root = {
        "larger": (box.reader.tail().size + 1, ZERO),
        "other root": (box.row(1).end, ZERO),
        "no boundary": (5, ZERO),
    }[case]
    with pytest.raises(ForkError, match="FORK"):
        deliver(box, platform, rig=rig)
    [fork] = rig.records("uplink.fork")
    assert fork["theirs"]["size"] == platform.size
    assert platform.batches == []


def test_a_fork_answered_to_a_batch_stops(box: Box) -> None:
    platform, rig = FakePlatform(box), Rig(box)

    async def fork(x: s.Exchange) -> None:
        await x.body()
        await x.problem(409, "fork", size=0, root="47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", reason="other seal")

    platform.script = [("/batches", fork)]
    with pytest.raises(ForkError, match="FORK"):
        deliver(box, platform, rig=rig)
    assert len(rig.records("uplink.fork")) == 1


def test_a_fork_while_an_artifact_is_checked_still_propagates_alone(box: Box) -> None:
    platform, rig = FakePlatform(box), Rig(box)
    deliver(box, platform, rig=rig, until=lambda: len(platform.batches) == 2 and box.row(2).receipt_txt is not None)
    platform.script = [("/artifacts/", s.black_hole)]
    again = Rig(box)

    def change() -> bool:
        if any("/artifacts/" in path for _, path in platform.log):
            platform.size += 1000
            again.delivery.position = None
        return False

    with pytest.raises(ForkError):
        deliver(box, platform, rig=again, until=change)


# ---------------------------------------------------------------- policy, credentials, stop


def test_on_request_only_what_is_asked_for_goes(box: Box) -> None:
    asked = box.artifacts(2)[1].sha256
    platform, rig = FakePlatform(box), Rig(box)
    platform.wanted = [asked, "ab" * 32]
    deliver(
        box,
        platform,
        rig=rig,
        until=lambda: asked in platform.artifacts and len(box.outbox.due(9)) <= 2,
        artifacts="on-request",
    )
    assert list(platform.artifacts) == [asked]


def test_denied_credentials_keep_everything_and_raise_an_alarm(box: Box) -> None:
    platform, rig = FakePlatform(box), Rig(box)
    platform.always = [("/v1/", s.answer(403))]
    before = box.outbox.backlog().items
    deliver(box, platform, rig=rig, until=lambda: ("uplink.denied", "raised") in rig.alarms())
    assert rig.status.counters["failed_link"] == 1
    assert box.outbox.backlog().items >= before
    assert rig.records("uplink.quarantine") == []
    platform.always = []
    again = deliver(box, platform)
    assert ("uplink.denied", "cleared") in again.alarms()


def test_a_stop_during_an_upload_ends_at_once_and_the_next_run_resumes(box: Box) -> None:
    platform, rig = FakePlatform(box), Rig(box)
    platform.script = [("PATCH", s.black_hole)]

    async def main() -> None:
        stop = asyncio.Event()
        async with platform.listen() as url:
            await rig.run(url, lambda: any(m == "PATCH" for m, _ in platform.log) or stop.is_set(), timeout_s=30)

    go(main())
    assert rig.status.state == "stopped"
    deliver(box, platform)
    all_there(box, platform)


def test_a_tar_whose_token_came_meanwhile_is_a_new_upload(box: Box) -> None:
    """The outbox remembers the upload of another content: it is given up, not mixed."""
    platform, rig = FakePlatform(box), Rig(box)
    platform.script = [("PATCH", s.cut)]
    deliver(box, platform, rig=rig, until=lambda: any(m == "PATCH" for m, _ in platform.log))
    next(iter(platform.uploads.values())).length += 1
    deliver(box, platform)
    all_there(box, platform)
