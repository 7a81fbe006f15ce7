"""Operators' orders: sent with a QN of their own, repeated, answered by 9011, values, 9012; every way they end."""

import pytest

from drivers.hj212.acts import LinkDown, Send
from drivers.hj212.requests import ACTIONS, compose
from drivers.wishes import WishError
from tests.drivers.hj212.talk import MN, OTHER, STRANGER, Monitor, Talk, devices_file, messages_of

NOW = "20261118120000"


@pytest.fixture
def talk(tmp_path):
    return Talk(devices_file(tmp_path))


def heard(talk: Talk, link: int = 1, mn: str = MN, **more) -> Monitor:
    device = talk.monitor(link, mn, **more)
    device.fume()
    return device


def asked(talk: Talk, action: str, mn: str = MN, **parameters):
    """The command that went out."""
    commands = talk.order(action, mn, **parameters)
    assert [type(one) for one in commands] == [Send]
    (message,) = messages_of(commands)
    return message


def say(device: Monitor, order, cn: str, cp: str = "", **more):
    return device.send(cn, cp, qn=order.qn, st="91", flag=4, **more)


@pytest.mark.parametrize(
    ("action", "parameters", "cn", "cp"),
    [
        ("time", {}, "1011", ""),
        ("set-time", {}, "1012", f"SystemTime={NOW}"),
        ("set-time", {"factor": "w01018"}, "1012", f"PolId=w01018;SystemTime={NOW}"),
        ("timeouts", {"overtime_s": 5, "retries": 3}, "1000", "OverTime=5;ReCount=3"),
        ("realtime-interval", {}, "1061", ""),
        ("set-realtime-interval", {"interval_s": 30}, "1062", "RtdInterval=30"),
        ("minute-interval", {}, "1063", ""),
        ("set-minute-interval", {"minutes": 10}, "1064", "MinInterval=10"),
        ("realtime", {}, "2011", ""),
        ("stop-realtime", {}, "2012", ""),
        ("run-state", {}, "2021", ""),
        ("stop-run-state", {}, "2022", ""),
        (
            "history",
            {"message": "2051", "begin": "20261118080000", "end": "20261118090000"},
            "2051",
            "BeginTime=20261118080000;EndTime=20261118090000",
        ),
        (
            "history",
            {"message": 2061, "begin": 20261118080000, "end": 20261118090000},
            "2061",
            "BeginTime=20261118080000;EndTime=20261118090000",
        ),
        ("zero-span", {"factor": "a34041"}, "3011", "PolId=a34041"),
        ("sample", {"factor": "a34041"}, "3012", "PolId=a34041"),
        ("clean", {"factor": "a34041"}, "3013", "PolId=a34041"),
        ("compare", {"factor": "a34041"}, "3014", "PolId=a34041"),
        ("identity", {"factor": "a34041"}, "3019", "PolId=a34041"),
        ("device-values", {"factor": "a34041", "id": "i12001"}, "3020", "PolId=a34041;InfoId=i12001"),
        (
            "device-values",
            {"factor": "a34041", "id": "i11001", "begin": "20261118080000", "end": "20261118090000"},
            "3020",
            "PolId=a34041;InfoId=i11001;BeginTime=20261118080000;EndTime=20261118090000",
        ),
        (
            "set-device-values",
            {"factor": "a34041", "id": "i13004", "value": "168.0"},
            "3021",
            "PolId=a34041;InfoId=i13004;i13004-Info=168.0",
        ),
    ],
)
def test_every_action_has_its_command(action, parameters, cn, cp):
    wish = compose(action, parameters, NOW)
    assert (wish.cn, wish.cp) == (cn, cp)
    assert action in ACTIONS


