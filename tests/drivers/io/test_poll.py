"""`fieldgate profile poll` on real sockets and a real tty: what is answered, what is not, what is shown."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from drivers.io import poll
from drivers.io.poll import Receiver, Sighting, Terminal, poll_datagrams, poll_serial, poll_server, poll_terminals
from drivers.jt808.codec import (
    Address,
    Authentication,
    Decoder,
    Frame,
    GeneralReply,
    Heartbeat,
    Item,
    Location,
    LocationBatch,
    Registration,
    RegistrationReply,
    Text,
    Transparent,
    Version,
    encode,
    parse,
    write_frame,
)
from drivers.nmea.framing import encode as sentence
from firmware_profiles.loader import load_tracker
from firmware_profiles.tracker_model import TrackerProfile
from gateway.cli import main
from gateway.core.errors import LinkError

ADDRESS = Address.of("13857300417", Version.V2013)
REGISTRATION = Registration(33, 482, Text.of("FGSIM"), Text.of("X1"), Text.of("0000417"), 2, Text.of("浙F12345"))
FIX = Location(
    0, 0x303, 30_676_123, 121_023_456, 12, 456, 92, "260302083000", (Item(0x31, b"\x0b"), Item(0xE9, b"\x07"))
)


def rmc(second: int) -> bytes:
    fields = f"0030{second:02}.00,A,3040.56738,N,12101.40736,E,24.622,92.00,020326,,,A"
    return sentence("GNRMC", tuple(fields.split(",")))


RMC = rmc(0)
NMEA = load_tracker("nmea").profile


def profile(name: str = "muck-egs701") -> TrackerProfile:
    return load_tracker(name).profile


def frames(*messages, address: Address = ADDRESS) -> bytes:
    return b"".join(encode(message, address, serial)[0] for serial, message in enumerate(messages, 1))


def take(terminal: Terminal, data: bytes) -> list[tuple[Sighting, list]]:
    """Sightings, each with the messages that answer it."""
    return [
        (seen, [parse(frame) for frame in Decoder().feed(answer) if isinstance(frame, Frame)])
        for seen, answer in terminal.take(data, 0)
    ]


def test_what_a_terminal_needs_is_answered_and_a_location_is_not_acknowledged():
    data = frames(REGISTRATION, Authentication(Text.of("poll")), Heartbeat(), FIX, Transparent(0xF1, b"\1"))
    found = take(Terminal(profile()), data)
    assert [seen.what for seen, _ in found] == [
        "registration 0100",
        "authentication 0102",
        "heartbeat 0002",
        "location 0200",
        "block 0900",
    ]
    assert [answers for _, answers in found] == [
        [RegistrationReply(1, 0, Text.of("poll"))],
        [GeneralReply(2, 0x0102)],
        [GeneralReply(3, 0x0002)],
        [],
        [],
    ]
    assert {seen.device for seen, _ in found} == {"13857300417"}
    assert found[0][0].note == "the profile is for */EGS701*"
    assert found[0][0].values["plate"] == "浙F12345"


def test_a_location_is_shown_with_all_its_fields_and_what_is_left():
    ((seen, _),) = take(Terminal(profile()), frames(FIX))
    assert seen.raw == frames(FIX)
    assert seen.values == {
        "alt_m": 12,
        "speed_kmh_e1": 456,
        "course_deg": 92,
        "acc": True,
        "status": "acc_on fixed",
        "satellites": 11,
        "lat_e7": 306_761_230,
        "lon_e7": 1_210_234_560,
        "time_utc_s": 1_772_411_400,
        "load": "full",
        "alarms": "",
        "sigma_m": 5,
        "item_e9": "07",
    }
    assert seen.unread == "item e9: 07"
    assert "not acknowledged" in seen.note


def test_a_location_of_2019_is_answered_in_2019():
    address = Address.of("13857300417", Version.V2019)
    data = b"".join(answer for _, answer in Terminal(profile()).take(frames(Heartbeat(), address=address), 0))
    (frame,) = Decoder().feed(data)
    assert isinstance(frame, Frame)
    assert frame.version is Version.V2019


def test_own_messages_packets_garbage_and_unknown_ones():
    terminal = Terminal(profile("muck-zhtkj"))
    event = write_frame(0x0F01, b"\1\3\7", ADDRESS, 1)
    packet = write_frame(0x0801, b"x", ADDRESS, 2, part=(3, 1))
    unknown = write_frame(0x0F55, b"\xaa", ADDRESS, 3)
    found = [seen for seen, _ in terminal.take(event + packet + b"GET / HTTP/1.1\r\n\r\n\x7e" + unknown, 0)]
    assert [(seen.what, seen.unread, seen.note) for seen in found[:2]] == [
        ("message 0f01", "message 0f01, byte 2: 07", ""),
        ("message 0801", "", "packet 1 of 3: not joined here"),
    ]
    assert found[0].values == {"name": "muck_event"}
    assert found[2].what.startswith("no frame: ")
    assert (found[3].unread, found[3].note) == ("aa", "unknown")


def test_what_a_block_says_is_held_for_the_location_but_not_for_a_batch():
    terminal = Terminal(profile("muck-cmsv6"))
    block = Transparent(0xF1, b"\2\1" + bytes(28))
    found = take(terminal, frames(block, FIX, LocationBatch.of([FIX])))
    assert found[0][0].values["cover"] == "open"
    assert (found[1][0].values["cover"], found[1][0].values["lift"]) == ("open", "flat")
    assert found[1][0].values["held"].startswith("cover lift ")
    assert "cover" not in found[2][0].values
    assert found[2][0].what == "batch, its last report 0704"
    assert [answers for _, answers in found] == [[], [], []]


@given(st.binary(max_size=300), st.sampled_from(["jt808", "muck-egs701", "muck-zhtkj", "muck-cmsv6"]))
def test_no_bytes_raise(data, name):
    terminal = Terminal(profile(name))
    list(terminal.take(b"\x7e" + data + b"\x7e", 0))
    for msg_id in (0x0200, 0x0704, 0x0900, 0x0F01, 0x0100):
        list(terminal.take(write_frame(msg_id, data, ADDRESS, 1), 0))


@given(st.lists(st.binary(max_size=60) | st.just(RMC), max_size=6))
def test_no_bytes_of_a_receiver_raise(chunks):
    receiver = Receiver("x", "GCJ-02")
    for chunk in chunks:
        list(receiver.take(chunk))
    list(receiver.silent())


# ------------------------------------------------------------------------------------------- real links


class Watched:
    """Sightings as they come."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[Sighting] = asyncio.Queue()
        self.places: asyncio.Queue[str] = asyncio.Queue()

    def ready(self, where: str) -> None:
        self.places.put_nowait(where)

    async def bound(self) -> tuple[str, int]:
        host, _, port = (await self.places.get()).rpartition(":")
        return host, int(port)

    async def until(self, what: str) -> Sighting:
        while True:
            found = await self.seen.get()
            if found.what == what:
                return found


