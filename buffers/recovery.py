"""What every start checks before it writes: that the log agrees with itself.

Starting after a clean stop, a kill or a power cut is the same code. SQLite has already rolled the journal forward to
the last durable commit; nothing here repairs anything. Whatever disagrees stops the start with an IntegrityError
that names it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, NoReturn

from buffers.blocks import BLOCK_BITS
from buffers.connection import Connection, one
from buffers.rows import expired_below, iter_leaves, next_seq, read_tail, split_hashes
from gateway.core.errors import IntegrityError
from gateway.core.ports import Tail
from gateway.ledger.grammar import FormatError
from gateway.ledger.merkle import Frontier, leaf_hash

UNSEALED_CHECKED_MAX: Final = 20_000
"""So many unsealed records are counted at start; the sealer meets a hole behind them before it signs."""
SMALL_TABLES: Final = ("meta", "name", "state", "checkpoint", "outbox", "quarantine")
"""Checked page by page at start; `record` and `batch` would take minutes on a full card."""


def check(conn: Connection) -> None:
    """Raise IntegrityError unless tail, last batch, records above it and index agree."""
    for table in SMALL_TABLES:
        answer = one(conn, f"PRAGMA quick_check('{table}')")
        if answer != "ok":
            _stop(f"table {table}: {' '.join(str(answer).split())}")  # SQLite answers in several lines
    tail = read_tail(conn)
    _check_frontier(tail)
    _check_last_batch(conn, tail)
    _check_unsealed(conn, tail)
    end = next_seq(conn)
    blocks = one(conn, "SELECT coalesce(max(n) + 1, 0) FROM block")
    if blocks != end >> BLOCK_BITS:
        _stop(f"the index has {blocks} blocks for {end} records, {end >> BLOCK_BITS} are due")


def _check_frontier(tail: Tail) -> None:
    try:
        root = Frontier(tail.size, tail.frontier).root()
    except FormatError as error:
        _stop(f"checkpoint: {error}")
    if root != tail.root:
        _stop(f"checkpoint of size {tail.size}: its frontier gives root {root.hex()}, it says {tail.root.hex()}")


def _check_last_batch(conn: Connection, tail: Tail) -> None:
    row: Any = conn.execute(
        "SELECT n, first_seq, end_seq, prev_root, root, prev_frontier, records_sha256 FROM batch "
        "ORDER BY n DESC LIMIT 1"
    ).fetchone()
    if row is None:
        if tail.size:
            _stop(f"the checkpoint says {tail.size} sealed records, there is no batch")
        return
    n, first, end, prev_root, root, prev_frontier, records_sha256 = row
    if one(conn, "SELECT count(*) FROM batch") != n:
        _stop(f"the newest batch is {n}, but not all from 1 to {n} are there")
    if end != tail.size or root != tail.root:
        _stop(f"batch {n} ends at {end} with root {root.hex()}, the checkpoint says {tail.size}, {tail.root.hex()}")
    try:
        frontier = Frontier(first, split_hashes(prev_frontier))
    except FormatError as error:
        _stop(f"batch {n}: {error}")
    if frontier.root() != prev_root:
        _stop(f"batch {n}: its frontier at {first} does not give its prev root")
    if first < expired_below(conn):
        _stop(f"batch {n}: its records from {first} count as expired; the newest batch never expires")
    flat = sha256()
    for leaf in iter_leaves(conn, first, end):
        flat.update(leaf + b"\n")
        frontier.append(leaf_hash(leaf))
    if flat.hexdigest() != records_sha256:
        _stop(f"batch {n}: records {first} to {end - 1} are not those that were sealed (records-sha256 differs)")
    if frontier.root() != root:
        _stop(f"batch {n}: records {first} to {end - 1} do not give the sealed root")


def _check_unsealed(conn: Connection, tail: Tail) -> None:
    bound = tail.size + UNSEALED_CHECKED_MAX
    above = one(conn, "SELECT count(*) FROM record WHERE seq >= ? AND seq < ?", (tail.size, bound))
    expected = min(next_seq(conn), bound) - tail.size
    if above != expected:
        _stop(f"of the {expected} records after the last seal, from {tail.size}, only {above} are there")


def _stop(what: str) -> NoReturn:
    raise IntegrityError(
        f"store.db disagrees with itself: {what}. Nothing was changed: keep a copy of the state folder, compare "
        "with what the platform holds, and restore or enrol anew"
    )
