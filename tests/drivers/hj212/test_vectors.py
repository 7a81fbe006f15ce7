"""The shared vectors of HJ 212 behave as stated; exceptions one by one, with their reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from drivers.hj212.codec import CRCS, Decoder, Frame, Malformed, Message, crc, parse, parse_frame

EXCEPTIONS: dict[tuple[str, str], tuple[Any, str]] = {
    ("1b67321edc92", "factors"): (
        [("i12001", {"Info": "1"}), ("i12003", {"Info": "0"})],
        "the standard prints a blank behind a name; it is taken off, and labelled `blanks`",
    ),
    ("c3614dd3b1fd", "header"): (
        {"ST": "32", "CN": "2011", "PW": "123456", "MN": "88888881234567", "Flag": "0"},
        "a stray comma before MN and FLAG in capitals: both are read, and labelled `comma`, `name-case`",
    ),
    ("c3614dd3b1fd", "flag"): (
        {"value": 0, "version": 0, "has_packet_no": False, "need_ack": False},
        "likewise: Flag is there",
    ),
}
TRAITS: dict[str, str] = {
    "lowercase_crc": "crc-lowercase",
    "mn_not_epc96": "mn-form",
    "missing_Flag": "flag-missing",
    "missing_QN": "qn-missing",
    "missing_ST": "st-missing",
    "qn_not_17_digits": "qn-",
    "pw_not_6": "pw-form",
    "datatime_not_14": "time-form",
    "flag_says_packet_no_but_absent": "flag-parts",
    "FLAG_uppercase": "name-case",
    "stray_comma_in_header": "comma",
}
"""Trait of a vector → label, or how it begins."""
NO_LABEL = {
    ("c3614dd3b1fd", "missing_Flag"): "FLAG is read as Flag",
    ("c3614dd3b1fd", "missing_MN"): "MN is read behind the comma",
}


def rows(vectors: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (vectors / "hj212.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == kind]


def header(message: Message) -> dict[str, str]:
    pairs = [("QN", message.qn), ("ST", message.st), ("CN", message.cn), ("PW", message.pw), ("MN", message.mn)]
    found = {name: value for name, value in pairs if value}
    for name, number in (("Flag", message.flag), ("PNUM", message.pnum), ("PNO", message.pno)):
        if number is not None:
            found[name] = str(number)
    return found


def flag(message: Message) -> dict[str, Any] | None:
    if message.flag is None:
        return None
    return {
        "value": message.flag,
        "version": message.version,
        "has_packet_no": bool(message.flag & 2),
        "need_ack": message.wants_answer,
    }


def same_number(text: str) -> str:
    return str(int(text)) if text.isdecimal() and text.startswith("0") and len(text) == 4 else text


def test_every_frame_is_read_as_stated(vectors):
    seen = set()
    for row in rows(vectors, "frame"):
        expect, raw = row["expect"], row["frame"].encode()
        found = Decoder(lambda _: "modbus_low_byte_first").feed(raw)
        segment = raw[6 : 6 + expect["declared_len"]]
        assert len(segment) == expect["actual_len"], row["id"]
        if expect["crc_variant"] is None:
            # The standard drops it: kept as a gap, not acknowledged. What it says can be read all the same
            (refused,) = found
            assert isinstance(refused, Malformed), row["id"]
            assert (refused.reason, refused.raw) == ("crc", raw.rstrip(b"\r\n"))
            message = parse(segment)
        else:
            (frame,) = found
            assert isinstance(frame, Frame), row["id"]
            assert (frame.segment, frame.crc) == (segment, expect["crc_variant"]), row["id"]
            assert frame.raw == raw.rstrip(b"\r\n")
            assert CRCS[frame.crc](segment) == int(expect["crc_in_frame"], 16), row["id"]
            message = parse_frame(frame)
        assert crc(segment) == int(expect["crc_calc"], 16), row["id"]
        read = {
            "header": header(message),
            "flag": flag(message),
            "params": message.params,
            "factors": message.factors,
        }
        stated = {
            "header": {name: same_number(value) for name, value in expect["header"].items()},
            "flag": expect["flag"],
            "params": expect["params"],
            "factors": [(one["code"], one["fields"]) for one in expect["factors"]],
        }
        for name, value in read.items():
            exception = EXCEPTIONS.get((row["id"], name))
            if exception is not None:
                seen.add((row["id"], name))
                assert stated[name] != value, "no exception any more"
            assert value == (exception[0] if exception else stated[name]), (row["id"], name)
    assert seen == set(EXCEPTIONS)


def test_every_trait_has_its_label(vectors):
    for row in rows(vectors, "frame"):
        raw = row["frame"].encode()
        (found,) = Decoder(lambda _: "modbus_low_byte_first").feed(raw)
        if isinstance(found, Frame):
            labels = parse_frame(found).deviations
        else:
            labels = parse(raw[6 : 6 + row["expect"]["declared_len"]]).deviations
            labels |= {"crc-lowercase"} if "lowercase_crc" in row["traits"] else set()
        for trait in row["traits"]:
            wanted = TRAITS.get(trait, "")
            if wanted and (row["id"], trait) not in NO_LABEL:
                assert any(label.startswith(wanted) for label in labels), (row["id"], trait)


def test_the_other_crc_is_refused_where_it_is_not_set(vectors):
    (row,) = [row for row in rows(vectors, "frame") if row["expect"]["crc_variant"] == "modbus_low_byte_first"]
    (refused,) = Decoder().feed(row["frame"].encode().rstrip())
    assert isinstance(refused, Malformed)
    assert refused.reason == "crc-variant"


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_every_stream_gives_its_frames(vectors, step):
    for row in rows(vectors, "stream"):
        raw = row["frame"].encode("latin-1")
        decoder = Decoder()
        found = [one for at in range(0, len(raw), step) for one in decoder.feed(raw[at : at + step])]
        found += decoder.finish()
        frames = [one for one in found if isinstance(one, Frame)]
        assert [frame.raw[-4:].decode() for frame in frames] == row["expect"]["frame_crcs"], row["id"]
