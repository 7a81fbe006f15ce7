"""TCP and UDP below the protocols: limits, holding back, and ends."""

import asyncio
import socket

import pytest

from drivers.io.datagram import DatagramServer
from drivers.io.stream import WRITE_WAITING_MAX_BYTES, StreamServer
from gateway.core.errors import LinkError
from tests.drivers.io.terminals import LIMIT_S, drive

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


class Log:
    """What the server tells."""

    def __init__(self, **limits):
        self.opened, self.received, self.closed = [], [], []
        self.changed = asyncio.Event()
        self.server = StreamServer(
            opened=lambda link, host, port: self.note(self.opened, (link, host)),
            received=lambda link, content: self.note(self.received, (link, content)),
            closed=lambda link, reason: self.note(self.closed, (link, reason)),
            **{"connections_max": 10, "per_address_max": 10, **limits},
        )

    def note(self, where, what):
        where.append(what)
        self.changed.set()

    async def until(self, happened):
        async with asyncio.timeout(LIMIT_S):
            while not happened():
                self.changed.clear()
                await self.changed.wait()

    async def listen(self):
        host, port = (await self.server.listen("127.0.0.1", 0)).split(":")
        return host, int(port)


async def connect(address):
    link = socket.socket()
    link.setblocking(False)
    await asyncio.get_running_loop().sock_connect(link, address)
    return link


@LOOPS
def test_bytes_in_bytes_out_and_the_end(loop):
    async def scenario():
        log, loop = Log(), asyncio.get_running_loop()
        with await connect(await log.listen()) as link:
            await loop.sock_sendall(link, b"hello")
            await log.until(lambda: log.received)
            log.server.write(1, b"hi")
            log.server.write(99, b"nobody")
            assert await loop.sock_recv(link, 100) == b"hi"
        await log.until(lambda: log.closed)
        assert (log.opened, log.received) == ([(1, "127.0.0.1")], [(1, b"hello")])
        assert log.closed == [(1, "closed by peer")]
        assert len(log.server) == 0
        log.server.abort()

    drive(scenario, loop)


@LOOPS
def test_one_that_does_not_read_is_ended(loop):
    async def scenario():
        log = Log()
        with await connect(await log.listen()):
            await log.until(lambda: log.opened)
            while not log.server.not_reading:
                log.server.write(1, bytes(WRITE_WAITING_MAX_BYTES))
            await log.until(lambda: log.closed)
            assert log.closed == [(1, "does not read")]
            log.server.write(1, b"more")
        log.server.abort()

    drive(scenario, loop)


@LOOPS
def test_a_held_connection_is_not_read_and_others_are(loop):
    async def scenario():
        log, loop = Log(), asyncio.get_running_loop()
        address = await log.listen()
        with await connect(address) as first:
            await log.until(lambda: log.opened)
            log.server.hold(1, is_held=True)
            await loop.sock_sendall(first, b"first")
            with await connect(address) as second:
                await loop.sock_sendall(second, b"second")
                await log.until(lambda: log.received)
                assert log.received == [(2, b"second")]
                log.server.hold_all(is_held=True)
                log.server.hold(1, is_held=False)  # all are held still
                with await connect(address) as third:
                    await log.until(lambda: len(log.opened) == 3)
                    await asyncio.sleep(0.01)
                    await loop.sock_sendall(third, b"third")
                    await asyncio.sleep(0.01)
                    taken = list(log.received)
                    log.server.hold_all(is_held=False)
                    await log.until(lambda: len(log.received) == 3)
                    assert taken == [(2, b"second")]
                    assert {link for link, _ in log.received} == {1, 2, 3}
                    log.server.abort()

    drive(scenario, loop)


@pytest.mark.parametrize("limits", [{"connections_max": 2}, {"per_address_max": 2}])
@LOOPS
def test_more_than_may_be_are_refused(limits, loop):
    async def scenario():
        log, loop = Log(**limits), asyncio.get_running_loop()
        address = await log.listen()
        links = [await connect(address) for _ in range(3)]
        assert await loop.sock_recv(links[2], 1) == b""
        assert log.server.refused == 1
        links[0].close()
        await log.until(lambda: log.closed)
        links.append(await connect(address))
        await log.until(lambda: len(log.opened) == 3)
        log.server.close(2)
        log.server.close(99)
        await log.until(lambda: len(log.closed) == 2)
        for link in links:
            link.close()
        log.server.abort()

    drive(scenario, loop)


@LOOPS
def test_a_taken_port_is_a_link_error(loop):
    async def scenario():
        log = Log()
        address = await log.listen()
        with pytest.raises(LinkError, match="cannot listen on TCP 127.0.0.1"):
            await Log().server.listen(*address)
        log.server.stop_listening()

    drive(scenario, loop)


def test_a_taken_port_of_datagrams_is_a_link_error():
    async def scenario():  # not on uvloop: it leaves a transport behind that it never closes
        first = DatagramServer(lambda sender, content: None)
        host, port = (await first.listen("127.0.0.1", 0)).split(":")
        with pytest.raises(LinkError, match="cannot listen on UDP"):
            await DatagramServer(lambda sender, content: None).listen(host, int(port))
        first.abort()

    drive(scenario)


@LOOPS
def test_datagrams(loop):
    async def scenario():
        loop, found, event = asyncio.get_running_loop(), [], asyncio.Event()

        def received(sender, content):
            found.append((sender, content))
            event.set()

        server = DatagramServer(received)
        server.write(("127.0.0.1", 9), b"before it listens")
        host, port = (await server.listen("127.0.0.1", 0)).split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            await loop.sock_connect(link, (host, int(port)))
            await loop.sock_sendall(link, b"one")
            async with asyncio.timeout(LIMIT_S):
                await event.wait()
            server.write(found[0][0], b"two")
            assert await loop.sock_recv(link, 100) == b"two"
            server.is_held = True
            await loop.sock_sendall(link, b"three")
            async with asyncio.timeout(LIMIT_S):
                while not server.dropped:
                    await asyncio.sleep(0)
        assert [content for _, content in found] == [b"one"]
        server.abort()

    drive(scenario, loop)
