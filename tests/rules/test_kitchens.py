"""Files of kitchens: what they say, and what is wrong in them."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigError
from gateway.rules.book import load_book, pack, unpack
from gateway.rules.kitchens import e6
from tests.rules.files import problems
from tests.rules.test_windows import utc_s

HEAD = 'format = "kitchens/v1"\n'
ONE = '[[kitchen]]\nid = "k1"\nname = "n"\ndevices = ["a/1", "2"]\n'


def book(text: str):
    return load_book({"k.toml": (HEAD + text).encode()})


def wrong(text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        book(text)
    return problems(error)


@pytest.mark.parametrize(
    ("number", "found"),
    [(2.0, 2_000_000), (1, 1_000_000), (0.1, 100_000), (1.234567, 1_234_567), (0.00001, 10), (50.0, 50_000_000)],
)
def test_numbers_of_people_are_exact(number: float, found: int) -> None:
    assert e6(number) == found


def test_a_device_is_found_by_source_and_name_before_its_name_alone() -> None:
    found = book(ONE + ONE.replace("k1", "k2").replace('"2"', '"3"').replace("a/1", "b/2"))
    asked = (("a", "1"), ("b", "1"), ("a", "2"), ("b", "2"))
    assert [getattr(found.kitchen_of(*one), "id", None) for one in asked] == ["k1", None, "k1", "k2"]


def test_days_of_an_entry() -> None:
    found = book(ONE + "valid_to = 2026-03-31\n" + ONE.replace("k1", "k2") + "valid_from = 2026-04-01\n")
    assert [found.kitchen_of("a", "1", utc_s(f"2026-0{day} 00:00")).id for day in ("3-31", "4-01")] == ["k1", "k2"]
    assert found.kitchen_of("a", "1").id == "k1"


def test_a_book_of_kitchens_is_packed_like_any_other() -> None:
    files = {"k.toml": (HEAD + ONE).encode()}
    assert load_book(unpack(pack(files))) == load_book(files)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE.replace('"a/1", "2"', ""), "k.toml:5: kitchen[0].devices: expected 1 to 16 devices, found 0"),
        (ONE.replace('"2"', '"a/1"'), "k.toml:5: kitchen[0].devices: names 'a/1' twice"),
        (ONE + "stove = 3\n", "k.toml:6: kitchen[0].stove: unknown key; did you mean stoves?"),
        (ONE + "stoves = 0\n", "k.toml:6: kitchen[0].stoves: expected a whole number from 1 to 100, found 0"),
        (
            ONE + "purifier_band_a = [2.0, 1.0]\n",
            "k.toml:6: kitchen[0].purifier_band_a: expected the lowest and the highest current, [0.8, 2.5]",
        ),
        (
            ONE + "limit_mg_m3 = 1.0\n",
            "k.toml:2: kitchen[0].limit_source: missing; a limit of its own says by which standard or order",
        ),
        (ONE + 'limit_mg_m3 = "1"\n', "k.toml:6: kitchen[0].limit_mg_m3: expected a number from 0.05 to 50, found '1'"),
        (
            ONE + 'calibrated_until = "2026-02-30"\n',
            "k.toml:6: kitchen[0].calibrated_until: 2026-02-30 is no day of the calendar",
        ),
        (
            ONE + ONE.replace("k1", "k2"),
            "k.toml:9: kitchen[1].devices: a/1 belongs to k1 (k.toml) at the same time",
        ),
        (
            ONE + ONE.replace('"a/1", "2"', '"9"'),
            "k.toml:7: kitchen[1].id: k1 stands already in k.toml:3 for the same time",
        ),
        (
            '[[limit]]\nlimit_mg_m3 = 1.0\nsource = "a"\n[[limit]]\nlimit_mg_m3 = 2.0\nsource = "b"\n',
            "k.toml:5: limit[1]: overlaps an earlier limit of this file; end one before the other begins",
        ),
        ("kitchen = 3\n", "k.toml:2: kitchen: expected tables [[kitchen]], found 3"),
    ],
)
def test_files_that_are_wrong(text: str, message: str) -> None:
    assert wrong(text)[0] == message


def test_what_was_perhaps_not_meant() -> None:
    found = book(ONE + 'fan_flow_m3_h = 4000\nlimit_source = "x"\n')
    assert [problem.message for problem in found.warnings] == [
        "a source without limit_mg_m3; nothing rests on it",
        "a flow without stoves; nothing is converted",
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[fume_limit]\n", "fume_limit.source: missing; expected text on one line, not empty"),
        ('[fume_limit]\nsource = "a"\nwindow_s = 7000\n', "a day is no whole number of it"),
        ("[range]\nfume_min_ug_m3 = 9\nfume_max_ug_m3 = 9\n", "range.fume_max_ug_m3: not above fume_min_ug_m3 (9)"),
        ("[range]\ncurrent_min_ma = 9\ncurrent_max_ma = 9\n", "range.current_max_ma: not above current_min_ma (9)"),
        ("[purifier_current]\nlow_permille = 950\n", "purifier_current.high_permille: not above low_permille (950)"),
        ("[purifier_current]\nlearn_days = 2\n", "purifier_current.learn_days_min: more than learn_days (2)"),
        ('[purifier_off]\nsource = "a"\nseverity = "bad"\n', 'expected "fault" or "lead" or "violation"'),
    ],
)
def test_rule_sets_that_are_wrong(table: str, message: str) -> None:
    head = 'format = "rules/v1"\nid = "a"\ntitle = "b"\nvalid_from = 2026-01-01\nclasses = ["c"]\n'
    with pytest.raises(ConfigError) as error:
        load_book({"r.toml": (head + table).encode()})
    assert message in problems(error)[0]
