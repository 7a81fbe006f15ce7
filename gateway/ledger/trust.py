"""What a verifier trusts: authorities by certificate or fingerprint, and revocation lists.

Chains have two members: a trusted authority and the certificate it issued. Roles are told apart by the
organisational unit that the authority wrote, so that a gateway's key cannot sign receipts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.ledger.grammar import FormatError, UntrustedError

PEM_SIZE_MAX_BYTES: Final = 1_048_576
CERTIFICATES_MAX: Final = 256

_crl_block = re.compile(rb"-----BEGIN X509 CRL-----\n[A-Za-z0-9+/=\n]+-----END X509 CRL-----\n")
_fingerprint = re.compile(r"[0-9a-f]{64}")


CERTIFICATE_ERRORS: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UserWarning,  # where warnings are errors, as in our tests
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for hostile certificates and lists, when they are read or, later, looked into."""


@asn1.sequence
class _OuterCertificate:
    body: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString


class Role(Enum):
    """Organisational unit (OU) that a certificate must carry to be accepted for a purpose."""

    GATEWAY = "Fieldgate gateway"
    RECEIPT = "Fieldgate platform receipt"


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER, lower-case hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


@lru_cache(maxsize=256)
def check_readable(certificate: x509.Certificate) -> None:
    """Read every part that the library decodes only when asked. Raises FormatError, so that later use cannot."""
    try:
        parts = (certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key())
        known = None not in parts and certificate.signature_hash_algorithm is not None
        outer = asn1.decode_der(_OuterCertificate, certificate.public_bytes(Encoding.DER))
    except CERTIFICATE_ERRORS as error:
        raise FormatError(f"certificate: not readable ({error})") from None
    if not known or certificate.serial_number <= 0:
        raise FormatError("certificate: signed with an algorithm without a hash, or its number is not positive")
    if outer.signature.padding_bits():  # outside every signature: a certificate must have only one form
        raise FormatError("certificate: its signature is not a whole number of bytes")


@lru_cache(maxsize=256)
def load_certificate(pem: bytes) -> x509.Certificate:
    """Exactly one PEM certificate and nothing else. Raises FormatError."""
    certificates = load_certificates(pem)
    if len(certificates) != 1:
        raise FormatError(f"certificate: {len(certificates)} in one file, expected one")
    return certificates[0]


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM file. Raises FormatError where there is none or one is damaged."""
    if len(pem) > PEM_SIZE_MAX_BYTES:
        raise FormatError(f"certificate: file of {len(pem)} bytes, at most {PEM_SIZE_MAX_BYTES} are allowed")
    if b"\0" in pem:  # such as a bundle: PEM is found inside, and it would vouch for itself
        raise FormatError("certificate: not a PEM text file")
    if pem.count(b"-----BEGIN CERTIFICATE-----") > CERTIFICATES_MAX:
        raise FormatError(f"certificate: more than {CERTIFICATES_MAX} in one file")
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except CERTIFICATE_ERRORS as error:
        raise FormatError(f"certificate: not readable as PEM ({_reason(error)})") from None
    for item in certificates:
        check_readable(item)
    return certificates


def _reason(error: BaseException) -> str:
    """The library's reason without its advertisement of a web page."""
    return re.sub(r"See https?://\S+( for more details\.)?\s*", "", str(error))[:200]


def load_crls(pem: bytes) -> list[x509.CertificateRevocationList]:
    """All revocation lists of a PEM file and nothing else. Raises FormatError."""
    if len(pem) > PEM_SIZE_MAX_BYTES:
        raise FormatError(f"CRL: file of {len(pem)} bytes, at most {PEM_SIZE_MAX_BYTES} are allowed")
    blocks = _crl_block.findall(pem)
    if b"".join(blocks) != pem or not blocks:
        raise FormatError("CRL: not a PEM file of revocation lists")
    try:
        return [x509.load_pem_x509_crl(block) for block in blocks]
    except CERTIFICATE_ERRORS as error:
        raise FormatError(f"CRL: not readable ({error})") from None


