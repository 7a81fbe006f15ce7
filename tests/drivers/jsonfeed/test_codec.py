"""JSON messages: what RFC 8259 says, nothing else, within limits; and where each value stands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jsonfeed import codec
from drivers.jsonfeed.codec import Document, Leaf, Malformed, leaves, parse, point
from firmware_profiles.feed_model import steps_of


def plain(node: codec.Node) -> Any:
    """As the standard library gives it, with numbers as texts."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    return {"true": True, "false": False, "null": None}[node.text] if node.kind == "word" else node.text


def read(text: str) -> Document:
    found = parse(text.encode())
    assert isinstance(found, Document), found
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 2]), st.booleans())
def test_what_is_json_is_read_as_the_standard_library_reads_it(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert plain(read(text).root) == json.loads(text, parse_int=str, parse_float=str)


@given(st.text(alphabet='{}[]":,0123456789.eE+-\\ \n\ttrufalsn', max_size=40))
def test_what_is_no_json_is_refused_as_the_standard_library_refuses_it(text):
    found = parse(text.encode())
    try:
        wanted = json.loads(text, parse_constant=lambda _: 1 / 0, parse_int=str, parse_float=str)
    except (ValueError, ZeroDivisionError):
        assert isinstance(found, Malformed), text
    else:
        assert isinstance(found, Document) or found.reason == "duplicate-key", text
        if isinstance(found, Document):
            assert plain(found.root) == wanted


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_malformed(body):
    assert isinstance(parse(body), Document | Malformed)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "json"), (b"{", "json"), (b'{"a":}', "json"), (b'{"a" 1}', "json"), (b"[1,]", "json"),
        (b"{'a':1}", "json"),
        (b"NaN", "json"), (b'{"a":Infinity}', "json"), (b"[-Infinity]", "json"), (b"01", "json"), (b"1.", "json"),
        (b".5", "json"), (b"+1", "json"), (b"1e", "json"), (b"truex", "json"), (b'"a\nb"', "json"),
        (b'"\\x41"', "json"),
        (b"1 2", "json"), (b"[1]]", "json"), (b'"\xff"', "encoding"), ('{"名":1}'.encode("gbk"), "encoding"),
        ('{"a":1}'.encode("utf-16"), "encoding"), (b'{"a":1,"a":2}', "duplicate-key"),
        (b'{"b":[{"a":1,"\\u0061":2}]}', "duplicate-key"), (b"[" * 34 + b"]" * 34, "depth"),
        (b"[" * 100_000, "depth"), (b'{"a":' * 20_000, "depth"), (b"[" + b"1," * 20_001 + b"1]", "values"),
        (b" " * (codec.BODY_MAX_BYTES + 1), "size"),
    ],
)  # fmt: skip
def test_hostile_messages(body, reason):
    found = parse(body)
    assert isinstance(found, Malformed)
    assert found.reason == reason
    assert len(found.detail) < 200


def test_the_deepest_that_is_read():
    assert isinstance(parse(b"[" * 33 + b"]" * 33), Document)


def test_long_numbers_cost_nothing_and_stay_as_they_are():
    digits = "9" * 100_000
    leaf = read(f"[{digits}]").root[0]
    assert isinstance(leaf, Leaf)
    assert leaf.text == digits


def test_a_byte_order_mark_is_no_harm():
    document = read('\ufeff{"a": 1}')
    assert plain(document.root) == {"a": "1"}
    assert document.replaced({}) == b'\xef\xbb\xbf{"a": 1}'


@given(JSON)
def test_every_leaf_stands_where_it_says(value):
    document = read(json.dumps({"x": value}))
    for leaf in (*leaves(document.root), *document.keys):
        piece = document.text[leaf.start : leaf.end]
        assert (json.loads(piece) if leaf.kind == "text" else piece) == leaf.text


def test_only_what_is_named_is_replaced():
    text = ' {"a" : "1",\n "b":[2, {"c":null}], "d\\u0065": "x"}'
    document = read(text)
    two = point(document.root, ("b", "0"))
    key = document.keys[-1]
    assert isinstance(two, Leaf)
    changed = document.replaced({key: 'né"w', two: "zwei"}).decode()
    assert json.loads(changed) == {"a": "1", "b": ["zwei", {"c": None}], 'né"w': "x"}
    assert changed.startswith(' {"a" : "1",\n "b":["zwei", {"c":null}], ')


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/a/0", "1"), ("/a/1/b~1c", "2"), ("/a/1/~0", "3"), ("/a/01", None), ("/a/-", None), ("/a/2", None),
        ("/a/٠", None), ("/x", None), ("/a/0/y", None), ("/a/99999999999999", None), ("/", "4"),
    ],
)  # fmt: skip
def test_pointers(pointer, value):
    root = read('{"a": [1, {"b/c": 2, "~": 3}], "": 4}').root
    found = point(root, steps_of(pointer) or ())
    assert (found.text if isinstance(found, Leaf) else found) == value


def test_what_is_no_pointer():
    assert [steps_of(text) for text in ("a", "a/b", "/~2", "/~", "/" + "x" * 300)] == [None] * 5
    assert steps_of("") == ()
