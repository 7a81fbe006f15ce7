"""A live device through a profile, for a person: what it sends, what the profile makes of it, what is left unread.

Nothing is stored, and no location is acknowledged: a terminal keeps what it sent and sends it again to the gateway.
Registration, authentication and heartbeats are answered, because without that a terminal sends no location.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from drivers.io.serial import Line, SerialPort
from drivers.jt808 import codec, dialect
from drivers.jt808.codec import Address, Decoder, Frame, Location, LocationAnswer, LocationBatch, Registration
from drivers.jt808.dialect import Held
from drivers.jt808.examples import as_text
from drivers.jt808.reports import FixReader
from drivers.nmea.codec import parse
from drivers.nmea.drafts import fix_keys
from drivers.nmea.epochs import Epochs, Fix
from drivers.nmea.framing import Decoder as SentenceDecoder
from drivers.nmea.framing import Malformed as BadSentence
from firmware_profiles.tracker_model import TrackerProfile, fits
from gateway.core.errors import LinkError

LINKS_MAX: Final = 64
"""Devices that are shown at a time; further connections are closed."""
SILENT_S: Final = 2.0
"""A receiver that says nothing for so long has ended its epoch."""
CODE: Final = "poll"
"""Authentication code that every device gets; the gateway gives another one."""
_ANSWERED: Final = frozenset({0x0002, 0x0003, 0x0102})
_NOT_ACKNOWLEDGED: Final = "not acknowledged"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One message of a device."""

    device: str
    what: str
    """Kind of message, such as `location 0200`."""
    raw: bytes
    """As received."""
    values: dict[str, Any] = field(default_factory=dict)
    """Keys of a fix."""
    unread: str = ""
    """What neither the standard nor the profile reads."""
    note: str = ""


Show = Callable[[Sighting], None]
Ready = Callable[[str], None]
"""Called with each address or port that is open."""


# ------------------------------------------------------------------------------------------- JT/T 808


class Terminal:
    """One link of a terminal: bytes in, sightings and answers out. Pure."""

    def __init__(self, profile: TrackerProfile) -> None:
        self._dialect = dialect.compile(profile)
        self._fixes = FixReader(self._dialect, profile)
        self._decoder = Decoder()
        self._held = Held(profile.hold_s)
        self._serial = 0

    def take(self, data: bytes, now_ns: int) -> Iterator[tuple[Sighting, bytes]]:
        """What these bytes complete, and the answer to each (empty: none)."""
        for piece in self._decoder.feed(data):
            if isinstance(piece, Frame):
                yield self._frame(piece, now_ns), self._answer(piece)
            else:
                yield Sighting("?", f"no frame: {piece.reason}", piece.raw, note=piece.detail), b""

    def _frame(self, frame: Frame, now_ns: int) -> Sighting:
        what = f"{_NAMES.get(frame.msg_id, 'message')} {frame.msg_id:04x}"

        def seen(values: dict[str, Any] | None = None, unread: str = "", note: str = "") -> Sighting:
            return Sighting(frame.identity, what, frame.raw, values or {}, unread, note)

        if frame.total:
            return seen(note=f"packet {frame.index} of {frame.total}: not joined here")
        said = self._dialect.read_message(frame.msg_id, frame.body)
        if said is not None:
            self._held.take(said, now_ns)
            name = {"name": said.name} if said.name else {}
            return seen({**name, **said.values}, as_text(said.unread), _NOT_ACKNOWLEDGED if said.is_location else "")
        message = codec.parse(frame)
        if isinstance(message, Registration):
            return seen(_registration(message), note=self._fitting(message))
        location = _location_of(message)
        if location is not None:
            held = None if isinstance(message, LocationBatch) else self._held.at(now_ns)
            # By its own time, as if it arrived at once: what is looked at here is the reading, not the delay
            now_utc_s = self._dialect.time_utc_s(location.time_bcd) or 0
            values = self._fixes.of_location(location, now_utc_s, held)
            return seen(values, as_text(self._dialect.unread(location)), _NOT_ACKNOWLEDGED)
        if isinstance(message, codec.Opaque):
            return seen(unread=frame.body.hex(), note=message.reason)
        return seen(unread=frame.body.hex(), note="unknown") if isinstance(message, codec.Transparent) else seen()

    def _fitting(self, message: Registration) -> str:
        patterns = self._dialect.match
        if not patterns or fits(patterns, message.maker.text, message.model.text):
            return ""
        return f"the profile is for {', '.join(patterns)}"

    def _answer(self, frame: Frame) -> bytes:
        reply: codec.Message
        if frame.msg_id == Registration.MSG_ID:
            reply = codec.RegistrationReply(frame.serial, 0, codec.Text.of(CODE))
        elif frame.msg_id in _ANSWERED:
            reply = codec.GeneralReply(frame.serial, frame.msg_id)
        else:
            return b""
        self._serial = (self._serial + 1) & 0xFFFF
        return b"".join(codec.encode(reply, Address.of_frame(frame), self._serial))


