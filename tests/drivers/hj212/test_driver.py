"""The session of an HJ 212 source: what is stored, what is answered and when, and what the hostile cost."""

import pytest

from drivers.hj212 import intake, monitors
from drivers.hj212.acts import Emit, LinkDown, Send
from drivers.hj212.codec import encode, written
from drivers.hj212.intake import beijing
from gateway.core.readings import FLAGS
from tests.drivers.hj212.talk import DEVICES, MN, OTHER, STRANGER, Talk, devices_file, messages_of
from tests.drivers.hj212.test_sealed import KEY, ring
from tests.gateway.doubles import START_UTC_NS

YEAR_S = 365 * 86_400


@pytest.fixture
def talk(tmp_path):
    return Talk(devices_file(tmp_path))


# ---------------------------------------------------------------- readings and their answers


def test_a_reading_is_stored_and_answered_after_the_commit(talk):
    device = talk.monitor()
    frame = device.frame("2011", f"DataTime={device.time()};a34041-Rtd=0.77,a34041-Flag=N;SB7-RS=1;SB8-RS=0")
    (emit,) = device.raw(frame)
    assert isinstance(emit, Emit)
    (answer,) = messages_of([emit])
    assert (answer.cn, answer.st, answer.qn, answer.mn, answer.pw, answer.flag, answer.cp) == (
        "9014", "91", device_qn(frame), MN, "123456", 4, "",
    )  # fmt: skip
    state, reading = emit.drafts
    assert (state.kind, state.data["state"], state.data["address"]) == ("device.state", "online", "10.0.0.9:40001")
    assert (reading.kind, reading.source, reading.device, reading.raw) == ("reading", "fume", MN, frame[:-2])
    assert reading.device_time is not None
    assert (reading.device_time.text, reading.device_time.zone) == (device.time(), "+08:00")
    assert reading.profile is not None
    assert reading.profile.id == "fume-d1"
    data = dict(reading.data)
    values = data.pop("values")
    assert data == {
        "class": "fume-monitor",
        "site": "kitchen-1",
        "message": "2011",
        "taken_utc_s": START_UTC_NS // 10**9,
    }
    assert [(value["quantity"], value.get("value_e6", value.get("state"))) for value in values] == [
        ("fume", 770_000), ("fan_state", "on"), ("purifier_state", "off"),
    ]  # fmt: skip


def device_qn(frame: bytes) -> str:
    return frame[9:26].decode()


def test_without_bit_a_nothing_is_answered(talk):
    assert messages_of(talk.monitor(flag=4).fume()) == []
    assert messages_of(talk.monitor(2, flag=None).fume()) == []
    assert len(talk.data()) == 2


@pytest.mark.parametrize(("flag", "answered", "cp"), [(1, 0, "QN"), (5, 4, ""), (9, 8, ""), (3, 0, "QN"), (7, 4, "")])
def test_the_answer_is_of_the_edition_of_the_message(talk, flag, answered, cp):
    (answer,) = messages_of(talk.monitor(flag=flag).fume())
    assert answer.flag == answered
    assert answer.params == ({"QN": answer.qn} if cp else {})


@pytest.mark.parametrize("qn", ["", "2026 1", "x" * 40, "标"])
def test_a_qn_that_cannot_be_repeated_is_not_answered_but_stored(talk, qn):
    device = talk.monitor()
    assert messages_of(device.fume(qn=qn)) == []
    assert len(talk.data()) == 1


def test_odd_qn_is_answered_as_it_is(talk):
    (answer,) = messages_of(talk.monitor().fume(qn="1617936069734"))
    assert answer.qn == "1617936069734"
    assert talk.data()[0]["deviations"] == "qn-13-digits"


@pytest.mark.parametrize(
    ("cn", "period"),
    [("2011", None), ("2021", None), ("2031", 86_400), ("2041", 86_400), ("2051", 600), ("2061", 3600)],
)
def test_the_period_is_that_of_the_command(talk, cn, period):
    device = talk.monitor()
    (answer,) = messages_of(device.send(cn, f"DataTime={device.time()};a34041-Avg=0.5,a34041-Flag=N"))
    assert answer.cn == "9014"
    (data,) = talk.data()
    assert (data["message"], data.get("period_s")) == (cn, period)


