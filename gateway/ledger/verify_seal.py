"""Checks of one seal and of what came back for it: token, receipt, signature, certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography import x509

from gateway.ledger import cms, profile, stamp, trust
from gateway.ledger.grammar import FormatError, UntrustedError, gateway_id_of, utc_text
from gateway.ledger.receipt import Receipt
from gateway.ledger.report import Report, Voucher
from gateway.ledger.seal import Seal
from gateway.ledger.stamp import Token
from gateway.ledger.trust import Role, Trust

CLOCK_TOLERANCE: Final = timedelta(days=1)
"""By how much the verifier's own clock may be slow."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificates and revocation lists that came with the bundle: offered, not trusted."""

    certificates: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]

    @classmethod
    def read(cls, texts: Mapping[str, bytes]) -> Credentials:
        """From proof/certs/*.pem and proof/crl.pem. Raises FormatError."""
        names = [name for name in texts if name.startswith(profile.CERTS)]
        if len(names) > trust.CERTIFICATES_MAX:
            raise FormatError(f"{profile.CERTS}: more than {trust.CERTIFICATES_MAX} certificates")
        crls = trust.load_crls(texts[profile.CRL]) if profile.CRL in texts else ()
        return cls(tuple(trust.load_certificate(texts[name]) for name in names), tuple(crls))


class Bound(NamedTuple):
    """Not later than `moment`, as `voucher` says."""

    moment: datetime
    voucher: Voucher


@dataclass(slots=True)
class SealFindings:
    """What held of one seal."""

    seal: Seal | None = None
    token: Token | None = None
    receipt: Receipt | None = None
    held: dict[str, int] = field(default_factory=dict)
    """Artifacts that the receipt names: size by sha256."""
    at: datetime | None = None
    """Time at which certificates are judged."""
    bound: Bound | None = None
    """The earliest moment by which the seal is known to have existed."""


def check_seal(
    report: Report,
    texts: Mapping[str, bytes],
    suffix: str,
    credentials: Credentials,
    trusted: Trust,
    now: datetime,
) -> SealFindings:
    """Run the checks of proof/seal<suffix>.txt and the files beside it; adds lines to the report."""
    found = SealFindings()
    tail = suffix.replace("-", " ")
    name = f"proof/seal{suffix}.txt"
    p7s = texts.get(f"{name}.p7s", b"")
    tsr = texts.get(f"{name}.p7s.tsr")
    found.seal = report.attempt(f"seal{tail}", lambda: _parse_seal(texts[name]))
    if tsr is None:
        report.passed(f"stamp{tail}", "not stamped: no time-stamping authority vouches for the time", warning=True)
    else:
        found.token = report.attempt(f"stamp{tail}", lambda: _check_token(tsr, p7s, trusted, credentials))
    received = _check_receipt(report, found, texts, suffix, credentials, trusted, now)
    bounds, moments = [], []
    if found.token is not None:
        bounds.append(Bound(found.token.not_later_than, "time stamp"))
        moments.append(found.token.gen_time)
    if received is not None:
        bounds.append(Bound(received, "platform"))
        moments.append(received)
    found.bound = min(bounds, key=lambda item: item.moment, default=None)  # a tie: the time stamp
    found.at = at = min(moments, default=now)
    report.attempt(
        f"seal-signature{tail}",
        lambda: _check_signature(found.seal, texts[name], p7s, credentials, trusted, at),
    )
    return found


def check_packaging(
    texts: Mapping[str, bytes], origin: str, credentials: Credentials, trusted: Trust, at: datetime
) -> tuple[str, x509.Certificate]:
    """Signature over the tagmanifest: by the gateway, or by the platform that passed the bundle on."""
    certificate = cms.verify_detached(texts[profile.TAGMANIFEST_P7S], texts[profile.TAGMANIFEST])
    if certificate not in credentials.certificates:
        raise FormatError("packaging: the certificate of its signature is not in proof/certs")
    at = max(at, certificate.not_valid_before_utc)
    units = [item.value for item in certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)]
    if units == [Role.RECEIPT.value]:
        trusted.check_signer(certificate, Role.RECEIPT, at, offered=credentials.certificates, crls=credentials.crls)
        return "packed and signed by the platform", certificate
    trusted.check_signer(
        certificate,
        Role.GATEWAY,
        at,
        gateway_id=gateway_id_of(origin),
        offered=credentials.certificates,
        crls=credentials.crls,
    )
    return "packed and signed by the gateway", certificate


def _parse_seal(content: bytes) -> tuple[str, Seal]:
    seal = Seal.parse(content)
    return f"{seal.origin}: records {seal.first} to {seal.end - 1}", seal


