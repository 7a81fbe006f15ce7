"""What is remembered of a monitor between two samples of one day, and the cases that are under way."""

from __future__ import annotations

import msgspec

from gateway.rules.fume_samples import FAN_CURRENT, FAN_STATE, PURIFIER_CURRENT, PURIFIER_STATE
from gateway.rules.means import Minute, Window

CHANNELS_MAX = 16
"""Ducts of one monitor that are judged; of further ones nothing is said."""


class Case(msgspec.Struct, array_like=True):
    """An event under way, perhaps not certain yet."""

    rule: str
    channel: str
    kind: int
    """STATISTIC or MOMENT: which trail its inputs lie in."""
    book: int
    who: int
    at: int
    start_s: int
    last_at: int
    last_s: int
    worst_s: int
    worst_seq: int
    worst_e6: int
    worst_limit_e6: int
    count: int = 1
    told: bool = False
    seen_s: int = 0
    """Time of its first reading."""
    back_s: int = 0
    """Since when it has been in order again; 0: it is not."""
    offset_s: int = 0
    more: dict[str, int | str] = {}
    """What its rule measures beside."""


class Level(msgspec.Struct, array_like=True):
    """The newest value of a quantity of a channel."""

    time_s: int
    value_e6: int | None
    state: str
    good: bool


class Before(msgspec.Struct, array_like=True):
    """Newest good concentrations, for jumps."""

    values_e6: list[int] = []
    last_e6: int | None = None
    fan: bool | None = None
    fresh_e6: list[int] = []
    """Those at the new level, as long as it is not certain."""


class Band(msgspec.Struct, array_like=True):
    """Learnt currents of a purifier."""

    low_e6: int
    high_e6: int
    values: int
    days: int
    low_quantile_e6: int
    high_quantile_e6: int


class Averages(msgspec.Struct, array_like=True):
    """Of one channel."""

    minute: Minute | None = None
    own: dict[int, Window] = {}
    """By place of the rule in `FumeTerms.windows`."""
    device: dict[int, Window] = {}


class State(msgspec.Struct, array_like=True):
    """Of one day. Never crosses it."""

    day_from_s: int = 0
    day_to_s: int = 0
    book: int = -1
    who: int = 0
    now_s: int = 0
    last_s: int = 0
    """Time of the newest reading; 0: none today."""
    last_seq: int = 0
    lengths: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Of the trails, by kind."""
    levels: dict[str, Level] = {}
    ducts: list[str] = []
    """Channels that a purifier, and that concentrations were reported of."""
    fumes: list[str] = []
    averages: dict[str, Averages] = {}
    close_s: int = 0
    """No minute and no window ends before."""
    before: dict[str, Before] = {}
    bands: dict[str, Band] = {}
    currents: dict[str, dict[int, int]] = {}
    """By channel: how often a running purifier drew so many steps of BIN_E6."""
    cases: dict[str, Case] = {}
    link_s: int = 0
    link_seq: int = 0
    link: str = ""


BIN_E6 = 10_000
"""Classes of current that a band is learnt from: 0.01 A."""
BINS_MAX = 2000

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(State).decode


def packed(state: State) -> bytes:
    """As bytes."""
    return _encode(state)


def unpacked(data: bytes) -> State:
    """The reverse; raises msgspec.MsgspecError."""
    return _decode(data)


def key(quantity: int, channel: str) -> str:
    """Of a level."""
    return f"{quantity}{channel}"


def level(state: State, quantity: int, channel: str, since_s: int) -> Level | None:
    """The newest good value that is not older than `since_s`, of the channel itself, else of all together."""
    found = state.levels.get(f"{quantity}{channel}")
    if found is None and channel:
        found = state.levels.get(f"{quantity}")
    return found if found is not None and found.good and found.time_s >= since_s else None


def fan_on(state: State, channel: str, since_s: int, on_e6: int) -> tuple[bool | None, str]:
    """(whether the fan of a channel runs, known by `state` or `current`); None where that is not known."""
    return _on(state, FAN_STATE, FAN_CURRENT, channel, since_s, on_e6)


def purifier_on(state: State, channel: str, since_s: int, on_e6: int) -> tuple[bool | None, str]:
    """The same of the purifier."""
    return _on(state, PURIFIER_STATE, PURIFIER_CURRENT, channel, since_s, on_e6)


def _on(state: State, states: int, currents: int, channel: str, since_s: int, on_e6: int) -> tuple[bool | None, str]:
    said = level(state, states, channel, since_s)
    if said is not None:
        return {"on": True, "off": False}.get(said.state), "state"
    drawn = level(state, currents, channel, since_s)
    if drawn is not None and drawn.value_e6 is not None:
        return drawn.value_e6 >= on_e6, "current"
    return None, ""
