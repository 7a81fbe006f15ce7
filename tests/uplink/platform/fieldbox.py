"""A gateway as the platform sees it: real key, real leaves, seals and bundles, without store and daemon."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.core.instant import Instant
from gateway.core.record import Artifact, Draft, encode_leaf
from gateway.ledger import cms
from gateway.ledger.bundle import ArtifactPart, BatchParts, Plan, SealFiles, plan_batch, tar_of
from gateway.ledger.merkle import Frontier, leaf_hash
from gateway.ledger.seal import Seal
from gateway.ledger.trust import fingerprint, load_certificate

SEALED = datetime(2026, 11, 21, 22, 0, 0, tzinfo=UTC)


def key_and_csr(common_name: str = "whatever the box says") -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A new key and its CSR; the platform must ignore the name inside."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return key, csr.public_bytes(Encoding.PEM).decode()


def video(content: bytes, name: str = "DSJ_0000000_000000_20260221030623.MP4") -> Artifact:
    """The artifact that a file with this content is."""
    digest = hashlib.sha256(content).hexdigest()
    return Artifact(digest, len(content), "video/mp4", name, name.encode().hex())


@dataclass(frozen=True)
class Batch:
    """A sealed batch of the box."""

    seal: Seal
    seal_txt: bytes
    seal_p7s: bytes
    frontier: tuple[bytes, ...]
    leaves: tuple[bytes, ...]
    artifacts: tuple[Artifact, ...]


@dataclass
class FieldBox:
    """The log of one gateway, sealed batch by batch."""

    gateway: str
    key: ec.EllipticCurvePrivateKey
    certificate_pem: bytes
    ca_pem: bytes
    crl_pem: bytes = b""
    tsa_ca_pem: bytes = b""
    frontier: Frontier = field(default_factory=Frontier)
    batches: list[Batch] = field(default_factory=list)

    def clone(self) -> FieldBox:
        """A second box with the same key and the same past."""
        twin = FieldBox(self.gateway, self.key, self.certificate_pem, self.ca_pem, self.crl_pem, self.tsa_ca_pem)
        twin.frontier = Frontier(self.frontier.size, self.frontier.hashes)
        twin.batches = list(self.batches)
        return twin

    def leaf(self, seq: int, kind: str = "station.file", artifacts: Sequence[Artifact] = (), note: str = "") -> bytes:
        """The stored bytes of one record."""
        draft = Draft(kind, "station-1", "0000001", {"note": note}, artifacts=tuple(artifacts))
        salt = hashlib.sha256(f"{note}{seq}".encode()).digest()[:16]
        utc_ns = int(SEALED.timestamp()) * 10**9 - 10**9
        return encode_leaf(draft, Instant("0" * 32, 1, seq + 1, utc_ns), seq, salt)

    def seal(self, count: int = 3, artifacts: Sequence[Artifact] = (), note: str = "") -> Batch:
        """Append `count` records, the first of which names the artifacts, and seal them."""
        first, before, prev_root = self.frontier.size, self.frontier.hashes, self.frontier.root()
        leaves = [self.leaf(first + n, artifacts=artifacts if n == 0 else (), note=note) for n in range(count)]
        for leaf in leaves:
            self.frontier.append(leaf_hash(leaf))
        distinct = {item.sha256: item for item in artifacts}
        certificate = load_certificate(self.certificate_pem)
        seal = Seal(
            origin=f"{self.gateway}/evidence",
            first=first,
            end=first + count,
            prev_root=prev_root,
            root=self.frontier.root(),
            records_sha256=hashlib.sha256(b"".join(leaf + b"\n" for leaf in leaves)).hexdigest(),
            artifact_count=len(distinct),
            artifact_bytes=sum(item.size_bytes for item in distinct.values()),
            beacon=None,
            clock=None,
            gateway_cert_sha256=fingerprint(certificate),
        )
        text = seal.encode()
        batch = Batch(
            seal, text, cms.sign_detached(text, certificate, self.key), before, tuple(leaves), tuple(distinct.values())
        )
        self.batches.append(batch)
        return batch

    def plan(self, batch: Batch, inside: dict[str, Path] | None = None, tsr: bytes | None = None) -> Plan:
        """Lay out the bundle; `inside` gives the artifacts that go with it by sha256, all others are pending."""
        parts = [
            ArtifactPart(item.sha256, item.size_bytes, ".mp4", (inside or {}).get(item.sha256))
            for item in batch.artifacts
        ]
        return plan_batch(
            BatchParts(
                seal=SealFiles(seal_txt=batch.seal_txt, seal_p7s=batch.seal_p7s, tsr=tsr),
                frontier=batch.frontier,
                records=batch.leaves,
                artifacts=parts,
                sealed_utc=SEALED,
                packer_pem=self.certificate_pem,
                ca_pem=self.ca_pem,
                tsa_ca_pem=self.tsa_ca_pem,
                crl_pem=self.crl_pem,
            )
        )

    def tar(self, batch: Batch, inside: dict[str, Path] | None = None, tsr: bytes | None = None) -> bytes:
        """The bundle as it goes over the wire."""
        plan = self.plan(batch, inside, tsr)
        p7s = cms.sign_detached(plan.tagmanifest, load_certificate(self.certificate_pem), self.key)
        source = tar_of(plan, p7s)
        return b"".join(source.read(0, source.size_bytes))
