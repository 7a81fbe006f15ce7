"""Verification finds what is wrong, names the first wrong record, and says what it does not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.core import kinds
from gateway.ledger import archive, bundle, profile, scan
from gateway.ledger.bundle import BatchParts, ExportParts, SealFiles
from gateway.ledger.grammar import FormatError
from gateway.ledger.receipt import Receipt
from gateway.ledger.seal import Seal
from gateway.ledger.trust import Role, Trust, fingerprint
from gateway.ledger.verify import BundleRefused, Report, verify, verify_light
from gateway.ledger.verify_seal import seal_sha256
from tests.ledger.bureau import GATEWAY_ID, NOW, SEALED, VALID_TO, Bureau, Identity, Log, issue, name_of

ALL_CHECKS = [
    "structure", "packaging", "seal", "stamp", "receipt", "seal-signature", "packaging-signature", "log-start",
    "records", "payload", "root", "artifacts", "pointers", "revocation", "time",
]  # fmt: skip


class Edited:
    """A bundle in a folder that a test changes and, as a thief of the gateway's key would, packs again."""

    def __init__(self, parts: BatchParts | ExportParts, bureau: Bureau, folder: Path) -> None:
        self.bureau, self.folder = bureau, folder
        plan = bundle.plan(parts)
        bundle.write_folder(bundle.members(plan, bureau.gateway.sign(plan.tagmanifest)), folder)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def edit(self, name: str, old: bytes, new: bytes) -> None:
        assert old in self.read(name)
        self.write(name, self.read(name).replace(old, new))

    def repack(self, packer: Identity | None = None) -> None:
        """New manifests and a new packaging signature."""
        names = [str(item.relative_to(self.folder)) for item in self.folder.rglob("*") if item.is_file()]
        data = {name: sha256(self.read(name)).hexdigest() for name in names if name.startswith("data/")}
        info = profile.BagInfo.parse(self.read(profile.BAG_INFO))
        size = sum(len(self.read(name)) for name in data)
        self.write(profile.BAG_INFO, replace(info, payload_bytes=size, payload_files=len(data)).encode())
        self.write(profile.MANIFEST, profile.encode_manifest(data))
        tags = {
            name: sha256(self.read(name)).hexdigest()
            for name in names
            if name not in data and name not in {profile.TAGMANIFEST, profile.TAGMANIFEST_P7S}
        }
        self.write(profile.TAGMANIFEST, profile.encode_manifest(tags))
        self.write(profile.TAGMANIFEST_P7S, (packer or self.bureau.gateway).sign(self.read(profile.TAGMANIFEST)))

    def verify(self, trust: Trust | None = None, **more: Any) -> Report:
        return verify(self.folder, trust or self.bureau.trust, **{"now": NOW, **more})


def failed(report: Report) -> list[str]:
    return [item.name for item in report.checks if not item.ok]


@pytest.fixture
def batch(log: Log, seals: list[SealFiles], tmp_path: Path) -> Edited:
    return Edited(log.batch(5, 13, seals[1]), log.bureau, tmp_path / "bundle")


@pytest.fixture
def export(log: Log, seals: list[SealFiles], tmp_path: Path) -> Edited:
    return Edited(log.export([3, 7, 9], seals), log.bureau, tmp_path / "export")


def test_a_good_bundle_passes_all_checks_in_their_order(batch: Edited, batch_tar: Path, bureau: Bureau) -> None:
    for report in (batch.verify(), verify(batch_tar, bureau.trust, now=NOW)):
        assert [item.name for item in report.checks] == ALL_CHECKS
        assert report.ok
        assert report.warnings == []
        assert (report.bundle, report.origin, report.first, report.end) == ("batch", f"{GATEWAY_ID}/evidence", 5, 13)
        assert report.conclusion.startswith("verified: not altered since 2")
        assert " true" not in "\n".join(report.lines())
        assert len(report.lines()) == len(ALL_CHECKS) + 1
        assert json.loads(json.dumps(report.to_json()))["checks"][2]["state"] == "ok"


