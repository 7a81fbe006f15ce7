"""Detached CMS signatures: exactly one signer, ECDSA P-256 with SHA-256, certificate embedded, strict DER.

What is accepted is narrower than RFC 5652: the bytes must be what re-encoding gives (nothing trailing, nothing in
another order), there is one certificate and it is the signer's, no CRLs, no unsigned attributes. signingTime is
written by the library from the box's clock and is not evidence.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from cryptography.x509 import ObjectIdentifier

from gateway.ledger.grammar import FormatError, UntrustedError
from gateway.ledger.trust import CERTIFICATE_ERRORS, check_readable

P7S_SIZE_MAX_BYTES: Final = 16_384

SIGNED_DATA: Final = ObjectIdentifier("1.2.840.113549.1.7.2")
DATA: Final = ObjectIdentifier("1.2.840.113549.1.7.1")
CONTENT_TYPE: Final = ObjectIdentifier("1.2.840.113549.1.9.3")
MESSAGE_DIGEST: Final = ObjectIdentifier("1.2.840.113549.1.9.4")
SHA256: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
ECDSA_WITH_SHA256: Final = ObjectIdentifier("1.2.840.10045.4.3.2")


@asn1.sequence
class Algorithm:
    """AlgorithmIdentifier whose parameters are NULL or absent."""

    algorithm: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class DetachedContent:
    """EncapsulatedContentInfo without content."""

    content_type: ObjectIdentifier


@asn1.sequence
class IssuerAndSerial:
    """Which certificate signed."""

    issuer: asn1.TLV
    serial: int


@asn1.sequence
class Attribute:
    """One signed attribute."""

    type: ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class SignerInfo:
    """SignerInfo, version 1, with signed and without unsigned attributes."""

    version: int
    sid: IssuerAndSerial
    digest: Algorithm
    signed: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]
    signature_algorithm: Algorithm
    signature: bytes


@asn1.sequence
class SignedData:
    """SignedData, version 1, detached."""

    version: int
    digests: asn1.SetOf[Algorithm]
    content: DetachedContent
    certificates: Annotated[asn1.SetOf[x509.Certificate], asn1.Implicit(0)]
    signers: asn1.SetOf[SignerInfo]


@asn1.sequence
class ContentInfo:
    """The outer layer."""

    type: ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


def sign_detached(content: bytes, certificate: x509.Certificate, private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign; `private_key` may be any object with the interface of an EC key (token, TPM). Returns DER."""
    builder = PKCS7SignatureBuilder().set_data(content).add_signer(certificate, private_key, hashes.SHA256())
    return builder.sign(
        Encoding.DER, [PKCS7Options.DetachedSignature, PKCS7Options.Binary, PKCS7Options.NoCapabilities]
    )


def signer_of(p7s: bytes) -> x509.Certificate:
    """The embedded certificate of a well-formed signature; says nothing about validity. Raises FormatError."""
    return _parse(p7s)[0]


def verify_detached(p7s: bytes, content: bytes) -> x509.Certificate:
    """Check the signature over `content` and return the certificate that made it; trust is another question.

    Raises FormatError for bytes outside the profile, UntrustedError where the signature does not fit.
    """
    certificate, signer = _parse(p7s)
    attributes = _attributes(signer)
    if attributes.get(CONTENT_TYPE) != asn1.encode_der(DATA):
        raise FormatError("signature: attribute content-type is missing or is not data")
    digest = attributes.get(MESSAGE_DIGEST)
    if digest is None:
        raise FormatError("signature: attribute message-digest is missing")
    if digest != asn1.encode_der(sha256(content).digest()):
        raise UntrustedError("signature: made over other bytes than these")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UntrustedError("signature: the certificate's key is not on the curve P-256")
    try:
        key.verify(signer.signature, asn1.encode_der(signer.signed), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise UntrustedError("signature: does not verify with the embedded certificate") from None
    return certificate


def _parse(p7s: bytes) -> tuple[x509.Certificate, SignerInfo]:
    if len(p7s) > P7S_SIZE_MAX_BYTES:
        raise FormatError(f"signature: {len(p7s)} bytes, at most {P7S_SIZE_MAX_BYTES} are allowed")
    try:
        outer = asn1.decode_der(ContentInfo, p7s)
        exact = asn1.encode_der(outer) == p7s
        data = outer.content
        certificates, signers = data.certificates.as_list(), data.signers.as_list()
        digests = data.digests.as_list()
        issuer = certificates[0].issuer.public_bytes() if certificates else b""
        named = asn1.encode_der(signers[0].sid.issuer) if signers else b""
    except CERTIFICATE_ERRORS as error:
        raise FormatError(f"signature: not a detached CMS signature of this profile ({error})") from None
    if len(certificates) != 1 or len(signers) != 1:
        raise FormatError(f"signature: {len(signers)} signers and {len(certificates)} certificates, not one")
    certificate, signer = certificates[0], signers[0]
    check_readable(certificate)
    if (
        not exact
        or outer.type != SIGNED_DATA
        or data.version != 1
        or data.content.content_type != DATA
        or [item.algorithm for item in digests] != [SHA256]
        or signer.version != 1
        or signer.digest.algorithm != SHA256
        or signer.signature_algorithm.algorithm != ECDSA_WITH_SHA256
        or signer.signature_algorithm.parameters is not None
    ):
        raise FormatError("signature: not a version 1 detached signature by ECDSA with SHA-256 in DER")
    if named != issuer or signer.sid.serial != certificate.serial_number:
        raise FormatError("signature: the signer is not the embedded certificate")
    return certificate, signer


def _attributes(signer: SignerInfo) -> dict[ObjectIdentifier, bytes]:
    """DER of the single value of each signed attribute."""
    found: dict[ObjectIdentifier, bytes] = {}
    for attribute in signer.signed.as_list():
        values = attribute.values.as_list()
        if attribute.type in found or len(values) != 1:
            raise FormatError("signature: a signed attribute occurs twice or has not exactly one value")
        found[attribute.type] = asn1.encode_der(values[0])
    return found
