"""Any bytes from outside give a typed answer or a documented error, never anything else."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import UplinkRejected, UplinkUnavailable
from uplink import answers
from uplink.answers import Conflict, OffsetDiffers, Refused, Unavailable

ROOT = base64.b64encode(b"r" * 32).decode()


JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8).map(
    lambda value: json.dumps(value).encode()
)


@given(st.binary(max_size=200) | JSON)
def test_garbage_is_an_unavailable_platform(body: bytes) -> None:
    for read in (answers.checkpoint_of, answers.receipts_of, answers.wanted_of, lambda b: answers.receipt_of(b, 1)):
        with pytest.raises(UplinkUnavailable, match="makes no sense"):
            read(body)


@given(st.integers(100, 599), st.binary(max_size=100))
def test_every_status_maps_to_one_of_our_errors(status: int, body: bytes) -> None:
    error = answers.error_of(status, {}, body, "thing")
    assert isinstance(error, (UplinkUnavailable, UplinkRejected))
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("status", "scope"),
    [
        *((status, "link") for status in (302, 401, 403, 429, 502, 503, 504)),
        *((status, "item") for status in (404, 405, 409, 423, 500)),
        (507, "lane"),
    ],
)
def test_scope_of_each_status(status: int, scope: str) -> None:
    error = answers.error_of(status, {"retry-after": "7"}, b"", "thing")
    assert isinstance(error, Unavailable)
    assert error.failure.scope == scope


@pytest.mark.parametrize("status", [400, 413, 422])
def test_refusals_for_good(status: int) -> None:
    assert isinstance(answers.error_of(status, {}, b"", "thing"), Refused)


def test_413_with_retry_after_is_not_for_good() -> None:
    error = answers.error_of(413, {"retry-after": "7"}, b"", "thing")
    assert isinstance(error, Unavailable)
    assert error.failure.retry_after_s == 7.0


def test_only_our_credentials_count_as_denied() -> None:
    denied = [status for status in range(300, 600) if getattr(answers.error_of(status, {}, b"", "x"), "denied", False)]
    assert denied == [401, 403]


def test_a_fork_is_told_from_a_gap_and_from_an_incomplete_upload() -> None:
    def conflict(code: str) -> Exception:
        body = {"type": f"urn:fieldgate:problem:{code}", "size": 7, "root": ROOT}
        return answers.error_of(409, {}, json.dumps(body).encode(), "batch")

    fork, gap, incomplete = conflict("fork"), conflict("gap"), conflict("incomplete")
    assert isinstance(fork, Conflict)
    assert (fork.size, fork.root, fork.fork) == (7, b"r" * 32, True)
    assert isinstance(gap, Conflict)
    assert not gap.fork
    assert isinstance(incomplete, OffsetDiffers)


@pytest.mark.parametrize(
    "body",
    [
        {"size": -1, "root": ROOT},
        {"size": 2**53, "root": ROOT},
        {"size": 1.5, "root": ROOT},
        {"size": "1", "root": ROOT},
        {"size": 1, "root": ROOT + "\n"},
        {"size": 1, "root": base64.b64encode(b"r" * 31).decode()},
        {"size": 1},
        [],
    ],
)
def test_checkpoints_outside_the_specification(body: object) -> None:
    with pytest.raises(Unavailable):
        answers.checkpoint_of(json.dumps(body).encode())


def test_a_checkpoint_with_unknown_members_is_read() -> None:
    body = json.dumps({"size": 7, "root": ROOT, "batch": 2, "later": {}}).encode()
    assert answers.checkpoint_of(body) == answers.Checkpoint(7, b"r" * 32)


def test_requests_are_bounded_without_duplicates_and_only_digests() -> None:
    many = [f"{number:064x}" for number in range(1000)]
    assert answers.wanted_of(json.dumps({"artifacts": many[:2] + many}).encode()) == many[: answers.WANTED_MAX]
    for bad in ("../x", "A" * 64, "a" * 63, "a" * 64 + "\n"):
        with pytest.raises(Unavailable):
            answers.wanted_of(json.dumps({"artifacts": [bad]}).encode())


def test_foreign_words_are_quoted_flat_and_cut() -> None:
    body = json.dumps({"detail": "a\nb\x1b[31m\u202e" + "x" * 5000}).encode()
    text = str(answers.error_of(422, {}, body, "thing"))
    assert text.startswith("thing: the platform answers 422: a b [31m")
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "99999999999999999999"}, 86_400.0),
        (
            {"retry-after": "Sun, 22 Nov 2026 00:01:30 GMT", "date": "Sun, 22 Nov 2026 00:00:00 GMT"},
            90.0,
        ),
        ({"retry-after": "Sun, 22 Nov 2026 00:01:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "²"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert answers.retry_after_s(headers) == seconds
