"""What the hostile and the broken cost an HJ 212 source: little, counted, and nobody else."""

import random

import pytest

from drivers.hj212 import monitors
from drivers.hj212.acts import BytesReceived, LineFailed, LinkDown, LinkUp, Pause, Resume, Shutdown, StoreResumed
from drivers.hj212.codec import segment_of, written
from drivers.hj212.driver import Limits
from tests.drivers.hj212.talk import MN, OTHER, STRANGER, Talk, devices_file, messages_of


@pytest.fixture
def talk(tmp_path):
    return Talk(devices_file(tmp_path))


def test_garbage_closes_a_connection_and_is_told_at_a_bounded_rate(talk):
    device = talk.monitor()
    for number in range(100):
        device.raw(bytes((number * 7 + at) % 251 for at in range(1024)))
        if talk.closed():
            break
    assert talk.closed() == [1]
    assert number == 67
    assert talk.gaps() == [("noise", 1)]
    assert device.raw(device.frame("2011", "DataTime=1;a-Rtd=1")) == []
    device.down()
    assert talk.counter("links") == 0


def test_wrong_crc_for_hours_is_counted_and_costs_nobody_else(talk):
    bad, good = talk.monitor(1), talk.monitor(2, mn=OTHER)
    frame = bad.frame("2011", "DataTime=20261118120000;a34041-Rtd=1")
    frame = frame[:-6] + b"ABCD\r\n"
    for number in range(360):
        assert messages_of(bad.raw(frame)) == []
        assert len(messages_of(good.fume())) == 1
        talk.wait(10)
        if bad.link in talk.closed():  # not one good frame for silent_s; it calls again
            bad.down()
            bad.link = 100 + number
            talk.tell(LinkUp(bad.link, "10.0.0.9:1"))
    assert {data["class"] for data in talk.data()} == {"fume-monitor"}
    assert talk.counter("malformed") == 360
    assert len(talk.drafts("device.gap")) <= 61
    talk.tell(Shutdown())
    assert sum(count for _, count in talk.gaps()) == 360


def test_segments_of_1600_bytes_are_read_and_labelled(talk):
    device = talk.monitor()
    cp = f"DataTime={device.time()};" + ";".join(f"c{n}-Rtd=1.5,c{n}-Flag=N" for n in range(75))
    frame = device.frame("2011", cp)
    assert len(frame) > 1600
    assert len(messages_of(device.raw(frame))) == 1
    assert talk.data()[0]["deviations"] == "cp-long segment-long"
    assert len(talk.data()[0]["values"]) == 75


@pytest.mark.parametrize(("encoding", "label"), [("utf-8", None), ("gbk", "gbk")])
def test_foreign_encodings_in_logs(talk, encoding, label):
    device = talk.monitor()
    text = segment_of(device.message("3020", f"DataTime={device.time()};i11001-Info=//设备断电//")).decode()
    assert len(messages_of(device.raw(written(text.encode(encoding))))) == 1
    (data,) = talk.data("device.message")
    assert data["factors"] == [{"code": "i11001", "fields": [{"name": "Info", "text": "//设备断电//"}]}]
    assert data.get("deviations") == label


def test_a_slow_sender_is_closed(talk):
    device = talk.monitor()
    frame = device.frame("2011", "DataTime=20261118120000;a34041-Rtd=1")
    for at in range(59):
        device.raw(frame[at : at + 1])
        talk.wait(1)
    assert talk.closed() == []
    talk.wait(2)
    assert talk.closed() == [1]


def test_an_idle_connection_is_closed_and_the_monitor_offline(talk):
    device = talk.monitor()
    device.fume()
    talk.wait(899)
    assert talk.closed() == []
    talk.wait(2)
    assert talk.closed() == [1]
    device.down()
    assert talk.states() == [("online", "heard"), ("offline", "idle")]


def test_silence_that_a_full_store_makes_is_nobodys(talk):
    talk.monitor().fume()
    talk.mono_s += 3600
    talk.tell(StoreResumed())
    talk.wait(2)
    assert talk.closed() == []


def test_a_line_is_never_closed_but_its_monitors_go_offline(talk):
    talk.tell(LinkUp(1, "/dev/serial/by-id/x", is_line=True))
    talk.wait(5000)
    assert talk.closed() == []
    device = talk.monitor(2)
    device.link = 1
    device.fume()
    talk.tell(LinkDown(2))
    talk.wait(902)
    assert talk.states() == [("online", "heard"), ("offline", "silent")]
    device.fume()
    assert talk.states()[-1] == ("online", "heard")
    for _ in range(100):
        device.raw(b"x" * 4096)
    assert 1 not in talk.closed()