def _check_token(tsr: bytes, p7s: bytes, trusted: Trust, credentials: Credentials) -> tuple[str, Token]:
    token = stamp.verify_token(tsr, p7s, trusted, credentials.certificates, credentials.crls)
    text = f"the signature existed not later than {utc_text(token.not_later_than)}, by {token.authority}"
    return text, token


def _check_signature(
    seal: Seal | None,
    seal_txt: bytes,
    p7s: bytes,
    credentials: Credentials,
    trusted: Trust,
    at: datetime,
) -> tuple[str, None]:
    certificate = cms.verify_detached(p7s, seal_txt)
    if seal is None:
        raise FormatError("signed, but the seal itself cannot be read")
    if certificate not in credentials.certificates:
        raise FormatError("the certificate of the signature is not in proof/certs")
    if trust.fingerprint(certificate) != seal.gateway_cert_sha256:
        raise UntrustedError("signed with another certificate than the seal names")
    trusted.check_signer(
        certificate,
        Role.GATEWAY,
        at,
        gateway_id=gateway_id_of(seal.origin),
        offered=credentials.certificates,
        crls=credentials.crls,
    )
    return f"by {certificate.subject.rfc4514_string()}, valid at {utc_text(at)}", None


def _check_receipt(
    report: Report,
    found: SealFindings,
    texts: Mapping[str, bytes],
    suffix: str,
    credentials: Credentials,
    trusted: Trust,
    now: datetime,
) -> datetime | None:
    """Adds the line of the receipt; returns its receiving time, where that is to be believed."""
    name, tail = f"proof/receipt{suffix}", suffix.replace("-", " ")
    present = [item for item in (f"{name}.txt", f"{name}.txt.p7s", f"{name}-artifacts.txt") if item in texts]
    if not present:
        report.passed(f"receipt{tail}", "not receipted: the platform has not confirmed this batch", warning=True)
        return None

    remarks: list[str] = []

    def step() -> tuple[str, tuple[Receipt, dict[str, int]]]:
        if len(present) != 3:
            raise FormatError(f"receipt: only {', '.join(present)} of its three files is there")
        receipt = verify_receipt(
            texts[f"{name}.txt"], texts[f"{name}.txt.p7s"], trusted, credentials.certificates, credentials.crls
        )
        held = receipt.check_artifacts(texts[f"{name}-artifacts.txt"])
        if found.seal is None:
            raise FormatError("receipt: signed, but the seal that it is for cannot be read")
        receipt.check_seal(found.seal, texts[f"proof/seal{suffix}.txt"])
        remarks.extend(_doubts(receipt, texts[f"{name}.txt.p7s"], credentials, trusted, now))
        text = (
            f"received by the platform {utc_text(receipt.received_utc)}, "
            f"{receipt.artifacts_held} of {receipt.artifacts_total} artifacts held"
        )
        return "; ".join([text, *remarks]), (receipt, held)

    result = report.attempt(f"receipt{tail}", step)
    if result is None:
        return None
    found.receipt, found.held = result
    if not remarks:
        return found.receipt.received_utc
    report.checks[-1] = replace(report.checks[-1], warning=True)
    return None


def _doubts(receipt: Receipt, p7s: bytes, credentials: Credentials, trusted: Trust, now: datetime) -> list[str]:
    """Why the date of a receipt, which only its own signer vouches for, is not to be believed; mostly empty."""
    signer = cms.signer_of(p7s)
    issuer = trusted.check_signer(
        signer,
        Role.RECEIPT,
        receipt.received_utc,
        offered=credentials.certificates,
        crls=credentials.crls,
    )
    since = trusted.revoked_since(signer, issuer, credentials.crls)
    if since is not None:
        return [f"its date is not relied upon: the platform's certificate was revoked {utc_text(since)}"]
    if receipt.received_utc > now + CLOCK_TOLERANCE:
        return ["its date is not relied upon: it is in the future; check the date of this computer"]
    return []


def verify_receipt(
    receipt_txt: bytes,
    receipt_p7s: bytes,
    trusted: Trust,
    offered: tuple[x509.Certificate, ...] = (),
    crls: tuple[x509.CertificateRevocationList, ...] = (),
) -> Receipt:
    """Signature, role and certificate of a receipt at its receiving time.

    Whether it is for our seal is `Receipt.check_seal` and `Receipt.check_artifacts`. Raises EvidenceError.
    """
    certificate = cms.verify_detached(receipt_p7s, receipt_txt)
    receipt = Receipt.parse(receipt_txt)
    trusted.check_signer(certificate, Role.RECEIPT, receipt.received_utc, offered=offered, crls=crls)
    return receipt


def seal_sha256(seal_txt: bytes) -> str:
    """SHA-256 of seal.txt: how receipts and the wire name a seal."""
    return sha256(seal_txt).hexdigest()
