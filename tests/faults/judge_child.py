"""The child of test_judge_kill: a store with trucks that report and a judge that follows, until it is killed.

python -m tests.faults.judge_child STATE ROUNDS: goes on where the store ends, prints a line after each round.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from gateway import judge
from tests.gateway.doubles import at
from tests.gateway.test_judge import Site, settle

TRUCKS = ("A", "B", "C")


async def main(state: Path, rounds: int) -> None:
    judge.ASK_MIN_S = judge.ASK_IDLE_S = 0.0  # type: ignore[misc]
    judge.KEEP_RECORDS = 40  # type: ignore[misc]
    site = Site(state)
    site.clock.instant = at(site.reader.next_seq())
    service = site.service()
    await service.begin()
    while (number := sum(1 for _ in site.memory.items("rounds"))) < rounds:
        chance = random.Random(number)
        device = chance.choice(TRUCKS)
        start_s = number * 3 if chance.random() < 0.8 else chance.randrange(number * 3 + 1)
        await site.report(device, *(chance.choice((500, 900, 950)) for _ in range(6)), from_s=start_s)
        await site.ingest.append([], [judge.StateChange("rounds", f"{number:06d}".encode(), b"")])
        await settle(service)
        print(number, flush=True)  # noqa: T201
    site.database.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
