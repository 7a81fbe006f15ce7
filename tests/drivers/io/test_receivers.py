"""Receivers on serial ports and behind addresses, over real ptys and sockets, to records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.io import receivers, receiving
from drivers.io.receiving import Backlog, BackOff
from drivers.nmea.drafts import TEXT_MAX
from gateway.core.errors import LinkError
from gateway.core.instant import Instant
from tests.drivers.io.receiver_rig import Plug, drive, free_port, rmc, running, serial_config, tcp_config
from tests.drivers.stack import ListSink

NOW = Instant("0" * 32, 1, 0, 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are tested by their own numbers."""
    monkeypatch.setattr(receiving, "BACK_OFF_MIN_S", 0.02)
    monkeypatch.setattr(receiving, "STORE_RETRY_S", 0.02)
    monkeypatch.setattr(receiving, "FLUSH_NETWORK_S", 0.1)


# --------------------------------------------------------------------------------------------- serial


def test_a_receiver_on_a_serial_port_becomes_positions(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            async with running(serial_config(plug.path)) as source:
                await source.counted("links")
                plug.send(*(rmc(n) for n in range(1, 4)))
                await source.positions(3)
                assert source.seconds() == [1, 2, 3]
                assert source.states() == ["online", "fix"]
                assert source.status.state == "ok"
                assert source.status.last_seen_utc_ns is not None
                assert source.ticks
                draft = source.sink.of("position")[0]
                assert (draft.source, draft.device, draft.raw) == ("gps-1", "receiver-1", rmc(1))
                assert draft.profile is not None
                assert draft.profile.id == "nmea"

    drive(scenario)


def test_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        plug = Plug(tmp_path)
        async with running(serial_config(plug.path)) as source:
            await source.state("down", "is not there: plug the device in")
            for _ in range(2):
                links = source.status.counters.get("links", 0)
                plug.plug()
                await source.counted("links", links + 1)
                plug.send(rmc(1), rmc(2))
                await source.state("ok")
                plug.unplug()
                await source.state("down", "is not there")
            assert source.status.counters["link_failures"] == 2
            assert source.states() == ["offline", *["online", "fix", "offline"] * 2]
            assert "has gone" in source.sink.data("device.state")[3]["reason"]

    drive(scenario)


def test_a_port_of_another_program_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            async with running(serial_config(plug.path)) as first:
                await first.counted("links")
                async with running(serial_config(plug.path)) as second:
                    await second.state("down", "is used by another program: find it with fuser -v")
                    plug.send(rmc(1), rmc(2))
                    await first.positions(1)
                    assert second.states() == ["offline"]
            async with running(serial_config(plug.path)) as third:
                await third.counted("links")

    drive(scenario)


def test_the_wrong_speed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.nmea.driver.UNREADABLE_NS", 0)

    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            async with running(serial_config(plug.path, baud=4800)) as source:
                await source.counted("links")
                plug.send(bytes([0x80, 0x00, 0xFE, 0x98]) * 300)
                await source.state("degraded", "no readable sentence in")
                assert "baud is 4800; usual are 4800, 9600, 38400, 115200" in source.status.reason
                await source.counted("gaps")
                assert source.sink.data("device.gap")[0]["reasons"] == {"noise": 1}

    drive(scenario)


def test_a_silent_line_is_down_and_opened_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            async with running(serial_config(plug.path, silent_s=1)) as source:
                await source.counted("links")
                plug.send(rmc(1))
                await source.state("down", "nothing received for 1 s")
                assert source.states() == ["online", "fix", "offline"]
                await source.counted("links", 2)
                plug.send(rmc(2))
                await source.positions(2)

    drive(scenario)


def test_nothing_is_lost_while_the_store_is_full_for_a_while(tmp_path: Path) -> None:
    sink = ListSink(full=5)

    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            async with running(serial_config(plug.path), sink) as source:
                await source.counted("links")
                plug.send(*(rmc(n) for n in range(1, 30)))
                await source.positions(29)
                assert source.seconds() == list(range(1, 30))
                assert not sink.full

    drive(scenario)


def test_what_a_serial_line_sends_into_a_full_store_is_dropped_oldest_first_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "Backlog", lambda: Backlog(2000))
    sink = ListSink(full=10**9)

    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            async with running(serial_config(plug.path), sink) as source:
                await source.counted("links")
                plug.send(rmc(0))
                await source.state("degraded", "the store is full, nothing is taken")
                sent = len(rmc(0))
                for n in range(1, 200):
                    plug.send(rmc(n))
                    sent += len(rmc(n))
                    await asyncio.sleep(0)
                sink.full = 0
                plug.send(rmc(200), rmc(201))
                sent += 2 * len(rmc(200))
                await source.until(lambda: 201 in source.seconds())
                counters = source.status.counters
                assert counters["bytes"] + counters["bytes_dropped"] == sent
                gaps = [data for data in sink.data("device.gap") if data["reason"] == "overflow"]
                assert sum(data["size_bytes"] for data in gaps) == counters["bytes_dropped"] > 0
                assert source.seconds()[0] == 0
                assert source.seconds()[1] > 1

    drive(scenario)


