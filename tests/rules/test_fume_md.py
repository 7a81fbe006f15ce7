"""RULES.md about kitchens: its example is a rule book, and it names every key, default and finding."""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec
import pytest

from gateway.rules.book import Book, load_book
from gateway.rules.fume_set import FUME_RULES, FumeTables
from gateway.rules.fume_telling import TELLERS
from gateway.rules.kitchens import KITCHENS_MAX, KitchensTable, KitchenTable, LimitTable
from tests.conftest import ROOT
from tests.rules.files import of_rules_md
from tests.rules.test_windows import utc_s

PAGE = (ROOT / "gateway/rules/RULES.md").read_text(encoding="utf-8")


@pytest.fixture
def book() -> Book:
    return load_book(of_rules_md())


def test_the_example_is_a_rule_book_without_doubts(book: Book) -> None:
    assert book.warnings == ()
    kitchen = book.kitchen_of("bus-1", "k17")
    assert kitchen is not None
    assert kitchen.id == "k-017"
    assert kitchen.limit(utc_s("2026-06-30 12:00")) is None
    assert kitchen.limit(utc_s("2026-07-01 00:00")) == (1_000_000, "本地标准（示例）")
    rules = book.rule_set("fume-monitor", utc_s("2026-04-01 21:00"))
    assert rules is not None
    assert all(getattr(rules.fume, name) is not None for name in FUME_RULES)


def default(field: msgspec.structs.FieldInfo) -> str:
    value: Any = field.default
    return str(value) if isinstance(value, int | float) else f'`"{value}"`'


@pytest.mark.parametrize("name", ["readings", *FUME_RULES])
def test_every_threshold_with_its_default(name: str) -> None:
    (kind,) = [field.type for field in msgspec.structs.fields(FumeTables) if field.name == name]
    (table,) = [item for item in get_args(kind) if item is not type(None)]
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    fields = [field for field in msgspec.structs.fields(table) if field.name != "source"]
    said = row.split(" | ")[2].removesuffix(" |").split(", ")
    assert [f"`{field.name}` {default(field)}" for field in fields] == said


def test_every_key_and_every_finding() -> None:
    tables = (KitchensTable, KitchenTable, LimitTable)
    keys = {field.name for table in tables for field in msgspec.structs.fields(table)} - {"format", "kitchen"}
    assert sorted(keys - set(re.findall(r"`([a-z_0-9]+)`", PAGE))) == []
    assert [rule for rule in (*TELLERS, "monitor-offline") if f"| **{rule}** |" not in PAGE] == []
    assert f"{KITCHENS_MAX:,} kitchens" in PAGE
