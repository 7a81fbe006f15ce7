"""What `fieldgate init` makes: state folder, key, certificate signing request, commented configuration.

Nothing that exists is ever overwritten; an init that was interrupted is completed by the next one. The configuration
comes last, so that where it stands everything it names was made. Every file appears whole, under its name, after
fsync, or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway import config as configuration
from gateway import keys
from gateway.core.errors import ConfigError, Problem

KEY_NAME: Final = "fieldgate.gateway.key"
"""Also the name of the systemd credential that takes its place."""
CSR_NAME: Final = "gateway.csr"
PRIVATE_FOLDER: Final = 0o700
PUBLIC_FOLDER: Final = 0o755
PRIVATE_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that init looked after."""

    path: Path
    what: str
    made: bool
    """False: it was there, and was left as it is."""
    note: str = ""


def init(config_file: Path, gateway_id: str, state_dir: Path | None = None) -> list[Step]:
    """Make what is missing and say what was made. Raises ConfigError, with nothing overwritten.

    `state_dir` is ``state`` beside the configuration unless given. Where the configuration exists already, its own
    state folder, key file and gateway id count.
    """
    config_file = config_file.absolute()
    if problem := configuration.gateway_id_problem(gateway_id):
        raise ConfigError([Problem(str(config_file), 0, "gateway.id", problem)])
    folder = (state_dir or config_file.parent / "state").absolute()
    key_file = folder / "keys" / KEY_NAME
    if config_file.exists():
        config = configuration.load(config_file)
        if config.gateway.id != gateway_id:
            text = f"belongs to the gateway {config.gateway.id!r}, not {gateway_id!r}; choose another folder"
            raise ConfigError([Problem(str(config_file), 0, "gateway.id", text)])
        folder, key_file = Path(config.storage.state_dir), Path(config.keys.key_file)
    steps = [
        _folder(config_file.parent, "folder of the configuration", PUBLIC_FOLDER),
        _folder(folder, "state folder", PRIVATE_FOLDER),
        _folder(key_file.parent, "folder of the keys", PRIVATE_FOLDER),
        _file(key_file, "key of the gateway; it never leaves this box", keys.new_key, PRIVATE_FILE),
    ]
    key = keys.read_key(key_file)
    request = key_file.parent / CSR_NAME
    steps += [
        _file(request, "certificate signing request", lambda: keys.make_csr(key, gateway_id), PUBLIC_FILE),
        _file(config_file, "configuration", lambda: template(gateway_id, folder, key_file).encode(), PUBLIC_FILE),
    ]
    return steps


def _folder(path: Path, what: str, mode: int) -> Step:
    try:
        if path.is_dir():
            open_to_others = mode == PRIVATE_FOLDER and path.stat().st_mode & 0o007
            note = f"others can look into it; run: chmod 700 {path}" if open_to_others else ""
            return Step(path, what, made=False, note=note)
        path.parent.mkdir(mode=PUBLIC_FOLDER, parents=True, exist_ok=True)
        path.mkdir(mode=mode)
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, "", f"cannot be made: {error.strerror}")]) from None
    return Step(path, what, made=True)


def _file(path: Path, what: str, content: Callable[[], bytes], mode: int) -> Step:
    """Write a file unless it is there: under another name first, then linked, which fails where one exists."""
    if path.exists() or path.is_symlink():
        return Step(path, what, made=False)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        for stale in path.parent.glob(f".{path.name}.*.part"):
            stale.unlink()  # of an init that was killed; a key in it was never used
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content())
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)
        finally:
            part.unlink()
        _sync_folder(path.parent)
    except FileExistsError:
        return Step(path, what, made=False)
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, "", f"cannot be made: {error.strerror}")]) from None
    return Step(path, what, made=True)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -------------------------------------------------------------------------------------------- template


