"""Who may do what: tokens, client certificates, revocation, the operator."""

import asyncio
import base64
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.core.errors import ConfigError
from tests.uplink.platform.fieldbox import FieldBox, key_and_csr
from tests.uplink.platform.test_app import problem
from tests.uplink.platform.wire import Wire, client_for, config_in, enrolled, opened, over_wire, serving
from uplink.platform.platform import Platform, init_platform


def tls_files(folder: Path, box: FieldBox) -> tuple[Path, Path]:
    """Certificate and key of a box as files."""
    certificate, key = folder / f"{box.gateway}.pem", folder / f"{box.gateway}.key"
    certificate.write_bytes(box.certificate_pem)
    key.write_bytes(box.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


def test_nobody_and_strangers(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        path, bearer = f"{wire.base}/checkpoint", platform.enrolment.bearer("gw-1")
        basic = base64.b64encode(f"operator:{bearer}".encode()).decode()
        for header in (
            "Bearer x", "Bearer", "Bearer fgt_x.gw-1", f"Bearer {bearer}x", f"Bearer {bearer[:-1]}2", "Basic !!!",
            "Basic \xe9", "Bearer \xe9",
            f"Basic {basic}", "Digest x", "Bearer " + "x" * 9000, f"bearer  {bearer}",
        ):  # fmt: skip
            answer = await wire.client.get(path, headers=[(b"authorization", header.encode("latin-1"))])
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"]
        async with client_for(platform, str(wire.client.base_url)) as nobody:
            for method, target in (
                ("GET", path), ("POST", f"{wire.base}/batches"), ("GET", "/v1/gateways"), ("GET", "/"),
                ("GET", f"{wire.base}/requests"), ("PUT", f"{wire.base}/batches/1/stamp"), ("GET", "/v1/log/entries"),
            ):  # fmt: skip
                problem(await nobody.request(method, target), 401, "unauthorized")
            for target in ("/v1/ca", "/v1/crl", "/v1/log/checkpoint"):
                assert (await nobody.get(target)).status_code == 200
            page = await nobody.get("/", headers={"accept": "text/html"})
            assert page.headers["www-authenticate"].startswith("Basic")

    over_wire(tmp_path, scenario)


def test_a_gateway_touches_only_its_own(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        other = enrolled(platform, "gw-2")
        async with client_for(platform, str(wire.client.base_url), platform.enrolment.bearer("gw-2")) as client:
            theirs = Wire(client, "gw-2")
            tar = other.tar(other.seal())
            location = await theirs.upload("bundle", tar)
            for target in ("gw-2", "gw-3", "%2e%2e", "gw-2%2f..%2fgw-1"):
                answer = await wire.client.get(f"/v1/gateways/{target}/checkpoint")
                assert answer.status_code in {403, 404}
            problem(await wire.client.get("/v1/gateways/gw-2/checkpoint"), 403, "not-yours")
            problem(await wire.client.post("/v1/gateways/gw-2/batches", json={"upload": location}), 403, "not-yours")
            problem(await wire.client.post(f"{wire.base}/batches", json={"upload": location}), 404, "not-found")
            problem(await wire.patch(location, 0, b"x"), 404, "not-found")
            wire.gateway = "gw-2"
            problem(await wire.create("bundle", b"x"), 403, "not-yours")
            problem(await wire.client.get("/v1/gateways"), 403, "operator-only")
            assert (await theirs.batch(tar)).status_code == 200

    over_wire(tmp_path, scenario)


def test_client_certificate_instead_of_the_token(tmp_path: Path) -> None:
    async def run() -> None:
        with opened(tmp_path) as platform:
            box, other = enrolled(platform, "gw-1"), enrolled(platform, "gw-2")
            async with serving(platform) as address:
                files = tls_files(tmp_path, box)
                async with client_for(platform, address, certificate=files) as client:
                    assert (await client.get("/v1/gateways/gw-1/checkpoint")).status_code == 200
                    problem(await client.get("/v1/gateways/gw-2/checkpoint"), 403, "not-yours")
                    assert (await Wire(client, "gw-1").batch(box.tar(box.seal()))).status_code == 200
                async with client_for(platform, address, platform.enrolment.bearer("gw-2"), files) as client:
                    problem(await client.get("/v1/gateways/gw-2/checkpoint"), 403, "not-yours")
                stranger = FieldBox("gw-1", key_and_csr()[0], other.certificate_pem, b"")
                stranger.key, stranger.certificate_pem = _self_signed()
                async with client_for(platform, address, certificate=tls_files(tmp_path, stranger)) as client:
                    with pytest.raises(httpx.TransportError):
                        await client.get("/v1/ca")
                pki = platform.config.folder / "pki"
                other_role = (pki / "receipt.pem", pki / "receipt.key")
                async with client_for(platform, address, certificate=other_role) as client:
                    problem(await client.get("/v1/gateways/gw-1/checkpoint"), 403, "not-yours")

    def _self_signed() -> tuple[object, bytes]:
        with opened(tmp_path / "other") as platform:
            box = enrolled(platform)
            return box.key, box.certificate_pem

    asyncio.run(run())


def test_revoked_gateway_is_refused_everywhere(tmp_path: Path) -> None:
    async def run() -> None:
        with opened(tmp_path) as platform:
            box = enrolled(platform)
            async with serving(platform) as address:
                bearer = platform.enrolment.bearer("gw-1")
                clients = [
                    client_for(platform, address, bearer),
                    client_for(platform, address, certificate=tls_files(tmp_path, box)),
                ]
                before = platform.authority.crl_pem(platform.now())
                platform.revoke("gw-1")
                for client in clients:
                    async with client:
                        problem(await client.get("/v1/gateways/gw-1/checkpoint"), 403, "revoked")
                        problem(await Wire(client, "gw-1").create("bundle", b"x"), 403, "revoked")
                        assert (await client.get("/v1/crl")).text != before
        with opened(tmp_path) as platform:
            assert platform.enrolment.find("gw-1").revoked_utc is not None  # type: ignore[union-attr]

    asyncio.run(run())


def test_operator_reads_with_bearer_or_basic(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        await wire.batch(box.tar(box.seal()))
        token = platform.authority.operator_token
        basic = "Basic " + base64.b64encode(f"operator:{token}".encode()).decode()
        for header in (f"Bearer {token}", basic):
            headers = {"authorization": header}
            (found,) = (await wire.client.get("/v1/gateways", headers=headers)).json()["gateways"]
            assert (found["id"], found["batches"], found["size"]) == ("gw-1", 1, 3)
            assert (await wire.client.get(f"{wire.base}/batches/3/bundle", headers=headers)).status_code == 200
            problem(await wire.client.post(f"{wire.base}/batches", headers=headers, json={}), 403, "not-yours")
            problem(await wire.client.get("/v1/gateways/gw-9/checkpoint", headers=headers), 404, "not-found")

    over_wire(tmp_path, scenario)


def test_open_reading_is_for_loopback_and_for_reading(tmp_path: Path) -> None:
    async def scenario(platform: Platform, wire: Wire, box: FieldBox) -> None:
        async with client_for(platform, str(wire.client.base_url)) as nobody:
            assert (await nobody.get("/")).status_code == 200
            assert (await nobody.get(f"{wire.base}/checkpoint")).status_code == 200
            problem(await nobody.post(f"{wire.base}/requests", json={"artifacts": []}), 401, "unauthorized")
            problem(await nobody.post("/v1/uploads", headers={"tus-resumable": "1.0.0"}), 401, "unauthorized")

    over_wire(tmp_path, scenario, open_reading=True)
    with pytest.raises(ConfigError, match="loopback"):
        init_platform(config_in(tmp_path / "two", open_reading=True, listen="0.0.0.0:8443"))