def test_progress_ends_with_all_bytes_once(batch: Edited, export: Edited) -> None:
    for edited in (batch, export):
        seen: list[tuple[int, int]] = []
        report = edited.verify(progress=lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == sorted(seen)
        assert seen[-1] == (report.size_bytes, report.size_bytes)


def test_what_is_missing_is_a_warning(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    bare = replace(seals[1], tsr=None, receipt_txt=None, receipt_p7s=None, receipt_artifacts=None)
    report = Edited(log.batch(5, 13, bare), log.bureau, tmp_path / "a").verify()
    assert report.ok
    assert [item.name for item in report.warnings] == ["stamp", "receipt"]
    assert report.not_later_than is None
    assert "no outside party" in report.conclusion
    assert [item.state for item in report.checks].count("warning") == 2
    receipted = replace(seals[1], tsr=None)
    report = Edited(log.batch(5, 13, receipted), log.bureau, tmp_path / "b").verify()
    assert report.not_later_than == SEALED + timedelta(minutes=1)


def test_an_authority_may_be_given_by_fingerprint(batch: Edited, bureau: Bureau) -> None:
    cas = [fingerprint(item.certificate) for item in (bureau.ca, bureau.tsa_ca)]
    assert batch.verify(Trust(ca_fingerprints=cas)).ok
    assert batch.verify(Trust(ca_fingerprints=cas[:1], tsa_ca_fingerprints=cas[1:])).ok
    assert failed(batch.verify(Trust(ca_fingerprints=cas[:1]))) == ["stamp"]
    nobody = failed(batch.verify(Trust()))
    assert nobody == ["stamp", "receipt", "seal-signature", "packaging-signature"]


@pytest.mark.parametrize("seq", range(5, 13))
def test_the_first_wrong_record_is_named(batch: Edited, seq: int) -> None:
    lines = batch.read(profile.RECORDS).split(b"\n")
    lines[seq - 5] = lines[seq - 5].replace(b'"salt":"', b'"salt":"0', 1)[:-1] + b"}"
    lines[-2] = lines[-2].replace(b'"epoch":3', b'"epoch":4')
    batch.write(profile.RECORDS, b"\n".join(lines))
    for repack in (False, True):
        if repack:
            batch.repack()
        report = batch.verify()
        assert report.first_wrong_seq == seq
        assert f"first wrong record is {seq}" in report.conclusion
        assert "records" in failed(report)
        assert ("payload" in failed(report)) != repack


def _swap(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], *lines[2:]]


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        (_swap, 5),
        (lambda lines: lines[1:], 5),
        (lambda lines: [*lines[:3], *lines[4:]], 8),
        (lambda lines: [*lines[:-2], b""], 12),
        (lambda lines: [*lines[:-1], lines[0], b""], 13),
        (lambda lines: [*lines[:-1], b"cut"], 13),
        (lambda lines: [*lines[:2], b"{}", *lines[3:]], 7),
    ],
)
def test_records_missing_doubled_or_put_in_are_named(
    batch: Edited, change: Callable[[list[bytes]], list[bytes]], seq: int
) -> None:
    batch.write(profile.RECORDS, b"\n".join(change(batch.read(profile.RECORDS).split(b"\n"))))
    batch.repack()
    assert batch.verify().first_wrong_seq == seq


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b.write(profile.LEAVES, b"x" * len(b.read(profile.LEAVES))),
        lambda b: b.write(profile.LEAVES, b""),
    ],
)
def test_where_no_record_can_be_named_the_report_says_so(batch: Edited, damage: Callable[[Edited], None]) -> None:
    batch.edit(profile.RECORDS, b'"epoch":3', b'"epoch":4')
    damage(batch)
    batch.repack()
    report = batch.verify()
    assert failed(report)[:1] == ["records"]
    assert report.first_wrong_seq is None
    assert "cannot be told" in report.checks[8].text


