"""The gateway's own uplink against this platform: both sides of WIRE.md, nothing simulated but the clock."""

import asyncio
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from gateway.ledger.receipt import Receipt
from tests.api.box import draft, filled
from tests.uplink.platform.fieldbox import FieldBox, key_and_csr
from tests.uplink.platform.test_access import tls_files
from tests.uplink.platform.test_pull import GATEWAY, PlatformAuthority
from tests.uplink.platform.wire import opened, serving
from tests.uplink.rig import Rig
from uplink import enrol_client


def test_store_to_receipts(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    folder.mkdir()
    with opened(tmp_path) as platform:
        authority = PlatformAuthority(platform)
        box = filled(folder, gateway=GATEWAY, authority=authority)
        assert authority.enrolled is not None
        certificate, key = authority.enrolled
        files = tls_files(tmp_path, FieldBox(GATEWAY, key, certificate.public_bytes(Encoding.PEM), authority.pem))
        tls = ssl.create_default_context(cadata=authority.pem.decode())
        tls.load_cert_chain(*files)
        rig = Rig(box)

        async def run() -> None:
            async with serving(platform) as address:
                await rig.run(address, rig.empty, tls=tls)
                box.records(draft("position", "rec-1", number=100))
                await asyncio.to_thread(box.seal)
                await rig.run(address, rig.empty, tls=tls)

        try:
            asyncio.run(run())
            held = platform.intake.index.held(GATEWAY)
            assert (held.size, held.root) == (box.reader.tail().size, box.reader.tail().root)
            assert held.batches == 3
            for n in (1, 2, 3):
                row = box.row(n)
                assert row.complete
                assert row.receipt_txt is not None
                receipt = Receipt.parse(row.receipt_txt)
                assert receipt.artifacts_held == receipt.artifacts_total == row.artifact_count
            assert platform.summary().artifacts == 3
            assert rig.records("beacon")
            assert rig.records("uplink.quarantine") == []
        finally:
            box.close()


def test_enrolment_by_the_gateways_client(tmp_path: Path) -> None:
    with opened(tmp_path, tsa=True) as platform:
        token = platform.new_enrolment_token("gw-9")
        _, csr = key_and_csr()

        async def run() -> enrol_client.Enrolment:
            async with serving(platform) as address:
                ca = tmp_path / "ca.pem"
                ca.write_text(platform.authority.ca_pem)
                return await enrol_client.enrol(address, "gw-9", csr.encode(), token, str(ca))

        answer = asyncio.run(run())
        known = platform.enrolment.find("gw-9")
        assert known is not None
        assert answer.certificate.decode() == known.certificates[-1]
        assert answer.token == platform.enrolment.bearer("gw-9")
