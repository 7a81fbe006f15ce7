"""Sentences: the table of tests/vectors/nmea/sentences.jsonl, exact rounding, and what is written is read."""

from __future__ import annotations

import json
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.nmea import fields
from drivers.nmea.codec import parse
from drivers.nmea.framing import Malformed, Sentence
from drivers.nmea.messages import Gga, Gll, Gns, Gsa, Gst, Gsv, Message, Rmc, Satellite, Unknown, Vtg, Zda
from drivers.nmea.writing import write
from tests.drivers.nmea.lines import decoded, said

TABLE = Path(__file__).parents[2] / "vectors" / "nmea" / "sentences.jsonl"
ROWS = [json.loads(row) for row in TABLE.read_text(encoding="utf-8").splitlines()]


def plain(value: object) -> object:
    """A value of a message as JSON has it."""
    if isinstance(value, Satellite):
        return [value.number, value.elevation_deg, value.azimuth_deg, value.snr_db]
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value


@pytest.mark.parametrize("row", ROWS, ids=[row["why"] for row in ROWS])
def test_the_table(row: dict[str, Any]) -> None:
    (sentence,) = decoded(row["raw"].encode())
    assert isinstance(sentence, Sentence)
    message = parse(sentence)
    if isinstance(message, Malformed):
        assert message.reason == row["reason"]
        assert message.raw == row["raw"].encode()
        assert message.detail.startswith(f"{sentence.kind}: ")
    else:
        assert type(message).__name__ == row["kind"]
        assert {name: plain(getattr(message, name)) for name in row["expect"]} == row["expect"]
        if "odd" not in row["expect"]:
            assert getattr(message, "odd", ()) == ()


@pytest.mark.parametrize("kind", ["RMC", "GGA", "GNS", "GLL", "GSA", "GSV", "VTG", "ZDA", "GST"])
@given(texts=st.lists(st.one_of(st.text(max_size=12), st.from_regex(r"[0-9.]{0,12}|[A-Z]?")), max_size=24))
def test_any_fields_are_read_or_refused(kind: str, texts: list[str]) -> None:
    sentence = Sentence("GP", kind, tuple(texts), b"$raw")
    message = parse(sentence)
    assert isinstance(message, Malformed) or type(message).__name__.upper() == kind


@given(st.integers(0, 89), st.integers(0, 59), st.text("0123456789", max_size=12), st.sampled_from("NS"))
def test_a_coordinate_is_the_nearest_integer(degrees: int, minutes: int, fraction: str, side: str) -> None:
    exact = (degrees + Fraction(f"{minutes}.{fraction or '0'}") / 60) * 10_000_000
    value = fields.latitude_e7(f"{degrees:02d}{minutes:02d}.{fraction}", side)
    assert value == round(exact) * (-1 if side == "S" else 1)


@given(st.from_regex(r"-?[0-9]{1,6}(\.[0-9]{0,9})?", fullmatch=True))
def test_a_number_is_scaled_exactly(text: str) -> None:
    exact = Fraction(text.removesuffix(".")) * Fraction(*fields.KNOT_MM_S)
    assert fields.scaled(text, fields.KNOT_MM_S, -(10**10), 10**10) == round(exact)


def test_halves_go_to_the_even_neighbour() -> None:
    assert [fields.divide(value, 2) for value in (-3, -1, 1, 3, 5)] == [-2, 0, 0, 2, 2]
    assert [fields.divide(value, 3) for value in (-4, -2, 2, 4)] == [-1, -1, 1, 1]


# ---------------------------------------------------------------------------------------- writing

