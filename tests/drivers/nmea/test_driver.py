"""The session of a receiver as events and commands: what becomes a record, what is counted, what people are told."""

from __future__ import annotations

import pytest

from drivers.nmea.drafts import Author, antenna_of
from drivers.nmea.driver import (
    FIXES_BURST,
    FIXES_PER_S,
    STATE_BURST,
    Closed,
    Dropped,
    Limits,
    Mark,
    Opened,
    Received,
)
from drivers.nmea.fields import SECOND_NS
from firmware_profiles.datum import gcj_from_wgs
from gateway.core.fixes import FLAGS, fixes_of
from gateway.core.record import DeviceTime
from tests.drivers.nmea.lines import line
from tests.drivers.nmea.session import DAY, NOON_NS, PLACE, Rig, gga, gst, rmc, txt

TIMED = Limits(mark_uncertainty_ns=500_000_000)


def running(limits: Limits | None = None, **more: object) -> Rig:
    return Rig(limits or Limits(), **more).opened()  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- fixes


def test_a_fix_becomes_a_position_with_the_sentences_that_say_it() -> None:
    rig = running()
    rig.second(rmc, gga, gst)
    rig.second(rmc)
    (draft,) = rig.of("position")
    assert draft.data == {
        "class": "receiver",
        "plate": "",
        "datum": "WGS-84",
        "time_utc_s": NOON_NS // SECOND_NS + 1,
        "lat_e7": 307_020_833,
        "lon_e7": 1_209_906_250,
        "alt_m": 12,
        "speed_kmh_e1": 185,
        "course_deg": 90,
        "satellites": 9,
        "hdop_e2": 90,
        "sigma_m": 5,
        "method": "autonomous",
    }
    assert draft.raw == rmc(1) + gga(1) + gst(1)
    assert draft.device_time == DeviceTime(f"{DAY} 120001.00", "+00:00", "frame")
    assert (draft.source, draft.device) == ("gps-1", "receiver-1")
    (fix,) = fixes_of(7, NOON_NS, draft.data)
    assert fix.usable


def test_the_last_fix_comes_when_the_receiver_is_silent() -> None:
    rig = running()
    rig.second(rmc, gga)
    assert not rig.positions()
    rig.wait(0.29)
    assert not rig.positions()
    rig.wait(0.02)
    assert len(rig.positions()) == 1


def test_the_last_fix_comes_when_the_gateway_stops() -> None:
    rig = running()
    rig.second(rmc, gga)
    rig.end()
    assert len(rig.positions()) == 1
    assert "offline" not in rig.states()


@pytest.mark.parametrize(
    ("sentences", "flags", "sigma_m"),
    [
        ([gga(1, satellites="03", hdop="")], "no-time poor", None),
        ([gga(1, satellites="05", hdop="")], "no-time", 20),
        ([gga(1, satellites="", hdop="")], "no-time", 10),
        ([gga(1, satellites="12", hdop="0.5")], "no-time", 3),
        ([gga(1, quality=6)], "no-time poor", 5),
        ([gga(1, quality=8)], "no-time poor", 5),
        ([rmc(1, mode="E"), gga(1)], "poor", 5),
        ([rmc(1, mode="S")], "poor", 10),
        ([rmc(1), gga(1), gst(1, "0.004", "0.003")], "", 1),
        ([rmc(1), gga(1), gst(1, "", "4.0")], "", 5),
        ([rmc(1, place="0000.0000,N,00000.0000,E")], "null-island", 10),
        ([rmc(1, place="3042.2250,N,12059.4375,E"), gga(1)], "poor", 5),
    ],
)
def test_quality_and_what_speaks_against_a_fix(sentences: list[bytes], flags: str, sigma_m: int | None) -> None:
    rig = running()
    rig.send(*sentences)
    rig.wait(0.5)
    (position,) = rig.positions()
    assert position.get("flags", "") == flags
    assert position.get("sigma_m") == sigma_m
    assert set(flags.split()) <= FLAGS


@pytest.mark.parametrize(
    ("clock_s", "flags"),
    [(0, ""), (-119, ""), (-125, "future"), (29 * 86_400, ""), (31 * 86_400, "stale"), (-50 * 365 * 86_400, "future")],
)
def test_an_age_that_cannot_be_is_flagged(clock_s: float, flags: str) -> None:
    rig = running(clock_s=clock_s)
    rig.second(rmc)
    rig.wait(0.5)
    assert rig.positions()[0].get("flags", "") == flags


