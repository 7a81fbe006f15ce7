"""A small bureau to test with: an authority, a gateway, a platform, a time-stamping authority, and a log.

All keys are TEST keys: made from small numbers, known to everyone, good for nothing else.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.core import kinds
from gateway.core.instant import Instant
from gateway.core.record import Artifact, DeviceTime, Draft, encode_leaf
from gateway.ledger import bundle, cms, merkle, receipt, stamp
from gateway.ledger.bundle import ArtifactPart, BatchParts, ExportParts, Plan, RecordPart, SealFiles
from gateway.ledger.grammar import origin_of
from gateway.ledger.receipt import Receipt
from gateway.ledger.seal import Seal
from gateway.ledger.trust import Role, Trust, fingerprint

GATEWAY_ID = "gw-0001.example"
SEALED = datetime(2024, 11, 21, 22, 28, 10, tzinfo=UTC)
NOW = datetime(2024, 11, 22, 12, 0, 0, tzinfo=UTC)
VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
VALID_TO = datetime(2049, 1, 1, tzinfo=UTC)

TSA_CONFIG = """
[tsa]
dir = .
serial = ./serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.3.6.1.4.1.13762.3
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500, microsecs:100
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def sign(self, content: bytes) -> bytes:
        return cms.sign_detached(content, self.certificate, self.key)


def test_key(number: int) -> ec.EllipticCurvePrivateKey:
    """The TEST key with this number: the same for ever."""
    secret = int.from_bytes(sha256(b"fieldgate test key %d" % number).digest(), "big") >> 1
    return ec.derive_private_key(secret, ec.SECP256R1())


test_key.__test__ = False  # type: ignore[attr-defined]


def name_of(common_name: str, unit: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test bureau")]
    if unit is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def issue(
    number: int,
    subject: x509.Name,
    issuer: Identity | None = None,
    *,
    ca: bool = False,
    timestamping: bool = False,
    valid: tuple[datetime, datetime] = (VALID_FROM, VALID_TO),
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Identity:
    """A certificate; self-signed where there is no issuer."""
    key = key or test_key(number)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1000 + number)
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not ca, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca,
                encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
    )  # fmt: skip
    if timestamping:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    signer = key if issuer is None else issuer.key
    return Identity(builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True), key)


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False, timeout=50)


