"""The platform fetches from the real API of a real store, receipts, and hands the receipts back."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.ledger.receipt import Receipt
from gateway.ledger.trust import Role
from tests.api.authority import Authority
from tests.api.box import Box, filled
from tests.api.serving import TOKEN, served, tls_config
from tests.uplink.platform.fieldbox import key_and_csr
from tests.uplink.platform.wire import opened
from uplink.platform.platform import Platform
from uplink.platform.problems import Refusal
from uplink.platform.pull import pull_gateway
from uplink.pull_client import Access

GATEWAY = "gw-0001.example"


class PlatformAuthority(Authority):
    """The platform's CA in the place of the one that box tests make."""

    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self.platform = platform
        self.enrolled: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
        self.pem = platform.authority.ca_pem.encode()

    def issue(self, common_name: str, unit: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A gateway is enrolled once; a box made later has the same key: a clone."""
        if unit != Role.GATEWAY.value:
            return self.platform.authority.receipt_certificate, self.platform.authority.receipt_key
        if self.enrolled is not None:
            return self.enrolled
        key, csr = key_and_csr()
        token = self.platform.new_enrolment_token(common_name)
        answer = self.platform.enrolment.enrol(common_name, csr, token, self.platform.now())
        self.enrolled = x509.load_pem_x509_certificate(answer.certificate.encode()), key
        return self.enrolled

    def crl(self, *_: x509.Certificate, at: datetime | None = None) -> bytes:
        """The platform's."""
        return self.platform.authority.crl_pem(at or self.platform.now()).encode()


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with opened(tmp_path) as found:
        yield found


@pytest.fixture
def box(tmp_path: Path, platform: Platform) -> Iterator[Box]:
    folder = tmp_path / "box"
    folder.mkdir()
    start_utc_ns = int(platform.now().timestamp()) * 10**9  # the platform's certificates begin today
    found = filled(folder, gateway=GATEWAY, authority=PlatformAuthority(platform), start_utc_ns=start_utc_ns)
    yield found
    found.close()


def pull(platform: Platform, box: Box, limit: int = 100) -> int | Refusal:
    """What one round against the box's TLS listener comes to."""

    async def run() -> int | Refusal:
        listener = Authority()
        folder = box.folder / "tls"
        folder.mkdir(exist_ok=True)
        config = tls_config(folder, listener)
        (folder / "listener-ca.pem").write_bytes(listener.pem)
        async with served(box, config) as addresses:
            (address,) = [item for item in addresses if item.startswith("https")]
            access = Access(address, ca_file=str(folder / "listener-ca.pem"), token=TOKEN)
            try:
                return await pull_gateway(platform, GATEWAY, access, limit)
            except Refusal as refusal:
                return refusal

    return asyncio.run(run())


def test_everything_comes_once_and_the_receipts_go_back(platform: Platform, box: Box) -> None:
    assert pull(platform, box) == 2
    found = platform.summary()
    assert (found.batches, found.records, found.artifacts) == (2, 21, 3)
    for n in (1, 2):
        row = box.row(n)
        assert row.complete
        assert row.receipt_txt is not None
        assert Receipt.parse(row.receipt_txt).artifacts_held == row.artifact_count
    assert pull(platform, box) == 0
    assert list((platform.config.folder / "pulled" / GATEWAY).glob("*.tar")) == []


def test_a_receipt_that_was_not_handed_back_goes_with_the_next_round(platform: Platform, box: Box) -> None:
    assert pull(platform, box, limit=1) == 1
    box.change("UPDATE batch SET receipt_txt=NULL, receipt_p7s=NULL, receipt_artifacts=NULL, complete=0 WHERE n=1")
    assert box.row(1).receipt_txt is None
    assert pull(platform, box) == 1
    assert box.row(1).receipt_txt is not None


def test_another_history_is_a_fork(platform: Platform, box: Box, tmp_path: Path) -> None:
    pull(platform, box, limit=1)
    state = platform.config.folder / "gateways" / GATEWAY / "batches"
    assert len(list(state.iterdir())) == 1
    folder = tmp_path / "clone"
    folder.mkdir()
    clone = filled(folder, gateway=GATEWAY, authority=box.authority, start_utc_ns=box.start_utc_ns)
    try:
        refusal = pull(platform, clone)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "fork"
        assert platform.summary().forks == 1
    finally:
        clone.close()
