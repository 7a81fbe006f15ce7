"""One pass over the payload: every byte is read once, for the file's hash and, in records, for the leaves."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from gateway.core import kinds
from gateway.core.record import LEAF_SIZE_MAX_BYTES, RECORD_VERSION
from gateway.ledger.archive import READ_BYTES, Bag
from gateway.ledger.grammar import FormatError, check_number, check_sha256
from gateway.ledger.merkle import Frontier, leaf_hash

Progress = Callable[[int, int], object]
"""(bytes done, bytes in all)."""


class NamedArtifact(msgspec.Struct, frozen=True):
    """An artifact as a record names it."""

    sha256: str
    size_bytes: int
    media_type: str
    name: str
    name_hex: str


class LeafView(msgspec.Struct, frozen=True):
    """What verification reads of a leaf; the bytes themselves are what is hashed."""

    v: int
    seq: int
    kind: str
    source: str
    device: str
    salt: str
    boot: str
    epoch: int
    mono_ns: str
    utc_ns: str
    device_time: msgspec.Raw
    profile: msgspec.Raw
    data: msgspec.Raw
    raw: str | None
    artifacts: list[NamedArtifact]


_leaf_decoder = msgspec.json.Decoder(LeafView)


def read_leaf(leaf: bytes) -> LeafView:
    """Raises FormatError for bytes that are no record of version 1."""
    if len(leaf) > LEAF_SIZE_MAX_BYTES:
        raise FormatError(f"record of {len(leaf)} bytes, at most {LEAF_SIZE_MAX_BYTES} are allowed")
    try:
        view = _leaf_decoder.decode(leaf)
        int(view.utc_ns)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"not a record: {str(error)[:120]}") from None
    if view.v != RECORD_VERSION:
        raise FormatError(f"record version {view.v} is not known here; use a newer Fieldgate")
    for item in view.artifacts:
        check_sha256(item.sha256, "artifact of the record")
        check_number(item.size_bytes, "artifact of the record: size")
    return view


@dataclass(slots=True)
class Facts:
    """What the records say, gathered while they pass."""

    artifacts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(size_bytes, seq of the first record that names it) by sha256."""
    newest: dict[str, int] = field(default_factory=dict)
    """seq of the newest record by kind, for beacons and clock states."""
    utc_max_ns: int = 0
    problem: tuple[int, str] | None = None
    """(seq, text) of the first record that is wrong in itself."""

    def add(self, seq: int, leaf: bytes) -> None:
        """Take in the record that must be number `seq`."""
        try:
            view = read_leaf(leaf)
            if view.seq != seq:
                raise FormatError(f"says that it is record {view.seq}")
            for item in view.artifacts:
                size_bytes, _ = self.artifacts.setdefault(item.sha256, (item.size_bytes, seq))
                if size_bytes != item.size_bytes:
                    raise FormatError(f"gives artifact {item.sha256} another size than an earlier record")
        except FormatError as error:
            if self.problem is None:
                self.problem = (seq, str(error))
            return
        if view.kind in {kinds.BEACON, kinds.CLOCK_STATE}:
            self.newest[view.kind] = seq
        self.utc_max_ns = max(self.utc_max_ns, int(view.utc_ns))


@dataclass(slots=True)
class Meter:
    """Counts bytes towards the progress callback."""

    total_bytes: int
    progress: Progress | None
    done_bytes: int = 0

    def add(self, count: int) -> None:
        """Note `count` more bytes read."""
        self.done_bytes += count
        if self.progress is not None:
            self.progress(self.done_bytes, self.total_bytes)


def chunks(source: io.RawIOBase, meter: Meter) -> Iterator[memoryview]:
    """The file in pieces of at most 256 KiB, all in the same buffer."""
    buffer = memoryview(bytearray(READ_BYTES))
    while count := source.readinto(buffer):
        meter.add(count)
        yield buffer[:count]


def file_sha256(bag: Bag, name: str, meter: Meter) -> str:
    """Hash a file of any size."""
    digest = sha256()
    with bag.open(name) as source:
        for chunk in chunks(source, meter):
            digest.update(chunk)
    return digest.hexdigest()


def scan_records(bag: Bag, name: str, first: int, frontier: Frontier, meter: Meter) -> tuple[str, Facts]:
    """Hash records.jsonl once for both purposes: returns its SHA-256, and appends its leaves to `frontier`."""
    digest = sha256()
    facts = Facts()
    seq = first
    rest = b""
    with bag.open(name) as source:
        for chunk in chunks(source, meter):
            digest.update(chunk)
            leaves = (rest + chunk).split(b"\n")
            rest = leaves.pop()
            if len(rest) > LEAF_SIZE_MAX_BYTES:
                raise FormatError(f"{name}: record {seq + len(leaves)} is longer than {LEAF_SIZE_MAX_BYTES} bytes")
            frontier.extend(map(leaf_hash, leaves))
            for leaf in leaves:
                facts.add(seq, leaf)
                seq += 1
    if rest and facts.problem is None:
        facts.problem = (seq, "the line is cut: no LF at the end of the file")
    return digest.hexdigest(), facts


def leaves_of(bag: Bag, name: str) -> Iterator[bytes]:
    """The leaves of records.jsonl in order, without reading it whole."""
    rest = b""
    with bag.open(name) as source:
        for chunk in chunks(source, Meter(0, None)):
            leaves = (rest + chunk).split(b"\n")
            rest = leaves.pop()
            if len(rest) > LEAF_SIZE_MAX_BYTES:
                raise FormatError(f"{name}: a record is longer than {LEAF_SIZE_MAX_BYTES} bytes")
            yield from leaves
    if rest:
        raise FormatError(f"{name}: the last line is cut")
