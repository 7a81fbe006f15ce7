from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import profile, ustar
from gateway.ledger.archive import open_bag
from gateway.ledger.grammar import FormatError
from gateway.ledger.trust import Trust
from gateway.ledger.ustar import Header
from gateway.ledger.verify import verify
from tests.ledger.bureau import NOW, Bureau

TOP = "gw_batch_0-5"


def member(name: str, content: bytes = b"", **changes: object) -> bytes:
    header = Header(TOP, name, len(content), 1)._replace(**changes)  # type: ignore[arg-type]
    return ustar.encode(header) + content + bytes(ustar.padding(len(content)))


def refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(FormatError, match=reason):
        open_bag(path)


def test_a_tar_and_a_folder_read_the_same(batch_tar: Path, tmp_path: Path) -> None:
    with tarfile.open(batch_tar) as archive:
        archive.extractall(tmp_path, filter="data")
    with open_bag(batch_tar) as tar:
        assert tar.top is not None
        with open_bag(tmp_path / tar.top) as folder:
            assert folder.top is None
            assert folder.names == tar.names
            assert folder.total_bytes == tar.total_bytes
            for name in tar.names:
                assert folder.read(name) == tar.read(name)
                assert folder.size(name) == tar.size(name) == len(tar.read(name))
            with pytest.raises(FormatError, match="at most 5"):
                tar.read("bagit.txt", 5)
            for bag in (tar, folder):
                with pytest.raises(KeyError):
                    bag.open("data/none")
        tar.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"x" * 100, "not plain ustar"),
        (bytes(1024), "all in one folder"),
        (member("bagit.txt", b"x"), "fixed form|not plain ustar"),
        (member("bagit.txt", b"x") + bytes(512), "two zero blocks"),
        (member("bagit.txt", b"x") + bytes(1536), "two zero blocks"),
        (member("bagit.txt", b"x") + ustar.TRAILER + b"x", "two zero blocks"),
        (member("bagit.txt") * 2 + ustar.TRAILER, "occurs twice"),
        (member("bag-info.txt") + member("bagit.txt") + ustar.TRAILER, "fixed order"),
        (member("bagit.txt") + member("bag-info.txt", mtime_s=2) + ustar.TRAILER, "one time"),
        (member("bagit.txt") + member("bag-info.txt", prefix="other") + ustar.TRAILER, "one folder"),
        (member("data/../bagit.txt") + ustar.TRAILER, "no file of a bundle"),
        (member("/etc/passwd") + ustar.TRAILER, "no file of a bundle"),
        (member("fetch.txt") + ustar.TRAILER, "no file of a bundle"),
        (member("bagit.txt", b"x")[:-1] + b"y" + ustar.TRAILER, "padding"),
        (member("bagit.txt", b"x")[:700], "padding"),
        (member("bagit.txt", size_bytes=2**53 - 1) + ustar.TRAILER, "padding"),
    ],
)  # fmt: skip
def test_hostile_tars_are_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    refused(tmp_path / "x.tar", content, reason)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_members_that_are_no_files_are_refused(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo(f"{TOP}/bagit.txt")
    info.type, info.linkname = kind, "/etc/passwd"
    refused(tmp_path / "x.tar", info.tobuf(tarfile.USTAR_FORMAT) + ustar.TRAILER, "tar:")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tars_of_other_tools_are_refused(form: int, mode: str, tmp_path: Path) -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo(f"{TOP}/bagit.txt")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    refused(tmp_path / "x.tar", output.getvalue(), "compressed" if ":" in mode else "tar:")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "MEMBERS_MAX", 1)
    refused(tmp_path / "x.tar", member("bagit.txt") + member("bag-info.txt") + ustar.TRAILER, "more than 1 files")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "bagit.txt").touch()
    (folder / "bag-info.txt").touch()
    with pytest.raises(FormatError, match="more than 1 files"):
        open_bag(folder)


