"""Who may talk to the TLS listener: a bearer token (RFC 6750) around the whole application.

Client certificates are demanded by TLS itself (gateway.api.serve); the Unix socket is guarded by its file mode,
so neither of them meets this check.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api import problem

TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*", re.ASCII)
"""Grammar of a token: b64token of RFC 6750 with a length that cannot be guessed."""


class BearerAuth:
    """ASGI wrapper: passes a request on only if it carries ``Authorization: Bearer <token>``, else answers 401."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.allows(Headers(scope=scope).getlist("authorization")):
            refusal = problem.response(
                "unauthorized",
                "send the header 'Authorization: Bearer <token>' with the token of this gateway",
                {"www-authenticate": 'Bearer realm="fieldgate"'},
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def allows(self, values: list[str]) -> bool:
        """Whether the Authorization headers are exactly one bearer token, the right one; constant time in its bytes."""
        if len(values) != 1:
            return False
        scheme, _, given = values[0].partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self._token)
