"""Receivers that call in: several at once, strangers, doubles, floods, over real TCP and UDP on loopback addresses."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from drivers.io import callers, receiving
from drivers.io.callers import _plain, _Strangers
from tests.drivers.io.receiver_rig import Source, drive, listen_config, rmc, running
from tests.drivers.stack import ListSink

BOTH = {"listen": "127.0.0.1:0", "listen_udp": "127.0.0.1:0"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "BACK_OFF_MIN_S", 0.02)
    monkeypatch.setattr(receiving, "STORE_RETRY_S", 0.02)
    monkeypatch.setattr(receiving, "FLUSH_NETWORK_S", 0.1)
    monkeypatch.setattr(callers, "LOOK_S", 0.02)


@asynccontextmanager
async def listening(sink: ListSink | None = None, **more: Any) -> AsyncIterator[tuple[Source, int, int]]:
    """A source that listens, its TCP port and its UDP port (0: none)."""
    async with running(listen_config(**{**BOTH, **more}), sink) as source:
        await source.state("ok", "listens on")
        ports = dict(re.findall(r"(tcp|udp) \S+:(\d+)", source.status.reason))
        yield source, int(ports.get("tcp", 0)), int(ports.get("udp", 0))


@asynccontextmanager
async def connection(port: int, address: str = "127.0.0.1") -> AsyncIterator[asyncio.StreamWriter]:
    _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        yield writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def datagram(port: int, content: bytes, address: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((address, 0))
        sender.sendto(content, ("127.0.0.1", port))


def devices(source: Source) -> set[str]:
    return {draft.device for draft in source.sink.of("position")}


def test_several_receivers_each_with_its_own_epochs() -> None:
    async def scenario() -> None:
        peers = {"127.0.0.2": "truck-2", "127.0.0.3": "truck-3"}
        async with (
            listening(peers=peers) as (source, tcp, _),
            connection(tcp, "127.0.0.2") as two,
            connection(tcp, "127.0.0.3") as three,
        ):
            for n in range(1, 5):
                two.write(rmc(n))
                three.write(rmc(100 + n))
            await source.positions(6)
            by_device = {
                device: [d.data["time_utc_s"] % 1000 for d in source.sink.of("position") if d.device == device][:3]
                for device in peers.values()
            }
            assert by_device == {"truck-2": [1, 2, 3], "truck-3": [101, 102, 103]}
            assert source.status.counters["receivers_online"] == 2
            assert source.status.state == "ok"

    drive(scenario)


def test_datagrams_of_several_receivers() -> None:
    async def scenario() -> None:
        async with listening(peers={"127.0.0.2": "truck-2", "127.0.0.3": "truck-3"}) as (source, _, udp):
            for n in range(1, 4):
                datagram(udp, rmc(n).rstrip(), "127.0.0.2")
                datagram(udp, rmc(100 + n), "127.0.0.3")
            await source.positions(6)
            assert devices(source) == {"truck-2", "truck-3"}
            online = [data for data in source.sink.data("device.state") if data["state"] == "online"]
            assert {data["address"] for data in online} == {"udp 127.0.0.2", "udp 127.0.0.3"}

    drive(scenario)


def test_without_peers_the_address_is_the_device() -> None:
    async def scenario() -> None:
        async with listening() as (source, tcp, udp), connection(tcp, "127.0.0.4") as writer:
            writer.write(rmc(1) + rmc(2))
            datagram(udp, rmc(3), "127.0.0.5")
            await source.until(lambda: devices(source) == {"127.0.0.4", "127.0.0.5"})

    drive(scenario)


def test_strangers_are_refused_counted_and_recorded_once() -> None:
    async def scenario() -> None:
        async with listening(peers={"127.0.0.2": "truck-2"}) as (source, tcp, udp):
            for _ in range(5):
                async with connection(tcp, "127.0.0.9"):
                    pass
            datagram(udp, rmc(1), "127.0.0.8")
            datagram(udp, rmc(1), "127.0.0.2")
            await source.counted("refused", 6)
            await source.positions(1)
            await source.until(lambda: "refused" in source.states())
            rows = [data for data in source.sink.data("device.state") if data["state"] == "refused"]
            assert len(rows) == 1
            assert rows[0]["senders"][0]["reason"] == "unknown address"
            assert devices(source) == {"truck-2"}

    drive(scenario)


def test_one_connection_per_device_and_a_quiet_one_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with listening() as (source, tcp, _), connection(tcp) as first:
            first.write(rmc(1))
            await source.counted("sentences")
            async with connection(tcp):
                await source.counted("refused")
            first.write(rmc(2))
            await source.positions(1)
            assert source.status.counters["links"] == 1
            monkeypatch.setattr(callers, "QUIET_NS", 0)
            async with connection(tcp) as second:
                await source.counted("links", 2)
                second.write(rmc(50) + rmc(51))
                await source.until(lambda: 50 in source.seconds())
            reasons = [data["reason"] for data in source.sink.data("device.state") if data["state"] == "offline"]
            assert reasons[0] == "the device has opened another connection"

    drive(scenario)


def test_there_is_room_for_so_many_and_no_more() -> None:
    async def scenario() -> None:
        async with (
            listening(connections_max=2) as (source, tcp, udp),
            connection(tcp, "127.0.0.2") as two,
            connection(tcp, "127.0.0.3"),
        ):
            await source.counted("links", 2)
            async with connection(tcp, "127.0.0.4"):
                await source.counted("refused")
            datagram(udp, rmc(1), "127.0.0.5")
            await source.counted("refused", 2)
            two.write(rmc(1) + rmc(2))
            await source.positions(1)
        async with listening(connections_max=2, listen="") as (source, _, udp):
            for n in range(2, 40):
                datagram(udp, b"hello", f"127.0.0.{n}")
            await source.counted("refused", 36)
            assert source.sink.of("position") == []

    drive(scenario)


def test_a_sender_of_rubbish_makes_room_for_a_receiver() -> None:
    async def scenario() -> None:
        async with listening(connections_max=1, listen="", silent_s=1) as (source, _, udp):
            datagram(udp, b"hello", "127.0.0.2")
            await source.counted("silences")
            datagram(udp, rmc(1), "127.0.0.3")
            await source.positions(1)
            assert devices(source) == {"127.0.0.3"}

    drive(scenario)


def test_a_probe_and_a_silent_connection_are_closed_and_others_go_on() -> None:
    async def scenario() -> None:
        async with (
            listening(silent_s=1) as (source, tcp, _),
            connection(tcp, "127.0.0.2") as probe,
            connection(tcp, "127.0.0.3"),
            connection(tcp, "127.0.0.4") as good,
        ):
            probe.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            for n in range(1, 200):
                good.write(rmc(n))
                await asyncio.sleep(0.01)
                if source.status.counters.get("link_failures", 0) == 2:
                    break
            await source.counted("link_failures", 2)
            await source.positions(10)
            assert devices(source) == {"127.0.0.4"}
            assert {draft.device for draft in source.sink.of("device.state")} == {"127.0.0.4"}

    drive(scenario)


def test_a_full_store_holds_connections_and_drops_datagrams_with_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "Backlog", lambda size=3000: receiving.Backlog(size))
    sink = ListSink(full=10**9)

    async def scenario() -> None:
        async with listening(sink) as (source, tcp, udp), connection(tcp, "127.0.0.2") as writer:
            datagram(udp, rmc(0), "127.0.0.3")
            await source.state("degraded", "the store is full")
            sent = len(rmc(0))
            for n in range(1, 200):
                datagram(udp, rmc(n), "127.0.0.3")
                sent += len(rmc(n))
                writer.write(rmc(1000 + n))
                await asyncio.sleep(0)
            sink.full = 0
            await source.until(lambda: 1198 in source.seconds() and 199 in source.seconds())
            counters = source.status.counters
            assert [n for n in source.seconds() if n > 1000][:198] == list(range(1001, 1199))
            gaps = [draft for draft in sink.of("device.gap") if draft.data["reason"] == "overflow"]
            assert {draft.device for draft in gaps} == {"127.0.0.3"}
            assert sum(draft.data["size_bytes"] for draft in gaps) == counters["bytes_dropped"] > 0
            stored = sum(len(rmc(n)) for n in source.seconds() if n < 1000)
            assert stored + counters["bytes_dropped"] == sent

    drive(scenario)


def test_an_address_that_is_taken_is_tried_until_it_is_free() -> None:
    async def scenario() -> None:
        taken = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        address = f"127.0.0.1:{taken.sockets[0].getsockname()[1]}"
        async with running(listen_config(listen=address)) as source:
            await source.state("down", "cannot listen")
            await source.until(lambda: source.states() == ["offline"])
            taken.close()
            await taken.wait_closed()
            await source.state("ok", address)

    drive(scenario)


def test_ipv6_and_its_ipv4_clothes() -> None:
    assert _plain("::ffff:10.0.0.7") == "10.0.0.7"
    assert _plain("fe80::1%eth0") == "fe80::1"
    assert _plain("0:0::1") == "::1"
    assert _plain("odd") == "odd"

    async def scenario() -> None:
        async with listening(listen="[::1]:0", listen_udp="", peers={"0:0::1": "truck-1"}) as (source, tcp, _):
            _, writer = await asyncio.open_connection("::1", tcp)
            writer.write(rmc(1) + rmc(2))
            await source.positions(1)
            writer.transport.abort()
            assert devices(source) == {"truck-1"}

    drive(scenario)


def test_strangers_are_told_at_once_then_at_a_falling_rate_and_are_bounded() -> None:
    strangers = _Strangers()
    told: list[int] = []
    total = 0
    for second in range(7200):
        strangers.add(f"10.0.{second // 256}.{second % 256}", "unknown address")
        rows = strangers.take(second * 10**9)
        if rows:
            told.append(second)
            total += sum(row["count"] for row in rows)
            assert len(rows) <= callers.STRANGERS_MAX + 1
    assert told[:4] == [0, 60, 180, 420]
    assert len(told) <= 8
    assert total + sum(strangers.counts.values()) == 7200
