"""Orders to devices over HTTP (API.md). Each is a record before the device hears of it (gateway.orders)."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.bodies import body_of, demand_json
from gateway.api.problem import ProblemError
from gateway.api.query import Query
from gateway.api.roles import Rights, caller_of, demand, forbidden
from gateway.core import canonical
from gateway.core.canonical import CanonicalError
from gateway.core.ports import Live, Order, Orders

BODY_MAX_BYTES: Final = 65_536
_SOURCE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_DEVICE_MAX: Final = 255
_ACTION: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_NAME_MAX: Final = 128


class Shown(Protocol):
    """What is used (gateway.api.app.Backend)."""

    @property
    def live(self) -> Live: ...
    @property
    def orders(self) -> Orders: ...
    @property
    def rights(self) -> Rights: ...


class PostedOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /v1/devices/{source}/{device}/orders."""

    action: str
    key: str
    parameters: dict[str, Any] = {}
    actor: str = ""


def routes(shown: Shown) -> list[Route]:
    """The one path."""
    return [Route("/v1/devices/{source}/{device}/orders", Counter(shown).order, methods=["POST"])]


class Counter:
    """Where orders are handed in."""

    def __init__(self, shown: Shown) -> None:
        self._orders, self._live, self._rights = shown.orders, shown.live, shown.rights

    async def order(self, request: Request) -> Response:
        """POST /v1/devices/{source}/{device}/orders: the outcome, once the device has answered or will not."""
        Query(request)
        caller = caller_of(request)
        demand(caller, "full", "operator")
        source, device = request.path_params["source"], request.path_params["device"]
        if not _SOURCE.fullmatch(source) or len(device) > _DEVICE_MAX:
            raise ProblemError("not-found", "there is no such device; GET /v1/devices lists them")
        if not self._rights.sees_class(caller, self._live.class_of(source, device)):
            raise forbidden("only the platform's role may order a device of officers, or one that is not known now")
        posted = await self._posted(request)
        order = Order(source, device, posted.action, posted.parameters, caller.name, posted.key, posted.actor)
        _check(order)
        outcome = await self._orders.submit(order)
        shape = {
            "outcome": outcome.state,
            "detail": outcome.detail,
            "result": outcome.result,
            "seq": outcome.seq,
        }
        return Response(
            msgspec.json.encode(shape), headers={"cache-control": "no-store"}, media_type="application/json"
        )

    async def _posted(self, request: Request) -> PostedOrder:
        demand_json(request, "order")
        try:
            return msgspec.json.decode(await body_of(request, BODY_MAX_BYTES), type=PostedOrder)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ProblemError("bad-body", f"not an order: {error}") from None


def _check(order: Order) -> None:
    """What cannot be a record cannot be an order. Raises ProblemError."""
    if not _ACTION.fullmatch(order.action):
        raise ProblemError("bad-order", "action is not a word such as locate")
    if not _KEY.fullmatch(order.key):
        raise ProblemError("bad-order", "key is not 1 to 128 printable ASCII signs without spaces; draw a new one")
    if len(order.claimed_by) > _NAME_MAX:
        raise ProblemError("bad-order", f"actor has {len(order.claimed_by)} characters; at most {_NAME_MAX}")
    try:
        canonical.check({"device": order.device, "actor": order.claimed_by})
        canonical.check(order.parameters, "parameters", 1)
    except CanonicalError as error:
        raise ProblemError("bad-order", str(error)) from None
