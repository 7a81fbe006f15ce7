"""What a profile makes of registers: exact numbers, orders of words and bytes, states, sentinels, status, identity."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import decode
from drivers.modbus.blocks import Answer, Block, DevicePlan
from drivers.modbus.examples import registers_of
from firmware_profiles.loader import ids, load_sensor, parse
from gateway.core.canonical import check
from gateway.core.record import ProfileRef

HEAD = """format = "sensor/v1"
id = "mine"
title = "t"
source = "s"
"""
REF = ProfileRef("mine", "0" * 64)


def sensor(body: str, registers: str = "0000" * 8, count: int = 8, function: int = 3) -> decode.Sensor:
    """A profile of one block of registers from 0; `body`: its values and what follows."""
    example = f'[[example]]\nregisters = ["{registers}"]\nexpect = {{}}\n' * 2
    block = f"[[block]]\nfunction = {function}\naddress = 0\ncount = {count}\n"
    top, _, values = body.partition("---\n") if "---\n" in body else ("", "", body)
    return decode.compile(parse((HEAD + top + block + values + example).encode(), Path("mine.toml")), REF)


def one(body: str, registers: str) -> dict[str, object]:
    words = registers_of(Block(3, 0, 8), registers.replace(" ", "").ljust(32, "0"))
    found = sensor(f'[[block.value]]\nquantity = "x"\naddress = 0\nunit = "u"\n{body}\n')
    (value,) = found.read({found.blocks[0]: words})
    check(value)
    return value


@pytest.mark.parametrize(
    ("body", "registers", "micro"),
    [
        ("", "ffff", 65_535_000_000),
        ('type = "s16"', "ffff", -1_000_000),
        ('type = "u32"', "0001 0000", 65_536_000_000),
        ('type = "u32"\nword_order = "low-first"', "04d2 0000", 1_234_000_000),
        ('type = "u32"\nbyte_order = "low-first"', "d204 0000", 0x04D2_0000 * 10**6),
        ('type = "u32"\nword_order = "low-first"\nbyte_order = "low-first"', "d204 0000", 1_234_000_000),
        ('type = "s32"', "ffff fe0c", -500_000_000),
        ('type = "s32"\nscale = "0.01"', "ffff fe0c", -5_000_000),
        ('type = "u64"', "0000 0000 0000 0007", 7_000_000),
        ('type = "s64"', "ffff ffff ffff ffff", -1_000_000),
        ('type = "f32"', "4148 0000", 12_500_000),
        ('type = "f32"\nword_order = "low-first"', "0000 3f00", 500_000),
        ('type = "f64"', "3ff8 0000 0000 0000", 1_500_000),
        ('type = "packed"', "1409", 20_900_000),
        ('type = "packed"\nfraction_digits = 2', "1409", 20_090_000),
        ('type = "bcd16"', "1234", 1_234_000_000),
        ('type = "bcd32"\nscale = "0.01"', "0012 3456", 1_234_560_000),
        ("bits = [8, 15]", "12ff", 0x12 * 10**6),
        ("bits = [3]", "0008", 1_000_000),
        ('type = "u32"\nbits = [0, 16]', "fe01 0002", 0x1_0002 * 10**6),
        ('type = "s16"\nbits = [0, 3]', "000f", -1_000_000),
        ('scale = "0.1"\noffset = "-100"', "04ef", 26_300_000),
        ('scale = "0.000001"', "0001", 1),
        ('scale = "0.0000005"', "0001", 0),
        ('scale = "0.0000005"', "0003", 2),
        ('scale = "-1"', "0002", -2_000_000),
        ("decimals_at = 1\ndecimals_bits = [0, 2]", "3039 0802", 123_450_000),
        ('decimals_at = 1\ndecimals_bits = [0, 2]\nscale = "0.001"', "3039 0000", 12_345_000),
    ],
)
def test_numbers_are_exact(body, registers, micro):
    value = one(body, registers)
    assert value["value_e6"] == micro
    assert value["quality"] == "good"
    assert value["unit"] == "u"


@pytest.mark.parametrize(
    ("body", "registers", "text", "why"),
    [
        ('type = "f32"', "7fc0 0000", "7fc0 0000", "not-a-number"),
        ('type = "f32"', "7f80 0000", "7f80 0000", "not-a-number"),
        ('type = "f64"', "7fef ffff ffff ffff", "1.7976931348623157e+308", "too-large"),
        ('type = "u64"', "ffff ffff ffff ffff", "18446744073709551615", "too-large"),
        ('type = "packed"', "14ff", "14ff", "not-a-number"),
        ('type = "bcd16"', "12af", "12af", "not-a-number"),
        ('sentinels = { 0x7FFF = "probe-fault" }', "7fff", "32767", "probe-fault"),
        ('type = "s16"\nsentinels = { "-1" = "cold" }', "ffff", "-1", "cold"),
        ("decimals_at = 1", "3039 000a", "12345", "decimals"),
    ],
)
def test_what_is_no_number_has_no_value(body, registers, text, why):
    value = one(body, registers)
    assert "value_e6" not in value
    assert (value["text"], value["why"], value["quality"]) == (text, why, "bad")


def test_range_and_states():
    assert one('range = ["0", "20"]\nscale = "0.01"', "07d1")["why"] == "range"
    assert one('range = ["0", "20"]\nscale = "0.01"', "07d0")["quality"] == "good"
    assert one('range = ["", "20"]\noutside = "suspect"', "0015")["quality"] == "suspect"
    body = '[[block.value]]\nquantity = "door"\naddress = 0\nstates = { 0 = "shut", 1 = "open" }\n'
    found = sensor(body)
    shut, broken = (found.read({found.blocks[0]: (number, *[0] * 7)})[0] for number in (0, 9))
    assert (shut["state"], shut["statistic"], "unit" in shut) == ("shut", "state", False)
    assert (broken.get("state"), broken["why"], broken["text"]) == (None, "unknown-state", "9")


def test_status_rules_speak_of_their_values_and_the_worst_counts():
    body = """[[block.value]]
