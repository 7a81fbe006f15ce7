"""Framing: what comes out of any bytes in any chunking."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.nmea.framing import Decoder, Limits, Malformed, Sentence, checksum, encode
from tests.drivers.nmea.lines import decoded, line

GOOD = line("GPZDA,081530.00,15,03,2026,00,00")
BARE = GOOD.rstrip()


def reasons(raw: bytes) -> list[str]:
    return [item.reason if isinstance(item, Malformed) else item.kind for item in decoded(raw)]


def test_a_sentence_is_read_to_its_last_field() -> None:
    assert decoded(b"$GNTXT,01,01,02,*53\r\n") == [
        Sentence("GN", "TXT", ("01", "01", "02", ""), b"$GNTXT,01,01,02,*53")
    ]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(GOOD + GOOD, ["ZDA", "ZDA"], id="two"),
        pytest.param(BARE + b"\r" + BARE + b"\n" + BARE, ["ZDA", "ZDA", "ZDA"], id="CR, LF or nothing at the end"),
        pytest.param(BARE + b"  \r\n\r\n\n" + GOOD, ["ZDA", "ZDA"], id="blanks and empty lines"),
        pytest.param(BARE + BARE, ["ZDA", "ZDA"], id="no line end between them"),
        pytest.param(BARE + b"!" + BARE[1:], ["ZDA", "ZDA"], id="an encapsulated one after a checksum"),
        pytest.param(b"$" + GOOD, ["cut", "ZDA"], id="a second dollar"),
        pytest.param(BARE[:20] + GOOD, ["cut", "ZDA"], id="cut by the next"),
        pytest.param(BARE[:20], ["cut"], id="cut by the end"),
        pytest.param(BARE[:-3] + b"\r\n" + GOOD, ["no-checksum", "ZDA"], id="no checksum"),
        pytest.param(BARE[:-1] + b"\r\n" + GOOD, ["checksum", "ZDA"], id="half a checksum"),
        pytest.param(BARE + b"0\r\n" + GOOD, ["checksum", "ZDA"], id="three digits of checksum"),
        pytest.param(BARE[:-2] + b"00\r\n" + GOOD, ["checksum", "ZDA"], id="wrong checksum"),
        pytest.param(b"$GPTXT,a*b*00\r\n", ["checksum"], id="a star inside"),
        pytest.param(BARE[:-2] + BARE[-2:].lower() + b"\r\n", ["ZDA"], id="small hexadecimal digits"),
        pytest.param(b"\xb5b\x01\x07\x00$\xff\x00" + GOOD, ["noise", "byte", "noise", "ZDA"], id="binary before"),
        pytest.param(BARE + b"\xb5b\x01\x07!\x00" + GOOD, ["ZDA", "noise", "byte", "noise", "ZDA"], id="binary after"),
        pytest.param(BARE[:20] + b"\xb5" + GOOD, ["byte", "noise", "ZDA"], id="binary inside"),
        pytest.param(b"# a comment\r\n" + GOOD, ["noise", "ZDA"], id="text outside"),
        pytest.param(b"$," + b"*2C\r\n", ["address"], id="no address"),
        pytest.param(b"$gpzda*68\r\n", ["address"], id="small letters"),
        pytest.param(b"\r\n\r\n", [], id="line ends alone"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_every_damage_has_its_reason(raw: bytes, expected: list[str]) -> None:
    assert reasons(raw) == expected


def test_what_is_too_long_is_cut_at_the_limit_and_costs_no_more() -> None:
    decoder = Decoder(Limits(sentence_max=40, noise_max=10))
    found = decoder.feed(b"$" + b"A" * 60 + GOOD)
    assert [(item.reason, len(item.raw)) for item in found if isinstance(item, Malformed)] == [
        ("too-long", 40),
        ("noise", 10),
        ("noise", 10),
        ("noise", 1),
    ]
    assert isinstance(found[-1], Sentence)


def test_a_checksum_that_ends_at_the_limit_by_chance_is_no_end() -> None:
    decoder = Decoder(Limits(sentence_max=len(BARE)))
    assert [type(item) for item in decoder.feed(GOOD)] == [Sentence]
    found = decoder.feed(BARE + b"7\r\n")
    assert isinstance(found[0], Malformed)
    assert found[0].reason == "too-long"


def test_memory_is_bounded_without_any_line_end() -> None:
    decoder = Decoder()
    for fill in (b"A", b"$A"):
        decoder.feed(fill)
        for _ in range(200):
            decoder.feed(b"A" * 10_000)
            assert decoder.pending_bytes <= 1024
        assert decoder.pending_bytes


def test_after_close_the_decoder_starts_anew() -> None:
    decoder = Decoder()
    assert decoder.feed(BARE) == []
    assert [type(item) for item in decoder.close()] == [Sentence]
    assert decoder.pending_bytes == 0
    assert decoder.close() == []
    assert decoder.feed(BARE[3:] + b"\r\n") == []
    assert [item.raw for item in decoder.close()] == [BARE[3:] + b"\r\n"]


PIECES = st.one_of(
    st.sampled_from(
        [GOOD, BARE, b"$", b"!", b"*", b"\r\n", b"\n", b"*4", b"\x00", line("GPTXT,x"), b"$GP" + b"9" * 300]
    ),
    st.binary(max_size=40),
)
STREAMS = st.lists(PIECES, max_size=20).map(b"".join)


@given(STREAMS, st.lists(st.integers(1, 30), min_size=1))
def test_chunking_changes_nothing(raw: bytes, sizes: list[int]) -> None:
    decoder = Decoder()
    found: list[Sentence | Malformed] = []
    at = turn = 0
    while at < len(raw):
        size = sizes[turn % len(sizes)]
        found += decoder.feed(raw[at : at + size])
        at, turn = at + size, turn + 1
    assert found + decoder.close() == decoded(raw)


@given(STREAMS)
def test_every_byte_but_line_ends_comes_out_once_and_in_order(raw: bytes) -> None:
    at = 0
    for item in decoded(raw):
        start = raw.index(item.raw, at)
        assert not raw[at:start].strip(b"\r\n")
        at = start + len(item.raw)
        assert item.raw
    assert not raw[at:].strip(b"\r\n")


@given(STREAMS)
def test_a_sentence_after_anything_but_a_dollar_is_found(raw: bytes) -> None:
    assert decoded(raw + b"\r\n" + GOOD)[-1].raw == BARE


FIELDS = st.lists(st.from_regex(re.compile(r"[ -#%-)+-~]{0,6}", re.ASCII), fullmatch=True), max_size=8)


@given(FIELDS)
def test_what_is_encoded_is_decoded(fields: list[str]) -> None:
    texts = tuple(text.replace(",", ".").replace("!", "?") for text in fields)
    raw = encode("GNTXT", texts)
    assert decoded(raw) == [Sentence("GN", "TXT", texts, raw.rstrip(b"\r\n"))]


@pytest.mark.parametrize(
    ("address", "field"), [("gptxt", ""), ("GPTXT", "a*b"), ("GPTXT", "温"), ("GPTXT", "\r"), ("G", "")]
)
def test_what_no_sentence_can_carry_is_not_encoded(address: str, field: str) -> None:
    with pytest.raises(ValueError, match="not a sentence"):
        encode(address, (field,))


def test_the_checksum_is_the_exclusive_or() -> None:
    assert checksum(b"") == 0
    assert checksum(b"GPGLL") == ord("G") ^ ord("P") ^ ord("G")
