"""What a tracker profile makes of locations, blocks and messages. Pure; never raises for any bytes.

    dialect = compile(profile, ref)                       once per profile
    fix |= dialect.read(location, held.at(now_ns))        for 0200, 0201, and each entry of 0704, 0801
    said = dialect.read_message(msg_id, body)             for messages that the codec does not know, 0900, and those in
                                                          `dialect.messages`: before the codec reads them
    fix |= dialect.place(lat_e7, lon_e7)                  WGS-84, and what was sent where the datum was another one
    data |= dialect.datum_keys                            beside the fixes

The keys are those of gateway.core.fixes. `alarms` and `status` come back only where the profile names bits that the
standard does not, and then hold the names of the standard too: the union of dictionaries is right as it stands.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from drivers.bits import is_bcd, named_bits
from drivers.jt808.items import Item
from drivers.jt808.location import Location
from drivers.jt808.names import ALARMS, LOAD_MASK, STATUS
from drivers.jt808.terminal import Transparent
from drivers.jt808.wire import read_time
from firmware_profiles import datum
from firmware_profiles.tracker_model import (
    HOLDABLE,
    NAMES,
    NUMBERS,
    PLACE,
    SWITCHES,
    TIME,
    Carrier,
    FieldRule,
    TrackerProfile,
    fits,
    scale_of,
    zone_s,
)
from gateway.core.record import ProfileRef

Values = dict[str, Any]
"""Keys of a fix."""

AUTO: Final = "auto"
"""In place of a profile id: the profile whose `match` takes the maker and model of the registration."""
PLAIN: Final = "jt808"

_TIME_END_S: Final = 4_102_444_800
"""2100: a number beyond it is no time."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Said:
    """What a message of the maker's own says."""

    values: Mapping[str, Any]
    """Keys of a fix. For a location also lat_e7, lon_e7 (raw_… beside them after a change of datum), time_utc_s, …,
    and `flags` as far as they need no time of arrival: void, out-of-range, null-island, no-time."""
    is_location: bool
    """It is a report of a place: a fix. Else its values are held for the fixes that follow (`Held`)."""
    name: str = ""
    """What the profile calls the message; empty where it does not say."""
    time_text: str = ""
    """The device's own time as sent."""
    unread: tuple[tuple[str, str], ...] = ()
    """Bytes that no field covers: where, and hex."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One FieldRule, ready to run."""

    key: str
    kind: str
    start: int
    end: int
    little: bool
    shift: int
    mask: int
    unset: frozenset[int]
    values: Mapping[int, str | bool] | None
    ranges: tuple[tuple[int | None, int | None, str], ...]
    """Ends in units of the raw number: low included, high left out."""
    names: tuple[tuple[int, str], ...]
    up: int
    down: int

    def value(self, source: bytes | int) -> Any:
        """The word, number, text or set of names; None: nothing is said."""
        if isinstance(source, int):
            number = source
        else:
            raw = source[self.start : self.end]
            if len(raw) < self.end - self.start:
                return None
            if self.kind == "gbk":
                return _text(raw)
            if self.kind in ("bcd", "bcd-time"):
                return _decimal(raw) if self.kind == "bcd" else raw.hex()
            number = int.from_bytes(raw, "little" if self.little else "big", signed=self.kind == "signed")
        if self.mask:
            number = number >> self.shift & self.mask
        if number in self.unset:
            return None
        if self.values is not None:
            return self.values.get(number)
        if self.ranges:
            return next((word for low, high, word in self.ranges if _between(low, number, high)), None)
        if self.names:
            return tuple(name for bit, name in self.names if number >> bit & 1)
        if self.key in SWITCHES:
            return number != 0
        if self.key == TIME:
            return number
        return self._scaled(number)

    def _scaled(self, number: int) -> int | None:
        found = (2 * number * self.up + self.down) // (2 * self.down)
        if self.key == "course_deg" and found == 360:
            found = 0
        low, high = NUMBERS[self.key]
        # A place beyond the earth is told as such by `_location`; any other impossible number says nothing
        return found if low <= found <= high or self.key in ("lat_e7", "lon_e7") else None


@dataclass(frozen=True, slots=True)
class _Group:
    """One Carrier, ready to run."""

    kind: str
    id: int
    inner: int
    id_bytes: int
    length_bytes: int
    starts: bytes
    name: str
    sizes: frozenset[int]
    fields: tuple[_Field, ...]

    def takes(self, raw: bytes) -> bool:
        return (not self.sizes or len(raw) in self.sizes) and raw.startswith(self.starts)


