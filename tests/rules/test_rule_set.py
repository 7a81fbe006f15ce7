"""Rule sets: reading, dates, days of judging."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core import canonical
from gateway.core.errors import ConfigError
from gateway.rules.book import load_book
from gateway.rules.rule_set import RULES, RuleSet, limits
from gateway.rules.windows import END_UTC_S
from tests.rules.files import problems
from tests.rules.test_windows import utc_s

HEAD = 'format = "rules/v1"\nid = "a"\ntitle = "规则"\nvalid_from = 2026-01-01\nclasses = ["muck-truck"]\n'


def rules(text: str = HEAD + "[stop]\n") -> RuleSet:
    (found,) = load_book({"r.toml": text.encode()}).rule_sets
    return found


def wrong(text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_book({"r.toml": text.encode()})
    return problems(error)


def test_a_rule_is_judged_where_its_table_stands():
    found = rules(HEAD + '[off_route]\nsource = "第十四条"\nfixes_min = 5\n[stop]\n')
    assert found.off_route is not None
    assert (found.off_route.source, found.off_route.fixes_min, found.off_route.width_default_m) == ("第十四条", 5, 50)
    assert found.stop is not None
    assert [name for name in RULES if getattr(found, name) is not None] == ["off_route", "stop"]


def test_limits_are_what_a_finding_holds():
    found = rules(HEAD + '[hours]\nsource = "x"\nallowed = [["20:00", "04:00"]]\n[off_route]\nsource = "x"\n')
    assert found.hours is not None
    assert limits(found.hours) == {
        "applies": "loaded-or-unknown",
        "allowed": [["20:00", "04:00"]],
        "grace_s": 300,
        "speed_kmh": 5,
        "persist_s": 60,
    }
    for name in RULES:
        if (rule := getattr(found, name)) is not None:
            canonical.check(limits(rule))
            assert "source" not in limits(rule)
    assert found.allowed.open(utc_s("2026-06-15 23:00"))
    assert not found.allowed.open(utc_s("2026-06-15 12:00"))


def test_dates_zone_and_days():
    found = rules(HEAD + 'valid_to = "2026-12-31"\nday_starts = "13:30"\n[stop]\n')
    assert (found.from_utc_s, found.to_utc_s) == (utc_s("2026-01-01"), utc_s("2027-01-01"))
    assert found.in_force(utc_s("2026-12-31 23:59:59"))
    assert not found.in_force(utc_s("2027-01-01"))
    day = (utc_s("2026-06-14 13:30"), utc_s("2026-06-15 13:30"))
    assert found.day(day[0]) == found.day(day[1] - 1) == found.day(utc_s("2026-06-15 02:00")) == day
    assert found.day(day[1]) == (day[1], day[1] + 86_400)
    assert rules().to_utc_s == END_UTC_S
    assert rules().day(utc_s("2026-06-15 11:59:59"))[1] == utc_s("2026-06-15 12:00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "[off_route]\n", "r.toml:6: off_route.source: missing; expected text on one line, not empty"),
        (HEAD + '[off_route]\nsource = " "\n',
         "r.toml:7: off_route.source: expected text on one line, not empty, found ' '"),
        (HEAD + "[stop]\nradius_m = 501\n",
         "r.toml:7: stop.radius_m: expected a whole number from 0 to 500, found 501"),
        (HEAD + "[stop]\nradius_m = 5.5\n",
         "r.toml:7: stop.radius_m: expected a whole number from 0 to 500, found 5.5"),
        (HEAD + "[stop]\npersist_s = true\n",
         "r.toml:7: stop.persist_s: expected a whole number of seconds from 0 to 86400, found true"),
        (HEAD + "[stop]\nradius = 50\n", "r.toml:7: stop.radius: unknown key; did you mean radius_m?"),
        (HEAD + "[stops]\n", "r.toml:6: stops: unknown key; did you mean stop?"),
        (HEAD + "stop = 5\n", "r.toml:6: stop: expected a table [stop], found 5"),
        (HEAD.replace("2026-01-01", '""') + "[stop]\n",
         'r.toml:4: valid_from: expected a day "YYYY-MM-DD": rules have a first day'),
        (HEAD.replace("2026-01-01", '"2026-1-1"') + "[stop]\n",
         "r.toml:4: valid_from: expected a day \"YYYY-MM-DD\", found '2026-1-1'"),
        (HEAD + "valid_to = 2025-01-01\n[stop]\n",
         "r.toml:6: valid_to: ends (2025-01-01) before it begins (2026-01-01)"),
        (HEAD.replace('"muck-truck"', "") + "[stop]\n",
         "r.toml:5: classes: names no device class; nothing would be judged"),
        (HEAD.replace('"muck-truck"', '"a", "a"') + "[stop]\n", "r.toml:5: classes: names a twice"),
        (HEAD + 'day_starts = "24:00"\n[stop]\n', 'r.toml:6: day_starts: write "00:00"'),
        (HEAD + '[hours]\nsource = "x"\nallowed = [["20:00", "20:00"]]\n',
         'r.toml:8: hours.allowed: 20:00 to 20:00 is no span of time; the whole day is "00:00" to "24:00"'),
        (HEAD + '[dumping]\nsource = "x"\nstop_max_s = 100\n',
         "r.toml:8: dumping.stop_max_s: not above stop_min_s (180)"),
        (HEAD + "[stop\n", "r.toml:6: not TOML: Expected ']' at the end of a table declaration, column 6"),
        ('format = "rules/v2"\n',
         "r.toml:1: format: expected \"rules/v1\", \"permits/v1\" or \"kitchens/v1\", found 'rules/v2'"),
        ("", 'r.toml: format: expected "rules/v1", "permits/v1" or "kitchens/v1", found nothing'),
    ],
)  # fmt: skip
def test_rule_sets_that_are_wrong(text, message):
    assert wrong(text) == [message]


def test_everything_missing_is_told_at_once():
    assert len(wrong('format = "rules/v1"\n')) == 4


def test_no_rule_is_a_doubt():
    assert [str(item) for item in load_book({"r.toml": HEAD.encode()}).warnings] == [
        "r.toml: holds no rule; a rule is judged where its table stands in the file"
    ]


def test_tables_are_values():
    assert rules() == rules()
    with pytest.raises(AttributeError):
        rules().stop.radius_m = 5  # type: ignore[union-attr,misc]
    assert msgspec.json.decode(msgspec.json.encode(limits(rules().stop)))["radius_m"] == 50  # type: ignore[arg-type]
