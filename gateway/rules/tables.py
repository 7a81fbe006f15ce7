"""What the tables of rule books have in common: texts, ids, and the two kinds of rules."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(pattern=r"\S", description="text on one line, not empty")]
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="an id of letters, digits, . _ -")]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a file that people write."""


class Rule(Table, frozen=True, kw_only=True):
    """What someone can be fined for: it must say by which law."""

    source: Text
    """The legal source, as it is to stand in the finding."""


class Check(Table, frozen=True, kw_only=True):
    """What points to a fault of devices or to something to look at."""

    source: str = ""
