"""Make tests/vectors/ledger again: ``python -m tests.ledger.make_vectors`` from the root of the repository.

Keys, certificates, leaves, texts and Merkle hashes come out the same every time (TEST keys of `bureau`). CMS
signatures and the time-stamp token hold random numbers and the time of the run: run this only when the format
changes, then copy the new texts into the worked example of gateway/ledger/FORMAT.md; test_format.py compares them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from gateway.ledger import bundle, merkle
from tests.ledger.bureau import Bureau, Log, packed, sample_log

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "ledger"


def fixed(log: Log) -> dict[str, bytes]:
    """The files that come out the same every time."""
    hashed = [merkle.leaf_hash(leaf) for leaf in log.leaves]
    tree = {
        "leaf_hashes": [item.hex() for item in hashed],
        "roots": [log.frontier(size).root().hex() for size in range(len(hashed) + 1)],
        "frontiers": [[item.hex() for item in log.frontier(size).hashes] for size in range(len(hashed) + 1)],
        "inclusion_of_7_in_13": [item.hex() for item in merkle.inclusion_path(7, 13, log.node(13))],
        "consistency_5_to_13": [item.hex() for item in merkle.consistency_path(5, 13, log.node(13))],
    }
    seal = log.seal(5, 13)
    receipt_txt, artifacts_txt = log.receipt(seal, log.parts_of(5, 13))
    return {
        "leaves.jsonl": b"".join(leaf + b"\n" for leaf in log.leaves),
        "merkle.json": json.dumps(tree, indent=1).encode() + b"\n",
        "seal.txt": seal.encode(),
        "receipt.txt": receipt_txt,
        "receipt-artifacts.txt": artifacts_txt,
        "ca.pem": log.bureau.ca.pem,
        "tsa-ca.pem": log.bureau.tsa_ca.pem,
    }


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    bureau = Bureau.make()
    with tempfile.TemporaryDirectory() as spool:
        log = sample_log(bureau, Path(spool))
        seals = [log.seal_files(0, 5), log.seal_files(5, 13)]
        for name, content in fixed(log).items():
            (FOLDER / name).write_bytes(content)
        (FOLDER / "batch.tar").write_bytes(packed(bundle.plan_batch(log.batch(5, 13, seals[1])), bureau))
        (FOLDER / "export.tar").write_bytes(packed(bundle.plan_export(log.export([3, 7], seals)), bureau))


if __name__ == "__main__":
    main()
