"""Every deviation of the field has its label, and what was sent is read all the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.hj212.codec import Message, encode, parse, segment_of
from drivers.hj212.fields import DEVIATIONS, parse_frame
from drivers.hj212.framing import Decoder

MN = "0A10000000000000FD010001"
HEAD = f"QN=20260302183000123;ST=31;CN=2011;PW=123456;MN={MN};Flag=5;"
CP = "DataTime=20260302183000;a34041-Rtd=0.77,a34041-Flag=N;SB7-RS=1"
FACTORS = [("a34041", {"Rtd": "0.77", "Flag": "N"}), ("SB7", {"RS": "1"})]


def test_what_is_written_by_the_standard_has_no_label():
    message = parse(f"{HEAD}CP=&&{CP}&&".encode())
    assert message.deviations == set()
    assert (message.qn, message.st, message.cn, message.pw, message.mn, message.flag) == (
        "20260302183000123", "31", "2011", "123456", MN, 5,
    )  # fmt: skip
    assert message.params == {"DataTime": "20260302183000"}
    assert message.factors == FACTORS
    assert (message.version, message.wants_answer, message.is_part, message.backfill) == (1, True, False, False)


@pytest.mark.parametrize(
    ("flag", "version", "wants"),
    [(0, 0, False), (1, 0, True), (4, 1, False), (5, 1, True), (8, 2, False), (9, 2, True), (12, 3, False)],
)
def test_flag_tells_edition_and_answer(flag, version, wants):
    message = parse(HEAD.replace("Flag=5", f"Flag={flag}").encode() + b"CP=&&&&")
    assert (message.version, message.wants_answer) == (version, wants)
    assert message.deviations == set()


@pytest.mark.parametrize(
    ("label", "segment"),
    [
        ("comma", HEAD.replace("123;ST", "123,ST") + f"CP=&&{CP}&&"),
        ("cp-separator", HEAD[:-1] + f"CP=&&{CP}&&"),
        ("blanks", HEAD.replace("ST=31", "ST = 31") + f"CP=&&{CP}&&"),
        ("blanks", HEAD + f"CP=&& {CP.replace(';', ' ; ')}&&"),
        ("blanks", HEAD + f"CP = &&{CP}&&"),
        ("blanks", HEAD + f"CP=&&{CP}&& "),
        ("qn-13-digits", HEAD.replace("20260302183000123", "1617936069734") + f"CP=&&{CP}&&"),
        ("qn-form", HEAD.replace("20260302183000123", "12345") + f"CP=&&{CP}&&"),
        ("qn-missing", HEAD.replace("QN=20260302183000123;", "") + f"CP=&&{CP}&&"),
        ("flag-missing", HEAD.replace("Flag=5;", "") + f"CP=&&{CP}&&"),
        ("flag-form", HEAD.replace("Flag=5;", "Flag=256;") + f"CP=&&{CP}&&"),
        ("flag-form", HEAD.replace("Flag=5;", "Flag=A;") + f"CP=&&{CP}&&"),
        ("flag-parts", HEAD.replace("Flag=5;", "Flag=7;") + f"CP=&&{CP}&&"),
        ("flag-parts", HEAD + f"PNUM=2;PNO=1;CP=&&{CP}&&"),
        ("parts-form", HEAD.replace("Flag=5;", "Flag=7;PNUM=2;PNO=3;") + f"CP=&&{CP}&&"),
        ("parts-form", HEAD.replace("Flag=5;", "Flag=7;PNUM=2;") + f"CP=&&{CP}&&"),
        ("parts-form", HEAD.replace("Flag=5;", "Flag=7;PNUM=two;PNO=1;") + f"CP=&&{CP}&&"),
        ("st-unknown", HEAD.replace("ST=31", "ST=99") + f"CP=&&{CP}&&"),
        ("st-unknown", HEAD.replace("ST=31", "ST=101") + f"CP=&&{CP}&&"),
        ("st-missing", HEAD.replace("ST=31;", "") + f"CP=&&{CP}&&"),
        ("cn-form", HEAD.replace("CN=2011;", "") + f"CP=&&{CP}&&"),
        ("pw-form", HEAD.replace("PW=123456", "PW=BF470F88957588DE902D1A52") + f"CP=&&{CP}&&"),
        ("mn-form", HEAD.replace(MN, "88888880000001") + f"CP=&&{CP}&&"),
        ("mn-form", HEAD.replace(MN, MN.lower()) + f"CP=&&{CP}&&"),
        ("mn-missing", HEAD.replace(f"MN={MN};", "") + f"CP=&&{CP}&&"),
        ("header-order", HEAD.replace("ST=31;CN=2011;", "CN=2011;ST=31;") + f"CP=&&{CP}&&"),
        ("header-repeated", HEAD + "ST=32;" + f"CP=&&{CP}&&"),
        ("header-unknown", HEAD + "XY=32;" + f"CP=&&{CP}&&"),
        ("name-case", HEAD.replace("Flag", "FLAG") + f"CP=&&{CP}&&"),
        ("name-case", HEAD + f"CP=&&{CP.replace('-Rtd', '-rtd')}&&"),
        ("name-case", HEAD + f"CP=&&{CP.replace('DataTime', 'datatime')}&&"),
        ("name-case", HEAD + f"cp=&&{CP}&&"),
        ("rf-form", HEAD + f"RF=0;CP=&&{CP}&&"),
        ("item-empty", HEAD + f"CP=&&{CP.replace('Flag=N;', 'Flag=N,;')}&&"),
        ("item-empty", HEAD + f"CP=&&{CP};&&"),
        ("item-empty", HEAD.replace("PW=123456;", "PW=123456;,") + f"CP=&&{CP}&&"),
        ("param-repeated", HEAD + f"CP=&&{CP};DataTime=20250302183000&&"),
        ("cp-open", HEAD + f"CP=&&{CP}"),
        ("cp-open", HEAD + f"CP=&&{CP}&&x"),
        ("segment-long", HEAD + f"CP=&&{CP}&&".rjust(1, " ") + " " * 1000),
        ("cp-long", HEAD + f"CP=&&{CP};PolId={'x' * 950}&&"),
        ("comma", HEAD + f"CP=&&{CP.replace('183000;', '183000,')}&&"),
    ],
)
def test_each_deviation_is_labelled_and_read(label, segment):
    message = parse(segment.encode())
    assert label in message.deviations
    assert message.deviations <= set(DEVIATIONS)
    assert message.factors == FACTORS
    assert message.params["DataTime"] == "20260302183000"


@pytest.mark.parametrize(
    ("label", "cp", "factors"),
    [
        ("value-empty", "a34004-Rtd=,a34004-Flag=N", [("a34004", {"Rtd": "", "Flag": "N"})]),
        ("item-unnamed", "a34004-Rtd", [("a34004", {"Rtd": ""})]),
        ("item-unnamed", "=5;a1-Rtd=2", [("a1", {"Rtd": "2"})]),
        ("time-form", "DataTime=20210305003817000;a1-Rtd=2", [("a1", {"Rtd": "2"})]),
    ],
)
def test_values_that_are_none(label, cp, factors):
    message = parse(f"{HEAD}CP=&&{cp}&&".encode())
    assert message.deviations == {label}
    assert message.factors == factors


def test_repeated_codes_with_an_id_are_several_factors():
    message = parse(f"{HEAD}CP=&&006-Rtd=0.77,006-ID=0;006-Rtd=0.48,006-ID=1&&".encode())
    assert message.factors == [("006", {"Rtd": "0.77", "ID": "0"}), ("006", {"Rtd": "0.48", "ID": "1"})]
    within = parse(f"{HEAD}CP=&&006-Rtd=1,006-Rtd=2,007-Rtd=3&&".encode())
    assert within.factors == [("006", {"Rtd": "1"}), ("006", {"Rtd": "2"}), ("007", {"Rtd": "3"})]
    assert message.deviations == within.deviations == set()


def test_an_extension_st_and_that_of_2025_are_known():
    for known in ("A0", "Z9", "44", "45"):
        assert parse(HEAD.replace("ST=31", f"ST={known}").encode() + b"CP=&&&&").deviations == set()


@pytest.mark.parametrize(
    ("encoding", "labels"), [("utf-8", set()), ("gb18030", {"gbk"})], ids=["utf-8 is the standard", "gbk is not"]
)
def test_chinese_logs(encoding, labels):
    text = f"{HEAD}CP=&&DataTime=20260302183000;PolId=w01018;i11001-Info=//清洗管路//&&"
    message = parse(text.encode(encoding))
    assert message.factors == [("i11001", {"Info": "//清洗管路//"})]
    assert message.deviations == labels


def test_bytes_that_are_no_text_are_kept_and_labelled():
    message = parse(HEAD.encode() + b"CP=&&i1-Info=\xff\xfe&&")
    assert message.deviations == {"encoding"}
    assert message.factors == [("i1", {"Info": "\xff\xfe"})]


def test_the_frame_adds_its_own_labels():
    frames = [encode(Message("20260302183000123", "31", "2011", "123456", MN, 4, cp=f"a-Rtd={n}")) for n in range(50)]
    upper = next(frame for frame in frames if frame[-6:-2] != frame[-6:-2].lower())
    (found,) = Decoder().feed(upper)
    assert parse_frame(found).deviations == set()
    (found,) = Decoder().feed(upper[:-6] + upper[-6:-2].lower())
    assert parse_frame(found).deviations == {"crc-lowercase"}
    frame = encode(Message("20260302183000123", "31", "2011", "123456", MN, 4), "modbus_low_byte_first")
    (found,) = Decoder(lambda _: "modbus_low_byte_first").feed(frame)
    assert parse_frame(found).deviations == {"crc-modbus"}


@given(st.binary(max_size=300))
def test_any_bytes_give_a_message(segment):
    message = parse(segment)
    assert message.deviations <= set(DEVIATIONS)


@given(st.text(max_size=200), st.text(max_size=100))
def test_any_text_between_real_names_gives_a_message(head, cp):
    message = parse(f"{HEAD}{head}CP=&&DataTime={cp};a34041-Rtd={head}&&".encode("utf-8", "replace"))
    assert message.deviations <= set(DEVIATIONS)


names = st.text("abcXYZ019_", min_size=1, max_size=8)
values = st.text("0123456789.-ABCxyz:/", min_size=1, max_size=12)


@given(
    st.dictionaries(names, values, max_size=4),
    st.lists(st.tuples(names, st.dictionaries(st.sampled_from(["Rtd", "Flag", "Avg", "ID"]), values, min_size=1))),
    st.sampled_from([None, 0, 1, 4, 5, 9]),
    st.booleans(),
)
def test_what_is_written_is_read(params, factors, flag, backfill):
    items = [f"{name}={value}" for name, value in params.items()]
    items += [",".join(f"{code}-{name}={value}" for name, value in fields.items()) for code, fields in factors]
    message = Message("20260302183000123", "31", "2011", "123456", MN, flag, backfill=backfill, cp=";".join(items))
    found = parse(segment_of(message))
    assert (found.qn, found.mn, found.flag, found.backfill, found.cp) == (
        message.qn, MN, flag, backfill, message.cp,
    )  # fmt: skip
    assert found.factors == factors
    known = {"datatime", "qn"}
    assert {name: value for name, value in found.params.items() if name.lower() not in known} == params
