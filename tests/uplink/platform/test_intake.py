"""Intake: what is refused leaves nothing, another history is kept as proof, a repeat changes nothing."""

import hashlib
from pathlib import Path

import pytest

from gateway.core.errors import IntegrityError
from gateway.ledger import stamp
from gateway.ledger.receipt import Receipt
from gateway.ledger.verify import verify
from tests.uplink.platform.fieldbox import FieldBox, video
from tests.uplink.platform.hostile import corpus
from tests.uplink.platform.wire import enrolled, opened
from uplink.platform.evidence import StoredReceipt
from uplink.platform.platform import Platform
from uplink.platform.problems import Refusal

VIDEO = b"a moving picture" * 1000


def take(platform: Platform, tar: bytes, gateway: str = "gw-1") -> StoredReceipt:
    """Hand in a bundle from a file."""
    path = platform.config.folder / "incoming.tar"
    path.write_bytes(tar)
    try:
        return platform.take_bundle(gateway, path)
    finally:
        path.unlink(missing_ok=True)


def files_of(platform: Platform) -> set[str]:
    """Every file of evidence, staging and uploads."""
    folder = platform.config.folder
    return {
        str(path.relative_to(folder))
        for name in ("gateways", "staging", "uploads")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def refusal(platform: Platform, tar: bytes, gateway: str = "gw-1") -> Refusal:
    """The refusal that a bundle gets."""
    with pytest.raises(Refusal) as caught:
        take(platform, tar, gateway)
    return caught.value


def test_hostile_archives_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        good = box.tar(box.seal(2))
        before, seen = files_of(platform), 0
        for name, archive in corpus(good):
            found = refusal(platform, archive)
            assert (found.status, found.code) == (422, "bundle-refused"), name
            assert found.detail.isprintable(), name
            assert len(found.detail) > 10, name
            assert files_of(platform) == before, name
            seen += 1
        assert seen >= 50
        take(platform, good)


def test_first_batch_and_its_receipt(tmp_path: Path) -> None:
    with opened(tmp_path, retain_days=10) as platform:
        box = enrolled(platform)
        batch = box.seal(3, [video(VIDEO)])
        stored = take(platform, box.tar(batch))
        receipt = Receipt.parse(stored.receipt.encode())
        receipt.check_seal(batch.seal, batch.seal_txt)
        assert receipt.check_artifacts(stored.artifacts.encode()) == {}
        assert (receipt.artifacts_held, receipt.artifacts_total) == (0, 1)
        assert (receipt.retain_until - receipt.received_utc).days == 10
        held = platform.intake.index.held("gw-1")
        assert (held.size, held.root, held.batches) == (3, batch.seal.root, 1)


def test_a_chain_of_batches_served_and_verified(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        for count in (1, 5, 300, 2):
            take(platform, box.tar(box.seal(count)))
        for entry in platform.intake.index.batches("gw-1", 0, 10):
            source = platform.shelf.bundle("gw-1", entry.end, artifacts=True)
            path = tmp_path / "served.tar"
            path.write_bytes(b"".join(source.read(0, source.size_bytes)))
            report = verify(path, platform.trust(), now=platform.now())
            assert report.ok, report.checks
            again = platform.shelf.bundle("gw-1", entry.end, artifacts=True)
            assert again.etag == source.etag


def test_replay_gives_the_same_receipt(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        tar = box.tar(box.seal())
        first = take(platform, tar)
        files = files_of(platform)
        assert take(platform, tar) == first
        assert take(platform, box.tar(box.batches[0])) == first  # packed and signed anew: the seal decides
        assert files_of(platform) == files
        assert platform.receipt_log.checkpoint()[0] == 1


def test_gap_says_from_where_to_send(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        take(platform, box.tar(box.seal(3)))
        box.seal(2)
        found = refusal(platform, box.tar(box.seal(2)))
        assert (found.status, found.code, found.members["size"]) == (409, "gap", 3)
        assert platform.evidence.forks("gw-1") == []


def test_cloned_key_shows_as_fork_and_both_are_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        take(platform, box.tar(box.seal(3)))
        twin = box.clone()
        take(platform, box.tar(box.seal(2, note="the box in the field")))
        tar = twin.tar(twin.seal(2, note="its clone"))
        found = refusal(platform, tar)
        assert (found.status, found.code, found.members["size"]) == (409, "fork", 5)
        assert found.members["root"] != ""
        assert [path.read_bytes() for path in platform.evidence.forks("gw-1")] == [tar]
        refusal(platform, tar)
        assert len(platform.evidence.forks("gw-1")) == 1
        assert platform.summary().forks == 1
        take(platform, box.tar(box.seal(1)))  # the first history goes on
        assert refusal(platform, twin.tar(twin.seal(9))).code == "fork"


@pytest.mark.parametrize(("mine", "theirs"), [(3, 2), (2, 3)])
def test_overlapping_range_is_a_fork(tmp_path: Path, mine: int, theirs: int) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        take(platform, box.tar(box.seal(1)))
        twin = box.clone()
        take(platform, box.tar(box.seal(mine)))
        assert refusal(platform, twin.tar(twin.seal(theirs, note="other"))).code == "fork"


def test_same_range_other_seal_is_a_fork(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        twin = box.clone()
        take(platform, box.tar(box.seal(2)))
        assert refusal(platform, twin.tar(twin.seal(2, note="other"))).code == "fork"


def test_bundle_of_another_gateway_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        one, two = enrolled(platform, "gw-1"), enrolled(platform, "gw-2")
        assert refusal(platform, one.tar(one.seal()), "gw-2").code == "bundle-refused"
        forged = FieldBox("gw-1", two.key, two.certificate_pem, two.ca_pem, two.crl_pem)
        assert refusal(platform, forged.tar(forged.seal())).code == "bundle-refused"


def test_revoked_certificate_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        platform.revoke("gw-1")
        found = refusal(platform, box.tar(box.seal()))
        assert "revoked" in found.detail


def test_stolen_gateway_key_cannot_sign_receipts(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        tar = box.tar(box.seal())
        stored = take(platform, tar)
        assert Receipt.parse(stored.receipt.encode()).nonce not in tar.decode("latin-1")
        units = platform.authority.receipt_certificate.subject.rfc4514_string()
        assert "Fieldgate platform receipt" in units


def test_artifacts_free_one_by_one(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        contents = [VIDEO, VIDEO + b"2"]
        take(platform, box.tar(box.seal(2, [video(item) for item in contents])))
        take(platform, box.tar(box.seal(2, [video(contents[1])])))  # named again by a later batch
        nonces = set()
        for content, held in zip(contents, [1, 2], strict=True):
            path = tmp_path / "upload"
            path.write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            platform.intake.take_artifact("gw-1", sha256, path)
            receipt = Receipt.parse(platform.intake.newest_receipt("gw-1", 2).receipt.encode())
            assert receipt.artifacts_held == held
            nonces.add(receipt.nonce)
        assert len(nonces) == 2
        assert [item.end for item in platform.intake.receipts_of("gw-1", sha256)] == [2, 4]
        receipt = Receipt.parse(platform.intake.newest_receipt("gw-1", 4).receipt.encode())
        assert (receipt.artifacts_held, receipt.artifacts_total) == (1, 1)
        take(platform, box.tar(box.seal(1, [video(contents[0])])))
        receipt = Receipt.parse(platform.intake.newest_receipt("gw-1", 5).receipt.encode())
        assert receipt.artifacts_held == 1  # held already: its very first receipt names it


def test_artifact_that_no_batch_names_or_with_other_bytes(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        take(platform, box.tar(box.seal(1, [video(VIDEO)])))
        path = tmp_path / "upload"
        path.write_bytes(VIDEO[:-1] + b"X")
        for sha256, code in ((video(VIDEO).sha256, "hash-differs"), ("0" * 64, "not-named")):
            with pytest.raises(Refusal) as caught:
                platform.intake.take_artifact("gw-1", sha256, path)
            assert caught.value.code == code
        assert platform.summary().artifacts == 0


def test_bundle_with_artifacts_inside(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        path = tmp_path / "video"
        path.write_bytes(VIDEO)
        batch = box.seal(2, [video(VIDEO)])
        take(platform, box.tar(batch))
        stored = take(platform, box.tar(batch, {video(VIDEO).sha256: path}))  # the same batch, now with its file
        assert Receipt.parse(stored.receipt.encode()).artifacts_held == 1
        assert platform.evidence.artifact_path("gw-1", video(VIDEO).sha256).read_bytes() == VIDEO


def test_damage_on_our_disk_is_never_receipted_again(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        item = video(VIDEO)
        take(platform, box.tar(box.seal(1, [item])))
        source = tmp_path / "upload"
        source.write_bytes(VIDEO)
        platform.intake.take_artifact("gw-1", item.sha256, source)
        path = platform.evidence.artifact_path("gw-1", item.sha256)
        path.write_bytes(VIDEO[:-1] + b"!")
        stored = take(platform, box.tar(box.seal(1, [item])))
        assert stored.artifacts == ""
        assert not path.exists()
        assert len(list((platform.config.folder / "gateways/gw-1/damaged").iterdir())) == 1
        source.write_bytes(VIDEO)
        platform.intake.take_artifact("gw-1", item.sha256, source)
        assert item.sha256 in platform.intake.newest_receipt("gw-1", 2).artifacts


def test_late_stamp(tmp_path: Path) -> None:
    with opened(tmp_path, tsa=True) as platform:
        assert platform.tsa is not None
        box = enrolled(platform)
        batch = box.seal()
        take(platform, box.tar(batch))
        query, _ = stamp.request(batch.seal_p7s)
        tsr = platform.tsa.answer(query)
        other = platform.tsa.answer(stamp.request(b"another signature")[0])
        for wrong in (other, tsr[:-1], tsr + b"x", b"", b"\x30\x03\x02\x01\x00"):
            with pytest.raises(Refusal) as caught:
                platform.intake.take_stamp("gw-1", 3, wrong)
            assert caught.value.code == "stamp-refused"
        with pytest.raises(Refusal, match="ends at 4"):
            platform.intake.take_stamp("gw-1", 4, tsr)
        platform.intake.take_stamp("gw-1", 3, tsr)
        platform.intake.take_stamp("gw-1", 3, platform.tsa.answer(query))
        assert platform.evidence.tsr("gw-1", 3) == tsr
        assert platform.summary().stamped == 1
        assert take(platform, box.tar(box.seal(1), tsr=None)).end == 4


def test_stamped_bundle_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "one", tsa=True) as other, opened(tmp_path / "two") as platform:
        assert other.tsa is not None
        box = enrolled(platform)
        batch = box.seal()
        tsr = other.tsa.answer(stamp.request(batch.seal_p7s)[0])
        assert refusal(platform, box.tar(batch, tsr=tsr)).code == "bundle-refused"


def test_alarm_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uplink.platform.index.ALARMS_MAX", 5)
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        alarm = box.leaf(7, kind="alarm")
        platform.intake.take_alarm("gw-1", alarm)
        platform.intake.take_alarm("gw-1", alarm)
        assert [row[:2] for row in platform.intake.index.alarms("gw-1", 10)] == [(7, alarm)]
        for wrong in (
            b"",
            b"{}",
            b"[" * 100_000,
            b"\xff",
            box.leaf(8),
            alarm[:-1],
            alarm.replace(b'"seq":7', b'"seq":-7'),
        ):
            with pytest.raises(Refusal) as caught:
                platform.intake.take_alarm("gw-1", wrong)
            assert caught.value.code == "leaf-refused"
        for seq in range(10):
            platform.intake.index.add_alarm("gw-1", seq, alarm, "2026-01-01T00:00:00Z")
        assert [row[0] for row in platform.intake.index.alarms("gw-1", 100)] == [9, 8, 7, 6, 5]


def test_quota_and_reserve_answer_507_and_store_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, gateway_quota_bytes=1000) as platform:
        box = enrolled(platform)
        before = files_of(platform)
        assert refusal(platform, box.tar(box.seal())).status == 507
        assert files_of(platform) == before
    with opened(tmp_path, reserve_bytes=1 << 60) as platform:
        assert refusal(platform, box.tar(box.batches[0])).status == 507
        assert files_of(platform) == before


def test_index_is_made_again_from_the_folders(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        take(platform, box.tar(box.seal(3, [video(VIDEO)])))
        take(platform, box.tar(box.seal(2)))
        source = tmp_path / "upload"
        source.write_bytes(VIDEO)
        platform.intake.take_artifact("gw-1", video(VIDEO).sha256, source)
        before = (platform.summary(), platform.intake.index.batches("gw-1", 0, 9), platform.receipt_log.checkpoint())
    for path in (tmp_path / "platform").glob("index.sqlite3*"):
        path.unlink()
    with opened(tmp_path) as platform:
        after = (platform.summary(), platform.intake.index.batches("gw-1", 0, 9), platform.receipt_log.checkpoint())
        assert after == before
        assert platform.intake.newest_receipt("gw-1", 3).artifacts.startswith(video(VIDEO).sha256)


def test_missing_evidence_stops_the_start(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        take(platform, box.tar(box.seal()))
        folder = platform.evidence.batch_folder("gw-1", 3)
    folder.rename(tmp_path / "lost")
    with pytest.raises(IntegrityError, match="is gone"):
        opened(tmp_path)
    (tmp_path / "lost").rename(folder)
    log = tmp_path / "platform/log/receipts.jsonl"
    content = log.read_bytes()
    log.write_bytes(b"")
    with pytest.raises(IntegrityError, match="shorter"):
        opened(tmp_path)
    log.write_bytes(content + b'{"half a line')
    with opened(tmp_path) as platform:
        assert platform.receipt_log.checkpoint()[0] == 1
    assert log.read_bytes() == content


def test_every_receipt_is_a_leaf_of_the_log(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        box = enrolled(platform)
        stored = [take(platform, box.tar(box.seal())) for _ in range(3)]
        entries = list(platform.receipt_log.entries(0, 10))
        for item, line in zip(stored, entries, strict=True):
            assert hashlib.sha256(item.receipt.encode()).hexdigest() in line
        size, root = platform.receipt_log.checkpoint()
        text, _ = platform.signed_log_checkpoint(size, root)
        assert text.splitlines()[1] == "3"
        assert list(platform.receipt_log.entries(2, 10)) == entries[2:]
