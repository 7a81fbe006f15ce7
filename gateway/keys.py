"""The gateway's key: made on the box, read from a file that only the service may read, never handed out.

`FileSigner` is the port `Signer` over a key file or a systemd credential. A certificate that will not do is refused
when it is loaded; whether it is valid *now* is asked before every seal (`certificate_problem`), because a box
without a clock battery starts in the past and must still load its key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.core.errors import ConfigError, Problem
from gateway.ledger import cms

GATEWAY_ROLE: Final = "Fieldgate gateway"
"""OU of a gateway's certificate; the CN is the gateway id. A platform's receipt certificate has another OU."""
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
FILE_SIZE_MAX_BYTES: Final = 65_536
EXPIRY_WARNING_DAYS: Final = 30


def new_key() -> bytes:
    """A new EC P-256 key as unencrypted PKCS#8 PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_csr(key: ec.EllipticCurvePrivateKey, gateway_id: str) -> bytes:
    """A PEM certificate signing request. The CA writes the subject itself; this one says whose key it is."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, GATEWAY_ROLE),
            x509.NameAttribute(NameOID.COMMON_NAME, gateway_id),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def credential_or(path: Path) -> Path:
    """The systemd credential of the same name as the file where the service has one, else the file itself."""
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    if folder:
        credential = Path(folder) / path.name
        if credential.exists():
            return credential
    return path


class FileSigner:
    """Port `Signer` over a key in memory. Made by `load_signer`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        """The two belong together: `load_signer` has checked it."""
        self._key = key
        self._certificate = certificate
        self._pem = certificate.public_bytes(serialization.Encoding.PEM)
        self._sha256 = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    @property
    def certificate_pem(self) -> bytes:
        """The gateway's certificate."""
        return self._pem

    @property
    def certificate_sha256(self) -> str:
        """SHA-256 of the certificate's DER, lower-case hex."""
        return self._sha256

    def sign_cms(self, content: bytes) -> bytes:
        """See ports.Signer."""
        return cms.sign_detached(content, self._certificate, self._key)


def load_signer(key_file: Path, certificate_file: Path, gateway_id: str) -> FileSigner:
    """Read key and certificate. Raises ConfigError with every reason why they will not do."""
    problems: list[Problem] = []
    key = certificate = None
    try:
        key = read_key(key_file)
    except ConfigError as error:
        problems += error.problems
    try:
        certificate = read_certificate(certificate_file)
    except ConfigError as error:
        problems += error.problems
    if certificate is not None:
        problems += _role_problems(certificate, certificate_file, gateway_id)
        if key is not None and certificate.public_key() != key.public_key():
            text = f"certifies another key than {key_file}; send the CSR of this key to the platform again"
            problems.append(Problem(str(certificate_file), 0, "", text))
    if problems or key is None or certificate is None:
        raise ConfigError(problems)
    return FileSigner(key, certificate)


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """An EC P-256 key that nobody else can read: the systemd credential of that name, else the file.
    Raises ConfigError."""
    found = credential_or(path)
    content = _read(found, private=True, credential=found != path)
    return _parse_key(content, str(found))


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file. Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificate(_read(path, private=False, credential=False))
    except ValueError:
        raise _wrong(path, "is not a PEM certificate; put there what the platform's CA has signed") from None


def certificate_problem(certificate_pem: bytes, utc_ns: int) -> str | None:
    """Why a seal made now with this certificate would be worthless; None where it is valid."""
    not_before_ns, not_after_ns = validity_ns(certificate_pem)
    if utc_ns < not_before_ns:
        return f"the gateway certificate is not valid before {_date(not_before_ns)}; check the clock"
    if utc_ns > not_after_ns:
        return f"the gateway certificate expired on {_date(not_after_ns)}: enrol again with the same key"
    return None


@lru_cache(maxsize=8)
def validity_ns(certificate_pem: bytes) -> tuple[int, int]:
    """(not before, not after) of a PEM certificate, nanoseconds since 1970."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return int(first.timestamp()) * 1_000_000_000, int(last.timestamp()) * 1_000_000_000


def _date(utc_ns: int) -> str:
    return dt.datetime.fromtimestamp(utc_ns // 1_000_000_000, dt.UTC).strftime("%Y-%m-%d")


def _wrong(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(path), 0, "", message)])


def _read(path: Path, *, private: bool, credential: bool) -> bytes:
    """The file's bytes; a private one must be closed to others. A credential's group bits are those of the access
    list that lets the service read it, so only the bits of everybody else count there."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if private and status.st_mode & (0o007 if credential else 0o077):
                mode = stat.filemode(status.st_mode)
                raise _wrong(path, f"is readable by others ({mode}); run: chmod 600 {path}")
            if not stat.S_ISREG(status.st_mode):
                raise _wrong(path, "is not a regular file")
            content = file.read(FILE_SIZE_MAX_BYTES + 1)
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from None
    if len(content) > FILE_SIZE_MAX_BYTES:
        raise _wrong(path, f"is larger than {FILE_SIZE_MAX_BYTES} bytes; that is no key or certificate")
    return content


def _parse_key(key_pem: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except TypeError:
        raise _wrong(Path(name), "is encrypted; the gateway starts unattended and needs it plain") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _wrong(Path(name), "is not a PEM private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _wrong(Path(name), "is not an EC P-256 key; make one with: fieldgate init")
    return key


def _role_problems(certificate: x509.Certificate, path: Path, gateway_id: str) -> list[Problem]:
    units = [item.value for item in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    names = [item.value for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    problems = []
    if units != [GATEWAY_ROLE]:
        problems.append(Problem(str(path), 0, "", f"is issued for {units}, not for OU={GATEWAY_ROLE!r}"))
    if names != [gateway_id]:
        problems.append(Problem(str(path), 0, "", f"is issued to {names}, not to CN={gateway_id!r} (gateway.id)"))
    return problems
