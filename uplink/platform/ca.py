"""The platform's certificate authority: gateway, receipt, server and (test) time-stamping certificates, and the CRL.

All keys are P-256. The CA writes every subject itself; of a CSR only the public key is used. Roles are told apart
by the organisational unit, so that a stolen gateway key cannot sign receipts. Files of the folder `pki`:

    ca.pem ca.key   receipt.pem receipt.key   crl.pem   revoked.json   server.pem server.key
    tsa.pem tsa.key         the TEST time-stamping authority, of the same CA: one file checks a whole bundle. A real
                            authority is a third party's, with a root of its own (PlatformConfig.tsa_ca_files)
    secret          32 random bytes: bearer tokens of gateways are derived from it
    operator-token  what a person signs in with
"""

from __future__ import annotations

import ipaddress
import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.core.errors import ConfigError, IntegrityError, Problem
from uplink.platform import durable

GATEWAY_UNIT: Final = "Fieldgate gateway"
RECEIPT_UNIT: Final = "Fieldgate platform receipt"
SERVER_UNIT: Final = "Fieldgate platform server"
TSA_UNIT: Final = "TEST time-stamping authority - not for evidence"
BACKDATE: Final = timedelta(days=1)
"""Certificates begin this much before their issue: boxes in the field have slow clocks."""
CA_LIFE: Final = timedelta(days=20 * 365)
RECEIPT_LIFE: Final = timedelta(days=10 * 365)
SERVER_LIFE: Final = timedelta(days=397)
CRL_LIFE: Final = timedelta(days=30)
CRL_RENEWAL: Final = timedelta(days=1)
CSR_SIZE_MAX_BYTES: Final = 8192

Key = ec.EllipticCurvePrivateKey


class Revoked(msgspec.Struct, frozen=True):
    """One line of the revocation list."""

    serial: str
    utc: str


