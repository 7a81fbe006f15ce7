"""The specification says what the code does, and the vectors are what both say."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.core import kinds
from gateway.core.record import parse_leaf
from gateway.ledger import checkpoint, merkle, profile, proof
from gateway.ledger.archive import open_bag
from gateway.ledger.trust import Trust
from gateway.ledger.verify import verify
from tests.ledger.bureau import NOW, Bureau, sample_log
from tests.ledger.make_vectors import FOLDER, fixed

FORMAT = Path(profile.__file__).with_name("FORMAT.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"```text ([^\n]+)\n(.*?)```", FORMAT, re.DOTALL))


@pytest.fixture(scope="module")
def trusted() -> Trust:
    return Trust([(FOLDER / "ca.pem").read_bytes()], tsa_ca_pems=[(FOLDER / "tsa-ca.pem").read_bytes()])


@pytest.mark.parametrize("name", ["batch.tar", "export.tar"])
def test_the_vectors_verify_for_ever(name: str, trusted: Trust) -> None:
    report = verify(FOLDER / name, trusted, now=NOW)
    assert report.ok, report.lines()
    assert report.warnings == []


def test_the_fixed_vectors_come_out_the_same(tmp_path: Path) -> None:
    for name, content in fixed(sample_log(Bureau.make(), tmp_path)).items():
        assert (FOLDER / name).read_bytes() == content, name


def test_the_worked_example_is_the_vector() -> None:
    leaves = (FOLDER / "leaves.jsonl").read_bytes().splitlines()
    assert BLOCKS.pop("leaf 7").encode() == leaves[7] + b"\n"
    assert BLOCKS.pop("leaf hash 7") == merkle.leaf_hash(leaves[7]).hex() + "\n"
    path = BLOCKS.pop("proof/record-7.tlog-proof").encode()
    with open_bag(FOLDER / "batch.tar") as batch, open_bag(FOLDER / "export.tar") as export:
        assert export.read("proof/record-7.tlog-proof") == path
        assert len(BLOCKS) == 7
        for name, text in BLOCKS.items():
            assert batch.read(name) == text.encode(), name
        for name in ("seal.txt", "receipt.txt", "receipt-artifacts.txt"):
            assert batch.read(f"proof/{name}") == (FOLDER / name).read_bytes()
    given = proof.parse(path)
    tree = json.loads((FOLDER / "merkle.json").read_bytes())
    assert [item.hex() for item in given.path] == tree["inclusion_of_7_in_13"]
    assert merkle.verify_inclusion(merkle.leaf_hash(leaves[7]), 7, 13, given.path, given.checkpoint.root)
    roots = [bytes.fromhex(item) for item in tree["roots"]]
    steps = [bytes.fromhex(item) for item in tree["consistency_5_to_13"]]
    assert merkle.verify_consistency(5, 13, steps, roots[5], roots[13])


def test_every_kind_and_every_key_is_in_the_tables() -> None:
    listed = set(re.findall(r"^\| `([a-z_.]+)` \|", FORMAT, re.MULTILINE))
    ours = {value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, str)}
    keys = set(json.loads((FOLDER / "leaves.jsonl").read_bytes().splitlines()[0]))
    assert listed == ours | keys


def test_every_check_is_a_numbered_step(trusted: Trust) -> None:
    steps = re.findall(r"^\d+\. \*\*([a-z-]+)\*\*", FORMAT, re.MULTILINE)
    report = verify(FOLDER / "batch.tar", trusted, now=NOW)
    assert [item.name for item in report.checks] == steps


def test_the_older_sample_bundle_has_the_same_tree_and_signatures(vectors: Path) -> None:
    """Its seal has fewer lines, so it is no evidence/v1 bundle; its tree, frontier, proof and hashes fit."""
    folder = vectors / "sample-bundle"
    head = checkpoint.parse((folder / "proof/checkpoint").read_bytes())
    hashes = checkpoint.parse_frontier((folder / "proof/frontier").read_bytes())
    tree = merkle.Frontier(1000, hashes)
    assert f"prev 1000 {_base64(tree.root())}" in (folder / "proof/seal.txt").read_text()
    content = (folder / "data/records.jsonl").read_bytes()
    tree.extend(map(merkle.leaf_hash, content.splitlines()))
    assert (tree.size, tree.root()) == (head.size, head.root)
    assert f"records-sha256 {sha256(content).hexdigest()}" in (folder / "proof/seal.txt").read_text()
    given = proof.parse((folder / "proof/record-1007.tlog-proof").read_bytes())
    leaf = (folder / "proof/record-1007.json").read_bytes()
    assert given.leaf_index == 1007
    assert merkle.verify_inclusion(merkle.leaf_hash(leaf), 1007, head.size, given.path, head.root)
    report = verify(folder, Trust([(vectors / "sample-bundle-ca.pem").read_bytes()]), now=NOW)
    assert [item.name for item in report.checks if not item.ok] == ["structure"]


def _base64(digest: bytes) -> str:
    return checkpoint.encode_frontier([digest]).decode().strip()


def test_the_leaves_of_the_vectors_are_records() -> None:
    for seq, leaf in enumerate((FOLDER / "leaves.jsonl").read_bytes().splitlines()):
        assert parse_leaf(leaf).seq == seq
