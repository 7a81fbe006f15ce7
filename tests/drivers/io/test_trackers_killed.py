"""kill -9 under load: what was acknowledged is in the store, and nothing is there twice."""

import asyncio
import contextlib
import random
import socket
import sys
from collections import Counter

import pytest

from buffers.db import Database
from buffers.queries import Queries
from drivers.jt808.codec import (
    Address,
    Authentication,
    Decoder,
    Frame,
    GeneralReply,
    Registration,
    RegistrationReply,
    Text,
    Version,
    encode,
    parse,
)
from gateway.core.record import parse_leaf
from tests.conftest import ROOT
from tests.drivers.io.terminals import drive
from tests.drivers.jt808.talk import location

FIXES = 400
WINDOW = 20
TERMINALS = 6
KILLS = 4


class Sender:
    """Sends every fix until it is acknowledged, the same bytes each time."""

    def __init__(self, number: int) -> None:
        self.phone = f"1390000000{number}"
        self.address = Address.of(self.phone, Version.V2013)
        self.waiting = {serial: encode(location(serial), self.address, serial)[0] for serial in range(100, 100 + FIXES)}
        self.acknowledged: set[int] = set()
        self.code: str | None = None
        self.online = False

    async def run(self, port: int) -> None:
        while self.waiting:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._once(port)
            await asyncio.sleep(0.05)

    async def _once(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        decoder = Decoder()
        sent: set[int] = set()
        try:
            if self.code is None:
                text = Text(b"x")
                writer.write(encode(Registration(1, 1, text, text, text, 2, text), self.address, 0)[0])
            else:
                writer.write(encode(Authentication(Text(self.code.encode())), self.address, 1)[0])
            while self.waiting:
                content = await reader.read(65_536)
                if not content:
                    return
                for frame in decoder.feed(content):
                    assert isinstance(frame, Frame)
                    self._take(parse(frame), writer)
                if self.online:
                    room = WINDOW - len(sent & self.waiting.keys())
                    for serial in [one for one in self.waiting if one not in sent][:room]:
                        sent.add(serial)
                        writer.write(self.waiting[serial])
        finally:
            self.online = False
            writer.transport.abort()

    def _take(self, message: object, writer: asyncio.StreamWriter) -> None:
        if isinstance(message, RegistrationReply):
            self.code = message.code.text
            writer.write(encode(Authentication(Text(self.code.encode())), self.address, 1)[0])
        elif isinstance(message, GeneralReply) and message.reply_id == Authentication.MSG_ID:
            self.online = True
        elif isinstance(message, GeneralReply):
            assert message.result == 0
            self.acknowledged.add(message.reply_serial)
            self.waiting.pop(message.reply_serial, None)


@pytest.mark.slow
def test_killed_under_load(tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    state = tmp_path / "state"
    state.mkdir()
    senders = [Sender(number) for number in range(TERMINALS)]
    rng = random.Random(808)

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.drivers.io.tracker_process", str(state), str(port), cwd=ROOT
        )

    async def kill() -> None:
        for number in range(1, KILLS + 1):
            process = await start()
            share = FIXES * TERMINALS * number // (KILLS + 1) - rng.randrange(100)
            while sum(len(sender.acknowledged) for sender in senders) < share:
                await asyncio.sleep(0.001)
            process.kill()
            await process.wait()
        process = await start()
        while any(sender.waiting for sender in senders):
            await asyncio.sleep(0.01)
        process.terminate()
        await process.wait()

    async def scenario():
        await asyncio.gather(kill(), *(sender.run(port) for sender in senders))

    drive(scenario)
    stored: Counter[tuple[str, int]] = Counter()
    database = Database.open_readonly(state)
    try:
        after = -1
        while page := Queries(database).records(kind="position", limit=500, after=after):
            for seq, leaf in page:
                record = parse_leaf(leaf)
                stored[record.device, record.data["time_utc_s"]] += 1
                after = seq
    finally:
        database.close()
    assert len(stored) == FIXES * TERMINALS
    assert set(stored.values()) == {1}
