from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import trust
from gateway.ledger.grammar import EvidenceError, FormatError, UntrustedError
from gateway.ledger.trust import Role, Trust
from tests.ledger.bureau import GATEWAY_ID, NOW, SEALED, VALID_FROM, VALID_TO, Bureau, issue, name_of
from tests.ledger.bureau import test_key as key_of


def test_each_role_has_its_own_certificate(bureau: Bureau) -> None:
    gateway, platform = bureau.gateway.certificate, bureau.platform.certificate
    assert bureau.trust.check_signer(gateway, Role.GATEWAY, NOW, gateway_id=GATEWAY_ID) == bureau.ca.certificate
    assert bureau.trust.check_signer(platform, Role.RECEIPT, NOW) == bureau.ca.certificate
    for certificate, role in ((gateway, Role.RECEIPT), (platform, Role.GATEWAY)):
        with pytest.raises(UntrustedError, match="another role"):
            bureau.trust.check_signer(certificate, role, NOW)
    with pytest.raises(UntrustedError, match="gw-0002"):
        bureau.trust.check_signer(gateway, Role.GATEWAY, NOW, gateway_id="gw-0002")


def test_an_authority_by_fingerprint_is_taken_from_what_came_along(bureau: Bureau) -> None:
    pinned = Trust(
        ca_fingerprints=[":".join(trust.fingerprint(bureau.ca.certificate).upper()[i : i + 2] for i in range(0, 64, 2))]
    )
    offered = [bureau.gateway.certificate, bureau.ca.certificate]
    pinned.check_signer(bureau.gateway.certificate, Role.GATEWAY, NOW, offered=offered)
    for nothing in ([], [bureau.tsa_ca.certificate]):
        with pytest.raises(UntrustedError, match="not issued by a trusted authority"):
            pinned.check_signer(bureau.gateway.certificate, Role.GATEWAY, NOW, offered=nothing)


def test_the_authority_of_stamps_is_separate_when_given(bureau: Bureau) -> None:
    assert bureau.trust.tsa_authorities() == [bureau.tsa_ca.certificate]
    assert Trust([bureau.ca.pem]).tsa_authorities() == [bureau.ca.certificate]
    pinned = Trust(tsa_ca_fingerprints=[trust.fingerprint(bureau.tsa_ca.certificate)])
    assert pinned.tsa_authorities([bureau.ca.certificate, bureau.tsa_ca.certificate]) == [bureau.tsa_ca.certificate]


def test_an_impostor_authority_of_the_same_name_is_refused(bureau: Bureau) -> None:
    impostor = issue(66, bureau.ca.certificate.subject, ca=True)
    forged = issue(67, name_of(GATEWAY_ID, Role.GATEWAY.value), impostor)
    with pytest.raises(UntrustedError, match="not issued by a trusted authority"):
        bureau.trust.check_signer(forged.certificate, Role.GATEWAY, NOW)
    both = Trust([impostor.pem, bureau.ca.pem])
    both.check_signer(bureau.gateway.certificate, Role.GATEWAY, NOW)


@pytest.mark.parametrize("at", [VALID_FROM - timedelta(seconds=1), VALID_TO + timedelta(seconds=1)])
def test_validity_is_judged_at_the_given_time(bureau: Bureau, at: datetime) -> None:
    with pytest.raises(UntrustedError, match="not at"):
        bureau.trust.check_signer(bureau.gateway.certificate, Role.GATEWAY, at)


def test_an_authority_itself_must_not_sign_and_a_leaf_must_not_issue(bureau: Bureau) -> None:
    sub_ca = issue(60, name_of(GATEWAY_ID, Role.GATEWAY.value), bureau.ca, ca=True)
    with pytest.raises(UntrustedError, match="an authority's own"):
        bureau.trust.check_signer(sub_ca.certificate, Role.GATEWAY, NOW)
    child = issue(61, name_of(GATEWAY_ID, Role.GATEWAY.value), bureau.gateway)
    with pytest.raises(UntrustedError, match="do not make it an authority"):
        Trust([bureau.gateway.pem]).check_signer(child.certificate, Role.GATEWAY, NOW)


def _bare(constraints: bool, usage: bool) -> tuple[bytes, x509.Certificate]:
    """A self-made authority without or with the wrong extensions, and a certificate of it."""
    key, subject = key_of(62), name_of("bare")
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(VALID_FROM).not_valid_after(VALID_TO)
    )  # fmt: skip
    if constraints:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if usage:
        flags = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only"], False,
        )  # fmt: skip
        builder = builder.add_extension(x509.KeyUsage(digital_signature=True, **flags), critical=True)
    leaf = (
        x509.CertificateBuilder().subject_name(name_of(GATEWAY_ID, Role.GATEWAY.value)).issuer_name(subject)
        .public_key(key.public_key()).serial_number(2).not_valid_before(VALID_FROM).not_valid_after(VALID_TO)
    )  # fmt: skip
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), leaf.sign(key, hashes.SHA256())


