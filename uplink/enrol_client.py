"""Enrolment: the CSR goes to the platform with a one-time token, the certificate comes back (WIRE.md, Enrolment)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from gateway.core.errors import ConfigError, Problem
from gateway.ledger.grammar import EvidenceError
from gateway.ledger.trust import Role, load_certificate, load_certificates, load_crls
from uplink import answers
from uplink.answers import Conflict, Refused, Unavailable
from uplink.https_client import HttpsLink, expect, tls_context

TIMEOUT_S: Final = 30.0
TOKEN_MAX: Final = 4096
_TELL_WHAT_TO_DO: Final = ("enrolment-refused", "revoked", "other-key")
"""Problem types of the platform whose detail needs no hint of ours."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the platform gave, as PEM texts; `tsa_ca` is empty where it has no time-stamping authority."""

    certificate: bytes
    ca: bytes
    tsa_ca: bytes
    crl: bytes
    token: str
    """Bearer token for all later requests; "" where the platform uses client certificates only."""


class _Body(msgspec.Struct, frozen=True):
    certificate: str
    ca: str
    tsa_ca: str = ""
    crl: str = ""
    token: str = ""


async def enrol(
    url: str, gateway_id: str, csr_pem: bytes, token: str, ca_file: str, *, timeout_s: float = TIMEOUT_S
) -> Enrolment:
    """Enrol once; the same CSR again gets the same answer.

    Raises UplinkUnavailable where the platform cannot be reached or answers nonsense, UplinkRejected where it
    refuses or gives a certificate that is not for this key and id, ConfigError for an unusable `ca_file`.
    """
    try:
        tls = tls_context(ca_file)
    except (OSError, ssl.SSLError) as error:
        message = f"not usable for TLS ({error.strerror or error}); expected the platform's CA in PEM"
        raise ConfigError([Problem(ca_file or "system authorities", 0, "", message)]) from None
    request = {"gateway": gateway_id, "csr": csr_pem.decode("ascii"), "token": token}
    async with HttpsLink(url, tls, timeout_s=timeout_s) as link:
        answer = await link.request(
            "POST",
            link.url("/v1/enrol"),
            "enrolment",
            headers={"Content-Type": "application/json"},
            content=msgspec.json.encode(request),
        )
    try:
        body = expect(answer, 201, "enrolment").body
    except Unavailable as error:
        told = answers.problem_of(answer.body).type.endswith(_TELL_WHAT_TO_DO)
        if error.denied:
            hint = "" if told else "; ask its operator for a new token"
            raise Refused(f"enrolment of {gateway_id} refused: {_detail(answer.body)}{hint}") from None
        if answer.status == 409:
            hint = "" if told else "; the id is enrolled with another key"
            raise Refused(f"enrolment of {gateway_id} refused: {_detail(answer.body)}{hint}") from None
        raise
    except Conflict as error:
        raise Refused(str(error)) from None
    return checked(body, gateway_id, csr_pem)


def _detail(body: bytes) -> str:
    problem = answers.problem_of(body)
    return answers.foreign(problem.detail or problem.title) or "no reason given"


def checked(body: bytes, gateway_id: str, csr_pem: bytes) -> Enrolment:
    """The answer, if its certificate is for the key of the CSR and for this id and was issued by its CA.

    Raises Unavailable for an answer that cannot be read and Refused for one that is not ours.
    """
    try:
        parsed = msgspec.json.decode(body, type=_Body)
        given = Enrolment(
            parsed.certificate.encode("ascii"),
            parsed.ca.encode("ascii"),
            parsed.tsa_ca.encode("ascii"),
            parsed.crl.encode("ascii"),
            parsed.token,
        )
        certificate = load_certificate(given.certificate)
        authorities = load_certificates(given.ca)
        if given.tsa_ca:
            load_certificates(given.tsa_ca)
        if given.crl:
            load_crls(given.crl)
        units = _names(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
        names = _names(certificate, NameOID.COMMON_NAME)
        key = _key(certificate)
    except (msgspec.MsgspecError, EvidenceError, UnsupportedAlgorithm, ValueError, RecursionError) as error:
        raise answers.garbage("enrolment", str(error)) from None
    if len(given.token) > TOKEN_MAX or any(not 0x21 <= ord(sign) <= 0x7E for sign in given.token):
        raise answers.garbage("enrolment", "the bearer token is not one word of ASCII")
    if key != _key(x509.load_pem_x509_csr(csr_pem)):
        raise Refused("enrolment: the certificate that came back is for another key; nothing was stored")
    if names != [gateway_id] or units != [Role.GATEWAY.value]:
        raise Refused(
            f"enrolment: the certificate that came back is for {' '.join(names)!r}, not for gateway {gateway_id!r}"
        )
    if not any(_issued(certificate, authority) for authority in authorities):
        raise Refused("enrolment: the certificate that came back was not issued by the CA that came with it")
    return given


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(item.value) for item in certificate.subject.get_attributes_for_oid(oid)]


def _key(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
