"""Sealing against the bare SHA-256 calls that it cannot do without: leaf hashes, node hashes, the flat hash."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence

from cryptography import x509

from gateway.config import SealConfig
from gateway.core.instant import Instant
from gateway.core.ports import ArtifactRow, NewBatch, Pending, Tail
from gateway.core.record import Draft, encode_leaf
from gateway.keys import FileSigner
from gateway.ledger.merkle import EMPTY_ROOT
from gateway.sealer import Sealer
from tests.bench.figure import Figure, at_most
from tests.gateway.identities import issue

RECORDS = 1_000_000
TURN = 50_000
GOAL = 1.5
NOW = Instant("0" * 32, 1, 0, 1_795_000_000_000_000_000)


class StillClock:
    """Always now."""

    def now(self) -> Instant:
        """See ports.Clock."""
        return NOW


class LeafStore:
    """Port `SealStore` over a list: what it costs is not the sealer's."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._leaves = leaves
        self._tail = Tail(0, EMPTY_ROOT, ())
        self.batches = 0

    def tail(self) -> Tail:
        """See ports.SealStore; so are the others."""
        return self._tail

    def next_batch(self) -> int:
        return self.batches + 1

    def pending(self) -> Pending:
        return Pending(len(self._leaves), NOW.utc_ns, NOW.utc_ns, urgent=True)

    def leaves(self, first: int, end: int) -> Iterator[bytes]:
        return iter(self._leaves[first:end])

    def artifacts_of(self, first: int, end: int) -> list[ArtifactRow]:
        return []

    def newest(self, kind: str, below: int) -> int | None:
        return None

    async def commit_seal(self, batch: NewBatch) -> None:
        self._tail = batch.tail_after
        self.batches += 1


def make_leaves(count: int) -> list[bytes]:
    """Records of about 300 bytes."""
    leaf = encode_leaf(Draft("position", "station-1", "A11-2222222", {"lat_e7": 301234567}), NOW, 0, b"\0" * 16)
    middle = leaf.index(b'"seq":0')
    start, end = leaf[:middle], leaf[middle + 7 :]
    return [b'%b"seq":%d%b' % (start, seq, end) for seq in range(count)]


def bare(leaves: Sequence[bytes]) -> None:
    """One leaf hash and one node hash per record, and one pass of SHA-256 over all of them."""
    sha256 = hashlib.sha256
    node = b"\x01" + b"n" * 64
    for leaf in leaves:
        sha256(b"\x00" + leaf).digest()
        sha256(node).digest()
    flat = sha256()
    for first in range(0, len(leaves), 512):
        flat.update(b"\n".join(leaves[first : first + 512]))
    flat.digest()


def measure(records: int = RECORDS, turn: int = TURN) -> Figure:
    """Seal all records in batches of the default size, and hash the same records barely, in turns of `turn` records.

    CPU time of both: the two do nothing but compute, and turn by turn a busy neighbour slows both alike.
    """
    key, certificate = issue("box-1")
    signer = FileSigner(key, x509.load_pem_x509_certificate(certificate))
    leaves = make_leaves(records)
    store = LeafStore(leaves)
    sealer = Sealer(store, signer, StillClock(), SealConfig(), "box-1/evidence", lambda: False)
    ours = theirs = 0.0

    async def seal_to(size: int) -> None:
        while store.tail().size < size:
            await sealer.seal(NOW)

    with asyncio.Runner() as runner:
        for first in range(0, records, turn):
            start = time.process_time()
            runner.run(seal_to(first + turn))
            middle = time.process_time()
            bare(leaves[first : first + turn])
            ours += middle - start
            theirs += time.process_time() - middle
    detail = f"{ours:.2f} s / {theirs:.2f} s of CPU; {len(leaves[-1])} bytes each, {store.batches} batches"
    return at_most(f"sealing {records:,} records / their bare SHA-256 calls", ours / theirs, GOAL, detail=detail)


def run() -> Iterator[Figure]:
    """The figures of this bench."""
    yield measure()
