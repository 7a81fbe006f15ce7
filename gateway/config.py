"""Configuration: one TOML file, read once, every mistake reported at once. CONFIG.md describes every key.

The structs are the schema: names, types, ranges and defaults stand here and nowhere else.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, inspect

from gateway import toml_check, toml_lines
from gateway.config_sources import (
    Bytes,
    Days,
    Hj212Config,
    Hj212SerialConfig,
    JsonHttpConfig,
    JsonMqttConfig,
    Jt808Config,
    ModbusSerialConfig,
    ModbusTcpConfig,
    NmeaListenConfig,
    NmeaSerialConfig,
    NmeaTcpConfig,
    Seconds,
    Section,
    SourceConfig,
    StationFolderConfig,
    StationHttpConfig,
)
from gateway.core.errors import ConfigError, Problem

GATEWAY_ID_RULE: Final = "1 to 63 of a-z, 0-9, '.' and '-', with a letter or digit at both ends"
GatewayId = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?\Z",
        description=GATEWAY_ID_RULE,
    ),
]


class GatewayConfig(Section, frozen=True):
    id: GatewayId
    """Identity in the log's origin line ``<id>/evidence``; lower-case letters, digits, ``.`` and ``-``."""
    name: str = ""


class StorageConfig(Section, frozen=True):
    state_dir: str
    spool_dir: str = ""
    """Default: ``<state_dir>/spool``. May be another disk."""
    spool_quota_bytes: Bytes = 20_000_000_000
    high_water_percent: Annotated[int, Meta(ge=1, le=99)] = 90
    """Of the quota, or of the disk: above it no further artifact is taken; it stays on the station."""
    reserve_bytes: Bytes = 268_435_456
    """Free space that only the journal, seals and receipts may use."""
    commit_window_ms: Annotated[int, Meta(ge=0, le=1000)] = 20


class KeysConfig(Section, frozen=True):
    key_file: str
    certificate_file: str = ""
    """Empty until the platform has signed the CSR: records are stored, nothing is sealed."""
    ca_file: str = ""
    crl_file: str = ""


class TimeConfig(Section, frozen=True):
    tsa_url: str = ""
    """RFC 3161 authority; empty: seals stay unstamped."""
    tsa_ca_file: str = ""
    tsa_retry_max_s: Seconds = 3600
    state_interval_s: Annotated[int, Meta(ge=10, le=600)] = 600


class SealConfig(Section, frozen=True):
    max_records: Annotated[int, Meta(ge=1, le=100_000)] = 5000
    max_bytes: Annotated[int, Meta(ge=65_536, le=268_435_456)] = 8_388_608
    max_age_s: Seconds = 60
    idle_age_s: Seconds = 3600


class RetentionConfig(Section, frozen=True):
    artifact_days: Days = 30
    artifact_days_when_full: Days = 1
    """Receipted artifacts older than this go early, oldest first, while the spool is above the high-water mark."""
    record_days: Days = 365
    scrub_bytes_per_s: Annotated[int, Meta(ge=65_536, le=10_000_000_000)] = 4_194_304
    scrub_interval_h: Annotated[int, Meta(ge=1, le=8760)] = 24


class UplinkConfig(Section, frozen=True):
    url: str = ""
    """Base address of the platform (WIRE.md); empty: the platform pulls."""
    ca_file: str = ""
    token_file: str = ""
    client_certificate: bool = True
    """Present the gateway's certificate in TLS."""
    receipt_ca_file: str = ""
    """CA of the platform's receipt certificate; empty: keys.ca_file."""
    artifacts: Literal["push", "on-request"] = "push"
    bandwidth_bytes_per_s: Bytes = 0
    """0: no cap."""
    timeout_s: Seconds = 30
    retry_min_s: Seconds = 1
    retry_max_s: Seconds = 300
    stamp_grace_s: Annotated[int, Meta(ge=0, le=86_400)] = 10
    """How long a batch waits for its token before it goes without."""


