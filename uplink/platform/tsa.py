"""A TEST time-stamping authority (RFC 3161) on ``openssl ts -reply``, for demo and tests. Worth nothing in court.

Its certificate, its root and its policy say so by name. A bureau names a recognised authority in the gateway's
configuration instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway import log
from uplink.platform import durable
from uplink.platform.problems import Refusal

POLICY_NAME: Final = "fieldgateTestAuthorityNotForEvidence"
POLICY_OID: Final = "2.25.228839599012789324201255811518108406123"
"""An identifier under the UUID arc: it belongs to nobody else, and to no recognised authority."""
REQUEST_MAX_BYTES: Final = 4096
WAITING_MAX: Final = 16
OPENSSL_TIMEOUT_S: Final = 20
CONFIGURATION: Final = """\
oid_section = oids
[oids]
{policy_name} = {policy_oid}
[tsa]
default_tsa = test
[test]
dir = {folder}
serial = {folder}/tsa-serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = {policy_name}
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""

_log = log.get("platform.test-tsa")


@dataclass(slots=True)
class TestAuthority:
    """One answer at a time: openssl keeps its serial number in a file."""

    __test__ = False
    """Not a test case, whatever its name suggests to pytest."""
    folder: Path
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0

    def prepare(self) -> None:
        """Write the configuration for openssl, with the folder as it is now."""
        if any(char in str(self.folder) for char in "$#\\\"'\n"):
            raise ValueError(f"platform data_dir {self.folder}: openssl cannot read a path with $ # \\ or quotes")
        text = CONFIGURATION.format(folder=self.folder.resolve(), policy_name=POLICY_NAME, policy_oid=POLICY_OID)
        durable.write_atomic(self.folder / "tsa.cnf", text.encode())
        if not (self.folder / "tsa-serial").exists():
            durable.write_atomic(self.folder / "tsa-serial", b"01\n")
        _log.warning("test_authority_offered", policy=POLICY_NAME)

    async def reply(self, query: bytes) -> bytes:
        """The DER response to a DER request; a refusal of openssl is a response too. Raises Refusal."""
        if self._waiting >= WAITING_MAX:
            raise Refusal("busy", f"{WAITING_MAX} requests are waiting already", headers={"retry-after": "1"})
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                return await asyncio.to_thread(self.answer, query)
        finally:
            self._waiting -= 1

    def answer(self, query: bytes) -> bytes:
        """The same for one caller, in its thread."""
        with tempfile.TemporaryDirectory(prefix="fieldgate-tsa-") as folder, _locked(self.folder / "tsa.lock"):
            request, response = Path(folder, "request.tsq"), Path(folder, "response.tsr")
            request.write_bytes(query)
            command = [
                "openssl", "ts", "-reply", "-config", str(self.folder / "tsa.cnf"), "-section", "test",
                "-queryfile", str(request), "-out", str(response),
            ]  # fmt: skip
            try:
                done = subprocess.run(command, capture_output=True, timeout=OPENSSL_TIMEOUT_S, check=False)
            except (FileNotFoundError, subprocess.TimeoutExpired) as error:
                _log.error("test_stamp_failed", reason=str(error))
                raise Refusal("defect", "openssl is not installed here or does not answer") from None
            if done.returncode != 0 or not response.exists():
                _log.warning("test_stamp_failed", reason=done.stderr)
                raise Refusal("malformed", "not a time-stamp request that openssl can read")
            _log.info("test_stamp_given", policy=POLICY_NAME, key="stamp")
            return response.read_bytes()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes away from the serial file. Held for one answer (about 10 ms)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