def test_rolled_over_weeks_are_flagged_and_are_no_time() -> None:
    rig = running(TIMED)
    for _ in range(3):
        rig.second(rmc, gga, day="300706")
    for position in rig.positions():
        assert position["flags"] == "no-time week-rollover"
        assert "time_utc_s" not in position
        assert position["lat_e7"] == 307_020_833
    assert rig.of("position")[0].device_time == DeviceTime("300706 120001.00", "+00:00", "frame")
    assert rig.marks == []


def test_remarks_of_the_reader_are_kept() -> None:
    rig = running(Limits(interval_s=0))
    rig.second(rmc)
    rig.send(gga(2), gga(2))
    rig.wait(0.5)
    assert [position.get("status") for position in rig.positions()] == [
        None,
        "date-carried",
        "date-carried repeated-time",
    ]


def test_coordinates_of_another_datum_are_converted_and_kept() -> None:
    rig = running(author=Author("gps-1", "receiver-1", "receiver", "GCJ-02"))
    rig.second(rmc)
    rig.wait(0.5)
    (position,) = rig.positions()
    assert (position["datum"], position["datum_input"]) == ("WGS-84", "GCJ-02")
    assert (position["raw_lat_e7"], position["raw_lon_e7"]) == (307_020_833, 1_209_906_250)
    lat, lon = gcj_from_wgs(position["lat_e7"] / 1e7, position["lon_e7"] / 1e7)
    assert (round(lat * 1e7), round(lon * 1e7)) == pytest.approx((307_020_833, 1_209_906_250), abs=1)
    assert position["lat_e7"] != 307_020_833


@pytest.mark.parametrize("talker", ["GP", "GN", "BD", "GB", "GA", "GL", "GQ", "GI"])
def test_talkers_of_every_system(talker: str) -> None:
    rig = running()
    rig.send(line(f"{talker}RMC,120001.00,A,{PLACE},10.0,90.0,{DAY},,,A"))
    rig.wait(0.5)
    assert len(rig.positions()) == 1


@pytest.mark.parametrize(
    ("sentences", "text"),
    [
        ([gga(1)], "120001.00"),
        ([line(f"GPGLL,{PLACE},120001,A,A")], "120001"),
        ([gga(1), line("GPZDA,120001.00,15,03,2026,00,00")], "15.03.2026 120001.00"),
        ([rmc(1), line("GPZDA,120001.00,15,03,2026,00,00")], "150326 120001.00"),
        ([gga(1), line("GPVTG,90.0,T,,M,10.0,N,18.5,K,A")], "120001.00"),
    ],
)
def test_the_receiver_s_time_is_kept_as_it_was_written(sentences: list[bytes], text: str) -> None:
    rig = running()
    rig.send(*sentences)
    rig.wait(0.5)
    assert rig.of("position")[0].device_time == DeviceTime(text, "+00:00", "frame")


# ------------------------------------------------------------------------------------------ thinning


@pytest.mark.parametrize(("interval_s", "stored"), [(0, 60), (1, 60), (2, 30), (10, 6), (60, 1)])
def test_fixes_are_thinned_and_counted(interval_s: float, stored: int) -> None:
    rig = running(Limits(interval_s=interval_s))
    for _ in range(60):
        rig.second(rmc, gga)
    rig.end()
    assert len(rig.positions()) == stored
    assert rig.counts["fixes_thinned"] == 60 - stored


def test_jitter_of_the_receiver_loses_no_fix() -> None:
    rig = running()
    for n in range(20):
        rig.send(rmc(n + (0.02 if n % 2 else 0.0)))
    rig.end()
    assert len(rig.positions()) == 20


def test_a_backlog_that_comes_at_once_is_thinned_by_the_receiver_s_time() -> None:
    rig = running(Limits(interval_s=10))
    rig.send(*[rmc(n) + gga(n) for n in range(1, 101)])
    rig.end()
    assert [position["time_utc_s"] % 60 for position in rig.positions()] == [1, 11, 21, 31, 41, 51, 1, 11, 21, 31]


def test_a_receiver_whose_clock_stands_still_is_still_stored() -> None:
    rig = running(Limits(interval_s=5))
    for _ in range(30):
        rig.send(rmc(7), gga(7))
    rig.end()
    assert 4 <= len(rig.positions()) <= 6