def normal_fingerprint(text: str) -> str:
    """64 lower-case hex digits of a fingerprint as people write it: colons, spaces, capitals."""
    digits = text.replace(":", "").replace(" ", "").lower()
    if not _fingerprint.fullmatch(digits):
        raise FormatError(f"fingerprint {text[:100]!r}: expected the 64 hex digits of a SHA-256")
    return digits


class Trust:
    """Trusted authorities. Immutable; raises FormatError for PEM or fingerprints that cannot be read.

    ca_pems, ca_fingerprints: authorities that issue gateway and receipt certificates. An authority given by
    fingerprint is taken from the certificates that come with the evidence.
    tsa_ca_pems, tsa_ca_fingerprints: authorities above the time-stamping authority; none given: those above.
    crl_pems: revocation lists in addition to the one of the bundle.
    """

    def __init__(
        self,
        ca_pems: Sequence[bytes] = (),
        ca_fingerprints: Sequence[str] = (),
        tsa_ca_pems: Sequence[bytes] = (),
        tsa_ca_fingerprints: Sequence[str] = (),
        crl_pems: Sequence[bytes] = (),
    ) -> None:
        self._cas = tuple(item for pem in ca_pems for item in load_certificates(pem))
        self._ca_fingerprints = frozenset(map(normal_fingerprint, ca_fingerprints))
        self._tsa_cas = tuple(item for pem in tsa_ca_pems for item in load_certificates(pem))
        self._tsa_fingerprints = frozenset(map(normal_fingerprint, tsa_ca_fingerprints))
        self._crls = tuple(item for pem in crl_pems for item in load_crls(pem))

    def authorities(self, offered: Iterable[x509.Certificate] = ()) -> list[x509.Certificate]:
        """Trusted issuers of gateway and receipt certificates; `offered` come with the evidence."""
        return _select(self._cas, self._ca_fingerprints, offered)

    def tsa_authorities(self, offered: Iterable[x509.Certificate] = ()) -> list[x509.Certificate]:
        """Trusted issuers of the time-stamping authority's certificate."""
        if self._tsa_cas or self._tsa_fingerprints:
            return _select(self._tsa_cas, self._tsa_fingerprints, offered)
        return self.authorities(offered)

    def check_signer(
        self,
        certificate: x509.Certificate,
        role: Role,
        at: datetime,
        *,
        gateway_id: str | None = None,
        offered: Iterable[x509.Certificate] = (),
        crls: Iterable[x509.CertificateRevocationList] = (),
    ) -> x509.Certificate:
        """The trusted issuer of a certificate that could sign in this role at this time.

        `gateway_id` (role GATEWAY) must be the common name. Raises UntrustedError with the reason.
        """
        name = certificate.subject.rfc4514_string()
        issuer = _issuer_of(certificate, self.authorities(offered))
        for item, what in ((certificate, f"certificate {name}"), (issuer, "certificate of the authority")):
            _check_validity(item, what, at)
        _check_authority(issuer)
        if _basic_constraints(certificate):
            raise UntrustedError(f"certificate {name}: is an authority's own, it must not sign evidence")
        _check_use(certificate, name)
        if _names(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME) != [role.value]:
            raise UntrustedError(f"certificate {name}: its OU is not {role.value!r}, it has another role")
        if gateway_id is not None and _names(certificate, NameOID.COMMON_NAME) != [gateway_id]:
            raise UntrustedError(f"certificate {name}: is not of gateway {gateway_id!r}")
        self.check_revocation(certificate, issuer, at, crls)
        return issuer

    def check_revocation(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        at: datetime,
        crls: Iterable[x509.CertificateRevocationList] = (),
    ) -> None:
        """Raise UntrustedError where a list of the issuer revokes the certificate at or before `at`."""
        since = self.revoked_since(certificate, issuer, crls)
        if since is not None and since <= at:
            raise UntrustedError(
                f"certificate {certificate.subject.rfc4514_string()}: revoked since {since:%Y-%m-%dT%H:%M:%SZ}"
            )

    def revoked_since(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        crls: Iterable[x509.CertificateRevocationList] = (),
    ) -> datetime | None:
        """The earliest date at which a list of the issuer revokes the certificate; None where none does."""
        entries = [_entry_of(crl, certificate, issuer) for crl in (*self._crls, *crls)]
        return min((entry.revocation_date_utc for entry in entries if entry is not None), default=None)

    def newest_list(
        self, offered: Iterable[x509.Certificate], crls: Iterable[x509.CertificateRevocationList] = ()
    ) -> datetime | None:
        """When the newest revocation list of a trusted authority was made; None where there is none."""
        authorities = self.authorities(offered)
        dates = [_date_of_list(crl, authorities) for crl in (*self._crls, *crls)]
        return max((item for item in dates if item is not None), default=None)


