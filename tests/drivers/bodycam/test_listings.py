"""Pages of HTTP listings: by pointers, and hostile ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bodycam.codec import Malformed, NameCodec
from drivers.bodycam.listings import Page, read_page
from firmware_profiles.loader import load
from gateway.core import canonical

CODEC = NameCodec(load("generic-http").profile)
LISTING = CODEC.profile.listing
assert LISTING is not None


def page(value: Any) -> Page:
    found = read_page(json.dumps(value).encode(), LISTING, CODEC)
    assert isinstance(found, Page), found
    return found


def item(**more: Any) -> dict[str, Any]:
    return {"name": "a.mp4", "url": "/a", **more}


def test_everything_in_its_place():
    found = page({"items": [item(size=3, mtime="m1", device="77", time="2026-03-02T08:00:00Z")], "next": "/p2"})
    assert found.next_url == "/p2"
    only = found.items[0]
    assert (only.path, only.url, only.size_bytes, only.version, only.sha256) == (b"a.mp4", "/a", 3, "m1", "")
    assert only.fields == {"device": "77"}
    assert only.time is not None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (item(name=""), "no-name"),
        (item(name=7), "no-name"),
        (item(name="x" * 1025), "name-too-long"),
        (item(url=""), "no-url"),
        (item(url="/a\nb"), "no-url"),
        (item(url=None), "no-url"),
        (item(size=-1), "bad-size"),
        (item(size="many"), "bad-size"),
        (item(sha256="abc"), "bad-sha256"),
        ("not an object", "no-name"),
    ],
)
def test_items_that_cannot_be_used_are_named(row, reason):
    found = page({"items": [row, item()]})
    assert [one.path for one in found.items] == [b"a.mp4"]
    assert found.refused[0][1] == reason


def test_odd_names_are_bytes():
    found = page({"items": [item(name="../x"), item(name="a\x00b"), item(name="\ud800"), item(name="执.mp4")]})
    assert [one.path for one in found.items] == [b"../x", b"a\x00b", b"\xed\xa0\x80", "执.mp4".encode()]


def test_sizes_may_be_texts_or_missing():
    found = page({"items": [item(size="12"), item(size=""), item(size=None)]})
    assert [one.size_bytes for one in found.items] == [12, None, None]


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"items": 3}', b"<html>", b"{", b"null", b'{"code": 401}'])
def test_what_is_no_page(raw):
    assert isinstance(read_page(raw, LISTING, CODEC), Malformed)


def test_null_is_an_empty_page():
    assert page({"items": None}).items == ()


def test_an_endless_page_is_refused():
    assert isinstance(read_page(json.dumps({"items": [0] * 10_001}).encode(), LISTING, CODEC), Malformed)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=9) | st.floats(), st.lists))
def test_any_json_in_a_page(value):
    found = page({"items": [item(size=value, device=value, time=value, sha256=value), value], "next": value})
    for one in found.items:
        canonical.check(one.fields)