def fingerprint(public_key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, lower-case hex: which key, whatever the certificate."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()


def read_csr(pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a CSR whose self-signature holds. Raises ValueError with a line for a person."""
    if len(pem) > CSR_SIZE_MAX_BYTES:
        raise ValueError(f"the CSR is longer than {CSR_SIZE_MAX_BYTES} bytes")
    try:
        csr = x509.load_pem_x509_csr(pem.encode())
        key, sound = csr.public_key(), csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        raise ValueError("the CSR is not a PKCS#10 request in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the CSR is not for a P-256 key")  # noqa: TRY004 - it is the value of the text that is wrong
    if not sound:
        raise ValueError("the CSR is not signed by its own key")
    return key


def create(folder: Path, name: str, now: datetime) -> None:
    """Make all keys and certificates in the new folder `folder`. Raises ConfigError where it exists already."""
    if folder.exists():
        raise ConfigError([Problem(str(folder), 0, "", "the platform has its keys already; nothing was changed")])
    building = folder.with_name(folder.name + ".new")
    shutil.rmtree(building, ignore_errors=True)
    durable.make_folder(building)
    ca_key, ca = _root(name, "evidence CA", now)
    receipt_key = _new_key()
    receipt = _issue(
        ca, ca_key, receipt_key.public_key(), _subject(name, RECEIPT_UNIT, "receipts"), (now, RECEIPT_LIFE), ()
    )
    tsa_key = _new_key()
    stamping = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    tsa = _issue(
        ca,
        ca_key,
        tsa_key.public_key(),
        _subject(name, TSA_UNIT, "test TSA"),
        (now, RECEIPT_LIFE),
        ((stamping, True),),
    )
    files = {
        "ca.key": _key_pem(ca_key),
        "ca.pem": _pem(ca),
        "receipt.key": _key_pem(receipt_key),
        "receipt.pem": _pem(receipt),
        "tsa.key": _key_pem(tsa_key),
        "tsa.pem": _pem(tsa),
        "revoked.json": b"[]",
        "secret": secrets.token_bytes(32),
        "operator-token": ("fgo_" + secrets.token_urlsafe(32) + "\n").encode(),
    }
    for filename, content in files.items():
        durable.write_new(building / filename, content)
    durable.fsync_folder(building)
    building.rename(folder)
    durable.fsync_folder(folder.parent)


@dataclass(slots=True)
class Authority:
    """The CA at work. Thread-safe: revocation and the CRL are under one lock."""

    folder: Path
    name: str
    certificate: x509.Certificate
    receipt_certificate: x509.Certificate
    receipt_key: Key
    secret: bytes
    operator_token: str
    _key: Key
    _revoked: list[Revoked] = field(default_factory=list)
    _crl: x509.CertificateRevocationList | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Read what `create` made. Raises ConfigError where something is missing, IntegrityError where it is bad."""
        try:
            return cls(
                folder=folder,
                name=_organisation(folder),
                certificate=x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()),
                receipt_certificate=x509.load_pem_x509_certificate((folder / "receipt.pem").read_bytes()),
                receipt_key=_load_key(folder / "receipt.key"),
                secret=(folder / "secret").read_bytes(),
                operator_token=(folder / "operator-token").read_text().strip(),
                _key=_load_key(folder / "ca.key"),
                _revoked=msgspec.json.decode((folder / "revoked.json").read_bytes(), type=list[Revoked]),
            )
        except FileNotFoundError as error:
            message = "missing; run the platform's init first, or restore the folder from its backup"
            raise ConfigError([Problem(str(error.filename), 0, "", message)]) from None
        except (ValueError, msgspec.DecodeError) as error:
            raise IntegrityError(f"{folder}: a key or certificate cannot be read ({error}); restore it") from None

    @property
    def ca_pem(self) -> str:
        """The root of gateway, receipt and server certificates."""
        return _pem(self.certificate).decode()

    @property
    def tsa_ca_pem(self) -> str:
        """The root of the test time-stamping authority."""
        return self.ca_pem

    @property
    def receipt_pem(self) -> bytes:
        """The certificate that signs receipts."""
        return _pem(self.receipt_certificate)

    def issue_gateway(self, gateway_id: str, key: ec.EllipticCurvePublicKey, now: datetime, days: int) -> str:
        """A certificate for a gateway's key, PEM. No EKU: plain ``openssl cms -verify`` must accept it."""
        subject = _subject(self.name, GATEWAY_UNIT, gateway_id)
        return _pem(_issue(self.certificate, self._key, key, subject, (now, timedelta(days=days)), ())).decode()

    def issue_server(self, names: Sequence[str], now: datetime) -> tuple[Path, Path]:
        """Certificate and key files for the TLS listener, made anew: a server key is not worth keeping."""
        key = _new_key()
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        subject = _subject(self.name, SERVER_UNIT, names[0][:63])
        extensions = ((alternatives, False), (usage, False))
        certificate = _issue(self.certificate, self._key, key.public_key(), subject, (now, SERVER_LIFE), extensions)
        durable.write_atomic(self.folder / "server.key", _key_pem(key))
        durable.write_atomic(self.folder / "server.pem", _pem(certificate))
        return self.folder / "server.pem", self.folder / "server.key"

    def revoke(self, certificates: Sequence[str], now: datetime) -> None:
        """Put certificates (PEM) on the CRL, for good."""
        with self._lock:
            known = {item.serial for item in self._revoked}
            serials = [format(x509.load_pem_x509_certificate(pem.encode()).serial_number, "x") for pem in certificates]
            utc = now.astimezone(UTC).isoformat()
            self._revoked += [Revoked(serial, utc) for serial in serials if serial not in known]
            durable.write_atomic(self.folder / "revoked.json", msgspec.json.encode(self._revoked))
            self._crl = None

    def is_revoked(self, serial: int) -> bool:
        """Whether a certificate of this CA is on the CRL."""
        text = format(serial, "x")
        with self._lock:
            return any(item.serial == text for item in self._revoked)

    def crl_pem(self, now: datetime) -> str:
        """The present CRL; a new one every day and after each revocation."""
        with self._lock:
            if self._crl is None or now - self._crl.last_update_utc > CRL_RENEWAL + BACKDATE:
                self._crl = self._make_crl(now)
                durable.write_atomic(self.folder / "crl.pem", self._crl.public_bytes(Encoding.PEM))
            return self._crl.public_bytes(Encoding.PEM).decode()

    def _make_crl(self, now: datetime) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now - BACKDATE).next_update(now + CRL_LIFE)
        builder = builder.add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        for item in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(item.serial, 16))
            builder = builder.add_revoked_certificate(entry.revocation_date(datetime.fromisoformat(item.utc)).build())
        return builder.sign(self._key, hashes.SHA256())


def _root(name: str, common_name: str, now: datetime) -> tuple[Key, x509.Certificate]:
    key = _new_key()
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(now + CA_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return key, builder.sign(key, hashes.SHA256())


def _issue(
    ca: x509.Certificate,
    ca_key: Key,
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    validity: tuple[datetime, timedelta],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    begin, life = validity
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca.subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begin - BACKDATE)
    builder = builder.not_valid_after(min(begin + life, ca.not_valid_after_utc))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(ca_key, hashes.SHA256())


def _subject(organisation: str, unit: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _organisation(folder: Path) -> str:
    certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    return str(certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def _load_key(path: Path) -> Key:
    if path.stat().st_mode & 0o077:
        message = "the key may be read by others; chmod 600 and think about who had it"
        raise ConfigError([Problem(str(path), 0, "", message)])
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path.name} is not a P-256 key")  # noqa: TRY004 - it is the value of the file that is wrong
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
