"""The three lines of a C2SP tlog-checkpoint, and the frontier file beside it (FORMAT.md, "Checkpoint")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.ledger import grammar
from gateway.ledger.grammar import FormatError

CHECKPOINT_SIZE_MAX_BYTES: Final = 256
FRONTIER_SIZE_MAX_BYTES: Final = 53 * 45

_TEXT = re.compile(rf"({grammar.ORIGIN})\n({grammar.NUMBER})\n({grammar.BASE64_SHA256})\n")
_FRONTIER = re.compile(rf"(?:{grammar.BASE64_SHA256}\n)*")


class Checkpoint(NamedTuple):
    """Size and root of one log."""

    origin: str
    size: int
    root: bytes


def encode(origin: str, size: int, root: bytes) -> bytes:
    """Origin, size and root, one per line. Raises FormatError on bad values."""
    grammar.gateway_id_of(origin)
    grammar.check_number(size, "checkpoint: size")
    grammar.check_hash(root, "checkpoint: root")
    return f"{origin}\n{size}\n{grammar.base64_of(root)}\n".encode("ascii")


def parse(content: bytes) -> Checkpoint:
    """Accepts exactly what `encode` writes. Raises FormatError for anything else."""
    match = _TEXT.fullmatch(grammar.text_of(content, "checkpoint", CHECKPOINT_SIZE_MAX_BYTES))
    if match is None:
        raise FormatError("checkpoint: expected three lines: origin, size, root")
    origin, size, root = match.groups()
    grammar.gateway_id_of(origin)
    return Checkpoint(origin, grammar.number(size), grammar.hash_of(root))


def encode_frontier(hashes: Sequence[bytes]) -> bytes:
    """One base64 hash per line, largest subtree first; empty for a tree of size 0."""
    for item in hashes:
        grammar.check_hash(item, "frontier")
    return "".join(f"{grammar.base64_of(item)}\n" for item in hashes).encode("ascii")


def parse_frontier(content: bytes) -> tuple[bytes, ...]:
    """Accepts exactly what `encode_frontier` writes. Raises FormatError for anything else."""
    text = grammar.text_of(content, "frontier", FRONTIER_SIZE_MAX_BYTES)
    if not _FRONTIER.fullmatch(text):
        raise FormatError("frontier: expected one base64 hash per line")
    return tuple(grammar.hash_of(line) for line in text.splitlines())