def test_back_filled_values_are_marked(talk):
    device = talk.monitor(flag=9)
    device.send("2051", "DataTime=20260302183000;a34041-Avg=0.5,a34041-Flag=N", backfill=True)
    device.fume()
    assert [data.get("backfill") for data in talk.data()] == [True, None]


def test_notices_are_recorded_and_answered_9013(talk):
    device = talk.monitor()
    (answer,) = messages_of(device.send("1013", "PolId=w01018"))
    assert answer.cn == "9013"
    (data,) = talk.data("device.message")
    assert (data["message"], data["name"], data["params"]) == (
        "1013", "time-wanted", [{"name": "PolId", "text": "w01018"}],
    )  # fmt: skip


@pytest.mark.parametrize(("cn", "answered"), [("2081", "9014"), ("3020", "9014"), ("1001", "9013"), ("9021", "9013")])
def test_other_messages_are_recorded(talk, cn, answered):
    device = talk.monitor()
    (answer,) = messages_of(device.send(cn, f"DataTime={device.time()};i12001-Info=1"))
    assert answer.cn == answered
    (data,) = talk.data("device.message")
    assert data["factors"] == [{"code": "i12001", "fields": [{"name": "Info", "text": "1"}]}]


def test_a_heartbeat_is_answered_at_once_and_stored_nowhere(talk):
    device = talk.monitor(flag=9)
    device.fume()
    (send,) = device.send("9015", "")
    assert isinstance(send, Send)
    (answer,) = messages_of([send])
    assert (answer.cn, answer.flag) == ("9013", 8)
    assert talk.counter("heartbeats") == 1


def test_a_dialect_says_what_answers_its_log_in(tmp_path):
    talk = Talk(devices_file(tmp_path, DEVICES.replace("fume-d1", "fume-d2")))
    (answer,) = messages_of(talk.monitor(flag=1).send("9021", ""))
    assert answer.cn == "9022"


def test_answers_are_never_answered(talk):
    device = talk.monitor()
    for cn in ("9011", "9012", "9013", "9014"):
        assert messages_of(device.send(cn, "QnRtn=1")) == []
    assert talk.counter("answers_unmatched") == 4
    assert talk.gaps() == [("answer-unmatched", 1)]


def test_deviations_stand_in_the_record(talk):
    device = talk.monitor(st="99", flag=None)
    segment = f"ST=99,CN=2011;MN={MN};CP=&&DataTime={device.time()};a34041-Rtd=1,a34041-Flag=N,;SB7-RS=1&&".encode()
    device.raw(written(segment))
    assert talk.data()[0]["deviations"] == "comma flag-missing item-empty pw-form qn-missing st-unknown"


# ---------------------------------------------------------------- once, whatever happens


def test_a_retransmission_is_answered_again_and_stored_once(talk):
    device = talk.monitor()
    frame = device.frame("2011", f"DataTime={device.time()};a34041-Rtd=0.77")
    device.raw(frame)
    talk.wait(10)
    (emit,) = device.raw(frame)
    assert emit.drafts == []
    assert [answer.qn for answer in messages_of([emit])] == [device_qn(frame)]
    assert (len(talk.data()), talk.counter("repeated")) == (1, 1)


def test_after_a_kill_between_commit_and_answer_it_is_stored_once_all_the_same(talk):
    device = talk.monitor()
    frame = device.frame("2011", f"DataTime={device.time()};a34041-Rtd=0.77")
    device.raw(frame)
    after = talk.again()
    (emit,) = after.monitor().raw(frame)
    assert [draft.kind for draft in emit.drafts] == ["device.state"]
    assert len(messages_of([emit])) == 1


def test_the_same_qn_with_other_values_is_another_message(talk):
    device = talk.monitor()
    qn = device.qn()
    device.fume("0.1", qn=qn)
    device.fume("0.2", qn=qn)
    assert len(talk.data()) == 2


def test_without_a_qn_nothing_can_be_known_to_be_a_retransmission(talk):
    device = talk.monitor(flag=None)
    for _ in range(3):
        device.send("2011", "DataTime=20260302183000;a34041-Rtd=0.77", qn="")
    assert len(talk.data()) == 3


