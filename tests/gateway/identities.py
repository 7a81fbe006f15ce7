"""Certificates for tests of the box: an authority of one call, and what it issues."""

from __future__ import annotations

import datetime as dt
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.keys import GATEWAY_ROLE

NOW_NS = 1_795_000_000 * 1_000_000_000


@cache
def key_of(number: int) -> ec.EllipticCurvePrivateKey:
    """The same key for the same number."""
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Unencrypted PKCS#8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def issue(
    common_name: str,
    now_ns: int = NOW_NS,
    valid_days: tuple[int, int] = (-10, 365),
    unit: str | None = GATEWAY_ROLE,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """(key, certificate PEM) valid from and until so many days after `now_ns`."""
    key = key or key_of(1)
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if unit is not None:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    now = dt.datetime.fromtimestamp(now_ns // 1_000_000_000, dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=valid_days[0]))
        .not_valid_after(now + dt.timedelta(days=valid_days[1]))
    )
    return key, builder.sign(key_of(0), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
