"""Sidecar files (XML, JSON) as flat text values, and what a profile's rule reads from them.

XML goes through expat with every document type declaration refused, so no entity is ever defined or fetched.
Chinese tools declare GB2312 or GBK, which expat cannot read: such files are decoded here first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from xml.parsers import expat

from drivers.bodycam.codec import Malformed, NameCodec
from drivers.times import ReadTime, read_time
from firmware_profiles.model import Sidecar

SIDECAR_MAX_BYTES: Final = 1_048_576
DEPTH_MAX: Final = 32
ELEMENTS_MAX: Final = 20_000
_OFFSET_MAX_MS: Final = 100 * 366 * 86_400_000
_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")


@dataclass(frozen=True, slots=True)
class SidecarContent:
    """What a sidecar says about its recording."""

    fields: dict[str, str] = field(default_factory=dict)
    time: ReadTime | None = None
    key_file: bool | None = None
    clock_offset_ms: int | None = None
    """Device clock minus station clock at docking."""
    offset_from: str = ""
    """`sidecar-offset` or `sidecar-sync`."""


class _Refused(Exception):
    """Stops expat; becomes Malformed in run_expat, never leaves this module."""


def read_sidecar(raw: bytes, rule: Sidecar, codec: NameCodec) -> SidecarContent | Malformed:
    """Read a sidecar by its rule; never raises."""
    if len(raw) > SIDECAR_MAX_BYTES:
        return Malformed(f"larger than {SIDECAR_MAX_BYTES} bytes")
    values = _xml_values(raw) if rule.format == "xml" else _json_root(raw)
    if isinstance(values, Malformed):
        return values

    def text(path: str) -> str:
        if not path:
            return ""
        found = values.get(path.strip("/"), "") if isinstance(values, dict) else point(values.root, path)
        return as_text(found)

    def time(path: str) -> ReadTime | None:
        return read_time(text(path), rule.time_format, rule.zone)

    offset_ms, offset_from = _scaled(text(rule.clock_offset), rule.clock_offset_unit), "sidecar-offset"
    device, station = time(rule.sync_device_time), time(rule.sync_station_time)
    if offset_ms is None and device is not None and station is not None:
        difference_ns = _difference_ns(device, station)
        offset_ms = None if difference_ns is None else difference_ns // 1_000_000
        offset_from = "sidecar-sync"
    mark = text(rule.key_file)
    return SidecarContent(
        codec.clean_fields((name, text(path)) for name, path in rule.fields.items()),
        time(rule.time),
        mark in rule.key_file_true if mark else None,
        offset_ms,
        offset_from if offset_ms is not None else "",
    )


def _difference_ns(device: ReadTime, station: ReadTime) -> int | None:
    """Both clocks in one zone may be unknown; two different unknowns may not be compared."""
    if device.zone == station.zone:
        return device.local_ns() - station.local_ns()
    device_ns, station_ns = device.utc_ns(), station.utc_ns()
    return None if device_ns is None or station_ns is None else device_ns - station_ns


def _scaled(text: str, unit: str) -> int | None:
    try:
        value = Decimal(text) * (1000 if unit == "s" else 1)
        return int(value.to_integral_value()) if abs(value) <= _OFFSET_MAX_MS else None
    except (InvalidOperation, ValueError):
        return None


# -------------------------------------------------------------------------------------------- XML


def _xml_values(raw: bytes) -> dict[str, str] | Malformed:
    """`Root/Child` → text and `Root/Child/@name` → attribute, of the first element of each path; local names."""
    decoded = xml_bytes(raw)
    if isinstance(decoded, Malformed):
        return decoded
    values: dict[str, str] = {}
    stack: list[str] = []
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > ELEMENTS_MAX or len(stack) >= DEPTH_MAX:
            raise _Refused("too many or too deeply nested elements")
        stack.append(name.rpartition(":")[2])
        for key, value in attributes.items():
            values.setdefault("/".join(stack) + "/@" + key.rpartition(":")[2], value)
        path = "/".join(stack)
        open_text.append(None if path in values else [])
        values.setdefault(path, "")

    def end(_name: str) -> None:
        parts = open_text.pop()
        if parts is not None:
            values["/".join(stack)] = "".join(parts).strip()
        stack.pop()

    def text(part: str) -> None:
        parts = open_text[-1] if open_text else None
        if parts is not None:
            parts.append(part)

    open_text: list[list[str] | None] = []
    failure = run_expat(decoded, start, end, text)
    return values if failure is None else failure


def xml_bytes(raw: bytes) -> bytes | Malformed:
    """UTF-8 bytes of an XML file in UTF-8, UTF-16 with a mark, or GB2312/GBK/GB18030."""
    if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        encoding = "utf-16"
    else:
        declared = _DECLARED.match(raw.removeprefix(b"\xef\xbb\xbf"))
        encoding = declared[1].decode().lower() if declared else "utf-8"
        if encoding in {"gb2312", "gbk", "gb18030", "gb_2312-80", "x-gbk"}:
            encoding = "gb18030"
        elif encoding not in {"utf-8", "utf8", "us-ascii"}:
            return Malformed(f"XML in {encoding}; known: UTF-8, UTF-16, GB2312, GBK, GB18030")
        else:
            encoding = "utf-8-sig"
    try:
        return raw.decode(encoding).encode()
    except UnicodeError:
        return Malformed(f"XML is not {encoding.removesuffix('-sig')}")


def run_expat(text: bytes, start: Any, end: Any, characters: Any) -> Malformed | None:
    """Parse UTF-8 XML; the handlers may raise `refuse(...)`. No document type, so no entities."""
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def doctype(*_: object) -> None:
        raise _Refused("a document type declaration is not allowed")

    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        return Malformed(f"not XML: {expat.ErrorString(error.code)} in line {error.lineno}")
    except _Refused as error:
        return Malformed(str(error))
    return None


def refuse(reason: str) -> Exception:
    """What a handler of `run_expat` raises to stop."""
    return _Refused(reason)


# ------------------------------------------------------------------------------------------- JSON


@dataclass(frozen=True, slots=True)
class _Json:
    root: Any


def _json_root(raw: bytes) -> _Json | Malformed:
    value = read_json(raw)
    return value if isinstance(value, Malformed) else _Json(value)


def read_json(raw: bytes) -> Any:
    """The value, with fractions as Decimal; Malformed for anything that is not JSON in UTF-8 or GB18030."""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return json.loads(raw.decode(encoding), parse_float=Decimal, parse_constant=str)
        except UnicodeDecodeError:
            continue
        except (ValueError, RecursionError) as error:
            return Malformed(f"not JSON: {str(error)[:120]}")
        except InvalidOperation:
            return Malformed("not JSON: a number out of all bounds")
    return Malformed("not JSON: neither UTF-8 nor GB18030")


def point(value: Any, pointer: str) -> Any:
    """RFC 6901; None where nothing is there."""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", key):
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value


def as_text(value: Any) -> str:
    """Texts and numbers as text; everything else as nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else ""
    return format(value, "f") if isinstance(value, Decimal) and -30 < value.adjusted() < 30 else ""
