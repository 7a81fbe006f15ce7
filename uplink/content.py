"""Bytes to upload: a file of the spool as a ByteSource, and the digest of any ByteSource."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.core.ports import ByteSource

READ_BYTES: Final = 262_144


class SpoolFile:
    """An artifact in the spool. Opening it raises OSError; its size is the size that it has now."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self._size_bytes = path.stat().st_size
        self._digest = digest

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return self._size_bytes

    @property
    def etag(self) -> str:
        """SHA-256 that the file had when it was taken."""
        return self._digest

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Chunks of [start, end). Raises OSError; a file that became shorter is one too."""
        with self._path.open("rb", buffering=0) as file:
            file.seek(start)
            left = end - start
            while left > 0:
                chunk = file.read(min(READ_BYTES, left))
                if not chunk:
                    raise OSError(f"{self._path.name[:12]}: the file ends before byte {end}")
                left -= len(chunk)
                yield chunk


def digest_of(source: ByteSource) -> str:
    """SHA-256 of all bytes, lower-case hex. Reads everything: call it in a thread. Raises OSError."""
    digest = sha256()
    for chunk in source.read(0, source.size_bytes):
        digest.update(chunk)
    return digest.hexdigest()
