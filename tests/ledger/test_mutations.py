"""Every changed byte of a bundle is caught, in a folder and in a tar; so is everything added, removed or doubled.

The packaging signature ties every file to the gateway's key, the packaging to one another; the signature file itself
and the tar's own bytes have only one accepted form.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger import bundle, ustar
from gateway.ledger.archive import open_bag
from gateway.ledger.bundle import Plan, SealFiles
from gateway.ledger.verify import verify
from tests.ledger.bureau import NOW, Bureau, Log, packed


def mutations(size: int, step: int) -> Iterator[tuple[int, int]]:
    """(position, mask): alternately one flipped bit and a wholly other byte; always the first and the last byte."""
    for count, position in enumerate(sorted({0, size - 1, *range(0, size, step)})):
        yield position, (1 << (count % 8)) if count % 2 else 0xFF


@pytest.fixture
def folder(light_tar: Path, tmp_path: Path) -> Path:
    with tarfile.open(light_tar) as archive:
        archive.extractall(tmp_path, filter="data")
        return tmp_path / archive.getmembers()[0].name.split("/")[0]


def check_folder(folder: Path, bureau: Bureau, step: int) -> int:
    trust = bureau.trust
    assert verify(folder, trust, now=NOW).ok
    done = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or not path.stat().st_size:
            continue
        with path.open("r+b", buffering=0) as file:
            content = file.readall()
            for position, mask in mutations(len(content), step):
                os.pwrite(file.fileno(), bytes([content[position] ^ mask]), position)
                assert not verify(folder, trust, now=NOW).ok, (path.name, position, mask)
                os.pwrite(file.fileno(), content[position : position + 1], position)
                done += 1
    assert verify(folder, trust, now=NOW).ok
    return done


def check_tar(path: Path, bureau: Bureau, step: int) -> int:
    trust = bureau.trust
    content = path.read_bytes()
    assert verify(path, trust, now=NOW).ok
    done = 0
    with path.open("r+b", buffering=0) as file:
        for position, mask in mutations(len(content), step):
            os.pwrite(file.fileno(), bytes([content[position] ^ mask]), position)
            assert not verify(path, trust, now=NOW).ok, (position, mask)
            os.pwrite(file.fileno(), content[position : position + 1], position)
            done += 1
    assert verify(path, trust, now=NOW).ok
    return done


def copy_of(source: Path, tmp_path: Path) -> Path:
    path = tmp_path / "bundle.tar"
    path.write_bytes(source.read_bytes())
    return path


def test_changed_bytes_of_a_folder_are_caught(folder: Path, bureau: Bureau) -> None:
    assert check_folder(folder, bureau, 13) > 1000


def test_changed_bytes_of_a_tar_are_caught(batch_tar: Path, tmp_path: Path, bureau: Bureau) -> None:
    assert check_tar(copy_of(batch_tar, tmp_path), bureau, 37) > 900


def test_changed_bytes_of_an_export_are_caught(export_tar: Path, tmp_path: Path, bureau: Bureau) -> None:
    assert check_tar(copy_of(export_tar, tmp_path), bureau, 101) > 400


@pytest.fixture
def small_plan(log: Log, seals: list[SealFiles]) -> Plan:
    """The smallest bundle: without artifacts, token and receipt."""
    files = SealFiles(seal_txt=seals[0].seal_txt, seal_p7s=seals[0].seal_p7s)
    return bundle.plan_batch(log.batch(0, 5, files, light=True))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_byte_of_every_file_of_a_folder_is_caught(small_plan: Plan, tmp_path: Path, bureau: Bureau) -> None:
    files = bundle.members(small_plan, bureau.gateway.sign(small_plan.tagmanifest))
    bundle.write_folder(files, tmp_path / "small")
    assert check_folder(tmp_path / "small", bureau, 1) == sum(item.size_bytes for item in files)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_byte_of_a_tar_is_caught(small_plan: Plan, tmp_path: Path, bureau: Bureau) -> None:
    path = tmp_path / "small.tar"
    path.write_bytes(packed(small_plan, bureau))
    assert check_tar(path, bureau, 1) == path.stat().st_size


@pytest.mark.parametrize("tar", ["batch_tar", "light_tar", "export_tar"])
def test_every_file_cut_lengthened_emptied_or_removed_is_caught(
    tar: str, request: pytest.FixtureRequest, tmp_path: Path, bureau: Bureau
) -> None:
    with tarfile.open(request.getfixturevalue(tar)) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        changed = {content[:-1], content + b"\0", content + b"\n", content[1:], b"", content + content} - {content}
        for other in changed:
            path.write_bytes(other)
            assert not verify(folder, bureau.trust, now=NOW).ok, path
        path.unlink()
        assert not verify(folder, bureau.trust, now=NOW).ok, path
        path.symlink_to("/dev/null")
        assert not verify(folder, bureau.trust, now=NOW).ok, path
        path.unlink()
        path.write_bytes(content)
    assert verify(folder, bureau.trust, now=NOW).ok


def test_members_of_a_tar_doubled_removed_moved_or_added_are_caught(
    batch_tar: Path, tmp_path: Path, bureau: Bureau
) -> None:
    with open_bag(batch_tar) as bag:
        assert bag.top is not None
        assert bag.mtime_s is not None
        top, mtime_s = bag.top, bag.mtime_s
        pieces = [
            ustar.encode(ustar.Header(top, name, bag.size(name), mtime_s))
            + bag.read(name)
            + bytes(ustar.padding(bag.size(name)))
            for name in bag.names
        ]
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(pieces) + ustar.TRAILER)
    assert path.read_bytes() == batch_tar.read_bytes()
    link = tarfile.TarInfo(f"{top}/data/artifacts/{'0' * 64}")
    link.type, link.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
    up = tarfile.TarInfo(f"{top}/../escape")
    extra = ustar.encode(ustar.Header(top, f"data/artifacts/{'0' * 64}", 0, mtime_s))
    for index in range(len(pieces)):
        for changed in (
            pieces[:index] + pieces[index + 1 :],
            [*pieces[:index], pieces[index], *pieces[index:]],
            [pieces[index], *pieces[:index], *pieces[index + 1 :]] if index else pieces[::-1],
            [*pieces[:index], link.tobuf(), *pieces[index:]],
            [*pieces[:index], up.tobuf(), *pieces[index:]],
            [*pieces[:index], extra, *pieces[index:]],
        ):
            path.write_bytes(b"".join(changed) + ustar.TRAILER)
            assert not verify(path, bureau.trust, now=NOW).ok, index


def test_the_same_content_in_another_form_of_tar_is_refused(batch_tar: Path, tmp_path: Path, bureau: Bureau) -> None:
    with tarfile.open(batch_tar) as archive:
        files = [(item, archive.extractfile(item)) for item in archive.getmembers()]
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
            output = io.BytesIO()
            with tarfile.open(fileobj=output, mode="w", format=form) as again:
                for item, content in files:
                    assert content is not None
                    content.seek(0)
                    again.addfile(item, content)
            (tmp_path / "x.tar").write_bytes(output.getvalue())
            assert not verify(tmp_path / "x.tar", bureau.trust, now=NOW).ok
