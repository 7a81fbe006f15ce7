"""Simulated terminals on real sockets, against the real source on the real store: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers.fleet.journeys import Drive, Journey, Stand, State, moved
from drivers.fleet.journeys import Path as Way
from drivers.fleet.vehicles import DeviceClock, Trouble, Vehicle
from drivers.io.fleet_runner import run_fleet
from drivers.jt808.codec import Version
from drivers.jt808.simulator import Habits, Terminal
from gateway.clock import SYSTEM
from gateway.core.ports import Order
from tests.drivers.io.terminals import Source, drive, running

WAY = Way([(307_000_000, 1_210_200_000), moved((307_000_000, 1_210_200_000), 2000, 2000)])
JOURNEY = Journey([Stand(60), Drive(WAY, 45, State(load="full")), Stand(60)])
SPAN_S = 600
LIMIT_S = 30


def fleet(count: int = 6, *, for_s: float = 1.0, endless: bool = False, **habits: Any) -> list[Terminal]:
    """Ten minutes of device time in `for_s`, of all editions; every second truck has a blind zone."""
    now_utc_s = SYSTEM.realtime_ns() / 1e9
    clock = DeviceClock(asyncio.get_running_loop().time(), now_utc_s, SPAN_S, SPAN_S / for_s)
    start = int(clock.start_utc_s)
    end = None if endless else start + SPAN_S - 10
    terminals = []
    for number in range(count):
        troubles = (Trouble("blind", 100, 300),) if number % 2 else ()
        vehicle = Vehicle(
            f"1380000{number:04d}", f"浙F{number:05d}", JOURNEY, start, seed=number, troubles=troubles, end_utc_s=end
        )
        version = list(Version)[number % 3]
        terminals.append(Terminal(vehicle, clock, Habits(version=version, reply_timeout_s=1, **habits)))
    return terminals


def stored(source: Source) -> Counter[tuple[str, int]]:
    """How often each (device, device time) is in the store."""
    found: Counter[tuple[str, int]] = Counter()
    for record in source.records("position"):
        for fix in record.data.get("fixes", [record.data]):
            found[record.device, fix["time_utc_s"]] += 1
    return found


def measured(terminals: Sequence[Terminal]) -> set[tuple[str, int]]:
    return {(one.vehicle.identity, utc_s) for one in terminals for utc_s in one.truth.measured}


def acknowledged(terminals: Sequence[Terminal]) -> set[tuple[str, int]]:
    return {(one.vehicle.identity, utc_s) for one in terminals for utc_s in one.truth.acknowledged}


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_every_fix_is_in_the_store_once_and_acknowledged(tmp_path: Path, udp: bool) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "state", listen_udp="127.0.0.1:0") as source:
            terminals = fleet(loss_percent=2, damage_percent=2)
            async with asyncio.timeout(LIMIT_S):
                await run_fleet(terminals, source.address("udp" if udp else "tcp"), stop=asyncio.Event(), udp=udp)
            assert acknowledged(terminals) == measured(terminals)
            found = stored(source)
            assert set(found) == measured(terminals)
            assert set(found.values()) == {1}
            assert sum(one.counts.lost + one.counts.damaged for one in terminals) > 0
            assert any(record.data.get("backfill") for record in source.records("position"))

    drive(scenario)


def test_a_gateway_that_goes_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        terminals = fleet(for_s=1.5)
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            async with running(tmp_path / "state") as source:
                address = source.address()
                done = group.create_task(run_fleet(terminals, address, stop=stop, pause_longest_s=0.3))
                await source.until(lambda: len(acknowledged(terminals)) > 60)
            first_links = sum(one.counts.links for one in terminals)
            known = acknowledged(terminals)
            async with running(tmp_path / "state", epoch=2, listen=f"127.0.0.1:{address[1]}") as source:
                await done
                found = stored(source)
                assert known < set(found)
                assert set(found) == acknowledged(terminals) == measured(terminals)
                assert set(found.values()) == {1}
        assert sum(one.counts.links for one in terminals) > first_links

    drive(scenario)


def test_a_photo_lies_in_the_spool_when_it_is_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "state") as source:
            terminals = fleet(3)
            for one in terminals:
                one.shoot(asyncio.get_running_loop().time())
            async with asyncio.timeout(LIMIT_S):
                await run_fleet(terminals, source.address(), stop=asyncio.Event())
            for one in terminals:
                assert one.truth.photos_acknowledged == set(one.truth.photos)
                assert all(source.spool.path(sha256).is_file() for sha256 in one.truth.photos.values())

    drive(scenario)


ORDERS: list[tuple[str, dict[str, Any]]] = [
    ("locate", {}),
    ("track", {"interval_s": 5, "validity_s": 60}),
    ("text", {"text": "请减速慢行"}),
    ("shoot", {"channel": 1, "photos": 1}),
    ("set", {"parameters": {"speed_limit_kmh": 50}}),
    ("query", {"parameters": ["speed_limit_kmh"]}),
    ("query", {}),
    ("route", {"id": 5, "points": [{"lat_e7": lat, "lon_e7": lon, "width_m": 50} for lat, lon in WAY.points]}),
    ("route", {"id": 6, "points": [{"lat_e7": 307_000_000 + n, "lon_e7": 10, "width_m": 9} for n in range(99)]}),
]


def test_every_order_of_an_operator_is_carried_out_by_every_edition(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "state") as source:
            terminals, stop = fleet(3, endless=True), asyncio.Event()
            async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
                group.create_task(run_fleet(terminals, source.address(), stop=stop))
                await source.until(lambda: all(one.truth.acknowledged for one in terminals))
                for number, one in enumerate(terminals):
                    for action, parameters in ORDERS:
                        order = Order(
                            "trucks", one.vehicle.identity, action, parameters, "dispatcher", f"{number}{action}"
                        )
                        outcome = await source.runner.take(order, 1000 + number)
                        assert outcome.state == "done", (one.habits.version, action, outcome.detail)
                    assert one.texts[-1] == "请减速慢行"
                    assert one.parameters[0x0055] == (50).to_bytes(4, "big")
                    assert list(one.areas) == [0x8606]
                await source.until(lambda: all(one.truth.photos_acknowledged for one in terminals))
                stop.set()
            assert len(source.records("device.media")) == 3

    drive(scenario)


def test_stop_ends_all_links_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "state") as source:
            terminals, stop = fleet(20, endless=True), asyncio.Event()
            async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
                group.create_task(run_fleet(terminals, source.address(), stop=stop))
                await source.until(lambda: all(one.counts.answers for one in terminals))
                stop.set()

    drive(scenario)


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_where_nobody_listens_the_fleet_keeps_its_fixes_and_tries_on(udp: bool) -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as closed:
            closed.bind(("127.0.0.1", 0))
            address = closed.getsockname()
        terminals, stop = fleet(3, for_s=0.5), asyncio.Event()
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            group.create_task(run_fleet(terminals, address, stop=stop, udp=udp, pause_longest_s=0.05))
            while not all(one.truth.unacknowledged == 59 for one in terminals):
                await asyncio.sleep(0.01)
            stop.set()
        assert not acknowledged(terminals)

    drive(scenario)


def test_a_peer_that_sends_rubbish_and_closes_is_tried_again() -> None:
    async def scenario() -> None:
        calls = 0
        stop = asyncio.Event()

        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n~~~")
            writer.close()
            if calls == 5:
                stop.set()

        server = await asyncio.start_server(rude, "127.0.0.1", 0)
        async with asyncio.timeout(LIMIT_S), server:
            await run_fleet(fleet(1), server.sockets[0].getsockname()[:2], stop=stop, pause_longest_s=0.01)
        assert calls >= 5

    drive(scenario)
