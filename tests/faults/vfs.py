"""A simulated disk under SQLite: an apsw VFS that logs every write, and the images that a power cut may leave.

The model: a write is a row of 512-byte sectors, each of which may or may not have reached the medium before the next
sync of its file, in any order; a sector may be torn (its first bytes new, the rest old). Bytes that a write did not
touch keep what they had (the promise that SQLite calls power-safe overwrite; STORE.md, "Threats"). A file that was made
and never synced may be missing, a deleted one may be back, until the folder is synced: SQLite's unix VFS does that
with the first sync of each new journal or WAL file. With `ignore_sync` the disk lies: a sync does nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

SECTOR_SIZE_BYTES: Final = 512
POWER_SAFE_OVERWRITE: Final = 0x1000


@dataclass(frozen=True, slots=True)
class Op:
    """One thing that happened to a file, or an acknowledgement given to somebody (kind "ack")."""

    kind: str
    file: str = ""
    offset: int = 0
    content: bytes = b""
    note: Any = None


@dataclass
class Disk:
    """What the program sees now, and how it came to that."""

    files: dict[str, bytearray] = field(default_factory=dict)
    log: list[Op] = field(default_factory=list)

    def acknowledge(self, note: Any) -> None:
        """Somebody outside was told that everything up to here is durable."""
        self.log.append(Op("ack", note=note))


class SimulatedVFS(apsw.VFS):
    """Registers itself under `name`; files live in `disk`."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.disk = disk
        super().__init__(name, base="")

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name.rsplit("/", 1)[-1]

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return pathname in self.disk.files

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.disk.files.pop(filename, None)
        self.disk.log.append(Op("delete", filename, offset=int(syncdir)))

    def xOpen(self, name: Any, flags: list[int]) -> SimulatedFile:  # noqa: N802
        flags[1] = flags[0]
        filename = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        if filename not in self.disk.files:
            self.disk.files[filename] = bytearray()
            self.disk.log.append(Op("create", filename))
        return SimulatedFile(self.disk, filename)


class SimulatedFile:
    """The methods that apsw calls; shared memory is not among them, so connections lock exclusively."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self._disk.files[self._name][offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        put(self._disk.files[self._name], offset, data)
        self._disk.log.append(Op("write", self._name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        cut_to(self._disk.files[self._name], size)
        self._disk.log.append(Op("truncate", self._name, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.log.append(Op("sync", self._name))

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._disk.files[self._name])

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return POWER_SAFE_OVERWRITE

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xLock(self, level: int) -> None:  # noqa: N802
        """One connection, nobody to lock out."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """See xLock."""

    def xClose(self) -> None:  # noqa: N802
        """Nothing is synced by a close."""


def put(content: bytearray, offset: int, data: bytes) -> None:
    """A write beyond the end fills the gap with zeros."""
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def cut_to(content: bytearray, size: int) -> None:
    """Shorten, or lengthen with zeros."""
    del content[size:]
    content.extend(bytes(size - len(content)))


@dataclass
class _Medium:
    """One file on the medium: what the last sync made sure, and what came after it."""

    sure: bytearray = field(default_factory=bytearray)
    exists: bool = False
    later: list[Op] = field(default_factory=list)


def image_after_cut(
    log: list[Op], rng: random.Random, *, before: dict[str, bytes] | None = None, ignore_sync: bool = False
) -> dict[str, bytes]:
    """The files as they may be after the power went at the end of `log`. `before`: what was there when it began."""
    media = {name: _Medium(bytearray(content), exists=True) for name, content in (before or {}).items()}
    for op in log:
        if op.kind == "ack":
            continue
        medium = media.setdefault(op.file, _Medium())
        if op.kind == "sync" and not ignore_sync:
            _apply(medium, lambda _: 1.0, rng)
            if not medium.exists and op.file.endswith(("-journal", "-wal")):
                _sync_folder(media)
            medium.exists = True
        elif op.kind == "delete" and op.offset and not ignore_sync:
            media[op.file] = _Medium()
        elif op.kind != "sync":
            medium.later.append(op)
    mood = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    image = {}
    for name, medium in media.items():
        exists = medium.exists or rng.random() < max(mood, 0.3)
        if _apply(medium, lambda _: mood, rng) or not exists:
            continue
        image[name] = bytes(medium.sure)
    return image


def _sync_folder(media: dict[str, _Medium]) -> None:
    """Files that were deleted are gone for good, files that were made are there for good."""
    for name, medium in list(media.items()):
        if any(op.kind == "delete" for op in medium.later):
            media[name] = _Medium()
        elif any(op.kind == "create" for op in medium.later):
            medium.exists = True


def _apply(medium: _Medium, chance: Any, rng: random.Random) -> bool:
    """Bring the later operations onto the medium, each sector with its chance; True where the file was deleted."""
    gone = False
    for op in medium.later:
        certain = chance(op) == 1.0
        if op.kind == "write":
            _write_sectors(medium.sure, op, chance(op), rng)
            gone = False
        elif op.kind == "truncate" and (certain or rng.random() < chance(op)):
            cut_to(medium.sure, op.offset)
        elif op.kind == "delete" and (certain or rng.random() < chance(op)):
            medium.sure.clear()
            gone = True
    medium.later.clear()
    return gone


def _write_sectors(content: bytearray, op: Op, chance: float, rng: random.Random) -> None:
    if chance == 1.0:
        put(content, op.offset, op.content)
        return
    at = op.offset
    end = op.offset + len(op.content)
    while at < end:
        upto = min(end, (at // SECTOR_SIZE_BYTES + 1) * SECTOR_SIZE_BYTES)
        if rng.random() < chance:
            torn = rng.randrange(at, upto) if rng.random() < 0.1 else upto
            put(content, at, op.content[at - op.offset : torn - op.offset])
        at = upto
