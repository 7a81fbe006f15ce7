"""What forgers try who know everything: a thief of one gateway's key, another gateway, the platform, nobody's key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509

from gateway.core import kinds
from gateway.ledger import bundle, profile, proof, recipe
from gateway.ledger.bundle import SealFiles
from gateway.ledger.grammar import FormatError, UntrustedError
from gateway.ledger.receipt import Receipt
from gateway.ledger.report import Report
from gateway.ledger.seal import Seal
from gateway.ledger.trust import CERTIFICATES_MAX, Role, Trust, fingerprint
from tests.ledger.bureau import (
    GATEWAY_ID,
    NOW,
    SEALED,
    VALID_FROM,
    VALID_TO,
    Bureau,
    Identity,
    Log,
    issue,
    name_of,
    run,
)
from tests.ledger.test_verify import Edited, failed, rereceipt, reseal

RECEIVED = SEALED + timedelta(minutes=1)


@pytest.fixture
def batch(log: Log, seals: list[SealFiles], tmp_path: Path) -> Edited:
    return Edited(log.batch(5, 13, seals[1]), log.bureau, tmp_path / "bundle")


@pytest.fixture
def export(log: Log, seals: list[SealFiles], tmp_path: Path) -> Edited:
    return Edited(log.export([3, 7, 9], seals), log.bureau, tmp_path / "export")


def text_of(report: Report, name: str) -> str:
    return next(item.text for item in report.checks if item.name == name)


def state_of(report: Report, name: str) -> str:
    return next(item.state for item in report.checks if item.name == name)


# ---------------------------------------------------------------- what belongs to another seal


def test_receipt_and_token_of_another_batch_are_refused(batch: Edited, seals: list[SealFiles]) -> None:
    other = seals[0]
    for name, content, check in (
        ("proof/seal.txt.p7s.tsr", other.tsr, "stamp"),
        ("proof/receipt.txt", other.receipt_txt, "receipt"),
    ):
        assert content is not None
        kept = batch.read(name)
        batch.write(name, content)
        if check == "receipt":
            batch.write("proof/receipt.txt.p7s", other.receipt_p7s or b"")
            batch.write("proof/receipt-artifacts.txt", other.receipt_artifacts or b"")
        batch.repack()
        assert failed(batch.verify()) == [check]
        batch.write(name, kept)


def test_a_changed_record_sealed_anew_does_not_keep_its_receipt_and_token(
    log: Log, seals: list[SealFiles], tmp_path: Path
) -> None:
    """The live key can seal another history; what the platform and the authority signed stays with the first."""
    forged = Log(log.bureau, log.folder, [leaf.replace(b'"lat_e7":3', b'"lat_e7":4') for leaf in log.leaves])
    forged.artifacts = log.artifacts
    new = forged.seal_files(0, 5, stamped=False, receipted=False)
    old = replace(seals[0], seal_txt=new.seal_txt, seal_p7s=new.seal_p7s)
    assert failed(Edited(forged.batch(0, 5, old), log.bureau, tmp_path / "a").verify()) == ["stamp", "receipt"]
    bare = Edited(forged.batch(0, 5, new), log.bureau, tmp_path / "b").verify()
    assert bare.ok
    assert "no outside party" in bare.conclusion
    assert [item.name for item in bare.warnings] == ["stamp", "receipt"]


def test_an_older_receipt_names_less_and_nothing_else(batch: Edited) -> None:
    older = replace(Receipt.parse(batch.read("proof/receipt.txt")), artifacts_held=0)
    rereceipt(batch, artifacts=b"", artifacts_held=0, received_utc=older.received_utc)
    report = batch.verify()
    assert report.ok
    assert "0 of 3 artifacts held" in text_of(report, "receipt")


# ---------------------------------------------------------------- certificates


def test_a_time_stamping_certificate_signs_nothing_else(batch: Edited, bureau: Bureau) -> None:
    for unit in (Role.RECEIPT.value, Role.GATEWAY.value):
        subject = name_of(GATEWAY_ID, unit)
        tsa = issue(40, subject, bureau.ca, timestamping=True)
        with pytest.raises(UntrustedError, match="is for time stamps"):
            bureau.trust.check_signer(tsa.certificate, Role(unit), NOW)
    rereceipt(batch, issue(40, name_of("tsa", Role.RECEIPT.value), bureau.ca, timestamping=True))
    assert failed(batch.verify()) == ["receipt"]


def test_a_gateway_is_no_authority(batch: Edited, bureau: Bureau, log: Log) -> None:
    """A thief issues certificates with the gateway's key: for stamps, for receipts, for a gateway."""
    tsa = issue(41, name_of("Best TSA"), bureau.gateway, timestamping=True)
    p7s = batch.read("proof/seal.txt.p7s")
    own_trust = Trust([bureau.ca.pem])
    for chain in ([], [bureau.gateway], [bureau.gateway, bureau.ca]):
        batch.write("proof/seal.txt.p7s.tsr", bureau.stamp(p7s, tsa=tsa, chain=chain))
        batch.repack()
        assert failed(batch.verify(own_trust)) == ["stamp"]
    batch.remove("proof/seal.txt.p7s.tsr")
    rereceipt(batch, issue(42, name_of("x", Role.RECEIPT.value), bureau.gateway))
    assert failed(batch.verify()) == ["receipt"]
    twin = issue(43, name_of(GATEWAY_ID, Role.GATEWAY.value), bureau.gateway)
    batch.write(profile.CERTS + "twin.pem", twin.pem)
    reseal(batch, log, twin, gateway_cert_sha256=fingerprint(twin.certificate))
    assert failed(batch.verify()) == ["seal-signature"]