@pytest.mark.parametrize(
    ("action", "parameters", "said"),
    [
        ("fly", {}, "no action 'fly' for HJ 212; there are time, set-time"),
        ("time", {"when": 1}, "when: not known here; known: timeout_s"),
        ("time", {"timeout_s": 0}, "timeout_s: 0 is not a whole number from 1 to 80"),
        ("set-realtime-interval", {"interval_s": 29}, "interval_s: 29 is not a whole number from 30 to 3600"),
        ("set-minute-interval", {"minutes": 7}, "minutes: 7 is not one of 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30"),
        ("sample", {}, "factor: missing; give a text"),
        ("sample", {"factor": "a;CP=&&"}, "factor: 'a;CP=&&': give at most 64 letters"),
        ("history", {"message": "2051", "begin": "8", "end": "9"}, "begin: '8' is no time; give 14 digits"),
        ("history", {"message": "2011"}, "message: '2011' is not known; use 2031, 2041, 2051, 2061"),
        ("set-device-values", {"factor": "a", "id": "i", "value": "1,b-Info=2"}, "value: "),
    ],
)
def test_what_is_wrong_with_an_order_is_one_line(talk, action, parameters, said):
    with pytest.raises(WishError) as caught:
        compose(action, parameters, NOW)
    assert str(caught.value).startswith(said)
    heard(talk)
    talk.order(action, **parameters)
    (outcome,) = talk.outcomes()
    assert outcome.state == "refused"
    assert outcome.detail == str(caught.value)


def test_9011_values_9012(talk):
    device = heard(talk)
    order = asked(talk, "time")
    assert (order.cn, order.st, order.pw, order.mn, order.flag) == ("1011", "31", "123456", MN, 5)
    assert len(order.qn) == 17
    say(device, order, "9011", "QnRtn=1")
    assert talk.outcomes() == []
    say(device, order, "1011", "SystemTime=20261118120001")
    say(device, order, "9012", "ExeRtn=1")
    (outcome,) = talk.outcomes()
    assert (outcome.state, outcome.detail) == ("done", "the device has done it")
    assert outcome.result == {
        "qn": order.qn, "messages": 1, "exe_return": "1",
        "answer": [{"name": "SystemTime", "text": "20261118120001"}],
    }  # fmt: skip
    assert [data["message"] for data in talk.data("device.message")] == ["9011", "1011", "9012"]
    assert talk.counter("answers_unmatched") == 0


def test_values_asked_for_are_readings_like_all_others(talk):
    device = heard(talk)
    order = asked(talk, "history", message="2051", begin="20261118080000", end="20261118090000")
    say(device, order, "9011", "QnRtn=1")
    for minute in (0, 10, 20):
        text = f"DataTime=202611180{8}{minute:02d}00;a34041-Avg=1.{minute}"
        answered = device.send("2051", text, qn=order.qn, flag=5)
        assert [one.cn for one in messages_of(answered)] == ["9014"]
    say(device, order, "9012", "ExeRtn=1")
    assert len([data for data in talk.data() if data["message"] == "2051"]) == 3
    assert talk.outcomes()[0].result["messages"] == 3
    assert not [data for data in talk.data("device.state") if data["state"] == "clock"]


@pytest.mark.parametrize(
    ("value", "word"), [("2", "refused"), ("3", "PW wrong"), ("100", "unknown error"), ("", "QnRtn ")]
)
def test_a_device_refuses(talk, value, word):
    device = heard(talk)
    say(device, asked(talk, "time"), "9011", f"QnRtn={value}")
    (outcome,) = talk.outcomes()
    assert (outcome.state, outcome.detail) == ("refused", f"the device answers: {word}")
    assert talk.session.deadline_ns() is not None


@pytest.mark.parametrize(
    ("value", "word"), [("2", "failed, reason unknown"), ("5", "failed, device busy"), ("7", "ExeRtn 7")]
)
def test_a_device_fails(talk, value, word):
    device = heard(talk)
    order = asked(talk, "sample", factor="a34041")
    say(device, order, "9011", "QnRtn=1")
    say(device, order, "9012", f"ExeRtn={value}")
    assert talk.outcomes()[0].detail == f"the device answers: {word}"


@pytest.mark.parametrize("cn", ["9013", "9014"])
def test_a_notice_is_done_when_it_is_taken(talk, cn):
    device = heard(talk)
    say(device, asked(talk, "stop-realtime"), cn)
    assert talk.outcomes()[0].state == "done"


def test_an_order_without_an_answer_is_repeated_three_times(talk):
    heard(talk)
    order = asked(talk, "time")
    again = messages_of(talk.wait(31), acks=False)
    assert [message.qn for message in again] == [order.qn] * 3
    assert talk.outcomes() == []
    talk.wait(10)
    (outcome,) = talk.outcomes()
    assert (outcome.state, outcome.detail) == (
        "timeout", "no answer to 4 attempts; the device may have done it all the same",
    )  # fmt: skip


