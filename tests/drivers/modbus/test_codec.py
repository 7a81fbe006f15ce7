"""Modbus frames: the collected vectors, both directions, and what no byte may do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.codec import (
    HELD_MAX_BYTES,
    NOISE_MAX,
    Found,
    Reply,
    Request,
    RtuReader,
    TcpReader,
    crc16,
    exception_pdu,
    is_sealed,
    parse_reply,
    parse_request,
    reply_pdu,
    request_frame_bytes,
    rtu_frame,
    stray,
    tcp_frame,
)

READ = Request(3, 16, 2)
ANSWER = rtu_frame(5, reply_pdu(READ, (0x1234, 0xABCD)))
SENT = rtu_frame(5, READ.pdu())

words = st.integers(0, 0xFFFF)


def requests() -> st.SearchStrategy[Request]:
    bits, some = st.integers(0, 1), st.integers(1, 40)
    return st.one_of(
        st.builds(Request, st.sampled_from([1, 2, 3, 4]), st.integers(0, 65_000), st.integers(1, 125)),
        st.builds(lambda a, v: Request(5, a, 1, (v,)), words, bits),
        st.builds(lambda a, v: Request(6, a, 1, (v,)), words, words),
        some.flatmap(
            lambda n: st.builds(lambda v: Request(15, 7, n, tuple(v)), st.lists(bits, min_size=n, max_size=n))
        ),
        some.flatmap(
            lambda n: st.builds(lambda v: Request(16, 7, n, tuple(v)), st.lists(words, min_size=n, max_size=n))
        ),
        st.builds(lambda n, v: Request(23, 7, n, tuple(v), 99), some, st.lists(words, min_size=1, max_size=40)),
    )


def answered(request: Request, seed: int) -> tuple[int, ...]:
    if request.function in {1, 2}:
        return tuple(seed >> n % 16 & 1 for n in range(request.count))
    return tuple((seed + 31 * n) & 0xFFFF for n in range(request.count)) if request.function in {3, 4, 23} else ()


# --------------------------------------------------------------------------------------------- vectors


def test_every_vector_behaves_as_stated(vectors: Path) -> None:
    rows = [json.loads(line) for line in (vectors / "modbus_rtu.jsonl").read_text().splitlines()]
    assert len(rows) >= 14
    for row in rows:
        frame, expect = bytes.fromhex(row["frame_hex"]), row["expect"]
        assert is_sealed(frame) is row["valid_crc"], row
        assert crc16(frame[:-2]).to_bytes(2, "little").hex() == row["crc_calc"], row
        if row["kind"] == "request":
            request = parse_request(frame[1:-2])
            assert request == Request(expect["fc"], expect["address"], expect["count"])
            assert rtu_frame(expect["unit"], request.pdu()) == frame
        elif row["valid_crc"]:
            asked = Request(expect["fc"], 0, len(expect["registers"]))
            found = RtuReader(expect["unit"], asked).feed(frame)
            assert isinstance(found, Found)
            assert found.reply.registers == tuple(expect["registers"])
        else:
            assert not isinstance(RtuReader(frame[0], Request(3, 0, 7)).feed(frame), Found)


def test_the_vector_with_a_leading_00_reads_once_its_last_byte_is_there() -> None:
    piece = bytes.fromhex("00020312000000000000001453f0001453f0000000146f")
    reader = RtuReader(2, Request(3, 24, 9))
    assert reader.feed(piece) is None
    body = piece[1:-1]
    found = reader.feed(crc16(body).to_bytes(2, "little")[1:])
    assert isinstance(found, Found)
    assert (found.reply.registers[3:5], found.frame_bytes) == ((0x14, 0x53F0), 23)
    assert found.response[:1] == b"\x00"


def test_crc() -> None:
    assert crc16(b"123456789") == 0x4B37
    assert rtu_frame(1, Request(3, 0, 1).pdu()).hex() == "010300000001840a"


# -------------------------------------------------------------------------------------------- PDU


@given(requests(), words)
def test_requests_and_replies_read_as_they_were_written(request: Request, seed: int) -> None:
    assert request.problem == ""
    assert parse_request(request.pdu()) == request
    pdu = reply_pdu(request, answered(request, seed))
    assert len(pdu) == request.reply_bytes
    reply = parse_reply(request, pdu)
    assert isinstance(reply, Reply)
    values = reply.registers or tuple(map(int, reply.bits))
    assert values == answered(request, seed)
    assert parse_reply(request, exception_pdu(request.function, 2)) == Reply(exception=2)
    frame = rtu_frame(9, request.pdu())
    assert request_frame_bytes(frame[:11]) == len(frame)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (Request(7, 0), "function 7"),
        (Request(3, 0, 126), "1 to 125"),
        (Request(1, 0, 2001), "1 to 2000"),
        (Request(3, 65_535, 2), "outside"),
        (Request(6, 0, 1), "writes 1 values"),
        (Request(6, 0, 1, (65_536,)), "values are"),
        (Request(5, 0, 1, (2,)), "values are"),
        (Request(16, 0, 2, (1,)), "writes 2 values"),
        (Request(23, 0, 1, ()), "writes 1 to 121"),
        (Request(23, 0, 1, (1, 2), 65_535), "write address"),
    ],
)
def test_what_the_protocol_does_not_know_is_named(request_: Request, problem: str) -> None:
    assert problem in request_.problem


@pytest.mark.parametrize(
    ("pdu", "reason"),
    [
        (b"", "short"),
        (b"\x03", "short"),
        (b"\x04\x04\x00\x01\x00\x02", "wrong-function"),
        (b"\x03\x02\x00\x01", "wrong-count"),
        (b"\x03\x06\x00\x01\x00\x02\x00\x03", "wrong-count"),
        (b"\x03\x02\x00\x01\x00\x02", "wrong-count"),
        (b"\x03\x04\x00\x01\x00", "wrong-count"),
        (b"\x83\x02\x00", "wrong-count"),
        (b"\x83\x00", "wrong-count"),
    ],
)
def test_a_reply_to_another_question_is_none(pdu: bytes, reason: str) -> None:
    assert parse_reply(READ, pdu) == reason


def test_a_write_that_confirms_something_else_is_no_confirmation() -> None:
    asked = Request(6, 16, 1, (7,))
    assert parse_reply(asked, Request(6, 16, 1, (7,)).pdu()) == Reply()
    assert parse_reply(asked, Request(6, 16, 1, (8,)).pdu()) == "wrong-echo"
    assert parse_reply(Request(16, 16, 2, (1, 2)), b"\x10\x00\x10\x00\x01") == "wrong-echo"


@given(st.binary(max_size=300))
def test_no_bytes_raise_as_a_pdu(data: bytes) -> None:
    request = parse_request(data)
    if request is not None:
        assert request.pdu() == data
    assert isinstance(parse_reply(READ, data), Reply | str)
    request_frame_bytes(data)
    stray(data)


# -------------------------------------------------------------------------------------------- RTU


def fed(reader: RtuReader, data: bytes, step: int = 1) -> Found | str | None:
    """The first thing that it says."""
    for at in range(0, len(data), step):
        found = reader.feed(data[at : at + step])
        if found is not None:
            return found
    return None


@pytest.mark.parametrize("step", [1, 3, 400])
@pytest.mark.parametrize("before", [b"", b"\x00", b"\xff\x00", b"\x00\x00\xff\xff"])
@pytest.mark.parametrize("echo", [b"", SENT, SENT + b"\x00", b"\xff" + SENT])
def test_an_answer_is_found_behind_noise_and_echo_in_any_pieces(step: int, before: bytes, echo: bytes) -> None:
    line = echo + before + ANSWER if len(echo + before) - len(SENT) <= NOISE_MAX or not echo else echo + ANSWER
    found = fed(RtuReader(5, READ), line, step)
    assert isinstance(found, Found)
    assert found.reply.registers == (0x1234, 0xABCD)
    assert (found.response, found.frame_bytes, found.is_echoed) == (line, len(ANSWER), bool(echo))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (rtu_frame(6, ANSWER[1:-2]), "wrong-unit"),
        (rtu_frame(5, b"\x04\x04\x00\x01\x00\x02"), "wrong-function"),
        (rtu_frame(5, b"\x03\x02\x00\x01"), "wrong-count"),
        (rtu_frame(5, b"\x03\x08" + bytes(8)), "wrong-count"),
        (ANSWER[:-1] + b"\x00", "bad-crc"),
        (bytes([ANSWER[0], ANSWER[1], ANSWER[2], ANSWER[3] ^ 1]) + ANSWER[4:], "bad-crc"),
        (b"\x55" + ANSWER, "wrong-unit"),
        (b"\x00" * (NOISE_MAX + 1) + ANSWER, "wrong-unit"),
        (ANSWER + ANSWER, "more-than-asked"),
        (SENT + SENT + ANSWER, "wrong-count"),
    ],
)
def test_anything_else_is_no_answer(line: bytes, reason: str) -> None:
    assert RtuReader(5, READ).feed(line) == reason


def test_noise_behind_an_answer_does_no_harm() -> None:
    assert isinstance(RtuReader(5, READ).feed(ANSWER + b"\x00\xff"), Found)


def test_an_exception_is_read_at_once() -> None:
    found = RtuReader(5, READ).feed(rtu_frame(5, b"\x83\x02"))
    assert isinstance(found, Found)
    assert found.reply == Reply(exception=2)


def test_unit_255_is_told_from_noise() -> None:
    frame = rtu_frame(255, reply_pdu(READ, (1, 2)))
    found = RtuReader(255, READ).feed(b"\xff\xff" + frame)
    assert isinstance(found, Found)
    assert found.reply.registers == (1, 2)


def test_the_echo_of_a_write_is_no_confirmation_where_the_line_echoes() -> None:
    write = Request(6, 16, 1, (7,))
    frame = rtu_frame(5, write.pdu())
    plain = RtuReader(5, write).feed(frame)
    assert isinstance(plain, Found)
    echoing = RtuReader(5, write, echoes=True)
    assert echoing.feed(frame) is None
    found = echoing.feed(frame)
    assert isinstance(found, Found)
    assert found.is_echoed
    refused = RtuReader(5, write, echoes=True).feed(frame + rtu_frame(5, b"\x86\x04"))
    assert isinstance(refused, Found)
    assert refused.reply.exception == 4
    assert RtuReader(5, write, echoes=True).feed(rtu_frame(5, b"\x86\x04")) == "no-echo"


def test_no_echo_of_any_question_reads_as_its_answer() -> None:
    """One register, answered in 7 bytes, could be the beginning of its own 8-byte question."""
    alike = 0
    for unit in range(1, 256):
        for low in range(256):
            request = Request(3, 0x0200 | low, 1)
            frame = rtu_frame(unit, request.pdu())
            alike += is_sealed(frame[:7])
            if is_sealed(frame[:7]):
                assert RtuReader(unit, request).feed(frame[:7]) is None
                assert RtuReader(unit, request).feed(frame) is None
    assert alike  # else this test would say nothing


@given(st.binary(max_size=600), st.integers(1, 50), st.booleans())
def test_no_bytes_raise_or_become_an_answer_on_a_line(data: bytes, step: int, echoes: bool) -> None:
    reader = RtuReader(5, READ, echoes=echoes)
    found = fed(reader, data, step)
    assert len(reader.held) <= HELD_MAX_BYTES
    if isinstance(found, Found):
        frame = found.response[-found.frame_bytes :]
        assert is_sealed(frame)
        assert frame[0] == 5
    assert stray(data) is None or is_sealed(stray(data).frame)  # type: ignore[union-attr]


@given(st.data(), st.integers(1, 8))
def test_a_damaged_answer_is_never_another_value(data: st.DataObject, changes: int) -> None:
    """CRC-16 finds every change of up to two bytes within 16 bits, and all but 1 in 65536 of others."""
    at = data.draw(st.integers(0, len(ANSWER) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = ANSWER[:at] + bytes([ANSWER[at] ^ flip]) + ANSWER[at + 1 :]
    found = fed(RtuReader(5, READ), damaged, changes)
    assert not isinstance(found, Found)


def test_a_flood_ends_the_question() -> None:
    reader = RtuReader(5, READ)
    assert reader.feed(b"\x05\x03\x04" + b"\x11" * 5000) in {"bad-crc", "flood"}
    assert len(reader.held) == HELD_MAX_BYTES


def test_who_spoke_out_of_turn() -> None:
    frame = rtu_frame(7, b"\x04\x02\x00\x09")
    found = stray(b"\x99\x98" + frame + b"\x01")
    assert found is not None
    assert (found.unit, found.function, found.frame) == (7, 4, frame)
    assert stray(bytes(range(40))) is None


# -------------------------------------------------------------------------------------------- TCP


@given(
    st.lists(st.tuples(words, st.integers(0, 255), st.binary(min_size=2, max_size=253)), max_size=8), st.integers(1, 99)
)
def test_tcp_messages_in_any_pieces(messages: list[tuple[int, int, bytes]], step: int) -> None:
    stream = b"".join(tcp_frame(*message) for message in messages)
    reader, found = TcpReader(), []
    for at in range(0, len(stream), step):
        found += reader.feed(stream[at : at + step])
        assert reader.held_bytes < 260
    assert [(one.transaction, one.unit, one.pdu) for one in found] == messages
    assert b"".join(one.raw for one in found) == stream
    assert not reader.lost


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_raise_on_tcp(chunks: list[bytes]) -> None:
    reader = TcpReader()
    for chunk in chunks:
        reader.feed(chunk)
        assert reader.held_bytes < 260


@pytest.mark.parametrize("head", ["000100010006", "000100000002", "0001000000ff", "485454502f31"])
def test_a_header_of_something_else_ends_the_connection(head: str) -> None:
    reader = TcpReader()
    assert reader.feed(bytes.fromhex(head) + b"\x01\x03") == []
    assert "is not of Modbus TCP" in reader.lost
    assert reader.feed(tcp_frame(1, 1, b"\x03\x00")) == []
