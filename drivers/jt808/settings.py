"""Parameters of a terminal (JT/T 808, chapter 8): 8103, 8104, 8106, 0104."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from drivers.jt808.terminal import Empty
from drivers.jt808.wire import BodyEnds, EncodeError, Reader, Text, Version, u8, u16, u32

_NUMBER_SIZE: Final = {"u8": 1, "u16": 2, "u32": 4}

PARAMETERS: Final[dict[int, tuple[str, str]]] = {
    0x0001: ("heartbeat_interval_s", "u32"),
    0x0002: ("tcp_reply_timeout_s", "u32"),
    0x0003: ("tcp_retries", "u32"),
    0x0004: ("udp_reply_timeout_s", "u32"),
    0x0005: ("udp_retries", "u32"),
    0x0006: ("sms_reply_timeout_s", "u32"),
    0x0007: ("sms_retries", "u32"),
    0x0010: ("apn", "text"),
    0x0011: ("apn_user", "text"),
    0x0012: ("apn_password", "text"),
    0x0013: ("server", "text"),
    0x0014: ("backup_apn", "text"),
    0x0015: ("backup_apn_user", "text"),
    0x0016: ("backup_apn_password", "text"),
    0x0017: ("backup_server", "text"),
    0x0018: ("tcp_port", "u32"),
    0x0019: ("udp_port", "u32"),
    0x001A: ("ic_card_server", "text"),
    0x001B: ("ic_card_tcp_port", "u32"),
    0x001C: ("ic_card_udp_port", "u32"),
    0x001D: ("ic_card_backup_server", "text"),
    0x0020: ("report_strategy", "u32"),  # 0 time, 1 distance, 2 both
    0x0021: ("report_scheme", "u32"),  # 0 by ACC, 1 by log-in then ACC
    0x0022: ("interval_no_driver_s", "u32"),
    0x0023: ("slave_apn", "text"),
    0x0024: ("slave_apn_user", "text"),
    0x0025: ("slave_apn_password", "text"),
    0x0026: ("slave_server", "text"),
    0x0027: ("interval_asleep_s", "u32"),
    0x0028: ("interval_emergency_s", "u32"),
    0x0029: ("interval_default_s", "u32"),
    0x002C: ("distance_default_m", "u32"),
    0x002D: ("distance_no_driver_m", "u32"),
    0x002E: ("distance_asleep_m", "u32"),
    0x002F: ("distance_emergency_m", "u32"),
    0x0030: ("corner_angle_deg", "u32"),
    0x0031: ("fence_radius_m", "u16"),
    0x0032: ("forbidden_period", "raw"),  # (2019) hh mm hh mm
    0x0040: ("platform_phone", "text"),
    0x0041: ("reset_phone", "text"),
    0x0042: ("factory_reset_phone", "text"),
    0x0043: ("platform_sms_phone", "text"),
    0x0044: ("alarm_sms_phone", "text"),
    0x0045: ("call_answer_strategy", "u32"),
    0x0046: ("call_longest_s", "u32"),
    0x0047: ("call_longest_month_s", "u32"),
    0x0048: ("listen_in_phone", "text"),
    0x0049: ("privileged_sms_phone", "text"),
    0x0050: ("alarm_mask", "u32"),
    0x0051: ("alarm_sms_switch", "u32"),
    0x0052: ("alarm_photo_switch", "u32"),
    0x0053: ("alarm_photo_store", "u32"),
    0x0054: ("key_alarms", "u32"),
    0x0055: ("speed_limit_kmh", "u32"),
    0x0056: ("overspeed_duration_s", "u32"),
    0x0057: ("driving_limit_s", "u32"),
    0x0058: ("driving_limit_day_s", "u32"),
    0x0059: ("rest_shortest_s", "u32"),
    0x005A: ("parking_longest_s", "u32"),
    0x005B: ("overspeed_warning_margin", "u16"),  # 0.1 km/h
    0x005C: ("fatigue_warning_margin_s", "u16"),
    0x005D: ("collision", "u16"),
    0x005E: ("rollover_angle_deg", "u16"),
    0x0064: ("photo_by_time", "u32"),
    0x0065: ("photo_by_distance", "u32"),
    0x0070: ("photo_quality", "u32"),
    0x0071: ("photo_brightness", "u32"),
    0x0072: ("photo_contrast", "u32"),
    0x0073: ("photo_saturation", "u32"),
    0x0074: ("photo_chroma", "u32"),
    0x0080: ("odometer", "u32"),  # 0.1 km
    0x0081: ("province", "u16"),
    0x0082: ("city", "u16"),
    0x0083: ("plate", "text"),
    0x0084: ("plate_colour", "u8"),
    0x0090: ("gnss_mode", "u8"),
    0x0091: ("gnss_baud_rate", "u8"),
    0x0092: ("gnss_output_rate", "u8"),
    0x0093: ("gnss_collect_interval_s", "u32"),
    0x0094: ("gnss_upload_mode", "u8"),
    0x0095: ("gnss_upload_setting", "u32"),
    0x0100: ("can1_collect_interval_ms", "u32"),
    0x0101: ("can1_upload_interval_s", "u16"),
    0x0102: ("can2_collect_interval_ms", "u32"),
    0x0103: ("can2_upload_interval_s", "u16"),
    0x0110: ("can_id_setting", "raw"),
}
"""Id → name with its unit, and type. Other ids are kept as bytes."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, as sent."""

    id: int
    raw: bytes

    @property
    def name(self) -> str:
        """Name, `parameter_<id>` where the standard has none."""
        return PARAMETERS.get(self.id, (f"parameter_{self.id:04x}", ""))[0]

    @property
    def value(self) -> int | str | None:
        """A number or a text; None for raw types, unknown ids, and lengths that are not the type's."""
        kind = PARAMETERS.get(self.id, ("", "raw"))[1]
        if kind == "text":
            return Text(self.raw).text
        return int.from_bytes(self.raw, "big") if _NUMBER_SIZE.get(kind) == len(self.raw) else None

    @classmethod
    def of(cls, parameter_id: int, value: int | str | bytes) -> Self:
        """A parameter to set; bytes are sent as they are."""
        if isinstance(value, bytes):
            return cls(parameter_id, value)
        name, kind = PARAMETERS.get(parameter_id, (f"parameter {parameter_id:#06x}", "raw"))
        if isinstance(value, str) and kind == "text":
            return cls(parameter_id, Text.of(value).raw)
        if isinstance(value, int) and kind in _NUMBER_SIZE:
            try:
                return cls(parameter_id, value.to_bytes(_NUMBER_SIZE[kind], "big"))
            except OverflowError:
                raise EncodeError(f"{name}: {value} does not fit {kind}") from None
        raise EncodeError(f"{name} is {kind}: give {'bytes' if kind == 'raw' else kind}, not {value!r}")


