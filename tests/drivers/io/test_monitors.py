"""HJ 212 sources on real sockets, ptys and the real store: what is answered is on disk, one bad monitor is alone."""

import asyncio
import os
import socket

import pytest

from drivers.hj212.codec import Decoder, Frame, parse_frame
from gateway.core.ports import Order
from tests.drivers.hj212.talk import DEVICES, MN, STRANGER, devices_file
from tests.drivers.hj212.test_sealed import KEY
from tests.drivers.io.monitor_rig import Device, running
from tests.drivers.io.receiver_rig import Plug
from tests.drivers.io.terminals import drive


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_readings_are_in_the_store_when_they_are_answered(tmp_path, loop):
    async def scenario():
        async with running(tmp_path / "state", devices_file=devices_file(tmp_path)) as source:
            device = await Device().connect(source.address())
            for number in range(20):
                frame = device.fume(f"0.{number:02d}")
                answer = await device.answered(frame)
                assert (answer.cn, answer.st, answer.flag) == ("9014", "91", 4)
                records = source.records("reading")
                assert len(records) == number + 1
                assert records[-1].raw == frame[:-2]
            device.close()
            await source.until(lambda: len(source.records("device.state")) == 2)
            assert [record.data["state"] for record in source.records("device.state")] == ["online", "offline"]
            assert source.status.state == "ok"

    drive(scenario, loop)


def test_nothing_is_answered_while_the_commit_has_not_returned(tmp_path):
    async def scenario():
        async with running(tmp_path / "state", devices_file=devices_file(tmp_path)) as source:
            device = await Device().connect(source.address())
            source.gate.open.clear()
            source.gate.waiting.clear()
            frame = device.fume("0.77")
            device.write(frame)
            await source.gate.waiting.wait()
            beat = await device.answered(device.frame("9015", ""))  # stores nothing, so its answer may come first
            assert beat.cn == "9013"
            assert source.records("reading") == []
            source.gate.open.set()
            assert (await device.message()).qn == frame[9:26].decode()

    drive(scenario)


def test_a_restart_stores_nothing_twice_and_forgets_no_part(tmp_path):
    async def scenario():
        devices = devices_file(tmp_path)
        first = Device()
        whole = first.fume("0.77")
        one = first.frame("2061", "DataTime=20261118120000;a34041-Avg=1", flag=7, pnum=2, pno=1)
        two = first.frame("2061", "DataTime=20261118120000;SB7-RS=1", flag=7, pnum=2, pno=2)
        async with running(tmp_path / "state", devices_file=devices) as source:
            await first.connect(source.address())
            await first.answered(whole)
            await first.answered(one)
        async with running(tmp_path / "state", epoch=2, devices_file=devices) as source:
            again = await Device().connect(source.address())
            await again.answered(whole)
            await again.answered(one)
            await again.answered(two)
            readings = source.records("reading")
            assert [record.data["message"] for record in readings] == ["2011", "2061"]
            assert readings[1].raw == (one + two).replace(b"\r\n", b"")
            await source.until(lambda: source.status.counters.get("repeated") == 2)

    drive(scenario)


def test_a_full_store_holds_all_back_and_nothing_answered_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("drivers.io.monitors.STORE_RETRY_S", 0.05)

    async def scenario():
        async with running(tmp_path / "state", devices_file=devices_file(tmp_path), idle_s=10) as source:
            device = await Device().connect(source.address())
            await device.answered(device.fume("0.1"))
            source.gate.full = True
            frames = [device.fume(f"1.{number}") for number in range(200)]
            device.write(frames[0])
            await source.until(lambda: source.status.state == "degraded")
            assert "store is full" in source.status.reason
            device.write(b"".join(frames[1:]))
            tries = source.gate.refused
            await source.until(lambda: source.gate.refused >= tries + 3)
            assert len(source.records("reading")) == 1
            source.gate.full = False
            assert [(await device.message()).qn for _ in frames] == [frame[9:26].decode() for frame in frames]
            assert len(source.records("reading")) == 201
            await source.until(lambda: source.status.state == "ok")

    drive(scenario)


