"""Terminals: codes, enrolment over restarts, answers written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jt808.codec import (
    Address,
    Decoder,
    DriverText,
    EncodeError,
    Frame,
    GeneralReply,
    QueryLocation,
    Text,
    Version,
    encode,
)
from drivers.jt808.terminals import Enrolment, Terminal, Terminals
from drivers.repeats import DIGESTS_MAX, Repeats
from drivers.tallies import Key, Tallies
from gateway.devices import load
from tests.drivers.jt808.talk import DEVICES, SECOND, devices_file

TRUCK = Enrolment("FG", "M1", "T1", "", 2013)
SECRET = b"s" * 32


def frame_of(address: Address, serial: int = 0) -> Frame:
    (found,) = Decoder().feed(encode(QueryLocation(), address, serial)[0])
    assert isinstance(found, Frame)
    return found


@given(
    st.sampled_from([Version.V2013, Version.V2019]),
    st.text("0123456789", min_size=1, max_size=12),
    *(st.integers(0, 0xFFFF) for _ in range(3)),
    st.integers(0, 4),
)
def test_answers_by_hand_are_those_of_the_codec(version, phone, own, serial, msg_id, result):
    terminal = Terminal("1", Enrolment())
    address = terminal.meet(frame_of(Address.of(phone, version)))
    terminal.serial = own
    assert terminal.answer(serial, msg_id, result) == encode(GeneralReply(serial, msg_id, result), address, own)[0]
    assert terminal.serial == (own + 1) & 0xFFFF


def test_a_terminal_of_2011_is_answered_as_such():
    terminal = Terminal("1", Enrolment(layout=2011))
    assert terminal.meet(frame_of(Address.of("1", Version.V2013))).version is Version.V2011
    assert terminal.meet(frame_of(Address.of("1", Version.V2019))).version is Version.V2019


def test_every_frame_counts_and_packets_can_be_sent_again():
    terminal = Terminal("1", Enrolment())
    with pytest.raises(EncodeError, match="not been met"):
        terminal.write(QueryLocation())
    terminal.meet(frame_of(Address.of("1", Version.V2013)))
    terminal.serial = 0xFFFF
    serials, _ = terminal.write(QueryLocation())
    assert (list(serials), terminal.serial) == ([0xFFFF], 0)
    serials, frames = terminal.write(DriverText(4, Text(b"x" * 1024)))
    assert (list(serials), terminal.serial) == ([0, 1], 2)
    second = terminal.again(0, (2, 2, 9, 0))
    assert frames.endswith(second)
    assert [frame.index for frame in Decoder().feed(second) if isinstance(frame, Frame)] == [2]
    assert terminal.again(77, (1,)) == b""
    for _ in range(9):
        terminal.write(DriverText(4, Text(b"x" * 1024)))
    assert terminal.again(0, (1,)) == b""  # forgotten: the memory is bounded


def test_codes(tmp_path):
    terminals = Terminals(load(devices_file(tmp_path)), SECRET)
    made = terminals.code_of("13800000001")
    assert len(made) == 16
    assert made == Terminals(load(""), SECRET).code_of("13800000001")
    assert made != Terminals(load(""), b"another").code_of("13800000001")
    assert terminals.is_code("13800000001", made)
    assert not terminals.is_code("13800000001", "")
    assert terminals.code_of("13800000002") == "fixed-code"
    assert not terminals.needs_code("13800000003")
    assert terminals.is_code("13800000003", "whatever")
    assert terminals.needs_code("13800000099")


def test_who_is_taken(tmp_path):
    terminals = Terminals(load(devices_file(tmp_path)), SECRET)
    assert terminals.takes("13800000001")
    assert not terminals.takes("13800000099")
    assert not terminals.takes("13800000099", TRUCK)
    works = Enrolment("WORKS", "W1")
    assert terminals.takes("13800000099", works)
    change = terminals.enrol("13800000099", works)
    assert change is not None
    assert terminals.enrol("13800000099", works) is None
    again = Terminals(load(devices_file(tmp_path)), SECRET, [change, (b"tbad", b"{"), (b"tbad2", b'{"maker": 1}')])
    terminal = again.let_in("13800000099")
    assert terminal is not None
    assert (terminal.device_class.id, terminal.enrolment) == ("works", works)
    truck = again.let_in("13800000001")
    assert truck is not None
    assert truck.head == {"class": "muck", "plate": "浙F00001", "datum": "WGS-84"}


def test_another_file_takes_effect_for_those_that_are_here(tmp_path):
    terminals = Terminals(load(devices_file(tmp_path)), SECRET)
    first, second = terminals.let_in("13800000001"), terminals.let_in("13800000002")
    assert first
    assert second
    text = DEVICES.replace("浙F00001", "浙F99999").replace('"13800000002"', '"13800000004"')
    assert terminals.use(load(devices_file(tmp_path, text))) == [second]
    assert first.plate == "浙F99999"
    assert terminals.get("13800000002") is None


def test_repeats_are_known_over_a_restart():
    repeats = Repeats("trucks")
    mark = repeats.mark(b"frame")
    assert mark is not None
    assert repeats.mark(b"frame") is None
    stored = [repeats.round(mark)]
    other = repeats.mark(b"other")
    assert other is not None
    stored.append(repeats.round(other))
    again = Repeats("trucks", [(one.key, one.value or b"") for one in stored])
    assert again.mark(b"frame") is None
    assert again.mark(b"other") is None
    assert again.round(b"").key == b"d\x00\x03"
    fresh = again.mark(b"new")
    assert fresh is not None
    again.forget(fresh)
    assert again.mark(b"new") is not None


def test_repeats_are_bounded():
    repeats = Repeats("trucks")
    for number in range(DIGESTS_MAX + 1):
        repeats.mark(number.to_bytes(4, "big"))
    assert repeats.mark((0).to_bytes(4, "big")) is not None
    assert repeats.mark((5).to_bytes(4, "big")) is None


def test_tallies_tell_at_once_then_with_a_count():
    tallies = Tallies(pause_ns=60 * SECOND, subjects_max=2)
    key = Key("device.gap", "check", "1")
    first = tallies.note(key, {"detail": "a"}, b"1", 0)
    assert first
    assert (first.count, first.facts) == (1, {"detail": "a"})
    assert tallies.note(key, {"detail": "b"}, b"2", SECOND) is None
    assert tallies.note(key, {"detail": "c"}, b"3", 2 * SECOND) is None
    assert tallies.due(59 * SECOND) == []
    (told,) = tallies.due(60 * SECOND)
    assert (told.count, told.facts, told.raw) == (2, {"detail": "b"}, b"2")
    assert tallies.due(120 * SECOND) == []
    assert tallies.deadline_ns is None
    assert tallies.note(key, {}, b"", 121 * SECOND) is not None


def test_tallies_of_too_many_subjects_are_told_together():
    tallies = Tallies(subjects_max=2)
    for number in range(9):
        tallies.note(Key("device.gap", "check", str(number)), {}, b"", number)
    (told,) = tallies.close()
    assert (told.key.subject, told.count) == ("", 6)
