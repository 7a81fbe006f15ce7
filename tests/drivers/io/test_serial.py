"""Serial ports on real ptys: opened alone, gone in plain words, back as soon as their name is."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import subprocess
import termios
import threading
from pathlib import Path

import pytest

from drivers.io import serial as module
from drivers.io.serial import Line, SerialPort, nearby
from gateway.core.errors import LinkError
from tests.drivers.io.receiver_rig import Plug, drive


async def exactly(port: SerialPort, size: int) -> bytes:
    """The kernel delivers in the pieces that it likes."""
    found = b""
    while len(found) < size:
        found += await port.read(size - len(found))
    return found


def test_bytes_come_and_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Plug(tmp_path) as plug, await SerialPort.open(str(plug.path), Line()) as port:
            plug.send(b"$GP", b"\x00\xff")
            assert await exactly(port, 5) == b"$GP\x00\xff"
            await port.write(b"\x01\x03\r\n")
            assert plug.master is not None
            select.select([plug.master], [], [], 20)
            assert os.read(plug.master, 100) == b"\x01\x03\r\n"
            plug.send(b"late answer")
            select.select([port._fd], [], [], 20)
            port.discard_input()
            plug.send(b"new")
            assert await exactly(port, 3) == b"new"

    drive(scenario)


def test_what_is_there_is_taken_at_once_and_what_does_not_fit_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Plug(tmp_path) as plug, await SerialPort.open(str(plug.path), Line()) as port:
            assert port.take_now() == b""
            plug.send(b"stale")
            select.select([port._fd], [], [], 20)
            assert port.take_now() == b"stale"
            port.send_now(b"\x01\x03")
            assert plug.master is not None
            select.select([plug.master], [], [], 20)
            assert os.read(plug.master, 100) == b"\x01\x03"
            with pytest.raises(LinkError, match="takes no more bytes: is flow control holding it"):
                port.send_now(bytes(1 << 20))
            plug.unplug()
            with pytest.raises(LinkError, match="has gone"):
                port.take_now()

    drive(scenario)


@pytest.mark.parametrize(
    ("line", "speed", "flags"),
    [
        (Line(), termios.B9600, 0),
        (Line(115_200, 8, "E"), termios.B115200, 0),
        (Line(4800, 8, "O", 2), termios.B4800, termios.PARODD | termios.CSTOPB),
        (Line(250_000), None, 0),
    ],
)
def test_speed_and_format_are_set_and_closing_leaves_dtr_alone(
    tmp_path: Path, line: Line, speed: int | None, flags: int
) -> None:
    """A pty keeps all of it but parity itself and 7 bits."""

    async def scenario() -> None:
        with Plug(tmp_path) as plug, await SerialPort.open(str(plug.path), line) as port:
            _, _, control, local, _, out_speed, characters = termios.tcgetattr(port._fd)
            assert speed is None or out_speed == speed
            assert control & (termios.PARODD | termios.CSTOPB) == flags
            assert not control & termios.HUPCL
            assert not local & (termios.ECHO | termios.ICANON)
            assert (characters[termios.VMIN], characters[termios.VTIME]) == (1, 0)

    drive(scenario)


def test_a_second_opener_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            path = str(plug.path)
            with await SerialPort.open(path, Line()) as port:
                with pytest.raises(LinkError, match="is used by another program: find it with fuser -v"):
                    await SerialPort.open(path, Line())
                plug.send(b"still here")
                assert await exactly(port, 10) == b"still here"
            with await SerialPort.open(path, Line()) as port:
                plug.send(b"free again")
                assert await exactly(port, 10) == b"free again"

    drive(scenario)


def test_a_program_that_asks_nobody_is_kept_out_too(tmp_path: Path) -> None:
    """gpsd, a getty, cat: they open without a lock. Only root passes TIOCEXCL, so the trial is not root."""

    def try_open(path: str) -> str:
        user = {"user": "nobody"} if os.geteuid() == 0 else {}
        command = ["/bin/sh", "-c", 'exec 3<>"$1" && echo opened', "sh", os.path.realpath(path)]
        run = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=20, cwd="/", env={}, **user
        )
        return run.stdout.decode()

    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            plug.path.chmod(0o666)
            with await SerialPort.open(str(plug.path), Line()):
                assert os.strerror(errno.EBUSY) in await asyncio.to_thread(try_open, str(plug.path))
            assert await asyncio.to_thread(try_open, str(plug.path)) == "opened\n"

    drive(scenario)


def test_a_read_ends_when_the_port_is_pulled_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        plug = Plug(tmp_path)
        plug.plug()
        with await SerialPort.open(str(plug.path), Line()) as port:
            found: list[LinkError] = []

            async def read() -> None:
                try:
                    await port.read()
                except LinkError as error:
                    found.append(error)

            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                await asyncio.sleep(0)  # it waits now
                plug.unplug()
            assert "has gone" in str(found[0])
            with pytest.raises(LinkError, match="has gone"):
                await port.read()
            with pytest.raises(LinkError, match="has gone"):
                await port.write(b"x")
            port.discard_input()

    drive(scenario)


def test_what_was_sent_before_the_port_went_is_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        plug = Plug(tmp_path)
        plug.plug()
        with await SerialPort.open(str(plug.path), Line()) as port:
            plug.send(b"last words")
            assert await exactly(port, 10) == b"last words"
            plug.unplug()
            with pytest.raises(LinkError):
                await port.read()

    drive(scenario)


def test_a_line_that_takes_nothing_is_an_error_and_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_TIMEOUT_S", 0.05)

    async def scenario() -> None:
        with Plug(tmp_path) as plug, await SerialPort.open(str(plug.path), Line()) as port, pytest.raises(LinkError):
            await port.write(bytes(1_000_000))

    drive(scenario)


# ----------------------------------------------------------------------------------------- what is wrong


def test_a_port_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        says = "is not there: plug the device in; .*by-id has usb-Prolific_GPS-if00"
        with Plug(tmp_path) as plug, pytest.raises(LinkError, match=says):
            await SerialPort.open(str(plug.folder / "usb-Prolifc"), Line())
        with pytest.raises(LinkError, match=f"{plug.folder} has none"):
            await SerialPort.open(str(plug.path), Line())

    drive(scenario)


def test_what_is_no_serial_port_is_not_even_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")

    async def scenario() -> None:
        for name in ("file", "fifo", "."):
            with pytest.raises(LinkError, match="is no serial port"):
                await SerialPort.open(str(tmp_path / name), Line())
        with pytest.raises(LinkError, match="is no serial port|/dev/null"):
            await SerialPort.open("/dev/null", Line())

    drive(scenario)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "no"), "usermod -aG dialout"),
        (OSError(errno.EBUSY, "busy"), "fuser -v"),
        (OSError(errno.EIO, "io"), "plug its adapter out and in"),
        (OSError(errno.ENOENT, "none"), "is not there"),
        (termios.error(errno.ENOTTY, "no tty"), "is no serial port"),
        (ValueError("Failed to set custom baud rate"), "cannot do 9600 baud 8N1"),
        (OSError("odd"), "odd"),
    ],
)
def test_every_reason_is_one_line_that_says_what_to_do(error: Exception, says: str) -> None:
    text = module._why_not("/dev/ttyUSB9", Line(), error)
    assert says in text
    assert "/dev/ttyUSB9" in text
    assert "\n" not in text


def test_an_open_that_was_cancelled_gives_the_port_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()
    real = module._open

    def slow(path: str, line: Line) -> object:
        port = real(path, line)
        began.set()
        go_on.wait(20)
        return port

    async def scenario() -> None:
        with Plug(tmp_path) as plug:
            monkeypatch.setattr(module, "_open", slow)
            async with asyncio.TaskGroup() as group:
                opening = group.create_task(SerialPort.open(str(plug.path), Line()))
                await asyncio.to_thread(began.wait, 20)
                opening.cancel()
            go_on.set()
            monkeypatch.setattr(module, "_open", real)
            async with asyncio.timeout(20):
                while True:
                    try:
                        (await SerialPort.open(str(plug.path), Line())).close()
                        return
                    except LinkError:
                        await asyncio.sleep(0.01)

    drive(scenario)


# ---------------------------------------------------------------------------------------- hot-plugging


def test_a_port_that_appears_wakes_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        plug = Plug(tmp_path)
        for _ in range(2):  # the folder is not there, then not any more
            with nearby(str(plug.path)) as near:
                plug.plug()
                assert await near.change(20)
            plug.unplug()

    drive(scenario)


def test_nothing_that_changes_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    async def scenario() -> None:
        with nearby(str(tmp_path / "none" / "port")) as near:
            assert not await near.change(0.01)

    drive(scenario)


def test_without_inotify_time_alone_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module, "Inotify", none_left)

    async def scenario() -> None:
        with nearby(str(tmp_path / "port")) as near:
            assert not await near.change(0.01)

    drive(scenario)
