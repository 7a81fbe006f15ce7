"""Doubles of the ports for tests of the box: stores in memory that can fail at every write, clocks made of lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gateway.core import kinds
from gateway.core.errors import IntegrityError, StoreFull
from gateway.core.instant import Instant
from gateway.core.marks import Gnss
from gateway.core.ports import ArtifactRow, BatchRow, NewBatch, Pending, Tail
from gateway.core.record import Draft, StateChange, encode_leaf, parse_leaf
from gateway.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from gateway.ledger.seal import Seal

SECOND = 1_000_000_000
START_UTC_NS = 1_795_000_000 * SECOND
BOOT = "0123456789abcdef0123456789abcdef"


def at(seconds: float = 0.0, epoch: int = 1, utc_jump_s: float = 0.0) -> Instant:
    """A moment so many seconds after the start, by a clock that has jumped."""
    passed_ns = int(seconds * SECOND)
    return Instant(BOOT, epoch, passed_ns, START_UTC_NS + passed_ns + int(utc_jump_s * SECOND))


class Crash(Exception):
    """The power went, or the disk said so."""


@dataclass
class Moment:
    """Port `Clock` that stands still until a test moves it."""

    instant: Instant = field(default_factory=at)
    steps: list[tuple[Draft, Instant]] = field(default_factory=list)
    synchronised: bool = True
    source: str = "ntp"
    gnss: Gnss | None = None

    def now(self) -> Instant:
        return self.instant

    def take_steps(self) -> list[tuple[Draft, Instant]]:
        taken, self.steps = self.steps, []
        return taken

    def put_back_steps(self, steps: list[tuple[Draft, Instant]]) -> None:
        self.steps = steps + self.steps


@dataclass
class MemoryJournal:
    """Port `Journal`: keeps rows and state; raises StoreFull on command."""

    rows: list[tuple[Draft, Instant]] = field(default_factory=list)
    essential: list[bool] = field(default_factory=list)
    state: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    full: Literal["no", "ordinary", "everything"] = "no"

    async def append(
        self, rows: Sequence[tuple[Draft, Instant]], state: Sequence[StateChange] = (), *, essential: bool = False
    ) -> int:
        if self.full == "everything" or (self.full == "ordinary" and not essential):
            raise StoreFull("the disk is full")
        first = len(self.rows)
        for draft, instant in rows:
            encode_leaf(draft, instant, first, b"\0" * 16)
        self.rows += rows
        self.essential += [essential] * len(rows)
        for change in state:
            if change.value is None:
                self.state.pop((change.source, change.key), None)
            else:
                self.state[change.source, change.key] = change.value
        return first

    def get(self, source: str, key: bytes) -> bytes | None:
        return self.state.get((source, key))

    def items(self, source: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for (owner, key), value in sorted(self.state.items()):
            if owner == source and key.startswith(prefix):
                yield key, value

    def kinds(self) -> list[str]:
        return [draft.kind for draft, _ in self.rows]

    def alarms(self) -> list[tuple[str, str, str]]:
        """(code, subject, state) of the alarm records, in order."""
        return [
            (draft.data["code"], draft.device, draft.data["state"])
            for draft, _ in self.rows
            if draft.kind == kinds.ALARM
        ]


class PlainSigner:
    """Port `Signer` without a key: for tests of everything but signatures."""

    def __init__(self, certificate_pem: bytes = b"certificate") -> None:
        self.certificate_pem = certificate_pem
        self.certificate_sha256 = hashlib.sha256(certificate_pem).hexdigest()

    def sign_cms(self, content: bytes) -> bytes:
        return hashlib.sha256(b"signed" + content).digest()


Fault = Literal["none", "before", "after"]


class MemorySeals:
    """Port `SealStore` over a list of leaves. `faults` says of each coming commit whether it crashes before or after
    it is persisted."""

    def __init__(self, leaves: Sequence[bytes] = (), faults: Sequence[Fault] = ()) -> None:
        self.log = list(leaves)
        self.batches: list[BatchRow] = []
        self.subtrees: dict[tuple[int, int], bytes] = {}
        self.end = Tail(0, EMPTY_ROOT, ())
        self.faults = list(faults)
        self.hole: int | None = None

    def add(self, count: int, instant: Instant, kind: str = "station.file", text: str = "") -> None:
        for _ in range(count):
            seq = len(self.log)
            draft = Draft(kind, "station-1", "", {"n": seq, "text": text})
            self.log.append(encode_leaf(draft, instant, seq, seq.to_bytes(16, "big")))

    def tail(self) -> Tail:
        return self.end

    def next_batch(self) -> int:
        return len(self.batches) + 1

    def pending(self) -> Pending:
        waiting = [parse_leaf(leaf) for leaf in self.log[self.end.size :]]
        evidence = [record.instant.utc_ns for record in waiting if record.kind not in kinds.HOUSEKEEPING]
        return Pending(
            len(self.log),
            evidence[0] if evidence else None,
            waiting[0].instant.utc_ns if waiting else None,
            any(record.kind in kinds.URGENT for record in waiting),
            sum(len(leaf) + 1 for leaf in self.log[self.end.size :]),
        )

    def leaves(self, first: int, end: int) -> Iterator[bytes]:
        for seq in range(first, end):
            if seq == self.hole:
                return
            yield self.log[seq]

    def artifacts_of(self, first: int, end: int) -> list[ArtifactRow]:
        return [ArtifactRow("ab" * 32, 7, "video/mp4", "present")] if first == 0 else []

    def newest(self, kind: str, below: int) -> int | None:
        found = [seq for seq, leaf in enumerate(self.log[:below]) if json.loads(leaf)["kind"] == kind]
        return found[-1] if found else None

    async def commit_seal(self, batch: NewBatch) -> None:
        fault = self.faults.pop(0) if self.faults else "none"
        if fault == "before":
            raise Crash
        if batch.tail_before != self.end:
            raise IntegrityError("another sealer was here")
        self.batches.append(batch.row)
        self.subtrees.update({(level, index): node for level, index, node in batch.subtrees})
        self.end = batch.tail_after
        if fault == "after":
            raise Crash

    def check(self) -> None:
        """Verify everything again from the leaves: ranges, roots, flat hashes, subtrees, seals."""
        tree, at_size = Frontier(), {0: (EMPTY_ROOT, tuple[bytes, ...]())}
        for size, leaf in enumerate(self.log, 1):
            tree.append(leaf_hash(leaf))
            at_size[size] = (tree.root(), tree.hashes)
        size = 0
        for n, row in enumerate(self.batches, 1):
            assert (row.n, row.first) == (n, size)
            assert row.end > row.first
            leaves = self.log[row.first : row.end]
            flat = b"".join(leaf + b"\n" for leaf in leaves)
            utc_ns = [parse_leaf(leaf).instant.utc_ns for leaf in leaves]
            assert (row.prev_root, row.prev_frontier) == at_size[row.first]
            assert row.root == at_size[row.end][0]
            assert (row.records_sha256, row.records_bytes) == (hashlib.sha256(flat).hexdigest(), len(flat))
            assert (row.utc_min_ns, row.utc_max_ns) == (min(utc_ns), max(utc_ns))
            seal = Seal.parse(row.seal_txt)
            assert (seal.first, seal.end, seal.prev_root, seal.root) == (row.first, row.end, row.prev_root, row.root)
            assert row.seal_p7s == hashlib.sha256(b"signed" + row.seal_txt).digest()
            size = row.end
        assert self.end == Tail(size, *at_size[size])
        for (level, index), node in self.subtrees.items():
            part = Frontier()
            part.extend(leaf_hash(leaf) for leaf in self.log[index << level : (index + 1) << level])
            assert part.root() == node
        assert len(self.subtrees) == sum(size >> level for level in (8, 16))
