"""The desk of orders: what a named person wants of a device, recorded before it is done, and what came of it.

    operator.action    action, actor, claimed_by, target, parameters, key; durable before the device hears anything
    device.reply       action, order (seq of the above), outcome, detail, result

The same key again gives the first outcome and does nothing: a person presses twice, a program repeats what it had no
answer to. Keys are remembered in the commit of the records that they belong to, for KEPT_NS; an order whose process
ended before its outcome was known is answered `timeout` and never repeated by itself. A store that fills up between
the two records costs the second one: the outcome is still answered, and counted as not recorded.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, Final, Literal

import msgspec

from gateway import metrics
from gateway.core import canonical, kinds
from gateway.core.canonical import CanonicalError
from gateway.core.errors import StoreFull
from gateway.core.ports import Clock, Order, OrderTaker, Outcome, Sink, SourceMemory
from gateway.core.record import Draft, StateChange

SOURCE: Final = "orders"
KEPT_NS: Final = 24 * 3600 * 10**9
KEYS_MAX: Final = 10_000
AT_ONCE_MAX: Final = 64
"""Orders under way at the same time; more are refused, so that no crowd of clients can hold memory."""
TEXT_MAX: Final = 255
RESULT_MAX_BYTES: Final = 4096
"""Larger results are not remembered for a repetition; the `device.reply` record has them."""
_UNKNOWN: Final = "the gateway ended before the device had answered: nobody knows whether it was done"
_UNRECORDED: Final = " (the store is full: this outcome is not recorded)"


class _Known(msgspec.Struct):
    utc_ns: int
    seq: int
    source: str
    device: str
    action: str
    parameters_sha256: str
    state: Literal["", "done", "refused", "offline", "timeout", "unknown"] = ""
    """"" while it is under way."""
    detail: str = ""
    result: dict[str, Any] = {}


class Desk:
    """Port `Orders`."""

    def __init__(self, sink: Sink, memory: SourceMemory, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._takers: dict[str, OrderTaker] = {}
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._under_way: set[str] = set()
        kept = [(key.decode(), msgspec.json.decode(value, type=_Known)) for key, value in memory.items(SOURCE)]
        self._known.update(sorted(kept, key=lambda pair: pair[1].utc_ns))

    def serve(self, source: str, taker: OrderTaker | None) -> None:
        """See ports.Orders."""
        if taker is None:
            self._takers.pop(source, None)
        else:
            self._takers[source] = taker

    async def submit(self, order: Order) -> Outcome:
        """See ports.Orders."""
        if problem := _problem(order):
            return Outcome("refused", problem)
        if (known := self._known.get(order.key)) is not None:
            return self._again(order, known)
        if len(self._under_way) >= AT_ONCE_MAX:
            return Outcome("refused", f"{AT_ONCE_MAX} orders are under way; try again in a moment")
        self._under_way.add(order.key)
        try:
            return await self._carry_out(order)
        finally:
            self._under_way.discard(order.key)

    def _again(self, order: Order, known: _Known) -> Outcome:
        seq = known.seq if known.seq >= 0 else None
        first = (known.source, known.device, known.action, known.parameters_sha256)
        if first != (order.source, order.device, order.action, _digest(order)):
            return Outcome("refused", "this key was used for another order; take a new one", seq=seq)
        if known.state:
            return Outcome(known.state, known.detail, known.result, seq)
        if order.key in self._under_way:
            return Outcome("refused", "this order is still under way; ask again in a moment", seq=seq)
        return Outcome("timeout", _UNKNOWN, seq=seq)

    async def _carry_out(self, order: Order) -> Outcome:
        now_ns = self._clock.now().utc_ns
        known = _Known(now_ns, -1, order.source, order.device, order.action, _digest(order))
        self._known[order.key] = known  # before the first await: the same key twice at once is one order
        try:
            known.seq = await self._sink.append([_record(order)], self._remember(order.key, known, now_ns))
        except BaseException:
            self._known.pop(order.key, None)
            raise
        taker = self._takers.get(order.source)
        if taker is None:
            outcome = Outcome("unknown", f"no source {order.source!r} takes orders; see: fieldgate device list")
        else:
            outcome = await taker.take(order, known.seq)
        metrics.ORDERS.labels(outcome.state).inc()
        return await self._conclude(order, known, outcome)

    async def _conclude(self, order: Order, known: _Known, outcome: Outcome) -> Outcome:
        """Record what came of an order."""
        result = dict(outcome.result)
        known.state, known.detail = outcome.state, outcome.detail[:TEXT_MAX]
        known.result = result if len(msgspec.json.encode(result)) <= RESULT_MAX_BYTES else {}
        reply = {
            "action": order.action,
            "order": known.seq,
            "outcome": outcome.state,
            "detail": known.detail,
            "result": result,
        }
        draft = Draft(kinds.DEVICE_REPLY, order.source, order.device, reply)
        detail = known.detail
        try:
            await self._sink.append([draft], [_change(order.key, known)])
        except StoreFull:
            # what the device did cannot be undone: whoever asked is told, and told that the log does not say so
            metrics.ORDERS_UNRECORDED.inc()
            detail += _UNRECORDED
        return Outcome(outcome.state, detail, result, known.seq)

    def _remember(self, key: str, known: _Known, now_ns: int) -> list[StateChange]:
        """This key, and the forgetting of old ones."""
        changes = [_change(key, known)]
        surplus = len(self._known) - KEYS_MAX
        for old, row in list(self._known.items()):
            if row.utc_ns > now_ns - KEPT_NS and surplus <= 0:
                break
            if old not in self._under_way:
                del self._known[old]
                changes.append(StateChange(SOURCE, old.encode(), None))
                surplus -= 1
        return changes


def _change(key: str, known: _Known) -> StateChange:
    return StateChange(SOURCE, key.encode(), msgspec.json.encode(known))


def _record(order: Order) -> Draft:
    action: dict[str, Any] = {
        "action": f"device.{order.action}",
        "actor": order.actor,
        "target": f"{order.source}/{order.device}",
        "parameters": dict(order.parameters),
        "key": order.key,
    }
    if order.claimed_by:
        action["claimed_by"] = order.claimed_by
    return Draft(kinds.OPERATOR_ACTION, order.source, order.device, action)


def _problem(order: Order) -> str:
    """Why an order cannot be a record, and so cannot be carried out; "" where it can."""
    words = {name: getattr(order, name) for name in ("source", "device", "action", "actor", "key", "claimed_by")}
    for name, text in words.items():
        if not text and name != "claimed_by":
            return f"{name} is empty"
        if len(text) > TEXT_MAX:
            return f"{name} has {len(text)} characters; at most {TEXT_MAX}"
    try:
        canonical.check({**words, "parameters": dict(order.parameters)})
    except CanonicalError as error:
        return str(error)[:TEXT_MAX]
    return ""


def _digest(order: Order) -> str:
    return hashlib.sha256(canonical.encode_checked(dict(order.parameters))).hexdigest()