def test_the_first_fix_after_a_change_of_state_is_stored() -> None:
    rig = running(Limits(interval_s=60))
    for _ in range(10):
        rig.second(rmc)
    for _ in range(10):
        rig.second(rmc, status="V")
    for _ in range(10):
        rig.second(rmc)
    rig.end()
    assert [position["time_utc_s"] % 60 for position in rig.positions()] == [1, 21]
    assert rig.states() == ["online", "fix", "no-fix", "fix"]


def test_a_flood_is_cut_counted_and_recorded() -> None:
    rig = running(Limits(interval_s=0))
    rig.send(*[rmc(n / 100) for n in range(4000)])
    rig.wait(61)
    stored = len(rig.positions())
    assert FIXES_BURST <= stored <= FIXES_BURST + FIXES_PER_S
    assert rig.counts["fixes_refused"] == 4000 - stored
    assert {reason for gap in rig.gaps() for reason in gap["reasons"]} == {"flood"}
    assert sum(gap["count"] for gap in rig.gaps()) == 4000 - stored
    rig.send(*[rmc(50 + n / 100) for n in range(4000)], after_s=0)
    rig.end()
    assert len(rig.positions()) == stored + FIXES_BURST


# -------------------------------------------------------------------------------------------- states


def test_a_void_fix_is_a_state_told_once_and_never_a_position() -> None:
    rig = running()
    for _ in range(300):
        rig.second(rmc, status="V")
    assert rig.states() == ["online", "no-fix"]
    assert rig.positions() == []
    assert rig.counts["void_epochs"] >= 299
    assert rig.of("device.state")[1].raw == rmc(1, "V")
    assert rig.state is not None
    assert (rig.state.state, "no fix" in rig.state.reason) == ("degraded", True)


def test_a_fix_that_wavers_is_not_told_every_second() -> None:
    rig = running()
    for n in range(120):
        rig.second(rmc, status="AV"[n % 2])
    assert 120 / 5 <= len(rig.states()) <= 1 + STATE_BURST + 120 / 5 + 1


def test_satellites_in_view_stand_beside_the_state() -> None:
    rig = running()
    gsv = line("GPGSV,1,1,03,01,40,083,46,02,17,308,41,12,07,344,39") + line("BDGSV,1,1,01,06,40,083,,")
    rig.send(gsv, rmc(1, "V"))
    rig.wait(0.5)
    assert rig.of("device.state")[1].data["in_view"] == 4
    assert rig.of("device.state")[1].data["snr_max_db"] == 46


def test_online_and_offline_are_told_with_the_reason() -> None:
    rig = running()
    rig.second(rmc)
    rig.wait(20)
    rig.handle(Closed("/dev/ttyUSB0 has gone"))
    rig.handle(Closed("/dev/ttyUSB0 is not there"))
    rig.handle(Opened("/dev/ttyUSB0"))
    rig.wait(20)
    rig.second(rmc)
    rows = [
        (draft.data["state"], draft.data["reason"], draft.data["address"])
        for draft in rig.of("device.state")[::1]
        if "address" in draft.data
    ]
    assert rows == [
        ("online", "sentences come", "/dev/ttyUSB0"),
        ("offline", "/dev/ttyUSB0 has gone", "/dev/ttyUSB0"),
        ("online", "sentences come", "/dev/ttyUSB0"),
    ]
    assert len(rig.positions()) == 1


def test_a_receiver_that_is_not_there_at_the_start_is_told_once() -> None:
    rig = Rig()
    for _ in range(5):
        rig.handle(Closed("/dev/ttyUSB0 is not there", "/dev/ttyUSB0"))
        rig.wait(10)
    assert rig.states() == ["offline"]
    assert rig.state is not None
    assert rig.state.state == "down"


def test_a_caller_that_never_said_anything_is_no_news() -> None:
    rig = running(Limits(listens=True))
    rig.send(b"GET / HTTP/1.1\r\n\r\n")
    rig.handle(Closed("the other side has closed"))
    rig.wait(100)
    assert rig.drafts == []
    assert rig.counts["malformed"] == 1


def test_a_link_that_comes_and_goes_makes_few_records() -> None:
    rig = Rig()
    for n in range(100):
        rig.handle(Opened("10.0.0.1"))
        rig.send(b"rubbish " * 50 + rmc(n / 10), after_s=0.05)
        rig.wait(0.05)
        rig.handle(Closed("gone"))
    assert rig.elapsed_s == pytest.approx(10, abs=0.1)
    assert len(rig.of("device.state")) <= 2 * (STATE_BURST + 10 / 5 + 1)
    assert len(rig.gaps()) <= 2
    rig.wait(100)
    assert [state for state in rig.states() if state in {"online", "offline"}][-1] == "offline"
    assert sum(gap["count"] for gap in rig.gaps()) == 100