class ApiConfig(Section, frozen=True):
    listen: str = ""
    """``address:port`` of the TLS listener; empty: only the Unix socket ``<state_dir>/run/api.sock``."""
    certificate_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    """Set: every client must present a certificate of this CA."""
    token_file: str = ""
    """Set: every request must carry ``Authorization: Bearer <token>``."""
    viewer_token_file: str = ""
    """A second token, for people who look: nothing of the privacy class `process`."""
    operator_token_file: str = ""
    """A third one, for people who look and order."""


class RulesConfig(Section, frozen=True):
    path: str = ""
    """A folder: rule sets, permits and places (gateway/rules/RULES.md); empty: nothing is judged."""
    reload_s: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    """How often the folder is looked at. An error in it keeps the last good set in force."""


class LiveConfig(Section, frozen=True):
    """Live values over MQTT 5 (uplink/WIRE.md). Never the evidence path."""

    url: str = ""
    """``mqtts://host:8883`` or ``mqtt://host:1883``; empty: off."""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    username: str = ""
    password_file: str = ""
    topic_prefix: str = "fieldgate/v1"
    queue_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Findings that wait while the broker is away; positions are conflated to the newest of each device."""
    include_process: bool = False
    """Also tracks of the privacy class `process` (officers)."""


class Config(Section, frozen=True):
    gateway: GatewayConfig
    storage: StorageConfig
    keys: KeysConfig
    time: TimeConfig = TimeConfig()
    seal: SealConfig = SealConfig()
    retention: RetentionConfig = RetentionConfig()
    uplink: UplinkConfig = UplinkConfig()
    api: ApiConfig = ApiConfig()
    rules: RulesConfig = RulesConfig()
    live: LiveConfig = LiveConfig()
    profile_dirs: list[str] = msgspec.field(default_factory=list)
    """Further folders with device profiles; a profile there hides a built-in one of the same id."""
    source: list[SourceConfig] = msgspec.field(default_factory=list)


# --------------------------------------------------------------------------------------------- loading

KnownProfiles = Callable[[Sequence[str]], Collection[str]]
"""Further profile folders -> ids of all profiles that can be named (firmware_profiles.loader knows them)."""

SCHEMA: Final = inspect.type_info(Config)


def load(path: Path | str, known_profiles: KnownProfiles | None = None) -> Config:
    """Read and check a configuration. Relative paths are taken from the file's folder and come back absolute.

    Raises ConfigError with every problem: file, line, key, what was expected.
    """
    path = Path(path)
    values, check = toml_check.read(path, SCHEMA, "; make one with: fieldgate init")
    config = _with_whole_paths(msgspec.convert(values, Config), path.absolute().parent)
    _check_meaning(config, known_profiles, check.note)
    if check.problems:
        raise ConfigError(sorted(check.problems, key=lambda problem: problem.line))
    return config


# --------------------------------------------------------------------------------------------- meaning


def _is_path(key: str, value: object) -> bool:
    if not isinstance(value, str) or not value:
        return False
    return toml_check.is_path(key) or (key == "profile" and _names_file(value))


def _names_file(profile: str) -> bool:
    return "/" in profile or profile.endswith(".toml")


def _with_whole_paths(config: Config, base: Path) -> Config:
    """Paths made absolute, and the defaults that depend on other keys filled in."""

    def whole(value: str) -> str:
        return os.path.normpath(base / value)

    def resolve(section: Any) -> Any:
        changes = {key: whole(value) for key, value in msgspec.structs.asdict(section).items() if _is_path(key, value)}
        return msgspec.structs.replace(section, **changes)

    storage, keys, uplink = resolve(config.storage), resolve(config.keys), resolve(config.uplink)
    sources = [resolve(source) for source in config.source]
    return msgspec.structs.replace(
        config,
        storage=msgspec.structs.replace(storage, spool_dir=storage.spool_dir or str(Path(storage.state_dir) / "spool")),
        keys=keys,
        time=resolve(config.time),
        uplink=msgspec.structs.replace(uplink, receipt_ca_file=uplink.receipt_ca_file or keys.ca_file),
        api=resolve(config.api),
        profile_dirs=[whole(folder) for folder in config.profile_dirs],
        rules=resolve(config.rules),
        live=resolve(config.live),
        source=[_with_identity(_with_whole_devices(item, whole)) for item in sources],
    )


def _with_whole_devices(source: SourceConfig, whole: Callable[[str], str]) -> SourceConfig:
    """The devices of a Modbus bus, with their profiles' paths and their identities."""
    if not isinstance(source, ModbusSerialConfig | ModbusTcpConfig):
        return source
    devices = [
        msgspec.structs.replace(
            one,
            profile=whole(one.profile) if _names_file(one.profile) else one.profile,
            device=one.device or f"{source.name}-{one.unit}",
        )
        for one in source.devices
    ]
    return msgspec.structs.replace(source, devices=devices)


