"""A jt808 source on real sockets and the real store: what is acknowledged is on disk, and one bad terminal is alone."""

import asyncio
import base64
import os

import pytest

from drivers.jt808.codec import (
    Authentication,
    Heartbeat,
    LocationAnswer,
    LocationBatch,
    LogOff,
    Media,
    MediaEvent,
    MediaReply,
    QueryLocation,
    Registration,
    ResendRequest,
    Text,
    Version,
    encode,
    parse,
)
from gateway.core.ports import Order
from gateway.core.record import parse_leaf
from tests.drivers.io.terminals import Device, drive, running, udp_socket
from tests.drivers.jt808.talk import DEVICES, devices_file, location

PHOTO = b"\xff\xd8" + os.urandom(20_000) + b"\xff\xd9"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("version", list(Version))
def test_positions_are_in_the_store_when_they_are_acknowledged(tmp_path, version, loop):
    async def scenario():
        async with running(tmp_path / "state") as source:
            device = await (await Device("13800000001", version).connect(source.address())).login()
            for number in range(20):
                (serial,) = device.write(location(number))
                assert await device.results(1) == [(serial, 0)]
                assert len(source.records("position")) == number + 1
            device.write(LogOff())
            await device.results(1)
            device.close()
            states = [record.data["state"] for record in source.records("device.state")]
            assert states == ["registered", "online", "offline"]
            assert source.status.state == "ok"

    drive(scenario, loop)


def test_the_raw_frame_is_what_was_sent(tmp_path):
    async def scenario():
        async with running(tmp_path / "state") as source:
            device = await (await Device("13800000001").connect(source.address())).login()
            (frame,) = encode(location(7), device.address, device.serial)
            device.write(location(7))
            await device.results(1)
            (record,) = source.records("position")
            assert record.raw == frame
            assert base64.b64encode(frame) in source.queries.leaf(record.seq)

    drive(scenario)


def test_nothing_is_acknowledged_while_the_commit_has_not_returned(tmp_path):
    async def scenario():
        async with running(tmp_path / "state") as source:
            device = await (await Device("13800000001").connect(source.address())).login()
            source.gate.open.clear()
            source.gate.waiting.clear()
            (serial,) = device.write(location())
            await source.gate.waiting.wait()
            device.write(Heartbeat())  # stores nothing, so its answer may come first
            heartbeat = await device.message()
            assert heartbeat.reply_id == Heartbeat.MSG_ID
            assert source.records("position") == []
            source.gate.open.set()
            assert await device.results(1) == [(serial, 0)]

    drive(scenario)


def test_a_full_store_holds_all_terminals_back_and_nothing_acknowledged_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("drivers.io.trackers.STORE_RETRY_S", 0.05)

    async def scenario():
        async with running(tmp_path / "state", idle_s=10) as source:
            devices = [await (await Device(f"1380000000{n}").connect(source.address())).login() for n in range(3)]
            source.gate.full = True
            for device in devices:
                device.write(location(1))
            await source.until(lambda: source.status.state == "degraded")
            assert "store is full" in source.status.reason
            late = await Device("13800000009").connect(source.address())
            late.write(Registration(1, 1, Text(b""), Text(b""), Text(b""), 2, Text(b"")))
            for number in range(2, 200):
                for device in devices:
                    device.write(location(number))
            tries = source.gate.refused
            await source.until(lambda: source.gate.refused >= tries + 3)
            assert source.records("position") == []
            assert all(not device.inbox for device in devices)
            source.gate.full = False
            for device in devices:
                assert [result for _, result in await device.results(199)] == [0] * 199
            assert await late.message()
            assert len(source.records("position")) == 597
            await source.until(lambda: source.status.state == "ok")
            offline = [record for record in source.records("device.state") if record.data["state"] == "offline"]
            assert offline == []

    drive(scenario)


def test_a_photo_is_in_the_spool_before_8800(tmp_path):
    async def scenario():
        async with running(tmp_path / "state") as source:
            device = await (await Device("13800000001").connect(source.address())).login()
            media = Media(MediaEvent(5, 0, 0, 0, 1), location(items=()), PHOTO)
            device.write(media, part_bytes=800)
            assert await device.message() == MediaReply(5)
            (record,) = source.records("device.media")
            (file,) = record.artifacts
            assert source.spool.path(file.sha256).read_bytes() == PHOTO
            device.write(media, part_bytes=800)
            assert await device.message() == MediaReply(5)
            assert len(source.records("device.media")) == 1

    drive(scenario)