def _date_of_list(crl: x509.CertificateRevocationList, authorities: Iterable[x509.Certificate]) -> datetime | None:
    """When the list was made; None where none of the authorities signed it."""
    try:
        for item in authorities:
            if crl.issuer == item.subject and crl.is_signature_valid(item.public_key()):  # type: ignore[arg-type]
                return crl.last_update_utc
        return None
    except CERTIFICATE_ERRORS as error:
        raise FormatError(f"CRL: not readable ({error})") from None


def _entry_of(
    crl: x509.CertificateRevocationList, certificate: x509.Certificate, issuer: x509.Certificate
) -> x509.RevokedCertificate | None:
    try:
        if crl.issuer != issuer.subject:
            return None
        if not crl.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
            raise UntrustedError("CRL: its signature is not that of the authority it names")
        return crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    except UntrustedError:
        raise
    except CERTIFICATE_ERRORS as error:
        raise FormatError(f"CRL: not readable ({error})") from None


def _select(
    given: Iterable[x509.Certificate], fingerprints: frozenset[str], offered: Iterable[x509.Certificate]
) -> list[x509.Certificate]:
    if not fingerprints:
        return list(given)
    return [*given, *(item for item in offered if fingerprint(item) in fingerprints)]


@lru_cache(maxsize=1024)
def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names fit and the issuer's key signed the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *CERTIFICATE_ERRORS):
        return False
    return True


def _issuer_of(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> x509.Certificate:
    for authority in authorities:
        if is_issued_by(certificate, authority):
            return authority
    name = certificate.subject.rfc4514_string()
    raise UntrustedError(f"certificate {name}: not issued by a trusted authority; give its CA file or fingerprint")


def _check_validity(certificate: x509.Certificate, what: str, at: datetime) -> None:
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise UntrustedError(
            f"{what}: valid {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, not at {at:%Y-%m-%dT%H:%M:%SZ}"
        )


def _check_authority(certificate: x509.Certificate) -> None:
    if not _basic_constraints(certificate):
        raise UntrustedError("certificate of the authority: basicConstraints do not make it an authority")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise UntrustedError("certificate of the authority: keyUsage does not allow signing certificates")


def _check_use(certificate: x509.Certificate, name: str) -> None:
    """Refuse a certificate that its authority made for something else than signing documents."""
    for item in certificate.extensions:
        if item.critical and isinstance(item.value, x509.UnrecognizedExtension):
            raise UntrustedError(
                f"certificate {name}: has the critical extension {item.oid.dotted_string}, unknown here"
            )
        if isinstance(item.value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.TIME_STAMPING in item.value:
            raise UntrustedError(f"certificate {name}: is for time stamps, it must not sign evidence")
        if isinstance(item.value, x509.KeyUsage) and not (
            item.value.digital_signature or item.value.content_commitment
        ):
            raise UntrustedError(f"certificate {name}: keyUsage does not allow signatures")


def _basic_constraints(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(item.value) for item in certificate.subject.get_attributes_for_oid(oid)]