def test_a_line_that_falls_silent_is_down_and_opened_anew() -> None:
    rig = running()
    rig.second(rmc)
    rig.wait(29.9)
    assert rig.closes == []
    rig.wait(0.2)
    assert rig.closes == ["nothing received for 30 s"]
    assert rig.states() == ["online", "fix", "offline"]
    assert rig.state is not None
    assert (rig.state.state, rig.state.reason) == ("down", "nothing received for 30 s")
    rig.wait(65)
    assert len(rig.closes) == 3
    assert rig.states() == ["online", "fix", "offline"]


def test_bytes_without_a_sentence_name_the_speed_of_the_line() -> None:
    rig = running(Limits(hint="check the speed (baud is 9600)"))
    for _ in range(40):
        rig.send(bytes([0x80, 0xFE, 0x00, 0xF8]) * 20)
    assert rig.state is not None
    assert rig.state.state == "degraded"
    assert "no readable sentence in 3200 bytes: check the speed (baud is 9600)" in rig.state.reason
    assert rig.closes == []  # the port is there: opening it anew changes nothing
    assert [gap["reason"] for gap in rig.gaps()] == ["noise"]
    rig.second(rmc)
    rig.second(rmc)
    assert rig.state.state == "ok"


def test_a_receiver_that_turns_to_rubbish_is_offline() -> None:
    rig = running()
    rig.second(rmc)
    for _ in range(45):
        rig.send(b"\xf0" * 100)
    assert rig.states() == ["online", "fix", "offline"]
    assert rig.of("device.state")[-1].data["reason"] == "no readable sentence received for 30 s"
    assert rig.state is not None
    assert rig.state.state == "degraded"


def test_a_caller_that_cannot_be_read_is_sent_away() -> None:
    rig = running(Limits(listens=True))
    for _ in range(31):
        rig.send(b"rubbish " * 20)
    assert rig.closes == ["no readable sentence received for 30 s"]


def test_sentences_without_a_position_are_told() -> None:
    rig = running()
    for _ in range(40):
        rig.send(line("GPGSV,1,1,01,01,40,083,46"))
    assert rig.state is not None
    assert "none with a position" in rig.state.reason


# ------------------------------------------------------------------------------------------- antenna


def test_the_antenna_is_a_state_of_its_own() -> None:
    rig = running()
    rig.send(txt("ANTSTATUS=INIT"), txt("ANTSTATUS=OK"), rmc(1))
    for _ in range(9):
        rig.second(rmc)
    rig.second(rmc, lambda _: txt("ANTSTATUS=OPEN"))
    rows = [
        (draft.data["antenna"], draft.data["before"])
        for draft in rig.of("device.state")
        if draft.data["state"] == "antenna"
    ]
    assert rows == [("ok", ""), ("open", "ok")]
    assert rig.of("device.state")[-1].raw == txt("ANTSTATUS=OPEN")
    assert rig.state is not None
    assert (rig.state.state, rig.state.reason) == ("degraded", "the antenna is open: check its cable and plug")


def test_a_passive_antenna_is_recorded_and_no_problem_while_there_is_a_fix() -> None:
    rig = running()
    for _ in range(5):
        rig.second(rmc, lambda _: txt("ANTSTATUS=OPEN"))
    assert "antenna" in rig.states()
    assert rig.state is not None
    assert rig.state.state == "ok"
    for _ in range(5):
        rig.second(rmc, status="V")
    assert rig.state.reason == "the antenna is open: check its cable and plug"


def test_an_antenna_that_wavers_is_told_as_it_is_at_last() -> None:
    rig = running()
    rig.send(*[txt(f"ANTSTATUS={word}") for word in ["OK", "SHORT"] * 10])
    rig.wait(30)
    told = [draft.data["antenna"] for draft in rig.of("device.state") if "antenna" in draft.data]
    assert told[:2] == ["ok", "short"]
    assert told[-1] == "short"
    assert len(told) <= STATE_BURST + 1