@dataclass
class Bureau:
    """Who signs what."""

    ca: Identity
    gateway: Identity
    platform: Identity
    tsa_ca: Identity
    tsa: Identity

    @classmethod
    def make(cls) -> Bureau:
        ca = issue(1, name_of("Test CA"), ca=True)
        tsa_ca = issue(4, name_of("Test TSA CA"), ca=True)
        return cls(
            ca=ca,
            gateway=issue(2, name_of(GATEWAY_ID, Role.GATEWAY.value), ca),
            platform=issue(3, name_of("platform.example", Role.RECEIPT.value), ca),
            tsa_ca=tsa_ca,
            tsa=issue(5, name_of("Test TSA"), tsa_ca, timestamping=True),
        )

    @property
    def trust(self) -> Trust:
        return Trust(ca_pems=[self.ca.pem], tsa_ca_pems=[self.tsa_ca.pem])

    @cached_property
    def empty_crl(self) -> bytes:
        """One list, signed once: bundles of the same pieces have the same bytes."""
        return self.crl()

    def crl(self, revoked: Sequence[tuple[Identity, datetime]] = (), at: datetime = SEALED) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.ca.certificate.subject)
            .last_update(at)
            .next_update(at + timedelta(days=30))
        )
        for identity, when in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(identity.certificate.serial_number)
                .revocation_date(when)
                .build()
            )
        return builder.sign(self.ca.key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.PEM)

    def stamp(self, p7s: bytes, *, chain: Sequence[Identity] = (), tsa: Identity | None = None) -> bytes:
        """A token from a real `openssl ts -reply`."""
        return self.answer(stamp.request(p7s)[0], chain=chain, tsa=tsa)

    def answer(self, request_der: bytes, *, chain: Sequence[Identity] = (), tsa: Identity | None = None) -> bytes:
        tsa = tsa or self.tsa
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            (path / "tsa.cnf").write_text(TSA_CONFIG)
            (path / "serial").write_text("01\n")
            (path / "request").write_bytes(request_der)
            (path / "tsa.pem").write_bytes(tsa.pem)
            (path / "key.pem").write_bytes(tsa.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            command = [
                "openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", "request",
                "-signer", "tsa.pem", "-inkey", "key.pem", "-out", "reply",
            ]  # fmt: skip
            if chain:
                (path / "chain.pem").write_bytes(b"".join(item.pem for item in chain))
                command += ["-chain", "chain.pem"]
            done = run(*command, cwd=path)
            assert done.returncode == 0, done.stderr
            return (path / "reply").read_bytes()


def artifact(content: bytes, name: str) -> Artifact:
    return Artifact(sha256(content).hexdigest(), len(content), "video/mp4", name, name.encode().hex())


@dataclass
class Log:
    """Leaves of one gateway, sealed in batches."""

    bureau: Bureau
    folder: Path
    leaves: list[bytes] = field(default_factory=list)
    artifacts: dict[int, list[ArtifactPart]] = field(default_factory=dict)

    def add(self, kind: str, data: dict[str, object], files: Sequence[tuple[str, bytes]] = ()) -> int:
        seq = len(self.leaves)
        named = []
        for name, content in files:
            item = artifact(content, name)
            path = self.folder / item.sha256
            path.write_bytes(content)
            named.append(item)
            self.artifacts.setdefault(seq, []).append(ArtifactPart(item.sha256, len(content), ".mp4", path))
        draft = Draft(
            kind=kind,
            source="station-1" if files else "gateway",
            device="0000001" if files else "",
            data=data,
            raw=b"GA/T 947 \xd6\xb4\xb7\xa8" if files else None,
            artifacts=tuple(named),
            device_time=DeviceTime("20261121222810", "+08:00", "name") if files else None,
        )
        instant = Instant("ab" * 16, 3, 1_000_000_000 * seq, int(SEALED.timestamp() - 60 + seq) * 10**9)
        salt = sha256(b"salt %d" % seq).digest()[:16]
        self.leaves.append(encode_leaf(draft, instant, seq, salt))
        return seq

    def frontier(self, size: int) -> merkle.Frontier:
        tree = merkle.Frontier()
        tree.extend(map(merkle.leaf_hash, self.leaves[:size]))
        return tree

    def parts_of(self, first: int, end: int) -> list[ArtifactPart]:
        found = {part.sha256: part for seq in range(first, end) for part in self.artifacts.get(seq, [])}
        return [found[digest] for digest in sorted(found)]

    def seal(self, first: int, end: int, **changes: object) -> Seal:
        parts = self.parts_of(first, end)
        content = b"".join(leaf + b"\n" for leaf in self.leaves[first:end])
        below = [b'"kind":"%s"' % kind.encode() for kind in (kinds.BEACON, kinds.CLOCK_STATE)]
        newest = [max((seq for seq in range(end) if mark in self.leaves[seq]), default=None) for mark in below]
        seal = Seal(
            origin=origin_of(GATEWAY_ID),
            first=first,
            end=end,
            prev_root=self.frontier(first).root(),
            root=self.frontier(end).root(),
            records_sha256=sha256(content).hexdigest(),
            artifact_count=len(parts),
            artifact_bytes=sum(part.size_bytes for part in parts),
            beacon=newest[0],
            clock=newest[1],
            gateway_cert_sha256=fingerprint(self.bureau.gateway.certificate),
        )
        return replace(seal, **changes)  # type: ignore[arg-type]

    def receipt(self, seal: Seal, held: Sequence[ArtifactPart]) -> tuple[bytes, bytes]:
        """(receipt.txt, artifacts text)."""
        text = receipt.encode_artifacts((part.sha256, part.size_bytes) for part in held)
        made = Receipt(
            origin=seal.origin,
            first=seal.first,
            end=seal.end,
            prev_root=seal.prev_root,
            root=seal.root,
            seal_sha256=sha256(seal.encode()).hexdigest(),
            artifacts_held=len(held),
            artifacts_total=seal.artifact_count,
            artifacts_sha256=sha256(text).hexdigest(),
            received_utc=SEALED + timedelta(minutes=1),
            retain_until=SEALED + timedelta(days=365),
            nonce=sha256(seal.encode()).hexdigest()[:32],
        )
        return made.encode(), text

    def seal_files(
        self, first: int, end: int, *, stamped: bool = True, receipted: bool = True, **changes: object
    ) -> SealFiles:
        seal = self.seal(first, end, **changes)
        p7s = self.bureau.gateway.sign(seal.encode())
        receipt_txt, artifacts_txt = self.receipt(seal, self.parts_of(first, end))
        return SealFiles(
            seal_txt=seal.encode(),
            seal_p7s=p7s,
            tsr=self.bureau.stamp(p7s) if stamped else None,
            receipt_txt=receipt_txt if receipted else None,
            receipt_p7s=self.bureau.platform.sign(receipt_txt) if receipted else None,
            receipt_artifacts=artifacts_txt if receipted else None,
        )

    def batch(
        self, first: int, end: int, files: SealFiles | None = None, *, light: bool = False, crl: bytes = b""
    ) -> BatchParts:
        parts = self.parts_of(first, end)
        return BatchParts(
            seal=files or self.seal_files(first, end),
            frontier=self.frontier(first).hashes,
            records=self.leaves[first:end],
            artifacts=[replace(part, path=None) for part in parts] if light else parts,
            sealed_utc=SEALED,
            packer_pem=self.bureau.gateway.pem,
            ca_pem=self.bureau.ca.pem,
            tsa_ca_pem=self.bureau.tsa_ca.pem,
            crl_pem=crl or self.bureau.empty_crl,
        )

    def node(self, size: int) -> merkle.NodeOf:
        """Perfect-subtree hashes of the first `size` leaves, computed the slow way."""

        def hash_of(level: int, index: int) -> bytes:
            tree = merkle.Frontier()
            for leaf in self.leaves[index << level : (index + 1) << level]:
                tree.append(merkle.leaf_hash(leaf))
            assert (index + 1) << level <= size
            return tree.root()

        return hash_of

    def export(self, seqs: Sequence[int], seals: Sequence[SealFiles], *, light: bool = False) -> ExportParts:
        covers = [Seal.parse(files.seal_txt) for files in seals]
        records = []
        for seq in seqs:
            end = next(seal.end for seal in covers if seal.first <= seq < seal.end)
            records.append(RecordPart(seq, self.leaves[seq], merkle.inclusion_path(seq, end, self.node(end))))
        found = {part.sha256: part for seq in seqs for part in self.artifacts.get(seq, [])}
        return ExportParts(
            seals=seals,
            records=records,
            artifacts=[replace(part, path=None) if light else part for part in found.values()],
            sealed_utc=SEALED,
            packer_pem=self.bureau.gateway.pem,
            ca_pem=self.bureau.ca.pem,
            tsa_ca_pem=self.bureau.tsa_ca.pem,
            crl_pem=self.bureau.empty_crl,
        )


def sample_log(bureau: Bureau, folder: Path) -> Log:
    """Thirteen records: [0, 5) and [5, 13) are meant as batches."""
    log = Log(bureau, folder)
    log.add(kinds.GATEWAY_START, {"version": "0.1.0"})
    log.add(kinds.CLOCK_STATE, {"source": "ntp", "maxerror_us": 4000})
    log.add(kinds.STATION_STATE, {"state": "up", "reason": ""})
    log.add(kinds.STATION_FILE, {"path": "执法/A.MP4"}, [("DSJ_0000000_000000_20261121222810.MP4", b"A" * 3000)])
    log.add(kinds.POSITION, {"lat_e7": 302741000, "lon_e7": 1201551000, "datum": "WGS-84"})
    log.add(kinds.BEACON, {"nonce": "0" * 32, "receipt_sha256": "1" * 64, "size": 5})
    log.add(kinds.CLOCK_STATE, {"source": "ntp", "maxerror_us": 4100})
    log.add(kinds.STATION_FILE, {"path": "执法/B.MP4"}, [("B.MP4", b"B" * 1500), ("C.XML", b"C" * 100)])
    log.add(kinds.STATION_SIGHTING, {"path": "copy/B.MP4", "sha256": sha256(b"B" * 1500).hexdigest()})
    log.add(kinds.ALARM, {"code": "spool-high", "state": "raised", "text": "spool at 90 %"})
    log.add(kinds.STATION_FILE, {"path": "执法/empty"}, [("EMPTY.MP4", b"")])
    log.add(kinds.OPERATOR_ACTION, {"action": "acknowledge", "actor": "李", "parameters": {}})
    log.add(kinds.GATEWAY_STOP, {"reason": "signal"})
    return log


def packed(plan: Plan, bureau: Bureau) -> bytes:
    """A whole tar, packaging signed by the gateway."""
    source = bundle.tar_of(plan, bureau.gateway.sign(plan.tagmanifest))
    return b"".join(source.read(0, source.size_bytes))
