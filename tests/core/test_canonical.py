from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import canonical
from gateway.core.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, CanonicalError

TEXT = st.text(st.characters(exclude_categories=["Cs"])).map(lambda item: unicodedata.normalize("NFC", item))
KEY = st.text(st.characters(max_codepoint=127))
SCALAR = st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | TEXT
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4))


@given(VALUE)
def test_the_writer_agrees_with_an_independent_one(value: object) -> None:
    assert canonical.encode(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_every_character_is_escaped_as_json_dumps_does() -> None:
    text = "".join(map(chr, range(0x300))) + "\u2028\u2029\ufeff\U0001f69a"
    expected = json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":"))
    assert canonical.encode_checked({"text": text}) == expected.encode()


@given(st.dictionaries(KEY | st.text(), VALUE | st.floats() | st.text(), max_size=6))
def test_what_is_flat_is_inside_the_profile(value: dict[str, object]) -> None:
    if canonical.is_flat(value):
        assert canonical.encode(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_a_text_that_was_found_sound_is_flat_the_next_time() -> None:
    value = {"plate": "浙F·平湖0117"}
    canonical.check(value)
    assert canonical.is_flat(value)
    assert not canonical.is_flat({"plate": "e\u0301"})
    assert not canonical.is_flat({"plate": "x" * (canonical.SMALL_TEXT + 1)})


@given(st.dictionaries(KEY, st.tuples(SCALAR, SCALAR), max_size=4))
def test_tuples_are_arrays(value: dict[str, object]) -> None:
    assert json.loads(canonical.encode(value)) == {key: list(item) for key, item in value.items()}  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_rfc_8785_vectors(vectors: Path, name: str) -> None:
    """Inside the profile: the expected bytes. Outside (floats, keys, not NFC): refused."""
    value = json.loads((vectors / "rfc8785" / "input" / f"{name}.json").read_text("utf-8"))
    expected = (vectors / "rfc8785" / "output" / f"{name}.json").read_text("utf-8").strip()
    if name in {"values", "weird", "unicode", "structures", "french"}:
        with pytest.raises(CanonicalError):
            canonical.encode(value)
    else:
        assert canonical.encode(value) == expected.encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.0, "float"),
        ({"a": [{"b": float("nan")}]}, r"\.a\[0\]\.b"),
        (2**53, "decimal string"),
        (-(2**53), "decimal string"),
        ({"é": 1}, "ASCII"),
        ({1: 1}, "ASCII"),
        ("e\u0301", "normal form C"),
        ("\ud800", "surrogate"),
        (b"bytes", "bytes"),
        ({"a": {1, 2}}, "set"),
    ],
)
def test_what_is_outside_the_profile_is_refused_with_its_place(value: object, reason: str) -> None:
    with pytest.raises(CanonicalError, match=reason):
        canonical.encode(value)


def test_depth_is_bounded() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert canonical.encode(value)
    with pytest.raises(CanonicalError, match="nested"):
        canonical.encode([value])


def test_subclasses_of_numbers_and_text_are_not_smuggled_in() -> None:
    class Odd(int):
        pass

    with pytest.raises(CanonicalError, match="Odd"):
        canonical.encode(Odd(1))