def test_codes_enrolments_and_repeats_outlive_a_restart(tmp_path):
    async def scenario():
        async with running(tmp_path / "state") as source:
            device = await (await Device("13800000001").connect(source.address())).login()
            (frame,) = encode(location(3), device.address, device.serial)
            device.write(location(3))
            await device.results(1)
        async with running(tmp_path / "state", epoch=2) as source:
            again = await (await Device("13800000001").connect(source.address())).login(device.code)
            again.writer.write(frame)
            assert await again.results(1) == [(2, 0)]
            assert len(source.records("position")) == 1
            states = [(record.data["state"], record.data["reason"]) for record in source.records("device.state")]
            assert states[:3] == [("registered", "registered"), ("online", "authenticated"), ("offline", "shutdown")]

    drive(scenario)


def test_backfill_and_live_fixes_of_many_terminals(tmp_path):
    async def one(address, number):
        device = await (await Device(f"139{number:08}").connect(address)).login()
        device.write(LocationBatch.of([location(-n) for n in range(30)], kind=1))
        for second in range(10):
            device.write(location(second))
        results = await device.results(12)
        device.close()
        return results

    async def scenario():
        async with running(tmp_path / "state") as source:
            found = await asyncio.gather(*(one(source.address(), number) for number in range(50)))
            assert all(result == 0 for results in found for _, result in results)
            records = source.records("position")
            assert len(records) == 50 * 11
            assert sum(len(record.data.get("fixes", [1])) for record in records) == 50 * 40
            await source.until(lambda: source.status.counters.get("links_closed") == 50)

    drive(scenario)


def test_udp(tmp_path):
    async def scenario():
        async with running(tmp_path / "state", listen="", listen_udp="127.0.0.1:0") as source:
            loop, device = asyncio.get_running_loop(), Device("13800000001")
            with udp_socket() as link:
                await loop.sock_connect(link, source.address("udp"))

                async def talk(message):
                    for frame in encode(message, device.address, device.serial):
                        await loop.sock_sendall(link, frame)
                    device.serial += 1
                    return parse(device.decoder.feed(await loop.sock_recv(link, 65_536))[0])

                accepted = await talk(Registration(1, 1, Text(b"a"), Text(b"b"), Text(b"c"), 2, Text(b"d")))
                assert (await talk(Authentication(accepted.code))).result == 0
                assert (await talk(location())).result == 0
                assert len(source.records("position")) == 1
                await loop.sock_sendall(link, b"rubbish")
                frames = encode(Media(MediaEvent(5, 0, 0, 0, 1), None, PHOTO), device.address, 3, part_bytes=1000)
                for frame in frames:
                    await loop.sock_sendall(link, frame)
                reply = parse(device.decoder.feed(await loop.sock_recv(link, 65_536))[0])
                while isinstance(reply, ResendRequest):  # the kernel may drop datagrams
                    for part in reply.parts:
                        await loop.sock_sendall(link, frames[part - 1])
                    reply = parse(device.decoder.feed(await loop.sock_recv(link, 65_536))[0])
                assert reply == MediaReply(5)

    drive(scenario)


def test_orders(tmp_path):
    async def scenario():
        async with running(tmp_path / "state") as source:
            taker = source.runner
            order = Order("trucks", "13800000001", "locate", {}, "operator", "k1")
            assert (await taker.take(order, 7)).state == "unknown"
            device = await (await Device("13800000001").connect(source.address())).login()
            taken = asyncio.gather(taker.take(order, 8))
            frame = await device.frame()
            assert parse(frame) == QueryLocation()
            device.write(LocationAnswer(frame.serial, location()))
            (outcome,) = await taken
            assert (outcome.state, outcome.seq, outcome.result["fix"]["speed_kmh_e1"]) == ("done", 8, 256)
            slow = Order("trucks", "13800000001", "locate", {"timeout_s": 1}, "operator", "k2")
            assert (await taker.take(slow, 9)).state == "timeout"
        assert source.desk.takers == {"trucks": None}

    drive(scenario)