def _with_identity(source: SourceConfig) -> SourceConfig:
    """What stands for the device in records where the file names none: the name of the source."""
    if isinstance(source, StationFolderConfig | StationHttpConfig):
        return msgspec.structs.replace(source, station=source.station or source.name)
    if isinstance(source, NmeaSerialConfig | NmeaTcpConfig):
        return msgspec.structs.replace(source, device=source.device or source.name)
    return source


Note = Callable[[toml_lines.Path, str], None]
OWN_NAMES: Final = frozenset({"gateway", "rules", "orders", "retention"})
"""Under which the gateway keeps records and memory of its own."""


def _check_meaning(config: Config, known_profiles: KnownProfiles | None, note: Note) -> None:
    """What no type can say: keys that must agree with one another or with the outside."""
    seal, retention, uplink, api = config.seal, config.retention, config.uplink, config.api
    if problem := gateway_id_problem(config.gateway.id):
        note(("gateway", "id"), problem)
    if seal.idle_age_s < seal.max_age_s:
        note(("seal", "idle_age_s"), f"must not be below max_age_s, {seal.max_age_s}")
    if retention.artifact_days_when_full > retention.artifact_days:
        note(("retention", "artifact_days_when_full"), f"must not be above artifact_days, {retention.artifact_days}")
    if uplink.retry_max_s < uplink.retry_min_s:
        note(("uplink", "retry_max_s"), f"must not be below retry_min_s, {uplink.retry_min_s}")
    if config.storage.reserve_bytes * 2 > config.storage.spool_quota_bytes:
        note(("storage", "reserve_bytes"), "must not be above half of spool_quota_bytes")
    for path, url in ((("time", "tsa_url"), config.time.tsa_url), (("uplink", "url"), uplink.url)):
        if url:
            _check_url(path, url, note)
    if uplink.url and config.keys.certificate_file and not uplink.receipt_ca_file:
        note(("uplink", "receipt_ca_file"), "missing: without it or keys.ca_file no receipt can be verified")
    _check_listener(api, note)
    _check_live(config.live, note)
    _check_sources(config, known_profiles, note)


def gateway_id_problem(gateway_id: str) -> str | None:
    """Why a text is no gateway id, or None."""
    try:
        msgspec.convert(gateway_id, GatewayId)
    except msgspec.ValidationError:
        return f"{toml_check.shown(gateway_id)} is no gateway id: {GATEWAY_ID_RULE}"
    return f"{toml_check.shown(gateway_id)} is no gateway id: '..' is not allowed" if ".." in gateway_id else None


def _check_url(path: toml_lines.Path, url: str, note: Note) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or " " in url:
        note(path, f"expected an address such as https://platform.example/, found {toml_check.shown(url)}")
    elif parts.username or parts.password:
        note(path, "must not hold a user name or password; put the token into token_file")
    elif parts.query or parts.fragment:
        note(path, "must not hold a query or fragment")


