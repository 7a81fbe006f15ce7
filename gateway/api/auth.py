"""Who may talk to the TLS listener: a bearer token (RFC 6750) around the whole application, one token for each role.

Client certificates are demanded by TLS itself (gateway.api.serve); the Unix socket is guarded by its file mode,
so neither of them meets this check.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from gateway.api import problem
from gateway.api.roles import SCOPE_KEY, Caller, Role

TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*", re.ASCII)
"""Grammar of a token: b64token of RFC 6750 with a length that cannot be guessed."""


class BearerAuth:
    """ASGI wrapper: passes a request on only if it carries ``Authorization: Bearer <token>``, else answers 401. Puts
    the role of the token into the scope, with the name that the listener found (a client certificate), if any."""

    def __init__(self, app: ASGIApp, tokens: Mapping[Role, str] | str) -> None:
        """`tokens`: of each role; one text is the token of the role `full`."""
        given: Mapping[Role, str] = {"full": tokens} if isinstance(tokens, str) else tokens
        self._app = app
        self._tokens = [(role, token.encode("ascii")) for role, token in given.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        role = self.role_of(Headers(scope=scope).getlist("authorization"))
        if role is not None:
            found = scope.get(SCOPE_KEY)
            name = found.name if isinstance(found, Caller) else role
            await self._app({**scope, SCOPE_KEY: Caller(role, name)}, receive, send)
            return
        refusal = problem.response(
            "unauthorized",
            "send the header 'Authorization: Bearer <token>' with the token of this gateway",
            {"www-authenticate": 'Bearer realm="fieldgate"'},
        )
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        else:
            await refusal(scope, receive, send)

    def role_of(self, values: list[str]) -> Role | None:
        """The role of the Authorization headers, which must be exactly one bearer token; constant time in its bytes."""
        if len(values) != 1:
            return None
        scheme, _, given = values[0].partition(" ")
        token = given.strip().encode("latin-1")
        roles = [role for role, known in self._tokens if hmac.compare_digest(token, known)]
        return roles[0] if roles and scheme.lower() == "bearer" else None
