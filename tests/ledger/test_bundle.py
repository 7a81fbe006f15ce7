from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ports import ByteSource
from gateway.ledger import bundle, profile, recipe, ustar
from gateway.ledger.bundle import BatchParts, ExportParts, Plan, SealFiles
from gateway.ledger.grammar import FormatError
from gateway.ledger.ustar import Header
from gateway.ledger.verify import verify
from tests.ledger.bureau import NOW, Bureau, Log, issue, name_of, packed, run


def folder_of(plan: Plan, bureau: Bureau, path: Path) -> Path:
    bundle.write_folder(bundle.members(plan, bureau.gateway.sign(plan.tagmanifest)), path)
    return path


@pytest.fixture(params=["full", "light", "bare", "export", "light-export"])
def plan(request: pytest.FixtureRequest, log: Log, seals: list[SealFiles]) -> Plan:
    bare = replace(seals[0], tsr=None, receipt_txt=None, receipt_p7s=None, receipt_artifacts=None)
    made: dict[str, Callable[[], BatchParts | ExportParts]] = {
        "full": lambda: log.batch(5, 13, seals[1]),
        "light": lambda: log.batch(5, 13, seals[1], light=True),
        "bare": lambda: replace(log.batch(0, 5, bare), crl_pem=b"", tsa_ca_pem=b""),
        "export": lambda: log.export([3, 7, 9], seals),
        "light-export": lambda: log.export([0, 10], [bare, seals[1]], light=True),
    }
    return bundle.plan(made[request.param]())


