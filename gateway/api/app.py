"""The gateway's HTTP API: what a platform needs to pull evidence, and what tools need to look (API.md).

Everything is read through ports; the one thing that changes state is the receipt of a platform that pulled.
Reading happens in worker threads, so that a slow disk never holds up the loops that take evidence in.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import metrics
from gateway.api import findings, live, orders, query, views
from gateway.api.bodies import body_of, demand_json
from gateway.api.openapi import document
from gateway.api.problem import ProblemError
from gateway.api.problem import response as problem_response
from gateway.api.query import Query
from gateway.api.roles import Caller, Rights, caller_of, demand
from gateway.api.streams import ARTIFACTS_MAX, BUNDLES_MAX, FileSource, Slots, answer, whole
from gateway.core.errors import (
    DiskError,
    FieldgateError,
    IntegrityError,
    StoreFull,
    TransientError,
    UplinkRejected,
)
from gateway.core.ports import BatchRow, Bundles, ByteSource, Live, Orders, Reader, SourceStatus, Spool
from gateway.ledger import checkpoint, grammar, merkle, proof

T = TypeVar("T")

NO_STORE: Final = "no-store"
REVALIDATE: Final = "private, no-cache"
IMMUTABLE: Final = "private, max-age=31536000, immutable"

RECEIPT_BODY_MAX_BYTES: Final = 20_971_520
RECORDS_BODY_MAX_BYTES: Final = 4_194_304
"""A page of records ends early, with a `next` link, once it holds this many bytes."""
RECORDS_LOOKED_AT_MAX: Final = 5000
"""A page ends after so many records that the caller may not see, so that one request stays a small one."""
RECORDS_STEP: Final = 50
"""Records read from the store at once, so that a page of largest leaves stays within bounds of memory."""

_SHA256: Final = re.compile(grammar.HEX_SHA256)
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Backend:
    """What the API shows, as ports and plain functions."""

    origin: str
    """``<gateway id>/evidence``."""
    reader: Reader
    bundles: Bundles
    spool: Spool
    sources: Callable[[], Sequence[SourceStatus]]
    health: Callable[[], Mapping[str, Any]]
    """JSON values with at least ``status``: ok, degraded or failing."""
    accept_receipt: Callable[[int, bytes, bytes, bytes], Awaitable[None]]
    """(n, receipt text, CMS signature, artifact list): verify and keep; raises UplinkRejected for an invalid one."""
    live: Live
    orders: Orders
    rights: Rights


class PostedReceipt(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /v1/batches/{n}/receipt."""

    receipt: str
    signature: str
    artifacts: str


def make_app(backend: Backend) -> Starlette:
    """The ASGI application, without any check of who asks: see gateway.api.auth and gateway.api.serve."""
    api = Api(backend)
    app = Starlette(
        routes=[
            Route("/v1/checkpoint", api.checkpoint),
            Route("/v1/batches", api.batches),
            Route("/v1/batches/{n}", api.batch),
            Route("/v1/batches/{n}/bundle", api.bundle),
            Route("/v1/batches/{n}/receipt", api.post_receipt, methods=["POST"]),
            Route("/v1/artifacts/{sha256}", api.artifact),
            Route("/v1/records", api.records),
            Route("/v1/records/{seq}", api.record),
            Route("/v1/records/{seq}/proof", api.proof),
            Route("/v1/export", api.export),
            *findings.routes(backend),
            *live.routes(backend),
            *orders.routes(backend),
            Route("/v1/sources", api.sources),
            Route("/v1/health", api.health),
            Route("/v1/openapi.json", api.openapi),
            Route("/metrics", api.metrics),
        ],
        exception_handlers={
            ProblemError: _on_problem,
            HTTPException: _on_problem,
            FieldgateError: _on_problem,
            Exception: _on_problem,
        },
    )
    app.router.redirect_slashes = False
    app.add_middleware(Counted)
    return app