def _read_list(reader: Reader) -> tuple[Parameter, ...]:
    """`id DWORD, length BYTE, value` until the end or the first that is not whole."""
    found = []
    while reader.left:
        at = reader.at
        try:
            found.append(Parameter(reader.u32(), reader.take(reader.u8())))
        except BodyEnds:
            reader.back_to(at)
            break
    return tuple(found)


def _write_list(parameters: tuple[Parameter, ...]) -> bytes:
    return b"".join(u32(one.id) + u8(len(one.raw)) + one.raw for one in parameters)


@dataclass(frozen=True, slots=True)
class SetParameters:
    """8103."""

    MSG_ID: ClassVar[int] = 0x8103

    parameters: tuple[Parameter, ...]
    count: int | None = None
    """As stated, where it is not the number of parameters."""
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        count, found = reader.u8(), _read_list(reader)
        return cls(found, None if count == len(found) else count, reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        count = len(self.parameters) if self.count is None else self.count
        return u8(count) + _write_list(self.parameters) + self.tail


@dataclass(frozen=True, slots=True)
class ParameterAnswer:
    """0104: the answer to 8104 and 8106. Usually in packets."""

    MSG_ID: ClassVar[int] = 0x0104

    reply_serial: int
    parameters: tuple[Parameter, ...]
    count: int | None = None
    """As stated, where it is not the number of parameters."""
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        serial, count, found = reader.u16(), reader.u8(), _read_list(reader)
        return cls(serial, found, None if count == len(found) else count, reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        count = len(self.parameters) if self.count is None else self.count
        return u16(self.reply_serial) + u8(count) + _write_list(self.parameters) + self.tail


class QueryParameters(Empty):
    """8104: all of them."""

    __slots__ = ()
    MSG_ID = 0x8104


@dataclass(frozen=True, slots=True)
class QueryListed:
    """8106: these only."""

    MSG_ID: ClassVar[int] = 0x8106

    ids: tuple[int, ...]
    tail: bytes = b""

    @classmethod
    def read(cls, reader: Reader, _version: Version) -> Self:
        """From a body."""
        return cls(tuple(reader.u32() for _ in range(reader.u8())), reader.rest())

    def write(self, _version: Version) -> bytes:
        """As a body."""
        return u8(len(self.ids)) + b"".join(map(u32, self.ids)) + self.tail