def test_a_frozen_monitor_is_told(talk):
    device = talk.monitor()
    frame = device.frame("2011", "DataTime=20260302183000;a34041-Rtd=0.77")
    for _ in range(intake.FROZEN_MIN + 5):
        device.raw(frame)
        talk.wait(10)
    assert len(talk.data()) == 1
    assert talk.gaps()[0][0] == "frozen"


# ---------------------------------------------------------------- parts


def part(device, number: int, of: int, *, time: str = "20261118120000", **more):
    cp = f"DataTime={time};c{number}-Avg={number}"
    return device.frame("2061", cp, flag=7, pnum=of, pno=number, **more)


def test_parts_are_answered_one_by_one_and_become_one_reading(talk):
    device = talk.monitor()
    frames = [part(device, number, 3) for number in (2, 1, 3)]
    for frame in frames[:2]:
        (emit,) = [one for one in device.raw(frame) if isinstance(one, Emit)]
        assert emit.state
        assert [answer.qn for answer in messages_of([emit])] == [device_qn(frame)]
        assert talk.data() == []
    (emit,) = device.raw(frames[2])
    assert len(messages_of([emit])) == 1
    (draft,) = talk.drafts("reading")
    assert draft.raw == (frames[1] + frames[0] + frames[2]).replace(b"\r\n", b"")
    assert draft.data["parts"] == 3
    assert [value["code"] for value in draft.data["values"]] == ["c1", "c2", "c3"]
    assert "flags" not in draft.data
    assert talk.counter("waiting_sets") == 0
    assert not [key for key in talk.memory if key[:1] == b"p"]


def test_an_incomplete_set_is_kept_and_flagged(talk):
    device = talk.monitor()
    device.raw(part(device, 1, 4) + part(device, 3, 4))
    talk.wait(119)
    assert talk.data() == []
    talk.wait(2)
    (data,) = talk.data()
    assert (data["flags"], data["parts"], data["parts_missing"]) == ("incomplete", 4, "2 4")
    assert [value["code"] for value in data["values"]] == ["c1", "c3"]
    assert not [key for key in talk.memory if key[:1] == b"p"]


def test_parts_survive_a_kill(talk):
    device = talk.monitor()
    device.raw(part(device, 1, 2))
    after = talk.again()
    assert after.session.deadline_ns() is not None
    later = after.monitor()
    later.raw(part(later, 2, 2))
    (data,) = after.data()
    assert [value["code"] for value in data["values"]] == ["c1", "c2"]
    assert not [key for key in after.memory if key[:1] == b"p" and key not in talk.memory]


def test_parts_left_by_a_kill_are_told_although_nobody_comes(talk):
    device = talk.monitor()
    device.raw(part(device, 1, 2))
    after = talk.again()
    after.wait(121)
    assert [data["flags"] for data in after.data()] == ["incomplete"]


def test_a_part_that_comes_again_is_answered_again(talk):
    device = talk.monitor()
    first = part(device, 1, 2)
    device.raw(first)
    assert len(messages_of(device.raw(first))) == 1
    assert len(messages_of(device.raw(part(device, 1, 2)))) == 1, "another QN, the same content"
    other = device.frame("2061", "DataTime=20261118120000;c1-Avg=9", flag=7, pnum=2, pno=1)
    assert len(messages_of(device.raw(other))) == 1
    assert talk.gaps() == [("part-differs", 1)]
    device.raw(part(device, 2, 2))
    assert [value["text"] for value in talk.data()[0]["values"]] == ["1", "2"]


def test_announced_parts_that_are_not_there_are_not_waited_for(talk):
    device = talk.monitor()
    device.fume(flag=7)
    (data,) = talk.data()
    assert data["deviations"] == "flag-parts"


def test_a_part_without_datatime_joins_the_set_that_lacks_it(talk):
    device = talk.monitor()
    device.raw(part(device, 1, 2))
    device.send("2061", "c2-Avg=2", flag=7, pnum=2, pno=2)
    assert [len(data["values"]) for data in talk.data()] == [2]


