"""The client against the reference platform: enrolment, TLS, stamping, delivery, receipts; nothing is pretended."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec.structs import replace

from buffers.db import Database
from buffers.journal import Journal
from buffers.outbox import Outbox
from buffers.queries import Queries
from buffers.seals import Seals
from buffers.signatures import Signatures
from buffers.spool import Spool
from gateway.bundles import StoreBundles
from gateway.clock import SYSTEM
from gateway.config import Config, GatewayConfig, KeysConfig, SealConfig, StorageConfig, TimeConfig, UplinkConfig
from gateway.core.errors import ConfigError, ForkError
from gateway.core.instant import Instant
from gateway.ledger.trust import Trust, load_certificate
from gateway.sealer import Sealer
from tests.api.authority import Authority
from tests.api.box import Box
from tests.uplink.rig import Rig
from uplink.enrol_client import Enrolment, enrol
from uplink.platform.config import PlatformConfig
from uplink.platform.platform import Platform, init_platform
from uplink.platform.server import run_platform
from uplink.runner import run_stamping, run_uplink

ID = "gw-0001.example"
LIMIT_S = 25


class LiveBox(Box):
    """A box whose clock starts now, because the platform's certificates do."""

    def instant(self, seq: int) -> Instant:
        return Instant("0" * 32, 1, seq, self.start_utc_ns + seq * 1_000_000)