def test_bad_neighbours_cost_nobody_else(tmp_path):
    """Garbage, half frames, slow senders and a flood of connections, beside a monitor that works."""

    async def scenario():
        more = {"devices_file": devices_file(tmp_path), "connections_per_address_max": 30}
        async with running(tmp_path / "state", **more) as source:
            good = await Device().connect(source.address())
            await good.answered(good.fume("0.1"))
            loud = await Device().connect(source.address())
            loud.write(os.urandom(200_000))
            await loud.closed()
            half = await Device().connect(source.address())
            half.write(half.fume("9.9")[:60])
            crowd = [socket.create_connection(source.address()) for _ in range(100)]
            for one in crowd:
                one.send(b"##")
            await source.until(lambda: source.status.counters.get("connections_refused", 0) >= 70)
            for number in range(50):
                await good.answered(good.fume(f"0.{number}"))
            assert len(source.records("reading")) == 51
            await source.until(lambda: source.status.counters.get("gaps", 0) > 0)
            assert len(source.records("device.gap")) <= 3
            for one in crowd:
                one.close()

    drive(scenario)


def test_an_unknown_mn_is_in_quarantine(tmp_path):
    async def scenario():
        async with running(tmp_path / "state", devices_file=devices_file(tmp_path)) as source:
            device = await Device(STRANGER).connect(source.address())
            await device.answered(device.fume("0.1"))
            (record,) = source.records("reading")
            assert (record.device, record.data["flags"], record.data["class"]) == (STRANGER, "unlisted", "unlisted")
            assert [one.data["state"] for one in source.records("device.state")] == ["refused"]

    drive(scenario)


def test_orders_reach_the_monitor_and_come_back(tmp_path):
    async def scenario():
        async with running(tmp_path / "state", devices_file=devices_file(tmp_path)) as source:
            device = await Device().connect(source.address())
            await device.answered(device.fume("0.1"))
            order = Order("fume", MN, "time", {}, "dispatcher", "key-1")
            submit = asyncio.ensure_future(source.desk.submit(order))  # noqa: TID251
            asked = await device.message()
            assert (asked.cn, asked.flag) == ("1011", 5)
            for cn, cp in (("9011", "QnRtn=1"), ("1011", "SystemTime=20261118120001"), ("9012", "ExeRtn=1")):
                device.write(device.frame(cn, cp, qn=asked.qn, flag=4, st="91"))
            outcome = await submit
            assert outcome.state == "done"
            assert outcome.result["answer"] == [{"name": "SystemTime", "text": "20261118120001"}]
            (action,) = source.records("operator.action")
            (reply,) = source.records("device.reply")
            assert reply.data["order"] == action.seq
            assert [record.data["message"] for record in source.records("device.message")] == ["9011", "1011", "9012"]
            unknown = await source.desk.submit(Order("fume", "NOBODY", "time", {}, "dispatcher", "key-2"))
            assert unknown.state == "unknown"

    drive(scenario)


def test_devices_and_keys_may_change_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("drivers.io.monitors.FILES_EVERY_S", 0.05)
    monkeypatch.setattr("drivers.io.monitors.TICK_S", 0.05)
    keys = tmp_path / "keys.toml"
    keys.write_text('format = "hj212-keys/v1"\n')

    async def scenario():
        devices = devices_file(tmp_path)
        async with running(tmp_path / "state", devices_file=devices, keys_file=str(keys)) as source:
            device = await Device(STRANGER, flag=9).connect(source.address())
            await device.answered(device.fume("0.1"))
            devices_file(tmp_path, f'{DEVICES}[[device]]\nid = "{STRANGER}"\nclass = "fume-monitor"\n')
            await source.until(lambda: len(source.records("device.state")) == 2)
            keys.write_text(f'format = "hj212-keys/v1"\n[[key]]\nmn = "{STRANGER}"\nkey = "{KEY.decode()}"\n')
            runner = source.desk._takers["fume"]
            await source.until(lambda: bool(runner._keys.current))
            await device.answered(device.fume("0.2"))
            assert [record.data.get("flags") for record in source.records("reading")] == ["unlisted", None]
            keys.write_text("format = 1")
            await source.until(lambda: source.status.state == "degraded")
            assert "keys.toml" in source.status.reason

    drive(scenario)


