"""Who is asking: a gateway by bearer token or client certificate, the operator by token. WIRE.md section 2."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID
from starlette.requests import Request

from gateway.ledger.trust import Role
from uplink.platform.enrol import BEARER_PREFIX, EnrolledGateway
from uplink.platform.platform import Platform
from uplink.platform.problems import Refusal

OPERATOR: Final = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking; neither: nobody known."""

    gateway: str | None = None
    operator: bool = False


def platform_of(request: Request) -> Platform:
    """The platform that the application serves."""
    platform: Platform = request.app.state.platform
    return platform


def require_gateway(request: Request, gateway_id: str) -> None:
    """Refusal unless the caller is this gateway."""
    caller = identify(request)
    if caller.gateway is None and not caller.operator:
        raise _unauthorized(request)
    if caller.gateway != gateway_id:
        raise Refusal("not-yours", "these credentials are not for this path")


def require_reader(request: Request, gateway_id: str) -> None:
    """Refusal unless the caller is this gateway or the operator."""
    if not identify(request).operator:
        require_gateway(request, gateway_id)


def require_operator(request: Request) -> None:
    """Refusal unless the caller is the operator."""
    caller = identify(request)
    if caller.operator:
        return
    if caller.gateway is None:
        raise _unauthorized(request)
    raise Refusal("operator-only", "a gateway's credentials are not good for this")


def caller_gateway(request: Request) -> str:
    """The gateway that is asking. Refusal where it is not one."""
    caller = identify(request)
    if caller.gateway is None:
        raise _unauthorized(request)
    return caller.gateway


def identify(request: Request) -> Caller:
    """Judge all credentials of a request. Refusal where one is there and is not good."""
    platform = platform_of(request)
    by_header = _by_header(platform, request.headers.get("authorization"))
    by_certificate = _by_certificate(platform, getattr(request.state, "peer_certificate_der", None))
    if by_header == Caller(operator=True):
        return by_header
    known = by_certificate or by_header
    if known is None:
        reading = platform.config.open_reading and request.method in {"GET", "HEAD"}
        return Caller(operator=reading)
    if by_header is not None and by_header != known:
        raise Refusal("not-yours", "token and client certificate are of different gateways")
    return known


def _by_header(platform: Platform, header: str | None) -> Caller | None:
    if header is None:
        return None
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, value = base64.b64decode(value, validate=True).decode("ascii").partition(":")
        except ValueError:
            name = ""
        if name != OPERATOR:
            raise _bad_credential()
    elif scheme.lower() != "bearer":
        raise _bad_credential()
    if value.startswith(BEARER_PREFIX) and scheme.lower() == "bearer":
        gateway = platform.enrolment.gateway_of_bearer(value)
        return Caller(gateway=_not_revoked(gateway)) if gateway is not None else _refuse()
    if hmac.compare_digest(value.encode(), platform.authority.operator_token.encode()):
        return Caller(operator=True)
    return _refuse()


def _refuse() -> Caller:
    raise _bad_credential()


def _by_certificate(platform: Platform, der: bytes | None) -> Caller | None:
    """The chain and validity were checked by TLS; role, name and revocation are checked here."""
    if der is None:
        return None
    certificate = x509.load_der_x509_certificate(der)
    names = [item.value for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    units = [item.value for item in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    gateway = platform.enrolment.find(str(names[0])) if len(names) == 1 else None
    if units != [Role.GATEWAY.value] or gateway is None:
        raise Refusal("not-yours", "the client certificate is not that of an enrolled gateway")
    if platform.authority.is_revoked(certificate.serial_number):
        raise Refusal("revoked", f"the certificate of {gateway.gateway} is revoked; call the platform's operator")
    return Caller(gateway=_not_revoked(gateway))


def _not_revoked(gateway: EnrolledGateway) -> str:
    if gateway.revoked_utc is not None:
        raise Refusal("revoked", f"{gateway.gateway} is revoked; call the platform's operator")
    return gateway.gateway


def _bad_credential() -> Refusal:
    return Refusal("unauthorized", "the credential is not known here", headers={"www-authenticate": "Bearer"})


def _unauthorized(request: Request) -> Refusal:
    person = "text/html" in request.headers.get("accept", "")
    challenge = 'Basic realm="Fieldgate platform", charset="UTF-8"' if person else "Bearer"
    detail = "send a bearer token or a client certificate; a person signs in as operator with the operator token"
    return Refusal("unauthorized", detail, headers={"www-authenticate": challenge})
