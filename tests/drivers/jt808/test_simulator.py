"""The simulated terminal: the session by the standard, nothing deleted before 8001, every order answered."""

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.fleet.vehicles import Trouble
from drivers.jt808 import codec
from drivers.jt808.simulated import PLAIN, bcd_time
from drivers.jt808.simulator import Habits, damaged
from tests.drivers.jt808.platform_side import T0, Platform, remembered, run, terminal

V2011, V2013, V2019 = codec.Version
VERSIONS = pytest.mark.parametrize("version", list(codec.Version))


def order(
    one: Any, platform: Platform, message: codec.Message, now_s: float, part_bytes: int = 1000
) -> list[codec.Message]:
    """What a terminal answers to an order, as messages."""
    frame = platform.frames[-1]
    before = len(platform.messages)
    address = codec.Address.of_frame(frame, one.habits.version)
    sent = codec.encode(message, address, platform.serial, part_bytes=part_bytes)
    platform.serial += len(sent)
    out = one.received(b"".join(sent), now_s)
    for _ in range(20):
        if not (answers := platform.feed(out)):
            break
        out = one.received(b"".join(answers), now_s)
    return platform.messages[before:]


# ---------------------------------------------------------------- session


@VERSIONS
def test_it_registers_authenticates_reports_and_beats(version: codec.Version) -> None:
    one, platform = terminal(Habits(version=version)), Platform()
    run(one, platform, 300)
    kinds = [type(message) for message in platform.messages]
    assert kinds[:2] == [codec.Registration, codec.Authentication]
    assert kinds.count(codec.Registration) == 1
    registration = platform.messages[0]
    assert isinstance(registration, codec.Registration)
    assert registration.layout is version
    assert (registration.plate.text, registration.maker.text) == ("浙F00001", "FGSIM")
    assert {frame.version for frame in platform.frames} == {V2019 if version is V2019 else V2013}
    assert len(platform.of(codec.Location)) == 31
    assert len(one.truth.acknowledged) == 31
    assert one.truth.unacknowledged == 0
    serials = [frame.serial for frame in platform.frames]
    assert serials == list(range(serials[0], serials[0] + len(serials)))
    assert (codec.TimeQuery in kinds) == (version is V2019) == bool(one.server_time)


def test_a_parked_terminal_beats_between_its_fixes() -> None:
    one, platform = terminal(Habits(heartbeat_s=4)), Platform()
    run(one, platform, 60)
    assert len(platform.of(codec.Heartbeat)) >= 12
    assert one.truth.unacknowledged == 0


def test_what_it_sends_are_the_positions_of_the_vehicle() -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 400)
    for utc_s in range(T0, T0 + 400, 10):
        seen, sent = one.vehicle.measure(utc_s), platform.fixes[bcd_time(utc_s)]
        assert seen is not None
        assert (sent.lat_e7, sent.lon_e7) == (pytest.approx(seen.lat_e7, abs=6), pytest.approx(seen.lon_e7, abs=6))
        assert sent.speed_raw == seen.speed_kmh_e1
        assert sent.load == seen.state.load
        mileage = sent.item(0x01)
        assert mileage is not None
        assert mileage.value == seen.mileage_hm


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    def told(seed: int) -> list[bytes]:
        platform = Platform()
        run(terminal(Habits(loss_percent=5, damage_percent=5), seed=seed), platform, 300)
        return [frame.raw for frame in platform.frames]

    assert told(3) == told(3)
    assert told(3) != told(4)


def test_a_code_is_kept_over_links_and_lost_when_it_is_refused() -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 20)
    one.link_down(20)
    run(one, platform, 40, from_s=21)
    assert len(platform.of(codec.Registration)) == 1
    assert len(platform.of(codec.Authentication)) == 2
    one.link_down(40)
    platform.code = b"another"
    run(one, platform, 60, from_s=41)
    assert one.counts.refused == 1
    assert len(platform.of(codec.Registration)) == 2
    assert one.truth.unacknowledged == 0


