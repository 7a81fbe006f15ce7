"""Gateways and their credentials: one-time enrolment tokens, certificates, bearer tokens, revocation.

All state is small files, so that an operator's command may make a token while the server runs:

    enrolment/<sha256 of token>.json     a token waiting for its gateway
    gateways/<id>/gateway.json           one enrolled gateway
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from gateway import log
from gateway.core.errors import IntegrityError
from gateway.ledger import grammar
from uplink.platform import durable
from uplink.platform.ca import Authority, fingerprint, read_csr
from uplink.platform.problems import Refusal

TOKEN_SIZE_MAX_CHARS: Final = 200
BEARER_PREFIX: Final = "fgt_"
RENEWAL_FRACTION: Final = 2 / 3
"""A certificate is renewed on request after this part of its validity."""

_log = log.get("platform")


class EnrolmentToken(msgspec.Struct, frozen=True):
    """A one-time token, known here by its hash only."""

    gateway: str
    expires_utc: datetime


class EnrolledGateway(msgspec.Struct, frozen=True):
    """What `gateway.json` holds."""

    gateway: str
    key_sha256: str
    certificates: list[str]
    """PEM, oldest first; the last is the present one."""
    token_sha256: str
    """The one-time token that was used: the same again gets the same answer."""
    enrolled_utc: datetime
    revoked_utc: datetime | None = None


class Credentials(msgspec.Struct, frozen=True):
    """Answer of an enrolment (WIRE.md section 3)."""

    certificate: str
    ca: str
    tsa_ca: str
    crl: str
    token: str


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def new_token(folder: Path, gateway_id: str, now: datetime, hours: int) -> str:
    """A one-time token for one gateway id, shown once and kept by its hash. Raises FormatError for a bad id."""
    grammar.origin_of(gateway_id)
    token = "fge_" + secrets.token_urlsafe(32)
    content = msgspec.json.encode(EnrolmentToken(gateway_id, now + timedelta(hours=hours)))
    durable.write_atomic(folder / "enrolment" / f"{_sha256(token)}.json", content)
    return token


@dataclass(slots=True)
class Enrolment:
    """Who the gateways are. Thread-safe."""

    folder: Path
    authority: Authority
    certificate_days: int
    offers_tsa: bool
    _known: dict[str, EnrolledGateway] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Read the enrolled gateways."""
        for path in sorted((self.folder / "gateways").glob("*/gateway.json")):
            try:
                gateway = msgspec.json.decode(path.read_bytes(), type=EnrolledGateway)
            except (msgspec.DecodeError, OSError) as error:
                raise IntegrityError(f"{path}: cannot be read ({error}); restore it from the backup") from None
            self._known[gateway.gateway] = gateway

    def gateways(self) -> Iterator[EnrolledGateway]:
        """Enrolled gateways by id."""
        yield from (self._known[name] for name in sorted(self._known))

    def find(self, gateway_id: str) -> EnrolledGateway | None:
        """One enrolled gateway."""
        return self._known.get(gateway_id)

    def bearer(self, gateway_id: str) -> str:
        """The bearer token of a gateway: derived, so that no token is stored. Bound to the enrolled key."""
        gateway = self._known[gateway_id]
        message = f"fieldgate bearer/v1\0{gateway_id}\0{gateway.key_sha256}".encode()
        mac = base64.urlsafe_b64encode(hmac.digest(self.authority.secret, message, "sha256"))
        return f"{BEARER_PREFIX}{mac.decode().rstrip('=')}.{gateway_id}"

    def gateway_of_bearer(self, token: str) -> EnrolledGateway | None:
        """Whose bearer token this is; None where it is nobody's."""
        known = self._known.get(token.partition(".")[2])
        if known is None or not hmac.compare_digest(self.bearer(known.gateway).encode(), token.encode()):
            return None
        return known

    def enrol(self, gateway_id: str, csr_pem: str, token: str, now: datetime) -> Credentials:
        """Sign a CSR against a one-time token. Raises Refusal."""
        try:
            grammar.origin_of(gateway_id)
            key = read_csr(csr_pem)
        except ValueError as error:
            raise Refusal("malformed", str(error)) from None
        with self._lock:
            known = self._known.get(gateway_id)
            if known is not None and known.token_sha256 == _sha256(token):
                return self._repeat(known, key, now)
            path = self.folder / "enrolment" / f"{_sha256(token)}.json"
            if len(token) > TOKEN_SIZE_MAX_CHARS or not self._token_is_good(path, gateway_id, now):
                raise Refusal(
                    "enrolment-refused", f"token unknown, used, expired or not for {gateway_id}; ask for a new one"
                )
            if known is not None and known.key_sha256 != fingerprint(key):
                raise Refusal("other-key", f"{gateway_id} is enrolled with another key; a new box needs a new id")
            if known is not None and known.revoked_utc is not None:
                raise Refusal("revoked", f"{gateway_id} is revoked; a new box needs a new id and a new key")
            issued = self.authority.issue_gateway(gateway_id, key, now, self.certificate_days)
            before = [] if known is None else known.certificates
            gateway = EnrolledGateway(gateway_id, fingerprint(key), [*before, issued], _sha256(token), now)
            self._store(gateway)
            path.unlink(missing_ok=True)
            _log.info("gateway_enrolled", gateway=gateway_id, key_sha256=gateway.key_sha256)
            return self._credentials(gateway, now)

    def renew(self, gateway_id: str, csr_pem: str, now: datetime) -> Credentials:
        """A further certificate for the same key once two thirds of the present one are over. Raises Refusal."""
        try:
            key = read_csr(csr_pem)
        except ValueError as error:
            raise Refusal("malformed", str(error)) from None
        with self._lock:
            known = self._known[gateway_id]
            if known.key_sha256 != fingerprint(key):
                raise Refusal("other-key", f"{gateway_id} is enrolled with another key")
            present = x509.load_pem_x509_certificate(known.certificates[-1].encode())
            begin, end = present.not_valid_before_utc, present.not_valid_after_utc
            if now >= begin + (end - begin) * RENEWAL_FRACTION:
                issued = self.authority.issue_gateway(gateway_id, key, now, self.certificate_days)
                known = msgspec.structs.replace(known, certificates=[*known.certificates, issued])
                self._store(known)
                _log.info("certificate_renewed", gateway=gateway_id)
            return self._credentials(known, now)

    def revoke(self, gateway_id: str, now: datetime) -> None:
        """Refuse this gateway from now on and put its certificates on the CRL. Raises KeyError for an unknown one."""
        with self._lock:
            known = self._known[gateway_id]
            self.authority.revoke(known.certificates, now)
            if known.revoked_utc is None:
                self._store(msgspec.structs.replace(known, revoked_utc=now))
            _log.warning("gateway_revoked", gateway=gateway_id)

    def _token_is_good(self, path: Path, gateway_id: str, now: datetime) -> bool:
        try:
            token = msgspec.json.decode(path.read_bytes(), type=EnrolmentToken)
        except FileNotFoundError:
            return False
        except msgspec.DecodeError as error:
            raise IntegrityError(f"{path}: cannot be read ({error}); delete it and make a new token") from None
        return token.gateway == gateway_id and now < token.expires_utc

    def _repeat(self, known: EnrolledGateway, key: ec.EllipticCurvePublicKey, now: datetime) -> Credentials:
        if known.key_sha256 != fingerprint(key):
            raise Refusal("other-key", f"{known.gateway} is enrolled with another key")
        if known.revoked_utc is not None:
            raise Refusal("revoked", f"{known.gateway} is revoked")
        return self._credentials(known, now)

    def _store(self, gateway: EnrolledGateway) -> None:
        folder = self.folder / "gateways" / gateway.gateway
        durable.make_folder(folder)
        durable.write_atomic(folder / "gateway.json", msgspec.json.encode(gateway))
        self._known[gateway.gateway] = gateway

    def _credentials(self, gateway: EnrolledGateway, now: datetime) -> Credentials:
        return Credentials(
            certificate=gateway.certificates[-1],
            ca=self.authority.ca_pem,
            tsa_ca=self.authority.tsa_ca_pem if self.offers_tsa else "",
            crl=self.authority.crl_pem(now),
            token=self.bearer(gateway.gateway),
        )
