"""The sources of the configuration: one struct for each `type` of a `[[source]]` table. CONFIG.md has every key."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Bytes = Annotated[int, Meta(ge=0, le=1_000_000_000_000_000)]
Days = Annotated[int, Meta(ge=0, le=36_500)]
Seconds = Annotated[int, Meta(ge=1, le=604_800)]
SourceName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,63})?\Z",
        description="1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    ),
]
PollSeconds = Annotated[float, Meta(ge=0.1, le=86_400)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables of the file: unknown keys are errors."""


class StationFolderConfig(Section, frozen=True, tag_field="type", tag="station-folder"):
    name: SourceName
    path: str
    """Mounted SMB/NFS share, USB disk or card; read only, never modified."""
    profile: str = "generic"
    """Station profile: an id of firmware_profiles/stations or a path to a TOML file."""
    station: str = ""
    """Identity of the station in records; default: name."""
    poll_s: PollSeconds = 10.0
    stable_s: Annotated[float, Meta(ge=0, le=86_400)] = 5.0
    depth_max: Annotated[int, Meta(ge=0, le=64)] = 16
    entries_max: Count = 200_000
    file_max_bytes: Bytes = 1_000_000_000_000


class StationHttpConfig(Section, frozen=True, tag_field="type", tag="station-http"):
    name: SourceName
    url: str
    profile: str = "generic-http"
    station: str = ""
    ca_file: str = ""
    token_file: str = ""
    poll_s: PollSeconds = 30.0
    stable_s: Annotated[float, Meta(ge=0, le=86_400)] = 5.0
    """Not waited for where the listing declares a sha256."""
    timeout_s: Annotated[float, Meta(ge=0.1, le=3600)] = 30.0
    pages_max: Count = 1000
    file_max_bytes: Bytes = 1_000_000_000_000


class Jt808Config(Section, frozen=True, tag_field="type", tag="jt808"):
    name: SourceName
    listen: str = "0.0.0.0:6808"
    """``address:port`` for TCP; empty: none."""
    listen_udp: str = ""
    """``address:port`` for UDP; empty: none."""
    devices_file: str = ""
    """Classes and devices (DEVICES.md); empty: every terminal is taken into the class `unlisted`."""
    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    connections_per_address_max: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    """Many terminals share the address of their mobile operator."""
    silent_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    """A connection that has not sent one good frame for so long since it began is closed."""
    idle_s: Annotated[float, Meta(ge=10, le=86_400)] = 900.0
    """A connection that is silent for so long is closed: several heartbeats."""
    frames_per_s_max: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Of one terminal, on average over 10 s; above it its connection is read more slowly."""


class NmeaSerialConfig(Section, frozen=True, tag_field="type", tag="nmea-serial"):
    name: SourceName
    port: str
    """A stable name: /dev/serial/by-id/…, or /dev/serial/by-path/… for adapters without a serial number."""
    baud: Annotated[int, Meta(ge=300, le=4_000_000)] = 9600
    device: str = ""
    """Identity of the receiver in records; default: name."""
    device_class: str = "receiver"
    profile: str = "nmea"
    """Tracker profile: datum of the coordinates."""
    interval_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    """Fixes nearer to the last stored one than this are counted, not stored; 0: all."""
    silent_s: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    """A receiver that sends nothing for so long is down: a serial line does not hang up."""
    time_source: bool = False
    """Its time is told to the gateway's clock (`clock.state`)."""


class NmeaTcpConfig(Section, frozen=True, tag_field="type", tag="nmea-tcp"):
    name: SourceName
    address: str
    """``host:port`` of a receiver or a serial server that is connected to."""
    device: str = ""
    device_class: str = "receiver"
    profile: str = "nmea"
    interval_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    silent_s: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    time_source: bool = False


class NmeaListenConfig(Section, frozen=True, tag_field="type", tag="nmea-listen"):
    name: SourceName
    listen: str = ""
    """``address:port`` for TCP; empty: none."""
    listen_udp: str = ""
    """``address:port`` for UDP; empty: none."""
    peers: dict[str, str] = {}
    """Address of a sender → identity of its device. Others are counted and not taken; empty: each address is one."""
    device_class: str = "receiver"
    profile: str = "nmea"
    interval_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    silent_s: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    connections_max: Annotated[int, Meta(ge=1, le=10_000)] = 256


class ModbusDevice(Section, frozen=True):
    """A device on a Modbus bus."""

    unit: Annotated[int, Meta(ge=1, le=255)]
    """1 to 247; some devices and TCP gateways use more. Never twice on one bus."""
    profile: str
    """Sensor profile: what its registers mean."""
    device: str = ""
    """Identity in records; default: ``<name of the source>-<unit>``."""
    site: str = ""
    """Where it stands, in the words of the rule book."""
    device_class: str = msgspec.field(name="class", default="sensor")
    meters: Literal["", "fan", "purifier"] = ""
    """Current meters: what they are clamped on; `current` is then `fan_current` or `purifier_current`."""
    interval_s: PollSeconds = 10.0
    weight: Annotated[int, Meta(ge=1, le=100)] = 1
    """Share of the bus where it cannot serve all."""


