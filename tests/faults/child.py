"""A small gateway that dies: takes in records or a file, and says on stdout what it would have acknowledged.

python -m tests.faults.child append STATE_DIR COUNT      "<seq>" per record, once it is on disk
python -m tests.faults.child spool STATE_DIR COUNT       "<sha256> <seq>" per file
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.buffers.chain import Box, draft, instant, open_box, put


def say(text: str) -> None:
    """One write to the pipe: whoever reads it has been promised something."""
    os.write(1, f"{text}\n".encode())


def take_records(box: Box, count: int) -> None:
    """Records one by one, with a batch sealed now and then."""
    for number in range(count):
        seq = box.journal.append_blocking([(draft(n=number, text="x" * 200), instant())])
        say(str(seq))
        if number % 10 == 9:
            asyncio.run(box.seal())


def take_files(box: Box, count: int) -> None:
    """Files of some hundred kilobytes, each with its record."""
    spool = box.spool()
    begun = box.queries.next_seq()
    for number in range(begun, begun + count):
        item = put(spool, content(number), f"file {number}")
        seq = box.journal.append_blocking([(draft("station.file", artifacts=[item], n=number), instant())])
        say(f"{item.sha256} {seq}")


def content(number: int) -> bytes:
    """What file `number` holds."""
    return b"%08d" % number * 40_000


if __name__ == "__main__":
    opened = open_box(Path(sys.argv[2]))
    say("ready")
    {"append": take_records, "spool": take_files}[sys.argv[1]](opened, int(sys.argv[3]))
    opened.close()
    say("closed")
