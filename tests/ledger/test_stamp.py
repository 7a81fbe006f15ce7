from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import stamp
from gateway.ledger.grammar import EvidenceError, FormatError, UntrustedError
from gateway.ledger.trust import Trust, fingerprint, load_crls
from tests.ledger.bureau import SEALED, VALID_TO, Bureau, issue, name_of

P7S = b"the signature file"


@pytest.fixture(scope="module")
def tsr(bureau: Bureau) -> bytes:
    return bureau.stamp(P7S)


def test_a_fresh_answer_is_accepted_once_and_verifies_for_ever(bureau: Bureau) -> None:
    request, nonce = stamp.request(P7S)
    response = bureau.answer(request)
    token = stamp.accept(response, P7S, nonce, bureau.trust)
    assert token == stamp.verify_token(response, P7S, bureau.trust)
    assert token.verified_by == "rfc3161-client"
    assert token.accuracy == timedelta(seconds=1, milliseconds=500, microseconds=100)
    assert token.not_later_than == token.gen_time + token.accuracy
    assert token.certificate_sha256 == fingerprint(bureau.tsa.certificate)
    assert stamp.signer_of(response) == bureau.tsa.certificate
    with pytest.raises(UntrustedError, match="replayed"):
        stamp.accept(response, P7S, nonce + 1, bureau.trust)


def test_requests_differ_by_their_nonce() -> None:
    assert stamp.request(P7S)[1] != stamp.request(P7S)[1]


def test_a_token_for_another_signature_is_refused(bureau: Bureau, tsr: bytes) -> None:
    with pytest.raises(UntrustedError, match="another signature"):
        stamp.verify_token(tsr, P7S + b"x", bureau.trust)


def test_a_token_of_another_authority_is_refused(bureau: Bureau) -> None:
    other_ca = issue(70, bureau.tsa_ca.certificate.subject, ca=True)
    other = issue(71, bureau.tsa.certificate.subject, other_ca, timestamping=True)
    for chain in ((), (other_ca,)):
        with pytest.raises(UntrustedError, match="not of a trusted time-stamping authority"):
            stamp.verify_token(bureau.stamp(P7S, tsa=other, chain=chain), P7S, bureau.trust)


def test_without_any_trusted_authority_nothing_is_accepted(tsr: bytes) -> None:
    with pytest.raises(UntrustedError, match="no time-stamping authority is trusted"):
        stamp.verify_token(tsr, P7S, Trust())


def test_a_chain_that_is_not_sorted_goes_to_openssl(bureau: Bureau) -> None:
    intermediate = issue(72, name_of("Test TSA intermediate"), bureau.tsa_ca, ca=True)
    ways = set()
    for number in (73, 74, 75, 76):
        tsa = issue(number, name_of(f"{'TSA' * (number - 72)}"), intermediate, timestamping=True)
        tsr = bureau.stamp(P7S, tsa=tsa, chain=(intermediate, bureau.tsa_ca))
        token = stamp.verify_token(tsr, P7S, bureau.trust)
        ways.add(token.verified_by)
        with pytest.raises(UntrustedError, match="not of a trusted"):
            stamp.verify_token(tsr, P7S, Trust([bureau.ca.pem]))
    assert "openssl" in ways


def test_an_intermediate_that_came_with_the_bundle_helps_openssl_only_to_a_trusted_root(bureau: Bureau) -> None:
    intermediate = issue(72, name_of("Test TSA intermediate"), bureau.tsa_ca, ca=True)
    middle = issue(78, name_of("Test TSA middle"), intermediate, ca=True)
    tsr = bureau.stamp(P7S, tsa=issue(79, name_of("TSA"), middle, timestamping=True), chain=(middle, intermediate))
    offered = [bureau.tsa_ca.certificate]
    assert stamp.verify_token(tsr, P7S, bureau.trust, offered).authority == "CN=TSA,O=Test bureau"
    with pytest.raises(UntrustedError):
        stamp.verify_token(tsr, P7S, Trust([bureau.ca.pem]), offered)


def test_openssl_that_cannot_be_started_is_a_refusal(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    tsr = _granted_with_mods(bureau.stamp(P7S))
    assert stamp.verify_token(tsr, P7S, bureau.trust).verified_by == "openssl"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UntrustedError, match="openssl could not be asked"):
        stamp.verify_token(tsr, P7S, bureau.trust)


def _granted_with_mods(tsr: bytes, status: int = 1) -> bytes:
    response = asn1.decode_der(stamp.Response, tsr)
    info = stamp.StatusInfo(status=status, texts=response.status.texts, failure=response.status.failure)
    return asn1.encode_der(stamp.Response(status=info, token=response.token))


def test_a_refusal_by_the_authority_is_told(bureau: Bureau, tsr: bytes) -> None:
    refusal = asn1.encode_der(
        stamp.Response(status=stamp.StatusInfo(status=2, texts=["out of order"], failure=None), token=None)
    )
    with pytest.raises(UntrustedError, match=r"status 2 'out of order'"):
        stamp.verify_token(refusal, P7S, bureau.trust)
    with pytest.raises(UntrustedError, match="status 2"):
        stamp.verify_token(_granted_with_mods(tsr, 2), P7S, bureau.trust)
    empty = stamp.Response(status=stamp.StatusInfo(status=0, texts=None, failure=None), token=None)
    with pytest.raises(FormatError, match="no signed token"):
        stamp.verify_token(asn1.encode_der(empty), P7S, bureau.trust)