@dataclass
class Given:
    """Stands where Box expects an authority: the certificate came by enrolment."""

    enrolment: Enrolment
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.enrolment.ca

    def crl(self) -> bytes:
        return self.enrolment.crl

    def issue(self, *_: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        return load_certificate(self.enrolment.certificate), self.key


@dataclass
class Scene:
    """A platform that listens and a gateway that is enrolled with it."""

    url: str
    platform: Platform
    box: LiveBox
    enrolment: Enrolment
    folder: Path

    def config(self, *, stamped: bool = True, token: bool = True, **uplink: Any) -> Config:
        folder = self.folder
        return Config(
            gateway=GatewayConfig(id=ID),
            storage=StorageConfig(state_dir=str(self.box.state_dir)),
            keys=KeysConfig(key_file=str(folder / "gateway.key"), certificate_file=str(folder / "gateway.pem")),
            time=TimeConfig(tsa_url=f"{self.url}/tsa" if stamped else ""),
            uplink=UplinkConfig(
                url=self.url,
                ca_file=str(folder / "platform-ca.pem"),
                token_file=str(folder / "token") if token else "",
                timeout_s=10,
                **uplink,
            ),
        )

    async def run(
        self, config: Config, until: Callable[[], bool], *, tsa_ca: bytes = b"", rig: Rig | None = None
    ) -> Rig:
        """Both loops until the condition holds."""
        rig, stop = rig or Rig(self.box), asyncio.Event()

        def tick() -> None:
            if until():
                stop.set()

        trust = Trust([self.enrolment.ca], tsa_ca_pems=[tsa_ca or self.enrolment.tsa_ca])
        common: dict[str, Any] = {"stop": stop, "tick": tick, "fraction": lambda: 0.5, "status": rig.status}
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(
                run_uplink(config, rig.parts, trust, **common), run_stamping(config, rig.parts, trust, **common)
            )
        return rig


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """A fresh platform and a fresh gateway."""
    config = PlatformConfig(data_dir=str(folder / "platform"), listen="127.0.0.1:0", tsa=True, reserve_bytes=0)
    init_platform(config)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    with Platform(config) as platform:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_platform(config, stop, ready.set_result, platform=platform))
            url = await ready
            ca_file = folder / "platform-ca.pem"
            ca_file.write_text(platform.authority.ca_pem)
            key = ec.generate_private_key(ec.SECP256R1())
            request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
            csr = request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
            enrolment = await enrol(url, ID, csr, platform.new_enrolment_token(ID), str(ca_file))
            (folder / "gateway.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            (folder / "gateway.pem").write_bytes(enrolment.certificate)
            (folder / "token").write_text(enrolment.token + "\n")
            given = Given(enrolment, key)
            box = LiveBox(folder, ID, given, SYSTEM.realtime_ns())  # type: ignore[arg-type]
            try:
                yield Scene(url, platform, box, enrolment, folder)
            finally:
                box.close()
                stop.set()


async def seal(box: Box, *contents: bytes) -> None:
    for number, content in enumerate(contents):
        box.record("station.file", "rec-7", box.put(content, f"{number}.MP4"))
    box.record("position", "rec-7", number=1)
    row = await box.sealer.seal(box.now(), whatever_waits=True)
    assert row is not None


def complete(box: Box, count: int) -> bool:
    rows = box.reader.batches(0, 100)
    return len(rows) >= count and all(row.complete for row in rows[:count]) and not box.outbox.due(1)


@pytest.mark.parametrize(
    ("token", "client_certificate"), [(True, True), (True, False), (False, True)], ids=["both", "token", "certificate"]
)
def test_sealed_stamped_delivered_receipted(tmp_path: Path, token: bool, client_certificate: bool) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            await seal(it.box, b"video" * 500_000, b"", b"photo")
            await seal(it.box, b"second")
            config = it.config(token=token, client_certificate=client_certificate)
            rig = await it.run(config, lambda: complete(it.box, 2) and it.box.row(2).tsr is not None)
            assert rig.records("uplink.quarantine") == []
            summary = it.platform.summary()
            assert (summary.batches, summary.artifacts, summary.stamped, summary.forks) == (2, 4, 2, 0)
            assert summary.records == it.box.row(2).end
            assert len(rig.records("beacon")) == 1  # later ones are spaced
            assert rig.status.stamping_state == "ok"
            assert rig.alarms() == []

    asyncio.run(main())


def test_a_token_that_enrolment_brings_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            await seal(it.box, b"video")
            rig, config = Rig(it.box), it.config(stamped=False, client_certificate=False, retry_max_s=1)
            token, fresh = tmp_path / "token", tmp_path / "fresh"
            good = token.read_text()
            token.write_text("not-a-token-of-this-platform\n")

            def until() -> bool:
                if rig.status.state == "refused" and not fresh.exists() and token.read_text() != good:
                    fresh.write_text(good)
                    fresh.replace(token)
                return complete(it.box, 1)

            await it.run(config, until, rig=rig)
            assert rig.alarms() == [("uplink.denied", "raised"), ("uplink.denied", "cleared")]

    asyncio.run(main())


def test_a_late_token_follows_its_batch(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            await seal(it.box, b"video")
            await it.run(it.config(stamped=False), lambda: complete(it.box, 1))
            assert it.platform.summary().stamped == 0
            await it.run(it.config(), lambda: it.platform.summary().stamped == 1 and not it.box.outbox.due(1))

    asyncio.run(main())


def test_tokens_of_another_authority_are_never_stored_and_raise_an_alarm(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            for number in range(3):
                await seal(it.box, b"video %d" % number)
            rig, config = Rig(it.box), it.config(stamp_grace_s=0)

            def alarmed() -> bool:
                return ("stamping.refused", "raised") in rig.alarms() and complete(it.box, 3)

            await it.run(config, alarmed, tsa_ca=Authority("Other TSA root").pem, rig=rig)
            assert rig.status.stamping_state == "refused"
            assert "not of a trusted time-stamping authority" in rig.status.stamping_reason
            assert {row.tsr for row in it.box.reader.batches(0, 9)} == {None}
            again = Rig(it.box)

            def cleared() -> bool:
                return it.box.row(3).tsr is not None and ("stamping.refused", "cleared") in again.alarms()

            await it.run(config, cleared, rig=again)
            assert again.status.stamping_state == "ok"

    asyncio.run(main())


def test_an_authority_that_is_down_never_holds_up_delivery(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            await seal(it.box, b"video")
            config = it.config(stamp_grace_s=0)
            config = replace(config, time=TimeConfig(tsa_url="http://127.0.0.1:1/tsa"))
            rig = await it.run(config, lambda: complete(it.box, 1))
            assert rig.status.stamping_state == "unreachable"
            assert rig.status.stamping_reason.startswith(
                "time stamp: time-stamping authority 127.0.0.1: cannot connect"
            )
            assert it.box.outbox.backlog().unstamped == 1

    asyncio.run(main())


def test_on_request_the_records_go_at_once_and_a_video_when_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            await seal(it.box, b"first video", b"second video")
            config = it.config(stamped=False, artifacts="on-request")
            await it.run(config, lambda: it.box.row(1).receipt_txt is not None)
            assert it.platform.summary().artifacts == 0
            wanted = it.box.artifacts(1)[0].sha256
            assert it.platform.index is not None
            it.platform.index.request(ID, wanted)
            await it.run(config, lambda: it.platform.summary().artifacts == 1 and len(it.box.outbox.due(9)) == 1)

    asyncio.run(main())


def test_yesterdays_snapshot_stops_with_fork(tmp_path: Path) -> None:
    """The store is put back to before the last batch; then it seals something else."""

    async def main() -> None:
        async with scene(tmp_path) as it:
            await seal(it.box, b"first")
            await it.run(it.config(stamped=False), lambda: complete(it.box, 1))
            it.box.database.close()
            shutil.copytree(it.box.state_dir, tmp_path / "snapshot")
            restored = reopened(it, it.box.state_dir)
            await seal(restored, b"second")
            it.box = restored
            await it.run(it.config(stamped=False), lambda: complete(it.box, 2))
            it.box.close()
            it.box = reopened(it, tmp_path / "snapshot")
            with pytest.raises(ForkError, match="FORK"):
                await it.run(it.config(stamped=False), lambda: False)
            await seal(it.box, b"another second")
            with pytest.raises(ForkError, match="FORK"):
                await it.run(it.config(stamped=False), lambda: False)
            assert it.platform.summary().batches == 2

    asyncio.run(main())


def reopened(it: Scene, state_dir: Path) -> LiveBox:
    """The same gateway over a store that exists."""
    old, box = it.box, LiveBox.__new__(LiveBox)
    box.__dict__.update(old.__dict__)
    box.state_dir = state_dir
    box.database = Database.open(state_dir, ID, commit_window_ms=0, reserve_bytes=0)
    box.spool = Spool(box.database, box.folder / "spool", reserve_bytes=0)
    box.journal, box.outbox = Journal(box.database), Outbox(box.database)
    box.reader, box.signatures = Queries(box.database), Signatures(box.database)
    box.sealer = Sealer(Seals(box.database), box.signer, box, SealConfig(), box.origin)
    box.bundles = StoreBundles(box.reader, box.signer, box.signatures, box.spool, box.ca_file, None, box.crl_file)
    return box


@pytest.mark.parametrize("what", ["ca", "token", "key"])
def test_files_that_cannot_be_used_are_configuration_errors(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        async with scene(tmp_path) as it:
            {
                "ca": lambda: (tmp_path / "platform-ca.pem").write_text("no pem"),
                "token": lambda: (tmp_path / "token").write_text("two words\n"),
                "key": (tmp_path / "gateway.key").unlink,
            }[what]()
            with pytest.raises(ConfigError):
                await it.run(it.config(stamped=False), lambda: True)

    asyncio.run(main())


def test_without_a_platform_and_an_authority_both_loops_return_at_once(tmp_path: Path) -> None:
    box = Box(tmp_path)
    rig = Rig(box)

    async def main() -> None:
        common: dict[str, Any] = {
            "stop": asyncio.Event(), "tick": lambda: None, "fraction": lambda: 0.5, "status": rig.status,
        }  # fmt: skip
        await run_uplink(rig.config(), rig.parts, box.trust, **common)
        await run_stamping(rig.config(), rig.parts, box.trust, **common)

    asyncio.run(main())
    assert rig.status.state == "off"
    assert rig.status.stamping_state == "off"
    box.close()
