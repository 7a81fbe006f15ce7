"""RFC 6962 / RFC 9162 Merkle tree: hashes, frontier, inclusion and consistency proofs.

Leaf hash SHA-256(0x00 || leaf), node hash SHA-256(0x01 || left || right).

Size 0: the root of the empty tree is EMPTY_ROOT, SHA-256 of nothing. Nothing is included in it, and a consistency
proof from or to size 0 is refused, with or without hashes: it would prove nothing. Whoever starts from size 0
compares the root with EMPTY_ROOT instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import islice
from typing import Final

from gateway.ledger.grammar import HASH_SIZE_BYTES, FormatError

EMPTY_ROOT: Final = sha256(b"").digest()
SUBTREE_LEVELS: Final = 8
"""Perfect subtrees are reported at levels 8, 16, 24, … (256, 65536, … leaves)."""
_CHUNK_LEAVES: Final = 1 << SUBTREE_LEVELS

NodeOf = Callable[[int, int], bytes]
"""(level, index) -> hash of the perfect subtree over leaves [index << level, (index + 1) << level)."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf's stored bytes."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The hashes of the perfect subtrees that a tree of `size` leaves is made of, largest first.

    Appending needs nothing else, so a receiver of the frontier at `prev` and of the new leaves recomputes both
    roots. `on_subtree(level, index, hash)` is called for each subtree completed at levels 8, 16, 24, ….
    """

    __slots__ = ("_hashes", "_on_subtree", "_size")

    def __init__(
        self,
        size: int = 0,
        hashes: Sequence[bytes] = (),
        on_subtree: Callable[[int, int, bytes], object] | None = None,
    ) -> None:
        """Raises FormatError where the hashes cannot belong to `size`."""
        if size < 0 or len(hashes) != size.bit_count() or any(len(item) != HASH_SIZE_BYTES for item in hashes):
            raise FormatError(f"frontier of {len(hashes)} hashes does not belong to a tree of {size} leaves")
        self._size = size
        self._hashes = list(hashes)
        self._on_subtree = on_subtree

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Perfect-subtree hashes, largest subtree first."""
        return tuple(self._hashes)

    def append(self, hashed: bytes) -> None:
        """Add one leaf by its leaf hash."""
        self._push(0, hashed)

    def extend(self, hashed: Iterable[bytes]) -> None:
        """Add many leaves by their leaf hashes: the same result as `append` for each, in half the time."""
        source = iter(hashed)
        for item in islice(source, -self._size % _CHUNK_LEAVES):
            self._push(0, item)
        while chunk := list(islice(source, _CHUNK_LEAVES)):
            if len(chunk) < _CHUNK_LEAVES:
                for item in chunk:
                    self._push(0, item)
                return
            while len(chunk) > 1:
                pairs = iter(chunk)
                chunk = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            self._push(SUBTREE_LEVELS, chunk[0])

    def _push(self, level: int, hashed: bytes) -> None:
        """Add a perfect subtree of 2^level leaves; `size` is a multiple of that."""
        end = self._size + (1 << level)
        index = self._size >> level
        hashes = self._hashes
        if self._on_subtree is not None and level == SUBTREE_LEVELS:
            self._on_subtree(level, index, hashed)
        while index & 1:
            hashed = sha256(b"\x01" + hashes.pop() + hashed).digest()
            index >>= 1
            level += 1
            if self._on_subtree is not None and level % SUBTREE_LEVELS == 0:
                self._on_subtree(level, index, hashed)
        hashes.append(hashed)
        self._size = end

    def root(self) -> bytes:
        """Root of the tree; EMPTY_ROOT at size 0."""
        return _fold(self._hashes) if self._hashes else EMPTY_ROOT


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Join perfect subtrees, largest first, from the right."""
    result = hashes[-1]
    for item in reversed(hashes[:-1]):
        result = node_hash(item, result)
    return result


def _range_hash(first: int, end: int, node: NodeOf) -> bytes:
    """Root over leaves [first, end); `first` is aligned to the largest perfect subtree inside."""
    parts = []
    while first < end:
        level = (end - first).bit_length() - 1
        parts.append(node(level, first >> level))
        first += 1 << level
    return _fold(parts)


def _split(count: int) -> int:
    """The largest power of two below `count` (RFC 6962 section 2.1)."""
    return 1 << (count - 1).bit_length() - 1


def inclusion_path(index: int, size: int, node: NodeOf) -> list[bytes]:
    """Audit path of leaf `index` in the tree of `size` leaves (RFC 6962 section 2.1.1), lowest first."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    first, end = 0, size
    path: list[bytes] = []
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(_range_hash(middle, end, node))
            end = middle
        else:
            path.append(_range_hash(first, middle, node))
            first = middle
    path.reverse()
    return path


def consistency_path(size1: int, size2: int, node: NodeOf) -> list[bytes]:
    """Proof that the tree of `size1` is a prefix of the tree of `size2` (RFC 6962 section 2.1.2)."""
    if not 0 < size1 <= size2:
        raise ValueError(f"no consistency proof from size {size1} to size {size2}")
    first, end = 0, size2
    path: list[bytes] = []
    while size1 != end:
        middle = first + _split(end - first)
        if size1 <= middle:
            path.append(_range_hash(middle, end, node))
            end = middle
        else:
            path.append(_range_hash(first, middle, node))
            first = middle
    if first:
        path.append(_range_hash(first, end, node))
    path.reverse()
    return path


def verify_inclusion(hashed: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `hashed` is leaf `index` of the tree with this size and root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or not _all_hashes((hashed, root, *path)):
        return False
    position, last = index, size - 1
    result = hashed
    for item in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            result = node_hash(item, result)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            result = node_hash(result, item)
        position >>= 1
        last >>= 1
    return last == 0 and result == root


def verify_consistency(size1: int, size2: int, path: Sequence[bytes], root1: bytes, root2: bytes) -> bool:
    """Whether the tree (size1, root1) is a prefix of (size2, root2) (RFC 9162 section 2.1.4.2)."""
    if not 0 < size1 <= size2:
        return False
    if size1 == size2:
        return not path and root1 == root2
    if not _all_hashes((root1, root2, *path)):
        return False
    steps = list(path)
    if size1 & (size1 - 1) == 0:  # a perfect tree: its root is the first step itself
        steps.insert(0, root1)
    if not steps:
        return False
    position, last = size1 - 1, size2 - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = steps[0]
    for item in steps[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old = node_hash(item, old)
            new = node_hash(item, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, item)
        position >>= 1
        last >>= 1
    return last == 0 and old == root1 and new == root2


def _all_hashes(items: Iterable[bytes]) -> bool:
    return all(len(item) == HASH_SIZE_BYTES for item in items)
