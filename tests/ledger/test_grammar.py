from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import grammar
from gateway.ledger.grammar import FormatError


@pytest.mark.parametrize("gateway_id", ["a", "gw-0001.example", "0", "a" * 63])
def test_an_origin_gives_its_gateway_id_back(gateway_id: str) -> None:
    assert grammar.gateway_id_of(grammar.origin_of(gateway_id)) == gateway_id


@pytest.mark.parametrize("gateway_id", ["", "a" * 64, "A", "-a", "a-", ".a", "a..b", "a/b", "a b", "é", "a\n"])
def test_a_gateway_id_outside_the_grammar_is_refused(gateway_id: str) -> None:
    with pytest.raises(FormatError, match="gateway id"):
        grammar.origin_of(gateway_id)


@pytest.mark.parametrize("origin", ["", "gw", "gw/", "gw/evidences", "/evidence", "gw/evidence/"])
def test_an_origin_outside_the_grammar_is_refused(origin: str) -> None:
    with pytest.raises(FormatError):
        grammar.gateway_id_of(origin)


@given(st.binary(min_size=32, max_size=32))
def test_a_hash_has_exactly_one_text(digest: bytes) -> None:
    text = grammar.base64_of(digest)
    assert grammar.hash_of(text) == digest
    last = text[42]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = alphabet[alphabet.index(last) ^ 1]
    with pytest.raises(FormatError, match="base64"):
        grammar.hash_of(text[:42] + twin + "=")


@pytest.mark.parametrize("text", ["", "=", "AAAA", "A" * 44, "A" * 43 + "*", "\xe9" * 44])
def test_a_text_that_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        grammar.hash_of(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_cut_to_whole_seconds_and_come_back(moment: datetime) -> None:
    text = grammar.utc_text(moment)
    assert len(text) == 20
    assert grammar.utc_of(text) == moment.replace(microsecond=0)


def test_a_time_of_another_zone_is_written_in_utc() -> None:
    zone = timezone(timedelta(hours=8))
    assert grammar.utc_text(datetime(2026, 11, 22, 6, 28, 10, tzinfo=zone)) == "2026-11-21T22:28:10Z"


@pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-02-01T24:00:00Z"])
def test_a_time_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="time"):
        grammar.utc_of(text)


def test_limits_are_enforced() -> None:
    assert grammar.text_of(b"ab", "x", 2) == "ab"
    with pytest.raises(FormatError, match="at most 2"):
        grammar.text_of(b"abc", "x", 2)
    with pytest.raises(FormatError, match="ASCII"):
        grammar.text_of("é".encode(), "x", 10)
    assert grammar.number("9007199254740991") == 2**53 - 1
    with pytest.raises(FormatError, match="2\\^53"):
        grammar.number("9007199254740992")
    for value in (-1, 2**53):
        with pytest.raises(FormatError):
            grammar.check_number(value, "x")
    with pytest.raises(FormatError):
        grammar.check_hash(b"short", "x")
    with pytest.raises(FormatError):
        grammar.check_sha256("A" * 64, "x")
