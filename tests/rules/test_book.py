"""The book: contradictions between files, its hash, and packing."""

from __future__ import annotations

import hashlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import canonical
from gateway.core.errors import ConfigError, IntegrityError, ProtocolMisuse
from gateway.rules import book as books
from gateway.rules.book import PACK_PART_BYTES, Joining, book_sha256, load_book, pack, records_of, unpack
from tests.rules.files import geojson, of_rules_md, problems, site
from tests.rules.test_windows import utc_s

FILES = of_rules_md()


def rules(name: str, valid_from: str, valid_to: str = "", classes: str = '"muck-truck"') -> bytes:
    end = f"valid_to = {valid_to}\n" if valid_to else ""
    head = f'format = "rules/v1"\nid = "{name}"\ntitle = "x"\nvalid_from = {valid_from}\n'
    return f"{head}{end}classes = [{classes}]\n[stop]\n".encode()


OVERLAP = (
    "b.toml:4: valid_from: overlaps a.toml (a, 2025-01-01 to open) for class muck-truck; "
    "end one before the other begins"
)


def wrong(files: dict[str, bytes]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_book(files)
    return problems(error)


# ------------------------------------------------------------------------------------------ rule sets by date


def test_the_rule_set_in_force_by_class_and_date():
    book = load_book(
        {
            "a.toml": rules("a", "2025-01-01", "2025-12-31"),
            "b.toml": rules("b", "2026-01-01", classes='"muck-truck", "works"'),
        }
    )
    found = {
        time: book.rule_set("muck-truck", utc_s(time)) for time in ("2024-12-31", "2025-12-31 23:59", "2026-01-01")
    }
    assert [None if item is None else item.id for item in found.values()] == [None, "a", "b"]
    assert book.rule_set("works", utc_s("2025-06-01")) is None
    assert book.rule_set("officers", utc_s("2026-06-01")) is None


def test_rule_sets_that_overlap_for_a_class_are_refused():
    assert wrong(
        {"a.toml": rules("a", "2025-01-01"), "b.toml": rules("b", "2026-01-01", classes='"x", "muck-truck"')}
    ) == [OVERLAP]
    assert load_book({"a.toml": rules("a", "2025-01-01"), "b.toml": rules("b", "2026-01-01", classes='"x"')})


def test_ids_that_stand_twice():
    assert wrong({"a.toml": rules("a", "2025-01-01", "2025-12-31"), "b.toml": rules("a", "2026-01-01")}) == [
        "b.toml:2: id: rule set a stands already in a.toml:2"
    ]
    assert wrong({"p.geojson": geojson(site("s1"), site("s1")), "q.geojson": geojson(site("s1"))}) == [
        "p.geojson:3: features[1].properties.id: id s1 stands already in p.geojson:2",
        "q.geojson:2: features[0].properties.id: id s1 stands already in p.geojson:2",
    ]


def test_a_permit_is_not_blamed_for_places_that_cannot_be_read():
    broken = FILES | {"places.geojson": b"{"}
    assert [item.split(":")[0] for item in wrong(broken)] == ["places.geojson"]


def test_problems_of_all_files_at_once():
    found = wrong({"p.geojson": b"{", "r.toml": b"x = ", "s.toml": b"format = 5"})
    assert [item.split(":")[0] for item in found] == ["p.geojson", "r.toml", "s.toml"]


# ------------------------------------------------------------------------------------------ files


def test_the_same_bytes_give_an_equal_book():
    one, two = load_book(FILES), load_book(dict(reversed(FILES.items())))
    assert one == two
    one.routes["route-5"].line.nearest(307_000_000, 1_210_000_000)  # fills its index
    assert one == two
    assert one != load_book(FILES | {"more.toml": rules("other", "2020-01-01", "2020-12-31")})
    assert load_book({}).files == ()


def test_the_hash_is_what_the_shell_says(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    command = "sha256sum *.toml *.geojson | LC_ALL=C sort | sha256sum"
    said = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.split()[0] == book_sha256(FILES) == load_book(FILES).sha256
    assert {item.name: item.sha256 for item in load_book(FILES).files} == {
        name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        "a/b.toml",
        "../x.toml",
        ".hidden.toml",
        "x.txt",
        "x.toml\n",
        "a\x00.toml",
        "\udc80.toml",
        "x" * 90 + ".toml",
        ".toml",
    ],
)
def test_names_that_are_none(name):
    assert "expected a name that ends in .toml or .geojson" in wrong({name: b""})[0]
    with pytest.raises(ProtocolMisuse):
        pack({name: b""})


def test_bounds(monkeypatch):
    assert "the rule book: more than 200 files" in wrong({f"{number}.toml": b"" for number in range(201)})
    monkeypatch.setattr(books, "TOTAL_MAX_BYTES", 10)
    assert "the rule book: more than 10 bytes in all" in wrong({"a.toml": b"#" * 11})


def test_a_file_too_large():
    assert wrong({"a.toml": b"#" * 1_048_577}) == ["a.toml: larger than 1048576 bytes; is it the right file?"]
    assert wrong({"a.geojson": b" " * 4_194_305}) == ["a.geojson: larger than 4194304 bytes; is it the right file?"]


# ------------------------------------------------------------------------------------------ packing

names = st.from_regex(r"[a-z\u4e00-\u4e20 ]{1,12}\.(toml|geojson)", fullmatch=True)


@given(st.dictionaries(names, st.binary(max_size=200), max_size=6))
def test_packing_there_and_back(files):
    packed = pack(files)
    assert unpack(packed) == files
    assert pack(dict(reversed(files.items()))) == packed


def test_what_a_packed_book_looks_like():
    assert pack({}) == b"fieldgate rule book 1\n\n"
    sha = hashlib.sha256(b"x\n").hexdigest().encode()
    assert pack({"b.toml": b"x\n", "a.toml": b"x\n"}) == (
        b"fieldgate rule book 1\n" + sha + b"  2  a.toml\n" + sha + b"  2  b.toml\n\nx\nx\n"
    )


@given(st.data())
def test_anything_odd_is_refused(data):
    """Any one byte changed, cut off or put in."""
    packed = pack({"a.toml": b"one", "b.toml": b"two\n\n"})
    at = data.draw(st.integers(0, len(packed) - 1))
    change = data.draw(st.sampled_from(("flip", "cut", "drop", "insert")))
    if change == "flip":
        odd = packed[:at] + bytes([packed[at] ^ data.draw(st.integers(1, 255))]) + packed[at + 1 :]
    elif change == "cut":
        odd = packed[:at]
    elif change == "drop":
        odd = packed[:at] + packed[at + 1 :]
    else:
        odd = packed[:at] + data.draw(st.binary(min_size=1, max_size=3)) + packed[at:]
    if odd == packed:
        return
    try:
        files = unpack(odd)
    except IntegrityError:
        return
    assert pack(files) == odd  # another name for a file: still a whole book


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"fieldgate rule book 2\n\n",
        b"fieldgate rule book 1\n",
        b"fieldgate rule book 1\n\nx",
        pack({"a.toml": b"1"}).replace(b"a.toml", b"../.toml"),
        pack({"a.toml": b"1", "b.toml": b"1"}).replace(b"a.toml", b"c.toml"),
        pack({"a.toml": b"1", "b.toml": b"1"}).replace(b"b.toml", b"a.toml"),
        pack({"a.toml": b"1"}).replace(b"  1  ", b"  01  "),
        pack({"a.toml": b"1"}).replace(b"  1  ", b"  +1  "),
        pack({"a.toml": b"1"}).replace(b"a.toml", b"\xff.toml"),
    ],
)
def test_odd_packed_books(odd):
    with pytest.raises(IntegrityError):
        unpack(odd)


