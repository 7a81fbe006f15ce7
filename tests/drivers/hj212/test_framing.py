"""Frames come out of any stream whole, in order, and for any way to cut it; what is no frame is told and bounded."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.hj212.framing import (
    HELD_MAX_BYTES,
    NOISE_PIECE_BYTES,
    RAW_KEPT_BYTES,
    Decoder,
    Frame,
    Malformed,
    crc,
    crc_modbus_low_first,
    written,
)

GOOD = written(b"QN=20260302183000123;ST=31;CN=2011;PW=123456;MN=0A10000000000000FD010001;Flag=5;CP=&&DataTime=1&&")
BARE = GOOD[:-2]


def by_the_book(segment: bytes) -> int:
    """The loop of HJ 212-2017 annex A."""
    register = 0xFFFF
    for byte in segment:
        register = (register >> 8) ^ byte
        for _ in range(8):
            bit = register & 1
            register >>= 1
            if bit:
                register ^= 0xA001
    return register


@pytest.mark.parametrize(("text", "value"), [(b"123456789", 0x2F80), (b"A", 0x7080), (b"", 0xFFFF)])
def test_crc_has_its_check_values(text, value):
    assert crc(text) == value


def test_crc_of_the_examples_of_2017_and_2025():
    head = b"QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;CP=&&"
    assert crc(head + b"RtdInterval=30&&") == 0x1C80
    newer = b"QN=20240601085857223;ST=32;CN=1011;PW=123456;MN=010000A8900016F000169DC0;Flag=9;CP=&&&&"
    assert written(newer) == b"##0087" + newer + b"2200\r\n"


@given(st.binary(max_size=400))
def test_crc_is_that_of_the_book(segment):
    assert crc(segment) == by_the_book(segment)


def test_crc_of_modbus_is_another_one():
    assert crc_modbus_low_first(b"123456789") == 0x374B


def test_crc_proves_nothing():
    """256 values; equal changes eight bytes apart cancel out, so 1.98 becomes 9.98 unseen."""
    dice = random.Random(212)
    assert len({crc(dice.randbytes(12)) for _ in range(20_000)}) == 256
    honest = bytearray(b"CP=&&a34041-Rtd=1.98,a34041-Min=1.00&&")
    forged = bytearray(honest)
    for at in (16, 24):
        forged[at] ^= ord("1") ^ ord("9")
    assert forged != honest
    assert crc(bytes(forged)) == crc(bytes(honest))


def pieces(stream: bytes, **more) -> list[Frame | Malformed]:
    decoder = Decoder(**more)
    return [*decoder.feed(stream), *decoder.finish()]


def test_sticky_frames_with_and_without_line_ends():
    assert [one.raw for one in pieces(GOOD + BARE + BARE + b"\r\n\r\n" + GOOD)] == [BARE] * 4


def test_a_frame_is_out_with_its_last_digit():
    decoder = Decoder()
    assert decoder.feed(BARE[:-1]) == []
    (frame,) = decoder.feed(BARE[-1:])
    assert isinstance(frame, Frame)
    assert (frame.segment, frame.crc) == (BARE[6:-4], "hj212")
    assert decoder.feed(b"\r\n") == []
    assert decoder.held_bytes == 0
    assert decoder.finish() == []


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (b"\x00\xff garbage##00", "noise"),
        (b"##12", "noise"),
        (b"#", "noise"),
        (BARE[:80], "noise"),
        (BARE[:-4] + b"ABCD", "crc"),
        (BARE[:-4] + b"ABCD\r\n", "crc"),
        (BARE[:-4] + b"12 4", "noise"),
        ("日志：风机##0001".encode(), "noise"),
        ("油烟".encode("gbk"), "noise"),
    ],
)
def test_what_stands_before_a_frame_does_not_cost_it(before, reason):
    found = pieces(before + GOOD)
    assert [type(one) for one in found] == [Malformed, Frame]
    assert found[0].reason == reason
    assert found[0].raw == before.removesuffix(b"\r\n")
    assert found[1].raw == BARE


def test_each_frame_with_a_wrong_crc_is_told_as_one():
    bad = BARE[:-4] + b"ABCD"
    found = pieces((bad + b"\r\n") * 3 + GOOD + bad)
    assert [getattr(one, "reason", "frame") for one in found] == ["crc", "crc", "crc", "frame", "crc"]
    assert [one.raw for one in found] == [bad, bad, bad, BARE, bad]
    assert found[0].detail == f"CRC ABCD, right were {crc(BARE[6:-4]):04X}"


def test_a_frame_in_lower_case_digits_is_one():
    segment = b"QN=1;CP=&&a&&"
    text = written(segment)[:-2]
    frame = text[:-4] + text[-4:].lower()
    (found,) = pieces(frame)
    assert (found.raw, found.segment) == (frame, segment)


def test_the_other_crc_counts_only_where_it_is_set():
    frame = written(BARE[6:-4], "modbus_low_byte_first")[:-2]
    (refused,) = pieces(frame)
    assert (refused.reason, refused.raw) == ("crc-variant", frame)
    (taken,) = pieces(frame, variant_of=lambda _: "modbus_low_byte_first")
    assert taken.crc == "modbus_low_byte_first"
    (standard,) = pieces(BARE, variant_of=lambda _: "modbus_low_byte_first")
    assert standard.crc == "hj212"


def test_a_length_beyond_the_standard_is_read():
    for size in (1025, 1623, 9999):
        (found,) = pieces(written(b"x" * size))
        assert len(found.segment) == size
    with pytest.raises(ValueError, match="9999"):
        written(b"x" * 10_000)


def test_a_false_head_holds_frames_back_only_until_it_is_looked_into():
    decoder = Decoder()
    assert decoder.feed(b"##9999" + GOOD + GOOD) == []
    found = decoder.look_inside()
    assert [type(one) for one in found] == [Malformed, Frame, Frame]
    assert decoder.held_bytes == 0


def test_looking_into_half_a_frame_gives_nothing_up():
    decoder = Decoder()
    decoder.feed(BARE[:50])
    assert decoder.look_inside() == []
    (frame,) = decoder.feed(BARE[50:])
    assert frame.raw == BARE


def test_noise_is_told_in_pieces_and_its_bytes_are_bounded():
    found = pieces(b"x" * (3 * NOISE_PIECE_BYTES + 5))
    assert [one.size_bytes for one in found] == [NOISE_PIECE_BYTES] * 3 + [5]
    assert all(len(one.raw) <= RAW_KEPT_BYTES for one in found)


def test_heads_in_heads_cost_no_more_than_a_few_times_their_bytes(monkeypatch):
    counted = []
    monkeypatch.setattr("drivers.hj212.framing.crc", lambda segment: counted.append(len(segment)) or 0x10000)
    stream = b"##9999" * 20_000
    pieces(stream)
    assert sum(counted) < 6 * len(stream)


def test_after_such_a_stream_frames_come_out_again():
    decoder = Decoder()
    for _ in range(20):
        decoder.feed(b"##0994" * 170 + b"CP")
    frames = 0
    for _ in range(2000):
        frames += sum(isinstance(one, Frame) for one in decoder.feed(GOOD))
    assert frames > 1990


streams = st.lists(
    st.one_of(
        st.just(GOOD), st.just(BARE), st.just(BARE[:-4] + b"0000"), st.just(b"##0090"), st.just(b"#"),
        st.just(b"\r\n"), st.just(written(b"")), st.integers(1, 100).map(lambda n: BARE[:n]),
        st.just(b"##0031CP=&&{0xE4,0x3E,0x01}tail&&&&1234"), st.binary(max_size=60),
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@given(streams, st.lists(st.integers(1, 90), min_size=1, max_size=40))
def test_any_cut_gives_the_same(stream, cuts):
    whole = pieces(stream)
    decoder = Decoder()
    found: list[Frame | Malformed] = []
    at = number = 0
    while at < len(stream):
        step = cuts[number % len(cuts)]
        found += decoder.feed(stream[at : at + step])
        assert decoder.held_bytes <= HELD_MAX_BYTES
        at, number = at + step, number + 1
    assert [*found, *decoder.finish()] == whole


@given(streams)
def test_every_byte_is_in_a_frame_or_told_or_a_line_end(stream):
    told = sum(len(one.raw) if isinstance(one, Frame) else one.size_bytes for one in pieces(stream))
    assert len(stream) - stream.count(b"\r") - stream.count(b"\n") <= told <= len(stream)
