"""The ASGI application: routes of WIRE.md section 3 over the platform's parts. Handlers are thin."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway import log
from gateway.core.errors import IntegrityError, StoreFull
from gateway.core.record import LEAF_SIZE_MAX_BYTES
from gateway.ledger import grammar
from gateway.ledger.stamp import TSR_SIZE_MAX_BYTES
from uplink.platform import access, page, tsa, tus, uploads_http
from uplink.platform.access import platform_of
from uplink.platform.bodies import (
    CertificateRequest,
    EnrolRequest,
    Wanted,
    page_limits,
    path_number,
    path_sha256,
    read_body,
    read_json,
)
from uplink.platform.enrol import Credentials
from uplink.platform.index import BatchEntry
from uplink.platform.platform import Platform
from uplink.platform.problems import Refusal
from uplink.platform.serve import respond
from uplink.platform.tus import no_room

WANTED_MAX: Final = 1000
PEM: Final = "application/x-pem-file"
NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

S = TypeVar("S")
_log = log.get("platform")


def make_app(platform: Platform) -> Starlette:
    """The application for one open platform."""
    one = "/v1/gateways/{id}"
    routes = [
        Route("/", _index_page),
        Route("/v1/ca", _ca),
        Route("/v1/tsa-ca", _tsa_ca),
        Route("/v1/crl", _crl),
        Route("/v1/enrol", _enrol, methods=["POST"]),
        Route("/v1/gateways", _gateways),
        Route(f"{one}/certificate", _renew, methods=["POST"]),
        Route(f"{one}/checkpoint", _checkpoint),
        Route(f"{one}/batches", _batches, methods=["GET"]),
        Route(f"{one}/batches", uploads_http.post_batch, methods=["POST"]),
        Route(f"{one}/batches/{{end}}", _batch),
        Route(f"{one}/batches/{{end}}/receipt", _receipt),
        Route(f"{one}/batches/{{end}}/bundle", _bundle),
        Route(f"{one}/batches/{{end}}/stamp", _stamp, methods=["PUT"]),
        Route(f"{one}/artifacts/{{sha256}}", _artifact, methods=["GET"]),
        Route(f"{one}/artifacts/{{sha256}}", uploads_http.post_artifact, methods=["POST"]),
        Route(f"{one}/alarms", _alarm, methods=["POST"]),
        Route(f"{one}/requests", _requests, methods=["GET", "POST"]),
        Route("/v1/uploads", uploads_http.options, methods=["OPTIONS"]),
        Route("/v1/uploads", uploads_http.create, methods=["POST"]),
        Route("/v1/uploads/{upload}", uploads_http.upload, methods=["HEAD", "PATCH", "DELETE"]),
        Route("/v1/log/checkpoint", _log_checkpoint),
        Route("/v1/log/entries", _log_entries),
        Route("/tsa", _tsa, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        Refusal: _on_refusal,
        HTTPException: _on_http_exception,
        StoreFull: _on_full,
        OSError: _on_os_error,
        sqlite3.OperationalError: _on_sqlite_error,
        IntegrityError: _on_integrity_error,
        ClientDisconnect: _on_disconnect,
        Exception: _on_defect,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.platform = platform
    return app


# ------------------------------------------------------------------------ anyone


async def _ca(request: Request) -> Response:
    return Response(platform_of(request).authority.ca_pem, media_type=PEM)


async def _tsa_ca(request: Request) -> Response:
    platform = platform_of(request)
    if platform.tsa is None:
        raise Refusal("not-found", "this platform has no time-stamping authority of its own")
    return Response(platform.authority.tsa_ca_pem, media_type=PEM)


async def _crl(request: Request) -> Response:
    platform = platform_of(request)
    return Response(platform.authority.crl_pem(platform.now()), media_type=PEM)


async def _enrol(request: Request) -> Response:
    body = await read_json(request, EnrolRequest)
    platform = platform_of(request)
    enrol = platform.enrolment.enrol
    return _credentials(await asyncio.to_thread(enrol, body.gateway, body.csr, body.token, platform.now()))


async def _log_checkpoint(request: Request) -> Response:
    platform = platform_of(request)
    size, root = platform.receipt_log.checkpoint()
    text, signature = await asyncio.to_thread(platform.signed_log_checkpoint, size, root)
    return JSONResponse(
        {
            "size": size,
            "root": grammar.base64_of(root),
            "checkpoint": text,
            "signature": signature,
        }
    )


async def _tsa(request: Request) -> Response:
    authority = platform_of(request).tsa
    if authority is None:
        raise Refusal("not-found", "this platform has no time-stamping authority of its own")
    if request.headers.get("content-type") != "application/timestamp-query":
        raise Refusal("media-type", "expected application/timestamp-query")
    query = await read_body(request, tsa.REQUEST_MAX_BYTES)
    return Response(await authority.reply(query), media_type="application/timestamp-reply")


# ----------------------------------------------------------------------- gateway


async def _renew(request: Request) -> Response:
    gateway_id = request.path_params["id"]
    access.require_gateway(request, gateway_id)
    body = await read_json(request, CertificateRequest)
    platform = platform_of(request)
    return _credentials(await asyncio.to_thread(platform.enrolment.renew, gateway_id, body.csr, platform.now()))


async def _checkpoint(request: Request) -> Response:
    gateway_id = _readable(request)
    held = platform_of(request).intake.index.held(gateway_id)
    return JSONResponse({"size": held.size, "root": grammar.base64_of(held.root), "batch": held.batches})


async def _stamp(request: Request) -> Response:
    gateway_id, end = request.path_params["id"], path_number(request, "end")
    access.require_gateway(request, gateway_id)
    tsr = await read_body(request, TSR_SIZE_MAX_BYTES)
    platform = platform_of(request)
    async with platform.gateway_lock(gateway_id):
        await asyncio.to_thread(platform.intake.take_stamp, gateway_id, end, tsr)
    return Response(status_code=204)


async def _alarm(request: Request) -> Response:
    gateway_id = request.path_params["id"]
    access.require_gateway(request, gateway_id)
    leaf = await read_body(request, LEAF_SIZE_MAX_BYTES)
    await asyncio.to_thread(platform_of(request).intake.take_alarm, gateway_id, leaf)
    return Response(status_code=202)


# --------------------------------------------------------------- gateway, operator


async def _batches(request: Request) -> Response:
    gateway_id = _readable(request)
    after, limit = page_limits(request)
    entries = platform_of(request).intake.index.batches(gateway_id, after, limit)
    following = entries[-1].end if len(entries) == limit else None
    return JSONResponse({"batches": [_batch_object(entry) for entry in entries], "next": following})


async def _batch(request: Request) -> Response:
    gateway_id, end = _readable(request), path_number(request, "end")
    platform = platform_of(request)
    entry = platform.intake.index.batch(gateway_id, end)
    if entry is None:
        raise Refusal("not-found", f"no batch of {gateway_id} ends at {end}")
    artifacts = [
        {"sha256": item.sha256, "size_bytes": item.size_bytes, "held": item.held}
        for item in platform.intake.index.artifacts_of(gateway_id, end)
    ]
    return JSONResponse({**_batch_object(entry), "artifacts": artifacts})


async def _receipt(request: Request) -> Response:
    gateway_id, end = _readable(request), path_number(request, "end")
    platform = platform_of(request)
    if platform.intake.index.batch(gateway_id, end) is None:
        raise Refusal("not-found", f"no batch of {gateway_id} ends at {end}")
    return JSONResponse(msgspec.to_builtins(platform.shelf.newest_receipt(gateway_id, end)))


async def _bundle(request: Request) -> Response:
    gateway_id, end = _readable(request), path_number(request, "end")
    artifacts = request.query_params.get("artifacts", "include")
    if artifacts not in {"include", "omit"}:
        raise Refusal("malformed", "artifacts: expected include or omit")
    platform = platform_of(request)
    async with platform.gateway_lock(gateway_id):  # the packaging signature is made once
        source = await asyncio.to_thread(platform.shelf.bundle, gateway_id, end, artifacts=artifacts == "include")
    return respond(request, source, "application/x-tar", f"{gateway_id}-{end}.tar")


async def _artifact(request: Request) -> Response:
    gateway_id, sha256 = _readable(request), path_sha256(request)
    source = platform_of(request).shelf.artifact(gateway_id, sha256)
    return respond(request, source, "application/octet-stream", sha256)


async def _requests(request: Request) -> Response:
    gateway_id = _readable(request)
    index = platform_of(request).intake.index
    if request.method == "POST":
        access.require_operator(request)
        body = await read_json(request, Wanted)
        if len(body.artifacts) > WANTED_MAX:
            raise Refusal("too-large", f"at most {WANTED_MAX} at once", members={"limit": WANTED_MAX})
        for sha256 in body.artifacts:
            if index.artifact(gateway_id, sha256) is None:
                raise Refusal("not-found", f"no received batch of {gateway_id} names {sha256}")
        for sha256 in body.artifacts:
            index.request(gateway_id, sha256)
    return JSONResponse({"artifacts": index.requested(gateway_id)})


# ---------------------------------------------------------------------- operator


async def _gateways(request: Request) -> Response:
    access.require_operator(request)
    return JSONResponse({"gateways": await asyncio.to_thread(platform_of(request).gateway_list)})


async def _log_entries(request: Request) -> Response:
    access.require_operator(request)
    after, limit = page_limits(request)
    receipt_log = platform_of(request).receipt_log
    entries = await asyncio.to_thread(lambda: list(receipt_log.entries(after, limit)))
    return JSONResponse({"entries": entries, "next": after + limit if len(entries) == limit else None})


async def _index_page(request: Request) -> Response:
    access.require_operator(request)
    html = await asyncio.to_thread(page.render, platform_of(request))
    return Response(html, media_type="text/html; charset=utf-8", headers=page.HEADERS)


# ------------------------------------------------------------------------ shared


def _readable(request: Request) -> str:
    """The gateway id of the path, once the caller may read it."""
    gateway_id: str = request.path_params["id"]
    access.require_reader(request, gateway_id)
    if platform_of(request).enrolment.find(gateway_id) is None:
        raise Refusal("not-found", f"no gateway {gateway_id[:64]!r} is enrolled")
    return gateway_id


def _credentials(credentials: Credentials) -> Response:
    return JSONResponse(msgspec.to_builtins(credentials), 201, headers={"cache-control": "no-store"})


def _batch_object(entry: BatchEntry) -> dict[str, object]:
    return {
        "end": entry.end,
        "first": entry.first,
        "n": entry.n,
        "prev_root": grammar.base64_of(entry.prev_root),
        "root": grammar.base64_of(entry.root),
        "seal_sha256": entry.seal_sha256,
        "size_bytes": entry.size_bytes,
        "artifact_count": entry.artifact_count,
        "artifact_bytes": entry.artifact_bytes,
        "received_utc": entry.received_utc,
        "stamped": entry.stamped,
    }


# ------------------------------------------------------------------------ errors


async def _on_refusal(request: Request, error: Refusal) -> Response:
    if request.scope["path"].startswith("/v1/uploads"):
        error.headers.setdefault("tus-resumable", tus.VERSION)
    return error.response()


async def _on_http_exception(_request: Request, error: HTTPException) -> Response:
    code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "malformed")
    return Refusal(code, error.detail, headers=error.headers).response()


async def _on_full(_request: Request, _error: Exception) -> Response:
    return no_room("the platform's disk or quota is full").response()


async def _on_os_error(request: Request, error: OSError) -> Response:
    if error.errno in NO_ROOM:
        _log.error("disk_full", path=str(error.filename))
        return await _on_full(request, error)
    _log.error("io_error", path=request.scope["path"], reason=str(error))
    return Refusal("defect", "the platform's disk failed; its operator has a log line").response()


async def _on_sqlite_error(request: Request, error: sqlite3.OperationalError) -> Response:
    if "full" in str(error) or "disk I/O" in str(error):
        _log.error("disk_full", path="index.sqlite3", reason=str(error))
        return await _on_full(request, error)
    return await _on_defect(request, error)


async def _on_integrity_error(_request: Request, error: IntegrityError) -> Response:
    _log.error("integrity", reason=str(error))
    return Refusal(
        "integrity", "stored evidence disagrees with itself; the platform's operator has a log line"
    ).response()


async def _on_disconnect(_request: Request, _error: ClientDisconnect) -> Response:
    return PlainTextResponse("", 400)


async def _on_defect(request: Request, error: Exception) -> Response:
    _log.error("defect", path=request.scope["path"], method=request.method, reason=repr(error))
    return Refusal("defect", "a defect of the platform; its operator has a log line").response()
