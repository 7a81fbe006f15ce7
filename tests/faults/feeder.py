"""A gateway with a synthetic source of 1,000 records a second, as a process of its own: to be killed.

usage: python -m tests.faults.feeder CONFIG RUN ACKED
What the sink has acknowledged is appended to ACKED as ``<run> <first number> <end>`` lines.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from gateway.app import Gateway
from gateway.core.record import Draft
from gateway.offline import load_config
from gateway.supervisor import Tick

RECORDS_PER_TURN = 20
TURN_S = RECORDS_PER_TURN / 1000


async def feed(gateway: Gateway, run: int, acked: int, tick: Tick) -> None:
    """Append batches of records at the pace of a bureau's trackers; write down what was acknowledged."""
    loop = asyncio.get_running_loop()
    number, due_s = 0, loop.time()
    while True:
        drafts = [
            Draft("position", "feeder", f"truck-{n % 7}", {"run": run, "number": n}, raw=b"x" * 80)
            for n in range(number, number + RECORDS_PER_TURN)
        ]
        await gateway.ingest.append(drafts)
        os.write(acked, f"{run} {number} {number + RECORDS_PER_TURN}\n".encode())
        number += RECORDS_PER_TURN
        tick()
        due_s += TURN_S
        await asyncio.sleep(max(0.0, due_s - loop.time()))


async def main(config_file: Path, run: int, acked_file: Path) -> int:
    """Run until killed."""
    gateway = Gateway.open(load_config(config_file))
    acked = os.open(acked_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    supervisor = gateway.supervisor()
    supervisor.add("feeder", lambda tick: feed(gateway, run, acked, tick))
    try:
        return await gateway.run(supervisor)
    finally:
        gateway.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
