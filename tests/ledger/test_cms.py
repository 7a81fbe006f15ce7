from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import cms
from gateway.ledger.grammar import EvidenceError, FormatError, UntrustedError
from tests.ledger.bureau import Bureau, issue, name_of, run
from tests.ledger.bureau import test_key as key_of

CONTENT = b"evidence-seal/v1\n"
DETACHED = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]


@pytest.fixture(scope="module")
def signature(bureau: Bureau) -> bytes:
    return bureau.gateway.sign(CONTENT)


def test_openssl_accepts_it_plainly(bureau: Bureau, signature: bytes, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(CONTENT)
    (tmp_path / "s").write_bytes(signature)
    (tmp_path / "ca").write_bytes(bureau.ca.pem)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "s", "-content", "c", "-CAfile", "ca"]
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == CONTENT
    assert b"apabilities" not in run("openssl", "asn1parse", "-inform", "DER", "-in", "s", cwd=tmp_path).stdout


def test_what_openssl_signs_is_accepted(bureau: Bureau, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    (tmp_path / "c").write_bytes(CONTENT)
    (tmp_path / "cert").write_bytes(bureau.platform.pem)
    (tmp_path / "key").write_bytes(bureau.platform.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    command = ["openssl", "cms", "-sign", "-binary", "-md", "sha256", "-in", "c", "-signer", "cert", "-inkey", "key"]
    done = run(*command, "-outform", "DER", "-out", "s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert cms.verify_detached((tmp_path / "s").read_bytes(), CONTENT) == bureau.platform.certificate


def test_the_signer_is_returned(bureau: Bureau, signature: bytes) -> None:
    assert cms.verify_detached(signature, CONTENT) == bureau.gateway.certificate
    assert cms.signer_of(signature) == bureau.gateway.certificate


def test_other_content_is_refused(signature: bytes) -> None:
    with pytest.raises(UntrustedError, match="other bytes"):
        cms.verify_detached(signature, CONTENT + b"\n")


def test_every_single_byte_mutation_outside_the_certificate_is_refused(bureau: Bureau, signature: bytes) -> None:
    """A change inside the certificate may give another certificate: whoever asks compares it with the expected one."""
    for position in range(len(signature)):
        for value in (signature[position] ^ 1, signature[position] ^ 0x80, 0x30):
            if value == signature[position]:
                continue
            mutated = signature[:position] + bytes([value]) + signature[position + 1 :]
            try:
                assert cms.verify_detached(mutated, CONTENT) != bureau.gateway.certificate, position
            except EvidenceError:
                continue


@pytest.mark.parametrize("change", [lambda s: s + b"\0", lambda s: s[:-1], lambda s: s + s, lambda s: b""])
def test_appended_and_cut_bytes_are_refused(change: object, signature: bytes) -> None:
    with pytest.raises(FormatError):
        cms.verify_detached(change(signature), CONTENT)  # type: ignore[operator]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_nothing_but_a_format_error(content: bytes) -> None:
    with pytest.raises(FormatError):
        cms.verify_detached(content, CONTENT)


def test_signatures_outside_the_profile_are_refused(bureau: Bureau) -> None:
    gateway = bureau.gateway

    def builder() -> pkcs7.PKCS7SignatureBuilder:
        made = pkcs7.PKCS7SignatureBuilder().set_data(CONTENT)
        return made.add_signer(gateway.certificate, gateway.key, hashes.SHA256())

    attached = builder().sign(Encoding.DER, [pkcs7.PKCS7Options.Binary])
    bare = builder().sign(Encoding.DER, [*DETACHED, pkcs7.PKCS7Options.NoAttributes])
    no_certificate = builder().sign(Encoding.DER, [*DETACHED, pkcs7.PKCS7Options.NoCerts])
    more = builder().add_certificate(bureau.ca.certificate).sign(Encoding.DER, DETACHED)
    two = builder().add_signer(bureau.platform.certificate, bureau.platform.key, hashes.SHA256())
    sha384 = pkcs7.PKCS7SignatureBuilder().set_data(CONTENT)
    sha384 = sha384.add_signer(gateway.certificate, gateway.key, hashes.SHA384())
    for refused in (
        attached, bare, no_certificate, more, two.sign(Encoding.DER, DETACHED), sha384.sign(Encoding.DER, DETACHED),
        builder().sign(Encoding.PEM, DETACHED), b"\0" * (cms.P7S_SIZE_MAX_BYTES + 1),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            cms.verify_detached(refused, CONTENT)


def test_keys_that_are_not_p256_are_refused() -> None:
    other_curve = issue(90, name_of("p384"), key=ec.derive_private_key(12345, ec.SECP384R1()))
    signed = cms.sign_detached(CONTENT, other_curve.certificate, other_curve.key)
    with pytest.raises(UntrustedError, match="P-256"):
        cms.verify_detached(signed, CONTENT)
    key = rsa.generate_private_key(65537, 2048)
    subject = name_of("rsa")
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(issue(91, subject).certificate.not_valid_before_utc)
        .not_valid_after(issue(91, subject).certificate.not_valid_after_utc).sign(key, hashes.SHA256())
    )  # fmt: skip
    made = pkcs7.PKCS7SignatureBuilder().set_data(CONTENT).add_signer(certificate, key, hashes.SHA256())
    with pytest.raises(FormatError, match="ECDSA"):
        cms.verify_detached(made.sign(Encoding.DER, DETACHED), CONTENT)


def test_a_signature_by_another_key_is_refused(bureau: Bureau) -> None:
    forged = issue(2, bureau.gateway.certificate.subject, bureau.ca, key=key_of(77))
    signed = cms.sign_detached(CONTENT, forged.certificate, forged.key)
    genuine = bureau.gateway.certificate.public_bytes(Encoding.DER)
    swapped = signed.replace(forged.certificate.public_bytes(Encoding.DER), genuine)
    with pytest.raises(EvidenceError):
        cms.verify_detached(swapped, CONTENT)


def test_the_sample_seal_verifies(vectors: Path) -> None:
    folder = vectors / "sample-bundle" / "proof"
    for name, certificate in (("seal.txt", "gateway.pem"), ("receipt.txt", "platform.pem")):
        signer = cms.verify_detached((folder / f"{name}.p7s").read_bytes(), (folder / name).read_bytes())
        assert signer.public_bytes(Encoding.PEM) == (folder / "certs" / certificate).read_bytes()
