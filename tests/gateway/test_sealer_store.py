"""The sealer on the real store: what comes in through ingest is sealed, survives a restart, and verifies again."""

import asyncio
import hashlib
from pathlib import Path

from cryptography import x509

from buffers.db import Database
from buffers.journal import Journal
from buffers.queries import Queries
from buffers.seals import Seals
from gateway.config import SealConfig
from gateway.core import kinds
from gateway.core.record import Draft
from gateway.ingest import Ingest
from gateway.keys import FileSigner
from gateway.ledger import cms
from gateway.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from gateway.ledger.seal import Seal
from gateway.sealer import Sealer
from tests.gateway.doubles import Moment, at
from tests.gateway.identities import issue

KEY, CERTIFICATE = issue("box-1")
SIGNER = FileSigner(KEY, x509.load_pem_x509_certificate(CERTIFICATE))


async def fill_and_seal(folder: Path, records: int, moment: Moment) -> None:
    """One run of the gateway: records come in, everything due is sealed, the store is closed."""
    database = Database.open(folder, "box-1", commit_window_ms=0, reserve_bytes=0)
    try:
        ingest = Ingest(Journal(database), moment)
        store = Seals(database)
        sealer = Sealer(store, SIGNER, moment, SealConfig(max_records=300), "box-1/evidence", lambda: True)
        await ingest.append([Draft(kinds.CLOCK_STATE, "gateway", "", {"synchronised": True})])
        for first in range(0, records, 50):
            await ingest.append([Draft("position", "s", "d", {"n": first + n}) for n in range(50)])
            await sealer.seal(moment.now())
        while await sealer.seal(moment.now(), whatever_waits=True):
            pass
    finally:
        database.close()


def test_records_are_sealed_over_restarts_and_verify_again(tmp_path: Path) -> None:
    for run in range(3):
        asyncio.run(fill_and_seal(tmp_path, 700, Moment(at(100 * run, epoch=run + 1))))
    database = Database.open_readonly(tmp_path)
    try:
        reader = Queries(database)
        rows = reader.batches(0, 100)
        tree = Frontier()
        assert rows[0].prev_root == EMPTY_ROOT
        for n, row in enumerate(rows, 1):
            assert (row.n, row.first, row.prev_root) == (n, tree.size, tree.root())
            leaves = list(reader.leaves(row.first, row.end))
            tree.extend(leaf_hash(leaf) for leaf in leaves)
            seal = Seal.parse(row.seal_txt)
            assert (seal.first, seal.end, seal.root) == (row.first, row.end, tree.root())
            flat = hashlib.sha256(b"".join(leaf + b"\n" for leaf in leaves)).hexdigest()
            assert (seal.records_sha256, row.records_sha256) == (flat, flat)
            assert seal.clock == max(seq for seq in (0, 701, 1402) if seq < row.end)
            assert cms.verify_detached(row.seal_p7s, row.seal_txt).public_key() == KEY.public_key()
        assert tree.size == reader.next_seq() == 3 * 701
        assert max(row.end - row.first for row in rows) == 300
        assert reader.tail().root == tree.root()
    finally:
        database.close()
