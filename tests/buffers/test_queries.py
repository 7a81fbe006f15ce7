"""Reading: filters against a model, batches, signatures."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffers import queries, signatures
from buffers.signatures import Signatures
from gateway.core.errors import IntegrityError
from tests.buffers.chain import START_NS, Box, draft, instant, open_box

COUNT = 4500
KINDS = ("position", "station.file", "alarm", "fume.reading")


def shape(n: int) -> tuple[str, str, int]:
    """Kind, device and time of record n: common, rare and single ones; a clock that once stood in 1970."""
    kind = KINDS[0] if n % 7 else KINDS[1 + n // 7 % 3]
    device = "rare" if n in (5, 2100, 4400) else "once" if n == 3000 else f"d{n % 13}"
    utc_ns = n if 1000 <= n < 1010 else START_NS + n * 10**9
    return kind, device, utc_ns


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store of 4500 records in four full blocks and an open one."""
    filled = open_box(tmp_path_factory.mktemp("store"))
    rows = [(draft(kind, device, n=n), instant(utc_ns)) for n in range(COUNT) for kind, device, utc_ns in [shape(n)]]
    filled.journal.append_blocking(rows)
    for end in (1000, 2500, 4000):
        asyncio.run(filled.seal(end))
    yield filled
    filled.close()


MOMENTS = st.one_of(st.none(), st.integers(0, 2000), st.integers(START_NS - 5, START_NS + (COUNT + 5) * 10**9))


@given(
    kind=st.sampled_from([None, *KINDS, "none such"]),
    device=st.sampled_from([None, "d0", "d7", "rare", "once", "nobody"]),
    from_utc_ns=MOMENTS,
    to_utc_ns=MOMENTS,
    after=st.integers(-1, COUNT + 1),
    limit=st.integers(0, 1200),
)
def test_filters_answer_as_a_plain_scan(box: Box, **asked: Any) -> None:
    def fits(n: int) -> bool:
        kind, device, utc_ns = shape(n)
        return (
            n > asked["after"]
            and asked["kind"] in (None, kind)
            and asked["device"] in (None, device)
            and (asked["from_utc_ns"] is None or utc_ns >= asked["from_utc_ns"])
            and (asked["to_utc_ns"] is None or utc_ns < asked["to_utc_ns"])
        )

    expected = [n for n in range(COUNT) if fits(n)][: min(asked["limit"], queries.LIMIT_MAX)]
    found = box.queries.records(**asked)
    assert [seq for seq, _ in found] == expected
    assert all(json.loads(leaf)["data"]["n"] == seq for seq, leaf in found[:3])


def test_a_name_that_is_the_beginning_of_another(tmp_path: Path) -> None:
    """Ids 1 and 11 must not be taken for one another in the names of a block."""
    small = open_box(tmp_path)
    small.journal.append_blocking([(draft(device=f"d{n % 30}"), instant()) for n in range(1024)])
    small.journal.append_blocking([(draft(device="d29"), instant()) for _ in range(1024)])
    for n in range(30):
        assert [seq for seq, _ in small.queries.records(device=f"d{n}", after=1023, limit=1)] == (
            [1024] if n == 29 else []
        )
    small.close()


def test_batches(box: Box) -> None:
    assert [row.n for row in box.queries.batches(0, 10)] == [1, 2, 3]
    assert [row.n for row in box.queries.batches(1, 1)] == [2]
    assert box.queries.batch(4) is None
    for seq, n in ((0, 1), (999, 1), (1000, 2), (2499, 2), (3999, 3), (4000, None), (9999, None)):
        row = box.queries.batch_of(seq)
        assert (None if row is None else row.n) == n
    assert box.queries.tail().size == 4000
    assert box.queries.next_seq() == COUNT
    assert len(list(box.queries.leaves(990, 1010))) == 20
    assert box.queries.leaf(COUNT) is None
    assert box.queries.artifact("0" * 64) is None


def test_the_newest_instant_tells_the_next_epoch(tmp_path: Path) -> None:
    small = open_box(tmp_path)
    assert small.queries.newest_instant() is None
    small.journal.append_blocking([(draft(), instant(epoch=3)), (draft(), instant(epoch=4))])
    newest = small.queries.newest_instant()
    assert newest is not None
    assert newest.epoch == 4
    small.database.call(lambda conn: conn.execute("UPDATE record SET leaf = x'00' WHERE seq = 1"))
    with pytest.raises(IntegrityError, match="newest record cannot be read"):
        small.queries.newest_instant()
    small.close()


def test_signatures_of_bundles_stay_and_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "KEPT_MAX", 3)
    small = open_box(tmp_path)
    kept = Signatures(small.database)
    for n in range(5):
        asyncio.run(kept.keep_bundle_signature(f"{n:064}", b"first"))
        asyncio.run(kept.keep_bundle_signature(f"{n:064}", b"second"))
    assert [small.queries.bundle_signature(f"{n:064}") for n in range(5)] == [None, None, b"first", b"first", b"first"]
    small.close()