def reseal(edited: Edited, log: Log, signer: Identity | None = None, **changes: Any) -> None:
    """Sign another seal over the same records with the gateway's own key, and drop what came back for the old one."""
    seal = replace(Seal.parse(edited.read("proof/seal.txt")), **changes)
    edited.write("proof/seal.txt", seal.encode())
    edited.write("proof/seal.txt.p7s", (signer or edited.bureau.gateway).sign(seal.encode()))
    for name in ("proof/seal.txt.p7s.tsr", "proof/receipt.txt", "proof/receipt.txt.p7s", "proof/receipt-artifacts.txt"):
        if (edited.folder / name).exists():
            edited.remove(name)
    from gateway.ledger import checkpoint

    edited.write(profile.CHECKPOINT, checkpoint.encode(seal.origin, seal.end, seal.root))
    edited.repack()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"prev_root": b"x" * 32}, ["log-start"]),
        ({"root": b"x" * 32}, ["root"]),
        ({"records_sha256": "0" * 64}, ["records"]),
        ({"artifact_count": 2}, ["artifacts"]),
        ({"artifact_bytes": 0}, ["artifacts"]),
        ({"beacon": 6}, ["pointers"]),
        ({"beacon": None}, ["pointers"]),
        ({"clock": 5}, ["pointers"]),
        ({"gateway_cert_sha256": "0" * 64}, ["seal-signature"]),
        ({"origin": "gw-0002/evidence"}, ["seal-signature", "packaging-signature"]),
        ({"end": 14}, ["records"]),
        ({"end": 12}, ["records"]),
    ],
)
def test_a_seal_that_does_not_fit_its_records_is_refused(
    batch: Edited, log: Log, changes: dict[str, Any], expected: list[str]
) -> None:
    reseal(batch, log, **changes)
    assert set(expected) <= set(failed(batch.verify()))
    assert bool(expected) == bool(failed(batch.verify()))


def test_pointers_below_the_range_are_taken_as_they_are(log: Log, tmp_path: Path) -> None:
    files = log.seal_files(8, 13, stamped=False, receipted=False)
    assert Seal.parse(files.seal_txt).beacon == 5
    assert Edited(log.batch(8, 13, files), log.bureau, tmp_path / "a").verify().ok
    none = log.seal_files(8, 13, stamped=False, receipted=False, beacon=None, clock=9)
    assert failed(Edited(log.batch(8, 13, none), log.bureau, tmp_path / "b").verify()) == ["pointers"]


def test_only_the_gateways_own_certificate_may_sign_its_seal(batch: Edited, log: Log, bureau: Bureau) -> None:
    other = issue(30, name_of("gw-0002", Role.GATEWAY.value), bureau.ca)
    for signer, reason in ((bureau.platform, "has another role"), (other, "is not of gateway")):
        name = profile.CERTS + "gateway.pem"
        batch.write(name, signer.pem)
        batch.write(profile.CERTS + "packaging.pem", bureau.gateway.pem)
        reseal(batch, log, signer, gateway_cert_sha256=fingerprint(signer.certificate))
        report = batch.verify()
        assert failed(report) == ["seal-signature"]
        assert reason in report.checks[5].text


def test_certificates_must_come_along(batch: Edited, bureau: Bureau) -> None:
    batch.remove(profile.CERTS + "gateway.pem")
    batch.repack()
    assert failed(batch.verify()) == ["seal-signature", "packaging-signature"]


def test_the_packaging_must_be_signed_by_the_gateway_or_the_platform(batch: Edited, bureau: Bureau) -> None:
    other = issue(30, name_of("gw-0002", Role.GATEWAY.value), bureau.ca)
    batch.write(profile.CERTS + "packaging.pem", other.pem)
    batch.repack(other)
    assert failed(batch.verify()) == ["packaging-signature"]


def test_certificates_are_judged_at_the_time_of_the_token(
    batch: Edited, log: Log, seals: list[SealFiles], tmp_path: Path
) -> None:
    late = VALID_TO + timedelta(days=1)
    assert batch.verify(now=late).ok
    bare = replace(seals[1], tsr=None, receipt_txt=None, receipt_p7s=None, receipt_artifacts=None)
    unstamped = Edited(log.batch(5, 13, bare), log.bureau, tmp_path / "bare")
    assert failed(unstamped.verify(now=late)) == ["seal-signature", "packaging-signature"]
    receipted = Edited(log.batch(5, 13, replace(seals[1], tsr=None)), log.bureau, tmp_path / "receipted")
    assert receipted.verify(now=late).ok