class Api:
    """The endpoints: plain functions over the backend. Each docstring names what it answers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._reader = backend.reader
        self._rights = backend.rights
        self._gateway = grammar.gateway_id_of(backend.origin)
        self._bundle_slots = Slots(BUNDLES_MAX)
        self._artifact_slots = Slots(ARTIFACTS_MAX)
        self._openapi = msgspec.json.encode(document())

    async def checkpoint(self, request: Request) -> Response:
        """GET /v1/checkpoint: size and root of the sealed log."""
        Query(request)
        tail = await _read(self._reader.tail)
        newest = await _read(self._reader.batch_of, tail.size - 1) if tail.size else None
        seq = await _read(self._reader.next_seq)
        shape = views.checkpoint(self._backend.origin, tail, newest.n if newest else 0, seq)
        return whole(request, msgspec.json.encode(shape), REVALIDATE)

    async def batches(self, request: Request) -> Response:
        """GET /v1/batches: sealed batches after a number, oldest first."""
        asked = Query(request, "after", "limit")
        after = asked.one("after", query.natural, 0)
        limit = asked.one("limit", query.limit, query.LIMIT_DEFAULT)
        rows = await _read(self._reader.batches, after, limit)
        following = None
        if rows and await _read(self._reader.batch, rows[-1].n + 1) is not None:
            following = f"/v1/batches?after={rows[-1].n}&limit={limit}"
        shape = {"batches": [views.batch_summary(row) for row in rows], "next": following}
        return whole(request, msgspec.json.encode(shape), REVALIDATE)

    async def batch(self, request: Request) -> Response:
        """GET /v1/batches/{n}: one batch with its proofs and artifacts."""
        Query(request)
        row = await self._batch_row(request)
        artifacts = await _read(self._reader.artifacts_of, row.first, row.end)
        return whole(request, msgspec.json.encode(views.batch_detail(row, artifacts)), REVALIDATE)

    async def bundle(self, request: Request) -> Response:
        """GET /v1/batches/{n}/bundle: the batch as a tar, whole or by range."""
        artifacts = Query(request, "artifacts").one("artifacts", query.included, True)
        self._rights.demand_files(caller_of(request))
        row = await self._batch_row(request)
        return await _stream(
            request,
            self._bundle_slots,
            functools.partial(self._backend.bundles.batch, row.n, artifacts=artifacts),
            _attachment(f"{self._gateway}-{row.end}.tar", "application/x-tar", REVALIDATE),
        )

    async def export(self, request: Request) -> Response:
        """GET /v1/export: single records with inclusion proofs as a tar."""
        asked = Query(request, "seq", "artifacts")
        seqs = sorted(set(asked.many("seq", query.natural, query.SEQS_MAX)))
        artifacts = asked.one("artifacts", query.included, True)
        self._rights.demand_files(caller_of(request))
        if not seqs:
            raise ProblemError("bad-parameter", "seq is missing; name the records, as in seq=17&seq=20")
        for seq in seqs:
            await self._sealed(seq)
        return await _stream(
            request,
            self._bundle_slots,
            functools.partial(self._backend.bundles.export, seqs, artifacts=artifacts),
            _attachment(f"{self._gateway}-export.tar", "application/x-tar", REVALIDATE),
        )

    async def artifact(self, request: Request) -> Response:
        """GET /v1/artifacts/{sha256}: a file of the spool, whole or by range."""
        Query(request)
        self._rights.demand_files(caller_of(request))
        digest = request.path_params["sha256"]
        row = await _read(self._reader.artifact, digest) if _SHA256.fullmatch(digest) else None
        if row is None:
            raise ProblemError("not-found", "no record names this artifact; expected 64 lower-case hex digits")
        if row.state == "expired":
            raise ProblemError("gone", "the artifact expired here after its receipt; ask the platform for it")
        path = self._backend.spool.path(digest)
        if row.state == "damaged" or await _read(_size_of, path) != row.size_bytes:
            raise ProblemError("damaged", "the artifact is damaged or missing on this disk; see scrub.damage records")
        media_type = row.media_type if _MEDIA_TYPE.fullmatch(row.media_type) else "application/octet-stream"
        headers = _attachment(digest, media_type, IMMUTABLE)
        headers["repr-digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"  # RFC 9530
        source = FileSource(path, digest, row.size_bytes)

        async def opened() -> ByteSource:
            return source

        return await _stream(request, self._artifact_slots, opened, headers)

    async def records(self, request: Request) -> Response:
        """GET /v1/records: stored records, the very bytes, oldest first."""
        asked = Query(request, "kind", "device", "from", "to", "after", "limit")
        filters: dict[str, Any] = {
            "kind": asked.one("kind", query.kind, None),
            "device": asked.one("device", query.device, None),
            "from_utc_ns": asked.one("from", query.moment, None),
            "to_utc_ns": asked.one("to", query.moment, None),
        }
        after = asked.one("after", query.natural, -1)
        limit = asked.one("limit", query.limit, query.LIMIT_DEFAULT)
        page, last = await _read(self._page, caller_of(request), filters, after, limit)
        following = None
        if last is not None:
            kept = [(k, v) for k, v in request.query_params.items() if k not in ("after", "limit")]
            following = "/v1/records?" + urlencode([*kept, ("after", last), ("limit", limit)])
        body = msgspec.json.encode({"records": [msgspec.Raw(leaf) for leaf in page], "next": following})
        return whole(request, body, REVALIDATE)

    def _page(
        self, caller: Caller, filters: Mapping[str, Any], after: int, limit: int
    ) -> tuple[list[bytes], int | None]:
        """Up to `limit` leaves within the bound of bytes, and the seq to go on after, None at the end. What the caller
        may not see stands there as its seq and kind; under a filter by device not even that."""
        page: list[bytes] = []
        size_bytes = hidden = 0
        while True:
            step = min(RECORDS_STEP, limit - len(page) + 1)  # one more than wanted shows whether there is a next
            rows = self._reader.records(**filters, after=after, limit=step)
            for seq, leaf in rows:
                if len(page) == limit or (page and size_bytes + len(leaf) > RECORDS_BODY_MAX_BYTES):
                    return page, after
                after = seq
                shown = self._rights.shown(caller, leaf)
                if shown is None and filters["device"] is not None:
                    hidden += 1
                    continue
                page.append(shown or self._rights.withheld(leaf))
                size_bytes += len(page[-1])
            if len(rows) < step:
                return page, None
            if hidden >= RECORDS_LOOKED_AT_MAX:
                return page, after

    async def record(self, request: Request) -> Response:
        """GET /v1/records/{seq}: the bytes of one leaf."""
        Query(request)
        leaf = await self._leaf(request)
        self._rights.demand_leaf(caller_of(request), leaf)
        return whole(request, leaf, IMMUTABLE)

    async def proof(self, request: Request) -> Response:
        """GET /v1/records/{seq}/proof: inclusion proof in the checkpoint of the record's batch (C2SP tlog-proof)."""
        Query(request)
        self._rights.demand_leaf(caller_of(request), await self._leaf(request))
        seq = int(request.path_params["seq"])
        row = await self._sealed(seq)
        try:
            path = await _read(merkle.inclusion_path, seq, row.end, self._reader.node)
        except KeyError:
            raise ProblemError(
                "gone", "records beside this one expired here, the proof can no longer be made"
            ) from None
        text = proof.encode(seq, path, checkpoint.encode(self._backend.origin, row.end, row.root))
        return whole(request, text, IMMUTABLE, "text/plain; charset=utf-8")

    async def post_receipt(self, request: Request) -> Response:
        """POST /v1/batches/{n}/receipt: the receipt of a platform that pulled the batch."""
        Query(request)
        demand(caller_of(request), "full")
        row = await self._batch_row(request)
        demand_json(request, "receipt")
        try:
            posted = msgspec.json.decode(await body_of(request, RECEIPT_BODY_MAX_BYTES), type=PostedReceipt)
            parts = (
                posted.receipt.encode("ascii"),
                base64.b64decode(posted.signature.encode("ascii"), validate=True),
                posted.artifacts.encode("ascii"),
            )
        except (msgspec.DecodeError, UnicodeError, binascii.Error) as error:
            raise ProblemError("bad-body", f"not a receipt: {error}") from None
        try:
            await self._backend.accept_receipt(row.n, *parts)
        except UplinkRejected as error:
            raise ProblemError("receipt-refused", str(error)) from None
        row = await self._batch_row(request)
        return Response(
            msgspec.json.encode(views.batch_summary(row)),
            headers={"cache-control": NO_STORE},
            media_type="application/json",
        )

    async def sources(self, request: Request) -> Response:
        """GET /v1/sources: the configured sources and what each of them is doing."""
        Query(request)
        shape = {"sources": [views.source(status) for status in self._backend.sources()]}
        return whole(request, msgspec.json.encode(shape), NO_STORE)

    async def health(self, request: Request) -> Response:
        """GET /v1/health: 200, or 503 where evidence is not being taken or kept as it should."""
        Query(request)
        report = self._backend.health()  # on the loop: it shows state that other tasks change
        status = 503 if report["status"] == "failing" else 200
        return Response(msgspec.json.encode(report), status, {"cache-control": NO_STORE}, media_type="application/json")

    async def openapi(self, request: Request) -> Response:
        """GET /v1/openapi.json: this API as an OpenAPI 3.1 document."""
        Query(request)
        return whole(request, self._openapi, REVALIDATE)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: Prometheus text format."""
        Query(request)
        return Response(
            await _read(metrics.exposition),
            headers={"cache-control": NO_STORE, "content-type": metrics.CONTENT_TYPE},
        )

    async def _batch_row(self, request: Request) -> BatchRow:
        number = _path_number(request, "n")
        row = await _read(self._reader.batch, number) if number else None
        if row is None:
            raise ProblemError("not-found", "there is no such batch; GET /v1/batches lists them")
        return row

    async def _leaf(self, request: Request) -> bytes:
        number = _path_number(request, "seq")
        leaf = await _read(self._reader.leaf, number) if number is not None else None
        if leaf is not None:
            return leaf
        if number is not None and number < await _read(self._reader.next_seq):
            raise ProblemError("gone", f"record {number} expired here after its receipt; ask the platform for it")
        raise ProblemError("not-found", "there is no such record here; GET /v1/records lists them")

    async def _sealed(self, seq: int) -> BatchRow:
        row = await _read(self._reader.batch_of, seq)
        if row is not None:
            return row
        if seq < await _read(self._reader.next_seq):
            raise ProblemError("not-sealed", f"record {seq} is not sealed yet; try again later", {"retry-after": "10"})
        raise ProblemError("not-found", f"there is no record {seq}")


class Counted:
    """ASGI middleware: counts answers by method and status, and forbids content sniffing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else "other"
                metrics.API_REQUESTS.labels(method, str(message["status"])).inc()
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        await self._app(scope, receive, counting if scope["type"] == "http" else send)