@pytest.mark.parametrize(
    ("text", "antenna"),
    [
        ("ANTSTATUS=OK", "ok"),
        ("ANTENNA OPEN", "open"),
        ("Antenna Short", "short"),
        ("ANT_OPEN", "open"),
        ("ANTSTATUS=DONTKNOW", None),
        ("ANTSUPERV=AC SD PDoS SR", None),
        ("HW UBX-G60xx  00040007", None),
        ("", None),
    ],
)
def test_what_receivers_say_of_their_antenna(text: str, antenna: str | None) -> None:
    assert antenna_of(text) == antenna


# ---------------------------------------------------------------------------------------------- gaps


def test_what_cannot_be_read_is_told_at_once_then_at_a_falling_rate() -> None:
    rig = running()
    rig.second(rmc)
    told: list[float] = []
    for _ in range(3600):
        before = len(rig.gaps())
        rig.send(b"$GNRMC,broken*00\r\n", rmc(rig.elapsed_s))
        told += [rig.elapsed_s] * (len(rig.gaps()) - before)
    assert told[:4] == pytest.approx([2, 62, 182, 422], abs=2)
    assert len(told) <= 7
    rig.end()
    assert sum(gap["count"] for gap in rig.gaps()) == 3600
    first = rig.of("device.gap")[0]
    assert first.raw == b"$GNRMC,broken*00"
    assert first.data["reasons"] == {"checksum": 1}
    assert first.data["detail"]


def test_the_middle_of_a_sentence_at_the_beginning_is_no_gap() -> None:
    rig = running()
    rig.send(rmc(1)[20:] + rmc(2))
    rig.wait(100)
    assert rig.gaps() == []
    assert rig.counts["malformed"] == 1


def test_binary_between_sentences_is_survived_and_counted() -> None:
    rig = running()
    ubx = b"\xb5\x62\x01\x07\x5c\x00" + bytes(range(128, 220)) + b"\x00\x11"
    for n in range(1, 11):
        rig.send(ubx, rmc(n), ubx, gga(n))
    rig.end()
    assert len(rig.positions()) == 10
    assert sum(gap["size_bytes"] for gap in rig.gaps()) == len(ubx) * 19  # the first was where we joined
    assert {gap["reason"] for gap in rig.gaps()} == {"noise"}


def test_bytes_dropped_before_the_session_are_a_gap_and_nothing_is_joined_over_it() -> None:
    rig = running()
    rig.second(rmc)
    rig.handle(Received(b"$GNRMC,120002.00,A,"))
    rig.handle(Dropped(5000))
    rig.handle(Received(rmc(9)[19:] + rmc(10)))
    rig.end()
    assert {"class": "receiver", "reason": "overflow", "count": 1, "size_bytes": 5000} in rig.gaps()
    assert [position["time_utc_s"] % 60 for position in rig.positions()] == [1, 10]


def test_a_datagram_ends_its_sentences() -> None:
    rig = running(Limits(datagrams=True))
    rig.send(rmc(1).rstrip())
    rig.send(rmc(2).rstrip())
    rig.send(rmc(3)[:30])
    rig.end()
    assert [position["time_utc_s"] % 60 for position in rig.positions()] == [1, 2]
    assert rig.gaps()[0]["reason"] == "cut"


# ---------------------------------------------------------------------------------------------- time


def test_a_mark_is_the_moment_of_the_epoch_s_first_sentence() -> None:
    rig = running(TIMED)
    rig.second(rmc)
    first_ns = rig.mono_ns
    rig.send(gga(1), after_s=0.2)
    rig.wait(0.5)
    assert rig.marks == [Mark(NOON_NS + SECOND_NS, first_ns, 500_000_000)]


@pytest.mark.parametrize(
    "sentences",
    [
        [rmc(1, "V")],
        [gga(1)],
        [rmc(1, mode="E")],
        [rmc(1, mode="S")],
        [rmc(1), gga(1, quality=0)],
        [rmc(1), line("GPZDA,120001.00,14,03,2026,00,00")],
        [rmc(1, day="150325")],
        [rmc(1, day="010180")],
        [rmc(1, day="300706")],
    ],
)
def test_what_is_no_time_gives_no_mark(sentences: list[bytes]) -> None:
    rig = running(TIMED)
    rig.send(*sentences)
    rig.wait(0.5)
    assert rig.marks == []


def test_a_box_in_1970_still_gets_marks_and_one_of_no_time_source_none() -> None:
    rig = running(TIMED, clock_s=-NOON_NS / 1e9)
    rig.second(rmc)
    rig.wait(0.5)
    assert len(rig.marks) == 1
    rig = running()
    rig.second(rmc)
    rig.wait(0.5)
    assert rig.marks == []