def test_a_signer_that_is_no_stamping_authority_is_refused(bureau: Bureau, tsr: bytes) -> None:
    response = asn1.decode_der(stamp.Response, tsr)
    assert response.token is not None
    signed = response.token.content
    plain = issue(5, name_of("Test TSA"), bureau.tsa_ca)
    for certificates, reason in (
        ([plain.certificate], "not a time-stamping authority"),
        ([], "not inside"),
        ([bureau.ca.certificate], "not inside"),
        ([bureau.tsa.certificate, bureau.ca.certificate], "put in"),
        ([bureau.tsa.certificate, bureau.tsa.certificate], "put in"),
    ):
        signed.certificates = list(certificates)
        with pytest.raises(EvidenceError, match=reason):
            stamp.verify_token(asn1.encode_der(response), P7S, bureau.trust)


def test_tokens_of_another_shape_are_refused(bureau: Bureau, tsr: bytes) -> None:
    for change, reason in (
        (lambda token: setattr(token.content, "version", 1), "version 3"),
        (lambda token: setattr(token, "type", token.content.content.content_type), "no signed token"),
        (lambda token: setattr(token.content, "signers", asn1.SetOf(token.content.signers.as_list() * 2)), "2 signers"),
        (lambda token: setattr(token.content.signers.as_list()[0], "signature_algorithm", []), "does not fit"),
    ):
        response = asn1.decode_der(stamp.Response, tsr)
        change(response.token)
        with pytest.raises(FormatError, match=reason):
            stamp.verify_token(asn1.encode_der(response), P7S, bureau.trust)


def test_a_revoked_authority_is_refused(bureau: Bureau, tsr: bytes) -> None:
    lists = Bureau(bureau.tsa_ca, *[bureau.gateway] * 4)
    crls = load_crls(lists.crl([(bureau.tsa, SEALED)]))
    with pytest.raises(UntrustedError, match="revoked"):
        stamp.verify_token(tsr, P7S, bureau.trust, crls=crls)
    late = load_crls(lists.crl([(bureau.tsa, VALID_TO)]))
    stamp.verify_token(tsr, P7S, bureau.trust, crls=late)


def test_statements_outside_the_profile_are_refused(bureau: Bureau, tsr: bytes) -> None:
    response = asn1.decode_der(stamp.Response, tsr)
    assert response.token is not None
    signed = response.token.content
    good = signed.content.content
    sha1 = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04"  # SHA-224
    for content, reason in (
        (b"garbage", "not readable"),
        (re.sub(rb"\x18\x0f\d{4}", b"\x18\x0f9999", good), "out of range"),
        (good.replace(b"\x02\x01\x01\x06", b"\x02\x01\x02\x06", 1), "not version 1"),
        (good.replace(b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01", sha1), "imprint"),
    ):
        assert content != good
        signed.content.content = content
        with pytest.raises(FormatError, match=reason):
            stamp.verify_token(asn1.encode_der(response), P7S, bureau.trust)
    for accuracy in (
        stamp.Accuracy(seconds=-1, millis=None, micros=None),
        stamp.Accuracy(seconds=None, millis=1000, micros=None),
    ):
        with pytest.raises(FormatError, match="accuracy"):
            stamp._accuracy(accuracy)
    assert stamp._accuracy(None) == timedelta(0)


@pytest.mark.parametrize("change", [lambda t: t + b"\0", lambda t: t[:-1], lambda t: b"", lambda t: b"\0" * 70_000])
def test_appended_and_cut_bytes_are_refused(change: object, tsr: bytes, bureau: Bureau) -> None:
    with pytest.raises(FormatError):
        stamp.verify_token(change(tsr), P7S, bureau.trust)  # type: ignore[operator]


def test_every_mutation_of_what_the_token_signs_is_refused(bureau: Bureau, tsr: bytes) -> None:
    """The status is outside the signature: "granted" may become "granted with modifications", nothing else."""
    for position in range(len(tsr)):
        for mask in (1, 0x20, 0x80):
            mutated = tsr[:position] + bytes([tsr[position] ^ mask]) + tsr[position + 1 :]
            if (position, mask) == (8, 1):
                assert mutated == _granted_with_mods(tsr)
                continue
            with pytest.raises(EvidenceError):
                stamp.verify_token(mutated, P7S, bureau.trust)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_nothing_but_a_format_error(content: bytes) -> None:
    with pytest.raises(FormatError):
        stamp.verify_token(content, P7S, Trust())


def test_rfc_3161_vectors(vectors: Path) -> None:
    folder = vectors / "rfc3161" / "test_tsa"
    pinned = Trust(tsa_ca_pems=[(folder / "ts_chain.pem").read_bytes()])
    token = stamp.verify_token((folder / "response.tsr").read_bytes(), b"hello", pinned)
    assert token.authority == "CN=Test TSA Timestamping,O=local"
    assert token.gen_time.isoformat() == "2024-10-08T15:40:32+00:00"
    request = (folder / "request.der").read_bytes()
    assert token.nonce is not None
    assert token.nonce.to_bytes(8, "big") in request
    assert stamp.accept((folder / "response.tsr").read_bytes(), b"hello", token.nonce, pinned) == token
    for refused in ("response-injected-certs.tsr", "other_response.tsr"):
        with pytest.raises(UntrustedError):
            stamp.verify_token((folder / refused).read_bytes(), b"hello", pinned)


def test_the_sample_token_verifies(vectors: Path) -> None:
    proof = vectors / "sample-bundle" / "proof"
    pinned = Trust([(vectors / "sample-bundle-ca.pem").read_bytes()])
    token = stamp.verify_token((proof / "seal.txt.p7s.tsr").read_bytes(), (proof / "seal.txt.p7s").read_bytes(), pinned)
    assert token.authority == "CN=Test TSA,C=CN"