def test_an_authority_needs_its_extensions() -> None:
    pem, leaf = _bare(constraints=True, usage=False)
    Trust([pem]).check_signer(leaf, Role.GATEWAY, NOW)
    for constraints, usage, reason in ((False, False, "basicConstraints"), (True, True, "keyUsage")):
        pem, leaf = _bare(constraints, usage)
        with pytest.raises(UntrustedError, match=reason):
            Trust([pem]).check_signer(leaf, Role.GATEWAY, NOW)


def test_revocation_counts_from_its_date(bureau: Bureau) -> None:
    crl = bureau.crl([(bureau.gateway, SEALED)])
    strict = Trust([bureau.ca.pem], crl_pems=[crl])
    strict.check_signer(bureau.gateway.certificate, Role.GATEWAY, SEALED - timedelta(seconds=1))
    strict.check_signer(bureau.platform.certificate, Role.RECEIPT, NOW)
    with pytest.raises(UntrustedError, match="revoked since 2024-11-21T22:28:10Z"):
        strict.check_signer(bureau.gateway.certificate, Role.GATEWAY, SEALED)
    with pytest.raises(UntrustedError, match="revoked"):
        bureau.trust.check_signer(bureau.gateway.certificate, Role.GATEWAY, NOW, crls=trust.load_crls(crl))


def test_a_forged_list_is_refused_and_one_of_another_authority_says_nothing(bureau: Bureau) -> None:
    impostor = Bureau(issue(66, bureau.ca.certificate.subject, ca=True), *[bureau.gateway] * 4)
    with pytest.raises(UntrustedError, match="CRL"):
        bureau.trust.check_signer(bureau.gateway.certificate, Role.GATEWAY, NOW, crls=trust.load_crls(impostor.crl()))
    other = Bureau(bureau.tsa_ca, *[bureau.gateway] * 4)
    foreign = trust.load_crls(other.crl([(bureau.gateway, SEALED)]) + bureau.crl())
    assert len(foreign) == 2
    bureau.trust.check_signer(bureau.gateway.certificate, Role.GATEWAY, NOW, crls=foreign)


def test_files_of_the_wrong_shape_are_refused(bureau: Bureau) -> None:
    with pytest.raises(FormatError, match="2 in one file"):
        trust.load_certificate(bureau.ca.pem + bureau.gateway.pem)
    for pem in (b"", b"garbage", bureau.crl(), b"\0" * (trust.PEM_SIZE_MAX_BYTES + 1)):
        with pytest.raises(FormatError):
            trust.load_certificates(pem)
    lines = bureau.crl().splitlines(keepends=True)
    damaged = b"".join([lines[0], *lines[2:]])
    for pem in (b"", b"x" + bureau.crl(), bureau.crl()[:-2], damaged, b"\0" * (trust.PEM_SIZE_MAX_BYTES + 1)):
        with pytest.raises(FormatError, match="CRL"):
            trust.load_crls(pem)
    for text in ("", "g" * 64, "a" * 63):
        with pytest.raises(FormatError, match="fingerprint"):
            Trust(ca_fingerprints=[text])


def test_an_algorithm_without_a_hash_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    subject = name_of("ed25519")
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(VALID_TO).sign(key, None)
    )  # fmt: skip
    with pytest.raises(FormatError, match="without a hash"):
        trust.check_readable(certificate)


def test_a_certificate_has_only_one_form(bureau: Bureau) -> None:
    """The count of unused bits of the signature is covered by no signature; it must be 0."""
    for number in range(80, 90):
        made = issue(number, name_of(GATEWAY_ID, Role.GATEWAY.value), bureau.ca).certificate
        der = made.public_bytes(Encoding.DER)
        at = der.rindex(made.signature) - 1
        if made.signature[-1] & 1 == 0:
            twin = x509.load_der_x509_certificate(der[:at] + b"\x01" + der[at + 1 :])
            with pytest.raises(FormatError, match="whole number of bytes"):
                trust.check_readable(twin)
            return
    pytest.fail("no signature with an even last byte in ten: openssl has changed")


@given(st.data())
def test_a_damaged_certificate_never_raises_anything_else(bureau: Bureau, data: st.DataObject) -> None:
    der = bytearray(bureau.gateway.certificate.public_bytes(Encoding.DER))
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)) + b"-----END CERTIFICATE-----\n"
    try:
        certificate = trust.load_certificate(pem)
        bureau.trust.check_signer(certificate, Role.GATEWAY, NOW, gateway_id=GATEWAY_ID)
    except EvidenceError:
        return
    assert certificate == bureau.gateway.certificate


@pytest.fixture(scope="module")
def a_crl(bureau: Bureau) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(bureau.crl([(bureau.platform, SEALED)]))


@given(st.data())
def test_a_damaged_list_never_raises_anything_else(
    bureau: Bureau, a_crl: x509.CertificateRevocationList, data: st.DataObject
) -> None:
    der = bytearray(a_crl.public_bytes(Encoding.DER))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    pem = b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(bytes(der)) + b"-----END X509 CRL-----\n"
    try:
        crls = trust.load_crls(pem)
        bureau.trust.check_signer(bureau.gateway.certificate, Role.GATEWAY, NOW, crls=crls)
    except EvidenceError:
        return
    assert crls