def listen_address(listen: str) -> tuple[str, int]:
    """(address, port) of `api.listen`: ``0.0.0.0:8443`` or ``[::]:8443``. Raises ValueError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise ValueError("expected address:port, such as 0.0.0.0:8443 or [::]:8443")
    address = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if ipaddress.ip_address(address).version == 6 and address == host:
            raise ValueError
    except ValueError:
        raise ValueError("expected an IP address before the port, IPv6 in brackets") from None
    return address, int(port)


def _check_listener(api: ApiConfig, note: Note) -> None:
    if not api.listen:
        return
    try:
        listen_address(api.listen)
    except ValueError as error:
        note(("api", "listen"), f"{error}, found {toml_check.shown(api.listen)}")
    for key in ("certificate_file", "key_file"):
        if not getattr(api, key):
            note(("api", key), "missing: a listener on the network speaks TLS only")
    if (api.viewer_token_file or api.operator_token_file) and not api.token_file:
        note(("api", "token_file"), "missing: beside tokens for viewers and operators the platform needs its own")
    if not api.client_ca_file and not api.token_file:
        note(("api", "client_ca_file"), "missing: set it, or token_file, so that not everybody can read evidence")


def _check_live(live: LiveConfig, note: Note) -> None:
    if not live.url:
        return
    if problem := _broker_problem(live.url):
        note(("live", "url"), problem)
        return
    if live.password_file and not live.username:
        note(("live", "username"), "missing: a password goes with a user name")
    if bool(live.certificate_file) != bool(live.key_file):
        note(("live", "key_file"), "certificate_file and key_file go together")
    if live.url.startswith("mqtt:") and (live.ca_file or live.certificate_file):
        note(("live", "url"), "mqtt:// is not encrypted and uses no certificates; use mqtts://")
    if not re.fullmatch(r"[^+#/$\x00-\x1f][^+#\x00-\x1f]{0,199}", live.topic_prefix) or live.topic_prefix.endswith("/"):
        text = f"{toml_check.shown(live.topic_prefix)}: 1 to 200 signs without + and #, no / at an end, no $ first"
        note(("live", "topic_prefix"), text)


def _broker_problem(url: str) -> str:
    """Why this is no address of an MQTT broker; "" where it is one."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"mqtt", "mqtts"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or parts.path.strip("/") or parts.query or parts.fragment or " " in url:
        return f"expected mqtts://broker.example:8883, found {toml_check.shown(url)}"
    if parts.username or parts.password:
        return "must not hold a user name or password; use username and password_file"
    return ""


def _check_sources(config: Config, known_profiles: KnownProfiles | None, note: Note) -> None:
    known = None if known_profiles is None else known_profiles(config.profile_dirs)
    names: dict[str, int] = {}
    folders: dict[str, str] = {}
    for index, source in enumerate(config.source):
        if isinstance(source, StationFolderConfig) and source.path:
            if source.path in folders:
                text = f"the source {folders[source.path]!r} reads it already: every file would be recorded twice"
                note(("source", index, "path"), text)
            elif own := next((own for own in _own_folders(config) if _overlap(source.path, own)), None):
                text = f"holds, or lies in, {own}: the gateway would take its own files as evidence, for ever"
                note(("source", index, "path"), text)
            folders.setdefault(source.path, source.name)
        if source.name in OWN_NAMES:
            note(("source", index, "name"), f"{source.name!r} names the gateway itself, or its memory; choose another")
        elif source.name != "placeholder" and source.name in names:
            note(("source", index, "name"), f"{source.name!r} is already the name of source[{names[source.name]}]")
        names.setdefault(source.name, index)
        if isinstance(source, StationHttpConfig):
            _check_url(("source", index, "url"), source.url, note)
        _check_links(index, source, note)
        if isinstance(source, ModbusSerialConfig | ModbusTcpConfig):
            _check_bus(index, source, known, note)
        elif known is not None and not isinstance(source, Jt808Config | Hj212Config | Hj212SerialConfig):
            _check_profile(("source", index, "profile"), source.profile, known, note)


