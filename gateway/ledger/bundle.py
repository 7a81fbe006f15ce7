"""Putting bundles together: from the pieces of a batch or of single records to a folder or a tar.

plan = plan_batch(parts)                       everything but the signature over the packaging
p7s = signer.sign_cms(plan.tagmanifest)        once per distinct tagmanifest: keep it
tar_of(plan, p7s)                              a ByteSource with stable bytes
write_folder(members(plan, p7s), path)         the same as a folder
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.ledger import checkpoint, cms, merkle, profile, proof, stamp, ustar
from gateway.ledger.grammar import FormatError, gateway_id_of
from gateway.ledger.profile import BagInfo, BundleType
from gateway.ledger.seal import Seal
from gateway.ledger.trust import fingerprint, load_certificate, load_certificates

CHUNK_BYTES: Final = 262_144


@dataclass(frozen=True, slots=True)
class ArtifactPart:
    """An artifact that the records name. `path` None: not inside, listed as pending."""

    sha256: str
    size_bytes: int
    ext: str = ""
    """As given by profile.extension_of: ".mp4" or ""."""
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealFiles:
    """A seal and what came back for it. The certificates that signed are taken out of the signatures."""

    seal_txt: bytes
    seal_p7s: bytes
    tsr: bytes | None = None
    receipt_txt: bytes | None = None
    receipt_p7s: bytes | None = None
    receipt_artifacts: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchParts:
    """All pieces of a batch bundle."""

    seal: SealFiles
    frontier: Sequence[bytes]
    """Perfect-subtree hashes at `first`, largest first."""
    records: Sequence[bytes] | bytes
    """The leaves, or the ready records.jsonl."""
    artifacts: Sequence[ArtifactPart]
    """Every distinct artifact that the records name."""
    sealed_utc: datetime
    packer_pem: bytes
    """Certificate of the key that will sign the packaging."""
    ca_pem: bytes
    """Authorities of the gateway and receipt certificates, one after the other."""
    tsa_ca_pem: bytes = b""
    crl_pem: bytes = b""


@dataclass(frozen=True, slots=True)
class RecordPart:
    """One record of an export and its inclusion path to the root of the seal that covers it."""

    seq: int
    leaf: bytes
    path: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportParts:
    """All pieces of an export of single records, out of one or several batches of one gateway."""

    seals: Sequence[SealFiles]
    """One per batch that holds a record, each once."""
    records: Sequence[RecordPart]
    artifacts: Sequence[ArtifactPart]
    sealed_utc: datetime
    """Of the newest of the seals."""
    packer_pem: bytes
    ca_pem: bytes
    tsa_ca_pem: bytes = b""
    crl_pem: bytes = b""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle."""

    name: str
    size_bytes: int
    content: bytes | Path


@dataclass(frozen=True, slots=True)
class Plan:
    """A bundle but for the signature over its packaging."""

    name: str
    """Name of the bag: External-Identifier, top folder in the tar, good file name."""
    mtime_s: int
    tagmanifest: bytes
    """What the packaging signature must be made over."""
    files: tuple[Member, ...] = field(repr=False)

    @property
    def tagmanifest_sha256(self) -> str:
        """Key under which the packaging signature is kept."""
        return sha256(self.tagmanifest).hexdigest()


def plan_batch(parts: BatchParts) -> Plan:
    """Lay out a batch bundle. Raises FormatError where the pieces do not fit together."""
    seal = Seal.parse(parts.seal.seal_txt)
    merkle.Frontier(seal.first, parts.frontier)
    records, leaves = _records(parts.records, seal)
    tags = _seal_tags(parts.seal, "")
    tags[profile.CHECKPOINT] = checkpoint.encode(seal.origin, seal.end, seal.root)
    tags[profile.FRONTIER] = checkpoint.encode_frontier(parts.frontier)
    tags[profile.LEAVES] = leaves
    tags |= _certificates([parts.seal], parts.packer_pem, parts.ca_pem, parts.tsa_ca_pem, parts.crl_pem)
    name = f"{gateway_id_of(seal.origin)}_batch_{seal.first}-{seal.end}"
    return _plan("batch", name, parts.sealed_utc, tags, {profile.RECORDS: records}, parts.artifacts)


