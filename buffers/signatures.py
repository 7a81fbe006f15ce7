"""Signatures of served bundles: ECDSA is randomised, a served bundle keeps its bytes, its ETag and its ranges."""

from __future__ import annotations

from typing import Final

from buffers.connection import Connection
from buffers.db import Database

KEPT_MAX: Final = 20_000
"""The oldest go first; a bundle whose signature went is signed anew and gets another ETag, no other harm."""


class Signatures:
    """Port `SignatureCache` over the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep_bundle_signature(self, tagmanifest_sha256: str, p7s: bytes) -> None:
        """The first signature over a tagmanifest stays."""
        await self._database.submit(lambda conn: keep(conn, tagmanifest_sha256, p7s))


def keep(conn: Connection, tagmanifest_sha256: str, p7s: bytes) -> None:
    """Inside the caller's transaction."""
    conn.execute(
        "INSERT OR IGNORE INTO bundle_signature (tagmanifest_sha256, p7s) VALUES (?, ?)",
        (tagmanifest_sha256, p7s),
    )
    conn.execute("DELETE FROM bundle_signature WHERE id <= (SELECT max(id) FROM bundle_signature) - ?", (KEPT_MAX,))