quantity = "fume"
address = 0
range = ["0", "20"]
[[block.value]]
quantity = "pm"
address = 1
channel = "1"
[[status]]
function = 3
address = 2
bits = [4]
good = [0]
quality = "suspect"
words = { 1 = "warming-up" }
quantities = ["fume"]
[[status]]
function = 3
address = 3
good = [0]
quantities = ["pm/1"]
"""
    found = sensor(body)
    fume, pm = found.read({found.blocks[0]: (30, 5, 0x10, 7, 0, 0, 0, 0)})
    assert (fume["quality"], fume["why"], fume["value_e6"]) == ("bad", "range warming-up", 30_000_000)
    assert (pm["quality"], pm["why"], pm["channel"]) == ("bad", "status-7", "1")
    fume, pm = found.read({found.blocks[0]: (3, 5, 0x10, 0, 0, 0, 0, 0)})
    assert (fume["quality"], fume["why"], pm["quality"]) == ("suspect", "warming-up", "good")


def test_identity_registers_inside_a_block_are_compared_every_time():
    found = sensor(
        '[[identity]]\nfunction = 3\naddress = 6\nvalues = [0x0296, -1]\n---\n'
        '[[block.value]]\nquantity = "fume"\naddress = 0\n'
    )  # fmt: skip
    assert found.identity[0].expected == (0x0296, None)
    good, wrong = (found.read({found.blocks[0]: (1, 0, 0, 0, 0, 0, word, 9)})[0] for word in (0x0296, 0x0297))
    assert (good["quality"], wrong["quality"], wrong["why"]) == ("good", "bad", "wrong-identity")


def test_coils_and_inputs():
    body = '[[block.value]]\nquantity = "fan_state"\ntype = "bit"\naddress = 9\nstates = { 0 = "off", 1 = "on" }\n'
    found = sensor(body, registers="0000", count=10, function=2)
    answer = Answer(found.blocks[0], b"", b"", 0, bits=(False,) * 9 + (True,))
    assert found.decode([answer]).values[0]["state"] == "on"


def test_what_a_plan_takes():
    loaded = load_sensor("sen0662")
    found = decode.compile(loaded.profile, loaded.ref)
    plan = DevicePlan(unit=1, device="probe", **found.asked())
    assert plan.blocks == (Block(4, 0, 12),)
    assert plan.profile == loaded.ref
    assert plan.identity[0].expected == (0x0296, 0x3343)
    registers = (0x0296, 0x3343, 0, 0, 2, 0, *struct.unpack(">6H", struct.pack(">3f", 1.5, 2.5, 3.5)))
    values = plan.decode([Answer(plan.blocks[0], b"", b"", 0, registers)]).values
    assert [value["value_e6"] for value in values] == [1_500_000, 2_500_000, 3_500_000]
    meter = load_sensor("ri-d175-c")
    assert DevicePlan(unit=1, device="m", **decode.compile(meter.profile).asked()).min_interval_ms == 400
    co2 = decode.compile(load_sensor("senseair-se0119").profile)
    assert co2.blocks == (Block(4, 0, 4),)  # counted from 1 by the manual
    writes = decode.compile(load_sensor("pzem-004t").profile).writes
    assert writes["power_alarm_w"].maximum == 25_000


def test_what_a_meter_is_clamped_on():
    profile = load_sensor("pzem-004t").profile
    named = [value.head["quantity"] for value in decode.compile(profile, meters="purifier")._values]
    assert named == [
        "voltage", "purifier_current", "purifier_power", "energy", "frequency", "power_factor", "power_alarm",
    ]  # fmt: skip
    assert decode.compile(profile, meters="fan")._values[1].unit == "A"


def test_a_block_that_must_be_whole_gets_no_fence():
    body = 'whole = true\n[[block.value]]\nquantity = "fume"\naddress = 0\n'
    assert sensor(body).fence is False
    assert sensor('[[block.value]]\nquantity = "fume"\naddress = 0\n').fence is True


@pytest.mark.parametrize("name", ids("sensor"))
@given(content=st.binary(max_size=64), short=st.integers(0, 2))
def test_any_registers_give_values_that_a_record_can_hold(name, content, short):
    found = decode.compile(load_sensor(name).profile)
    answers = []
    for block in found.blocks[: max(1, len(found.blocks) - short)]:
        need = 2 * block.count
        words = struct.unpack(
            f">{block.count}H", (content * (need // max(1, len(content)) + 1)).ljust(need, b"\0")[:need]
        )
        answers.append(Answer(block, b"", b"", 0, words[: block.count - short]))
    values = found.decode(answers).values
    assert len(values) == len(found._values)
    check([dict(value) for value in values])
    for value in values:
        assert value["quality"] in {"good", "suspect", "bad"}
        assert (value["quality"] == "good") == ("why" not in value)
