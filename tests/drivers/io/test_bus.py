"""Modbus buses over real ptys and sockets, to records; pymodbus answers as an independent peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.io import bus as module
from drivers.io import receiving
from drivers.modbus.codec import TcpReader, parse_request, reply_pdu, rtu_frame, tcp_frame
from gateway.config_sources import ModbusDevice, ModbusSerialConfig
from gateway.core.ports import Order
from tests.drivers.io.bus_rig import Bus, bus, devices, healthy, profile, serial_config, tcp_config, wire, wrong
from tests.drivers.io.receiver_rig import Source, drive, free_port, running
from tests.drivers.modbus.line import Asked, replied, truth
from tests.drivers.stack import ListSink

WRITES = '[[write]]\nname = "pump"\nfunction = 6\naddress = 30\nmaximum = 3\n'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are tested by their own numbers."""
    monkeypatch.setattr(receiving, "BACK_OFF_MIN_S", 0.02)
    monkeypatch.setattr(receiving, "STORE_RETRY_S", 0.02)


def quickly(path: Path, folder: Path) -> ModbusSerialConfig:
    return serial_config(path, profile(folder), interval_s=0.01)


async def readings(source: Source, count: int) -> list[Any]:
    await source.until(lambda: len(source.sink.of("reading")) >= count)
    found = source.sink.of("reading")
    assert not wrong(found)
    return found


class Desk:
    """Port `Orders`, as far as a source needs it."""

    def __init__(self) -> None:
        self.taker: Any = None

    def serve(self, source: str, taker: Any) -> None:
        self.taker = taker


# ----------------------------------------------------------------------------------------- pymodbus


def peers(*units: int) -> list[SimDevice]:
    return [
        SimDevice(
            id=unit, simdata=[SimData(at, values=truth(unit, at), datatype=DataType.REGISTERS) for at in range(40)]
        )
        for unit in units
    ]


@asynccontextmanager
async def served(server: Any) -> AsyncIterator[None]:
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_pymodbus_over_tcp(tmp_path: Path, framing: str) -> None:
    async def scenario() -> None:
        port = free_port()
        framer = FramerType.SOCKET if framing == "tcp" else FramerType.RTU
        config = tcp_config(f"127.0.0.1:{port}", profile(tmp_path), 1, 2, framing=framing)
        async with running(config) as source:
            await source.state("down", "127.0.0.1")
            async with served(ModbusTcpServer(peers(1, 2), framer=framer, address=("127.0.0.1", port))):
                found = await readings(source, 8)
                assert {draft.device for draft in found} == {"device-1", "device-2"}
                assert source.status.state == "ok"
                assert source.status.last_seen_utc_ns is not None
                assert [(one["function"], one["count"]) for one in found[0].data["round"]] == [(3, 4)] * 3
                assert found[0].profile.id == "tested"
            await source.state("down")
            states = [(draft.device, draft.data["state"]) for draft in source.sink.of("device.state")]
            assert states[0] == ("", "offline")
            assert ("device-2", "online") in states
            assert states[-1][1] == "offline"

    drive(scenario)


def test_pymodbus_over_a_serial_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        with wire() as (ours, theirs):
            peer = served(ModbusSerialServer(peers(1, 2), port=theirs, baudrate=115_200))
            async with peer, running(serial_config(ours, profile(tmp_path), 1, 2)) as source:
                last = (await readings(source, 8))[-1]
                first, *_ = last.data["round"]
                assert int(first["received_mono_ns"]) > int(first["sent_mono_ns"])
                sizes = [one["request_bytes"] + one["response_bytes"] for one in last.data["round"]]
                assert sum(sizes) == len(last.raw)

    drive(scenario)


def test_pymodbus_refuses_what_it_does_not_have(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        few = [SimDevice(id=1, simdata=[SimData(0, values=[1] * 8, datatype=DataType.REGISTERS)])]
        peer = served(ModbusTcpServer(few, address=("127.0.0.1", port)))
        async with peer, running(tcp_config(f"127.0.0.1:{port}", profile(tmp_path))) as source:
            await source.state("degraded", "give no readings")
            await source.until(lambda: "exception" in source.states())
            state = source.sink.data("device.state")[-1]
            assert "illegal data address (2) for function 3 address 10 count 4" in state["reason"]
            assert not source.sink.of("reading")

    drive(scenario)


def test_an_order_reaches_pymodbus(tmp_path: Path) -> None:
    async def scenario() -> None:
        port, desk = free_port(), Desk()
        [device] = peers(1)
        async with served(ModbusTcpServer([device], address=("127.0.0.1", port))):
            config = tcp_config(f"127.0.0.1:{port}", profile(tmp_path, more=WRITES))
            async with running(config, orders=desk) as source:
                await readings(source, 1)
                order = Order("bus-2", "device-1", "write", {"name": "pump", "value": 2}, "tester", "k1")
                outcome = await desk.taker.take(order, 7)
                assert (outcome.state, outcome.seq) == ("done", 7)
                assert outcome.result["request_hex"].endswith("0106001e0002")
                too_high = Order("bus-2", "device-1", "write", {"name": "pump", "value": 9}, "tester", "k2")
                assert (await desk.taker.take(too_high, 8)).state == "refused"
        assert desk.taker is None

    drive(scenario)


# ------------------------------------------------------------------------------------------- serial


def test_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        line = Bus(tmp_path)
        async with running(serial_config(line.path, profile(tmp_path))) as source:
            await source.state("down", "is not there: plug the device in")
            for turn in range(1, 3):
                count = len(source.sink.of("reading"))
                line.connect()
                await readings(source, count + 2)
                line.disconnect()
                await source.state("down")
                assert source.status.counters["links"] == turn
        states = [(draft.device, draft.data["state"]) for draft in source.sink.of("device.state")]
        assert states.count(("device-1", "online")) == 2
        assert states[-1] == ("device-1", "offline")

    drive(scenario)


def test_a_full_store_stops_the_bus_and_loses_nothing(tmp_path: Path) -> None:
    sink = ListSink()

    async def scenario() -> None:
        async with bus(tmp_path) as line, running(serial_config(line.path, profile(tmp_path)), sink) as source:
            await readings(source, 2)
            sink.full = 10
            await source.state("degraded", "the store is full, nothing is asked")
            await source.until(lambda: not sink.full)
            await source.state("ok")
            found = await readings(source, 6)
            sent = [int(draft.data["round"][0]["sent_mono_ns"]) for draft in found]
            assert sent == sorted(sent)
            assert source.status.counters["readings"] >= len(found)

    drive(scenario)


def test_a_slow_store_holds_the_bus_and_not_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 3)
    gate = asyncio.Event()

    class SlowSink(ListSink):
        async def append(self, drafts: Any, state: Any = ()) -> int:
            if self.of("reading"):
                await gate.wait()
            return await super().append(drafts, state)

    async def scenario() -> None:
        async with bus(tmp_path) as line, running(quickly(line.path, tmp_path), SlowSink()) as source:
            await source.counted("readings", 4)
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert source.status.counters["readings"] <= 12
            gate.set()
            await readings(source, 20)

    drive(scenario)


