"""RFC 3161 time-stamp tokens over the signature file of a seal.

The response is stored as it came. It is read here with an exact schema, then verified by rfc3161-client. Two kinds of
good responses that the library always refuses go to `openssl ts -verify` instead: certificates in another order than
DER demands (stock openssl authorities that send their chain), and status "granted with modifications".
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256, sha384, sha512
from pathlib import Path
from typing import Annotated, Final, Literal

import rfc3161_client
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.ledger import cms
from gateway.ledger.grammar import FormatError, UntrustedError
from gateway.ledger.trust import CERTIFICATE_ERRORS, Trust, check_readable, fingerprint, is_issued_by

TSR_SIZE_MAX_BYTES: Final = 65_536
OPENSSL_TIMEOUT_S: Final = 20
LAST_YEAR: Final = 9990
"""Of genTime: adding the accuracy must stay a date."""

TST_INFO: Final = ObjectIdentifier("1.2.840.113549.1.9.16.1.4")
_DIGESTS: Final = {
    cms.SHA256: sha256,
    ObjectIdentifier("2.16.840.1.101.3.4.2.2"): sha384,
    ObjectIdentifier("2.16.840.1.101.3.4.2.3"): sha512,
}
_RSA: Final = ("1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10")
_SIGNATURES: Final = {
    digest: frozenset(asn1.encode_der(ObjectIdentifier(item)) for item in (ecdsa, rsa, *_RSA))
    for digest, ecdsa, rsa in zip(
        _DIGESTS,
        ("1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3", "1.2.840.10045.4.3.4"),
        ("1.2.840.113549.1.1.11", "1.2.840.113549.1.1.12", "1.2.840.113549.1.1.13"),
        strict=True,
    )
}
"""DER of the signature algorithms that may stand with a digest; openssl does not look at this field."""


@asn1.sequence
class StatusInfo:
    """PKIStatusInfo."""

    status: int
    texts: list[str] | None
    failure: asn1.BitString | None


@asn1.sequence
class Content:
    """EncapsulatedContentInfo with the TSTInfo as content."""

    content_type: ObjectIdentifier
    content: Annotated[bytes, asn1.Explicit(0)]


@asn1.sequence
class SignerInfo:
    """SignerInfo of a time-stamping authority."""

    version: int
    sid: cms.IssuerAndSerial
    digest: cms.Algorithm
    signed: Annotated[asn1.SetOf[cms.Attribute], asn1.Implicit(0)]
    signature_algorithm: list[asn1.TLV]
    signature: bytes
    unsigned: Annotated[asn1.SetOf[cms.Attribute] | None, asn1.Implicit(1)]


@asn1.sequence
class SignedData:
    """SignedData; certificates as a list because stock authorities do not sort them."""

    version: int
    digests: asn1.SetOf[cms.Algorithm]
    content: Content
    certificates: Annotated[list[x509.Certificate], asn1.Implicit(0)]
    signers: asn1.SetOf[SignerInfo]


@asn1.sequence
class ContentInfo:
    """The token."""

    type: ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


@asn1.sequence
class Response:
    """TimeStampResp."""

    status: StatusInfo
    token: ContentInfo | None


@asn1.sequence
class Imprint:
    """MessageImprint."""

    algorithm: cms.Algorithm
    digest: bytes


@asn1.sequence
class Accuracy:
    """Accuracy of genTime."""

    seconds: int | None
    millis: Annotated[int | None, asn1.Implicit(0)]
    micros: Annotated[int | None, asn1.Implicit(1)]


@asn1.sequence
class TstInfo:
    """TSTInfo."""

    version: int
    policy: ObjectIdentifier
    imprint: Imprint
    serial: int
    gen_time: asn1.GeneralizedTime
    accuracy: Accuracy | None
    ordering: Annotated[bool, asn1.Default(value=False)]
    nonce: int | None
    tsa: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    extensions: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token: the signature file existed at `not_later_than`."""

    gen_time: datetime
    accuracy: timedelta
    serial: int
    nonce: int | None
    authority: str
    """Subject of the certificate that signed the token."""
    certificate_sha256: str
    verified_by: Literal["rfc3161-client", "openssl"]

    @property
    def not_later_than(self) -> datetime:
        """genTime plus accuracy."""
        return self.gen_time + self.accuracy