def plan_export(parts: ExportParts) -> Plan:
    """Lay out an export of single records. Raises FormatError where the pieces do not fit together."""
    seals = {seal.end: seal for seal in (Seal.parse(item.seal_txt) for item in parts.seals)}
    if not parts.records or len(seals) != len(parts.seals) or len({item.origin for item in seals.values()}) != 1:
        raise FormatError("export: needs records and the distinct seals of one gateway")
    tags: dict[str, bytes] = {}
    for files in parts.seals:
        tags |= _seal_tags(files, f"-{Seal.parse(files.seal_txt).end}")
    payload: dict[str, bytes] = {}
    for item in parts.records:
        seal = next((seal for seal in seals.values() if seal.first <= item.seq < seal.end), None)
        if seal is None or f"data/record-{item.seq}.json" in payload:
            raise FormatError(f"export: record {item.seq} is given twice or lies in none of the seals")
        payload[f"data/record-{item.seq}.json"] = item.leaf
        head = checkpoint.encode(seal.origin, seal.end, seal.root)
        tags[f"proof/record-{item.seq}.tlog-proof"] = proof.encode(item.seq, item.path, head)
    tags |= _certificates(parts.seals, parts.packer_pem, parts.ca_pem, parts.tsa_ca_pem, parts.crl_pem)
    seqs = sorted(item.seq for item in parts.records)
    gateway_id = gateway_id_of(next(iter(seals.values())).origin)
    name = f"{gateway_id}_records_{seqs[0]}-{seqs[-1]}_{len(seqs)}"
    return _plan("export", name, parts.sealed_utc, tags, payload, parts.artifacts)


def plan(parts: BatchParts | ExportParts) -> Plan:
    """`plan_batch` or `plan_export`, by the kind of parts."""
    return plan_batch(parts) if isinstance(parts, BatchParts) else plan_export(parts)


def members(plan: Plan, p7s: bytes) -> list[Member]:
    """All files in their fixed order, with `p7s` as the signature over the packaging."""
    files = [*plan.files, Member(profile.TAGMANIFEST_P7S, len(p7s), p7s)]
    return sorted(files, key=lambda item: profile.member_order(item.name))


def tar_of(plan: Plan, p7s: bytes) -> TarSource:
    """The bundle as a tar."""
    return TarSource(members(plan, p7s), plan.mtime_s, plan.name)


def write_folder(files: Iterable[Member], path: Path) -> None:
    """Write a bundle as a new folder. Raises FileExistsError where `path` exists, OSError from the disk."""
    path.mkdir(parents=True)
    for item in files:
        target = path / item.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as output:
            for chunk in _chunks(item, 0, item.size_bytes):
                output.write(chunk)