def _check_links(index: int, source: SourceConfig, note: Note) -> None:
    """Addresses of sources that listen or connect."""
    if isinstance(source, NmeaTcpConfig | ModbusTcpConfig):
        host, colon, port = source.address.rpartition(":")
        if not (host and colon and port.isascii() and port.isdecimal() and 0 < int(port) <= 65_535):
            usual = 4001 if isinstance(source, NmeaTcpConfig) else 502
            text = f"expected host:port, such as 192.0.2.7:{usual}, found {toml_check.shown(source.address)}"
            note(("source", index, "address"), text)
    if isinstance(source, Jt808Config | NmeaListenConfig):
        if not source.listen and not source.listen_udp:
            note(("source", index, "listen"), "missing: set it or listen_udp")
        for key, value in (("listen", source.listen), ("listen_udp", source.listen_udp)):
            _check_listen(index, key, value or "0.0.0.0:0", note)
    if isinstance(source, Hj212Config | JsonHttpConfig):
        _check_listen(index, "listen", source.listen, note)
    if isinstance(source, JsonHttpConfig | JsonMqttConfig):
        _check_feed(index, source, note)
    if isinstance(source, NmeaListenConfig):
        for peer in source.peers:
            try:
                ipaddress.ip_address(peer)
            except ValueError:
                note(("source", index, "peers"), f"{toml_check.shown(peer)} is no IP address")


def _check_listen(index: int, key: str, value: str, note: Note) -> None:
    try:
        listen_address(value)
    except ValueError as error:
        note(("source", index, key), f"{error}, found {toml_check.shown(value)}")


def _check_feed(index: int, source: JsonMqttConfig | JsonHttpConfig, note: Note) -> None:
    """What a JSON feed needs beside its profile."""
    if bool(source.certificate_file) != bool(source.key_file):
        note(("source", index, "key_file"), "certificate_file and key_file go together")
    if isinstance(source, JsonHttpConfig):
        if not source.token_file:
            note(("source", index, "token_file"), "missing: without it everybody could post readings")
        return
    if problem := _broker_problem(source.url):
        note(("source", index, "url"), problem)
    elif source.url.startswith("mqtt:") and (source.ca_file or source.certificate_file):
        note(("source", index, "url"), "mqtt:// is not encrypted and uses no certificates; use mqtts://")
    if source.password_file and not source.username:
        note(("source", index, "username"), "missing: a password goes with a user name")
    if not source.topics:
        note(("source", index, "topics"), 'missing: name what to subscribe to, such as ["bins/+/report"]')
    for number, topic in enumerate(source.topics):
        if not re.fullmatch(r"(?:(?:[^+#\x00]*|\+)/)*(?:[^+#/\x00]*|\+|#)", topic) or not 0 < len(topic) <= 1000:
            text = f"{toml_check.shown(topic)} is no topic filter; + stands for one whole level, # for the rest"
            note(("source", index, "topics", number), text)


def _check_bus(
    index: int, source: ModbusSerialConfig | ModbusTcpConfig, known: Collection[str] | None, note: Note
) -> None:
    """Devices of a Modbus bus: some, and none twice."""
    if not source.devices:
        note(("source", index, "devices"), "missing: a bus without devices has nothing to ask")
    units: dict[int, int] = {}
    names: dict[str, int] = {}
    for number, one in enumerate(source.devices):
        here = ("source", index, "devices", number)
        if one.unit in units:
            note((*here, "unit"), f"{one.unit} is already the unit of devices[{units[one.unit]}]")
        elif one.device in names:
            note((*here, "device"), f"{one.device!r} is already the identity of devices[{names[one.device]}]")
        units.setdefault(one.unit, number)
        names.setdefault(one.device, number)
        if known is not None:
            _check_profile((*here, "profile"), one.profile, known, note)


