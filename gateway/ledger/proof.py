"""C2SP tlog-proof: an inclusion proof with the checkpoint that it leads to, in one text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.ledger import checkpoint, grammar
from gateway.ledger.checkpoint import Checkpoint
from gateway.ledger.grammar import FormatError

PROOF_SIZE_MAX_BYTES: Final = 8192

_TEXT = re.compile(
    rf"c2sp\.org/tlog-proof@v1\nindex ({grammar.NUMBER})\n((?:{grammar.BASE64_SHA256}\n)*)\n(.*\n)", re.DOTALL
)


class InclusionProof(NamedTuple):
    """Audit path of one leaf, lowest hash first, towards the root of `checkpoint`."""

    leaf_index: int
    path: tuple[bytes, ...]
    checkpoint: Checkpoint


def encode(index: int, path: Sequence[bytes], checkpoint_txt: bytes) -> bytes:
    """The text; `checkpoint_txt` is what checkpoint.encode gives. Raises FormatError on bad values."""
    grammar.check_number(index, "proof: index")
    checkpoint.parse(checkpoint_txt)
    return b"c2sp.org/tlog-proof@v1\nindex %d\n%s\n%s" % (index, checkpoint.encode_frontier(path), checkpoint_txt)


def parse(content: bytes) -> InclusionProof:
    """Accepts exactly what `encode` writes. Raises FormatError for anything else."""
    match = _TEXT.fullmatch(grammar.text_of(content, "proof", PROOF_SIZE_MAX_BYTES))
    if match is None:
        raise FormatError("proof: not a c2sp.org/tlog-proof@v1 text")
    index, hashes, head = match.groups()
    path = tuple(grammar.hash_of(line) for line in hashes.splitlines())
    return InclusionProof(grammar.number(index), path, checkpoint.parse(head.encode("ascii")))
