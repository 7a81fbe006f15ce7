"""Taking in batches, artifacts and late stamps: verify, compare, store, receipt. In this order, every time.

All functions are synchronous and run in a worker thread; the caller holds the lock of the gateway. Each step is safe
to repeat: after a kill or a full disk anywhere, the same request leads to the same state. The order of a batch:

    1 verify the bundle, recompute both roots      4 rename the folder into its place: from here it is received
    2 compare with what is held: 409               5 index it, append the receipt to the platform's log
    3 write all pieces and the receipt, fsync      6 forget the upload, answer

A folder that was renamed but not indexed is found and indexed at the next start, or by the next request.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway import log
from gateway.core import kinds
from gateway.core.errors import IntegrityError, RejectedError
from gateway.core.record import LEAF_SIZE_MAX_BYTES, parse_leaf
from gateway.ledger import checkpoint, grammar, profile, stamp
from gateway.ledger.archive import Bag, open_bag
from gateway.ledger.scan import read_leaf
from gateway.ledger.seal import Seal
from gateway.ledger.trust import Trust
from gateway.ledger.verify import VerifiedBatch, verify_light
from uplink.platform import durable, evidence
from uplink.platform.evidence import BatchNote, Evidence, NamedArtifact, StoredReceipt
from uplink.platform.index import BatchEntry, Held, Index, ReceiptEntry
from uplink.platform.problems import Refusal
from uplink.platform.receipt_log import ReceiptLog
from uplink.platform.receipts import Receipts, receipt_sha256
from uplink.platform.tus import Upload, no_room

NO_ARTIFACTS: Final = b'"artifacts":[]'
"""How a canonical leaf that names none says so: spares parsing it."""
FORKS_MAX: Final = 64
"""Refused bundles kept as proof per gateway; the first ones prove it."""

_log = log.get("platform")


@dataclass(slots=True)
class Intake:
    """Where evidence becomes the platform's. One per process."""

    evidence: Evidence
    index: Index
    receipts: Receipts
    receipt_log: ReceiptLog
    trust: Callable[[], Trust]
    now: Callable[[], datetime]
    quota_bytes: int
    reserve_bytes: int
    _unsettled: set[str] = field(default_factory=set)
    """Gateways whose index may lag behind their folders, after an error."""

    # ------------------------------------------------------------------ batches

    def take_bundle(self, gateway: str, bundle: Path, upload: Upload | None = None) -> StoredReceipt:
        """Receive a bundle; return the newest receipt of its batch. Raises Refusal.

        `upload` says as what it came, which is checked and remembered.
        """
        self.settle(gateway)
        if upload is not None and durable.sha256_from_disk(bundle) != (upload.sha256, upload.size_bytes):
            detail = "the uploaded bytes are not those that Upload-Metadata names; hash the bundle, upload it again"
            raise Refusal("hash-differs", detail)
        try:
            with open_bag(bundle) as bag:
                batch = verify_light(bag, self.trust(), self.now())
                if batch.seal.origin != grammar.origin_of(gateway):
                    raise _refused(f"its origin is {batch.seal.origin}, not {gateway}/evidence")
                if not self._is_held(gateway, batch, bundle):
                    self._receive(gateway, batch)
                self._take_inside(gateway, batch)
                end = batch.seal.end
        except RejectedError as error:
            _log.warning("bundle_refused", gateway=gateway, reason=str(error), key=gateway)
            raise _refused(str(error)) from None
        if upload is not None:
            self.index.finish(upload.id, gateway, str(end), upload.size_bytes)
        return self.newest_receipt(gateway, end)

    def _is_held(self, gateway: str, batch: VerifiedBatch, bundle: Path) -> bool:
        """True for a repeat, False for the next batch; Refusal (409) for anything else."""
        held, seal = self.index.held(gateway), batch.seal
        seal_sha256 = hashlib.sha256(batch.seal_txt).hexdigest()
        if seal.end <= held.size:
            known = self.index.batch(gateway, seal.end)
            if known is not None and known.seal_sha256 == seal_sha256:
                return True
            raise self._fork(gateway, bundle, seal, held, "another batch is held for this range")
        if seal.first > held.size:
            detail = f"batches from {held.size} to {seal.first} are missing; send from {held.size}"
            raise Refusal("gap", detail, members=_checkpoint_members(held))
        if seal.first < held.size:
            raise self._fork(gateway, bundle, seal, held, "its range overlaps with what is held")
        if seal.prev_root != held.root:
            raise self._fork(gateway, bundle, seal, held, "it continues another history")
        return False

    def _fork(self, gateway: str, bundle: Path, seal: Seal, held: Held, reason: str) -> Refusal:
        """Keep the proof, then refuse."""
        sha256, _ = durable.sha256_from_disk(bundle)
        note = {
            "reason": reason,
            "first": seal.first,
            "end": seal.end,
            "prev_root": grammar.base64_of(seal.prev_root),
            "root": grammar.base64_of(seal.root),
            "held_size": held.size,
            "held_root": grammar.base64_of(held.root),
            "found_utc": grammar.utc_text(self.now()),
        }
        if len(self.evidence.forks(gateway)) < FORKS_MAX:
            self.evidence.keep_fork(bundle, gateway, seal.end, sha256, note)
        _log.error("fork", gateway=gateway, first=seal.first, end=seal.end, held=held.size, reason=reason, key=gateway)
        detail = f"{reason}; {held.size} records are held; stop, call a person: a restored backup or a cloned key"
        return Refusal("fork", detail, members={**_checkpoint_members(held), "reason": reason})

    def _receive(self, gateway: str, batch: VerifiedBatch) -> None:
        """Steps 3 to 5 for the next batch."""
        self._check_room(gateway, batch.bag.total_bytes)
        named = _named_artifacts(batch)
        received = self.now().replace(microsecond=0)
        sealed = datetime.fromtimestamp(batch.bag.mtime_s or 0, received.tzinfo)
        held = [
            (item.sha256, item.size_bytes) for item in named if self._is_sound(gateway, item.sha256, item.size_bytes)
        ]
        receipt = self.receipts.sign(batch.seal_txt, received, held)
        files = {
            evidence.SEAL: batch.seal_txt,
            evidence.SEAL_P7S: batch.seal_p7s,
            evidence.FRONTIER: checkpoint.encode_frontier(batch.frontier),
            profile.TAGMANIFEST: batch.texts[profile.TAGMANIFEST],
            profile.TAGMANIFEST_P7S: batch.texts[profile.TAGMANIFEST_P7S],
            evidence.CRL: self.receipts.authority.crl_pem(self.now()).encode(),
        }
        if batch.tsr is not None:
            files[evidence.TSR] = batch.tsr
        note = BatchNote(received, sealed, named)
        staged = self.evidence.stage_batch(files, _chunks(batch.bag, profile.RECORDS), note, receipt)
        self._unsettled.add(gateway)
        self.evidence.place_batch(staged, gateway, batch.seal.end)
        self._index_batch(gateway, batch.seal.end)
        self._log_receipts()
        self._unsettled.discard(gateway)
        _log.info("batch_received", gateway=gateway, end=batch.seal.end, artifacts=len(named), key=gateway)

    def _check_room(self, gateway: str, size_bytes: int) -> None:
        if durable.free_bytes(self.evidence.folder) < size_bytes + self.reserve_bytes:
            raise no_room("the platform's disk is full up to its reserve")
        if self.quota_bytes and self.index.totals(gateway)["bytes"] + size_bytes > self.quota_bytes:
            raise no_room(f"the quota of {gateway} is used up")

    # ---------------------------------------------------------------- artifacts

    def take_artifact(self, gateway: str, sha256: str, file: Path) -> None:
        """Receive a file that a batch names. Raises Refusal: `not-named`, `hash-differs`, `no-room`."""
        self.settle(gateway)
        entry = self.index.artifact(gateway, sha256)
        if entry is None:
            raise Refusal("not-named", f"no received batch of {gateway} names {sha256}; send its batch first")
        if not self._is_sound(gateway, sha256, entry.size_bytes):
            self._place_artifact(gateway, sha256, entry.size_bytes, file)
        self.refresh_receipts(gateway, sha256)

    def _place_artifact(self, gateway: str, sha256: str, size_bytes: int, file: Path) -> None:
        durable.fsync_file(file)
        if durable.sha256_from_disk(file) != (sha256, size_bytes):
            raise Refusal("hash-differs", f"the upload is not {sha256}; hash your own copy, then upload it again")
        if self.quota_bytes and self.index.totals(gateway)["bytes"] + size_bytes > self.quota_bytes:
            raise no_room(f"the quota of {gateway} is used up")
        self._unsettled.add(gateway)
        self.evidence.place_artifact(file, gateway, sha256)
        self.index.set_held(gateway, sha256, held=True)
        self._unsettled.discard(gateway)

    def _take_inside(self, gateway: str, batch: VerifiedBatch) -> None:
        """The artifact files that came inside the bundle; verified there, hashed again here from our own disk."""
        for name in batch.bag.names:
            if not name.startswith(profile.ARTIFACTS):
                continue
            sha256 = profile.artifact_of(name)
            entry = self.index.artifact(gateway, sha256)
            if entry is None or entry.held:
                continue
            self._check_room(gateway, entry.size_bytes)
            staged = self.evidence.stage_file(_chunks(batch.bag, name))
            try:
                self.take_artifact(gateway, sha256, staged)
            finally:
                staged.unlink(missing_ok=True)

    def _is_sound(self, gateway: str, sha256: str, size_bytes: int) -> bool:
        """Whether our disk gives the artifact back: asked before a receipt of a batch first names it."""
        if self.evidence.artifact_is_sound(gateway, sha256, size_bytes):
            return True
        entry = self.index.artifact(gateway, sha256)
        if entry is not None and entry.held:
            _log.error("artifact_damaged", gateway=gateway, sha256=sha256, key=sha256)
            self.index.set_held(gateway, sha256, held=False)
        return False

    # ----------------------------------------------------------------- receipts

    def newest_receipt(self, gateway: str, end: int) -> StoredReceipt:
        """The newest receipt of a received batch."""
        entry = self.index.newest_receipt(gateway, end)
        if entry is None:
            raise IntegrityError(f"batch {end} of {gateway} has no receipt; restore its folder from the backup")
        return self.evidence.receipt(gateway, end, entry.number)

    def refresh_receipts(self, gateway: str, sha256: str) -> None:
        """A newer receipt for each batch that names the artifact and whose newest receipt does not."""
        for end in self.index.naming(gateway, sha256):
            if f"{sha256}  " in self.newest_receipt(gateway, end).artifacts:
                continue
            held = [(item.sha256, item.size_bytes) for item in self.index.artifacts_of(gateway, end) if item.held]
            seal_txt = self.evidence.read(gateway, end, evidence.SEAL)
            receipt = self.receipts.sign(seal_txt, self.evidence.note(gateway, end).received_utc, held)
            self._unsettled.add(gateway)
            self.evidence.write_receipt(gateway, self.evidence.receipt_numbers(gateway, end)[-1] + 1, receipt)
            self._index_receipts(gateway, end)
            self._log_receipts()
            self._unsettled.discard(gateway)

    def receipts_of(self, gateway: str, sha256: str) -> list[StoredReceipt]:
        """The newest receipts of all batches that name an artifact, by end."""
        return [self.newest_receipt(gateway, end) for end in self.index.naming(gateway, sha256)]

    # ----------------------------------------------------------- stamps, alarms

    def take_stamp(self, gateway: str, end: int, tsr: bytes) -> None:
        """Keep the token of a batch that came without. Raises Refusal."""
        self.settle(gateway)
        if self.index.batch(gateway, end) is None:
            raise Refusal("not-found", f"no batch of {gateway} ends at {end}")
        try:
            stamp.verify_token(tsr, self.evidence.read(gateway, end, evidence.SEAL_P7S), self.trust())
        except RejectedError as error:
            raise Refusal("stamp-refused", str(error), members={"reason": str(error)}) from None
        if self.evidence.tsr(gateway, end) is None:
            durable.write_atomic(self.evidence.batch_folder(gateway, end) / evidence.TSR, tsr)
        self.index.set_stamped(gateway, end)

    def take_alarm(self, gateway: str, leaf: bytes) -> None:
        """Keep an advisory copy of an alarm record. Raises Refusal."""
        if len(leaf) > LEAF_SIZE_MAX_BYTES:
            raise Refusal(
                "too-large", f"a leaf has at most {LEAF_SIZE_MAX_BYTES} bytes", members={"limit": LEAF_SIZE_MAX_BYTES}
            )
        try:
            record = parse_leaf(leaf)
            grammar.check_number(record.seq, "seq")
        except ValueError as error:
            raise Refusal("leaf-refused", str(error), members={"reason": str(error)}) from None
        if record.kind != kinds.ALARM:
            raise Refusal("leaf-refused", f"a record of kind {record.kind!r}, not an alarm")
        self.index.add_alarm(gateway, record.seq, leaf, grammar.utc_text(self.now()))

    # ----------------------------------------------------------------- recovery

    def settle(self, gateway: str) -> None:
        """Bring the index up to the folders where an error may have left it behind."""
        if gateway in self._unsettled:
            self._adopt(gateway)
            self._relate_log()
            self._log_receipts()
            self._unsettled.discard(gateway)

    def recover(self) -> None:
        """At every start: index what is on disk and not known, stop where something known is gone."""
        for gateway in self.evidence.gateways():
            self._adopt(gateway)
        self._relate_log()
        self._log_receipts()

    def _adopt(self, gateway: str) -> None:
        on_disk, known = self.evidence.ends(gateway), self.index.ends(gateway)
        if lost := sorted(known - on_disk):
            path = self.evidence.batch_folder(gateway, lost[0])
            raise IntegrityError(f"{path} is gone ({len(lost)} batches are); restore it from the backup")
        for end in sorted(on_disk - known):
            self._index_batch(gateway, end)
        for end in self.index.open_ends(gateway):
            if self.evidence.tsr(gateway, end) is not None:
                self.index.set_stamped(gateway, end)
            self._index_receipts(gateway, end)
            for item in self.index.artifacts_of(gateway, end):
                if not item.held and self.evidence.artifact_is_sound(gateway, item.sha256, item.size_bytes):
                    self.index.set_held(gateway, item.sha256, held=True)

    def _index_batch(self, gateway: str, end: int) -> None:
        """Index one folder. Raises IntegrityError where it does not continue what is held."""
        path = self.evidence.batch_folder(gateway, end)
        seal_txt = self.evidence.read(gateway, end, evidence.SEAL)
        try:
            seal = Seal.parse(seal_txt)
        except ValueError as error:
            raise IntegrityError(f"{path}: {error}; restore it from the backup") from None
        held, note = self.index.held(gateway), self.evidence.note(gateway, end)
        if (seal.first, seal.prev_root, seal.end, seal.origin) != (
            held.size,
            held.root,
            end,
            grammar.origin_of(gateway),
        ):
            raise IntegrityError(f"{path} does not continue the batch before it; restore the folder from the backup")
        entry = BatchEntry(
            gateway=gateway,
            end=end,
            first=seal.first,
            n=held.batches + 1,
            prev_root=seal.prev_root,
            root=seal.root,
            seal_sha256=hashlib.sha256(seal_txt).hexdigest(),
            size_bytes=self.evidence.size_bytes(gateway, end),
            artifact_count=seal.artifact_count,
            artifact_bytes=seal.artifact_bytes,
            received_utc=grammar.utc_text(note.received_utc),
            stamped=self.evidence.tsr(gateway, end) is not None,
        )
        with self.index.transaction():
            self.index.add_batch(entry, [(item.sha256, item.size_bytes, item.extension) for item in note.artifacts])
            self._index_receipts(gateway, end)

    def _index_receipts(self, gateway: str, end: int) -> None:
        """Index the receipts of a batch that are not known; what a receipt names is held."""
        newest = self.index.newest_receipt(gateway, end)
        for number in self.evidence.receipt_numbers(gateway, end):
            if newest is not None and number <= newest.number:
                continue
            stored = self.evidence.receipt(gateway, end, number)
            held = [line[:64] for line in stored.artifacts.splitlines()]
            self.index.add_receipt(gateway, end, ReceiptEntry(number, receipt_sha256(stored), len(held)))
            for sha256 in held:
                self.index.set_held(gateway, sha256, held=self.evidence.artifact_path(gateway, sha256).exists())

    def _log_receipts(self) -> None:
        """Append to the platform's log what is not in it."""
        for gateway, end, number, sha256 in self.index.unlogged():
            place = self.receipt_log.append(gateway, end, number, sha256, self.now())
            self.index.set_logged(gateway, end, number, place)

    def _relate_log(self) -> None:
        """Tell the index which receipts the log holds already, after a crash between the two."""
        known = self.index.logged()
        if known > self.receipt_log.checkpoint()[0]:
            raise IntegrityError(f"{self.receipt_log.path} is shorter than it was ({known} entries); restore it")
        for line in self.receipt_log.entries(known, self.receipt_log.checkpoint()[0]):
            leaf = json.loads(line)
            self.index.set_logged(leaf["gateway"], leaf["end"], leaf["number"], leaf["seq"])


def _refused(reason: str) -> Refusal:
    return Refusal("bundle-refused", reason, members={"reason": reason})


def _checkpoint_members(held: Held) -> dict[str, object]:
    return {"size": held.size, "root": grammar.base64_of(held.root)}


def _named_artifacts(batch: VerifiedBatch) -> list[NamedArtifact]:
    """What the records name, with the extension of the first record that names it."""
    extensions: dict[str, str] = {}
    if batch.artifacts:
        for leaf in batch.records():
            if NO_ARTIFACTS not in leaf:
                for item in read_leaf(leaf).artifacts:
                    extensions.setdefault(item.sha256, profile.extension_of(item.name))
    return [NamedArtifact(sha256, size, extensions.get(sha256, "")) for sha256, size in sorted(batch.artifacts.items())]


def _chunks(bag: Bag, name: str) -> Iterable[bytes]:
    with bag.open(name) as source:
        while chunk := source.read(durable.CHUNK_BYTES):
            yield chunk