def _with(extension: x509.ExtensionType, bureau: Bureau, *, critical: bool = True) -> x509.Certificate:
    gateway = bureau.gateway.certificate
    return (
        x509.CertificateBuilder()
        .subject_name(gateway.subject).issuer_name(gateway.issuer).public_key(gateway.public_key()).serial_number(7)
        .not_valid_before(VALID_FROM).not_valid_after(VALID_TO).add_extension(extension, critical=critical)
        .sign(bureau.ca.key, gateway.signature_hash_algorithm)  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_certificate_for_another_use_is_refused(bureau: Bureau) -> None:
    agreement = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=True, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    for extension, reason in ((agreement, "keyUsage does not allow"), (unknown, "critical extension 1.2.3.4")):
        with pytest.raises(UntrustedError, match=reason):
            bureau.trust.check_signer(_with(extension, bureau), Role.GATEWAY, NOW)
    bureau.trust.check_signer(_with(unknown, bureau, critical=False), Role.GATEWAY, NOW)


def test_a_fingerprint_of_a_certificate_that_is_no_authority_opens_nothing(batch: Edited, bureau: Bureau) -> None:
    for item in (bureau.gateway, bureau.platform, bureau.tsa):
        report = batch.verify(Trust(ca_fingerprints=[fingerprint(item.certificate)]))
        assert failed(report) == ["stamp", "receipt", "seal-signature", "packaging-signature"]


def test_an_expired_or_revoked_key_cannot_seal_into_the_past(
    log: Log, bureau: Bureau, seals: list[SealFiles], tmp_path: Path
) -> None:
    """Without token and receipt only the verifier's own clock counts, whatever the bundle says about its day."""
    bare = replace(seals[1], tsr=None, receipt_txt=None, receipt_p7s=None, receipt_artifacts=None)
    edited = Edited(replace(log.batch(5, 13, bare), sealed_utc=VALID_FROM), bureau, tmp_path / "a")
    assert edited.verify().ok
    assert failed(edited.verify(now=VALID_TO + timedelta(1))) == ["seal-signature", "packaging-signature"]
    today = Trust([bureau.ca.pem], crl_pems=[bureau.crl([(bureau.gateway, SEALED)])])
    assert failed(edited.verify(today)) == ["seal-signature", "packaging-signature"]


def test_a_bundle_without_revocation_list_says_so(batch: Edited, bureau: Bureau) -> None:
    assert state_of(batch.verify(), "revocation") == "ok"
    batch.remove(profile.CRL)
    batch.repack()
    report = batch.verify()
    assert report.ok
    assert [item.name for item in report.warnings] == ["revocation"]
    impostor = replace(bureau, ca=issue(66, bureau.ca.certificate.subject, ca=True))
    batch.write(profile.CRL, impostor.crl())
    batch.repack()
    assert "CRL" in text_of(batch.verify(), "seal-signature")
    foreign = replace(bureau, ca=bureau.tsa_ca)
    batch.write(profile.CRL, foreign.crl())
    batch.repack()
    assert state_of(batch.verify(), "revocation") == "warning"


def test_a_crowd_of_certificates_is_refused(batch: Edited, bureau: Bureau) -> None:
    for number in range(CERTIFICATES_MAX):
        batch.write(f"{profile.CERTS}x-{number}.pem", bureau.ca.pem)
    batch.repack()
    assert failed(batch.verify()) == ["structure"]
    with pytest.raises(FormatError, match="more than"):
        Trust([bureau.ca.pem * (CERTIFICATES_MAX + 1)])


# ---------------------------------------------------------------- time


def test_the_upper_bound_is_the_earlier_of_token_and_receipt(batch: Edited) -> None:
    """The token of the test is of today, the receipt of 2024: a late stamp takes nothing from an early receipt."""
    report = batch.verify()
    assert (report.not_later_than, report.vouched_by) == (RECEIVED, "platform")
    assert report.conclusion == "verified: not altered since 2024-11-21T22:29:10Z, by the platform's receipt"
    assert "existed not later than 2024-11-21T22:29:10Z, by the platform's clock" in text_of(report, "time")
    rereceipt(batch, received_utc=datetime(2048, 1, 1, tzinfo=UTC))
    report = batch.verify(now=datetime(2048, 2, 1, tzinfo=UTC))
    assert report.vouched_by == "time stamp"
    assert report.conclusion.endswith("by a time stamp")


def test_a_late_stamp_does_not_spoil_a_certificate_that_was_good_at_the_receipt(
    log: Log, bureau: Bureau, seals: list[SealFiles], tmp_path: Path
) -> None:
    crl = bureau.crl([(bureau.gateway, RECEIVED + timedelta(days=1))])
    assert Edited(log.batch(5, 13, seals[1], crl=crl), bureau, tmp_path / "a").verify().ok
    bare = replace(seals[1], receipt_txt=None, receipt_p7s=None, receipt_artifacts=None)
    late = Edited(log.batch(5, 13, bare, crl=crl), bureau, tmp_path / "b").verify()
    assert "seal-signature" in failed(late)


def test_the_date_of_a_receipt_is_not_relied_upon_once_its_key_is_revoked(
    log: Log, bureau: Bureau, seals: list[SealFiles], tmp_path: Path
) -> None:
    """A thief of the receipt key writes any date before the revocation."""
    crl = bureau.crl([(bureau.platform, RECEIVED + timedelta(days=1))])
    bare = replace(seals[1], tsr=None)
    report = Edited(log.batch(5, 13, bare, crl=crl), bureau, tmp_path / "a").verify()
    assert report.ok
    assert report.not_later_than is None
    assert state_of(report, "receipt") == "warning"
    assert "revoked 2024-11-22T22:29:10Z" in text_of(report, "receipt")
    before = bureau.crl([(bureau.platform, RECEIVED)])
    assert failed(Edited(log.batch(5, 13, bare, crl=before), bureau, tmp_path / "b").verify()) == ["receipt"]


def test_a_receipt_of_tomorrow_dates_nothing(batch: Edited) -> None:
    batch.remove("proof/seal.txt.p7s.tsr")
    rereceipt(batch, received_utc=NOW + timedelta(days=2))
    report = batch.verify()
    assert report.not_later_than is None
    assert "in the future" in text_of(report, "receipt")


def test_a_lower_bound_is_never_claimed_without_the_receipt_that_gives_it(
    batch: Edited, log: Log, tmp_path: Path
) -> None:
    assert f"receipt with nonce {'0' * 32}: ask the platform" in text_of(batch.verify(), "time")
    below = log.seal_files(8, 13, stamped=False, receipted=False)
    assert "the nonce in record 5" in text_of(
        Edited(log.batch(8, 13, below), log.bureau, tmp_path / "a").verify(), "time"
    )
    first = log.seal_files(0, 5, stamped=False, receipted=False)
    time = text_of(Edited(log.batch(0, 5, first), log.bureau, tmp_path / "b").verify(), "time")
    assert time == "no outside upper bound; no lower bound: the log has no beacon yet"


def test_an_unstamped_export_claims_no_time(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    bare = replace(seals[1], tsr=None, receipt_txt=None, receipt_p7s=None, receipt_artifacts=None)
    report = Edited(log.export([3, 7], [seals[0], bare]), log.bureau, tmp_path / "x").verify()
    assert "records below 5: existed not later than 2024" in text_of(report, "time")
    assert "records below 13: no outside upper bound" in text_of(report, "time")
    assert report.not_later_than is None


# ---------------------------------------------------------------- packaging


@pytest.mark.parametrize(
    "name",
    ["gw-0002_batch_5-13", f"{GATEWAY_ID}_batch_5-14", f"{GATEWAY_ID}_batch_4-13", f"{GATEWAY_ID}_records_5-13_8"],
)
def test_the_identifier_is_that_of_the_seal(batch: Edited, name: str) -> None:
    batch.edit(profile.BAG_INFO, f"{GATEWAY_ID}_batch_5-13".encode(), name.encode())
    batch.repack(batch.bureau.platform)
    assert failed(batch.verify()) == ["packaging-signature"]


def test_the_identifier_of_an_export_counts_its_records(export: Edited) -> None:
    export.edit(profile.BAG_INFO, b"records_3-9_3", b"records_3-9_4")
    export.repack()
    assert failed(export.verify()) == ["packaging-signature"]


def test_leaf_hashes_that_lie_are_refused(batch: Edited) -> None:
    leaves = batch.read(profile.LEAVES)
    for lie in (leaves[32:] + leaves[:32], leaves[:-32], leaves + leaves[:32], b""):
        batch.write(profile.LEAVES, lie)
        batch.repack()
        assert failed(batch.verify()) == ["root"]


def test_proofs_larger_than_memory_are_refused(batch: Edited, export: Edited) -> None:
    for number in range(5):
        with (batch.folder / f"{profile.CERTS}x-{number}.pem").open("wb") as output:
            output.truncate(profile.TAG_SIZE_MAX_BYTES)
    with (export.folder / profile.CRL).open("wb") as output:
        output.truncate(profile.TAG_SIZE_MAX_BYTES + 1)
    assert "proofs are larger" in text_of(batch.verify(), "structure")
    assert failed(export.verify()) == ["structure"]


def test_sparse_leaves_of_a_terabyte_are_not_read(batch: Edited) -> None:
    with (batch.folder / profile.LEAVES).open("wb") as output:
        output.truncate(1 << 40)
    report = batch.verify()
    assert "more than" in text_of(report, "packaging")


# ---------------------------------------------------------------- records


@pytest.mark.parametrize(
    "twist",
    [
        lambda leaf: leaf.replace(b'"epoch":3', b'"epoch":3,"epoch":4'),
        lambda leaf: leaf.replace(b'"data":{', b'"data":{"state":"down",', 1),
        lambda leaf: leaf.replace(b'"epoch":3', b'"epoch": 3'),
        lambda leaf: leaf.replace(b'"epoch":3', b'"epoch":3.0'),
        lambda leaf: leaf.replace(b'"data":{', b'"data":{"a":1.5,', 1),
        lambda leaf: leaf.replace(b'"gateway"', b'"\\u0067ateway"'),
        lambda leaf: leaf.replace(b'"utc_ns":"1', "\"utc_ns\":\"\u0661".encode()),
        lambda leaf: b"\xef\xbb\xbf" + leaf,
        lambda leaf: leaf + b"\r",
        lambda leaf: leaf + b"\0",
        lambda leaf: b" " + leaf,
        lambda leaf: b'{"v":1' + leaf.removeprefix(b'{"artifacts":[]').removesuffix(b',"v":1}') + b',"artifacts":[]}',
        lambda _: b"",
        lambda _: b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_sealed_record_with_two_meanings_is_refused(
    log: Log, tmp_path: Path, twist: Callable[[bytes], bytes]
) -> None:
    """Sealed by the live key, so every hash fits: but a doubled key says one thing here and another there."""
    assert twist(log.leaves[2]) != log.leaves[2]
    forged = Log(log.bureau, tmp_path, [*log.leaves[:2], twist(log.leaves[2])])
    files = forged.seal_files(0, 3, stamped=False, receipted=False)
    report = Edited(forged.batch(0, 3, files), log.bureau, tmp_path / "x").verify()
    assert (failed(report), report.first_wrong_seq) == (["records"], 2)


def test_a_key_of_a_later_version_is_kept(log: Log, tmp_path: Path) -> None:
    later = Log(log.bureau, tmp_path, [log.leaves[0], log.leaves[1].replace(b',"v":1}', b',"v":1,"w":{"x":1}}')])
    files = later.seal_files(0, 2, stamped=False, receipted=False)
    assert Edited(later.batch(0, 2, files), log.bureau, tmp_path / "x").verify().ok


def test_an_empty_batch_and_a_range_with_a_hole_cannot_be_sealed(batch: Edited, log: Log) -> None:
    text = batch.read("proof/seal.txt")
    for forged in (
        text.replace(b"range 5 13", b"range 13 13").replace(b"prev 5 ", b"prev 13 "),
        text.replace(b"range 5 13", b"range 4 13"),
    ):
        with pytest.raises(FormatError):
            Seal.parse(forged)
    reseal(batch, log, first=6)
    assert "records" in failed(batch.verify())


# ---------------------------------------------------------------- export


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"index 9\n", b"index 13\n"), (b"index 9\n", b"index 9007199254740991\n"), (b"index 9\n", b"index -1\n"),
        (b"index 9\n", b"index 09\n"), (b"\n13\n", b"\n0\n"), (b"\n13\n", b"\n9\n"), (b"\n13\n", b"\n14\n"),
        (b"\n13\n", b"\n9007199254740991\n"), (b"\n\n", b"\r\n\r\n"), (b"\n\n", b"\n\n\n"),
        (b"gw-0001.example/evidence", b"gw-0002.example/evidence"),
    ],
)  # fmt: skip
def test_tricks_with_the_numbers_of_a_proof_are_refused(export: Edited, old: bytes, new: bytes) -> None:
    export.edit("proof/record-9.tlog-proof", old, new)
    export.repack()
    report = export.verify()
    assert (failed(report), report.first_wrong_seq) == (["records"], 9)


def test_a_record_cannot_be_shown_under_another_number(export: Edited) -> None:
    """Record 7 under the name and index of 8, with the path of 7."""
    given = proof.parse(export.read("proof/record-7.tlog-proof"))
    head = export.read("proof/record-7.tlog-proof").split(b"\n\n", 1)[1]
    export.write("data/record-8.json", export.read("data/record-7.json"))
    export.write("proof/record-8.tlog-proof", proof.encode(8, given.path, head))
    export.edit(profile.BAG_INFO, b"records_3-9_3", b"records_3-9_4")
    export.repack()
    report = export.verify()
    assert (failed(report), report.first_wrong_seq) == (["records"], 8)


@pytest.mark.parametrize(("first", "end"), [(5, 13), (3, 13)])
def test_an_export_out_of_two_histories_is_refused(
    log: Log, seals: list[SealFiles], first: int, end: int, tmp_path: Path
) -> None:
    """A cloned key sealed twice: each record leads to a good seal, but the seals are not of one log."""
    other = Log(log.bureau, log.folder, [leaf.replace(b'"epoch":3', b'"epoch":4') for leaf in log.leaves])
    other.artifacts = log.artifacts
    forged = other.seal_files(first, end)
    parts = other.export([9], [forged])
    mine = log.export([1], [seals[0]])
    both = replace(parts, seals=[seals[0], forged], records=[*mine.records, *parts.records])
    report = Edited(both, log.bureau, tmp_path / "x").verify()
    assert failed(report) == ["records"]
    assert "forked" in text_of(report, "records")


# ---------------------------------------------------------------- the recipe


def run_recipe(edited: Edited, tmp_path: Path) -> str:
    (tmp_path / "ca.pem").write_bytes(edited.bureau.ca.pem)
    (tmp_path / "tsa.pem").write_bytes(edited.bureau.tsa_ca.pem)
    (tmp_path / "recipe.sh").write_text(recipe.recipe())
    done = run("sh", "-u", "recipe.sh", str(edited.folder), "ca.pem", "tsa.pem", cwd=tmp_path)
    last = done.stdout.decode().splitlines()[-1]
    assert last.startswith("FAILED") == (done.returncode != 0)
    return last


def _swap_film(edited: Edited) -> None:
    film = next(item for item in (edited.folder / "data/artifacts").iterdir() if item.stat().st_size == 1500)
    film.write_bytes(b"X" * 1500)


def _hide_film(edited: Edited) -> None:
    """Leave one artifact out and announce another, that is inside, as pending: the count stays."""
    films = sorted((edited.folder / "data/artifacts").iterdir())
    films[0].unlink()
    info = profile.BagInfo.parse(edited.read(profile.BAG_INFO))
    edited.write(profile.BAG_INFO, replace(info, pending={films[1].stem: films[1].stat().st_size}).encode())


def _foreign_film(edited: Edited) -> None:
    digest = "9d86fb9fc1b6b1bd6b0a1d2b5f1a5f1d0f9b7f1f7e3b8d9c6a5b4c3d2e1f0a9b"
    info = profile.BagInfo.parse(edited.read(profile.BAG_INFO))
    edited.write(profile.BAG_INFO, replace(info, pending={digest: 1}).encode())


def _drop_film(edited: Edited) -> None:
    next((edited.folder / "data/artifacts").iterdir()).unlink()


@pytest.mark.parametrize(
    ("forge", "line"),
    [
        (_swap_film, "the content of an artifact is not what its name says"),
        (_hide_film, "there twice, or is inside and announced"),
        (_foreign_film, "an artifact that no record names"),
        (_drop_film, "not as many artifacts"),
    ],
)
def test_the_recipe_ties_artifacts_to_records(
    batch: Edited, forge: Callable[[Edited], None], line: str, tmp_path: Path
) -> None:
    forge(batch)
    batch.repack()
    assert line in run_recipe(batch, tmp_path)
    assert not batch.verify().ok


def _other(bureau: Bureau) -> Identity:
    return issue(30, name_of("gw-0002", Role.GATEWAY.value), bureau.ca)


def test_the_recipe_looks_who_signed(batch: Edited, export: Edited, log: Log, bureau: Bureau, tmp_path: Path) -> None:
    assert run_recipe(batch, tmp_path).startswith("all checks passed")
    batch.repack(bureau.platform)
    assert run_recipe(batch, tmp_path).startswith("all checks passed")
    batch.repack(_other(bureau))
    assert "packed by somebody else" in run_recipe(batch, tmp_path)
    rereceipt(batch, bureau.gateway)
    assert "signed by somebody else than the platform" in run_recipe(batch, tmp_path)
    reseal(batch, log, _other(bureau), gateway_cert_sha256=fingerprint(_other(bureau).certificate))
    assert "somebody else than the gateway" in run_recipe(batch, tmp_path)
    export.repack(_other(bureau))
    assert "packed by somebody else" in run_recipe(export, tmp_path)


def test_the_recipe_refuses_a_manifest_that_names_a_file_twice(batch: Edited, tmp_path: Path) -> None:
    """A doubled line would make room in the count for a file that no manifest names."""
    lines = batch.read(profile.MANIFEST).splitlines(keepends=True)
    batch.write("data/extra", b"extra")
    batch.write(profile.MANIFEST, b"".join([*lines, lines[0]]))
    tags = batch.read(profile.TAGMANIFEST).splitlines(keepends=True)
    digest = sha256(batch.read(profile.MANIFEST)).hexdigest()
    new = [f"{digest}  {profile.MANIFEST}\n".encode() if profile.MANIFEST.encode() in line else line for line in tags]
    batch.write(profile.TAGMANIFEST, b"".join(new))
    batch.write(profile.TAGMANIFEST_P7S, batch.bureau.gateway.sign(batch.read(profile.TAGMANIFEST)))
    assert "names a file twice" in run_recipe(batch, tmp_path)
    assert not batch.verify().ok


def test_a_beacon_of_nonsense_gives_no_nonce(log: Log, tmp_path: Path) -> None:
    other = Log(log.bureau, tmp_path)
    other.add(kinds.BEACON, {"nonce": "now"})
    files = other.seal_files(0, 1, stamped=False, receipted=False)
    edited = Edited(bundle_parts := other.batch(0, 1, files), log.bureau, tmp_path / "x")
    assert bundle.plan(bundle_parts).name == f"{GATEWAY_ID}_batch_0-1"
    assert "the nonce in record 0" in text_of(edited.verify(), "time")