class ModbusSerialConfig(Section, frozen=True, tag_field="type", tag="modbus-serial"):
    """RTU: 8 data bits always."""

    name: SourceName
    port: str
    baud: Annotated[int, Meta(ge=300, le=4_000_000)] = 9600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Annotated[int, Meta(ge=1, le=2)] = 1
    devices: list[ModbusDevice] = []


class ModbusTcpConfig(Section, frozen=True, tag_field="type", tag="modbus-tcp"):
    name: SourceName
    address: str
    """``host:port`` of a device, a Modbus gateway or a serial server."""
    framing: Literal["tcp", "rtu"] = "tcp"
    """rtu: a serial server that hands the bytes of its line on."""
    baud: Annotated[int, Meta(ge=300, le=4_000_000)] = 9600
    """rtu: speed of the line behind the serial server."""
    devices: list[ModbusDevice] = []


class Hj212Config(Section, frozen=True, tag_field="type", tag="hj212"):
    """Monitors of HJ 212 that connect."""

    name: SourceName
    listen: str = "0.0.0.0:8212"
    """``address:port`` for TCP."""
    devices_file: str = ""
    """Classes and monitors by MN (DEVICES.md); empty: all are kept in quarantine."""
    keys_file: str = ""
    """SM4 keys of 2025 by MN (drivers/README.md); a secret."""
    crc: Literal["hj212", "modbus_low_byte_first"] = "hj212"
    """CRC that monitors may send beside the standard's, where the devices file says nothing."""
    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    connections_per_address_max: Annotated[int, Meta(ge=1, le=100_000)] = 500
    """Many monitors share the address of their mobile operator."""
    silent_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    """A connection that has not sent one good frame for so long since it began is closed."""
    idle_s: Annotated[float, Meta(ge=10, le=86_400)] = 1800.0
    """A connection, or a monitor on a shared one, that is silent for so long is gone."""
    frames_per_s_max: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Of one connection, on average over 10 s; above it it is read more slowly."""
    unlisted_per_s_max: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Messages of all monitors that the devices file does not list, on average over a minute."""


class Hj212SerialConfig(Section, frozen=True, tag_field="type", tag="hj212-serial"):
    """Monitors of HJ 212 on a serial line."""

    name: SourceName
    port: str
    baud: Annotated[int, Meta(ge=300, le=4_000_000)] = 9600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Annotated[int, Meta(ge=1, le=2)] = 1
    devices_file: str = ""
    keys_file: str = ""
    crc: Literal["hj212", "modbus_low_byte_first"] = "hj212"
    idle_s: Annotated[float, Meta(ge=10, le=86_400)] = 1800.0
    unlisted_per_s_max: Annotated[int, Meta(ge=1, le=1000)] = 5


class JsonMqttConfig(Section, frozen=True, tag_field="type", tag="json-mqtt"):
    """JSON messages of devices, from an MQTT broker."""

    name: SourceName
    url: str
    """``mqtts://host:8883`` or ``mqtt://host:1883``."""
    profile: str
    """Feed profile: where the messages hold which value."""
    topics: list[str] = []
    """Topic filters, with + and #."""
    device: str = ""
    """Identity in records where neither the message nor the topic names the device."""
    device_level: Annotated[int, Meta(ge=0, le=64)] = 0
    """Level of the topic, from 1, that is the identity of the device; 0: none."""
    devices: list[str] = []
    """Identities that are expected: others are kept, and marked `unlisted`. Empty: any."""
    device_class: str = msgspec.field(name="class", default="sensor")
    protocol: Literal["5", "3.1.1"] = "5"
    """Version of MQTT that the broker speaks."""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""
    inflight_max: Annotated[int, Meta(ge=1, le=1000)] = 64
    """Messages that the broker may send before the first of them is acknowledged (MQTT 5)."""


class JsonHttpConfig(Section, frozen=True, tag_field="type", tag="json-http"):
    """JSON messages of devices or vendor clouds that are posted here."""

    name: SourceName
    listen: str
    """``address:port``."""
    profile: str
    token_file: str
    """Every request must carry ``Authorization: Bearer <token>``."""
    device: str = ""
    devices: list[str] = []
    device_class: str = msgspec.field(name="class", default="sensor")
    certificate_file: str = ""
    """TLS; empty: plain HTTP, which everybody on the way can read."""
    key_file: str = ""
    body_max_bytes: Annotated[int, Meta(ge=256, le=131_072)] = 65_536
    connections_max: Annotated[int, Meta(ge=1, le=1000)] = 64


SourceConfig = (
    StationFolderConfig
    | StationHttpConfig
    | Jt808Config
    | NmeaSerialConfig
    | NmeaTcpConfig
    | NmeaListenConfig
    | ModbusSerialConfig
    | ModbusTcpConfig
    | Hj212Config
    | Hj212SerialConfig
    | JsonMqttConfig
    | JsonHttpConfig
)
