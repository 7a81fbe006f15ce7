"""Additional information items of a location report (JT/T 808, message 0200; 0x14 to 0x18: JT/T 1078-2016).

An item is `id BYTE, length BYTE, value`. Its bytes are always kept. `value` reads them only where the id is known and
the length is the one the standard gives: vendors use the same ids for other things (0x14 to 0x18 for OBD data, 0x05
and 0x06 for cells), and a number read from foreign bytes would be an invention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from drivers.bits import named_bits, signed
from drivers.jt808.names import ABNORMAL_DRIVING, AREA_KINDS, IO_STATES, VEHICLE_SIGNALS, VIDEO_ALARMS
from drivers.jt808.wire import U8_MAX, EncodeError, u8

Value = int | str | tuple[int, ...] | tuple[str, ...] | Mapping[str, "int | str"]


class ItemKind(NamedTuple):
    """What the standard says of one id."""

    name: str
    unit: str
    sizes: tuple[int, ...]
    """Lengths that the standard gives; empty for any."""
    read: Callable[[bytes], Value | None]


@dataclass(frozen=True, slots=True)
class Item:
    """One additional item, as sent."""

    id: int
    raw: bytes

    @property
    def name(self) -> str:
        """Name in the standard; `item_<id>` for a vendor's own."""
        kind = ITEMS.get(self.id)
        return kind.name if kind else f"item_{self.id:02x}"

    @property
    def unit(self) -> str:
        """Unit of `value`; empty where there is none."""
        kind = ITEMS.get(self.id)
        return kind.unit if kind else ""

    @property
    def value(self) -> Value | None:
        """What the bytes say by the standard; None for unknown ids and for lengths that the standard does not know."""
        kind = ITEMS.get(self.id)
        if kind is None or (kind.sizes and len(self.raw) not in kind.sizes):
            return None
        return kind.read(self.raw)

    @classmethod
    def of(cls, item_id: int, value: int, size: int) -> Self:
        """An item to send that holds one number."""
        try:
            return cls(item_id, value.to_bytes(size, "big"))
        except OverflowError:
            raise EncodeError(f"{value} does not fit item {item_id:#04x} of {size} bytes") from None


def read_items(data: bytes) -> tuple[tuple[Item, ...], bytes]:
    """The items, and what is left where a length points beyond the end: a malformed tail costs the items in it only."""
    found = []
    at, end = 0, len(data)
    while at + 2 <= end:
        after = at + 2 + data[at + 1]
        if after > end:
            break
        found.append(Item(data[at], data[at + 2 : after]))
        at = after
    return tuple(found), data[at:]


def write_items(items: tuple[Item, ...]) -> bytes:
    """The reverse of `read_items`."""
    for item in items:
        if len(item.raw) > U8_MAX:
            raise EncodeError(f"item {item.id:#04x} has {len(item.raw)} bytes where {U8_MAX} are allowed")
    return b"".join(u8(item.id) + u8(len(item.raw)) + item.raw for item in items)


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _signed16(raw: bytes) -> int:
    return signed(_number(raw), 16)


def _bits(names: Mapping[int, str]) -> Callable[[bytes], tuple[str, ...]]:
    return lambda raw: tuple(sorted(named_bits(_number(raw), names)))


def _channels(raw: bytes) -> tuple[int, ...]:
    """JT/T 1078-2016: bit 0 is logical channel 1."""
    value = _number(raw)
    return tuple(bit + 1 for bit in range(32) if value >> bit & 1)


def _kind(code: int) -> str:
    return AREA_KINDS.get(code, str(code))


def _overspeed(raw: bytes) -> Value | None:
    """0x11: the place is named unless its kind is 0."""
    if (raw[0] == 0) != (len(raw) == 1):
        return None
    return {"kind": _kind(raw[0])} if raw[0] == 0 else {"kind": _kind(raw[0]), "id": _number(raw[1:])}


def _passage(raw: bytes) -> Value:
    """0x12."""
    return {"kind": _kind(raw[0]), "id": _number(raw[1:5]), "direction": {0: "in", 1: "out"}.get(raw[5], str(raw[5]))}


def _section(raw: bytes) -> Value:
    """0x13."""
    result = {0: "short", 1: "long"}.get(raw[6], str(raw[6]))
    return {"id": _number(raw[:4]), "duration_s": _number(raw[4:6]), "result": result}


def _driving(raw: bytes) -> Value:
    """JT/T 1078-2016: kinds in a WORD, degree of fatigue 0-100 in a BYTE."""
    found: dict[str, int | str] = {"kinds": " ".join(sorted(named_bits(_number(raw[:2]), ABNORMAL_DRIVING)))}
    if len(raw) == 3:
        found["fatigue_percent"] = raw[2]
    return found


def _analog(raw: bytes) -> Value:
    """Bits 0-15 AD0, bits 16-31 AD1."""
    return {"ad0": _number(raw[2:]), "ad1": _number(raw[:2])}


def _raw_only(_raw: bytes) -> Value | None:
    return None


ITEMS: Final[Mapping[int, ItemKind]] = {
    0x01: ItemKind("mileage", "0.1 km", (4,), _number),
    0x02: ItemKind("fuel", "0.1 L", (2,), _number),
    0x03: ItemKind("recorder_speed", "0.1 km/h", (2,), _number),
    0x04: ItemKind("alarm_to_confirm", "", (2,), _number),
    0x05: ItemKind("tyre_pressures", "Pa", (30,), tuple),
    0x06: ItemKind("box_temperature", "degC", (2,), _signed16),
    0x11: ItemKind("overspeed_place", "", (1, 5), _overspeed),
    0x12: ItemKind("area_passage", "", (6,), _passage),
    0x13: ItemKind("section_time", "", (7,), _section),
    0x14: ItemKind("video_alarms", "", (4,), _bits(VIDEO_ALARMS)),
    0x15: ItemKind("video_lost_channels", "", (4,), _channels),
    0x16: ItemKind("video_covered_channels", "", (4,), _channels),
    0x17: ItemKind("storage_faults", "", (2,), _channels),
    0x18: ItemKind("abnormal_driving", "", (2, 3), _driving),
    0x25: ItemKind("vehicle_signals", "", (4,), _bits(VEHICLE_SIGNALS)),
    0x2A: ItemKind("io_state", "", (2,), _bits(IO_STATES)),
    0x2B: ItemKind("analog", "", (4,), _analog),
    0x30: ItemKind("signal_strength", "", (1,), _number),
    0x31: ItemKind("satellites", "", (1,), _number),
    # Active safety (T/JSATL 12, T/GDRTA 002): the two provinces lay the same ids out differently, so bytes only
    0x64: ItemKind("adas_alarm", "", (), _raw_only),
    0x65: ItemKind("dsm_alarm", "", (), _raw_only),
    0x66: ItemKind("tpms_alarm", "", (), _raw_only),
    0x67: ItemKind("bsd_alarm", "", (), _raw_only),
    0xE0: ItemKind("vendor_length", "", (1, 2, 4), _number),
}
