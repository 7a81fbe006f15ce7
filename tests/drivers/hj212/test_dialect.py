"""What profiles make of factor codes: quantities in their units, states, channels, and what speaks against each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.hj212 import dialect
from drivers.hj212.dialect import Dialect, _micro
from drivers.hj212.examples import check_examples
from firmware_profiles import loader
from firmware_profiles.monitor_model import FactorRule, MonitorProfile
from gateway.core.readings import micro, readings_of

CODES = [row.id for row in loader.list_profiles() if row.kind == "monitor"]


def of(*rules: FactorRule, **more) -> Dialect:
    profile = MonitorProfile(format="monitor/v1", id="x", title="x", source="x", factor=list(rules), **more)
    return dialect.compile(profile)


def one(reader: Dialect, code: str, **fields: str):
    (value,) = reader.read([(code, fields)])
    return value


def test_all_built_in_profiles_do_what_their_examples_say():
    assert {"hj212", "fume-d1", "fume-d2", "fume-d3", "fume-d4"} <= set(CODES)
    for name in CODES:
        loaded = loader.load_monitor(name)
        results = check_examples(loaded.profile, loaded.path)
        assert len(results) >= 2
        assert [result.text for result in results if not result.ok] == []


def test_the_same_code_is_another_quantity_in_another_dialect():
    factors = [("a01002", {"Rtd": "1.9"})]
    read = {name: dialect.compile(loader.load_monitor(name).profile).read(factors)[0]["quantity"] for name in CODES}
    assert read["hj212"] == "humidity"
    assert read["fume-d4"] == "pm"
    assert read["fume-d1"] == ""


def test_a_value_has_number_unit_mark_and_quality():
    reader = of(FactorRule(code="a34041", quantity="fume", range=[0, 100]))
    assert one(reader, "a34041", Rtd="0.770", Flag="N") == {
        "quantity": "fume", "code": "a34041", "statistic": "rtd", "text": "0.770", "value_e6": 770_000,
        "unit": "mg/m3", "quality": "good", "mark": "N",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "quality", "why"),
    [
        ({"Rtd": "1"}, "good", None),
        ({"Rtd": "1", "Flag": "D"}, "bad", "mark-D"),
        ({"Rtd": "1", "Flag": "T"}, "suspect", "mark-T"),
        ({"Rtd": "1", "Flag": "n"}, "suspect", "mark-n"),
        ({"Rtd": "1", "Flag": ""}, "suspect", "mark-"),
        ({"Rtd": "101"}, "suspect", "range"),
        ({"Rtd": "-0.1"}, "suspect", "range"),
        ({"Rtd": "-999"}, "bad", "unset"),
        ({"Rtd": ""}, "bad", "empty"),
        ({"Rtd": "NaN"}, "bad", "no-number"),
        ({"Rtd": "1e99"}, "bad", "no-number"),
        ({"Rtd": "200", "Flag": "T"}, "suspect", "mark-T range"),
        ({"Rtd": "x", "Flag": "T"}, "bad", "mark-T no-number"),
    ],
)
def test_what_speaks_against_a_value(fields, quality, why):
    reader = of(FactorRule(code="c", quantity="fume", range=[0, 100], unset=["-999"]))
    value = one(reader, "c", **fields)
    assert (value["quality"], value.get("why")) == (quality, why)
    assert value["text"] == fields["Rtd"]


def test_a_profile_may_know_its_marks_better():
    reader = of(FactorRule(code="c", quantity="fume"), marks={"T": "good", "x": "bad"})
    assert one(reader, "c", Rtd="1", Flag="T")["quality"] == "good"
    assert one(reader, "c", Rtd="1", Flag="x")["quality"] == "bad"
    assert one(reader, "c", Rtd="1", Flag="D")["quality"] == "bad"


def test_scale_and_offset_are_exact_and_rounded_half_to_even():
    reader = of(FactorRule(code="c", quantity="temperature", scale="0.1", offset="-273.15"))
    assert one(reader, "c", Rtd="2981.5")["value_e6"] == 25_000_000
    fine = of(FactorRule(code="c", quantity="pm1", scale="0.001"))
    assert one(fine, "c", Rtd="0.0005")["value_e6"] == 0
    assert one(fine, "c", Rtd="0.0015")["value_e6"] == 2
    assert "value_e6" not in one(of(FactorRule(code="c", quantity="x", scale=999_999_999_999)), "c", Rtd="9999999999")


def test_statistics_and_converted_values():
    reader = of(FactorRule(code="c", quantity="fume"))
    values = reader.read([("c", {"Min": "1", "Avg": "2", "Max": "3", "Cou": "4", "ZsAvg": "5", "Flag": "N"})])
    assert [(value["quantity"], value["statistic"]) for value in values] == [
        ("fume", "min"), ("fume", "avg"), ("fume", "max"), ("fume", "sum"), ("fume_converted", "avg"),
    ]  # fmt: skip


def test_run_states_and_own_states():
    reader = of(
        FactorRule(code="SB7", quantity="fan_state"),
        FactorRule(code="SB7", fields=["RT"], quantity="fan_hours", unit="h"),
        FactorRule(code="011", id="2", quantity="purifier_state", states={"0": "off", "1": "on"}),
    )
    states = [one(reader, "SB7", RS=text).get("state") for text in "0123456"]
    assert states == ["off", "on", "calibration", "maintenance", "alarm", "blowback", None]
    assert one(reader, "SB7", RT="3.5") == {
        "quantity": "fan_hours", "code": "SB7", "statistic": "sum", "text": "3.5", "value_e6": 3_500_000,
        "unit": "h", "quality": "good",
    }  # fmt: skip
    (value,) = reader.read([("011", {"Rtd": "1", "ID": "2"})])
    assert (value["quantity"], value["state"], value["statistic"]) == ("purifier_state", "on", "state")
    assert "channel" not in value
    assert one(reader, "SB7", RS="9")["why"] == "no-state"


def test_an_id_is_a_channel_unless_a_rule_asks_for_it():
    reader = of(
        FactorRule(code="006", quantity="fume"),
        FactorRule(code="012", id="1", quantity="fan_current", channel="east"),
    )
    values = reader.read([("006", {"Rtd": "1", "ID": "0"}), ("012", {"Rtd": "2", "ID": "1"}),
                          ("012", {"Rtd": "3", "ID": "9"})])  # fmt: skip
    assert [(value["quantity"], value.get("channel")) for value in values] == [
        ("fume", "0"), ("fan_current", "east"), ("", "9"),
    ]  # fmt: skip


def test_what_no_profile_knows_is_kept():
    reader = of(FactorRule(code="a", quantity="fume"))
    value = one(reader, "b", Rtd="5", Flag="N")
    assert (value["quantity"], value["code"], value["text"], value["value_e6"]) == ("", "b", "5", 5_000_000)
    assert one(reader, "a", ValidNum="10")["code"] == "a-ValidNum"
    assert one(reader, "SB1", RS="1")["state"] == "on"
    assert one(reader, "i1", Info="//清洗//")["text"] == "//清洗//"
    assert one(reader, "a", EFlag="A01", Rtd="1")["mark_more"] == "A01"


def test_texts_are_bounded_and_printable():
    value = one(of(), "i1", Info="a\u0000b\nc" + "x" * 500)
    assert value["text"].startswith("abcx")
    assert len(value["text"]) <= 128


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20260302183000", 1_772_447_400),
        ("20260302183000999", 1_772_447_400),
        ("19700101080000", 0),
        ("20260230000000", None),
        ("20260302246000", None),
        ("20260302186000", None),
        ("2026030218300", None),
        ("", None),
        ("٢٠٢٦٠٣٠٢١٨٣٠٠٠", None),
        ("00000000000000", None),
    ],
)
def test_times(text, seconds):
    assert of().time_utc_s(text) == seconds


@given(st.text("0123456789.-+e_ ", max_size=20))
def test_the_quick_way_to_a_number_is_the_law(text):
    assert _micro(text) == micro(text)


factors = st.lists(
    st.tuples(
        st.sampled_from(["a34041", "SB7", "006", "x", ""]),
        st.dictionaries(
            st.sampled_from(["Rtd", "RS", "Flag", "ID", "EFlag", "Info", "ZsRtd", "?"]), st.text(max_size=9)
        ),
    ),
    max_size=8,
)


@given(factors)
def test_any_factors_give_values_that_the_rules_can_read(found):
    for name in CODES:
        values = READERS[name].read(found)
        assert len(list(readings_of(1, 2, {"values": values}))) <= len(values)
        list(dialect.flat(values))


READERS = {name: dialect.compile(loader.load_monitor(name).profile) for name in CODES}