@dataclass(slots=True)
class Held:
    """What a device said in messages of its own, for the fixes that follow. One per connection; not for back-fill."""

    hold_s: int
    _said: dict[str, tuple[int, Any]] = field(default_factory=dict)

    def take(self, said: Said, now_ns: int) -> None:
        """Remember what stands until it is said again."""
        if self.hold_s:
            self._said |= {key: (now_ns, value) for key, value in said.values.items() if key in HOLDABLE}

    def at(self, now_ns: int) -> Values:
        """What still counts."""
        oldest = now_ns - self.hold_s * 1_000_000_000
        return {key: value for key, (since_ns, value) in self._said.items() if since_ns >= oldest}


class Dialect:
    """One profile, ready to run."""

    def __init__(self, profile: TrackerProfile, ref: ProfileRef | None = None) -> None:
        self.id: Final = profile.id
        self.ref: Final = ref
        self.datum: Final = profile.datum
        self.datum_keys: Final = datum.datum_keys(profile.datum)
        self.hold_s: Final = profile.hold_s
        self.match: Final = tuple(profile.match)
        self._zone_s = zone_s(profile.zone)
        self.zone: Final = profile.zone
        groups = [_group(carrier) for carrier in profile.carrier]
        self._of_location = tuple(group for group in groups if group.kind in ("status", "alarm", "item", "nested"))
        """In the order of the file: the first that says something counts."""
        self._items = _by_id(group for group in groups if group.kind == "item")
        self._nested = _by_id(group for group in groups if group.kind == "nested")
        self._blocks = _by_id(group for group in groups if group.kind == "block")
        self._messages = _by_id(group for group in groups if group.kind == "message")
        self.messages: Final = frozenset(self._messages)
        """Message ids that `read_message` is to see before the codec reads them (0200 among them, if the maker has put
        a body of its own there)."""
        self._own_status = _own_bits(groups, "status")
        self._own_alarms = _own_bits(groups, "alarm")

    # ---------------------------------------------------------------------------------- reading

    def read(self, location: Location, held: Mapping[str, Any] | None = None) -> Values:
        """What the profile finds in a location: load, cover, lift, overload, locked, speed_limited, lift_limited,
        sensor_faults and the like. `held` (`Held.at`) fills in what it does not say; `held` in the result names the
        keys that came from there."""
        found: Values = {}
        names: dict[str, set[str]] = {}
        for group in self._of_location:
            if group.kind == "status":
                _collect(group, location.status_bits, found, names)
            elif group.kind == "alarm":
                _collect(group, location.alarm_bits, found, names)
            else:
                for raw in _contents(group, location.items):
                    _collect(group, raw, found, names)
        if names:
            self._join(location, found, names)
        if held:
            later = sorted(held.keys() - found.keys())
            if later:
                found |= {key: held[key] for key in later}
                found["held"] = " ".join(later)
        return found

    def read_message(self, msg_id: int, body: bytes) -> Said | None:
        """What a message of the maker's own says; None where this profile knows nothing of it."""
        if msg_id == Transparent.MSG_ID and body[:1]:
            groups, raw, what = self._blocks.get(body[0], ()), body[1:], f"block {body[0]:02x}"
        else:
            groups, raw, what = self._messages.get(msg_id, ()), body, f"message {msg_id:04x}"
        taking = [group for group in groups if group.takes(raw)]
        found: Values = {}
        names: dict[str, set[str]] = {}
        for group in taking:
            _collect(group, raw, found, names)
        found |= {key: " ".join(sorted(some)) for key, some in names.items()}
        name = next((group.name for group in taking if group.name), "")
        is_location = "lat_e7" in found and "lon_e7" in found
        time_text = self._time(found)
        if is_location:
            self._location(found)
        else:  # half a place is none
            found = {key: value for key, value in found.items() if key not in (*PLACE, "fixed", "time_utc_s")}
        if not found and not name:
            return None
        return Said(found, is_location, name, time_text, tuple(_gaps(what, raw, taking)))

    def place(self, lat_e7: int, lon_e7: int) -> dict[str, int]:
        """Keys of a fix for a place as sent: WGS-84, with raw_lat_e7 and raw_lon_e7 where it was converted."""
        return datum.place(self.datum, lat_e7, lon_e7)

    def time_utc_s(self, time_bcd: str) -> int | None:
        """Seconds since 1970 of twelve digits YYMMDDhhmmss in the profile's zone; None where they are no time."""
        text = read_time(time_bcd)
        if text is None:
            return None
        local = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC) - _EPOCH
        return local.days * 86_400 + local.seconds - self._zone_s

    def unread(self, location: Location) -> tuple[tuple[str, str], ...]:
        """What neither the standard nor the profile reads, for a person who completes the profile: where, and hex."""
        found: list[tuple[str, str]] = []
        own_status, own_alarms = self._own_status, self._own_alarms
        for what, bits, own, table in (
            ("status", location.status_bits & ~LOAD_MASK, own_status, STATUS),
            ("alarm", location.alarm_bits, own_alarms, ALARMS),
        ):
            found += [(f"{what} bit {bit}", "1") for bit in range(32) if bits & ~own & 1 << bit and bit not in table]
        for item in location.items:
            name = f"item {item.id:02x}"
            taking = [group for group in self._items.get(item.id, ()) if group.takes(item.raw)]
            if self._nested.get(item.id):
                found += self._unread_inside(name, item)
            elif taking:
                found += _gaps(name, item.raw, taking)
            elif item.value is None:
                found.append((name, item.raw.hex()))
        if location.tail:
            found.append(("malformed tail", location.tail.hex()))
        return tuple(found)

    # ---------------------------------------------------------------------------------- parts

    def _unread_inside(self, name: str, item: Item) -> list[tuple[str, str]]:
        nested = self._nested[item.id]
        found: list[tuple[str, str]] = []
        elements, rest = _elements(item.raw, nested[0].id_bytes, nested[0].length_bytes)
        for inner, raw in elements:
            taking = [group for group in nested if group.inner == inner and group.takes(raw)]
            found += _gaps(f"{name}, {inner:02x}", raw, taking) if taking else [(f"{name}, {inner:02x}", raw.hex())]
        return found + ([(f"{name}, rest", rest.hex())] if rest else [])

    def _join(self, location: Location, found: Values, names: dict[str, set[str]]) -> None:
        if "status" in names:
            standard = location.status_bits & ~LOAD_MASK & ~self._own_status
            names["status"] |= named_bits(standard, STATUS)
        if "alarms" in names:
            names["alarms"] |= named_bits(location.alarm_bits & ~self._own_alarms, ALARMS)
        for key, some in names.items():
            own = self._own_status if key == "status" else self._own_alarms if key == "alarms" else 1
            if some or own:
                found[key] = " ".join(sorted(some))

    def _time(self, found: Values) -> str:
        sent = found.pop(TIME, None)
        if sent is None:
            return ""
        seconds = sent if isinstance(sent, int) else self.time_utc_s(sent)
        if seconds is not None and 0 < seconds < _TIME_END_S:
            found["time_utc_s"] = seconds
        return str(sent)

    def _location(self, found: Values) -> None:
        lat, lon = found.pop("lat_e7"), found.pop("lon_e7")
        flags = set()
        if found.pop("fixed", True) is False:
            flags.add("void")
        if "time_utc_s" not in found:
            flags.add("no-time")
        if not -900_000_000 <= lat <= 900_000_000 or not -1_800_000_000 <= lon <= 1_800_000_000:
            flags.add("out-of-range")
        elif lat == lon == 0:
            flags.add("null-island")
        if flags <= {"no-time"}:
            found |= self.place(lat, lon)
        if flags:
            found["flags"] = " ".join(sorted(flags))


