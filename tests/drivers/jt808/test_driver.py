"""The session as lists of events and expected commands: who is let in, what is stored, when it is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jt808.acts import (
    DatagramReceived,
    DevicesChanged,
    Emit,
    Kept,
    Pause,
    Resume,
    Send,
    Shutdown,
    StoreResumed,
    TimerFired,
)
from drivers.jt808.codec import (
    Address,
    Heartbeat,
    LogOff,
    Opaque,
    RegistrationReply,
    Text,
    Version,
)
from drivers.jt808.driver import Limits
from gateway.core.record import DeviceTime
from gateway.devices import load
from tests.drivers.jt808.talk import (
    PHONE,
    Client,
    Talk,
    bcd,
    devices_file,
    frames_of,
    location,
    media,
    messages_of,
    replies,
)


@pytest.fixture
def talk(tmp_path):
    return Talk(devices_file(tmp_path))


# ------------------------------------------------------------------------------------------- coming


@pytest.mark.parametrize("version", list(Version))
def test_a_terminal_registers_authenticates_and_reports(talk, version):
    client = talk.terminal(1, version=version)
    (accepted,) = messages_of(client.register(), sent=False)
    assert accepted == RegistrationReply(0, 0, Text(talk.session.terminals.code_of(PHONE).encode()))
    assert replies(client.authenticate(), sent=False) == [(1, 0x0102, 0)]
    commands = client.send(location(-3))
    (emit,) = [one for one in commands if isinstance(one, Emit)]
    assert replies(commands, sent=False) == [(2, 0x0200, 0)]
    (draft,) = emit.drafts
    assert (draft.kind, draft.source, draft.device) == ("position", "trucks", PHONE)
    assert {"class": "muck", "plate": "浙F00001", "datum": "WGS-84"}.items() <= draft.data.items()
    assert draft.data["lat_e7"] == 306_242_980
    assert draft.device_time == DeviceTime(bcd(-3), "+08:00", "frame")
    assert draft.profile
    assert draft.profile.id == "jt808"
    assert draft.raw
    assert draft.raw[:1] == draft.raw[-1:] == b"\x7e"
    assert talk.states() == [("registered", "registered"), ("online", "authenticated")]
    registered, online = talk.data("device.state")
    assert (registered["maker"], registered["plate_said"], registered["edition"]) == ("FG", "浙F00001", int(version))
    assert (online["address"], online["link"], online["edition"]) == ("10.0.0.9:40001", "tcp", int(version))
    assert [frame.version for frame in frames_of(commands)] == [max(version, Version.V2013)]


def test_serial_numbers_of_downlinks_count_per_terminal(talk):
    first, second = talk.terminal(1).online(), talk.terminal(2, "13800000002").online()
    seen = [
        (one.identity[-1], frame.serial)
        for at, one in enumerate((first, second, first))
        for frame in frames_of(one.send(location(at), Heartbeat()))
    ]
    assert sorted(seen) == [("1", 1), ("1", 2), ("1", 3), ("1", 4), ("2", 1), ("2", 2)]


def test_whoever_is_not_listed_is_refused_and_nothing_is_acknowledged(talk):
    client = talk.terminal(1, "13899999999")
    commands = client.register()
    assert messages_of(commands, acks=False) == [RegistrationReply(0, 4)]
    assert replies(client.authenticate("guess"), acks=False) == [(1, 0x0102, 1)]
    assert replies(client.send(location())) == []
    assert talk.drafts("position") == []
    assert {data["reason"] for data in talk.data("device.state")} == {"not listed"}
    refused = talk.drafts("device.state")[0]
    assert (refused.device, refused.data["address"], refused.data["plate_said"]) == (
        "13899999999", "10.0.0.9:40001", "浙F00001",
    )  # fmt: skip
    assert talk.session.counters()["refused"] == 3
    assert talk.closed() == []
    client.register()
    assert talk.closed() == [1]


def test_a_position_before_authentication_is_no_evidence(talk):
    client = talk.terminal(1)
    for second in range(50):
        assert replies(client.send(location(second), Heartbeat())) == []
    assert talk.drafts("position") == []
    (told,) = talk.drafts("device.state")
    assert (told.data["state"], told.data["reason"], told.data["message"]) == ("refused", "not authenticated", "0200")
    assert told.raw
    talk.wait(61)
    assert talk.data("device.state")[1]["count"] == 99


def test_wrong_codes_end_the_connection(talk):
    client = talk.terminal(1)
    for number in range(3):
        assert talk.closed() == []
        assert replies(client.authenticate("wrong"), acks=False) == [(number, 0x0102, 1)]
    assert talk.closed() == [1]
    assert client.send(location()) == []
    assert talk.states() == [("refused", "wrong code")]


def test_open_enrolment_goes_by_maker_and_model_and_outlives_a_restart(talk):
    client = talk.terminal(1, "13855555555")
    commands = client.register(maker=b"WORKS")
    state = {change.key: change.value for one in commands if isinstance(one, Emit) for change in one.state}
    assert list(state) == [b"t13855555555"]
    client.authenticate()
    client.send(location())
    assert talk.data("position")[0]["class"] == "works"
    again = Talk(talk.devices, remembered=state.items())
    client = again.terminal(1, "13855555555")
    assert replies(client.authenticate(), sent=False) == [(0, 0x0102, 0)]
    client.send(location())
    assert again.data("position")[0]["class"] == "works"


def test_without_a_devices_file_every_terminal_that_registers_is_taken():
    talk = Talk()
    client = talk.terminal(1, "13877777777").online()
    client.send(location())
    assert talk.data("position")[0]["class"] == "unlisted"


def test_fixed_codes_and_devices_without(talk):
    client = talk.terminal(1, "13800000002")
    assert messages_of(client.register(), sent=False) == [RegistrationReply(0, 3)]  # the secret is told to nobody
    assert replies(client.authenticate("fixed-code"), sent=False) == [(1, 0x0102, 0)]
    free = talk.terminal(2, "13800000003")
    assert replies(free.send(location()), sent=False) == [(0, 0x0200, 0)]
    assert talk.states()[-1] == ("online", "needs no code")
    assert replies(free.authenticate("anything"), sent=False) == [(1, 0x0102, 0)]


def test_2019_says_who_it_is(talk):
    talk.terminal(1, version=Version.V2019).online()
    online = talk.data("device.state")[-1]
    assert (online["imei"], online["software"]) == ("123456789012345", "1.0")


def test_registrations_and_authentications_that_cannot_be_read(talk):
    client = talk.terminal(1)
    client.send(Opaque(0x0100, b"\0", ""))
    assert talk.data("device.state")[0]["reason"].startswith("registration: malformed")
    assert talk.closed() == []


# ------------------------------------------------------------------------------------------- two with one identity


def test_two_connections_of_one_identity(talk):
    older = talk.terminal(1).online()
    talk.wait(5)
    newer = talk.terminal(2)
    assert replies(newer.authenticate(), sent=False) == [(0, 0x0102, 0)]
    assert talk.closed() == [1]
    assert talk.states()[2:] == [("duplicate", "duplicate"), ("online", "replaced")]
    told = talk.data("device.state")[2]
    assert (told["address"], told["other"], told["quiet_s"], told["count"]) == (
        "10.0.0.9:40002", "10.0.0.9:40001", 5, 1,
    )  # fmt: skip
    assert older.send(location()) == []
    assert older.down() == []
    newer.send(location())
    assert len(talk.drafts("position")) == 1


def test_a_dead_connection_gives_way_without_suspicion(talk):
    talk.terminal(1).online()
    talk.wait(61)
    talk.terminal(2).online()
    assert ("duplicate", "duplicate") not in talk.states()
    assert talk.states()[-1] == ("online", "replaced")


def test_senders_that_take_turns_are_told_once_a_minute_with_a_count(talk):
    for link in range(1, 41):
        talk.terminal(link).online()
        talk.wait(1)
    told = [data for data in talk.data("device.state") if data["state"] == "duplicate"]
    assert len(told) == 1
    talk.wait(61)
    told = [data["count"] for data in talk.data("device.state") if data["state"] == "duplicate"]
    assert told == [1, 38]
    assert talk.session.counters()["duplicates"] == 39


def test_a_frame_of_another_identity_is_not_taken(talk):
    client = talk.terminal(1).online()
    spoof = Client(talk, 1, Address.of("13800000002", Version.V2013))
    assert replies(spoof.send(location())) == []
    assert spoof.register() == []
    assert talk.drafts("position") == []
    assert talk.reasons() == [("identity", 1)]
    assert "13800000002" in talk.data("device.gap")[0]["detail"]
    assert replies(client.send(location())) == [(2, 0x0200, 0)]


def test_one_terminal_in_two_editions_on_one_connection(talk):
    talk.terminal(1).online()
    other = Client(talk, 1, Address.of(PHONE, Version.V2019))
    commands = other.send(location())
    assert [frame.version for frame in frames_of(commands)] == [Version.V2019]
    assert len(talk.drafts("position")) == 1


# ------------------------------------------------------------------------------------------- going


@pytest.mark.parametrize("reason", ["closed by peer", "link lost", "does not read"])
def test_offline_says_why(talk, reason):
    talk.terminal(1).online().down(reason)
    assert talk.states()[-1] == ("offline", reason)


def test_log_off(talk):
    client = talk.terminal(1).online()
    assert replies(client.send(LogOff()), sent=False) == [(2, 0x0003, 0)]
    assert talk.states()[-1] == ("offline", "logged-off")
    assert client.send(location())[0].drafts[0].data["reason"] == "not authenticated"
    assert client.down() == []


def test_a_reconnect_loop_cannot_fill_the_store_and_the_last_state_is_told(talk):
    for link in range(1, 301):
        client = talk.terminal(link).online()
        talk.wait(1)
        client.down()
    told = [state for state in talk.states() if state[0] in ("online", "offline")]
    assert len(told) <= 10 + 6
    talk.wait(3600)
    assert talk.states()[-1] == ("offline", "closed by peer")
    left_out = sum(data.get("left_out", 0) for data in talk.data("device.state"))
    told = [state for state in talk.states() if state[0] in ("online", "offline")]
    assert len(told) + left_out == 600


def test_silence_ends_a_connection(talk):
    talk.terminal(1)
    half = talk.terminal(2)
    half.raw(b"\x7e\x02\x00")
    unknown = talk.terminal(3)
    unknown.send(Heartbeat())
    client = talk.terminal(4).online()
    talk.wait(61)
    assert talk.closed() == [1, 2]
    talk.wait(500)
    client.send(Heartbeat())
    talk.wait(400)
    assert talk.closed() == [1, 2, 3]
    talk.wait(600)
    assert talk.closed() == [1, 2, 3, 4]
    client.down()
    assert talk.states()[-1] == ("offline", "idle")


def test_silence_that_we_made_is_nobody_s(talk):
    client = talk.terminal(1).online()
    talk.mono_s += 2000
    talk.tell(StoreResumed())
    talk.tell(TimerFired())
    assert talk.closed() == []
    client.send(location())
    assert len(talk.drafts("position")) == 1


def test_shutdown_tells_who_was_there(talk):
    talk.terminal(1).online()
    talk.terminal(2).raw(b"junk")
    talk.tell(Shutdown())
    assert talk.states()[-1] == ("offline", "shutdown")
    assert talk.session.counters()["links"] == 0


def test_another_devices_file(talk, tmp_path):
    client, stays = talk.terminal(1).online(), talk.terminal(2, "13800000002").online()
    text = (tmp_path / "devices.toml").read_text().replace(f'"{PHONE}"', '"13800000009"')
    talk.tell(DevicesChanged(load(devices_file(tmp_path, text))))
    assert talk.closed() == [1]
    assert talk.states()[-1] == ("offline", "not listed any more")
    assert client.send(location()) == []
    assert replies(stays.send(location()), sent=False)


# ------------------------------------------------------------------------------------------- hostile input


def test_garbage_before_after_and_inside(talk):
    client = talk.terminal(1).online()
    good = client.frames(location(0))[0], client.frames(location(1))[0]
    damaged = bytearray(good[0])
    damaged[20] ^= 1
    talk.bytes(1, b"\x00garbage", good[0], bytes(damaged), good[1], b"\x7e\x7e\x7e")
    assert len(talk.drafts("position")) == 2
    assert talk.reasons() == [("short", 1), ("check", 1)]
    for _ in range(100):
        talk.bytes(1, bytes(damaged))
    talk.wait(61)
    assert talk.reasons() == [("short", 1), ("check", 1), ("check", 100)]
    assert talk.data("device.gap")[2]["address"] == "10.0.0.9:40001"


def test_bytes_without_frames_end_the_connection(talk):
    talk.terminal(1)
    for _ in range(70):
        talk.bytes(1, b"x" * 1000)
    assert talk.closed() == [1]
    assert [reason for reason, _ in talk.reasons()] == ["overlong"]
    assert talk.bytes(1, b"x" * 1000) == []


def test_a_web_client_is_silent_to_us(talk):
    talk.terminal(1)
    talk.bytes(1, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    talk.wait(61)
    assert talk.closed() == [1]


def test_a_flood_is_read_more_slowly(talk):
    talk.limits = Limits(frames_per_s_max=10)
    talk.__post_init__()
    client = talk.terminal(1).online()
    commands = client.send(*(location(n) for n in range(150)))
    assert [one for one in commands if isinstance(one, Pause)] == [Pause(1)]
    assert len(talk.drafts("position")) == 150
    assert talk.reasons() == [("flood", 1)]
    assert [one for one in talk.wait(4) if isinstance(one, Resume)] == []
    assert [one for one in talk.wait(4) if isinstance(one, Resume)] == [Resume(1)]


def test_frames_in_any_chunks_give_the_same(talk):
    client = talk.terminal(1).online()
    stream = b"".join(b"".join(client.frames(location(n))) for n in range(20))
    for at in range(0, len(stream), 7):
        talk.bytes(1, stream[at : at + 7])
    assert len(talk.drafts("position")) == 20


@given(st.lists(st.binary(max_size=200) | st.integers(0, 400), max_size=20), st.randoms(use_true_random=False))
def test_any_bytes_are_survived_and_every_record_is_a_leaf(pieces, random):
    talk = Talk()
    client = talk.terminal(1).online()
    stream = bytearray()
    for piece in pieces:
        if isinstance(piece, bytes):
            stream += piece
        else:
            frame = bytearray(client.frames(location(piece))[0])
            if piece % 3 == 0:
                frame[random.randrange(len(frame))] ^= 1 << random.randrange(8)
            stream += frame
    while stream:
        size = random.randrange(1, 300)
        talk.bytes(1, bytes(stream[:size]))
        del stream[:size]
    talk.wait(2000)
    client.down()


MESSAGES = st.sampled_from([0x0001, 0x0002, 0x0003, 0x0004, 0x0005, 0x0100, 0x0102, 0x0104, 0x0107, 0x0200, 0x0201,
                            0x0702, 0x0704, 0x0800, 0x0801, 0x0805, 0x0900, 0x8001, 0x8103, 0x0F01])  # fmt: skip


@given(
    st.lists(st.tuples(MESSAGES | st.integers(0, 0xFFFF), st.binary(max_size=300)), max_size=12),
    st.sampled_from(list(Version)),
    st.booleans(),
)
def test_any_body_of_any_message_is_survived(bodies, version, is_packed):
    talk = Talk()
    client = talk.terminal(1, version=version).online()
    for msg_id, body in bodies:
        client.send(Opaque(msg_id, body, ""), part_bytes=50 if is_packed and body else 1023)
    for keep in talk.kept():
        talk.tell(Kept(keep.ticket, "ab" * 32, len(keep.content)))
    talk.wait(30)
    talk.tell(Shutdown())


def test_a_flood_of_strangers_is_read_more_slowly(talk):
    client = talk.terminal(1)
    commands = client.send(*(location(n) for n in range(1200)))
    assert [one for one in commands if isinstance(one, Pause)] == [Pause(1)]
    assert talk.reasons() == [("flood", 1)]
    assert talk.drafts("position") == []


def test_events_of_links_that_are_gone_are_nothing(talk):
    assert talk.bytes(99, b"x") == []
    assert talk.terminal(1).down() == []
    assert talk.tell(TimerFired()) == []


# ------------------------------------------------------------------------------------------- UDP


def udp(talk, phone=PHONE, port=5000) -> Client:
    return Client(talk, 0, Address.of(phone, Version.V2013), sender=("10.1.1.1", port))


def test_a_terminal_over_udp(talk):
    client = udp(talk)
    (accepted,) = client.register()
    assert isinstance(accepted, Emit)
    assert accepted.to == ("10.1.1.1", 5000)
    client.authenticate()
    commands = client.send(location(), location(1))
    assert [replies([one]) for one in commands] == [[(2, 0x0200, 0)], [(3, 0x0200, 0)]]
    assert talk.states() == [("registered", "registered"), ("online", "authenticated")]
    assert talk.data("device.state")[1]["link"] == "udp"
    talk.wait(901)
    assert talk.states()[-1] == ("offline", "idle")
    assert replies(client.send(location(2))) == []


def test_udp_without_authentication_is_refused(talk):
    assert frames_of(udp(talk).send(location())) == []
    assert talk.states() == [("refused", "not authenticated")]
    talk.tell(DatagramReceived(("10.1.1.1", 1), b"rubbish"))
    assert talk.reasons() == [("unfinished", 1)]


def test_an_address_may_change_and_one_that_comes_back_is_a_second_sender(talk):
    client = udp(talk).online()
    client.sender = ("10.1.1.2", 6000)
    (moved,) = client.send(location())
    assert moved.to == ("10.1.1.2", 6000)
    assert ("duplicate", "duplicate") not in talk.states()
    client.sender = ("10.1.1.1", 5000)
    client.send(location(1))
    assert talk.states()[-1] == ("duplicate", "duplicate")
    told = talk.data("device.state")[-1]
    assert (told["address"], told["other"]) == ("10.1.1.1:5000", "10.1.1.2:6000")


def test_a_terminal_changes_from_udp_to_tcp_and_back(talk):
    over_udp = udp(talk).online()
    talk.wait(61)
    over_tcp = talk.terminal(1)
    over_tcp.authenticate()
    assert replies(over_udp.send(location())) == []
    assert replies(over_tcp.send(location(1)), sent=False) == [(1, 0x0200, 0)]
    talk.wait(61)
    over_udp.authenticate()
    assert talk.closed() == [1]
    assert replies(over_udp.send(location(2)))
    talk.wait(2000)
    assert talk.states()[-1] == ("offline", "idle")


def test_a_flood_over_udp_is_not_taken(talk):
    talk.limits = Limits(frames_per_s_max=10)
    talk.__post_init__()
    client = udp(talk).online()
    for n in range(150):
        client.send(location(n))
    assert len(talk.drafts("position")) == 99
    assert talk.reasons() == [("flood", 1)]


def test_packets_over_udp(talk):
    client = udp(talk).online()
    frames = client.frames(media(), part_bytes=900)
    for frame in frames[1:]:
        client.raw(frame)
    (request,) = [one for one in talk.wait(11) if isinstance(one, Send)]
    assert request.to == ("10.1.1.1", 5000)
    client.raw(frames[0])
    assert len(talk.kept()) == 1