@pytest.fixture
def folder(batch_tar: Path, tmp_path: Path) -> Path:
    with tarfile.open(batch_tar) as archive:
        archive.extractall(tmp_path, filter="data")
        return tmp_path / archive.getmembers()[0].name.split("/")[0]


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p / "proof/checkpoint").rename(p / "x") or (p / "proof/checkpoint").symlink_to("../x"),
        lambda p: (p / "proof/extra").symlink_to("/etc/passwd"),
        lambda p: os.mkfifo(p / "proof/receipt.txt.fifo"),
        lambda p: _socket(p / "sock"),
        lambda p: (p / "data/more").mkdir(),
        lambda p: (p / "data/artifacts/sub").mkdir(),
        lambda p: (p / "data/Records.jsonl").touch(),
        lambda p: (p / "fetch.txt").touch(),
        lambda p: (p / "data/artifacts/a\u202e4pm.exe").touch(),
        lambda p: (p / "line\nfeed").touch(),
        lambda p: Path(os.fsdecode(os.fsencode(p) + b"/\xff\xfe")).touch(),
        lambda p: (p / "proof/bag-info.txt").touch(),
        lambda p: (p / ("n" * 255)).touch(),
        lambda p: (p / "proof/certs").rename(p / "c") or (p / "proof/certs").symlink_to("../c"),
    ],
)
def test_hostile_folders_fail_the_structure_check(damage: object, folder: Path, bureau: Bureau) -> None:
    assert verify(folder, bureau.trust, now=NOW).ok
    damage(folder)  # type: ignore[operator]
    report = verify(folder, bureau.trust, now=NOW)
    assert [item.name for item in report.checks if not item.ok] == ["structure"]


def test_a_file_that_changes_between_looking_and_reading_is_refused(folder: Path) -> None:
    with open_bag(folder) as bag:
        (folder / "bagit.txt").write_bytes(b"longer than before, much longer than it was when the folder was read")
        with pytest.raises(FormatError, match="changed while"):
            bag.read("bagit.txt")
        (folder / "bag-info.txt").unlink()
        (folder / "bag-info.txt").symlink_to("bagit.txt")
        with pytest.raises(FormatError, match="bag-info.txt: changed while"):
            bag.open("bag-info.txt")


def test_a_file_that_goes_away_or_becomes_something_else_is_a_failed_check(folder: Path, bureau: Bureau) -> None:
    """Nothing raises out of verify but what the disk says."""
    for swap in (lambda path: None, os.mkfifo, lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")):
        with open_bag(folder) as bag:
            target = folder / profile.RECORDS
            content = target.read_bytes()
            target.unlink()
            swap(target)
            with pytest.raises(FormatError, match="changed while"):
                bag.read(profile.RECORDS)
        if target.is_dir():
            target.rmdir()
        target.unlink(missing_ok=True)
        target.write_bytes(content)
    assert verify(folder, bureau.trust, now=NOW).ok


def test_a_folder_behind_a_link_is_read_and_its_inside_never_follows_one(
    folder: Path, tmp_path: Path, bureau: Bureau
) -> None:
    (tmp_path / "alias").symlink_to(folder)
    assert verify(tmp_path / "alias", bureau.trust, now=NOW).ok
    (folder / "proof").rename(tmp_path / "elsewhere")
    (folder / "proof").symlink_to(tmp_path / "elsewhere")
    report = verify(folder, bureau.trust, now=NOW)
    assert [item.name for item in report.checks] == ["structure"]
    assert "links" in report.checks[0].text


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"PK\x03\x04" + bytes(600), "unpack it first"), (b"\x1f\x8b\x08" + bytes(600), "unpack it")],
)
def test_what_a_clerk_may_have_been_given_instead_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    refused(tmp_path / "x", content, reason)


def test_a_tar_that_is_cut_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(member("bagit.txt", b"abc" * 1000) + ustar.TRAILER)
    with open_bag(path) as bag:
        os.truncate(path, 1000)
        with pytest.raises(FormatError, match="cut while"):
            bag.read("bagit.txt")


def test_what_is_neither_folder_nor_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FormatError, match="neither a folder nor"):
        open_bag(tmp_path / "fifo")
    with pytest.raises(FileNotFoundError):
        open_bag(tmp_path / "missing")


@given(data=st.data())
def test_arbitrary_damage_to_a_tar_gives_a_failed_report_and_no_exception(
    batch_tar: Path, scratch: Path, bureau: Bureau, data: st.DataObject
) -> None:
    content = bytearray(batch_tar.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 2000)))
        content[start:end] = data.draw(st.binary(max_size=64) | st.just(bytes(content[: end - start])))
    scratch.write_bytes(content)
    report = verify(scratch, bureau.trust, now=NOW)
    assert report.ok == (content == batch_tar.read_bytes())


@given(st.binary(max_size=3000))
def test_arbitrary_bytes_give_a_failed_report(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(content)
    assert not verify(scratch, Trust(), now=NOW).ok


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "x.tar"
