"""`fieldgate profile poll` for sensors: a device on a pty and behind TCP, shown through a profile, nothing stored."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.io import poll_bus
from drivers.io.poll import Sighting
from drivers.modbus.codec import is_sealed, parse_request, reply_pdu, rtu_frame
from firmware_profiles.loader import load_sensor
from gateway.cli import main
from tests.drivers.jsonfeed.talk import PHONE, body, delivery

METER = [0x08FE, 0x04D2, 0, 0x0AF4, 0, 0xE240, 1, 0x01F4, 0x63, 0]
SHT = {0x0100: 0x0104, 0x0101: 0x04EF, 0x0102: 0x0298, 0x0103: 5}


@pytest.fixture
def line() -> Iterator[str]:
    """A pty with an RS485-SHT3x as unit 3; the name of its other end."""
    ours, theirs = os.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)

    def serve() -> None:
        held = b""
        with suppress(OSError):
            while True:
                held += os.read(ours, 256)
                if is_sealed(held):
                    request = parse_request(held[1:-2])
                    if request is not None and held[0] == 3:
                        words = tuple(SHT.get(request.address + at, 0) for at in range(request.count))
                        os.write(ours, rtu_frame(3, reply_pdu(request, words)))
                    held = b""

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield os.ttyname(theirs)
    os.close(theirs)
    os.close(ours)
    thread.join(5)


def watch(
    poll: Callable[[Callable[[Sighting], None]], object], until: Callable[[list[Sighting]], bool]
) -> list[Sighting]:
    """What is shown until a condition holds."""
    seen: list[Sighting] = []

    async def run() -> None:
        done = asyncio.Event()

        def show(one: Sighting) -> None:
            seen.append(one)
            if until(seen):
                done.set()

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            task = group.create_task(poll(show))  # type: ignore[arg-type]
            await done.wait()
            task.cancel()

    asyncio.run(run())
    return seen


def test_a_sensor_on_a_serial_port(line):
    loaded = load_sensor("rs485-sht3x")
    config = poll_bus.serial_config(loaded, line, 3, baud=None, parity=None, stop_bits=None)
    assert (config.baud, config.parity, config.stop_bits) == (9600, "N", 1)
    where: list[str] = []
    seen = watch(
        lambda show: poll_bus.poll_sensor(loaded, config, show, where.append),
        lambda seen: any(one.what == "reading" for one in seen),
    )
    assert where == [f"{line}, 9600 8N1, unit 3"]
    (reading,) = [one for one in seen if one.what == "reading"]
    assert reading.device == "unit 3"
    assert reading.values == {"temperature": "26.3 Cel", "humidity": "66.4 %", "measurements": "5"}
    assert reading.raw.hex().startswith("0303010000044417" + "030308010404ef02980005")


def test_a_device_that_does_not_answer_gives_a_hint(line, monkeypatch):
    monkeypatch.setattr(poll_bus, "SILENT_S", 0.2)
    loaded = load_sensor("rs485-sht3x")
    config = poll_bus.serial_config(loaded, line, 9)
    seen = watch(
        lambda show: poll_bus.poll_sensor(loaded, config, show, lambda _: None),
        lambda seen: any(one.what == "no answer" for one in seen),
    )
    assert "whether A and B are swapped" in seen[-1].note


def test_a_meter_of_pymodbus_over_tcp(tmp_path):
    """An independent server; registers that the profile does not read are shown."""
    path = tmp_path / "meter.toml"
    text = load_sensor("pzem-004t").path.read_text().replace('id = "pzem-004t"', 'id = "meter"')
    start = text.index('[[block.value]]\nquantity = "power_alarm"')
    path.write_text(
        (text[:start] + text[text.index("[[write]]") :])
        .replace('power_alarm = "off"', "")
        .replace('power_alarm = "on"', "")
    )
    loaded = load_sensor(str(path))

    async def served(show: Callable[[Sighting], None]) -> None:
        registers = SimData(0, values=[*METER[:9], 7], datatype=DataType.REGISTERS)
        server = ModbusTcpServer(SimDevice(7, simdata=[registers]), address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        port = server.transport.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        config = poll_bus.tcp_config(loaded, f"127.0.0.1:{port}", 7, rtu=False)
        try:
            await poll_bus.poll_sensor(loaded, config, show, lambda _: None)
        finally:
            await server.shutdown()

    seen = watch(served, lambda seen: any(one.what == "reading" for one in seen))
    (reading,) = [one for one in seen if one.what == "reading"]
    assert reading.values["current"] == "1.234 A"
    assert reading.values["energy"] == "123456 Wh"
    assert reading.unread == "4:9 = 7"


def test_the_command_shows_it(line):
    command = [sys.executable, "-m", "gateway.cli", "profile", "poll", "rs485-sht3x", "--port", line, "--unit", "3"]
    found = subprocess.run([*command, "--for", "2.5"], capture_output=True, text=True, timeout=60, check=True)
    assert "temperature=26.3 Cel  humidity=66.4 %" in found.stdout
    assert "unconfirmed" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pzem-004t"], "give --port or --connect"),
        (["pzem-004t", "--port", "/dev/x", "--connect", "a:1"], "give --port or --connect"),
        (["pzem-004t", "--listen", "0.0.0.0:1"], "give --port or --connect"),
        (["pzem-004t", "--connect", "nowhere"], "expected host:port"),
        (["pzem-004t", "--port", "/dev/x", "--unit", "0"], "1<=x<=255"),
        (["pzem-004t", ".", "--port", "/dev/x"], "leave the folder out"),
        (["smart-bin"], "name a FILE with one message per line"),
        (["smart-bin", "."], "name a FILE with one message per line"),
        (["hj212"], "is for monitors of HJ 212"),
    ],
)
def test_wrong_use_says_what_to_give(arguments, message):
    result = CliRunner().invoke(main, ["profile", "poll", *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_messages_of_a_file(tmp_path: Path):
    path = tmp_path / "bins.jsonl"
    path.write_bytes(b"\n".join([body(**delivery(1, weight=1.5)), b"nonsense", b"{}"]))
    result = CliRunner().invoke(main, ["profile", "poll", "smart-bin", str(path), "--json"])
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [row["what"] for row in rows] == ["line 1", "line 2", "line 3"]
    assert rows[0]["device"] == "B-1"
    assert rows[0]["values"]["weight/1"] == "1.5 kg"
    assert rows[0]["values"]["depositor"] == "hidden"
    assert PHONE.encode() not in bytes.fromhex(rows[0]["raw"])
    assert rows[1]["note"].startswith("refused: expected a value")
    assert rows[2]["note"].startswith("unread: ")