def test_the_devices_file_is_read_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("drivers.io.trackers.DEVICES_EVERY_S", 0.0)
    monkeypatch.setattr("drivers.io.trackers.TICK_S", 0.05)

    async def scenario():
        path = devices_file(tmp_path, "rubbish")
        running_source = running(tmp_path / "state", devices_file=path)
        async with running_source as source:
            assert source.status.state == "down"
            assert "devices.toml" in source.status.reason
            devices_file(tmp_path)
            await source.until(lambda: source.status.state == "ok")
            device = await (await Device("13800000001").connect(source.address())).login()
            devices_file(tmp_path, "rubbish again")
            await source.until(lambda: source.status.state == "degraded")
            device.write(location(1))
            assert await device.results(1)
            devices_file(tmp_path, DEVICES.replace("13800000001", "13800000007"))
            await source.until(lambda: source.status.state == "ok")
            await device.closed()

    drive(scenario)


# ------------------------------------------------------------------------------------------- bad neighbours


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_bad_connections_leave_a_good_one_alone(tmp_path, loop):
    async def scenario():
        async with running(tmp_path / "state", silent_s=1, frames_per_s_max=50, connections_max=40) as source:
            good = await (await Device("13800000001").connect(source.address())).login()
            silent = [await Device("1").connect(source.address()) for _ in range(10)]
            web, junk, half = [await Device("1").connect(source.address()) for _ in range(3)]
            web.writer.write(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n")
            junk.writer.write(bytes(range(0x60)) * 1000)
            half.writer.write(encode(location(), good.address, 1)[0][:30])
            flood = await (await Device("13800000002").connect(source.address())).login()
            flood.write(*(location(n) for n in range(2000)))
            stranger = await Device("13800000003").connect(source.address())
            stranger.write(location(1), location(2))
            for number in range(30):
                good.write(location(number))
                assert len(await good.results(1)) == 1
            for bad in (*silent, web, junk, half):
                await bad.closed()
            many = [await Device("1").connect(source.address()) for _ in range(60)]
            for bad in many[45:]:
                await bad.closed()
            good.write(location(99))
            assert len(await good.results(1)) == 1
            devices = {record.device for record in source.records("position")}
            assert devices == {"13800000001", "13800000002"}
            reasons = {record.data["reason"] for record in source.records("device.gap")}
            assert {"overlong", "flood"} <= reasons
            await source.until(lambda: source.status.counters["connections_refused"] >= 15)
            for one in (good, flood, stranger, *many):
                one.close()

    drive(scenario, loop)


def test_connections_of_one_address_are_limited(tmp_path):
    async def scenario():
        async with running(tmp_path / "state", connections_per_address_max=3) as source:
            found = [await Device("1").connect(source.address()) for _ in range(5)]
            for one in found[3:]:
                await one.closed()
            found[0].close()
            await source.until(lambda: source.status.counters.get("connections") == 2)
            again = await (await Device("13800000001").connect(source.address())).login()
            for one in (*found, again):
                one.close()

    drive(scenario)


def test_a_port_that_is_taken(tmp_path):
    async def scenario():
        async with running(tmp_path / "state") as source:
            host, port = source.address()
            with pytest.raises(ExceptionGroup) as caught:
                async with running(tmp_path / "other", listen=f"{host}:{port}"):
                    pass
            assert "is the port taken?" in str(caught.value.exceptions[0])

    drive(scenario)


def test_records_of_hostile_frames_are_leaves(tmp_path):
    async def scenario():
        async with running(tmp_path / "state") as source:
            device = await (await Device("13800000001").connect(source.address())).login()
            hostile = location(lat_raw=0xFFFFFFFF, lon_raw=0xFFFFFFFF, time_bcd="ffffffffffff", tail=b"\x01\xff")
            device.write(hostile)
            await device.results(1)
            (record,) = source.records("position")
            assert record.data["flags"] == "items no-time out-of-range"
            assert parse_leaf(source.queries.leaf(record.seq)).device_time.text == "ffffffffffff"
            assert source.records("ingest.refused") == []

    drive(scenario)
