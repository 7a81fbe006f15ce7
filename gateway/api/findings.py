"""Findings over HTTP: the list, one with its history, its bundle, its page (API.md).

The journal is what counts: everything here is read back from it, in worker threads.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import case, report
from gateway.api import query
from gateway.api.problem import ProblemError
from gateway.api.query import Query
from gateway.api.roles import Rights, caller_of
from gateway.api.streams import Slots, answer, whole
from gateway.core.errors import RejectedError
from gateway.core.ports import Bundles, ByteSource, Reader, Spool
from gateway.findings import Finding, current, revisions
from gateway.ledger.grammar import gateway_id_of

T = TypeVar("T")

CASES_MAX: Final = 2
"""Bundles and pages of findings made at once; a further one is answered 429."""
STATES: Final = ("open", "closed", "withdrawn")
REVALIDATE: Final = "private, no-cache"
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


class Shown(Protocol):
    """What is read (gateway.api.app.Backend)."""

    @property
    def origin(self) -> str: ...
    @property
    def reader(self) -> Reader: ...
    @property
    def bundles(self) -> Bundles: ...
    @property
    def spool(self) -> Spool: ...
    @property
    def rights(self) -> Rights: ...


def routes(shown: Shown) -> list[Route]:
    """Everything below /v1/findings."""
    api = Findings(shown)
    return [
        Route("/v1/findings", api.list),
        Route("/v1/findings/{id}", api.one),
        Route("/v1/findings/{id}/export", api.export),
        Route("/v1/findings/{id}/report.html", api.page),
    ]


class Findings:
    """The endpoints. Each docstring names what it answers."""

    def __init__(self, shown: Shown) -> None:
        self._reader, self._bundles, self._spool = shown.reader, shown.bundles, shown.spool
        self._rights = shown.rights
        self._gateway = gateway_id_of(shown.origin)
        self._slots = Slots(CASES_MAX)

    async def list(self, request: Request) -> Response:
        """GET /v1/findings: the newest revision of each, in the order of their records."""
        asked = Query(request, "device", "rule", "state", "from", "to", "after", "limit")
        device = asked.one("device", query.device, None)
        rule = asked.one("rule", query.kind, None)
        state = asked.one("state", _state, None)
        from_ns, to_ns = asked.one("from", query.moment, None), asked.one("to", query.moment, None)
        after, limit = asked.one("after", query.natural, -1), asked.one("limit", query.limit, query.LIMIT_DEFAULT)
        try:
            found = await _read(current, self._reader, device=device, after=after)
        except RejectedError as error:
            raise ProblemError("bad-parameter", str(error)) from None
        caller = caller_of(request)
        wanted = [
            one
            for one in found
            if self._rights.sees_class(caller, one.device_class, one.privacy)
            and (rule is None or one.rule == rule)
            and (state is None or one.state == state)
            and (from_ns is None or one.start_utc_s * 10**9 >= from_ns)
            and (to_ns is None or one.start_utc_s * 10**9 < to_ns)
        ]
        following = None
        if len(wanted) > limit:
            kept = [(key, value) for key, value in request.query_params.items() if key not in ("after", "limit")]
            following = "/v1/findings?" + urlencode([*kept, ("after", wanted[limit - 1].seq), ("limit", limit)])
        shape = {"findings": [one.summary() for one in wanted[:limit]], "next": following}
        return whole(request, msgspec.json.encode(shape), REVALIDATE)

    async def one(self, request: Request) -> Response:
        """GET /v1/findings/{id}: the newest revision in full, and the records of all."""
        Query(request)
        history = await self._history(request)
        newest = history[-1]
        shape = {
            **newest.summary(),
            "judgement": newest.judgement,
            "revisions": [
                {
                    "seq": one.seq,
                    "revision": one.revision,
                    "state": one.state,
                    "arrival_utc_ns": str(one.arrival_utc_ns),
                }
                for one in history
            ],
        }
        return whole(request, msgspec.json.encode(shape), REVALIDATE)

    async def export(self, request: Request) -> Response:
        """GET /v1/findings/{id}/export: the finding and all that it cites, as a tar with inclusion proofs."""
        artifacts = Query(request, "artifacts").one("artifacts", query.included, True)
        release = self._slots.take()
        try:
            found = await self._case(request)
            size = (await _read(self._reader.tail)).size
            if waiting := found.unsealed(size):
                text = f"record {waiting[0]} is not sealed yet; try again later"
                raise ProblemError("not-sealed", text, {"retry-after": "10"})
            source = await self._bundle(found.sealed(size), artifacts=artifacts)
            headers = {
                "content-type": "application/x-tar",
                "cache-control": REVALIDATE,
                "content-disposition": f'attachment; filename="{self._name(found)}"',
            }
            return answer(request, source, headers, release)
        except BaseException:
            release()
            raise

    async def page(self, request: Request) -> Response:
        """GET /v1/findings/{id}/report.html: the page for people; it names the bundle once everything is sealed."""
        Query(request)
        release = self._slots.take()
        try:
            found = await self._case(request)
            size = (await _read(self._reader.tail)).size
            bundle = None
            if not found.unsealed(size):
                seqs = found.sealed(size)
                source = await self._bundle(seqs, artifacts=True)
                digest = await _read(_sha256, source)
                bundle = await _read(
                    case.bundle_facts, self._reader, seqs, self._name(found), digest, source.size_bytes
                )
            shown = await _read(case.facts, found, self._gateway, self._spool.path, bundle, size)
            response = whole(request, await _read(report.page, shown), REVALIDATE, "text/html; charset=utf-8")
            response.headers["content-security-policy"] = PAGE_POLICY
            return response
        finally:
            release()

    async def _case(self, request: Request) -> case.Case:
        await self._history(request)
        return await _read(case.gather, self._reader, request.path_params["id"])

    async def _history(self, request: Request) -> Sequence[Finding]:
        try:
            found = await _read(revisions, self._reader, request.path_params["id"])
        except RejectedError:
            raise ProblemError("not-found", "there is no such finding here; GET /v1/findings lists them") from None
        for one in found:
            self._rights.demand_class(caller_of(request), one.device_class, one.privacy)
        return found

    async def _bundle(self, seqs: Sequence[int], *, artifacts: bool) -> ByteSource:
        try:
            return await self._bundles.export(seqs, artifacts=artifacts)
        except KeyError:
            raise ProblemError("gone", "records beside these expired here; ask the platform for them") from None

    def _name(self, found: case.Case) -> str:
        return f"{self._gateway}-finding-{found.newest.id[:12]}.tar"


def _state(name: str, text: str) -> str:
    if text not in STATES:
        raise ProblemError("bad-parameter", f"{name} is not one of {', '.join(STATES)}")
    return text


def _sha256(source: ByteSource) -> str:
    digest = hashlib.sha256()
    for chunk in source.read(0, source.size_bytes):
        digest.update(chunk)
    return digest.hexdigest()


async def _read(call: Callable[..., T], *args: Any, **named: Mapping[str, Any] | Any) -> T:
    """Run a blocking read in a worker thread."""
    return await asyncio.to_thread(call, *args, **named)
