"""Giving back what is held: bundles with their newest receipt, artifacts, both by byte ranges.

A served bundle is packed by the platform: the gateway's packaging signature covers the bundle as it came, without the
receipt. Our signature over each distinct packaging is made once and kept, so that a bundle has stable bytes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.core.errors import IntegrityError
from gateway.core.ports import ByteSource
from gateway.ledger import checkpoint
from gateway.ledger.bundle import ArtifactPart, BatchParts, Plan, SealFiles, TarSource, plan_batch, tar_of
from gateway.ledger.grammar import FormatError
from uplink.platform import durable, evidence
from uplink.platform.evidence import Evidence, StoredReceipt
from uplink.platform.index import Index
from uplink.platform.problems import Refusal
from uplink.platform.receipts import Receipts

_one_range: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileSource:
    """One artifact as a ByteSource."""

    path: Path
    size_bytes: int
    etag: str

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Chunks of [start, end)."""
        return durable.read_range(self.path, start, end)


@dataclass(frozen=True, slots=True)
class Shelf:
    """What can be taken down and read. Synchronous: call from a worker thread."""

    evidence: Evidence
    index: Index
    receipts: Receipts
    tsa_ca_pem: bytes

    def bundle(self, gateway: str, end: int, *, artifacts: bool) -> TarSource:
        """The bundle of one batch; artifacts that have not come are listed as pending. Raises Refusal."""
        if self.index.batch(gateway, end) is None:
            raise Refusal("not-found", f"no batch of {gateway} ends at {end}")
        parts = [
            ArtifactPart(
                item.sha256,
                item.size_bytes,
                item.extension,
                self.evidence.artifact_path(gateway, item.sha256) if artifacts and item.held else None,
            )
            for item in self.index.artifacts_of(gateway, end)
        ]
        try:
            plan = plan_batch(self._batch_parts(gateway, end, parts))
        except FormatError as error:
            raise IntegrityError(f"{self.evidence.batch_folder(gateway, end)}: {error}; restore it") from None
        return tar_of(plan, self._packaging(gateway, end, plan))

    def _batch_parts(self, gateway: str, end: int, artifacts: list[ArtifactPart]) -> BatchParts:
        read, authority = self.evidence.read, self.receipts.authority
        receipt = self.newest_receipt(gateway, end)
        return BatchParts(
            seal=SealFiles(
                seal_txt=read(gateway, end, evidence.SEAL),
                seal_p7s=read(gateway, end, evidence.SEAL_P7S),
                tsr=self.evidence.tsr(gateway, end),
                receipt_txt=receipt.receipt.encode(),
                receipt_p7s=base64.b64decode(receipt.signature),
                receipt_artifacts=receipt.artifacts.encode(),
            ),
            frontier=checkpoint.parse_frontier(read(gateway, end, evidence.FRONTIER)),
            records=read(gateway, end, evidence.RECORDS),
            artifacts=artifacts,
            sealed_utc=self.evidence.note(gateway, end).sealed_utc,
            packer_pem=authority.receipt_pem,
            ca_pem=authority.ca_pem.encode(),
            tsa_ca_pem=self.tsa_ca_pem,
            crl_pem=read(gateway, end, evidence.CRL),
        )

    def newest_receipt(self, gateway: str, end: int) -> StoredReceipt:
        """The newest receipt of a received batch."""
        entry = self.index.newest_receipt(gateway, end)
        if entry is None:
            raise IntegrityError(f"batch {end} of {gateway} has no receipt; restore its folder from the backup")
        return self.evidence.receipt(gateway, end, entry.number)

    def _packaging(self, gateway: str, end: int, plan: Plan) -> bytes:
        path = self.evidence.packaging_path(gateway, end, plan.tagmanifest_sha256)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            signature = self.receipts.sign_bytes(plan.tagmanifest)
            durable.make_folder(path.parent)
            durable.write_atomic(path, signature)
            return signature

    def artifact(self, gateway: str, sha256: str) -> FileSource:
        """One artifact. Raises Refusal where it is not held."""
        entry = self.index.artifact(gateway, sha256)
        if entry is None or not entry.held:
            raise Refusal("not-found", f"artifact {sha256} of {gateway} is not held")
        return FileSource(self.evidence.artifact_path(gateway, sha256), entry.size_bytes, sha256)


def respond(request: Request, source: ByteSource, media_type: str, filename: str) -> Response:
    """GET or HEAD of a byte source: 200, 206, 304 or 416 (RFC 9110 sections 13 and 14); one range, strong validator."""
    tag = f'"{source.etag}"'
    headers = {
        "etag": tag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
        "content-disposition": f'attachment; filename="{filename}"',
    }
    if tag in [item.strip() for item in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    start, end, status = 0, source.size_bytes, 200
    match = _one_range.fullmatch(request.headers.get("range", ""))
    if match is not None and match.group() != "bytes=-" and request.headers.get("if-range", tag) == tag:
        first, last = match.groups()
        start = int(first) if first else max(0, end - int(last))
        stop = min(end, int(last) + 1) if first and last else end
        if start >= stop:
            detail = f"the content has {end} bytes"
            raise Refusal("range-not-satisfiable", detail, headers={"content-range": f"bytes */{end}"})
        headers["content-range"] = f"bytes {start}-{stop - 1}/{end}"
        end, status = stop, 206
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(source.read(start, end), status, headers=headers, media_type=media_type)