def test_a_refused_terminal_asks_again_later_and_sends_nothing_else() -> None:
    one, platform = terminal(), Platform(registers=4)
    run(one, platform, 30)
    assert {type(message) for message in platform.messages} == {codec.Registration}
    assert 4 <= len(platform.messages) <= 7
    assert one.truth.unacknowledged == len(one.truth.measured) == 4
    platform.registers = 0
    run(one, platform, 60, from_s=30.5)
    assert one.truth.unacknowledged == 0


def test_a_code_that_no_frame_can_carry_is_no_code() -> None:
    one, platform = terminal(Habits(version=V2019)), Platform(code=b"x" * 300)
    run(one, platform, 3)
    assert one.counts.refused == 1
    assert not platform.of(codec.Authentication)


# ---------------------------------------------------------------- nothing is deleted before 8001


def test_an_unanswered_fix_is_sent_again_with_growing_pauses_the_same_bytes() -> None:
    one, platform = terminal(Habits(retries=3), interval_s=1000), Platform(silent=True)
    run(one, platform, 40)
    counts = {raw: count for raw, count in remembered(platform.frames).items() if raw[1:3] == b"\x02\x00"}
    assert list(counts.values()) == [3]  # at 0, 5 and 15 s; the third again would be at 45
    run(one, platform, 400, from_s=40.5)
    assert one.counts.links > 1
    platform.silent = False
    run(one, platform, 700, from_s=400.5)
    assert one.truth.unacknowledged == 0
    raws = {frame.raw for frame in platform.frames if frame.msg_id == 0x0200}
    assert len(raws) == 1


@pytest.mark.parametrize("result", [1, 2, 3])
def test_only_8001_with_result_0_deletes_a_fix(result: int) -> None:
    one, platform = terminal(), Platform(result=result)
    run(one, platform, 60)
    assert one.truth.acknowledged == set()
    platform.result = 0
    run(one, platform, 400, from_s=60.5)
    assert one.truth.unacknowledged == 0


def test_what_was_on_its_way_when_the_link_broke_comes_again_unchanged() -> None:
    one, platform = terminal(), Platform(silent=True)
    run(one, platform, 30)
    sent = [frame.raw for frame in platform.frames if frame.msg_id == 0x0200]
    assert len(set(sent)) == 4
    one.link_down(30.5)
    platform.silent = False
    again = Platform()
    run(one, again, 32, from_s=31)
    first = [frame.raw for frame in again.frames if frame.msg_id == 0x0200][:4]
    assert first == list(dict.fromkeys(sent))
    assert one.truth.unacknowledged == 0


@VERSIONS
def test_a_blind_zone_is_filled_in_later_as_back_fill(version: codec.Version) -> None:
    one, platform = terminal(Habits(version=version), Trouble("blind", 50, 450)), Platform()
    run(one, platform, 500)
    batches = [one for one in platform.of(codec.LocationBatch) if isinstance(one, codec.LocationBatch)]
    assert all(batch.backfill and not batch.problems for batch in batches)
    assert sum(len(batch.entries) for batch in batches) == 40
    assert sorted(platform.fixes) == [bcd_time(T0 + s) for s in range(0, 501, 10)]
    assert one.truth.unacknowledged == 0


def test_a_terminal_that_keeps_no_order_sends_all_the_same() -> None:
    one, platform = terminal(Habits(batch=4), Trouble("blind", 50, 450), shuffled=True), Platform()
    run(one, platform, 500)
    times = [row.time_bcd for batch in platform.of(codec.LocationBatch) for row in batch.locations]  # type: ignore[attr-defined]
    assert len(times) == len(set(times)) == 40
    assert times != sorted(times)
    assert one.truth.unacknowledged == 0


def test_a_jam_of_live_fixes_goes_as_one_batch_of_type_0() -> None:
    one, platform = terminal(Habits(), interval_s=1), Platform()
    run(one, platform, 4)
    platform.feed(one.due(24))
    kinds = [
        (message.kind, len(message.entries))
        for message in platform.messages
        if isinstance(message, codec.LocationBatch)
    ]
    assert kinds[0] == (0, 15)