def request(p7s: bytes) -> tuple[bytes, int]:
    """DER of a request for a token over `p7s` (SHA-256, certificate wanted), and its nonce."""
    built = (
        rfc3161_client.TimestampRequestBuilder().data(p7s).hash_algorithm(rfc3161_client.HashAlgorithm.SHA256).build()
    )
    if built.nonce is None:
        raise FormatError("time stamp: the request carries no nonce")
    return built.as_bytes(), built.nonce


def accept(
    response_der: bytes,
    p7s: bytes,
    nonce: int,
    trust: Trust,
    offered: Iterable[x509.Certificate] = (),
) -> Token:
    """Judge the fresh answer of an authority. Store `response_der` itself if this returns.

    Raises FormatError for bytes that are no exact response, UntrustedError for a refusal by the authority, another
    nonce or imprint, or an authority that is not trusted.
    """
    token = verify_token(response_der, p7s, trust, offered)
    if token.nonce != nonce:
        raise UntrustedError("time stamp: the nonce is not that of our request; an old answer was replayed")
    return token


def verify_token(
    tsr: bytes,
    p7s: bytes,
    trust: Trust,
    offered: Iterable[x509.Certificate] = (),
    crls: Iterable[x509.CertificateRevocationList] = (),
) -> Token:
    """Verify a stored response over `p7s`, at its own genTime. Errors as for `accept`."""
    offered = list(offered)
    status, signed, signer = _parse(tsr)
    tst = _tst_info(signed)
    digest = _DIGESTS.get(tst.imprint.algorithm.algorithm)
    if digest is None:
        raise FormatError("time stamp: the imprint is not SHA-256, SHA-384 or SHA-512")
    if tst.imprint.digest != digest(p7s).digest():
        raise UntrustedError("time stamp: is for another signature than this one")
    certificate = _signer_certificate(signed, signer)
    gen_time, accuracy = tst.gen_time.as_datetime(), _accuracy(tst.accuracy)
    if gen_time.year > LAST_YEAR:
        raise FormatError(f"time stamp: its time, {gen_time:%Y}, is out of range")
    authorities = trust.tsa_authorities(offered)
    if not authorities:
        raise UntrustedError("time stamp: no time-stamping authority is trusted; give its CA file or fingerprint")
    _check_certificates(signed.certificates, certificate)
    verified_by: Literal["rfc3161-client", "openssl"] = "rfc3161-client"
    if _is_sorted(signed.certificates) and status == 0:
        _verify_with_library(tsr, p7s, authorities)
    else:
        verified_by = "openssl"
        _verify_with_openssl(tsr, p7s, gen_time, authorities, offered)
    for issuer in authorities:
        if is_issued_by(certificate, issuer):
            trust.check_revocation(certificate, issuer, gen_time, crls)
    return Token(
        gen_time=gen_time,
        accuracy=accuracy,
        serial=tst.serial,
        nonce=tst.nonce,
        authority=certificate.subject.rfc4514_string(),
        certificate_sha256=fingerprint(certificate),
        verified_by=verified_by,
    )


def signer_of(tsr: bytes) -> x509.Certificate:
    """The certificate that signed a well-formed token; says nothing about validity. Raises FormatError."""
    _, signed, signer = _parse(tsr)
    return _signer_certificate(signed, signer)


def _parse(tsr: bytes) -> tuple[int, SignedData, SignerInfo]:
    """(PKIStatus, content, its one signer)."""
    if len(tsr) > TSR_SIZE_MAX_BYTES:
        raise FormatError(f"time stamp: {len(tsr)} bytes, at most {TSR_SIZE_MAX_BYTES} are allowed")
    try:
        response = asn1.decode_der(Response, tsr)
        exact = asn1.encode_der(response) == tsr
    except CERTIFICATE_ERRORS as error:
        raise FormatError(f"time stamp: not a time-stamp response ({error})") from None
    status = response.status
    if status.status not in {0, 1}:
        texts = "; ".join(status.texts or [])
        raise UntrustedError(f"time stamp: the authority refused, status {status.status} {texts[:200]!r}")
    if not exact or response.token is None or response.token.type != cms.SIGNED_DATA:
        raise FormatError("time stamp: the response holds no signed token in DER")
    signed = response.token.content
    signers = signed.signers.as_list()
    if len(signers) != 1:
        raise FormatError(f"time stamp: {len(signers)} signers, expected one")
    digests = [item.algorithm for item in signed.digests.as_list()]
    if (
        digests != [signers[0].digest.algorithm]
        or digests[0] not in _SIGNATURES
        or signed.content.content_type != TST_INFO
        or signed.version != 3
    ):
        raise FormatError("time stamp: not a version 3 token with one digest algorithm")
    signer = signers[0]
    algorithm = asn1.encode_der(signer.signature_algorithm[0]) if signer.signature_algorithm else b""
    if signer.version != 1 or algorithm not in _SIGNATURES[signer.digest.algorithm]:
        raise FormatError("time stamp: signed with an algorithm that does not fit its digest")
    return status.status, signed, signer


