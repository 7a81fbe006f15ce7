"""Closing batches: hash the unsealed leaves, sign the seal, move the checkpoint. After a crash, the same function.

Nothing is remembered between two calls: `seal` starts from the stored tail, so a crash before the commit leaves
nothing behind and a crash after it leaves a finished batch. The commit is a compare-and-swap on the tail.

When a batch is due, and the clock. Ages come from utc times of records, which may lie in another epoch than `now`.
A negative age means that the clock went back; the batch is then due at once, because nobody can tell how long it
has waited. A jump ahead makes it due at once as well. Both close what is pending, once: later records carry times
of the new epoch. So a wrong clock costs at most one early seal per step, and never a stall.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from gateway import keys, log, metrics
from gateway.core import kinds
from gateway.core.errors import IntegrityError
from gateway.core.ports import BatchRow, Clock, NewBatch, Pending, SealStore, Signer, Tail
from gateway.ledger.grammar import FormatError
from gateway.ledger.merkle import Frontier
from gateway.ledger.seal import Seal

if TYPE_CHECKING:
    from gateway.config import SealConfig
    from gateway.core.instant import Instant

BLOCK_LEAVES: Final = 1024
"""Leaves hashed between two turns of the event loop: one or two milliseconds here, ten on a small board."""
BLOCK_BYTES: Final = 1_048_576
"""And bytes, to which PART_LEAVES more may add theirs."""
PART_LEAVES: Final = 32
POLL_S: Final = 0.5

_UTC = re.compile(rb'"utc_ns":"(\d{1,20})","v":1\}\n')
"""The end of every leaf of version 1 with its LF: keys are sorted, and a raw LF stands nowhere else."""
_LEAF_END: Final = b'","v":1}'
_TIME_DIGITS: Final = 19
"""Of every utc_ns from 2001 to 2286."""
_END_BYTES: Final = 1 + _TIME_DIGITS + len(_LEAF_END)


def due(pending: Pending, tail: Tail, now: Instant, config: SealConfig) -> int | None:
    """Where the batch to seal now ends by number of records, or None while it may wait. By size it may end earlier.

    Due by number or bytes; at once for an urgent record; by the age of the oldest evidence; and by the idle age where
    only housekeeping waits.
    """
    count = pending.next_seq - tail.size
    if count <= 0:
        return None
    ready = (
        pending.urgent
        or count >= config.max_records
        or pending.size_bytes >= config.max_bytes
        or _aged(pending.oldest_evidence_utc_ns, now, config.max_age_s)
        or _aged(pending.oldest_utc_ns, now, config.idle_age_s)
    )
    return tail.size + min(count, config.max_records) if ready else None


def _aged(oldest_utc_ns: int | None, now: Instant, limit_s: int) -> bool:
    if oldest_utc_ns is None:
        return False
    return not 0 <= now.utc_ns - oldest_utc_ns < limit_s * 1_000_000_000


@dataclass(slots=True)
class _Hashed:
    """What one pass over the leaves of a batch gives."""

    frontier: Frontier
    end: int
    records_bytes: int = 0
    utc_min_ns: int = 1 << 67
    utc_max_ns: int = 0
    records_sha256: str = ""
    subtrees: list[tuple[int, int, bytes]] = field(default_factory=list)


class Sealer:
    """Seals one log. `origin` is ``<gateway id>/evidence``; without a signer (no certificate yet) records wait."""

    def __init__(
        self,
        store: SealStore,
        signer: Signer | None,
        clock: Clock,
        config: SealConfig,
        origin: str,
        clock_synchronised: Callable[[], bool] = lambda: True,
    ) -> None:
        """`clock_synchronised`: an expired certificate stops sealing only by a clock that is known to be right."""
        self._store = store
        self._signer = signer
        self._clock = clock
        self._config = config
        self._origin = origin
        self._clock_synchronised = clock_synchronised
        self._one_at_a_time = asyncio.Lock()
        self._log = log.get("sealer")
        self.blocked: str | None = None
        """Why nothing can be sealed just now, one line with what to do; records go on being stored."""

    async def run(self, tick: Callable[[], None], poll_s: float = POLL_S) -> None:
        """Seal what is due, for ever."""
        while True:
            row = await self.seal(self._clock.now())
            tick()
            if row is None:
                await asyncio.sleep(poll_s)

    async def seal(self, now: Instant, *, whatever_waits: bool = False) -> BatchRow | None:
        """Seal one batch if one is due (or, at a clean stop, if anything waits); None where nothing was sealed.

        Raises IntegrityError where the stored checkpoint, frontier and leaves disagree: nothing is signed then.
        """
        async with self._one_at_a_time:
            tail, pending = self._store.tail(), self._store.pending()
            subtrees: list[tuple[int, int, bytes]] = []
            frontier = _frontier_of(tail, subtrees)
            if pending.next_seq < tail.size:
                raise IntegrityError(
                    f"the log holds {pending.next_seq} records but {tail.size} were sealed: restore the state folder"
                )
            end = due(pending, tail, now, self._config)
            if end is None and whatever_waits and pending.next_seq > tail.size:
                end = tail.size + min(pending.next_seq - tail.size, self._config.max_records)
            if end is None:
                return None
            self.blocked = self._obstacle(now)
            if self._signer is None or self.blocked is not None:
                self._log.warning("sealing_blocked", reason=self.blocked)
                return None
            hashed = await self._hash(_Hashed(frontier, end, subtrees=subtrees), tail.size)
            return await self._commit(self._signer, tail, hashed, now)

    def _obstacle(self, now: Instant) -> str | None:
        if self._signer is None:
            return "no gateway certificate yet: enrol with the platform, or set keys.certificate_file"
        if not self._clock_synchronised():
            return None
        return keys.certificate_problem(self._signer.certificate_pem, now.utc_ns)

    async def _hash(self, hashed: _Hashed, first: int) -> _Hashed:
        """One pass: leaf hashes into the frontier, the flat hash, the span of times. Ends early at max_bytes."""
        leaves = self._store.leaves(first, hashed.end)
        flat = hashlib.sha256()
        while block := self._block(leaves, hashed):
            text = b"\n".join(block) + b"\n"
            flat.update(text)
            sha256 = hashlib.sha256
            hashed.frontier.extend([sha256(b"\x00" + leaf).digest() for leaf in block])
            earliest_ns, latest_ns = _span_of_times(block, text, hashed.frontier.size)
            hashed.records_bytes += len(text)
            hashed.utc_min_ns = min(hashed.utc_min_ns, earliest_ns)
            hashed.utc_max_ns = max(hashed.utc_max_ns, latest_ns)
            await asyncio.sleep(0)
        reached = hashed.frontier.size
        if reached <= first or (reached < hashed.end and hashed.records_bytes < self._config.max_bytes):
            raise IntegrityError(f"records from seq {reached} to {hashed.end} are missing in the store")
        hashed.end = reached
        hashed.records_sha256 = flat.hexdigest()
        return hashed

    def _block(self, leaves: Iterator[bytes], hashed: _Hashed) -> list[bytes]:
        """The next leaves, bounded in number and bytes; none once the batch has its bytes.

        Blocks end at multiples of BLOCK_LEAVES, where whole subtrees are hashed in one go.
        """
        room = self._config.max_bytes - hashed.records_bytes
        if room <= 0:
            return []
        size = hashed.frontier.size
        count = min(BLOCK_LEAVES - size % BLOCK_LEAVES, hashed.end - size)
        block: list[bytes] = []
        taken = 0
        while taken < min(room, BLOCK_BYTES):
            part = list(islice(leaves, min(count - len(block), PART_LEAVES)))
            if not part:
                break
            block += part
            taken += sum(map(len, part)) + len(part)
        while block and taken - len(block[-1]) - 1 >= room:  # the batch ends with the leaf that reaches its bytes
            taken -= len(block.pop()) + 1
        return block

    async def _commit(self, signer: Signer, tail: Tail, hashed: _Hashed, now: Instant) -> BatchRow:
        store, end, root = self._store, hashed.end, hashed.frontier.root()
        artifacts = store.artifacts_of(tail.size, end)
        artifact_bytes = sum(artifact.size_bytes for artifact in artifacts)
        seal_txt = Seal(
            origin=self._origin,
            first=tail.size,
            end=end,
            prev_root=tail.root,
            root=root,
            records_sha256=hashed.records_sha256,
            artifact_count=len(artifacts),
            artifact_bytes=artifact_bytes,
            beacon=store.newest(kinds.BEACON, end),
            clock=store.newest(kinds.CLOCK_STATE, end),
            gateway_cert_sha256=signer.certificate_sha256,
        ).encode()
        row = BatchRow(
            n=store.next_batch(),
            first=tail.size,
            end=end,
            prev_root=tail.root,
            root=root,
            prev_frontier=tail.frontier,
            records_sha256=hashed.records_sha256,
            records_bytes=hashed.records_bytes,
            artifact_count=len(artifacts),
            artifact_bytes=artifact_bytes,
            utc_min_ns=hashed.utc_min_ns,
            utc_max_ns=hashed.utc_max_ns,
            sealed_utc_ns=now.utc_ns,
            seal_txt=seal_txt,
            seal_p7s=signer.sign_cms(seal_txt),
            certificate_pem=signer.certificate_pem,
        )
        after = Tail(end, root, hashed.frontier.hashes)
        # A crash before this line leaves nothing; a crash after it leaves a finished batch.
        await store.commit_seal(NewBatch(row, tail, after, tuple(hashed.subtrees)))
        metrics.SEALS.inc()
        metrics.SEALED_RECORDS.inc(end - tail.size)
        self._log.info("batch_sealed", n=row.n, end=end, artifacts=row.artifact_count)
        return row


def _span_of_times(block: list[bytes], text: bytes, end: int) -> tuple[int, int]:
    """Earliest and latest utc of leaves; `text` is the block with a LF after each. Raises IntegrityError."""
    # Times of the same number of digits compare as text like numbers: three times faster than reading each.
    ends = [leaf[-_END_BYTES:] for leaf in block]
    joined = b"".join(ends)
    if joined.startswith(b'"') and joined.endswith(_LEAF_END):
        digits = joined[1 : -len(_LEAF_END)].replace(_LEAF_END + b'"', b"")
        if len(digits) == _TIME_DIGITS * len(block) and digits.isdigit():
            return int(min(ends)[1 : -len(_LEAF_END)]), int(max(ends)[1 : -len(_LEAF_END)])
    times = [int(digits) for digits in _UTC.findall(text)]
    if len(times) != len(block):
        raise IntegrityError(f"a record of the block that ends at seq {end} is damaged: it has no utc_ns")
    return min(times), max(times)


def _frontier_of(tail: Tail, subtrees: list[tuple[int, int, bytes]]) -> Frontier:
    """The frontier of the tail, checked against its root."""
    try:
        frontier = Frontier(tail.size, tail.frontier, lambda level, index, node: subtrees.append((level, index, node)))
    except FormatError as error:
        raise IntegrityError(f"stored checkpoint at {tail.size} records: {error}") from None
    if frontier.root() != tail.root:
        raise IntegrityError(
            f"stored checkpoint at {tail.size} records does not have the root of its frontier; nothing is signed"
        )
    return frontier
