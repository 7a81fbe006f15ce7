"""Seal, checkpoint, frontier, receipt, proof: exactly one text for one meaning, and nothing but FormatError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import checkpoint, grammar, profile, proof, receipt
from gateway.ledger.grammar import FormatError
from gateway.ledger.profile import BagInfo
from gateway.ledger.receipt import Receipt
from gateway.ledger.seal import Seal

HASH = st.binary(min_size=32, max_size=32)
HEX = HASH.map(bytes.hex)
NUMBER = st.integers(0, 2**53 - 1)
ORIGIN = st.from_regex(grammar.GATEWAY_ID, fullmatch=True).filter(lambda item: ".." not in item).map(grammar.origin_of)
RANGE = st.tuples(NUMBER, NUMBER).filter(lambda pair: pair[0] != pair[1]).map(sorted)
MOMENT = st.datetimes(timezones=st.just(UTC)).map(lambda item: item.replace(microsecond=0))


@st.composite
def seals(draw: st.DrawFn) -> Seal:
    first, end = draw(RANGE)
    pointer = st.none() | st.integers(0, end - 1)
    return Seal(
        draw(ORIGIN), first, end, draw(HASH), draw(HASH), draw(HEX), draw(NUMBER), draw(NUMBER),
        draw(pointer), draw(pointer), draw(HEX),
    )  # fmt: skip


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    first, end = draw(RANGE)
    held, total = sorted((draw(NUMBER), draw(NUMBER)))
    return Receipt(
        draw(ORIGIN), first, end, draw(HASH), draw(HASH), draw(HEX), held, total, draw(HEX),
        draw(MOMENT), draw(MOMENT), draw(HEX)[:32],
    )  # fmt: skip


SEAL = Seal("gw/evidence", 5, 13, b"a" * 32, b"b" * 32, "c" * 64, 2, 3000, 5, None, "d" * 64)
RECEIPT = Receipt(
    "gw/evidence", 5, 13, b"a" * 32, b"b" * 32, "e" * 64, 1, 2, "f" * 64,
    datetime(2026, 11, 21, tzinfo=UTC), datetime(2027, 11, 21, tzinfo=UTC), "0" * 32,
)  # fmt: skip
BAG_INFO = BagInfo(
    "batch", "gw_batch_5-13", datetime(2026, 11, 21, tzinfo=UTC).date(), 12, 1, {"a" * 64: 5, "b" * 64: 0}
)
HEAD = checkpoint.encode("gw/evidence", 13, b"b" * 32)

TEXTS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "seal": (SEAL.encode(), lambda b: Seal.parse(b).encode()),
    "receipt": (RECEIPT.encode(), lambda b: Receipt.parse(b).encode()),
    "artifacts": (
        receipt.encode_artifacts([("a" * 64, 5), ("b" * 64, 0)]),
        lambda b: receipt.encode_artifacts(receipt.parse_artifacts(b).items()),
    ),
    "checkpoint": (HEAD, lambda b: checkpoint.encode(*checkpoint.parse(b))),
    "frontier": (
        checkpoint.encode_frontier([b"a" * 32, b"b" * 32]),
        lambda b: checkpoint.encode_frontier(checkpoint.parse_frontier(b)),
    ),
    "proof": (
        proof.encode(7, [b"a" * 32], HEAD),
        lambda b: proof.encode(proof.parse(b)[0], proof.parse(b)[1], checkpoint.encode(*proof.parse(b)[2])),
    ),
    "bag-info": (BAG_INFO.encode(), lambda b: BagInfo.parse(b).encode()),
    "manifest": (
        profile.encode_manifest({"bagit.txt": "a" * 64, "proof/seal.txt": "b" * 64}),
        lambda b: profile.encode_manifest(profile.parse_manifest(b, "manifest")),
    ),
}


@given(seals())
def test_a_seal_comes_back(seal: Seal) -> None:
    assert Seal.parse(seal.encode()) == seal


@given(receipts())
def test_a_receipt_comes_back(item: Receipt) -> None:
    assert Receipt.parse(item.encode()) == item


@given(st.dictionaries(HEX, NUMBER, max_size=5))
def test_lists_of_artifacts_come_back(items: dict[str, int]) -> None:
    assert receipt.parse_artifacts(receipt.encode_artifacts(items.items())) == items


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
def test_a_parser_accepts_only_what_the_encoder_writes(name: str, data: st.DataObject) -> None:
    sample, again = TEXTS[name]
    position = data.draw(st.integers(0, len(sample)))
    mutated = data.draw(
        st.sampled_from(
            [
                sample[:position] + data.draw(st.binary(max_size=3)) + sample[position:],
                sample[:position] + data.draw(st.binary(min_size=1, max_size=1)) + sample[position + 1 :],
                sample[:position],
                sample[:position] + b"\n" + sample[position:],
                sample.replace(b"\n", b"\r\n"),
                sample + sample,
                data.draw(st.binary(max_size=300)),
            ]
        )
    )
    try:
        result = again(mutated)
    except FormatError:
        return
    assert result == mutated


@pytest.mark.parametrize("name", TEXTS)
def test_every_sample_comes_back(name: str) -> None:
    sample, again = TEXTS[name]
    assert again(sample) == sample


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 13}, {"first": 14}, {"first": -1}, {"end": 2**53}, {"beacon": 13}, {"clock": 13}, {"clock": -1},
        {"prev_root": b""}, {"root": b"x" * 33}, {"records_sha256": "C" * 64}, {"gateway_cert_sha256": ""},
        {"origin": "GW/evidence"}, {"artifact_count": -1}, {"artifact_bytes": 2**53},
    ],
)  # fmt: skip
def test_a_seal_with_impossible_values_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        replace(SEAL, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 13}, {"artifacts_held": 3}, {"nonce": "0" * 31}, {"nonce": "G" * 32}, {"seal_sha256": "x"},
        {"artifacts_sha256": "x"}, {"prev_root": b""}, {"root": b""}, {"origin": "x"}, {"end": 2**53},
    ],
)  # fmt: skip
def test_a_receipt_with_impossible_values_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        replace(RECEIPT, **changes)


@pytest.mark.parametrize(
    ("parse", "old", "new"),
    [
        (Seal.parse, b"prev 5", b"prev 4"),
        (Seal.parse, b"root 13", b"root 14"),
        (Seal.parse, b"evidence-seal/v1", b"evidence-seal/v2"),
        (Receipt.parse, b"prev 5", b"prev 4"),
        (Receipt.parse, b"root 13", b"root 14"),
        (Receipt.parse, b"2026-11-21", b"2026-11-31"),
        (BagInfo.parse, b"evidence/v1", b"evidence/v2"),
        (BagInfo.parse, b"2026-11-21", b"2026-11-31"),
        (BagInfo.parse, b"a" * 64, b"c" * 64),
        (BagInfo.parse, b"gw_batch", b"gw_other"),
        (receipt.parse_artifacts, b"a" * 64, b"c" * 64),
        (receipt.parse_artifacts, b"a" * 64, b"b" * 64),
        (checkpoint.parse, b"\n13\n", b"\n013\n"),
        (checkpoint.parse, b"gw/", b"g..w/"),
    ],
)
def test_what_contradicts_itself_is_refused(parse: Callable[[bytes], object], old: bytes, new: bytes) -> None:
    sample = next(text for text, _ in TEXTS.values() if old in text and _parses(parse, text))
    with pytest.raises(FormatError):
        parse(sample.replace(old, new))


def _parses(parse: Callable[[bytes], object], text: bytes) -> bool:
    try:
        parse(text)
    except FormatError:
        return False
    return True


def test_a_receipt_is_checked_against_the_seal_and_its_list() -> None:
    from hashlib import sha256

    text = receipt.encode_artifacts([("a" * 64, 5)])
    good = replace(
        RECEIPT,
        seal_sha256=sha256(SEAL.encode()).hexdigest(),
        artifacts_sha256=sha256(text).hexdigest(),
    )
    good.check_seal(SEAL, SEAL.encode())
    assert good.check_artifacts(text) == {"a" * 64: 5}
    with pytest.raises(FormatError, match="another seal"):
        RECEIPT.check_seal(SEAL, SEAL.encode())
    for changes in ({"root": b"x" * 32}, {"prev_root": b"x" * 32}, {"first": 4}, {"artifacts_total": 3}):
        with pytest.raises(FormatError, match="repeats"):
            replace(good, **changes).check_seal(SEAL, SEAL.encode())  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="not the one that was signed"):
        good.check_artifacts(b"")
    with pytest.raises(FormatError, match="but says"):
        replace(good, artifacts_held=0).check_artifacts(text)


def test_the_list_of_artifacts_refuses_what_it_could_not_read_back() -> None:
    assert receipt.encode_artifacts([]) == b""
    assert receipt.parse_artifacts(b"") == {}
    with pytest.raises(FormatError):
        receipt.encode_artifacts([("A" * 64, 1)])
    with pytest.raises(FormatError):
        receipt.encode_artifacts([("a" * 64, -1)])


def test_profile_names() -> None:
    assert profile.extension_of("A.MP4") == ".mp4"
    assert profile.extension_of("a.tar.gz") == ".gz"
    for name in ("A", ".mp4", "A.", "A.mp 4", "A.toolongext", "视频.视频"):
        assert profile.extension_of(name) == ""
    assert profile.is_known_name("data/records.jsonl")
    assert not profile.is_known_name("data/../bagit.txt")
    with pytest.raises(FormatError, match="missing"):
        profile.check_names([], "export")
    head = ["bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt", "tagmanifest-sha256.txt.p7s"]
    with pytest.raises(FormatError, match="does not belong"):
        profile.check_names([*head, "data/records.jsonl"], "export")
    with pytest.raises(FormatError, match="twice"):
        profile.parse_manifest(b"%s  bagit.txt\n" % (b"a" * 64) * 2, "manifest")
