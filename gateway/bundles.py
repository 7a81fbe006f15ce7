"""Bundles of this gateway, made from the store on demand: port `Bundles` over the ports of store, spool and key.

Nothing is kept but the packaging signature of each distinct bundle, so that the same content always has the same
bytes, entity tag and ranges although ECDSA signatures are random. Artifacts are never read here: the tar takes
their hashes from the records and their bytes from the spool while it is streamed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.core.errors import IntegrityError, StoreFull, TransientError
from gateway.core.ports import ArtifactRow, BatchRow, ByteSource, Reader, SignatureCache, Signer, Spool
from gateway.core.record import parse_leaf
from gateway.ledger import merkle
from gateway.ledger.bundle import (
    ArtifactPart,
    BatchParts,
    ExportParts,
    Plan,
    RecordPart,
    SealFiles,
    plan_batch,
    plan_export,
    tar_of,
)
from gateway.ledger.grammar import FormatError
from gateway.ledger.profile import extension_of
from gateway.ledger.trust import load_certificates, load_crls

UNKEPT_SIGNATURES_MAX: Final = 64
"""Signatures held in memory while the store has no room for them."""
_NO_ARTIFACTS: Final = b'"artifacts":[]'
"""In a leaf that names none: leaves are canonical JSON, so this is how the empty list is written."""


class StoreBundles:
    """Port `Bundles`. The authority files are read for every bundle, so that a renewed CRL is in the next one.

    `ca_file`: authorities of gateway and receipt certificates; `tsa_ca_file`: authorities above the time-stamping
    authority; `crl_file`: revocation list. All PEM, the last two optional.
    """

    def __init__(
        self,
        reader: Reader,
        signer: Signer,
        signatures: SignatureCache,
        spool: Spool,
        ca_file: Path,
        tsa_ca_file: Path | None = None,
        crl_file: Path | None = None,
    ) -> None:
        self._reader = reader
        self._signer = signer
        self._signatures = signatures
        self._spool = spool
        self._ca_file = ca_file
        self._tsa_ca_file = tsa_ca_file
        self._crl_file = crl_file
        self._signing = asyncio.Lock()
        self._unkept: OrderedDict[str, bytes] = OrderedDict()

    async def batch(self, n: int, *, artifacts: bool) -> ByteSource:
        """A tar of batch `n`. An artifact that expired, is damaged or is missing on the disk is listed as pending;
        without `artifacts` all are. Raises KeyError for an unknown batch, IntegrityError where the store disagrees
        with the seal, TransientError where an authority file cannot be read."""
        return await self._signed(await asyncio.to_thread(self._plan_batch, n, artifacts))

    async def export(self, seqs: Sequence[int], *, artifacts: bool) -> ByteSource:
        """A tar of single records with inclusion proofs, and of the artifacts that they name. Raises KeyError for
        unknown or unsealed records, otherwise as `batch`."""
        return await self._signed(await asyncio.to_thread(self._plan_export, sorted(set(seqs)), artifacts))

    def _plan_batch(self, n: int, artifacts: bool) -> Plan:
        row = self._reader.batch(n)
        if row is None:
            raise KeyError(n)
        ca_pem, tsa_ca_pem, crl_pem = self._authorities()
        leaves = list(self._reader.leaves(row.first, row.end))
        extensions = _extensions(leaves)
        parts = [
            self._part(item, extensions.get(item.sha256, ""), artifacts)
            for item in self._reader.artifacts_of(row.first, row.end)
        ]
        try:
            return plan_batch(
                BatchParts(
                    seal=_seal_files(row),
                    frontier=row.prev_frontier,
                    records=b"".join(leaf + b"\n" for leaf in leaves),
                    artifacts=parts,
                    sealed_utc=_utc(row.sealed_utc_ns),
                    packer_pem=self._signer.certificate_pem,
                    ca_pem=ca_pem,
                    tsa_ca_pem=tsa_ca_pem,
                    crl_pem=crl_pem,
                )
            )
        except FormatError as error:
            raise IntegrityError(f"batch {n}: the store disagrees with the seal: {error}") from None

    def _plan_export(self, seqs: Sequence[int], artifacts: bool) -> Plan:
        rows: dict[int, BatchRow] = {}
        records: list[RecordPart] = []
        for seq in seqs:
            row = self._reader.batch_of(seq)
            leaf = self._reader.leaf(seq)
            if row is None or leaf is None:
                raise KeyError(seq)
            rows[row.n] = row
            records.append(RecordPart(seq, leaf, merkle.inclusion_path(seq, row.end, self._reader.node)))
        if not rows:
            raise KeyError("no record is named")
        ca_pem, tsa_ca_pem, crl_pem = self._authorities()
        try:
            return plan_export(
                ExportParts(
                    seals=[_seal_files(rows[n]) for n in sorted(rows)],
                    records=records,
                    artifacts=self._named(records, artifacts),
                    sealed_utc=_utc(max(row.sealed_utc_ns for row in rows.values())),
                    packer_pem=self._signer.certificate_pem,
                    ca_pem=ca_pem,
                    tsa_ca_pem=tsa_ca_pem,
                    crl_pem=crl_pem,
                )
            )
        except FormatError as error:
            raise IntegrityError(f"records {seqs[0]}…{seqs[-1]}: the store disagrees with the seals: {error}") from None

    def _named(self, records: Sequence[RecordPart], artifacts: bool) -> list[ArtifactPart]:
        """The artifacts that the records of an export name."""
        extensions = _extensions(item.leaf for item in records)
        rows = [(digest, self._reader.artifact(digest)) for digest in sorted(extensions)]
        missing = [digest for digest, row in rows if row is None]
        if missing:
            raise IntegrityError(f"artifact {missing[0]}: a record names it, the store does not know it")
        return [self._part(row, extensions[digest], artifacts) for digest, row in rows if row is not None]

    def _part(self, row: ArtifactRow, extension: str, wanted: bool) -> ArtifactPart:
        path = self._spool.path(row.sha256)
        good = wanted and row.state == "present" and _size_of(path) == row.size_bytes
        return ArtifactPart(row.sha256, row.size_bytes, extension, path if good else None)

    def _authorities(self) -> tuple[bytes, bytes, bytes]:
        """(CA, CA of the time-stamping authority, CRL) as PEM; the last two empty where there is none."""
        found: list[bytes] = []
        for path, load in (
            (self._ca_file, load_certificates),
            (self._tsa_ca_file, load_certificates),
            (self._crl_file, load_crls),
        ):
            try:
                found.append(path.read_bytes() if path is not None else b"")
                if path is not None:
                    load(found[-1])
            except OSError as error:
                if isinstance(error, FileNotFoundError) and path != self._ca_file:
                    found.append(b"")  # the platform gave none at enrolment
                    continue
                raise TransientError(f"{path}: cannot be read: {error.strerror}") from None
            except FormatError as error:
                raise TransientError(f"{path}: {error}") from None
        return found[0], found[1], found[2]

    async def _signed(self, plan: Plan) -> ByteSource:
        """The tar with its signature: the one made earlier, or a new one that is kept."""
        key = plan.tagmanifest_sha256
        async with self._signing:  # one at a time: two signatures over one tagmanifest would be two bundles
            p7s = self._unkept.get(key) or await asyncio.to_thread(self._reader.bundle_signature, key)
            if p7s is None:
                p7s = await asyncio.to_thread(self._signer.sign_cms, plan.tagmanifest)
                try:
                    await self._signatures.keep_bundle_signature(key, p7s)
                except StoreFull:  # a full disk must not stop the platform from pulling, which makes room again
                    self._unkept[key] = p7s
                    while len(self._unkept) > UNKEPT_SIGNATURES_MAX:
                        self._unkept.popitem(last=False)
        return await asyncio.to_thread(tar_of, plan, p7s)


def _seal_files(row: BatchRow) -> SealFiles:
    return SealFiles(
        seal_txt=row.seal_txt,
        seal_p7s=row.seal_p7s,
        tsr=row.tsr,
        receipt_txt=row.receipt_txt,
        receipt_p7s=row.receipt_p7s,
        receipt_artifacts=row.receipt_artifacts,
    )


def _extensions(leaves: Iterable[bytes]) -> dict[str, str]:
    """File name extension by sha256, from the first record that names each artifact."""
    found: dict[str, str] = {}
    for leaf in leaves:
        if _NO_ARTIFACTS not in leaf:
            try:
                record = parse_leaf(leaf)
            except ValueError as error:
                raise IntegrityError(f"a stored record is not readable: {error}") from None
            for item in record.artifacts:
                found.setdefault(item.sha256, extension_of(item.name))
    return found


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _utc(utc_ns: int) -> datetime:
    return datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC)
