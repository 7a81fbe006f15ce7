"""The test time-stamping authority: openssl and our own verifier accept it, and it says everywhere what it is."""

import asyncio
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.ledger import stamp
from tests.uplink.platform.wire import opened
from uplink.platform import tsa
from uplink.platform.problems import Refusal


def test_token_is_good_and_labelled(tmp_path: Path) -> None:
    with opened(tmp_path, tsa=True) as platform:
        assert platform.tsa is not None
        query, nonce = stamp.request(b"signature")
        response = platform.tsa.answer(query)
        token = stamp.accept(response, b"signature", nonce, platform.trust())
        assert token.verified_by == "rfc3161-client"
        assert "TEST" in token.authority
        for name, content in (
            ("data", b"signature"),
            ("tsr", response),
            ("ca", platform.authority.tsa_ca_pem.encode()),
        ):
            (tmp_path / name).write_bytes(content)
        command = ["openssl", "ts", "-verify", "-data", "data", "-in", "tsr", "-CAfile", "ca"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
        text = subprocess.run(
            ["openssl", "ts", "-reply", "-in", "tsr", "-text"], cwd=tmp_path, capture_output=True, check=False
        )
        assert tsa.POLICY_OID.encode() in text.stdout
        assert "TestAuthorityNotForEvidence" in tsa.POLICY_NAME


def test_serial_numbers_never_repeat(tmp_path: Path) -> None:
    with opened(tmp_path, tsa=True) as platform:
        authority = platform.tsa
        assert authority is not None
        query, nonce = stamp.request(b"signature")
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(authority.answer, [query] * 8))
        serials = {stamp.accept(item, b"signature", nonce, platform.trust()).serial for item in answers}
        assert len(serials) == 8


def test_a_crowd_is_told_to_wait(tmp_path: Path) -> None:
    with opened(tmp_path, tsa=True) as platform:
        authority = platform.tsa
        assert authority is not None
        authority._waiting = tsa.WAITING_MAX
        with pytest.raises(Refusal) as caught:
            asyncio.run(authority.reply(b"any"))
        assert (caught.value.status, caught.value.headers) == (429, {"retry-after": "1"})


def test_path_that_openssl_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="openssl cannot read"):
        tsa.TestAuthority(tmp_path / "a$b").prepare()
