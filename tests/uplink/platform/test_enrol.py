"""Enrolment: one-time tokens, idempotence, renewal; and the certificates that come out."""

import asyncio
import stat
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.core.errors import ConfigError, IntegrityError
from gateway.ledger import cms
from gateway.ledger.grammar import FormatError
from tests.uplink.platform.fieldbox import key_and_csr
from tests.uplink.platform.test_app import problem
from tests.uplink.platform.wire import client_for, config_in, opened, serving
from uplink.platform.platform import Platform, enrolment_token, init_platform, is_initialised, utc_now
from uplink.platform.problems import Refusal


def test_init_makes_private_keys_and_never_overwrites(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert not is_initialised(config)
    init_platform(config)
    files = {path: path.read_bytes() for path in config.folder.rglob("*") if path.is_file()}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    with pytest.raises(ConfigError, match="nothing was changed"):
        init_platform(config)
    assert files == {path: path.read_bytes() for path in config.folder.rglob("*") if path.is_file()}


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init"):
        Platform(config_in(tmp_path))
    with opened(tmp_path), pytest.raises(ConfigError, match="another platform"):
        opened(tmp_path)
    with opened(tmp_path) as platform:
        (platform.config.folder / "pki/ca.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod"):
        opened(tmp_path)


def test_foreign_version_is_not_touched(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        (platform.config.folder / "VERSION").write_text("fieldgate-platform/2\n")
    with pytest.raises(IntegrityError, match="VERSION"):
        opened(tmp_path)


def test_enrol_over_the_wire(tmp_path: Path) -> None:
    async def run() -> None:
        with opened(tmp_path, tsa=True) as platform:
            token = platform.new_enrolment_token("gw-7")
            _, csr = key_and_csr()
            body = {"gateway": "gw-7", "csr": csr, "token": token}
            async with serving(platform) as address, client_for(platform, address) as client:
                problem(await client.post("/v1/enrol", json={**body, "token": "wrong"}), 403, "enrolment-refused")
                problem(await client.post("/v1/enrol", json={**body, "gateway": "gw-8"}), 403, "enrolment-refused")
                first = await client.post("/v1/enrol", json=body)
                assert first.status_code == 201, first.text
                again = await client.post("/v1/enrol", json=body)
                assert {**again.json(), "crl": ""} == {**first.json(), "crl": ""}
                problem(await client.post("/v1/enrol", json={**body, "csr": key_and_csr()[1]}), 409, "other-key")
                headers = {"authorization": f"Bearer {first.json()['token']}"}
                assert (await client.get("/v1/gateways/gw-7/checkpoint", headers=headers)).status_code == 200
                renewed = await client.post("/v1/gateways/gw-7/certificate", json={"csr": csr}, headers=headers)
                assert renewed.json()["certificate"] == first.json()["certificate"]
                other = {"csr": key_and_csr()[1]}
                problem(
                    await client.post("/v1/gateways/gw-7/certificate", json=other, headers=headers), 409, "other-key"
                )
                assert first.json()["tsa_ca"] == first.json()["ca"]

    asyncio.run(run())


def test_certificate_says_what_the_platform_says(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        _, csr = key_and_csr("gw-1,OU=Fieldgate platform receipt")
        answer = platform.enrolment.enrol("gw-1", csr, platform.new_enrolment_token("gw-1"), utc_now())
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
        assert certificate.subject.rfc4514_string() == "CN=gw-1,OU=Fieldgate gateway,O=Fieldgate reference platform"
        with pytest.raises(x509.ExtensionNotFound):
            certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def test_plain_openssl_accepts_a_gateway_signature(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        key, csr = key_and_csr()
        answer = platform.enrolment.enrol("gw-1", csr, platform.new_enrolment_token("gw-1"), utc_now())
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
        files = {
            "text": b"evidence", "p7s": cms.sign_detached(b"evidence", certificate, key),
            "ca": (answer.ca + answer.crl).encode(),
        }  # fmt: skip
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        command = [
            "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", tmp_path / "p7s", "-content",
            tmp_path / "text", "-CAfile", tmp_path / "ca", "-crl_check", "-out", "/dev/null",
        ]  # fmt: skip
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        platform.revoke("gw-1")
        (tmp_path / "ca").write_text(answer.ca + platform.authority.crl_pem(utc_now()))
        assert b"revoked" in subprocess.run(command, capture_output=True, check=False).stderr


def test_token_expires_and_is_used_up(tmp_path: Path) -> None:
    with opened(tmp_path, enrolment_token_hours=1) as platform:
        enrol, now = platform.enrolment.enrol, utc_now()
        late = platform.new_enrolment_token("gw-1")
        with pytest.raises(Refusal, match="expired"):
            enrol("gw-1", key_and_csr()[1], late, now + timedelta(hours=2))
        _, csr = key_and_csr()
        enrol("gw-1", csr, late, now)
        assert list((platform.config.folder / "enrolment").iterdir()) == []
        second = platform.new_enrolment_token("gw-1")
        with pytest.raises(Refusal) as caught:
            enrol("gw-1", key_and_csr()[1], second, now)
        assert caught.value.code == "other-key"
        assert enrol("gw-1", csr, second, now).certificate
        with pytest.raises(FormatError):
            platform.new_enrolment_token("../gw")
        beside = enrolment_token(platform.config, "gw-2")  # an operator's command, while the platform runs
        assert enrol("gw-2", key_and_csr()[1], beside, now).token
    with pytest.raises(ConfigError, match="init"):
        enrolment_token(config_in(tmp_path / "nothing"), "gw-1")


def test_renewal_after_two_thirds_of_the_life(tmp_path: Path) -> None:
    with opened(tmp_path, gateway_certificate_days=90) as platform:
        _, csr = key_and_csr()
        now = utc_now()
        first = platform.enrolment.enrol("gw-1", csr, platform.new_enrolment_token("gw-1"), now)
        assert platform.enrolment.renew("gw-1", csr, now + timedelta(days=30)).certificate == first.certificate
        renewed = platform.enrolment.renew("gw-1", csr, now + timedelta(days=70))
        assert renewed.certificate != first.certificate
        assert renewed.token == first.token


EMPTY_REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize("csr", ["", "nonsense", "\ud800", EMPTY_REQUEST, "x" * 9000])
def test_bad_csr(tmp_path: Path, csr: str) -> None:
    with opened(tmp_path) as platform:
        with pytest.raises(Refusal) as caught:
            platform.enrolment.enrol("gw-1", csr, platform.new_enrolment_token("gw-1"), utc_now())
        assert caught.value.code == "malformed"


def test_crl_is_renewed_daily(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        now = utc_now()
        first = platform.authority.crl_pem(now)
        assert platform.authority.crl_pem(now + timedelta(hours=2)) == first
        later = x509.load_pem_x509_crl(platform.authority.crl_pem(now + timedelta(days=2)).encode())
        assert isinstance(later.next_update_utc, datetime)
        assert later.next_update_utc > x509.load_pem_x509_crl(first.encode()).next_update_utc  # type: ignore[operator]