def test_a_full_memory_loses_the_oldest_and_says_so() -> None:
    one, platform = terminal(Habits(stored_max=5), Trouble("blind", 0, 200)), Platform()
    run(one, platform, 300)
    assert len(one.truth.dropped) == 16
    assert one.truth.dropped | one.truth.acknowledged == set(one.truth.measured)
    assert min(one.truth.acknowledged) == max(one.truth.dropped) + 10


def test_it_is_finished_when_its_time_is_over_and_all_is_acknowledged() -> None:
    one, platform = terminal(None, end_utc_s=T0 + 100), Platform(silent=True)
    run(one, platform, 120)
    assert not one.is_finished(120)
    platform.silent = False
    run(one, platform, 300, from_s=120.5)
    assert one.is_finished(300)
    assert not one.wants_link(300)
    assert len(platform.fixes) == 10


@settings(max_examples=30)
@given(loss=st.integers(0, 40), damage=st.integers(0, 40), seed=st.integers(0, 10_000))
def test_on_any_bad_line_everything_arrives_at_last(loss: int, damage: int, seed: int) -> None:
    habits = Habits(loss_percent=loss, damage_percent=damage, reply_timeout_s=1, over_udp=bool(seed % 2))
    one, platform = terminal(habits, Trouble("blind", 60, 150), seed=seed, end_utc_s=T0 + 200), Platform()
    run(one, platform, 8000, step_s=1.0 + (seed % 3) / 4)
    assert one.truth.unacknowledged == 0
    assert (
        sorted(platform.fixes)
        == [bcd_time(utc_s) for utc_s in one.truth.measured]
        == [bcd_time(T0 + s) for s in range(0, 200, 10)]
    )


# ---------------------------------------------------------------- the line


@given(st.integers(0, 10**9), st.binary(max_size=80))
def test_a_damaged_frame_is_no_frame(seed: int, body: bytes) -> None:
    (frame,) = codec.encode(codec.Opaque(0x0900, body, ""), codec.Address.of("13800000001", V2013), seed & 0xFFFF)
    found = codec.read_datagram(damaged(frame, seed))
    assert found
    assert all(isinstance(one, codec.Malformed) for one in found)


def test_losses_and_damages_are_counted_and_are_as_many_as_asked_for() -> None:
    one, platform = terminal(Habits(loss_percent=10, damage_percent=10, reply_timeout_s=1), interval_s=1), Platform()
    run(one, platform, 1000)
    assert one.counts.frames == one.counts.lost + one.counts.damaged + len(platform.frames)
    assert one.counts.lost == pytest.approx(one.counts.frames * 0.10, rel=0.35)
    assert one.counts.damaged == pytest.approx(one.counts.frames * 0.09, rel=0.35)


def test_hostile_bytes_and_foreign_frames_change_nothing() -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 20)
    foreign = codec.Address.of("13811111111", V2013)
    (frame,) = codec.encode(codec.QueryLocation(), foreign, 1)
    assert one.received(b"\x00\x7e\x7e garbage \x7e" + frame + b"\x7d" * 9000, 20) == []
    assert one.counts.malformed >= 2
    run(one, platform, 40, from_s=20.5)
    assert one.truth.unacknowledged == 0


# ---------------------------------------------------------------- orders

