"""A receipt frees a batch only if it is about this very seal and signed in the right role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import IntegrityError, UplinkRejected
from gateway.core.ports import BatchRow
from gateway.ledger import cms
from gateway.ledger.accept import check_receipt
from gateway.ledger.receipt import Receipt
from gateway.ledger.trust import Role, Trust
from tests.api.authority import Authority
from tests.api.box import NOW, Box, filled


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    made = filled(tmp_path_factory.mktemp("box"))
    yield made
    made.close()


def check(
    box: Box,
    parts: tuple[bytes, bytes, bytes],
    n: int = 1,
    trust: Trust | None = None,
    now: datetime = NOW,
    row: BatchRow | None = None,
) -> Receipt:
    return check_receipt(
        *parts,
        origin=box.origin,
        batch=row or box.row(n),
        sizes={item.sha256: item.size_bytes for item in box.artifacts(n)},
        trust=trust or box.trust,
        now=now,
    )


def test_a_good_receipt_is_returned(box: Box) -> None:
    receipt = check(box, box.receipt(1))
    assert receipt.artifacts_held == receipt.artifacts_total == 2


def test_a_receipt_may_name_a_part_of_the_artifacts(box: Box) -> None:
    receipt = check(box, box.receipt(1, held=box.artifacts(1)[:1]))
    assert (receipt.artifacts_held, receipt.artifacts_total) == (1, 2)
    assert check(box, box.receipt(1, held=[])).artifacts_held == 0


def test_the_clock_of_the_box_does_not_matter(box: Box) -> None:
    for now in (datetime(1970, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)):
        assert check(box, box.receipt(1), now=now).end == 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda box: box.receipt(2), "another seal"),
        (lambda box: box.receipt(1, seal_sha256="0" * 64), "another seal"),
        (lambda box: box.receipt(1, origin="gw-0002/evidence"), "wrongly"),
        (lambda box: box.receipt(1, root=bytes(32)), "wrongly"),
        (lambda box: box.receipt(1, prev_root=bytes(32)), "wrongly"),
        (lambda box: box.receipt(1, end=13), "wrongly"),
        (lambda box: box.receipt(1, artifacts_total=3), "wrongly"),
        (lambda box: box.receipt(1, artifacts_held=1), "lists 2 artifacts but says 1"),
        (lambda box: (*box.receipt(1)[:2], b""), "not the one that was signed"),
        (lambda box: (box.receipt(1)[0], box.receipt(1, nonce="f" * 32)[1], box.receipt(1)[2]), "other bytes"),
        (lambda box: (b"", *box.receipt(1)[1:]), "not an evidence-receipt"),
        (lambda box: (box.receipt(1)[0], b"", box.receipt(1)[2]), "not a detached"),
        (lambda box: (box.receipt(1)[0], box.receipt(1)[1] + b"\0", box.receipt(1)[2]), "signature"),
        (lambda box: box.receipt(1, received_utc=datetime(1999, 1, 1, tzinfo=UTC)), "not at 1999"),
    ],
)
def test_anything_else_is_refused(box: Box, change: Callable[[Box], tuple[bytes, bytes, bytes]], reason: str) -> None:
    with pytest.raises(UplinkRejected, match=f"batch 1: .*{reason}"):
        check(box, change(box))


def test_an_artifact_of_another_batch_or_size_is_refused(box: Box) -> None:
    first, second = box.artifacts(1)
    for wrong in (box.artifacts(2)[1], replace(first, size_bytes=first.size_bytes + 1)):
        with pytest.raises(UplinkRejected, match="not one of this batch"):
            check(box, box.receipt(1, held=[wrong, second]))


def test_the_gateways_own_key_cannot_sign_receipts(box: Box) -> None:
    text, _, artifacts = box.receipt(1)
    with pytest.raises(UplinkRejected, match="another role"):
        check(box, (text, box.signer.sign_cms(text), artifacts))


def test_another_authority_is_refused(box: Box) -> None:
    text, _, artifacts = box.receipt(1)
    signature = cms.sign_detached(text, *Authority().issue("platform", Role.RECEIPT.value))
    with pytest.raises(UplinkRejected, match="not issued by a trusted authority"):
        check(box, (text, signature, artifacts))


def test_a_revoked_key_is_refused_whatever_time_it_writes(box: Box) -> None:
    at = NOW - timedelta(hours=1)
    trust = Trust([box.authority.pem], crl_pems=[box.authority.crl(box.platform[0], at=at)])
    parts = box.receipt(1)
    with pytest.raises(UplinkRejected, match="revoked since"):
        check(box, parts, trust=trust)
    assert check(box, parts, trust=trust, now=at - timedelta(hours=1)).end == 12


def test_a_damaged_seal_in_the_store_stops(box: Box) -> None:
    for row in (replace(box.row(1), seal_txt=b"evidence"), replace(box.row(1), seal_txt=box.row(2).seal_txt)):
        with pytest.raises(IntegrityError, match="stored seal"):
            check(box, box.receipt(1), row=row)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_every_changed_byte_is_refused(box: Box, part: int) -> None:
    parts = list(box.receipt(1))
    whole = parts[part]
    for position in range(len(whole)):
        for mask in (1, 2 << position % 7):
            parts[part] = whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :]
            with pytest.raises(UplinkRejected):
                check(box, (parts[0], parts[1], parts[2]))


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_refused(box: Box, text: bytes, p7s: bytes, artifacts: bytes) -> None:
    with pytest.raises(UplinkRejected):
        check(box, (text, p7s, artifacts))
