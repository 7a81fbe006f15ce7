"""One bureau and one sealed log for all tests of the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.ledger import bundle
from gateway.ledger.bundle import SealFiles
from tests.ledger.bureau import Bureau, Log, packed, sample_log


@pytest.fixture(scope="session")
def bureau() -> Bureau:
    return Bureau.make()


@pytest.fixture(scope="session")
def log(bureau: Bureau, tmp_path_factory: pytest.TempPathFactory) -> Log:
    return sample_log(bureau, tmp_path_factory.mktemp("spool"))


@pytest.fixture(scope="session")
def seals(log: Log) -> list[SealFiles]:
    """Stamped and receipted seals of [0, 5) and [5, 13)."""
    return [log.seal_files(0, 5), log.seal_files(5, 13)]


@pytest.fixture(scope="session")
def batch_tar(log: Log, seals: list[SealFiles], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batch") / "batch.tar"
    path.write_bytes(packed(bundle.plan_batch(log.batch(5, 13, seals[1])), log.bureau))
    return path


@pytest.fixture(scope="session")
def light_tar(log: Log, seals: list[SealFiles], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("light") / "light.tar"
    path.write_bytes(packed(bundle.plan_batch(log.batch(5, 13, seals[1], light=True)), log.bureau))
    return path


@pytest.fixture(scope="session")
def export_tar(log: Log, seals: list[SealFiles], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "export.tar"
    path.write_bytes(packed(bundle.plan_export(log.export([3, 7, 9], seals)), log.bureau))
    return path