AREA = codec.Area(7, 0, (30_700_000, 121_020_000, 200))
BOX = codec.Area(8, 0, (30_700_000, 121_020_000, 30_600_000, 121_030_000))
ROUTE = codec.SetRoute(
    9, 0, (codec.Point(1, 1, 30_700_000, 121_020_000, 50), codec.Point(2, 2, 30_700_500, 121_020_000, 50))
)
CONFIRMED = [
    codec.Track(5, 60),
    codec.DriverText(codec.DriverText.DISPLAY, codec.Text.of("请按规定路线行驶")),
    codec.SetParameters((codec.Parameter.of(0x0055, 50),)),
    codec.SetCircles(0, (AREA,)),
    codec.DeleteCircles((7,)),
    codec.SetRectangles(0, (BOX,)),
    codec.DeleteRectangles(),
    codec.SetPolygon(10, 0, ((30_700_000, 121_020_000), (30_700_000, 121_030_000), (30_800_000, 121_030_000))),
    codec.DeletePolygons(),
    ROUTE,
    codec.DeleteRoutes(),
]


@VERSIONS
@pytest.mark.parametrize("message", CONFIRMED, ids=lambda message: f"{message.MSG_ID:04x}")
def test_orders_that_ask_for_nothing_are_confirmed_with_0001(message: codec.Message, version: codec.Version) -> None:
    one, platform = terminal(Habits(version=version)), Platform()
    run(one, platform, 20)
    serial = platform.serial
    assert codec.TerminalReply(serial, message.MSG_ID, 0) in order(one, platform, message, 20)
    assert one.answered[-1] == (message.MSG_ID, serial)


@VERSIONS
def test_a_query_of_the_place_is_answered_with_it(version: codec.Version) -> None:
    one, platform = terminal(Habits(version=version)), Platform()
    run(one, platform, 123)
    serial = platform.serial
    (answer,) = order(one, platform, codec.QueryLocation(), 123)
    assert isinstance(answer, codec.LocationAnswer)
    assert answer.reply_serial == serial
    assert answer.location.time_bcd == bcd_time(T0 + 123)


def test_a_dead_terminal_answers_with_its_last_place() -> None:
    one, platform = terminal(None, end_utc_s=T0 + 100), Platform()
    run(one, platform, 95)
    (answer,) = order(one, platform, codec.QueryLocation(), 105)[-1:]
    assert isinstance(answer, codec.LocationAnswer)
    assert answer.location.time_bcd == bcd_time(T0 + 90)


def test_tracking_and_a_set_interval_change_how_often_it_reports() -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 20)
    order(one, platform, codec.Track(2, 30), 20)
    run(one, platform, 80, from_s=20.5)
    times = sorted(one.truth.measured)
    assert sum(T0 + 20 < utc_s <= T0 + 50 for utc_s in times) == 15
    assert sum(T0 + 54 < utc_s <= T0 + 80 for utc_s in times) <= 3
    order(one, platform, codec.SetParameters((codec.Parameter.of(0x0029, 5),)), 80)
    run(one, platform, 130, from_s=80.5)
    assert sum(T0 + 90 < utc_s <= T0 + 130 for utc_s in sorted(one.truth.measured)) == 8
    order(one, platform, codec.Track(0), 130)


@VERSIONS
def test_parameters_are_told_and_those_that_were_set_stay(version: codec.Version) -> None:
    one, platform = terminal(Habits(version=version)), Platform()
    run(one, platform, 20)
    order(one, platform, codec.SetParameters((codec.Parameter.of(0x0055, 45), codec.Parameter(0xF123, b"own"))), 20)
    (told,) = order(one, platform, codec.QueryListed((0x0055, 0xF123, 0x0044)), 20)
    assert isinstance(told, codec.ParameterAnswer)
    assert {one.id: one.raw for one in told.parameters} == {0x0055: b"\0\0\0\x2d", 0xF123: b"own"}
    (everything,) = order(one, platform, codec.QueryParameters(), 20)
    assert isinstance(everything, codec.ParameterAnswer)
    assert {one.id for one in everything.parameters} == set(one.parameters)
    assert next(one.value for one in everything.parameters if one.id == 0x0083) == "浙F00001"
    (attributes,) = order(one, platform, codec.Opaque(0x8107, b"", ""), 20)
    assert isinstance(attributes, codec.Attributes)


