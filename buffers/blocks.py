"""The index over records: one row per 1024 of them, written once when the block is full.

An index entry per record would touch a page per device and commit (measured: 4 kB per record with 100 devices);
a block costs about 20 bytes per record and one page per 1024. A question looks at the rows of the blocks (their
names and time range, some 10,000 rows for ten million records) and then scans only blocks that can hold an answer.
Kind, device and their combination are names of a block, so a block that matches holds at least one record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from buffers.connection import Connection, Value, one

BLOCK_BITS: Final = 10
BLOCK_SIZE: Final = 1 << BLOCK_BITS


def index_full_blocks(conn: Connection, first: int, end: int) -> None:
    """After an append of [first, end): write the row of every block that it filled."""
    for n in range(first >> BLOCK_BITS, end >> BLOCK_BITS):
        _index(conn, n)


def _index(conn: Connection, n: int) -> None:
    start = n << BLOCK_BITS
    groups = conn.execute(
        "SELECT kind, device, min(utc_ns), max(utc_ns) FROM record WHERE seq >= ? AND seq < ? GROUP BY kind, device",
        (start, start + BLOCK_SIZE),
    ).fetchall()
    pairs = [(kind, device) for kind, device, _, _ in groups]
    kinds = sorted({kind for kind, _ in pairs})
    devices = sorted({device for _, device in pairs})
    names = [f"k{kind}" for kind in kinds]
    names += [f"d{device}" for device in devices]
    names += [f"k{kind}d{device}" for kind, device in pairs]
    utc_min, utc_max = min(group[2] for group in groups), max(group[3] for group in groups)
    conn.execute("INSERT INTO block VALUES (?, ?, ?, ?)", (n, utc_min, utc_max, f",{','.join(names)},"))
    conn.executemany("UPDATE name SET last_block = ? WHERE id = ?", ((n, name) for name in {*kinds, *devices}))


def ranges_holding(
    conn: Connection,
    *,
    kind: int | None,
    device: int | None,
    from_utc_ns: int | None,
    to_utc_ns: int | None,
    first: int,
    end: int,
) -> Iterator[tuple[int, int]]:
    """Ranges of seq inside [first, end) that can hold what is asked for, ascending: at most a block each."""
    wanted = ("" if kind is None else f"k{kind}") + ("" if device is None else f"d{device}")
    sql = "SELECT n FROM block WHERE n >= ? AND n <= ?"
    parameters: list[Value] = [first >> BLOCK_BITS, (end - 1) >> BLOCK_BITS]
    if wanted:
        sql += " AND instr(names, ?)"
        parameters.append(f",{wanted},")
    if from_utc_ns is not None:
        sql += " AND utc_max_ns >= ?"
        parameters.append(from_utc_ns)
    if to_utc_ns is not None:
        sql += " AND utc_min_ns < ?"
        parameters.append(to_utc_ns)
    for (n,) in conn.execute(sql + " ORDER BY n", parameters):
        yield max(first, n << BLOCK_BITS), min(end, (n + 1) << BLOCK_BITS)
    open_block = one(conn, "SELECT coalesce(max(n) + 1, 0) FROM block") << BLOCK_BITS
    if open_block < end:
        yield max(first, open_block), end


def newest(conn: Connection, kind: str, below: int) -> int | None:
    """seq of the newest record of a kind with seq < below. Looks at the open block, then backwards from the newest
    block that holds the name: O(1) unless `below` lies far back."""
    row = conn.execute("SELECT id, last_block FROM name WHERE text = ?", (kind,)).fetchone()
    if row is None or below <= 0:
        return None
    name, last_block = row
    in_range = "SELECT seq FROM record WHERE seq >= ? AND seq < ? AND kind = ? ORDER BY seq DESC LIMIT 1"
    open_block = one(conn, "SELECT coalesce(max(n) + 1, 0) FROM block") << BLOCK_BITS
    if below > open_block:
        found = one(conn, in_range, (open_block, below, name))
        if found is not None:
            return int(found)
    if last_block is None:
        return None
    blocks = "SELECT n FROM block WHERE n <= ? AND instr(names, ?) ORDER BY n DESC"
    for (n,) in conn.execute(blocks, (min(last_block, (below - 1) >> BLOCK_BITS), f",k{name},")):
        found = one(conn, in_range, (n << BLOCK_BITS, min(below, (n + 1) << BLOCK_BITS), name))
        if found is not None:
            return int(found)
    return None


def any_since(conn: Connection, kinds: Iterable[str], first: int) -> bool:
    """Whether a record of one of these kinds has seq >= first."""
    return any((found := newest(conn, kind, 1 << 62)) is not None and found >= first for kind in kinds)
