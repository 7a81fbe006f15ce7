"""Simulated collection stations for tests and the demo: a folder into which recorders unload, and an HTTP listing.

`StationSimulator` follows a plan made from a seed: the same seed, names and bytes. Each `step` writes a piece, as a
station does: videos grow and get their `moov` box last. `truth` lists what must arrive, so that losses can be
counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

CHUNK_SIZE_BYTES: Final = 65_536
_START: Final = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
"""Face of the recorders' clocks at the first docking; they know no zone."""
_UTC_AHEAD: Final = timedelta(hours=8)
_LAT_E7, _LON_E7 = 302_600_000, 1_201_900_000


@dataclass(frozen=True, slots=True)
class Written:
    """One file that is complete at the station."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Recorder:
    """One body-worn recorder. All zeros: never set up."""

    label: str
    device: str
    person: str
    has_gps: bool


class StationSimulator:
    """Docks recorders one after another, over and over; every docking brings new files."""

    def __init__(self, folder: Path | str, seed: int, recorders: int = 3) -> None:
        self.folder = Path(folder)
        self.truth: list[Written] = []
        self._random = random.Random(seed)  # noqa: S311  a plan, not a secret
        self.recorders = [self._recorder(index) for index in range(recorders)]
        self._steps = self._plan()

    def step(self) -> str:
        """Do the next piece of the plan; one line about it for people."""
        return next(self._steps)

    def finish(self) -> None:
        """Go on until no file is half written."""
        while not self.step().startswith("undocked"):
            continue

    async def run(self, stop: asyncio.Event, interval_s: float = 0.5) -> None:
        """One step every `interval_s` until `stop`; then complete what was begun."""
        line = "undocked"
        while not stop.is_set():
            line = await asyncio.to_thread(self.step)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await stop.wait()
        if not line.startswith("undocked"):
            await asyncio.to_thread(self.finish)

    # -------------------------------------------------------------------------------------- plan

    def _recorder(self, index: int) -> Recorder:
        label = ("DSJ", "A11", "NOR")[index % 3]
        unset = index % 7 == 6
        device = "0000000" if unset else f"{3_300_000 + index * 7:07d}"
        person = "000000" if unset else f"{60_000 + index * 13:06d}"
        return Recorder(label, device, person, index % 2 == 0)

    def _plan(self) -> Iterator[str]:
        dock = 0
        while True:
            recorder = self.recorders[dock % len(self.recorders)]
            begin = _START + timedelta(minutes=37 * dock)
            yield f"docked {recorder.label} {recorder.device} of {recorder.person}"
            yield from self._video(recorder, begin, 1)
            yield from self._small(recorder, begin + timedelta(minutes=3), 2, "JPG", self._photo())
            if self._random.random() < 0.5:
                yield from self._small(recorder, begin + timedelta(minutes=5), 3, "WAV", self._audio())
            yield f"undocked {recorder.label} {recorder.device}"
            dock += 1

    def _name(self, recorder: Recorder, begin: datetime, sequence: int, ending: str) -> str:
        time = begin.strftime("%Y%m%d_%H%M%S" if recorder.label == "NOR" else "%Y%m%d%H%M%S")
        tail = "" if recorder.label == "DSJ" and sequence == 1 else f"_{sequence:04d}"
        day = begin.strftime("%Y-%m-%d")
        return f"{day}/{recorder.label}_{recorder.device}_{recorder.person}_{time}{tail}.{ending}"

    def _video(self, recorder: Recorder, begin: datetime, sequence: int) -> Iterator[str]:
        path = self._name(recorder, begin, sequence, "MP4")
        media = self._random.randbytes(self._random.randrange(100_000, 400_000))
        pieces = mp4_pieces(media)
        content = b"".join(pieces)
        target = self._target(path)
        for piece in pieces:
            with target.open("ab") as file:
                file.write(piece)
            yield f"wrote {len(piece)} bytes of {path}"
        yield self._done(path, content)
        stem = path.rpartition(".")[0]
        yield from self._whole(f"{stem}.XML", _sidecar(recorder, begin))
        if recorder.has_gps:
            yield from self._whole(f"{stem}.GPX", self._track(begin))

    def _small(self, recorder: Recorder, begin: datetime, sequence: int, ending: str, content: bytes) -> Iterator[str]:
        yield from self._whole(self._name(recorder, begin, sequence, ending), content)

    def _whole(self, path: str, content: bytes) -> Iterator[str]:
        """Small files are written under another name and renamed, as many stations do."""
        target = self._target(path)
        part = target.with_name(target.name + ".tmp")
        part.write_bytes(content)
        part.rename(target)
        yield self._done(path, content)

    def _target(self, path: str) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _done(self, path: str, content: bytes) -> str:
        self.truth.append(Written(path, hashlib.sha256(content).hexdigest(), len(content)))
        return f"completed {path}, {len(content)} bytes"

    # ----------------------------------------------------------------------------------- content

    def _photo(self) -> bytes:
        body = self._random.randbytes(self._random.randrange(20_000, 60_000)).replace(b"\xff", b"\xfe")
        return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + body + b"\xff\xd9"

    def _audio(self) -> bytes:
        return wav(self._random.randbytes(2 * self._random.randrange(8_000, 24_000)))

    def _track(self, begin: datetime) -> bytes:
        lat, lon = _LAT_E7, _LON_E7
        rows = []
        for second in range(0, 120, 2):
            lat += self._random.randrange(-300, 400)
            lon += self._random.randrange(-300, 400)
            time = (begin - _UTC_AHEAD + timedelta(seconds=second + 4)).strftime("%Y-%m-%dT%H:%M:%SZ")
            place = f'lat="{lat // 10**7}.{lat % 10**7:07d}" lon="{lon // 10**7}.{lon % 10**7:07d}"'
            rows.append(f"<trkpt {place}><ele>12.5</ele><time>{time}</time></trkpt>")
        head = '<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" creator="simulator">'
        return (head + "<trk><trkseg>" + "\n".join(rows) + "</trkseg></trk></gpx>\n").encode()


def mp4_pieces(media: bytes) -> list[bytes]:
    """A small MP4 in the order in which a recorder writes it: ftyp, mdat in chunks, moov last."""
    head = _box(b"ftyp", b"isom\x00\x00\x02\x00isommp41") + (len(media) + 8).to_bytes(4, "big") + b"mdat"
    chunks = [media[at : at + CHUNK_SIZE_BYTES] for at in range(0, len(media), CHUNK_SIZE_BYTES)]
    return [head, *chunks, _box(b"moov", _box(b"mvhd", bytes(100)))]


def wav(samples: bytes) -> bytes:
    """16-bit mono PCM at 8 kHz."""
    form = b"fmt " + (16).to_bytes(4, "little")
    form += b"\x01\x00\x01\x00" + (8000).to_bytes(4, "little") + (16_000).to_bytes(4, "little") + b"\x02\x00\x10\x00"
    body = b"WAVE" + form + b"data" + len(samples).to_bytes(4, "little") + samples
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def _sidecar(recorder: Recorder, begin: datetime) -> bytes:
    """As a station writes it at docking: the clock that it read from the recorder, and its own."""
    docked = (begin + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S")
    read = (begin + timedelta(hours=1, seconds=2)).strftime("%Y-%m-%d %H:%M:%S")
    text = f"""<?xml version="1.0" encoding="GB2312"?>