def test_what_it_cannot_do_and_what_makes_no_sense_is_said() -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 20)
    (unknown,) = order(one, platform, codec.Opaque(0x8500, b"\x00", ""), 20)
    (broken,) = order(one, platform, codec.Opaque(0x8103, b"", ""), 20)
    assert isinstance(unknown, codec.TerminalReply)
    assert isinstance(broken, codec.TerminalReply)
    assert (unknown.result, broken.result) == (3, 2)


def test_an_order_before_authentication_is_not_carried_out() -> None:
    one, platform = terminal(), Platform(accepts=False)
    run(one, platform, 1)
    platform.feed(one.link_up(2))
    assert order(one, platform, codec.DriverText(4, codec.Text.of("x")), 2) == []
    assert not one.texts


@pytest.mark.parametrize("version", [V2013, V2019])
def test_an_order_in_packets_is_joined_and_missing_ones_are_asked_for(version: codec.Version) -> None:
    one, platform = terminal(Habits(version=version)), Platform()
    run(one, platform, 20)
    long = codec.DriverText(4, codec.Text(b"x" * 300))
    assert isinstance(order(one, platform, long, 20, part_bytes=100)[-1], codec.TerminalReply)
    assert one.texts[-1] == "x" * 300
    frames = codec.encode(long, codec.Address.of_frame(platform.frames[-1], version), 500, part_bytes=100)
    platform.feed(one.received(frames[0] + frames[3], 20))
    run(one, platform, 40, from_s=20.5)
    asked = platform.of(codec.TerminalResendRequest)
    assert (asked[:1] == [codec.TerminalResendRequest(500, (2, 3))]) == (version is V2019)
    platform.feed(one.received(frames[1] + frames[2], 40))
    assert len(one.texts) == 2


@VERSIONS
def test_a_photo_is_taken_and_sent_in_packets(version: codec.Version) -> None:
    one, platform = terminal(Habits(version=version)), Platform()
    run(one, platform, 20)
    serial = platform.serial
    told = order(one, platform, codec.Shoot(2, 2), 20)
    run(one, platform, 40, from_s=20.5)
    if version is V2011:
        assert told[0] == codec.TerminalReply(serial, 0x8801)
    else:
        assert isinstance(told[0], codec.Opaque)
        assert told[0].MSG_ID == 0x0805
        assert told[0].body[:5] == serial.to_bytes(2, "big") + b"\x00\x00\x02"
    photos = [message for message in platform.messages if isinstance(message, codec.Media)]
    assert [photo.event.channel for photo in photos] == [2, 2]
    assert {photo.event.media_id: hashlib.sha256(photo.payload).hexdigest() for photo in photos} == one.truth.photos
    assert one.truth.photos_acknowledged == set(one.truth.photos)
    assert all((photo.location is None) == (version is V2011) for photo in photos)
    assert all(photo.payload[:2] == b"\xff\xd8" and photo.payload[-2:] == b"\xff\xd9" for photo in photos)


def test_video_is_refused_and_stop_stops_nothing() -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 20)
    (video,) = order(one, platform, codec.Shoot(1, codec.Shoot.VIDEO), 20)
    (stop,) = order(one, platform, codec.Shoot(1, codec.Shoot.STOP), 20)
    assert isinstance(video, codec.Opaque)
    assert isinstance(stop, codec.Opaque)
    assert (video.body[2], stop.body[2]) == (2, 0)
    assert not one.truth.photos


@pytest.mark.parametrize("by", ["8003", "8800"])
def test_missing_packets_are_sent_again_exactly(by: str) -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 20)
    media_id = one.shoot(20)
    frames = one.due(20)
    assert len(frames) > 3
    first = codec.read_datagram(frames[0])[0]
    assert isinstance(first, codec.Frame)
    address = codec.Address.of_frame(first)
    wish = codec.ResendRequest(first.serial, (2, 4, 99)) if by == "8003" else codec.MediaReply(media_id, (2, 4))
    (ask,) = codec.encode(wish, address, 700)
    assert one.received(ask, 21) == [frames[1], frames[3]]
    (gone,) = codec.encode(codec.ResendRequest(1, (1,)), address, 701)
    assert one.received(gone, 21) == []
    (done,) = codec.encode(codec.MediaReply(media_id), address, 702)
    one.received(done, 22)
    assert one.truth.photos_acknowledged == {media_id}


