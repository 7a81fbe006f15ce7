"""Who asks, and what they may see: three roles over one rule.

    full        the platform, and whoever may open the Unix socket: everything
    operator    like a viewer, and may order devices about
    viewer      everything but what belongs to the privacy class `process` (DEVICES.md): an officer's track

A record belongs to `process` by the class that stands in it, as the devices files know that class now; where no class
stands in it, or one that no file names, it counts as `process`. Files and whole batches cannot be looked through, so
they are not handed to viewers while anything private can be in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from starlette.requests import HTTPConnection

from gateway.api.problem import ProblemError
from gateway.core import kinds
from gateway.core.ports import LiveItem

Role = Literal["full", "operator", "viewer"]
Privacy = Literal["open", "process"]
SCOPE_KEY: Final = "fieldgate.caller"
CLASSED: Final = frozenset({kinds.POSITION, kinds.READING, kinds.FINDING, kinds.INGEST_REFUSED})
"""Kinds of records that are about a device, beside `device.*`: who may see them is a question of its class."""
_ORDERS: Final = "device."


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request."""

    role: Role
    name: str
    """For records: the name in the client certificate, the user on this box, else the role."""


def caller_of(connection: HTTPConnection) -> Caller:
    """Who sends this request. The listeners say so (gateway.api.serve); who calls the application itself is the box."""
    found = connection.scope.get(SCOPE_KEY)
    return found if isinstance(found, Caller) else Caller("full", "local")


class _Classed(msgspec.Struct):
    """What is looked at in a leaf."""

    kind: str
    seq: int
    data: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Rights:
    """What the roles may see, by the classes of devices."""

    privacy_of: Callable[[str], Privacy]
    """Of a device class; `process` for one that nobody knows."""
    any_private: Callable[[], bool]
    """Whether anything of `process` can be in files and batches."""

    def sees_class(self, caller: Caller, device_class: object, told: object = "open") -> bool:
        """Whether something of a device class may be shown; `told` is what the thing itself says of its privacy."""
        if caller.role == "full":
            return True
        known = isinstance(device_class, str) and self.privacy_of(device_class) == "open"
        return known and told != "process"

    def sees_item(self, caller: Caller, item: LiveItem) -> bool:
        """Whether an item of the board may be shown."""
        return self.sees_class(caller, item.device_class, item.privacy)

    def shown(self, caller: Caller, leaf: bytes) -> bytes | None:
        """A leaf as the caller may see it: as it is, or None."""
        if caller.role == "full":
            return leaf
        record = msgspec.json.decode(leaf, type=_Classed)
        return leaf if self._sees_record(caller, record.kind, record.data) else None

    def withheld(self, leaf: bytes) -> bytes:
        """What stands in a list for a leaf that the caller may not see."""
        record = msgspec.json.decode(leaf, type=_Classed)
        return msgspec.json.encode({"kind": record.kind, "seq": record.seq, "v": 1, "withheld": True})

    def _sees_record(self, caller: Caller, kind: str, data: Mapping[str, Any]) -> bool:
        is_order = kind == kinds.OPERATOR_ACTION and str(data.get("action", "")).startswith(_ORDERS)
        if kind in CLASSED or kind.startswith("device.") or is_order:
            return self.sees_class(caller, data.get("class"), data.get("privacy", "open"))
        return True

    def demand_leaf(self, caller: Caller, leaf: bytes) -> None:
        """Raises ProblemError where the caller may not see a leaf."""
        if self.shown(caller, leaf) is None:
            raise forbidden("this record is evidence of officers' work: only the platform's role may read it")

    def demand_class(self, caller: Caller, device_class: object, told: object = "open") -> None:
        """Raises ProblemError where the caller may not see something of a device class."""
        if not self.sees_class(caller, device_class, told):
            raise forbidden("this belongs to officers' work: only the platform's role may read it")

    def demand_files(self, caller: Caller) -> None:
        """Raises ProblemError where files and batches may hold what the caller may not see."""
        if caller.role != "full" and self.any_private():
            raise forbidden("files and whole batches may hold evidence of officers' work: ask with the platform's role")


def demand(caller: Caller, *roles: Role) -> None:
    """Raises ProblemError where the caller has none of the roles."""
    if caller.role not in roles:
        raise forbidden(f"the role {caller.role} may not do this; it takes {' or '.join(roles)}")


def forbidden(detail: str) -> ProblemError:
    """403."""
    return ProblemError("forbidden", detail)