def test_a_bundle_passes_every_independent_check(plan: Plan, bureau: Bureau, tmp_path: Path) -> None:
    """bagit.py, GNU tar, Python's tarfile, the recipe with coreutils and openssl, and our own verification."""
    folder = folder_of(plan, bureau, tmp_path / "folder")
    tar = tmp_path / "bundle.tar"
    tar.write_bytes(packed(plan, bureau))
    assert run("tar", "-xf", "bundle.tar", cwd=tmp_path).returncode == 0
    unpacked = tmp_path / plan.name
    bagit = run(sys.executable, "-m", "bagit", "--validate", str(folder), str(unpacked))
    assert bagit.returncode == 0, bagit.stderr
    (unpacked / "data" / "extra").touch()
    assert run(sys.executable, "-m", "bagit", "--validate", str(unpacked)).returncode != 0
    (unpacked / "data" / "extra").unlink()
    with tarfile.open(tar) as archive:
        names = [f"{plan.name}/{item.name}" for item in bundle.members(plan, b"")]
        assert [item.name for item in archive.getmembers()] == names
        assert {item.mtime for item in archive.getmembers()} == {plan.mtime_s}
    for path in (folder, tar, unpacked):
        report = verify(path, bureau.trust, now=NOW)
        assert report.ok, report.lines()
    (tmp_path / "ca.pem").write_bytes(bureau.ca.pem)
    (tmp_path / "tsa.pem").write_bytes(bureau.tsa_ca.pem)
    (tmp_path / "recipe.sh").write_text(recipe.recipe())
    done = run("sh", "recipe.sh", str(unpacked), "ca.pem", "tsa.pem", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(b"all checks passed")


def test_the_recipe_is_plain_posix_shell(tmp_path: Path) -> None:
    (tmp_path / "recipe.sh").write_text(recipe.recipe())
    assert run("sh", "-n", "recipe.sh", cwd=tmp_path).returncode == 0
    assert "[[" not in recipe.recipe()


@pytest.mark.parametrize(
    ("kind", "damage", "line"),
    [
        ("batch", lambda p: _edit(p / "data/records.jsonl", b"302741000", b"302741001"), "evidence was changed"),
        ("batch", lambda p: (p / "data/extra").write_bytes(b""), "in no manifest"),
        ("batch", lambda p: (p / "extra").write_bytes(b""), "in no manifest"),
        ("batch", lambda p: (p / "link").symlink_to("bagit.txt"), "links"),
        ("batch", lambda p: _edit(p / "tagmanifest-sha256.txt.p7s", b"Test CA", b"Test CB"), "not a valid signature"),
        ("batch", lambda p: _edit(p / "proof/seal.txt", b"root 5", b"root 6"), "packaging was changed"),
        ("export", lambda p: _edit(p / "data/record-3.json", b'"seq":3', b'"seq":4'), "evidence was changed"),
        ("export", lambda p: (p / "data/record-9.json").unlink(), "evidence was changed"),
    ],
)
def test_the_recipe_names_what_is_wrong(
    kind: str,
    damage: Callable[[Path], None],
    line: str,
    log: Log,
    seals: list[SealFiles],
    tmp_path: Path,
) -> None:
    parts = log.batch(0, 5, seals[0]) if kind == "batch" else log.export([3, 9], seals)
    folder = folder_of(bundle.plan(parts), log.bureau, tmp_path / "folder")
    damage(folder)
    (tmp_path / "ca.pem").write_bytes(log.bureau.ca.pem)
    (tmp_path / "tsa.pem").write_bytes(log.bureau.tsa_ca.pem)
    (tmp_path / "recipe.sh").write_text(recipe.recipe())
    done = run("sh", "recipe.sh", "folder", "ca.pem", "tsa.pem", cwd=tmp_path)
    assert done.returncode == 1
    assert line in done.stdout.decode().splitlines()[-1]


def test_the_recipe_climbs_the_path_of_each_record(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    """Re-packed by a thief of the gateway's key: hashes fit, only the path to the signed root does not."""
    parts = log.export([3, 9], seals)
    forged = [replace(item, leaf=item.leaf.replace(b'"v":1', b'"v":2')) for item in parts.records]
    folder = folder_of(bundle.plan(replace(parts, records=forged)), log.bureau, tmp_path / "folder")
    (tmp_path / "ca.pem").write_bytes(log.bureau.ca.pem)
    (tmp_path / "tsa.pem").write_bytes(log.bureau.tsa_ca.pem)
    (tmp_path / "recipe.sh").write_text(recipe.recipe())
    done = run("sh", "recipe.sh", str(folder), "ca.pem", "tsa.pem", cwd=tmp_path)
    assert b"data/record-3.json is not what was sealed" in done.stdout


def _edit(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@given(st.data())
def test_any_range_of_the_tar_is_a_slice_of_the_whole(
    batch_source: tuple[ByteSource, bytes], data: st.DataObject
) -> None:
    source, whole = batch_source
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    assert b"".join(source.read(start, end)) == whole[start:end]
    assert source.size_bytes == len(whole)


@pytest.fixture(scope="module")
def batch_source(log: Log, seals: list[SealFiles]) -> tuple[ByteSource, bytes]:
    plan = bundle.plan_batch(log.batch(5, 13, seals[1]))
    source = bundle.tar_of(plan, log.bureau.gateway.sign(plan.tagmanifest))
    return source, b"".join(source.read(0, source.size_bytes))


def test_the_same_pieces_give_the_same_bytes_and_etag(log: Log, seals: list[SealFiles]) -> None:
    plans = [bundle.plan_batch(log.batch(5, 13, seals[1])) for _ in range(2)]
    assert plans[0].tagmanifest_sha256 == plans[1].tagmanifest_sha256
    p7s = log.bureau.gateway.sign(plans[0].tagmanifest)
    first, second = (bundle.tar_of(plan, p7s) for plan in plans)
    assert first.etag == second.etag
    assert b"".join(first.read(0, first.size_bytes)) == b"".join(second.read(0, second.size_bytes))
    assert bundle.tar_of(plans[0], log.bureau.gateway.sign(plans[0].tagmanifest)).etag != first.etag
    light = bundle.plan_batch(log.batch(5, 13, seals[1], light=True))
    assert light.tagmanifest != plans[0].tagmanifest


def test_records_may_come_as_the_ready_file(log: Log, seals: list[SealFiles]) -> None:
    parts = log.batch(5, 13, seals[1])
    ready = replace(parts, records=b"".join(leaf + b"\n" for leaf in parts.records))  # type: ignore[operator,union-attr]
    assert bundle.plan_batch(ready).tagmanifest == bundle.plan_batch(parts).tagmanifest


def test_an_artifact_that_vanished_or_changed_is_an_os_error(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    parts = log.batch(0, 5, seals[0])
    path = tmp_path / "artifact"
    (item,) = parts.artifacts
    path.write_bytes(b"A" * 3000)
    plan = bundle.plan_batch(replace(parts, artifacts=[replace(item, path=path)]))
    source = bundle.tar_of(plan, b"signature")
    path.write_bytes(b"A" * 2999)
    with pytest.raises(OSError, match="3000 bytes"):
        list(source.read(0, source.size_bytes))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(source.read(0, source.size_bytes))
    assert b"".join(source.read(0, 512))[:9] == b"bagit.txt"


def test_a_file_that_ends_early_is_an_os_error(tmp_path: Path) -> None:
    """Cut between the look at its size and the reading: what counts is what was read."""
    path = tmp_path / "artifact"
    path.write_bytes(b"")
    with pytest.raises(OSError, match="ends at 0"):
        list(bundle._chunks(bundle.Member("x", 0, path), 0, 5))


def test_a_folder_is_never_overwritten(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        folder_of(bundle.plan_batch(log.batch(5, 13, seals[1])), log.bureau, tmp_path)


def test_pieces_that_do_not_fit_together_are_refused(log: Log, seals: list[SealFiles]) -> None:
    batch, export = log.batch(5, 13, seals[1]), log.export([3, 7], seals)
    broken: list[tuple[BatchParts | ExportParts, dict[str, Any]]] = [
        (batch, {"frontier": ()}),
        (batch, {"records": batch.records[1:]}),
        (batch, {"records": [*batch.records[:-1], b"{}"]}),
        (batch, {"records": b"no end of line"}),
        (batch, {"ca_pem": b""}),
        (batch, {"packer_pem": b"x"}),
        (batch, {"seal": seals[0]}),
        (batch, {"seal": replace(seals[1], seal_p7s=b"x")}),
        (batch, {"artifacts": [replace(batch.artifacts[0], ext="../x")]}),
        (export, {"records": []}),
        (export, {"seals": [seals[0]]}),
        (export, {"seals": [seals[0], seals[0]]}),
        (export, {"records": [export.records[0]] * 2}),
    ]
    for parts, changes in broken:
        with pytest.raises(FormatError):
            bundle.plan(replace(parts, **changes))


def test_a_renewed_certificate_packs_an_old_batch(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    bureau = log.bureau
    newer = issue(
        9, bureau.gateway.certificate.subject, bureau.ca, valid=(NOW + timedelta(days=900), NOW + timedelta(days=1800))
    )
    plan = bundle.plan_batch(replace(log.batch(5, 13, seals[1]), packer_pem=newer.pem))
    bundle.write_folder(bundle.members(plan, newer.sign(plan.tagmanifest)), tmp_path / "b")
    assert (tmp_path / "b/proof/certs/packaging.pem").read_bytes() == newer.pem
    report = verify(tmp_path / "b", bureau.trust, now=NOW + timedelta(days=2000))
    assert report.ok, report.lines()


def test_the_platform_may_pack_what_it_passes_on(log: Log, seals: list[SealFiles], tmp_path: Path) -> None:
    bureau = log.bureau
    plan = bundle.plan_batch(replace(log.batch(5, 13, seals[1]), packer_pem=bureau.platform.pem))
    bundle.write_folder(bundle.members(plan, bureau.platform.sign(plan.tagmanifest)), tmp_path / "b")
    report = verify(tmp_path / "b", bureau.trust, now=NOW)
    assert report.ok
    assert "by the platform" in next(item.text for item in report.checks if item.name == "packaging-signature")


def test_two_certificates_of_one_role_get_two_names(log: Log, seals: list[SealFiles]) -> None:
    other = issue(8, name_of("Second CA"), ca=True)
    parts = log.batch(5, 13, seals[1])
    plan = bundle.plan_batch(replace(parts, ca_pem=parts.ca_pem + other.pem + parts.ca_pem))
    certs = [item.name for item in plan.files if item.name.startswith(profile.CERTS)]
    assert set(certs) == {f"proof/certs/{name}.pem" for name in ("ca", "ca-2", "gateway", "platform", "tsa", "tsa-ca")}


# ---------------------------------------------------------------- ustar

HEADER = Header("gw_batch_0-5", "bagit.txt", 54, 1732228090)


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 10**12, 2**53 - 1])
def test_headers_of_any_size_are_read_by_others(size: int) -> None:
    block = ustar.encode(HEADER._replace(size_bytes=size))
    assert ustar.parse(block).size_bytes == size
    assert tarfile.TarInfo.frombuf(block, "ascii", "strict").size == size


def test_every_changed_byte_of_a_header_is_refused_or_read_as_what_it_says() -> None:
    block = ustar.encode(HEADER)
    for position in range(len(block)):
        for mask in (1, 8, 64):
            changed = block[:position] + bytes([block[position] ^ mask]) + block[position + 1 :]
            with pytest.raises(FormatError):
                ustar.parse(changed)


@pytest.mark.parametrize(
    "header",
    [
        HEADER._replace(name=""), HEADER._replace(name="a" * 101), HEADER._replace(prefix=""),
        HEADER._replace(prefix="a" * 156), HEADER._replace(size_bytes=2**53), HEADER._replace(size_bytes=-1),
        HEADER._replace(mtime_s=-1), HEADER._replace(mtime_s=8**11),
    ],
)  # fmt: skip
def test_headers_that_do_not_fit_are_refused(header: Header) -> None:
    with pytest.raises(FormatError):
        ustar.encode(header)


@given(st.binary(max_size=600))
def test_arbitrary_blocks_give_nothing_but_a_format_error(block: bytes) -> None:
    with pytest.raises(FormatError):
        ustar.parse(block)