class TarSource:
    """A bundle as the bytes of a tar, readable from any offset (implements core.ports.ByteSource).

    Artifacts are opened only while their bytes are read; OSError where one is gone or has another size.
    """

    def __init__(self, files: Sequence[Member], mtime_s: int, name: str) -> None:
        digest = sha256()
        self._pieces: list[tuple[int, Member]] = []
        position = 0
        for item in files:
            header = ustar.encode(ustar.Header(name, item.name, item.size_bytes, mtime_s))
            for piece in (
                Member("", ustar.BLOCK, header),
                item,
                Member("", ustar.padding(item.size_bytes), bytes(ustar.padding(item.size_bytes))),
            ):
                self._pieces.append((position, piece))
                position += piece.size_bytes
            digest.update(header)
            if isinstance(item.content, bytes):
                digest.update(item.content)
        self._pieces.append((position, Member("", len(ustar.TRAILER), ustar.TRAILER)))
        self._size_bytes = position + len(ustar.TRAILER)
        self._etag = digest.hexdigest()[:32]

    @property
    def size_bytes(self) -> int:
        """Length of the whole tar."""
        return self._size_bytes

    @property
    def etag(self) -> str:
        """Covers every byte: artifacts through their hashes in the manifest."""
        return self._etag

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Chunks of at most 256 KiB of [start, end)."""
        for position, piece in self._pieces:
            if position >= end:
                return
            if position + piece.size_bytes > start:
                yield from _chunks(piece, max(0, start - position), min(piece.size_bytes, end - position))


def _chunks(item: Member, start: int, end: int) -> Iterator[bytes]:
    if isinstance(item.content, bytes):
        for offset in range(start, end, CHUNK_BYTES):
            yield item.content[offset : min(end, offset + CHUNK_BYTES)]
        return
    with item.content.open("rb", buffering=0) as source:
        if os.fstat(source.fileno()).st_size != item.size_bytes:
            raise OSError(f"{item.content}: its size is not {item.size_bytes} bytes any more")
        source.seek(start)
        while start < end:
            chunk = source.read(min(CHUNK_BYTES, end - start))
            if not chunk:
                raise OSError(f"{item.content}: ends at {start} of {item.size_bytes} bytes")
            start += len(chunk)
            yield chunk


def _records(records: Sequence[bytes] | bytes, seal: Seal) -> tuple[bytes, bytes]:
    """(records.jsonl, leaves file). Raises FormatError where they are not what was sealed."""
    content = records if isinstance(records, bytes) else b"".join(leaf + b"\n" for leaf in records)
    leaves = content.split(b"\n")
    if leaves.pop() or len(leaves) != seal.end - seal.first:
        raise FormatError(f"batch {seal.first}-{seal.end}: {len(leaves)} records do not fill the range")
    if sha256(content).hexdigest() != seal.records_sha256:
        raise FormatError(f"batch {seal.first}-{seal.end}: the records are not those that were sealed")
    return content, b"".join(map(merkle.leaf_hash, leaves))


def _seal_tags(files: SealFiles, suffix: str) -> dict[str, bytes]:
    seal, receipt = f"proof/seal{suffix}.txt", f"proof/receipt{suffix}"
    tags = {seal: files.seal_txt, f"{seal}.p7s": files.seal_p7s}
    if files.tsr is not None:
        tags[f"{seal}.p7s.tsr"] = files.tsr
    if files.receipt_txt is not None and files.receipt_p7s is not None and files.receipt_artifacts is not None:
        tags[f"{receipt}.txt"] = files.receipt_txt
        tags[f"{receipt}.txt.p7s"] = files.receipt_p7s
        tags[f"{receipt}-artifacts.txt"] = files.receipt_artifacts
    return tags


def _certificates(
    seals: Sequence[SealFiles], packer_pem: bytes, ca_pem: bytes, tsa_ca_pem: bytes, crl_pem: bytes
) -> dict[str, bytes]:
    """Every certificate that a verifier needs, each once, named by what it does."""
    found: list[tuple[str, x509.Certificate]] = []
    for files in seals:
        found.append(("gateway", cms.signer_of(files.seal_p7s)))
        if files.receipt_p7s is not None:
            found.append(("platform", cms.signer_of(files.receipt_p7s)))
        if files.tsr is not None:
            found.append(("tsa", stamp.signer_of(files.tsr)))
    found.append(("packaging", load_certificate(packer_pem)))
    found += [("ca", item) for item in load_certificates(ca_pem)]
    if tsa_ca_pem:
        found += [("tsa-ca", item) for item in load_certificates(tsa_ca_pem)]
    tags: dict[str, bytes] = {}
    seen: set[str] = set()
    count: Counter[str] = Counter()
    for role, certificate in found:
        if fingerprint(certificate) in seen:
            continue
        seen.add(fingerprint(certificate))
        count[role] += 1
        name = role if count[role] == 1 else f"{role}-{count[role]}"
        tags[f"{profile.CERTS}{name}.pem"] = certificate.public_bytes(Encoding.PEM)
    if crl_pem:
        tags[profile.CRL] = crl_pem
    return tags


def _plan(
    bundle: BundleType,
    name: str,
    sealed_utc: datetime,
    tags: dict[str, bytes],
    payload: Mapping[str, bytes],
    artifacts: Sequence[ArtifactPart],
) -> Plan:
    sealed = sealed_utc.astimezone(UTC)
    files = [Member(item, len(content), content) for item, content in payload.items()]
    digests = {item: sha256(content).hexdigest() for item, content in payload.items()}
    for part in artifacts:
        if part.path is not None:
            item = f"{profile.ARTIFACTS}{part.sha256}{part.ext}"
            files.append(Member(item, part.size_bytes, part.path))
            digests[item] = part.sha256
    bag_info = BagInfo(
        bundle=bundle,
        name=name,
        bagging_date=sealed.date(),
        payload_bytes=sum(item.size_bytes for item in files),
        payload_files=len(files),
        pending={part.sha256: part.size_bytes for part in artifacts if part.path is None},
    )
    tags[profile.BAGIT] = profile.BAGIT_TXT
    tags[profile.BAG_INFO] = bag_info.encode()
    tags[profile.MANIFEST] = profile.encode_manifest(digests)
    tagmanifest = profile.encode_manifest({item: sha256(content).hexdigest() for item, content in tags.items()})
    files += [Member(item, len(content), content) for item, content in tags.items()]
    files.append(Member(profile.TAGMANIFEST, len(tagmanifest), tagmanifest))
    profile.check_names((*(item.name for item in files), profile.TAGMANIFEST_P7S), bundle)
    return Plan(name=name, mtime_s=int(sealed.timestamp()), tagmanifest=tagmanifest, files=tuple(files))
