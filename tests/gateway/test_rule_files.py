"""The rule folder on a real disk: what is read, what is refused, and what happens when it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway import rule_files
from gateway.core.errors import ConfigError
from gateway.rule_files import Watched, read_folder
from gateway.rules.book import Joining, load_book
from tests.rules.files import of_rules_md, problems

FILES = of_rules_md()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def refused(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read_folder(folder)
    return problems(error)


# ------------------------------------------------------------------------------------------ reading


def test_only_files_of_the_book_are_read(folder):
    (folder / "README.md").write_text("x")
    (folder / ".rules.toml.swp").write_text("x")
    (folder / ".hidden.toml").write_text("x")
    (folder / "rules.toml~").write_text("x")
    (folder / "old").mkdir()
    (folder / "old" / "a.toml").write_text("x")
    assert read_folder(folder) == FILES
    assert load_book(read_folder(folder)).sha256 == load_book(FILES).sha256


def test_links_pipes_and_folders_are_refused(folder, tmp_path):
    (folder / "link.toml").symlink_to("/etc/passwd")
    (folder / "gone.toml").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.toml")
    (folder / "folder.toml").mkdir()
    assert sorted(refused(folder)) == [
        "folder.toml: cannot be read: it is no regular file",
        "gone.toml: cannot be read: it is a link; put the file itself here",
        "link.toml: cannot be read: it is a link; put the file itself here",
        "pipe.toml: cannot be read: it is no regular file",
    ]


def test_a_link_to_the_folder_itself_is_fine(folder, tmp_path):
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(folder)
    assert read_folder(link) == FILES


def test_names_that_do_not_print(folder):
    descriptor = os.open(os.fsencode(folder) + b"/\xff.toml", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    (folder / "a\nb.toml").write_text("")
    assert refused(folder) == [
        "'a\\nb.toml': rename it: letters that print, no / or \\, at most 90",
        "'\\udcff.toml': rename it: letters that print, no / or \\, at most 90",
    ]


def test_limits(folder, monkeypatch):
    for number in range(rule_files.FILES_MAX):
        (folder / f"{number}.toml").write_text("")
    assert refused(folder) == [f"{folder}: more than 200 files"]
    monkeypatch.setattr(rule_files, "ENTRIES_MAX", 100)
    assert refused(folder) == [f"{folder}: more than 100 entries; a wrong folder?"]


def test_a_book_too_large_is_not_read_whole(folder, monkeypatch):
    monkeypatch.setattr(rule_files, "TOTAL_MAX_BYTES", 100)
    assert refused(folder) == [f"{folder}: more than 100 bytes in all"]


def test_a_file_too_large_is_cut_and_refused(folder):
    (folder / "huge.toml").write_bytes(b"#" * 3_000_000)
    with pytest.raises(ConfigError) as error:
        load_book(read_folder(folder))
    assert problems(error) == ["huge.toml: larger than 1048576 bytes; is it the right file?"]


def test_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "none") == [
        f"{tmp_path}/none: the folder of the rule book cannot be read: No such file or directory"
    ]
    assert refused(tmp_path / "file") == [
        f"{tmp_path}/file: the folder of the rule book cannot be read: Not a directory"
    ]


# ------------------------------------------------------------------------------------------ watching


def test_at_the_start_it_is_read_at_once(folder):
    watched = Watched(folder)
    assert watched.error == ""
    assert watched.sha256 == load_book(FILES).sha256
    (draft,) = watched.records()
    assert Joining().accept(1, draft.data, draft.raw) == (1, watched.book)
    assert not watched.refresh()


def test_a_change_is_in_force_at_the_second_look_that_finds_it_the_same(folder):
    watched = Watched(folder)
    before = watched.sha256
    (folder / "permits.toml").write_bytes(FILES["permits.toml"].replace(b"width_m = 60", b"width_m = 80"))
    assert not watched.refresh()
    assert watched.sha256 == before
    assert watched.refresh()
    assert watched.book is not None
    assert watched.book.permits_all.all[0].width_m == 80
    assert not watched.refresh()


def test_a_folder_that_is_being_written_is_not_taken_half_way(folder):
    """Cut between two permits it would be a book, with a permit missing."""
    watched = Watched(folder)
    before = watched.sha256
    half = FILES["permits.toml"] + b"\n" + FILES["permits.toml"].split(b"\n\n", 1)[1].replace(b"0117", b"0118")
    for end in range(len(FILES["permits.toml"]), len(half), 60):
        (folder / "permits.toml").write_bytes(half[:end])
        assert not watched.refresh()
        assert (watched.sha256, watched.error) == (before, "")
    (folder / "permits.toml").write_bytes(half)
    assert [watched.refresh(), watched.refresh()] == [False, True]
    assert watched.book is not None
    assert len(watched.book.permits_all) == 2


def test_a_mistake_changes_nothing_but_the_error(folder):
    watched = Watched(folder)
    good = watched.sha256
    (folder / "permits.toml").write_bytes(FILES["permits.toml"].replace(b'"route-5"', b'"route-6"'))
    assert [watched.refresh() for _ in range(3)] == [False, False, False]
    assert watched.error == "permits.toml:8: permit[0].route[0]: no route has the id route-6; did you mean route-5?"
    assert watched.sha256 == good
    assert [draft.data["sha256"] for draft in watched.records()] == [good]
    (folder / "rules.toml").write_text("format =")
    assert [watched.refresh(), watched.refresh()] == [False, False]
    assert watched.error.endswith(" (and 1 more)")
    assert len(watched.problems) == 2
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    assert [watched.refresh(), watched.refresh()] == [False, False]  # the book in force is the same as before
    assert (watched.error, watched.problems, watched.sha256) == ("", (), good)


def test_started_with_a_mistake_and_mended(folder):
    (folder / "rules.toml").write_text("format =")
    watched = Watched(folder)
    assert watched.book is None
    assert watched.sha256 == ""
    assert watched.records() == []
    assert watched.error.startswith("rules.toml:1: not TOML")
    (folder / "rules.toml").write_bytes(FILES["rules.toml"])
    assert [watched.refresh(), watched.refresh()] == [False, True]
    assert watched.error == ""


def test_a_folder_that_goes_away_and_comes_back(folder):
    watched = Watched(folder)
    good = watched.sha256
    away = folder.with_name("away")
    folder.rename(away)
    assert [watched.refresh(), watched.refresh()] == [False, False]
    assert "cannot be read: No such file or directory" in watched.error
    assert watched.sha256 == good
    away.rename(folder)
    assert [watched.refresh(), watched.refresh()] == [False, False]
    assert watched.error == ""


def test_same_size_and_time_but_another_file(folder):
    """As an editor's rename, or an rsync that keeps times, leaves it."""
    watched = Watched(folder)
    path = folder / "permits.toml"
    before = path.stat()
    fresh = folder / "new"
    fresh.write_bytes(FILES["permits.toml"].replace(b"width_m = 60", b"width_m = 70"))
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.rename(path)
    assert [watched.refresh(), watched.refresh()] == [False, True]


def test_a_file_more_or_less(folder):
    watched = Watched(folder)
    extra = folder / "more.toml"
    extra.write_text('format = "permits/v1"\n')
    assert [watched.refresh(), watched.refresh()] == [False, True]
    extra.unlink()
    assert [watched.refresh(), watched.refresh()] == [False, True]


def test_changed_between_looking_and_reading(folder, monkeypatch):
    """The folder changes while it is read: what was read is not taken, and the next looks find what is there."""
    watched = Watched(folder)
    good = watched.sha256
    (folder / "permits.toml").write_bytes(FILES["permits.toml"].replace(b"width_m = 60", b"width_m = 61"))
    real, writes = rule_files.load_book, iter((b"width_m = 62",))

    def load_while_someone_writes(files):
        for line in writes:
            (folder / "permits.toml").write_bytes(FILES["permits.toml"].replace(b"width_m = 60", line))
        return real(files)

    monkeypatch.setattr(rule_files, "load_book", load_while_someone_writes)
    assert [watched.refresh(), watched.refresh()] == [False, False]
    assert watched.sha256 == good
    assert [watched.refresh(), watched.refresh()] == [False, True]
    assert watched.book is not None
    assert watched.book.permits_all.all[0].width_m == 62