def test_a_port_that_cannot_be_opened_is_told_and_counted(talk):
    talk.tell(LineFailed("/dev/x is not there: plug the device in"))
    talk.tell(LineFailed("/dev/x is used by another program"))
    assert [(data["state"], data["reason"], data["detail"]) for data in talk.data("device.state")] == [
        ("offline", "line", "/dev/x is not there: plug the device in"),
    ]  # fmt: skip
    talk.wait(61)
    assert [data["count"] for data in talk.data("device.state")] == [1, 1]


def test_a_crowd_on_one_connection_leaves_room_for_the_listed(talk, monkeypatch):
    monkeypatch.setattr("drivers.hj212.intake.UNLISTED_PER_LINK_MAX", 3)
    device = talk.monitor()
    for number in range(6):
        device.mn = f"STRANGER{number}"
        device.fume()
    assert ("too-many-monitors", 1) in talk.gaps()
    device.mn = MN
    assert len(messages_of(device.fume())) == 1
    assert talk.counter("unlisted") == 3


def test_where_nobody_can_be_forgotten_the_next_stranger_is_refused(talk, monkeypatch):
    monkeypatch.setattr(monitors, "UNLISTED_MAX", 2)
    for number in range(4):
        talk.monitor(number, mn=f"STRANGER{number}").fume()
    assert talk.counter("unlisted") == 2
    assert talk.gaps() == [("too-many-monitors", 1)]


def test_a_false_head_does_not_hold_messages_back_for_long(talk):
    device = talk.monitor()
    device.raw(b"##9000")
    assert messages_of(device.fume()) == []
    assert len(messages_of(talk.wait(5))) == 1


def test_a_flood_is_read_more_slowly_and_nothing_of_it_is_lost(tmp_path):
    talk = Talk(devices_file(tmp_path), Limits(frames_per_s_max=10))
    device = talk.monitor()
    for _ in range(150):
        device.fume()
    assert [type(one) for one in talk.said if isinstance(one, Pause | Resume)] == [Pause]
    assert len(talk.data()) == 150
    assert talk.gaps() == [("flood", 1)]
    talk.wait(10)
    assert [type(one) for one in talk.said if isinstance(one, Pause | Resume)] == [Pause, Resume]


def test_states_of_one_that_flaps_are_bounded_and_end_with_the_truth(talk):
    for number in range(200):
        device = talk.monitor(number)
        device.fume()
        device.down()
    assert len(talk.data("device.state")) <= monitors.STATES_BURST
    talk.wait(600)
    last = talk.data("device.state")[-1]
    assert last["state"] == "offline"
    assert [data.get("left_out", 0) for data in talk.data("device.state")] == [0] * 10 + [390]


def test_a_million_connections_leave_nothing_behind(talk):
    for number in range(3000):
        talk.tell(LinkUp(number, f"10.0.0.9:{number}"))
        talk.tell(BytesReceived(number, b"\x00\x01"))
        talk.tell(LinkDown(number))
    assert talk.counter("links") == 0
    assert len(talk.drafts()) == 1
    talk.wait(61)
    assert talk.gaps() == [("noise", 1), ("noise", 2999)]
    talk.wait(1000)
    assert talk.session.deadline_ns() is None


def test_shutdown_tells_what_is_left(talk):
    device = talk.monitor()
    device.fume()
    device.raw(b"x" * 5000)
    device.raw(b"y" * 5000)
    talk.tell(Shutdown())
    assert talk.states()[-1] == ("offline", "shutdown")
    assert talk.gaps() == [("noise", 1), ("noise", 1)]
    assert talk.tell(BytesReceived(1, b"x")) == []


def test_any_bytes_on_many_links_and_nothing_raises(talk):
    dice = random.Random(9014)
    devices = [talk.monitor(number, mn=mn) for number, mn in enumerate((MN, OTHER, STRANGER))]
    for _ in range(1500):
        device = dice.choice(devices)
        frame = bytearray(device.frame(dice.choice(("2011", "2061", "9011", "1013", "x")),
                                       f"DataTime={device.time()};a34041-Rtd=1,a34041-Flag=N"))  # fmt: skip
        for _ in range(dice.randrange(3)):
            frame[dice.randrange(len(frame))] = dice.randrange(256)
        device.raw(bytes(frame[: dice.randrange(1, len(frame) + 1)] if dice.random() < 0.2 else frame))
        talk.wait(dice.random())
        if device.link in talk.closed():
            device.down()
            device.link += 10
            talk.tell(LinkUp(device.link, "10.0.0.9:1"))
    talk.tell(Shutdown())
    assert talk.counter("frames") > 300