<MediaFile>
  <Device><IDCode>{recorder.device}</IDCode><Model>{recorder.label}</Model></Device>
  <User><No>{recorder.person}</No><Name>模拟人员</Name></User>
  <Unit><No>330100000000</No><Name>模拟执法队</Name></Unit>
  <StartTime>{begin.strftime("%Y-%m-%d %H:%M:%S")}</StartTime>
  <KeyFile>0</KeyFile>
  <Sync><DeviceTime>{read}</DeviceTime><StationTime>{docked}</StationTime></Sync>
</MediaFile>
"""
    return text.encode("gb18030")


# ------------------------------------------------------------------------------------------- HTTP


def listing_app(folder: Path | str, page_size: int = 50) -> Starlette:
    """An HTTP station over a folder: `GET /api/media?page=1` with the keys of the `jingyi` profile, and
    `GET /media/<path>` with Range, ETag and If-Range."""
    root = Path(folder)

    async def media(request: Request) -> Response:
        number = int(request.query_params.get("page", "1"))
        rows = await asyncio.to_thread(_rows, root)
        batch = rows[(number - 1) * page_size : number * page_size]
        return JSONResponse({"code": 0, "total": len(rows), "page": number, "data": batch})

    async def download(request: Request) -> Response:
        path = root / request.path_params["path"]
        found = await asyncio.to_thread(path.is_file)
        return FileResponse(path) if found else Response(status_code=404)

    return Starlette(routes=[Route("/api/media", media), Route("/media/{path:path}", download)])


def _rows(root: Path) -> list[dict[str, Any]]:
    rows = []
    for base, _, names in sorted(os.walk(root)):
        for name in sorted(names):
            path = Path(base, name)
            status = path.stat()
            rows.append(
                {
                    "filename": name,
                    "hostname": "模拟人员",
                    "hostcode": name.split("_")[2] if name.count("_") > 2 else "",
                    "hostbody": name.split("_")[1] if name.count("_") > 2 else "",
                    "unit_no": "330100000000",
                    "device_no": "ST01",
                    "filesize": status.st_size,
                    "updatetime": str(status.st_mtime_ns),
                    "url": "/media/" + path.relative_to(root).as_posix(),
                }
            )
    return rows