def _tst_info(signed: SignedData) -> TstInfo:
    try:
        tst = asn1.decode_der(TstInfo, signed.content.content)
        exact = asn1.encode_der(tst) == signed.content.content
    except CERTIFICATE_ERRORS as error:
        raise FormatError(f"time stamp: its statement is not readable ({error})") from None
    if not exact or tst.version != 1:
        raise FormatError("time stamp: its statement is not version 1 in DER")
    return tst


def _signer_certificate(signed: SignedData, signer: SignerInfo) -> x509.Certificate:
    for certificate in signed.certificates:
        check_readable(certificate)
    named = asn1.encode_der(signer.sid.issuer)
    for certificate in signed.certificates:
        if certificate.serial_number == signer.sid.serial and certificate.issuer.public_bytes() == named:
            break
    else:
        raise FormatError("time stamp: the certificate that signed it is not inside")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        raise UntrustedError("time stamp: its signer is not a time-stamping authority") from None
    if not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise UntrustedError("time stamp: its signer is not a time-stamping authority only")
    return certificate


def _check_certificates(certificates: list[x509.Certificate], signer: x509.Certificate) -> None:
    """Refuse what is not an ancestor of the signer: certificates are outside the token's own signature."""
    lineage = [signer]
    for child in lineage:
        for item in certificates:
            if item not in lineage and is_issued_by(child, item):
                lineage.append(item)
    if len(lineage) != len(certificates):
        raise UntrustedError("time stamp: holds certificates that are not of its signer; they were put in")


def _accuracy(stated: Accuracy | None) -> timedelta:
    if stated is None:
        return timedelta(0)
    seconds, millis, micros = stated.seconds or 0, stated.millis or 0, stated.micros or 0
    if not (0 <= seconds <= 86_400 * 365 and 0 <= millis <= 999 and 0 <= micros <= 999):
        raise FormatError("time stamp: its accuracy is out of range")
    return timedelta(seconds=seconds, milliseconds=millis, microseconds=micros)


def _is_sorted(certificates: list[x509.Certificate]) -> bool:
    """Whether the certificates are in the order that DER demands of a SET."""
    encoded = [item.public_bytes(Encoding.DER) for item in certificates]
    return encoded == sorted(encoded)


def _verify_with_library(tsr: bytes, p7s: bytes, authorities: list[x509.Certificate]) -> None:
    try:
        response = rfc3161_client.decode_timestamp_response(tsr)
        verified = rfc3161_client.VerifierBuilder(roots=list(authorities)).build().verify_message(response, p7s)
    except (rfc3161_client.VerificationError, *CERTIFICATE_ERRORS):
        verified = False
    if not verified:
        raise UntrustedError("time stamp: not of a trusted time-stamping authority; give the CA file above it")


def _verify_with_openssl(
    tsr: bytes,
    p7s: bytes,
    gen_time: datetime,
    authorities: list[x509.Certificate],
    offered: list[x509.Certificate],
) -> None:
    with tempfile.TemporaryDirectory(prefix="fieldgate-ts-") as folder:
        files = {name: Path(folder, name) for name in ("data", "tsr", "ca", "untrusted")}
        files["data"].write_bytes(p7s)
        files["tsr"].write_bytes(tsr)
        files["ca"].write_bytes(b"".join(item.public_bytes(Encoding.PEM) for item in authorities))
        files["untrusted"].write_bytes(b"".join(item.public_bytes(Encoding.PEM) for item in offered))
        command = [
            "openssl", "ts", "-verify", "-attime", str(int(gen_time.timestamp())),
            "-data", str(files["data"]), "-in", str(files["tsr"]), "-CAfile", str(files["ca"]),
        ]  # fmt: skip
        if offered:
            command += ["-untrusted", str(files["untrusted"])]
        try:
            done = subprocess.run(command, capture_output=True, timeout=OPENSSL_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UntrustedError(f"time stamp: openssl could not be asked, {error}") from None
    if done.returncode != 0 or b"Verification: OK" not in done.stdout + done.stderr:
        raise UntrustedError("time stamp: not of a trusted time-stamping authority")
