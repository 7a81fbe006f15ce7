"""Packets of one message: any order, duplicates, gaps, limits, foreign numbering."""

from itertools import permutations

import pytest

from drivers.jt808.codec import (
    Abandoned,
    Address,
    Assembled,
    Frame,
    Missing,
    Opaque,
    PartLimits,
    Reassembler,
    Version,
    encode,
    read_datagram,
    write_frame,
)

PHONE = Address.of("13800138000", Version.V2013)
OLD = Address(Version.V2013, PHONE.phone_field, 0)
"""The same, as the address of an answer: a frame of 2013 names no protocol version."""
SECOND = 1_000_000_000


def packet(index: int, serial: int, total: int = 3, body: bytes = b"", msg_id: int = 0x0801) -> Frame:
    (frame,) = read_datagram(write_frame(msg_id, body or bytes((index,)), PHONE, serial, part=(total, index)))
    assert isinstance(frame, Frame)
    return frame


def photo(serial: int, body: bytes) -> list[Frame]:
    sent = encode(Opaque(0x0801, body, ""), PHONE, serial, part_bytes=1)
    return [frame for raw in sent for frame in read_datagram(raw) if isinstance(frame, Frame)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order_gives_the_message_once(order: tuple[int, ...]) -> None:
    packets, reassembler = photo(0xFFFF, b"abc"), Reassembler()
    found = [one for n in order for twice in range(2) for one in reassembler.add(packets[n], 0)]
    assert found == [Assembled(tuple(packets), b"abc", True)]
    assert found[0].msg_id == 0x0801
    assert (reassembler.held_bytes, reassembler.deadline_ns) == (0, None)
    assert reassembler.add(packets[1], SECOND) == []


def test_two_photos_at_once_are_not_mixed() -> None:
    first, second, reassembler = photo(10, b"abc"), photo(13, b"ABC"), Reassembler()
    mixed = [first[0], second[2], first[2], second[0], second[1], first[1]]
    bodies = [one.body for frame in mixed for one in reassembler.add(frame, 0) if isinstance(one, Assembled)]
    assert bodies == [b"ABC", b"abc"]


def test_foreign_numbering_is_joined_once_no_more_comes_and_is_said() -> None:
    reassembler = Reassembler()
    assert reassembler.add(packet(2, 0x04E2, 2), 0) == []
    assert reassembler.add(packet(1, 0x04D1, 2), SECOND) == []
    (whole,) = reassembler.due(11 * SECOND)
    assert isinstance(whole, Assembled)
    assert (whole.body, whole.consecutive) == (b"\x01\x02", False)
    assert (reassembler.held_bytes, reassembler.deadline_ns) == (0, None)
    assert reassembler.add(packet(2, 0x04E2, 2), 12 * SECOND) == []
    assert reassembler.deadline_ns is None


def test_foreign_numbering_is_not_joined_too_early() -> None:
    reassembler = Reassembler()
    reassembler.add(packet(1, 0x04D1, 2), 0)
    reassembler.add(packet(2, 0x04E2, 2), 9 * SECOND)
    assert [type(one) for one in reassembler.due(10 * SECOND)] == [Missing]


@pytest.mark.parametrize("other", [packet(3, 90), packet(3, 101, total=4), packet(3, 105, msg_id=0x0104)])
def test_falling_numbers_and_other_messages_are_not_joined(other: Frame) -> None:
    reassembler = Reassembler()
    for frame in (packet(1, 100), packet(2, 101), other):
        reassembler.add(frame, 0)
    assert {type(one) for one in reassembler.due(60 * SECOND)} == {Missing}
    assert len(reassembler.close()) == 2


def test_missing_packets_are_asked_for_then_given_up() -> None:
    reassembler = Reassembler()
    packets = photo(7, b"abcd")
    for frame in (packets[1], packets[3]):
        reassembler.add(frame, SECOND)
    assert reassembler.deadline_ns == 11 * SECOND
    assert reassembler.due(10 * SECOND) == []
    assert reassembler.due(11 * SECOND) == [Missing(OLD, 0x0801, 7, (1, 3))]
    assert reassembler.deadline_ns == 31 * SECOND
    reassembler.add(packets[0], 20 * SECOND)
    assert reassembler.deadline_ns == 40 * SECOND
    assert reassembler.due(40 * SECOND) == [Missing(OLD, 0x0801, 7, (3,))]
    assert len(reassembler.due(1000 * SECOND)) == 1
    assert reassembler.due(10_000 * SECOND) == [Abandoned("timeout", (packets[0], packets[1], packets[3]))]
    assert reassembler.held_bytes == 0


def test_a_serial_number_used_again_for_other_bytes_starts_a_new_message() -> None:
    reassembler = Reassembler()
    old = packet(1, 5, body=b"old")
    reassembler.add(old, 0)
    assert reassembler.add(packet(1, 5, body=b"new"), 0) == [Abandoned("conflict", (old,))]
    reassembler.add(packet(2, 6), 0)
    (whole,) = reassembler.add(packet(3, 7), 0)
    assert isinstance(whole, Assembled)
    assert whole.body == b"new\x02\x03"


@pytest.mark.parametrize(("index", "total"), [(0, 2), (3, 2)])
def test_impossible_numbers_are_refused(index: int, total: int) -> None:
    bad = packet(index, 1, total, b"x")
    assert Reassembler().add(bad, 0) == [Abandoned("numbering", (bad,))]


def test_limits_drop_the_oldest_message_with_its_packets() -> None:
    reassembler = Reassembler(PartLimits(messages=2, remembered=1))
    openers = [packet(1, serial * 10) for serial in range(3)]
    assert reassembler.add(openers[0], 0) == reassembler.add(openers[1], 0) == []
    assert reassembler.add(openers[2], 0) == [Abandoned("limit", (openers[0],))]
    small = Reassembler(PartLimits(total_bytes=50))
    big = packet(1, 1, body=bytes(100))
    assert small.add(big, 0) == [Abandoned("limit", (big,))]
    for serial in (100, 200):
        for frame in photo(serial, b"ab"):
            reassembler.add(frame, 0)
    assert len(reassembler._done) == 1


def test_a_lost_link_gives_the_packets_back() -> None:
    reassembler = Reassembler()
    half = photo(1, b"ab")[0]
    reassembler.add(half, 0)
    assert reassembler.close() == [Abandoned("link", (half,))]
    assert reassembler.close() == []
