"""Range and conditional requests: RFC 9110 sections 13 and 14."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.ranges import Selection, select

ETAG = "abc"
SIZE = 1000


def get(method: str = "GET", size: int = SIZE, **headers: str) -> Selection:
    return select(method, {name.replace("_", "-"): value for name, value in headers.items()}, ETAG, size)


WHOLE = Selection(200, 0, SIZE)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 1000),
        ("bytes=10-19", 10, 20),
        ("bytes=999-", 999, 1000),
        ("bytes=999-5000", 999, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-5000", 0, 1000),
        ("BYTES= 5-6 ", 5, 7),
    ],
)
def test_one_range_is_served(header: str, start: int, end: int) -> None:
    assert get(range=header) == Selection(206, start, end, f"bytes {start}-{end - 1}/1000")


@pytest.mark.parametrize(
    "header",
    [
        "bytes=2-1",
        "bytes=-",
        "bytes=",
        "bytes",
        "items=0-1",
        "bytes=0-1,5-6",
        "bytes=a-b",
        "bytes=0-1x",
        "bytes=٣-٤",
        "",
    ],
)
def test_what_is_not_one_byte_range_is_ignored(header: str) -> None:
    assert get(range=header) == WHOLE


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=9999999999999999999-"])
def test_a_range_outside_is_not_satisfiable(header: str) -> None:
    assert get(range=header) == Selection(416, 0, 0, "bytes */1000")


def test_nothing_of_an_empty_content_is_satisfiable() -> None:
    assert get(range="bytes=0-", size=0).status == 416
    assert get(size=0) == Selection(200, 0, 0)


def test_range_is_for_get_only() -> None:
    assert get("HEAD", range="bytes=0-1") == WHOLE


@pytest.mark.parametrize(
    ("if_range", "status"),
    [('"abc"', 206), ('W/"abc"', 200), ('"other"', 200), ("abc", 200), ("Sat, 21 Nov 2026 00:00:00 GMT", 200)],
)
def test_if_range_needs_the_same_strong_tag(if_range: str, status: int) -> None:
    assert get(range="bytes=1-2", if_range=if_range).status == status


@pytest.mark.parametrize(
    ("header", "none_match", "match"),
    [
        ('"abc"', 304, 200),
        ('W/"abc"', 304, 412),
        ('"x", W/"y" , "abc"', 304, 200),
        ("*", 304, 200),
        ('"x"', 200, 412),
        ("abc", 200, 412),
        ("", 200, 412),
        ('"abc', 200, 412),
    ],
)
def test_if_none_match_and_if_match(header: str, none_match: int, match: int) -> None:
    assert get(if_none_match=header).status == none_match
    assert get(if_match=header).status == match


def test_preconditions_come_before_the_range() -> None:
    assert get(range="bytes=5000-", if_none_match='"abc"').status == 304
    assert get(range="bytes=5000-", if_match='"x"').status == 412


@given(
    st.dictionaries(
        st.sampled_from(["range", "if-range", "if-match", "if-none-match"]),
        st.text(max_size=30) | st.from_regex(r'bytes=\d{0,20}-\d{0,20}|"[a-c]{1,3}"', fullmatch=True),
    ),
    st.integers(0, 2000),
)
def test_any_header_gives_a_range_within_the_content(headers: dict[str, str], size: int) -> None:
    chosen = select("GET", headers, ETAG, size)
    assert 0 <= chosen.start <= chosen.end <= size
    assert (chosen.status == 206) == (chosen.content_range is not None and chosen.start < chosen.end)
    assert chosen.status in (200, 206, 304, 412, 416)