def test_a_device_that_was_ready_and_then_silent(talk):
    device = heard(talk)
    order = asked(talk, "sample", factor="a34041", timeout_s=30)
    say(device, order, "9011", "QnRtn=1")
    assert messages_of(talk.wait(29), acks=False) == []
    assert talk.outcomes() == []
    talk.wait(2)
    assert talk.outcomes()[0].state == "timeout"
    assert "ready" in talk.outcomes()[0].detail


def test_an_order_is_over_after_two_minutes_however_much_still_comes(talk):
    device = heard(talk)
    order = asked(talk, "history", message="2061", begin="20261101000000", end="20261118000000")
    for hour in range(15):
        device.send("2061", f"DataTime=20261101{hour:02d}0000;a34041-Avg=1", qn=order.qn)
        talk.wait(9)
    (outcome,) = talk.outcomes()
    assert (outcome.state, outcome.result["messages"]) == ("done", 14)
    assert len([data for data in talk.data() if data["message"] == "2061"]) == 15


def test_values_without_a_result_are_enough(talk):
    device = heard(talk)
    order = asked(talk, "time")
    say(device, order, "1011", "SystemTime=20261118120001")
    talk.wait(11)
    (outcome,) = talk.outcomes()
    assert outcome.state == "done"
    assert outcome.result["answer"] == [{"name": "SystemTime", "text": "20261118120001"}]


def test_a_device_of_2005_answers_with_the_qn_in_its_cp(talk):
    device = heard(talk, flag=1)
    order = asked(talk, "realtime-interval")
    assert order.flag == 1
    device.send("9011", f"QN={order.qn};QnRtn=1", qn="", flag=0, st="91")
    device.send("9012", f"QN={order.qn};ExeRtn=1", qn="", flag=None, st="91")
    assert talk.outcomes()[0].state == "done"


def test_orders_carry_what_the_device_and_its_list_say(talk):
    device = talk.monitor(2, OTHER, variant="modbus_low_byte_first", st="51", flag=9)
    device.send("2011", "DataTime=20261118120000;006-Rtd=1")
    (send,) = talk.order("time", OTHER)
    (order,) = messages_of([send])
    assert (order.st, order.pw, order.flag) == ("51", "654321", 9)
    assert order.deviations == {"crc-modbus"}


def test_devices_that_are_not_there(talk):
    talk.order("time", MN)
    talk.order("time", "NOBODY")
    assert [outcome.state for outcome in talk.outcomes()] == ["offline", "unknown"]
    device = heard(talk)
    talk.order("time")
    device.down()
    assert [outcome.state for outcome in talk.outcomes()][2:] == ["offline"]
    talk.order("time")
    assert [outcome.state for outcome in talk.outcomes()][3:] == ["offline"]


def test_a_device_has_four_orders_at_most(talk):
    heard(talk)
    qns = {asked(talk, "time").qn for _ in range(4)}
    assert len(qns) == 4, "orders in one millisecond have different numbers"
    talk.order("time")
    assert talk.outcomes()[0].state == "refused"


def test_answers_of_another_device_or_to_nothing_do_not_count(talk):
    device = heard(talk)
    stranger = heard(talk, 2, STRANGER)
    order = asked(talk, "time")
    say(stranger, order, "9012", "ExeRtn=1")
    device.send("9012", "ExeRtn=1", qn="20261118120000999", flag=4)
    assert talk.outcomes() == []
    assert talk.counter("answers_unmatched") == 2


def test_the_minute_period_that_an_order_sets_counts_from_then_on(talk):
    device = heard(talk)
    order = asked(talk, "set-minute-interval", minutes=5)
    say(device, order, "9011", "QnRtn=1")
    say(device, order, "9012", "ExeRtn=1")
    device.send("2051", "DataTime=20261118120000;a34041-Avg=1")
    assert talk.data()[-1]["period_s"] == 300
    order = asked(talk, "minute-interval")
    say(device, order, "1063", "MinInterval=20")
    device.send("2051", "DataTime=20261118120000;a34041-Avg=2")
    assert talk.data()[-1]["period_s"] == 1200
    after = talk.again()
    later = after.monitor()
    later.send("2051", "DataTime=20261118120000;a34041-Avg=3")
    assert after.data()[-1]["period_s"] == 1200


def test_an_order_to_a_monitor_that_changed_its_link_follows_it(talk):
    heard(talk)
    second = talk.monitor(2)
    second.fume("0.9")
    (send,) = talk.order("time")
    assert send.to == 2
    talk.tell(LinkDown(1))
    assert talk.outcomes() == []
