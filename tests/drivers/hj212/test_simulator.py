"""The simulated monitor: messages by the standard, nothing deleted before 9014, oddities as they are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.fleet.kitchens import Upset
from drivers.hj212 import codec, dialect
from drivers.hj212.simulated import DialectName, Edition, digits, utc_of
from drivers.hj212.simulator import ODDITIES, Habits, Monitor, Oddity
from firmware_profiles.loader import load_monitor
from tests.drivers.hj212.authority_side import MN, T0, Platform, monitor, run

KEY = b"msbE74gsiSHSEh5e"


def odd(*oddities: Oddity) -> Habits:
    return Habits(oddities=frozenset(oddities))


def times(platform: Platform) -> list[int]:
    """Device times of the 2011 that came."""
    found = [utc_of(one.params["DataTime"][:14]) for one in platform.of("2011")]
    return [utc_s for utc_s in found if utc_s is not None]


@pytest.mark.parametrize("edition", [2005, 2017, 2025])
def test_a_conforming_monitor_deviates_in_nothing(edition: Edition) -> None:
    one, platform = monitor(Habits(edition=edition), for_s=1800), Platform()
    run(one, platform, 2000)
    assert times(platform) == list(range(T0, T0 + 1800, 60))
    assert {label for message in platform.messages for label in message.deviations} == set()
    assert {message.version for message in platform.messages} == {{2005: 0, 2017: 1, 2025: 2}[edition]}
    assert len(one.truth.acknowledged) == 30
    assert one.truth.unacknowledged == 0
    assert one.is_finished(2000)
    assert len({message.qn for message in platform.messages}) == len(platform.messages)


@pytest.mark.parametrize("name", ["fume-d1", "fume-d2", "fume-d3"])
def test_profiles_read_what_was_measured(name: DialectName) -> None:
    one, platform = monitor(Habits(dialect=name), for_s=600), Platform()
    run(one, platform, 700)
    loaded = load_monitor(name)
    reader = dialect.compile(loaded.profile, loaded.ref)
    assert len(platform.of("2011")) == 10
    for message in platform.of("2011"):
        seen = one.truth.measured[reader.time_utc_s(message.params["DataTime"]) or 0]
        values = {value["quantity"]: value for value in reader.read(message.factors)}
        assert values["fume"]["value_e6"] == seen.fume_e2 * 10_000
        assert values["fume"]["quality"] == "good"
        assert values["fan_state"]["state"] == ("on" if seen.fan_on else "off")
        assert values["purifier_state"]["state"] == ("on" if seen.purifier_on else "off")
        if name == "fume-d3":
            assert values["purifier_current"]["value_e6"] == seen.purifier_ma * 1000


def test_a_monitor_that_logs_in_sends_nothing_before_it_is_let_in() -> None:
    one, platform = monitor(Habits(dialect="fume-d2"), for_s=300), Platform(silent=True)
    run(one, platform, 10)
    assert {message.cn for message in platform.messages} == {"9021"}
    platform.silent = False
    run(one, platform, 400, begin_s=11)
    assert times(platform) == list(range(T0, T0 + 300, 60))
    assert one.truth.unacknowledged == 0


def test_what_is_not_acknowledged_comes_again_the_same_bytes() -> None:
    one, platform = monitor(for_s=60), Platform(silent=True)
    run(one, platform, 100)
    first = platform.frames[0]
    assert len(platform.frames) > 4
    assert set(platform.frames) == {first}
    assert one.truth.unacknowledged == 1
    assert one.counts.links > 1
    platform.silent = False
    run(one, platform, 200, begin_s=101)
    assert one.truth.unacknowledged == 0
    assert platform.frames[-1] == first
    assert one.is_finished(200)


def test_a_foreign_answer_acknowledges_nothing() -> None:
    one, platform = monitor(for_s=60), Platform(silent=True)
    platform.feed(one.link_up(0.0) + one.due(0.0))
    (sent,) = platform.messages
    stranger = codec.Message(qn=sent.qn, st="91", cn="9014", pw=sent.pw, mn="1" * 24, flag=4)
    for answer in (
        platform.say(sent, "9014", qn="20200101000000000"),
        platform.say(sent, "9013"),
        platform.say(sent, "9011", "QnRtn=1"),
        codec.encode(stranger),
    ):
        one.received(answer, 0.1)
        assert one.truth.unacknowledged == 1
    one.received(platform.say(sent, "9014"), 0.2)
    assert one.truth.unacknowledged == 0


def test_without_a_network_it_keeps_and_2025_says_that_it_is_late() -> None:
    late = Upset("late", T0 + 300, T0 + 900)
    one, platform = monitor(Habits(edition=2025), late, for_s=1800), Platform()
    run(one, platform, 2000)
    assert sorted(times(platform)) == list(range(T0, T0 + 1800, 60))
    marked = [utc_of(message.params["DataTime"]) for message in platform.of("2011") if message.backfill]
    assert marked == list(range(T0 + 300, T0 + 900, 60))
    assert one.counts.links == 2


def test_a_dead_monitor_measures_nothing() -> None:
    one, platform = monitor(None, Upset("offline", T0 + 300, T0 + 900), for_s=1800), Platform()
    run(one, platform, 2000)
    assert sorted(times(platform)) == [utc_s for utc_s in range(T0, T0 + 1800, 60) if not 300 <= utc_s - T0 < 900]


def test_minute_data_are_of_what_was_measured() -> None:
    one, platform = monitor(Habits(minutes=5), for_s=1800), Platform()
    run(one, platform, 2000)
    periods = platform.of("2051")
    assert len(periods) >= 5
    for message in periods:
        begin = utc_of(message.params["DataTime"]) or 0
        assert begin % 300 == 0
        seen = [one.truth.measured[utc_s].fume_e2 for utc_s in one.truth.measured if begin <= utc_s < begin + 300]
        ((_, fields),) = message.factors
        assert fields["Max"] == f"{max(seen) / 100:.2f}"
        assert fields["Min"] == f"{min(seen) / 100:.2f}"


def test_encrypted_content_opens_with_the_key() -> None:
    one, platform = monitor(Habits(edition=2025, key=KEY), for_s=120), Platform()
    out = one.link_up(0.0) + one.due(0.0)
    platform.feed(out)
    (message,) = platform.messages
    assert message.is_encrypted
    (frame,) = [found for found in codec.Decoder().feed(b"".join(out)) if isinstance(found, codec.Frame)]
    found = codec.opened(frame, message, KEY)
    assert found is not None
    segment, is_right = found
    assert is_right
    assert codec.parse(segment).params["DataTime"] == digits(T0)


# ---------------------------------------------------------------- oddities


@pytest.mark.parametrize("name", ODDITIES)
def test_nothing_is_lost_by_an_oddity(name: Oddity) -> None:
    one, platform = monitor(odd(name), for_s=3600), Platform()
    run(one, platform, 3800)
    assert sorted(set(times(platform))) == list(range(T0, T0 + 3600, 60))
    assert one.truth.unacknowledged == 0
    assert one.is_finished(3800)


def test_each_oddity_is_what_it_says() -> None:
    labels = {"no-qn": {"qn-missing", "flag-missing"}, "qn-13": {"qn-13-digits"}, "long": {"segment-long", "cp-long"}}
    for name, wanted in labels.items():
        one, platform = monitor(odd(name), for_s=120), Platform()  # type: ignore[arg-type]
        run(one, platform, 200)
        assert {label for message in platform.messages for label in message.deviations} == wanted
    one, platform = monitor(odd("bad-crc-once"), for_s=3600), Platform()
    run(one, platform, 3800)
    assert len([found for found in platform.malformed if found.reason == "crc"]) == one.counts.damaged >= 5
    one, platform = monitor(odd("doubled"), for_s=3600), Platform()
    run(one, platform, 3800)
    assert len(platform.frames) - len(set(platform.frames)) == one.counts.resent >= 10


def test_no_line_end_and_frames_stuck_together() -> None:
    plain, cut = monitor(for_s=60), monitor(odd("no-crlf"), for_s=60)
    assert b"".join(plain.link_up(0.0) + plain.due(0.0)).endswith(b"\r\n")
    assert b"\n" not in b"".join(cut.link_up(0.0) + cut.due(0.0))
    one = monitor(odd("sticky"), interval_s=1)
    sizes = [len(one.link_up(0.0) + one.due(0.0))]
    sizes += [len(one.due(at_s / 10)) for at_s in range(1, 60)]
    assert max(sizes) >= 3
    assert 1 not in sizes[1:20]


def test_a_torn_frame_comes_in_two_halves_and_nothing_between_them() -> None:
    one, platform = monitor(odd("torn"), for_s=120), Platform(silent=True)
    (head,) = one.link_up(0.0) + one.due(0.0)
    sent = codec.Message(qn="20260921221320000", st="91", cn="1061", pw="123456", mn=MN, flag=5)
    assert one.received(codec.encode(sent), 0.1) == []
    assert one.due(0.2) == []
    assert one.deadline_s(0.2) == pytest.approx(0.5)
    (tail,) = one.due(0.5)
    platform.feed([head, tail])
    assert [message.cn for message in platform.messages] == ["2011", "9011", "1061", "9012"]
    assert platform.malformed == []


# ---------------------------------------------------------------- orders


def order(one: Monitor, cn: str, cp: str = "") -> list[codec.Message]:
    """What a monitor answers."""
    platform = Platform(silent=True)
    asked = codec.Message(qn="20260921221320000", st="31", cn=cn, pw="123456", mn=MN, flag=5, cp=cp)
    platform.feed(one.received(codec.encode(asked), 1.0))
    return [message for message in platform.messages if message.cn != "2011"]


def test_orders_are_answered_by_9011_the_answer_and_9012() -> None:
    one = monitor()
    one.link_up(0.0)
    ready, told, done = order(one, "1011")
    assert (ready.cn, ready.params, ready.st) == ("9011", {"QnRtn": "1"}, "91")
    assert (told.cn, told.params) == ("1011", {"SystemTime": digits(T0 + 1)})
    assert (done.cn, done.params) == ("9012", {"ExeRtn": "1"})
    assert {message.qn for message in (ready, told, done)} == {"20260921221320000"}
    assert {message.wants_answer for message in (ready, told, done)} == {False}
    assert [message.cn for message in order(one, "1012", "SystemTime=20260921221500")] == ["9011", "9012"]
    assert one.clock_set_utc_s == utc_of("20260921221500")
    assert order(one, "1061")[1].params == {"RtdInterval": "60"}
    order(one, "1062", "RtdInterval=30")
    assert one.interval_s == 30
    order(one, "1064", "MinInterval=15")
    assert order(one, "1063")[1].params == {"MinInterval": "15"}
    assert one.counts.orders == 6


@pytest.mark.parametrize(
    ("cn", "cp"), [("3012", ""), ("1062", "RtdInterval=5"), ("1064", "MinInterval=7"), ("1012", "SystemTime=2")]
)
def test_what_it_cannot_do_is_refused(cn: str, cp: str) -> None:
    one = monitor()
    one.link_up(0.0)
    (answer,) = order(one, cn, cp)
    assert (answer.cn, answer.params) == ("9011", {"QnRtn": "8"})
    assert (one.interval_s, one.minutes, one.clock_set_utc_s) == (60, 0, None)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=80), max_size=8))
def test_any_bytes_never_raise(pieces: list[bytes]) -> None:
    one = monitor(odd("torn"))
    one.link_up(0.0)
    for number, piece in enumerate(pieces):
        one.received(piece, float(number))
    assert one.truth.unacknowledged == len(one.truth.measured)


def test_a_full_memory_drops_the_oldest_and_says_so() -> None:
    one, platform = monitor(Habits(stored_max=10), for_s=1800), Platform(silent=True)
    run(one, platform, 1900)
    assert len(one.truth.dropped) >= 15
    assert one.truth.unacknowledged <= 15
