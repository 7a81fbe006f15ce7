"""The clock is stepped by a year in the middle of a batch: nothing is refused, reordered or rewritten, and the bundle
says what happened."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from buffers.seals import Seals
from gateway.clock import Discipline, Readers, SystemClock
from gateway.config import SealConfig
from gateway.core.record import Draft
from gateway.ingest import Ingest
from gateway.ledger.archive import open_bag
from gateway.ledger.verify import verify
from gateway.offline import write_whole
from gateway.sealer import Sealer
from tests.api.box import NOW, START_UTC_NS, Box

YEAR_NS = 365 * 86_400 * 10**9
NO_DISCIPLINE = Discipline(None, None, timesyncd=False, rtc=False)


@pytest.mark.parametrize("step_ns", [YEAR_NS, -YEAR_NS])
def test_a_year_in_mid_batch(tmp_path: Path, step_ns: int) -> None:
    box = Box(tmp_path)
    moment = {"mono_ns": 10**12, "utc_ns": START_UTC_NS}

    def pass_s(seconds: int) -> None:
        for key in moment:
            moment[key] += seconds * 10**9

    readers = Readers(
        boottime_ns=lambda: moment["mono_ns"],
        monotonic_ns=lambda: moment["mono_ns"],
        realtime_ns=lambda: moment["utc_ns"],
        boot_id=lambda: ("ab" * 16, "kernel"),
        discipline=lambda: NO_DISCIPLINE,
    )
    clock = SystemClock(1, readers=readers)
    ingest = Ingest(box.journal, clock)
    sealer = Sealer(Seals(box.database), box.signer, clock, SealConfig(), box.origin, lambda: clock.synchronised)

    async def scenario() -> None:
        for number in range(20):
            if number == 10:
                moment["utc_ns"] += step_ns
            await ingest.append([Draft("position", "station-1", "truck", {"number": number})])
            pass_s(1)
        assert await sealer.seal(clock.now()) is not None  # due at once: the step is urgent
        write_whole(await box.bundles.batch(1, artifacts=True), tmp_path / "bundle.tar")

    asyncio.run(scenario())
    report = verify(tmp_path / "bundle.tar", box.trust, now=NOW)
    assert report.ok, report.lines()
    with open_bag(tmp_path / "bundle.tar") as bag, bag.open("data/records.jsonl") as file:
        records = [json.loads(line) for line in file.readall().splitlines()]
    assert [record["kind"] for record in records] == ["position"] * 10 + ["clock.step"] + ["position"] * 10
    numbers = [record["data"]["number"] for record in records if record["kind"] == "position"]
    assert numbers == list(range(20))
    step = records[10]
    assert int(step["data"]["delta_ns"]) == step_ns
    assert [record["epoch"] for record in records] == [1] * 10 + [2] * 11
    # one line of time runs through both epochs, so the true times can be mapped later
    mono = [int(record["mono_ns"]) for record in records]
    assert mono == sorted(mono)
    assert int(records[9]["utc_ns"]) == START_UTC_NS + 9 * 10**9  # never rewritten
    box.close()
