"""Bundles from the store: stable bytes, honest about what is missing, verified by the ledger's own verifier."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.bundles import StoreBundles
from gateway.core.errors import IntegrityError, StoreFull, TransientError
from gateway.core.ports import ByteSource
from gateway.ledger.archive import open_bag
from gateway.ledger.verify import verify
from tests.api.box import NOW, Box, filled


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = filled(tmp_path)
    yield made
    made.close()


def tar(box: Box, n: int, *, artifacts: bool = True) -> ByteSource:
    return asyncio.run(box.bundles.batch(n, artifacts=artifacts))


def content(source: ByteSource) -> bytes:
    return b"".join(source.read(0, source.size_bytes))


def saved(box: Box, source: ByteSource) -> Path:
    path = box.folder / "bundle.tar"
    path.write_bytes(content(source))
    return path


@pytest.mark.parametrize("artifacts", [True, False])
@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_verifies(box: Box, n: int, artifacts: bool) -> None:
    report = verify(saved(box, tar(box, n, artifacts=artifacts)), box.trust, now=NOW)
    assert report.ok, [check for check in report.checks if not check.ok]


def test_a_batch_with_its_receipt_verifies(box: Box) -> None:
    before = tar(box, 1)
    box.keep_receipt(1, *box.receipt(1))
    after = tar(box, 1)
    assert after.etag != before.etag
    path = saved(box, after)
    report = verify(path, box.trust, now=NOW)
    assert report.ok, [check for check in report.checks if not check.ok]
    with open_bag(path) as bag:
        assert {"proof/receipt.txt", "proof/certs/platform.pem", "proof/crl.pem"} <= set(bag.names)


def test_the_same_batch_has_the_same_bytes(box: Box) -> None:
    first, second = tar(box, 1), tar(box, 1)
    assert (first.etag, first.size_bytes) == (second.etag, second.size_bytes)
    assert content(first) == content(second)
    assert len(content(first)) == first.size_bytes


def test_concurrent_requests_make_one_signature(box: Box) -> None:
    async def many() -> set[bytes]:
        sources = await asyncio.gather(*(box.bundles.batch(1, artifacts=True) for _ in range(8)))
        return {content(source) for source in sources}

    assert len(asyncio.run(many())) == 1


def test_bytes_are_the_same_after_a_restart(box: Box) -> None:
    before = content(tar(box, 1))
    box.bundles = StoreBundles(box.reader, box.signer, box.signatures, box.spool, box.ca_file, None, box.crl_file)
    assert content(tar(box, 1)) == before


def test_a_full_store_still_serves_stable_bytes(box: Box) -> None:
    class Full:
        async def keep_bundle_signature(self, tagmanifest_sha256: str, p7s: bytes) -> None:
            raise StoreFull("no room")

    box.bundles = StoreBundles(box.reader, box.signer, Full(), box.spool, box.ca_file)
    assert content(tar(box, 1)) == content(tar(box, 1))


def spoil_expired(box: Box, digest: str) -> None:
    box.change("UPDATE artifact SET state = 'expired' WHERE sha256 = ?", digest)
    box.spool.path(digest).unlink()


def spoil_damaged(box: Box, digest: str) -> None:
    box.change("UPDATE artifact SET state = 'damaged' WHERE sha256 = ?", digest)


def spoil_missing(box: Box, digest: str) -> None:
    box.spool.path(digest).unlink()


def spoil_short(box: Box, digest: str) -> None:
    os.truncate(box.spool.path(digest), 100)


@pytest.mark.parametrize("spoil", [spoil_expired, spoil_damaged, spoil_missing, spoil_short])
def test_what_is_not_good_is_listed_as_pending(box: Box, spoil: Callable[[Box, str], None]) -> None:
    large = box.artifacts(1)[0]
    spoil(box, large.sha256)
    path = saved(box, tar(box, 1))
    report = verify(path, box.trust, now=NOW)
    assert report.ok, [check for check in report.checks if not check.ok]
    with open_bag(path) as bag:
        assert not any(large.sha256 in name for name in bag.names)
        with bag.open("bag-info.txt") as file:
            assert f"Pending-Artifact: {large.sha256} {large.size_bytes}\n".encode() in file.read()


def test_artifacts_keep_the_extension_of_their_first_name(box: Box) -> None:
    with open_bag(saved(box, tar(box, 1))) as bag:
        names = [name for name in bag.names if name.startswith("data/artifacts/")]
    assert sorted(Path(name).suffix for name in names) == [".jpg", ".mp4"]


def test_an_artifact_that_shrinks_while_streamed_ends_the_stream(box: Box) -> None:
    source = tar(box, 1)
    large = box.artifacts(1)[0]
    os.truncate(box.spool.path(large.sha256), 1000)
    with pytest.raises(OSError, match="size"):
        content(source)


def test_an_export_verifies_and_holds_only_what_was_asked_for(box: Box) -> None:
    source = asyncio.run(box.bundles.export([13, 1, 20, 1], artifacts=True))
    path = saved(box, source)
    report = verify(path, box.trust, now=NOW)
    assert report.ok, [check for check in report.checks if not check.ok]
    with open_bag(path) as bag:
        records = sorted(name for name in bag.names if name.startswith("data/record-"))
        assert records == ["data/record-1.json", "data/record-13.json", "data/record-20.json"]
        assert sum(name.startswith("data/artifacts/") for name in bag.names) == 2


def test_unknown_batches_and_records_are_key_errors(box: Box) -> None:
    with pytest.raises(KeyError):
        tar(box, 3)
    for seqs in ([], [0, 21], [10**9]):
        with pytest.raises(KeyError):
            asyncio.run(box.bundles.export(seqs, artifacts=True))


def test_expired_records_are_key_errors(box: Box) -> None:
    box.expire_records(12)
    with pytest.raises(KeyError):
        tar(box, 1)
    with pytest.raises(KeyError):
        asyncio.run(box.bundles.export([3], artifacts=True))
    assert verify(saved(box, tar(box, 2)), box.trust, now=NOW).ok


def test_a_changed_record_is_an_integrity_error(box: Box) -> None:
    box.change("UPDATE record SET leaf = CAST(replace(leaf, 'clock.state', 'clock.stat3') AS BLOB) WHERE seq = 2")
    with pytest.raises(IntegrityError, match="disagrees with the seal"):
        tar(box, 1)


def test_an_unreadable_leaf_is_an_integrity_error(box: Box) -> None:
    box.change("UPDATE record SET leaf = x'7b7d' WHERE seq = 1")
    with pytest.raises(IntegrityError, match="not readable"):
        tar(box, 1)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"junk")])
def test_unreadable_authority_files_can_be_repaired(box: Box, damage: Callable[[Path], object]) -> None:
    kept = box.ca_file.read_bytes()
    damage(box.ca_file)
    with pytest.raises(TransientError, match=box.ca_file.name):
        tar(box, 1)
    box.ca_file.write_bytes(kept)
    assert tar(box, 1).size_bytes > 0


def test_a_revocation_list_may_be_missing_but_not_junk(box: Box) -> None:
    """A platform need not give one at enrolment, though the configuration names a file for it."""
    box.crl_file.write_bytes(b"junk")
    with pytest.raises(TransientError, match=box.crl_file.name):
        tar(box, 1)
    box.crl_file.unlink()
    with open_bag(saved(box, tar(box, 1))) as bag:
        assert "proof/crl.pem" not in bag.names


def test_standard_tools_accept_the_bundle(box: Box, tmp_path: Path) -> None:
    box.keep_receipt(1, *box.receipt(1))
    subprocess.run(["tar", "-xf", saved(box, tar(box, 1))], cwd=tmp_path, check=True)
    folder = next(tmp_path.glob("gw-0001.example_batch_*"))
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        subprocess.run(["sha256sum", "-c", "--quiet", "--strict", manifest], cwd=folder, check=True)
    for name in ("tagmanifest-sha256.txt", "proof/seal.txt", "proof/receipt.txt"):
        command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", f"{name}.p7s"]
        command += ["-content", name, "-CAfile", box.ca_file, "-out", os.devnull]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