def test_sets_are_bounded_and_nothing_of_them_is_lost(talk):
    device = talk.monitor()
    for hour in range(20):
        device.raw(part(device, 1, 9, time=f"20261118{hour:02d}0000"))
    assert talk.counter("waiting_sets") == 8
    assert [data["flags"] for data in talk.data()] == ["incomplete"] * 12
    for number in range(1, 100):
        device.raw(part(device, number, 9999))
    talk.wait(200)
    told = sum(len(data["values"]) for data in talk.data())
    assert told == 20 + 99


def test_a_long_set_becomes_several_records_that_name_each_other(talk):
    device = talk.monitor()
    cp = ";".join(f"c{n}-Avg=1,c{n}-Flag=N" for n in range(300))
    for number in range(1, 21):
        device.send("2061", f"DataTime=20261118120000;{cp}", flag=7, pnum=20, pno=number)
    drafts = talk.drafts("reading")
    assert len(drafts) > 1
    assert drafts[0].data["part_of"] == f"1/{len(drafts)}"
    assert sum(len(draft.data["values"]) for draft in drafts) == 6000
    assert b"".join(draft.raw or b"" for draft in drafts).count(b"##") == 20


# ---------------------------------------------------------------- who


def test_an_unknown_mn_is_kept_in_quarantine_answered_and_told_once(talk):
    device = talk.monitor(mn=STRANGER)
    for _ in range(3):
        assert [answer.cn for answer in messages_of(device.fume())] == ["9014"]
    assert [data["flags"] for data in talk.data()] == ["unlisted"] * 3
    assert {data["class"] for data in talk.data()} == {"unlisted"}
    assert [(data["state"], data["reason"], data["count"]) for data in talk.data("device.state")] == [
        ("refused", "not listed", 1),
    ]  # fmt: skip
    talk.wait(61)
    assert [data["count"] for data in talk.data("device.state")] == [1, 2]
    assert talk.counter("unlisted") == 3


def test_a_flood_of_unknown_monitors_cannot_fill_the_store(talk):
    answered = 0
    device = talk.monitor(mn=STRANGER)
    for number in range(2000):
        device.mn = f"STRANGER{number:06d}"
        answered += len(messages_of(device.fume()))
    assert answered == len(talk.data()) < 400
    assert len(talk.drafts()) < 1500
    assert ("unlisted-flood", 1) in talk.gaps()
    assert sum(1 for _ in talk.session.monitors) <= intake.UNLISTED_PER_LINK_MAX
    known = talk.monitor(2)
    assert len(messages_of(known.fume())) == 1
    talk.wait(120)
    device.mn = "STRANGER000000"
    assert len(messages_of(device.fume())) == 1


def test_unlisted_monitors_that_went_make_room(talk, monkeypatch):
    monkeypatch.setattr(monitors, "UNLISTED_MAX", 10)
    for number in range(30):
        device = talk.monitor(number, mn=f"STRANGER{number}")
        device.fume()
        device.down()
        talk.wait(1)
    assert sum(1 for _ in talk.session.monitors) == 10


def test_without_a_devices_file_all_are_in_quarantine():
    talk = Talk()
    device = talk.monitor(mn=STRANGER)
    for _ in range(1000):
        device.fume()
        talk.wait(0.05)
    assert {data["flags"] for data in talk.data()} == {"unlisted"}
    assert len(talk.data()) == 1000
    assert talk.states() == [("online", "heard")]


def test_an_open_class_takes_monitors_by_their_mn(tmp_path):
    text = DEVICES + '[[class]]\nid = "new"\nenrolment = "open"\nopen_to = ["*/8888*"]\nprofile = "fume-d4"\n'
    talk = Talk(devices_file(tmp_path, text))
    talk.monitor(mn=STRANGER).fume()
    talk.monitor(2, mn="77777770000001").fume()
    assert [(data["class"], data.get("flags")) for data in talk.data()] == [("new", None), ("unlisted", "unlisted")]


def test_a_monitor_that_is_listed_meanwhile_leaves_quarantine(tmp_path):
    talk = Talk(devices_file(tmp_path))
    device = talk.monitor(mn=STRANGER)
    device.fume()
    talk.use(devices_file(tmp_path, f'{DEVICES}[[device]]\nid = "{STRANGER}"\nclass = "fume-monitor"\n', "more.toml"))
    device.fume()
    assert [data.get("flags") for data in talk.data()] == ["unlisted", None]
    assert talk.states()[-1] == ("online", "listed now")
    talk.use(devices_file(tmp_path))
    device.fume()
    assert talk.data()[-1]["flags"] == "unlisted"
    assert talk.states()[-1] == ("offline", "not listed any more")


