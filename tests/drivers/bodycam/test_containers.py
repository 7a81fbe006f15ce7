"""Closed or open: MP4 and RIFF in every state of being written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bodycam.containers import container_state
from drivers.bodycam.simulator import mp4_pieces, wav


def state(container: str, content: bytes) -> str:
    return container_state(container, len(content), lambda offset, size: content[offset : offset + size])


def box(kind: bytes, content: bytes = b"") -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


FTYP = box(b"ftyp", b"isom")


def test_a_video_is_closed_by_its_last_piece_only():
    pieces = mp4_pieces(bytes(range(256)) * 1000)
    for count in range(1, len(pieces)):
        assert state("mp4", b"".join(pieces[:count])) == "open"
    assert state("mp4", b"".join(pieces)) == "closed"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "open"),
        (FTYP, "open"),
        (FTYP + box(b"moov") + box(b"mdat", b"x" * 9), "closed"),
        (FTYP + box(b"moov") + box(b"mdat", b"x" * 9)[:-1], "open"),
        (FTYP + b"\0\0\0\1mdat" + (20).to_bytes(8, "big") + b"1234" + box(b"moov"), "closed"),
        (FTYP + b"\0\0\0\1mdat" + (15).to_bytes(8, "big"), "open"),
        (FTYP + box(b"moov") + b"\0\0\0\0mdat123", "closed"),
        (FTYP + b"\0\0\0\0mdat123", "open"),
        (FTYP + b"\0\0\0\7mdat", "open"),
        (FTYP + box(b"moov") + b"\0\0\0", "closed"),
        (b"\0" * 4096, "open"),
        (b"JUNKJUNKJUNKJUNK", "unknown"),
        (b"\x1aE\xdf\xa3" + b"\0" * 12, "unknown"),
        (box(b"wide") + box(b"mdat", b"1") + box(b"moov"), "closed"),
    ],
)
def test_mp4(content, expected):
    assert state("mp4", content) == expected


def test_a_file_of_endless_small_boxes_is_given_up():
    assert state("mp4", FTYP + box(b"free") * 5000) == "unknown"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (wav(b"12345678"), "closed"),
        (wav(b"12345678")[:-1], "open"),
        (b"RIFF\0\0\0\0WAVE" + bytes(99), "open"),
        (b"RIFF\xff\xff\xff\xffWAVE" + bytes(99), "open"),
        (b"RF64\xff\xff\xff\xffWAVE" + bytes(99), "closed"),
        (b"RIFF", "open"),
        (b"ID3\x04" + bytes(99), "unknown"),
    ],
)
def test_riff(content, expected):
    assert state("riff", content) == expected


def test_other_formats_tell_nothing():
    assert state("", b"anything") == "unknown"


@given(st.sampled_from(["mp4", "riff"]), st.binary(max_size=300), st.booleans())
def test_nothing_raises(container, content, with_head):
    assert state(container, (FTYP if with_head else b"") + content) in {"open", "closed", "unknown"}
