"""The logs of 51 real receivers through the whole source: sockets, sessions, the real ingest and store, and back out of
the records; compared with gpsd's own reading as in tests/drivers/nmea/test_gpsd.py."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from buffers.db import Database
from buffers.journal import Journal, Memory
from buffers.queries import Queries
from drivers.nmea.fields import SECOND_NS
from drivers.nmea.framing import Sentence
from gateway.clock import SystemClock
from gateway.core.fixes import FLAGS, fixes_of
from gateway.core.record import Record, parse_leaf
from gateway.ingest import Ingest
from tests.drivers.io.receiver_rig import drive, listen_config, running
from tests.drivers.nmea.lines import decoded, said
from tests.drivers.nmea.test_gpsd import FINER_HERE, fixes_of_sentences, logs, off_e7, reports


async def through_the_source(found: list[Path], state: Path) -> dict[str, list[Record]]:
    """Every log over its own connection at the same time; the records of each."""
    peers = {f"127.0.1.{number}": log.stem for number, log in enumerate(found, 1)}
    with Database.open(state, "gw-1", reserve_bytes=0) as database:
        clock, memory = SystemClock(1), Memory(database)
        ingest = Ingest(Journal(database), clock, memory)
        config = listen_config(listen="127.0.0.1:0", peers=peers)
        async with running(config, sink=ingest, memory=memory, clock=clock) as source:  # type: ignore[arg-type]
            await source.state("ok", "listens on")
            port = int(source.status.reason.rpartition(":")[2])
            async with asyncio.TaskGroup() as group:
                for address, log in zip(peers, found, strict=True):
                    group.create_task(send(log.read_bytes(), address, port))
            await source.until(lambda: source.status.counters.get("link_failures", 0) == len(found))
        records: defaultdict[str, list[Record]] = defaultdict(list)
        after = -1
        while page := Queries(database).records(after=after, limit=1000):
            after = page[-1][0]
            for _, leaf in page:
                record = parse_leaf(leaf)
                records[record.device].append(record)
        return dict(records)


async def send(content: bytes, address: str, port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    for at in range(0, len(content), 1000):
        writer.write(content[at : at + 1000])
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def by_second(records: list[Record]) -> dict[int, list[dict[str, Any]]]:
    """Positions by the receiver's time; where its week has rolled over, by the sentences that the record holds."""
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record.kind == "position":
            second = record.data.get("time_utc_s")
            if second is None:
                assert record.raw is not None
                again = [fix.utc_ns for fix in fixes_of_sentences(said(record.raw)) if fix.utc_ns is not None]
                second = again[0] // SECOND_NS if again else -1
            found[second].append(dict(record.data))
    return found


def test_positions_in_records_agree_with_gpsd(vectors: Path, tmp_path: Path) -> None:
    found = logs(vectors)
    records: dict[str, list[Record]] = {}

    async def scenario() -> None:
        records.update(await through_the_source(found, tmp_path))

    drive(scenario)
    assert not [record for rows in records.values() for record in rows if record.kind == "ingest.refused"]
    same = no_time = 0
    finer: Counter[str] = Counter()
    for log in found:
        mine = by_second(records[log.stem])
        for _, report in reports(log):
            if "time" not in report:
                no_time += 1
                continue
            moment = datetime.fromisoformat(report["time"]) - datetime(1970, 1, 1, tzinfo=UTC)
            positions = mine[moment // timedelta(seconds=1)]
            assert positions, (log.name, report)
            off = min(off_e7(report, data["lat_e7"], data["lon_e7"]) for data in positions)
            assert off < 9, (log.name, report)
            if off <= 1:
                same += 1
            else:
                finer[log.stem] += 1
    assert (same, no_time, finer) == (1199, 62, FINER_HERE)
    check_records(found, records)


def check_records(found: list[Path], records: dict[str, list[Record]]) -> None:
    """Each record holds sentences of the log, none twice; flags are known; nothing is judged that
    must not be; what could not be read is counted."""
    for log in found:
        sent = Counter(item.raw for item in decoded(log.read_bytes()) if isinstance(item, Sentence))
        for record in records[log.stem]:
            if record.kind != "position":
                continue
            assert record.raw is not None
            sent.subtract(record.raw.split(b"\r\n")[:-1])
            assert set(record.data.get("flags", "").split()) <= FLAGS
            (fix,) = fixes_of(record.seq, record.instant.utc_ns, record.data)
            assert not fix.usable  # all are older than 30 days
            assert record.device_time is not None
            assert record.device_time.text
        assert min(sent.values()) >= 0, log.name  # no sentence stands in two records
        kinds = Counter(record.kind for record in records[log.stem])
        states = [record.data["state"] for record in records[log.stem] if record.kind == "device.state"]
        assert (states[0], states[-1]) == ("online", "offline")
        assert kinds["device.gap"] <= 2