_NAMES: Final = {
    0x0001: "reply",
    0x0002: "heartbeat",
    0x0003: "log-off",
    0x0100: "registration",
    0x0102: "authentication",
    0x0200: "location",
    0x0201: "location answer",
    0x0704: "batch, its last report",
    0x0900: "block",
}


def _location_of(message: codec.Message) -> Location | None:
    """The location of a message; of a batch its last report."""
    if isinstance(message, LocationBatch):
        return message.locations[-1] if message.locations else None
    if isinstance(message, LocationAnswer):
        return message.location
    return message if isinstance(message, Location) else None


def _registration(message: Registration) -> dict[str, Any]:
    return {
        "maker": message.maker.text,
        "model": message.model.text,
        "terminal": message.terminal_id.text,
        "plate": message.plate.text,
        "edition": int(message.layout),
    }


class _Tcp(asyncio.Protocol):
    def __init__(self, profile: TrackerProfile, show: Show, links: set[asyncio.Transport]) -> None:
        self._terminal, self._show, self._links = Terminal(profile), show, links
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if len(self._links) >= LINKS_MAX:
            self._show(Sighting("?", "refused", b"", note=f"{peer[0]}: {LINKS_MAX} devices are shown already"))
            transport.abort()
            return
        self._transport = transport
        self._links.add(transport)
        self._show(Sighting("?", "connected", b"", note=f"{peer[0]}:{peer[1]}"))

    def data_received(self, data: bytes) -> None:
        now_ns = int(asyncio.get_running_loop().time() * 1e9)
        for sighting, answer in self._terminal.take(data, now_ns):
            self._show(sighting)
            if answer and self._transport is not None:
                self._transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._links.discard(self._transport)
            self._show(Sighting("?", "connection ended", b"", note=str(exc or "")))


class _Udp(asyncio.DatagramProtocol):
    """Terminals over UDP: one per sender address, the oldest gives way."""

    def __init__(self, profile: TrackerProfile, show: Show) -> None:
        self._profile, self._show = profile, show
        self._terminals: dict[Any, Terminal] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr not in self._terminals and len(self._terminals) >= LINKS_MAX:
            del self._terminals[next(iter(self._terminals))]
        terminal = self._terminals.setdefault(addr, Terminal(self._profile))
        now_ns = int(asyncio.get_running_loop().time() * 1e9)
        for sighting, answer in terminal.take(data, now_ns):
            self._show(sighting)
            if answer and self._transport is not None:
                self._transport.sendto(answer, addr)


async def poll_terminals(
    profile: TrackerProfile,
    show: Show,
    ready: Ready,
    *,
    tcp: tuple[str, int] | None = None,
    udp: tuple[str, int] | None = None,
) -> None:
    """Wait for terminals and show them until cancelled. Raises LinkError where an address cannot be used."""
    loop = asyncio.get_running_loop()
    links: set[asyncio.Transport] = set()
    server: asyncio.Server | None = None
    datagrams: asyncio.DatagramTransport | None = None
    try:
        if tcp is not None:
            try:
                server = await loop.create_server(lambda: _Tcp(profile, show, links), *tcp)
            except OSError as error:
                raise _cannot_listen(tcp, error) from None
            ready(_name(server.sockets[0].getsockname()))
        if udp is not None:
            try:
                datagrams, _ = await loop.create_datagram_endpoint(lambda: _Udp(profile, show), local_addr=udp)
            except OSError as error:
                raise _cannot_listen(udp, error) from None
            ready(_name(datagrams.get_extra_info("sockname")))
        await asyncio.Event().wait()
    finally:
        if server is not None:
            server.close()
        if datagrams is not None:
            datagrams.close()
        for link in list(links):
            link.abort()


