"""The evidence folders: what the platform holds, as plain files. They are the truth; the index can be lost.

gateways/<id>/batches/<end, 16 digits>/    one received batch; the folder appears whole, by rename
    batch.json  records.jsonl  seal.txt  seal.txt.p7s  seal.txt.p7s.tsr  frontier  crl.pem
    tagmanifest-sha256.txt  tagmanifest-sha256.txt.p7s      packaging as the gateway signed it
    receipts/<number, 6 digits>.json                        answers as they were given, newest last
    packaging/<sha256>.p7s                                  our signatures over bundles that were served
gateways/<id>/artifacts/<2 digits>/<sha256>    files by content
gateways/<id>/forks/<size>-<sha256>.tar .json  refused bundles of another history, as proof
gateways/<id>/damaged/                         artifacts that were found changed on our own disk
staging/                                       half-made folders; emptied at every start
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.errors import IntegrityError
from uplink.platform import durable

RECEIPTS: Final = "receipts"
PACKAGING: Final = "packaging"
SEAL: Final = "seal.txt"
SEAL_P7S: Final = "seal.txt.p7s"
TSR: Final = "seal.txt.p7s.tsr"
FRONTIER: Final = "frontier"
RECORDS: Final = "records.jsonl"
CRL: Final = "crl.pem"
NOTE: Final = "batch.json"


class NamedArtifact(msgspec.Struct, frozen=True, array_like=True):
    """An artifact that the records of a batch name."""

    sha256: str
    size_bytes: int
    extension: str


class BatchNote(msgspec.Struct, frozen=True):
    """What the seal does not say: when the batch came, when it was sealed, what its records name."""

    received_utc: datetime
    sealed_utc: datetime
    artifacts: list[NamedArtifact]


class StoredReceipt(msgspec.Struct, frozen=True):
    """A receipt as the gateway gets it (WIRE.md section 5)."""

    end: int
    receipt: str
    signature: str
    """Base64 of the CMS signature."""
    artifacts: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The folders below `data_dir`."""

    folder: Path

    def prepare(self) -> None:
        """Make what is missing, empty the staging folder."""
        shutil.rmtree(self.folder / "staging", ignore_errors=True)
        for name in ("staging", "gateways", "uploads", "enrolment", "log"):
            durable.make_folder(self.folder / name)

    # ---------------------------------------------------------------- batches

    def batch_folder(self, gateway: str, end: int) -> Path:
        """Where a batch is, or would be."""
        return self.folder / "gateways" / gateway / "batches" / f"{end:016d}"

    def ends(self, gateway: str) -> set[int]:
        """The batches that are on disk."""
        try:
            found = list((self.folder / "gateways" / gateway / "batches").iterdir())
        except FileNotFoundError:
            return set()
        return {int(path.name) for path in found if path.name.isdigit()}

    def stage_batch(
        self, files: Mapping[str, bytes], records: Iterable[bytes], note: BatchNote, receipt: StoredReceipt
    ) -> Path:
        """Write a whole batch into a new staging folder, synced; `place_batch` makes it real. Raises OSError."""
        staged = self.folder / "staging" / secrets.token_hex(8)
        try:
            durable.make_folder(staged / RECEIPTS)
            for name, content in files.items():
                durable.write_new(staged / name, content)
            with (staged / RECORDS).open("xb") as output:
                output.writelines(records)
                output.flush()
                os.fsync(output.fileno())
            durable.write_new(staged / NOTE, msgspec.json.encode(note))
            durable.write_new(staged / RECEIPTS / f"{1:06d}.json", msgspec.json.encode(receipt))
            durable.fsync_folder(staged / RECEIPTS)
            durable.fsync_folder(staged)
        except OSError:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        return staged

    def place_batch(self, staged: Path, gateway: str, end: int) -> None:
        """The moment at which a batch is received. Raises OSError with nothing placed."""
        target = self.batch_folder(gateway, end)
        try:
            durable.make_folder(target.parent)
            staged.rename(target)  # refuses to replace a folder that holds anything
        except OSError:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        durable.fsync_folder(target.parent)

    def read(self, gateway: str, end: int, name: str) -> bytes:
        """A small file of a batch. Raises IntegrityError where it is gone."""
        path = self.batch_folder(gateway, end) / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise IntegrityError(f"{path} is missing; restore it from the backup") from None

    def tsr(self, gateway: str, end: int) -> bytes | None:
        """The time-stamp response of a batch, if it has one."""
        path = self.batch_folder(gateway, end) / TSR
        return path.read_bytes() if path.exists() else None

    def note(self, gateway: str, end: int) -> BatchNote:
        """What `batch.json` says."""
        try:
            return msgspec.json.decode(self.read(gateway, end, NOTE), type=BatchNote)
        except msgspec.DecodeError as error:
            path = self.batch_folder(gateway, end) / NOTE
            raise IntegrityError(f"{path} cannot be read ({error}); restore it from the backup") from None

    def size_bytes(self, gateway: str, end: int) -> int:
        """Bytes of the files of a batch, without receipts."""
        folder = self.batch_folder(gateway, end)
        return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))

    # --------------------------------------------------------------- receipts

    def receipt_numbers(self, gateway: str, end: int) -> list[int]:
        """Numbers of the receipts of a batch, ascending."""
        found = (self.batch_folder(gateway, end) / RECEIPTS).glob("[0-9]*.json")
        return sorted(int(path.stem) for path in found)

    def receipt(self, gateway: str, end: int, number: int) -> StoredReceipt:
        """One receipt."""
        name = f"{RECEIPTS}/{number:06d}.json"
        try:
            return msgspec.json.decode(self.read(gateway, end, name), type=StoredReceipt)
        except msgspec.DecodeError as error:
            path = self.batch_folder(gateway, end) / name
            raise IntegrityError(f"{path} cannot be read ({error}); restore it from the backup") from None

    def write_receipt(self, gateway: str, number: int, receipt: StoredReceipt) -> None:
        """Add a newer receipt. Raises OSError with nothing added."""
        path = self.batch_folder(gateway, receipt.end) / RECEIPTS / f"{number:06d}.json"
        durable.write_atomic(path, msgspec.json.encode(receipt))

    # -------------------------------------------------------------- artifacts

    def artifact_path(self, gateway: str, sha256: str) -> Path:
        """Where an artifact is, or would be."""
        return self.folder / "gateways" / gateway / "artifacts" / sha256[:2] / sha256

    def place_artifact(self, source: Path, gateway: str, sha256: str) -> None:
        """Move a synced and verified file of the same disk to its content address. Raises OSError."""
        target = self.artifact_path(gateway, sha256)
        durable.make_folder(target.parent)
        source.rename(target)
        durable.fsync_folder(target.parent)
        durable.fsync_folder(source.parent)

    def stage_file(self, chunks: Iterable[bytes]) -> Path:
        """Write a file into the staging folder, synced. Raises OSError with nothing left."""
        staged = self.folder / "staging" / secrets.token_hex(8)
        try:
            with staged.open("xb") as output:
                output.writelines(chunks)
                output.flush()
                os.fsync(output.fileno())
        except OSError:
            staged.unlink(missing_ok=True)
            raise
        return staged

    def artifact_is_sound(self, gateway: str, sha256: str, size_bytes: int) -> bool:
        """Whether our own disk gives back exactly this content. A changed file is moved aside, never deleted."""
        path = self.artifact_path(gateway, sha256)
        try:
            found = durable.sha256_from_disk(path)
        except FileNotFoundError:
            return False
        if found == (sha256, size_bytes):
            return True
        aside = self.folder / "gateways" / gateway / "damaged" / f"{sha256}.{secrets.token_hex(4)}"
        durable.make_folder(aside.parent)
        path.rename(aside)
        durable.fsync_folder(aside.parent)
        return False

    # ------------------------------------------------------------------ forks

    def keep_fork(self, bundle: Path, gateway: str, size: int, sha256: str, note: Mapping[str, object]) -> None:
        """Keep a refused bundle as proof of another history; the same one again is kept once."""
        folder = self.folder / "gateways" / gateway / "forks"
        durable.make_folder(folder)
        target = folder / f"{size:016d}-{sha256}.tar"
        if not target.exists():
            temporary = self.folder / "staging" / secrets.token_hex(8)
            try:
                shutil.copyfile(bundle, temporary)
                durable.fsync_file(temporary)
                durable.write_atomic(target.with_suffix(".json"), msgspec.json.encode(note))
                temporary.rename(target)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            durable.fsync_folder(folder)

    def forks(self, gateway: str) -> Sequence[Path]:
        """The bundles kept as proof."""
        return sorted((self.folder / "gateways" / gateway / "forks").glob("*.tar"))

    # ---------------------------------------------------------------- serving

    def packaging_path(self, gateway: str, end: int, tagmanifest_sha256: str) -> Path:
        """Where our signature over one distinct packaging is kept."""
        return self.batch_folder(gateway, end) / PACKAGING / f"{tagmanifest_sha256}.p7s"

    def gateways(self) -> list[str]:
        """Gateways that have a folder, by id."""
        return sorted(entry.name for entry in os.scandir(self.folder / "gateways") if entry.is_dir())
