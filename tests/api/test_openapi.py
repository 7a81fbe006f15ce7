"""The running application is what its OpenAPI document says: schemathesis asks, hypothesis is not random."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.auth import BearerAuth
from gateway.api.openapi import document
from gateway.api.problem import KINDS
from tests.api.box import filled
from tests.api.serving import TOKEN, app_of, ask

AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


class Late:
    """An application that a fixture puts in place: schemathesis wants one when tests are collected."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


LATE = Late()
# A well-formed request may still meet another entity tag (412), an empty range (416) or a receipt of nothing (422).
EXPECTED = ["2xx", "304", "404", "409", "410", "412", "416", "422"]
CONFIG = {
    "checks": {"positive_data_acceptance": {"expected-statuses": EXPECTED}},
    "auth": {"openapi": {"token": {"bearer": TOKEN}}},
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ASGIApp]:
    box = filled(tmp_path_factory.mktemp("box"))
    box.keep_receipt(1, *box.receipt(1))
    LATE.app = BearerAuth(app_of(box), TOKEN)
    yield LATE
    box.close()


schema = schemathesis.openapi.from_dict(document(), config=SchemathesisConfig.from_dict(CONFIG))
schema.app = LATE


@schema.parametrize()
@settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.usefixtures("app")
def test_the_application_conforms(case: schemathesis.Case) -> None:
    case.call_and_validate()


def test_the_document_is_served(app: ASGIApp) -> None:
    assert ask(app, "GET", "/v1/openapi.json", AUTHORIZED).json() == json.loads(json.dumps(document()))


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(document())
    schemas = document()["components"]["schemas"]
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used <= set(schemas)
    assert set(schemas) - used <= {"Problem"} | used


def test_every_documented_status_is_one_that_a_problem_or_an_answer_has() -> None:
    possible = {status for status, _ in KINDS.values()} | {200, 206, 304}
    for path, item in document()["paths"].items():
        for method in ("get", "head", "post"):
            for status in item.get(method, {}).get("responses", {}):
                assert int(status) in possible, (path, method, status)