TALKERS = st.sampled_from(["GP", "GN", "GL", "GA", "GB", "BD", "GQ", "QZ"])
TIMES = st.integers(0, 86_400_999).map(lambda ms: ms * 1_000_000)
DATES = st.dates(date(1980, 1, 1), date(2079, 12, 31))
LATS = st.integers(-900_000_000, 900_000_000)
LONS = st.integers(-1_800_000_000, 1_800_000_000)
ALTS = st.none() | st.integers(-1_000_000, 9_000_000)
GEOIDS = st.none() | st.integers(-110_000, 90_000)
DOPS = st.none() | st.integers(0, 9999)
SPEEDS = st.none() | st.integers(0, 500_000)
COURSES = st.none() | st.integers(0, 35_999)
COUNTS = st.none() | st.integers(0, 99)
SIGMAS = st.none() | st.integers(0, 10_000_000)
NAVS = st.sampled_from([None, "S", "V"])
MODES = st.sampled_from([None, "A", "D", "E", "F", "P", "R", "S"])
SATELLITES = st.builds(
    Satellite,
    st.integers(1, 999),
    st.none() | st.integers(-90, 90),
    st.none() | st.integers(0, 360),
    st.none() | st.integers(0, 99),
)
MESSAGES: list[st.SearchStrategy[Message]] = [
    st.builds(
        Rmc,
        talker=TALKERS,
        time_ns=st.none() | TIMES,
        date=st.none() | DATES,
        valid=st.just(True),
        status=st.just("A"),
        lat_e7=LATS,
        lon_e7=LONS,
        speed_mm_s=SPEEDS,
        course_cdeg=COURSES,
        mode=MODES,
        nav_status=NAVS,
    ),
    st.builds(Rmc, talker=TALKERS, time_ns=TIMES, date=DATES, status=st.sampled_from([None, "V"]), mode=st.just("N")),
    st.builds(
        Gga,
        talker=TALKERS,
        time_ns=TIMES,
        valid=st.just(True),
        quality=st.integers(1, 9),
        lat_e7=LATS,
        lon_e7=LONS,
        satellites=COUNTS,
        hdop_e2=DOPS,
        alt_mm=ALTS,
        geoid_mm=GEOIDS,
    ),
    st.builds(Gga, talker=TALKERS, quality=st.sampled_from([None, 0]), satellites=COUNTS),
    st.builds(
        Gns,
        talker=TALKERS,
        time_ns=TIMES,
        valid=st.just(True),
        modes=st.sampled_from(["A", "NAND", "RR"]),
        lat_e7=LATS,
        lon_e7=LONS,
        satellites=COUNTS,
        hdop_e2=DOPS,
        alt_mm=ALTS,
        geoid_mm=GEOIDS,
        nav_status=NAVS,
    ),
    st.builds(
        Gll,
        talker=TALKERS,
        time_ns=TIMES,
        valid=st.just(True),
        status=st.just("A"),
        lat_e7=LATS,
        lon_e7=LONS,
        mode=MODES,
    ),
    st.builds(
        Gsa,
        talker=TALKERS,
        selection=st.sampled_from([None, "A", "M"]),
        dimension=st.sampled_from([None, 1, 2, 3]),
        satellites=st.lists(st.integers(1, 999), max_size=12).map(tuple),
        pdop_e2=DOPS,
        hdop_e2=DOPS,
        vdop_e2=DOPS,
        system=st.none() | st.integers(1, 15),
    ),
    st.builds(
        Gsv,
        talker=TALKERS,
        total=st.just(9),
        number=st.integers(1, 9),
        in_view=COUNTS,
        satellites=st.lists(SATELLITES, max_size=4).map(tuple),
        signal=st.none() | st.integers(0, 15),
    ),
    st.builds(
        Vtg, talker=TALKERS, valid=st.just(True), course_cdeg=COURSES, speed_mm_s=st.integers(0, 500_000), mode=MODES
    ),
    st.builds(Zda, talker=TALKERS, time_ns=TIMES, date=st.none() | st.dates(date(1980, 1, 1))),
    st.builds(
        Gst,
        talker=TALKERS,
        time_ns=TIMES,
        rms_mm=SIGMAS,
        major_mm=SIGMAS,
        minor_mm=SIGMAS,
        orientation_cdeg=COURSES,
        lat_mm=SIGMAS,
        lon_mm=SIGMAS,
        alt_mm=SIGMAS,
    ),
    st.builds(Unknown, talker=st.just("GN"), kind=st.just("TXT"), fields=st.just(("01", "01", "02", "ANTSTATUS=OK"))),
]


@pytest.mark.parametrize("messages", MESSAGES)
@settings(max_examples=40)
@given(draw=st.data())
def test_what_is_written_is_read(messages: st.SearchStrategy[Message], draw: st.DataObject) -> None:
    message = draw.draw(messages)
    assert [found for _, found in said(write(message))] == [message]


@given(LATS, LONS, st.integers(0, 6))
def test_fewer_decimals_of_minutes_round_and_never_say_60_minutes(lat: int, lon: int, decimals: int) -> None:
    fix = Gll(talker="GP", time_ns=0, valid=True, status="A", lat_e7=lat, lon_e7=lon)
    ((_, read),) = said(write(fix, decimals))
    assert isinstance(read, Gll)
    assert read.lat_e7 is not None
    assert read.lon_e7 is not None
    half_e7 = 10_000_000 // (120 * 10**decimals) + 1
    assert abs(read.lat_e7 - lat) <= half_e7
    assert abs(read.lon_e7 - lon) <= half_e7


def test_written_numbers_look_as_receivers_write_them() -> None:
    message = Gga(
        talker="BD",
        time_ns=29_730_100_000_000,
        valid=True,
        quality=1,
        lat_e7=-305,
        lon_e7=1_209_906_250,
        satellites=7,
        hdop_e2=95,
        alt_mm=-12_340,
        geoid_mm=9_000,
    )
    assert write(message, 5) == b"$BDGGA,081530.100,0000.00183,S,12059.43750,E,1,07,0.95,-12.340,M,9.000,M,,*45\r\n"


def test_whole_numbers_and_seconds_can_be_written_without_a_point() -> None:
    assert fields.write_scaled(-1499, (1000, 1), 0) == "-1"
    assert fields.write_scaled(-1, (1000, 1), 2) == "0.00"
    assert fields.write_time(86_400 * fields.SECOND_NS, 0) == "235960"
