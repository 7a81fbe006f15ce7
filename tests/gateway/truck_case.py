"""A box with one truck, a rule book, a photo, and a finding in two revisions: what exports and pages are tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.core import kinds
from gateway.core.finding import Judgement
from gateway.core.record import DeviceTime, Draft
from gateway.rules.book import book_sha256, records_of
from tests.api.box import START_UTC_NS, Box

START_S = START_UTC_NS // 10**9
DEVICE = "13800000017"
FILES = {
    "permits.toml": """format = "permits/v1"
title = "2026"

[[permit]]
number = "平渣准2026-0116"
firm = "另一公司"
vehicles = ["浙F00001"]
valid_from = 2026-01-01
valid_to = 2026-12-31

[[permit]]
number = "平渣准2026-0117"
firm = "平湖市宏达渣土运输有限公司"
vehicles = ["浙F12345"]
route = "route-5"
hours = [
  ["20:00", "04:00"],
]
valid_from = 2026-01-01
valid_to = 2026-12-31

""".encode(),
    "rules.toml": """format = "rules/v1"
id = "pinghu-2026"
title = "<b>规则</b>"
valid_from = 2026-01-01
classes = ["muck-truck"]

[off_route]
source = "《城市建筑垃圾管理规定》第十四条"

[stop]
""".encode(),
    "routes.geojson": """{"type": "FeatureCollection", "datum": "WGS-84", "features": [
  {"type": "Feature", "properties": {"id": "route-5", "kind": "route", "name": "当湖—新仓", "width_m": 50},
   "geometry": {"type": "LineString", "coordinates": [[121.0165, 30.6912], [121.0315, 30.6995], [121.048, 30.708]]}}]}
""".encode(),
}
ROUTE = {
    "type": "LineString",
    "coordinates": [[1210165000, 306912000], [1210315000, 306995000], [1210480000, 307080000]],
    "id": "route-5",
    "name": "当湖—新仓",
    "width_m": 50,
}


def position(number: int, **more: Any) -> dict[str, Any]:
    """A fix; `number` seconds after the start, going north-east."""
    return {
        "class": "muck-truck",
        "plate": "浙F12345",
        "datum": "WGS-84",
        "time_utc_s": START_S + number,
        "lat_e7": 306995000 + number * 1500,
        "lon_e7": 1210315000 + number * 700,
        "speed_kmh_e1": 400 + number,
        "sigma_m": 5,
        "load": "full",
        "cover": "closed" if number < 12 else "open",
        **more,
    }


def judgement(end: bool, inputs: tuple[int, ...], **more: Any) -> Judgement:
    """Off the route from second 10 on."""
    fields: dict[str, Any] = {
        "rule": "off-route",
        "severity": "violation",
        "source": "trucks",
        "device": DEVICE,
        "plate": "浙F12345",
        "firm": "平湖市宏达渣土运输有限公司",
        "start_utc_s": START_S + 10,
        "end_utc_s": START_S + 20 if end else None,
        "inputs": inputs,
        "book_sha256": book_sha256(FILES),
        "book_seq": 0,
        "rule_set": "pinghu-2026",
        "legal_source": "《城市建筑垃圾管理规定》第十四条",
        "permit": "平渣准2026-0117",
        "limits": {"width_m": 50, "persist_s": 60, "speed_kmh": 40},
        "measured": {"distance_m": 655, "duration_s": 10, "trip_known_time_permille": 731, "sure": True},
        "peak": {"time_utc_s": START_S + 15, "seq": inputs[0], "lat_e7": 307017500, "lon_e7": 1210325500},
        "geometry": ROUTE,
        "text": {"en": "off the route by <655> m", "zh": "偏离路线655米"},
    }
    return Judgement(**{**fields, **more})


def finding(made: Judgement, revision: int, privacy: str = "open", state: str = "") -> Draft:
    """A record of it."""
    values = {
        "id": made.id,
        "rule": made.rule,
        "state": state or ("open" if made.end_utc_s is None else "closed"),
        "revision": revision,
        "class": "muck-truck",
        "privacy": privacy,
        "judgement": made.to_json(),
    }
    return Draft(kinds.FINDING, made.source, made.device, values)


def truck_case(folder: Path, privacy: str = "open", seal: bool = True) -> Box:
    """seq 0 the book, 1 the clock, 2 to 31 positions, 32 a photo, 33 and 34 the finding, 35 another truck's fix."""
    box = Box(folder)
    photo = box.put(b"\xff\xd8\xff\xe0 a photo", "p.jpg", "image/jpeg")
    at = DeviceTime("261124140000", "+08:00", "frame")
    (book,) = records_of(FILES)
    box.records(
        book,
        Draft(kinds.CLOCK_STATE, "gateway", "", {"synchronised": True, "source": "ntp"}),
        *(
            Draft(kinds.POSITION, "trucks", DEVICE, position(number), raw=b"\x7e\x02\x00\x7e", device_time=at)
            for number in range(30)
        ),
        Draft(kinds.DEVICE_MEDIA, "trucks", DEVICE, {"media_id": 7, "fix": position(16)}, artifacts=(photo,)),
        finding(judgement(False, (12, 13)), 1, privacy),
        finding(judgement(True, tuple(range(12, 23))), 2, privacy),
        Draft(kinds.POSITION, "trucks", "13800000018", position(3)),
    )
    if seal:
        box.seal()
    return box


def configuration(box: Box, folder: Path) -> Path:
    """A configuration with which tools open the box."""
    key, certificate = folder / "gateway.key", folder / "gateway.pem"
    key.touch(0o600)
    key.write_bytes(box.signer._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(box.signer.certificate_pem)
    config = folder / "fieldgate.toml"
    config.write_text(
        f'[gateway]\nid = "{box.gateway}"\n[storage]\nstate_dir = "{box.state_dir}"\n'
        f'spool_dir = "{box.folder}/spool"\n'
        f'[keys]\nkey_file = "{key}"\ncertificate_file = "{certificate}"\nca_file = "{box.ca_file}"\n'
    )
    return config
