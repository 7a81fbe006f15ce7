"""One gateway with sealed batches: what the API, bundles and the pull client are tested against.

Everything is the real thing: SQLite store, spool, sealer, certificates, signatures, receipts. Only the clock is a
list of chosen moments, and the platform is a key that signs receipts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buffers.db import Database
from buffers.journal import Journal
from buffers.outbox import Outbox
from buffers.queries import Queries
from buffers.seals import Seals
from buffers.signatures import Signatures
from buffers.spool import Spool
from gateway.bundles import StoreBundles
from gateway.config import SealConfig
from gateway.core.instant import Instant
from gateway.core.ports import ArtifactRow, BatchRow, SourceStatus
from gateway.core.record import Artifact, Draft
from gateway.keys import FileSigner
from gateway.ledger import cms
from gateway.ledger.receipt import Receipt, encode_artifacts
from gateway.ledger.trust import Role, Trust
from gateway.sealer import Sealer
from tests.api.authority import Authority

START_UTC_NS = 1_795_500_000_000_000_000  # 2026-11-24T06:00:00Z
NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Box:
    """A gateway on disk: state and authority files in `folder`. Close it at the end."""

    def __init__(
        self,
        folder: Path,
        gateway: str = "gw-0001.example",
        authority: Authority | None = None,
        start_utc_ns: int = START_UTC_NS,
    ) -> None:
        self.folder = folder
        self.start_utc_ns = start_utc_ns
        self.gateway = gateway
        self.origin = f"{gateway}/evidence"
        self.authority = authority or Authority()
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self.authority.pem)
        self.crl_file = folder / "crl.pem"
        self.crl_file.write_bytes(self.authority.crl())
        self.trust = Trust([self.authority.pem])
        certificate, key = self.authority.issue(gateway, Role.GATEWAY.value)
        self.signer = FileSigner(key, certificate)
        self.platform = self.authority.issue("platform", Role.RECEIPT.value)
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self.database = Database.open(self.state_dir, gateway, commit_window_ms=0, reserve_bytes=0)
        self.spool = Spool(self.database, folder / "spool", reserve_bytes=0)
        self.journal = Journal(self.database)
        self.outbox = Outbox(self.database)
        self.reader = Queries(self.database)
        self.sealer = Sealer(Seals(self.database), self.signer, self, SealConfig(), self.origin)
        self.source = SourceStatus(
            "station-1", "station-folder", "ok", since_utc_ns=START_UTC_NS, counters={"files": 3}
        )
        self.signatures = Signatures(self.database)
        self.bundles = StoreBundles(
            self.reader, self.signer, self.signatures, self.spool, self.ca_file, None, self.crl_file
        )

    def close(self) -> None:
        """Close the store."""
        self.database.close()

    def now(self) -> Instant:
        """One second after the newest record (port Clock)."""
        return self.instant(self.reader.next_seq())

    def instant(self, seq: int) -> Instant:
        """Records arrive one second apart."""
        return Instant("0" * 32, 1, seq, self.start_utc_ns + seq * 1_000_000_000)

    def put(self, content: bytes, name: str = "REC_0001.MP4", media_type: str = "video/mp4") -> Artifact:
        """A file in the spool."""
        writer = self.spool.open(name, hashlib.sha256(content).hexdigest(), len(content))
        writer.write(content)
        digest, size_bytes, _ = writer.finish()
        return Artifact(digest, size_bytes, media_type, name, name.encode().hex())

    def record(self, kind: str = "station.file", device: str = "rec-7", *artifacts: Artifact, **values: Any) -> int:
        """One stored record; its seq."""
        return self.records(draft(kind, device, *artifacts, **values))

    def records(self, *drafts: Draft) -> int:
        """Stored records, one commit; the first seq."""
        first = self.reader.next_seq()
        return self.journal.append_blocking([(item, self.instant(first + at)) for at, item in enumerate(drafts)])

    def seal(self) -> BatchRow:
        """Seal everything that is stored and not sealed."""
        row = asyncio.run(self.sealer.seal(self.now(), whatever_waits=True))
        assert row is not None
        return row

    def row(self, n: int) -> BatchRow:
        """Batch `n`, which must exist."""
        row = self.reader.batch(n)
        assert row is not None
        return row

    def artifacts(self, n: int) -> list[ArtifactRow]:
        """The artifacts of batch `n`, the largest first."""
        row = self.row(n)
        return sorted(self.reader.artifacts_of(row.first, row.end), key=lambda item: -item.size_bytes)

    def receipt(
        self, n: int, *, held: Sequence[ArtifactRow] | None = None, **changes: Any
    ) -> tuple[bytes, bytes, bytes]:
        """(text, signature, artifact list) as a platform answers for batch `n`; `changes` to fields of Receipt."""
        row = self.row(n)
        held = self.artifacts(n) if held is None else held
        artifacts = encode_artifacts((item.sha256, item.size_bytes) for item in held)
        receipt = Receipt(
            origin=self.origin,
            first=row.first,
            end=row.end,
            prev_root=row.prev_root,
            root=row.root,
            seal_sha256=hashlib.sha256(row.seal_txt).hexdigest(),
            artifacts_held=len(held),
            artifacts_total=row.artifact_count,
            artifacts_sha256=hashlib.sha256(artifacts).hexdigest(),
            received_utc=datetime(2026, 11, 24, 12, tzinfo=UTC),
            retain_until=datetime(2036, 11, 24, tzinfo=UTC),
            nonce=f"{n:032x}",
        )
        text = replace(receipt, **changes).encode()
        return text, cms.sign_detached(text, *self.platform), artifacts

    def keep_receipt(self, n: int, text: bytes, p7s: bytes, artifacts: bytes) -> None:
        """Store a receipt with its batch."""
        complete = Receipt.parse(text).artifacts_held == self.row(n).artifact_count
        asyncio.run(self.outbox.store_receipt(n, text, p7s, artifacts, complete))

    def change(self, sql: str, *values: int | str | bytes) -> None:
        """Reach under the store's surface: damage, expiry."""
        self.database.call(lambda conn: conn.execute(sql, values).fetchall())

    def expire_records(self, below: int) -> None:
        """What retention leaves behind when records have expired."""
        self.change("DELETE FROM record WHERE seq < ?", below)
        self.change("INSERT OR REPLACE INTO meta (key, value) VALUES ('records_expired_below', ?)", str(below))


def draft(kind: str, device: str, *artifacts: Artifact, **values: Any) -> Draft:
    """A record of station-1."""
    return Draft(kind, "station-1", device, values, artifacts=artifacts)


def filled(folder: Path, **values: Any) -> Box:
    """A box with two sealed batches (12 and 9 records; three artifacts, one of them in both) and 2 unsealed records."""
    box = Box(folder, **values)
    video = box.put(bytes(range(256)) * 2_600, "DSJ_0000000_000000_20250221030623.MP4")
    photo = box.put(b"\xff\xd8photo" * 700, "p.JPG", "image/jpeg")
    box.records(
        draft("station.file", "rec-7", video, size_bytes=5),
        draft("station.file", "rec-8", photo),
        *(draft("position" if at % 2 else "clock.state", f"rec-{at % 3}", number=at) for at in range(10)),
    )
    box.seal()
    box.records(
        draft("station.sighting", "rec-7", video),
        draft("station.file", "rec-9", box.put(b"<html>", "page.html", "text/html")),
        *(draft("position", "rec-1", number=at) for at in range(7)),
    )
    box.seal()
    box.records(draft("position", "rec-1", number=99), draft("alarm", "", code="disk"))
    return box
