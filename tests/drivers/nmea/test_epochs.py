"""Epochs: which sentences make one fix, when it comes out, and what it says about itself."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.nmea.epochs import SENTENCES_MAX, Epochs, Fix, Skies, Sky, utc_ns_of, weeks_1024_off
from drivers.nmea.fields import DAY_NS, SECOND_NS
from drivers.nmea.messages import Gsv, Satellite
from tests.drivers.nmea.lines import line, said

PLACE = "3042.1250,N,12059.4375,E"
NEAR = "3042.125,N,12059.438,E"


def rmc(time: str = "081530", place: str = PLACE, status: str = "A", day: str = "150326", mode: str = "A") -> bytes:
    return line(f"GNRMC,{time},{status},{place},10.0,90.0,{day},,,{mode}")


def gga(
    time: str = "081530", place: str = PLACE, quality: str = "1", talker: str = "GN", satellites: str = "09"
) -> bytes:
    return line(f"{talker}GGA,{time},{place},{quality},{satellites},0.90,12.5,M,8.0,M,,")


def zda(time: str = "081530", day: str = "15,03,2026") -> bytes:
    return line(f"GNZDA,{time},{day},00,00")


def gsa(system: int, dimension: int = 3) -> bytes:
    return line(f"GNGSA,A,{dimension},01,02,,,,,,,,,,,2.10,1.00,1.80,{system}")


GLL = line(f"GNGLL,{PLACE},081530,A,A")
GST = line("GNGST,081530,2.0,,,,1.5,1.2,3.0")
VTG = line("GNVTG,45.00,T,,M,20.0,N,,K,A")
TXT = line("GNTXT,01,01,02,ANTSTATUS=OK")


def fixes(*raw: bytes, reference_ns: int | None = None) -> list[Fix]:
    epochs = Epochs()
    found = [epochs.push(sentence, message, reference_ns) for sentence, message in said(b"".join(raw))]
    return [fix for fix in (*found, epochs.flush(reference_ns)) if fix is not None]


def one(*raw: bytes, reference_ns: int | None = None) -> Fix:
    (fix,) = fixes(*raw, reference_ns=reference_ns)
    return fix


def test_one_moment_is_one_fix_with_all_that_its_sentences_say() -> None:
    sent = (zda(), rmc(), VTG, gga(), gsa(1), gsa(4), GST, GLL)
    fix = one(*sent, TXT)
    assert fix == Fix(
        time_ns=29_730 * SECOND_NS,
        date=date(2026, 3, 15),
        utc_ns=int(datetime(2026, 3, 15, 8, 15, 30, tzinfo=UTC).timestamp()) * SECOND_NS,
        valid=True,
        method="autonomous",
        lat_e7=307_020_833,
        lon_e7=1_209_906_250,
        alt_mm=12_500,
        geoid_mm=8_000,
        speed_mm_s=5144,
        course_cdeg=9000,
        dimension=3,
        satellites=9,
        hdop_e2=90,
        pdop_e2=210,
        vdop_e2=180,
        sigma_lat_mm=1500,
        sigma_lon_mm=1200,
        sigma_alt_mm=3000,
        systems=(1, 4),
        flags=(),
        raw=tuple(raw.rstrip() for raw in sent),
    )
    assert fix.usable


def test_the_order_within_a_moment_changes_only_the_order_of_the_raw_sentences() -> None:
    first, second = one(GST, zda(), rmc(), gga(), GLL), one(GLL, gga(), GST, zda(), rmc())
    first_values = [getattr(first, name) for name in Fix.__slots__ if name != "raw"]
    assert first_values == [getattr(second, name) for name in Fix.__slots__ if name != "raw"]


def test_a_fix_comes_out_when_the_next_time_begins() -> None:
    epochs = Epochs()
    found = [epochs.push(*pair) for pair in said(rmc("081530") + gga("081530") + rmc("081531") + gga("081532"))]
    assert [fix and fix.time_ns // SECOND_NS for fix in found] == [None, None, 29_730, 29_731]
    last = epochs.flush()
    assert last is not None
    assert last.time_ns == 29_732 * SECOND_NS
    assert epochs.flush() is None


def test_sentences_without_time_before_any_epoch_belong_to_none() -> None:
    assert fixes(gsa(1), VTG, TXT, GST, zda()) == []


def test_a_receiver_without_time_ends_the_epoch() -> None:
    assert len(fixes(rmc(), rmc("", ",,,", "V", ""), gsa(1))) == 1


def test_a_late_gll_and_a_foreign_zda_open_nothing() -> None:
    found = fixes(rmc("081531"), GLL, zda("081500"), gga("081531"))
    assert [fix.time_ns // SECOND_NS for fix in found] == [29_731]
    assert len(found[0].raw) == 2


def test_a_receiver_that_sends_gll_alone_gives_fixes() -> None:
    fix = one(GLL, zda())
    assert (fix.valid, fix.lat_e7, fix.method, fix.date) == (True, 307_020_833, "autonomous", date(2026, 3, 15))
    assert not one(line(f"GNGLL,{PLACE},081530,V,N")).valid


# ------------------------------------------------------------------------------------- fix or none


@pytest.mark.parametrize(
    ("sent", "valid", "flags"),
    [
        pytest.param([rmc(status="V")], False, (), id="void RMC"),
        pytest.param([rmc(mode="N")], False, (), id="mode N"),
        pytest.param([gga(quality="0")], False, (), id="quality 0"),
        pytest.param([rmc(), gga(quality="0")], False, ("conflict",), id="RMC has one, GGA none"),
        pytest.param([rmc(status="V"), gga()], False, ("conflict",), id="GGA has one, RMC none"),
        pytest.param([rmc(), gga(talker="GP"), gga(talker="GL", quality="0")], True, (), id="one system of two"),
        pytest.param([rmc(place=NEAR), gga()], True, (), id="RMC rounds more"),
        pytest.param([rmc(place="3042.1350,N,12059.4375,E"), gga()], True, ("conflict",), id="places differ"),
        pytest.param([rmc(place="0000.0000,N,00000.0000,E")], True, ("null-island",), id="null island"),
    ],
)
def test_when_an_epoch_is_a_fix(sent: list[bytes], valid: bool, flags: tuple[str, ...]) -> None:
    fix = one(*sent)
    assert (fix.valid, fix.flags) == (valid, flags)
    if not valid:
        assert (fix.lat_e7, fix.lon_e7, fix.alt_mm, fix.speed_mm_s, fix.method) == (None,) * 5
        assert not fix.usable


@pytest.mark.parametrize(
    ("sent", "method", "usable"),
    [
        ([gga(quality="2")], "differential", True),
        ([rmc(mode="D"), gga(quality="4")], "rtk-fixed", True),
        ([gga(quality="6")], "estimated", False),
        ([gga(quality="9")], "unknown", False),
        ([rmc(mode="S"), gga(quality="1")], "simulator", False),
        ([rmc(mode="F")], "rtk-float", True),
        ([rmc(mode="")], "autonomous", True),
        ([line(f"GNGNS,081530,{PLACE},NRED,09,0.9,12.5,8.0,,")], "estimated", False),
    ],
)
def test_how_the_place_was_found(sent: list[bytes], method: str, usable: bool) -> None:
    fix = one(*sent)
    assert (fix.method, fix.usable) == (method, usable)


def test_speed_is_rmc_s_before_vtg_s_and_none_where_nobody_says() -> None:
    assert one(gga(), VTG).speed_mm_s == 10289
    assert one(gga(), VTG, rmc()).speed_mm_s == 5144
    assert one(gga()).speed_mm_s is None


def test_counts_of_single_systems_are_not_added_up() -> None:
    fix = one(gga(talker="GP", satellites="08"), gga(talker="GL", satellites="03"))
    assert fix.satellites == 8
    assert one(gga(satellites="")).satellites is None


def test_an_altitude_that_only_the_second_sentence_has() -> None:
    gns = line(f"GNGNS,081530,{PLACE},A,09,0.9,,,,")
    assert one(gns, line(f"GPGNS,081530,{PLACE},A,09,0.9,12.5,,,")).alt_mm == 12_500
    assert one(gns).alt_mm is None


# ------------------------------------------------------------------------------------ date and time


def test_without_any_date_there_is_no_instant() -> None:
    fix = one(gga())
    assert (fix.valid, fix.date, fix.utc_ns) == (True, None, None)


def test_a_date_is_carried_over_midnight_and_back() -> None:
    found = fixes(rmc("235959"), gga("235959.5"), gga("000000"), gga("000000.5"), gga("235959.9"))
    assert [fix.date for fix in found] == [date(2026, 3, day) for day in (15, 15, 16, 16, 15)]
    assert [fix.flags for fix in found] == [(), *[("date-carried",)] * 3, ("date-carried", "time-backwards")]


def test_a_date_is_carried_from_fixes_alone() -> None:
    found = fixes(rmc("081529", status="V"), gga("081530"))
    assert [fix.date for fix in found] == [date(2026, 3, 15), None]


def test_the_end_of_the_calendar_is_no_date() -> None:
    found = fixes(gga("235959"), zda("235959", "31,12,9999"), gga("000000"))
    assert [fix.date for fix in found] == [date(9999, 12, 31), None]


def test_dates_that_disagree_are_flagged_and_the_valid_rmc_is_believed() -> None:
    fix = one(rmc(), zda(day="14,03,2026"))
    assert (fix.date, fix.flags) == (date(2026, 3, 15), ("date-conflict",))
    fix = one(rmc(status="V", day="161206"), zda())
    assert (fix.date, fix.flags) == (date(2026, 3, 15), ("date-conflict",))


def test_a_leap_second_is_the_midnight_after_it() -> None:
    before, leap, after = fixes(rmc("235959", day="311216"), rmc("235960", day="311216"), rmc("000000", day="010117"))
    assert leap.flags == ("leap-second",)
    assert leap.utc_ns == after.utc_ns
    assert after.flags == ()
    assert before.utc_ns is not None
    assert leap.utc_ns == before.utc_ns + SECOND_NS


def test_a_clock_that_stands_still_gives_a_fix_per_round() -> None:
    found = fixes(rmc(), gga(), rmc(), gga())
    assert [fix.flags for fix in found] == [(), ("repeated-time",)]


def test_a_flood_without_time_is_cut() -> None:
    fix = one(rmc(), gsa(1) * 1000)
    assert len(fix.raw) == SENTENCES_MAX
    assert fix.flags == ("truncated",)


REFERENCE_NS = utc_ns_of(date(2026, 3, 20), 0)


@pytest.mark.parametrize(
    ("day", "periods"),
    [
        (date(2026, 3, 15), 0),
        (date(2025, 1, 1), 0),
        (date(2006, 7, 30), -1),
        (date(2006, 1, 1), -1),
        (date(1986, 12, 14), -2),
        (date(2045, 10, 29), 1),
        (date(2015, 3, 15), 0),
    ],
)
def test_rolled_over_weeks_are_told_from_other_wrong_dates(day: date, periods: int) -> None:
    assert weeks_1024_off(utc_ns_of(day, 0), REFERENCE_NS) == periods


def test_the_tolerance_is_the_reference_s_own_error() -> None:
    wrong = utc_ns_of(date(2006, 7, 30), 0)
    assert weeks_1024_off(wrong, REFERENCE_NS, 10 * DAY_NS) == -1
    assert weeks_1024_off(wrong, REFERENCE_NS, SECOND_NS) == 0


def test_a_rolled_over_date_is_flagged_and_kept() -> None:
    fix = one(rmc(day="300706"), reference_ns=REFERENCE_NS)
    assert (fix.date, fix.flags) == (date(2006, 7, 30), ("week-rollover",))
    assert one(rmc(), reference_ns=REFERENCE_NS).flags == ()


SENT = st.sampled_from([rmc(), gga(), gga("081531"), rmc("081531", status="V"), zda(), GLL, GST, VTG, TXT, gsa(1)])


@given(st.lists(SENT, max_size=60))
def test_any_order_of_sentences_gives_fixes_of_sentences_that_were_sent(sent: list[bytes]) -> None:
    left = [raw.rstrip() for raw in sent]
    for fix in fixes(*sent):
        for raw in fix.raw:
            left.remove(raw)


# ------------------------------------------------------------------------------- satellites in view


def part(total: int, number: int, satellite: int, signal: int | None = None, talker: str = "GP") -> Gsv:
    seen = (Satellite(satellite, 10, 20, None),)
    return Gsv(talker=talker, total=total, number=number, satellites=seen, signal=signal)


def numbers(*parts: Gsv) -> list[tuple[str, int | None, list[int]]]:
    skies = Skies()
    found = [sky for sky in map(skies.push, parts) if isinstance(sky, Sky)]
    return [(sky.talker, sky.signal, [one.number for one in sky.satellites]) for sky in found]


def test_parts_make_a_group_for_each_system_and_signal() -> None:
    assert numbers(part(2, 1, 1), part(1, 1, 7, talker="BD"), part(2, 1, 3, 6), part(2, 2, 2), part(2, 2, 4, 6)) == [
        ("BD", None, [7]),
        ("GP", None, [1, 2]),
        ("GP", 6, [3, 4]),
    ]


def test_a_group_with_a_part_missing_is_left_out_and_the_next_is_whole() -> None:
    assert numbers(part(3, 1, 1), part(3, 3, 3), part(3, 2, 2), part(2, 1, 4), part(3, 2, 5)) == []
    assert numbers(part(3, 1, 1), part(2, 1, 4), part(2, 2, 5)) == [("GP", None, [4, 5])]


def test_unfinished_groups_are_bounded_and_the_oldest_gives_way() -> None:
    skies = Skies()
    for talker in range(100):
        assert skies.push(part(2, 1, 1, talker=f"{talker:02d}")) is None
    assert skies.push(part(2, 2, 2, talker="00")) is None
    assert skies.push(part(2, 2, 2, talker="99")) is not None