def test_revocation_lists_of_the_bundle_and_of_the_verifier_count(
    log: Log, seals: list[SealFiles], bureau: Bureau, tmp_path: Path
) -> None:
    crl = bureau.crl([(bureau.gateway, SEALED - timedelta(days=1))])
    report = Edited(log.batch(5, 13, seals[1], crl=crl), bureau, tmp_path / "a").verify()
    assert failed(report) == ["seal-signature", "packaging-signature"]
    good = Edited(log.batch(5, 13, seals[1]), bureau, tmp_path / "b")
    strict = Trust([bureau.ca.pem], tsa_ca_pems=[bureau.tsa_ca.pem], crl_pems=[crl])
    assert failed(good.verify(strict)) == ["seal-signature", "packaging-signature"]
    later = bureau.crl([(bureau.gateway, VALID_TO)])
    assert good.verify(Trust([bureau.ca.pem], tsa_ca_pems=[bureau.tsa_ca.pem], crl_pems=[later])).ok


def rereceipt(edited: Edited, signer: Identity | None = None, artifacts: bytes | None = None, **changes: Any) -> None:
    made = replace(Receipt.parse(edited.read("proof/receipt.txt")), **changes)
    if artifacts is not None:
        edited.write("proof/receipt-artifacts.txt", artifacts)
        made = replace(made, artifacts_sha256=sha256(artifacts).hexdigest())
    edited.write("proof/receipt.txt", made.encode())
    edited.write("proof/receipt.txt.p7s", (signer or edited.bureau.platform).sign(made.encode()))
    edited.repack()


@pytest.mark.parametrize(
    "changes",
    [
        {"seal_sha256": "0" * 64}, {"root": b"x" * 32}, {"first": 4}, {"origin": "gw-0002/evidence"},
        {"artifacts_total": 4}, {"artifacts_held": 2}, {"artifacts": b""}, {"artifacts_sha256": "0" * 64},
        {"received_utc": VALID_TO + timedelta(days=1)},
    ],
)  # fmt: skip
def test_a_receipt_for_something_else_is_refused(batch: Edited, changes: dict[str, Any]) -> None:
    rereceipt(batch, **changes)
    assert failed(batch.verify()) == ["receipt"]


def test_a_receipt_by_the_gateways_own_key_is_refused(batch: Edited) -> None:
    rereceipt(batch, batch.bureau.gateway)
    report = batch.verify()
    assert failed(report) == ["receipt"]
    assert "another role" in report.checks[4].text


def test_a_receipt_may_name_a_part_but_nothing_foreign(batch: Edited, log: Log) -> None:
    from gateway.ledger.receipt import encode_artifacts

    own = [(item.sha256, item.size_bytes) for item in log.parts_of(5, 13)]
    rereceipt(batch, artifacts=encode_artifacts(own[:1]), artifacts_held=1)
    assert batch.verify().ok
    for foreign in ([("f" * 64, 1)], [(own[0][0], own[0][1] + 1)]):
        rereceipt(batch, artifacts=encode_artifacts(foreign), artifacts_held=1)
        assert failed(batch.verify()) == ["artifacts"]


def test_an_incomplete_receipt_is_refused(batch: Edited) -> None:
    batch.remove("proof/receipt-artifacts.txt")
    batch.repack()
    assert failed(batch.verify()) == ["receipt"]


def test_what_hangs_on_a_broken_seal_is_not_believed(batch: Edited, export: Edited) -> None:
    batch.edit("proof/seal.txt", b"evidence-seal/v1", b"evidence-seal/v9")
    report = batch.verify()
    assert {"packaging", "seal", "receipt", "seal-signature"} <= set(failed(report))
    export.edit("proof/seal-5.txt", b"evidence-seal/v1", b"evidence-seal/v9")
    assert "export" in failed(export.verify())


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda b: b.write(profile.FRONTIER, b""), "log-start"),
        (lambda b: b.write(profile.FRONTIER, b"x\n"), "log-start"),
        (lambda b: b.edit(profile.CHECKPOINT, b"\n13\n", b"\n12\n"), "log-start"),
        (lambda b: b.write(profile.BAGIT, b"BagIt-Version: 0.97\n"), "structure"),
        (lambda b: b.write(profile.CRL, b"x"), "structure"),
        (lambda b: b.write(profile.CERTS + "ca.pem", b"x"), "structure"),
        (lambda b: b.write(profile.CERTS + "ca.pem", b.read(profile.CERTS + "ca.pem") * 2), "structure"),
        (lambda b: b.remove(profile.LEAVES), "structure"),
        (lambda b: b.write("data/record-3.json", b"{}"), "structure"),
        (lambda b: b.write("proof/seal.txt.p7s.tsr", b"x"), "stamp"),
    ],
)  # fmt: skip
def test_damage_that_was_packed_again_is_found(batch: Edited, damage: Callable[[Edited], None], expected: str) -> None:
    damage(batch)
    batch.repack()
    assert expected in failed(batch.verify())


