"""One pass over the payload: every byte is read once, for the file's hash and, in records, for the leaves."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from gateway.core import kinds
from gateway.core.record import LEAF_SIZE_MAX_BYTES, RECORD_VERSION
from gateway.ledger.archive import READ_BYTES, Bag
from gateway.ledger.grammar import NONCE, FormatError, check_number, check_sha256
from gateway.ledger.merkle import Frontier

DIGITS_MAX: Final = 20
"""Of a time in nanoseconds."""

Progress = Callable[[int, int], object]
"""(bytes done, bytes in all)."""


class NamedArtifact(msgspec.Struct, frozen=True):
    """An artifact as a record names it."""

    sha256: str
    size_bytes: int
    media_type: str
    name: str
    name_hex: str


class LeafView(msgspec.Struct, frozen=True, gc=False):
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
    device_time: object
    profile: object
    data: object
    raw: str | None
    artifacts: list[NamedArtifact]


def _no_float(text: str) -> object:
    raise FormatError(f"holds the floating-point number {text[:40]}")


_leaf_decoder = msgspec.json.Decoder(LeafView, float_hook=_no_float)
_any_decoder = msgspec.json.Decoder(float_hook=_no_float)
_encoder = msgspec.json.Encoder(order="sorted")
_nonce = re.compile(NONCE)


def read_leaf(leaf: bytes) -> LeafView:
    """Raises FormatError for bytes that are no record of version 1."""
    if len(leaf) > LEAF_SIZE_MAX_BYTES:
        raise FormatError(f"record of {len(leaf)} bytes, at most {LEAF_SIZE_MAX_BYTES} are allowed")
    try:
        view = _leaf_decoder.decode(leaf)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"not a record: {str(error)[:120]}") from None
    _check_view(view)
    return view


def _check_view(view: LeafView) -> None:
    if not (view.utc_ns.isdigit() and view.utc_ns.isascii() and len(view.utc_ns) <= DIGITS_MAX):
        raise FormatError(f"not a record: its utc_ns is {view.utc_ns[:40]!r}, not a decimal number")
    if view.v != RECORD_VERSION:
        raise FormatError(f"record version {view.v} is not known here; use a newer Fieldgate")
    for item in view.artifacts:
        check_sha256(item.sha256, "artifact of the record")
        check_number(item.size_bytes, "artifact of the record: size")


def _is_canonical(leaf: bytes) -> bool:
    """Whether a leaf, perhaps with keys of a later version, is the only text of what it says.

    A doubled key would mean two things to two readers.
    """
    try:
        return bool(_encoder.encode(_any_decoder.decode(leaf)) == leaf)
    except (msgspec.MsgspecError, RecursionError):
        return False


@dataclass(slots=True)
class Facts:
    """What the records say, gathered while they pass."""

    artifacts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(size_bytes, seq of the first record that names it) by sha256."""
    newest: dict[str, int] = field(default_factory=dict)
    """seq of the newest record by kind, for beacons and clock states."""
    nonce: str | None = None
    """What the newest beacon among the records repeats."""
    utc_max_ns: int = 0
    problem: tuple[int, str] | None = None
    """(seq, text) of the first record that is wrong in itself."""

    def add_lines(self, first: int, leaves: list[bytes], lines: bytes) -> None:
        """Take in the records from number `first` on; `lines` is each leaf followed by LF."""
        try:
            views = _leaf_decoder.decode_lines(lines)
            as_written = len(views) == len(leaves) and _encoder.encode_lines(views) == lines
        except (msgspec.MsgspecError, ValueError, RecursionError):
            as_written = False
        if as_written and len(max(leaves, key=len, default=b"")) <= LEAF_SIZE_MAX_BYTES:
            for seq, view in enumerate(views, first):
                self._take(seq, view)
        else:  # one by one, to say which is wrong; or they are of a later version
            for seq, leaf in enumerate(leaves, first):
                self.add(seq, leaf)

    def add(self, seq: int, leaf: bytes) -> None:
        """Take in the record that must be number `seq`."""
        try:
            view = read_leaf(leaf)
            if not _is_canonical(leaf):
                raise FormatError("is not the one text of what it says: a key is doubled, or the spelling is another")
        except FormatError as error:
            self._note(seq, error)
            return
        self._take(seq, view)

    def _take(self, seq: int, view: LeafView) -> None:
        try:
            _check_view(view)
            if view.seq != seq:
                raise FormatError(f"says that it is record {view.seq}")
            for item in view.artifacts:
                size_bytes, _ = self.artifacts.setdefault(item.sha256, (item.size_bytes, seq))
                if size_bytes != item.size_bytes:
                    raise FormatError(f"gives artifact {item.sha256} another size than an earlier record")
        except FormatError as error:
            self._note(seq, error)
            return
        if view.kind in _POINTED:
            self.newest[view.kind] = seq
            if view.kind == kinds.BEACON:
                self.nonce = _nonce_of(view.data)
        self.utc_max_ns = max(self.utc_max_ns, int(view.utc_ns))

    def _note(self, seq: int, error: FormatError) -> None:
        if self.problem is None:
            self.problem = (seq, str(error))


_POINTED: Final = frozenset({kinds.BEACON, kinds.CLOCK_STATE})


def _nonce_of(data: object) -> str | None:
    nonce = data.get("nonce") if isinstance(data, dict) else None
    return nonce if isinstance(nonce, str) and _nonce.fullmatch(nonce) else None


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


class Scanned(NamedTuple):
    """One pass over records.jsonl."""

    sha256: str
    leaves_sha256: str
    """Of the leaf hashes one after the other: what proof/leaves must have."""
    facts: Facts


def scan_records(bag: Bag, name: str, first: int, frontier: Frontier, meter: Meter) -> Scanned:
    """Hash records.jsonl once for all purposes, and append its leaves to `frontier`."""
    digest, leaves_digest = sha256(), sha256()
    facts = Facts()
    seq = first
    rest = b""
    with bag.open(name) as source:
        for chunk in chunks(source, meter):
            digest.update(chunk)
            lines = rest + chunk
            leaves = lines.split(b"\n")
            rest = leaves.pop()
            if len(rest) > LEAF_SIZE_MAX_BYTES:
                raise FormatError(f"{name}: record {seq + len(leaves)} is longer than {LEAF_SIZE_MAX_BYTES} bytes")
            hashes = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
            leaves_digest.update(b"".join(hashes))
            frontier.extend(hashes)
            facts.add_lines(seq, leaves, lines[: len(lines) - len(rest)])
            seq += len(leaves)
    if rest and facts.problem is None:
        facts.problem = (seq, "the line is cut: no LF at the end of the file")
    return Scanned(digest.hexdigest(), leaves_digest.hexdigest(), facts)


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
