"""What terminals say, photos and packets, and orders: events and expected commands of the session."""

import pytest

from drivers.jt808.acts import (
    Answer,
    Close,
    Keep,
    Kept,
    LinkUp,
    Request,
    Send,
)
from drivers.jt808.codec import (
    Attributes,
    Driver,
    DriverReport,
    DriverText,
    Heartbeat,
    LocationAnswer,
    LocationBatch,
    Media,
    MediaEvent,
    MediaReply,
    Opaque,
    Parameter,
    ParameterAnswer,
    QueryLocation,
    ResendRequest,
    ServerTime,
    TerminalReply,
    TerminalResendRequest,
    Text,
    TimeQuery,
    Transparent,
    Version,
)
from drivers.jt808.driver import Limits
from gateway.core.canonical import encode as canonical
from tests.drivers.jt808.talk import (
    PHONE,
    PHOTO,
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


# ------------------------------------------------------------------------------------------- messages


def test_a_frame_that_comes_again_is_answered_again_and_stored_once(talk):
    client = talk.terminal(1).online()
    (frame,) = client.frames(location())
    first, second = client.raw(frame), client.raw(frame)
    assert replies(first, sent=False) == replies(second, sent=False) == [(2, 0x0200, 0)]
    assert len(talk.drafts("position")) == 1
    assert talk.session.counters()["repeated"] == 1


def test_repeats_are_known_after_a_crash_between_commit_and_answer(talk):
    client = talk.terminal(1).online()
    (frame,) = client.frames(location())
    (emit,) = client.raw(frame)
    change = talk.session.repeats.round(emit.marks)
    again = Talk(talk.devices, remembered=[(change.key, change.value)])
    client = again.terminal(1)
    client.authenticate()
    assert replies(client.raw(frame), sent=False) == [(2, 0x0200, 0)]
    assert again.drafts("position") == []


def test_heartbeats_are_answered_and_recorded_where_nothing_else_is(talk):
    client = talk.terminal(1).online()
    client.send(location())
    assert replies(client.send(Heartbeat()), acks=False) == [(3, 0x0002, 0)]
    assert talk.drafts("device.message") == []
    talk.wait(301)
    assert replies(client.send(Heartbeat()), sent=False) == [(4, 0x0002, 0)]
    assert talk.data("device.message")[0]["message"] == "0002"


def test_the_time_is_told_to_anybody(talk):
    client = talk.terminal(1, version=Version.V2019)
    (told,) = messages_of(client.send(TimeQuery()), acks=False)
    assert told == ServerTime(bcd(-8 * 3600))
    assert messages_of(client.online().send(TimeQuery()), acks=False) == [told]


def test_backfill_of_a_blind_zone(talk):
    client = talk.terminal(1).online()
    commands = client.send(LocationBatch.of([location(-60), location(-50), location(-40)], kind=1))
    assert replies(commands, sent=False) == [(2, 0x0704, 0)]
    (draft,) = talk.drafts("position")
    assert draft.data["backfill"] is True
    assert [fix["time_utc_s"] for fix in draft.data["fixes"]] == sorted(
        fix["time_utc_s"] for fix in draft.data["fixes"]
    )
    assert draft.data["plate"] == "浙F00001"


def test_a_batch_that_contradicts_itself_keeps_what_it_has(talk):
    client = talk.terminal(1).online()
    body = (9).to_bytes(2, "big") + b"\0" + b"\0\x04abcd" + b"\0\x99rest"
    assert replies(client.send(Opaque(0x0704, body, "")), sent=False) == [(2, 0x0704, 0)]
    (data,) = talk.data("position")
    assert (data["fixes"], data["problems"], data["stated"]) == ([], "count entry tail", 9)


def test_a_long_batch_becomes_several_records_that_give_the_frames_again(talk):
    client = talk.terminal(1).online()
    frames = client.frames(LocationBatch.of([location(-n) for n in range(2000)], kind=1))
    for frame in frames:
        commands = client.raw(frame)
    drafts = talk.drafts("position")
    assert [draft.data["part"] for draft in drafts] == list(range(1, 21))
    assert sum(len(draft.data["fixes"]) for draft in drafts) == 2000
    assert b"".join(draft.raw or b"" for draft in drafts) == b"".join(frames)
    assert len(replies(commands, sent=False)) == len(frames)


def test_other_messages_are_records_with_their_fields(talk):
    client = talk.terminal(1).online()
    driver = Driver(Text.of("张三"), Text(b"L1".ljust(20, b"\0")), Text.of("交通局"), "20301231")
    assert replies(client.send(DriverReport(1, bcd(), 0, driver)), sent=False) == [(2, 0x0702, 0)]
    (data,) = talk.data("device.message")
    assert (data["message"], data["name"], data["class"]) == ("0702", "driver-report", "muck")
    assert data["fields"]["driver"]["name"] == "张三"
    assert data["fields"]["driver"]["licence"] == "L1"


def test_unknown_malformed_and_encrypted_messages_are_kept(talk):
    client = talk.terminal(1).online()
    assert replies(client.send(Opaque(0x0F77, b"vendor", "")), sent=False) == [(2, 0x0F77, 3)]
    assert replies(client.send(Opaque(0x0200, b"short", "")), sent=False) == [(3, 0x0200, 2)]
    unknown, malformed = talk.data("device.message")
    assert "problem" not in unknown
    assert (malformed["problem"], "28 bytes expected" in malformed["detail"]) == ("malformed", True)
    assert all(draft.raw for draft in talk.drafts("device.message"))


def test_texts_of_devices_are_safe_for_records(talk):
    client = talk.terminal(1)
    client.register(maker=b"\x01\x02\xfd\x9c", plate=b"\xff\xfe" * 20)
    assert canonical(talk.data("device.state")[0])


def test_blocks_of_a_dialect_are_held_for_the_next_fix(tmp_path):
    text = (
        'format = "devices/v1"\n[[class]]\nid = "muck"\nprofile = "muck-cmsv6"\n'
        f'[[device]]\nid = "{PHONE}"\nclass = "muck"\ncode = "*"\n'
    )
    talk = Talk(devices_file(tmp_path, text))
    client = talk.terminal(1)
    block = bytearray(30)
    block[0], block[1] = 2, 2
    assert replies(client.send(Transparent(0xF1, bytes(block))), sent=False) == [(0, 0x0900, 0)]
    assert talk.data("device.message")[0]["said"]["cover"] == "open"
    client.send(location())
    fix = talk.data("position")[0]
    assert fix["cover"] == "open"
    assert "cover" in fix["held"]


# ------------------------------------------------------------------------------------------- packets and photos


def test_a_photo_in_packets_of_any_order_is_kept_before_8800(talk):
    client = talk.terminal(1).online()
    frames = client.frames(media(), part_bytes=900)
    assert len(frames) == 6
    for frame in (*frames[3:], *frames[:3]):
        assert replies(client.raw(frame)) == []
    (keep,) = talk.kept()
    assert (keep.content, keep.key) == (PHOTO, f"trucks/{PHONE}/7")
    assert talk.drafts("device.media") == []
    commands = talk.tell(Kept(keep.ticket, "ab" * 32, len(PHOTO)))
    assert messages_of(commands, sent=False) == [MediaReply(7)]
    (draft,) = talk.drafts("device.media")
    (file,) = draft.artifacts
    assert (file.sha256, file.size_bytes, file.media_type, file.name) == (
        "ab" * 32, len(PHOTO), "image/jpeg", f"{PHONE}-7.jpeg",
    )  # fmt: skip
    assert (draft.data["event"], draft.data["channel"], draft.data["fix"]["lat_e7"]) == ("timer", 2, 306_242_980)
    again = client.send(media(), part_bytes=900)
    (keep,) = [one for one in again if isinstance(one, Keep)]
    commands = talk.tell(Kept(keep.ticket, "ab" * 32, len(PHOTO)))
    assert messages_of(commands, sent=False) == [MediaReply(7)]
    assert len(talk.drafts("device.media")) == 1


def test_a_photo_for_which_there_is_no_room_is_not_answered(talk):
    client = talk.terminal(1).online()
    (keep,) = [one for one in client.send(media(), part_bytes=900) if isinstance(one, Keep)]
    commands = talk.tell(Kept(keep.ticket, problem="the quota is used up"))
    assert frames_of(commands) == []
    assert talk.reasons() == [("media-not-kept", 1)]
    (keep,) = [one for one in client.send(media(), part_bytes=900) if isinstance(one, Keep)]
    assert messages_of(talk.tell(Kept(keep.ticket, "ab" * 32, 1))) == [MediaReply(7)]


def test_photos_that_wait_are_bounded(talk):
    talk.limits = Limits(frames_per_s_max=10_000)
    talk.__post_init__()
    client = talk.terminal(1).online()
    large = Media(MediaEvent(1, 0, 0, 1, 2), None, PHOTO[:2] + bytes(3_900_000))
    for _ in range(6):
        client.send(large)
    assert len(talk.kept()) == 4
    assert talk.reasons() == [("media-waits", 1)]


def test_missing_packets_are_asked_for_and_given_up(talk):
    client = talk.terminal(1).online()
    frames = client.frames(media(), part_bytes=900)
    client.raw(b"".join(frames[:2] + frames[3:]))
    asked = messages_of(talk.wait(11), acks=False)
    assert asked == [ResendRequest(2, (3,))]
    assert [one for one in client.raw(frames[2]) if isinstance(one, Keep)]
    assert messages_of(talk.wait(300)) == []
    other = client.frames(media(8), part_bytes=900)
    client.raw(other[0])
    talk.wait(400)
    assert talk.reasons() == [("packets-timeout", 1)]


def test_half_a_message_ends_with_its_connection(talk):
    client = talk.terminal(1).online()
    client.raw(client.frames(media(), part_bytes=900)[0])
    client.down()
    assert talk.reasons() == [("packets-link", 1)]
    assert talk.data("device.gap")[0]["detail"] == "message 0801: 1 of 6 packets"


def test_the_budget_for_packets_is_shared(talk, monkeypatch):
    monkeypatch.setattr("drivers.jt808.driver.PARTS_BUDGET_BYTES", 5200)
    greedy, modest = talk.terminal(1).online(), talk.terminal(2, "13800000002").online()
    modest_frames = modest.frames(media(), part_bytes=900)
    modest.raw(modest_frames[0])
    greedy.raw(b"".join(greedy.frames(media(), part_bytes=900)[:5]))
    assert talk.reasons() == [("packets-limit", 1)]
    assert [one for one in modest.raw(b"".join(modest_frames[1:])) if isinstance(one, Keep)]


def test_our_own_packets_are_sent_again_when_asked(talk):
    client = talk.terminal(1).online()
    talk.tell(Request(1, PHONE, "text", {"text": "x" * 1024}))
    first, second = frames_of(talk.said[-1:])
    commands = client.send(TerminalResendRequest(first.serial, (2,)))
    assert [frame.raw for frame in frames_of(commands)] == [second.raw]


# ------------------------------------------------------------------------------------------- orders


def order(talk, action="locate", parameters=None, identity=PHONE):
    return talk.tell(Request(5, identity, action, parameters or {}))


def test_an_order_is_sent_and_its_answer_comes_back(talk):
    client = talk.terminal(1).online()
    (sent,) = frames_of(order(talk), acks=False)
    assert sent.msg_id == QueryLocation.MSG_ID
    client.send(LocationAnswer(sent.serial, location()))
    (answer,) = talk.answers()
    assert (answer.ticket, answer.outcome.state, answer.outcome.result["fix"]["lat_e7"]) == (5, "done", 306_242_980)
    assert len(talk.drafts("position")) == 1


def test_parameters_are_asked_for(talk):
    client = talk.terminal(1).online()
    (sent,) = frames_of(order(talk, "query"))
    client.send(ParameterAnswer(sent.serial, (Parameter.of(0x29, 10),)))
    (answer,) = talk.answers()
    assert answer.outcome.result == {"parameters": [{"id": "0029", "name": "interval_default_s", "value": 10}]}
    order(talk, "query", {"attributes": True})
    text = Text(b"x")
    client.send(Attributes(0, text, text, text, "0" * 20, text, text, 0, 0))
    assert talk.answers()[1].outcome.result["iccid"] == "0" * 20


def test_a_photo_is_ordered(talk):
    client = talk.terminal(1).online()
    (sent,) = frames_of(order(talk, "shoot"))
    client.send(Opaque(0x0805, sent.serial.to_bytes(2, "big") + b"\0\0\1" + (77).to_bytes(4, "big"), ""))
    assert talk.answers()[0].outcome.result == {"media_ids": [77]}


@pytest.mark.parametrize(("result", "state"), [(0, "done"), (1, "refused"), (3, "refused")])
def test_the_terminal_confirms(talk, result, state):
    client = talk.terminal(1).online()
    (sent,) = frames_of(order(talk, "text", {"text": "绕行"}))
    assert frames_of(client.send(TerminalReply(sent.serial, sent.msg_id, result))) == []
    assert talk.answers()[0].outcome.state == state
    assert talk.data("device.message")[0]["message"] == "0001"
    client.send(TerminalReply(999, sent.msg_id, result))
    assert talk.session.counters()["replies_unmatched"] == 1


def test_orders_that_cannot_be_carried_out(talk):
    assert order(talk)[0].outcome.state == "offline"
    assert order(talk, identity="nobody")[0].outcome.state == "unknown"
    client = talk.terminal(1).online()
    assert order(talk, "fly")[0].outcome.state == "refused"
    assert order(talk, "text", {"text": "\U0001f600"})[0].outcome.state == "refused"
    for _ in range(8):
        talk.tell(Request(len(talk.said), PHONE, "locate", {}))
    assert "8 orders wait" in order(talk)[0].outcome.detail
    talk.wait(16)
    assert [one.outcome.state for one in talk.answers()].count("timeout") == 8
    order(talk)
    client.down()
    assert talk.answers()[-1].outcome.state == "offline"


def test_an_order_in_packets(talk):
    client = talk.terminal(1).online()
    points = [{"lat_e7": 300_000_000 + n, "lon_e7": 1_200_000_000} for n in range(100)]
    frames = frames_of(order(talk, "route", {"id": 1, "points": points}))
    assert [frame.total for frame in frames] == [2, 2]
    client.send(TerminalReply(frames[-1].serial, frames[-1].msg_id, 0))
    assert isinstance(talk.answers()[0], Answer)
    assert talk.answers()[0].outcome.state == "done"


def test_a_long_text_goes_to_its_terminal_only(talk):
    talk.terminal(1).online()
    talk.terminal(2, "13800000002").online()
    commands = order(talk, "text", {"text": "y" * 1000}, "13800000002")
    (sent,) = [one for one in commands if isinstance(one, Send)]
    assert sent.to == 2
    assert isinstance(messages_of(commands)[0], DriverText | Opaque)


def test_a_connection_may_come_and_go_without_a_word(talk):
    for link in range(1, 2001):
        talk.tell(LinkUp(link, "10.0.0.1", link))
    assert talk.session.counters()["links"] == 2000
    talk.wait(61)
    assert len([one for one in talk.said if isinstance(one, Close)]) == 2000
    assert talk.drafts() == []
