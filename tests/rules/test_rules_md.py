"""RULES.md: its example is a rule book, and it names every key and default."""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec
import pytest

from gateway.rules.book import Book, load_book
from gateway.rules.geojson import FEATURES_MAX, POINTS_MAX
from gateway.rules.permits import PERMITS_MAX, PermitsTable, PermitTable
from gateway.rules.places import KINDS, LimitTable, PlaceTable, RouteTable
from gateway.rules.rule_set import RULES, RuleSetTable
from tests.conftest import ROOT
from tests.rules.files import of_rules_md
from tests.rules.test_windows import utc_s

PAGE = (ROOT / "gateway/rules/RULES.md").read_text(encoding="utf-8")


@pytest.fixture
def book() -> Book:
    return load_book(of_rules_md())


def test_the_example_is_a_rule_book_without_doubts(book):
    assert book.warnings == ()
    (permit,) = book.permits("浙F·12345", utc_s("2026-04-01 21:00"))
    assert book.routes[permit.routes[0]].name == "当湖—新仓"
    rules = book.rule_set("muck-truck", utc_s("2026-04-01 21:00"))
    assert rules is not None
    assert all(getattr(rules, name) is not None for name in RULES)


def rows(first: str) -> list[str]:
    return [line for line in PAGE.splitlines() if line.startswith(f"| `{first}` |")]


def default(field: msgspec.structs.FieldInfo) -> str:
    value: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return str(value) if isinstance(value, int) else f"`{value!r}`".replace("'", '"')


@pytest.mark.parametrize("name", RULES)
def test_every_threshold_with_its_default(name):
    (kind,) = [field.type for field in msgspec.structs.fields(RuleSetTable) if field.name == name]
    (table,) = [item for item in get_args(kind) if item is not type(None)]
    (row,) = rows(name)
    fields = [field for field in msgspec.structs.fields(table) if field.name != "source"]
    assert [f"`{field.name}` {default(field)}" for field in fields] == row.split(" | ")[2].removesuffix(" |").split(
        ", "
    )


def test_every_key_of_every_file():
    tables = (PermitsTable, PermitTable, PlaceTable, RouteTable, LimitTable, RuleSetTable)
    keys = {field.name for table in tables for field in msgspec.structs.fields(table)} - {"format", "permit"}
    written = set(re.findall(r"`([a-z_]+)`", PAGE))
    assert sorted(keys - written) == []
    assert all(f"`{kind}`" in PAGE for kind in KINDS)


def test_limits():
    assert f"{FEATURES_MAX:,} features" in PAGE
    assert f"{POINTS_MAX:,} positions" in PAGE
    assert f"{PERMITS_MAX:,} permits" in PAGE