def compile(profile: TrackerProfile, ref: ProfileRef | None = None) -> Dialect:  # noqa: A001 - what it does
    """A checked profile (firmware_profiles.loader.load_tracker), ready to run."""
    return Dialect(profile, ref)


def choose(dialects: Mapping[str, Dialect], profile: str, maker: str = "", model: str = "") -> Dialect:
    """The dialect of a profile id. For `auto`: the first by id whose `match` takes the maker and model that the
    terminal registered with; without a registration, or where none does, plain JT/T 808."""
    if profile != AUTO:
        return dialects[profile]
    fitting = sorted(key for key, dialect in dialects.items() if fits(dialect.match, maker, model))
    return dialects[fitting[0] if fitting else PLAIN]


def _group(carrier: Carrier) -> _Group:
    return _Group(
        kind=carrier.kind,
        id=carrier.id,
        inner=carrier.inner,
        id_bytes=carrier.id_bytes,
        length_bytes=carrier.length_bytes,
        starts=bytes.fromhex(carrier.starts),
        name=carrier.name,
        sizes=frozenset(carrier.sizes),
        fields=tuple(_field(rule, carrier.kind in ("status", "alarm")) for rule in carrier.field),
    )


def _field(rule: FieldRule, of_bits: bool) -> _Field:
    low, high = (rule.bits[0], rule.bits[-1]) if rule.bits else (0, -1)
    scale = scale_of(rule.scale) or 1
    up, down = scale.numerator, scale.denominator
    return _Field(
        key=rule.key,
        kind="number" if of_bits else rule.type,
        start=0 if of_bits else rule.offset,
        end=0 if of_bits else rule.offset + rule.size,
        little=rule.endian == "little",
        shift=low,
        mask=(1 << high - low + 1) - 1,
        unset=frozenset(rule.unset),
        values={int(number, 0): word for number, word in rule.values.items()} or None,
        ranges=tuple((_end(one.from_, up, down), _end(one.to, up, down), one.value) for one in rule.ranges),
        names=tuple(sorted((int(bit, 0), name) for bit, name in rule.names.items())),
        up=up,
        down=down,
    )