@given(st.binary(max_size=300))
def test_noise_is_refused(noise):
    with pytest.raises(IntegrityError):
        unpack(b"fieldgate rule book 1\n?" + noise)


def test_a_long_list_of_files_is_refused():
    line = hashlib.sha256(b"").hexdigest() + "  0  "
    lines = "".join(f"{line}{number:03d}.toml\n" for number in range(201))
    with pytest.raises(IntegrityError, match="odd line"):
        unpack(f"fieldgate rule book 1\n{lines}\n".encode())


# ------------------------------------------------------------------------------------------ records


def large() -> dict[str, bytes]:
    """A book of several records."""
    return FILES | {
        f"large-{number}.geojson": geojson(*(site(f"s{number}-{index}", 121 + index / 1e3) for index in range(800)))
        for number in range(2)
    }


def test_records_of_a_small_book():
    (draft,) = records_of(FILES)
    assert draft.kind == "rules.book"
    assert draft.data == {
        "sha256": load_book(FILES).sha256,
        "files": len(FILES),
        "part": 1,
        "parts": 1,
        "converter": "gcj02-iterated/1",
    }
    assert draft.raw == pack(FILES)
    canonical.check(draft.data)
    assert Joining().accept(7, draft.data, draft.raw) == (7, load_book(FILES))


def test_a_large_book_is_divided_and_joined_again():
    drafts = records_of(large())
    assert len(drafts) > 2
    assert all(draft.raw is not None and len(draft.raw) <= PACK_PART_BYTES for draft in drafts)
    joining = Joining()
    joining.accept(1, drafts[0].data, drafts[0].raw)  # interrupted by a crash; it begins again
    said = [joining.accept(seq, draft.data, draft.raw) for seq, draft in enumerate(drafts, 2)]
    assert said[:-1] == [None] * (len(drafts) - 1)
    assert said[-1] == (2, load_book(large()))


def test_parts_in_disorder_are_an_integrity_error():
    drafts = records_of(large())
    joining = Joining()
    joining.accept(1, drafts[0].data, drafts[0].raw)
    for seq, draft in ((2, drafts[2]), (3, drafts[0])):
        data = draft.data if seq == 2 else {**draft.data, "part": 2, "sha256": "0" * 64}
        with pytest.raises(IntegrityError, match=f"record {seq} is no next part"):
            joining.accept(seq, data, draft.raw)
    with pytest.raises(IntegrityError, match="is no next part"):
        Joining().accept(1, drafts[0].data, None)
    (small,) = records_of(FILES)
    with pytest.raises(IntegrityError, match="is not the one that it names"):
        Joining().accept(1, {**small.data, "sha256": "0" * 64}, small.raw)