@pytest.mark.parametrize("mn", ["", "a b", "标", "x" * 65, "-x"])
def test_an_mn_that_is_none_is_a_gap_and_not_answered(talk, mn):
    device = talk.monitor(mn=mn)
    assert messages_of(device.fume()) == []
    assert talk.gaps() == [("mn", 1)]
    assert talk.data() == []


def test_many_monitors_over_one_connection(talk):
    device = talk.monitor()
    device.fume()
    second = talk.monitor(2, mn=OTHER)
    second.link = 1
    second.send("2011", f"DataTime={second.time()};006-Rtd=1,006-ID=1")
    assert talk.counter("online") == 2
    talk.tell(LinkDown(1, "closed by peer"))
    assert talk.states() == [
        ("online", "heard"), ("online", "heard"), ("offline", "closed by peer"), ("offline", "closed by peer"),
    ]  # fmt: skip


def test_the_crc_of_another_kind_counts_for_its_device_only(talk):
    wrong = talk.monitor(1, variant="modbus_low_byte_first")
    assert messages_of(wrong.fume()) == []
    assert talk.data() == []
    right = talk.monitor(2, mn=OTHER, variant="modbus_low_byte_first")
    commands = right.send("2011", f"DataTime={right.time()};006-Rtd=1,006-ID=1")
    assert talk.data()[0]["deviations"] == "crc-modbus"
    (emit,) = [one for one in commands if isinstance(one, Emit)]
    qn = messages_of([emit])[0].qn
    assert emit.ack == encode(right.message("9014", "", qn=qn, st="91", flag=4), "modbus_low_byte_first")
    assert talk.gaps() == [("crc-variant", 1)]


def test_the_source_may_set_the_other_crc_for_all(tmp_path):
    talk = Talk(devices_file(tmp_path), crc="modbus_low_byte_first")
    talk.monitor(variant="modbus_low_byte_first").fume()
    assert talk.data()[0]["deviations"] == "crc-modbus"


def test_two_senders_under_one_mn_are_told(talk):
    first, second = talk.monitor(1), talk.monitor(2)
    first.fume("0.1")
    second.fume("0.2")
    assert ("duplicate", "duplicate") not in talk.states()
    first.fume("0.3")
    assert ("duplicate", "duplicate") in talk.states()
    assert len(talk.data()) == 3


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("offset_s", [YEAR_S, -YEAR_S, 600, -600])
def test_a_clock_that_is_off_is_recorded_and_the_readings_are_kept(talk, offset_s):
    device = talk.monitor(offset_s=offset_s)
    for _ in range(5):
        device.fume()
        talk.wait(10)
    assert len(talk.data()) == 5
    assert talk.data()[0]["taken_utc_s"] == START_UTC_NS // 10**9 + offset_s
    (state,) = [data for data in talk.data("device.state") if data["state"] == "clock"]
    assert abs(state["offset_s"] - offset_s) <= 1
    assert ["clock-off" in data.get("flags", "") for data in talk.data()] == [False, False, True, True, True]
    assert abs(talk.data()[-1]["clock_offset_s"] - offset_s) <= 1
    assert all(set(data.get("flags", "").split()) <= FLAGS for data in talk.data())
    flag = {YEAR_S: "future", 600: "future", -YEAR_S: "stale", -600: ""}[offset_s]
    assert all(flag in data.get("flags", "") for data in talk.data())
    device.offset_s = 0
    for _ in range(70):
        device.fume()
        talk.wait(10)
    assert [data["reason"] for data in talk.data("device.state") if data["state"] == "clock"][1:] == [
        "the device's clock is right",
    ]  # fmt: skip
    assert "flags" not in talk.data()[-1]