def template(gateway_id: str, state_dir: Path, key_file: Path) -> str:
    """A commented configuration that `config.load` takes as it is. Every line ``# key = value`` shows a default, or
    an example where there is none."""
    return _TEMPLATE.format(
        gateway_id=_quoted(gateway_id),
        state_dir=_quoted(str(state_dir)),
        key_file=_quoted(str(key_file)),
        certificate_file=_quoted(str(key_file.parent / "gateway.pem")),
        ca_file=_quoted(str(key_file.parent / "ca.pem")),
        crl_file=_quoted(str(key_file.parent / "crl.pem")),
        tsa_ca_file=_quoted(str(key_file.parent / "tsa-ca.pem")),
        token_file=_quoted(str(key_file.parent / "platform.token")),
    )


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_TEMPLATE: Final = """\
# Fieldgate, configuration of one gateway. CONFIG.md describes every key; check changes with:
#     fieldgate check FILE
# Relative paths are taken from the folder of this file. Lines of the form "# key = value" show the defaults.

[gateway]
# Identity of this box in its log, on its certificate and at the platform. Never change it.
id = {gateway_id}
# For people.
# name = ""

[storage]
# Journal, seals and receipts.
state_dir = {state_dir}
# Recordings; may be on a larger disk. Default: spool inside state_dir.
# spool_dir = ""
# spool_quota_bytes = 20000000000
# high_water_percent = 90
# reserve_bytes = 268435456
# commit_window_ms = 20

[keys]
key_file = {key_file}
# The platform answers the certificate signing request with these; `fieldgate enrol` writes them.
# Until there is a certificate, records are stored but nothing is sealed.
certificate_file = {certificate_file}
ca_file = {ca_file}
crl_file = {crl_file}

[time]
# RFC 3161 time-stamping authority; without one the seals stay unstamped.
# tsa_url = "https://tsa.example/tsr"
# Written by `fieldgate enrol` where the platform has an authority of its own.
tsa_ca_file = {tsa_ca_file}
# tsa_retry_max_s = 3600
# state_interval_s = 600

[seal]
# A batch is sealed after so many records or bytes, or when its oldest evidence is max_age_s old.
# max_records = 5000
# max_bytes = 8388608
# max_age_s = 60
# idle_age_s = 3600

[retention]
# Only what the platform has receipted ever expires.
# artifact_days = 30
# artifact_days_when_full = 1
# record_days = 365
# scrub_bytes_per_s = 4194304
# scrub_interval_h = 24

[uplink]
# The central platform; without a url it has to pull.
# url = "https://platform.example:8443"
# CA of the platform's server certificate: its own, written by `fieldgate enrol`. "" means the system's authorities.
ca_file = {ca_file}
# Written by `fieldgate enrol`.
token_file = {token_file}
# client_certificate = true
# receipt_ca_file = ""
# artifacts = "push"
# bandwidth_bytes_per_s = 0
# timeout_s = 30
# retry_min_s = 1
# retry_max_s = 300
# stamp_grace_s = 10

[api]
# The gateway's own interface. Without listen: only the Unix socket run/api.sock in state_dir.
# listen = "0.0.0.0:8443"
# certificate_file = "api.pem"
# key_file = "api.key"
# client_ca_file = "clients-ca.pem"
# token_file = ""
# viewer_token_file = ""
# operator_token_file = ""

[rules]
# A folder with rule sets, permits and places (gateway/rules/RULES.md). Without it nothing is judged.
# path = "rules"
# reload_s = 5.0

[live]
# Positions, states and findings over MQTT 5, for maps; never the evidence path. Without url: off.
# url = "mqtts://broker.example:8883"
# ca_file = "broker-ca.pem"
# certificate_file = ""
# key_file = ""
# username = ""
# password_file = ""
# topic_prefix = "fieldgate/v1"
# queue_max = 1000
# include_process = false

# One [[source]] per station, receiver or port of trackers: CONFIG.md has every type.
#
# [[source]]
# type = "station-folder"
# name = "station-1"
# path = "/mnt/station-1"
# profile = "generic"
# station = ""
# poll_s = 10.0
# stable_s = 5.0
# depth_max = 16
# entries_max = 200000
# file_max_bytes = 1000000000000
#
# [[source]]
# type = "station-http"
# name = "station-2"
# url = "http://192.0.2.10/recordings"
# profile = "generic-http"
# station = ""
# ca_file = ""
# token_file = ""
# poll_s = 30.0
# stable_s = 5.0
# timeout_s = 30.0
# pages_max = 1000
# file_max_bytes = 1000000000000
#
# JT/T 808 terminals: trucks, works vehicles, intercom recorders (gateway/DEVICES.md).
#
# [[source]]
# type = "jt808"
# name = "trucks"
# listen = "0.0.0.0:6808"
# listen_udp = "0.0.0.0:6808"
# devices_file = "devices.toml"
# connections_max = 10000
# connections_per_address_max = 2000
# silent_s = 60.0
# idle_s = 900.0
# frames_per_s_max = 100
#
# NMEA 0183 receivers: on a serial port, behind an address, or calling in.
#
# [[source]]
# type = "nmea-serial"
# name = "gps-1"
# port = "/dev/serial/by-id/usb-u-blox_AG_u-blox_7-if00"
# baud = 9600
# device = ""
# device_class = "receiver"
# profile = "nmea"
# interval_s = 1.0
# silent_s = 30.0
# time_source = false
#
# [[source]]
# type = "nmea-tcp"
# name = "gps-2"
# address = "192.0.2.11:4001"
#
# [[source]]
# type = "nmea-listen"
# name = "gps-3"
# listen = "0.0.0.0:10110"
# listen_udp = "0.0.0.0:10110"
# peers = {{ "192.0.2.12" = "van-7" }}
# connections_max = 256
#
# Fume monitors that speak HJ 212, over TCP or a serial line.
#
# [[source]]
# type = "hj212"
# name = "fume"
# listen = "0.0.0.0:8212"
# devices_file = "monitors.toml"
# keys_file = ""
# crc = "hj212"
# unlisted_per_s_max = 5
#
# Modbus sensors on an RS-485 line, or behind an address.
#
# [[source]]
# type = "modbus-serial"
# name = "kitchen-7"
# port = "/dev/serial/by-id/usb-FTDI_FT232R-if00-port0"
# baud = 9600
# parity = "N"
# stop_bits = 1
# [[source.devices]]
# unit = 1
# profile = "fume-concentrator"
# device = ""
# class = "fume-monitor"
# site = "kitchen-7"
# meters = ""
# interval_s = 10.0
# weight = 1
#
# [[source]]
# type = "modbus-tcp"
# name = "kitchen-8"
# address = "192.0.2.13:502"
# framing = "tcp"
# devices = [{{ unit = 1, profile = "pzem-004t", device = "fan-8" }}]
#
# Devices and clouds that send JSON, over MQTT or to an address of ours.
#
# [[source]]
# type = "json-mqtt"
# name = "bins"
# url = "mqtts://broker.example:8883"
# profile = "smart-bin"
# topics = ["bins/+/events"]
# device_level = 2
# protocol = "5"
# inflight_max = 64
#
# [[source]]
# type = "json-http"
# name = "cloud"
# listen = "0.0.0.0:8480"
# profile = "fume-cloud"
# token_file = "cloud.token"
# class = "fume-monitor"
# certificate_file = ""
# key_file = ""
# body_max_bytes = 65536
"""