def test_a_babbling_line_is_closed_and_the_loop_lives_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bus(tmp_path) as line, running(serial_config(line.path, profile(tmp_path))) as source:
            await readings(source, 1)

            def babble(asked: Asked) -> Sequence[tuple[float, bytes]]:
                return [(0.0, b"\x55" * 3000)] * 10

            line.script = babble
            await source.state("down", "bytes that nobody asked for: check baud and parity")
            line.script = healthy
            await readings(source, len(source.sink.of("reading")) + 2)
            assert source.status.counters["link_failures"] >= 1

    drive(scenario)


def test_a_profile_that_is_wrong_disables_its_device_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        [good] = devices(profile(tmp_path), 1)
        bad = ModbusDevice(unit=9, profile="no-such", device="device-9")
        async with bus(tmp_path) as line:
            config = ModbusSerialConfig(name="bus-1", port=str(line.path), baud=115_200, devices=[good, bad])
            async with running(config) as source:
                await readings(source, 1)
                await source.state("degraded", "disabled: device-9: no-such: no such profile")
                states = {draft.device: draft.data["state"] for draft in source.sink.of("device.state")}
                assert states["device-9"] == "disabled"
            config = ModbusSerialConfig(name="bus-1", port=str(line.path), devices=[bad])
            async with running(config) as source:
                await source.state("disabled", "no such profile")
                assert [data["state"] for data in source.sink.data("device.state")] == ["disabled"]

    drive(scenario)


def test_an_order_is_given_up_when_nobody_waits_and_when_the_source_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk()
        order = Order("bus-1", "device-1", "write", {"name": "pump", "value": 2}, "tester", "k1")

        def deaf(asked: Asked) -> Sequence[tuple[float, bytes]]:
            return () if asked.request.function == 6 else healthy(asked)

        async with bus(tmp_path, deaf) as line:
            config = serial_config(line.path, profile(tmp_path, more=WRITES))
            async with running(config, orders=desk) as source:
                await readings(source, 1)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await desk.taker.take(order, 7)
                await readings(source, len(source.sink.of("reading")) + 2)
                outcome = await desk.taker.take(order, 8)
                assert outcome.state == "timeout"
                assert "may have done it all the same" in outcome.detail

    drive(scenario)


# ---------------------------------------------------------------------------------------------- TCP


def test_a_late_tcp_answer_is_dropped(tmp_path: Path) -> None:
    """The second of three answers comes when the next question is open."""

    async def scenario() -> None:
        seen = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            frames, held = TcpReader(), b""
            while chunk := await reader.read(4096):
                for adu in frames.feed(chunk):
                    seen += 1
                    request = parse_request(adu.pdu)
                    assert request is not None
                    answer = tcp_frame(adu.transaction, adu.unit, replied(adu.unit, request))
                    if seen in {2, 9}:
                        held = answer
                    else:
                        writer.write(held + answer)
                        held = b""
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with running(tcp_config(f"127.0.0.1:{port}", profile(tmp_path))) as source:
            await source.counted("late_dropped", 2)
            await readings(source, 5)
        server.close()

    drive(scenario)


def test_something_else_behind_the_address_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read(10)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with running(tcp_config(f"127.0.0.1:{port}", profile(tmp_path))) as source:
            await source.state("down", "is not of Modbus TCP; check address and framing")
        server.close()

    drive(scenario)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:502", "[::1]:1"])
def test_an_address_where_nobody_is(tmp_path: Path, address: str) -> None:
    async def scenario() -> None:
        async with running(tcp_config(address, profile(tmp_path))) as source:
            await source.state("down", "check address and network")

    drive(scenario)


def test_the_rig_answers_like_pymodbus() -> None:
    """What tests call the truth is what the peer serves."""
    request = parse_request(bytes.fromhex("0300000002"))
    assert request is not None
    assert rtu_frame(1, replied(1, request)) == rtu_frame(1, reply_pdu(request, (truth(1, 0), truth(1, 1))))