def _name(address: Any) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def _cannot_listen(address: tuple[str, int], error: OSError) -> LinkError:
    where = _name(address)
    reason = os.strerror(error.errno) if error.errno else str(error)
    return LinkError(f"cannot listen on {where}: {reason}; if a gateway runs there, name another port")


# ------------------------------------------------------------------------------------------- NMEA


class Receiver:
    """One receiver: bytes in, its fixes out. Pure."""

    def __init__(self, name: str, datum: str) -> None:
        self._name, self._datum = name, datum
        self._decoder = SentenceDecoder()
        self._epochs = Epochs()
        self._sentences: list[bytes] = []

    def take(self, data: bytes) -> Iterator[Sighting]:
        """The fixes that these bytes end, and what was no sentence."""
        for piece in self._decoder.feed(data):
            if isinstance(piece, BadSentence):
                yield Sighting(self._name, f"no sentence: {piece.reason}", piece.raw, note=piece.detail)
                continue
            message = parse(piece)
            if isinstance(message, BadSentence):
                yield Sighting(self._name, f"no sentence: {message.reason}", piece.raw, note=message.detail)
                continue
            fix = self._epochs.push(piece, message)
            if fix is not None:
                yield self._shown(fix)
            self._sentences = [*self._sentences[-63:], piece.raw]

    def silent(self) -> Iterator[Sighting]:
        """Nothing came for SILENT_S: the epoch that is open has ended."""
        fix = self._epochs.flush()
        if fix is not None:
            yield self._shown(fix)

    def _shown(self, fix: Fix) -> Sighting:
        raw, self._sentences = b"".join(self._sentences), []
        return Sighting(self._name, "fix", raw, fix_keys(fix, self._datum, None))


async def poll_serial(profile: TrackerProfile, show: Show, ready: Ready, path: str, baud: int) -> None:
    """Show the receiver on a serial port until cancelled. Raises LinkError where it cannot be opened or goes away."""
    with await SerialPort.open(path, Line(baud=baud)) as port:
        ready(path)
        await _pump(Receiver(path, profile.datum), port.read, show)


async def poll_server(profile: TrackerProfile, show: Show, ready: Ready, host: str, port: int) -> None:
    """Show the receiver behind a TCP address until cancelled. Raises LinkError, also when it ends the connection."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise LinkError(f"cannot connect to {host}:{port}: {error.strerror or error}") from None

    ready(f"{host}:{port}")

    async def read() -> bytes:
        try:
            chunk = await reader.read(4096)
        except OSError as error:
            raise LinkError(f"{host}:{port} failed: {error.strerror or error}") from None
        if not chunk:
            raise LinkError(f"{host}:{port} has ended the connection")
        return chunk

    try:
        await _pump(Receiver(f"{host}:{port}", profile.datum), read, show)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _pump(receiver: Receiver, read: Callable[[], Any], show: Show) -> None:
    while True:
        try:
            async with asyncio.timeout(SILENT_S):
                chunk = await read()
        except TimeoutError:
            _show_all(receiver.silent(), show)
        else:
            _show_all(receiver.take(chunk), show)


class _Senders(asyncio.DatagramProtocol):
    def __init__(self, datum: str, show: Show) -> None:
        self._datum, self._show = datum, show
        self.receivers: dict[str, Receiver] = {}

    def datagram_received(self, data: bytes, addr: Any) -> None:
        name = f"{addr[0]}:{addr[1]}"
        if name not in self.receivers and len(self.receivers) >= LINKS_MAX:
            del self.receivers[next(iter(self.receivers))]
        receiver = self.receivers.setdefault(name, Receiver(name, self._datum))
        _show_all(receiver.take(data + b"\r\n"), self._show)


async def poll_datagrams(profile: TrackerProfile, show: Show, ready: Ready, address: tuple[str, int]) -> None:
    """Show receivers that send to a UDP port until cancelled. Raises LinkError where it cannot be used."""
    loop = asyncio.get_running_loop()
    try:
        transport, senders = await loop.create_datagram_endpoint(
            lambda: _Senders(profile.datum, show), local_addr=address
        )
    except OSError as error:
        raise _cannot_listen(address, error) from None
    ready(_name(transport.get_extra_info("sockname")))
    try:
        while True:
            await asyncio.sleep(SILENT_S)
            for receiver in senders.receivers.values():
                _show_all(receiver.silent(), show)
    finally:
        transport.close()


def _show_all(sightings: Iterable[Sighting], show: Show) -> None:
    for sighting in sightings:
        show(sighting)