def _end(end: int | str, up: int, down: int) -> int | None:
    """The smallest raw number that is not below an end given after `scale` (which is above 0)."""
    value = None if end == "" else scale_of(end)
    return None if value is None else -(-value.numerator * down // (value.denominator * up))


def _contents(group: _Group, items: Iterable[Item]) -> Iterable[bytes]:
    """The bytes of an item, or of an element inside one, that a carrier speaks of."""
    for item in items:
        if item.id != group.id:
            continue
        if group.kind == "item":
            if group.takes(item.raw):
                yield item.raw
        else:
            for inner, raw in _elements(item.raw, group.id_bytes, group.length_bytes)[0]:
                if inner == group.inner and group.takes(raw):
                    yield raw


def _by_id(groups: Iterable[_Group]) -> dict[int, tuple[_Group, ...]]:
    found: dict[int, tuple[_Group, ...]] = {}
    for group in groups:
        found[group.id] = (*found.get(group.id, ()), group)
    return found


def _own_bits(groups: Iterable[_Group], kind: str) -> int:
    """Bits of the status or the alarms to which the profile gives a meaning of its own."""
    own = 0
    for group in groups:
        for rule in group.fields if group.kind == kind else ():
            if rule.names:
                own |= sum(1 << bit + rule.shift for bit, _ in rule.names)
            elif rule.mask:
                own |= rule.mask << rule.shift
    return own


def _collect(group: _Group, source: bytes | int, found: Values, names: dict[str, set[str]]) -> None:
    """The first rule that says something counts; names are gathered."""
    for rule in group.fields:
        key = rule.key
        if key in found:
            continue
        value = rule.value(source)
        if value is None:
            continue
        if key in NAMES:
            names.setdefault(key, set()).update((value,) if isinstance(value, str) else value)
        else:
            found[key] = value


def _between(low: int | None, number: int, high: int | None) -> bool:
    return (low is None or number >= low) and (high is None or number < high)


def _elements(data: bytes, id_bytes: int, length_bytes: int) -> tuple[list[tuple[int, bytes]], bytes]:
    """Elements inside an item, and what is left where a length points beyond the end."""
    found = []
    at, head = 0, id_bytes + length_bytes
    while at + head <= len(data):
        size = int.from_bytes(data[at + id_bytes : at + head], "big")
        end = at + head + size
        if end > len(data):
            break
        found.append((int.from_bytes(data[at : at + id_bytes], "big"), data[at + head : end]))
        at = end
    return found, data[at:]


def _gaps(what: str, raw: bytes, groups: Sequence[_Group]) -> Iterable[tuple[str, str]]:
    """Stretches of bytes that no field covers."""
    whole = [rule for group in groups for rule in group.fields if rule.end <= len(raw)]
    read = {at for rule in whole for at in range(rule.start, rule.end)}
    read |= {at for group in groups for at in range(len(group.starts))}
    start = None
    for at in range(len(raw) + 1):
        if at < len(raw) and at not in read:
            start = at if start is None else start
        elif start is not None:
            yield (
                f"{what}, bytes {start}-{at - 1}" if at - start > 1 else f"{what}, byte {start}",
                raw[start:at].hex(),
            )
            start = None


def _decimal(raw: bytes) -> int | None:
    digits = raw.hex()
    return int(digits) if is_bcd(digits) else None


def _text(raw: bytes) -> str | None:
    text = raw.decode("gbk", "replace").strip("\0 ")
    shown = "".join(sign for sign in text if sign.isprintable())
    return unicodedata.normalize("NFC", shown) or None
