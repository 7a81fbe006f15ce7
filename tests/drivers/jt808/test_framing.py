"""Frames: whatever comes, however it is cut, the decoder stays upright and gives the same."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bits import named_bits, signed
from drivers.checksum import xor8
from drivers.jt808.codec import (
    Address,
    Decoder,
    EncodeError,
    Frame,
    Heartbeat,
    Limits,
    Malformed,
    Opaque,
    Version,
    encode,
    identity_of,
    parse,
    read_datagram,
    write_frame,
)
from drivers.jt808.framing import escape, unescape

BEAT = bytes.fromhex("7e000200000138001380000005ad7e")
PHONE = Address.of("13800138000", Version.V2013)
NEW = Address.of("13800138000", Version.V2019)

pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\x7e", b"\x7d", b"\x7d\x01", b"\x7d\x02", b"\x7e\x7e"]),
        st.builds(
            lambda msg_id, body, serial, new: write_frame(msg_id, body, NEW if new else PHONE, serial),
            st.sampled_from([0x0002, 0x0100, 0x0102, 0x0104, 0x0200, 0x0704, 0x0801, 0x8003, 0x8606, 0x1234]),
            st.binary(max_size=120),
            st.integers(0, 0xFFFF),
            st.booleans(),
        ),
    ),
    max_size=12,
).map(b"".join)


def all_of(decoder: Decoder, chunks: list[bytes]) -> list[Frame | Malformed]:
    found = [one for chunk in chunks for one in decoder.feed(chunk)]
    return [*found, *decoder.finish()]


@given(pieces, st.lists(st.integers(0, 600), max_size=12))
def test_any_bytes_in_any_chunks_give_the_same_and_never_raise(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(edges)]
    whole = all_of(Decoder(), [data])
    assert all_of(Decoder(), chunks) == whole
    assert all_of(Decoder(), [data[n : n + 1] for n in range(len(data))]) == whole
    assert b"".join(one.raw.strip(b"\x7e") for one in whole) == data.replace(b"\x7e", b"")
    for one in whole:
        if isinstance(one, Frame):
            message = parse(one)
            if not one.total and not one.encryption and not one.reserved:
                again = write_frame(one.msg_id, message.write(one.version), Address.of_frame(one), one.serial)
                assert again == one.raw or not isinstance(message, Opaque)


@given(st.binary(max_size=300))
def test_escapes_round_trip(data: bytes) -> None:
    assert unescape(escape(data)) == data
    assert b"\x7e" not in escape(data)


@given(st.binary(max_size=300))
def test_check_byte_is_the_xor_of_all(data: bytes) -> None:
    expected = 0
    for byte in data:
        expected ^= byte
    assert xor8(data) == expected


def test_a_hundred_thousand_mutations_never_raise() -> None:
    chance = random.Random(808)
    bodies = [bytes.fromhex("000000030048030301d27a800733f7c0000a01c2005a260301083000") + b"\x01\x04\0\0\0\1"]
    frames = [
        write_frame(msg_id, bodies[0], address, 7) for msg_id in (0x0200, 0x0801, 0x8606) for address in (PHONE, NEW)
    ]
    decoder, kept = Decoder(), 0
    for _ in range(100_000):
        raw = bytearray(chance.choice(frames))
        for _ in range(chance.randrange(1, 3)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        for found in decoder.feed(bytes(raw)):
            if isinstance(found, Frame):
                parse(found)
                kept += 1
        assert decoder.held_bytes < 4096
    assert 0 < kept < 20_000


def test_one_delimiter_may_serve_two_frames_and_runs_of_them_none() -> None:
    beats = read_datagram(BEAT[:-1] + BEAT + b"\x7e\x7e\x7e" + BEAT)
    assert [one.raw for one in beats] == [BEAT] * 3


def test_a_truncated_frame_costs_itself_only() -> None:
    first, second = read_datagram(BEAT[:9] + BEAT)
    assert isinstance(first, Malformed)
    assert first.reason == "short"
    assert isinstance(second, Frame)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x7e\x00\x02\x7e", "short"),
        (BEAT[:5] + b"\x7d\x03" + BEAT[5:], "escape"),
        (b"\x7e" + b"\x01" * 12 + b"\x7d\x7e", "escape"),
        (BEAT[:-2] + b"\x00\x7e", "check"),
        (b"\x7e\x00\x02\x00\x01" + BEAT[5:-2] + b"\xac\x7e", "length"),
        (b"\x7e\x00\x02\x40\x00" + BEAT[5:-2] + bytes((0xAD ^ 0x40,)) + b"\x7e", "length"),
        (BEAT[:-1], "unfinished"),
        (b"GET / HTTP/1.1\r\n\r\n", "unfinished"),
    ],
)
def test_what_is_no_frame_says_why(data: bytes, reason: str) -> None:
    (found,) = read_datagram(data)
    assert isinstance(found, Malformed)
    assert found.reason == reason
    assert found.detail
    assert found.raw == data.strip(b"\x7e")


def test_seventy_kilobytes_without_a_delimiter_are_given_out_in_blocks_and_the_next_frame_is_read() -> None:
    decoder = Decoder()
    junk = random.Random(1).randbytes(70_000).replace(b"\x7e", b"\x00")
    found: list[Frame | Malformed] = []
    for at in range(0, len(junk), 999):
        found += decoder.feed(junk[at : at + 999])
        assert decoder.held_bytes < 4096
    found += decoder.feed(BEAT)
    assert isinstance(found[-1], Frame)
    assert {one.reason for one in found if isinstance(one, Malformed)} == {"overlong"}
    assert b"".join(one.raw for one in found[:-1]) == junk
    assert len(found) == 70_000 // 4096 + 2


def test_a_block_of_exactly_the_limit_leaves_nothing_behind() -> None:
    decoder = Decoder(Limits(3000))
    (block,) = decoder.feed(b"\x01" * 3000)
    assert isinstance(block, Malformed)
    assert decoder.held_bytes == 0
    assert [one.raw for one in decoder.feed(BEAT)] == [BEAT]


def test_a_limit_that_would_refuse_good_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="segment_bytes must exceed 2090"):
        Limits(2090)


def test_a_broken_link_leaves_nothing_for_the_next_one() -> None:
    decoder = Decoder()
    assert decoder.feed(BEAT[:8]) == []
    assert [one.reason for one in decoder.finish()] == ["unfinished"]
    assert decoder.finish() == []
    assert [one.raw for one in decoder.feed(BEAT)] == [BEAT]


def test_header_fields_of_both_layouts() -> None:
    raw = write_frame(0x0801, b"\x7e\x7d", NEW, 0xFFFF, part=(3, 2), encryption=1)
    (frame,) = read_datagram(raw)
    assert isinstance(frame, Frame)
    assert (frame.msg_id, frame.version, frame.protocol, frame.serial) == (0x0801, Version.V2019, 1, 0xFFFF)
    assert (frame.total, frame.index, frame.encryption, frame.reserved, frame.body) == (3, 2, 1, False, b"\x7e\x7d")
    assert frame.phone == "00000000013800138000"
    assert frame.identity == "13800138000"
    (old,) = read_datagram(BEAT)
    assert isinstance(old, Frame)
    assert (old.version, old.protocol, old.total, old.identity) == (Version.V2013, 0, 0, "13800138000")


@pytest.mark.parametrize(
    ("field", "identity"),
    [
        ("013800138000", "13800138000"),
        ("00000000013800138000", "13800138000"),
        ("000000000000", "0"),
        ("2c944ab787a7", "490154203237518"),  # 14 digits of an IMEI in binary, with the check digit they lead to
        ("0000000000ff", "hex:0000000000ff"),
        ("4f07788ef87600000000", "hex:4f07788ef87600000000"),
    ],
)
def test_identity_of_a_phone_field(field: str, identity: str) -> None:
    assert identity_of(bytes.fromhex(field)) == identity


def test_long_messages_become_packets_with_serial_numbers_that_wrap() -> None:
    sent = encode(Opaque(0x8108, bytes(2500), "unknown"), PHONE, 0xFFFF)
    packets = [one for raw in sent for one in read_datagram(raw)]
    assert [(one.serial, one.total, one.index, len(one.body)) for one in packets if isinstance(one, Frame)] == [
        (0xFFFF, 3, 1, 1023),
        (0, 3, 2, 1023),
        (1, 3, 3, 454),
    ]


def test_encrypted_bodies_and_packets_are_not_read() -> None:
    for changes in ({"encryption": 1}, {"part": (2, 1)}):
        (frame,) = read_datagram(write_frame(0x0002, b"", PHONE, 1, **changes))  # type: ignore[arg-type]
        assert isinstance(frame, Frame)
        message = parse(frame)
        assert isinstance(message, Opaque)
        assert message.reason in ("encrypted", "packet")
    (beat,) = read_datagram(BEAT)
    assert isinstance(beat, Frame)
    assert parse(beat) == Heartbeat()


def test_what_cannot_be_sent_says_so() -> None:
    with pytest.raises(EncodeError, match="use up to 12 digits"):
        Address.of("1380013800012", Version.V2013)
    with pytest.raises(EncodeError, match="use up to 12 digits"):
        Address.of("1380x", Version.V2013)
    with pytest.raises(EncodeError, match="phone field has 6 bytes"):
        Address(Version.V2019, bytes(6))
    with pytest.raises(EncodeError, match="1024 bytes where 1023"):
        write_frame(1, bytes(1024), PHONE, 1)
    with pytest.raises(EncodeError, match="70000 packets"):
        encode(Opaque(1, bytes(70_000), ""), PHONE, 1, part_bytes=1)


def test_bits_and_signs() -> None:
    assert named_bits(0b1010, {1: "one"}) == {"one", "bit3"}
    assert (signed(0xFFFF, 16), signed(0x7FFF, 16)) == (-1, 32767)