def test_a_photo_that_was_not_confirmed_is_sent_again_over_the_next_link() -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 20)
    media_id = one.shoot(20)
    before = one.due(20)
    one.link_down(21)
    again = Platform()
    run(one, again, 40, from_s=22)
    assert [frame.raw for frame in again.frames if frame.msg_id == 0x0801] == before
    assert one.truth.photos_acknowledged == {media_id}


MSG_IDS = [0x0001, 0x8100, 0x8103, 0x8104, 0x8106, 0x8107, 0x8201, 0x8202, 0x8300, 0x8800, 0x8801]
MSG_IDS += [*range(0x8001, 0x8005), *range(0x8600, 0x8608)]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(MSG_IDS), st.binary(max_size=400)), max_size=8),
    st.sampled_from(list(codec.Version)),
)
def test_nothing_that_a_platform_sends_breaks_a_terminal(sent: list[tuple[int, bytes]], version: codec.Version) -> None:
    one, platform = terminal(Habits(version=version, heartbeat_s=300)), Platform()
    run(one, platform, 1)
    for msg_id, body in sent:
        order(one, platform, codec.Opaque(msg_id, body, ""), 1)
    for now_s in (1.0, 30.0, 500.0):
        assert now_s <= one.deadline_s(now_s) <= now_s + 100_000
        platform.feed(one.due(now_s))


@pytest.mark.parametrize("value", [b"", b"\0\0\0\0", b"\xff" * 255])
def test_parameters_without_sense_stop_nothing(value: bytes) -> None:
    one, platform = terminal(), Platform()
    run(one, platform, 5)
    odd = tuple(codec.Parameter(number, value) for number in (0x0001, 0x0002, 0x0003, 0x0029))
    order(one, platform, codec.SetParameters(odd), 5)
    run(one, platform, 30, from_s=5.5)
    assert len(platform.frames) < 120
    many = tuple(codec.Parameter(0x10_000 + number, b"") for number in range(190))
    (refused,) = order(one, platform, codec.SetParameters(many), 30)
    assert isinstance(refused, codec.TerminalReply)
    assert refused.result == 1


# ---------------------------------------------------------------- reports


@pytest.mark.parametrize(
    ("utc_s", "digits"),
    [
        (1_790_000_000, "260921221320"),
        (1_772_294_399, "260228235959"),
        (1_772_294_400, "260301000000"),
        (1_709_135_999, "240228235959"),
        (1_709_136_000, "240229000000"),
        (1_798_732_799, "261231235959"),
        (946_684_800, "000101080000"),
    ],
)
def test_times_are_gmt8_digits(utc_s: int, digits: str) -> None:
    assert bcd_time(utc_s) == digits


def test_a_plain_terminal_has_no_sensors_of_the_body() -> None:
    one, platform = terminal(Habits(model=PLAIN)), Platform()
    run(one, platform, 20)
    assert all(row.item(0xF0) is None for row in platform.fixes.values())


def test_troubles_are_alarm_and_status_bits() -> None:
    troubles = (Trouble("antenna-cut", 10, 20), Trouble("jammed", 20, 30), Trouble("power-cut", 30, 40))
    one, platform = terminal(None, *troubles), Platform()
    run(one, platform, 50)
    cut, jammed, power, good = (platform.fixes[bcd_time(T0 + s)] for s in (10, 20, 30, 40))
    assert (cut.fixed, cut.alarms) == (False, {"antenna_cut"})
    assert (jammed.fixed, jammed.alarms) == (False, {"gnss_fault"})
    assert (power.fixed, power.alarms) == (True, {"main_power_lost"})
    assert (good.fixed, good.alarms) == (True, frozenset())
