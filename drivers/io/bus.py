"""Modbus buses as sources: on a serial line, behind a TCP address, or behind a serial server that hands RTU on.

The session (drivers.modbus.driver) decides; here its frames are written and what comes is read. One task commits: the
bus does not wait for the disk, because no device is told that its answer was stored. Where the store has no room, or
more than PENDING_MAX records wait for it, nothing new is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from drivers.io import receiving, surroundings
from drivers.io.receiving import TICK_S, BackOff, count, pause, show
from drivers.io.serial import Line, SerialPort, nearby
from drivers.io.surroundings import Surroundings
from drivers.modbus import decode, drafts
from drivers.modbus.blocks import Decoded, DevicePlan
from drivers.modbus.driver import Session
from drivers.modbus.events import (
    Cancel,
    Close,
    Closed,
    Command,
    Count,
    Done,
    Emit,
    Ended,
    Event,
    Hold,
    Opened,
    Received,
    Send,
    Sent,
    SetState,
    Timer,
    Wish,
)
from drivers.modbus.framing import Framing, Rtu, Tcp, Wire, serial_wire
from firmware_profiles.loader import load_sensor
from gateway.config_sources import ModbusDevice, ModbusSerialConfig, ModbusTcpConfig
from gateway.core import kinds
from gateway.core.errors import LinkError, ProfileError, StoreFull
from gateway.core.ports import Order, Outcome
from gateway.core.record import Draft

PENDING_MAX: Final = 256
"""Records that wait for the store; above it nothing is asked."""
PENDING_HARD_MAX: Final = 2048
"""States and gaps go on while nothing is asked; above this they are counted only."""
BATCH_MAX: Final = 64
READ_MAX_BYTES: Final = 4096
SERIAL_BACK_OFF_S: Final = 10.0
"""Longest: a port that another program gives back tells nobody."""
CONNECT_TIMEOUT_S: Final = 10.0
NETWORK_LATENCY_NS: Final = 200_000_000
"""Serial servers collect bytes before they send them on."""
ORDER_TIMEOUT_S: Final = 30.0
LAST_COMMIT_S: Final = 2.0

ModbusConfig = ModbusSerialConfig | ModbusTcpConfig
Fraction = Callable[[], float]


class Link(Protocol):
    """An open line. Everything that goes wrong is a LinkError."""

    async def read(self) -> bytes: ...
    def take_now(self) -> bytes: ...
    def send_now(self, frame: bytes) -> None: ...


async def run_serial(config: ModbusSerialConfig, around: Surroundings, fraction: Fraction = random.random) -> None:
    """A modbus-serial source until stop. `fraction` gives numbers in [0, 1) for the back-off."""
    bus = Bus(config, around, Rtu(serial_wire(config.baud, config.parity, config.stop_bits)))
    if await bus.has_devices():
        await bus.run(_serial(config, bus, around, BackOff(fraction, SERIAL_BACK_OFF_S)))


async def run_tcp(config: ModbusTcpConfig, around: Surroundings, fraction: Fraction = random.random) -> None:
    """A modbus-tcp source until stop. `fraction` gives numbers in [0, 1) for the back-off."""
    line = serial_wire(config.baud)
    framing = Tcp() if config.framing == "tcp" else Rtu(Wire(line.char_ns, line.gap_ns, NETWORK_LATENCY_NS))
    bus = Bus(config, around, framing)
    if await bus.has_devices():
        await bus.run(_tcp(config, bus, around, BackOff(fraction)))


def plan_of(device: ModbusDevice, profile_dirs: Any) -> DevicePlan:
    """What the configuration and its profile make of a device. Raises ProfileError."""
    loaded = load_sensor(device.profile, profile_dirs)
    sensor = decode.compile(loaded.profile, loaded.ref, device.meters)
    return DevicePlan(
        unit=device.unit,
        device=device.device,
        site=device.site,
        device_class=device.device_class,
        interval_s=device.interval_s,
        weight=device.weight,
        **sensor.asked(),
    )


class Bus:
    """One source. Port `OrderTaker`."""

    def __init__(self, config: ModbusConfig, around: Surroundings, framing: Framing) -> None:
        self._config = config
        self._around = around
        self._unusable: list[tuple[ModbusDevice, ProfileError]] = []
        plans = []
        for device in config.devices:
            try:
                plans.append(plan_of(device, around.profile_dirs))
            except ProfileError as error:
                self._unusable.append((device, error))
        self._plans = plans
        self.session = Session(config.name, plans, framing)
        self._link: Link | None = None
        self._ending: asyncio.Future[str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns: int | None = None
        self._pending: list[Draft] = []
        self._wake = asyncio.Event()
        self._is_held = self._is_full = False
        self._state = SetState("down", "not opened yet")
        self._tickets: dict[int, asyncio.Future[Outcome]] = {}
        self._next_ticket = 0

    async def has_devices(self) -> bool:
        """Whether there is a device with a usable profile; where not, wait for the end, disabled."""
        for device, error in self._unusable:
            plan = DevicePlan(
                device.unit, device.device, (), decode=lambda _: Decoded(()), device_class=device.device_class
            )
            self._keep((drafts.state_draft(self._config.name, plan, "disabled", str(error)),))
        if self._plans:
            return True
        reason = str(self._unusable[0][1]) if self._unusable else "no devices are configured"
        show(self._around, "disabled", reason)
        if self._pending:
            await receiving.commit(self._around, self._pending, lambda _: None)
        while not await surroundings.pause(self._around.stop, TICK_S):
            self._around.tick()
        return False

    async def run(self, serve: Coroutine[None, None, None]) -> None:
        """Until stop or cancellation; the last records are stored on the way out. `serve` opens the line, for ever."""
        around = self._around
        if around.orders is not None:
            around.orders.serve(self._config.name, self)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in (self._commit(), serve)]
                await around.stop.wait()
                for task in tasks:
                    task.cancel()
            await self._end()
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            if around.orders is not None:
                around.orders.serve(self._config.name, None)
            if self._timer is not None:
                self._timer.cancel()

    # ----------------------------------------------------------------------------------------- link

    async def talk(self, link: Link, address: str) -> None:
        """Everything that happens on an open line, until it ends."""
        ending = self._ending = asyncio.get_running_loop().create_future()
        self._link = link
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(link))
            try:
                self.feed(Opened(address))
                reason = await ending
            finally:
                self._link = None
                reader.cancel()
        self.feed(Closed(reason, address))

    async def _read(self, link: Link) -> None:
        try:
            while True:
                chunk = await link.read()
                self.feed(Received(chunk))
                await asyncio.sleep(0)  # a line that floods must not keep the others waiting
        except LinkError as error:
            self._hang_up(str(error))

    def _hang_up(self, reason: str) -> None:
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(reason)

    def _send(self, frame: bytes) -> None:
        """Not where bytes lie unread: they came before the question, and must not be taken for its answer."""
        link = self._link
        if link is None:
            return
        try:
            stale = link.take_now()
            if stale:
                self.feed(Received(stale))
            if self.session.is_sending:
                link.send_now(frame)
                self.feed(Sent())
        except LinkError as error:
            self._hang_up(str(error))

    # --------------------------------------------------------------------------------------- session

    def feed(self, event: Event) -> None:
        """Tell the session, and do what it says. Synchronous: events are handled in the order they came."""
        now = self._around.clock.now()
        for command in self.session.handle(event, now):
            self._obey(command, now.utc_ns)
        self._arm()

    def _obey(self, command: Command, utc_ns: int) -> None:
        match command:
            case Emit(found):
                self._keep(found)
                if any(draft.kind == kinds.READING for draft in found):
                    self._around.status.last_seen_utc_ns = utc_ns
            case Count(counts):
                for name, by in counts.items():
                    count(self._around, name, by)
            case SetState():
                self._state = command
                self._show()
            case Send(frame):
                self._send(frame)
            case Close(reason):
                self._hang_up(reason)
            case Done(ticket, outcome):
                waiting = self._tickets.get(ticket)
                if waiting is not None and not waiting.done():
                    waiting.set_result(outcome)

    def _show(self) -> None:
        if self._is_full:
            return
        state, reason = self._state.state, self._state.reason
        if self._unusable:
            device, error = self._unusable[0]
            reason = f"{reason}; disabled: {device.device}: {error}"
            state = "degraded" if state == "ok" else state
        show(self._around, state, reason)

    def _arm(self) -> None:
        deadline_ns = self.session.deadline_ns()
        if deadline_ns == self._timer_ns and self._timer is not None and deadline_ns is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_ns = None, deadline_ns
        if deadline_ns is not None:
            delay_s = max((deadline_ns - self._around.clock.now().mono_ns) / 1e9, 0)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self._timer = self._timer_ns = None
        self.feed(Timer())

    # ----------------------------------------------------------------------------------------- store

    def _keep(self, found: tuple[Draft, ...]) -> None:
        room = max(PENDING_HARD_MAX - len(self._pending), 0)
        if len(found) > room:
            count(self._around, "records_dropped", len(found) - room)
        self._pending += found[:room]
        self._wake.set()
        self._hold()

    def _hold(self) -> None:
        """Tell the session whether it may ask."""
        is_held = self._is_full or len(self._pending) >= PENDING_MAX
        if is_held != self._is_held:
            self._is_held = is_held
            self.feed(Hold(is_held))

    async def _commit(self) -> None:
        while True:
            self._around.tick()
            if not self._pending:
                self._wake.clear()
                await surroundings.pause(self._wake, TICK_S)
                continue
            batch = self._pending[:BATCH_MAX]
            try:
                await self._around.sink.append(batch)
            except StoreFull as full:
                self._is_full = True
                self._hold()
                show(self._around, "degraded", f"the store is full, nothing is asked: {full}")
                await pause(self._around, receiving.STORE_RETRY_S)
                continue
            del self._pending[: len(batch)]
            if self._is_full:
                self._is_full = False
                self._show()
            self._hold()

    # ---------------------------------------------------------------------------------------- orders

    async def take(self, order: Order, order_seq: int) -> Outcome:
        """See ports.OrderTaker."""
        self._next_ticket += 1
        ticket = self._next_ticket
        waiting = self._tickets[ticket] = asyncio.get_running_loop().create_future()
        try:
            self.feed(Wish(ticket, order.device, order.action, order.parameters))
            async with asyncio.timeout(ORDER_TIMEOUT_S):
                outcome = await waiting
        except TimeoutError:
            outcome = Outcome("timeout", "the bus had no answer in time; it may have been done all the same")
        finally:
            del self._tickets[ticket]
            if not waiting.done() or waiting.cancelled():
                self.feed(Cancel(ticket))
        return Outcome(outcome.state, outcome.detail, outcome.result, order_seq)

    # --------------------------------------------------------------------------------------- the end

    async def _end(self) -> None:
        self.feed(Ended())
        with contextlib.suppress(StoreFull, TimeoutError):
            async with asyncio.timeout(LAST_COMMIT_S):
                while self._pending:
                    batch = self._pending[:BATCH_MAX]
                    await self._around.sink.append(batch)
                    del self._pending[: len(batch)]
        if self._pending:
            count(self._around, "records_lost_at_stop", len(self._pending))


# ---------------------------------------------------------------------------------------------- serial


async def _serial(config: ModbusSerialConfig, bus: Bus, around: Surroundings, back_off: BackOff) -> None:
    line = Line(config.baud, 8, config.parity, 2 if config.stop_bits == 2 else 1)
    while True:
        around.tick()
        with nearby(config.port) as near:
            try:
                port = await SerialPort.open(config.port, line)
            except LinkError as error:
                bus.feed(Closed(str(error), config.port))
                if await near.change(min(back_off.next_s(), SERIAL_BACK_OFF_S)):
                    back_off.reset()
                continue
        with port:
            await bus.talk(port, config.port)
        if bus.session.worked:
            back_off.reset()
        await pause(around, back_off.next_s())


# ------------------------------------------------------------------------------------------------- TCP


class Connection:
    """An open TCP connection. Port `Link`."""

    def __init__(self, address: str, sock: socket.socket) -> None:
        self._address = address
        self._sock = sock

    async def read(self) -> bytes:
        """Some bytes, as soon as there are any."""
        try:
            chunk = await asyncio.get_running_loop().sock_recv(self._sock, READ_MAX_BYTES)
        except OSError as error:
            raise self._failed(error) from error
        if not chunk:
            raise LinkError(f"{self._address} has closed the connection")
        return chunk

    def take_now(self) -> bytes:
        """What has come and was not read."""
        try:
            chunk = self._sock.recv(READ_MAX_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._failed(error) from error
        if not chunk:
            raise LinkError(f"{self._address} has closed the connection")
        return chunk

    def send_now(self, frame: bytes) -> None:
        """All of it, into the socket's buffer."""
        try:
            sent = self._sock.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._failed(error) from error
        if sent < len(frame):
            raise LinkError(f"{self._address} takes no more bytes")

    def _failed(self, error: OSError) -> LinkError:
        return LinkError(f"the connection to {self._address} has failed: {error.strerror or error}")


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    """Connect. Raises LinkError."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            family, kind, protocol, _, name = found[0]
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            await loop.sock_connect(sock, name)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except (OSError, ValueError, OverflowError) as error:  # a time-out is an OSError, with nothing to say
        if sock is not None:
            sock.close()
        reason = getattr(error, "strerror", None) or str(error) or f"no answer for {CONNECT_TIMEOUT_S:g} s"
        raise LinkError(f"{address}: {reason}; check address and network") from error
    except asyncio.CancelledError:
        if sock is not None:
            sock.close()
        raise
    with sock:
        yield Connection(address, sock)


async def _tcp(config: ModbusTcpConfig, bus: Bus, around: Surroundings, back_off: BackOff) -> None:
    while True:
        around.tick()
        try:
            async with connected(config.address) as link:
                await bus.talk(link, config.address)
                if bus.session.worked:
                    back_off.reset()
        except LinkError as error:
            bus.feed(Closed(str(error), config.address))
        await pause(around, back_off.next_s())
