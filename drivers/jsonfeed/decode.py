"""What a feed profile makes of a JSON message: the readings in it, as values of gateway.core.readings. Pure.

    feed = compile(loaded.profile, loaded.ref)
    items = feed.read(document)                 never raises for what a message holds

Numbers are exact until value_e6: fractions, rounded once, half to even. Weights are taken from the pair before and
after, not from the difference that the device works out (`weighings`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

from drivers.jsonfeed.codec import Document, Leaf, Malformed, Node, leaves, point
from drivers.jsonfeed.weighings import Weighings
from drivers.times import ReadTime, read_time
from firmware_profiles.feed_model import FeedProfile, FeedValue, steps_of
from firmware_profiles.sensor_model import decimal_of
from gateway.core.canonical import MAX_SAFE_INTEGER
from gateway.core.readings import DIGITS_MAX, QUANTITIES, SCALE
from gateway.core.record import ProfileRef

ITEMS_MAX: Final = 500
"""Readings in one message."""
TEXT_MAX: Final = 64
_DIGITS_AFTER_MAX: Final = 40
Steps = tuple[str, ...]


@dataclass(slots=True)
class Item:
    """One reading of a message."""

    device: str
    """"" where the message names none."""
    time: ReadTime | None = None
    time_text: str = ""
    """As sent, also where it is no time."""
    sequence: str = ""
    backfill: bool = False
    event: str = ""
    category: str = ""
    values: list[dict[str, Any]] = field(default_factory=list)
    deviations: set[str] = field(default_factory=set)
    persons: list[Leaf] = field(default_factory=list)
    """What names a person, in the order of the profile."""


@dataclass(frozen=True, slots=True)
class _Value:
    rule: FeedValue
    at: Steps
    channel_at: Steps | None
    unit: str
    scale: Fraction
    offset: Fraction
    low: Fraction | None
    high: Fraction | None

    def read(self, item: Node, root: Node) -> dict[str, Any] | None:
        """The value; None where the message does not hold it."""
        leaf = _leaf(item, root, self.at)
        sent = None if leaf is None else sent_text(leaf)
        if sent is None:
            return None
        rule = self.rule
        found: dict[str, Any] = {"quantity": rule.quantity}
        channel = rule.channel if self.channel_at is None else _text(item, root, self.channel_at)
        if channel:
            found["channel"] = channel
        found |= {"code": rule.at, "statistic": "state" if rule.states else rule.statistic, "text": shown(sent)}
        if sent in rule.sentinels:
            return found | {"quality": "bad", "why": rule.sentinels[sent]}
        if rule.states:
            state = rule.states.get(sent)
            return found | (
                {"quality": "bad", "why": "unknown-state"} if state is None else {"state": state, "quality": "good"}
            )
        number = exact(sent)
        if number is None:
            return found | {"quality": "bad", "why": "not-a-number"}
        value = number * self.scale + self.offset
        micro = round(value * SCALE)
        if abs(micro) > MAX_SAFE_INTEGER:
            return found | {"quality": "bad", "why": "too-large"}
        found |= {"value_e6": micro, "unit": self.unit}
        inside = (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        return found | ({"quality": "good"} if inside else {"quality": rule.outside, "why": "range"})


@dataclass(frozen=True, slots=True)
class Feed:
    """A profile, ready to run."""

    id: str
    ref: ProfileRef | None
    profile: FeedProfile
    weighings: Weighings | None
    rising: frozenset[str]
    """Quantities that only rise."""
    period_s: int
    _values: tuple[_Value, ...] = field(repr=False)
    _steps: Mapping[str, Steps] = field(repr=False)
    _persons: tuple[Steps, ...] = field(repr=False)

    @property
    def hides(self) -> bool:
        """Whether messages may name persons."""
        return bool(self._persons)

    def read(self, document: Document) -> list[Item] | Malformed:
        """The readings of a message, in its order."""
        root = document.root
        rows = point(root, self._steps["items"])
        if not self.profile.items:
            return [self._item(root, root)]
        if not isinstance(rows, list):
            return Malformed("json", f"no list at {self.profile.items}")
        if len(rows) > ITEMS_MAX:
            return Malformed("values", f"{len(rows)} readings where {ITEMS_MAX} are allowed")
        return [self._item(row, root) for row in rows]

    def persons(self, document: Document, items: Iterable[Item]) -> list[Leaf]:
        """Everything in a message that names a person by the profile."""
        found = {leaf: None for item in items for leaf in item.persons}
        return list(found | dict.fromkeys(self._persons_in(document.root, document.root)))

    def _item(self, row: Node, root: Node) -> Item:
        profile, steps = self.profile, self._steps
        item = Item(_text(row, root, steps["device"]) if profile.device else "")
        if profile.time:
            item.time_text = _text(row, root, steps["time"])
            item.time = read_time(item.time_text, profile.time_format, profile.zone) if item.time_text else None
        if profile.sequence:
            item.sequence = _text(row, root, steps["sequence"])
        item.backfill = bool(profile.backfill) and _text(row, root, steps["backfill"]) in profile.backfill_words
        item.category = _text(row, root, steps["category"]) if profile.category else ""
        self._event(item, row, root)
        for value in self._values:
            found = value.read(row, root)
            if found is not None:
                item.values.append(found)
        item.persons = self._persons_in(row, root)
        if self.weighings is not None:
            stable = _text(row, root, steps["stable"]) if steps["stable"] else None
            self.weighings.judge(item.values, item.event, stable)
        return item

    def _event(self, item: Item, row: Node, root: Node) -> None:
        item.event = self.profile.always
        if self.profile.event:
            said = _text(row, root, self._steps["event"])
            item.event = self.profile.events.get(said, "")
            if said and not item.event:
                item.deviations.add("unknown-event")

    def _persons_in(self, row: Node, root: Node) -> list[Leaf]:
        found: list[Leaf] = []
        for steps in self._persons:
            node = point(row, steps)
            node = point(root, steps) if node is None else node
            if node is not None:
                found += [leaf for leaf in leaves(node) if leaf.kind != "word" and leaf.text.strip()]
        return found


def compile(profile: FeedProfile, ref: ProfileRef | None = None) -> Feed:  # noqa: A001 - what it does
    """A checked profile (firmware_profiles.loader.load_feed), ready to run."""
    names = ("items", "device", "time", "sequence", "backfill", "event", "category")
    steps = {name: steps_of(getattr(profile, name)) or () for name in names}
    weighing = profile.weighing
    steps["stable"] = steps_of(weighing.stable) or () if weighing else ()
    return Feed(
        id=profile.id,
        ref=ref,
        profile=profile,
        weighings=None if weighing is None else Weighings(weighing),
        rising=frozenset(rule.quantity for rule in profile.value if rule.rises),
        period_s=profile.period_s,
        _values=tuple(_value(rule) for rule in profile.value),
        _steps=steps,
        _persons=tuple(steps_of(pointer) or () for pointer in profile.depositor),
    )


def _value(rule: FeedValue) -> _Value:
    low, high = (decimal_of(end) for end in rule.range) if rule.range else (None, None)
    return _Value(
        rule=rule,
        at=steps_of(rule.at) or (),
        channel_at=steps_of(rule.channel_at) if rule.channel_at else None,
        unit=rule.unit or QUANTITIES.get(rule.quantity, ""),
        scale=decimal_of(rule.scale) or Fraction(1),
        offset=decimal_of(rule.offset) or Fraction(0),
        low=low,
        high=high,
    )


def exact(text: str) -> Fraction | None:
    """The number of a text, exactly; None where it is none, or none of sensible length."""
    if len(text) > DIGITS_MAX or "_" in text or not text.isascii():
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    if not number:
        return Fraction(0)
    return Fraction(number) if -_DIGITS_AFTER_MAX <= number.adjusted() <= DIGITS_MAX else None


def shown(text: str) -> str:
    """Text of a device as a record may hold it: printable, in normal form C, of limited length."""
    normal = unicodedata.normalize("NFC", text[: 4 * TEXT_MAX])
    clean = "".join(sign if sign.isprintable() else "\ufffd" for sign in normal)
    return unicodedata.normalize("NFC", clean[:TEXT_MAX])


def sent_text(leaf: Leaf) -> str | None:
    """What a device says at one place; None for null and for nothing."""
    text = leaf.text.strip()
    return None if not text or (leaf.kind == "word" and text == "null") else text


def _leaf(item: Node, root: Node, steps: Steps) -> Leaf | None:
    """What stands at a pointer from the reading, or else from the message around it."""
    node = point(item, steps)
    if node is None and item is not root:
        node = point(root, steps)
    return node if isinstance(node, Leaf) else None


def _text(item: Node, root: Node, steps: Steps) -> str:
    leaf = _leaf(item, root, steps)
    sent = None if leaf is None else sent_text(leaf)
    return "" if sent is None else shown(sent)
