"""Sidecars: what a rule reads, and hostile XML and JSON."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bodycam.codec import Malformed, NameCodec
from drivers.bodycam.sidecars import (
    DEPTH_MAX,
    SIDECAR_MAX_BYTES,
    SidecarContent,
    as_text,
    point,
    read_json,
    read_sidecar,
)
from firmware_profiles.loader import load
from firmware_profiles.model import Sidecar
from gateway.core import canonical

CODEC = NameCodec(load("gat947").profile)
XML_RULE = CODEC.profile.sidecar[0]
JSON_RULE = Sidecar(
    extension="json",
    format="json",
    fields={"device": "/dev/0/id", "note": "/no~1te"},
    time="/t",
    zone="+08:00",
    clock_offset="/off",
    key_file="/key",
)


def xml(text: str | bytes) -> SidecarContent:
    content = read_sidecar(text.encode() if isinstance(text, str) else text, XML_RULE, CODEC)
    assert isinstance(content, SidecarContent), content
    return content


def refused(raw: bytes) -> str:
    content = read_sidecar(raw, XML_RULE, CODEC)
    assert isinstance(content, Malformed), content
    return content.reason


def test_attributes_namespaces_and_first_element_of_a_path():
    rule = msgspec.structs.replace(XML_RULE, fields={"device": "Root/Device/@id", "person": "Root/User"})
    raw = b'<a:Root xmlns:a="u"><a:Device a:id="77"/><User> 12 </User><User>13</User></a:Root>'
    content = read_sidecar(raw, rule, CODEC)
    assert isinstance(content, SidecarContent)
    assert content.fields == {"device": "77", "person": "12"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb2312", "GBK", "gb18030"])
def test_encodings_of_chinese_tools(encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?><MediaFile><User><Name>张三</Name></User></MediaFile>'
    assert xml(text.encode(encoding)).fields == {"person_name": "张三"}


def test_offset_from_both_clocks_and_key_file():
    def body(device: str, station: str) -> SidecarContent:
        return xml(
            f"<MediaFile><KeyFile>Y</KeyFile><Sync><DeviceTime>{device}</DeviceTime>"
            f"<StationTime>{station}</StationTime></Sync></MediaFile>"
        )

    content = body("2026-03-02 08:00:00", "2026-03-02 08:00:05.250")
    assert (content.clock_offset_ms, content.offset_from, content.key_file) == (-5250, "sidecar-sync", True)
    across = body("2026-03-02T00:00:07Z", "2026-03-02T08:00:00+08:00")
    assert across.clock_offset_ms == 7000
    assert body("2026-03-02T00:00:07Z", "2026-03-02 08:00:00").clock_offset_ms is None, "one zone is unknown"


def test_json_rule():
    raw = b'{"dev":[{"id":77}],"no/te":"x","t":"2026-03-02 08:00:00","off":-1.5,"key":0}'
    content = read_sidecar(raw, JSON_RULE, CODEC)
    assert isinstance(content, SidecarContent)
    assert content.fields == {"device": "77", "note": "x"}
    assert content.time is not None
    assert (content.time.local, content.time.zone) == ("2026-03-02T08:00:00", "+08:00")
    assert (content.clock_offset_ms, content.offset_from, content.key_file) == (-1500, "sidecar-offset", False)


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;">]>
<MediaFile><User><Name>&lol2;</Name></User></MediaFile>"""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (LAUGHS, "document type declaration"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><MediaFile/>', "document type declaration"),
        (b"<MediaFile>&secret;</MediaFile>", "not XML"),
        (b"<MediaFile>", "not XML"),
        (b"", "not XML"),
        (b"\0\0\0\0", "not XML"),
        (b"<a>" * (DEPTH_MAX + 1), "deeply nested"),
        (b"<a>" + b"<b/>" * 20_001 + b"</a>", "too many"),
        (b'<?xml version="1.0" encoding="EBCDIC-CP-US"?><a/>', "ebcdic"),
        (b"<a>\xff</a>", "not utf-8"),
        (b" " * (SIDECAR_MAX_BYTES + 1), "larger than"),
    ],
)
def test_hostile_xml(raw, reason):
    assert reason in refused(raw)


@pytest.mark.parametrize(
    "raw",
    [b"[" * 100_000, b'{"a":1', b"\xff\xff", b"1" * 5000, b"nul", b'{"a":1e99999999999999999999}', b""],
)
def test_hostile_json(raw):
    assert isinstance(read_json(raw), Malformed)


def test_texts_of_json_values():
    assert [as_text(value) for value in ("x", 3, True, False, None, [], {}, 10**40)] == [
        "x",
        "3",
        "true",
        "false",
        "",
        "",
        "",
        "",
    ]
    assert as_text(Decimal("1.50")) == "1.50"
    assert as_text(Decimal("1e500")) == ""


def test_pointers():
    value = {"a": [{"b/c": 1, "~": 2}], "": 3}
    assert point(value, "") is value
    assert point(value, "/a/0/b~1c") == 1
    assert point(value, "/a/0/~0") == 2
    assert point(value, "/") == 3
    assert point(value, "/a/1") is None
    assert point(value, "/a/-1") is None
    assert point(value, "/a/0/b~1c/d") is None


@given(st.one_of(st.binary(max_size=400), st.text(alphabet='<>/="ab&;![]MediaFile', max_size=200).map(str.encode)))
def test_nothing_raises(raw):
    for rule in (XML_RULE, JSON_RULE):
        content = read_sidecar(raw, rule, CODEC)
        if isinstance(content, SidecarContent):
            canonical.check(content.fields)
