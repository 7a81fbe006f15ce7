"""Parameters are read strictly; nothing else than a problem comes out of bad ones."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from gateway.api import query
from gateway.api.problem import ProblemError
from gateway.api.query import Query


def request(text: str) -> Request:
    return Request(
        {"type": "http", "method": "GET", "path": "/", "query_string": text.encode("latin-1"), "headers": []}
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("afer=1", "did you mean after?"),
        ("Limit=1", "did you mean limit?"),
        ("zzz=1", "takes after, limit"),
        ("%0a=1", "unknown parameter '?'"),
    ],
)
def test_unknown_parameters_are_refused_with_the_nearest_name(text: str, hint: str) -> None:
    with pytest.raises(ProblemError) as caught:
        Query(request(text), "after", "limit")
    assert hint in caught.value.detail


def test_a_path_without_parameters_says_so() -> None:
    with pytest.raises(ProblemError, match="takes none"):
        Query(request("a=1"))


def test_a_parameter_comes_once_unless_it_is_a_list() -> None:
    asked = Query(request("after=1&after=2&seq=1&seq=2"), "after", "seq")
    with pytest.raises(ProblemError, match="given 2 times"):
        asked.one("after", query.natural, 0)
    assert asked.many("seq", query.natural, 2) == [1, 2]
    with pytest.raises(ProblemError, match="at most 1"):
        asked.many("seq", query.natural, 1)


@pytest.mark.parametrize("text", ["-1", "+1", "01", "1.0", " 1", "", "٣", "9007199254740992", "1e3", "0x1"])
def test_numbers_are_plain_decimal(text: str) -> None:
    with pytest.raises(ProblemError):
        query.natural("n", text)


def test_bounds() -> None:
    assert query.natural("n", "9007199254740991") == 2**53 - 1
    assert query.limit("limit", "1000") == 1000
    for text in ("0", "1001"):
        with pytest.raises(ProblemError, match="1 to 1000"):
            query.limit("limit", text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1795500000000000001", 1795500000000000001),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t08:00:00.000000001+08:00", 1),
        ("2026-11-24T14:00:00+08:00", 1795500000000000000),
        ("2026-11-24T06:00:00.5Z", 1795500000500000000),
        ("2262-04-11T23:47:16.854775807Z", 2**63 - 1),
        ("2262-04-11T23:47:16.854775808Z", 2**63 - 1),
        ("9999-12-31T23:59:59Z", 2**63 - 1),
        ("9999-12-31T23:59:59-14:00", 2**63 - 1),
        ("1969-12-31T23:59:59Z", 0),
        ("0177-06-19T22:22:03Z", 0),
        ("0001-01-01T00:00:00+14:00", 0),
    ],
)
def test_moments(text: str, nanoseconds: int) -> None:
    assert query.moment("from", text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T00:00:00Z",
        "2026-11-24T14:00:60Z",
        "2026-11-24T14:00:00",
        "2026-11-24 14:00:00Z",
        "2026-11-24T14:00:00+99:00",
        "2026-11-24T14:00:00 08:00",
        "9223372036854775808",
        "now",
        "",
    ],
)
def test_moments_without_offset_or_outside_are_refused(text: str) -> None:
    with pytest.raises(ProblemError, match="from is"):
        query.moment("from", text)


READERS: list[Callable[[str, str], object]] = [
    query.natural, query.limit, query.kind, query.device, query.included, query.moment,
]  # fmt: skip


def refusal_of(call: Callable[[], object]) -> str | None:
    """The kind of problem that a call ends in; None where it returns. Nothing else may come out."""
    try:
        call()
    except ProblemError as error:
        return error.kind if "\n" not in error.detail else "a detail of several lines"
    return None


@given(st.sampled_from(READERS), st.text(max_size=300))
def test_any_text_is_read_or_refused(read: Callable[[str, str], object], text: str) -> None:
    assert refusal_of(lambda: read("x", text)) in (None, "bad-parameter")


@given(st.text(max_size=50))
def test_any_query_string_is_read_or_refused(text: str) -> None:
    asked = request(urlencode({"after": text}))
    assert refusal_of(lambda: Query(asked, "after").one("after", query.natural, 0)) in (None, "bad-parameter")
