"""The shared vectors of JT/T 808: frames and bodies of public sources, and damaged streams, with what they state."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.jt808.codec import (
    Address,
    Assembled,
    Decoder,
    Frame,
    Location,
    LocationAnswer,
    LocationBatch,
    Malformed,
    Message,
    Opaque,
    ParameterAnswer,
    Reassembler,
    Version,
    encode,
    parse,
    parse_body,
    read_datagram,
)
from drivers.jt808.framing import escape, unescape
from tests.drivers.jt808.facts import FACTS, NOT_OURS, RESULTS, TEXTS_ONLY

EXCEPTIONS = {
    "O0077": "check byte e9 where 8e is right: the frame is refused, whatever its source read from it",
    "O0183": "check byte ef where 2d is right: refused",
    "O0204": "vendor 0x5501 whose header states one byte more than there is: refused",
    "O0205": "vendor 0x5501 with a wrong check byte and a properties field that is none: refused",
    "O0206": "vendor 0x5501 whose properties field is none: refused",
    "O0207": "vendor 0x5502 whose properties field is none: refused",
    "O0209": "delimiter 0x28: another protocol on the same port",
    "O0143": "the source's object has fields that its own frame of 2013 does not hold",
}
"""Vectors that do not behave as their source says, with the reason."""

OPAQUE = {"O0119": "8001 without a body", "O0125": "8100 without a body"}
"""Our messages whose body is too short; their sources state no content either."""

OF_INTEREST = re.compile(
    r"0x(000[1-5]|010[0247]|020[01]|070[24]|080[01]|0900|800[134]|8100|810[346]|820[12]|8300|860[0-7]|880[01])"
)


@pytest.fixture(scope="module")
def rows(vectors: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (vectors / "jt808.jsonl").read_text("utf-8").splitlines()]


def of_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = [row for row in rows if row["kind"] == kind]
    assert found
    return found


def wire(row: dict[str, Any]) -> bytes:
    return bytes.fromhex(row.get("wire_hex") or row["hex"])


def only_frame(row: dict[str, Any]) -> Frame:
    (frame,) = read_datagram(wire(row))
    assert isinstance(frame, Frame), (row["id"], frame)
    return frame


def frames(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in of_kind(rows, "frame") if row["id"] not in EXCEPTIONS or row["id"] == "O0143"]


def read(row: dict[str, Any]) -> Message:
    if row["kind"] == "frame":
        return parse(only_frame(row))
    version = Version.V2019 if row.get("version_hint") == "2019" else Version.V2013
    return parse_body(int(row["msg_id"], 16), bytes.fromhex(row["hex"]), version)


def test_headers_are_what_the_vectors_state(rows: list[dict[str, Any]]) -> None:
    for row in frames(rows):
        frame, stated = only_frame(row), row["derived"]["header"]
        assert f"0x{frame.msg_id:04X}" == row["msg_id"]
        assert frame.raw == wire(row), row["id"]
        assert frame.phone == stated["phone_bcd"]
        assert (frame.serial, len(frame.body), frame.encryption) == (
            stated["seq"],
            stated["body_len"],
            stated["encrypt"],
        )
        assert frame.protocol == stated.get("proto_ver", 0)
        assert (frame.version is Version.V2019) == bool(stated["ver_flag"])
        assert (frame.total > 0, frame.reserved) == (stated["sub"], bool(stated["bit15"]))
        assert frame.phone_is_bcd == ("phone not BCD" not in row.get("vendor_reasons", ()))


def test_exceptions_are_refused_for_their_reason(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["id"] in EXCEPTIONS and row["id"] != "O0143":
            (found,) = read_datagram(wire(row))
            assert isinstance(found, Malformed), row["id"]
            assert found.reason in {"check", "length", "unfinished"}


def test_only_bodies_out_of_scope_are_opaque(rows: list[dict[str, Any]]) -> None:
    for row in [*frames(rows), *of_kind(rows, "body")]:
        message = read(row)
        if row["id"] in OPAQUE:
            assert isinstance(message, Opaque)
            assert message.reason == "malformed"
        elif OF_INTEREST.match(row["msg_id"]):
            assert not isinstance(message, Opaque), (row["id"], message)
        else:
            assert isinstance(message, Opaque)
            assert message.reason == "unknown"


def test_every_frame_is_written_again_byte_for_byte(rows: list[dict[str, Any]]) -> None:
    for row in frames(rows):
        frame = only_frame(row)
        assert encode(parse(frame), Address.of_frame(frame), frame.serial) == (frame.raw,), row["id"]


def test_every_body_is_written_again_byte_for_byte(rows: list[dict[str, Any]]) -> None:
    for row in of_kind(rows, "body"):
        version = Version.V2019 if row.get("version_hint") == "2019" else Version.V2013
        assert read(row).write(version).hex() == row["hex"], row["id"]


def check_location(location: Location, stated: dict[str, Any], name: str) -> None:
    for ours, theirs in (
        (location.alarm_bits, "alarm"),
        (location.status_bits, "status"),
        (location.lat_raw, "lat_raw"),
        (location.lon_raw, "lon_raw"),
        (location.altitude_raw, "alt"),
        (location.speed_raw, "speed_raw"),
        (location.course_raw, "course"),
        (location.time_bcd, "time_bcd"),
        (location.fixed, "fixed"),
        ("acc_on" in location.status, "acc"),
        (not location.tail, "items_wellformed"),
    ):
        assert ours == stated[theirs], (name, theirs)
    assert (location.lat_e7, location.lon_e7) == (round(stated["lat"] * 1e7), round(stated["lon"] * 1e7)), name
    assert ("empty", "half", "reserved", "full")[stated["load"]] == location.load
    local = stated["time_local_gmt8"]
    assert location.time == (local and f"{local}+08:00"), name
    assert [(f"0x{item.id:02X}", len(item.raw), item.raw.hex()) for item in location.items] == [
        (item["id"].upper().replace("0X", "0x"), item["len"], item["hex"]) for item in stated["items"]
    ], name
    assert location.tail.hex() == stated.get("items_tail_hex", ""), name


def test_locations_are_what_the_vectors_state(rows: list[dict[str, Any]]) -> None:
    seen = 0
    for row in [*frames(rows), *of_kind(rows, "body")]:
        stated, message = row.get("derived", {}).get("body"), read(row)
        if stated is None:
            continue
        seen += 1
        if isinstance(message, Location):
            check_location(message, stated, row["id"])
        elif isinstance(message, LocationAnswer):
            assert message.reply_serial == stated["reply_seq"]
            check_location(message.location, stated, row["id"])
        elif isinstance(message, LocationBatch):
            assert (message.count, message.kind, len(message.tail)) == (
                stated["count"],
                stated["type"],
                stated["trailing"],
            )
            assert len(message.locations) == stated["decoded_items"]
            for location, one in zip(message.locations, stated["positions"], strict=True):
                check_location(location, one, row["id"])
        else:
            assert (message.reply_serial, message.result) == (stated["reply_seq"], stated["result"])  # type: ignore[attr-defined]
            assert f"0x{message.reply_id:04x}" == stated["reply_id"]  # type: ignore[attr-defined]
    assert seen >= 75


def statements(row: dict[str, Any]) -> list[dict[str, Any]]:
    expect = row["expect"] if isinstance(row["expect"], list) else [row["expect"]]
    return [one["fields"] for one in expect if "fields" in one]


def test_fields_are_what_the_sources_state(rows: list[dict[str, Any]]) -> None:
    """Every stated field of a message of ours is compared, or listed in `NOT_OURS` with the reason."""
    compared = 0
    for row in rows:
        if row["id"] in EXCEPTIONS or row["kind"] not in ("frame", "body") or not OF_INTEREST.match(row["msg_id"]):
            continue
        message = read(row)
        frame = only_frame(row) if row["kind"] == "frame" else None
        for fields in statements(row):
            for name, stated in fields.items():
                fact: Callable[[Any, Any], Any] | None = FACTS.get((type(message).__name__, name))
                if fact is None:
                    assert any(re.fullmatch(pattern, name) for pattern, _ in NOT_OURS), (row["id"], name)
                    continue
                assert fact(message, frame) == RESULTS.get(str(stated), stated), (row["id"], name)
                compared += 1
    assert compared >= 550


def test_labelled_texts_are_what_the_sources_state(rows: list[dict[str, Any]]) -> None:
    compared = 0
    for row in frames(rows):
        labels = row["expect"].get("labelled", {}) if isinstance(row["expect"], dict) else {}
        if not OF_INTEREST.match(row["msg_id"]):
            continue
        message = read(row)
        for label, fact in TEXTS_ONLY.get(type(message).__name__, {}).items():
            for name, stated in labels.items():
                if re.fullmatch(label, name):
                    assert str(fact(message)) == stated["value"], (row["id"], name)
                    compared += 1
    assert compared >= 20


def test_framing_only_vectors(rows: list[dict[str, Any]]) -> None:
    for row in of_kind(rows, "framing_stream"):
        pieces = [piece for piece in wire(row).split(b"\x7e") if piece]
        given = [found.raw for found in read_datagram(wire(row))]
        assert given == pieces
        if "frames" in row["expect"]:
            wanted = [bytes.fromhex(one)[1:-1] for one in row["expect"]["frames"]]
            assert [piece for piece in given if piece in wanted] == wanted
        else:
            assert unescape(given[-1]) == bytes.fromhex(row["expect"]["unescaped_frame"])[1:-1]
    (row,) = of_kind(rows, "framing_encode")
    assert b"\x7e" + escape(wire(row)[1:-1]) + b"\x7e" == bytes.fromhex(row["expect"]["escaped_frame"])


@pytest.mark.parametrize("backwards", [False, True])
def test_packets_become_the_stated_body(rows: list[dict[str, Any]], backwards: bool) -> None:
    for row in of_kind(rows, "subpackage_set"):
        packets = [found for text in row["frames"] for found in read_datagram(bytes.fromhex(text))]
        reassembler = Reassembler()
        found = [
            one
            for frame in (reversed(packets) if backwards else packets)
            if isinstance(frame, Frame)
            for one in reassembler.add(frame, 0)
        ]
        (whole,) = found
        assert isinstance(whole, Assembled)
        assert whole.body.hex() == row["expect"]["merged_body_hex"]
        assert [frame.serial for frame in whole.frames] == row["expect"]["serials"]


def test_streams_give_exactly_the_listed_frames(rows: list[dict[str, Any]], vectors: Path) -> None:
    raw = {row["id"]: wire(row) for row in rows if "hex" in row}
    streams = [json.loads(line) for line in (vectors / "jt808_streams.jsonl").read_text("utf-8").splitlines()]
    assert len(streams) >= 26
    for stream in streams:
        data = [bytes.fromhex(chunk) for chunk in stream["chunks"]]
        cut = stream.get("connection_break_at_byte")
        links = [data] if cut is None else [[b"".join(data)[:cut]], [b"".join(data)[cut:]]]
        found: list[Frame | Malformed] = []
        for link in links:
            decoder = Decoder()
            for chunk in link:
                found += decoder.feed(chunk)
                assert decoder.held_bytes < 4096
            found += decoder.finish()
        accepted = [one.raw for one in found if isinstance(one, Frame)]
        optional = {raw[name] for name in stream.get("optional", ())}
        assert [one for one in accepted if one not in optional] == [raw[name] for name in stream["accept"]], stream[
            "id"
        ]
        assert len(found) - len(accepted) >= stream["rejected_at_least"], stream["id"]


def test_parameters_have_the_stated_types_and_values(rows: list[dict[str, Any]]) -> None:
    (row,) = [row for row in rows if row["id"] == "O0098"]
    message = parse(only_frame(row))
    assert isinstance(message, ParameterAnswer)
    values = {parameter.id: parameter for parameter in message.parameters}
    compared = 0
    for stated in row["expect"]["fields"]["TerminalParamDetails"].values():
        match = re.fullmatch(
            r"ParamContent\[(\w+)\]\{ID: (0x\w+), Len: (\d+), Value: (.+)\}", stated["go_expr"].replace("\n", "")
        )
        if match is None or "[" in match[4]:
            continue
        parameter = values[int(match[2], 16)]
        assert str(parameter.value) == match[4].strip('"'), match[0]
        compared += 1
    assert compared >= 75