async def watching(watch, use) -> None:
    """Run `watch` until `use` is done with it."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(watch)
        await use
        task.cancel()


def test_a_terminal_over_tcp_and_one_over_udp():
    watched = Watched()

    async def use() -> None:
        host, port = await watched.bound()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(frames(REGISTRATION))
        assert b"poll" in await reader.readuntil(b"poll")
        writer.write(frames(FIX)[:20])
        writer.write(frames(FIX)[20:])
        assert (await watched.until("location 0200")).values["load"] == "full"
        writer.close()
        await watched.until("connection ended")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(await watched.bound())
            sock.send(frames(Heartbeat(), FIX))
            assert (await watched.until("location 0200")).device == "13857300417"
            assert (await asyncio.get_running_loop().sock_recv(sock, 100)).startswith(b"\x7e\x80\x01")

    watch = poll_terminals(
        profile(), watched.seen.put_nowait, watched.ready, tcp=("127.0.0.1", 0), udp=("127.0.0.1", 0)
    )
    asyncio.run(watching(watch, use()))


def test_more_links_than_are_shown_are_closed(monkeypatch):
    monkeypatch.setattr(poll, "LINKS_MAX", 1)
    watched = Watched()

    async def use() -> None:
        address = await watched.bound()
        _, first = await asyncio.open_connection(*address)
        await watched.until("connected")
        reader, second = await asyncio.open_connection(*address)
        await watched.until("refused")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(1) == b""
        for writer in (first, second):
            writer.close()

    asyncio.run(
        watching(poll_terminals(profile(), watched.seen.put_nowait, watched.ready, tcp=("127.0.0.1", 0)), use())
    )


def test_an_address_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
        with pytest.raises(LinkError, match=rf"cannot listen on 127\.0\.0\.1:{address[1]}: Address already in use"):
            asyncio.run(poll_terminals(profile(), print, print, tcp=address))


def test_a_receiver_on_a_tty():
    watched = Watched()
    ours, theirs = os.openpty()
    try:

        async def use() -> None:
            await watched.places.get()
            os.write(ours, b"\x00\xff" + RMC)
            seen = await watched.until("fix")  # comes when the receiver is silent
            assert seen.values["lat_e7"] == 306_761_230
            assert seen.raw.strip() == RMC.strip()

        asyncio.run(
            watching(poll_serial(NMEA, watched.seen.put_nowait, watched.ready, os.ttyname(theirs), 9600), use())
        )
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_receiver_behind_a_serial_server_that_ends():
    watched = Watched()

    async def run() -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(rmc(0) + rmc(1))
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(LinkError, match="has ended the connection"):
                await poll_server(NMEA, watched.seen.put_nowait, watched.ready, "127.0.0.1", port)

    asyncio.run(run())
    assert watched.seen.get_nowait().values["time_utc_s"] == 1_772_411_400


def test_a_receiver_that_sends_datagrams():
    watched = Watched()

    async def use() -> None:
        address = await watched.bound()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(RMC, address)
            seen = await watched.until("fix")
            assert seen.device == f"127.0.0.1:{sock.getsockname()[1]}"

    asyncio.run(watching(poll_datagrams(NMEA, watched.seen.put_nowait, watched.ready, ("127.0.0.1", 0)), use()))


# ------------------------------------------------------------------------------------------- command line


def run(*words: str):
    return CliRunner().invoke(main, ["profile", *words], env={"FIELDGATE_LANG": "en"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["jt808"], "speaks jt808: give --listen or --listen-udp"),
        (["jt808", "--port", "/dev/ttyS0"], "speaks jt808: give --listen or --listen-udp"),
        (["jt808", "."], "leave the folder out"),
        (["dsj"], "name the FOLDER"),
        (["dsj", ".", "--listen", "127.0.0.1:0"], "and no link"),
        (["nmea"], "speaks nmea: give --port or --connect or --listen-udp"),
        (["nmea", "--port", "/dev/x", "--connect", "a:1"], "speaks nmea: give"),
        (["nmea", "--connect", "nowhere"], "expected host:port"),
        (["jt808", "--listen", "6808"], "expected address:port"),
    ],
)
def test_wrong_words_on_the_command_line(words, message):
    result = run("poll", *words)
    assert result.exit_code == 2
    assert message in result.output


def test_a_port_that_is_not_there():
    result = run("poll", "nmea", "--port", "/dev/nowhere", "--for", "5")
    assert result.exit_code == 69
    assert "/dev/nowhere is not there" in result.output


def test_polling_for_a_while_prints_where_it_listens_and_that_nothing_is_stored():
    result = run("poll", "muck-hik", "--listen", "127.0.0.1:0", "--for", "0.1", "--json")
    assert result.exit_code == 0
    assert "nothing is stored" in result.output
    assert "unconfirmed" in result.output


def test_list_and_check(tmp_path):
    rows = {row["id"]: row for row in json.loads(run("list", "--json").output)["profiles"]}
    assert (rows["muck-hik"]["kind"], rows["muck-hik"]["confirmed"]) == ("tracker", False)
    assert "unconfirmed" in run("list").output
    assert run("check", "jt808", "nmea", "dsj").exit_code == 0
    path = tmp_path / "muck-hik.toml"
    path.write_text(
        load_tracker("muck-hik").path.read_text("utf-8").replace('cover = "open"', 'cover = "closed"'), "utf-8"
    )
    wrong = run("check", str(path))
    assert wrong.exit_code == 1
    assert "field  expected  got" in wrong.output
    assert "cover  'closed'  'open'" in wrong.output
    found = json.loads(run("check", str(path), "--json").output)
    assert [one["differences"] for one in found["examples"] if not one["ok"]] == [
        [{"field": "cover", "expected": "'closed'", "got": "'open'"}]
    ]
    missing = run("check", "jt80")
    assert missing.exit_code == 1
    assert "did you mean jt808?" in missing.output


def test_the_live_table_shows_what_devices_send_as_text_only():
    from rich.console import Console

    from gateway.commands import poll_view

    seen = Sighting(
        "1385[red]", "location 0200", b"\x7e", {"lat_e7": -5, "acc": True, "status": "a b"}, "item e9: 07", "x\x1b"
    )
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(poll_view._table("jt808", [seen]))
    text = console.export_text()
    assert "1385[red]" in text
    assert "lat_e7=-0.0000005  acc=true  status=[a b]" in text
    assert "\x1b" not in text