def test_a_wrong_count_of_the_payload_is_found(batch: Edited, bureau: Bureau) -> None:
    for change in ({"payload_bytes": 1}, {"payload_files": 1}):
        info = profile.BagInfo.parse(batch.read(profile.BAG_INFO))
        wrong = replace(info, **change).encode()  # type: ignore[arg-type]
        batch.edit(profile.TAGMANIFEST, sha256(info.encode()).hexdigest().encode(), sha256(wrong).hexdigest().encode())
        batch.write(profile.BAG_INFO, wrong)
        batch.write(profile.TAGMANIFEST_P7S, bureau.gateway.sign(batch.read(profile.TAGMANIFEST)))
        assert failed(batch.verify()) == ["payload"]


def test_a_seal_that_cannot_be_read_but_is_signed_is_found(batch: Edited, bureau: Bureau) -> None:
    content = batch.read("proof/seal.txt").replace(b"evidence-seal/v1", b"evidence-seal/v9")
    batch.write("proof/seal.txt", content)
    batch.write("proof/seal.txt.p7s", bureau.gateway.sign(content))
    batch.repack()
    report = batch.verify()
    assert {"seal", "seal-signature"} <= set(failed(report))
    assert report.checks[2].state == "failed"
    assert report.lines()[2].startswith("failed ")


