from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import merkle
from gateway.ledger.grammar import FormatError
from gateway.ledger.merkle import EMPTY_ROOT, Frontier


def naive_root(hashed: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not hashed:
        return sha256(b"").digest()
    if len(hashed) == 1:
        return hashed[0]
    k = 1
    while k * 2 < len(hashed):
        k *= 2
    return sha256(b"\x01" + naive_root(hashed[:k]) + naive_root(hashed[k:])).digest()


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"leaf %d" % index) for index in range(count)]


def node_of(hashed: Sequence[bytes]) -> merkle.NodeOf:
    def node(level: int, index: int) -> bytes:
        part = hashed[index << level : (index + 1) << level]
        assert len(part) == 1 << level
        return naive_root(part)

    return node


def decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_rfc_6962_vectors(vectors: Path, kind: str) -> None:
    files = sorted((vectors / "rfc6962" / kind).rglob("*.json"))
    assert len(files) > 50
    for file in files:
        case = json.loads(file.read_text())
        path = [decoded(item) for item in case["proof"] or []]
        if kind == "inclusion":
            ok = merkle.verify_inclusion(
                decoded(case["leafHash"]), case["leafIdx"], case["treeSize"], path, decoded(case["root"])
            )
        else:
            ok = merkle.verify_consistency(
                case["size1"], case["size2"], path, decoded(case["root1"]), decoded(case["root2"])
            )
        assert ok != case["wantErr"], file


@given(st.integers(0, 700), st.integers(0, 700), st.booleans())
def test_the_frontier_agrees_with_the_definition(before: int, added: int, one_by_one: bool) -> None:
    hashed = leaves(before + added)
    found: dict[tuple[int, int], bytes] = {}
    first = Frontier()
    first.extend(hashed[:before])
    assert first.root() == naive_root(hashed[:before])
    tree = Frontier(first.size, first.hashes, lambda level, index, value: found.setdefault((level, index), value))
    if one_by_one:
        for item in hashed[before:]:
            tree.append(item)
    else:
        tree.extend(iter(hashed[before:]))
    assert tree.size == before + added
    assert tree.root() == naive_root(hashed)
    expected = {(8, index) for index in range(before >> 8, (before + added) >> 8)}
    assert found.keys() == expected
    assert all(value == naive_root(hashed[i << 8 : (i + 1) << 8]) for (_, i), value in found.items())


def test_subtrees_of_the_second_stored_level_are_reported() -> None:
    found: list[tuple[int, int]] = []
    zero = merkle.leaf_hash(b"")
    tree = Frontier(on_subtree=lambda level, index, _: found.append((level, index)))
    tree.extend(zero for _ in range(1 << 16))
    assert found.count((16, 0)) == 1
    assert len([item for item in found if item[0] == 8]) == 256
    assert len(tree.hashes) == 1


@pytest.mark.parametrize(("size", "hashes"), [(-1, []), (1, []), (0, [b"x" * 32]), (3, [b"x" * 32]), (1, [b"x"])])
def test_a_frontier_that_does_not_fit_its_size_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(FormatError, match="frontier"):
        Frontier(size, hashes)


@given(st.integers(1, 200), st.data())
def test_inclusion_paths_verify_and_nothing_else_does(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    hashed = leaves(size)
    root = naive_root(hashed)
    path = merkle.inclusion_path(index, size, node_of(hashed))
    assert merkle.verify_inclusion(hashed[index], index, size, path, root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, path, root)
    assert not merkle.verify_inclusion(hashed[index], size, size, path, root)
    assert not merkle.verify_inclusion(hashed[index], index, size, [*path, root], root)
    for position in range(len(path)):
        assert not merkle.verify_inclusion(hashed[index], index, size, path[:position] + path[position + 1 :], root)
        changed = [*path]
        changed[position] = bytes([changed[position][0] ^ 1]) + changed[position][1:]
        assert not merkle.verify_inclusion(hashed[index], index, size, changed, root)


@given(st.integers(1, 200), st.data())
def test_consistency_paths_verify_and_nothing_else_does(size2: int, data: st.DataObject) -> None:
    size1 = data.draw(st.integers(1, size2))
    hashed = leaves(size2)
    old, new = naive_root(hashed[:size1]), naive_root(hashed)
    path = merkle.consistency_path(size1, size2, node_of(hashed))
    assert merkle.verify_consistency(size1, size2, path, old, new)
    other = merkle.leaf_hash(b"other")
    assert not merkle.verify_consistency(size1, size2, path, other, new)
    assert not merkle.verify_consistency(size1, size2, path, old, other)
    assert not merkle.verify_consistency(size1, size2, [*path, other], old, new)
    for position in range(len(path)):
        shorter = path[:position] + path[position + 1 :]
        assert not merkle.verify_consistency(size1, size2, shorter, old, new)


def test_the_size_0_policy() -> None:
    assert sha256(b"").digest() == EMPTY_ROOT == Frontier().root()
    assert not merkle.verify_inclusion(EMPTY_ROOT, 0, 0, [], EMPTY_ROOT)
    assert not merkle.verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    assert not merkle.verify_consistency(0, 1, [], EMPTY_ROOT, merkle.leaf_hash(b""))
    with pytest.raises(ValueError, match="no leaf 0"):
        merkle.inclusion_path(0, 0, node_of([]))
    for sizes in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match="no consistency proof"):
            merkle.consistency_path(*sizes, node_of(leaves(2)))


def test_hashes_of_another_length_prove_nothing() -> None:
    assert not merkle.verify_inclusion(b"", 0, 1, [], b"")
    assert not merkle.verify_consistency(1, 2, [b"short"], leaves(1)[0], naive_root(leaves(2)))
    assert not merkle.verify_consistency(2, 3, [], b"\0" * 32, b"\0" * 32)
    assert not merkle.verify_consistency(3, 4, [], b"\0" * 32, b"\0" * 32)
