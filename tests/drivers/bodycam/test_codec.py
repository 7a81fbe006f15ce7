"""Names: the table of tests/vectors/stations/names.jsonl, and properties for any bytes."""

from __future__ import annotations

import json
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bodycam.codec import NAME_MATCH_MAX, NameCodec, decode, extension, safe_text
from firmware_profiles.loader import load
from gateway.core import canonical

TABLE = Path(__file__).parents[2] / "vectors" / "stations" / "names.jsonl"
ROWS = [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()]


@cache
def codec(profile: str) -> NameCodec:
    return NameCodec(load(profile).profile)


def test_the_table_has_at_least_sixty_names():
    assert len(ROWS) >= 60
    assert len({row["name_hex"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row["display"][:40].encode("unicode_escape").decode() for row in ROWS])
def test_name_of_the_table(row):
    name = codec(row["profile"]).read(bytes.fromhex(row["name_hex"]))
    assert name.display == row["display"]
    assert name.use == row["use"]
    assert name.fields == row["fields"]
    assert (name.time.local if name.time else None) == row["time"]
    assert (name.time.zone if name.time else None) == row["zone"]


def test_a_time_that_is_no_date_keeps_its_text():
    name = codec("dsj").read(b"DSJ_3301234_060001_20251321030623.MP4")
    assert name.time is None
    assert name.time_text == "20251321030623"


@given(st.binary(max_size=600))
def test_any_bytes_give_safe_text(raw):
    for profile in ("generic", "dsj", "intercom-gps"):
        name = codec(profile).read(raw)
        canonical.check({"display": name.display, "fields": name.fields, "time": name.time_text})
        assert all(unicodedata.category(sign)[0] != "C" for sign in name.display)
        assert "\n" not in name.display


@given(st.text(max_size=300))
def test_any_text_is_shown_without_invisible_signs(text):
    shown = safe_text(text, 200)
    assert len(shown) <= 200
    assert unicodedata.is_normalized("NFC", shown)
    assert not any(unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for sign in shown)
    if text.isascii() and text.isprintable() and "\\" not in text and len(text) <= 200:
        assert shown == text


@given(
    st.text(alphabet="abx\\\n\x1b\u202e\udcff{}", max_size=12),
    st.text(alphabet="abx\\\n\x1b\u202e\udcff{}", max_size=12),
)
def test_different_names_are_shown_differently(one, two):
    assert (safe_text(one, 500) == safe_text(two, 500)) == (one == two)


def test_long_names_are_not_tried_against_grammars():
    long = b"DSJ_3301234_060001_20250221030623." + b"A" * NAME_MATCH_MAX
    assert codec("dsj").read(long).fields == {}


def test_decode_takes_the_first_encoding_that_fits():
    assert decode("执法".encode("gbk"), ["utf-8", "gb18030"]) == "执法"
    assert decode("执法".encode(), ["utf-8", "gb18030"]) == "执法"
    assert decode(b"\xff\xff", ["utf-8", "no-such-encoding"]) == "\udcff\udcff"


@pytest.mark.parametrize(
    ("name", "ending"), [("a.MP4", "mp4"), ("a.b.Xml", "xml"), (".mp4", ""), ("a.", ""), ("a", ""), ("", "")]
)
def test_extension(name, ending):
    assert extension(name) == ending


def test_partners_meet_by_stem_and_by_whole_name():
    stations = codec("gat947")
    recording = stations.partners(b"x/REC1.MP4", "recording")
    assert stations.partners(b"x/rec1.xml", "sidecar")[0] in recording
    assert stations.partners(b"y/rec1.xml", "sidecar")[0] not in recording
    assert stations.partners(b"x/rec2.xml", "sidecar")[0] not in recording
    assert recording[1] == b"n" + b"x/rec1.mp4"