def test_a_clock_that_jumps_about_is_told_at_a_bounded_rate(talk):
    device = talk.monitor()
    for number in range(600):
        device.offset_s = (number // 4) * 1000
        device.fume()
        talk.wait(10)
    assert len([1 for data in talk.data("device.state") if data["state"] == "clock"]) <= 11


def test_stored_messages_sent_late_say_nothing_of_the_clock(talk):
    device = talk.monitor()
    for number in range(100):
        device.send(
            "2051", "DataTime=20261118110000;a34041-Avg=1", qn=beijing(START_UTC_NS - (7000 - 60 * number) * 10**9)
        )
    device.send("2051", "DataTime=20261118110000;a34041-Avg=2", backfill=True, qn="20251118110000000")
    assert [data["state"] for data in talk.data("device.state")] == ["online"]


@pytest.mark.parametrize("text", ["", "2026", "20261318120000", "20261118250000", "现在"])
def test_a_time_that_is_none_is_kept_and_flagged(talk, text):
    device = talk.monitor()
    device.send("2011", f"DataTime={text};a34041-Rtd=1")
    (draft,) = talk.drafts("reading")
    assert "no-time" in draft.data["flags"]
    assert "taken_utc_s" not in draft.data
    assert (draft.device_time.text if draft.device_time else "") == text


# ---------------------------------------------------------------- encrypted


def test_encrypted_readings_are_read(tmp_path):
    talk = Talk(devices_file(tmp_path), keys=ring((KEY.decode(), "", "")))
    device = talk.monitor(flag=9, key=KEY)
    (emit,) = device.fume()
    assert [answer.cn for answer in messages_of([emit])] == ["9014"]
    (draft,) = talk.drafts("reading")
    assert draft.data["values"][0]["value_e6"] == 770_000
    assert b"{0x" in (draft.raw or b"")
    assert "flags" not in draft.data


def test_what_no_key_opens_is_kept_in_quarantine_and_answered(tmp_path):
    talk = Talk(devices_file(tmp_path))
    device = talk.monitor(flag=9, key=KEY)
    frame = device.frame("2011", f"DataTime={device.time()};a34041-Rtd=0.77,a34041-Flag=N")
    assert len(messages_of(device.raw(frame))) == 1
    assert len(messages_of(device.raw(frame))) == 1
    (draft,) = talk.drafts("reading")
    assert draft.raw == frame[:-2]
    assert draft.data["flags"] == "no-time undecrypted"
    assert draft.data["problem"] == "no key for this monitor"
    assert draft.data["values"] == []
    assert talk.counter("undecrypted") == 2
    assert talk.gaps() == []


def test_an_old_key_opens_what_was_written_under_it(tmp_path):
    keys = ring((KEY.decode(), "2026-01-01", "2026-04-01"), ("0123456789abcdef", "2026-04-01", ""))
    talk = Talk(devices_file(tmp_path), keys=keys)
    device = talk.monitor(flag=9, key=KEY)
    device.send("2051", "DataTime=20260302183000;a34041-Avg=0.7", backfill=True, qn="20260302183000123")
    device.fume()
    device.key = b"0123456789abcdef"
    device.fume()
    assert [data.get("problem") for data in talk.data()] == [None] * 3
    device.key = b"fedcba9876543210"
    device.fume()
    assert talk.data()[-1]["problem"] == "no key fits"


def test_a_damaged_encrypted_frame_is_not_taken(tmp_path):
    talk = Talk(devices_file(tmp_path), keys=ring((KEY.decode(), "", "")))
    device = talk.monitor(flag=9, key=KEY)
    frame = device.frame("2011", f"DataTime={device.time()};a34041-Rtd=0.77,a34041-Flag=N")
    assert messages_of(device.raw(frame.replace(b"PW=123456", b"PW=123457"))) == []
    assert talk.data() == []
    assert talk.gaps() == [("crc", 1)]


def test_encrypted_parts_survive_a_kill(tmp_path):
    talk = Talk(devices_file(tmp_path), keys=ring((KEY.decode(), "", "")))
    device = talk.monitor(flag=9, key=KEY)
    device.raw(part(device, 1, 2))
    after = talk.again()
    later = after.monitor(flag=9, key=KEY)
    later.raw(part(later, 2, 2))
    assert [value["code"] for value in after.data()[0]["values"]] == ["c1", "c2"]
