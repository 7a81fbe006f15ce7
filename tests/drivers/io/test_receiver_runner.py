"""A simulated receiver on real links: what comes out is what the receiver said, and the real source reads it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from drivers.fleet.journeys import Drive, Journey, Path, moved
from drivers.fleet.vehicles import DeviceClock, Trouble, Vehicle
from drivers.io.receiver_runner import Write, run_receiver, to_clients, to_datagrams, to_pty, to_server
from drivers.nmea.simulator import Receiver
from gateway.clock import SYSTEM
from gateway.config_sources import NmeaListenConfig
from tests.drivers.io.receiver_rig import Source, drive, running, serial_config, tcp_config

LIMIT_S = 20
START = (307_000_000, 1_210_200_000)
JOURNEY = Journey([Drive(Path([START, moved(START, 3000, 4000)]), 45)])
SPAN_S = 6000
SPEED_UP = 300


@asynccontextmanager
async def speaking(write: Write, *troubles: Trouble) -> AsyncIterator[Receiver]:
    """Five minutes of a receiver in a second while the block runs."""
    loop = asyncio.get_running_loop()
    clock = DeviceClock(loop.time(), SYSTEM.realtime_ns() / 1e9, SPAN_S, SPEED_UP)
    start = int(clock.start_utc_s)
    receiver = Receiver(Vehicle("1", "", JOURNEY, start, seed=2, troubles=troubles))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_receiver(receiver, clock, write, stop))
        yield receiver
        stop.set()


async def as_measured(source: Source, receiver: Receiver, count: int = 20) -> None:
    """The source's positions are the vehicle's."""
    for draft in (await source.positions(count))[:count]:
        seen = receiver.vehicle.measure(draft.data["time_utc_s"])
        assert seen is not None
        assert abs(draft.data["lat_e7"] - seen.lat_e7) <= 2
        assert abs(draft.data["lon_e7"] - seen.lon_e7) <= 2


def test_a_pty_is_a_serial_port_to_the_source() -> None:
    async def scenario() -> None:
        paths: list[str] = []
        with to_pty(paths.append) as write:
            async with running(serial_config(paths[0])) as source, speaking(write) as receiver:
                await as_measured(source, receiver)

    drive(scenario)


def test_a_pty_that_nobody_reads_holds_nothing_up() -> None:
    with to_pty(lambda _path: None) as write:
        for _ in range(1000):
            write(b"$" + b"x" * 500)


def test_a_serial_server_gives_everybody_the_stream() -> None:
    async def scenario() -> None:
        where: list[tuple[str, int]] = []
        async with to_clients(("127.0.0.1", 0), where.append) as write, speaking(write) as receiver:
            text = f"127.0.0.1:{where[0][1]}"
            async with running(tcp_config(text)) as one, running(tcp_config(text)) as other:
                await as_measured(one, receiver)
                await as_measured(other, receiver)

    drive(scenario)


def test_a_client_comes_back_when_the_listener_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.io.receiver_runner.AGAIN_S", 0.05)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        config = NmeaListenConfig(name="gps-3", listen=f"127.0.0.1:{port}", interval_s=0)
        stop = asyncio.Event()
        async with to_server(("127.0.0.1", port), stop) as write, speaking(write) as receiver:
            for _ in range(2):
                async with running(config) as source:
                    await as_measured(source, receiver, 5)

    drive(scenario)


def test_datagrams_hold_one_sentence_each() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.setblocking(False)
            loop = asyncio.get_running_loop()
            async with to_datagrams(listener.getsockname()) as write, speaking(write), asyncio.timeout(LIMIT_S):
                for _ in range(30):
                    line = await loop.sock_recv(listener, 4096)
                    assert line.startswith(b"$")
                    assert line.endswith(b"\r\n")
                    assert line.count(b"$") == 1

    drive(scenario)


def test_the_end_of_the_vehicles_time_is_the_end_of_the_stream() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        clock = DeviceClock(loop.time(), SYSTEM.realtime_ns() / 1e9, SPAN_S, SPEED_UP)
        start = int(clock.start_utc_s) + 1
        vehicle = Vehicle("1", "", JOURNEY, start, troubles=(Trouble("blind", 10, 20),), end_utc_s=start + 50)
        epochs: list[bytes] = []
        async with asyncio.timeout(LIMIT_S):
            sent = await run_receiver(Receiver(vehicle), clock, epochs.append, asyncio.Event())
        assert sent == len(epochs)
        assert len([epoch for epoch in epochs if epoch]) == 40

    drive(scenario)