def test_a_mistake_in_the_devices_file_disables_this_source_until_it_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr("drivers.io.monitors.TICK_S", 0.05)
    path = tmp_path / "devices.toml"
    path.write_text("format = 1")

    async def scenario():
        async with running(tmp_path / "state", devices_file=str(path)) as source:
            assert source.status.state == "down"
            assert str(path) in source.status.reason
            devices_file(tmp_path)
            await source.until(lambda: bool(source.status.addresses))
            device = await Device().connect(source.address())
            await device.answered(device.fume("0.1"))

    drive(scenario)


# ---------------------------------------------------------------- serial


class Line:
    """A monitor at the other end of a pty."""

    def __init__(self, plug: Plug) -> None:
        self.plug = plug
        self.decoder = Decoder()

    async def answer(self):
        found: list[Frame] = []
        async with asyncio.timeout(20):
            while not found:
                await asyncio.sleep(0.01)
                try:
                    content = os.read(self.plug.master or -1, 4096)
                except BlockingIOError:
                    continue
                found = [one for one in self.decoder.feed(content) if isinstance(one, Frame)]
        return parse_frame(found[0])


def test_a_monitor_on_a_serial_line_is_answered_and_may_be_unplugged(tmp_path, monkeypatch):
    monkeypatch.setattr("drivers.io.line.RETRY_S", 0.2)
    monkeypatch.setattr("drivers.io.line.PAUSE_S", 0.05)
    monkeypatch.setattr("drivers.io.monitors.TICK_S", 0.05)

    async def scenario():
        with Plug(tmp_path) as plug:
            devices = devices_file(tmp_path)
            async with running(tmp_path / "state", str(plug.path), devices_file=devices, baud=115_200) as source:
                device, line = Device(), Line(plug)
                for number in range(5):
                    frame = device.fume(f"0.{number}")
                    plug.send(b"\x00\xff" + frame[:40], frame[40:])
                    answer = await line.answer()
                    assert (answer.cn, answer.qn) == ("9014", frame[9:26].decode())
                assert len(source.records("reading")) == 5
                plug.unplug()
                await source.until(lambda: source.status.state == "down")
                assert "is not there" in source.status.reason or "has gone" in source.status.reason
                plug.plug()
                await source.until(lambda: source.status.state == "ok")
                line.decoder = Decoder()
                plug.send(device.fume("0.9"))
                await line.answer()
                states = [record.data["state"] for record in source.records("device.state")]
                assert states[0] == "online"
                assert states[-1] == "online"
                assert "offline" in states

    drive(scenario)


def test_a_port_that_is_not_there_yet_is_waited_for(tmp_path):
    async def scenario():
        plug = Plug(tmp_path)
        async with running(tmp_path / "state", str(plug.path), devices_file=devices_file(tmp_path)) as source:
            assert source.status.state == "down"
            assert "is not there: plug the device in" in source.status.reason
            with plug:
                await source.until(lambda: source.status.state == "ok")
                plug.send(Device().fume("0.1"))
                await Line(plug).answer()
            states = [record.data["state"] for record in source.records("device.state")]
            assert states[:2] == ["offline", "online"]

    drive(scenario)


def test_a_serial_line_is_read_on_while_the_store_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("drivers.io.monitors.STORE_RETRY_S", 0.05)

    async def scenario():
        with Plug(tmp_path) as plug:
            devices = devices_file(tmp_path)
            async with running(tmp_path / "state", str(plug.path), devices_file=devices) as source:
                device, line = Device(), Line(plug)
                source.gate.full = True
                plug.send(device.fume("0.1"))
                await source.until(lambda: source.status.state == "degraded")
                for number in range(20):
                    plug.send(device.fume(f"0.{number}"))
                await source.until(lambda: source.gate.refused > 5)
                assert source.records("reading") == []
                source.gate.full = False
                await line.answer()
                await source.until(lambda: len(source.records("reading")) == 21)

    drive(scenario)
