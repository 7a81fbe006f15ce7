"""Enrolment: what comes back must be for our key, our id, and from the CA that comes with it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigError, UplinkRejected, UplinkUnavailable
from gateway.ledger.trust import Role
from tests.api.authority import Authority
from tests.uplink import server as s
from tests.uplink.server import FakePlatform
from uplink.enrol_client import checked, enrol

ID = "gw-0001.example"
AUTHORITY = Authority()
CERTIFICATE, KEY = AUTHORITY.issue(ID, Role.GATEWAY.value)


def csr_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


CSR = csr_of(KEY)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def body(**changes: Any) -> bytes:
    good = {
        "certificate": pem(CERTIFICATE),
        "ca": AUTHORITY.pem.decode(),
        "tsa_ca": "",
        "crl": AUTHORITY.crl().decode(),
        "token": "t0ken",
    }
    return json.dumps({**good, **changes}).encode()


def test_a_good_answer_is_taken() -> None:
    given_ = checked(body(), ID, CSR)
    assert given_.certificate == pem(CERTIFICATE).encode()
    assert given_.token == "t0ken"
    assert given_.tsa_ca == b""


def test_a_certificate_for_another_key_is_refused() -> None:
    with pytest.raises(UplinkRejected, match="for another key"):
        checked(body(), ID, csr_of(ec.generate_private_key(ec.SECP256R1())))


def test_a_certificate_for_another_id_is_refused() -> None:
    with pytest.raises(UplinkRejected, match=r"not for gateway 'gw-0002.example'"):
        checked(body(), "gw-0002.example", CSR)


def test_a_certificate_of_another_role_is_refused() -> None:
    certificate, key = AUTHORITY.issue(ID, Role.RECEIPT.value)
    with pytest.raises(UplinkRejected):
        checked(body(certificate=pem(certificate)), ID, csr_of(key))


def test_a_certificate_of_another_ca_is_refused() -> None:
    with pytest.raises(UplinkRejected, match="not issued by the CA"):
        checked(body(ca=Authority("Other CA").pem.decode()), ID, CSR)


@pytest.mark.parametrize(
    "changes",
    [
        {"certificate": "x"},
        {"ca": ""},
        {"crl": "x"},
        {"tsa_ca": "x"},
        {"token": "a\nb"},
        {"certificate": "证"},
        {"ca": 5},
    ],
)
def test_answers_that_cannot_be_read(changes: dict[str, Any]) -> None:
    with pytest.raises(UplinkUnavailable, match="makes no sense"):
        checked(body(**changes), ID, CSR)


@given(st.binary(max_size=200))
def test_garbage_is_garbage(content: bytes) -> None:
    with pytest.raises(UplinkUnavailable, match="makes no sense"):
        checked(content, ID, CSR)


def over_the_wire(platform: FakePlatform) -> Any:
    async def main() -> Any:
        async with platform.listen() as url:
            return await enrol(url, ID, CSR, "once", "", timeout_s=2)

    return asyncio.run(main())


def test_the_request_carries_id_csr_and_token() -> None:
    platform, seen = FakePlatform(), []

    async def accept(x: s.Exchange) -> None:
        seen.append(json.loads(await x.body()))
        await x.reply(201, body())

    platform.script = [("POST /v1/enrol", accept)]
    assert over_the_wire(platform).token == "t0ken"
    assert seen == [{"gateway": ID, "csr": CSR.decode(), "token": "once"}]


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "ask its operator for a new token"), (409, "enrolled with another key"), (422, "answers 422")],
)
def test_refusals_say_what_to_do(status: int, words: str) -> None:
    platform = FakePlatform()
    platform.script = [("POST", s.answer(status, b'{"detail":"no\\nway"}'))]
    with pytest.raises(UplinkRejected, match=words) as caught:
        over_the_wire(platform)
    assert "no way" in str(caught.value)


def test_a_platform_that_is_down_is_unavailable() -> None:
    platform = FakePlatform()
    platform.script = [("POST", s.answer(503))]
    with pytest.raises(UplinkUnavailable):
        over_the_wire(platform)


def test_an_unreadable_ca_file_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="not usable for TLS"):
        asyncio.run(enrol("https://127.0.0.1:1", ID, CSR, "once", "/nowhere/ca.pem"))