def test_an_unusable_profile_disables_the_source_and_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        for profile, reason in (("none-such", "none-such"), ("jt808", "this source needs nmea")):
            async with running(serial_config(tmp_path / "port", profile=profile)) as source:
                await source.state("disabled", reason)
                await source.until(lambda: source.states() == ["disabled"])
                assert len(source.sink.data("device.state")[0]["reason"]) <= TEXT_MAX

    drive(scenario)


# ------------------------------------------------------------------------------------------------ TCP

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve, port: int = 0) -> AsyncIterator[str]:
    """A receiver with an address; connections end with the block."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await serve(reader, writer)

    listening = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def test_a_receiver_behind_an_address_in_any_pieces() -> None:
    stream = b"".join(rmc(n) for n in range(1, 20))

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(stream), 7):
            writer.write(stream[at : at + 7])
            await writer.drain()

    async def scenario() -> None:
        async with server(serve) as address, running(tcp_config(address)) as source:
            await source.positions(19)
            assert source.seconds() == list(range(1, 20))
            assert source.sink.data("device.state")[0]["address"] == address

    drive(scenario)


def test_a_connection_that_ends_is_made_again() -> None:
    served = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        writer.write(rmc(served))
        await writer.drain()
        writer.close()

    async def scenario() -> None:
        async with server(serve) as address, running(tcp_config(address)) as source:
            await source.positions(3)
            assert source.seconds()[:3] == [1, 2, 3]
            assert source.status.counters["link_failures"] >= 2

    drive(scenario)


def test_an_address_where_nobody_is_yet() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(rmc(1))
        await writer.drain()

    async def scenario() -> None:
        port = free_port()
        async with running(tcp_config(f"127.0.0.1:{port}")) as source:
            await source.state("down", "check address and network")
            assert f"127.0.0.1:{port}" in source.status.reason
            async with server(serve, port):
                await source.positions(1)
            assert source.states()[:2] == ["offline", "online"]

    drive(scenario)


def test_a_half_open_connection_is_given_up() -> None:
    connections = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(rmc(connections))
        await writer.drain()

    async def scenario() -> None:
        async with server(serve) as address, running(tcp_config(address, silent_s=1)) as source:
            await source.positions(2)
            assert connections == 2
            reasons = [data["reason"] for data in source.sink.data("device.state") if data["state"] == "offline"]
            assert reasons[:1] == ["nothing received for 1 s"] or source.status.counters["silences"] == 1

    drive(scenario)


def test_a_full_store_holds_the_sender_back_and_nothing_is_lost() -> None:
    sink = ListSink(full=10**9)
    sent = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for n in range(400):
            writer.write(rmc(n) + b"x" * 50_000)
            sent = n + 1
            await writer.drain()

    async def scenario() -> None:
        nonlocal sent
        async with server(serve) as address, running(tcp_config(address, interval_s=1), sink) as source:
            await source.state("degraded", "the store is full")
            before = -1
            while before != sent:  # until the sender is stuck
                before = sent
                await asyncio.sleep(0.2)
            assert sent < 400
            sink.full = 0
            await source.counted("sentences", 400)
            assert source.status.counters["bytes"] > sent * 50_000
            assert "bytes_dropped" not in source.status.counters

    drive(scenario)


def test_a_time_source_tells_marks_and_others_do_not() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(rmc(n) for n in range(1, 5)))
        await writer.drain()

    async def scenario() -> None:
        async with server(serve) as address:
            async with running(tcp_config(address, time_source=True)) as source:
                await source.positions(4)
                assert [mark[:2] for mark in source.marked.marks[:2]] == [
                    ("gps-2", (1_773_576_000 + n) * 10**9) for n in (1, 2)
                ]
                assert {mark[3] for mark in source.marked.marks} == {receivers.LATE_NETWORK_NS}
            async with running(tcp_config(address)) as source:
                await source.positions(3)
                assert source.marked.marks == []

    drive(scenario)


@pytest.mark.parametrize("address", ["no-port", "127.0.0.1:99999999", "256.1.1.1:99999", "[::1:5"])
def test_an_address_that_is_none_is_told_and_tried_again(address: str) -> None:
    async def scenario() -> None:
        async with running(tcp_config(address)) as source:
            await source.state("down", address)

    drive(scenario)


# ---------------------------------------------------------------------------------------------- parts


def test_pauses_double_to_their_limit_and_differ() -> None:
    even = BackOff(lambda: 0.5, max_s=8)
    even._next_s = 1.0
    assert [even.next_s() for _ in range(5)] == [0.75, 1.5, 3.0, 6.0, 6.0]
    even.reset()
    assert even.next_s() == pytest.approx(receiving.BACK_OFF_MIN_S * 0.75)
    assert BackOff(lambda: 0.0).next_s() < BackOff(lambda: 0.99).next_s()


def test_a_backlog_drops_the_oldest_and_counts_by_sender() -> None:
    async def scenario() -> None:
        backlog = Backlog(100)
        for n in range(20):
            backlog.put(f"s{n % 2}", bytes([n]) * 10, NOW)
        assert backlog.dropped == {"s0": 50, "s1": 50}
        found = [await backlog.get(0.001) for _ in range(10)]
        assert [chunk[1][0] for chunk in found if chunk is not None] == list(range(10, 20))
        assert await backlog.get(0.001) is None

    drive(scenario)


def test_a_chunk_above_the_limit_is_kept_alone_and_senders_are_bounded() -> None:
    async def scenario() -> None:
        backlog = Backlog(10)
        for n in range(receiving.SENDERS_MAX + 50):
            backlog.put(f"s{n}", bytes(20), NOW)
        assert len(backlog.dropped) == receiving.SENDERS_MAX + 1
        assert sum(backlog.dropped.values()) == 20 * (receiving.SENDERS_MAX + 49)
        assert await backlog.get(0.001) is not None

    drive(scenario)


def test_bytes_one_by_one_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "BACKLOG_MAX_CHUNKS", 5)

    async def scenario() -> None:
        backlog = Backlog()
        for n in range(9):
            backlog.put("", bytes([n]), NOW)
        assert backlog.dropped == {"": 4}

    drive(scenario)


def test_an_ended_backlog_gives_what_it_has_first() -> None:
    async def scenario() -> None:
        backlog = Backlog()
        backlog.put("", b"last", NOW)
        backlog.end(LinkError("gone"))
        assert await backlog.get(10) == ("", b"last", NOW)
        assert await backlog.get(10) is None
        assert str(backlog.ended) == "gone"

    drive(scenario)


def test_a_reader_waits_for_room() -> None:
    async def scenario() -> None:
        backlog = Backlog(100)
        await backlog.room()
        backlog.put("", bytes(60), NOW)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await backlog.room()
        await backlog.get(0)
        await backlog.room()

    drive(scenario)