def _check_profile(path: toml_lines.Path, profile: str, known: Collection[str], note: Note) -> None:
    if _names_file(profile):
        if not Path(profile).is_file():
            note(path, f"no such file: {profile}")
    elif profile not in known:
        near = get_close_matches(profile, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
        note(path, f"no profile {profile!r}; {hint}")


def _own_folders(config: Config) -> tuple[str, ...]:
    return (config.storage.state_dir, config.storage.spool_dir)


def _overlap(one: str, other: str) -> bool:
    """Whether one folder is the other, or lies in it. Both are absolute and normal."""
    first, second = (os.path.join(path, "") for path in (one, other))  # noqa: PTH118  text, and "/" stays "/"
    return first.startswith(second) or second.startswith(first)


# -------------------------------------------------------------------------------------------- warnings


def file_warnings(config: Config) -> list[Problem]:
    """What is not wrong in the configuration but in the files that it names: missing ones, secrets that others
    can read, an unencrypted way to the platform."""
    found: list[Problem] = []
    sections = (config.keys, config.time, config.uplink, config.api, config.live, *config.source)
    named = {
        (key, value)
        for section in sections
        for key, value in msgspec.structs.asdict(section).items()
        if _is_path(key, value) and key != "profile"
    }
    certificate_file = config.keys.certificate_file
    enrolled = not certificate_file or Path(certificate_file).exists()
    for key, name in sorted(named, key=lambda pair: pair[1]):
        secret = key in {"key_file", "keys_file"} or key.endswith(("token_file", "password_file"))
        if not enrolled and name in _from_enrolment(config) and not Path(name).exists():
            if name == certificate_file:
                text = "not enrolled yet: records are stored, nothing is sealed; run: fieldgate enrol"
                found.append(Problem(name, 0, key, text))
            continue
        try:
            status = Path(name).stat()
        except OSError as error:
            found.append(Problem(name, 0, key, f"{error.strerror}" + _remedy(key)))
            continue
        if secret and status.st_mode & 0o077:
            mode = stat.filemode(status.st_mode)
            found.append(Problem(name, 0, key, f"readable by others ({mode}); run: chmod 600 {name}"))
    if config.uplink.url.startswith("http:") and not _loopback(urlsplit(config.uplink.url).hostname or ""):
        text = f"{config.uplink.url} is not encrypted: everybody on the way can read the evidence; use https"
        found.append(Problem("uplink", 0, "url", text))
    if config.live.url.startswith("mqtt:") and not _loopback(urlsplit(config.live.url).hostname or ""):
        text = f"{config.live.url} is not encrypted: everybody on the way can read the live channel; use mqtts"
        found.append(Problem("live", 0, "url", text))
    for source in config.source:
        address = source.url if isinstance(source, JsonMqttConfig) else ""
        if address.startswith("mqtt:") and not _loopback(urlsplit(address).hostname or ""):
            text = f"{address} is not encrypted: everybody on the way can read and change the readings; use mqtts"
            found.append(Problem(f"source {source.name}", 0, "url", text))
        if isinstance(source, JsonHttpConfig) and not source.certificate_file:
            host = listen_address(source.listen)[0]
            if not _loopback(host):
                text = "plain HTTP: everybody on the way can read the token and the readings; set certificate_file"
                found.append(Problem(f"source {source.name}", 0, "listen", text))
    return found


def _from_enrolment(config: Config) -> set[str]:
    """Files that the platform's answer brings (gateway.enrolment)."""
    keys, uplink = config.keys, config.uplink
    return {
        keys.certificate_file,
        keys.ca_file,
        keys.crl_file,
        config.time.tsa_ca_file,
        uplink.ca_file,
        uplink.token_file,
    }


def _remedy(key: str) -> str:
    if key == "path":
        return "; the source stays down until the folder is mounted"
    return "; make it with: fieldgate init" if key == "key_file" else ""


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
