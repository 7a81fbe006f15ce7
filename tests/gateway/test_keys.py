"""The gateway's key and certificate: what is refused, and that openssl agrees with what is made."""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway import keys
from gateway.core.errors import ConfigError
from gateway.ledger import cms
from tests.gateway.identities import NOW_NS, issue, key_of, pem_of

DAY_NS = 86_400 * 1_000_000_000


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def message(error: pytest.ExceptionInfo[ConfigError]) -> str:
    return "\n".join(str(problem) for problem in error.value.problems)


def openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True, timeout=50).stdout


def test_a_new_key_and_its_request_satisfy_openssl(tmp_path: Path) -> None:
    key_file = write(tmp_path / "key", keys.new_key())
    key = keys.read_key(key_file)
    request = write(tmp_path / "csr", keys.make_csr(key, "box-1"))
    assert b"P-256" in openssl("pkey", "-in", str(key_file), "-noout", "-text")
    text = openssl("req", "-in", str(request), "-noout", "-verify", "-subject", "-nameopt", "RFC2253")
    assert b"CN=box-1,OU=Fieldgate gateway" in text
    assert keys.new_key() != keys.new_key()


def test_a_signer_signs_and_names_its_certificate(tmp_path: Path) -> None:
    key, pem = issue("box-1")
    signer = keys.load_signer(write(tmp_path / "key", pem_of(key)), write(tmp_path / "pem", pem), "box-1")
    certificate = x509.load_pem_x509_certificate(pem)
    write(tmp_path / "content", b"seal")
    write(tmp_path / "p7s", signer.sign_cms(b"seal"))
    openssl(
        *("cms", "-verify", "-binary", "-inform", "DER", "-in", str(tmp_path / "p7s"), "-noverify"),
        *("-content", str(tmp_path / "content"), "-out", "/dev/null"),
    )
    assert signer.certificate_pem == pem
    assert bytes.fromhex(signer.certificate_sha256) == certificate.fingerprint(hashes.SHA256())
    assert len(signer.sign_cms(b"x" * 100_000)) < cms.P7S_SIZE_MAX_BYTES


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (keys.new_key(), 0o640, "readable by others"),
        (keys.new_key(), 0o604, "readable by others"),
        (b"", 0o600, "not a PEM private key"),
        (b"\xff" * 100, 0o600, "not a PEM private key"),
        (b"x" * 100_000, 0o600, "larger than"),
        (pem_of(ec.generate_private_key(ec.SECP384R1())), 0o600, "not an EC P-256 key"),
        (
            rsa.generate_private_key(65537, 2048).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            0o600,
            "not an EC P-256 key",
        ),
        (
            key_of(1).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            ),
            0o600,
            "encrypted",
        ),
    ],
)
def test_keys_that_are_refused(tmp_path: Path, content: bytes, mode: int, reason: str) -> None:
    path = write(tmp_path / "key", content, mode)
    with pytest.raises(ConfigError) as error:
        keys.read_key(path)
    assert reason in message(error)
    assert "\n" not in message(error)
    assert str(path) in message(error)


def test_a_missing_key_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            keys.read_key(path)


@pytest.mark.parametrize(
    ("name", "unit", "key", "reason"),
    [
        ("box-2", keys.GATEWAY_ROLE, 1, "not to CN='box-1'"),
        ("box-1", "Fieldgate platform receipt", 1, "not for OU='Fieldgate gateway'"),
        ("box-1", None, 1, "not for OU="),
        ("box-1", keys.GATEWAY_ROLE, 2, "certifies another key"),
    ],
)
def test_certificates_that_are_refused(tmp_path: Path, name: str, unit: str | None, key: int, reason: str) -> None:
    _, pem = issue(name, unit=unit, key=key_of(key))
    with pytest.raises(ConfigError) as error:
        keys.load_signer(write(tmp_path / "key", pem_of(key_of(1))), write(tmp_path / "pem", pem, 0o644), "box-1")
    assert reason in message(error)


def test_every_reason_is_given_at_once(tmp_path: Path) -> None:
    _, pem = issue("box-2", unit=None)
    with pytest.raises(ConfigError) as error:
        keys.load_signer(tmp_path / "none", write(tmp_path / "pem", pem), "box-1")
    assert len(error.value.problems) == 3
    with pytest.raises(ConfigError, match="not a PEM certificate"):
        keys.load_signer(write(tmp_path / "key", pem_of(key_of(1))), write(tmp_path / "pem", b"rubbish"), "box-1")


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, None), (-10, None), (-11, "not valid before"), (30, None), (31, "expired on 2026-12-18")],
)
def test_validity_is_asked_at_a_time(days: int, expected: str | None) -> None:
    _, pem = issue("box-1", valid_days=(-10, 30))
    problem = keys.certificate_problem(pem, NOW_NS + days * DAY_NS)
    assert (problem is None) == (expected is None)
    assert expected is None or expected in str(problem)


def test_a_credential_of_the_same_name_takes_the_place_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    path = write(tmp_path / "gateway.key", pem_of(key_of(1)))
    assert keys.read_key(path).public_key() == key_of(1).public_key()
    write(folder / "gateway.key", pem_of(key_of(2)), 0o440)  # group bits: the mask of systemd's access list
    assert keys.read_key(path).public_key() == key_of(2).public_key()
    (folder / "gateway.key").chmod(0o444)
    with pytest.raises(ConfigError, match="readable by others"):
        keys.read_key(path)
