"""Serial ports: real ttys, opened for ourselves alone, with one reason in plain words for whatever is wrong.

pyserial sets speed and format; reading and writing is done here on the descriptor, because a port that is pulled out
must end a read at once and say so. Everything that goes wrong is a LinkError.

Alone. `flock` keeps out whoever asks (pyserial, a second gateway), TIOCEXCL every later
`open` of who does not ask; root passes the second. Lines. HUPCL is cleared, so that DTR and RTS stay as they are when
the port is closed: otherwise every restart resets receivers and converters that hang on DTR. The first open after a
boot or plug raises them, in the kernel, before any program could prevent it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import grp
import os
import stat
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import serial  # type: ignore[import-untyped]
from asyncinotify import Inotify, Mask

from gateway.core.errors import LinkError

READ_MAX_BYTES: Final = 4096
WRITE_TIMEOUT_S: Final = 5.0
NAMES_SHOWN_MAX: Final = 4
BY_ID: Final = Path("/dev/serial/by-id")
SETTLE_S: Final = 0.2
"""udev gives a new port its name, owner and mode one after the other."""
_MASK: Final = Mask.CREATE | Mask.MOVED_TO | Mask.ATTRIB | Mask.DELETE_SELF


@dataclass(frozen=True, slots=True)
class Line:
    """Speed and format of a line."""

    baud: int = 9600
    data_bits: Literal[7, 8] = 8
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1


class SerialPort:
    """An open port. Ends with `close`, or as a context manager."""

    def __init__(self, path: str, port: Any) -> None:
        self.path = path
        self._port = port
        self._fd: int = port.fileno()

    @classmethod
    async def open(cls, path: str, line: Line) -> SerialPort:
        """Open and configure. In a thread: adapters that are broken keep the kernel busy for seconds."""
        opening = asyncio.get_running_loop().run_in_executor(None, _open, path, line)
        try:
            return cls(path, await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise

    async def read(self, size_max: int = READ_MAX_BYTES) -> bytes:
        """What is there, as soon as there is anything; one reader at a time. Raises LinkError once the port is gone."""
        while True:
            try:
                chunk = os.read(self._fd, size_max)
            except BlockingIOError:
                await self._ready(writing=False)
                continue
            except OSError as error:
                raise _gone(self.path, error) from error
            if not chunk:  # with VMIN 1 a read that is not refused has bytes, or the port is gone
                raise _gone(self.path, None)
            return chunk

    async def write(self, frame: bytes) -> None:
        """All of it, into the kernel's buffer. Raises LinkError, also where the line does not take it."""
        left = memoryview(frame)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                while left:
                    try:
                        left = left[os.write(self._fd, left) :]
                    except BlockingIOError:
                        await self._ready(writing=True)
        except OSError as error:  # TimeoutError is one too
            raise _gone(self.path, error) from error

    def take_now(self) -> bytes:
        """What has come and was not read; b"" where nothing has. Raises LinkError once the port is gone."""
        try:
            chunk = os.read(self._fd, READ_MAX_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise _gone(self.path, error) from error
        if not chunk:
            raise _gone(self.path, None)
        return chunk

    def send_now(self, frame: bytes) -> None:
        """All of it, into the kernel's buffer, which holds some thousand bytes. Raises LinkError where it is full."""
        try:
            sent = os.write(self._fd, frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _gone(self.path, error) from error
        if sent < len(frame):
            raise LinkError(f"{self.path} takes no more bytes: is flow control holding it?")

    def discard_input(self) -> None:
        """Forget what has come and was not read: before a question whose answer must be its own."""
        with contextlib.suppress(termios.error):  # the port is gone: the next read says so
            termios.tcflush(self._fd, termios.TCIFLUSH)

    def close(self) -> None:
        """Give the port back to others."""
        _close(self._port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _ready(self, *, writing: bool) -> None:
        loop = asyncio.get_running_loop()
        add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
        ready = asyncio.Event()
        add(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self._fd)


def _open(path: str, line: Line) -> Any:
    port = serial.Serial(
        baudrate=line.baud, bytesize=line.data_bits, parity=line.parity, stopbits=line.stop_bits, exclusive=True
    )
    port.port = path
    try:
        _refuse_what_is_no_tty(path)
        port.open()
        _settle(port.fileno())
    except (OSError, termios.error, ValueError) as error:  # SerialException is an OSError
        _close(port)
        raise LinkError(_why_not(path, line, error)) from error
    return port


def _refuse_what_is_no_tty(path: str) -> None:
    """Before it is opened: opening a fifo or a watchdog device has effects."""
    if not stat.S_ISCHR(Path(path).stat().st_mode):
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))


def _settle(fd: int) -> None:
    fcntl.ioctl(fd, termios.TIOCEXCL)
    attributes = termios.tcgetattr(fd)
    attributes[2] &= ~termios.HUPCL
    attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _close(port: Any) -> None:
    if not port.is_open:
        return
    with contextlib.suppress(OSError):  # the port is gone already
        fcntl.ioctl(port.fileno(), termios.TIOCNXCL)
    with contextlib.suppress(OSError, termios.error):
        port.close()


def _close_late(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close(opening.result())


# ------------------------------------------------------------------------------------------- in words


def _gone(path: str, error: OSError | None) -> LinkError:
    reason = "" if error is None or not error.strerror else f" ({error.strerror})"
    return LinkError(f"{path} has gone{reason}: unplugged, or the adapter failed")


def _why_not(path: str, line: Line, error: Exception) -> str:
    """One line: what is wrong and what to do."""
    number = _errno_of(error)
    match number:
        case errno.ENOENT | errno.ENOTDIR:
            return f"{path} is not there: plug the device in{_present(path)}"
        case errno.EACCES | errno.EPERM:
            return (
                f"{path}: permission denied; it belongs to the group {_group_of(path)}: add the user to the group "
                "dialout (usermod -aG dialout fieldgate), under systemd install fieldgate-serial.conf"
            )
        case errno.EBUSY | errno.EWOULDBLOCK:
            return f"{path} is used by another program: find it with fuser -v {path} (gpsd, ModemManager, a getty?)"
        case errno.ENOTTY | errno.EISDIR:
            return f"{path} is no serial port"
        case errno.ENODEV | errno.ENXIO | errno.EIO:
            return f"{path} does not answer: plug its adapter out and in"
    if isinstance(error, ValueError):
        return f"{path} cannot do {line.baud} baud {line.data_bits}{line.parity}{line.stop_bits}"
    return f"{path}: {error}"


def _errno_of(error: BaseException | None) -> int | None:
    """pyserial hides the number in an argument, in a text, or in what it caught."""
    while error is not None:
        number = getattr(error, "errno", None) or (error.args[0] if error.args else None)
        if isinstance(number, int):
            return number
        error = error.__cause__ or error.__context__
    return None


def _group_of(path: str) -> str:
    try:
        return grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (OSError, KeyError):
        return "dialout"


def _present(path: str) -> str:
    """The ports that there are, for whoever has mistyped a long name."""
    folder = Path(path).parent if Path(path).parent != Path("/dev") else BY_ID
    with contextlib.suppress(OSError):
        names = sorted(entry.name for entry in folder.iterdir() if entry.exists())
        if names:
            more = " …" if len(names) > NAMES_SHOWN_MAX else ""
            return f"; {folder} has {', '.join(names[:NAMES_SHOWN_MAX])}{more}"
    return f"; {folder} has none"


# ---------------------------------------------------------------------------------------- hot-plugging


class Nearby:
    """Watches the folders of a port's name. Made before the port is tried, it misses nothing in between."""

    def __init__(self, inotify: Inotify | None) -> None:
        self._inotify = inotify

    async def change(self, at_most_s: float) -> bool:
        """Wait until something changes near the port, at most so long; whether it did."""
        if self._inotify is None:
            await asyncio.sleep(at_most_s)
            return False
        try:
            async with asyncio.timeout(at_most_s):
                await self._inotify.get()
        except TimeoutError:
            return False
        await asyncio.sleep(SETTLE_S)
        return True


@contextlib.contextmanager
def nearby(path: str) -> Iterator[Nearby]:
    """Watch the folder of the name, of what it points to, and the nearest folder that exists: udev takes
    /dev/serial/by-id away with its last port."""
    try:
        inotify = Inotify()
    except OSError:  # the system's limit of instances is used up: time alone does it
        yield Nearby(None)
        return
    with inotify:
        for folder in {_existing(Path(path).parent), _existing(Path(os.path.realpath(path)).parent)}:
            with contextlib.suppress(OSError):
                inotify.add_watch(folder, _MASK)
        yield Nearby(inotify)


def _existing(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if one.is_dir()), Path("/"))