async def _read(call: Callable[..., T], *args: Any) -> T:
    """Run a blocking read in a worker thread."""
    return await asyncio.to_thread(call, *args)


async def _stream(
    request: Request, slots: Slots, build: Callable[[], Awaitable[ByteSource]], headers: Mapping[str, str]
) -> Response:
    """Build the source and answer from it, holding a slot until the last byte has gone."""
    release = slots.take()
    try:
        return answer(request, await build(), headers, release)
    except KeyError:
        release()
        raise ProblemError("gone", "its records expired here after their receipt; ask the platform for them") from None
    except BaseException:
        release()
        raise


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _path_number(request: Request, name: str) -> int | None:
    """The number in the path; None for anything that is not one, which is then not found."""
    try:
        return query.natural(name, request.path_params[name])
    except ProblemError:
        return None


def _attachment(name: str, media_type: str, cache: str) -> dict[str, str]:
    return {
        "content-type": media_type,
        "cache-control": cache,
        "content-disposition": f'attachment; filename="{name}"',
    }


def _on_problem(_request: Request, error: Exception) -> Response:
    return problem_response(*_described(error))


def _described(error: Exception) -> tuple[str, str, Mapping[str, str]]:
    """(kind, detail, headers) of the problem document for an error that reached the application."""
    match error:
        case ProblemError():
            return error.kind, error.detail, error.headers
        case HTTPException(status_code=405):
            return "method-not-allowed", "the Allow header names the methods of this path", error.headers or {}
        case HTTPException():
            return "not-found", "no such path; GET /v1/openapi.json lists them", {}
        case StoreFull():
            return "store-full", str(error), {"retry-after": "60"}
        case TransientError():
            return "unavailable", str(error), {"retry-after": "10"}
        case IntegrityError():
            return "integrity", str(error), {}
        case DiskError():
            return "disk", str(error), {}
        case _:
            return "defect", f"{type(error).__name__}; see the gateway's log", {}