def test_a_tar_under_another_name_is_found(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    plan = bundle.plan_batch(log.batch(5, 13, seals[1]))
    files = bundle.members(plan, log.bureau.gateway.sign(plan.tagmanifest))
    for name, mtime_s in (("gw-0002_batch_5-13", plan.mtime_s), (plan.name, plan.mtime_s - 86_400)):
        source = bundle.TarSource(files, mtime_s, name)
        (tmp_path / "x.tar").write_bytes(b"".join(source.read(0, source.size_bytes)))
        report = verify(tmp_path / "x.tar", log.bureau.trust, now=NOW)
        assert failed(report) == ["structure"]
        assert "not that of bag-info.txt" in report.checks[0].text


def test_damage_that_was_not_packed_again_is_found(batch: Edited) -> None:
    batch.remove(profile.BAG_INFO)
    assert failed(batch.verify()) == ["structure"]


def test_a_list_of_other_files_is_found(batch: Edited, bureau: Bureau) -> None:
    batch.write(profile.TAGMANIFEST, batch.read(profile.TAGMANIFEST).split(b"\n", 1)[1])
    batch.write(profile.TAGMANIFEST_P7S, bureau.gateway.sign(batch.read(profile.TAGMANIFEST)))
    assert failed(batch.verify()) == ["packaging"]


def test_artifacts_are_tied_to_the_records_that_name_them(batch: Edited, log: Log) -> None:
    names = sorted(str(item.relative_to(batch.folder)) for item in (batch.folder / "data/artifacts").iterdir())
    film = next(name for name in names if len(batch.read(name)) == 1500)
    content = batch.read(film)
    batch.write(film, b"X" + content[1:])
    report = batch.verify()
    assert failed(report) == ["payload", "artifacts"]
    assert report.first_wrong_seq == 7
    batch.repack()
    report = batch.verify()
    assert failed(report) == ["artifacts"]
    assert report.first_wrong_seq == 7
    batch.remove(film)
    batch.repack()
    report = batch.verify()
    assert (failed(report), report.first_wrong_seq) == (["artifacts"], 7)
    batch.write(film, content)
    batch.write(film.replace(".mp4", ".avi"), content)
    batch.repack()
    assert "twice" in next(item.text for item in batch.verify().checks if item.name == "artifacts")
    batch.remove(film.replace(".mp4", ".avi"))
    batch.write(f"data/artifacts/{sha256(b'foreign').hexdigest()}", b"foreign")
    batch.repack()
    assert "named by no record" in next(item.text for item in batch.verify().checks if item.name == "artifacts")


def test_the_same_artifact_with_two_sizes_is_found(log: Log, tmp_path: Path) -> None:
    other = Log(log.bureau, tmp_path)
    other.add(kinds.STATION_FILE, {}, [("A.MP4", b"A")])
    other.leaves.append(other.leaves[0].replace(b'"seq":0', b'"seq":1').replace(b'"size_bytes":1', b'"size_bytes":2'))
    files = other.seal_files(0, 2, stamped=False, receipted=False)
    report = Edited(other.batch(0, 2, files), log.bureau, tmp_path / "b").verify()
    assert (failed(report), report.first_wrong_seq) == (["records"], 1)


def test_a_sealed_record_that_is_none_is_found(log: Log, tmp_path: Path) -> None:
    for number, leaf in enumerate((b"{}", b'{"v":1}', b"\xff", log.leaves[3])):
        other = Log(log.bureau, tmp_path)
        other.leaves = [*log.leaves[:2], leaf]
        files = other.seal_files(0, 3, stamped=False, receipted=False)
        report = Edited(other.batch(0, 3, files), log.bureau, tmp_path / f"{number}").verify()
        assert (failed(report), report.first_wrong_seq) == (["records"], 2)


def test_a_record_longer_than_allowed_is_found(log: Log, tmp_path: Path) -> None:
    for number, size in enumerate((scan.LEAF_SIZE_MAX_BYTES + 1, 3 * scan.LEAF_SIZE_MAX_BYTES)):
        other = Log(log.bureau, tmp_path)
        other.leaves = [log.leaves[0], b"x" * size, log.leaves[2]]
        files = other.seal_files(0, 3, stamped=False, receipted=False)
        report = Edited(other.batch(0, 3, files), log.bureau, tmp_path / f"{number}").verify()
        assert "records" in failed(report)


def test_a_clock_that_ran_ahead_is_a_remark(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    other = Log(log.bureau, tmp_path)
    late = str(int(VALID_TO.timestamp())).encode()
    other.leaves = [log.leaves[0].replace(str(int(SEALED.timestamp()) - 60).encode(), late)]
    report = Edited(other.batch(0, 1), log.bureau, tmp_path / "b").verify()
    assert report.ok
    assert [item.name for item in report.warnings] == ["time"]
    assert "clock was ahead" in report.warnings[0].text


def test_pending_artifacts_are_announced(light_tar: Path, bureau: Bureau, log: Log) -> None:
    report = verify(light_tar, bureau.trust, now=NOW)
    assert report.ok
    assert "3 to be fetched separately" in next(item.text for item in report.checks if item.name == "artifacts")
    with archive.open_bag(light_tar) as bag:
        batch = verify_light(bag, bureau.trust, NOW)
        assert list(batch.records()) == log.leaves[5:13]
        assert batch.pending == batch.artifacts == {item.sha256: item.size_bytes for item in log.parts_of(5, 13)}
        assert batch.frontier == log.frontier(5).hashes
        assert batch.frontier_after == log.frontier(13).hashes
        assert (batch.seal.first, batch.seal.end) == (5, 13)
        assert batch.token is not None
        assert batch.receipt is not None
        assert batch.receipt.seal_sha256 == seal_sha256(batch.seal_txt)


def test_the_intake_refuses_with_the_report(light_tar: Path, export_tar: Path, bureau: Bureau) -> None:
    with archive.open_bag(light_tar) as bag, pytest.raises(BundleRefused, match="not issued by a trusted") as caught:
        verify_light(bag, Trust(tsa_ca_pems=[bureau.tsa_ca.pem]), NOW)
    assert not caught.value.report.ok
    with archive.open_bag(export_tar) as bag, pytest.raises(BundleRefused, match="not a batch"):
        verify_light(bag, bureau.trust, NOW)


def test_leaves_of_a_damaged_file_are_refused(batch: Edited) -> None:
    with archive.open_bag(batch.folder) as bag:
        assert len(list(scan.leaves_of(bag, profile.RECORDS))) == 8
    for content, reason in ((b"{}", "cut"), (b"x" * (scan.LEAF_SIZE_MAX_BYTES + 1), "longer")):
        batch.write(profile.RECORDS, content)
        with archive.open_bag(batch.folder) as bag, pytest.raises(FormatError, match=reason):
            list(scan.leaves_of(bag, profile.RECORDS))


# ---------------------------------------------------------------- export


def test_a_good_export_passes(export: Edited, export_tar: Path, bureau: Bureau) -> None:
    for report in (export.verify(), verify(export_tar, bureau.trust, now=NOW)):
        assert report.ok, report.lines()
        assert (report.bundle, report.records) == ("export", 3)
        assert [item.name for item in report.checks if item.name.startswith("seal")] == [
            "seal 5", "seal-signature 5", "seal 13", "seal-signature 13",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "seq"),
    [
        (lambda e: e.edit("data/record-7.json", b'"epoch":3', b'"epoch":4'), 7),
        (lambda e: e.write("data/record-7.json", e.read("data/record-3.json")), 7),
        (lambda e: e.write("data/record-7.json", b"{}"), 7),
        (lambda e: e.remove("proof/record-3.tlog-proof"), 3),
        (lambda e: e.write("proof/record-3.tlog-proof", e.read("proof/record-7.tlog-proof")), 3),
        (lambda e: e.write("proof/record-3.tlog-proof", b"x"), 3),
        (lambda e: e.edit("proof/record-9.tlog-proof", b"index 9", b"index 8"), 9),
        (lambda e: e.remove("data/record-3.json"), None),
        (lambda e: e.write("data/record-12.json", e.read("data/record-9.json")), 12),
        (lambda e: (e.folder / "proof/seal-13.txt").rename(e.folder / "proof/seal-14.txt"), None),
    ],
)
def test_a_damaged_export_is_found(export: Edited, damage: Callable[[Edited], None], seq: int | None) -> None:
    damage(export)
    try:
        export.repack()
    except FormatError:
        pytest.fail("the damage cannot be packed")
    report = export.verify()
    assert not report.ok
    assert report.first_wrong_seq == seq


def test_an_export_without_seals_or_of_two_gateways_is_refused(
    export: Edited, log: Log, bureau: Bureau, tmp_path: Path
) -> None:
    for end in (5, 13):
        for name in (f"proof/seal-{end}.txt", f"proof/seal-{end}.txt.p7s", f"proof/seal-{end}.txt.p7s.tsr"):
            export.remove(name)
    export.repack()
    assert failed(export.verify()) == ["export"]
    two = Edited(log.export([3], [log.seal_files(0, 5)]), bureau, tmp_path / "two")
    seal = replace(log.seal(5, 13), origin="gw-0002/evidence")
    two.write("proof/seal-13.txt", seal.encode())
    two.write("proof/seal-13.txt.p7s", bureau.gateway.sign(seal.encode()))
    two.repack()
    assert "export" in failed(two.verify())


def test_an_export_with_a_seal_too_many_is_refused(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    one = Edited(log.export([3], [seals[0]]), log.bureau, tmp_path / "one")
    one.write("proof/seal-13.txt", seals[1].seal_txt)
    one.write("proof/seal-13.txt.p7s", seals[1].seal_p7s)
    one.repack()
    report = one.verify()
    assert "records" in failed(report)


def test_an_export_of_a_sealed_record_that_is_none_is_found(log: Log, tmp_path: Path) -> None:
    other = Log(log.bureau, tmp_path)
    other.leaves = [log.leaves[0], log.leaves[0]]
    files = other.seal_files(0, 2, stamped=False, receipted=False)
    report = Edited(other.export([1], [files]), log.bureau, tmp_path / "x").verify()
    assert (failed(report), report.first_wrong_seq) == (["records"], 1)


def test_an_unreceipted_export_has_no_upper_bound(log: Log, tmp_path: Path) -> None:
    files = log.seal_files(0, 5, stamped=False, receipted=False)
    report = Edited(log.export([3], [files], light=True), log.bureau, tmp_path / "x").verify()
    assert report.ok
    assert report.not_later_than is None
