from __future__ import annotations

import base64
import json
import unicodedata
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import canonical
from gateway.core.canonical import MAX_SAFE_INTEGER, CanonicalError
from gateway.core.instant import Instant
from gateway.core.record import (
    LEAF_SIZE_MAX_BYTES,
    Artifact,
    DeviceTime,
    Draft,
    ProfileRef,
    check_draft,
    encode_leaf,
    parse_leaf,
)
from gateway.ledger.grammar import FormatError
from gateway.ledger.scan import read_leaf

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(
    lambda item: unicodedata.normalize("NFC", item)
)
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
SIZE = st.integers(0, MAX_SAFE_INTEGER)
NANOS = st.integers(0, 2**63)
DATA = st.dictionaries(st.text("abc_", min_size=1, max_size=5), st.none() | st.booleans() | SIZE | TEXT, max_size=4)
ARTIFACT = st.builds(Artifact, HEX, SIZE, TEXT, TEXT, st.binary(max_size=9).map(bytes.hex))
DRAFT = st.builds(
    Draft,
    kind=TEXT,
    source=TEXT,
    device=TEXT,
    data=DATA,
    raw=st.none() | st.binary(max_size=50),
    artifacts=st.lists(ARTIFACT, max_size=3).map(tuple),
    profile=st.none() | st.builds(ProfileRef, TEXT, HEX),
    device_time=st.none() | st.builds(DeviceTime, TEXT, TEXT, TEXT),
)
INSTANT = st.builds(Instant, st.binary(min_size=16, max_size=16).map(bytes.hex), SIZE, NANOS, NANOS)


@given(DRAFT, INSTANT, SIZE, st.binary(min_size=16, max_size=16))
def test_a_leaf_gives_everything_back(draft: Draft, instant: Instant, seq: int, salt: bytes) -> None:
    check_draft(draft, instant)
    leaf = encode_leaf(draft, instant, seq, salt)
    record = parse_leaf(leaf)
    assert (record.seq, record.salt, record.instant) == (seq, salt.hex(), instant)
    assert Draft(
        record.kind, record.source, record.device, record.data, record.raw,
        record.artifacts, record.profile, record.device_time,
    ) == draft  # fmt: skip
    assert record.extra == {}
    assert canonical.encode(json.loads(leaf)) == leaf
    if len({item.sha256 for item in draft.artifacts}) == len(draft.artifacts):
        view = read_leaf(leaf)
        assert (view.seq, view.kind, int(view.utc_ns)) == (seq, draft.kind, instant.utc_ns)
        assert [item.sha256 for item in view.artifacts] == [item.sha256 for item in draft.artifacts]


@given(DRAFT, INSTANT, SIZE, st.binary(min_size=16, max_size=16))
def test_a_leaf_is_the_canonical_encoding_of_the_whole_object(
    draft: Draft, instant: Instant, seq: int, salt: bytes
) -> None:
    whole = {
        "v": 1,
        "seq": seq,
        "kind": draft.kind,
        "source": draft.source,
        "device": draft.device,
        "salt": salt.hex(),
        "boot": instant.boot,
        "epoch": instant.epoch,
        "mono_ns": str(instant.mono_ns),
        "utc_ns": str(instant.utc_ns),
        "device_time": draft.device_time and asdict(draft.device_time),
        "profile": draft.profile and asdict(draft.profile),
        "data": draft.data,
        "raw": None if draft.raw is None else base64.b64encode(draft.raw).decode(),
        "artifacts": [asdict(item) for item in draft.artifacts],
    }
    assert encode_leaf(draft, instant, seq, salt) == canonical.encode(whole)


SAMPLE = json.loads(encode_leaf(Draft("alarm", "gateway", "", {"code": "x"}), Instant("a" * 32, 1, 2, 3), 4, b"s" * 16))


def test_a_leaf_above_the_limit_is_refused() -> None:
    with pytest.raises(FormatError, match="at most 262144"):
        read_leaf(b" " * (LEAF_SIZE_MAX_BYTES + 1))


def test_a_record_of_a_later_version_is_refused_by_both_readers() -> None:
    content = json.dumps({**SAMPLE, "v": 2}).encode()
    with pytest.raises(ValueError, match="newer Fieldgate"):
        parse_leaf(content)
    with pytest.raises(FormatError, match="newer Fieldgate"):
        read_leaf(content)


def test_keys_of_a_later_version_are_kept() -> None:
    assert parse_leaf(json.dumps({**SAMPLE, "later": 1}).encode()).extra == {"later": 1}
    assert read_leaf(json.dumps({**SAMPLE, "later": 1}).encode()).seq == 4


@pytest.mark.parametrize("key", sorted(SAMPLE))
def test_a_leaf_without_one_of_its_keys_is_refused(key: str) -> None:
    content = json.dumps({name: value for name, value in SAMPLE.items() if name != key}).encode()
    with pytest.raises(ValueError, match="record"):
        parse_leaf(content)
    with pytest.raises(FormatError, match="record"):
        read_leaf(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2}, {"v": "1"}, {"seq": "4"}, {"seq": True}, {"kind": 1}, {"raw": "*"}, {"raw": 5}, {"utc_ns": "x"},
        {"utc_ns": 3}, {"data": 7}, {"artifacts": [{}]}, {"artifacts": 1}, {"profile": {"id": "x"}}, {"device_time": 3},
    ],
)  # fmt: skip
def test_a_leaf_with_wrong_values_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="."):
        parse_leaf(json.dumps({**SAMPLE, **changes}).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"null", b"\xff", b"{", b"[" * 100_000, b'{"v":1}'])
def test_bytes_that_are_no_record_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        parse_leaf(content)
    with pytest.raises(FormatError):
        read_leaf(content)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_value_errors(content: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        parse_leaf(content)
    with pytest.raises(FormatError):
        read_leaf(content)


@pytest.mark.parametrize(
    ("draft", "place"),
    [
        (Draft("k", "s", "d", {"x": 1.5}), "data.x"),
        (Draft("k", "s", "e\u0301", {}), "device"),
        (Draft("k", "s", "d", {}, artifacts=(Artifact("a", 2**53, "", "", ""),)), r"artifacts\[0\]"),
        (Draft("e\u0301", "s", "d", {}), "kind"),
        (Draft("k", "\ud800", "d", {}), "source"),
        (Draft("k", "s", "d", {}, profile=ProfileRef("e\u0301", "")), "profile.id"),
        (Draft("k", "s", "d", {}, device_time=DeviceTime("", "e\u0301", "")), "device_time.zone"),
    ],
)
def test_a_draft_outside_the_profile_is_refused_before_it_is_stored(draft: Draft, place: str) -> None:
    with pytest.raises(CanonicalError, match=place):
        check_draft(draft, Instant("a" * 32, 1, 2, 3))
